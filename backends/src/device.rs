//! What the handles of this crate ask of a device besides what the core does.

use std::{error, fmt, sync::Arc};

use duralog_core::{Action, Device, DeviceError, Error as DriveError, ErrorKind, Object};

use crate::{
    error::Error,
    file::{FileDevice, FileError},
    fs::Files,
    memory::{MemoryDevice, MemoryError},
};

/// A device that a handle can use from several threads: with a second handle for those who only read.
pub trait SharedDevice: Device<Error: error::Error + Send + Sync + 'static> + Send + Sized + 'static {
    /// A second handle on the same medium, which only reads and disturbs no writer.
    ///
    /// # Errors
    /// The medium cannot be opened again.
    fn reader(&self) -> Result<Self, Self::Error>;

    /// Bytes that the object takes on the medium.
    ///
    /// # Errors
    /// The medium cannot tell.
    fn len(&mut self, object: Object) -> Result<u64, Self::Error>;

    /// Begins to make durable what was written to `object` so far, beside what is written next. Tells whether it did: a medium
    /// that cannot do both at once, or is still about the last, does not.
    fn begin_sync(&mut self, object: Object) -> bool {
        let _ = object;
        false
    }

    /// How the sync went that was begun, told once when it is over; `None` before that, and where none was begun. A later
    /// [`sync`](Device::sync) that succeeds ends it as well.
    fn poll_sync(&mut self) -> Option<Result<(), Self::Error>> {
        None
    }

    /// Waits until the sync that was begun is over, and tells as [`poll_sync`](Self::poll_sync) does how it went.
    fn finish_sync(&mut self) -> Option<Result<(), Self::Error>> {
        None
    }

    /// What waits, without the device, until as good as all that was written is on the medium, and what was removed has given
    /// back its room. Who writes much that nobody waits for, or removes it, calls it now and then, so that others do not have
    /// to wait for all of that.
    fn catches_up(&self) -> Option<Box<dyn Fn() + Send>> {
        None
    }

    /// What the device wants done beside the log's own work, if there is anything: for each a thread calls it again and
    /// again, each time for one small piece that it waits for, until it returns `false`, which it does once the device was
    /// dropped.
    fn beside(&self) -> Vec<Box<dyn FnMut() -> bool + Send>> {
        Vec::new()
    }

    /// What an error of opening says in the terms of a log, where it says more than that the device failed.
    fn opened(error: Self::Error) -> Error {
        Error::Open(DeviceFailure::new(error))
    }
}

/// A device's error, shared by everyone it concerns.
#[derive(Clone)]
pub struct DeviceFailure(Arc<dyn error::Error + Send + Sync>);

impl DeviceFailure {
    pub(crate) fn new(error: impl error::Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }

    /// The error.
    #[must_use]
    pub fn as_error(&self) -> &(dyn error::Error + 'static) {
        &*self.0
    }
}

impl fmt::Debug for DeviceFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for DeviceFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl<E: DeviceError + error::Error + Send + Sync + 'static> From<DriveError<E>> for Error {
    fn from(error: DriveError<E>) -> Self {
        match error {
            DriveError::Fault(fault) => fault.into(),
            DriveError::Device { action, error, .. }
                if error.kind() == ErrorKind::NoSpace && action != Action::Remove =>
            {
                Self::NoSpace(DeviceFailure::new(error))
            }
            DriveError::Device { action, object, error } => {
                Self::Device { action, object, source: DeviceFailure::new(error) }
            }
        }
    }
}

impl<F: Files<File: Send + Sync + 'static> + Send + 'static> SharedDevice for FileDevice<F> {
    fn reader(&self) -> Result<Self, FileError> {
        Self::reader(self)
    }

    fn len(&mut self, object: Object) -> Result<u64, FileError> {
        Self::len(self, object)
    }

    fn begin_sync(&mut self, object: Object) -> bool {
        Self::begin_sync(self, object)
    }

    fn poll_sync(&mut self) -> Option<Result<(), FileError>> {
        Self::poll_sync(self)
    }

    fn finish_sync(&mut self) -> Option<Result<(), FileError>> {
        Self::finish_sync(self)
    }

    fn catches_up(&self) -> Option<Box<dyn Fn() + Send>> {
        let ahead = self.ahead()?;
        Some(Box::new(move || ahead.catch_up()))
    }

    fn beside(&self) -> Vec<Box<dyn FnMut() -> bool + Send>> {
        let mut work: Vec<Box<dyn FnMut() -> bool + Send>> = Vec::new();
        if let Some(mut preparer) = self.preparer() {
            work.push(Box::new(move || preparer.step()));
        }
        if let Some(ahead) = self.ahead() {
            work.push(Box::new(move || ahead.step()));
        }
        work
    }

    fn opened(error: FileError) -> Error {
        match error {
            FileError::Locked { path, owner } => Error::Locked { path, owner },
            FileError::NotALog { path } => Error::NotALog { path },
            FileError::NotFound { path } => Error::NotFound { path },
            error if error.kind() == ErrorKind::NoSpace => Error::NoSpace(DeviceFailure::new(error)),
            error => Error::Open(DeviceFailure::new(error)),
        }
    }
}

impl SharedDevice for MemoryDevice {
    fn reader(&self) -> Result<Self, MemoryError> {
        Ok(Self::reader(self))
    }

    fn len(&mut self, object: Object) -> Result<u64, MemoryError> {
        self.object(object).map(|bytes| bytes.len() as u64).ok_or(MemoryError::Missing { object })
    }
}

#[cfg(feature = "faulty")]
impl SharedDevice for crate::faulty::FaultyDevice {
    fn reader(&self) -> Result<Self, Self::Error> {
        Ok(Self::reader(self))
    }

    fn begin_sync(&mut self, object: Object) -> bool {
        Self::begin_sync(self, object)
    }

    fn poll_sync(&mut self) -> Option<Result<(), Self::Error>> {
        Self::poll_sync(self)
    }

    fn finish_sync(&mut self) -> Option<Result<(), Self::Error>> {
        Self::finish_sync(self)
    }

    fn len(&mut self, object: Object) -> Result<u64, Self::Error> {
        Self::len(self, object)
    }
}
