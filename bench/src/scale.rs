//! How much is measured.

use core::time::Duration;

/// How much is measured.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    /// Whether everything is measured, at its full size.
    pub(crate) full: bool,
    /// How often the sides take turns, the warm-up apart.
    pub(crate) rounds: usize,
    /// The least that a block takes.
    pub(crate) block: Duration,
    /// How often a comparison with too much noise is done again.
    pub(crate) repeats: usize,
    /// Bytes of W3.
    pub(crate) stream: u64,
    /// Bytes of W5.
    pub(crate) log: u64,
    /// Sizes of W6.
    pub(crate) openings: Vec<u64>,
    /// Documents of W8.
    pub(crate) documents: u32,
}

const MIB: u64 = 1 << 20;

impl Scale {
    /// The table of the speed page: 11 pairs, all sizes.
    pub(crate) fn full() -> Self {
        Self {
            full: true,
            rounds: 11,
            block: Duration::from_millis(250),
            repeats: 2,
            stream: 512 * MIB,
            log: 1024 * MIB,
            openings: vec![64 * MIB, 1024 * MIB, 8192 * MIB],
            documents: 100_000,
        }
    }

    /// A look in under two minutes on a usual disk: three pairs, and smaller sizes.
    pub(crate) fn quick() -> Self {
        Self {
            full: false,
            rounds: 3,
            block: Duration::from_millis(200),
            repeats: 0,
            stream: 128 * MIB,
            log: 128 * MIB,
            openings: vec![64 * MIB, 256 * MIB],
            documents: 10_000,
        }
    }
}
