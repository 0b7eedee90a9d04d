//! An image of a medium in memory, for reading: what a programmer read out of a device's flash.

use core::fmt;
use std::sync::Arc;

use duralog_core::{Device as _, Object};

use super::{
    OpenSlotsError, SlotError, Slots,
    division::{self, Division, ImageGeometry},
    label::{LABEL_LEN, LABEL_MAGIC, Label, Use},
    layout::{InvalidLayout, Layout},
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
    blank: u8,
    missing: Option<Missing>,
    /// Whole slots that are missing behind its end.
    slots_missing: u16,
    others: Arc<[OtherSlots]>,
}

/// Slots of another log in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherSlots {
    /// The byte of the image at which they begin.
    pub from: u64,
    /// How many there are.
    pub slots: u16,
    /// Bytes of each.
    pub slot_size: u32,
}

/// What an image lacks of the slot within which it ends.
#[derive(Clone, Copy, Debug)]
struct Missing {
    /// The label; `None` where the image ends within it.
    label: Option<Label>,
    /// Where what the slot holds begins, where it is missing from, and where it ends.
    held: u32,
    from: u32,
    to: u32,
}

/// Where an image ends before the slots do, or within one that a log uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutOff {
    /// Bytes of the image.
    pub len: u64,
    /// Bytes that are missing of the slot within which it ends; 0 where that one is whole, or of no use.
    pub missing: u32,
    /// What that slot holds, and from which byte on it is missing; `None` where the image ends within the label, or with
    /// a slot.
    pub object: Option<(Object, u64)>,
    /// Whole slots that are missing behind.
    pub slots: u16,
}

/// Why an image does not do what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageError {
    /// It holds no label of a slot.
    NoSlots,
    /// All its bytes are blank.
    Blank,
    /// It is shorter than the label of a slot.
    Short,
    /// An image is for reading.
    ReadOnly,
    /// The bytes asked for are not in it: it ends within a slot.
    Beyond,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSlots => "there is no slot of a log in it",
            Self::Blank => "the image is blank throughout",
            Self::Short => "the image is shorter than the label of a slot",
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
    /// One that ends within a slot is read as far as it goes: [`cut_off`](Self::cut_off) tells.
    ///
    /// # Errors
    /// [`OpenSlotsError::Medium`] with [`ImageError::NoSlots`], [`ImageError::Blank`] or [`ImageError::Short`], and as
    /// [`Slots::open`].
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
    /// [`OpenSlotsError::Layout`]: such sizes cannot be. [`OpenSlotsError::OtherLayout`]: the image was divided
    /// otherwise, and so. [`OpenSlotsError::Medium`] with [`ImageError::NoSlots`], [`ImageError::Blank`] or
    /// [`ImageError::Short`]: there is no slot in it, or none of these sizes.
    pub fn of_image_with(
        bytes: impl Into<Arc<[u8]>>,
        known: ImageGeometry,
    ) -> Result<Self, OpenSlotsError<ImageError>> {
        let mut bytes: Arc<[u8]> = bytes.into();
        if known.write_size.is_some_and(|size| !size.is_power_of_two() || size > GRANULE_MAX) {
            return Err(OpenSlotsError::Layout(InvalidLayout::Granule { write_size: 1 }));
        }
        if bytes.len() < LABEL_LEN {
            return Err(OpenSlotsError::Medium(ImageError::Short));
        }
        let Some((division, ruined)) = division::find(&bytes, known) else { return Err(otherwise(&bytes)) };
        for (at, label) in &ruined {
            division::put_back(Arc::make_mut(&mut bytes), *at, label);
        }
        let (info, layout) = division.layout(bytes.len());
        let table = vec![Slot::default(); layout.slots.into()];
        let missing = missing(&bytes, &division, &layout);
        let there = bytes.len().saturating_sub(division.from).div_ceil(layout.slot_size.max(1) as usize);
        let slots_missing = division.slots.unwrap_or(0).saturating_sub(u16::try_from(there).unwrap_or(u16::MAX));
        let other = |other: Division| {
            let Division { from, slots, slot_size, .. } = other;
            OtherSlots { from: from as u64, slots: slots.unwrap_or(0), slot_size }
        };
        let others = division::others(&bytes, &division).into_iter().map(other).collect();
        let image = Image { bytes, from: division.from, info, blank: division.blank, missing, slots_missing, others };
        let read = Arc::clone(&image.bytes);
        Self::open(image, layout, table).map_err(|error| match error {
            OpenSlotsError::Blank | OpenSlotsError::Foreign => otherwise(&read),
            error => error,
        })
    }

    /// The slots of other logs that stand beside those of this one: of several logs in an image, the one with the most labels
    /// is read.
    #[must_use]
    pub fn others(&self) -> &[OtherSlots] {
        &self.medium().others
    }

    /// Where the image ends before the slots do, or within one that the log uses: it was not read out whole. Whoever reads
    /// what is missing of a slot gets an error, [`ImageError::Beyond`]; a whole slot that is missing is read as a free one.
    ///
    /// How many slots there are is told by their labels. Where none is whole, nothing tells of slots that are missing.
    pub fn cut_off(&mut self) -> Option<CutOff> {
        let Image { bytes, slots_missing: slots, .. } = self.medium();
        let (len, slots) = (bytes.len() as u64, *slots);
        let within = self.cut_off_within(CutOff { len, missing: 0, object: None, slots });
        within.or((slots > 0).then_some(CutOff { len, missing: 0, object: None, slots }))
    }

    /// The same, where it ends within a slot that the log uses.
    fn cut_off_within(&mut self, whole: CutOff) -> Option<CutOff> {
        let Missing { label, held, from, to } = self.medium().missing?;
        let cut_off = CutOff { missing: to - from, ..whole };
        let Some(label) = label else { return Some(cut_off) };
        let Use::Object(object) = label.used else { return Some(cut_off) };
        let before = u64::from(label.part) * u64::from(self.layout().room());
        // A slot that was given up is none of the object's: reading that does not come by it.
        let last = before + u64::from(to - held) - 1;
        let is_used = matches!(self.read(object, last, &mut [0]), Err(SlotError::Medium(ImageError::Beyond)));
        is_used.then(|| CutOff { object: Some((object, before + u64::from(from.saturating_sub(held)))), ..cut_off })
    }
}

/// What is missing of the last slot, if it has a label, or the beginning of one.
fn missing(bytes: &[u8], division: &Division, layout: &Layout) -> Option<Missing> {
    let slots = bytes.get(division.from..)?;
    let size = layout.slot_size.max(1) as usize;
    let (index, slot) = slots.chunks(size).enumerate().next_back().filter(|(_, slot)| slot.len() < size)?;
    let index = u16::try_from(index).ok().filter(|index| *index < layout.slots)?;
    let label = division.label(slot, index);
    if label.is_none() && !(slot.len() < LABEL_LEN && slot.starts_with(&LABEL_MAGIC)) {
        return None;
    }
    let base = u32::from(index) * layout.slot_size;
    // Shorter than a slot.
    let len = u32::try_from(slot.len()).unwrap_or(layout.slot_size);
    Some(Missing {
        label,
        held: base.saturating_add(layout.label_area()),
        from: base + len,
        to: base + layout.slot_size,
    })
}

/// Why an image has no slots of the sizes asked for: it has others, or none.
fn otherwise(bytes: &[u8]) -> OpenSlotsError<ImageError> {
    match division::said(bytes) {
        Some(Division { slot_size, granule, blank, slots, .. }) => {
            OpenSlotsError::OtherLayout { slots, slot_size, granule, blank }
        }
        None if [0x00, 0xFF].iter().any(|blank| bytes.iter().all(|byte| byte == blank)) => {
            OpenSlotsError::Medium(ImageError::Blank)
        }
        None => OpenSlotsError::Medium(ImageError::NoSlots),
    }
}

impl Medium for Image {
    type Error = ImageError;

    fn info(&self) -> Info {
        self.info
    }

    fn read(&mut self, at: u32, buf: &mut [u8]) -> Result<(), ImageError> {
        let held = self.bytes.get(self.from + at as usize..).unwrap_or_default();
        let (there, beyond) = buf.split_at_mut(held.len().min(buf.len()));
        there.copy_from_slice(&held[..there.len()]);
        // What is not there of the head of a slot says nothing, and of what the slot holds all is asked for.
        let is_missed = |missing: &Missing| missing.label.is_some() && (missing.held..missing.to).contains(&at);
        if !beyond.is_empty() && self.missing.as_ref().is_some_and(is_missed) {
            return Err(ImageError::Beyond);
        }
        beyond.fill(self.blank);
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
