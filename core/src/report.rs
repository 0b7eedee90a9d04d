//! What recovery found: verdicts with their witnesses, and the report.

use core::{fmt, num::NonZeroU64};

use uuid::Uuid;

use crate::{CheckpointId, Lsn, decision::Policy, device::Object, drive::Entry, fault::Fault, segment::SegmentId};

/// What is to be thought of bytes that are not the good frame that should stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Verdict {
    /// A crash left it: nothing proves that it was durable, and the log's mode promised nothing.
    Unsynced,
    /// Nothing proves that it was durable, but the log's mode would have acknowledged it: a crash or rot explain it
    /// equally.
    Unproven,
    /// A witness proves that it was durable: damage.
    Rot,
    /// The device cannot read it: nothing is known.
    Unreadable,
    /// It belongs to another log.
    Foreign,
    /// Sound frames out of order: no writer of version 1 does this.
    Conflict,
    /// Sound, and of a newer version.
    Unsupported,
}

impl Verdict {
    /// One word for reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unsynced => "unsynced",
            Self::Unproven => "unproven",
            Self::Rot => "rot",
            Self::Unreadable => "unreadable",
            Self::Foreign => "foreign",
            Self::Conflict => "conflict",
            Self::Unsupported => "unsupported",
        }
    }

    /// Whether a crash alone explains it.
    #[must_use]
    pub const fn is_torn_tail(self) -> bool {
        matches!(self, Self::Unsynced | Self::Unproven)
    }
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Seen {
    /// The frame expected.
    Good,
    /// Blank, or the end of the bytes.
    End,
    /// Bytes that are no frame header.
    BadHeader,
    /// A sound frame header before bytes that do not fit its entry checksum.
    BadEntry,
    /// The device could not read the place.
    Unreadable,
    /// A sound frame whose LSN was there before.
    Conflict,
    /// A sound frame whose LSN lies ahead of the one expected.
    Hole,
    /// A sound frame of a type that this version does not know.
    Unsupported,
    /// Sound entries of a transaction that was committed and has lost another one, or its commit: it does not count.
    TornTransaction,
    /// A segment that its successor names is missing, or another stands in its place.
    MissingSegment,
    /// Both copies of a segment's header are bad.
    BadSegmentHeader,
    /// One copy of a segment's header is bad: the other serves, nothing is lost.
    BadHeaderCopy,
    /// A checkpoint is bad.
    BadCheckpoint,
    /// Truncation relied on a checkpoint, and none that holds what it gave up is there: the state is lost.
    StateLost,
    /// The metadata object is bad: nothing is lost.
    BadMeta,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "a good frame",
            Self::End => "nothing where an entry should stand",
            Self::BadHeader => "bytes that are no frame",
            Self::BadEntry => "an entry whose checksum does not fit",
            Self::Unreadable => "bytes that cannot be read",
            Self::Conflict => "an entry that was there before",
            Self::Hole => "an entry missing before a later one",
            Self::Unsupported => "a frame of a newer version",
            Self::TornTransaction => "entries of a committed transaction that lost one",
            Self::MissingSegment => "a segment missing",
            Self::BadSegmentHeader => "a segment whose header is bad in both copies",
            Self::BadHeaderCopy => "a bad copy of the segment's header",
            Self::BadCheckpoint => "a bad checkpoint",
            Self::StateLost => "no checkpoint that holds what was truncated",
            Self::BadMeta => "bad metadata",
        })
    }
}

/// A surviving fact that proves an LSN to have been durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Witness {
    /// A mark.
    Mark {
        /// The segment it stands in.
        segment: SegmentId,
        /// Where its frame begins.
        offset: u32,
        /// The durable LSN it carries.
        durable: Lsn,
    },
    /// The header of a successor: its predecessor was durable up to the size that it names.
    Successor(SegmentId),
    /// A checkpoint: the log was durable up to its LSN.
    Checkpoint {
        /// The checkpoint.
        id: CheckpointId,
        /// Its LSN.
        lsn: Lsn,
    },
    /// The metadata of the log's newest epoch.
    Meta {
        /// The durable LSN that it carries.
        durable: Lsn,
    },
    /// The caller, by `expect_durable`.
    Caller {
        /// The LSN that the caller knows of.
        durable: Lsn,
    },
    /// A low-water mark or header: a checkpoint held what is below.
    LowWater {
        /// The segment it stands in.
        segment: SegmentId,
        /// The first LSN that truncation kept.
        low_water: Lsn,
    },
    /// The same, by the metadata.
    MetaLowWater {
        /// The first LSN that truncation kept.
        low_water: Lsn,
    },
    /// A sound frame further behind than a writer ever writes beyond its last sync.
    BeyondWriteLimit {
        /// The segment it stands in.
        segment: SegmentId,
        /// Where.
        offset: u32,
    },
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark { segment, offset, durable } => {
                write!(f, "the mark at offset {offset} of {segment}.wal says that {durable} was durable")
            }
            Self::Successor(id) => write!(f, "{id}.wal was begun behind it"),
            Self::Checkpoint { id, lsn } => write!(f, "{id} was taken at {lsn}"),
            Self::Meta { durable } => write!(f, "wal.meta says that {durable} was durable"),
            Self::Caller { durable } => write!(f, "the caller knows that {durable} was durable"),
            Self::LowWater { segment, low_water } => {
                write!(f, "{segment}.wal says that a checkpoint holds what is below {low_water}")
            }
            Self::MetaLowWater { low_water } => {
                write!(f, "wal.meta says that a checkpoint holds what is below {low_water}")
            }
            Self::BeyondWriteLimit { segment, offset } => {
                write!(f, "{segment}.wal was written to at offset {offset}, which a sync must have preceded")
            }
        }
    }
}

/// One place of the log that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Finding {
    /// What is to be thought of it.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: Seen,
    /// Where.
    pub object: Object,
    /// Where in it, in bytes.
    pub offset: u64,
    /// How many bytes; 0 where that is not known.
    pub len: u64,
    /// The first and last LSN that are gone, where there are any.
    pub lsns: Option<(Lsn, Lsn)>,
    /// What proves it, if it is damage.
    pub witness: Option<Witness>,
    /// Whether the one entry that is gone was part of a transaction, where its bytes still tell.
    pub in_transaction: Option<bool>,
    /// The transaction that it was part of, by its id, where no more than one byte of it is wrong.
    pub transaction: Option<NonZeroU64>,
    /// Whether it committed that transaction.
    pub commits: bool,
    /// Whether nothing is lost by it: a checkpoint or an accepted loss covers it, or the bytes stand twice.
    pub harmless: bool,
}

impl Finding {
    /// Damage at one place, with nothing more known of it.
    #[inline(never)]
    pub(crate) fn rot(seen: Seen, object: Object, offset: u32) -> Self {
        Self {
            verdict: Verdict::Rot,
            seen,
            object,
            offset: offset.into(),
            len: 0,
            lsns: None,
            witness: None,
            in_transaction: None,
            transaction: None,
            commits: false,
            harmless: false,
        }
    }

    /// Whether the transaction that begins and commits at these LSNs may have lost an entry by it. Its begin says nothing that the
    /// others do not say: without it, the transaction is whole.
    #[must_use]
    pub fn tears(&self, begin: Lsn, commit: Lsn) -> bool {
        let is_within = self.lsns.is_some_and(|(first, last)| last > begin && first < commit);
        let is_of_another =
            self.in_transaction == Some(false) || self.transaction.is_some_and(|id| id.get() != begin.value());
        is_within && !is_of_another
    }

    /// Whether somebody who reads by this policy stops at it.
    pub(crate) fn stops(&self, policy: Policy) -> bool {
        !self.harmless && !policy.skips_damage()
    }

    /// The fault that it is for whoever does not pass over it.
    pub(crate) fn fault(&self) -> Fault {
        match self.seen {
            Seen::Unreadable => Fault::Unreadable { object: self.object, offset: self.offset },
            _ => Fault::Damaged(*self),
        }
    }

    /// This entry is sound, and does not count: its transaction was committed, and has lost another one.
    #[must_use]
    pub fn torn_transaction(entry: &Entry<'_>) -> Self {
        let mut finding = Self::rot(Seen::TornTransaction, Object::Segment(entry.segment), entry.offset);
        finding.len = entry.serialized_size() as u64;
        finding.lsns = Some((entry.lsn, entry.lsn));
        finding.in_transaction = Some(true);
        finding.transaction = entry.transaction.and_then(NonZeroU64::new);
        finding
    }

    /// The log was truncated below `low_water` as `says` says, and no checkpoint holds what went; `bad` is one that is
    /// not valid. What is lost up to `accepted` was given up.
    #[must_use]
    pub(crate) fn state_lost(says: Object, low_water: Lsn, bad: Option<CheckpointId>, accepted: Lsn) -> Self {
        let mut finding = Self::rot(Seen::StateLost, bad.map_or(says, Object::Checkpoint), 0);
        finding.lsns = Some((Lsn::FIRST, low_water.previous()));
        finding.witness = Some(match says {
            Object::Segment(segment) => Witness::LowWater { segment, low_water },
            Object::Checkpoint(_) | Object::Meta => Witness::MetaLowWater { low_water },
        });
        finding.harmless = low_water.previous() <= accepted;
        finding
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.seen, self.verdict) {
            (Seen::BadCheckpoint, Verdict::Unsupported) => f.write_str("a checkpoint of a newer version")?,
            (Seen::BadSegmentHeader, Verdict::Unreadable) => f.write_str("a segment whose header cannot be read")?,
            (seen, _) => seen.fmt(f)?,
        }
        write!(f, " in {} at offset {}", self.object, self.offset)?;
        if self.verdict == Verdict::Foreign {
            f.write_str(", for what stands there is of another log")?;
        }
        match self.lsns {
            Some((first, last)) if first == last => write!(f, ", {first}")?,
            Some((first, last)) => write!(f, ", {first} to {last}")?,
            None => {}
        }
        match self.witness {
            Some(witness) => write!(f, "; {witness}")?,
            None if self.verdict.is_torn_tail() => f.write_str("; nothing proves that it was durable")?,
            None => {}
        }
        Ok(())
    }
}

/// The tail that was cut off, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TornTail {
    /// [`Verdict::Unsynced`] or [`Verdict::Unproven`].
    pub verdict: Verdict,
    /// The segment.
    pub segment: SegmentId,
    /// Where it begins.
    pub offset: u32,
    /// Bytes up to the last that is not blank, as far as was searched.
    pub len: u32,
    /// Whole frames in it: behind a hole, or of a batch that was never finished.
    pub frames: u32,
}

/// What recovery found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Report {
    /// The log.
    #[cfg_attr(feature = "defmt", defmt(Display2Format))]
    pub log: Uuid,
    /// Its epoch.
    pub epoch: u64,
    /// The policy that was asked for.
    pub policy: Policy,
    /// The first LSN that truncation keeps.
    pub low_water: Lsn,
    /// The LSN of the last entry recovered.
    pub last: Lsn,
    /// The LSNs whose entries were verified, first and last; no more is claimed.
    pub verified: Option<(Lsn, Lsn)>,
    /// The highest LSN that surviving bytes or the caller prove to have been durable.
    pub durable: Lsn,
    /// Whether the log was closed, and all that it says was durable is there.
    pub closed: bool,
    /// The tail that was cut off, or would be.
    pub torn_tail: Option<TornTail>,
    /// Findings that lose something.
    pub damage: u32,
    /// The first of them.
    pub first_damage: Option<Finding>,
    /// Findings that lose nothing.
    pub harmless: u32,
    /// What is missing up to here was given up before.
    pub accepted_loss: Lsn,
    /// A segment that was being created when the writer stopped.
    pub unfinished: Option<SegmentId>,
    /// Entries that were copied into a new segment, because only a cache may have held them.
    pub repersisted: u64,
    /// The newest checkpoint whose header verifies.
    pub checkpoint: Option<(CheckpointId, Lsn)>,
    /// The newest checkpoint of a newer version of the format, and that version: nothing is written to such a log.
    pub unsupported: Option<(CheckpointId, u8)>,
}

impl Report {
    /// Of nothing: no log was seen yet.
    pub(crate) const fn nothing(policy: Policy) -> Self {
        Self {
            log: Uuid::nil(),
            epoch: 0,
            policy,
            low_water: Lsn::FIRST,
            last: Lsn::ZERO,
            verified: None,
            durable: Lsn::ZERO,
            closed: false,
            torn_tail: None,
            damage: 0,
            first_damage: None,
            harmless: 0,
            accepted_loss: Lsn::ZERO,
            unfinished: None,
            repersisted: 0,
            checkpoint: None,
            unsupported: None,
        }
    }

    /// Whether nothing was dropped and nothing is damaged.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.torn_tail.is_none() && self.damage == 0
    }

    /// Whether the policy allows to write on.
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        match self.policy {
            _ if self.unsupported.is_some() => false,
            Policy::Strict => self.is_clean(),
            Policy::Default => self.damage == 0,
            Policy::PointInTime | Policy::Salvage => true,
            Policy::Inspect => false,
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    fn finding(seen: Seen) -> Finding {
        Finding::rot(seen, Object::Segment(SegmentId::new(3)), 640)
    }

    #[test]
    fn each_verdict_has_a_word_of_its_own() {
        use Verdict::{Conflict, Foreign, Rot, Unproven, Unreadable, Unsupported, Unsynced};
        let all = [Unsynced, Unproven, Rot, Unreadable, Foreign, Conflict, Unsupported];
        let words = ["unsynced", "unproven", "rot", "unreadable", "foreign", "conflict", "unsupported"];
        assert_eq!(all.map(Verdict::name), words);
    }

    #[test]
    fn whether_a_log_is_written_on_after_a_torn_tail_or_damage_is_told_by_the_policy() {
        let torn =
            Some(TornTail { verdict: Verdict::Unproven, segment: SegmentId::new(1), offset: 256, len: 48, frames: 0 });
        for (policy, whole, tail, damaged) in [
            (Policy::Strict, true, false, false),
            (Policy::Default, true, true, false),
            (Policy::PointInTime, true, true, true),
            (Policy::Salvage, true, true, true),
            (Policy::Inspect, false, false, false),
        ] {
            let clean = Report::nothing(policy);
            let tail_only = Report { torn_tail: torn, ..clean.clone() };
            let rotten = Report { damage: 1, ..clean.clone() };
            let writable = [&clean, &tail_only, &rotten].map(Report::is_writable);
            assert_eq!(writable, [whole, tail, damaged], "{policy:?}");
            assert_eq!([&clean, &tail_only, &rotten].map(Report::is_clean), [true, false, false]);
            let newer = Report { unsupported: Some((CheckpointId::new(1), 2)), ..clean };
            assert!(!newer.is_writable(), "{policy:?}");
        }
    }

    #[test]
    fn a_finding_is_told_in_one_sentence_with_all_that_is_known_of_it() {
        let lsns = |first, last| Some((Lsn::new(first), Lsn::new(last)));
        let is_behind = Some(Witness::Successor(SegmentId::new(4)));
        for (verdict, lsns, witness, told) in [
            (Verdict::Rot, None, None, ""),
            (Verdict::Rot, lsns(7, 7), None, ", LSN(7)"),
            (Verdict::Rot, lsns(7, 9), None, ", LSN(7) to LSN(9)"),
            (Verdict::Rot, lsns(7, 7), is_behind, ", LSN(7); segment_0000000000000004.wal was begun behind it"),
            (Verdict::Foreign, None, None, ", for what stands there is of another log"),
            (Verdict::Unproven, None, None, "; nothing proves that it was durable"),
            (Verdict::Unsynced, lsns(7, 7), None, ", LSN(7); nothing proves that it was durable"),
        ] {
            let finding = Finding { verdict, lsns, witness, ..finding(Seen::BadEntry) };
            let place = "an entry whose checksum does not fit in segment_0000000000000003.wal at offset 640";
            assert_eq!(finding.to_string(), [place, told].concat());
        }
    }

    #[test]
    fn a_transaction_is_torn_by_what_is_gone_behind_its_begin_and_before_its_commit() {
        for (first, last, tears) in
            [(1, 3, false), (3, 3, false), (3, 4, true), (4, 8, true), (8, 8, true), (8, 12, true), (9, 12, false)]
        {
            let finding = Finding { lsns: Some((Lsn::new(first), Lsn::new(last))), ..finding(Seen::BadEntry) };
            assert_eq!(finding.tears(Lsn::new(3), Lsn::new(9)), tears, "{first} to {last}");
        }
        assert!(!finding(Seen::BadEntry).tears(Lsn::new(3), Lsn::new(9)), "nothing is gone");
    }

    #[test]
    fn bytes_that_cannot_be_read_are_no_damage_for_nothing_is_known_of_them() {
        let (unreadable, bad) = (finding(Seen::Unreadable), finding(Seen::BadEntry));
        assert_eq!(unreadable.fault(), Fault::Unreadable { object: unreadable.object, offset: 640 });
        assert_eq!(bad.fault(), Fault::Damaged(bad));
    }
}
