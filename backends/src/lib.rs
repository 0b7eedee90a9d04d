//! The native side of duralog: where a log can live when there is a standard library.
//!
//! [`FileDevice`] keeps a log in a directory, [`MemoryDevice`] in memory; with the feature `faulty` there is also a
//! simulated medium on which everything that can go wrong does so where a test wants it.
#![forbid(unsafe_code)]

mod background;
mod checkpoint;
mod checksum;
mod commit;
mod config;
mod device;
mod environment;
mod error;
#[cfg(feature = "faulty")]
pub mod faulty;
pub mod file;
mod fs;
pub mod local;
mod log;
pub mod memory;
mod memory_store;
mod read;
mod report;
mod segments;
mod store;
#[cfg(feature = "tokio")]
pub mod tokio;
mod transaction;
mod truncation;
mod verify;
mod wal;

pub use checkpoint::{CheckpointAt, Rebuilt};
pub use config::{Config, SyncMode};
pub use device::{DeviceFailure, SharedDevice};
pub use duralog_core::{
    self as core, CheckpointId, Durability, Finding, Geometry, Lsn, Object, Payload, Policy, Seen, SegmentId, TornTail,
    Verdict, Witness,
    operation::{BatchItem, Kind, Operation},
};
pub use environment::{Environment, System};
pub use error::{Error, Result};
#[cfg(feature = "faulty")]
pub use faulty::FaultyDevice;
pub use file::FileDevice;
#[doc(hidden)]
pub use fs::{Files, Identity, OneFile, StdFs};
pub use log::{Log, Receipt, Stats};
pub use memory::MemoryDevice;
pub use memory_store::MemoryStore;
pub use read::{Entries, Entry};
pub use report::RecoveryReport;
pub use segments::{SegmentInfo, SegmentState};
pub use store::{Document, Documents, LoadError, Snapshot, StateMachine};
pub use transaction::Transaction;
pub use verify::LogReader;
pub use wal::WriteAheadLog;
