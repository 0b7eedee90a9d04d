//! What stands at the head of each slot (`FORMAT.md`, section 8).

use duralog_core::{CheckpointId, Object, SegmentId, checksum::compute_checksum};

/// The first bytes of a label.
pub const LABEL_MAGIC: [u8; 4] = *b"WSLT";
/// The version of labels that is written, and the only one that is read.
pub const LABEL_VERSION: u8 = 1;
/// Bytes of a label.
pub const LABEL_LEN: usize = 32;

/// Where the version stands, in labels of every version.
pub(crate) const VERSION_AT: usize = 4;

const SEGMENT: u8 = 1;
const CHECKPOINT: u8 = 2;
const FORMATTING: u8 = 3;

/// Where the kind, a bit for the blank byte and the granule stand together.
const KIND: u8 = 0x07;
const BLANK_FF: u8 = 0x08;
const GRANULE_SHIFT: u32 = 4;

/// What a slot is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// An object, or a part of one: a checkpoint may take several slots.
    Object(Object),
    /// The medium is being formatted; once this slot is retired, it has been.
    Formatting,
}

/// A label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) used: Use,
    /// Which part of the object, from 0. A segment has but one: its label has room for `worn` there.
    pub(crate) part: u16,
    /// A slot that could not be erased or labelled when this one was taken.
    pub(crate) worn: Option<u16>,
    /// Grows by one with each slot taken: where the ring of slots stands.
    pub(crate) sequence: u32,
    /// The number of this slot.
    pub(crate) index: u16,
    /// How many slots there are.
    pub(crate) slots: u16,
    pub(crate) slot_size: u32,
    pub(crate) granule: u32,
    pub(crate) blank: u8,
}

impl Label {
    pub(crate) fn encode(&self) -> [u8; LABEL_LEN] {
        let mut bytes = [0; LABEL_LEN];
        bytes[..4].copy_from_slice(&LABEL_MAGIC);
        bytes[VERSION_AT] = LABEL_VERSION;
        let (kind, id) = match self.used {
            Use::Object(Object::Segment(id)) => (SEGMENT, id.value()),
            Use::Object(Object::Checkpoint(id)) => (CHECKPOINT, id.value()),
            // The metadata take no slot.
            Use::Object(Object::Meta) | Use::Formatting => (FORMATTING, 0),
        };
        let granule = u8::try_from(self.granule.trailing_zeros()).unwrap_or(u8::MAX) << GRANULE_SHIFT;
        bytes[5] = kind | granule | if self.blank == 0xFF { BLANK_FF } else { 0 };
        let part = if kind == SEGMENT { self.worn.map_or(0, |worn| worn.saturating_add(1)) } else { self.part };
        bytes[6..8].copy_from_slice(&self.slots.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.index.to_le_bytes());
        bytes[10..12].copy_from_slice(&part.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.slot_size.to_le_bytes());
        bytes[16..24].copy_from_slice(&id.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.sequence.to_le_bytes());
        let sum = compute_checksum(&bytes[..28]);
        bytes[28..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The label that `bytes` are, if they are one of this version.
    pub(crate) fn decode(bytes: &[u8; LABEL_LEN]) -> Option<Self> {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        if bytes[..4] != LABEL_MAGIC
            || bytes[VERSION_AT] != LABEL_VERSION
            || number(28) != compute_checksum(&bytes[..28])
        {
            return None;
        }
        let id = u64::from(number(20)) << 32 | u64::from(number(16));
        let kind = bytes[5] & KIND;
        let used = match kind {
            SEGMENT => Use::Object(Object::Segment(SegmentId::new(id))),
            CHECKPOINT => Use::Object(Object::Checkpoint(CheckpointId::new(id))),
            FORMATTING => Use::Formatting,
            _ => return None,
        };
        let (part, worn) = if kind == SEGMENT { (0, short(10).checked_sub(1)) } else { (short(10), None) };
        let granule = 1 << (bytes[5] >> GRANULE_SHIFT);
        if granule > 4096 {
            return None;
        }
        Some(Self {
            used,
            part,
            worn,
            sequence: number(24),
            index: short(8),
            slots: short(6),
            slot_size: number(12),
            granule,
            blank: if bytes[5] & BLANK_FF == 0 { 0 } else { 0xFF },
        })
    }
}

/// The label that was where one bit of `bytes` is another now, if any is one of this version and as `expected` says. No other
/// structure of the format stands once only: a bit that rots in it would take a slot out of the log.
pub(crate) fn mended(bytes: &[u8; LABEL_LEN], expected: impl Fn(&Label) -> bool) -> Option<Label> {
    let mut bytes = *bytes;
    for bit in 0..8 * LABEL_LEN {
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Some(label) = Label::decode(&bytes).filter(&expected) {
            return Some(label);
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    None
}

/// Whether bytes are `written`, or what a power cut may leave where blank was to become that: of each bit one of the two.
pub(crate) fn is_mixed(bytes: &[u8; LABEL_LEN], blank: u8, written: &[u8; LABEL_LEN]) -> bool {
    bytes.iter().zip(written).all(|(byte, written)| (byte ^ blank) & (byte ^ written) == 0)
}
