//! A state that remembers in which order numbered changes were applied: what the suites about real processes keep.

use core::{fmt, str::FromStr};

use duralog::{Lsn, Operation, Snapshot, StateMachine};

/// The payload of one entry of a change, of `len` bytes at least.
#[must_use]
pub fn change(number: u64, entry: u64, len: usize) -> Vec<u8> {
    let mut bytes = format!("{number}.{entry} ").into_bytes();
    let fill = number.wrapping_mul(31).wrapping_add(entry).to_le_bytes()[0];
    bytes.resize(bytes.len().max(len), fill);
    bytes
}

/// Which entry of which change that is, if every byte of it is as [`change`] made it.
#[must_use]
pub fn changed(payload: &[u8]) -> Option<(u64, u64)> {
    let end = payload.iter().position(|byte| *byte == b' ')?;
    let (number, entry) = str::from_utf8(&payload[..end]).ok()?.split_once('.')?;
    let (number, entry) = (number.parse().ok()?, entry.parse().ok()?);
    (change(number, entry, payload.len()) == payload).then_some((number, entry))
}

/// The entries of changes, in the order in which they were applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    entries: Vec<(u64, u64)>,
    /// Payloads that are no entry of a change.
    strange: usize,
}

impl Applied {
    /// The entries: the number of the change, and which of its entries it is.
    ///
    /// # Panics
    /// If something was applied that is no entry of a change.
    #[must_use]
    pub fn entries(&self) -> &[(u64, u64)] {
        assert_eq!(self.strange, 0, "payloads that nobody appended");
        &self.entries
    }

    /// Applies a change.
    pub fn push(&mut self, number: u64, entries: u64) {
        self.entries.extend((0..entries).map(|entry| (number, entry)));
    }

    /// Takes the last entry back.
    pub fn pop(&mut self) {
        self.entries.pop();
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (number, entry)) in self.entries.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{number}.{entry}")?;
        }
        Ok(())
    }
}

/// Not what [`Applied`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotApplied;

impl fmt::Display for NotApplied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no list of changes")
    }
}

impl core::error::Error for NotApplied {}

impl FromStr for Applied {
    type Err = NotApplied;

    fn from_str(text: &str) -> Result<Self, NotApplied> {
        let entry = |text: &str| {
            let (number, entry) = text.split_once('.')?;
            Some((number.parse().ok()?, entry.parse().ok()?))
        };
        let entries = text.split(',').filter(|text| !text.is_empty()).map(entry).collect::<Option<_>>();
        Ok(Self { entries: entries.ok_or(NotApplied)?, strange: 0 })
    }
}

impl StateMachine for Applied {
    type Error = NotApplied;

    fn apply(&mut self, _: Lsn, operation: &Operation) {
        if let Operation::Opaque { bytes } = operation {
            match changed(bytes) {
                Some(entry) => self.entries.push(entry),
                None => self.strange += 1,
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { bytes: self.to_string().into_bytes(), ..Snapshot::default() }
    }

    fn load(&mut self, snapshot: &Snapshot) -> Result<(), NotApplied> {
        *self = str::from_utf8(&snapshot.bytes).map_err(|_| NotApplied)?.parse()?;
        Ok(())
    }
}
