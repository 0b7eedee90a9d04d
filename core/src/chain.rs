//! The chain of segments: reading headers, and what is known of a log once recovery has found its way through them.

use heapless::Vec;
use uuid::Uuid;

use crate::{
    Lsn,
    checksum::Update,
    device::Object,
    drive::{Answer, Stop},
    fault::Fault,
    segment::{COPY_OFFSETS, NotAHeader, SEGMENT_HEADER_LEN, SegmentHeader, SegmentId},
    window::{Bytes, Window},
};

/// How many cuts may have left dead segments behind: a writer removes those of all but the last, a crash may leave a
/// few more.
pub(crate) const CUTS_MAX: usize = 8;

/// Segments outside the chain: those between a segment and the predecessor that it names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dead(pub(crate) Vec<Cut, CUTS_MAX>);

/// Segments between these two, themselves not included, are dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) above: SegmentId,
    pub(crate) below: SegmentId,
}

impl Cut {
    pub(crate) fn contains(&self, id: SegmentId) -> bool {
        id > self.above && id < self.below
    }
}

impl Dead {
    pub(crate) fn contains(&self, id: SegmentId) -> bool {
        self.0.iter().any(|cut| cut.contains(id))
    }

    /// Takes note that a segment between these two was found.
    pub(crate) fn found(&mut self, cut: Cut) -> Result<(), Fault> {
        if self.0.contains(&cut) {
            return Ok(());
        }
        self.0.push(cut).map_err(|_| Fault::TooManyDead)
    }
}

/// What stands where a segment's header should.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeaderRead {
    /// The header, if one copy at least is valid.
    pub(crate) header: Option<SegmentHeader>,
    /// The offset of a copy that is bad although the other is valid.
    pub(crate) bad_copy: Option<u32>,
    /// Whether the device could not read a copy.
    pub(crate) unreadable: bool,
}

/// Reads both copies of a segment's header.
#[derive(Clone, Debug)]
pub(crate) struct HeaderReader {
    id: SegmentId,
    update: Update,
    window: Window,
    place: Place,
    read: HeaderRead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The first copy, at offset 0.
    First,
    /// The first copy is bad: one of the places where the second may stand.
    Second(usize),
    /// The first copy is good: the second, to see whether it is too.
    Check(u32),
}

impl HeaderReader {
    pub(crate) fn new(update: Update, id: SegmentId) -> Self {
        Self { id, update, window: Self::window(id, 0), place: Place::First, read: HeaderRead::default() }
    }

    /// The segment.
    pub(crate) fn id(&self) -> SegmentId {
        self.id
    }

    /// A window on one copy alone: nothing behind it is read.
    fn window(id: SegmentId, offset: u32) -> Window {
        Window::new(Object::Segment(id), u64::from(offset) + SEGMENT_HEADER_LEN as u64)
    }

    fn go(&mut self, place: Place) {
        self.place = place;
        self.window = Self::window(self.id, self.offset());
    }

    fn offset(&self) -> u32 {
        match self.place {
            Place::First => 0,
            Place::Second(place) => COPY_OFFSETS[place],
            Place::Check(offset) => offset,
        }
    }

    /// What stands there. A sound header of another version is a fault.
    pub(crate) fn next(&mut self, buf: &mut [u8], answer: &mut Answer) -> Result<HeaderRead, Stop> {
        loop {
            let offset = self.offset();
            let copy = match self.window.get(buf, answer, u64::from(offset), SEGMENT_HEADER_LEN)? {
                Bytes::Whole(bytes) => match SegmentHeader::decode(self.update, &buf[bytes], offset) {
                    Ok(header) if header.id == self.id => Some(header),
                    Ok(_) | Err(NotAHeader::Invalid) => None,
                    Err(NotAHeader::Unsupported { version, .. }) => {
                        let object = Object::Segment(self.id);
                        return Err(Fault::Unsupported { object, offset: offset.into(), number: version }.into());
                    }
                },
                Bytes::Short(_) => None,
                Bytes::Unreadable => {
                    self.read.unreadable = true;
                    None
                }
            };
            match (self.place, copy) {
                (Place::First, Some(header)) => {
                    self.read.header = Some(header);
                    self.go(Place::Check(header.copy_offset));
                }
                (Place::First, None) => self.go(Place::Second(0)),
                (Place::Second(_), Some(header)) => {
                    self.read.header = Some(header);
                    self.read.bad_copy = Some(0);
                    return Ok(self.read.clone());
                }
                (Place::Second(place), None) if place + 1 < COPY_OFFSETS.len() => self.go(Place::Second(place + 1)),
                (Place::Second(_), None) => return Ok(self.read.clone()),
                (Place::Check(offset), copy) => {
                    if copy != self.read.header {
                        self.read.bad_copy = Some(offset);
                    }
                    return Ok(self.read.clone());
                }
            }
        }
    }
}

/// What a reader has to know of a log: which segments count, and where it ends.
#[derive(Clone, Debug)]
pub struct View {
    pub(crate) update: Update,
    pub(crate) log: Uuid,
    /// The oldest segment that counts.
    pub(crate) oldest: SegmentId,
    /// The newest segment.
    pub(crate) newest: SegmentId,
    /// Segments between them that do not count.
    pub(crate) dead: Dead,
    /// The last entry that counts.
    pub(crate) last: Lsn,
    /// The offset in the newest segment behind which nothing counts.
    pub(crate) end: u32,
    pub(crate) low_water: Lsn,
    /// Whether a checkpoint holds what is below it.
    pub(crate) low_water_covered: bool,
    pub(crate) accepted_loss: Lsn,
}

impl View {
    /// The LSN of the last entry that a reader of this view sees.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.last
    }

    /// The first LSN that truncation keeps.
    #[must_use]
    pub fn low_water(&self) -> Lsn {
        self.low_water
    }

    /// Whether a checkpoint holds what is below the low-water mark.
    #[must_use]
    pub fn is_covered(&self) -> bool {
        self.low_water_covered
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> Uuid {
        self.log
    }

    /// The newest segment, and the offset in it behind which no entry counts.
    #[must_use]
    pub fn end(&self) -> (SegmentId, u32) {
        (self.newest, self.end)
    }

    /// Whether the segment is part of the log, by its id.
    #[must_use]
    pub fn counts(&self, id: SegmentId) -> bool {
        (self.oldest..=self.newest).contains(&id) && !self.dead.contains(id)
    }
}
