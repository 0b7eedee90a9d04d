//! The task: it owns the writer and the device, and serves one request after the other.

use core::{cell::RefCell, future::Future};
use std::{rc::Rc, sync::Arc};

use duralog_core::{
    Action, Begin, CheckpointId, Checkpoints, Commit, Consequence, DeviceError as _, Durability, Error as DriveError,
    ErrorKind, Host, Lsn, Machine, Object, Plan, Policy, PutCheckpoint, Retention, Retire, StageError, TransactionEnd,
    View, Writer, WriterOptions, checkpoint::CheckpointHeader, meta::PutMeta, operation::Operation,
};

use super::{
    Client, Driven, Fallible, GiveUp, Keeping, LocalDevice, Outcome, Request, Shared, State, answer_after_close,
    device_error, drive, read::Replaying, transactions::Transactions,
};
use crate::{
    checkpoint::{Source, count},
    checksum,
    commit::{Counts, give_up, nonce, stage_error},
    config::Config,
    environment::Environment,
    error::{Error, Result},
    log::{Receipt, Stats},
    store::Snapshot,
};

/// The task's own state. Requests are served one at a time, so nothing here is ever shared.
pub(super) struct Worker<D> {
    pub(super) device: D,
    /// `None` where the log is only read.
    pub(super) writer: Option<Writer>,
    /// What a log that is only read showed when it was opened.
    view: Option<View>,
    /// What is staged.
    buf: Vec<u8>,
    /// What machines work in.
    pub(super) scratch: Vec<u8>,
    waiting: Vec<Waiting>,
    /// The last LSN of an append that was answered before it was written.
    buffered: Lsn,
    /// Why the writer is poisoned.
    cause: Option<Arc<Error>>,
    closed: bool,
    counts: Counts,
    pub(super) checkpoints: Checkpoints,
    pub(super) highest_checkpoint: CheckpointId,
    pub(super) options: WriterOptions,
    retention: usize,
    pub(super) policy: Policy,
    pub(super) environment: Arc<dyn Environment>,
    client: Rc<dyn Client>,
    /// The state that the log keeps, if it was asked to.
    pub(super) state: Option<Rc<RefCell<dyn State>>>,
    /// What is to be applied to it when transactions commit that are open.
    pub(super) transactions: Transactions,
    /// Transactions of this handle: by which number it knows them, and their ids, which are given out again where a begin is
    /// refused. The numbers are not; but for that, the two are the same.
    open: Vec<(u64, u64)>,
    numbers: u64,
}

/// Entries that were staged, and whom to tell when they are as durable as asked.
struct Waiting {
    ticket: u32,
    first: Lsn,
    last: Lsn,
    durability: Durability,
    /// What is to be applied to the state then.
    entries: Vec<(Lsn, Operation)>,
    /// The transaction that it ends, of which the state is told then.
    ends: Option<(u64, TransactionEnd)>,
    /// Whether it is to stay once it was answered: not what counts with a commit to come, or says that none will come.
    promised: bool,
}

impl Waiting {
    /// Whether the state changes by it: only in the order of the LSNs.
    fn changes(&self) -> bool {
        self.ends.is_some() || !self.entries.is_empty()
    }
}

/// What stages something: the writer, the buffer and the time are handed to it.
type Stage<'a> = &'a mut dyn FnMut(&mut Writer, &mut Vec<u8>, u64) -> Result<(Lsn, Lsn), StageError>;

/// What plans a segment: the writer, the time and a nonce are handed to it.
pub(super) type Planning<'a> = &'a mut dyn FnMut(&mut Writer, u64, u64) -> Result<Plan, StageError>;

impl<D: LocalDevice> Worker<D> {
    pub(super) fn new(
        device: D,
        writer: Option<Writer>,
        view: Option<View>,
        scratch: Vec<u8>,
        options: WriterOptions,
        config: &Config,
        client: Rc<dyn Client>,
    ) -> Self {
        Self {
            device,
            buffered: writer.as_ref().map(Writer::written).unwrap_or_default(),
            writer,
            view,
            buf: Vec::new(),
            scratch,
            waiting: Vec::new(),
            cause: None,
            closed: false,
            counts: Counts::default(),
            checkpoints: Checkpoints::default(),
            highest_checkpoint: CheckpointId::default(),
            options,
            retention: config.checkpoint_retention,
            policy: config.policy,
            environment: config.environment.clone(),
            client,
            state: None,
            transactions: Transactions::default(),
            open: Vec::new(),
            numbers: 0,
        }
    }

    /// Serves requests until the log is closed or no handle is left; then what was appended is synced.
    pub(super) async fn run(mut self, shared: Rc<Shared>) {
        while !self.closed
            && let Some((mut ticket, mut request)) = shared.next().await
        {
            // What came in the meantime shares the group.
            loop {
                if self.closed {
                    answer_after_close(&*self.client, ticket, &request);
                } else if let Some(outcome) = self.serve(ticket, request, &shared).await.transpose() {
                    match outcome {
                        Ok(outcome) => self.client.answer(ticket, Ok(outcome)),
                        Err(error) => self.client.answer(ticket, Err(&error)),
                    }
                }
                self.show(&shared);
                match shared.pop() {
                    Some(next) => (ticket, request) = next,
                    None => break,
                }
            }
            // A refusal may leave some who wait for what was written before it.
            while self.commit_all().await.is_err() && !self.waiting.is_empty() {}
            self.show(&shared);
        }
        if !self.closed {
            let _ = self.commit_until(Settled::All).await;
        }
        shared.over.get_or_init(|| Rc::downgrade(&self.client));
        while let Some((ticket, request)) = shared.pop() {
            answer_after_close(&*self.client, ticket, &request);
        }
    }

    /// Lets the handles know how far the log is.
    pub(super) fn show(&self, shared: &Shared) {
        let (current, synced) = match (&self.writer, &self.view) {
            (Some(writer), _) => (writer.next_lsn(), writer.durable()),
            (None, view) => {
                let last = view.as_ref().map(View::last).unwrap_or_default();
                (last.next_or_max(), last)
            }
        };
        shared.current.set(current);
        shared.synced.set(synced);
    }

    /// Serves a request. `None`: it is answered later, or has no answer.
    async fn serve(&mut self, ticket: u32, mut request: Request, shared: &Shared) -> Fallible<Option<Outcome>> {
        let mut waiting = Waiting {
            ticket,
            first: Lsn::ZERO,
            last: Lsn::ZERO,
            durability: Durability::Durable,
            entries: Vec::new(),
            ends: None,
            promised: true,
        };
        if let Request::Append { transaction: Some(id), .. } | Request::End { id, .. } = &mut request {
            self.writable()?;
            let open = self.open.iter().find(|(number, _)| number == id);
            *id = open.map(|(_, id)| *id).ok_or(Error::NoTransaction)?;
        }
        if let Request::Append { .. } | Request::Begin | Request::End { .. } = &request {
            let staged = self
                .stage(&mut |writer, buf, now| match &request {
                    Request::Append { operations, transaction, .. } => writer.stage(buf, now, *transaction, operations),
                    Request::End { id, end, .. } => one(writer.stage_end(buf, now, *id, *end)),
                    _ => one(writer.stage_begin(buf, now).map(Lsn::new)),
                })
                .await;
            if let (Request::End { id, .. }, Err(error)) = (&request, &staged)
                && matches!(**error, Error::NoSpace(_))
            {
                self.writer()?.abandon(*id);
                self.transactions.end(*id);
            }
            (waiting.first, waiting.last) = staged?;
            self.counts.appends +=
                if let Request::Append { operations, .. } = &request { operations.len() as u64 } else { 1 };
        }
        let outcome = match request {
            Request::Append { operations, transaction, durability } => {
                waiting.durability = durability;
                waiting.promised = transaction.is_none();
                if self.state.is_some() {
                    let entries = (waiting.first.value()..).map(Lsn::new).zip(operations);
                    match transaction {
                        Some(id) => entries.for_each(|(lsn, operation)| self.transactions.keep(id, lsn, operation)),
                        None => waiting.entries = entries.collect(),
                    }
                }
                return Ok(self.await_reaching(waiting));
            }
            Request::Begin => {
                let id = waiting.first.value();
                self.numbers = id.max(self.numbers + 1);
                let writer = self.writer.as_ref();
                let knows = |id| writer.is_some_and(|writer| writer.knows_transaction(id));
                // Ids ascend, but where a begin was refused: one that is not lower is not there any more.
                self.open.retain(|(_, other)| *other < id && knows(*other));
                self.open.push((self.numbers, id));
                Outcome::Number(self.numbers)
            }
            Request::End { id, end, durability } => {
                waiting.durability = durability;
                waiting.ends = self.state.is_some().then_some((id, end));
                waiting.promised = end == TransactionEnd::Commit;
                return Ok(self.await_reaching(waiting));
            }
            Request::Wait { lsn } => {
                waiting.last = lsn.min(self.writable()?.next_lsn().previous());
                waiting.first = waiting.last;
                return Ok(self.await_reaching(waiting));
            }
            Request::Mark => {
                self.mark().await?;
                return Ok(None);
            }
            Request::Checkpoint { snapshot } => Outcome::Number(self.checkpoint(snapshot).await?.value()),
            Request::Truncate { lsn, give_up } => Outcome::Number(self.truncate(lsn, give_up).await?.value()),
            Request::Page { cursor, sink } => Outcome::Cursor(self.page(cursor, sink).await?),
            Request::Bytes { object, at, len } => Outcome::Bytes(self.bytes(object, at, len).await?),
            Request::Close => {
                self.close().await?;
                Outcome::Done
            }
            request => {
                let view = self.written_view().await?;
                match request {
                    Request::Read { from, to, direction } => {
                        Outcome::Cursor(Some(self.cursor(view, from, to, direction)?))
                    }
                    Request::Rebuild { state } => Outcome::Rebuilt(self.rebuild(view, state, Replaying::Yes).await?),
                    Request::Load { state } => Outcome::Rebuilt(self.rebuild(view, state, Replaying::No).await?),
                    Request::Verify => Outcome::Report(self.verify(view, &shared.report).await?),
                    Request::Stats => Outcome::Stats(self.stats().await?),
                    _ => Outcome::Objects(self.objects().await?),
                }
            }
        };
        Ok(Some(outcome))
    }

    pub(super) fn writer(&mut self) -> Fallible<&mut Writer> {
        self.writer.as_mut().ok_or_else(|| Error::ReadOnly.into())
    }

    /// The writer, if anything may be written.
    pub(super) fn writable(&mut self) -> Fallible<&mut Writer> {
        if let Some(cause) = &self.cause {
            return Err(Error::Poisoned { cause: cause.clone() }.into());
        }
        self.writer()
    }

    pub(super) fn drive<'a>(
        &'a mut self,
        machine: &'a mut dyn Machine<Output = ()>,
        host: &'a mut dyn Host,
    ) -> impl Future<Output = Driven<D>> + 'a {
        drive(machine, &mut self.device, &mut self.scratch, host)
    }

    /// Answers at once what asks for nothing more, and has nothing to be applied before it.
    fn await_reaching(&mut self, waiting: Waiting) -> Option<Outcome> {
        let held = waiting.changes() && self.waiting.iter().any(Waiting::changes);
        if waiting.durability == Durability::Buffered && !held {
            return Some(Outcome::Receipt(self.apply(waiting)));
        }
        self.waiting.push(waiting);
        None
    }

    /// What was appended is as durable as asked, and all before it is applied to the state: so is it.
    fn apply(&mut self, waiting: Waiting) -> Receipt {
        let Waiting { first, last, durability, mut entries, ends, promised, .. } = waiting;
        if let Some((id, end)) = ends {
            let held = self.transactions.end(id);
            if end == TransactionEnd::Commit {
                entries = held;
            }
        }
        if let Some(state) = &self.state {
            for (lsn, operation) in &entries {
                state.borrow_mut().apply(*lsn, operation);
            }
        }
        if durability == Durability::Buffered && promised {
            self.buffered = self.buffered.max(last);
        }
        Receipt { first, last, durability }
    }

    /// Stages something, making what room it needs: commits and segments come first where they must.
    async fn stage(&mut self, stage: Stage<'_>) -> Fallible<(Lsn, Lsn)> {
        loop {
            let now = self.environment.now_us();
            self.writable()?;
            let Some(writer) = &mut self.writer else { return Err(Error::ReadOnly.into()) };
            match stage(writer, &mut self.buf, now) {
                Ok(staged) => return Ok(staged),
                Err(StageError::NeedsCommit) => self.commit(Durability::Os).await?,
                Err(StageError::NeedsSegment) => drop(self.begin(&mut Writer::plan).await?),
                Err(error) => return Err(stage_error(error).into()),
            }
        }
    }

    /// Makes everything that was appended as durable as those who wait ask, and tells them.
    async fn commit_all(&mut self) -> Fallible<()> {
        self.commit_until(Settled::Waiting).await
    }

    /// Commits until that much is settled. Whoever waits is told of a failure by the commit itself.
    pub(super) async fn commit_until(&mut self, settled: Settled) -> Fallible<()> {
        loop {
            self.answer();
            let durability = match (settled, self.waiting.iter().map(|waiting| waiting.durability).max()) {
                (Settled::Waiting, None) => return Ok(()),
                (Settled::Waiting, Some(durability)) => durability,
                (Settled::Written, _) if self.writable()?.staged() == 0 => return Ok(()),
                (Settled::Written, _) => Durability::Os,
                (Settled::All, _) if self.writable()?.staged() == 0 && self.writable()?.unsynced() == 0 => {
                    return Ok(());
                }
                (Settled::All, _) => Durability::Durable,
            };
            let writer = self.writable()?;
            if writer.needs_segment() && writer.staged() == 0 && writer.unsynced() == 0 {
                self.take_over_later().await?;
            } else {
                self.commit(durability).await?;
            }
        }
    }

    /// Begins the segment that an opening found no room for: only then is durable what was recovered.
    async fn take_over_later(&mut self) -> Fallible<()> {
        let begun = self.begin(&mut Writer::plan).await.map(drop);
        if let Err(error) = &begun {
            for waiting in core::mem::take(&mut self.waiting) {
                self.client.answer(waiting.ticket, Err(error));
            }
        }
        begun
    }

    /// Commits what is staged as one group.
    pub(super) async fn commit(&mut self, durability: Durability) -> Fallible<()> {
        self.writable()?;
        // What a sync may undo is one group, so that nobody was told of it.
        let durability = if self.device.rolls_back() { Durability::Durable } else { durability };
        let Some(writer) = &mut self.writer else { return Err(Error::ReadOnly.into()) };
        let group = match writer.take(&mut self.buf, durability) {
            Ok(Some(group)) => group,
            Ok(None) => return Ok(()),
            Err(error) => return Err(self.poison(stage_error(error))),
        };
        let ticks = self.environment.ticks_us();
        let mut commit = Commit::new(group);
        let committed = drive(&mut commit, &mut self.device, &mut self.buf, &mut ()).await;
        if let Err(error) = committed {
            return self.failed(error);
        }
        self.writer()?.landed(group);
        self.counts.landed(group, self.environment.ticks_us().saturating_sub(ticks));
        Ok(())
    }

    /// Tells those whose entries are as durable as they asked.
    fn answer(&mut self) {
        let Some(writer) = &self.writer else { return };
        let (written, durable) = (writer.written(), writer.durable());
        let mut held = false;
        for mut waiting in core::mem::take(&mut self.waiting) {
            let reached = match waiting.durability {
                Durability::Durable => durable,
                Durability::Os => written,
                Durability::Buffered => Lsn::MAX,
            };
            let changes = waiting.changes();
            if waiting.last > reached || (held && changes) {
                held |= changes;
                self.waiting.push(waiting);
                continue;
            }
            if waiting.last <= durable {
                waiting.durability = Durability::Durable;
            }
            let ticket = waiting.ticket;
            let receipt = self.apply(waiting);
            self.client.answer(ticket, Ok(Outcome::Receipt(receipt)));
        }
    }

    /// Begins the segment that is planned, or goes on in the one that was found, if all before it is durable, else sees
    /// to that. Tells how many entries were copied into it; a plan that came to nothing is followed by another.
    pub(super) async fn begin(&mut self, plan: Planning<'_>) -> Fallible<u64> {
        let (now, nonce) = (self.environment.now_us(), nonce(&*self.environment));
        let writer = self.writable()?;
        let (old, end) = writer.end();
        let plan = match plan(writer, now, nonce) {
            Ok(plan) => plan,
            Err(StageError::NeedsCommit) => return self.commit(Durability::Durable).await.map(|()| 0),
            Err(StageError::Exhausted) => return Err(Error::Exhausted.into()),
            Err(error) => return Err(self.poison(stage_error(error))),
        };
        let mut begin = Keeping::new(Begin::new(plan));
        match self.drive(&mut begin, &mut ()).await {
            Ok(_) => {
                let begun = begin.output();
                let writer = self.writer()?;
                writer.begun(&begun);
                if writer.is_ready() {
                    // A segment that is continued is none that was sealed.
                    let sealed = writer.end().0 != old;
                    self.put_meta(false).await;
                    if sealed {
                        self.seal(Object::Segment(old), end).await;
                    }
                }
                Ok(begun.copied())
            }
            Err(error) => {
                let failed = self.failed(error);
                if let Some(mut erase) = self.writer()?.left_over() {
                    match self.drive(&mut erase, &mut ()).await {
                        Ok(_) => self.writer()?.erased(),
                        Err(error) => return Err(self.poison((*error).into())),
                    }
                }
                failed.map(|()| 0)
            }
        }
    }

    /// Replaces the metadata, which need not succeed.
    async fn put_meta(&mut self, clean: bool) {
        if let Some(writer) = &self.writer {
            let mut put = PutMeta::new(writer.meta(clean), self.options.geometry);
            let _ = self.drive(&mut put, &mut ()).await;
        }
    }

    /// A group or a segment failed. Those who wait for what was dropped are told. It is no error where the writer has
    /// another way.
    fn failed(&mut self, mut error: Box<DriveError<D::Error>>) -> Fallible<()> {
        let Some(writer) = &mut self.writer else { return Err(error.into()) };
        let dropped = self.buffered > writer.written();
        if let DriveError::Device { action, error, .. } = &mut *error
            && (*action, error.kind()) == (Action::Sync, ErrorKind::NoSpace)
            && self.device.rolls_back()
        {
            // All of the group, or of the segment that was begun, is undone: as if its first step had failed.
            *action = Action::Write;
        }
        let consequence = give_up(writer, &error);
        let error = Box::<Error>::from(error);
        match consequence {
            Consequence::Again => return Ok(()),
            Consequence::Poisoned => return Err(self.poison(*error)),
            // Appends that were answered before they were written are gone: that must not pass in silence.
            Consequence::Refused if dropped => return Err(self.poison(*error)),
            Consequence::Refused => {}
        }
        let written = writer.written();
        self.transactions.refused_behind(written);
        for waiting in core::mem::take(&mut self.waiting) {
            if waiting.last > written {
                // Without its end, a transaction is over.
                waiting.ends.into_iter().for_each(|(id, _)| drop(self.transactions.end(id)));
                self.client.answer(waiting.ticket, Err(&error));
            } else {
                self.waiting.push(waiting);
            }
        }
        Err(error)
    }

    pub(super) fn poison(&mut self, cause: Error) -> Box<Error> {
        if let Some(writer) = &mut self.writer {
            writer.poison();
        }
        let cause = self.cause.get_or_insert_with(|| Arc::new(cause)).clone();
        let poisoned = Box::new(Error::Poisoned { cause });
        for waiting in core::mem::take(&mut self.waiting) {
            self.client.answer(waiting.ticket, Err(&poisoned));
        }
        poisoned
    }

    async fn mark(&mut self) -> Fallible<()> {
        if self.writable().is_ok_and(|writer| writer.mark_due() && writer.staged() == 0) {
            self.stage(&mut |writer, buf, now| none(writer.stage_durable_mark(buf, now))).await?;
            self.commit(Durability::Durable).await?;
        }
        Ok(())
    }

    async fn close(&mut self) -> Fallible<()> {
        // What was refused for lack of space is not to be found by the next recovery, if there is room by now.
        while self.writable().is_ok_and(|writer| writer.holds_refused()) {
            if self.begin(&mut Writer::plan).await.is_err() {
                break;
            }
        }
        let synced = if self.writer.is_some() { self.commit_until(Settled::All).await } else { Ok(()) };
        self.closed = true;
        synced?;
        if self.writer.as_ref().is_some_and(Writer::seal_due) {
            self.stage(&mut |writer, buf, now| none(writer.stage_seal(buf, now))).await?;
            self.commit(Durability::Durable).await?;
            self.put_meta(true).await;
            let (segment, end) = self.writer()?.end();
            self.seal(Object::Segment(segment), end).await;
        }
        Ok(())
    }

    /// A segment is not written to any more for now. Room that is not given back takes room, and no more.
    async fn seal(&mut self, segment: Object, end: u32) {
        let _ = self.device.trim(segment, end.into()).await;
        let _ = self.device.tidy(segment).await;
    }

    /// What a reader sees: everything appended before is on the medium.
    pub(super) async fn written_view(&mut self) -> Fallible<Box<View>> {
        if self.writable().is_ok() {
            self.commit_until(Settled::Written).await?;
        }
        match (&self.writer, &self.view) {
            (Some(writer), _) => Ok(Box::new(writer.view())),
            (None, Some(view)) => Ok(Box::new(view.clone())),
            (None, None) => Err(Error::ReadOnly.into()),
        }
    }

    async fn checkpoint(&mut self, snapshot: Option<Snapshot>) -> Fallible<CheckpointId> {
        if snapshot.is_some() && self.state.is_some() {
            return Err(Error::InStore.into());
        }
        self.commit_until(Settled::All).await?;
        if !self.writable()?.is_all_durable() {
            self.take_over_later().await?;
        }
        // What crashes left half written goes, or it would hide what is whole. What cannot be read is kept.
        drop(self.safe_floor().await);
        let snapshot = match (snapshot, &self.state) {
            (Some(snapshot), _) => snapshot,
            (None, Some(state)) => state.borrow().snapshot(),
            (None, None) => Snapshot::default(),
        };
        let source = Source::new(&snapshot)?;
        let created_at = self.environment.now_us() / 1_000_000;
        let id = CheckpointId::new(
            self.highest_checkpoint.value().checked_add(1).ok_or_else(|| Box::new(Error::Exhausted))?,
        );
        self.highest_checkpoint = id;
        let writer = self.writable()?;
        let header = CheckpointHeader {
            log: writer.log(),
            epoch: writer.epoch(),
            id,
            lsn: writer.next_lsn().previous(),
            floor: writer.replay_floor(),
            created_at,
            documents: count(snapshot.document_ids.len())?,
            chunks: count(snapshot.chunk_ids.len())?,
            metadata_len: count(source.metadata_len())?,
        };
        self.put_checkpoint(header, source).await?;
        let named =
            match self.stage(&mut |writer, buf, now| one(writer.stage_checkpoint(buf, now, header.lsn, id))).await {
                Ok(entry) => self.commit_until(Settled::All).await.map(|()| entry),
                Err(error) => Err(error),
            };
        if matches!(&named, Err(error) if matches!(**error, Error::NoSpace(_) | Error::Exhausted)) {
            self.forget(header).await?;
        }
        let oldest = self.checkpoints.keep(header.head(), named?.1, self.retention);
        if self.writable()?.cover_due(header.floor) {
            // Where there is no room to say it, the next checkpoint does.
            let stage = &mut |writer: &mut Writer, buf: &mut _, now| none(writer.stage_cover(buf, now, header.floor));
            if self.stage(stage).await.is_ok() {
                let _ = self.commit_until(Settled::All).await;
            }
        }
        // What could not be removed only takes room.
        let _ = self.retire(Retention { checkpoints_from: oldest, evidence: true, unsaid: None }).await;
        Ok(id)
    }

    /// The entry of this checkpoint was refused: a crash must not bring it back, and find no checkpoint.
    async fn forget(&mut self, header: CheckpointHeader) -> Fallible<()> {
        let writer = self.writer()?;
        let (segment, end) = writer.end();
        let mut may_come_back = writer.holds_refused() && !self.device.rolls_back();
        if may_come_back {
            let trimmed = self.device.trim(Object::Segment(segment), end.into()).await;
            // All that counts was durable before: a sync that fails loses no entry.
            may_come_back = trimmed.is_err() || self.device.sync().await.is_err();
        }
        if may_come_back || self.device.remove(Object::Checkpoint(header.id)).await.is_err() {
            self.checkpoints.left(header.head());
        }
        Ok(())
    }

    /// Writes the checkpoint's bytes. A sync that fails on the way is a failure of the log too.
    async fn put_checkpoint(&mut self, header: CheckpointHeader, mut source: Source<'_>) -> Fallible<()> {
        let mut machine = Keeping::new(PutCheckpoint::new(checksum::update, header, self.options.geometry));
        let Err(error) = self.drive(&mut machine, &mut source).await else { return Ok(()) };
        if self.refuses(&error) {
            // Half a checkpoint takes room and says nothing.
            let _ = self.device.remove(Object::Checkpoint(header.id)).await;
            return Err(error.into());
        }
        Err(self.poison((*error).into()))
    }

    /// Whether the device had no room, and nothing is unknown.
    fn refuses(&self, error: &DriveError<D::Error>) -> bool {
        error.device_kind() == Some(ErrorKind::NoSpace)
            && (self.device.rolls_back() || !matches!(error, DriveError::Device { action: Action::Sync, .. }))
    }

    pub(super) async fn truncate(&mut self, lsn: Lsn, given: GiveUp) -> Fallible<Lsn> {
        let floor = self.safe_floor().await?;
        let (lsn, covered) = match floor {
            Some(floor) if given == GiveUp::Covered => (lsn.min(floor), true),
            Some(floor) => (lsn, lsn <= floor),
            None if given == GiveUp::Anyway => (lsn, false),
            None if self.writable()?.low_water_due() => (Lsn::ZERO, false),
            None => return Ok(self.writable()?.low_water()),
        };
        let writer = self.writable()?;
        let low_water = writer.low_water();
        let (lsn, covered) = writer.truncates_to(lsn, covered);
        if lsn > low_water || writer.low_water_due() {
            match self.give_up(lsn, covered).await {
                // Not even room for a segment: what a checkpoint covers goes first. Its header then says that it was given
                // up.
                Err(error) if covered && matches!(*error, Error::NoSpace(_)) => {
                    self.writer()?.give_up(lsn);
                    self.retire(Retention { unsaid: Some(low_water), ..Retention::default() }).await?;
                    self.give_up(lsn, covered).await?;
                }
                given_up => given_up?,
            }
            // Before anything goes: what says that it was given up is not in one place alone.
            self.put_meta(false).await;
        }
        self.retire(Retention::default()).await?;
        Ok(self.writable()?.low_water())
    }

    async fn give_up(&mut self, lsn: Lsn, covered: bool) -> Fallible<()> {
        self.stage(&mut |writer, buf, now| none(writer.stage_low_water(buf, now, lsn, covered))).await?;
        self.commit_until(Settled::All).await
    }

    /// Removes what lies below the low-water mark, and what `retention` says.
    async fn retire(&mut self, retention: Retention) -> Fallible<()> {
        // So a sync that fails loses what was removed, and no entry.
        self.commit_until(Settled::All).await?;
        let view = self.writer()?.view();
        let mut retire = Retire::new(view, retention);
        let retired = self.drive(&mut &mut retire, &mut ()).await;
        self.writer()?.retired(&retire);
        retired?;
        // Removing takes effect with a sync, on media that gather what they do.
        self.device.sync().await.map_err(device_error)?;
        let writer = self.writer()?;
        if retention.evidence {
            writer.evidence_removed();
        }
        Ok(())
    }

    async fn stats(&mut self) -> Fallible<Stats> {
        let objects = self.objects().await?;
        let counted = objects.iter().filter(|(object, _)| *object != Object::Meta);
        let (current_lsn, synced_lsn) = match &self.writer {
            Some(writer) => (writer.next_lsn(), writer.durable()),
            None => {
                let last = self.view.as_ref().map(View::last).unwrap_or_default();
                (last.next_or_max(), last)
            }
        };
        Ok(Stats {
            current_lsn,
            synced_lsn,
            last_checkpoint_lsn: self.checkpoints.newest().map(|head| head.lsn),
            total_segments: objects.iter().filter(|(object, _)| matches!(object, Object::Segment(_))).count() as u64,
            total_size_bytes: counted.map(|(_, len)| len).sum(),
            appends: self.counts.appends,
            groups: self.counts.groups,
            syncs: self.counts.syncs,
            bytes_written: self.counts.bytes,
            sync_total_us: self.counts.sync_total_us,
            sync_max_us: self.counts.sync_max_us,
        })
    }
}

/// How much is to be settled by committing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Those who wait are answered.
    Waiting,
    /// Everything is written.
    Written,
    /// Everything is durable.
    All,
}

/// One entry was staged.
fn one(staged: Result<Lsn, StageError>) -> Result<(Lsn, Lsn), StageError> {
    staged.map(|lsn| (lsn, lsn))
}

/// A mark was staged.
fn none(staged: Result<(), StageError>) -> Result<(Lsn, Lsn), StageError> {
    staged.map(|()| (Lsn::ZERO, Lsn::ZERO))
}
