//! The log that programs use: blocking, shared between threads.

use std::sync::{Arc, PoisonError};

use duralog_core::{
    Action, Begin, Begun, CHECKPOINTS_MAX, Checkpoints, Commit, Consent, Consequence, Durability, Error as DriveError,
    Fault, Finding, Geometry, Host, Locate, Lsn, Object, Payload, Plan, Policy, Recovered, Recovery, StageError,
    TakeOverError, View, Writer, WriterOptions, drive, meta::PutMeta,
};
use uuid::Uuid;

use crate::{
    background::{background, beside},
    checkpoint::History,
    checksum,
    commit::{Counts, Reached, Shared, State, give_up, nonce, stage_error},
    config::{Config, Proof, SyncMode},
    device::SharedDevice,
    environment::Environment,
    error::{Error, Result},
    file::{Access, FileDevice},
    read::{Entries, scratch},
    report::RecoveryReport,
    segments::objects,
    sync::{Condvar, Mutex, thread::JoinHandle},
    waiters::Waiters,
};

/// What an append returns: where the entries are in the log, and how durable they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The LSN of the first entry.
    pub first: Lsn,
    /// The LSN of the last entry; of one entry, the same.
    pub last: Lsn,
    /// What they had reached when the append returned: never more than the medium keeps. In memory nothing is ever more
    /// than buffered.
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
    /// Entries appended through this handle, with those that begin and end transactions; not those of checkpoints.
    pub appends: u64,
    /// Groups written, each with one write: of entries and of marks.
    pub groups: u64,
    /// Syncs done for groups, and for what was written before without one.
    pub syncs: u64,
    /// Bytes written in groups.
    pub bytes_written: u64,
    /// Microseconds that the commits counted in `syncs` took together, each with the write before its sync: the mean
    /// latency is this divided by them.
    pub sync_total_us: u64,
    /// Microseconds of the longest of them.
    pub sync_max_us: u64,
}

/// A write-ahead log, open for writing.
///
/// It may be shared between threads by reference; all methods take `&self` and block. Dropping it stops the
/// background thread and syncs what was appended, without a word about failure: [`close`](Self::close) tells.
///
/// A process that forks without executing another program shares the lock of its files with its child: only one of the two
/// may go on to use the handle.
///
/// ```
/// use duralog::{Config, Log, Lsn, Operation, SyncMode};
///
/// let dir = tempfile::tempdir()?;
/// let log = Log::open(Config::new(dir.path()).with_sync_mode(SyncMode::Immediate))?;
/// let receipt = log.append(b"any bytes")?; // on stable storage when this returns
/// log.append_batch(&[b"one", b"two"])?; // a crash keeps both or none
/// log.append(Operation::delete(uuid::Uuid::from_u128(7)))?;
/// assert_eq!((receipt.lsn(), log.synced_lsn()), (Lsn::FIRST, Lsn::new(4)));
///
/// std::thread::scope(|scope| {
///     for n in 0..4_u8 {
///         let log = &log;
///         scope.spawn(move || log.append([n; 100])); // they share their syncs
///     }
/// });
/// for entry in log.read_from(Lsn::new(2))? {
///     let entry = entry?; // a gap or damage is an error in its place
///     println!("{}: {} bytes", entry.lsn, entry.payload.len());
/// }
/// log.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Log<D: SharedDevice = FileDevice> {
    pub(crate) shared: Arc<Shared<D>>,
    background: Mutex<Option<JoinHandle<()>>>,
    pub(crate) report: RecoveryReport,
    /// Whether a store makes each change that is logged, in the order of the LSNs: nobody else takes one then.
    pub(crate) is_in_store: bool,
}

impl Log<FileDevice> {
    /// Opens the log in the folder that `config` names, or makes one there.
    ///
    /// Recovery reads the segments' headers and the newest segment; what it found is in
    /// [`recovery`](Self::recovery). When this returns, everything that was recovered is durable.
    ///
    /// But for one case: what only a cache may hold is copied into a new segment, and the medium has no room for that.
    /// Then entries below the oldest checkpoint's floor are given up, as by [`truncate_before`](Self::truncate_before). If
    /// that does not do, the log opens all the same: it can be read; [`synced_lsn`](Self::synced_lsn) tells how far it is
    /// durable; and whatever writes or syncs tries again, and is refused with [`Error::NoSpace`] until there is room.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::NotFound`], [`Error::NotALog`], [`Error::Config`], where nothing was made;
    /// [`Error::Missing`], where the log that was expected is gone; [`Error::Refused`] if the policy
    /// does not allow to write after what was found; [`Error::Lost`], [`Error::Foreign`], [`Error::Unsupported`];
    /// [`Error::NoSpace`] and [`Error::Device`]. Nothing was destroyed then.
    pub fn open(config: Config) -> Result<Self> {
        let options = config.file_options(Access::Write);
        // Before anything is made: what cannot be leaves no folder behind.
        writer_options(&config, options.geometry())?;
        let device = FileDevice::open(&config.dir, options).map_err(|error| config.not_there(error))?;
        Self::open_device(device, config)
    }
}

/// How the writer of a log writes on a medium of this geometry.
pub(crate) fn writer_options(config: &Config, geometry: Geometry) -> Result<WriterOptions> {
    let mut options = WriterOptions::new(geometry);
    if let Some(write_limit) = config.write_limit {
        options.write_limit = write_limit;
    }
    options.max_transactions = config.max_transactions;
    options.immediate = config.sync_mode == SyncMode::Immediate && config.proof == Proof::WithNextWrite;
    options.checksum = checksum::update;
    options.validate()?;
    if !(1..=CHECKPOINTS_MAX).contains(&config.checkpoint_retention) {
        return Err(Error::Retention { most: CHECKPOINTS_MAX });
    }
    Ok(options)
}

/// What comes of a medium without a log. A log that was named is not made anew: it is gone.
pub(crate) fn none_there(config: &Config) -> Result<()> {
    match config.expect_log_id {
        Some(expected) => Err(Error::Missing { path: config.dir.clone(), expected }),
        None if config.create => Ok(()),
        None => Err(Error::NotFound { path: config.dir.clone() }),
    }
}

impl<D: SharedDevice> Log<D> {
    /// Opens the log on a device, or makes one there; the folder that `config` names is not used.
    ///
    /// # Errors
    /// As [`open`](Log::open), but for what only a folder can be.
    pub fn open_device(mut device: D, config: Config) -> Result<Self> {
        let geometry = device.geometry();
        let mut options = writer_options(&config, geometry)?;
        options.old_writer = device.old_writer();
        let started = config.environment.now_us();
        let mut buf = scratch(geometry);
        let mut findings = Findings::default();
        let recovered = drive(Recovery::new(config.recovery_options()), &mut device, &mut buf, &mut findings);
        let recovered = match recovered {
            Ok(recovered) => Some(recovered),
            Err(DriveError::Fault(Fault::NoLog)) => {
                none_there(&config)?;
                None
            }
            Err(error) => return Err(error.into()),
        };
        let environment = &*config.environment;
        let (mut writer, mut report) = match &recovered {
            Some(recovered) => {
                let mut report = RecoveryReport::found(&recovered.report, findings.0);
                let gives_up = matches!(config.policy, Policy::PointInTime | Policy::Salvage);
                if config.full_check || gives_up {
                    report.check_all(&mut device, &recovered.view, &recovered.checkpoints, &mut buf)?;
                }
                (take_over(options, recovered, &report)?, report)
            }
            None => {
                let writer = Writer::create(options, Uuid::from_u128(environment.random()))?;
                let report = RecoveryReport::made(&writer, config.policy);
                (writer, report)
            }
        };
        if writer.needs_sync() {
            sync(&mut writer, &mut device, &mut buf)?;
        }
        if let (Some(recovered), Some(lsn)) = (&recovered, report.cut_before()) {
            cut(&mut writer, &mut device, &mut buf, environment, &recovered.view, lsn)?;
        } else if recovered.is_none() || writer.needs_segment() {
            match begin(&mut writer, &mut device, &mut buf, environment, Writer::plan) {
                Ok(begun) => report.repersisted = begun.copied(),
                // A log that was recovered can be read, truncated, and written once there is room.
                Err(error @ Error::NoSpace(_)) if recovered.is_some() && !writer.is_poisoned() => {
                    tracing::warn!(%error, "there is no room for the segment that a log begins with when it is opened");
                }
                Err(error) => return Err(error),
            }
        }
        if config.proof == Proof::BeforeAcknowledging && !writer.needs_segment() {
            match prove(&mut writer, &mut device, &mut buf, environment) {
                Err(Error::NoSpace(_)) if !writer.is_poisoned() => {}
                proved => proved?,
            }
        }
        let full = writer.needs_segment();
        if let Some(recovered) = &recovered {
            report.end_before_damage(recovered.highest_told());
        }
        report.duration_us = config.environment.now_us().saturating_sub(started);
        let (last, clean, closed) = (report.last_valid_lsn.value(), report.clean, report.closed);
        tracing::info!(last, clean, closed, "recovered");
        let checkpoints = recovered.as_ref().map(Checkpoints::found).unwrap_or_default();
        let highest_checkpoint = recovered.map(|found| found.highest_checkpoint).unwrap_or_default();
        beside(&device)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                buffered: writer.written(),
                transactions: Vec::new(),
                begun: 0,
                writer,
                buf,
                spare: Vec::new(),
                leading: false,
                syncing: None,
                closed: false,
                cause: None,
                refusals: Vec::new(),
                refused: 0,
                waiters: Waiters::default(),
                waiting: 0,
                unanswered: 0,
                ending: false,
                taken: 0,
                durable: 0,
                gathering: Default::default(),
                hand_over: false,
                activity: 0,
                resting: true,
                counts: Counts::default(),
                checkpoints,
                highest_checkpoint,
                checkpointing: false,
                history: History::begin(),
            }),
            changed: Condvar::new(),
            woken: Condvar::new(),
            reached: Reached::of(&device),
            device: Mutex::new(device),
            options,
            environment: config.environment,
            sync_mode: config.sync_mode,
            proof: config.proof,
            idle_mark: config.idle_mark,
            write_behind: config.write_behind,
            checkpoint_retention: config.checkpoint_retention,
            removing: Mutex::new(()),
        });
        let background = background(&shared)?;
        let mut log = Self { shared, background: Mutex::new(background), report, is_in_store: false };
        if full {
            log.make_room()?;
        }
        Ok(log)
    }

    /// Makes room for the segment that an opening could not begin, by giving up what the oldest checkpoint holds.
    fn make_room(&mut self) -> Result<()> {
        let window = self.shared.lock().writer.to_copy();
        match self.truncate_before(Lsn::MAX) {
            // A file system that copies on write may refuse a removal, too.
            Err(error @ (Error::NoSpace(_) | Error::Device { action: Action::Remove, .. })) => {
                tracing::warn!(%error, "the log can be read, and written once there is room")
            }
            Err(error) => return Err(error),
            Ok(_) if self.shared.lock().writer.needs_segment() => {}
            Ok(low_water) => {
                tracing::info!(low_water = low_water.value(), "made room by giving up what a checkpoint holds");
                self.report.repersisted = window;
            }
        }
        Ok(())
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

    /// The last LSN that a sync has covered: the entry at it and all before it are on stable storage and survive any
    /// crash, where the medium has such a thing; [`sync_reaches`](Self::sync_reaches) tells.
    #[must_use]
    pub fn synced_lsn(&self) -> Lsn {
        self.shared.lock().acknowledged(self.shared.proof)
    }

    /// What a sync makes of entries on this log's medium: durable on files; in memory no more than buffered, for they go
    /// with the process. A receipt never says more.
    #[must_use]
    pub fn sync_reaches(&self) -> Durability {
        self.shared.reached.told(Durability::Durable)
    }

    /// The LSN of the newest checkpoint, without looking at the medium: of those that were there when the log was opened it
    /// is known that they begin as one does, and no more until a state is built up from them or a truncation relies on them.
    #[must_use]
    pub fn last_checkpoint_lsn(&self) -> Option<Lsn> {
        self.shared.lock().checkpoints.newest().map(|head| head.lsn)
    }

    /// The first LSN that truncation keeps; 1 in a log that was never truncated. An opening without room for a segment
    /// may have raised it beyond what recovery found.
    #[must_use]
    pub fn low_water_lsn(&self) -> Lsn {
        self.shared.lock().writer.low_water()
    }

    /// Appends one entry: an operation, or opaque bytes, which are a slice, an array, a `Vec<u8>`, a text, or a reference to
    /// one ([`Payload`]). In the mode [`SyncMode::Immediate`] it is durable when this returns; the receipt says what it has
    /// reached.
    ///
    /// # Errors
    /// [`Error::TooLarge`]: the entry is not in the log, which goes on. [`Error::NoSpace`]: the same, as soon as another
    /// segment is begun, which the next append does, and else the close, once there is room; until then bytes of the
    /// refused write may stand behind the log's end, and if all of them do, the next recovery finds the entry.
    /// [`Error::Unproven`], where a proof is asked for: it is in the log and durable, and no room was left for the proof.
    /// [`Error::CutOff`]: another thread cut the log behind an LSN below it before this returned.
    /// [`Error::Poisoned`] and [`Error::Device`]: whether it is in the log, only reopening tells. [`Error::Closed`],
    /// [`Error::Exhausted`]. [`Error::InStore`]: nothing was written.
    pub fn append<P: Payload>(&self, payload: P) -> Result<Receipt> {
        self.append_with(payload, self.shared.mode())
    }

    /// [`append`](Self::append), with another durability than the log's mode asks for.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_with<P: Payload>(&self, payload: P, durability: Durability) -> Result<Receipt> {
        self.is_free()?;
        self.shared.append(&[payload], None, durability)
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
        self.is_free()?;
        self.shared.append(payloads, None, durability).map(Some)
    }

    /// Whether whoever has the handle may take LSNs.
    pub(crate) fn is_free(&self) -> Result<()> {
        if self.is_in_store { Err(Error::InStore) } else { Ok(()) }
    }

    /// Makes everything that was appended durable, as far as the medium can ([`sync_reaches`](Self::sync_reaches)), and
    /// returns the durable LSN. Nothing is done if it is already.
    ///
    /// # Errors
    /// As [`append`](Self::append); what was not durable before may or may not be.
    pub fn sync(&self) -> Result<Lsn> {
        self.shared.wait_for_all(self.shared.lock(), Durability::Durable)
    }

    /// Waits until the entry at `lsn` is durable, which it makes it if nobody else does, and returns the durable LSN. An LSN
    /// beyond the last entry stands for that: compare what is returned where entries may have been cut off.
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
        let seen = self.shared.written_view()?;
        let low_water = seen.view.low_water();
        if from < low_water && from != Lsn::ZERO {
            return Err(Error::Truncated { low_water });
        }
        let device = self.shared.reader()?;
        let entries = Entries::new(device, seen.view.clone(), from.max(low_water), Lsn::MAX, self.report.policy);
        Ok(entries.with_damage_hook(self.shared.damage_hook(seen)))
    }

    /// Reads the entries from the newest on back to the one at `to`, as they stand now, in memory that does not grow with
    /// the log. [`Lsn::ZERO`] stands for the first entry kept.
    ///
    /// # Errors
    /// [`Error::Truncated`] if `to` is below the low-water mark. Damage and gaps are errors in their place.
    pub fn read_back_to(&self, to: Lsn) -> Result<Entries<D>> {
        let seen = self.shared.written_view()?;
        let low_water = seen.view.low_water();
        if to < low_water && to != Lsn::ZERO {
            return Err(Error::Truncated { low_water });
        }
        let entries = Entries::reverse(self.shared.reader()?, seen.view.clone(), to.max(low_water));
        Ok(entries.with_damage_hook(self.shared.damage_hook(seen)))
    }

    /// Figures of the log.
    ///
    /// # Errors
    /// The device cannot list its objects.
    pub fn stats(&self) -> Result<Stats> {
        let (mut total_segments, mut total_size_bytes) = (0, 0);
        for (object, bytes) in objects(&mut self.shared.reader()?)? {
            total_segments += u64::from(matches!(object, Object::Segment(_)));
            total_size_bytes += if object == Object::Meta { 0 } else { bytes };
        }
        let state = self.shared.lock();
        Ok(Stats {
            current_lsn: state.writer.next_lsn(),
            synced_lsn: state.acknowledged(self.shared.proof),
            last_checkpoint_lsn: state.checkpoints.newest().map(|head| head.lsn),
            total_segments,
            total_size_bytes,
            appends: state.counts.appends,
            groups: state.counts.groups,
            syncs: state.counts.syncs,
            bytes_written: state.counts.bytes,
            sync_total_us: state.counts.sync_total_us,
            sync_max_us: state.counts.sync_max_us,
        })
    }

    /// Closes the log: everything appended is durable, a seal says so, and no later call of anyone writes. Where there is
    /// no room for a seal it is closed without: the next opening finds all entries, and does not call the log closed.
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

/// Collects what recovery finds.
#[derive(Debug, Default)]
pub(crate) struct Findings(pub(crate) Vec<Finding>);

impl Host for Findings {
    fn finding(&mut self, finding: &Finding) {
        self.0.push(*finding);
    }
}

/// Takes the log over for writing. A policy that gives damage up is the user's consent to that.
pub(crate) fn take_over(options: WriterOptions, recovered: &Recovered, report: &RecoveryReport) -> Result<Writer> {
    // Behind what a checkpoint holds there may be nothing left of the log to go on at.
    let missing = || report.findings.iter().rev().find(|finding| finding.lsns.is_some());
    let finding = report.damage().next().or_else(missing).copied();
    let consent = if report.gives_up() { Consent::AcceptLoss } else { Consent::None };
    Writer::take_over(options, recovered, consent).map_err(|error| match (error, finding) {
        (TakeOverError::Options(invalid), _) => invalid.into(),
        (TakeOverError::Unsupported { checkpoint, version }, _) => {
            Error::Unsupported { object: Object::Checkpoint(checkpoint), offset: 0, number: version }
        }
        (_, Some(finding)) => Error::Refused(finding),
        (_, None) => Error::ReadOnly,
    })
}

/// Makes durable what recovery found on a medium where a sync can do that.
fn sync<D: SharedDevice>(writer: &mut Writer, device: &mut D, buf: &mut Vec<u8>) -> Result<()> {
    if let Some(group) = writer.take(buf, Durability::Durable).map_err(stage_error)? {
        if let Err(error) = drive(Commit::new(group), device, buf, &mut ()) {
            give_up(writer, &error);
            return Err(error.into());
        }
        writer.landed(group);
    }
    Ok(())
}

/// Makes durable the proof of what recovery found and is durable: where there is none, a crash could have left it.
fn prove<D: SharedDevice>(
    writer: &mut Writer,
    device: &mut D,
    buf: &mut Vec<u8>,
    environment: &dyn Environment,
) -> Result<()> {
    while writer.proven() < writer.durable() {
        match writer.stage_durable_mark(buf, environment.now_us()) {
            Ok(()) => sync(writer, device, buf)?,
            Err(StageError::NeedsSegment) => drop(begin(writer, device, buf, environment, Writer::plan)?),
            Err(error) => return Err(stage_error(error)),
        }
    }
    Ok(())
}

/// Begins a segment while the log is being opened.
fn begin<D: SharedDevice>(
    writer: &mut Writer,
    device: &mut D,
    buf: &mut Vec<u8>,
    environment: &dyn Environment,
    plan: impl Fn(&mut Writer, u64, u64) -> core::result::Result<Plan, StageError>,
) -> Result<Begun> {
    loop {
        let plan = plan(writer, environment.now_us(), nonce(environment)).map_err(stage_error)?;
        match drive(Begin::new(plan), device, buf, &mut ()) {
            Ok(begun) => {
                writer.begun(&begun);
                // Before anything in it is acknowledged: without it, that this segment was there is known from itself alone.
                if let Err(error) = drive(PutMeta::new(writer.meta(false), device.geometry()), device, buf, &mut ()) {
                    tracing::warn!(%error, "the metadata could not be brought up to date");
                }
                return Ok(begun);
            }
            Err(error) if give_up(writer, &error) == Consequence::Again => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends the log before `lsn`, where damage begins in a sealed segment; it goes on above all that was ever durable.
fn cut<D: SharedDevice>(
    writer: &mut Writer,
    device: &mut D,
    buf: &mut Vec<u8>,
    environment: &dyn Environment,
    view: &View,
    lsn: Lsn,
) -> Result<()> {
    let next = writer.next_lsn();
    if lsn <= view.low_water() {
        return begin(writer, device, buf, environment, |writer, now, nonce| writer.plan_reset(now, nonce, next))
            .map(|_| ());
    }
    let at = drive(Locate::new(view.clone(), lsn.previous()), device, buf, &mut ())?;
    begin(writer, device, buf, environment, |writer, now, nonce| writer.plan_cut(now, nonce, at, next)).map(|_| ())
}
