//! Small workloads, and nothing left out of the first cut: the power goes at every step, at every byte of every write, and
//! with every subset of the unsynced sectors. Then it goes twice: on the first medium, after first cuts that are coarser, again
//! at every step of the opening that follows and of an append, where each write is kept whole or not at all.
#![allow(missing_docs)]

use Op::{
    Across, Append, Batch, Checkpoint, Close, Cut, Discard, Fill, Leave, Open, Reset, Rollback, Sync, Transaction,
    Truncate, Write,
};
use duralog_tests::{
    Detail::{Coarse, Every, Whole},
    Explorer, Moment, Op, Setup, figure,
};

/// Cuts once, in every way; and on the first set-up coarsely, and then again in each recovery.
fn search(name: &str, setups: &[Setup], ops: &[Op]) {
    let mut explorer = Explorer::new();
    for setup in setups {
        explorer.search(name, &Moment::new(*setup), &[(ops, Every)]);
    }
    let twice = [(ops, Coarse), (&[Open, Append(8)][..], Whole)];
    explorer.search(&format!("{name}, twice"), &Moment::new(setups[0]), &twice);
    let counts = explorer.finish(name);
    figure(&format!("exhaustive, {name}: {counts}"));
}

#[test]
fn an_append() {
    search("an append", &[Setup::BYTES, Setup::WORDS], &[Open, Append(12), Append(8)]);
}

#[test]
fn a_batch() {
    search("a batch", &[Setup::BYTES, Setup::SETTLED], &[Open, Batch(3, 9), Batch(2, 12)]);
}

#[test]
fn writes_without_a_sync() {
    let ops = [Open, Write(12), Write(9), Batch(2, 9), Write(30), Sync];
    search("writes without a sync", &[Setup::BYTES.buffered(), Setup::WORDS.buffered()], &ops);
}

#[test]
fn a_transaction() {
    search(
        "a transaction",
        &[Setup::BYTES, Setup::WORDS.buffered()],
        &[Open, Transaction(2, 9), Rollback(1, 9), Append(8)],
    );
}

#[test]
fn a_rotation() {
    search("a rotation", &[Setup::BYTES, Setup::SECTORS], &[Open, Fill(330), Append(9)]);
}

#[test]
fn a_checkpoint_and_what_it_retains() {
    let ops = [Open, Append(12), Checkpoint, Across(9), Checkpoint, Checkpoint, Append(9)];
    search("a checkpoint", &[Setup::BYTES, Setup::WORDS], &ops);
}

#[test]
fn a_truncation_at_the_front() {
    search(
        "a truncation at the front",
        &[Setup::BYTES, Setup::SETTLED],
        &[Open, Fill(330), Checkpoint, Truncate(0), Append(9), Discard(1)],
    );
}

#[test]
fn a_truncation_at_the_back() {
    let ops = [Open, Batch(3, 9), Cut(1), Append(9), Reset(2), Append(8)];
    search("a truncation at the back", &[Setup::BYTES, Setup::WORDS], &ops);
}

#[test]
fn a_reopening_and_a_close() {
    search(
        "a reopening",
        &[Setup::BYTES, Setup::SETTLED],
        &[Open, Append(12), Close, Open, Append(9), Leave, Open, Close],
    );
}
