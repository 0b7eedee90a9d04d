//! Which segment is begun next: after a rotation, to take a log over, to cut its end, or to begin at a later LSN.

use super::{StageError, State, Writer};
use crate::{
    Lsn,
    begin::{Begun, Continuing, Copying, LastRoom, Place, Plan},
    chain::{Cut, Dead},
    frame::{Mark, Salts},
    segment::{Predecessor, SegmentHeader, SegmentId, align_up},
    tail::Boundary,
};

/// A place where the log is cut at the end: what is behind it is dead from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutAt {
    pub(crate) predecessor: Predecessor,
    pub(crate) floor: Lsn,
    /// Whether this cut takes the last checkpoint, and none is missed; it is taken not to. Then the new segment says so, and an
    /// entry before it that names a checkpoint which is gone by right tells nothing any more.
    pub takes_last_checkpoint: bool,
}

/// What is particular to a segment that is to be begun.
struct Beginning {
    epoch: u64,
    first: Lsn,
    predecessor: Predecessor,
    floor: Lsn,
    copy: Option<Copying>,
}

impl Writer {
    /// The plan of the segment to begin next: after a rotation, or to take the log over. A writer that may continue in
    /// the segment that it found plans that first, and another plan follows where it comes to nothing.
    ///
    /// `nonce` is random where there is a source, else 0. Drive a [`Begin`](crate::Begin) of it, then say how it went:
    /// [`begun`](Self::begun) or [`failed`](Self::failed).
    ///
    /// # Errors
    /// [`StageError::NeedsCommit`]: something is staged or not durable yet. [`StageError::Exhausted`]: no epoch or
    /// id is left. [`StageError::Poisoned`].
    #[inline(never)] // A plan is large: it is written where it is wanted, not moved there.
    pub fn plan(&mut self, now: u64, nonce: u64) -> Result<Plan, StageError> {
        let epoch = self.epoch.checked_add(u64::from(!self.taken_over)).ok_or(StageError::Exhausted)?;
        let (first, predecessor, floor) = match &self.copy {
            Some(copy) if copy.passes_over => {
                let old = &self.segment;
                (old.first, self.before_active(), old.transaction_floor)
            }
            Some(_) => (self.next, self.end_of_segment(), self.floor),
            None => (self.next, self.end_of_segment(), self.replay_floor()),
        };
        let mut plan = self.plan_of(now, nonce, &Beginning { epoch, first, predecessor, floor, copy: self.copy })?;
        if self.segment.names_none() && plan.header.first == self.segment.first {
            plan.header.say_names_none();
        }
        plan.continuing = self.continuing(&plan.header);
        if self.copy.is_none() && self.undecided().next().is_none() && plan.header.low_water > self.live {
            // All that is there was given up. What older segments stay for, the header of the newest alone says, and the next
            // truncation removes them.
            plan.last_room = LastRoom::Take;
        } else if !self.taken_over || self.low_water_wanted.is_some() {
            plan.last_room = LastRoom::Replace(self.replacing());
        }
        if plan.continuing.is_some() {
            self.free_at = None;
            self.state = State::Continuing;
        }
        self.next_after = None;
        Ok(plan)
    }

    /// The plan of a segment that cuts the log behind `cut`: entries after it are dead once it is begun. The next entry
    /// has the LSN `first`: the one behind the cut, or a later one where what is between was accepted as lost.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub fn plan_cut(&mut self, now: u64, nonce: u64, cut: CutAt, first: Lsn) -> Result<Plan, StageError> {
        let epoch = self.epoch.checked_add(1).ok_or(StageError::Exhausted)?;
        let beginning = Beginning { epoch, first, predecessor: cut.predecessor, floor: cut.floor, copy: None };
        let mut plan = self.plan_of(now, nonce, &beginning)?;
        plan.last_room = LastRoom::Take;
        plan.header.leftovers = true;
        if cut.takes_last_checkpoint {
            plan.header.say_names_none();
        }
        // Who accepted a loss did not accept that of the entries which get these LSNs anew.
        plan.header.accepted_loss = self.accepted_loss.min(first.previous());
        self.next_after = Some(first);
        Ok(plan)
    }

    /// The plan of a segment that begins at a later LSN than the next, with nothing kept of what is before.
    ///
    /// # Errors
    /// As [`plan`](Self::plan); [`StageError::Exhausted`] if `first` is not beyond the last LSN.
    pub fn plan_reset(&mut self, now: u64, nonce: u64, first: Lsn) -> Result<Plan, StageError> {
        if first < self.next || first == Lsn::MAX {
            return Err(StageError::Exhausted);
        }
        let epoch = self.epoch.checked_add(1).ok_or(StageError::Exhausted)?;
        let predecessor = self.end_of_segment();
        let mut plan = self.plan_of(now, nonce, &Beginning { epoch, first, predecessor, floor: first, copy: None })?;
        plan.last_room = LastRoom::Take;
        plan.header.low_water = first;
        plan.header.low_water_covered = false;
        // Nothing of what is before is ever read again.
        plan.header.leftovers = false;
        self.next_after = Some(first);
        Ok(plan)
    }

    /// What a segment names as its predecessor that replaces the active one: what that one names. Where this is missing, and
    /// the loss was accepted, it is the segment that was found behind: the new header tells of losses, and behind such a
    /// one nobody looks for more than it names.
    #[inline(never)]
    fn before_active(&self) -> Predecessor {
        let active = &self.segment;
        let mended = self.mended.get(active.id).filter(|_| active.first.previous() <= self.accepted_loss);
        mended.unwrap_or(active).predecessor
    }

    /// How the active segment is replaced by one that holds the same.
    fn replacing(&self) -> Copying {
        let old = &self.segment;
        let (before, at) = (old.first.previous(), old.frames_at());
        let start = Boundary { last: before, behind: at, next: at, floor: old.transaction_floor };
        Copying { start, durable: before, end: self.behind, passes_over: true }
    }

    /// How writing goes on in the segment that was found, in the epoch of the header that a new one would have.
    fn continuing(&self, new: &SegmentHeader) -> Option<Continuing> {
        let at =
            self.free_at.filter(|_| !self.taken_over && !self.needs_segment() && self.low_water_wanted.is_none())?;
        let len = align_up(Mark::Epoch(new.epoch).frame_len(), self.segment.granule);
        let fits = at.checked_add(len).is_some_and(|end| end <= self.segment.segment_size);
        fits.then_some(Continuing { at, len, last: self.live })
    }

    /// The segment was begun: writing goes on in it, and what was copied into it is durable. Or the one that was found
    /// is continued: then its epoch mark is durable, and if it could not be read back another plan is needed. A writer that
    /// was poisoned meanwhile stays so.
    pub fn begun(&mut self, begun: &Begun) {
        if self.is_poisoned() {
            return;
        }
        debug_assert!(matches!(self.state, State::Beginning | State::Continuing));
        self.unfinished_above = None;
        self.time = self.time.max(begun.header.created);
        match begun.place {
            Place::New { at, behind, evidence } => {
                self.begun_new(&begun.header, evidence);
                (self.at, self.behind) = (at, behind);
            }
            Place::Found { at: Some(at) } => {
                (self.at, self.epoch, self.taken_over) = (at, begun.header.epoch, true);
                self.marked = Some(self.durable);
                self.proven = self.durable;
                self.state = State::Ready;
            }
            Place::Found { at: None } => self.state = State::NeedsSegment,
        }
    }

    fn begun_new(&mut self, header: &SegmentHeader, evidence: Option<Cut>) {
        let old = self.segment.id;
        self.copy = None;
        self.free_at = None;
        self.refused = false;
        self.must_begin = false;
        self.dead = Dead(evidence.into_iter().collect());
        if self.oldest == SegmentId::NONE || self.oldest == old && header.predecessor.id != old {
            self.oldest = header.id;
        }
        self.epoch_due |= header.epoch > self.epoch;
        self.taken_over = true;
        self.epoch = header.epoch;
        self.leftovers = header.leftovers;
        self.accepted_loss = header.accepted_loss;
        self.mended.passed_over(&self.segment, header);
        self.segment = *header;
        self.highest = header.id;
        self.salts = Salts::of(self.options.checksum, header);
        if let Some(next) = self.next_after.take() {
            // A cut or reset: transactions open before it are rolled back by the new epoch.
            self.next = next;
            self.transactions.clear();
        }
        self.live = self.next.previous();
        (self.low_water, self.low_water_covered) = header.truncated();
        self.low_water_wanted = None;
        self.durable = self.live;
        self.written = self.durable;
        self.marked = None;
        // The header proves what is before the segment.
        self.proven = header.first.previous();
        self.claimed = self.proven;
        self.state = State::Ready;
    }

    fn plan_of(&mut self, now: u64, nonce: u64, beginning: &Beginning) -> Result<Plan, StageError> {
        let Beginning { epoch, first, predecessor, floor, copy } = *beginning;
        if matches!(self.state, State::Poisoned | State::Beginning | State::Continuing) || self.flight.is_some() {
            self.state = State::Poisoned;
            return Err(StageError::Poisoned);
        }
        if self.stage.len > 0 || self.unsynced > 0 {
            return Err(StageError::NeedsCommit);
        }
        // An object of the last id is no reason to stop where it was never finished: it is erased before.
        let after = |id: SegmentId| id.value().checked_add(1).map(SegmentId::new);
        let id = after(self.highest).or_else(|| self.unfinished_above.and_then(after)).ok_or(StageError::Exhausted)?;
        let geometry = self.options.geometry;
        let room = copy.map_or(0, |copy| {
            let len = copy.end.saturating_sub(copy.start.next);
            // Packed anew, the frames take at most a quarter more, where each write fills up its last granule.
            geometry.overhead() + len + len / 4 + 2 * geometry.granule
        });
        let (low_water, low_water_covered) = self.low_water_wanted.unwrap_or((self.low_water(), self.is_covered()));
        let header = SegmentHeader {
            log: self.log,
            id,
            epoch,
            nonce,
            first,
            created: self.time.max(now),
            low_water,
            low_water_covered,
            accepted_loss: self.accepted_loss,
            transaction_floor: floor.min(first),
            max_transactions: self.options.max_transactions,
            immediate: self.options.immediate,
            recycled: false,
            leftovers: self.leftovers,
            blank: geometry.blank,
            granule: geometry.granule,
            copy_offset: geometry.copy_offset,
            segment_size: match geometry.slots {
                // Slots have one size; what a write limit leaves fits beside the room for marks.
                Some(_) => geometry.segment_size,
                None => geometry.segment_size.max(align_up(room, geometry.granule)),
            },
            write_limit: self.options.write_limit,
            predecessor,
        };
        let mut dead = Dead::default();
        // One more than recovery found fits: it refuses a log that has more than it can remember.
        let _ = dead.found(Cut { above: predecessor.id, below: id });
        for cut in &self.dead.0 {
            let _ = dead.found(*cut);
        }
        if geometry.slots.is_some() {
            // What the active segment replaced, if its writer was stopped before it removed that. Where nothing below the
            // active segment is needed, recovery does not look there, and each slot counts.
            let _ = dead.found(Cut { above: self.segment.predecessor.id, below: self.segment.id });
        }
        self.state = State::Beginning;
        let mut plan = Plan {
            update: self.options.checksum,
            header,
            old: self.segment,
            erase_above: self.unfinished_above,
            dead,
            copy,
            continuing: None,
            last_room: LastRoom::Leave,
            slot: self.slot,
        };
        plan.old.predecessor = self.before_active();
        Ok(plan)
    }

    /// Where the active segment is cut when another follows it.
    fn end_of_segment(&self) -> Predecessor {
        let old = &self.segment;
        if old.epoch == 0 {
            return Predecessor::default();
        }
        old.cut(self.live, self.behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Consent, Durability, Recovered,
        reader::tests::{log, place, plain},
        writer::tests::{Writing, found, options},
    };

    #[test]
    fn that_a_cut_took_the_last_checkpoint_is_said_until_a_segment_begins_behind_an_entry() {
        for takes_last_checkpoint in [false, true] {
            let log = log(&[&plain(1..=4)]);
            let mut writing = Writing::over(&log, options(16));
            let header = log.header(1);
            let cut =
                CutAt { predecessor: header.cut(Lsn::new(2), place(2)), floor: Lsn::new(3), takes_last_checkpoint };
            let plan = writing.writer.plan_cut(1, 7, cut, Lsn::new(3)).unwrap();
            assert_eq!(plan.header.names_none(), takes_last_checkpoint);
            writing.begin_as(plan);
            let plan = writing.writer.plan(1, 7).unwrap();
            assert_eq!(plan.header.names_none(), takes_last_checkpoint, "it begins where the cut is");
            writing.begin_as(plan);
            writing.append(1, Durability::Durable);
            assert!(!writing.writer.plan(1, 7).unwrap().header.names_none());
        }
    }

    #[test]
    fn a_segment_is_as_long_as_what_is_copied_into_it_takes_and_a_quarter_more() {
        let mut options = options(16);
        options.geometry.segment_size = 3200;
        for (entries, segment_size) in [
            (1, 3200),
            // 1376 bytes are not for entries; entries of 48 bytes, a quarter of that, and two granules.
            (29, 3200),
            (30, 3216),
            (100, 1376 + 4800 + 1200 + 32),
        ] {
            let mut writing = Writing::over(&log(&[&plain(1..=entries)]), options);
            let header = writing.writer.plan(1, 7).unwrap().header;
            assert_eq!(header.segment_size, segment_size, "{entries} entries");
        }
        options.geometry.slots = Some(9);
        let mut writing = Writing::over(&log(&[&plain(1..=100)]), options);
        assert_eq!(writing.writer.plan(1, 7).unwrap().header.segment_size, 3200, "slots have one size");
    }

    #[test]
    fn the_last_room_is_taken_once_all_that_there_is_was_given_up_and_nothing_is_to_be_copied_or_decided() {
        let end = Lsn::new(5);
        let given_up = |transaction: bool| {
            let mut writing = Writing::begun(options(16));
            writing.append(if transaction { 3 } else { 4 }, Durability::Durable);
            if transaction {
                writing.writer.stage_begin(&mut writing.medium.buf[..], 1).unwrap();
                writing.commit(Durability::Durable);
            }
            writing.writer.stage_low_water(&mut writing.medium.buf[..], 1, end, true).unwrap();
            writing.commit(Durability::Durable);
            writing
        };
        assert!(matches!(given_up(false).writer.plan(1, 7).unwrap().last_room, LastRoom::Take));
        let mut undecided = given_up(true);
        assert!(matches!(undecided.writer.plan(1, 7).unwrap().last_room, LastRoom::Leave), "its begin is needed");
        let mut abandoned = given_up(true);
        abandoned.writer.abandon(4);
        assert!(matches!(abandoned.writer.plan(1, 7).unwrap().last_room, LastRoom::Take));
        let mut found = found(&log(&[&plain(1..=4)]));
        found.tail.low_water = end;
        let mut writer = Writer::take_over(options(16), &found, Consent::None).unwrap();
        let plan = writer.plan(1, 7).unwrap();
        assert!(matches!(plan.last_room, LastRoom::Replace(_)), "a cache alone may hold the entries");
    }

    #[test]
    fn what_was_never_finished_is_known_of_after_a_take_over_and_nothing_else() {
        let found = found(&log(&[&plain(1..=4)]));
        for (highest, is_left) in [(1, false), (2, true), (5, true)] {
            let recovered = Recovered { highest: SegmentId::new(highest), ..found.clone() };
            let mut writer = Writer::take_over(options(16), &recovered, Consent::None).unwrap();
            assert_eq!(writer.left_over().is_some(), is_left, "{highest}");
            let plan = writer.plan(1, 7).unwrap();
            assert_eq!((plan.header.id, plan.erase_above.is_some()), (SegmentId::new(highest + 1), is_left));
        }
    }
}
