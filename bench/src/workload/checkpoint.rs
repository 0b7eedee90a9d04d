//! W8: a checkpoint of many documents while others append, and a state built up from it.

use core::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use std::{fs, path::PathBuf, thread, time::Instant};

use duralog::{Config, MemoryStore, Operation, SyncMode};
use uuid::Uuid;

use super::Ground;
use crate::{
    Result,
    baseline::RawRead,
    ratio::{Block, Side, compare},
    table::Row,
};

/// Text and embedding of a document: 1.6 KiB.
const TEXT: usize = 102;
const DIMENSIONS: usize = 384;

/// W8.
pub(super) fn checkpoints(ground: &Ground) -> Result<Vec<Row>> {
    let dir = tempfile::tempdir_in(&ground.dir)?;
    let log = dir.path().join("log");
    let store: MemoryStore = MemoryStore::open(Config::new(&log))?;
    for _ in 0..ground.scale.documents {
        store.apply(document())?;
    }
    store.close()?;
    drop(store);

    let store: MemoryStore = MemoryStore::open(Config::new(&log).with_sync_mode(SyncMode::Immediate))?;
    let usual = {
        let mut waits = waits(&store, &AtomicBool::new(false), 50)?;
        waits.sort_unstable();
        waits[waits.len() / 2]
    };
    let done = AtomicBool::new(false);
    let (longest, time) = thread::scope(|scope| {
        let appends = scope.spawn(|| waits(&store, &done, usize::MAX).map_err(|error| error.to_string()));
        let start = Instant::now();
        let made = store.checkpoint();
        let time = start.elapsed();
        done.store(true, Ordering::Relaxed);
        made?;
        let longest = appends.join().map_err(|_| "the appending thread panicked")??.into_iter().max();
        Ok::<_, crate::Error>((longest.unwrap_or_default(), time))
    })?;
    let name = format!("W8 {} documents", ground.scale.documents);
    let mut rows = vec![
        Row::time(&name, "checkpoint", time, None),
        Row::time(&name, "longest append meanwhile", longest, Some(usual * 10)),
    ];
    store.close()?;
    drop(store);

    let file = fs::read_dir(&log)?.filter_map(|entry| Some(entry.ok()?.path()));
    let file = file.filter(|path| path.extension().is_some_and(|ending| ending == "ckpt")).max();
    let file = file.ok_or("there is no checkpoint")?;
    let bytes = fs::metadata(&file)?.len();
    let raw = || Box::new(RawRead::of(file.clone()));
    let mut sides: Vec<Box<dyn Side>> = vec![Box::new(Load { log, bytes }), raw(), raw()];
    let outcomes = compare(&ground.scale, &mut sides)?;
    rows.extend(Row::of("W8 load of the checkpoint", TEXT + 4 * DIMENSIONS, Some(0.5), &outcomes));
    Ok(rows)
}

fn document() -> Operation {
    Operation::insert(Uuid::new_v4(), "x".repeat(TEXT), vec![0.5; DIMENSIONS])
}

/// Durable appends until `done`, at most `most`.
fn waits(store: &MemoryStore, done: &AtomicBool, most: usize) -> Result<Vec<Duration>> {
    let mut waits = Vec::new();
    while !done.load(Ordering::Relaxed) && waits.len() < most {
        let operation = document();
        let before = Instant::now();
        store.apply(operation)?;
        waits.push(before.elapsed());
    }
    Ok(waits)
}

struct Load {
    log: PathBuf,
    bytes: u64,
}

impl Side for Load {
    fn name(&self) -> String {
        "duralog".into()
    }

    fn block(&mut self, _: Duration) -> Result<Block> {
        let start = Instant::now();
        let store: MemoryStore = MemoryStore::open(Config::new(&self.log))?;
        let time = start.elapsed();
        if store.rebuilt().checkpoint_used.is_none() {
            return Err("the checkpoint was not used".into());
        }
        Ok(Block { bytes: self.bytes, time, waits: Vec::new() })
    }
}
