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
    report::{Finding, TornTail, Verdict, Witness},
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
    /// Scans nothing yet.
    #[inline(never)] // It is large: written where it is wanted, not moved there.
    pub(crate) fn new(update: Update) -> Self {
        let header = &SegmentHeader::NONE;
        Self {
            walk: Walk::new(update, header, 0, 0, Lsn::ZERO, u32::MAX),
            tail: Tail::new(header),
            policy: Policy::Inspect,
            covered_below: Lsn::ZERO,
            given_up: Lsn::ZERO,
            passes_given_up: false,
            until: Lsn::MAX,
            boundaries: Deque::new(),
            transactions: Transactions { carried: None, open: Vec::new() },
            low_water_behind: None,
            slot_behind: None,
            last_behind: Lsn::ZERO,
            ended: false,
        }
    }

    /// From now on scans the segment with this header. `claim` is the strongest witness from elsewhere; below `covered_below` a
    /// checkpoint holds what is gone.
    ///
    /// It is large: another one in its place would take as much of the stack.
    #[inline(never)]
    pub(crate) fn scan(
        &mut self,
        update: Update,
        header: &SegmentHeader,
        policy: Policy,
        claim: Option<Claim>,
        covered_below: Lsn,
    ) {
        self.tail = Tail::new(header);
        // A segment's own header proves its predecessor, not itself.
        self.tail.durable = claim.filter(|claim| claim.durable > self.tail.last);
        // The bytes behind the write limit are looked at too: a frame there proves that what fails was durable, however
        // much is bad, and where they are blank, so is all that the next writes go into.
        self.walk.restart(update, header, self.tail.end, header.segment_size, header.first);
        self.policy = policy;
        self.covered_below = covered_below;
        self.given_up = header.low_water;
        self.passes_given_up = false;
        self.until = Lsn::MAX;
        self.boundaries.clear();
        self.transactions.carried = (header.transaction_floor < header.first).then_some(header.transaction_floor);
        self.transactions.open.clear();
        self.low_water_behind = None;
        self.slot_behind = None;
        self.last_behind = Lsn::ZERO;
        self.ended = false;
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
                    }
                    self.ended = finding.stops(self.policy);
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
        let ends_by = |lsn| halt.next.is_some_and(|next| next.expected > expected && next.expected <= lsn);
        let held = ends_by(self.covered_below) || expected <= self.tail.header.accepted_loss;
        // Whoever wrote the mark knew all below it to be durable: so this is no torn tail either.
        let marked = low_water_behind.map_or(self.given_up, |(lsn, _)| self.given_up.max(lsn));
        self.passes_given_up = !held && ends_by(marked);
        let covered = held || self.passes_given_up;
        let situation = Situation {
            seen: halt.seen,
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
        if finding.stops(self.policy) || halt.next.is_none() {
            // Whoever ends the log here gives up what stands behind it too.
            self.tail.lost = self.tail.lost.max(self.last_behind);
        } else {
            self.tail.has_gap |= first <= last;
        }
        if let Some(next) = halt.next {
            // It is told once it is known how much goes with it, also where the scan ends then.
            self.walk.skip(&finding, next);
            return Ok(false);
        }
        self.ended = true;
        Err(turn.need(Step::Finding(finding)))
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

#[cfg(test)]
mod tests {
    extern crate std;
    use core::iter::repeat_n;
    use std::{vec, vec::Vec};

    use super::*;
    use crate::{
        checksum::portable,
        drive::{Answer, Stop},
        frame::{FRAME_HEADER_LEN, FRAME_OVERHEAD, FrameType, Salts},
        report::Seen,
        segment::SegmentId,
    };

    /// Where frames begin here.
    const START: u32 = 256;
    /// Bytes from one place to the next, each of which a frame may stand at: the write granule.
    const PLACE: u32 = 64;
    const PLACES: u32 = 40;
    /// Bytes of every entry, and of a mark that says nothing but what was durable.
    const LEN: u32 = FRAME_OVERHEAD + 8;
    /// Bytes of what is no frame.
    const DEBRIS_LEN: u32 = 30;
    const PLAIN: FrameType = FrameType::new(Code::Opaque.value());
    const SEGMENT: SegmentId = SegmentId::new(3);
    const DURABLE: Mark<'static> = Mark::Durable;

    /// What stands at one place of a segment.
    #[derive(Clone, Copy)]
    enum Stands {
        /// An entry with this LSN.
        Entry(u64),
        /// One of a batch that goes on.
        Batched(u64),
        /// One of this kind, in the transaction of this id.
        Of(u64, Code, u64),
        /// A mark behind the entry with the first LSN, which says that the second was durable.
        Marked(u64, u64, Mark<'static>),
        /// A frame of this type.
        Other(u64, FrameType),
        /// A frame of this type, one byte of which is another.
        Rotten(u64, FrameType),
        /// Bytes that are no frame.
        Debris,
        /// Nothing.
        Blank,
    }
    use Stands::{Batched, Blank, Debris, Entry, Marked, Of, Other, Rotten};

    fn place(n: u32) -> u32 {
        START + n * PLACE
    }

    /// Where the entry at this place ends, or the mark that says nothing else.
    fn end(n: u32) -> u32 {
        place(n) + LEN
    }

    fn bytes(header: &SegmentHeader, stands: &[Stands]) -> Vec<u8> {
        let salts = Salts::of(portable, header);
        let frame = |lsn: u64, at: u32, kind: FrameType, payload: &[u8]| {
            let mut frame = vec![0; FRAME_OVERHEAD as usize + payload.len()];
            frame[FRAME_HEADER_LEN..][..payload.len()].copy_from_slice(payload);
            // The later it stands, the later it was written.
            salts.complete(&mut frame, at, Lsn::new(lsn), at.into(), kind);
            frame
        };
        let mut bytes = vec![0xA5; START as usize];
        for (stands, at) in stands.iter().zip((START..).step_by(PLACE as usize)) {
            bytes.resize(at as usize, header.blank);
            bytes.extend(match *stands {
                Entry(lsn) => frame(lsn, at, PLAIN, &[1; 8]),
                Batched(lsn) => frame(lsn, at, PLAIN.batch_continues(), &[1; 8]),
                Of(lsn, code, id) => frame(lsn, at, FrameType::new(code.value()).in_transaction(), &id.to_le_bytes()),
                Marked(lsn, durable, mark) => {
                    let mut payload = vec![0; mark.payload_len()];
                    mark.encode(Lsn::new(durable), &mut payload);
                    frame(lsn, at, FrameType::new(mark.code()), &payload)
                }
                Other(lsn, kind) => frame(lsn, at, kind, &[1; 8]),
                Rotten(lsn, kind) => {
                    let mut frame = frame(lsn, at, kind, &[1; 8]);
                    frame[FRAME_HEADER_LEN] ^= 0x41;
                    frame
                }
                Debris => vec![0xA5; DEBRIS_LEN as usize],
                Blank => Vec::new(),
            });
        }
        bytes.resize(header.segment_size as usize, header.blank);
        bytes
    }

    /// The header of a segment, and what is known from elsewhere when it is scanned.
    #[derive(Clone, Copy)]
    struct Known {
        header: SegmentHeader,
        policy: Policy,
        /// What the caller knows to have been durable.
        durable: Option<u64>,
        covered_below: u64,
        given_up: u64,
        /// The last LSN that may count.
        until: Lsn,
    }

    /// A segment that begins with LSN 10, of a log that was truncated below 4, and nothing else.
    fn known() -> Known {
        let header = SegmentHeader {
            id: SEGMENT,
            epoch: 2,
            nonce: 7,
            first: Lsn::new(10),
            created: 100,
            low_water: Lsn::new(4),
            transaction_floor: Lsn::new(10),
            max_transactions: 16,
            granule: PLACE,
            segment_size: place(PLACES),
            write_limit: 4 * PLACE,
            ..SegmentHeader::NONE
        };
        assert_eq!(header.frames_at(), START);
        Known { header, policy: Policy::Default, durable: None, covered_below: 0, given_up: 4, until: Lsn::MAX }
    }

    fn caller(durable: u64) -> Claim {
        let durable = Lsn::new(durable);
        Claim { durable, witness: Witness::Caller { durable } }
    }

    impl Known {
        /// What a scan comes to where this stands in the segment, and what it tells of on the way.
        fn scan(&self, stands: &[Stands]) -> (Tail, Vec<Finding>) {
            let (bytes, mut buf) = (bytes(&self.header, stands), [0; 512]);
            let below = Lsn::new(self.covered_below);
            let mut scan = TailScan::new(portable);
            scan.scan(portable, &self.header, self.policy, self.durable.map(caller), below);
            (scan.given_up, scan.until) = (Lsn::new(self.given_up), self.until);
            let (mut answer, mut findings) = (Answer::Nothing, Vec::new());
            loop {
                match Turn::run(&mut buf, answer, |turn| scan.next(turn)) {
                    Ok(()) => return (scan.tail, findings),
                    Err(Stop::Need(Step::Finding(finding))) => {
                        findings.push(finding);
                        answer = Answer::Nothing;
                    }
                    Err(Stop::Need(Step::Read { object, at, into })) => {
                        assert_eq!(object, Object::Segment(SEGMENT));
                        let at = usize::try_from(at).unwrap();
                        answer = Answer::Moved(into.len());
                        buf[into.clone()].copy_from_slice(&bytes[at..][..into.len()]);
                    }
                    Err(stop) => panic!("{stop:?}"),
                }
            }
        }

        /// The same where nothing is to be told of.
        fn tail(&self, stands: &[Stands]) -> Tail {
            let (tail, findings) = self.scan(stands);
            assert_eq!((findings, tail.damaged, tail.has_gap), (Vec::new(), false, false));
            tail
        }

        /// The same where one thing is.
        fn finding(&self, stands: &[Stands]) -> (Tail, Finding) {
            let (tail, findings) = self.scan(stands);
            assert_eq!(findings.len(), 1, "{findings:?}");
            (tail, findings[0])
        }
    }

    fn durable(tail: &Tail) -> Option<(u64, Witness)> {
        tail.durable.map(|claim| (claim.durable.value(), claim.witness))
    }

    fn lsns(first: u64, last: u64) -> Option<(Lsn, Lsn)> {
        Some((Lsn::new(first), Lsn::new(last)))
    }

    /// Where the torn tail begins, its length, and the whole frames in it.
    fn torn(tail: &Tail) -> Option<(u32, u32, u32)> {
        tail.torn.map(|torn| (torn.offset, torn.len, torn.frames))
    }

    #[test]
    fn the_log_ends_behind_the_last_whole_batch_and_the_blank_room_behind_the_last_frame_is_free() {
        let known = known();
        let is = |stands: &[Stands]| {
            let tail = known.tail(stands);
            (tail.last.value(), tail.behind, tail.end, tail.last_time, tail.free_at)
        };
        let time = |n: u32| u64::from(place(n));
        assert_eq!(is(&[]), (9, START, START, 100, Some(START)), "as the segment was begun");
        assert_eq!(is(&[Entry(10), Entry(11)]), (11, end(1), end(1), time(1), Some(place(2))));
        assert_eq!(is(&[Entry(10), Marked(10, 9, DURABLE)]), (10, end(0), end(1), time(1), Some(place(2))));
        let skippable = Other(10, FrameType::new(48));
        assert_eq!(is(&[Entry(10), skippable]), (10, end(0), end(1), time(1), Some(place(2))));
        assert_eq!(is(&[Entry(10), Batched(11), Entry(12)]), (12, end(2), end(2), time(2), Some(place(3))));
        assert_eq!(is(&[Entry(10), Batched(11)]), (10, end(0), end(0), time(0), None), "the batch is torn");
        let later = Known { header: SegmentHeader { created: 9000, ..known.header }, ..known };
        assert_eq!(later.tail(&[Entry(10)]).last_time, 9000, "time does not go back");
    }

    #[test]
    fn what_nothing_proves_to_have_been_durable_is_torn_off_from_where_the_open_batch_began() {
        let known = known();
        let recycled = Known { header: SegmentHeader { recycled: true, ..known.header }, ..known };
        for (behind, is, in_recycled_room) in [
            (&[Debris][..], Some((place(1), DEBRIS_LEN, 0)), true),
            // In recycled room such bytes are of an earlier life.
            (&[Blank, Debris], Some((place(1), PLACE + DEBRIS_LEN, 0)), false),
            (&[Blank, Entry(12)], Some((place(1), PLACE + LEN, 1)), true),
            (&[Blank, Entry(12), Entry(13), Debris], Some((place(1), 3 * PLACE + DEBRIS_LEN, 2)), true),
            (&[Entry(12)], Some((place(1), LEN, 1)), true),
            (&[Rotten(11, PLAIN)], Some((place(1), LEN, 0)), true),
            (&[Batched(11)], Some((place(1), PLACE, 1)), true),
            (&[Batched(11), Batched(12), Debris], Some((place(1), 2 * PLACE + DEBRIS_LEN, 2)), true),
            (&[Batched(11), Batched(12), Debris, Entry(14)], Some((place(1), 3 * PLACE + LEN, 3)), true),
        ] {
            let stands = [&[Entry(10)], behind].concat();
            let tail = known.tail(&stands);
            assert_eq!((torn(&tail), tail.last.value(), tail.end, tail.free_at), (is, 10, end(0), None));
            let tail = recycled.tail(&stands);
            assert_eq!((torn(&tail), tail.free_at), (is.filter(|_| in_recycled_room), None));
        }
        let immediate = Known { header: SegmentHeader { immediate: true, ..known.header }, ..known };
        let verdict = |known: &Known| known.tail(&[Debris]).torn.map(|torn| (torn.verdict, torn.segment));
        assert_eq!(verdict(&known), Some((Verdict::Unsynced, SEGMENT)));
        assert_eq!(verdict(&immediate), Some((Verdict::Unproven, SEGMENT)));
    }

    #[test]
    fn behind_a_seal_nothing_is_torn_off_unless_a_whole_frame_stands_there() {
        let is = |behind: &[Stands]| {
            let tail = known().tail(&[&[Entry(10), Marked(10, 10, Mark::Seal)], behind].concat());
            (torn(&tail), tail.sealed, tail.free_at)
        };
        assert_eq!(is(&[]), (None, true, Some(place(2))));
        assert_eq!(is(&[Debris]), (None, true, None));
        assert_eq!(is(&[Blank, Debris]), (None, true, None));
        assert_eq!(is(&[Debris, Entry(12)]), (Some((place(2), PLACE + LEN, 1)), true, None));
        assert_eq!(is(&[Entry(11)]), (None, false, Some(place(3))), "the log went on");
    }

    #[test]
    fn a_mark_proves_what_stands_before_the_last_mark_behind_the_lsn_that_it_says_was_durable() {
        let is = |stands: &[Stands]| {
            let tail = known().tail(stands);
            (tail.proven, tail.marked.map(Lsn::value))
        };
        let boundary = |last: u64, behind: u32, next: u32| Boundary {
            last: Lsn::new(last),
            behind,
            next,
            floor: Lsn::new(last + 1),
        };
        let nothing = boundary(9, START, START);
        assert_eq!(is(&[Entry(10)]), (nothing, None));
        assert_eq!(is(&[Marked(9, 9, DURABLE)]), (boundary(9, START, end(0)), Some(9)));
        assert_eq!(is(&[Entry(10), Marked(10, 10, DURABLE)]), (boundary(10, end(0), end(1)), Some(10)));
        let again = [Entry(10), Marked(10, 9, DURABLE), Marked(10, 10, DURABLE)];
        assert_eq!(is(&again), (boundary(10, end(0), end(2)), Some(10)), "the last proves what each does");
        let back = [Entry(10), Marked(10, 9, DURABLE), Entry(11), Marked(11, 10, DURABLE)];
        assert_eq!(is(&back), (boundary(10, end(0), end(1)), Some(10)));
        assert_eq!(is(&[Entry(10), Marked(10, 11, DURABLE)]), (nothing, None), "beyond the entry before it");
        assert_eq!(is(&[Entry(10), Marked(10, 10, Mark::Slot(b"7"))]), (nothing, None), "it may be older");
    }

    #[test]
    fn where_the_entries_before_a_mark_are_gone_it_stands_itself_behind_them() {
        let salvage = Known { policy: Policy::Salvage, ..known() };
        let (tail, finding) = salvage.finding(&[Entry(10), Rotten(11, PLAIN), Marked(11, 11, DURABLE)]);
        assert_eq!((finding.lsns, tail.last.value()), (lsns(11, 11), 10));
        let behind = Boundary { last: Lsn::new(11), behind: place(2), next: end(2), floor: Lsn::new(12) };
        assert_eq!(tail.proven, behind);
    }

    #[test]
    fn a_mark_proves_a_place_up_to_so_many_places_back() {
        // Whether the last mark, which says so, still proves what stands before the first.
        let is_proven = |known: Known, between: &[Stands], last: u64| {
            let stands = [&[Entry(10), Marked(10, 9, DURABLE)], between, &[Marked(last, 10, DURABLE)]].concat();
            let proven = known.scan(&stands).0.proven;
            assert!(proven.last == Lsn::new(10) || proven.next == START);
            proven.last == Lsn::new(10)
        };
        let is_remembered = |n: usize| n < BOUNDARIES;
        for n in 1..=BOUNDARIES + 2 {
            let marks = |lsn: u64| repeat_n(Marked(lsn, 9, DURABLE), n - 1);
            let writes = (11..).take(n).flat_map(|lsn| [Entry(lsn), Marked(lsn, 9, DURABLE)]);
            let mut between: Vec<_> = writes.collect();
            between.pop();
            assert_eq!(is_proven(known(), &between, 10 + n as u64), is_remembered(n), "{n} writes");
            // So many marks behind one entry are one place.
            between = [Entry(11)].into_iter().chain(marks(11)).collect();
            assert!(is_proven(known(), &between, 11), "{n} marks");
            // Where that is gone, each stands at its own.
            between = [Rotten(11, PLAIN)].into_iter().chain(marks(11)).collect();
            let salvage = Known { policy: Policy::Salvage, durable: Some(11), ..known() };
            assert_eq!(is_proven(salvage, &between, 11), is_remembered(n), "{n} marks behind a loss");
        }
    }

    #[test]
    fn of_those_who_say_that_an_entry_was_durable_the_first_is_the_witness() {
        let is = |known: u64, stands: &[Stands]| {
            let known = Known { durable: Some(known), ..self::known() };
            durable(&known.scan(stands).0)
        };
        let mark = |n: u32, durable: u64| {
            Some((durable, Witness::Mark { segment: SEGMENT, offset: place(n), durable: Lsn::new(durable) }))
        };
        let caller = |durable: u64| Some((durable, caller(durable).witness));
        assert_eq!([is(9, &[]), is(10, &[])], [None, caller(10)], "the segment's header says as much");
        let twice = [Entry(10), Marked(10, 10, DURABLE), Marked(10, 10, DURABLE)];
        assert_eq!([is(9, &twice), is(10, &twice), is(11, &twice)], [mark(1, 10), caller(10), caller(11)]);
        let more = [Entry(10), Marked(10, 10, DURABLE), Entry(11), Marked(11, 11, DURABLE)];
        assert_eq!([is(9, &more), is(10, &more), is(11, &more)], [mark(3, 11), mark(3, 11), caller(11)]);
        assert_eq!(is(9, &[Entry(10), Marked(10, 10, Mark::Slot(b"7"))]), mark(1, 10));
        assert_eq!(is(9, &[Entry(10), Marked(10, 11, DURABLE)]), None, "beyond the entry before it");
        assert_eq!(is(9, &[Rotten(10, PLAIN), Marked(10, 10, DURABLE)]), mark(1, 10), "behind what is bad");
        assert_eq!(is(9, &[Rotten(10, PLAIN), Marked(10, 11, DURABLE)]), None);
    }

    #[test]
    fn a_frame_further_on_than_is_written_without_a_sync_proves_that_what_is_not_there_was_durable() {
        // A frame so many places behind the one where LSN 11 should stand.
        let is = |known: Option<u64>, distance: usize| {
            let known = Known { durable: known, ..self::known() };
            let blank = repeat_n(Blank, distance);
            let stands: Vec<_> = [Entry(10)].into_iter().chain(blank).chain([Entry(12), Entry(13)]).collect();
            let (tail, findings) = known.scan(&stands);
            let told: Vec<_> = findings.iter().map(|finding| (finding.lsns, finding.witness)).collect();
            (durable(&tail), told, tail.torn.is_some())
        };
        let witness = Witness::BeyondWriteLimit { segment: SEGMENT, offset: place(6) };
        // Of a batch or none: with what is missing goes what stands behind it up to the next mark.
        let told = |durable: u64, witness| (Some((durable, witness)), vec![(lsns(11, 13), Some(witness))], false);
        assert_eq!(is(None, 3), (None, vec![], true), "the second frame stands at the limit");
        assert_eq!(is(None, 5), told(11, witness), "the first of them tells");
        assert_eq!(is(Some(10), 5), told(11, witness));
        for known in [11, 12] {
            assert_eq!(is(Some(known), 5), told(known, caller(known).witness), "it was known");
        }
        let one = [Entry(10), Blank, Blank, Blank, Blank, Entry(12)];
        assert_eq!(torn(&known().tail(&one)), Some((place(1), 4 * PLACE + LEN, 1)), "at the limit");
    }

    #[test]
    fn the_scan_ends_at_damage_unless_the_policy_skips_it() {
        let stands = [Entry(10), Rotten(11, PLAIN), Marked(11, 11, DURABLE), Entry(12)];
        let witness = Witness::Mark { segment: SEGMENT, offset: place(2), durable: Lsn::new(11) };
        for policy in [Policy::Strict, Policy::Default, Policy::PointInTime, Policy::Salvage, Policy::Inspect] {
            let skips = policy.skips_damage();
            let (tail, finding) = Known { policy, ..known() }.finding(&stands);
            let is = Finding {
                len: PLACE.into(),
                lsns: lsns(11, 11),
                witness: Some(witness),
                // It was looked at closer, to find out what went with it.
                in_transaction: Some(false),
                ..Finding::rot(Seen::BadEntry, Object::Segment(SEGMENT), place(1))
            };
            assert_eq!(finding, is, "{policy:?}");
            let came_to = (tail.last.value(), tail.damaged, tail.has_gap, tail.lost.value());
            // Whoever ends the log here gives up what stands behind too.
            assert_eq!(came_to, if skips { (12, false, true, 11) } else { (10, true, false, 12) }, "{policy:?}");
            assert_eq!((torn(&tail), tail.free_at), (None, skips.then_some(place(4))), "{policy:?}");
        }
    }

    #[test]
    fn damage_takes_what_is_known_to_have_been_durable_and_the_batch_that_it_is_in() {
        let until_13 = Known { durable: Some(13), ..known() };
        for (stands, seen, offset, len, gone) in [
            (&[Entry(10)][..], Seen::End, place(1), 0, lsns(11, 13)),
            (&[Entry(10), Debris], Seen::BadHeader, place(1), DEBRIS_LEN, lsns(11, 13)),
            (&[Entry(10), Blank, Debris], Seen::BadHeader, place(1), PLACE + DEBRIS_LEN, lsns(11, 13)),
            // Nothing tells whether what stands behind it was of a batch with what is missing.
            (&[Entry(10), Blank, Entry(13)], Seen::End, place(1), PLACE, lsns(11, 13)),
            (&[Entry(10), Entry(13)], Seen::Hole, place(1), 0, lsns(11, 13)),
            (&[Entry(10), Batched(11), Debris, Entry(13)], Seen::BadHeader, place(2), PLACE, lsns(11, 13)),
            (&[Entry(10), Blank, Marked(12, 12, DURABLE), Entry(13)], Seen::End, place(1), PLACE, lsns(11, 12)),
        ] {
            let (tail, finding) = until_13.finding(stands);
            assert_eq!((finding.seen, finding.offset, finding.len), (seen, offset.into(), len.into()));
            assert_eq!((finding.verdict, finding.lsns, finding.harmless), (Verdict::Rot, gone, false));
            assert_eq!((tail.last.value(), tail.lost.value(), tail.damaged), (10, 13, true));
        }
    }

    #[test]
    fn every_policy_tells_of_the_whole_batch_that_damage_takes() {
        let batch = [Batched(11), Batched(12), Batched(13), Entry(14), Entry(15)];
        for bad in 0..4_u32 {
            let mut stands = batch;
            stands[bad as usize] = Rotten(11 + u64::from(bad), if bad < 3 { PLAIN.batch_continues() } else { PLAIN });
            for (behind, durable) in [(4, 14), (5, 14), (5, 15)] {
                // The one that ends the batch is bad, and nothing behind it: the witness alone tells how far it went.
                let stands = [&[Entry(10)], &stands[..behind]].concat();
                for policy in [Policy::Strict, Policy::Default, Policy::PointInTime, Policy::Salvage, Policy::Inspect] {
                    let known = Known { durable: Some(durable), policy, ..known() };
                    let (tail, finding) = known.finding(&stands);
                    let told = (finding.lsns, finding.offset, finding.witness);
                    let witness = caller(durable).witness;
                    assert_eq!(told, (lsns(11, 14), place(1 + bad).into(), Some(witness)), "{policy:?}");
                    let ends = !policy.skips_damage() || (bad == 3 && behind == 4);
                    assert_eq!((tail.damaged, tail.last.value()), (ends, if ends || behind == 4 { 10 } else { 15 }));
                    assert_eq!(tail.lost.value(), if ends { 10 + behind as u64 } else { 14 }, "{policy:?}");
                }
            }
        }
    }

    #[test]
    fn damage_costs_nothing_where_a_checkpoint_holds_what_is_gone_or_its_loss_was_accepted() {
        for (covered_below, accepted_loss, harmless) in
            [(0, 0, false), (11, 0, false), (12, 0, true), (0, 10, false), (0, 11, true), (12, 11, true)]
        {
            let header = SegmentHeader { accepted_loss: Lsn::new(accepted_loss), ..known().header };
            let known = Known { header, covered_below, durable: Some(12), ..known() };
            let (tail, finding) = known.finding(&[Entry(10), Rotten(11, PLAIN), Entry(12)]);
            assert_eq!((finding.lsns, finding.harmless), (lsns(11, 11), harmless));
            assert_eq!((tail.last.value(), tail.damaged), if harmless { (12, false) } else { (10, true) });
        }
    }

    #[test]
    fn no_entry_counts_behind_the_last_that_may_and_a_batch_that_is_cut_there_is_whole() {
        let is = |until: u64, stands: &[Stands]| {
            let known = Known { until: Lsn::new(until), policy: Policy::Salvage, durable: Some(12), ..known() };
            let tail = known.scan(stands).0;
            (tail.last.value(), tail.behind)
        };
        let stands = [Entry(10), Batched(11), Entry(12), Entry(13)];
        let each = [(9, START), (10, end(0)), (11, end(1)), (12, end(2)), (13, end(3)), (13, end(3))];
        for (until, came_to) in (9..).zip(each) {
            assert_eq!(is(until, &stands), came_to, "until {until}");
        }
        // The last itself may be gone.
        assert_eq!(is(11, &[Entry(10), Rotten(11, PLAIN), Entry(12)]), (10, end(0)));
    }

    #[test]
    fn where_a_mark_alone_is_gone_only_a_witness_of_what_stands_behind_it_lets_the_log_go_on() {
        let stands = [Entry(10), Rotten(10, FrameType::new(DURABLE.code())), Entry(11)];
        // Nothing that was given up is missing here, nor anything that a checkpoint holds.
        for (given_up, covered_below) in [(4, 0), (20, 0), (4, 20)] {
            let known = Known { given_up, covered_below, ..known() };
            assert_eq!(torn(&known.tail(&stands)), Some((place(1), PLACE + LEN, 1)));
            let (tail, finding) = Known { durable: Some(11), ..known }.finding(&stands);
            assert_eq!((finding.lsns, finding.harmless), (None, true));
            assert_eq!((tail.last.value(), tail.has_gap, tail.damaged), (11, false, false));
        }
    }

    #[test]
    fn what_was_given_up_is_passed_over_in_silence_unless_a_batch_goes_along_that_ends_above() {
        // A batch from 10 to 12 that has lost its first entry.
        let stands = [Rotten(10, PLAIN.batch_continues()), Batched(11), Entry(12), Entry(13)];
        for policy in [Policy::Default, Policy::Salvage] {
            let is = |given_up: u64| {
                let (tail, findings) = Known { given_up, policy, ..known() }.scan(&stands);
                let told: Vec<_> = findings.iter().map(|finding| (finding.lsns, finding.harmless)).collect();
                (told, tail.last.value(), tail.damaged, torn(&tail))
            };
            let skips = policy.skips_damage();
            let told = (vec![(lsns(10, 12), false)], if skips { 13 } else { 9 }, !skips, None);
            assert_eq!(is(10), (vec![], 9, false, Some((START, 3 * PLACE + LEN, 3))), "nothing of it was");
            assert_eq!([is(11), is(12)], [told.clone(), told], "part of it was, up to below that LSN");
            assert_eq!(is(13), (vec![], 13, false, None));
        }
    }

    #[test]
    fn a_low_water_mark_behind_the_end_counts_where_it_says_more_than_is_known_and_up_to_the_end() {
        let is = |known: &Known, stands: &[Stands]| {
            let tail = known.scan(stands).0;
            let [now, said] = [(tail.low_water, tail.low_water_covered), tail.low_water_said()];
            ((now.0.value(), now.1), (said.0.value(), said.1), tail.unproven_marks.map(Lsn::value))
        };
        let mark = |lsn: u64| Mark::LowWater { lsn: Lsn::new(lsn), covered: true };
        let low_water = FrameType::new(mark(4).code());
        // Of what is torn off, the mark alone is of use.
        let torn_off = |lsn: u64| is(&known(), &[Entry(10), Rotten(10, low_water), Marked(10, 9, mark(lsn))]);
        let unmoved = ((4, false), (4, false), None);
        assert_eq!([torn_off(3), torn_off(4)], [unmoved; 2]);
        assert_eq!(torn_off(5), ((5, true), (4, false), Some(10)));
        assert_eq!(torn_off(11), ((11, true), (4, false), Some(10)));
        assert_eq!(torn_off(12), ((11, true), (4, false), Some(10)), "there are no more");
        let known = Known { durable: Some(12), ..known() };
        let damaged = |lsn: u64| is(&known, &[Entry(10), Rotten(11, PLAIN), Debris, Marked(12, 9, mark(lsn))]);
        assert_eq!([damaged(3), damaged(4)], [unmoved; 2]);
        assert_eq!(damaged(5), ((5, true), (4, false), None));
        assert_eq!(damaged(12), ((11, true), (4, false), None), "the log ends behind 10");
        // What is bad was truncated by it, so the way goes on, and comes to it.
        assert_eq!(damaged(13), ((13, true), (13, true), Some(12)));
    }

    #[test]
    fn a_slot_behind_the_end_counts_where_only_a_copy_of_it_is_lost() {
        const SLOT: Mark<'static> = Mark::Slot(b"vote");
        let is = |stands: &[Stands]| {
            let tail = known().tail(stands);
            assert_eq!((tail.torn.is_some(), tail.last.value()), (true, 10));
            (tail.slot.bytes() == b"vote", tail.slot.bytes().is_empty(), tail.unproven_marks.map(Lsn::value))
        };
        assert_eq!(
            is(&[Entry(10), Rotten(10, FrameType::new(SLOT.code())), Marked(10, 9, SLOT)]),
            (true, false, Some(10))
        );
        let none = (false, true, None);
        assert_eq!(is(&[Entry(10), Debris, Entry(12), Marked(12, 9, SLOT)]), none, "it is of what is torn off");
        assert_eq!(is(&[Entry(10), Batched(11), Debris, Marked(11, 9, SLOT)]), none, "as is the batch before it");
    }

    #[test]
    fn a_segment_says_what_its_header_and_its_marks_do_whatever_else_is_known() {
        let said = |tail: &Tail| {
            let (lsn, covered) = tail.low_water_said();
            (lsn.value(), covered)
        };
        for (covered, stands, is) in [
            (false, &[][..], (4, false)),
            (true, &[], (4, true)),
            (true, &[Entry(10), Marked(10, 9, Mark::LowWater { lsn: Lsn::new(6), covered: false })], (6, false)),
        ] {
            let header = SegmentHeader { low_water_covered: covered, ..known().header };
            let mut tail = Known { header, ..known() }.tail(stands);
            assert_eq!((said(&tail), tail.low_water.value()), (is, is.0));
            for lsn in [8, 9] {
                tail.truncated_to(Lsn::new(lsn), !is.1);
                assert_eq!((said(&tail), tail.low_water.value(), tail.low_water_covered), (is, lsn, !is.1));
            }
        }
    }

    #[test]
    fn what_marks_say_of_truncation_and_slot_is_proven_once_a_later_entry_was_durable_or_by_a_seal() {
        for mark in [Mark::Slot(b"vote"), Mark::LowWater { lsn: Lsn::new(6), covered: false }] {
            let is = |behind: &[Stands]| {
                let tail = known().tail(&[&[Entry(10), Marked(10, 9, mark)], behind].concat());
                tail.unproven_marks.map(Lsn::value)
            };
            assert_eq!(is(&[]), Some(10));
            assert_eq!(is(&[Marked(10, 10, DURABLE)]), Some(10), "it may have been written behind what was durable");
            assert_eq!(is(&[Entry(11), Marked(11, 10, DURABLE)]), Some(10));
            assert_eq!(is(&[Entry(11), Marked(11, 11, DURABLE)]), None);
            assert_eq!(is(&[Marked(10, 10, Mark::Seal)]), None);
        }
    }

    #[test]
    fn the_floor_at_a_mark_is_the_begin_of_the_oldest_transaction_that_is_open_there() {
        use Code::{Opaque, TxnBegin as Begin, TxnCommit as Commit, TxnRollback as Rollback};
        // The floor at a mark behind these entries, from LSN 10 on, in a segment that begins with this floor.
        let floor_from = |at_begin: u64, entries: &[(Code, u64)], mark: Mark<'static>| {
            let header = SegmentHeader { transaction_floor: Lsn::new(at_begin), ..known().header };
            let mut stands: Vec<_> = (10..).zip(entries).map(|(lsn, &(code, id))| Of(lsn, code, id)).collect();
            let last = 9 + stands.len() as u64;
            stands.push(Marked(last, last, mark));
            let tail = Known { header, ..known() }.tail(&stands);
            assert_eq!((tail.proven.last.value(), tail.epoch), (last, if mark == DURABLE { 2 } else { 5 }));
            tail.proven.floor.value()
        };
        let floor = |entries: &[(Code, u64)]| floor_from(10, entries, DURABLE);
        let two = [(Begin, 10), (Begin, 11)];
        assert_eq!([floor(&[]), floor(&two[..1]), floor(&two)], [10, 10, 10]);
        assert_eq!(floor(&[(Begin, 10), (Opaque, 10)]), 10);
        for ends in [Commit, Rollback] {
            assert_eq!(floor(&[two[0], two[1], (ends, 10)]), 11);
            assert_eq!(floor(&[two[0], two[1], (ends, 11)]), 10);
            assert_eq!(floor(&[two[0], two[1], (ends, 11), (ends, 10)]), 14, "none is open");
        }
        // One from before the segment may be open up to its end, for nothing tells its id.
        assert_eq!(floor_from(8, &[(Begin, 10), (Commit, 10), (Commit, 8)], DURABLE), 8);
        assert_eq!(
            [floor_from(8, &two, Mark::Epoch(5)), floor_from(8, &[], Mark::Epoch(5))],
            [12, 10],
            "all end there"
        );
        let many: Vec<_> = (10..).take(TRANSACTIONS_MAX + 1).map(|id| (Begin, id)).collect();
        assert_eq!([floor(&many[..TRANSACTIONS_MAX]), floor(&many)], [10, 1], "one more than there can be");
    }
}
