//! The device on slots, awaited: the lines of `device.rs` with a wait wherever the medium is touched.

use duralog_core::{AsyncDevice, Geometry, Object, OldWriter, Room};

use super::{
    OpenSlotsError, SlotError,
    label::{LABEL_LEN, Use},
    layout::Layout,
    medium::AsyncMedium,
    table::{PIECE, ROOM, Seen, Slot, Table, Verdict, offset, pieces},
};

/// [`Slots`](super::Slots), awaited: the same slots on an asynchronous medium.
///
/// A future that is dropped leaves the effect of its call unknown, as an error does.
#[derive(Debug)]
pub struct AsyncSlots<M, T> {
    medium: M,
    table: Table<T>,
    write_size: usize,
}

impl<M: AsyncMedium, T: AsRef<[Slot]> + AsMut<[Slot]>> AsyncSlots<M, T> {
    /// Opens a medium that was formatted with this layout. Reads the head of each slot, and writes nothing.
    ///
    /// # Errors
    /// [`OpenSlotsError`] tells apart a medium that is blank, one that holds something else, one whose formatting was
    /// interrupted, and one that was formatted with another layout.
    pub async fn open(medium: M, layout: Layout, table: T) -> Result<Self, OpenSlotsError<M::Error>> {
        let mut slots = Self::new(medium, layout, table)?;
        let mut seen = Seen::default();
        for slot in 0..slots.table.len() {
            let base = slots.table.base(slot);
            let mut head = [0; LABEL_LEN];
            slots.medium.read(base, &mut head).await.map_err(OpenSlotsError::Medium)?;
            let retired = slots.is_marked(base + layout.retired_at()).await.map_err(OpenSlotsError::Medium)?;
            slots.table.scanned(slot, &head, retired, &mut seen);
        }
        match seen.verdict() {
            Verdict::Formatted => {}
            Verdict::HalfErased => return Err(OpenSlotsError::HalfErased),
            Verdict::OtherLayout(label) => return Err(OpenSlotsError::other(&label)),
            Verdict::NoLabel => return Err(slots.what_else(seen).await?),
        }
        slots.table.complete();
        Ok(slots)
    }

    /// Formats the medium, whatever it holds: afterwards it holds no log. What was formatted with this layout before is
    /// only given up, slot by slot, and costs no erase; anything else is erased.
    ///
    /// # Errors
    /// The medium's. Interrupted, it is to be done again.
    pub async fn format(medium: M, layout: Layout, table: T) -> Result<Self, OpenSlotsError<M::Error>> {
        let mut slots = Self::new(medium, layout, table)?;
        let mut seen = Seen::default();
        for slot in 0..slots.table.len() {
            let base = slots.table.base(slot);
            let mut head = [0; LABEL_LEN];
            slots.medium.read(base, &mut head).await.map_err(OpenSlotsError::Medium)?;
            let retired = slots.is_marked(base + layout.retired_at()).await.map_err(OpenSlotsError::Medium)?;
            slots.table.scanned(slot, &head, retired, &mut seen);
        }
        slots.table.complete();
        if seen.verdict() == Verdict::Formatted {
            while let Some(object) = slots.table.oldest() {
                slots.remove(object).await.map_err(OpenSlotsError::Slot)?;
                slots.sync().await.map_err(OpenSlotsError::Slot)?;
            }
            return Ok(slots);
        }
        // The first slot says that formatting is under way, until all others are blank.
        let label = slots.table.label(0, Use::Formatting, 0, 0);
        slots.clear(0).await?;
        slots.fill(0, &label.encode()).await.map_err(OpenSlotsError::Medium)?;
        slots.medium.flush().await.map_err(OpenSlotsError::Medium)?;
        for slot in 1..slots.table.len() {
            slots.clear(slot).await?;
        }
        slots.fill(layout.retired_at(), &[]).await.map_err(OpenSlotsError::Medium)?;
        slots.medium.flush().await.map_err(OpenSlotsError::Medium)?;
        slots.table.taken(0, &label);
        Ok(slots)
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

    /// Bytes of an object's room on the medium.
    #[must_use]
    pub fn room_of(&self, object: Object) -> u64 {
        self.table.room_of(object)
    }

    /// Whether a mark was written there, even half.
    async fn is_marked(&mut self, at: u32) -> Result<bool, M::Error> {
        let len = self.table.layout.granule as usize;
        Ok(!self.is_filled(at, len, self.table.layout.blank).await?)
    }

    async fn is_filled(&mut self, at: u32, len: usize, byte: u8) -> Result<bool, M::Error> {
        for piece in pieces(len) {
            let mut bytes = [0; PIECE];
            let bytes = &mut bytes[..piece.len()];
            self.medium.read(offset(at, piece.start), bytes).await?;
            if bytes.iter().any(|other| *other != byte) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What a medium without a label is: blank, something else, or what an interrupted erase left of a log.
    async fn what_else(&mut self, mut seen: Seen) -> Result<OpenSlotsError<M::Error>, OpenSlotsError<M::Error>> {
        let layout = self.table.layout;
        for slot in 0..self.table.len() {
            let base = self.table.base(slot);
            for at in [0, layout.copy_offset] {
                let mut magic = [0; 4];
                let at = base + layout.label_area() + at;
                self.medium.read(at, &mut magic).await.map_err(OpenSlotsError::Medium)?;
                seen.traces |= magic == duralog_core::segment::SEGMENT_MAGIC;
            }
            if !seen.written {
                let len = layout.slot_size as usize;
                seen.written = !self.is_filled(base, len, layout.blank).await.map_err(OpenSlotsError::Medium)?;
            }
        }
        Ok(match (seen.written, seen.traces) {
            (false, _) => OpenSlotsError::Blank,
            (true, true) => OpenSlotsError::HalfErased,
            (true, false) => OpenSlotsError::Foreign,
        })
    }

    /// Erases a slot.
    async fn erase(&mut self, slot: usize) -> Result<bool, M::Error> {
        let base = self.table.base(slot);
        let Layout { slot_size, blank, verify, .. } = self.table.layout;
        let head = self.table.layout.erased_first(self.medium.info().erase_size);
        self.medium.erase(base, base + head, blank).await?;
        if head < slot_size {
            self.medium.erase(base + head, base + slot_size, blank).await?;
        }
        if verify { self.is_filled(base, slot_size as usize, blank).await } else { Ok(true) }
    }

    /// Erases a slot while formatting; one that cannot be erased is passed over when its turn comes.
    async fn clear(&mut self, slot: usize) -> Result<(), OpenSlotsError<M::Error>> {
        match self.erase(slot).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) if slot > 0 => {
                self.table.bad(slot);
                Ok(())
            }
            Ok(_) => Err(OpenSlotsError::Slot(SlotError::Verify { at: self.table.base(slot) })),
            Err(error) => Err(OpenSlotsError::Medium(error)),
        }
    }

    /// Writes `head` and fills up the granule; with no head it is a mark, which is anything but blank.
    async fn fill(&mut self, at: u32, head: &[u8]) -> Result<(), M::Error> {
        let Layout { granule, blank, .. } = self.table.layout;
        let fill = if head.is_empty() { !blank } else { blank };
        let len = head.len().max(1).next_multiple_of(granule as usize);
        if self.write_size <= PIECE {
            self.fill_by::<PIECE>(at, head, len, fill).await
        } else {
            self.fill_large(at, head, len, fill).await
        }
    }

    /// Media that write much at once have the stack for it.
    #[inline(never)]
    async fn fill_large(&mut self, at: u32, head: &[u8], len: usize, fill: u8) -> Result<(), M::Error> {
        self.fill_by::<4096>(at, head, len, fill).await
    }

    async fn fill_by<const N: usize>(&mut self, at: u32, head: &[u8], len: usize, fill: u8) -> Result<(), M::Error> {
        let step = self.write_size.max(N.min(len) / self.write_size * self.write_size);
        for from in (0..len).step_by(step) {
            let mut bytes = [fill; N];
            let bytes = &mut bytes[..step.min(len - from)];
            let head = head.get(from..).unwrap_or_default();
            let both = bytes.len().min(head.len());
            bytes[..both].copy_from_slice(&head[..both]);
            self.medium.write(offset(at, from), bytes).await?;
        }
        Ok(())
    }

    /// Takes the next slot of the ring that can be erased and labelled. The label comes last: without it the slot is free.
    async fn take(&mut self, object: Object, part: u16) -> Result<(), SlotError<M::Error>> {
        let mut failed = None;
        loop {
            let (slot, label) = match self.table.pick(Use::Object(object), part) {
                Ok(picked) => picked,
                Err(error) => return Err(failed.unwrap_or(error)),
            };
            match self.prepare(slot, &label.encode()).await {
                Ok(true) => {
                    self.table.taken(slot, &label);
                    return Ok(());
                }
                Ok(false) => failed = Some(SlotError::Verify { at: self.table.base(slot) }),
                Err(error) => failed = Some(SlotError::Medium(error)),
            }
            self.table.bad(slot);
        }
    }

    async fn prepare(&mut self, slot: usize, label: &[u8]) -> Result<bool, M::Error> {
        let base = self.table.base(slot);
        if !self.erase(slot).await? {
            return Ok(false);
        }
        self.fill(base, label).await?;
        self.reads_back(base, label).await
    }

    async fn reads_back(&mut self, at: u32, written: &[u8]) -> Result<bool, M::Error> {
        if !self.table.layout.verify {
            return Ok(true);
        }
        for piece in pieces(written.len()) {
            let mut bytes = [0; PIECE];
            let bytes = &mut bytes[..piece.len()];
            self.medium.read(offset(at, piece.start), bytes).await?;
            if *bytes != written[piece] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes a piece of an object.
    async fn put(&mut self, address: u32, bytes: &[u8]) -> Result<(), SlotError<M::Error>> {
        self.medium.write(address, bytes).await.map_err(SlotError::Medium)?;
        if self.reads_back(address, bytes).await.map_err(SlotError::Medium)? {
            Ok(())
        } else {
            Err(SlotError::Verify { at: address })
        }
    }
}

impl<M: AsyncMedium, T: AsRef<[Slot]> + AsMut<[Slot]>> AsyncDevice for AsyncSlots<M, T> {
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

    async fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, Self::Error> {
        Ok(self.table.next(after))
    }

    async fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, Self::Error> {
        Ok(self.table.prev(before))
    }

    async fn create(&mut self, object: Object, size: u64) -> Result<Room, Self::Error> {
        if object != Object::Meta {
            self.table.may_create(object, size)?;
            self.take(object, 0).await?;
        }
        Ok(ROOM)
    }

    async fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, Self::Error> {
        let Some(place) = self.table.place(object, at, buf.len())? else { return Ok(0) };
        self.medium.read(place.address, &mut buf[..place.len]).await.map_err(SlotError::Medium)?;
        Ok(place.len)
    }

    async fn write(&mut self, object: Object, mut at: u64, bytes: &[u8]) -> Result<(), Self::Error> {
        let mut rest = if object == Object::Meta { &[] } else { bytes };
        while !rest.is_empty() {
            let Some(place) = self.table.place(object, at, rest.len())? else {
                self.grow(object, at).await?;
                continue;
            };
            let (now, later) = rest.split_at(place.len);
            self.put(place.address, now).await?;
            at += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    async fn trim(&mut self, _: Object, _: u64) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn remove(&mut self, object: Object) -> Result<(), Self::Error> {
        if let Some(slot) = self.table.first_of(object) {
            let mark = self.table.base(slot) + self.table.layout.retired_at();
            let marked = self.fill(mark, &[]).await.is_ok() && matches!(self.is_marked(mark).await, Ok(true));
            // A power cut may have left a mark that shows nothing and takes no writing any more: an erase does it too.
            if !marked && !self.erase(slot).await.map_err(SlotError::Medium)? {
                return Err(SlotError::Verify { at: mark });
            }
            self.table.removed(object);
        }
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), Self::Error> {
        self.medium.flush().await.map_err(SlotError::Medium)
    }
}

impl<M: AsyncMedium, T: AsRef<[Slot]> + AsMut<[Slot]>> AsyncSlots<M, T> {
    /// Gives a checkpoint one more slot.
    async fn grow(&mut self, object: Object, at: u64) -> Result<(), SlotError<M::Error>> {
        if let Object::Segment(_) = object {
            return Err(SlotError::TooLarge { size: at, room: self.table.layout.room() });
        }
        self.table.may_take(object)?;
        self.take(object, self.table.part(at)).await
    }
}
