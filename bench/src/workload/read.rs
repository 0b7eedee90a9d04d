//! W5: opening a log and reading every entry.

use core::time::Duration;
use std::time::Instant;

use duralog::{Config, Durability, Flow, Log, Lsn, SyncMode};

use super::{Ground, PAYLOADS};
use crate::{
    Result,
    baseline::RawRead,
    ratio::{Block, Side, compare},
    subject::FRAME,
    table::Row,
};

const TARGETS: [f64; 3] = [0.3, 0.6, 0.85];

/// W5.
pub(super) fn iterate(ground: &Ground) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let len = ground.scale.log;
    for (payload, target) in PAYLOADS.into_iter().zip(TARGETS) {
        let dir = tempfile::tempdir_in(&ground.dir)?;
        let config = Config::new(dir.path().join("log")).with_sync_mode(SyncMode::Async);
        let log = Log::open(config.clone())?;
        let (bytes, entries) = (vec![5; payload], len / (payload as u64 + FRAME));
        for _ in 0..entries {
            log.append_with(&bytes[..], Durability::Buffered)?;
        }
        log.close()?;
        let raw = || RawRead::new(&ground.dir, len);
        let mut sides: Vec<Box<dyn Side + '_>> =
            vec![Box::new(Iterate { config, entries, payload }), Box::new(raw()?), Box::new(raw()?)];
        let outcomes = compare(&ground.scale, &mut sides)?;
        rows.extend(Row::of("W5 open and iterate", payload, Some(target), &outcomes));
    }
    Ok(rows)
}

struct Iterate {
    config: Config,
    entries: u64,
    payload: usize,
}

impl Side for Iterate {
    fn name(&self) -> String {
        "duralog".into()
    }

    fn block(&mut self, _: Duration) -> Result<Block> {
        let start = Instant::now();
        let log = Log::open(self.config.clone())?;
        let (mut count, mut bytes) = (0, 0);
        log.read_from(Lsn::ZERO)?.visit(|entry| {
            count += 1;
            bytes += entry.payload.len() as u64;
            Flow::Continue
        })?;
        let time = start.elapsed();
        if (count, bytes) != (self.entries, self.entries * self.payload as u64) {
            return Err(format!("{count} entries of {}", self.entries).into());
        }
        Ok(Block { bytes: bytes + count * FRAME, time, waits: Vec::new() })
    }
}
