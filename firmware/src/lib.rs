//! What the firmware and the host that looks at its flash have to agree on.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt::{self, Write};

use duralog::slots::{Info, Layout};
use duralog_core::Report;
use uuid::Uuid;

/// Bytes that the flash writes at once.
pub const WORD: usize = 8;
/// Bytes that it erases at once.
pub const SECTOR: usize = 1024;
/// Bytes of a slot: what is best erased at once, a few sectors. A segment of files, whose second header stands at 4096, fits.
pub const SLOT: u32 = 8192;
/// How many slots the log has.
pub const SLOTS: u16 = 6;
/// Bytes of the flash that the log has.
pub const FLASH: usize = SLOT as usize * SLOTS as usize;
/// The log's UUID, given once when the flash is formatted.
pub const LOG: Uuid = Uuid::from_u128(0x6475_7261_6c6f_672d_6669_726d_7761_7265);
/// Bytes of the buffer that the log works in.
pub const BUFFER: usize = 1024;

/// How the flash is divided.
#[must_use]
pub fn layout(info: Info) -> Layout {
    Layout { slots: SLOTS, ..Layout::new(info, SLOT) }
}

/// The largest payload.
pub const PAYLOAD_MAX: usize = 96;

/// What the entry `number` of the life `life` holds: both, and bytes that follow from them.
#[must_use]
pub fn payload(life: u32, number: u32, buf: &mut [u8; PAYLOAD_MAX]) -> &[u8] {
    let len = 8 + (number.wrapping_mul(37).wrapping_add(life) % 80) as usize;
    buf[..4].copy_from_slice(&life.to_le_bytes());
    buf[4..8].copy_from_slice(&number.to_le_bytes());
    for (at, byte) in buf[8..len].iter_mut().enumerate() {
        *byte = noise(life ^ number.rotate_left(16), at);
    }
    &buf[..len]
}

/// The life and the number of a payload, if it is one, whole.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<(u32, u32)> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (life, number) = (word(0)?, word(4)?);
    (payload(life, number, &mut [0; PAYLOAD_MAX]) == bytes).then_some((life, number))
}

/// A byte that looks like no other.
#[must_use]
pub fn noise(seed: u32, at: usize) -> u8 {
    let mixed = (seed ^ (at as u32).rotate_left(7)).wrapping_add(0x9E37_79B9).wrapping_mul(0x85EB_CA6B);
    let mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xC2B2_AE35);
    (mixed >> 24) as u8
}

/// A report on one line.
///
/// # Errors
/// `out` fails.
pub fn print(report: &Report, out: &mut impl Write) -> fmt::Result {
    let (first, last) = report.verified.map_or((0, 0), |(first, last)| (first.value(), last.value()));
    let torn = report.torn_tail.map_or((0, 0, 0), |torn| (torn.offset, torn.len, torn.frames));
    write!(
        out,
        "epoch {} low {} last {} verified {first}..{last} durable {} closed {} torn {torn:?} damage {} harmless {} unfinished {}",
        report.epoch,
        report.low_water.value(),
        report.last.value(),
        report.durable.value(),
        report.closed,
        report.damage,
        report.harmless,
        report.unfinished.is_some(),
    )
}
