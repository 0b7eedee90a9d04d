//! Files that are synced ahead of the log's own sync, by a thread beside it.
//!
//! ```text
//! the log:   write ── write ── write ── write ── write ── sync: waits for the one under way, then does its own
//!                       └► wanted                          ▲
//! beside:                  sync ──────────────── sync ─────┘
//! ```
//!
//! The medium works while the log writes on, and the log's own sync finds little left to do. What is synced here of itself
//! counts for nobody; what the log asked for ([`Ahead::begin`]) does when it is told that it succeeded.
//!
//! Whoever writes much that nobody waits for lets the syncs catch up now and then, so that the log's own does not have to wait
//! for all of that; and a large file that was removed is let go of here, for that takes as long as it has bytes.
//!
//! An operating system tells of a failed write once, to whoever syncs next: that may be here. So the log's sync comes after
//! the one under way, never beside it, and a failure is kept: from then on every write and every sync of the device fails.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use duralog_core::Object;

use crate::fs::OneFile;

/// Bytes written to a file, and at once, after which it is to be synced ahead: less is no work for two.
pub(crate) const PIECE: usize = 1 << 20;

/// What is to be synced ahead in one directory.
#[derive(Debug)]
pub(crate) struct Ahead<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    wanted: Vec<(Object, Arc<T>)>,
    /// Files that were removed, and take their room until the last of their handles is dropped.
    removed: Vec<Arc<T>>,
    /// A sync is under way.
    busy: bool,
    asked: Option<Asked<T>>,
    failed: Option<Failed>,
    /// The log's own sync failed: no later one proves anything.
    spoilt: bool,
    closed: bool,
}

/// A sync that the log asked for.
#[derive(Debug)]
struct Asked<T> {
    object: Object,
    file: Arc<T>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Wanted,
    UnderWay,
    Done,
}

/// A sync that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) object: Object,
    pub(crate) error: Arc<io::Error>,
}

impl<T> State<T> {
    fn is_wanted(&self) -> bool {
        !self.wanted.is_empty()
            || !self.removed.is_empty()
            || self.asked.as_ref().is_some_and(|asked| asked.stage == Stage::Wanted)
    }

    /// How the sync went that was asked for, if it is over.
    fn told(&mut self) -> Option<Result<(), Failed>> {
        if let Some(failed) = &self.failed {
            return Some(Err(failed.clone()));
        }
        self.asked.take_if(|asked| asked.stage == Stage::Done).map(|_| Ok(()))
    }
}

impl<T: OneFile> Ahead<T> {
    pub(crate) fn new() -> Self {
        let state = State {
            wanted: Vec::new(),
            removed: Vec::new(),
            busy: false,
            asked: None,
            failed: None,
            spoilt: false,
            closed: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Enough was written to this file that it should be on its way to the medium.
    pub(crate) fn want(&self, object: Object, file: &Arc<T>) {
        let mut state = self.lock();
        if !state.wanted.iter().any(|(wanted, _)| *wanted == object) {
            state.wanted.push((object, Arc::clone(file)));
        }
        drop(state);
        self.changed.notify_all();
    }

    /// This file was removed: its room becomes free when whoever comes first lets go of it.
    pub(crate) fn let_go(&self, file: Arc<T>) {
        self.lock().removed.push(file);
        self.changed.notify_all();
    }

    /// Fails where a sync failed: then nothing is known about what was written.
    pub(crate) fn check(&self) -> Result<(), Failed> {
        self.lock().failed.clone().map_or(Ok(()), Err)
    }

    /// Syncs what was written to this file so far, and tells of it: unless the last that was asked for is not over.
    pub(crate) fn begin(&self, object: Object, file: &Arc<T>) -> bool {
        let mut state = self.lock();
        if state.spoilt || state.asked.as_ref().is_some_and(|asked| asked.stage != Stage::Done) {
            return false;
        }
        state.asked = Some(Asked { object, file: Arc::clone(file), stage: Stage::Wanted });
        drop(state);
        self.changed.notify_all();
        true
    }

    /// How the sync went that was asked for, told once when it is over.
    pub(crate) fn poll(&self) -> Option<Result<(), Failed>> {
        self.lock().told()
    }

    /// Waits until the sync that was asked for is over, and does it where nobody else has begun to.
    pub(crate) fn finish(&self) -> Option<Result<(), Failed>> {
        let mut state = self.lock();
        loop {
            let stage = state.asked.as_ref().map(|asked| asked.stage);
            if stage.is_none_or(|stage| stage == Stage::Done) || state.failed.is_some() {
                return state.told();
            }
            state = if state.busy { self.wait(state) } else { self.work(state) };
        }
    }

    /// The log is about to sync all itself: nothing is wanted any more, for what was asked for is synced with the rest, and
    /// none is under way when this returns, or begun before [`settled`](Self::settled).
    pub(crate) fn settle(&self) -> Result<(), Failed> {
        let mut state = self.lock();
        state.wanted.clear();
        let removed = core::mem::take(&mut state.removed);
        if let Some(asked) = state.asked.as_mut().filter(|asked| asked.stage == Stage::Wanted) {
            asked.stage = Stage::UnderWay;
        }
        while state.busy {
            state = self.wait(state);
        }
        let settled = state.failed.clone().map_or(Ok(()), Err);
        drop(state);
        // Durable their removal is with the sync that comes, and then their room is to be free.
        drop(removed);
        settled
    }

    /// The log has synced all itself, what was asked for with it, or failed to.
    pub(crate) fn settled(&self, succeeded: bool) {
        let mut state = self.lock();
        if !succeeded {
            (state.spoilt, state.asked) = (true, None);
        } else if let Some(asked) = &mut state.asked {
            asked.stage = Stage::Done;
        }
    }

    /// Waits until something is wanted and syncs it; `false`: the directory was closed.
    pub(crate) fn step(&self) -> bool {
        let mut state = self.lock();
        loop {
            if state.closed {
                return false;
            }
            if state.is_wanted() && !state.busy {
                drop(self.work(state));
                return true;
            }
            state = self.wait(state);
        }
    }

    /// Waits until nothing is to be synced ahead any more, and does it where nobody else has begun to.
    pub(crate) fn catch_up(&self) {
        let mut state = self.lock();
        while !state.closed && state.failed.is_none() && (state.busy || state.is_wanted()) {
            state = if state.busy { self.wait(state) } else { self.work(state) };
        }
    }

    /// Lets go of files that were removed, or syncs one file that is wanted.
    fn work<'a>(&'a self, mut state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        let removed = core::mem::take(&mut state.removed);
        if !removed.is_empty() {
            drop(state);
            drop(removed);
            return self.lock();
        }
        let (object, file, counts) = match &mut state.asked {
            Some(asked) if asked.stage == Stage::Wanted => {
                asked.stage = Stage::UnderWay;
                (asked.object, Arc::clone(&asked.file), true)
            }
            _ => match state.wanted.pop() {
                Some((object, file)) => (object, file, false),
                None => return state,
            },
        };
        state.busy = true;
        drop(state);
        // What counts for nobody may have been removed by the log itself meanwhile.
        let synced = if counts { file.sync_named(false) } else { file.sync_data() };
        // With the last of its handles a file's lock goes: whoever waits for this is to find it gone.
        drop(file);
        let mut state = self.lock();
        state.busy = false;
        if let Some(asked) = state.asked.as_mut().filter(|asked| asked.stage == Stage::UnderWay) {
            asked.stage = Stage::Done;
        }
        if let Err(error) = synced {
            state.failed.get_or_insert(Failed { object, error: Arc::new(error) });
        }
        self.changed.notify_all();
        state
    }

    #[cfg(test)]
    pub(crate) fn is_wanted(&self) -> bool {
        self.lock().is_wanted()
    }

    /// Nothing is synced ahead any more, and no file is held when this returns.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.wanted.clear();
        state.removed.clear();
        state.asked = None;
        self.changed.notify_all();
        while state.busy {
            state = self.wait(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use duralog_core::SegmentId;

    use super::*;

    #[test]
    fn what_was_asked_for_and_is_not_begun_is_synced_by_the_log_alone() {
        let ahead = Ahead::new();
        let file = Arc::new(tempfile::tempfile().unwrap());
        assert!(ahead.begin(Object::Segment(SegmentId::new(1)), &file));
        assert!(ahead.is_wanted());
        ahead.settle().unwrap();
        assert!(!ahead.is_wanted(), "the thread beside would sync it at the same time, and take an error away");
        assert!(ahead.poll().is_none(), "it is not over");
        ahead.settled(true);
        assert!(ahead.poll().unwrap().is_ok());
    }
}
