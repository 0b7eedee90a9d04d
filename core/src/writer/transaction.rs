//! Transactions: begin, end, and which are open.

use super::{Payload, StageError, Writer};
use crate::{Lsn, drive::Scratch, operation::Code};

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
    /// The LSN of its commit or rollback; [`Lsn::ZERO`]: it has none yet.
    end: Lsn,
    /// The last entry that it holds.
    pub(super) last: Lsn,
    /// Whether entries of it were refused: it can only be rolled back.
    pub(super) broken: bool,
    /// Whether nobody goes on with it. Its rollback is staged before anything else is.
    pub(super) abandoned: bool,
}

/// The begin or end of a transaction: behind the id, which every entry of a transaction has, there is nothing. Operations of
/// every kind can say it too; a program without transactions has no use for what writes them.
struct Says(Code);

impl Payload for Says {
    fn code(&self) -> u8 {
        self.0.value()
    }

    fn len(&self) -> usize {
        0
    }

    fn write(&self, _: &mut [u8]) {}
}

impl Transaction {
    /// Whether it has an end, written or not.
    fn has_ended(&self) -> bool {
        self.end > Lsn::ZERO
    }

    /// Whether its end is written, where all up to `written` is.
    pub(super) fn is_over(&self, written: Lsn) -> bool {
        self.has_ended() && self.end <= written
    }

    /// Whether entries may be appended to it, and it may be committed.
    pub(super) fn is_open(&self) -> bool {
        !self.has_ended() && !self.broken && !self.abandoned
    }
}

impl Writer {
    /// Stages the begin of a transaction and returns its id, which is the LSN of that entry.
    ///
    /// # Errors
    /// As [`stage`](Self::stage); [`StageError::TooManyTransactions`].
    pub fn stage_begin(&mut self, buf: &mut (impl Scratch + ?Sized), now: u64) -> Result<u64, StageError> {
        self.stage_rollbacks(buf, now)?;
        if self.transactions.len() >= usize::from(self.options.max_transactions) {
            // One that has ended makes room when its end is written.
            let ends = self.transactions.iter().any(Transaction::has_ended);
            let max = self.options.max_transactions;
            return Err(if ends { StageError::NeedsCommit } else { StageError::TooManyTransactions { max } });
        }
        let id = self.next.value();
        self.stage_control(buf, now, Some(id), Says(Code::TxnBegin))?;
        // There is room: no more than the options' most are open, and these are no more than fit.
        let begun = Transaction { id, end: Lsn::ZERO, last: Lsn::new(id), broken: false, abandoned: false };
        let _ = self.transactions.push(begun);
        Ok(id)
    }

    /// Stages the end of a transaction: its commit, or its rollback. Returns the LSN of that entry.
    ///
    /// Whoever asks for a rollback is done with the transaction, whatever comes of it: what finds no room now is written
    /// once there is.
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
        let ending = self.not_ended(id).ok_or(StageError::NoTransaction)?;
        match end {
            TransactionEnd::Commit if !ending.is_open() => return Err(StageError::NoTransaction),
            TransactionEnd::Commit => {}
            TransactionEnd::Rollback => self.abandon(id),
        }
        self.stage_rollbacks_but(buf, now, Some(id))?;
        self.stage_its_end(buf, now, id, end)
    }

    /// Stages the rollbacks of transactions that were abandoned while there was no room to say so.
    #[inline]
    pub(super) fn stage_rollbacks(&mut self, buf: &mut (impl Scratch + ?Sized), now: u64) -> Result<(), StageError> {
        if self.transactions.is_empty() { Ok(()) } else { self.stage_rollbacks_but(buf, now, None) }
    }

    #[cold]
    #[inline(never)] // It is not to be in the way of an append where no transaction is open.
    fn stage_rollbacks_but(
        &mut self,
        buf: &mut (impl Scratch + ?Sized),
        now: u64,
        other: Option<u64>,
    ) -> Result<(), StageError> {
        let is_owed = |transaction: &&Transaction| {
            transaction.abandoned && !transaction.has_ended() && Some(transaction.id) != other
        };
        while let Some(id) = self.transactions.iter().find(is_owed).map(|transaction| transaction.id) {
            self.stage_its_end(buf, now, id, TransactionEnd::Rollback)?;
        }
        Ok(())
    }

    #[inline(never)]
    fn stage_its_end(
        &mut self,
        buf: &mut (impl Scratch + ?Sized),
        now: u64,
        id: u64,
        end: TransactionEnd,
    ) -> Result<Lsn, StageError> {
        let code = match end {
            TransactionEnd::Commit => Code::TxnCommit,
            TransactionEnd::Rollback => Code::TxnRollback,
        };
        let lsn = self.stage_control(buf, now, Some(id), Says(code))?;
        if let Some(transaction) = self.not_ended(id) {
            transaction.end = lsn;
        }
        Ok(lsn)
    }

    /// The first LSN of the oldest transaction that may still be committed, else the next LSN: where replay begins from a
    /// checkpoint taken now.
    #[must_use]
    pub fn replay_floor(&self) -> Lsn {
        self.undecided().map(|transaction| Lsn::new(transaction.id)).min().unwrap_or(self.next)
    }

    /// Transactions that may still be committed, or whose commit may still be lost.
    pub(super) fn undecided(&self) -> impl Iterator<Item = &Transaction> {
        self.transactions.iter().filter(|transaction| !transaction.abandoned)
    }

    /// Nobody goes on with the transaction. It does not count in any case: a commit alone makes it. Where it has no end yet,
    /// its rollback is staged before anything else is.
    pub fn abandon(&mut self, id: u64) {
        if let Some(transaction) = self.not_ended(id) {
            transaction.abandoned = true;
        }
    }

    /// Whether the transaction was begun by this writer, and its end is not written.
    #[must_use]
    pub fn knows_transaction(&self, id: u64) -> bool {
        self.transactions.iter().any(|transaction| transaction.id == id)
    }

    /// The transaction, if it has no end yet.
    pub(super) fn not_ended(&mut self, id: u64) -> Option<&mut Transaction> {
        self.transactions.iter_mut().find(|transaction| transaction.id == id && !transaction.has_ended())
    }

    /// All behind this LSN was refused: transactions begun there are not, those that ended there are over without an end,
    /// and those of which entries stood there are no longer whole.
    pub(super) fn transactions_refused_behind(&mut self, last: Lsn) {
        self.transactions.retain(|transaction| transaction.id <= last.value());
        for transaction in &mut self.transactions {
            if transaction.end > last {
                (transaction.abandoned, transaction.end) = (true, Lsn::ZERO);
            }
            transaction.broken |= transaction.last > last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Durability,
        writer::tests::{Writing, options},
    };

    #[test]
    fn a_transaction_is_known_from_its_begin_until_its_end_is_written() {
        let mut writing = Writing::begun(options(16));
        let known = |writer: &Writer| [0, 1, 2, 3, 4].map(|id| writer.knows_transaction(id));
        assert_eq!(known(&writing.writer), [false; 5]);
        for id in 1..=2 {
            assert_eq!(writing.writer.stage_begin(&mut writing.medium.buf[..], 1), Ok(id));
        }
        writing.commit(Durability::Durable);
        assert_eq!(known(&writing.writer), [false, true, true, false, false]);
        let end = writing.writer.stage_end(&mut writing.medium.buf[..], 1, 1, TransactionEnd::Commit);
        assert_eq!(end, Ok(Lsn::new(3)));
        assert_eq!(known(&writing.writer), [false, true, true, false, false], "it may be refused");
        writing.commit(Durability::Os);
        assert_eq!(known(&writing.writer), [false, false, true, false, false]);
    }

    #[test]
    fn a_transaction_whose_commit_was_refused_is_over_and_one_that_lost_an_entry_is_only_rolled_back() {
        for commit in [true, false] {
            let mut writing = Writing::begun(options(16));
            let buf = &mut writing.medium.buf[..];
            let id = writing.writer.stage_begin(buf, 1).unwrap();
            writing.commit(Durability::Durable);
            assert_eq!(writing.writer.replay_floor(), Lsn::new(id));
            let buf = &mut writing.medium.buf[..];
            if commit {
                writing.writer.stage_end(buf, 1, id, TransactionEnd::Commit).unwrap();
            } else {
                writing.writer.stage(buf, 1, Some(id), &[b"entry"]).unwrap();
            }
            writing.refuse();
            assert!(writing.writer.knows_transaction(id));
            // Who did not commit it has still to say that it is rolled back.
            assert_eq!(writing.writer.replay_floor(), if commit { Lsn::new(2) } else { Lsn::new(id) });
            writing.begin();
            let buf = &mut writing.medium.buf[..];
            assert_eq!(writing.writer.stage(buf, 1, Some(id), &[b"entry"]), Err(StageError::NoTransaction));
            let committed = writing.writer.stage_end(buf, 1, id, TransactionEnd::Commit);
            assert_eq!(committed, Err(StageError::NoTransaction));
            // Where it is over, its rollback goes before the next entry.
            let lsn = Lsn::new(if commit { 3 } else { 2 });
            assert_eq!(writing.stage(1), Ok((lsn, lsn)));
            writing.commit(Durability::Durable);
            assert_eq!(writing.writer.knows_transaction(id), !commit);
        }
    }

    #[test]
    fn a_transaction_of_which_nothing_was_refused_goes_on() {
        let mut writing = Writing::begun(options(16));
        let id = writing.writer.stage_begin(&mut writing.medium.buf[..], 1).unwrap();
        writing.commit(Durability::Durable);
        writing.stage(1).unwrap();
        writing.refuse();
        writing.begin();
        let buf = &mut writing.medium.buf[..];
        assert_eq!(writing.writer.stage(buf, 1, Some(id), &[b"entry"]), Ok((Lsn::new(2), Lsn::new(2))));
        assert_eq!(writing.writer.stage_end(buf, 1, id, TransactionEnd::Commit), Ok(Lsn::new(3)));
    }
}
