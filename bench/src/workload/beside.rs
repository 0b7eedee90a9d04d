//! W7: durable appends while somebody reads.

use core::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use std::{path::PathBuf, thread, time::Instant};

use duralog::{LogReader, Lsn, SyncMode};

use super::{Ground, PAYLOADS};
use crate::{
    Result,
    baseline::{RawLoop, read_through, zeroed},
    ratio::{Block, Side, compare},
    subject::Subject,
    table::Row,
};

/// W7.
pub(super) fn beside(ground: &Ground) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut subject = Subject::steady(&ground.dir, SyncMode::Immediate, 64 << 20)?;
    for payload in PAYLOADS {
        let raw = || -> Result<Box<dyn Side>> {
            Ok(Box::new(RawBeside { writer: RawLoop::zeroed(&ground.dir, payload)?, file: zeroed(&ground.dir)? }))
        };
        let mut sides: Vec<Box<dyn Side + '_>> =
            vec![Box::new(Beside { subject: &mut subject, bytes: vec![3; payload] }), raw()?, raw()?];
        let outcomes = compare(&ground.scale, &mut sides)?;
        rows.extend(Row::of("W7 one thread beside a reader, steady", payload, Some(0.9), &outcomes));
    }
    Ok(rows)
}

/// Lets `read` go on again and again while `write` works.
fn while_reading<T>(read: impl Fn() -> Result<()> + Sync, write: impl FnOnce() -> Result<T>) -> Result<T> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                read().map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(())
        });
        let written = write();
        done.store(true, Ordering::Relaxed);
        reader.join().map_err(|_| "the reader panicked")??;
        written
    })
}

struct Beside<'a> {
    subject: &'a mut Subject,
    bytes: Vec<u8>,
}

impl Side for Beside<'_> {
    fn name(&self) -> String {
        "duralog".into()
    }

    fn block(&mut self, least: Duration) -> Result<Block> {
        let subject = &*self.subject;
        let read = || {
            // A reader that was overtaken by truncation begins again.
            if let Ok(entries) = LogReader::open(subject.config().clone()).and_then(|log| log.read(Lsn::ZERO, Lsn::MAX))
            {
                let _ = entries.take_while(core::result::Result::is_ok).count();
            }
            Ok(())
        };
        let block = while_reading(read, || {
            let (start, mut block) = (Instant::now(), Block::default());
            while start.elapsed() < least {
                let before = Instant::now();
                subject.log.append(&self.bytes[..])?;
                block.waits.push(before.elapsed());
                block.bytes += self.bytes.len() as u64;
                subject.passed(self.bytes.len() as u64)?;
            }
            block.time = start.elapsed();
            Ok(block)
        })?;
        self.subject.count()?;
        Ok(block)
    }
}

struct RawBeside {
    writer: RawLoop,
    file: PathBuf,
}

impl Side for RawBeside {
    fn name(&self) -> String {
        format!("{}, beside a reader", self.writer.name())
    }

    fn block(&mut self, least: Duration) -> Result<Block> {
        let (writer, file) = (&mut self.writer, &self.file);
        while_reading(|| read_through(file).map(|_| ()), || writer.block(least))
    }
}
