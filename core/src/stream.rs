//! Snapshots from and to byte streams of `embedded-io`: a serial line, a block of flash, a slice, a file.
//!
//! A checkpoint of any size passes through the scratch buffer of the driver, piece by piece; neither side holds all of it.

use embedded_io::{Error, Read, Write};

use crate::{
    checkpoint::Section,
    device::DeviceError,
    drive::{self, Host},
};

/// A host that gives [`PutCheckpoint`](crate::PutCheckpoint) a snapshot from a stream.
///
/// Where the stream fails the driver ends with [`Fault::SnapshotBrokenOff`](crate::Fault::SnapshotBrokenOff), no checkpoint
/// is made, and [`error`](Self::error) says why.
#[derive(Debug)]
pub struct SnapshotSource<'a, R: Read> {
    /// Ids and metadata that go before the snapshot.
    front: &'a [u8],
    reader: R,
    error: Option<R::Error>,
}

impl<'a, R: Read> SnapshotSource<'a, R> {
    /// A snapshot of what `reader` gives until it ends. `front` are the ids and the metadata that the checkpoint's header
    /// announces, in their order.
    #[must_use]
    pub fn new(front: &'a [u8], reader: R) -> Self {
        Self { front, reader, error: None }
    }

    /// Why the stream broke off, if it did.
    #[must_use]
    pub fn error(&self) -> Option<&R::Error> {
        self.error.as_ref()
    }
}

impl<R: Read> Host for SnapshotSource<'_, R> {
    fn fill(&mut self, buf: &mut [u8]) -> usize {
        if !self.front.is_empty() {
            let (bytes, rest) = self.front.split_at(self.front.len().min(buf.len()));
            buf[..bytes.len()].copy_from_slice(bytes);
            self.front = rest;
            return bytes.len();
        }
        loop {
            match self.reader.read(buf) {
                Ok(moved) => return moved,
                Err(error) if error.kind() == embedded_io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.error = Some(error);
                    return 0;
                }
            }
        }
    }

    fn broke_off(&self) -> bool {
        self.error.is_some()
    }
}

/// A host that writes the application's snapshot, as [`ReadCheckpoint`](crate::ReadCheckpoint) hands it out, to a stream.
///
/// What was written counts only if the checkpoint turned out valid at its end and [`finish`](Self::finish) gave no
/// error: read it into a place that is thrown away otherwise.
#[derive(Debug)]
pub struct SnapshotSink<W: Write> {
    writer: W,
    written: u64,
    error: Option<W::Error>,
}

impl<W: Write> SnapshotSink<W> {
    /// A host that writes to `writer`.
    #[must_use]
    pub fn new(writer: W) -> Self {
        Self { writer, written: 0, error: None }
    }

    /// Flushes, and returns how many bytes the snapshot had.
    ///
    /// # Errors
    /// The first error of the stream; nothing was written behind it.
    pub fn finish(mut self) -> Result<u64, W::Error> {
        match self.error {
            Some(error) => Err(error),
            None => self.writer.flush().map(|()| self.written),
        }
    }
}

impl<W: Write> Host for SnapshotSink<W> {
    fn piece(&mut self, section: Section, bytes: &[u8]) {
        if section != Section::Block || self.error.is_some() {
            return;
        }
        match self.writer.write_all(bytes) {
            Ok(()) => self.written += bytes.len() as u64,
            Err(error) => self.error = Some(error),
        }
    }
}

impl<E: DeviceError + core::error::Error + 'static> Error for drive::Error<E> {
    /// What the log's failure is to code that knows `embedded-io` alone: bytes that cannot be what they should be are
    /// invalid data.
    fn kind(&self) -> embedded_io::ErrorKind {
        self.device_kind().map_or(embedded_io::ErrorKind::InvalidData, Into::into)
    }
}
