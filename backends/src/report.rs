//! What recovery found, for programs: the core's report, and every finding.

use duralog_core::{
    CheckpointId, Crossing, DeviceError, Entry, ErrorKind, Finding, Flow, Host, JudgeLoss, Lsn, Object, Policy, Read,
    ReadCheckpoint, Reader, Reading, Report, Seen, SegmentId, TornTail, View, Witness, Writer,
    checkpoint::CheckpointHead,
    checksum, drive,
    operation::{Code, Operation},
};
use uuid::Uuid;

use crate::{
    device::SharedDevice,
    error::{Error, Result},
};

/// What recovery found when a log was opened, or verified.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The log.
    pub log_id: Uuid,
    /// Its epoch when it was found.
    pub epoch: u64,
    /// The policy.
    pub policy: Policy,
    /// Whether the log was made now.
    pub created: bool,
    /// Entries that the log holds, as far as headers and the frames read tell.
    pub entries_recovered: u64,
    /// Entries that are gone, as far as is known: of the torn tail, and in damage.
    pub entries_skipped: u64,
    /// Of a [`MemoryStore`](crate::MemoryStore): entries that were applied behind the checkpoint, or from the first on where
    /// there is none. 0 for a log, which keeps no state.
    pub entries_replayed: u64,
    /// The last entry.
    pub last_valid_lsn: Lsn,
    /// The first LSN that truncation keeps. A batch or transaction that ends at or above it is kept whole, so the first
    /// entry that is read may be one of its entries below; it is not counted in `entries_recovered`.
    pub low_water: Lsn,
    /// The LSNs whose entries were read and verified, first and last; no more is claimed.
    pub verified: Option<(Lsn, Lsn)>,
    /// The highest LSN that is proved to have been durable.
    pub durable_lsn: Lsn,
    /// Of a log: the newest checkpoint that begins as one does, from which the state is built up if the rest of it is valid;
    /// opening reads no more of it, and one that a crash left half written or that is damaged may stand here. Of a
    /// [`MemoryStore`](crate::MemoryStore): the one that was loaded, valid as a whole. `None` where there is none.
    /// [`Rebuilt`](crate::Rebuilt) tells the same of each state that is built up, and what was passed over.
    pub checkpoint_used: Option<(CheckpointId, Lsn)>,
    /// The tail that a crash left half written, and that was cut off or would be.
    pub torn_tail: Option<TornTail>,
    /// Every place that is not as it should be, damage and what costs nothing. Once every entry was read, what is left of committed
    /// transactions that lost an entry is among them: it does not count.
    pub findings: Vec<Finding>,
    /// What is missing up to here was given up before.
    pub accepted_loss: Lsn,
    /// A segment that was being created when the writer stopped.
    pub unfinished: Option<SegmentId>,
    /// Entries that were copied into a new segment, because only a cache may have held them.
    pub repersisted: u64,
    /// Whether the log had been closed.
    pub closed: bool,
    /// Whether nothing was dropped and nothing is damaged.
    pub clean: bool,
    /// Whether the policy allows to write on.
    pub writable: bool,
    /// Whether nothing that was acknowledged is known to be gone.
    pub success: bool,
    /// How long it took, in microseconds of the log's clock.
    pub duration_us: u64,
    /// Checkpoints that the entries read tell of, the newest few: they were complete.
    pub(crate) checkpoints: Vec<CheckpointId>,
}

impl RecoveryReport {
    pub(crate) fn made(writer: &Writer, policy: Policy) -> Self {
        Self {
            log_id: writer.log(),
            epoch: writer.epoch(),
            policy,
            created: true,
            entries_recovered: 0,
            entries_skipped: 0,
            entries_replayed: 0,
            last_valid_lsn: Lsn::ZERO,
            low_water: Lsn::FIRST,
            verified: None,
            durable_lsn: Lsn::ZERO,
            checkpoint_used: None,
            torn_tail: None,
            findings: Vec::new(),
            accepted_loss: Lsn::ZERO,
            unfinished: None,
            repersisted: 0,
            closed: false,
            clean: true,
            writable: true,
            success: true,
            duration_us: 0,
            checkpoints: Vec::new(),
        }
    }

    pub(crate) fn found(report: &Report, findings: Vec<Finding>) -> Self {
        let mut this = Self {
            log_id: report.log,
            epoch: report.epoch,
            policy: report.policy,
            created: false,
            entries_recovered: 0,
            entries_skipped: 0,
            entries_replayed: 0,
            last_valid_lsn: report.last,
            low_water: report.low_water,
            verified: report.verified,
            durable_lsn: report.durable,
            checkpoint_used: report.checkpoint,
            torn_tail: report.torn_tail,
            findings,
            accepted_loss: report.accepted_loss,
            unfinished: report.unfinished,
            repersisted: report.repersisted,
            closed: report.closed,
            clean: report.is_clean(),
            writable: report.is_writable(),
            success: true,
            duration_us: 0,
            checkpoints: Vec::new(),
        };
        this.sum_up();
        this
    }

    /// Findings that lose something.
    pub fn damage(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| !finding.harmless)
    }

    /// Ranges of LSNs that are missing for good, by damage that was accepted.
    pub fn gaps(&self) -> impl Iterator<Item = (Lsn, Lsn)> + '_ {
        self.findings.iter().filter(|finding| self.is_gap(finding)).filter_map(|finding| finding.lsns)
    }

    /// Whether a finding tells of entries that were given up before.
    #[must_use]
    pub fn is_gap(&self, finding: &Finding) -> bool {
        finding.harmless && finding.lsns.is_some_and(|(_, last)| last <= self.accepted_loss)
    }

    /// Whether taking the log over gives something up for good. Salvage also gives up what a checkpoint holds: that is no
    /// loss, and no later damage to the checkpoint makes it one that refuses the log.
    pub(crate) fn gives_up(&self) -> bool {
        let missing = |finding: &Finding| finding.lsns.is_some_and(|(_, last)| last > self.accepted_loss);
        // Where the log ends in what a checkpoint holds, it does not go on at its end.
        let at_end = |finding: &Finding| finding.lsns.is_some_and(|(_, last)| last > self.last_valid_lsn);
        match self.policy {
            Policy::PointInTime => self.damage().next().is_some() || self.findings.iter().any(at_end),
            Policy::Salvage => self.damage().next().is_some() || self.findings.iter().any(missing),
            Policy::Strict | Policy::Default | Policy::Inspect => false,
        }
    }

    /// Where the log has to be cut, by a policy that ends it before the first damage: the first LSN that is gone, if it is
    /// in a sealed segment. In the newest, recovery itself ended before it.
    pub(crate) fn cut_before(&self) -> Option<Lsn> {
        let kept = self.damage().filter_map(|finding| finding.lsns).filter(|(_, last)| *last >= self.low_water);
        let mut cut = kept.map(|(first, _)| first).min();
        // What is gone right before it is not there to be the last entry.
        let reaches = |(first, last): &(Lsn, Lsn), cut: Lsn| *first < cut && last.next_or_max() >= cut;
        let gone = || self.findings.iter().filter_map(|finding| finding.lsns);
        while let Some((first, _)) = cut.and_then(|cut| gone().find(|gone| reaches(gone, cut))) {
            cut = Some(first);
        }
        cut.filter(|first| self.policy == Policy::PointInTime && *first <= self.last_valid_lsn)
    }

    /// By a policy that ends the log before the first damage, all from there up to `highest` is given up, whole or not: says
    /// so, once every entry was looked at.
    pub(crate) fn end_before_damage(&mut self, highest: Lsn) {
        let low_water = self.low_water;
        let kept =
            |finding: &&mut Finding| !finding.harmless && finding.lsns.is_some_and(|(_, last)| last >= low_water);
        let lowest = self.findings.iter_mut().filter(kept).min_by_key(|finding| finding.lsns);
        let Some(finding) = lowest.filter(|_| self.policy == Policy::PointInTime) else { return };
        let Some((first, last)) = finding.lsns else { return };
        finding.lsns = Some((first, last.max(highest)));
        let end = first.previous();
        self.last_valid_lsn = self.last_valid_lsn.min(end);
        // Every entry was read: those from the last gap on that is left.
        let gaps = self.findings.iter().filter_map(|finding| finding.lsns).filter(|(_, last)| *last <= end);
        let from = gaps.map(|(_, last)| last.next_or_max()).fold(low_water, Lsn::max);
        self.verified = (from <= end).then_some((from, end));
        self.sum_up();
    }

    /// Reads and verifies every entry of the log that `view` shows. What is gone and in one of these checkpoints does no
    /// harm.
    pub(crate) fn check_all<D: SharedDevice>(
        &mut self,
        device: &mut D,
        view: &View,
        checkpoints: &[CheckpointHead],
        buf: &mut Vec<u8>,
    ) -> Result<()> {
        let mut checked = Checked::default();
        drive(Crossing::new(view, Policy::Inspect), device, buf, &mut checked).map_err(Error::from)?;
        let reader = || Reader::new(view.clone(), view.low_water(), Lsn::MAX, Policy::Inspect);
        let read = drive(reader(), device, buf, &mut checked).map_err(Error::from)?;
        if let Some(mut torn) = self.take_in(&read, checked) {
            drive(Crossing::new(view, Policy::Inspect), device, buf, &mut torn).map_err(Error::from)?;
            drive(reader(), device, buf, &mut torn).map_err(Error::from)?;
            self.lose(torn);
        }
        self.weigh(device, view, checkpoints, buf)?;
        self.judge()
    }

    /// Adds what reading every entry found. Gives what is to be shown every entry once more, where transactions are torn.
    pub(crate) fn take_in(&mut self, read: &Read, checked: Checked) -> Option<Torn> {
        self.verified = read.verified;
        self.checkpoints = checked.checkpoints;
        for finding in checked.findings {
            // Recovery has told of what is in the newest segment, with its witness, and of all that is missing between
            // segments and before the first.
            let told = |known: &Finding| (known.object, known.offset) == (finding.object, finding.offset);
            // Only what is missing before a segment has that segment itself for its witness.
            let before = matches!(
                (finding.object, finding.witness),
                (Object::Segment(id), Some(Witness::Successor(witness))) if id == witness
            );
            // It tells of nothing below the low-water mark, where a transaction that ends above may have an entry.
            let is_below = finding.lsns.is_some_and(|(_, last)| last < self.low_water);
            let is_of_recovery = !is_below && (finding.seen == Seen::MissingSegment || before);
            if !is_of_recovery && !self.findings.iter().any(told) {
                self.findings.push(finding);
            }
        }
        if self.policy == Policy::PointInTime {
            self.end_before_torn(checked.first_torn);
            return None;
        }
        (!checked.torn.is_empty()).then(|| Torn { transactions: checked.torn, runs: Vec::new() })
    }

    /// A log that ends before the first damage ends before any of these commits counts: by that damage, or where it is all below
    /// the low-water mark, by the first of them.
    fn end_before_torn(&mut self, first: Option<Finding>) {
        let Some(commit) = first else { return };
        let is_before = |finding: &Finding| {
            finding.lsns.is_some_and(|(_, last)| last >= self.low_water) && finding.lsns < commit.lsns
        };
        if !self.damage().any(is_before) {
            self.findings
                .push(Finding { harmless: commit.lsns.is_some_and(|(_, last)| last <= self.accepted_loss), ..commit });
        }
    }

    /// Adds the entries of transactions that do not count, for each has lost one.
    pub(crate) fn lose(&mut self, torn: Torn) {
        let accepted = self.accepted_loss;
        let is_accepted = |run: &Finding| run.lsns.is_some_and(|(_, last)| last <= accepted);
        self.findings.extend(torn.runs.into_iter().map(|run| Finding { harmless: is_accepted(&run), ..run }));
    }

    /// Sums up, and refuses what the policy refuses.
    pub(crate) fn judge(&mut self) -> Result<()> {
        self.sum_up();
        match (self.policy, self.damage().next()) {
            (Policy::Strict | Policy::Default, Some(&finding)) => Err(Error::Refused(finding)),
            _ => Ok(()),
        }
    }

    /// What is gone and in a valid checkpoint is no loss. Recovery has seen the checkpoints' heads alone: what they said
    /// holds no longer where the rest of them is not valid.
    fn weigh<D: SharedDevice>(
        &mut self,
        device: &mut D,
        view: &View,
        checkpoints: &[CheckpointHead],
        buf: &mut Vec<u8>,
    ) -> Result<()> {
        if !self.needs_checkpoints(view) {
            return Ok(());
        }
        let mut valid = Vec::new();
        let mut bad = None;
        for head in checkpoints {
            let read = ReadCheckpoint::new(checksum::portable, view.log(), head.id, Reading::Check);
            match drive(read, device, buf, &mut ()) {
                Ok(Ok(_)) => valid.push(*head),
                Ok(Err(_)) => bad = bad.or(Some(head.id)),
                // Beside a writer: a newer one has taken its place.
                Err(duralog_core::Error::Device { error, .. }) if error.kind() == ErrorKind::Gone => {}
                Err(error) if error.is_unreadable() => bad = bad.or(Some(head.id)),
                Err(error) => return Err(error.into()),
            }
        }
        self.weigh_by(&valid);
        if self.misses_state(view, &valid) && drive(JudgeLoss::new(view.clone()), device, buf, &mut ())? {
            self.findings.push(view.state_lost(bad));
        }
        Ok(())
    }

    /// Whether what was found can only be judged by reading the checkpoints.
    pub(crate) fn needs_checkpoints(&self, view: &View) -> bool {
        !self.findings.is_empty()
            || view.is_covered()
            || (view.low_water() > Lsn::FIRST && !self.checkpoints.is_empty())
    }

    /// Judges what was found by the checkpoints that are valid.
    pub(crate) fn weigh_by(&mut self, valid: &[CheckpointHead]) {
        let floor = valid.iter().map(|head| head.floor).max().unwrap_or_default();
        // Of a segment that is missing behind the end, nothing tells how many entries it held; nor, where the end itself is
        // gone, what stood behind the last entry that a checkpoint or another witness knows of.
        let end = self.last_valid_lsn;
        let is_open = |finding: &Finding| {
            finding.lsns.is_some_and(|(first, _)| first > end)
                || matches!(
                    (finding.seen, finding.witness),
                    (Seen::StateLost, _) | (Seen::MissingSegment | Seen::BadSegmentHeader, Some(Witness::Meta { .. }))
                )
        };
        // A checkpoint holds what was committed up to its LSN, whatever else was open there.
        let contained = valid.iter().map(|head| head.lsn).max().unwrap_or_default();
        let commits: Vec<_> =
            self.findings.iter().filter_map(|finding| Some((finding.transaction?, finding.lsns?.1))).collect();
        let is_held = |finding: &Finding| {
            let own = commits.iter().filter(|(id, _)| Some(*id) == finding.transaction).map(|(_, lsn)| *lsn);
            finding.seen == Seen::TornTransaction && own.max() <= Some(contained)
        };
        for finding in self.findings.iter_mut().filter(|finding| !is_open(finding)) {
            if let Some((_, last)) = finding.lsns {
                finding.harmless = last <= self.accepted_loss || last < floor || is_held(finding);
            }
        }
    }

    /// Whether none of the valid checkpoints holds what was given up, though one may have: [`JudgeLoss`] knows.
    pub(crate) fn misses_state(&self, view: &View, valid: &[CheckpointHead]) -> bool {
        let low_water = view.low_water();
        // One that lacks what was given up since, without a checkpoint, is no damage: that was asked for.
        let is_there = |id: &CheckpointId| valid.iter().any(|head| head.id == *id);
        let is_missing = view.is_covered() || self.checkpoints.last().is_some_and(|id| !is_there(id));
        let is_held = |head: &CheckpointHead| view.needed_from(head) >= low_water;
        let told = self.findings.iter().any(|finding| finding.seen == Seen::StateLost);
        low_water > Lsn::FIRST && is_missing && !told && !valid.iter().any(is_held)
    }

    /// Works out the counts from what was found.
    pub(crate) fn sum_up(&mut self) {
        // Hostile bytes claim any LSN: what is counted may be absurd, never more than can be counted.
        let low_water = self.low_water;
        let count = |first: Lsn, last: Lsn| last.next_or_max().value().saturating_sub(first.max(low_water).value());
        let mut ranges: Vec<_> = self.findings.iter().filter_map(|finding| finding.lsns).collect();
        ranges.sort_unstable();
        // What is given up behind damage may hold more damage: each LSN counts once.
        let sum = |most: Lsn| {
            let mut counted = Lsn::ZERO;
            ranges.iter().fold(0_u64, |sum, &(first, last)| {
                let (first, last) = (first.max(counted.next_or_max()), last.min(most));
                counted = counted.max(last);
                sum.saturating_add(count(first, last))
            })
        };
        let lost = sum(Lsn::MAX);
        let inside = sum(self.last_valid_lsn);
        let span = count(low_water, self.last_valid_lsn);
        self.entries_recovered = span.saturating_sub(inside);
        self.entries_skipped = lost.saturating_add(self.torn_tail.map_or(0, |torn| torn.frames.into()));
        let damaged = self.damage().next().is_some();
        self.clean = self.torn_tail.is_none() && !damaged;
        self.success = !damaged;
        if !self.success && matches!(self.policy, Policy::Strict | Policy::Default) {
            self.writable = false;
        }
    }
}

/// Collects what is found while every entry is read.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    findings: Vec<Finding>,
    checkpoints: Vec<CheckpointId>,
    /// Transactions that were committed and may have lost an entry: their ids and the LSNs of their commits.
    torn: Vec<(u64, Lsn)>,
    /// The first of these commits that stands.
    first_torn: Option<Finding>,
}

impl Checked {
    /// More checkpoints than this are never kept.
    const CHECKPOINTS: usize = 64;
}

impl Host for Checked {
    fn entry(&mut self, entry: Entry<'_>) -> Flow {
        if entry.kind.code() == Code::Checkpoint.value()
            && let Ok(Operation::Checkpoint { checkpoint_id, .. }) =
                Operation::decode(entry.kind.code(), entry.transaction, entry.payload)
        {
            if self.checkpoints.len() == Self::CHECKPOINTS {
                self.checkpoints.remove(0);
            }
            self.checkpoints.push(checkpoint_id);
        }
        if let (Some(Code::TxnCommit), Some(id)) = (Code::from_u8(entry.kind.code()), entry.transaction)
            && self.findings.iter().any(|finding| finding.tears(Lsn::new(id), entry.lsn))
        {
            self.torn.push((id, entry.lsn));
            self.first_torn.get_or_insert_with(|| Finding::torn_transaction(&entry));
        }
        Flow::Continue
    }

    fn finding(&mut self, finding: &Finding) {
        self.findings.push(*finding);
        if let (true, Some(id), Some((_, last))) = (finding.commits, finding.transaction, finding.lsns) {
            self.torn.push((id.get(), last));
        }
    }
}

/// Lists the entries of transactions that do not count.
#[derive(Debug)]
pub(crate) struct Torn {
    transactions: Vec<(u64, Lsn)>,
    runs: Vec<Finding>,
}

impl Host for Torn {
    fn entry(&mut self, entry: Entry<'_>) -> Flow {
        let is_of = |(id, commit): &(u64, Lsn)| entry.transaction == Some(*id) && entry.lsn <= *commit;
        if self.transactions.iter().any(is_of) {
            let one = Finding::torn_transaction(&entry);
            match self.runs.last_mut() {
                // What stands one behind the other is told as one.
                Some(run)
                    if (run.object, run.transaction) == (one.object, one.transaction)
                        && run.lsns.is_some_and(|(_, last)| last.next_or_max() == entry.lsn) =>
                {
                    run.lsns = run.lsns.map(|(first, _)| (first, entry.lsn));
                    run.len = one.offset + one.len - run.offset;
                }
                _ => self.runs.push(one),
            }
        }
        Flow::Continue
    }
}
