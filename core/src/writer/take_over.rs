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
        let mut writer = Self::blank(options);
        writer.may_take_over(recovered, consent)?;
        writer.take_over_from(recovered, consent);
        Ok(writer)
    }

    /// Whether options and policy allow a take-over.
    pub(crate) fn may_take_over(&self, recovered: &Recovered, consent: Consent) -> Result<(), TakeOverError> {
        self.options.validate().map_err(TakeOverError::Options)?;
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

    /// Makes it the writer of a take-over that is allowed. It is a blank one.
    pub(crate) fn take_over_from(&mut self, recovered: &Recovered, consent: Consent) {
        let Recovered { tail, view, .. } = recovered;
        // No LSN is given out again that anything tells of.
        let lost = recovered.highest_told();
        self.segment = tail.header;
        self.stand_behind(lost);
        // What tells of a later epoch would go on to prove that something is missing.
        self.epoch = recovered.epoch;
        self.behind = tail.behind;
        self.live = tail.last;
        self.time = tail.last_time;
        self.slot = tail.slot;
        (self.low_water, self.low_water_covered) = tail.low_water_said();
        (self.given_up, self.given_up_covered) = (tail.low_water, tail.low_water_covered);
        // A crash may have kept one copy alone of a header that nothing proves: then that segment is passed over.
        let settled = self.options.geometry.settled && (recovered.whole_header || tail.marked.is_some());
        // What a mark says that may exist only in a cache is said again, by the header of a new segment.
        self.must_begin = consent == Consent::AcceptLoss || tail.unproven_marks.is_some() && !settled;
        self.accepted_loss = match consent {
            Consent::None => tail.header.accepted_loss,
            Consent::AcceptLoss => tail.header.accepted_loss.max(lost),
        };
        self.oldest = view.oldest;
        self.highest = recovered.highest;
        self.unfinished_above = (recovered.highest > tail.header.id).then_some(tail.header.id);
        self.dead.take_in(&view.dead);
        self.mended.take_in(&view.mended);
        self.leftovers |= consent == Consent::AcceptLoss;
        self.floor = tail.proven.floor;
        // Where a witness from elsewhere proves more than is there, it proves all that is there.
        let unproven = tail.marked < Some(tail.last) && lost == tail.last;
        let before = tail.marked.unwrap_or(tail.header.first.previous());
        if unproven {
            // A header that skips LSNs may be in a cache alone: it proves none of them.
            self.durable = tail.marked.unwrap_or(before.min(tail.header.predecessor.last));
        }
        // Entries are copied one after the other: where some are gone between them, they all stay.
        if settled && (unproven || tail.unproven_marks.is_some()) || unproven && tail.has_gap {
            // A sync makes it durable where it is.
            self.unsynced = tail.end.saturating_sub(tail.proven.next).max(1);
        } else if unproven {
            self.copy = Some(Copying {
                start: tail.proven,
                durable: before,
                end: tail.behind,
                passes_over: tail.marked.is_none(),
            });
        }
        self.proven = self.durable;
        // A header of which one copy is lost is not trusted with more.
        if settled && lost == tail.last && recovered.whole_header && self.may_continue() {
            self.free_at = tail.free_at;
        }
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

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;
    use core::error::Error as _;
    use std::string::ToString;

    use super::*;
    use crate::{
        Durability, Lsn,
        reader::tests::{Log, log, place, plain},
        segment::Geometry,
        writer::tests::{Writing, found, options},
    };

    #[test]
    fn each_refusal_says_what_and_how_to_go_on() {
        let unsupported = TakeOverError::Unsupported { checkpoint: CheckpointId::new(5), version: 2 };
        for (error, words, has_source) in [
            (TakeOverError::Options(InvalidOptions::Granule), &["the granule must be"][..], true),
            (TakeOverError::Refused, &["policy", "report", "restore"], false),
            (unsupported, &["CKPT(5)", "version 2"], false),
        ] {
            let text = error.to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
            assert_eq!(error.source().map(ToString::to_string), has_source.then_some(text));
        }
    }

    /// What the writer would be told that wrote a log of this one segment, and is gone.
    pub(crate) fn same(log: &Log) -> WriterOptions {
        let header = log.header(1);
        let geometry = Geometry {
            segment_size: header.segment_size,
            granule: header.granule,
            copy_offset: header.copy_offset,
            blank: header.blank,
            settled: true,
            slots: None,
        };
        WriterOptions {
            write_limit: header.write_limit,
            max_transactions: header.max_transactions,
            immediate: header.immediate,
            old_writer: OldWriter::Gone,
            ..WriterOptions::new(geometry)
        }
    }

    #[test]
    fn a_sync_is_enough_for_what_is_settled_where_it_is_and_all_else_is_copied() {
        let log = log(&[&plain(1..=4)]);
        let found = found(&log);
        for (settles, whole_header, marked, is_enough) in [
            (false, true, None, false),
            (false, true, Some(2), false),
            (true, false, None, false),
            (true, true, None, true),
            (true, false, Some(2), true),
            (true, true, Some(2), true),
        ] {
            let mut recovered = Recovered { whole_header, ..found.clone() };
            recovered.tail.marked = marked.map(Lsn::new);
            let mut options = options(16);
            options.geometry.settled = settles;
            let writer = Writer::take_over(options, &recovered, Consent::None).unwrap();
            let told = (writer.needs_sync(), writer.needs_segment());
            assert_eq!(told, (is_enough, !is_enough), "{settles}, {whole_header}, {marked:?}");
            assert_eq!(writer.durable(), Lsn::new(marked.unwrap_or(0)));
        }
    }

    #[test]
    fn a_segment_is_continued_by_a_writer_that_would_have_begun_the_same_and_nobody_else_writes_to() {
        let log = log(&[&plain(1..=4)]);
        let mut found = found(&log);
        found.tail.free_at = Some(place(4));
        let continues = |found: &Recovered, options: WriterOptions| {
            let mut writing = Writing::over(&log, options);
            writing.writer = Writer::take_over(options, found, Consent::None).unwrap();
            writing.commit(Durability::Durable);
            writing.writer.plan(1, 7).unwrap().continuing.is_some()
        };
        let same = same(&log);
        assert!(continues(&found, same));
        assert!(!continues(&found, WriterOptions { old_writer: OldWriter::MayWrite, ..same }));
        assert!(!continues(&found, WriterOptions { write_limit: same.write_limit + 1, ..same }));
        assert!(!continues(&found, WriterOptions { max_transactions: same.max_transactions + 1, ..same }));
        assert!(!continues(&found, WriterOptions { immediate: !same.immediate, ..same }));
        let on = |geometry| WriterOptions { geometry, ..same };
        assert!(!continues(&found, on(Geometry { granule: 2, ..same.geometry })));
        assert!(!continues(&found, on(Geometry { blank: 0xFF, ..same.geometry })));
        let mut recycled = found.clone();
        recycled.tail.header.recycled = true;
        assert!(!continues(&recycled, same));
        let half = Recovered { whole_header: false, ..found.clone() };
        let marked = |mut found: Recovered| {
            found.tail.marked = Some(Lsn::new(2));
            found
        };
        assert!(continues(&marked(found), same));
        assert!(!continues(&marked(half), same), "one copy of the header is lost");
    }
}
