//! W3: one thread that does not wait for each append, and one sync at the end.

use core::time::Duration;
use std::time::Instant;

use duralog::SyncMode;

use super::{Ground, PAYLOADS};
use crate::{
    Result,
    baseline::RawStream,
    ratio::{Block, Side, compare},
    subject::{FRAME, Subject},
    table::Row,
};

const TARGETS: [f64; 3] = [0.5, 0.7, 0.85];

/// W3.
pub(super) fn stream(ground: &Ground) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut own = Subject::steady(&ground.dir, SyncMode::Async, 64 << 20)?;
    let mut batched = Subject::steady(&ground.dir, SyncMode::default(), 64 << 20)?;
    for (payload, target) in PAYLOADS.into_iter().zip(TARGETS) {
        let len = ground.scale.stream;
        let raw = || RawStream::new(&ground.dir, len);
        let mut sides: Vec<Box<dyn Side + '_>> = vec![
            Box::new(Stream { name: "duralog, Async", subject: &mut own, len, bytes: vec![3; payload] }),
            Box::new(raw()?),
            Box::new(raw()?),
            Box::new(Stream { name: "duralog, Batched", subject: &mut batched, len, bytes: vec![3; payload] }),
        ];
        let outcomes = compare(&ground.scale, &mut sides)?;
        rows.extend(Row::of("W3 stream, steady", payload, Some(target), &outcomes));
    }
    Ok(rows)
}

struct Stream<'a> {
    name: &'static str,
    subject: &'a mut Subject,
    len: u64,
    bytes: Vec<u8>,
}

impl Side for Stream<'_> {
    fn name(&self) -> String {
        self.name.into()
    }

    fn block(&mut self, _: Duration) -> Result<Block> {
        let each = self.bytes.len() as u64 + FRAME;
        let start = Instant::now();
        for _ in 0..self.len / each {
            self.subject.log.append(&self.bytes[..])?;
            self.subject.passed(each)?;
        }
        self.subject.log.sync()?;
        let time = start.elapsed();
        self.subject.count()?;
        Ok(Block { bytes: self.len / each * each, time, waits: Vec::new() })
    }
}
