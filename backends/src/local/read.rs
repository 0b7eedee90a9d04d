//! Reading: entries page by page, a state built up again, every entry verified.

use core::{cell::RefCell, fmt};
use std::rc::Rc;

use duralog_core::{
    CheckpointId, Crossing, Error as DriveError, Host, JudgeLoss, Lsn, Machine, Object, Policy, ReadCheckpoint, Reader,
    Reading, Recovered, Recovery, RecoveryOptions, Replay, ReverseReader, View, Writer,
    checkpoint::{CheckpointError, CheckpointHead},
};
use uuid::Uuid;

use super::{
    Ended, Fallible, Keeping, LocalDevice, Sink, State, device_error, drive,
    transactions::Transactions,
    worker::{Settled, Worker},
};
use crate::{
    checkpoint::{Applier, Parts, Rebuilt, ends_at},
    checksum,
    error::Error,
    log::Findings,
    read::scratch,
    report::{Checked, RecoveryReport},
    store::Snapshot,
};

/// In which order entries are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first, as they stand.
    Forward,
    /// Newest first, as they stand.
    Back,
    /// As they count: those of a transaction where it was committed.
    Counting,
}

/// Whether a state is built up of what counts behind its checkpoint, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replaying {
    Yes,
    No,
}

/// A place in the log from which reading goes on, with what was read ahead.
pub struct Cursor {
    machine: Box<dyn Machine<Output = ()>>,
    buf: Vec<u8>,
    /// The log as it was when reading began.
    seen: Box<View>,
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cursor")
    }
}

impl<D: LocalDevice> Worker<D> {
    pub(super) fn cursor(&self, view: Box<View>, from: Lsn, to: Lsn, direction: Direction) -> Fallible<Cursor> {
        if from < view.low_water() && from != Lsn::ZERO {
            return Err(Error::Truncated { low_water: view.low_water() }.into());
        }
        let from = from.max(view.low_water());
        let machine: Box<dyn Machine<Output = ()>> = match direction {
            Direction::Forward => Box::new(Keeping::new(Reader::new((*view).clone(), from, to, self.policy))),
            Direction::Back => Box::new(Keeping::new(ReverseReader::new((*view).clone(), from, to))),
            Direction::Counting => Box::new(Keeping::new(Replay::new((*view).clone(), from, self.policy))),
        };
        Ok(Cursor { machine, buf: scratch(self.options.geometry), seen: view })
    }

    pub(super) async fn page(&mut self, mut cursor: Cursor, mut sink: Sink) -> Fallible<Option<Cursor>> {
        match drive(&mut *cursor.machine, &mut self.device, &mut cursor.buf, &mut *sink).await {
            Ok(Ended::Paused) => Ok(Some(cursor)),
            Ok(Ended::Done) => Ok(None),
            Err(error) => Err(self.met(&cursor.seen, error.into()).await),
        }
    }

    /// What the error of a reader that saw this comes to, as for the blocking log: a segment that truncation has given up
    /// since the reader began is no damage; damage stops writing, unless a checkpoint holds what is gone.
    async fn met(&mut self, seen: &View, error: Box<Error>) -> Box<Error> {
        let Some(writer) = &self.writer else { return error };
        let view = writer.view();
        if error.place().is_some_and(|(object, _)| view.has_given_up(seen, object)) {
            return Error::Truncated { low_water: view.low_water() }.into();
        }
        let stops = match error.finding() {
            Some(finding) => {
                let held = self.checkpoints.hold(finding);
                !(held && self.safe_floor().await.is_ok() && self.checkpoints.hold(finding))
            }
            // A checkpoint that is written now would make the loss of the state before it final.
            None => matches!(*error, Error::StateLost { .. }) && seen.is_covered(),
        };
        if stops {
            self.poison((*error).clone());
        }
        error
    }

    /// Loads the newest checkpoint; and, replaying, applies what counts behind it, and keeps the state from then on.
    pub(super) async fn rebuild(
        &mut self,
        view: Box<View>,
        state: Rc<RefCell<dyn State>>,
        replaying: Replaying,
    ) -> Fallible<Rebuilt> {
        // All of the view is written, and only to be synced. Then nobody waits, and nothing is applied twice.
        if replaying == Replaying::Yes && self.writable().is_ok() {
            self.commit_until(Settled::All).await?;
        }
        let heads: Vec<_> = self.checkpoints.heads().copied().collect();
        let mut rebuilt = Rebuilt::default();
        for head in heads {
            // An older one goes less far still.
            if view.lacks_state(&head) {
                self.lacks_state(&mut rebuilt, &view).await?;
            }
            let loaded = match self.load(view.log(), head.id).await {
                Ok(Ok(snapshot)) => state.borrow_mut().load(&snapshot),
                Ok(Err(error)) => Err(error.to_string()),
                // An older one may do.
                Err(error) if error.is_unreadable() => Err(error.to_string()),
                Err(error) => return Err(error.into()),
            };
            if rebuilt.takes(&head, loaded) {
                break;
            }
        }
        if rebuilt.checkpoint_used.is_none() && is_lost(&mut self.device, &view, &mut self.scratch).await? {
            self.lacks_state(&mut rebuilt, &view).await?;
        }
        if replaying == Replaying::No {
            return Ok(rebuilt);
        }
        let from = rebuilt.behind_checkpoint().max(view.low_water());
        let mut replay = Keeping::new(Replay::new((*view).clone(), from, self.policy));
        let apply = &mut |lsn, operation: &_| state.borrow_mut().apply(lsn, operation);
        let mut applier = Applier { apply, rebuilt: &mut rebuilt, policy: self.policy, failed: None };
        let replayed = drive(&mut replay, &mut self.device, &mut self.scratch, &mut applier).await;
        if let Some(error) = applier.failed {
            return Err(error.into());
        }
        if let Err(error) = replayed {
            match ends_at(self.policy, &error) {
                Some(finding) => rebuilt.findings.push(finding),
                None => return Err(self.met(&view, error.into()).await),
            }
        }
        if self.state.is_none() {
            self.reopen_transactions(*view).await?;
        }
        self.state = Some(state);
        Ok(rebuilt)
    }

    /// See [`Rebuilt::lacks_state`].
    async fn lacks_state(&mut self, rebuilt: &mut Rebuilt, view: &View) -> Fallible<()> {
        match rebuilt.lacks_state(view, self.policy) {
            Err(error) => Err(self.met(view, error.into()).await),
            Ok(()) => Ok(()),
        }
    }

    /// Reads what transactions hold that were open before the log kept a state.
    async fn reopen_transactions(&mut self, view: View) -> Fallible<()> {
        let floor = self.writer.as_ref().map_or(Lsn::MAX, Writer::replay_floor);
        let mut held = Transactions::default();
        if floor <= view.last() {
            let mut reader = Keeping::new(Reader::new(view.clone(), floor, Lsn::MAX, self.policy));
            if let Err(error) = self.drive(&mut reader, &mut held).await {
                return Err(self.met(&view, error.into()).await);
            }
        }
        self.transactions = held;
        Ok(())
    }

    /// Reads one checkpoint: first to see that it is valid, then for what it holds.
    async fn load(
        &mut self,
        log: Uuid,
        id: CheckpointId,
    ) -> Result<Result<Snapshot, CheckpointError>, Box<DriveError<D::Error>>> {
        let mut parts = Parts::default();
        for (reading, host) in [(Reading::Check, &mut () as &mut dyn Host), (Reading::HandOut, &mut parts)] {
            let mut read = Keeping::new(ReadCheckpoint::new(checksum::update, log, id, reading));
            self.drive(&mut read, host).await?;
            if let Err(error) = read.output() {
                return Ok(Err(error));
            }
        }
        Ok(parts.snapshot())
    }

    /// The LSN below which nothing is needed, by the oldest checkpoint kept. Those that were there when the log was
    /// opened are read first: what is not valid, or not named by the log, keeps nothing.
    pub(super) async fn safe_floor(&mut self) -> Fallible<Option<Lsn>> {
        let view = self.written_view().await?;
        if let Some(machine) = self.checkpoints.judge((*view).clone()) {
            let mut judging = Keeping::new(machine);
            self.drive(&mut judging, &mut ()).await?;
            for id in self.checkpoints.judged(&judging.output(), view.is_covered()) {
                // What cannot be removed goes with the next one.
                let _ = self.device.remove(Object::Checkpoint(id)).await;
            }
        }
        Ok(self.checkpoints.safe_floor())
    }

    pub(super) async fn verify(&mut self, view: Box<View>, opened: &RecoveryReport) -> Fallible<Box<RecoveryReport>> {
        let (mut view, mut report) = (view, Box::new(opened.clone()));
        if self.writer.is_some() {
            // What the opening found may have been mended since, or given up.
            let options = RecoveryOptions { policy: Policy::Inspect, checksum: checksum::update, ..Default::default() };
            let (mut recovery, mut findings) = (Keeping::new(Recovery::new(options)), Findings::default());
            self.drive(&mut recovery, &mut findings).await?;
            let recovered = recovery.output();
            *report = RecoveryReport::found(&recovered.report, findings.0);
            report.policy = opened.policy;
            *view = recovered.view;
        }
        let heads: Vec<_> = self.checkpoints.heads().copied().collect();
        match check(&mut self.device, &view, &heads, &mut report, &mut self.scratch).await {
            Err(error) if !matches!(*error, Error::Refused(_)) => Err(error),
            _ => Ok(report),
        }
    }

    pub(super) async fn objects(&mut self) -> Fallible<Vec<(Object, u64)>> {
        let mut objects = Vec::new();
        let mut after = None;
        while let Some(object) = self.device.next(after).await.map_err(device_error)? {
            objects.push((object, self.device.len(object).await.map_err(device_error)?));
            after = Some(object);
        }
        Ok(objects)
    }

    pub(super) async fn bytes(&mut self, object: Object, at: u64, len: usize) -> Fallible<Vec<u8>> {
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while filled < len {
            let read = self.device.read(object, at + filled as u64, &mut bytes[filled..]).await;
            match read.map_err(device_error)? {
                0 => break,
                read => filled += read,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

/// Reads and verifies every entry of a log that was just recovered.
pub(super) async fn check_all<D: LocalDevice>(
    device: &mut D,
    recovered: &Recovered,
    report: &mut RecoveryReport,
    buf: &mut Vec<u8>,
) -> Fallible<()> {
    check(device, &recovered.view, &recovered.checkpoints, report, buf).await
}

async fn check<D: LocalDevice>(
    device: &mut D,
    view: &View,
    checkpoints: &[CheckpointHead],
    report: &mut RecoveryReport,
    buf: &mut Vec<u8>,
) -> Fallible<()> {
    let mut checked = Checked::default();
    drive(&mut Keeping::new(Crossing::new(view, Policy::Inspect)), device, buf, &mut checked).await?;
    let all = || Keeping::new(Reader::new(view.clone(), view.low_water(), Lsn::MAX, Policy::Inspect));
    let mut reader = all();
    drive(&mut reader, device, buf, &mut checked).await?;
    if let Some(mut torn) = report.take_in(&reader.output(), checked) {
        drive(&mut Keeping::new(Crossing::new(view, Policy::Inspect)), device, buf, &mut torn).await?;
        drive(&mut all(), device, buf, &mut torn).await?;
        report.lose(torn);
    }
    if report.needs_checkpoints(view) {
        let (mut valid, mut bad) = (Vec::new(), None);
        for head in checkpoints {
            let mut check = Keeping::new(ReadCheckpoint::new(checksum::update, view.log(), head.id, Reading::Check));
            match drive(&mut check, device, buf, &mut ()).await {
                Ok(_) if check.output().is_ok() => valid.push(*head),
                Err(error) if !error.is_unreadable() => return Err(error.into()),
                _ => bad = bad.or(Some(head.id)),
            }
        }
        report.weigh_by(&valid);
        if report.misses_state(view, &valid) && is_lost(device, view, buf).await? {
            report.findings.push(view.state_lost(bad));
        }
    }
    report.judge().map_err(Box::new)
}

/// Whether a state was there that no checkpoint holds any more: [`JudgeLoss`] knows.
async fn is_lost<D: LocalDevice>(device: &mut D, view: &View, buf: &mut Vec<u8>) -> Fallible<bool> {
    let mut judging = Keeping::new(JudgeLoss::new(view.clone()));
    drive(&mut judging, device, buf, &mut ()).await?;
    Ok(judging.output())
}
