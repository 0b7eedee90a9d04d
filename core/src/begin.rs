//! Beginning a segment: at a rotation, at a take-over for writing, at a cut.
//!
//! The header is the commit point. What it vouches for (the predecessor up to its cut, and frames copied into the new
//! segment) is durable before it is written; before that the new segment means nothing, and afterwards the bytes
//! behind the predecessor's cut mean nothing.

use core::mem::discriminant;

use crate::{
    Lsn,
    chain::{Cut, Dead, HeaderReader},
    checksum::Update,
    cursor::{Cursor, Frame, Search},
    device::{Object, Room},
    drive::{Answer, Machine, Step, Stop, Stopped, Turn},
    fault::Fault,
    frame::{FrameHeader, Mark, Salts, Slot, frame_mark, frame_marks},
    report::{Finding, Seen},
    segment::{SEGMENT_HEADER_LEN, SegmentHeader, SegmentId, align_up},
    tail::Boundary,
};

/// What is to be begun, and what goes before it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) update: Update,
    /// The new segment's header; where frames are copied, what it says of the predecessor's end is found on the way.
    pub(crate) header: SegmentHeader,
    /// The header of the segment that was active before.
    pub(crate) old: SegmentHeader,
    /// Segments above this one were never finished: they are erased, and that synced, before anything else.
    pub(crate) erase_above: Option<SegmentId>,
    /// What is dead once the header stands, newest first: removed, but for the newest segment, which stays as evidence.
    pub(crate) dead: Dead,
    pub(crate) copy: Option<Copying>,
    /// The segment that was found is continued rather than another begun.
    pub(crate) continuing: Option<Continuing>,
    /// What to do where the medium has room for one more segment and no more.
    pub(crate) last_room: LastRoom,
    /// The application slot, which every segment repeats: durable before the header, as what is copied is.
    pub(crate) slot: Slot,
}

/// What is done where a medium with a fixed number of slots has one free.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LastRoom {
    /// It is left free: only a take-over and truncation may need it, and both have to succeed.
    Leave,
    /// It is taken: what is before is given up.
    Take,
    /// The newest segment is copied into it, whole, and gives its own room back.
    Replace(Copying),
}

/// Entries of the old segment that may exist only in a cache, and are copied into the new one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copying {
    /// Where reading begins.
    pub(crate) start: Boundary,
    /// Entries up to this LSN are durable where they are.
    pub(crate) durable: Lsn,
    /// Behind the last entry that counts.
    pub(crate) end: u32,
    /// Whether the new segment replaces the old one altogether, rather than following it.
    pub(crate) passes_over: bool,
}

/// The old segment is another writer's, on a medium where nothing of what that wrote can still be lost or come back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Continuing {
    /// Where the epoch mark goes.
    pub(crate) at: u32,
    /// How many bytes its write takes.
    pub(crate) len: u32,
    /// The last entry before it, which is durable.
    pub(crate) last: Lsn,
}

/// Where writing goes on.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// The new segment's header, as it stands there; where the old one is continued, it tells the epoch and the time of its
    /// mark.
    pub(crate) header: SegmentHeader,
    pub(crate) place: Place,
    /// Entries copied.
    copied: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// The new segment, durable with its header and its name.
    New {
        /// Where the first write goes.
        at: u32,
        /// Right behind the last entry copied, or where frames begin.
        behind: u32,
        /// Where the dead segment stands that was kept as evidence.
        evidence: Option<Cut>,
    },
    /// The old segment.
    Found {
        /// Where the first write goes; `None`: the mark did not come back as it was written.
        at: Option<u32>,
    },
}

impl Begun {
    /// How many entries were copied, because only a cache may have held them.
    #[must_use]
    pub fn copied(&self) -> u64 {
        self.copied
    }
}

/// The machine that removes what was never finished, all segments or checkpoints above one, and makes that durable.
///
/// It takes no room: it overwrites only what is there. Where the writer was refused room for a segment, it leaves nothing of
/// that which a crash could make the newest; before a cut, it leaves no checkpoint that may hold what is cut off.
#[derive(Debug)]
pub struct Erase {
    above: Object,
    /// Headers are looked for, and made invalid first: their room may be taken again under the same number, as it is.
    headers: Option<Update>,
    state: Erasing,
    removed: bool,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // One at a time, in place: there is no heap to box it in.
enum Erasing {
    Look,
    Looked,
    Header(HeaderReader),
    /// The copies of this header that are still to be overwritten, but for a bad one: that may take room.
    Blank {
        header: SegmentHeader,
        bad: Option<u32>,
        left: u8,
    },
    Remove(Object),
    Done,
}

impl Erase {
    /// Removes every object of this kind above this one.
    #[must_use]
    pub fn new(above: Object) -> Self {
        // A checkpoint that was refused is removed at once, and that may not be durable yet.
        Self { above, headers: None, state: Erasing::Look, removed: matches!(above, Object::Checkpoint(_)) }
    }

    /// Removes every segment above this one, of which the last may have been begun up to its header before it was refused.
    pub(crate) fn refused(update: Update, above: SegmentId) -> Self {
        Self { headers: Some(update), ..Self::new(Object::Segment(above)) }
    }

    fn advance(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        loop {
            match &mut self.state {
                Erasing::Look => {
                    self.state = Erasing::Looked;
                    return Err(turn.need(Step::Next { after: Some(self.above) }));
                }
                Erasing::Looked => match (turn.object(), self.headers) {
                    (Some(object), _) if discriminant(&object) != discriminant(&self.above) => self.ended(turn)?,
                    (Some(Object::Segment(id)), Some(update)) => {
                        self.state = Erasing::Header(HeaderReader::new(update, id));
                    }
                    (Some(object), _) => self.state = Erasing::Remove(object),
                    (None, _) => self.ended(turn)?,
                },
                Erasing::Header(reader) => {
                    reader.next(turn)?;
                    self.state = match reader.read.header {
                        Some(header) => Erasing::Blank { header, bad: reader.read.bad_copy, left: 2 },
                        None => Erasing::Remove(Object::Segment(reader.id())),
                    };
                }
                Erasing::Blank { header, left: 0, .. } => {
                    self.state = Erasing::Remove(Object::Segment(header.id));
                    return Err(turn.need(Step::Sync));
                }
                Erasing::Blank { header, bad, left } => {
                    *left -= 1;
                    let at = if *left == 0 { 0 } else { header.copy_offset };
                    if *bad == Some(at) {
                        continue;
                    }
                    let len = SEGMENT_HEADER_LEN.max(header.granule as usize);
                    let Some(blank) = turn.buf.get_mut(..len) else {
                        *left += 1;
                        return Err(turn.need(Step::Grow { needed: len }));
                    };
                    blank.fill(header.blank);
                    let object = Object::Segment(header.id);
                    return Err(turn.need(Step::Write { object, at: at.into(), from: 0..len }));
                }
                Erasing::Remove(object) => {
                    let object = *object;
                    self.state = Erasing::Look;
                    self.removed = true;
                    return Err(turn.need(Step::Remove { object }));
                }
                Erasing::Done => return Ok(()),
            }
        }
    }

    /// There is nothing more: what was removed is made durable.
    fn ended(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        self.state = Erasing::Done;
        if self.removed { Err(turn.need(Step::Sync)) } else { Ok(()) }
    }
}

impl Machine for Erase {
    type Output = ();

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<(), Stop> {
        Turn::run(buf, answer, |turn| self.advance(turn))
    }
}

/// The machine.
#[derive(Debug)]
pub struct Begin {
    plan: Plan,
    salts: Salts,
    state: State,
    /// Reads in the old segment: what is copied, or the epoch mark back.
    cursor: Cursor,
    copy: Copy,
    /// Where the next bytes go in the new segment.
    at: u32,
    behind: u32,
    copied: u64,
    /// Bytes written beyond the last sync.
    unsynced: u32,
    erase: Option<Erase>,
    /// The new segment is there.
    created: bool,
    /// What an earlier begin left dead was removed, to make room.
    purged: bool,
    /// The segment that is passed over is removed before there is another, for it holds nothing, and there is no room.
    purges_old: bool,
    /// Whether there is room to keep what is dead as evidence.
    keeps_evidence: bool,
    evidence: Option<Cut>,
    /// Where the first write goes in the segment that was found: read once its mark came back.
    found_at: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Erase,
    Mark,
    MarkSync,
    MarkRead,
    Room {
        asked: bool,
    },
    PurgeSync,
    Create,
    Created,
    /// Recycled room, where no nonce tells old bytes from new ones, is written blank from here on.
    Blank {
        at: u32,
    },
    BlankSync,
    Copy,
    Slot,
    Stop,
    CopySync,
    Header,
    Second,
    HeaderSync,
    Remove {
        cut: usize,
        before: SegmentId,
        asked: bool,
    },
}

/// How far the copying is: frames are read into the upper part of the buffer and framed anew in the lower.
#[derive(Debug, Default)]
struct Copy {
    /// Where the upper part begins.
    middle: usize,
    /// Bytes framed in the lower part.
    staged: usize,
    /// The last entry that stays where it is, and the offset behind it.
    last: Lsn,
    cut: u32,
    /// The last entry that was taken in.
    through: Lsn,
    grown: bool,
    /// The place that cannot be taken in, what is seen there, and the search behind it for where recovery went on.
    passing: Option<(u32, Seen, Search)>,
}

impl Copy {
    /// Whether no entry is missing before this frame.
    fn goes_on_at(&self, frame: &Frame) -> bool {
        let FrameHeader { lsn, kind, .. } = frame.header;
        let before = if kind.is_mark() { lsn } else { lsn.previous() };
        before == self.through
    }
}

impl Begin {
    /// The machine that does what `plan` says.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let at = plan.header.frames_at();
        let mut begin = Self {
            salts: Salts::of(plan.update, &plan.header),
            state: State::Erase,
            cursor: Cursor::new(plan.update, &plan.old, 0, 0),
            copy: Copy::default(),
            at,
            behind: at,
            copied: 0,
            unsynced: 0,
            erase: plan.erase_above.map(|above| Erase::new(Object::Segment(above))),
            created: false,
            purged: false,
            purges_old: false,
            keeps_evidence: true,
            evidence: None,
            found_at: None,
            plan,
        };
        begin.will_copy();
        begin
    }

    /// Sets out to copy what the plan says.
    fn will_copy(&mut self) {
        if let Some(Copying { start, end, .. }) = self.plan.copy {
            self.cursor = Cursor::new(self.plan.update, &self.plan.old, start.next, end);
            self.copy.last = start.last;
            self.copy.through = start.last;
            self.copy.cut = start.behind;
        }
    }

    /// Where writing goes on, once it is done.
    pub(crate) fn begun(&self) -> Begun {
        let Self { at, behind, copied, evidence, .. } = *self;
        let place = match self.plan.continuing {
            Some(_) => Place::Found { at: self.found_at },
            None => Place::New { at, behind, evidence },
        };
        Begun { header: self.plan.header, place, copied }
    }

    fn object(&self) -> Object {
        Object::Segment(self.plan.header.id)
    }

    fn advance(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        loop {
            match self.state {
                State::Erase => {
                    if let Some(erase) = &mut self.erase {
                        erase.advance(turn)?;
                    }
                    self.state =
                        if self.plan.continuing.is_some() { State::Mark } else { State::Room { asked: false } };
                }
                State::Mark => {
                    self.state = State::MarkSync;
                    return Err(self.write_epoch_mark(turn));
                }
                State::MarkSync => {
                    self.state = State::MarkRead;
                    return Err(turn.need(Step::Sync));
                }
                State::MarkRead => {
                    self.found_at = self.read_epoch_mark(turn)?;
                    return Ok(());
                }
                State::Room { asked: false } => {
                    self.state = State::Room { asked: true };
                    return Err(turn.need(Step::Free));
                }
                State::Room { .. } => {
                    self.state = match turn.answer() {
                        Answer::Free(Some(free)) => self.room(turn, free)?,
                        _ => State::Create,
                    };
                }
                State::PurgeSync => {
                    let cut = usize::from(!self.purges_old);
                    self.state = State::Remove { cut, before: SegmentId::NONE, asked: false };
                    return Err(turn.need(Step::Sync));
                }
                State::Create => {
                    self.state = State::Created;
                    let size = u64::from(self.plan.header.segment_size);
                    return Err(turn.need(Step::Create { object: self.object(), size }));
                }
                State::Created => {
                    self.created = true;
                    let recycled = matches!(turn.answer(), Answer::Created(Room::Recycled));
                    if recycled && self.plan.header.nonce == 0 {
                        self.state = State::Blank { at: 0 };
                    } else {
                        self.plan.header.recycled = recycled;
                        self.state = self.before_copies();
                    }
                }
                State::Blank { at } => match self.plan.header.segment_size - at {
                    0 => self.state = State::BlankSync,
                    left => {
                        let len = self.blank(turn, left)?;
                        self.state = State::Blank { at: at + len };
                        return Err(turn.need(Step::Write {
                            object: self.object(),
                            at: at.into(),
                            from: 0..len as usize,
                        }));
                    }
                },
                State::BlankSync => {
                    self.state = self.before_copies();
                    return Err(turn.need(Step::Sync));
                }
                State::Copy => self.copy(turn)?,
                State::Slot => {
                    self.state = State::CopySync;
                    return Err(self.write_slot(turn));
                }
                State::Stop => {
                    self.state = State::CopySync;
                    let len = self.blank(turn, self.plan.header.stop_at(self.at))?;
                    return Err(turn.need(Step::Write {
                        object: self.object(),
                        at: self.at.into(),
                        from: 0..len as usize,
                    }));
                }
                State::CopySync => {
                    self.state = State::Header;
                    return Err(turn.need(Step::Sync));
                }
                State::Header => {
                    self.state = State::Second;
                    return Err(self.write_header(turn, 0));
                }
                State::Second => {
                    self.state = State::HeaderSync;
                    return Err(self.write_header(turn, self.plan.header.copy_offset));
                }
                State::HeaderSync => {
                    self.state = State::Remove { cut: 0, before: SegmentId::NONE, asked: false };
                    return Err(turn.need(Step::Sync));
                }
                State::Remove { cut, before, asked: false } => match self.plan.dead.0.get(cut) {
                    Some(dead) => {
                        let before = if before == SegmentId::NONE { dead.below } else { before };
                        self.state = State::Remove { cut, before, asked: true };
                        return Err(turn.need(Step::Prev { before: Some(Object::Segment(before)) }));
                    }
                    // It was for want of room: whether there is some now decides.
                    None if self.purges() => {
                        self.plan.dead.0.truncate(1);
                        self.purged = true;
                        self.state = State::Room { asked: false };
                    }
                    None => return Ok(()),
                },
                State::Remove { cut, .. } => match (turn.object(), self.plan.dead.0.get(cut)) {
                    (Some(Object::Segment(id)), Some(dead)) if dead.contains(id) => {
                        self.state = State::Remove { cut, before: id, asked: false };
                        if self.evidence.is_some() || !self.keeps_evidence || self.purges() {
                            return Err(turn.need(Step::Remove { object: Object::Segment(id) }));
                        }
                        self.evidence = Some(*dead);
                    }
                    _ => self.state = State::Remove { cut: cut + 1, before: SegmentId::NONE, asked: false },
                },
            }
        }
    }

    /// Whether it is only making room yet.
    fn purges(&self) -> bool {
        !self.created
    }

    /// Whether there is room for the segment, where a medium has a fixed number of slots.
    fn room(&mut self, turn: &mut Turn<'_>, free: u32) -> Result<State, Stopped> {
        if free <= 1 && !self.purged && self.plan.dead.0.len() > 1 {
            return Ok(State::PurgeSync);
        }
        if free == 0 && !self.purges_old && self.passes_over_nothing() {
            // It replaced none, and took the last room, and a crash kept one copy alone of its header: what is before it stands.
            self.plan.copy = None;
            self.purges_old = true;
            return Ok(State::PurgeSync);
        }
        self.keeps_evidence = free > 2;
        match self.plan.last_room {
            // What would be replaced is gone.
            _ if self.purges_old => {}
            LastRoom::Leave if free == 1 => return Err(turn.fault(Fault::Full)),
            LastRoom::Replace(copying) if free == 1 => {
                let Plan { header, old, dead, copy, .. } = &mut self.plan;
                header.first = old.first;
                header.transaction_floor = old.transaction_floor;
                header.predecessor = old.predecessor;
                dead.0.clear();
                // One fits: there is none.
                let _ = dead.found(Cut { above: old.predecessor.id, below: header.id });
                *copy = Some(copying);
                self.will_copy();
            }
            _ => {}
        }
        Ok(State::Create)
    }

    /// Whether the segment that is passed over holds nothing that counts.
    fn passes_over_nothing(&self) -> bool {
        let Plan { copy, old, .. } = &self.plan;
        copy.is_some_and(|copying| copying.passes_over && copying.end <= old.frames_at())
    }

    /// The first `needed` bytes of the buffer, blank.
    fn blanked<'a>(&self, turn: &'a mut Turn<'_>, needed: usize) -> Result<&'a mut [u8], Stopped> {
        if turn.buf.len() < needed {
            return Err(turn.fault(Fault::BufferTooSmall { needed }));
        }
        let bytes = turn.buf.get_mut(..needed).unwrap_or_default();
        bytes.fill(self.plan.header.blank);
        Ok(bytes)
    }

    /// The mark of the new epoch, in the segment that was found.
    fn write_epoch_mark(&mut self, turn: &mut Turn<'_>) -> Stopped {
        let Plan { update, header, old, continuing: Some(Continuing { at, len, last }), .. } = &self.plan else {
            return turn.fault(Fault::NoLog);
        };
        self.cursor = Cursor::new(*update, old, *at, at + len);
        let mark = Mark::Epoch(header.epoch);
        let Ok(bytes) = self.blanked(turn, *len as usize) else { return Stopped };
        frame_mark(
            &Salts::of(*update, old),
            &mut bytes[..mark.frame_len() as usize],
            *at,
            *last,
            header.created,
            *last,
            mark,
        );
        turn.need(Step::Write { object: Object::Segment(old.id), at: u64::from(*at), from: 0..*len as usize })
    }

    /// Where writing goes on behind the epoch mark, if it is there as the next recovery will read it.
    fn read_epoch_mark(&mut self, turn: &mut Turn<'_>) -> Result<Option<u32>, Stopped> {
        let Some(Continuing { at, len, last }) = self.plan.continuing else { return Ok(None) };
        let mark = Mark::Epoch(self.plan.header.epoch);
        // Behind the mark, only the rest of its granule is left to be read.
        while self.cursor.at() < at + len {
            let seen = self.cursor.next(turn)?;
            let Frame { header, ref payload, .. } = *self.cursor.frame();
            let is_mark = || Mark::decode(header.kind.code(), turn.bytes(payload)) == Ok((last, mark));
            if !(seen == Seen::Good && header.lsn == last && is_mark()) && self.cursor.at() < at + len {
                return Ok(None);
            }
        }
        Ok(Some(at + len))
    }

    fn before_copies(&self) -> State {
        if self.plan.copy.is_some() { State::Copy } else { self.after_copies() }
    }

    fn after_copies(&self) -> State {
        match (self.plan.slot.bytes().is_empty(), self.copied) {
            (false, _) => State::Slot,
            // What ends a write has to stand there before the header makes it count.
            (true, 0) if self.plan.header.recycled => State::Stop,
            (true, 0) => State::Header,
            (true, _) => State::CopySync,
        }
    }

    /// Makes the buffer blank, for `len` bytes or what fits of them in whole granules, and returns how many.
    fn blank(&self, turn: &mut Turn<'_>, len: u32) -> Result<u32, Stopped> {
        let granule = self.plan.header.granule;
        let room = u32::try_from(turn.buf.len()).unwrap_or(u32::MAX) & !(granule - 1);
        let len = if room == 0 { granule } else { len.min(room) };
        self.blanked(turn, len as usize)?;
        Ok(len)
    }

    /// The slot's mark goes behind what was copied. It claims nothing: no mark proves the segment that it stands in.
    fn write_slot(&mut self, turn: &mut Turn<'_>) -> Stopped {
        let header = &self.plan.header;
        let mark = Mark::Slot(self.plan.slot.bytes());
        let granules = align_up(mark.frames_len(), header.granule);
        let len = granules + header.stop_at(self.at + granules);
        let last = Lsn::new(header.first.previous().value().saturating_add(self.copied));
        let Ok(bytes) = self.blanked(turn, len as usize) else { return Stopped };
        frame_marks(
            &self.salts,
            &mut bytes[..mark.frames_len() as usize],
            self.at,
            last,
            header.created,
            Lsn::ZERO,
            mark,
        );
        let write = Step::Write { object: self.object(), at: self.at.into(), from: 0..len as usize };
        self.at += granules;
        turn.need(write)
    }

    fn write_header(&self, turn: &mut Turn<'_>, offset: u32) -> Stopped {
        let header = &self.plan.header;
        let len = SEGMENT_HEADER_LEN.max(header.granule as usize);
        let Ok(copy) = self.blanked(turn, len) else { return Stopped };
        let bytes = header.encode(self.plan.update);
        copy.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
        turn.need(Step::Write { object: self.object(), at: offset.into(), from: 0..len })
    }

    /// Copies entries until all are copied: then the state has moved on.
    fn copy(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        let Some(Copying { durable, end, .. }) = self.plan.copy else { return Ok(()) };
        let granule = self.plan.header.granule;
        // What ends a write is put behind it, in the lower part too.
        let stop = self.plan.header.stop_at(0) as usize;
        loop {
            if self.copy.middle == 0 {
                self.copy.middle = (turn.buf.len() / 2) & !(granule as usize - 1);
            }
            let middle = self.copy.middle;
            if let Some((at, seen, search)) = &mut self.copy.passing {
                let found = turn.behind(middle, |turn| search.next(&mut self.cursor, turn))?;
                let (at, seen) = (*at, *seen);
                if !found || !self.copy.goes_on_at(self.cursor.frame()) {
                    return Err(self.changed(turn, at, seen));
                }
                self.cursor.go(self.cursor.frame().at);
                self.copy.passing = None;
            }
            let seen = turn.behind(middle, |turn| self.cursor.next(turn))?;
            if seen != Seen::Good {
                // Behind it is the end of what counts. Before, it is a mark that is lost, or damage since recovery looked.
                let at = self.cursor.at();
                if at < end {
                    self.copy.passing = Some((at, seen, self.cursor.search(u32::MAX)));
                    continue;
                }
                if self.copy.staged > 0 {
                    return Err(self.flush(turn));
                }
                self.cut();
                return Ok(());
            }
            let frame = self.cursor.frame();
            let FrameHeader { size, lsn, timestamp, kind } = frame.header;
            // What does not go on is passed over here as by recovery: the first of two wins.
            if kind.is_mark() || lsn <= self.copy.through {
                continue;
            }
            self.copy.through = lsn;
            if lsn <= durable {
                self.copy.last = lsn;
                self.copy.cut = frame.end;
                continue;
            }
            let new = self.copy.staged..self.copy.staged + size as usize;
            if new.end + stop > middle {
                let at = frame.at;
                self.cursor.go(at);
                self.copy.through = lsn.previous();
                if self.copy.staged > 0 {
                    return Err(self.flush(turn));
                }
                self.make_room(turn, size)?;
                continue;
            }
            let (lower, upper) = turn.buf.split_at_mut(middle);
            let offset = self.at + staged(self.copy.staged);
            let copied = &mut lower[new.clone()];
            copied.copy_from_slice(&upper[frame.bytes()]);
            self.salts.complete(copied, offset, lsn, timestamp, kind);
            self.copy.staged = new.end;
            self.behind = offset + size;
            self.copied += 1;
        }
    }

    /// Makes the lower part large enough for a frame of `size` bytes, and the upper part for reading it.
    fn make_room(&mut self, turn: &mut Turn<'_>, size: u32) -> Result<(), Stopped> {
        let header = &self.plan.header;
        let middle = (align_up(size, header.granule) + header.stop_at(0)) as usize;
        let needed = middle + size as usize;
        if turn.buf.len() < needed {
            if self.copy.grown {
                return Err(turn.fault(Fault::BufferTooSmall { needed }));
            }
            self.copy.grown = true;
            return Err(turn.need(Step::Grow { needed }));
        }
        self.copy.grown = false;
        self.copy.middle = middle;
        self.cursor.forget();
        Ok(())
    }

    /// Writes what was framed; a sync goes before it where the write limit asks for one.
    fn flush(&mut self, turn: &mut Turn<'_>) -> Stopped {
        let header = &self.plan.header;
        let frames = align_up(staged(self.copy.staged), header.granule);
        let len = frames + header.stop_at(self.at + frames);
        if self.unsynced > 0 && self.unsynced + len > header.write_limit {
            self.unsynced = 0;
            return turn.need(Step::Sync);
        }
        turn.buf[self.copy.staged..len as usize].fill(header.blank);
        let write = Step::Write { object: self.object(), at: self.at.into(), from: 0..len as usize };
        self.copy.staged = 0;
        self.at += frames;
        self.unsynced += len;
        turn.need(write)
    }

    /// All is copied: the header can say where the predecessor ends.
    fn cut(&mut self) {
        let copied = self.plan.copy.take();
        if copied.is_some_and(|copying| !copying.passes_over) {
            let header = &mut self.plan.header;
            header.predecessor = self.plan.old.cut(self.copy.last, self.copy.cut);
            if self.copied > 0 {
                header.first = self.copy.last.next_or_max();
                header.transaction_floor = header.transaction_floor.min(header.first);
            }
        }
        self.state = self.after_copies();
    }

    /// What recovery read does not read the same a second time.
    fn changed(&self, turn: &mut Turn<'_>, at: u32, seen: Seen) -> Stopped {
        let object = Object::Segment(self.plan.old.id);
        turn.fault(match seen {
            Seen::Unreadable => Fault::Unreadable { object, offset: at.into() },
            _ => Fault::Damaged(Finding::rot(seen, object, at)),
        })
    }
}

impl Machine for Begin {
    type Output = Begun;

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<Begun, Stop> {
        Turn::run(buf, answer, |turn| self.advance(turn))?;
        Ok(self.begun())
    }
}

// The same where the result stays in its place: `begun` has it.
impl Machine for &mut Begin {
    type Output = ();

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<(), Stop> {
        Turn::run(buf, answer, |turn| self.advance(turn))
    }
}

/// Bytes framed in the lower part, which is smaller than a segment.
fn staged(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
