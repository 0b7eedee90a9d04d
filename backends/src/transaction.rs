//! Transactions: operations between begin and commit, recovered only if the commit was.

use duralog_core::{Durability, Lsn, Payload, StageError, TransactionEnd, Writer};

use crate::{
    commit::{Guard, InTransaction, Promise, Shared},
    device::SharedDevice,
    error::{Error, Result},
    file::FileDevice,
    log::{Log, Receipt},
};

/// A transaction of a [`Log`]: it is rolled back when dropped without a commit.
///
/// Its entries take their LSNs as they are appended and count at the LSN of the commit. Other threads may append
/// meanwhile, within transactions or without.
///
/// ```
/// use duralog::{Config, Log, Lsn};
///
/// let dir = tempfile::tempdir()?;
/// let log = Log::open(Config::new(dir.path()))?;
/// let transfer = log.transaction()?;
/// transfer.append(b"take 5 from a")?;
/// transfer.append(b"give 5 to b")?;
/// let receipt = transfer.commit()?; // both count from here on, and did not before
/// assert_eq!((receipt.first, log.sync()?), (Lsn::new(4), Lsn::new(4)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Transaction<'a, D: SharedDevice = FileDevice> {
    log: &'a Log<D>,
    of: InTransaction,
    open: bool,
}

impl<D: SharedDevice> Log<D> {
    /// Begins a transaction.
    ///
    /// # Errors
    /// [`Error::TooManyTransactions`], and as [`append`](Self::append).
    pub fn transaction(&self) -> Result<Transaction<'_, D>> {
        self.is_free()?;
        let of = self.shared.begin_transaction()?;
        Ok(Transaction { log: self, of, open: true })
    }
}

impl<D: SharedDevice> Transaction<'_, D> {
    /// Its id: the LSN of the entry that began it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.of.id
    }

    /// Appends an entry that counts if the transaction is committed. It is durable only with the commit.
    ///
    /// # Errors
    /// As [`Log::append`]; [`Error::NoTransaction`] after a failure, a cut or a reset that rolled it back.
    pub fn append<P: Payload>(&self, payload: P) -> Result<Receipt> {
        self.log.shared.append(&[payload], Some(self.of), Durability::Buffered)
    }

    /// Appends entries that count if the transaction is committed. An empty batch writes nothing and gives `None`.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_batch<P: Payload>(&self, payloads: &[P]) -> Result<Option<Receipt>> {
        if payloads.is_empty() {
            return Ok(None);
        }
        self.log.shared.append(payloads, Some(self.of), Durability::Buffered).map(Some)
    }

    /// Commits: when this returns, the transaction is as durable as the log's mode says of an append.
    ///
    /// # Errors
    /// As [`append`](Self::append). Refused for lack of space, the transaction is rolled back, as soon as another segment is begun or
    /// the log is closed; until then all bytes of the refused commit may stand behind the log's end, and the recovery after a
    /// crash finds it. So it is not known to be undone before the log goes on.
    pub fn commit(self) -> Result<Receipt> {
        let durability = self.log.shared.mode();
        self.commit_with(durability)
    }

    /// [`commit`](Self::commit), with another durability than the log's mode asks for.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn commit_with(mut self, durability: Durability) -> Result<Receipt> {
        self.end(TransactionEnd::Commit, durability)
    }

    /// Rolls the transaction back, which dropping it does too, without telling of errors.
    ///
    /// # Errors
    /// As [`Log::append`]. The transaction does not count in any case: a commit alone makes it.
    pub fn rollback(mut self) -> Result<()> {
        self.end(TransactionEnd::Rollback, Durability::Buffered).map(|_| ())
    }

    fn end(&mut self, end: TransactionEnd, durability: Durability) -> Result<Receipt> {
        let shared = &self.log.shared;
        let staged = shared.stage_end(self.of, end);
        let ended = staged.and_then(|(guard, lsn)| shared.reached(guard, lsn, lsn, durability, Promise::of_end(end)));
        self.open = !shared.is_over(self.of, &ended);
        ended
    }
}

impl<D: SharedDevice> Drop for Transaction<'_, D> {
    fn drop(&mut self) {
        if self.open {
            self.log.shared.roll_back(self.of);
        }
    }
}

impl<D: SharedDevice> Shared<D> {
    pub(crate) fn begin_transaction(&self) -> Result<InTransaction> {
        let begin = |writer: &mut Writer, buf: &mut Vec<u8>, now| writer.stage_begin(buf, now);
        let (mut guard, id) = self.stage(self.lock(), begin)?;
        guard.counts.appends += 1;
        guard.begun += 1;
        let state = &mut *guard;
        let of = InTransaction { id, history: state.history, number: state.begun };
        // Ids ascend, but where a begin was refused: one that is not lower is not there any more.
        let is_there = |other: &InTransaction| other.id < id && state.writer.knows_transaction(other.id);
        state.transactions.retain(|other| is_there(other) && other.history == of.history);
        state.transactions.push(of);
        Ok(of)
    }

    /// Stages the end of a transaction, and gives its LSN.
    pub(crate) fn stage_end(&self, of: InTransaction, end: TransactionEnd) -> Result<(Guard<'_>, Lsn)> {
        let mut is_owed = false;
        let staged = self.stage_in(self.lock(), Some(of), |writer, buf, now| {
            let staged = writer.stage_end(buf, now, of.id, end);
            let waits = matches!(staged, Err(StageError::NeedsCommit | StageError::NeedsSegment));
            is_owed |= end == TransactionEnd::Rollback && waits;
            staged
        });
        // While this call waited for room, another found some, and wrote the rollback before an entry of its own.
        if is_owed && matches!(staged, Err(Error::NoTransaction)) {
            let guard = self.lock();
            let last = guard.writer.next_lsn().previous();
            return Ok((guard, last));
        }
        let (mut guard, lsn) = staged?;
        guard.counts.appends += 1;
        Ok((guard, lsn))
    }

    /// Whether a transaction is over, by what its end came to: it has ended, or there was no room for that.
    pub(crate) fn is_over(&self, of: InTransaction, ended: &Result<Receipt>) -> bool {
        if matches!(ended, Err(Error::NoSpace(_))) {
            let mut guard = self.lock();
            if guard.transactions.contains(&of) {
                guard.writer.abandon(of.id);
            }
        }
        matches!(ended, Ok(_) | Err(Error::NoSpace(_)))
    }

    /// Rolls back a transaction that nobody goes on with. It does not count in any case: a commit alone makes it.
    pub(crate) fn roll_back(&self, of: InTransaction) {
        let Err(error) = self.stage_end(of, TransactionEnd::Rollback) else { return };
        if matches!(error, Error::NoTransaction | Error::Closed | Error::Poisoned { .. }) {
            return;
        }
        tracing::warn!(%error, "the rollback of a transaction is not logged yet; it does not count");
    }
}
