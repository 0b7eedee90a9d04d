//! The figures of an open log: each is that of the calls that its medium saw, and of the clock that it was given.
#![allow(missing_docs)]

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use duralog::{Config, Durability, Environment, Geometry, Log, LogReader, Lsn, MemoryDevice, Object, Stats, SyncMode};
use duralog_tests::{DeviceCall, Watched};

const GEOMETRY: Geometry =
    Geometry { segment_size: 64 << 10, granule: 1, copy_offset: 128, blank: 0, settled: false, slots: None };

/// A clock that stands still but where a test moves it.
#[derive(Debug, Default)]
struct Stopped {
    ticks: AtomicU64,
    read: Mutex<Vec<u64>>,
    now: AtomicU64,
}

impl Environment for Stopped {
    fn now_us(&self) -> u64 {
        let now = self.now.fetch_add(1_000, Ordering::Relaxed);
        self.read.lock().unwrap().push(now);
        now
    }

    fn ticks_us(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    fn random(&self) -> u128 {
        0xDA7A
    }
}

fn config(environment: &Arc<Stopped>) -> Config {
    let config = Config::default().with_sync_mode(SyncMode::Async).with_idle_mark(None).with_write_behind(None);
    config.with_environment(environment.clone())
}

fn seen(stats: &Stats) -> [u64; 6] {
    [stats.appends, stats.groups, stats.syncs, stats.bytes_written, stats.sync_total_us, stats.sync_max_us]
}

#[test]
fn counters_are_those_of_the_calls_that_the_medium_saw() {
    let environment = Arc::new(Stopped::default());
    // How long each sync takes, in the order in which they come.
    let took = Arc::new(Mutex::new(vec![5, 700, 20].into_iter()));
    let calls = Arc::new(Mutex::new(Vec::<DeviceCall>::new()));
    let (clock, see) = (Arc::clone(&environment), Arc::clone(&calls));
    let armed = Arc::new(AtomicU64::new(0));
    let arm = Arc::clone(&armed);
    let device = Watched::new(MemoryDevice::new(GEOMETRY), move |call| {
        if call.name == "sync" && arm.load(Ordering::Relaxed) == 1 {
            clock.ticks.fetch_add(took.lock().unwrap().next().unwrap_or(0), Ordering::Relaxed);
        }
        see.lock().unwrap().push(call);
    });
    let log = Log::open_device(device, config(&environment)).unwrap();
    assert_eq!(seen(&log.stats().unwrap()), [0; 6], "opening is not counted");
    calls.lock().unwrap().clear();
    armed.store(1, Ordering::Relaxed);

    for round in 0..3_u8 {
        log.append([round; 100]).unwrap();
        log.append_batch(&[[round; 50], [round; 50]]).unwrap();
        log.append_with([round; 7], Durability::Durable).unwrap();
    }
    log.append_with(b"written and not synced", Durability::Os).unwrap();
    let transaction = log.transaction().unwrap();
    transaction.append(b"one").unwrap();
    transaction.commit().unwrap();

    let stats = log.stats().unwrap();
    let calls = core::mem::take(&mut *calls.lock().unwrap());
    let of = |name: &'static str| calls.iter().filter(move |call| call.name == name);
    let writes = || of("write").filter(|call| matches!(call.object, Some(Object::Segment(_))));
    let bytes: usize = writes().map(|call| call.len).sum();
    assert_eq!((writes().count(), of("sync").count()), (4, 3), "{calls:?}");
    let [appends, groups, syncs, written, total, most] = seen(&stats);
    assert_eq!((appends, groups, syncs), (3 * 4 + 1 + 3, 4, 3));
    assert_eq!(written, bytes as u64);
    assert_eq!((total, most), (5 + 700 + 20, 700), "the clock moved within the syncs alone");
}

#[test]
fn a_recovery_takes_as_long_as_the_clock_says() {
    let environment = Arc::new(Stopped::default());
    let medium = MemoryDevice::new(GEOMETRY);
    let reader = medium.reader();
    let log = Log::open_device(medium, config(&environment)).unwrap();
    log.append(b"x").unwrap();
    log.close().unwrap();
    drop(log);
    // The clock goes on by a millisecond whenever it is read: the first reading and one later are those of the recovery.
    let check = |duration: u64| {
        let readings = core::mem::take(&mut *environment.read.lock().unwrap());
        assert!(duration > 0 && readings.contains(&(readings[0] + duration)), "{duration} of {readings:?}");
    };
    environment.read.lock().unwrap().clear();
    let log = Log::open_device(reader.writer().unwrap(), config(&environment)).unwrap();
    check(log.recovery().duration_us);
    log.close().unwrap();
    environment.read.lock().unwrap().clear();
    let opened = LogReader::open_device(reader.reader(), config(&environment)).unwrap();
    check(opened.recovery().duration_us);
    assert_eq!(opened.recovery().last_valid_lsn, Lsn::FIRST);
}
