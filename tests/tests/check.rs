//! `faulty::check`: a bug that only a crash brings out is found, its story is the shortest, and the repaired code passes.
#![allow(missing_docs)]

use std::collections::BTreeMap;

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
}

/// Adds numbers up, and counts them.
#[derive(Clone, Debug, Default)]
struct Ledger<const BUG: u8> {
    sum: u64,
    count: u64,
    skip: bool,
}

const fn bug(number: u8) -> Bug {
    match number {
        1 => Bug::ForgetsTheCount,
        2 => Bug::SkipsOneBehindASnapshot,
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
        self.sum += u64::from(bytes[0]);
        self.count += 1;
    }

    fn snapshot(&self) -> Snapshot {
        let bytes = [self.sum.to_le_bytes(), self.count.to_le_bytes()].concat();
        Snapshot { bytes, ..Snapshot::default() }
    }

    fn load(&mut self, snapshot: &Snapshot) -> Result<(), Self::Error> {
        self.sum = u64::from_le_bytes(snapshot.bytes[..8].try_into()?);
        self.count = u64::from_le_bytes(snapshot.bytes[8..].try_into()?);
        match bug(BUG) {
            Bug::None => {}
            Bug::ForgetsTheCount => self.count = 0,
            Bug::SkipsOneBehindASnapshot => self.skip = true,
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
