//! The way through one segment, frame by frame: which entries follow each other, where a batch is open, and how the
//! way goes on behind damage.
//!
//! The scan of the newest segment and every reader go this way; what each makes of a place where the frame expected
//! does not stand is its own.

use core::cmp::Ordering;

use crate::{
    Lsn,
    checksum::Update,
    cursor::{Cursor, Frame, Search},
    device::Object,
    drive::{Stopped, Turn},
    fault::Fault,
    frame::FrameType,
    operation::Code,
    report::{Finding, Seen},
    segment::SegmentHeader,
};

/// What the way brings next; [`Walk`] tells the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A sound mark, in its place: the frame.
    Mark,
    /// The entry expected: the frame. Of a batch it is handed over before the batch is known to be whole.
    Entry,
    /// A sound frame further on, while the place behind is searched.
    Behind,
    /// The frame expected does not stand here; what is behind was searched: the halt.
    Stop,
    /// The damage that was skipped, with all that went with it: the finding.
    Finding,
}

/// A batch that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Where its first frame begins.
    pub(crate) at: u32,
    /// The LSN of its first entry.
    pub(crate) first: Lsn,
}

/// A place where the frame expected does not stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Halt {
    pub(crate) at: u32,
    pub(crate) seen: Seen,
    /// Sound frames found behind it.
    pub(crate) frames: u32,
    /// The first of them that the way may go on at.
    pub(crate) next: Option<Next>,
    /// Behind the last byte that is not blank, as far as was searched.
    pub(crate) debris_end: u32,
    /// Whether all that was searched could be read and is blank.
    pub(crate) blank: bool,
}

/// The first sound frame behind damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) at: u32,
    /// The LSN that it makes the next expected one.
    pub(crate) expected: Lsn,
}

/// The way.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    cursor: Cursor,
    expected: Lsn,
    batch: Option<Batch>,
    /// The batch that the entry brought last belongs to.
    of_batch: Option<Batch>,
    /// How far behind bad bytes a sound frame is looked for.
    reach: u32,
    is_recycled: bool,
    state: State,
    search: Search,
    halt: Halt,
    /// The damage that is being skipped, and the frame behind it.
    finding: Finding,
    next: Next,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Frames,
    Search,
    /// What went with the damage is being found out: whether the one frame that is gone had a batch go on behind it.
    Mend,
    /// Entries of a batch that lost one are gone with it.
    Drop(Until),
}

/// How far entries go with damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Up to the entry that ends the batch.
    BatchEnd,
    /// Up to the next mark: nothing tells where the batch ended, but it has no mark inside.
    Mark,
}

impl Walk {
    /// The way from `at` on, where the entry `expected` or a mark should stand; frames end at or before `limit`.
    pub(crate) fn new(update: Update, header: &SegmentHeader, at: u32, limit: u32, expected: Lsn, reach: u32) -> Self {
        let cursor = Cursor::new(update, header, at, limit);
        Self {
            search: cursor.search(0),
            cursor,
            expected,
            batch: None,
            of_batch: None,
            reach,
            is_recycled: header.recycled,
            state: State::Frames,
            halt: Halt { at, seen: Seen::Good, frames: 0, next: None, debris_end: at, blank: true },
            finding: Finding::rot(Seen::Good, Object::Segment(header.id), at),
            next: Next { at, expected },
        }
    }

    /// From now on it is the way from `at` on: the same as a new one, in the place of this one.
    pub(crate) fn restart(&mut self, update: Update, header: &SegmentHeader, at: u32, limit: u32, expected: Lsn) {
        self.cursor.restart(update, header, at, limit);
        self.search = self.cursor.search(0);
        self.of_batch = None;
        self.is_recycled = header.recycled;
        self.halt = Halt { at, seen: Seen::Good, frames: 0, next: None, debris_end: at, blank: true };
        self.go(at, expected);
    }

    /// Where it is; while the place behind is searched, where it stopped.
    pub(crate) fn at(&self) -> u32 {
        if self.state == State::Search { self.halt.at } else { self.cursor.at() }
    }

    /// The LSN expected next.
    pub(crate) fn expected(&self) -> Lsn {
        self.expected
    }

    /// The batch that is open here.
    pub(crate) fn batch(&self) -> Option<Batch> {
        self.batch
    }

    /// The frame that the last event brought.
    pub(crate) fn frame(&self) -> &Frame {
        self.cursor.frame()
    }

    /// The batch that the entry belongs to which the last event brought.
    pub(crate) fn batch_of_entry(&self) -> Option<Batch> {
        self.of_batch
    }

    /// The place where the last event stopped, or behind which it found a frame.
    pub(crate) fn halt(&self) -> &Halt {
        &self.halt
    }

    /// The end of the segment, to be skipped to, where nothing else stands behind the halt and only the entry `last` is gone: its
    /// bytes may still tell whose it was.
    pub(crate) fn end_behind(&self, last: Lsn, size: u32) -> Option<Next> {
        let is_last = self.expected == last && self.halt.seen != Seen::Unreadable;
        is_last.then(|| Next { at: size, expected: last.next_or_max() })
    }

    /// The damage that was skipped.
    pub(crate) fn finding(&self) -> Finding {
        self.finding
    }

    /// Forgets what is in the buffer: something else was put there.
    pub(crate) fn forget(&mut self) {
        self.cursor.forget();
    }

    pub(crate) fn next(&mut self, turn: &mut Turn<'_>) -> Result<Event, Stopped> {
        loop {
            match self.state {
                State::Frames => {
                    let seen = match self.cursor.next(turn)? {
                        Seen::Good => match self.take(turn)? {
                            Ok(event) => return Ok(event),
                            // What was there before is passed over: the first one wins.
                            Err(Seen::Conflict) => Seen::Conflict,
                            Err(seen) => {
                                self.cursor.go(self.frame().at);
                                seen
                            }
                        },
                        seen => seen,
                    };
                    let at = self.cursor.at();
                    self.halt = Halt { at, seen, frames: 0, next: None, debris_end: at, blank: true };
                    self.search = self.cursor.search(self.reach);
                    self.state = State::Search;
                }
                State::Search => {
                    let found = self.search.next(&mut self.cursor, turn)?;
                    self.halt.debris_end = self.search.debris_end();
                    self.halt.blank = self.search.is_blank(self.halt.at);
                    if !found {
                        // What is not blank further on was written: the place is a bad frame, not the end. In
                        // recycled room it was written in an earlier life.
                        let is_debris = self.halt.debris_end > self.halt.at && self.halt.frames == 0;
                        if self.halt.seen == Seen::End && is_debris && !self.is_recycled {
                            self.halt.seen = Seen::BadHeader;
                        }
                        self.cursor.go(self.halt.at);
                        return Ok(Event::Stop);
                    }
                    self.halt.frames += 1;
                    let next = Next { at: self.frame().at, expected: makes_expected(self.frame()) };
                    // Never back: what has a lower LSN here was written by no writer.
                    if self.halt.next.is_none() && next.expected >= self.expected {
                        self.halt.next = Some(next);
                    }
                    return Ok(Event::Behind);
                }
                State::Mend => {
                    if let Some(event) = self.mended(turn)? {
                        return Ok(event);
                    }
                }
                State::Drop(until) => {
                    if self.cursor.next(turn)? != Seen::Good {
                        return Ok(self.resume());
                    }
                    let Frame { at, header, .. } = *self.frame();
                    if header.kind.is_mark() || header.lsn != self.expected {
                        self.cursor.go(at);
                        return Ok(self.resume());
                    }
                    self.expected = header.lsn.next_or_max();
                    if let Some((_, last)) = &mut self.finding.lsns {
                        *last = header.lsn;
                    } else {
                        self.finding.lsns = Some((self.next.expected, header.lsn));
                    }
                    if until == Until::BatchEnd && !header.kind.continues_batch() {
                        return Ok(self.resume());
                    }
                }
            }
        }
    }

    /// Whether the entry expected is here, whole in the buffer, sound, and by itself: no part of a batch or transaction. Then
    /// it is gone behind, as [`next`](Self::next) does with the same entry. Anything else is left to that.
    pub(crate) fn ready(&mut self, buf: &mut [u8]) -> bool {
        if self.state != State::Frames || self.batch.is_some() {
            return false;
        }
        let Some((frame, header)) = self.cursor.ready(buf) else { return false };
        let kind = header.kind;
        let is_plain = kind.byte() == kind.code() && Code::from_u8(kind.code()).is_some();
        let Some(expected) = header.lsn.next().ok().filter(|_| header.lsn == self.expected && is_plain) else {
            return false;
        };
        if !self.cursor.fits(buf, &frame) {
            return false;
        }
        self.cursor.take(&frame, header);
        self.expected = expected;
        self.of_batch = None;
        true
    }

    /// Takes the frame in, if it is the one that should stand here; else what is seen in its place.
    fn take(&mut self, turn: &mut Turn<'_>) -> Result<Result<Event, Seen>, Stopped> {
        let Frame { at, header, .. } = *self.frame();
        match makes_expected(self.frame()).cmp(&self.expected) {
            Ordering::Less => return Ok(Err(Seen::Conflict)),
            Ordering::Greater => return Ok(Err(Seen::Hole)),
            Ordering::Equal => {}
        }
        if header.kind.is_mark() {
            return Ok(if self.batch.is_some() { Err(Seen::Conflict) } else { Ok(Event::Mark) });
        }
        if Code::from_u8(header.kind.code()).is_none() {
            return Err(self.unsupported(turn));
        }
        let Ok(expected) = header.lsn.next() else { return Err(turn.fault(Fault::Exhausted)) };
        self.expected = expected;
        if self.batch.is_none() && header.kind.continues_batch() {
            self.batch = Some(Batch { at, first: header.lsn });
            // It is handed out when its end was seen: what fits into the buffer is read once.
            self.cursor.keep(Some(at));
        }
        self.of_batch = self.batch;
        if !header.kind.continues_batch() {
            self.batch = None;
            self.cursor.keep(None);
        }
        Ok(Ok(Event::Entry))
    }

    /// The frame is sound and of a type that this version does not know.
    pub(crate) fn unsupported(&self, turn: &mut Turn<'_>) -> Stopped {
        let Frame { at, header, .. } = *self.frame();
        turn.fault(Fault::Unsupported { object: self.cursor.object(), offset: at.into(), number: header.kind.code() })
    }

    /// Goes on behind damage, at the first sound frame behind it. [`Event::Finding`] brings the finding back with all
    /// that went with it.
    pub(crate) fn skip(&mut self, finding: &Finding, next: Next) {
        self.finding = *finding;
        self.next = next;
        self.state = State::Mend;
    }

    /// Goes to another place, where `expected` should stand.
    pub(crate) fn go(&mut self, at: u32, expected: Lsn) {
        self.cursor.go(at);
        self.expected = expected;
        self.batch = None;
        self.state = State::Frames;
    }

    fn resume(&mut self) -> Event {
        self.state = State::Frames;
        Event::Finding
    }

    /// Goes behind the damage, once it is known what the frame was that is gone: `None` where entries behind it go with it.
    fn mended(&mut self, turn: &mut Turn<'_>) -> Result<Option<Event>, Stopped> {
        let Self { next, expected, .. } = *self;
        let was = match u32::try_from(self.finding.offset) {
            // An entry, known to be one and by its LSN.
            Ok(at) if expected.value().checked_add(1) == Some(next.expected.value()) => {
                self.cursor.mend(turn, at, next.at, expected)?
            }
            _ => None,
        };
        let kind = was.map(|was| was.kind);
        self.finding.in_transaction = kind.map(FrameType::is_in_transaction);
        self.finding.transaction = was.and_then(|was| was.transaction);
        self.finding.commits =
            kind.is_some_and(|kind| kind.is_in_transaction() && Code::from_u8(kind.code()) == Some(Code::TxnCommit));
        let until = match kind {
            Some(kind) if kind.is_mark() || !kind.continues_batch() => None,
            Some(_) => Some(Until::BatchEnd),
            // Only marks are gone, and no batch was open: nothing went with them.
            None if next.expected == expected && self.batch.is_none() => None,
            None => Some(Until::Mark),
        };
        self.go(next.at, next.expected);
        // Where no entry is known to be gone, those that go with the damage begin here.
        self.next.expected = expected;
        Ok(match until {
            Some(until) => {
                self.state = State::Drop(until);
                None
            }
            None => Some(Event::Finding),
        })
    }
}

/// The LSN that is to be expected where this frame stands. It says so in every place alike: else a frame at the end of the
/// range, which no writer writes, would be gone to and passed over for ever.
fn makes_expected(frame: &Frame) -> Lsn {
    if frame.header.kind.is_mark() { frame.header.lsn.next_or_max() } else { frame.header.lsn }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{vec, vec::Vec};

    use Piece::{Bad, Entry, Flipped, Mark};

    use super::*;
    use crate::{
        SegmentId,
        checksum::portable,
        frame::{self, FRAME_HEADER_LEN, Salts},
        window::tests::Medium,
    };

    const PLAIN: FrameType = FrameType::new(10);
    const ON: FrameType = PLAIN.batch_continues();
    /// Bytes of each frame here.
    const LEN: u32 = 48;

    /// What stands in a segment, one behind the other. The first entry expected is 5.
    #[derive(Clone, Copy, Debug)]
    enum Piece {
        /// An entry of this LSN and type.
        Entry(u64, FrameType),
        /// The same with one wrong byte.
        Flipped(u64, FrameType),
        /// A mark behind the entry of this LSN.
        Mark(u64),
        /// Bytes that say nothing.
        Bad,
    }

    /// What the way tells.
    #[derive(Debug, PartialEq, Eq)]
    enum Told {
        Entry(u64),
        Mark(u64),
        /// Damage that was skipped, and the entries gone with it.
        Gone(Option<(u64, u64)>),
    }

    /// Where this piece stands.
    fn place(number: u32) -> u32 {
        header().frames_at() + number * LEN
    }

    fn header() -> SegmentHeader {
        SegmentHeader { id: SegmentId::new(3), nonce: 7, blank: 0xFF, segment_size: 1024, ..SegmentHeader::NONE }
    }

    /// A segment of these pieces, in a buffer that holds all of it, and the way through it.
    fn way(pieces: &[Piece]) -> (Medium, Walk) {
        let (header, salts) = (header(), Salts::of(portable, &header()));
        let mut bytes = vec![0xA5; header.frames_at() as usize];
        for (piece, at) in pieces.iter().zip((header.frames_at()..).step_by(LEN as usize)) {
            let (lsn, kind) = match *piece {
                Entry(lsn, kind) | Flipped(lsn, kind) => (lsn, kind),
                Mark(lsn) => (lsn, FrameType::new(frame::Mark::Durable.code())),
                Bad => (0, PLAIN),
            };
            let mut frame = [0x11; LEN as usize];
            salts.complete(&mut frame, at, Lsn::new(lsn), 1, kind);
            match piece {
                Flipped(..) => frame[FRAME_HEADER_LEN] ^= 1,
                Bad => frame.fill(0x11),
                Entry(..) | Mark(_) => {}
            }
            bytes.extend(frame);
        }
        bytes.resize(header.segment_size as usize, header.blank);
        let (at, size) = (header.frames_at(), header.segment_size);
        (Medium::new(bytes, 1024), Walk::new(portable, &header, at, size, Lsn::new(5), u32::MAX))
    }

    fn next(medium: &mut Medium, walk: &mut Walk) -> Event {
        medium.run(|turn| walk.next(turn)).unwrap()
    }

    /// Goes on to the next place where the frame expected does not stand.
    fn stop(medium: &mut Medium, walk: &mut Walk) -> Halt {
        while next(medium, walk) != Event::Stop {}
        *walk.halt()
    }

    /// All that is told of a segment, where each damage is skipped that has a frame behind it.
    fn told(pieces: &[Piece]) -> Vec<Told> {
        let ((mut medium, mut walk), mut told) = (way(pieces), Vec::new());
        loop {
            let event = next(&mut medium, &mut walk);
            let lsn = walk.frame().header.lsn.value();
            match event {
                Event::Entry => told.push(Told::Entry(lsn)),
                Event::Mark => told.push(Told::Mark(lsn)),
                Event::Finding => {
                    let lsns = walk.finding().lsns;
                    told.push(Told::Gone(lsns.map(|(first, last)| (first.value(), last.value()))));
                }
                Event::Behind => {}
                Event::Stop => {
                    let Halt { at, seen, next: Some(next), .. } = *walk.halt() else { return told };
                    let mut finding = Finding::rot(seen, Object::Segment(header().id), at);
                    let first = walk.batch().map_or(walk.expected(), |batch| batch.first);
                    finding.lsns = Some((first, next.expected.previous())).filter(|(first, last)| first <= last);
                    walk.skip(&finding, next);
                }
            }
        }
    }

    #[test]
    fn all_sound_frames_behind_a_halt_are_counted_and_the_first_that_does_not_lead_back_is_gone_on_at() {
        for (behind, frames, goes_on) in [
            (&[][..], 0, None),
            (&[Entry(4, PLAIN)], 1, None),
            (&[Mark(5)], 1, Some((2, 6))),
            (&[Entry(7, PLAIN)], 1, Some((2, 7))),
            (&[Entry(7, PLAIN), Bad, Entry(8, PLAIN), Mark(8)], 3, Some((2, 7))),
            (&[Entry(4, PLAIN), Mark(4), Entry(9, PLAIN), Entry(7, PLAIN)], 4, Some((4, 9))),
        ] {
            let (mut medium, mut walk) = way(&[&[Entry(5, PLAIN), Bad], behind].concat());
            let halt = stop(&mut medium, &mut walk);
            assert_eq!((halt.at, halt.seen, halt.frames), (place(1), Seen::BadHeader, frames), "{behind:?}");
            let next = goes_on.map(|(number, lsn)| Next { at: place(number), expected: Lsn::new(lsn) });
            assert_eq!(halt.next, next, "{behind:?}");
        }
    }

    #[test]
    fn the_end_is_skipped_to_where_one_entry_alone_is_gone_whose_bytes_can_be_read() {
        for (unreadable, last, is_skipped) in [
            (false, 5, false),
            (false, 6, true),
            (false, 7, false),
            (true, 5, false),
            (true, 6, false),
            (true, 7, false),
        ] {
            let (mut medium, mut walk) = way(&[Entry(5, PLAIN), Bad]);
            if unreadable {
                medium.unreadable = place(1) as usize..place(2) as usize;
            }
            let seen = stop(&mut medium, &mut walk).seen;
            assert_eq!(seen, if unreadable { Seen::Unreadable } else { Seen::BadHeader });
            let skipped = is_skipped.then_some(Next { at: 500, expected: Lsn::new(7) });
            assert_eq!(walk.end_behind(Lsn::new(last), 500), skipped, "{seen:?}, and {last} is the last");
        }
    }

    #[test]
    fn the_way_goes_on_where_it_was_when_something_else_was_put_into_the_buffer() {
        let (mut medium, mut walk) = way(&[Entry(5, PLAIN), Entry(6, PLAIN)]);
        assert_eq!(next(&mut medium, &mut walk), Event::Entry);
        medium.buf.fill(0xA5);
        walk.forget();
        assert!(!walk.ready(&mut medium.buf));
        assert_eq!((next(&mut medium, &mut walk), walk.expected()), (Event::Entry, Lsn::new(7)));
    }

    #[test]
    fn ready_is_the_entry_expected_that_stands_by_itself_and_it_is_taken_as_step_by_step() {
        for (second, is_ready) in [
            (Entry(6, PLAIN), true),
            (Entry(6, FrameType::new(1)), true),
            (Entry(5, PLAIN), false),
            (Entry(7, PLAIN), false),
            (Entry(6, ON), false),
            (Entry(6, PLAIN.in_transaction()), false),
            (Entry(6, FrameType::new(11)), false),
            (Flipped(6, PLAIN), false),
            (Mark(5), false),
            (Mark(6), false),
            (Bad, false),
        ] {
            let (mut medium, mut walk) = way(&[Entry(5, PLAIN), second, Entry(7, PLAIN)]);
            assert!(!walk.ready(&mut medium.buf), "nothing was read");
            assert_eq!(next(&mut medium, &mut walk), Event::Entry);
            let mut steps = walk.clone();
            assert_eq!(walk.ready(&mut medium.buf), is_ready, "{second:?}");
            if is_ready {
                assert_eq!(next(&mut medium, &mut steps), Event::Entry);
            }
            let where_it_is = |walk: &Walk| (walk.at(), walk.expected(), walk.frame().clone(), walk.batch_of_entry());
            assert_eq!(where_it_is(&walk), where_it_is(&steps), "{second:?}");
        }
    }

    #[test]
    fn nothing_is_ready_in_a_batch_or_while_the_place_behind_damage_is_searched() {
        let (mut medium, mut walk) = way(&[Entry(5, ON), Entry(6, PLAIN), Entry(7, PLAIN)]);
        assert_eq!(next(&mut medium, &mut walk), Event::Entry);
        assert!(!walk.ready(&mut medium.buf), "it ends the batch");
        assert_eq!((next(&mut medium, &mut walk), walk.batch_of_entry().is_some()), (Event::Entry, true));
        assert_eq!((walk.ready(&mut medium.buf), walk.batch_of_entry()), (true, None), "the batch is over");
        // The entry expected stands behind another one: it is no way through.
        let (mut medium, mut walk) = way(&[Bad, Entry(6, PLAIN), Entry(5, PLAIN)]);
        assert_eq!((next(&mut medium, &mut walk), walk.frame().at), (Event::Behind, place(1)));
        assert!(!walk.ready(&mut medium.buf));
        assert_eq!((next(&mut medium, &mut walk), walk.frame().at), (Event::Behind, place(2)));
        assert_eq!(stop(&mut medium, &mut walk).at, place(0));
    }

    #[test]
    fn with_the_one_entry_that_is_gone_goes_the_rest_of_its_batch_and_nothing_behind() {
        let gone = |pieces: &[Piece]| told(&[&[Entry(5, PLAIN)], pieces].concat()).split_off(1);
        assert_eq!(gone(&[Flipped(6, PLAIN), Entry(7, PLAIN)]), [Told::Gone(Some((6, 6))), Told::Entry(7)]);
        let batch = [Flipped(6, ON), Entry(7, ON), Entry(8, PLAIN), Entry(9, PLAIN)];
        assert_eq!(gone(&batch), [Told::Gone(Some((6, 8))), Told::Entry(9)]);
        let by_a_mark = [Flipped(6, ON), Entry(7, ON), Mark(7), Entry(8, PLAIN)];
        assert_eq!(gone(&by_a_mark), [Told::Gone(Some((6, 7))), Told::Mark(7), Told::Entry(8)]);
        let by_more_damage = [Flipped(6, ON), Entry(7, ON), Flipped(8, PLAIN), Entry(9, PLAIN)];
        assert_eq!(gone(&by_more_damage), [Told::Gone(Some((6, 7))), Told::Gone(Some((8, 8))), Told::Entry(9)]);
        // The entry 8 is nowhere: that is other damage.
        let by_a_hole = [Flipped(6, ON), Entry(7, ON), Entry(9, PLAIN), Mark(9), Entry(10, PLAIN)];
        let told = [Told::Gone(Some((6, 7))), Told::Gone(Some((8, 9))), Told::Mark(9), Told::Entry(10)];
        assert_eq!(gone(&by_a_hole), told);
    }

    #[test]
    fn where_nothing_tells_what_was_gone_all_goes_with_it_up_to_the_next_mark() {
        let gone = |pieces: &[Piece]| told(&[&[Entry(5, PLAIN)], pieces].concat()).split_off(1);
        let unknown = [Bad, Entry(7, PLAIN), Entry(8, PLAIN), Mark(8), Entry(9, PLAIN)];
        assert_eq!(gone(&unknown), [Told::Gone(Some((6, 8))), Told::Mark(8), Told::Entry(9)]);
        // What the first was is no answer for the one behind it.
        let two = [Flipped(6, PLAIN), Bad, Entry(8, PLAIN), Mark(8), Entry(9, PLAIN)];
        assert_eq!(gone(&two), [Told::Gone(Some((6, 8))), Told::Mark(8), Told::Entry(9)]);
        let in_a_batch = [Entry(6, ON), Bad, Entry(7, PLAIN), Mark(7), Entry(8, PLAIN)];
        let told = [Told::Entry(6), Told::Gone(Some((6, 7))), Told::Mark(7), Told::Entry(8)];
        assert_eq!(gone(&in_a_batch), told, "the batch has bad bytes inside, though no entry is missing");
    }

    #[test]
    fn with_marks_alone_nothing_goes() {
        let marks = [Entry(5, PLAIN), Bad, Entry(6, PLAIN), Bad, Mark(6), Entry(7, ON), Entry(8, PLAIN)];
        let expected = [
            Told::Entry(5),
            Told::Gone(None),
            Told::Entry(6),
            Told::Gone(None),
            Told::Mark(6),
            Told::Entry(7),
            Told::Entry(8),
        ];
        assert_eq!(told(&marks), expected);
    }
}
