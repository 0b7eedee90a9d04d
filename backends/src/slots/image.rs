//! An image of a medium in memory, for reading: what a programmer read out of a device's flash.

use core::fmt;
use std::sync::Arc;

use duralog_core::Object;

use super::{
    OpenSlotsError, SlotError, Slots,
    division::{self, Division, ImageGeometry},
    layout::InvalidLayout,
    medium::{Info, Medium},
    table::Slot,
};
use crate::device::SharedDevice;

/// The largest granule.
const GRANULE_MAX: u32 = 4096;

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
    /// The device on an image, divided as the labels in it say; where it has none that is whole, as the headers of the
    /// segments do.
    ///
    /// # Errors
    /// [`OpenSlotsError::Medium`] with [`ImageError::NoSlots`], and as [`Slots::open`].
    pub fn of_image(bytes: impl Into<Arc<[u8]>>) -> Result<Self, OpenSlotsError<ImageError>> {
        Self::of_image_with(bytes, ImageGeometry::default())
    }

    /// The device on an image of which something is known from elsewhere: what the image says otherwise does not count.
    ///
    /// A slot whose label is ruined is read too where the header of what it holds is not. Where nothing in the image says
    /// anything, both sizes are needed, and its first byte is the first slot's. What a slot held of which both label and
    /// header are ruined cannot be told: the checksums of its frames begin from what the header said.
    ///
    /// # Errors
    /// [`OpenSlotsError::Layout`]: such sizes cannot be, or the image has no room for so large slots.
    /// [`OpenSlotsError::OtherLayout`]: the image was divided otherwise, and so. [`OpenSlotsError::Medium`] with
    /// [`ImageError::NoSlots`]: there is no slot in it, or none of these sizes.
    pub fn of_image_with(
        bytes: impl Into<Arc<[u8]>>,
        known: ImageGeometry,
    ) -> Result<Self, OpenSlotsError<ImageError>> {
        let mut bytes: Arc<[u8]> = bytes.into();
        if known.write_size.is_some_and(|size| !size.is_power_of_two() || size > GRANULE_MAX) {
            return Err(OpenSlotsError::Layout(InvalidLayout::Granule { write_size: 1 }));
        }
        let Some((division, ruined)) = division::find(&bytes, known) else { return Err(otherwise(&bytes)) };
        for (at, label) in &ruined {
            division::put_back(Arc::make_mut(&mut bytes), *at, label);
        }
        let (info, layout) = division.layout(bytes.len());
        let table = vec![Slot::default(); layout.slots.into()];
        let image = Image { bytes, from: division.from, info };
        let read = Arc::clone(&image.bytes);
        Self::open(image, layout, table).map_err(|error| match error {
            OpenSlotsError::Blank | OpenSlotsError::Foreign => otherwise(&read),
            error => error,
        })
    }
}

/// Why an image has no slots of the sizes asked for: it has others, or none.
fn otherwise(bytes: &[u8]) -> OpenSlotsError<ImageError> {
    match division::said(bytes) {
        Some(Division { slot_size, granule, blank, .. }) => OpenSlotsError::OtherLayout { slot_size, granule, blank },
        None => OpenSlotsError::Medium(ImageError::NoSlots),
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
