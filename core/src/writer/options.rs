//! What a writer is told about the log it writes, and which values fit together.

use core::fmt;

use crate::{
    checksum::{Update, portable},
    device::OldWriter,
    part::Part,
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
        }
    }
}

impl core::error::Error for InvalidOptions {}
