//! CRC-32C as fast as the platform has it: by the processor's own instructions, or by large tables.
//!
//! Measured against the core's table on an x86-64 machine: 3 times as fast for a frame's header, 13 times for 128
//! bytes, 60 times for 1.6 KiB. A checksum that begins with the usual register is faster again, twice up to some 200 bytes, for
//! it needs no digest. In WebAssembly, which has no such instruction, sixteen tables are 7 times as fast.

#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
pub(crate) use native::update;
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
pub(crate) use tables::update;

#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
mod native {
    use crc_fast::{CrcAlgorithm, Digest, crc32_iscsi};

    /// Takes `bytes` into a register of CRC-32C: the core's [`Update`](duralog_core::checksum::Update), with the same
    /// results.
    pub(crate) fn update(register: u32, bytes: &[u8]) -> u32 {
        if register == u32::MAX {
            return !crc32_iscsi(bytes);
        }
        let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, register.into());
        digest.update(bytes);
        // The register of a CRC of 32 bits, in a word of 64.
        #[allow(clippy::cast_possible_truncation)]
        let register = digest.get_state() as u32;
        register
    }
}

#[cfg(any(test, all(target_arch = "wasm32", target_os = "unknown")))]
mod tables {
    use std::sync::LazyLock;

    use crc::{CRC_32_ISCSI, Crc, Table};

    /// Made when it is first used: 16 KiB of it in the module would be most of what a page loads.
    static TABLES: LazyLock<Crc<u32, Table<16>>> =
        LazyLock::new(|| Crc::<u32, Table<16>>::new(core::hint::black_box(&CRC_32_ISCSI)));

    /// Takes `bytes` into a register of CRC-32C: the core's [`Update`](duralog_core::checksum::Update), with the same
    /// results.
    pub(crate) fn update(register: u32, bytes: &[u8]) -> u32 {
        // `crc` takes a start value before reflection and ends with the exclusive-or.
        let mut digest = TABLES.digest_with_initial(register.reverse_bits());
        digest.update(bytes);
        !digest.finalize()
    }
}

#[cfg(test)]
mod tests {
    use duralog_core::checksum::portable;

    #[test]
    fn the_fast_checksums_are_that_of_the_core_for_every_length_start_and_cut() {
        let bytes: Vec<u8> = (0..700u32).map(|n| (n.wrapping_mul(0x9E37_79B9) >> 24) as u8).collect();
        for start in [0, 1, 3, 8] {
            for end in (start..700).step_by(7).chain([700]) {
                let usual = u32::MAX;
                assert_eq!(super::update(usual, &bytes[start..end]), portable(usual, &bytes[start..end]));
                let (register, part) = (0xFFFF_FFFF ^ u32::try_from(end).unwrap(), &bytes[start..end]);
                let (a, b) = part.split_at(part.len() / 3);
                for update in [super::native::update, super::tables::update] {
                    assert_eq!(update(register, part), portable(register, part), "{start}..{end}");
                    assert_eq!(update(update(register, a), b), portable(register, part));
                }
            }
        }
    }
}
