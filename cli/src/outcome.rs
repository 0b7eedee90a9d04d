//! What a command comes to, and how that is told: as text or as one JSON object.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde_json::{Map, Value};

use crate::exit::{Failure, Status, tell};

/// The fields of a JSON object, in their order.
pub(crate) type Object = Map<String, Value>;

/// What a command comes to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What is known, for `--json`; the field `error` is added.
    pub(crate) object: Object,
    /// The same for people; `None` where the command wrote its data itself.
    pub(crate) text: Option<String>,
    /// What went wrong.
    pub(crate) failure: Option<Failure>,
    /// Nothing can be told on standard output any more.
    pub(crate) mute: bool,
}

impl Outcome {
    /// Tells the outcome of a command, `json` being asked for or not, and gives the exit status.
    ///
    /// Where the command wrote its data itself (`streams`), a JSON object follows only if something went wrong.
    pub(crate) fn end(mut self, json: bool, streams: bool) -> ExitCode {
        if streams && self.failure.as_ref().is_some_and(Failure::is_closed_output) {
            return Status::Fine.into();
        }
        let text = match (&self.failure, json) {
            (None, true) if streams => None,
            (failure, true) => {
                self.object.insert("error".to_owned(), failure.as_ref().map_or(Value::Null, Failure::json));
                Some(format!("{}\n", Value::Object(self.object)))
            }
            (_, false) => self.text,
        };
        let printed = text.filter(|_| !self.mute).map_or(Ok(()), |text| print(&text));
        if let Some(failure) = &self.failure {
            tell(format_args!("duralog: {failure}"));
            return failure.status().into();
        }
        match printed.map_err(Failure::Output) {
            Err(failure) if !failure.is_closed_output() => {
                tell(format_args!("duralog: {failure}"));
                failure.status().into()
            }
            _ => Status::Fine.into(),
        }
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The fields of a value that was written as an object.
pub(crate) fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        other => Object::from_iter([("value".to_owned(), other)]),
    }
}

/// A number of things, in words.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A number of bytes, as people read it.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = None;
    // In tenths: whole numbers round as they should.
    let mut tenths = u128::from(bytes) * 10;
    for name in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = Some(name);
    }
    match unit {
        None => format!("{bytes} B"),
        Some(unit) => format!("{}.{} {unit}", tenths / 10, tenths % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_in_the_unit_that_fits() {
        let told = [0, 1023, 1024, 1536, 64 << 20, (1 << 40) - 1, u64::MAX].map(bytes);
        assert_eq!(told[..4], ["0 B", "1023 B", "1.0 KiB", "1.5 KiB"]);
        assert_eq!(told[4..], ["64.0 MiB", "1023.9 GiB", "16777215.9 TiB"]);
    }
}
