//! `truncate`: gives up the front of a log, as far as a checkpoint holds it.

use std::path::PathBuf;

use duralog::{Log, Lsn};
use serde_json::json;

use crate::{
    exit::{Failure, tell},
    outcome::{Outcome, object},
    progress::Spinner,
    segments,
};

/// Gives up the entries below an LSN, as far as the oldest checkpoint kept holds them
///
/// Removes whole segments. Without a checkpoint nothing is given up.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of the log
    dir: PathBuf,
    /// The first LSN to keep
    #[arg(long, value_name = "LSN")]
    before: u64,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    match truncate(args) {
        Ok((before, kept)) => {
            if kept.value() < args.before {
                tell("no further than the oldest checkpoint kept reaches");
            }
            let given_up = kept.value().saturating_sub(before.value());
            let text = match given_up {
                0 => format!("nothing given up: the log begins at LSN {}\n", kept.value()),
                _ => format!("LSN {} to {} given up\n", before.value(), kept.value() - 1),
            };
            let object = object(json!({"low_water_lsn": kept.value(), "entries_given_up": given_up}));
            Outcome { object, text: Some(text), ..Outcome::default() }
        }
        Err(failure) => failure.into(),
    }
}

/// The first LSN kept, before and after.
fn truncate(args: &Args) -> Result<(Lsn, Lsn), Failure> {
    let failed = Failure::freeing(&args.dir);
    let _spinner = Spinner::new("reading every entry");
    let log = Log::open(segments::config(&args.dir).existing().with_full_check()).map_err(&failed)?;
    let before = log.recovery().low_water;
    let kept = log.truncate_before(Lsn::new(args.before)).map_err(&failed)?;
    log.close().map_err(&failed)?;
    Ok((before, kept))
}
