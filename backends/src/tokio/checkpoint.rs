//! Checkpoints, each written by a thread of its own.

use core::panic::AssertUnwindSafe;
use std::{
    panic,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use duralog_core::CheckpointId;
use tokio::sync::{Semaphore, oneshot};

use super::{Log, join};
use crate::{
    checkpoint::CheckpointAt,
    device::{DeviceFailure, SharedDevice},
    error::{Error, Result},
    store::Snapshot,
};

/// The thread that writes a checkpoint: of a log there is never more than one, for one checkpoint waits for the other.
pub(super) struct Checkpointing {
    turn: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Checkpointing {
    pub(super) fn new() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), thread: Mutex::default() }
    }

    /// Waits for the checkpoint that is under way.
    pub(super) fn finish(&mut self) {
        join(self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl<D: SharedDevice> Log<D> {
    /// See [`Log::checkpoint_at`](crate::Log::checkpoint_at); what is still in the queue comes after it.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn checkpoint_at(&self) -> Result<CheckpointAt> {
        self.job(|log| Ok(log.checkpoint_at())).await
    }

    /// See [`Log::checkpoint`](crate::Log::checkpoint). A thread of its own writes it, and appends go on meanwhile. Dropping
    /// the future before its turn has come, behind another checkpoint, leaves nothing done; later, the checkpoint is written
    /// all the same, and whoever drops the last handle waits for it.
    ///
    /// # Errors
    /// As there; [`Error::Open`] if there is no thread to be had.
    ///
    /// # Panics
    /// Where the device panicked while it was written.
    pub async fn checkpoint(&self, at: CheckpointAt, snapshot: Snapshot) -> Result<CheckpointId> {
        let Checkpointing { turn, thread } = &self.inner.checkpointing;
        let turn = Arc::clone(turn).acquire_owned().await.map_err(|_| Error::Closed)?;
        let (answer, answered) = oneshot::channel();
        let log = Arc::clone(&self.inner.log);
        let write = move || {
            let written = panic::catch_unwind(AssertUnwindSafe(|| log.checkpoint(at, &snapshot)));
            // Who hears the answer or has the next turn meets nothing that this thread still holds.
            drop(log);
            drop((answer.send(written), turn));
        };
        {
            // Held while it is begun: one that ends at once lets the next begin, whose handle is not to be replaced by this.
            let mut thread = thread.lock().unwrap_or_else(PoisonError::into_inner);
            let writing = thread::Builder::new().name("duralog-checkpoint".into()).spawn(write);
            let writing = writing.map_err(|error| Error::Open(DeviceFailure::new(error)))?;
            // The one before has given up its turn, and is over.
            *thread = Some(writing);
        }
        match answered.await {
            Ok(Ok(written)) => written,
            Ok(Err(panicked)) => panic::resume_unwind(panicked),
            Err(_) => Err(Error::Closed),
        }
    }
}
