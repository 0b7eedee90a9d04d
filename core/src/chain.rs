//! The chain of segments: reading headers, and what is known of a log once recovery has found its way through them.
//!
//! # Behind a segment that is gone
//!
//! ```text
//! on the medium:   B    (D D)    P    S        S names P: its id, nonce, last LSN, size; F, where its span begins;
//!                        dead   gone            and how many ids lie between P and the segment that P named
//! ```
//!
//! When P was begun, the log ended at the cut of its own predecessor B, at F - 1. So what counts of B is what has an LSN
//! below F, and S alone tells B's id. Nothing that is dead comes back:
//!
//! - *Frames of B behind its cut* have LSNs from F on, for frames of a segment follow each other, and reading stops at
//!   F - 1.
//! - *Segments between B and P* are dead, and are not looked at: their ids are higher than B's. If B itself is gone too, or
//!   so many ids lie between that S does not tell, any segment below may have been B, or have stood behind B. Each
//!   segment begun while B was in the chain begins behind B's cut as it was then, and a later cut goes no further back
//!   than P tells, so what begins at or above F is dead for certain. What begins below F may have been cut off by a
//!   segment that is gone: only where the log was never cut (the flag *leftovers* of S is clear) is each sound frame,
//!   found as the end of a log is found, an entry that counts. What a take-over passed over or copied holds the same
//!   entries as its copy; what it left as a torn tail stands behind a place that does not verify, with no mark to
//!   prove it. With the flag, the chain ends, and what is older is told as lost.
//!
//! F is not P's first LSN but the one behind B's last: where entries were given up between the two, segments of theirs may
//! still lie there, kept as evidence, and must not come back either.

use heapless::Vec;
use uuid::Uuid;

use crate::{
    CheckpointId, Lsn,
    checkpoint::CheckpointHead,
    checksum::Update,
    cursor::{Cursor, Search},
    device::Object,
    drive::{Stopped, Turn},
    fault::Fault,
    report::{Finding, Seen},
    segment::{COPY_OFFSETS, FORMAT_VERSION, NotAHeader, Predecessor, SEGMENT_HEADER_LEN, SegmentHeader, SegmentId},
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
    /// Takes in what others know: nothing is known here yet.
    pub(crate) fn take_in(&mut self, others: &Self) {
        // They fit: there is the same room here.
        let _ = self.0.extend_from_slice(&others.0);
    }

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

/// How many headers a reader remembers that are not to be taken as they stand: beyond that, recovery ends the chain.
pub(crate) const MENDED_MAX: usize = 4;

/// Headers that are not as they stand on the medium: made out from those of the neighbours, where both copies are bad;
/// or naming as predecessor the segment that is there, where the one they name is missing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mended(pub(crate) Vec<SegmentHeader, MENDED_MAX>);

impl Mended {
    /// Takes in what others know: nothing is known here yet.
    pub(crate) fn take_in(&mut self, others: &Self) {
        // They fit: there is the same room here.
        let _ = self.0.extend_from_slice(&others.0);
    }

    /// The header of this segment, if it is not to be taken as it stands.
    pub(crate) fn get(&self, id: SegmentId) -> Option<&SegmentHeader> {
        self.0.iter().find(|header| header.id == id)
    }

    /// A segment took the place of the one before it, and names the same predecessor.
    pub(crate) fn passed_over(&mut self, old: &SegmentHeader, new: &SegmentHeader) {
        if old.predecessor.id == new.predecessor.id
            && let Some(header) = self.0.iter_mut().find(|header| header.id == old.id)
        {
            let predecessor = header.predecessor;
            *header = *new;
            header.predecessor = predecessor;
        }
    }
}

/// How many epochs are tried for a segment that lost its header: more than a log is ever reopened in one segment.
const EPOCHS_MAX: u64 = 4096;
/// How many of them for a segment whose first frame is bad too: each takes a search.
const EPOCHS_SEARCHED: u64 = 64;

/// Makes out the header of a segment that lost both copies, from those of the segments around it.
///
/// The successor names its nonce and its end, and its own geometry tells where frames begin, or that of the segment
/// before does; only the epoch is not known. It lies between those of the neighbours: the right one is that under which
/// the first frame verifies or, if that is bad too, one behind it.
#[derive(Debug)]
pub(crate) struct MakeOut {
    update: Update,
    /// The header, as it is tried.
    header: SegmentHeader,
    attempt: Attempt,
    cursor: Cursor,
    search: Search,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// There are no entries to tell the epoch by, and none to be read.
    Empty,
    /// The first frame, where the geometry of the successor has it.
    First,
    /// The same by that of the segment before.
    Second,
    /// Any frame, one write limit far.
    Search,
    Nothing,
}

impl MakeOut {
    /// Makes out the segment before `successor`, whose entries begin at `first`; `before` is the one before that.
    pub(crate) fn new(update: Update, successor: &SegmentHeader, before: Option<&SegmentHeader>, first: Lsn) -> Self {
        let lost = successor.predecessor;
        let mut header = *successor;
        header.id = lost.id;
        header.nonce = lost.nonce;
        header.first = first;
        // Which transactions were open here, nothing tells: all that is there may be needed.
        header.transaction_floor = Lsn::FIRST;
        header.predecessor = Predecessor::default();
        let cursor = Cursor::new(update, &header, header.frames_at(), lost.size);
        // A short one may end before the successor would have its first frame, and yet hold some.
        let holds = |geometry: &SegmentHeader| lost.last >= first && lost.size > geometry.frames_at();
        let attempt = if holds(&header) || before.is_some_and(holds) { Attempt::First } else { Attempt::Empty };
        let search = cursor.search(0);
        Self { update, header, attempt, cursor, search }
    }

    /// Goes on until it is known whether anything there verifies; the header that the segment must have had then is
    /// [`header`](Self::header). The segments around it are the same as when it was made.
    pub(crate) fn next(
        &mut self,
        turn: &mut Turn<'_>,
        successor: &SegmentHeader,
        before: Option<&SegmentHeader>,
    ) -> Result<bool, Stopped> {
        loop {
            let fits = match self.attempt {
                Attempt::Empty => true,
                Attempt::First | Attempt::Second => self.cursor.next(turn)? == Seen::Good && self.is_first(successor),
                Attempt::Search => self.search.next(&mut self.cursor, turn)?,
                Attempt::Nothing => return Ok(false),
            };
            if fits {
                return Ok(true);
            }
            self.try_next(successor, before);
        }
    }

    /// The header, as it was made out.
    pub(crate) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// Whether the first frame may be this one: what was given up before it may have taken LSNs.
    fn is_first(&self, successor: &SegmentHeader) -> bool {
        let header = self.cursor.frame().header;
        let lsn = if header.kind.is_mark() { header.lsn.next_or_max() } else { header.lsn };
        let first = self.header.first;
        if successor.accepted_loss >= first { lsn >= first } else { lsn == first }
    }

    /// On to the next epoch, or the next attempt.
    fn try_next(&mut self, successor: &SegmentHeader, before: Option<&SegmentHeader>) {
        let highest = successor.epoch;
        let lowest = before.map_or(1, |before| before.epoch);
        let most = if self.attempt == Attempt::Search { EPOCHS_SEARCHED } else { EPOCHS_MAX };
        if self.header.epoch > lowest && highest - self.header.epoch + 1 < most {
            self.header.epoch -= 1;
            self.cursor.salt(self.update, &self.header);
        } else {
            self.header.epoch = highest;
            let geometry = match (self.attempt, before) {
                (Attempt::First, Some(before)) => {
                    self.attempt = Attempt::Second;
                    before
                }
                (Attempt::First | Attempt::Second, _) => {
                    self.attempt = Attempt::Search;
                    successor
                }
                _ => {
                    let empty = successor.predecessor.size <= self.header.frames_at();
                    self.attempt = if empty { Attempt::Empty } else { Attempt::Nothing };
                    return;
                }
            };
            self.header.granule = geometry.granule;
            self.header.copy_offset = geometry.copy_offset;
            self.header.blank = geometry.blank;
            self.header.segment_size = geometry.segment_size;
            let size = successor.predecessor.size;
            self.cursor = Cursor::new(self.update, &self.header, self.header.frames_at(), size);
        }
        self.cursor.go(self.header.frames_at());
        self.search = self.cursor.search(self.header.write_limit);
    }
}

/// A sound header of another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StrayHeader {
    pub(crate) log: Uuid,
    pub(crate) id: SegmentId,
    pub(crate) nonce: u64,
    /// Where it stands.
    pub(crate) offset: u32,
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
    /// The log and segment of a sound header that belongs elsewhere, and where that stands: the segment has another's name,
    /// or its room another life.
    pub(crate) stray: Option<StrayHeader>,
}

/// Reads both copies of a segment's header.
#[derive(Clone, Debug)]
pub(crate) struct HeaderReader {
    id: SegmentId,
    update: Update,
    window: Window,
    place: Place,
    /// What stands there, once it is known.
    pub(crate) read: HeaderRead,
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

    /// Goes on until it is known what stands there. A sound header of another version is a fault.
    pub(crate) fn next(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        loop {
            let offset = self.offset();
            let bytes = self.window.get(turn, u64::from(offset), SEGMENT_HEADER_LEN)?;
            if self.take(turn, &bytes, offset)? {
                return Ok(());
            }
        }
    }

    /// Takes in what stands in the place of one copy; whether that was the last to be read.
    #[inline(never)] // What it takes of the stack is not there while a copy is read.
    fn take(&mut self, turn: &mut Turn<'_>, bytes: &Bytes, offset: u32) -> Result<bool, Stopped> {
        let decoded = match bytes {
            Bytes::Whole(bytes) => SegmentHeader::decode(self.update, turn.bytes(bytes), offset),
            Bytes::Short(_) => Err(NotAHeader::Invalid),
            Bytes::Unreadable => {
                self.read.unreadable = true;
                Err(NotAHeader::Invalid)
            }
        };
        let copy = match &decoded {
            Ok(header) if header.id == self.id => Some(header),
            Ok(SegmentHeader { log, id, nonce, .. }) => {
                self.read.stray.get_or_insert(StrayHeader { log: *log, id: *id, nonce: *nonce, offset });
                None
            }
            Err(NotAHeader::Invalid) => None,
            Err(NotAHeader::Unsupported { version, flags }) => {
                let object = Object::Segment(self.id);
                let number = if *version == FORMAT_VERSION { *flags } else { *version };
                return Err(turn.fault(Fault::Unsupported { object, offset: offset.into(), number }));
            }
        };
        match (self.place, copy) {
            (Place::Check(offset), copy) => {
                self.read.bad_copy = (copy != self.read.header.as_ref()).then_some(offset);
                return Ok(true);
            }
            (place, Some(header)) => {
                self.read.header = Some(*header);
                if place != Place::First {
                    self.read.bad_copy = Some(0);
                    return Ok(true);
                }
                self.go(Place::Check(header.copy_offset));
            }
            (Place::First, None) => self.go(Place::Second(0)),
            (Place::Second(place), None) if place + 1 < COPY_OFFSETS.len() => self.go(Place::Second(place + 1)),
            (Place::Second(_), None) => return Ok(true),
        }
        Ok(false)
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
    pub(crate) mended: Mended,
    /// The epoch that began last: whoever reads up to the last entry comes by no mark behind it.
    pub(crate) epoch: u64,
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
    /// The newest segment.
    #[must_use]
    pub fn newest(&self) -> SegmentId {
        self.newest
    }

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

    /// Damage and gaps up to this LSN were accepted, and are known.
    #[must_use]
    pub fn accepted_loss(&self) -> Lsn {
        self.accepted_loss
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

    /// The header of a segment, if it is not to be taken as it stands on the medium: made out, where it is gone in both
    /// copies, or with another predecessor, where the one that it names is missing.
    #[must_use]
    pub fn mended(&self, id: SegmentId) -> Option<SegmentHeader> {
        self.mended.get(id).copied()
    }

    /// The header of a segment of the chain, of which `reader` tells what is on the medium.
    ///
    /// # Errors
    /// [`Fault::Unreadable`]: the device could not read it, which says nothing about the bytes. [`Fault::Damaged`]: it is
    /// gone in both copies.
    pub(crate) fn header<'a>(
        &'a self,
        turn: &mut Turn<'_>,
        reader: &'a HeaderReader,
    ) -> Result<&'a SegmentHeader, Stopped> {
        let read = &reader.read;
        let header = self.mended.get(reader.id).or(read.header.as_ref().filter(|header| header.log == self.log));
        header.ok_or_else(|| {
            let object = Object::Segment(reader.id);
            turn.fault(match read.unreadable {
                true => Fault::Unreadable { object, offset: 0 },
                false => Fault::Damaged(Finding::rot(Seen::BadSegmentHeader, object, 0)),
            })
        })
    }

    /// Whether a state that is built up from this checkpoint and the entries behind it lacks some: they were given up, and their
    /// loss was not accepted.
    #[must_use]
    pub fn lacks_state(&self, checkpoint: &CheckpointHead) -> bool {
        self.lacks_from(self.needed_from(checkpoint))
    }

    /// The first LSN from which entries have to be there for a state that is built up from this checkpoint. Truncation
    /// relies on no checkpoint that needs entries below the mark, of transactions that were open when it was taken; a mark that
    /// relies on none leaves those there.
    #[must_use]
    pub fn needed_from(&self, checkpoint: &CheckpointHead) -> Lsn {
        if self.low_water_covered { checkpoint.floor } else { checkpoint.lsn.next_or_max() }
    }

    /// Whether some of the entries from here on were given up, and their loss was not accepted.
    pub(crate) fn lacks_from(&self, lsn: Lsn) -> bool {
        lsn < self.low_water && self.low_water.previous() > self.accepted_loss
    }

    /// What there is to be told of a state that is lost; `bad` is a checkpoint that is not valid.
    #[must_use]
    pub fn state_lost(&self, bad: Option<CheckpointId>) -> Finding {
        let mut finding = Finding::state_lost(Object::Segment(self.newest), self.low_water, bad, self.accepted_loss);
        finding.witness = finding.witness.filter(|_| self.low_water_covered);
        finding
    }

    /// Whether a checkpoint holds all that is gone by this damage, and what it was part of: what was truncated. A transaction that
    /// goes over such a mark had ended when the checkpoint was taken.
    pub(crate) fn holds_truncated(&self, finding: &Finding) -> bool {
        self.low_water_covered && finding.lsns.is_some_and(|(_, last)| last < self.low_water)
    }

    /// Whether this view no longer has what a reader of the view `seen` was reading there: that was given up since.
    #[must_use]
    pub fn has_given_up(&self, seen: &Self, object: Object) -> bool {
        matches!(object, Object::Segment(id) if seen.counts(id) && !self.counts(id))
    }

    /// Whether the segment is part of the log, by its id.
    #[must_use]
    pub fn counts(&self, id: SegmentId) -> bool {
        (self.oldest..=self.newest).contains(&id) && !self.dead.contains(id)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;
    use std::{vec, vec::Vec};

    use super::*;
    use crate::{
        checksum::portable,
        drive::{Answer, Step, Stop},
        frame::{FrameType, Mark, Salts},
    };

    /// What a reader knows of a log of one segment, with the LSNs up to 40.
    pub(crate) fn view() -> View {
        View {
            update: portable,
            log: Uuid::nil(),
            oldest: SegmentId::new(1),
            newest: SegmentId::new(1),
            dead: Dead::default(),
            mended: Mended::default(),
            epoch: 1,
            last: Lsn::new(40),
            end: 4096,
            low_water: Lsn::FIRST,
            low_water_covered: false,
            accepted_loss: Lsn::ZERO,
        }
    }

    /// The first LSN of the segment that lost its header.
    const FIRST: u64 = 12;
    const ENTRY: FrameType = FrameType::new(10);
    const MARK: FrameType = FrameType::new(Mark::Durable.code());
    /// Bytes of each frame here.
    const FRAME_LEN: u32 = 64;

    /// The segment that lost its header, as it was begun in this epoch.
    fn lost(epoch: u64) -> SegmentHeader {
        SegmentHeader {
            log: Uuid::from_u128(7),
            id: SegmentId::new(4),
            epoch,
            nonce: 33,
            first: Lsn::new(FIRST),
            blank: 0xFF,
            granule: 16,
            copy_offset: 512,
            segment_size: 8192,
            write_limit: 1024,
            ..SegmentHeader::NONE
        }
    }

    /// A header of its own, of the same geometry, whose predecessor it was.
    fn successor(epoch: u64) -> SegmentHeader {
        let lost = lost(epoch);
        let (last, size) = (Lsn::new(40), 4096);
        let predecessor = Predecessor { id: lost.id, nonce: lost.nonce, last, size, span: 29, between: 0 };
        SegmentHeader { id: SegmentId::new(5), nonce: 55, first: last.next_or_max(), predecessor, ..lost }
    }

    /// The segment before it.
    fn before(epoch: u64) -> SegmentHeader {
        SegmentHeader { id: SegmentId::new(3), nonce: 11, first: Lsn::FIRST, ..lost(epoch) }
    }

    /// The bytes of a segment whose header is gone, with these frames in it.
    fn segment(header: &SegmentHeader, frames: impl IntoIterator<Item = (u64, FrameType)>) -> Vec<u8> {
        let salts = Salts::of(portable, header);
        let mut bytes = vec![0x11; header.frames_at() as usize];
        for ((lsn, kind), at) in frames.into_iter().zip((header.frames_at()..).step_by(FRAME_LEN as usize)) {
            let mut frame = [0xA5; FRAME_LEN as usize];
            salts.complete(&mut frame, at, Lsn::new(lsn), 0, kind);
            bytes.extend(frame);
        }
        bytes.resize(header.segment_size as usize, header.blank);
        bytes
    }

    /// The header that is made out for the segment that holds these bytes.
    fn made_out(successor: &SegmentHeader, before: Option<&SegmentHeader>, bytes: &[u8]) -> Option<SegmentHeader> {
        let mut make_out = MakeOut::new(portable, successor, before, Lsn::new(FIRST));
        let (mut buf, mut answer) = ([0; 1024], Answer::Nothing);
        loop {
            match Turn::run(&mut buf, answer, |turn| make_out.next(turn, successor, before)) {
                Ok(found) => return found.then_some(*make_out.header()),
                Err(Stop::Need(Step::Read { object, at, into })) => {
                    assert_eq!(object, Object::Segment(successor.predecessor.id));
                    let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
                    let moved = into.len().min(rest.len());
                    buf[into][..moved].copy_from_slice(&rest[..moved]);
                    answer = Answer::Moved(moved);
                }
                Err(stop) => panic!("{stop:?}"),
            }
        }
    }

    /// The epoch that is made out for a segment of `epoch`, between segments of these.
    fn epoch_of(epoch: u64, before_it: Option<u64>, behind_it: u64) -> Option<u64> {
        let bytes = segment(&lost(epoch), [(FIRST, ENTRY)]);
        made_out(&successor(behind_it), before_it.map(before).as_ref(), &bytes).map(|header| header.epoch)
    }

    #[test]
    fn a_header_that_is_gone_is_made_out_from_those_around_it_and_the_first_frame() {
        let bytes = segment(&lost(7), [(FIRST, ENTRY)]);
        for before in [None, Some(&before(5))] {
            assert_eq!(made_out(&successor(9), before, &bytes), Some(lost(7)));
        }
        let other = SegmentHeader { nonce: 34, ..lost(7) };
        assert_eq!(made_out(&successor(9), None, &segment(&other, [(FIRST, ENTRY)])), None, "it is another segment");
        assert_eq!(made_out(&successor(9), None, &segment(&lost(7), [])), None, "nothing verifies");
    }

    #[test]
    fn of_a_segment_without_entries_nothing_is_read_and_the_epoch_does_not_matter() {
        let with = |last: u64, size: u32| {
            let whole = successor(9);
            let predecessor = Predecessor { last: Lsn::new(last), size, ..whole.predecessor };
            made_out(&SegmentHeader { predecessor, ..whole }, None, &[])
        };
        assert_eq!(with(FIRST - 1, 4096), Some(lost(9)));
        assert_eq!(with(FIRST, lost(9).frames_at()), Some(lost(9)));
        assert_eq!(with(FIRST, lost(9).frames_at() + 1), None, "there was an entry");
    }

    #[test]
    fn the_epoch_of_a_segment_lies_between_those_of_its_neighbours() {
        let epochs = |before, lowest: u64| (lowest..=10).map(move |epoch| epoch_of(epoch, before, 9));
        assert!(epochs(Some(5), 4).eq([None, Some(5), Some(6), Some(7), Some(8), Some(9), None]));
        assert!(epochs(Some(9), 8).eq([None, Some(9), None]));
        assert_eq!([epoch_of(0, None, 9), epoch_of(1, None, 9)], [None, Some(1)], "there is none before the first");
    }

    #[test]
    fn so_many_epochs_are_tried_and_fewer_where_each_takes_a_search() {
        let highest = 3 * EPOCHS_MAX;
        let tried = |distance: u64| epoch_of(highest - distance, None, highest).is_some();
        assert_eq!([tried(EPOCHS_MAX - 1), tried(EPOCHS_MAX)], [true, false]);
        let searched = |distance: u64| {
            let lost = lost(highest - distance);
            let mut bytes = segment(&lost, [(FIRST, ENTRY), (FIRST + 1, ENTRY)]);
            bytes[lost.frames_at() as usize] ^= 1;
            made_out(&successor(highest), None, &bytes) == Some(lost)
        };
        assert_eq!([searched(0), searched(EPOCHS_SEARCHED - 1), searched(EPOCHS_SEARCHED)], [true, true, false]);
    }

    #[test]
    fn the_first_frame_is_that_of_the_first_lsn_or_one_behind_a_loss_that_was_accepted() {
        let highest = 2 * EPOCHS_SEARCHED;
        // So far back that a frame which may not be the first is not found by a search either.
        let is_first = |lsn: u64, kind: FrameType, accepted_loss: u64| {
            let bytes = segment(&lost(1), [(lsn, kind)]);
            let successor = SegmentHeader { accepted_loss: Lsn::new(accepted_loss), ..successor(highest) };
            made_out(&successor, None, &bytes).is_some()
        };
        // The LSN of a mark is that of the entry before it.
        for (kind, first) in [(ENTRY, FIRST), (MARK, FIRST - 1)] {
            for (lsn, accepted_loss, is) in [
                (first - 1, FIRST - 1, false),
                (first, FIRST - 1, true),
                (first + 1, FIRST - 1, false),
                (first - 1, FIRST, false),
                (first, FIRST, true),
                (first + 1, FIRST, true),
                (first + 1, FIRST + 1, true),
            ] {
                assert_eq!(is_first(lsn, kind, accepted_loss), is, "LSN {lsn}, {accepted_loss} accepted, {kind:?}");
            }
        }
    }

    #[test]
    fn where_frames_begin_the_segment_before_tells_if_the_first_is_not_where_the_successor_has_it() {
        let of_old = |header| SegmentHeader { granule: 1, copy_offset: 128, blank: 0, segment_size: 4096, ..header };
        let (before, lost, successor) = (of_old(before(5)), of_old(lost(7)), successor(9));
        let between = successor.frames_at() - lost.frames_at();
        assert_eq!(between % FRAME_LEN, 0, "where the successor has its first frame, another begins here");
        let bytes = segment(&lost, (FIRST..=40).map(|lsn| (lsn, ENTRY)));
        assert_eq!(made_out(&successor, Some(&before), &bytes), Some(lost));
        // Where nothing tells how it was laid out, what can be read as the successor would have it is.
        let as_the_successor = self::lost(7);
        assert_eq!(made_out(&successor, None, &bytes), Some(as_the_successor));
        let mut bad = bytes;
        bad[lost.frames_at() as usize] ^= 1;
        assert_eq!(made_out(&successor, Some(&before), &bad), Some(as_the_successor));
    }

    #[test]
    fn a_segment_that_ends_before_the_successor_has_a_frame_is_read_as_the_one_before_has_them() {
        let of_old = |header| SegmentHeader { granule: 1, copy_offset: 128, ..header };
        let (before, lost) = (of_old(before(5)), of_old(lost(7)));
        let whole = successor(9);
        let size = lost.frames_at() + FRAME_LEN;
        assert!(size < whole.frames_at());
        let predecessor = Predecessor { last: Lsn::new(FIRST), size, ..whole.predecessor };
        let successor = SegmentHeader { predecessor, ..whole };
        let mut bytes = segment(&lost, [(FIRST, ENTRY)]);
        assert_eq!(made_out(&successor, Some(&before), &bytes), Some(lost));
        // If nothing verifies there, it is one that holds nothing as the successor has it.
        bytes[lost.frames_at() as usize] ^= 1;
        let empty = Some(self::lost(9));
        assert_eq!([made_out(&successor, Some(&before), &bytes), made_out(&successor, None, &bytes)], [empty, empty]);
    }

    #[test]
    fn a_segment_that_takes_the_place_of_another_takes_over_what_was_found_behind_it() {
        let found = Predecessor { id: SegmentId::new(2), last: Lsn::new(8), size: 900, ..Predecessor::default() };
        let old = successor(9);
        let new = SegmentHeader { id: SegmentId::new(6), nonce: 66, epoch: 10, ..old };
        let after = |mended: &[SegmentHeader], new: &SegmentHeader| {
            let mut mended = Mended(mended.iter().copied().collect());
            mended.passed_over(&old, new);
            mended.0
        };
        let (mended, other) = (SegmentHeader { predecessor: found, ..old }, lost(7));
        assert_eq!(after(&[other, mended], &new), [other, SegmentHeader { predecessor: found, ..new }]);
        assert_eq!(after(&[other], &new), [other], "nothing was missing behind it");
        let behind = SegmentHeader { predecessor: old.cut(Lsn::new(50), 2000), ..new };
        assert_eq!(after(&[mended], &behind), [mended], "it is the next, and takes no place");
    }

    #[test]
    fn a_view_tells_what_it_shows() {
        let view = View {
            log: Uuid::from_u128(7),
            newest: SegmentId::new(5),
            low_water: Lsn::new(9),
            low_water_covered: true,
            accepted_loss: Lsn::new(3),
            ..view()
        };
        assert_eq!((view.log(), view.newest(), view.last()), (Uuid::from_u128(7), SegmentId::new(5), Lsn::new(40)));
        assert_eq!(view.end(), (SegmentId::new(5), 4096));
        assert_eq!((view.low_water(), view.is_covered(), view.accepted_loss()), (Lsn::new(9), true, Lsn::new(3)));
    }

    #[test]
    fn entries_below_the_low_water_mark_are_lacked_unless_their_loss_was_accepted() {
        let lacks = |low_water: u64, accepted_loss: u64, from: u64| {
            let view = View { low_water: Lsn::new(low_water), accepted_loss: Lsn::new(accepted_loss), ..view() };
            view.lacks_from(Lsn::new(from))
        };
        assert_eq!([lacks(10, 0, 9), lacks(10, 0, 10)], [true, false], "nothing is gone from the mark on");
        assert_eq!([lacks(10, 8, 1), lacks(10, 9, 1), lacks(10, 10, 1)], [true, false, false]);
    }

    #[test]
    fn a_checkpoint_holds_what_is_gone_below_a_mark_that_relies_on_one() {
        let holds = |low_water_covered: bool, lsns: Option<(u64, u64)>| {
            let view = View { low_water: Lsn::new(10), low_water_covered, ..view() };
            let mut finding = Finding::rot(Seen::BadEntry, Object::Segment(SegmentId::new(1)), 640);
            finding.lsns = lsns.map(|(first, last)| (Lsn::new(first), Lsn::new(last)));
            view.holds_truncated(&finding)
        };
        assert_eq!([holds(true, Some((7, 9))), holds(true, Some((7, 10))), holds(true, None)], [true, false, false]);
        assert!(!holds(false, Some((7, 9))), "the mark relies on none");
    }
}
