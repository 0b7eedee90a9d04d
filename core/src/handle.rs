//! What the two handles of the core have in common: everything but the device.
//!
//! [`Log`](crate::Log) and [`AsyncLog`](crate::AsyncLog) drive the same machines with this in their hands; each holds
//! the loops that touch its device, and nothing else.

use core::fmt;

use uuid::Uuid;

use crate::{
    CheckpointId, Lsn,
    begin::Begun,
    checkpoint::{CheckpointError, CheckpointHead, CheckpointHeader, HEADER_LEN},
    checksum::{Update, portable},
    decision::Policy,
    device::{DeviceError, ErrorKind, Object, OldWriter},
    drive::{Action, Error, Host},
    fault::Fault,
    kept::Checkpoints,
    meta::{Meta, PutMeta},
    part::Part,
    recovery::{CHECKPOINTS_MAX, Recovered, RecoveryOptions},
    report::{Finding, Report, Seen},
    segment::{Geometry, LONGEST_LEAD, SEGMENT_HEADER_LEN},
    writer::{
        Consent, Consequence, Durability, Group, InvalidOptions, StageError, TakeOverError, Writer, WriterOptions,
    },
};

/// How a log is opened by a handle of the core.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// What to do about what recovery finds. A log is opened for writing under [`Policy::Strict`] or
    /// [`Policy::Default`] only: no other finds its way without memory that grows.
    pub policy: Policy,
    /// The log that has to be there.
    pub expect_log: Option<Uuid>,
    /// An LSN that the caller knows to have been durable.
    pub expect_durable: Option<Lsn>,
    /// What an append has reached when it returns; a log of which each append is durable says so on the medium.
    pub durability: Durability,
    /// Never more bytes than this are written beyond the last sync; a quarter of a segment where there is none.
    pub write_limit: Option<u32>,
    /// The most transactions open at once, 1 to 16.
    pub max_transactions: u8,
    /// How many checkpoints are kept, 1 to [`CHECKPOINTS_MAX`]; a build without checkpoints asks nothing of it. While one
    /// more is written, all of them are there: where the number of slots is fixed, a log takes three for itself, and as
    /// many for each of these checkpoints and one more as its snapshot fills.
    pub checkpoints_kept: u8,
    /// Whether the metadata object is kept up to date. It speeds nothing up on media that are listed quickly, and each
    /// update is a write. Slots of flash, cards and streams have no place for it: there none is written, whatever this
    /// says.
    pub metadata: bool,
    /// Where the nonce of a new segment comes from: a random source, or always 0.
    pub nonce: fn() -> u64,
    /// The implementation of CRC-32C.
    pub checksum: Update,
}

impl Default for LogOptions {
    /// Each append durable, the policy [`Policy::Default`], 8 transactions, 2 checkpoints, no metadata, no random source.
    fn default() -> Self {
        Self {
            policy: Policy::Default,
            expect_log: None,
            expect_durable: None,
            durability: Durability::Durable,
            write_limit: None,
            max_transactions: 8,
            checkpoints_kept: 2,
            metadata: false,
            nonce: || 0,
            checksum: portable,
        }
    }
}

impl LogOptions {
    /// Bytes of the least buffer with which a log on such a medium takes an entry or batch of `len` bytes of frames, at
    /// most `u32::MAX`. Each frame has [`FRAME_OVERHEAD`](crate::frame::FRAME_OVERHEAD) bytes beside its payload, and 8
    /// more in a transaction. It is never less than what the log itself takes, for headers, marks and the head of a
    /// checkpoint.
    ///
    /// A take-over that has to copy entries takes twice as much.
    #[must_use]
    pub const fn buffer_min(geometry: &Geometry, len: u32) -> usize {
        let granule = geometry.granule;
        let own = 2 * HEADER_LEN + granule as usize;
        // Whole granules, as many as 32 bits can say.
        let frames = match len.saturating_add(LONGEST_LEAD).checked_next_multiple_of(granule) {
            Some(frames) => frames as usize,
            None => u32::MAX as usize,
        };
        if frames > own { frames } else { own }
    }

    pub(crate) fn recovery(&self) -> RecoveryOptions {
        let Self { policy, expect_log, expect_durable, checksum, .. } = *self;
        RecoveryOptions { policy, expect_log, expect_durable, checksum }
    }

    pub(crate) fn writer(&self, geometry: Geometry, old_writer: OldWriter) -> WriterOptions {
        let mut options = WriterOptions::new(geometry);
        options.write_limit = self.write_limit.unwrap_or(options.write_limit);
        options.max_transactions = self.max_transactions;
        options.old_writer = old_writer;
        options.immediate = self.durability == Durability::Durable;
        options.checksum = self.checksum;
        options
    }
}

/// What an append returns: where the entries are in the log, and how durable they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Appended {
    /// The LSN of the first entry.
    pub first: Lsn,
    /// The LSN of the last entry; of one entry, the same.
    pub last: Lsn,
    /// What they had reached when the append returned: never more than the medium keeps.
    pub durability: Durability,
}

/// Figures of an open log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct LogStats {
    /// The LSN that the next entry will have.
    pub next: Lsn,
    /// The last LSN on stable storage.
    pub durable: Lsn,
    /// The first LSN that truncation keeps.
    pub low_water: Lsn,
    /// The newest checkpoint, and its LSN.
    pub checkpoint: Option<(CheckpointId, Lsn)>,
    /// Groups written through this handle, each with one write.
    pub groups: u32,
    /// Syncs done for them.
    pub syncs: u32,
    /// Bytes written in groups.
    pub bytes: u64,
    /// Segments begun through this handle.
    pub segments: u32,
}

/// What poisoned a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Cause {
    /// The device could not do this, with an error of this kind; the call that met it returned the error itself.
    Device {
        /// What was being done.
        action: Action,
        /// The kind of the error.
        kind: ErrorKind,
    },
    /// The medium holds what it must not: the call that met it returned the fault.
    Fault,
    /// The medium was full, and appends that had been answered before they were written are gone.
    Dropped,
    /// A future was dropped before it had come to its end.
    Abandoned,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device { action, .. } => write!(f, "the device failed to {action}"),
            Self::Fault => f.write_str("the medium holds what it must not"),
            Self::Dropped => f.write_str("the medium was full, and appends not yet written were lost"),
            Self::Abandoned => f.write_str("an operation was abandoned half-way"),
        }
    }
}

/// Why an open log did not do what it was asked.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LogError<E> {
    /// The medium is full: nothing was done, nothing is lost, and the handle goes on once truncation has made room.
    Full,
    /// The entry or batch is larger than the write limit allows.
    TooLarge {
        /// Bytes of the frames that it would take.
        len: u64,
        /// The most that they may take.
        max: u32,
    },
    /// The buffer that the log was given is too small.
    BufferTooSmall {
        /// Bytes that it would take.
        needed: usize,
    },
    /// The code is one that only the log itself writes, or none at all.
    Reserved {
        /// That code.
        code: u8,
    },
    /// The transaction is not open.
    NoTransaction,
    /// As many transactions are open as the log allows.
    TooManyTransactions {
        /// That many.
        max: u8,
    },
    /// No LSN, epoch or id is left.
    Exhausted,
    /// An earlier write or sync failed or was abandoned: open the log again.
    Poisoned {
        /// What did it.
        cause: Cause,
    },
    /// The device failed, or the medium holds what it must not. Where it was a write or a sync, the handle is poisoned,
    /// and only opening the log again tells which of the last entries it holds.
    Drive(Error<E>),
}

impl<E> From<Error<E>> for LogError<E> {
    fn from(error: Error<E>) -> Self {
        Self::Drive(error)
    }
}

impl<E: fmt::Display> fmt::Display for LogError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the medium is full: truncate the log"),
            Self::TooLarge { len, max } => write!(f, "{len} bytes are too large, {max} may be appended at once"),
            Self::BufferTooSmall { needed } => write!(f, "the log's buffer is too small: {needed} bytes are needed"),
            Self::Reserved { code } => write!(f, "the code {code} is the log's own"),
            Self::NoTransaction => f.write_str("the transaction is not open"),
            Self::TooManyTransactions { max } => write!(f, "no more than {max} transactions may be open at once"),
            Self::Exhausted => f.write_str("no LSN, epoch or segment id is left"),
            Self::Poisoned { cause } => write!(f, "open the log again: {cause}"),
            Self::Drive(error) => error.fmt(f),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for LogError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        if let Self::Drive(error) = self { Some(error) } else { None }
    }
}

/// Why a log was not opened, or not made. Nothing was destroyed.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum OpenError<E> {
    /// A value of the options cannot be.
    Options(InvalidOptions),
    /// The options ask for a policy that writes only with memory that grows.
    Policy(Policy),
    /// There is a log already, where one was to be made.
    Exists,
    /// The policy refuses to write after what was found: damage, or a log that ends before what is known to have been
    /// durable.
    Refused(Option<Finding>),
    /// The log could not be taken over.
    TakeOver(LogError<E>),
    /// The medium holds no log, or one that cannot be read.
    Drive(Error<E>),
}

impl<E> From<Error<E>> for OpenError<E> {
    fn from(error: Error<E>) -> Self {
        Self::Drive(error)
    }
}

impl<E> From<LogError<E>> for OpenError<E> {
    fn from(error: LogError<E>) -> Self {
        Self::TakeOver(error)
    }
}

impl<E: fmt::Display> fmt::Display for OpenError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(invalid) => invalid.fmt(f),
            Self::Policy(_) => f.write_str("under this policy the core reads a log and does not write to it"),
            Self::Exists => f.write_str("there is a log already"),
            Self::Refused(Some(finding)) => write!(f, "damage: {finding}"),
            Self::Refused(None) => f.write_str("the log ends before what is known to have been durable"),
            Self::TakeOver(error) => error.fmt(f),
            Self::Drive(error) => error.fmt(f),
        }
    }
}

impl<E: core::error::Error + 'static> core::error::Error for OpenError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Options(invalid) => Some(invalid),
            Self::TakeOver(error) => Some(error),
            Self::Drive(error) => Some(error),
            Self::Policy(_) | Self::Exists | Self::Refused(_) => None,
        }
    }
}

/// Whether a recovery found that there is no log. What it found to be broken, foreign or too new may be one.
pub(crate) fn none_found<T, E>(recovered: Result<T, Error<E>>) -> Result<(), OpenError<E>> {
    match recovered {
        Err(Error::Fault(Fault::NoLog)) => Ok(()),
        Ok(_)
        | Err(Error::Fault(
            Fault::Damaged(_)
            | Fault::Foreign { .. }
            | Fault::Misplaced { .. }
            | Fault::Unsupported { .. }
            | Fault::LeftOut { .. },
        )) => Err(OpenError::Exists),
        Err(error) => Err(error.into()),
    }
}

/// A host that hands each entry to a closure.
#[derive(Debug)]
pub struct Each<F>(pub F);

impl<F: FnMut(crate::Entry<'_>) -> crate::Flow> Host for Each<F> {
    fn entry(&mut self, entry: crate::Entry<'_>) -> crate::Flow {
        (self.0)(entry)
    }
}

/// The host of a checkpoint: no ids, an empty map of metadata, and the snapshot that a closure gives out.
pub(crate) struct Snapshot<F> {
    pub(crate) fill: F,
    pub(crate) metadata_is_out: bool,
}

impl<F: FnMut(&mut [u8]) -> usize> Host for Snapshot<F> {
    fn fill(&mut self, buf: &mut [u8]) -> usize {
        if core::mem::replace(&mut self.metadata_is_out, true) {
            return (self.fill)(buf).min(buf.len());
        }
        // The machine asks for as many bytes as the header says: the one of an empty map.
        buf.iter_mut().take(1).map(|byte| *byte = 0).count()
    }
}

/// What is counted while a log is open: see [`LogStats`].
#[derive(Debug, Default)]
struct Counts {
    groups: u32,
    syncs: u32,
    bytes: u64,
    segments: u32,
}

/// An open log without its device.
#[derive(Debug)]
pub(crate) struct Handle<'a> {
    pub(crate) writer: Writer,
    pub(crate) buf: &'a mut [u8],
    pub(crate) options: LogOptions,
    pub(crate) geometry: Geometry,
    pub(crate) report: Report,
    /// Newest first.
    pub(crate) checkpoints: Checkpoints,
    pub(crate) highest_checkpoint: CheckpointId,
    counts: Counts,
    /// The last LSN of an append that was answered before it was written.
    pub(crate) buffered: Lsn,
    cause: Option<Cause>,
}

impl<'a> Handle<'a> {
    /// The handle of no log yet. It is large: it is made once, where it stays, and then told which log it is of.
    #[inline(never)] // Written where it is wanted, not moved there.
    pub(crate) fn new(buf: &'a mut [u8], options: LogOptions, geometry: Geometry, old_writer: OldWriter) -> Self {
        Self {
            writer: Writer::blank(options.writer(geometry, old_writer)),
            buf,
            options,
            geometry,
            report: Report::nothing(options.policy),
            checkpoints: Checkpoints::default(),
            highest_checkpoint: CheckpointId::default(),
            counts: Counts::default(),
            buffered: Lsn::ZERO,
            cause: None,
        }
    }

    /// Makes it the handle of a new log.
    pub(crate) fn create<E>(&mut self, log: Uuid) -> Result<(), OpenError<E>> {
        if self.options.expect_log.is_some_and(|expected| expected != log) {
            return Err(OpenError::Options(InvalidOptions::OtherLog));
        }
        self.writer.make(log);
        (self.report.log, self.report.epoch) = (log, 1);
        Ok(())
    }

    /// Makes it the handle of a log that was recovered, where that may be taken over.
    #[inline(never)] // What it takes of the stack is not there while the log is recovered.
    pub(crate) fn take_over<E>(&mut self, recovered: &Recovered) -> Result<(), OpenError<E>> {
        match self.writer.may_take_over(recovered, Consent::None) {
            Ok(()) => {}
            Err(TakeOverError::Options(invalid)) => return Err(OpenError::Options(invalid)),
            Err(TakeOverError::Unsupported { checkpoint, version }) => {
                let object = Object::Checkpoint(checkpoint);
                return Err(Error::Fault(Fault::Unsupported { object, offset: 0, number: version }).into());
            }
            Err(TakeOverError::Refused) => return Err(OpenError::Refused(recovered.report.first_damage)),
        }
        self.writer.take_over_from(recovered, Consent::None);
        self.report = recovered.report.clone();
        self.checkpoints.take_in(recovered);
        self.highest_checkpoint = recovered.highest_checkpoint;
        Ok(())
    }

    /// Whether it can do what its options ask of it.
    pub(crate) fn may_open<E>(&self) -> Result<(), OpenError<E>> {
        let options = &self.options;
        if !matches!(options.policy, Policy::Strict | Policy::Default) {
            return Err(OpenError::Policy(options.policy));
        }
        if options.metadata && !Part::Metadata.is_built() {
            return Err(OpenError::Options(InvalidOptions::LeftOut(Part::Metadata)));
        }
        if Part::Checkpoints.is_built() && !(1..=CHECKPOINTS_MAX).contains(&usize::from(options.checkpoints_kept)) {
            return Err(OpenError::Options(InvalidOptions::CheckpointsKept));
        }
        self.writer.options().validate().map_err(OpenError::Options)
    }

    pub(crate) fn stats(&self) -> LogStats {
        LogStats {
            next: self.writer.next_lsn(),
            durable: self.writer.durable(),
            low_water: self.writer.low_water(),
            checkpoint: self.checkpoints.newest().map(|head| (head.id, head.lsn)),
            groups: self.counts.groups,
            syncs: self.counts.syncs,
            bytes: self.counts.bytes,
            segments: self.counts.segments,
        }
    }

    /// Whether anything may be written. Whoever finds the writer in the middle of something finds it abandoned.
    pub(crate) fn check<E>(&mut self) -> Result<(), LogError<E>> {
        if self.cause.is_none() && self.writer.is_poisoned() {
            self.cause = Some(Cause::Abandoned);
        }
        match self.cause {
            Some(cause) => Err(LogError::Poisoned { cause }),
            None => Ok(()),
        }
    }

    /// Stages the seal of a close, if the segment has room for it: a log without one is as durable, and opens as one does
    /// after a crash.
    pub(crate) fn stage_seal<E>(&mut self, now: u64) -> Result<bool, LogError<E>> {
        self.check()?;
        match self.writer.stage_seal(self.buf, now) {
            Ok(()) => Ok(true),
            Err(StageError::NeedsSegment) => Ok(false),
            Err(error) => Err(self.refused(error)),
        }
    }

    /// Takes the group to be committed next.
    pub(crate) fn take<E>(&mut self, durability: Durability) -> Result<Option<Group>, LogError<E>> {
        self.check()?;
        let taken = self.writer.take(self.buf, durability);
        taken.map_err(|error| self.refused(error))
    }

    pub(crate) fn landed(&mut self, group: Group) {
        self.writer.landed(group);
        self.counts.groups += u32::from(!group.is_empty());
        self.counts.bytes += u64::from(group.len());
        self.counts.syncs += u32::from(group.syncs());
    }

    pub(crate) fn begun(&mut self, begun: &Begun) {
        let before = self.writer.end().0;
        self.writer.begun(begun);
        self.counts.segments += u32::from(self.writer.end().0 != before);
    }

    /// Whether this build has checkpoints.
    pub(crate) fn may_checkpoint<E>(&self) -> Result<(), LogError<E>> {
        if Part::Checkpoints.is_built() {
            return Ok(());
        }
        let object = Object::Checkpoint(self.highest_checkpoint);
        Err(Error::Fault(Fault::LeftOut { object, part: Part::Checkpoints }).into())
    }

    /// What the metadata say of the log.
    pub(crate) fn meta(&self, clean: bool) -> PutMeta {
        let meta: Meta = self.writer.meta(clean);
        PutMeta::new(meta, self.geometry)
    }

    /// The checkpoint that a state is loaded from, if there is one: the newest, once all were judged. Where it lacks what was given
    /// up, or there is none and the state `is_lost`, that is an error.
    pub(crate) fn load_from<E: DeviceError>(&mut self, is_lost: bool) -> Result<Option<CheckpointHead>, LogError<E>> {
        let newest = self.newest_checkpoint();
        let view = self.writer.view();
        if !Part::Checkpoints.is_built() || !newest.as_ref().map_or(is_lost, |head| view.lacks_state(head)) {
            return Ok(newest);
        }
        if !view.is_covered() {
            // What was given up without a checkpoint is no damage: a new checkpoint goes on from here.
            return Err(Error::Fault(Fault::Truncated { low_water: view.low_water() }).into());
        }
        Err(self.unfit(Error::Fault(Fault::Damaged(view.state_lost(None)))))
    }

    /// The newest checkpoint, in a build that has them.
    pub(crate) fn newest_checkpoint(&self) -> Option<CheckpointHead> {
        self.checkpoints.newest().copied().filter(|_| Part::Checkpoints.is_built())
    }

    /// What reading a checkpoint to its end came to, which was found valid before.
    pub(crate) fn loaded<E: DeviceError>(
        &mut self,
        id: CheckpointId,
        read: Option<Result<CheckpointHeader, CheckpointError>>,
    ) -> Result<Option<Lsn>, LogError<E>> {
        match read {
            Some(Err(_)) => {
                let finding = Finding::rot(Seen::BadCheckpoint, Object::Checkpoint(id), 0);
                Err(self.unfit(Error::Fault(Fault::Damaged(finding))))
            }
            Some(Ok(head)) => Ok(Some(head.lsn)),
            None => Ok(None),
        }
    }

    /// Why nothing was staged.
    pub(crate) fn refused<E>(&mut self, error: StageError) -> LogError<E> {
        match error {
            StageError::TooLarge { len, max } => LogError::TooLarge { len, max },
            StageError::BufferTooSmall { needed } => LogError::BufferTooSmall { needed },
            StageError::Reserved { code } => LogError::Reserved { code },
            StageError::NoTransaction => LogError::NoTransaction,
            StageError::TooManyTransactions { max } => LogError::TooManyTransactions { max },
            StageError::Exhausted => LogError::Exhausted,
            // Whoever asks for room commits or begins a segment: only an abandoned writer cannot.
            StageError::Poisoned | StageError::NeedsSegment | StageError::NeedsCommit => {
                self.writer.poison();
                LogError::Poisoned { cause: *self.cause.get_or_insert(Cause::Abandoned) }
            }
        }
    }

    /// The end of a transaction was not staged: without room for it, the transaction is over.
    pub(crate) fn unended<E>(&mut self, id: u64, error: LogError<E>) -> LogError<E> {
        if matches!(error, LogError::Full) {
            self.writer.abandon(id);
        }
        error
    }

    /// A group or a segment failed. It is no error where the writer has another way.
    pub(crate) fn failed<E: DeviceError>(&mut self, error: Error<E>) -> Result<(), LogError<E>> {
        let (action, kind) = match &error {
            Error::Device { action, error, .. } => (*action, error.kind()),
            Error::Fault(Fault::Full) => (Action::Create, ErrorKind::NoSpace),
            // The buffer was too small for what had to be copied: nothing was written that counts.
            Error::Fault(_) => {
                self.poison(Cause::Fault);
                return Err(LogError::Drive(error));
            }
        };
        let dropped = self.buffered > self.writer.written();
        match self.writer.failed(action, kind) {
            Consequence::Again => return Ok(()),
            Consequence::Poisoned => {
                self.poison(Cause::Device { action, kind });
                return Err(LogError::Drive(error));
            }
            Consequence::Refused => {}
        }
        if dropped {
            self.poison(Cause::Dropped);
            return Err(LogError::Poisoned { cause: Cause::Dropped });
        }
        Err(LogError::Full)
    }

    /// Reading met a fault, or a sync outside the writer failed.
    pub(crate) fn unfit<E: DeviceError>(&mut self, error: Error<E>) -> LogError<E> {
        match &error {
            Error::Fault(Fault::Damaged(_) | Fault::Foreign { .. }) => self.poison(Cause::Fault),
            Error::Device { action: action @ (Action::Write | Action::Sync | Action::Create), error, .. } => {
                self.poison(Cause::Device { action: *action, kind: error.kind() });
            }
            _ => {}
        }
        LogError::Drive(error)
    }

    fn poison(&mut self, cause: Cause) {
        self.writer.poison();
        self.cause.get_or_insert(cause);
    }

    /// The header of a checkpoint at the end of the log as it is.
    pub(crate) fn checkpoint_header<E>(&mut self, now: u64) -> Result<CheckpointHeader, LogError<E>> {
        let id = self.highest_checkpoint.value().checked_add(1).ok_or(LogError::Exhausted)?;
        self.highest_checkpoint = CheckpointId::new(id);
        Ok(CheckpointHeader {
            log: self.writer.log(),
            epoch: self.writer.epoch(),
            id: self.highest_checkpoint,
            lsn: self.writer.next_lsn().previous(),
            floor: self.writer.replay_floor(),
            created_at: now / 1_000_000,
            documents: 0,
            chunks: 0,
            metadata_len: 1,
        })
    }

    /// Whether the device had no room, and nothing else is wrong.
    #[allow(clippy::unused_self)]
    pub(crate) fn is_refusal<E: DeviceError>(&self, error: &Error<E>) -> bool {
        let may_be_done = matches!(error, Error::Device { action: Action::Sync | Action::Remove, .. });
        error.device_kind() == Some(ErrorKind::NoSpace) && !may_be_done
    }
}

const _: () = assert!(SEGMENT_HEADER_LEN <= 2 * HEADER_LEN, "the least buffer holds a segment's header");

#[cfg(test)]
mod tests {
    extern crate std;
    use core::error::Error as _;
    use std::string::ToString;

    use super::*;
    use crate::{
        begin::Begin,
        device::{
            Room,
            tests::{Failure, GEOMETRY},
        },
        drive::{Answer, Machine, Step, Stop},
    };

    /// A new log, of which nothing is on a medium.
    fn handle(buf: &mut [u8], granule: u32) -> Handle<'_> {
        let geometry = Geometry { segment_size: 0x4000, granule, ..GEOMETRY };
        let mut handle = Handle::new(buf, LogOptions::default(), geometry, OldWriter::MayWrite);
        handle.create::<Failure>(Uuid::nil()).unwrap();
        handle
    }

    fn device(action: Action, kind: ErrorKind) -> Error<Failure> {
        Error::Device { action, object: Some(Object::Meta), error: Failure(kind) }
    }

    const ACTIONS: [Action; 7] =
        [Action::List, Action::Create, Action::Read, Action::Write, Action::Trim, Action::Remove, Action::Sync];

    #[test]
    fn recovery_is_asked_for_what_the_log_is_opened_with() {
        let options = LogOptions {
            policy: Policy::Strict,
            expect_log: Some(Uuid::from_u128(5)),
            expect_durable: Some(Lsn::new(6)),
            checksum: |_, _| 77,
            ..LogOptions::default()
        };
        let recovery = options.recovery();
        assert_eq!(recovery.policy, options.policy);
        assert_eq!(recovery.expect_log, options.expect_log);
        assert_eq!(recovery.expect_durable, options.expect_durable);
        assert_eq!((recovery.checksum)(0, &[]), 77);
    }

    #[test]
    fn a_handle_is_poisoned_by_what_is_not_on_the_medium_as_it_must_be_and_by_nothing_else() {
        for action in ACTIONS {
            let kind = ErrorKind::Gone;
            let mut buf = [];
            let mut handle = handle(&mut buf, 16);
            assert!(handle.check::<Failure>().is_ok());
            let error = handle.unfit(device(action, kind));
            assert!(matches!(error, LogError::Drive(Error::Device { action: was, .. }) if was == action), "{error:?}");
            let changes = matches!(action, Action::Create | Action::Write | Action::Sync);
            match handle.check::<Failure>() {
                Err(LogError::Poisoned { cause }) if changes => assert_eq!(cause, Cause::Device { action, kind }),
                Ok(()) if !changes => {}
                checked => panic!("{action}: {checked:?}"),
            }
            assert_eq!(handle.writer.is_poisoned(), changes, "{action}");
        }
        let damage = Fault::Damaged(Finding::rot(Seen::BadCheckpoint, Object::Meta, 0));
        for (fault, is_poisoned) in [(damage, true), (Fault::Full, false)] {
            let mut buf = [];
            let mut handle = handle(&mut buf, 16);
            handle.unfit::<Failure>(Error::Fault(fault));
            match handle.check::<Failure>() {
                Err(LogError::Poisoned { cause: Cause::Fault }) if is_poisoned => {}
                Ok(()) if !is_poisoned => {}
                checked => panic!("{checked:?}"),
            }
        }
        // Nobody said why.
        let mut buf = [];
        let mut handle = handle(&mut buf, 16);
        handle.writer.poison();
        assert!(matches!(handle.check::<Failure>(), Err(LogError::Poisoned { cause: Cause::Abandoned })));
    }

    /// Begins the first segment, on a medium that takes everything.
    fn begin(handle: &mut Handle<'_>) {
        let mut begin = Begin::new(handle.writer.plan(0, 0).unwrap());
        let (mut buf, mut answer) = ([0; 4096], Answer::Nothing);
        let begun = loop {
            answer = match begin.step(&mut buf, answer) {
                Ok(begun) => break begun,
                Err(Stop::Need(Step::Create { .. })) => Answer::Created(Room::Blank),
                Err(Stop::Need(Step::Free)) => Answer::Free(None),
                Err(Stop::Need(Step::Next { .. } | Step::Prev { .. })) => Answer::Object(None),
                Err(Stop::Need(_)) => Answer::Nothing,
                Err(Stop::Fault(fault)) => panic!("{fault}"),
            };
        };
        handle.begun(&begun);
    }

    #[test]
    fn the_figures_count_writes_and_syncs_each_by_itself() {
        let mut buf = [0; 4096];
        let mut handle = handle(&mut buf, 16);
        begin(&mut handle);
        let mut bytes = 0;
        for round in 1..=2 {
            handle.writer.stage(handle.buf, 0, None, &[&[1; 60][..]]).unwrap();
            // The bytes alone, then a sync alone.
            let written = handle.take::<Failure>(Durability::Os).unwrap().unwrap();
            bytes += u64::from(written.len());
            handle.landed(written);
            let stats = handle.stats();
            assert_eq!((stats.groups, stats.syncs, stats.bytes), (round, round - 1, bytes));
            let synced = handle.take::<Failure>(Durability::Durable).unwrap().unwrap();
            assert!(synced.is_empty());
            handle.landed(synced);
            let stats = handle.stats();
            assert_eq!((stats.groups, stats.syncs, stats.bytes), (round, round, bytes));
        }
    }

    #[test]
    fn a_device_refuses_where_it_has_no_room_for_what_was_not_done_yet() {
        let mut buf = [];
        let handle = handle(&mut buf, 16);
        for action in ACTIONS {
            let refused = !matches!(action, Action::Sync | Action::Remove);
            assert_eq!(handle.is_refusal(&device(action, ErrorKind::NoSpace)), refused, "{action}");
            assert!(!handle.is_refusal(&device(action, ErrorKind::Other)), "{action}");
        }
        assert!(!handle.is_refusal::<Failure>(&Error::Fault(Fault::Full)));
    }

    #[test]
    fn the_least_buffer_holds_the_head_of_a_checkpoint_and_the_longest_append() {
        // The head of a checkpoint has 80 bytes twice; frames have up to 49 bytes of marks before them.
        for (granule, len, min) in
            [(1, 0, 161), (16, 0, 176), (512, 0, 672), (16, 127, 176), (16, 128, 192), (512, 1000, 1536), (1, 300, 349)]
        {
            let geometry = Geometry { granule, ..GEOMETRY };
            assert_eq!(LogOptions::buffer_min(&geometry, len), min, "granule {granule}, {len} bytes");
        }
    }

    #[test]
    fn for_frames_that_no_buffer_holds_the_least_one_is_as_large_as_can_be_said() {
        for (granule, len) in [(1, u32::MAX), (16, u32::MAX), (1, u32::MAX - 49), (4096, u32::MAX - 4200)] {
            let least = LogOptions::buffer_min(&Geometry { granule, ..GEOMETRY }, len);
            assert!(least > u32::MAX as usize - 4096, "granule {granule}, {len} bytes: {least}");
        }
    }

    #[test]
    fn one_checkpoint_at_least_is_kept_and_no_more_than_a_handle_remembers() {
        let of = |checkpoints_kept| {
            let options = LogOptions { checkpoints_kept, ..LogOptions::default() };
            Handle::new(&mut [], options, GEOMETRY, OldWriter::MayWrite).may_open::<Failure>()
        };
        for kept in [1, 2, 8] {
            assert!(of(kept).is_ok(), "{kept}");
        }
        for kept in [0, 9, u8::MAX] {
            let refused = of(kept).unwrap_err();
            assert!(matches!(refused, OpenError::Options(InvalidOptions::CheckpointsKept)), "{kept}: {refused:?}");
            assert_eq!(refused.to_string(), "the checkpoints kept must be 1 to 8");
        }
    }

    #[test]
    fn no_log_is_made_but_the_one_that_is_expected() {
        let made = |expect_log| {
            let options = LogOptions { expect_log, ..LogOptions::default() };
            Handle::new(&mut [], options, GEOMETRY, OldWriter::MayWrite).create::<Failure>(Uuid::from_u128(5))
        };
        assert!(made(None).is_ok() && made(Some(Uuid::from_u128(5))).is_ok());
        let refused = made(Some(Uuid::from_u128(6))).unwrap_err();
        assert!(matches!(refused, OpenError::Options(InvalidOptions::OtherLog)), "{refused:?}");
        assert_eq!(refused.to_string(), "the log to be made is not the one that the options expect");
    }

    #[test]
    fn errors_say_what_they_are_and_have_as_source_what_they_carry() {
        let full = || Error::<Failure>::Fault(Fault::Full);
        let poisoned = |cause| LogError::<Failure>::Poisoned { cause };
        let cause = Cause::Device { action: Action::Sync, kind: ErrorKind::Other };
        for (error, text) in [
            (LogError::Full, "the medium is full: truncate the log"),
            (LogError::TooLarge { len: 12, max: 10 }, "12 bytes are too large, 10 may be appended at once"),
            (LogError::BufferTooSmall { needed: 9 }, "the log's buffer is too small: 9 bytes are needed"),
            (LogError::Reserved { code: 3 }, "the code 3 is the log's own"),
            (LogError::NoTransaction, "the transaction is not open"),
            (LogError::TooManyTransactions { max: 4 }, "no more than 4 transactions may be open at once"),
            (LogError::Exhausted, "no LSN, epoch or segment id is left"),
            (poisoned(cause), "open the log again: the device failed to sync"),
            (poisoned(Cause::Fault), "open the log again: the medium holds what it must not"),
            (
                poisoned(Cause::Dropped),
                "open the log again: the medium was full, and appends not yet written were lost",
            ),
            (poisoned(Cause::Abandoned), "open the log again: an operation was abandoned half-way"),
        ] {
            assert_eq!(error.to_string(), text);
            assert!(error.source().is_none(), "{text}");
        }
        let error = LogError::Drive(full());
        assert_eq!(error.to_string(), full().to_string());
        assert!(error.source().unwrap().is::<Error<Failure>>());

        let finding = Finding::rot(Seen::BadCheckpoint, Object::Meta, 5);
        for (error, text) in [
            (
                OpenError::<Failure>::Policy(Policy::Salvage),
                "under this policy the core reads a log and does not write to it".to_string(),
            ),
            (OpenError::Exists, "there is a log already".to_string()),
            (OpenError::Refused(Some(finding)), "damage: ".to_string() + &finding.to_string()),
            (OpenError::Refused(None), "the log ends before what is known to have been durable".to_string()),
        ] {
            assert_eq!(error.to_string(), text);
            assert!(error.source().is_none(), "{text}");
        }
        let error = OpenError::<Failure>::Options(InvalidOptions::Granule);
        assert_eq!(error.to_string(), InvalidOptions::Granule.to_string());
        assert!(error.source().unwrap().is::<InvalidOptions>());
        let error = OpenError::TakeOver(LogError::<Failure>::Full);
        assert_eq!(error.to_string(), "the medium is full: truncate the log");
        assert!(error.source().unwrap().is::<LogError<Failure>>());
        let error = OpenError::Drive(full());
        assert_eq!(error.to_string(), full().to_string());
        assert!(error.source().unwrap().is::<Error<Failure>>());
    }
}
