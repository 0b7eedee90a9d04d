//! The power goes, or the process dies, at every call: nothing that was acknowledged is lost, nothing else comes back.
#![allow(missing_docs)]

use Op::{Append, Batch, Close, Fill, Kill, Leave, Open, PowerCut, Sync, Write};
use duralog_tests::{
    Detail::{self, Coarse, Fine},
    Explorer, Left, Moment, Op, Setup, figure,
};

/// Ends a search, and holds what it counted against the page.
fn finish(explorer: Explorer, name: &str) {
    figure(&format!("power_cut, {name}: {}", explorer.finish(name)));
}

/// What a program does after a crash.
const LIFE: &[Op] = &[Open, Append(20), Batch(2, 16), Close];

fn search(name: &str, setups: &[Setup], ops: &[Op], detail: Detail) {
    let mut explorer = Explorer::new();
    for setup in setups {
        explorer.search(name, &Moment::new(*setup), &[(ops, detail)]);
    }
    finish(explorer, name);
}

fn search_twice(name: &str, setups: &[Setup], ops: &[Op]) {
    let mut explorer = Explorer::new();
    for setup in setups {
        explorer.search(name, &Moment::new(*setup), &[(ops, Coarse), (LIFE, Coarse)]);
    }
    finish(explorer, name);
}

fn buffered() -> [Setup; 4] {
    Setup::ALL.map(Setup::buffered)
}

#[test]
fn single_appends_survive() {
    search("single appends", &Setup::ALL, &[Open, Append(24), Append(9), Append(70), Append(8)], Fine);
}

#[test]
fn batches_survive_whole_or_not_at_all() {
    search("batches", &Setup::ALL, &[Open, Batch(3, 12), Append(9), Batch(2, 40), Batch(4, 8)], Fine);
}

#[test]
fn buffered_appends_survive_as_a_prefix() {
    let ops = [Open, Append(24), Batch(2, 9), Append(100), Append(150), Append(120), Sync, Append(9), Append(30)];
    search("buffered appends", &buffered(), &ops, Fine);
}

#[test]
fn writes_without_a_sync_between_them_survive_as_a_prefix() {
    let ops = [Open, Write(24), Write(9), Batch(2, 9), Write(30), Sync, Write(9), Write(12), Append(9), Write(8)];
    search("writes", &Setup::ALL, &ops, Fine);
    search("writes, buffered", &buffered(), &ops, Fine);
}

#[test]
fn a_second_cut_after_writes_without_a_sync_survives() {
    search_twice(
        "writes, twice",
        &[Setup::BYTES.buffered(), Setup::SETTLED.buffered()],
        &[Open, Append(24), Sync, Write(9), Write(9), Write(9)],
    );
}

#[test]
fn rotation_survives() {
    search("rotation", &Setup::ALL, &[Open, Fill(200), Append(20), Fill(150), Batch(2, 16)], Fine);
}

#[test]
fn rotation_with_appends_outstanding_survives() {
    search("buffered rotation", &buffered(), &[Open, Fill(100), Batch(3, 30), Fill(120), Append(9)], Fine);
}

#[test]
fn a_close_and_a_reopening_survive() {
    search(
        "reopening",
        &Setup::ALL,
        &[Open, Append(24), Close, Open, Append(9), Leave, Open, Batch(2, 16), Close],
        Fine,
    );
}

#[test]
fn openings_that_write_nothing_survive() {
    search("idle openings", &Setup::ALL, &[Open, Close, Open, Close, Open, Append(9), Close, Open, Leave, Open], Fine);
}

#[test]
fn taking_over_from_a_dead_process_survives() {
    let ops = [Open, Append(24), Batch(2, 16), Kill, Open, Append(9), Kill, Open, Kill, Open, Append(12)];
    search("after a kill", &Setup::ALL, &ops, Fine);
    search("after a kill, buffered", &buffered(), &ops, Fine);
}

#[test]
fn appending_behind_a_torn_tail_survives() {
    let mut explorer = Explorer::new();
    for setup in buffered() {
        let (half, tear) = (Append(setup.half()), PowerCut(Left::HalfTheLast));
        let ops = [Open, Append(24), Sync, half, half, half, tear, Open, Append(9), Sync, Append(12)];
        explorer.search("behind a torn tail", &Moment::new(setup), &[(&ops, Fine)]);
    }
    finish(explorer, "behind a torn tail");
}

#[test]
fn two_openings_after_a_torn_batch_survive() {
    let mut explorer = Explorer::new();
    for setup in buffered() {
        let (batch, tear) = (Batch(2, setup.half_batch()), PowerCut(Left::HalfTheLast));
        let ops = [Open, batch, batch, tear, Open, Kill, Open, PowerCut(Left::Nothing), Open];
        explorer.search("two openings", &Moment::new(setup), &[(&ops, Fine)]);
    }
    finish(explorer, "two openings");
}

#[test]
fn a_second_cut_after_single_appends_survives() {
    search_twice("appends, twice", &[Setup::WORDS, Setup::SECTORS], &[Open, Append(24), Append(9)]);
}

#[test]
fn a_second_cut_after_buffered_appends_survives() {
    search_twice(
        "buffered appends, twice",
        &[Setup::BYTES.buffered(), Setup::WORDS.buffered()],
        &[Open, Append(24), Batch(2, 9), Sync, Append(30)],
    );
}

#[test]
fn a_second_cut_after_a_rotation_survives() {
    search_twice("rotation, twice", &[Setup::BYTES, Setup::SECTORS], &[Open, Fill(250), Append(9)]);
}

#[test]
fn a_second_cut_after_a_take_over_survives() {
    search_twice("take-over, twice", &[Setup::BYTES, Setup::SETTLED], &[Open, Append(24), Kill, Open, Append(9)]);
}
