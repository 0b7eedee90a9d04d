//! The metadata object (`FORMAT.md`, section 7): a convenience that speeds opening and is one more witness.

use core::fmt;

use uuid::Uuid;

use crate::{
    Lsn,
    checksum::{compute_checksum, verify_checksum},
    device::Object,
    drive::{Answer, Machine, Step, Stop},
    fault::Fault,
    frame::{u32_at, u64_at},
    segment::{Geometry, align_up},
};

/// The first bytes of the metadata.
pub const META_MAGIC: [u8; 4] = *b"WALM";
/// The version of the format that is written, and the only one that is read.
pub const META_VERSION: u8 = 1;
/// The length of the metadata in bytes.
pub const META_LEN: usize = 80;
const LEN: u32 = 80;
const CHECKSUM_AT: usize = META_LEN - 4;

const CLEAN: u8 = 1;
const COVERED: u8 = 2;

/// What the metadata says of a log. Everything in it was durable before it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Meta {
    /// The log's UUID.
    #[cfg_attr(feature = "defmt", defmt(Display2Format))]
    pub log: Uuid,
    /// The epoch in which it was written.
    pub epoch: u64,
    /// The durable LSN.
    pub durable: Lsn,
    /// The id of the newest segment.
    pub segment: u64,
    /// The nonce of that segment.
    pub nonce: u64,
    /// The low-water mark.
    pub low_water: Lsn,
    /// Whether a checkpoint holds what is below it.
    pub low_water_covered: bool,
    /// The offset behind the last frame in that segment.
    pub position: u32,
    /// The last LSN that counts in the segments before it: should it be missing one day, what stands behind was cut off.
    pub before: Lsn,
    /// Whether the log was closed.
    pub clean: bool,
}

impl Meta {
    /// The metadata's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; META_LEN] {
        let mut bytes = [0; META_LEN];
        bytes[..4].copy_from_slice(&META_MAGIC);
        bytes[4] = META_VERSION;
        bytes[5] = if self.clean { CLEAN } else { 0 } | if self.low_water_covered { COVERED } else { 0 };
        bytes[8..24].copy_from_slice(self.log.as_bytes());
        bytes[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.durable.value().to_le_bytes());
        bytes[40..48].copy_from_slice(&self.segment.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.nonce.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.low_water.value().to_le_bytes());
        bytes[64..68].copy_from_slice(&self.position.to_le_bytes());
        bytes[68..76].copy_from_slice(&self.before.value().to_le_bytes());
        let checksum = compute_checksum(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The metadata at the front of `bytes`; what follows it is not looked at.
    ///
    /// # Errors
    /// [`MetaError`]: `bytes` does not begin with metadata of version 1. A log loses nothing by that.
    pub fn decode(bytes: &[u8]) -> Result<Self, MetaError> {
        let bytes: &[u8; META_LEN] = bytes.first_chunk().ok_or(MetaError::Short)?;
        if bytes[..4] != META_MAGIC {
            return Err(MetaError::WrongMagic);
        }
        if !verify_checksum(&bytes[..CHECKSUM_AT], u32_at(bytes, CHECKSUM_AT)) {
            return Err(MetaError::Checksum);
        }
        if bytes[4] != META_VERSION {
            return Err(MetaError::UnsupportedVersion { version: bytes[4] });
        }
        if bytes[5] & !(CLEAN | COVERED) != 0 || bytes[6..8] != [0; 2] {
            return Err(MetaError::ReservedBits);
        }
        let mut log = [0; 16];
        log.copy_from_slice(&bytes[8..24]);
        Ok(Self {
            log: Uuid::from_bytes(log),
            epoch: u64_at(bytes, 24),
            durable: Lsn::new(u64_at(bytes, 32)),
            segment: u64_at(bytes, 40),
            nonce: u64_at(bytes, 48),
            low_water: Lsn::new(u64_at(bytes, 56)),
            low_water_covered: bytes[5] & COVERED != 0,
            position: u32_at(bytes, 64),
            before: Lsn::new(u64_at(bytes, 68)),
            clean: bytes[5] & CLEAN != 0,
        })
    }
}

/// Why bytes are not valid metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum MetaError {
    /// There are fewer bytes than metadata has.
    Short,
    /// The bytes do not begin with the magic of metadata.
    WrongMagic,
    /// The checksum is wrong.
    Checksum,
    /// The metadata is of a version that this program does not read.
    UnsupportedVersion {
        /// The version.
        version: u8,
    },
    /// Bits that are zero in version 1 are not.
    ReservedBits,
}

impl fmt::Display for MetaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => write!(f, "the metadata is shorter than {META_LEN} bytes"),
            Self::WrongMagic => f.write_str("the bytes are not those of metadata"),
            Self::Checksum => f.write_str("the checksum of the metadata is wrong"),
            Self::UnsupportedVersion { version } => write!(f, "the metadata is of version {version}, not 1"),
            Self::ReservedBits => f.write_str("reserved bits of the metadata are not zero"),
        }
    }
}

impl core::error::Error for MetaError {}

/// The machine that replaces the metadata object. It does not sync: what it says was durable before, and losing it
/// loses nothing.
#[derive(Debug)]
pub struct PutMeta {
    meta: Meta,
    geometry: Geometry,
    state: u8,
}

impl PutMeta {
    /// Replaces the metadata by `meta`. The buffer has room for [`META_LEN`] bytes and a granule.
    #[must_use]
    pub fn new(meta: Meta, geometry: Geometry) -> Self {
        Self { meta, geometry, state: 0 }
    }
}

impl Machine for PutMeta {
    type Output = ();

    fn step(&mut self, buf: &mut [u8], _: Answer) -> Result<(), Stop> {
        self.state += 1;
        let len = align_up(LEN, self.geometry.granule);
        match self.state {
            1 => Err(Step::Create { object: Object::Meta, size: len.into() }.into()),
            2 => {
                let len = len as usize;
                let bytes = buf.get_mut(..len).ok_or(Fault::BufferTooSmall { needed: len })?;
                bytes.fill(self.geometry.blank);
                bytes[..META_LEN].copy_from_slice(&self.meta.encode());
                Err(Step::Write { object: Object::Meta, at: 0, from: 0..len }.into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    fn meta() -> Meta {
        Meta {
            log: Uuid::from_bytes(*b"the log's own id"),
            epoch: 0x0102_0304_0506_0708,
            durable: Lsn::new(0x1000),
            segment: 2,
            nonce: u64::MAX - 1,
            low_water: Lsn::new(5),
            low_water_covered: true,
            position: 0xA1B2_C3D4,
            before: Lsn::new(0x0900),
            clean: true,
        }
    }

    fn meta_bytes() -> [u8; META_LEN] {
        let mut bytes = [0; META_LEN];
        bytes[..8].copy_from_slice(b"WALM\x01\x03\0\0");
        bytes[8..24].copy_from_slice(b"the log's own id");
        bytes[24..32].copy_from_slice(&[8, 7, 6, 5, 4, 3, 2, 1]);
        bytes[33] = 0x10;
        bytes[40] = 2;
        bytes[48..56].copy_from_slice(&[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
        bytes[56] = 5;
        bytes[64..68].copy_from_slice(&[0xD4, 0xC3, 0xB2, 0xA1]);
        bytes[69] = 9;
        resummed(bytes)
    }

    fn resummed(mut bytes: [u8; META_LEN]) -> [u8; META_LEN] {
        let checksum = compute_checksum(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    #[test]
    fn the_metadata_is_the_one_that_the_format_says() {
        assert_eq!(meta().encode(), meta_bytes());
        assert_eq!(Meta::decode(&meta_bytes()), Ok(meta()));
        let open = Meta { clean: false, ..meta() };
        let uncovered = Meta { low_water_covered: false, ..meta() };
        for (meta, flags) in [(open, 2), (uncovered, 1)] {
            assert_eq!(meta.encode()[5], flags);
            assert_eq!(Meta::decode(&meta.encode()), Ok(meta));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        for bit in 0..META_LEN * 8 {
            let mut bytes = meta_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Meta::decode(&bytes).is_err(), "bit {bit}");
        }
        for len in 0..META_LEN {
            assert_eq!(Meta::decode(&meta_bytes()[..len]), Err(MetaError::Short));
        }
    }

    #[test]
    fn metadata_that_breaks_a_rule_is_refused_by_name() {
        let changed = |at: usize, value| {
            let mut bytes = meta_bytes();
            bytes[at] = value;
            Meta::decode(&resummed(bytes))
        };
        assert_eq!(changed(3, b'1'), Err(MetaError::WrongMagic));
        assert_eq!(changed(4, 2), Err(MetaError::UnsupportedVersion { version: 2 }));
        assert_eq!(changed(5, 4), Err(MetaError::ReservedBits));
        assert_eq!(changed(7, 1), Err(MetaError::ReservedBits));
        let mut damaged = meta_bytes();
        damaged[40] = 3;
        assert_eq!(Meta::decode(&damaged), Err(MetaError::Checksum));
        assert_eq!(MetaError::UnsupportedVersion { version: 2 }.to_string(), "the metadata is of version 2, not 1");
    }
}
