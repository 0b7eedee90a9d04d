//! The way through one segment, frame by frame: which entries follow each other, where a batch is open, and how the
//! way goes on behind damage.
//!
//! The scan of the newest segment and every reader go this way; what each makes of a place where the frame expected
//! does not stand is its own.

use core::cmp::Ordering;

use crate::{
    Lsn,
    checksum::Update,
    cursor::{Cursor, Found, Frame, Search},
    drive::{Answer, Stop},
    fault::Fault,
    frame::FrameType,
    operation::Code,
    report::{Finding, Seen},
    segment::SegmentHeader,
};

/// What the way brings next.
#[derive(Debug)]
pub(crate) enum Event {
    /// A sound mark, in its place.
    Mark(Frame),
    /// The entry expected. Of a batch it is handed over before the batch is known to be whole: `batch` is where that
    /// begins.
    Entry { frame: Frame, batch: Option<Batch> },
    /// A sound frame further on, while the place behind is searched.
    Behind(Frame),
    /// The frame expected does not stand here; what is behind was searched.
    Stop(Halt),
    /// The damage that was skipped, with all that went with it.
    Finding(Finding),
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
    /// How far behind bad bytes a sound frame is looked for.
    reach: u32,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Frames,
    Search {
        halt: Halt,
        search: Search,
    },
    /// What went with the damage is being found out: whether the one frame that is gone had a batch go on behind it.
    Mend {
        damage: Damage,
    },
    /// Entries of a batch that lost one are gone with it.
    Drop {
        damage: Damage,
        until: Until,
    },
}

/// Damage that is being skipped.
#[derive(Clone, Copy, Debug)]
struct Damage {
    finding: Finding,
    next: Next,
    /// The LSN expected where it was found.
    expected: Lsn,
    in_batch: bool,
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
        Self { cursor, expected, batch: None, reach, state: State::Frames }
    }

    /// Where it is.
    pub(crate) fn at(&self) -> u32 {
        self.cursor.at()
    }

    /// The LSN expected next.
    pub(crate) fn expected(&self) -> Lsn {
        self.expected
    }

    /// The batch that is open here.
    pub(crate) fn batch(&self) -> Option<Batch> {
        self.batch
    }

    /// Forgets what is in the buffer: something else was put there.
    pub(crate) fn forget(&mut self) {
        self.cursor.forget();
    }

    pub(crate) fn next(&mut self, buf: &mut [u8], answer: &mut Answer) -> Result<Event, Stop> {
        loop {
            match &mut self.state {
                State::Frames => {
                    let seen = match self.cursor.next(buf, answer)? {
                        Found::Frame(frame) => match self.take(&frame)? {
                            Taken::Event(event) => return Ok(event),
                            // What was there before is passed over: the first one wins.
                            Taken::Other(Seen::Conflict) => Seen::Conflict,
                            Taken::Other(seen) => {
                                self.cursor.go(frame.at);
                                seen
                            }
                        },
                        Found::Other(seen) => seen,
                    };
                    let at = self.cursor.at();
                    let halt = Halt { at, seen, frames: 0, next: None, debris_end: at, blank: true };
                    self.state = State::Search { halt, search: self.cursor.search(self.reach) };
                }
                State::Search { halt, search } => {
                    let found = search.next(buf, answer)?;
                    halt.debris_end = search.debris_end();
                    halt.blank = search.is_blank(halt.at);
                    let Some(frame) = found else { return Ok(Event::Stop(*halt)) };
                    halt.frames += 1;
                    let next = Next { at: frame.at, expected: makes_expected(&frame) };
                    // Never back: what has a lower LSN here was written by no writer.
                    if next.expected >= self.expected {
                        halt.next.get_or_insert(next);
                    }
                    return Ok(Event::Behind(frame));
                }
                State::Mend { damage } => {
                    let mut damage = *damage;
                    let kind = self.mend(buf, answer, &damage)?;
                    damage.finding.in_transaction = kind.map(FrameType::is_in_transaction);
                    self.cursor.go(damage.next.at);
                    self.expected = damage.next.expected;
                    self.batch = None;
                    let until = match kind {
                        Some(kind) if kind.is_mark() || !kind.continues_batch() => None,
                        Some(_) => Some(Until::BatchEnd),
                        // Only marks are gone, and no batch was open: nothing went with them.
                        None if damage.next.expected == damage.expected && !damage.in_batch => None,
                        None => Some(Until::Mark),
                    };
                    match until {
                        Some(until) => self.state = State::Drop { damage, until },
                        None => return Ok(self.resume(damage.finding)),
                    }
                }
                State::Drop { damage, until } => {
                    let (mut damage, until) = (*damage, *until);
                    let Found::Frame(frame) = self.cursor.next(buf, answer)? else {
                        return Ok(self.resume(damage.finding));
                    };
                    let lsn = frame.header.lsn;
                    if frame.header.kind.is_mark() || lsn != self.expected {
                        self.cursor.go(frame.at);
                        return Ok(self.resume(damage.finding));
                    }
                    self.expected = lsn.next_or_max();
                    let first = damage.finding.lsns.map_or(damage.expected, |(first, _)| first);
                    damage.finding.lsns = Some((first, lsn));
                    self.state = State::Drop { damage, until };
                    if until == Until::BatchEnd && !frame.header.kind.continues_batch() {
                        return Ok(self.resume(damage.finding));
                    }
                }
            }
        }
    }

    fn take(&mut self, frame: &Frame) -> Result<Taken, Fault> {
        let kind = frame.header.kind;
        let lsn = frame.header.lsn;
        match makes_expected(frame).cmp(&self.expected) {
            Ordering::Less => return Ok(Taken::Other(Seen::Conflict)),
            Ordering::Greater => return Ok(Taken::Other(Seen::Hole)),
            Ordering::Equal => {}
        }
        if kind.is_mark() {
            return Ok(match self.batch {
                Some(_) => Taken::Other(Seen::Conflict),
                None => Taken::Event(Event::Mark(frame.clone())),
            });
        }
        if Code::from_u8(kind.code()).is_none() {
            return Err(self.unsupported(frame));
        }
        self.expected = lsn.next().map_err(|_| Fault::Exhausted)?;
        let batch = match self.batch {
            None if kind.continues_batch() => Some(Batch { at: frame.at, first: lsn }),
            batch => batch,
        };
        self.batch = batch.filter(|_| kind.continues_batch());
        Ok(Taken::Event(Event::Entry { frame: frame.clone(), batch }))
    }

    /// A sound frame of a type that this version does not know.
    pub(crate) fn unsupported(&self, frame: &Frame) -> Fault {
        Fault::Unsupported { object: self.cursor.object(), offset: frame.at.into(), number: frame.header.kind.code() }
    }

    /// Goes on behind damage, at the first sound frame behind it. [`Event::Finding`] brings the finding back with all
    /// that went with it.
    pub(crate) fn skip(&mut self, finding: Finding, next: Next) {
        let damage = Damage { finding, next, expected: self.expected, in_batch: self.batch.is_some() };
        self.state = State::Mend { damage };
    }

    /// Goes to another place, where `expected` should stand.
    pub(crate) fn go(&mut self, at: u32, expected: Lsn) {
        self.cursor.go(at);
        self.expected = expected;
        self.batch = None;
        self.state = State::Frames;
    }

    fn resume(&mut self, finding: Finding) -> Event {
        self.state = State::Frames;
        Event::Finding(finding)
    }

    /// What the one frame that is gone was, as far as its bytes still tell.
    fn mend(&mut self, buf: &mut [u8], answer: &mut Answer, damage: &Damage) -> Result<Option<FrameType>, Stop> {
        let gone = damage.next.expected.value().checked_sub(damage.expected.value());
        let Ok(at) = u32::try_from(damage.finding.offset) else { return Ok(None) };
        match gone {
            // An entry, known to be one and by its LSN.
            Some(1) => self.cursor.mend(buf, answer, at, damage.next.at, damage.expected),
            _ => Ok(None),
        }
    }
}

/// The LSN that is to be expected where this frame stands. It says so in every place alike: else a frame at the end of the
/// range, which no writer writes, would be gone to and passed over for ever.
fn makes_expected(frame: &Frame) -> Lsn {
    if frame.header.kind.is_mark() { frame.header.lsn.next_or_max() } else { frame.header.lsn }
}

enum Taken {
    Event(Event),
    Other(Seen),
}
