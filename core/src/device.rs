//! Devices: what keeps the bytes, and what each operation promises when the power goes.

use core::fmt;

use crate::{
    CheckpointId,
    segment::{Geometry, SegmentId},
    writer::Durability,
};

/// What a device keeps. A file, a range of keys in `IndexedDB`, one or more labelled slots of flash.
///
/// The order is that in which objects are listed: segments, then checkpoints, then the metadata, ids ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Object {
    /// A bounded run of frames.
    Segment(SegmentId),
    /// A snapshot of the application's state.
    Checkpoint(CheckpointId),
    /// What speeds up opening and may be missing.
    Meta,
}

impl fmt::Display for Object {
    /// The object's name in a directory.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(id) => write!(f, "{id}.wal"),
            Self::Checkpoint(id) => write!(f, "checkpoint_{:016x}.ckpt", id.value()),
            Self::Meta => f.write_str("wal.meta"),
        }
    }
}

impl Object {
    /// The object that has this name in a directory, or `None` for a name of something else.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let id = |rest: &str, ending: &str| {
            let digits = rest.strip_suffix(ending)?;
            let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            (digits.len() == 16 && digits.bytes().all(hex)).then(|| u64::from_str_radix(digits, 16).ok())?
        };
        if let Some(rest) = name.strip_prefix("segment_") {
            id(rest, ".wal").map(|id| Self::Segment(SegmentId::new(id)))
        } else if let Some(rest) = name.strip_prefix("checkpoint_") {
            id(rest, ".ckpt").map(|id| Self::Checkpoint(CheckpointId::new(id)))
        } else {
            (name == "wal.meta").then_some(Self::Meta)
        }
    }
}

/// What kind of failure a device's error is: what decides, where the error itself only informs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no room; nothing of what was durable is lost.
    NoSpace,
    /// A newer writer was seen: this one must not write any more.
    Fenced,
    /// The object or the medium is not there any more.
    Gone,
    /// The medium takes no writes.
    ReadOnly,
    /// It cannot be got at now, for want of a permission or of room in the system's tables: that says nothing about its
    /// bytes.
    Unavailable,
    /// Anything else: nothing is known about what the operation did.
    Other,
}

impl From<embedded_io::ErrorKind> for ErrorKind {
    /// What an error of an `embedded-io` medium means to a log. A medium of fixed size that takes no more bytes
    /// (`WriteZero`) is full.
    fn from(kind: embedded_io::ErrorKind) -> Self {
        match kind {
            embedded_io::ErrorKind::WriteZero | embedded_io::ErrorKind::OutOfMemory => Self::NoSpace,
            embedded_io::ErrorKind::AlreadyExists => Self::Fenced,
            embedded_io::ErrorKind::NotFound | embedded_io::ErrorKind::NotConnected => Self::Gone,
            embedded_io::ErrorKind::PermissionDenied => Self::ReadOnly,
            embedded_io::ErrorKind::TimedOut => Self::Unavailable,
            _ => Self::Other,
        }
    }
}

impl From<ErrorKind> for embedded_io::ErrorKind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NoSpace => Self::WriteZero,
            ErrorKind::Fenced => Self::AlreadyExists,
            ErrorKind::Gone => Self::NotFound,
            ErrorKind::ReadOnly => Self::PermissionDenied,
            ErrorKind::Unavailable => Self::TimedOut,
            ErrorKind::Other => Self::Other,
        }
    }
}

/// An error of a device.
pub trait DeviceError: fmt::Debug + fmt::Display {
    /// What kind it is.
    fn kind(&self) -> ErrorKind;
}

/// What a new object's room is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Room {
    /// It reads as the blank byte throughout, also after a crash.
    Blank,
    /// It may hold bytes of an earlier life of this log: of a segment whose removal is durable. A log's first segment is
    /// never given such room.
    Recycled,
}

/// Whether whoever wrote to a medium before may still do so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum OldWriter {
    /// It may: nothing is known of it.
    #[default]
    MayWrite,
    /// It cannot: this device holds a lock that died with its owner, or nobody else can reach the medium.
    Gone,
}

/// A blocking medium: files, memory, the simulated faulty device, NOR flash.
///
/// Until a [`sync`](Self::sync) has returned `Ok`, a power cut may keep, tear or lose the effect of any call, each for
/// itself and in any order, but harms nothing outside the granules and names that these calls touched. An error
/// leaves the effect of its call unknown, unless its kind says more.
pub trait Device {
    /// What goes wrong here.
    type Error: DeviceError;

    /// What the medium is like; the same as long as the device is open.
    fn geometry(&self) -> Geometry;

    /// Whether an earlier writer may still write. Only where it cannot, and on a settled medium, a log is continued in
    /// the segment that it left.
    fn old_writer(&self) -> OldWriter {
        OldWriter::MayWrite
    }

    /// How durable bytes are on this medium that were written ([`Durability::Os`]) or synced ([`Durability::Durable`]):
    /// no more than `asked`, and less where the medium does not keep what that word promises. Receipts say it.
    fn reaches(&self, asked: Durability) -> Durability {
        asked
    }

    /// How many more objects can be made, where the medium fixes their number.
    fn free(&self) -> Option<u32> {
        None
    }

    /// The first object behind `after` in the order of [`Object`], or the very first.
    ///
    /// # Errors
    /// The medium cannot be listed.
    fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, Self::Error>;

    /// The last object before `before`, or the very last.
    ///
    /// # Errors
    /// The medium cannot be listed.
    fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, Self::Error>;

    /// Makes an object with room for `size` bytes. Metadata that are there are not in the way: they give their room to those
    /// that replace them, and until these are written it reads as blank or as before.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] if it is there already; [`ErrorKind::NoSpace`] if it does not fit: then nothing was made.
    fn create(&mut self, object: Object, size: u64) -> Result<Room, Self::Error>;

    /// Reads at `at` into `buf` and returns how many bytes came; fewer than asked for are no sign of the end, 0 is.
    ///
    /// # Errors
    /// The bytes cannot be read.
    fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, Self::Error>;

    /// Writes `bytes`, whole granules, at `at`, a multiple of the granule. A segment that was trimmed may be written
    /// behind its room again, which then grows.
    ///
    /// # Errors
    /// Any part of the bytes may have been written.
    fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Gives back the room from `at` on, where nothing stands that counts. If it is there again after a power cut, it
    /// reads as before. A device that gives no room back does nothing, or where it may refuse a write and a crash find whole what
    /// that has left there, says so.
    ///
    /// # Errors
    /// What stands there stays, which harms nothing.
    fn trim(&mut self, object: Object, at: u64) -> Result<(), Self::Error>;

    /// Removes the object, bytes and name; after a power cut it may be back until the next sync. Removing what is
    /// not there succeeds.
    ///
    /// # Errors
    /// The object may still be there.
    fn remove(&mut self, object: Object) -> Result<(), Self::Error>;

    /// The barrier: when it returns `Ok`, everything done before through this device, names too, is durable.
    ///
    /// # Errors
    /// Nothing is known about what was done since the last sync, and a later sync says nothing about it.
    fn sync(&mut self) -> Result<(), Self::Error>;
}

/// [`Device`], awaited: the same operations with the same promises.
///
/// The futures need not be `Send`. A future that is dropped leaves the effect of its call unknown, as an error does.
#[allow(async_fn_in_trait)] // Media of one thread have futures that are not `Send`; drivers do not spawn.
pub trait AsyncDevice {
    /// What goes wrong here.
    type Error: DeviceError;
    /// See [`Device::geometry`].
    fn geometry(&self) -> Geometry;
    /// See [`Device::old_writer`].
    fn old_writer(&self) -> OldWriter {
        OldWriter::MayWrite
    }
    /// See [`Device::reaches`].
    fn reaches(&self, asked: Durability) -> Durability {
        asked
    }
    /// See [`Device::free`].
    fn free(&self) -> Option<u32> {
        None
    }
    /// See [`Device::next`].
    async fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, Self::Error>;
    /// See [`Device::prev`].
    async fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, Self::Error>;
    /// See [`Device::create`].
    async fn create(&mut self, object: Object, size: u64) -> Result<Room, Self::Error>;
    /// See [`Device::read`].
    async fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, Self::Error>;
    /// See [`Device::write`].
    async fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), Self::Error>;
    /// See [`Device::trim`].
    async fn trim(&mut self, object: Object, at: u64) -> Result<(), Self::Error>;
    /// See [`Device::remove`].
    async fn remove(&mut self, object: Object) -> Result<(), Self::Error>;
    /// See [`Device::sync`].
    async fn sync(&mut self) -> Result<(), Self::Error>;
}

/// A device that is lent: whoever opens a log on it has it back afterwards.
impl<D: Device + ?Sized> Device for &mut D {
    type Error = D::Error;

    fn geometry(&self) -> Geometry {
        (**self).geometry()
    }

    fn old_writer(&self) -> OldWriter {
        (**self).old_writer()
    }

    fn reaches(&self, asked: Durability) -> Durability {
        (**self).reaches(asked)
    }

    fn free(&self) -> Option<u32> {
        (**self).free()
    }

    fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, D::Error> {
        (**self).next(after)
    }

    fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, D::Error> {
        (**self).prev(before)
    }

    fn create(&mut self, object: Object, size: u64) -> Result<Room, D::Error> {
        (**self).create(object, size)
    }

    fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, D::Error> {
        (**self).read(object, at, buf)
    }

    fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), D::Error> {
        (**self).write(object, at, bytes)
    }

    fn trim(&mut self, object: Object, at: u64) -> Result<(), D::Error> {
        (**self).trim(object, at)
    }

    fn remove(&mut self, object: Object) -> Result<(), D::Error> {
        (**self).remove(object)
    }

    fn sync(&mut self) -> Result<(), D::Error> {
        (**self).sync()
    }
}

/// A device that is lent: whoever opens a log on it has it back afterwards.
impl<D: AsyncDevice + ?Sized> AsyncDevice for &mut D {
    type Error = D::Error;

    fn geometry(&self) -> Geometry {
        (**self).geometry()
    }

    fn old_writer(&self) -> OldWriter {
        (**self).old_writer()
    }

    fn reaches(&self, asked: Durability) -> Durability {
        (**self).reaches(asked)
    }

    fn free(&self) -> Option<u32> {
        (**self).free()
    }

    async fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, D::Error> {
        (**self).next(after).await
    }

    async fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, D::Error> {
        (**self).prev(before).await
    }

    async fn create(&mut self, object: Object, size: u64) -> Result<Room, D::Error> {
        (**self).create(object, size).await
    }

    async fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, D::Error> {
        (**self).read(object, at, buf).await
    }

    async fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), D::Error> {
        (**self).write(object, at, bytes).await
    }

    async fn trim(&mut self, object: Object, at: u64) -> Result<(), D::Error> {
        (**self).trim(object, at).await
    }

    async fn remove(&mut self, object: Object) -> Result<(), D::Error> {
        (**self).remove(object).await
    }

    async fn sync(&mut self) -> Result<(), D::Error> {
        (**self).sync().await
    }
}

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;
    use core::{
        pin::pin,
        task::{Context, Poll, Waker},
    };
    use std::{
        format,
        string::{String, ToString},
        vec,
        vec::Vec,
    };

    use super::*;

    /// An error of this kind.
    #[derive(Debug)]
    pub(crate) struct Failure(pub(crate) ErrorKind);

    impl fmt::Display for Failure {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("it is worn out")
        }
    }

    impl core::error::Error for Failure {}

    impl DeviceError for Failure {
        fn kind(&self) -> ErrorKind {
            self.0
        }
    }

    pub(crate) const GEOMETRY: Geometry =
        Geometry { segment_size: 4096, granule: 16, copy_offset: 512, blank: 0xFF, settled: true, slots: Some(9) };

    /// What a future that waits for nothing comes to.
    pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("it waits"),
        }
    }

    /// A device of which no object is asked anything, and which says of itself what the trait does.
    pub(crate) struct Untouched;

    impl AsyncDevice for Untouched {
        type Error = Failure;

        fn geometry(&self) -> Geometry {
            GEOMETRY
        }

        async fn next(&mut self, _: Option<Object>) -> Result<Option<Object>, Failure> {
            unreachable!()
        }

        async fn prev(&mut self, _: Option<Object>) -> Result<Option<Object>, Failure> {
            unreachable!()
        }

        async fn create(&mut self, _: Object, _: u64) -> Result<Room, Failure> {
            unreachable!()
        }

        async fn read(&mut self, _: Object, _: u64, _: &mut [u8]) -> Result<usize, Failure> {
            unreachable!()
        }

        async fn write(&mut self, _: Object, _: u64, _: &[u8]) -> Result<(), Failure> {
            unreachable!()
        }

        async fn trim(&mut self, _: Object, _: u64) -> Result<(), Failure> {
            unreachable!()
        }

        async fn remove(&mut self, _: Object) -> Result<(), Failure> {
            unreachable!()
        }

        async fn sync(&mut self) -> Result<(), Failure> {
            unreachable!()
        }
    }

    /// A device that keeps what it was asked, and answers what no trait would by itself.
    #[derive(Default)]
    struct Asked(Vec<String>);

    const SEGMENT: Object = Object::Segment(SegmentId::new(3));

    impl Device for Asked {
        type Error = Failure;

        fn geometry(&self) -> Geometry {
            GEOMETRY
        }

        fn old_writer(&self) -> OldWriter {
            OldWriter::Gone
        }

        fn reaches(&self, _: Durability) -> Durability {
            Durability::Os
        }

        fn free(&self) -> Option<u32> {
            Some(7)
        }

        fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, Failure> {
            self.0.push(format!("next {after:?}"));
            Ok(Some(SEGMENT))
        }

        fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, Failure> {
            self.0.push(format!("prev {before:?}"));
            Ok(Some(Object::Meta))
        }

        fn create(&mut self, object: Object, size: u64) -> Result<Room, Failure> {
            self.0.push(format!("create {object} {size}"));
            Ok(Room::Recycled)
        }

        fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, Failure> {
            self.0.push(format!("read {object} {at}"));
            buf.fill(5);
            Ok(2)
        }

        fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), Failure> {
            self.0.push(format!("write {object} {at} {bytes:?}"));
            Err(Failure(ErrorKind::NoSpace))
        }

        fn trim(&mut self, object: Object, at: u64) -> Result<(), Failure> {
            self.0.push(format!("trim {object} {at}"));
            Err(Failure(ErrorKind::ReadOnly))
        }

        fn remove(&mut self, object: Object) -> Result<(), Failure> {
            self.0.push(format!("remove {object}"));
            Err(Failure(ErrorKind::Gone))
        }

        fn sync(&mut self) -> Result<(), Failure> {
            self.0.push("sync".to_string());
            Err(Failure(ErrorKind::Fenced))
        }
    }

    impl AsyncDevice for Asked {
        type Error = Failure;

        fn geometry(&self) -> Geometry {
            Device::geometry(self)
        }

        fn old_writer(&self) -> OldWriter {
            Device::old_writer(self)
        }

        fn reaches(&self, asked: Durability) -> Durability {
            Device::reaches(self, asked)
        }

        fn free(&self) -> Option<u32> {
            Device::free(self)
        }

        async fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, Failure> {
            Device::next(self, after)
        }

        async fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, Failure> {
            Device::prev(self, before)
        }

        async fn create(&mut self, object: Object, size: u64) -> Result<Room, Failure> {
            Device::create(self, object, size)
        }

        async fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, Failure> {
            Device::read(self, object, at, buf)
        }

        async fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), Failure> {
            Device::write(self, object, at, bytes)
        }

        async fn trim(&mut self, object: Object, at: u64) -> Result<(), Failure> {
            Device::trim(self, object, at)
        }

        async fn remove(&mut self, object: Object) -> Result<(), Failure> {
            Device::remove(self, object)
        }

        async fn sync(&mut self) -> Result<(), Failure> {
            Device::sync(self)
        }
    }

    /// Asks a device everything, and keeps what it answers.
    fn answers<D: Device>(mut device: D) -> Vec<String> {
        let mut buf = [0; 4];
        vec![
            format!("{:?}", device.geometry() == GEOMETRY),
            format!("{:?}", device.old_writer()),
            format!("{:?}", device.reaches(Durability::Durable)),
            format!("{:?}", device.free()),
            format!("{:?}", device.next(None)),
            format!("{:?}", device.prev(Some(SEGMENT))),
            format!("{:?}", device.create(SEGMENT, 4096)),
            format!("{:?}", device.read(SEGMENT, 16, &mut buf)),
            format!("{buf:?}"),
            format!("{:?}", device.write(SEGMENT, 32, &[8, 9])),
            format!("{:?}", device.trim(SEGMENT, 48)),
            format!("{:?}", device.remove(Object::Meta)),
            format!("{:?}", device.sync()),
        ]
    }

    /// The same, awaited.
    async fn answers_awaited<D: AsyncDevice>(mut device: D) -> Vec<String> {
        let mut buf = [0; 4];
        vec![
            format!("{:?}", device.geometry() == GEOMETRY),
            format!("{:?}", device.old_writer()),
            format!("{:?}", device.reaches(Durability::Durable)),
            format!("{:?}", device.free()),
            format!("{:?}", device.next(None).await),
            format!("{:?}", device.prev(Some(SEGMENT)).await),
            format!("{:?}", device.create(SEGMENT, 4096).await),
            format!("{:?}", device.read(SEGMENT, 16, &mut buf).await),
            format!("{buf:?}"),
            format!("{:?}", device.write(SEGMENT, 32, &[8, 9]).await),
            format!("{:?}", device.trim(SEGMENT, 48).await),
            format!("{:?}", device.remove(Object::Meta).await),
            format!("{:?}", device.sync().await),
        ]
    }

    #[test]
    fn a_device_that_is_lent_is_asked_everything_and_answers_for_itself() {
        let expected = [
            "true",
            "Gone",
            "Os",
            "Some(7)",
            "Ok(Some(Segment(SegmentId(3))))",
            "Ok(Some(Meta))",
            "Ok(Recycled)",
            "Ok(2)",
            "[5, 5, 5, 5]",
            "Err(Failure(NoSpace))",
            "Err(Failure(ReadOnly))",
            "Err(Failure(Gone))",
            "Err(Failure(Fenced))",
        ];
        let asked = [
            "next None",
            "prev Some(Segment(SegmentId(3)))",
            "create segment_0000000000000003.wal 4096",
            "read segment_0000000000000003.wal 16",
            "write segment_0000000000000003.wal 32 [8, 9]",
            "trim segment_0000000000000003.wal 48",
            "remove wal.meta",
            "sync",
        ];
        let mut device = Asked::default();
        assert_eq!(answers(&mut device), expected);
        assert_eq!(device.0, asked);
        let mut device = Asked::default();
        assert_eq!(ready(answers_awaited(&mut device)), expected);
        assert_eq!(device.0, asked);
    }

    #[test]
    fn a_device_that_says_nothing_of_itself_is_shared_keeps_what_it_is_asked_and_has_no_fixed_room() {
        assert_eq!(Untouched.geometry(), GEOMETRY);
        assert_eq!(Untouched.old_writer(), OldWriter::MayWrite);
        assert_eq!(Untouched.reaches(Durability::Durable), Durability::Durable);
        assert_eq!(Untouched.free(), None);
    }

    #[test]
    fn a_kind_of_error_is_the_same_behind_embedded_io() {
        let kinds = [
            ErrorKind::NoSpace,
            ErrorKind::Fenced,
            ErrorKind::Gone,
            ErrorKind::ReadOnly,
            ErrorKind::Unavailable,
            ErrorKind::Other,
        ];
        for kind in kinds {
            assert_eq!(ErrorKind::from(embedded_io::ErrorKind::from(kind)), kind);
        }
        assert_eq!(ErrorKind::from(embedded_io::ErrorKind::AddrInUse), ErrorKind::Other);
    }

    #[test]
    fn an_object_is_found_again_by_its_name_and_by_no_other() {
        let objects =
            [Object::Segment(SegmentId::new(26)), Object::Checkpoint(CheckpointId::new(u64::MAX)), Object::Meta];
        assert_eq!(objects[0].to_string(), "segment_000000000000001a.wal");
        for object in objects {
            assert_eq!(Object::from_name(&object.to_string()), Some(object));
        }
        for name in
            ["LOCK", "segment_1a.wal", "segment_000000000000001A.wal", "segment_+00000000000001a.wal", "wal.meta~"]
        {
            assert_eq!(Object::from_name(name), None, "{name}");
        }
        assert!(objects[0] < objects[1] && objects[1] < objects[2]);
    }
}
