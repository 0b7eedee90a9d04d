//! The checkpoints that a handle knows of, and which of them may be relied on.
//!
//! ```text
//! found by its head ──► read whole, and its entry looked for ──► named:     truncation may rely on it
//!                                                          ├──► unnamed:   it serves for loading, and is not relied on
//!                                                          └──► not valid: forgotten; removed, if nothing names it
//! ```

use heapless::Vec;

use crate::{
    CheckpointId, Lsn,
    chain::View,
    checkpoint::CheckpointHead,
    decision::Policy,
    drive::{Answer, Entry, Machine, Step, Stop, Stopped, Turn},
    operation::{Code, OperationRef},
    reader::Reader,
    recovery::{CHECKPOINTS_MAX, Recovered},
    report::Finding,
    snapshot::{ReadCheckpoint, Reading},
};

/// As many as are kept, and one that could not be finished.
const KNOWN_MAX: usize = CHECKPOINTS_MAX + 1;

/// The checkpoints of a log, newest first.
#[derive(Clone, Debug, Default)]
pub struct Checkpoints {
    known: Vec<Known, KNOWN_MAX>,
    /// Whether one was found that is not valid, and that the log names or may name: it is missed.
    has_bad: bool,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    head: CheckpointHead,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Only the head was read.
    Unread,
    /// It is whole, and so the log says, by the entry with this LSN.
    Named(Lsn),
    /// It is whole, and the log does not name it. It was never finished: its bytes may exist in a cache only, whatever they
    /// read as now, and a power cut may take them.
    Unnamed,
}

impl Checkpoints {
    /// Those that recovery found.
    #[must_use]
    pub fn found(recovered: &Recovered) -> Self {
        let mut checkpoints = Self::default();
        checkpoints.take_in(recovered);
        checkpoints
    }

    /// Takes in those that recovery found: there are none yet.
    pub(crate) fn take_in(&mut self, recovered: &Recovered) {
        for head in &recovered.checkpoints {
            // There is room: no more are found than are kept.
            let _ = self.known.push(Known { head: *head, standing: Standing::Unread });
        }
        self.has_bad = !recovered.bad_checkpoints.is_empty();
    }

    /// The heads of all that a state may be loaded from, newest first.
    pub fn heads(&self) -> impl Iterator<Item = &CheckpointHead> {
        self.known.iter().map(|known| &known.head)
    }

    /// The newest.
    #[must_use]
    pub fn newest(&self) -> Option<&CheckpointHead> {
        self.heads().next()
    }

    /// Whether there is none of which only the head was read.
    #[must_use]
    pub fn are_judged(&self) -> bool {
        self.known.iter().all(|known| known.standing != Standing::Unread)
    }

    /// Judges those of which only the head was read, if there are any, by what `view` shows of the log.
    #[must_use]
    pub fn judge(&self, view: View) -> Option<JudgeCheckpoints> {
        let unread = || self.known.iter().filter(|known| known.standing == Standing::Unread).map(|known| &known.head);
        unread().next()?;
        Some(JudgeCheckpoints::new(view, unread()))
    }

    /// Takes in what they were found to be, and gives those that a crash left half written: they only take room. `covered`
    /// tells whether truncation relied on a checkpoint: where none is left, each is evidence.
    pub fn judged(&mut self, judged: &[Judged], covered: bool) -> Vec<CheckpointId, CHECKPOINTS_MAX> {
        self.has_bad |= judged.iter().any(|judged| !judged.valid && judged.named.is_some());
        self.known.retain_mut(|known| match judged.iter().find(|judged| judged.id == known.head.id) {
            Some(judged) => {
                known.standing = judged.named.map_or(Standing::Unnamed, Standing::Named);
                judged.valid
            }
            None => true,
        });
        let are_evidence = covered && self.known.is_empty();
        let unfinished = judged.iter().filter(|judged| !judged.valid && judged.named.is_none() && !are_evidence);
        unfinished.map(|judged| judged.id).collect()
    }

    /// The newest that may be relied on; those of which only the head was read are taken for that.
    #[must_use]
    pub fn newest_relied_on(&self) -> Option<&CheckpointHead> {
        self.known.iter().find(|known| known.standing != Standing::Unnamed).map(|known| &known.head)
    }

    /// Whether one that a state may be loaded from holds all that is gone by this damage, as recovery asks: it is no loss.
    /// Where only the head of one was read, it is to be asked again once they are judged.
    #[must_use]
    pub fn hold(&self, damage: &Finding) -> bool {
        damage.lsns.is_some_and(|(_, last)| self.newest().is_some_and(|head| last <= head.lsn))
    }

    /// The LSN below which nothing is needed, by the oldest that may be relied on.
    #[must_use]
    pub fn safe_floor(&self) -> Option<Lsn> {
        let relied_on = self.known.iter().filter(|known| matches!(known.standing, Standing::Named(_)));
        relied_on.map(|known| known.head.floor).min()
    }

    /// A checkpoint is complete, and the log names it by the entry at `entry`. So many are kept, of those that may be
    /// relied on: gives the oldest.
    pub fn keep(&mut self, head: CheckpointHead, entry: Lsn, most: usize) -> CheckpointId {
        // One that could not be read keeps its place: it is not known to be bad.
        self.known.retain(|known| known.standing != Standing::Unnamed);
        self.known.truncate(most.clamp(1, CHECKPOINTS_MAX) - 1);
        // There is room: one less than may be kept are there.
        let _ = self.known.insert(0, Known { head, standing: Standing::Named(entry) });
        self.known.last().map_or(head.id, |known| known.head.id)
    }

    /// A checkpoint was written, its entry was refused, and it could not be removed. Of such ones the newest stands for all.
    pub fn left(&mut self, head: CheckpointHead) {
        self.known.retain(|known| known.standing != Standing::Unnamed);
        // There is room: no more than may be kept are left.
        let _ = self.known.insert(0, Known { head, standing: Standing::Unnamed });
    }

    /// The lowest LSN behind which the log may be cut: what a checkpoint that is relied on holds stays, and one at least
    /// that holds what was truncated.
    #[must_use]
    pub fn cut_from(&self, view: &View) -> Lsn {
        let relied_on = self.newest_relied_on().map_or(Lsn::ZERO, |head| head.lsn);
        // They stand newest first.
        let holds = self.heads().filter(|head| view.low_water > Lsn::FIRST && !view.lacks_state(head)).last();
        relied_on.max(holds.map_or(Lsn::ZERO, |head| head.lsn))
    }

    /// Above which checkpoint all are to be removed before the log is cut behind `lsn`, if any: what holds more than is
    /// left would be taken for the state of what comes then.
    #[must_use]
    pub fn beyond_cut(&self, lsn: Lsn) -> Option<CheckpointId> {
        self.heads().find(|head| head.lsn > lsn)?;
        // Ids ascend with LSNs: whatever goes back removes these first.
        let kept = self.heads().find(|head| head.lsn <= lsn);
        Some(kept.map_or(CheckpointId::default(), |head| head.id))
    }

    /// Whether a cut behind `lsn` takes all of them, some at least, and none is missed that is not valid.
    #[must_use]
    pub fn are_all_beyond(&self, lsn: Lsn) -> bool {
        // They stand newest first.
        !self.has_bad && self.heads().last().is_some_and(|oldest| oldest.lsn > lsn)
    }

    /// The log was cut behind `lsn`: it no longer names those whose entries are gone.
    pub fn cut(&mut self, lsn: Lsn) {
        self.known.retain(|known| known.head.lsn <= lsn);
        for known in &mut self.known {
            if matches!(known.standing, Standing::Named(entry) if entry > lsn) {
                known.standing = Standing::Unnamed;
            }
        }
    }
}

/// What there is to be said of a checkpoint that was there when the log was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Judged {
    /// The checkpoint.
    pub id: CheckpointId,
    /// Whether all of it is valid.
    pub valid: bool,
    /// The LSN of the entry by which the log names it.
    pub named: Option<Lsn>,
}

/// The machine that reads the checkpoints that were there when the log was opened, each whole, and looks for the entries
/// that name them. It changes nothing.
#[derive(Debug)]
pub struct JudgeCheckpoints {
    view: View,
    heads: Vec<(CheckpointId, Lsn), CHECKPOINTS_MAX>,
    judged: Vec<Judged, CHECKPOINTS_MAX>,
    state: Judging,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // One at a time, in place: there is no heap to box it in.
enum Judging {
    Next,
    Read(ReadCheckpoint),
    /// Its entry stands not far behind the LSN that it was taken at, if there is one.
    Names(Reader),
}

impl JudgeCheckpoints {
    /// Judges the checkpoints with these heads, at most [`CHECKPOINTS_MAX`] of them, of the log that `view` shows.
    #[must_use]
    pub fn new<'a>(view: View, heads: impl Iterator<Item = &'a CheckpointHead>) -> Self {
        let heads = heads.take(CHECKPOINTS_MAX).map(|head| (head.id, head.lsn)).collect();
        Self { view, heads, judged: Vec::new(), state: Judging::Next }
    }

    /// Goes on; what it came to, once it is done, is that of each in turn.
    fn advance(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        loop {
            let Some(&(id, lsn)) = self.heads.last() else { return Ok(()) };
            match &mut self.state {
                Judging::Next => {
                    self.state =
                        Judging::Read(ReadCheckpoint::new(self.view.update, self.view.log, id, Reading::Check));
                }
                Judging::Read(read) => {
                    let valid = read.advance(turn)?.is_ok();
                    // There is room: as many are judged as there are heads.
                    let _ = self.judged.push(Judged { id, valid, named: None });
                    let from = lsn.next_or_max().max(self.view.low_water);
                    self.state = Judging::Names(Reader::new(self.view.clone(), from, Lsn::MAX, Policy::Inspect));
                }
                Judging::Names(reader) => {
                    let named = match reader.advance(turn) {
                        // The entry may be what is lost: what is whole serves for loading, and what is not is evidence.
                        Ok(read) => {
                            Some(lsn).filter(|_| read.damage > 0 && self.judged.last().is_some_and(|it| !it.valid))
                        }
                        Err(Stopped) => match turn.stop() {
                            Stop::Need(Step::Entry(place)) if names(&Entry::new(place, turn.buf), id) => {
                                Some(place.lsn)
                            }
                            Stop::Need(Step::Entry(_) | Step::Finding(_)) => continue,
                            _ => return Err(Stopped),
                        },
                    };
                    if let Some(judged) = self.judged.last_mut() {
                        judged.named = named;
                    }
                    self.heads.pop();
                    self.state = Judging::Next;
                }
            }
        }
    }
}

/// Whether the entry says that this checkpoint is durable.
fn names(entry: &Entry<'_>, id: CheckpointId) -> bool {
    let operation = OperationRef::decode(entry.kind.code(), entry.transaction, entry.payload);
    matches!(operation, Ok(OperationRef::Checkpoint { checkpoint_id, .. }) if checkpoint_id == id)
}

/// The machine that tells, where no checkpoint can be loaded, whether the state is lost with what was given up: the low-water
/// mark says that a checkpoint held it, or an entry names one, whichever, and no cut took the last one
/// since. Else the state is kept elsewhere. It changes nothing.
#[derive(Debug)]
pub struct JudgeLoss {
    /// What the low-water mark alone tells.
    said: Option<bool>,
    entries: Reader,
    /// The last entry that names a checkpoint.
    named: Option<Lsn>,
}

impl JudgeLoss {
    /// Judges the log that `view` shows, by its entries as far as they can be read.
    #[must_use]
    pub fn new(view: View) -> Self {
        let lacks = view.lacks_from(Lsn::FIRST);
        let said = (!lacks || view.low_water_covered).then_some(lacks);
        let from = view.low_water;
        Self { said, entries: Reader::new(view, from, Lsn::MAX, Policy::Inspect), named: None }
    }

    fn advance(&mut self, turn: &mut Turn<'_>) -> Result<bool, Stopped> {
        if let Some(said) = self.said {
            return Ok(said);
        }
        loop {
            match self.entries.advance(turn) {
                Ok(_) => return Ok(self.named >= Some(self.entries.names_from())),
                Err(Stopped) => match turn.stop() {
                    Stop::Need(Step::Entry(place)) if place.kind.code() == Code::Checkpoint.value() => {
                        self.named = Some(place.lsn);
                    }
                    Stop::Need(Step::Entry(_) | Step::Finding(_)) => {}
                    _ => return Err(Stopped),
                },
            }
        }
    }
}

impl Machine for JudgeLoss {
    type Output = bool;

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<bool, Stop> {
        Turn::run(buf, answer, |turn| self.advance(turn))
    }
}

impl Machine for JudgeCheckpoints {
    type Output = Vec<Judged, CHECKPOINTS_MAX>;

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<Self::Output, Stop> {
        Turn::run(buf, answer, |turn| self.advance(turn))?;
        Ok(self.judged.clone())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;
    use crate::{
        chain::tests::view,
        device::Object,
        reader::tests::{Log, log, plain},
    };

    fn head(id: u64, lsn: u64) -> CheckpointHead {
        CheckpointHead { id: CheckpointId::new(id), lsn: Lsn::new(lsn), floor: Lsn::new(lsn - 1) }
    }

    fn of(heads: &[CheckpointHead]) -> Checkpoints {
        let unread = |head: &CheckpointHead| Known { head: *head, standing: Standing::Unread };
        Checkpoints { known: heads.iter().map(unread).collect(), has_bad: false }
    }

    /// Found at LSN 30, 20 and 10, by the ids 3, 2 and 1.
    fn found() -> Checkpoints {
        of(&[head(3, 30), head(2, 20), head(1, 10)])
    }

    fn ids(checkpoints: &Checkpoints) -> Vec<u64> {
        checkpoints.heads().map(|head| head.id.value()).collect()
    }

    fn judged(id: u64, valid: bool, named: Option<u64>) -> Judged {
        Judged { id: CheckpointId::new(id), valid, named: named.map(Lsn::new) }
    }

    fn relied_on(checkpoints: &Checkpoints) -> Option<u64> {
        checkpoints.newest_relied_on().map(|head| head.id.value())
    }

    #[test]
    fn what_was_found_is_kept_newest_first_and_there_is_room_for_one_that_is_left() {
        assert_eq!(ids(&found()), [3, 2, 1]);
        assert_eq!(found().newest().map(|head| head.id.value()), Some(3));
        let many: Vec<_> = (1..=CHECKPOINTS_MAX as u64).rev().map(|id| head(id, id * 10)).collect();
        let mut many = of(&many);
        // One that could not be finished has its place beside as many as are kept.
        many.left(head(20, 200));
        assert_eq!((ids(&many).len(), ids(&many)[0]), (CHECKPOINTS_MAX + 1, 20));
    }

    #[test]
    fn nothing_is_judged_where_no_checkpoint_was_left_unread() {
        let view = view();
        assert!(found().judge(view.clone()).is_some());
        let mut checkpoints = found();
        checkpoints.judged(&[judged(3, true, Some(31)), judged(2, true, None)], false);
        assert!(checkpoints.judge(view.clone()).is_some(), "one is still unread");
        checkpoints.judged(&[judged(1, true, Some(11))], false);
        assert!(checkpoints.judge(view.clone()).is_none());
        assert!(Checkpoints::default().judge(view).is_none());
    }

    #[test]
    fn a_checkpoint_that_is_not_valid_is_forgotten_and_removed_only_if_nothing_names_it() {
        let mut checkpoints = found();
        let removed =
            checkpoints.judged(&[judged(3, false, None), judged(2, false, Some(21)), judged(1, true, Some(11))], true);
        assert_eq!(removed.iter().map(|id| id.value()).collect::<Vec<_>>(), [3]);
        assert_eq!((ids(&checkpoints), relied_on(&checkpoints)), (Vec::from([1]), Some(1)));
    }

    /// What a machine comes to which hands over nothing of what it reads on its way.
    fn come_to<M: Machine>(mut machine: M, log: &Log) -> M::Output {
        log.next(&mut machine, &mut [0; 512]).unwrap().unwrap_or_else(|step| panic!("it hands over {step:?}"))
    }

    #[test]
    fn a_checkpoint_that_is_not_whole_counts_as_named_where_its_entry_may_be_what_is_damaged() {
        let named = |damaged: Option<(usize, u32)>| {
            let mut log = log(&[&plain(1..=4), &plain(5..=8)]);
            if let Some((segment, number)) = damaged {
                log = log.flipped_in(segment, number);
            }
            log.others.push((Object::Checkpoint(CheckpointId::new(5)), Vec::from([0; 10])));
            let judged = come_to(JudgeCheckpoints::new(log.view.clone(), [head(5, 6)].iter()), &log);
            assert_eq!(judged.iter().map(|it| (it.id.value(), it.valid)).collect::<Vec<_>>(), [(5, false)]);
            judged[0].named.map(Lsn::value)
        };
        assert_eq!(named(None), None, "no entry names it");
        assert_eq!(named(Some((1, 1))), None, "entry 2 was there before the checkpoint");
        assert_eq!(named(Some((2, 2))), Some(6), "entry 7 may be the one");
    }

    #[test]
    fn no_state_is_lost_where_entries_were_given_up_without_a_checkpoint_and_none_names_one() {
        let log = log(&[&plain(1..=4), &plain(5..=8)]).flipped_in(2, 2);
        let view = View { low_water: Lsn::new(3), ..log.view.clone() };
        assert!(!come_to(JudgeLoss::new(view), &log));
    }

    #[test]
    fn where_truncation_relied_on_a_checkpoint_and_none_is_left_each_is_evidence() {
        let all = [judged(3, false, None), judged(2, false, None), judged(1, false, None)];
        assert_eq!(found().judged(&all, true).len(), 0);
        assert_eq!(found().judged(&all, false).len(), 3);
    }

    #[test]
    fn a_cut_takes_all_checkpoints_where_it_takes_some_and_none_is_left_or_missed() {
        let takes_all = |checkpoints: &Checkpoints| [9, 10].map(|lsn| checkpoints.are_all_beyond(Lsn::new(lsn)));
        assert_eq!(takes_all(&found()), [true, false]);
        assert_eq!(takes_all(&Checkpoints::default()), [false; 2], "there is none to take");
        let judge = |second: Judged| {
            let mut checkpoints = found();
            checkpoints.judged(&[judged(3, true, None), second, judged(1, true, None)], false);
            takes_all(&checkpoints)
        };
        assert_eq!(judge(judged(2, false, None)), [true, false], "it was never finished");
        assert_eq!(judge(judged(2, false, Some(21))), [false; 2], "it is missed");
    }

    #[test]
    fn what_the_log_does_not_name_is_loaded_from_and_not_relied_on() {
        let mut checkpoints = found();
        assert_eq!((relied_on(&checkpoints), checkpoints.safe_floor()), (Some(3), None), "only the heads were read");
        checkpoints.judged(&[judged(3, true, None), judged(2, true, Some(21)), judged(1, true, Some(11))], false);
        assert_eq!((ids(&checkpoints), relied_on(&checkpoints)), (Vec::from([3, 2, 1]), Some(2)));
        assert_eq!(checkpoints.safe_floor(), Some(Lsn::new(9)), "by the oldest");
    }

    #[test]
    fn so_many_are_kept_and_the_oldest_of_them_is_told() {
        let mut checkpoints = found();
        checkpoints.judged(&[judged(3, true, None)], false);
        assert_eq!(checkpoints.keep(head(4, 40), Lsn::new(41), 2).value(), 2);
        assert_eq!(ids(&checkpoints), [4, 2], "one that is not relied on gives up its place");
        assert_eq!(checkpoints.keep(head(5, 50), Lsn::new(51), 0).value(), 5, "one at least");
        assert_eq!(ids(&checkpoints), [5]);
    }

    #[test]
    fn of_those_that_could_not_be_finished_the_newest_alone_is_known() {
        let mut checkpoints = found();
        checkpoints.left(head(4, 40));
        checkpoints.left(head(5, 50));
        assert_eq!((ids(&checkpoints), relied_on(&checkpoints)), (Vec::from([5, 3, 2, 1]), Some(3)));
    }

    #[test]
    fn a_cut_leaves_what_a_checkpoint_holds_and_one_that_holds_what_was_truncated() {
        let from = |view: View| {
            let mut checkpoints = found();
            checkpoints.judged(&[judged(3, true, None), judged(2, true, None), judged(1, true, Some(11))], false);
            checkpoints.cut_from(&view).value()
        };
        assert_eq!(from(view()), 10, "the newest that is relied on");
        let below = |lsn: u64| View { low_water: Lsn::new(lsn), ..view() };
        // What is below these marks a checkpoint must hold: at 9 and 10 the oldest, behind that the next.
        assert_eq!([from(below(10)), from(below(11)), from(below(12)), from(below(21))], [10, 10, 20, 20]);
        assert_eq!(from(below(1)), 10, "nothing was truncated");
    }

    #[test]
    fn a_cut_takes_what_holds_more_than_is_left() {
        let beyond = |lsn: u64| found().beyond_cut(Lsn::new(lsn)).map(|id| id.value());
        assert_eq!(
            [beyond(31), beyond(30), beyond(29), beyond(20), beyond(9)],
            [None, None, Some(2), Some(2), Some(0)]
        );
        let mut checkpoints = found();
        let all = [judged(3, true, Some(31)), judged(2, true, Some(21)), judged(1, true, Some(11))];
        checkpoints.judged(&all, false);
        checkpoints.cut(Lsn::new(20));
        // The entry that named the second is gone with the cut.
        assert_eq!((ids(&checkpoints), relied_on(&checkpoints)), (Vec::from([2, 1]), Some(1)));
    }
}
