//! Reading entries, oldest first, as they stand in the log.
//!
//! Every frame is verified before it is handed out. A batch is read twice: once to see that it is whole, once to hand
//! it out, so that memory does not grow with it. Where an entry that counts does not verify, that is damage: it was
//! durable when the view was made.

use crate::{
    Lsn,
    chain::{HeaderRead, HeaderReader, View},
    cursor::Frame,
    decision::{Decision, Policy, Situation, decide},
    device::Object,
    drive::{Answer, Machine, Place, Step, Stop},
    fault::Fault,
    frame::{Mark, NotAMark},
    report::{Finding, Seen, Verdict, Witness},
    segment::{SegmentHeader, SegmentId},
    walk::{Batch, Event, Halt, Next, Walk},
};

/// What a reader came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Entries handed out.
    pub entries: u64,
    /// The first and last LSN whose entries were verified without a gap from the first segment read on.
    pub verified: Option<(Lsn, Lsn)>,
    /// Findings that lose something.
    pub damage: u32,
}

/// The machine: entries from `from` to `to`, both included.
#[derive(Debug)]
pub struct Reader {
    view: View,
    from: Lsn,
    to: Lsn,
    policy: Policy,
    state: State,
    segment: Option<Segment>,
    /// The header of the segment behind the one that is read.
    ahead: Option<SegmentHeader>,
    /// The predecessor that it names on the medium.
    named: SegmentId,
    /// Whether something was passed over that does no harm.
    has_gap: bool,
    read: Read,
}

/// The segment that is read.
#[derive(Debug)]
struct Segment {
    header: SegmentHeader,
    walk: Walk,
    /// Its last entry that counts, and the offset behind it.
    last: Lsn,
    limit: u32,
}

#[derive(Debug)]
enum State {
    Start,
    /// Going back to the segment that holds `from`.
    SeekHeader(HeaderReader),
    SeekPrev {
        before: SegmentId,
        asked: bool,
    },
    /// Going on to the segment behind the one that was read.
    Ahead {
        after: SegmentId,
        asked: bool,
    },
    AheadHeader(HeaderReader),
    Frames,
    /// Handing out the batch that ends at `until`.
    Batch {
        until: u32,
        last: Lsn,
    },
    Done,
}

impl Reader {
    /// Reads the entries from `from` to `to` of the log that `view` shows.
    ///
    /// A policy that skips damage hands each finding to the host and reads on behind it; any other stops with
    /// [`Fault::Damaged`].
    #[must_use]
    pub fn new(view: View, from: Lsn, to: Lsn, policy: Policy) -> Self {
        let to = to.min(view.last);
        Self {
            view,
            from,
            to,
            policy,
            state: State::Start,
            segment: None,
            ahead: None,
            named: SegmentId::NONE,
            has_gap: false,
            read: Read::default(),
        }
    }

    /// Forgets what is in the buffer: something else was put there.
    pub(crate) fn forget(&mut self) {
        if let Some(segment) = &mut self.segment {
            segment.walk.forget();
        }
    }

    fn advance(&mut self, buf: &mut [u8], answer: &mut Answer) -> Result<Read, Stop> {
        loop {
            self.state = match &mut self.state {
                State::Start => {
                    if self.from < self.view.low_water {
                        return Err(Fault::Truncated { low_water: self.view.low_water }.into());
                    }
                    if self.from > self.to {
                        return Ok(self.read);
                    }
                    State::SeekHeader(HeaderReader::new(self.view.update, self.view.newest))
                }
                State::SeekHeader(reader) => {
                    let id = reader.id();
                    let read = reader.next(buf, answer)?;
                    self.sought(self.view.header(id, &read)?, &read)?
                }
                State::SeekPrev { before, asked: asked @ false } => {
                    *asked = true;
                    return Err(Step::Prev { before: Some(Object::Segment(*before)) }.into());
                }
                State::SeekPrev { .. } => match answer.object() {
                    Some(Object::Segment(id)) if self.view.counts(id) => {
                        State::SeekHeader(HeaderReader::new(self.view.update, id))
                    }
                    Some(Object::Segment(id)) if id > self.view.oldest => State::SeekPrev { before: id, asked: false },
                    _ => return Err(self.missing(self.view.oldest)),
                },
                State::Ahead { after, asked: asked @ false } => {
                    *asked = true;
                    return Err(Step::Next { after: Some(Object::Segment(*after)) }.into());
                }
                State::Ahead { .. } => match answer.object() {
                    Some(Object::Segment(id)) if self.view.counts(id) => {
                        State::AheadHeader(HeaderReader::new(self.view.update, id))
                    }
                    Some(Object::Segment(id)) if id < self.view.newest => State::Ahead { after: id, asked: false },
                    _ => return Err(self.missing(self.view.newest)),
                },
                State::AheadHeader(reader) => {
                    let id = reader.id();
                    let read = reader.next(buf, answer)?;
                    self.found_ahead(self.view.header(id, &read)?, &read)?
                }
                State::Frames => self.frame(buf, answer)?,
                State::Batch { until, last } => {
                    let (until, last) = (*until, *last);
                    self.batch(buf, answer, until, last)?
                }
                State::Done => return Ok(self.read),
            };
        }
    }

    /// A segment on the way back: it holds the first entry wanted, or the way goes on.
    fn sought(&mut self, header: SegmentHeader, read: &HeaderRead) -> Result<State, Stop> {
        if header.first <= self.from {
            return Ok(self.enter(header));
        }
        if header.id != self.view.oldest {
            self.look_ahead(header, read);
            return Ok(State::SeekPrev { before: header.id, asked: false });
        }
        // What is to be read begins before the log does.
        let state = self.enter(header);
        let named = read.header.map_or(SegmentId::NONE, |header| header.predecessor.id);
        if named == SegmentId::NONE {
            self.gap(
                state,
                self.from,
                &header,
                Finding::rot(Seen::Hole, Object::Segment(header.id), header.frames_at()),
            )
        } else {
            self.gap(state, self.from, &header, gone(Object::Segment(named)))
        }
    }

    fn look_ahead(&mut self, header: SegmentHeader, read: &HeaderRead) {
        self.ahead = Some(header);
        // Of a segment without a header, nothing but its own place tells what is missing before it.
        let before = SegmentId::new(header.id.value().saturating_sub(1));
        self.named = read.header.map_or(before, |header| header.predecessor.id);
    }

    /// Begins to read a segment, for which the header of its successor must be known.
    fn enter(&mut self, header: SegmentHeader) -> State {
        let end = if header.id == self.view.newest {
            Some((self.view.last, self.view.end))
        } else {
            let ahead = self.ahead.filter(|ahead| ahead.predecessor.id == header.id);
            ahead.map(|ahead| (ahead.predecessor.last, ahead.predecessor.size))
        };
        let (last, limit) = end.unwrap_or((Lsn::ZERO, 0));
        self.segment = Some(Segment {
            // What is read counts: a sound frame anywhere behind damage is worth finding.
            walk: Walk::new(self.view.update, &header, header.frames_at(), limit, header.first, u32::MAX),
            header,
            last,
            limit,
        });
        if end.is_some() { State::Frames } else { State::Ahead { after: header.id, asked: false } }
    }

    /// The segment behind the one that is read: it says where that one ends, or is the next to be read.
    fn found_ahead(&mut self, header: SegmentHeader, read: &HeaderRead) -> Result<State, Stop> {
        self.look_ahead(header, read);
        match self.segment.as_ref().map(|segment| segment.header) {
            Some(current) if header.predecessor.id == current.id => Ok(self.enter(current)),
            // The chain goes on behind a segment that is missing: what it held is gone.
            Some(_) => Err(self.missing(header.predecessor.id)),
            None => Ok(self.enter(header)),
        }
    }

    /// The segment is read to its end: on to the next, over what is missing between them.
    fn leave(&mut self) -> Result<State, Stop> {
        let Some(Segment { header, last, limit, .. }) = &self.segment else { return Ok(State::Done) };
        let (id, first, limit) = (header.id, last.next_or_max(), *limit);
        let Some(ahead) = self.ahead.take().filter(|_| id != self.view.newest) else { return Ok(State::Done) };
        let state = self.enter(ahead);
        let offset = if self.named == id { limit } else { 0 };
        self.gap(state, first, &ahead, Finding::rot(Seen::MissingSegment, Object::Segment(self.named), offset))
    }

    /// Goes on to `state` over what is missing from `first` up to the beginning of a segment, if anything is.
    fn gap(&mut self, state: State, first: Lsn, ahead: &SegmentHeader, finding: Finding) -> Result<State, Stop> {
        let last = ahead.first.previous();
        if first > last || last < self.from || first > self.to {
            return Ok(state);
        }
        let finding = Finding {
            lsns: Some((first, last)),
            witness: Some(Witness::Successor(ahead.id)),
            harmless: last <= self.view.accepted_loss,
            ..finding
        };
        if !finding.harmless && !self.policy.skips_damage() {
            return Err(Fault::Damaged(finding).into());
        }
        self.state = state;
        self.read.damage += u32::from(!finding.harmless);
        Err(Step::Finding(finding).into())
    }

    fn frame(&mut self, buf: &mut [u8], answer: &mut Answer) -> Result<State, Stop> {
        let Some(segment) = &mut self.segment else { return Ok(State::Done) };
        match segment.walk.next(buf, answer)? {
            Event::Mark(frame) => match Mark::decode(frame.header.kind.code(), &buf[frame.payload.clone()]) {
                Err(NotAMark::Unsupported) => Err(segment.walk.unsupported(&frame).into()),
                Ok(_) | Err(NotAMark::Skippable) => Ok(State::Frames),
            },
            // What stands behind the cut does not count.
            Event::Entry { frame, .. } if frame.header.lsn > segment.last => self.leave(),
            Event::Entry { frame, batch: None } => self.entry(&frame),
            Event::Entry { frame, .. } if frame.header.kind.continues_batch() => Ok(State::Frames),
            Event::Entry { frame, batch: Some(Batch { at, first }) } => {
                segment.walk.go(at, first);
                Ok(State::Batch { until: frame.end, last: frame.header.lsn })
            }
            Event::Behind(_) => Ok(State::Frames),
            Event::Stop(halt) if halt.at >= segment.limit && segment.walk.expected() > segment.last => {
                // A successor's header may cut through a batch: what is before the cut is whole.
                Ok(match segment.walk.batch() {
                    Some(Batch { at, first }) => {
                        segment.walk.go(at, first);
                        State::Batch { until: segment.limit, last: segment.last }
                    }
                    None => self.leave()?,
                })
            }
            Event::Stop(halt) => self.damage(&halt),
            Event::Finding(finding) => self.skipped(finding),
        }
    }

    /// Damage was passed over, and all that went with it is known: its batch may reach into what is to be read.
    fn skipped(&mut self, mut finding: Finding) -> Result<State, Stop> {
        if let Some((first, last)) = finding.lsns {
            finding.harmless &= last < self.from || first <= self.view.accepted_loss;
            if self.read.damage == 0 {
                (self.read.verified, self.has_gap) = (None, true);
            }
        }
        if !finding.harmless && !self.policy.skips_damage() {
            return Err(Fault::Damaged(finding).into());
        }
        self.read.damage += u32::from(!finding.harmless);
        Err(Step::Finding(finding).into())
    }

    /// Hands out an entry that stands alone.
    fn entry(&mut self, frame: &Frame) -> Result<State, Stop> {
        self.verified(frame.header.lsn);
        if frame.header.lsn > self.to {
            return Ok(State::Done);
        }
        if frame.header.lsn < self.from {
            return Ok(State::Frames);
        }
        self.state = State::Frames;
        Err(self.hand_out(frame))
    }

    /// Hands out the entries of a batch, which was verified up to its end.
    fn batch(&mut self, buf: &mut [u8], answer: &mut Answer, until: u32, last: Lsn) -> Result<State, Stop> {
        let Some(segment) = &mut self.segment else { return Ok(State::Done) };
        if segment.walk.at() >= until {
            segment.walk.go(until, last.next_or_max());
            self.verified(last);
            return Ok(if last >= self.to { State::Done } else { State::Frames });
        }
        let frame = match segment.walk.next(buf, answer)? {
            Event::Entry { frame, .. } => frame,
            Event::Stop(halt) => return self.damage(&halt),
            Event::Behind(_) | Event::Mark(_) | Event::Finding(_) => return Ok(State::Batch { until, last }),
        };
        // A batch that ends at or above the low-water mark is whole.
        let crosses = self.from == self.view.low_water && last >= self.from;
        if (frame.header.lsn >= self.from || crosses) && frame.header.lsn <= self.to {
            return Err(self.hand_out(&frame));
        }
        Ok(State::Batch { until, last })
    }

    fn hand_out(&mut self, frame: &Frame) -> Stop {
        self.read.entries += 1;
        let segment = self.segment.as_ref().map_or(SegmentId::NONE, |segment| segment.header.id);
        Step::Entry(Place {
            lsn: frame.header.lsn,
            timestamp: frame.header.timestamp,
            kind: frame.header.kind,
            segment,
            offset: frame.at,
            payload: frame.payload.clone(),
        })
        .into()
    }

    fn verified(&mut self, lsn: Lsn) {
        let first = self.segment.as_ref().filter(|_| !self.has_gap).map_or(lsn, |segment| segment.header.first);
        if self.read.damage == 0 {
            self.read.verified = Some((self.read.verified.map_or(first, |(first, _)| first), lsn));
        }
    }

    /// What was durable does not verify. Goes on behind it where the policy says so, or where nothing is lost by it.
    fn damage(&mut self, halt: &Halt) -> Result<State, Stop> {
        let Some(segment) = &mut self.segment else { return Ok(State::Done) };
        let counts = |next: &Next| next.expected <= segment.last.next_or_max();
        let halt = &Halt { next: halt.next.filter(counts), ..*halt };
        let expected = segment.walk.expected();
        let covered = expected <= self.view.accepted_loss;
        let in_batch = segment.walk.batch().is_some();
        let situation = Situation { seen: halt.seen, later: halt.next.is_some(), witness: true, covered, in_batch };
        let verdict = match decide(situation) {
            Decision::Damage(verdict) => verdict,
            _ => Verdict::Rot,
        };
        let first = segment.walk.batch().map_or(expected, |batch| batch.first);
        let last = halt.next.map_or(segment.last, |next| next.expected.previous());
        let behind = halt.next.map_or(segment.limit.max(halt.at), |next| next.at);
        let finding = Finding {
            verdict,
            seen: halt.seen,
            object: Object::Segment(segment.header.id),
            offset: halt.at.into(),
            len: (behind - halt.at).into(),
            lsns: (first <= last).then_some((first, last)),
            witness: self
                .ahead
                .filter(|ahead| ahead.predecessor.id == segment.header.id)
                .map(|ahead| Witness::Successor(ahead.id)),
            in_transaction: None,
            // What is gone below the first entry that is asked for is nobody's loss here.
            harmless: covered || first > last || (last < self.from && halt.next.is_some()),
        };
        if !finding.harmless && !self.policy.skips_damage() {
            return Err(match verdict {
                Verdict::Unreadable => Fault::Unreadable { object: finding.object, offset: finding.offset },
                _ => Fault::Damaged(finding),
            }
            .into());
        }
        if let Some(next) = halt.next {
            segment.walk.skip(finding, next);
            return Ok(State::Frames);
        }
        segment.walk.go(segment.limit, segment.last.next_or_max());
        self.state = State::Frames;
        self.read.damage += u32::from(!finding.harmless);
        Err(Step::Finding(finding).into())
    }

    /// A segment that counts is not there.
    fn missing(&self, id: SegmentId) -> Stop {
        Fault::Damaged(gone(Object::Segment(id))).into()
    }
}

fn gone(object: Object) -> Finding {
    Finding::rot(Seen::MissingSegment, object, 0u64)
}

impl Machine for Reader {
    type Output = Read;

    fn step(&mut self, buf: &mut [u8], mut answer: Answer) -> Result<Read, Stop> {
        self.advance(buf, &mut answer)
    }
}
