//! The newest segment, scanned to its end: what the log's last entries are, and what its marks prove.

use heapless::{Deque, Vec};

use crate::{
    Lsn,
    checksum::Update,
    cursor::{Cursor, Found, Frame, Search},
    decision::{Decision, Policy, Situation, decide},
    device::Object,
    drive::{Answer, Step, Stop},
    fault::Fault,
    frame::{Mark, NotAMark, SLOT_MAX},
    operation::Code,
    report::{Finding, Seen, TornTail, Verdict, Witness},
    segment::{SegmentHeader, TRANSACTIONS_MAX},
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
    /// Whether the last frame is the seal of a clean close.
    pub(crate) sealed: bool,
    pub(crate) torn: Option<TornTail>,
    /// Ids of the transactions open at the end: the LSNs of their begins.
    pub(crate) open: Vec<u64, TRANSACTIONS_MAX>,
    /// Whether damage ended the scan before the end of the log.
    pub(crate) damaged: bool,
}

/// The scan.
#[derive(Debug)]
pub(crate) struct TailScan {
    tail: Tail,
    policy: Policy,
    cursor: Cursor,
    expected: Lsn,
    batch: Option<Batch>,
    boundaries: Deque<Boundary, BOUNDARIES>,
    accepted_loss: Lsn,
    state: State,
}

/// A batch that is open at the cursor.
#[derive(Clone, Copy, Debug)]
struct Batch {
    at: u32,
    first: Lsn,
}

#[derive(Debug)]
enum State {
    Frames,
    /// Looking behind the place `at`, where `seen` stands instead of the frame expected.
    Search {
        at: u32,
        seen: Seen,
        search: Search,
        behind: Behind,
    },
    /// The finding was handed over: go on behind it, or stop.
    Reported(Option<(u32, Lsn)>),
}

/// What a search found.
#[derive(Clone, Copy, Debug, Default)]
struct Behind {
    frames: u32,
    /// The first sound frame: where it begins, and the LSN that it makes the next expected one.
    first: Option<(u32, Lsn)>,
}

impl TailScan {
    /// Scans the segment with this header. `claims` are the witnesses from elsewhere.
    pub(crate) fn new(update: Update, header: SegmentHeader, policy: Policy, claim: Option<Claim>) -> Self {
        let start = header.frames_at();
        let before = header.first.previous();
        let proven = Boundary { last: before, behind: start, next: start };
        // A segment's own header proves its predecessor, not itself; what is before its first LSN was durable.
        let durable = claim.filter(|claim| claim.durable > before);
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
                durable,
                proven,
                sealed: false,
                torn: None,
                open: Vec::new(),
                damaged: false,
            },
            policy,
            cursor: Cursor::new(update, &header, start, header.segment_size),
            expected: header.first,
            batch: None,
            boundaries: Deque::new(),
            accepted_loss: header.accepted_loss,
            state: State::Frames,
        }
    }

    pub(crate) fn next(&mut self, buf: &mut [u8], answer: &mut Answer) -> Result<Tail, Stop> {
        loop {
            match &mut self.state {
                State::Frames => {
                    let seen = match self.cursor.next(buf, answer)? {
                        Found::Frame(frame) => match self.take(&frame, buf)? {
                            Seen::Good => continue,
                            // What was there before is passed over: the first one wins.
                            Seen::Conflict => Seen::Conflict,
                            other => {
                                self.cursor.go(frame.at);
                                other
                            }
                        },
                        Found::Other(seen) => seen,
                    };
                    let search = self.cursor.search(self.tail.header.write_limit);
                    self.state = State::Search { at: self.cursor.at(), seen, search, behind: Behind::default() };
                }
                State::Search { search, .. } => match search.next(buf, answer)? {
                    Some(frame) => self.found_behind(&frame, buf),
                    None => {
                        if let Some(tail) = self.decide()? {
                            return Ok(tail);
                        }
                    }
                },
                State::Reported(Some((at, expected))) => {
                    self.cursor.go(*at);
                    self.expected = *expected;
                    self.state = State::Frames;
                }
                State::Reported(None) => {
                    self.tail.damaged = true;
                    return Ok(self.tail.clone());
                }
            }
        }
    }

    /// Takes a sound frame if it is the one expected, else says what it is.
    fn take(&mut self, frame: &Frame, buf: &[u8]) -> Result<Seen, Fault> {
        let kind = frame.header.kind;
        let lsn = frame.header.lsn;
        if kind.is_mark() {
            let payload = &buf[frame.payload.clone()];
            return match (lsn.cmp(&self.expected.previous()), Mark::decode(kind.code(), payload)) {
                (core::cmp::Ordering::Greater, _) => Ok(Seen::Hole),
                (core::cmp::Ordering::Less, _) => Ok(Seen::Conflict),
                _ if self.batch.is_some() => Ok(Seen::Conflict),
                (_, Err(NotAMark::Unsupported)) => Ok(Seen::Unsupported),
                (_, Err(NotAMark::Skippable)) => {
                    self.passed(frame);
                    Ok(Seen::Good)
                }
                (_, Ok((durable, mark))) => {
                    self.passed(frame);
                    self.mark(frame, durable, mark);
                    Ok(Seen::Good)
                }
            };
        }
        match lsn.cmp(&self.expected) {
            core::cmp::Ordering::Greater => return Ok(Seen::Hole),
            core::cmp::Ordering::Less => return Ok(Seen::Conflict),
            core::cmp::Ordering::Equal => {}
        }
        if Code::from_u8(kind.code()).is_none() {
            return Ok(Seen::Unsupported);
        }
        self.expected = lsn.next().map_err(|_| Fault::Exhausted)?;
        if kind.continues_batch() {
            self.batch.get_or_insert(Batch { at: frame.at, first: lsn });
        } else {
            self.batch = None;
            self.tail.last = lsn;
            self.tail.behind = frame.end;
            self.passed(frame);
        }
        self.tail.sealed = false;
        self.transaction(frame, buf);
        Ok(Seen::Good)
    }

    fn passed(&mut self, frame: &Frame) {
        self.tail.end = frame.end;
        self.tail.last_time = self.tail.last_time.max(frame.header.timestamp);
    }

    fn mark(&mut self, frame: &Frame, durable: Lsn, mark: Mark<'_>) {
        let boundary = Boundary { last: self.tail.last, behind: self.tail.behind, next: frame.end };
        if self.boundaries.is_full() {
            self.boundaries.pop_front();
        }
        // Never full: one was just taken out.
        let _ = self.boundaries.push_back(boundary);
        if durable <= frame.header.lsn {
            self.claim(frame.at, durable);
            self.tail.marked = self.tail.marked.max(Some(durable));
            let newest = self.boundaries.iter().rev().find(|boundary| boundary.last <= durable);
            if let Some(boundary) = newest
                && boundary.next > self.tail.proven.next
            {
                self.tail.proven = *boundary;
            }
        }
        self.tail.sealed = matches!(mark, Mark::Seal);
        match mark {
            Mark::Durable | Mark::Seal => {}
            Mark::Epoch(epoch) => {
                self.tail.epoch = self.tail.epoch.max(epoch);
                self.tail.open.clear();
            }
            Mark::LowWater { lsn, covered } => {
                self.tail.low_water = lsn;
                self.tail.low_water_covered = covered;
            }
            Mark::Slot(bytes) => {
                self.tail.slot.clear();
                // A mark holds no more than the slot does.
                let _ = self.tail.slot.extend_from_slice(bytes);
            }
        }
    }

    fn claim(&mut self, offset: u32, durable: Lsn) {
        let witness = Witness::Mark { segment: self.tail.header.id, offset, durable };
        if self.tail.durable.is_none_or(|known| known.durable < durable) {
            self.tail.durable = Some(Claim { durable, witness });
        }
    }

    fn transaction(&mut self, frame: &Frame, buf: &[u8]) {
        let _ = (frame, buf);
    }

    /// Takes note of a sound frame behind the place where the scan stopped.
    fn found_behind(&mut self, frame: &Frame, buf: &[u8]) {
        let write_limit = self.tail.header.write_limit;
        let segment = self.tail.header.id;
        let lsn = frame.header.lsn;
        let State::Search { at, behind, .. } = &mut self.state else { return };
        let at = *at;
        behind.frames += 1;
        let kind = frame.header.kind;
        behind.first.get_or_insert((frame.at, if kind.is_mark() { lsn.next_or_max() } else { lsn }));
        if kind.is_mark()
            && let Ok((durable, _)) = Mark::decode(kind.code(), &buf[frame.payload.clone()])
            && durable <= lsn
        {
            self.claim(frame.at, durable);
        } else if frame.at > at.saturating_add(write_limit)
            && self.tail.durable.is_none_or(|known| known.durable < self.expected)
        {
            let witness = Witness::BeyondWriteLimit { segment, offset: frame.at };
            self.tail.durable = Some(Claim { durable: self.expected, witness });
        }
    }

    /// Decides about the place where the scan stopped: the end, or how it goes on.
    fn decide(&mut self) -> Result<Option<Tail>, Stop> {
        let State::Search { at, seen, search, behind } = &self.state else {
            unreachable!("a decision follows a search");
        };
        let (at, seen, behind, debris_end) = (*at, *seen, *behind, search.debris_end());
        let claim = self.tail.durable.filter(|claim| claim.durable >= self.expected);
        let debris = debris_end > at;
        let situation = Situation {
            // What is not blank further on was written: the place is a bad frame, not the end.
            seen: if seen == Seen::End && debris && behind.frames == 0 { Seen::BadHeader } else { seen },
            later: behind.frames > 0,
            witness: claim.is_some(),
            covered: self.expected <= self.accepted_loss,
            in_batch: self.batch.is_some(),
        };
        match decide(situation) {
            Decision::Take => unreachable!("a good frame is no stop"),
            Decision::End => Ok(Some(self.tail.clone())),
            Decision::Cut if self.tail.sealed && behind.frames == 0 => Ok(Some(self.tail.clone())),
            Decision::Cut => {
                let from = self.batch.map_or(at, |batch| batch.at);
                let whole = self.batch.map_or(0, |batch| self.expected.value() - batch.first.value());
                self.tail.torn = Some(TornTail {
                    verdict: if self.tail.header.immediate { Verdict::Unproven } else { Verdict::Unsynced },
                    segment: self.tail.header.id,
                    offset: from,
                    len: debris_end.max(at) - from,
                    frames: behind.frames.saturating_add(u32::try_from(whole).unwrap_or(u32::MAX)),
                });
                Ok(Some(self.tail.clone()))
            }
            Decision::Damage(verdict) => Err(self.report(verdict, at, seen, behind, claim, debris_end)),
            Decision::Harmless => Err(self.report(Verdict::Rot, at, seen, behind, claim, debris_end)),
        }
    }

    /// Hands the finding over, and goes on behind it where the policy says so.
    fn report(
        &mut self,
        verdict: Verdict,
        at: u32,
        seen: Seen,
        behind: Behind,
        claim: Option<Claim>,
        debris_end: u32,
    ) -> Stop {
        let covered = self.expected <= self.accepted_loss;
        let first = self.batch.map_or(self.expected, |batch| batch.first);
        let last = match (behind.first, claim) {
            (Some((_, next)), _) => next.previous(),
            (None, Some(claim)) => claim.durable,
            (None, None) => self.expected,
        };
        let len = behind.first.map_or(debris_end.max(at) - at, |(next, _)| next - at);
        let goes_on = (covered || self.policy.skips_damage()) && verdict != Verdict::Unsupported;
        self.batch = None;
        self.state = State::Reported(behind.first.filter(|_| goes_on));
        Step::Finding(Finding {
            verdict,
            seen,
            object: Object::Segment(self.tail.header.id),
            offset: at.into(),
            len: len.into(),
            lsns: (first <= last && verdict != Verdict::Unsupported).then_some((first, last)),
            witness: claim.map(|claim| claim.witness),
            harmless: covered,
        })
        .into()
    }
}
