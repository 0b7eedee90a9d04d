//! Reading entries newest first.
//!
//! A frame does not say where the one before it begins, so a segment is read forwards to learn where its entries
//! stand: at first a few places far apart, then, from the last of them on, places closer together, down to each single
//! entry. So memory does not grow with the segment, and each byte is read a few times at most.

use heapless::Vec;

use crate::{
    Lsn,
    chain::{HeaderReader, View},
    device::Object,
    drive::{Answer, Machine, Place, Step, Stop},
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
    read: Read,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // One at a time, in place: there is no heap to box it in.
enum State {
    Header(HeaderReader),
    /// Learning where entries stand, up to the level's end.
    Scan {
        level: Level,
        seen: u64,
    },
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
            read: Read::default(),
        }
    }

    fn advance(&mut self, buf: &mut [u8], answer: &mut Answer) -> Result<Read, Stop> {
        if self.from < self.view.low_water {
            return Err(Fault::Truncated { low_water: self.view.low_water }.into());
        }
        loop {
            self.state = match &mut self.state {
                _ if self.from > self.to => return Ok(self.read),
                State::Header(reader) => {
                    let id = reader.id();
                    let read = reader.next(buf, answer)?;
                    let header = self.view.header(id, &read)?;
                    self.named = read.header.map_or(header.predecessor.id, |header| header.predecessor.id);
                    self.entered(header)?
                }
                State::Scan { level, seen } => {
                    let Some(walk) = &mut self.walk else { return Ok(self.read) };
                    match walk.next(buf, answer)? {
                        Event::Entry { frame, .. } if frame.at < level.end => {
                            level.take(Known { at: frame.at, lsn: frame.header.lsn }, seen);
                            continue;
                        }
                        Event::Mark(_) | Event::Behind(_) => continue,
                        Event::Stop(halt) if halt.at < level.end => {
                            let (expected, in_batch) = (walk.expected(), walk.batch().is_some());
                            // Nothing is gone but a mark, or what is below all that is asked for.
                            let costs_nothing =
                                |next: &Next| next.expected <= self.from || (next.expected == expected && !in_batch);
                            let Some(next) = halt.next.filter(costs_nothing) else {
                                return Err(self.damage(halt.seen, halt.at).into());
                            };
                            let gone = (expected, next.expected.previous());
                            let lsns = (gone.0 <= gone.1).then_some(gone);
                            let place = Finding::rot(halt.seen, Object::Segment(self.end.id), halt.at);
                            walk.skip(Finding { lsns, ..place }, next);
                            continue;
                        }
                        // The batch that lost an entry reaches into what is asked for.
                        Event::Finding(finding) if finding.lsns.is_some_and(|(_, last)| last >= self.from) => {
                            return Err(Fault::Damaged(finding).into());
                        }
                        Event::Finding(_) => continue,
                        _ => {}
                    }
                    let level = level.clone();
                    // Five levels of 64 places hold more entries than a segment can.
                    let _ = self.levels.push(level);
                    State::Next
                }
                State::Next => self.next_place(),
                State::Entry => {
                    let Some(walk) = &mut self.walk else { return Ok(self.read) };
                    let frame = match walk.next(buf, answer)? {
                        Event::Entry { frame, .. } => frame,
                        Event::Stop(halt) => return Err(self.damage(halt.seen, halt.at).into()),
                        Event::Mark(_) | Event::Behind(_) | Event::Finding(_) => continue,
                    };
                    self.state = State::Next;
                    let lsn = frame.header.lsn;
                    if lsn < self.from {
                        return Ok(self.read);
                    }
                    if lsn > self.to {
                        continue;
                    }
                    self.read.entries += 1;
                    return Err(Step::Entry(Place {
                        lsn,
                        timestamp: frame.header.timestamp,
                        kind: frame.header.kind,
                        segment: self.end.id,
                        offset: frame.at,
                        payload: frame.payload,
                    })
                    .into());
                }
                State::Done => return Ok(self.read),
            };
        }
    }

    /// A segment whose end is known: reads it, or passes on to the one before if it lies behind what is wanted.
    fn entered(&mut self, header: SegmentHeader) -> Result<State, Fault> {
        self.segment = Some(header);
        if self.end.last < header.first || self.to < header.first {
            return self.before(&header);
        }
        let start = header.frames_at();
        self.walk = Some(Walk::new(self.view.update, &header, start, self.end.size, header.first, u32::MAX));
        Ok(State::Scan { level: Level { end: self.end.size, stride: 1, ..Level::default() }, seen: 0 })
    }

    /// Goes to the last place that is left: an entry, or a part to be looked at more closely.
    fn next_place(&mut self) -> State {
        let Some(header) = self.segment else { return State::Done };
        while let Some(level) = self.levels.last_mut() {
            let Some(place) = level.places.pop() else {
                self.levels.pop();
                continue;
            };
            let (end, stride) = (core::mem::replace(&mut level.end, place.at), level.stride);
            if let Some(walk) = &mut self.walk {
                walk.go(place.at, place.lsn);
            }
            return if stride == 1 {
                State::Entry
            } else {
                State::Scan { level: Level { end, stride: 1, ..Level::default() }, seen: 0 }
            };
        }
        self.before(&header).unwrap_or(State::Done)
    }

    /// On to the segment before.
    fn before(&mut self, header: &SegmentHeader) -> Result<State, Fault> {
        let before = header.predecessor;
        if header.first <= self.from {
            return Ok(State::Done);
        }
        let is_lowest = header.id == self.view.oldest;
        let gap = (if is_lowest { self.from } else { before.last.next_or_max() }, header.first.previous());
        if gap.0 <= gap.1 && gap.1 > self.view.accepted_loss {
            let at = if self.named == before.id && !is_lowest { before.size } else { 0 };
            let finding = match self.named {
                SegmentId::NONE => Finding::rot(Seen::Hole, Object::Segment(header.id), header.frames_at()),
                named => Finding::rot(Seen::MissingSegment, Object::Segment(named), at),
            };
            return Err(Fault::Damaged(Finding {
                lsns: Some(gap),
                witness: Some(Witness::Successor(header.id)),
                ..finding
            }));
        }
        if is_lowest {
            return Ok(State::Done);
        }
        self.successor = header.id;
        self.end = before;
        Ok(State::Header(HeaderReader::new(self.view.update, before.id)))
    }

    fn damage(&self, seen: Seen, at: u32) -> Fault {
        let object = Object::Segment(self.end.id);
        if seen == Seen::Unreadable {
            return Fault::Unreadable { object, offset: at.into() };
        }
        let witness = (self.successor != self.end.id).then_some(Witness::Successor(self.successor));
        Fault::Damaged(Finding { witness, ..Finding::rot(seen, object, at) })
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

    fn step(&mut self, buf: &mut [u8], mut answer: Answer) -> Result<Read, Stop> {
        self.advance(buf, &mut answer)
    }
}
