//! Shared parts of the test suites: a model that knows what a log must hold, workloads, and the search through all the
//! ways in which a crash may go.
//!
//! ```text
//! workload ──► Run ──► Log<FaultyDevice> ──► Medium
//!               │                               │ power cut, kill, failed sync at every call
//!               ▼                               ▼
//!             Oracle ◄── what a recovery gives ─┘
//! ```
//!
//! The [`Oracle`] is told what was appended and what was acknowledged, and uses nothing of the code under test.
#![forbid(unsafe_code)]

mod applied;
mod awaited;
mod card;
mod disk;
mod environment;
mod explore;
mod figures;
mod flash;
mod fuzz;
mod golden;
pub mod handle;
mod judge;
mod life;
mod lives;
mod oracle;
mod prepared;
mod run;
pub mod script;
mod small;
mod swarm;
mod watched;
mod workload;

pub use applied::{Applied, NotApplied, change, changed};
pub use awaited::{Awaited, Lazy, now, poll_times};
pub use card::{Card, CardError, Torn};
pub use disk::{Call, Directory, Disk, Image, Left as CallLeft, Recorded, Unsynced, rebuild};
pub use environment::Counter;
pub use explore::{Counts, Detail, Explorer, Stage, ways};
pub use figures::figure;
pub use flash::{Ended, Flash, FlashLog, FlashSearch, SLOTS_MAX, TEARS};
pub use fuzz::{FUZZ_TARGETS, FuzzTarget, fuzz, fuzz_seeds};
pub use golden::{Golden, file_name, golden};
pub use judge::{Damaged, Heard};
pub use life::misses_nothing;
pub use oracle::{Found, Giving, Held, Mark, Oracle, Violation, payload};
pub use prepared::{Pace, Prepared};
pub use run::{Moment, ObjectBytes, Run, Stopped};
pub use small::Small;
pub use swarm::{Failed, Mode, Tally, run_seed};
pub use watched::{Call as DeviceCall, Watched};
pub use workload::{Left, Nonces, Op, SegmentRoom, Setup};

/// The example of the root README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The example of the README of the crate `duralog`.
#[cfg(doctest)]
#[doc = include_str!("../../backends/README.md")]
struct BackendsReadme;
