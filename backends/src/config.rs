//! How a log is opened.

use core::time::Duration;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use duralog_core::{Lsn, Policy, RecoveryOptions};
use uuid::Uuid;

use crate::{
    checksum,
    device::SharedDevice as _,
    environment::{Environment, System},
    error::Error,
    file::{Access, FileDevice, FileError, FileOptions},
    fs::StdFs,
};

/// When an append is on stable storage.
///
/// ```
/// use duralog::{Config, Durability, Log, SyncMode};
///
/// let dir = tempfile::tempdir()?;
/// // A receipt says what its entry has reached.
/// let log = Log::open(Config::new(dir.path()).with_sync_mode(SyncMode::Async))?;
/// assert_eq!(log.append(b"soon")?.durability, Durability::Buffered);
/// // Any call may ask for more than the mode gives.
/// assert_eq!(log.append_with(b"now", Durability::Durable)?.durability, Durability::Durable);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// When it returns: each append waits for a sync, which it shares with all that wait at the same time.
    Immediate,
    /// After at most this long: a background thread syncs what was appended. [`sync`](crate::Log::sync) does it now.
    Batched(Duration),
    /// When the operating system gets to it, at [`sync`](crate::Log::sync), where a segment ends, or before more bytes than
    /// the write limit are outstanding. A background thread hands over what was appended after
    /// [`write_behind`](Config::write_behind); until then it is in the program's memory.
    Async,
}

/// When the medium holds a proof that an entry was durable. With a proof, recovery tells damage to that entry, which is
/// never normal, from a torn tail, which is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// With the next write, when the log falls idle ([`idle_mark`](Config::idle_mark)) or is closed: it costs nothing. If
    /// the last entries before a crash are damaged, recovery cannot know that they were acknowledged: it cuts them off
    /// and says that they are `unproven`.
    #[default]
    WithNextWrite,
    /// Before it is acknowledged: after the sync that makes entries durable, a mark that says so is written and synced,
    /// unless the next write carries one. That is twice the time of an append where one thread appends, and less where
    /// many do. No acknowledged entry is ever `unproven`.
    BeforeAcknowledging,
}

impl Default for SyncMode {
    fn default() -> Self {
        Self::Batched(Duration::from_millis(100))
    }
}

/// How a log is opened. All values have usual defaults; [`Log::open`](crate::Log::open) says what does not fit, and makes
/// nothing then.
///
/// ```
/// use core::time::Duration;
/// use duralog::{Config, Log, SyncMode};
///
/// let dir = tempfile::tempdir()?;
/// let config = Config::new(dir.path())
///     .with_sync_mode(SyncMode::Batched(Duration::from_millis(20)))
///     .with_segment_size(4 << 20)
///     .with_checkpoint_retention(3);
/// let log = Log::open(config.clone())?;
/// log.append(b"any bytes")?;
/// log.close()?;
/// drop(log); // it holds the folder's lock
///
/// // Where the log has to be there already: a folder without one is an error, not a new log.
/// let log = Log::open(config.existing().with_full_check())?;
/// assert_eq!(log.recovery().entries_recovered, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder that the log is kept in: `./wal`.
    pub dir: PathBuf,
    /// Bytes of a new segment: 64 MiB. Existing ones keep their size. On files at least 5,562, at most 2 GiB; on other
    /// media the least depends on their granule, and the error names it.
    pub segment_size: u32,
    /// The most bytes that are ever written beyond the last sync, and that one batch may take: a quarter of a segment
    /// unless set. On files at least 288, at most a segment less 5,274; the error names both.
    pub write_limit: Option<u32>,
    /// When an append is on stable storage: after 100 ms at most.
    pub sync_mode: SyncMode,
    /// When the medium holds a proof that an entry was durable: with the next write.
    pub proof: Proof,
    /// How many checkpoints are kept, 1 to 8: 2.
    pub checkpoint_retention: usize,
    /// Whether room for a whole segment is taken from the file system at once: yes. In a directory the next segment is then made
    /// while one fills, and up to two that are removed keep their room for those to come, where there is room for eight more.
    pub preallocate_segments: bool,
    /// Whether a log is made where there is none: yes.
    pub create: bool,
    /// What recovery may do about damage.
    pub policy: Policy,
    /// Whether opening reads and verifies every entry, rather than the newest segment's only.
    pub full_check: bool,
    /// An LSN that the caller knows to have been durable: a log that lost it is not opened as if it had not.
    pub expect_durable: Option<Lsn>,
    /// The log that has to be there: another one is refused, and where there is none, none is made.
    pub expect_log_id: Option<Uuid>,
    /// After how long without an append a durable mark is written, so that recovery can prove how far the log was
    /// durable: a second. `None`: only the next write or the close carries it.
    pub idle_mark: Option<Duration>,
    /// In the mode [`SyncMode::Async`], after how long what was appended is handed to the operating system: 100 ms. From
    /// then on it survives the end of the process. `None`: only when the write limit, a reader or a sync asks for it.
    pub write_behind: Option<Duration>,
    /// The most transactions open at once, 1 to 16: 8.
    pub max_transactions: u8,
    /// Where time and random numbers come from.
    pub environment: Arc<dyn Environment>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("./wal"),
            segment_size: 64 << 20,
            write_limit: None,
            sync_mode: SyncMode::default(),
            proof: Proof::default(),
            checkpoint_retention: 2,
            preallocate_segments: true,
            create: true,
            policy: Policy::Default,
            full_check: false,
            expect_durable: None,
            expect_log_id: None,
            idle_mark: Some(Duration::from_secs(1)),
            write_behind: Some(Duration::from_millis(100)),
            max_transactions: 8,
            environment: Arc::new(System),
        }
    }
}

impl Config {
    /// The usual values, for a log in the folder `dir`.
    #[must_use]
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self { dir: dir.as_ref().to_owned(), ..Self::default() }
    }

    /// The same, with segments of this many bytes.
    #[must_use]
    pub fn with_segment_size(self, segment_size: u32) -> Self {
        Self { segment_size, ..self }
    }

    /// The same, with at most this many bytes written beyond the last sync.
    #[must_use]
    pub fn with_write_limit(self, write_limit: u32) -> Self {
        Self { write_limit: Some(write_limit), ..self }
    }

    /// The same, in this sync mode.
    #[must_use]
    pub fn with_sync_mode(self, sync_mode: SyncMode) -> Self {
        Self { sync_mode, ..self }
    }

    /// The same, proving so early that entries were durable.
    #[must_use]
    pub fn with_proof(self, proof: Proof) -> Self {
        Self { proof, ..self }
    }

    /// The same, keeping this many checkpoints.
    #[must_use]
    pub fn with_checkpoint_retention(self, checkpoint_retention: usize) -> Self {
        Self { checkpoint_retention, ..self }
    }

    /// The same, under this recovery policy.
    #[must_use]
    pub fn with_policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// The same, making no log where there is none.
    #[must_use]
    pub fn existing(self) -> Self {
        Self { create: false, ..self }
    }

    /// The same, reading and verifying every entry at opening.
    #[must_use]
    pub fn with_full_check(self) -> Self {
        Self { full_check: true, ..self }
    }

    /// The same, for a caller that knows this LSN to have been durable.
    #[must_use]
    pub fn with_expect_durable(self, lsn: Lsn) -> Self {
        Self { expect_durable: Some(lsn), ..self }
    }

    /// The same, for a caller that knows which log has to be there. None is made in its place.
    #[must_use]
    pub fn with_expect_log_id(self, id: Uuid) -> Self {
        Self { expect_log_id: Some(id), ..self }
    }

    /// The same, taking no room for a whole segment at once: a segment grows as it is written.
    #[must_use]
    pub fn without_preallocation(self) -> Self {
        Self { preallocate_segments: false, ..self }
    }

    /// The same, marking the log after so long without an append, or never by itself.
    #[must_use]
    pub fn with_idle_mark(self, idle_mark: impl Into<Option<Duration>>) -> Self {
        Self { idle_mark: idle_mark.into(), ..self }
    }

    /// The same, in the mode [`SyncMode::Async`] handing over to the operating system after so long, or only when it must.
    #[must_use]
    pub fn with_write_behind(self, write_behind: impl Into<Option<Duration>>) -> Self {
        Self { write_behind: write_behind.into(), ..self }
    }

    /// The same, with at most this many transactions open at once.
    #[must_use]
    pub fn with_max_transactions(self, max_transactions: u8) -> Self {
        Self { max_transactions, ..self }
    }

    /// The same, with time and random numbers from elsewhere.
    #[must_use]
    pub fn with_environment(self, environment: Arc<dyn Environment>) -> Self {
        Self { environment, ..self }
    }

    pub(crate) fn file_options(&self, access: Access) -> FileOptions {
        FileOptions {
            segment_size: self.segment_size,
            preallocate: self.preallocate_segments,
            access,
            create: self.create && self.expect_log_id.is_none(),
        }
    }

    /// What it means that the folder could not be opened.
    pub(crate) fn not_there(&self, error: FileError) -> Error {
        match (FileDevice::<StdFs>::opened(error), self.expect_log_id) {
            (Error::NotFound { path }, Some(expected)) => Error::Missing { path, expected },
            (error, _) => error,
        }
    }

    pub(crate) fn recovery_options(&self) -> RecoveryOptions {
        RecoveryOptions {
            policy: self.policy,
            expect_log: self.expect_log_id,
            expect_durable: self.expect_durable,
            checksum: checksum::update,
        }
    }
}
