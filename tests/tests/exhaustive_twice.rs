//! The small workloads of `exhaustive.rs`, cut twice: whatever the first cut left, on each of the media, the power goes again at
//! every step of the opening that follows. What that opening had not synced is then kept or lost, all, nothing, each piece alone
//! or what came before it.
#![allow(missing_docs)]

use duralog_tests::{
    Detail::{Every, Whole},
    Explorer, Moment,
    Op::Open,
    Small, figure,
};

/// Cuts in every way, and again at each step of each recovery.
fn search(small: &Small) {
    let Small { name, setups, ops } = *small;
    let mut explorer = Explorer::new();
    for setup in setups {
        explorer.search(name, &Moment::new(*setup), &[(ops, Every), (&[Open], Whole)]);
    }
    let counts = explorer.finish(name);
    figure(&format!("exhaustive_twice, {name}: {counts}"));
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
