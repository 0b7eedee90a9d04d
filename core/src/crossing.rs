//! What counts below the low-water mark: the entries of transactions that end at or above it.
//!
//! ```text
//! ... begin 7 | entry of 7 | other | ... | low-water mark | ... | commit 7
//!       ▲            ▲        given up
//!       └────────────┴── these count, for what they belong to ends above
//! ```
//!
//! A batch that goes over the mark is not of these: it is handed out whole by whoever reads from the mark on.

use heapless::Vec;

use crate::{
    Lsn,
    chain::View,
    decision::Policy,
    drive::{Answer, Machine, Place, Step, Stop, Stopped, Turn},
    operation::Code,
    reader::{Read, Reader},
    report::Finding,
    reverse::ReverseReader,
    segment::TRANSACTIONS_MAX,
};

/// The machine: entries below the low-water mark of transactions that are open there, as they stand.
///
/// What is below the mark is read twice: once to see which transactions are open where it ends. Then damage behind the
/// beginning of the oldest of them is met as by any reader, for it may have taken one of their entries. Where there is damage
/// below the mark, all that is above is read too, for commits of transactions of which nothing is left below.
#[derive(Debug)]
pub struct Crossing {
    view: View,
    low_water: Lsn,
    policy: Policy,
    is_reverse: bool,
    way: Way,
    /// The transactions that are open where the way is, while it is found out; then those at the mark.
    open: Vec<Open, TRANSACTIONS_MAX>,
    epoch: u64,
    /// The first entry of the batch that is open where the way is.
    batch: Option<Lsn>,
    /// Whether the entry at the mark was seen.
    is_past: bool,
    /// The last LSN below the mark that is lost.
    lost: Lsn,
    /// Whether it is read what commits above the mark, and how many of those at the mark, the first ones, did.
    is_above: bool,
    committed: usize,
    /// Nothing that began below it is open at the mark.
    floor: Lsn,
    entries: u64,
}

/// A transaction that is open.
#[derive(Clone, Copy, Debug)]
struct Open {
    id: u64,
    /// Whether its begin was seen.
    is_begun: bool,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // One at a time, in place: there is no heap to box it in.
enum Way {
    Finding(Reader),
    Forwards(Reader),
    Back(ReverseReader),
}

impl Crossing {
    /// What counts below the low-water mark of `view`, oldest first; `policy` says what to do about damage.
    #[must_use]
    pub fn new(view: &View, policy: Policy) -> Self {
        let low_water = view.low_water;
        let view = View { low_water: Lsn::FIRST, ..view.clone() };
        // With the entry at the mark: an epoch that begins with it has ended what was open.
        let finding = Reader::new(view.clone(), Lsn::FIRST, low_water, Policy::Inspect);
        Self {
            view,
            low_water,
            policy,
            is_reverse: false,
            way: Way::Finding(finding),
            open: Vec::new(),
            epoch: 0,
            batch: None,
            is_past: false,
            lost: Lsn::ZERO,
            is_above: false,
            committed: 0,
            floor: Lsn::FIRST,
            entries: 0,
        }
    }

    /// [`new`](Self::new), newest first: damage ends it.
    #[must_use]
    pub fn reverse(view: &View) -> Self {
        Self { is_reverse: true, ..Self::new(view, Policy::Default) }
    }

    fn advance(&mut self, turn: &mut Turn<'_>) -> Result<Read, Stopped> {
        loop {
            let (advanced, found) = match &mut self.way {
                Way::Finding(reader) => {
                    let advanced = reader.advance(turn);
                    // Where the log ends at the mark, an epoch may have begun behind it all. Where only what stood at the mark
                    // is lost, the log goes on behind it.
                    let ends = advanced.is_ok() && self.view.last < self.low_water;
                    let epoch = if ends { self.view.epoch } else { reader.marked_epoch() };
                    (advanced, Some((epoch, reader.floor())))
                }
                Way::Forwards(reader) => (reader.advance(turn), None),
                Way::Back(reader) => {
                    let (view, low_water, open) = (&self.view, self.low_water, &self.open);
                    let is_missed = |finding: &Finding| is_missed(view, low_water, self.policy, open, finding);
                    (reader.advance_for(turn, &is_missed), None)
                }
            };
            match (advanced, found) {
                (Err(Stopped), Some((epoch, floor))) => match turn.stop() {
                    Stop::Need(Step::Entry(place)) => self.passed(place, turn.buf, epoch, floor),
                    Stop::Need(Step::Finding(finding)) => self.missed(finding),
                    _ => return Err(Stopped),
                },
                (Ok(_), Some((epoch, floor))) => {
                    self.reached(epoch, floor);
                    // Nothing that began below the floor is open here: truncation may have removed that.
                    if self.lost >= self.floor && !core::mem::replace(&mut self.is_above, true) {
                        let view = self.view.clone();
                        self.way = Way::Finding(Reader::new(view, self.low_water, Lsn::MAX, Policy::Inspect));
                        continue;
                    }
                    if self.is_above {
                        // What comes to nothing loses nothing.
                        self.open.truncate(self.committed);
                    }
                    let oldest = self.open.iter().min_by_key(|open| open.id);
                    let Some(&Open { id, is_begun }) = oldest else { return Ok(Read::default()) };
                    // What a begin says, its transaction's other entries say too.
                    let first = if is_begun { Lsn::new(id) } else { Lsn::new(id).next_or_max() };
                    let last = self.batch.unwrap_or(self.low_water).previous();
                    let view = self.view.clone();
                    self.way = if self.is_reverse {
                        Way::Back(ReverseReader::new(view, first, last))
                    } else {
                        // Whose it was that is lost is known once it was passed over.
                        Way::Forwards(Reader::new(view, first, last, Policy::Inspect))
                    };
                }
                (Err(Stopped), None) => match turn.stop() {
                    Stop::Need(Step::Entry(place)) if !self.counts(place, turn.buf) => {}
                    Stop::Need(Step::Finding(finding))
                        if !is_missed(&self.view, self.low_water, self.policy, &self.open, finding) => {}
                    Stop::Need(Step::Finding(finding)) if finding.stops(self.policy) => {
                        let fault = finding.fault();
                        return Err(turn.fault(fault));
                    }
                    Stop::Need(Step::Entry(_)) => {
                        self.entries += 1;
                        return Err(Stopped);
                    }
                    _ => return Err(Stopped),
                },
                (Ok(_), None) => return Ok(Read { entries: self.entries, ..Read::default() }),
            }
        }
    }

    /// Takes an entry below the mark in.
    fn passed(&mut self, place: &Place, buf: &[u8], epoch: u64, floor: Lsn) {
        if place.lsn >= self.low_water {
            self.reached(epoch, floor);
            let is_commit = Code::from_u8(place.kind.code()) == Some(Code::TxnCommit);
            return place.transaction(buf).filter(|_| is_commit).into_iter().for_each(|id| self.commits(id));
        }
        self.ended_before(epoch);
        self.batch = place.kind.continues_batch().then(|| self.batch.unwrap_or(place.lsn));
        let Some(id) = place.transaction(buf) else { return };
        match Code::from_u8(place.kind.code()) {
            Some(Code::TxnCommit | Code::TxnRollback) => self.open.retain(|open| open.id != id),
            _ if !self.is_open(id) => {
                // No writer of version 1 leaves more open, but damage takes ends: the oldest is likeliest to be over.
                if self.open.is_full() {
                    self.open.remove(0);
                }
                // There is room: it was just made.
                let _ = self.open.push(Open { id, is_begun: id == place.lsn.value() });
            }
            _ => {}
        }
    }

    fn is_open(&self, id: u64) -> bool {
        self.open.iter().any(|open| open.id == id)
    }

    /// Takes note of a commit above the mark, where there is damage below it.
    fn commits(&mut self, id: u64) {
        if !self.is_above {
            return;
        }
        let at = self.open.iter().position(|open| open.id == id).or_else(|| {
            // All that it had below the mark is lost.
            let is_forgotten = (self.floor..self.low_water).contains(&Lsn::new(id));
            // More than a writer leaves open at a time, only damage makes of them: one does as well as another.
            let is_taken = is_forgotten && self.open.push(Open { id, is_begun: false }).is_ok();
            is_taken.then(|| self.open.len() - 1)
        });
        if let Some(at) = at.filter(|at| *at >= self.committed) {
            self.open.swap(at, self.committed);
            self.committed += 1;
        }
    }

    /// This is lost. It may have been a commit: what is left of its transaction is missed for that.
    fn missed(&mut self, finding: &Finding) {
        if let Some(id) = finding.transaction.filter(|_| finding.commits) {
            self.commits(id.get());
        }
        if let Some((_, last)) = finding.lsns.filter(|(first, _)| *first < self.low_water && !self.is_past) {
            self.lost = self.lost.max(last);
        }
    }

    /// The mark is reached, in a segment where nothing that began below `floor` was open when it was begun: its end may be
    /// what was lost to damage.
    fn reached(&mut self, epoch: u64, floor: Lsn) {
        if !core::mem::replace(&mut self.is_past, true) {
            self.floor = floor;
            self.ended_before(epoch);
            self.open.retain(|open| Lsn::new(open.id) >= floor);
        }
    }

    /// A new epoch ends what was open.
    fn ended_before(&mut self, epoch: u64) {
        if epoch > self.epoch {
            self.open.clear();
            self.epoch = epoch;
        }
    }

    fn counts(&self, place: &Place, buf: &[u8]) -> bool {
        place.transaction(buf).is_some_and(|id| self.is_open(id))
    }
}

/// Whether what is lost may have been of one of these transactions; else it was given up. Where a checkpoint holds what is
/// below the mark, they had ended when it was taken, and only who passes over damage asks. Of a loss that reaches the
/// mark, whoever reads on from there tells.
fn is_missed(view: &View, low_water: Lsn, policy: Policy, open: &[Open], finding: &Finding) -> bool {
    let is_held = view.low_water_covered && finding.stops(policy);
    let is_below = finding.lsns.is_some_and(|(_, last)| last < low_water);
    !is_held && is_below && open.iter().any(|open| finding.tears(Lsn::new(open.id), Lsn::MAX))
}

impl Machine for Crossing {
    type Output = Read;

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<Read, Stop> {
        Turn::run(buf, answer, |turn| self.advance(turn))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;
    use std::{vec, vec::Vec};

    use Piece::{Alone, AloneLost, Begin, Commit, Epoch, Lost, Of, Rollback, Segment};

    use super::*;
    use crate::{
        SegmentId,
        chain::tests::view,
        checksum::portable,
        device::Object,
        fault::Fault,
        frame::{FRAME_HEADER_LEN, FRAME_TRAILER_LEN, FrameType, Mark, Salts, TRANSACTION_ID_LEN},
        segment::SegmentHeader,
    };

    /// What a log is made of. Each entry has the next LSN, from 1 on.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Piece {
        /// A segment of this epoch begins where nothing is open that began below `floor`. The first is there from the start.
        Segment {
            epoch: u64,
            floor: u64,
        },
        /// A mark: another epoch begins.
        Epoch(u64),
        /// An entry outside transactions.
        Alone,
        /// The same, lost to damage.
        AloneLost,
        /// An entry that begins a transaction: its LSN is the id.
        Begin,
        /// An entry of this transaction.
        Of(u64),
        Commit(u64),
        Rollback(u64),
        /// An entry of some transaction: which one, and what it did there, is lost to damage.
        Lost,
    }

    /// What a machine hands out.
    #[derive(Debug)]
    pub(crate) struct Told {
        pub(crate) lsns: Vec<u64>,
        /// The LSNs that it finds lost.
        pub(crate) lost: Vec<u64>,
        pub(crate) end: Result<Read, Fault>,
    }

    /// A log on a medium, segment by segment.
    pub(crate) struct Made {
        segments: Vec<(SegmentHeader, Vec<u8>)>,
        epoch: u64,
        last: Lsn,
    }

    impl Made {
        pub(crate) fn of(pieces: &[Piece]) -> Self {
            let mut made = Self { segments: Vec::new(), epoch: 0, last: Lsn::ZERO };
            let first = Segment { epoch: 1, floor: 1 };
            [first].iter().chain(pieces).for_each(|piece| made.add(*piece));
            made
        }

        fn add(&mut self, piece: Piece) {
            let next = self.last.next_or_max();
            if let Segment { epoch, .. } | Epoch(epoch) = piece {
                self.epoch = epoch;
            }
            let (code, transaction) = match piece {
                Segment { epoch, floor } => return self.begin(epoch, Lsn::new(floor)),
                Epoch(epoch) => {
                    let mark = Mark::Epoch(epoch);
                    let mut payload = vec![0; mark.payload_len()];
                    mark.encode(self.last, &mut payload);
                    return self.put(self.last, FrameType::new(mark.code()), &payload);
                }
                Alone | AloneLost => (Code::Opaque, None),
                Begin => (Code::TxnBegin, Some(next.value())),
                Of(id) => (Code::Opaque, Some(id)),
                Lost => (Code::Opaque, Some(0)),
                Commit(id) => (Code::TxnCommit, Some(id)),
                Rollback(id) => (Code::TxnRollback, Some(id)),
            };
            let kind = FrameType::new(code.value());
            match transaction {
                Some(id) => self.put(next, kind.in_transaction(), &id.to_le_bytes()),
                None => self.put(next, kind, &[0xA5; TRANSACTION_ID_LEN]),
            }
            self.last = next;
            if matches!(piece, Lost | AloneLost) {
                let (_, bytes) = self.segments.last_mut().unwrap();
                let payload = bytes.len() - FRAME_TRAILER_LEN - TRANSACTION_ID_LEN;
                bytes[payload..].fill(0x11);
            }
        }

        /// Begins a segment behind the last.
        fn begin(&mut self, epoch: u64, floor: Lsn) {
            let before = self.segments.last().map(|(header, _)| header.cut(self.last, self.end()));
            let header = SegmentHeader {
                id: SegmentId::new(self.segments.len() as u64 + 1),
                epoch,
                first: self.last.next_or_max(),
                transaction_floor: floor,
                segment_size: 4096,
                write_limit: 1024,
                predecessor: before.unwrap_or_default(),
                ..SegmentHeader::NONE
            };
            let mut bytes = vec![0; header.frames_at() as usize];
            for at in [0, header.copy_offset as usize] {
                let copy = header.encode(portable);
                bytes[at..at + copy.len()].copy_from_slice(&copy);
            }
            self.segments.push((header, bytes));
        }

        fn put(&mut self, lsn: Lsn, kind: FrameType, payload: &[u8]) {
            let (at, (header, bytes)) = (self.end(), self.segments.last_mut().unwrap());
            let mut frame = vec![0; FRAME_HEADER_LEN + payload.len() + FRAME_TRAILER_LEN];
            frame[FRAME_HEADER_LEN..][..payload.len()].copy_from_slice(payload);
            Salts::of(portable, header).complete(&mut frame, at, lsn, 0, kind);
            bytes.extend(frame);
        }

        /// Where the last segment ends.
        fn end(&self) -> u32 {
            let (_, bytes) = self.segments.last().unwrap();
            u32::try_from(bytes.len()).unwrap()
        }

        /// The log without its first segment.
        fn without_the_first(mut self) -> Self {
            self.segments.remove(0);
            self
        }

        pub(crate) fn view(&self, low_water: u64) -> View {
            let [oldest, newest] = [self.segments.first(), self.segments.last()].map(|segment| segment.unwrap().0);
            View {
                epoch: self.epoch,
                log: newest.log,
                oldest: oldest.id,
                newest: newest.id,
                last: self.last,
                end: self.end(),
                low_water: Lsn::new(low_water),
                ..view()
            }
        }

        /// The LSNs that count below this low-water mark, read in both directions.
        fn counted(&self, low_water: u64) -> Vec<u64> {
            let view = self.view(low_water);
            let [forwards, mut back] =
                [Crossing::new(&view, Policy::Salvage), Crossing::reverse(&view)].map(|crossing| {
                    let Told { lsns, end, .. } = self.read(crossing);
                    end.unwrap();
                    lsns
                });
            back.reverse();
            assert_eq!(back, forwards, "read back");
            forwards
        }

        /// Drives a machine to its end.
        pub(crate) fn read(&self, mut machine: impl Machine<Output = Read>) -> Told {
            let (mut buf, mut answer, mut lsns, mut lost) = ([0; 1024], Answer::Nothing, Vec::new(), Vec::new());
            loop {
                answer = match machine.step(&mut buf, answer) {
                    Ok(read) => {
                        assert_eq!(read.entries, lsns.len() as u64, "it counts what it hands out");
                        return Told { lsns, lost, end: Ok(read) };
                    }
                    Err(Stop::Fault(fault)) => return Told { lsns, lost, end: Err(fault) },
                    Err(Stop::Need(Step::Entry(place))) => {
                        lsns.push(place.lsn.value());
                        Answer::Nothing
                    }
                    Err(Stop::Need(Step::Finding(Finding { lsns: Some((first, last)), .. }))) => {
                        lost.extend(first.value()..=last.value());
                        Answer::Nothing
                    }
                    Err(Stop::Need(Step::Prev { before: Some(Object::Segment(before)) })) => {
                        let ids = self.segments.iter().map(|(header, _)| header.id);
                        Answer::Object(ids.rev().find(|id| *id < before).map(Object::Segment))
                    }
                    Err(Stop::Need(Step::Next { after: Some(Object::Segment(after)) })) => {
                        let mut ids = self.segments.iter().map(|(header, _)| header.id);
                        Answer::Object(ids.find(|id| *id > after).map(Object::Segment))
                    }
                    Err(Stop::Need(Step::Read { object, at, into })) => {
                        let of = self.segments.iter().find(|(header, _)| Object::Segment(header.id) == object);
                        let rest = of.unwrap().1.get(usize::try_from(at).unwrap()..).unwrap_or_default();
                        let moved = rest.len().min(into.len());
                        buf[into][..moved].copy_from_slice(&rest[..moved]);
                        Answer::Moved(moved)
                    }
                    Err(stop) => panic!("{stop:?}"),
                };
            }
        }
    }

    #[test]
    fn what_is_open_at_the_mark_counts_below_it_and_what_has_ended_there_does_not() {
        for (what, pieces, low_water, counted) in [
            ("it may still be committed", &[Alone, Begin, Of(2), Alone][..], 5, &[2, 3][..]),
            ("it was committed at the mark", &[Alone, Begin, Of(2), Commit(2)], 4, &[2, 3]),
            ("it was committed right below the mark", &[Alone, Begin, Of(2), Commit(2), Alone], 5, &[]),
            ("it was rolled back right below the mark", &[Alone, Begin, Of(2), Rollback(2), Alone], 5, &[]),
            ("one of two is open", &[Begin, Begin, Of(1), Alone, Of(2), Commit(1), Of(2)], 7, &[2, 5]),
            ("it begins at the mark", &[Alone, Begin, Of(2)], 2, &[]),
        ] {
            assert_eq!(Made::of(pieces).counted(low_water), counted, "{what}");
        }
    }

    #[test]
    fn a_transaction_of_many_entries_takes_the_room_of_one_of_those_that_are_open() {
        let entries = TRANSACTIONS_MAX + 4;
        let pieces: Vec<_> = [Begin, Begin].into_iter().chain(vec![Of(2); entries]).chain([Alone]).collect();
        let low_water = pieces.len() as u64;
        assert_eq!(Made::of(&pieces).counted(low_water), (1..low_water).collect::<Vec<_>>());
    }

    #[test]
    fn an_epoch_that_begins_before_the_entry_at_the_mark_has_ended_what_was_open() {
        let of_segment = Segment { epoch: 2, floor: 1 };
        for (what, pieces, counted) in [
            ("it begins further down", &[Begin, Of(1), Epoch(2), Alone, Alone][..], &[][..]),
            ("it begins at the mark", &[Begin, Of(1), Alone, Epoch(2), Alone], &[]),
            ("it begins above the mark", &[Begin, Of(1), Alone, Alone, Epoch(2), Alone], &[1, 2]),
            ("what began in it is open", &[Begin, Epoch(2), Begin, Alone, Alone], &[2]),
            ("no other begins", &[Begin, Of(1), Epoch(1), Alone, Alone], &[1, 2]),
            ("it begins in the segment that was found, and the log ends there", &[Begin, Of(1), Alone, Epoch(2)], &[]),
            ("what began in it is open, and the log ends there", &[Begin, Epoch(2), Begin, Alone], &[2]),
            ("it begins with a segment, and the log ends there", &[Begin, Of(1), Alone, of_segment], &[]),
            ("what it found was copied into its first segment", &[Begin, Of(1), of_segment, Alone, Alone], &[1, 2]),
        ] {
            assert_eq!(Made::of(pieces).counted(4), counted, "{what}");
        }
    }

    #[test]
    fn what_is_lost_at_the_mark_is_left_to_whoever_reads_on_from_there() {
        let made = Made::of(&[Begin, Of(1), Lost, Alone, Lost, Commit(1)]);
        for (low_water, lost) in [(4, &[3][..]), (5, &[3]), (6, &[3, 5]), (3, &[])] {
            let told = made.read(Crossing::new(&made.view(low_water), Policy::Salvage));
            assert!(told.end.is_ok(), "{told:?}");
            assert_eq!(told.lost, lost, "{low_water}");
        }
    }

    #[test]
    fn what_began_below_the_floor_of_the_segment_at_the_mark_was_over() {
        let pieces = |floor: u64| [Begin, Lost, Begin, Segment { epoch: 1, floor }, Alone, Alone];
        assert_eq!(Made::of(&pieces(3)).counted(5), [3], "it ended with what is lost");
        assert_eq!(Made::of(&pieces(4)).counted(5), [0; 0]);
    }

    #[test]
    fn what_truncation_removed_below_the_floor_leaves_no_doubt_about_what_is_open() {
        let pieces = [Begin, Commit(1), Segment { epoch: 1, floor: 3 }, Begin, Of(3), Alone];
        let truncated = Made::of(&pieces).without_the_first();
        assert_eq!(truncated.counted(5), [3, 4]);
    }

    #[test]
    fn what_is_lost_below_the_mark_may_have_ended_a_transaction_and_what_is_lost_at_it_stood_above() {
        let copied = Segment { epoch: 2, floor: 1 };
        for (what, pieces, counted) in [
            ("right below the mark", &[Begin, Of(1), Lost, Alone, Alone][..], &[][..]),
            ("at the mark", &[Begin, Of(1), Alone, Lost, Alone], &[1, 2]),
            ("at the mark, where the log ends", &[Begin, Of(1), Alone, Lost], &[1, 2]),
            // Entries of the epoch before may have been copied behind the header.
            ("at the mark, in a segment of a new epoch", &[Begin, Of(1), Alone, copied, Lost], &[1, 2]),
        ] {
            assert_eq!(Made::of(pieces).counted(4), counted, "{what}");
        }
    }
}
