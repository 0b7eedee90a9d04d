//! `faulty::check`: a bug that only a crash brings out is found, its story is the shortest, and the repaired code passes.
#![allow(missing_docs)]

use core::{
    cell::Cell,
    sync::atomic::{AtomicU8, Ordering},
};
use std::{collections::BTreeMap, panic::panic_any, sync::Arc};

use duralog::{
    Documents, Lsn, Operation, Snapshot, StateMachine, SyncMode,
    faulty::{Check, Counterexample, Step, Wrong, check},
};
use duralog_tests::figure;
use uuid::Uuid;

/// What is wrong with a [`Ledger`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Bug {
    #[default]
    None,
    /// The snapshot has no number of entries: it begins at 0 again behind a checkpoint.
    ForgetsTheCount,
    /// An entry that was applied before it was loaded is applied no more, and one that was not neither.
    SkipsOneBehindASnapshot,
    /// What a snapshot is made of is not loaded: the state is right, and its next snapshot is not.
    SpoilsTheNextSnapshot,
    /// No entry is expected behind a snapshot.
    PanicsBehindASnapshot,
    /// The same, without a text.
    PanicsWithoutText,
    RefusesItsSnapshots,
    /// The number of entries is not in the state, but in the process.
    CountsOutsideTheState,
}

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Adds numbers up, and counts them.
#[derive(Clone, Debug, Default)]
struct Ledger<const BUG: u8> {
    sum: u64,
    count: u64,
    /// The same number again, for snapshots.
    counted: u64,
    skip: bool,
    is_loaded: bool,
}

const fn bug(number: u8) -> Bug {
    match number {
        1 => Bug::ForgetsTheCount,
        2 => Bug::SkipsOneBehindASnapshot,
        3 => Bug::SpoilsTheNextSnapshot,
        4 => Bug::PanicsBehindASnapshot,
        5 => Bug::PanicsWithoutText,
        6 => Bug::RefusesItsSnapshots,
        7 => Bug::CountsOutsideTheState,
        _ => Bug::None,
    }
}

impl<const BUG: u8> StateMachine for Ledger<BUG> {
    type Error = core::array::TryFromSliceError;

    fn apply(&mut self, _: Lsn, operation: &Operation) {
        let Operation::Opaque { bytes } = operation else { return };
        if core::mem::take(&mut self.skip) {
            return;
        }
        match bug(BUG) {
            Bug::PanicsBehindASnapshot => assert!(!self.is_loaded, "{} behind a snapshot", bytes[0]),
            Bug::PanicsWithoutText if self.is_loaded => panic_any(7),
            _ => {}
        }
        self.sum += u64::from(bytes[0]);
        self.count += 1;
        self.counted += 1;
        if bug(BUG) == Bug::CountsOutsideTheState {
            COUNT.set(COUNT.get() + 1);
            self.count = COUNT.get();
        }
    }

    fn snapshot(&self) -> Snapshot {
        let bytes = [self.sum.to_le_bytes(), self.counted.to_le_bytes()].concat();
        Snapshot { bytes, ..Snapshot::default() }
    }

    fn load(&mut self, snapshot: &Snapshot) -> Result<(), Self::Error> {
        self.sum = u64::from_le_bytes(snapshot.bytes[..8].try_into()?);
        self.count = u64::from_le_bytes(snapshot.bytes[8..].try_into()?);
        self.counted = self.count;
        self.is_loaded = true;
        match bug(BUG) {
            Bug::ForgetsTheCount => self.count = 0,
            Bug::SkipsOneBehindASnapshot => self.skip = true,
            Bug::SpoilsTheNextSnapshot => self.counted = 0,
            Bug::RefusesItsSnapshots => self.sum = u64::from_le_bytes(snapshot.bytes[..7].try_into()?),
            _ => {}
        }
        Ok(())
    }
}

fn add(n: u8) -> Operation {
    Operation::opaque([n])
}

fn steps() -> Vec<Step> {
    vec![
        Step::Apply(add(3)),
        Step::Batch(vec![add(4), add(5), add(6)]),
        Step::Sync,
        Step::Checkpoint,
        Step::Apply(add(7)),
        Step::Apply(add(8)),
        Step::Checkpoint,
        Step::Truncate,
        Step::Apply(add(9)),
        Step::Checkpoint,
    ]
}

fn model(kept: &[Operation]) -> (u64, u64) {
    let numbers = kept.iter().filter_map(|operation| match operation {
        Operation::Opaque { bytes } => Some(u64::from(bytes[0])),
        _ => None,
    });
    (numbers.clone().sum(), numbers.count() as u64)
}

fn found<const BUG: u8>(steps: &[Step]) -> Box<Counterexample> {
    match check(steps, model, |ledger: &Ledger<BUG>| (ledger.sum, ledger.count)) {
        Err(found) => found,
        Ok(checked) => panic!("the bug is not found: {checked:?}"),
    }
}

#[test]
fn a_bug_that_only_a_crash_brings_out_is_found_and_told_by_the_fewest_steps() {
    let forgets = found::<1>(&steps());
    println!("{forgets}");
    assert_eq!((forgets.steps.len(), forgets.crashes.len()), (2, 1), "{forgets}");
    assert_eq!(forgets.steps[1], Step::Checkpoint, "{forgets}");
    assert!(matches!(&forgets.wrong, Wrong::State { .. }), "{forgets}");
    let text = forgets.to_string();
    for part in ["after a crash the state is not what the log holds (seed 0)", "expected  (", "#0 create segment_"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert_eq!(format!("{forgets:?}"), text);

    let skips = found::<2>(&steps());
    println!("{skips}");
    assert!(skips.steps.len() <= 3, "{skips}");
}

#[test]
fn one_seed_tells_the_same_story_every_time() {
    assert_eq!(found::<2>(&steps()).to_string(), found::<2>(&steps()).to_string());
}

#[test]
fn sound_code_passes_on_every_medium_and_in_every_mode() {
    let mut counts = BTreeMap::new();
    for sync_mode in [SyncMode::Immediate, SyncMode::Async] {
        for (granule, settled) in [(1, false), (16, false), (512, false), (16, true)] {
            let plain = Check::default();
            let copy_offset = if granule == 512 { 512 } else { 128 };
            let geometry = duralog::Geometry { granule, copy_offset, settled, ..plain.geometry };
            let check = Check { geometry, sync_mode, twice: true, ..plain };
            let checked = check.run(&steps(), model, |ledger: &Ledger<0>| (ledger.sum, ledger.count)).unwrap();
            counts
                .insert((granule, settled, sync_mode == SyncMode::Immediate), (checked.crash_points, checked.crashes));
        }
    }
    println!("crash points and crashes: {counts:?}");
    let (points, crashes) = counts.values().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    figure(&format!("check, sound code on every medium: {points} crash points, {crashes} crashes"));
    assert!(counts.values().all(|(points, crashes)| *points > 20 && crashes > points));
}

#[test]
fn workloads_from_seeds_go_through_and_the_seed_of_a_failure_is_told() {
    let id = |n: u64| Uuid::from_u128(u128::from(n));
    let generate = |random: &mut duralog::faulty::Random| {
        let step = |_| match random.below(8) {
            0 => Step::Checkpoint,
            1 => Step::Reopen,
            2 => Step::Batch((0..3).map(|n| Operation::insert(id(n), "in a batch", [0.5])).collect()),
            3 => Step::Apply(Operation::delete(id(random.below(4)))),
            n => Step::Apply(Operation::insert(id(random.below(4)), n.to_string(), [1.0])),
        };
        (0..6).map(step).collect::<Vec<_>>()
    };
    let model = |kept: &[Operation]| {
        let mut documents = Documents::default();
        kept.iter().for_each(|operation| documents.apply(Lsn::ZERO, operation));
        documents
    };
    let check = Check { ways: 4, ..Check::default() };
    let checked = check.run_seeds(0..20, generate, model, Documents::clone).unwrap();
    assert!(checked.crash_points > 200, "{checked:?}");

    let seeds = |random: &mut duralog::faulty::Random| {
        let steps = [Step::Apply(add(1)), Step::Sync, Step::Checkpoint];
        (0..4).map(|_| steps[random.index(3)].clone()).collect::<Vec<_>>()
    };
    let wrong =
        check.run_seeds(0..50, seeds, self::model, |ledger: &Ledger<1>| (ledger.sum, ledger.count)).unwrap_err();
    assert!(wrong.to_string().contains(&format!("(seed {})", wrong.seed)), "{wrong}");
    let again = check.run_seeds([wrong.seed], seeds, self::model, |ledger: &Ledger<1>| (ledger.sum, ledger.count));
    assert_eq!(again.unwrap_err().to_string(), wrong.to_string());
}

#[test]
fn what_fails_without_a_crash_is_told_as_such() {
    let wrong = check(&[Step::Sync, Step::Apply(add(1))], |_| 0, |ledger: &Ledger<0>| ledger.count).unwrap_err();
    assert_eq!((wrong.steps.len(), wrong.crashes.len()), (1, 0), "{wrong}");
    assert!(wrong.to_string().starts_with("the state is wrong, without any crash"), "{wrong}");
    let large = Step::Apply(Operation::opaque(vec![7; 100_000]));
    let wrong = check(&[large], |_| (), |_: &Ledger<0>| ()).unwrap_err();
    assert!(matches!(wrong.wrong, Wrong::Failed { error: duralog::Error::TooLarge { .. } }), "{wrong}");
}

#[test]
fn what_shows_only_in_the_steps_after_a_crash_is_found() {
    let spoils = found::<3>(&steps());
    println!("{spoils}");
    assert!(spoils.shows_later, "{spoils}");
    assert_eq!((spoils.steps.len(), spoils.crashes.len()), (2, 1), "{spoils}");
}

#[test]
fn a_second_crash_comes_at_every_call_of_the_recovery_from_the_first_and_is_judged() {
    // No state is begun before a recovery is through, so that none can tell: what is looked at is counted.
    let counts = |twice| {
        let views = Cell::new(0_u64);
        let view = |ledger: &Ledger<0>| {
            views.set(views.get() + 1);
            (ledger.sum, ledger.count)
        };
        let checked = Check { twice, ..Check::default() }.run(&steps(), model, view).unwrap();
        (checked.crash_points, checked.crashes, views.get())
    };
    let (once, twice) = (counts(false), counts(true));
    assert_eq!(once.0, twice.0);
    let second = twice.1 - once.1;
    assert!(second > 0 && twice.2 - once.2 >= 2 * second, "{once:?}, {twice:?}");
}

#[test]
fn a_panic_is_found_like_any_other_failure_and_told_with_its_message() {
    let panics = found::<4>(&steps());
    println!("{panics}");
    assert_eq!((panics.steps.len(), panics.crashes.len()), (2, 1), "{panics}");
    let is_told = |wrong: &Wrong| match wrong {
        Wrong::Panicked { message, place: Some(place) } => {
            message.ends_with(" behind a snapshot") && place.contains("check.rs:")
        }
        _ => false,
    };
    assert!(is_told(&panics.wrong), "{panics}");
    assert!(panics.to_string().starts_with("after a crash the code panics (seed 0)"), "{panics}");

    let panics = found::<5>(&steps());
    assert!(panics.to_string().contains(": something that is no text\n"), "{panics}");

    let model = |kept: &[Operation]| assert!(kept.len() < 3, "the model knows two");
    let panics = check(&steps(), model, |_: &Ledger<0>| ()).unwrap_err();
    assert!(panics.to_string().starts_with("the code panics, without any crash"), "{panics}");
    assert!(panics.to_string().contains(": the model knows two\n"), "{panics}");
}

#[test]
fn a_snapshot_that_is_refused_is_wrong_whether_or_not_the_log_begins_there() {
    let mut steps = vec![Step::Apply(add(1)), Step::Checkpoint, Step::Apply(add(2)), Step::Checkpoint];
    for truncates in [false, true] {
        if truncates {
            steps.push(Step::Truncate);
        }
        let refused = found::<6>(&steps);
        println!("{refused}");
        let is_told =
            |wrong: &Wrong| matches!(wrong, Wrong::Rejected { error } if error == "could not convert slice to array");
        assert!(is_told(&refused.wrong), "{refused}");
        let text = refused.to_string();
        assert!(text.starts_with("after a crash a checkpoint is not loaded"), "{text}");
        assert!(text.contains("could not convert slice to array"), "{text}");
    }
}

#[test]
fn what_only_a_second_life_in_the_same_process_shows_is_told_as_such() {
    let counts = found::<7>(&steps());
    println!("{counts}");
    assert!(counts.second_life, "{counts}");
    assert_eq!((counts.steps.len(), counts.crashes.len()), (1, 0), "{counts}");
    assert!(
        counts.to_string().starts_with("the state is wrong in a second life in the same process (seed 0)"),
        "{counts}"
    );
}

/// A sum that what is frozen shares.
#[derive(Default)]
struct Shared<const THAWS: bool>(Arc<AtomicU8>);

impl<const THAWS: bool> StateMachine for Shared<THAWS> {
    type Error = core::array::TryFromSliceError;

    fn apply(&mut self, _: Lsn, operation: &Operation) {
        if let Operation::Opaque { bytes } = operation {
            self.0.fetch_add(bytes[0], Ordering::Relaxed);
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot { bytes: vec![self.0.load(Ordering::Relaxed)], ..Snapshot::default() }
    }

    fn freeze(&self) -> Box<dyn FnOnce() -> Snapshot + Send> {
        let frozen =
            if THAWS { Self(Arc::clone(&self.0)) } else { Self(Arc::new(self.0.load(Ordering::Relaxed).into())) };
        Box::new(move || frozen.snapshot())
    }

    fn load(&mut self, snapshot: &Snapshot) -> Result<(), Self::Error> {
        let [sum] = snapshot.bytes[..].try_into()?;
        self.0 = Arc::new(AtomicU8::new(sum));
        Ok(())
    }
}

#[test]
fn a_snapshot_that_goes_on_changing_after_the_state_was_frozen_is_found() {
    let sum = |kept: &[Operation]| u8::try_from(model(kept).0).unwrap();
    let thaws = match check(&steps(), sum, |shared: &Shared<true>| shared.0.load(Ordering::Relaxed)) {
        Err(thaws) => thaws,
        Ok(checked) => panic!("the bug is not found: {checked:?}"),
    };
    println!("{thaws}");
    let is_told =
        |wrong: &Wrong| matches!(wrong, Wrong::Thawed { expected, found } if (&expected[..], &found[..]) == ("0", "7"));
    assert!(is_told(&thaws.wrong), "{thaws}");
    assert_eq!(thaws.steps, [Step::Checkpoint, Step::Apply(add(7))]);
    assert!(thaws.to_string().starts_with("what is frozen goes on changing, without any crash (seed 0)"), "{thaws}");

    check(&steps(), sum, |shared: &Shared<false>| shared.0.load(Ordering::Relaxed)).unwrap();
}
