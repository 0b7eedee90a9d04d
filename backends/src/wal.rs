//! What every log can do, whatever it is kept on: for programs that take one of them.

use duralog_core::{CheckpointId, Durability, Lsn, operation::Operation};

use crate::{
    checkpoint::CheckpointAt,
    device::SharedDevice,
    error::Result,
    log::{Log, Receipt, Stats},
    read::Entry,
    report::RecoveryReport,
    store::Snapshot,
};

/// A write-ahead log. Object-safe: `Box<dyn WriteAheadLog>` may be a log in files, in memory or on a faulty device.
///
/// The methods are those of [`Log`] and promise what those promise.
pub trait WriteAheadLog: Send + Sync {
    /// See [`Log::append`].
    ///
    /// # Errors
    /// As there.
    fn append(&self, operation: &Operation) -> Result<Receipt>;
    /// See [`Log::append_batch`].
    ///
    /// # Errors
    /// As there.
    fn append_batch(&self, operations: &[Operation]) -> Result<Option<Receipt>>;
    /// See [`Log::append_with`], for the application's own bytes.
    ///
    /// # Errors
    /// As there.
    fn append_bytes(&self, bytes: &[u8], durability: Durability) -> Result<Receipt>;
    /// See [`Log::sync`].
    ///
    /// # Errors
    /// As there.
    fn sync(&self) -> Result<Lsn>;
    /// See [`Log::wait_durable`].
    ///
    /// # Errors
    /// As there.
    fn wait_durable(&self, lsn: Lsn) -> Result<Lsn>;
    /// See [`Log::checkpoint_at`].
    fn checkpoint_at(&self) -> CheckpointAt;
    /// See [`Log::checkpoint`].
    ///
    /// # Errors
    /// As there.
    fn checkpoint(&self, at: CheckpointAt, snapshot: &Snapshot) -> Result<CheckpointId>;
    /// See [`Log::recovery`]: what recovery found when the log was opened.
    fn recover(&self) -> RecoveryReport;
    /// See [`Log::truncate_before`].
    ///
    /// # Errors
    /// As there.
    fn truncate_before(&self, lsn: Lsn) -> Result<Lsn>;
    /// See [`Log::current_lsn`].
    fn current_lsn(&self) -> Lsn;
    /// See [`Log::synced_lsn`].
    fn synced_lsn(&self) -> Lsn;
    /// See [`Log::read_from`].
    ///
    /// # Errors
    /// As there.
    fn read_from(&self, from: Lsn) -> Result<Box<dyn Iterator<Item = Result<Entry>> + Send>>;
    /// See [`Log::stats`].
    ///
    /// # Errors
    /// As there.
    fn stats(&self) -> Result<Stats>;
    /// See [`Log::close`].
    ///
    /// # Errors
    /// As there.
    fn close(&self) -> Result<()>;
}

impl<D: SharedDevice> WriteAheadLog for Log<D> {
    fn append(&self, operation: &Operation) -> Result<Receipt> {
        self.append(operation)
    }

    fn append_batch(&self, operations: &[Operation]) -> Result<Option<Receipt>> {
        self.append_batch(operations)
    }

    fn append_bytes(&self, bytes: &[u8], durability: Durability) -> Result<Receipt> {
        self.append_with(bytes, durability)
    }

    fn sync(&self) -> Result<Lsn> {
        self.sync()
    }

    fn wait_durable(&self, lsn: Lsn) -> Result<Lsn> {
        self.wait_durable(lsn)
    }

    fn checkpoint_at(&self) -> CheckpointAt {
        self.checkpoint_at()
    }

    fn checkpoint(&self, at: CheckpointAt, snapshot: &Snapshot) -> Result<CheckpointId> {
        self.checkpoint(at, snapshot)
    }

    fn recover(&self) -> RecoveryReport {
        self.recovery().clone()
    }

    fn truncate_before(&self, lsn: Lsn) -> Result<Lsn> {
        self.truncate_before(lsn)
    }

    fn current_lsn(&self) -> Lsn {
        self.current_lsn()
    }

    fn synced_lsn(&self) -> Lsn {
        self.synced_lsn()
    }

    fn read_from(&self, from: Lsn) -> Result<Box<dyn Iterator<Item = Result<Entry>> + Send>> {
        Ok(Box::new(self.read_from(from)?))
    }

    fn stats(&self) -> Result<Stats> {
        self.stats()
    }

    fn close(&self) -> Result<()> {
        self.close()
    }
}
