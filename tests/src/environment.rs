//! Time and random numbers that are the same in every run.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use duralog::Environment;

/// A clock that goes on by a microsecond whenever it is read, and random numbers from a seed.
#[derive(Debug)]
pub struct Counter {
    now: AtomicU64,
    drawn: AtomicU64,
}

impl Counter {
    /// The environment of a first life.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { now: AtomicU64::new(1_700_000_000_000_000), drawn: AtomicU64::new(1) })
    }

    /// A second one in the same state, which goes its own way.
    #[must_use]
    pub fn fork(&self) -> Arc<Self> {
        let copy = |of: &AtomicU64| AtomicU64::new(of.load(Ordering::Relaxed));
        Arc::new(Self { now: copy(&self.now), drawn: copy(&self.drawn) })
    }
}

impl Environment for Counter {
    fn now_us(&self) -> u64 {
        self.now.fetch_add(1, Ordering::Relaxed)
    }

    /// Looking how long something took is none of the readings: it leaves the times in the log as they are.
    fn ticks_us(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    fn random(&self) -> u128 {
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
        u128::from(mixed(2 * drawn)) << 64 | u128::from(mixed(2 * drawn + 1))
    }
}

/// A number that looks like no other: the finalizer of `splitmix64`.
pub(crate) fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}
