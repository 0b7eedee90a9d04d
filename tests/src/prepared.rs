//! Files whose segments are made ahead by whoever uses them: what a thread does otherwise, in the same places in every run.

use duralog::{
    FileDevice, Files, Geometry, Object, SharedDevice,
    core::{Device, Room},
    file::FileError,
};

/// Who makes segments ahead, and how far after each call that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// One piece: a segment may be asked for when the next one is half made.
    Piece,
    /// All that is wanted by then.
    All,
    /// A thread beside the log, as in any program.
    Beside,
}

/// A file device that prepares segments in the thread that uses it, or has one for that.
#[derive(Debug)]
pub struct Prepared<F: Files> {
    device: FileDevice<F>,
    pace: Pace,
}

impl<F: Files> Prepared<F> {
    /// Prepares segments for a device.
    #[must_use]
    pub fn new(device: FileDevice<F>, pace: Pace) -> Self {
        Self { device, pace }
    }

    fn prepare<T>(&self, done: Result<T, FileError>) -> Result<T, FileError> {
        match self.pace {
            Pace::Piece => drop(self.device.prepare()),
            Pace::All => while self.device.prepare() {},
            Pace::Beside => {}
        }
        done
    }
}

impl<F: Files> Device for Prepared<F> {
    type Error = FileError;

    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }

    fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, FileError> {
        self.device.next(after)
    }

    fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, FileError> {
        self.device.prev(before)
    }

    fn create(&mut self, object: Object, size: u64) -> Result<Room, FileError> {
        let created = self.device.create(object, size);
        self.prepare(created)
    }

    fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, FileError> {
        self.device.read(object, at, buf)
    }

    fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), FileError> {
        let written = self.device.write(object, at, bytes);
        self.prepare(written)
    }

    fn trim(&mut self, object: Object, at: u64) -> Result<(), FileError> {
        let trimmed = self.device.trim(object, at);
        self.prepare(trimmed)
    }

    fn remove(&mut self, object: Object) -> Result<(), FileError> {
        let removed = self.device.remove(object);
        self.prepare(removed)
    }

    fn sync(&mut self) -> Result<(), FileError> {
        let synced = self.device.sync();
        self.prepare(synced)
    }
}

impl<F: Files> SharedDevice for Prepared<F>
where
    FileDevice<F>: SharedDevice<Error = FileError>,
{
    fn reader(&self) -> Result<Self, FileError> {
        Ok(Self::new(SharedDevice::reader(&self.device)?, self.pace))
    }

    fn len(&mut self, object: Object) -> Result<u64, FileError> {
        SharedDevice::len(&mut self.device, object)
    }

    fn begin_sync(&mut self, object: Object) -> bool {
        SharedDevice::begin_sync(&mut self.device, object)
    }

    fn poll_sync(&mut self) -> Option<Result<(), FileError>> {
        SharedDevice::poll_sync(&mut self.device)
    }

    fn finish_sync(&mut self) -> Option<Result<(), FileError>> {
        SharedDevice::finish_sync(&mut self.device)
    }

    fn beside(&self) -> Vec<Box<dyn FnMut() -> bool + Send>> {
        if self.pace == Pace::Beside { self.device.beside() } else { Vec::new() }
    }

    fn opened(error: FileError) -> duralog::Error {
        FileDevice::<F>::opened(error)
    }
}
