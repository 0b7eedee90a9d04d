//! How an image is divided into slots: as its labels say, else as the headers of its segments do, or as whoever read it out
//! knows. Labels that are ruined are put back where a header still tells what the slot held.

use std::collections::{BTreeMap, BTreeSet};

use duralog_core::{
    Object,
    checkpoint::{CheckpointHeader, HEADER_LEN},
    checksum::portable,
    segment::{SEGMENT_HEADER_LEN, SegmentHeader},
};

use super::{
    label::{LABEL_LEN, Label, Use},
    layout::{Layout, SLOTS_MIN},
    medium::Info,
};

/// Labels stand at multiples of this from the beginning of an image, wherever in it the log's slots begin.
const LABEL_STEP: usize = 256;
/// Headers stand at multiples of this from the beginning of their slot.
const HEADER_STEP: usize = 64;
/// Where a copy of a segment's header may stand.
const COPIES: [u32; 4] = [0, 128, 512, 4096];

/// What is known of an image from elsewhere: each goes before what the image says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageGeometry {
    /// Bytes of a slot, which the log erases at once.
    pub erase_size: Option<u32>,
    /// Bytes written at once: the write granule.
    pub write_size: Option<u32>,
}

impl ImageGeometry {
    fn is_anything_known(&self) -> bool {
        self.erase_size.is_some() || self.write_size.is_some()
    }

    fn allows(&self, division: &Division) -> bool {
        self.erase_size.is_none_or(|size| size == division.slot_size)
            && self.write_size.is_none_or(|size| size == division.granule)
    }
}

/// Into what an image is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Division {
    pub(crate) slot_size: u32,
    pub(crate) granule: u32,
    pub(crate) blank: u8,
    /// Where the first slot begins.
    pub(crate) from: usize,
    /// How many slots there are; `None` where no label tells.
    pub(crate) slots: Option<u16>,
}

impl Division {
    fn of_label(at: usize, label: &Label) -> Option<Self> {
        let before = (label.slot_size as usize).checked_mul(label.index.into())?;
        let Label { slot_size, granule, blank, slots, .. } = *label;
        Some(Self { slot_size, granule, blank, from: at.checked_sub(before)?, slots: Some(slots) })
    }

    /// By a segment's header, a copy of which stands at `at`, if it is the copy that stands at `copy` of its segment.
    fn of_header(at: usize, copy: u32, header: &SegmentHeader) -> Option<Self> {
        let SegmentHeader { segment_size, granule, blank, .. } = *header;
        let area = layout(granule, blank, 0, 0).label_area();
        let slot_size = segment_size.checked_add(area)?;
        let from = at.checked_sub(area.checked_add(copy)? as usize)? % slot_size as usize;
        Some(Self { slot_size, granule, blank, from, slots: None })
    }

    /// The label of the slot of this index, which begins with these bytes, if it has one of this division.
    pub(crate) fn label(&self, slot: &[u8], index: u16) -> Option<Label> {
        let label = Label::decode(slot.first_chunk()?)?;
        let Self { slot_size, granule, blank, .. } = *self;
        let is_own = (label.slot_size, label.granule, label.blank, label.index) == (slot_size, granule, blank, index);
        is_own.then_some(label)
    }

    /// What the device on the image is told; `len` is the image's. Not all slots need be in it, nor the last one whole.
    pub(crate) fn layout(&self, len: usize) -> (Info, Layout) {
        let Self { slot_size, granule, blank, from, slots } = *self;
        let within = || len.saturating_sub(from).div_ceil(slot_size.max(1) as usize);
        let slots = slots.map_or_else(|| u32::try_from(within()).unwrap_or(u32::MAX), u32::from);
        // Of an image that has fewer slots than a writer takes, the others are blank.
        let capacity = slots.clamp(SLOTS_MIN.into(), u16::MAX.into()).saturating_mul(slot_size);
        let layout = layout(granule, blank, slot_size, capacity);
        let info = Info { capacity, write_size: granule, erase_size: granule, is_flash: false, is_settled: true };
        (info, layout)
    }
}

fn layout(granule: u32, blank: u8, slot_size: u32, capacity: u32) -> Layout {
    let info = Info { capacity, write_size: granule, erase_size: granule, is_flash: false, is_settled: true };
    Layout { blank, granule, ..Layout::new(info, slot_size) }
}

/// How an image is divided, and the slots whose labels are to be put back; `None` where nothing in it tells.
pub(crate) fn find(bytes: &[u8], known: ImageGeometry) -> Option<(Division, Vec<(usize, Label)>)> {
    let labels = voted(labels(bytes).map(|(_, division)| division).filter(|division| known.allows(division)));
    let is_labelled = labels.is_some();
    let by_headers = || voted(headers(bytes).filter(|division| known.allows(division)));
    let division = labels.or_else(by_headers).or_else(|| {
        let (slot_size, granule) = (known.erase_size?, known.write_size?);
        Some(Division { slot_size, granule, blank: 0xFF, from: 0, slots: None })
    })?;
    // A slot without a label is free, whatever it holds: only where the labels are not to be trusted is it looked at.
    let ruined = if is_labelled && !known.is_anything_known() { Vec::new() } else { unlabelled(bytes, &division) };
    Some((division, ruined))
}

/// How an image says itself that it is divided, if it does.
pub(crate) fn said(bytes: &[u8]) -> Option<Division> {
    voted(labels(bytes).map(|(_, division)| division)).or_else(|| voted(headers(bytes)))
}

/// What labels say that stand beside these slots.
pub(crate) fn others(bytes: &[u8], division: &Division) -> BTreeSet<Division> {
    let Division { slot_size, from, slots: Some(slots), .. } = *division else { return BTreeSet::new() };
    let own = from..from.saturating_add(slot_size as usize * usize::from(slots));
    labels(bytes).filter(|(at, _)| !own.contains(at)).map(|(_, other)| other).collect()
}

/// What most say. An offset from which one copy of a header would be the first, and another one the second, counts less
/// than one that they agree on; of equal ones the rounder counts.
fn voted(divisions: impl Iterator<Item = Division>) -> Option<Division> {
    let mut votes = BTreeMap::<Division, u32>::new();
    for division in divisions {
        *votes.entry(division).or_default() += 1;
    }
    votes.into_iter().max_by_key(|(division, votes)| (*votes, division.from.trailing_zeros())).map(|(most, _)| most)
}

/// Where labels stand, and how each says that the image is divided.
fn labels(bytes: &[u8]) -> impl Iterator<Item = (usize, Division)> {
    let heads =
        (0..bytes.len()).step_by(LABEL_STEP).filter_map(|at| Some((at, bytes.get(at..)?.first_chunk::<LABEL_LEN>()?)));
    heads.filter_map(|(at, head)| Some((at, Division::of_label(at, &Label::decode(head)?)?)))
}

fn headers(bytes: &[u8]) -> impl Iterator<Item = Division> {
    let found = (0..bytes.len()).step_by(HEADER_STEP).filter_map(|at| {
        let bytes = bytes.get(at..)?.get(..SEGMENT_HEADER_LEN)?;
        Some((at, SegmentHeader::decode(portable, bytes, 0).ok()?))
    });
    found.flat_map(|(at, header)| {
        [0, header.copy_offset].into_iter().filter_map(move |copy| Division::of_header(at, copy, &header))
    })
}

/// The slots that have no label of this division and hold an object that its header still names: where the slot begins,
/// and its label.
fn unlabelled(bytes: &[u8], division: &Division) -> Vec<(usize, Label)> {
    let Division { slot_size, granule, blank, from, .. } = *division;
    let (_, layout) = division.layout(bytes.len());
    let slots = layout.slots;
    let found = (0..slots).filter_map(|index| {
        let at = from + usize::from(index) * slot_size as usize;
        let slot = bytes.get(at..bytes.len().min(at + slot_size as usize))?;
        if division.label(slot, index).is_some() {
            return None;
        }
        let retired = slot.get(layout.retired_at() as usize..)?.get(..granule as usize)?;
        if retired.iter().all(|byte| *byte == !blank) {
            return None;
        }
        let used = Use::Object(object(slot, &layout)?);
        Some((at, Label { used, part: 0, worn: None, sequence: 0, index, slots, slot_size, granule, blank }))
    });
    found.collect()
}

/// The object in a slot, by its header.
fn object(slot: &[u8], layout: &Layout) -> Option<Object> {
    let held = slot.get(layout.label_area() as usize..)?;
    let segment = COPIES.iter().find_map(|copy| {
        let header = SegmentHeader::decode(portable, held.get(*copy as usize..)?, *copy).ok()?;
        let fits = (header.segment_size, header.granule, header.blank) == (layout.room(), layout.granule, layout.blank);
        fits.then_some(header.id)
    });
    let checkpoint = || CheckpointHeader::decode(held.get(..HEADER_LEN)?).ok().map(|header| header.id);
    segment.map(Object::Segment).or_else(|| checkpoint().map(Object::Checkpoint))
}

/// Writes a label, and that its slot was not given up.
pub(crate) fn put_back(bytes: &mut [u8], at: usize, label: &Label) {
    let layout = layout(label.granule, label.blank, label.slot_size, 0);
    let Some(head) = bytes.get_mut(at..).and_then(|slot| slot.get_mut(..layout.label_area() as usize)) else { return };
    head.fill(label.blank);
    if let Some(first) = head.first_chunk_mut() {
        *first = label.encode();
    }
}
