//! Taking a log over for writing, from what recovery found.

use super::{InvalidOptions, Writer, WriterOptions};
use crate::{begin::Copying, decision::Policy, recovery::Recovered};

/// Why a log cannot be taken over for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TakeOverError {
    /// A value of the options cannot be.
    Options(InvalidOptions),
    /// The policy refuses to write after what recovery found: its report says why.
    Refused,
}

/// Whether what recovery found missing is given up for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Where [`needs_segment`](Self::needs_segment) is true at once, entries were found that only a cache may hold:
    /// begin a segment ([`plan`](Self::plan)) before anything that was recovered is called durable. Else the
    /// take-over waits for the first write.
    ///
    /// # Errors
    /// [`TakeOverError`]: the options, or the policy's refusal.
    pub fn take_over(options: WriterOptions, recovered: &Recovered, consent: Consent) -> Result<Self, TakeOverError> {
        options.validate().map_err(TakeOverError::Options)?;
        let Recovered { report, tail, view, .. } = recovered;
        let lost = report.durable.max(tail.last);
        let refused = match consent {
            Consent::None => !report.is_writable() || lost > tail.last && lost > tail.header.accepted_loss,
            Consent::AcceptLoss => report.policy == Policy::Inspect,
        };
        if refused {
            return Err(TakeOverError::Refused);
        }
        let mut writer = Self::new(options, tail.header, lost);
        writer.epoch = tail.epoch;
        writer.behind = tail.behind;
        writer.live = tail.last;
        writer.time = tail.last_time;
        writer.slot = tail.slot.clone();
        writer.low_water = tail.low_water;
        writer.low_water_covered = tail.low_water_covered;
        // What a mark says that may exist only in a cache is said again, by the header of a new segment.
        writer.must_begin = consent == Consent::AcceptLoss || tail.unproven_marks.is_some();
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
        if tail.marked < Some(tail.last) && lost == tail.last {
            writer.durable = tail.marked.unwrap_or(tail.header.first.previous());
            writer.copy = Some(Copying {
                from: tail.header,
                start: tail.proven,
                durable: writer.durable,
                end: tail.behind,
                passes_over: tail.marked.is_none(),
            });
        }
        Ok(writer)
    }
}
