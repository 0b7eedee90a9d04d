//! `export`: the log as JSON lines, entry by entry.

use std::{
    io::{self, BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
};

use duralog::{Config, Entries, Entry, Finding, LogReader, Lsn, Operation, Policy};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    exit::{Failure, tell},
    image::{self, Given, ImageArgs},
    line,
    outcome::Outcome,
    report::{PolicyArg, failure},
};

/// Writes the entries of a log as JSON lines
///
/// One line an entry, as `import` takes it back. Works beside a writer and writes nothing to the log.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of the log, or an image of a device's flash
    dir: PathBuf,
    #[command(flatten)]
    image: ImageArgs,
    /// The first LSN; the first one kept unless told otherwise
    #[arg(long, value_name = "LSN")]
    from: Option<u64>,
    /// The last LSN; the last one there is unless told otherwise
    #[arg(long, value_name = "LSN")]
    to: Option<u64>,
    /// What to do about damage
    #[arg(long, value_enum, default_value_t)]
    policy: PolicyArg,
    /// Tell of a failure as JSON too, behind the lines
    #[arg(long)]
    pub(crate) json: bool,
}

/// A log that is read under a policy.
pub(crate) struct Source<'a> {
    dir: &'a Path,
    given: Given,
    pub(crate) reader: LogReader,
}

impl<'a> Source<'a> {
    pub(crate) fn open(dir: &'a Path, image: ImageArgs, policy: PolicyArg) -> Result<Self, Failure> {
        let given = image::given(dir, image)?;
        let config = Config::new(&given.folder).existing().with_policy(policy.into());
        let opened = LogReader::open(config).map_err(Failure::log(dir));
        let reader = opened.map_err(|failure| given.explained(dir, failure))?;
        match given.cut_off(dir).or_else(|| failure(dir, reader.recovery())) {
            Some(refused) if policy == PolicyArg::Strict => Err(refused),
            _ => Ok(Self { dir, given, reader }),
        }
    }

    /// A failure of reading it: where that is damage, an image that ends too early is why.
    pub(crate) fn explained(&self, failure: Failure) -> Failure {
        self.given.explained(self.dir, failure)
    }

    /// What came of reading all that is there: of an image that ends too early, that is not all.
    pub(crate) fn whole(&self, read: Result<(), Failure>) -> Result<(), Failure> {
        read.map_err(|failure| self.explained(failure))?;
        self.given.cut_off(self.dir).map_or(Ok(()), Err)
    }

    pub(crate) fn read(&self, from: Lsn, to: Lsn) -> Result<Entries<duralog::FileDevice>, Failure> {
        self.reader.read(from, to).map_err(Failure::log(self.dir))
    }

    pub(crate) fn decode(&self, entry: duralog::Result<Entry>) -> Result<(Entry, Operation), Failure> {
        let decoded = entry.and_then(|entry| entry.operation().map(|operation| (entry, operation)));
        decoded.map_err(Failure::log(self.dir))
    }

    /// What was passed over, or stopped at: told, and damage if it was not given up before, and is not of what a checkpoint
    /// holds up to `held`.
    pub(crate) fn passed_over(&self, found: &[Finding], held: Lsn) -> Result<(), Failure> {
        let what = if self.reader.policy() == Policy::Salvage { "passed over" } else { "stopped before" };
        let mut damage = Vec::new();
        let opened = self.reader.recovery().findings.iter();
        let is_held = |finding: &Finding| finding.lsns.is_some_and(|(_, last)| last <= held);
        for finding in opened.chain(found).filter(|finding| !finding.harmless && !is_held(finding)) {
            let known = |other: &Finding| (other.object, other.offset) == (finding.object, finding.offset);
            if !damage.iter().any(known) {
                tell(format_args!("{what}: {finding}"));
                damage.push(*finding);
            }
        }
        match damage.first() {
            Some(&finding) => {
                let finding = Box::new(finding);
                Err(Failure::Damage { dir: self.dir.to_owned(), finding, count: damage.len() as u64 })
            }
            None => Ok(()),
        }
    }
}

impl Source<'_> {
    /// Entries that are not there, and that a checkpoint holds, are no loss to the state. Whoever wants the entries lacks them.
    fn held_by_checkpoints(&self, from: Lsn, to: Lsn) -> Result<(), Failure> {
        let report = self.reader.recovery();
        let is_wanted = |finding: &&Finding| {
            let overlaps = finding.lsns.is_some_and(|(first, last)| last >= from && first <= to);
            overlaps && finding.harmless && !report.is_gap(finding)
        };
        let held: Vec<_> = report.findings.iter().filter(is_wanted).collect();
        held.iter().for_each(|finding| tell(format_args!("not there, and held by a checkpoint: {finding}")));
        match held.first() {
            Some(&&finding) => {
                let finding = Box::new(finding);
                Err(Failure::Damage { dir: self.dir.to_owned(), finding, count: held.len() as u64 })
            }
            None => Ok(()),
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    Outcome { failure: write_entries(args).err(), ..Outcome::default() }
}

fn write_entries(args: &Args) -> Result<(), Failure> {
    let source = Source::open(&args.dir, args.image, args.policy)?;
    source.whole(write_entries_of(&source, args))
}

fn write_entries_of(source: &Source<'_>, args: &Args) -> Result<(), Failure> {
    let from = args.from.map_or(Lsn::ZERO, Lsn::new);
    let to = args.to.map_or(Lsn::MAX, Lsn::new);
    let mut entries = source.read(from, to)?;
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let progress = progress(source, from, to);
    for entry in &mut entries {
        // What stands before the damage was written: it leaves the buffer when that is dropped.
        let (entry, operation) = source.decode(entry)?;
        line::write_entry(&mut out, &entry, &operation).map_err(Failure::Output)?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    out.flush().map_err(Failure::Output)?;
    source.passed_over(entries.findings(), Lsn::ZERO)?;
    source.held_by_checkpoints(from, to)
}

fn progress(source: &Source<'_>, from: Lsn, to: Lsn) -> ProgressBar {
    if io::stdout().is_terminal() || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let report = source.reader.recovery();
    let (first, last) = (from.max(report.low_water).value(), to.min(report.last_valid_lsn).value());
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} entries, {eta} left");
    let bar = ProgressBar::new((last + 1).saturating_sub(first));
    let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.tick();
    bar
}
