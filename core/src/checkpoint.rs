//! The bytes of a checkpoint (`FORMAT.md`, section 6).
//!
//! ```text
//! header (80) | document ids (16 d) | chunk ids (16 k) | metadata (m)
//!             | blocks: length (4), bytes ... | 0 (4) | length of all (8) | checksum (4)
//! ```
//!
//! A checkpoint may be larger than any memory. [`Checker`] goes through one in pieces of any length, says what each
//! piece belongs to and, at the end, whether all of it verified. With the feature `alloc`, `Checkpoint` is a whole one
//! in memory, read through the same checker.

use core::fmt;

use uuid::Uuid;

use crate::checksum::{Crc, Update, compute_checksum, verify_checksum};
use crate::frame::{u32_at, u64_at};
use crate::{CheckpointId, Lsn};

#[cfg(feature = "alloc")]
pub use owned::{Checkpoint, decode_metadata, encode_metadata};

/// The first bytes of a checkpoint.
pub const CHECKPOINT_MAGIC: [u8; 4] = *b"CKPT";
/// The version of the format that is written, and the only one that is read.
pub const CHECKPOINT_VERSION: u8 = 1;
/// The length of a checkpoint's header in bytes.
pub const HEADER_LEN: usize = 80;
/// The length of what stands behind the blocks and the length 0 that ends them, in bytes.
pub const TRAILER_LEN: usize = 12;

const ID_LEN: u64 = 16;
const BLOCK_LENGTH_LEN: usize = 4;

/// The header of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CheckpointHeader {
    /// The log's UUID.
    #[cfg_attr(feature = "defmt", defmt(Display2Format))]
    pub log: Uuid,
    /// The epoch in which the checkpoint was written.
    pub epoch: u64,
    /// The checkpoint's id.
    pub id: CheckpointId,
    /// The LSN up to which the checkpoint contains the effect of every entry.
    pub lsn: Lsn,
    /// The replay floor: the first LSN of the oldest transaction that is open at `lsn`, or whose end is not durable there, else the
    /// one after `lsn`.
    pub floor: Lsn,
    /// When it was written, in seconds since the Unix epoch.
    pub created_at: u64,
    /// The number of document ids.
    pub documents: u32,
    /// The number of chunk ids.
    pub chunks: u32,
    /// The length of the metadata in bytes.
    pub metadata_len: u32,
}

/// What has to be known of a checkpoint as long as a log is open that has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CheckpointHead {
    /// The checkpoint's id.
    pub id: CheckpointId,
    /// The LSN up to which it contains the effect of every entry.
    pub lsn: Lsn,
    /// The replay floor: see [`CheckpointHeader::floor`].
    pub floor: Lsn,
}

impl CheckpointHeader {
    /// What has to be known of it as long as its log is open.
    #[must_use]
    pub const fn head(&self) -> CheckpointHead {
        let Self { id, lsn, floor, .. } = *self;
        CheckpointHead { id, lsn, floor }
    }

    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&CHECKPOINT_MAGIC);
        bytes[4] = CHECKPOINT_VERSION;
        bytes[8..24].copy_from_slice(self.log.as_bytes());
        bytes[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.id.value().to_le_bytes());
        bytes[40..48].copy_from_slice(&self.lsn.value().to_le_bytes());
        bytes[48..56].copy_from_slice(&self.floor.value().to_le_bytes());
        bytes[56..64].copy_from_slice(&self.created_at.to_le_bytes());
        bytes[64..68].copy_from_slice(&self.documents.to_le_bytes());
        bytes[68..72].copy_from_slice(&self.chunks.to_le_bytes());
        bytes[72..76].copy_from_slice(&self.metadata_len.to_le_bytes());
        let checksum = compute_checksum(&bytes[..76]);
        bytes[76..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header at the front of `bytes`; what follows it is not looked at.
    ///
    /// # Errors
    /// [`CheckpointError`]: `bytes` does not begin with a header of version 1. A version is named only if the checksum
    /// of the header is right, so that damage is not taken for a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(CheckpointError::Short)?;
        if bytes[..4] != CHECKPOINT_MAGIC {
            return Err(CheckpointError::WrongMagic);
        }
        if !verify_checksum(&bytes[..76], u32_at(bytes, 76)) {
            return Err(CheckpointError::HeaderChecksum);
        }
        if bytes[4] != CHECKPOINT_VERSION {
            return Err(CheckpointError::UnsupportedVersion { version: bytes[4] });
        }
        if bytes[5..8] != [0; 3] {
            return Err(CheckpointError::ReservedBytes);
        }
        let mut log = [0; 16];
        log.copy_from_slice(&bytes[8..24]);
        Ok(Self {
            log: Uuid::from_bytes(log),
            epoch: u64_at(bytes, 24),
            id: CheckpointId::new(u64_at(bytes, 32)),
            lsn: Lsn::new(u64_at(bytes, 40)),
            floor: Lsn::new(u64_at(bytes, 48)),
            created_at: u64_at(bytes, 56),
            documents: u32_at(bytes, 64),
            chunks: u32_at(bytes, 68),
            metadata_len: u32_at(bytes, 72),
        })
    }

    /// The offset at which the blocks of the snapshot begin, in bytes.
    #[must_use]
    pub fn snapshot_offset(&self) -> u64 {
        let ids = u64::from(self.documents) + u64::from(self.chunks);
        HEADER_LEN as u64 + ids * ID_LEN + u64::from(self.metadata_len)
    }
}

/// The trailer of a checkpoint, behind `written` bytes whose checksum is `crc`: the header, the ids, the metadata and
/// the blocks with the length 0 that ends them.
#[must_use]
pub fn encode_trailer(written: u64, crc: Crc) -> [u8; TRAILER_LEN] {
    let len = written.saturating_add(TRAILER_LEN as u64).to_le_bytes();
    let mut bytes = [0; TRAILER_LEN];
    bytes[..8].copy_from_slice(&len);
    bytes[8..].copy_from_slice(&crc.with(&len).value().to_le_bytes());
    bytes
}

/// A part of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Section {
    /// The header.
    Header,
    /// The document ids, 16 bytes each.
    DocumentIds,
    /// The chunk ids, 16 bytes each.
    ChunkIds,
    /// The metadata.
    Metadata,
    /// The length of a block, 0 behind the last.
    BlockLength,
    /// Bytes of the application's snapshot.
    Block,
    /// The length of the whole and its checksum.
    Trailer,
    /// What is behind the checkpoint, and no part of it.
    End,
}

impl Section {
    /// The length of a section that the checker reads itself.
    const fn own_len(self) -> Option<usize> {
        match self {
            Self::Header => Some(HEADER_LEN),
            Self::BlockLength => Some(BLOCK_LENGTH_LEN),
            Self::Trailer => Some(TRAILER_LEN),
            _ => None,
        }
    }
}

/// Bytes that belong to one section, at the front of those that a [`Checker`] was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The section.
    pub section: Section,
    /// The number of bytes, which may end anywhere in the section, also within an id.
    pub len: usize,
}

/// Goes through a checkpoint that comes in pieces and tells whether it is complete and valid.
///
/// Nothing that it says before [`is_complete`](Self::is_complete) is proven, but for the header, which has a checksum
/// of its own. No length in a checkpoint makes it loop or overflow: the work is that of the bytes given.
#[derive(Clone, Copy, Debug)]
pub struct Checker {
    crc: Crc,
    section: Section,
    /// How many bytes of the section are still to come; 0 only at the end.
    left: u64,
    /// How many bytes were taken.
    len: u64,
    /// What has come of a section that is read here.
    buffer: [u8; HEADER_LEN],
    /// Read once the first section is behind.
    header: CheckpointHeader,
    failed: Option<CheckpointError>,
}

impl Checker {
    /// A checker that has seen nothing and sums by `update`.
    #[must_use]
    pub fn new(update: Update) -> Self {
        Self {
            crc: Crc::new(update),
            section: Section::Header,
            left: HEADER_LEN as u64,
            len: 0,
            buffer: [0; HEADER_LEN],
            header: CheckpointHeader::default(),
            failed: None,
        }
    }

    /// Takes in what of `bytes` belongs to the present section, and tells how much that is and of which section.
    ///
    /// Nothing is taken from no bytes, and none behind the end.
    ///
    /// # Errors
    /// [`CheckpointError`]: what has come is not the beginning of a valid checkpoint. Later calls say the same.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Piece, CheckpointError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let taken = self.take_piece(bytes);
        self.failed = taken.err();
        taken
    }

    /// Takes in all of `bytes` that belongs to the checkpoint, and tells how much that is: less than all of it only
    /// where the checkpoint is complete.
    ///
    /// # Errors
    /// [`CheckpointError`]: what has come is not the beginning of a valid checkpoint. Later calls say the same.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, CheckpointError> {
        let mut taken = 0;
        loop {
            match self.take(&bytes[taken..])?.len {
                0 => return Ok(taken),
                len => taken += len,
            }
        }
    }

    /// Whether a whole checkpoint was taken in and is valid.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.section == Section::End
    }

    /// The header, once it was taken in and verified.
    #[must_use]
    pub fn header(&self) -> Option<&CheckpointHeader> {
        (self.section != Section::Header).then_some(&self.header)
    }

    /// How many bytes were taken in; once complete, the length of the checkpoint.
    #[must_use]
    pub fn bytes_taken(&self) -> u64 {
        self.len
    }

    fn take_piece(&mut self, bytes: &[u8]) -> Result<Piece, CheckpointError> {
        let section = self.section;
        let room = usize::try_from(self.left).unwrap_or(usize::MAX);
        let len = bytes.len().min(room);
        let piece = &bytes[..len];
        if let Some(own_len) = section.own_len() {
            let at = own_len - room;
            self.buffer[at..at + len].copy_from_slice(piece);
        }
        if section != Section::Trailer {
            self.crc = self.crc.with(piece);
        }
        self.left -= len as u64;
        self.len += len as u64;
        while self.left == 0 && self.section != Section::End {
            (self.section, self.left) = self.following()?;
        }
        Ok(Piece { section, len })
    }

    /// The section behind the present one, of which all has come, and its length, which may be 0.
    fn following(&mut self) -> Result<(Section, u64), CheckpointError> {
        Ok(match self.section {
            Section::Header => {
                self.header = CheckpointHeader::decode(&self.buffer)?;
                (Section::DocumentIds, u64::from(self.header.documents) * ID_LEN)
            }
            Section::DocumentIds => (Section::ChunkIds, u64::from(self.header.chunks) * ID_LEN),
            Section::ChunkIds => (Section::Metadata, u64::from(self.header.metadata_len)),
            Section::Metadata | Section::Block => (Section::BlockLength, BLOCK_LENGTH_LEN as u64),
            Section::BlockLength => match u32_at(&self.buffer, 0) {
                0 => (Section::Trailer, TRAILER_LEN as u64),
                len => (Section::Block, u64::from(len)),
            },
            Section::Trailer => {
                self.check_trailer()?;
                (Section::End, 0)
            }
            Section::End => (Section::End, 0),
        })
    }

    fn check_trailer(&self) -> Result<(), CheckpointError> {
        if self.crc.with(&self.buffer[..8]).value() != u32_at(&self.buffer, 8) {
            return Err(CheckpointError::Checksum);
        }
        match u64_at(&self.buffer, 0) {
            len if len == self.len => Ok(()),
            _ => Err(CheckpointError::WrongLength),
        }
    }
}

/// Why bytes are not a valid checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum CheckpointError {
    /// The bytes end before the checkpoint does.
    Short,
    /// The bytes do not begin with the magic of a checkpoint.
    WrongMagic,
    /// The checksum of the header is wrong.
    HeaderChecksum,
    /// The checkpoint is of a version that this program does not read.
    UnsupportedVersion {
        /// The version.
        version: u8,
    },
    /// Bytes of the header that are zero in version 1 are not.
    ReservedBytes,
    /// The checksum of the whole is wrong.
    Checksum,
    /// The checkpoint says another length than it has.
    WrongLength,
    /// The metadata is not a map of strings.
    InvalidMetadata,
    /// There are more ids or more bytes of metadata than a header can say.
    TooLarge,
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("the bytes end before the checkpoint does"),
            Self::WrongMagic => f.write_str("the bytes are not those of a checkpoint"),
            Self::HeaderChecksum => f.write_str("the checksum of the checkpoint's header is wrong"),
            Self::UnsupportedVersion { version } => write!(f, "the checkpoint is of version {version}, not 1"),
            Self::ReservedBytes => f.write_str("reserved bytes of the checkpoint's header are not zero"),
            Self::Checksum => f.write_str("the checksum of the checkpoint is wrong"),
            Self::WrongLength => f.write_str("the checkpoint has another length than it says"),
            Self::InvalidMetadata => f.write_str("the metadata of the checkpoint is not a map of strings"),
            Self::TooLarge => f.write_str("the checkpoint has more ids or metadata than the format can say"),
        }
    }
}

impl core::error::Error for CheckpointError {}

#[cfg(feature = "alloc")]
mod owned {
    use alloc::collections::BTreeMap;
    use alloc::string::String;
    use alloc::vec::Vec;

    use serde::Deserialize;
    use uuid::Uuid;

    use super::{Checker, CheckpointError, CheckpointHeader, Piece, Section, encode_trailer};
    use crate::checksum::{Crc, portable};
    use crate::{CheckpointId, Lsn};

    /// The longest block that [`Checkpoint::to_bytes`] writes.
    const MAX_BLOCK_LEN: u32 = 64 * 1024;

    /// A whole checkpoint in memory.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Checkpoint {
        /// The checkpoint's id.
        pub id: CheckpointId,
        /// The LSN up to which the checkpoint contains the effect of every entry.
        pub lsn: Lsn,
        /// The replay floor: the first LSN of the oldest transaction that is open at `lsn`, or whose end is not durable there, else the
        /// one after `lsn`.
        pub floor: Lsn,
        /// When it was written, in seconds since the Unix epoch.
        pub created_at: u64,
        /// The log's UUID.
        pub log: Uuid,
        /// The epoch in which the checkpoint was written.
        pub epoch: u64,
        /// The ids of the documents that the snapshot holds.
        pub document_ids: Vec<Uuid>,
        /// The ids of the chunks that the snapshot holds.
        pub chunk_ids: Vec<Uuid>,
        /// What the application says about the checkpoint.
        pub metadata: BTreeMap<String, String>,
        /// The application's snapshot.
        pub snapshot: Vec<u8>,
    }

    impl Checkpoint {
        /// An empty checkpoint at `lsn`, with no transaction open there; log, epoch and time are for the caller to
        /// set.
        #[must_use]
        pub fn new(id: CheckpointId, lsn: Lsn) -> Self {
            Self { id, lsn, floor: lsn.next_or_max(), ..Self::default() }
        }

        /// Verifies the checkpoint at the front of `bytes` without copying it, and gives its header.
        ///
        /// # Errors
        /// [`CheckpointError`]: [`from_bytes`](Self::from_bytes) would fail in the same way.
        pub fn validate(bytes: &[u8]) -> Result<CheckpointHeader, CheckpointError> {
            let parts = parse(bytes, |_| {})?;
            read_metadata::<&str>(parts.metadata)?;
            Ok(parts.header)
        }

        /// The checkpoint's bytes, complete with both checksums.
        ///
        /// # Errors
        /// [`CheckpointError::TooLarge`]: there are 2^32 ids of a kind or more, or as many bytes of metadata.
        pub fn to_bytes(&self) -> Result<Vec<u8>, CheckpointError> {
            let metadata = encode_metadata(&self.metadata)?;
            let header = CheckpointHeader {
                log: self.log,
                epoch: self.epoch,
                id: self.id,
                lsn: self.lsn,
                floor: self.floor,
                created_at: self.created_at,
                documents: count(self.document_ids.len())?,
                chunks: count(self.chunk_ids.len())?,
                metadata_len: count(metadata.len())?,
            };
            let mut bytes = header.encode().to_vec();
            for id in self.document_ids.iter().chain(&self.chunk_ids) {
                bytes.extend_from_slice(id.as_bytes());
            }
            bytes.extend_from_slice(&metadata);
            for block in self.snapshot.chunks(MAX_BLOCK_LEN as usize) {
                bytes.extend_from_slice(&count(block.len())?.to_le_bytes());
                bytes.extend_from_slice(block);
            }
            bytes.extend_from_slice(&0_u32.to_le_bytes());
            let trailer = encode_trailer(bytes.len() as u64, Crc::new(portable).with(&bytes));
            bytes.extend_from_slice(&trailer);
            Ok(bytes)
        }

        /// The checkpoint at the front of `bytes`; what a medium holds behind it is not looked at.
        ///
        /// No more memory is taken than `bytes` gives reason for, whatever lengths it names.
        ///
        /// # Errors
        /// [`CheckpointError`]: `bytes` does not begin with a whole and valid checkpoint of version 1.
        pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
            let mut snapshot = Vec::new();
            let Parts { header, document_ids, chunk_ids, metadata } =
                parse(bytes, |block| snapshot.extend_from_slice(block))?;
            Ok(Self {
                id: header.id,
                lsn: header.lsn,
                floor: header.floor,
                created_at: header.created_at,
                log: header.log,
                epoch: header.epoch,
                document_ids: read_ids(document_ids),
                chunk_ids: read_ids(chunk_ids),
                metadata: read_metadata(metadata)?,
                snapshot,
            })
        }
    }

    struct Parts<'a> {
        header: CheckpointHeader,
        document_ids: &'a [u8],
        chunk_ids: &'a [u8],
        metadata: &'a [u8],
    }

    /// Verifies a checkpoint and finds its parts; `block` is given the snapshot before all is verified.
    fn parse(bytes: &[u8], mut block: impl FnMut(&[u8])) -> Result<Parts<'_>, CheckpointError> {
        let mut checker = Checker::new(portable);
        let (mut document_ids, mut chunk_ids, mut metadata) = (&[][..], &[][..], &[][..]);
        let mut rest = bytes;
        while !checker.is_complete() {
            let Piece { section, len } = checker.take(rest)?;
            if len == 0 {
                return Err(CheckpointError::Short);
            }
            let (piece, behind) = rest.split_at(len);
            match section {
                Section::DocumentIds => document_ids = piece,
                Section::ChunkIds => chunk_ids = piece,
                Section::Metadata => metadata = piece,
                Section::Block => block(piece),
                Section::Header | Section::BlockLength | Section::Trailer | Section::End => {}
            }
            rest = behind;
        }
        let header = *checker.header().ok_or(CheckpointError::Short)?;
        Ok(Parts { header, document_ids, chunk_ids, metadata })
    }

    fn read_ids(bytes: &[u8]) -> Vec<Uuid> {
        bytes.as_chunks().0.iter().copied().map(Uuid::from_bytes).collect()
    }

    /// The bytes of a checkpoint's metadata.
    ///
    /// # Errors
    /// [`CheckpointError::TooLarge`]: they are more than a header can count.
    pub fn encode_metadata(metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, CheckpointError> {
        let bytes = postcard::to_allocvec(metadata).map_err(|_| CheckpointError::TooLarge)?;
        u32::try_from(bytes.len()).map_err(|_| CheckpointError::TooLarge)?;
        Ok(bytes)
    }

    /// The metadata that these bytes of a checkpoint are.
    ///
    /// # Errors
    /// [`CheckpointError::InvalidMetadata`].
    pub fn decode_metadata(bytes: &[u8]) -> Result<BTreeMap<String, String>, CheckpointError> {
        read_metadata(bytes)
    }

    fn read_metadata<'a, S: Deserialize<'a> + Ord>(bytes: &'a [u8]) -> Result<BTreeMap<S, S>, CheckpointError> {
        match postcard::take_from_bytes(bytes) {
            Ok((metadata, [])) => Ok(metadata),
            _ => Err(CheckpointError::InvalidMetadata),
        }
    }

    fn count(count: usize) -> Result<u32, CheckpointError> {
        u32::try_from(count).map_err(|_| CheckpointError::TooLarge)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;
    use std::vec::Vec;

    use super::*;
    use crate::checksum::portable;

    const LOG: Uuid = Uuid::from_bytes(*b"the log's own id");

    fn header() -> CheckpointHeader {
        CheckpointHeader {
            log: LOG,
            epoch: 0x0102_0304_0506_0708,
            id: CheckpointId::new(3),
            lsn: Lsn::new(0x1000),
            floor: Lsn::new(0x0FFF),
            created_at: 1_700_000_000,
            documents: 1,
            chunks: 2,
            metadata_len: 5,
        }
    }

    fn header_bytes() -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(b"CKPT\x01\0\0\0");
        bytes[8..24].copy_from_slice(b"the log's own id");
        bytes[24..32].copy_from_slice(&[8, 7, 6, 5, 4, 3, 2, 1]);
        bytes[32] = 3;
        bytes[41] = 0x10;
        bytes[48..50].copy_from_slice(&[0xFF, 0x0F]);
        bytes[56..60].copy_from_slice(&[0x00, 0xF1, 0x53, 0x65]);
        bytes[64] = 1;
        bytes[68] = 2;
        bytes[72] = 5;
        let checksum = compute_checksum(&bytes[..76]);
        bytes[76..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// A checkpoint as `FORMAT.md` says it: one document, two chunks, one pair of metadata, two blocks.
    fn sample() -> Vec<u8> {
        let mut bytes = header_bytes().to_vec();
        bytes.extend([0xD1; 16]);
        bytes.extend([0xC1; 16]);
        bytes.extend([0xC2; 16]);
        bytes.extend(*b"\x01\x01k\x01v");
        bytes.extend(*b"\x03\0\0\0abc");
        bytes.extend(*b"\x02\0\0\0de");
        bytes.extend([0; 4]);
        let len = bytes.len() as u64 + 12;
        bytes.extend(len.to_le_bytes());
        let checksum = compute_checksum(&bytes);
        bytes.extend(checksum.to_le_bytes());
        bytes
    }

    /// Makes both checksums of a changed sample right again.
    fn resummed(mut bytes: Vec<u8>) -> Vec<u8> {
        let checksum = compute_checksum(&bytes[..76]);
        bytes[76..80].copy_from_slice(&checksum.to_le_bytes());
        let end = bytes.len() - 4;
        let checksum = compute_checksum(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn check(bytes: &[u8]) -> Result<u64, CheckpointError> {
        let mut checker = Checker::new(portable);
        checker.feed(bytes)?;
        if checker.is_complete() { Ok(checker.bytes_taken()) } else { Err(CheckpointError::Short) }
    }

    #[test]
    fn the_header_is_the_one_that_the_format_says() {
        assert_eq!(header().encode(), header_bytes());
        assert_eq!(CheckpointHeader::decode(&header_bytes()), Ok(header()));
        assert_eq!(header().snapshot_offset(), 80 + 48 + 5);
        let all = u32::MAX;
        let largest = CheckpointHeader { documents: all, chunks: all, metadata_len: all, ..header() };
        assert_eq!(largest.snapshot_offset(), 80 + 33 * u64::from(all));
    }

    #[test]
    fn headers_that_break_a_rule_are_refused_by_name() {
        let decode = |change: fn(&mut [u8; HEADER_LEN])| {
            let mut bytes = header_bytes();
            change(&mut bytes);
            let checksum = compute_checksum(&bytes[..76]);
            bytes[76..].copy_from_slice(&checksum.to_le_bytes());
            CheckpointHeader::decode(&bytes)
        };
        assert_eq!(decode(|bytes| bytes[0] = b'c'), Err(CheckpointError::WrongMagic));
        assert_eq!(decode(|bytes| bytes[4] = 2), Err(CheckpointError::UnsupportedVersion { version: 2 }));
        assert_eq!(decode(|bytes| bytes[4] = 0), Err(CheckpointError::UnsupportedVersion { version: 0 }));
        assert_eq!(decode(|bytes| bytes[7] = 1), Err(CheckpointError::ReservedBytes));
        for len in 0..HEADER_LEN {
            assert_eq!(CheckpointHeader::decode(&header_bytes()[..len]), Err(CheckpointError::Short));
        }
        assert_eq!(
            CheckpointError::UnsupportedVersion { version: 2 }.to_string(),
            "the checkpoint is of version 2, not 1"
        );
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_refused() {
        for bit in 0..HEADER_LEN * 8 {
            let mut bytes = header_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(CheckpointHeader::decode(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_checkpoint_is_valid_in_pieces_of_any_length() {
        let mut bytes = sample();
        let len = bytes.len();
        bytes.extend(*b"what a medium holds behind it");
        for size in 1..=bytes.len() {
            let mut checker = Checker::new(portable);
            let mut taken = 0;
            for piece in bytes.chunks(size) {
                taken += checker.feed(piece).unwrap();
                assert_eq!(checker.header(), (taken >= HEADER_LEN).then(header).as_ref());
                assert_eq!(checker.is_complete(), taken == len);
            }
            assert_eq!((taken, checker.bytes_taken()), (len, len as u64), "pieces of {size}");
        }
    }

    #[test]
    fn pieces_say_what_they_belong_to() {
        let bytes = sample();
        let mut checker = Checker::new(portable);
        let mut rest = &bytes[..];
        let mut pieces = Vec::new();
        while !checker.is_complete() {
            let Piece { section, len } = checker.take(rest).unwrap();
            pieces.push((section, len));
            rest = &rest[len..];
        }
        let blocks = [(Section::BlockLength, 4), (Section::Block, 3), (Section::BlockLength, 4), (Section::Block, 2)];
        assert_eq!(pieces[..3], [(Section::Header, 80), (Section::DocumentIds, 16), (Section::ChunkIds, 32)]);
        assert_eq!(pieces[3], (Section::Metadata, 5));
        assert_eq!(pieces[4..8], blocks);
        assert_eq!(pieces[8..], [(Section::BlockLength, 4), (Section::Trailer, 12)]);
        assert_eq!(checker.take(b"more"), Ok(Piece { section: Section::End, len: 0 }));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_checkpoint_is_refused() {
        let bytes = sample();
        assert_eq!(check(&bytes), Ok(bytes.len() as u64));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&flipped).is_err(), "bit {bit}");
            // What follows must not make it valid either.
            flipped.extend([0; 64]);
            assert!(check(&flipped).is_err(), "bit {bit}, with zeros behind");
        }
        for len in 0..bytes.len() {
            assert_eq!(check(&bytes[..len]), Err(CheckpointError::Short), "{len} bytes");
        }
    }

    #[test]
    fn a_wrong_length_under_a_right_checksum_is_refused() {
        let mut bytes = sample();
        let at = bytes.len() - TRAILER_LEN;
        bytes[at] ^= 1;
        assert_eq!(check(&resummed(bytes)), Err(CheckpointError::WrongLength));
    }

    #[test]
    fn hostile_lengths_neither_overflow_nor_loop() {
        let all = u32::MAX;
        let hostile = CheckpointHeader { documents: all, chunks: all, metadata_len: all, ..header() };
        let mut bytes = hostile.encode().to_vec();
        bytes.extend([0xFF; 1000]);
        assert_eq!(check(&bytes), Err(CheckpointError::Short));

        let empty = CheckpointHeader { documents: 0, chunks: 0, metadata_len: 0, ..header() };
        let mut bytes = empty.encode().to_vec();
        bytes.extend([0xFF; 1000]);
        assert_eq!(check(&bytes), Err(CheckpointError::Short));
    }

    #[test]
    fn an_error_stays_one() {
        let mut checker = Checker::new(portable);
        assert_eq!(checker.feed(&[0; HEADER_LEN]), Err(CheckpointError::WrongMagic));
        assert_eq!(checker.feed(&sample()), Err(CheckpointError::WrongMagic));
        assert_eq!((checker.is_complete(), checker.header()), (false, None));
    }

    #[cfg(feature = "alloc")]
    mod owned {
        use std::vec;

        use super::*;

        fn checkpoint() -> Checkpoint {
            let mut checkpoint = Checkpoint::new(CheckpointId::new(3), Lsn::new(0x1000));
            assert_eq!(checkpoint.floor, Lsn::new(0x1001));
            checkpoint.floor = Lsn::new(0x0FFF);
            checkpoint.created_at = 1_700_000_000;
            checkpoint.log = LOG;
            checkpoint.epoch = 0x0102_0304_0506_0708;
            checkpoint.document_ids = vec![Uuid::from_bytes([0xD1; 16])];
            checkpoint.chunk_ids = vec![Uuid::from_bytes([0xC1; 16]), Uuid::from_bytes([0xC2; 16])];
            checkpoint.metadata.insert("k".to_string(), "v".to_string());
            checkpoint.snapshot = b"abcde".to_vec();
            checkpoint
        }

        #[test]
        fn a_checkpoint_is_read_as_it_was_written() {
            let checkpoint = checkpoint();
            assert_eq!(Checkpoint::from_bytes(&sample()), Ok(checkpoint.clone()));
            let bytes = checkpoint.to_bytes().unwrap();
            assert_eq!(Checkpoint::validate(&bytes), Ok(header()));
            assert_eq!(Checkpoint::from_bytes(&bytes), Ok(checkpoint));
            // Its only difference from the sample: the snapshot is one block.
            assert_eq!(bytes[..133], sample()[..133]);
            assert_eq!(&bytes[133..146], b"\x05\0\0\0abcde\0\0\0\0");
            assert_eq!(&bytes[146..154], &158_u64.to_le_bytes());
            assert_eq!(bytes.len(), 158);
        }

        #[test]
        fn checkpoints_empty_and_of_many_blocks_come_back() {
            let mut checkpoint = Checkpoint::new(CheckpointId::new(1), Lsn::MAX);
            assert_eq!(checkpoint.floor, Lsn::MAX);
            assert_eq!(Checkpoint::from_bytes(&checkpoint.to_bytes().unwrap()), Ok(checkpoint.clone()));
            checkpoint.snapshot = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
            assert_eq!(Checkpoint::from_bytes(&checkpoint.to_bytes().unwrap()), Ok(checkpoint));
        }

        #[test]
        fn every_flipped_bit_and_every_cut_is_refused() {
            let bytes = checkpoint().to_bytes().unwrap();
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let error = Checkpoint::validate(&flipped).expect_err("a bit was flipped");
                assert_eq!(Checkpoint::from_bytes(&flipped), Err(error), "bit {bit}");
            }
            for len in 0..bytes.len() {
                assert_eq!(Checkpoint::from_bytes(&bytes[..len]), Err(CheckpointError::Short), "{len} bytes");
            }
        }

        #[test]
        fn each_reason_has_its_error() {
            let bytes = sample();
            let mut magic = bytes.clone();
            magic[..4].copy_from_slice(b"WAL1");
            assert_eq!(Checkpoint::from_bytes(&resummed(magic)), Err(CheckpointError::WrongMagic));
            let mut newer = bytes.clone();
            newer[4] = 2;
            let version = CheckpointError::UnsupportedVersion { version: 2 };
            assert_eq!(Checkpoint::from_bytes(&resummed(newer)), Err(version));
            let mut damaged = bytes.clone();
            damaged[90] ^= 1;
            assert_eq!(Checkpoint::from_bytes(&damaged), Err(CheckpointError::Checksum));
        }

        #[test]
        fn metadata_reads_back_by_itself() {
            let metadata = checkpoint().metadata;
            let bytes = encode_metadata(&metadata).unwrap();
            assert_eq!(bytes, b"\x01\x01k\x01v");
            assert_eq!(decode_metadata(&bytes), Ok(metadata));
            assert_eq!(decode_metadata(&bytes[..4]), Err(CheckpointError::InvalidMetadata));
        }

        #[test]
        fn metadata_that_is_no_map_of_strings_is_refused() {
            for metadata in [b"\x02\x01k\x01v", b"\0\x01k\x01v", b"\x01\x01k\x01\xFF", b"\xFF\xFF\xFF\xFF\x0F"] {
                let mut bytes = sample();
                bytes[128..133].copy_from_slice(metadata);
                let bytes = resummed(bytes);
                assert_eq!(Checkpoint::validate(&bytes), Err(CheckpointError::InvalidMetadata), "{metadata:?}");
                assert_eq!(Checkpoint::from_bytes(&bytes), Err(CheckpointError::InvalidMetadata), "{metadata:?}");
            }
        }
    }
}
