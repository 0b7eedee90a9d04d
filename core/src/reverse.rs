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
/// Damage and gaps are faults, whatever the policy: reading on behind them is for the [`Reader`](crate::Reader).
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
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug)]
struct Known {
    at: u32,
    lsn: Lsn,
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
            read: Read::default(),
        }
    }

    pub(crate) fn advance(&mut self, turn: &mut Turn<'_>) -> Result<Read, Stopped> {
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
                State::Scan => self.scan(turn)?,
                State::Next => self.next_place(turn)?,
                State::Entry => self.entry(turn)?,
                State::Done => return Ok(self.read),
            }
        }
    }

    /// Learns where an entry stands.
    fn scan(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        let (Some(walk), Some(level)) = (&mut self.walk, self.levels.last_mut()) else {
            return Err(turn.fault(Fault::NoLog));
        };
        let event = walk.next(turn)?;
        let Frame { at, header, .. } = *walk.frame();
        match event {
            Event::Entry if at < level.end => level.take(Known { at, lsn: header.lsn }, &mut self.seen),
            Event::Mark | Event::Behind => {}
            Event::Stop if walk.halt().at < level.end => {
                let (halt, expected, in_batch) = (*walk.halt(), walk.expected(), walk.batch().is_some());
                // Nothing is gone but a mark, or what is below all that is asked for.
                let costs_nothing =
                    |next: &Next| next.expected <= self.from || (next.expected == expected && !in_batch);
                let Some(next) = halt.next.filter(costs_nothing) else { return Err(self.damage(turn)) };
                let mut finding = Finding::rot(halt.seen, Object::Segment(self.end.id), halt.at);
                let last = next.expected.previous();
                finding.lsns = (expected <= last).then_some((expected, last));
                walk.skip(&finding, next);
            }
            Event::Finding => {
                let finding = walk.finding();
                // The batch that lost an entry reaches into what is asked for.
                if finding.lsns.is_some_and(|(_, last)| last >= self.from) {
                    return Err(turn.fault(Fault::Damaged(finding)));
                }
            }
            Event::Entry | Event::Stop => self.state = State::Next,
        }
        Ok(())
    }

    /// Hands out the entry at the walk.
    fn entry(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        let Some(walk) = &mut self.walk else { return Err(turn.fault(Fault::NoLog)) };
        match walk.next(turn)? {
            Event::Entry => {}
            Event::Stop => return Err(self.damage(turn)),
            Event::Mark | Event::Behind | Event::Finding => return Ok(()),
        }
        let place = walk.frame().place(self.end.id);
        // A batch that ends at or above the low-water mark is whole.
        let crosses = self.from == self.view.low_water && self.read.entries > 0 && place.kind.continues_batch();
        let is_wanted = place.lsn >= self.from || crosses;
        self.state = if is_wanted { State::Next } else { State::Done };
        if !is_wanted || place.lsn > self.to {
            return Ok(());
        }
        self.read.entries += 1;
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
        self.look_closely(self.end.size);
        Ok(())
    }

    /// Looks where entries stand from the walk on up to `end`.
    fn look_closely(&mut self, end: u32) {
        // Five levels of 64 places hold more entries than a segment can.
        let _ = self.levels.push(Level { end, stride: 1, places: Vec::new() });
        self.seen = 0;
        self.state = State::Scan;
    }

    /// Goes to the last place that is left: an entry, or a part to be looked at more closely.
    fn next_place(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        while let Some(level) = self.levels.last_mut() {
            let Some(place) = level.places.pop() else {
                self.levels.pop();
                continue;
            };
            let (end, stride) = (core::mem::replace(&mut level.end, place.at), level.stride);
            if let Some(walk) = &mut self.walk {
                walk.go(place.at, place.lsn);
            }
            if stride == 1 {
                self.state = State::Entry;
            } else {
                self.look_closely(end);
            }
            return Ok(());
        }
        self.before(turn)
    }

    /// On to the segment before.
    fn before(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        self.state = State::Done;
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

    /// What the walk stopped at is damage.
    fn damage(&self, turn: &mut Turn<'_>) -> Stopped {
        let Some(halt) = self.walk.as_ref().map(Walk::halt) else { return turn.fault(Fault::NoLog) };
        let object = Object::Segment(self.end.id);
        if halt.seen == Seen::Unreadable {
            return turn.fault(Fault::Unreadable { object, offset: halt.at.into() });
        }
        let mut finding = Finding::rot(halt.seen, object, halt.at);
        finding.witness = (self.successor != self.end.id).then_some(Witness::Successor(self.successor));
        turn.fault(Fault::Damaged(finding))
    }
}

impl Level {
    /// Remembers the entry if it is one in `stride`; when there is no room, every other place is forgotten.
    fn take(&mut self, entry: Known, seen: &mut u64) {
        if seen.is_multiple_of(self.stride) {
            if self.places.is_full() {
                let mut keep = false;
                self.places.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.stride *= 2;
            }
            if seen.is_multiple_of(self.stride) {
                let _ = self.places.push(entry);
            }
        }
        *seen += 1;
    }
}

impl Machine for ReverseReader {
    type Output = Read;

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<Read, Stop> {
        Turn::run(buf, answer, |turn| self.advance(turn))
    }
}
