//! Frames: how one entry or mark stands on the medium (`FORMAT.md`, sections 2 and 4).
//!
//! ```text
//! 0      4      8          12    20          28     29        29+n        33+n
//! | WAL1 | size | checksum | LSN | timestamp | type | payload | checksum |
//! ```
//!
//! Both checksums are salted with the segment and the frame's place in it, so that a frame verifies at one place of
//! one log only.

use core::{fmt, ops::Range};

use uuid::Uuid;

use crate::{
    Lsn,
    checksum::{Crc, Update, before_a_byte},
    segment::{SegmentHeader, SegmentId},
};

/// The first bytes of every frame.
pub const FRAME_MAGIC: [u8; 4] = *b"WAL1";
/// Bytes of a frame before its payload.
pub const FRAME_HEADER_LEN: usize = 29;
/// Bytes of a frame behind its payload.
pub const FRAME_TRAILER_LEN: usize = 4;
/// The largest damaged frame whose checksum is asked which transaction it was of: one in 2,000 of those whose bytes are
/// others altogether looks as if one of them alone was wrong.
const TELLING_MAX: usize = 8192;
/// Bytes that a frame has besides its payload.
pub const FRAME_OVERHEAD: u32 = 33;
/// The most bytes that the application slot holds.
pub const SLOT_MAX: usize = 64;
/// Bytes of a transaction's id at the head of a payload.
pub const TRANSACTION_ID_LEN: usize = 8;

const _: () = assert!(FRAME_HEADER_LEN + FRAME_TRAILER_LEN == FRAME_OVERHEAD as usize);

/// The byte that says what a frame is: six bits of code, one for a transaction, one for a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FrameType(u8);

impl FrameType {
    const CODE: u8 = 0x3F;
    const IN_TRANSACTION: u8 = 0x40;
    const BATCH_CONTINUES: u8 = 0x80;
    const FIRST_MARK: u8 = 32;

    /// The type of an entry or mark of this code, outside a batch and a transaction.
    #[must_use]
    pub const fn new(code: u8) -> Self {
        Self(code & Self::CODE)
    }

    /// The type that stands in a frame.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// The byte that stands in the frame.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// The same, as part of a transaction: its id leads the payload.
    #[must_use]
    pub const fn in_transaction(self) -> Self {
        Self(self.0 | Self::IN_TRANSACTION)
    }

    /// The same, as an entry of a batch that goes on with the next entry.
    #[must_use]
    pub const fn batch_continues(self) -> Self {
        Self(self.0 | Self::BATCH_CONTINUES)
    }

    /// The six bits that say what it is.
    #[must_use]
    pub const fn code(self) -> u8 {
        self.0 & Self::CODE
    }

    /// Whether a transaction's id leads the payload.
    #[must_use]
    pub const fn is_in_transaction(self) -> bool {
        self.0 & Self::IN_TRANSACTION != 0
    }

    /// The transaction that leads the payload of an entry of this type, if one does.
    pub(crate) fn transaction(self, payload: &[u8]) -> Option<u64> {
        let id = payload.first_chunk::<TRANSACTION_ID_LEN>().filter(|_| self.is_in_transaction())?;
        Some(u64::from_le_bytes(*id))
    }

    /// Whether the next entry belongs to the same batch.
    #[must_use]
    pub const fn continues_batch(self) -> bool {
        self.0 & Self::BATCH_CONTINUES != 0
    }

    /// Whether it is a control frame, which takes no LSN.
    #[must_use]
    pub const fn is_mark(self) -> bool {
        self.code() >= Self::FIRST_MARK
    }
}

/// What stands in a frame's header, its checksum apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FrameHeader {
    /// Bytes of the whole frame, magic to trailer.
    pub size: u32,
    /// The entry's LSN; of a mark, that of the last entry before it.
    pub lsn: Lsn,
    /// Microseconds since the Unix epoch.
    pub timestamp: u64,
    /// What the frame is.
    pub kind: FrameType,
}

/// Why bytes are not a frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum NotAFrame {
    /// The first four bytes are no frame's.
    Magic,
    /// The header checksum does not fit: other bytes, another place or another log.
    HeaderChecksum,
    /// The checksum fits and the size cannot be: no writer of version 1 does this.
    Size,
}

impl fmt::Display for NotAFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Magic => "no frame begins here",
            Self::HeaderChecksum => "the frame's header is damaged, or belongs to another place, segment or log",
            Self::Size => "the frame's size cannot be: no writer of version 1 made it",
        })
    }
}

impl core::error::Error for NotAFrame {}

/// The salts of one segment: its frames' checksums begin here.
#[derive(Clone, Copy, Debug)]
pub struct Salts {
    header: Crc,
    entry: Crc,
}

impl Salts {
    /// The salts of the segment `segment` of `log`, whose header has this epoch and nonce.
    #[inline(never)] // Once a segment.
    #[must_use]
    pub fn new(update: Update, log: Uuid, segment: SegmentId, epoch: u64, nonce: u64) -> Self {
        let (first, second) = log.as_bytes().split_at(8);
        let of = |half: &[u8]| {
            Crc::new(update)
                .with(half)
                .with(&segment.value().to_le_bytes())
                .with(&epoch.to_le_bytes())
                .with(&nonce.to_le_bytes())
        };
        Self { header: of(first), entry: of(second) }
    }

    /// The salts of the segment that has this header.
    pub(crate) fn of(update: Update, header: &SegmentHeader) -> Self {
        Self::new(update, header.log, header.id, header.epoch, header.nonce)
    }

    fn header_checksum(&self, offset: u32, frame: &[u8]) -> u32 {
        // One call for the 25 bytes: they are too few to be worth three.
        let mut message = [0; 4 + 4 + 17];
        message[..4].copy_from_slice(&offset.to_le_bytes());
        message[4..8].copy_from_slice(&frame[4..8]);
        message[8..].copy_from_slice(&frame[12..FRAME_HEADER_LEN]);
        self.header.with_in_place(&mut message).value()
    }

    fn entry_checksum(&self, offset: u32, frame: &mut [u8]) -> u32 {
        let end = frame.len().saturating_sub(FRAME_TRAILER_LEN);
        let sealed = frame.get_mut(..end).unwrap_or_default();
        self.entry.with_four(offset.to_le_bytes()).with_in_place(sealed).value()
    }

    /// [`entry_fits`](Self::entry_fits) for the frame in this range of `buf`. The bytes before it take the frame's offset for
    /// a moment, so that one call does for both.
    pub(crate) fn fits_in(&self, buf: &mut [u8], frame: &Range<usize>, offset: u32) -> bool {
        let lead = frame.start.checked_sub(4).and_then(|start| buf.get_mut(start..frame.end));
        let Some(led) = lead.filter(|led| led.len() >= 4 + FRAME_OVERHEAD as usize) else {
            return buf.get_mut(frame.clone()).is_some_and(|frame| self.entry_fits(frame, offset));
        };
        let (sealed, stored) = led.split_at_mut(led.len() - FRAME_TRAILER_LEN);
        let before = u32_at(sealed, 0);
        sealed[..4].copy_from_slice(&offset.to_le_bytes());
        let sum = self.entry.with_in_place(sealed).value();
        sealed[..4].copy_from_slice(&before.to_le_bytes());
        sum == u32_at(stored, 0)
    }

    /// Completes the frame at `offset` of the segment: `frame` is as long as the whole frame and has its payload in
    /// place; header and trailer are written around it.
    ///
    /// # Panics
    /// If `frame` is shorter than [`FRAME_OVERHEAD`] or longer than a `u32` counts.
    pub fn complete(&self, frame: &mut [u8], offset: u32, lsn: Lsn, timestamp: u64, kind: FrameType) {
        let size = u32::try_from(frame.len()).expect("a frame is shorter than its segment");
        frame[..4].copy_from_slice(&FRAME_MAGIC);
        frame[4..8].copy_from_slice(&size.to_le_bytes());
        frame[12..20].copy_from_slice(&lsn.value().to_le_bytes());
        frame[20..28].copy_from_slice(&timestamp.to_le_bytes());
        frame[28] = kind.byte();
        let sum = self.header_checksum(offset, frame);
        frame[8..12].copy_from_slice(&sum.to_le_bytes());
        let sum = self.entry_checksum(offset, frame);
        let end = frame.len();
        frame[end - FRAME_TRAILER_LEN..].copy_from_slice(&sum.to_le_bytes());
    }

    /// Reads the frame header that stands at `offset` of the segment; `bytes` begin there.
    ///
    /// # Errors
    /// Why no header of this segment stands there. Fewer bytes than [`FRAME_HEADER_LEN`] are no header.
    pub fn header(&self, bytes: &[u8], offset: u32) -> Result<FrameHeader, NotAFrame> {
        let Some(bytes) = bytes.first_chunk::<FRAME_HEADER_LEN>() else {
            return Err(NotAFrame::Magic);
        };
        if bytes[..4] != FRAME_MAGIC {
            return Err(NotAFrame::Magic);
        }
        if self.header_checksum(offset, bytes) != u32_at(bytes, 8) {
            return Err(NotAFrame::HeaderChecksum);
        }
        let size = claimed_size(bytes);
        if size < FRAME_OVERHEAD {
            return Err(NotAFrame::Size);
        }
        Ok(FrameHeader {
            size,
            lsn: Lsn::new(u64_at(bytes, 12)),
            timestamp: u64_at(bytes, 20),
            kind: FrameType::from_byte(bytes[28]),
        })
    }

    /// What a damaged header says that the frame is and how long, where no more than one byte of it is wrong, the checksum
    /// apart.
    ///
    /// Magic and LSN are known; of the other bytes every change of one is tried against the header checksum. That is
    /// enough to tell whether a batch went on behind the frame; the frame itself is not believed for it.
    pub(crate) fn mend_header(&self, head: &[u8], offset: u32, lsn: Lsn) -> Option<(FrameType, u32)> {
        let mut head = *head.first_chunk::<FRAME_HEADER_LEN>()?;
        head[12..20].copy_from_slice(&lsn.value().to_le_bytes());
        let sum = u32_at(&head, 8);
        let told = |head: &[u8; FRAME_HEADER_LEN]| Some((FrameType::from_byte(head[28]), claimed_size(head)));
        if self.header_checksum(offset, &head) == sum {
            return told(&head);
        }
        for at in (4..8).chain(20..FRAME_HEADER_LEN) {
            let found = head[at];
            for byte in 0..=u8::MAX {
                head[at] = byte;
                if self.header_checksum(offset, &head) == sum {
                    return told(&head);
                }
            }
            head[at] = found;
        }
        None
    }

    /// What a frame is whose header checksum alone is wrong, and its transaction: its entry checksum fits once the
    /// header's is put right.
    pub(crate) fn mend_checksum(&self, frame: &mut [u8], offset: u32) -> Option<(FrameType, Option<u64>)> {
        if frame.len() < FRAME_OVERHEAD as usize {
            return None;
        }
        let stored = u32_at(frame, 8);
        let sum = self.header_checksum(offset, frame);
        frame[8..12].copy_from_slice(&sum.to_le_bytes());
        let kind = FrameType::from_byte(frame[28]);
        let payload = FRAME_HEADER_LEN..frame.len() - FRAME_TRAILER_LEN;
        let fits = self.entry_fits(frame, offset);
        let told = fits.then(|| (kind, kind.transaction(frame.get(payload).unwrap_or_default())));
        // The buffer shows what the medium holds.
        frame[8..12].copy_from_slice(&stored.to_le_bytes());
        told
    }

    /// The id of the transaction that a damaged frame belonged to, where no more than one of its bytes is wrong: by how much the
    /// entry checksum is off tells which byte that may be, and what was in it. Where several would do, none may be in the id.
    ///
    /// Of a large frame whose bytes are others altogether, a checksum may look so by chance: once in 2^32 for each of 255
    /// changes of each byte. So nothing is believed of one that is larger than [`TELLING_MAX`], and no id that is not the LSN of
    /// an earlier entry, or its own.
    pub(crate) fn mend_transaction(&self, frame: &mut [u8], offset: u32, lsn: Lsn) -> Option<u64> {
        let telling = (..=TELLING_MAX).contains(&frame.len());
        let stored = frame.last_chunk::<FRAME_TRAILER_LEN>().filter(|_| telling).copied().map(u32::from_le_bytes)?;
        let (sealed, at) = (frame.len() - FRAME_TRAILER_LEN, FRAME_HEADER_LEN);
        let mut id = *frame.get(at..sealed)?.first_chunk::<TRANSACTION_ID_LEN>()?;
        let off = self.entry_checksum(offset, frame) ^ stored;
        // One wrong byte of the checksum itself.
        let mut bytes = u32::from(off.to_le_bytes().iter().filter(|byte| **byte != 0).count() <= 1);
        let mut in_id = None;
        let mut difference = off;
        for place in (0..sealed).rev() {
            difference = before_a_byte(difference);
            // What a byte at this place adds to the checksum, all that follows would have made of it.
            if let Ok(byte @ 1..) = u8::try_from(difference) {
                bytes += 1;
                in_id = in_id.or(place.checked_sub(at).filter(|place| *place < id.len()).map(|place| (place, byte)));
            }
        }
        match (bytes, in_id) {
            (0, _) | (2.., Some(_)) => return None,
            (_, Some((place, byte))) => id.get_mut(place).into_iter().for_each(|wrong| *wrong ^= byte),
            (_, None) => {}
        }
        Some(u64::from_le_bytes(id)).filter(|id| *id <= lsn.value())
    }

    /// Whether the entry checksum of the whole frame `frame`, which stands at `offset`, fits. The frame is written to on
    /// the way, and is as before when this returns.
    #[must_use]
    pub fn entry_fits(&self, frame: &mut [u8], offset: u32) -> bool {
        let stored = frame.last_chunk::<FRAME_TRAILER_LEN>().copied();
        stored.is_some_and(|stored| self.entry_checksum(offset, frame) == u32::from_le_bytes(stored))
    }
}

/// The size that a frame header claims, sound or not.
pub(crate) fn claimed_size(head: &[u8]) -> u32 {
    u32_at(head, 4)
}

/// The little-endian `u32` at `at`; the caller knows that it is there.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let number = bytes.get(at..).and_then(<[u8]>::first_chunk);
    debug_assert!(number.is_some(), "there are not so many bytes");
    u32::from_le_bytes(number.copied().unwrap_or_default())
}

/// The little-endian `u64` at `at`; the caller knows that it is there.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let number = bytes.get(at..).and_then(<[u8]>::first_chunk);
    debug_assert!(number.is_some(), "there are not so many bytes");
    u64::from_le_bytes(number.copied().unwrap_or_default())
}

/// What a mark says besides the durable LSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Mark<'a> {
    /// Nothing else: a durable mark.
    Durable,
    /// The log's epoch from here on.
    Epoch(u64),
    /// The first LSN that truncation promised to keep.
    LowWater {
        /// That LSN.
        lsn: Lsn,
        /// Whether a checkpoint holds what is below it.
        covered: bool,
    },
    /// The application's own bytes, at most [`SLOT_MAX`].
    Slot(&'a [u8]),
    /// The log was closed.
    Seal,
}

/// The application slot: up to [`SLOT_MAX`] bytes of the application's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    len: u8,
    bytes: [u8; SLOT_MAX],
}

impl Slot {
    /// Nothing in it.
    pub(crate) const EMPTY: Self = Self { len: 0, bytes: [0; SLOT_MAX] };

    /// With these bytes in it; `None` if they are too many.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let mut slot = Self { len: u8::try_from(bytes.len()).ok()?, ..Self::EMPTY };
        slot.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(slot)
    }

    /// The bytes in it.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// Frames a mark at the front of `frames`, as often as it is written.
pub(crate) fn frame_marks(
    salts: &Salts,
    frames: &mut [u8],
    offset: u32,
    lsn: Lsn,
    time: u64,
    durable: Lsn,
    mark: Mark<'_>,
) {
    for at in (0..mark.copies()).map(|copy| copy * mark.frame_len()) {
        frame_mark(salts, frames.get_mut(at as usize..).unwrap_or_default(), offset + at, lsn, time, durable, mark);
    }
}

/// Frames a mark at the front of `frame`, once.
pub(crate) fn frame_mark(
    salts: &Salts,
    frame: &mut [u8],
    offset: u32,
    lsn: Lsn,
    time: u64,
    durable: Lsn,
    mark: Mark<'_>,
) {
    debug_assert!(durable <= lsn, "a mark claims no more than the entry before it");
    let len = mark.frame_len() as usize;
    let Some(frame) = frame.get_mut(..len) else {
        debug_assert!(false, "whoever frames a mark has made room for it");
        return;
    };
    mark.encode(durable, &mut frame[FRAME_HEADER_LEN..len - FRAME_TRAILER_LEN]);
    salts.complete(frame, offset, lsn, time, FrameType::new(mark.code()));
}

/// Why a mark's frame, sound by its checksums, cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum NotAMark {
    /// A mark that a reader must know, and this one does not: a later version wrote it.
    Unsupported,
    /// A mark that a reader may pass over.
    Skippable,
}

impl fmt::Display for NotAMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsupported => {
                "a mark that a reader must know is of a kind that this program does not: use a newer one"
            }
            Self::Skippable => "a mark of a kind that this program does not know, and may pass over",
        })
    }
}

impl core::error::Error for NotAMark {}

impl<'a> Mark<'a> {
    /// The longest payload of a mark.
    pub const MAX_PAYLOAD: usize = 8 + SLOT_MAX;

    /// The six bits of its type.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Durable => 32,
            Self::Epoch(_) => 33,
            Self::LowWater { .. } => 34,
            Self::Slot(_) => 35,
            Self::Seal => 36,
        }
    }

    /// Bytes of its payload, the durable LSN included.
    #[must_use]
    pub const fn payload_len(&self) -> usize {
        8 + match self {
            Self::Durable | Self::Seal => 0,
            Self::Epoch(_) => 8,
            Self::LowWater { .. } => 9,
            Self::Slot(bytes) => bytes.len(),
        }
    }

    /// Bytes of a whole frame of it.
    #[must_use]
    pub fn frame_len(&self) -> u32 {
        debug_assert!(self.payload_len() <= Self::MAX_PAYLOAD);
        FRAME_OVERHEAD + u32::try_from(self.payload_len()).unwrap_or(u32::MAX - FRAME_OVERHEAD)
    }

    /// How often it is written. What the others say, later marks say too; what these say is told nowhere else up to the
    /// header of the next segment, and one flipped bit must not take it.
    #[must_use]
    pub const fn copies(&self) -> u32 {
        match self {
            Self::Durable | Self::Epoch(_) | Self::Seal => 1,
            Self::LowWater { .. } | Self::Slot(_) => 2,
        }
    }

    /// Bytes of all its frames.
    #[must_use]
    pub fn frames_len(&self) -> u32 {
        self.frame_len() * self.copies()
    }

    /// Writes the payload into `to`, which is as long as [`payload_len`](Self::payload_len) says.
    pub fn encode(&self, durable: Lsn, to: &mut [u8]) {
        let (head, rest) = to.split_at_mut(8);
        head.copy_from_slice(&durable.value().to_le_bytes());
        match self {
            Self::Durable | Self::Seal => {}
            Self::Epoch(epoch) => rest.copy_from_slice(&epoch.to_le_bytes()),
            Self::LowWater { lsn, covered } => {
                rest[..8].copy_from_slice(&lsn.value().to_le_bytes());
                rest[8] = u8::from(*covered);
            }
            Self::Slot(bytes) => rest.copy_from_slice(bytes),
        }
    }

    /// Reads the payload of a mark: the durable LSN it carries, and what else it says.
    ///
    /// # Errors
    /// [`NotAMark`]: it cannot be followed, and whether it may be passed over.
    pub fn decode(code: u8, payload: &'a [u8]) -> Result<(Lsn, Self), NotAMark> {
        if code >= 48 {
            return Err(NotAMark::Skippable);
        }
        let Some((durable, rest)) = payload.split_first_chunk::<8>() else {
            return Err(NotAMark::Unsupported);
        };
        let mark = match (code, rest.len()) {
            (32, 0) => Self::Durable,
            (33, 8) => Self::Epoch(u64_at(rest, 0)),
            (34, 9) if rest[8] <= 1 => Self::LowWater { lsn: Lsn::new(u64_at(rest, 0)), covered: rest[8] == 1 },
            (35, 0..=SLOT_MAX) => Self::Slot(rest),
            (36, 0) => Self::Seal,
            _ => return Err(NotAMark::Unsupported),
        };
        Ok((Lsn::new(u64::from_le_bytes(*durable)), mark))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{vec, vec::Vec};

    use super::*;
    use crate::checksum::portable;

    fn salts(segment: u64, nonce: u64) -> Salts {
        Salts::new(
            portable,
            Uuid::from_u128(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f),
            SegmentId::new(segment),
            1,
            nonce,
        )
    }

    fn frame(salts: &Salts, offset: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 33 + payload.len()];
        frame[29..29 + payload.len()].copy_from_slice(payload);
        salts.complete(&mut frame, offset, Lsn::new(1), 1_700_000_000_000_000, FrameType::new(10));
        frame
    }

    fn sound(salts: &Salts, frame: &[u8], offset: u32) -> bool {
        let mut copy = frame.to_vec();
        let sound = salts.header(frame, offset).is_ok_and(|header| header.size as usize == frame.len())
            && salts.entry_fits(&mut copy, offset);
        assert_eq!(copy, frame, "a look changes nothing");
        sound
    }

    #[test]
    fn a_frame_reads_back_where_it_was_written_and_nowhere_else() {
        let (here, offset) = (salts(1, 7), 256);
        let bytes = frame(&here, offset, b"payload");
        assert!(sound(&here, &bytes, offset));
        assert!(!sound(&here, &bytes, offset + 1), "at another place");
        assert!(!sound(&salts(2, 7), &bytes, offset), "in another segment");
        assert!(!sound(&salts(1, 8), &bytes, offset), "in an earlier life of the segment");
        let header = here.header(&bytes, offset).unwrap();
        assert_eq!((header.size, header.lsn, header.timestamp), (40, Lsn::new(1), 1_700_000_000_000_000));
    }

    #[test]
    fn a_header_verifies_before_anything_in_it_is_believed() {
        let here = salts(3, 0);
        let bytes = frame(&here, 4224, b"a payload");
        for bit in 0..FRAME_HEADER_LEN * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(here.header(&damaged, 4224).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_found() {
        let here = salts(3, 0);
        let bytes = frame(&here, 4224, b"a payload");
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!sound(&here, &damaged, 4224), "bit {bit}");
        }
    }

    #[test]
    fn marks_read_back_and_a_mark_that_must_be_known_is_not_skipped() {
        for mark in [
            Mark::Durable,
            Mark::Epoch(9),
            Mark::LowWater { lsn: Lsn::new(5), covered: true },
            Mark::Slot(b"vote 7"),
            Mark::Slot(b""),
            Mark::Seal,
        ] {
            let mut payload = vec![0; mark.payload_len()];
            mark.encode(Lsn::new(4), &mut payload);
            assert_eq!(Mark::decode(mark.code(), &payload), Ok((Lsn::new(4), mark)));
            assert!(FrameType::new(mark.code()).is_mark());
        }
        assert_eq!(Mark::decode(37, &[0; 8]), Err(NotAMark::Unsupported));
        assert_eq!(Mark::decode(32, &[0; 7]), Err(NotAMark::Unsupported));
        assert_eq!(Mark::decode(48, &[]), Err(NotAMark::Skippable));
        assert!(!FrameType::new(31).is_mark());
    }

    #[test]
    fn a_bit_of_a_type_that_is_set_stays_set() {
        let entry = FrameType::new(10);
        for (set, again) in [
            (entry.in_transaction(), entry.in_transaction().in_transaction()),
            (entry.batch_continues(), entry.batch_continues().batch_continues()),
        ] {
            assert_eq!(set, again);
            assert_ne!(set, entry);
        }
    }

    #[test]
    fn a_mark_whose_answer_is_neither_yes_nor_no_is_not_followed() {
        let mut payload = [0; 17];
        Mark::LowWater { lsn: Lsn::new(5), covered: true }.encode(Lsn::new(4), &mut payload);
        payload[16] = 2;
        assert_eq!(Mark::decode(34, &payload), Err(NotAMark::Unsupported));
    }

    #[test]
    fn what_is_no_frame_and_what_is_no_mark_says_why() {
        use std::string::ToString;
        let told = [
            NotAFrame::Magic.to_string(),
            NotAFrame::HeaderChecksum.to_string(),
            NotAFrame::Size.to_string(),
            NotAMark::Unsupported.to_string(),
            NotAMark::Skippable.to_string(),
        ];
        for (n, one) in told.iter().enumerate() {
            assert!(!one.is_empty() && !told[..n].contains(one), "{told:?}");
        }
    }

    #[test]
    fn of_a_header_with_one_wrong_byte_the_type_is_made_out_and_of_one_with_two_it_is_not() {
        let (here, offset, kind) = (salts(3, 0), 4224, FrameType::new(10));
        let bytes = frame(&here, offset, b"a payload");
        let told = Some((kind, claimed_size(&bytes)));
        assert_eq!(here.mend_header(&bytes, offset, Lsn::new(1)), told);
        assert_eq!(here.mend_header(&bytes, offset + 1, Lsn::new(1)), None, "at another place");
        assert_eq!(here.mend_header(&bytes[..28], offset, Lsn::new(1)), None, "of half a header");
        for at in (4..8).chain(12..FRAME_HEADER_LEN) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x41;
            assert_eq!(here.mend_header(&damaged, offset, Lsn::new(1)), told, "byte {at}");
            assert_eq!(claimed_size(&damaged) == claimed_size(&bytes), at >= 8, "byte {at}");
        }
        let mut damaged = bytes.clone();
        (damaged[5], damaged[22]) = (!damaged[5], !damaged[22]);
        assert_eq!(here.mend_header(&damaged, offset, Lsn::new(1)), None);
    }

    #[test]
    fn an_id_that_no_transaction_can_have_there_is_not_believed_nor_any_in_a_frame_so_large_that_chance_may_tell_it() {
        let (here, offset, lsn) = (salts(3, 0), 4224, Lsn::new(300));
        let damaged = |len: usize, id: u64| {
            let mut frame = vec![0; len];
            frame[FRAME_HEADER_LEN..][..8].copy_from_slice(&id.to_le_bytes());
            here.complete(&mut frame, offset, lsn, 1, FrameType::new(10).in_transaction());
            // As if no more than a byte of the checksum itself were wrong.
            frame[len - 1] ^= 0x80;
            here.mend_transaction(&mut frame, offset, lsn)
        };
        for (id, told) in [(1, Some(1)), (300, Some(300)), (301, None), (0x0101_0101_0101_0101, None)] {
            assert_eq!(damaged(100, id), told);
        }
        assert_eq!((damaged(TELLING_MAX, 300), damaged(TELLING_MAX + 1, 300)), (Some(300), None));
    }

    #[test]
    fn of_a_frame_whose_header_checksum_alone_is_wrong_the_type_is_made_out() {
        let (here, offset) = (salts(3, 0), 4224);
        for payload in [&b"a payload"[..], b""] {
            let bytes = frame(&here, offset, payload);
            for at in 8..12 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1;
                let before = damaged.clone();
                let told = here.mend_checksum(&mut damaged, offset);
                assert_eq!(told, Some((FrameType::new(10), None)), "byte {at}");
                assert_eq!(damaged, before, "a look changes nothing");
                damaged[29] ^= 1;
                assert_eq!(here.mend_checksum(&mut damaged, offset), None, "byte {at} and the one behind the header");
            }
            for len in 0..FRAME_OVERHEAD as usize {
                assert_eq!(here.mend_checksum(&mut bytes[..len].to_vec(), offset), None, "{len} bytes");
            }
        }
    }

    #[test]
    fn a_frame_in_a_buffer_is_sound_wherever_it_lies_there() {
        let (here, offset) = (salts(3, 0), 4224);
        for payload in [&b""[..], b"a", b"a payload"] {
            for before in 0..9 {
                let mut buf = vec![0xA5; before];
                buf.extend(frame(&here, offset, payload));
                let (range, was) = (before..buf.len(), buf.clone());
                assert!(here.fits_in(&mut buf, &range, offset) && !here.fits_in(&mut buf, &range, offset + 1));
                assert!(!here.fits_in(&mut buf, &(before..was.len() + 1), offset), "beyond the buffer");
                assert_eq!(buf, was, "a look changes nothing");
                *buf.last_mut().unwrap() ^= 1;
                assert!(!here.fits_in(&mut buf, &range, offset));
            }
        }
    }
}
