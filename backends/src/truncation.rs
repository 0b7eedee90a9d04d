//! Giving up the front of the log, its end, or all of it.

use duralog_core::{Erase, Locate, Lsn, Object, Plan, Retention, StageError, Writer, drive};

use crate::{
    checkpoint::{Removing, Turns},
    commit::{Ends, Shared, State},
    device::SharedDevice,
    error::{Error, Result},
    log::Log,
    read::scratch,
};

impl<D: SharedDevice> Log<D> {
    /// Gives up entries below `lsn`, as far as the oldest checkpoint that is kept holds them, and returns the first LSN
    /// that is kept from then on. Whole segments below it are removed; what a transaction or batch that ends above it
    /// needs stays.
    ///
    /// It needs no free space but for the mark, for which each segment keeps room. When this returns, the low-water mark is
    /// durable.
    ///
    /// # Errors
    /// [`Error::NoSpace`] where that room is used up, a segment is refused too, and nothing that went made room for one;
    /// [`Error::Poisoned`], [`Error::Device`], [`Error::Closed`]. Where that is an error of removing, the low-water mark
    /// is durable, unless room was to be made for it, and the log goes on: a segment that could not be removed stays, and the
    /// next truncation removes it.
    pub fn truncate_before(&self, lsn: Lsn) -> Result<Lsn> {
        match self.shared.safe_floor()? {
            Some(floor) => self.truncate(lsn.min(floor), true),
            None => {
                let guard = self.shared.lock();
                guard.check()?;
                if guard.writer.low_water_due() {
                    drop(guard);
                    return self.truncate(Lsn::ZERO, false);
                }
                Ok(guard.writer.low_water())
            }
        }
    }

    /// Gives up entries below `lsn`, whether a checkpoint holds them or not: for logs whose state is kept elsewhere.
    /// Not beyond what is durable. From a checkpoint that does not hold all that was given up no state is built up
    /// ([`Error::StateLost`]).
    ///
    /// # Errors
    /// As [`truncate_before`](Self::truncate_before).
    pub fn discard_before(&self, lsn: Lsn) -> Result<Lsn> {
        let floor = self.shared.safe_floor()?;
        self.truncate(lsn, floor.is_some_and(|floor| lsn <= floor))
    }

    /// `covered` says whether a checkpoint holds what is below `lsn`.
    fn truncate(&self, lsn: Lsn, covered: bool) -> Result<Lsn> {
        let shared = &*self.shared;
        let removing = shared.removing();
        let guard = shared.lock();
        guard.check()?;
        let low_water = guard.writer.low_water();
        let (lsn, covered) = guard.writer.truncates_to(lsn, covered);
        if lsn == low_water && !guard.writer.low_water_due() {
            drop(guard);
            // An earlier truncation may not have removed all that it gave up.
            self.retire(&removing, Retention::default())?;
            return Ok(low_water);
        }
        let staged = shared.stage(guard, |writer, buf, now| writer.stage_low_water(buf, now, lsn, covered));
        match staged {
            Ok((guard, ())) => shared.commit(guard)?,
            // Not even room for a segment: what a checkpoint covers goes first. Its header then says that it was given up.
            Err(Error::NoSpace(_)) if covered => {
                shared.lock().writer.give_up(lsn);
                self.retire(&removing, Retention { unsaid: Some(low_water), ..Retention::default() })?;
                shared.free_removed()?;
                let guard = shared.lock();
                let (guard, ()) =
                    shared.stage(guard, |writer, buf, now| writer.stage_low_water(buf, now, lsn, true))?;
                shared.commit(guard)?;
            }
            Err(error) => return Err(error),
        }
        // Before anything goes: what says that it was given up is not in one place alone.
        shared.put_meta();
        self.retire(&removing, Retention::default())?;
        if !shared.lock().writer.is_ready() {
            // A segment may have been refused room: the next is not.
            shared.free_removed()?;
        }
        Ok(self.shared.lock().writer.low_water())
    }

    /// Cuts the log behind `lsn`: the entries after it are gone, and their LSNs are given out again, in a new epoch.
    /// Everything up to `lsn` is durable when this returns. Transactions that are open are rolled back, and appends of other
    /// threads that were not answered yet may be told that their entry was cut off. Where nothing is behind `lsn`, nothing is
    /// cut, and transactions stay open.
    ///
    /// A checkpoint whose own entry is cut off, which stands behind its LSN, still serves; no truncation relies on it any more.
    ///
    /// # Errors
    /// [`Error::BelowCheckpoint`] below the newest checkpoint that is relied on, or where the only one that holds what was
    /// truncated would go; [`Error::Truncated`] below the low-water mark; [`Error::NoSpace`], or [`Error::Device`] with a
    /// checkpoint as its object: nothing was cut. [`Error::Poisoned`], [`Error::Device`], [`Error::Closed`].
    pub fn truncate_after(&self, lsn: Lsn) -> Result<()> {
        self.is_free()?;
        let shared = &*self.shared;
        let _one = shared.settle()?;
        self.sync()?;
        shared.check_checkpoints()?;
        let removing = shared.removing();
        let guard = shared.alone();
        guard.check()?;
        let view = guard.writer.view();
        let lowest = guard.checkpoints.cut_from(&view);
        if lsn < lowest {
            return Err(Error::BelowCheckpoint { lsn: lowest });
        }
        if lsn >= view.last() {
            return Ok(());
        }
        if lsn < view.low_water() {
            return Err(Error::Truncated { low_water: view.low_water() });
        }
        let (beyond, takes_last) = (guard.checkpoints.beyond_cut(lsn), guard.checkpoints.are_all_beyond(lsn));
        drop(guard);
        let mut buf = scratch(shared.options.geometry);
        if let Some(kept) = beyond {
            let erase = Erase::new(Object::Checkpoint(kept));
            let erased = drive(erase, &mut Turns::new(&shared.device), &mut buf, &mut ());
            erased.map_err(|error| shared.failed_beside(error))?;
        }
        let mut cut = drive(Locate::new(view, lsn), &mut shared.reader()?, &mut buf, &mut ())?;
        cut.takes_last_checkpoint = takes_last;
        shared.end_history(
            &removing,
            |writer, now, nonce| writer.plan_cut(now, nonce, cut, lsn.next_or_max()),
            |state| state.checkpoints.cut(lsn),
        )
    }

    /// Goes on at a later LSN, with no entry kept of what is before: for a log that follows another and has been given its
    /// state. Make a checkpoint of that state right behind: no state is built up from a checkpoint of before
    /// ([`Error::StateLost`]), for what it lacks is not in the log.
    ///
    /// # Errors
    /// [`Error::NotAhead`] if `next` is below the next LSN. As [`truncate_after`](Self::truncate_after).
    pub fn reset_to(&self, next: Lsn) -> Result<()> {
        self.is_free()?;
        let shared = &*self.shared;
        let _one = shared.settle()?;
        self.sync()?;
        let reset =
            shared.end_history(&shared.removing(), |writer, now, nonce| writer.plan_reset(now, nonce, next), |_| {});
        reset.map_err(|error| match error {
            Error::Exhausted if next < self.current_lsn() => Error::NotAhead { asked: next, next: self.current_lsn() },
            error => error,
        })?;
        self.tidy_up(Retention::default());
        Ok(())
    }

    /// The application slot: up to 64 bytes that the log carries along for the application, empty at first.
    #[must_use]
    pub fn slot(&self) -> Vec<u8> {
        self.shared.lock().writer.slot().to_vec()
    }

    /// Replaces the application slot. It is durable when this returns, and stays through truncation.
    ///
    /// # Errors
    /// [`Error::SlotTooLarge`] beyond 64 bytes, and as [`append`](Self::append).
    pub fn set_slot(&self, bytes: &[u8]) -> Result<()> {
        let shared = &*self.shared;
        let staged = shared.stage(shared.lock(), |writer, buf, now| writer.stage_slot(buf, now, bytes));
        let (guard, ()) = staged.map_err(|error| match error {
            Error::TooLarge { len, max } => Error::SlotTooLarge { len, max },
            error => error,
        })?;
        shared.commit(guard)
    }
}

impl<D: SharedDevice> Shared<D> {
    /// Begins the segment of a cut or reset; `begun` is told when that stands. Segments go meanwhile that a reader may be
    /// about, and no truncation comes in between.
    fn end_history(
        &self,
        _removing: &Removing<'_>,
        plan: impl Fn(&mut Writer, u64, u64) -> Result<Plan, StageError>,
        begun: impl FnOnce(&mut State),
    ) -> Result<()> {
        // With appends that never pause there would always be something to commit first.
        let _ending = Ending::of(self);
        let mut guard = self.alone();
        loop {
            guard.check()?;
            let (mut state, is_begun) = self.begin_with(guard, Ends::History, &plan)?;
            if is_begun {
                begun(&mut state);
                return Ok(());
            }
            guard = state;
        }
    }
}

/// Nobody stages anything until it is dropped.
struct Ending<'a, D: SharedDevice>(&'a Shared<D>);

impl<'a, D: SharedDevice> Ending<'a, D> {
    fn of(shared: &'a Shared<D>) -> Self {
        shared.lock().ending = true;
        Self(shared)
    }
}

impl<D: SharedDevice> Drop for Ending<'_, D> {
    fn drop(&mut self) {
        self.0.lock().ending = false;
        self.0.changed.notify_all();
    }
}
