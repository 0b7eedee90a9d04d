//! Reading entries newest first.
//!
//! A frame does not say where the one before it begins, so a segment is read forwards to learn where its entries
//! stand: at first a few places far apart, then, from the last of them on, places closer together, down to each single
//! entry. So memory does not grow with the segment, and each byte is read a few times at most.

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
    walk::{Event, Next, Walk},
};

/// Places remembered at once, of one fineness.
const PLACES: usize = 64;
/// Finenesses: enough for more entries than the largest segment holds.
const LEVELS: usize = 5;

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
    /// Entries seen in the part that is looked at.
    seen: u64,
    /// What is gone before all the places that are left of the segment.
    gone: Option<Finding>,
    /// The entry that was handed out last.
    handed: Option<Lsn>,
    read: Read,
}

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

/// Places at equal distances in a part of a segment.
#[derive(Clone, Debug, Default)]
struct Level {
    places: Vec<Known, PLACES>,
    /// Entries from one to the next.
    stride: u64,
    /// Where the part ends.
    end: u32,
    /// Where the part before the next entry ends: at what is gone between them. That entry is remembered whatever its number is.
    cut: Option<u32>,
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug)]
struct Known {
    at: u32,
    lsn: Lsn,
    /// Where the part before it ends.
    before: u32,
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
    pub(crate) fn advance_for(
        &mut self,
        turn: &mut Turn<'_>,
        whom: &dyn Fn(&Finding) -> bool,
    ) -> Result<Read, Stopped> {
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
                    self.entered(turn, &header)?;
                }
                State::Scan => self.scan(turn, whom)?,
                State::Next => self.next_place(turn)?,
                State::Entry => self.entry(turn)?,
                State::Done => return Ok(self.read),
            }
        }
    }

    /// Learns where an entry stands.
    fn scan(&mut self, turn: &mut Turn<'_>, whom: &dyn Fn(&Finding) -> bool) -> Result<(), Stopped> {
        let (Some(walk), Some(level)) = (&mut self.walk, self.levels.last_mut()) else {
            return Err(turn.fault(Fault::NoLog));
        };
        let event = walk.next(turn)?;
        let Frame { at, header, .. } = *walk.frame();
        match event {
            Event::Entry if at < level.end => level.take(at, header.lsn, &mut self.seen),
            Event::Mark | Event::Behind => {}
            Event::Stop if walk.halt().at < level.end => {
                let (halt, expected) = (*walk.halt(), walk.expected());
                // What a batch lost, it is gone with.
                let batch = walk.batch();
                let first = batch.map_or(expected, |batch| batch.first);
                level.cut(batch.map_or(halt.at, |batch| batch.at), first);
                let next = halt.next.filter(|next| next.expected <= self.end.last.next_or_max());
                let last = next.map_or(self.end.last, |next| next.expected.previous());
                let mut finding = Finding::rot(halt.seen, Object::Segment(self.end.id), halt.at);
                finding.lsns = (first <= last).then_some((first, last));
                finding.len = next.map_or(0, |next| (next.at - halt.at).into());
                finding.witness = (self.successor != self.end.id).then_some(Witness::Successor(self.successor));
                // Of one that is the last of its segment, the bytes may tell whose it was.
                let is_last = expected == self.end.last && halt.seen != Seen::Unreadable;
                let end = Next { at: self.end.size, expected: expected.next_or_max() };
                match next.or(is_last.then_some(end)) {
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
                level.end = level.cut.take().unwrap_or(level.end);
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
    fn entered(&mut self, turn: &mut Turn<'_>, header: &SegmentHeader) -> Result<(), Stopped> {
        self.segment = Some(*header);
        if self.end.last < header.first || self.to < header.first {
            return self.before(turn);
        }
        let start = header.frames_at();
        self.walk = Some(Walk::new(self.view.update, header, start, self.end.size, header.first, u32::MAX));
        self.look_closely(turn, header.frames_at(), self.end.size)
    }

    /// Looks where entries stand from the walk on, which is at `at`, up to `end`.
    fn look_closely(&mut self, turn: &mut Turn<'_>, at: u32, end: u32) -> Result<(), Stopped> {
        if self.levels.push(Level { end, stride: 1, places: Vec::new(), cut: None }).is_err() {
            // Five levels of 64 places hold more entries than a segment can. Nothing is left out in silence all the same.
            return Err(turn.fault(Fault::Damaged(Finding::rot(Seen::Hole, Object::Segment(self.end.id), at))));
        }
        self.seen = 0;
        self.state = State::Scan;
        Ok(())
    }

    /// Goes to the last place that is left: an entry, or a part to be looked at more closely.
    fn next_place(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        while let Some(level) = self.levels.last_mut() {
            let Some(place) = level.places.pop() else {
                self.levels.pop();
                continue;
            };
            let (end, stride) = (core::mem::replace(&mut level.end, place.before), level.stride);
            if let Some(walk) = &mut self.walk {
                walk.go(place.at, place.lsn);
            }
            if stride == 1 {
                self.state = State::Entry;
                return Ok(());
            }
            return self.look_closely(turn, place.at, end);
        }
        self.before(turn)
    }

    /// On to the segment before.
    fn before(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
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
            return Err(turn.fault(Fault::Damaged(finding)));
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
    /// Remembers the entry if it is one in `stride`; when there is no room, every other place is forgotten. What stands behind
    /// something that is gone is kept while there is any other: nobody is to come by that again.
    fn take(&mut self, at: u32, lsn: Lsn, seen: &mut u64) {
        let cut = self.cut.take();
        let is_wanted = |stride: u64| cut.is_some() || seen.is_multiple_of(stride);
        if is_wanted(self.stride) {
            let mut keep = false;
            let mut is_every_other = || {
                keep = !keep;
                keep
            };
            if self.places.is_full() {
                self.places.retain(|known| known.before < known.at || is_every_other());
                self.stride *= 2;
            }
            if self.places.is_full() {
                self.places.retain(|_| is_every_other());
            }
            if is_wanted(self.stride) {
                let _ = self.places.push(Known { at, lsn, before: cut.unwrap_or(at) });
            }
        }
        *seen += 1;
    }

    /// All from `at` on is gone up to the next entry, also what was seen there from `first` on.
    fn cut(&mut self, at: u32, first: Lsn) {
        let gone = self.places.iter().find(|known| known.lsn >= first).map_or(at, |known| known.before);
        self.places.retain(|known| known.lsn < first);
        self.cut.get_or_insert(gone.min(at));
    }
}

impl Machine for ReverseReader {
    type Output = Read;

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<Read, Stop> {
        Turn::run(buf, answer, |turn| self.advance_for(turn, &|_| true))
    }
}
