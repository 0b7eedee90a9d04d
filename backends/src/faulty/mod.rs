//! A simulated medium on which everything that can go wrong does so where a test wants it, and nowhere else.
//!
//! ```text
//! create, write, trim, remove --> cache --- sync ---> durable image
//!                                   |                       |
//! read, next, prev <----------------+    after a power cut: what it kept of the unsynced operations
//! ```
//!
//! A [`Medium`] is what stays: two images of every object, and between them the operations that no sync has covered,
//! in order. A [`FaultyDevice`] is a handle on it that a log is opened with. Nothing is random: a [`Plan`] says which
//! call goes wrong and how, [`Medium::power_cut`] asks for each unsynced operation what is left of it.
//!
//! A run that tries every point: run once and count [`Medium::calls`]; for each of them run again with
//! [`Plan::cut_at_call`], take a [`Medium::snapshot`] for each way the cut may go, and open the log again.

mod change;
mod check;
mod device;
mod error;
mod medium;
mod plan;
mod random;
mod rot;
mod state;
#[cfg(test)]
mod tests;
mod trace;
mod ways;

pub use change::{Change, Keep, UnsyncedOp};
pub use check::{Check, Checked, Counterexample, Crash, Step, Wrong, check};
pub use device::FaultyDevice;
pub use error::FaultyError;
pub use medium::Medium;
pub use plan::{Failure, Kind, Plan, ReadFailure};
pub use random::Random;
pub use rot::Rot;
pub use ways::{subsets, ways};
