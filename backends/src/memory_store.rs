//! A state and its log, kept together: append, durable, apply, answer.

use core::panic::AssertUnwindSafe;
use std::{
    panic::{catch_unwind, resume_unwind},
    sync::PoisonError,
};

use duralog_core::{CheckpointId, Lsn, operation::Operation};

use crate::{
    checkpoint::Rebuilt,
    config::Config,
    device::SharedDevice,
    documents::Documents,
    error::{Error, Result},
    file::FileDevice,
    log::{Log, Receipt, Stats},
    read::Entries,
    report::RecoveryReport,
    store::StateMachine,
    sync::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard},
};

/// A state in memory that survives: every change is in a [`Log`] before it is in the state.
///
/// Opening loads the newest valid checkpoint and applies the entries behind it. It may be shared between threads by
/// reference. Changes are applied in the order of their LSNs, however many threads make them; they share their syncs.
///
/// ```
/// use duralog::{Config, MemoryStore, Operation};
///
/// let dir = tempfile::tempdir()?;
/// let id = uuid::Uuid::new_v4();
/// let store: MemoryStore = MemoryStore::open(Config::new(dir.path()))?;
/// store.apply(Operation::insert(id, "the first document", vec![0.25, -1.0]))?;
/// store.close()?;
///
/// let store: MemoryStore = MemoryStore::open(Config::new(dir.path()))?;
/// assert_eq!(store.state().get(id).map(|document| document.content.as_str()), Some("the first document"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct MemoryStore<S = Documents, D: SharedDevice = FileDevice> {
    log: Log<D>,
    state: RwLock<S>,
    /// The last LSN that is in the state, or never will be: it is the turn of the next.
    turn: Mutex<Lsn>,
    turned: Condvar,
    rebuilt: Rebuilt,
    report: RecoveryReport,
}

/// What it means that the turn or the state is poisoned.
const PANICKED: &str = "a change panicked while it was made, so the state is not that of the log: open the store again";

/// Wakes whoever waits for their turn, when it is dropped: they are to look again whether it comes.
struct Wakes<'a, S: StateMachine, D: SharedDevice>(&'a MemoryStore<S, D>);

impl<S: StateMachine, D: SharedDevice> Drop for Wakes<'_, S, D> {
    fn drop(&mut self) {
        // Whoever has looked, and does not wait yet, holds the turn.
        drop(self.0.turn.lock());
        self.0.turned.notify_all();
    }
}

impl<S: StateMachine + Default> MemoryStore<S, FileDevice> {
    /// Opens the log in the folder that `config` names and builds the state up again.
    ///
    /// # Errors
    /// As [`Log::open`]; [`Error::StateLost`](crate::Error::StateLost) as [`Log::rebuild`]; damage between the checkpoint and
    /// the end of the log.
    pub fn open(config: Config) -> Result<Self> {
        Self::with_log(Log::open(config)?)
    }
}

impl<S: StateMachine + Default, D: SharedDevice> MemoryStore<S, D> {
    /// The store of a log that was opened.
    ///
    /// # Errors
    /// As [`open`](MemoryStore::open).
    pub fn with_log(mut log: Log<D>) -> Result<Self> {
        log.is_in_store = true;
        let mut state = S::default();
        let rebuilt = log.rebuild(&mut state)?;
        let turn = Mutex::new(log.current_lsn().previous());
        let mut report = log.recovery().clone();
        report.entries_replayed = rebuilt.entries_replayed;
        report.checkpoint_used = rebuilt.checkpoint_used;
        Ok(Self { log, state: RwLock::new(state), turn, turned: Condvar::new(), rebuilt, report })
    }
}

impl<S: StateMachine, D: SharedDevice> MemoryStore<S, D> {
    /// Logs a change, as durable as the log's mode says, and then makes it.
    ///
    /// # Errors
    /// As [`Log::append`]; the state is as it was then, but for [`Error::Unproven`], where the change is made.
    ///
    /// # Panics
    /// If a change panicked while it was made: the state is not that of the log any more, and the store is of no use.
    pub fn apply(&self, operation: Operation) -> Result<Receipt> {
        let operations = core::slice::from_ref(&operation);
        self.made(self.append(operations), operations)
    }

    /// Logs changes that a crash keeps all or not at all, and then makes them. None do nothing.
    ///
    /// # Errors
    /// As [`Log::append_batch`]; the state is as for [`apply`](Self::apply).
    ///
    /// # Panics
    /// As [`apply`](Self::apply).
    pub fn apply_batch(&self, operations: &[Operation]) -> Result<Option<Receipt>> {
        let appended = (!operations.is_empty()).then(|| self.made(self.append(operations), operations));
        appended.transpose()
    }

    fn append(&self, operations: &[Operation]) -> Result<Receipt> {
        let shared = &self.log.shared;
        shared.append(operations, None, shared.mode())
    }

    /// Makes the changes of an append that took them into the log.
    fn made(&self, appended: Result<Receipt>, operations: &[Operation]) -> Result<Receipt> {
        // Also where it failed, or a change panics: then their turn does not come.
        let _wakes = Wakes(self);
        let made = match &appended {
            Ok(receipt) => self.make(receipt.first, operations),
            // They are in the log all the same, and the error names the last.
            Err(Error::Unproven { lsn, .. }) => {
                let before = u64::try_from(operations.len()).unwrap_or(u64::MAX).saturating_sub(1);
                self.make(Lsn::new(lsn.value().saturating_sub(before)), operations)
            }
            Err(_) => Ok(()),
        };
        made.and(appended)
    }

    /// Makes changes that were logged from `first` on, when all before them are made.
    fn make(&self, first: Lsn, operations: &[Operation]) -> Result<()> {
        let mut turn = self.turn_of(first)?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for (lsn, operation) in (first.value()..).zip(operations) {
            state.apply(Lsn::new(lsn), operation);
            *turn = Lsn::new(lsn);
        }
        Ok(())
    }

    fn turn(&self) -> MutexGuard<'_, Lsn> {
        self.turn.lock().expect(PANICKED)
    }

    /// Waits until all before this LSN is made. That does not come where the log has failed before it was durable.
    fn turn_of(&self, lsn: Lsn) -> Result<MutexGuard<'_, Lsn>> {
        let mut turn = self.turn();
        loop {
            {
                let guard = self.log.shared.lock();
                if guard.writer.durable() < lsn {
                    guard.check()?;
                }
            }
            if turn.next_or_max() >= lsn {
                return Ok(turn);
            }
            turn = self.turned.wait(turn).expect(PANICKED);
        }
    }

    /// The state, for reading; no change is made while it is held, and a thread that holds it and makes one waits for ever.
    ///
    /// # Panics
    /// As [`apply`](Self::apply).
    pub fn state(&self) -> RwLockReadGuard<'_, S> {
        self.state.read().expect(PANICKED)
    }

    /// Writes a checkpoint of the state, from which the next opening begins. Changes go on meanwhile, but for the moment
    /// in which the state is [frozen](StateMachine::freeze).
    ///
    /// # Errors
    /// As [`Log::checkpoint`].
    ///
    /// # Panics
    /// As [`apply`](Self::apply).
    pub fn checkpoint(&self) -> Result<CheckpointId> {
        // Woken also if it fails: the turn of what follows its entry does not come then.
        let _wakes = Wakes(self);
        let (at, frozen) = {
            // All up to the turn is in the state and nothing behind it, whatever is on its way into the log: a place where
            // nothing is never comes where many make changes.
            let turn = self.turn();
            let at = self.log.checkpoint_behind(*turn)?;
            let frozen = catch_unwind(AssertUnwindSafe(|| self.state().freeze()));
            drop(turn);
            // What panics while the state is only read leaves it as it is.
            (at, frozen.unwrap_or_else(|panic| resume_unwind(panic)))
        };
        self.log.checkpoint_then(at, &frozen(), |lsn| {
            // The checkpoint's own entry changes nothing: it is the turn of what follows it.
            if let Ok(mut turn) = self.turn_of(lsn) {
                *turn = lsn;
            }
        })
    }

    /// The store's log: for entries' readers, [`wait_durable`](Log::wait_durable), the application slot,
    /// [`discard_before`](Log::discard_before), figures.
    ///
    /// What takes LSNs or takes entries off the end goes through the store alone, for else its state would not be that of the
    /// log: [`append`](Log::append), [`transaction`](Log::transaction), [`checkpoint`](Log::checkpoint),
    /// [`truncate_after`](Log::truncate_after) and [`reset_to`](Log::reset_to) are refused here with [`Error::InStore`].
    #[must_use]
    pub fn log(&self) -> &Log<D> {
        &self.log
    }

    /// See [`Log::truncate_before`].
    ///
    /// # Errors
    /// As there.
    pub fn truncate_before(&self, lsn: Lsn) -> Result<Lsn> {
        self.log.truncate_before(lsn)
    }

    /// See [`Log::sync`].
    ///
    /// # Errors
    /// As there.
    pub fn sync(&self) -> Result<Lsn> {
        self.log.sync()
    }

    /// See [`Log::read_from`].
    ///
    /// # Errors
    /// As there.
    pub fn read_from(&self, from: Lsn) -> Result<Entries<D>> {
        self.log.read_from(from)
    }

    /// What recovery found, the replay included.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    /// How the state was built up when the store was opened.
    #[must_use]
    pub fn rebuilt(&self) -> &Rebuilt {
        &self.rebuilt
    }

    /// See [`Log::synced_lsn`].
    #[must_use]
    pub fn synced_lsn(&self) -> Lsn {
        self.log.synced_lsn()
    }

    /// See [`Log::current_lsn`].
    #[must_use]
    pub fn current_lsn(&self) -> Lsn {
        self.log.current_lsn()
    }

    /// See [`Log::stats`].
    ///
    /// # Errors
    /// As there.
    pub fn stats(&self) -> Result<Stats> {
        self.log.stats()
    }

    /// See [`Log::close`].
    ///
    /// # Errors
    /// As there.
    pub fn close(&self) -> Result<()> {
        self.log.close()
    }
}
