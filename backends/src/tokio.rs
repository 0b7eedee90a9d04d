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

mod checkpoint;
mod read;

use std::{
    fmt,
    sync::Arc,
    thread::{self, JoinHandle},
};

use duralog_core::{Durability, Lsn, Payload};
use tokio::sync::{mpsc, oneshot};

use crate::{
    config::Config,
    device::{DeviceFailure, SharedDevice},
    error::{Error, Result},
    file::FileDevice,
    log::{Log as Blocking, Receipt, Stats},
    report::RecoveryReport,
};

use self::checkpoint::Checkpointing;
pub use self::read::Entries;

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
/// Anything that is not an append: done by itself, in its turn.
type Job<D> = Box<dyn FnOnce(&Blocking<D>) + Send>;

enum Request<D: SharedDevice> {
    Append { payloads: Vec<Encoded>, durability: Option<Durability>, answer: Answer<Receipt> },
    Job(Job<D>),
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
            let log = Arc::clone(&log);
            thread::Builder::new().name("duralog-tokio".into()).spawn(move || work(&log, queue))
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
        self.request(vec![Encoded::new(&payload)], None).await
    }

    /// See [`Log::append_with`](crate::Log::append_with).
    ///
    /// # Errors
    /// As there.
    pub async fn append_with<P: Payload>(&self, payload: P, durability: Durability) -> Result<Receipt> {
        self.request(vec![Encoded::new(&payload)], Some(durability)).await
    }

    /// See [`Log::append_batch`](crate::Log::append_batch).
    ///
    /// # Errors
    /// As there.
    pub async fn append_batch<P: Payload>(&self, payloads: &[P]) -> Result<Option<Receipt>> {
        if payloads.is_empty() {
            return Ok(None);
        }
        self.request(payloads.iter().map(Encoded::new).collect(), None).await.map(Some)
    }

    async fn request(&self, payloads: Vec<Encoded>, durability: Option<Durability>) -> Result<Receipt> {
        let (answer, answered) = oneshot::channel();
        self.send(Request::Append { payloads, durability, answer }).await?;
        answered.await.map_err(|_| Error::Closed)?
    }

    async fn send(&self, request: Request<D>) -> Result<()> {
        let Some(requests) = &self.inner.requests else { return Err(Error::Closed) };
        requests.send(request).await.map_err(|_| Error::Closed)
    }

    async fn job<T: Send + 'static>(&self, job: impl FnOnce(&Blocking<D>) -> Result<T> + Send + 'static) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        self.send(Request::Job(Box::new(move |log| drop(answer.send(job(log)))))).await?;
        answered.await.map_err(|_| Error::Closed)?
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

    /// See [`Log::truncate_before`](crate::Log::truncate_before).
    ///
    /// # Errors
    /// As there.
    pub async fn truncate_before(&self, lsn: Lsn) -> Result<Lsn> {
        self.job(move |log| log.truncate_before(lsn)).await
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
}

/// An append that was staged and waits for its commit.
struct Staged {
    receipt: Receipt,
    /// How many refusals there had been.
    before: u64,
    answer: Answer<Receipt>,
}

/// Does requests in their order, appends in groups, until there is nobody left who makes any.
fn work<D: SharedDevice>(log: &Blocking<D>, mut queue: mpsc::Receiver<Request<D>>) {
    let mut staged = Vec::new();
    while let Some(request) = queue.blocking_recv() {
        let mut next = Some(request);
        while let Some(request) = next {
            match request {
                Request::Append { payloads, durability, answer } => {
                    stage(log, &payloads, durability, answer, &mut staged)
                }
                Request::Job(job) => {
                    commit(log, &mut staged);
                    job(log);
                }
            }
            next = if staged.len() < QUEUE { queue.try_recv().ok() } else { None };
        }
        commit(log, &mut staged);
    }
}

/// Stages one append; what need not be durable is answered at once.
fn stage<D: SharedDevice>(
    log: &Blocking<D>,
    payloads: &[Encoded],
    durability: Option<Durability>,
    answer: Answer<Receipt>,
    staged: &mut Vec<Staged>,
) {
    let durability = durability.unwrap_or_else(|| log.shared.mode());
    if durability != Durability::Durable {
        // Nobody may be there to hear it any more.
        let _ = answer.send(log.shared.append(payloads, None, durability));
        return;
    }
    match log.shared.stage_entries(payloads, None) {
        Ok((mut guard, first, last)) => {
            let before = guard.will_be_waited_for();
            let durability = log.shared.reached.told(durability);
            staged.push(Staged { receipt: Receipt { first, last, durability }, before, answer });
        }
        Err(error) => drop(answer.send(Err(error))),
    }
}

/// Makes durable what was staged, and answers.
fn commit<D: SharedDevice>(log: &Blocking<D>, staged: &mut Vec<Staged>) {
    for Staged { receipt, before, answer } in staged.drain(..) {
        let reached = log.shared.wait_since(log.shared.lock(), before, receipt.last, Durability::Durable);
        log.shared.lock().was_waited_for();
        drop(answer.send(reached.map(|_| receipt)));
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
