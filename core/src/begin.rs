//! Beginning a segment: at a rotation, at a take-over for writing, at a cut.
//!
//! The header is the commit point. What it vouches for (the predecessor up to its cut, and frames copied into the new
//! segment) is durable before it is written; before that the new segment means nothing, and afterwards the bytes
//! behind the predecessor's cut mean nothing.

use heapless::Vec;

use crate::{
    Lsn,
    chain::{Cut, Dead},
    checksum::Update,
    cursor::{Cursor, Found},
    device::{Object, Room},
    drive::{Answer, Machine, Step, Stop},
    fault::Fault,
    frame::{FrameHeader, Mark, SLOT_MAX, Salts, frame_mark},
    report::{Finding, Seen},
    segment::{Predecessor, SEGMENT_HEADER_LEN, SegmentHeader, SegmentId, align_up},
    tail::Boundary,
};

/// What is to be begun, and what goes before it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) update: Update,
    /// The new segment's header; where frames are copied, what it says of the predecessor's end is found on the way.
    pub(crate) header: SegmentHeader,
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
    pub(crate) slot: Vec<u8, SLOT_MAX>,
}

/// What is done where a medium with a fixed number of slots has one free.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // One at a time, in place: there is no heap to box it in.
pub(crate) enum LastRoom {
    /// It is left free: only a take-over and truncation may need it, and both have to succeed.
    Leave,
    /// It is taken: what is before is given up.
    Take,
    /// The newest segment is copied into it, whole, and gives its own room back.
    Replace(Replacing),
}

/// What the header of a segment says that replaces the one before it.
#[derive(Clone, Debug)]
pub(crate) struct Replacing {
    pub(crate) copy: Copying,
    pub(crate) first: Lsn,
    pub(crate) floor: Lsn,
    pub(crate) predecessor: Predecessor,
}

/// Entries that may exist only in a cache, and are copied into the new segment.
#[derive(Clone, Debug)]
pub(crate) struct Copying {
    /// The segment they stand in.
    pub(crate) from: SegmentHeader,
    /// Where reading begins.
    pub(crate) start: Boundary,
    /// Entries up to this LSN are durable where they are.
    pub(crate) durable: Lsn,
    /// Behind the last entry that counts.
    pub(crate) end: u32,
    /// Whether the new segment replaces the old one altogether, rather than following it.
    pub(crate) passes_over: bool,
}

/// A segment that another writer left, on a medium where nothing of what it wrote can still be lost or come back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Continuing {
    pub(crate) header: SegmentHeader,
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
    pub(crate) place: Place,
    /// Entries copied.
    copied: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// The new segment, durable with its header and its name.
    New(NewPlace),
    /// The segment that was found, in this epoch.
    Found {
        epoch: u64,
        /// The time of the epoch mark.
        time: u64,
        /// Where the first write goes; `None`: the mark did not come back as it was written.
        at: Option<u32>,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct NewPlace {
    pub(crate) header: SegmentHeader,
    /// Where the first write goes.
    pub(crate) at: u32,
    /// Right behind the last entry copied, or where frames begin.
    pub(crate) behind: u32,
    /// Where the dead segment stands that was kept as evidence.
    pub(crate) evidence: Option<Cut>,
}

impl Begun {
    /// How many entries were copied, because only a cache may have held them.
    #[must_use]
    pub fn copied(&self) -> u64 {
        self.copied
    }
}

/// The machine that removes segments that were never finished, all above one, and makes that durable.
///
/// It takes no room. Where the writer was refused room for a segment, it leaves nothing of that which a crash could make
/// the newest.
#[derive(Debug)]
pub struct Erase {
    above: SegmentId,
    state: Erasing,
    removed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Erasing {
    Look,
    Looked,
    Done,
}

impl Erase {
    /// Removes every segment above this one.
    #[must_use]
    pub fn new(above: SegmentId) -> Self {
        Self { above, state: Erasing::Look, removed: false }
    }

    fn advance(&mut self, answer: &mut Answer) -> Result<(), Stop> {
        loop {
            match self.state {
                Erasing::Look => {
                    self.state = Erasing::Looked;
                    return Err(Step::Next { after: Some(Object::Segment(self.above)) }.into());
                }
                Erasing::Looked => match answer.object() {
                    Some(object @ Object::Segment(_)) => {
                        self.state = Erasing::Look;
                        self.removed = true;
                        return Err(Step::Remove { object }.into());
                    }
                    _ => {
                        self.state = Erasing::Done;
                        if self.removed {
                            return Err(Step::Sync.into());
                        }
                    }
                },
                Erasing::Done => return Ok(()),
            }
        }
    }
}

impl Machine for Erase {
    type Output = ();

    fn step(&mut self, _: &mut [u8], mut answer: Answer) -> Result<(), Stop> {
        self.advance(&mut answer)
    }
}

/// The machine.
#[derive(Debug)]
pub struct Begin {
    plan: Plan,
    salts: Salts,
    state: State,
    copy: Option<Copy>,
    /// Reads the epoch mark back.
    check: Option<Cursor>,
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
    /// Whether there is room to keep what is dead as evidence.
    keeps_evidence: bool,
    evidence: Option<Cut>,
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

/// The copying: frames are read into the upper part of the buffer and framed anew in the lower.
#[derive(Debug)]
struct Copy {
    plan: Copying,
    cursor: Cursor,
    /// Where the upper part begins.
    middle: usize,
    /// Bytes framed in the lower part.
    staged: usize,
    /// The last entry that stays where it is, and the offset behind it.
    last: Lsn,
    cut: u32,
    grown: bool,
}

impl Copy {
    fn new(update: Update, plan: Copying) -> Self {
        Self {
            cursor: Cursor::new(update, &plan.from, plan.start.next, plan.end),
            middle: 0,
            staged: 0,
            last: plan.start.last,
            cut: plan.start.behind,
            plan,
            grown: false,
        }
    }

    /// Makes the lower part large enough for a frame of `size` bytes, and the upper part for reading it.
    fn make_room(&mut self, len: usize, size: u32, header: &SegmentHeader) -> Result<(), Stop> {
        let middle = (align_up(size, header.granule) + header.stop_at(0)) as usize;
        let needed = middle + size as usize;
        if len < needed {
            if self.grown {
                return Err(Fault::BufferTooSmall { needed }.into());
            }
            self.grown = true;
            return Err(Step::Grow { needed }.into());
        }
        self.grown = false;
        self.middle = middle;
        self.cursor.forget();
        Ok(())
    }
}

impl Begin {
    /// The machine that does what `plan` says.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let header = &plan.header;
        let salts = Salts::new(plan.update, header.log, header.id, header.epoch, header.nonce);
        let copy = plan.copy.clone().map(|copying| Copy::new(plan.update, copying));
        let at = header.frames_at();
        let erase = plan.erase_above.map(Erase::new);
        Self {
            plan,
            salts,
            state: State::Erase,
            copy,
            check: None,
            at,
            behind: at,
            copied: 0,
            unsynced: 0,
            erase,
            created: false,
            purged: false,
            keeps_evidence: true,
            evidence: None,
        }
    }

    fn object(&self) -> Object {
        Object::Segment(self.plan.header.id)
    }

    fn advance(&mut self, buf: &mut [u8], answer: &mut Answer) -> Result<Begun, Stop> {
        loop {
            match self.state {
                State::Erase => {
                    if let Some(erase) = &mut self.erase {
                        erase.advance(answer)?;
                    }
                    self.state =
                        if self.plan.continuing.is_some() { State::Mark } else { State::Room { asked: false } };
                }
                State::Mark => {
                    self.state = State::MarkSync;
                    return Err(self.write_epoch_mark(buf)?.into());
                }
                State::MarkSync => {
                    self.state = State::MarkRead;
                    return Err(Step::Sync.into());
                }
                State::MarkRead => {
                    let at = self.read_epoch_mark(buf, answer)?;
                    let SegmentHeader { epoch, created, .. } = self.plan.header;
                    return Ok(Begun { place: Place::Found { epoch, time: created, at }, copied: 0 });
                }
                State::Room { asked: false } => {
                    self.state = State::Room { asked: true };
                    return Err(Step::Free.into());
                }
                State::Room { .. } => {
                    let Answer::Free(free) = answer.take() else {
                        unreachable!("the driver answered something else to a question for room")
                    };
                    self.state = self.room(free)?;
                }
                State::PurgeSync => {
                    self.state = State::Remove { cut: 1, before: SegmentId::NONE, asked: false };
                    return Err(Step::Sync.into());
                }
                State::Create => {
                    self.state = State::Created;
                    let size = u64::from(self.plan.header.segment_size);
                    return Err(Step::Create { object: self.object(), size }.into());
                }
                State::Created => {
                    self.created = true;
                    let recycled = matches!(answer.take(), Answer::Created(Room::Recycled));
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
                        let len = self.blank(buf, left)?;
                        self.state = State::Blank { at: at + len };
                        return Err(Step::Write { object: self.object(), at: at.into(), from: 0..len as usize }.into());
                    }
                },
                State::BlankSync => {
                    self.state = self.before_copies();
                    return Err(Step::Sync.into());
                }
                State::Copy => self.copy(buf, answer)?,
                State::Slot => {
                    self.state = State::CopySync;
                    return Err(self.write_slot(buf)?.into());
                }
                State::Stop => {
                    self.state = State::CopySync;
                    let len = self.blank(buf, self.plan.header.stop_at(self.at))?;
                    return Err(Step::Write { object: self.object(), at: self.at.into(), from: 0..len as usize }.into());
                }
                State::CopySync => {
                    self.state = State::Header;
                    return Err(Step::Sync.into());
                }
                State::Header => {
                    self.state = State::Second;
                    return Err(self.write_header(buf, 0)?.into());
                }
                State::Second => {
                    self.state = State::HeaderSync;
                    return Err(self.write_header(buf, self.plan.header.copy_offset)?.into());
                }
                State::HeaderSync => {
                    self.state = State::Remove { cut: 0, before: SegmentId::NONE, asked: false };
                    return Err(Step::Sync.into());
                }
                State::Remove { cut, before, asked: false } => match self.plan.dead.0.get(cut) {
                    Some(dead) => {
                        let before = if before == SegmentId::NONE { dead.below } else { before };
                        self.state = State::Remove { cut, before, asked: true };
                        return Err(Step::Prev { before: Some(Object::Segment(before)) }.into());
                    }
                    // It was for want of room: whether there is some now decides.
                    None if self.purges() => {
                        self.plan.dead.0.truncate(1);
                        self.purged = true;
                        self.state = State::Room { asked: false };
                    }
                    None => {
                        let Self { at, behind, copied, evidence, .. } = *self;
                        let place = NewPlace { header: self.plan.header, at, behind, evidence };
                        return Ok(Begun { place: Place::New(place), copied });
                    }
                },
                State::Remove { cut, .. } => match (answer.object(), self.plan.dead.0.get(cut)) {
                    (Some(Object::Segment(id)), Some(dead)) if dead.contains(id) => {
                        self.state = State::Remove { cut, before: id, asked: false };
                        if self.evidence.is_some() || !self.keeps_evidence || self.purges() {
                            return Err(Step::Remove { object: Object::Segment(id) }.into());
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
    fn room(&mut self, free: Option<u32>) -> Result<State, Fault> {
        let Some(free) = free else { return Ok(State::Create) };
        if free <= 1 && !self.purged && self.plan.dead.0.len() > 1 {
            return Ok(State::PurgeSync);
        }
        self.keeps_evidence = free > 2;
        if free == 1 {
            match &self.plan.last_room {
                LastRoom::Leave => return Err(Fault::Full),
                LastRoom::Take => {}
                LastRoom::Replace(replacing) => {
                    let Replacing { copy, first, floor, predecessor } = replacing.clone();
                    self.plan.header =
                        SegmentHeader { first, transaction_floor: floor, predecessor, ..self.plan.header };
                    let cut = Cut { above: predecessor.id, below: self.plan.header.id };
                    self.plan.dead = Dead([cut].into_iter().collect());
                    self.copy = Some(Copy::new(self.plan.update, copy));
                }
            }
        }
        Ok(State::Create)
    }

    /// The mark of the new epoch, in the segment that was found.
    fn write_epoch_mark(&mut self, buf: &mut [u8]) -> Result<Step, Fault> {
        let Continuing { header, at, len, last } = self.continuing();
        let bytes = buf.get_mut(..len as usize).ok_or(Fault::BufferTooSmall { needed: len as usize })?;
        bytes.fill(header.blank);
        let mark = Mark::Epoch(self.plan.header.epoch);
        let salts = Salts::new(self.plan.update, header.log, header.id, header.epoch, header.nonce);
        frame_mark(&salts, &mut bytes[..mark.frame_len() as usize], at, last, self.plan.header.created, last, mark);
        self.check = Some(Cursor::new(self.plan.update, &header, at, at + len));
        Ok(Step::Write { object: Object::Segment(header.id), at: at.into(), from: 0..len as usize })
    }

    /// Where writing goes on behind the epoch mark, if it is there as the next recovery will read it.
    fn read_epoch_mark(&mut self, buf: &mut [u8], answer: &mut Answer) -> Result<Option<u32>, Stop> {
        let Continuing { at, len, last, .. } = self.continuing();
        let mark = Mark::Epoch(self.plan.header.epoch);
        let Some(check) = &mut self.check else { unreachable!("the mark was written") };
        // Behind the mark, only the rest of its granule is left to be read.
        while check.at() < at + len {
            match check.next(buf, answer)? {
                Found::Frame(frame)
                    if frame.header.lsn == last
                        && Mark::decode(frame.header.kind.code(), &buf[frame.payload.clone()]) == Ok((last, mark)) => {}
                _ if check.at() < at + len => return Ok(None),
                _ => {}
            }
        }
        Ok(Some(at + len))
    }

    fn continuing(&self) -> Continuing {
        match self.plan.continuing {
            Some(continuing) => continuing,
            None => unreachable!("the plan continues a segment"),
        }
    }

    fn before_copies(&self) -> State {
        if self.copy.is_some() { State::Copy } else { self.after_copies() }
    }

    fn after_copies(&self) -> State {
        match (self.plan.slot.is_empty(), self.copied) {
            (false, _) => State::Slot,
            // What ends a write has to stand there before the header makes it count.
            (true, 0) if self.plan.header.recycled => State::Stop,
            (true, 0) => State::Header,
            (true, _) => State::CopySync,
        }
    }

    /// Makes the buffer blank, for `len` bytes or what fits of them in whole granules, and returns how many.
    fn blank(&self, buf: &mut [u8], len: u32) -> Result<u32, Fault> {
        let SegmentHeader { granule, blank, .. } = self.plan.header;
        let room = u32::try_from(buf.len()).unwrap_or(u32::MAX) & !(granule - 1);
        let len = len.min(room);
        if len == 0 {
            return Err(Fault::BufferTooSmall { needed: granule as usize });
        }
        buf[..len as usize].fill(blank);
        Ok(len)
    }

    /// The slot's mark goes behind what was copied. It claims nothing: no mark proves the segment that it stands in.
    fn write_slot(&mut self, buf: &mut [u8]) -> Result<Step, Fault> {
        let header = &self.plan.header;
        let mark = Mark::Slot(&self.plan.slot);
        let granules = align_up(mark.frame_len(), header.granule);
        let len = granules + header.stop_at(self.at + granules);
        let bytes = buf.get_mut(..len as usize).ok_or(Fault::BufferTooSmall { needed: len as usize })?;
        bytes.fill(header.blank);
        let frame = &mut bytes[..mark.frame_len() as usize];
        let last = Lsn::new(header.first.previous().value().saturating_add(self.copied));
        frame_mark(&self.salts, frame, self.at, last, header.created, Lsn::ZERO, mark);
        let write = Step::Write { object: self.object(), at: self.at.into(), from: 0..len as usize };
        self.at += granules;
        Ok(write)
    }

    fn write_header(&self, buf: &mut [u8], offset: u32) -> Result<Step, Fault> {
        let header = &self.plan.header;
        let len = SEGMENT_HEADER_LEN.max(header.granule as usize);
        let copy = buf.get_mut(..len).ok_or(Fault::BufferTooSmall { needed: len })?;
        copy.fill(header.blank);
        copy[..SEGMENT_HEADER_LEN].copy_from_slice(&header.encode(self.plan.update));
        Ok(Step::Write { object: self.object(), at: offset.into(), from: 0..len })
    }

    /// Copies entries until all are copied: then the state has moved on.
    fn copy(&mut self, buf: &mut [u8], answer: &mut Answer) -> Result<(), Stop> {
        let granule = self.plan.header.granule;
        // What ends a write is put behind it, in the lower part too.
        let stop = self.plan.header.stop_at(0) as usize;
        loop {
            let Some(copy) = &mut self.copy else { unreachable!("there is something to copy") };
            if copy.middle == 0 {
                copy.middle = (buf.len() / 2) & !(granule as usize - 1);
            }
            let frame = match copy.cursor.next(&mut buf[copy.middle..], answer) {
                Ok(Found::Frame(frame)) => frame,
                Err(stop) => return Err(shifted(stop, copy.middle)),
                // Up to here recovery read sound frames: it is the end of what counts, or damage since.
                Ok(Found::Other(seen)) if copy.cursor.at() < copy.plan.end => {
                    return Err(changed(&copy.plan, copy.cursor.at(), seen).into());
                }
                Ok(Found::Other(_)) if copy.staged > 0 => return Err(self.flush(buf)),
                Ok(Found::Other(_)) => {
                    self.cut();
                    return Ok(());
                }
            };
            let FrameHeader { size, lsn, timestamp, kind } = frame.header;
            if kind.is_mark() {
                continue;
            }
            if lsn <= copy.plan.durable {
                copy.last = lsn;
                copy.cut = frame.end;
                continue;
            }
            let new = copy.staged..copy.staged + size as usize;
            if new.end + stop > copy.middle {
                copy.cursor.go(frame.at);
                if copy.staged > 0 {
                    return Err(self.flush(buf));
                }
                copy.make_room(buf.len(), size, &self.plan.header)?;
                continue;
            }
            let (lower, upper) = buf.split_at_mut(copy.middle);
            let offset = self.at + staged(copy.staged);
            lower[new.clone()].copy_from_slice(&upper[frame.bytes()]);
            self.salts.complete(&mut lower[new.clone()], offset, lsn, timestamp, kind);
            copy.staged = new.end;
            self.behind = offset + size;
            self.copied += 1;
        }
    }

    /// Writes what was framed; a sync goes before it where the write limit asks for one.
    fn flush(&mut self, buf: &mut [u8]) -> Stop {
        let object = self.object();
        let header = &self.plan.header;
        let Some(copy) = &mut self.copy else { unreachable!("there is something to copy") };
        let frames = align_up(staged(copy.staged), header.granule);
        let len = frames + header.stop_at(self.at + frames);
        if self.unsynced > 0 && self.unsynced + len > header.write_limit {
            self.unsynced = 0;
            return Step::Sync.into();
        }
        buf[copy.staged..len as usize].fill(header.blank);
        let write = Step::Write { object, at: self.at.into(), from: 0..len as usize };
        copy.staged = 0;
        self.at += frames;
        self.unsynced += len;
        write.into()
    }

    /// All is copied: the header can say where the predecessor ends.
    fn cut(&mut self) {
        let Some(copy) = self.copy.take() else { return };
        let header = &mut self.plan.header;
        if !copy.plan.passes_over {
            header.predecessor = copy.plan.from.cut(copy.last, copy.cut);
            if self.copied > 0 {
                header.first = copy.last.next_or_max();
                header.transaction_floor = header.transaction_floor.min(header.first);
            }
        }
        self.state = self.after_copies();
    }
}

impl Machine for Begin {
    type Output = Begun;

    fn step(&mut self, buf: &mut [u8], mut answer: Answer) -> Result<Begun, Stop> {
        self.advance(buf, &mut answer)
    }
}

/// Bytes framed in the lower part, which is smaller than a segment.
fn staged(len: usize) -> u32 {
    u32::try_from(len).expect("what is framed at once is smaller than a segment")
}

/// A step that was meant for the upper part of the buffer, for the whole of it.
fn shifted(stop: Stop, by: usize) -> Stop {
    match stop {
        Stop::Need(Step::Read { object, at, into }) => {
            Step::Read { object, at, into: into.start + by..into.end + by }.into()
        }
        Stop::Need(Step::Grow { needed }) => Step::Grow { needed: needed + by }.into(),
        stop => stop,
    }
}

/// What recovery read does not read the same a second time.
fn changed(copying: &Copying, at: u32, seen: Seen) -> Fault {
    let object = Object::Segment(copying.from.id);
    if seen == Seen::Unreadable {
        return Fault::Unreadable { object, offset: at.into() };
    }
    Fault::Damaged(Finding::rot(seen, object, at))
}
