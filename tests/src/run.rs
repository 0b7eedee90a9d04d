//! Runs a workload on a log, and tells the oracle.

use std::sync::Arc;

use duralog::{
    Config, Durability, Entries, Error, FaultyDevice, Log, LogReader, Lsn, Object, Policy, Receipt, RecoveryReport,
    Seen, SharedDevice, Snapshot,
    core::Action,
    faulty::{Failure, Keep, Medium, Plan, UnsyncedOp},
};

use crate::{
    environment::Counter,
    oracle::{Found, Giving, Held, Oracle, Violation, violation},
    workload::{Left, Op, SegmentRoom, Setup},
};

/// Entries that a [`Op::Fill`] appends at most: more than any segment holds.
const FILL_MAX: usize = 1000;

/// A medium, what must be on it, and time: what a run begins with and what it leaves.
#[derive(Debug)]
pub struct Moment {
    /// The setup.
    pub setup: Setup,
    /// The medium.
    pub medium: Medium,
    /// What must be on it.
    pub oracle: Oracle,
    environment: Arc<Counter>,
}

/// An object, what reads of it return, and what is durable of it.
pub type ObjectBytes = (Object, Option<Vec<u8>>, Option<Vec<u8>>);

/// Why a workload did not go to its end.
#[derive(Debug)]
pub enum Stopped {
    /// The log could not do what it was asked, as it may.
    Error(Error),
    /// The log did something wrong.
    Violation(Violation),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Violation> for Stopped {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl Moment {
    /// An empty medium.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let medium = Medium::new(setup.geometry);
        if setup.room == SegmentRoom::Recycled {
            medium.recycle();
        }
        Self { setup, medium, oracle: Oracle::default(), environment: Counter::new() }
    }

    /// A second one in the same state, which goes its own way.
    #[must_use]
    pub fn fork(&self) -> Self {
        let Self { setup, ref medium, ref oracle, ref environment } = *self;
        Self { setup, medium: medium.snapshot(), oracle: oracle.clone(), environment: environment.fork() }
    }

    /// The same, after a power cut that leaves of the unsynced operations what `keeps` says.
    #[must_use]
    pub fn after_cut(&self, keeps: &[Keep]) -> Self {
        let moment = self.fork();
        let mut keeps = keeps.iter();
        moment.medium.power_cut(|_| keeps.next().cloned().unwrap_or(Keep::None));
        moment
    }

    /// The same, after the death of the process.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        let moment = self.fork();
        moment.medium.kill();
        moment
    }

    /// All bytes on the medium.
    #[must_use]
    pub fn bytes(&self) -> Vec<ObjectBytes> {
        let medium = &self.medium;
        medium.names().into_iter().map(|name| (name, medium.object(name), medium.durable(name))).collect()
    }

    /// The configuration that the log is opened with.
    #[must_use]
    pub fn config(&self) -> Config {
        self.setup.config(self.environment.clone())
    }

    /// Runs a workload on it; `plan` says what goes wrong.
    #[must_use]
    pub fn run(mut self, plan: Plan) -> Run {
        self.medium.set_plan(plan.clone());
        let in_part = |failure: &Failure| matches!(failure, Failure::NoSpaceAfter(done) if *done > 0);
        let is_in_part = plan.capacity.is_some() || plan.fail.iter().any(|(_, failure)| in_part(failure));
        self.oracle.may_write_in_part(is_in_part);
        Run { moment: self, plan, calls: 0, log: None }
    }

    /// What a reader sees, which writes nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(&self, policy: Policy) -> Result<Held, Violation> {
        let config = self.config().with_policy(policy);
        let mut reader = LogReader::open_device(self.medium.reader(), config)
            .map_err(|error| violation!("a reader could not open the log: {error}"))?;
        let entries = reader.read(Lsn::ZERO, Lsn::MAX).map_err(|error| violation!("a reader failed: {error}"))?;
        let found = collect(entries).map_err(|error| violation!("a reader failed: {error}"))?;
        let report = reader.verify().map_err(|error| violation!("a reader could not verify the log: {error}"))?;
        let held = held(report, found)?;
        self.oracle.check(&held)?;
        Ok(held)
    }
}

/// What a log gives that was just opened.
pub(crate) fn recovered<D: SharedDevice>(log: &Log<D>) -> Result<Held, Stopped> {
    let found = collect(log.read_from(Lsn::ZERO)?)?;
    let counted = log.replay_from(Lsn::ZERO)?.map(|entry| entry.map(|entry| (entry.lsn.value(), entry.payload)));
    let counted = counted.collect::<Result<_, _>>()?;
    Ok(Held { counted: Some(counted), ..held(log.recovery(), found)? })
}

fn collect<D: SharedDevice>(entries: Entries<D>) -> Result<Vec<Found>, Error> {
    let found = |entry: duralog::Entry| Found {
        lsn: entry.lsn.value(),
        continues: entry.batch_continues,
        payload: entry.payload,
    };
    entries.map(|entry| entry.map(found)).collect()
}

/// A crash alone leaves no damage, and the figures are those of the entries.
fn held(report: &RecoveryReport, entries: Vec<Found>) -> Result<Held, Violation> {
    if let Some(finding) = report.damage().next() {
        return Err(violation!("damage was reported where there is none: {finding}"));
    }
    let (mut low_water, last) = (report.low_water.value(), report.last_valid_lsn.value());
    // Where there was no room to write that it is given up, what a checkpoint holds is missing, and that is told. Whether
    // it may be, the model knows.
    let missing = report.findings.iter().filter(|finding| finding.harmless && finding.seen == Seen::MissingSegment);
    let mut missing: Vec<_> = missing.filter_map(|finding| finding.lsns).collect();
    missing.sort_unstable();
    for (first, end) in missing {
        if first.value() == low_water {
            low_water = end.value() + 1;
        }
    }
    if report.entries_recovered != (last + 1).saturating_sub(low_water) {
        return Err(violation!("{} entries are told of from {low_water} to {last}", report.entries_recovered));
    }
    if report.durable_lsn.value() > last || !report.success {
        return Err(violation!("the report is of another log: {report:?}"));
    }
    if report.clean != report.torn_tail.is_none() {
        return Err(violation!("the report is clean and tells of a torn tail, or the other way round: {report:?}"));
    }
    Ok(Held { entries, counted: None, low_water, last })
}

/// A log that a workload runs on.
#[derive(Debug)]
pub struct Run {
    moment: Moment,
    plan: Plan,
    /// Mutating calls of earlier lives.
    calls: u64,
    log: Option<Log<FaultyDevice>>,
}

impl Run {
    /// The medium and what must be on it.
    #[must_use]
    pub fn moment(&self) -> &Moment {
        &self.moment
    }

    /// The handle.
    ///
    /// # Panics
    /// If the log is not open.
    #[must_use]
    pub fn log(&self) -> &Log<FaultyDevice> {
        self.log.as_ref().expect("the log is open")
    }

    /// Whether the log is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.log.is_some()
    }

    /// Whether the plan's cut has come: no call of the device works any more.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.moment.medium.is_off()
    }

    /// Mutating calls from the beginning of the run.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls + self.moment.medium.calls()
    }

    /// What the last mutating call was, done or not: the name that the trace gives it.
    #[must_use]
    pub fn last_call(&self) -> &'static str {
        self.moment.medium.last_call()
    }

    /// After a failed call the handle does nothing more, and what it called durable is.
    ///
    /// # Errors
    /// It did.
    pub fn is_poisoned(&mut self) -> Result<(), Violation> {
        let Some(log) = &self.log else { return Ok(()) };
        let synced = log.synced_lsn();
        self.moment.oracle.acknowledge(synced.value())?;
        let calls = self.calls();
        let payload = &[0; 9][..];
        for (what, answer) in [
            ("append", log.append(payload).map(drop)),
            ("a batch", log.append_batch(&[payload; 2]).map(drop)),
            ("sync", log.sync().map(drop)),
            ("close", log.close()),
            ("append after close", log.append(payload).map(drop)),
        ] {
            match answer {
                Ok(()) => return Err(violation!("{what} succeeded after a failure")),
                Err(error) if !error.is_fatal() => return Err(violation!("{what} is said to have a future: {error}")),
                Err(_) => {}
            }
        }
        if self.calls() != calls {
            return Err(violation!("a poisoned handle went on writing"));
        }
        if log.synced_lsn() != synced {
            return Err(violation!("the durable LSN of a poisoned handle moved"));
        }
        Ok(())
    }

    /// What is left when the run ends here; the handle learns nothing more and does nothing more.
    #[must_use]
    pub fn end(mut self) -> Moment {
        let moment = self.moment.fork();
        self.moment.medium.kill();
        self.log = None;
        moment
    }

    /// Does one thing after the other, until one fails. What found no room is tried again, once.
    ///
    /// # Errors
    /// Why it failed.
    pub fn play(&mut self, ops: &[Op]) -> Result<(), Stopped> {
        ops.iter().try_for_each(|op| match self.step(*op) {
            Err(Stopped::Error(Error::NoSpace(_))) if self.log.is_some() || *op == Op::Open => self.step(*op),
            // It is done, and only the proof of it is not.
            Err(Stopped::Error(Error::Unproven { .. })) => Ok(()),
            // A log that could not be closed properly is closed.
            Err(Stopped::Error(Error::NoSpace(_))) if *op == Op::Close => Ok(()),
            done => done,
        })
    }

    /// Does one thing.
    ///
    /// # Errors
    /// Why it failed.
    ///
    /// # Panics
    /// If it cannot be done in this place.
    pub fn step(&mut self, op: Op) -> Result<(), Stopped> {
        let done = self.act(op);
        if let Err(Stopped::Error(Error::Unproven { lsn, .. })) = &done {
            self.moment.oracle.acknowledge(lsn.value())?;
        }
        done
    }

    fn act(&mut self, op: Op) -> Result<(), Stopped> {
        match op {
            Op::Open => self.open(false).map(drop),
            Op::Append(len) => self.append(1, len, None).map(drop),
            Op::Write(len) => self.append(1, len, Some(Durability::Os)).map(drop),
            Op::Batch(count, len) => self.append(count, len, None).map(drop),
            Op::Transaction(count, len) => self.transaction(count, len, Ending::Commit),
            Op::Rollback(count, len) => self.transaction(count, len, Ending::Rollback),
            Op::Across(len) => self.transaction(2, len, Ending::CommitAcrossCheckpoint),
            Op::Fill(len) => self.fill(len),
            Op::Sync => self.sync(),
            Op::Close => self.close(),
            Op::Checkpoint => self.checkpoint(),
            Op::Truncate(keep) => {
                let lsn = self.moment.oracle.next().saturating_sub(keep).max(1);
                self.give_up(Giving::Before(lsn), |log| log.truncate_before(Lsn::new(lsn)).map(from))
            }
            Op::Discard(keep) => {
                let lsn = self.moment.oracle.next().saturating_sub(keep).max(1);
                self.give_up(Giving::Before(lsn), |log| log.discard_before(Lsn::new(lsn)).map(from))
            }
            Op::Cut(off) => {
                let lsn = self.moment.oracle.next() - 1 - off;
                self.give_up(Giving::After(lsn), |log| log.truncate_after(Lsn::new(lsn)).map(|()| Giving::After(lsn)))
            }
            Op::Reset(skip) => {
                let next = self.moment.oracle.next() + skip;
                self.give_up(Giving::All(next), |log| log.reset_to(Lsn::new(next)).map(|()| Giving::All(next)))
            }
            Op::Leave => {
                self.log = None;
                Ok(())
            }
            Op::Kill => {
                self.boot(Medium::kill);
                Ok(())
            }
            Op::PowerCut(left) => {
                let last = self.moment.medium.unsynced().last().map(|op| op.call);
                self.boot(|medium| medium.power_cut(|op| left.of(op, last == Some(op.call))));
                Ok(())
            }
        }
    }

    /// Ends this life of the medium. The plan goes on in the next one.
    fn boot(&mut self, end: impl FnOnce(&Medium)) {
        let done = self.moment.medium.calls();
        self.calls += done;
        end(&self.moment.medium);
        self.log = None;
        let cut = self.plan.cut_at_call.and_then(|call| call.checked_sub(done));
        let fail = self.plan.fail.iter().filter_map(|(call, failure)| Some((call.checked_sub(done)?, failure.clone())));
        self.plan = Plan { cut_at_call: cut, fail: fail.collect(), ..self.plan.clone() };
        self.moment.medium.set_plan(self.plan.clone());
    }

    /// Opens the log and takes what is recovered for durable; gives it.
    ///
    /// # Errors
    /// It could not be opened, or what was recovered is wrong.
    pub fn open(&mut self, full_check: bool) -> Result<Held, Stopped> {
        let config = Config { full_check, ..self.moment.config() };
        let device = self.moment.medium.try_device().expect("one handle at a time");
        let full = |failure: &Failure| matches!(failure, Failure::NoSpace | Failure::NoSpaceAfter(_));
        let may_be_full = self.plan.capacity.is_some() || self.plan.fail.iter().any(|(_, failure)| full(failure));
        if may_be_full {
            self.moment.oracle.may_make_room();
        }
        let log = Log::open_device(device, config)?;
        let mut held = recovered(&log)?;
        let low_water = log.low_water_lsn().value();
        if may_be_full && low_water > held.low_water {
            held.low_water = low_water;
            let held_by = log.stats()?.last_checkpoint_lsn.map_or(0, |lsn| lsn.value());
            if low_water > held_by + 1 {
                return Err(
                    violation!("{low_water} is the first LSN kept, and a checkpoint holds up to {held_by}").into()
                );
            }
        }
        let durable = log.synced_lsn().value();
        if may_be_full {
            self.moment.oracle.recovered_up_to(&held, durable)?;
        } else if durable == held.last {
            self.moment.oracle.recovered(&held)?;
        } else {
            return Err(violation!("{durable} is durable after an opening that recovered {}", held.last).into());
        }
        self.log = Some(log);
        Ok(held)
    }

    /// Appends a batch, or one entry, with the durability of the log's mode or another.
    ///
    /// # Errors
    /// It was refused, or answered wrongly.
    pub fn append(&mut self, count: usize, len: usize, durability: Option<Durability>) -> Result<Receipt, Stopped> {
        let expected = self.moment.oracle.next() + self.moment.oracle.owed();
        let payloads = self.moment.oracle.append(count, len);
        let payloads: Vec<_> = payloads.iter().map(|payload| &payload[..]).collect();
        let appended = match (&payloads[..], durability) {
            ([payload], Some(durability)) => self.log().append_with(*payload, durability),
            ([payload], None) => self.log().append(*payload),
            _ => self.log().append_batch(&payloads).map(|receipt| receipt.expect("the batch is not empty")),
        };
        match appended {
            Ok(receipt) => {
                let (first, last) = (receipt.first.value(), receipt.last.value());
                if (first, last) != (expected, expected + count as u64 - 1) {
                    return Err(violation!("LSNs {first} to {last} were given where {expected} comes next").into());
                }
                if receipt.durability == Durability::Durable {
                    self.moment.oracle.acknowledge(last)?;
                }
                self.look()?;
                Ok(receipt)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// See [`Oracle::failed`].
    fn failed(&mut self, error: Error) -> Stopped {
        let next = self.log().current_lsn();
        self.moment.oracle.failed(next, error)
    }

    /// A transaction, with something else between its entries.
    fn transaction(&mut self, count: usize, len: usize, ending: Ending) -> Result<(), Stopped> {
        let log = self.log.take().expect("the log is open");
        let (begun, done) = self.transaction_on(&log, count, len, ending);
        // A transaction that fails is rolled back when it is dropped, at once or when there is room.
        let oracle = &mut self.moment.oracle;
        if done.is_err() && log.current_lsn().value() > oracle.next() {
            oracle.append_rollback(begun);
        } else if done.is_err() {
            oracle.abandon(begun);
        }
        self.log = Some(log);
        done?;
        self.look()
    }

    fn transaction_on(
        &mut self,
        log: &Log<FaultyDevice>,
        count: usize,
        len: usize,
        ending: Ending,
    ) -> (u64, Result<(), Stopped>) {
        let oracle = &mut self.moment.oracle;
        oracle.append_own();
        let begun = oracle.next() - 1;
        (begun, self.in_transaction(log, begun, count, len, ending))
    }

    fn in_transaction(
        &mut self,
        log: &Log<FaultyDevice>,
        begun: u64,
        count: usize,
        len: usize,
        ending: Ending,
    ) -> Result<(), Stopped> {
        let oracle = &mut self.moment.oracle;
        let transaction = log.transaction().map_err(|error| oracle.failed(log.current_lsn(), error))?;
        if transaction.id() != begun {
            return Err(violation!("the transaction has the id {}, and not {begun}", transaction.id()).into());
        }
        for n in 0..count {
            if n == 1 {
                self.between(log, len, ending)?;
            }
            let oracle = &mut self.moment.oracle;
            let payload = oracle.append_to(begun, len);
            transaction.append(&payload[..]).map_err(|error| oracle.failed(log.current_lsn(), error))?;
        }
        let oracle = &mut self.moment.oracle;
        if ending == Ending::Rollback {
            oracle.append_rollback(begun);
            return transaction.rollback().map_err(|error| oracle.failed(log.current_lsn(), error));
        }
        oracle.append_commit(begun);
        let receipt = transaction.commit().map_err(|error| oracle.failed(log.current_lsn(), error))?;
        if receipt.last.value() + 1 != oracle.next() {
            return Err(violation!("the commit has {}, and {} comes next", receipt.last, oracle.next()).into());
        }
        if receipt.durability == Durability::Durable {
            oracle.acknowledge(receipt.last.value())?;
        }
        Ok(())
    }

    /// What goes on between the entries of a transaction.
    fn between(&mut self, log: &Log<FaultyDevice>, len: usize, ending: Ending) -> Result<(), Stopped> {
        let oracle = &mut self.moment.oracle;
        if ending == Ending::CommitAcrossCheckpoint {
            let at = log.checkpoint_at();
            oracle.append_own();
            log.checkpoint(at, &Snapshot::default()).map_err(|error| oracle.failed(log.current_lsn(), error))?;
            return Ok(oracle.acknowledge(oracle.next() - 1)?);
        }
        let payload = oracle.append(1, len).remove(0);
        let receipt = log.append(&payload[..]).map_err(|error| oracle.failed(log.current_lsn(), error))?;
        if receipt.durability == Durability::Durable {
            oracle.acknowledge(receipt.last.value())?;
        }
        Ok(())
    }

    fn fill(&mut self, len: usize) -> Result<(), Stopped> {
        let segments =
            |medium: &Medium| medium.names().iter().filter(|name| matches!(name, Object::Segment(_))).count();
        let before = segments(&self.moment.medium);
        for _ in 0..FILL_MAX {
            self.append(1, len, None)?;
            if segments(&self.moment.medium) > before {
                return Ok(());
            }
        }
        Err(violation!("{FILL_MAX} entries did not fill a segment").into())
    }

    /// Syncs.
    ///
    /// # Errors
    /// It failed, or answered wrongly.
    pub fn sync(&mut self) -> Result<(), Stopped> {
        let lsn = self.log().sync().map_err(|error| self.failed(error))?.value();
        self.moment.oracle.acknowledge(lsn)?;
        let last = self.moment.oracle.next() - 1;
        if lsn != last {
            return Err(violation!("a sync reached LSN {lsn}, and {last} were appended").into());
        }
        self.look()
    }

    fn checkpoint(&mut self) -> Result<(), Stopped> {
        let at = self.log().checkpoint_at();
        self.moment.oracle.append_own();
        match self.log().checkpoint(at, &Snapshot::default()) {
            Ok(_) => {
                self.moment.oracle.acknowledge(self.moment.oracle.next() - 1)?;
                self.look()
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn give_up(
        &mut self,
        giving: Giving,
        call: impl Fn(&Log<FaultyDevice>) -> Result<Giving, Error>,
    ) -> Result<(), Stopped> {
        let low_water = Lsn::new(self.moment.oracle.low_water());
        self.moment.oracle.give_up(giving);
        match call(self.log()) {
            Ok(given) => {
                self.moment.oracle.gave_up(given)?;
                let (expected, next) = (self.moment.oracle.next(), self.log().current_lsn().value());
                if next != expected {
                    return Err(violation!("the next LSN is {next}, and must be {expected}").into());
                }
                self.look()
            }
            // A checkpoint that may hold what is to be cut off could not be removed first: nothing was cut.
            Err(error @ Error::Device { action: Action::Remove, object: Some(Object::Checkpoint(_)), .. })
                if matches!(giving, Giving::After(_)) && self.is_alive() =>
            {
                self.moment.oracle.kept();
                Err(error.into())
            }
            // It is given up, and only the room was not given back: the log goes on.
            Err(Error::Device { action: Action::Remove, .. }) if self.is_alive() => {
                let Giving::Before(_) = giving else { return Ok(self.moment.oracle.gave_up(giving)?) };
                match call(self.log()) {
                    // Asked again, it found no room for a mark, which may be found all the same; the first one is in the log.
                    Err(Error::NoSpace(_)) if self.log().low_water_lsn() > low_water => {
                        self.moment.oracle.gave_up(from(self.log().low_water_lsn()))?;
                        self.moment.oracle.give_up(giving);
                        Ok(())
                    }
                    given => Ok(self.moment.oracle.gave_up(given?)?),
                }
            }
            Err(error) => {
                match (&error, giving) {
                    // The mark is in the log, and only the room was not given back.
                    (Error::NoSpace(_), Giving::Before(_)) if self.log().low_water_lsn() > low_water => {
                        self.moment.oracle.gave_up(from(self.log().low_water_lsn()))?;
                    }
                    // What was refused for lack of room may be found done.
                    (_, Giving::Before(_)) => {}
                    (Error::BelowCheckpoint { .. }, _) => self.moment.oracle.kept(),
                    (Error::NoSpace(_), _) if self.is_alive() => self.moment.oracle.kept(),
                    _ => {}
                }
                Err(self.failed(error))
            }
        }
    }

    /// Whether the handle is of use: neither poisoned nor without power.
    fn is_alive(&self) -> bool {
        self.log().sync().is_ok() && self.log().stats().is_ok()
    }

    fn close(&mut self) -> Result<(), Stopped> {
        let last = self.moment.oracle.next() - 1;
        let closed = self.log().close();
        self.log = None;
        closed?;
        self.moment.oracle.acknowledge(last)?;
        self.moment.oracle.sealed();
        Ok(())
    }

    /// What the handle calls durable is.
    fn look(&mut self) -> Result<(), Stopped> {
        let lsn = self.log().synced_lsn().value();
        Ok(self.moment.oracle.acknowledge(lsn)?)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // The handle's own drop finds the medium gone: a run that ends does nothing more.
        if self.log.is_some() {
            self.moment.medium.kill();
        }
    }
}

/// How a transaction ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Commit,
    CommitAcrossCheckpoint,
    Rollback,
}

impl Oracle {
    /// Something failed: what was refused, with what was staged before it and was promised to nobody, will never be there, and
    /// `next` is the next LSN. For any other reason, nobody knows.
    fn failed(&mut self, next: Lsn, error: Error) -> Stopped {
        if matches!(error, Error::NoSpace(_) | Error::TooLarge { .. }) {
            let next = next.value();
            if next > self.next() || next <= self.acknowledged() {
                let (last, acknowledged) = (self.next() - 1, self.acknowledged());
                let violation =
                    violation!("LSN {next} comes next after {last} was refused, and {acknowledged} was acknowledged");
                return violation.into();
            }
            self.refused(usize::try_from(self.next() - next).unwrap_or(usize::MAX));
        }
        error.into()
    }
}

fn from(lsn: Lsn) -> Giving {
    Giving::Before(lsn.value())
}

impl Left {
    fn of(self, op: &UnsyncedOp, is_last: bool) -> Keep {
        match (self, &op.change) {
            (Self::Nothing, _) => Keep::None,
            (Self::HalfTheLast, duralog::faulty::Change::Write { bytes, .. }) if is_last => {
                Keep::Prefix(bytes.len() / 2)
            }
            _ => Keep::All,
        }
    }
}
