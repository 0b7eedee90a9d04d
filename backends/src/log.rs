//! The log that programs use: blocking, shared between threads, with group commit.
//!
//! ```text
//! append ──► stage in a buffer ──► whoever waits first leads: one write, one sync for all ──► the others wake
//!            (short lock)          (device lock; the next group is staged meanwhile)
//! ```
//!
//! Framing, LSNs, recovery and every decision are the core's. This module only holds the locks, moves the bytes and
//! tells those who wait.

use core::time::Duration;
use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

use duralog_core::{
    Begin, Commit, Consent, Durability, Error as DriveError, Fault, Finding, Host, Lsn, Machine, Object, Payload,
    Recovered, Recovery, SegmentId, StageError, Step, Stop, TakeOverError, View, Writer, WriterOptions, drive,
    meta::PutMeta,
};
use uuid::Uuid;

use crate::{
    config::{Config, SyncMode},
    device::{DeviceFailure, SharedDevice},
    environment::Environment,
    error::{Error, Result},
    file::{Access, FileDevice},
    fs::StdFs,
    read::{Entries, SCRATCH},
    report::RecoveryReport,
};

/// What an append returns: where the entries are in the log, and how durable they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The LSN of the first entry.
    pub first: Lsn,
    /// The LSN of the last entry; of one entry, the same.
    pub last: Lsn,
    /// What they had reached when the append returned.
    pub durability: Durability,
}

impl Receipt {
    /// The LSN of the entry, or of the last one of a batch.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.last
    }
}

/// Figures of an open log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The LSN that the next entry will have.
    pub current_lsn: Lsn,
    /// The last LSN on stable storage.
    pub synced_lsn: Lsn,
    /// The LSN of the newest checkpoint.
    pub last_checkpoint_lsn: Option<Lsn>,
    /// Segments on the medium.
    pub total_segments: u64,
    /// Bytes of all segments and checkpoints on the medium.
    pub total_size_bytes: u64,
    /// Entries appended through this handle.
    pub appends: u64,
    /// Groups written, each with one write.
    pub groups: u64,
    /// Syncs done for appends.
    pub syncs: u64,
    /// Bytes written in groups.
    pub bytes_written: u64,
}

/// A write-ahead log, open for writing.
///
/// It may be shared between threads by reference; all methods take `&self` and block. Dropping it stops the
/// background thread and syncs what was appended, without a word about failure: [`close`](Self::close) tells.
#[derive(Debug)]
pub struct Log<D: SharedDevice = FileDevice> {
    shared: Arc<Shared<D>>,
    background: Mutex<Option<JoinHandle<()>>>,
    report: RecoveryReport,
}

struct Shared<D> {
    state: Mutex<State>,
    /// Something landed, failed, or was closed.
    changed: Condvar,
    /// There may be something to do for the background thread.
    woken: Condvar,
    /// Held by whoever leads.
    device: Mutex<D>,
    options: WriterOptions,
    environment: Arc<dyn Environment>,
    sync_mode: SyncMode,
    idle_mark: Option<Duration>,
}

impl<D> fmt::Debug for Shared<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("sync_mode", &self.sync_mode).finish_non_exhaustive()
    }
}

struct State {
    writer: Writer,
    /// What is staged next.
    buf: Vec<u8>,
    /// The buffer of the group before, to be used again.
    spare: Vec<u8>,
    /// Someone is at the device for all.
    leading: bool,
    closed: bool,
    /// Why the writer is poisoned.
    cause: Option<Arc<Error>>,
    /// Refusals for lack of space, for those who wait; cleared when nobody does.
    refusals: Vec<Refusal>,
    /// How many refusals there ever were.
    refused: u64,
    /// Threads that wait for a leader.
    waiting: usize,
    /// The last LSN of an append that was answered before it was written.
    buffered: Lsn,
    /// Changes with each append: the background thread sees whether the log fell idle.
    activity: u64,
    /// The background thread has nothing to do until it is woken.
    resting: bool,
    counts: Counts,
    last_checkpoint: Option<Lsn>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    appends: u64,
    groups: u64,
    syncs: u64,
    bytes: u64,
}

/// What was staged was dropped for lack of space, and its LSNs will be given out again.
#[derive(Clone, Debug)]
struct Refusal {
    number: u64,
    /// The last LSN that was written, and is not dropped.
    written: Lsn,
    error: Error,
}

type Guard<'a> = MutexGuard<'a, State>;

impl Log<FileDevice> {
    /// Opens the log in the folder that `config` names, or makes one there.
    ///
    /// Recovery reads the segments' headers and the newest segment; what it found is in
    /// [`recovery`](Self::recovery). When this returns, everything that was recovered is durable.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::NotFound`], [`Error::NotALog`], [`Error::Config`]; [`Error::Refused`] if the policy
    /// does not allow to write after what was found; [`Error::Lost`], [`Error::Foreign`], [`Error::Unsupported`];
    /// [`Error::NoSpace`] and [`Error::Device`]. Nothing was destroyed then.
    pub fn open(config: Config) -> Result<Self> {
        let device =
            FileDevice::open(&config.dir, config.file_options(Access::Write)).map_err(FileDevice::<StdFs>::opened)?;
        Self::open_device(device, config)
    }
}

impl<D: SharedDevice> Log<D> {
    /// Opens the log on a device, or makes one there; the folder that `config` names is not used.
    ///
    /// # Errors
    /// As [`open`](Log::open), but for what only a folder can be.
    pub fn open_device(mut device: D, config: Config) -> Result<Self> {
        let geometry = device.geometry();
        let mut options = WriterOptions::new(geometry);
        if let Some(write_limit) = config.write_limit {
            options.write_limit = write_limit;
        }
        options.max_transactions = config.max_transactions;
        options.immediate = config.sync_mode == SyncMode::Immediate;
        options.validate()?;
        let started = config.environment.now_us();
        let mut buf = vec![0; SCRATCH];
        let mut findings = Findings::default();
        let recovered = drive(Recovery::new(config.recovery_options()), &mut device, &mut buf, &mut findings);
        let (mut writer, recovered) = match recovered {
            Ok(recovered) => (take_over(options, &recovered, &findings)?, Some(recovered)),
            Err(DriveError::Fault(Fault::NoLog)) if config.create => {
                let id = config.expect_log_id.unwrap_or_else(|| Uuid::from_u128(config.environment.random()));
                (Writer::create(options, id)?, None)
            }
            Err(DriveError::Fault(Fault::NoLog)) => return Err(Error::NotFound { path: config.dir }),
            Err(error) => return Err(error.into()),
        };
        let mut report = RecoveryReport::new(recovered.as_ref(), findings.0, &writer, config.policy);
        if config.full_check {
            report.check_all(&mut device, &writer.view(), &mut buf)?;
        }
        if recovered.is_none() || writer.needs_segment() {
            report.repersisted = begin(&mut writer, &mut device, &mut buf, &*config.environment)?;
        }
        report.duration_us = config.environment.now_us().saturating_sub(started);
        tracing::info!(last = report.last_valid_lsn.value(), clean = report.clean, "recovered");
        let last_checkpoint = report.checkpoint_used.map(|(_, lsn)| lsn);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                buffered: writer.written(),
                writer,
                buf,
                spare: Vec::new(),
                leading: false,
                closed: false,
                cause: None,
                refusals: Vec::new(),
                refused: 0,
                waiting: 0,
                activity: 0,
                resting: true,
                counts: Counts::default(),
                last_checkpoint,
            }),
            changed: Condvar::new(),
            woken: Condvar::new(),
            device: Mutex::new(device),
            options,
            environment: config.environment,
            sync_mode: config.sync_mode,
            idle_mark: config.idle_mark,
        });
        let background = background(&shared)?;
        Ok(Self { shared, background: Mutex::new(background), report })
    }

    /// What recovery found when the log was opened.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    /// The log's UUID.
    #[must_use]
    pub fn log_id(&self) -> Uuid {
        self.shared.lock().writer.log()
    }

    /// The LSN that the next entry will have.
    #[must_use]
    pub fn current_lsn(&self) -> Lsn {
        self.shared.lock().writer.next_lsn()
    }

    /// The last LSN on stable storage: the entry at it and all before it survive any crash.
    #[must_use]
    pub fn synced_lsn(&self) -> Lsn {
        self.shared.lock().writer.durable()
    }

    /// Appends one entry: an operation, or opaque bytes. In the mode [`SyncMode::Immediate`] it is durable when this
    /// returns; the receipt says what it has reached.
    ///
    /// # Errors
    /// [`Error::TooLarge`] and [`Error::NoSpace`]: the entry is not in the log, which goes on. [`Error::Poisoned`] and
    /// [`Error::Device`]: whether it is, only reopening tells. [`Error::Closed`], [`Error::Exhausted`].
    pub fn append<P: Payload>(&self, payload: P) -> Result<Receipt> {
        self.append_with(payload, self.shared.mode())
    }

    /// [`append`](Self::append), with another durability than the log's mode asks for.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_with<P: Payload>(&self, payload: P, durability: Durability) -> Result<Receipt> {
        self.shared.append(&[payload], durability)
    }

    /// Appends entries that a crash keeps all or not at all. An empty batch writes nothing and gives `None`.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_batch<P: Payload>(&self, payloads: &[P]) -> Result<Option<Receipt>> {
        self.append_batch_with(payloads, self.shared.mode())
    }

    /// [`append_batch`](Self::append_batch), with another durability than the log's mode asks for.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_batch_with<P: Payload>(&self, payloads: &[P], durability: Durability) -> Result<Option<Receipt>> {
        if payloads.is_empty() {
            return Ok(None);
        }
        self.shared.append(payloads, durability).map(Some)
    }

    /// Makes everything that was appended durable, and returns the durable LSN. Nothing is done if it is already.
    ///
    /// # Errors
    /// As [`append`](Self::append); what was not durable before may or may not be.
    pub fn sync(&self) -> Result<Lsn> {
        let state = self.shared.lock();
        let last = state.writer.next_lsn().previous();
        self.shared.wait(state, last, Durability::Durable)
    }

    /// Waits until the entry at `lsn` is durable, which it makes it if nobody else does, and returns the durable LSN.
    ///
    /// # Errors
    /// As [`sync`](Self::sync).
    pub fn wait_durable(&self, lsn: Lsn) -> Result<Lsn> {
        let state = self.shared.lock();
        let last = state.writer.next_lsn().previous();
        self.shared.wait(state, lsn.min(last), Durability::Durable)
    }

    /// Reads the entries from `from` on, in the order of their LSNs, as they stand now. A gap or damage is an error, in
    /// its place; the handle refuses to write from then on.
    ///
    /// # Errors
    /// [`Error::Truncated`] if `from` is below the low-water mark.
    pub fn read_from(&self, from: Lsn) -> Result<Entries<D>> {
        let view = self.shared.written_view()?;
        if from < view.low_water() && from != Lsn::ZERO {
            return Err(Error::Truncated { low_water: view.low_water() });
        }
        let device = self.shared.reader()?;
        let from = from.max(view.low_water());
        let shared = Arc::downgrade(&self.shared);
        Ok(Entries::new(device, view, from, Lsn::MAX, self.report.policy).with_damage_hook(Box::new(move |error| {
            if let Some(shared) = shared.upgrade() {
                shared.lock().poison(error.clone());
                shared.changed.notify_all();
            }
        })))
    }

    /// Figures of the log.
    ///
    /// # Errors
    /// The device cannot list its objects.
    pub fn stats(&self) -> Result<Stats> {
        let mut device = self.shared.reader()?;
        let mut total_segments = 0;
        let mut total_size_bytes = 0;
        let mut after = None;
        while let Some(object) = device.next(after).map_err(D::opened)? {
            total_segments += u64::from(matches!(object, Object::Segment(_)));
            if object != Object::Meta {
                total_size_bytes += SharedDevice::len(&mut device, object).map_err(D::opened)?;
            }
            after = Some(object);
        }
        let state = self.shared.lock();
        Ok(Stats {
            current_lsn: state.writer.next_lsn(),
            synced_lsn: state.writer.durable(),
            last_checkpoint_lsn: state.last_checkpoint,
            total_segments,
            total_size_bytes,
            appends: state.counts.appends,
            groups: state.counts.groups,
            syncs: state.counts.syncs,
            bytes_written: state.counts.bytes,
        })
    }

    /// Closes the log: everything appended is durable, a seal says so, and no later call of anyone writes.
    ///
    /// Closing a closed log does nothing.
    ///
    /// # Errors
    /// As [`sync`](Self::sync). The log is closed all the same.
    pub fn close(&self) -> Result<()> {
        let closed = self.shared.close();
        self.shared.woken.notify_all();
        let background = self.background.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(background) = background {
            // It ends by itself; a panic there has been printed.
            let _ = background.join();
        }
        closed
    }
}

impl<D: SharedDevice> Drop for Log<D> {
    fn drop(&mut self) {
        let state = self.shared.lock();
        if state.closed {
            return;
        }
        let last = state.writer.next_lsn().previous();
        if let Err(error) = self.shared.wait(state, last, Durability::Durable) {
            tracing::warn!(%error, "a log was dropped without close, and its last entries could not be synced");
        }
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        self.shared.woken.notify_all();
        let background = self.background.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(background) = background {
            let _ = background.join();
        }
    }
}

impl State {
    /// Whether anything may be written.
    fn check(&self) -> Result<()> {
        if let Some(cause) = &self.cause {
            return Err(Error::Poisoned { cause: cause.clone() });
        }
        if self.closed { Err(Error::Closed) } else { Ok(()) }
    }

    /// The refusal, since there were `before`, of what is not written up to `lsn`.
    fn refusal(&self, before: u64, lsn: Lsn) -> Option<Error> {
        let refusal = self.refusals.iter().find(|refusal| refusal.number > before && refusal.written < lsn);
        refusal.map(|refusal| refusal.error.clone())
    }

    /// Whether anything may be written, and nothing was refused since there were `before` refusals.
    fn check_since(&self, before: u64) -> Result<()> {
        self.check()?;
        self.refusal(before, Lsn::MAX).map_or(Ok(()), Err)
    }

    fn poison(&mut self, cause: Error) -> Error {
        self.writer.poison();
        let cause = self.cause.get_or_insert_with(|| Arc::new(cause)).clone();
        Error::Poisoned { cause }
    }
}

impl<D: SharedDevice> Shared<D> {
    fn lock(&self) -> Guard<'_> {
        // A panic of another thread while it held the lock leaves the writer as it was between two calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mode(&self) -> Durability {
        if self.sync_mode == SyncMode::Immediate { Durability::Durable } else { Durability::Buffered }
    }

    fn reader(&self) -> Result<D> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner).reader().map_err(D::opened)
    }

    fn append<P: Payload>(&self, payloads: &[P], durability: Durability) -> Result<Receipt> {
        let mut guard = self.lock();
        let (first, last) = loop {
            guard.check()?;
            let now = self.environment.now_us();
            let state = &mut *guard;
            match state.writer.stage(&mut state.buf, now, None, payloads) {
                Ok(lsns) => break lsns,
                Err(StageError::NeedsCommit) => guard = self.make_room(guard)?,
                Err(StageError::NeedsSegment) => guard = self.begin_segment(guard)?,
                Err(error) => return Err(stage_error(error)),
            }
        };
        tracing::trace!(lsn = last.value(), "append");
        guard.counts.appends += payloads.len() as u64;
        guard.activity += 1;
        if guard.resting && self.has_background() {
            guard.resting = false;
            self.woken.notify_all();
        }
        if durability == Durability::Buffered {
            guard.buffered = last;
            return Ok(Receipt { first, last, durability });
        }
        let durable = self.wait(guard, last, durability)?;
        let durability = if durable >= last { Durability::Durable } else { durability };
        Ok(Receipt { first, last, durability })
    }

    fn has_background(&self) -> bool {
        self.idle_mark.is_some() || matches!(self.sync_mode, SyncMode::Batched(_))
    }

    /// Waits until the entry at `lsn` is as durable as asked, leading where nobody leads; gives the durable LSN.
    fn wait<'a>(&'a self, mut guard: Guard<'a>, lsn: Lsn, durability: Durability) -> Result<Lsn> {
        let before = guard.refused;
        loop {
            let reached = match durability {
                Durability::Buffered => true,
                Durability::Os => guard.writer.written() >= lsn,
                Durability::Durable => guard.writer.durable() >= lsn,
            };
            // What was written before a refusal stays; what was not was dropped, and its LSN given out again.
            if let Some(error) = guard.refusal(before, lsn) {
                return Err(error);
            }
            if reached {
                return Ok(guard.writer.durable());
            }
            guard.check()?;
            guard = if guard.leading { self.wait_for_leader(guard) } else { self.lead(guard, durability) };
        }
    }

    fn wait_for_leader<'a>(&self, mut guard: Guard<'a>) -> Guard<'a> {
        guard.waiting += 1;
        let mut guard = self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
        guard.waiting -= 1;
        guard
    }

    /// Commits what is staged, for everyone; nobody else leads.
    fn lead<'a>(&'a self, mut guard: Guard<'a>, durability: Durability) -> Guard<'a> {
        let state = &mut *guard;
        if state.waiting == 0 {
            state.refusals.clear();
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
        let mut buf = if group.is_empty() {
            Vec::new()
        } else {
            let spare = core::mem::take(&mut state.spare);
            core::mem::replace(&mut state.buf, spare)
        };
        drop(guard);
        let committed = self.drive(Commit::new(group), &mut buf);
        let mut guard = self.lock();
        let state = &mut *guard;
        if !group.is_empty() {
            state.spare = buf;
        }
        match committed {
            Ok(()) => {
                state.writer.landed(group);
                state.counts.groups += u64::from(!group.is_empty());
                state.counts.bytes += u64::from(group.len());
                state.counts.syncs += u64::from(group.syncs());
            }
            Err(error) => self.failed(state, error),
        }
        self.done(guard)
    }

    /// Hands over: whoever waits goes on.
    fn done<'a>(&self, mut guard: Guard<'a>) -> Guard<'a> {
        guard.leading = false;
        self.changed.notify_all();
        guard
    }

    fn failed(&self, state: &mut State, error: DriveError<D::Error>) {
        let dropped = state.buffered > state.writer.written();
        match &error {
            DriveError::Fault(_) => state.writer.poison(),
            DriveError::Device { action, error, .. } => {
                state.writer.failed(*action, duralog_core::DeviceError::kind(error));
            }
        }
        let error = Error::from(error);
        if state.writer.is_poisoned() || dropped {
            // Appends that were answered before they were written are gone: that must not pass in silence.
            tracing::error!(%error, "the log is poisoned");
            state.poison(error);
        } else {
            state.refused += 1;
            let written = state.writer.written();
            state.refusals.push(Refusal { number: state.refused, written, error });
        }
    }

    fn drive<M: Machine>(&self, machine: M, buf: &mut Vec<u8>) -> Result<M::Output, DriveError<D::Error>> {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        drive(machine, &mut *device, buf, &mut ())
    }

    /// Commits what is staged, or waits until someone has.
    fn make_room<'a>(&'a self, guard: Guard<'a>) -> Result<Guard<'a>> {
        let before = guard.refused;
        let guard = if guard.leading { self.wait_for_leader(guard) } else { self.lead(guard, Durability::Os) };
        guard.check_since(before)?;
        Ok(guard)
    }

    /// Begins a segment, or waits until someone has.
    fn begin_segment<'a>(&'a self, mut guard: Guard<'a>) -> Result<Guard<'a>> {
        let before = guard.refused;
        if guard.leading {
            guard = self.wait_for_leader(guard);
            guard.check_since(before)?;
            return Ok(guard);
        }
        let old = guard.writer.end();
        let plan = match guard.writer.plan(self.environment.now_us(), nonce(&*self.environment)) {
            Ok(plan) => plan,
            Err(StageError::NeedsCommit) => {
                guard = self.lead(guard, Durability::Durable);
                guard.check_since(before)?;
                return Ok(guard);
            }
            Err(error) => return Err(guard.poison(stage_error(error))),
        };
        guard.leading = true;
        let mut buf = core::mem::take(&mut guard.spare);
        if buf.len() < SCRATCH {
            buf.resize(SCRATCH, 0);
        }
        drop(guard);
        let begun = self.drive(Begin::new(plan), &mut buf);
        let mut guard = self.lock();
        match begun {
            Ok(begun) => {
                guard.writer.begun(&begun);
                let meta = guard.writer.meta(false);
                drop(guard);
                self.tidy(old, PutMeta::new(meta, self.options.geometry), &mut buf);
                guard = self.lock();
            }
            Err(error) => self.failed(&mut guard, error),
        }
        guard.spare = buf;
        let guard = self.done(guard);
        guard.check_since(before)?;
        Ok(guard)
    }

    /// Gives back what the sealed segment did not use, and replaces the metadata. Neither has to succeed.
    fn tidy(&self, (segment, end): (SegmentId, u32), meta: PutMeta, buf: &mut Vec<u8>) {
        let trimmed = self.drive(Trim { segment, end, done: false }, buf);
        let put = self.drive(meta, buf);
        for error in [trimmed.err(), put.err()].into_iter().flatten() {
            tracing::warn!(%error, "a segment's unused room or the metadata could not be brought up to date");
        }
    }

    /// What a reader sees: everything appended before is on the medium.
    fn written_view(&self) -> Result<View> {
        let guard = self.lock();
        if guard.cause.is_none() && !guard.closed {
            let last = guard.writer.next_lsn().previous();
            self.wait(guard, last, Durability::Os)?;
        } else {
            drop(guard);
        }
        Ok(self.lock().writer.view())
    }

    fn close(&self) -> Result<()> {
        let mut guard = self.lock();
        if guard.closed {
            return Ok(());
        }
        let synced = loop {
            let last = guard.writer.next_lsn().previous();
            let synced = self.wait(guard, last, Durability::Durable);
            guard = self.lock();
            // Appends that came in between are part of the log too.
            if synced.is_err() || (guard.writer.durable() == guard.writer.next_lsn().previous() && !guard.leading) {
                break synced;
            }
        };
        guard.closed = true;
        self.changed.notify_all();
        synced?;
        if guard.writer.seal_due() {
            let now = self.environment.now_us();
            let state = &mut *guard;
            state.writer.stage_seal(&mut state.buf, now).map_err(stage_error)?;
            let before = guard.refused;
            guard = self.lead(guard, Durability::Durable);
            if let Some(cause) = &guard.cause {
                return Err(Error::Poisoned { cause: cause.clone() });
            }
            if let Some(error) = guard.refusal(before, Lsn::MAX) {
                return Err(error);
            }
            let (end, meta) = (guard.writer.end(), guard.writer.meta(true));
            drop(guard);
            let mut buf = vec![0; SCRATCH];
            self.tidy(end, PutMeta::new(meta, self.options.geometry), &mut buf);
        }
        Ok(())
    }

    /// Syncs what is outstanding; where nothing is and the log has fallen idle, writes a durable mark.
    fn background_work(&self, idle: bool) {
        let mut guard = self.lock();
        if guard.check().is_err() || guard.leading {
            return;
        }
        let last = guard.writer.next_lsn().previous();
        if guard.writer.durable() < last {
            if let Err(error) = self.wait(guard, last, Durability::Durable) {
                tracing::error!(%error, "a background sync failed");
            }
        } else if idle && guard.writer.mark_due() {
            let now = self.environment.now_us();
            let state = &mut *guard;
            if state.writer.stage_durable_mark(&mut state.buf, now).is_ok() {
                drop(self.lead(guard, Durability::Durable));
            }
        }
    }
}

/// Starts the thread that syncs in the background and marks a log that has fallen idle.
fn background<D: SharedDevice>(shared: &Arc<Shared<D>>) -> Result<Option<JoinHandle<()>>> {
    if !shared.has_background() {
        return Ok(None);
    }
    let shared = shared.clone();
    let thread = thread::Builder::new().name("duralog".into()).spawn(move || while work(&shared).is_some() {});
    thread.map(Some).map_err(|error| Error::Open(DeviceFailure::new(error)))
}

/// One round of the background thread; `None` ends it.
fn work<D: SharedDevice>(shared: &Shared<D>) -> Option<()> {
    let mut guard = shared.lock();
    while guard.resting && !guard.closed {
        guard = shared.woken.wait(guard).unwrap_or_else(PoisonError::into_inner);
    }
    let interval = match shared.sync_mode {
        SyncMode::Batched(interval) => Some(interval),
        SyncMode::Immediate | SyncMode::Async => None,
    };
    let pause = interval.into_iter().chain(shared.idle_mark).min()?;
    let before = guard.activity;
    let until = Instant::now() + pause;
    loop {
        if guard.closed {
            return None;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        guard = shared.woken.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    let quiet = guard.activity == before;
    let outstanding = guard.writer.durable() < guard.writer.next_lsn().previous();
    let mark_due = shared.idle_mark.is_some() && guard.writer.mark_due();
    guard.resting = quiet && !(outstanding && interval.is_some()) && !mark_due || guard.cause.is_some();
    drop(guard);
    if interval.is_some() && outstanding || quiet && mark_due {
        shared.background_work(quiet && shared.idle_mark.is_some());
    }
    Some(())
}

/// Collects what recovery finds.
#[derive(Debug, Default)]
pub(crate) struct Findings(pub(crate) Vec<Finding>);

impl Host for Findings {
    fn finding(&mut self, finding: &Finding) {
        self.0.push(*finding);
    }
}

fn take_over(options: WriterOptions, recovered: &Recovered, findings: &Findings) -> Result<Writer> {
    Writer::take_over(options, recovered, Consent::None).map_err(|error| match error {
        TakeOverError::Options(invalid) => invalid.into(),
        _ => match (recovered.report.first_damage, findings.0.first()) {
            (Some(finding), _) | (None, Some(&finding)) => Error::Refused(finding),
            (None, None) => Error::ReadOnly,
        },
    })
}

/// Begins a segment while the log is being opened; gives the number of entries copied into it.
fn begin<D: SharedDevice>(
    writer: &mut Writer,
    device: &mut D,
    buf: &mut Vec<u8>,
    environment: &dyn Environment,
) -> Result<u64> {
    let plan = writer.plan(environment.now_us(), nonce(environment)).map_err(stage_error)?;
    let begun = drive(Begin::new(plan), device, buf, &mut ())?;
    writer.begun(&begun);
    Ok(begun.copied())
}

fn nonce(environment: &dyn Environment) -> u64 {
    let random = environment.random();
    // Both halves: a UUID has a few bits that are always the same.
    #[allow(clippy::cast_possible_truncation)]
    let folded = (random ^ (random >> 64)) as u64;
    folded
}

fn stage_error(error: StageError) -> Error {
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

/// Gives back the blank room behind the end of a segment.
#[derive(Debug)]
struct Trim {
    segment: SegmentId,
    end: u32,
    done: bool,
}

impl Machine for Trim {
    type Output = ();

    fn step(&mut self, _: &mut [u8], _: duralog_core::Answer) -> Result<(), Stop> {
        if core::mem::replace(&mut self.done, true) {
            return Ok(());
        }
        Err(Step::Trim { object: Object::Segment(self.segment), at: self.end.into() }.into())
    }
}
