//! Marks that are staged for what they say: the durable LSN of a log that falls idle, the low-water mark, the
//! application slot, the seal.

use super::{StageError, Writer, stage::Room};
use crate::{
    Lsn,
    drive::Scratch,
    frame::{Mark, Slot, frame_marks},
};

/// What marks say that holds once they are durable.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Said {
    pub(super) low_water: Option<(Lsn, bool)>,
    pub(super) slot: Option<Slot>,
}

impl Said {
    /// Adds what was said later.
    pub(super) fn add(&mut self, later: Self) {
        self.low_water = later.low_water.or(self.low_water);
        if later.slot.is_some() {
            self.slot = later.slot;
        }
    }
}

impl Writer {
    /// Stages a durable mark, so that recovery can prove how far the log was durable: for a log that falls idle.
    ///
    /// # Errors
    /// As [`stage`](Self::stage).
    pub fn stage_durable_mark(&mut self, buf: &mut (impl Scratch + ?Sized), now: u64) -> Result<(), StageError> {
        self.stage_mark(buf, now, Mark::Durable)
    }

    /// Stages a low-water mark: everything below `lsn` is given up, and `covered` says whether a checkpoint holds it.
    /// A mark that says no more than the one that stands does nothing.
    ///
    /// Segments may be removed only when it is durable: `Retire` does. Where this writer has no room left for a mark
    /// ([`StageError::NeedsSegment`]), the header of the next segment says it.
    ///
    /// # Errors
    /// As [`stage`](Self::stage).
    pub fn stage_low_water(
        &mut self,
        buf: &mut (impl Scratch + ?Sized),
        now: u64,
        lsn: Lsn,
        covered: bool,
    ) -> Result<(), StageError> {
        let said = [&self.staged_marks, &self.flying_marks, &self.written_marks];
        let said = said.into_iter().filter_map(|said| said.low_water).map(|(lsn, _)| lsn).max();
        let stands = self.low_water.max(said.unwrap_or_default());
        if lsn == stands && self.is_in_a_cache() {
            // A cache alone may hold it: the header of the next segment says it.
            return Err(StageError::NeedsSegment);
        }
        if lsn < stands || (lsn == stands && !(covered && self.cover_due(lsn))) {
            return Ok(());
        }
        // What is known of what was given up before stays true.
        let covered = covered || (lsn == self.low_water() && self.is_covered());
        let staged = self.stage_mark(buf, now, Mark::LowWater { lsn, covered });
        match staged {
            Ok(()) => self.staged_marks.low_water = Some((lsn, covered)),
            Err(StageError::NeedsSegment) => self.low_water_wanted = Some((lsn, covered)),
            Err(_) => {}
        }
        staged
    }

    /// Stages the low-water mark that stands once more, if [`cover_due`](Self::cover_due): a checkpoint with this replay floor is
    /// durable and named by its entry, and holds what was given up without one. Not before that: of a write that is refused,
    /// the mark may stay on the medium without the entry.
    ///
    /// # Errors
    /// As [`stage_low_water`](Self::stage_low_water).
    pub fn stage_cover(&mut self, buf: &mut (impl Scratch + ?Sized), now: u64, floor: Lsn) -> Result<(), StageError> {
        if !self.cover_due(floor) {
            return Ok(());
        }
        self.stage_low_water(buf, now, self.low_water(), true)
    }

    /// Stages the application slot: a few bytes that belong to the application and that every segment repeats. The
    /// newest win.
    ///
    /// # Errors
    /// As [`stage`](Self::stage); [`StageError::TooLarge`] beyond 64 bytes.
    pub fn stage_slot(&mut self, buf: &mut (impl Scratch + ?Sized), now: u64, bytes: &[u8]) -> Result<(), StageError> {
        let Some(slot) = Slot::of(bytes) else {
            return Err(StageError::TooLarge { len: bytes.len() as u64, max: 64 });
        };
        self.stage_mark(buf, now, Mark::Slot(bytes))?;
        self.staged_marks.slot = Some(slot);
        Ok(())
    }

    /// Stages the seal of a clean close. Everything must be durable.
    ///
    /// # Errors
    /// As [`stage`](Self::stage); [`StageError::NeedsCommit`] if something is not durable yet.
    pub fn stage_seal(&mut self, buf: &mut (impl Scratch + ?Sized), now: u64) -> Result<(), StageError> {
        if self.stage.len > 0 || self.unsynced > 0 || !self.is_all_durable() {
            return Err(StageError::NeedsCommit);
        }
        self.stage_mark(buf, now, Mark::Seal)
    }

    /// Stages a mark. It may use the room that entries leave free at the end of a segment.
    ///
    /// # Errors
    /// As [`stage`](Self::stage).
    fn stage_mark(&mut self, buf: &mut (impl Scratch + ?Sized), now: u64, mark: Mark<'_>) -> Result<(), StageError> {
        let len = mark.frames_len();
        self.open_group(buf, now, len, Room::Marks)?;
        let frames = &mut buf.bytes()[self.stage.len as usize..(self.stage.len + len) as usize];
        let lsn = self.next.previous();
        let durable = self.durable.min(lsn);
        frame_marks(&self.salts, frames, self.at + self.stage.len, lsn, self.time, durable, mark);
        self.stage.len += len;
        self.stage.claim = durable;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Durability,
        reader::tests::{log, plain},
        writer::tests::{Writing, options},
    };

    #[test]
    fn a_seal_waits_until_nothing_is_staged_and_all_that_was_written_is_durable() {
        let seal = |writing: &mut Writing| writing.writer.stage_seal(&mut writing.medium.buf[..], 1);
        let mut writing = Writing::begun(options(16));
        writing.append(2, Durability::Durable);
        writing.writer.stage_durable_mark(&mut writing.medium.buf[..], 1).unwrap();
        assert_eq!(seal(&mut writing), Err(StageError::NeedsCommit), "a mark is staged");
        writing.commit(Durability::Os);
        assert_eq!(seal(&mut writing), Err(StageError::NeedsCommit), "a mark is not synced");
        writing.commit(Durability::Durable);
        assert_eq!(seal(&mut writing), Ok(()));
        let mut writing = Writing::over(&log(&[&plain(1..=4)]), options(16));
        assert_eq!(seal(&mut writing), Err(StageError::NeedsCommit), "a cache alone may hold what was found");
    }
}
