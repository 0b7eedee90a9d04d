//! What lies in which slot: everything about slots that is not input and output.

use core::ops::Range;

use duralog_core::{CheckpointId, Object, Room, SegmentId};

use super::{
    OpenSlotsError, SlotError,
    label::{LABEL_LEN, LABEL_MAGIC, LABEL_VERSION, Label, Use, VERSION_AT, is_mixed, mended},
    layout::Layout,
};

/// What a slot holds: an element of the table that [`Slots`](super::Slots) is given memory for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    id: u64,
    sequence: u32,
    part: u16,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing that counts.
    #[default]
    Free,
    /// Nothing, and a label says that it could not be erased or labelled once: it is tried again when its turn comes, and
    /// nobody counts on it.
    Worn,
    /// Nothing, and it could not be erased or labelled: it is passed over until the medium is opened again.
    Bad,
    Segment,
    Checkpoint,
}

impl Slot {
    fn object(&self) -> Option<Object> {
        match self.state {
            State::Free | State::Worn | State::Bad => None,
            State::Segment => Some(Object::Segment(SegmentId::new(self.id))),
            State::Checkpoint => Some(Object::Checkpoint(CheckpointId::new(self.id))),
        }
    }

    fn is_first_of(&self, object: Object) -> bool {
        self.part == 0 && self.object() == Some(object)
    }
}

/// What was seen of a medium.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Slots with a label of this layout.
    labels: u32,
    /// Slots with one of another, which a slot that cannot be erased keeps.
    others: u32,
    /// The slot whose label is the last one, and says that formatting has not ended.
    formatting: Option<usize>,
    /// A label of another layout.
    other: Option<Label>,
    /// A label of this layout in another slot than it names: which slot, and which it names.
    moved: Option<(u16, u16)>,
    /// The version of a label that is newer than this one.
    newer: Option<u8>,
    /// Bytes that only this format begins with, where no label is.
    pub(crate) traces: bool,
    /// Behind the last slot with a label *formatting*, whole or torn; 0 where there is none.
    begun: usize,
    /// Anything but blank and such labels.
    pub(crate) written: bool,
}

impl Seen {
    /// Whether the medium is formatted with this layout. `false`: it has no label, and the rest of it tells what it is.
    pub(crate) fn is_formatted<E>(&self) -> Result<bool, OpenSlotsError<E>> {
        match *self {
            Self { formatting: Some(_), .. } => Err(OpenSlotsError::Unfinished),
            Self { labels: 1.., others, .. } if others <= self.labels => Ok(true),
            Self { newer: Some(version), .. } => Err(OpenSlotsError::Newer { version }),
            Self { other: Some(label), .. } => Err(OpenSlotsError::other(&label)),
            Self { moved: Some((slot, index)), .. } => Err(OpenSlotsError::Moved { slot, index }),
            _ => Ok(false),
        }
    }

    /// What a medium without any label is.
    pub(crate) fn without_label<E>(&self) -> OpenSlotsError<E> {
        match (self.written, self.begun, self.traces) {
            (false, 0, _) => OpenSlotsError::Blank,
            (false, 1.., _) => OpenSlotsError::Unfinished,
            (true, _, true) => OpenSlotsError::HalfErased,
            (true, _, false) => OpenSlotsError::Foreign,
        }
    }

    /// The first slot that a label *formatting* may go into once it is erased: it must not stand before one that has not been
    /// retired.
    pub(crate) fn formatted_from(&self) -> usize {
        self.formatting.unwrap_or(0)
    }

    /// The first slot that such a label may go into as it is: a blank one before a torn label may be one whose erasing was
    /// interrupted.
    pub(crate) fn blank_from(&self) -> usize {
        self.begun
    }
}

/// A piece of an object, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: u32,
    pub(crate) len: usize,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Table<T> {
    pub(crate) layout: Layout,
    slots: T,
    /// The highest sequence number, and the slot that has it.
    sequence: u32,
    last: usize,
    /// The slot that a label said to be worn last: the next one says it of another.
    told: u16,
}

impl<T: AsRef<[Slot]> + AsMut<[Slot]>> Table<T> {
    pub(crate) fn new(layout: Layout, mut slots: T) -> Self {
        slots.as_mut().fill(Slot::default());
        let last = usize::from(layout.slots).saturating_sub(1);
        Self { layout, slots, sequence: 0, last, told: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.layout.slots).min(self.slots.as_ref().len())
    }

    fn slots(&self) -> &[Slot] {
        let len = self.len();
        &self.slots.as_ref()[..len]
    }

    fn slots_mut(&mut self) -> &mut [Slot] {
        let len = self.len();
        &mut self.slots.as_mut()[..len]
    }

    pub(crate) fn base(&self, slot: usize) -> u32 {
        self.layout.slot_size * u32::try_from(slot).unwrap_or(0)
    }

    /// Takes note of what stands at the head of a slot.
    pub(crate) fn scanned(&mut self, slot: usize, head: &[u8; LABEL_LEN], retired: bool, seen: &mut Seen) {
        let Layout { slots, slot_size, granule, blank, .. } = self.layout;
        seen.written |= retired;
        if head.iter().all(|byte| *byte == blank) {
            return;
        }
        let own = self.label(slot, Use::Formatting, 0, 0);
        let is_magic = head[..LABEL_MAGIC.len()] == LABEL_MAGIC;
        seen.traces |= is_magic;
        let is_torn = is_mixed(head, blank, &own.encode());
        if is_torn {
            seen.begun = slot + 1;
        }
        seen.written |= !is_torn;
        let is_ours = |label: &Label| (label.slot_size, label.granule, label.blank) == (slot_size, granule, blank);
        let is_of_slot = |label: &Label| is_ours(label) && (label.index, label.slots) == (own.index, slots);
        let almost = || if is_torn { None } else { mended(head, is_of_slot) };
        let Some(label) = Label::decode(head).or_else(almost) else {
            if is_magic && !is_torn && head[VERSION_AT] > LABEL_VERSION {
                seen.newer = Some(head[VERSION_AT]);
            }
            return;
        };
        if is_ours(&label) && label.index != own.index {
            seen.moved = Some((own.index, label.index));
            return;
        }
        if !is_of_slot(&label) {
            seen.other = Some(label);
            seen.others += 1;
            return;
        }
        seen.labels += 1;
        let is_open = label.used == Use::Formatting && !retired;
        if label.sequence >= self.sequence {
            (self.sequence, self.last) = (label.sequence, slot);
            seen.formatting = is_open.then_some(slot);
        }
        if let Some(worn) = label.worn {
            self.told = worn;
            // What was taken all the same is none.
            if let Some(worn) = self.slots_mut().get_mut(usize::from(worn)).filter(|slot| slot.state == State::Free) {
                worn.state = State::Worn;
            }
        }
        if let (Use::Object(object), false) = (label.used, retired) {
            self.put(slot, object, label.part, label.sequence);
        }
    }

    /// All heads were seen: what is a part of nothing is free.
    pub(crate) fn complete(&mut self) {
        for index in 0..self.len() {
            let Slot { id, sequence, part, state, .. } = self.slots()[index];
            let older =
                |first: &Slot| first.state == state && first.id == id && first.part == 0 && first.sequence < sequence;
            let rival = |other: &Slot| {
                other.state == state && other.id == id && other.part == part && other.sequence > sequence
            };
            let orphaned = part > 0 && !self.slots().iter().any(older);
            if let (State::Segment | State::Checkpoint, true) = (state, orphaned || self.slots().iter().any(rival)) {
                self.slots_mut()[index] = Slot::default();
            }
        }
    }

    fn put(&mut self, slot: usize, object: Object, part: u16, sequence: u32) {
        let (state, id) = match object {
            Object::Segment(id) => (State::Segment, id.value()),
            Object::Checkpoint(id) => (State::Checkpoint, id.value()),
            Object::Meta => return,
        };
        self.slots_mut()[slot] = Slot { id, sequence, part, state };
    }

    pub(crate) fn next(&self, after: Option<Object>) -> Option<Object> {
        self.objects().filter(|object| after.is_none_or(|after| *object > after)).min()
    }

    pub(crate) fn prev(&self, before: Option<Object>) -> Option<Object> {
        self.objects().filter(|object| before.is_none_or(|before| *object < before)).max()
    }

    fn objects(&self) -> impl Iterator<Item = Object> {
        self.slots().iter().filter(|slot| slot.part == 0).filter_map(Slot::object)
    }

    /// How many slots can be taken, as far as is known.
    pub(crate) fn free(&self) -> u32 {
        self.count(State::Free)
    }

    /// How many are worn, as far as is known.
    pub(crate) fn worn(&self) -> u32 {
        self.count(State::Worn) + self.count(State::Bad)
    }

    fn count(&self, state: State) -> u32 {
        self.slots().iter().map(|slot| u32::from(slot.state == state)).sum()
    }

    pub(crate) fn first_of(&self, object: Object) -> Option<usize> {
        self.slots().iter().position(|slot| slot.is_first_of(object))
    }

    /// Whether a slot may be taken for an object of `size` bytes; of one with no name, nothing is kept.
    pub(crate) fn may_create<E>(&self, object: Object, size: u64) -> Result<(), SlotError<E>> {
        if self.first_of(object).is_some() {
            return Err(SlotError::Exists { object });
        }
        if matches!(object, Object::Segment(_)) && size > self.layout.room().into() {
            return Err(SlotError::TooLarge { size, room: self.layout.room() });
        }
        self.may_take(object)
    }

    /// Whether a slot may be taken: a checkpoint leaves the last one, for the log to be taken over into. Where none is left for
    /// that, one that is said to be worn may be sound after all.
    pub(crate) fn may_take<E>(&self, object: Object) -> Result<(), SlotError<E>> {
        let least = if let Object::Checkpoint(_) = object { 2 } else { 0 };
        if self.free() < least { Err(SlotError::Full) } else { Ok(()) }
    }

    /// The next free slot of the ring, and the label that makes it that part of the object.
    pub(crate) fn pick<E>(&self, used: Use, part: u16) -> Result<(usize, Label), SlotError<E>> {
        let len = self.len();
        let mut ring = (1..=len).map(|step| (self.last + step) % len);
        let slot = ring.find(|slot| matches!(self.slots()[*slot].state, State::Free | State::Worn));
        let slot = slot.ok_or(SlotError::Full)?;
        let sequence = self.sequence.checked_add(1).ok_or(SlotError::Full)?;
        Ok((slot, self.label(slot, used, part, sequence)))
    }

    pub(crate) fn label(&self, slot: usize, used: Use, part: u16, sequence: u32) -> Label {
        let Layout { slots, slot_size, granule, blank, .. } = self.layout;
        let index = u16::try_from(slot).unwrap_or(u16::MAX);
        // One after the other, for a label has room for one.
        let mut others = (self.told + 1..slots).chain(0..=self.told).filter(|other| *other != index);
        let worn = others.find(|other| {
            let other = self.slots().get(usize::from(*other));
            other.is_some_and(|other| matches!(other.state, State::Worn | State::Bad))
        });
        Label { used, part, worn, sequence, index, slots, slot_size, granule, blank }
    }

    /// The slot was erased and labelled.
    pub(crate) fn taken(&mut self, slot: usize, label: &Label) {
        (self.sequence, self.last) = (label.sequence, slot);
        self.told = label.worn.unwrap_or(self.told);
        if let Use::Object(object) = label.used {
            self.put(slot, object, label.part, label.sequence);
        }
    }

    /// The slot could not be erased or labelled.
    pub(crate) fn bad(&mut self, slot: usize) {
        self.slots_mut()[slot] = Slot { state: State::Bad, ..Slot::default() };
        // It may have its label all the same: the one that is taken in its place has the higher number.
        (self.sequence, self.last) = (self.sequence.saturating_add(1), slot);
    }

    /// The object is gone, with all its parts.
    pub(crate) fn removed(&mut self, object: Object) {
        for slot in self.slots_mut() {
            if slot.object() == Some(object) {
                *slot = Slot::default();
            }
        }
    }

    /// The oldest object: formatting gives them up in this order, so that what an interruption leaves is never taken for
    /// an older state of the log.
    pub(crate) fn oldest(&self) -> Option<Object> {
        self.next(None)
    }

    /// Where the piece of `len` bytes at `at` begins, and how much of it stands together. `None`: the object has no such
    /// part yet, and may get it.
    pub(crate) fn place<E>(&self, object: Object, at: u64, len: usize) -> Result<Option<Place>, SlotError<E>> {
        if self.first_of(object).is_none() {
            return Err(SlotError::Missing { object });
        }
        // No medium has more bytes: a division of 64 bits would cost a small part half a kilobyte of code.
        let at = u32::try_from(at).map_err(|_| SlotError::Full)?;
        let room = self.layout.room();
        let part = u16::try_from(at / room).map_err(|_| SlotError::Full)?;
        if part > 0 && matches!(object, Object::Segment(_)) {
            return Ok(None);
        }
        let found = self.slots().iter().position(|slot| slot.part == part && slot.object() == Some(object));
        Ok(found.map(|slot| {
            let within = at % room;
            let len = len.min((room - within) as usize);
            Place { address: self.base(slot) + self.layout.label_area() + within, len }
        }))
    }

    /// The part of the object that holds the byte at `at`.
    pub(crate) fn part(&self, at: u64) -> u16 {
        u32::try_from(at).map_or(u16::MAX, |at| u16::try_from(at / self.layout.room()).unwrap_or(u16::MAX))
    }

    /// Bytes of the object's room.
    pub(crate) fn room_of(&self, object: Object) -> u64 {
        let parts = self.slots().iter().filter(|slot| slot.object() == Some(object)).count();
        parts as u64 * u64::from(self.layout.room())
    }
}

/// Every slot's room is erased before it is labelled.
pub(crate) const ROOM: Room = Room::Blank;

/// The pieces in which `len` bytes are read back.
pub(crate) fn pieces(len: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(PIECE).map(move |from| from..len.min(from + PIECE))
}

/// Bytes read back at once: on the stack.
pub(crate) const PIECE: usize = 32;

pub(crate) fn offset(address: u32, by: usize) -> u32 {
    address.saturating_add(u32::try_from(by).unwrap_or(u32::MAX))
}
