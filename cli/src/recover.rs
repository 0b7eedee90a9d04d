//! `recover`: opens a log for writing as a program would, with every entry checked, and tells what was found.

use std::path::{Path, PathBuf};

use duralog::{Config, Error, Log, Lsn, RecoveryReport};

use crate::{
    exit::Failure,
    image::{self, ImageArgs},
    inspect,
    outcome::Outcome,
    paint::Paint,
    progress::Spinner,
    report::{self, PolicyArg},
    segments,
};

/// Opens a log for writing, with every entry checked, and closes it again
///
/// A torn tail is cut off. What is done about damage is for the policy to say; what a policy refuses changes no byte.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of the log
    dir: PathBuf,
    /// Only tell what would be done
    #[arg(long)]
    dry_run: bool,
    /// What to do about damage
    #[arg(long, value_enum, default_value_t)]
    policy: PolicyArg,
    /// An LSN that is known to have been durable: a log that lost it is not taken for sound
    #[arg(long, value_name = "LSN")]
    expect_durable: Option<u64>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    if args.dry_run {
        return looked_at(args, None);
    }
    let spinner = Spinner::new("reading every entry");
    let config = Config { expect_durable: args.expect_durable.map(Lsn::new), ..segments::config(&args.dir) };
    let opened = Log::open(config.existing().with_policy(args.policy.into()).with_full_check());
    let closed = opened.and_then(|log| {
        let report = log.recovery().clone();
        log.close().map(|()| report)
    });
    drop(spinner);
    match closed {
        Ok(report) => told(args, &args.dir, report, None),
        // The log was refused: what is known comes from reading it.
        Err(error @ (Error::Refused(_) | Error::Damaged(_))) => looked_at(args, Some(error)),
        Err(error) => Failure::freeing(&args.dir)(error).into(),
    }
}

fn looked_at(args: &Args, refused: Option<Error>) -> Outcome {
    let refused = refused.map(Failure::log(&args.dir));
    let given = match image::given(&args.dir, ImageArgs::default()) {
        Ok(given) => given,
        Err(failure) => return failure.into(),
    };
    let refused = refused.or_else(|| given.cut_off(&args.dir));
    match (inspect::verified(&args.dir, &given.folder, args.policy.into(), args.expect_durable), refused) {
        (Ok((reader, _)), refused) => told(args, &given.folder, reader.recovery().clone(), refused),
        (Err(_), Some(refused)) | (Err(refused), None) => refused.into(),
    }
}

fn told(args: &Args, folder: &Path, mut report: RecoveryReport, refused: Option<Failure>) -> Outcome {
    let unread = inspect::complete(&args.dir, folder, &mut report).err();
    let cut_off = refused.as_ref().filter(|refused| matches!(refused, Failure::CutOff { .. }));
    report::weigh(&mut report, cut_off);
    let report = &report;
    let mut object = report::fields(report);
    object.insert("dry_run".to_owned(), args.dry_run.into());
    let mut text = report::heading(&args.dir, report);
    text.push_str(&report::words(report, cut_off, Paint::new()));
    if args.dry_run {
        text.push_str("nothing was written: a dry run\n");
    } else if refused.is_some() {
        text.push_str("nothing was written: refused\n");
    }
    let failure = refused.or_else(|| report::failure(&args.dir, report)).or(unread);
    Outcome { object, text: Some(text), failure, ..Outcome::default() }
}
