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
            state: State::Frames,
            halt: Halt { at, seen: Seen::Good, frames: 0, next: None, debris_end: at, blank: true },
            finding: Finding::rot(Seen::Good, Object::Segment(header.id), at),
            next: Next { at, expected },
        }
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
        }
        self.of_batch = self.batch;
        if !header.kind.continues_batch() {
            self.batch = None;
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
