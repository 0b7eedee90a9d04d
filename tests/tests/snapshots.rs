//! Snapshots and the places that they are taken at: several threads, cuts between, crashes in the middle, and damage below.
#![allow(missing_docs)]

use core::{
    cell::RefCell,
    convert::Infallible,
    fmt,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use std::{
    panic::catch_unwind,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use duralog::{
    CheckpointAt, Config, Documents, Error, Geometry, LoadError, Log, LogReader, Lsn, MemoryDevice, MemoryStore,
    Object, Operation, Policy, Proof, Snapshot, StateMachine, SyncMode,
    faulty::{Failure, Keep, Medium, Plan},
};
use duralog_core::{Host, LogOptions, checkpoint::Section};
use duralog_tests::{Counter, DeviceCall, Watched};
use uuid::Uuid;

const GEOMETRY: Geometry =
    Geometry { segment_size: 4096, granule: 1, copy_offset: 128, blank: 0, settled: false, slots: None };

fn config() -> Config {
    Config { environment: Counter::new(), idle_mark: None, write_behind: None, ..Config::default() }
        .with_sync_mode(SyncMode::Immediate)
}

fn snapshot(byte: u8) -> Snapshot {
    Snapshot { bytes: vec![byte; 40], ..Snapshot::default() }
}

/// The last snapshot that was loaded, and what was applied behind it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen(Vec<u8>, Vec<u64>);

impl StateMachine for Seen {
    type Error = Infallible;

    fn apply(&mut self, lsn: Lsn, operation: &Operation) {
        match operation {
            Operation::Opaque { bytes } if bytes[..] == *b"panic" => panic!("this change cannot be made"),
            Operation::Opaque { .. } => self.1.push(lsn.value()),
            _ => {}
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { bytes: self.0.clone(), ..Snapshot::default() }
    }

    fn load(&mut self, snapshot: &Snapshot) -> Result<(), Infallible> {
        *self = Self(snapshot.bytes.clone(), Vec::new());
        Ok(())
    }
}

fn log(medium: MemoryDevice, entries: u8) -> Log<MemoryDevice> {
    let log = Log::open_device(medium, config()).unwrap();
    for n in 0..entries {
        log.append(&[n; 20][..]).unwrap();
    }
    log
}

fn rebuilt(medium: &MemoryDevice) -> Seen {
    let mut seen = Seen::default();
    Log::open_device(medium.writer().unwrap(), config()).unwrap().rebuild(&mut seen).unwrap();
    seen
}

#[test]
fn a_snapshot_of_an_older_place_never_takes_the_place_of_a_newer_one() {
    let medium = MemoryDevice::new(GEOMETRY);
    let reader = medium.reader();
    let log = log(medium, 10);
    let older = log.checkpoint_at();
    log.append(&[7; 20][..]).unwrap();
    let newest = [1, 2].map(|byte| log.checkpoint(log.checkpoint_at(), &snapshot(byte)).unwrap())[1];
    let kept = log.truncate_before(Lsn::MAX).unwrap();
    assert!(kept > older.lsn(), "truncation relies on the newer ones");
    for _ in 0..3 {
        assert_eq!(log.checkpoint(older, &snapshot(0)).unwrap(), newest);
    }
    assert_eq!(
        log.stats().unwrap().last_checkpoint_lsn.map(Lsn::value),
        Some(12),
        "the 12th is the first checkpoint's"
    );
    log.close().unwrap();
    drop(log);
    assert_eq!(rebuilt(&reader).0, [2; 40]);
}

#[test]
fn a_place_from_before_a_cut_or_reset_or_of_another_handle_is_refused() {
    let stale = |log: &Log<MemoryDevice>, at: CheckpointAt| {
        let refused = log.checkpoint(at, &snapshot(9));
        assert!(
            matches!(&refused, Err(error @ Error::StalePlace { lsn }) if *lsn == at.lsn() && !error.is_fatal()),
            "{refused:?}"
        );
    };
    let medium = MemoryDevice::new(GEOMETRY);
    let reader = medium.reader();
    let log_of = log(medium, 20);
    let at = log_of.checkpoint_at();
    log_of.truncate_after(Lsn::new(10)).unwrap();
    stale(&log_of, at);
    for n in 0..15 {
        log_of.append(&[n; 20][..]).unwrap();
    }
    stale(&log_of, at);
    let at = log_of.checkpoint_at();
    log_of.reset_to(Lsn::new(1000)).unwrap();
    stale(&log_of, at);
    let other = log(MemoryDevice::new(GEOMETRY), 30);
    stale(&log_of, other.checkpoint_at());
    let at = log_of.checkpoint_at();
    log_of.close().unwrap();
    drop(log_of);
    let log_of = log(reader.writer().unwrap(), 3);
    stale(&log_of, at);
    assert_eq!(log_of.checkpoint(log_of.checkpoint_at(), &snapshot(1)).unwrap().value(), 1, "none was made before");
}

#[test]
fn threads_that_change_checkpoint_and_truncate_one_store_lose_nothing() {
    for retention in [1, 2] {
        let medium = MemoryDevice::new(Geometry { segment_size: 16384, ..GEOMETRY });
        let reader = medium.reader();
        let config = config().with_sync_mode(SyncMode::Async).with_checkpoint_retention(retention);
        let store: MemoryStore<Documents, _> =
            MemoryStore::with_log(Log::open_device(medium, config.clone()).unwrap()).unwrap();
        thread::scope(|scope| {
            for writer in 0..2 {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..400 {
                        let id = Uuid::from_u128(writer << 64 | n);
                        store.apply(Operation::insert(id, "a document", vec![0.5; 4])).unwrap();
                    }
                });
            }
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..40 {
                        store.checkpoint().unwrap();
                        store.truncate_before(Lsn::MAX).unwrap();
                    }
                });
            }
        });
        store.close().unwrap();
        drop(store);
        let log = Log::open_device(reader.writer().unwrap(), config).unwrap();
        let store: MemoryStore<Documents, _> = MemoryStore::with_log(log).unwrap();
        assert_eq!(store.state().iter().count(), 800, "{retention} kept");
    }
}

thread_local! {
    static TAKEN: RefCell<Option<SyncSender<()>>> = const { RefCell::new(None) };
}

/// A state that tells when a snapshot of it is taken, in the thread that takes it.
#[derive(Debug, Default)]
struct Telling(Vec<u64>);

impl StateMachine for Telling {
    type Error = Infallible;

    fn apply(&mut self, lsn: Lsn, _: &Operation) {
        self.0.push(lsn.value());
    }

    fn snapshot(&self) -> Snapshot {
        TAKEN.with_borrow(|taken| taken.iter().for_each(|taken| taken.send(()).unwrap()));
        Snapshot { bytes: self.0.iter().flat_map(|lsn| lsn.to_le_bytes()).collect(), ..Snapshot::default() }
    }

    fn load(&mut self, snapshot: &Snapshot) -> Result<(), Infallible> {
        self.0 = snapshot.bytes.as_chunks().0.iter().map(|lsn| u64::from_le_bytes(*lsn)).collect();
        Ok(())
    }
}

#[test]
fn a_snapshot_is_taken_while_a_change_is_on_its_way_into_the_log_and_does_not_contain_it() {
    let (medium, (taken, is_taken)) = (MemoryDevice::new(GEOMETRY), sync_channel(1));
    let reader = medium.reader();
    let (is_armed, came_in_time) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (asked, ask) = sync_channel(1);
    let gate = {
        let (is_armed, came, is_taken) = (Arc::clone(&is_armed), Arc::clone(&came_in_time), Mutex::new(is_taken));
        move |call: DeviceCall| {
            if call.name == "sync" && is_armed.swap(false, Ordering::Relaxed) {
                asked.send(()).unwrap();
                // Long, where it never comes.
                came.store(is_taken.lock().unwrap().recv_timeout(Duration::from_secs(10)).is_ok(), Ordering::Relaxed);
            }
        }
    };
    let log = Log::open_device(Watched::new(medium, gate), config()).unwrap();
    let store: MemoryStore<Telling, _> = MemoryStore::with_log(log).unwrap();
    TAKEN.set(Some(taken));
    store.apply(Operation::opaque(*b"made")).unwrap();
    is_armed.store(true, Ordering::Relaxed);
    thread::scope(|scope| {
        scope.spawn(|| store.apply(Operation::opaque(*b"on its way")).unwrap());
        ask.recv().unwrap();
        store.checkpoint().unwrap();
    });
    assert!(came_in_time.load(Ordering::Relaxed), "where changes never pause, a checkpoint would never come");
    store.apply(Operation::opaque(*b"later")).unwrap();
    assert_eq!(store.state().0, [1, 2, 4]);
    store.close().unwrap();
    drop(store);
    let log = Log::open_device(reader.writer().unwrap(), config()).unwrap();
    let store: MemoryStore<Telling, _> = MemoryStore::with_log(log).unwrap();
    assert_eq!(store.rebuilt().checkpoint_used.map(|(_, lsn)| lsn), Some(Lsn::FIRST));
    assert_eq!(store.state().0, [1, 2, 4], "what the snapshot contains, and each change behind it once");
}

/// Whom a [`Frozen`] tells that it is being written out, and who says then that it may be.
type Gate = (SyncSender<()>, Receiver<()>);

thread_local! {
    static WRITING: RefCell<Option<Gate>> = const { RefCell::new(None) };
}

/// Documents, which are written out when somebody says so.
#[derive(Debug, Default)]
struct Frozen(Documents);

impl StateMachine for Frozen {
    type Error = LoadError;

    fn apply(&mut self, lsn: Lsn, operation: &Operation) {
        self.0.apply(lsn, operation);
    }

    fn snapshot(&self) -> Snapshot {
        self.0.snapshot()
    }

    fn freeze(&self) -> Box<dyn FnOnce() -> Snapshot + Send> {
        let (frozen, (writing, may_write)) = (self.0.freeze(), WRITING.take().unwrap());
        Box::new(move || {
            writing.send(()).unwrap();
            // Long, where it never comes.
            may_write.recv_timeout(Duration::from_secs(10)).ok();
            frozen()
        })
    }

    fn load(&mut self, snapshot: &Snapshot) -> Result<(), LoadError> {
        self.0.load(snapshot)
    }
}

#[test]
fn changes_go_on_while_a_frozen_state_is_written_out_and_its_checkpoint_does_not_contain_them() {
    let medium = MemoryDevice::new(GEOMETRY);
    let reader = medium.reader();
    let store: MemoryStore<Frozen, _> = MemoryStore::with_log(Log::open_device(medium, config()).unwrap()).unwrap();
    let (before, meanwhile) = (Uuid::from_u128(1), Uuid::from_u128(2));
    store.apply(Operation::insert(before, "first", [])).unwrap();
    let ((writing, is_writing), (write, may_write)) = (sync_channel(1), sync_channel(1));
    thread::scope(|scope| {
        scope.spawn(|| {
            WRITING.set(Some((writing, may_write)));
            store.checkpoint().unwrap();
        });
        is_writing.recv().unwrap();
        store.apply_batch(&[Operation::insert(meanwhile, "new", []), Operation::update(before, "second", [])]).unwrap();
        assert!(write.send(()).is_ok(), "the changes were made only when the state was written out");
    });
    let documents = store.state().0.clone();
    store.close().unwrap();
    drop(store);
    let log = Log::open_device(reader.writer().unwrap(), config()).unwrap();
    let store: MemoryStore<Frozen, _> = MemoryStore::with_log(log).unwrap();
    assert_eq!(store.rebuilt().checkpoint_used.map(|(_, lsn)| lsn), Some(Lsn::FIRST));
    assert_eq!(store.rebuilt().entries_replayed, 2, "the changes that were made meanwhile");
    assert_eq!(store.state().0, documents);
    assert_eq!(documents.get(before).map(|document| &*document.content), Some("second"));
}

#[test]
fn a_store_whose_log_has_failed_answers_and_does_not_wait() {
    let medium = Medium::new(GEOMETRY);
    let log = Log::open_device(medium.device(), config()).unwrap();
    let store: MemoryStore<Seen, _> = MemoryStore::with_log(log).unwrap();
    medium.set_plan(Plan { fail: vec![(0, Failure::Error)], ..Plan::default() });
    store.apply(Operation::opaque(*b"one")).unwrap_err();
    assert!(matches!(store.checkpoint(), Err(Error::Poisoned { .. })));
    assert!(matches!(store.apply(Operation::opaque(*b"two")), Err(Error::Poisoned { .. })));
    assert_eq!(store.state().1, [0; 0]);
}

#[test]
fn a_change_behind_one_that_failed_is_told_so_and_not_made() {
    let medium = Arc::new(Medium::new(GEOMETRY));
    let (is_armed, (asked, ask), (go, may_go)) = (Arc::new(AtomicBool::new(false)), sync_channel(1), sync_channel(1));
    let gate = {
        let (is_armed, may_go, medium) = (Arc::clone(&is_armed), Mutex::new(may_go), Arc::clone(&medium));
        move |call: DeviceCall| {
            // The entry of the checkpoint is written: it takes a turn that the state never has, for its sync fails.
            let is_entry = call.name == "write" && matches!(call.object, Some(Object::Segment(_)));
            if is_entry && is_armed.swap(false, Ordering::Relaxed) {
                asked.send(()).unwrap();
                may_go.lock().unwrap().recv().unwrap();
                medium.set_plan(Plan { fail: vec![(0, Failure::Error)], ..Plan::default() });
            }
        }
    };
    let log = Watched::new(medium.device(), gate);
    let log = Log::open_device(log, config().with_sync_mode(SyncMode::Async)).unwrap();
    let store: MemoryStore<Seen, _> = MemoryStore::with_log(log).unwrap();
    store.apply(Operation::opaque(*b"one")).unwrap();
    store.sync().unwrap();
    is_armed.store(true, Ordering::Relaxed);
    let (checkpoint, change) = thread::scope(|scope| {
        let checkpoint = scope.spawn(|| store.checkpoint());
        ask.recv().unwrap();
        let change = scope.spawn(|| store.apply(Operation::opaque(*b"two")));
        while store.current_lsn() < Lsn::new(4) {
            thread::yield_now();
        }
        go.send(()).unwrap();
        (checkpoint.join().unwrap(), change.join().unwrap())
    });
    assert!(checkpoint.is_err() && matches!(change, Err(Error::Poisoned { .. })), "{checkpoint:?}, {change:?}");
    assert_eq!(store.state().1, [1]);
}

#[test]
fn a_store_s_log_is_changed_by_the_store_alone() {
    let log = Log::open_device(MemoryDevice::new(GEOMETRY), config()).unwrap();
    let store: MemoryStore<Seen, _> = MemoryStore::with_log(log).unwrap();
    store.apply(Operation::opaque(*b"one")).unwrap();
    let log = store.log();
    let refused = [
        log.append(b"behind its back").map(drop),
        log.append_batch(&[b"behind", b"it all"]).map(drop),
        log.transaction().map(drop),
        log.checkpoint(log.checkpoint_at(), &snapshot(1)).map(drop),
        log.truncate_after(Lsn::ZERO),
        log.reset_to(Lsn::new(100)),
    ];
    assert!(refused.iter().all(|refused| matches!(refused, Err(Error::InStore))), "{refused:?}");
    log.set_slot(b"a slot takes no turn").unwrap();
    assert_eq!(store.apply(Operation::opaque(*b"two")).unwrap().lsn(), Lsn::new(2));
    store.checkpoint().unwrap();
    assert_eq!((store.apply_batch(&[]).unwrap(), store.state().1.clone()), (None, vec![1, 2]));
}

#[test]
fn a_change_that_panics_ends_the_store_for_every_thread() {
    let medium = MemoryDevice::new(GEOMETRY);
    let store: MemoryStore<Seen, _> = MemoryStore::with_log(Log::open_device(medium, config()).unwrap()).unwrap();
    store.apply(Operation::opaque(*b"sound")).unwrap();
    let panicked = |call: &dyn Fn()| catch_unwind(AssertUnwindSafe(call)).is_err();
    assert!(panicked(&|| drop(store.apply(Operation::opaque(*b"panic")))));
    assert!(panicked(&|| drop(store.apply(Operation::opaque(*b"later")))), "its turn would never come");
    assert!(panicked(&|| drop(store.checkpoint())));
    assert!(panicked(&|| drop(store.state())));
    store.close().unwrap();
}

#[test]
fn what_is_durable_without_room_for_its_proof_is_told_as_such_and_stays() {
    let medium = Medium::new(GEOMETRY);
    let config = config().with_proof(Proof::BeforeAcknowledging);
    let log = Log::open_device(medium.device(), config.clone()).unwrap();
    let store: MemoryStore<Seen, _> = MemoryStore::with_log(log).unwrap();
    store.apply(Operation::opaque(*b"one")).unwrap();
    // Two writes and two syncs an append: the second write is the mark, and the segment that would do is refused too.
    medium.set_plan(Plan { fail: vec![(2, Failure::NoSpace), (3, Failure::NoSpace)], ..Plan::default() });
    let error = store.apply(Operation::opaque(*b"two")).unwrap_err();
    assert!(matches!(error, Error::Unproven { lsn, .. } if lsn == Lsn::new(2)) && !error.is_fatal(), "{error:?}");
    assert_eq!(store.state().1, [1, 2], "the change is in the log, and so it is made");
    assert_eq!(store.apply(Operation::opaque(*b"three")).unwrap().lsn(), Lsn::new(3));
    drop(store);
    let log = Log::open_device(medium.device(), config).unwrap();
    assert_eq!(log.read_from(Lsn::ZERO).unwrap().count(), 3);
}

#[test]
fn a_change_that_found_no_room_is_not_made_and_the_store_goes_on_once_there_is_some() {
    let medium = Medium::new(GEOMETRY);
    let log = Log::open_device(medium.device(), config()).unwrap();
    let store: MemoryStore<Seen, _> = MemoryStore::with_log(log).unwrap();
    store.apply(Operation::opaque(*b"one")).unwrap();
    medium.set_plan(Plan { fail: (0..40).map(|call| (call, Failure::NoSpace)).collect(), ..Plan::default() });
    let change = || Operation::opaque(*b"refused");
    for refused in [store.apply(change()).map(drop), store.apply_batch(&[change(), change()]).map(drop)] {
        assert!(matches!(&refused, Err(error @ Error::NoSpace(_)) if !error.is_fatal()), "{refused:?}");
        assert_eq!(store.state().1, [1], "the state is as it was");
    }
    medium.set_plan(Plan::default());
    assert_eq!(store.apply(Operation::opaque(*b"two")).unwrap().lsn(), Lsn::new(2));
    assert_eq!(store.state().1, [1, 2]);
    drop(store);
    let log = Log::open_device(medium.device(), config()).unwrap();
    let store: MemoryStore<Seen, _> = MemoryStore::with_log(log).unwrap();
    assert_eq!(store.state().1, [1, 2]);
}

#[test]
fn damage_below_all_that_is_asked_for_harms_nobody() {
    let medium = MemoryDevice::new(GEOMETRY);
    let reader = medium.reader();
    let log = log(medium, 20);
    log.checkpoint(log.checkpoint_at(), &snapshot(3)).unwrap();
    for n in 0..10 {
        log.append(&[n; 20][..]).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let first = reader.names()[0];
    let sound = LogReader::open_device(reader.reader(), config()).unwrap();
    let places: Vec<_> = sound.read(Lsn::ZERO, Lsn::MAX).unwrap().map(|entry| entry.unwrap().offset as usize).collect();
    let whole: Vec<_> = reader.names().into_iter().map(|name| (name, reader.object(name).unwrap())).collect();
    for byte in (places[0]..places[19] + 53).step_by(3) {
        let reader = MemoryDevice::new(GEOMETRY).reader();
        for (name, bytes) in &whole {
            let mut bytes = bytes.clone();
            if *name == first {
                bytes[byte] ^= 4;
            }
            reader.put(*name, bytes);
        }
        let seen = rebuilt(&reader);
        assert_eq!(seen, Seen(vec![3; 40], (22..=31).collect()), "byte {byte}: the checkpoint holds what is damaged");
        let log = Log::open_device(reader.writer().unwrap(), config()).unwrap();
        let lsns = |entries: duralog::Entries<MemoryDevice>| -> Vec<u64> {
            entries.map(|entry| entry.unwrap().lsn.value()).collect()
        };
        assert_eq!(lsns(log.read_from(Lsn::new(22)).unwrap()), (22..=31).collect::<Vec<_>>());
        let back = log.read_back_to(Lsn::new(22)).unwrap();
        assert_eq!(lsns(back), (22..=31).rev().collect::<Vec<_>>());
        log.append(&b"and it is written on"[..]).unwrap();
        // Whoever asks for the damaged entry itself gets the damage.
        let all: Result<Vec<_>, _> = log.read_from(Lsn::ZERO).unwrap().collect();
        let is_mark = !places.iter().any(|place| (*place..place + 53).contains(&byte));
        assert_eq!(all.is_ok(), is_mark, "byte {byte}");
    }
}

/// A log with two checkpoints, and a third of which a crash left so many bytes.
fn half_a_checkpoint(len: impl FnOnce(usize) -> usize) -> (MemoryDevice, Object) {
    let medium = MemoryDevice::new(GEOMETRY);
    let reader = medium.reader();
    let log = log(medium, 5);
    for byte in 1..=2 {
        log.checkpoint(log.checkpoint_at(), &snapshot(byte)).unwrap();
    }
    log.append(&b"behind"[..]).unwrap();
    let before: Vec<_> = reader.names().into_iter().map(|name| (name, reader.object(name).unwrap())).collect();
    log.checkpoint(log.checkpoint_at(), &snapshot(3)).unwrap();
    drop(log);
    let third = Object::Checkpoint(3.into());
    let mut bytes = reader.object(third).unwrap();
    bytes.truncate(len(bytes.len()));
    let medium = MemoryDevice::new(GEOMETRY).reader();
    for (name, bytes) in before {
        medium.put(name, bytes);
    }
    medium.put(third, bytes);
    (medium, third)
}

#[test]
fn half_a_checkpoint_takes_no_place_of_a_whole_one_and_is_removed() {
    for cut in [1, 4, 30, 60] {
        let (medium, third) = half_a_checkpoint(|len| len - cut);
        let mut log = Log::open_device(medium.writer().unwrap(), config()).unwrap();
        let mut seen = Seen::default();
        assert_eq!(log.rebuild(&mut seen).unwrap().checkpoint_used.map(|(id, _)| id.value()), Some(2));
        let fourth = log.checkpoint(log.checkpoint_at(), &snapshot(4)).unwrap();
        assert_eq!(fourth.value(), 4);
        let kept: Vec<_> = medium.names().into_iter().filter(|name| matches!(name, Object::Checkpoint(_))).collect();
        assert_eq!(kept, [Object::Checkpoint(2.into()), Object::Checkpoint(4.into())], "the third was {third}");
        let floor = log.truncate_before(Lsn::MAX).unwrap();
        assert_eq!(floor, Lsn::new(7), "as far as the second of the two that are kept");
        log.close().unwrap();
        log = {
            drop(log);
            let bad = medium.object(Object::Checkpoint(4.into())).unwrap();
            medium.put(Object::Checkpoint(4.into()), vec![0; bad.len()]);
            Log::open_device(medium.writer().unwrap(), config()).unwrap()
        };
        assert_eq!(log.rebuild(&mut seen).unwrap().checkpoint_used.map(|(id, _)| id.value()), Some(2));
    }
}

#[test]
fn truncation_does_not_rely_on_a_checkpoint_that_the_log_does_not_name() {
    // All of its bytes are there, perhaps in a cache alone: the next power cut may take them.
    let (medium, _) = half_a_checkpoint(|len| len);
    for keep in [1, 2] {
        let config = config().with_checkpoint_retention(keep);
        let log = Log::open_device(medium.writer().unwrap(), config).unwrap();
        let floor = log.truncate_before(Lsn::MAX).unwrap();
        assert_eq!(floor, Lsn::new(6), "{keep} kept: as far as the older of the two that are named");
    }
}

#[test]
fn a_checkpoint_that_the_log_does_not_name_does_not_outlive_a_cut_of_what_it_holds() {
    for is_known in [false, true] {
        let (medium, third) = half_a_checkpoint(|len| len);
        let log = Log::open_device(medium.writer().unwrap(), config()).unwrap();
        if is_known {
            log.truncate_before(Lsn::MAX).unwrap();
        }
        assert!(medium.object(third).is_some(), "what is whole may be needed, until the log is cut");
        log.truncate_after(Lsn::new(7)).unwrap();
        assert!(medium.object(third).is_none());
        let receipt = log.append(&b"another entry in its place"[..]).unwrap();
        assert_eq!(receipt.lsn(), Lsn::new(8));
        drop(log);
        assert_eq!(rebuilt(&medium), Seen(vec![2; 40], vec![8]));
        let log = Log::open_device(medium.writer().unwrap(), config()).unwrap();
        let fourth = log.checkpoint(log.checkpoint_at(), &snapshot(4)).unwrap();
        assert!(medium.object(Object::Checkpoint(fourth)).is_some(), "{fourth} was written");
        drop(log);
        assert_eq!(rebuilt(&medium), Seen(vec![4; 40], vec![]));
    }
}

#[test]
fn a_checkpoint_whose_entry_is_refused_leaves_nothing_that_a_cut_could_bring_back() {
    let mut cuts = 0;
    for call in 0..100 {
        let medium = Medium::new(GEOMETRY);
        let log = Log::open_device(medium.device(), config()).unwrap();
        log.append(&b"kept"[..]).unwrap();
        log.append(&b"one"[..]).unwrap();
        // It is created, written and synced; then the write of its entry is refused, which is given back and synced, and
        // sometimes its removal is refused too.
        let is_stuck = call % 2 == 1;
        let removal = is_stuck.then_some((6, Failure::Error));
        let fail = [(3, Failure::NoSpace)].into_iter().chain(removal).collect();
        medium.set_plan(Plan { fail, ..Plan::default() });
        let error = log.checkpoint(log.checkpoint_at(), &snapshot(1)).unwrap_err();
        assert!(matches!(error, Error::NoSpace(_)), "{error:?}");
        let is_checkpoint = |object: &Object| matches!(object, Object::Checkpoint(_));
        assert_eq!(medium.names().iter().any(is_checkpoint), is_stuck, "{}", medium.trace());
        let call = call / 2;
        // The removal is not durable: a power cut takes it back, and keeps all that came after.
        medium.set_plan(Plan { cut_at_call: Some(call), ..Plan::default() });
        let done = log.truncate_after(Lsn::FIRST).and_then(|()| log.append(&b"another"[..]));
        medium.power_cut(|unsynced| if is_checkpoint(&unsynced.object) { Keep::None } else { Keep::All });
        drop(log);
        let log = Log::open_device(medium.device(), config()).unwrap();
        let mut seen = Seen::default();
        log.rebuild(&mut seen).unwrap();
        let second = log.read_from(Lsn::new(2)).unwrap().next().map(|entry| entry.unwrap().payload);
        let is_cut = second.as_deref() != Some(b"one");
        assert!(seen.0.is_empty() || !is_cut, "power cut at call {call}: {seen:?}\n{}", medium.trace());
        cuts += u32::from(is_cut);
        if done.is_ok() && is_stuck {
            break;
        }
    }
    assert!(cuts > 3, "the log was cut before the power was, now and then");
}

#[test]
fn of_a_checkpoint_whose_entry_is_refused_no_crash_brings_the_entry_back() {
    for is_removal_refused in [false, true] {
        let medium = Medium::new(GEOMETRY);
        let log = Log::open_device(medium.device(), config()).unwrap();
        log.append(&b"of a state that is kept elsewhere"[..]).unwrap();
        log.reset_to(Lsn::new(100)).unwrap();
        log.append(&b"one"[..]).unwrap();
        // All of the entry's bytes reach the medium, and then there is no room.
        let removal = is_removal_refused.then_some((6, Failure::Error));
        let fail = [(3, Failure::NoSpaceAfter(usize::MAX))].into_iter().chain(removal).collect();
        medium.set_plan(Plan { fail, ..Plan::default() });
        let refused = log.checkpoint(log.checkpoint_at(), &snapshot(1));
        assert!(matches!(refused, Err(Error::NoSpace(_))), "{refused:?}");
        medium.power_cut(|_| Keep::All);
        drop(log);
        let log = Log::open_device(medium.device(), config()).unwrap();
        let mut seen = Seen::default();
        let rebuilt = log.rebuild(&mut seen);
        assert!(rebuilt.is_ok(), "{rebuilt:?}\n{}", medium.trace());
        let state = if is_removal_refused { Seen(vec![1; 40], vec![]) } else { Seen(vec![], vec![100]) };
        assert_eq!(seen, state);
    }
}

/// A state of another version of the program: it cannot be loaded.
#[derive(Debug, Default)]
struct Newer(u64);

impl StateMachine for Newer {
    type Error = fmt::Error;

    fn apply(&mut self, lsn: Lsn, _: &Operation) {
        self.0 = lsn.value();
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }

    fn load(&mut self, _: &Snapshot) -> Result<(), fmt::Error> {
        Err(fmt::Error)
    }
}

#[test]
fn a_checkpoint_that_the_program_does_not_load_is_a_lost_state_and_no_empty_one() {
    for resets in [false, true] {
        let medium = MemoryDevice::new(GEOMETRY);
        let reader = medium.reader();
        let log = log(medium, 5);
        if resets {
            log.reset_to(Lsn::new(100)).unwrap();
        }
        let checkpoint = log.checkpoint(log.checkpoint_at(), &snapshot(1)).unwrap();
        log.truncate_before(Lsn::MAX).unwrap();
        log.append(&b"behind"[..]).unwrap();
        // The handle that made it knows that it is valid; and it rots.
        let bytes = reader.object(Object::Checkpoint(checkpoint)).unwrap();
        let mut rotten = bytes.clone();
        *rotten.last_mut().unwrap() ^= 1;
        reader.put(Object::Checkpoint(checkpoint), rotten);
        let missed = log.rebuild(&mut Seen::default());
        assert!(matches!(missed, Err(Error::StateLost { .. })), "{missed:?}");
        drop(log);
        reader.put(Object::Checkpoint(checkpoint), bytes);

        let log = Log::open_device(reader.writer().unwrap(), config()).unwrap();
        let refused = log.rebuild(&mut Newer::default());
        assert!(matches!(refused, Err(Error::StateLost { .. })), "{refused:?}");
        drop(log);
        let read = LogReader::open_device(reader.reader(), config()).unwrap().rebuild(&mut Newer::default());
        assert!(matches!(read, Err(Error::StateLost { .. })), "{read:?}");
        let log = Log::open_device(reader.writer().unwrap(), config()).unwrap();
        let store = MemoryStore::<Newer, _>::with_log(log);
        assert!(matches!(store, Err(Error::StateLost { .. })), "{store:?}");
        drop(store);
        assert_eq!(rebuilt(&reader).0, [1; 40], "the program that wrote it loads it");
    }
}

type Later = Box<dyn FnOnce() + Send>;

#[test]
fn a_state_is_built_up_of_the_checkpoint_that_has_taken_the_place_of_the_one_it_was_about_to_load() {
    let newer: Arc<Mutex<Option<Later>>> = Arc::default();
    let gate = {
        let newer = Arc::clone(&newer);
        move |call: DeviceCall| {
            // The first piece of the older one was read: there are more to come.
            if call.name == "read" && matches!(call.object, Some(Object::Checkpoint(_))) {
                let newer = newer.lock().unwrap().take();
                newer.into_iter().for_each(|newer| newer());
            }
        }
    };
    let medium = MemoryDevice::new(GEOMETRY);
    let log = Log::open_device(Watched::new(medium, gate), config().with_checkpoint_retention(1)).unwrap();
    let log = Arc::new(log);
    log.append(&b"one"[..]).unwrap();
    // Longer than is read at once.
    let large = |byte| Snapshot { bytes: vec![byte; 1 << 20], ..Snapshot::default() };
    log.checkpoint(log.checkpoint_at(), &large(1)).unwrap();
    *newer.lock().unwrap() = Some({
        let log = Arc::clone(&log);
        Box::new(move || {
            log.checkpoint(log.checkpoint_at(), &large(2)).unwrap();
        })
    });
    let mut seen = Seen::default();
    let rebuilt = log.rebuild(&mut seen);
    assert!(rebuilt.is_ok(), "{rebuilt:?}");
    assert!(newer.lock().unwrap().is_none(), "a newer one was made meanwhile");
    assert_eq!((seen.0.first(), seen.0.len()), (Some(&2), 1 << 20));
}

#[test]
fn a_checkpoint_whose_entry_alone_was_cut_off_is_loaded_and_no_longer_relied_on() {
    let medium = MemoryDevice::new(GEOMETRY);
    let reader = medium.reader();
    let log = log(medium, 5);
    for byte in 1..=2 {
        log.append(&b"between"[..]).unwrap();
        log.checkpoint(log.checkpoint_at(), &snapshot(byte)).unwrap();
    }
    let at = log.last_checkpoint_lsn().unwrap();
    log.truncate_before(Lsn::MAX).unwrap();
    log.truncate_after(at).unwrap();
    for _ in 0..2 {
        log.append(&b"behind"[..]).unwrap();
    }
    // By the older one alone, which the log names.
    assert_eq!(log.truncate_before(Lsn::MAX).unwrap(), Lsn::new(7));
    drop(log);
    assert_eq!(rebuilt(&reader), Seen(vec![2; 40], vec![9, 10]));
    let log = Log::open_device(reader.writer().unwrap(), config()).unwrap();
    assert_eq!(log.truncate_before(Lsn::MAX).unwrap(), Lsn::new(7));
    log.truncate_after(Lsn::new(9)).unwrap();
    drop(log);
    assert_eq!(rebuilt(&reader), Seen(vec![2; 40], vec![9]), "it holds nothing of what was cut off");
    // Once it is the only one that holds what was truncated, the log is not cut below it.
    let oldest = Object::Checkpoint(1.into());
    let first = reader.object(oldest).unwrap();
    let mut bad = first.clone();
    bad[30] ^= 1;
    for (bytes, lowest) in [(bad, 8), (first, 6)] {
        reader.put(oldest, bytes);
        let log = Log::open_device(reader.writer().unwrap(), config()).unwrap();
        let cut = log.truncate_after(Lsn::new(lowest - 1));
        assert!(matches!(cut, Err(Error::BelowCheckpoint { lsn }) if lsn == Lsn::new(lowest)), "{cut:?}");
    }
}

/// Takes the snapshot of a checkpoint in.
#[derive(Default)]
struct Loaded(Vec<u8>);

impl Host for Loaded {
    fn piece(&mut self, section: Section, bytes: &[u8]) {
        if section == Section::Block {
            self.0.extend_from_slice(bytes);
        }
    }
}

#[test]
fn the_handle_of_the_core_relies_on_no_checkpoint_that_the_log_does_not_name() {
    for len in [0, 1] {
        // Half of it is forgotten and removed; all of it is loaded, and not relied on.
        let (medium, third) = half_a_checkpoint(|whole| whole - len);
        let (mut buf, options) = (vec![0; 4096], LogOptions::default());
        let mut log = duralog_core::Log::open(medium.writer().unwrap(), &mut buf, options, 0).unwrap();
        let mut loaded = Loaded::default();
        log.load_checkpoint(&mut loaded).unwrap();
        assert_eq!(loaded.0, [if len == 0 { 3 } else { 2 }; 40]);
        assert_eq!(log.truncate_before(0, Lsn::MAX).unwrap(), Lsn::new(6));
        assert_eq!(medium.object(third).is_some(), len == 0);
        let mut given = vec![[4; 40]].into_iter();
        log.checkpoint(0, |into| {
            given.next().map_or(0, |bytes| {
                into[..40].copy_from_slice(&bytes);
                40
            })
        })
        .unwrap();
        // Two are kept, the second and the fourth: the third does not count among them.
        assert!(medium.object(Object::Checkpoint(2.into())).is_some());
        assert!(medium.object(Object::Checkpoint(1.into())).is_none());
    }
}

#[test]
fn a_reader_that_is_behind_is_told_so_and_hears_of_no_damage() {
    let medium = MemoryDevice::new(GEOMETRY);
    let reader = medium.reader();
    let log = log(medium, 200);
    log.checkpoint(log.checkpoint_at(), &snapshot(1)).unwrap();
    let behind = || LogReader::open_device(reader.reader(), config().with_policy(Policy::Inspect)).unwrap();
    let told = |mut old: LogReader<MemoryDevice>, what: &str| {
        let error =
            old.read(Lsn::ZERO, Lsn::MAX).and_then(|entries| entries.collect::<Result<Vec<_>, _>>()).unwrap_err();
        assert!(matches!(error, Error::Superseded), "{what}: {error:?}");
        let report = old.verify().unwrap();
        assert!(report.success && report.last_valid_lsn == log.current_lsn().previous(), "{what}: {report:?}");
    };
    let old = behind();
    log.truncate_before(Lsn::MAX).unwrap();
    told(old, "truncated");
    for _ in 0..200 {
        log.append(&[8; 20][..]).unwrap();
    }
    let old = behind();
    log.truncate_after(Lsn::new(210)).unwrap();
    told(old, "cut");
    let old = behind();
    for byte in 2..5 {
        log.checkpoint(log.checkpoint_at(), &snapshot(byte)).unwrap();
    }
    let mut seen = Seen::default();
    let error = old.rebuild(&mut seen).unwrap_err();
    assert!(matches!(error, Error::Superseded), "{error:?}");
    let old = behind();
    log.reset_to(Lsn::new(5000)).unwrap();
    told(old, "reset");
}

#[test]
fn a_closed_handle_whose_log_another_has_changed_says_so_and_speaks_of_no_damage() {
    type Change = fn(&Log<MemoryDevice>) -> Result<(), Error>;
    let changes: [Change; 3] = [
        |log| log.discard_before(Lsn::new(150)).map(drop),
        |log| log.truncate_after(Lsn::new(10)),
        |log| log.reset_to(log.current_lsn()),
    ];
    for change in changes {
        let medium = MemoryDevice::new(GEOMETRY);
        let reader = medium.reader();
        let closed = log(medium, 250);
        closed.close().unwrap();
        assert_eq!(closed.read_from(Lsn::ZERO).unwrap().filter(Result::is_ok).count(), 250);
        let other = Log::open_device(reader.writer().unwrap(), config()).unwrap();
        change(&other).unwrap();
        for n in 0..100 {
            other.append(&[n; 20][..]).unwrap();
        }
        other.checkpoint(other.checkpoint_at(), &snapshot(1)).unwrap();
        let error = closed.read_from(Lsn::ZERO).unwrap().find_map(Result::err).expect("some of it is gone");
        assert!(matches!(error, Error::Superseded), "{error:?}");
    }
}

#[test]
fn what_a_cut_or_reset_takes_from_under_a_reader_is_no_damage() {
    let cut = |log: &Log<MemoryDevice>| log.truncate_after(Lsn::new(10));
    let reset = |log: &Log<MemoryDevice>| log.reset_to(log.current_lsn());
    for change in [&cut as &dyn Fn(&Log<MemoryDevice>) -> Result<(), Error>, &reset] {
        for is_backwards in [false, true] {
            let log = log(MemoryDevice::new(GEOMETRY), 250);
            let mut entries =
                if is_backwards { log.read_back_to(Lsn::ZERO) } else { log.read_from(Lsn::ZERO) }.unwrap();
            entries.next().unwrap().unwrap();
            change(&log).unwrap();
            // The evidence of a cut goes with the next checkpoint.
            log.checkpoint(log.checkpoint_at(), &snapshot(1)).unwrap();
            for n in 0..100 {
                log.append(&[n; 20][..]).unwrap();
            }
            let error = entries.find_map(Result::err).expect("some of it is gone");
            assert!(matches!(error, Error::Superseded | Error::Truncated { .. }), "{error:?}");
            log.append(&b"and it is written on"[..]).unwrap();
            assert!(log.read_from(Lsn::ZERO).unwrap().all(|entry| entry.is_ok()));
        }
    }
}
