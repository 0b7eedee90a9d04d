//! The background thread: syncs what is outstanding, and marks a log that has fallen idle.

use std::{
    sync::{Arc, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

use crate::{
    commit::Shared,
    config::SyncMode,
    device::{DeviceFailure, SharedDevice},
    error::{Error, Result},
};

/// Starts the thread that syncs in the background and marks a log that has fallen idle.
pub(crate) fn background<D: SharedDevice>(shared: &Arc<Shared<D>>) -> Result<Option<JoinHandle<()>>> {
    if !shared.has_background() {
        return Ok(None);
    }
    let shared = shared.clone();
    let thread = thread::Builder::new().name("duralog".into()).spawn(move || while work(&shared).is_some() {});
    thread.map(Some).map_err(|error| Error::Open(DeviceFailure::new(error)))
}

/// One round of the background thread; `None` ends it.
fn work<D: SharedDevice>(shared: &Shared<D>) -> Option<()> {
    let mut guard = shared.lock();
    while guard.resting && !guard.closed {
        guard = shared.woken.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
    let interval = match shared.sync_mode {
        SyncMode::Batched(interval) => Some(interval),
        SyncMode::Immediate | SyncMode::Async => None,
    };
    let pause = interval.into_iter().chain(shared.idle_mark).min()?;
    let before = guard.activity;
    let until = Instant::now() + pause;
    loop {
        if guard.closed {
            return None;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        guard = shared.woken.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    let quiet = guard.activity == before;
    let outstanding = guard.writer.durable() < guard.writer.next_lsn().previous();
    let mark_due = shared.idle_mark.is_some() && guard.writer.mark_due();
    guard.resting = quiet && !(outstanding && interval.is_some()) && !mark_due || guard.cause.is_some();
    drop(guard);
    if interval.is_some() && outstanding || quiet && mark_due {
        shared.background_work(quiet && shared.idle_mark.is_some());
    }
    Some(())
}
