//! The hot paths, for counting their instructions: `cargo xtask instructions` runs this under valgrind, once for each.
//!
//! A log in memory, one thread, a clock that stands still: the same instructions every time.

use std::sync::Arc;

use duralog::{Config, Environment, Flow, Geometry, Log, LogReader, Lsn, MemoryDevice, SyncMode};

type Result<T> = core::result::Result<T, Box<dyn std::error::Error>>;

const SEGMENT: u32 = 64 << 20;

/// A clock that stands still, and numbers that are not random.
#[derive(Debug)]
struct Still;

impl Environment for Still {
    fn now_us(&self) -> u64 {
        1_700_000_000_000_000
    }

    fn random(&self) -> u128 {
        0x1234_5678_9abc_def0_0fed_cba9_8765_4321
    }
}

fn config(mode: SyncMode) -> Config {
    let environment: Arc<dyn Environment> = Arc::new(Still);
    let config = Config::new("unused").with_segment_size(SEGMENT).with_sync_mode(mode).with_environment(environment);
    // No thread besides this one.
    Config { idle_mark: None, write_behind: None, ..config }
}

fn device() -> MemoryDevice {
    MemoryDevice::new(Geometry {
        segment_size: SEGMENT,
        granule: 1,
        copy_offset: 4096,
        blank: 0,
        settled: false,
        slots: None,
    })
}

/// What is counted is what happens in here.
#[inline(never)]
fn counted(work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    work()
}

fn append(payload: usize, entries: usize, mode: SyncMode) -> Result<()> {
    let log = Log::open_device(device(), config(mode))?;
    let bytes = vec![1; payload];
    log.append(&bytes[..])?;
    counted(&mut || {
        for _ in 0..entries {
            log.append(&bytes[..])?;
        }
        Ok(())
    })
}

/// A log whose writer stopped without a close, and a second handle on it.
fn left(payload: usize, entries: usize) -> Result<(MemoryDevice, Log<MemoryDevice>)> {
    let medium = device();
    let reader = medium.reader();
    let log = Log::open_device(medium, config(SyncMode::Async))?;
    let bytes = vec![1; payload];
    for _ in 0..entries {
        log.append(&bytes[..])?;
    }
    log.sync()?;
    Ok((reader, log))
}

fn decode(payload: usize, entries: usize) -> Result<()> {
    let (_, log) = left(payload, entries)?;
    let mut found = log.read_from(Lsn::ZERO)?;
    let mut count = 0;
    counted(&mut || {
        found.visit(|_| {
            count += 1;
            Flow::Continue
        })?;
        Ok(())
    })?;
    if count == entries { Ok(()) } else { Err(format!("{count} entries of {entries}").into()) }
}

fn recover(payload: usize, entries: usize) -> Result<()> {
    let (reader, _log) = left(payload, entries)?;
    let mut reader = Some(reader);
    counted(&mut || {
        let reader = LogReader::open_device(reader.take().ok_or("once only")?, config(SyncMode::Async))?;
        if reader.recovery().last_valid_lsn.value() == entries as u64 {
            Ok(())
        } else {
            Err("entries are missing".into())
        }
    })
}

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("append-durable-128") => append(128, 1000, SyncMode::Immediate),
        Some("append-durable-1638") => append(1638, 1000, SyncMode::Immediate),
        Some("append-async-128") => append(128, 1000, SyncMode::Async),
        Some("decode-128") => decode(128, 1000),
        Some("decode-1638") => decode(1638, 1000),
        Some("recover-128") => recover(128, 1000),
        _ => Err("name one of those that `cargo xtask instructions` runs".into()),
    }
}
