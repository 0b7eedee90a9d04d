//! The newest segment, scanned to its end: what the log's last entries are, and what its marks prove.

use heapless::{Deque, Vec};

use crate::{
    Lsn,
    checksum::Update,
    cursor::Frame,
    decision::{Decision, Policy, Situation, decide},
    device::Object,
    drive::{Step, Stopped, Turn},
    frame::{FrameHeader, Mark, NotAMark, Slot},
    operation::Code,
    report::{Finding, Seen, TornTail, Verdict, Witness},
    segment::{SegmentHeader, TRANSACTIONS_MAX},
    walk::{Event, Walk},
};

/// A fact from outside the newest segment that proves an LSN durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) durable: Lsn,
    pub(crate) witness: Witness,
}

/// A place between two writes: every entry before it has an LSN of at most `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boundary {
    /// The last entry before it.
    pub(crate) last: Lsn,
    /// Right behind that entry.
    pub(crate) behind: u32,
    /// Where reading on begins, behind the mark.
    pub(crate) next: u32,
    /// The first LSN of the oldest transaction that may be open there, else the LSN behind `last`.
    pub(crate) floor: Lsn,
}

/// How many boundaries are remembered: a mark's durable LSN lies at most a few writes back.
const BOUNDARIES: usize = 8;

/// What the newest segment holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    pub(crate) header: SegmentHeader,
    /// The last entry that counts.
    pub(crate) last: Lsn,
    /// Right behind that entry.
    pub(crate) behind: u32,
    /// Right behind the last frame that counts, marks included.
    pub(crate) end: u32,
    pub(crate) last_time: u64,
    pub(crate) epoch: u64,
    pub(crate) low_water: Lsn,
    pub(crate) low_water_covered: bool,
    /// What the segment itself says of it, where something else says more.
    said: Option<(Lsn, bool)>,
    pub(crate) slot: Slot,
    /// The highest durable LSN that a mark of this segment carries.
    pub(crate) marked: Option<Lsn>,
    /// What is known to have been durable, by whatever witness, and that witness.
    pub(crate) durable: Option<Claim>,
    /// The newest boundary that the marks prove: the entries behind it are the window.
    pub(crate) proven: Boundary,
    /// The LSN of a low-water mark or slot that nothing proves to be durable itself.
    pub(crate) unproven_marks: Option<Lsn>,
    /// Whether the last frame is the seal of a clean close.
    pub(crate) sealed: bool,
    /// Where the next write may go: behind the last frame, where the rest of the segment is blank as read.
    pub(crate) free_at: Option<u32>,
    pub(crate) torn: Option<TornTail>,
    /// Whether damage ended the scan before the end of the log.
    pub(crate) damaged: bool,
    /// The highest LSN that is gone, as far as was told.
    pub(crate) lost: Lsn,
    /// Whether entries are missing between those that are left.
    pub(crate) has_gap: bool,
}

/// The scan.
#[derive(Debug)]
pub(crate) struct TailScan {
    /// What was found so far.
    pub(crate) tail: Tail,
    policy: Policy,
    /// What is gone below this LSN, a checkpoint holds.
    covered_below: Lsn,
    /// Truncation has given up what is below this LSN, by what is known so far: where it is damaged, nothing is.
    pub(crate) given_up: Lsn,
    /// The damage that is being passed over is of what was given up.
    passes_given_up: bool,
    /// The last LSN that may count: of a sealed segment whose successor is missing, not all do.
    pub(crate) until: Lsn,
    walk: Walk,
    boundaries: Deque<Boundary, BOUNDARIES>,
    transactions: Transactions,
    /// The newest low-water mark behind the place where the scan stopped, and whether a checkpoint covers it.
    low_water_behind: Option<(Lsn, bool)>,
    /// The newest slot behind it whose mark stands behind no later entry.
    slot_behind: Option<Slot>,
    /// The last entry that is there behind it.
    last_behind: Lsn,
    /// Damage ended the scan: the finding was handed over.
    ended: bool,
}

/// The transactions open at one place.
#[derive(Debug)]
struct Transactions {
    /// The first LSN of the oldest that was open where the segment begins; which ones, only older segments tell.
    carried: Option<Lsn>,
    /// Ids of those begun since: the LSNs of their begins.
    open: Vec<u64, TRANSACTIONS_MAX>,
}

impl Tail {
    /// Of a segment with this header, before any frame of it is read.
    pub(crate) fn new(header: &SegmentHeader) -> Self {
        let (start, before) = (header.frames_at(), header.first.previous());
        let (low_water, low_water_covered) = header.truncated();
        Self {
            header: *header,
            last: before,
            behind: start,
            end: start,
            last_time: header.created,
            epoch: header.epoch,
            low_water,
            low_water_covered,
            said: None,
            slot: Slot::EMPTY,
            marked: None,
            durable: None,
            proven: Boundary { last: before, behind: start, next: start, floor: header.transaction_floor },
            unproven_marks: None,
            sealed: false,
            free_at: None,
            torn: None,
            damaged: false,
            lost: Lsn::ZERO,
            has_gap: false,
        }
    }

    /// Something else than a mark or the header of the segment says what was truncated.
    pub(crate) fn truncated_to(&mut self, lsn: Lsn, covered: bool) {
        self.said.get_or_insert((self.low_water, self.low_water_covered));
        (self.low_water, self.low_water_covered) = (lsn, covered);
    }

    /// What the segment itself says was truncated, and whether a checkpoint holds it.
    pub(crate) fn low_water_said(&self) -> (Lsn, bool) {
        self.said.unwrap_or((self.low_water, self.low_water_covered))
    }
}

impl TailScan {
    /// Scans the segment with this header. `claim` is the strongest witness from elsewhere; below `covered_below` a
    /// checkpoint holds what is gone.
    pub(crate) fn new(
        update: Update,
        header: &SegmentHeader,
        policy: Policy,
        claim: Option<Claim>,
        covered_below: Lsn,
    ) -> Self {
        let carried = (header.transaction_floor < header.first).then_some(header.transaction_floor);
        let mut tail = Tail::new(header);
        // A segment's own header proves its predecessor, not itself.
        tail.durable = claim.filter(|claim| claim.durable > tail.last);
        Self {
            // The bytes behind the write limit are looked at too: a frame there proves that what fails was durable, however
            // much is bad, and where they are blank, so is all that the next writes go into.
            walk: Walk::new(update, header, tail.end, header.segment_size, header.first, u32::MAX),
            tail,
            policy,
            covered_below,
            given_up: header.low_water,
            passes_given_up: false,
            until: Lsn::MAX,
            boundaries: Deque::new(),
            transactions: Transactions { carried, open: Vec::new() },
            low_water_behind: None,
            slot_behind: None,
            last_behind: Lsn::ZERO,
            ended: false,
        }
    }

    /// Goes on to the end of the segment, or of what is to be scanned of it; what was found is in `tail` then.
    pub(crate) fn next(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        while !self.ended {
            match self.walk.next(turn)? {
                Event::Mark => self.mark(turn)?,
                Event::Entry if self.walk.frame().header.lsn > self.until => return Ok(()),
                Event::Entry => {
                    if self.entry(turn) {
                        return Ok(());
                    }
                }
                Event::Behind => self.behind(turn),
                Event::Stop => {
                    if self.decide(turn)? {
                        return Ok(());
                    }
                }
                Event::Finding => {
                    let mut finding = self.walk.finding();
                    // With what went along, of a batch that lost an entry.
                    let last = finding.lsns.map_or(Lsn::ZERO, |(_, last)| last);
                    self.tail.lost = self.tail.lost.max(last);
                    if core::mem::take(&mut self.passes_given_up) {
                        if last < self.given_up {
                            continue;
                        }
                        // A batch that ends above the mark goes with it.
                        finding.harmless = false;
                        self.ended = !self.policy.skips_damage();
                    }
                    return Err(turn.need(Step::Finding(finding)));
                }
            }
        }
        self.tail.damaged = true;
        Ok(())
    }

    /// Takes an entry in; whether it is the last that may count.
    fn entry(&mut self, turn: &Turn<'_>) -> bool {
        let frame = self.walk.frame();
        let Frame { end, header, .. } = *frame;
        self.transactions.take(header, turn.bytes(&frame.payload));
        self.tail.sealed = false;
        // A cut that goes through a batch makes what stands before it a whole one.
        let is_last = header.lsn == self.until;
        if is_last || !header.kind.continues_batch() {
            self.tail.last = header.lsn;
            self.tail.behind = end;
        }
        if !header.kind.continues_batch() {
            self.passed(end, header.timestamp);
        }
        is_last
    }

    fn passed(&mut self, end: u32, timestamp: u64) {
        self.tail.end = end;
        self.tail.last_time = self.tail.last_time.max(timestamp);
    }

    fn mark(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        let Frame { at, end, header, ref payload } = *self.walk.frame();
        let (durable, mark) = match Mark::decode(header.kind.code(), turn.bytes(payload)) {
            Ok(mark) => mark,
            Err(NotAMark::Skippable) => {
                self.passed(end, header.timestamp);
                return Ok(());
            }
            Err(NotAMark::Unsupported) => return Err(self.walk.unsupported(turn)),
        };
        self.passed(end, header.timestamp);
        if matches!(mark, Mark::Epoch(_)) {
            self.transactions.roll_back();
        }
        // The entries before it may be gone: then it alone says how far they went.
        let last = header.lsn;
        let behind = if last > self.tail.last { at } else { self.tail.behind };
        let floor = self.transactions.floor().unwrap_or(last.next_or_max());
        // Of marks behind the same entry, the last proves what each does.
        if self.boundaries.back().is_some_and(|boundary| boundary.last == last && boundary.behind == behind) {
            self.boundaries.pop_back();
        } else if self.boundaries.is_full() {
            self.boundaries.pop_front();
        }
        // Never full: one was just taken out.
        let _ = self.boundaries.push_back(Boundary { last, behind, next: end, floor });
        // A claim beyond the entry before it does not count.
        if durable <= last {
            self.claim(at, durable);
            // A slot's mark may stand before the header was written: it proves nothing about this segment.
            if !matches!(mark, Mark::Slot(_)) {
                self.tail.marked = self.tail.marked.max(Some(durable));
                let newest = self.boundaries.iter().rev().find(|boundary| boundary.last <= durable);
                if let Some(boundary) = newest
                    && boundary.next > self.tail.proven.next
                {
                    self.tail.proven = *boundary;
                }
            }
        }
        self.tail.sealed = matches!(mark, Mark::Seal);
        // A later entry was durable, or everything was when the log was sealed.
        self.tail.unproven_marks =
            self.tail.unproven_marks.filter(|lsn| !self.tail.sealed && self.tail.marked <= Some(*lsn));
        match mark {
            Mark::Durable | Mark::Seal => {}
            Mark::Epoch(epoch) => self.tail.epoch = self.tail.epoch.max(epoch),
            Mark::LowWater { lsn, covered } => {
                (self.tail.low_water, self.tail.low_water_covered, self.tail.said) = (lsn, covered, None);
                self.tail.unproven_marks = Some(last);
            }
            Mark::Slot(bytes) => {
                // A mark holds no more than the slot does.
                self.tail.slot = Slot::of(bytes).unwrap_or(Slot::EMPTY);
                self.tail.unproven_marks = Some(last);
            }
        }
        Ok(())
    }

    fn claim(&mut self, offset: u32, durable: Lsn) {
        let witness = Witness::Mark { segment: self.tail.header.id, offset, durable };
        if self.tail.durable.is_none_or(|known| known.durable < durable) {
            self.tail.durable = Some(Claim { durable, witness });
        }
    }

    /// A sound frame behind the place where the scan stopped: it may be a witness.
    fn behind(&mut self, turn: &Turn<'_>) {
        let Frame { at, header, ref payload, .. } = *self.walk.frame();
        let mark =
            if header.kind.is_mark() { Mark::decode(header.kind.code(), turn.bytes(payload)).ok() } else { None };
        if let Some((durable, _)) = mark
            && durable <= header.lsn
        {
            self.claim(at, durable);
        }
        match mark {
            Some((_, Mark::LowWater { lsn, covered })) => self.low_water_behind = Some((lsn, covered)),
            Some((_, Mark::Slot(bytes))) if header.lsn == self.walk.expected().previous() => {
                self.slot_behind = Slot::of(bytes);
            }
            _ => {}
        }
        self.last_behind = self.last_behind.max(header.lsn);
        let expected = self.walk.expected();
        if at > self.walk.halt().at.saturating_add(self.tail.header.write_limit)
            && self.tail.durable.is_none_or(|known| known.durable < expected)
        {
            let witness = Witness::BeyondWriteLimit { segment: self.tail.header.id, offset: at };
            self.tail.durable = Some(Claim { durable: expected, witness });
        }
    }

    /// Decides about the place where the scan stopped: whether it is the end, or how it goes on.
    fn decide(&mut self, turn: &mut Turn<'_>) -> Result<bool, Stopped> {
        let (low_water_behind, slot_behind) = (self.low_water_behind.take(), self.slot_behind.take());
        let expected = self.walk.expected();
        let halt = self.walk.halt();
        let debris = halt.debris_end > halt.at;
        let ends_by = |lsn| halt.next.is_some_and(|next| next.expected > expected && next.expected <= lsn);
        let held = ends_by(self.covered_below) || expected <= self.tail.header.accepted_loss;
        // Whoever wrote the mark knew all below it to be durable: so this is no torn tail either.
        let marked = low_water_behind.map_or(self.given_up, |(lsn, _)| self.given_up.max(lsn));
        self.passes_given_up = !held && ends_by(marked);
        let covered = held || self.passes_given_up;
        let situation = Situation {
            // What is not blank further on was written: the place is a bad frame, not the end. In recycled room it was
            // written in an earlier life.
            seen: if halt.seen == Seen::End && debris && halt.frames == 0 && !self.tail.header.recycled {
                Seen::BadHeader
            } else {
                halt.seen
            },
            later: halt.frames > 0,
            witness: self.claimed().is_some(),
            covered,
            in_batch: self.walk.batch().is_some(),
        };
        match decide(situation) {
            Decision::End => self.tail.free_at = halt.blank.then_some(halt.at),
            // What stands behind a seal belongs to an epoch that never came to be.
            Decision::Cut if self.tail.sealed && halt.frames == 0 => {}
            Decision::Cut => {
                self.cut();
                // Truncation does not wait for what is torn off: it may be done, and then nothing below is there.
                if let Some((lsn, covered)) = low_water_behind.filter(|(lsn, _)| *lsn > self.tail.low_water) {
                    self.low_water_is(lsn, covered);
                    self.tail.unproven_marks = Some(self.tail.last);
                }
                // Where only a copy of it is lost, the slot is not.
                if let Some(slot) = slot_behind.filter(|_| expected.previous() == self.tail.last) {
                    self.tail.slot = slot;
                    self.tail.unproven_marks = Some(self.tail.last);
                }
            }
            damage => {
                // What was truncated by it is not missing, though the way to it ends here.
                if let Some((lsn, covered)) = low_water_behind.filter(|(lsn, _)| *lsn > self.tail.low_water) {
                    self.low_water_is(lsn, covered);
                }
                if self.passes_given_up {
                    self.given_up = marked;
                }
                let verdict = if let Decision::Damage(verdict) = damage { verdict } else { Verdict::Rot };
                return self.damage(turn, verdict, covered);
            }
        }
        Ok(true)
    }

    /// A mark behind the end says how much was truncated: at most what is there.
    fn low_water_is(&mut self, lsn: Lsn, covered: bool) {
        self.tail.truncated_to(lsn.min(self.tail.last.next_or_max()), covered);
    }

    /// The witness that the entry expected here was durable.
    fn claimed(&self) -> Option<Claim> {
        self.tail.durable.filter(|claim| claim.durable >= self.walk.expected())
    }

    fn cut(&mut self) {
        let (halt, batch) = (self.walk.halt(), self.walk.batch());
        let from = batch.map_or(halt.at, |batch| batch.at);
        let whole = batch.map_or(0, |batch| self.walk.expected().value() - batch.first.value());
        self.tail.torn = Some(TornTail {
            verdict: if self.tail.header.immediate { Verdict::Unproven } else { Verdict::Unsynced },
            segment: self.tail.header.id,
            offset: from,
            len: halt.debris_end.max(halt.at) - from,
            frames: halt.frames.saturating_add(u32::try_from(whole).unwrap_or(u32::MAX)),
        });
    }

    /// Goes on behind damage where the policy says so, or where nothing is lost by it; ends the scan where not.
    fn damage(&mut self, turn: &mut Turn<'_>, verdict: Verdict, covered: bool) -> Result<bool, Stopped> {
        let expected = self.walk.expected();
        let (halt, claim) = (*self.walk.halt(), self.claimed());
        let first = self.walk.batch().map_or(expected, |batch| batch.first);
        let last = match (halt.next, claim) {
            (Some(next), _) => next.expected.previous(),
            (None, Some(claim)) => claim.durable,
            (None, None) => expected,
        };
        let behind = halt.next.map_or(halt.debris_end.max(halt.at), |next| next.at);
        let mut finding = Finding::rot(halt.seen, Object::Segment(self.tail.header.id), halt.at);
        finding.verdict = verdict;
        finding.len = (behind - halt.at).into();
        finding.lsns = (first <= last).then_some((first, last));
        finding.witness = claim.map(|claim| claim.witness);
        // Where no LSN is missing, a mark was lost: what it said, later ones say too, or its copy.
        finding.harmless = covered || first > last;
        if first <= last {
            self.tail.lost = self.tail.lost.max(last);
        }
        match halt.next {
            Some(next) if finding.harmless || self.policy.skips_damage() => {
                self.tail.has_gap |= first <= last;
                self.walk.skip(&finding, next);
                Ok(false)
            }
            _ => {
                self.ended = true;
                // Whoever ends the log here gives up what stands behind it too.
                self.tail.lost = self.tail.lost.max(self.last_behind);
                Err(turn.need(Step::Finding(finding)))
            }
        }
    }
}

impl Transactions {
    fn take(&mut self, header: FrameHeader, payload: &[u8]) {
        let Some(id) = header.kind.transaction(payload) else { return };
        match Code::from_u8(header.kind.code()) {
            // No writer of version 1 leaves more open, but damage takes ends; their floor would be lower than any remembered.
            Some(Code::TxnBegin) if self.open.push(id).is_err() => self.carried = Some(Lsn::FIRST),
            Some(Code::TxnCommit | Code::TxnRollback) => self.open.retain(|open| *open != id),
            _ => {}
        }
    }

    fn roll_back(&mut self) {
        self.carried = None;
        self.open.clear();
    }

    fn floor(&self) -> Option<Lsn> {
        self.open.iter().copied().map(Lsn::new).chain(self.carried).min()
    }
}
