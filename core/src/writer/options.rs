//! What a writer is told about the log it writes, and which values fit together.

use core::fmt;

use crate::{
    checksum::{Update, portable},
    device::OldWriter,
    part::Part,
    recovery::CHECKPOINTS_MAX,
    segment::{Geometry, SegmentHeader, TRANSACTIONS_MAX},
};

/// What a writer is told about the log it writes.
#[derive(Clone, Copy, Debug)]
pub struct WriterOptions {
    /// What the medium is like.
    pub geometry: Geometry,
    /// Never more bytes than this are written beyond the last sync, and no batch is longer; see
    /// [`Geometry::write_limit_max`].
    pub write_limit: u32,
    /// The most transactions open at once, 1 to 16.
    pub max_transactions: u8,
    /// Whether each append is acknowledged as durable before a mark proves it: recovery calls a torn tail of such a log
    /// unproven.
    pub immediate: bool,
    /// Whether whoever wrote to the medium before may still do so: what the device says.
    pub old_writer: OldWriter,
    /// The implementation of CRC-32C.
    pub checksum: Update,
}

impl WriterOptions {
    /// The usual options for this medium: a write limit of a quarter of a segment.
    #[must_use]
    pub fn new(geometry: Geometry) -> Self {
        let quarter = (geometry.segment_size / 4) & !(geometry.granule - 1);
        Self {
            geometry,
            write_limit: quarter.max(geometry.write_limit_min()).min(geometry.write_limit_max()),
            max_transactions: 8,
            immediate: false,
            old_writer: OldWriter::MayWrite,
            checksum: portable,
        }
    }

    /// Whether the values fit together.
    ///
    /// # Errors
    /// [`InvalidOptions`] names the first value that does not.
    pub fn validate(&self) -> Result<(), InvalidOptions> {
        let geometry = &self.geometry;
        if !geometry.granule.is_power_of_two() || geometry.granule > 4096 {
            return Err(InvalidOptions::Granule);
        }
        if ![128, 512, 4096].contains(&geometry.copy_offset) || geometry.copy_offset < geometry.granule {
            return Err(InvalidOptions::CopyOffset);
        }
        if geometry.segment_size > SegmentHeader::SIZE_MAX
            || geometry.write_limit_max() < geometry.write_limit_min()
            || !geometry.segment_size.is_multiple_of(geometry.granule)
        {
            let least = geometry.overhead() + geometry.write_limit_min();
            return Err(InvalidOptions::SegmentSize { least, most: SegmentHeader::SIZE_MAX });
        }
        let (least, most) = (geometry.write_limit_min(), geometry.write_limit_max());
        if !(least..=most).contains(&self.write_limit) {
            return Err(InvalidOptions::WriteLimit { least, most });
        }
        if !(1..=TRANSACTIONS_MAX).contains(&usize::from(self.max_transactions)) {
            return Err(InvalidOptions::MaxTransactions);
        }
        Ok(())
    }
}

/// A value of the options that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum InvalidOptions {
    /// The granule is no power of two from 1 to 4096.
    Granule,
    /// The copy offset is none of 128, 512 and 4096, or less than the granule.
    CopyOffset,
    /// A segment has no room for a header, a batch and the marks, is too large, or is no multiple of the granule.
    SegmentSize {
        /// The least that would do, in bytes.
        least: u32,
        /// The most that would do, in bytes.
        most: u32,
    },
    /// The write limit does not fit the segment.
    WriteLimit {
        /// The least that would do, in bytes.
        least: u32,
        /// The most that would do, in bytes.
        most: u32,
    },
    /// The most open transactions are not 1 to 16.
    MaxTransactions,
    /// The checkpoints that are kept are not 1 to [`CHECKPOINTS_MAX`].
    CheckpointsKept,
    /// The log that is to be made is not the one that has to be there.
    OtherLog,
    /// They ask for what was left out of this build.
    LeftOut(Part),
}

impl fmt::Display for InvalidOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granule => f.write_str("the granule must be a power of two from 1 to 4096"),
            Self::CopyOffset => f.write_str("the copy offset must be 128, 512 or 4096 and not less than the granule"),
            Self::SegmentSize { least, most } => {
                write!(f, "the segment size must be {least} to {most} bytes and a multiple of the granule")
            }
            Self::WriteLimit { least, most } => write!(f, "the write limit must be {least} to {most} bytes"),
            Self::LeftOut(part) => write!(f, "the feature `{part}` of duralog-core was left out of this build"),
            Self::MaxTransactions => f.write_str("the most open transactions must be 1 to 16"),
            Self::CheckpointsKept => write!(f, "the checkpoints kept must be 1 to {CHECKPOINTS_MAX}"),
            Self::OtherLog => f.write_str("the log to be made is not the one that the options expect"),
        }
    }
}

impl core::error::Error for InvalidOptions {}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    const GEOMETRY: Geometry =
        Geometry { segment_size: 5008, granule: 16, copy_offset: 512, blank: 0xFF, settled: false, slots: None };

    /// What is said of a geometry, with the least write limit it has.
    fn said(geometry: Geometry) -> Result<(), InvalidOptions> {
        let write_limit = geometry.write_limit_min();
        WriterOptions { geometry, write_limit, ..WriterOptions::new(GEOMETRY) }.validate()
    }

    #[test]
    fn a_granule_is_a_power_of_two_up_to_4096() {
        let of = |granule| said(Geometry { granule, copy_offset: 4096, segment_size: 1 << 20, ..GEOMETRY });
        for granule in [1, 2, 512, 4096] {
            assert_eq!(of(granule), Ok(()), "{granule}");
        }
        for granule in [0, 3, 24, 4097, 8192] {
            let options = WriterOptions {
                geometry: Geometry { granule, copy_offset: 4096, ..GEOMETRY },
                ..WriterOptions::new(GEOMETRY)
            };
            assert_eq!(options.validate(), Err(InvalidOptions::Granule), "{granule}");
        }
    }

    #[test]
    fn the_second_header_stands_at_one_of_three_places_behind_the_first() {
        let of = |granule, copy_offset| said(Geometry { granule, copy_offset, segment_size: 1 << 20, ..GEOMETRY });
        for (granule, copy_offset) in [(1, 128), (128, 128), (16, 512), (512, 512), (4096, 4096)] {
            assert_eq!(of(granule, copy_offset), Ok(()), "{granule}, {copy_offset}");
        }
        for (granule, copy_offset) in [(1, 0), (1, 127), (1, 256), (256, 128), (1024, 512), (16, 8192)] {
            assert_eq!(of(granule, copy_offset), Err(InvalidOptions::CopyOffset), "{granule}, {copy_offset}");
        }
    }

    #[test]
    fn a_segment_has_room_for_the_least_batch_and_is_whole_granules() {
        let of = |segment_size| said(Geometry { segment_size, ..GEOMETRY });
        let least = GEOMETRY.overhead() + GEOMETRY.write_limit_min();
        let most = SegmentHeader::SIZE_MAX;
        let refused = InvalidOptions::SegmentSize { least, most };
        for size in [least.next_multiple_of(16), 1 << 20, most / 16 * 16] {
            assert_eq!(of(size), Ok(()), "{size}");
        }
        for size in [0, 16, least - 16, least.next_multiple_of(16) + 1, most / 16 * 16 + 16] {
            assert_eq!(of(size), Err(refused), "{size}");
        }
        let told = refused.to_string();
        assert!(told.contains(&std::format!("{least} to {most} bytes")), "{told}");
    }

    #[test]
    fn a_write_limit_fits_the_segment_and_is_a_quarter_of_it_unless_told() {
        let usual = WriterOptions::new(GEOMETRY);
        assert_eq!((usual.write_limit, usual.validate()), (1248, Ok(())), "a quarter, in whole granules");
        let (least, most) = (GEOMETRY.write_limit_min(), GEOMETRY.write_limit_max());
        assert!(least < 1248 && 1248 < most, "{least} to {most}");
        let of = |write_limit| WriterOptions { write_limit, ..usual }.validate();
        for limit in [least, most] {
            assert_eq!(of(limit), Ok(()), "{limit}");
        }
        for limit in [0, least - 1, most + 1] {
            assert_eq!(of(limit), Err(InvalidOptions::WriteLimit { least, most }), "{limit}");
        }
        // Of a small segment a quarter would be too little.
        let small = Geometry { segment_size: (GEOMETRY.overhead() + least).next_multiple_of(16), ..GEOMETRY };
        assert_eq!(WriterOptions::new(small).write_limit, small.write_limit_min());
        let told = of(0).unwrap_err().to_string();
        assert!(told.contains(&std::format!("{least} to {most} bytes")), "{told}");
    }

    #[test]
    fn one_to_sixteen_transactions_are_open_at_most() {
        let of = |max_transactions| WriterOptions { max_transactions, ..WriterOptions::new(GEOMETRY) }.validate();
        for most in [1, 8, 16] {
            assert_eq!(of(most), Ok(()), "{most}");
        }
        for most in [0, 17, u8::MAX] {
            assert_eq!(of(most), Err(InvalidOptions::MaxTransactions), "{most}");
        }
    }
}
