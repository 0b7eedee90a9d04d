//! `checkpoint`: the documents that a log comes to, written as a checkpoint.

use std::path::PathBuf;

use duralog::{CheckpointId, Documents, LoadError, Log, Lsn, Operation, Snapshot, StateMachine};
use serde_json::json;

use crate::{
    exit::{Failure, tell},
    outcome::{Outcome, count, object},
    progress::Spinner,
    segments,
};

/// Writes a checkpoint of the documents that the log comes to
///
/// Recovery begins from it, and `truncate` may give up what it holds. A log that keeps anything else than documents and
/// chunks is refused: only its own program can write its state. A checkpoint that a crash left half written, or that is
/// damaged, is passed over.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of the log
    dir: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// The documents, and whether they are all that the log keeps.
#[derive(Default)]
struct Watched {
    documents: Documents,
    opaque: Option<Lsn>,
    /// Why a checkpoint that is whole holds no documents: some other program's state.
    other: Option<LoadError>,
}

impl StateMachine for Watched {
    type Error = LoadError;

    fn apply(&mut self, lsn: Lsn, operation: &Operation) {
        if let Operation::Opaque { .. } = operation {
            self.opaque.get_or_insert(lsn);
        }
        self.documents.apply(lsn, operation);
    }

    fn snapshot(&self) -> Snapshot {
        self.documents.snapshot()
    }

    fn load(&mut self, snapshot: &Snapshot) -> Result<(), LoadError> {
        self.documents.load(snapshot).inspect_err(|error| self.other = Some(*error))
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    match write(args) {
        Ok((id, lsn, snapshot)) => {
            let (documents, chunks) = (snapshot.document_ids.len() as u64, snapshot.chunk_ids.len() as u64);
            let text = format!(
                "checkpoint {} at LSN {}: {}, {}\n",
                id.value(),
                lsn.value(),
                count(documents, "document", "documents"),
                count(chunks, "chunk", "chunks")
            );
            let object = object(json!({
                "checkpoint": {"id": id.value(), "lsn": lsn.value()},
                "documents": documents,
                "chunks": chunks,
            }));
            Outcome { object, text: Some(text), ..Outcome::default() }
        }
        Err(failure) => failure.into(),
    }
}

fn write(args: &Args) -> Result<(CheckpointId, Lsn, Snapshot), Failure> {
    let failed = Failure::freeing(&args.dir);
    let _spinner = Spinner::new("building the documents up");
    let log = Log::open(segments::config(&args.dir).existing().with_full_check()).map_err(&failed)?;
    let mut state = Watched::default();
    let rebuilt = log.rebuild(&mut state).map_err(&failed)?;
    let refused = |message: String| Failure::Refused { dir: args.dir.clone(), message };
    if let Some(lsn) = state.opaque {
        return Err(refused(format!(
            "the entry at {lsn} holds bytes that only the program that wrote them understands: it has to write the \
             checkpoint"
        )));
    }
    if let Some(error) = state.other {
        let message = error.to_string();
        let of = rebuilt.checkpoints_rejected.iter().find(|(_, rejected)| *rejected == message);
        let of = of.map_or("a checkpoint".to_owned(), |(id, _)| id.to_string());
        return Err(refused(format!(
            "{of} is whole and holds no documents ({message}): the program that wrote it has to write the next one"
        )));
    }
    for (id, message) in &rebuilt.checkpoints_rejected {
        tell(format_args!("checkpoint {} passed over: {message}", id.value()));
    }
    let (at, snapshot) = (log.checkpoint_at(), state.snapshot());
    let id = log.checkpoint(at, &snapshot).map_err(&failed)?;
    log.close().map_err(&failed)?;
    Ok((id, at.lsn(), snapshot))
}
