//! Memory, counted: what an append and a reader take, and that neither grows with the log.
#![allow(missing_docs)]

use std::{
    alloc::System,
    path::Path,
    sync::{Mutex, PoisonError},
};

use duralog::{Config, Flow, Log, Lsn, SyncMode};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The counts are those of the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const SEGMENT: u32 = 1 << 20;
const WRITE_LIMIT: u32 = 64 << 10;
/// What the test harness itself may do meanwhile.
const SOME: usize = 100;

/// A log without threads of its own, so that nothing else allocates.
fn config(dir: &Path, mode: SyncMode) -> Config {
    let config = Config::new(dir).with_segment_size(SEGMENT).with_write_limit(WRITE_LIMIT).with_sync_mode(mode);
    Config { preallocate_segments: false, idle_mark: None, write_behind: None, ..config }
}

/// Bytes held beyond those held when the region began.
fn held(stats: Stats) -> isize {
    let bytes = |n: usize| isize::try_from(n).unwrap();
    bytes(stats.bytes_allocated) - bytes(stats.bytes_deallocated) + stats.bytes_reallocated
}

#[test]
fn an_append_that_finds_its_buffer_allocates_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(config(dir.path(), SyncMode::Immediate)).unwrap();
    let bytes = [7; 100];
    // Both buffers have been used, and the segment goes on behind what is counted.
    for _ in 0..10 {
        log.append(&bytes[..]).unwrap();
    }
    let region = Region::new(ALLOCATOR);
    for _ in 0..1000 {
        log.append(&bytes[..]).unwrap();
    }
    let stats = region.change();
    assert!(stats.allocations + stats.reallocations < SOME, "{stats:?}");
}

#[test]
fn appends_that_do_not_wait_hold_no_more_than_two_buffers_of_the_write_limit() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(config(dir.path(), SyncMode::Async)).unwrap();
    let bytes = [7; 1000];
    let region = Region::new(ALLOCATOR);
    let mut most = 0;
    for _ in 0..4 * SEGMENT as usize / bytes.len() {
        log.append(&bytes[..]).unwrap();
        most = most.max(held(region.change()));
    }
    // One is staged into while the other is written; a new segment takes one as its scratch memory.
    let limit = 2 * isize::try_from(WRITE_LIMIT).unwrap() + (1 << 20);
    assert!(most < limit, "{most} bytes, and the log has {}", 4 * SEGMENT);
    log.close().unwrap();
}

#[test]
fn opening_and_reading_hold_the_same_memory_however_long_the_log_is() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let counts = [2, 12].map(|segments| {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(config(dir.path(), SyncMode::Async)).unwrap();
        let bytes = [7; 1000];
        let entries = segments * SEGMENT as usize / bytes.len();
        for _ in 0..entries {
            log.append(&bytes[..]).unwrap();
        }
        log.close().unwrap();
        drop(log);

        let region = Region::new(ALLOCATOR);
        let log = Log::open(config(dir.path(), SyncMode::Async)).unwrap();
        let mut found = log.read_from(Lsn::ZERO).unwrap();
        let opened = region.change();
        let (mut count, mut most) = (0, 0);
        let reading = Region::new(ALLOCATOR);
        let seen = found.visit(|entry| {
            count += usize::from(entry.payload == bytes);
            most = most.max(held(region.change()));
            Flow::Continue
        });
        seen.unwrap();
        assert_eq!(count, entries);
        let read = reading.change();
        // A path for each file that is opened, and nothing for an entry.
        assert!(read.allocations < SOME + 20 * segments, "{read:?}");
        assert!(most < 8 << 20, "{most} bytes");
        drop(found);

        // And backwards, and one by one, where each entry is handed out with its bytes.
        let (mut back, mut most_back) = (0, 0);
        for entry in log.read_back_to(Lsn::ZERO).unwrap() {
            back += usize::from(entry.unwrap().payload == bytes);
            most_back = most_back.max(held(region.change()));
        }
        let (mut ahead, mut most_ahead) = (0, 0);
        for entry in log.read_from(Lsn::ZERO).unwrap() {
            ahead += usize::from(entry.unwrap().payload == bytes);
            most_ahead = most_ahead.max(held(region.change()));
        }
        assert_eq!((back, ahead), (entries, entries));
        assert!(most_back < 8 << 20 && most_ahead < 8 << 20, "{most_back} and {most_ahead} bytes");
        (held(opened), most, most_back, most_ahead)
    });
    // The names of the files are held.
    let [short, long] = counts;
    for (short, long) in [(short.1, long.1), (short.2, long.2), (short.3, long.3)] {
        assert!((short - long).abs() < 64 << 10, "{counts:?}");
    }
}
