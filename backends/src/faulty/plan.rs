//! What is to go wrong, and when.

use super::{change::Keep, error::FaultyError, random::Random};

/// What is asked of a device, as far as it can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Making an object.
    Create,
    /// Writing.
    Write,
    /// Giving room back.
    Trim,
    /// Removing an object.
    Remove,
    /// The barrier.
    Sync,
    /// Reading.
    Read,
}

/// How a mutating call fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It does nothing: the request never reached the medium.
    Error,
    /// So many bytes of the write reach the cache, then it fails: an input/output error in the middle. With more than
    /// 0, what is no write is done whole all the same: an answer that got lost on its way.
    ErrorAfter(usize),
    /// There is no room, and nothing is done.
    NoSpace,
    /// There is no room after so many bytes of the write.
    NoSpaceAfter(usize),
    /// A sync that fails as Linux does it: of the unsynced operations, oldest first, each is kept as the list says, what
    /// the list does not reach is lost, and all are taken for clean. The cache goes on showing them, and no later
    /// sync writes them, until a power cut or [`Medium::evict`](super::Medium::evict) brings out the truth. On a settled
    /// medium they stay unsynced. Any other call just fails.
    SyncLoses(Vec<Keep>),
    /// A sync that says it succeeded and did not: what it loses is lost as by [`SyncLoses`](Self::SyncLoses), on a settled
    /// medium too. No log survives it. Any other call works.
    SyncLies(Vec<Keep>),
    /// A write that is answered as done, and reaches neither the cache nor the medium. No log survives it if nothing
    /// is written behind it. Any other call works.
    Dropped,
    /// A write that lands at another offset of its object, a multiple of the granule, and is answered as done. As
    /// [`Dropped`](Self::Dropped), and what stood there is overwritten. Any other call works.
    Misdirected(u64),
}

impl Failure {
    /// Whether a log can be asked to lose nothing that it acknowledged: not after the medium lied to it.
    #[must_use]
    pub const fn is_survivable(&self) -> bool {
        !matches!(self, Self::SyncLies(_) | Self::Dropped | Self::Misdirected(_))
    }

    pub(super) const fn done(&self) -> usize {
        match self {
            Self::ErrorAfter(done) | Self::NoSpaceAfter(done) => *done,
            _ => 0,
        }
    }

    pub(super) const fn error(&self, call: u64) -> FaultyError {
        match self {
            Self::NoSpace | Self::NoSpaceAfter(_) => FaultyError::NoSpace,
            _ => FaultyError::Failed { call },
        }
    }
}

/// How a read fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// This once: a cable, a controller that resets.
    Once,
    /// From now on, for whoever reads any of the bytes that this read asked for: a bad block.
    Permanent,
}

/// What goes wrong when, until the next power cut or kill. Calls are counted from 0, from the moment that the plan was
/// set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The mutating call (create, write, trim, remove, sync) that is not done any more: this one and every later call
    /// fails. [`Medium::power_cut`](super::Medium::power_cut) or [`Medium::kill`](super::Medium::kill) then says which of
    /// the two it was.
    pub cut_at_call: Option<u64>,
    /// If that call is a write, so many bytes of it reach the cache first.
    pub cut_in_write: Option<usize>,
    /// Mutating calls that fail, by their numbers.
    pub fail: Vec<(u64, Failure)>,
    /// Reads that fail, by their numbers among the reads.
    pub fail_reads: Vec<(u64, ReadFailure)>,
    /// What fails for good: every call of the kind from the one of this number on, of reads by their numbers among the
    /// reads. Such a call does nothing.
    pub broken: Vec<(u64, Kind)>,
    /// Every read brings half of what was asked for, 1 byte at least: signals, pipes, network file systems.
    pub short_reads: bool,
    /// How many bytes fit, the room of segments counted; what was removed or trimmed counts until the next sync.
    pub capacity: Option<u64>,
}

impl Plan {
    /// Nothing goes wrong but that the power or the process ends at this call.
    #[must_use]
    pub fn cut_at(call: u64) -> Self {
        Self { cut_at_call: Some(call), ..Self::default() }
    }

    /// A few of the failures that a log survives, among the next `calls` mutating calls and as many reads.
    #[must_use]
    pub fn random(random: &mut Random, calls: u64) -> Self {
        let mut plan = Self { short_reads: random.once_in(4), ..Self::default() };
        for _ in 0..random.below(3) {
            let call = random.below(calls.max(1));
            let done = random.index(200);
            let failure = match random.below(6) {
                0 => Failure::Error,
                1 => Failure::ErrorAfter(done),
                2 => Failure::NoSpace,
                3 => Failure::NoSpaceAfter(done),
                _ => Failure::SyncLoses((0..random.below(6)).map(|_| Keep::random(random)).collect()),
            };
            plan.fail.push((call, failure));
        }
        if random.once_in(8) {
            let kind = random.pick(&[Kind::Create, Kind::Write, Kind::Trim, Kind::Remove, Kind::Sync]);
            plan.broken.push((random.below(calls.max(1)), kind));
        }
        if random.once_in(4) {
            plan.fail_reads.push((random.below(calls.max(1)), ReadFailure::Once));
        }
        plan
    }

    pub(super) fn is_broken(&self, number: u64, kind: Kind) -> bool {
        self.broken.iter().any(|(from, broken)| *broken == kind && *from <= number)
    }
}
