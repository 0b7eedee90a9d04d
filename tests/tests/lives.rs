//! Lives of logs on media divided into slots, as seeds say: `cargo xtask swarm --mode slots` runs as many as are wanted.
#![allow(missing_docs)]

use duralog_tests::{Mode, Tally, figure, run_seed};

/// Seeds, unless `DURALOG_SEEDS` says another number.
const SEEDS: u64 = 400;

#[test]
fn whatever_life_a_log_on_slots_has_what_was_acknowledged_is_there_and_nothing_is_stuck() {
    let seeds = std::env::var("DURALOG_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("DURALOG_SEEDS is a number"));
    let mut tally = Tally::default();
    for seed in 0..seeds {
        if let Err(failed) = run_seed(Mode::Slots, seed, &mut tally) {
            println!("{}", failed.story);
            panic!(
                "seed {seed}: {}\nto repeat it: cargo xtask swarm --mode slots --from {seed} --seeds 1 --jobs 1",
                failed.violation
            );
        }
    }
    println!("{tally}");
    figure(&format!("lives: {} media", tally.seeds));
}
