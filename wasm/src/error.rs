//! Errors as JavaScript has them: a code that stays, a message, the LSN and the place they are about.

use duralog::{
    Error, Lsn, Object,
    core::{DeviceError as _, ErrorKind},
};

use crate::{host::Host, medium::MediumError};

/// Tells the host that a request failed.
pub(crate) fn tell(host: &Host, ticket: u32, error: &Error) {
    let lsn = error.lsn().map_or(0, Lsn::value);
    let place = error.place().map(|(object, offset)| place(object, offset)).unwrap_or_default();
    host.failed(ticket, code(error), &error.to_string(), lsn, &place);
}

/// Where something is: the object's name and the offset in it.
pub(crate) fn place(object: Object, offset: u64) -> String {
    format!("{object}:{offset}")
}

/// The stable word for it. What the medium did has a word of its own where the caller can do something about it.
fn code(error: &Error) -> &'static str {
    let cause = match error {
        Error::Poisoned { cause } => cause,
        error => error,
    };
    let failure = match cause {
        Error::Device { source, .. } | Error::Open(source) | Error::NoSpace(source) => {
            source.as_error().downcast_ref::<MediumError>()
        }
        _ => None,
    };
    match (failure.map(|failure| failure.kind()), error) {
        (Some(ErrorKind::NoSpace), Error::NoSpace(_) | Error::Open(_) | Error::Device { .. }) => "quota",
        (Some(ErrorKind::Fenced), _) => "fenced",
        (Some(ErrorKind::Gone), _) => "gone",
        _ => error.kind(),
    }
}
