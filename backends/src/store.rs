//! The state that an application keeps from its log: what it must be able to do.
//!
//! ```text
//! log:   1 insert a   2 insert b   3 checkpoint   4 update a   5 delete b
//! state:                           { a, b }  ──────────────►   { a' }
//! ```
//!
//! A state is a function of the entries alone: whoever applies the same ones in the same order has the same state,
//! bit for bit. So it can be thrown away and made again, from the first entry or from a snapshot and what follows it.

use std::{collections::BTreeMap, error};

use duralog_core::{Lsn, operation::Operation};
use uuid::Uuid;

/// What a log's entries build up.
pub trait StateMachine {
    /// Why a snapshot cannot be loaded.
    type Error: error::Error + Send + Sync + 'static;

    /// Applies the entry at `lsn`. Entries come once, in the order of their LSNs, those of a transaction at the LSN of its
    /// commit. By a [`MemoryStore`](crate::MemoryStore) it is applied when its append has returned: in the mode
    /// [`Immediate`](crate::SyncMode::Immediate) it is durable then, in the others a crash may take it and what was made of it.
    ///
    /// It cannot fail: what is in the log has happened. An operation that makes no sense here does nothing. A panic here
    /// ends the store: its state is not the log's any more.
    fn apply(&mut self, lsn: Lsn, operation: &Operation);

    /// The whole state.
    fn snapshot(&self) -> Snapshot;

    /// The state as it is now, to be written out when the function that is given is called: by then changes may have been
    /// made to this one, which the snapshot does not hold.
    ///
    /// [`MemoryStore::checkpoint`](crate::MemoryStore::checkpoint) calls this while no change is made, and the function while
    /// changes go on. Unless it is implemented, the state is written out at once, and changes wait for that; a state that can be
    /// copied in a moment, as [`Documents`](crate::Documents) can, makes nobody wait.
    fn freeze(&self) -> Box<dyn FnOnce() -> Snapshot + Send> {
        let snapshot = self.snapshot();
        Box::new(|| snapshot)
    }

    /// Replaces the state by that of a snapshot.
    ///
    /// # Errors
    /// The snapshot is not one of this kind of state, which is then as it was before.
    fn load(&mut self, snapshot: &Snapshot) -> Result<(), Self::Error>;
}

/// A state that was written out, as a checkpoint keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The ids of the documents that it holds.
    pub document_ids: Vec<Uuid>,
    /// The ids of the chunks that it holds.
    pub chunk_ids: Vec<Uuid>,
    /// What the application says about it.
    pub metadata: BTreeMap<String, String>,
    /// The state, as its own kind writes it.
    pub bytes: Vec<u8>,
}
