//! The native side of duralog: where a log can live when there is a standard library.
//!
//! [`FileDevice`] keeps a log in a directory, [`MemoryDevice`] in memory.
#![forbid(unsafe_code)]

pub mod file;
mod fs;
pub mod memory;

pub use file::FileDevice;
#[doc(hidden)]
pub use fs::{Files, Identity, OneFile, StdFs};
pub use memory::MemoryDevice;
