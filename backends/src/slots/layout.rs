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
        align_up(self.retired_at().saturating_add(self.granule), self.granule.max(64))
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
        if ![128, 512, 4096].contains(&self.copy_offset) || self.copy_offset < self.granule {
            return Err(InvalidLayout::CopyOffset { granule: self.granule });
        }
        if ![0, 0xFF].contains(&self.blank) {
            return Err(InvalidLayout::Blank);
        }
        let erase_size = info.erase_size.max(1);
        let least = self.slot_size_min(erase_size);
        if self.slot_size < least
            || !self.slot_size.is_multiple_of(erase_size)
            || !self.slot_size.is_multiple_of(self.granule)
        {
            return Err(InvalidLayout::SlotSize { erase_size, least });
        }
        let most = usize::try_from(info.capacity / self.slot_size).unwrap_or(usize::MAX).min(table);
        if self.slots < SLOTS_MIN || usize::from(self.slots) > most {
            return Err(InvalidLayout::Slots { least: SLOTS_MIN.into(), most });
        }
        Ok(())
    }

    /// The least multiple of the erase size and of the granule that has room for a segment.
    fn slot_size_min(&self, erase_size: u32) -> u32 {
        let geometry = self.geometry();
        let asked = self.label_area() + geometry.overhead() + geometry.write_limit_min();
        let shared = erase_size.trailing_zeros().min(self.granule.trailing_zeros());
        let step = erase_size.saturating_mul(self.granule >> shared);
        asked.div_ceil(step).saturating_mul(step)
    }
}

/// A slot to write in, one to take over into, and one that truncation can free.
pub(super) const SLOTS_MIN: u16 = 3;
#[allow(clippy::cast_possible_truncation)] // 32.
const LABEL: u32 = LABEL_LEN as u32;

/// A granule that no layout may have asks for room that no slot has.
fn align_up(offset: u32, granule: u32) -> u32 {
    offset.checked_next_multiple_of(granule).unwrap_or(u32::MAX)
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
    /// The second copy of a header stands at none of 128, 512 and 4096, or below the granule.
    CopyOffset {
        /// The granule.
        granule: u32,
    },
    /// What erased room reads as is neither 0x00 nor 0xFF.
    Blank,
    /// A slot is no multiple of what the medium erases at once and of the granule, or has no room for a header, a batch
    /// and the marks.
    SlotSize {
        /// Bytes that the medium erases at once.
        erase_size: u32,
        /// The least that would do, in bytes.
        least: u32,
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
            Self::CopyOffset { granule } => {
                write!(f, "the second copy of a header must stand at 128, 512 or 4096, and not below {granule}")
            }
            Self::Blank => f.write_str("erased room must read as 0x00 or as 0xff"),
            Self::SlotSize { erase_size, least } => {
                write!(
                    f,
                    "a slot must be a multiple of {erase_size} bytes and of the granule, and have at least {least}"
                )
            }
            Self::Slots { least, most } if most < least => {
                write!(f, "a log takes at least {least} slots, and no more than {most} have room")
            }
            Self::Slots { least, most } => write!(f, "there must be {least} to {most} slots"),
        }
    }
}

impl core::error::Error for InvalidLayout {}

#[cfg(test)]
mod tests {
    use duralog_core::WriterOptions;

    use super::*;

    const INFO: Info = Info { capacity: 1 << 20, write_size: 8, erase_size: 1024, is_flash: true, is_settled: true };

    #[test]
    fn what_a_layout_may_not_have_is_named_with_what_it_may() {
        let layout = Layout::new(INFO, 4096);
        assert_eq!(layout.validate(INFO, 256), Ok(()));
        let granule_of = |granule| Layout { granule, ..layout };
        let slots = InvalidLayout::Slots { least: 3, most: 256 };
        let size = InvalidLayout::SlotSize { erase_size: 1024, least: 2048 };
        for (layout, refused, text) in [
            (granule_of(4), InvalidLayout::Granule { write_size: 8 }, "a power of two up to 4096 and a multiple of 8"),
            (
                Layout { copy_offset: 256, ..layout },
                InvalidLayout::CopyOffset { granule: 8 },
                "the second copy of a header must stand at 128, 512 or 4096, and not below 8",
            ),
            (granule_of(256), InvalidLayout::CopyOffset { granule: 256 }, "and not below 256"),
            (Layout { blank: 1, ..layout }, InvalidLayout::Blank, "erased room must read as 0x00 or as 0xff"),
            (Layout { slot_size: 1024, ..layout }, size, "of 1024 bytes and of the granule, and have at least 2048"),
            (Layout { slot_size: 4100, ..layout }, size, "and have at least 2048"),
            (Layout { slots: 2, ..layout }, slots, "there must be 3 to 256 slots"),
            (Layout { slots: 257, ..layout }, slots, "there must be 3 to 256 slots"),
        ] {
            assert_eq!(layout.validate(INFO, 999), Err(refused), "{layout:?}");
            assert!(refused.to_string().contains(text), "{refused}");
        }
    }

    #[test]
    fn extreme_layouts_are_refused_without_an_overflow_and_what_is_accepted_has_room_for_a_log() {
        let (mut accepted, mut told) = (0, 0);
        for write_size in [0, 1, 3, 8, 512, 4096, u32::MAX] {
            for erase_size in [0, 1, 3, 1000, 4096, 1 << 31, u32::MAX] {
                for capacity in [0, 4096, 1 << 20, u32::MAX] {
                    let info = Info { capacity, write_size, erase_size, ..INFO };
                    for granule in [0, 1, 3, 8, 512, 4096, 8192, 1 << 31, u32::MAX] {
                        for copy_offset in [0, 127, 128, 512, 4096, 8192, u32::MAX] {
                            for slot_size in [0, 1, 64, 1640, 2048, 65_536, 300_000, 1 << 30, u32::MAX - 4095, u32::MAX]
                            {
                                for slots in [0, 2, 3, u16::MAX] {
                                    let layout = Layout { slots, granule, copy_offset, ..Layout::new(info, slot_size) };
                                    assert!(layout.room() <= slot_size);
                                    match layout.validate(info, 70_000) {
                                        Ok(()) => {
                                            accepted += 1;
                                            let options = WriterOptions::new(layout.geometry());
                                            assert_eq!(options.validate(), Ok(()), "{layout:?}");
                                            assert!(u64::from(slot_size) * u64::from(slots) <= u64::from(capacity));
                                        }
                                        Err(InvalidLayout::SlotSize { least, .. }) if least < 1 << 30 => {
                                            told += 1;
                                            let larger = Layout { slot_size: least, ..layout }.validate(info, 70_000);
                                            assert!(matches!(larger, Ok(()) | Err(InvalidLayout::Slots { .. })));
                                            let smaller = least - erase_size.max(1).max(granule).min(least);
                                            let smaller = Layout { slot_size: smaller, ..layout };
                                            assert!(matches!(
                                                smaller.validate(info, 70_000),
                                                Err(InvalidLayout::SlotSize { .. })
                                            ));
                                        }
                                        Err(_) => {}
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        assert!(accepted > 100 && told > 1000, "{accepted} are accepted, of {told} the least size is told");
    }
}
