//! Small workloads: small enough that nothing is left out of a search through their crashes.

use crate::workload::{
    Op::{
        self, Across, Append, Batch, Checkpoint, Close, Cut, Discard, Fill, Leave, Open, Reset, Rollback, Sync,
        Transaction, Truncate, Write,
    },
    Setup,
};

/// A small workload, and the media on which it is searched.
#[derive(Clone, Copy, Debug)]
pub struct Small {
    /// For figures.
    pub name: &'static str,
    /// The media.
    pub setups: &'static [Setup],
    /// What is done.
    pub ops: &'static [Op],
}

impl Small {
    /// An append, and another.
    pub const APPEND: Self =
        Self { name: "an append", setups: &[Setup::BYTES, Setup::WORDS], ops: &[Open, Append(12), Append(8)] };
    /// Batches.
    pub const BATCH: Self =
        Self { name: "a batch", setups: &[Setup::BYTES, Setup::SETTLED], ops: &[Open, Batch(3, 9), Batch(2, 12)] };
    /// Appends that are answered before they are durable.
    pub const WRITES: Self = Self {
        name: "writes without a sync",
        setups: &[Setup::BYTES.buffered(), Setup::WORDS.buffered()],
        ops: &[Open, Write(12), Write(9), Batch(2, 9), Write(30), Sync],
    };
    /// Transactions, one of which is rolled back.
    pub const TRANSACTION: Self = Self {
        name: "a transaction",
        setups: &[Setup::BYTES, Setup::WORDS.buffered()],
        ops: &[Open, Transaction(2, 9), Rollback(1, 9), Append(8)],
    };
    /// A segment that fills up, and the next.
    pub const ROTATION: Self =
        Self { name: "a rotation", setups: &[Setup::BYTES, Setup::SECTORS], ops: &[Open, Fill(330), Append(9)] };
    /// Checkpoints, and the removal of those that are not kept.
    pub const CHECKPOINT: Self = Self {
        name: "a checkpoint",
        setups: &[Setup::BYTES, Setup::WORDS],
        ops: &[Open, Append(12), Checkpoint, Across(9), Checkpoint, Checkpoint, Append(9)],
    };
    /// The front given up, with and without a checkpoint.
    pub const FRONT: Self = Self {
        name: "a truncation at the front",
        setups: &[Setup::BYTES, Setup::SETTLED],
        ops: &[Open, Fill(330), Checkpoint, Truncate(0), Append(9), Discard(1)],
    };
    /// The end cut off, and everything.
    pub const BACK: Self = Self {
        name: "a truncation at the back",
        setups: &[Setup::BYTES, Setup::WORDS],
        ops: &[Open, Batch(3, 9), Cut(1), Append(9), Reset(2), Append(8)],
    };
    /// A log that is closed, opened, left and closed again.
    pub const REOPENING: Self = Self {
        name: "a reopening",
        setups: &[Setup::BYTES, Setup::SETTLED],
        ops: &[Open, Append(12), Close, Open, Append(9), Leave, Open, Close],
    };
}
