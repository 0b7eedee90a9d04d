//! What a faulty device answers when it does not do what it was asked.

use core::{error, fmt};

use duralog_core::{DeviceError, ErrorKind, Object};

/// What goes wrong on a [`Medium`](super::Medium).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultyError {
    /// The power is off, or was: the handle is of an earlier life.
    Gone,
    /// The call was planned to fail.
    Failed {
        /// Its number.
        call: u64,
    },
    /// The bytes cannot be read.
    Unreadable {
        /// Of which object.
        object: Object,
        /// Where the read began.
        at: u64,
    },
    /// There is no room.
    NoSpace,
    /// The object is there already.
    Exists {
        /// Which one.
        object: Object,
    },
    /// There is no such object.
    Missing {
        /// Which one.
        object: Object,
    },
    /// The handle is for reading.
    ReadOnly,
    /// Another handle writes.
    Locked,
}

impl fmt::Display for FaultyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the power went: take a new handle"),
            Self::Failed { call } => write!(f, "call {call} failed as planned"),
            Self::Unreadable { object, at } => write!(f, "{object} cannot be read at {at}"),
            Self::NoSpace => f.write_str("no room is left"),
            Self::Exists { object } => write!(f, "{object} is there already, made by another writer"),
            Self::Missing { object } => write!(f, "there is no {object}"),
            Self::ReadOnly => f.write_str("the handle is for reading"),
            Self::Locked => f.write_str("the medium has a writer already"),
        }
    }
}

impl error::Error for FaultyError {}

impl DeviceError for FaultyError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Gone | Self::Missing { .. } => ErrorKind::Gone,
            Self::Failed { .. } | Self::Unreadable { .. } => ErrorKind::Other,
            Self::NoSpace => ErrorKind::NoSpace,
            Self::Exists { .. } | Self::Locked => ErrorKind::Fenced,
            Self::ReadOnly => ErrorKind::ReadOnly,
        }
    }
}

/// One word for the trace.
pub(super) const fn outcome<T>(result: &Result<T, FaultyError>) -> &'static str {
    match result {
        Ok(_) => "",
        Err(FaultyError::Gone) => "power off",
        Err(FaultyError::Failed { .. }) => "failed",
        Err(FaultyError::Unreadable { .. }) => "unreadable",
        Err(FaultyError::NoSpace) => "no space",
        Err(FaultyError::Exists { .. }) => "exists",
        Err(FaultyError::Missing { .. }) => "missing",
        Err(FaultyError::ReadOnly) => "read-only",
        Err(FaultyError::Locked) => "locked",
    }
}
