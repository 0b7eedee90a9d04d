//! An image of a medium in memory, for reading: what a programmer read out of a device's flash.

use core::fmt;
use std::sync::Arc;

use duralog_core::Object;

use super::{
    OpenSlotsError, SlotError, Slots,
    label::{LABEL_LEN, Label},
    layout::Layout,
    medium::{Info, Medium},
    table::Slot,
};
use crate::device::SharedDevice;

/// Labels stand at multiples of this from the beginning of an image, wherever in it the log's slots begin.
const STEP: usize = 256;

/// The bytes of an image from where its slots begin; they can be read, not written.
#[derive(Clone, Debug)]
pub struct Image {
    bytes: Arc<[u8]>,
    from: usize,
    info: Info,
}

/// Why an image does not do what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageError {
    /// It holds no label of a slot.
    NoSlots,
    /// An image is for reading.
    ReadOnly,
    /// The bytes asked for are not in it.
    Beyond,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSlots => "there is no slot of a log in it",
            Self::ReadOnly => "an image is for reading",
            Self::Beyond => "the image ends before it should",
        })
    }
}

/// A log's device on an image.
pub type ImageDevice = Slots<Image, Vec<Slot>>;

impl ImageDevice {
    /// The device on an image, divided as the labels in it say.
    ///
    /// # Errors
    /// [`OpenSlotsError::Medium`] with [`ImageError::NoSlots`], and as [`Slots::open`].
    pub fn of_image(bytes: impl Into<Arc<[u8]>>) -> Result<Self, OpenSlotsError<ImageError>> {
        let bytes: Arc<[u8]> = bytes.into();
        let heads =
            (0..bytes.len()).step_by(STEP).filter_map(|at| Some((at, bytes.get(at..)?.first_chunk::<LABEL_LEN>()?)));
        let found = heads.filter_map(|(at, head)| Some((at, Label::decode(head)?))).find_map(|(at, label)| {
            let before = (label.slot_size as usize).checked_mul(label.index.into())?;
            Some((at.checked_sub(before)?, label))
        });
        let (from, label) = found.ok_or(OpenSlotsError::Medium(ImageError::NoSlots))?;
        let capacity = u32::try_from(bytes.len() - from).unwrap_or(u32::MAX);
        let info =
            Info { capacity, write_size: label.granule, erase_size: label.granule, is_flash: false, is_settled: true };
        let layout = Layout { blank: label.blank, granule: label.granule, ..Layout::new(info, label.slot_size) };
        let table = vec![Slot::default(); layout.slots.into()];
        Self::open(Image { bytes, from, info }, layout, table)
    }
}

impl Medium for Image {
    type Error = ImageError;

    fn info(&self) -> Info {
        self.info
    }

    fn read(&mut self, at: u32, buf: &mut [u8]) -> Result<(), ImageError> {
        let from = self.from + at as usize;
        let bytes = self.bytes.get(from..from + buf.len()).ok_or(ImageError::Beyond)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn write(&mut self, _: u32, _: &[u8]) -> Result<(), ImageError> {
        Err(ImageError::ReadOnly)
    }

    fn erase(&mut self, _: u32, _: u32, _: u8) -> Result<(), ImageError> {
        Err(ImageError::ReadOnly)
    }

    fn flush(&mut self) -> Result<(), ImageError> {
        Ok(())
    }
}

impl SharedDevice for ImageDevice {
    fn reader(&self) -> Result<Self, SlotError<ImageError>> {
        let layout = *self.layout();
        let table = vec![Slot::default(); layout.slots.into()];
        Self::open(self.medium().clone(), layout, table).map_err(|error| match error {
            OpenSlotsError::Medium(error) => SlotError::Medium(error),
            // It was opened before, and does not change.
            _ => SlotError::Medium(ImageError::NoSlots),
        })
    }

    fn len(&mut self, object: Object) -> Result<u64, SlotError<ImageError>> {
        Ok(self.room_of(object))
    }
}
