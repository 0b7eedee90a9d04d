//! The log that is measured: the default configuration but for what the table names.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use duralog::{Config, Log, LogReader, Lsn, Snapshot, SyncMode};
use tempfile::TempDir;

use crate::Result;

/// Bytes of a frame besides its payload.
pub(crate) const FRAME: u64 = 33;

/// A condition that a log runs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It is checkpointed and truncated as it runs, and so recycles its segments.
    Steady,
    /// Every segment is new.
    Growing,
}

impl Condition {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Growing => "growing",
        }
    }
}

/// Bytes of a segment for a growing log whose block has to see four rotations: some thousand appends in each, at most the
/// usual size; a quick look makes do with fewer.
pub(crate) fn growing_segment(payload: usize, full: bool) -> u32 {
    let appends = if full { 2500 } else { 100 };
    u32::try_from((payload as u64 * appends).clamp(64 << 10, 64 << 20)).expect("at most 64 MiB")
}

/// A log in a folder of its own.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) log: Log,
    config: Config,
    /// Where the log ended when it was last counted.
    counted: Lsn,
    /// Bytes appended since the last checkpoint.
    since: AtomicU64,
    condition: Condition,
    _dir: TempDir,
}

impl Subject {
    pub(crate) fn new(dir: &Path, mode: SyncMode, segment_size: u32) -> Result<Self> {
        let dir = tempfile::tempdir_in(dir)?;
        let config = Config::new(log_dir(dir.path())).with_sync_mode(mode).with_segment_size(segment_size);
        let log = Log::open(config.clone())?;
        Ok(Self { log, config, counted: Lsn::ZERO, since: AtomicU64::new(0), condition: Condition::Growing, _dir: dir })
    }

    /// A log that has gone round already: the segment it writes to had another life.
    pub(crate) fn steady(dir: &Path, mode: SyncMode, segment_size: u32) -> Result<Self> {
        let mut subject = Self::new(dir, mode, segment_size)?;
        let piece = vec![1; (segment_size as usize / 64).min(1 << 20)];
        for _ in 0..64 * 4 {
            subject.log.append_with(&piece[..], duralog::Durability::Os)?;
            subject.passed(piece.len() as u64)?;
        }
        subject.condition = Condition::Steady;
        subject.log.sync()?;
        subject.count()?;
        Ok(subject)
    }

    pub(crate) fn is_steady(&self) -> bool {
        self.condition == Condition::Steady
    }

    /// So many bytes were appended: a checkpoint and a truncation once they are a segment.
    pub(crate) fn passed(&self, bytes: u64) -> Result<()> {
        let size = u64::from(self.config.segment_size);
        let before = self.since.fetch_add(bytes, Ordering::Relaxed);
        if before < size && before + bytes >= size {
            let at = self.log.checkpoint_at();
            self.log.checkpoint(at, &Snapshot::default())?;
            self.log.truncate_before(at.lsn())?;
            self.since.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reads the log from the medium as it is now: every entry kept has to be there, and the last one appended.
    pub(crate) fn count(&mut self) -> Result<()> {
        let last = self.log.synced_lsn();
        let reader = LogReader::open(self.config.clone())?;
        let found = reader.recovery().last_valid_lsn;
        let low = reader.recovery().low_water;
        let from = self.counted.next_or_max().max(low);
        let count = reader.read(from, Lsn::MAX)?.try_fold(0, |count, entry| entry.map(|_| count + 1))?;
        if found < last || count != (found.value() + 1).saturating_sub(from.value()) {
            return Err(format!("{count} entries from {from} to {found}, and {last} was durable").into());
        }
        self.counted = last;
        Ok(())
    }

    /// Closes the log, opens it again and counts what it holds.
    pub(crate) fn reopen_and_count(self, appended: u64) -> Result<()> {
        self.log.close()?;
        drop(self.log);
        let log = Log::open(self.config)?;
        let count = log.read_from(Lsn::ZERO)?.try_fold(0, |count, entry| entry.map(|_| count + 1))?;
        if count == appended { Ok(()) } else { Err(format!("{count} entries of {appended}").into()) }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }
}

fn log_dir(dir: &Path) -> PathBuf {
    dir.join("log")
}
