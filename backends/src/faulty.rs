//! A simulated medium on which everything that can go wrong does so where a test wants it, and nowhere else.
//!
//! ```text
//! create, write, trim, remove --> cache --- sync ---> durable image
//!                                   |                       |
//! read, next, prev <----------------+    after a power cut: what it kept of the unsynced operations
//! ```
//!
//! A [`Medium`] is what stays: two images of every object, and between them the operations that no sync has covered,
//! in order. A [`FaultyDevice`] is a handle on it that a log is opened with. Nothing is random: a [`Plan`] says which
//! call goes wrong and how, [`Medium::power_cut`] asks for each unsynced operation what is left of it.
//!
//! A run that tries every point: run once and count [`Medium::calls`]; for each of them run again with
//! [`Plan::cut_at_call`], take a [`Medium::snapshot`] for each way the cut may go, and open the log again.

use core::{error, fmt, fmt::Write as _, iter, mem, ops::Bound, ops::Range};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use duralog_core::{Device, DeviceError, ErrorKind, Geometry, Object, OldWriter, Room};

use crate::memory::Image;

/// What a disk writes whole or not at all.
const SECTOR: u64 = 512;

/// What an operation does to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Makes it.
    Create {
        /// With room for so many bytes.
        size: u64,
    },
    /// Writes to it.
    Write {
        /// Where.
        at: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Gives room back.
    Trim {
        /// From here on.
        at: u64,
    },
    /// Removes it.
    Remove,
}

impl Change {
    /// What of it reaches the cache if it breaks off after so many bytes. What is no write is done whole, or not.
    fn first(mut self, done: usize) -> Option<Self> {
        if let Self::Write { bytes, .. } = &mut self {
            bytes.truncate(done);
        }
        (done > 0).then_some(self)
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Write { .. } => "write",
            Self::Trim { .. } => "trim",
            Self::Remove => "remove",
        }
    }

    /// Where it begins, and over how many bytes it goes.
    const fn span(&self) -> (u64, u64) {
        match self {
            Self::Create { size } => (0, *size),
            Self::Write { at, bytes } => (*at, bytes.len() as u64),
            Self::Trim { at } => (*at, 0),
            Self::Remove => (0, 0),
        }
    }
}

/// An operation that no sync has covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsyncedOp {
    /// The number that its call had when it was made.
    pub call: u64,
    /// The object.
    pub object: Object,
    /// What it does.
    pub change: Change,
    /// The life of the object that it belongs to: a write to a removed one does not land in its namesake.
    life: u64,
}

/// What a power cut leaves of one unsynced operation, whatever it leaves of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All of it: the cache was written out in time.
    All,
    /// Nothing. A lost creation leaves no object, and loses every write to it; a lost removal leaves the object as it
    /// was; a lost trim its room.
    None,
    /// So many bytes: a write torn in the middle, or an object that is there with less room than it was made with.
    /// What has no bytes is kept.
    Prefix(usize),
    /// Those sectors of a write whose place in the list is `true`; the first is the one that the write begins in, and
    /// sectors begin at multiples of 512 of the object. What is no write is kept.
    Sectors(Vec<bool>),
}

impl Keep {
    /// The kept parts of a write at `at`.
    fn parts(&self, at: u64, len: usize) -> Vec<Range<usize>> {
        match self {
            Self::All => iter::once(0..len).collect(),
            Self::None => vec![],
            Self::Prefix(kept) => iter::once(0..len.min(*kept)).collect(),
            Self::Sectors(kept) => {
                let place = |sector: u64| {
                    let offset = (at / SECTOR + sector) * SECTOR;
                    usize::try_from(offset.saturating_sub(at)).unwrap_or(len).min(len)
                };
                (0..).zip(kept).filter(|(_, kept)| **kept).map(|(n, _)| place(n)..place(n + 1)).collect()
            }
        }
    }

    const fn outcome(&self) -> &'static str {
        match self {
            Self::All => "kept",
            Self::None => "lost",
            Self::Prefix(_) | Self::Sectors(_) => "torn",
        }
    }
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
    /// sync writes them, until a power cut or [`Medium::evict`] brings out the truth. On a settled medium they stay
    /// unsynced. Any other call just fails.
    SyncLoses(Vec<Keep>),
}

impl Failure {
    const fn done(&self) -> usize {
        match self {
            Self::ErrorAfter(done) | Self::NoSpaceAfter(done) => *done,
            _ => 0,
        }
    }

    const fn error(&self, call: u64) -> FaultyError {
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
    /// fails. [`Medium::power_cut`] or [`Medium::kill`] then says which of the two it was.
    pub cut_at_call: Option<u64>,
    /// If that call is a write, so many bytes of it reach the cache first.
    pub cut_in_write: Option<usize>,
    /// Mutating calls that fail, by their numbers.
    pub fail: Vec<(u64, Failure)>,
    /// Reads that fail, by their numbers among the reads.
    pub fail_reads: Vec<(u64, ReadFailure)>,
    /// Every read brings half of what was asked for, 1 byte at least: signals, pipes, network file systems.
    pub short_reads: bool,
    /// How many bytes fit, the room of segments counted; what was removed or trimmed counts until the next sync.
    pub capacity: Option<u64>,
}

/// What goes wrong on a [`Medium`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultyError {
    /// The power is off, or was: the handle is of an earlier life.
    Gone,
    /// The call was planned to fail.
    Failed {
        /// Its number.
        call: u64,
    },
    /// The bytes cannot be read.
    Unreadable {
        /// Of which object.
        object: Object,
        /// Where the read began.
        at: u64,
    },
    /// There is no room.
    NoSpace,
    /// The object is there already.
    Exists {
        /// Which one.
        object: Object,
    },
    /// There is no such object.
    Missing {
        /// Which one.
        object: Object,
    },
    /// The handle is for reading.
    ReadOnly,
    /// Another handle writes.
    Locked,
}

impl fmt::Display for FaultyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the power went: take a new handle"),
            Self::Failed { call } => write!(f, "call {call} failed as planned"),
            Self::Unreadable { object, at } => write!(f, "{object} cannot be read at {at}"),
            Self::NoSpace => f.write_str("no room is left"),
            Self::Exists { object } => write!(f, "{object} is there already, made by another writer"),
            Self::Missing { object } => write!(f, "there is no {object}"),
            Self::ReadOnly => f.write_str("the handle is for reading"),
            Self::Locked => f.write_str("the medium has a writer already"),
        }
    }
}

impl error::Error for FaultyError {}

impl DeviceError for FaultyError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Gone | Self::Missing { .. } => ErrorKind::Gone,
            Self::Failed { .. } | Self::Unreadable { .. } => ErrorKind::Other,
            Self::NoSpace => ErrorKind::NoSpace,
            Self::Exists { .. } | Self::Locked => ErrorKind::Fenced,
            Self::ReadOnly => ErrorKind::ReadOnly,
        }
    }
}

/// One object in one of the images.
#[derive(Clone, Debug)]
struct Stored {
    /// Tells it from others that had its name, as an inode does.
    life: u64,
    image: Image,
}

type Images = BTreeMap<Object, Stored>;

/// One line of the trace.
#[derive(Clone, Debug)]
struct Line {
    /// The number of a mutating call.
    call: Option<u64>,
    step: &'static str,
    object: Option<Object>,
    span: (u64, u64),
    outcome: &'static str,
}

#[derive(Clone, Debug)]
struct State {
    geometry: Geometry,
    plan: Plan,
    durable: Images,
    cache: Images,
    unsynced: Vec<UnsyncedOp>,
    unreadable: Vec<(Object, Range<u64>)>,
    lives: u64,
    calls: u64,
    reads: u64,
    has_power: bool,
    has_writer: bool,
    /// How often the power went or the process died: handles of an earlier one are dead.
    boots: u64,
    trace: Vec<Line>,
}

/// What becomes of a mutating call.
enum Fate {
    Works,
    Cut,
    Fails(Failure),
}

impl State {
    fn fate(&mut self) -> (u64, Fate) {
        let call = self.calls;
        self.calls += 1;
        if self.plan.cut_at_call == Some(call) {
            self.has_power = false;
            return (call, Fate::Cut);
        }
        let failure = self.plan.fail.iter().find(|(at, _)| *at == call);
        (call, failure.map_or(Fate::Works, |(_, failure)| Fate::Fails(failure.clone())))
    }

    fn note(
        &mut self,
        call: Option<u64>,
        step: &'static str,
        object: Option<Object>,
        span: (u64, u64),
        outcome: &'static str,
    ) {
        self.trace.push(Line { call, step, object, span, outcome });
    }

    fn change(&mut self, object: Object, change: Change) -> Result<(), FaultyError> {
        let (step, span) = (change.name(), change.span());
        let (call, fate) = self.fate();
        let (reached, failed) = match fate {
            Fate::Works => (Some(change), None),
            Fate::Cut => {
                let done = self.plan.cut_in_write.filter(|_| step == "write").unwrap_or(0);
                (change.first(done), Some(FaultyError::Gone))
            }
            Fate::Fails(failure) => (change.first(failure.done()), Some(failure.error(call))),
        };
        let reached = reached.map_or(Ok(()), |change| self.cache(call, object, change));
        let result = reached.and_then(|()| failed.map_or(Ok(()), Err));
        self.note(Some(call), step, Some(object), span, outcome(&result));
        result
    }

    /// Does it in the cache.
    fn cache(&mut self, call: u64, object: Object, change: Change) -> Result<(), FaultyError> {
        let there = self.cache.get(&object).map(|stored| (stored.life, stored.image.room()));
        let life = match (&change, there) {
            (Change::Create { .. }, Some(_)) if object != Object::Meta => return Err(FaultyError::Exists { object }),
            (Change::Create { size }, there) => {
                self.fits(*size, there.is_none())?;
                self.lives += 1;
                // The metadata is emptied, not made anew: if that is lost, what is written next lands in the old bytes.
                there.map_or(self.lives, |(life, _)| life)
            }
            (Change::Remove, None) => return Ok(()),
            (_, None) => return Err(FaultyError::Missing { object }),
            (Change::Write { at, bytes }, Some((life, room))) => {
                self.fits((at + bytes.len() as u64).saturating_sub(room), false)?;
                life
            }
            (Change::Trim { .. } | Change::Remove, Some((life, _))) => life,
        };
        let op = UnsyncedOp { call, object, change, life };
        apply(&mut self.cache, &op, &Keep::All, self.geometry.blank);
        self.unsynced.push(op);
        Ok(())
    }

    fn fits(&self, needed: u64, new: bool) -> Result<(), FaultyError> {
        let slots = self.geometry.slots.map_or(usize::MAX, |slots| slots as usize);
        let is_full = self.plan.capacity.is_some_and(|capacity| self.used().saturating_add(needed) > capacity);
        if is_full && needed > 0 || new && self.cache.len() >= slots { Err(FaultyError::NoSpace) } else { Ok(()) }
    }

    /// What the two images take together: what was given back is free once that is durable.
    fn used(&self) -> u64 {
        let same = |images: &Images, object: &Object, life: u64| {
            images.get(object).filter(|other| other.life == life).map(|other| other.image.room())
        };
        let cached = self.cache.iter().map(|(object, stored)| {
            let durable = same(&self.durable, object, stored.life);
            stored.image.room().max(durable.unwrap_or(0))
        });
        let gone = self.durable.iter().filter(|(object, stored)| same(&self.cache, object, stored.life).is_none());
        cached.sum::<u64>() + gone.map(|(_, stored)| stored.image.room()).sum::<u64>()
    }

    fn sync(&mut self) -> Result<(), FaultyError> {
        let (call, fate) = self.fate();
        let count = self.unsynced.len() as u64;
        let result = match fate {
            Fate::Works => {
                self.settle_as(iter::repeat(Keep::All));
                Ok(())
            }
            Fate::Cut => Err(FaultyError::Gone),
            Fate::Fails(failure) => {
                let error = failure.error(call);
                match failure {
                    Failure::SyncLoses(keeps) => self.lose(keeps),
                    other if other.done() > 0 => self.settle_as(iter::repeat(Keep::All)),
                    _ => {}
                }
                Err(error)
            }
        };
        self.note(Some(call), "sync", None, (0, count), outcome(&result));
        result
    }

    fn lose(&mut self, keeps: Vec<Keep>) {
        let again = if self.geometry.settled { self.unsynced.clone() } else { vec![] };
        self.settle_as(keeps.into_iter().chain(iter::repeat(Keep::None)));
        self.unsynced = again;
    }

    /// Lets the durable image have what is kept of the unsynced operations; then there are none.
    fn settle_as(&mut self, keeps: impl IntoIterator<Item = Keep>) {
        for (op, keep) in mem::take(&mut self.unsynced).into_iter().zip(keeps) {
            apply(&mut self.durable, &op, &keep, self.geometry.blank);
            if keep != Keep::All {
                self.note(Some(op.call), op.change.name(), Some(op.object), op.change.span(), keep.outcome());
            }
        }
    }

    fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, FaultyError> {
        let read = self.reads;
        self.reads += 1;
        let stored = self.cache.get(&object).ok_or(FaultyError::Missing { object })?;
        let asked = at..at + buf.len() as u64;
        let failure = self.plan.fail_reads.iter().find(|(at, _)| *at == read);
        if let Some((_, ReadFailure::Permanent)) = failure {
            self.unreadable.push((object, asked.clone()));
        }
        let is_bad =
            |(bad, range): &(Object, Range<u64>)| *bad == object && range.start < asked.end && asked.start < range.end;
        if failure.is_some() || self.unreadable.iter().any(is_bad) {
            return Err(FaultyError::Unreadable { object, at });
        }
        let half = if self.plan.short_reads && buf.len() > 1 { buf.len() / 2 } else { buf.len() };
        Ok(stored.image.read(at, &mut buf[..half], self.geometry.blank))
    }

    /// The next life: no handle of the last one works, nothing is planned, counting begins anew.
    fn boot(&mut self, why: &'static str) {
        self.boots += 1;
        (self.has_power, self.has_writer) = (true, false);
        self.set_plan(Plan::default());
        self.note(None, why, None, (0, 0), "");
    }

    fn set_plan(&mut self, plan: Plan) {
        (self.calls, self.reads) = (0, 0);
        self.plan = plan;
    }

    /// Changes an object behind the log's back, in both images.
    fn damage(&mut self, object: Object, damage: impl Fn(&mut Image)) {
        let images = [&mut self.durable, &mut self.cache];
        let mut found = images.into_iter().filter_map(|images| images.get_mut(&object)).peekable();
        assert!(found.peek().is_some(), "there is no {object} to damage");
        found.for_each(|stored| damage(&mut stored.image));
        self.note(None, "damage", Some(object), (0, 0), "");
    }
}

/// Does what is kept of an operation to an image. Without its object, of the same life, it is lost.
fn apply(images: &mut Images, op: &UnsyncedOp, keep: &Keep, blank: u8) {
    if *keep == Keep::None {
        return;
    }
    let stored = images.get_mut(&op.object).filter(|stored| stored.life == op.life);
    match &op.change {
        Change::Create { size } => {
            let room = if let Keep::Prefix(kept) = keep { (*size).min(*kept as u64) } else { *size };
            images.insert(op.object, Stored { life: op.life, image: Image::new(op.object, room) });
        }
        Change::Remove => {
            images.remove(&op.object);
        }
        Change::Trim { at } => {
            if let Some(stored) = stored {
                stored.image.trim(*at);
            }
        }
        Change::Write { at, bytes } => {
            if let Some(stored) = stored {
                for part in keep.parts(*at, bytes.len()) {
                    if !part.is_empty() {
                        stored.image.write(at + part.start as u64, &bytes[part], blank);
                    }
                }
            }
        }
    }
}

const fn outcome<T>(result: &Result<T, FaultyError>) -> &'static str {
    match result {
        Ok(_) => "",
        Err(FaultyError::Gone) => "power off",
        Err(FaultyError::Failed { .. }) => "failed",
        Err(FaultyError::Unreadable { .. }) => "unreadable",
        Err(FaultyError::NoSpace) => "no space",
        Err(FaultyError::Exists { .. }) => "exists",
        Err(FaultyError::Missing { .. }) => "missing",
        Err(FaultyError::ReadOnly) => "read-only",
        Err(FaultyError::Locked) => "locked",
    }
}

/// What stays when the process dies and the power goes: the objects.
#[derive(Debug)]
pub struct Medium {
    state: Arc<Mutex<State>>,
}

impl Medium {
    /// An empty medium of this geometry, on which nothing goes wrong yet.
    #[must_use]
    pub fn new(geometry: Geometry) -> Self {
        Self::from_state(State {
            geometry,
            plan: Plan::default(),
            durable: Images::new(),
            cache: Images::new(),
            unsynced: Vec::new(),
            unreadable: Vec::new(),
            lives: 0,
            calls: 0,
            reads: 0,
            has_power: true,
            has_writer: false,
            boots: 0,
            trace: Vec::new(),
        })
    }

    fn from_state(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The handle for writing.
    ///
    /// # Panics
    /// If there is one already.
    #[must_use]
    pub fn device(&self) -> FaultyDevice {
        self.try_device().expect("one writer at a time")
    }

    /// The handle for writing, if there is none yet.
    ///
    /// # Errors
    /// [`FaultyError::Locked`]: there is one. It goes when it is dropped, and with a power cut or a kill.
    pub fn try_device(&self) -> Result<FaultyDevice, FaultyError> {
        let mut state = self.state();
        if state.has_writer {
            return Err(FaultyError::Locked);
        }
        state.has_writer = true;
        Ok(FaultyDevice { state: Arc::clone(&self.state), boot: state.boots, writes: true })
    }

    /// A handle for reading.
    #[must_use]
    pub fn reader(&self) -> FaultyDevice {
        FaultyDevice { state: Arc::clone(&self.state), boot: self.state().boots, writes: false }
    }

    /// Plans what goes wrong from now on, and begins to count calls and reads from 0.
    pub fn set_plan(&self, plan: Plan) {
        self.state().set_plan(plan);
    }

    /// Cuts the power and switches it on again: the cache is gone, and `keep` says of each unsynced operation, oldest
    /// first, what had reached the medium. Every handle is dead, the plan over.
    pub fn power_cut(&self, keep: impl FnMut(&UnsyncedOp) -> Keep) {
        // Asked before the state is locked: `keep` may look at the medium.
        let keeps: Vec<_> = self.unsynced().iter().map(keep).collect();
        let mut state = self.state();
        state.note(None, "power cut", None, (0, 0), "");
        state.settle_as(keeps);
        state.cache = state.durable.clone();
        state.boot("power on");
    }

    /// Kills the process: the cache stays, unsynced operations with it. Every handle is dead, the plan over.
    pub fn kill(&self) {
        self.state().boot("kill");
    }

    /// Lets the cache forget what is clean, as a system short of memory does: after a sync that lost something, reads
    /// return what is durable.
    pub fn evict(&self) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.cache = state.durable.clone();
        for op in &state.unsynced {
            apply(&mut state.cache, op, &Keep::All, state.geometry.blank);
        }
        state.note(None, "evict", None, (0, 0), "");
    }

    /// Turns one bit over, in the cache and durably: rot. Bit 0 is the lowest.
    ///
    /// # Panics
    /// If there is no such object, or nothing at this offset.
    pub fn flip_bit(&self, object: Object, offset: u64, bit: u8) {
        let mut state = self.state();
        let blank = state.geometry.blank;
        state.damage(object, |image| {
            let mut byte = [0];
            assert_eq!(image.read(offset, &mut byte, blank), 1, "nothing is at {offset} of {object}");
            image.write(offset, &[byte[0] ^ (1 << bit)], blank);
        });
    }

    /// Puts other bytes there, in the cache and durably: a lost block, a misdirected or stale write.
    ///
    /// # Panics
    /// If there is no such object.
    pub fn overwrite(&self, object: Object, offset: u64, bytes: &[u8]) {
        let mut state = self.state();
        let blank = state.geometry.blank;
        state.damage(object, |image| image.write(offset, bytes, blank));
    }

    /// Makes these bytes of an object unreadable for good: a bad block.
    pub fn make_unreadable(&self, object: Object, range: Range<u64>) {
        self.state().unreadable.push((object, range));
    }

    /// Takes an object away, in the cache and durably: a lost directory entry, a file deleted by hand.
    pub fn drop_object(&self, object: Object) {
        let mut state = self.state();
        state.durable.remove(&object);
        state.cache.remove(&object);
        state.unsynced.retain(|op| op.object != object);
        state.note(None, "drop", Some(object), (0, 0), "");
    }

    /// Puts an object there, durably, in place of what it was: one of another log, of another device, cut short.
    pub fn put(&self, object: Object, bytes: Vec<u8>) {
        self.drop_object(object);
        let mut state = self.state();
        state.lives += 1;
        let stored = Stored { life: state.lives, image: Image::from_bytes(bytes) };
        state.durable.insert(object, stored.clone());
        state.cache.insert(object, stored);
        state.note(None, "put", Some(object), (0, 0), "");
    }

    /// The objects that the cache shows, in order.
    #[must_use]
    pub fn names(&self) -> Vec<Object> {
        self.state().cache.keys().copied().collect()
    }

    /// A copy of what reads of an object return, blank room included.
    #[must_use]
    pub fn object(&self, object: Object) -> Option<Vec<u8>> {
        let state = self.state();
        state.cache.get(&object).map(|stored| stored.image.to_bytes(state.geometry.blank))
    }

    /// A copy of what is durable of an object, blank room included.
    #[must_use]
    pub fn durable(&self, object: Object) -> Option<Vec<u8>> {
        let state = self.state();
        state.durable.get(&object).map(|stored| stored.image.to_bytes(state.geometry.blank))
    }

    /// A second medium in the same state, plan, counts and trace included, that goes its own way from here. No handle
    /// comes with it.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        Self::from_state(State { has_writer: false, ..self.state().clone() })
    }

    /// How many mutating calls there were since the plan was set, the power came back or the process was killed.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// How many reads there were since then.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.state().reads
    }

    /// The operations that no sync has covered, oldest first.
    #[must_use]
    pub fn unsynced(&self) -> Vec<UnsyncedOp> {
        self.state().unsynced.clone()
    }

    /// Every step so far, a line each: the number of the call, what, where and over how many bytes, how it went.
    #[must_use]
    pub fn trace(&self) -> String {
        let mut text = String::new();
        for Line { call, step, object, span: (at, len), outcome } in &self.state().trace {
            let call = call.map(|call| format!("#{call}")).unwrap_or_default();
            let object = object.map(|object| format!(" {object}")).unwrap_or_default();
            let span = if (*at, *len) == (0, 0) { String::new() } else { format!(" {at}+{len}") };
            let outcome = if outcome.is_empty() { String::new() } else { format!(": {outcome}") };
            writeln!(text, "{call:>6} {step}{object}{span}{outcome}").expect("a string takes it");
        }
        text
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle on a [`Medium`]: a device that fails as planned.
///
/// It works until the next power cut or kill; from then on every call is an error of kind [`ErrorKind::Gone`].
#[derive(Debug)]
pub struct FaultyDevice {
    state: Arc<Mutex<State>>,
    boot: u64,
    writes: bool,
}

impl FaultyDevice {
    /// Another handle, for reading.
    #[must_use]
    pub fn reader(&self) -> Self {
        Self { state: Arc::clone(&self.state), boot: self.boot, writes: false }
    }

    /// Bytes of room that the object takes.
    ///
    /// # Errors
    /// There is no such object, or the power went.
    pub fn len(&self, object: Object) -> Result<u64, FaultyError> {
        let state = self.state()?;
        let stored = state.cache.get(&object).ok_or(FaultyError::Missing { object })?;
        Ok(stored.image.room())
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, FaultyError> {
        let state = lock(&self.state);
        if state.has_power && state.boots == self.boot { Ok(state) } else { Err(FaultyError::Gone) }
    }

    fn for_writing(&self) -> Result<MutexGuard<'_, State>, FaultyError> {
        let state = self.state()?;
        if self.writes { Ok(state) } else { Err(FaultyError::ReadOnly) }
    }
}

impl Drop for FaultyDevice {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if self.writes && state.boots == self.boot {
            state.has_writer = false;
        }
    }
}

impl Device for FaultyDevice {
    type Error = FaultyError;

    fn geometry(&self) -> Geometry {
        lock(&self.state).geometry
    }

    fn old_writer(&self) -> OldWriter {
        if self.writes { OldWriter::Gone } else { OldWriter::MayWrite }
    }

    fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, FaultyError> {
        let mut state = self.state()?;
        state.note(None, "next", after, (0, 0), "");
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(state.cache.range((behind, Bound::Unbounded)).next().map(|(object, _)| *object))
    }

    fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, FaultyError> {
        let mut state = self.state()?;
        state.note(None, "prev", before, (0, 0), "");
        let ahead = before.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(state.cache.range((Bound::Unbounded, ahead)).next_back().map(|(object, _)| *object))
    }

    fn create(&mut self, object: Object, size: u64) -> Result<Room, FaultyError> {
        self.for_writing()?.change(object, Change::Create { size })?;
        Ok(Room::Blank)
    }

    fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, FaultyError> {
        let mut state = self.state()?;
        let read = state.read(object, at, buf);
        state.note(None, "read", Some(object), (at, buf.len() as u64), outcome(&read));
        read
    }

    fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), FaultyError> {
        let mut state = self.for_writing()?;
        let granule = u64::from(state.geometry.granule);
        debug_assert!(at.is_multiple_of(granule), "{object} is written at {at}, inside a granule");
        debug_assert!((bytes.len() as u64).is_multiple_of(granule), "{} bytes are no whole granules", bytes.len());
        state.change(object, Change::Write { at, bytes: bytes.to_vec() })
    }

    fn trim(&mut self, object: Object, at: u64) -> Result<(), FaultyError> {
        self.for_writing()?.change(object, Change::Trim { at })
    }

    fn remove(&mut self, object: Object) -> Result<(), FaultyError> {
        self.for_writing()?.change(object, Change::Remove)
    }

    /// Of a reader, which did nothing, it says nothing, and is not counted.
    fn sync(&mut self) -> Result<(), FaultyError> {
        let mut state = self.state()?;
        if self.writes { state.sync() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use duralog_core::{CheckpointId, SegmentId};

    use super::*;
    use crate::memory::tests as contract;

    const SEGMENT: Object = Object::Segment(SegmentId::new(1));
    const OTHER: Object = Object::Segment(SegmentId::new(2));
    const CHECKPOINT: Object = Object::Checkpoint(CheckpointId::new(1));
    const GEOMETRY: Geometry =
        Geometry { segment_size: 4096, granule: 1, copy_offset: 128, blank: 0xFF, settled: false, slots: None };

    /// A medium with a durable segment that begins with `old`.
    fn medium() -> (Medium, FaultyDevice) {
        let medium = Medium::new(GEOMETRY);
        let mut device = medium.device();
        device.create(SEGMENT, 4096).unwrap();
        device.write(SEGMENT, 0, b"old").unwrap();
        device.sync().unwrap();
        (medium, device)
    }

    fn head(medium: &Medium) -> [u8; 3] {
        *medium.object(SEGMENT).unwrap().first_chunk().unwrap()
    }

    #[test]
    fn it_keeps_the_promises_of_a_device_while_nothing_is_planned() {
        for short_reads in [false, true] {
            let medium = Medium::new(GEOMETRY);
            medium.set_plan(Plan { short_reads, ..Plan::default() });
            contract::keeps_its_promises(&mut medium.device(), &mut medium.reader());
        }
    }

    #[test]
    fn unsynced_writes_survive_a_kill_and_not_a_power_cut() {
        let (medium, mut device) = medium();
        device.write(SEGMENT, 0, b"new").unwrap();
        medium.kill();
        assert_eq!(device.read(SEGMENT, 0, &mut [0]), Err(FaultyError::Gone));
        assert_eq!((head(&medium), medium.unsynced().len()), (*b"new", 1));
        let cut = medium.snapshot();
        cut.power_cut(|_| Keep::None);
        assert_eq!(head(&cut), *b"old");
        medium.device().sync().unwrap();
        medium.power_cut(|_| Keep::None);
        assert_eq!(head(&medium), *b"new");
    }

    #[test]
    fn a_lost_create_leaves_no_object() {
        let (medium, mut device) = medium();
        device.create(OTHER, 4096).unwrap();
        device.write(OTHER, 0, b"x").unwrap();
        medium.power_cut(|op| if matches!(op.change, Change::Create { .. }) { Keep::None } else { Keep::All });
        assert_eq!(medium.names(), [SEGMENT]);
    }

    #[test]
    fn a_kept_create_with_a_lost_write_is_blank_room() {
        let (medium, mut device) = medium();
        device.create(OTHER, 8).unwrap();
        device.write(OTHER, 0, b"x").unwrap();
        let short = medium.snapshot();
        medium.power_cut(|op| if op.call == 3 { Keep::All } else { Keep::None });
        assert_eq!(medium.object(OTHER).unwrap(), [0xFF; 8]);
        short.power_cut(|op| if op.call == 3 { Keep::Prefix(3) } else { Keep::None });
        assert_eq!(short.object(OTHER).unwrap(), [0xFF; 3]);
    }

    #[test]
    fn a_lost_removal_brings_the_old_bytes_back() {
        let (medium, mut device) = medium();
        device.write(SEGMENT, 0, b"new").unwrap();
        device.remove(SEGMENT).unwrap();
        assert_eq!(medium.names(), []);
        medium.power_cut(|_| Keep::None);
        assert_eq!(head(&medium), *b"old");
    }

    #[test]
    fn a_write_does_not_land_in_a_namesake_of_its_object() {
        let (medium, mut device) = medium();
        device.remove(SEGMENT).unwrap();
        device.create(SEGMENT, 4096).unwrap();
        device.write(SEGMENT, 0, b"new").unwrap();
        for lost in [3, 4] {
            let medium = medium.snapshot();
            medium.power_cut(|op| if op.call == lost || lost == 4 && op.call == 3 { Keep::None } else { Keep::All });
            assert_eq!(head(&medium), if lost == 3 { *b"new" } else { *b"old" });
        }
        medium.power_cut(|op| if op.call == 4 { Keep::None } else { Keep::All });
        assert_eq!(medium.names(), []);
    }

    #[test]
    fn metadata_that_was_not_emptied_mixes_with_what_is_written_next() {
        let (medium, mut device) = medium();
        device.create(Object::Meta, 0).unwrap();
        device.write(Object::Meta, 0, b"long ago").unwrap();
        device.sync().unwrap();
        device.create(Object::Meta, 0).unwrap();
        device.write(Object::Meta, 0, b"now").unwrap();
        assert_eq!(medium.object(Object::Meta).unwrap(), b"now");
        medium.power_cut(|op| if matches!(op.change, Change::Create { .. }) { Keep::None } else { Keep::All });
        assert_eq!(medium.object(Object::Meta).unwrap(), b"nowg ago");
    }

    #[test]
    fn a_torn_write_leaves_its_beginning_or_some_of_its_sectors() {
        let (medium, mut device) = medium();
        device.write(SEGMENT, 500, &[7; 600]).unwrap();
        let kept = |keep: Keep| {
            let medium = medium.snapshot();
            medium.power_cut(|_| keep.clone());
            let bytes = medium.object(SEGMENT).unwrap();
            let places: Vec<_> = (0..).zip(bytes).filter(|(_, byte)| *byte == 7).map(|(at, _)| at).collect();
            places
        };
        assert_eq!(kept(Keep::Prefix(5)), Vec::from_iter(500..505));
        assert_eq!(kept(Keep::Sectors(vec![true])), Vec::from_iter(500..512));
        assert_eq!(kept(Keep::Sectors(vec![false, true, false])), Vec::from_iter(512..1024));
        assert_eq!(kept(Keep::Sectors(vec![true, false, true, true])), Vec::from_iter((500..512).chain(1024..1100)));
        assert_eq!(kept(Keep::Sectors(vec![true; 9])), kept(Keep::All));
    }

    #[test]
    fn the_power_goes_at_the_planned_call_and_stays_off() {
        let (medium, mut device) = medium();
        medium.set_plan(Plan { cut_at_call: Some(1), cut_in_write: Some(2), ..Plan::default() });
        device.create(OTHER, 8).unwrap();
        assert_eq!(device.write(SEGMENT, 0, b"new"), Err(FaultyError::Gone));
        assert_eq!(device.sync().unwrap_err().kind(), ErrorKind::Gone);
        assert_eq!(device.next(None), Err(FaultyError::Gone));
        assert_eq!(medium.reader().read(SEGMENT, 0, &mut [0]), Err(FaultyError::Gone));
        assert_eq!((medium.calls(), medium.unsynced().len()), (2, 2));
        medium.power_cut(|_| Keep::All);
        assert_eq!((head(&medium), medium.calls()), (*b"ned", 0));
        assert_eq!(device.next(None), Err(FaultyError::Gone), "a handle of an earlier life");
        assert_eq!(medium.device().next(None), Ok(Some(SEGMENT)));
    }

    #[test]
    fn a_sync_that_is_cut_makes_nothing_durable_by_itself() {
        let (medium, mut device) = medium();
        medium.set_plan(Plan { cut_at_call: Some(1), ..Plan::default() });
        device.write(SEGMENT, 0, b"new").unwrap();
        device.sync().unwrap_err();
        medium.power_cut(|_| Keep::None);
        assert_eq!(head(&medium), *b"old");
    }

    #[test]
    fn what_a_failed_sync_lost_shows_until_the_cache_is_gone_and_no_sync_brings_it_back() {
        let (medium, mut device) = medium();
        let keeps = vec![Keep::None, Keep::All];
        medium.set_plan(Plan { fail: vec![(2, Failure::SyncLoses(keeps))], ..Plan::default() });
        device.write(SEGMENT, 0, b"n").unwrap();
        device.write(SEGMENT, 2, b"w").unwrap();
        assert_eq!(device.sync(), Err(FaultyError::Failed { call: 2 }));
        device.sync().unwrap();
        medium.kill();
        medium.device().sync().unwrap();
        assert_eq!((head(&medium), medium.unsynced()), (*b"nlw", vec![]));
        let cut = medium.snapshot();
        cut.power_cut(|_| Keep::All);
        medium.evict();
        assert_eq!([head(&medium), head(&cut)], [*b"olw"; 2]);
    }

    #[test]
    fn a_settled_medium_forgets_nothing_after_a_failed_sync() {
        let medium = Medium::new(Geometry { settled: true, ..GEOMETRY });
        let mut device = medium.device();
        medium.set_plan(Plan { fail: vec![(1, Failure::SyncLoses(vec![]))], ..Plan::default() });
        device.create(SEGMENT, 8).unwrap();
        device.sync().unwrap_err();
        device.sync().unwrap();
        medium.power_cut(|_| Keep::None);
        assert_eq!(medium.names(), [SEGMENT]);
    }

    #[test]
    fn a_failing_call_does_as_much_as_was_planned() {
        let (medium, mut device) = medium();
        let fail = vec![
            (0, Failure::Error),
            (1, Failure::NoSpace),
            (2, Failure::ErrorAfter(1)),
            (3, Failure::NoSpaceAfter(2)),
            (4, Failure::ErrorAfter(1)),
        ];
        medium.set_plan(Plan { fail, ..Plan::default() });
        let mut write = || (device.write(SEGMENT, 0, b"new").unwrap_err().kind(), head(&medium));
        assert_eq!(write(), (ErrorKind::Other, *b"old"));
        assert_eq!(write(), (ErrorKind::NoSpace, *b"old"));
        assert_eq!(write(), (ErrorKind::Other, *b"nld"));
        assert_eq!(write(), (ErrorKind::NoSpace, *b"ned"));
        device.create(OTHER, 8).unwrap_err();
        assert_eq!(medium.names(), [SEGMENT, OTHER]);
    }

    #[test]
    fn a_read_fails_once_or_for_good() {
        let (medium, mut device) = medium();
        let fail_reads = vec![(0, ReadFailure::Once), (2, ReadFailure::Permanent)];
        medium.set_plan(Plan { fail_reads, ..Plan::default() });
        let mut read = |at: u64| device.read(SEGMENT, at, &mut [0; 8]);
        assert_eq!(read(16), Err(FaultyError::Unreadable { object: SEGMENT, at: 16 }));
        assert_eq!(read(16), Ok(8));
        read(16).unwrap_err();
        assert_eq!(read(23).unwrap_err().kind(), ErrorKind::Other);
        assert_eq!((read(8), read(24)), (Ok(8), Ok(8)));
        medium.make_unreadable(SEGMENT, 8..9);
        read(8).unwrap_err();
        assert_eq!(medium.reads(), 7);
    }

    #[test]
    fn room_that_was_given_back_is_free_after_the_next_sync() {
        let (medium, mut device) = medium();
        medium.set_plan(Plan { capacity: Some(4096 + 100), ..Plan::default() });
        assert_eq!(device.create(OTHER, 4096), Err(FaultyError::NoSpace));
        device.create(CHECKPOINT, 100).unwrap();
        device.write(CHECKPOINT, 0, &[0; 100]).unwrap();
        assert_eq!(device.write(CHECKPOINT, 100, &[0]), Err(FaultyError::NoSpace));
        device.write(SEGMENT, 0, b"room of its own").unwrap();
        device.remove(SEGMENT).unwrap();
        assert_eq!(device.create(OTHER, 4096), Err(FaultyError::NoSpace));
        device.sync().unwrap();
        device.create(OTHER, 4096).unwrap();
    }

    #[test]
    fn damage_from_outside_is_durable_at_once() {
        let (medium, device) = medium();
        medium.flip_bit(SEGMENT, 0, 0);
        medium.overwrite(SEGMENT, 2, b"!");
        assert_eq!(medium.durable(SEGMENT).unwrap()[..4], *b"nl!\xFF");
        medium.put(CHECKPOINT, b"stale".to_vec());
        medium.drop_object(SEGMENT);
        medium.power_cut(|_| Keep::None);
        assert_eq!((medium.names(), medium.object(CHECKPOINT).unwrap()), (vec![CHECKPOINT], b"stale".to_vec()));
        drop(device);
    }

    #[test]
    fn one_handle_writes_at_a_time() {
        let (medium, device) = medium();
        assert_eq!(medium.try_device().unwrap_err().kind(), ErrorKind::Fenced);
        let copy = medium.snapshot();
        let second = copy.device();
        copy.kill();
        let third = copy.device();
        drop(second);
        copy.try_device().unwrap_err();
        drop((device, third));
        drop((medium.device(), copy.device()));
    }

    #[test]
    fn a_snapshot_goes_its_own_way() {
        let (medium, mut device) = medium();
        device.write(SEGMENT, 0, b"new").unwrap();
        let copy = medium.snapshot();
        copy.device().write(SEGMENT, 0, b"NEW").unwrap();
        assert_eq!((head(&medium), head(&copy)), (*b"new", *b"NEW"));
        assert_eq!((medium.calls(), copy.calls()), (4, 5));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "inside a granule")]
    fn a_write_inside_a_granule_is_a_mistake() {
        let medium = Medium::new(Geometry { granule: 16, ..GEOMETRY });
        let mut device = medium.device();
        device.create(SEGMENT, 4096).unwrap();
        let _ = device.write(SEGMENT, 8, &[0; 16]);
    }

    #[test]
    fn the_trace_tells_every_step() {
        let (medium, mut device) = medium();
        device.write(SEGMENT, 3, b"er").unwrap();
        device.read(SEGMENT, 0, &mut [0; 8]).unwrap();
        medium.power_cut(|_| Keep::Prefix(1));
        let expected = "    #0 create segment_0000000000000001.wal 0+4096
    #1 write segment_0000000000000001.wal 0+3
    #2 sync 0+2
    #3 write segment_0000000000000001.wal 3+2
       read segment_0000000000000001.wal 0+8
       power cut
    #3 write segment_0000000000000001.wal 3+2: torn
       power on
";
        assert_eq!(medium.trace(), expected);
    }
}
