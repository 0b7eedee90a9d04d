//! Transactions, checkpoints, truncation and the states built on them.
#![allow(missing_docs)]

use std::collections::BTreeMap;

use duralog::{
    CheckpointId, Config, Document, Documents, Error, Finding, Geometry, Log, LogReader, Lsn, MemoryDevice,
    MemoryStore, Object, Operation, Policy, Rebuilt, Seen, Snapshot, StateMachine, SyncMode, WriteAheadLog,
    core::{Device, checkpoint::CheckpointHeader},
};
use uuid::Uuid;

fn id(n: u64) -> Uuid {
    Uuid::from_u128(u128::from(n) << 64 | 7)
}

fn insert(n: u64, text: &str) -> Operation {
    Operation::insert(id(n), text, vec![n as f32, f32::from_bits(0x7fc0_0001), -0.0])
}

fn small() -> MemoryDevice {
    MemoryDevice::new(Geometry {
        segment_size: 4096,
        granule: 1,
        copy_offset: 128,
        blank: 0,
        settled: false,
        slots: None,
    })
}

fn config() -> Config {
    Config { idle_mark: None, write_behind: None, ..Config::default().with_sync_mode(SyncMode::Immediate) }
}

fn reopen(medium: &MemoryDevice) -> MemoryDevice {
    medium.writer().unwrap()
}

type Store = MemoryStore<Documents, MemoryDevice>;

fn store(medium: MemoryDevice) -> Store {
    MemoryStore::with_log(Log::open_device(medium, config()).unwrap()).unwrap()
}

fn contents(store: &Store) -> BTreeMap<Uuid, Document> {
    store.state().iter().map(|(id, document)| (id, document.clone())).collect()
}

#[test]
fn a_store_comes_back_from_its_newest_checkpoint_and_what_follows_it() {
    let device = small();
    let medium = device.reader();
    let first = store(device);
    for n in 1..=50 {
        first.apply(insert(n, "text")).unwrap();
    }
    let checkpoint = first.checkpoint().unwrap();
    first.apply(Operation::delete(id(7))).unwrap();
    first.apply(Operation::delete(id(999))).unwrap();
    first.apply_batch(&[insert(8, "new text"), insert(60, "more")]).unwrap();
    let before = contents(&first);
    first.close().unwrap();
    drop(first);

    let second = store(reopen(&medium));
    assert_eq!(contents(&second), before);
    assert_eq!(second.rebuilt().checkpoint_used, Some((checkpoint, Lsn::new(50))));
    assert_eq!(second.recovery().entries_replayed, 4, "what is behind the checkpoint, its own entry apart");
    assert_eq!(second.state().len(), 50);
}

#[test]
fn truncation_stops_at_the_oldest_checkpoint_kept_and_survives_reopening() {
    let device = small();
    let medium = device.reader();
    let store_1 = store(device);
    assert_eq!(store_1.truncate_before(Lsn::new(10)).unwrap(), Lsn::FIRST, "no checkpoint holds anything");
    let mut at = Vec::new();
    for round in 0..4u64 {
        for n in 1..=40 {
            store_1.apply(insert(round * 40 + n, "some text to fill segments with")).unwrap();
        }
        at.push(store_1.current_lsn());
        store_1.checkpoint().unwrap();
    }
    let segments = medium.names().len();
    // Two are kept: the older of them was taken before the entry `at[2]`.
    assert_eq!(store_1.truncate_before(Lsn::MAX).unwrap(), at[2]);
    assert!(medium.names().len() < segments);
    assert!(matches!(store_1.read_from(Lsn::FIRST), Err(Error::Truncated { low_water }) if low_water == at[2]));
    let before = contents(&store_1);
    drop(store_1);
    let store_2 = store(reopen(&medium));
    assert_eq!(contents(&store_2), before);
    assert_eq!(store_2.recovery().low_water, at[2]);
    assert!(store_2.recovery().clean);
    assert_eq!(store_2.read_from(Lsn::ZERO).unwrap().next().unwrap().unwrap().lsn, at[2]);
}

#[test]
fn a_bad_checkpoint_is_passed_over_for_the_one_before() {
    let device = small();
    let medium = device.reader();
    let first = store(device);
    for n in 1..=10 {
        first.apply(insert(n, "a")).unwrap();
        if n % 5 == 0 {
            first.checkpoint().unwrap();
        }
    }
    let before = contents(&first);
    drop(first);
    let newest = *medium.names().iter().rfind(|object| matches!(object, Object::Checkpoint(_))).unwrap();
    let mut bytes = medium.object(newest).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    medium.put(newest, bytes);
    let second = store(reopen(&medium));
    assert_eq!(contents(&second), before);
    assert_eq!(second.rebuilt().checkpoints_rejected.len(), 1);
    assert_eq!(second.rebuilt().checkpoint_used.unwrap().1, Lsn::new(5));
}

#[test]
fn a_state_whose_checkpoints_are_all_bad_is_refused_when_the_log_was_truncated() {
    let device = small();
    let medium = device.reader();
    let first = store(device);
    for n in 1..=100 {
        first.apply(insert(n, "some text to fill segments with")).unwrap();
    }
    first.checkpoint().unwrap();
    first.checkpoint().unwrap();
    first.truncate_before(Lsn::MAX).unwrap();
    drop(first);
    for object in medium.names() {
        if matches!(object, Object::Checkpoint(_)) {
            let mut bytes = medium.object(object).unwrap();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            medium.put(object, bytes);
        }
    }
    let log = Log::open_device(reopen(&medium), config()).unwrap();
    assert!(matches!(Store::with_log(log), Err(Error::StateLost { .. })));
}

#[test]
fn a_lost_state_tells_why_its_checkpoints_were_not_loaded() {
    /// Takes no snapshot.
    #[derive(Debug, Default)]
    struct Refusing;

    impl StateMachine for Refusing {
        type Error = std::io::Error;

        fn apply(&mut self, _: Lsn, _: &Operation) {}

        fn snapshot(&self) -> Snapshot {
            Snapshot::default()
        }

        fn load(&mut self, _: &Snapshot) -> Result<(), Self::Error> {
            Err(std::io::Error::other("the state is of version 2, and this program knows version 1"))
        }
    }

    let device = small();
    let medium = device.reader();
    let first = store(device);
    first.apply(insert(1, "text")).unwrap();
    let checkpoint = first.checkpoint().unwrap();
    first.truncate_before(Lsn::MAX).unwrap();
    drop(first);
    let log = Log::open_device(reopen(&medium), config()).unwrap();
    let refused = MemoryStore::<Refusing, _>::with_log(log).map(drop);
    let why = "the state is of version 2, and this program knows version 1";
    let is_told = |error: &Error| match error {
        Error::StateLost { rejected, .. } => **rejected == [(checkpoint, why.to_owned())],
        _ => false,
    };
    assert!(refused.as_ref().is_err_and(is_told), "{refused:?}");
    let text = refused.unwrap_err().to_string();
    assert!(text.contains(&format!("{}: {why}", Object::Checkpoint(checkpoint))), "{text}");
    assert!(!text.contains("no valid checkpoint"), "{text}");
}

#[test]
fn a_transaction_counts_where_it_is_committed_and_not_at_all_without() {
    let device = small();
    let medium = device.reader();
    let log = Log::open_device(device, config()).unwrap();
    let kept = log.transaction().unwrap();
    kept.append(insert(1, "one")).unwrap();
    log.append(insert(2, "two")).unwrap();
    let dropped = log.transaction().unwrap();
    dropped.append(insert(3, "never")).unwrap();
    kept.append(insert(4, "four")).unwrap();
    drop(dropped);
    let committed = kept.commit().unwrap();
    assert_eq!(committed.lsn(), Lsn::new(8));
    let open = log.transaction().unwrap();
    open.append(insert(5, "never")).unwrap();
    log.sync().unwrap();
    core::mem::forget(open);
    let found: Vec<_> = log.replay_from(Lsn::FIRST).unwrap().map(|entry| entry.unwrap().lsn.value()).collect();
    assert_eq!(found, [3, 2, 6], "what stands alone where it stands, a transaction where its commit does");
    drop(log);
    let log = Log::open_device(reopen(&medium), config()).unwrap();
    log.append(insert(6, "six")).unwrap();
    let mut state = Documents::default();
    log.rebuild(&mut state).unwrap();
    let ids: Vec<_> = state.iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [id(1), id(2), id(4), id(6)]);
}

#[test]
fn a_transaction_that_crosses_a_checkpoint_and_truncation_keeps_what_it_needs() {
    let device = small();
    let medium = device.reader();
    let log = Log::open_device(device, config()).unwrap();
    let open = log.transaction().unwrap();
    open.append(insert(1, "early")).unwrap();
    for n in 100..200 {
        log.append(insert(n, "some text to fill segments with")).unwrap();
    }
    let mut state = Documents::default();
    let at = log.checkpoint_at();
    log.rebuild(&mut state).unwrap();
    log.checkpoint(at, &StateMachine::snapshot(&state)).unwrap();
    assert_eq!(log.truncate_before(Lsn::MAX).unwrap(), Lsn::FIRST, "the open transaction began at the first entry");
    assert_eq!(log.discard_before(at.lsn()).unwrap(), at.lsn());
    open.commit().unwrap();
    drop(log);
    let log = Log::open_device(reopen(&medium), config()).unwrap();
    let mut state = Documents::default();
    let rebuilt = log.rebuild(&mut state);
    assert!(rebuilt.is_ok(), "what the transaction needs is gone: {rebuilt:?}");
    assert!(state.contains(id(1)));
    assert_eq!(state.len(), 101);
}

#[test]
fn one_transaction_too_many_is_refused() {
    let log = Log::open_device(small(), Config { max_transactions: 2, ..config() }).unwrap();
    let (one, _two) = (log.transaction().unwrap(), log.transaction().unwrap());
    assert!(matches!(log.transaction(), Err(Error::TooManyTransactions { max: 2 })));
    one.commit().unwrap();
    log.transaction().unwrap();
}

#[test]
fn a_cut_at_the_end_gives_lsns_back_and_nothing_returns() {
    let device = small();
    let medium = device.reader();
    let log = Log::open_device(device, config()).unwrap();
    for n in 1..=100 {
        log.append(insert(n, "some text to fill segments with")).unwrap();
    }
    log.truncate_after(Lsn::new(30)).unwrap();
    assert_eq!(log.current_lsn(), Lsn::new(31));
    log.append(insert(1000, "new")).unwrap();
    for _ in 0..2 {
        let lsns: Vec<_> = log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn.value()).collect();
        assert_eq!(lsns, (1..=31).collect::<Vec<_>>());
    }
    drop(log);
    let log = Log::open_device(reopen(&medium), config().with_full_check()).unwrap();
    assert!(log.recovery().clean, "{:?}", log.recovery());
    let last = log.read_from(Lsn::new(31)).unwrap().next().unwrap().unwrap();
    assert_eq!(last.operation().unwrap(), insert(1000, "new"));
    assert!(medium.names().len() < 10, "{:?}", medium.names());
}

#[test]
fn a_reset_goes_on_at_a_later_lsn() {
    let device = small();
    let medium = device.reader();
    let log = Log::open_device(device, config()).unwrap();
    for n in 1..=100 {
        log.append(insert(n, "some text to fill segments with")).unwrap();
    }
    assert!(matches!(log.reset_to(Lsn::new(50)), Err(Error::NotAhead { .. })));
    log.reset_to(Lsn::new(1000)).unwrap();
    assert_eq!(log.append(insert(1, "x")).unwrap().lsn(), Lsn::new(1000));
    drop(log);
    let log = Log::open_device(reopen(&medium), config().with_full_check()).unwrap();
    assert!(log.recovery().clean, "{:?}", log.recovery());
    assert_eq!(log.recovery().low_water, Lsn::new(1000));
    assert_eq!(log.current_lsn(), Lsn::new(1001));
}

#[test]
fn no_state_is_built_up_of_a_checkpoint_and_entries_between_which_some_were_given_up() {
    let give_up: [fn(&Log<MemoryDevice>); 2] = [
        |log| log.reset_to(Lsn::new(100)).unwrap(),
        |log| assert_eq!(log.discard_before(log.current_lsn()).unwrap(), log.current_lsn()),
    ];
    for give_up in give_up {
        let device = small();
        let medium = device.reader();
        let log = Log::open_device(device, config()).unwrap();
        let insert_all = |from: u64| {
            for n in from..from + 5 {
                log.append(insert(n, "text")).unwrap();
            }
        };
        let lost = |log: &Log<MemoryDevice>, low_water: Lsn| {
            let rebuilt = log.rebuild(&mut Documents::default());
            assert!(
                matches!(&rebuilt, Err(Error::StateLost { low_water: lsn, .. }) if *lsn == low_water),
                "{rebuilt:?}"
            );
        };
        insert_all(1);
        log.checkpoint(log.checkpoint_at(), &Documents::default().snapshot()).unwrap();
        insert_all(6);
        give_up(&log);
        let low_water = log.low_water_lsn();
        insert_all(20);
        // The log itself goes on: it may be given a state, and a checkpoint of that.
        lost(&log, low_water);
        let appended = log.append(insert(30, "text"));
        assert!(appended.is_ok(), "{appended:?}");
        drop(log);
        let log = Log::open_device(reopen(&medium), config()).unwrap();
        assert!(log.recovery().clean && log.recovery().checkpoint_used.is_none(), "{:?}", log.recovery());
        lost(&log, low_water);
        drop(log);
        let refused = Store::with_log(Log::open_device(reopen(&medium), config()).unwrap());
        assert!(matches!(refused, Err(Error::StateLost { .. })), "{refused:?}");
        drop(refused);
        let log = Log::open_device(reopen(&medium), config()).unwrap();
        let mut state = Documents::default();
        state.apply(Lsn::FIRST, &insert(7, "given"));
        let at = log.checkpoint_at();
        log.checkpoint(at, &state.snapshot()).unwrap();
        log.append(insert(31, "text")).unwrap();
        // It is the only one that holds what was given up: no cut takes it.
        log.truncate_after(at.lsn()).unwrap();
        let refused = log.truncate_after(at.lsn().previous());
        assert!(matches!(refused, Err(Error::BelowCheckpoint { lsn }) if lsn == at.lsn()), "{refused:?}");
        log.append(insert(32, "text")).unwrap();
        drop(log);
        let log = Log::open_device(reopen(&medium), config()).unwrap();
        let mut state = Documents::default();
        log.rebuild(&mut state).unwrap();
        assert_eq!(state.iter().map(|(id, _)| id).collect::<Vec<_>>(), [id(7), id(32)]);
    }
}

#[test]
fn a_checkpoint_of_no_entry_at_all_makes_no_state_of_a_log_that_was_reset() {
    let log = Log::open_device(small(), config()).unwrap();
    log.checkpoint(log.checkpoint_at(), &Documents::default().snapshot()).unwrap();
    log.append(insert(1, "text")).unwrap();
    log.reset_to(Lsn::new(100)).unwrap();
    log.append(insert(2, "text")).unwrap();
    let rebuilt = log.rebuild(&mut Documents::default());
    assert!(matches!(rebuilt, Err(Error::StateLost { .. })), "{rebuilt:?}");
}

/// A log whose second checkpoint took the place of the first, which an entry still names, and lost its own entry by a cut.
/// So many checkpoints are retained.
fn cut_behind_its_checkpoint(retained: usize) -> (Log<MemoryDevice>, MemoryDevice) {
    let device = small();
    let medium = device.reader();
    let log = Log::open_device(device, config().with_checkpoint_retention(retained)).unwrap();
    insert_all(&log, 1..=10);
    log.checkpoint(log.checkpoint_at(), &Documents::default().snapshot()).unwrap();
    insert_all(&log, 11..=19);
    let at = log.checkpoint_at();
    insert_all(&log, 20..=29);
    log.checkpoint(at, &Documents::default().snapshot()).unwrap();
    log.truncate_after(Lsn::new(25)).unwrap();
    (log, medium)
}

fn insert_all(log: &Log<MemoryDevice>, ids: core::ops::RangeInclusive<u64>) {
    for n in ids {
        log.append(insert(n, "text")).unwrap();
    }
}

/// What comes of building up the state of a log that was left without this checkpoint, and of looking at all of it.
fn without(medium: &MemoryDevice, checkpoint: CheckpointId) -> (Result<(), Error>, bool) {
    reopen(medium).remove(Object::Checkpoint(checkpoint)).unwrap();
    let salvage = config().with_policy(Policy::Salvage);
    let found = LogReader::open_device(medium.reader(), salvage).unwrap().verify().unwrap().success;
    let log = Log::open_device(reopen(medium), config());
    (log.and_then(|log| log.rebuild(&mut Documents::default()).map(drop)), found)
}

#[test]
fn a_log_cut_behind_its_last_checkpoint_misses_none_once_entries_are_given_up() {
    let kept = || config().with_checkpoint_retention(1);
    for way in ["goes on", "closed", "left"] {
        let (log, medium) = cut_behind_its_checkpoint(1);
        let again = |log: Log<MemoryDevice>| match way {
            "goes on" => log,
            way => {
                if way == "closed" {
                    log.close().unwrap();
                }
                drop(log);
                Log::open_device(reopen(&medium), kept()).unwrap()
            }
        };
        let log = again(log);
        log.truncate_after(Lsn::new(15)).unwrap();
        let log = again(log);
        assert!(!medium.names().iter().any(|object| matches!(object, Object::Checkpoint(_))), "{:?}", medium.names());
        insert_all(&log, 40..=42);
        let log = again(log);
        assert_eq!(log.discard_before(Lsn::new(5)).unwrap(), Lsn::new(5));
        insert_all(&log, 43..=44);
        let log = again(log);
        insert_all(&log, 45..=90);
        let log = again(log);
        let mut state = Documents::default();
        let rebuilt = log.rebuild(&mut state);
        assert!(rebuilt.is_ok(), "{way}: {rebuilt:?}");
        let left = (5..=14).chain(40..=90).map(id);
        assert_eq!(state.iter().map(|(id, _)| id).collect::<Vec<_>>(), left.collect::<Vec<_>>(), "{way}");
        let mut reader = LogReader::open_device(medium.reader(), kept()).unwrap();
        assert!(reader.verify().unwrap().clean, "{way}: {:?}", reader.recovery());
        // One that is named from then on is missed.
        let checkpoint = log.checkpoint(log.checkpoint_at(), &state.snapshot()).unwrap();
        drop(log);
        let (rebuilt, found) = without(&medium, checkpoint);
        assert!(rebuilt.is_err() && !found, "{way}: {rebuilt:?}");
    }
}

#[test]
fn a_checkpoint_that_serves_after_a_cut_took_its_entry_is_missed_once_it_is_gone() {
    let (log, medium) = cut_behind_its_checkpoint(1);
    log.discard_before(Lsn::new(5)).unwrap();
    let used = log.rebuild(&mut Documents::default()).unwrap().checkpoint_used;
    drop(log);
    let (rebuilt, found) = without(&medium, used.unwrap().0);
    assert!(matches!(rebuilt, Err(Error::StateLost { .. })) && !found, "{rebuilt:?}");
}

#[test]
fn what_is_named_behind_a_cut_is_missed_whatever_was_named_before() {
    let (log, medium) = cut_behind_its_checkpoint(1);
    log.truncate_after(Lsn::new(15)).unwrap();
    // It needs entries of an open transaction: the log does not rely on it.
    let open = log.transaction().unwrap();
    insert_all(&log, 40..=50);
    let checkpoint = log.checkpoint(log.checkpoint_at(), &Documents::default().snapshot()).unwrap();
    let segments = || medium.names().iter().filter(|object| matches!(object, Object::Segment(_))).count();
    let before = segments();
    insert_all(&log, 51..=120);
    assert!(segments() > before, "the headers of more segments say what is truncated");
    assert_eq!(log.discard_before(Lsn::new(20)).unwrap(), Lsn::new(20));
    drop(open);
    drop(log);
    let (rebuilt, found) = without(&medium, checkpoint);
    assert!(matches!(rebuilt, Err(Error::StateLost { .. })) && !found, "{rebuilt:?}");
}

/// What may become of a checkpoint's bytes: another body, another head, none.
fn rotten(medium: &MemoryDevice, checkpoint: CheckpointId) -> [(&'static str, Option<Vec<u8>>); 3] {
    let bytes = medium.object(Object::Checkpoint(checkpoint)).unwrap();
    let flipped = |at: usize| bytes.iter().enumerate().map(|(n, byte)| byte ^ u8::from(n == at)).collect();
    [("body", Some(flipped(bytes.len() - 1))), ("head", Some(flipped(20))), ("gone", None)]
}

fn replace(medium: &MemoryDevice, checkpoint: CheckpointId, bytes: Option<Vec<u8>>) {
    match bytes {
        Some(bytes) => medium.put(Object::Checkpoint(checkpoint), bytes),
        None => reopen(medium).remove(Object::Checkpoint(checkpoint)).unwrap(),
    }
}

#[test]
fn what_was_given_up_without_a_checkpoint_is_missed_once_one_held_it_and_is_gone() {
    for (discards, rot) in [false, true].into_iter().flat_map(|discards| (0..3).map(move |rot| (discards, rot))) {
        let device = small();
        let mut medium = device.reader();
        let log = Log::open_device(device, config()).unwrap();
        for n in 1..=5 {
            log.append(insert(n, "text")).unwrap();
        }
        if discards {
            log.discard_before(Lsn::new(4)).unwrap();
        } else {
            log.reset_to(Lsn::new(100)).unwrap();
        }
        let low_water = log.low_water_lsn();
        // Its state is kept elsewhere: what is left is applied to whatever is given.
        assert_eq!(log.rebuild(&mut Documents::default()).unwrap().entries_replayed, if discards { 2 } else { 0 });
        let checkpoint = log.checkpoint(log.checkpoint_at(), &Documents::default().snapshot()).unwrap();
        assert_eq!(log.low_water_lsn(), low_water, "nothing more was given up");
        log.append(insert(6, "text")).unwrap();
        log.close().unwrap();
        drop(log);
        let (what, bytes) = rotten(&medium, checkpoint)[rot].clone();
        replace(&medium, checkpoint, bytes);
        medium = reopen(&medium).reader();
        match Log::open_device(reopen(&medium), config()) {
            Ok(log) => {
                let rebuilt = log.rebuild(&mut Documents::default());
                assert!(matches!(rebuilt, Err(Error::StateLost { .. })), "{discards}, {what}: {rebuilt:?}");
            }
            // The head alone is read by an opening.
            Err(error) => {
                let seen = error.finding().map(|finding| finding.seen);
                assert!(what != "body" && seen == Some(Seen::StateLost), "{discards}, {what}: {error}");
            }
        }
        let salvage = config().with_policy(Policy::Salvage);
        let mut reader = LogReader::open_device(medium.reader(), salvage).unwrap();
        let verified = reader.verify().unwrap();
        assert!(!verified.success, "{discards}, {what}: {verified:?}");
    }
}

#[test]
fn a_checkpoint_that_is_bad_where_the_log_is_cut_is_missed_all_the_same() {
    // Where it is the only one, and where the cut takes another.
    for (rot, takes) in [(0, false), (1, false), (2, false), (0, true), (1, true)] {
        let (log, medium) = if takes {
            cut_behind_its_checkpoint(2)
        } else {
            let device = small();
            let medium = device.reader();
            let log = Log::open_device(device, config()).unwrap();
            insert_all(&log, 1..=10);
            log.checkpoint(log.checkpoint_at(), &Documents::default().snapshot()).unwrap();
            insert_all(&log, 11..=30);
            (log, medium)
        };
        drop(log);
        let checkpoint = CheckpointId::new(1);
        let (what, bytes) = rotten(&medium, checkpoint)[rot].clone();
        replace(&medium, checkpoint, bytes);
        let log = Log::open_device(reopen(&medium), config()).unwrap();
        log.truncate_after(Lsn::new(15)).unwrap();
        let whole = log.rebuild(&mut Documents::default());
        assert!(whole.is_ok(), "{what}, {takes}: every entry is there: {whole:?}");
        log.discard_before(Lsn::new(5)).unwrap();
        let missed = log.rebuild(&mut Documents::default());
        assert!(matches!(missed, Err(Error::StateLost { .. })), "{what}, {takes}: {missed:?}");
    }
}

#[test]
fn a_checkpoint_that_needs_entries_of_an_open_transaction_holds_nothing_of_what_was_given_up_of_it() {
    let device = small();
    let medium = device.reader();
    let log = Log::open_device(device, config()).unwrap();
    let open = log.transaction().unwrap();
    for n in 1..=5 {
        open.append(insert(n, "text")).unwrap();
    }
    log.sync().unwrap();
    assert_eq!(log.discard_before(Lsn::new(4)).unwrap(), Lsn::new(4));
    log.checkpoint(log.checkpoint_at(), &Documents::default().snapshot()).unwrap();
    open.commit().unwrap();
    log.close().unwrap();
    drop(log);
    let mut state = Documents::default();
    let log = Log::open_device(reopen(&medium), config());
    let rebuilt = log.and_then(|log| log.rebuild(&mut state));
    assert!(rebuilt.is_ok(), "{rebuilt:?}");
    assert_eq!(state.len(), 5, "its segment is there, and it ends above the mark");
}

#[test]
fn a_checkpoint_that_the_log_names_and_that_is_not_valid_is_missed_where_entries_were_given_up_without_one() {
    let device = small();
    let medium = device.reader();
    let log = Log::open_device(device, config()).unwrap();
    let open = log.transaction().unwrap();
    for n in 1..=5 {
        log.append(insert(n, "text")).unwrap();
    }
    let at = log.checkpoint_at();
    let checkpoint = log.checkpoint(at, &Documents::default().snapshot()).unwrap();
    // It needs entries below, of the transaction: the log does not rely on it.
    assert_eq!(log.discard_before(at.lsn()).unwrap(), at.lsn());
    drop(open);
    log.append(insert(6, "text")).unwrap();
    log.close().unwrap();
    drop(log);
    let bytes = medium.object(Object::Checkpoint(checkpoint)).unwrap();
    let rebuild = |policy: Policy| {
        let log = Log::open_device(reopen(&medium), config().with_policy(policy)).unwrap();
        let rebuilt = log.rebuild(&mut Documents::default());
        // Whatever was asked of the log before.
        log.truncate_before(Lsn::FIRST).unwrap();
        let again = log.rebuild(&mut Documents::default());
        log.append(insert(7, "the log goes on")).unwrap();
        (rebuilt, again)
    };
    let (whole, again) = rebuild(Policy::Default);
    assert!(whole.is_ok_and(|rebuilt| rebuilt.checkpoint_used.is_some()) && again.is_ok());
    for (what, bytes) in rotten(&medium, checkpoint).into_iter().rev() {
        replace(&medium, checkpoint, bytes);
        let (missed, again) = rebuild(Policy::Default);
        assert!(
            matches!(missed, Err(Error::StateLost { low_water, .. }) if low_water == at.lsn()),
            "{what}: {missed:?}"
        );
        assert!(matches!(again, Err(Error::StateLost { .. })), "{what}: {again:?}");
    }
    let lost = Some((Lsn::FIRST, at.lsn().previous()));
    let is_told = |findings: &[Finding]| matches!(findings, [it] if it.seen == Seen::StateLost && it.lsns == lost);
    for (policy, is_skipped) in [(Policy::Default, false), (Policy::Salvage, true)] {
        let mut reader = LogReader::open_device(medium.reader(), config().with_policy(policy)).unwrap();
        match reader.rebuild(&mut Documents::default()) {
            Ok(rebuilt) => assert!(is_skipped && is_told(&rebuilt.findings), "{rebuilt:?}"),
            Err(error) => assert!(!is_skipped && matches!(error, Error::StateLost { .. }), "{error}"),
        }
        let damage: Vec<_> = reader.verify().unwrap().damage().copied().collect();
        assert!(is_told(&damage[..1]) && damage[1].seen == Seen::BadCheckpoint, "{policy:?}: {damage:?}");
    }
    let (salvaged, again) = rebuild(Policy::Salvage);
    assert!(salvaged.is_ok_and(|rebuilt| rebuilt.findings.is_empty()) && again.is_ok(), "its loss was accepted");
    let (accepted, again) = rebuild(Policy::Default);
    assert!(accepted.is_ok() && again.is_ok(), "{accepted:?}, {again:?}");

    // A first checkpoint that a crash left half written was never the state.
    let device = small();
    let medium = device.reader();
    let log = Log::open_device(device, config()).unwrap();
    log.reset_to(Lsn::new(100)).unwrap();
    log.append(insert(1, "text")).unwrap();
    log.close().unwrap();
    let head = CheckpointHeader::decode(&bytes).unwrap();
    let head = CheckpointHeader { log: log.log_id(), lsn: Lsn::new(100), floor: Lsn::new(101), ..head };
    drop(log);
    medium.put(Object::Checkpoint(head.id), [&head.encode(), &bytes[80..90]].concat());
    let log = Log::open_device(reopen(&medium), config()).unwrap();
    let rebuilt = log.rebuild(&mut Documents::default());
    let told = |rebuilt: &Rebuilt| (rebuilt.entries_replayed, rebuilt.checkpoints_rejected.len());
    assert_eq!(rebuilt.as_ref().map(told).ok(), Some((1, 1)), "{rebuilt:?}");
}

#[test]
fn the_application_slot_follows_every_segment() {
    let device = small();
    let medium = device.reader();
    let log = Log::open_device(device, config()).unwrap();
    assert_eq!(log.slot(), b"");
    log.set_slot(b"vote 7 for 3").unwrap();
    for n in 1..=100 {
        log.append(insert(n, "some text to fill segments with")).unwrap();
    }
    assert!(matches!(log.set_slot(&[0; 65]), Err(Error::SlotTooLarge { len: 65, max: 64 })));
    drop(log);
    let log = Log::open_device(reopen(&medium), config()).unwrap();
    assert_eq!(log.slot(), b"vote 7 for 3");
}

#[test]
fn salvage_gives_up_what_is_damaged_and_writes_on_above_it() {
    let device = small();
    let medium = device.reader();
    let log = Log::open_device(device, config()).unwrap();
    let mut places = Vec::new();
    for n in 1..=60 {
        log.append(insert(n, "some text to fill segments with")).unwrap();
    }
    for entry in log.read_from(Lsn::ZERO).unwrap() {
        let entry = entry.unwrap();
        places.push((entry.segment, entry.offset));
    }
    log.close().unwrap();
    drop(log);
    for n in [5, 55] {
        let (segment, offset) = places[n - 1];
        let mut bytes = medium.object(Object::Segment(segment)).unwrap();
        bytes[offset as usize + 60] ^= 4;
        medium.put(Object::Segment(segment), bytes);
    }
    let opened = Log::open_device(reopen(&medium), config().with_full_check());
    assert!(matches!(opened, Err(Error::Refused(_))), "{opened:?}");
    let log = Log::open_device(reopen(&medium), config().with_policy(Policy::Salvage)).unwrap();
    let damage: Vec<_> = log.recovery().damage().map(|finding| finding.lsns.unwrap()).collect();
    assert_eq!(damage, [(Lsn::new(55), Lsn::new(55)), (Lsn::new(5), Lsn::new(5))]);
    assert_eq!(log.append(insert(61, "new")).unwrap().lsn(), Lsn::new(61));
    drop(log);
    let log = Log::open_device(reopen(&medium), config().with_full_check()).unwrap();
    let lsns: Vec<_> = log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn.value()).collect();
    assert_eq!(lsns, (1..=61).filter(|lsn| ![5, 55].contains(lsn)).collect::<Vec<u64>>());
    assert_eq!(log.recovery().gaps().count(), 2);
}

#[test]
fn point_in_time_ends_the_log_before_the_first_damage() {
    let device = small();
    let medium = device.reader();
    let log = Log::open_device(device, config()).unwrap();
    for n in 1..=60 {
        log.append(insert(n, "some text to fill segments with")).unwrap();
    }
    let fifth = log.read_from(Lsn::new(5)).unwrap().next().unwrap().unwrap();
    log.close().unwrap();
    drop(log);
    let object = Object::Segment(fifth.segment);
    let mut bytes = medium.object(object).unwrap();
    bytes[fifth.offset as usize + 60] ^= 4;
    medium.put(object, bytes);
    let log = Log::open_device(reopen(&medium), config().with_policy(Policy::PointInTime)).unwrap();
    assert_eq!(log.append(insert(61, "new")).unwrap().lsn(), Lsn::new(61), "no durable LSN is given out twice");
    drop(log);
    let log = Log::open_device(reopen(&medium), config().with_full_check()).unwrap();
    let lsns: Vec<_> = log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn.value()).collect();
    assert_eq!(lsns, [1, 2, 3, 4, 61]);
}

#[test]
fn every_kind_of_log_is_a_write_ahead_log() {
    let dir = tempfile::tempdir().unwrap();
    let logs: [Box<dyn WriteAheadLog>; 2] = [
        Box::new(Log::open(Config { dir: dir.path().to_owned(), ..config() }).unwrap()),
        Box::new(Log::open_device(small(), config()).unwrap()),
    ];
    for log in &logs {
        log.append(&insert(1, "one")).unwrap();
        log.append_batch(&[insert(2, "two"), insert(3, "three")]).unwrap();
        assert_eq!((log.current_lsn(), log.synced_lsn()), (Lsn::new(4), Lsn::new(3)));
        let at = log.checkpoint_at();
        log.checkpoint(at, &Snapshot::default()).unwrap();
        assert_eq!(log.read_from(Lsn::ZERO).unwrap().count(), 4);
        assert_eq!(log.truncate_before(Lsn::MAX).unwrap(), Lsn::new(4));
        assert_eq!(log.stats().unwrap().last_checkpoint_lsn, Some(Lsn::new(3)));
        assert!(log.recover().created);
        log.close().unwrap();
        assert!(matches!(log.append(&insert(4, "four")), Err(Error::Closed)));
    }
    let mut reader = LogReader::open(Config { dir: dir.path().to_owned(), ..config() }).unwrap();
    assert!(reader.verify().unwrap().clean);
}

#[test]
fn bytes_copied_from_one_device_open_on_another() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(Config { dir: dir.path().to_owned(), ..config() }).unwrap();
    for n in 1..=5 {
        log.append(insert(n, "text")).unwrap();
    }
    log.close().unwrap();
    let medium = small();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        if let Some(object) = Object::from_name(file.file_name().to_str().unwrap()) {
            medium.put(object, std::fs::read(file.path()).unwrap());
        }
    }
    assert!(medium.reader().next(None).unwrap().is_some());
    let reader = medium.reader();
    drop(medium);
    let log = Log::open_device(reopen(&reader), config()).unwrap();
    assert!(log.recovery().clean && log.recovery().closed);
    assert_eq!(log.append(insert(6, "six")).unwrap().lsn(), Lsn::new(6));
}

#[test]
fn a_transaction_from_before_a_cut_or_reset_has_no_part_in_one_with_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(Config::new(dir.path()).with_sync_mode(SyncMode::Async)).unwrap();
    for n in 0..5 {
        log.append(&[n; 3][..]).unwrap();
    }
    let reset = |log: &Log| log.reset_to(log.current_lsn()).map(drop);
    let cut = |log: &Log| log.truncate_after(Lsn::new(5));
    for (what, change) in [("cut", &cut as &dyn Fn(&Log) -> Result<(), Error>), ("reset", &reset)] {
        let olds = [(); 4].map(|()| log.transaction().unwrap());
        let ids = olds.iter().map(|old| old.id()).collect::<Vec<_>>();
        olds[0].append(b"old").unwrap();
        change(&log).unwrap();
        let news = [(); 4].map(|()| log.transaction().unwrap());
        if what == "cut" {
            assert_eq!(ids, news.iter().map(|new| new.id()).collect::<Vec<_>>(), "the ids are given out again");
        }
        let [append, commit, rollback, dropped] = olds;
        let gone =
            |result: Result<(), Error>| assert!(matches!(result, Err(Error::NoTransaction)), "{what}: {result:?}");
        gone(append.append(b"old one").map(drop));
        gone(commit.commit().map(drop));
        gone(rollback.rollback());
        drop(dropped);
        for new in news {
            new.append(b"new").unwrap();
            new.commit().unwrap();
        }
        let counts = log.replay_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().payload).collect::<Vec<_>>();
        assert_eq!(counts.iter().filter(|payload| *payload == b"new").count(), 4, "{what}: {counts:?}");
        assert!(!counts.iter().any(|payload| payload.starts_with(b"old")));
    }
}
