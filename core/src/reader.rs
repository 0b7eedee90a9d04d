//! Reading entries, oldest first, as they stand in the log.
//!
//! Every frame is verified before it is handed out. A batch is read twice: once to see that it is whole, once to hand
//! it out, so that memory does not grow with it. Where an entry that counts does not verify, that is damage: it was
//! durable when the view was made.

use crate::{
    Lsn,
    chain::{HeaderReader, View},
    cursor::Frame,
    decision::{Decision, Policy, Situation, decide},
    device::Object,
    drive::{Answer, Entry, Flow, Machine, Step, Stop, Stopped, Turn},
    fault::Fault,
    frame::{Mark, NotAMark},
    report::{Finding, Seen, Witness},
    segment::{SegmentHeader, SegmentId},
    walk::{Batch, Event, Next, Walk},
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
    /// The epoch of the last epoch mark.
    marked: u64,
    /// The first LSN of the last segment on the way that says that no entry before it names a checkpoint that is missed.
    names_from: Lsn,
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
            marked: 0,
            names_from: Lsn::ZERO,
        }
    }

    /// The epoch that a mark on the way told of last, or in which the segment was begun that the way begins in. The header
    /// of a segment does not tell: entries of the epoch before may have been copied behind it.
    pub(crate) fn marked_epoch(&self) -> u64 {
        self.marked
    }

    /// From which LSN on entries name checkpoints that are missed where they are not there: a cut may have taken all before.
    pub(crate) fn names_from(&self) -> Lsn {
        self.names_from
    }

    /// No transaction that began below it is open where the segment begins in which the way is.
    pub(crate) fn floor(&self) -> Lsn {
        self.segment.as_ref().map_or(Lsn::FIRST, |segment| segment.header.transaction_floor)
    }

    /// Forgets what is in the buffer: something else was put there.
    pub(crate) fn forget(&mut self) {
        if let Some(segment) = &mut self.segment {
            segment.walk.forget();
        }
    }

    /// Hands out entries that stand whole and sound in the buffer, by themselves and in their place, until `see` pauses or
    /// something else comes. A short cut for the most usual case by far, between two turns of the machine: it takes nothing
    /// that [`step`](Machine::step) would not hand out, and leaves the rest to that. `buf` is the buffer of the last step.
    pub fn ready(&mut self, buf: &mut [u8], mut see: impl FnMut(Entry<'_>) -> Flow) -> Flow {
        let (State::Frames, Some(segment)) = (&self.state, &mut self.segment) else { return Flow::Continue };
        let most = self.to.min(segment.last);
        let (mut flow, mut first, mut last) = (Flow::Continue, None, None);
        while flow == Flow::Continue && (self.from..=most).contains(&segment.walk.expected()) && segment.walk.ready(buf)
        {
            let &Frame { at, header, ref payload, .. } = segment.walk.frame();
            self.read.entries += 1;
            last = Some(header.lsn);
            first = first.or(last);
            flow = see(Entry {
                lsn: header.lsn,
                timestamp: header.timestamp,
                kind: header.kind,
                transaction: None,
                segment: segment.header.id,
                offset: at,
                payload: buf.get(payload.clone()).unwrap_or_default(),
            });
        }
        first.into_iter().chain(last).for_each(|lsn| self.verified(lsn));
        flow
    }

    pub(crate) fn advance(&mut self, turn: &mut Turn<'_>) -> Result<Read, Stopped> {
        loop {
            match &mut self.state {
                State::Start => {
                    if self.from < self.view.low_water {
                        return Err(turn.fault(Fault::Truncated { low_water: self.view.low_water }));
                    }
                    if self.from > self.to {
                        return Ok(self.read);
                    }
                    self.state = State::SeekHeader(HeaderReader::new(self.view.update, self.view.newest));
                }
                State::SeekHeader(reader) => {
                    reader.next(turn)?;
                    let named = reader.read.header.as_ref().map(|header| header.predecessor.id);
                    let header = *self.view.header(turn, reader)?;
                    self.sought(turn, &header, named)?;
                }
                State::SeekPrev { before, asked: asked @ false } => {
                    *asked = true;
                    return Err(turn.need(Step::Prev { before: Some(Object::Segment(*before)) }));
                }
                State::SeekPrev { .. } => match turn.segment() {
                    Some(id) if self.view.counts(id) => {
                        self.state = State::SeekHeader(HeaderReader::new(self.view.update, id));
                    }
                    Some(id) if id > self.view.oldest => self.state = State::SeekPrev { before: id, asked: false },
                    _ => return Err(missing(turn, self.view.oldest)),
                },
                State::Ahead { after, asked: asked @ false } => {
                    *asked = true;
                    return Err(turn.need(Step::Next { after: Some(Object::Segment(*after)) }));
                }
                State::Ahead { .. } => match turn.segment() {
                    Some(id) if self.view.counts(id) => {
                        self.state = State::AheadHeader(HeaderReader::new(self.view.update, id));
                    }
                    Some(id) if id < self.view.newest => self.state = State::Ahead { after: id, asked: false },
                    _ => return Err(missing(turn, self.view.newest)),
                },
                State::AheadHeader(reader) => {
                    reader.next(turn)?;
                    let named = reader.read.header.as_ref().map(|header| header.predecessor.id);
                    let header = *self.view.header(turn, reader)?;
                    self.found_ahead(turn, &header, named)?;
                }
                State::Frames => self.frame(turn)?,
                State::Batch { until, last } => {
                    let (until, last) = (*until, *last);
                    self.batch(turn, until, last)?;
                }
                State::Done => return Ok(self.read),
            }
        }
    }

    /// A segment on the way back: it holds the first entry wanted, or the way goes on. `named` is the predecessor that it
    /// names on the medium, if its header is there.
    fn sought(&mut self, turn: &mut Turn<'_>, header: &SegmentHeader, named: Option<SegmentId>) -> Result<(), Stopped> {
        if header.first > self.from && header.id != self.view.oldest {
            self.look_ahead(header, named);
            self.state = State::SeekPrev { before: header.id, asked: false };
            return Ok(());
        }
        self.enter(header);
        if header.first <= self.from {
            return Ok(());
        }
        // What is to be read begins before the log does.
        let finding = match named {
            None | Some(SegmentId::NONE) => Finding::rot(Seen::Hole, Object::Segment(header.id), header.frames_at()),
            Some(named) => gone(named, 0),
        };
        self.gap(turn, self.from, header, finding)
    }

    fn look_ahead(&mut self, header: &SegmentHeader, named: Option<SegmentId>) {
        self.ahead = Some(*header);
        // Of a segment without a header, nothing but its own place tells what is missing before it.
        self.named = named.unwrap_or(SegmentId::new(header.id.value().saturating_sub(1)));
    }

    /// Begins to read a segment, for which the header of its successor must be known.
    fn enter(&mut self, header: &SegmentHeader) {
        let end = if header.id == self.view.newest {
            Some((self.view.last, self.view.end))
        } else {
            let ahead = self.ahead.as_ref().filter(|ahead| ahead.predecessor.id == header.id);
            ahead.map(|ahead| (ahead.predecessor.last, ahead.predecessor.size))
        };
        let (last, limit) = end.unwrap_or((Lsn::ZERO, 0));
        if self.segment.is_none() {
            self.marked = header.epoch;
        }
        if header.names_none() {
            self.names_from = header.first;
        }
        self.segment = Some(Segment {
            // What is read counts: a sound frame anywhere behind damage is worth finding.
            walk: Walk::new(self.view.update, header, header.frames_at(), limit, header.first, u32::MAX),
            header: *header,
            last,
            limit,
        });
        self.state = if end.is_some() { State::Frames } else { State::Ahead { after: header.id, asked: false } };
    }

    /// The segment behind the one that is read: it says where that one ends, or is the next to be read.
    fn found_ahead(
        &mut self,
        turn: &mut Turn<'_>,
        header: &SegmentHeader,
        named: Option<SegmentId>,
    ) -> Result<(), Stopped> {
        self.look_ahead(header, named);
        match self.segment.as_ref().map(|segment| segment.header) {
            Some(current) if header.predecessor.id == current.id => self.enter(&current),
            // The chain goes on behind a segment that is missing: what it held is gone.
            Some(_) => return Err(missing(turn, header.predecessor.id)),
            None => self.enter(header),
        }
        Ok(())
    }

    /// The segment is read to its end: on to the next, over what is missing between them.
    fn leave(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        self.state = State::Done;
        let Some(Segment { header, last, limit, .. }) = &self.segment else { return Ok(()) };
        let (id, first, limit) = (header.id, last.next_or_max(), *limit);
        if id == self.view.newest {
            return Ok(());
        }
        let Some(ahead) = self.ahead.take() else { return Ok(()) };
        self.enter(&ahead);
        let offset = if self.named == id { limit } else { 0 };
        self.gap(turn, first, &ahead, gone(self.named, offset))
    }

    /// Goes on over what is missing from `first` up to the beginning of a segment, if anything is.
    fn gap(
        &mut self,
        turn: &mut Turn<'_>,
        first: Lsn,
        ahead: &SegmentHeader,
        mut finding: Finding,
    ) -> Result<(), Stopped> {
        let last = ahead.first.previous();
        if first > last || last < self.from || first > self.to {
            return Ok(());
        }
        finding.lsns = Some((first, last));
        finding.witness = Some(Witness::Successor(ahead.id));
        finding.harmless = last <= self.view.accepted_loss;
        if finding.stops(self.policy) {
            return Err(turn.fault(finding.fault()));
        }
        Err(self.tell(turn, finding))
    }

    /// Hands a finding over.
    fn tell(&mut self, turn: &mut Turn<'_>, finding: Finding) -> Stopped {
        self.read.damage += u32::from(!finding.harmless);
        turn.need(Step::Finding(finding))
    }

    fn frame(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        let Some(segment) = &mut self.segment else { return Err(turn.fault(Fault::NoLog)) };
        let event = segment.walk.next(turn)?;
        let Frame { end, header, ref payload, .. } = *segment.walk.frame();
        let batch = match event {
            Event::Mark => {
                return match Mark::decode(header.kind.code(), turn.bytes(payload)) {
                    Ok((_, Mark::Epoch(epoch))) => {
                        self.marked = self.marked.max(epoch);
                        Ok(())
                    }
                    Err(NotAMark::Unsupported) => Err(segment.walk.unsupported(turn)),
                    Ok(_) | Err(NotAMark::Skippable) => Ok(()),
                };
            }
            // What stands behind the cut does not count.
            Event::Entry if header.lsn > segment.last => return self.leave(turn),
            Event::Entry if header.kind.continues_batch() => return Ok(()),
            Event::Entry => match segment.walk.batch_of_entry() {
                None => return self.entry(turn),
                batch => (batch, end, header.lsn),
            },
            Event::Behind => return Ok(()),
            Event::Stop if segment.walk.halt().at >= segment.limit && segment.walk.expected() > segment.last => {
                // A successor's header may cut through a batch: what is before the cut is whole.
                (segment.walk.batch(), segment.limit, segment.last)
            }
            Event::Stop => return self.damage(turn),
            Event::Finding => {
                let finding = segment.walk.finding();
                return self.skipped(turn, finding);
            }
        };
        match batch {
            (Some(Batch { at, first }), until, last) => {
                segment.walk.go(at, first);
                self.state = State::Batch { until, last };
                Ok(())
            }
            (None, ..) => self.leave(turn),
        }
    }

    /// Damage was passed over, and all that went with it is known: its batch may reach into what is to be read.
    fn skipped(&mut self, turn: &mut Turn<'_>, mut finding: Finding) -> Result<(), Stopped> {
        if let Some((first, last)) = finding.lsns {
            finding.harmless &= last < self.from || first <= self.view.accepted_loss;
            if self.read.damage == 0 && finding.harmless {
                (self.read.verified, self.has_gap) = (None, true);
            }
            if last < self.from {
                return Ok(());
            }
        }
        if finding.stops(self.policy) {
            self.state = State::Done;
            return Err(turn.fault(finding.fault()));
        }
        Err(self.tell(turn, finding))
    }

    /// Hands out an entry that stands alone.
    fn entry(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        let Some(segment) = &self.segment else { return Ok(()) };
        let lsn = segment.walk.frame().header.lsn;
        self.verified(lsn);
        if lsn > self.to {
            self.state = State::Done;
        } else if lsn >= self.from {
            return Err(self.hand_out(turn));
        }
        Ok(())
    }

    /// Hands out the entries of a batch, which was verified up to its end.
    fn batch(&mut self, turn: &mut Turn<'_>, until: u32, last: Lsn) -> Result<(), Stopped> {
        let Some(segment) = &mut self.segment else { return Ok(()) };
        if segment.walk.at() >= until {
            segment.walk.go(until, last.next_or_max());
            self.verified(last);
            self.state = if last >= self.to { State::Done } else { State::Frames };
            return Ok(());
        }
        match segment.walk.next(turn)? {
            Event::Entry => {}
            Event::Stop => return self.damage(turn),
            Event::Behind | Event::Mark | Event::Finding => return Ok(()),
        }
        // A batch that ends at or above the low-water mark is whole.
        let crosses = self.from == self.view.low_water && last >= self.from;
        let lsn = segment.walk.frame().header.lsn;
        if (lsn >= self.from || crosses) && lsn <= self.to {
            return Err(self.hand_out(turn));
        }
        Ok(())
    }

    /// Hands out the entry that was found last.
    fn hand_out(&mut self, turn: &mut Turn<'_>) -> Stopped {
        let Some(segment) = &self.segment else { return turn.fault(Fault::NoLog) };
        self.read.entries += 1;
        turn.need(Step::Entry(segment.walk.frame().place(segment.header.id)))
    }

    fn verified(&mut self, lsn: Lsn) {
        let first = self.segment.as_ref().filter(|_| !self.has_gap).map_or(lsn, |segment| segment.header.first);
        if self.read.damage == 0 {
            self.read.verified = Some((self.read.verified.map_or(first, |(first, _)| first), lsn));
        }
    }

    /// What was durable does not verify. Goes on behind it where the policy says so, or where nothing is lost by it.
    fn damage(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        self.state = State::Done;
        let Some(segment) = &mut self.segment else { return Ok(()) };
        let halt = *segment.walk.halt();
        let next = halt.next.filter(|next: &Next| next.expected <= segment.last.next_or_max());
        let expected = segment.walk.expected();
        let covered = expected <= self.view.accepted_loss;
        let in_batch = segment.walk.batch().is_some();
        let situation = Situation { seen: halt.seen, later: next.is_some(), witness: true, covered, in_batch };
        let first = segment.walk.batch().map_or(expected, |batch| batch.first);
        let last = next.map_or(segment.last, |next| next.expected.previous());
        let behind = next.map_or(segment.limit.max(halt.at), |next| next.at);
        let mut finding = Finding::rot(halt.seen, Object::Segment(segment.header.id), halt.at);
        if let Decision::Damage(verdict) = decide(situation) {
            finding.verdict = verdict;
        }
        finding.len = (behind - halt.at).into();
        finding.lsns = (first <= last).then_some((first, last));
        // What is gone below the first entry that is asked for is nobody's loss here.
        finding.harmless = covered || first > last || (last < self.from && next.is_some());
        let ahead = self.ahead.as_ref().filter(|ahead| ahead.predecessor.id == segment.header.id);
        finding.witness = ahead.map(|ahead| Witness::Successor(ahead.id));
        let stops = finding.stops(self.policy);
        // Also who stops here tells how much goes with it.
        let end = || segment.walk.end_behind(segment.last, segment.limit).filter(|_| !stops);
        if let Some(next) = next.or_else(end) {
            segment.walk.skip(&finding, next);
            self.state = State::Frames;
            return Ok(());
        }
        if stops {
            return Err(turn.fault(finding.fault()));
        }
        self.state = State::Frames;
        segment.walk.go(segment.limit, segment.last.next_or_max());
        Err(self.tell(turn, finding))
    }
}

/// A segment that counts is not there.
fn missing(turn: &mut Turn<'_>, id: SegmentId) -> Stopped {
    turn.fault(Fault::Damaged(gone(id, 0)))
}

fn gone(id: SegmentId, offset: u32) -> Finding {
    Finding::rot(Seen::MissingSegment, Object::Segment(id), offset)
}

impl Machine for Reader {
    type Output = Read;

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<Read, Stop> {
        Turn::run(buf, answer, |turn| self.advance(turn))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;
    use core::{cell::Cell, ops::Range};
    use std::{vec, vec::Vec};

    use super::*;
    use crate::{
        chain,
        checksum::portable,
        frame::{FRAME_HEADER_LEN, FrameType, Salts},
    };

    pub(crate) const PLAIN: FrameType = FrameType::new(10);
    pub(crate) const ON: FrameType = PLAIN.batch_continues();
    /// Bytes of each frame here.
    pub(crate) const LEN: u32 = 48;

    /// A log on a medium, and the view of it.
    pub(crate) struct Log {
        pub(crate) segments: Vec<(SegmentId, Vec<u8>)>,
        /// What stands beside the segments.
        pub(crate) others: Vec<(Object, Vec<u8>)>,
        pub(crate) view: View,
        /// Where no segment can be read.
        pub(crate) unreadable: Range<usize>,
        /// An object that cannot be read at all.
        pub(crate) lost: Option<Object>,
        /// Bytes that were read.
        moved: Cell<usize>,
    }

    /// What a read brought.
    #[derive(Debug)]
    pub(crate) struct Brought {
        pub(crate) lsns: Vec<u64>,
        pub(crate) findings: Vec<Finding>,
        pub(crate) end: Result<Read, Fault>,
    }

    /// A log of segments in which these entries stand, with epochs from 4 on; no transaction is open where they begin.
    pub(crate) fn log(segments: &[&[(u64, FrameType)]]) -> Log {
        let mut before = None;
        let mut view =
            View { oldest: SegmentId::new(1), newest: SegmentId::new(segments.len() as u64), ..chain::tests::view() };
        let segments = (1..).zip(segments).map(|(id, entries)| {
            let first = Lsn::new(entries[0].0);
            let mut header = SegmentHeader {
                id: SegmentId::new(id),
                epoch: 3 + id,
                first,
                transaction_floor: first,
                segment_size: 16_384,
                write_limit: 1024,
                ..SegmentHeader::NONE
            };
            if let Some(predecessor) = before {
                header.predecessor = predecessor;
            }
            let mut bytes = vec![0; header.frames_at() as usize];
            for at in [0, header.copy_offset as usize] {
                bytes[at..][..128].copy_from_slice(&header.encode(portable));
            }
            let salts = Salts::of(portable, &header);
            for ((lsn, kind), at) in entries.iter().zip((header.frames_at()..).step_by(LEN as usize)) {
                let mut frame = [u8::try_from(*lsn).unwrap(); LEN as usize];
                salts.complete(&mut frame, at, Lsn::new(*lsn), 1, *kind);
                bytes.extend(frame);
            }
            (view.last, view.end) = (Lsn::new(entries[entries.len() - 1].0), u32::try_from(bytes.len()).unwrap());
            before = Some(header.cut(view.last, view.end));
            (header.id, bytes)
        });
        let segments = segments.collect();
        Log { segments, others: Vec::new(), view, unreadable: 0..0, lost: None, moved: Cell::new(0) }
    }

    /// Entries that stand alone.
    pub(crate) fn plain(lsns: impl IntoIterator<Item = u64>) -> Vec<(u64, FrameType)> {
        lsns.into_iter().map(|lsn| (lsn, PLAIN)).collect()
    }

    /// Where the frame of this number stands in its segment.
    pub(crate) fn place(number: u32) -> u32 {
        SegmentHeader::NONE.frames_at() + number * LEN
    }

    impl Log {
        /// With wrong bytes in the entry of this number of the first segment.
        fn flipped(self, number: u32) -> Self {
            self.flipped_in(1, number)
        }

        /// With wrong bytes in the entry of this number of this segment, counted from 1 on.
        pub(crate) fn flipped_in(mut self, segment: usize, number: u32) -> Self {
            let (_, bytes) = &mut self.segments[segment - 1];
            for at in [0, 4] {
                bytes[place(number) as usize + FRAME_HEADER_LEN + at] ^= 0xFF;
            }
            self
        }

        /// The header of this segment, counted from 1 on.
        pub(crate) fn header(&self, segment: usize) -> SegmentHeader {
            SegmentHeader::decode(portable, &self.segments[segment - 1].1[..128], 0).unwrap()
        }

        fn reader(&self, from: u64, to: u64, policy: Policy) -> Reader {
            Reader::new(self.view.clone(), Lsn::new(from), Lsn::new(to), policy)
        }

        /// Without this segment, counted from 1 on.
        pub(crate) fn without(mut self, segment: usize) -> Self {
            self.segments.remove(segment - 1);
            self
        }

        /// With another header of this segment.
        pub(crate) fn changed(mut self, segment: usize, change: impl FnOnce(&mut SegmentHeader)) -> Self {
            let mut header = self.header(segment);
            change(&mut header);
            self.put_copies(segment, &header.encode(portable));
            self
        }

        /// Without a header of this segment.
        pub(crate) fn headless(mut self, segment: usize) -> Self {
            self.put_copies(segment, &[0; 128]);
            self
        }

        /// With a wrong byte in the first copy of this segment's header.
        pub(crate) fn damage_copy(&mut self, segment: usize) {
            self.segments[segment - 1].1[5] ^= 0xFF;
        }

        fn put_copies(&mut self, segment: usize, copy: &[u8]) {
            for at in [0, 128] {
                self.segments[segment - 1].1[at..][..copy.len()].copy_from_slice(copy);
            }
        }

        /// The objects, in their order.
        fn objects(&self) -> Vec<(Object, &[u8])> {
            let segments = self.segments.iter().map(|(id, bytes)| (Object::Segment(*id), &bytes[..]));
            let others = self.others.iter().map(|(object, bytes)| (*object, &bytes[..]));
            let mut objects: Vec<_> = segments.chain(others).collect();
            objects.sort_by_key(|(object, _)| *object);
            objects
        }

        /// Goes on to what is handed over next, or to the end.
        pub(crate) fn next<M: Machine>(
            &self,
            machine: &mut M,
            buf: &mut [u8],
        ) -> Result<Result<M::Output, Step>, Fault> {
            let (objects, mut answer) = (self.objects(), Answer::Nothing);
            loop {
                let mut ids = objects.iter().map(|(object, _)| *object);
                answer = match machine.step(buf, answer) {
                    Ok(output) => return Ok(Ok(output)),
                    Err(Stop::Fault(fault)) => return Err(fault),
                    Err(Stop::Need(Step::Prev { before })) => {
                        Answer::Object(ids.rev().find(|id| before.is_none_or(|before| *id < before)))
                    }
                    Err(Stop::Need(Step::Next { after })) => Answer::Object(ids.find(|id| Some(*id) > after)),
                    Err(Stop::Need(Step::Read { object, at, into })) => {
                        let (_, bytes) = objects.iter().find(|(found, _)| *found == object).unwrap();
                        let at = usize::try_from(at).unwrap();
                        let rest = bytes.get(at..).unwrap_or_default();
                        let moved = into.len().min(rest.len());
                        let is_bad = at < self.unreadable.end && at + moved > self.unreadable.start;
                        if is_bad || self.lost == Some(object) {
                            Answer::Unreadable
                        } else {
                            buf[into][..moved].copy_from_slice(&rest[..moved]);
                            self.moved.update(|before| before + moved);
                            Answer::Moved(moved)
                        }
                    }
                    Err(Stop::Need(step)) => return Ok(Err(step)),
                };
            }
        }

        /// All that is read from `from` to `to`.
        fn read(&self, from: u64, to: u64, policy: Policy) -> Brought {
            self.read_by(self.reader(from, to, policy))
        }

        /// All that this machine reads.
        pub(crate) fn read_by(&self, mut reader: impl Machine<Output = Read>) -> Brought {
            let (mut lsns, mut findings, mut buf) = (Vec::new(), Vec::new(), [0; 512]);
            let end = loop {
                match self.next(&mut reader, &mut buf) {
                    Ok(Err(Step::Entry(place))) => lsns.push(place.lsn.value()),
                    Ok(Err(Step::Finding(finding))) => findings.push(finding),
                    Ok(Err(step)) => panic!("{step:?}"),
                    Ok(Ok(read)) => break Ok(read),
                    Err(fault) => break Err(fault),
                }
            };
            Brought { lsns, findings, end }
        }
    }

    pub(crate) fn lsns(first: u64, last: u64) -> Option<(Lsn, Lsn)> {
        Some((Lsn::new(first), Lsn::new(last)))
    }

    #[test]
    fn what_is_asked_for_is_read_from_the_segment_on_that_holds_it_and_counted() {
        let log = log(&[&plain(1..=4), &plain(5..=8)]);
        for (from, to, verified_from) in [(1, 8, 1), (3, 6, 1), (4, 4, 1), (4, 5, 1), (5, 8, 5), (6, 7, 5), (8, 99, 5)]
        {
            let Brought { lsns, findings, end } = log.read(from, to, Policy::Strict);
            let read = end.unwrap();
            assert!(lsns.iter().copied().eq(from..=to.min(8)), "{from} to {to}: {lsns:?}");
            assert_eq!((read.entries, read.damage, findings), (lsns.len() as u64, 0, vec![]), "{from} to {to}");
            assert_eq!(read.verified.unwrap().0, Lsn::new(verified_from), "{from} to {to}");
        }
    }

    #[test]
    fn a_reader_tells_the_epoch_and_the_floor_of_the_segments_on_its_way() {
        let (log, mut buf) = (log(&[&plain(1..=4), &plain(5..=8), &plain(9..=12)]), [0; 512]);
        for (from, epoch, floor) in [(3, 4, 1), (5, 5, 5), (7, 5, 5), (12, 6, 9)] {
            let mut reader = log.reader(from, 12, Policy::Strict);
            log.next(&mut reader, &mut buf).unwrap().unwrap_err();
            assert_eq!((reader.marked_epoch(), reader.floor()), (epoch, Lsn::new(floor)), "from {from}");
        }
    }

    #[test]
    fn a_reader_whose_buffer_another_one_used_reads_again_what_it_held() {
        let (log, mut buf) = (log(&[&plain(1..=6)]), [0; 512]);
        let mut reader = log.reader(1, 6, Policy::Strict);
        for lsn in 1..=6 {
            let Step::Entry(place) = log.next(&mut reader, &mut buf).unwrap().unwrap_err() else { panic!() };
            assert_eq!((place.lsn.value(), u64::from(buf[place.payload.start])), (lsn, lsn));
            buf.fill(0xA5);
            reader.forget();
        }
    }

    #[test]
    fn entries_that_are_ready_are_handed_out_at_once_until_a_pause_and_counted() {
        let (log, mut buf) = (log(&[&plain(1..=8)]), [0; 1024]);
        let mut reader = log.reader(1, 7, Policy::Strict);
        assert_eq!(reader.ready(&mut buf, |_| panic!()), Flow::Continue, "nothing was read");
        log.next(&mut reader, &mut buf).unwrap().unwrap_err();
        let mut seen = Vec::new();
        let flow = reader.ready(&mut buf, |entry| {
            seen.push(entry.lsn.value());
            if seen.len() == 2 { Flow::Pause } else { Flow::Continue }
        });
        assert_eq!((flow, reader.read.entries), (Flow::Pause, 3));
        let flow = reader.ready(&mut buf, |entry| {
            seen.push(entry.lsn.value());
            Flow::Continue
        });
        assert_eq!((flow, seen), (Flow::Continue, (2..=7).collect()));
        assert_eq!(log.next(&mut reader, &mut buf).unwrap().unwrap().entries, 7);
    }

    #[test]
    fn batches_that_fit_into_the_buffer_are_read_once_and_longer_ones_again_for_what_did_not_stay() {
        let entries: Vec<_> = (1..=60).map(|lsn| (lsn, if lsn % 5 == 0 { PLAIN } else { ON })).collect();
        let log = log(&[&entries]);
        let batch = 5 * LEN as usize;
        // Of what is in the buffer at once, some ends within a batch.
        let longer = [4096, 3 * batch, 2 * batch - 20, batch + 3 * LEN as usize + 10, batch + 60, batch];
        for (buf, read_at_most) in longer.map(|buf| (buf, 1.0)).into_iter().chain([(batch - 1, 3.0)]) {
            let (mut reader, mut buf, mut lsn) = (log.reader(1, 60, Policy::Strict), vec![0; buf], 0);
            log.moved.set(0);
            while let Err(Step::Entry(place)) = log.next(&mut reader, &mut buf).unwrap() {
                lsn += 1;
                assert_eq!((place.lsn.value(), u64::from(buf[place.payload.start])), (lsn, lsn));
            }
            // Besides the header, which keeps a place of its own.
            let frames = log.moved.get() - 256;
            assert_eq!(lsn, 60);
            assert!(frames as f64 <= read_at_most * f64::from(60 * LEN), "{frames} bytes with {} at once", buf.len());
        }
    }

    #[test]
    fn what_is_missing_between_two_segments_is_told_where_some_of_it_is_asked_for() {
        let log = log(&[&plain(1..=4), &plain(9..=12)]);
        for (from, to, damage) in [(1, 12, 1), (1, 5, 1), (1, 4, 0), (8, 12, 1), (9, 12, 0)] {
            let Brought { findings, end, .. } = log.read(from, to, Policy::Salvage);
            let found: Vec<_> = findings.iter().map(|finding| finding.lsns).collect();
            let expected = if damage == 1 { vec![lsns(5, 8)] } else { vec![] };
            assert_eq!((found, end.unwrap().damage), (expected, damage), "{from} to {to}");
        }
    }

    #[test]
    fn what_is_lost_below_the_first_entry_asked_for_is_nobodys_loss_and_ends_what_is_verified() {
        let log = log(&[&plain(1..=8)]).flipped(1);
        let Brought { lsns: read, findings, end } = log.read(1, 8, Policy::Salvage);
        assert_eq!(read, [1, 3, 4, 5, 6, 7, 8]);
        let [finding] = findings[..] else { panic!("{findings:?}") };
        assert_eq!((finding.lsns, finding.offset, finding.len), (lsns(2, 2), place(1).into(), LEN.into()));
        assert_eq!((finding.harmless, end.unwrap().damage), (false, 1));
        let Brought { findings, end, .. } = log.read(5, 8, Policy::Strict);
        assert_eq!((findings, end), (vec![], Ok(Read { entries: 4, verified: lsns(3, 8), damage: 0 })));
    }

    #[test]
    fn a_batch_that_lost_an_entry_below_the_first_one_asked_for_is_lost_up_to_its_end() {
        let log = log(&[&[(1, PLAIN), (2, PLAIN), (3, ON), (4, ON), (5, PLAIN), (6, PLAIN)]]).flipped(2);
        for (from, is_lost) in [(3, true), (4, true), (5, true), (6, false)] {
            let Brought { findings, end, .. } = log.read(from, 6, Policy::Salvage);
            let found: Vec<_> = findings.iter().map(|finding| (finding.lsns, finding.harmless)).collect();
            let expected = if is_lost { vec![(lsns(3, 5), false)] } else { vec![] };
            assert_eq!((found, end.unwrap().damage), (expected, u32::from(is_lost)), "from {from}");
        }
    }

    #[test]
    fn whoever_stops_at_damage_tells_of_as_many_entries_as_who_passes_over_it() {
        let entries = [(1, PLAIN), (2, PLAIN), (3, ON), (4, ON), (5, ON), (6, PLAIN), (7, PLAIN)];
        // The place of the entry that is bad, and what is lost by it.
        for (flipped, lost) in [(1, lsns(2, 2)), (2, lsns(3, 6)), (3, lsns(3, 6)), (5, lsns(3, 6)), (6, lsns(7, 7))] {
            let log = log(&[&entries, &plain(8..=9)]).flipped(flipped);
            for from in [1, lost.unwrap().1.value()] {
                let Brought { findings, end, .. } = log.read(from, 9, Policy::Salvage);
                let [skipped] = findings[..] else { panic!("{findings:?}") };
                assert_eq!((skipped.lsns, end.unwrap().damage), (lost, 1));
                let Brought { lsns: read, findings, end } = log.read(from, 9, Policy::Default);
                let Err(Fault::Damaged(stopped)) = end else { panic!("{end:?}") };
                assert_eq!((stopped.lsns, stopped.offset, stopped.len), (lost, skipped.offset, skipped.len));
                assert_eq!((stopped.witness, findings), (skipped.witness, vec![]));
                assert!(read.iter().copied().eq(from..lost.unwrap().0.value()), "from {from}: {read:?}");
            }
        }
    }

    #[test]
    fn a_loss_that_was_accepted_covers_no_entry_behind_it_of_the_same_batch() {
        let mut log = log(&[&[(1, PLAIN), (2, PLAIN), (3, ON), (4, ON), (5, PLAIN), (6, PLAIN)]]).flipped(3);
        for (accepted_loss, is_lost) in [(2, true), (3, true), (4, false)] {
            log.view.accepted_loss = Lsn::new(accepted_loss);
            let Brought { findings, end, .. } = log.read(4, 6, Policy::Salvage);
            let found: Vec<_> = findings.iter().map(|finding| (finding.lsns, finding.harmless)).collect();
            assert_eq!((found, end.unwrap().damage), (vec![(lsns(3, 5), !is_lost)], u32::from(is_lost)));
        }
    }

    #[test]
    fn the_last_entry_is_lost_where_it_cannot_be_read() {
        let mut log = log(&[&plain(1..=8)]);
        log.unreadable = place(7) as usize..place(8) as usize;
        let Brought { lsns: read, findings, end } = log.read(1, 8, Policy::Salvage);
        assert!(read.iter().copied().eq(1..=7));
        let [finding] = findings[..] else { panic!("{findings:?}") };
        assert_eq!((finding.seen, finding.lsns, finding.harmless), (Seen::Unreadable, lsns(8, 8), false));
        assert_eq!(end.unwrap().damage, 1);
    }

    #[test]
    fn what_was_verified_before_damage_stays_so_whatever_can_be_made_out_of_that() {
        for flipped in [vec![7], vec![6, 7], vec![6], vec![4]] {
            let log = flipped.iter().fold(log(&[&plain(1..=8)]), |log, number| log.flipped(*number));
            let read = log.read(1, 8, Policy::Salvage).end.unwrap();
            assert_eq!((read.verified, read.damage), (lsns(1, flipped[0].into()), 1), "{flipped:?}");
        }
    }
}
