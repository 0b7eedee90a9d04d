//! Small workloads, and nothing left out of the first cut: the power goes at every step, at every byte of every write, and
//! with every subset of the unsynced sectors. Then it goes twice: on the first medium, after first cuts that are coarser, again
//! at every step of the opening that follows and of an append, where each write is kept whole or not at all.
//! (`exhaustive_twice.rs` cuts twice after all of the first cuts, in the opening alone, and takes ten times as long.)
#![allow(missing_docs)]

use duralog_tests::{
    Detail::{Coarse, Every, Whole},
    Explorer, Moment,
    Op::{Append, Open},
    Small, figure,
};

/// Cuts once, in every way; and on the first set-up coarsely, and then again in each recovery.
fn search(small: &Small) {
    let Small { name, setups, ops } = *small;
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
    search(&Small::APPEND);
}

#[test]
fn a_batch() {
    search(&Small::BATCH);
}

#[test]
fn writes_without_a_sync() {
    search(&Small::WRITES);
}

#[test]
fn a_transaction() {
    search(&Small::TRANSACTION);
}

#[test]
fn a_rotation() {
    search(&Small::ROTATION);
}

#[test]
fn a_checkpoint_and_what_it_retains() {
    search(&Small::CHECKPOINT);
}

#[test]
fn a_truncation_at_the_front() {
    search(&Small::FRONT);
}

#[test]
fn a_truncation_at_the_back() {
    search(&Small::BACK);
}

#[test]
fn a_reopening_and_a_close() {
    search(&Small::REOPENING);
}
