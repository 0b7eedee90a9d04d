//! Each change behind a switch is tried: the programs are built once, and run once for each of them.

use core::{
    cmp::Reverse,
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Instant,
};

use serde_json::Value;

use super::{
    Change, in_copy, seeds,
    switch::{SWITCH, Switched},
};
use crate::{compiler::cargo, mutants::Bench, report::seconds};

/// The file of the core that gets the switch itself.
const ROOT: &str = "core/src/lib.rs";
/// The errors of the compiler about constants: there the change may well compile, and only the switch does not.
const NOT_CONSTANT: [&str; 2] = ["E0015", "E0658"];
/// How many tests are asked before the others.
const FIRST: usize = 12;
/// Memory, in KiB: what a change asks for without end is refused.
const MEMORY: u64 = 8 << 20;

/// How the programs are built: they are run often. And what the compiler sees through is for a test to notice.
const FOR_SPEED: [(&str, &str); 2] =
    [("CARGO_PROFILE_TEST_OPT_LEVEL", "3"), ("RUSTFLAGS", "-Aarithmetic_overflow -Aunconditional_panic")];

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A test noticed, or did not end.
    Noticed,
    /// No test noticed.
    Survives,
    /// It does not compile.
    Unviable,
    /// It cannot stand behind a switch.
    NoSwitch,
}

/// Tries changes; what became of each.
pub(super) fn run(bench: &Bench, changes: &[Change], stages: &[&[&str]]) -> Result<Vec<Outcome>, String> {
    let start = Instant::now();
    let mut outcomes = vec![Outcome::Survives; changes.len()];
    compile(bench, changes, &mut outcomes)?;
    let programs = (0..).zip(stages).map(|(number, stage)| Program::build(bench, number, stage));
    let programs = programs.collect::<Result<Vec<_>, _>>()?;
    let tried: Vec<usize> = (0..changes.len()).filter(|index| outcomes[*index] == Outcome::Survives).collect();
    println!("{} of {} changes behind switches, after {}", tried.len(), changes.len(), seconds(start.elapsed()));
    let next = AtomicUsize::new(0);
    let all = Mutex::new(outcomes);
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(&index) = tried.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let noticed = programs.iter().any(|program| program.notices(bench, index + 1));
                    let outcome = if noticed { Outcome::Noticed } else { Outcome::Survives };
                    all.lock().unwrap_or_else(PoisonError::into_inner)[index] = outcome;
                    if !noticed {
                        println!("{:>8}  number {}: {}", seconds(start.elapsed()), index + 1, changes[index].name);
                    }
                }
            });
        }
    });
    Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Writes all changes that compile into the copy.
fn compile(bench: &Bench, changes: &[Change], outcomes: &mut [Outcome]) -> Result<(), String> {
    let files: BTreeSet<&str> = changes.iter().map(|change| &change.file[..]).chain([ROOT]).collect();
    let sources = files.iter().map(|file| Ok((*file, fs::read_to_string(bench.tree.join(file))?)));
    let sources = sources.collect::<Result<BTreeMap<_, _>, std::io::Error>>();
    let sources = sources.map_err(|why| format!("cannot read the copy: {why}"))?;
    loop {
        let mut places = BTreeMap::new();
        for (&file, source) in &sources {
            let of_file = (0..).zip(changes).filter(|(_, change)| change.file == file);
            let of_file = of_file.filter(|(index, _)| outcomes[*index] == Outcome::Survives);
            let of_file: Vec<(usize, &Change)> = of_file.map(|(index, change)| (index + 1, change)).collect();
            let mut switched = Switched::new(source, &of_file)?;
            for number in switched.left_out {
                outcomes[number - 1] = Outcome::NoSwitch;
            }
            if file == ROOT {
                switched.text += SWITCH;
            }
            let path = bench.tree.join(file);
            fs::write(&path, &switched.text).map_err(|why| format!("cannot write {}: {why}", path.display()))?;
            places.insert(file, switched.places);
        }
        let mut command = cargo();
        command.args(["check", "--quiet", "-p", "duralog-core", "--all-features", "--message-format=json"]);
        let checked =
            in_copy(bench, &mut command).envs(FOR_SPEED).output().map_err(|why| format!("cannot run cargo: {why}"))?;
        if checked.status.success() {
            return Ok(());
        }
        let messages = String::from_utf8_lossy(&checked.stdout);
        let mut dropped = 0;
        for error in messages.lines().filter_map(Error::parse) {
            let places = places.get(&error.file[..]).map_or(&[][..], Vec::as_slice);
            let is_around =
                |place: &&(usize, Range<usize>)| place.1.start <= error.at.start && error.at.end <= place.1.end;
            let Some((_, least)) = places.iter().filter(is_around).min_by_key(|(_, place)| place.len()) else {
                continue;
            };
            for (number, _) in places.iter().filter(|(_, place)| place == least) {
                outcomes[number - 1] = if error.is_of_constants { Outcome::NoSwitch } else { Outcome::Unviable };
                dropped += 1;
            }
        }
        if dropped == 0 {
            let errors = String::from_utf8_lossy(&checked.stderr);
            return Err(format!("the copy with the switches does not compile: {errors}{messages}"));
        }
    }
}

/// An error of the compiler, and where.
struct Error {
    file: String,
    at: Range<usize>,
    is_of_constants: bool,
}

impl Error {
    fn parse(message: &str) -> Option<Self> {
        let message: Value = serde_json::from_str(message).ok()?;
        let message = message.get("message").filter(|message| message["level"] == "error")?;
        let span = message["spans"].as_array()?.iter().find(|span| span["is_primary"] == true)?;
        let byte = |key: &str| span[key].as_u64().and_then(|byte| usize::try_from(byte).ok());
        let code = message["code"]["code"].as_str().unwrap_or_default();
        let is_of_constants = NOT_CONSTANT.contains(&code);
        Some(Self {
            file: span["file_name"].as_str()?.to_owned(),
            at: byte("byte_start")?..byte("byte_end")?,
            is_of_constants,
        })
    }
}

/// A program of tests.
struct Program {
    path: PathBuf,
    folder: PathBuf,
    stage: usize,
    /// A test that takes longer hangs.
    limit: Duration,
    /// How many changes each of its tests has noticed.
    noticed: Mutex<BTreeMap<String, usize>>,
}

impl Program {
    fn build(bench: &Bench, number: usize, stage: &[&str]) -> Result<Self, String> {
        let stage: Vec<String> = stage.iter().map(|argument| (*argument).to_owned()).collect();
        let (path, folder) = bench.build(&stage, &FOR_SPEED)?;
        let mut built =
            Self { path, folder, stage: number, limit: Duration::from_secs(600), noticed: Mutex::default() };
        let start = Instant::now();
        // Without any change every test passes, else its failure says nothing.
        let Asked { notices: false, longest } = built.ask(bench, 0, &[]) else {
            return Err(format!("`cargo test {}` fails without any change", stage.join(" ")));
        };
        println!("{:>8}  `cargo test {}` without any change", seconds(start.elapsed()), stage.join(" "));
        built.limit = longest * 4 + Duration::from_secs(2);
        Ok(built)
    }

    /// Whether a test fails, or none ends. Few tests notice most changes: those that have noticed the most so far are
    /// asked first.
    fn notices(&self, bench: &Bench, number: usize) -> bool {
        let first: Vec<String> = {
            let noticed = self.noticed();
            let mut tests: Vec<_> = noticed.iter().collect();
            tests.sort_by_key(|(_, times)| Reverse(**times));
            tests.into_iter().take(FIRST).map(|(test, _)| test.clone()).collect()
        };
        !first.is_empty() && self.ask(bench, number, &first).notices || self.ask(bench, number, &[]).notices
    }

    fn noticed(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.noticed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks these tests, or all, where none is named. The first that fails or hangs is enough.
    fn ask(&self, bench: &Bench, number: usize, tests: &[String]) -> Asked {
        let mut asked = Asked { notices: true, longest: Duration::ZERO };
        let mut command = Command::new("sh");
        let script = format!("ulimit -v {MEMORY}; exec \"$0\" --test-threads=1 --exact \"$@\"");
        command.args(["-c", &script]).arg(&self.path).args(tests);
        in_copy(bench, &mut command).env("DURALOG_SWITCHED", number.to_string()).envs(seeds(self.stage));
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let Ok(mut child) = command.spawn() else { return asked };
        let Some(told) = child.stdout.take() else { return asked };
        let (told_by, heard) = mpsc::channel();
        let listener = thread::spawn(move || {
            let mut lines = BufReader::new(told).lines().map_while(Result::ok);
            // Nobody listens any more, if it took too long.
            lines.all(|line| told_by.send(line).is_ok())
        });
        let mut start = Instant::now();
        let is_stopped = loop {
            match heard.recv_timeout(self.limit) {
                Ok(line) => {
                    asked.longest = asked.longest.max(start.elapsed());
                    start = Instant::now();
                    let failed = line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED"));
                    if let Some(test) = failed {
                        *self.noticed().entry(test.to_owned()).or_default() += 1;
                        break true;
                    }
                }
                Err(RecvTimeoutError::Timeout) => break true,
                Err(RecvTimeoutError::Disconnected) => break false,
            }
        };
        if is_stopped {
            let _ = child.kill();
        }
        drop(heard);
        let ended = child.wait();
        let _ = listener.join();
        asked.notices = is_stopped || !ended.is_ok_and(|status| status.success());
        asked
    }
}

/// What came of asking tests.
struct Asked {
    /// Whether one failed, or did not end.
    notices: bool,
    /// The longest that one took.
    longest: Duration,
}
