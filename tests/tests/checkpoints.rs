//! Checkpoints: the newest that is valid is the one to go on from, and old ones go.
#![allow(missing_docs)]

use core::{cell::RefCell, convert::Infallible};

use duralog::{
    Config, Error, Geometry, Log, LogReader, Lsn, MemoryDevice, MemoryStore, Object, Operation, Policy, Snapshot,
    StateMachine, SyncMode, Verdict,
    faulty::{Failure, Keep, Medium, Plan},
};
use duralog_tests::{Counter, Moment, Op, Setup};

const GEOMETRY: Geometry =
    Geometry { segment_size: 4096, granule: 1, copy_offset: 128, blank: 0, settled: false, slots: None };

fn config() -> Config {
    Config { environment: Counter::new(), idle_mark: None, write_behind: None, ..Config::default() }
        .with_sync_mode(SyncMode::Immediate)
}

/// A state that remembers which LSNs were applied to it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Applied(Vec<u64>);

impl StateMachine for Applied {
    type Error = Infallible;

    fn apply(&mut self, lsn: Lsn, operation: &Operation) {
        if matches!(operation, Operation::Opaque { .. }) {
            self.0.push(lsn.value());
        }
    }

    fn snapshot(&self) -> Snapshot {
        let bytes = self.0.iter().flat_map(|lsn| lsn.to_le_bytes()).collect();
        Snapshot { bytes, ..Snapshot::default() }
    }

    fn load(&mut self, snapshot: &Snapshot) -> Result<(), Infallible> {
        self.0 = snapshot.bytes.chunks_exact(8).map(|lsn| u64::from_le_bytes(lsn.try_into().unwrap())).collect();
        Ok(())
    }
}

fn checkpoints(medium: &MemoryDevice) -> Vec<Object> {
    medium.names().into_iter().filter(|object| matches!(object, Object::Checkpoint(_))).collect()
}

/// A log with `rounds` checkpoints, five entries before each and three behind the last; gives what was applied.
fn log(rounds: u64, retention: usize) -> (MemoryDevice, Applied) {
    let medium = MemoryDevice::new(GEOMETRY);
    let reader = medium.reader();
    let log = Log::open_device(medium, config().with_checkpoint_retention(retention)).unwrap();
    let mut state = Applied::default();
    let append = |count: usize, state: &mut Applied| {
        for n in 0..count {
            state.0.push(log.append(&[7; 100][..n * 20]).unwrap().lsn().value());
        }
    };
    for _ in 0..rounds {
        append(5, &mut state);
        log.checkpoint(log.checkpoint_at(), &state.snapshot()).unwrap();
    }
    append(3, &mut state);
    log.close().unwrap();
    (reader, state)
}

#[test]
fn the_newest_valid_checkpoint_is_used_whichever_newer_ones_are_damaged() {
    let (medium, expected) = log(4, 3);
    let there = checkpoints(&medium);
    assert_eq!(there.len(), 3);
    for damaged in 0..=3 {
        let copy = MemoryDevice::new(GEOMETRY);
        for object in medium.names() {
            let mut bytes = medium.object(object).unwrap();
            if there[3 - damaged..].contains(&object) {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 16;
            }
            copy.put(object, bytes);
        }
        let log = Log::open_device(copy, config()).unwrap();
        let mut state = Applied::default();
        let rebuilt = log.rebuild(&mut state).unwrap();
        assert_eq!(state, expected, "{damaged} damaged");
        let rejected: Vec<_> = rebuilt.checkpoints_rejected.iter().map(|(id, _)| Object::Checkpoint(*id)).collect();
        let newest_first: Vec<_> = there[3 - damaged..].iter().rev().copied().collect();
        assert_eq!(rejected, newest_first, "{damaged} damaged");
        // Five entries and one of the checkpoint itself a round; where none is valid, from the first entry on.
        let used = [Some(23), Some(17), Some(11), None][damaged];
        assert_eq!(rebuilt.checkpoint_used.map(|(_, lsn)| lsn.value()), used);
        let behind = expected.0.iter().filter(|lsn| **lsn > used.unwrap_or(0)).count();
        assert_eq!(rebuilt.entries_replayed, behind as u64, "{damaged} damaged");
    }
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_told_and_an_older_one_does() {
    for truncates in [false, true] {
        let (medium, expected) = log(4, 3);
        if truncates {
            let log = Log::open_device(medium.writer().unwrap(), config().with_checkpoint_retention(3)).unwrap();
            assert!(log.truncate_before(Lsn::MAX).unwrap() > Lsn::FIRST);
            log.close().unwrap();
        }
        let newest = *checkpoints(&medium).last().unwrap();
        let copy = Medium::new(GEOMETRY);
        for object in medium.names() {
            copy.put(object, medium.object(object).unwrap());
        }
        let len = medium.object(newest).unwrap().len() as u64;
        copy.make_unreadable(newest, len - 10..len);
        let mut reader = LogReader::open_device(copy.reader(), config()).unwrap();
        let verified = reader.verify().map(|report| {
            report
                .findings
                .iter()
                .map(|finding| (finding.object, finding.verdict, finding.harmless))
                .collect::<Vec<_>>()
        });
        assert!(
            matches!(&verified, Ok(told) if *told == [(newest, Verdict::Unreadable, true)]),
            "truncated: {truncates}, {verified:?}"
        );
        let log = Log::open_device(copy.device(), config().with_full_check()).unwrap();
        let mut state = Applied::default();
        let rebuilt = log.rebuild(&mut state).unwrap();
        assert_eq!((state, rebuilt.checkpoint_used.map(|(_, lsn)| lsn.value())), (expected, Some(17)));
        let rejected: Vec<_> = rebuilt.checkpoints_rejected.iter().map(|(id, _)| Object::Checkpoint(*id)).collect();
        assert_eq!(rejected, [newest]);
    }
}

/// A cut takes a checkpoint's own entry with it, where it is made right behind the place of the checkpoint.
#[test]
fn damage_that_a_checkpoint_holds_stops_nobody_also_where_the_log_no_longer_names_the_checkpoint() {
    let medium = MemoryDevice::new(GEOMETRY);
    let bytes = medium.reader();
    let log = Log::open_device(medium, config()).unwrap();
    let append = || log.append([7; 40]).unwrap().lsn();
    while append() < Lsn::new(20) {}
    log.checkpoint(log.checkpoint_at(), &Snapshot::default()).unwrap();
    log.truncate_after(Lsn::new(20)).unwrap();
    while append() < Lsn::new(30) {}
    log.close().unwrap();
    let first = Object::Segment(duralog::SegmentId::new(1));
    let mut damaged = bytes.object(first).unwrap();
    damaged[600] ^= 1;
    bytes.put(first, damaged);
    let log = Log::open_device(bytes.writer().unwrap(), config()).unwrap();
    let read: Result<Vec<_>, _> = log.read_from(Lsn::ZERO).unwrap().collect();
    assert!(matches!(&read, Err(Error::Damaged(finding)) if finding.object == first), "{read:?}");
    let appended = log.append([8; 40]);
    assert!(appended.is_ok(), "an opening goes on beside that damage, and so does a reader: {appended:?}");
}

#[test]
fn an_entry_at_the_checkpoint_is_in_it_and_the_next_is_applied_once() {
    let (medium, expected) = log(1, 2);
    let log = Log::open_device(medium.writer().unwrap(), config()).unwrap();
    let mut state = Applied::default();
    let rebuilt = log.rebuild(&mut state).unwrap();
    assert_eq!(rebuilt.checkpoint_used.map(|(_, lsn)| lsn), Some(Lsn::new(5)));
    assert_eq!(state, expected);
    assert_eq!(state.0, [1, 2, 3, 4, 5, 7, 8, 9], "5 is in the snapshot, 6 is the checkpoint's own");
}

#[test]
fn as_many_checkpoints_are_kept_as_was_asked_for() {
    for retention in [1, 2, 5] {
        let (medium, expected) = log(7, retention);
        let kept = checkpoints(&medium);
        let ids: Vec<_> = (8 - retention as u64..=7).map(|id| Object::Checkpoint(id.into())).collect();
        assert_eq!(kept, ids, "of 7, {retention} are kept, the newest");
        let mut state = Applied::default();
        Log::open_device(medium.writer().unwrap(), config()).unwrap().rebuild(&mut state).unwrap();
        assert_eq!(state, expected);
    }
    for retention in [0, 9, usize::MAX] {
        let opened = Log::open_device(MemoryDevice::new(GEOMETRY), config().with_checkpoint_retention(retention));
        assert!(matches!(opened, Err(Error::Retention { most: 8 })), "{retention}");
    }
}

#[test]
fn entries_before_a_checkpoint_that_is_bad_are_not_passed_over() {
    let (medium, expected) = log(2, 2);
    for object in checkpoints(&medium) {
        medium.put(object, vec![0; 10]);
    }
    let reader = LogReader::open_device(medium.reader(), config()).unwrap();
    let mut state = Applied::default();
    assert_eq!(reader.rebuild(&mut state).unwrap().checkpoint_used, None);
    assert_eq!(state, expected);
    let mut reader = LogReader::open_device(medium.reader(), config().with_policy(Policy::Inspect)).unwrap();
    let named: Vec<_> = reader.verify().unwrap().findings.iter().map(|finding| finding.object).collect();
    assert!(checkpoints(&medium).iter().all(|object| named.contains(object)), "{named:?}");
}

#[test]
fn a_checkpoint_that_an_older_log_left_under_the_same_name_is_not_used() {
    let (medium, _) = log(1, 2);
    let stale = checkpoints(&medium)[0];
    let other = MemoryDevice::new(GEOMETRY);
    let reader = other.reader();
    let environment = Counter::new();
    duralog::Environment::random(&*environment);
    let log = Log::open_device(other, Config { environment, ..config() }).unwrap();
    log.append(&b"one"[..]).unwrap();
    log.close().unwrap();
    drop(log);
    reader.put(stale, medium.object(stale).unwrap());
    let log = Log::open_device(reader.writer().unwrap(), config()).unwrap();
    let mut state = Applied::default();
    let rebuilt = log.rebuild(&mut state).unwrap();
    assert_eq!((rebuilt.checkpoint_used, state.0), (None, vec![1]));
}

thread_local! {
    /// The medium of the log whose state is looked after in this thread.
    static MEDIUM: RefCell<Option<Medium>> = const { RefCell::new(None) };
}

/// A state that looks, whenever an entry is applied to it, whether the entry would survive a power cut.
#[derive(Debug, Default)]
struct Suspicious {
    applied: Vec<u64>,
    early: Vec<u64>,
}

impl StateMachine for Suspicious {
    type Error = Infallible;

    fn apply(&mut self, lsn: Lsn, _: &Operation) {
        self.applied.push(lsn.value());
        let durable = MEDIUM.with_borrow(|medium| medium.as_ref().map(Medium::snapshot)).unwrap();
        durable.power_cut(|_| Keep::None);
        let found = LogReader::open_device(durable.reader(), config());
        if !found.is_ok_and(|reader| reader.recovery().last_valid_lsn >= lsn) {
            self.early.push(lsn.value());
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }

    fn load(&mut self, _: &Snapshot) -> Result<(), Infallible> {
        Ok(())
    }
}

#[test]
fn an_operation_is_durable_before_it_is_applied() {
    let medium = Medium::new(GEOMETRY);
    let device = medium.device();
    MEDIUM.set(Some(medium));
    let log = Log::open_device(device, config()).unwrap();
    let store: MemoryStore<Suspicious, _> = MemoryStore::with_log(log).unwrap();
    for n in 0..30u8 {
        store.apply(Operation::opaque(vec![n; 150])).unwrap();
    }
    assert!(store.state().applied.iter().copied().eq(1..=30));
    assert_eq!(store.state().early, [0; 0], "applied before they were durable");
}

/// Its sync failed, the process died, and the cache shows it all the same: no entry of the log names it. Whoever truncated
/// on the strength of it would lose what it holds with the next power cut.
#[test]
fn a_checkpoint_that_only_a_cache_held_is_not_relied_on() {
    let before = [Op::Open, Op::Fill(150), Op::Append(24), Op::Append(9)];
    let mut failed = 0;
    for setup in Setup::ALL {
        let calls = |ops: &[Op]| {
            let mut run = Moment::new(setup).run(Plan::default());
            run.play(ops).unwrap();
            run.calls()
        };
        for call in calls(&before)..calls(&[&before[..], &[Op::Checkpoint]].concat()) {
            let plan = Plan { fail: vec![(call, Failure::SyncLoses(Vec::new()))], ..Plan::default() };
            let mut run = Moment::new(setup).run(plan);
            run.play(&before).unwrap();
            if run.step(Op::Checkpoint).is_ok() {
                continue;
            }
            failed += 1;
            let mut run = run.end().after_kill().run(Plan::default());
            run.play(&[Op::Open, Op::Truncate(0)]).unwrap();
            let mut run = run.end().after_cut(&[]).run(Plan::default());
            let held = run.open(true);
            assert!(held.is_ok(), "{}, call {call} failed: {held:?}", setup.name);
        }
    }
    assert!(failed >= Setup::ALL.len(), "{failed} checkpoints failed");
}
