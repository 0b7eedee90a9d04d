//! Giving up the front of the log: which segments go, and which a checkpoint no longer needs.
//!
//! The low-water mark is durable before this begins; segments go oldest first, and what a crash left the next truncation
//! takes. Where there was no room to say what goes, a checkpoint holds it, and each removal is durable before the next, so that
//! what a crash leaves has a gap at its front alone.

use crate::{
    CheckpointId, Lsn,
    chain::{HeaderReader, View},
    device::Object,
    drive::{Answer, Machine, Step, Stop, Stopped, Turn},
    segment::{SegmentHeader, SegmentId},
};

/// What is to be removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Retention {
    /// Checkpoints of lower ids go.
    pub checkpoints_from: CheckpointId,
    /// Whether what was kept as evidence of the last cut goes too.
    pub evidence: bool,
    /// Where there was no room to say what goes, and nothing on the medium does: the low-water mark before.
    pub unsaid: Option<Lsn>,
}

/// The machine that removes the segments below the low-water mark. [`oldest`](Self::oldest) tells which is the oldest then.
#[derive(Debug)]
pub struct Retire {
    view: View,
    retention: Retention,
    state: State,
    /// The oldest segment that stays, and its first LSN.
    keep: SegmentId,
    first: Lsn,
    /// Down to which LSN segments stay, once the one that holds the low-water mark is found.
    needed: Option<Lsn>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // One at a time, in place: there is no heap to box it in.
enum State {
    /// From the newest back to the oldest that stays.
    Header(HeaderReader),
    Back {
        before: SegmentId,
        asked: bool,
    },
    /// From the oldest on, up to the one that stays.
    Remove {
        after: Option<Object>,
        asked: bool,
    },
    /// This one was removed: that is to be durable before the next goes.
    Removed(Object),
    Evidence {
        after: Option<Object>,
        asked: bool,
    },
    Checkpoints {
        after: Object,
        asked: bool,
    },
}

impl Retire {
    /// Removes what lies below the view's low-water mark, and what `retention` says.
    #[must_use]
    pub fn new(view: View, retention: Retention) -> Self {
        let state = State::Header(HeaderReader::new(view.update, view.newest));
        Self { keep: view.newest, first: Lsn::ZERO, view, retention, state, needed: None }
    }

    /// The oldest segment that the log still needs, as far as is known: also where removing those below it failed, and some
    /// are gone.
    #[must_use]
    pub fn oldest(&self) -> SegmentId {
        if self.removes() { self.keep } else { self.view.oldest }
    }

    /// Whether it is known what stays.
    fn removes(&self) -> bool {
        !matches!(self.state, State::Header(_) | State::Back { .. })
    }

    /// The first LSN that is kept where nothing says so: what stays of a segment, a crash brings back. Where a removal failed,
    /// it may have been done.
    pub(crate) fn kept_unsaid(&self) -> Option<Lsn> {
        let removed = if self.removes() { self.first.min(self.view.low_water) } else { Lsn::ZERO };
        self.retention.unsaid.map(|before| before.max(removed))
    }

    fn advance(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        loop {
            match &mut self.state {
                State::Header(reader) => {
                    reader.next(turn)?;
                    let SegmentHeader { id, first, transaction_floor, .. } = *self.view.header(turn, reader)?;
                    (self.keep, self.first) = (id, first);
                    if first <= self.view.low_water && self.needed.is_none() {
                        self.needed = Some(self.view.low_water.min(transaction_floor));
                    }
                    let is_last = self.needed.is_some_and(|needed| first <= needed) || id <= self.view.oldest;
                    self.state = match is_last {
                        true => State::Remove { after: None, asked: false },
                        false => State::Back { before: id, asked: false },
                    };
                }
                State::Back { before, asked: asked @ false } => {
                    *asked = true;
                    return Err(turn.need(Step::Prev { before: Some(Object::Segment(*before)) }));
                }
                State::Back { .. } => {
                    self.state = match turn.segment() {
                        Some(id) if self.view.counts(id) => State::Header(HeaderReader::new(self.view.update, id)),
                        Some(id) if id > self.view.oldest => State::Back { before: id, asked: false },
                        _ => State::Remove { after: None, asked: false },
                    };
                }
                State::Remove { after, asked: asked @ false } | State::Evidence { after, asked: asked @ false } => {
                    *asked = true;
                    return Err(turn.need(Step::Next { after: *after }));
                }
                State::Remove { .. } => match turn.object() {
                    Some(object @ Object::Segment(id)) if id < self.keep => {
                        self.state = match self.retention.unsaid {
                            Some(_) => State::Removed(object),
                            None => State::Remove { after: Some(object), asked: false },
                        };
                        return Err(turn.need(Step::Remove { object }));
                    }
                    _ => self.state = State::Evidence { after: Some(Object::Segment(self.keep)), asked: false },
                },
                State::Removed(object) => {
                    self.state = State::Remove { after: Some(*object), asked: false };
                    return Err(turn.need(Step::Sync));
                }
                State::Evidence { .. } => match turn.object() {
                    Some(object @ Object::Segment(id)) if self.retention.evidence && id < self.view.newest => {
                        self.state = State::Evidence { after: Some(object), asked: false };
                        if self.view.dead.contains(id) {
                            return Err(turn.need(Step::Remove { object }));
                        }
                    }
                    _ => self.state = State::Checkpoints { after: LAST_SEGMENT, asked: false },
                },
                State::Checkpoints { after, asked: asked @ false } => {
                    *asked = true;
                    return Err(turn.need(Step::Next { after: Some(*after) }));
                }
                State::Checkpoints { .. } => match turn.object() {
                    Some(object @ Object::Checkpoint(id)) if id < self.retention.checkpoints_from => {
                        self.state = State::Checkpoints { after: object, asked: false };
                        return Err(turn.need(Step::Remove { object }));
                    }
                    _ => return Ok(()),
                },
            }
        }
    }
}

/// The machine that gives back the blank room behind the end of a segment.
#[derive(Debug)]
pub struct Trim {
    segment: SegmentId,
    end: u32,
    done: bool,
}

impl Trim {
    /// Gives back what lies behind this offset of this segment.
    #[must_use]
    pub fn new((segment, end): (SegmentId, u32)) -> Self {
        Self { segment, end, done: false }
    }
}

impl Machine for Trim {
    type Output = ();

    fn step(&mut self, _: &mut [u8], _: Answer) -> Result<(), Stop> {
        if core::mem::replace(&mut self.done, true) {
            return Ok(());
        }
        Err(Step::Trim { object: Object::Segment(self.segment), at: self.end.into() }.into())
    }
}

/// Before the first checkpoint in the order of objects.
const LAST_SEGMENT: Object = Object::Segment(SegmentId::new(u64::MAX));

impl Machine for &mut Retire {
    type Output = ();

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<(), Stop> {
        Turn::run(buf, answer, |turn| self.advance(turn))
    }
}
