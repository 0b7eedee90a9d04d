//! The swarm: from a number, a medium, a workload and what goes wrong with it.
//!
//! ```text
//! seed ──► geometry, sync mode ──► life: open, append, ... ──► crash ──► life ... ──► recovery, checked
//!                                                                              └───► damage, judged (mixed)
//! ```

use core::fmt;

use duralog::{
    Config, Error, Geometry, Log, LogReader, Lsn, Object, Policy, Proof, SyncMode,
    core::Action,
    faulty::{Failure, Keep, Plan, Random, Rot},
};

use crate::{
    explore::check,
    judge::{Damaged, Heard},
    lives,
    oracle::{Violation, violation},
    run::{Moment, Run, Stopped},
    workload::{Nonces, Op, SegmentRoom, Setup},
};

/// Mutating calls among which a life may be cut short.
const CALLS: u64 = 60;
/// Unsynced bytes of one payload, at most.
const LONG: usize = 150;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Power cuts, deaths of the process, and syncs that fail: never is anything called damaged.
    Crash,
    /// These, and calls that fail, once or for good, media that are full, media that lie, and rot.
    Mixed,
    /// Media divided into slots, by the handles of the core: power cuts, slots that wear out, media that are full.
    Slots,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Crash, Self::Mixed, Self::Slots];

    /// Its name on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Mixed => "mixed",
            Self::Slots => "slots",
        }
    }
}

/// What seeds went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Seeds.
    pub seeds: u64,
    /// Times that a log was opened, or tried to be, and then died.
    pub lives: u64,
    /// Things done to logs.
    pub ops: u64,
    /// Entries that logs held in the end.
    pub entries: u64,
    /// Media that lied.
    pub lies: u64,
    /// What was heard of damaged logs.
    pub heard: Heard,
}

impl Tally {
    /// Adds what other seeds went through.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.lives += other.lives;
        self.ops += other.ops;
        self.entries += other.entries;
        self.lies += other.lies;
        self.heard.harmless += other.heard.harmless;
        self.heard.whole += other.heard.whole;
        self.heard.cut += other.heard.cut;
        self.heard.refused += other.heard.refused;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, lives, ops, entries, lies, heard } = self;
        write!(f, "{seeds} seeds, {lives} lives, {ops} steps, {entries} entries at the end")?;
        if *lies > 0 || *heard != Heard::default() {
            let Heard { harmless, whole, cut, refused } = heard;
            write!(f, "; {lies} media that lied; damaged logs opened {whole} times whole ({harmless} unharmed), ")?;
            write!(f, "{cut} times without a tail, and were refused {refused} times")?;
        }
        Ok(())
    }
}

/// A seed that brought something wrong to light.
#[derive(Debug)]
pub struct Failed {
    /// What.
    pub violation: Violation,
    /// What was done, and every step on the medium.
    pub story: String,
}

/// Runs one seed.
///
/// # Errors
/// What went wrong, with the whole story.
pub fn run_seed(mode: Mode, seed: u64, tally: &mut Tally) -> Result<(), Box<Failed>> {
    let play = |tally: &mut Tally, story: Option<&mut Vec<String>>| match mode {
        Mode::Slots => lives::run(seed, tally, story),
        Mode::Crash | Mode::Mixed => Swarm::play(mode, seed, tally, story),
    };
    let Err(violation) = play(tally, None) else { return Ok(()) };
    // Once more, with every step kept.
    let mut story = Vec::new();
    let same = play(&mut Tally::default(), Some(&mut story));
    let mut story = story.join("\n");
    if same.as_ref() != Err(&violation) {
        story += &format!("\nand once more it came to {same:?}: something here depends on more than the seed");
    }
    Err(Box::new(Failed { violation, story }))
}

/// Whether the handle is of use when a life ends.
enum Alive {
    Yes,
    No,
}

struct Swarm {
    mode: Mode,
    random: Random,
    moment: Option<Moment>,
    keeps_story: bool,
    story: Vec<String>,
}

impl Swarm {
    fn new(mode: Mode, seed: u64, keeps_story: bool) -> Self {
        let mut random = Random::new(seed << 1 | u64::from(mode == Mode::Mixed));
        let setup = setup(&mut random);
        let moment = Moment::new(setup);
        moment.medium.keep_trace(keeps_story);
        let mut swarm = Self { mode, random, moment: Some(moment), keeps_story, story: Vec::new() };
        swarm.tell(|| format!("{setup:?}"));
        swarm
    }

    fn play(mode: Mode, seed: u64, tally: &mut Tally, story: Option<&mut Vec<String>>) -> Result<(), Violation> {
        let mut swarm = Self::new(mode, seed, story.is_some());
        let done = swarm.run(tally);
        if let Some(story) = story {
            *story = swarm.story;
        }
        done
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.keeps_story {
            self.story.push(line());
        }
    }

    fn run(&mut self, tally: &mut Tally) -> Result<(), Violation> {
        tally.seeds += 1;
        let lives = 1 + self.random.below(4);
        for _ in 0..lives {
            let plan = self.plan();
            self.life(plan, tally)?;
        }
        match (self.mode, self.random.below(4)) {
            (Mode::Crash | Mode::Slots, _) | (Mode::Mixed, 0) => self.recover(),
            (Mode::Mixed, 1) => self.lie(tally),
            (Mode::Mixed, _) => self.damage(tally),
        }?;
        tally.entries += self.moment.as_ref().map_or(0, |moment| moment.oracle.next() - 1);
        Ok(())
    }

    fn plan(&mut self) -> Plan {
        let random = &mut self.random;
        let mut plan = match self.mode {
            Mode::Crash | Mode::Slots => Plan::default(),
            Mode::Mixed => Plan::random(random, CALLS),
        };
        if random.once_in(2) {
            plan.cut_at_call = Some(random.below(CALLS));
            plan.cut_in_write = random.once_in(2).then(|| random.index(200));
        }
        if self.mode == Mode::Crash && random.once_in(4) {
            let keeps = (0..random.below(6)).map(|_| Keep::random(random)).collect();
            plan.fail.push((random.below(CALLS), Failure::SyncLoses(keeps)));
        }
        plan
    }

    /// Opens the log, does this and that, and dies.
    fn life(&mut self, plan: Plan, tally: &mut Tally) -> Result<(), Violation> {
        tally.lives += 1;
        self.tell(|| format!("life under {plan:?}"));
        let mut run = self.moment.take().expect("one life after the other").run(plan);
        let done = self.live(&mut run, tally);
        let ends = self.random.below(4);
        if ends == 0 && run.is_open() && matches!(done, Ok(Alive::Yes)) {
            self.tell(|| "close".into());
            if let Err(Stopped::Violation(violation)) = run.step(Op::Close) {
                self.tell(|| run.moment().medium.trace());
                return Err(violation);
            }
        }
        if self.keeps_story && done.is_err() {
            self.story.push(run.moment().medium.trace());
        }
        let moment = run.end();
        if ends == 1 {
            moment.medium.kill();
        } else {
            moment.medium.power_cut_at_random(&mut self.random);
        }
        self.tell(|| if ends == 1 { "kill".into() } else { "power cut".into() });
        self.moment = Some(moment);
        done.map(drop)
    }

    fn live(&mut self, run: &mut Run, tally: &mut Tally) -> Result<Alive, Violation> {
        let mut op = Op::Open;
        for _ in 0..1 + self.random.below(14) {
            tally.ops += 1;
            let done = run.step(op);
            self.tell(|| format!("  {op:?}: {}", told(&done)));
            match done {
                Ok(()) => {}
                Err(Stopped::Violation(violation)) => return Err(violation),
                Err(Stopped::Error(error)) if error.finding().is_some() && !run.is_off() => {
                    return Err(violation!("a crash is taken for damage: {error}"));
                }
                Err(Stopped::Error(error)) if !error.is_fatal() && !only_reads(&error) && run.is_open() => {
                    // Room that was not given back: the next truncation tries again.
                    if matches!(error, Error::Device { .. }) {
                        return Ok(Alive::Yes);
                    }
                }
                // What could not be read or listed harms nobody: the log may go on until it writes.
                Err(Stopped::Error(error)) if only_reads(&error) => return Ok(Alive::No),
                Err(Stopped::Error(_)) => return run.is_poisoned().map(|()| Alive::No),
            }
            op = self.op(run);
        }
        Ok(Alive::Yes)
    }

    fn op(&mut self, run: &Run) -> Op {
        let random = &mut self.random;
        let oracle = &run.moment().oracle;
        let half = run.moment().setup.half();
        let len = if random.once_in(8) { 8 + random.index(half) } else { 8 + random.index(LONG) };
        let kept = oracle.next() - oracle.low_water();
        match random.below(32) {
            0..=9 => Op::Append(len),
            10..=12 => Op::Write(len),
            13..=15 => Op::Batch(2 + random.index(3), 8 + random.index(60)),
            16..=18 => Op::Sync,
            19 | 20 => Op::Transaction(1 + random.index(3), 8 + random.index(80)),
            21 => Op::Rollback(1 + random.index(2), 8 + random.index(80)),
            22 => Op::Across(8 + random.index(60)),
            23 | 24 => Op::Fill(60 + random.index(140)),
            25 | 26 => Op::Checkpoint,
            27 | 28 => Op::Truncate(random.below(kept + 1)),
            29 => Op::Discard(random.below(kept + 1)),
            30 => Op::Cut(random.below(kept.min(5) + 1).min(kept.saturating_sub(1))),
            _ if random.once_in(3) => Op::Reset(random.below(4)),
            _ => Op::Append(len),
        }
    }

    fn recover(&mut self) -> Result<(), Violation> {
        let moment = self.moment.as_ref().expect("between two lives");
        check(moment, &mut 0).map_err(|wrong| {
            if self.keeps_story {
                self.story.push(wrong.moment.medium.trace());
            }
            wrong.violation
        })
    }

    /// A life on a medium that lies: what it acknowledged may be gone, and what is returned is right all the same.
    fn lie(&mut self, tally: &mut Tally) -> Result<(), Violation> {
        let random = &mut self.random;
        let granule = u64::from(self.moment.as_ref().expect("between two lives").setup.geometry.granule);
        let failure = match random.below(3) {
            0 => Failure::SyncLies((0..random.below(6)).map(|_| Keep::random(random)).collect()),
            1 => Failure::Dropped,
            _ => Failure::Misdirected(random.below(2048) / granule * granule),
        };
        let plan = Plan { fail: vec![(random.below(CALLS / 2), failure)], ..Plan::default() };
        self.tell(|| format!("a medium that lies: {plan:?}"));
        let mut run = self.moment.take().expect("between two lives").run(plan);
        let mut op = Op::Open;
        for _ in 0..8 {
            // The log may notice, and stop; it may not notice, and go on.
            let done = run.step(op);
            self.tell(|| format!("  {op:?}: {}", told(&done)));
            if !run.moment().medium.is_survivable() || !run.is_open() {
                break;
            }
            op = self.op(&run);
        }
        tally.lies += u64::from(!run.moment().medium.is_survivable());
        let moment = run.end();
        moment.medium.power_cut_at_random(&mut self.random);
        let policies = [Policy::Strict, Policy::Default, Policy::PointInTime, Policy::Salvage, Policy::Inspect];
        for policy in policies {
            let config = Config { full_check: true, ..moment.config().with_policy(policy) };
            let log = moment.fork();
            if let Ok(reader) = LogReader::open_device(moment.medium.reader(), config.clone()) {
                right(&moment, reader.read(Lsn::ZERO, Lsn::MAX), policy)?;
            }
            if let Ok(log) = Log::open_device(log.medium.device(), config) {
                right(&moment, log.read_from(Lsn::ZERO), policy)?;
            }
        }
        self.moment = Some(moment);
        Ok(())
    }

    /// A log that is durable as it is, and damage to it.
    fn damage(&mut self, tally: &mut Tally) -> Result<(), Violation> {
        self.tell(|| "a last life, in which nothing fails".into());
        let mut run = self.moment.take().expect("between two lives").run(Plan::default());
        let mut op = Op::Open;
        for _ in 0..2 + self.random.below(10) {
            let done = run.step(op);
            self.tell(|| format!("  {op:?}: {}", told(&done)));
            match done {
                Ok(()) | Err(Stopped::Error(Error::TooLarge { .. } | Error::BelowCheckpoint { .. })) => {}
                Err(stopped) => {
                    self.tell(|| run.moment().medium.trace());
                    return Err(violation!("without a fault: {}", told(&Err(stopped))));
                }
            }
            op = self.op(&run);
        }
        for op in if self.random.once_in(2) { &[Op::Sync][..] } else { &[Op::Sync, Op::Close] } {
            if let Err(stopped) = run.step(*op) {
                return Err(violation!("without a fault: {}", told(&Err(stopped))));
            }
        }
        let moment = run.end();
        moment.medium.power_cut(|_| Keep::All);
        let names = moment.medium.names().into_iter();
        let objects: Vec<_> =
            names.map(|name| (name, moment.medium.written(name))).filter(|(_, len)| *len > 0).collect();
        let segments: Vec<_> = objects.iter().copied().filter(|(name, _)| matches!(name, Object::Segment(_))).collect();
        let of = if self.random.once_in(4) { &objects } else { &segments };
        let rot = Rot::random(&mut self.random, of);
        self.tell(|| format!("{}{}\ndamage: {rot:?}", moment.medium.trace(), places(&moment)));
        let damaged = Damaged::new(moment, rot);
        let judged = damaged.judge(&mut tally.heard);
        self.moment = Some(damaged.moment);
        judged
    }
}

/// Whether the error is one of reading, and so none that the log has to stop for.
fn only_reads(error: &Error) -> bool {
    matches!(error, Error::Device { action: Action::Read | Action::List, .. } | Error::Open(_) | Error::Damaged(_))
}

/// Where the entries stand, for a story.
fn places(moment: &Moment) -> String {
    let reader = LogReader::open_device(moment.medium.reader(), moment.config().with_policy(Policy::Inspect));
    let entries = reader.and_then(|reader| reader.read(Lsn::ZERO, Lsn::MAX)).into_iter().flatten().flatten();
    let place = |entry: duralog::Entry| {
        let size = entry.serialized_size();
        format!("  {} in {} at {}+{size}, code {}", entry.lsn, entry.segment, entry.offset, entry.code)
    };
    entries.map(place).collect::<Vec<_>>().join("\n")
}

fn told(done: &Result<(), Stopped>) -> String {
    match done {
        Ok(()) => "done".into(),
        Err(Stopped::Error(error)) => format!("{}: {error}", error.kind()),
        Err(Stopped::Violation(violation)) => violation.to_string(),
    }
}

/// What is read was appended, whatever is missing.
fn right(
    moment: &Moment,
    entries: duralog::Result<duralog::Entries<duralog::FaultyDevice>>,
    policy: Policy,
) -> Result<(), Violation> {
    let Ok(entries) = entries else { return Ok(()) };
    for entry in entries.filter_map(Result::ok) {
        let (lsn, payload) = (entry.lsn.value(), &entry.payload[..]);
        if !moment.oracle.was_appended(lsn, payload) && !moment.oracle.is_gone(lsn, payload) {
            return Err(violation!("{policy:?}: LSN {} was read, and never appended like that", entry.lsn));
        }
    }
    Ok(())
}

/// A medium and how a log is opened on it.
fn setup(random: &mut Random) -> Setup {
    let granule = random.pick(&[1, 1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 512, 1024, 2048, 4096]);
    let copy_offset =
        random.pick(&[128, 512, 4096].as_slice()[usize::from(granule > 128) + usize::from(granule > 512)..]);
    let usual = random.pick(&[512, 1024]);
    let blank = random.pick(&[0, 0xFF]);
    let settled = random.once_in(4);
    let mut geometry = Geometry { segment_size: 0, granule, copy_offset, blank, settled, slots: None };
    let write_limit = if granule > 512 { 4 * granule } else { geometry.write_limit_min().max(usual) };
    let entries = write_limit * (1 + random.pick(&[0, 1, 2]));
    geometry.segment_size = (geometry.overhead() + entries).next_multiple_of(granule.max(64));
    let sync_mode = if random.once_in(2) { SyncMode::Immediate } else { SyncMode::Async };
    let proof = if random.once_in(4) { Proof::BeforeAcknowledging } else { Proof::WithNextWrite };
    let recycles = random.once_in(3);
    let room = if recycles { SegmentRoom::Recycled } else { SegmentRoom::Blank };
    let nonces = if random.once_in(4) { Nonces::Zero } else { Nonces::Random };
    Setup { name: "swarm", geometry, write_limit, sync_mode, proof, room, nonces }
}
