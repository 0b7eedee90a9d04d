//! The handle that a log is opened with.

use core::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

use duralog_core::{Device, Geometry, Object, OldWriter, Room};

use super::{
    change::Change,
    error::{FaultyError, outcome},
    medium::lock,
    state::State,
};

/// A handle on a [`Medium`](super::Medium): a device that fails as planned.
///
/// It works until the next power cut or kill; from then on every call is an error of kind [`ErrorKind::Gone`](duralog_core::ErrorKind::Gone).
#[derive(Debug)]
pub struct FaultyDevice {
    state: Arc<Mutex<State>>,
    boot: u64,
    writes: bool,
    begun: Option<Begun>,
}

/// A sync that was begun.
#[derive(Clone, Copy, Debug)]
struct Begun {
    object: Object,
    /// The first call that it does not cover.
    until: u64,
    /// How often it was asked for.
    asked: u32,
    /// Another sync ended it.
    is_over: bool,
}

/// A sync that was begun ends when it is asked for so often.
const LASTS: u32 = 2;

impl FaultyDevice {
    pub(super) fn new(state: &Arc<Mutex<State>>, boot: u64, writes: bool) -> Self {
        Self { state: Arc::clone(state), boot, writes, begun: None }
    }

    /// Another handle, for reading.
    #[must_use]
    pub fn reader(&self) -> Self {
        Self { state: Arc::clone(&self.state), boot: self.boot, writes: false, begun: None }
    }

    /// Bytes of room that the object takes.
    ///
    /// # Errors
    /// There is no such object, or the power went.
    pub fn len(&self, object: Object) -> Result<u64, FaultyError> {
        let state = self.state()?;
        let stored = state.cache.get(&object).ok_or(FaultyError::Missing { object })?;
        Ok(stored.image.room())
    }

    /// Begins a sync of what was done to `object` so far.
    pub(crate) fn begin_sync(&mut self, object: Object) -> bool {
        let Some(until) = self.for_writing().ok().map(|state| state.calls) else { return false };
        if self.begun.is_some() {
            return false;
        }
        self.begun = Some(Begun { object, until, asked: 0, is_over: false });
        true
    }

    /// How it went, once it has lasted a while.
    pub(crate) fn poll_sync(&mut self) -> Option<Result<(), FaultyError>> {
        let begun = self.begun.as_mut()?;
        begun.asked += 1;
        if begun.asked < LASTS && !begun.is_over { None } else { self.finish_sync() }
    }

    /// Ends it. A power cut, or a failure, comes at this call.
    pub(crate) fn finish_sync(&mut self) -> Option<Result<(), FaultyError>> {
        let Begun { object, until, is_over, .. } = self.begun.take()?;
        if is_over {
            return Some(Ok(()));
        }
        Some(self.for_writing().and_then(|mut state| state.sync_object(object, until)))
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, FaultyError> {
        let state = lock(&self.state);
        if state.has_power && state.boots == self.boot { Ok(state) } else { Err(FaultyError::Gone) }
    }

    fn for_writing(&self) -> Result<MutexGuard<'_, State>, FaultyError> {
        let state = self.state()?;
        if self.writes { Ok(state) } else { Err(FaultyError::ReadOnly) }
    }
}

impl Drop for FaultyDevice {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if self.writes && state.boots == self.boot {
            state.has_writer = false;
        }
    }
}

impl Device for FaultyDevice {
    type Error = FaultyError;

    fn geometry(&self) -> Geometry {
        lock(&self.state).geometry
    }

    fn old_writer(&self) -> OldWriter {
        if self.writes { OldWriter::Gone } else { OldWriter::MayWrite }
    }

    fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, FaultyError> {
        let mut state = self.state()?;
        state.note(None, "next", after, (0, 0), "");
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(state.cache.range((behind, Bound::Unbounded)).next().map(|(object, _)| *object))
    }

    fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, FaultyError> {
        let mut state = self.state()?;
        state.note(None, "prev", before, (0, 0), "");
        let ahead = before.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(state.cache.range((Bound::Unbounded, ahead)).next_back().map(|(object, _)| *object))
    }

    fn create(&mut self, object: Object, size: u64) -> Result<Room, FaultyError> {
        self.for_writing()?.create(object, size)
    }

    fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, FaultyError> {
        let mut state = self.state()?;
        let read = state.read(object, at, buf);
        state.note(None, "read", Some(object), (at, buf.len() as u64), outcome(&read));
        read
    }

    fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), FaultyError> {
        let mut state = self.for_writing()?;
        let granule = u64::from(state.geometry.granule);
        debug_assert!(at.is_multiple_of(granule), "{object} is written at {at}, inside a granule");
        debug_assert!((bytes.len() as u64).is_multiple_of(granule), "{} bytes are no whole granules", bytes.len());
        state.change(object, Change::Write { at, bytes: bytes.to_vec() })
    }

    fn trim(&mut self, object: Object, at: u64) -> Result<(), FaultyError> {
        self.for_writing()?.change(object, Change::Trim { at })
    }

    fn remove(&mut self, object: Object) -> Result<(), FaultyError> {
        self.for_writing()?.change(object, Change::Remove)
    }

    /// Of a reader, which did nothing, it says nothing, and is not counted.
    fn sync(&mut self) -> Result<(), FaultyError> {
        let synced = self.state().and_then(|mut state| if self.writes { state.sync() } else { Ok(()) });
        // What is synced after a failure proves nothing any more.
        self.begun = self.begun.filter(|_| synced.is_ok()).map(|begun| Begun { is_over: true, ..begun });
        synced
    }
}
