//! Replay: entries in the order in which they count, each once.
//!
//! An entry of a transaction counts where its commit stands. It is handed over there, by reading the transaction's
//! span again: the commit carries the LSN of the begin. So memory does not grow with transactions, and the time is
//! bounded by their number times the log.

use crate::{
    Lsn,
    chain::View,
    decision::Policy,
    drive::{Answer, Machine, Place, Step, Stop, Stopped, Turn},
    operation::Code,
    reader::{Read, Reader},
};

/// The machine: what counts from `from` on.
#[derive(Debug)]
pub struct Replay {
    view: View,
    policy: Policy,
    /// Where the main reader begins.
    from: Lsn,
    main: Reader,
    /// The transaction whose commit stands where the main reader is.
    committed: Option<Committed>,
    /// Entries handed out.
    entries: u64,
}

#[derive(Debug)]
struct Committed {
    id: u64,
    begin: Lsn,
    commit: Lsn,
    reader: Reader,
    /// It is read once before, to see that it is whole: what lost an entry is dropped as one.
    checking: bool,
    torn: bool,
}

impl Replay {
    /// Hands out what counts from the LSN `from` on, up to the end of the view: what stands alone, and the transactions
    /// whose commits do. The entries that begin, commit and roll back are not handed out, nor those of the log's
    /// own checkpoints.
    #[must_use]
    pub fn new(view: View, from: Lsn, policy: Policy) -> Self {
        let main = Reader::new(view.clone(), from, Lsn::MAX, policy);
        Self { view, policy, from, main, committed: None, entries: 0 }
    }

    fn advance(&mut self, turn: &mut Turn<'_>) -> Result<Read, Stopped> {
        loop {
            let Some(committed) = &mut self.committed else {
                match self.main.advance(turn) {
                    Ok(read) => return Ok(Read { entries: self.entries, ..read }),
                    Err(Stopped) => match turn.stop() {
                        Stop::Need(Step::Entry(place)) if !self.counts(place, turn.buf) => continue,
                        Stop::Need(Step::Entry(_)) => self.entries += 1,
                        _ => {}
                    },
                }
                return Err(Stopped);
            };
            match committed.reader.advance(turn) {
                Err(Stopped) => match turn.stop() {
                    Stop::Need(Step::Entry(place)) if !committed.checking && committed.holds(place, turn.buf) => {
                        self.entries += 1;
                        return Err(Stopped);
                    }
                    Stop::Need(Step::Entry(_)) => {}
                    Stop::Need(Step::Finding(finding)) => {
                        let last = finding.lsns.map(|(_, last)| last);
                        let tears = finding.tears(committed.begin, committed.commit.next_or_max());
                        let stops = tears && finding.stops(self.policy);
                        if stops && !self.view.holds_truncated(finding) {
                            let fault = finding.fault();
                            return Err(turn.fault(fault));
                        }
                        committed.torn |= tears;
                        // What the main reader comes by, it reports, or has. What a checkpoint holds is nobody's loss.
                        if tears && !stops && committed.checking && last < Some(self.from) {
                            return Err(Stopped);
                        }
                    }
                    _ => return Err(Stopped),
                },
                Ok(_) if committed.checking && !committed.torn => {
                    committed.checking = false;
                    committed.reader = span(&self.view, committed.begin, committed.commit);
                }
                Ok(_) => {
                    self.committed = None;
                    // The buffer holds what the transaction's reader read.
                    self.main.forget();
                }
            }
        }
    }

    /// Whether the entry counts by itself. A commit begins the reading of its transaction.
    fn counts(&mut self, place: &Place, buf: &[u8]) -> bool {
        let code = Code::from_u8(place.kind.code());
        if !place.kind.is_in_transaction() {
            return code != Some(Code::Checkpoint);
        }
        if let (Some(Code::TxnCommit), Some(id)) = (code, place.transaction(buf)) {
            let begin = Lsn::new(id);
            if begin < place.lsn {
                let commit = place.lsn.previous();
                let reader = span(&self.view, begin, commit);
                // A policy that skips no damage stops at it anyway, but for what was given up before; one that ends the log
                // there ends it before the transaction.
                let ends = self.policy == Policy::PointInTime;
                let is_truncated = self.view.low_water_covered && begin < self.view.low_water;
                let checking = ends || self.policy.skips_damage() || begin <= self.view.accepted_loss || is_truncated;
                self.committed = Some(Committed { id, begin, commit, reader, checking, torn: false });
            }
        }
        false
    }
}

/// A reader of the span of a transaction behind its begin, which says nothing that its other entries do not say: its LSN is not
/// counted among those that are lost.
fn span(view: &View, begin: Lsn, commit: Lsn) -> Reader {
    // It began before what is kept for others, perhaps: the chain keeps what crosses the low-water mark.
    let mut view = view.clone();
    view.low_water = view.low_water.min(begin);
    // Whose it was that is lost is known once it was passed over.
    Reader::new(view, begin.next_or_max(), commit, Policy::Inspect)
}

impl Committed {
    /// Whether the entry is one of the transaction's own.
    fn holds(&self, place: &Place, buf: &[u8]) -> bool {
        Code::from_u8(place.kind.code()).is_some_and(Code::is_free) && place.transaction(buf) == Some(self.id)
    }
}

impl Machine for Replay {
    type Output = Read;

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<Read, Stop> {
        Turn::run(buf, answer, |turn| self.advance(turn))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{vec, vec::Vec};

    use Piece::{Alone, AloneLost, Begin, Commit, Lost, Of};

    use super::*;
    use crate::{
        Fault, SegmentId,
        chain::tests::view,
        checksum::portable,
        crossing::tests::{Made, Piece, Told},
        frame::{FRAME_HEADER_LEN, FrameType, Salts},
        segment::SegmentHeader,
        window::tests::{Medium, OBJECT},
    };

    #[test]
    fn in_every_buffer_a_transaction_counts_where_its_commit_stands_and_the_way_goes_on_behind() {
        // The commit stands further behind the begin than most buffers reach, and so does the end behind it. Right
        // before it ends a batch: whoever reads the transaction for it stops there, and leaves other bytes in the
        // buffer.
        let entries = (1..=40u64).map(|lsn| match lsn {
            3 => (Code::TxnBegin, true),
            4 | 9 | 23 | 24 => (Code::Opaque, true),
            25 => (Code::TxnCommit, true),
            _ => (Code::Opaque, false),
        });
        let id = SegmentId::new(3);
        assert_eq!(OBJECT, crate::Object::Segment(id));
        let header = SegmentHeader { id, epoch: 1, segment_size: 4096, write_limit: 1024, ..SegmentHeader::NONE };
        let mut bytes = vec![0; header.frames_at() as usize];
        for at in [0, header.copy_offset as usize] {
            bytes[at..][..128].copy_from_slice(&header.encode(portable));
        }
        let salts = Salts::of(portable, &header);
        for (lsn, (code, is_in_transaction)) in (1..).zip(entries) {
            let kind = FrameType::new(code.value());
            let kind = if is_in_transaction { kind.in_transaction() } else { kind };
            let (mut frame, at) = ([0xA5; 50], u32::try_from(bytes.len()).unwrap());
            let kind = if lsn == 23 { kind.batch_continues() } else { kind };
            frame[FRAME_HEADER_LEN..][..8].copy_from_slice(&3u64.to_le_bytes());
            salts.complete(&mut frame, at, Lsn::new(lsn), 1, kind);
            bytes.extend(frame);
        }
        let end = u32::try_from(bytes.len()).unwrap();
        let view = View { log: header.log, oldest: id, newest: id, end, ..view() };
        let counts = [1, 2].into_iter().chain(5..=8).chain(10..=22).chain([4, 9, 23, 24]).chain(26..=40);
        let counts: Vec<u64> = counts.collect();
        for policy in [Policy::Strict, Policy::Salvage] {
            for size in [128, 160, 200, 333, 512, 1000, 4096] {
                let (mut medium, mut told) = (Medium::new(bytes.clone(), size), Vec::new());
                let mut replay = Replay::new(view.clone(), Lsn::FIRST, policy);
                let read = loop {
                    let next = medium.run(|turn| match replay.advance(turn) {
                        Ok(read) => Ok(Err(read)),
                        Err(Stopped) => match turn.stop() {
                            Stop::Need(Step::Entry(place)) => Ok(Ok(place.lsn.value())),
                            _ => Err(Stopped),
                        },
                    });
                    match next.unwrap() {
                        Ok(lsn) => told.push(lsn),
                        Err(read) => break read,
                    }
                };
                assert_eq!(told, counts, "{policy:?}, {size} bytes");
                assert_eq!(read.entries, told.len() as u64, "{policy:?}, {size} bytes");
            }
        }
    }

    #[test]
    fn whoever_passes_over_damage_is_told_of_each_loss_once_and_a_transaction_that_lost_an_entry_does_not_count() {
        for (what, pieces, from, counts, losses) in [
            (
                "before the first entry asked for",
                &[Begin, Of(1), Lost, Of(1), Alone, Commit(1)][..],
                4,
                &[5][..],
                &[3][..],
            ),
            ("right there", &[Begin, Of(1), Lost, Of(1), Alone, Commit(1)], 3, &[5], &[3]),
            ("behind it", &[Begin, Of(1), Lost, Of(1), Alone, Commit(1)], 2, &[5], &[3]),
            ("on both sides", &[Begin, Lost, Alone, Lost, Alone, Commit(1)], 3, &[3, 5], &[4, 2]),
            ("behind the commit", &[Begin, Of(1), Lost, Of(1), Alone, Commit(1)], 7, &[], &[]),
            ("of no transaction, before", &[Begin, Of(1), AloneLost, Of(1), Alone, Commit(1)], 4, &[5, 2, 4], &[]),
            ("of no transaction, behind", &[Begin, Of(1), AloneLost, Of(1), Alone, Commit(1)], 2, &[5, 2, 4], &[3]),
            ("the begin", &[Lost, Of(1), Of(1), Alone, Commit(1)], 2, &[4, 2, 3], &[]),
        ] {
            let made = Made::of(pieces);
            for policy in [Policy::Salvage, Policy::Inspect] {
                let Told { lsns, lost, end } = made.read(Replay::new(made.view(1), Lsn::new(from), policy));
                assert_eq!((&lsns[..], &lost[..], end.is_ok()), (counts, losses, true), "{what}, {policy:?}");
            }
        }
    }

    #[test]
    fn a_policy_that_stops_at_damage_hands_out_what_stands_before_it_unless_the_log_ends_before_the_transaction() {
        // What lost an entry began before what is asked for, and the loss lies there too.
        let made = Made::of(&[Alone, Begin, Of(2), Lost, Alone, Commit(2)]);
        let read = |view: View, policy| {
            let Told { lsns, lost, end } = made.read(Replay::new(view, Lsn::new(5), policy));
            (lsns, lost, end.map(|read| read.entries))
        };
        let covered = |low_water| View { low_water_covered: true, ..made.view(low_water) };
        let damage = |(lsns, lost, end): (Vec<u64>, Vec<u64>, _)| {
            assert!(matches!(end, Err(Fault::Damaged(_))) && lost.is_empty(), "{end:?}, {lost:?}");
            lsns
        };
        for policy in [Policy::Strict, Policy::Default] {
            assert_eq!(damage(read(made.view(1), policy)), [5, 3], "{policy:?}");
            // A mark that does not lie in the transaction says nothing about it.
            for low_water in [1, 2] {
                assert_eq!(damage(read(covered(low_water), policy)), [5, 3], "{policy:?}, {low_water}");
            }
            // What lies below the mark may be gone by right: so the transaction is looked at first.
            for low_water in [3, 4] {
                assert_eq!(damage(read(covered(low_water), policy)), [5], "{policy:?}, {low_water}");
            }
            // A checkpoint holds what is gone, and the transaction.
            assert_eq!(read(covered(5), policy), (vec![5], vec![], Ok(1)), "{policy:?}");
            // The loss was accepted, or as much of it as the transaction's begin.
            assert_eq!(
                read(View { accepted_loss: Lsn::new(4), ..made.view(1) }, policy),
                (vec![5], vec![4], Ok(1)),
                "{policy:?}"
            );
            for accepted_loss in [2, 3] {
                let view = View { accepted_loss: Lsn::new(accepted_loss), ..made.view(1) };
                assert_eq!(damage(read(view, policy)), [5], "{policy:?}, {accepted_loss}");
            }
        }
        assert_eq!(damage(read(made.view(1), Policy::PointInTime)), [5]);
    }
}
