//! What stays when the process dies and the power goes.

use core::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duralog_core::{Geometry, Object};

use super::{
    change::{Keep, Stored, UnsyncedOp, apply},
    device::FaultyDevice,
    error::FaultyError,
    plan::Plan,
    random::Random,
    rot::Rot,
    state::State,
};
use crate::memory::Image;

/// What stays when the process dies and the power goes: the objects.
#[derive(Debug)]
pub struct Medium {
    state: Arc<Mutex<State>>,
}

impl Medium {
    /// An empty medium of this geometry, on which nothing goes wrong yet.
    #[must_use]
    pub fn new(geometry: Geometry) -> Self {
        Self::from_state(State::new(geometry))
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
        Ok(FaultyDevice::new(&self.state, state.boots, true))
    }

    /// A handle for reading.
    #[must_use]
    pub fn reader(&self) -> FaultyDevice {
        FaultyDevice::new(&self.state, self.state().boots, false)
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
        state.event("power cut", None);
        state.settle_as(keeps);
        state.cache = state.durable.clone();
        state.boot("power on");
    }

    /// [`power_cut`](Self::power_cut) that deals with each unsynced operation by chance.
    pub fn power_cut_at_random(&self, random: &mut Random) {
        self.power_cut(|_| Keep::random(random));
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
        state.event("evict", None);
    }

    /// Turns one bit over, in the cache and durably: rot. Bit 0 is the lowest.
    ///
    /// # Panics
    /// If there is no such object, or nothing at this offset.
    pub fn flip_bit(&self, object: Object, offset: u64, bit: u8) {
        let mut state = self.state();
        let blank = state.geometry.blank;
        state.damage(object, |stored| {
            let mut byte = [0];
            assert_eq!(stored.image.read(offset, &mut byte, blank), 1, "nothing is at {offset} of {object}");
            stored.image.write(offset, &[byte[0] ^ (1 << bit)], blank);
        });
    }

    /// Puts other bytes there, in the cache and durably: a lost block, a misdirected or stale write.
    ///
    /// # Panics
    /// If there is no such object.
    pub fn overwrite(&self, object: Object, offset: u64, bytes: &[u8]) {
        let mut state = self.state();
        let blank = state.geometry.blank;
        state.damage(object, |stored| stored.image.write(offset, bytes, blank));
    }

    /// Does damage to what is durable.
    ///
    /// # Panics
    /// If an object that it names is not there, or was never removed where it is to come back.
    pub fn rot(&self, rot: &Rot) {
        let blank = self.state().geometry.blank;
        match rot.clone() {
            Rot::Flipped { object, at, bit } => self.flip_bit(object, at, bit),
            Rot::Zeroed { object, range } => self.patch(object, range.start, &zeros(&range)),
            Rot::Garbage { object, range, seed } => {
                let mut bytes = zeros(&range);
                Random::new(seed).fill(&mut bytes);
                self.patch(object, range.start, &bytes);
            }
            Rot::Stale { object, range } => self.state().damage(object, |stored| {
                let mut bytes = zeros(&range);
                let read = stored.first.read(range.start, &mut bytes, blank);
                bytes[read..].fill(blank);
                stored.image.patch(range.start, &bytes, blank);
            }),
            Rot::Misplaced { from, range, object, at } => {
                let mut bytes = zeros(&range);
                let read = self.state().cache.get(&from).map(|from| from.image.read(range.start, &mut bytes, blank));
                bytes.truncate(read.unwrap_or_else(|| panic!("there is no {from} to take bytes of")));
                self.patch(object, at, &bytes);
            }
            Rot::Unreadable { object, range } => self.make_unreadable(object, range),
            Rot::Shortened { object, len } => self.state().damage(object, |stored| stored.image.trim(len)),
            Rot::Gone { object } => self.drop_object(object),
            Rot::Back { object } => self.bring_back(object),
        }
    }

    /// Puts other bytes there, as far as the object has room.
    fn patch(&self, object: Object, at: u64, bytes: &[u8]) {
        let mut state = self.state();
        let blank = state.geometry.blank;
        state.damage(object, |stored| stored.image.patch(at, bytes, blank));
    }

    /// Brings an object back that had been removed for good, as it was then.
    ///
    /// # Panics
    /// If none of this name was removed.
    pub fn bring_back(&self, object: Object) {
        let mut state = self.state();
        let removed = state.removed.iter().rposition(|(removed, _)| *removed == object);
        let (_, stored) = removed.map(|at| state.removed.remove(at)).expect("an object that was removed");
        state.durable.insert(object, stored.clone());
        state.cache.insert(object, stored);
        state.event("bring back", Some(object));
    }

    /// The objects that were removed for good and not handed out again, the latest last.
    #[must_use]
    pub fn removed(&self) -> Vec<Object> {
        self.state().removed.iter().map(|(object, _)| *object).collect()
    }

    /// From now on a new segment gets the room of the one that was removed last, with all its bytes, where there is one.
    pub fn recycle(&self) {
        self.state().recycles = true;
    }

    /// Whether the medium has only done what a log must survive. It is `false` once it has answered as done what it did not
    /// do: then a log may lose what it acknowledged, and only what it returns must be right.
    #[must_use]
    pub fn is_survivable(&self) -> bool {
        !self.state().has_lied
    }

    /// How many bytes of an object were ever written to; the rest of its room is blank.
    #[must_use]
    pub fn written(&self, object: Object) -> u64 {
        self.state().cache.get(&object).map_or(0, |stored| stored.image.written())
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
        state.event("drop", Some(object));
    }

    /// Puts an object there, durably, in place of what it was: one of another log, of another device, cut short.
    pub fn put(&self, object: Object, bytes: Vec<u8>) {
        self.drop_object(object);
        let mut state = self.state();
        state.lives += 1;
        let image = Image::from_bytes(bytes);
        let stored = Stored { life: state.lives, first: image.clone(), image };
        state.durable.insert(object, stored.clone());
        state.cache.insert(object, stored);
        state.event("put", Some(object));
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

    /// Whether the power is off: the planned call has come, and neither a power cut nor a kill since.
    #[must_use]
    pub fn is_off(&self) -> bool {
        !self.state().has_power
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
        self.state().trace.to_string()
    }

    /// Whether steps are kept for [`trace`](Self::trace), as they are at first; those that are there stay.
    pub fn keep_trace(&self, is_kept: bool) {
        self.state().trace.is_kept = is_kept;
    }

    /// What the last mutating call was, done or not: the name that the trace gives it; empty if there was none.
    #[must_use]
    pub fn last_call(&self) -> &'static str {
        self.state().trace.last()
    }
}

pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn zeros(range: &Range<u64>) -> Vec<u8> {
    vec![0; usize::try_from(range.end - range.start).expect("a block is in memory")]
}
