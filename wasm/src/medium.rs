//! A medium of a browser as a device: JavaScript moves the bytes.
//!
//! Each operation is begun by a call. It gives what came of it, or that it is pending: then JavaScript says later what
//! came of it, by `resume`. A read that was pending is asked again: what it waited for is at hand then.

use core::{cell::Cell, fmt, future::poll_fn, task::Poll};
use std::rc::Rc;

use duralog::{
    Geometry, Object,
    core::{AsyncDevice, DeviceError, ErrorKind, OldWriter, Room},
    local::LocalDevice,
};

use crate::host::Storage;

/// What a call gives that has not ended.
const PENDING: f64 = -100.0;

/// Where JavaScript puts what came of what was begun.
#[derive(Clone, Default)]
pub(crate) struct Answer(Rc<Cell<Option<f64>>>);

impl Answer {
    /// JavaScript says what came of it.
    pub(crate) fn give(&self, value: f64) {
        self.0.set(Some(value));
    }

    /// What comes of what was begun with this result.
    async fn to(&self, begun: f64) -> Result<usize, MediumError> {
        let value =
            if begun > PENDING { begun } else { poll_fn(|_| self.0.take().map_or(Poll::Pending, Poll::Ready)).await };
        outcome(value)
    }
}

/// What a number from a medium means: a count, or below 0 what went wrong. What exactly, JavaScript keeps, and gives it
/// out as the cause of the error.
fn outcome(value: f64) -> Result<usize, MediumError> {
    if value >= 0.0 {
        // Counts of a medium are whole and fit.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let count = value as usize;
        return Ok(count);
    }
    Err(MediumError(if value == -1.0 {
        ErrorKind::NoSpace
    } else if value == -2.0 {
        ErrorKind::Fenced
    } else if value == -3.0 {
        ErrorKind::Gone
    } else if value == -4.0 {
        ErrorKind::ReadOnly
    } else {
        ErrorKind::Other
    }))
}

/// What goes wrong with a medium of a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MediumError(ErrorKind);

impl fmt::Display for MediumError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            ErrorKind::NoSpace => "the browser gives this site no more room",
            ErrorKind::Fenced => "another writer has taken the log over, and this one has written nothing since",
            ErrorKind::Gone => "the storage was closed or deleted",
            ErrorKind::ReadOnly => "it was opened for reading",
            _ => "the storage failed",
        })
    }
}

impl core::error::Error for MediumError {}

impl DeviceError for MediumError {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

/// A device whose objects JavaScript keeps.
pub(crate) struct Medium {
    storage: Storage,
    answer: Answer,
    geometry: Geometry,
    rolls_back: bool,
    /// The objects that are there, in order.
    objects: Vec<Object>,
}

impl Medium {
    pub(crate) async fn open(storage: Storage, answer: Answer, segment_size: u32) -> Result<Self, MediumError> {
        let geometry = Geometry {
            segment_size,
            granule: 1,
            copy_offset: storage.copy_offset(),
            blank: 0,
            settled: storage.settled(),
            slots: None,
        };
        let rolls_back = storage.rolls_back();
        let mut this = Self { storage, answer, geometry, rolls_back, objects: Vec::new() };
        this.answer.to(this.storage.open()).await?;
        this.list();
        Ok(this)
    }

    fn list(&mut self) {
        let names = self.storage.names();
        self.objects = names.split('\n').filter_map(Object::from_name).collect();
        self.objects.sort_unstable();
    }

    /// Where the object is in the list, or where it would be.
    fn index(&self, object: Object) -> Result<usize, usize> {
        self.objects.binary_search(&object)
    }

    /// What comes of a change; after a refusal that has undone others the objects are listed anew.
    async fn change(&mut self, begun: f64) -> Result<(), MediumError> {
        let changed = self.answer.to(begun).await;
        if changed.is_err_and(|error| error.0 == ErrorKind::NoSpace) && self.rolls_back {
            self.list();
        }
        changed.map(|_| ())
    }
}

impl AsyncDevice for Medium {
    type Error = MediumError;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn old_writer(&self) -> OldWriter {
        // Where a sync makes durable all that is read, it also looks first whether a later writer is there.
        if self.geometry.settled { OldWriter::Gone } else { OldWriter::MayWrite }
    }

    async fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, MediumError> {
        let index = match after {
            None => 0,
            Some(object) => self.index(object).map_or_else(|index| index, |index| index + 1),
        };
        Ok(self.objects.get(index).copied())
    }

    async fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, MediumError> {
        let index = match before {
            None => self.objects.len(),
            Some(object) => self.index(object).unwrap_or_else(|index| index),
        };
        Ok(index.checked_sub(1).map(|index| self.objects[index]))
    }

    async fn create(&mut self, object: Object, _: u64) -> Result<Room, MediumError> {
        match self.index(object) {
            Ok(_) if object != Object::Meta => return Err(MediumError(ErrorKind::Fenced)),
            Ok(_) => {}
            Err(index) => self.objects.insert(index, object),
        }
        let begun = self.storage.create(&object.to_string());
        self.change(begun).await?;
        Ok(Room::Blank)
    }

    async fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, MediumError> {
        let name = object.to_string();
        loop {
            let read = self.storage.read(&name, number(at), buf);
            if read > PENDING {
                return outcome(read);
            }
            self.answer.to(read).await?;
        }
    }

    async fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), MediumError> {
        let begun = self.storage.write(&object.to_string(), number(at), bytes);
        self.change(begun).await
    }

    async fn trim(&mut self, _: Object, _: u64) -> Result<(), MediumError> {
        // Objects grow as they are written: there is no room to give back. Only a refused write may leave something there.
        if self.rolls_back { Ok(()) } else { Err(MediumError(ErrorKind::Other)) }
    }

    async fn remove(&mut self, object: Object) -> Result<(), MediumError> {
        let Ok(index) = self.index(object) else { return Ok(()) };
        self.objects.remove(index);
        let begun = self.storage.remove(&object.to_string());
        self.change(begun).await
    }

    async fn sync(&mut self) -> Result<(), MediumError> {
        let begun = self.storage.sync();
        self.change(begun).await
    }
}

impl LocalDevice for Medium {
    fn rolls_back(&self) -> bool {
        self.rolls_back
    }

    async fn len(&mut self, object: Object) -> Result<u64, MediumError> {
        let begun = self.storage.size(&object.to_string());
        self.answer.to(begun).await.map(|len| len as u64)
    }

    async fn tidy(&mut self, object: Object) -> Result<(), MediumError> {
        let begun = self.storage.tidy(&object.to_string(), self.geometry.frames_at());
        self.change(begun).await
    }
}

/// An offset as JavaScript has it.
fn number(offset: u64) -> f64 {
    // Segments end far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    let number = offset as f64;
    number
}
