//! A log in memory: for tests, and for what need not outlive its process.

use core::{error, fmt, ops::Bound};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use duralog_core::{Device, DeviceError, ErrorKind, Geometry, Object, Room};

/// The bytes of an object, as far as they were written; the rest of its room is blank and takes no memory.
///
/// Copies share their bytes until one of them is written to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    room: u64,
    bytes: Arc<Vec<u8>>,
}

impl Image {
    /// What a new object looks like: only a segment has room before it is written to.
    pub(crate) fn new(object: Object, size: u64) -> Self {
        let room = if matches!(object, Object::Segment(_)) { size } else { 0 };
        Self { room, ..Self::default() }
    }

    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { room: bytes.len() as u64, bytes: Arc::new(bytes) }
    }

    /// How many bytes can be read from the beginning.
    pub(crate) const fn room(&self) -> u64 {
        self.room
    }

    pub(crate) fn read(&self, at: u64, buf: &mut [u8], blank: u8) -> usize {
        let left = usize::try_from(self.room.saturating_sub(at)).unwrap_or(usize::MAX).min(buf.len());
        let buf = &mut buf[..left];
        let written = usize::try_from(at).ok().and_then(|at| self.bytes.get(at..)).unwrap_or_default();
        let (from, rest) = buf.split_at_mut(written.len().min(left));
        from.copy_from_slice(&written[..from.len()]);
        rest.fill(blank);
        left
    }

    /// Writes, and grows if need be.
    ///
    /// # Panics
    /// If the offset is beyond what memory can have.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8], blank: u8) {
        let at = usize::try_from(at).expect("an offset fits into memory");
        let end = at + bytes.len();
        let own = Arc::make_mut(&mut self.bytes);
        if own.len() < end {
            own.resize(end, blank);
        }
        own[at..end].copy_from_slice(bytes);
        self.room = self.room.max(end as u64);
    }

    /// Writes what fits into the room.
    #[cfg(feature = "faulty")]
    pub(crate) fn patch(&mut self, at: u64, bytes: &[u8], blank: u8) {
        let left = usize::try_from(self.room.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes.len());
        if left > 0 {
            self.write(at, &bytes[..left], blank);
        }
    }

    /// How many bytes from the beginning were written to.
    #[cfg(feature = "faulty")]
    pub(crate) fn written(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The same bytes in a room of another size.
    #[cfg(feature = "faulty")]
    pub(crate) fn sized(mut self, room: u64) -> Self {
        self.trim(room);
        Self { room, ..self }
    }

    pub(crate) fn trim(&mut self, at: u64) {
        if at < self.room {
            self.room = at;
            let written = usize::try_from(at).unwrap_or(usize::MAX);
            if written < self.bytes.len() {
                Arc::make_mut(&mut self.bytes).truncate(written);
            }
        }
    }

    /// All that can be read.
    pub(crate) fn to_bytes(&self, blank: u8) -> Vec<u8> {
        let mut bytes = Vec::clone(&self.bytes);
        bytes.resize(usize::try_from(self.room).unwrap_or(usize::MAX), blank);
        bytes
    }
}

/// What goes wrong in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemoryError {
    /// Another handle writes.
    Locked,
    /// The handle is for reading.
    ReadOnly,
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
    /// The limit does not allow it.
    NoSpace {
        /// How many bytes were asked for.
        needed: u64,
        /// How many there are.
        free: u64,
    },
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => f.write_str("the memory has a writer already: drop it, or read"),
            Self::ReadOnly => f.write_str("the handle is for reading: take a writer"),
            Self::Exists { object } => write!(f, "{object} is there already, made by another writer"),
            Self::Missing { object } => write!(f, "there is no {object}"),
            Self::NoSpace { needed, free } => {
                write!(f, "{needed} bytes do not fit, {free} are free: truncate the log, or raise the limit")
            }
        }
    }
}

impl error::Error for MemoryError {}

impl DeviceError for MemoryError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Locked | Self::Exists { .. } => ErrorKind::Fenced,
            Self::ReadOnly => ErrorKind::ReadOnly,
            Self::Missing { .. } => ErrorKind::Gone,
            Self::NoSpace { .. } => ErrorKind::NoSpace,
        }
    }
}

#[derive(Debug)]
struct Shared {
    geometry: Geometry,
    limit: Option<u64>,
    objects: BTreeMap<Object, Image>,
    has_writer: bool,
}

impl Shared {
    fn image(&mut self, object: Object) -> Result<&mut Image, MemoryError> {
        self.objects.get_mut(&object).ok_or(MemoryError::Missing { object })
    }

    /// Whether `needed` more bytes fit, once `freed` are given back.
    fn fits(&self, needed: u64, freed: u64) -> Result<(), MemoryError> {
        let used = self.objects.values().map(Image::room).sum::<u64>() - freed;
        let free = self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(used));
        if needed <= free { Ok(()) } else { Err(MemoryError::NoSpace { needed, free }) }
    }
}

/// A handle on a log in memory: one of them writes, any number read.
///
/// Nothing of it is ever on stable storage: [`sync`](Device::sync) does nothing and succeeds. The bytes live as long as
/// any handle does.
#[derive(Debug)]
pub struct MemoryDevice {
    shared: Arc<Mutex<Shared>>,
    writes: bool,
}

impl Default for MemoryDevice {
    /// Segments of 1 MiB, writes at any byte.
    fn default() -> Self {
        Self::new(Geometry {
            segment_size: 1 << 20,
            granule: 1,
            copy_offset: 128,
            blank: 0,
            settled: false,
            slots: None,
        })
    }
}

impl MemoryDevice {
    /// Empty memory of this geometry, and the handle that writes to it.
    #[must_use]
    pub fn new(geometry: Geometry) -> Self {
        let shared = Shared { geometry, limit: None, objects: BTreeMap::new(), has_writer: true };
        Self { shared: Arc::new(Mutex::new(shared)), writes: true }
    }

    /// The same memory with room for no more than `bytes`, the room of whole segments counted.
    #[must_use]
    pub fn with_capacity_limit(self, bytes: u64) -> Self {
        self.shared().limit = Some(bytes);
        self
    }

    /// A handle for reading.
    #[must_use]
    pub fn reader(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), writes: false }
    }

    /// A handle for writing, once the one before it was dropped.
    ///
    /// # Errors
    /// [`MemoryError::Locked`]: there is one.
    pub fn writer(&self) -> Result<Self, MemoryError> {
        let mut shared = self.shared();
        if shared.has_writer {
            return Err(MemoryError::Locked);
        }
        shared.has_writer = true;
        Ok(Self { shared: Arc::clone(&self.shared), writes: true })
    }

    /// The objects that are there, in order.
    #[must_use]
    pub fn names(&self) -> Vec<Object> {
        self.shared().objects.keys().copied().collect()
    }

    /// A copy of an object's bytes, blank room included.
    #[must_use]
    pub fn object(&self, object: Object) -> Option<Vec<u8>> {
        let shared = self.shared();
        shared.objects.get(&object).map(|image| image.to_bytes(shared.geometry.blank))
    }

    /// Puts an object there, in place of what it was: a copy of one from another device. Asks for no limit or lock.
    pub fn put(&self, object: Object, bytes: Vec<u8>) {
        self.shared().objects.insert(object, Image::from_bytes(bytes));
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn for_writing(&self) -> Result<MutexGuard<'_, Shared>, MemoryError> {
        if self.writes { Ok(self.shared()) } else { Err(MemoryError::ReadOnly) }
    }
}

impl Drop for MemoryDevice {
    fn drop(&mut self) {
        if self.writes {
            self.shared().has_writer = false;
        }
    }
}

impl Device for MemoryDevice {
    type Error = MemoryError;

    fn geometry(&self) -> Geometry {
        self.shared().geometry
    }

    fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, MemoryError> {
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(self.shared().objects.range((behind, Bound::Unbounded)).next().map(|(object, _)| *object))
    }

    fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, MemoryError> {
        let ahead = before.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(self.shared().objects.range((Bound::Unbounded, ahead)).next_back().map(|(object, _)| *object))
    }

    fn create(&mut self, object: Object, size: u64) -> Result<Room, MemoryError> {
        let mut shared = self.for_writing()?;
        let replaced = shared.objects.get(&object).map(Image::room);
        if replaced.is_some() && object != Object::Meta {
            return Err(MemoryError::Exists { object });
        }
        shared.fits(size, replaced.unwrap_or(0))?;
        let slots = shared.geometry.slots.map_or(usize::MAX, |slots| slots as usize);
        if replaced.is_none() && shared.objects.len() >= slots {
            return Err(MemoryError::NoSpace { needed: size, free: 0 });
        }
        shared.objects.insert(object, Image::new(object, size));
        Ok(Room::Blank)
    }

    fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, MemoryError> {
        let mut shared = self.shared();
        let blank = shared.geometry.blank;
        Ok(shared.image(object)?.read(at, buf, blank))
    }

    fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let mut shared = self.for_writing()?;
        let (blank, end) = (shared.geometry.blank, at + bytes.len() as u64);
        let room = shared.image(object)?.room();
        shared.fits(end.saturating_sub(room), 0)?;
        shared.image(object)?.write(at, bytes, blank);
        Ok(())
    }

    fn trim(&mut self, object: Object, at: u64) -> Result<(), MemoryError> {
        self.for_writing()?.image(object)?.trim(at);
        Ok(())
    }

    fn remove(&mut self, object: Object) -> Result<(), MemoryError> {
        self.for_writing()?.objects.remove(&object);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), MemoryError> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use duralog_core::{CheckpointId, SegmentId};

    use super::*;

    const SEGMENT: Object = Object::Segment(SegmentId::new(1));

    /// What any device does while nothing goes wrong. It is empty, has granules of 1 byte and segments of 4096 at least.
    pub(crate) fn keeps_its_promises<D: Device>(device: &mut D, reader: &mut D) {
        let later = Object::Segment(SegmentId::new(2));
        let checkpoint = Object::Checkpoint(CheckpointId::new(1));
        let blank = device.geometry().blank;
        assert_eq!(device.geometry(), reader.geometry());
        assert_eq!(device.next(None).unwrap(), None);
        for object in [Object::Meta, checkpoint, later, SEGMENT] {
            assert_eq!(device.create(object, 4096).unwrap(), Room::Blank);
        }
        let refused = [SEGMENT, checkpoint].map(|object| device.create(object, 1).unwrap_err().kind());
        assert_eq!(refused, [ErrorKind::Fenced; 2]);
        for device in [&mut *device, reader] {
            let (mut forth, mut back) = (vec![], vec![]);
            while let Some(object) = device.next(forth.last().copied()).unwrap() {
                forth.push(object);
            }
            while let Some(object) = device.prev(back.last().copied()).unwrap() {
                back.push(object);
            }
            assert_eq!(forth, [SEGMENT, later, checkpoint, Object::Meta]);
            assert!(back.iter().eq(forth.iter().rev()));
        }

        device.write(SEGMENT, 10, b"frames").unwrap();
        device.sync().unwrap();
        assert_eq!(bytes(reader, SEGMENT, 4096)[8..18], [&[blank; 2], &b"frames"[..], &[blank; 2]].concat());
        assert_eq!(bytes(reader, SEGMENT, 5000).len(), 4096);
        device.trim(SEGMENT, 12).unwrap();
        device.trim(SEGMENT, 4000).unwrap();
        assert_eq!(bytes(device, SEGMENT, 4096)[8..], [blank, blank, b'f', b'r']);
        device.write(Object::Meta, 0, b"a long one").unwrap();
        device.create(Object::Meta, 0).unwrap();
        device.write(Object::Meta, 0, b"short").unwrap();
        assert_eq!(bytes(device, Object::Meta, 100), b"short");

        device.remove(SEGMENT).unwrap();
        device.remove(SEGMENT).unwrap();
        device.sync().unwrap();
        assert_eq!(device.next(None).unwrap(), Some(later));
        assert_eq!(device.read(SEGMENT, 0, &mut [0]).unwrap_err().kind(), ErrorKind::Gone);
        assert_eq!(device.write(SEGMENT, 0, &[0]).unwrap_err().kind(), ErrorKind::Gone);
        assert_eq!(reader.write(later, 0, &[0]).unwrap_err().kind(), ErrorKind::ReadOnly);
    }

    fn bytes<D: Device>(device: &mut D, object: Object, most: usize) -> Vec<u8> {
        let mut bytes = vec![0xAA; most];
        let mut have = 0;
        while have < most {
            match device.read(object, have as u64, &mut bytes[have..]).unwrap() {
                0 => break,
                more => have += more,
            }
        }
        bytes.truncate(have);
        bytes
    }

    #[test]
    fn it_keeps_the_promises_of_a_device() {
        let mut device = MemoryDevice::default();
        let mut reader = device.reader();
        keeps_its_promises(&mut device, &mut reader);
        let geometry = Geometry { blank: 0xFF, ..device.geometry() };
        let mut device = MemoryDevice::new(geometry);
        let mut reader = device.reader();
        keeps_its_promises(&mut device, &mut reader);
    }

    #[test]
    fn a_second_writer_waits_for_the_first_to_go() {
        let device = MemoryDevice::default();
        let reader = device.reader();
        assert_eq!(reader.writer().unwrap_err(), MemoryError::Locked);
        drop(device);
        let device = reader.writer().unwrap();
        drop(reader.reader());
        assert_eq!(device.writer().unwrap_err().kind(), ErrorKind::Fenced);
    }

    #[test]
    fn blank_room_takes_no_memory_but_counts_against_the_limit() {
        let mut device = MemoryDevice::default().with_capacity_limit(3 << 40);
        device.create(SEGMENT, 2 << 40).unwrap();
        let more = Object::Segment(SegmentId::new(2));
        let refused = device.create(more, 2 << 40).unwrap_err();
        assert_eq!(refused, MemoryError::NoSpace { needed: 2 << 40, free: 1 << 40 });
        assert_eq!(device.names(), [SEGMENT]);
        device.trim(SEGMENT, 1 << 40).unwrap();
        device.create(more, 2 << 40).unwrap();
        device.create(Object::Meta, 0).unwrap();
        assert_eq!(device.write(Object::Meta, 0, b"x").unwrap_err().kind(), ErrorKind::NoSpace);
        device.remove(more).unwrap();
        device.write(Object::Meta, 0, b"x").unwrap();
        device.create(more, (2 << 40) - 1).unwrap();
    }

    #[test]
    fn as_many_objects_fit_as_there_are_slots() {
        let geometry = Geometry { slots: Some(1), ..MemoryDevice::default().geometry() };
        let mut device = MemoryDevice::new(geometry);
        device.create(Object::Meta, 0).unwrap();
        device.create(Object::Meta, 0).unwrap();
        assert_eq!(device.create(SEGMENT, 0).unwrap_err().kind(), ErrorKind::NoSpace);
    }

    #[test]
    fn a_log_is_copied_object_by_object() {
        let mut from = MemoryDevice::default();
        from.create(SEGMENT, 8).unwrap();
        from.write(SEGMENT, 2, b"abc").unwrap();
        let to = MemoryDevice::default();
        for object in from.names() {
            to.put(object, from.object(object).unwrap());
        }
        assert_eq!(to.object(SEGMENT).unwrap(), b"\0\0abc\0\0\0");
        assert_eq!(to.object(Object::Meta), None);
    }
}
