//! What a log takes from outside besides its device: the time, and random numbers.

use std::fmt;

/// Where a log takes the time and random numbers from, so that a test can give both.
pub trait Environment: fmt::Debug + Send + Sync {
    /// Microseconds since the Unix epoch. A clock that runs backwards, stands still or is absurd does no harm.
    fn now_us(&self) -> u64;

    /// Microseconds of a clock that nobody sets, from whatever beginning: how long something took is the difference of two.
    /// [`now_us`](Self::now_us) unless there is a better one.
    fn ticks_us(&self) -> u64 {
        self.now_us()
    }

    /// 128 random bits: a log's UUID, a segment's nonce.
    fn random(&self) -> u128;
}

/// Clock and random numbers are JavaScript's there, and reach the log by an [`Environment`] of the program's own.
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
const NO_SYSTEM: &str = "there is no system here: give the configuration an environment";

/// The system's clock and random numbers. In WebAssembly there is no system, and using it panics.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Environment for System {
    #[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
    fn now_us(&self) -> u64 {
        use std::time::{SystemTime, UNIX_EPOCH};

        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    fn now_us(&self) -> u64 {
        panic!("{NO_SYSTEM}")
    }

    #[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
    fn ticks_us(&self) -> u64 {
        use std::{sync::OnceLock, time::Instant};

        static BEGINNING: OnceLock<Instant> = OnceLock::new();
        u64::try_from(BEGINNING.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    #[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
    fn random(&self) -> u128 {
        uuid::Uuid::new_v4().as_u128()
    }

    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    fn random(&self) -> u128 {
        panic!("{NO_SYSTEM}")
    }
}
