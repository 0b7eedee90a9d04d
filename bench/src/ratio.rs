//! Ratios: sides that do the same work take turns in short blocks, and what counts is the median of their quotients.
//!
//! ```text
//! round 1: duralog, baseline, baseline again, others     round 2: others, baseline again, baseline, duralog     ...
//! ```
//!
//! Whatever slows the machine down for a while slows neighbours down alike. The baseline against itself, by the same
//! scheme, says how much of a difference is noise.

use core::time::Duration;

use crate::{Result, scale::Scale};

/// One block of work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block {
    /// Bytes moved, as the workload counts them.
    pub(crate) bytes: u64,
    /// How long it took.
    pub(crate) time: Duration,
    /// How long each append took.
    pub(crate) waits: Vec<Duration>,
}

impl Block {
    fn rate(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64()
    }
}

/// One of those that take turns.
pub(crate) trait Side {
    /// Its name in the table.
    fn name(&self) -> String;
    /// Works for at least this long, or does the whole of its work where that is one piece.
    fn block(&mut self, least: Duration) -> Result<Block>;
}

/// The quartiles of some figures.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Quartiles {
    /// A quarter of them is below.
    pub(crate) low: f64,
    /// Half of them is below.
    pub(crate) median: f64,
    /// Three quarters of them are below.
    pub(crate) high: f64,
}

impl Quartiles {
    fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        // Between the two figures that a quarter, a half or three quarters of the way falls between.
        let at = |quarters: usize| {
            let (below, rest) = ((figures.len() - 1) * quarters / 4, (figures.len() - 1) * quarters % 4);
            let above = figures[(below + 1).min(figures.len() - 1)];
            figures[below] + (above - figures[below]) * rest as f64 / 4.0
        };
        Self { low: at(1), median: at(2), high: at(3) }
    }

    /// Half the distance between the quartiles.
    pub(crate) fn noise(&self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// What one side came to.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    /// Its rate divided by the baseline's of the same round.
    pub(crate) ratio: Quartiles,
    /// Bytes a second.
    pub(crate) rate: f64,
    /// Appends a second.
    pub(crate) appends: f64,
    /// The worst hundredth of the appends took at least this long.
    pub(crate) worst: Option<Duration>,
}

/// Lets the sides take turns. The first is measured, the second is its baseline, the third the same baseline again; any
/// others are compared with the baseline as well. The outcomes are in the order of the sides.
pub(crate) fn compare(scale: &Scale, sides: &mut [Box<dyn Side + '_>]) -> Result<Vec<Outcome>> {
    for tries in 0.. {
        let outcomes = rounds(scale, sides)?;
        if outcomes[2].ratio.noise() <= 0.1 || tries == scale.repeats {
            return Ok(outcomes);
        }
        eprintln!("the noise was {:.2}: once more", outcomes[2].ratio.noise());
    }
    unreachable!("the last try returns")
}

fn rounds(scale: &Scale, sides: &mut [Box<dyn Side + '_>]) -> Result<Vec<Outcome>> {
    let mut blocks: Vec<Vec<Block>> = sides.iter().map(|_| Vec::new()).collect();
    for round in 0..=scale.rounds {
        let mut order: Vec<usize> = (0..sides.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for side in order {
            let block = sides[side].block(scale.block)?;
            // The first round warms up.
            if round > 0 {
                blocks[side].push(block);
            }
        }
    }
    let baseline: Vec<f64> = blocks[1].iter().map(Block::rate).collect();
    let outcomes = sides.iter().zip(blocks).map(|(side, blocks)| {
        let ratios = blocks.iter().zip(&baseline).map(|(block, baseline)| block.rate() / baseline);
        let appends = blocks.iter().map(|block| block.waits.len() as f64 / block.time.as_secs_f64());
        let mut waits: Vec<Duration> = blocks.iter().flat_map(|block| block.waits.iter().copied()).collect();
        waits.sort_unstable();
        Outcome {
            name: side.name(),
            ratio: Quartiles::of(ratios.collect()),
            rate: Quartiles::of(blocks.iter().map(Block::rate).collect()).median,
            appends: Quartiles::of(appends.collect()).median,
            worst: waits.get(waits.len().saturating_sub(waits.len() / 100 + 1)).copied(),
        }
    });
    Ok(outcomes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_those_of_the_sorted_figures() {
        let of = |figures: &[f64]| {
            let Quartiles { low, median, high } = Quartiles::of(figures.to_vec());
            [low, median, high]
        };
        assert_eq!(of(&[5.0, 1.0, 4.0, 2.0, 3.0]), [2.0, 3.0, 4.0]);
        assert_eq!(of(&[4.0, 1.0, 2.0]), [1.5, 2.0, 3.0]);
        assert_eq!(of(&[7.0]), [7.0, 7.0, 7.0]);
    }
}
