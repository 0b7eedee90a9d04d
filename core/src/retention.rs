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

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;
    use core::ops::Bound::{Excluded, Unbounded};
    use std::{
        collections::{BTreeMap, BTreeSet},
        vec,
        vec::Vec,
    };

    use super::*;
    use crate::{
        chain::{Cut, tests::view},
        checksum::portable,
        segment::SEGMENT_HEADER_LEN,
    };

    /// The header of a segment as small as a log has them.
    pub(crate) fn header(id: u64, first: u64) -> SegmentHeader {
        SegmentHeader {
            id: SegmentId::new(id),
            epoch: 1,
            nonce: id,
            first: Lsn::new(first),
            transaction_floor: Lsn::new(first),
            blank: 0xFF,
            granule: 16,
            segment_size: 8192,
            write_limit: 1024,
            ..SegmentHeader::NONE
        }
    }

    /// The bytes before the frames of a segment: both copies of its header.
    pub(crate) fn copies(header: &SegmentHeader) -> Vec<u8> {
        let mut bytes = vec![header.blank; header.frames_at() as usize];
        for at in [0, header.copy_offset as usize] {
            bytes[at..][..SEGMENT_HEADER_LEN].copy_from_slice(&header.encode(portable));
        }
        bytes
    }

    fn segment(id: u64) -> Object {
        Object::Segment(SegmentId::new(id))
    }

    fn checkpoint(id: u64) -> Object {
        Object::Checkpoint(CheckpointId::new(id))
    }

    /// A medium that holds segments of which only the headers matter, and checkpoints.
    struct Medium {
        objects: BTreeSet<Object>,
        headers: BTreeMap<Object, Vec<u8>>,
        /// What was looked at, what was removed and what was made durable, in order.
        steps: Vec<Step>,
    }

    impl Medium {
        /// Segments by their ids, first LSNs and transaction floors, and two checkpoints.
        fn new(segments: &[(u64, u64, u64)]) -> Self {
            let headers: BTreeMap<_, _> = segments
                .iter()
                .map(|&(id, first, floor)| {
                    let header = SegmentHeader { transaction_floor: Lsn::new(floor), ..header(id, first) };
                    (segment(id), copies(&header))
                })
                .collect();
            let objects = headers.keys().copied().chain([checkpoint(1), checkpoint(2)]).collect();
            Self { objects, headers, steps: Vec::new() }
        }

        /// The next step, once the one before is done.
        fn step(&mut self, retire: &mut Retire, answer: &mut Answer, buf: &mut [u8]) -> Option<Step> {
            let step = match { retire }.step(buf, core::mem::replace(answer, Answer::Nothing)) {
                Ok(()) => return None,
                Err(Stop::Need(step)) => step,
                Err(stop) => panic!("{stop:?}"),
            };
            match &step {
                Step::Read { object, at, into } => {
                    let bytes = &self.headers[object][usize::try_from(*at).unwrap()..];
                    let moved = into.len().min(bytes.len());
                    buf[into.clone()][..moved].copy_from_slice(&bytes[..moved]);
                    *answer = Answer::Moved(moved);
                }
                Step::Prev { before: Some(before) } => {
                    *answer = Answer::Object(self.objects.range(..before).next_back().copied());
                }
                Step::Next { after } => {
                    let from = after.map_or(Unbounded, Excluded);
                    *answer = Answer::Object(self.objects.range((from, Unbounded)).next().copied());
                }
                Step::Remove { object } => assert!(self.objects.remove(object)),
                Step::Sync => {}
                step => panic!("{step:?}"),
            }
            self.steps.push(step.clone());
            Some(step)
        }

        /// Goes on to the end; which is the oldest segment then.
        fn retire(&mut self, view: &View, retention: Retention) -> u64 {
            let mut retire = Retire::new(view.clone(), retention);
            let (mut answer, mut buf) = (Answer::Nothing, [0; 256]);
            while self.step(&mut retire, &mut answer, &mut buf).is_some() {}
            retire.oldest().value()
        }

        fn removed(&self) -> Vec<Object> {
            let removed = |step: &Step| if let Step::Remove { object } = step { Some(*object) } else { None };
            self.steps.iter().filter_map(removed).collect()
        }
    }

    /// A log of the segments `oldest` to `newest`, truncated below `low_water`.
    fn log(oldest: u64, newest: u64, low_water: u64) -> View {
        let (oldest, newest) = (SegmentId::new(oldest), SegmentId::new(newest));
        View { oldest, newest, low_water: Lsn::new(low_water), ..view() }
    }

    #[test]
    fn segments_stay_from_the_one_on_that_holds_the_low_water_mark() {
        for (low_water, oldest) in [(1, 1), (9, 1), (10, 2), (19, 2), (20, 3), (29, 3), (30, 4), (40, 4)] {
            let mut medium = Medium::new(&[(1, 1, 1), (2, 10, 10), (3, 20, 20), (4, 30, 30)]);
            assert_eq!(medium.retire(&log(1, 4, low_water), Retention::default()), oldest, "{low_water}");
            assert!(medium.removed().into_iter().eq((1..oldest).map(segment)), "{low_water}");
        }
    }

    #[test]
    fn with_it_stay_the_transactions_open_where_its_segment_begins_and_no_others() {
        // One began at 15 and was open at 20 and 30; another began at 5, and was over before 20.
        let segments = [(1, 1, 1), (2, 10, 5), (3, 20, 15), (4, 30, 15)];
        for (low_water, oldest) in [(35, 2), (25, 2), (19, 1)] {
            let mut medium = Medium::new(&segments);
            assert_eq!(medium.retire(&log(1, 4, low_water), Retention::default()), oldest, "{low_water}");
        }
    }

    #[test]
    fn what_is_dead_does_not_tell_what_is_kept_and_goes_with_what_it_lies_before() {
        let mut view = log(1, 4, 12);
        view.dead.found(Cut { above: SegmentId::new(2), below: SegmentId::new(4) }).unwrap();
        let segments = [(1, 1, 1), (2, 10, 10), (3, 12, 12), (4, 20, 20)];
        let mut medium = Medium::new(&segments);
        assert_eq!(medium.retire(&view, Retention::default()), 2);
        assert_eq!(medium.removed(), [segment(1)], "the other is evidence");
        view.low_water = Lsn::new(20);
        let mut medium = Medium::new(&segments);
        assert_eq!(medium.retire(&view, Retention::default()), 4);
        assert_eq!(medium.removed(), [segment(1), segment(2), segment(3)]);
    }

    #[test]
    fn evidence_and_checkpoints_go_when_that_is_asked_for_and_what_counts_stays() {
        let mut view = log(1, 4, 1);
        view.dead.found(Cut { above: SegmentId::new(2), below: SegmentId::new(4) }).unwrap();
        for (evidence, checkpoints_from, removed) in [
            (false, 1, &[][..]),
            (true, 1, &[segment(3)]),
            (false, 2, &[checkpoint(1)]),
            (true, 3, &[segment(3), checkpoint(1), checkpoint(2)]),
        ] {
            // The last one was begun by somebody else since: it is none of this log's business.
            let mut medium = Medium::new(&[(1, 1, 1), (2, 10, 10), (3, 12, 12), (4, 12, 12), (5, 20, 20)]);
            let checkpoints_from = CheckpointId::new(checkpoints_from);
            assert_eq!(medium.retire(&view, Retention { evidence, checkpoints_from, unsaid: None }), 1);
            assert_eq!(medium.removed(), removed);
        }
    }

    #[test]
    fn what_a_crash_left_below_the_oldest_goes_and_is_not_looked_at() {
        for oldest in [2, 3] {
            // Of the segments 1 and 2 no header is on the medium.
            let mut medium = Medium::new(&[(3, 20, 20), (4, 30, 30)]);
            medium.objects.extend([segment(1), segment(2)].iter().filter(|left| **left < segment(oldest)));
            assert_eq!(medium.retire(&log(oldest, 4, 15), Retention::default()), 3);
            assert!(medium.removed().into_iter().eq((1..oldest).map(segment)));
            // Behind the oldest that is there, one look at most.
            let looks = medium.steps.iter().filter(|step| matches!(step, Step::Prev { .. })).count();
            assert_eq!(looks, if oldest == 3 { 1 } else { 2 });
        }
    }

    #[test]
    fn until_it_is_known_what_stays_the_oldest_is_the_one_that_it_was() {
        let mut medium = Medium::new(&[(1, 1, 1), (2, 10, 10), (3, 20, 20), (4, 30, 30)]);
        let unsaid = Some(Lsn::new(5));
        let mut retire = Retire::new(log(1, 4, 25), Retention { unsaid, ..Retention::default() });
        let (mut answer, mut buf, mut is_known) = (Answer::Nothing, [0; 256], false);
        loop {
            let step = medium.step(&mut retire, &mut answer, &mut buf);
            is_known |= matches!(step, Some(Step::Next { .. }));
            let kept = if is_known { (3, 20) } else { (1, 5) };
            assert_eq!((retire.oldest().value(), retire.kept_unsaid().unwrap().value()), kept, "{step:?}");
            if step.is_none() {
                break;
            }
        }
        // Nothing on the medium says so: each is gone for good before the next goes.
        let ends = medium.steps.iter().filter(|step| matches!(step, Step::Remove { .. } | Step::Sync));
        let remove = |id| Step::Remove { object: segment(id) };
        assert!(ends.eq(&[remove(1), Step::Sync, remove(2), Step::Sync]));
    }
}
