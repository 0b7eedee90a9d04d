//! A writer killed in the middle of whatever it is about, life after life on the same log, with what it acknowledged kept
//! outside. `DURALOG_KILLS` says how often, `cargo xtask kills` does it for long.
#![cfg(unix)]
#![allow(missing_docs)]

mod process;

use std::{
    env,
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::Stdio,
    thread,
    time::Instant,
};

use process::{Seen, Witness, figure, folder, writer};

const KILLS: u64 = 200;
/// After so many lives a new log is begun, for the longer the log, the longer its state.
const LIVES: u64 = 20;
const MODES: [&str; 3] = ["immediate", "batched", "async"];

/// The next number of a generator.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Lets a writer live until it has said `lines` lines and a little longer, and gives all that it said.
fn life(witness: &mut Witness, dir: &Path, mode: &str, seed: u64, lines: u64, longer: u64) {
    let mut command = writer(dir, mode, witness.next(), &["endless", &seed.to_string()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut heard = String::new();
    for _ in 0..lines {
        said.read_line(&mut heard).unwrap();
    }
    // Not a sleep: the kill shall come anywhere, and nothing depends on where it does.
    for _ in 0..longer {
        thread::yield_now();
    }
    child.kill().unwrap();
    said.read_to_string(&mut heard).unwrap();
    let ended = child.wait().unwrap();
    assert_eq!(ended.signal(), Some(9), "the writer ended before it was killed: {heard}");
    witness.hear_all(&heard);
}

#[test]
fn a_killed_writer_loses_nothing_that_it_acknowledged_life_after_life() {
    let kills = env::var("DURALOG_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let start = Instant::now();
    let mut state = 7;
    let (mut done, mut torn, mut beyond, mut entries) = (0_u64, 0_u64, 0, 0);
    let mut witness = Witness::default();
    let mut place = folder();
    for kill in 0..kills {
        if kill.is_multiple_of(LIVES) {
            (witness, place) = (Witness::default(), folder());
        }
        let mode = MODES[usize::try_from(random(&mut state) % 3).unwrap()];
        let (seed, lines) = (random(&mut state), 1 + random(&mut state) % 120);
        let longer = random(&mut state) % 400;
        life(&mut witness, &place.path().join("log"), mode, seed, lines, longer);
        let who = format!("kill {kill}, {mode}, seed {seed}, after {lines} lines");
        let Seen { torn: is_torn, beyond: more } = witness.check(&place.path().join("log"), &who);
        done += 1;
        torn += u64::from(is_torn);
        beyond += u64::from(more > 0);
        entries += lines;
    }
    let seconds = start.elapsed().as_secs_f64();
    figure(format_args!(
        "{kills} kills, none lost what was acknowledged: {torn} left a torn tail, {beyond} entries beyond what was \
         acknowledged; some {entries} lines heard; {:.0} kills a second",
        kills as f64 / seconds
    ));
    // A longer run is not the one that the page tells of.
    if kills == KILLS {
        duralog_tests::figure(&format!("kills: {done} kills of a writer, none of which lost what it had acknowledged"));
    }
}
