//! Runs seeds of the swarm until one fails: `cargo xtask swarm` builds this with optimisation and starts it.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::{process::ExitCode, sync::Mutex, time::Instant};

use duralog_tests::{Mode, Tally, run_seed};

const USAGE: &str = "swarm [--seeds N] [--from SEED] [--jobs N] [--mode crash|mixed|slots]";
/// Seeds that a thread takes at once.
const SHARE: u64 = 256;

struct Options {
    mode: Mode,
    from: u64,
    seeds: u64,
    jobs: u64,
}

fn options() -> Result<Options, String> {
    let mut options = Options { mode: Mode::Crash, from: 0, seeds: 10_000, jobs: 2 };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value; {USAGE}"))?;
        let number = || value.parse().map_err(|_| format!("{name} {value} is no number; {USAGE}"));
        match name.as_str() {
            "--seeds" => options.seeds = number()?,
            "--from" => options.from = number()?,
            "--jobs" => options.jobs = number()?.max(1),
            "--mode" => {
                let mode = Mode::ALL.into_iter().find(|mode| mode.name() == value);
                options.mode = mode.ok_or_else(|| format!("there is no mode {value}; {USAGE}"))?;
            }
            _ => return Err(format!("there is no option {name}; {USAGE}")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let Options { mode, from, seeds, jobs } = options;
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Tally::default());
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let mut tally = Tally::default();
                while !stop.load(Ordering::Relaxed) {
                    let first = next.fetch_add(SHARE, Ordering::Relaxed);
                    if first >= seeds {
                        break;
                    }
                    for seed in first..seeds.min(first + SHARE) {
                        let seed = from + seed;
                        if let Err(failed) = run_seed(mode, seed, &mut tally) {
                            if !stop.swap(true, Ordering::Relaxed) {
                                let name = mode.name();
                                println!("{}\n\nseed {seed}: {}", failed.story, failed.violation);
                                println!(
                                    "to repeat it: cargo xtask swarm --mode {name} --from {seed} --seeds 1 --jobs 1"
                                );
                            }
                            break;
                        }
                    }
                }
                total.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(&tally);
            });
        }
    });
    let tally = *total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let seconds = start.elapsed().as_secs_f64();
    println!("{} mode, seeds from {from} on: {tally}", mode.name());
    println!("{seconds:.1} s, {:.0} seeds per second", tally.seeds as f64 / seconds);
    if stop.into_inner() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
