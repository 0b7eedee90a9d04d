//! Transactions: begin, end, and which are open.

use super::{StageError, Writer};
use crate::{Lsn, drive::Scratch, operation::OperationRef};

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TransactionEnd {
    /// Its entries count from here on.
    Commit,
    /// They never do.
    Rollback,
}

/// A transaction of this writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transaction {
    /// Its id: the LSN of its begin.
    pub(super) id: u64,
    /// The LSN of its commit or rollback.
    pub(super) end: Option<Lsn>,
    /// The last entry that it holds.
    pub(super) last: Lsn,
    /// Whether entries of it were refused: it can only be rolled back.
    pub(super) broken: bool,
}

impl Writer {
    /// Stages the begin of a transaction and returns its id, which is the LSN of that entry.
    ///
    /// # Errors
    /// As [`stage`](Self::stage); [`StageError::TooManyTransactions`].
    pub fn stage_begin(&mut self, buf: &mut (impl Scratch + ?Sized), now: u64) -> Result<u64, StageError> {
        if self.transactions.len() >= usize::from(self.options.max_transactions) {
            return Err(StageError::TooManyTransactions { max: self.options.max_transactions });
        }
        let id = self.next.value();
        self.stage_control(buf, now, Some(id), OperationRef::TxnBegin { txn_id: id })?;
        // There is room: no more than the options' most are open, and these are no more than fit.
        let _ = self.transactions.push(Transaction { id, end: None, last: Lsn::new(id), broken: false });
        Ok(id)
    }

    /// Stages the end of a transaction: its commit, or its rollback. Returns the LSN of that entry.
    ///
    /// # Errors
    /// As [`stage`](Self::stage); [`StageError::NoTransaction`] if it is not open, and if it is to be committed and entries of
    /// it were refused.
    pub fn stage_end(
        &mut self,
        buf: &mut (impl Scratch + ?Sized),
        now: u64,
        id: u64,
        end: TransactionEnd,
    ) -> Result<Lsn, StageError> {
        if !self.is_open(id) && (end == TransactionEnd::Commit || !self.is_broken(id)) {
            return Err(StageError::NoTransaction);
        }
        let operation = match end {
            TransactionEnd::Commit => OperationRef::TxnCommit { txn_id: id },
            TransactionEnd::Rollback => OperationRef::TxnRollback { txn_id: id },
        };
        let lsn = self.stage_control(buf, now, Some(id), operation)?;
        for transaction in &mut self.transactions {
            if transaction.id == id {
                transaction.end = Some(lsn);
            }
        }
        Ok(lsn)
    }

    /// The first LSN of the oldest open transaction, else the next LSN: where replay begins from a checkpoint taken now.
    #[must_use]
    pub fn replay_floor(&self) -> Lsn {
        self.transactions.iter().map(|transaction| Lsn::new(transaction.id)).min().unwrap_or(self.next)
    }

    /// Nobody goes on with the transaction, and there is no room to say so. It does not count in any case: a commit alone
    /// makes it.
    pub fn forget(&mut self, id: u64) {
        self.transactions.retain(|transaction| transaction.id != id || transaction.end.is_some());
    }

    /// Whether the transaction was begun by this writer and not ended, and is whole.
    #[must_use]
    pub fn is_open(&self, id: u64) -> bool {
        self.not_ended(id).is_some_and(|transaction| !transaction.broken)
    }

    /// Whether the transaction was begun by this writer, and is not over: it is open, whole or not, or its end is not written.
    #[must_use]
    pub fn knows_transaction(&self, id: u64) -> bool {
        self.transactions.iter().any(|transaction| transaction.id == id)
    }

    fn is_broken(&self, id: u64) -> bool {
        self.not_ended(id).is_some_and(|transaction| transaction.broken)
    }

    fn not_ended(&self, id: u64) -> Option<&Transaction> {
        self.transactions.iter().find(|transaction| transaction.id == id && transaction.end.is_none())
    }

    /// All behind this LSN was refused: transactions begun there are not, those that ended there have not, and those of
    /// which entries stood there are no longer whole.
    pub(super) fn transactions_refused_behind(&mut self, last: Lsn) {
        self.transactions.retain(|transaction| transaction.id <= last.value());
        for transaction in &mut self.transactions {
            transaction.end = transaction.end.filter(|end| *end <= last);
            transaction.broken |= transaction.last > last;
        }
    }
}
