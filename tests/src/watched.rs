//! A device whose every call is seen.

use std::{fmt, sync::Arc};

use duralog::{
    Geometry, Object, SharedDevice,
    core::{Device, Room},
};

/// A call of a device that was made, whatever came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The method of `Device`.
    pub name: &'static str,
    /// The object that it was about, where it is about one.
    pub object: Option<Object>,
    /// Where in it.
    pub at: u64,
    /// The bytes that were asked for.
    pub len: usize,
    /// The bytes that a read gave.
    pub read: usize,
}

type See = Arc<dyn Fn(Call) + Send + Sync>;

/// A device that tells of every call, after it was made. Its readers do too.
#[derive(Clone)]
pub struct Watched<D> {
    device: D,
    see: See,
}

impl<D> Watched<D> {
    /// Watches a device.
    pub fn new(device: D, see: impl Fn(Call) + Send + Sync + 'static) -> Self {
        Self { device, see: Arc::new(see) }
    }

    fn seen(&self, name: &'static str, object: Option<Object>, at: u64, len: usize, read: usize) {
        (self.see)(Call { name, object, at, len, read });
    }
}

impl<D: fmt::Debug> fmt::Debug for Watched<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.device.fmt(f)
    }
}

impl<D: Device> Device for Watched<D> {
    type Error = D::Error;

    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }

    fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, D::Error> {
        let next = self.device.next(after);
        self.seen("next", after, 0, 0, 0);
        next
    }

    fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, D::Error> {
        let prev = self.device.prev(before);
        self.seen("prev", before, 0, 0, 0);
        prev
    }

    fn create(&mut self, object: Object, size: u64) -> Result<Room, D::Error> {
        let created = self.device.create(object, size);
        self.seen("create", Some(object), 0, 0, 0);
        created
    }

    fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, D::Error> {
        let read = self.device.read(object, at, buf);
        self.seen("read", Some(object), at, buf.len(), *read.as_ref().unwrap_or(&0));
        read
    }

    fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), D::Error> {
        let written = self.device.write(object, at, bytes);
        self.seen("write", Some(object), at, bytes.len(), 0);
        written
    }

    fn trim(&mut self, object: Object, at: u64) -> Result<(), D::Error> {
        let trimmed = self.device.trim(object, at);
        self.seen("trim", Some(object), at, 0, 0);
        trimmed
    }

    fn remove(&mut self, object: Object) -> Result<(), D::Error> {
        let removed = self.device.remove(object);
        self.seen("remove", Some(object), 0, 0, 0);
        removed
    }

    fn sync(&mut self) -> Result<(), D::Error> {
        let synced = self.device.sync();
        self.seen("sync", None, 0, 0, 0);
        synced
    }
}

impl<D: SharedDevice> SharedDevice for Watched<D> {
    fn reader(&self) -> Result<Self, D::Error> {
        Ok(Self { device: self.device.reader()?, see: Arc::clone(&self.see) })
    }

    fn len(&mut self, object: Object) -> Result<u64, D::Error> {
        self.device.len(object)
    }

    fn opened(error: D::Error) -> duralog::Error {
        D::opened(error)
    }
}
