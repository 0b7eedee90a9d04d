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
        let (cursor, copy) = Self::copying(&plan);
        Self {
            salts: Salts::of(plan.update, &plan.header),
            state: State::Erase,
            cursor,
            copy,
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
        }
    }

    /// Sets out to copy what the plan says.
    #[inline(never)] // What it takes of the stack is not there while anything is read or written.
    fn will_copy(&mut self) {
        (self.cursor, self.copy) = Self::copying(&self.plan);
    }

    /// Where copying begins, if the plan says so.
    fn copying(plan: &Plan) -> (Cursor, Copy) {
        let Plan { update, old, copy: Some(Copying { start, end, .. }), .. } = plan else {
            return (Cursor::new(plan.update, &plan.old, 0, 0), Copy::default());
        };
        let copy = Copy { last: start.last, through: start.last, cut: start.behind, ..Copy::default() };
        (Cursor::new(*update, old, start.next, *end), copy)
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
            LastRoom::Leave if free <= 1 => return Err(turn.fault(Fault::Full)),
            // With none free it is tried too: a device may know of one on which it does not count.
            LastRoom::Replace(copying) if free <= 1 => {
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
            let is_sound =
                if seen == Seen::Good { header.lsn == last && is_mark() } else { self.cursor.at() >= at + len };
            if !is_sound {
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

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;
    use core::ops::Range;
    use std::{collections::BTreeMap, vec, vec::Vec};

    use Did::{Create, Remove, Sync, Write};

    use super::*;
    use crate::{
        CheckpointId,
        checksum::portable,
        frame::{FRAME_HEADER_LEN, FRAME_OVERHEAD, FrameType},
        segment::Predecessor,
    };

    const PLAIN: FrameType = FrameType::new(10);
    /// Bytes of each payload here, where it is not said how many.
    const PAYLOAD: u32 = 20;
    /// The segment that is active before, and its first entry.
    const OLD: u64 = 5;
    const FIRST: u64 = 10;
    /// The segment that is begun.
    const NEW: u64 = OLD + 1;

    /// What was done to the medium.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Did {
        Create(u64),
        /// To this object at this place, so many bytes.
        Write(u64, u64, usize),
        Sync,
        Remove(u64),
    }

    /// Objects on a medium, by number; the buffer that a machine has; and what was done.
    pub(crate) struct Medium {
        pub(crate) objects: BTreeMap<Object, Vec<u8>>,
        geometry: SegmentHeader,
        pub(crate) buf: Vec<u8>,
        /// How long the buffer can be made.
        most: usize,
        free: Option<u32>,
        /// Segments more for which there is room, and on which it does not count.
        uncounted: u32,
        pub(crate) room: Room,
        unreadable: Range<u64>,
        /// What is written is not there.
        loses: bool,
        /// Up to where each object was read.
        read_to: BTreeMap<Object, u64>,
        unsynced: usize,
        pub(crate) did: Vec<Did>,
    }

    /// Why a machine did not come to its end.
    #[derive(Debug, PartialEq, Eq)]
    pub(crate) enum Failed {
        Fault(Fault),
        /// The device has no room for the object.
        NoRoom,
    }

    fn segment(id: u64) -> Object {
        Object::Segment(SegmentId::new(id))
    }

    fn number(object: Object) -> u64 {
        match object {
            Object::Segment(id) => id.value(),
            Object::Checkpoint(id) => id.value(),
            Object::Meta => 0,
        }
    }

    impl Medium {
        pub(crate) fn new(geometry: SegmentHeader, buf: usize) -> Self {
            Self {
                objects: BTreeMap::new(),
                geometry,
                buf: vec![0xA5; buf],
                most: 1 << 16,
                free: None,
                uncounted: 0,
                room: Room::Blank,
                unreadable: 0..0,
                loses: false,
                read_to: BTreeMap::new(),
                unsynced: 0,
                did: Vec::new(),
            }
        }

        /// With a segment of this header, and nothing in it.
        fn with(mut self, header: &SegmentHeader) -> Self {
            let mut bytes = vec![header.blank; header.segment_size as usize];
            for at in [0, header.copy_offset as usize] {
                bytes[at..][..SEGMENT_HEADER_LEN].copy_from_slice(&header.encode(portable));
            }
            self.objects.insert(Object::Segment(header.id), bytes);
            self
        }

        pub(crate) fn bytes(&mut self, id: u64) -> &mut Vec<u8> {
            self.objects.get_mut(&segment(id)).unwrap()
        }

        /// Goes on to the end of the machine.
        pub(crate) fn run<M: Machine>(&mut self, machine: &mut M) -> Result<M::Output, Failed> {
            let mut answer = Answer::Nothing;
            loop {
                answer = match machine.step(&mut self.buf, answer) {
                    Ok(output) => return Ok(output),
                    Err(Stop::Fault(fault)) => return Err(Failed::Fault(fault)),
                    Err(Stop::Need(step)) => self.does(step)?,
                }
            }
        }

        fn does(&mut self, step: Step) -> Result<Answer, Failed> {
            match step {
                Step::Next { after } => {
                    return Ok(Answer::Object(self.objects.keys().find(|object| Some(**object) > after).copied()));
                }
                Step::Prev { before: Some(before) } => {
                    return Ok(Answer::Object(self.objects.keys().rev().find(|object| **object < before).copied()));
                }
                Step::Free => return Ok(Answer::Free(self.free)),
                Step::Create { object, size } => {
                    match &mut self.free {
                        Some(0) if self.uncounted == 0 => return Err(Failed::NoRoom),
                        Some(0) => self.uncounted -= 1,
                        Some(free) => *free -= 1,
                        None => {}
                    }
                    let byte = if self.room == Room::Recycled { 0xEE } else { self.geometry.blank };
                    self.objects.insert(object, vec![byte; usize::try_from(size).unwrap()]);
                    self.did.push(Create(number(object)));
                    return Ok(Answer::Created(self.room));
                }
                Step::Read { object, at, into } => return Ok(self.read(object, at, into)),
                Step::Write { object, at, from } => self.write(object, at, from),
                Step::Remove { object } => {
                    self.objects.remove(&object).unwrap();
                    self.free = self.free.map(|free| free + 1);
                    self.did.push(Remove(number(object)));
                }
                Step::Sync => {
                    self.unsynced = 0;
                    self.did.push(Sync);
                }
                Step::Grow { needed } => {
                    let len = needed.min(self.most).max(self.buf.len());
                    self.buf.resize(len, 0xA5);
                }
                step => panic!("{step:?}"),
            }
            Ok(Answer::Nothing)
        }

        fn read(&mut self, object: Object, at: u64, into: Range<usize>) -> Answer {
            let to = at + into.len() as u64;
            if at < self.unreadable.end && to > self.unreadable.start {
                return Answer::Unreadable;
            }
            let rest = &self.objects[&object][usize::try_from(at).unwrap()..];
            let moved = rest.len().min(into.len());
            self.buf[into][..moved].copy_from_slice(&rest[..moved]);
            let read_to = self.read_to.entry(object).or_default();
            *read_to = to.max(*read_to);
            Answer::Moved(moved)
        }

        /// Writes whole granules, never more of them beyond the last sync than the log says.
        fn write(&mut self, object: Object, at: u64, from: Range<usize>) {
            let (len, granule) = (from.len(), self.geometry.granule as usize);
            self.did.push(Write(number(object), at, len));
            assert!(len > 0 && len.is_multiple_of(granule) && at.is_multiple_of(granule as u64), "{len} bytes at {at}");
            let at = usize::try_from(at).unwrap();
            if at >= self.geometry.frames_at() as usize {
                self.unsynced += len;
                assert!(self.unsynced <= self.geometry.write_limit as usize, "{} bytes are not synced", self.unsynced);
            }
            if !self.loses {
                self.objects.get_mut(&object).unwrap()[at..at + len].copy_from_slice(&self.buf[from]);
            }
        }

        /// The header of a segment, which both copies give.
        fn header(&self, id: u64) -> SegmentHeader {
            let bytes = &self.objects[&segment(id)];
            let [first, second] = [0, self.geometry.copy_offset]
                .map(|at| SegmentHeader::decode(portable, &bytes[at as usize..], at).unwrap());
            assert_eq!(first, second);
            first
        }

        /// The sound frames of a segment from where they begin up to the first place where none stands.
        fn frames(&mut self, id: u64) -> Vec<Frame> {
            let header = self.header(id);
            self.buf.resize(1 << 16, 0);
            let mut cursor = Cursor::new(portable, &header, header.frames_at(), header.segment_size);
            let mut frames = Vec::new();
            let mut answer = Answer::Nothing;
            loop {
                let seen = Turn::run(&mut self.buf, answer, |turn| cursor.next(turn));
                answer = match seen {
                    Ok(Seen::Good) => {
                        frames.push(cursor.frame().clone());
                        Answer::Nothing
                    }
                    Ok(_) => return frames,
                    Err(Stop::Need(Step::Read { object, at, into })) => self.read(object, at, into),
                    Err(stop) => panic!("{stop:?}"),
                }
            }
        }
    }

    /// The segment that was active before, on a medium with this granule.
    fn old(granule: u32) -> SegmentHeader {
        SegmentHeader {
            id: SegmentId::new(OLD),
            epoch: 3,
            nonce: 7,
            first: Lsn::new(FIRST),
            created: 1000,
            granule,
            copy_offset: granule.max(128),
            segment_size: 8192,
            write_limit: 1024,
            transaction_floor: Lsn::new(8),
            predecessor: Predecessor {
                id: SegmentId::new(4),
                nonce: 6,
                last: Lsn::new(FIRST - 1),
                size: 700,
                span: 4,
                between: 0,
            },
            ..SegmentHeader::NONE
        }
    }

    /// The plan of the segment behind that one, which ends with the entry at `last` at `end`.
    fn plan(old: &SegmentHeader, last: u64, end: u32) -> Plan {
        let first = Lsn::new(last + 1);
        let predecessor = old.cut(Lsn::new(last), end);
        let id = SegmentId::new(NEW);
        Plan {
            update: portable,
            header: SegmentHeader { id, epoch: 4, nonce: 8, first, transaction_floor: first, predecessor, ..*old },
            old: *old,
            erase_above: None,
            dead: Dead::default(),
            copy: None,
            continuing: None,
            last_room: LastRoom::Leave,
            slot: Slot::EMPTY,
        }
    }

    /// What is done for the headers of a segment: both copies, and the sync.
    fn headers(id: u64, header: &SegmentHeader) -> [Did; 3] {
        let len = SEGMENT_HEADER_LEN.max(header.granule as usize);
        [Write(id, 0, len), Write(id, header.copy_offset.into(), len), Sync]
    }

    #[test]
    fn a_segment_is_made_and_nothing_but_its_header_written_and_synced() {
        for granule in [1, 16, 512, 4096] {
            let old = SegmentHeader { segment_size: 16_384, ..old(granule) };
            let plan = plan(&old, 20, 900);
            let mut medium = Medium::new(old, 4096).with(&old);
            let begun = medium.run(&mut Begin::new(plan.clone())).unwrap();
            let done: Vec<_> = [Create(NEW)].into_iter().chain(headers(NEW, &old)).collect();
            assert_eq!(medium.did, done, "granules of {granule}");
            assert_eq!((medium.header(NEW), begun.header, begun.copied()), (plan.header, plan.header, 0));
            let (begins, place) = (old.frames_at(), begun.place);
            assert!(
                matches!(place, Place::New { at, behind, evidence: None } if at == begins && behind == begins),
                "{place:?}"
            );
        }
    }

    #[test]
    fn recycled_room_gets_what_ends_a_write_before_its_header_makes_it_count() {
        for granule in [1, 16, 128] {
            let old = old(granule);
            let mut medium = Medium::new(old, 512).with(&old);
            medium.room = Room::Recycled;
            let begun = medium.run(&mut Begin::new(plan(&old, 20, 900))).unwrap();
            let stop = align_up(29, granule);
            let begins = old.frames_at();
            let first = [Create(NEW), Write(NEW, begins.into(), stop as usize), Sync];
            assert_eq!(medium.did, first.into_iter().chain(headers(NEW, &old)).collect::<Vec<_>>());
            assert!(medium.header(NEW).recycled && begun.header.recycled);
            assert!(matches!(begun.place, Place::New { at, behind, .. } if at == begins && behind == begins));
            let room = &medium.bytes(NEW)[begins as usize..];
            assert!(room[..stop as usize].iter().all(|byte| *byte == 0));
            assert!(room[stop as usize..].iter().all(|byte| *byte == 0xEE));
        }
    }

    #[test]
    fn recycled_room_without_a_nonce_is_made_blank_throughout_in_whole_granules() {
        let old = SegmentHeader { nonce: 0, blank: 0xFF, write_limit: 8192 - 256, ..old(128) };
        for (buf, at_once) in [(128, 128), (300, 256), (1000, 896), (8192, 8192), (9000, 8192)] {
            let mut medium = Medium::new(SegmentHeader { write_limit: 8192, ..old }, buf).with(&old);
            medium.room = Room::Recycled;
            let mut plan = plan(&old, 20, 900);
            plan.header.nonce = 0;
            medium.run(&mut Begin::new(plan)).unwrap();
            let writes = (0..8192usize).step_by(at_once);
            let writes = writes.map(|at| Write(NEW, at as u64, at_once.min(8192 - at)));
            let done = [Create(NEW)].into_iter().chain(writes).chain([Sync]).chain(headers(NEW, &old));
            assert_eq!(medium.did, done.collect::<Vec<_>>(), "{buf} bytes");
            assert!(!medium.header(NEW).recycled);
            assert!(medium.bytes(NEW)[256..].iter().all(|byte| *byte == 0xFF));
        }
        let mut medium = Medium::new(old, 127).with(&old);
        medium.room = Room::Recycled;
        let mut plan = plan(&old, 20, 900);
        plan.header.nonce = 0;
        let failed = medium.run(&mut Begin::new(plan)).unwrap_err();
        assert_eq!(failed, Failed::Fault(Fault::BufferTooSmall { needed: 128 }));
    }

    /// The old segment with entries from its first on, each with a payload of this length, and marks behind some of them; and
    /// where each entry ends.
    struct Filled {
        medium: Medium,
        header: SegmentHeader,
        ends: Vec<u32>,
    }

    impl Filled {
        fn new(header: SegmentHeader, buf: usize) -> Self {
            Self { medium: Medium::new(header, buf).with(&header), header, ends: Vec::new() }
        }

        fn at(&self) -> u32 {
            self.ends.last().copied().unwrap_or(self.header.frames_at())
        }

        /// With one frame at `at`; where it ends.
        fn put(&mut self, at: u32, lsn: u64, kind: FrameType, payload: &[u8]) -> u32 {
            let mut frame = vec![0; FRAME_OVERHEAD as usize + payload.len()];
            frame[FRAME_HEADER_LEN..][..payload.len()].copy_from_slice(payload);
            Salts::of(portable, &self.header).complete(&mut frame, at, Lsn::new(lsn), 50 + lsn, kind);
            self.medium.bytes(OLD)[at as usize..][..frame.len()].copy_from_slice(&frame);
            at + u32::try_from(frame.len()).unwrap()
        }

        /// With entries of these lengths one behind the other.
        fn with(mut self, payloads: &[u32]) -> Self {
            for len in payloads {
                let lsn = FIRST + self.ends.len() as u64;
                let payload = vec![u8::try_from(lsn).unwrap(); *len as usize];
                let end = self.put(self.at(), lsn, PLAIN, &payload);
                self.ends.push(end);
            }
            self
        }

        /// With a mark behind what is there, which moves what comes next.
        fn with_mark(mut self) -> Self {
            let (mark, durable) = (Mark::Durable, Lsn::new(FIRST + self.ends.len() as u64 - 1));
            let mut payload = vec![0; mark.payload_len()];
            mark.encode(durable, &mut payload);
            let end = self.put(self.at(), durable.value(), FrameType::new(mark.code()), &payload);
            *self.ends.last_mut().unwrap() = end;
            self
        }

        /// The plan of a segment that takes what is not known to be durable with it.
        fn plan(&self, durable: u64, passes_over: bool) -> Plan {
            let (last, begins) = (FIRST + self.ends.len() as u64 - 1, self.header.frames_at());
            let mut plan = plan(&self.header, last, self.at());
            let start = Boundary {
                last: Lsn::new(FIRST - 1),
                behind: begins,
                next: begins,
                floor: self.header.transaction_floor,
            };
            plan.copy = Some(Copying { start, durable: Lsn::new(durable), end: self.at(), passes_over });
            if passes_over {
                plan.header.first = self.header.first;
                plan.header.transaction_floor = self.header.transaction_floor;
                plan.header.predecessor = self.header.predecessor;
            }
            plan
        }

        /// Where the entry of this LSN ends.
        fn end_of(&self, lsn: u64) -> u32 {
            self.ends[usize::try_from(lsn - FIRST).unwrap()]
        }
    }

    /// The LSN, the time and the length of each of these frames.
    fn entries(frames: &[Frame]) -> Vec<(u64, u64, u32)> {
        let told =
            |frame: &Frame| (frame.header.lsn.value(), frame.header.timestamp, frame.header.size - FRAME_OVERHEAD);
        frames.iter().map(told).collect()
    }

    #[test]
    fn what_may_be_in_a_cache_alone_is_copied_and_durable_before_the_header_that_cuts_what_was_before_it() {
        let payloads = [20, 120, 7, 400, 20, 0, 90, 411, 64, 20, 20, 300, 20];
        for (granule, room) in [(1, Room::Blank), (1, Room::Recycled), (64, Room::Blank), (64, Room::Recycled)] {
            for buf in (128..2000).step_by(40) {
                for durable in [FIRST - 1, FIRST + 1, FIRST + 7, FIRST + 11] {
                    let mut filled = Filled::new(old(granule), buf).with(&payloads);
                    filled.medium.room = room;
                    let begun = filled.medium.run(&mut Begin::new(filled.plan(durable, false))).unwrap();
                    let last = FIRST + 12;
                    let frames = filled.medium.frames(NEW);
                    let copied = payloads.iter().zip(FIRST..).filter(|(_, lsn)| *lsn > durable);
                    let copied: Vec<_> = copied.map(|(len, lsn)| (lsn, 50 + lsn, *len)).collect();
                    let what = std::format!("granules of {granule}, {room:?}, {buf} bytes, durable {durable}");
                    assert_eq!(entries(&frames), copied, "{what}");
                    for frame in &frames {
                        let payload = (frame.at as usize + FRAME_HEADER_LEN)..(frame.end as usize - 4);
                        let byte = u8::try_from(frame.header.lsn.value()).unwrap();
                        assert!(filled.medium.bytes(NEW)[payload].iter().all(|found| *found == byte), "{what}");
                    }
                    let header = filled.medium.header(NEW);
                    assert_eq!((header.first.value(), begun.copied()), (durable + 1, last - durable), "{what}");
                    let cut = if durable < FIRST { filled.header.frames_at() } else { filled.end_of(durable) };
                    assert_eq!(header.predecessor, filled.header.cut(Lsn::new(durable), cut), "{what}");
                    assert_eq!(header.transaction_floor, header.first, "{what}");
                    let end = frames.last().unwrap().end;
                    let Place::New { at, behind, evidence: None } = begun.place else { panic!("{begun:?}") };
                    assert_eq!((at, behind), (align_up(end, granule), end), "{what}");
                    // What ends a write stands behind it.
                    let stop = header.stop_at(at);
                    let behind = &filled.medium.bytes(NEW)[end as usize..(at + stop) as usize];
                    assert!(behind.iter().all(|byte| *byte == 0), "{what}");
                    let [.., before, first, second, synced] = filled.medium.did[..] else { panic!("{what}") };
                    assert_eq!((before, [first, second, synced]), (Sync, headers(NEW, &header)), "{what}");
                }
            }
        }
    }

    #[test]
    fn where_all_is_durable_nothing_is_copied_and_the_new_segment_begins_where_it_was_to() {
        let mut filled = Filled::new(old(16), 512).with(&[20, 20, 20]).with_mark();
        let mut plan = filled.plan(FIRST + 2, false);
        // The LSNs between were lost, and that was accepted.
        plan.header.first = Lsn::new(FIRST + 9);
        let mut begin = Begin::new(plan.clone());
        filled.medium.run(&mut &mut begin).unwrap();
        let done: Vec<_> = [Create(NEW)].into_iter().chain(headers(NEW, &filled.header)).collect();
        assert_eq!((begin.begun().copied(), &filled.medium.did), (0, &done));
        let header = filled.medium.header(NEW);
        let end = filled.header.frames_at() + 3 * (FRAME_OVERHEAD + PAYLOAD);
        assert_eq!(header, SegmentHeader { predecessor: filled.header.cut(Lsn::new(FIRST + 2), end), ..plan.header });
    }

    #[test]
    fn copies_are_synced_where_the_write_limit_asks_for_it_and_before_the_header() {
        // Two frames fit into half the buffer, and four such writes are as much as the limit allows.
        let mut filled = Filled::new(old(64), 512).with(&[128 - FRAME_OVERHEAD; 18]);
        filled.medium.run(&mut Begin::new(filled.plan(FIRST - 1, true))).unwrap();
        let write = |number: u64| Write(NEW, 256 + 256 * number, 256);
        let first = [0, 1, 2, 3].map(write).into_iter().chain([Sync]);
        let second = [4, 5, 6, 7].map(write).into_iter().chain([Sync]);
        let done = [Create(NEW)].into_iter().chain(first).chain(second).chain([write(8), Sync]);
        assert_eq!(filled.medium.did, done.chain(headers(NEW, &filled.header)).collect::<Vec<_>>());
    }

    #[test]
    fn one_write_may_be_longer_than_the_limit_with_what_ends_it() {
        let header = SegmentHeader { write_limit: 512, ..old(64) };
        let mut filled = Filled::new(header, 2048).with(&[20, 512 - FRAME_OVERHEAD, 20]);
        // Nothing of it counts before the header, and all of it is durable then.
        (filled.medium.room, filled.medium.geometry.write_limit) = (Room::Recycled, 1024);
        let begun = filled.medium.run(&mut Begin::new(filled.plan(FIRST - 1, true))).unwrap();
        assert_eq!((begun.copied(), filled.medium.frames(NEW).len()), (3, 3));
    }

    #[test]
    fn what_ends_a_write_reaches_no_further_than_the_segment() {
        let old = SegmentHeader { segment_size: 1536, write_limit: 512, ..old(512) };
        let mut medium = Medium::new(old, 2048).with(&old);
        medium.room = Room::Recycled;
        let plan = Plan { slot: Slot::of(b"a slot").unwrap(), ..plan(&old, 20, 1100) };
        let begun = medium.run(&mut Begin::new(plan)).unwrap();
        let done = [Create(NEW), Write(NEW, 1024, 512), Sync].into_iter().chain(headers(NEW, &old));
        assert_eq!(medium.did, done.collect::<Vec<_>>());
        assert!(matches!(begun.place, Place::New { at: 1536, behind: 1024, evidence: None }), "{begun:?}");
    }

    #[test]
    fn a_segment_that_replaces_another_holds_all_of_it_and_names_what_that_named() {
        let mut filled = Filled::new(old(16), 512).with(&[20, 33, 7]).with_mark().with(&[20]);
        let plan = filled.plan(FIRST - 1, true);
        let begun = filled.medium.run(&mut Begin::new(plan.clone())).unwrap();
        assert_eq!((filled.medium.header(NEW), begun.copied()), (plan.header, 4));
        let lsns: Vec<_> = filled.medium.frames(NEW).iter().map(|frame| frame.header.lsn.value()).collect();
        assert_eq!(lsns, [10, 11, 12, 13]);
    }

    #[test]
    fn an_entry_that_does_not_fit_into_the_buffer_twice_asks_for_a_longer_one() {
        // It fits into the upper part of the buffer, and with what ends its write not into the lower.
        for (granule, room, buf, needed) in [
            (1, Room::Blank, 1065, 533 + 533),
            (1, Room::Recycled, 1090, 533 + 29 + 533),
            (64, Room::Blank, 1100, 576 + 533),
            (64, Room::Recycled, 1150, 576 + 64 + 533),
        ] {
            for most in [0, needed - 1, needed] {
                let mut filled = Filled::new(old(granule), buf).with(&[20, 500, 20]);
                (filled.medium.room, filled.medium.most) = (room, most);
                let begun = filled.medium.run(&mut Begin::new(filled.plan(FIRST - 1, true)));
                let too_small = Failed::Fault(Fault::BufferTooSmall { needed });
                match begun {
                    Ok(begun) => assert_eq!((begun.copied(), most), (3, needed)),
                    Err(failed) => assert_eq!((failed, most < needed), (too_small, true)),
                }
            }
        }
    }

    #[test]
    fn what_recovery_passed_over_is_passed_over_and_what_no_longer_reads_the_same_is_told() {
        for (what, is_mark) in [("a mark", true), ("an entry", false)] {
            for is_unreadable in [false, true] {
                let mut filled = Filled::new(old(16), 512).with(&[20, 20]);
                let place = filled.at();
                filled = filled.with_mark().with(&[20, 20]);
                let place = if is_mark { place } else { filled.end_of(FIRST + 1) };
                if is_unreadable {
                    filled.medium.unreadable = u64::from(place)..u64::from(place) + 8;
                } else {
                    filled.medium.bytes(OLD)[place as usize + 2] ^= 0xFF;
                }
                let ended = filled.medium.run(&mut Begin::new(filled.plan(FIRST - 1, false)));
                let object = segment(OLD);
                let fault = match is_unreadable {
                    true => Fault::Unreadable { object, offset: place.into() },
                    false => Fault::Damaged(Finding::rot(Seen::BadHeader, object, place)),
                };
                // Behind what cannot be read, the search goes on further on.
                let is_passed_over = is_mark && !is_unreadable;
                match ended {
                    Ok(begun) => assert!(is_passed_over && begun.copied() == 4, "{what}: {begun:?}"),
                    Err(failed) => assert_eq!((failed, is_passed_over), (Failed::Fault(fault), false), "{what}"),
                }
                assert_eq!(filled.medium.did.contains(&Write(NEW, 0, 128)), is_passed_over, "{what}");
            }
        }
    }

    #[test]
    fn a_mark_that_is_lost_right_before_what_is_copied_is_passed_over() {
        let mut filled = Filled::new(old(16), 2048).with(&[20]);
        let mark = filled.at();
        filled = filled.with_mark().with(&[20, 20]);
        let behind = filled.end_of(FIRST);
        filled.medium.bytes(OLD)[mark as usize..behind as usize].fill(0xEE);
        let mut plan = filled.plan(FIRST, false);
        let copying = plan.copy.as_mut().unwrap();
        copying.start = Boundary { last: Lsn::new(FIRST), behind: mark, next: mark, ..copying.start };
        let begun = filled.medium.run(&mut Begin::new(plan)).unwrap();
        assert_eq!((begun.copied(), filled.medium.frames(NEW).len()), (2, 2));
    }

    #[test]
    fn of_two_entries_with_the_same_number_the_first_is_copied() {
        let mut filled = Filled::new(old(16), 512).with(&[20, 20]);
        let end = filled.put(filled.at(), FIRST + 1, PLAIN, &[0xDD; 20]);
        filled.ends[1] = end;
        filled = filled.with(&[20]);
        let begun = filled.medium.run(&mut Begin::new(filled.plan(FIRST - 1, true))).unwrap();
        assert_eq!(begun.copied(), 3);
        let [_, second, _] = &filled.medium.frames(NEW)[..] else { panic!() };
        assert_eq!(filled.medium.bytes(NEW)[second.at as usize + FRAME_HEADER_LEN], 11);
    }

    #[test]
    fn the_slot_stands_twice_behind_what_was_copied_and_is_durable_before_the_header() {
        for (granule, room, copies) in
            [(1, Room::Blank, false), (1, Room::Recycled, true), (64, Room::Recycled, false), (64, Room::Blank, true)]
        {
            let mut filled = Filled::new(old(granule), 1024).with(&[20, 20, 20]);
            filled.medium.room = room;
            let durable = if copies { FIRST } else { FIRST + 2 };
            let mut plan = filled.plan(durable, false);
            plan.slot = Slot::of(b"a slot").unwrap();
            let begun = filled.medium.run(&mut Begin::new(plan)).unwrap();
            let frames = filled.medium.frames(NEW);
            let copied = if copies { 2 } else { 0 };
            let Some((entries, [first, second])) = frames.split_at_checked(copied) else { panic!("{frames:?}") };
            assert_eq!(begun.copied(), copied as u64);
            for (mark, at) in [(first, None), (second, Some(first.end))] {
                assert!(at.is_none_or(|at| mark.at == at));
                let bytes = filled.medium.bytes(NEW)[mark.at as usize..mark.end as usize].to_vec();
                let payload = &bytes[FRAME_HEADER_LEN..bytes.len() - 4];
                let told = Mark::decode(mark.header.kind.code(), payload).unwrap();
                assert_eq!(told, (Lsn::ZERO, Mark::Slot(b"a slot")));
                assert_eq!((mark.header.lsn, mark.header.timestamp), (Lsn::new(FIRST + 2), 1000));
            }
            let end = entries.last().map_or(filled.header.frames_at(), |frame| frame.end);
            assert_eq!(first.at, align_up(end, granule));
            let Place::New { at, behind, .. } = begun.place else { panic!("{begun:?}") };
            assert_eq!((at, behind), (align_up(second.end, granule), end));
            let stop = medium_stop(&filled.medium, at);
            assert!(filled.medium.bytes(NEW)[second.end as usize..(at + stop) as usize].iter().all(|byte| *byte == 0));
            let [.., written, synced, _, _, _] = filled.medium.did[..] else { panic!() };
            let len = align_up(2 * (FRAME_OVERHEAD + 8 + 6), granule) + stop;
            assert_eq!((written, synced), (Write(NEW, first.at.into(), len as usize), Sync));
        }
    }

    /// Bytes of what ends a write at this place of the new segment.
    fn medium_stop(medium: &Medium, at: u32) -> u32 {
        medium.header(NEW).stop_at(at)
    }

    /// What comes of continuing the old segment behind two entries, where `spoil` does something to the mark that was written.
    fn continued(granule: u32, spoil: impl FnOnce(&mut Filled, u32)) -> (Filled, Option<u32>, u32, u32) {
        let mut filled = Filled::new(old(granule), 1024).with(&[20, 20]);
        let at = align_up(filled.at(), granule);
        let len = align_up(Mark::Epoch(4).frame_len(), granule);
        let mut plan = filled.plan(FIRST + 1, false);
        plan.copy = None;
        plan.continuing = Some(Continuing { at, len, last: Lsn::new(FIRST + 1) });
        let mut begin = Begin::new(plan);
        let mut answer = Answer::Nothing;
        // Up to where the mark is durable.
        while filled.medium.did.last() != Some(&Sync) {
            let Err(Stop::Need(step)) = begin.step(&mut filled.medium.buf, answer) else { panic!() };
            answer = filled.medium.does(step).unwrap();
        }
        spoil(&mut filled, at);
        let begun = filled.medium.run(&mut begin).unwrap();
        assert_eq!((begun.header.epoch, begun.copied()), (4, 0));
        let Place::Found { at: found } = begun.place else { panic!("{begun:?}") };
        (filled, found, at, len)
    }

    #[test]
    fn a_segment_is_continued_behind_a_mark_of_the_new_epoch_that_reads_back_as_it_was_written() {
        for granule in [1, 16, 64, 512] {
            let (mut filled, found, at, len) = continued(granule, |_, _| {});
            assert_eq!(found, Some(at + len), "granules of {granule}");
            assert_eq!(filled.medium.did, [Write(OLD, at.into(), len as usize), Sync]);
            // What lies behind is nobody's: it is not read.
            assert_eq!(filled.medium.read_to[&segment(OLD)], u64::from(at + len), "granules of {granule}");
            let frames = filled.medium.frames(OLD);
            let [_, _, mark] = &frames[..] else { panic!("{frames:?}") };
            assert_eq!((mark.header.lsn, mark.header.timestamp), (Lsn::new(FIRST + 1), 1000));
        }
    }

    #[test]
    fn a_segment_whose_mark_does_not_read_back_as_it_was_written_is_not_continued() {
        let put = |filled: &mut Filled, at, lsn, mark: Mark<'_>, durable| {
            let mut payload = vec![0; mark.payload_len()];
            mark.encode(Lsn::new(durable), &mut payload);
            filled.put(at, lsn, FrameType::new(mark.code()), &payload);
        };
        let last = FIRST + 1;
        for granule in [1, 16, 64, 512] {
            let spoiled = |spoil: &dyn Fn(&mut Filled, u32)| continued(granule, spoil).1;
            assert_ne!(spoiled(&|filled, at| put(filled, at, last, Mark::Epoch(4), last)), None);
            assert_eq!(spoiled(&|filled, at| put(filled, at, last, Mark::Epoch(3), last)), None, "another epoch");
            assert_eq!(spoiled(&|filled, at| put(filled, at, last, Mark::Epoch(4), last - 1)), None, "durable less");
            assert_eq!(spoiled(&|filled, at| put(filled, at, last - 1, Mark::Epoch(4), last)), None, "another LSN");
            assert_eq!(spoiled(&|filled, at| filled.medium.bytes(OLD)[at as usize + 3] ^= 1), None, "a wrong byte");
            assert_eq!(spoiled(&|filled, at| filled.medium.bytes(OLD)[at as usize + 35] ^= 1), None, "a wrong byte");
            assert_eq!(
                spoiled(&|filled, at| filled.medium.bytes(OLD)[at as usize..][..256].fill(0)),
                None,
                "nothing is there"
            );
            let nothing = |filled: &mut Filled, at| filled.medium.unreadable = u64::from(at)..u64::from(at) + 1;
            assert_eq!(spoiled(&nothing), None, "it cannot be read");
        }
    }

    /// Segments that hold nothing on a medium that has room for so many more.
    fn medium_of(ids: &[u64], free: u32) -> Medium {
        let old = old(16);
        let headers = ids.iter().map(|id| SegmentHeader { id: SegmentId::new(*id), ..old });
        let mut medium = headers.fold(Medium::new(old, 512), |medium, header| medium.with(&header));
        medium.free = Some(free);
        medium
    }

    fn dead(cuts: &[(u64, u64)]) -> Dead {
        let mut dead = Dead::default();
        for (above, below) in cuts {
            dead.found(Cut { above: SegmentId::new(*above), below: SegmentId::new(*below) }).unwrap();
        }
        dead
    }

    #[test]
    fn the_last_room_is_left_to_a_take_over_and_to_truncation() {
        let full = || Err(Failed::Fault(Fault::Full));
        for (free, uncounted, last_room, expected) in [
            (0, 0, LastRoom::Leave, full()),
            (0, 1, LastRoom::Leave, full()),
            (1, 0, LastRoom::Leave, full()),
            (2, 0, LastRoom::Leave, Ok(())),
            (0, 0, LastRoom::Take, Err(Failed::NoRoom)),
            (0, 1, LastRoom::Take, Ok(())),
            (1, 0, LastRoom::Take, Ok(())),
        ] {
            let mut medium = Medium { uncounted, ..medium_of(&[OLD], free) };
            let plan = Plan { last_room, ..plan(&old(16), 20, 900) };
            let ended = medium.run(&mut Begin::new(plan)).map(|_| ());
            let done = if expected.is_ok() { 4 } else { 0 };
            assert_eq!((ended, medium.did.len()), (expected, done), "{free} and {uncounted} free, {last_room:?}");
        }
    }

    #[test]
    fn of_what_is_dead_the_newest_segment_is_kept_where_more_than_two_are_free_and_all_else_removed() {
        for (free, is_kept, is_purged) in
            [(0, false, true), (1, false, true), (2, false, false), (3, true, false), (9, true, false)]
        {
            // 8 and 9 are cut off now; 2 and 3 were, and 5 and 6 are what they were cut off by.
            let mut medium = medium_of(&[1, 2, 3, 4, OLD, 7, 8], free);
            let mut plan =
                Plan { dead: dead(&[(OLD, 9), (1, 4)]), last_room: LastRoom::Take, ..plan(&old(16), 20, 900) };
            plan.header.id = SegmentId::new(9);
            let begun = medium.run(&mut Begin::new(plan)).unwrap();
            let before: &[Did] = if is_purged { &[Sync, Remove(3), Remove(2), Create(9)] } else { &[Create(9)] };
            let later: &[Did] = match (is_purged, is_kept) {
                (true, _) => &[Remove(8), Remove(7)],
                (false, false) => &[Remove(8), Remove(7), Remove(3), Remove(2)],
                (false, true) => &[Remove(7), Remove(3), Remove(2)],
            };
            let done: Vec<_> =
                before.iter().copied().chain(headers(9, &old(16))).chain(later.iter().copied()).collect();
            // What was removed to make room made enough of it to keep something.
            let (done, is_kept) = if is_purged && free + 2 > 2 {
                (before.iter().copied().chain(headers(9, &old(16))).chain([Remove(7)]).collect(), true)
            } else {
                (done, is_kept)
            };
            assert_eq!(medium.did, done, "{free} free");
            let Place::New { evidence, .. } = begun.place else { panic!("{begun:?}") };
            let expected = is_kept.then_some(Cut { above: SegmentId::new(OLD), below: SegmentId::new(9) });
            assert_eq!(evidence, expected, "{free} free");
        }
    }

    #[test]
    fn a_segment_that_is_passed_over_and_holds_nothing_gives_its_room_where_there_is_none() {
        let header = old(16);
        let begins = header.frames_at();
        for (free, end, passes_over, is_purged) in [
            (0, begins, true, true),
            (0, begins, false, false),
            (0, begins + 53, true, false),
            (1, begins, true, false),
        ] {
            let mut filled = Filled::new(header, 512);
            if end > begins {
                filled = filled.with(&[20]);
            }
            filled.medium.free = Some(free);
            let mut plan = filled.plan(FIRST - 1, passes_over);
            (plan.last_room, plan.dead) = (LastRoom::Leave, dead(&[(4, NEW)]));
            let ended = filled.medium.run(&mut Begin::new(plan)).map(|_| ());
            let done: &[Did] = if is_purged { &[Sync, Remove(OLD), Create(NEW)] } else { &[] };
            let done: Vec<_> =
                done.iter().copied().chain(headers(NEW, &header)).take(if is_purged { 6 } else { 0 }).collect();
            assert_eq!(filled.medium.did, done, "{free} free, {end}, {passes_over}");
            let expected = if is_purged { Ok(()) } else { Err(Failed::Fault(Fault::Full)) };
            assert_eq!(ended, expected, "{free} free, {end}, {passes_over}");
        }
    }

    #[test]
    fn the_newest_segment_moves_into_the_last_room_and_gives_its_own_back() {
        // What the device does not count on is the last room, too.
        for (free, uncounted, is_replaced) in [(0, 1, true), (1, 0, true), (2, 0, false)] {
            let mut filled = Filled::new(old(16), 512).with(&[20, 20, 20]);
            (filled.medium.free, filled.medium.uncounted) = (Some(free), uncounted);
            let Plan { copy: Some(copying), .. } = filled.plan(FIRST - 1, true) else { panic!() };
            let mut plan = Plan {
                last_room: LastRoom::Replace(copying),
                dead: dead(&[(3, 4)]),
                ..plan(&filled.header, FIRST + 2, filled.at())
            };
            plan.header.low_water = Lsn::new(FIRST + 1);
            let begun = filled.medium.run(&mut Begin::new(plan.clone())).unwrap();
            let header = filled.medium.header(NEW);
            if is_replaced {
                let SegmentHeader { first, transaction_floor, predecessor, .. } = filled.header;
                assert_eq!(header, SegmentHeader { first, transaction_floor, predecessor, ..plan.header });
            } else {
                assert_eq!(header, plan.header);
            }
            assert_eq!(begun.copied(), if is_replaced { 3 } else { 0 });
            assert_eq!(filled.medium.did.last() == Some(&Remove(OLD)), is_replaced);
            assert_eq!(filled.medium.objects.contains_key(&segment(OLD)), !is_replaced);
        }
    }

    #[test]
    fn what_was_never_finished_is_removed_and_that_durable_before_anything_else() {
        let mut medium = medium_of(&[OLD, 6, 7], 5);
        medium.objects.insert(Object::Checkpoint(CheckpointId::new(9)), vec![]);
        let mut plan = Plan { erase_above: Some(SegmentId::new(OLD)), ..plan(&old(16), 20, 900) };
        plan.header.id = SegmentId::new(8);
        medium.run(&mut Begin::new(plan)).unwrap();
        assert_eq!(medium.did[..4], [Remove(6), Remove(7), Sync, Create(8)]);
        assert_eq!(medium.objects.len(), 3);
    }

    #[test]
    fn nothing_is_synced_where_nothing_was_removed_but_for_checkpoints_one_of_which_was_refused() {
        let checkpoint = |id| Object::Checkpoint(CheckpointId::new(id));
        for (above, done) in [
            (segment(7), &[][..]),
            (segment(6), &[Remove(7), Sync]),
            (segment(4), &[Remove(OLD), Remove(7), Sync]),
            (checkpoint(9), &[Sync]),
            (checkpoint(8), &[Remove(9), Sync]),
        ] {
            let mut medium = medium_of(&[OLD, 7], 5);
            medium.objects.insert(checkpoint(9), vec![]);
            medium.objects.insert(Object::Meta, vec![]);
            medium.run(&mut Erase::new(above)).unwrap();
            assert_eq!(medium.did, done, "{above:?}");
        }
    }

    #[test]
    fn a_header_that_was_refused_is_made_invalid_in_both_copies_before_its_room_is_given_back() {
        for (granule, buf, bad, copies) in [
            (16, 128, None, &[128, 0][..]),
            (16, 512, Some(0), &[128]),
            (16, 512, Some(128), &[0]),
            // The buffer has to grow for it.
            (512, 128, None, &[512, 0]),
            (512, 511, Some(0), &[512]),
        ] {
            let header = SegmentHeader { id: SegmentId::new(NEW), ..old(granule) };
            let mut medium = Medium::new(header, buf).with(&header);
            if let Some(bad) = bad {
                medium.bytes(NEW)[bad] ^= 1;
            }
            medium.run(&mut Erase::refused(portable, SegmentId::new(OLD))).unwrap();
            let writes = copies.iter().map(|at| Write(NEW, *at, 128.max(granule as usize)));
            let done: Vec<_> = writes.chain([Sync, Remove(NEW), Sync]).collect();
            assert_eq!(medium.did, done, "granules of {granule}, {buf} bytes, {bad:?}");
        }
        let header = SegmentHeader { id: SegmentId::new(NEW), ..old(16) };
        let mut medium = Medium::new(header, 512).with(&header);
        medium.bytes(NEW).fill(0);
        medium.run(&mut Erase::refused(portable, SegmentId::new(OLD))).unwrap();
        assert_eq!(medium.did, [Remove(NEW), Sync], "it has no header");
    }
}
