//! How a medium is divided into slots.

use core::fmt;

use duralog_core::Geometry;

use super::{label::LABEL_LEN, medium::Info};

/// How a medium is divided: into slots of one size, each with the label area at its head and an object, or a part of
/// one, behind it.
///
/// ```text
/// | slot 0                                   | slot 1            | ... | slot n-1          |
/// | label | retired |   the object           | label | ...       |     |                   |
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Layout {
    /// Bytes of a slot, its label area included; a multiple of the medium's erase size.
    pub slot_size: u32,
    /// How many slots there are: at least 3.
    pub slots: u16,
    /// The write granule: a torn write harms no byte outside. A power of two, a multiple of the medium's write size.
    pub granule: u32,
    /// What erased room reads as: 0x00 or 0xFF.
    pub blank: u8,
    /// Where the second copy of a segment's header stands: 128, 512 or 4096, and not less than the granule.
    pub copy_offset: u32,
    /// Whether what a read returns is on the medium for good: true of flash, false where a cache lies between that may
    /// forget what it shows.
    pub settled: bool,
    /// Whether what was erased or written is read back: a worn-out word is then found before anything relies on it.
    pub verify: bool,
}

impl Layout {
    /// The whole medium in slots of `slot_size` bytes, and as its write and erase sizes ask for. Erased flash reads as 0xFF;
    /// other media are written blank with zeros.
    #[must_use]
    pub fn new(info: Info, slot_size: u32) -> Self {
        let granule = info.write_size.max(1);
        let copy_offset = [128, 512].into_iter().find(|offset| granule <= *offset).unwrap_or(4096);
        Self {
            slot_size,
            slots: u16::try_from(info.capacity.checked_div(slot_size).unwrap_or(0)).unwrap_or(u16::MAX),
            granule,
            blank: if info.is_flash { 0xFF } else { 0 },
            copy_offset,
            settled: info.is_settled,
            verify: info.is_flash,
        }
    }

    /// Where the mark of a slot that was given up stands.
    pub(crate) fn retired_at(&self) -> u32 {
        align_up(LABEL, self.granule)
    }

    /// Bytes at the head of a slot that are erased before the others: the label, and of the mark behind it as little as may be.
    pub(crate) fn erased_first(&self, erase_size: u32) -> u32 {
        self.retired_at().div_ceil(erase_size.max(1)).saturating_mul(erase_size.max(1)).min(self.slot_size)
    }

    /// Where the object begins.
    #[must_use]
    pub fn label_area(&self) -> u32 {
        align_up(self.retired_at() + self.granule, self.granule.max(64))
    }

    /// Bytes of a slot that are its object's.
    #[must_use]
    pub fn room(&self) -> u32 {
        self.slot_size.saturating_sub(self.label_area())
    }

    /// What the core is told of the medium. By it [`LogOptions::buffer_min`](duralog_core::LogOptions::buffer_min) tells
    /// how large a log's buffer has to be.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        Geometry {
            segment_size: self.room(),
            granule: self.granule,
            copy_offset: self.copy_offset,
            blank: self.blank,
            settled: self.settled,
            slots: Some(self.slots.into()),
        }
    }

    /// Whether the medium can be divided like this, with a table for so many slots.
    pub(crate) fn validate(&self, info: Info, table: usize) -> Result<(), InvalidLayout> {
        let write_size = info.write_size.max(1);
        if !self.granule.is_power_of_two() || self.granule > 4096 || !self.granule.is_multiple_of(write_size) {
            return Err(InvalidLayout::Granule { write_size });
        }
        if self.slot_size == 0
            || !self.slot_size.is_multiple_of(info.erase_size.max(1))
            || !self.slot_size.is_multiple_of(self.granule)
            || self.geometry().write_limit_max() < 256
        {
            return Err(InvalidLayout::SlotSize { erase_size: info.erase_size });
        }
        let most = usize::try_from(info.capacity / self.slot_size).unwrap_or(usize::MAX).min(table);
        if usize::from(self.slots) < SLOTS_MIN || usize::from(self.slots) > most {
            return Err(InvalidLayout::Slots { least: SLOTS_MIN, most });
        }
        Ok(())
    }
}

/// A slot to write in, one to take over into, and one that truncation can free.
const SLOTS_MIN: usize = 3;
#[allow(clippy::cast_possible_truncation)] // 32.
const LABEL: u32 = LABEL_LEN as u32;

fn align_up(offset: u32, granule: u32) -> u32 {
    offset.next_multiple_of(granule)
}

/// A medium cannot be divided like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum InvalidLayout {
    /// The granule is no power of two up to 4096, or no multiple of what the medium writes at once.
    Granule {
        /// Bytes that the medium writes at once.
        write_size: u32,
    },
    /// A slot is no multiple of what the medium erases at once, or has no room for a header, a batch and the marks.
    SlotSize {
        /// Bytes that the medium erases at once.
        erase_size: u32,
    },
    /// There are too few slots to write a log in, or more than the medium or the table has.
    Slots {
        /// The least that would do.
        least: usize,
        /// The most that would do.
        most: usize,
    },
}

impl fmt::Display for InvalidLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granule { write_size } => {
                write!(f, "the granule must be a power of two up to 4096 and a multiple of {write_size} bytes")
            }
            Self::SlotSize { erase_size } => {
                write!(f, "a slot must be a multiple of {erase_size} bytes, and have room for a header and a batch")
            }
            Self::Slots { least, most } if most < least => {
                write!(f, "a log takes at least {least} slots, and no more than {most} have room")
            }
            Self::Slots { least, most } => write!(f, "there must be {least} to {most} slots"),
        }
    }
}

impl core::error::Error for InvalidLayout {}
