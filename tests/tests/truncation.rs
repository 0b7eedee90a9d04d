//! The power goes, or the process dies, while a part of the log is given up: it is given up, or it is all there.
#![allow(missing_docs)]

use Op::{Append, Batch, Checkpoint, Close, Cut, Discard, Fill, Kill, Leave, Open, Reset, Sync, Truncate};
use duralog_tests::{
    Detail::{self, Coarse, Fine, Whole},
    Explorer, Moment, Op, Setup, figure,
};

/// Ends a search, and holds what it counted against the page.
fn finish(explorer: Explorer, name: &str) {
    figure(&format!("truncation, {name}: {}", explorer.finish(name)));
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

#[test]
fn truncation_at_the_front_survives() {
    let ops = [Open, Fill(200), Append(9), Discard(2), Append(9), Fill(150), Batch(2, 9), Discard(1), Append(12)];
    search("discard", &Setup::ALL, &ops, Coarse);
}

#[test]
fn a_low_water_mark_inside_a_batch_keeps_it_whole() {
    let ops = [Open, Fill(200), Batch(3, 12), Discard(2), Append(9), Fill(150), Discard(3), Append(12), Close];
    search("inside a batch", &Setup::ALL, &ops, Coarse);
}

#[test]
fn checkpoints_and_what_is_truncated_behind_them_survive() {
    let ops = [Open, Fill(200), Checkpoint, Append(9), Truncate(1), Fill(200), Checkpoint, Checkpoint, Truncate(0)];
    search("checkpoints", &Setup::ALL, &ops, Coarse);
}

#[test]
fn a_cut_at_the_back_survives() {
    let ops = [Open, Append(24), Batch(2, 9), Append(9), Cut(1), Append(30), Cut(2), Append(9), Close];
    search("cut", &Setup::ALL, &ops, Fine);
}

#[test]
fn a_cut_back_into_an_older_segment_survives() {
    let ops = [Open, Append(24), Fill(200), Append(9), Cut(3), Append(30), Leave, Open, Cut(1), Append(9), Close];
    search("cut far back", &Setup::ALL, &ops, Coarse);
}

#[test]
fn a_cut_of_what_was_not_synced_survives() {
    let ops = [Open, Append(24), Batch(2, 9), Append(9), Cut(1), Append(30), Append(9), Cut(1), Sync, Append(9)];
    search("cut, buffered", &Setup::ALL.map(Setup::buffered), &ops, Fine);
}

#[test]
fn a_reset_survives() {
    let ops = [Open, Append(24), Append(9), Reset(0), Append(30), Append(9), Reset(5), Batch(2, 9), Close];
    search("reset", &Setup::ALL, &ops, Fine);
}

#[test]
fn a_reset_of_several_segments_survives() {
    let ops = [Open, Fill(200), Append(9), Reset(3), Append(30), Kill, Open, Fill(200), Reset(0), Append(9)];
    search("reset of many", &Setup::ALL, &ops, Coarse);
}

#[test]
fn a_second_cut_of_the_power_after_a_truncation_survives() {
    let mut explorer = Explorer::new();
    for setup in [Setup::BYTES, Setup::SECTORS] {
        let start = || Moment::new(setup);
        let all: [&[Op]; 3] = [
            &[Open, Append(24), Append(9), Cut(1), Append(9)],
            &[Open, Append(24), Reset(2), Append(9)],
            &[Open, Fill(250), Discard(1), Append(9)],
        ];
        for ops in all {
            explorer.search("truncation, twice", &start(), &[(ops, Whole), (LIFE, Whole)]);
        }
    }
    finish(explorer, "twice");
}

#[test]
fn a_truncation_that_failed_can_be_repeated() {
    let mut explorer = Explorer::new();
    let first = [Open, Fill(250), Discard(1)];
    let again = [Open, Discard(2), Append(9)];
    for setup in Setup::ALL {
        explorer.search("truncation, repeated", &Moment::new(setup), &[(&first, Whole), (&again, Whole)]);
    }
    finish(explorer, "repeated");
}

#[test]
fn a_full_medium_truncates_all_the_same() {
    let mut explorer = Explorer::new();
    let ops = [Open, Fill(200), Append(9), Discard(1), Append(9), Cut(1), Append(9), Reset(2), Append(9)];
    for setup in [Setup::BYTES, Setup::SECTORS] {
        explorer.search_full("truncation of a full medium", &Moment::new(setup), &ops, Whole);
        explorer.search_errors("truncation and errors", &Moment::new(setup), &ops);
    }
    finish(explorer, "a full medium and errors");
}
