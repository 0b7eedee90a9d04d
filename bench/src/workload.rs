//! The workloads, as the speed page names them.

mod append;
mod beside;
mod checkpoint;
mod opening;
mod read;
mod stream;

use std::path::PathBuf;

pub(crate) use opening::fill_and_die;

use crate::{
    Result,
    peers::{self, Task},
    ratio::Side,
    scale::Scale,
    table::Row,
};

/// Payloads: small, an embedding of 384 dimensions with its text, large.
pub(crate) const PAYLOADS: [usize; 3] = [128, 1638, 65536];

/// What a workload needs to know.
pub(crate) struct Ground {
    /// Where files are made.
    pub(crate) dir: PathBuf,
    pub(crate) scale: Scale,
    /// Whether other logs run in the same table.
    pub(crate) peers: bool,
}

impl Ground {
    /// Other logs at this, if they were asked for.
    fn peers(&self, payload: usize, task: Task) -> Result<Vec<Box<dyn Side>>> {
        if self.peers { peers::sides(&self.dir, payload, task) } else { Ok(Vec::new()) }
    }
}

/// A workload: its name, and what measures it.
type Workload = (&'static str, fn(&Ground) -> Result<Vec<Row>>);

pub(crate) const ALL: [Workload; 8] = [
    ("W1", append::one_thread),
    ("W2", append::many_threads),
    ("W3", stream::stream),
    ("W4", append::batches),
    ("W5", read::iterate),
    ("W6", opening::openings),
    ("W7", beside::beside),
    ("W8", checkpoint::checkpoints),
];
