//! What opening costs: headers and the newest segment, whatever the log holds; counted, not timed.
//!
//! In memory and in files. With the variable `DURALOG_FULL_SIZE` set, files hold 64 MiB and 1 GiB in segments of the usual
//! size, else a sixteenth of that and less.
#![allow(missing_docs)]

use std::{
    alloc::System,
    env, fs,
    path::Path,
    sync::{Arc, Mutex},
};

use duralog::{
    Config, FileDevice, Geometry, Log, Lsn, MemoryDevice, Policy, SharedDevice, SyncMode, file::FileOptions,
};
use duralog_tests::{Counter, Watched};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const IN_MEMORY: u32 = 64 << 10;
const GEOMETRY: Geometry =
    Geometry { segment_size: IN_MEMORY, granule: 1, copy_offset: 128, blank: 0, settled: false, slots: None };

#[derive(Debug, Default)]
struct Counts {
    /// Bytes read where headers stand, and of anything else.
    headers: u64,
    others: u64,
    largest: usize,
}

fn config(segment: u32) -> Config {
    Config { environment: Counter::new(), idle_mark: None, write_behind: None, ..Config::new("memory") }
        .with_segment_size(segment)
        .with_sync_mode(SyncMode::Async)
        .with_policy(Policy::Default)
}

/// What opening a log reads and allocates.
#[derive(Debug)]
struct Opening {
    counts: Counts,
    allocated: usize,
    segments: u64,
}

/// Fills so many segments and a little more.
fn fill<D: SharedDevice>(log: &Log<D>, segments: u64, segment: u32) {
    let entry = vec![7; segment as usize / 32];
    // Fewer than fit: to look after each where that may be the last of its segment would take longer than all else.
    for _ in 0..segments * 28 {
        log.append(&entry[..]).unwrap();
    }
    while log.stats().unwrap().total_segments <= segments {
        log.append(&entry[..]).unwrap();
    }
    for n in 1..=5 {
        log.append(&[n; 700][..]).unwrap();
    }
    log.sync().unwrap();
}

/// Opens a log on a device and counts.
fn opened<D: SharedDevice>(device: D, segment: u32, last: Lsn) -> Opening {
    let counts = Arc::new(Mutex::new(Counts::default()));
    let seen = Arc::clone(&counts);
    let headers_end = u64::from(device.geometry().copy_offset) + 128;
    let device = Watched::new(device, move |call| {
        let mut counts = seen.lock().unwrap();
        counts.largest = counts.largest.max(call.len);
        if call.at + call.read as u64 <= headers_end {
            counts.headers += call.read as u64;
        } else {
            counts.others += call.read as u64;
        }
    });
    let region = Region::new(ALLOCATOR);
    let log = Log::open_device(device, config(segment)).unwrap();
    let allocated = region.change().bytes_allocated;
    let counts = core::mem::take(&mut *counts.lock().unwrap());
    assert_eq!((log.recovery().last_valid_lsn, log.recovery().low_water), (last, Lsn::FIRST));
    Opening { counts, allocated, segments: log.stats().unwrap().total_segments }
}

/// What it costs to open a log in memory, closed or as a kill leaves it.
fn in_memory(segments: u64, closed: bool) -> Opening {
    let medium = MemoryDevice::new(GEOMETRY);
    let reader = medium.reader();
    let log = Log::open_device(medium, config(IN_MEMORY)).unwrap();
    fill(&log, segments, IN_MEMORY);
    // What a kill leaves is what lay on the medium at that moment.
    if closed {
        log.close().unwrap();
    }
    let copy = MemoryDevice::new(GEOMETRY);
    for name in reader.names() {
        copy.put(name, reader.object(name).unwrap());
    }
    opened(copy, IN_MEMORY, log.current_lsn().previous())
}

/// The same of a log in files.
fn in_files(segments: u64, segment: u32, closed: bool) -> Opening {
    let (place, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = Log::open(Config { dir: place.path().to_owned(), ..config(segment) }).unwrap();
    fill(&log, segments, segment);
    if closed {
        log.close().unwrap();
    }
    copy_files(place.path(), copy.path());
    let options = FileOptions { segment_size: segment, ..FileOptions::default() };
    opened(FileDevice::open(copy.path(), options).unwrap(), segment, log.current_lsn().previous())
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// That the large one costs no more than the small one, but for headers, and for the names of its objects.
fn costs_no_more(what: &str, small: &Opening, large: &Opening, segment: u32, name: usize) {
    println!("{what}: {small:?}\n{:>width$}  {large:?}", "", width = what.len());
    let more = large.segments - small.segments;
    assert!(more >= 15, "{what}: the log is no larger");
    assert_eq!(small.counts.others, large.counts.others, "{what}: bytes read besides headers");
    assert!(large.counts.others <= 2 * u64::from(segment), "{what}: more than the newest segment was read");
    assert_eq!(
        large.counts.headers - small.counts.headers,
        more * 256,
        "{what}: both copies of each header, each once"
    );
    assert_eq!(small.counts.largest, large.counts.largest, "{what}");
    let names = usize::try_from(more).unwrap() * name + 1024;
    assert!(large.allocated <= small.allocated + names, "{what}: {} and {} bytes", small.allocated, large.allocated);
}

// One test, for the allocator is the process's.
#[test]
fn opening_reads_headers_and_the_newest_segment_alone_after_a_close_and_after_a_kill() {
    for closed in [true, false] {
        let what = if closed { "in memory, after a close" } else { "in memory, after a kill" };
        // Not a byte a segment: what is left is a node of the table in which the memory keeps its objects.
        costs_no_more(what, &in_memory(15, closed), &in_memory(255, closed), IN_MEMORY, 0);
    }
    let full = env::var_os("DURALOG_FULL_SIZE").is_some();
    let (small, large, segment) = if full { (1, 16, 64 << 20) } else { (1, 16, 256 << 10) };
    if !full {
        println!("in files: segments of 256 KiB; with DURALOG_FULL_SIZE set, of 64 MiB, up to 1 GiB");
    }
    for closed in [true, false] {
        let what = if closed { "in files, after a close" } else { "in files, after a kill" };
        // A folder's names are listed, whatever they are the names of.
        costs_no_more(what, &in_files(small, segment, closed), &in_files(large, segment, closed), segment, 512);
    }
}
