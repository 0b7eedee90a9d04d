//! The writer: entries are staged in a buffer, groups of them committed with one write and one sync.
//!
//! A writer decides; it touches no device. Whoever holds it stages entries ([`Writer::stage`]), takes what is staged
//! as a [`Group`] ([`Writer::take`]), has a [`Commit`] driven, and says how that went ([`Writer::landed`],
//! [`Writer::failed`]). While a group is under way, the next one can be staged in another buffer.
//!
//! ```text
//! one write:  | mark: what was durable before | entry | entry | ... | blank up to the granule |
//! ```

mod group;
mod marks;
mod options;
mod payload;
mod plan;
mod stage;
mod take_over;
mod transaction;

pub use group::{Commit, Consequence, Durability, Group, Syncing};
pub use options::{InvalidOptions, WriterOptions};
pub use payload::Payload;
pub use plan::CutAt;
pub use stage::StageError;
pub use take_over::{Consent, TakeOverError};
pub use transaction::TransactionEnd;

use heapless::Vec;
use uuid::Uuid;

use crate::{
    Lsn,
    begin::{Copying, Erase},
    chain::{Dead, Mended, View},
    frame::{Salts, Slot},
    meta::Meta,
    retention::Retire,
    segment::{SegmentHeader, SegmentId, TRANSACTIONS_MAX},
};
use marks::Said;
use stage::Stage;
use transaction::Transaction;

/// The writer of one log.
#[derive(Debug)]
pub struct Writer {
    options: WriterOptions,
    log: Uuid,
    epoch: u64,
    segment: SegmentHeader,
    salts: Salts,
    /// Where the next group goes.
    at: u32,
    /// Right behind the last live entry of the active segment that was written.
    behind: u32,
    /// That entry; where there is none, the one before the segment.
    live: Lsn,
    next: Lsn,
    time: u64,
    durable: Lsn,
    /// The last entry that was written, synced or not.
    written: Lsn,
    /// The highest durable LSN that a mark of this writer carries, and that of those that are durable themselves.
    claimed: Lsn,
    proven: Lsn,
    /// The durable LSN of the newest mark in the active segment.
    marked: Option<Lsn>,
    /// Bytes written beyond the last sync.
    unsynced: u32,
    stage: Stage,
    flight: Option<Group>,
    state: State,
    /// Whether this writer has begun a segment: from then on the epoch is its own.
    taken_over: bool,
    epoch_due: bool,
    /// Whether bytes of a write that found no room may stand in the active segment.
    refused: bool,
    slot: Slot,
    low_water: Lsn,
    low_water_covered: bool,
    /// What is given up though no mark and no header says so: the first LSN kept, and whether a checkpoint holds what is below.
    given_up: Lsn,
    given_up_covered: bool,
    /// A low-water mark that found no room: the next header says it.
    low_water_wanted: Option<(Lsn, bool)>,
    /// What marks say that are staged, under way, and written but not synced.
    staged_marks: Said,
    flying_marks: Said,
    written_marks: Said,
    accepted_loss: Lsn,
    oldest: SegmentId,
    highest: SegmentId,
    /// Segments above this one were never finished.
    unfinished_above: Option<SegmentId>,
    dead: Dead,
    mended: Mended,
    /// What new headers say of entries behind cuts; see [`SegmentHeader::leftovers`].
    leftovers: bool,
    copy: Option<Copying>,
    /// Where writing may go on in the segment that an earlier writer left.
    free_at: Option<u32>,
    /// Whether a new segment has something to say at once: that a loss was accepted, or what an unproven mark said.
    must_begin: bool,
    /// The transactions that are open or whose end is not written yet.
    transactions: Vec<Transaction, TRANSACTIONS_MAX>,
    /// The first LSN of the oldest transaction that may be open where copying begins.
    floor: Lsn,
    /// The next LSN once the segment that is planned has been begun, where it is not the one that it was.
    next_after: Option<Lsn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// A segment has to be begun before anything is staged: it is full, or the log was not taken over yet.
    NeedsSegment,
    /// The plan of a new segment was given out.
    Beginning,
    /// The plan that continues the segment that was found was given out.
    Continuing,
    Poisoned,
}

impl Writer {
    /// The writer of a new log, whose UUID is `log`: random, or else unlike that of any other log.
    ///
    /// The first segment has to be begun: [`plan`](Self::plan).
    ///
    /// # Errors
    /// A value of the options that cannot be.
    pub fn create(options: WriterOptions, log: Uuid) -> Result<Self, InvalidOptions> {
        options.validate()?;
        let mut writer = Self::blank(options);
        writer.make(log);
        Ok(writer)
    }

    /// Makes it the writer of a new log. It is a blank one.
    pub(crate) fn make(&mut self, log: Uuid) {
        let Self { options, segment, .. } = self;
        // The first segment is planned from the options: of what is before it, only the log and the room count.
        segment.log = log;
        segment.granule = options.geometry.granule;
        segment.copy_offset = options.geometry.copy_offset;
        segment.segment_size = options.geometry.segment_size;
        self.stand_behind(Lsn::ZERO);
        // What is there was never finished: a creation that was interrupted.
        self.unfinished_above = Some(SegmentId::NONE);
    }

    /// The writer of no log yet. It is large: it is made once, where it stays, and then told what it writes.
    pub(crate) fn blank(options: WriterOptions) -> Self {
        Self {
            options,
            log: Uuid::nil(),
            epoch: 0,
            segment: SegmentHeader::NONE,
            salts: Salts::of(options.checksum, &SegmentHeader::NONE),
            at: 0,
            behind: 0,
            live: Lsn::ZERO,
            next: Lsn::ZERO,
            time: 0,
            durable: Lsn::ZERO,
            written: Lsn::ZERO,
            claimed: Lsn::ZERO,
            proven: Lsn::ZERO,
            marked: None,
            unsynced: 0,
            stage: Stage::default(),
            flight: None,
            state: State::NeedsSegment,
            taken_over: false,
            epoch_due: false,
            refused: false,
            slot: Slot::EMPTY,
            low_water: Lsn::ZERO,
            low_water_covered: false,
            given_up: Lsn::ZERO,
            given_up_covered: false,
            low_water_wanted: None,
            staged_marks: Said::default(),
            flying_marks: Said::default(),
            written_marks: Said::default(),
            accepted_loss: Lsn::ZERO,
            oldest: SegmentId::NONE,
            highest: SegmentId::NONE,
            unfinished_above: None,
            dead: Dead::default(),
            mended: Mended::default(),
            leftovers: false,
            copy: None,
            free_at: None,
            must_begin: false,
            transactions: Vec::new(),
            floor: Lsn::MAX,
            next_after: None,
        }
    }

    /// Takes in what the header of the segment says that it has, in which the log ends with the entry `last`.
    fn stand_behind(&mut self, last: Lsn) {
        let Self { options, segment, .. } = self;
        self.log = segment.log;
        self.epoch = segment.epoch;
        self.salts = Salts::of(options.checksum, segment);
        self.at = segment.segment_size;
        self.behind = segment.frames_at();
        self.live = last;
        self.next = last.next_or_max();
        self.time = segment.created;
        self.durable = last;
        self.written = last;
        self.proven = last;
        self.low_water = segment.low_water;
        self.low_water_covered = segment.low_water_covered;
        self.accepted_loss = segment.accepted_loss;
        self.oldest = segment.id;
        self.highest = segment.id;
        self.leftovers = segment.leftovers;
    }

    pub(crate) fn options(&self) -> &WriterOptions {
        &self.options
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> Uuid {
        self.log
    }

    /// The epoch in which it writes.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The LSN that the next entry will have.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.next
    }

    /// The last LSN known to be on stable storage.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Whether all before [`next_lsn`](Self::next_lsn) is durable. Nothing may be staged or unsynced, and still it may not be: what
    /// an opening found, and had no room to copy. No checkpoint may be written that holds it.
    #[must_use]
    pub fn is_all_durable(&self) -> bool {
        self.durable == self.next.previous()
    }

    /// The last LSN that something durable on the medium proves to have been durable: should that entry be damaged one
    /// day, recovery can tell it from a torn tail. At most [`durable`](Self::durable).
    #[must_use]
    pub fn proven(&self) -> Lsn {
        self.proven
    }

    /// The first LSN that truncation keeps.
    #[must_use]
    pub fn low_water(&self) -> Lsn {
        self.low_water.max(self.given_up)
    }

    /// Whether no mark and no header says yet what [`low_water`](Self::low_water) says, or only one that a cache alone may hold
    /// and for whose successor there was no room: a truncation does, before anything is removed by it.
    #[must_use]
    pub fn low_water_due(&self) -> bool {
        self.is_unsaid() || self.is_in_a_cache()
    }

    /// Whether what the active segment says of truncation may be in a cache alone: in a mark that nothing proves, or in its header.
    fn is_in_a_cache(&self) -> bool {
        self.must_begin || self.header_is_in_a_cache()
    }

    fn header_is_in_a_cache(&self) -> bool {
        self.copy.is_some_and(|copy| copy.passes_over)
    }

    /// Entries that are still to be copied before they may be called durable.
    #[must_use]
    pub fn to_copy(&self) -> u64 {
        self.copy.map_or(0, |copy| self.live.value().saturating_sub(copy.durable.value()))
    }

    /// How far a truncation below `lsn` goes, not beyond what is durable and no less than any before; and whether a checkpoint
    /// that holds what is below `lsn`, if one does, holds all of that.
    #[must_use]
    pub fn truncates_to(&self, lsn: Lsn, covered: bool) -> (Lsn, bool) {
        // Without a header that is durable, the segment before is the newest: it stays.
        let end = if self.header_is_in_a_cache() { self.durable } else { self.durable.next_or_max() };
        let (lsn, low_water) = (lsn.min(end), self.low_water());
        (lsn.max(low_water), covered && lsn >= low_water)
    }

    fn is_unsaid(&self) -> bool {
        self.given_up > self.low_water
    }

    /// Entries below `lsn` are about to be removed by [`Retire`](crate::Retire) before a mark says so, for there is no room
    /// for one: a checkpoint holds them, and covers what is missing should there be a crash. The next mark or header says it.
    pub fn give_up(&mut self, lsn: Lsn) {
        self.given_up = self.given_up.max(lsn.min(self.durable.next_or_max()));
        self.given_up_covered = true;
    }

    /// Whether entries were given up without a checkpoint, and one with this replay floor holds them now. Once that is said, the
    /// state is known to be lost should the checkpoint be: until then it may be kept elsewhere.
    #[must_use]
    pub fn cover_due(&self, floor: Lsn) -> bool {
        !self.is_covered() && self.low_water() > Lsn::FIRST && floor >= self.low_water()
    }

    fn is_covered(&self) -> bool {
        if self.is_unsaid() { self.given_up_covered } else { self.low_water_covered }
    }

    /// The last LSN that was written, synced or not.
    #[must_use]
    pub fn written(&self) -> Lsn {
        self.written
    }

    /// Bytes staged and not yet taken.
    #[must_use]
    pub fn staged(&self) -> u32 {
        self.stage.len
    }

    /// Bytes written beyond the last sync.
    #[must_use]
    pub fn unsynced(&self) -> u32 {
        self.unsynced
    }

    /// What was kept as evidence of cuts was removed.
    pub fn evidence_removed(&mut self) {
        self.dead = Dead::default();
    }

    /// Whether recovered entries have to be copied into a new segment before they may be called durable, or a new
    /// segment has something to say at once.
    #[must_use]
    pub fn needs_segment(&self) -> bool {
        self.copy.is_some() || self.must_begin
    }

    /// Whether something was written, by this writer or the one before it, that only a sync makes durable.
    #[must_use]
    pub fn needs_sync(&self) -> bool {
        self.unsynced > 0
    }

    /// Whether an earlier failure stops all writing until the log is reopened.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.state == State::Poisoned
    }

    /// Whether bytes of a write that was refused for lack of space may stand behind the log's last entry: a crash may find
    /// them whole, until another segment is begun.
    #[must_use]
    pub fn holds_refused(&self) -> bool {
        self.refused && self.state == State::NeedsSegment
    }

    /// Whether a mark written now would say something new: the durable LSN has moved since the last one.
    #[must_use]
    pub fn mark_due(&self) -> bool {
        self.takes_marks() && self.marked < Some(self.durable)
    }

    /// Whether marks can be staged: also where the next segment found no room. This one is as it was then, and keeps room for
    /// them.
    pub(crate) fn takes_marks(&self) -> bool {
        match self.state {
            State::Ready => true,
            State::NeedsSegment => self.taken_over && !self.refused,
            State::Beginning | State::Continuing | State::Poisoned => false,
        }
    }

    /// Whether entries can be staged: this writer has begun a segment, or continues one.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// What removes a segment that was refused room, where one may stand: until it is gone a crash may find it begun all
    /// the same, and a cut that was refused done by it. Drive it at once; then it is [`erased`](Self::erased). Where that
    /// fails, only reopening tells whether it was begun: [`poison`](Self::poison).
    #[must_use]
    pub fn left_over(&self) -> Option<Erase> {
        let above = self.unfinished_above.filter(|_| !self.is_poisoned())?;
        Some(Erase::refused(self.options.checksum, above))
    }

    /// What was left over is removed, and that is durable.
    pub fn erased(&mut self) {
        self.unfinished_above = None;
    }

    /// Whether a close has something to seal: this writer has written, or begun a segment.
    #[must_use]
    pub fn seal_due(&self) -> bool {
        self.takes_marks()
    }

    /// What the metadata object says of the log as it stands; `clean` if it was closed.
    #[must_use]
    pub fn meta(&self, clean: bool) -> Meta {
        Meta {
            log: self.log,
            epoch: self.epoch,
            durable: self.durable,
            segment: self.segment.id.value(),
            nonce: self.segment.nonce,
            low_water: self.low_water(),
            low_water_covered: self.is_covered(),
            position: self.at,
            before: self.segment.predecessor.last,
            clean,
        }
    }

    /// The active segment, and where its next write goes: what is behind is blank.
    #[must_use]
    pub fn end(&self) -> (SegmentId, u32) {
        (self.segment.id, self.at)
    }

    /// What a reader has to know of the log as it stands on the medium now.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            update: self.options.checksum,
            log: self.log,
            oldest: self.oldest,
            newest: self.segment.id,
            dead: self.dead.clone(),
            mended: self.mended.clone(),
            epoch: self.epoch,
            last: self.written,
            end: self.behind,
            low_water: self.low_water(),
            low_water_covered: self.is_covered(),
            accepted_loss: self.accepted_loss,
        }
    }

    /// The same, with no more given up than the medium says for good: what is below that may be removed without another word.
    /// Nothing, where that may be in a cache alone.
    pub(crate) fn view_as_said(&self) -> Option<View> {
        (!self.is_in_a_cache()).then(|| View { low_water: self.low_water, ..self.view() })
    }

    /// The application slot, as it is durable.
    #[must_use]
    pub fn slot(&self) -> &[u8] {
        self.slot.bytes()
    }

    /// Segments were removed, or may have been where removing failed. Where nothing says so, more than they held is not given up
    /// until it is said: should it find no room once more, a crash brings the rest back.
    pub fn retired(&mut self, retire: &Retire) {
        self.oldest = self.oldest.max(retire.oldest());
        if let Some(kept) = retire.kept_unsaid() {
            self.given_up = kept;
        }
    }

    /// A machine could not go on with what the medium holds: nothing more is written.
    pub fn poison(&mut self) {
        self.state = State::Poisoned;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;
    use std::vec;

    use super::*;
    use crate::{
        begin::{Begin, Plan, tests::Medium},
        decision::Policy,
        device::{ErrorKind, Object, tests::GEOMETRY},
        drive::Action,
        reader::tests::{Log, log, place, plain},
        recovery::{
            Recovered,
            tests::{by, recover},
        },
        segment::Geometry,
    };

    /// A writer, and the medium that it writes to.
    pub(crate) struct Writing {
        pub(crate) writer: Writer,
        pub(crate) medium: Medium,
    }

    /// Of a medium with this granule on which a sync alone settles nothing.
    pub(crate) fn options(granule: u32) -> WriterOptions {
        let geometry =
            Geometry { segment_size: 8192, granule, copy_offset: 128, settled: false, slots: None, ..GEOMETRY };
        WriterOptions { write_limit: 1024, ..WriterOptions::new(geometry) }
    }

    /// What recovery finds.
    pub(crate) fn found(log: &Log) -> Recovered {
        recover(log, by(Policy::Default)).1.unwrap()
    }

    impl Writing {
        /// A new log, of which nothing was begun.
        pub(crate) fn new(options: WriterOptions) -> Self {
            let Geometry { segment_size, granule, copy_offset, blank, .. } = options.geometry;
            let write_limit = options.write_limit;
            let header =
                SegmentHeader { segment_size, granule, copy_offset, blank, write_limit, ..SegmentHeader::NONE };
            Self { writer: Writer::create(options, Uuid::nil()).unwrap(), medium: Medium::new(header, 4096) }
        }

        /// A new log whose first segment was begun.
        pub(crate) fn begun(options: WriterOptions) -> Self {
            let mut writing = Self::new(options);
            writing.begin();
            writing
        }

        /// A log that was found, and is taken over.
        pub(crate) fn over(log: &Log, options: WriterOptions) -> Self {
            let mut writing = Self::new(options);
            let segments = log.segments.iter().map(|(id, bytes)| (Object::Segment(*id), bytes.clone()));
            writing.medium.objects.extend(segments);
            writing.writer = Writer::take_over(options, &found(log), Consent::None).unwrap();
            writing
        }

        /// Begins the segment that is to come next.
        pub(crate) fn begin(&mut self) {
            let plan = self.writer.plan(1, 7).unwrap();
            self.begin_as(plan);
        }

        pub(crate) fn begin_as(&mut self, plan: Plan) {
            let begun = self.medium.run(&mut Begin::new(plan)).unwrap();
            self.writer.begun(&begun);
        }

        /// Stages so many entries of 20 bytes each.
        pub(crate) fn stage(&mut self, entries: usize) -> Result<(Lsn, Lsn), StageError> {
            self.writer.stage(&mut self.medium.buf[..], 1, None, &vec![[7; 20]; entries])
        }

        pub(crate) fn take(&mut self, durability: Durability) -> Option<Group> {
            self.writer.take(&mut self.medium.buf, durability).unwrap()
        }

        /// What is staged is written, and synced if it is to be durable.
        pub(crate) fn commit(&mut self, durability: Durability) -> Group {
            let group = self.take(durability).unwrap();
            self.medium.run(&mut Commit::new(group)).unwrap();
            self.writer.landed(group);
            group
        }

        pub(crate) fn append(&mut self, entries: usize, durability: Durability) -> Group {
            self.stage(entries).unwrap();
            self.commit(durability)
        }

        /// What is staged finds no room.
        pub(crate) fn refuse(&mut self) {
            self.take(Durability::Os).unwrap();
            assert_eq!(self.writer.failed(Action::Write, ErrorKind::NoSpace), Consequence::Refused);
        }
    }

    #[test]
    fn entries_that_only_a_cache_may_hold_are_counted_until_a_new_segment_holds_them() {
        for entries in 1..=4 {
            let mut writing = Writing::over(&log(&[&plain(1..=entries)]), options(16));
            let told = |writer: &Writer| (writer.to_copy(), writer.durable(), writer.needs_segment());
            assert_eq!(told(&writing.writer), (entries, Lsn::ZERO, true));
            writing.begin();
            assert_eq!(told(&writing.writer), (0, Lsn::new(entries), false));
        }
    }

    #[test]
    fn what_was_given_up_without_a_word_is_due_until_a_mark_that_says_it_is_durable() {
        let mut writing = Writing::begun(options(16));
        writing.append(4, Durability::Durable);
        let told = |writer: &Writer| (writer.low_water(), writer.low_water_due(), writer.meta(false).low_water_covered);
        assert_eq!(told(&writing.writer), (Lsn::FIRST, false, false));
        let low_water = Lsn::new(3);
        writing.writer.give_up(low_water);
        assert_eq!(told(&writing.writer), (low_water, true, true));
        // Who does not know of the checkpoint takes nothing back.
        writing.writer.stage_low_water(&mut writing.medium.buf[..], 1, low_water, false).unwrap();
        writing.commit(Durability::Os);
        assert_eq!(told(&writing.writer), (low_water, true, true));
        writing.commit(Durability::Durable);
        assert_eq!(told(&writing.writer), (low_water, false, true));
    }

    #[test]
    fn bytes_count_as_unsynced_until_a_sync_covers_them() {
        let mut writing = Writing::begun(options(16));
        let told = |writer: &Writer| (writer.unsynced(), writer.needs_sync(), writer.written(), writer.durable());
        assert_eq!(told(&writing.writer), (0, false, Lsn::ZERO, Lsn::ZERO));
        let first = writing.append(1, Durability::Os).len();
        assert_eq!(told(&writing.writer), (first, true, Lsn::new(1), Lsn::ZERO));
        let second = writing.append(2, Durability::Os).len();
        assert_eq!(told(&writing.writer), (first + second, true, Lsn::new(3), Lsn::ZERO));
        writing.append(1, Durability::Durable);
        assert_eq!(told(&writing.writer), (0, false, Lsn::new(4), Lsn::new(4)));
    }

    #[test]
    fn the_evidence_of_a_cut_is_known_of_until_it_is_removed() {
        let log = log(&[&plain(1..=4), &plain(5..=8), &plain(9..=12)]);
        let mut writing = Writing::over(&log, options(16));
        let predecessor = log.header(1).cut(Lsn::new(4), place(4));
        let cut = CutAt { predecessor, floor: Lsn::new(5), takes_last_checkpoint: false };
        let plan = writing.writer.plan_cut(1, 7, cut, Lsn::new(5)).unwrap();
        writing.begin_as(plan);
        let knows = |writer: &Writer| writer.view().dead.contains(SegmentId::new(3));
        assert!(knows(&writing.writer), "it stands below the segment that was begun");
        writing.writer.evidence_removed();
        assert!(!knows(&writing.writer));
    }

    #[test]
    fn a_refused_write_may_come_back_until_a_segment_is_begun_behind_it_and_one_refused_segment_is_no_such_write() {
        let mut writing = Writing::new(options(16));
        assert!(!writing.writer.holds_refused(), "nothing was written");
        writing.begin();
        assert!(!writing.writer.holds_refused());
        writing.writer.plan(1, 7).unwrap();
        assert_eq!(writing.writer.failed(Action::Create, ErrorKind::NoSpace), Consequence::Refused);
        assert!(!writing.writer.holds_refused(), "the segment was refused, and no entry");
        writing.begin();
        writing.stage(1).unwrap();
        writing.refuse();
        assert!(writing.writer.holds_refused());
        writing.begin();
        assert!(!writing.writer.holds_refused());
    }

    #[test]
    fn a_segment_that_was_refused_room_is_left_over_until_it_is_erased() {
        // One that could not be created is not there: the next may have its id.
        for (action, next) in [(Action::Create, 2), (Action::Write, 3)] {
            let mut writing = Writing::begun(options(16));
            assert!(writing.writer.left_over().is_none());
            let refused = writing.writer.plan(1, 7).unwrap().header.id;
            writing.medium.objects.insert(Object::Segment(refused), vec![0xEE; 8192]);
            assert_eq!(writing.writer.failed(action, ErrorKind::NoSpace), Consequence::Refused);
            let mut erase = writing.writer.left_over().unwrap();
            writing.medium.run(&mut erase).unwrap();
            assert!(!writing.medium.objects.contains_key(&Object::Segment(refused)), "{action}");
            writing.writer.erased();
            assert!(writing.writer.left_over().is_none(), "{action}");
            let plan = writing.writer.plan(1, 7).unwrap();
            assert_eq!((plan.header.id, plan.erase_above), (SegmentId::new(next), None), "{action}");
        }
        let mut writing = Writing::new(options(16));
        assert!(writing.writer.left_over().is_some(), "a creation may have been interrupted");
        writing.writer.poison();
        assert!(writing.writer.left_over().is_none(), "who is poisoned erases nothing");
    }

    #[test]
    fn a_close_has_something_to_seal_once_a_segment_was_begun_and_while_marks_can_be_written_to_it() {
        let mut writing = Writing::new(options(16));
        assert!(!writing.writer.seal_due(), "nothing was begun");
        writing.begin();
        assert!(writing.writer.seal_due());
        writing.writer.plan(1, 7).unwrap();
        assert!(!writing.writer.seal_due(), "the next is being begun");
        writing.writer.failed(Action::Create, ErrorKind::NoSpace);
        assert!(writing.writer.seal_due(), "this one is as it was");
        writing.begin();
        writing.stage(1).unwrap();
        writing.refuse();
        assert!(!writing.writer.seal_due(), "refused bytes stand where it would");
        writing.begin();
        writing.writer.poison();
        assert!(!writing.writer.seal_due());
    }
}
