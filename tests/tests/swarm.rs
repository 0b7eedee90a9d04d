//! A short run of the swarm; `cargo xtask swarm` runs as long as is wanted.
#![allow(missing_docs)]

use duralog_tests::{Mode, Tally, figure, run_seed};

/// Seeds of each mode, unless `DURALOG_SEEDS` says another number. Long runs begin at 0 as well: these are the first of them.
const SEEDS: u64 = 20_000;

fn seeds() -> u64 {
    std::env::var("DURALOG_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("DURALOG_SEEDS is a number"))
}

fn run(mode: Mode) -> Tally {
    let mut tally = Tally::default();
    for seed in 0..seeds() {
        if let Err(failed) = run_seed(mode, seed, &mut tally) {
            let name = mode.name();
            println!("{}", failed.story);
            panic!(
                "seed {seed}: {}\nto repeat it: cargo xtask swarm --mode {name} --from {seed} --seeds 1 --jobs 1",
                failed.violation
            );
        }
    }
    println!("{} mode: {tally}", mode.name());
    figure(&format!("swarm, mode {}: {} seeds", mode.name(), tally.seeds));
    tally
}

#[test]
fn crashes_alone_never_lose_what_was_acknowledged_and_are_never_called_damage() {
    let tally = run(Mode::Crash);
    assert_eq!((tally.seeds, tally.lies), (seeds(), 0));
    assert!(tally.lives > 2 * seeds() && tally.entries > seeds(), "{tally}");
}

#[test]
fn whatever_fails_is_told_and_nothing_wrong_is_returned() {
    let tally = run(Mode::Mixed);
    let heard = tally.heard;
    let counts = [tally.lies, heard.harmless, heard.cut, heard.refused];
    assert!(counts.into_iter().all(|count| count > seeds() / 200), "{tally}");
}

#[test]
fn one_seed_comes_to_the_same_every_time() {
    for mode in [Mode::Crash, Mode::Mixed] {
        let tally = |seeds: core::ops::Range<u64>| {
            let mut tally = Tally::default();
            seeds.for_each(|seed| drop(run_seed(mode, seed, &mut tally)));
            tally
        };
        assert_eq!(tally(0..50), tally(0..50));
        assert_ne!(tally(0..50), tally(50..100));
    }
}
