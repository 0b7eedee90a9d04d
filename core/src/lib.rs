//! The core of duralog: frames, recovery and commit logic over any medium, without std and without allocation.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod checkpoint;
pub mod checksum;
mod lsn;
pub mod meta;
pub mod operation;

pub use lsn::{CheckpointId, Exhausted, Lsn};
