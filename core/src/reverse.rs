//! Reading entries newest first.
//!
//! A frame does not say where the one before it begins, so a segment is read forwards to learn where its entries
//! stand: at first a few places far apart, then, from the last of them on, places closer together, down to each single
//! entry. So memory does not grow with the segment, and each byte is read a few times at most. A batch is one such place,
//! once it was seen to be whole, and is looked into by itself: of one that lost an entry, nothing is remembered.

use heapless::Vec;

use crate::{
    Lsn,
    chain::{HeaderReader, View},
    cursor::Frame,
    device::Object,
    drive::{Answer, Machine, Step, Stop, Stopped, Turn},
    fault::Fault,
    reader::Read,
    report::{Finding, Seen, Witness},
    segment::{Predecessor, SegmentHeader, SegmentId},
    walk::{Batch, Event, Walk},
};

/// Places remembered at once, of one fineness: at least half of them are used where there are more entries.
const PLACES: usize = 46;
/// Finenesses: enough for all entries of the largest segment, whatever batches they stand in.
const LEVELS: usize = 7;

/// The machine: entries from `to` down to `from`, both included, as they stand.
///
/// Damage and gaps are faults in their place, whatever the policy, but for what was given up before: reading on behind them is for
/// the [`Reader`](crate::Reader).
#[derive(Debug)]
pub struct ReverseReader {
    view: View,
    from: Lsn,
    to: Lsn,
    state: State,
    /// Where the segment ends whose header is read next.
    end: Predecessor,
    /// The segment behind it.
    successor: SegmentId,
    /// The predecessor that the segment names on the medium.
    named: SegmentId,
    segment: Option<SegmentHeader>,
    /// The way through the part that is looked at: the buffer still holds it when its entries are handed out, if it fits.
    walk: Option<Walk>,
    levels: Vec<Level, LEVELS>,
    /// Entries and batches seen in the part that is looked at.
    seen: u64,
    /// What is gone before all the places that are left of the segment.
    gone: Option<Finding>,
    /// The entry that was handed out last.
    handed: Option<Lsn>,
    read: Read,
}

/// Says whether damage concerns whoever reads.
type Whom<'a> = &'a dyn Fn(&Finding) -> bool;

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // One at a time, in place: there is no heap to box it in.
enum State {
    Header(HeaderReader),
    /// Learning where entries stand, up to the end of the last level.
    Scan,
    /// Taking the last place that is left.
    Next,
    /// Handing out the entry at the walk.
    Entry,
    Done,
}

/// Places at equal distances in a part of a segment, or of a batch.
#[derive(Clone, Debug)]
struct Level {
    places: Vec<Known, PLACES>,
    /// Entries and batches from one to the next.
    stride: u64,
    /// Where the part ends.
    end: u32,
    /// Whether it is of a batch, the entries of which are looked for.
    is_in_batch: bool,
}

/// Where an entry stands, or a batch begins.
#[derive(Clone, Copy, Debug)]
struct Known {
    at: u32,
    lsn: Lsn,
    is_batch: bool,
}

impl From<Batch> for Known {
    fn from(Batch { at, first }: Batch) -> Self {
        Self { at, lsn: first, is_batch: true }
    }
}

impl ReverseReader {
    /// Reads the entries from `to` down to `from` of the log that `view` shows; a `to` beyond its end is its end.
    #[must_use]
    pub fn new(view: View, from: Lsn, to: Lsn) -> Self {
        let end = Predecessor { id: view.newest, last: view.last, size: view.end, ..Predecessor::default() };
        let state = State::Header(HeaderReader::new(view.update, view.newest));
        let to = to.min(view.last);
        Self {
            successor: view.newest,
            named: SegmentId::NONE,
            view,
            from,
            to,
            state,
            end,
            segment: None,
            walk: None,
            levels: Vec::new(),
            seen: 0,
            gone: None,
            handed: None,
            read: Read::default(),
        }
    }

    /// Goes on for somebody who says what concerns him of that which is gone.
    pub(crate) fn advance_for(&mut self, turn: &mut Turn<'_>, whom: Whom<'_>) -> Result<Read, Stopped> {
        if self.from < self.view.low_water {
            return Err(turn.fault(Fault::Truncated { low_water: self.view.low_water }));
        }
        loop {
            match &mut self.state {
                _ if self.from > self.to => return Ok(self.read),
                State::Header(reader) => {
                    reader.next(turn)?;
                    let header = *self.view.header(turn, reader)?;
                    let on_medium = reader.read.header.as_ref().unwrap_or(&header);
                    self.named = on_medium.predecessor.id;
                    self.entered(turn, &header, whom)?;
                }
                State::Scan => self.scan(turn, whom)?,
                State::Next => self.next_place(turn, whom)?,
                State::Entry => self.entry(turn)?,
                State::Done => return Ok(self.read),
            }
        }
    }

    /// Learns where an entry stands.
    fn scan(&mut self, turn: &mut Turn<'_>, whom: Whom<'_>) -> Result<(), Stopped> {
        let (Some(walk), Some(level)) = (&mut self.walk, self.levels.last_mut()) else {
            return Err(turn.fault(Fault::NoLog));
        };
        let event = walk.next(turn)?;
        let Frame { at, header, .. } = *walk.frame();
        match event {
            Event::Entry if at < level.end => {
                let is_last = !header.kind.continues_batch();
                match walk.batch_of_entry().filter(|_| !level.is_in_batch) {
                    Some(batch) if is_last => level.take(batch.into(), &mut self.seen),
                    Some(_) => {}
                    None => level.take(Known { at, lsn: header.lsn, is_batch: false }, &mut self.seen),
                }
                if level.is_in_batch && is_last {
                    self.state = State::Next;
                }
            }
            Event::Mark | Event::Behind => {}
            Event::Stop if walk.halt().at < level.end => {
                let (halt, expected) = (*walk.halt(), walk.expected());
                // What a batch lost, it is gone with.
                let first = walk.batch().map_or(expected, |batch| batch.first);
                let next = halt.next.filter(|next| next.expected <= self.end.last.next_or_max());
                let last = next.map_or(self.end.last, |next| next.expected.previous());
                let mut finding = Finding::rot(halt.seen, Object::Segment(self.end.id), halt.at);
                finding.lsns = (first <= last).then_some((first, last));
                finding.len = next.map_or(0, |next| (next.at - halt.at).into());
                finding.witness = (self.successor != self.end.id).then_some(Witness::Successor(self.successor));
                match next.or_else(|| walk.end_behind(self.end.last, self.end.size)) {
                    Some(next) => walk.skip(&finding, next),
                    None if self.concerns(&finding) && whom(&finding) => return Err(turn.fault(finding.fault())),
                    None => self.state = State::Next,
                }
            }
            Event::Finding => {
                let finding = walk.finding();
                if self.concerns(&finding) && whom(&finding) {
                    // What stands behind it comes first.
                    self.levels.iter_mut().for_each(|level| level.places.clear());
                    self.gone = Some(finding);
                }
            }
            Event::Entry | Event::Stop => {
                // A successor's header may cut through a batch: what is before the cut is whole.
                let is_whole = walk.expected() > self.end.last && !level.is_in_batch;
                if let Some(batch) = walk.batch().filter(|batch| is_whole && batch.at < level.end) {
                    level.take(batch.into(), &mut self.seen);
                }
                self.state = State::Next;
            }
        }
        Ok(())
    }

    /// Whether what is gone was asked for, and not given up before.
    fn concerns(&self, finding: &Finding) -> bool {
        let asked = |(first, last)| last >= self.from && first <= self.to && first > self.view.accepted_loss;
        finding.lsns.is_some_and(asked)
    }

    /// Hands out the entry at the walk.
    fn entry(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        let Some(walk) = &mut self.walk else { return Err(turn.fault(Fault::NoLog)) };
        match walk.next(turn)? {
            Event::Entry => {}
            Event::Stop => {
                let finding = Finding::rot(walk.halt().seen, Object::Segment(self.end.id), walk.at());
                return Err(turn.fault(finding.fault()));
            }
            Event::Mark | Event::Behind | Event::Finding => return Ok(()),
        }
        let place = walk.frame().place(self.end.id);
        // A batch that ends at or above the low-water mark is whole.
        let crosses = self.from == self.view.low_water
            && place.kind.continues_batch()
            && self.handed == Some(place.lsn.next_or_max());
        let is_wanted = place.lsn >= self.from || crosses;
        self.state = if is_wanted { State::Next } else { State::Done };
        if !is_wanted || place.lsn > self.to {
            return Ok(());
        }
        self.read.entries += 1;
        self.handed = Some(place.lsn);
        Err(turn.need(Step::Entry(place)))
    }

    /// A segment whose end is known: reads it, or passes on to the one before if it lies behind what is wanted.
    fn entered(&mut self, turn: &mut Turn<'_>, header: &SegmentHeader, whom: Whom<'_>) -> Result<(), Stopped> {
        self.segment = Some(*header);
        if self.end.last < header.first || self.to < header.first {
            return self.before(turn, whom);
        }
        let start = header.frames_at();
        self.walk = Some(Walk::new(self.view.update, header, start, self.end.size, header.first, u32::MAX));
        self.look_closely(turn, header.frames_at(), self.end.size, false)
    }

    /// Looks where entries stand from the walk on, which is at `at`, up to `end`: those of one batch, or all.
    fn look_closely(&mut self, turn: &mut Turn<'_>, at: u32, end: u32, is_in_batch: bool) -> Result<(), Stopped> {
        if self.levels.push(Level { end, stride: 1, places: Vec::new(), is_in_batch }).is_err() {
            // There are as many levels as the largest segment takes. Nothing is left out in silence all the same.
            return Err(turn.fault(Fault::Damaged(Finding::rot(Seen::Hole, Object::Segment(self.end.id), at))));
        }
        self.seen = 0;
        self.state = State::Scan;
        Ok(())
    }

    /// Goes to the last place that is left: an entry, or a part to be looked at more closely.
    fn next_place(&mut self, turn: &mut Turn<'_>, whom: Whom<'_>) -> Result<(), Stopped> {
        while let Some(level) = self.levels.last_mut() {
            let Some(place) = level.places.pop() else {
                self.levels.pop();
                continue;
            };
            let (end, stride) = (core::mem::replace(&mut level.end, place.at), level.stride);
            let is_in_batch = level.is_in_batch || (stride == 1 && place.is_batch);
            if let Some(walk) = &mut self.walk {
                walk.go(place.at, place.lsn);
            }
            if stride == 1 && !place.is_batch {
                self.state = State::Entry;
                return Ok(());
            }
            return self.look_closely(turn, place.at, end, is_in_batch);
        }
        self.before(turn, whom)
    }

    /// On to the segment before.
    fn before(&mut self, turn: &mut Turn<'_>, whom: Whom<'_>) -> Result<(), Stopped> {
        self.state = State::Done;
        if let Some(finding) = self.gone {
            return Err(turn.fault(finding.fault()));
        }
        let Some(header) = self.segment.as_ref().filter(|header| header.first > self.from) else { return Ok(()) };
        let before = header.predecessor;
        let is_lowest = header.id == self.view.oldest;
        let gap = (if is_lowest { self.from } else { before.last.next_or_max() }, header.first.previous());
        if gap.0 <= gap.1 && gap.1 > self.view.accepted_loss {
            let at = if self.named == before.id && !is_lowest { before.size } else { 0 };
            let mut finding = match self.named {
                SegmentId::NONE => Finding::rot(Seen::Hole, Object::Segment(header.id), header.frames_at()),
                named => Finding::rot(Seen::MissingSegment, Object::Segment(named), at),
            };
            finding.lsns = Some(gap);
            finding.witness = Some(Witness::Successor(header.id));
            if whom(&finding) {
                return Err(turn.fault(Fault::Damaged(finding)));
            }
        }
        if !is_lowest {
            self.successor = header.id;
            self.end = before;
            self.state = State::Header(HeaderReader::new(self.view.update, before.id));
        }
        Ok(())
    }
}

impl Level {
    /// Remembers the place if it is one in `stride`, or the first; when there is no room, every other one is forgotten. From the
    /// first on, a closer look comes by all that are not remembered.
    fn take(&mut self, place: Known, seen: &mut u64) {
        let is_wanted = |level: &Self| level.places.is_empty() || seen.is_multiple_of(level.stride);
        if is_wanted(self) && self.places.is_full() {
            let mut keep = false;
            self.places.retain(|_| {
                keep = !keep;
                keep
            });
            self.stride *= 2;
        }
        if is_wanted(self) {
            // There is room: it was just made.
            let _ = self.places.push(place);
        }
        *seen += 1;
    }
}

impl Machine for ReverseReader {
    type Output = Read;

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<Read, Stop> {
        Turn::run(buf, answer, |turn| self.advance_for(turn, &|_| true))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;
    use crate::{
        chain::tests::view,
        frame::FrameType,
        reader::tests::{Brought, LEN, Log, ON, PLAIN, log, lsns, place, plain},
    };

    /// All that is read from `to` back to `from`.
    fn read(log: &Log, from: u64, to: u64) -> Brought {
        log.read_by(ReverseReader::new(log.view.clone(), Lsn::new(from), Lsn::new(to)))
    }

    /// Sees that each entry from `to` back to `from` is read once, and counted.
    fn assert_all_is_read(log: &Log, from: u64, to: u64) {
        let Brought { lsns, end, .. } = read(log, from, to);
        assert!(lsns.iter().copied().eq((from..=to).rev()), "{to} back to {from}: {lsns:?}");
        assert_eq!(end, Ok(Read { entries: lsns.len() as u64, ..Read::default() }), "{to} back to {from}");
    }

    #[test]
    fn each_entry_is_read_back_once_from_any_to_any_other() {
        let batches = [(6, ON), (7, PLAIN), (8, PLAIN), (9, ON), (10, ON), (11, PLAIN), (12, ON), (13, PLAIN)];
        let log = log(&[&plain(1..=4), &plain([5]), &batches, &plain(14..=15), &plain([16])]);
        for from in 1..=16 {
            for to in from..=16 {
                assert_all_is_read(&log, from, to);
            }
        }
    }

    #[test]
    fn many_batches_are_read_back_each_entry_once() {
        for (count, len) in [(90, 2), (200, 3), (199, 7), (255, 1)] {
            let kind = |lsn| if lsn % len == 0 || lsn % 5 == 0 || lsn == count { PLAIN } else { ON };
            let entries: Vec<_> = (1..=count).map(|lsn| (lsn, kind(lsn))).collect();
            assert_all_is_read(&log(&[&entries]), 1, count);
        }
    }

    #[test]
    fn of_a_batch_that_lost_an_entry_nothing_is_read_back_and_only_a_loss_that_was_accepted_is_passed_over() {
        let mut log = log(&[&[(4, PLAIN), (5, ON), (6, ON), (7, PLAIN), (8, PLAIN)]]).flipped_in(1, 2);
        for (accepted_loss, read_back) in [(4, &[8][..]), (5, &[8, 4]), (6, &[8, 4]), (7, &[8, 4])] {
            log.view.accepted_loss = Lsn::new(accepted_loss);
            let Brought { lsns: read_lsns, end, .. } = read(&log, 4, 8);
            assert_eq!((&read_lsns[..], end.is_ok()), (read_back, accepted_loss >= 5), "{accepted_loss}");
            let Err(Fault::Damaged(finding)) = end else { continue };
            assert_eq!(finding.lsns, lsns(5, 7));
        }
    }

    #[test]
    fn a_batch_that_the_next_segment_cuts_is_read_back_behind_any_number_of_entries() {
        for count in 1..=200 {
            for in_batch in 1..=2 {
                let last = count + in_batch;
                let mut entries = plain(1..=count);
                entries.extend((count + 1..=last).map(|lsn| (lsn, ON)));
                assert_all_is_read(&log(&[&entries, &plain([last + 1])]), 1, last + 1);
            }
        }
    }

    #[test]
    fn a_batch_is_read_back_below_the_first_entry_asked_for_only_where_it_crosses_the_low_water_mark() {
        let mut log = log(&[&[(4, PLAIN), (5, ON), (6, ON), (7, PLAIN), (8, PLAIN)]]);
        for (from, low_water, lowest) in [(6, 6, 5), (7, 7, 5), (6, 1, 6), (7, 6, 7), (5, 5, 5), (8, 8, 8)] {
            log.view.low_water = Lsn::new(low_water);
            let Brought { lsns, end, .. } = read(&log, from, 8);
            assert!(lsns.iter().copied().eq((lowest..=8).rev()), "from {from}, low-water mark {low_water}: {lsns:?}");
            assert_eq!(end.unwrap().entries, lsns.len() as u64, "from {from}, low-water mark {low_water}");
        }
        log.view.low_water = Lsn::new(7);
        assert_eq!(read(&log, 6, 8).end, Err(Fault::Truncated { low_water: Lsn::new(7) }));
    }

    #[test]
    fn what_lies_above_the_last_entry_asked_for_is_not_looked_at() {
        let unknown = FrameType::new(31);
        let log = log(&[&plain(1..=4), &[(5, PLAIN), (6, unknown)], &plain(7..=8)]);
        assert_all_is_read(&log, 1, 4);
        assert!(matches!(read(&log, 1, 5).end, Err(Fault::Unsupported { .. })));
        assert_all_is_read(&log, 7, 8);
    }

    /// Damage, as it is told: of the entry of this number in this segment, with this LSN.
    fn gone(segment: u64, number: u32, lsn: u64) -> Finding {
        Finding {
            len: LEN.into(),
            lsns: lsns(lsn, lsn),
            in_transaction: Some(false),
            ..Finding::rot(Seen::BadEntry, Object::Segment(SegmentId::new(segment)), place(number))
        }
    }

    #[test]
    fn damage_ends_what_is_read_back_once_all_behind_it_is_handed_out_and_the_segment_behind_proves_it() {
        let segments: [&[_]; 2] = [&plain(1..=4), &plain(5..=8)];
        let older = log(&segments).flipped_in(1, 1);
        let newest = log(&segments).flipped_in(2, 2);
        let witness = Some(Witness::Successor(SegmentId::new(2)));
        for (log, lsn, finding) in [(older, 2, Finding { witness, ..gone(1, 1, 2) }), (newest, 7, gone(2, 2, 7))] {
            let Brought { lsns, end, .. } = read(&log, 1, 8);
            assert!(lsns.iter().copied().eq((lsn + 1..=8).rev()), "{lsn} is gone: {lsns:?}");
            assert_eq!(end, Err(Fault::Damaged(finding)));
            assert_all_is_read(&log, lsn + 1, 8);
            assert_all_is_read(&log, 1, lsn - 1);
        }
    }

    #[test]
    fn damage_at_the_end_of_a_segment_is_told_to_those_who_asked_for_some_of_it() {
        let log = log(&[&plain(1..=4), &plain(5..=8)]).flipped_in(1, 2).flipped_in(1, 3);
        assert_all_is_read(&log, 1, 2);
        assert_all_is_read(&log, 5, 8);
        let witness = Some(Witness::Successor(SegmentId::new(2)));
        let finding = Finding { len: 0, lsns: lsns(3, 4), in_transaction: None, witness, ..gone(1, 2, 3) };
        for (from, to, read_before) in [(1, 3, &[][..]), (4, 8, &[8, 7, 6, 5]), (4, 4, &[])] {
            let Brought { lsns, end, .. } = read(&log, from, to);
            assert_eq!((&lsns[..], end), (read_before, Err(Fault::Damaged(finding))), "{to} back to {from}");
        }
    }

    #[test]
    fn what_is_missing_before_a_segment_is_told_to_those_who_asked_for_some_of_it() {
        let missing = |segment: u64, offset, (first, last), behind| Finding {
            lsns: lsns(first, last),
            witness: Some(Witness::Successor(SegmentId::new(behind))),
            ..Finding::rot(Seen::MissingSegment, Object::Segment(SegmentId::new(segment)), offset)
        };
        let ends = |log: &Log, from, finding| {
            let Brought { lsns, end, .. } = read(log, from, 12);
            assert!(lsns.iter().copied().eq((9..=12).rev()), "back to {from}: {lsns:?}");
            assert_eq!(end, Err(Fault::Damaged(finding)), "back to {from}");
        };
        let mut log = log(&[&plain(1..=4), &plain(5..=6), &plain(9..=12)]);
        assert_all_is_read(&log, 9, 12);
        // The segment before is there, and something lies between its end and this one.
        ends(&log, 8, missing(2, place(2), (7, 8), 3));
        ends(&log, 1, missing(2, place(2), (7, 8), 3));
        // The log begins with the segment, whatever that names.
        log.view.oldest = SegmentId::new(3);
        ends(&log, 8, missing(2, 0, (8, 8), 3));
        ends(&log, 3, missing(2, 0, (3, 8), 3));
        // The segment before is gone, and the one before that is what the chain goes on with.
        log.view.oldest = SegmentId::new(1);
        let first_end =
            Predecessor { id: SegmentId::new(1), last: Lsn::new(4), size: place(4), ..Predecessor::default() };
        let header = SegmentHeader { predecessor: first_end, ..log.header(3) };
        log.view.mended.0.push(header).unwrap();
        ends(&log, 5, missing(2, 0, (5, 8), 3));
        log.view.accepted_loss = Lsn::new(7);
        ends(&log, 1, missing(2, 0, (5, 8), 3));
        // What is lost was accepted: the way goes on behind it.
        log.view.accepted_loss = Lsn::new(8);
        let Brought { lsns, end, .. } = read(&log, 1, 12);
        assert_eq!((lsns, end.unwrap().entries), ((9..=12).rev().chain((1..=4).rev()).collect(), 8));
    }

    #[test]
    fn places_stand_at_equal_distances_and_are_never_much_fewer_than_there_is_room_for() {
        let mut level = Level { places: heapless::Vec::new(), stride: 1, end: u32::MAX, is_in_batch: false };
        let mut seen = 0;
        for count in 1..=20 * PLACES as u64 {
            let lsn = Lsn::new(count);
            level.take(Known { at: 0, lsn, is_batch: false }, &mut seen);
            assert!(seen == count && level.stride.is_power_of_two());
            let places: Vec<u64> = level.places.iter().map(|place| place.lsn.value()).collect();
            let stride = usize::try_from(level.stride).unwrap();
            assert!(places.iter().copied().eq((1..=count).step_by(stride)), "of {count}: {places:?}");
            assert!(stride == 1 || places.len() > PLACES / 2, "of {count}: {places:?}");
        }
    }

    #[test]
    fn where_nothing_is_asked_for_nothing_is_read() {
        let mut reader = ReverseReader::new(view(), Lsn::new(8), Lsn::new(7));
        assert_eq!(reader.step(&mut [], Answer::Nothing), Ok(Read::default()));
        let mut beyond = ReverseReader::new(view(), Lsn::new(41), Lsn::MAX);
        assert_eq!(beyond.step(&mut [], Answer::Nothing), Ok(Read::default()));
    }

    #[test]
    fn damage_concerns_whoever_asked_for_some_of_it_unless_its_loss_was_accepted() {
        let view = View { accepted_loss: Lsn::new(20), ..view() };
        let reader = ReverseReader::new(view, Lsn::new(10), Lsn::new(30));
        let concerns = |lsns: Option<(u64, u64)>| {
            let mut finding = Finding::rot(Seen::Hole, Object::Segment(SegmentId::new(1)), 0);
            finding.lsns = lsns.map(|(first, last)| (Lsn::new(first), Lsn::new(last)));
            reader.concerns(&finding)
        };
        for (first, last, is_concern) in
            [(20, 25, false), (21, 21, true), (30, 40, true), (31, 40, false), (5, 30, false), (5, 9, false)]
        {
            assert_eq!(concerns(Some((first, last))), is_concern, "{first} to {last}");
        }
        assert!(!concerns(None));
    }
}
