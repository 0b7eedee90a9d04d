//! CRC-32C, plain and salted (`FORMAT.md`, section 2).

/// How a CRC-32C register takes in bytes: `update(register, bytes)` gives the next register.
///
/// The register is the raw one: it starts as `0xFFFF_FFFF` and is inverted once at the end. A program may
/// hand the core a faster implementation, such as the processor's own instruction; all must agree.
pub type Update = fn(u32, &[u8]) -> u32;

const ALGORITHM: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
// A `static`: a constant used through a local would be copied to the stack.
static TABLE: crc::Crc<u32> = ALGORITHM;
static NO_TABLE: crc::Crc<u32, crc::NoTable> = crc::Crc::<u32, crc::NoTable>::new(&crc::CRC_32_ISCSI);

/// The portable [`Update`]: [`by_table`] with the feature `table`, else [`by_nibbles`], or [`without_table`] with the feature
/// `no-table`.
#[inline(never)]
#[must_use]
pub fn portable(register: u32, bytes: &[u8]) -> u32 {
    if cfg!(feature = "table") {
        by_table(register, bytes)
    } else if cfg!(feature = "no-table") {
        without_table(register, bytes)
    } else {
        by_nibbles(register, bytes)
    }
}

/// An [`Update`] with one table of 1 KiB: some 8 instructions a byte.
#[must_use]
pub fn by_table(register: u32, bytes: &[u8]) -> u32 {
    // `crc` takes a start value before reflection and ends with the exclusive-or: both are undone here, so
    // that a register can be carried on, copied and started from a salt.
    let mut digest = TABLE.digest_with_initial(register.reverse_bits());
    digest.update(bytes);
    !digest.finalize()
}

/// An [`Update`] with a table of 64 bytes: some 12 instructions a byte.
#[must_use]
pub fn by_nibbles(register: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(register, |register, byte| {
        let low = nibble(register ^ u32::from(*byte));
        nibble(low)
    })
}

/// Takes in the lowest four bits of the register.
fn nibble(register: u32) -> u32 {
    (register >> 4) ^ NIBBLES[(register & 0xF) as usize]
}

/// What four bits shifted out of the register change in it.
static NIBBLES: [u32; 16] = {
    let mut table = [0; 16];
    let mut bits = 0;
    while bits < 16 {
        let mut register = table_index(bits);
        let mut shifted = 0;
        while shifted < 4 {
            register = if register & 1 == 0 { register >> 1 } else { (register >> 1) ^ POLYNOMIAL };
            shifted += 1;
        }
        table[bits] = register;
        bits += 1;
    }
    table
};

/// The polynomial of CRC-32C, its lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82F6_3B78;

#[allow(clippy::cast_possible_truncation)] // It is less than 16, and `try_from` is not constant.
const fn table_index(bits: usize) -> u32 {
    bits as u32
}

/// An [`Update`] with no table: some 64 instructions a byte.
#[must_use]
pub fn without_table(register: u32, bytes: &[u8]) -> u32 {
    let mut digest = NO_TABLE.digest_with_initial(register.reverse_bits());
    digest.update(bytes);
    !digest.finalize()
}

/// The register from which a byte of zeros makes this one: what [`without_table`] does bit by bit, undone.
pub(crate) fn before_a_byte(register: u32) -> u32 {
    (0..8).fold(register, |register, _| {
        // The highest bit is set where the polynomial was added, and only there.
        if register.leading_zeros() == 0 { (register ^ POLYNOMIAL) << 1 | 1 } else { register << 1 }
    })
}

/// A CRC-32C in the making.
#[derive(Clone, Copy, Debug)]
pub struct Crc {
    update: Update,
    register: u32,
}

impl Crc {
    /// A fresh checksum.
    #[must_use]
    pub fn new(update: Update) -> Self {
        Self { update, register: u32::MAX }
    }

    /// The checksum with `bytes` taken in.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        Self { register: (self.update)(self.register, bytes), ..self }
    }

    /// The checksum with `bytes` taken in, at least four, which are the same afterwards.
    ///
    /// A register goes into a CRC as if it stood in the first four bytes: put there, it lets the update begin with the
    /// usual register, which is what implementations do fastest.
    #[must_use]
    pub(crate) fn with_in_place(self, bytes: &mut [u8]) -> Self {
        let Some(first) = bytes.first_chunk_mut::<4>() else { return self.with(bytes) };
        let before = *first;
        *first = self.folded(before);
        let register = (self.update)(u32::MAX, bytes);
        bytes[..4].copy_from_slice(&before);
        Self { register, ..self }
    }

    /// The checksum with four bytes taken in.
    #[must_use]
    pub(crate) fn with_four(self, bytes: [u8; 4]) -> Self {
        Self { register: (self.update)(u32::MAX, &self.folded(bytes)), ..self }
    }

    /// Four bytes that do to the usual register what `bytes` do to this one.
    pub(crate) fn folded(self, bytes: [u8; 4]) -> [u8; 4] {
        (u32::from_le_bytes(bytes) ^ !self.register).to_le_bytes()
    }

    /// The checksum's value.
    #[must_use]
    pub fn value(self) -> u32 {
        !self.register
    }
}

/// The CRC-32C of `bytes`, unsalted.
#[must_use]
pub fn compute_checksum(bytes: &[u8]) -> u32 {
    Crc::new(portable).with(bytes).value()
}

/// Whether `checksum` is the CRC-32C of `bytes`, unsalted.
#[must_use]
pub fn verify_checksum(bytes: &[u8], checksum: u32) -> bool {
    compute_checksum(bytes) == checksum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_is_that_of_crc_32c() {
        assert_eq!(compute_checksum(b"123456789"), 0xE306_9283);
        assert_eq!(compute_checksum(b""), 0);
        assert!(verify_checksum(b"123456789", 0xE306_9283));
        assert!(!verify_checksum(b"123456780", 0xE306_9283));
    }

    #[test]
    fn a_register_in_the_first_four_bytes_does_what_it_does_by_itself() {
        for (register, len) in [(0, 4), (u32::MAX, 5), (0x1234_5678, 33), (0xDEAD_BEEF, 3), (7, 0)] {
            let crc = Crc { update: portable, register };
            let bytes = *b"thirty-three bytes of some sense.";
            let mut taken = bytes;
            assert_eq!(crc.with_in_place(&mut taken[..len]).value(), crc.with(&bytes[..len]).value(), "{len}");
            assert_eq!(taken, bytes);
        }
        let crc = Crc { update: portable, register: 99 };
        assert_eq!(crc.with_four(*b"four").value(), crc.with(b"four").value());
    }

    #[test]
    fn each_way_to_compute_it_gives_the_same() {
        let bytes: [u8; 300] = core::array::from_fn(|at| u8::try_from(at * 37 % 251).unwrap());
        for len in (0..40).chain([64, 255, 300]) {
            for start in [0, 1, u32::MAX, 0x8000_0001] {
                let by_table = by_table(start, &bytes[..len]);
                assert_eq!(by_nibbles(start, &bytes[..len]), by_table, "{len} bytes from {start:#x}");
                assert_eq!(without_table(start, &bytes[..len]), by_table, "{len} bytes from {start:#x}");
                assert_eq!(portable(start, &bytes[..len]), by_table, "{len} bytes from {start:#x}");
            }
        }
    }

    #[test]
    fn a_checksum_taken_in_pieces_is_that_of_the_whole() {
        let whole = compute_checksum(b"a message in two pieces");
        for cut in 0..=23 {
            let (a, b) = b"a message in two pieces".split_at(cut);
            assert_eq!(Crc::new(portable).with(a).with(b).value(), whole, "cut at {cut}");
        }
    }
}
