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
    io::{self, BufRead, BufReader, IsTerminal, Read},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::Instant,
};

use duralog::{Error, Log, Lsn, Operation, SyncMode, core::frame::FRAME_OVERHEAD};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::{
    acks::Acks,
    exit::{Failure, tell},
    line::{self, BadLine, Line},
    outcome::{Object, Outcome, count, object},
    segments,
    signal::Signal,
};

/// Bytes of the longest line: an entry of the usual segments has 16 MiB, and no byte of it takes more than six in JSON.
const LINE_MAX: u64 = 128 << 20;
/// Lines that were read and not yet looked at.
const AHEAD: usize = 2;
/// Bytes of a batch that no segment holds: it is not gathered any further.
const BATCH_MAX: u64 = 64 << 20;

/// Appends the lines of a file to a log
///
/// Each line is one JSON object and becomes one entry. The log is made where there is none, and checked in full where
/// there is one. cli/README.md describes the lines.
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
    /// Bytes of each new segment, as a number or as in `256K`, `4M` and `1G`: as many as the newest segment has, 64M in a
    /// new log. A batch has a quarter of them at the most
    #[arg(long, value_name = "SIZE", value_parser = segment_size)]
    segment_size: Option<u32>,
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

/// The least and the most that a segment may have.
const SEGMENT_SIZE: core::ops::RangeInclusive<u64> = 16 << 10..=2 << 30;

fn segment_size(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) => (digits, &text[digits.len()..]),
        None => (text, ""),
    };
    let factor: u64 = match unit {
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => 1,
    };
    let size = digits.parse().ok().and_then(|number: u64| number.checked_mul(factor));
    let size = size.filter(|size| SEGMENT_SIZE.contains(size)).and_then(|size| u32::try_from(size).ok());
    size.ok_or_else(|| "expected a size from 16K to 2G".to_owned())
}

/// What came of an import.
#[derive(Debug, Default)]
struct Done {
    entries: u64,
    checkpoints: u64,
    first: Option<Lsn>,
    last: Option<Lsn>,
    durable: Option<Lsn>,
    /// Whoever reads standard output takes nothing any more, and a signal has come: nothing else can be told there.
    stuck: bool,
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
    Outcome { object: done.object(), failure: result.err(), mute: done.stuck, ..Outcome::default() }
}

fn import(args: &Args, done: &mut Done) -> Result<(), Failure> {
    let name = if args.file == Path::new("-") { "standard input".into() } else { args.file.display().to_string() };
    // Before anything is made: a file that is not there should leave no log behind.
    let (input, progress) = open_input(&args.file).map_err(|error| Failure::Input { input: name.clone(), error })?;
    let (send, events) = sync_channel(AHEAD);
    let wake = send.clone();
    let system = |error| Failure::System { action: "start a thread", path: None, error };
    let (acks, waker) = Acks::start().map_err(system)?;
    let woken = move || {
        // Where the channel is full, the signal is seen before the next line.
        let _ = wake.try_send(Event::Wake);
        waker.wake();
    };
    let signal = Signal::watch(woken).map_err(system)?;
    let mut config = segments::config(&args.dir).with_sync_mode(args.sync).with_full_check();
    config.segment_size = args.segment_size.unwrap_or(config.segment_size);
    let log = Log::open(config).map_err(|error| match args.segment_size {
        None => Failure::advised(&args.dir, error, ", or choose a smaller --segment-size"),
        Some(_) => failed(&args.dir)(error),
    })?;
    let bar = progress.clone();
    thread::Builder::new().name("input".into()).spawn(move || read_lines(input, &send, &bar)).map_err(system)?;
    let mut import = Import {
        failed: Box::new(failed(&args.dir)),
        acked: log.synced_lsn(),
        log,
        args,
        acks,
        signal,
        input: name,
        pending: Vec::new(),
        pending_lines: Vec::new(),
        pending_bytes: 0,
        lines: 0,
        waiting: Instant::now(),
        done,
    };
    let result = import.run(&events);
    let result = import.close(result);
    progress.finish_and_clear();
    result
}

/// An error of the log. What is full holds entries that a checkpoint may hold as well.
fn failed(dir: &Path) -> impl Fn(Error) -> Failure + use<> {
    let dir = dir.to_owned();
    move |error| {
        Failure::advised(
            &dir,
            error,
            ": remove other things from its medium, or, where a checkpoint was made, `duralog truncate` what it holds",
        )
    }
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
    progress.tick();
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
    acks: Acks,
    signal: Signal,
    input: String,
    failed: Box<dyn Fn(Error) -> Failure>,
    /// Lines of the batch that is being gathered.
    pending: Vec<Operation>,
    /// Their numbers.
    pending_lines: Vec<u64>,
    /// Bytes of their frames.
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
    fn run(&mut self, events: &Receiver<Event>) -> Result<(), Failure> {
        loop {
            if let Some(signal) = self.signal.get() {
                self.append()?;
                return Err(Failure::Signal { signal });
            }
            match self.next(events)? {
                Some(Event::Line(line)) => self.line(&line)?,
                Some(Event::TooLong) => {
                    self.lines += 1;
                    let column = usize::try_from(LINE_MAX).map_or(usize::MAX, |most| most + 1);
                    let message = format!("longer than {LINE_MAX} bytes: divide what it holds among several lines");
                    return Err(self.bad_line(self.lines, column, message));
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
                self.pending_bytes += frame_len(&operation);
                self.pending.push(operation);
                self.pending_lines.push(self.lines);
                let full = self.pending.len() >= self.args.batch as usize || self.pending_bytes > BATCH_MAX;
                if full { self.append() } else { Ok(()) }
            }
            Ok(Line::Checkpoint) => {
                self.done.checkpoints += 1;
                Ok(())
            }
            Err(BadLine { column, message }) => Err(self.bad_line(self.lines, column, message)),
        }
    }

    fn bad_line(&mut self, line: u64, column: usize, message: String) -> Failure {
        self.pending.clear();
        Failure::Line { input: self.input.clone(), line, column, message }
    }

    /// The line of a batch that does not fit: its own entry is too large, or the batch is with it.
    fn too_large(&mut self, batch: &[Operation], lines: &[u64], max: u32) -> Failure {
        let max = u64::from(max);
        let numbered = || batch.iter().map(frame_len).zip(lines);
        if let Some((len, line)) = numbered().find(|(len, _)| *len > max) {
            let message = format!(
                "an entry of {len} bytes, where at most {max} fit: divide it, or import into segments of more bytes \
                 (--segment-size)"
            );
            return self.bad_line(*line, 1, message);
        }
        let mut len = 0;
        let fits = numbered().take_while(|(more, _)| {
            len += more;
            len <= max
        });
        let fits = fits.count();
        let line = lines.get(fits).copied().unwrap_or(self.lines);
        let message = format!(
            "with it the batch has more than the {max} bytes that are written at once, and nothing of it was: choose a \
             smaller --batch, of {fits} for lines like these"
        );
        self.bad_line(line, 1, message)
    }

    /// Appends the batch that was gathered, and tells what is durable.
    fn append(&mut self) -> Result<(), Failure> {
        let batch = core::mem::take(&mut self.pending);
        let lines = core::mem::take(&mut self.pending_lines);
        self.pending_bytes = 0;
        if !self.is_waiting() {
            self.waiting = Instant::now();
        }
        let receipt = match self.log.append_batch(&batch) {
            Ok(receipt) => receipt,
            Err(Error::TooLarge { max, .. }) => return Err(self.too_large(&batch, &lines, max)),
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
        let printed = self.acks.durable(durable, &self.signal).map_err(Failure::Output);
        self.done.stuck = self.acks.stuck;
        printed
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

/// Bytes of an entry's frame.
fn frame_len(operation: &Operation) -> u64 {
    u64::from(FRAME_OVERHEAD) + operation.encoded_len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_of_bytes_or_of_larger_units() {
        for (text, size) in [("16384", 16 << 10), ("256K", 256 << 10), ("2M", 2 << 20), ("2G", 1 << 31)] {
            assert_eq!(segment_size(text), Ok(size), "{text}");
        }
        for text in ["", "K", "16383", "15K", "3G", "2049M", "1T", "-1", "1.5M", "64 M", "64m", "99999999999999999999G"]
        {
            assert!(segment_size(text).is_err(), "{text}");
        }
    }

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
