//! Group commit: many threads stage, one leads, all wake.
//!
//! ```text
//! append ──► stage in a buffer ──► whoever waits first leads: one write, one sync for all ──► the others wake
//!            (short lock)          (device lock; the next group is staged meanwhile)
//! ```
//!
//! Framing, LSNs and every decision are the core's writer's. This module holds the locks, moves the bytes and tells
//! those who wait.

use core::{fmt, time::Duration};
use std::{
    sync::{Arc, PoisonError},
    time::Instant,
};

use duralog_core::{
    Action, Begin, CheckpointId, Checkpoints, Commit, Consequence, Device, DeviceError, Durability,
    Error as DriveError, ErrorKind, Fault, Group, Lsn, Machine, Object, Payload, Plan, SegmentId, StageError, Syncing,
    TransactionEnd, Trim, View, Writer, WriterOptions, drive, meta::PutMeta,
};

use crate::{
    checkpoint::History,
    config::{Proof, SyncMode},
    device::SharedDevice,
    environment::Environment,
    error::{Error, Result},
    gather::Gathering,
    log::Receipt,
    read::{scratch, scratch_len},
    sync::{Condvar, Mutex, MutexGuard, thread},
    waiters::{Answers, Told, Waiter, Waiters, tell},
};

/// Bytes of a group that is written at once, whoever is still on the way: with so many a sync takes its time for the bytes, and
/// one sync more costs little beside.
const MUCH: u32 = 1 << 20;
/// Bytes that are staged at most, about, before the background thread writes them, where no append waits for that: as many
/// as stay in a processor's cache.
const HAND_OVER: u32 = 1 << 20;

pub(crate) struct Shared<D> {
    pub(crate) state: Mutex<State>,
    /// Whoever led has ended, or the log was closed: for those who wait for anything but an entry.
    pub(crate) changed: Condvar,
    /// There may be something to do for the background thread.
    pub(crate) woken: Condvar,
    /// Held by whoever leads.
    pub(crate) device: Mutex<D>,
    pub(crate) options: WriterOptions,
    pub(crate) environment: Arc<dyn Environment>,
    /// What bytes have reached on this medium that were written, and that were synced.
    pub(crate) reached: Reached,
    pub(crate) sync_mode: SyncMode,
    pub(crate) proof: Proof,
    pub(crate) idle_mark: Option<Duration>,
    pub(crate) write_behind: Option<Duration>,
    pub(crate) checkpoint_retention: usize,
    /// Held while segments are given up, at the front or the end, until they are gone: whoever misses one waits for that, to
    /// see whether it was.
    pub(crate) removing: Mutex<()>,
}

/// What a medium makes of a write and of a sync.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    pub(crate) by_write: Durability,
    pub(crate) by_sync: Durability,
}

impl Reached {
    pub(crate) fn of(device: &impl Device) -> Self {
        Self { by_write: device.reaches(Durability::Os), by_sync: device.reaches(Durability::Durable) }
    }

    /// What a log says that has reached this by its writer's word.
    pub(crate) fn told(self, durability: Durability) -> Durability {
        match durability {
            Durability::Buffered => durability,
            Durability::Os => durability.min(self.by_write),
            Durability::Durable => durability.min(self.by_sync),
        }
    }
}

/// Tells the writer of a failure.
pub(crate) fn give_up<E: DeviceError>(writer: &mut Writer, error: &DriveError<E>) -> Consequence {
    match error {
        DriveError::Device { action, error, .. } => writer.failed(*action, error.kind()),
        // The last free slot is kept for a take-over.
        DriveError::Fault(Fault::Full) => writer.failed(Action::Create, ErrorKind::NoSpace),
        DriveError::Fault(_) => {
            writer.poison();
            Consequence::Poisoned
        }
    }
}

impl<D> fmt::Debug for Shared<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("sync_mode", &self.sync_mode).finish_non_exhaustive()
    }
}

pub(crate) struct State {
    pub(crate) writer: Writer,
    /// What is staged next.
    pub(crate) buf: Vec<u8>,
    /// The buffer of the group before, to be used again.
    pub(crate) spare: Vec<u8>,
    /// Someone is at the device for all.
    pub(crate) leading: bool,
    /// What a sync covers that is under way beside the groups.
    pub(crate) syncing: Option<Syncing>,
    pub(crate) closed: bool,
    /// Why the writer is poisoned.
    pub(crate) cause: Option<Arc<Error>>,
    /// What was dropped, for those who wait or will; cleared when nobody does.
    pub(crate) refusals: Vec<Refusal>,
    /// How many refusals there ever were.
    pub(crate) refused: u64,
    /// Threads that wait for an entry to become durable, or written.
    pub(crate) waiters: Waiters,
    /// Threads that wait for whoever leads to end, for another reason.
    pub(crate) waiting: usize,
    /// Appends that are staged by someone who will wait for them, and does not yet.
    pub(crate) unanswered: usize,
    pub(crate) gathering: Gathering,
    /// So much is staged that the background thread should write it.
    pub(crate) hand_over: bool,
    /// The last LSN of an append that was answered before it was written, and is to stay.
    pub(crate) buffered: Lsn,
    /// Transactions of this handle that are not over, and how many it ever began.
    pub(crate) transactions: Vec<InTransaction>,
    pub(crate) begun: u64,
    /// Changes with each append: the background thread sees whether the log fell idle.
    pub(crate) activity: u64,
    /// The background thread has nothing to do until it is woken.
    pub(crate) resting: bool,
    pub(crate) counts: Counts,
    pub(crate) checkpoints: Checkpoints,
    /// The highest id that a checkpoint ever had.
    pub(crate) highest_checkpoint: CheckpointId,
    /// A checkpoint is being written, or the log is cut or reset: the next waits.
    pub(crate) checkpointing: bool,
    /// The log is about to be cut or reset: nothing more is staged before that is done.
    pub(crate) ending: bool,
    /// Groups with bytes that were taken, and how many of them are durable by the sync of a group.
    pub(crate) taken: u64,
    pub(crate) durable: u64,
    /// What the LSNs given out belong to.
    pub(crate) history: History,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) appends: u64,
    pub(crate) groups: u64,
    pub(crate) syncs: u64,
    pub(crate) bytes: u64,
    pub(crate) sync_total_us: u64,
    pub(crate) sync_max_us: u64,
}

impl Counts {
    /// A group landed, which took so long.
    pub(crate) fn landed(&mut self, group: Group, took_us: u64) {
        self.groups += u64::from(!group.is_empty());
        self.bytes += u64::from(group.len());
        if group.syncs() {
            self.syncs += 1;
            self.sync_total_us = self.sync_total_us.saturating_add(took_us);
            self.sync_max_us = self.sync_max_us.max(took_us);
        }
    }
}

/// What was appended behind some LSN was dropped, and its LSNs will be given out again.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) number: u64,
    /// The last LSN that was written, and is not dropped.
    pub(crate) written: Lsn,
    /// The lack of space for which it was refused; `None`: it was cut off.
    pub(crate) error: Option<Error>,
}

pub(crate) type Guard<'a> = MutexGuard<'a, State>;

/// What a new segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// The one before.
    Segment,
    /// What was appended, from some LSN on.
    History,
}

/// A transaction, and what tells it from another one with its id: behind a cut the id is given out again, and where its
/// begin was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InTransaction {
    pub(crate) id: u64,
    pub(crate) history: History,
    pub(crate) number: u64,
}

/// What is promised of an entry that is in memory only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    /// It is part of the log: where it is refused later, the log stops, or the loss would pass in silence.
    ToStay,
    /// Nothing: it counts with a commit to come, which is refused if it is, or it says that none will come.
    Nothing,
}

impl Promise {
    pub(crate) fn of(transaction: Option<InTransaction>) -> Self {
        if transaction.is_some() { Self::Nothing } else { Self::ToStay }
    }

    pub(crate) fn of_end(end: TransactionEnd) -> Self {
        match end {
            TransactionEnd::Commit => Self::ToStay,
            TransactionEnd::Rollback => Self::Nothing,
        }
    }
}

/// What a reader sees of the log, and the history that it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) view: View,
    pub(crate) history: History,
}

impl State {
    /// Whether anything may be written.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(cause) = &self.cause {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        if self.closed { Err(Error::Closed) } else { Ok(()) }
    }

    /// Whether the entry at `lsn` and all before it are as durable as that.
    pub(crate) fn has_reached(&self, lsn: Lsn, durability: Durability, proof: Proof) -> bool {
        match durability {
            Durability::Buffered => true,
            Durability::Os => self.writer.written() >= lsn,
            Durability::Durable => self.acknowledged(proof) >= lsn,
        }
    }

    /// The last LSN that may be called durable.
    pub(crate) fn acknowledged(&self, proof: Proof) -> Lsn {
        match proof {
            Proof::WithNextWrite => self.writer.durable(),
            Proof::BeforeAcknowledging => self.writer.proven(),
        }
    }

    /// Whether a leader has nobody to wait for, or much to write already.
    fn is_gathered(&self) -> bool {
        self.gathering.is_complete() || self.writer.staged() >= MUCH
    }

    /// What one who waits is to be told, if there is anything: that the entry is as durable as asked, or that it will not be.
    fn answer(&self, waiter: &Waiter, proof: Proof) -> Option<Told> {
        if self.refusal(waiter.before, waiter.lsn).is_some() {
            Some(Told::Look)
        } else if self.has_reached(waiter.lsn, waiter.durability, proof) {
            Some(Told::Reached(self.acknowledged(proof)))
        } else {
            self.check().is_err().then_some(Told::Look)
        }
    }

    /// The refusal, since there were `before`, of what is not written up to `lsn`.
    pub(crate) fn refusal(&self, before: u64, lsn: Lsn) -> Option<Error> {
        let refusal = self.refusals.iter().find(|refusal| refusal.number > before && refusal.written < lsn)?;
        Some(refusal.error.clone().unwrap_or(Error::CutOff { lsn }))
    }

    /// What is behind `written` was dropped.
    fn dropped(&mut self, written: Lsn, error: Option<Error>) {
        self.refused += 1;
        self.refusals.push(Refusal { number: self.refused, written, error });
    }

    /// What was just staged is waited for later, with what this returns: how many refusals there were.
    #[cfg(feature = "tokio")]
    pub(crate) fn will_be_waited_for(&mut self) -> u64 {
        self.unanswered += 1;
        self.refused
    }

    /// What was staged some time ago has been waited for.
    #[cfg(feature = "tokio")]
    pub(crate) fn was_waited_for(&mut self) {
        self.unanswered -= 1;
    }

    /// Whether anything may be written, and nothing was refused room since there were `before` refusals.
    pub(crate) fn check_since(&self, before: u64) -> Result<()> {
        self.check()?;
        let mut refused = self.refusals.iter().filter(|refusal| refusal.number > before);
        refused.find_map(|refusal| refusal.error.clone()).map_or(Ok(()), Err)
    }

    pub(crate) fn poison(&mut self, cause: Error) -> Error {
        self.writer.poison();
        let cause = self.cause.get_or_insert_with(|| Arc::new(cause)).clone();
        Error::Poisoned { cause }
    }
}

impl<D: SharedDevice> Shared<D> {
    pub(crate) fn lock(&self) -> Guard<'_> {
        // A panic of another thread while it held the lock leaves the writer as it was between two calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn mode(&self) -> Durability {
        if self.sync_mode == SyncMode::Immediate { Durability::Durable } else { Durability::Buffered }
    }

    pub(crate) fn reader(&self) -> Result<D> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner).reader().map_err(D::opened)
    }

    pub(crate) fn append<P: Payload>(
        &self,
        payloads: &[P],
        transaction: Option<InTransaction>,
        durability: Durability,
    ) -> Result<Receipt> {
        let (guard, first, last) = self.stage_entries(payloads, transaction)?;
        self.reached(guard, first, last, durability, Promise::of(transaction))
    }

    /// Stages entries: one, or a batch.
    pub(crate) fn stage_entries<P: Payload>(
        &self,
        payloads: &[P],
        transaction: Option<InTransaction>,
    ) -> Result<(Guard<'_>, Lsn, Lsn)> {
        let id = transaction.map(|of| of.id);
        let (mut guard, (first, last)) =
            self.stage_in(self.lock(), transaction, |writer, buf, now| writer.stage(buf, now, id, payloads))?;
        tracing::trace!(lsn = last.value(), "append");
        guard.counts.appends += payloads.len() as u64;
        Ok((guard, first, last))
    }

    /// Stages something, making what room it needs: commits and segments come first where they must.
    pub(crate) fn stage<'a, T>(
        &'a self,
        guard: Guard<'a>,
        stage: impl FnMut(&mut Writer, &mut Vec<u8>, u64) -> Result<T, StageError>,
    ) -> Result<(Guard<'a>, T)> {
        self.stage_in(guard, None, stage)
    }

    /// [`stage`](Self::stage), for a transaction.
    pub(crate) fn stage_in<'a, T>(
        &'a self,
        mut guard: Guard<'a>,
        transaction: Option<InTransaction>,
        mut stage: impl FnMut(&mut Writer, &mut Vec<u8>, u64) -> Result<T, StageError>,
    ) -> Result<(Guard<'a>, T)> {
        loop {
            while guard.ending {
                guard = self.wait_for_leader(guard);
            }
            guard.check()?;
            // A cut may come while room is made, or a refusal.
            if transaction.is_some_and(|of| of.history != guard.history || !guard.transactions.contains(&of)) {
                return Err(Error::NoTransaction);
            }
            let now = self.environment.now_us();
            let state = &mut *guard;
            match stage(&mut state.writer, &mut state.buf, now) {
                Ok(staged) => {
                    state.activity += 1;
                    let much = state.writer.staged() >= HAND_OVER && !state.leading && self.regular_commit().is_some();
                    if (state.resting && self.has_background()) || (much && !state.hand_over) {
                        state.resting = false;
                        state.hand_over |= much;
                        self.woken.notify_all();
                    }
                    return Ok((guard, staged));
                }
                Err(StageError::NeedsCommit) => guard = self.make_room(guard)?,
                Err(StageError::NeedsSegment) => guard = self.begin_segment(guard)?,
                Err(error) => return Err(stage_error(error)),
            }
        }
    }

    /// Waits until what was staged is as durable as asked, and says so.
    pub(crate) fn reached<'a>(
        &'a self,
        mut guard: Guard<'a>,
        first: Lsn,
        last: Lsn,
        durability: Durability,
        promise: Promise,
    ) -> Result<Receipt> {
        if durability == Durability::Buffered {
            if promise == Promise::ToStay {
                guard.buffered = last;
            }
            return Ok(Receipt { first, last, durability });
        }
        let durable = self.wait(guard, last, durability)?;
        let durability = if durable >= last { Durability::Durable } else { durability };
        Ok(Receipt { first, last, durability: self.reached.told(durability) })
    }

    pub(crate) fn has_background(&self) -> bool {
        self.idle_mark.is_some() || self.regular_commit().is_some()
    }

    /// Waits until the entry at `lsn` is as durable as asked, leading where nobody leads; gives the durable LSN.
    pub(crate) fn wait<'a>(&'a self, guard: Guard<'a>, lsn: Lsn, durability: Durability) -> Result<Lsn> {
        let before = guard.refused;
        self.wait_since(guard, before, lsn, durability)
    }

    /// [`wait`](Self::wait) for what was staged when there had been `before` refusals.
    pub(crate) fn wait_since<'a>(
        &'a self,
        mut guard: Guard<'a>,
        before: u64,
        lsn: Lsn,
        durability: Durability,
    ) -> Result<Lsn> {
        // What an earlier failure left unknown is no success, whatever was durable before.
        if let Some(cause) = &guard.cause {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        if durability == Durability::Durable && guard.writer.staged() > 0 {
            guard.gathering.join();
        }
        let waited = self.wait_or_lead(guard, before, lsn, durability);
        if waited.is_err() {
            // Who waits may have been about to be led by this thread.
            self.hand_on(&mut self.lock());
        }
        waited
    }

    fn wait_or_lead<'a>(&'a self, mut guard: Guard<'a>, before: u64, lsn: Lsn, durability: Durability) -> Result<Lsn> {
        loop {
            let reached = guard.has_reached(lsn, durability, self.proof);
            // What was written before a refusal stays; what was not was dropped, and its LSN given out again.
            if let Some(error) = guard.refusal(before, lsn) {
                return Err(error);
            }
            if reached {
                self.hand_on(&mut guard);
                return Ok(guard.acknowledged(self.proof));
            }
            guard.check()?;
            // What is durable and not proved yet is not acknowledged; a write that comes anyway carries the proof.
            let idle = guard.writer.staged() == 0 && !guard.writer.needs_sync();
            guard = if guard.leading {
                let place = guard.waiters.join(lsn, durability, before);
                drop(guard);
                if let Told::Reached(durable) = place.wait() {
                    return Ok(durable);
                }
                let mut guard = self.lock();
                guard.waiters.looks();
                guard
            } else if durability == Durability::Durable && idle {
                let durable = guard.writer.durable();
                self.prove(guard).map_err(|error| match error {
                    Error::NoSpace(source) if durable >= lsn => Error::Unproven { lsn, source },
                    error => error,
                })?
            } else if durability == Durability::Durable && guard.writer.staged() > 0 && !guard.is_gathered() {
                self.gather(guard)
            } else {
                self.lead(guard, durability)
            };
        }
    }

    /// Waits until all that was appended and not cut off is as durable as asked; gives the durable LSN.
    pub(crate) fn wait_for_all<'a>(&'a self, mut guard: Guard<'a>, durability: Durability) -> Result<Lsn> {
        loop {
            let last = guard.writer.next_lsn().previous();
            match self.wait(guard, last, durability) {
                Err(Error::CutOff { .. }) => guard = self.lock(),
                waited => return waited,
            }
        }
    }

    /// Makes durable, by itself, the proof of what is durable: a mark, or the header of a segment.
    fn prove<'a>(&'a self, mut guard: Guard<'a>) -> Result<Guard<'a>> {
        let now = self.environment.now_us();
        let state = &mut *guard;
        match state.writer.stage_durable_mark(&mut state.buf, now) {
            Ok(()) => Ok(self.lead(guard, Durability::Durable)),
            Err(StageError::NeedsSegment) => self.begin_segment(guard),
            Err(error) => Err(stage_error(error)),
        }
    }

    /// Lets those who shared the last sync come first. Then whoever leads goes on at once.
    fn gather<'a>(&'a self, mut guard: Guard<'a>) -> Guard<'a> {
        guard.leading = true;
        let mut patience = guard.gathering.patience();
        // Not asleep: that takes longer than they need.
        while !guard.is_gathered() && patience.is_left() {
            drop(guard);
            thread::yield_now();
            guard = self.lock();
        }
        guard.gathering.hurry();
        guard.leading = false;
        if guard.check().is_err() {
            // Nobody leads any more, and those who wait have to see it.
            self.wake_all(&mut guard);
        }
        guard
    }

    /// Waits for a leader, who is not to wait for anybody: what comes next cannot be staged before.
    fn hurry_leader<'a>(&self, mut guard: Guard<'a>) -> Guard<'a> {
        guard.gathering.hurry();
        self.wait_for_leader(guard)
    }

    pub(crate) fn wait_for_leader<'a>(&self, mut guard: Guard<'a>) -> Guard<'a> {
        guard.waiting += 1;
        let mut guard = self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
        guard.waiting -= 1;
        guard
    }

    /// Commits what is staged, for everyone; nobody else leads.
    pub(crate) fn lead<'a>(&'a self, mut guard: Guard<'a>, durability: Durability) -> Guard<'a> {
        let state = &mut *guard;
        if state.waiting == 0 && state.waiters.is_empty() && state.unanswered == 0 {
            state.refusals.clear();
        }
        if durability < Durability::Durable && state.syncing.is_some() && state.writer.is_at_limit() {
            return self.await_sync(guard);
        }
        let group = match state.writer.take(&mut state.buf, durability) {
            Ok(Some(group)) => group,
            Ok(None) => return guard,
            Err(error) => {
                state.poison(stage_error(error));
                return guard;
            }
        };
        state.leading = true;
        state.taken += u64::from(!group.is_empty());
        let taken = state.taken;
        let joined = if group.is_empty() { 0 } else { state.gathering.taken() };
        let began = Instant::now();
        let ticks = self.environment.ticks_us();
        let mut buf = if group.is_empty() {
            Vec::new()
        } else {
            let spare = core::mem::take(&mut state.spare);
            core::mem::replace(&mut state.buf, spare)
        };
        let much = state.writer.unsynced() + group.len() >= self.options.write_limit / 2;
        let begins_sync = much && state.syncing.is_none() && !group.syncs();
        drop(guard);
        let (committed, ended, begun) = self.write(group, &mut buf, begins_sync);
        let mut guard = self.lock();
        let state = &mut *guard;
        if !group.is_empty() {
            state.spare = buf;
        }
        let is_trusted = self.sync_ended(state, ended);
        match committed {
            Ok(()) if is_trusted => {
                state.writer.landed(group);
                if begun {
                    state.syncing = state.writer.syncing();
                } else if group.syncs() {
                    state.syncing = None;
                    state.durable = taken;
                }
                state.counts.landed(group, self.environment.ticks_us().saturating_sub(ticks));
                if group.syncs() && !group.is_empty() {
                    state.gathering.landed(joined, began.elapsed());
                }
            }
            Ok(()) => {}
            Err(error) => self.failed(state, error),
        }
        if state.resting && self.idle_mark.is_some() && state.writer.mark_due() {
            // A sync came when the log was idle already: what it made durable is to be provable too.
            state.resting = false;
            self.woken.notify_all();
        }
        let mut answers = self.ended(&mut guard);
        if !answers.is_empty() {
            // Those who are woken come for the lock at once: they are to find it free.
            drop(guard);
            tell(&mut answers);
            guard = self.lock();
        }
        guard.waiters.told(answers);
        self.hand_on(&mut guard);
        guard
    }

    /// Commits a group. Tells besides how a sync beside the groups went, if it is over, and whether one was begun, where one
    /// is wanted: so that half of the write limit becomes durable while the other half is written.
    #[allow(clippy::type_complexity)]
    fn write(
        &self,
        group: Group,
        buf: &mut Vec<u8>,
        begins_sync: bool,
    ) -> (Result<(), DriveError<D::Error>>, Option<Result<(), D::Error>>, bool) {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        let committed = drive(Commit::new(group), &mut *device, buf, &mut ());
        let ended = device.poll_sync();
        let begun = begins_sync && committed.is_ok() && device.begin_sync(Object::Segment(group.segment()));
        (committed, ended, begun)
    }

    /// Waits for the sync that is under way beside the groups: so much is written and not durable that nothing else may be.
    fn await_sync<'a>(&'a self, mut guard: Guard<'a>) -> Guard<'a> {
        guard.leading = true;
        drop(guard);
        let ended = self.device.lock().unwrap_or_else(PoisonError::into_inner).finish_sync();
        let mut guard = self.lock();
        self.sync_ended(&mut guard, ended);
        // Where the device knows of none, the next leader syncs.
        guard.syncing = None;
        self.done(guard)
    }

    /// A sync beside the groups is over, perhaps. What it covers is durable, or else nothing is known of what was written:
    /// then `false`.
    fn sync_ended(&self, state: &mut State, ended: Option<Result<(), D::Error>>) -> bool {
        let Some(ended) = ended else { return true };
        let syncing = state.syncing.take();
        match ended {
            Ok(()) => {
                syncing.into_iter().for_each(|syncing| state.writer.synced(syncing));
                true
            }
            Err(error) => {
                self.failed(state, DriveError::Device { action: Action::Sync, object: None, error });
                false
            }
        }
    }

    /// Hands over: whoever waits goes on.
    fn done<'a>(&self, mut guard: Guard<'a>) -> Guard<'a> {
        let mut answers = self.ended(&mut guard);
        tell(&mut answers);
        guard.waiters.told(answers);
        self.hand_on(&mut guard);
        guard
    }

    /// Nobody leads any more; who is to be told what of it.
    fn ended(&self, state: &mut State) -> Answers {
        state.leading = false;
        if state.waiting > 0 {
            self.changed.notify_all();
        }
        if !state.waiters.any() {
            return Answers::new();
        }
        let mut waiters = core::mem::take(&mut state.waiters);
        let answers = waiters.answered(|waiter| state.answer(waiter, self.proof));
        state.waiters = waiters;
        answers
    }

    /// Has one of those who wait lead, where nobody does.
    fn hand_on(&self, state: &mut State) {
        if !state.leading {
            state.waiters.have_next_look();
        }
    }

    /// Has all look who wait for anything.
    pub(crate) fn wake_all(&self, state: &mut State) {
        self.changed.notify_all();
        let mut answers = state.waiters.answered(|_| Some(Told::Look));
        tell(&mut answers);
        state.waiters.told(answers);
    }

    pub(crate) fn failed(&self, state: &mut State, error: DriveError<D::Error>) {
        let dropped = state.buffered > state.writer.written();
        let consequence = give_up(&mut state.writer, &error);
        let error = Error::from(error);
        if consequence == Consequence::Again {
            tracing::warn!(%error, "a segment could not be continued, and another is begun");
            return;
        }
        if consequence == Consequence::Poisoned || dropped {
            // Appends that were answered before they were written are gone: that must not pass in silence.
            tracing::error!(%error, "the log is poisoned");
            state.poison(error);
        } else {
            state.dropped(state.writer.written(), Some(error));
        }
    }

    pub(crate) fn drive<M: Machine>(&self, machine: M, buf: &mut Vec<u8>) -> Result<M::Output, DriveError<D::Error>> {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        drive(machine, &mut *device, buf, &mut ())
    }

    /// Commits what is staged, or waits until someone has.
    fn make_room<'a>(&'a self, guard: Guard<'a>) -> Result<Guard<'a>> {
        let before = guard.refused;
        let guard = if guard.leading { self.hurry_leader(guard) } else { self.lead(guard, Durability::Os) };
        guard.check_since(before)?;
        Ok(guard)
    }

    /// Begins a segment, or waits until someone has.
    fn begin_segment<'a>(&'a self, guard: Guard<'a>) -> Result<Guard<'a>> {
        if guard.leading {
            let before = guard.refused;
            let guard = self.hurry_leader(guard);
            guard.check_since(before)?;
            return Ok(guard);
        }
        self.begin_with(guard, Ends::Segment, Writer::plan).map(|(guard, _)| guard)
    }

    /// Begins the segment that `plan` asks for, if all before it is durable, else sees to that; nobody else leads.
    /// Tells whether it was begun.
    pub(crate) fn begin_with<'a>(
        &'a self,
        mut guard: Guard<'a>,
        ends: Ends,
        plan: impl FnOnce(&mut Writer, u64, u64) -> Result<Plan, StageError>,
    ) -> Result<(Guard<'a>, bool)> {
        let before = guard.refused;
        let old = guard.writer.end();
        let plan = match plan(&mut guard.writer, self.environment.now_us(), nonce(&*self.environment)) {
            Ok(plan) => plan,
            Err(StageError::NeedsCommit) => {
                guard = self.lead(guard, Durability::Durable);
                guard.check_since(before)?;
                return Ok((guard, false));
            }
            Err(StageError::Exhausted) => return Err(Error::Exhausted),
            Err(error) => return Err(guard.poison(stage_error(error))),
        };
        guard.leading = true;
        let mut buf = core::mem::take(&mut guard.spare);
        let wanted = scratch_len(self.options.geometry);
        if buf.len() < wanted {
            buf.resize(wanted, 0);
        }
        drop(guard);
        let begun = self.drive(Begin::new(plan), &mut buf);
        let mut guard = self.lock();
        match begun {
            Ok(begun) => {
                guard.writer.begun(&begun);
                if guard.writer.is_ready() {
                    // At once: whoever begins a transaction from here on begins it in what comes now.
                    if ends == Ends::History {
                        guard.history = History::begin();
                        // Who waits for an entry that is not there any more waits for nothing.
                        let kept = guard.writer.written();
                        guard.buffered = guard.buffered.min(kept);
                        guard.dropped(kept, None);
                    }
                    let meta = guard.writer.meta(false);
                    // A segment that is continued is none that was sealed.
                    let sealed = Some(old).filter(|(segment, _)| *segment != guard.writer.end().0);
                    drop(guard);
                    self.tidy(sealed, PutMeta::new(meta, self.options.geometry), &mut buf);
                    guard = self.lock();
                }
            }
            Err(error) => {
                self.failed(&mut guard, error);
                guard = self.erase_refused(guard, &mut buf);
            }
        }
        guard.spare = buf;
        let guard = self.done(guard);
        guard.check_since(before)?;
        Ok((guard, true))
    }

    /// A segment that was refused room leaves nothing that a crash could make the newest one.
    fn erase_refused<'a>(&'a self, guard: Guard<'a>, buf: &mut Vec<u8>) -> Guard<'a> {
        let Some(erase) = guard.writer.left_over() else { return guard };
        drop(guard);
        let erased = self.drive(erase, buf);
        let mut guard = self.lock();
        match erased {
            Ok(()) => guard.writer.erased(),
            Err(error) => {
                guard.poison(error.into());
            }
        }
        guard
    }

    /// Gives back what a refused write may have left behind the log's last entry, durably, while nobody leads. Tells whether no
    /// crash can bring it back.
    pub(crate) fn erase_refused_write(&self) -> Result<bool> {
        let mut guard = self.alone();
        if !guard.writer.holds_refused() {
            // Of a writer that failed, only an opening tells which segment is the newest.
            return Ok(!guard.writer.is_poisoned());
        }
        let end = guard.writer.end();
        guard.leading = true;
        drop(guard);
        let trimmed = self.drive(Trim::new(end), &mut scratch(self.options.geometry));
        let synced = self.sync_beside();
        drop(self.done(self.lock()));
        synced.map(|()| trimmed.is_ok())
    }

    /// Makes removals durable: only then is their room free.
    pub(crate) fn free_removed(&self) -> Result<()> {
        let synced = self.device.lock().unwrap_or_else(PoisonError::into_inner).sync();
        synced.map_err(|error| {
            let mut guard = self.lock();
            self.failed(&mut guard, DriveError::Device { action: Action::Sync, object: None, error });
            guard.cause.clone().map_or(Error::Closed, |cause| Error::Poisoned { cause })
        })
    }

    /// Makes what is staged and written durable, also if it is no entry; not what comes in meanwhile.
    pub(crate) fn commit<'a>(&'a self, mut guard: Guard<'a>) -> Result<()> {
        let before = guard.refused;
        let last = guard.taken + u64::from(guard.writer.staged() > 0);
        loop {
            let outstanding = guard.writer.staged() > 0 || guard.writer.unsynced() > 0;
            if !guard.leading && (!outstanding || guard.durable >= last) {
                return Ok(());
            }
            guard = if guard.leading { self.wait_for_leader(guard) } else { self.lead(guard, Durability::Durable) };
            guard.check_since(before)?;
        }
    }

    /// Waits until nobody leads.
    pub(crate) fn alone(&self) -> Guard<'_> {
        let mut guard = self.lock();
        while guard.leading {
            guard = self.wait_for_leader(guard);
        }
        guard
    }

    /// Replaces the metadata, which need not succeed.
    pub(crate) fn put_meta(&self) {
        let mut guard = self.alone();
        if guard.check().is_err() {
            return;
        }
        guard.leading = true;
        let meta = PutMeta::new(guard.writer.meta(false), self.options.geometry);
        drop(guard);
        self.tidy(None, meta, &mut scratch(self.options.geometry));
        drop(self.done(self.lock()));
    }

    /// Gives back what the sealed segment did not use, and replaces the metadata. Neither has to succeed.
    fn tidy(&self, sealed: Option<(SegmentId, u32)>, meta: PutMeta, buf: &mut Vec<u8>) {
        let trimmed = sealed.map(|end| self.drive(Trim::new(end), buf));
        let put = self.drive(meta, buf);
        for error in [trimmed.and_then(Result::err), put.err()].into_iter().flatten() {
            tracing::warn!(%error, "a segment's unused room or the metadata could not be brought up to date");
        }
    }

    /// What a reader sees: everything appended before is on the medium.
    pub(crate) fn written_view(&self) -> Result<Seen> {
        let guard = self.lock();
        if guard.cause.is_none() && !guard.closed {
            self.wait_for_all(guard, Durability::Os)?;
        } else {
            drop(guard);
        }
        let guard = self.lock();
        Ok(Seen { view: guard.writer.view(), history: guard.history })
    }

    pub(crate) fn close(&self) -> Result<()> {
        let closed = self.close_log();
        self.give_up_device();
        closed
    }

    fn close_log(&self) -> Result<()> {
        let mut guard = self.lock();
        if guard.closed {
            return Ok(());
        }
        // What was refused for lack of space is not to be found by the next recovery, if there is room by now.
        while guard.writer.holds_refused() {
            match self.begin_segment(guard) {
                Ok(begun) => guard = begun,
                Err(error) => {
                    tracing::debug!(%error, "a log is closed while bytes of a refused write stand behind its end");
                    guard = self.lock();
                    break;
                }
            }
        }
        let synced = loop {
            let synced = self.wait_for_all(guard, Durability::Durable);
            guard = self.lock();
            // Appends that came in between are part of the log too, and marks.
            let outstanding = guard.writer.staged() > 0 || guard.writer.unsynced() > 0 || guard.leading;
            if synced.is_err() || guard.cause.is_some() || !outstanding {
                break synced;
            }
            drop(guard);
            if let Err(error) = self.commit(self.lock()) {
                guard = self.lock();
                break Err(error);
            }
            guard = self.lock();
        };
        guard.closed = true;
        self.wake_all(&mut guard);
        if let Some(cause) = &guard.cause {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        synced?;
        if guard.writer.seal_due() {
            let now = self.environment.now_us();
            let state = &mut *guard;
            let sealed = match state.writer.stage_seal(&mut state.buf, now) {
                Ok(()) => {
                    let before = guard.refused;
                    guard = self.lead(guard, Durability::Durable);
                    guard.refusal(before, Lsn::MAX).is_none()
                }
                // The segment is full. A log without a seal is as durable, and opens as one after a crash.
                Err(StageError::NeedsSegment) => false,
                Err(error) => return Err(stage_error(error)),
            };
            if let Some(cause) = &guard.cause {
                return Err(Error::Poisoned { cause: cause.clone() });
            }
            let (end, meta) = (guard.writer.end(), guard.writer.meta(sealed));
            drop(guard);
            let mut buf = scratch(self.options.geometry);
            self.tidy(Some(end), PutMeta::new(meta, self.options.geometry), &mut buf);
        }
        Ok(())
    }

    /// Lets go of the device for writing, with its lock; what only reads goes on.
    fn give_up_device(&self) {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        match device.reader() {
            Ok(reader) => *device = reader,
            Err(error) => tracing::warn!(%error, "a closed log keeps its lock until it is dropped"),
        }
    }

    /// What the background thread does of itself: how often, and how durable it makes what was appended.
    pub(crate) fn regular_commit(&self) -> Option<(Duration, Durability)> {
        match self.sync_mode {
            SyncMode::Immediate => None,
            SyncMode::Batched(interval) => Some((interval, Durability::Durable)),
            SyncMode::Async => self.write_behind.map(|interval| (interval, Durability::Os)),
        }
    }

    /// Makes what was appended as durable as asked, if nobody is about it.
    pub(crate) fn commit_in_background(&self, durability: Durability) {
        let guard = self.lock();
        if guard.check().is_err() {
            return;
        }
        if let Err(error) = self.wait_for_all(guard, durability) {
            tracing::error!(%error, "what was appended could not be written in the background");
        }
    }

    /// Writes a durable mark into a log that has fallen idle.
    pub(crate) fn mark_idle(&self) {
        let mut guard = self.lock();
        if guard.check().is_err() || guard.leading || !guard.writer.mark_due() {
            return;
        }
        let now = self.environment.now_us();
        let state = &mut *guard;
        if state.writer.stage_durable_mark(&mut state.buf, now).is_ok() {
            drop(self.lead(guard, Durability::Durable));
        }
    }
}

pub(crate) fn nonce(environment: &dyn Environment) -> u64 {
    let random = environment.random();
    // Both halves: a UUID has a few bits that are always the same.
    #[allow(clippy::cast_possible_truncation)]
    let folded = (random ^ (random >> 64)) as u64;
    folded
}

pub(crate) fn stage_error(error: StageError) -> Error {
    match error {
        StageError::TooLarge { len, max } => Error::TooLarge { len, max },
        StageError::Exhausted => Error::Exhausted,
        StageError::BufferTooSmall { needed } => Error::Fault(Fault::BufferTooSmall { needed }),
        StageError::Reserved { code } => Error::Reserved { code },
        StageError::NoTransaction => Error::NoTransaction,
        StageError::TooManyTransactions { max } => Error::TooManyTransactions { max },
        _ => Error::Poisoned { cause: Arc::new(Error::Closed) },
    }
}
