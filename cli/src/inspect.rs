//! `verify` and `stat`: what a log holds and whether it is sound. They only read.

use std::path::{Path, PathBuf};

use duralog::{Config, LogReader, Lsn, Policy, RecoveryReport};
use serde_json::json;

use crate::{
    exit::Failure,
    image::{self, ImageArgs},
    map,
    outcome::{Object, Outcome, object},
    paint::Paint,
    progress::Spinner,
    report,
    segments::{self, Inventory},
};

/// Reads every entry and tells what is damaged
///
/// Works beside a writer and writes nothing. The exit status is 1 if there is damage.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// The folder of the log, or an image of a device's flash
    dir: PathBuf,
    #[command(flatten)]
    image: ImageArgs,
    /// An LSN that is known to have been durable: a log that lost it is damaged
    #[arg(long, value_name = "LSN")]
    expect_durable: Option<u64>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Tells what a log holds: LSNs, segments, checkpoints, sizes
///
/// Reads the segments' headers, the newest segment and the newest checkpoint. Works beside a writer and writes nothing.
#[derive(Debug, clap::Args)]
pub(crate) struct StatArgs {
    /// The folder of the log, or an image of a device's flash
    dir: PathBuf,
    #[command(flatten)]
    image: ImageArgs,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs `verify`.
pub(crate) fn verify(args: &VerifyArgs) -> Outcome {
    let dir = &args.dir;
    let given = match image::given(dir, args.image) {
        Ok(given) => given,
        Err(failure) => return failure.into(),
    };
    let folder = &given.folder;
    match verified(dir, folder, Policy::Inspect, args.expect_durable) {
        Ok((reader, inventory)) => {
            // What was asked is not how it was read, which is to the end, but what a writer may do by default.
            let mut report = reader.recovery().clone();
            report.policy = Policy::Default;
            report.writable = report.success;
            let cut_off = given.cut_off(dir);
            report::weigh(&mut report, cut_off.as_ref());
            if let Err(failure) = complete(dir, folder, &mut report) {
                return given.explained(dir, failure).into();
            }
            let report = &report;
            let paint = Paint::new();
            let text = format!(
                "{}\n{}\n{}",
                report::heading(&args.dir, report),
                map::draw(&inventory, report, paint),
                report::words(report, cut_off.as_ref(), paint)
            );
            // A damaged entry is damage, also where a checkpoint holds what it did.
            let damage = || report::failure(dir, report).or_else(|| report::covered_damage(dir, report));
            let failure = cut_off.or_else(damage);
            let object = report::fields(report);
            Outcome { object, text: Some(text), failure, ..Outcome::default() }
        }
        Err(failure) => given.explained(dir, failure).into(),
    }
}

/// Adds to a report what an opening leaves out: whether the newest checkpoint is whole, and what a state is built up from.
pub(crate) fn complete(dir: &Path, folder: &Path, report: &mut RecoveryReport) -> Result<(), Failure> {
    let _spinner = Spinner::new("reading what counts behind the checkpoint");
    report.checkpoint_used = segments::checkpoint_used(folder, report).map_err(Failure::log(dir))?;
    report.entries_replayed = segments::replayed(folder, report).map_err(Failure::log(dir))?;
    Ok(())
}

/// A log whose every entry was read; `folder` holds the log at `dir`.
pub(crate) fn verified(
    dir: &Path,
    folder: &Path,
    policy: Policy,
    expect_durable: Option<u64>,
) -> Result<(LogReader, Inventory), Failure> {
    let _spinner = Spinner::new("reading every entry");
    let config = Config { expect_durable: expect_durable.map(Lsn::new), ..Config::new(folder) };
    let mut reader = LogReader::open(config.existing().with_policy(policy)).map_err(Failure::log(dir))?;
    reader.verify().map_err(Failure::log(dir))?;
    let inventory = Inventory::take(&reader).map_err(Failure::log(dir))?;
    Ok((reader, inventory))
}

/// Runs `stat`.
pub(crate) fn stat(args: &StatArgs) -> Outcome {
    let dir = &args.dir;
    let given = match image::given(dir, args.image) {
        Ok(given) => given,
        Err(failure) => return failure.into(),
    };
    let opened = LogReader::open(Config::new(&given.folder).existing());
    let read = opened.and_then(|reader| Inventory::take(&reader).map(|inventory| (reader, inventory)));
    let (reader, inventory) = match read.map_err(Failure::log(dir)) {
        Ok(read) => read,
        Err(failure) => return given.explained(dir, failure).into(),
    };
    let mut report = reader.recovery().clone();
    report.checkpoint_used = match segments::checkpoint_used(&given.folder, &report).map_err(Failure::log(dir)) {
        Ok(used) => used,
        Err(failure) => return given.explained(dir, failure).into(),
    };
    let report = &report;
    let text = format!("{}\n{}", report::heading(dir, report), map::draw(&inventory, report, Paint::new()));
    let failure = given.cut_off(dir).or_else(|| report::failure(dir, report));
    let object = stat_fields(report, &inventory);
    Outcome { object, text: Some(text), failure, ..Outcome::default() }
}

fn stat_fields(report: &RecoveryReport, inventory: &Inventory) -> Object {
    object(json!({
        "current_lsn": report.last_valid_lsn.next_or_max().value(),
        "synced_lsn": report.durable_lsn.value(),
        "last_checkpoint_lsn": report.checkpoint_used.map(|(_, lsn)| lsn.value()),
        "total_segments": inventory.segments.len(),
        "total_size_bytes": inventory.total_bytes,
        "low_water_lsn": report.low_water.value(),
        "log_id": report.log_id.to_string(),
        "epoch": report.epoch,
        "closed": report.closed,
        "checkpoints": inventory.checkpoints,
        "segments": inventory.segments.iter().map(segments::json).collect::<Vec<_>>(),
    }))
}
