//! `demo`: the main job in one command, with a process that is really killed.

use core::fmt::Write as _;
use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
};

use duralog::{Config, Documents, Log, Lsn, Operation, RecoveryReport, StateMachine, SyncMode};
use serde_json::json;

use crate::{
    exit::{Failure, tell},
    line::{self, Line},
    outcome::{Outcome, count, object},
    paint::Paint,
    report,
};

/// Descriptions of packages; `data/README.md` says where they are from.
const DOCUMENTS: &str = include_str!("../data/debian-packages-200.jsonl");
/// How many documents are loaded before the process that is killed begins.
const LOADED: usize = 100;
/// How many entries make a batch.
const BATCH: usize = 5;
/// The process is killed once it has acknowledged this LSN.
const KILL_AT: u64 = 160;

/// Shows the main job: documents are loaded, a process is killed in mid-write, nothing acknowledged is lost
///
/// Takes 200 descriptions of packages with their embeddings: loads half of them, kills a process that appends the others,
/// recovers, and compares every entry.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep the log in this folder, which must be empty or missing
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    match &args.keep {
        Some(dir) if !is_free(dir) => Failure::Usage {
            path: Some(dir.clone()),
            message: format!("{} is not an empty folder: nothing was touched", dir.display()),
        }
        .into(),
        Some(dir) => demo(dir, true),
        None => match tempfile::Builder::new().prefix("duralog-demo-").tempdir() {
            Ok(dir) => demo(&dir.path().join("log"), false),
            Err(error) => system("make a folder for the demo")(error).into(),
        },
    }
}

fn is_free(dir: &Path) -> bool {
    match dir.read_dir() {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn system(action: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::System { action, path: None, error }
}

fn demo(dir: &Path, kept: bool) -> Outcome {
    match steps(dir) {
        Ok(shown) => shown.outcome(dir, kept),
        Err(failure) => failure.into(),
    }
}

/// What was seen.
struct Shown {
    acknowledged: Lsn,
    /// The entry of the checkpoint, which has an LSN too.
    checkpoint: Lsn,
    report: RecoveryReport,
    /// How many entries are there and equal what was appended; the checkpoint's own is not counted.
    equal: usize,
    /// How many of those had been acknowledged.
    acknowledged_equal: usize,
    /// The first that is not.
    differs: Option<Lsn>,
    /// How many entries were applied behind the checkpoint.
    replayed: u64,
    /// Whether the documents are those that the entries come to.
    state_equal: bool,
}

fn steps(dir: &Path) -> Result<Shown, Failure> {
    let lines: Vec<&str> = DOCUMENTS.lines().collect();
    let failed = Failure::log(dir);
    tell(format_args!("loading {LOADED} documents"));
    let log = Log::open(Config::new(dir).with_sync_mode(SyncMode::Immediate)).map_err(&failed)?;
    let mut documents = Documents::default();
    for (batch, first) in lines[..LOADED].chunks(BATCH).zip((0..).step_by(BATCH)) {
        let batch: Vec<Operation> = (first..).zip(batch).map(|(index, _)| operation(&lines, index)).collect();
        if let Some(receipt) = log.append_batch(&batch).map_err(&failed)? {
            batch.iter().for_each(|operation| documents.apply(receipt.last, operation));
        }
    }
    let checkpoint = log.checkpoint(log.checkpoint_at(), &documents.snapshot()).map_err(&failed)?;
    tell(format_args!("checkpoint {} holds them", checkpoint.value()));
    log.close().map_err(&failed)?;
    // The lock is the handle's.
    drop(log);

    tell("starting a process that appends more, to kill it");
    let acknowledged = killed(dir, &lines)?;
    if acknowledged.value() < KILL_AT {
        let message = format!("the second process ended by itself, after LSN {}", acknowledged.value());
        return Err(Failure::Refused { dir: dir.to_owned(), message });
    }

    tell("recovering");
    let log = Log::open(Config::new(dir).existing().with_full_check()).map_err(&failed)?;
    let report = log.recovery().clone();
    let (mut equal, mut acknowledged_equal, mut differs, mut own) = (0, 0, None, Lsn::ZERO);
    for entry in log.read_from(Lsn::FIRST).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        match entry.operation().map_err(&failed)? {
            Operation::Checkpoint { .. } => own = entry.lsn,
            found if found == operation(&lines, equal) => {
                equal += 1;
                acknowledged_equal += usize::from(entry.lsn <= acknowledged);
            }
            _ => drop(differs.get_or_insert(entry.lsn)),
        }
    }
    let mut rebuilt = Documents::default();
    let replayed = log.rebuild(&mut rebuilt).map_err(&failed)?.entries_replayed;
    log.close().map_err(&failed)?;
    for index in LOADED..equal {
        documents.apply(Lsn::ZERO, &operation(&lines, index));
    }
    let state_equal = rebuilt == documents;
    Ok(Shown { acknowledged, checkpoint: own, report, equal, acknowledged_equal, differs, replayed, state_equal })
}

/// The operation at `index`: every document is inserted once, then updated over and over.
fn operation(lines: &[&str], index: usize) -> Operation {
    match line::parse(input(lines, index).as_bytes()) {
        Ok(Line::Operation(operation)) => operation,
        other => unreachable!("a test reads each line that comes with the program: {other:?}"),
    }
}

/// Its line.
fn input(lines: &[&str], index: usize) -> String {
    let line = lines[index % lines.len()];
    if index < lines.len() { line.to_owned() } else { line.replacen('{', r#"{"op":"update","#, 1) }
}

/// Starts a process that appends without end, kills it, and gives the last LSN that it acknowledged.
fn killed(dir: &Path, lines: &[&str]) -> Result<Lsn, Failure> {
    let program = env::current_exe().map_err(system("find this program"))?;
    let mut child = Command::new(program)
        .arg("import")
        .args([dir.as_os_str(), "-".as_ref()])
        .args(["--ack", "--batch", &BATCH.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(system("start a process"))?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        unreachable!("both were asked for");
    };
    let (heard, hear) = mpsc::channel();
    let last = thread::scope(|scope| {
        scope.spawn(|| feed(stdin, lines));
        scope.spawn(|| tell_acknowledgements(stdout, heard));
        kill(&mut child, &hear)
    });
    last.map(Lsn::new).map_err(system("kill a process"))
}

/// Feeds the process without end: it always has more to append. The pipe breaks when it is killed.
fn feed(mut stdin: ChildStdin, lines: &[&str]) {
    let mut inputs = (LOADED..).map(|index| input(lines, index));
    while inputs.next().is_some_and(|input| writeln!(stdin, "{input}").is_ok()) {}
}

fn tell_acknowledgements(stdout: ChildStdout, heard: mpsc::Sender<u64>) {
    for line in BufReader::new(stdout).lines() {
        // Of a line that was cut off nothing was told.
        if let Some(lsn) = line.ok().and_then(|line| line.strip_prefix("durable ")?.parse().ok()) {
            let _ = heard.send(lsn);
        }
    }
}

/// Kills the process once it has acknowledged enough, while it works on what follows. Gives the last LSN that it
/// acknowledged: what it said before it died may still be in the pipe, which is read to the end.
fn kill(child: &mut Child, hear: &mpsc::Receiver<u64>) -> io::Result<u64> {
    // Where it ends by itself, what it acknowledged shows that.
    let enough = hear.iter().find(|lsn| *lsn >= KILL_AT);
    child.kill()?;
    child.wait()?;
    Ok(hear.iter().last().or(enough).unwrap_or(0))
}

impl Shown {
    /// How many entries had been acknowledged; the checkpoint has an LSN too.
    fn acknowledged(&self) -> usize {
        usize::try_from(self.acknowledged.value()).unwrap_or(usize::MAX) - 1
    }

    fn failure(&self, dir: &Path) -> Option<Failure> {
        let message = if let Some(lsn) = self.differs {
            format!("the entry at {lsn} is not what was appended")
        } else if self.acknowledged_equal != self.acknowledged() {
            format!("{} of {} acknowledged entries are there", self.acknowledged_equal, self.acknowledged())
        } else if !self.equal.is_multiple_of(BATCH) {
            "a batch is there in part".to_owned()
        } else if !self.state_equal {
            "the documents are not those that the entries come to".to_owned()
        } else {
            return None;
        };
        Some(Failure::Refused { dir: dir.to_owned(), message })
    }

    fn outcome(&self, dir: &Path, kept: bool) -> Outcome {
        let object = object(json!({
            "acknowledged_lsn": self.acknowledged.value(),
            "acknowledged_entries": self.acknowledged(),
            "acknowledged_entries_equal": self.acknowledged_equal,
            "entries_equal": self.equal,
            "entries_replayed": self.replayed,
            "report": report::fields(&self.report),
        }));
        let failure = self.failure(dir);
        let text = self.text(kept.then_some(dir), failure.is_none());
        Outcome { object, text: Some(text), failure, ..Outcome::default() }
    }

    fn text(&self, kept: Option<&Path>, good: bool) -> String {
        let paint = Paint::new();
        let acknowledged = self.acknowledged();
        let mut text = format!(
            "{LOADED} documents with their embeddings were loaded, each batch of {BATCH} durable before the next, and a \
             checkpoint taken.\nA second process went on appending and was killed in the middle of it; it had \
             acknowledged LSN {}:\n{acknowledged} documents, and LSN {}, which is the checkpoint's own.\n\n\
             Recovery, every entry read:\n",
            self.acknowledged.value(),
            self.checkpoint.value()
        );
        for line in report::words(&self.report, None, paint).lines() {
            let _ = writeln!(text, "  {line}");
        }
        text.push('\n');
        if good {
            let all = format!("All {acknowledged} acknowledged entries are there, bit for bit.");
            let more = match self.equal.saturating_sub(acknowledged) as u64 {
                0 => String::new(),
                more => {
                    let more = count(more, "more is", "more are");
                    format!(" So {more}, written when the process died and not yet acknowledged.")
                }
            };
            let _ = writeln!(text, "{}{more}", paint.green(&all));
            let replayed = count(self.replayed, "entry", "entries");
            let _ = writeln!(text, "The documents were built up again from the checkpoint and {replayed} behind it.");
        }
        if let Some(dir) = kept {
            let _ = writeln!(text, "The log is in {0}: `duralog verify {0}` looks at it.", dir.display());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_document_that_comes_with_the_program_can_be_inserted_and_updated() {
        let lines: Vec<&str> = DOCUMENTS.lines().collect();
        assert_eq!(lines.len(), 200);
        for index in 0..lines.len() {
            let Operation::Insert { id, content, embedding, .. } = operation(&lines, index) else { panic!("{index}") };
            assert_eq!(embedding.len(), 384, "line {}", index + 1);
            let update = operation(&lines, index + lines.len());
            assert_eq!(update, Operation::update(id, content, embedding), "line {}", index + 1);
        }
    }
}
