//! The log for programs that run on tokio.
//!
//! ```text
//! task ─ append ─┐
//! task ─ append ─┼─► queue ─► worker thread: stage all that wait, one write, one sync ─► each task wakes
//! task ─ sync  ──┘
//! ```
//!
//! One worker thread makes all requests of a log in their order; no thread of the runtime ever blocks on a file. Reading,
//! building a state up and opening take a blocking thread of the runtime while they are at it, and a checkpoint has a thread
//! of its own.
//!
//! **Cancellation**: a future that is dropped before its request is in the queue has done nothing; dropped later, its
//! request is carried out all the same, as if it had been awaited. Either way no entry is half there, and nobody else
//! notices.
//!
//! ```
//! use duralog::{Config, Lsn, Snapshot, tokio::Log};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let dir = tempfile::tempdir()?;
//! let log = Log::open(Config::new(dir.path())).await?;
//! let receipt = log.append(b"any bytes").await?;
//! let transaction = log.transaction().await?; // rolled back if it is dropped
//! transaction.append(b"counts with the commit").await?;
//! transaction.commit().await?;
//! let at = log.checkpoint_at().await?;
//! log.checkpoint(at, Snapshot::default()).await?; // appends go on meanwhile
//! let mut entries = log.read_from(receipt.first).await?;
//! while let Some(entry) = entries.next().await {
//!     println!("{}", entry?.lsn);
//! }
//! log.close().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What blocks
//!
//! [`MemoryStore`](crate::MemoryStore) and [`LogReader`](crate::LogReader) have no methods to be awaited. A task calls them on a
//! thread that may block, through `spawn_blocking`; such calls of many tasks share their syncs. A closure that has begun runs to
//! its end, so a change whose future is dropped is logged and made, or was not begun. To look at the state takes no file and
//! may be done by the task itself where it does not mind waiting for a change that is just made; the guard is not to be held
//! across an `await`.
//!
//! ```
//! use std::sync::Arc;
//!
//! use duralog::{Config, MemoryStore, Operation};
//! use tokio::task::spawn_blocking;
//! use uuid::Uuid;
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let dir = tempfile::tempdir()?;
//! let config = Config::new(dir.path());
//! let store: Arc<MemoryStore> = Arc::new(spawn_blocking(move || MemoryStore::open(config)).await??);
//! let (id, writer) = (Uuid::new_v4(), Arc::clone(&store));
//! spawn_blocking(move || writer.apply(Operation::insert(id, "a document", vec![0.25]))).await??;
//! assert!(store.state().contains(id));
//! spawn_blocking(move || store.close()).await??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checkpoint;
mod read;
mod transaction;
mod truncation;

use std::{
    fmt,
    sync::Arc,
    thread::{self, JoinHandle},
};

use duralog_core::{Durability, Lsn, Payload, TransactionEnd};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::{
    commit::{Guard, InTransaction, Promise},
    config::Config,
    device::{DeviceFailure, SharedDevice},
    error::{Error, Result},
    file::FileDevice,
    log::{Log as Blocking, Receipt, Stats},
    report::RecoveryReport,
};

use self::{
    checkpoint::Checkpointing,
    transaction::{Left, Open},
};
pub use self::{read::Entries, transaction::Transaction};

/// How many requests may wait for the worker; whoever makes one more waits until there is room.
const QUEUE: usize = 4096;

/// A payload that was encoded by the task that appends it.
struct Encoded {
    code: u8,
    bytes: Vec<u8>,
}

impl Encoded {
    fn new<P: Payload>(payload: &P) -> Self {
        let mut bytes = vec![0; payload.len()];
        payload.write(&mut bytes);
        Self { code: payload.code(), bytes }
    }
}

impl Payload for Encoded {
    fn code(&self) -> u8 {
        self.code
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn write(&self, to: &mut [u8]) {
        to.copy_from_slice(&self.bytes);
    }
}

type Answer<T> = oneshot::Sender<Result<T>>;
/// Anything else: done by itself, in its turn.
type Job<D> = Box<dyn FnOnce(&Blocking<D>) + Send>;

enum Request<D: SharedDevice> {
    /// Entries, of a transaction or of none.
    Append {
        payloads: Vec<Encoded>,
        transaction: Option<InTransaction>,
        durability: Option<Durability>,
        answer: Answer<Receipt>,
    },
    Begin {
        answer: Answer<Open<D>>,
    },
    End {
        open: Open<D>,
        end: TransactionEnd,
        durability: Option<Durability>,
        answer: Answer<Receipt>,
    },
    Job(Job<D>),
    /// A transaction was left to be rolled back.
    Look,
}

/// A write-ahead log, open for writing, whose methods are awaited.
///
/// It is cheap to clone; all clones are the same log. The methods promise what those of the blocking
/// [`Log`](crate::Log) do. Dropping the last clone waits until what is in the queue is done and a checkpoint under way is
/// written, and syncs: [`close`](Self::close) first where a thread of the runtime must not wait for that.
pub struct Log<D: SharedDevice = FileDevice> {
    inner: Arc<Inner<D>>,
}

struct Inner<D: SharedDevice> {
    /// `None` once the last handle is being dropped: the worker then ends.
    requests: Option<mpsc::Sender<Request<D>>>,
    log: Arc<Blocking<D>>,
    worker: Option<JoinHandle<()>>,
    checkpointing: Checkpointing,
}

impl<D: SharedDevice> Clone for Log<D> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<D: SharedDevice> fmt::Debug for Log<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("recovery", self.recovery()).finish_non_exhaustive()
    }
}

impl<D: SharedDevice> Drop for Inner<D> {
    fn drop(&mut self) {
        self.requests = None;
        // What is in the queue is carried out first, and the checkpoint under way, so that reopening finds them and the lock
        // is free.
        join(self.worker.take());
        self.checkpointing.finish();
    }
}

/// Waits for a thread, unless it is this one: the worker itself may be who drops the last handle, in a job.
fn join(thread: Option<JoinHandle<()>>) {
    if let Some(thread) = thread.filter(|other| other.thread().id() != thread::current().id()) {
        // A panic there has been printed.
        let _ = thread.join();
    }
}

impl Log<FileDevice> {
    /// Opens the log in the folder that `config` names; see [`Log::open`](crate::Log::open).
    ///
    /// # Errors
    /// As there.
    pub async fn open(config: Config) -> Result<Self> {
        Self::new(blocking(move || Blocking::open(config)).await?)
    }
}

impl<D: SharedDevice> Log<D> {
    /// Opens the log on a device; see [`Log::open_device`](crate::Log::open_device).
    ///
    /// # Errors
    /// As there.
    pub async fn open_device(device: D, config: Config) -> Result<Self> {
        Self::new(blocking(move || Blocking::open_device(device, config)).await?)
    }

    fn new(log: Blocking<D>) -> Result<Self> {
        let log = Arc::new(log);
        let (requests, queue) = mpsc::channel(QUEUE);
        let worker = {
            let (log, left) = (Arc::clone(&log), Arc::new(Left::new(requests.downgrade())));
            thread::Builder::new().name("duralog-tokio".into()).spawn(move || work(&log, queue, &left))
        };
        let worker = worker.map_err(|error| Error::Open(DeviceFailure::new(error)))?;
        Ok(Self {
            inner: Arc::new(Inner {
                requests: Some(requests),
                log,
                worker: Some(worker),
                checkpointing: Checkpointing::new(),
            }),
        })
    }

    /// See [`Log::append`](crate::Log::append).
    ///
    /// # Errors
    /// As there.
    pub async fn append<P: Payload>(&self, payload: P) -> Result<Receipt> {
        self.append_in(vec![Encoded::new(&payload)], None, None).await
    }

    /// See [`Log::append_with`](crate::Log::append_with).
    ///
    /// # Errors
    /// As there.
    pub async fn append_with<P: Payload>(&self, payload: P, durability: Durability) -> Result<Receipt> {
        self.append_in(vec![Encoded::new(&payload)], None, Some(durability)).await
    }

    /// See [`Log::append_batch`](crate::Log::append_batch).
    ///
    /// # Errors
    /// As there.
    pub async fn append_batch<P: Payload>(&self, payloads: &[P]) -> Result<Option<Receipt>> {
        self.append_all(payloads, None, None).await
    }

    /// See [`Log::append_batch_with`](crate::Log::append_batch_with).
    ///
    /// # Errors
    /// As there.
    pub async fn append_batch_with<P: Payload>(
        &self,
        payloads: &[P],
        durability: Durability,
    ) -> Result<Option<Receipt>> {
        self.append_all(payloads, None, Some(durability)).await
    }

    async fn append_all<P: Payload>(
        &self,
        payloads: &[P],
        transaction: Option<InTransaction>,
        durability: Option<Durability>,
    ) -> Result<Option<Receipt>> {
        if payloads.is_empty() {
            return Ok(None);
        }
        self.append_in(payloads.iter().map(Encoded::new).collect(), transaction, durability).await.map(Some)
    }

    async fn append_in(
        &self,
        payloads: Vec<Encoded>,
        transaction: Option<InTransaction>,
        durability: Option<Durability>,
    ) -> Result<Receipt> {
        self.ask(|answer| Request::Append { payloads, transaction, durability, answer }).await
    }

    /// Puts a request into the queue and waits for its answer.
    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request<D>) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let Some(requests) = &self.inner.requests else { return Err(Error::Closed) };
        requests.send(request(answer)).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }

    async fn job<T: Send + 'static>(&self, job: impl FnOnce(&Blocking<D>) -> Result<T> + Send + 'static) -> Result<T> {
        self.ask(|answer| Request::Job(Box::new(move |log| drop(answer.send(job(log)))))).await
    }

    /// See [`Log::sync`](crate::Log::sync): everything requested before is durable.
    ///
    /// # Errors
    /// As there.
    pub async fn sync(&self) -> Result<Lsn> {
        self.job(Blocking::sync).await
    }

    /// See [`Log::wait_durable`](crate::Log::wait_durable).
    ///
    /// # Errors
    /// As there.
    pub async fn wait_durable(&self, lsn: Lsn) -> Result<Lsn> {
        self.job(move |log| log.wait_durable(lsn)).await
    }

    /// See [`Log::stats`](crate::Log::stats).
    ///
    /// # Errors
    /// As there.
    pub async fn stats(&self) -> Result<Stats> {
        self.job(Blocking::stats).await
    }

    /// See [`Log::close`](crate::Log::close): what was requested before is durable, what is requested after is refused.
    ///
    /// # Errors
    /// As there.
    pub async fn close(&self) -> Result<()> {
        self.job(Blocking::close).await
    }

    /// See [`Log::log_id`](crate::Log::log_id).
    #[must_use]
    pub fn log_id(&self) -> Uuid {
        self.inner.log.log_id()
    }

    /// See [`Log::recovery`](crate::Log::recovery).
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        self.inner.log.recovery()
    }

    /// See [`Log::current_lsn`](crate::Log::current_lsn); what is still in the queue does not count yet.
    #[must_use]
    pub fn current_lsn(&self) -> Lsn {
        self.inner.log.current_lsn()
    }

    /// See [`Log::synced_lsn`](crate::Log::synced_lsn).
    #[must_use]
    pub fn synced_lsn(&self) -> Lsn {
        self.inner.log.synced_lsn()
    }

    /// See [`Log::sync_reaches`](crate::Log::sync_reaches).
    #[must_use]
    pub fn sync_reaches(&self) -> Durability {
        self.inner.log.sync_reaches()
    }

    /// See [`Log::last_checkpoint_lsn`](crate::Log::last_checkpoint_lsn).
    #[must_use]
    pub fn last_checkpoint_lsn(&self) -> Option<Lsn> {
        self.inner.log.last_checkpoint_lsn()
    }

    /// See [`Log::low_water_lsn`](crate::Log::low_water_lsn); what is still in the queue does not count yet.
    #[must_use]
    pub fn low_water_lsn(&self) -> Lsn {
        self.inner.log.low_water_lsn()
    }
}

/// What was staged and waits for its commit: an append, or the end of a transaction.
struct Staged<D: SharedDevice> {
    receipt: Receipt,
    /// How many refusals there had been.
    before: u64,
    /// The transaction that is over with it.
    ends: Option<Open<D>>,
    answer: Answer<Receipt>,
}

/// Does requests in their order, appends in groups, until there is nobody left who makes any.
fn work<D: SharedDevice>(log: &Blocking<D>, mut queue: mpsc::Receiver<Request<D>>, left: &Arc<Left<D>>) {
    let mut staged = Vec::new();
    while let Some(request) = queue.blocking_recv() {
        let mut next = Some(request);
        while let Some(request) = next {
            // Of what was dropped before the request was made, nothing is open when it is done.
            left.roll_back(log);
            match request {
                Request::Append { payloads, transaction, durability, answer } => {
                    let entries = log.shared.stage_entries(&payloads, transaction);
                    reach(log, entries, Promise::of(transaction), None, durability, answer, &mut staged);
                }
                Request::Begin { answer } => {
                    // Whom nobody waits for any more is dropped, and so left to be rolled back.
                    drop(answer.send(log.shared.begin_transaction().map(|of| Open::new(of, left))));
                }
                Request::End { open, end, durability, answer } => {
                    let entry = log.shared.stage_end(open.of, end).map(|(guard, lsn)| (guard, lsn, lsn));
                    reach(log, entry, Promise::of_end(end), Some(open), durability, answer, &mut staged);
                }
                Request::Job(job) => {
                    commit(log, &mut staged);
                    job(log);
                }
                Request::Look => {}
            }
            next = if staged.len() < QUEUE { queue.try_recv().ok() } else { None };
        }
        commit(log, &mut staged);
    }
    left.roll_back(log);
}

/// Answers at once what was refused or need not be durable; what is to be waits for its commit.
fn reach<'a, D: SharedDevice>(
    log: &'a Blocking<D>,
    entries: Result<(Guard<'a>, Lsn, Lsn)>,
    promise: Promise,
    ends: Option<Open<D>>,
    durability: Option<Durability>,
    answer: Answer<Receipt>,
    staged: &mut Vec<Staged<D>>,
) {
    let durability = durability.unwrap_or_else(|| log.shared.mode());
    let reached = match entries {
        Ok((mut guard, first, last)) if durability == Durability::Durable => {
            let before = guard.will_be_waited_for();
            let durability = log.shared.reached.told(durability);
            return staged.push(Staged { receipt: Receipt { first, last, durability }, before, ends, answer });
        }
        Ok((guard, first, last)) => log.shared.reached(guard, first, last, durability, promise),
        Err(error) => Err(error),
    };
    told(log, reached, ends, answer);
}

/// Answers. A transaction that was not ended is dropped, and so left to be rolled back.
fn told<D: SharedDevice>(log: &Blocking<D>, reached: Result<Receipt>, ends: Option<Open<D>>, answer: Answer<Receipt>) {
    if let Some(open) = ends
        && log.shared.is_over(open.of, &reached)
    {
        open.over();
    }
    // Nobody may be there to hear it any more.
    let _ = answer.send(reached);
}

/// Makes durable what was staged, and answers.
fn commit<D: SharedDevice>(log: &Blocking<D>, staged: &mut Vec<Staged<D>>) {
    for Staged { receipt, before, ends, answer } in staged.drain(..) {
        let reached = log.shared.wait_since(log.shared.lock(), before, receipt.last, Durability::Durable);
        log.shared.lock().was_waited_for();
        told(log, reached.map(|_| receipt), ends, answer);
    }
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Closed),
    }
}
