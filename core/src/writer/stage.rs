//! Staging: entries are framed into a buffer, in memory, and take their LSNs there.

use core::fmt;

use super::{Payload, State, Writer};
use crate::{
    CheckpointId, Lsn,
    drive::Scratch,
    frame::{FRAME_HEADER_LEN, FRAME_OVERHEAD, FRAME_TRAILER_LEN, FrameType, Mark, TRANSACTION_ID_LEN},
    operation::{Code, OperationRef},
    segment::{LONGEST_LEAD, align_up},
};

/// Why nothing was staged. The writer is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum StageError {
    /// The entry or batch is larger than the write limit allows.
    TooLarge {
        /// Bytes of the frames that it would take.
        len: u64,
        /// The most that they may take.
        max: u32,
    },
    /// Commit what is staged, with a sync, and begin a segment ([`Writer::plan`]), then stage again.
    NeedsSegment,
    /// Commit what is staged, then stage again.
    NeedsCommit,
    /// The buffer is too small and did not grow.
    BufferTooSmall {
        /// Bytes that it would take.
        needed: usize,
    },
    /// The code is one that only the log itself writes, or none at all.
    Reserved {
        /// That code.
        code: u8,
    },
    /// The transaction is not open.
    NoTransaction,
    /// As many transactions are open as the log allows.
    TooManyTransactions {
        /// That many.
        max: u8,
    },
    /// An earlier write or sync failed, or was abandoned: reopen the log.
    Poisoned,
    /// No LSN is left.
    Exhausted,
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { len, max } => {
                write!(
                    f,
                    "{len} bytes of frames are more than the {max} that one entry or batch may take: split it, or raise the write limit"
                )
            }
            Self::NeedsSegment => f.write_str(
                "a segment has to be begun first: commit what is staged with a sync, plan and begin one, stage again",
            ),
            Self::NeedsCommit => f.write_str("what is staged or not synced has to be committed first"),
            Self::BufferTooSmall { needed } => write!(f, "the buffer is too small: {needed} bytes are needed"),
            Self::Reserved { code } => {
                write!(f, "entries of type {code} are the log's own, or none: use a type that is free to append")
            }
            Self::NoTransaction => f.write_str("the transaction is not open: it was ended, or begun by another writer"),
            Self::TooManyTransactions { max } => {
                write!(f, "{max} transactions are open already: end one, or raise their number for new segments")
            }
            Self::Poisoned => f.write_str("an earlier write or sync failed or was abandoned: reopen the log"),
            Self::Exhausted => f.write_str("no LSN, epoch or segment id is left: begin a new log"),
        }
    }
}

impl core::error::Error for StageError {}

/// Frames staged and not yet taken.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stage {
    /// Bytes, the lead included.
    pub(super) len: u32,
    /// Bytes at the front for the marks that lead the write.
    pub(super) lead: u32,
    /// Right behind the last entry, from the beginning of the group.
    pub(super) behind: Option<u32>,
    /// The timestamp of the lead: that of the group's first frame.
    pub(super) time: u64,
    /// The last entry before the group.
    pub(super) before: Lsn,
    /// The durable LSN that a mark staged for itself carries.
    pub(super) claim: Lsn,
    /// Whether the mark that leads it is an epoch mark.
    pub(super) epoch: bool,
}

/// Which room a frame may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// All but what is kept for marks.
    Entries,
    /// All.
    Marks,
}

impl Writer {
    /// The most bytes that the frames of one entry or batch may take: what the write limit leaves to them behind the mark
    /// that leads a write, and before the blank frame header that ends it in recycled room.
    #[must_use]
    pub fn batch_max(&self) -> u32 {
        let geometry = &self.options.geometry;
        (self.options.write_limit & !(geometry.granule - 1)) - geometry.stop_len() - LONGEST_LEAD
    }

    /// Stages entries: one, or a batch that a crash keeps whole or not at all. Each takes the next LSN.
    ///
    /// `now` is the time in microseconds since the Unix epoch; a clock that runs backwards is held. Returns the first
    /// and the last LSN. Nothing is durable, nor even written, before a [`Commit`](crate::Commit) of the group is done.
    ///
    /// # Errors
    /// [`StageError`]; nothing was staged then.
    ///
    /// # Panics
    /// If there are no items.
    pub fn stage<P: Payload>(
        &mut self,
        buf: &mut (impl Scratch + ?Sized),
        now: u64,
        transaction: Option<u64>,
        items: &[P],
    ) -> Result<(Lsn, Lsn), StageError> {
        assert!(!items.is_empty(), "a batch of nothing is not staged");
        let id_len = if transaction.is_some() { TRANSACTION_ID_LEN } else { 0 };
        let len = items.iter().map(|item| u64::from(FRAME_OVERHEAD) + (id_len + item.len()) as u64).sum();
        let max = self.batch_max();
        let Some(len) = u32::try_from(len).ok().filter(|len| *len <= max) else {
            return Err(StageError::TooLarge { len, max });
        };
        if let Some(item) = items.iter().find(|item| !Code::from_u8(item.code()).is_some_and(Code::is_free)) {
            return Err(StageError::Reserved { code: item.code() });
        }
        if transaction.is_some_and(|id| !self.not_ended(id).is_some_and(|transaction| transaction.is_open())) {
            return Err(StageError::NoTransaction);
        }
        self.stage_rollbacks(buf, now)?;
        let last = self.next.advanced(items.len() as u64 - 1).ok().filter(|last| *last < Lsn::MAX);
        let last = last.ok_or(StageError::Exhausted)?;
        self.open_group(buf, now, len, Room::Entries)?;
        let first = self.next;
        self.frame_entries(buf, transaction, items);
        debug_assert_eq!(self.next.previous(), last);
        if let Some(open) = transaction.and_then(|id| self.not_ended(id)) {
            open.last = last;
        }
        Ok((first, last))
    }

    /// Stages the entry that says that a checkpoint is durable, and returns its LSN.
    ///
    /// # Errors
    /// As [`stage`](Self::stage).
    pub fn stage_checkpoint(
        &mut self,
        buf: &mut (impl Scratch + ?Sized),
        now: u64,
        lsn: Lsn,
        checkpoint_id: CheckpointId,
    ) -> Result<Lsn, StageError> {
        self.stage_rollbacks(buf, now)?;
        self.stage_control(buf, now, None, OperationRef::Checkpoint { lsn, checkpoint_id })
    }

    /// Frames entries into room that was made for them.
    pub(super) fn frame_entries<P: Payload>(
        &mut self,
        buf: &mut (impl Scratch + ?Sized),
        transaction: Option<u64>,
        items: &[P],
    ) {
        let id_len = if transaction.is_some() { TRANSACTION_ID_LEN } else { 0 };
        // A payload is the program's: one that panics leaves nothing staged.
        let (mut len, mut next) = (self.stage.len, self.next);
        for (index, item) in items.iter().enumerate() {
            let mut kind = FrameType::new(item.code());
            if transaction.is_some() {
                kind = kind.in_transaction();
            }
            if index + 1 < items.len() {
                kind = kind.batch_continues();
            }
            let at = len as usize;
            let payload_at = at + FRAME_HEADER_LEN;
            let end = payload_at + id_len + item.len() + FRAME_TRAILER_LEN;
            let frame = &mut buf.bytes()[at..end];
            let payload = &mut frame[FRAME_HEADER_LEN..end - at - FRAME_TRAILER_LEN];
            if let Some(id) = transaction {
                payload[..TRANSACTION_ID_LEN].copy_from_slice(&id.to_le_bytes());
            }
            item.write(&mut payload[id_len..]);
            self.salts.complete(frame, self.at + len, next, self.time, kind);
            len = u32::try_from(end).unwrap_or(u32::MAX);
            next = next.next_or_max();
        }
        (self.stage.len, self.stage.behind, self.next) = (len, Some(len), next);
    }

    /// Stages an entry of the log's own.
    pub(super) fn stage_control<P: Payload>(
        &mut self,
        buf: &mut (impl Scratch + ?Sized),
        now: u64,
        transaction: Option<u64>,
        operation: P,
    ) -> Result<Lsn, StageError> {
        let id_len = if transaction.is_some() { TRANSACTION_ID_LEN } else { 0 };
        let len = FRAME_OVERHEAD + u32::try_from(id_len + operation.len()).unwrap_or(u32::MAX);
        let lsn = self.next;
        lsn.next().map_err(|_| StageError::Exhausted)?;
        self.open_group(buf, now, len, Room::Entries)?;
        self.frame_entries(buf, transaction, &[operation]);
        Ok(lsn)
    }

    /// Makes sure that `len` more bytes can be staged, and begins a group if none is begun.
    pub(super) fn open_group(
        &mut self,
        buf: &mut (impl Scratch + ?Sized),
        now: u64,
        len: u32,
        room: Room,
    ) -> Result<(), StageError> {
        match self.state {
            State::Poisoned => return Err(StageError::Poisoned),
            State::Ready => {}
            _ if room == Room::Marks && self.takes_marks() => {}
            State::NeedsSegment | State::Beginning | State::Continuing => return Err(StageError::NeedsSegment),
        }
        let granule = self.options.geometry.granule;
        let fresh = self.stage.len == 0;
        let mut stage = self.stage;
        if fresh {
            stage = self.lead(room);
            stage.time = self.time.max(now);
        }
        let end = align_up(stage.len + len, granule);
        let behind_stop = end + self.segment.stop_at(self.at.saturating_add(end));
        if behind_stop > self.options.write_limit {
            return Err(StageError::NeedsCommit);
        }
        let kept = if room == Room::Entries { self.options.geometry.reserve() } else { 0 };
        if self.at.saturating_add(end) > self.segment.segment_size.saturating_sub(kept) {
            return Err(StageError::NeedsSegment);
        }
        let needed = behind_stop as usize;
        if buf.bytes().len() < needed {
            buf.grow(needed);
        }
        if buf.bytes().len() < needed {
            return Err(if fresh { StageError::BufferTooSmall { needed } } else { StageError::NeedsCommit });
        }
        self.time = self.time.max(now);
        self.stage = stage;
        Ok(())
    }

    /// The marks that will lead the group begun now: their place is kept, they are framed when the group is taken.
    fn lead(&self, room: Room) -> Stage {
        let mut stage = Stage { before: self.next.previous(), epoch: self.epoch_due, ..Stage::default() };
        // A mark by itself leads its own write, unless the epoch has to go before it.
        if self.epoch_due {
            stage.lead += Mark::Epoch(0).frame_len();
        } else if room == Room::Entries {
            stage.lead += Mark::Durable.frame_len();
        }
        stage.len = stage.lead;
        stage
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{string::ToString, vec};

    use super::*;
    use crate::{
        CheckpointId, Durability,
        device::Room as Found,
        writer::{
            WriterOptions,
            tests::{Writing, options},
        },
    };

    /// A buffer that is long enough.
    struct Enough<'a>(&'a mut [u8]);

    impl Scratch for Enough<'_> {
        fn bytes(&mut self) -> &mut [u8] {
            self.0
        }

        fn grow(&mut self, needed: usize) {
            panic!("{} bytes are enough for {needed}", self.0.len());
        }
    }

    #[test]
    fn the_longest_entry_fits_behind_the_longest_mark_in_recycled_room_and_one_byte_more_is_too_much() {
        for (granule, write_limit) in [(1, 1001), (16, 1000), (16, 1008), (64, 1000), (64, 1023)] {
            let mut writing = Writing::new(WriterOptions { write_limit, ..options(granule) });
            writing.medium.room = Found::Recycled;
            writing.begin();
            let max = writing.writer.batch_max();
            let payload = vec![7; (max - FRAME_OVERHEAD) as usize + 1];
            // A write is whole granules, and no longer than that.
            let room = write_limit / granule * granule;
            let mut buf = Enough(&mut writing.medium.buf[..room as usize]);
            let staged = writing.writer.stage(&mut buf, 1, None, &[&payload[..]]);
            assert_eq!(staged, Err(StageError::TooLarge { len: u64::from(max) + 1, max }));
            let staged = writing.writer.stage(&mut buf, 1, None, &[&payload[1..]]);
            assert_eq!(staged, Ok((Lsn::FIRST, Lsn::FIRST)), "granules of {granule}, {write_limit}");
            assert_eq!(writing.commit(Durability::Durable).len(), room);
        }
    }

    #[test]
    fn an_entry_of_the_log_s_own_takes_a_buffer_with_room_for_all_of_it() {
        let mut writing = Writing::begun(options(1));
        let Writing { writer, medium } = &mut writing;
        let refused = writer.stage_checkpoint(&mut [0; 0], 1, Lsn::ZERO, CheckpointId::new(1));
        let Err(StageError::BufferTooSmall { needed }) = refused else { panic!("{refused:?}") };
        let shorter = writer.stage_checkpoint(&mut medium.buf[..needed - 1], 1, Lsn::ZERO, CheckpointId::new(1));
        assert_eq!(shorter, Err(StageError::BufferTooSmall { needed }));
        let staged = writer.stage_checkpoint(&mut medium.buf[..needed], 1, Lsn::ZERO, CheckpointId::new(1));
        assert_eq!(staged, Ok(Lsn::FIRST));
        assert_eq!(writing.commit(Durability::Durable).len() as usize, needed);
    }

    #[test]
    fn each_refusal_says_what_and_how_to_go_on() {
        for (error, words) in [
            (StageError::TooLarge { len: 900, max: 700 }, &["900", "700", "split"][..]),
            (StageError::NeedsSegment, &["begin"]),
            (StageError::NeedsCommit, &["committed first"]),
            (StageError::BufferTooSmall { needed: 512 }, &["512"]),
            (StageError::Reserved { code: 7 }, &["7", "type"]),
            (StageError::NoTransaction, &["not open"]),
            (StageError::TooManyTransactions { max: 3 }, &["3", "end one"]),
            (StageError::Poisoned, &["reopen"]),
            (StageError::Exhausted, &["new log"]),
        ] {
            let text = error.to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
            assert!(text.starts_with(|first: char| !first.is_uppercase()) && !text.ends_with('.'), "{text}");
        }
    }
}
