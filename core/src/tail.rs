//! The newest segment, scanned to its end: what the log's last entries are, and what its marks prove.

use heapless::{Deque, Vec};

use crate::{
    Lsn,
    checksum::Update,
    cursor::Frame,
    decision::{Decision, Policy, Situation, decide},
    device::Object,
    drive::{Answer, Step, Stop},
    fault::Fault,
    frame::{Mark, NotAMark, SLOT_MAX, TRANSACTION_ID_LEN, u64_at},
    operation::Code,
    report::{Finding, Seen, TornTail, Verdict, Witness},
    segment::{SegmentHeader, TRANSACTIONS_MAX},
    walk::{Batch, Event, Halt, Walk},
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
#[derive(Clone, Debug)]
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
    pub(crate) slot: Vec<u8, SLOT_MAX>,
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
}

/// The scan.
#[derive(Debug)]
pub(crate) struct TailScan {
    tail: Tail,
    policy: Policy,
    /// What is gone below this LSN, a checkpoint holds.
    covered_below: Lsn,
    /// The last LSN that may count.
    until: Lsn,
    walk: Walk,
    boundaries: Deque<Boundary, BOUNDARIES>,
    transactions: Transactions,
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

impl TailScan {
    /// Scans the segment with this header. `claim` is the strongest witness from elsewhere; below `covered_below` a
    /// checkpoint holds what is gone.
    pub(crate) fn new(
        update: Update,
        header: SegmentHeader,
        policy: Policy,
        claim: Option<Claim>,
        covered_below: Lsn,
    ) -> Self {
        let start = header.frames_at();
        let before = header.first.previous();
        let carried = (header.transaction_floor < header.first).then_some(header.transaction_floor);
        let proven = Boundary { last: before, behind: start, next: start, floor: header.transaction_floor };
        Self {
            tail: Tail {
                header,
                last: before,
                behind: start,
                end: start,
                last_time: header.created,
                epoch: header.epoch,
                low_water: header.low_water,
                low_water_covered: header.low_water_covered,
                slot: Vec::new(),
                marked: None,
                // A segment's own header proves its predecessor, not itself.
                durable: claim.filter(|claim| claim.durable > before),
                proven,
                unproven_marks: None,
                sealed: false,
                free_at: None,
                torn: None,
                damaged: false,
            },
            policy,
            covered_below,
            until: Lsn::MAX,
            // The bytes behind the write limit are looked at too: a frame there proves that what fails was durable, however
            // much is bad, and where they are blank, so is all that the next writes go into.
            walk: Walk::new(update, &header, start, header.segment_size, header.first, u32::MAX),
            boundaries: Deque::new(),
            transactions: Transactions { carried, open: Vec::new() },
            ended: false,
        }
    }

    /// Scans a sealed segment whose successor is missing: nothing behind the entry at `until` counts.
    pub(crate) fn until(self, until: Lsn) -> Self {
        Self { until, ..self }
    }

    pub(crate) fn next(&mut self, buf: &mut [u8], answer: &mut Answer) -> Result<Tail, Stop> {
        while !self.ended {
            match self.walk.next(buf, answer)? {
                Event::Mark(frame) => self.mark(&frame, buf)?,
                Event::Entry { frame, .. } if frame.header.lsn > self.until => return Ok(self.tail.clone()),
                Event::Entry { frame, .. } => {
                    self.entry(&frame, buf);
                    if frame.header.lsn == self.until {
                        // A cut that goes through a batch makes what stands before it a whole one.
                        self.tail.last = frame.header.lsn;
                        self.tail.behind = frame.end;
                        return Ok(self.tail.clone());
                    }
                }
                Event::Behind(frame) => self.behind(&frame, buf),
                Event::Stop(halt) => {
                    if let Some(tail) = self.decide(&halt)? {
                        return Ok(tail);
                    }
                }
                Event::Finding(finding) => return Err(Step::Finding(finding).into()),
            }
        }
        self.tail.damaged = true;
        Ok(self.tail.clone())
    }

    fn entry(&mut self, frame: &Frame, buf: &[u8]) {
        self.transactions.take(frame, buf);
        self.tail.sealed = false;
        if !frame.header.kind.continues_batch() {
            self.tail.last = frame.header.lsn;
            self.tail.behind = frame.end;
            self.passed(frame);
        }
    }

    fn passed(&mut self, frame: &Frame) {
        self.tail.end = frame.end;
        self.tail.last_time = self.tail.last_time.max(frame.header.timestamp);
    }

    fn mark(&mut self, frame: &Frame, buf: &[u8]) -> Result<(), Fault> {
        self.passed(frame);
        let (durable, mark) = match Mark::decode(frame.header.kind.code(), &buf[frame.payload.clone()]) {
            Ok(mark) => mark,
            Err(NotAMark::Skippable) => return Ok(()),
            Err(NotAMark::Unsupported) => return Err(self.walk.unsupported(frame)),
        };
        if matches!(mark, Mark::Epoch(_)) {
            self.transactions.roll_back();
        }
        // The entries before it may be gone: then it alone says how far they went.
        let last = frame.header.lsn;
        let behind = if last > self.tail.last { frame.at } else { self.tail.behind };
        let floor = self.transactions.floor().unwrap_or(last.next_or_max());
        let boundary = Boundary { last, behind, next: frame.end, floor };
        if self.boundaries.is_full() {
            self.boundaries.pop_front();
        }
        // Never full: one was just taken out.
        let _ = self.boundaries.push_back(boundary);
        // A claim beyond the entry before it does not count.
        if durable <= frame.header.lsn {
            self.claim(frame.at, durable);
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
                self.tail.low_water = lsn;
                self.tail.low_water_covered = covered;
                self.tail.unproven_marks = Some(frame.header.lsn);
            }
            Mark::Slot(bytes) => {
                self.tail.slot.clear();
                // A mark holds no more than the slot does.
                let _ = self.tail.slot.extend_from_slice(bytes);
                self.tail.unproven_marks = Some(frame.header.lsn);
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
    fn behind(&mut self, frame: &Frame, buf: &[u8]) {
        let kind = frame.header.kind;
        if kind.is_mark()
            && let Ok((durable, _)) = Mark::decode(kind.code(), &buf[frame.payload.clone()])
            && durable <= frame.header.lsn
        {
            self.claim(frame.at, durable);
        }
        let expected = self.walk.expected();
        if frame.at > self.walk.at().saturating_add(self.tail.header.write_limit)
            && self.tail.durable.is_none_or(|known| known.durable < expected)
        {
            let witness = Witness::BeyondWriteLimit { segment: self.tail.header.id, offset: frame.at };
            self.tail.durable = Some(Claim { durable: expected, witness });
        }
    }

    /// Decides about the place where the scan stopped: the end, or how it goes on.
    fn decide(&mut self, halt: &Halt) -> Result<Option<Tail>, Stop> {
        let expected = self.walk.expected();
        let claim = self.tail.durable.filter(|claim| claim.durable >= expected);
        let debris = halt.debris_end > halt.at;
        let held = halt.next.is_some_and(|next| next.expected > expected && next.expected <= self.covered_below);
        let covered = held || expected <= self.tail.header.accepted_loss;
        let situation = Situation {
            // What is not blank further on was written: the place is a bad frame, not the end. In recycled room it was
            // written in an earlier life.
            seen: if halt.seen == Seen::End && debris && halt.frames == 0 && !self.tail.header.recycled {
                Seen::BadHeader
            } else {
                halt.seen
            },
            later: halt.frames > 0,
            witness: claim.is_some(),
            covered,
            in_batch: self.walk.batch().is_some(),
        };
        match decide(situation) {
            Decision::Take => unreachable!("a good frame is no stop"),
            Decision::End => {
                self.tail.free_at = halt.blank.then_some(halt.at);
                Ok(Some(self.tail.clone()))
            }
            // What stands behind a seal belongs to an epoch that never came to be.
            Decision::Cut if self.tail.sealed && halt.frames == 0 => Ok(Some(self.tail.clone())),
            Decision::Cut => {
                self.cut(halt);
                Ok(Some(self.tail.clone()))
            }
            Decision::Damage(verdict) => self.damage(verdict, halt, claim, covered),
            Decision::Harmless => self.damage(Verdict::Rot, halt, claim, covered),
        }
    }

    fn cut(&mut self, halt: &Halt) {
        let batch = self.walk.batch();
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
    fn damage(
        &mut self,
        verdict: Verdict,
        halt: &Halt,
        claim: Option<Claim>,
        covered: bool,
    ) -> Result<Option<Tail>, Stop> {
        let expected = self.walk.expected();
        let first = self.walk.batch().map_or(expected, |batch: Batch| batch.first);
        let last = match (halt.next, claim) {
            (Some(next), _) => next.expected.previous(),
            (None, Some(claim)) => claim.durable,
            (None, None) => expected,
        };
        let finding = Finding {
            verdict,
            seen: halt.seen,
            object: Object::Segment(self.tail.header.id),
            offset: halt.at.into(),
            len: halt.next.map_or(halt.debris_end.max(halt.at) - halt.at, |next| next.at - halt.at).into(),
            lsns: (first <= last).then_some((first, last)),
            witness: claim.map(|claim| claim.witness),
            // Where no LSN is missing, a mark was lost: what it said, later ones say too.
            in_transaction: None,
            harmless: covered || first > last,
        };
        match halt.next {
            Some(next) if finding.harmless || self.policy.skips_damage() => {
                self.walk.skip(finding, next);
                Ok(None)
            }
            _ => {
                self.ended = true;
                Err(Step::Finding(finding).into())
            }
        }
    }
}

impl Transactions {
    fn take(&mut self, frame: &Frame, buf: &[u8]) {
        let kind = frame.header.kind;
        let payload = &buf[frame.payload.clone()];
        if !kind.is_in_transaction() || payload.len() < TRANSACTION_ID_LEN {
            return;
        }
        let id = u64_at(payload, 0);
        match Code::from_u8(kind.code()) {
            // More than may be open are of no writer of version 1; their floor would be lower than any remembered.
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
