//! The log for one thread whose medium is awaited: a browser's event loop, an executor of one's own.
//!
//! ```text
//! append, sync, checkpoint ... ──► queue ──► one task: stages all that wait, commits it as one group, answers
//! ```
//!
//! [`Log::open`] gives a handle and a task. The program lets its executor run the task; the handle puts requests into a
//! queue, in order, and each is answered by a call to its client, by the ticket that came with it. What waits when the task comes
//! to its turn shares one write and one sync. Framing, LSNs, recovery and every decision are the core's, as for the
//! blocking [`Log`](crate::Log); no future of a caller holds anything, so dropping one leaves nothing half done.
//!
//! A state that the log keeps ([`Request::Rebuild`]) is at every moment what a replay of the log up to one of its entries
//! gives: entries are applied in the order of their LSNs, each once, those of a transaction where its commit stands.
//! An append is applied when it is answered. So whatever changes the state is answered in the order of the LSNs too: one
//! that asks for little waits behind one that asks for more. To apply the later one first would be another state, and
//! to apply the earlier one before it is as durable as asked would show what may yet be refused. What is refused for
//! lack of space was never applied; what was answered before it was written and is lost, poisons the log, so that
//! no checkpoint makes it final. A checkpoint settles all that was appended first: its LSN is the last entry's.

mod open;
mod read;
mod transactions;
mod worker;

use core::{
    cell::{Cell, OnceCell, RefCell},
    fmt,
    future::poll_fn,
    task::{Poll, Waker},
};
use std::{
    collections::VecDeque,
    error,
    rc::{Rc, Weak},
};

use duralog_core::{
    AsyncDevice, DeviceError, Durability, Entry, Error as DriveError, Finding, Flow, Host, Lsn, Machine, Object, Stop,
    TransactionEnd, drive_async_until_pause, operation::Operation,
};

use crate::{
    checkpoint::Rebuilt,
    device::DeviceFailure,
    error::{Error, Result},
    log::{Receipt, Stats},
    report::RecoveryReport,
    store::{Snapshot, StateMachine},
};

pub use open::Access;
pub use read::{Cursor, Direction};

/// A medium that is awaited, with what the handle asks of it besides what the core does.
#[allow(async_fn_in_trait)] // Media of one thread have futures that are not `Send`.
pub trait LocalDevice: AsyncDevice<Error: error::Error + Send + Sync + 'static> {
    /// Whether a sync that is refused for lack of space has undone everything since the one before, as a transaction
    /// does. Then the log goes on after it; elsewhere nothing is known after a failed sync.
    fn rolls_back(&self) -> bool;

    /// Bytes that the object takes on the medium.
    ///
    /// # Errors
    /// The medium cannot tell.
    async fn len(&mut self, object: Object) -> Result<u64, Self::Error>;

    /// The object will not be written to for a while: it may be kept in a better way, which changes no byte of it.
    ///
    /// # Errors
    /// It is kept as it was; nothing is lost.
    async fn tidy(&mut self, object: Object) -> Result<(), Self::Error>;
}

/// Who asks, and is told what came of it.
pub trait Client {
    /// What came of the request with this ticket. It is called once for each, when the task gets to it, or where it is asked
    /// when the task has ended; not for a [`Request::Mark`] that is done. Several may fail by one error, which is lent.
    fn answer(&self, ticket: u32, outcome: Result<Outcome, &Error>);
}

/// What came of a request that went well.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// Where entries are, and how durable.
    Receipt(Receipt),
    /// A number: of a transaction its id, of a checkpoint its id, of a truncation the first LSN that is kept.
    Number(u64),
    /// A place to read on from; `None` at the end.
    Cursor(Option<Cursor>),
    /// How a state was built up.
    Rebuilt(Rebuilt),
    /// What verifying found.
    Report(Box<RecoveryReport>),
    /// The objects and their lengths.
    Objects(Vec<(Object, u64)>),
    /// Bytes of an object.
    Bytes(Vec<u8>),
    /// Figures.
    Stats(Stats),
    /// It is done.
    Done,
}

/// What is asked of the task. Requests are served in the order in which they come.
#[non_exhaustive]
pub enum Request {
    /// Append entries: one, or several that a crash keeps all or not at all. Those of a transaction count with its
    /// commit. The answer is a receipt, when they are as durable as asked. The errors are those of the blocking log's
    /// [`append`](crate::Log::append).
    Append {
        /// The entries, one at least.
        operations: Vec<Operation>,
        /// The number of the transaction that they belong to.
        transaction: Option<u64>,
        /// How durable they are to be.
        durability: Durability,
    },
    /// Begin a transaction; the answer is its number: the LSN of its begin, unless a transaction with that number was refused.
    Begin,
    /// End a transaction; the answer is a receipt.
    End {
        /// Its number.
        id: u64,
        /// Whether it counts.
        end: TransactionEnd,
        /// How durable its end is to be.
        durability: Durability,
    },
    /// Make the entries up to this LSN durable; [`Lsn::MAX`] stands for the last one. The answer is a receipt.
    Wait {
        /// The LSN.
        lsn: Lsn,
    },
    /// Write a durable mark, if the durable LSN has moved since the last: for a log that has fallen idle.
    Mark,
    /// Write a checkpoint. The answer is its id. Without a snapshot it is that of the state which the log keeps, as
    /// it is when everything appended before is durable, and nothing appended later is in it. Where the log keeps one,
    /// another snapshot would take its place at the next opening: the error is [`Error::InStore`].
    Checkpoint {
        /// What it holds.
        snapshot: Option<Snapshot>,
    },
    /// Give up the entries below an LSN; the answer is the first LSN that is kept.
    Truncate {
        /// The LSN.
        lsn: Lsn,
        /// Whether a checkpoint has to hold them.
        give_up: GiveUp,
    },
    /// Begin to read the entries from `from` to `to`, both included, as they stand now. The answer is a cursor.
    Read {
        /// The first; [`Lsn::ZERO`] stands for the first one kept.
        from: Lsn,
        /// The last.
        to: Lsn,
        /// The order.
        direction: Direction,
    },
    /// Read on: entries go to `sink` until it pauses, and what a policy skips is told to it. The answer is the cursor
    /// to read on with, or none at the end.
    Page {
        /// From where.
        cursor: Cursor,
        /// Who takes the entries.
        sink: Sink,
    },
    /// Load the newest valid checkpoint, if there is one, and nothing of what counts behind it. The answer is how that
    /// went. The errors are those of building a state up again.
    Load {
        /// What it is loaded into. The log does not keep it.
        state: Rc<RefCell<dyn State>>,
    },
    /// Build a state up again: load the newest valid checkpoint and apply what counts behind it. From then on the log
    /// keeps it: what is appended is applied as it is answered, in the order of the LSNs, and what belongs to a transaction
    /// as its commit is. Until it ends, what a transaction holds is kept in memory.
    ///
    /// What was appended before is made durable first. Where truncation has removed the begin of a transaction that is
    /// open when the first state is built up, the error is [`Error::Truncated`].
    Rebuild {
        /// The state.
        state: Rc<RefCell<dyn State>>,
    },
    /// Read and verify every entry; the answer is the report of a recovery of the log as it stands now, with what was found
    /// added. Of a log that is only read it is that of its opening.
    Verify,
    /// List the objects of the log, everything that was appended before written.
    Objects,
    /// Read bytes of an object, as they are on the medium; fewer come at its end.
    Bytes {
        /// The object.
        object: Object,
        /// Where in it.
        at: u64,
        /// How many.
        len: usize,
    },
    /// Give figures of the log.
    Stats,
    /// Close the log: everything appended before is durable, a seal says so, and the task ends. Requests after it are
    /// refused.
    Close,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Request")
    }
}

/// Whether entries that are given up have to be in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GiveUp {
    /// Only what the oldest checkpoint that is kept holds.
    Covered,
    /// Whether a checkpoint holds them or not.
    Anyway,
}

/// What a reader does with entries, and with what was found in the place of some.
pub type Sink = Box<dyn Host>;

/// A log, open on a medium that is awaited. Handles are cheap to clone; all are of one log.
#[derive(Clone)]
pub struct Log {
    shared: Rc<Shared>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}

/// What the handles and the task share.
struct Shared {
    queue: RefCell<VecDeque<(u32, Request)>>,
    /// The task, while it has nothing to do.
    waker: Cell<Option<Waker>>,
    current: Cell<Lsn>,
    synced: Cell<Lsn>,
    report: RecoveryReport,
    /// Who is told, by the handles, that the log is closed: once the task has ended.
    over: OnceCell<Weak<dyn Client>>,
}

/// What is asked of a closed log is refused, but for closing it.
fn answer_after_close(client: &dyn Client, ticket: u32, request: &Request) {
    match request {
        Request::Close => client.answer(ticket, Ok(Outcome::Done)),
        _ => client.answer(ticket, Err(&Error::Closed)),
    }
}

/// A [`StateMachine`] of any kind.
pub trait State {
    /// See [`StateMachine::load`].
    ///
    /// # Errors
    /// As there, as text.
    fn load(&mut self, snapshot: &Snapshot) -> Result<(), String>;
    /// See [`StateMachine::apply`].
    fn apply(&mut self, lsn: Lsn, operation: &Operation);
    /// See [`StateMachine::snapshot`].
    fn snapshot(&self) -> Snapshot;
}

impl<S: StateMachine> State for S {
    fn load(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        StateMachine::load(self, snapshot).map_err(|error| error.to_string())
    }

    fn apply(&mut self, lsn: Lsn, operation: &Operation) {
        StateMachine::apply(self, lsn, operation);
    }

    fn snapshot(&self) -> Snapshot {
        StateMachine::snapshot(self)
    }
}

impl Log {
    /// Puts a request into the queue; the client is answered by its ticket: at once, and within this call, where the task has
    /// ended and the program still has the client.
    pub fn ask(&self, ticket: u32, request: Request) {
        if let Some(client) = self.shared.over.get() {
            // It may have a handle itself, so a handle does not keep it.
            return client.upgrade().iter().for_each(|client| answer_after_close(&**client, ticket, &request));
        }
        self.shared.queue.borrow_mut().push_back((ticket, request));
        if let Some(waker) = self.shared.waker.take() {
            waker.wake();
        }
    }

    /// What recovery found when the log was opened.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.shared.report
    }

    /// The LSN that the next entry will have, as far as requests were served.
    #[must_use]
    pub fn current_lsn(&self) -> Lsn {
        self.shared.current.get()
    }

    /// The last LSN that a sync of the medium covered.
    #[must_use]
    pub fn synced_lsn(&self) -> Lsn {
        self.shared.synced.get()
    }
}

impl Shared {
    /// The next request; `None` when no handle is left to make one.
    async fn next(self: &Rc<Self>) -> Option<(u32, Request)> {
        poll_fn(|context| {
            if let Some(request) = self.pop() {
                return Poll::Ready(Some(request));
            }
            if Rc::strong_count(self) == 1 {
                return Poll::Ready(None);
            }
            self.waker.set(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }

    fn pop(&self) -> Option<(u32, Request)> {
        self.queue.borrow_mut().pop_front()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(waker) = self.shared.waker.take() {
            waker.wake();
        }
    }
}

/// A result whose error is on the heap: what is handed up through many awaits is small, and so is the code that does.
type Fallible<T> = Result<T, Box<Error>>;

/// The same of driving a machine.
type Driven<D> = Result<Ended, Box<DriveError<<D as AsyncDevice>::Error>>>;

impl<E: DeviceError + error::Error + Send + Sync + 'static> From<Box<DriveError<E>>> for Box<Error> {
    fn from(error: Box<DriveError<E>>) -> Self {
        Self::new((*error).into())
    }
}

/// Drives a machine until it is done or its host pauses. There is one copy of the driver for all machines of a device,
/// which keeps programs small: what the machine comes to is kept beside it.
async fn drive<D: LocalDevice>(
    machine: &mut dyn Machine<Output = ()>,
    device: &mut D,
    buf: &mut Vec<u8>,
    host: &mut dyn Host,
) -> Driven<D> {
    let ended = drive_async_until_pause(machine, device, buf, &mut Lent(host)).await;
    ended.map(|ended| if ended.is_some() { Ended::Done } else { Ended::Paused }).map_err(Box::new)
}

/// How driving a machine ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// It is done.
    Done,
    /// Its host paused.
    Paused,
}

/// A machine whose output is kept beside it.
struct Keeping<M: Machine> {
    machine: M,
    output: Option<M::Output>,
}

impl<M: Machine> Keeping<M> {
    fn new(machine: M) -> Self {
        Self { machine, output: None }
    }

    /// What the machine has come to, which was driven for a host that does not pause.
    fn output(self) -> M::Output {
        self.output.expect("the machine was driven to its end")
    }
}

impl<M: Machine> Machine for Keeping<M> {
    type Output = ();

    fn step(&mut self, buf: &mut [u8], answer: duralog_core::Answer) -> Result<(), Stop> {
        self.output = Some(self.machine.step(buf, answer)?);
        Ok(())
    }
}

/// A host of any kind.
struct Lent<'a>(&'a mut dyn Host);

impl Host for Lent<'_> {
    fn entry(&mut self, entry: Entry<'_>) -> Flow {
        self.0.entry(entry)
    }

    fn finding(&mut self, finding: &Finding) {
        self.0.finding(finding);
    }

    fn piece(&mut self, section: duralog_core::checkpoint::Section, bytes: &[u8]) {
        self.0.piece(section, bytes);
    }

    fn fill(&mut self, buf: &mut [u8]) -> usize {
        self.0.fill(buf)
    }
}

/// What an error of the device is to the log, where nothing was being done with an object.
pub fn device_error<E: error::Error + Send + Sync + 'static>(error: E) -> Error {
    Error::Open(DeviceFailure::new(error))
}
