//! Giving up the front of the log: which segments go, and which a checkpoint no longer needs.
//!
//! The low-water mark is durable before this begins; segments go oldest first, so that a crash leaves no gap, and what
//! it left the next truncation takes.

use crate::{
    CheckpointId, Lsn,
    chain::{HeaderReader, View},
    device::Object,
    drive::{Answer, Machine, Step, Stop},
    segment::{SegmentHeader, SegmentId},
};

/// What is to be removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Checkpoints of lower ids go.
    pub checkpoints_from: CheckpointId,
    /// Whether what was kept as evidence of the last cut goes too.
    pub evidence: bool,
}

/// The machine that removes the segments below the low-water mark. Gives the oldest segment that stays.
#[derive(Debug)]
pub struct Retire {
    view: View,
    retention: Retention,
    state: State,
    /// The oldest segment that stays.
    keep: SegmentId,
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
        Self { keep: view.newest, view, retention, state, needed: None }
    }

    fn advance(&mut self, buf: &mut [u8], answer: &mut Answer) -> Result<SegmentId, Stop> {
        loop {
            self.state = match &mut self.state {
                State::Header(reader) => {
                    let id = reader.id();
                    let read = reader.next(buf, answer)?;
                    self.stays(&self.view.header(id, &read)?)
                }
                State::Back { before, asked: asked @ false } => {
                    *asked = true;
                    return Err(Step::Prev { before: Some(Object::Segment(*before)) }.into());
                }
                State::Back { .. } => match answer.object() {
                    Some(Object::Segment(id)) if self.view.counts(id) => {
                        State::Header(HeaderReader::new(self.view.update, id))
                    }
                    Some(Object::Segment(id)) if id > self.view.oldest => State::Back { before: id, asked: false },
                    _ => State::Remove { after: None, asked: false },
                },
                State::Remove { after, asked: asked @ false } | State::Evidence { after, asked: asked @ false } => {
                    *asked = true;
                    return Err(Step::Next { after: *after }.into());
                }
                State::Remove { .. } => match answer.object() {
                    Some(object @ Object::Segment(id)) if id < self.keep => {
                        self.state = State::Remove { after: Some(object), asked: false };
                        return Err(Step::Remove { object }.into());
                    }
                    _ => State::Evidence { after: Some(Object::Segment(self.keep)), asked: false },
                },
                State::Evidence { .. } => match answer.object() {
                    Some(object @ Object::Segment(id)) if self.retention.evidence && id < self.view.newest => {
                        self.state = State::Evidence { after: Some(object), asked: false };
                        if self.view.dead.contains(id) {
                            return Err(Step::Remove { object }.into());
                        }
                        continue;
                    }
                    _ => State::Checkpoints { after: LAST_SEGMENT, asked: false },
                },
                State::Checkpoints { after, asked: asked @ false } => {
                    *asked = true;
                    return Err(Step::Next { after: Some(*after) }.into());
                }
                State::Checkpoints { .. } => match answer.object() {
                    Some(object @ Object::Checkpoint(id)) if id < self.retention.checkpoints_from => {
                        self.state = State::Checkpoints { after: object, asked: false };
                        return Err(Step::Remove { object }.into());
                    }
                    _ => return Ok(self.keep),
                },
            };
        }
    }

    fn stays(&mut self, header: &SegmentHeader) -> State {
        self.keep = header.id;
        if header.first <= self.view.low_water && self.needed.is_none() {
            self.needed = Some(self.view.low_water.min(header.transaction_floor));
        }
        if self.needed.is_some_and(|needed| header.first <= needed) || header.id <= self.view.oldest {
            State::Remove { after: None, asked: false }
        } else {
            State::Back { before: header.id, asked: false }
        }
    }
}

/// Before the first checkpoint in the order of objects.
const LAST_SEGMENT: Object = Object::Segment(SegmentId::new(u64::MAX));

impl Machine for Retire {
    type Output = SegmentId;

    fn step(&mut self, buf: &mut [u8], mut answer: Answer) -> Result<SegmentId, Stop> {
        self.advance(buf, &mut answer)
    }
}
