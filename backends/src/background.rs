//! The background threads: one syncs what is outstanding and marks a log that has fallen idle, one does what the device
//! wants done beside that.

use core::time::Duration;
use std::{
    sync::{Arc, PoisonError},
    time::Instant,
};

use duralog_core::Durability;

use crate::{
    commit::Shared,
    device::{DeviceFailure, SharedDevice},
    error::{Error, Result},
    sync::thread::{self, JoinHandle},
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

/// Starts the threads that do what the device wants done beside the log's work. They end with the device, for which
/// nobody waits: they hold nothing that belongs to the log.
pub(crate) fn beside(device: &impl SharedDevice) -> Result<()> {
    for mut work in device.beside() {
        let thread = thread::Builder::new().name("duralog-beside".into()).spawn(move || while work() {});
        thread.map_err(|error| Error::Open(DeviceFailure::new(error)))?;
    }
    Ok(())
}

/// Longer than this no pause is: a clock that counts on from now holds no more than some hundred years.
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// One round of the background thread; `None` ends it.
fn work<D: SharedDevice>(shared: &Shared<D>) -> Option<()> {
    let mut guard = shared.lock();
    while guard.resting && !guard.closed {
        guard = shared.woken.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
    let regular = shared.regular_commit();
    let pause = regular.map(|(interval, _)| interval).into_iter().chain(shared.idle_mark).min()?;
    let before = guard.activity;
    let until = Instant::now() + pause.min(LONGEST_PAUSE);
    loop {
        if guard.closed {
            return None;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        if core::mem::take(&mut guard.hand_over) {
            drop(guard);
            shared.commit_in_background(Durability::Os);
            guard = shared.lock();
            continue;
        }
        guard = shared.woken.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    let quiet = guard.activity == before;
    let outstanding = regular
        .map(|(_, durability)| durability)
        .filter(|durability| !guard.has_reached(guard.writer.next_lsn().previous(), *durability, shared.proof));
    let mark_due = shared.idle_mark.is_some() && guard.writer.mark_due();
    guard.resting = quiet && outstanding.is_none() && !mark_due || guard.cause.is_some();
    drop(guard);
    if let Some(durability) = outstanding {
        shared.commit_in_background(durability);
    } else if quiet && mark_due {
        shared.mark_idle();
    }
    Some(())
}
