//! What every log does, whatever it is kept on: one suite over files, memory and the faulty device, through the trait
//! that all of them have.
#![allow(missing_docs)]

use core::sync::atomic::{AtomicU64, Ordering};
use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use duralog::{
    Config, Durability, Environment, Error, Geometry, Log, Lsn, MemoryDevice, Object, Operation, SharedDevice,
    Snapshot, SyncMode, WriteAheadLog,
    faulty::{Change, Failure, Keep, Medium, Plan, UnsyncedOp},
};
use duralog_tests::{Counter, Watched};
use uuid::Uuid;

const SEGMENT: u32 = 16 << 10;
const GEOMETRY: Geometry =
    Geometry { segment_size: SEGMENT, granule: 1, copy_offset: 128, blank: 0, settled: false, slots: None };

fn config() -> Config {
    Config { environment: Counter::new(), idle_mark: None, write_behind: None, ..Config::default() }
        .with_segment_size(SEGMENT)
        .with_sync_mode(SyncMode::Immediate)
}

/// What a log may be kept on, and how it is opened there.
struct Place {
    name: &'static str,
    open: Box<dyn Fn(Config) -> Box<dyn WriteAheadLog>>,
    /// The segments, and the bytes of segments and checkpoints, as the medium itself tells.
    sizes: Box<dyn Fn() -> (u64, u64)>,
    /// Holds the folder.
    _dir: Option<tempfile::TempDir>,
}

fn places() -> [Place; 3] {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().to_owned();
    let files = Place {
        name: "files",
        open: {
            let dir = path.clone();
            Box::new(move |config| Box::new(Log::open(Config { dir: dir.clone(), ..config }).unwrap()))
        },
        sizes: Box::new(move || {
            let (mut segments, mut bytes) = (0, 0);
            for entry in fs::read_dir(&path).unwrap().map(Result::unwrap) {
                let name = entry.file_name().into_string().unwrap();
                segments += u64::from(name.starts_with("segment_"));
                if name.starts_with("segment_") || name.starts_with("checkpoint_") {
                    bytes += entry.metadata().unwrap().len();
                }
            }
            (segments, bytes)
        }),
        _dir: Some(dir),
    };
    let device = MemoryDevice::new(GEOMETRY);
    let (medium, sizes) = (device.reader(), device.reader());
    drop(device);
    let memory = Place {
        name: "memory",
        open: Box::new(move |config| Box::new(Log::open_device(medium.writer().unwrap(), config).unwrap())),
        sizes: Box::new(move || on_the_medium(sizes.reader())),
        _dir: None,
    };
    let medium = Medium::new(GEOMETRY);
    let sizes = medium.reader();
    let faulty = Place {
        name: "faulty",
        open: Box::new(move |config| Box::new(Log::open_device(medium.device(), config).unwrap())),
        sizes: Box::new(move || on_the_medium(sizes.reader())),
        _dir: None,
    };
    [files, memory, faulty]
}

fn on_the_medium(mut device: impl SharedDevice) -> (u64, u64) {
    let (mut segments, mut bytes, mut after) = (0, 0, None);
    while let Some(object) = device.next(after).unwrap() {
        segments += u64::from(matches!(object, Object::Segment(_)));
        if object != Object::Meta {
            bytes += SharedDevice::len(&mut device, object).unwrap();
        }
        after = Some(object);
    }
    (segments, bytes)
}

fn insert(n: u64) -> Operation {
    Operation::insert(Uuid::from_u128(n.into()), format!("document {n}"), vec![n as f32, f32::NAN, -0.0])
}

fn lsns(log: &dyn WriteAheadLog) -> Vec<u64> {
    log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn.value()).collect()
}

#[test]
fn what_was_appended_is_read_in_order_and_still_there_after_reopening() {
    for place in places() {
        let mut expected = Vec::new();
        for round in 0..3u64 {
            let log = (place.open)(config());
            assert_eq!(log.recover().created, round == 0, "{}", place.name);
            assert_eq!(log.current_lsn(), Lsn::new(expected.len() as u64 + 1), "{}", place.name);
            for n in 0..20 {
                let operation = insert(round * 100 + n);
                assert_eq!(log.append(&operation).unwrap().lsn().value(), expected.len() as u64 + 1);
                expected.push(operation);
            }
            let batch: Vec<_> = (30..35).map(|n| insert(round * 100 + n)).collect();
            let receipt = log.append_batch(&batch).unwrap().unwrap();
            assert_eq!(receipt.first.value(), expected.len() as u64 + 1, "{}", place.name);
            assert_eq!(receipt.last.value(), expected.len() as u64 + 5, "{}", place.name);
            expected.extend(batch);
            assert_eq!(log.append_batch(&[]).unwrap(), None);
            assert_eq!(log.sync().unwrap(), log.current_lsn().previous(), "{}", place.name);
            assert_eq!(log.synced_lsn(), log.current_lsn().previous());
            let found: Vec<_> =
                log.read_from(Lsn::FIRST).unwrap().map(|entry| entry.unwrap().operation().unwrap()).collect();
            assert!(found == expected, "{}", place.name);
            let some: Vec<_> = log.read_from(Lsn::new(7)).unwrap().map(|entry| entry.unwrap().lsn.value()).collect();
            assert!(some.iter().copied().eq(7..=expected.len() as u64), "{}", place.name);
            log.close().unwrap();
            assert!(matches!(log.append(&insert(0)), Err(Error::Closed)), "{}", place.name);
            assert!(matches!(log.append_bytes(b"", Durability::Buffered), Err(Error::Closed)));
            log.close().unwrap();
        }
    }
}

#[test]
fn figures_are_those_of_the_medium() {
    for place in places() {
        let log = (place.open)(config());
        for n in 1..=400 {
            log.append(&insert(n)).unwrap();
        }
        let (at, checkpoint) = (log.checkpoint_at(), Snapshot { bytes: vec![7; 5000], ..Snapshot::default() });
        log.checkpoint(at, &checkpoint).unwrap();
        let stats = log.stats().unwrap();
        let (segments, bytes) = (place.sizes)();
        assert!(segments > 1, "{}", place.name);
        assert_eq!((stats.total_segments, stats.total_size_bytes), (segments, bytes), "{}", place.name);
        assert_eq!((stats.current_lsn, stats.synced_lsn), (Lsn::new(402), Lsn::new(401)), "{}", place.name);
        assert_eq!((stats.last_checkpoint_lsn, stats.appends), (Some(Lsn::new(400)), 400), "{}", place.name);
        assert!(stats.groups >= 400 && stats.syncs >= 400 && stats.bytes_written > 400 * 60, "{stats:?}");
    }
}

#[test]
fn no_segment_is_larger_than_its_size_and_no_entry_larger_than_what_is_read_again() {
    for place in places() {
        let log = (place.open)(config());
        let Err(Error::TooLarge { max, .. }) = log.append_bytes(&[0; SEGMENT as usize], Durability::Os) else {
            panic!("{}: it fits no segment", place.name)
        };
        for n in 0..60 {
            let len = (n * 97) % (max as usize - 33);
            log.append_bytes(&vec![1; len], Durability::Durable).unwrap();
        }
        log.append_bytes(&vec![2; max as usize - 33], Durability::Durable).unwrap();
        assert!(log.append_bytes(&vec![3; max as usize - 32], Durability::Durable).is_err(), "{}", place.name);
        assert_eq!(lsns(&*log).len(), 61, "{}", place.name);
        let (segments, bytes) = (place.sizes)();
        assert!(segments >= 8, "{}: {segments} segments", place.name);
        assert!(bytes <= segments * u64::from(SEGMENT), "{}: {bytes} bytes in {segments} segments", place.name);
    }
}

#[test]
fn lsns_go_on_when_everything_was_truncated() {
    for place in places() {
        let mut first = 1;
        for _ in 0..3 {
            let log = (place.open)(config());
            assert_eq!(log.current_lsn(), Lsn::new(first), "{}", place.name);
            for n in 0..300 {
                log.append(&insert(n)).unwrap();
            }
            for _ in 0..2 {
                log.checkpoint(log.checkpoint_at(), &Snapshot::default()).unwrap();
            }
            // The older of the two holds what is before its own entry.
            let kept = log.truncate_before(Lsn::MAX).unwrap();
            assert_eq!(kept, Lsn::new(first + 300), "{}", place.name);
            let (segments, _) = (place.sizes)();
            assert!(segments <= 2, "{}: {segments} segments are left", place.name);
            assert!(matches!(log.read_from(Lsn::FIRST), Err(Error::Truncated { low_water }) if low_water == kept));
            log.append(&insert(1)).unwrap();
            assert_eq!(lsns(&*log), [first + 300, first + 301, first + 302], "{}", place.name);
            log.close().unwrap();
            first += 303;
        }
        let log = (place.open)(config());
        assert_eq!(lsns(&*log), [first - 3, first - 2, first - 1], "{}: after reopening", place.name);
    }
}

/// A clock that runs backwards.
#[derive(Debug)]
struct Backwards(AtomicU64);

impl Environment for Backwards {
    fn now_us(&self) -> u64 {
        self.0.fetch_sub(1000, Ordering::Relaxed)
    }

    fn random(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)) << 64 | 77
    }
}

#[test]
fn timestamps_never_decrease_whatever_the_clock_does() {
    for place in places() {
        let mut before = 0;
        for start in [5_000_000_000, 4_000_000_000, 9_000_000_000, u64::MAX - 5, 1_000_000] {
            let environment = Arc::new(Backwards(AtomicU64::new(start)));
            let log = (place.open)(Config { environment, ..config() });
            for n in 0..70 {
                log.append(&insert(n)).unwrap();
            }
            log.close().unwrap();
        }
        let log = (place.open)(config());
        for entry in log.read_from(Lsn::ZERO).unwrap() {
            let entry = entry.unwrap();
            assert!(entry.timestamp >= before, "{}: {} goes back to {}", place.name, entry.lsn, entry.timestamp);
            before = entry.timestamp;
        }
        assert!(before >= u64::MAX - 1_000_000, "{}: the latest clock counts", place.name);
    }
}

type Counts = Arc<Mutex<BTreeMap<&'static str, u64>>>;

/// A log on the faulty device, all of whose calls are counted by their names.
fn counted(medium: &Medium, config: Config) -> (Log<Watched<duralog::FaultyDevice>>, Counts) {
    let counts = Counts::default();
    let seen = Arc::clone(&counts);
    let device = Watched::new(medium.device(), move |call| *seen.lock().unwrap().entry(call.name).or_default() += 1);
    (Log::open_device(device, config).unwrap(), counts)
}

#[test]
fn a_sync_of_what_is_durable_asks_nothing_of_the_medium() {
    let (log, counts) = counted(&Medium::new(GEOMETRY), config());
    log.append(insert(1)).unwrap();
    let before = counts.lock().unwrap().clone();
    assert_eq!((log.sync().unwrap(), log.wait_durable(Lsn::FIRST).unwrap()), (Lsn::FIRST, Lsn::FIRST));
    assert_eq!(*counts.lock().unwrap(), before);
    log.append_with(insert(2), Durability::Os).unwrap();
    assert_eq!(log.synced_lsn(), Lsn::FIRST);
    assert_eq!(log.sync().unwrap(), Lsn::new(2));
    let after = counts.lock().unwrap().clone();
    assert_eq!((after["sync"], after["write"]), (before["sync"] + 1, before["write"] + 1));
}

#[test]
fn each_call_may_ask_for_another_durability_than_the_log() {
    let medium = Medium::new(GEOMETRY);
    let (log, counts) = counted(&medium, config().with_sync_mode(SyncMode::Async));
    let calls = |name: &str| counts.lock().unwrap().get(name).copied().unwrap_or(0);
    let (writes, syncs) = (calls("write"), calls("sync"));
    assert_eq!(log.append(insert(1)).unwrap().durability, Durability::Buffered);
    assert_eq!((calls("write"), calls("sync")), (writes, syncs), "it is in memory");
    assert_eq!(log.append_with(insert(2), Durability::Os).unwrap().durability, Durability::Os);
    assert_eq!((calls("write"), calls("sync")), (writes + 1, syncs), "both are written");
    assert_eq!(log.append_with(insert(3), Durability::Durable).unwrap().durability, Durability::Durable);
    assert_eq!((calls("write"), calls("sync")), (writes + 2, syncs + 1));
    assert_eq!(log.synced_lsn(), Lsn::new(3));
    log.append_batch_with(&[insert(4), insert(5)], Durability::Buffered).unwrap();
    assert_eq!(log.wait_durable(Lsn::new(4)).unwrap(), Lsn::new(5), "whoever waits for one has both");
}

#[test]
fn nothing_is_written_after_a_close_or_a_drop() {
    for closes in [true, false] {
        let medium = Medium::new(GEOMETRY);
        let config = Config { idle_mark: Some(core::time::Duration::from_millis(1)), ..config() };
        let (log, counts) =
            counted(&medium, config.with_sync_mode(SyncMode::Batched(core::time::Duration::from_millis(1))));
        for n in 0..50 {
            log.append(insert(n)).unwrap();
        }
        if closes {
            log.close().unwrap();
            assert!(matches!(log.append(insert(0)), Err(Error::Closed)));
            assert!(matches!(log.sync(), Ok(lsn) if lsn == Lsn::new(50)), "there is nothing left to sync");
            assert!(matches!(log.set_slot(b"x"), Err(Error::Closed)));
            assert!(matches!(log.transaction().map(|_| ()), Err(Error::Closed)));
            assert!(matches!(log.truncate_after(Lsn::new(3)), Err(Error::Closed)));
            assert!(matches!(log.checkpoint(log.checkpoint_at(), &Snapshot::default()), Err(Error::Closed)));
        } else {
            drop(log);
        }
        // The background thread has ended: its device is free, and nobody is left to write.
        let after = counts.lock().unwrap().clone();
        let unsynced = medium.unsynced();
        let is_tidying = |op: &UnsyncedOp| op.object == Object::Meta || matches!(op.change, Change::Trim { .. });
        assert!(unsynced.iter().all(is_tidying), "{unsynced:?}");
        let (log, _) = counted(&medium, self::config());
        assert_eq!((log.recovery().last_valid_lsn, log.recovery().closed), (Lsn::new(50), closes));
        assert_eq!(*counts.lock().unwrap(), after);
    }
}

#[test]
fn what_was_only_in_memory_is_durable_once_the_handle_was_dropped() {
    let medium = Medium::new(GEOMETRY);
    let log = Log::open_device(medium.device(), config().with_sync_mode(SyncMode::Async)).unwrap();
    for n in 1..=5 {
        assert_eq!(log.append(insert(n)).unwrap().durability, Durability::Buffered);
    }
    drop(log);
    medium.power_cut(|_| Keep::None);
    let log = Log::open_device(medium.device(), config()).unwrap();
    assert_eq!(log.recovery().last_valid_lsn, Lsn::new(5));
}

#[test]
fn in_the_mode_batched_a_thread_makes_durable_and_tells_of_failure() {
    let medium = Medium::new(GEOMETRY);
    let config = config().with_sync_mode(SyncMode::Batched(core::time::Duration::from_millis(1)));
    let log = Log::open_device(medium.device(), config).unwrap();
    let receipt = log.append(insert(1)).unwrap();
    assert_eq!(receipt.durability, Durability::Buffered);
    // Nobody asks for it.
    while log.synced_lsn() < receipt.lsn() {
        std::thread::yield_now();
    }
    let fail = (0..20).map(|call| (call, Failure::Error)).collect();
    medium.set_plan(Plan { fail, ..Plan::default() });
    let error = loop {
        match log.append(insert(2)) {
            Ok(_) => std::thread::yield_now(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Poisoned { .. }), "{error:?}");
    assert_eq!(log.synced_lsn(), Lsn::FIRST, "what failed is not called durable");
    assert!(matches!(log.sync(), Err(Error::Poisoned { .. })));
    assert!(log.close().is_err());
}
