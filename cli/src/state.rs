//! `state`: what the log comes to, document by document.

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use duralog::{Documents, Error, Lsn};

use crate::{
    exit::{Failure, tell},
    export::Source,
    image::ImageArgs,
    line,
    outcome::Outcome,
    progress::Spinner,
    report::PolicyArg,
};

/// Writes the documents that the log comes to as JSON lines
///
/// One line a document or chunk, sorted by id, as `import` takes it back. Works beside a writer and writes nothing to
/// the log.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of the log, or an image of a device's flash
    dir: PathBuf,
    #[command(flatten)]
    image: ImageArgs,
    /// What to do about damage
    #[arg(long, value_enum, default_value_t)]
    policy: PolicyArg,
    /// Tell of a failure as JSON too, behind the lines
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    Outcome { failure: write_state(args).err(), ..Outcome::default() }
}

fn write_state(args: &Args) -> Result<(), Failure> {
    let spinner = Spinner::new("building the documents up");
    let mut source = Source::open(&args.dir, args.image, args.policy)?;
    let mut documents = Documents::default();
    let mut rebuilt = source.reader.rebuild(&mut documents);
    if let Err(Error::Damaged(_)) = rebuilt
        && args.policy == PolicyArg::Default
    {
        // What stands before the damage can be read.
        source = Source::open(&args.dir, args.image, PolicyArg::PointInTime)?;
        documents = Documents::default();
        rebuilt = source.reader.rebuild(&mut documents);
    }
    let rebuilt = rebuilt.map_err(|error| source.explained(Failure::log(&args.dir)(error)))?;
    for (id, message) in &rebuilt.checkpoints_rejected {
        tell(format_args!("checkpoint {} passed over: {message}", id.value()));
    }
    for lsn in &rebuilt.undecodable {
        tell(format_args!("passed over: {lsn} cannot be decoded"));
    }
    drop(spinner);
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    for (id, document) in documents.iter() {
        line::write_document(&mut out, id, document).map_err(Failure::Output)?;
    }
    out.flush().map_err(Failure::Output)?;
    let held = rebuilt.checkpoint_used.map_or(Lsn::ZERO, |(_, lsn)| lsn);
    source.whole(source.passed_over(&rebuilt.findings, held))
}
