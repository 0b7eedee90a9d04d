//! Checkpoints: an application's state written beside the log, and the state built up again from one.
//!
//! ```text
//! make durable up to c ──► write the checkpoint under its own name, sync ──► append its entry ──► remove what is old
//! ```

use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use duralog_core::{
    Action, CheckpointId, Device, Durability, Entry as Borrowed, Error as DriveError, Fault, Finding, Flow, Geometry,
    Host, JudgeLoss, Lsn, Object, OldWriter, Policy, PutCheckpoint, ReadCheckpoint, Reading, Replay, Retention, Retire,
    Room, View,
    checkpoint::{CheckpointError, CheckpointHead, CheckpointHeader, Section, decode_metadata, encode_metadata},
    drive,
    operation::Operation,
};
use uuid::Uuid;

use crate::{
    checksum,
    commit::{Seen, Shared},
    device::SharedDevice,
    error::{Error, Result},
    log::Log,
    read::{DamageHook, Entries, scratch},
    store::{Snapshot, StateMachine},
    sync::{Mutex, MutexGuard},
    verify::{Changes, Sighting},
};

/// A place in the log at which a snapshot is taken: everything up to it is in the snapshot, nothing behind.
///
/// It is of use to the handle that gave it, until that cuts the log's end off or resets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointAt {
    lsn: Lsn,
    floor: Lsn,
    epoch: u64,
    history: History,
}

/// What a handle appends to: another one for each handle, and after each cut and reset, for then LSNs mean other entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct History(usize);

impl History {
    /// One that there was not before in this process.
    pub(crate) fn begin() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl CheckpointAt {
    /// The LSN of the last entry that the snapshot contains; of a transaction it contains what was committed.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }
}

/// How a state was built up again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rebuilt {
    /// The checkpoint that was loaded, and its LSN.
    pub checkpoint_used: Option<(CheckpointId, Lsn)>,
    /// Newer checkpoints that were passed over, and what is wrong with them.
    pub checkpoints_rejected: Vec<(CheckpointId, String)>,
    /// Entries applied behind it.
    pub entries_replayed: u64,
    /// Entries that could not be decoded, by a policy that skips damage.
    pub undecodable: Vec<Lsn>,
    /// What was found on the way and skipped.
    pub findings: Vec<Finding>,
}

impl<D: SharedDevice> Log<D> {
    /// The end of the log as it is now, for a snapshot that contains exactly what was appended before.
    ///
    /// Take it while nothing is between its append and its being applied, so that log and state agree.
    #[must_use]
    pub fn checkpoint_at(&self) -> CheckpointAt {
        let guard = self.shared.lock();
        CheckpointAt {
            lsn: guard.writer.next_lsn().previous(),
            floor: guard.writer.replay_floor(),
            epoch: guard.writer.epoch(),
            history: guard.history,
        }
    }

    /// The place behind `lsn`, for a snapshot that contains what counts up to there and nothing of what was appended since.
    pub(crate) fn checkpoint_behind(&self, lsn: Lsn) -> Result<CheckpointAt> {
        self.shared.lock().check()?;
        let end = self.checkpoint_at();
        if lsn > end.lsn {
            return Err(Error::StalePlace { lsn });
        }
        Ok(CheckpointAt { lsn, floor: end.floor.min(lsn.next_or_max()), ..end })
    }

    /// Writes a checkpoint: `snapshot` is the state at the place `at`. When this returns, it is durable, recovery
    /// begins from it, and of older ones as many are kept as the configuration says. Where a checkpoint of a later place
    /// was made meanwhile, that one does, and its id is given.
    ///
    /// Appends go on meanwhile; other checkpoints, cuts and resets wait. The first checkpoint that a handle makes reads
    /// those that were there before: one that a crash left half written is removed.
    ///
    /// # Errors
    /// [`Error::StalePlace`]: the log was cut or reset since the place was taken, or another handle gave it.
    /// [`Error::NoSpace`]: no checkpoint was made, and the log goes on. [`Error::Unproven`]: it was, as for an append.
    /// [`Error::Poisoned`], [`Error::Device`], [`Error::Closed`].
    pub fn checkpoint(&self, at: CheckpointAt, snapshot: &Snapshot) -> Result<CheckpointId> {
        self.is_free()?;
        self.checkpoint_then(at, snapshot, |_| {})
    }

    /// [`checkpoint`](Self::checkpoint), telling the LSN of the checkpoint's entry as soon as that is durable.
    pub(crate) fn checkpoint_then(
        &self,
        at: CheckpointAt,
        snapshot: &Snapshot,
        appended: impl FnOnce(Lsn),
    ) -> Result<CheckpointId> {
        let shared = &*self.shared;
        let _one = shared.settle()?;
        let guard = shared.lock();
        if at.history != guard.history {
            return Err(Error::StalePlace { lsn: at.lsn });
        }
        match shared.wait(guard, at.lsn, Durability::Durable) {
            // Durable they are, and the checkpoint's entry is to prove it.
            Err(Error::Unproven { .. }) => {}
            waited => drop(waited?),
        }
        let checked = shared.check_checkpoints();
        // Older than what truncation may have relied on: that one does.
        let newest = shared.lock().checkpoints.newest_relied_on().copied();
        match (newest.filter(|newest| newest.lsn > at.lsn), checked) {
            (Some(_), Err(error)) => return Err(error),
            (Some(newest), Ok(())) => return Ok(newest.id),
            (None, Err(error)) => tracing::warn!(%error, "earlier checkpoints could not be read, and are kept"),
            (None, Ok(())) => {}
        }
        self.write_checkpoint(at, snapshot, appended)
    }

    fn write_checkpoint(
        &self,
        at: CheckpointAt,
        snapshot: &Snapshot,
        appended: impl FnOnce(Lsn),
    ) -> Result<CheckpointId> {
        let shared = &*self.shared;
        let mut guard = shared.lock();
        let id = guard.highest_checkpoint.value().checked_add(1).ok_or(Error::Exhausted)?;
        let id = CheckpointId::new(id);
        guard.highest_checkpoint = id;
        let log = guard.writer.log();
        drop(guard);
        let source = Source::new(snapshot)?;
        let header = CheckpointHeader {
            log,
            epoch: at.epoch,
            id,
            lsn: at.lsn,
            floor: at.floor,
            created_at: shared.environment.now_us() / 1_000_000,
            documents: count(snapshot.document_ids.len())?,
            chunks: count(snapshot.chunk_ids.len())?,
            metadata_len: count(source.metadata.len())?,
        };
        self.put(header, source)?;
        let staged = shared.stage(shared.lock(), |writer, buf, now| writer.stage_checkpoint(buf, now, at.lsn, id));
        let named = staged.and_then(|(guard, lsn)| match shared.wait(guard, lsn, Durability::Durable) {
            // It is durable all the same.
            Err(error @ Error::Unproven { .. }) => Ok((lsn, Err(error))),
            waited => waited.map(|_| (lsn, Ok(id))),
        });
        if let Err(Error::NoSpace(_) | Error::Exhausted) = named {
            self.forget(header)?;
        }
        let (lsn, proved) = named?;
        appended(lsn);
        tracing::info!(id = id.value(), lsn = at.lsn.value(), "checkpoint");
        let mut guard = shared.lock();
        let oldest = guard.checkpoints.keep(header.head(), lsn, shared.checkpoint_retention);
        drop(guard);
        self.say_cover(at.floor);
        self.tidy_up(Retention { checkpoints_from: oldest, evidence: true, unsaid: None });
        proved
    }

    /// The entry of this checkpoint was refused: a crash must not bring it back, and find no checkpoint; nor the checkpoint,
    /// behind a cut that nobody then warns of.
    fn forget(&self, header: CheckpointHeader) -> Result<()> {
        let shared = &*self.shared;
        let is_gone = shared.erase_refused_write()? && shared.remove_unfinished(header.id);
        if !is_gone {
            shared.lock().checkpoints.left(header.head());
        }
        shared.sync_beside()
    }

    /// A checkpoint with this replay floor is there: says that it holds what was given up without one, if that is so. Where it
    /// cannot be said, the next checkpoint does.
    fn say_cover(&self, floor: Lsn) {
        let shared = &*self.shared;
        let guard = shared.lock();
        if !guard.writer.cover_due(floor) {
            return;
        }
        let staged = shared.stage(guard, |writer, buf, now| writer.stage_cover(buf, now, floor));
        if let Err(error) = staged.and_then(|(guard, ())| shared.commit(guard)) {
            tracing::warn!(%error, "that a checkpoint holds what was given up could not be said");
        }
    }

    /// Writes the checkpoint's bytes. A sync that fails on the way is a failure of the log too.
    fn put(&self, header: CheckpointHeader, mut source: Source<'_>) -> Result<()> {
        let shared = &*self.shared;
        let machine = PutCheckpoint::new(checksum::update, header, shared.options.geometry);
        let mut buf = scratch(shared.options.geometry);
        let put = drive(machine, &mut Turns::new(&shared.device), &mut buf, &mut source);
        let Err(error) = put else { return Ok(()) };
        if shared.is_closed_to(&error) {
            return Err(Error::Closed);
        }
        let refused = error.device_kind() == Some(duralog_core::ErrorKind::NoSpace)
            && !matches!(error, duralog_core::Error::Device { action: Action::Sync, .. });
        if refused {
            shared.remove_unfinished(header.id);
            return Err(error.into());
        }
        Err(shared.poisoned_by(error.into()))
    }

    /// [`retire`](Self::retire), where what counts is durable already: what could not be removed only takes room.
    pub(crate) fn tidy_up(&self, retention: Retention) {
        if let Err(error) = self.retire(&self.shared.removing(), retention) {
            tracing::warn!(%error, "what the log no longer needs could not be removed");
        }
    }

    /// Removes what lies below the low-water mark, and what `retention` says; nobody else removes meanwhile.
    pub(crate) fn retire(&self, _removing: &Removing<'_>, retention: Retention) -> Result<()> {
        let shared = &*self.shared;
        let view = shared.lock().writer.view();
        let mut buf = scratch(shared.options.geometry);
        let mut retire = Retire::new(view, retention);
        let retired = drive(&mut retire, &mut Turns::new(&shared.device), &mut buf, &mut ());
        shared.lock().writer.retired(&retire);
        retired.map_err(|error| shared.failed_beside(error))?;
        let mut guard = shared.lock();
        tracing::info!(oldest = retire.oldest().value(), "removed what the log no longer needs");
        if retention.evidence {
            guard.writer.evidence_removed();
        }
        Ok(())
    }

    /// Builds a state up again: loads the newest valid checkpoint and applies what counts after it.
    ///
    /// # Errors
    /// [`Error::StateLost`] if what was given up at the log's front is held by no valid checkpoint; by a policy that skips damage
    /// that is a finding of [`Rebuilt`]. Where the log names no checkpoint, and it was
    /// [`discard_before`](Self::discard_before) or [`reset_to`](Self::reset_to) that gave it up, the state is kept elsewhere, and
    /// what is left is applied. What reading the log gives.
    pub fn rebuild<S: StateMachine>(&self, state: &mut S) -> Result<Rebuilt> {
        self.rebuilding()?.run(state)
    }

    /// What a state is built up from again: the log as it stands now.
    pub(crate) fn rebuilding(&self) -> Result<Rebuilding<D>> {
        // Of one history: the checkpoints of another hold nothing of what the view shows.
        let (seen, heads) = loop {
            let seen = self.shared.written_view()?;
            let guard = self.shared.lock();
            if guard.history == seen.history {
                break (seen, guard.checkpoints.heads().copied().collect());
            }
        };
        let device = self.shared.reader()?;
        let (view, policy) = (seen.view.clone(), self.report.policy);
        let newer = self.shared.newer_checkpoints(seen.history);
        Ok(Rebuilding { device, view, heads, policy, newer, hook: self.shared.damage_hook(seen) })
    }
}

/// A state that is about to be built up again. It holds nothing that keeps the log open.
pub(crate) struct Rebuilding<D> {
    device: D,
    view: View,
    heads: Vec<CheckpointHead>,
    policy: Policy,
    newer: NewerCheckpoints,
    hook: DamageHook,
}

/// Gives the checkpoints that are there now, if they are others than these, where an error may come of that.
type NewerCheckpoints = Box<dyn Fn(&Error, &[CheckpointHead]) -> Option<Vec<CheckpointHead>> + Send>;

impl<D: SharedDevice> Rebuilding<D> {
    pub(crate) fn run<S: StateMachine>(self, state: &mut S) -> Result<Rebuilt> {
        let Self { mut device, view, mut heads, policy, newer, hook } = self;
        loop {
            let rebuilt = rebuild(&mut device, &view, &heads, policy, state);
            match rebuilt.as_ref().err().and_then(|error| newer(error, &heads)) {
                // Nothing was loaded, nor applied.
                Some(newer) => heads = newer,
                None => return rebuilt.map_err(hook),
            }
        }
    }
}

pub(crate) fn count(len: usize) -> Result<u32> {
    u32::try_from(len).map_err(|_| Error::Checkpoint(CheckpointError::TooLarge))
}

impl Rebuilt {
    /// Takes note of what loading a checkpoint came to: whether it is the one to go on from.
    pub(crate) fn takes(&mut self, head: &CheckpointHead, loaded: core::result::Result<(), String>) -> bool {
        match loaded {
            Ok(()) => self.checkpoint_used = Some((head.id, head.lsn)),
            Err(error) => self.checkpoints_rejected.push((head.id, error)),
        }
        self.checkpoint_used.is_some()
    }

    /// What was given up at the log's front is lost: that is an error, or by a policy that skips damage a finding.
    pub(crate) fn lacks_state(&mut self, view: &View, policy: Policy) -> Result<()> {
        if !policy.skips_damage() {
            let rejected = self.checkpoints_rejected.as_slice().into();
            return Err(Error::StateLost { low_water: view.low_water(), rejected });
        }
        // Once, whichever checkpoint lacks it.
        if self.findings.is_empty() {
            self.findings.push(view.state_lost(None));
        }
        Ok(())
    }

    /// The first LSN behind the checkpoint that was loaded, or of all, where there was none.
    pub(crate) fn behind_checkpoint(&self) -> Lsn {
        self.checkpoint_used.map_or(Lsn::FIRST, |(_, lsn)| lsn.next_or_max())
    }
}

/// Loads the newest valid checkpoint of `heads`, newest first, and applies what counts after it.
pub(crate) fn rebuild<D: SharedDevice, S: StateMachine>(
    device: &mut D,
    view: &View,
    heads: &[CheckpointHead],
    policy: Policy,
    state: &mut S,
) -> Result<Rebuilt> {
    let mut rebuilt = Rebuilt::default();
    let mut buf = scratch(device.geometry());
    for head in heads {
        // An older one goes less far still.
        if view.lacks_state(head) {
            rebuilt.lacks_state(view, policy)?;
        }
        let loaded = match load(device, view.log(), head.id, &mut buf) {
            Ok(Ok(snapshot)) => state.load(&snapshot).map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            // An older one may do.
            Err(error) if error.is_unreadable() => Err(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        if rebuilt.takes(head, loaded) {
            break;
        }
    }
    if rebuilt.checkpoint_used.is_none() && drive(JudgeLoss::new(view.clone()), device, &mut buf, &mut ())? {
        rebuilt.lacks_state(view, policy)?;
    }
    let replay = Replay::new(view.clone(), rebuilt.behind_checkpoint().max(view.low_water()), policy);
    let apply = &mut |lsn, operation: &_| state.apply(lsn, operation);
    let mut applier = Applier { apply, rebuilt: &mut rebuilt, policy, failed: None };
    let replayed = duralog_core::drive_until_pause(&mut { replay }, device, &mut buf, &mut applier);
    if let Some(error) = applier.failed {
        return Err(error);
    }
    if let Err(error) = replayed {
        match ends_at(policy, &error) {
            Some(finding) => rebuilt.findings.push(finding),
            None => return Err(error.into()),
        }
    }
    Ok(rebuilt)
}

/// The damage before which a policy ends the log: what was built up is the state there.
pub(crate) fn ends_at<E>(policy: Policy, error: &DriveError<E>) -> Option<Finding> {
    match error {
        DriveError::Fault(Fault::Damaged(finding)) if policy == Policy::PointInTime => Some(*finding),
        _ => None,
    }
}

/// Reads one checkpoint, once: what it holds is shown to nobody before its end has proved it valid.
fn load<D: SharedDevice>(
    device: &mut D,
    log: Uuid,
    id: CheckpointId,
    buf: &mut Vec<u8>,
) -> Result<Result<Snapshot, CheckpointError>, DriveError<D::Error>> {
    let mut parts = Parts::default();
    let read = ReadCheckpoint::new(checksum::update, log, id, Reading::HandOut);
    Ok(drive(read, device, buf, &mut parts)?.and_then(|_| parts.snapshot()))
}

/// Collects the parts of a checkpoint.
#[derive(Default)]
pub(crate) struct Parts {
    documents: Vec<u8>,
    chunks: Vec<u8>,
    metadata: Vec<u8>,
    bytes: Vec<u8>,
}

impl Host for Parts {
    fn piece(&mut self, section: Section, bytes: &[u8]) {
        match section {
            Section::DocumentIds => self.documents.extend_from_slice(bytes),
            Section::ChunkIds => self.chunks.extend_from_slice(bytes),
            Section::Metadata => self.metadata.extend_from_slice(bytes),
            Section::Block => self.bytes.extend_from_slice(bytes),
            _ => {}
        }
    }
}

impl Parts {
    pub(crate) fn snapshot(self) -> Result<Snapshot, CheckpointError> {
        let ids = |bytes: &[u8]| bytes.chunks_exact(16).filter_map(|id| Uuid::from_slice(id).ok()).collect();
        Ok(Snapshot {
            document_ids: ids(&self.documents),
            chunk_ids: ids(&self.chunks),
            metadata: decode_metadata(&self.metadata)?,
            bytes: self.bytes,
        })
    }
}

/// Applies entries to a state.
pub(crate) struct Applier<'a> {
    pub(crate) apply: &'a mut dyn FnMut(Lsn, &Operation),
    pub(crate) rebuilt: &'a mut Rebuilt,
    pub(crate) policy: Policy,
    pub(crate) failed: Option<Error>,
}

impl Host for Applier<'_> {
    fn entry(&mut self, entry: Borrowed<'_>) -> Flow {
        match Operation::decode(entry.kind.code(), entry.transaction, entry.payload) {
            Ok(operation) => {
                (self.apply)(entry.lsn, &operation);
                self.rebuilt.entries_replayed += 1;
                Flow::Continue
            }
            // Sound by its checksums: the boundary is good, and what is behind it can be read.
            Err(_) if self.policy.skips_damage() => {
                self.rebuilt.undecodable.push(entry.lsn);
                Flow::Continue
            }
            Err(error) => {
                self.failed = Some(Error::Undecodable { lsn: entry.lsn, error });
                Flow::Pause
            }
        }
    }

    fn finding(&mut self, finding: &Finding) {
        self.rebuilt.findings.push(*finding);
    }
}

/// Gives out the bytes of a snapshot.
pub(crate) struct Source<'a> {
    snapshot: &'a Snapshot,
    metadata: Vec<u8>,
    /// How many bytes were given out.
    at: usize,
}

impl<'a> Source<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot) -> Result<Self> {
        let metadata = encode_metadata(&snapshot.metadata).map_err(Error::Checkpoint)?;
        Ok(Self { snapshot, metadata, at: 0 })
    }

    /// Bytes of the encoded metadata.
    pub(crate) fn metadata_len(&self) -> usize {
        self.metadata.len()
    }
}

impl Host for Source<'_> {
    fn fill(&mut self, buf: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < buf.len() {
            let next = self.next_part();
            let len = next.len().min(buf.len() - filled);
            if len == 0 {
                break;
            }
            buf[filled..filled + len].copy_from_slice(&next[..len]);
            self.at += len;
            filled += len;
        }
        filled
    }
}

impl Source<'_> {
    /// What comes next, in one piece.
    fn next_part(&self) -> &[u8] {
        let mut at = self.at;
        for ids in [&self.snapshot.document_ids, &self.snapshot.chunk_ids] {
            if at < ids.len() * 16 {
                return &ids[at / 16].as_bytes()[at % 16..];
            }
            at -= ids.len() * 16;
        }
        if at < self.metadata.len() {
            return &self.metadata[at..];
        }
        &self.snapshot.bytes[at - self.metadata.len()..]
    }
}

/// A device that is shared call by call: whoever writes a checkpoint lets appends in between.
pub(crate) struct Turns<'a, D> {
    device: &'a Mutex<D>,
    catches_up: Option<Box<dyn Fn() + Send>>,
}

impl<'a, D: SharedDevice> Turns<'a, D> {
    pub(crate) fn new(device: &'a Mutex<D>) -> Self {
        let catches_up = device.lock().unwrap_or_else(PoisonError::into_inner).catches_up();
        Self { device, catches_up }
    }
}

impl<D: Device> Turns<'_, D> {
    /// Before the next append comes to the device, which else would wait for as much as the medium takes in at once.
    fn catch_up(&self) {
        self.catches_up.iter().for_each(|catch_up| catch_up());
    }

    fn with<T>(&self, call: impl FnOnce(&mut D) -> T) -> T {
        call(&mut self.device.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<D: Device> Device for Turns<'_, D> {
    type Error = D::Error;

    fn geometry(&self) -> Geometry {
        self.with(|device| device.geometry())
    }

    fn old_writer(&self) -> OldWriter {
        self.with(|device| device.old_writer())
    }

    fn reaches(&self, asked: Durability) -> Durability {
        self.with(|device| device.reaches(asked))
    }

    fn free(&self) -> Option<u32> {
        self.with(|device| device.free())
    }

    fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, D::Error> {
        self.with(|device| device.next(after))
    }

    fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, D::Error> {
        self.with(|device| device.prev(before))
    }

    fn create(&mut self, object: Object, size: u64) -> Result<Room, D::Error> {
        self.with(|device| device.create(object, size))
    }

    fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, D::Error> {
        self.with(|device| device.read(object, at, buf))
    }

    fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), D::Error> {
        let written = self.with(|device| device.write(object, at, bytes));
        self.catch_up();
        written
    }

    fn trim(&mut self, object: Object, at: u64) -> Result<(), D::Error> {
        self.with(|device| device.trim(object, at))
    }

    fn remove(&mut self, object: Object) -> Result<(), D::Error> {
        let removed = self.with(|device| device.remove(object));
        self.catch_up();
        removed
    }

    fn sync(&mut self) -> Result<(), D::Error> {
        self.with(Device::sync)
    }
}

/// What counts, in the order in which it does: entries by themselves, and those of transactions where they are
/// committed.
impl<D: SharedDevice> Log<D> {
    /// Reads what counts from `from` on; see [`read_from`](Self::read_from) for the entries as they stand.
    ///
    /// # Errors
    /// As [`read_from`](Self::read_from).
    pub fn replay_from(&self, from: Lsn) -> Result<Entries<D>> {
        let seen = self.shared.written_view()?;
        let from = from.max(seen.view.low_water());
        let entries = Entries::of(self.shared.reader()?, Replay::new(seen.view.clone(), from, self.report.policy));
        Ok(entries.with_damage_hook(self.shared.damage_hook(seen)))
    }
}

impl<D: SharedDevice> Shared<D> {
    /// Stops writing when a reader that saw this meets damage.
    pub(crate) fn damage_hook(self: &Arc<Self>, seen: Seen) -> DamageHook {
        let shared = Arc::downgrade(self);
        Box::new(move |error| match shared.upgrade() {
            Some(shared) => shared.met(&seen, error),
            None => error,
        })
    }

    /// See [`NewerCheckpoints`]: a newer one has taken the place of the one that was to be loaded; or one was being made, and its
    /// entry could be read before anybody knew of it.
    fn newer_checkpoints(self: &Arc<Self>, history: History) -> NewerCheckpoints {
        let shared = Arc::downgrade(self);
        Box::new(move |error, heads| {
            let may_be =
                matches!(error, Error::StateLost { .. } | Error::Device { object: Some(Object::Checkpoint(_)), .. });
            let shared = shared.upgrade().filter(|_| may_be)?;
            let mut guard = shared.lock();
            while guard.checkpointing {
                guard = shared.wait_for_leader(guard);
            }
            // Of another history, they hold nothing of what was read.
            let is_other = guard.history == history && !guard.checkpoints.heads().eq(heads);
            is_other.then(|| guard.checkpoints.heads().copied().collect())
        })
    }

    /// What a reader's error comes to. A segment that truncation, a cut or a reset has given up since the reader began is
    /// no damage; damage stops writing, unless a checkpoint holds what is gone: then truncation heals it.
    pub(crate) fn met(&self, seen: &Seen, error: Error) -> Error {
        if let Some(overtaken) = self.overtaken(seen, &error) {
            return overtaken;
        }
        // Once it is closed, another may write.
        let closed = Some(self.lock()).filter(|guard| guard.closed).map(|guard| guard.writer.epoch());
        if let (Some(epoch), Some(_), Ok(mut device)) = (closed, error.place(), self.reader())
            && Sighting::by(&seen.view, epoch).has_changed(&mut device, Changes::Entries)
        {
            return Error::Superseded;
        }
        // A checkpoint that is written now would make the loss of the state before it final.
        let is_lost = matches!(error, Error::StateLost { .. }) && seen.view.is_covered();
        if is_lost || error.finding().is_some_and(|finding| !self.is_held(finding)) {
            self.poisoned_by(error.clone());
        }
        error
    }

    /// What has given up the segment of a reader's error since the reader began, if anything has.
    fn overtaken(&self, seen: &Seen, error: &Error) -> Option<Error> {
        let (object, _) = error.place()?;
        // What is being removed at this moment has not been given up by everyone's account before it is removed.
        let _removed = self.removing();
        let guard = self.lock();
        if guard.history != seen.history {
            return Some(Error::Superseded);
        }
        let view = guard.writer.view();
        view.has_given_up(&seen.view, object).then_some(Error::Truncated { low_water: view.low_water() })
    }

    /// Whether a checkpoint that may be relied on holds all that is gone by this damage.
    fn is_held(&self, finding: &Finding) -> bool {
        let held = || self.lock().checkpoints.hold(finding);
        held() && self.check_checkpoints().is_ok() && held()
    }

    /// Nobody else removes segments, by truncation, a cut or a reset, until the answer is dropped.
    pub(crate) fn removing(&self) -> Removing<'_> {
        self.removing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The LSN below which nothing is needed, by the oldest checkpoint kept. Those that were there when the log was opened
    /// are read first: what is not valid, or not named by the log, keeps nothing.
    pub(crate) fn safe_floor(&self) -> Result<Option<Lsn>> {
        self.check_checkpoints()?;
        Ok(self.lock().checkpoints.safe_floor())
    }

    /// Reads the checkpoints that were there when the log was opened, once: what is not valid, or not named by the log,
    /// keeps nothing from then on. What is neither was never finished, and is removed.
    pub(crate) fn check_checkpoints(&self) -> Result<()> {
        let unfinished = loop {
            let guard = self.lock();
            let seen = Seen { view: guard.writer.view(), history: guard.history };
            let Some(machine) = guard.checkpoints.judge(seen.view.clone()) else { return Ok(()) };
            drop(guard);
            let judged = drive(machine, &mut self.reader()?, &mut scratch(self.options.geometry), &mut ());
            let judged = match judged.map_err(Error::from) {
                Err(error) if self.overtaken(&seen, &error).is_some() => continue,
                judged => judged?,
            };
            let mut guard = self.lock();
            // What a cut took away names nothing any more.
            if guard.history != seen.history {
                continue;
            }
            let covered = guard.writer.view().is_covered();
            let unfinished = guard.checkpoints.judged(&judged, covered);
            if guard.check().is_err() {
                return Ok(());
            }
            break unfinished;
        };
        for id in unfinished {
            self.remove_unfinished(id);
        }
        Ok(())
    }

    /// Makes durable what was removed or given back beside the appends.
    pub(crate) fn sync_beside(&self) -> Result<()> {
        let synced = self.device.lock().unwrap_or_else(PoisonError::into_inner).sync();
        synced.map_err(|error| {
            self.failed_beside(duralog_core::Error::Device { action: Action::Sync, object: None, error })
        })
    }

    /// What the failure of a step beside the appends comes to: a sync that failed stops writing, as any does.
    pub(crate) fn failed_beside(&self, error: duralog_core::Error<D::Error>) -> Error {
        match error {
            // Whoever closed it gave up the right to write.
            error if self.is_closed_to(&error) => Error::Closed,
            duralog_core::Error::Device { action: Action::Sync, .. } => self.poisoned_by(error.into()),
            error => error.into(),
        }
    }

    /// Whether the device refuses because the log was closed meanwhile.
    fn is_closed_to(&self, error: &duralog_core::Error<D::Error>) -> bool {
        error.device_kind() == Some(duralog_core::ErrorKind::ReadOnly) && self.lock().closed
    }

    fn poisoned_by(&self, error: Error) -> Error {
        let mut guard = self.lock();
        let error = guard.poison(error);
        self.wake_all(&mut guard);
        error
    }

    /// Removes a checkpoint that was not finished: it takes room and says nothing. Tells whether it is gone.
    fn remove_unfinished(&self, id: CheckpointId) -> bool {
        let removed = Device::remove(&mut Turns::new(&self.device), Object::Checkpoint(id));
        if let Err(error) = &removed {
            tracing::warn!(%error, "an unfinished checkpoint could not be removed");
        }
        removed.is_ok()
    }

    /// Waits until no checkpoint is written and the log's history is not changed, and holds both off until the answer is
    /// dropped: a cut must not go through what a checkpoint is about to contain.
    pub(crate) fn settle(&self) -> Result<Settled<'_, D>> {
        let mut guard = self.lock();
        while guard.checkpointing {
            guard = self.wait_for_leader(guard);
        }
        guard.check()?;
        guard.checkpointing = true;
        Ok(Settled(self))
    }
}

/// See [`Shared::removing`].
pub(crate) type Removing<'a> = MutexGuard<'a, ()>;

/// Nobody else writes a checkpoint or changes the log's history.
pub(crate) struct Settled<'a, D: SharedDevice>(&'a Shared<D>);

impl<D: SharedDevice> Drop for Settled<'_, D> {
    fn drop(&mut self) {
        self.0.lock().checkpointing = false;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use duralog_core::Action;

    use crate::{Config, Error, Log, file::FileError};

    #[test]
    fn who_removes_while_another_thread_closes_the_log_is_told_that_it_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(Config::new(dir.path())).unwrap();
        let refused = || {
            let error = FileError::ReadOnly { path: dir.path().to_owned() };
            log.shared.failed_beside(duralog_core::Error::Device { action: Action::Remove, object: None, error })
        };
        assert!(matches!(refused(), Error::Device { .. }));
        log.close().unwrap();
        assert!(matches!(refused(), Error::Closed));
    }
}
