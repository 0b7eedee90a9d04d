//! W1, W2 and W4: durable appends by one thread, by many, by tasks, and in batches.

use core::time::Duration;
use std::{path::PathBuf, thread, time::Instant};

use duralog::SyncMode;

use super::{Ground, PAYLOADS};
use crate::{
    Result,
    baseline::RawLoop,
    peers::Task,
    ratio::{Block, Side, compare},
    subject::{Condition, FRAME, Subject, growing_segment},
    table::Row,
};

const USUAL: u32 = 64 << 20;
const TARGETS_W1: [f64; 3] = [1.0, 1.0, 0.95];
const TARGETS_W4: [f64; 3] = [1.0, 1.0, 0.9];
/// Of the zeroed file's loop; where there is none, 0.95 of the allocated one's.
const TARGETS_GROWING: [Option<f64>; 3] = [Some(0.9), Some(0.9), None];
const THREADS: [(usize, [f64; 3]); 3] = [(8, [4.0, 3.8, 2.5]), (64, [20.0, 12.0, 4.0]), (256, [20.0, 12.0, 4.0])];
const TASKS: usize = 1000;

/// W1.
pub(super) fn one_thread(ground: &Ground) -> Result<Vec<Row>> {
    let mut rows = steady(ground, "W1 one thread", 1, 1, TARGETS_W1)?;
    for payload in PAYLOADS {
        if ground.scale.full || payload == PAYLOADS[1] {
            rows.extend(growing(ground, "W1 one thread", 1, 1, payload)?);
        }
    }
    Ok(rows)
}

/// W2.
pub(super) fn many_threads(ground: &Ground) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (threads, targets) in THREADS {
        let name = format!("W2 {threads} threads");
        rows.extend(steady(ground, &name, threads, 1, targets)?);
        if ground.scale.full {
            for payload in PAYLOADS {
                rows.extend(growing(ground, &name, threads, 1, payload)?);
            }
        }
    }
    rows.extend(tasks(ground)?);
    Ok(rows)
}

/// W4.
pub(super) fn batches(ground: &Ground) -> Result<Vec<Row>> {
    let mut rows = steady(ground, "W4 batches of 100", 1, 100, TARGETS_W4)?;
    if ground.scale.full {
        for payload in PAYLOADS {
            rows.extend(growing(ground, "W4 batches of 100", 1, 100, payload)?);
        }
    }
    Ok(rows)
}

/// On a log that is checkpointed and truncated as it runs.
fn steady(ground: &Ground, name: &str, threads: usize, batch: usize, targets: [f64; 3]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut subject = Subject::steady(&ground.dir, SyncMode::Immediate, USUAL)?;
    for (payload, target) in PAYLOADS.into_iter().zip(targets) {
        let raw = || RawLoop::zeroed(&ground.dir, payload * batch);
        let writers = Writers { subject: &mut subject, threads, batch, bytes: vec![3; payload] };
        let mut sides: Vec<Box<dyn Side + '_>> = vec![Box::new(writers), Box::new(raw()?), Box::new(raw()?)];
        sides.extend(
            ground.peers(payload, Task::Durable { threads, batch })?.into_iter().map(|side| side as Box<dyn Side>),
        );
        let outcomes = compare(&ground.scale, &mut sides)?;
        let name = format!("{name}, {}", Condition::Steady.name());
        rows.extend(Row::of(&name, payload, Some(target), &outcomes));
    }
    Ok(rows)
}

/// On logs that are new for each block, beside the loop into a file that is merely allocated as well.
fn growing(ground: &Ground, name: &str, threads: usize, batch: usize, payload: usize) -> Result<Vec<Row>> {
    let len = payload * batch;
    let target = PAYLOADS.iter().position(|one| *one == payload).and_then(|at| TARGETS_GROWING[at]);
    let full = ground.scale.full;
    let side = Growing { dir: ground.dir.clone(), full, threads, batch, bytes: vec![3; payload] };
    let mut sides: Vec<Box<dyn Side>> = vec![
        Box::new(side),
        Box::new(RawLoop::zeroed(&ground.dir, len)?),
        Box::new(RawLoop::zeroed(&ground.dir, len)?),
        Box::new(RawLoop::allocated(&ground.dir, len)?),
    ];
    let outcomes = compare(&ground.scale, &mut sides)?;
    let name = format!("{name}, {}, segments of {} KiB", Condition::Growing.name(), growing_segment(len, full) >> 10);
    let mut rows = Row::of(&name, payload, target, &outcomes);
    // The aim is 0.95 of the allocated loop: its ratio stands in its own row.
    if let (Some(row), Some(allocated)) = (rows.first_mut(), outcomes.last())
        && target.is_none()
    {
        row.target = Some(0.95 * allocated.ratio.median);
    }
    Ok(rows)
}

/// Threads that append to one log.
struct Writers<'a> {
    subject: &'a mut Subject,
    threads: usize,
    batch: usize,
    bytes: Vec<u8>,
}

impl Side for Writers<'_> {
    fn name(&self) -> String {
        "duralog".into()
    }

    fn block(&mut self, least: Duration) -> Result<Block> {
        let block = append(self.subject, self.threads, self.batch, &self.bytes, |spent, _| spent < least)?;
        self.subject.count()?;
        Ok(block)
    }
}

/// Logs of their own, each with at least four rotations.
struct Growing {
    dir: PathBuf,
    full: bool,
    threads: usize,
    batch: usize,
    bytes: Vec<u8>,
}

impl Side for Growing {
    fn name(&self) -> String {
        "duralog".into()
    }

    fn block(&mut self, least: Duration) -> Result<Block> {
        let size = growing_segment(self.bytes.len() * self.batch, self.full);
        let subject = Subject::new(&self.dir, SyncMode::Immediate, size)?;
        let each = (self.bytes.len() as u64 + FRAME) * self.batch as u64;
        let enough = u64::from(size) / each * 9 / 2 / self.threads as u64;
        let goes_on = |spent, appends| spent < least || appends < enough;
        let block = append(&subject, self.threads, self.batch, &self.bytes, goes_on)?;
        let appended = block.bytes / self.bytes.len() as u64;
        subject.reopen_and_count(appended)?;
        Ok(block)
    }
}

/// Appends by threads, each as long as it `goes_on`, which is told the time spent and its appends so far.
fn append(
    subject: &Subject,
    threads: usize,
    batch: usize,
    bytes: &[u8],
    goes_on: impl Fn(Duration, u64) -> bool + Sync,
) -> Result<Block> {
    let (start, mut waits) = (Instant::now(), Vec::new());
    let len = (bytes.len() * batch) as u64;
    let one = || -> Result<Vec<Duration>> {
        let mut waits = Vec::new();
        let payloads = vec![bytes; batch];
        while goes_on(start.elapsed(), waits.len() as u64) {
            let before = Instant::now();
            match batch {
                1 => drop(subject.log.append(bytes)?),
                _ => drop(subject.log.append_batch(&payloads)?),
            }
            waits.push(before.elapsed());
            if subject.is_steady() {
                subject.passed(len)?;
            }
        }
        Ok(waits)
    };
    thread::scope(|scope| {
        let writers: Vec<_> = (0..threads).map(|_| scope.spawn(|| one().map_err(|error| error.to_string()))).collect();
        for writer in writers {
            waits.extend(writer.join().map_err(|_| "a writer panicked")??);
        }
        Ok::<_, crate::Error>(())
    })?;
    let time = start.elapsed();
    Ok(Block { bytes: len * waits.len() as u64, time, waits })
}

/// W2 with tasks: on the runtime with two workers.
fn tasks(ground: &Ground) -> Result<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let mut rows = Vec::new();
    for (payload, target) in PAYLOADS.into_iter().zip(THREADS[1].1) {
        let dir = tempfile::tempdir_in(&ground.dir)?;
        let config = duralog::Config::new(dir.path().join("log")).with_sync_mode(SyncMode::Immediate);
        let log = runtime.block_on(duralog::tokio::Log::open(config))?;
        let tasks = Tasks { runtime: &runtime, log: log.clone(), bytes: vec![3; payload] };
        let raw = || RawLoop::zeroed(&ground.dir, payload);
        let mut sides: Vec<Box<dyn Side + '_>> = vec![Box::new(tasks), Box::new(raw()?), Box::new(raw()?)];
        let outcomes = compare(&ground.scale, &mut sides)?;
        rows.extend(Row::of(&format!("W2 {TASKS} tokio tasks"), payload, Some(target), &outcomes));
        runtime.block_on(log.close())?;
    }
    Ok(rows)
}

struct Tasks<'a> {
    runtime: &'a tokio::runtime::Runtime,
    log: duralog::tokio::Log,
    bytes: Vec<u8>,
}

impl Side for Tasks<'_> {
    fn name(&self) -> String {
        "duralog".into()
    }

    fn block(&mut self, least: Duration) -> Result<Block> {
        let first = self.log.current_lsn();
        let start = Instant::now();
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (log, bytes) = (self.log.clone(), self.bytes.clone());
                self.runtime.spawn(async move {
                    let mut waits = Vec::new();
                    while start.elapsed() < least {
                        let before = Instant::now();
                        log.append(&bytes[..]).await?;
                        waits.push(before.elapsed());
                    }
                    Ok::<_, duralog::Error>(waits)
                })
            })
            .collect();
        let mut waits = Vec::new();
        for task in tasks {
            waits.extend(self.runtime.block_on(task)??);
        }
        let time = start.elapsed();
        let appended = self.log.current_lsn().value() - first.value();
        if appended != waits.len() as u64 {
            return Err(format!("{appended} entries of {}", waits.len()).into());
        }
        Ok(Block { bytes: self.bytes.len() as u64 * appended, time, waits })
    }
}
