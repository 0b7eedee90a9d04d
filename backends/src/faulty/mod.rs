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
//! [`check`] runs a state machine through every crash and tells the shortest story that goes wrong. What it does not see, what
//! a program does around its log above all, is gone through by hand: run once and count [`Medium::calls`]; for each of them
//! run again with [`Plan::cut_at_call`], take a [`Medium::snapshot`] for each way the cut may go, and open the log again.
//! Transactions are part of what is run; [`Plan::fail`] makes a sync fail and [`Plan::capacity`] a medium full.
//!
//! ```
//! use duralog::faulty::{Check, FaultyDevice, Keep, Medium, Plan, Random, ways};
//! use duralog::{Config, Log, Lsn, SyncMode};
//!
//! /// A shop confirms its orders by mail. No crash takes a mail back.
//! fn sell(log: &Log<FaultyDevice>, mail_first: bool, mails: &mut Vec<String>) -> duralog::Result<()> {
//!     for order in ["a lamp", "a chair"] {
//!         if mail_first {
//!             mails.push(order.to_owned());
//!         }
//!         log.append(order.as_bytes())?;
//!         if !mail_first {
//!             mails.push(order.to_owned());
//!         }
//!     }
//!     Ok(())
//! }
//!
//! /// The call at which a crash leaves a mail about an order that the log does not hold.
//! fn first_wrong(mail_first: bool) -> duralog::Result<Option<u64>> {
//!     let plain = || Config::new("nowhere").with_sync_mode(SyncMode::Immediate);
//!     let config = || plain().with_idle_mark(None).with_write_behind(None);
//!     let medium = || Medium::new(Check::default().geometry);
//!     let run = |medium: &Medium| {
//!         let mut mails = vec![];
//!         let sold = Log::open_device(medium.device(), config()).and_then(|log| sell(&log, mail_first, &mut mails));
//!         assert!(sold.is_ok() || medium.is_off(), "{sold:?}");
//!         mails
//!     };
//!     let whole = medium();
//!     run(&whole);
//!     for call in 0..=whole.calls() {
//!         let stopped = medium();
//!         stopped.set_plan(Plan::cut_at(call));
//!         let mails = run(&stopped);
//!         for keeps in ways(&stopped.unsynced(), 16, &mut Random::new(call)) {
//!             let after = stopped.snapshot();
//!             let mut keeps = keeps.into_iter();
//!             after.power_cut(|_| keeps.next().unwrap_or(Keep::None));
//!             let log = Log::open_device(after.device(), config())?;
//!             let kept = log.read_from(Lsn::FIRST)?.map(|entry| Ok(entry?.payload));
//!             let kept = kept.collect::<duralog::Result<Vec<_>>>()?;
//!             if mails.iter().any(|mail| !kept.contains(&mail.clone().into_bytes())) {
//!                 return Ok(Some(call));
//!             }
//!         }
//!     }
//!     Ok(None)
//! }
//!
//! assert!(first_wrong(true)?.is_some());
//! assert_eq!(first_wrong(false)?, None);
//! # Ok::<(), duralog::Error>(())
//! ```

mod change;
mod check;
mod device;
mod error;
mod medium;
mod panics;
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
