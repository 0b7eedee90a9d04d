//! What can go wrong with a log, typed: kinds and numbers decide, text only tells.

use std::{error, fmt, path::PathBuf, sync::Arc};

use duralog_core::{
    Action, CheckpointId, Fault, Finding, InvalidOptions, Lsn, Object, SegmentId, Verdict, checkpoint::CheckpointError,
    operation::DecodeError,
};
use uuid::Uuid;

use crate::device::DeviceFailure;

/// The result of what a log is asked to do.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Why a log could not do what it was asked.
///
/// It is cheap to clone: everyone who waited for a write that failed gets it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// Another writer has the log open, in this process or another.
    Locked {
        /// The folder.
        path: PathBuf,
        /// The process that holds it, where that is known.
        owner: Option<u32>,
    },
    /// There is no log.
    NotFound {
        /// Where none is.
        path: PathBuf,
    },
    /// The folder holds other things and no log.
    NotALog {
        /// The folder.
        path: PathBuf,
    },
    /// A value of the configuration cannot be.
    Config(InvalidOptions),
    /// The number of checkpoints to keep is none from 1 on.
    Retention {
        /// The most that can be kept.
        most: usize,
    },
    /// Durable bytes no longer verify, or are missing; or a strict policy refuses a torn tail.
    Damaged(Finding),
    /// The policy does not allow to write to a log with this damage; it can be read, and recovered with another policy.
    Refused(Finding),
    /// What the caller knows to have been durable is not there.
    Lost {
        /// The LSN that was expected.
        expected: Lsn,
    },
    /// There is no log, and one was expected: it was removed, evicted, or is somewhere else.
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// The log that was expected.
        expected: Uuid,
    },
    /// The newest segment is of another log than the one that was expected: either all of the log is, or that segment
    /// alone, which does not belong there.
    Foreign {
        /// That segment.
        segment: SegmentId,
        /// The log it belongs to.
        found: Uuid,
        /// The log that was expected.
        expected: Uuid,
    },
    /// A segment stands behind the log's end under a number that is not its own: it was renamed, or copied there. It may
    /// hold what the log lost, and nothing was touched.
    Misplaced {
        /// The number under which it stands.
        segment: SegmentId,
        /// The number that its header says.
        found: SegmentId,
        /// The log that its header says.
        log: Uuid,
    },
    /// A newer version of duralog wrote it.
    Unsupported {
        /// Where.
        object: Object,
        /// Where in it.
        offset: u64,
        /// The version, or the type of a frame.
        number: u8,
    },
    /// The bytes are too many for the application slot. Nothing was written.
    SlotTooLarge {
        /// How many they are.
        len: u64,
        /// The most that it takes.
        max: u32,
    },
    /// The entry or batch is larger than the write limit allows. Nothing was written.
    TooLarge {
        /// Bytes of the frames that it would take.
        len: u64,
        /// The most that they may take.
        max: u32,
    },
    /// There is no room. Nothing durable is lost, and the log goes on once there is room.
    NoSpace(DeviceFailure),
    /// What was appended up to this LSN is in the log and durable, and there is no room for the mark that would prove it,
    /// which [`Proof::BeforeAcknowledging`](crate::Proof::BeforeAcknowledging) asks for. The log goes on once there is room.
    Unproven {
        /// That LSN.
        lsn: Lsn,
        /// The device's error.
        source: DeviceFailure,
    },
    /// An earlier write or sync failed, and nothing is known about what it did: reopen the log.
    Poisoned {
        /// That failure.
        cause: Arc<Self>,
    },
    /// The log was closed.
    Closed,
    /// The handle only reads.
    ReadOnly,
    /// What is asked for lies below the low-water mark.
    Truncated {
        /// The first LSN that is kept.
        low_water: Lsn,
    },
    /// The log was truncated, cut or reset since this reader was opened, and what it saw of it is gone: open a new one.
    Superseded,
    /// The entry was appended, and before that was answered `truncate_after` or `reset_to`, called by someone else, took it
    /// off the log again. Its LSN is given out anew.
    CutOff {
        /// That LSN.
        lsn: Lsn,
    },
    /// A log can only be reset to an LSN that was not given out before.
    NotAhead {
        /// The LSN that was asked for.
        asked: Lsn,
        /// The lowest that it can be reset to.
        next: Lsn,
    },
    /// Entries of this type are the log's own: there is a call for what they say.
    Reserved {
        /// The code of the type.
        code: u8,
    },
    /// The log belongs to a [`MemoryStore`](crate::MemoryStore), through which alone it is changed. Nothing was written.
    InStore,
    /// The transaction has ended, or was rolled back by a failure.
    NoTransaction,
    /// As many transactions are open as the log allows. Nothing was written.
    TooManyTransactions {
        /// That many.
        max: u8,
    },
    /// A cut would take what the newest checkpoint contains.
    BelowCheckpoint {
        /// The LSN of that checkpoint.
        lsn: Lsn,
    },
    /// A checkpoint was to be made at a place of another handle, or from before the log was cut or reset: what its snapshot
    /// holds is not what the log holds up to there. Take a new one.
    StalePlace {
        /// The LSN of the place.
        lsn: Lsn,
    },
    /// A checkpoint cannot be what it was asked to be.
    Checkpoint(CheckpointError),
    /// There is no checkpoint whose state the log goes on from, and what it held is truncated.
    StateLost {
        /// The first LSN that is kept.
        low_water: Lsn,
        /// The checkpoints that were not loaded, newest first, and why: the medium has damaged them, or the state refused them.
        rejected: Arc<[(CheckpointId, String)]>,
    },
    /// No LSN, epoch or segment id is left.
    Exhausted,
    /// The entry is sound, and its payload is not what its type says.
    Undecodable {
        /// The entry.
        lsn: Lsn,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The device failed, otherwise than for lack of room.
    Device {
        /// What was being done.
        action: Action,
        /// To which object; `None` for a sync or a listing.
        object: Option<Object>,
        /// The device's error.
        source: DeviceFailure,
    },
    /// The log's folder could not be opened or made.
    Open(DeviceFailure),
    /// Any other reason that the core gives.
    Fault(Fault),
}

impl Error {
    /// Whether the handle is of no more use: the log has to be reopened, repaired or looked for.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            // What was asked for was refused, and nothing else has changed.
            Self::TooLarge { .. }
            | Self::SlotTooLarge { .. }
            | Self::NoSpace(_)
            | Self::Unproven { .. }
            | Self::ReadOnly
            | Self::Truncated { .. }
            | Self::Reserved { .. }
            | Self::NoTransaction
            | Self::TooManyTransactions { .. }
            | Self::BelowCheckpoint { .. }
            | Self::StalePlace { .. }
            | Self::CutOff { .. }
            | Self::NotAhead { .. }
            | Self::Checkpoint(_)
            | Self::Undecodable { .. } => false,
            // What cannot be read or given back now may be later.
            Self::Device { action, .. } => !matches!(action, Action::Read | Action::List | Action::Remove),
            _ => true,
        }
    }

    /// A stable word for the kind of error.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "locked",
            Self::NotFound { .. } => "not_found",
            Self::NotALog { .. } => "not_a_log",
            Self::Config(_) | Self::Retention { .. } => "config",
            Self::Damaged(_) => "damaged",
            Self::Refused(_) => "refused",
            Self::Lost { .. } | Self::Missing { .. } => "lost",
            Self::Foreign { .. } => "foreign",
            Self::Misplaced { .. } => "misplaced",
            Self::Unsupported { .. } => "unsupported",
            Self::TooLarge { .. } | Self::SlotTooLarge { .. } => "too_large",
            Self::NoSpace(_) => "no_space",
            Self::Unproven { .. } => "unproven",
            Self::Poisoned { .. } => "poisoned",
            Self::Closed => "closed",
            Self::ReadOnly => "read_only",
            Self::Truncated { .. } => "truncated",
            Self::Superseded => "superseded",
            Self::CutOff { .. } => "cut_off",
            Self::NotAhead { .. } => "not_ahead",
            Self::Reserved { .. } => "reserved",
            Self::InStore => "in_store",
            Self::NoTransaction => "no_transaction",
            Self::TooManyTransactions { .. } => "too_many_transactions",
            Self::BelowCheckpoint { .. } => "below_checkpoint",
            Self::StalePlace { .. } => "stale_place",
            Self::Checkpoint(_) => "checkpoint",
            Self::StateLost { .. } => "state_lost",
            Self::Exhausted => "exhausted",
            Self::Undecodable { .. } => "undecodable",
            Self::Device { .. } | Self::Open(_) => "device",
            Self::Fault(_) => "fault",
        }
    }

    /// What was found damaged, if that is the reason.
    #[must_use]
    pub fn finding(&self) -> Option<&Finding> {
        match self {
            Self::Damaged(finding) | Self::Refused(finding) => Some(finding),
            Self::Poisoned { cause } => cause.finding(),
            _ => None,
        }
    }

    /// Where on the medium it is, if it is at one place.
    #[must_use]
    pub fn place(&self) -> Option<(Object, u64)> {
        match self {
            Self::Damaged(finding) | Self::Refused(finding) => Some((finding.object, finding.offset)),
            Self::Unsupported { object, offset, .. } => Some((*object, *offset)),
            Self::Foreign { segment, .. } | Self::Misplaced { segment, .. } => Some((Object::Segment(*segment), 0)),
            Self::Device { object: Some(object), .. } => Some((*object, 0)),
            Self::Poisoned { cause } => cause.place(),
            _ => None,
        }
    }

    /// The LSN that it is about, if it is about one.
    #[must_use]
    pub fn lsn(&self) -> Option<Lsn> {
        match self {
            Self::Lost { expected: lsn }
            | Self::Truncated { low_water: lsn }
            | Self::Unproven { lsn, .. }
            | Self::StalePlace { lsn }
            | Self::CutOff { lsn }
            | Self::NotAhead { next: lsn, .. }
            | Self::Undecodable { lsn, .. } => Some(*lsn),
            Self::Poisoned { cause } => cause.lsn(),
            _ => self.finding().and_then(|finding| finding.lsns).map(|(first, _)| first),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { path, owner: Some(owner) } => write!(
                f,
                "{} is open for writing in process {owner}: close it there, or open the log read-only",
                path.display()
            ),
            Self::Locked { path, owner: None } => {
                write!(f, "{} is open for writing elsewhere: close it there, or open the log read-only", path.display())
            }
            Self::NotFound { path } => write!(f, "there is no log at {}", path.display()),
            Self::NotALog { path } => {
                write!(
                    f,
                    "{} holds other things and no log: nothing was touched; name the folder of a log, or an empty one for a new log",
                    path.display()
                )
            }
            Self::Config(invalid) => invalid.fmt(f),
            Self::Retention { most } => write!(f, "1 to {most} checkpoints can be kept"),
            Self::Damaged(finding) => match finding.verdict {
                Verdict::Unsynced | Verdict::Unproven => write!(f, "torn tail refused: {finding}"),
                _ => write!(f, "damage: {finding}"),
            },
            Self::Refused(finding) => write!(
                f,
                "writing refused, damage: {finding}; what stands before it can be read, and the policies `salvage` and \
                 `point-in-time` give it up"
            ),
            Self::Lost { expected } => {
                write!(f, "{expected} is known to have been durable, and the log does not hold it any more")
            }
            Self::Foreign { segment, found, expected } => {
                write!(
                    f,
                    "{segment}.wal, the newest segment, belongs to the log {found}, not to {expected}: if the others do, \
                     too, another log than that is here, so look for it elsewhere; if not, take this segment away"
                )
            }
            Self::Missing { path, expected } => write!(
                f,
                "there is no log at {}, and {expected} was expected there: nothing was made; look for it elsewhere, or open \
                 without expecting it to begin a new one",
                path.display()
            ),
            Self::SlotTooLarge { len, max } => {
                write!(f, "{len} bytes are too many for the application slot: it takes {max}; nothing was written")
            }
            Self::Misplaced { segment, found, log } => {
                write!(f, "{segment}.wal is {found}.wal of the log {log}: give it that name back, or take it away")
            }
            Self::Unsupported { object, offset, number } => write!(
                f,
                "{object} holds at offset {offset} a version or type {number} that this version of duralog does not \
                 know: use a newer one"
            ),
            Self::TooLarge { len, max } => write!(
                f,
                "{len} bytes are too many for one entry or batch: at most {max} fit the write limit; nothing was written"
            ),
            Self::NoSpace(source) => write!(f, "no space: {source}; nothing durable is lost, go on once there is room"),
            Self::Unproven { lsn, source } => write!(
                f,
                "what was appended up to {lsn} is durable, and nothing proves it yet: {source}; go on once there is room"
            ),
            Self::Poisoned { cause } => match &**cause {
                Self::NoSpace(source) => write!(
                    f,
                    "there was no space for what had been answered and was not durable, reopen the log once there is room: \
                     {source}"
                ),
                cause => write!(f, "an earlier failure stopped the log, reopen it: {cause}"),
            },
            Self::Closed => f.write_str("the log is closed"),
            Self::ReadOnly => f.write_str("the log was opened read-only"),
            Self::Truncated { low_water } => write!(f, "the log was truncated: it begins at {low_water}"),
            Self::Superseded => {
                f.write_str("the log was truncated, cut or reset since it was opened for reading: open it again")
            }
            Self::CutOff { lsn } => write!(
                f,
                "the entry at {lsn} was cut off the log, by another call, before its append was answered: append it again if \
                 it is still wanted"
            ),
            Self::NotAhead { asked, next } => write!(
                f,
                "the log cannot be reset to {asked}, for LSNs up to {} were given out: reset it to {next} or beyond",
                next.previous()
            ),
            Self::Reserved { code } => {
                write!(f, "entries of type {code} are the log's own: use the call for transactions or checkpoints")
            }
            Self::InStore => f.write_str(
                "the log belongs to a store, whose state would not be that of the log: change it through the store",
            ),
            Self::NoTransaction => f.write_str("the transaction is not open any more"),
            Self::TooManyTransactions { max } => {
                write!(f, "{max} transactions are open, as many as the log allows: end one first")
            }
            Self::BelowCheckpoint { lsn } => write!(f, "a checkpoint contains what is up to {lsn}: nothing was cut"),
            Self::StalePlace { lsn } => write!(
                f,
                "the place of the snapshot, {lsn}, is of another handle, or the log was cut since: take a new one"
            ),
            Self::Checkpoint(error) => error.fmt(f),
            Self::StateLost { low_water, rejected } if rejected.is_empty() => write!(
                f,
                "the log begins at {low_water}, and no valid checkpoint goes so far: the state before it is lost, unless it is \
                 kept elsewhere and a checkpoint of that is made; the policy `salvage` goes on with what is left"
            ),
            Self::StateLost { low_water, rejected } => {
                write!(f, "the log begins at {low_water}, and no checkpoint that goes so far could be loaded")?;
                for (n, (id, error)) in rejected.iter().enumerate() {
                    write!(f, "{} {}: {error}", if n == 0 { ":" } else { ";" }, Object::Checkpoint(*id))?;
                }
                f.write_str(
                    "; the state before it is lost, unless that can be mended, or the state is kept elsewhere and a checkpoint \
                     of that is made; the policy `salvage` goes on with what is left",
                )
            }
            Self::Exhausted => f.write_str("no LSN, epoch or segment id is left"),
            Self::Undecodable { lsn, error } => write!(f, "{lsn} is sound and cannot be decoded: {error}"),
            Self::Device { action, object: Some(object), source } => write!(f, "cannot {action} {object}: {source}"),
            Self::Device { action, object: None, source } => write!(f, "cannot {action}: {source}"),
            Self::Open(source) => source.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::NoSpace(source)
            | Self::Unproven { source, .. }
            | Self::Device { source, .. }
            | Self::Open(source) => Some(source.as_error()),
            Self::Poisoned { cause } => Some(cause.as_ref()),
            Self::Config(invalid) => Some(invalid),
            Self::Checkpoint(error) => Some(error),
            Self::Undecodable { error, .. } => Some(error),
            Self::Fault(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Damaged(finding) => Self::Damaged(finding),
            Fault::Lost { expected } => Self::Lost { expected },
            Fault::Foreign { segment, found, expected } => Self::Foreign { segment, found, expected },
            Fault::Misplaced { segment, found, log } => Self::Misplaced { segment, found, log },
            Fault::Unsupported { object, offset, number } => Self::Unsupported { object, offset, number },
            Fault::Exhausted => Self::Exhausted,
            Fault::Truncated { low_water } => Self::Truncated { low_water },
            Fault::Full => Self::NoSpace(DeviceFailure::new(fault)),
            fault => Self::Fault(fault),
        }
    }
}

impl From<InvalidOptions> for Error {
    fn from(invalid: InvalidOptions) -> Self {
        Self::Config(invalid)
    }
}
