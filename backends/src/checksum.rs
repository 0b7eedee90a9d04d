//! CRC-32C by the processor's own instructions, where it has them.
//!
//! Measured against the core's table on an x86-64 machine: 3 times as fast for a frame's header, 13 times for 128
//! bytes, 60 times for 1.6 KiB.

use crc_fast::{CrcAlgorithm, Digest};

/// Takes `bytes` into a register of CRC-32C: the core's [`Update`](duralog_core::checksum::Update), with the same results.
pub(crate) fn update(register: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, register.into());
    digest.update(bytes);
    // The register of a CRC of 32 bits, in a word of 64.
    #[allow(clippy::cast_possible_truncation)]
    let register = digest.get_state() as u32;
    register
}

#[cfg(test)]
mod tests {
    use duralog_core::checksum::portable;

    #[test]
    fn the_fast_checksum_is_that_of_the_core_for_every_length_start_and_cut() {
        let bytes: Vec<u8> = (0..700u32).map(|n| (n.wrapping_mul(0x9E37_79B9) >> 24) as u8).collect();
        for start in [0, 1, 3, 8] {
            for end in (start..700).step_by(7).chain([700]) {
                let (register, part) = (0xFFFF_FFFF ^ u32::try_from(end).unwrap(), &bytes[start..end]);
                assert_eq!(super::update(register, part), portable(register, part), "{start}..{end}");
                let (a, b) = part.split_at(part.len() / 3);
                assert_eq!(super::update(super::update(register, a), b), portable(register, part));
            }
        }
    }
}
