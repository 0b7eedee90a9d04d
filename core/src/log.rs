//! The core's own handle: a log on any blocking device, in memory that the caller owns.
//!
//! ```text
//! append ──► frame in the buffer ──► one write, one sync ──► answered      (no thread, no clock, no allocation)
//! ```
//!
//! It is for programs of one task: a microcontroller, a boot loader, a test. What a native program gets beyond it (group
//! commit of many threads, a background thread) is in the crate `duralog`; the bytes are the same.

use uuid::Uuid;

#[cfg(doc)]
use crate::Fault;
use crate::{
    CheckpointId, Durability, Host, JudgeLoss, Lsn, Payload, PutCheckpoint, Read, ReadCheckpoint, Reader, Reading,
    Recovery, Replay, Report, Retention, Retire, TransactionEnd, Trim,
    begin::Begin,
    chain::View,
    checkpoint::CheckpointHeader,
    device::Device,
    drive::{Action, Error, Machine, drive, drive_unit, drive_until_pause},
    handle::{Appended, Handle, LogError, LogOptions, LogStats, OpenError, Snapshot, none_found},
    part::Part,
    segment::SegmentId,
    writer::{Commit, StageError, Writer},
};

/// A log, open for writing, on a blocking device.
///
/// All memory is the caller's: the log itself is a value of some three KiB, and works in the buffer that it was given. That
/// holds what is staged, and what is read: it must have room for the largest entry or batch with the marks beside it
/// ([`LogOptions::buffer_min`]), and twice as much where a take-over has to copy entries. A larger one makes fewer, larger
/// reads.
///
/// Where a method has an argument `now`, it is the time in microseconds since the Unix epoch; a device without a clock
/// gives 0. Costs are given in calls to the device: *S* is the number of segments, *C* of checkpoints, *B* the bytes of a
/// segment divided by those of the buffer, rounded up. On slots of flash a create erases one slot and reads it back, and one
/// more for each slot that it has to pass over; no other call erases, unless a mark cannot be written.
///
/// A method that fails with [`LogError::Full`] changed nothing. After any other failure of a write or sync the handle is
/// *poisoned*: it refuses to write, and opening the log again finds out what is there.
#[derive(Debug)]
pub struct Log<'a, D: Device> {
    device: D,
    handle: Handle<'a>,
}

impl<'a, D: Device> Log<'a, D> {
    /// Makes a log on a device that holds none: the only call that begins one.
    ///
    /// `log` is the log's UUID: random, or else unlike that of any other log. When this returns, the log is durable, with
    /// no entry in it.
    ///
    /// Costs at most 9 reads for each object on the medium, and then 2 listings, 1 create, 2 writes, 2 syncs, and a removal
    /// for each segment of a creation that was interrupted.
    ///
    /// # Errors
    /// [`OpenError::Exists`] if there is a log, or what may have been one; nothing was destroyed. [`OpenError::Options`],
    /// also where they expect another log than `log`. [`Fault::Lost`] where they know of an LSN that was durable.
    pub fn format(
        device: D,
        buf: &'a mut [u8],
        options: LogOptions,
        log: Uuid,
        now: u64,
    ) -> Result<Self, OpenError<D::Error>> {
        let mut place = LogPlace::new(device, buf, options);
        place.format(log, now)?;
        Ok(place.log)
    }

    /// Opens the log for writing. What recovery found is in [`report`](Self::report); everything that was recovered is
    /// durable when this returns.
    ///
    /// Costs at most 9 reads for each object on the medium, 2 *B* reads of the newest segment and 2 S + C listings. Where
    /// entries were found that may not be durable, what a rotation costs, and 2 *B* reads, writes and syncs for copying. Where
    /// there is no room for that, the log can be read and truncated, and whatever writes tries again.
    ///
    /// # Errors
    /// [`OpenError::Drive`] with [`Fault::NoLog`] where there is none: this makes none. [`OpenError::Refused`].
    #[inline(always)] // A log is large: it is made where the caller has it, not moved there once more.
    pub fn open(device: D, buf: &'a mut [u8], options: LogOptions, now: u64) -> Result<Self, OpenError<D::Error>> {
        let mut place = LogPlace::new(device, buf, options);
        place.open(now)?;
        Ok(place.log)
    }

    /// Finds that there is no log.
    #[inline(never)] // Recovery's memory is free again when this returns.
    fn find_none(&mut self) -> Result<(), OpenError<D::Error>> {
        self.handle.may_open()?;
        let recovery = self.handle.options.recovery();
        let found =
            drive_unit(&mut &mut Recovery::new(recovery), &mut self.device, &mut { &mut *self.handle.buf }, &mut ());
        none_found(found)
    }

    /// Recovers the log, and has it ready to be taken over.
    #[inline(never)] // Recovery's memory is free again when this returns.
    fn recover(&mut self) -> Result<(), OpenError<D::Error>> {
        self.handle.may_open()?;
        let mut recovery = Recovery::new(self.handle.options.recovery());
        drive_unit(&mut &mut recovery, &mut self.device, &mut { &mut *self.handle.buf }, &mut ())?;
        self.handle.take_over(recovery.found())
    }

    /// Makes durable what was recovered.
    fn settle(&mut self, now: u64) -> Result<(), LogError<D::Error>> {
        if self.handle.writer.needs_sync() {
            self.commit(Durability::Durable)?;
        }
        if self.handle.writer.needs_segment() {
            match self.begin(now) {
                Ok(copied) => self.handle.report.repersisted = copied,
                // It can be read and truncated, and written once there is room.
                Err(LogError::Full) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Bytes of the least buffer that takes an entry or batch of `len` bytes of frames on this device: see
    /// [`LogOptions::buffer_min`], which tells it before there is a log.
    #[must_use]
    pub fn buffer_min(&self, len: u32) -> usize {
        LogOptions::buffer_min(&self.handle.geometry, len)
    }

    /// What recovery found when the log was opened.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.handle.report
    }

    /// Figures of the log.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        self.handle.stats()
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Gives the device back; what was appended and not written is lost. [`close`](Self::close) loses nothing.
    #[must_use]
    pub fn into_device(self) -> D {
        self.device
    }

    /// Appends one entry: an operation, or opaque bytes. It is as durable as the options say when this returns.
    ///
    /// Costs at most 1 write and 1 sync; 2 writes and 2 syncs where the write limit is reached; where the segment is full,
    /// also what a rotation costs: 2 listings, 1 create, 3 writes, 3 syncs, and the removal of segments that a crash left; where
    /// it takes the last slot, 6 reads, 3 listings and a removal more for each segment that was given up, and a sync. The first
    /// append after an opening that found no room costs what a take-over does, which copies entries.
    ///
    /// # Errors
    /// [`LogError::Full`] and [`LogError::TooLarge`]: the entry is not in the log, which goes on.
    pub fn append<P: Payload>(&mut self, now: u64, payload: P) -> Result<Appended, LogError<D::Error>> {
        self.append_in(now, None, &[payload])
    }

    /// Appends entries that a crash keeps all or not at all.
    ///
    /// Costs as [`append`](Self::append).
    ///
    /// # Errors
    /// As [`append`](Self::append).
    ///
    /// # Panics
    /// If there are no payloads.
    pub fn append_batch<P: Payload>(&mut self, now: u64, payloads: &[P]) -> Result<Appended, LogError<D::Error>> {
        self.append_in(now, None, payloads)
    }

    fn append_in<P: Payload>(
        &mut self,
        now: u64,
        transaction: Option<u64>,
        payloads: &[P],
    ) -> Result<Appended, LogError<D::Error>> {
        let staged = self.stage(now, |writer, buf, now| writer.stage(buf, now, transaction, payloads));
        let (first, last) = staged?;
        if transaction.is_some() {
            return Ok(self.unpromised(first, last));
        }
        self.reach(first, last, self.handle.options.durability)
    }

    /// Begins a transaction and returns its id. Its entries count if it is committed.
    ///
    /// Costs as [`append`](Self::append), without the sync.
    ///
    /// # Errors
    /// As [`append`](Self::append); [`LogError::TooManyTransactions`].
    pub fn begin_transaction(&mut self, now: u64) -> Result<u64, LogError<D::Error>> {
        let id = self.stage(now, |writer, buf, now| writer.stage_begin(buf, now))?;
        Ok(id)
    }

    /// Appends entries to a transaction, as one batch. They are durable only with its commit.
    ///
    /// Costs as [`append`](Self::append), without the sync.
    ///
    /// # Errors
    /// As [`append`](Self::append); [`LogError::NoTransaction`] if it is not open.
    ///
    /// # Panics
    /// If there are no payloads.
    pub fn append_to<P: Payload>(
        &mut self,
        now: u64,
        transaction: u64,
        payloads: &[P],
    ) -> Result<Appended, LogError<D::Error>> {
        self.append_in(now, Some(transaction), payloads)
    }

    /// Ends a transaction. A commit is as durable as the options say when this returns.
    ///
    /// Costs as [`append`](Self::append).
    ///
    /// # Errors
    /// As [`append`](Self::append); [`LogError::NoTransaction`] if it is not open. After [`LogError::Full`] it is over too, and
    /// is rolled back when the log goes on; where it is cut off by a crash before, a commit that was written as a whole counts.
    pub fn end_transaction(
        &mut self,
        now: u64,
        transaction: u64,
        end: TransactionEnd,
    ) -> Result<Appended, LogError<D::Error>> {
        let staged = self.stage(now, |writer, buf, now| writer.stage_end(buf, now, transaction, end));
        let lsn = staged.map_err(|error| self.handle.unended(transaction, error))?;
        match end {
            TransactionEnd::Commit => self.reach(lsn, lsn, self.handle.options.durability),
            TransactionEnd::Rollback => Ok(self.unpromised(lsn, lsn)),
        }
    }

    /// Makes everything that was appended durable, and returns the durable LSN. Nothing is done if it is already.
    ///
    /// Costs at most 1 write and 2 syncs.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn sync(&mut self) -> Result<Lsn, LogError<D::Error>> {
        self.commit(Durability::Durable)?;
        Ok(self.handle.writer.durable())
    }

    /// Writes a durable mark, if the durable LSN has moved since the last one: then recovery knows for certain what was
    /// durable. Nothing writes one unasked: on flash each takes a granule at least.
    ///
    /// Costs at most 2 writes and 3 syncs.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn mark_durable(&mut self, now: u64) -> Result<(), LogError<D::Error>> {
        self.commit(Durability::Durable)?;
        if self.handle.writer.mark_due() {
            self.stage(now, |writer, buf, now| writer.stage_durable_mark(buf, now))?;
            self.commit(Durability::Durable)?;
        }
        Ok(())
    }

    /// The application slot: up to 64 bytes that the log carries along for the application, empty at first.
    #[must_use]
    pub fn slot(&self) -> &[u8] {
        self.handle.writer.slot()
    }

    /// Replaces the application slot. It is durable when this returns, and stays through truncation.
    ///
    /// Costs as [`append`](Self::append).
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn set_slot(&mut self, now: u64, bytes: &[u8]) -> Result<(), LogError<D::Error>> {
        self.stage(now, |writer, buf, now| writer.stage_slot(buf, now, bytes))?;
        self.commit(Durability::Durable)
    }

    /// Reads the entries from `from` to `to`, both included, as they stand, and hands each to `host`, borrowed from the
    /// log's buffer. Below the low-water mark there are none; [`Lsn::ZERO`] stands for the first one kept. `None`: the host
    /// paused, and reading ends there.
    ///
    /// Costs at most 1 write, and then for each segment read 2 listings, 5 reads of headers, and 2 *B* reads, twice as many
    /// where batches are in it.
    ///
    /// # Errors
    /// [`LogError::Drive`]: damage, which poisons the handle; what stands before it was handed out.
    #[inline(never)] // What it takes of the stack is free again afterwards.
    pub fn read(&mut self, from: Lsn, to: Lsn, host: &mut impl Host) -> Result<Option<Read>, LogError<D::Error>> {
        self.write_out()?;
        let view = self.handle.writer.view();
        let from = if from == Lsn::ZERO { view.low_water() } else { from };
        self.run(&mut Reader::new(view, from, to, self.handle.options.policy), host)
    }

    /// Reads what counts from `from` on: entries by themselves, and those of transactions where they are committed.
    ///
    /// Costs as [`read`](Self::read), and as much again for the span of each committed transaction.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    #[inline(never)] // As above.
    pub fn replay(&mut self, from: Lsn, host: &mut impl Host) -> Result<Option<Read>, LogError<D::Error>> {
        self.write_out()?;
        let view = self.handle.writer.view();
        let from = from.max(view.low_water());
        self.run(&mut Replay::new(view, from, self.handle.options.policy), host)
    }

    /// Writes a checkpoint of the state as it is now: everything appended before is in the snapshot, which `fill` gives
    /// out piece by piece until it returns 0. When this returns, it is durable, and older ones beyond those that the
    /// options keep are gone.
    ///
    /// Costs at most: a sync, 1 create, as many writes as half the buffer goes into the snapshot and 2 more, 1 sync, an
    /// append, 6 reads and 2 listings for each segment and a listing and a removal for each checkpoint; the first time also
    /// the reading of checkpoints that were there when the log was opened, and of entries up to the one that names each, and
    /// behind [`discard_before`](Self::discard_before) what a set slot costs, to say that the checkpoint holds what that gave up.
    ///
    /// Where the number of slots is fixed, it takes as many as its bytes fill, and leaves the last free one for the log to
    /// be taken over into: with fewer than two free, none is written. A log that has filled its medium has one: what an
    /// earlier checkpoint holds is to be given up first ([`truncate_before`](Self::truncate_before)), so take the first
    /// one in time.
    ///
    /// # Errors
    /// [`LogError::Full`]: there is no checkpoint, and the log goes on. [`Fault::BufferTooSmall`]: nothing was done.
    /// [`Fault::LeftOut`] in a build without checkpoints.
    pub fn checkpoint(
        &mut self,
        now: u64,
        fill: impl FnMut(&mut [u8]) -> usize,
    ) -> Result<CheckpointId, LogError<D::Error>> {
        self.handle.may_checkpoint()?;
        self.commit(Durability::Durable)?;
        if !self.handle.writer.is_all_durable() {
            self.begin(now)?;
        }
        self.check_checkpoints()?;
        let head = self.handle.checkpoint_header(now)?;
        let put = PutCheckpoint::new(self.handle.options.checksum, head, self.handle.geometry);
        let mut snapshot = Snapshot { fill, metadata_is_out: false };
        if let Err(error) = drive(put, &mut self.device, self.handle.buf, &mut snapshot) {
            if !self.handle.is_refusal(&error) {
                return Err(self.handle.unfit(error));
            }
            // Half a checkpoint takes room and says nothing; what cannot be removed goes with the next one.
            let _ = self.device.remove(crate::Object::Checkpoint(head.id));
            return Err(LogError::Full);
        }
        let named = match self.stage(now, |writer, buf, now| writer.stage_checkpoint(buf, now, head.lsn, head.id)) {
            Ok(entry) => self.commit(Durability::Durable).map(|()| entry),
            Err(error) => Err(error),
        };
        if let Err(LogError::Full | LogError::Exhausted) = named {
            self.forget(head)?;
        }
        let most = usize::from(self.handle.options.checkpoints_kept);
        let checkpoints_from = self.handle.checkpoints.keep(head.head(), named?, most);
        self.say_cover(now, head.floor)?;
        self.retire(Retention { checkpoints_from, evidence: true, unsaid: None })?;
        Ok(head.id)
    }

    /// Hands the newest valid checkpoint to the host, piece by piece, and returns its LSN; `None` if there is none. It is
    /// read twice, so that the host gets no byte of one that is not valid.
    ///
    /// Costs at most 2 reads for each part of the checkpoints that the buffer holds.
    ///
    /// # Errors
    /// [`LogError::Drive`]: the device's; damage, which poisons the handle, if the log was truncated because a checkpoint
    /// held what went, and none that does is valid: no state can be built up from what is left; [`Fault::Truncated`] where
    /// [`discard_before`](Self::discard_before) gave up entries behind the newest, or what the log names is not valid: make one of
    /// the state that is kept elsewhere.
    pub fn load_checkpoint(&mut self, host: &mut impl Host) -> Result<Option<Lsn>, LogError<D::Error>> {
        self.check_checkpoints()?;
        self.write_out()?;
        let mut is_lost = false;
        if Part::Checkpoints.is_built() && self.handle.newest_checkpoint().is_none() {
            let view = self.handle.writer.view();
            is_lost = self.run(&mut JudgeLoss::new(view), &mut ())? == Some(true);
        }
        let Some(newest) = self.handle.load_from(is_lost)? else { return Ok(None) };
        let (checksum, log) = (self.handle.options.checksum, self.handle.writer.log());
        let mut read = ReadCheckpoint::new(checksum, log, newest.id, Reading::HandOut);
        let read = self.run(&mut read, host)?;
        self.handle.loaded(newest.id, read)
    }

    /// Gives up entries below `lsn`, as far as the oldest checkpoint that is kept holds them, and returns the first LSN that
    /// is kept from then on; see [`discard_before`](Self::discard_before).
    ///
    /// Costs also the reading of checkpoints that were there when the log was opened, once, and of entries up to the one that
    /// names each.
    ///
    /// # Errors
    /// As [`discard_before`](Self::discard_before).
    pub fn truncate_before(&mut self, now: u64, lsn: Lsn) -> Result<Lsn, LogError<D::Error>> {
        self.check_checkpoints()?;
        match self.handle.checkpoints.safe_floor() {
            Some(floor) => self.truncate(now, lsn.min(floor), true),
            None if self.handle.writer.low_water_due() => self.truncate(now, Lsn::ZERO, false),
            None => Ok(self.handle.writer.low_water()),
        }
    }

    /// Gives up entries below `lsn`, whether a checkpoint holds them or not, and returns the first LSN that is kept from then
    /// on. Whole segments below it are removed; what a batch or transaction that ends above it needs stays.
    ///
    /// What a checkpoint holds needs no free room to go; where none does, that may take a mark, or another segment. When this
    /// returns, the low-water mark is durable.
    ///
    /// Costs at most 2 writes and 4 syncs, a create and a write more where metadata are kept, and then 6 reads and 3 listings
    /// for each segment, and a removal for each that goes; one sync more where no segment was begun since the log was opened,
    /// or none could be. On a full medium the removals come first, each with a sync, and then what a rotation costs.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn discard_before(&mut self, now: u64, lsn: Lsn) -> Result<Lsn, LogError<D::Error>> {
        self.check_checkpoints()?;
        let covered = self.handle.checkpoints.safe_floor().is_some_and(|floor| lsn <= floor);
        self.truncate(now, lsn, covered)
    }

    fn truncate(&mut self, now: u64, lsn: Lsn, covered: bool) -> Result<Lsn, LogError<D::Error>> {
        let low_water = self.handle.writer.low_water();
        let (lsn, covered) = self.handle.writer.truncates_to(lsn, covered);
        if lsn > low_water || self.handle.writer.low_water_due() {
            match self.say_low_water(now, lsn, covered) {
                // Not even room for a segment: what a checkpoint covers goes first. Its header then says that it was given up.
                Err(LogError::Full) if covered => {
                    self.handle.writer.give_up(lsn);
                    self.retire(Retention { unsaid: Some(low_water), ..Retention::default() })?;
                    self.free_removed()?;
                    self.say_low_water(now, lsn, true)?;
                }
                said => said?,
            }
            // Before anything goes: what says that it was given up is not in one place alone.
            self.put_meta(false);
        }
        // Where the number of slots is fixed, what was kept as evidence takes room that the log needs.
        let evidence = self.handle.geometry.slots.is_some();
        self.retire(Retention { evidence, ..Retention::default() })?;
        if !self.handle.writer.is_ready() {
            // A segment may have been refused room: the next is not.
            self.free_removed()?;
        }
        Ok(self.handle.writer.low_water())
    }

    /// Makes removals durable: only then is their room free; and what was given back.
    fn free_removed(&mut self) -> Result<(), LogError<D::Error>> {
        let synced = self.device.sync();
        let failed = |error| Error::Device { action: Action::Sync, object: None, error };
        synced.map_err(|error| self.handle.unfit(failed(error)))
    }

    /// The entry of this checkpoint was refused: a crash must not bring it back, and find no checkpoint.
    fn forget(&mut self, head: CheckpointHeader) -> Result<(), LogError<D::Error>> {
        let mut may_come_back = self.handle.writer.holds_refused();
        if may_come_back {
            may_come_back = !self.trim(self.handle.writer.end());
            self.free_removed()?;
        }
        if may_come_back || self.device.remove(crate::Object::Checkpoint(head.id)).is_err() {
            self.handle.checkpoints.left(head.head());
        }
        Ok(())
    }

    fn say_low_water(&mut self, now: u64, lsn: Lsn, covered: bool) -> Result<(), LogError<D::Error>> {
        self.stage(now, |writer, buf, now| writer.stage_low_water(buf, now, lsn, covered))?;
        self.commit(Durability::Durable)
    }

    /// A checkpoint with this replay floor is there: says that it holds what was given up without one, if that is so. Where there
    /// is no room for it, the next checkpoint does.
    fn say_cover(&mut self, now: u64, floor: Lsn) -> Result<(), LogError<D::Error>> {
        if !self.handle.writer.cover_due(floor) {
            return Ok(());
        }
        let said = self.stage(now, |writer, buf, now| writer.stage_cover(buf, now, floor));
        match said.and_then(|()| self.commit(Durability::Durable)) {
            Err(LogError::Full) => Ok(()),
            said => said,
        }
    }

    /// Closes the log: everything appended is durable, and a seal says so where there is room for one. Gives the
    /// device back.
    ///
    /// Costs at most 2 writes and 3 syncs.
    ///
    /// # Errors
    /// As [`append`](Self::append). The log is closed all the same.
    pub fn close(mut self, now: u64) -> Result<D, LogError<D::Error>> {
        self.end(now)?;
        Ok(self.device)
    }

    /// Closes the log where it is.
    fn end(&mut self, now: u64) -> Result<(), LogError<D::Error>> {
        self.commit(Durability::Durable)?;
        // What was refused for lack of space is not to be found by the next recovery, if there is room by now.
        if self.handle.writer.holds_refused() {
            match self.begin(now) {
                Ok(_) | Err(LogError::Full) => {}
                Err(error) => return Err(error),
            }
        }
        if self.handle.writer.seal_due() {
            let sealed = self.handle.stage_seal(now)?
                && match self.commit(Durability::Durable) {
                    Err(LogError::Full) => false,
                    committed => committed.map(|()| true)?,
                };
            let end = self.handle.writer.end();
            self.trim(end);
            self.put_meta(sealed);
        }
        Ok(())
    }

    /// Stages something, making what room it needs: commits and segments come first where they must.
    fn stage<T>(
        &mut self,
        now: u64,
        mut stage: impl FnMut(&mut Writer, &mut [u8], u64) -> Result<T, StageError>,
    ) -> Result<T, LogError<D::Error>> {
        loop {
            self.handle.check()?;
            match stage(&mut self.handle.writer, self.handle.buf, now) {
                Ok(staged) => return Ok(staged),
                Err(StageError::NeedsCommit) => self.commit(Durability::Os)?,
                Err(StageError::NeedsSegment) => {
                    // What is staged still goes into the segment that ends.
                    self.commit(Durability::Durable)?;
                    let end = self.handle.writer.end();
                    self.begin(now)?;
                    // A segment that is continued is none that was sealed.
                    if end.0 != self.handle.writer.end().0 {
                        self.trim(end);
                    }
                }
                Err(error) => return Err(self.handle.refused(error)),
            }
        }
    }

    /// What is said of entries that count with a commit to come, or tell that none will come: their loss is none.
    fn unpromised(&self, first: Lsn, last: Lsn) -> Appended {
        Appended { first, last, durability: self.device.reaches(Durability::Buffered) }
    }

    /// Waits for what was staged to be as durable as asked, and says so.
    fn reach(&mut self, first: Lsn, last: Lsn, durability: Durability) -> Result<Appended, LogError<D::Error>> {
        if durability == Durability::Buffered {
            self.handle.buffered = last;
        } else {
            self.commit(durability)?;
        }
        Ok(Appended { first, last, durability: self.device.reaches(durability) })
    }

    /// Commits what is staged: in one write, unless the write limit asks for a sync before it.
    fn commit(&mut self, durability: Durability) -> Result<(), LogError<D::Error>> {
        while let Some(group) = self.handle.take(durability)? {
            match self.drive(&mut Commit::new(group)) {
                Ok(()) => self.handle.landed(group),
                Err(error) => self.handle.failed(error)?,
            }
        }
        Ok(())
    }

    /// Writes what is staged, so that a reader sees it and the buffer is free. Of a poisoned log what is on the medium can
    /// still be read.
    fn write_out(&mut self) -> Result<(), LogError<D::Error>> {
        if self.handle.writer.is_poisoned() { Ok(()) } else { self.commit(Durability::Os) }
    }

    /// Begins a segment, behind a full one or to take the log over, or goes on in the one that was found. Gives the number
    /// of entries copied.
    fn begin(&mut self, now: u64) -> Result<u64, LogError<D::Error>> {
        self.commit(Durability::Durable)?;
        loop {
            let copied = self.begin_next(now)?;
            if self.handle.writer.is_ready() {
                // Before anything in it is acknowledged.
                self.put_meta(false);
                if self.device.free() == Some(0) {
                    // It need not succeed: where a segment is begun or continued next, it is asked again.
                    let _ = self.relieve();
                }
                return Ok(copied);
            }
        }
    }

    /// Does what the writer plans next: where that comes to nothing, it has another plan.
    #[inline(never)] // A plan is large: what it takes of the stack is free again when the segment is begun.
    fn begin_next(&mut self, now: u64) -> Result<u64, LogError<D::Error>> {
        let mut begin = match self.handle.writer.plan(now, (self.handle.options.nonce)()) {
            Ok(plan) => Begin::new(plan),
            Err(error) => return Err(self.handle.refused(error)),
        };
        if let Err(error) = self.drive(&mut &mut begin) {
            self.handle.failed(error)?;
            return Ok(0);
        }
        let begun = begin.begun();
        self.handle.begun(&begun);
        Ok(begun.copied())
    }

    /// Where the last slot is taken: removes what the medium says is given up, which takes no room.
    #[inline(never)] // As above.
    fn relieve(&mut self) -> Result<(), LogError<D::Error>> {
        let Some(view) = self.handle.writer.view_as_said() else { return Ok(()) };
        self.retire_from(view, Retention { evidence: true, ..Retention::default() })?;
        self.free_removed()
    }

    /// Gives back what a segment did not use, which need not succeed. Tells whether it did.
    fn trim(&mut self, end: (SegmentId, u32)) -> bool {
        self.drive(&mut Trim::new(end)).is_ok()
    }

    /// Replaces the metadata where they are kept, which need not succeed.
    fn put_meta(&mut self, clean: bool) {
        if Part::Metadata.is_built() && self.handle.options.metadata {
            let _ = self.drive(&mut self.handle.meta(clean));
        }
    }

    /// Removes what lies below the low-water mark, and what `retention` says.
    fn retire(&mut self, retention: Retention) -> Result<(), LogError<D::Error>> {
        self.write_out()?;
        self.retire_from(self.handle.writer.view(), retention)
    }

    fn retire_from(&mut self, view: View, retention: Retention) -> Result<(), LogError<D::Error>> {
        let mut retire = Retire::new(view, retention);
        let retired = drive(&mut retire, &mut self.device, self.handle.buf, &mut ());
        self.handle.writer.retired(&retire);
        retired.map_err(|error| self.handle.unfit(error))?;
        if retention.evidence {
            self.handle.writer.evidence_removed();
        }
        Ok(())
    }

    /// Reads checkpoints that were there when the log was opened, once: what is not valid, or not named by the log, holds
    /// nothing, and what is neither is removed.
    fn check_checkpoints(&mut self) -> Result<(), LogError<D::Error>> {
        if !Part::Checkpoints.is_built() || self.handle.checkpoints.are_judged() { Ok(()) } else { self.judge() }
    }

    #[inline(never)] // What it takes of the stack is free again afterwards.
    fn judge(&mut self) -> Result<(), LogError<D::Error>> {
        // What is staged stands in the buffer that reading needs.
        self.write_out()?;
        let mut judging = self.handle.checkpoints.judge(self.handle.writer.view());
        let Some(machine) = &mut judging else { return Ok(()) };
        // This host does not pause.
        let judged = self.run(machine, &mut ())?.unwrap_or_default();
        let covered = self.handle.writer.view().is_covered();
        for id in self.handle.checkpoints.judged(&judged, covered) {
            // What cannot be removed goes with the next one.
            let _ = self.device.remove(crate::Object::Checkpoint(id));
        }
        Ok(())
    }

    /// Drives a machine that gives nothing back, and asks nothing of a host.
    fn drive(&mut self, machine: &mut dyn Machine<Output = ()>) -> Result<(), Error<D::Error>> {
        drive_unit(machine, &mut self.device, &mut { &mut *self.handle.buf }, &mut ()).map(|_| ())
    }

    /// Drives a machine that reads.
    fn run<M: Machine>(
        &mut self,
        machine: &mut M,
        host: &mut impl Host,
    ) -> Result<Option<M::Output>, LogError<D::Error>> {
        let read = drive_until_pause(machine, &mut self.device, self.handle.buf, host);
        read.map_err(|error| self.handle.unfit(error))
    }
}

/// A place for a log, which is opened in it and stays there.
///
/// [`Log::open`] and [`Log::format`] return the log, and whoever calls them has it on the stack twice while it is handed up. A
/// log that is opened in its place takes 3 KiB less.
///
/// ```
/// # use duralog_core::{Device, Error, Fault, LogOptions, LogPlace, OpenError};
/// # use uuid::Uuid;
/// # fn run<D: Device>(device: D, uuid: Uuid, now: u64) -> Result<(), OpenError<D::Error>> {
/// let mut buf = [0; 1024];
/// let mut place = LogPlace::new(device, &mut buf, LogOptions::default());
/// let log = match place.open(now) {
///     Err(OpenError::Drive(Error::Fault(Fault::NoLog))) => place.format(uuid, now)?,
///     opened => opened?,
/// };
/// log.append(now, &b"an entry"[..])?;
/// place.close(now)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LogPlace<'a, D: Device> {
    /// Nothing is known of it before it is opened.
    log: Log<'a, D>,
}

impl<'a, D: Device> LogPlace<'a, D> {
    /// A place for the log on this device, if there is one. Nothing is read before it is opened.
    #[inline(always)] // A log is large: it is made where the caller has it.
    pub fn new(device: D, buf: &'a mut [u8], options: LogOptions) -> Self {
        let handle = Handle::new(buf, options, device.geometry(), device.old_writer());
        Self { log: Log { device, handle } }
    }

    /// Opens the log as [`Log::open`] does. After an error it may be tried again; a log that was opened is given up for it, as if
    /// it had been dropped.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open(&mut self, now: u64) -> Result<&mut Log<'a, D>, OpenError<D::Error>> {
        self.forget();
        self.log.recover()?;
        self.log.settle(now)?;
        Ok(&mut self.log)
    }

    /// Makes the log as [`Log::format`] does.
    ///
    /// # Errors
    /// As [`Log::format`].
    pub fn format(&mut self, log: Uuid, now: u64) -> Result<&mut Log<'a, D>, OpenError<D::Error>> {
        self.forget();
        self.log.find_none()?;
        self.log.handle.create(log)?;
        self.log.begin(now)?;
        Ok(&mut self.log)
    }

    /// Closes the log as [`Log::close`] does; where it was not opened, nothing is done. It may be opened again.
    ///
    /// # Errors
    /// As [`Log::close`].
    pub fn close(&mut self, now: u64) -> Result<(), LogError<D::Error>> {
        self.log.end(now)
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &D {
        &self.log.device
    }

    /// Gives the device back, and with it the log's place: what was appended and not written is lost.
    #[must_use]
    pub fn into_device(self) -> D {
        self.log.device
    }

    /// Forgets what is known of the log.
    #[inline(never)] // Free again when the log is recovered.
    fn forget(&mut self) {
        let Log { device, handle } = &mut self.log;
        let buf = core::mem::take(&mut handle.buf);
        *handle = Handle::new(buf, handle.options, device.geometry(), device.old_writer());
    }
}
