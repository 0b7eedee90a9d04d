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
        self.transactions.retain(|transaction| transaction.end.is_none_or(|end| end > written));
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
