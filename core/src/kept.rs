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
    checkpoint::CheckpointHeader,
    decision::Policy,
    drive::{Answer, Entry, Machine, Step, Stop, Stopped, Turn},
    operation::OperationRef,
    reader::Reader,
    recovery::CHECKPOINTS_MAX,
    snapshot::{ReadCheckpoint, Reading},
};

/// As many as are kept, and one that could not be finished.
const KNOWN_MAX: usize = CHECKPOINTS_MAX + 1;

/// The checkpoints of a log, newest first.
#[derive(Clone, Debug, Default)]
pub struct Checkpoints(Vec<Known, KNOWN_MAX>);

#[derive(Clone, Copy, Debug)]
struct Known {
    head: CheckpointHeader,
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
    /// Those that recovery found, newest first.
    #[must_use]
    pub fn found<'a>(heads: impl IntoIterator<Item = &'a CheckpointHeader>) -> Self {
        let heads = heads.into_iter().take(CHECKPOINTS_MAX);
        Self(heads.map(|head| Known { head: *head, standing: Standing::Unread }).collect())
    }

    /// The heads of all that a state may be loaded from, newest first.
    pub fn heads(&self) -> impl Iterator<Item = &CheckpointHeader> {
        self.0.iter().map(|known| &known.head)
    }

    /// The newest.
    #[must_use]
    pub fn newest(&self) -> Option<&CheckpointHeader> {
        self.heads().next()
    }

    /// Judges those of which only the head was read, if there are any, by what `view` shows of the log.
    #[must_use]
    pub fn judge(&self, view: View) -> Option<JudgeCheckpoints> {
        let unread = || self.0.iter().filter(|known| known.standing == Standing::Unread).map(|known| &known.head);
        unread().next()?;
        Some(JudgeCheckpoints::new(view, unread()))
    }

    /// Takes in what they were found to be, and gives those that a crash left half written: they only take room. `covered`
    /// tells whether truncation relied on a checkpoint: where none is left, each is evidence.
    pub fn judged(&mut self, judged: &[Judged], covered: bool) -> Vec<CheckpointId, CHECKPOINTS_MAX> {
        self.0.retain_mut(|known| match judged.iter().find(|judged| judged.id == known.head.id) {
            Some(judged) => {
                known.standing = judged.named.map_or(Standing::Unnamed, Standing::Named);
                judged.valid
            }
            None => true,
        });
        let are_evidence = covered && self.0.is_empty();
        let unfinished = judged.iter().filter(|judged| !judged.valid && judged.named.is_none() && !are_evidence);
        unfinished.map(|judged| judged.id).collect()
    }

    /// The newest that may be relied on; those of which only the head was read are taken for that.
    #[must_use]
    pub fn newest_relied_on(&self) -> Option<&CheckpointHeader> {
        self.0.iter().find(|known| known.standing != Standing::Unnamed).map(|known| &known.head)
    }

    /// The LSN below which nothing is needed, by the oldest that may be relied on.
    #[must_use]
    pub fn safe_floor(&self) -> Option<Lsn> {
        let relied_on = self.0.iter().filter(|known| matches!(known.standing, Standing::Named(_)));
        relied_on.map(|known| known.head.floor).min()
    }

    /// A checkpoint is complete, and the log names it by the entry at `entry`. So many are kept, of those that may be
    /// relied on: gives the oldest.
    pub fn keep(&mut self, head: CheckpointHeader, entry: Lsn, most: usize) -> CheckpointId {
        // One that could not be read keeps its place: it is not known to be bad.
        self.0.retain(|known| known.standing != Standing::Unnamed);
        self.0.truncate(most.clamp(1, CHECKPOINTS_MAX) - 1);
        // There is room: one less than may be kept are there.
        let _ = self.0.insert(0, Known { head, standing: Standing::Named(entry) });
        self.0.last().map_or(head.id, |known| known.head.id)
    }

    /// A checkpoint was written, its entry was refused, and it could not be removed. Of such ones the newest stands for all.
    pub fn left(&mut self, head: CheckpointHeader) {
        self.0.retain(|known| known.standing != Standing::Unnamed);
        // There is room: no more than may be kept are left.
        let _ = self.0.insert(0, Known { head, standing: Standing::Unnamed });
    }

    /// The lowest LSN behind which the log may be cut: what a checkpoint that is relied on holds stays, and one at least
    /// that holds what was truncated.
    #[must_use]
    pub fn cut_from(&self, view: &View) -> Lsn {
        let relied_on = self.newest_relied_on().map_or(Lsn::ZERO, |head| head.lsn);
        let truncated = Some(view.low_water.previous()).filter(|_| view.low_water_covered);
        let holds = truncated.and_then(|last| self.heads().map(|head| head.lsn).filter(|lsn| *lsn >= last).min());
        relied_on.max(holds.unwrap_or_default())
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

    /// The log was cut behind `lsn`: it no longer names those whose entries are gone.
    pub fn cut(&mut self, lsn: Lsn) {
        self.0.retain(|known| known.head.lsn <= lsn);
        for known in &mut self.0 {
            if matches!(known.standing, Standing::Named(entry) if entry > lsn) {
                known.standing = Standing::Unnamed;
            }
        }
    }
}

/// What there is to be said of a checkpoint that was there when the log was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    pub fn new<'a>(view: View, heads: impl Iterator<Item = &'a CheckpointHeader>) -> Self {
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
                    self.state = Judging::Names(Reader::new(self.view.clone(), from, Lsn::MAX, Policy::Default));
                }
                Judging::Names(reader) => {
                    let named = match reader.advance(turn) {
                        Ok(_) => None,
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

impl Machine for JudgeCheckpoints {
    type Output = Vec<Judged, CHECKPOINTS_MAX>;

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<Self::Output, Stop> {
        Turn::run(buf, answer, |turn| self.advance(turn))?;
        Ok(self.judged.clone())
    }
}
