//! The native side of duralog: where a log can live when there is a standard library.
//!
//! [`FileDevice`] keeps a log in a directory, [`MemoryDevice`] in memory; with the feature `faulty` there is also a
//! simulated medium on which everything that can go wrong does so where a test wants it.
#![forbid(unsafe_code)]

#[cfg(feature = "faulty")]
pub mod faulty;
pub mod file;
mod fs;
pub mod memory;

#[cfg(feature = "faulty")]
pub use faulty::FaultyDevice;
pub use file::FileDevice;
#[doc(hidden)]
pub use fs::{Files, Identity, OneFile, StdFs};
pub use memory::MemoryDevice;
