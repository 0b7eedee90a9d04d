//! Why a machine cannot go on.

use core::fmt;

use uuid::Uuid;

use crate::{
    Lsn,
    device::Object,
    part::Part,
    report::{Finding, Verdict},
    segment::SegmentId,
};

/// Why a machine cannot go on. What the medium's bytes say, in numbers; no text of it decides anything.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Fault {
    /// The scratch buffer is too small for a frame or header that has to be read whole, and did not grow.
    BufferTooSmall {
        /// Bytes that it would take.
        needed: usize,
    },
    /// The device holds no log.
    NoLog,
    /// There should be a log, and the device holds none, or one that ends before what the caller knows was durable.
    Lost {
        /// The LSN that the caller knows of.
        expected: Lsn,
    },
    /// Bytes that were durable no longer verify, or are missing.
    Damaged(Finding),
    /// The device could not read what was needed; nothing is known about it.
    Unreadable {
        /// The object.
        object: Object,
        /// Where in it.
        offset: u64,
    },
    /// A segment of another log stands where one of this log should.
    Foreign {
        /// That segment.
        segment: SegmentId,
        /// The log it belongs to.
        #[cfg_attr(feature = "defmt", defmt(Display2Format))]
        found: Uuid,
        /// The log that was expected.
        #[cfg_attr(feature = "defmt", defmt(Display2Format))]
        expected: Uuid,
    },
    /// A segment stands behind the log's end under a number that is not its own: it was renamed, or copied there. It may
    /// hold what the log lost.
    Misplaced {
        /// The number under which it stands.
        segment: SegmentId,
        /// The number that its header says.
        found: SegmentId,
        /// The log that its header says.
        #[cfg_attr(feature = "defmt", defmt(Display2Format))]
        log: Uuid,
    },
    /// A version, flag or frame that this crate does not know. It is not damage: a newer version wrote it.
    Unsupported {
        /// Where.
        object: Object,
        /// Where in it.
        offset: u64,
        /// The version of a header, or the code of a frame.
        number: u8,
    },
    /// The log needs what was left out of this build: a build with that part tells what it is. It is not damage by that
    /// alone, and nothing was written.
    LeftOut {
        /// What cannot be read, or is missing and cannot be mended.
        object: Object,
        /// What was left out.
        part: Part,
    },
    /// The medium has room for one more segment, and that is kept for a take-over: nothing was done.
    Full,
    /// More segments lie beside the chain than a writer ever leaves.
    TooManyDead,
    /// LSN, epoch or segment id would pass the highest number of 64 bits.
    Exhausted,
    /// The host ended a snapshot before it had given the ids and the metadata that it announced.
    SnapshotTooShort {
        /// Bytes that are missing.
        missing: u64,
    },
    /// The host broke a snapshot off: what was written of the checkpoint is none.
    SnapshotBrokenOff,
    /// What is asked for lies below the low-water mark: truncation gave it up.
    Truncated {
        /// The first LSN that is kept.
        low_water: Lsn,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferTooSmall { needed } => write!(f, "the scratch buffer is too small: {needed} bytes are needed"),
            Self::NoLog => f.write_str("there is no log here"),
            Self::Lost { expected } => {
                write!(f, "{expected} is known to have been durable, and the log does not hold it any more")
            }
            Self::Damaged(finding) => match finding.verdict {
                Verdict::Unsynced | Verdict::Unproven => write!(f, "refused: {finding}"),
                _ => write!(f, "damage: {finding}"),
            },
            Self::Unreadable { object, offset } => write!(f, "{object} cannot be read at offset {offset}"),
            Self::Foreign { segment, found, expected } => {
                write!(f, "{segment}.wal belongs to the log {found}, not to {expected}")
            }
            Self::Misplaced { segment, found, log } => {
                write!(f, "{segment}.wal is {found}.wal of the log {log}: give it that name back, or take it away")
            }
            Self::Unsupported { object, offset, number } => write!(
                f,
                "{object} holds at offset {offset} a version or type {number} that this version of duralog does not know; \
                 a newer one wrote it"
            ),
            Self::LeftOut { object, part } => {
                write!(
                    f,
                    "{object} takes a build of duralog-core with the feature `{part}`, which was left out of this one"
                )
            }
            Self::Full => f.write_str("the medium is full: truncate the log"),
            Self::TooManyDead => f.write_str("more segments lie beside the log than a writer ever leaves"),
            Self::Exhausted => f.write_str("no LSN, epoch or segment id is left"),
            Self::SnapshotTooShort { missing } => write!(f, "the snapshot ends {missing} bytes before it should"),
            Self::SnapshotBrokenOff => f.write_str("the snapshot broke off before its end: its source says why"),
            Self::Truncated { low_water } => write!(f, "the log was truncated: it begins at {low_water}"),
        }
    }
}

impl core::error::Error for Fault {}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;
    use crate::{CheckpointId, report::Seen};

    #[test]
    fn only_what_is_proved_is_called_damage() {
        let object = Object::Segment(SegmentId::new(3));
        for (verdict, called) in
            [(Verdict::Rot, "damage: "), (Verdict::Unproven, "refused: "), (Verdict::Unsynced, "refused: ")]
        {
            let finding = Finding { verdict, ..Finding::rot(Seen::End, object, 64) };
            let told = Fault::Damaged(finding).to_string();
            assert_eq!(told, std::format!("{called}{finding}"));
            assert!(told.contains("segment_0000000000000003") && told.contains("64"), "{told}");
        }
    }

    #[test]
    fn what_was_left_out_of_a_build_is_named_by_its_feature() {
        let object = Object::Checkpoint(CheckpointId::new(2));
        let parts = [(Part::Mending, "mending"), (Part::Metadata, "metadata"), (Part::Checkpoints, "checkpoints")];
        for (part, feature) in parts {
            let told = Fault::LeftOut { object, part }.to_string();
            assert!(told.contains(&std::format!("feature `{feature}`")), "{told}");
        }
    }
}
