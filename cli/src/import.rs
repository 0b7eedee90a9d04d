//! `import`: JSON lines become entries.
//!
//! ```text
//! input ──► thread: whole lines ──► a few in a channel ──► parsed ──► a batch ──► appended ──► `durable LSN`
//!                                   ▲
//! SIGINT, SIGTERM ──► thread: wake ─┘
//! ```
//!
//! A thread reads the input, so that neither a signal nor the interval of `--sync batched` waits for the next line.

use core::time::Duration;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::Instant,
};

use duralog::{Config, Error, Log, Lsn, Operation, SyncMode};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::{
    exit::{Failure, tell},
    line::{self, BadLine, Line},
    outcome::{Object, Outcome, count, object},
    signal::Signal,
};

/// Bytes of the longest line: an entry fits into 16 MiB, and no byte of it takes more than six in JSON.
const LINE_MAX: u64 = 128 << 20;
/// Lines that were read and not yet looked at.
const AHEAD: usize = 2;
/// Bytes of a batch that no segment holds: it is not gathered any further.
const BATCH_MAX: u64 = 64 << 20;

/// Appends the lines of a file to a log
///
/// Each line is one JSON object and becomes one entry. The log is made where there is none, and checked in full where
/// there is one. README.md describes the lines.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of the log
    dir: PathBuf,
    /// The file to read, or `-` for standard input
    file: PathBuf,
    /// How many lines make a batch, which a crash keeps whole or not at all
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// When a batch is made durable: `immediate`, `batched[:MS]` (at the latest after so many milliseconds, 100 unless
    /// told otherwise) or `async` (when the log falls behind, and at the end)
    #[arg(long, value_name = "MODE", default_value = "immediate", value_parser = sync_mode)]
    sync: SyncMode,
    /// Print `durable LSN` whenever a sync has moved the durable LSN
    #[arg(long)]
    ack: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn sync_mode(text: &str) -> Result<SyncMode, String> {
    let batched = |ms| SyncMode::Batched(Duration::from_millis(ms));
    match text.split_once(':') {
        None if text == "immediate" => Ok(SyncMode::Immediate),
        None if text == "batched" => Ok(batched(100)),
        None if text == "async" => Ok(SyncMode::Async),
        Some(("batched", ms)) => match ms.parse() {
            Ok(ms) if ms > 0 && u32::try_from(ms).is_ok() => Ok(batched(ms)),
            _ => Err(format!("{ms} is no number of milliseconds from 1 to {}", u32::MAX)),
        },
        _ => Err("expected immediate, batched, batched:MS or async".to_owned()),
    }
}

/// What came of an import.
#[derive(Debug, Default)]
struct Done {
    entries: u64,
    checkpoints: u64,
    first: Option<Lsn>,
    last: Option<Lsn>,
    durable: Option<Lsn>,
}

impl Done {
    fn object(&self) -> Object {
        object(json!({
            "entries": self.entries,
            "first_lsn": self.first.map(Lsn::value),
            "last_lsn": self.last.map(Lsn::value),
            "durable_lsn": self.durable.map(Lsn::value),
            "checkpoints_passed_over": self.checkpoints,
        }))
    }

    fn tell(&self) {
        match (self.first, self.last) {
            (Some(first), Some(last)) => tell(format_args!(
                "{} imported, LSN {} to {}, durable to {}",
                count(self.entries, "entry", "entries"),
                first.value(),
                last.value(),
                self.durable.unwrap_or_default().value()
            )),
            _ => tell("nothing imported"),
        }
        if self.checkpoints > 0 {
            let lines = count(self.checkpoints, "line", "lines");
            tell(format_args!("{lines} passed over that tell of checkpoints of another log"));
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    let mut done = Done::default();
    let result = import(args, &mut done);
    if result.is_ok() || done.entries > 0 {
        done.tell();
    }
    Outcome { object: done.object(), text: None, failure: result.err() }
}

fn import(args: &Args, done: &mut Done) -> Result<(), Failure> {
    let name = if args.file == Path::new("-") { "standard input".into() } else { args.file.display().to_string() };
    // Before anything is made: a file that is not there should leave no log behind.
    let (input, progress) = open_input(&args.file).map_err(|error| Failure::Input { input: name.clone(), error })?;
    let (send, events) = sync_channel(AHEAD);
    let wake = send.clone();
    let system = |error| Failure::System { action: "start a thread", error };
    // Where the channel is full, the signal is seen before the next line.
    let signal = Signal::watch(move || drop(wake.try_send(Event::Wake))).map_err(system)?;
    let config = Config::new(&args.dir).with_sync_mode(args.sync).with_full_check();
    let log = Log::open(config).map_err(Failure::log(&args.dir))?;
    let bar = progress.clone();
    thread::Builder::new().name("input".into()).spawn(move || read_lines(input, &send, &bar)).map_err(system)?;
    let mut import = Import {
        failed: Box::new(Failure::log(&args.dir)),
        acked: log.synced_lsn(),
        log,
        args,
        input: name,
        pending: Vec::new(),
        pending_bytes: 0,
        lines: 0,
        waiting: Instant::now(),
        done,
    };
    let result = import.run(&events, &signal);
    let result = import.close(result);
    progress.finish_and_clear();
    result
}

/// What the threads tell.
enum Event {
    Line(Vec<u8>),
    TooLong,
    End,
    Failed(io::Error),
    Wake,
}

fn open_input(path: &Path) -> io::Result<(Box<dyn Read + Send>, ProgressBar)> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin()), ProgressBar::hidden()));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let progress = if io::stderr().is_terminal() && metadata.is_file() {
        let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left");
        ProgressBar::new(metadata.len()).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    } else {
        ProgressBar::hidden()
    };
    Ok((Box::new(file), progress))
}

fn read_lines(input: impl Read, events: &SyncSender<Event>, progress: &ProgressBar) {
    let mut input = BufReader::with_capacity(256 << 10, input);
    loop {
        let mut line = Vec::new();
        let event = match (&mut input).take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(0) => Event::End,
            Ok(len) => {
                progress.inc(len as u64);
                if line.last() == Some(&b'\n') {
                    line.pop();
                    Event::Line(line)
                } else if len as u64 == LINE_MAX {
                    Event::TooLong
                } else {
                    Event::Line(line)
                }
            }
            Err(error) => Event::Failed(error),
        };
        let last = !matches!(event, Event::Line(_));
        // Nobody listens any more once the import has failed.
        if events.send(event).is_err() || last {
            return;
        }
    }
}

struct Import<'a> {
    log: Log,
    args: &'a Args,
    input: String,
    failed: Box<dyn Fn(Error) -> Failure>,
    /// Lines of the batch that is being gathered.
    pending: Vec<Operation>,
    pending_bytes: u64,
    /// Lines read.
    lines: u64,
    /// The last durable LSN that was told.
    acked: Lsn,
    /// Since when something is appended and not known to be durable.
    waiting: Instant,
    done: &'a mut Done,
}

impl Import<'_> {
    fn run(&mut self, events: &Receiver<Event>, signal: &Signal) -> Result<(), Failure> {
        loop {
            if let Some(signal) = signal.get() {
                self.append()?;
                return Err(Failure::Signal { signal });
            }
            match self.next(events)? {
                Some(Event::Line(line)) => self.line(&line)?,
                Some(Event::TooLong) => {
                    self.lines += 1;
                    return Err(self.bad_line(None, format!("longer than {LINE_MAX} bytes")));
                }
                Some(Event::Failed(error)) => return Err(Failure::Input { input: self.input.clone(), error }),
                Some(Event::Wake) => {}
                Some(Event::End) | None => return self.append(),
            }
        }
    }

    /// Waits for the next event; meanwhile syncs when it is time.
    fn next(&mut self, events: &Receiver<Event>) -> Result<Option<Event>, Failure> {
        let SyncMode::Batched(interval) = self.args.sync else { return Ok(events.recv().ok()) };
        loop {
            if !self.is_waiting() {
                return Ok(events.recv().ok());
            }
            let left = interval.saturating_sub(self.waiting.elapsed());
            match events.recv_timeout(left) {
                Ok(event) if left > Duration::ZERO => return Ok(Some(event)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                // It is time, whether or not there is a line too.
                event => {
                    self.sync()?;
                    if let Ok(event) = event {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        self.lines += 1;
        match line::parse(line) {
            Ok(Line::Operation(operation)) => {
                self.pending_bytes += operation.encoded_len() as u64;
                self.pending.push(operation);
                let full = self.pending.len() >= self.args.batch as usize || self.pending_bytes > BATCH_MAX;
                if full { self.append() } else { Ok(()) }
            }
            Ok(Line::Checkpoint) => {
                self.done.checkpoints += 1;
                Ok(())
            }
            Err(BadLine { column, message }) => Err(self.bad_line(Some(column), message)),
        }
    }

    fn bad_line(&mut self, column: Option<usize>, message: String) -> Failure {
        self.pending.clear();
        Failure::Line { input: self.input.clone(), line: self.lines, column, message }
    }

    /// Appends the batch that was gathered, and tells what is durable.
    fn append(&mut self) -> Result<(), Failure> {
        let batch = core::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        if !self.is_waiting() {
            self.waiting = Instant::now();
        }
        let receipt = match self.log.append_batch(&batch) {
            Ok(receipt) => receipt,
            Err(Error::TooLarge { len, max }) => {
                let hint = if batch.len() > 1 { "; choose a smaller --batch" } else { "" };
                let message = format!(
                    "{} of {len} bytes: at most {max} bytes make one batch, and nothing of it was written{hint}",
                    count(batch.len() as u64, "entry", "entries")
                );
                return Err(self.bad_line(None, message));
            }
            Err(error) => return Err((self.failed)(error)),
        };
        if let Some(receipt) = receipt {
            self.done.entries += batch.len() as u64;
            self.done.first.get_or_insert(receipt.first);
            self.done.last = Some(receipt.last);
        }
        self.acknowledge()
    }

    /// Whether something is appended and not known to be durable.
    fn is_waiting(&self) -> bool {
        self.done.last.is_some_and(|last| last > self.acked)
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.log.sync().map_err(&*self.failed)?;
        self.acknowledge()
    }

    /// Tells the durable LSN if it has moved.
    fn acknowledge(&mut self) -> Result<(), Failure> {
        let durable = self.log.synced_lsn();
        if durable <= self.acked {
            return Ok(());
        }
        self.acked = durable;
        self.done.durable = Some(durable);
        if !self.args.ack {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        writeln!(out, "durable {}", durable.value()).and_then(|()| out.flush()).map_err(Failure::Output)
    }

    /// Ends the import as it went: what was appended is made durable, told, and the log closed.
    fn close(mut self, result: Result<(), Failure>) -> Result<(), Failure> {
        let result = match result {
            // Whoever read the acknowledgements is gone. What was gathered is sound all the same.
            Err(failure @ Failure::Output(_)) => {
                // It is told already that this cannot be told.
                let _ = self.append();
                Err(failure)
            }
            result => result,
        };
        let synced = self.log.sync().map_err(&*self.failed).and_then(|_| self.acknowledge());
        let closed = self.log.close().map_err(&*self.failed);
        // The first failure is the reason of all others.
        result.and(synced).and(closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_mode_is_read_and_others_are_refused() {
        assert_eq!(sync_mode("immediate"), Ok(SyncMode::Immediate));
        assert_eq!(sync_mode("batched"), Ok(SyncMode::Batched(Duration::from_millis(100))));
        assert_eq!(sync_mode("batched:7"), Ok(SyncMode::Batched(Duration::from_millis(7))));
        assert_eq!(sync_mode("async"), Ok(SyncMode::Async));
        for text in ["", "batched:", "batched:0", "batched:-1", "batched:1e3", "async:5", "Immediate", "fsync"] {
            assert!(sync_mode(text).is_err(), "{text}");
        }
    }
}
