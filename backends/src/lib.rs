//! Where a log can live: the media of duralog, and the log that programs use.
//!
//! [`FileDevice`] keeps a log in a directory, [`MemoryDevice`] in memory; with the feature `faulty` there is also a
//! simulated medium on which everything that can go wrong does so where a test wants it. [`slots`] are media without file
//! names: flash, block devices, streams. Without the feature `std` they are all there is.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

#[cfg(feature = "std")]
mod ahead;
#[cfg(feature = "std")]
mod background;
#[cfg(feature = "std")]
mod checkpoint;
#[cfg(feature = "std")]
mod checksum;
#[cfg(feature = "std")]
mod commit;
#[cfg(feature = "std")]
mod config;
#[cfg(feature = "std")]
mod device;
#[cfg(feature = "std")]
mod documents;
#[cfg(feature = "std")]
mod environment;
#[cfg(feature = "std")]
mod error;
#[cfg(feature = "faulty")]
pub mod faulty;
#[cfg(feature = "std")]
pub mod file;
#[cfg(feature = "std")]
mod fs;
#[cfg(feature = "std")]
mod gather;
#[cfg(feature = "std")]
pub mod local;
#[cfg(feature = "std")]
mod log;
#[cfg(feature = "std")]
pub mod memory;
#[cfg(feature = "std")]
mod memory_store;
#[cfg(feature = "std")]
mod read;
#[cfg(feature = "std")]
mod report;
#[cfg(feature = "std")]
mod segments;
pub mod slots;
#[cfg(feature = "std")]
mod spare;
#[cfg(feature = "std")]
mod store;
#[cfg(feature = "std")]
mod sync;
#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(feature = "std")]
mod transaction;
#[cfg(feature = "std")]
mod truncation;
#[cfg(feature = "std")]
mod verify;
#[cfg(feature = "std")]
mod waiters;
#[cfg(feature = "std")]
mod wal;

#[cfg(feature = "std")]
pub use checkpoint::{CheckpointAt, Rebuilt};
#[cfg(feature = "std")]
pub use config::{Config, Proof, SyncMode};
#[cfg(feature = "std")]
pub use device::{DeviceFailure, SharedDevice};
#[cfg(feature = "std")]
pub use documents::{Document, Documents, LoadError};
#[cfg(feature = "std")]
pub use duralog_core::operation::{BatchItem, Kind, Operation};
pub use duralog_core::{
    self as core, CheckpointId, Durability, Entry as EntryRef, Finding, Flow, Geometry, Lsn, Object, Payload, Policy,
    Seen, SegmentId, TornTail, Verdict, Witness,
};
#[cfg(feature = "std")]
pub use environment::{Environment, System};
#[cfg(feature = "std")]
pub use error::{Error, Result};
#[cfg(feature = "faulty")]
pub use faulty::FaultyDevice;
#[cfg(feature = "std")]
pub use file::FileDevice;
#[cfg(feature = "std")]
#[doc(hidden)]
pub use fs::{Files, Identity, OneFile, StdFs};
#[cfg(feature = "std")]
pub use log::{Log, Receipt, Stats};
#[cfg(feature = "std")]
pub use memory::MemoryDevice;
#[cfg(feature = "std")]
pub use memory_store::MemoryStore;
#[cfg(feature = "std")]
pub use read::{Entries, Entry};
#[cfg(feature = "std")]
pub use report::RecoveryReport;
#[cfg(feature = "std")]
pub use segments::{SegmentInfo, SegmentState};
#[cfg(feature = "std")]
pub use store::{Snapshot, StateMachine};
#[cfg(feature = "std")]
pub use transaction::Transaction;
#[cfg(feature = "std")]
pub use verify::LogReader;
#[cfg(feature = "std")]
pub use wal::WriteAheadLog;
