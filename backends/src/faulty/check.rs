//! Runs a state machine through every crash that its log can meet, and tells the shortest story that goes wrong.
//!
//! The state, its steps and a model of it are the user's; the store and its log are the real ones, on a [`Medium`].
//!
//! ```text
//! steps ──► MemoryStore<S, FaultyDevice> ──► crash at every call, in many ways ──► recovery ──► the state
//!   └─────► the model of what the log kept ───────────────────────────────────────────────────── the same?
//! ```

use core::{cell::RefCell, fmt};
use std::error;

use duralog_core::{Durability, Geometry, Lsn, operation::Operation};

use super::{
    change::{Change, Keep, UnsyncedOp},
    device::FaultyDevice,
    medium::Medium,
    panics::{Panic, caught},
    plan::Plan,
    random::Random,
    ways::ways,
};
use crate::{
    config::{Config, SyncMode},
    environment::Environment,
    error::Error,
    log::{Log, Receipt},
    memory_store::MemoryStore,
    store::{Snapshot, StateMachine},
};

/// One thing that a program does with its store.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Logs an operation and makes it.
    Apply(Operation),
    /// The same for operations that a crash keeps all or not at all.
    Batch(Vec<Operation>),
    /// Makes everything that was logged durable.
    Sync,
    /// Writes a checkpoint of the state.
    Checkpoint,
    /// Gives up what the checkpoints hold.
    Truncate,
    /// Closes the store and opens it again.
    Reopen,
}

impl Step {
    fn operations(&self) -> &[Operation] {
        match self {
            Self::Apply(operation) => core::slice::from_ref(operation),
            Self::Batch(operations) => operations,
            _ => &[],
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |f: &mut fmt::Formatter<'_>, operation: &Operation| match operation {
            Operation::Opaque { bytes } => match core::str::from_utf8(bytes) {
                Ok(text) if text.chars().all(|c| !c.is_control()) => write!(f, "{text:?}"),
                _ => write!(f, "{bytes:?}"),
            },
            operation => write!(f, "{operation:?}"),
        };
        match self {
            Self::Apply(operation) => {
                f.write_str("apply ")?;
                one(f, operation)
            }
            Self::Batch(operations) => {
                f.write_str("apply as one batch")?;
                operations.iter().try_for_each(|operation| {
                    f.write_str("\n       ")?;
                    one(f, operation)
                })
            }
            Self::Sync => f.write_str("sync"),
            Self::Checkpoint => f.write_str("checkpoint"),
            Self::Truncate => f.write_str("truncate"),
            Self::Reopen => f.write_str("close, open again"),
        }
    }
}

/// How a check is done. The usual values suit most: a log of small segments, so that few steps fill several.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// The medium.
    pub geometry: Geometry,
    /// When an operation is durable.
    pub sync_mode: SyncMode,
    /// In how many ways a power cut at one call is tried, at most: all subsets of the unsynced sectors if they are no
    /// more, else all, none, each alone, each missing, and a sample. All are too many to come to an end where a step writes
    /// more than some twenty sectors.
    pub ways: usize,
    /// Whether a second crash follows at every call of the recovery from the first.
    pub twice: bool,
    /// The seed of samples.
    pub seed: u64,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            geometry: Geometry {
                segment_size: 8192,
                granule: 1,
                copy_offset: 128,
                blank: 0,
                settled: false,
                slots: None,
            },
            sync_mode: SyncMode::Immediate,
            ways: 16,
            twice: false,
            seed: 0,
        }
    }
}

/// What a check went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// Calls at which the power went, or the process died.
    pub crash_points: u64,
    /// Ways in which that went, and those of second crashes.
    pub crashes: u64,
}

/// A crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// The mutating call that was not done any more, from 0 since the medium was made, or since the crash before.
    pub call: u64,
    /// What it left of each unsynced operation, oldest first; `None`: the process died, and the cache stayed.
    pub keeps: Option<Vec<Keep>>,
}

/// What is wrong.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Wrong {
    /// The state is not what the model says.
    State {
        /// The last entry that it is made of.
        last: Lsn,
        /// What the model says.
        expected: String,
        /// What was seen.
        found: String,
    },
    /// An acknowledged operation is gone: a defect of the log itself, or a medium that lied.
    Lost {
        /// The last LSN that was acknowledged.
        acknowledged: Lsn,
        /// The last one that is there.
        last: Lsn,
    },
    /// The store could not do what it was asked, and no crash was the reason.
    Failed {
        /// What it said.
        error: Error,
    },
    /// The state does not load a checkpoint that was made of it. Nothing here damages one.
    Rejected {
        /// What [`StateMachine::load`] said.
        error: String,
    },
    /// A snapshot holds what was changed after the state was [frozen](StateMachine::freeze) for it: one that is written out while
    /// other threads change the state is that of no moment.
    Thawed {
        /// What is seen of a state that is loaded from a snapshot which was written out at once.
        expected: String,
        /// The same of one that was written out when all steps had been done.
        found: String,
    },
    /// The code panicked: that of the state, of the model or of the view.
    Panicked {
        /// What it panicked with.
        message: String,
        /// The file, the line and the column; `None` if the panic hook was set since the first check of this process.
        place: Option<String>,
    },
}

impl From<Error> for Box<Wrong> {
    fn from(error: Error) -> Self {
        Self::new(Wrong::Failed { error })
    }
}

/// Runs code of the user: a panic is one more thing that may be wrong.
fn judged<T>(run: impl FnOnce() -> Result<T, Box<Wrong>>) -> Result<T, Box<Wrong>> {
    caught(run).unwrap_or_else(|Panic { message, place }| Err(Box::new(Wrong::Panicked { message, place })))
}

/// The shortest story found that goes wrong. Its [`Debug`](fmt::Debug) is the same text as its
/// [`Display`](fmt::Display), so that `unwrap` prints it well.
pub struct Counterexample {
    /// The seed, of the check or of the workload.
    pub seed: u64,
    /// The steps, none of which can be left out.
    pub steps: Vec<Step>,
    /// How many steps the workload had.
    pub given: usize,
    /// The crashes: none if it goes wrong without.
    pub crashes: Vec<Crash>,
    /// How many of the steps had been begun, and how many done, when the first crash came.
    pub begun_and_done: (usize, usize),
    /// Whether it shows only after the crash, when the rest of the steps has been done.
    pub shows_later: bool,
    /// Whether it goes wrong without any crash, but only where the process has gone through the steps before: something outside
    /// the state and its log is kept from one life of the store to the next.
    pub second_life: bool,
    /// What is wrong.
    pub wrong: Wrong,
    /// Every step on the medium.
    pub trace: String,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (seed {})\n", self.title(), self.seed)?;
        let (begun, done) = self.begun_and_done;
        if begun == 0 {
            self.crash(f, "while the store is opened for the first time")?;
        }
        for (n, step) in self.steps.iter().enumerate() {
            writeln!(f, "  {:>2}  {step}", n + 1)?;
            if n + 1 == begun {
                self.crash(f, if begun > done { "in this step" } else { "after this step" })?;
            }
        }
        if self.shows_later && !self.crashes.is_empty() {
            writeln!(
                f,
                "      the store is opened again, what is left of the steps is done, and it is opened once more"
            )?;
        }
        match &self.wrong {
            Wrong::State { last, expected, found } => {
                writeln!(f, "\n  the log holds all up to {last}\n  expected  {expected}\n  found     {found}")?;
            }
            Wrong::Thawed { expected, found } => {
                writeln!(
                    f,
                    "\n  written out when the steps behind it are done, a checkpoint is not what it is at once"
                )?;
                writeln!(f, "  expected  {expected}\n  found     {found}")?;
            }
            Wrong::Lost { acknowledged, last } => {
                writeln!(f, "\n  {acknowledged} was acknowledged, and the log ends at {last}")?;
            }
            Wrong::Failed { error } => writeln!(f, "\n  {error}")?,
            Wrong::Rejected { error } => writeln!(f, "\n  what `load` says: {error}")?,
            Wrong::Panicked { message, place: Some(place) } => writeln!(f, "\n  panicked at {place}: {message}")?,
            Wrong::Panicked { message, place: None } => writeln!(f, "\n  panicked: {message}")?,
        }
        if self.second_life {
            writeln!(
                f,
                "  The first life was right, and so is the log: something outside the state is kept until the next life."
            )?;
        }
        let spare = self.given - self.steps.len();
        writeln!(f, "\n{spare} of {} steps were not needed. What was done to the medium:", self.given)?;
        let reads = |line: &&str| ["read ", "next", "prev"].iter().any(|step| line.trim_start().starts_with(step));
        self.trace.lines().filter(|line| !reads(line)).try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Debug for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl error::Error for Counterexample {}

impl Counterexample {
    fn title(&self) -> String {
        let has_crashed = !self.crashes.is_empty();
        let what = match &self.wrong {
            Wrong::State { .. } if has_crashed => "the state is not what the log holds",
            Wrong::State { .. } => "the state is wrong",
            Wrong::Lost { .. } => "something acknowledged is gone",
            Wrong::Failed { .. } if has_crashed => "the store cannot go on",
            Wrong::Failed { .. } => "a step fails",
            Wrong::Rejected { .. } => "a checkpoint is not loaded",
            Wrong::Thawed { .. } => "what is frozen goes on changing",
            Wrong::Panicked { .. } => "the code panics",
        };
        match (has_crashed, self.second_life) {
            (true, _) => format!("after a crash {what}"),
            (false, true) => format!("{what} in a second life in the same process"),
            (false, false) => format!("{what}, without any crash"),
        }
    }

    fn crash(&self, f: &mut fmt::Formatter<'_>, place: &str) -> fmt::Result {
        for (n, crash) in self.crashes.iter().enumerate() {
            let place = if n == 0 { place } else { "in the recovery from that" };
            write!(f, "      * {place}, at call {}, ", crash.call)?;
            match &crash.keeps {
                None => writeln!(f, "the process dies")?,
                Some(keeps) => {
                    let lost = keeps.iter().filter(|keep| **keep != Keep::All).count();
                    writeln!(f, "the power goes; of {} unsynced operations {lost} are lost or torn", keeps.len())?;
                }
            }
        }
        Ok(())
    }
}

/// Checks a workload in the usual way: at every call the process dies, or the power goes in several ways; the store is
/// opened again and must hold what the log kept; the rest of the steps is done, and it must hold that.
///
/// `model` says what the operations that the log kept amount to; `view` says the same of a state. What these two say is
/// compared, and printed where it differs. A snapshot that [`StateMachine::load`] refuses is wrong as well, one that changes with
/// what is applied after the state was [frozen](StateMachine::freeze) for it, and a panic of any of this code: an `assert!` in a
/// state is found like all else. Panics are told in the story and not on standard error; for that the first check of a process
/// sets a panic hook, which passes on those of other threads and stays. With `panic = "abort"` a panic ends the process, with the
/// hook's message and no story.
///
/// # What it does not see
/// - *Memory outside the state.* The crash is simulated: a `static`, a cache or a file of the process survives it. Where that
///   makes a repeated life go wrong, it is told ([`Counterexample::second_life`]); where it hides that a snapshot lacks
///   something, it is not.
/// - *What the program does before it appends.* The check makes the changes itself: a mail that is sent for a change which a
///   crash then takes away is not noticed.
/// - *Transactions, a full medium, syncs that fail, damage.* None of them comes up.
///
/// How one goes through all but the first two by hand is shown at [`faulty`](crate::faulty).
///
/// # Errors
/// The shortest story found that goes wrong.
///
/// # Example
/// A shop reserves what a customer puts into the basket and sells it when it is paid. Its snapshot forgets what is
/// reserved. No test without a crash notices: the program always takes its last checkpoint when nothing is reserved.
///
/// ```
/// use duralog::{Lsn, MemoryStore, Operation, Snapshot, StateMachine};
/// use duralog::faulty::{Step, check};
///
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// struct Shop<const BUG: bool> { stock: u8, reserved: u8, sold: u8 }
///
/// impl<const BUG: bool> Default for Shop<BUG> {
///     fn default() -> Self { Self { stock: 10, reserved: 0, sold: 0 } }
/// }
///
/// impl<const BUG: bool> StateMachine for Shop<BUG> {
///     type Error = std::array::TryFromSliceError;
///
///     fn apply(&mut self, _: Lsn, operation: &Operation) {
///         match operation {
///             Operation::Opaque { bytes } if bytes.as_slice() == b"reserve" => {
///                 self.stock -= 1;
///                 self.reserved += 1;
///             }
///             Operation::Opaque { bytes } if bytes.as_slice() == b"pay" => {
///                 self.sold += self.reserved;
///                 self.reserved = 0;
///             }
///             _ => {}
///         }
///     }
///
///     fn snapshot(&self) -> Snapshot {
///         let reserved = if BUG { 0 } else { self.reserved };
///         Snapshot { bytes: vec![self.stock, reserved, self.sold], ..Snapshot::default() }
///     }
///
///     fn load(&mut self, snapshot: &Snapshot) -> Result<(), Self::Error> {
///         let [stock, reserved, sold] = snapshot.bytes[..].try_into()?;
///         *self = Self { stock, reserved, sold };
///         Ok(())
///     }
/// }
///
/// let apply = |what: &str| Step::Apply(Operation::opaque(what.as_bytes()));
/// let steps = [apply("reserve"), apply("reserve"), Step::Checkpoint, apply("pay"), Step::Checkpoint, Step::Reopen];
/// let model = |kept: &[Operation]| {
///     let mut shop = Shop::<false>::default();
///     kept.iter().for_each(|operation| shop.apply(Lsn::ZERO, operation));
///     (shop.stock, shop.reserved, shop.sold)
/// };
///
/// let found = check(&steps, model, |shop: &Shop<true>| (shop.stock, shop.reserved, shop.sold)).unwrap_err();
/// println!("{found}");
/// assert_eq!(found.steps, [apply("reserve"), Step::Checkpoint]);
/// assert_eq!(found.crashes.len(), 1);
///
/// let passed = check(&steps, model, |shop: &Shop<false>| (shop.stock, shop.reserved, shop.sold)).unwrap();
/// assert!(passed.crash_points > 20);
/// ```
pub fn check<S, V>(
    steps: &[Step],
    model: impl Fn(&[Operation]) -> V,
    view: impl Fn(&S) -> V,
) -> Result<Checked, Box<Counterexample>>
where
    S: StateMachine + Default,
    V: PartialEq + fmt::Debug,
{
    Check::default().run(steps, model, view)
}

impl Check {
    /// [`check`], with other values than the usual ones.
    ///
    /// # Errors
    /// The shortest story found that goes wrong.
    pub fn run<S, V>(
        &self,
        steps: &[Step],
        model: impl Fn(&[Operation]) -> V,
        view: impl Fn(&S) -> V,
    ) -> Result<Checked, Box<Counterexample>>
    where
        S: StateMachine + Default,
        V: PartialEq + fmt::Debug,
    {
        let user = User { model: &model, view: &view };
        let found = match self.search(steps, &user) {
            Ok(checked) => return Ok(checked),
            Err(found) => found,
        };
        // The first life was right. Is it still, in a process that has gone through others?
        let repeated = found.crashes.last().and_then(|_| self.second_life(steps, &user));
        Err(self.shrunk(repeated.unwrap_or(found), &user))
    }

    /// Checks a workload from each of these seeds, made by `generate`.
    ///
    /// # Errors
    /// The shortest story found that goes wrong, and its seed.
    pub fn run_seeds<S, V>(
        &self,
        seeds: impl IntoIterator<Item = u64>,
        generate: impl Fn(&mut Random) -> Vec<Step>,
        model: impl Fn(&[Operation]) -> V,
        view: impl Fn(&S) -> V,
    ) -> Result<Checked, Box<Counterexample>>
    where
        S: StateMachine + Default,
        V: PartialEq + fmt::Debug,
    {
        let mut all = Checked::default();
        for seed in seeds {
            let steps = generate(&mut Random::new(seed));
            let checked = Self { seed, ..*self }.run(&steps, &model, &view)?;
            all.crash_points += checked.crash_points;
            all.crashes += checked.crashes;
        }
        Ok(all)
    }

    /// Leaves out what is not needed for it to go wrong.
    fn shrunk<S, V>(&self, mut found: Box<Counterexample>, user: &User<'_, S, V>) -> Box<Counterexample>
    where
        S: StateMachine + Default,
        V: PartialEq + fmt::Debug,
    {
        let given = found.given;
        let mut at = found.steps.len();
        while at > 0 {
            at -= 1;
            for shorter in shorter(&found.steps, at) {
                let Err(mut smaller) = self.search(&shorter, user) else { continue };
                // Every life is a second one by now, and that tells most where it is known to matter.
                smaller.second_life |= found.second_life && smaller.crashes.is_empty();
                if smaller.second_life == found.second_life {
                    found = smaller;
                    at = at.min(found.steps.len());
                    break;
                }
            }
        }
        found.given = given;
        found
    }

    /// The first story that goes wrong, simple crashes first.
    fn search<S, V>(&self, steps: &[Step], user: &User<'_, S, V>) -> Result<Checked, Box<Counterexample>>
    where
        S: StateMachine + Default,
        V: PartialEq + fmt::Debug,
    {
        let life = self.live(Medium::new(self.geometry), None, steps, user);
        if let Some(wrong) = life.wrong {
            return Err(self.story(steps, &[], &life.progress, wrong, &life.medium, Look::AtOnce));
        }
        let frozen = judged(|| user.stays_frozen(steps, &life.progress.logged));
        if let Err(wrong) = frozen {
            return Err(self.story(steps, &[], &life.progress, *wrong, &life.medium, Look::AtOnce));
        }
        // What shows at once makes the better story.
        self.crash_everywhere(&life, steps, user, Look::AtOnce)?;
        self.crash_everywhere(&life, steps, user, Look::Later)
    }

    /// The steps once more, without a crash: they were right before.
    fn second_life<S, V>(&self, steps: &[Step], user: &User<'_, S, V>) -> Option<Box<Counterexample>>
    where
        S: StateMachine + Default,
        V: PartialEq + fmt::Debug,
    {
        let life = self.live(Medium::new(self.geometry), None, steps, user);
        life.wrong.as_ref().map(|wrong| self.story_of_a_second_life(steps, &life, wrong))
    }

    fn story_of_a_second_life(&self, steps: &[Step], life: &Life, wrong: &Wrong) -> Box<Counterexample> {
        let story = self.story(steps, &[], &life.progress, wrong.clone(), &life.medium, Look::AtOnce);
        Box::new(Counterexample { second_life: true, ..*story })
    }

    fn crash_everywhere<S, V>(
        &self,
        life: &Life,
        steps: &[Step],
        user: &User<'_, S, V>,
        look: Look,
    ) -> Result<Checked, Box<Counterexample>>
    where
        S: StateMachine + Default,
        V: PartialEq + fmt::Debug,
    {
        let mut checked = Checked::default();
        for call in 0..=life.calls {
            checked.crash_points += 1;
            let stopped = self.live(Medium::new(self.geometry), Some(call), steps, user);
            if let Some(wrong) = &stopped.wrong {
                return Err(self.story_of_a_second_life(steps, &stopped, wrong));
            }
            let unsynced = stopped.medium.unsynced();
            let mut random = Random::new(self.seed ^ call);
            let ways = ways(&unsynced, self.ways, &mut random).into_iter().chain(tears(&unsynced));
            for keeps in core::iter::once(None).chain(ways.map(Some)) {
                let crash = Crash { call, keeps };
                checked.crashes += self.after(&stopped, &[crash], steps, user, look, self.twice)?;
            }
        }
        Ok(checked)
    }

    /// Opens the store after these crashes, looks at it, and does the rest of the steps. Gives how many crashes were gone
    /// through: this one, and those of the recovery from it.
    fn after<S, V>(
        &self,
        stopped: &Life,
        crashes: &[Crash],
        steps: &[Step],
        user: &User<'_, S, V>,
        look: Look,
        again: bool,
    ) -> Result<u64, Box<Counterexample>>
    where
        S: StateMachine + Default,
        V: PartialEq + fmt::Debug,
    {
        let crashed = || {
            let medium = stopped.medium.snapshot();
            match crashes.last().and_then(|crash| crash.keeps.clone()) {
                None => medium.kill(),
                Some(keeps) => {
                    let mut keeps = keeps.into_iter();
                    medium.power_cut(|_| keeps.next().unwrap_or(Keep::None));
                }
            }
            medium
        };
        let medium = crashed();
        let calls = match judged(|| self.recovered(&medium, &stopped.progress, steps, user, look)) {
            Ok(calls) => calls,
            Err(wrong) => return Err(self.story(steps, crashes, &stopped.progress, *wrong, &medium, look)),
        };
        let mut crashes_tried = 1;
        for call in (0..calls).filter(|_| again) {
            let medium = crashed();
            medium.set_plan(Plan::cut_at(call));
            // No state is begun before the power goes.
            drop(self.open::<S>(&medium));
            for keeps in [None, Some(vec![])] {
                let second = Crash { call, keeps };
                let stopped =
                    Life { medium: medium.snapshot(), progress: stopped.progress.clone(), calls, wrong: None };
                crashes_tried += self.after(&stopped, &[crashes, &[second]].concat(), steps, user, look, false)?;
            }
        }
        Ok(crashes_tried)
    }

    /// What is found after a crash is right, and so is what becomes of it. Gives the calls that opening took.
    fn recovered<S, V>(
        &self,
        medium: &Medium,
        progress: &Progress,
        steps: &[Step],
        user: &User<'_, S, V>,
        look: Look,
    ) -> Result<u64, Box<Wrong>>
    where
        S: StateMachine + Default,
        V: PartialEq + fmt::Debug,
    {
        let store = self.open::<S>(medium)?;
        let calls = medium.calls();
        let last = store.recovery().last_valid_lsn;
        if last < progress.acknowledged {
            return Err(Box::new(Wrong::Lost { acknowledged: progress.acknowledged, last }));
        }
        let kept: Vec<_> = progress.logged.iter().filter(|(lsn, _)| *lsn <= last).cloned().collect();
        user.compare(&kept, last, &store)?;
        if look == Look::AtOnce {
            return Ok(calls);
        }
        let operations = kept.len();
        let mut progress = Progress { logged: kept, ..progress.clone() };
        let mut before = 0;
        let rest = steps.iter().filter(|step| {
            before += step.operations().len();
            before > operations || step.operations().is_empty() && before == operations
        });
        let rest: Vec<_> = rest.cloned().collect();
        let store = match self.play(store, medium, &rest, &mut progress, user) {
            Ok(Some(store)) => store,
            Ok(None) => unreachable!("no crash is planned"),
            Err(wrong) => return Err(wrong),
        };
        let last = store.current_lsn().previous();
        user.compare(&progress.logged, last, &store)?;
        drop(store);
        let store = self.open::<S>(medium)?;
        user.compare(&progress.logged, last, &store)?;
        Ok(calls)
    }

    /// Does the steps, from an empty medium on, until the power goes at a call.
    fn live<S, V>(&self, medium: Medium, cut: Option<u64>, steps: &[Step], user: &User<'_, S, V>) -> Life
    where
        S: StateMachine + Default,
        V: PartialEq + fmt::Debug,
    {
        medium.set_plan(Plan { cut_at_call: cut, ..Plan::default() });
        let mut progress = Progress::default();
        let played = judged(|| match self.open::<S>(&medium) {
            Ok(store) => self.play(store, &medium, steps, &mut progress, user),
            Err(_) if medium.is_off() => Ok(None),
            Err(wrong) => Err(wrong),
        });
        let calls = medium.calls();
        // What is left when it ends here: the handle's own end, which syncs, does not count.
        let left = medium.snapshot();
        medium.kill();
        Life { medium: left, progress, calls, wrong: played.err().map(|wrong| *wrong) }
    }

    /// Does the steps; `None` if the power went.
    fn play<S, V>(
        &self,
        mut store: Store<S>,
        medium: &Medium,
        steps: &[Step],
        progress: &mut Progress,
        user: &User<'_, S, V>,
    ) -> Result<Option<Store<S>>, Box<Wrong>>
    where
        S: StateMachine + Default,
        V: PartialEq + fmt::Debug,
    {
        for step in steps {
            progress.begun += 1;
            let first = store.current_lsn();
            let lsns = (first.value()..).map(Lsn::new);
            progress.logged.extend(lsns.zip(step.operations().iter().cloned()));
            match self.step(store, medium, step, progress) {
                Ok(next) => store = next,
                Err(_) if medium.is_off() => return Ok(None),
                Err(wrong) => return Err(wrong),
            }
            progress.done += 1;
            let last = store.current_lsn().previous();
            user.compare(&progress.logged, last, &store)?;
        }
        Ok(Some(store))
    }

    fn step<S: StateMachine + Default>(
        &self,
        store: Store<S>,
        medium: &Medium,
        step: &Step,
        progress: &mut Progress,
    ) -> Result<Store<S>, Box<Wrong>> {
        // The handle of a store that fails goes while the power is off, and does nothing more.
        match step {
            Step::Apply(operation) => progress.acknowledge(Some(store.apply(operation.clone())?)),
            Step::Batch(operations) => progress.acknowledge(store.apply_batch(operations)?),
            Step::Sync => progress.acknowledged = store.sync()?,
            Step::Checkpoint => drop(store.checkpoint()?),
            Step::Truncate => drop(store.truncate_before(store.current_lsn())?),
            Step::Reopen => {
                store.close()?;
                progress.acknowledged = store.synced_lsn();
                drop(store);
                return self.open(medium);
            }
        }
        progress.acknowledged = progress.acknowledged.max(store.synced_lsn());
        Ok(store)
    }

    fn open<S: StateMachine + Default>(&self, medium: &Medium) -> Result<Store<S>, Box<Wrong>> {
        let config = Config {
            idle_mark: None,
            write_behind: None,
            sync_mode: self.sync_mode,
            environment: std::sync::Arc::new(Still),
            ..Config::default()
        };
        let device = medium.try_device().expect("the handle before it is gone");
        REFUSED.take();
        let opened = MemoryStore::with_log(Log::open_device(device, config)?);
        match REFUSED.take() {
            Some(error) => Err(Box::new(Wrong::Rejected { error })),
            None => Ok(opened?),
        }
    }

    fn story(
        &self,
        steps: &[Step],
        crashes: &[Crash],
        progress: &Progress,
        wrong: Wrong,
        medium: &Medium,
        look: Look,
    ) -> Box<Counterexample> {
        Box::new(Counterexample {
            seed: self.seed,
            steps: steps.to_vec(),
            given: steps.len(),
            crashes: crashes.to_vec(),
            begun_and_done: (progress.begun, progress.done),
            shows_later: look == Look::Later,
            second_life: false,
            wrong,
            trace: medium.trace(),
        })
    }
}

/// When the state is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// As soon as it is recovered.
    AtOnce,
    /// Also when the rest of the steps has been done, and when it has been opened once more.
    Later,
}

/// The store that is checked.
type Store<S> = MemoryStore<Judged<S>, FaultyDevice>;

/// The user's state. What it refuses is remembered, for a store may go on from an older checkpoint, or without any.
#[derive(Default)]
struct Judged<S> {
    state: S,
}

impl<S: StateMachine> StateMachine for Judged<S> {
    type Error = S::Error;

    fn apply(&mut self, lsn: Lsn, operation: &Operation) {
        self.state.apply(lsn, operation);
    }

    fn snapshot(&self) -> Snapshot {
        self.state.snapshot()
    }

    fn freeze(&self) -> Box<dyn FnOnce() -> Snapshot + Send> {
        self.state.freeze()
    }

    fn load(&mut self, snapshot: &Snapshot) -> Result<(), Self::Error> {
        self.state.load(snapshot).inspect_err(|error| REFUSED.set(Some(error.to_string())))
    }
}

/// What the user gave.
struct User<'a, S, V> {
    model: &'a dyn Fn(&[Operation]) -> V,
    view: &'a dyn Fn(&S) -> V,
}

impl<S: StateMachine + Default, V: PartialEq + fmt::Debug> User<'_, S, V> {
    /// What each of the checkpoints froze is still that when all that was logged behind it has been applied.
    fn stays_frozen(&self, steps: &[Step], logged: &[(Lsn, Operation)]) -> Result<(), Box<Wrong>> {
        let mut before = 0;
        for step in steps {
            before += step.operations().len();
            let (held, later) = logged.split_at(before);
            if *step != Step::Checkpoint || later.is_empty() {
                continue;
            }
            let mut state = S::default();
            held.iter().for_each(|(lsn, operation)| state.apply(*lsn, operation));
            let (at_once, frozen) = (state.freeze()(), state.freeze());
            later.iter().for_each(|(lsn, operation)| state.apply(*lsn, operation));
            let seen = |snapshot: &Snapshot| {
                let mut loaded = S::default();
                loaded.load(snapshot).ok().map(|()| (self.view)(&loaded))
            };
            // Whether the state and its snapshot are right, the crashes tell.
            let Some(expected) = seen(&at_once) else { continue };
            let found = seen(&frozen());
            if found.as_ref() != Some(&expected) {
                let found = found.map_or("what `load` refuses".into(), |found| format!("{found:?}"));
                return Err(Box::new(Wrong::Thawed { expected: format!("{expected:?}"), found }));
            }
        }
        Ok(())
    }

    fn compare(&self, logged: &[(Lsn, Operation)], last: Lsn, store: &Store<S>) -> Result<(), Box<Wrong>> {
        let (expected, found) = ((self.model)(&operations(logged)), (self.view)(&store.state().state));
        if expected == found {
            return Ok(());
        }
        let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
        Err(Box::new(Wrong::State { last, expected, found }))
    }
}

fn operations(logged: &[(Lsn, Operation)]) -> Vec<Operation> {
    logged.iter().map(|(_, operation)| operation.clone()).collect()
}

/// How far a run came.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// Steps begun, and done.
    begun: usize,
    done: usize,
    /// Operations that were given to the log, with the LSNs that they get.
    logged: Vec<(Lsn, Operation)>,
    acknowledged: Lsn,
}

impl Progress {
    fn acknowledge(&mut self, receipt: Option<Receipt>) {
        if let Some(receipt) = receipt.filter(|receipt| receipt.durability == Durability::Durable) {
            self.acknowledged = self.acknowledged.max(receipt.last);
        }
    }
}

/// A run that came to its end, or to a crash.
struct Life {
    medium: Medium,
    progress: Progress,
    calls: u64,
    wrong: Option<Wrong>,
}

/// A clock that stands still, and numbers that are no more random than a log's UUID has to be here.
#[derive(Debug)]
struct Still;

thread_local! {
    /// Why the last checkpoint that was loaded was refused.
    static REFUSED: RefCell<Option<String>> = const { RefCell::new(None) };
    static NUMBERS: RefCell<Random> = const { RefCell::new(Random::new(1)) };
}

impl Environment for Still {
    fn now_us(&self) -> u64 {
        1_700_000_000_000_000
    }

    fn random(&self) -> u128 {
        NUMBERS.with_borrow_mut(|numbers| u128::from(numbers.next()) << 64 | u128::from(numbers.next()))
    }
}

/// The last write, torn at its beginning, in its middle and at its end, with all that is before it or nothing.
fn tears(unsynced: &[UnsyncedOp]) -> Vec<Vec<Keep>> {
    let last = unsynced.iter().rposition(|op| matches!(&op.change, Change::Write { bytes, .. } if bytes.len() > 1));
    let Some(last) = last else { return vec![] };
    let Change::Write { bytes, .. } = &unsynced[last].change else { return vec![] };
    let lengths = [1, bytes.len() / 2, bytes.len() - 1];
    let torn = |before: &Keep, len| {
        let mut keeps = vec![before.clone(); last];
        keeps.push(Keep::Prefix(len));
        keeps
    };
    lengths.into_iter().flat_map(|len| [torn(&Keep::All, len), torn(&Keep::None, len)]).collect()
}

/// The same steps without the one at `at`, or with less in it.
fn shorter(steps: &[Step], at: usize) -> Vec<Vec<Step>> {
    let Some(step) = steps.get(at) else { return vec![] };
    let with = |middle: &[Step]| [&steps[..at], middle, &steps[at + 1..]].concat();
    let mut shorter = vec![with(&[])];
    if let Step::Batch(operations) = step {
        for without in 0..operations.len() {
            let mut fewer = operations.clone();
            fewer.remove(without);
            shorter.push(with(&[Step::Batch(fewer)]));
        }
        shorter.extend(operations.iter().map(|operation| with(&[Step::Apply(operation.clone())])));
    }
    shorter
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::Documents;

    #[test]
    fn an_acknowledged_entry_that_is_not_there_is_told_as_lost() {
        // No state can bring this about: it takes a log that is broken.
        let check = Check::default();
        let user = User { model: &|_: &[Operation]| 0, view: &|_: &Documents| 0 };
        let progress = Progress { acknowledged: Lsn::new(3), ..Progress::default() };
        let judged = check.recovered(&Medium::new(check.geometry), &progress, &[], &user, Look::AtOnce);
        let wrong = judged.map_err(|wrong| *wrong);
        let is_lost = |wrong: &Wrong| match wrong {
            Wrong::Lost { acknowledged, last } => (*acknowledged, *last) == (Lsn::new(3), Lsn::ZERO),
            _ => false,
        };
        assert!(wrong.as_ref().is_err_and(is_lost), "{wrong:?}");
    }
}
