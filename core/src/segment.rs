//! Segments: ids, what a medium is like, and the header that stands twice at the head of each (`FORMAT.md`, section 3).

use core::fmt;

use uuid::Uuid;

use crate::{
    Lsn,
    checksum::{Crc, Update},
    frame::{FRAME_HEADER_LEN, FRAME_OVERHEAD, Mark, u32_at, u64_at},
};

/// The first bytes of every segment.
pub const SEGMENT_MAGIC: [u8; 4] = *b"WALS";
/// The version of the format that this crate reads and writes.
pub const FORMAT_VERSION: u8 = 1;
/// Bytes of one copy of a segment's header.
pub const SEGMENT_HEADER_LEN: usize = 128;
/// Where the second copy of a header may stand.
pub const COPY_OFFSETS: [u32; 3] = [128, 512, 4096];
/// The most transactions that any log may have open at once: what a reader needs to remember is bounded.
pub const TRANSACTIONS_MAX: usize = 16;
/// The least write limit that a header may name. Writers take more: [`Geometry::write_limit_min`].
pub const WRITE_LIMIT_MIN: u32 = 256;

/// So many ids between two segments of the chain, or more: a header does not tell how many.
pub const BETWEEN_MAX: u8 = 15;

/// The id of a segment: 1 for a log's first, growing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SegmentId(u64);

impl SegmentId {
    /// No segment.
    pub const NONE: Self = Self(0);

    /// The id with this number.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment_{:016x}", self.0)
    }
}

/// What a medium is like. New segments are written by it and say so in their header; old ones are read by theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Geometry {
    /// Bytes of a segment, its header included.
    pub segment_size: u32,
    /// A torn write harms no byte outside the granules it writes; a power of two up to 4096.
    pub granule: u32,
    /// Where the second copy of a segment's header stands, beyond what one lost block takes with it: 128, 512 or 4096.
    pub copy_offset: u32,
    /// What room that was never written reads as: 0x00 or 0xFF.
    pub blank: u8,
    /// Whether a sync makes durable all that reads return, whatever failed before.
    pub settled: bool,
    /// How many objects fit, where their number is fixed.
    pub slots: Option<u32>,
}

impl Geometry {
    /// Where frames begin in a segment of this geometry.
    #[must_use]
    pub const fn frames_at(&self) -> u32 {
        align_up(self.copy_offset + 128, self.granule)
    }

    /// Room at the end of each segment that entries leave to marks, so that truncation needs no new segment: eight
    /// low-water marks with their copies, each written and synced by itself.
    #[must_use]
    pub const fn reserve(&self) -> u32 {
        align_up(LONGEST_MARK, self.granule) * 8
    }

    /// Bytes of a segment that are not for entries: header, application slot, and room for marks.
    #[must_use]
    pub const fn overhead(&self) -> u32 {
        self.frames_at() + align_up(2 * LONGEST_MARK, self.granule) + self.reserve()
    }

    /// Bytes of the blank frame header that ends each write in recycled room.
    #[must_use]
    pub const fn stop_len(&self) -> u32 {
        align_up(STOP_LEN, self.granule)
    }

    /// The least write limit that a writer takes: the longest mark twice, with the mark that leads it, and what ends a write. A
    /// small batch takes less.
    #[must_use]
    pub const fn write_limit_min(&self) -> u32 {
        align_up(LONGEST_LEAD + 2 * LONGEST_MARK, self.granule) + self.stop_len()
    }

    /// The largest write limit that this geometry allows: what a crash leaves unproven must fit into one new segment.
    #[must_use]
    pub const fn write_limit_max(&self) -> u32 {
        self.segment_size.saturating_sub(self.overhead()) & !(self.granule - 1)
    }
}

/// Bytes of a frame's header, which end a write in recycled room if they are blank.
pub(crate) const STOP_LEN: u32 = 29;

const _: () = assert!(STOP_LEN as usize == FRAME_HEADER_LEN);

/// Bytes of the longest mark that leads a write, that of an epoch.
pub(crate) const LONGEST_LEAD: u32 = FRAME_OVERHEAD + 16;

/// Bytes of the longest mark's frame.
const LONGEST_MARK: u32 = FRAME_OVERHEAD + 8 + 64;

const _: () = assert!(Mark::MAX_PAYLOAD == 8 + 64);

/// `offset` rounded up to the next multiple of `granule`, a power of two.
#[must_use]
pub const fn align_up(offset: u32, granule: u32) -> u32 {
    (offset + (granule - 1)) & !(granule - 1)
}

/// What a segment's header says of the segment before it: where it was cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Predecessor {
    /// Its id; [`SegmentId::NONE`] if there is none.
    pub id: SegmentId,
    /// Its nonce.
    pub nonce: u64,
    /// The LSN of its last live entry; where it has none, its first LSN less one.
    pub last: Lsn,
    /// The offset right behind its last live entry.
    pub size: u32,
    /// How many LSNs lie behind the end of the segment before *it*, or behind what truncation gave up before it was begun,
    /// up to `last`: those that it covers, and what was given up right before it. [`u32::MAX`]: as many or more.
    pub span: u32,
    /// How many ids lie between the segment before it, or 0 where there is none, and its own; [`BETWEEN_MAX`]: as many or
    /// more.
    pub between: u8,
}

impl Predecessor {
    /// The first LSN of its span, where that is known: the segment before it ends right before.
    #[must_use]
    pub fn first(&self) -> Option<Lsn> {
        let before = self.last.value().checked_sub(self.span.into())?;
        (self.span != u32::MAX).then(|| Lsn::new(before).next_or_max())
    }

    /// The id of the segment before it, [`SegmentId::NONE`] where there is none; `None` where it is not known.
    #[must_use]
    pub fn before(&self) -> Option<SegmentId> {
        let before = self.id.value().checked_sub(u64::from(self.between) + 1)?;
        (self.between < BETWEEN_MAX).then(|| SegmentId::new(before))
    }

    /// Whether the values fit together, for a segment whose first LSN is `first`.
    fn is_possible(&self, first: Lsn) -> bool {
        if self.id == SegmentId::NONE {
            return *self == Self::default();
        }
        self.last < first
            && (self.span == u32::MAX || u64::from(self.span) <= self.last.value())
            && (self.between == BETWEEN_MAX || u64::from(self.between) < self.id.value())
    }
}

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SegmentHeader {
    /// The log it belongs to.
    #[cfg_attr(feature = "defmt", defmt(Display2Format))]
    pub log: Uuid,
    /// The segment's id.
    pub id: SegmentId,
    /// The epoch in which it was begun.
    pub epoch: u64,
    /// Part of the salt: random where the writer has a source, else 0.
    pub nonce: u64,
    /// The LSN that its first entry has or will have.
    pub first: Lsn,
    /// Microseconds since the Unix epoch, not before any earlier timestamp of the log.
    pub created: u64,
    /// The first LSN that truncation promised to keep.
    pub low_water: Lsn,
    /// Whether a checkpoint holds what is below the low-water mark.
    pub low_water_covered: bool,
    /// Damage and gaps at or below this LSN were accepted.
    pub accepted_loss: Lsn,
    /// The first LSN of the oldest transaction open where the segment begins, else its first LSN. A header tells it as a
    /// distance: where that is [`u32::MAX`] or more, it says [`Lsn::FIRST`], which keeps and reads more than need be.
    pub transaction_floor: Lsn,
    /// The most transactions that may be open at once.
    pub max_transactions: u8,
    /// Whether each append is acknowledged as durable before a mark proves it.
    pub immediate: bool,
    /// Whether room behind the frames may hold bytes of an earlier life. Then each write ends with a blank frame header,
    /// as far as the segment goes, over which the next one is written.
    pub recycled: bool,
    /// Whether entries that look live may stand behind the cut of some segment before this one: the log was cut at its
    /// end, gave damage up, or was refused room for a write.
    pub leftovers: bool,
    /// What room that was never written reads as.
    pub blank: u8,
    /// The write granule in bytes.
    pub granule: u32,
    /// Where the second copy stands.
    pub copy_offset: u32,
    /// No frame ends behind it.
    pub segment_size: u32,
    /// Never more bytes than this are written beyond the last sync.
    pub write_limit: u32,
    /// The segment before it.
    pub predecessor: Predecessor,
}

/// Why bytes are not a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum NotAHeader {
    /// Too few bytes, another magic, or a checksum that does not fit.
    Invalid,
    /// Sound, and of a version or with a flag that this crate does not know.
    Unsupported {
        /// The version that it names.
        version: u8,
        /// The flags that it has.
        flags: u8,
    },
}

impl fmt::Display for NotAHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid => f.write_str("the bytes are no segment header, or a damaged one: try its other copy"),
            Self::Unsupported { version, flags } => write!(
                f,
                "the segment header is of version {version} with flags {flags:#04x}, and this program knows version \
                 {FORMAT_VERSION} with flags {FLAGS_KNOWN:#04x}: use a newer one"
            ),
        }
    }
}

impl core::error::Error for NotAHeader {}

const FLAG_BLANK_FF: u8 = 1;
const FLAG_RECYCLED: u8 = 1 << 1;
const COPY_SHIFT: u8 = 2;
const COPY_MASK: u8 = 3;
const FLAG_COVERED: u8 = 1 << 4;
const FLAG_IMMEDIATE: u8 = 1 << 5;
const FLAG_LEFTOVERS: u8 = 1 << 6;
const FLAGS_KNOWN: u8 = 0x7F;
const GRANULE_BITS: u8 = 0x0F;
const BETWEEN_SHIFT: u8 = 4;
const GRANULE_MAX: u32 = 4096;

impl SegmentHeader {
    /// Where the frames begin.
    #[must_use]
    pub const fn frames_at(&self) -> u32 {
        align_up(self.copy_offset + 128, self.granule)
    }

    /// Bytes of the blank frame header behind a write that ends at `end`: none where the room is blank.
    pub(crate) const fn stop_at(&self, end: u32) -> u32 {
        if !self.recycled {
            return 0;
        }
        let (stop, left) = (align_up(STOP_LEN, self.granule), self.segment_size.saturating_sub(end));
        if stop < left { stop } else { left }
    }

    /// The bytes of one copy.
    #[must_use]
    pub fn encode(&self, update: Update) -> [u8; SEGMENT_HEADER_LEN] {
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        bytes[..4].copy_from_slice(&SEGMENT_MAGIC);
        bytes[4] = FORMAT_VERSION;
        bytes[5] = self.flags();
        let granule = u8::try_from(self.granule.trailing_zeros()).unwrap_or(GRANULE_BITS);
        bytes[6] = granule | self.predecessor.between.min(BETWEEN_MAX) << BETWEEN_SHIFT;
        bytes[7] = self.max_transactions;
        bytes[8..24].copy_from_slice(self.log.as_bytes());
        let before = &self.predecessor;
        let floor = u32::try_from(self.first.value().saturating_sub(self.transaction_floor.value()));
        let (low_water, accepted_loss) = (self.low_water.value(), self.accepted_loss.value());
        let places = [self.id.value(), self.epoch, self.nonce, self.first.value(), self.created];
        put_u64s(&mut bytes[24..64], &places);
        put_u64s(&mut bytes[64..80], &[low_water, accepted_loss]);
        put_u32s(&mut bytes[80..88], &[floor.unwrap_or(u32::MAX), before.span]);
        put_u64s(&mut bytes[88..112], &[before.id.value(), before.nonce, before.last.value()]);
        put_u32s(&mut bytes[112..124], &[before.size, self.segment_size, self.write_limit]);
        let sum = Crc::new(update).with(&bytes[..124]).value();
        bytes[124..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn flags(&self) -> u8 {
        let copy = match self.copy_offset {
            128 => 0,
            512 => 1,
            _ => 2,
        };
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        flag(self.blank == 0xFF, FLAG_BLANK_FF)
            | flag(self.recycled, FLAG_RECYCLED)
            | (copy << COPY_SHIFT)
            | flag(self.low_water_covered, FLAG_COVERED)
            | flag(self.immediate, FLAG_IMMEDIATE)
            | flag(self.leftovers, FLAG_LEFTOVERS)
    }

    /// Reads one copy, which stands at `offset` of the segment.
    ///
    /// # Errors
    /// [`NotAHeader`]: no copy of version 1 stands there. Values that no writer writes make it invalid too.
    pub fn decode(update: Update, bytes: &[u8], offset: u32) -> Result<Self, NotAHeader> {
        let bytes = bytes.first_chunk::<SEGMENT_HEADER_LEN>().ok_or(NotAHeader::Invalid)?;
        if bytes[..4] != SEGMENT_MAGIC || Crc::new(update).with(&bytes[..124]).value() != u32_at(bytes, 124) {
            return Err(NotAHeader::Invalid);
        }
        let (version, flags) = (bytes[4], bytes[5]);
        if version != FORMAT_VERSION || flags & !FLAGS_KNOWN != 0 {
            return Err(NotAHeader::Unsupported { version, flags });
        }
        let copy = usize::from((flags >> COPY_SHIFT) & COPY_MASK);
        let first = Lsn::new(u64_at(bytes, 48));
        let header = Self {
            log: Uuid::from_slice(&bytes[8..24]).map_err(|_| NotAHeader::Invalid)?,
            id: SegmentId::new(u64_at(bytes, 24)),
            epoch: u64_at(bytes, 32),
            nonce: u64_at(bytes, 40),
            first,
            created: u64_at(bytes, 56),
            low_water: Lsn::new(u64_at(bytes, 64)),
            low_water_covered: flags & FLAG_COVERED != 0,
            accepted_loss: Lsn::new(u64_at(bytes, 72)),
            transaction_floor: floor(first, u32_at(bytes, 80)).ok_or(NotAHeader::Invalid)?,
            max_transactions: bytes[7],
            immediate: flags & FLAG_IMMEDIATE != 0,
            recycled: flags & FLAG_RECYCLED != 0,
            leftovers: flags & FLAG_LEFTOVERS != 0,
            blank: if flags & FLAG_BLANK_FF == 0 { 0 } else { 0xFF },
            granule: 1 << (bytes[6] & GRANULE_BITS),
            copy_offset: *COPY_OFFSETS.get(copy).ok_or(NotAHeader::Invalid)?,
            segment_size: u32_at(bytes, 116),
            write_limit: u32_at(bytes, 120),
            predecessor: Predecessor {
                id: SegmentId::new(u64_at(bytes, 88)),
                nonce: u64_at(bytes, 96),
                last: Lsn::new(u64_at(bytes, 104)),
                size: u32_at(bytes, 112),
                span: u32_at(bytes, 84),
                between: bytes[6] >> BETWEEN_SHIFT,
            },
        };
        if header.is_possible() && (offset == 0 || offset == header.copy_offset) {
            Ok(header)
        } else {
            Err(NotAHeader::Invalid)
        }
    }

    /// Whether the values fit together. A checksum of 32 bits alone does not make hostile bytes a header.
    fn is_possible(&self) -> bool {
        self.granule <= GRANULE_MAX
            && self.granule <= self.copy_offset
            && self.segment_size <= Self::SIZE_MAX
            && self.frames_at() < self.segment_size
            && self.write_limit >= WRITE_LIMIT_MIN
            && self.write_limit <= self.segment_size - self.frames_at()
            && self.max_transactions > 0
            && usize::from(self.max_transactions) <= TRANSACTIONS_MAX
            && self.id > self.predecessor.id
            && self.epoch > 0
            && self.first > Lsn::ZERO
            && (self.nonce != 0 || !self.recycled)
            && self.predecessor.is_possible(self.first)
    }

    /// The low-water mark that it says, and whether a checkpoint holds what is below.
    pub(crate) fn truncated(&self) -> (Lsn, bool) {
        (self.low_water, self.low_water_covered && !self.names_none())
    }

    /// Whether the log was cut where this segment begins, and the cut took its last checkpoint: no entry before it names one
    /// that is missed. Below a low-water mark of 1 is nothing that a checkpoint could hold: there the flag says this.
    pub(crate) fn names_none(&self) -> bool {
        self.low_water_covered && self.low_water == Lsn::FIRST
    }

    /// Says that, where nothing was given up yet: else the flag says something else.
    pub(crate) fn say_names_none(&mut self) {
        self.low_water_covered |= self.low_water == Lsn::FIRST;
    }

    /// What a successor's header says of this segment if it is cut right behind the entry at `last`, which ends at `size`.
    #[inline(never)] // Rarely called, from several places.
    pub(crate) fn cut(&self, last: Lsn, size: u32) -> Predecessor {
        let truncated = self.low_water.previous().min(self.first.previous());
        let before = self.predecessor.last.max(truncated);
        let span = u32::try_from(last.value().saturating_sub(before.value())).unwrap_or(u32::MAX);
        let between = self.id.value().saturating_sub(self.predecessor.id.value().saturating_add(1));
        let between = u8::try_from(between).map_or(BETWEEN_MAX, |between| between.min(BETWEEN_MAX));
        Predecessor { id: self.id, nonce: self.nonce, last, size, span, between }
    }

    /// What stands before the first segment of a log: no segment, in no epoch.
    pub(crate) const NONE: Self = Self {
        log: Uuid::nil(),
        id: SegmentId::NONE,
        epoch: 0,
        nonce: 0,
        first: Lsn::FIRST,
        created: 0,
        low_water: Lsn::FIRST,
        low_water_covered: false,
        accepted_loss: Lsn::ZERO,
        transaction_floor: Lsn::FIRST,
        max_transactions: 1,
        immediate: false,
        recycled: false,
        leftovers: false,
        blank: 0,
        granule: 1,
        copy_offset: 128,
        segment_size: 0,
        write_limit: 0,
        predecessor: Predecessor { id: SegmentId::NONE, nonce: 0, last: Lsn::ZERO, size: 0, span: 0, between: 0 },
    };

    /// The largest segment: offsets stay clear of the end of 32 bits.
    pub const SIZE_MAX: u32 = 1 << 31;
}

/// Writes numbers one behind the other.
#[inline(never)]
fn put_u64s(bytes: &mut [u8], numbers: &[u64]) {
    for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}

fn put_u32s(bytes: &mut [u8], numbers: &[u32]) {
    for (place, number) in bytes.chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}

/// The transaction floor that lies so far before `first`; `None` if that is before the first entry of any log.
fn floor(first: Lsn, distance: u32) -> Option<Lsn> {
    let floor = first.value().checked_sub(distance.into()).filter(|floor| *floor > 0)?;
    Some(if distance == u32::MAX { Lsn::FIRST } else { Lsn::new(floor) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::portable;

    pub(crate) fn header() -> SegmentHeader {
        SegmentHeader {
            log: Uuid::from_u128(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f),
            id: SegmentId::new(3),
            epoch: 2,
            nonce: 0x1122_3344_5566_7788,
            first: Lsn::new(12),
            created: 1_700_000_000_000_000,
            low_water: Lsn::new(4),
            low_water_covered: true,
            accepted_loss: Lsn::new(2),
            transaction_floor: Lsn::new(10),
            max_transactions: 8,
            immediate: true,
            recycled: false,
            leftovers: true,
            blank: 0xFF,
            granule: 16,
            copy_offset: 512,
            segment_size: 65536,
            write_limit: 16384,
            predecessor: Predecessor {
                id: SegmentId::new(2),
                nonce: 9,
                last: Lsn::new(11),
                size: 4000,
                span: 7,
                between: 0,
            },
        }
    }

    #[test]
    fn a_header_reads_back_at_both_its_places() {
        let bytes = header().encode(portable);
        assert_eq!(SegmentHeader::decode(portable, &bytes, 0), Ok(header()));
        assert_eq!(SegmentHeader::decode(portable, &bytes, 512), Ok(header()));
        assert_eq!(SegmentHeader::decode(portable, &bytes, 128), Err(NotAHeader::Invalid));
        assert_eq!(header().frames_at(), 640);
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_found() {
        let bytes = header().encode(portable);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(portable, &damaged, 0), Err(NotAHeader::Invalid), "bit {bit}");
        }
    }

    #[test]
    fn a_header_of_another_version_or_with_an_unknown_flag_is_told_apart_from_damage() {
        for (at, value) in [(4, 2), (5, 0x80 | header().encode(portable)[5])] {
            let mut bytes = header().encode(portable);
            bytes[at] = value;
            let sum = Crc::new(portable).with(&bytes[..124]).value();
            bytes[124..].copy_from_slice(&sum.to_le_bytes());
            assert!(matches!(SegmentHeader::decode(portable, &bytes, 0), Err(NotAHeader::Unsupported { .. })));
        }
    }

    #[test]
    fn a_floor_further_back_than_a_header_tells_is_the_first_lsn() {
        let floor = |first: u64, floor: u64| {
            let (first, transaction_floor) = (Lsn::new(first), Lsn::new(floor));
            let bytes = SegmentHeader { first, transaction_floor, ..header() }.encode(portable);
            SegmentHeader::decode(portable, &bytes, 0).unwrap().transaction_floor.value()
        };
        let far = u64::from(u32::MAX);
        assert_eq!([floor(far + 50, 51), floor(far + 50, 50), floor(far + 50, 49), floor(far + 50, 1)], [51, 1, 1, 1]);
    }

    #[test]
    fn values_that_no_writer_writes_are_no_header() {
        let whole = header();
        let refused = |change: &dyn Fn(&mut SegmentHeader)| {
            let mut header = whole;
            change(&mut header);
            SegmentHeader::decode(portable, &header.encode(portable), 0) == Err(NotAHeader::Invalid)
        };
        assert!(!refused(&|_| {}));
        assert!(!refused(&|header| header.predecessor.span = 11));
        assert!(refused(&|header| header.predecessor.span = 12), "it would begin before the first LSN");
        assert!(!refused(&|header| header.predecessor.span = u32::MAX));
        assert!(!refused(&|header| header.predecessor.between = 1));
        assert!(refused(&|header| header.predecessor.between = 2), "the id before it would be negative");
        assert!(!refused(&|header| header.predecessor.between = BETWEEN_MAX));
        assert!(refused(&|header| header.predecessor.last = header.first), "the predecessor ends before it begins");
        assert!(refused(&|header| header.predecessor.id = SegmentId::NONE), "no segment, and yet an end");
        assert!(!refused(&|header| header.predecessor = Predecessor::default()));
        let mut bytes = whole.encode(portable);
        bytes[80..84].copy_from_slice(&12u32.to_le_bytes());
        let sum = Crc::new(portable).with(&bytes[..124]).value();
        bytes[124..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(
            SegmentHeader::decode(portable, &bytes, 0),
            Err(NotAHeader::Invalid),
            "a floor before the first LSN"
        );
    }

    #[test]
    fn a_cut_tells_where_the_segment_before_it_ended() {
        let cut = |header: &SegmentHeader, last: u64| {
            let cut = header.cut(Lsn::new(last), 900);
            (cut.first().unwrap().value(), cut.before().unwrap().value())
        };
        assert_eq!(cut(&header(), 20), (12, 2));
        assert_eq!(cut(&header(), 11), (12, 2), "no live entry");
        let given_up = SegmentHeader { first: Lsn::new(40), ..header() };
        assert_eq!(cut(&given_up, 50), (12, 2), "what was given up before it belongs to its span");
        let reset = SegmentHeader { low_water: Lsn::new(40), ..given_up };
        assert_eq!(cut(&reset, 50), (40, 2));
        let first = SegmentHeader { id: SegmentId::new(4), predecessor: Predecessor::default(), ..header() };
        assert_eq!(cut(&first, 20).1, 0);
        let far = SegmentHeader { id: SegmentId::new(18), ..header() }.cut(Lsn::new(20), 900);
        assert_eq!((far.between, far.before()), (BETWEEN_MAX, None));
        assert_eq!(header().cut(Lsn::new(u64::from(u32::MAX) + 11), 900).first(), None);
    }

    #[test]
    fn each_limit_of_a_header_is_refused_one_step_beyond_it() {
        let accepted = |change: &dyn Fn(&mut SegmentHeader)| {
            let mut header = header();
            change(&mut header);
            SegmentHeader::decode(portable, &header.encode(portable), 0) == Ok(header)
        };
        for (granule, copy_offset, is_one) in
            [(1, 128, true), (128, 128, true), (256, 128, false), (4096, 4096, true), (8192, 4096, false)]
        {
            let one = accepted(&|header| (header.granule, header.copy_offset) = (granule, copy_offset));
            assert_eq!(one, is_one, "granule {granule}, copy at {copy_offset}");
        }
        assert!(accepted(&|header| header.segment_size = SegmentHeader::SIZE_MAX));
        assert!(!accepted(&|header| header.segment_size = SegmentHeader::SIZE_MAX + 1));
        let room = header().segment_size - header().frames_at();
        for (write_limit, is_one) in
            [(WRITE_LIMIT_MIN - 1, false), (WRITE_LIMIT_MIN, true), (room, true), (room + 1, false)]
        {
            assert_eq!(accepted(&|header| header.write_limit = write_limit), is_one, "{write_limit} bytes");
        }
        assert!(!accepted(&|header| header.segment_size = header.frames_at()), "without room for a frame");
        let most = u8::try_from(TRANSACTIONS_MAX).unwrap();
        for (max_transactions, is_one) in [(0, false), (1, true), (most, true), (most + 1, false)] {
            assert_eq!(accepted(&|header| header.max_transactions = max_transactions), is_one, "{max_transactions}");
        }
        assert!(!accepted(&|header| header.predecessor.id = header.id), "its own predecessor");
        assert!(!accepted(&|header| header.epoch = 0));
        assert!(!accepted(&|header| (header.first, header.predecessor) = (Lsn::ZERO, Predecessor::default())));
        for (nonce, recycled, is_one) in [(0, true, false), (0, false, true), (1, true, true), (1, false, true)] {
            assert_eq!(accepted(&|header| (header.nonce, header.recycled) = (nonce, recycled)), is_one, "{nonce}");
        }
        // Where nothing is said of a predecessor, nothing at all is.
        assert!(!accepted(&|header| header.predecessor = Predecessor { size: 1, ..Predecessor::default() }));
    }

    #[test]
    fn each_flag_reads_back_by_itself() {
        for set in 0..6 {
            let flag = |n: u32| n == set;
            let header = SegmentHeader {
                blank: if flag(0) { 0xFF } else { 0 },
                recycled: flag(1),
                low_water_covered: flag(2),
                immediate: flag(3),
                leftovers: flag(4),
                ..header()
            };
            for copy_offset in COPY_OFFSETS {
                let header = SegmentHeader { copy_offset, ..header };
                assert_eq!(SegmentHeader::decode(portable, &header.encode(portable), 0), Ok(header), "flag {set}");
            }
        }
    }

    #[test]
    fn the_room_of_a_segment_is_divided_as_the_format_says() {
        let geometry = |granule, copy_offset| Geometry {
            segment_size: 65536 + 5,
            granule,
            copy_offset,
            blank: 0,
            settled: false,
            slots: None,
        };
        // Where frames begin, room for eight marks, that and a slot twice, a stop, and the least and largest write limit.
        let numbers = |geometry: Geometry| {
            let Geometry { granule, .. } = geometry;
            assert_eq!(geometry.write_limit_max() % granule, 0);
            [
                geometry.frames_at(),
                geometry.reserve(),
                geometry.overhead(),
                geometry.stop_len(),
                geometry.write_limit_min(),
                geometry.write_limit_max(),
            ]
        };
        assert_eq!(numbers(geometry(1, 128)), [256, 840, 1306, 29, 288, 64235]);
        assert_eq!(numbers(geometry(16, 512)), [640, 896, 1760, 32, 304, 63776]);
        assert_eq!(numbers(geometry(128, 128)), [256, 1024, 1536, 128, 512, 64000]);
        assert_eq!(numbers(geometry(512, 4096)), [4608, 4096, 9216, 512, 1024, 56320]);
        assert_eq!(numbers(geometry(4096, 4096)), [8192, 32768, 45056, 4096, 8192, 20480]);
    }

    #[test]
    fn behind_a_write_in_recycled_room_stands_a_stop_as_far_as_there_is_room() {
        let (size, room) = (header().segment_size, SegmentHeader { recycled: true, ..header() });
        for (left, stop) in [(4096, 32), (33, 32), (32, 32), (16, 16), (0, 0)] {
            assert_eq!(room.stop_at(size - left), stop, "{left} bytes before the end");
            assert_eq!(header().stop_at(size - left), 0, "the room is blank");
        }
    }

    #[test]
    fn what_is_no_header_says_why() {
        extern crate std;
        use std::string::ToString;
        let newer = NotAHeader::Unsupported { version: 7, flags: 0x80 }.to_string();
        assert!(newer.contains("version 7") && newer.contains("0x80"), "{newer}");
        assert!(NotAHeader::Invalid.to_string().contains("no segment header"));
    }
}
