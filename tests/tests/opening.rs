//! What opening costs: headers and the newest segment, whatever the log holds; counted, not timed.
#![allow(missing_docs)]

use std::{
    alloc::System,
    sync::{Arc, Mutex},
};

use duralog::{
    Config, Geometry, Log, Lsn, MemoryDevice, Object, Policy, SharedDevice, SyncMode,
    core::{Device, Room},
    memory::MemoryError,
};
use duralog_tests::Counter;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SEGMENT: u32 = 64 << 10;
const HEADERS: u64 = 256;
const GEOMETRY: Geometry =
    Geometry { segment_size: SEGMENT, granule: 1, copy_offset: 128, blank: 0, settled: false, slots: None };

#[derive(Debug, Default)]
struct Counts {
    /// Bytes read of headers, and of anything else.
    headers: u64,
    others: u64,
    largest: usize,
}

/// A device that counts what is read of it.
#[derive(Debug)]
struct Counted {
    device: MemoryDevice,
    counts: Arc<Mutex<Counts>>,
}

impl Device for Counted {
    type Error = MemoryError;

    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }

    fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, MemoryError> {
        self.device.next(after)
    }

    fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, MemoryError> {
        self.device.prev(before)
    }

    fn create(&mut self, object: Object, size: u64) -> Result<Room, MemoryError> {
        self.device.create(object, size)
    }

    fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, MemoryError> {
        let read = self.device.read(object, at, buf)?;
        let mut counts = self.counts.lock().unwrap();
        counts.largest = counts.largest.max(buf.len());
        if at + read as u64 <= HEADERS {
            counts.headers += read as u64;
        } else {
            counts.others += read as u64;
        }
        Ok(read)
    }

    fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        self.device.write(object, at, bytes)
    }

    fn trim(&mut self, object: Object, at: u64) -> Result<(), MemoryError> {
        self.device.trim(object, at)
    }

    fn remove(&mut self, object: Object) -> Result<(), MemoryError> {
        self.device.remove(object)
    }

    fn sync(&mut self) -> Result<(), MemoryError> {
        self.device.sync()
    }
}

impl SharedDevice for Counted {
    fn reader(&self) -> Result<Self, MemoryError> {
        Ok(Self { device: self.device.reader(), counts: Arc::clone(&self.counts) })
    }

    fn len(&mut self, object: Object) -> Result<u64, MemoryError> {
        SharedDevice::len(&mut self.device, object)
    }
}

fn config() -> Config {
    Config { environment: Counter::new(), idle_mark: None, write_behind: None, ..Config::new("memory") }
        .with_write_limit(SEGMENT / 4)
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

/// A log of so many full segments and a little more, closed or as a kill leaves it, and what it costs to open it.
fn opening(segments: usize, closed: bool) -> Opening {
    let medium = MemoryDevice::new(GEOMETRY);
    let reader = medium.reader();
    let log = Log::open_device(medium, config()).unwrap();
    while reader.names().len() < segments {
        log.append(&[7; 2000][..]).unwrap();
    }
    for n in 1..=5 {
        log.append(&[n; 700][..]).unwrap();
    }
    log.sync().unwrap();
    // What a kill leaves is what lay on the medium at that moment.
    let copy = MemoryDevice::new(GEOMETRY);
    if closed {
        log.close().unwrap();
    }
    let last = log.current_lsn().previous();
    for name in reader.names() {
        copy.put(name, reader.object(name).unwrap());
    }
    let counts = Arc::default();
    let device = Counted { device: copy, counts: Arc::clone(&counts) };
    let region = Region::new(ALLOCATOR);
    let log = Log::open_device(device, config()).unwrap();
    let allocated = region.change().bytes_allocated;
    let counts = core::mem::take(&mut *counts.lock().unwrap());
    assert_eq!((log.recovery().last_valid_lsn, log.recovery().low_water), (last, Lsn::FIRST));
    let segments = log.stats().unwrap().total_segments;
    Opening { counts, allocated, segments }
}

fn opening_costs_headers_and_the_newest_segment(closed: bool) {
    let (small, large) = (opening(16, closed), opening(256, closed));
    println!("{small:?}\n{large:?}");
    assert!(large.segments >= 16 * small.segments);
    assert_eq!(small.counts.others, large.counts.others, "bytes read besides headers");
    assert!(large.counts.others <= 2 * u64::from(SEGMENT), "more than the newest segment was read");
    let more = large.counts.headers - small.counts.headers;
    assert_eq!(more, (large.segments - small.segments) * HEADERS, "both copies of each header, each once");
    assert_eq!(small.counts.largest, large.counts.largest);
    // Not a byte a segment: what is left is a node of the table in which the memory keeps its objects.
    assert!(
        large.allocated <= small.allocated + 1024,
        "{} bytes, and {} for the small log",
        large.allocated,
        small.allocated
    );
}

// One test, for the allocator is the process's.
#[test]
fn opening_reads_headers_and_the_newest_segment_alone_after_a_close_and_after_a_kill() {
    opening_costs_headers_and_the_newest_segment(true);
    opening_costs_headers_and_the_newest_segment(false);
}
