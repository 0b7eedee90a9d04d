//! The power goes at every word and every erase of a flash chip: nothing that was acknowledged is lost, nothing else comes
//! back, and no word is written twice.
#![allow(missing_docs)]

use Op::{Append, Batch, Checkpoint, Close, Discard, Fill, Leave, Open, Sync, Truncate};
use duralog::slots::chip::Tear;
use duralog_core::Durability;
use duralog_tests::{Flash, FlashSearch, Op, TEARS};

/// What a device does after a crash.
const LIFE: &[Op] = &[Open, Append(20), Batch(2, 16), Close];

fn flash<const WRITE: usize, const ERASE: usize>(slots: u16, blank: u8) -> Flash<WRITE, ERASE> {
    let slot_size = if WRITE >= 512 { 8192 } else { 2048 };
    Flash::new(slot_size, slots, blank).unwrap()
}

/// Every cut of `ops`; and with words of some sizes, of a life after it too, at every `stride`th step.
fn suite(name: &str, ops: &[Op], stride: u64) {
    let mut search = FlashSearch::default();
    let few = [Tear::Before, Tear::Mix(7)];
    search.search("1 byte", &flash::<1, 1024>(6, 0xFF), ops, &few, &[]);
    search.search("4 bytes", &flash::<4, 1024>(6, 0x00), ops, &few, &[]);
    search.search("8 bytes", &flash::<8, 2048>(6, 0xFF), ops, &TEARS, &[]);
    search.search("16 bytes", &flash::<16, 1024>(6, 0x00), ops, &TEARS, &[(LIFE, 9 * stride)]);
    search.search("32 bytes", &flash::<32, 2048>(6, 0xFF), ops, &few, &[(LIFE, stride)]);
    search.search("512 bytes", &flash::<512, 4096>(6, 0xFF), ops, &TEARS, &[(LIFE, stride)]);
    search.finish(name);
}

#[test]
fn appends_on_flash_survive() {
    suite("appends", &[Open, Append(24), Batch(3, 9), Append(100), Leave, Open, Append(9), Close], 1);
}

/// A device that does little, cut at every step, and again at every step of its next life: nothing is left out.
#[test]
fn a_second_cut_at_every_step_on_flash_survives() {
    let ops = [Open, Append(9), Close];
    let (few, again) = ([Tear::Before, Tear::Mix(7)], [(&[Open, Append(8)][..], 1)]);
    let mut search = FlashSearch::default();
    search.search("4 bytes", &flash::<4, 1024>(4, 0x00), &ops, &few, &again);
    search.search("8 bytes", &flash::<8, 2048>(4, 0xFF), &ops, &few, &again);
    search.search("16 bytes", &flash::<16, 1024>(4, 0x00), &ops, &few, &again);
    search.search("32 bytes", &flash::<32, 2048>(4, 0xFF), &ops, &TEARS, &again);
    search.search("512 bytes", &flash::<512, 4096>(4, 0xFF), &ops, &TEARS, &again);
    search.finish("cut twice");
    // A word of one byte makes as many steps as there are bytes: a prime stride meets every field of what is written.
    let mut search = FlashSearch::default();
    search.search("1 byte", &flash::<1, 1024>(4, 0xFF), &ops, &[Tear::Before], &[(again[0].0, 7)]);
    search.finish("cut twice, words of one byte");
}

#[test]
fn rotation_on_flash_survives() {
    suite("rotation", &[Open, Fill(100), Append(20), Close], 4);
}

#[test]
fn truncation_and_checkpoints_on_flash_survive() {
    suite("truncation", &[Open, Append(80), Checkpoint, Fill(100), Truncate(1), Append(9), Discard(1), Leave], 4);
}

#[test]
fn buffered_appends_on_flash_survive() {
    let mut search = FlashSearch::default();
    let ops = [Open, Append(30), Batch(2, 40), Append(50), Append(60), Sync, Append(9), Close];
    let mut small = flash::<8, 1024>(6, 0xFF);
    small.durability = Durability::Buffered;
    search.search("8 bytes, buffered", &small, &ops, &TEARS, &[(LIFE, 3)]);
    let mut large = flash::<512, 4096>(6, 0xFF);
    large.durability = Durability::Buffered;
    search.search("512 bytes, buffered", &large, &ops, &TEARS, &[(LIFE, 1)]);
    search.finish("buffered appends");
}
