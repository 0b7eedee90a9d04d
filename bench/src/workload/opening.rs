//! W6: how long it takes until a log is open, after a close and after a kill.

use core::time::Duration;
use std::{path::Path, process::Command, time::Instant};

use duralog::{Config, Durability, Log, SyncMode};

use super::Ground;
use crate::{Result, table::Row};

const PAYLOAD: usize = 1638;
const TRIES: usize = 5;

/// W6.
pub(super) fn openings(ground: &Ground) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut first = None;
    for &size in &ground.scale.openings {
        let dir = tempfile::tempdir_in(&ground.dir)?;
        let log = dir.path().join("log");
        fill(&log, size)?.close()?;
        let times = (0..TRIES).map(|_| open(&log, true)).collect::<Result<Vec<_>>>()?;
        let time = median(times);
        let named = format!("W6 open, {} MiB", size >> 20);
        rows.push(Row::time(&named, "after a close", time, Some(Duration::from_millis(2))));
        let base = *first.get_or_insert(time);
        if size == 8 << 30 {
            let target = base * 3 / 2 + Duration::from_micros(10) * 128;
            rows.push(Row::time(&named, "against 64 MiB", time, Some(target)));
        }
        // The kill comes in the middle of the last segment.
        let killed = Command::new(std::env::current_exe()?).arg("fill-and-die").arg(&log).status()?;
        if killed.success() {
            return Err("the process that was to be killed ended by itself".into());
        }
        rows.push(Row::time(&named, "after a kill", open(&log, false)?, None));
    }
    Ok(rows)
}

fn config(dir: &Path) -> Config {
    Config::new(dir).with_sync_mode(SyncMode::Async)
}

fn fill(dir: &Path, size: u64) -> Result<Log> {
    let log = Log::open(config(dir))?;
    let bytes = vec![9; PAYLOAD];
    for _ in 0..size / (PAYLOAD as u64 + crate::subject::FRAME) {
        log.append_with(&bytes[..], Durability::Buffered)?;
    }
    Ok(log)
}

/// What the process does that is killed: half a segment more, made durable, and an abrupt end.
pub(crate) fn fill_and_die(dir: &Path) -> Result<()> {
    let log = fill(dir, 32 << 20)?;
    log.sync()?;
    std::process::abort();
}

fn open(dir: &Path, closed: bool) -> Result<Duration> {
    let start = Instant::now();
    let log = Log::open(config(dir))?;
    let time = start.elapsed();
    if log.recovery().closed != closed {
        return Err("the log was not found as it was left".into());
    }
    log.close()?;
    Ok(time)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
