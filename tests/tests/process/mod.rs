//! A writer in a process of its own, and a model that holds the log against what that process was told. The model knows
//! numbers and lines; of the log it uses no decision, only what reading hands out.
#![allow(dead_code, reason = "each suite uses its part")]

use core::fmt::Display;
use std::{
    collections::BTreeMap,
    env,
    io::{self, Write},
    path::Path,
    process::Command,
};

use duralog::{Config, Error, Log, LogReader, Lsn, Operation, RecoveryReport, SyncMode};
use duralog_tests::{Applied, change, changed};

pub(crate) const WRITER: &str = env!("CARGO_BIN_EXE_log-writer");

/// Says what was left out, past the test harness, which keeps to itself what a passing test prints. Under `CI` nothing
/// may be left out for want of a tool.
#[track_caller]
pub(crate) fn left_out(what: &str, is_tool: bool) {
    let is_ci = env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
    assert!(!(is_ci && is_tool), "{what}");
    let _ = writeln!(io::stderr(), "left out: {what}");
}

/// Shows a figure past the test harness.
pub(crate) fn figure(what: impl Display) {
    let _ = writeln!(io::stderr(), "{what}");
}

/// A folder for logs, in memory where the system has such a place: these suites are about calls and processes.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(folder) = tempfile::tempdir_in(memory)
    {
        return folder;
    }
    tempfile::tempdir().unwrap()
}

pub(crate) fn writer(dir: &Path, mode: &str, from: u64, work: &[&str]) -> Command {
    let mut command = Command::new(WRITER);
    command.arg(dir).args([mode, &from.to_string()]).args(work);
    command
}

pub(crate) fn config(dir: &Path) -> Config {
    let config = Config { idle_mark: None, write_behind: None, ..Config::new(dir) };
    config.with_segment_size(8192).with_write_limit(2048).with_sync_mode(SyncMode::Immediate)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Nothing was said of it, or that nothing is known.
    Unknown,
    /// It was answered. Whether a crash may take it, tells the other field.
    Answered { last: u64, durable: bool },
    /// Refused: it may be there until the next is acknowledged.
    Refused,
    /// It is being given up at the back.
    Leaving,
    /// It must not be there.
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    entries: u64,
    fate: Fate,
    /// First and last LSN, as they were answered.
    lsns: Option<(u64, u64)>,
}

/// What a log must hold.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    changes: BTreeMap<u64, Change>,
    /// The highest LSN below which anything may be gone, and the first that was then said to be kept.
    freeing: u64,
    freed: u64,
    /// Lines of this word were heard so often.
    heard: BTreeMap<String, u64>,
}

impl Witness {
    pub(crate) fn heard(&self, word: &str) -> u64 {
        self.heard.get(word).copied().unwrap_or(0)
    }

    /// The number of the next change.
    pub(crate) fn next(&self) -> u64 {
        self.changes.last_key_value().map_or(1, |(number, _)| number + 1)
    }

    pub(crate) fn hear_all(&mut self, lines: &str) {
        // Of a line that was cut off nothing was told.
        for line in lines.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            self.hear(line);
        }
    }

    pub(crate) fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        let word = words.next().unwrap_or_default();
        *self.heard.entry(word.into()).or_default() += 1;
        let rest: Vec<&str> = words.collect();
        let number = |at: usize| -> u64 { rest[at].parse().unwrap_or_else(|_| panic!("{line}")) };
        match word {
            "try" => {
                let change = Change { entries: number(1), fate: Fate::Unknown, lsns: None };
                assert!(self.changes.insert(number(0), change).is_none(), "{line}");
            }
            "ack" => {
                let durable = rest[3] == "durable";
                let change = self.changes.get_mut(&number(0)).expect(line);
                change.lsns = Some((number(1), number(2)));
                change.fate = Fate::Answered { last: number(2), durable };
                if durable {
                    self.is_durable(number(2));
                }
            }
            "not" => {
                let fate = if matches!(rest[1], "no_space" | "too_large") { Fate::Refused } else { Fate::Unknown };
                self.changes.get_mut(&number(0)).expect(line).fate = fate;
            }
            "synced" => self.is_durable(number(0)),
            "closed" => self.is_durable(u64::MAX),
            "cutting" => self.changes.get_mut(&number(1)).expect(line).fate = Fate::Leaving,
            "cut" => self.each(|change| {
                if change.fate == Fate::Leaving {
                    change.fate = Fate::Gone;
                }
            }),
            "freeing" => self.freeing = self.freeing.max(number(0)),
            "freed" => self.freed = self.freed.max(number(0)),
            "state" => {
                let state: Applied = rest.first().copied().unwrap_or_default().parse().expect(line);
                self.found(&state, &"the writer itself");
            }
            "open" | "checkpoint" | "done" => {}
            _ => panic!("a line that nobody writes: {line}"),
        }
    }

    fn each(&mut self, change: impl FnMut(&mut Change)) {
        self.changes.values_mut().for_each(change);
    }

    fn is_durable(&mut self, lsn: u64) {
        self.each(|change| match &mut change.fate {
            Fate::Answered { last, durable } if *last <= lsn => *durable = true,
            // Its LSN has been given to another.
            Fate::Refused => change.fate = Fate::Gone,
            _ => {}
        });
    }

    /// A state that was built up from the log: whether it may be so. From then on it is settled.
    fn found(&mut self, state: &Applied, who: &dyn Display) {
        let mut present = BTreeMap::<u64, u64>::new();
        let mut before = None;
        for &(number, entry) in state.entries() {
            assert!(before < Some((number, entry)), "{who}: {number}.{entry} is behind {before:?}");
            before = Some((number, entry));
            *present.entry(number).or_default() += 1;
        }
        let newest = present.last_key_value().map(|(number, _)| *number);
        for (number, change) in &self.changes {
            let there = present.get(number).copied();
            let Change { entries, fate, .. } = *change;
            assert!(there.is_none_or(|there| there == entries), "{who}: {there:?} of {entries} entries of {number}");
            match fate {
                Fate::Answered { durable: true, .. } => {
                    assert!(there.is_some(), "{who}: change {number} was durable and is not there: {change:?}");
                }
                Fate::Answered { durable: false, .. } => assert!(
                    there.is_some() || newest < Some(*number),
                    "{who}: change {number} is missing, and {newest:?} is there"
                ),
                Fate::Gone => assert!(there.is_none(), "{who}: change {number} is there again"),
                Fate::Unknown | Fate::Refused | Fate::Leaving => {}
            }
        }
        for number in present.keys() {
            assert!(self.changes.contains_key(number), "{who}: change {number} was never tried");
        }
        for (number, change) in &mut self.changes {
            change.fate = match present.get(number) {
                Some(_) => Fate::Answered { last: 0, durable: true },
                None => Fate::Gone,
            };
        }
    }

    /// Entries as they stand: no LSN is missing, each entry is where it was said to be, and nothing is there that was
    /// given up at the front.
    fn stands(&self, entries: &[(u64, Option<(u64, u64)>)], who: &dyn Display) {
        let Some((first, _)) = entries.first() else { return };
        for ((lsn, _), expected) in entries.iter().zip(*first..) {
            assert_eq!(*lsn, expected, "{who}: a gap");
        }
        assert!(*first <= self.freeing.max(1), "{who}: begins at {first}, nothing above {} was given up", self.freeing);
        // What a batch or transaction across the mark needs stays.
        assert!(first + 8 >= self.freed, "{who}: begins at {first}, and what is below {} was given up", self.freed);
        for (number, change) in &self.changes {
            let Change { entries: count, fate: Fate::Answered { durable: true, .. }, lsns: Some((from, to)) } = *change
            else {
                continue;
            };
            // A transaction was answered with the LSN of its commit.
            if from < *first || to - from + 1 != count {
                continue;
            }
            for (entry, lsn) in (from..=to).enumerate() {
                let at = usize::try_from(lsn - first).unwrap();
                let there = entries.get(at).unwrap_or_else(|| panic!("{who}: nothing at {lsn}"));
                let is_commit = count == 1 && there.1.is_none();
                assert!(is_commit || there.1 == Some((*number, entry as u64)), "{who}: {there:?} in place of {number}");
            }
        }
    }

    /// Holds the log in `dir` against everything heard: read beside nobody, opened for writing, with a change appended,
    /// and read again.
    pub(crate) fn check(&mut self, dir: &Path, who: &dyn Display) -> Seen {
        let seen = self.read(dir, who);
        let log = Log::open(config(dir)).unwrap_or_else(|error| panic!("{who}: {error}"));
        is_sound(log.recovery(), who);
        let mut state = Applied::default();
        log.rebuild(&mut state).unwrap_or_else(|error| panic!("{who}: {error}"));
        self.found(&state, who);
        let number = self.next();
        self.hear(&format!("try {number} 1"));
        let receipt = log.append(Operation::opaque(change(number, 0, 30))).unwrap();
        self.hear(&format!("ack {number} {0} {0} durable", receipt.last.value()));
        if number.is_multiple_of(2) {
            log.close().unwrap();
        }
        drop(log);
        self.read(dir, who);
        seen
    }

    fn read(&mut self, dir: &Path, who: &dyn Display) -> Seen {
        let reader = match LogReader::open(config(dir)) {
            // It died before there was a log; then nothing was acknowledged.
            Err(Error::NotFound { .. }) => {
                self.found(&Applied::default(), who);
                return Seen::default();
            }
            reader => reader.unwrap_or_else(|error| panic!("{who}: {error}")),
        };
        is_sound(reader.recovery(), who);
        let mut state = Applied::default();
        reader.rebuild(&mut state).unwrap_or_else(|error| panic!("{who}: {error}"));
        let durable = |change: &&Change| matches!(change.fate, Fate::Answered { durable: true, .. });
        let known: u64 = self.changes.values().filter(durable).map(|change| change.entries).sum();
        let beyond = (state.entries().len() as u64).saturating_sub(known);
        let seen = Seen { torn: reader.recovery().torn_tail.is_some(), beyond };
        self.found(&state, who);
        // A full disk may have taken what a checkpoint holds before anything could say so.
        let harmless = reader.recovery().findings.iter().filter(|finding| finding.harmless);
        let from = harmless.filter_map(|finding| finding.lsns).map(|(_, last)| last.value() + 1).max();
        let entries = reader.read(Lsn::new(from.unwrap_or(0)), Lsn::MAX).unwrap().map(|entry| {
            let entry = entry.unwrap_or_else(|error| panic!("{who}: {error}"));
            (entry.lsn.value(), entry.opaque().map(|payload| changed(payload).expect("a payload that nobody appended")))
        });
        self.stands(&entries.collect::<Vec<_>>(), who);
        seen
    }
}

/// What a kill left.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) torn: bool,
    /// Entries beyond what was known to be durable.
    pub(crate) beyond: u64,
}

/// No kill and no failed call is damage.
fn is_sound(report: &RecoveryReport, who: &dyn Display) {
    let damage: Vec<_> = report.damage().collect();
    assert!(damage.is_empty() && report.success, "{who}: {damage:?}");
}
