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
        let _ = self.transactions.push(Transaction { id, end: None });
        Ok(id)
    }

    /// Stages the end of a transaction: its commit, or its rollback. Returns the LSN of that entry.
    ///
    /// # Errors
    /// As [`stage`](Self::stage); [`StageError::NoTransaction`] if it is not open.
    pub fn stage_end(
        &mut self,
        buf: &mut (impl Scratch + ?Sized),
        now: u64,
        id: u64,
        end: TransactionEnd,
    ) -> Result<Lsn, StageError> {
        if !self.is_open(id) {
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

    /// Whether the transaction was begun by this writer and not ended.
    pub(super) fn is_open(&self, id: u64) -> bool {
        self.transactions.iter().any(|transaction| transaction.id == id && transaction.end.is_none())
    }
}
