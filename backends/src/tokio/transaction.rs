//! Transactions, awaited.
//!
//! Nobody can wait where a transaction is dropped. So whoever drops one leaves it to the worker, which rolls back what was
//! left to it before it does the next request, and is woken for that where there is none.

use core::mem;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use duralog_core::{Durability, Payload, TransactionEnd};
use tokio::sync::mpsc;

use super::{Encoded, Log, Request};
use crate::{
    commit::InTransaction,
    device::SharedDevice,
    error::Result,
    file::FileDevice,
    log::{Log as Blocking, Receipt},
};

/// A transaction of a [`Log`] whose methods are awaited: it is rolled back when dropped without a commit.
///
/// It promises what the blocking [`Transaction`](crate::Transaction) does. Its requests come in their order with all others,
/// and the commits of transactions share their syncs. Dropping it waits for nothing: the log's worker rolls it back before
/// whatever is requested afterwards, and without another request at once.
///
/// **Cancellation**: [`commit`](Self::commit) and [`rollback`](Self::rollback) take the transaction. Where the future of one is
/// dropped before its request is in the queue, the transaction was dropped, and is rolled back; later, the request is
/// carried out as if it had been awaited.
///
/// ```
/// use duralog::{Config, Lsn, tokio::Log};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let dir = tempfile::tempdir()?;
/// let log = Log::open(Config::new(dir.path())).await?;
/// let transfer = log.transaction().await?;
/// transfer.append(b"take 5 from a").await?;
/// transfer.append(b"give 5 to b").await?;
/// let receipt = transfer.commit().await?; // both count from here on, and did not before
/// assert_eq!((receipt.first, log.sync().await?), (Lsn::new(4), Lsn::new(4)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Transaction<'a, D: SharedDevice = FileDevice> {
    log: &'a Log<D>,
    open: Open<D>,
}

impl<D: SharedDevice> Log<D> {
    /// See [`Log::transaction`](crate::Log::transaction). Where the future is dropped, none stays open.
    ///
    /// # Errors
    /// As there.
    pub async fn transaction(&self) -> Result<Transaction<'_, D>> {
        let open = self.ask(|answer| Request::Begin { answer }).await?;
        Ok(Transaction { log: self, open })
    }
}

impl<D: SharedDevice> Transaction<'_, D> {
    /// Its id: the LSN of the entry that began it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.open.of.id
    }

    /// See [`Transaction::append`](crate::Transaction::append).
    ///
    /// # Errors
    /// As there.
    pub async fn append<P: Payload>(&self, payload: P) -> Result<Receipt> {
        self.log.append_in(vec![Encoded::new(&payload)], Some(self.open.of), Some(Durability::Buffered)).await
    }

    /// See [`Transaction::append_batch`](crate::Transaction::append_batch).
    ///
    /// # Errors
    /// As there.
    pub async fn append_batch<P: Payload>(&self, payloads: &[P]) -> Result<Option<Receipt>> {
        self.log.append_all(payloads, Some(self.open.of), Some(Durability::Buffered)).await
    }

    /// See [`Transaction::commit`](crate::Transaction::commit).
    ///
    /// # Errors
    /// As there.
    pub async fn commit(self) -> Result<Receipt> {
        self.end(TransactionEnd::Commit, None).await
    }

    /// See [`Transaction::commit_with`](crate::Transaction::commit_with).
    ///
    /// # Errors
    /// As there.
    pub async fn commit_with(self, durability: Durability) -> Result<Receipt> {
        self.end(TransactionEnd::Commit, Some(durability)).await
    }

    /// See [`Transaction::rollback`](crate::Transaction::rollback).
    ///
    /// # Errors
    /// As there.
    pub async fn rollback(self) -> Result<()> {
        self.end(TransactionEnd::Rollback, Some(Durability::Buffered)).await.map(|_| ())
    }

    async fn end(self, end: TransactionEnd, durability: Option<Durability>) -> Result<Receipt> {
        let Self { log, open } = self;
        log.ask(|answer| Request::End { open, end, durability, answer }).await
    }
}

/// A transaction that is open, whoever has it: a guard, a request in the queue, an answer that nobody may hear. Dropped, it is
/// left to the worker.
pub(super) struct Open<D: SharedDevice> {
    pub(super) of: InTransaction,
    is_over: bool,
    left: Arc<Left<D>>,
}

impl<D: SharedDevice> Open<D> {
    pub(super) fn new(of: InTransaction, left: &Arc<Left<D>>) -> Self {
        Self { of, is_over: false, left: Arc::clone(left) }
    }

    /// It was ended: there is nothing to roll back.
    pub(super) fn over(mut self) {
        self.is_over = true;
    }
}

impl<D: SharedDevice> fmt::Debug for Open<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.of.fmt(f)
    }
}

impl<D: SharedDevice> Drop for Open<D> {
    fn drop(&mut self) {
        if !self.is_over {
            self.left.push(self.of);
        }
    }
}

/// Transactions that were left to the worker.
pub(super) struct Left<D: SharedDevice> {
    transactions: Mutex<Vec<InTransaction>>,
    /// Not one that keeps the worker waiting for requests.
    worker: mpsc::WeakSender<Request<D>>,
}

impl<D: SharedDevice> Left<D> {
    pub(super) fn new(worker: mpsc::WeakSender<Request<D>>) -> Self {
        Self { transactions: Mutex::default(), worker }
    }

    fn push(&self, of: InTransaction) {
        self.transactions.lock().unwrap_or_else(PoisonError::into_inner).push(of);
        // Where there is no room in the queue the worker has requests to do, and looks before the next.
        if let Some(worker) = self.worker.upgrade() {
            let _ = worker.try_send(Request::Look);
        }
    }

    /// Rolls back what was left so far.
    pub(super) fn roll_back(&self, log: &Blocking<D>) {
        let left = mem::take(&mut *self.transactions.lock().unwrap_or_else(PoisonError::into_inner));
        for of in left {
            log.shared.roll_back(of);
        }
    }
}
