//! The medium itself: two images of every object, and the operations between them.

use core::{iter, mem, ops::Range};

use duralog_core::{Geometry, Object, Room};

use super::{
    change::{Change, Images, Keep, Stored, UnsyncedOp, apply},
    error::{FaultyError, outcome},
    plan::{Failure, Kind, Plan, ReadFailure},
    trace::{Line, Trace},
};
use crate::memory::Image;

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) geometry: Geometry,
    pub(super) plan: Plan,
    pub(super) durable: Images,
    pub(super) cache: Images,
    pub(super) unsynced: Vec<UnsyncedOp>,
    pub(super) unreadable: Vec<(Object, Range<u64>)>,
    pub(super) lives: u64,
    pub(super) calls: u64,
    pub(super) reads: u64,
    pub(super) has_power: bool,
    pub(super) has_writer: bool,
    /// How often the power went or the process died: handles of an earlier one are dead.
    pub(super) boots: u64,
    pub(super) trace: Trace,
    /// Removed objects, the latest last: their room can be handed out again, and they can come back.
    pub(super) removed: Vec<(Object, Stored)>,
    pub(super) recycles: bool,
    /// Whether the medium has answered as done what it did not do.
    pub(super) has_lied: bool,
    /// What the room of the object that is being created holds.
    pub(super) spare: Option<Image>,
}

impl State {
    pub(super) fn new(geometry: Geometry) -> Self {
        Self {
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
            trace: Trace::new(),
            removed: Vec::new(),
            recycles: false,
            has_lied: false,
            spare: None,
        }
    }
}

/// What becomes of a mutating call.
enum Fate {
    Works,
    Cut,
    Fails(Failure),
}

impl State {
    fn fate(&mut self, kind: Kind) -> (u64, Fate) {
        let call = self.calls;
        self.calls += 1;
        if self.plan.cut_at_call == Some(call) {
            self.has_power = false;
            return (call, Fate::Cut);
        }
        if self.plan.is_broken(call, kind) {
            return (call, Fate::Fails(Failure::Error));
        }
        let failure = self.plan.fail.iter().find(|(at, _)| *at == call);
        (call, failure.map_or(Fate::Works, |(_, failure)| Fate::Fails(failure.clone())))
    }

    pub(super) fn note(
        &mut self,
        call: Option<u64>,
        step: &'static str,
        object: Option<Object>,
        span: (u64, u64),
        outcome: &'static str,
    ) {
        self.trace.note(Line { call, step, object, span, outcome });
    }

    pub(super) fn event(&mut self, step: &'static str, object: Option<Object>) {
        self.trace.note(Line::event(step, object));
    }

    /// Makes an object; says whether its room holds bytes of an earlier life.
    pub(super) fn create(&mut self, object: Object, size: u64) -> Result<Room, FaultyError> {
        let spare = if self.recycles && matches!(object, Object::Segment(_)) { self.spare() } else { None };
        let room = if spare.is_some() { Room::Recycled } else { Room::Blank };
        self.spare = spare.map(|image| image.sized(size));
        let created = self.change(object, Change::Create { size });
        self.spare = None;
        created.map(|()| room)
    }

    /// The room of the segment that was removed last, durably.
    fn spare(&mut self) -> Option<Image> {
        let at = self.removed.iter().rposition(|(object, _)| matches!(object, Object::Segment(_)))?;
        Some(self.removed.remove(at).1.image)
    }

    pub(super) fn change(&mut self, object: Object, change: Change) -> Result<(), FaultyError> {
        let (step, span) = (change.name(), change.span());
        let (call, fate) = self.fate(change.kind());
        let mut told = None;
        let (reached, failed) = match (fate, change) {
            (Fate::Works, change) => (Some(change), None),
            (Fate::Cut, change) => {
                let done = self.plan.cut_in_write.filter(|_| step == "write").unwrap_or(0);
                (change.first(done), Some(FaultyError::Gone))
            }
            (Fate::Fails(Failure::Dropped), Change::Write { .. }) => {
                (self.has_lied, told) = (true, Some("dropped in silence"));
                (None, None)
            }
            (Fate::Fails(Failure::Misdirected(at)), Change::Write { bytes, .. }) => {
                (self.has_lied, told) = (true, Some("misdirected in silence"));
                (Some(Change::Write { at, bytes }), None)
            }
            (Fate::Fails(failure), change) if !failure.is_survivable() => (Some(change), None),
            (Fate::Fails(failure), change) => (change.first(failure.done()), Some(failure.error(call))),
        };
        let reached = reached.map_or(Ok(()), |change| self.cache(call, object, change));
        let result = reached.and_then(|()| failed.map_or(Ok(()), Err));
        self.note(Some(call), step, Some(object), span, told.unwrap_or(outcome(&result)));
        result
    }

    /// Does it in the cache.
    fn cache(&mut self, call: u64, object: Object, change: Change) -> Result<(), FaultyError> {
        // What was given back is still its own until a sync.
        let there = self.cache.get(&object).map(|stored| {
            let durable = self.durable.get(&object).filter(|durable| durable.life == stored.life);
            (stored.life, durable.map_or(0, |durable| durable.image.room()).max(stored.image.room()))
        });
        let life = match (&change, there) {
            (Change::Create { .. }, Some(_)) if object != Object::Meta => return Err(FaultyError::Exists { object }),
            (Change::Create { size }, there) => {
                self.fits(size.saturating_sub(there.map_or(0, |(_, room)| room)), there.is_none())?;
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
        let recycled = if matches!(change, Change::Create { .. }) { self.spare.clone() } else { None };
        let op = UnsyncedOp { call, object, change, life, recycled };
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

    /// Makes durable what was done to one object before this call, and nothing else.
    pub(super) fn sync_object(&mut self, object: Object, until: u64) -> Result<(), FaultyError> {
        let covered = |op: &UnsyncedOp| op.object == object && op.call < until;
        let others: Vec<_> = self.unsynced.extract_if(.., |op| !covered(op)).collect();
        let synced = self.sync();
        self.unsynced.extend(others);
        self.unsynced.sort_by_key(|op| op.call);
        synced
    }

    pub(super) fn sync(&mut self) -> Result<(), FaultyError> {
        let (call, fate) = self.fate(Kind::Sync);
        let count = self.unsynced.len() as u64;
        let mut lied = false;
        let result = match fate {
            Fate::Works => {
                self.settle_as(iter::repeat(Keep::All));
                Ok(())
            }
            Fate::Cut => Err(FaultyError::Gone),
            Fate::Fails(Failure::SyncLies(keeps)) => {
                self.has_lied = true;
                self.settle_as(keeps.into_iter().chain(iter::repeat(Keep::None)));
                lied = true;
                Ok(())
            }
            Fate::Fails(failure) if !failure.is_survivable() => {
                self.settle_as(iter::repeat(Keep::All));
                Ok(())
            }
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
        let told = if lied { "lied" } else { outcome(&result) };
        self.note(Some(call), "sync", None, (0, count), told);
        result
    }

    fn lose(&mut self, keeps: Vec<Keep>) {
        let again = if self.geometry.settled { self.unsynced.clone() } else { vec![] };
        self.settle_as(keeps.into_iter().chain(iter::repeat(Keep::None)));
        self.unsynced = again;
    }

    /// Lets the durable image have what is kept of the unsynced operations; then there are none.
    pub(super) fn settle_as(&mut self, keeps: impl IntoIterator<Item = Keep>) {
        for (op, keep) in mem::take(&mut self.unsynced).into_iter().zip(keeps) {
            if op.change == Change::Remove && keep != Keep::None {
                self.removed.extend(self.durable.get(&op.object).map(|stored| (op.object, stored.clone())));
            }
            apply(&mut self.durable, &op, &keep, self.geometry.blank);
            if keep != Keep::All {
                self.note(Some(op.call), op.change.name(), Some(op.object), op.change.span(), keep.outcome());
            }
        }
    }

    pub(super) fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, FaultyError> {
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
        if failure.is_some() || self.plan.is_broken(read, Kind::Read) || self.unreadable.iter().any(is_bad) {
            return Err(FaultyError::Unreadable { object, at });
        }
        let half = if self.plan.short_reads && buf.len() > 1 { buf.len() / 2 } else { buf.len() };
        Ok(stored.image.read(at, &mut buf[..half], self.geometry.blank))
    }

    /// The next life: no handle of the last one works, nothing is planned, counting begins anew.
    pub(super) fn boot(&mut self, why: &'static str) {
        self.boots += 1;
        (self.has_power, self.has_writer) = (true, false);
        self.set_plan(Plan::default());
        self.event(why, None);
    }

    pub(super) fn set_plan(&mut self, plan: Plan) {
        (self.calls, self.reads) = (0, 0);
        self.plan = plan;
    }

    /// Changes an object behind the log's back, in both images.
    pub(super) fn damage(&mut self, object: Object, damage: impl Fn(&mut Stored)) {
        let images = [&mut self.durable, &mut self.cache];
        let mut found = images.into_iter().filter_map(|images| images.get_mut(&object)).peekable();
        assert!(found.peek().is_some(), "there is no {object} to damage");
        found.for_each(damage);
        self.event("damage", Some(object));
    }
}
