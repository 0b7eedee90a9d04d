//! A writer to be killed and failed by the suites about real processes. What it tries and what it is told goes to its
//! standard output, a line each, so that another process can hold the log against it:
//!
//! ```text
//! open | state 4.0,5.0,5.1           a log is being opened; it was, and held change 4 and both entries of change 5
//! try 7 3                            change 7, of three entries, is being appended
//! ack 7 21 23 durable                it stands at the LSNs 21 to 23; or `buffered`, `os`
//! not 7 no_space                     it was refused, the handle goes on; any other word: nothing is known of it
//! synced 23 | closed                 what is up to there is durable; all is
//! cutting 12 8 | cut                 what is above, change 8, is being given up at the back; it is
//! freeing 12 | freed 9               what is below is being given up at the front; the log begins there
//! checkpoint                         one was acknowledged
//! appends 800 groups 123             what the log counted
//! done
//! ```
#![forbid(unsafe_code)]

use core::{fmt, time::Duration};
use std::{
    collections::BTreeMap,
    env,
    io::{self, Write},
    path::PathBuf,
    process::{ExitCode, id},
};

use duralog::{
    Config, Durability, Error, FileDevice, Lsn, Operation, Receipt, Result, SharedDevice, StateMachine, StdFs,
    SyncMode, file::FileOptions,
};
use duralog_tests::{Applied, Pace, Prepared, change};

type Log = duralog::Log<Prepared<StdFs>>;

const USAGE: &str =
    "log-writer DIR immediate|batched|async FROM script|endless SEED|contend TIMES|together THREADS TIMES";
/// How often a log that cannot be opened is tried again.
const OPENINGS: u32 = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some((dir, mode, from, work)) = arguments
        .split_first_chunk::<3>()
        .map(|([dir, mode, from], rest)| (PathBuf::from(dir), mode.as_str(), from.parse().unwrap_or(1), rest))
    else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let number = |at: usize| work.get(at).and_then(|number| number.parse().ok()).unwrap_or(1);
    // A script makes the same system calls in every run.
    let is_script = work.first().is_some_and(|work| work == "script");
    let pace = if is_script { Pace::All } else { Pace::Beside };
    let mut writer = Writer { config: config(dir, mode), pace, log: None, state: Applied::default(), next: from };
    let ended = match work.first().map(String::as_str) {
        Some("script") => writer.script(),
        Some("endless") => writer.endless(number(1)),
        Some("together") => together(&writer.config, number(1), number(2)),
        Some("contend") => return contend(writer.config, from, number(1)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Small segments, so that a short life sees many; no thread but this one unless the mode needs it.
fn config(dir: PathBuf, mode: &str) -> Config {
    let (mode, write_behind) = match mode {
        "batched" => (SyncMode::Batched(Duration::from_millis(1)), None),
        "async" => (SyncMode::Async, Some(Duration::from_millis(1))),
        _ => (SyncMode::Immediate, None),
    };
    let config = Config { idle_mark: None, write_behind, ..Config::new(dir) };
    config.with_segment_size(8192).with_write_limit(2048).with_sync_mode(mode)
}

/// Opens the log in a directory, with segments that are made ahead as `pace` says.
fn open(config: &Config, pace: Pace) -> Result<Log> {
    let options = FileOptions { segment_size: config.segment_size, ..FileOptions::default() };
    let device = FileDevice::open(&config.dir, options).map_err(Prepared::<StdFs>::opened)?;
    Log::open_device(Prepared::new(device, pace), config.clone())
}

/// One call of `write`, so that a kill leaves the line whole or not there.
fn say(line: fmt::Arguments<'_>) {
    let _ = io::stdout().write_all(format!("{line}\n").as_bytes());
}

struct Writer {
    config: Config,
    pace: Pace,
    log: Option<Log>,
    state: Applied,
    /// The number of the next change.
    next: u64,
}

impl Writer {
    /// The log, opened again where it was lost.
    fn log(&mut self) -> Result<&Log> {
        if self.log.is_none() {
            let mut opened = self.open();
            for _ in 1..OPENINGS {
                if opened.is_err() {
                    opened = self.open();
                }
            }
            self.log = Some(opened?);
        }
        self.log.as_ref().ok_or(Error::Closed)
    }

    fn open(&mut self) -> Result<Log> {
        say(format_args!("open"));
        let log = open(&self.config, self.pace)?;
        self.state = Applied::default();
        log.rebuild(&mut self.state)?;
        say(format_args!("state {}", self.state));
        Ok(log)
    }

    /// What a call came to: an error that ends the handle lets go of it, and the next call opens the log again.
    fn came_to<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(done) => Some(done),
            Err(error) => {
                eprintln!("{error}");
                if error.is_fatal() {
                    self.log = None;
                }
                None
            }
        }
    }

    /// Appends one change by what `append` does with its payloads.
    fn change(
        &mut self,
        entries: u64,
        len: usize,
        append: impl FnOnce(&Log, &[Operation]) -> Result<Receipt>,
    ) -> Result<()> {
        self.log()?;
        let number = self.next;
        self.next += 1;
        say(format_args!("try {number} {entries}"));
        let operations: Vec<_> = (0..entries).map(|entry| Operation::opaque(change(number, entry, len))).collect();
        let appended = append(self.log()?, &operations);
        match &appended {
            Ok(receipt) => {
                self.state.push(number, entries);
                let durability = match receipt.durability {
                    Durability::Buffered => "buffered",
                    Durability::Os => "os",
                    Durability::Durable => "durable",
                };
                let (first, last) = (receipt.first.value(), receipt.last.value());
                say(format_args!("ack {number} {first} {last} {durability}"));
            }
            Err(error) => say(format_args!("not {number} {}", error.kind())),
        }
        self.came_to(appended);
        Ok(())
    }

    fn append(&mut self, len: usize) -> Result<()> {
        self.change(1, len, |log, operations| log.append(&operations[0]))
    }

    fn batch(&mut self, entries: u64, len: usize) -> Result<()> {
        self.change(entries, len, |log, operations| {
            log.append_batch(operations).and_then(|receipt| receipt.ok_or(Error::Closed))
        })
    }

    fn transaction(&mut self, entries: u64, len: usize) -> Result<()> {
        self.change(entries, len, |log, operations| {
            let transaction = log.transaction()?;
            for operation in operations {
                transaction.append(operation)?;
            }
            transaction.commit()
        })
    }

    fn sync(&mut self) -> Result<()> {
        let synced = self.log()?.sync();
        if let Some(lsn) = self.came_to(synced) {
            say(format_args!("synced {}", lsn.value()));
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.log()?;
        let snapshot = self.state.snapshot();
        let log = self.log()?;
        let written = log.checkpoint(log.checkpoint_at(), &snapshot);
        if self.came_to(written).is_some() {
            say(format_args!("checkpoint"));
        }
        Ok(())
    }

    fn truncate_before(&mut self, back: u64) -> Result<()> {
        let lsn = self.log()?.synced_lsn().value().saturating_sub(back);
        say(format_args!("freeing {lsn}"));
        let freed = self.log()?.truncate_before(Lsn::new(lsn));
        if let Some(lsn) = self.came_to(freed) {
            say(format_args!("freed {}", lsn.value()));
        }
        Ok(())
    }

    /// Gives the last change up, which was an append.
    fn cut_last(&mut self) -> Result<()> {
        let lsn = self.log()?.current_lsn().value() - 2;
        let Some((last, _)) = self.state.entries().last() else { return Ok(()) };
        say(format_args!("cutting {lsn} {last}"));
        let cut = self.log()?.truncate_after(Lsn::new(lsn));
        if self.came_to(cut).is_some() {
            self.state.pop();
            say(format_args!("cut"));
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let closed = self.log()?.close();
        self.log = None;
        if self.came_to(closed).is_some() {
            say(format_args!("closed"));
        }
        Ok(())
    }

    /// A short life that does everything once: create, rotate, checkpoint, truncate at both ends, close, take over.
    fn script(&mut self) -> Result<()> {
        for _ in 0..2 {
            self.append(40)?;
        }
        self.batch(3, 200)?;
        self.append(1200)?;
        self.append(1500)?;
        self.checkpoint()?;
        self.truncate_before(0)?;
        self.transaction(2, 300)?;
        self.append(100)?;
        self.append(60)?;
        self.cut_last()?;
        self.append(50)?;
        self.checkpoint()?;
        self.truncate_before(1)?;
        self.close()?;
        self.append(70)?;
        self.batch(2, 500)?;
        self.sync()?;
        self.log = None;
        say(format_args!("done"));
        Ok(())
    }

    /// Any call after any other, until it is killed.
    fn endless(&mut self, seed: u64) -> Result<()> {
        let mut state = seed;
        let mut below = |most: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % most
        };
        for _ in 0..100_000 {
            let len = 1 + usize::try_from(below(4) * below(150)).unwrap_or(0);
            match below(40) {
                0..25 => self.append(len)?,
                25..30 => self.batch(1 + below(4), len)?,
                30..34 => self.transaction(1 + below(3), len)?,
                34..36 => self.sync()?,
                36..38 => self.checkpoint()?,
                38 => self.truncate_before(below(20))?,
                _ => self.close()?,
            }
        }
        Ok(())
    }
}

/// Threads that append at the same time, and what the log counted.
fn together(config: &Config, threads: u64, times: u64) -> Result<()> {
    let log = open(config, Pace::Beside)?;
    std::thread::scope(|scope| {
        let append =
            |thread| (0..times).try_for_each(|n| log.append(Operation::opaque(change(thread, n, 100))).map(drop));
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || append(thread))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err(Error::Closed)))
    })?;
    let stats = log.stats()?;
    say(format_args!("appends {} groups {}", stats.appends, stats.groups));
    Ok(())
}

/// Opens the log again and again, appends where it is let in, and says of each append where it stands.
fn contend(config: Config, from: u64, times: u64) -> ExitCode {
    let mut kinds = BTreeMap::new();
    let mut number = from;
    for _ in 0..times {
        let log = match open(&config, Pace::Beside) {
            Ok(log) => log,
            Err(error) => {
                *kinds.entry(error.kind()).or_insert(0_u64) += 1;
                continue;
            }
        };
        say(format_args!("in {}", id()));
        for _ in 0..3 {
            match log.append(Operation::opaque(change(number, 0, 400))) {
                Ok(receipt) => say(format_args!("ack {number} {0} {0} durable", receipt.last.value())),
                Err(error) => {
                    *kinds.entry(error.kind()).or_insert(0) += 1;
                    break;
                }
            }
            number += 1;
        }
        say(format_args!("out {}", id()));
        drop(log);
    }
    for (kind, times) in kinds {
        say(format_args!("refused {kind} {times}"));
    }
    ExitCode::SUCCESS
}
