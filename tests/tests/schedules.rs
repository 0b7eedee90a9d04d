//! The handle's own locks, waits and wake-ups under the model checker `loom`: each test runs under every order of its
//! threads with a bounded number of preemptions. `cargo xtask schedules` builds and runs it; in a usual build it is empty.
#![cfg(loom)]
#![allow(missing_docs)]

use core::sync::atomic::{AtomicU64, Ordering};
use core::{convert::Infallible, time::Duration};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use duralog::{
    Config, Durability, Error, Geometry, Log, Lsn, MemoryDevice, MemoryStore, Object, Operation, Receipt, SharedDevice,
    Snapshot, StateMachine, SyncMode,
};
use duralog_core::{Device, DeviceError, ErrorKind, Room};
use duralog_tests::Counter;
use loom::thread;

/// How often a thread may be stopped where it could have gone on; `LOOM_MAX_PREEMPTIONS` says another number.
const PREEMPTIONS: usize = 4;
/// In the words of `loom`: a log is opened within a model, for which the usual stack is too small.
const STACK: usize = 1 << 16;

/// Runs `model` under every order of its threads, and tells how many there were.
fn under_every_schedule(name: &str, model: fn()) {
    under_every_schedule_of(PREEMPTIONS, name, model);
}

/// [`under_every_schedule`] with another bound, for models of so many threads that the usual one takes minutes.
fn under_every_schedule_of(preemptions: usize, name: &str, model: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    let bound = builder.preemption_bound.unwrap_or_default();
    let orders = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        spawn(model).join().unwrap();
    });
    println!("{name}: {} schedules with at most {bound} preemptions", orders.load(Ordering::Relaxed));
}

fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::Builder::new().stack_size(STACK).spawn(work).unwrap()
}

/// What the device does wrong, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// The sync of this number fails.
    Sync(u64),
    /// The write of this number finds no space.
    NoSpace(u64),
    /// There is no room for segments: what is written to one lands, and is refused all the same, and none can be begun.
    Full,
}

#[derive(Debug)]
struct Medium {
    fault: Fault,
    /// What a power cut would leave.
    durable: BTreeMap<Object, Vec<u8>>,
    syncs: u64,
    writes: u64,
}

/// A device in memory that keeps apart what was synced.
#[derive(Debug)]
struct Watched {
    volatile: MemoryDevice,
    medium: Arc<Mutex<Medium>>,
}

#[derive(Debug)]
struct Failed(ErrorKind);

impl core::fmt::Display for Failed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the test says {:?}", self.0)
    }
}

impl core::error::Error for Failed {}

impl DeviceError for Failed {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

fn failed(error: impl DeviceError) -> Failed {
    Failed(error.kind())
}

impl Watched {
    /// Nothing of the model checker's is locked while this is.
    fn medium(&self) -> MutexGuard<'_, Medium> {
        self.medium.lock().unwrap()
    }

    fn is_full(&self, object: Object) -> bool {
        self.medium().fault == Fault::Full && matches!(object, Object::Segment(_))
    }
}

impl Device for Watched {
    type Error = Failed;

    fn geometry(&self) -> Geometry {
        self.volatile.geometry()
    }

    fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, Failed> {
        self.volatile.next(after).map_err(failed)
    }

    fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, Failed> {
        self.volatile.prev(before).map_err(failed)
    }

    fn create(&mut self, object: Object, size: u64) -> Result<Room, Failed> {
        if self.is_full(object) {
            return Err(Failed(ErrorKind::NoSpace));
        }
        self.volatile.create(object, size).map_err(failed)
    }

    fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, Failed> {
        self.volatile.read(object, at, buf).map_err(failed)
    }

    fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), Failed> {
        let mut medium = self.medium();
        medium.writes += 1;
        if medium.fault == Fault::NoSpace(medium.writes) {
            return Err(Failed(ErrorKind::NoSpace));
        }
        drop(medium);
        self.volatile.write(object, at, bytes).map_err(failed)?;
        if self.is_full(object) { Err(Failed(ErrorKind::NoSpace)) } else { Ok(()) }
    }

    fn trim(&mut self, object: Object, at: u64) -> Result<(), Failed> {
        self.volatile.trim(object, at).map_err(failed)
    }

    fn remove(&mut self, object: Object) -> Result<(), Failed> {
        self.volatile.remove(object).map_err(failed)
    }

    fn sync(&mut self) -> Result<(), Failed> {
        let mut medium = self.medium();
        medium.syncs += 1;
        if medium.fault == Fault::Sync(medium.syncs) {
            return Err(Failed(ErrorKind::Other));
        }
        let names = self.volatile.names().into_iter();
        medium.durable = names.filter_map(|object| Some((object, self.volatile.object(object)?))).collect();
        Ok(())
    }
}

impl SharedDevice for Watched {
    fn reader(&self) -> Result<Self, Failed> {
        Ok(Self { volatile: self.volatile.reader(), medium: Arc::clone(&self.medium) })
    }

    fn len(&mut self, object: Object) -> Result<u64, Failed> {
        self.volatile.object(object).map(|bytes| bytes.len() as u64).ok_or(Failed(ErrorKind::Gone))
    }
}

/// A log, and what is under it.
#[derive(Clone)]
struct Bench {
    log: Arc<Log<Watched>>,
    volatile: Arc<MemoryDevice>,
    medium: Arc<Mutex<Medium>>,
}

const SEGMENT: u32 = 2048;

fn device(segment_size: u32) -> (Watched, Arc<Mutex<Medium>>) {
    let geometry = Geometry { segment_size, granule: 1, copy_offset: 128, blank: 0, settled: false, slots: None };
    let medium = Medium { fault: Fault::None, durable: BTreeMap::new(), syncs: 0, writes: 0 };
    let medium = Arc::new(Mutex::new(medium));
    (Watched { volatile: MemoryDevice::new(geometry), medium: Arc::clone(&medium) }, medium)
}

fn config(sync_mode: SyncMode) -> Config {
    let config = Config { idle_mark: None, write_behind: None, ..Config::default() };
    config.with_sync_mode(sync_mode).with_write_limit(512).with_environment(Counter::new())
}

impl Bench {
    fn new(sync_mode: SyncMode) -> Self {
        Self::with(SEGMENT, config(sync_mode))
    }

    fn with(segment_size: u32, config: Config) -> Self {
        let (device, medium) = device(segment_size);
        let volatile = Arc::new(device.volatile.reader());
        Self { log: Arc::new(Log::open_device(device, config).unwrap()), volatile, medium }
    }

    /// A log of the entries "a", which was given up, and "b".
    fn discarded() -> Self {
        let bench = Self::new(SyncMode::Immediate);
        bench.append("a").unwrap();
        bench.append("b").unwrap();
        bench.log.discard_before(Lsn::new(2)).unwrap();
        bench
    }

    /// From now on counted.
    fn breaks(&self, fault: Fault) {
        let mut medium = self.medium.lock().unwrap();
        (medium.fault, medium.syncs, medium.writes) = (fault, 0, 0);
    }

    /// What a process that is killed now leaves behind.
    fn killed(&self) -> MemoryDevice {
        let left = MemoryDevice::new(self.volatile.geometry());
        for object in self.volatile.names() {
            left.put(object, self.volatile.object(object).unwrap());
        }
        left
    }

    fn append(&self, payload: &'static str) -> Result<Receipt, Error> {
        let receipt = self.log.append(payload.as_bytes())?;
        if receipt.durability == Durability::Durable {
            assert!(self.is_durable(payload), "{payload} was acknowledged and no sync has covered it");
            assert!(self.log.synced_lsn() >= receipt.last);
        }
        Ok(receipt)
    }

    fn is_durable(&self, payload: &str) -> bool {
        let medium = self.medium.lock().unwrap();
        let holds = |bytes: &Vec<u8>| bytes.windows(payload.len()).any(|window| window == payload.as_bytes());
        medium.durable.values().any(holds)
    }

    /// What is in the log, as a reader sees it.
    fn entries(&self) -> Vec<String> {
        let entries = self.log.read_from(Lsn::ZERO).unwrap();
        entries.map(|entry| String::from_utf8(entry.unwrap().payload).unwrap()).collect()
    }
}

#[test]
fn who_appends_at_the_same_time_shares_syncs_and_each_is_durable_when_told_so() {
    under_every_schedule("group commit", || {
        let bench = Bench::new(SyncMode::Immediate);
        let others = ["first", "second"].map(|payload| {
            let bench = bench.clone();
            spawn(move || bench.append(payload).unwrap())
        });
        let own = bench.append("third").unwrap();
        let mut lsns: Vec<_> = others.map(|other| other.join().unwrap()).into_iter().chain([own]).collect();
        assert!(lsns.iter().all(|receipt| receipt.durability == Durability::Durable));
        lsns.sort_by_key(|receipt| receipt.last);
        assert_eq!(lsns.iter().map(|receipt| receipt.last.value()).collect::<Vec<_>>(), [1, 2, 3]);
    });
}

#[test]
fn a_sync_makes_durable_what_others_appended_and_wakes_who_waits_for_it() {
    under_every_schedule("sync and wait", || {
        let bench = Bench::new(SyncMode::Async);
        let appender = bench.clone();
        let appender = spawn(move || {
            let receipt = appender.append("buffered").unwrap();
            let durable = appender.log.wait_durable(receipt.last).unwrap();
            assert!(durable >= receipt.last && appender.is_durable("buffered"));
        });
        let syncer = bench.clone();
        let syncer = spawn(move || syncer.log.sync().unwrap());
        bench.log.append_with(b"own".as_slice(), Durability::Os).unwrap();
        appender.join().unwrap();
        syncer.join().unwrap();
        assert_eq!(bench.log.current_lsn(), Lsn::new(3));
    });
}

#[test]
fn a_failed_sync_is_told_to_everyone_and_nobody_waits_for_ever() {
    under_every_schedule("poison", || {
        let bench = Bench::new(SyncMode::Immediate);
        bench.breaks(Fault::Sync(1));
        let others = ["first", "second"].map(|payload| {
            let bench = bench.clone();
            spawn(move || bench.append(payload))
        });
        let own = bench.append("third");
        for outcome in others.map(|other| other.join().unwrap()).into_iter().chain([own]) {
            assert!(matches!(outcome, Err(Error::Poisoned { .. })), "{outcome:?}");
        }
        assert_eq!(bench.log.synced_lsn(), Lsn::ZERO);
        assert!(matches!(bench.append("late"), Err(Error::Poisoned { .. })));
    });
}

#[test]
fn what_was_acknowledged_before_a_failed_sync_stays_acknowledged() {
    under_every_schedule("poison of the second group", || {
        let bench = Bench::new(SyncMode::Immediate);
        bench.breaks(Fault::Sync(2));
        let other = bench.clone();
        let other = spawn(move || other.append("first"));
        let own = bench.append("second");
        let both = [other.join().unwrap(), own];
        let durable = both.iter().flatten().map(|receipt| receipt.last).max();
        assert!(durable.is_some(), "the first sync succeeded");
        assert!(
            both.iter().flatten().count() == 2
                || both.iter().any(|outcome| { matches!(outcome, Err(Error::Poisoned { .. })) })
        );
        assert_eq!(Some(bench.log.synced_lsn()), durable);
    });
}

#[test]
fn who_is_refused_for_lack_of_space_is_told_and_the_others_go_on() {
    under_every_schedule("no space", || {
        let bench = Bench::new(SyncMode::Immediate);
        bench.breaks(Fault::NoSpace(1));
        let others = ["first", "second"].map(|payload| {
            let bench = bench.clone();
            spawn(move || (payload, bench.append(payload)))
        });
        let outcomes = others.map(|other| other.join().unwrap());
        let refused = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Err(Error::NoSpace(_)))).count();
        let kept: Vec<_> =
            outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(payload, _)| *payload).collect();
        assert!(refused >= 1 && refused + kept.len() == 2, "{outcomes:?}");
        bench.append("once there is room").unwrap();
        assert_eq!(bench.entries(), [&kept[..], &["once there is room"]].concat());
    });
}

#[test]
fn a_close_beside_appends_takes_them_along_or_refuses_them() {
    under_every_schedule("close", || {
        let bench = Bench::new(SyncMode::Immediate);
        let others = ["first", "second"].map(|payload| {
            let bench = bench.clone();
            spawn(move || (payload, bench.append(payload)))
        });
        bench.log.close().unwrap();
        let syncs = bench.medium.lock().unwrap().syncs;
        let kept = others.map(|other| other.join().unwrap()).into_iter().filter(|(_, outcome)| match outcome {
            Ok(_) => true,
            Err(Error::Closed) => false,
            Err(error) => panic!("{error}"),
        });
        let mut kept: Vec<_> = kept.map(|(payload, _)| payload.to_owned()).collect();
        assert_eq!(bench.medium.lock().unwrap().syncs, syncs, "a closed log was written to");
        assert!(matches!(bench.append("late"), Err(Error::Closed)));
        let mut entries = bench.entries();
        entries.sort_unstable();
        kept.sort_unstable();
        assert_eq!(entries, kept);
    });
}

#[test]
fn a_buffered_append_beside_a_close_is_durable_or_refused() {
    under_every_schedule("close and buffered appends", || {
        let bench = Bench::new(SyncMode::Async);
        let other = bench.clone();
        let other = spawn(move || other.append("buffered"));
        bench.log.close().unwrap();
        match other.join().unwrap() {
            Ok(_) => assert!(bench.is_durable("buffered"), "an append that was answered before the close is lost"),
            Err(error) => assert!(matches!(error, Error::Closed), "{error}"),
        }
    });
}

#[test]
fn the_background_thread_ends_with_the_log_whenever_that_is_closed() {
    under_every_schedule("background thread", || {
        // The time never comes: only being woken ends the thread.
        let bench = Bench::new(SyncMode::Batched(Duration::from_secs(1 << 40)));
        let other = bench.clone();
        let other = spawn(move || other.append("buffered"));
        bench.log.close().unwrap();
        if other.join().unwrap().is_ok() {
            assert!(bench.is_durable("buffered"));
        }
    });
}

fn segments(bench: &Bench) -> u64 {
    bench.log.stats().unwrap().total_segments
}

#[test]
fn a_segment_is_begun_once_however_many_need_it() {
    under_every_schedule("rotation", || {
        let large = [b'x'; 300].as_slice();
        let first = Bench::new(SyncMode::Immediate);
        let beyond = (1..).find(|_| first.log.append(large).is_ok() && segments(&first) == 2).unwrap();
        let bench = Bench::new(SyncMode::Immediate);
        for _ in 1..beyond {
            bench.log.append(large).unwrap();
        }
        let others = [large; 2].map(|payload| {
            let bench = bench.clone();
            spawn(move || bench.log.append(payload).unwrap().last.value())
        });
        let lsns = others.map(|other| other.join().unwrap());
        assert_eq!(lsns.iter().sum::<u64>(), 2 * beyond + 1);
        assert_eq!(segments(&bench), 2);
        assert_eq!(bench.entries().len() as u64, beyond + 1);
    });
}

#[test]
fn checkpoints_are_written_one_after_the_other_beside_appends() {
    under_every_schedule("checkpoints", || {
        let bench = Bench::new(SyncMode::Immediate);
        bench.append("before").unwrap();
        let other = bench.clone();
        let other = spawn(move || other.log.checkpoint(other.log.checkpoint_at(), &Snapshot::default()).unwrap());
        let own = bench.log.checkpoint(bench.log.checkpoint_at(), &Snapshot::default()).unwrap();
        assert_ne!(own, other.join().unwrap());
        bench.append("after").unwrap();
    });
}

/// The payloads of the entries that were applied, of which a checkpoint holds some.
#[derive(Debug, Default)]
struct Applied(String);

impl StateMachine for Applied {
    type Error = Infallible;

    fn apply(&mut self, _: Lsn, operation: &Operation) {
        if let Operation::Opaque { bytes } = operation {
            self.0.push_str(str::from_utf8(bytes).unwrap());
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { bytes: self.0.clone().into_bytes(), ..Snapshot::default() }
    }

    fn load(&mut self, snapshot: &Snapshot) -> Result<(), Infallible> {
        self.0 = String::from_utf8(snapshot.bytes.clone()).unwrap();
        Ok(())
    }
}

#[test]
fn a_state_is_built_up_beside_the_first_checkpoint_of_what_was_given_up() {
    under_every_schedule("state beside a checkpoint", || {
        let bench = Bench::discarded();
        let other = bench.clone();
        let state = Applied("ab".to_owned());
        let other = spawn(move || other.log.checkpoint(other.log.checkpoint_at(), &state.snapshot()).unwrap());
        let mut seen = Applied::default();
        let rebuilt = bench.log.rebuild(&mut seen);
        assert!(rebuilt.is_ok() && ["b", "ab"].contains(&&*seen.0), "{rebuilt:?}, {seen:?}");
        other.join().unwrap();
    });
}

#[test]
fn a_state_is_built_up_of_one_history_beside_a_cut_and_a_checkpoint() {
    under_every_schedule_of(3, "state beside a cut", || {
        let bench = Bench::with(SEGMENT, config(SyncMode::Immediate).with_checkpoint_retention(1));
        bench.append("a").unwrap();
        bench.log.checkpoint(bench.log.checkpoint_at(), &Applied("a".to_owned()).snapshot()).unwrap();
        bench.append("b").unwrap();
        bench.append("c").unwrap();
        bench.append("e").unwrap();
        let other = bench.clone();
        let other = spawn(move || {
            // Behind the checkpoint's own entry, and "b".
            other.log.truncate_after(Lsn::new(3)).unwrap();
            other.append("d").unwrap();
            other.log.checkpoint(other.log.checkpoint_at(), &Applied("abd".to_owned()).snapshot()).unwrap();
        });
        let mut seen = Applied::default();
        match bench.log.rebuild(&mut seen) {
            Ok(_) => assert!(["abce", "ab", "abd"].contains(&&*seen.0), "{seen:?}"),
            Err(Error::Superseded) => {}
            Err(error) => panic!("{error}"),
        }
        other.join().unwrap();
    });
}

#[test]
fn of_a_checkpoint_whose_entry_is_refused_no_crash_brings_the_entry_back_beside_appends() {
    under_every_schedule("a refused checkpoint", || {
        let bench = Bench::discarded();
        bench.breaks(Fault::Full);
        let other = bench.clone();
        let other = spawn(move || other.append("refused"));
        let refused = bench.log.checkpoint(bench.log.checkpoint_at(), &Snapshot::default());
        assert!(matches!(refused, Err(Error::NoSpace(_))), "{refused:?}");
        assert!(matches!(other.join().unwrap(), Err(Error::NoSpace(_))));
        // The process is killed.
        let log = Log::open_device(bench.killed(), config(SyncMode::Immediate)).unwrap();
        let rebuilt = log.rebuild(&mut Applied::default());
        assert!(rebuilt.is_ok(), "{rebuilt:?}");
    });
}

#[test]
fn a_cut_and_a_truncation_at_the_same_time_leave_a_log_that_begins_before_it_ends() {
    under_every_schedule("cut beside truncation", || {
        let bench = Bench::new(SyncMode::Async);
        for payload in ["first", "second", "third", "fourth"] {
            bench.append(payload).unwrap();
        }
        bench.log.sync().unwrap();
        let other = bench.clone();
        let other = spawn(move || other.log.discard_before(Lsn::new(4)).unwrap());
        // One of them is the first: what the truncation gave up cannot be cut any more, and what was cut off is not there.
        match bench.log.truncate_after(Lsn::new(2)) {
            Ok(()) | Err(Error::Truncated { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        let low_water = other.join().unwrap();
        assert_eq!(bench.log.low_water_lsn(), low_water);
        assert!(low_water <= bench.log.current_lsn(), "it begins at {low_water}");
        bench.append("then").unwrap();
        let entries = bench.entries();
        assert_eq!(entries.last().map(String::as_str), Some("then"));
        assert_eq!(entries.len() as u64, bench.log.current_lsn().value() - low_water.value());
    });
}

#[test]
fn an_append_beside_a_cut_is_durable_or_told_that_it_was_cut_off() {
    under_every_schedule_of(2, "append beside a cut", || {
        let bench = Bench::new(SyncMode::Immediate);
        bench.append("first").unwrap();
        let others = ["beside", "besides"].map(|payload| {
            let bench = bench.clone();
            spawn(move || bench.log.append(payload.as_bytes()))
        });
        bench.log.truncate_after(Lsn::new(1)).unwrap();
        for other in others {
            match other.join().unwrap() {
                Ok(receipt) => assert!([2, 3].contains(&receipt.lsn().value())),
                Err(Error::CutOff { lsn }) => assert!([2, 3].contains(&lsn.value())),
                Err(error) => panic!("{error}"),
            }
        }
        let entries = bench.entries();
        assert_eq!(bench.append("then").unwrap().lsn().value(), entries.len() as u64 + 1);
    });
}

#[test]
fn a_store_applies_in_the_order_of_the_log_whoever_comes_first() {
    under_every_schedule("store", || {
        let (device, _medium) = device(SEGMENT);
        let store: MemoryStore<duralog::Documents, Watched> =
            MemoryStore::with_log(Log::open_device(device, config(SyncMode::Immediate)).unwrap()).unwrap();
        let store = Arc::new(store);
        let id = uuid::Uuid::from_u128(1);
        let other = Arc::clone(&store);
        let other = spawn(move || other.apply(Operation::insert(id, "other", [])).unwrap().last);
        let own = store.apply(Operation::insert(id, "own", [])).unwrap().last;
        let other = other.join().unwrap();
        let last = if own > other { "own" } else { "other" };
        assert_eq!(store.state().get(id).unwrap().content, last);
    });
}
