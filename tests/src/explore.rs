//! The search: every call that may be the last one, every way in which it may go, and what a recovery makes of it.

use core::{fmt, hash::Hash, hash::Hasher};
use std::{collections::HashSet, hash::DefaultHasher};

use duralog::{
    Object, Policy,
    faulty::{self, Change, Failure, Keep, Plan, Random, UnsyncedOp},
};

use crate::{
    oracle::{Held, Violation, violation},
    run::{Moment, Run, Stopped},
    workload::Op,
};

/// How many ways of losing unsynced operations are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Every subset of the unsynced sectors up to 2^12, beyond that a sample; tears at every byte of every write.
    Every,
    /// Every subset of few operations, tears at every byte of small writes and at every seventh of others.
    Fine,
    /// All, none, each lost, each kept; three tears.
    Coarse,
    /// The same, without tears.
    Whole,
}

/// A stage of a search: what is done, and how finely what may happen meanwhile is looked at.
pub type Stage<'a> = (&'a [Op], Detail);

/// Subsets are all tried of so many operations at most.
const SUBSETS_MAX: usize = 6;
/// Writes of so many bytes at most are torn at every byte.
const SMALL: usize = 48;
/// Subsets of unsynced sectors are all tried if they are no more than this.
const SECTOR_SUBSETS_MAX: usize = 1 << 12;
/// A sector, as the faulty device has it.
const SECTOR: u64 = 512;
/// Failures that are told in full.
const TOLD: usize = 6;

/// The ways in which a power cut may deal with unsynced operations.
#[must_use]
pub fn ways(unsynced: &[UnsyncedOp], detail: Detail) -> Vec<Vec<Keep>> {
    if detail == Detail::Every {
        return every_way(unsynced);
    }
    let count = unsynced.len();
    let each = |kept: &dyn Fn(usize) -> bool| -> Vec<Keep> {
        (0..count).map(|n| if kept(n) { Keep::All } else { Keep::None }).collect()
    };
    let mut ways = vec![each(&|_| true), each(&|_| false)];
    if detail == Detail::Fine && count <= SUBSETS_MAX {
        ways.extend((0..1usize << count).map(|set| each(&|n| set & 1 << n != 0)));
    } else {
        ways.extend((0..count).map(|lost| each(&|n| n != lost)));
        ways.extend((0..count).map(|kept| each(&|n| n == kept)));
        ways.extend((0..count).map(|first| each(&|n| n < first)));
    }
    for (torn, op) in unsynced.iter().enumerate() {
        let is_last = torn + 1 == count;
        for keep in tears(op, if is_last || detail == Detail::Whole { detail } else { Detail::Coarse }) {
            for others in [true, false] {
                let mut way = each(&|n| n < torn && others);
                way[torn] = keep.clone();
                ways.push(way);
            }
            if !is_last {
                let mut way = each(&|_| true);
                way[torn] = keep;
                ways.push(way);
            }
        }
    }
    let mut unique = Vec::with_capacity(ways.len());
    for way in ways {
        if !unique.contains(&way) {
            unique.push(way);
        }
    }
    unique
}

/// Subsets of unsynced sectors, all of them if they are no more; each kept part of a write that ends at a byte boundary,
/// with all that was done before it, or nothing.
fn every_way(unsynced: &[UnsyncedOp]) -> Vec<Vec<Keep>> {
    let mut ways = faulty::ways(unsynced, SECTOR_SUBSETS_MAX, &mut Random::new(unsynced.len() as u64));
    for (torn, op) in unsynced.iter().enumerate() {
        let Change::Write { bytes, .. } = &op.change else { continue };
        for others in [Keep::All, Keep::None] {
            ways.extend((1..bytes.len()).map(|len| {
                let mut way = vec![Keep::None; unsynced.len()];
                way[..torn].fill(others.clone());
                way[torn] = Keep::Prefix(len);
                way
            }));
        }
    }
    ways
}

fn tears(op: &UnsyncedOp, detail: Detail) -> Vec<Keep> {
    let (at, len) = match &op.change {
        Change::Write { at, bytes } => (*at, bytes.len()),
        Change::Create { .. } if detail == Detail::Whole => return vec![],
        Change::Create { size } => return vec![Keep::Prefix(0), Keep::Prefix(usize::try_from(*size).unwrap_or(0) / 2)],
        Change::Trim { .. } | Change::Remove => return vec![],
    };
    let step = if len <= SMALL { 1 } else { 7 };
    let prefixes: Vec<usize> = match detail {
        Detail::Every | Detail::Fine => (1..len).step_by(step).chain([len - 1]).collect(),
        Detail::Coarse => vec![1, len / 2, len - 1],
        Detail::Whole => return vec![],
    };
    let mut keeps: Vec<_> = prefixes.into_iter().map(Keep::Prefix).collect();
    let sectors = usize::try_from((at + len as u64).div_ceil(SECTOR) - at / SECTOR).expect("a write is in memory");
    match sectors {
        0 | 1 => {}
        2..=4 => keeps.extend((1..(1usize << sectors) - 1).map(|set| sector_set(sectors, &|n| set & 1 << n != 0))),
        _ => keeps.extend(
            (0..sectors).flat_map(|one| [sector_set(sectors, &|n| n != one), sector_set(sectors, &|n| n == one)]),
        ),
    }
    keeps
}

fn sector_set(sectors: usize, kept: &dyn Fn(usize) -> bool) -> Keep {
    Keep::Sectors((0..sectors).map(kept).collect())
}

/// What a search went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Mutating calls at which a run was stopped.
    pub points: u64,
    /// Ways in which that went.
    pub states: u64,
    /// Of those, how many left a medium unlike all others.
    pub distinct: u64,
    /// Recoveries of a log that was there or was begun, readers' included.
    pub recoveries: u64,
    /// Crash points with more subsets of unsynced sectors than were tried.
    pub sampled: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { points, states, distinct, recoveries, sampled } = self;
        write!(f, "{points} crash points, {states} states, {distinct} of them distinct, {recoveries} recoveries")?;
        if *sampled > 0 {
            write!(f, "; at {sampled} crash points {SECTOR_SUBSETS_MAX} subsets of more were tried")?;
        }
        Ok(())
    }
}

/// A search through crashes.
#[derive(Debug, Default)]
pub struct Explorer {
    /// What it went through.
    pub counts: Counts,
    seen: HashSet<u64>,
    /// What happened on the way to where the search is.
    path: Vec<String>,
    failed: u64,
    failures: Vec<(String, String)>,
}

impl Explorer {
    /// A new search.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the first stage at each of its calls, by a power cut, by the death of the process, and where the call is a
    /// sync by its failure; checks what recovery makes of it; and goes on with the next stage from there.
    pub fn search(&mut self, name: &str, from: &Moment, stages: &[Stage<'_>]) {
        self.path.push(name.to_owned());
        self.stage(from, stages, &[]);
        self.path.pop();
    }

    /// The same for a run in which the medium is full at one of its calls.
    ///
    /// # Panics
    /// If the workload does not go through without a fault.
    pub fn search_full(&mut self, name: &str, from: &Moment, ops: &[Op], detail: Detail) {
        for call in 0..self.calls_of(from, ops) {
            // What finds no room is not done, but for a part of a write.
            let mut run = from.fork().run(Plan { cut_at_call: Some(call), ..Plan::default() });
            let _ = run.play(ops);
            let parts: &[usize] = if run.last_call() == "write" { &[0, 1, 50] } else { &[0] };
            for &done in parts {
                let failure = if done == 0 { Failure::NoSpace } else { Failure::NoSpaceAfter(done) };
                self.path.push(format!("{name}, no room at call {call} after {done} bytes"));
                let fail = [(call, failure)];
                let mut run = from.fork().run(Plan { fail: fail.to_vec(), ..Plan::default() });
                match run.play(ops) {
                    // It goes on as soon as there is room.
                    Ok(()) => self.stage(from, &[(ops, detail)], &fail),
                    Err(Stopped::Violation(violation)) => self.fail(run.moment(), &violation.to_string()),
                    Err(Stopped::Error(error)) => self.stopped(run, &error),
                }
                self.path.pop();
            }
        }
    }

    /// Lets each call fail otherwise than for lack of room.
    ///
    /// # Panics
    /// If the workload does not go through without a fault.
    pub fn search_errors(&mut self, name: &str, from: &Moment, ops: &[Op]) {
        for call in 0..self.calls_of(from, ops) {
            for done in [0, 1, 60, usize::MAX] {
                let failure = if done == 0 { Failure::Error } else { Failure::ErrorAfter(done) };
                self.path.push(format!("{name}, an error at call {call} after {done} bytes"));
                let mut run = from.fork().run(Plan { fail: vec![(call, failure)], ..Plan::default() });
                match run.play(ops) {
                    Ok(()) => self.all_ways(&run.end()),
                    Err(Stopped::Violation(violation)) => self.fail(run.moment(), &violation.to_string()),
                    Err(Stopped::Error(error)) => self.stopped(run, &error),
                }
                self.path.pop();
            }
        }
    }

    fn calls_of(&self, from: &Moment, ops: &[Op]) -> u64 {
        let mut run = from.fork().run(Plan::default());
        run.play(ops).expect("the workload goes through without a fault");
        run.calls()
    }

    /// A failure that the log did not get over by itself: it says so, and reopening does.
    fn stopped(&mut self, mut run: Run, error: &duralog::Error) {
        self.counts.points += 1;
        if !error.is_fatal() && !matches!(error, duralog::Error::NoSpace(_)) {
            return self.fail(run.moment(), &format!("a failure of the medium is told as {error}"));
        }
        if let Err(violation) = run.is_poisoned() {
            return self.fail(run.moment(), &violation.to_string());
        }
        self.all_ways(&run.end());
    }

    fn all_ways(&mut self, moment: &Moment) {
        self.visit("kill", moment.after_kill(), &[]);
        for way in ways(&moment.medium.unsynced(), Detail::Coarse) {
            self.visit(&format!("power cut keeping {way:?}"), moment.after_cut(&way), &[]);
        }
    }

    fn stage(&mut self, from: &Moment, stages: &[Stage<'_>], fail: &[(u64, Failure)]) {
        let Some((&(ops, detail), rest)) = stages.split_first() else { return };
        let mut run = from.fork().run(Plan { fail: fail.to_vec(), ..Plan::default() });
        let played = run.play(ops);
        let total = run.calls();
        if let Err(stopped) = played {
            return self.fail(run.moment(), &format!("without a fault: {}", reason(&stopped)));
        }
        drop(run);
        for call in 0..=total {
            self.counts.points += 1;
            let mut run = from.fork().run(Plan { cut_at_call: Some(call), fail: fail.to_vec(), ..Plan::default() });
            let played = run.play(ops);
            if let Err(Stopped::Violation(violation)) = played {
                self.fail(run.moment(), &format!("before the cut at call {call}: {violation}"));
                continue;
            }
            let is_sync = run.last_call() == "sync";
            let stopped = run.end();
            let unsynced = stopped.medium.unsynced();
            let ways = ways(&unsynced, detail);
            self.counts.sampled +=
                u64::from(detail == Detail::Every && faulty::subsets(&unsynced) > SECTOR_SUBSETS_MAX as u64);
            self.visit(&format!("kill at call {call}"), stopped.after_kill(), rest);
            for way in &ways {
                self.visit(&format!("power cut at call {call} keeping {way:?}"), stopped.after_cut(way), rest);
            }
            if is_sync && fail.is_empty() {
                for way in &ways {
                    self.failed_sync(from, ops, call, way, rest);
                }
            }
        }
    }

    /// Lets a sync fail: the handle is of no use any more, and what the cache shows may be on no medium.
    fn failed_sync(&mut self, from: &Moment, ops: &[Op], call: u64, way: &[Keep], rest: &[Stage<'_>]) {
        let fail = vec![(call, Failure::SyncLoses(way.to_vec()))];
        let mut run = from.fork().run(Plan { fail, ..Plan::default() });
        let played = run.play(ops);
        let what = format!("failed sync at call {call} keeping {way:?}");
        let checked = match played {
            Ok(()) => Ok(()),
            Err(Stopped::Violation(violation)) => Err(violation),
            Err(Stopped::Error(_)) => run.is_poisoned(),
        };
        if let Err(violation) = checked {
            return self.fail(run.moment(), &format!("{what}: {violation}"));
        }
        let stopped = run.end();
        self.visit(&format!("{what}, then kill"), stopped.after_kill(), rest);
        self.visit(&format!("{what}, then power cut"), stopped.after_cut(&[]), rest);
    }

    /// Checks what recovery makes of this moment, and goes on with the stages from there.
    pub fn visit(&mut self, what: &str, moment: Moment, rest: &[Stage<'_>]) {
        self.counts.states += 1;
        if !self.seen.insert(digest(&moment, rest.len())) {
            return;
        }
        self.counts.distinct += 1;
        self.path.push(what.to_owned());
        match check(&moment, &mut self.counts.recoveries) {
            Ok(()) => self.stage(&moment, rest, &[]),
            Err(Wrong { moment, violation }) => self.fail(&moment, &violation.to_string()),
        }
        self.path.pop();
    }

    fn fail(&mut self, moment: &Moment, what: &str) {
        self.failed += 1;
        if self.failures.len() < TOLD && self.failures.iter().all(|(told, _)| told != what) {
            let (setup, path) = (moment.setup.name, self.path.join("\n  then "));
            let story = format!("{what}\n  on {setup}, {path}\n{}", calls(&moment.medium.trace()));
            self.failures.push((what.to_owned(), story));
        }
    }

    /// Ends the search; gives what it went through.
    ///
    /// # Panics
    /// If anything went wrong: with the first failures, each with how it came about.
    pub fn finish(self, name: &str) -> Counts {
        println!("{name}: {}", self.counts);
        let stories: Vec<_> = self.failures.iter().map(|(_, story)| story.as_str()).collect();
        assert!(self.failed == 0, "{name}: {} failures, such as\n\n{}", self.failed, stories.join("\n\n"));
        self.counts
    }
}

/// Recovers, and recovers again: the entries are right, the same every time, and the log goes on. `recoveries` counts them.
pub(crate) fn check(moment: &Moment, recoveries: &mut u64) -> Result<(), Wrong> {
    let read = read(moment, recoveries)?;
    let mut open = |run: &mut Run, what: &str, full_check: bool, before: Option<&Held>| {
        *recoveries += 1;
        open(run, what, full_check, before)
    };
    let mut run = moment.fork().run(Plan::default());
    let held = open(&mut run, "recovery", false, read.as_ref())?;
    for (what, keep) in [("keeping nothing", Keep::None), ("keeping all", Keep::All)] {
        let again = run.moment().fork();
        again.medium.power_cut(|_| keep.clone());
        let what = format!("recovery after another power cut {what}");
        open(&mut again.run(Plan::default()), &what, true, Some(&held))?;
    }
    let again = run.moment().after_kill();
    open(&mut again.run(Plan::default()), "recovery after another kill", false, Some(&held))?;
    play(&mut run, &[Op::Append(20), Op::Batch(2, 12), Op::Sync])?;
    let mut after = run.moment().after_cut(&[]).run(Plan::default());
    let later = open(&mut after, "recovery of what came after a recovery", true, None)?;
    if later.last != held.last + 3 {
        let violation = violation!("the log ends at {} where {} was acknowledged", later.last, held.last + 3);
        return Err(Wrong::new(&after, violation));
    }
    play(&mut after, &[Op::Append(9), Op::Close])?;
    let mut closed = after.moment().after_cut(&[]).run(Plan::default());
    open(&mut closed, "recovery after a close", true, None)?;
    let report = closed.log().recovery();
    // The metadata is the last to be written, and no sync follows.
    if !report.closed || report.findings.iter().any(|finding| finding.object != Object::Meta) {
        return Err(Wrong::new(&closed, violation!("a log that was closed is not as it should be: {report:?}")));
    }
    Ok(())
}

/// What a recovery did wrong, and where that left the medium.
pub(crate) struct Wrong {
    pub(crate) moment: Box<Moment>,
    pub(crate) violation: Violation,
}

impl Wrong {
    fn new(run: &Run, violation: Violation) -> Self {
        Self { moment: Box::new(run.moment().fork()), violation }
    }
}

/// What a reader sees, if there is a log.
fn read(moment: &Moment, recoveries: &mut u64) -> Result<Option<Held>, Wrong> {
    match moment.read(Policy::Inspect) {
        Ok(held) => {
            // One to open it, and one to verify it.
            *recoveries += 2;
            Ok(Some(held))
        }
        // Before the first segment there is no log to be read.
        Err(_) if moment.oracle.acknowledged() == 0 => Ok(None),
        Err(violation) => Err(Wrong { moment: Box::new(moment.fork()), violation }),
    }
}

/// Opens the log, which ends where it ended before.
fn open(run: &mut Run, what: &str, full_check: bool, before: Option<&Held>) -> Result<Held, Wrong> {
    let opened = run.open(full_check).map_err(|stopped| violation!("{what}: {}", reason(&stopped)));
    let held = opened.map_err(|violation| Wrong::new(run, violation))?;
    match before {
        Some(before) if before.last != held.last => {
            let violation = violation!("{what}: the log ends at {}, and ended at {} before", held.last, before.last);
            Err(Wrong::new(run, violation))
        }
        _ => Ok(held),
    }
}

/// Goes on after a recovery.
fn play(run: &mut Run, ops: &[Op]) -> Result<(), Wrong> {
    let played = run.play(ops).map_err(|stopped| violation!("life after recovery: {}", reason(&stopped)));
    played.map_err(|violation| Wrong::new(run, violation))
}

/// The trace without what changes nothing.
fn calls(trace: &str) -> String {
    let changes = |line: &&str| !["read ", "next", "prev"].iter().any(|step| line.trim_start().starts_with(step));
    trace.lines().filter(changes).fold(String::new(), |text, line| text + line + "\n")
}

fn reason(stopped: &Stopped) -> String {
    match stopped {
        Stopped::Error(error) => error.to_string(),
        Stopped::Violation(violation) => violation.to_string(),
    }
}

/// A number for all that decides what comes next.
fn digest(moment: &Moment, stages: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    (stages, &moment.oracle).hash(&mut hasher);
    let medium = &moment.medium;
    for name in medium.names() {
        (name, medium.object(name), medium.durable(name)).hash(&mut hasher);
    }
    for UnsyncedOp { object, change, .. } in medium.unsynced() {
        object.hash(&mut hasher);
        match change {
            Change::Create { size } => (1, size).hash(&mut hasher),
            Change::Write { at, bytes } => (2, at, bytes).hash(&mut hasher),
            Change::Trim { at } => (3, at).hash(&mut hasher),
            Change::Remove => 4.hash(&mut hasher),
        }
    }
    hasher.finish()
}
