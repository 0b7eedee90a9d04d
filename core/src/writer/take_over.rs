//! Taking a log over for writing, from what recovery found.

use core::fmt;

use super::{InvalidOptions, Writer, WriterOptions};
use crate::{CheckpointId, begin::Copying, decision::Policy, device::OldWriter, recovery::Recovered};

/// Why a log cannot be taken over for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TakeOverError {
    /// A value of the options cannot be.
    Options(InvalidOptions),
    /// The policy refuses to write after what recovery found: its report says why.
    Refused,
    /// A checkpoint is of a newer version of the format: no policy writes beside it.
    Unsupported {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Its version.
        version: u8,
    },
}

impl fmt::Display for TakeOverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(invalid) => invalid.fmt(f),
            Self::Unsupported { checkpoint, version } => {
                write!(f, "{checkpoint} is of version {version} of the format, which this program does not write beside")
            }
            Self::Refused => f.write_str(
                "the policy does not allow to write after what recovery found: read its report, and consent to the loss \
                 under another policy, or restore the log",
            ),
        }
    }
}

impl core::error::Error for TakeOverError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Options(invalid) => Some(invalid),
            Self::Unsupported { .. } | Self::Refused => None,
        }
    }
}

/// Whether what recovery found missing is given up for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Consent {
    /// Nothing is given up: damage refuses the take-over.
    None,
    /// Damage and gaps up to the highest LSN ever witnessed are accepted, and no longer refuse anything; the log goes
    /// on above that LSN.
    AcceptLoss,
}

impl Writer {
    /// The writer that takes over a log from its recovery.
    ///
    /// Before anything that was recovered is called durable: where [`needs_sync`](Self::needs_sync) is true at once,
    /// [`take`](Self::take) a group that syncs, and commit it; where [`needs_segment`](Self::needs_segment) is, entries
    /// were found that only a cache may hold: begin a segment ([`plan`](Self::plan)). Else the take-over waits for the
    /// first write.
    ///
    /// # Errors
    /// [`TakeOverError`]: the options, or the policy's refusal.
    pub fn take_over(options: WriterOptions, recovered: &Recovered, consent: Consent) -> Result<Self, TakeOverError> {
        Self::may_take_over(&options, recovered, consent)?;
        Ok(Self::taking_over(options, recovered, consent))
    }

    /// Whether options and policy allow a take-over.
    pub(crate) fn may_take_over(
        options: &WriterOptions,
        recovered: &Recovered,
        consent: Consent,
    ) -> Result<(), TakeOverError> {
        options.validate().map_err(TakeOverError::Options)?;
        let Recovered { report, .. } = recovered;
        if let Some((checkpoint, version)) = report.unsupported {
            return Err(TakeOverError::Unsupported { checkpoint, version });
        }
        let refused = match consent {
            Consent::None => !report.is_writable() || recovered.lacks_its_end(),
            Consent::AcceptLoss => report.policy == Policy::Inspect,
        };
        if refused { Err(TakeOverError::Refused) } else { Ok(()) }
    }

    /// The writer of a take-over that is allowed.
    pub(crate) fn taking_over(options: WriterOptions, recovered: &Recovered, consent: Consent) -> Self {
        let Recovered { tail, view, .. } = recovered;
        // No LSN is given out again that anything tells of.
        let lost = recovered.highest_told();
        let mut writer = Self::new(options, &tail.header, lost);
        // What tells of a later epoch would go on to prove that something is missing.
        writer.epoch = recovered.epoch;
        writer.behind = tail.behind;
        writer.live = tail.last;
        writer.time = tail.last_time;
        writer.slot = tail.slot;
        (writer.low_water, writer.low_water_covered) = tail.low_water_said();
        (writer.given_up, writer.given_up_covered) = (tail.low_water, tail.low_water_covered);
        // A crash may have kept one copy alone of a header that nothing proves: then that segment is passed over.
        let settled = options.geometry.settled && (recovered.whole_header || tail.marked.is_some());
        // What a mark says that may exist only in a cache is said again, by the header of a new segment.
        writer.must_begin = consent == Consent::AcceptLoss || tail.unproven_marks.is_some() && !settled;
        writer.accepted_loss = match consent {
            Consent::None => tail.header.accepted_loss,
            Consent::AcceptLoss => tail.header.accepted_loss.max(lost),
        };
        writer.oldest = view.oldest;
        writer.highest = recovered.highest;
        writer.unfinished_above = (recovered.highest > tail.header.id).then_some(tail.header.id);
        writer.dead = view.dead.clone();
        writer.mended = view.mended.clone();
        writer.leftovers |= consent == Consent::AcceptLoss;
        writer.floor = tail.proven.floor;
        // Where a witness from elsewhere proves more than is there, it proves all that is there.
        let unproven = tail.marked < Some(tail.last) && lost == tail.last;
        let before = tail.marked.unwrap_or(tail.header.first.previous());
        if unproven {
            // A header that skips LSNs may be in a cache alone: it proves none of them.
            writer.durable = tail.marked.unwrap_or(before.min(tail.header.predecessor.last));
        }
        // Entries are copied one after the other: where some are gone between them, they all stay.
        if settled && (unproven || tail.unproven_marks.is_some()) || unproven && tail.has_gap {
            // A sync makes it durable where it is.
            writer.unsynced = tail.end.saturating_sub(tail.proven.next).max(1);
        } else if unproven {
            writer.copy = Some(Copying {
                start: tail.proven,
                durable: before,
                end: tail.behind,
                passes_over: tail.marked.is_none(),
            });
        }
        writer.proven = writer.durable;
        // A header of which one copy is lost is not trusted with more.
        if settled && lost == tail.last && recovered.whole_header && writer.may_continue() {
            writer.free_at = tail.free_at;
        }
        writer
    }

    /// Whether the newest segment is one that this writer would have begun in the same way, and nobody else writes to.
    fn may_continue(&self) -> bool {
        let Self { options, segment, .. } = self;
        options.old_writer == OldWriter::Gone
            && !segment.recycled
            && segment.granule == options.geometry.granule
            && segment.blank == options.geometry.blank
            && segment.write_limit == options.write_limit
            && segment.max_transactions == options.max_transactions
            && segment.immediate == options.immediate
    }
}
