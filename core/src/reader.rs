//! Reading entries, oldest first, as they stand in the log.
//!
//! Every frame is verified before it is handed out. A batch is read twice: once to see that it is whole, once to hand
//! it out, so that memory does not grow with it. Where an entry that counts does not verify, that is damage: it was
//! durable when the view was made.

use crate::{
    Lsn,
    chain::{HeaderReader, View},
    cursor::{Cursor, Found, Frame, Search},
    decision::{Decision, Policy, Situation, decide},
    device::Object,
    drive::{Answer, Machine, Place, Step, Stop},
    fault::Fault,
    report::{Finding, Seen, Verdict, Witness},
    segment::{SegmentHeader, SegmentId},
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
    read: Read,
}

/// The segment that is read.
#[derive(Debug)]
struct Segment {
    header: SegmentHeader,
    cursor: Cursor,
    /// Its last entry that counts, and the offset behind it.
    last: Lsn,
    limit: u32,
    expected: Lsn,
    /// The batch that is open at the cursor: where it begins.
    batch: Option<u32>,
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
    /// Looking for a sound frame behind the place `at`, where `seen` stands.
    Search {
        at: u32,
        seen: Seen,
        search: Search,
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
        Self { view, from, to, policy, state: State::Start, segment: None, ahead: None, read: Read::default() }
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
                    match read.header.filter(|header| header.log == self.view.log) {
                        Some(header) => self.sought(header),
                        None => return Err(self.headless(id, read.unreadable)),
                    }
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
                    match read.header.filter(|header| header.log == self.view.log) {
                        Some(header) => self.found_ahead(header)?,
                        None => return Err(self.headless(id, read.unreadable)),
                    }
                }
                State::Frames => self.frame(buf, answer)?,
                State::Batch { until, last } => {
                    let (until, last) = (*until, *last);
                    self.batch(buf, answer, until, last)?
                }
                State::Search { at, seen, search } => {
                    let (at, seen) = (*at, *seen);
                    let found = search.next(buf, answer)?;
                    return Err(self.skip(at, seen, found.as_ref()));
                }
                State::Done => return Ok(self.read),
            };
        }
    }

    /// A segment on the way back: it holds the first entry wanted, or the way goes on.
    fn sought(&mut self, header: SegmentHeader) -> State {
        if header.first <= self.from || header.id == self.view.oldest {
            self.enter(header)
        } else {
            self.ahead = Some(header);
            State::SeekPrev { before: header.id, asked: false }
        }
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
            cursor: Cursor::new(self.view.update, &header, header.frames_at(), limit),
            header,
            last,
            limit,
            expected: header.first,
            batch: None,
        });
        if end.is_some() { State::Frames } else { State::Ahead { after: header.id, asked: false } }
    }

    /// The segment behind the one that is read: it says where that one ends, or is the next to be read.
    fn found_ahead(&mut self, header: SegmentHeader) -> Result<State, Stop> {
        self.ahead = Some(header);
        match self.segment.as_ref().map(|segment| segment.header) {
            Some(current) if header.predecessor.id == current.id => Ok(self.enter(current)),
            // The chain goes on behind a segment that is missing: what it held is gone.
            Some(_) => Err(self.missing(header.predecessor.id)),
            None => Ok(self.enter(header)),
        }
    }

    /// The segment is read to its end: on to the next.
    fn leave(&mut self) -> State {
        match (self.segment.as_ref().map(|segment| segment.header.id), self.ahead.take()) {
            (Some(id), Some(ahead)) if id != self.view.newest => self.enter(ahead),
            _ => State::Done,
        }
    }

    fn frame(&mut self, buf: &mut [u8], answer: &mut Answer) -> Result<State, Stop> {
        let Some(segment) = &mut self.segment else { return Ok(State::Done) };
        let seen = match segment.cursor.next(buf, answer)? {
            Found::Frame(frame) => match segment.take(&frame) {
                Taken::Passed => return Ok(State::Frames),
                Taken::Entry => return self.entry(&frame),
                Taken::Batch(at) => {
                    segment.cursor.go(at);
                    return Ok(State::Batch { until: frame.end, last: frame.header.lsn });
                }
                Taken::Other(seen) => {
                    segment.cursor.go(frame.at);
                    seen
                }
            },
            Found::Other(_) if segment.cursor.at() >= segment.limit && segment.expected > segment.last => {
                // A successor's header may cut through a batch: what is before the cut is whole.
                return Ok(match segment.batch.take() {
                    Some(at) => {
                        segment.cursor.go(at);
                        State::Batch { until: segment.limit, last: segment.last }
                    }
                    None => self.leave(),
                });
            }
            Found::Other(seen) => seen,
        };
        let (at, search) = (segment.cursor.at(), segment.cursor.search(u32::MAX));
        Ok(State::Search { at, seen, search })
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
        if segment.cursor.at() >= until {
            segment.batch = None;
            self.verified(last);
            return Ok(if last >= self.to { State::Done } else { State::Frames });
        }
        let frame = match segment.cursor.next(buf, answer)? {
            Found::Frame(frame) => frame,
            Found::Other(seen) => {
                let at = segment.cursor.at();
                return Ok(State::Search { at, seen, search: segment.cursor.search(u32::MAX) });
            }
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
        let first = self.segment.as_ref().map_or(lsn, |segment| segment.header.first);
        if self.read.damage == 0 {
            self.read.verified = Some((self.read.verified.map_or(first, |(first, _)| first), lsn));
        }
    }

    /// Damage: what was durable does not verify. Goes on behind it where the policy says so.
    fn skip(&mut self, at: u32, seen: Seen, found: Option<&Frame>) -> Stop {
        let accepted = self.view.accepted_loss;
        let newest = self.view.newest;
        let Some(segment) = &mut self.segment else { return Fault::NoLog.into() };
        let next = found.map(|frame| {
            let lsn = frame.header.lsn;
            if frame.header.kind.is_mark() { lsn.next_or_max() } else { lsn }
        });
        let last = next.map_or(segment.last, Lsn::previous);
        let covered = segment.expected <= accepted;
        let situation =
            Situation { seen, later: found.is_some(), witness: true, covered, in_batch: segment.batch.is_some() };
        let verdict = match decide(situation) {
            Decision::Damage(verdict) => verdict,
            _ => Verdict::Rot,
        };
        let finding = Finding {
            verdict,
            seen,
            object: Object::Segment(segment.header.id),
            offset: at.into(),
            len: found.map_or(segment.limit.saturating_sub(at), |frame| frame.at - at).into(),
            lsns: (segment.expected <= last).then_some((segment.expected, last)),
            witness: (segment.header.id < newest)
                .then(|| self.ahead.map(|ahead| Witness::Successor(ahead.id)))
                .flatten(),
            harmless: covered,
        };
        self.read.damage += u32::from(!covered);
        segment.batch = None;
        match (found, next) {
            (Some(frame), Some(next)) => {
                segment.cursor.go(frame.at);
                segment.expected = segment.expected.max(next);
            }
            _ => {
                segment.cursor.go(segment.limit);
                segment.expected = segment.last.next_or_max();
            }
        }
        self.state = State::Frames;
        if covered || self.policy.skips_damage() {
            Step::Finding(finding).into()
        } else if verdict == Verdict::Unreadable {
            Fault::Unreadable { object: finding.object, offset: finding.offset }.into()
        } else {
            Fault::Damaged(finding).into()
        }
    }

    /// A segment whose header is gone in both copies, or cannot be read.
    fn headless(&self, id: SegmentId, unreadable: bool) -> Stop {
        let object = Object::Segment(id);
        if unreadable {
            return Fault::Unreadable { object, offset: 0 }.into();
        }
        Fault::Damaged(Finding { seen: Seen::BadSegmentHeader, ..gone(object) }).into()
    }

    /// A segment that counts is not there.
    fn missing(&self, id: SegmentId) -> Stop {
        Fault::Damaged(gone(Object::Segment(id))).into()
    }
}

fn gone(object: Object) -> Finding {
    Finding {
        verdict: Verdict::Rot,
        seen: Seen::MissingSegment,
        object,
        offset: 0,
        len: 0,
        lsns: None,
        witness: None,
        harmless: false,
    }
}

/// What a sound frame is to the one who reads it in turn.
enum Taken {
    /// A mark, or an entry of a batch that goes on.
    Passed,
    /// An entry by itself.
    Entry,
    /// The last entry of the batch that began there.
    Batch(u32),
    /// Not the frame expected.
    Other(Seen),
}

impl Segment {
    fn take(&mut self, frame: &Frame) -> Taken {
        let lsn = frame.header.lsn;
        let kind = frame.header.kind;
        let expected = if kind.is_mark() { self.expected.previous() } else { self.expected };
        match lsn.cmp(&expected) {
            core::cmp::Ordering::Less => return Taken::Other(Seen::Conflict),
            core::cmp::Ordering::Greater => return Taken::Other(Seen::Hole),
            core::cmp::Ordering::Equal if kind.is_mark() => return Taken::Passed,
            core::cmp::Ordering::Equal => {}
        }
        self.expected = self.expected.next_or_max();
        if kind.continues_batch() {
            self.batch.get_or_insert(frame.at);
            return Taken::Passed;
        }
        match self.batch {
            Some(at) => Taken::Batch(at),
            None => Taken::Entry,
        }
    }
}

impl Machine for Reader {
    type Output = Read;

    fn step(&mut self, buf: &mut [u8], mut answer: Answer) -> Result<Read, Stop> {
        self.advance(buf, &mut answer)
    }
}
