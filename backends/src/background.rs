//! The background threads: one syncs what is outstanding and marks a log that has fallen idle, one does what the device
//! wants done beside that.

use core::time::Duration;
use std::{
    sync::{Arc, PoisonError},
    time::Instant,
};

use duralog_core::Durability;

use crate::{
    commit::{Shared, State},
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
    let mut quiet = Quiet::since(Instant::now());
    let thread =
        thread::Builder::new().name("duralog".into()).spawn(move || while work(&shared, &mut quiet).is_some() {});
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

/// Shorter than this none is, of those in which nothing waits to be synced.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// Since when nothing was appended.
#[derive(Clone, Copy, Debug)]
struct Quiet {
    activity: u64,
    since: Instant,
}

impl Quiet {
    fn since(now: Instant) -> Self {
        Self { activity: 0, since: now }
    }

    /// For how long the log's activity has been the same, as far as was seen.
    fn lasts(&mut self, activity: u64, now: Instant) -> Duration {
        if self.activity != activity {
            *self = Self { activity, since: now };
        }
        now.saturating_duration_since(self.since)
    }
}

/// What is to be made of that which was appended and is not that durable, if there is any.
fn outstanding<D: SharedDevice>(shared: &Shared<D>, state: &State) -> Option<Durability> {
    let (_, durability) = shared.regular_commit()?;
    let last = state.writer.next_lsn().previous();
    (!state.has_reached(last, durability, shared.proof)).then_some(durability)
}

/// For how long to wait: at most the interval of the regular commits, and until the mark.
fn pause(interval: Option<Duration>, is_waited_for: bool, until_mark: Option<Duration>) -> Option<Duration> {
    let shortest = |pause: Duration| pause.max(SHORTEST_PAUSE);
    let interval = interval.map(|interval| if is_waited_for { interval } else { shortest(interval) });
    interval.into_iter().chain(until_mark.map(shortest)).min()
}

/// When the next round is due; `None` if there is none.
fn next_round<D: SharedDevice>(shared: &Shared<D>, state: &State, quiet: &mut Quiet, now: Instant) -> Option<Instant> {
    let is_quiet_for = quiet.lasts(state.activity, now);
    let until_mark = shared.idle_mark.map(|idle| idle.saturating_sub(is_quiet_for));
    let is_waited_for = outstanding(shared, state).is_some();
    let pause = pause(shared.regular_commit().map(|(interval, _)| interval), is_waited_for, until_mark)?;
    Some(now + pause.min(LONGEST_PAUSE))
}

/// One round of the background thread; `None` ends it.
fn work<D: SharedDevice>(shared: &Shared<D>, quiet: &mut Quiet) -> Option<()> {
    let mut guard = shared.lock();
    while guard.resting && !guard.closed {
        guard = shared.woken.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
    let until = next_round(shared, &guard, quiet, Instant::now())?;
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
    let is_quiet_for = quiet.lasts(guard.activity, Instant::now());
    let outstanding = outstanding(shared, &guard);
    let mark_due = shared.idle_mark.filter(|_| guard.writer.mark_due());
    let is_quiet = !is_quiet_for.is_zero();
    guard.resting = is_quiet && outstanding.is_none() && mark_due.is_none() || guard.cause.is_some();
    drop(guard);
    if let Some(durability) = outstanding {
        shared.commit_in_background(durability);
    } else if mark_due.is_some_and(|idle| is_quiet_for >= idle) {
        shared.mark_idle();
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Durability, Geometry, Log, MemoryDevice, SyncMode};

    fn log(config: Config) -> Log<MemoryDevice> {
        let geometry =
            Geometry { segment_size: 4096, granule: 1, copy_offset: 128, blank: 0, settled: false, slots: None };
        Log::open_device(MemoryDevice::new(geometry), config.with_write_limit(1024)).unwrap()
    }

    #[test]
    fn what_was_appended_is_written_or_synced_after_the_interval_of_the_mode() {
        let [long, longer] = [3600, 7200].map(Duration::from_secs);
        for (mode, write_behind, due) in [
            (SyncMode::Batched(long), longer, long),
            (SyncMode::Batched(longer), long, longer),
            (SyncMode::Async, long, long),
            (SyncMode::Async, longer, longer),
        ] {
            let config = Config::default().with_sync_mode(mode).with_write_behind(write_behind).with_idle_mark(None);
            let log = log(config);
            log.append(&b"entry"[..]).unwrap();
            let (guard, now) = (log.shared.lock(), Instant::now());
            assert!(outstanding(&log.shared, &guard).is_some());
            let next = next_round(&log.shared, &guard, &mut Quiet::since(now), now);
            assert_eq!(next, Some(now + due), "{mode:?}");
        }
    }

    #[test]
    fn a_sync_of_a_log_that_rests_wakes_it_for_the_mark_that_proves_it() {
        let log = log(Config::default().with_idle_mark(Duration::from_secs(3600)));
        log.append_with(&b"entry"[..], Durability::Buffered).unwrap();
        // As the thread finds it some time later: nothing to sync of itself, and no mark that would say anything new.
        log.shared.lock().resting = true;
        log.sync().unwrap();
        assert!(!log.shared.lock().resting, "nobody would write the mark");
    }

    #[test]
    fn a_thread_that_nobody_waits_for_does_not_spin() {
        for interval in [Duration::ZERO, Duration::from_micros(1)] {
            assert_eq!(pause(Some(interval), true, Some(LONGEST_PAUSE)), Some(interval));
            assert_eq!(pause(Some(interval), false, Some(LONGEST_PAUSE)), Some(SHORTEST_PAUSE));
            assert_eq!(pause(None, false, Some(interval)), Some(SHORTEST_PAUSE));
        }
        assert_eq!(pause(None, false, None), None);
    }

    #[test]
    fn a_log_is_quiet_since_the_last_append_that_was_seen_however_often_it_is_looked_at() {
        let (begun, step) = (Instant::now(), Duration::from_millis(5));
        let mut quiet = Quiet::since(begun);
        assert_eq!(quiet.lasts(1, begun + step), Duration::ZERO);
        assert_eq!(quiet.lasts(1, begun + step * 2), step);
        assert_eq!(quiet.lasts(1, begun + step * 7), step * 6);
        assert_eq!(quiet.lasts(2, begun + step * 8), Duration::ZERO, "an append came");
        assert_eq!(quiet.lasts(2, begun + step * 9), step);
    }
}
