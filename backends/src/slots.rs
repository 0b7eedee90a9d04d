//! Media without names: flash, block devices, and streams of bytes, divided into slots (`FORMAT.md`, section 8).
//!
//! ```text
//! | label | retired | a segment, or a part of a checkpoint                  |   one slot
//! |  0    |  1     |  2     | ... |  n-1 |  0 ...                              the ring: each is erased when its turn comes
//! ```
//!
//! [`Slots`] is the blocking device, [`AsyncSlots`] the awaited one. Below them lies a [`Medium`]: [`Nor`] is NOR flash behind
//! the traits of `embedded-storage`, [`Sectors`] a block device, [`Stream`] anything of `embedded-io`.
//! Nothing here needs the standard library or an allocator.

mod async_device;
#[cfg(feature = "faulty")]
pub mod chip;
mod device;
#[cfg(feature = "std")]
mod division;
#[cfg(feature = "std")]
mod image;
mod label;
mod layout;
mod medium;
#[cfg(any(feature = "nor", feature = "nor-async"))]
mod nor;
mod sectors;
#[cfg(any(feature = "embedded-io", feature = "embedded-io-async"))]
mod stream;
mod table;

use core::fmt;

use duralog_core::{DeviceError, ErrorKind, Object};

pub use async_device::AsyncSlots;
pub use device::Slots;
#[cfg(feature = "std")]
pub use division::ImageGeometry;
#[cfg(feature = "std")]
pub use image::{CutOff, Image, ImageDevice, ImageError, OtherSlots};
pub use label::{LABEL_LEN, LABEL_MAGIC, LABEL_VERSION};
pub use layout::{InvalidLayout, Layout};
pub use medium::{AsyncMedium, Info, Medium};
#[cfg(any(feature = "nor", feature = "nor-async"))]
pub use nor::Nor;
pub use sectors::{AsyncBlockDevice, BlockDevice, SECTOR, Sectors};
#[cfg(any(feature = "embedded-io", feature = "embedded-io-async"))]
pub use stream::{Stream, StreamError};
pub use table::Slot;

/// What goes wrong on slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SlotError<E> {
    /// No slot is free that can be erased and labelled: truncate the log. [`Slots::worn_slots`] tells how many are worn.
    Full,
    /// The object is there already, made by another writer.
    Exists {
        /// Which one.
        object: Object,
    },
    /// There is no such object.
    Missing {
        /// Which one.
        object: Object,
    },
    /// A segment does not fit into a slot: it is of another medium.
    TooLarge {
        /// Bytes that it would take.
        size: u64,
        /// Bytes that there are.
        room: u32,
    },
    /// What was written, or erased, does not read back: the slot is worn out.
    Verify {
        /// Where on the medium.
        at: u32,
    },
    /// The medium's own error.
    Medium(E),
}

impl<E: fmt::Debug> fmt::Display for SlotError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("no slot is free: truncate the log"),
            Self::Exists { object } => write!(f, "{object} is there already, made by another writer"),
            Self::Missing { object } => write!(f, "there is no {object}"),
            Self::TooLarge { size, room } => write!(f, "a segment of {size} bytes does not fit into a slot of {room}"),
            Self::Verify { at } => write!(f, "what was written at {at} does not read back"),
            Self::Medium(error) => write!(f, "the medium failed: {error:?}"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for SlotError<E> {}

impl<E: fmt::Debug> DeviceError for SlotError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Full => ErrorKind::NoSpace,
            Self::Exists { .. } => ErrorKind::Fenced,
            Self::Missing { .. } => ErrorKind::Gone,
            Self::TooLarge { .. } | Self::Verify { .. } | Self::Medium(_) => ErrorKind::Other,
        }
    }
}

/// Why a medium was not opened, or not formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum OpenSlotsError<E> {
    /// It cannot be divided like this.
    Layout(InvalidLayout),
    /// It is blank throughout: it was never formatted.
    Blank,
    /// A formatting was interrupted: nothing on the medium counts, and formatting it again loses nothing.
    Unfinished,
    /// It holds something, and no log.
    Foreign,
    /// There is no label, and there are remains of a log: an erase was interrupted, or the labels are damaged. Whoever
    /// formats it gives that up.
    HalfErased,
    /// It was formatted by a newer version: use that one.
    Newer {
        /// The version of its labels.
        version: u8,
    },
    /// It was formatted with this layout from another place: there is a log, and it begins elsewhere.
    Moved {
        /// The number of a slot, counted from where the medium begins now.
        slot: u16,
        /// The number that the label of this slot says.
        index: u16,
    },
    /// It was formatted with another layout.
    OtherLayout {
        /// How many slots there are there; `None` where only an image's headers tell.
        slots: Option<u16>,
        /// Bytes of a slot there.
        slot_size: u32,
        /// The write granule there.
        granule: u32,
        /// What erased room reads as there.
        blank: u8,
    },
    /// A slot could not be used.
    Slot(SlotError<E>),
    /// The medium's own error.
    Medium(E),
}

impl<E> OpenSlotsError<E> {
    fn other(label: &label::Label) -> Self {
        let label::Label { slots, slot_size, granule, blank, .. } = *label;
        Self::OtherLayout { slots: Some(slots), slot_size, granule, blank }
    }
}

impl<E: fmt::Debug> fmt::Display for OpenSlotsError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout(invalid) => invalid.fmt(f),
            Self::Blank => f.write_str("the medium is blank: format it"),
            Self::Foreign => f.write_str("the medium holds something that is no log: formatting it would erase that"),
            Self::Unfinished => {
                f.write_str("the formatting of the medium was interrupted: format it again, which loses nothing")
            }
            Self::HalfErased => {
                f.write_str("the medium holds remains of a log and no label: formatting it would give them up")
            }
            Self::Newer { version } => {
                write!(f, "the medium was formatted by a newer version, with labels of version {version}: use that one")
            }
            Self::Moved { slot, index } => write!(
                f,
                "slot {slot} is labelled as slot {index}: check where the medium begins, it was formatted from elsewhere"
            ),
            Self::OtherLayout { slots, slot_size, granule, blank } => {
                f.write_str("the medium was formatted with ")?;
                if let Some(slots) = slots {
                    write!(f, "{slots} ")?;
                }
                write!(f, "slots of {slot_size} bytes, a granule of {granule} and the blank byte {blank:#04x}")
            }
            Self::Slot(error) => error.fmt(f),
            Self::Medium(error) => write!(f, "the medium failed: {error:?}"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for OpenSlotsError<E> {}
