//! What a log takes from outside besides its device: the time, and random numbers.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

/// Where a log takes the time and random numbers from, so that a test can give both.
pub trait Environment: fmt::Debug + Send + Sync {
    /// Microseconds since the Unix epoch. A clock that runs backwards, stands still or is absurd does no harm.
    fn now_us(&self) -> u64;

    /// 128 random bits: a log's UUID, a segment's nonce.
    fn random(&self) -> u128;
}

/// The system's clock and random numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Environment for System {
    fn now_us(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    fn random(&self) -> u128 {
        uuid::Uuid::new_v4().as_u128()
    }
}
