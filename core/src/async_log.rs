//! [`Log`](crate::Log), awaited: the same handle on an asynchronous device.
//!
//! Every decision is that of the machines, which both drive; what is written twice is where a future may wait.

use uuid::Uuid;

#[cfg(doc)]
use crate::Fault;
use crate::{
    CheckpointId, Durability, Host, JudgeLoss, Lsn, Payload, PutCheckpoint, Read, ReadCheckpoint, Reader, Reading,
    Recovery, Replay, Report, Retention, Retire, TransactionEnd, Trim,
    begin::Begin,
    chain::View,
    checkpoint::CheckpointHeader,
    device::AsyncDevice,
    drive::{Action, Error, Machine, drive_async, drive_async_until_pause},
    handle::{Appended, Handle, LogError, LogOptions, LogStats, OpenError, Snapshot, none_found},
    part::Part,
    segment::SegmentId,
    writer::{Commit, StageError, Writer},
};

/// A log, open for writing, on an asynchronous device.
///
/// It is [`Log`](crate::Log) with methods to be awaited; costs are the same. A future that is dropped before its end leaves the
/// effect of its call unknown: where something was under way to the medium the handle is poisoned
/// ([`Cause::Abandoned`](crate::Cause::Abandoned)), and opening the log again finds out.
#[derive(Debug)]
pub struct AsyncLog<'a, D: AsyncDevice> {
    device: D,
    handle: Handle<'a>,
}

impl<'a, D: AsyncDevice> AsyncLog<'a, D> {
    /// Makes a log on a device that holds none: the only call that begins one.
    ///
    /// `log` is the log's UUID: random, or else unlike that of any other log. When this returns, the log is durable, with
    /// no entry in it.
    ///
    /// # Errors
    /// [`OpenError::Exists`] if there is a log, or what may have been one; nothing was destroyed. [`OpenError::Options`],
    /// also where they expect another log than `log`. [`Fault::Lost`] where they know of an LSN that was durable.
    pub async fn format(
        device: D,
        buf: &'a mut [u8],
        options: LogOptions,
        log: Uuid,
        now: u64,
    ) -> Result<Self, OpenError<D::Error>> {
        let mut made = Self::closed(device, buf, options);
        made.find_none().await?;
        made.handle.create(log)?;
        made.begin(now).await?;
        Ok(made)
    }

    /// Opens the log for writing. What recovery found is in [`report`](Self::report); everything that was recovered is
    /// durable when this returns.
    ///
    /// # Errors
    /// [`OpenError::Drive`] with [`Fault::NoLog`] where there is none: this makes none. [`OpenError::Refused`].
    pub async fn open(
        device: D,
        buf: &'a mut [u8],
        options: LogOptions,
        now: u64,
    ) -> Result<Self, OpenError<D::Error>> {
        let mut log = Self::closed(device, buf, options);
        log.recover().await?;
        log.settle(now).await?;
        Ok(log)
    }

    /// A log of which nothing is known yet.
    fn closed(device: D, buf: &'a mut [u8], options: LogOptions) -> Self {
        let handle = Handle::new(buf, options, device.geometry(), device.old_writer());
        Self { device, handle }
    }

    /// Finds that there is no log.
    #[inline(never)] // Recovery's memory is free again when this returns.
    async fn find_none(&mut self) -> Result<(), OpenError<D::Error>> {
        self.handle.may_open()?;
        let recovery = self.handle.options.recovery();
        none_found(drive_async(&mut Recovery::new(recovery), &mut self.device, self.handle.buf, &mut ()).await)
    }

    /// Recovers the log, and has it ready to be taken over.
    #[inline(never)] // Recovery's memory is free again when this returns.
    async fn recover(&mut self) -> Result<(), OpenError<D::Error>> {
        self.handle.may_open()?;
        let mut recovery = Recovery::new(self.handle.options.recovery());
        drive_async(&mut recovery, &mut self.device, self.handle.buf, &mut ()).await?;
        self.handle.take_over(recovery.found())
    }

    /// Makes durable what was recovered.
    async fn settle(&mut self, now: u64) -> Result<(), LogError<D::Error>> {
        if self.handle.writer.needs_sync() {
            self.commit(Durability::Durable).await?;
        }
        if self.handle.writer.needs_segment() {
            match self.begin(now).await {
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
    /// # Errors
    /// [`LogError::Full`] and [`LogError::TooLarge`]: the entry is not in the log, which goes on.
    pub async fn append<P: Payload>(&mut self, now: u64, payload: P) -> Result<Appended, LogError<D::Error>> {
        self.append_in(now, None, &[payload]).await
    }

    /// Appends entries that a crash keeps all or not at all.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    ///
    /// # Panics
    /// If there are no payloads.
    pub async fn append_batch<P: Payload>(&mut self, now: u64, payloads: &[P]) -> Result<Appended, LogError<D::Error>> {
        self.append_in(now, None, payloads).await
    }

    async fn append_in<P: Payload>(
        &mut self,
        now: u64,
        transaction: Option<u64>,
        payloads: &[P],
    ) -> Result<Appended, LogError<D::Error>> {
        let staged = self.stage(now, |writer, buf, now| writer.stage(buf, now, transaction, payloads)).await;
        let (first, last) = staged?;
        if transaction.is_some() {
            return Ok(self.unpromised(first, last));
        }
        self.reach(first, last, self.handle.options.durability).await
    }

    /// Begins a transaction and returns its id. Its entries count if it is committed.
    ///
    /// # Errors
    /// As [`append`](Self::append); [`LogError::TooManyTransactions`].
    pub async fn begin_transaction(&mut self, now: u64) -> Result<u64, LogError<D::Error>> {
        let id = self.stage(now, |writer, buf, now| writer.stage_begin(buf, now)).await?;
        Ok(id)
    }

    /// Appends entries to a transaction, as one batch. They are durable only with its commit.
    ///
    /// # Errors
    /// As [`append`](Self::append); [`LogError::NoTransaction`] if it is not open.
    ///
    /// # Panics
    /// If there are no payloads.
    pub async fn append_to<P: Payload>(
        &mut self,
        now: u64,
        transaction: u64,
        payloads: &[P],
    ) -> Result<Appended, LogError<D::Error>> {
        self.append_in(now, Some(transaction), payloads).await
    }

    /// Ends a transaction. A commit is as durable as the options say when this returns.
    ///
    /// # Errors
    /// As [`append`](Self::append); [`LogError::NoTransaction`] if it is not open. After [`LogError::Full`] it is over too, and
    /// is rolled back when the log goes on; where it is cut off by a crash before, a commit that was written as a whole counts.
    pub async fn end_transaction(
        &mut self,
        now: u64,
        transaction: u64,
        end: TransactionEnd,
    ) -> Result<Appended, LogError<D::Error>> {
        let staged = self.stage(now, |writer, buf, now| writer.stage_end(buf, now, transaction, end)).await;
        let lsn = staged.map_err(|error| self.handle.unended(transaction, error))?;
        match end {
            TransactionEnd::Commit => self.reach(lsn, lsn, self.handle.options.durability).await,
            TransactionEnd::Rollback => Ok(self.unpromised(lsn, lsn)),
        }
    }

    /// Makes everything that was appended durable, and returns the durable LSN. Nothing is done if it is already.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub async fn sync(&mut self) -> Result<Lsn, LogError<D::Error>> {
        self.commit(Durability::Durable).await?;
        Ok(self.handle.writer.durable())
    }

    /// Writes a durable mark, if the durable LSN has moved since the last one: then recovery knows for certain what was
    /// durable. Nothing writes one unasked: on flash each takes a granule at least.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub async fn mark_durable(&mut self, now: u64) -> Result<(), LogError<D::Error>> {
        self.commit(Durability::Durable).await?;
        if self.handle.writer.mark_due() {
            self.stage(now, |writer, buf, now| writer.stage_durable_mark(buf, now)).await?;
            self.commit(Durability::Durable).await?;
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
    /// # Errors
    /// As [`append`](Self::append).
    pub async fn set_slot(&mut self, now: u64, bytes: &[u8]) -> Result<(), LogError<D::Error>> {
        self.stage(now, |writer, buf, now| writer.stage_slot(buf, now, bytes)).await?;
        self.commit(Durability::Durable).await
    }

    /// Reads the entries from `from` to `to`, both included, as they stand, and hands each to `host`, borrowed from the
    /// log's buffer. Below the low-water mark there are none; [`Lsn::ZERO`] stands for the first one kept. `None`: the host
    /// paused, and reading ends there.
    ///
    /// # Errors
    /// [`LogError::Drive`]: damage, which poisons the handle; what stands before it was handed out.
    pub async fn read(&mut self, from: Lsn, to: Lsn, host: &mut impl Host) -> Result<Option<Read>, LogError<D::Error>> {
        self.write_out().await?;
        let view = self.handle.writer.view();
        let from = if from == Lsn::ZERO { view.low_water() } else { from };
        self.run(&mut Reader::new(view, from, to, self.handle.options.policy), host).await
    }

    /// Reads what counts from `from` on: entries by themselves, and those of transactions where they are committed.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn replay(&mut self, from: Lsn, host: &mut impl Host) -> Result<Option<Read>, LogError<D::Error>> {
        self.write_out().await?;
        let view = self.handle.writer.view();
        let from = from.max(view.low_water());
        self.run(&mut Replay::new(view, from, self.handle.options.policy), host).await
    }

    /// Writes a checkpoint of the state as it is now: everything appended before is in the snapshot, which `fill` gives
    /// out piece by piece until it returns 0. When this returns, it is durable, and older ones beyond those that the
    /// options keep are gone.
    ///
    /// Where the number of slots is fixed, it takes as many as its bytes fill, and leaves the last free one for the log to
    /// be taken over into: with fewer than two free, none is written. A log that has filled its medium has one: what an
    /// earlier checkpoint holds is to be given up first ([`truncate_before`](Self::truncate_before)), so take the first
    /// one in time.
    ///
    /// # Errors
    /// [`LogError::Full`]: there is no checkpoint, and the log goes on. [`Fault::BufferTooSmall`]: nothing was done.
    /// [`Fault::LeftOut`] in a build without checkpoints.
    pub async fn checkpoint(
        &mut self,
        now: u64,
        fill: impl FnMut(&mut [u8]) -> usize,
    ) -> Result<CheckpointId, LogError<D::Error>> {
        self.handle.may_checkpoint()?;
        self.commit(Durability::Durable).await?;
        if !self.handle.writer.is_all_durable() {
            self.begin(now).await?;
        }
        self.check_checkpoints().await?;
        let head = self.handle.checkpoint_header(now)?;
        let put = PutCheckpoint::new(self.handle.options.checksum, head, self.handle.geometry);
        let mut snapshot = Snapshot { fill, metadata_is_out: false };
        if let Err(error) = drive_async(put, &mut self.device, self.handle.buf, &mut snapshot).await {
            if !self.handle.is_refusal(&error) {
                return Err(self.handle.unfit(error));
            }
            // Half a checkpoint takes room and says nothing; what cannot be removed goes with the next one.
            let _ = self.device.remove(crate::Object::Checkpoint(head.id)).await;
            return Err(LogError::Full);
        }
        let named = match self.stage(now, |writer, buf, now| writer.stage_checkpoint(buf, now, head.lsn, head.id)).await
        {
            Ok(entry) => self.commit(Durability::Durable).await.map(|()| entry),
            Err(error) => Err(error),
        };
        if let Err(LogError::Full | LogError::Exhausted) = named {
            self.forget(head).await?;
        }
        let most = usize::from(self.handle.options.checkpoints_kept);
        let checkpoints_from = self.handle.checkpoints.keep(head.head(), named?, most);
        self.say_cover(now, head.floor).await?;
        self.retire(Retention { checkpoints_from, evidence: true, unsaid: None }).await?;
        Ok(head.id)
    }

    /// Hands the newest valid checkpoint to the host, piece by piece, and returns its LSN; `None` if there is none. It is
    /// read twice, so that the host gets no byte of one that is not valid.
    ///
    /// # Errors
    /// [`LogError::Drive`]: the device's; damage, which poisons the handle, if the log was truncated because a checkpoint
    /// held what went, and none that does is valid: no state can be built up from what is left; [`Fault::Truncated`] where
    /// [`discard_before`](Self::discard_before) gave up entries behind the newest, or what the log names is not valid: make one of
    /// the state that is kept elsewhere.
    pub async fn load_checkpoint(&mut self, host: &mut impl Host) -> Result<Option<Lsn>, LogError<D::Error>> {
        self.check_checkpoints().await?;
        self.write_out().await?;
        let mut is_lost = false;
        if Part::Checkpoints.is_built() && self.handle.newest_checkpoint().is_none() {
            let view = self.handle.writer.view();
            is_lost = self.run(&mut JudgeLoss::new(view), &mut ()).await? == Some(true);
        }
        let Some(newest) = self.handle.load_from(is_lost)? else { return Ok(None) };
        let (checksum, log) = (self.handle.options.checksum, self.handle.writer.log());
        let mut read = ReadCheckpoint::new(checksum, log, newest.id, Reading::HandOut);
        let read = self.run(&mut read, host).await?;
        self.handle.loaded(newest.id, read)
    }

    /// Gives up entries below `lsn`, as far as the oldest checkpoint that is kept holds them, and returns the first LSN that
    /// is kept from then on; see [`discard_before`](Self::discard_before).
    ///
    /// # Errors
    /// As [`discard_before`](Self::discard_before).
    pub async fn truncate_before(&mut self, now: u64, lsn: Lsn) -> Result<Lsn, LogError<D::Error>> {
        self.check_checkpoints().await?;
        match self.handle.checkpoints.safe_floor() {
            Some(floor) => self.truncate(now, lsn.min(floor), true).await,
            None if self.handle.writer.low_water_due() => self.truncate(now, Lsn::ZERO, false).await,
            None => Ok(self.handle.writer.low_water()),
        }
    }

    /// Gives up entries below `lsn`, whether a checkpoint holds them or not, and returns the first LSN that is kept from then
    /// on. Whole segments below it are removed; what a batch or transaction that ends above it needs stays.
    ///
    /// What a checkpoint holds needs no free room to go; where none does, that may take a mark, or another segment. When this
    /// returns, the low-water mark is durable.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub async fn discard_before(&mut self, now: u64, lsn: Lsn) -> Result<Lsn, LogError<D::Error>> {
        self.check_checkpoints().await?;
        let covered = self.handle.checkpoints.safe_floor().is_some_and(|floor| lsn <= floor);
        self.truncate(now, lsn, covered).await
    }

    async fn truncate(&mut self, now: u64, lsn: Lsn, covered: bool) -> Result<Lsn, LogError<D::Error>> {
        let low_water = self.handle.writer.low_water();
        let (lsn, covered) = self.handle.writer.truncates_to(lsn, covered);
        if lsn > low_water || self.handle.writer.low_water_due() {
            match self.say_low_water(now, lsn, covered).await {
                // Not even room for a segment: what a checkpoint covers goes first. Its header then says that it was given up.
                Err(LogError::Full) if covered => {
                    self.handle.writer.give_up(lsn);
                    self.retire(Retention { unsaid: Some(low_water), ..Retention::default() }).await?;
                    self.free_removed().await?;
                    self.say_low_water(now, lsn, true).await?;
                }
                said => said?,
            }
            // Before anything goes: what says that it was given up is not in one place alone.
            self.put_meta(false).await;
        }
        // Where the number of slots is fixed, what was kept as evidence takes room that the log needs.
        let evidence = self.handle.geometry.slots.is_some();
        self.retire(Retention { evidence, ..Retention::default() }).await?;
        if !self.handle.writer.is_ready() {
            // A segment may have been refused room: the next is not.
            self.free_removed().await?;
        }
        Ok(self.handle.writer.low_water())
    }

    /// Makes removals durable: only then is their room free; and what was given back.
    async fn free_removed(&mut self) -> Result<(), LogError<D::Error>> {
        let synced = self.device.sync().await;
        let failed = |error| Error::Device { action: Action::Sync, object: None, error };
        synced.map_err(|error| self.handle.unfit(failed(error)))
    }

    /// The entry of this checkpoint was refused: a crash must not bring it back, and find no checkpoint.
    async fn forget(&mut self, head: CheckpointHeader) -> Result<(), LogError<D::Error>> {
        let mut may_come_back = self.handle.writer.holds_refused();
        if may_come_back {
            may_come_back = !self.trim(self.handle.writer.end()).await;
            self.free_removed().await?;
        }
        if may_come_back || self.device.remove(crate::Object::Checkpoint(head.id)).await.is_err() {
            self.handle.checkpoints.left(head.head());
        }
        Ok(())
    }

    async fn say_low_water(&mut self, now: u64, lsn: Lsn, covered: bool) -> Result<(), LogError<D::Error>> {
        self.stage(now, |writer, buf, now| writer.stage_low_water(buf, now, lsn, covered)).await?;
        self.commit(Durability::Durable).await
    }

    /// A checkpoint with this replay floor is there: says that it holds what was given up without one, if that is so. Where there
    /// is no room for it, the next checkpoint does.
    async fn say_cover(&mut self, now: u64, floor: Lsn) -> Result<(), LogError<D::Error>> {
        if !self.handle.writer.cover_due(floor) {
            return Ok(());
        }
        let said = match self.stage(now, |writer, buf, now| writer.stage_cover(buf, now, floor)).await {
            Ok(()) => self.commit(Durability::Durable).await,
            Err(error) => Err(error),
        };
        match said {
            Err(LogError::Full) => Ok(()),
            said => said,
        }
    }

    /// Closes the log: everything appended is durable, and a seal says so where there is room for one. Gives the
    /// device back.
    ///
    /// # Errors
    /// As [`append`](Self::append). The log is closed all the same.
    pub async fn close(mut self, now: u64) -> Result<D, LogError<D::Error>> {
        self.commit(Durability::Durable).await?;
        // What was refused for lack of space is not to be found by the next recovery, if there is room by now.
        if self.handle.writer.holds_refused() {
            match self.begin(now).await {
                Ok(_) | Err(LogError::Full) => {}
                Err(error) => return Err(error),
            }
        }
        if self.handle.writer.seal_due() {
            let sealed = self.handle.stage_seal(now)?
                && match self.commit(Durability::Durable).await {
                    Err(LogError::Full) => false,
                    committed => committed.map(|()| true)?,
                };
            let end = self.handle.writer.end();
            self.trim(end).await;
            self.put_meta(sealed).await;
        }
        Ok(self.device)
    }

    /// Stages something, making what room it needs: commits and segments come first where they must.
    async fn stage<T>(
        &mut self,
        now: u64,
        mut stage: impl FnMut(&mut Writer, &mut [u8], u64) -> Result<T, StageError>,
    ) -> Result<T, LogError<D::Error>> {
        loop {
            self.handle.check()?;
            match stage(&mut self.handle.writer, self.handle.buf, now) {
                Ok(staged) => return Ok(staged),
                Err(StageError::NeedsCommit) => self.commit(Durability::Os).await?,
                Err(StageError::NeedsSegment) => {
                    // What is staged still goes into the segment that ends.
                    self.commit(Durability::Durable).await?;
                    let end = self.handle.writer.end();
                    self.begin(now).await?;
                    // A segment that is continued is none that was sealed.
                    if end.0 != self.handle.writer.end().0 {
                        self.trim(end).await;
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
    async fn reach(&mut self, first: Lsn, last: Lsn, durability: Durability) -> Result<Appended, LogError<D::Error>> {
        if durability == Durability::Buffered {
            self.handle.buffered = last;
        } else {
            self.commit(durability).await?;
        }
        Ok(Appended { first, last, durability: self.device.reaches(durability) })
    }

    /// Commits what is staged: in one write, unless the write limit asks for a sync before it.
    async fn commit(&mut self, durability: Durability) -> Result<(), LogError<D::Error>> {
        while let Some(group) = self.handle.take(durability)? {
            match drive_async(Commit::new(group), &mut self.device, self.handle.buf, &mut ()).await {
                Ok(()) => self.handle.landed(group),
                Err(error) => self.handle.failed(error)?,
            }
        }
        Ok(())
    }

    /// Writes what is staged, so that a reader sees it and the buffer is free. Of a poisoned log what is on the medium can
    /// still be read.
    async fn write_out(&mut self) -> Result<(), LogError<D::Error>> {
        if self.handle.writer.is_poisoned() { Ok(()) } else { self.commit(Durability::Os).await }
    }

    /// Begins a segment, behind a full one or to take the log over, or goes on in the one that was found. Gives the number
    /// of entries copied.
    async fn begin(&mut self, now: u64) -> Result<u64, LogError<D::Error>> {
        self.commit(Durability::Durable).await?;
        loop {
            let copied = self.begin_next(now).await?;
            if self.handle.writer.is_ready() {
                // Before anything in it is acknowledged.
                self.put_meta(false).await;
                if self.device.free() == Some(0) {
                    // It need not succeed: where a segment is begun or continued next, it is asked again.
                    let _ = self.relieve().await;
                }
                return Ok(copied);
            }
        }
    }

    /// Does what the writer plans next: where that comes to nothing, it has another plan.
    #[inline(never)] // A plan is large: what it takes of the stack is free again when the segment is begun.
    async fn begin_next(&mut self, now: u64) -> Result<u64, LogError<D::Error>> {
        let mut begin = match self.handle.writer.plan(now, (self.handle.options.nonce)()) {
            Ok(plan) => Begin::new(plan),
            Err(error) => return Err(self.handle.refused(error)),
        };
        if let Err(error) = drive_async(&mut begin, &mut self.device, self.handle.buf, &mut ()).await {
            self.handle.failed(error)?;
            return Ok(0);
        }
        let begun = begin.begun();
        self.handle.begun(&begun);
        Ok(begun.copied())
    }

    /// Where the last slot is taken: removes what the medium says is given up, which takes no room.
    #[inline(never)] // As above.
    async fn relieve(&mut self) -> Result<(), LogError<D::Error>> {
        let Some(view) = self.handle.writer.view_as_said() else { return Ok(()) };
        self.retire_from(view, Retention { evidence: true, ..Retention::default() }).await?;
        self.free_removed().await
    }

    /// Gives back what a segment did not use, which need not succeed. Tells whether it did.
    async fn trim(&mut self, end: (SegmentId, u32)) -> bool {
        drive_async(Trim::new(end), &mut self.device, self.handle.buf, &mut ()).await.is_ok()
    }

    /// Replaces the metadata where they are kept, which need not succeed.
    async fn put_meta(&mut self, clean: bool) {
        if Part::Metadata.is_built() && self.handle.options.metadata {
            let _ = drive_async(self.handle.meta(clean), &mut self.device, self.handle.buf, &mut ()).await;
        }
    }

    /// Removes what lies below the low-water mark, and what `retention` says.
    async fn retire(&mut self, retention: Retention) -> Result<(), LogError<D::Error>> {
        self.write_out().await?;
        self.retire_from(self.handle.writer.view(), retention).await
    }

    async fn retire_from(&mut self, view: View, retention: Retention) -> Result<(), LogError<D::Error>> {
        let mut retire = Retire::new(view, retention);
        let retired = drive_async(&mut retire, &mut self.device, self.handle.buf, &mut ()).await;
        self.handle.writer.retired(&retire);
        retired.map_err(|error| self.handle.unfit(error))?;
        if retention.evidence {
            self.handle.writer.evidence_removed();
        }
        Ok(())
    }

    /// Reads checkpoints that were there when the log was opened, once: what is not valid, or not named by the log, holds
    /// nothing, and what is neither is removed.
    async fn check_checkpoints(&mut self) -> Result<(), LogError<D::Error>> {
        if !Part::Checkpoints.is_built() || self.handle.checkpoints.are_judged() {
            return Ok(());
        }
        // What is staged stands in the buffer that reading needs.
        self.write_out().await?;
        let view = self.handle.writer.view();
        let Some(machine) = self.handle.checkpoints.judge(view) else { return Ok(()) };
        let judged = drive_async(machine, &mut self.device, self.handle.buf, &mut ()).await;
        let judged = judged.map_err(|error| self.handle.unfit(error))?;
        let covered = self.handle.writer.view().is_covered();
        for id in self.handle.checkpoints.judged(&judged, covered) {
            // What cannot be removed goes with the next one.
            let _ = self.device.remove(crate::Object::Checkpoint(id)).await;
        }
        Ok(())
    }

    /// Drives a machine that reads.
    async fn run<M: Machine>(
        &mut self,
        machine: &mut M,
        host: &mut impl Host,
    ) -> Result<Option<M::Output>, LogError<D::Error>> {
        let read = drive_async_until_pause(machine, &mut self.device, self.handle.buf, host).await;
        read.map_err(|error| self.handle.unfit(error))
    }
}
