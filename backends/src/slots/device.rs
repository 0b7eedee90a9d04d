//! The device on slots, blocking.

use duralog_core::{Device, Geometry, Object, OldWriter, Room};

use super::{
    OpenSlotsError, SlotError,
    label::{LABEL_LEN, Use},
    layout::Layout,
    medium::Medium,
    table::{PIECE, ROOM, Seen, Slot, Table, offset, pieces},
};

/// A log's device on a medium without names: a fixed number of slots, used in a ring.
///
/// `T` is memory for the table of slots, 16 bytes each: an array, a slice that is lent, or what else gives slots.
#[derive(Debug)]
pub struct Slots<M, T> {
    medium: M,
    table: Table<T>,
    write_size: usize,
}

impl<M: Medium, T: AsRef<[Slot]> + AsMut<[Slot]>> Slots<M, T> {
    /// Opens a medium that was formatted with this layout. Reads the head of each slot, and writes nothing. A medium
    /// that is lent (`&mut medium`) is there again after an error, to be formatted or looked at.
    ///
    /// # Errors
    /// [`OpenSlotsError`] tells apart a medium that is blank, one that holds something else, one whose formatting was
    /// interrupted, and one that was formatted with another layout, from another place or by a newer version.
    pub fn open(medium: M, layout: Layout, table: T) -> Result<Self, OpenSlotsError<M::Error>> {
        let mut slots = Self::new(medium, layout, table)?;
        let (mut seen, read) = slots.scan();
        read.map_err(OpenSlotsError::Medium)?;
        if !seen.is_formatted()? {
            slots.look_further(&mut seen)?;
            return Err(seen.without_label());
        }
        slots.table.complete();
        Ok(slots)
    }

    /// Formats the medium, whatever it holds: afterwards it holds no log. What was formatted with this layout before is
    /// only given up, slot by slot, and costs no erase; nor does a medium that is blank. Anything else is erased, and so is
    /// a medium on which the head of a slot cannot be read.
    ///
    /// # Errors
    /// The medium's. Interrupted, it is to be done again.
    pub fn format(medium: M, layout: Layout, table: T) -> Result<Self, OpenSlotsError<M::Error>> {
        let mut slots = Self::new(medium, layout, table)?;
        let (mut seen, read) = slots.scan();
        slots.table.complete();
        if matches!(seen.is_formatted::<M::Error>(), Ok(true)) {
            while let Some(object) = slots.table.oldest() {
                slots.remove(object).map_err(OpenSlotsError::Slot)?;
                slots.sync().map_err(OpenSlotsError::Slot)?;
            }
            if read.is_ok() {
                return Ok(slots);
            }
        }
        if read.is_ok() {
            slots.look_further(&mut seen)?;
        } else {
            seen.written = true;
        }
        slots.begin(&seen)?;
        Ok(slots)
    }

    /// Formats a medium that is not formatted. The first slot that takes it says that formatting is under way, until
    /// nothing of what was there before is left.
    fn begin(&mut self, seen: &Seen) -> Result<(), OpenSlotsError<M::Error>> {
        let mut failed = Ok(false);
        let mut first = seen.formatted_from();
        // Where nothing is erased, no power cut leaves anything but blank and labels that are torn.
        for mut to_erase in [seen.written, true] {
            let from = if to_erase { first } else { first.max(seen.blank_from()) };
            for slot in from..self.table.len() {
                let label = self.table.label(slot, Use::Formatting, 0, 0);
                let ready = if to_erase { self.erase(slot) } else { self.is_blank(slot) };
                failed = match ready {
                    Ok(true) => self.announce(slot, &label.encode()),
                    other => other,
                };
                if !matches!(failed, Ok(true)) {
                    continue;
                }
                // A slot that cannot be erased is passed over when its turn comes.
                for other in (0..self.table.len()).filter(|other| to_erase && *other != slot) {
                    let _ = self.erase(other);
                }
                (first, to_erase) = (slot, false);
                if self.retire(slot) {
                    self.medium.flush().map_err(OpenSlotsError::Medium)?;
                    self.table.taken(slot, &label);
                    return Ok(());
                }
            }
        }
        Err(match failed {
            Err(error) => OpenSlotsError::Medium(error),
            Ok(_) => OpenSlotsError::Slot(SlotError::Verify { at: self.table.base(first) }),
        })
    }

    /// Reads the heads of all slots, and of those that cannot be read why one cannot.
    fn scan(&mut self) -> (Seen, Result<(), M::Error>) {
        let (mut seen, mut read) = (Seen::default(), Ok(()));
        for slot in 0..self.table.len() {
            match self.head(slot) {
                Ok((head, retired)) => self.table.scanned(slot, &head, retired, &mut seen),
                Err(error) => read = Err(error),
            }
        }
        (seen, read)
    }

    /// What stands where a slot's label does, and whether the slot was given up.
    fn head(&mut self, slot: usize) -> Result<([u8; LABEL_LEN], bool), M::Error> {
        let base = self.table.base(slot);
        let mut head = [0; LABEL_LEN];
        self.medium.read(base, &mut head)?;
        Ok((head, self.is_marked(base + self.table.layout.retired_at())?))
    }

    fn new(medium: M, layout: Layout, table: T) -> Result<Self, OpenSlotsError<M::Error>> {
        let info = medium.info();
        layout.validate(info, table.as_ref().len()).map_err(OpenSlotsError::Layout)?;
        let write_size = info.write_size.max(1) as usize;
        Ok(Self { medium, table: Table::new(layout, table), write_size })
    }

    /// How the medium is divided.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.table.layout
    }

    /// The medium.
    #[must_use]
    pub fn medium(&self) -> &M {
        &self.medium
    }

    /// The medium, given back.
    #[must_use]
    pub fn into_medium(self) -> M {
        self.medium
    }

    /// How many slots are free.
    #[must_use]
    pub fn free_slots(&self) -> u32 {
        self.table.free()
    }

    /// How many slots could not be erased or labelled when their turn came, as far as that is known: what was seen since the
    /// medium was opened, and what the labels say of before. They are none of the free ones. It grows as the medium wears out,
    /// and where all of it refuses to be written, it is no wear.
    #[must_use]
    pub fn worn_slots(&self) -> u32 {
        self.table.worn()
    }

    /// Bytes of an object's room on the medium.
    #[must_use]
    pub fn room_of(&self, object: Object) -> u64 {
        self.table.room_of(object)
    }

    /// Whether a mark was written there, even half.
    fn is_marked(&mut self, at: u32) -> Result<bool, M::Error> {
        let len = self.table.layout.granule as usize;
        Ok(!self.medium.is_filled(at, len, self.table.layout.blank)?)
    }

    /// Looks at what stands behind the heads of a medium without a label: whether there is anything, and whether of a
    /// log.
    fn look_further(&mut self, seen: &mut Seen) -> Result<(), OpenSlotsError<M::Error>> {
        let Layout { slot_size, copy_offset, blank, .. } = self.table.layout;
        for slot in 0..self.table.len() {
            let base = self.table.base(slot);
            for at in [0, copy_offset] {
                let mut magic = [0; 4];
                let at = base + self.table.layout.label_area() + at;
                self.medium.read(at, &mut magic).map_err(OpenSlotsError::Medium)?;
                seen.traces |= magic == duralog_core::segment::SEGMENT_MAGIC;
            }
            if !seen.written {
                let (at, len) = (offset(base, LABEL_LEN), slot_size as usize - LABEL_LEN);
                seen.written = !self.medium.is_filled(at, len, blank).map_err(OpenSlotsError::Medium)?;
            }
        }
        Ok(())
    }

    /// Erases a slot, its label first: a cache that loses the rest must not leave the label without the mark that it was given up.
    fn erase(&mut self, slot: usize) -> Result<bool, M::Error> {
        let base = self.table.base(slot);
        let Layout { slot_size, blank, verify, .. } = self.table.layout;
        let head = self.table.layout.erased_first(self.medium.info().erase_size);
        self.medium.erase(base, base + head, blank)?;
        if head < slot_size {
            self.medium.erase(base + head, base + slot_size, blank)?;
        }
        if verify { self.medium.is_filled(base, slot_size as usize, blank) } else { Ok(true) }
    }

    /// Writes `head` and fills up the granule; with no head it is a mark, which is anything but blank.
    fn fill(&mut self, at: u32, head: &[u8]) -> Result<(), M::Error> {
        let Layout { granule, blank, .. } = self.table.layout;
        let fill = if head.is_empty() { !blank } else { blank };
        let len = head.len().max(1).next_multiple_of(granule as usize);
        if self.write_size <= PIECE {
            self.fill_by::<PIECE>(at, head, len, fill)
        } else {
            self.fill_large(at, head, len, fill)
        }
    }

    /// Media that write much at once have the stack for it.
    #[inline(never)]
    fn fill_large(&mut self, at: u32, head: &[u8], len: usize, fill: u8) -> Result<(), M::Error> {
        self.fill_by::<4096>(at, head, len, fill)
    }

    fn fill_by<const N: usize>(&mut self, at: u32, head: &[u8], len: usize, fill: u8) -> Result<(), M::Error> {
        let step = self.write_size.max(N.min(len) / self.write_size * self.write_size);
        for from in (0..len).step_by(step) {
            let mut bytes = [fill; N];
            let bytes = &mut bytes[..step.min(len - from)];
            let head = head.get(from..).unwrap_or_default();
            let both = bytes.len().min(head.len());
            bytes[..both].copy_from_slice(&head[..both]);
            self.medium.write(offset(at, from), bytes)?;
        }
        Ok(())
    }

    /// Takes the next slot of the ring that can be erased and labelled. The label comes last: without it the slot is free.
    fn take(&mut self, object: Object, part: u16) -> Result<(), SlotError<M::Error>> {
        let keeps_last = self.table.free() > 1;
        loop {
            // A slot that is worn costs the log what one that is taken does: not the last one.
            let is_last = keeps_last && self.table.free() == 1;
            let picked = if is_last { Err(SlotError::Full) } else { self.table.pick(Use::Object(object), part) };
            let (slot, label) = match picked {
                Ok(picked) => picked,
                Err(error) => {
                    // A medium that is gone says so: it is none that is full.
                    self.is_blank(0).map_err(SlotError::Medium)?;
                    return Err(error);
                }
            };
            if let Ok(true) = self.prepare(slot, &label.encode()) {
                self.table.taken(slot, &label);
                return Ok(());
            }
            self.table.bad(slot);
        }
    }

    fn prepare(&mut self, slot: usize, label: &[u8]) -> Result<bool, M::Error> {
        if !self.erase(slot)? {
            return Ok(false);
        }
        let labelled = self.labelled(slot, label);
        // A label that failed may be there all the same, and must not count.
        if !matches!(labelled, Ok(true)) {
            self.retire(slot);
        }
        labelled
    }

    /// Labels a slot that is blank; whether the label reads back.
    fn labelled(&mut self, slot: usize, label: &[u8]) -> Result<bool, M::Error> {
        let base = self.table.base(slot);
        self.fill(base, label)?;
        self.reads_back(base, label)
    }

    /// Whether nothing stands where the label does.
    fn is_blank(&mut self, slot: usize) -> Result<bool, M::Error> {
        self.medium.is_filled(self.table.base(slot), LABEL_LEN, self.table.layout.blank)
    }

    /// Says in a blank slot that formatting is under way; whether it does.
    fn announce(&mut self, slot: usize, label: &[u8]) -> Result<bool, M::Error> {
        let announced = self.labelled(slot, label)?;
        self.medium.flush()?;
        Ok(announced)
    }

    /// Writes the mark of a slot that was given up; whether it shows.
    fn retire(&mut self, slot: usize) -> bool {
        let mark = self.table.base(slot) + self.table.layout.retired_at();
        self.fill(mark, &[]).is_ok() && matches!(self.is_marked(mark), Ok(true))
    }

    fn reads_back(&mut self, at: u32, written: &[u8]) -> Result<bool, M::Error> {
        if !self.table.layout.verify {
            return Ok(true);
        }
        for piece in pieces(written.len()) {
            let mut bytes = [0; PIECE];
            let bytes = &mut bytes[..piece.len()];
            self.medium.read(offset(at, piece.start), bytes)?;
            if *bytes != written[piece] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes a piece of an object.
    fn put(&mut self, address: u32, bytes: &[u8]) -> Result<(), SlotError<M::Error>> {
        self.medium.write(address, bytes).map_err(SlotError::Medium)?;
        if self.reads_back(address, bytes).map_err(SlotError::Medium)? {
            Ok(())
        } else {
            Err(SlotError::Verify { at: address })
        }
    }
}

impl<M: Medium, T: AsRef<[Slot]> + AsMut<[Slot]>> Device for Slots<M, T> {
    type Error = SlotError<M::Error>;

    fn geometry(&self) -> Geometry {
        self.table.layout.geometry()
    }

    /// Whoever holds the medium has it alone.
    fn old_writer(&self) -> OldWriter {
        OldWriter::Gone
    }

    fn free(&self) -> Option<u32> {
        Some(self.table.free())
    }

    fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, Self::Error> {
        Ok(self.table.next(after))
    }

    fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, Self::Error> {
        Ok(self.table.prev(before))
    }

    fn create(&mut self, object: Object, size: u64) -> Result<Room, Self::Error> {
        if object != Object::Meta {
            self.table.may_create(object, size)?;
            self.take(object, 0)?;
        }
        Ok(ROOM)
    }

    fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, Self::Error> {
        let Some(place) = self.table.place(object, at, buf.len())? else { return Ok(0) };
        self.medium.read(place.address, &mut buf[..place.len]).map_err(SlotError::Medium)?;
        Ok(place.len)
    }

    fn write(&mut self, object: Object, mut at: u64, bytes: &[u8]) -> Result<(), Self::Error> {
        let mut rest = if object == Object::Meta { &[] } else { bytes };
        while !rest.is_empty() {
            let Some(place) = self.table.place(object, at, rest.len())? else {
                self.grow(object, at)?;
                continue;
            };
            let (now, later) = rest.split_at(place.len);
            self.put(place.address, now)?;
            at += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    fn trim(&mut self, _: Object, _: u64) -> Result<(), Self::Error> {
        Ok(())
    }

    fn remove(&mut self, object: Object) -> Result<(), Self::Error> {
        if let Some(slot) = self.table.first_of(object) {
            // A power cut may have left a mark that shows nothing and takes no writing any more: an erase does it too.
            if !self.retire(slot) && !self.erase(slot).map_err(SlotError::Medium)? {
                return Err(SlotError::Verify { at: self.table.base(slot) + self.table.layout.retired_at() });
            }
            self.table.removed(object);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Self::Error> {
        self.medium.flush().map_err(SlotError::Medium)
    }
}

impl<M: Medium, T: AsRef<[Slot]> + AsMut<[Slot]>> Slots<M, T> {
    /// Gives a checkpoint one more slot.
    fn grow(&mut self, object: Object, at: u64) -> Result<(), SlotError<M::Error>> {
        if let Object::Segment(_) = object {
            return Err(SlotError::TooLarge { size: at, room: self.table.layout.room() });
        }
        self.table.may_take(object)?;
        self.take(object, self.table.part(at))
    }
}
