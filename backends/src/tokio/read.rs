//! Reading the log, awaited.
//!
//! ```text
//! next ─► entries at hand ──► the task
//!              ▲
//!         one batch, read by a blocking thread of the runtime, begun when the one before is taken
//! ```
//!
//! A thread is taken for one batch at a time. While nobody takes entries none is held, however far the reader is.

use std::{collections::VecDeque, fmt, panic};

use duralog_core::{Finding, Lsn};
use tokio::{runtime::Handle, task::JoinHandle};

use super::{Log, blocking};
use crate::{
    checkpoint::Rebuilt,
    device::SharedDevice,
    error::{Error, Result},
    log::Log as Blocking,
    read::{Entries as Source, Entry},
    segments::SegmentInfo,
    store::StateMachine,
};

/// How many entries a thread reads at once.
const ENTRIES: usize = 256;
/// Bytes of payload that a thread reads at once, and the entry with which they are reached.
const BYTES: usize = 256 << 10;

impl<D: SharedDevice> Log<D> {
    /// See [`Log::read_from`](crate::Log::read_from): everything requested before is read.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// Outside of a tokio runtime, whose blocking threads read.
    pub async fn read_from(&self, from: Lsn) -> Result<Entries> {
        self.entries(move |log| log.read_from(from)).await
    }

    /// See [`Log::read_back_to`](crate::Log::read_back_to): everything requested before is read, the newest first.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As [`read_from`](Self::read_from).
    pub async fn read_back_to(&self, to: Lsn) -> Result<Entries> {
        self.entries(move |log| log.read_back_to(to)).await
    }

    /// See [`Log::replay_from`](crate::Log::replay_from): of everything requested before is read what counts.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As [`read_from`](Self::read_from).
    pub async fn replay_from(&self, from: Lsn) -> Result<Entries> {
        self.entries(move |log| log.replay_from(from)).await
    }

    async fn entries(&self, read: impl FnOnce(&Blocking<D>) -> Result<Source<D>> + Send + 'static) -> Result<Entries> {
        let runtime = Handle::current();
        let source = self.job(read).await?;
        Ok(Entries::new(runtime, source))
    }

    /// See [`Log::rebuild`](crate::Log::rebuild): everything requested before is applied. A blocking thread of the runtime
    /// loads and applies, and gives the state back. Dropping the future later leaves that thread at work until the state is
    /// built up, which is dropped then; the log goes on meanwhile, and may be opened anew.
    ///
    /// # Errors
    /// As there; the state is dropped.
    ///
    /// # Panics
    /// As [`read_from`](Self::read_from); where the state panics.
    pub async fn rebuild<S: StateMachine + Send + 'static>(&self, mut state: S) -> Result<(S, Rebuilt)> {
        let rebuilding = self.job(Blocking::rebuilding).await?;
        blocking(move || rebuilding.run(&mut state).map(|rebuilt| (state, rebuilt))).await
    }

    /// See [`Log::segments`](crate::Log::segments); what was requested before is in them.
    ///
    /// # Errors
    /// As there.
    pub async fn segments(&self) -> Result<Vec<SegmentInfo>> {
        self.job(Blocking::segments).await
    }
}

/// What entries are read from, whatever it is kept on.
trait Reading: Iterator<Item = Result<Entry>> + Send {
    fn findings(&self) -> &[Finding];
}

impl<D: SharedDevice> Reading for Source<D> {
    fn findings(&self) -> &[Finding] {
        Self::findings(self)
    }
}

/// The entries of a log, awaited one by one, as it stood when reading began.
///
/// They are read in batches by a blocking thread of the runtime that the reader was made in, one batch ahead of the task that
/// takes them: at most 256 entries, or 256 KiB and one entry, at hand, and as many on their way. The thread is not held in
/// between, so that a reader that nobody goes on with keeps nothing from being done, not even the end of its runtime.
pub struct Entries {
    runtime: Handle,
    /// What was read and not taken.
    ready: VecDeque<Result<Entry>>,
    next: Next,
    findings: Vec<Finding>,
}

/// Where the batch comes from that is next.
enum Next {
    /// It was not begun.
    From(Box<dyn Reading>),
    /// A thread reads it, and gives back what it reads from.
    Reading(JoinHandle<Batch>),
    /// There is none.
    None,
}

struct Batch {
    entries: VecDeque<Result<Entry>>,
    /// What was found and skipped so far.
    findings: Vec<Finding>,
    /// What reading goes on from; `None` behind the last entry.
    rest: Option<Box<dyn Reading>>,
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("findings", &self.findings).finish_non_exhaustive()
    }
}

impl Entries {
    fn new(runtime: Handle, source: impl Reading + 'static) -> Self {
        Self { runtime, ready: VecDeque::new(), next: Next::From(Box::new(source)), findings: Vec::new() }
    }

    /// The next entry; `None` behind the last. Dropping the future loses no entry.
    ///
    /// # Errors
    /// As the items of [`Entries`](crate::Entries): an error is the last. [`Error::Closed`]: the runtime was shut down.
    ///
    /// # Panics
    /// Where the device panicked while it was read.
    pub async fn next(&mut self) -> Option<Result<Entry>> {
        while self.ready.is_empty() {
            let read = match &mut self.next {
                Next::From(_) => {
                    self.begin();
                    continue;
                }
                // It stays there while it is awaited: whoever drops this future leaves it to the next.
                Next::Reading(batch) => batch.await,
                Next::None => return None,
            };
            self.next = Next::None;
            match read {
                Ok(Batch { entries, findings, rest }) => {
                    (self.ready, self.findings) = (entries, findings);
                    self.next = rest.map_or(Next::None, Next::From);
                    self.begin();
                }
                Err(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
                Err(_) => return Some(Err(Error::Closed)),
            }
        }
        self.ready.pop_front()
    }

    /// What was found and skipped, by a policy that skips damage, up to where the thread has read: that may be somewhat
    /// ahead of the entry that was taken last.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Has the next batch read, if there is one.
    fn begin(&mut self) {
        self.next = match core::mem::replace(&mut self.next, Next::None) {
            Next::From(source) => Next::Reading(self.runtime.spawn_blocking(|| read(source))),
            next => next,
        };
    }
}

/// Reads one batch.
fn read(mut source: Box<dyn Reading>) -> Batch {
    let (mut entries, mut bytes, mut is_over) = (VecDeque::new(), 0, false);
    while !is_over && entries.len() < ENTRIES && bytes < BYTES {
        let entry = source.next();
        // An error is the last.
        is_over = !matches!(entry, Some(Ok(_)));
        bytes += entry.as_ref().and_then(|entry| entry.as_ref().ok()).map_or(0, |entry| entry.payload.len());
        entries.extend(entry);
    }
    Batch { entries, findings: source.findings().to_vec(), rest: (!is_over).then_some(source) }
}

impl Drop for Entries {
    fn drop(&mut self) {
        // A batch that no thread has begun is not read any more.
        if let Next::Reading(batch) = &self.next {
            batch.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use duralog_core::SegmentId;

    use super::*;

    /// Entries of one length, and then whatever else.
    struct Given {
        len: usize,
        count: u64,
        then: fn() -> Option<Result<Entry>>,
    }

    impl Iterator for Given {
        type Item = Result<Entry>;

        fn next(&mut self) -> Option<Result<Entry>> {
            let Some(left) = self.count.checked_sub(1) else { return (self.then)() };
            self.count = left;
            Some(Ok(Entry {
                lsn: Lsn::FIRST,
                timestamp: 0,
                code: 1,
                transaction: None,
                batch_continues: false,
                segment: SegmentId::new(1),
                offset: 0,
                payload: vec![0; self.len],
            }))
        }
    }

    impl Reading for Given {
        fn findings(&self) -> &[Finding] {
            &[]
        }
    }

    fn batches(source: Given) -> Vec<usize> {
        let mut rest: Option<Box<dyn Reading>> = Some(Box::new(source));
        let mut batches = Vec::new();
        while let Some(source) = rest {
            let batch = read(source);
            batches.push(batch.entries.len());
            rest = batch.rest;
        }
        batches
    }

    #[test]
    fn a_batch_is_bounded_by_its_entries_and_by_their_bytes() {
        assert_eq!(batches(Given { len: 0, count: 600, then: || None }), [ENTRIES, ENTRIES, 600 - 2 * ENTRIES]);
        assert_eq!(batches(Given { len: BYTES, count: 3, then: || None }), [1, 1, 1, 0]);
        assert_eq!(batches(Given { len: BYTES - 1, count: 3, then: || None }), [2, 1]);
    }

    #[test]
    fn nothing_is_read_behind_an_error() {
        assert_eq!(batches(Given { len: 0, count: 3, then: || Some(Err(Error::Superseded)) }), [4]);
    }

    #[tokio::test]
    async fn a_panic_while_entries_are_read_is_told_to_who_takes_them() {
        let source = Given { len: 0, count: 300, then: || panic!("the device panics") };
        let mut entries = Entries::new(Handle::current(), source);
        let mut taken = 0;
        let task = tokio::spawn(async move {
            while let Some(Ok(_)) = entries.next().await {
                taken += 1;
                assert!(taken <= 300);
            }
        });
        assert!(task.await.unwrap_err().is_panic());
    }
}
