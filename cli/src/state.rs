//! `state`: what the log comes to, document by document.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use duralog::{
    Documents, LogReader, Lsn, Object as Stored, Operation, Snapshot, StateMachine, core::checkpoint::Checkpoint,
};

use crate::{
    exit::{Failure, tell},
    export::Source,
    line,
    outcome::Outcome,
    report::PolicyArg,
    segments,
};

/// Writes the documents that the log comes to as JSON lines
///
/// One line a document or chunk, sorted by id, as `import` takes it back. Works beside a writer and writes nothing to
/// the log.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of the log
    dir: PathBuf,
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
    let source = Source::open(&args.dir, args.policy)?;
    let (mut replay, from) = Replay::begin(&args.dir, &source.reader)?;
    let mut entries = source.read(from, Lsn::MAX)?;
    for entry in &mut entries {
        let (entry, operation) = source.decode(entry)?;
        replay.take(entry.lsn, entry.transaction, operation);
    }
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    for (id, document) in replay.documents.iter() {
        line::write_document(&mut out, id, document).map_err(Failure::Output)?;
    }
    out.flush().map_err(Failure::Output)?;
    source.passed_over(&entries)
}

/// The documents, and what is held back until its transaction is committed.
#[derive(Default)]
struct Replay {
    documents: Documents,
    /// What is up to here is in the documents already.
    contains: Lsn,
    open: BTreeMap<u64, Vec<Operation>>,
}

impl Replay {
    /// The newest checkpoint that is whole, and the LSN to read from.
    fn begin(dir: &Path, reader: &LogReader) -> Result<(Self, Lsn), Failure> {
        let mut this = Self::default();
        let list = |error| Failure::System { action: "list the log's folder", error };
        for id in segments::inventory(dir, reader).map_err(list)?.checkpoints.into_iter().rev() {
            match checkpoint(dir, id, reader, &mut this.documents) {
                Ok(Some((lsn, floor))) => {
                    this.contains = lsn;
                    return Ok((this, floor.max(reader.recovery().low_water)));
                }
                Ok(None) => {}
                Err(message) => tell(format_args!("checkpoint {id} passed over: {message}")),
            }
        }
        Ok((this, Lsn::ZERO))
    }

    fn take(&mut self, lsn: Lsn, transaction: Option<u64>, operation: Operation) {
        match (transaction, &operation) {
            (_, Operation::TxnBegin { txn_id }) => drop(self.open.insert(*txn_id, Vec::new())),
            (_, Operation::TxnRollback { txn_id }) => drop(self.open.remove(txn_id)),
            (_, Operation::TxnCommit { txn_id }) => {
                let held = self.open.remove(txn_id).unwrap_or_default();
                for operation in held.into_iter().filter(|_| lsn > self.contains) {
                    self.documents.apply(lsn, &operation);
                }
            }
            (Some(txn_id), _) => self.open.entry(txn_id).or_default().push(operation),
            (None, _) if lsn > self.contains => self.documents.apply(lsn, &operation),
            (None, _) => {}
        }
    }
}

/// Loads a checkpoint of this log; gives its LSN and the first that has to be read behind it.
fn checkpoint(
    dir: &Path,
    id: u64,
    reader: &LogReader,
    documents: &mut Documents,
) -> Result<Option<(Lsn, Lsn)>, String> {
    let bytes = fs::read(dir.join(Stored::Checkpoint(id.into()).to_string())).map_err(|error| error.to_string())?;
    let checkpoint = Checkpoint::from_bytes(&bytes).map_err(|error| error.to_string())?;
    if checkpoint.log != reader.recovery().log_id {
        return Ok(None);
    }
    let snapshot = Snapshot { bytes: checkpoint.snapshot, ..Snapshot::default() };
    documents.load(&snapshot).map_err(|error| error.to_string())?;
    Ok(Some((checkpoint.lsn, checkpoint.floor)))
}
