//! Groups: what is staged is taken as one write, with a sync or without, and is told to have landed or failed.

use core::fmt;

use super::{StageError, State, Writer, marks::Said, stage::Stage};
use crate::{
    Lsn,
    device::{ErrorKind, Object},
    drive::{Action, Answer, Machine, Step, Stop},
    frame::{Mark, frame_mark},
    segment::{SegmentId, align_up},
};

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Buffered => "buffered",
            Self::Os => "os",
            Self::Durable => "durable",
        })
    }
}

/// A group of frames on its way to the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    segment: SegmentId,
    at: u32,
    /// Bytes in the buffer, from its beginning; 0 for a sync alone.
    len: u32,
    /// The last entry in it, or before it.
    last: Lsn,
    /// Right behind that entry.
    behind: u32,
    /// The durable LSN that its mark carries.
    claim: Option<Lsn>,
    sync: bool,
}

impl Group {
    /// The segment that it is written to.
    #[must_use]
    pub fn segment(&self) -> SegmentId {
        self.segment
    }

    /// The last LSN that the group holds.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.last
    }

    /// Bytes that will be written.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether it ends with a sync.
    #[must_use]
    pub fn syncs(&self) -> bool {
        self.sync
    }

    /// Whether it is a sync alone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// What a sync covers that is under way beside the groups: all that had been written when it began.
#[derive(Clone, Copy, Debug)]
pub struct Syncing {
    segment: SegmentId,
    last: Lsn,
    /// Bytes that were not synced.
    len: u32,
    claimed: Lsn,
    said: Said,
}

/// How durable a group is to be when it has landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Durability {
    /// In the program's memory: lost when it ends.
    Buffered,
    /// Handed to the operating system: survives the end of the program, not that of the machine.
    Os,
    /// On stable storage.
    Durable,
}

/// What a failure means for the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Consequence {
    /// There is no room: what was not written yet is dropped. It goes on once there is.
    Refused,
    /// Nothing was dropped, and the writer has another way: plan again.
    Again,
    /// Nothing more is written until the log is reopened.
    Poisoned,
}

/// The machine that commits one group: one write, and one sync if the group asks for it.
#[derive(Debug)]
pub struct Commit {
    group: Group,
    written: bool,
    synced: bool,
}

impl Commit {
    /// Commits `group`; the buffer is the one it was staged in.
    #[must_use]
    pub fn new(group: Group) -> Self {
        Self { group, written: group.len == 0, synced: !group.sync }
    }
}

impl Machine for Commit {
    type Output = ();

    fn step(&mut self, _: &mut [u8], _: Answer) -> Result<(), Stop> {
        if !core::mem::replace(&mut self.written, true) {
            let object = Object::Segment(self.group.segment);
            return Err(Step::Write { object, at: self.group.at.into(), from: 0..self.group.len as usize }.into());
        }
        if !core::mem::replace(&mut self.synced, true) {
            return Err(Step::Sync.into());
        }
        Ok(())
    }
}

impl Writer {
    /// Takes what is staged as a group to commit, with a sync where `sync` says so.
    ///
    /// `None`: there is nothing to do. Where the write limit asks for a sync first, the group is that sync alone, and
    /// what is staged stays so: take again afterwards. The group's bytes are the first of `buf`, which is not to be
    /// staged into before the group has landed.
    ///
    /// # Errors
    /// [`StageError::Poisoned`]: an earlier group did not land.
    pub fn take(&mut self, buf: &mut [u8], sync: Durability) -> Result<Option<Group>, StageError> {
        if self.flight.is_some() || matches!(self.state, State::Poisoned | State::Beginning | State::Continuing) {
            self.state = State::Poisoned;
            return Err(StageError::Poisoned);
        }
        let (frames, len) = self.next_len();
        let (segment, last, behind) = (self.segment.id, self.written, self.behind);
        let group = if len == 0 || self.is_at_limit() {
            if self.unsynced == 0 || (len == 0 && sync == Durability::Os) {
                return Ok(None);
            }
            Group { segment, at: self.at, len: 0, last, behind, claim: None, sync: true }
        } else {
            self.frame_lead(buf);
            buf[self.stage.len as usize..len as usize].fill(self.segment.blank);
            let lead_claim = if self.stage.lead > 0 { self.durable.min(self.stage.before) } else { Lsn::ZERO };
            let group = Group {
                segment,
                at: self.at,
                len,
                last: self.next.previous(),
                behind: self.stage.behind.map_or(self.behind, |end| self.at + end),
                claim: Some(self.stage.claim.max(lead_claim)),
                sync: sync == Durability::Durable,
            };
            self.at += frames;
            self.epoch_due &= !self.stage.epoch;
            self.stage = Stage::default();
            self.flying_marks = core::mem::take(&mut self.staged_marks);
            group
        };
        self.flight = Some(group);
        Ok(Some(group))
    }

    /// Bytes of the frames that are staged, and of the group that they make.
    fn next_len(&self) -> (u32, u32) {
        let frames = align_up(self.stage.len, self.options.geometry.granule);
        // In recycled room old bytes follow: what is blank there is the end. The next write goes over it.
        let len = if frames == 0 { 0 } else { frames + self.segment.stop_at(self.at + frames) };
        (frames, len)
    }

    /// Whether the write limit asks for a sync before what is staged is written.
    #[must_use]
    pub fn is_at_limit(&self) -> bool {
        self.unsynced + self.next_len().1 > self.options.write_limit
    }

    /// What a sync covers that begins now, beside groups that are written meanwhile: all that has landed. `None`: nothing
    /// has that is not synced, or a group is under way. Begin the sync of the active segment, and when it succeeded, and no
    /// sooner, say so: [`synced`](Self::synced). Where it fails, [`poison`](Self::poison), for nothing is known then of what
    /// was written, whatever a later sync says.
    #[must_use]
    pub fn syncing(&self) -> Option<Syncing> {
        (self.unsynced > 0 && self.flight.is_none()).then_some(Syncing {
            segment: self.segment.id,
            last: self.written,
            len: self.unsynced,
            claimed: self.claimed,
            said: self.written_marks,
        })
    }

    /// A sync that was under way beside the groups succeeded: what it covers is durable. One that was overtaken by the sync
    /// of a group says nothing new.
    pub fn synced(&mut self, syncing: Syncing) {
        let Syncing { segment, last, len, claimed, said } = syncing;
        if segment == self.segment.id && last > self.durable {
            self.unsynced = self.unsynced.saturating_sub(len);
            self.is_durable(last, claimed, said);
        }
    }

    /// What was written up to here is durable, with what its marks say.
    fn is_durable(&mut self, last: Lsn, claimed: Lsn, said: Said) {
        self.durable = last;
        self.proven = self.proven.max(claimed);
        if let Some((lsn, covered)) = said.low_water {
            self.low_water = lsn;
            self.low_water_covered = covered;
        }
        if let Some(slot) = said.slot {
            self.slot = slot;
        }
    }

    /// Frames the marks that lead the group: what is durable now, before anything of the group is written.
    fn frame_lead(&self, buf: &mut [u8]) {
        let Stage { lead, epoch, time, before, .. } = self.stage;
        if lead > 0 {
            let mark = if epoch { Mark::Epoch(self.epoch) } else { Mark::Durable };
            let frame = &mut buf[..lead as usize];
            frame_mark(&self.salts, frame, self.at, before, time, self.durable.min(before), mark);
        }
    }

    /// The group was committed.
    pub fn landed(&mut self, group: Group) {
        debug_assert_eq!(self.flight, Some(group));
        self.flight = None;
        self.written = group.last;
        if group.behind > self.behind {
            self.behind = group.behind;
            self.live = group.last;
        }
        self.unsynced += group.len;
        if let Some(claim) = group.claim {
            self.marked = self.marked.max(Some(claim));
            self.claimed = self.claimed.max(claim);
        }
        let written = self.written;
        self.transactions.retain(|transaction| !transaction.is_over(written));
        let flying = core::mem::take(&mut self.flying_marks);
        self.written_marks.add(flying);
        if group.sync {
            self.unsynced = 0;
            let said = core::mem::take(&mut self.written_marks);
            self.is_durable(self.written, self.claimed, said);
        }
    }

    /// The group, or the segment that was being begun, failed: the device could not do `action`, with an error of this
    /// kind.
    ///
    /// Refused for lack of space, the writer goes on: what was staged or under way is dropped and its LSNs are given
    /// out again, in a new segment, for the refused bytes may stand in this one. A transaction that was begun there is not,
    /// and its id is given out again too; one that lost entries by it can only be rolled back. Any other failure, and any failed
    /// sync, poisons it; and any failed removal, for the new segment may count by then: a copy-on-write file system refuses
    /// a removal too when it is full. Where a segment was to be continued, another can be begun instead: nothing was lost.
    pub fn failed(&mut self, action: Action, kind: ErrorKind) -> Consequence {
        let flight = self.flight.take();
        let fatal = matches!(kind, ErrorKind::Fenced | ErrorKind::Gone | ErrorKind::ReadOnly);
        if self.state == State::Continuing && !fatal {
            self.state = State::NeedsSegment;
            return Consequence::Again;
        }
        let may_be_done = matches!(action, Action::Sync | Action::Remove);
        if kind != ErrorKind::NoSpace || may_be_done || self.state == State::Poisoned {
            self.state = State::Poisoned;
            return Consequence::Poisoned;
        }
        if self.state == State::Beginning {
            // What was unfinished before has been erased by then; what could not be created is not there.
            self.unfinished_above = Some(self.segment.id);
            // So its id is as free as it was: ids that lie far apart tell a reader less.
            if action != Action::Create {
                self.highest = SegmentId::new(self.highest.value().saturating_add(1));
            }
        } else {
            self.leftovers = true;
            self.refused = true;
            // Nothing counts from there on, and the room may be given back.
            self.at = flight.map_or(self.at, |group| group.at);
        }
        self.transactions_refused_behind(self.written);
        self.stage = Stage::default();
        self.staged_marks = Said::default();
        self.flying_marks = Said::default();
        self.low_water_wanted = None;
        self.next = self.written.next_or_max();
        self.state = State::NeedsSegment;
        Consequence::Refused
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;
    use crate::{
        begin::tests::Did,
        device::Room,
        reader::tests::{log, place, plain},
        writer::{
            Consent, WriterOptions,
            take_over::tests::same,
            tests::{Writing, found, options},
        },
    };

    #[test]
    fn a_durability_is_told_by_the_name_that_it_is_chosen_by() {
        let told = [Durability::Buffered, Durability::Os, Durability::Durable].map(|durability| durability.to_string());
        assert_eq!(told, ["buffered", "os", "durable"]);
    }

    #[test]
    fn a_group_tells_where_it_goes_and_up_to_which_entry_it_makes_the_log_durable() {
        let mut writing = Writing::begun(options(16));
        assert_eq!(writing.take(Durability::Durable), None, "there is nothing to do");
        let told = |group: Group| (group.segment().value(), group.last().value(), group.syncs(), group.is_empty());
        let group = writing.append(2, Durability::Os);
        assert_eq!(told(group), (1, 2, false, false));
        assert_eq!(writing.take(Durability::Os), None, "it is written");
        let sync = writing.commit(Durability::Durable);
        assert_eq!((told(sync), sync.len()), ((1, 2, true, true), 0));
        writing.begin();
        let group = writing.append(3, Durability::Durable);
        assert_eq!(told(group), (2, 5, true, false));
        assert_eq!(writing.writer.durable(), Lsn::new(5));
        let (segment, end) = writing.writer.end();
        let at = u64::from(end - group.len());
        let done = [Did::Write(segment.value(), at, group.len() as usize), Did::Sync];
        assert!(writing.medium.did.ends_with(&done), "{:?}", writing.medium.did);
    }

    #[test]
    fn a_sync_goes_before_a_write_that_would_be_more_than_the_limit_allows_beyond_the_last() {
        // Two groups of one entry are exactly as long as the limit allows, or one granule longer.
        let mut writing = Writing::begun(options(16));
        writing.append(4, Durability::Durable);
        let len = writing.append(4, Durability::Durable).len();
        for (write_limit, goes_before) in [(2 * len, false), (2 * len - 16, true)] {
            let mut writing = Writing::begun(WriterOptions { write_limit, ..options(16) });
            writing.append(4, Durability::Durable);
            writing.append(4, Durability::Os);
            assert!(!writing.writer.is_at_limit());
            writing.stage(4).unwrap();
            assert_eq!(writing.writer.is_at_limit(), goes_before);
            if goes_before {
                let group = writing.commit(Durability::Os);
                assert_eq!((group.len(), group.syncs(), group.last()), (0, true, Lsn::new(8)));
                assert_eq!(writing.writer.durable(), Lsn::new(8));
            }
            let group = writing.commit(Durability::Os);
            assert_eq!((group.len(), group.syncs(), group.last()), (len, false, Lsn::new(12)));
        }
    }

    #[test]
    fn what_the_mark_before_a_group_says_is_proven_once_the_group_is_durable() {
        let mut writing = Writing::begun(options(16));
        for last in 1..=4 {
            writing.append(1, Durability::Os);
            assert_eq!(writing.writer.proven(), Lsn::new(last).previous().previous(), "the mark may be lost");
            writing.commit(Durability::Durable);
            // Its mark was framed before it was durable itself.
            assert_eq!(writing.writer.proven(), Lsn::new(last).previous());
            assert!(writing.writer.mark_due());
        }
    }

    #[test]
    fn a_mark_by_itself_says_what_was_durable_when_it_was_staged() {
        let mut writing = Writing::begun(options(16));
        writing.append(2, Durability::Durable);
        writing.append(2, Durability::Os);
        let syncing = writing.writer.syncing().unwrap();
        writing.writer.stage_durable_mark(&mut writing.medium.buf[..], 1).unwrap();
        writing.writer.synced(syncing);
        assert_eq!(writing.writer.durable(), Lsn::new(4));
        writing.commit(Durability::Durable);
        assert_eq!(writing.writer.proven(), Lsn::new(2));
        assert!(writing.writer.mark_due(), "no mark says yet that all is durable");
        writing.writer.stage_durable_mark(&mut writing.medium.buf[..], 1).unwrap();
        writing.commit(Durability::Durable);
        assert_eq!((writing.writer.proven(), writing.writer.mark_due()), (Lsn::new(4), false));
    }

    #[test]
    fn a_group_in_recycled_room_ends_with_a_blank_frame_header_as_far_as_the_segment_goes() {
        for (granule, sizes) in [(1, 8192 - 64..8192), (16, 8192..8193), (64, 8192..8193)] {
            for segment_size in sizes {
                let mut options = options(granule);
                options.geometry.segment_size = segment_size;
                let mut writing = Writing::new(options);
                writing.medium.room = Room::Recycled;
                writing.begin();
                let stop = align_up(29, granule);
                loop {
                    let before = writing.writer.end().1;
                    match writing.stage(3).or_else(|_| {
                        let staged = writing.writer.stage_durable_mark(&mut writing.medium.buf[..], 1);
                        staged.map(|()| (Lsn::ZERO, Lsn::ZERO))
                    }) {
                        Ok(_) => {}
                        Err(StageError::NeedsSegment) => break,
                        Err(error) => panic!("{error}"),
                    }
                    let group = writing.commit(Durability::Durable);
                    let end = writing.writer.end().1;
                    let stop = stop.min(segment_size - end);
                    assert_eq!(group.len(), end - before + stop, "{granule}, {segment_size}, at {end}");
                    let blank = &writing.medium.bytes(1)[end as usize..][..stop as usize];
                    assert!(blank.iter().all(|byte| *byte == options.geometry.blank), "{blank:?}");
                }
                let (_, end) = writing.writer.end();
                assert!(segment_size - end < align_up(41, granule), "it is full, up to {end}");
            }
        }
    }

    #[test]
    fn a_sync_beside_the_groups_covers_what_had_landed_when_it_began() {
        let mut writing = Writing::begun(options(16));
        assert!(writing.writer.syncing().is_none(), "nothing was written");
        writing.append(2, Durability::Os);
        let early = writing.writer.syncing().unwrap();
        writing.stage(1).unwrap();
        let group = writing.take(Durability::Os).unwrap();
        assert!(writing.writer.syncing().is_none(), "a group is under way");
        writing.writer.landed(group);
        let syncing = writing.writer.syncing().unwrap();
        let later = writing.append(1, Durability::Os);
        writing.writer.synced(syncing);
        assert_eq!((writing.writer.durable(), writing.writer.unsynced()), (Lsn::new(3), later.len()));
        writing.writer.synced(early);
        assert_eq!((writing.writer.durable(), writing.writer.unsynced()), (Lsn::new(3), later.len()), "no news");
        let syncing = writing.writer.syncing().unwrap();
        writing.commit(Durability::Durable);
        assert!(writing.writer.syncing().is_none(), "all is durable");
        writing.writer.stage_durable_mark(&mut writing.medium.buf[..], 1).unwrap();
        let mark = writing.commit(Durability::Os);
        writing.writer.synced(syncing);
        assert_eq!(writing.writer.unsynced(), mark.len(), "it began before the mark was written");
        writing.append(1, Durability::Durable);
        writing.append(1, Durability::Os);
        let unsynced = writing.writer.unsynced();
        writing.writer.synced(syncing);
        assert_eq!((writing.writer.durable(), writing.writer.unsynced()), (Lsn::new(5), unsynced), "overtaken");
        writing.commit(Durability::Durable);
        writing.begin();
        let last = writing.writer.durable();
        writing.append(1, Durability::Os);
        writing.writer.synced(syncing);
        assert_eq!(writing.writer.durable(), last, "it was that of another segment");
    }

    #[test]
    fn a_sync_of_what_was_found_makes_no_entry_of_one_that_is_gone() {
        let log = log(&[&plain(1..=4)]);
        let mut recovered = found(&log);
        // Something tells of the entry at 9, and a mark is there that nothing proves.
        (recovered.tail.lost, recovered.tail.unproven_marks) = (Lsn::new(9), Some(Lsn::new(4)));
        let mut options = options(16);
        options.geometry.settled = true;
        let mut writing = Writing::over(&log, options);
        writing.writer = Writer::take_over(options, &recovered, Consent::AcceptLoss).unwrap();
        let group = writing.commit(Durability::Durable);
        assert_eq!((group.len(), group.last(), writing.writer.next_lsn()), (0, Lsn::new(9), Lsn::new(10)));
        let header = writing.writer.plan(1, 7).unwrap().header;
        assert_eq!((header.predecessor.last, header.predecessor.size), (Lsn::new(4), place(4)));
        assert_eq!((header.first, header.accepted_loss), (Lsn::new(10), Lsn::new(9)));
    }

    #[test]
    fn where_a_segment_cannot_be_continued_another_is_begun_unless_the_device_takes_no_more_writes() {
        let log = log(&[&plain(1..=4)]);
        let mut recovered = found(&log);
        recovered.tail.free_at = Some(place(4));
        let options = same(&log);
        for (kind, consequence) in [
            (ErrorKind::NoSpace, Consequence::Again),
            (ErrorKind::Other, Consequence::Again),
            (ErrorKind::Fenced, Consequence::Poisoned),
            (ErrorKind::Gone, Consequence::Poisoned),
            (ErrorKind::ReadOnly, Consequence::Poisoned),
        ] {
            let mut writing = Writing::over(&log, options);
            writing.writer = Writer::take_over(options, &recovered, Consent::None).unwrap();
            writing.commit(Durability::Durable);
            assert!(writing.writer.plan(1, 7).unwrap().continuing.is_some());
            assert_eq!(writing.writer.failed(Action::Write, kind), consequence, "{kind:?}");
            assert_eq!(writing.writer.is_poisoned(), consequence == Consequence::Poisoned, "{kind:?}");
            if consequence == Consequence::Again {
                assert!(writing.writer.plan(1, 7).unwrap().continuing.is_none(), "{kind:?}");
            }
        }
    }
}
