//! Recovery: which segments count, where the log ends, and what is damaged. It only reads.
//!
//! It reads the metadata and the heads of the checkpoints, for what they witness; the newest segment, whole; and of
//! every other segment the header. A sealed segment's frames are read by whoever wants its entries. What recovery
//! saw may exist only in a cache: nothing is called durable before the log was taken over for writing
//! ([`Writer::take_over`](crate::Writer::take_over)).

use heapless::Vec;
use uuid::Uuid;

use crate::{
    CheckpointId, Lsn,
    chain::{Cut, Dead, HeaderRead, HeaderReader, View},
    checkpoint::{CheckpointHeader, HEADER_LEN},
    checksum::{Update, portable},
    decision::Policy,
    device::Object,
    drive::{Answer, Machine, Step, Stop},
    fault::Fault,
    meta::{META_LEN, Meta},
    report::{Finding, Report, Seen, Verdict, Witness},
    segment::{COPY_OFFSETS, SEGMENT_HEADER_LEN, SegmentHeader, SegmentId},
    tail::{Claim, Tail, TailScan},
    window::{Bytes, Window},
};

/// How many checkpoints are remembered, newest first; a log retains fewer.
pub const CHECKPOINTS_MAX: usize = 8;

/// How recovery is to go about it.
#[derive(Clone, Copy, Debug)]
pub struct RecoveryOptions {
    /// What to do about what is found.
    pub policy: Policy,
    /// The log that has to be there.
    pub expect_log: Option<Uuid>,
    /// An LSN that the caller knows to have been durable.
    pub expect_durable: Option<Lsn>,
    /// The implementation of CRC-32C.
    pub checksum: Update,
}

impl Default for RecoveryOptions {
    fn default() -> Self {
        Self { policy: Policy::Default, expect_log: None, expect_durable: None, checksum: portable }
    }
}

/// What recovery comes to.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// What was found.
    pub report: Report,
    /// What a reader has to know.
    pub view: View,
    /// Heads of the checkpoints of this log, newest first; only the head was verified.
    pub checkpoints: Vec<CheckpointHeader, CHECKPOINTS_MAX>,
    /// Checkpoints whose head is bad, newest first.
    pub bad_checkpoints: Vec<CheckpointId, CHECKPOINTS_MAX>,
    /// The highest id of any checkpoint, good or bad.
    pub highest_checkpoint: CheckpointId,
    pub(crate) tail: Tail,
    /// The highest id of any segment: above the newest, those that were never finished.
    pub(crate) highest: SegmentId,
}

/// The machine.
#[derive(Debug)]
pub struct Recovery {
    options: RecoveryOptions,
    state: State,
    meta: Option<Meta>,
    bad_meta: bool,
    checkpoints: Vec<CheckpointHeader, CHECKPOINTS_MAX>,
    bad_checkpoints: Vec<CheckpointId, CHECKPOINTS_MAX>,
    highest_checkpoint: CheckpointId,
    /// The lowest segment above the newest: it was never finished.
    unfinished: Option<SegmentId>,
    highest: SegmentId,
    tail: Option<Tail>,
    chain: Chain,
    /// A finding to hand over before going on.
    finding: Option<Finding>,
    damage: u32,
    first_damage: Option<Finding>,
    harmless: u32,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // One at a time, in place: there is no heap to box it in.
enum State {
    List {
        before: Option<Object>,
        asked: bool,
    },
    Meta(Window),
    Checkpoint(Window),
    Header(SegmentId, HeaderReader),
    /// No segment has a header: whether the lowest ever had one.
    Body(SegmentId, Window),
    Tail(TailScan),
    Chain {
        asked: bool,
    },
    ChainHeader(SegmentId, HeaderReader),
    Finish,
}

/// The way back through the chain.
#[derive(Debug)]
struct Chain {
    /// The last segment looked at.
    at: SegmentId,
    /// The oldest segment known to count.
    oldest: SegmentHeader,
    /// Down to which LSN segments are needed, once the one that holds the low-water mark is reached.
    needed: Option<Lsn>,
    dead: Dead,
}

/// Behind the copies of a header wherever they may stand, and room for a frame there.
const HEAD_AREA: usize = 4096 + SEGMENT_HEADER_LEN + 64;

impl Recovery {
    /// Recovery of the log that a device holds.
    #[must_use]
    pub fn new(options: RecoveryOptions) -> Self {
        Self {
            options,
            state: State::List { before: None, asked: false },
            meta: None,
            bad_meta: false,
            checkpoints: Vec::new(),
            bad_checkpoints: Vec::new(),
            highest_checkpoint: CheckpointId::default(),
            unfinished: None,
            highest: SegmentId::NONE,
            tail: None,
            chain: Chain { at: SegmentId::NONE, oldest: SegmentHeader::NONE, needed: None, dead: Dead::default() },
            finding: None,
            damage: 0,
            first_damage: None,
            harmless: 0,
        }
    }

    fn advance(&mut self, buf: &mut [u8], answer: &mut Answer) -> Result<Recovered, Stop> {
        loop {
            if let Some(finding) = self.finding.take() {
                return Err(Step::Finding(finding).into());
            }
            self.state = match &mut self.state {
                State::List { before, asked: asked @ false } => {
                    *asked = true;
                    return Err(Step::Prev { before: *before }.into());
                }
                State::List { .. } => match answer.object() {
                    Some(object) => self.listed(object),
                    None => self.no_header()?,
                },
                State::Meta(window) => {
                    let bytes = window.get(buf, answer, 0, META_LEN)?;
                    let meta = if let Bytes::Whole(bytes) = bytes { Meta::decode(&buf[bytes]).ok() } else { None };
                    self.bad_meta = meta.is_none();
                    self.meta = meta;
                    State::List { before: Some(Object::Meta), asked: false }
                }
                State::Checkpoint(window) => {
                    let object = window.object();
                    let bytes = window.get(buf, answer, 0, HEADER_LEN)?;
                    let head =
                        if let Bytes::Whole(bytes) = bytes { CheckpointHeader::decode(&buf[bytes]).ok() } else { None };
                    self.checkpoint(object, head);
                    State::List { before: Some(object), asked: false }
                }
                State::Header(id, reader) => {
                    let id = *id;
                    let read = reader.next(buf, answer)?;
                    self.top(id, &read)?
                }
                State::Body(id, window) => {
                    let id = *id;
                    let live = match window.get(buf, answer, 0, HEAD_AREA)? {
                        Bytes::Whole(bytes) | Bytes::Short(bytes) => was_live(&buf[bytes]),
                        Bytes::Unreadable => true,
                    };
                    return Err(if live { Fault::Damaged(headless(id)) } else { Fault::NoLog }.into());
                }
                State::Tail(scan) => {
                    let tail = scan.next(buf, answer)?;
                    self.scanned(tail)
                }
                State::Chain { asked: asked @ false } => {
                    *asked = true;
                    return Err(Step::Prev { before: Some(Object::Segment(self.chain.at)) }.into());
                }
                State::Chain { .. } => {
                    let object = answer.object();
                    self.link(object)?
                }
                State::ChainHeader(id, reader) => {
                    let id = *id;
                    let read = reader.next(buf, answer)?;
                    self.linked(id, &read)
                }
                State::Finish => return self.finish().map_err(Stop::from),
            };
        }
    }

    fn listed(&mut self, object: Object) -> State {
        match object {
            Object::Meta => State::Meta(Window::new(object, META_LEN as u64)),
            Object::Checkpoint(_) => State::Checkpoint(Window::new(object, HEADER_LEN as u64)),
            Object::Segment(id) => State::Header(id, HeaderReader::new(self.options.checksum, id)),
        }
    }

    fn checkpoint(&mut self, object: Object, head: Option<CheckpointHeader>) {
        let Object::Checkpoint(id) = object else { return };
        self.highest_checkpoint = self.highest_checkpoint.max(id);
        // Beyond the newest few, older ones are not remembered: a log retains fewer.
        let _ = match head {
            Some(head) if head.id == id => self.checkpoints.push(head).map_err(|_| ()),
            _ => self.bad_checkpoints.push(id).map_err(|_| ()),
        };
    }

    /// Takes the header of a segment from the top down: the first valid one is the newest.
    fn top(&mut self, id: SegmentId, read: &HeaderRead) -> Result<State, Fault> {
        self.highest = self.highest.max(id);
        if let Some(header) = read.header {
            if let Some(expected) = self.options.expect_log
                && header.log != expected
            {
                return Err(Fault::Foreign { segment: id, found: header.log, expected });
            }
            self.finding = read.bad_copy.map(|offset| bad_copy(id, offset));
            let claim = self.claim(&header);
            let below = self.covered_below(header.log);
            return Ok(State::Tail(TailScan::new(self.options.checksum, header, self.options.policy, claim, below)));
        }
        if read.unreadable {
            return Err(Fault::Unreadable { object: Object::Segment(id), offset: 0 });
        }
        self.unfinished = Some(id);
        Ok(State::List { before: Some(Object::Segment(id)), asked: false })
    }

    /// No segment has a valid header.
    fn no_header(&mut self) -> Result<State, Fault> {
        if let Some(expected) = self.options.expect_durable.filter(|lsn| *lsn > Lsn::ZERO) {
            return Err(Fault::Lost { expected });
        }
        let witnessed = self.meta.is_some() || !self.checkpoints.is_empty();
        match self.unfinished {
            Some(id) if witnessed => Err(Fault::Damaged(headless(id))),
            Some(id) => Ok(State::Body(id, Window::new(Object::Segment(id), HEAD_AREA as u64))),
            None if witnessed => {
                let id = self.meta.map_or(SegmentId::new(1), |meta| SegmentId::new(meta.segment));
                Err(Fault::Damaged(Finding { seen: Seen::MissingSegment, ..headless(id) }))
            }
            None => Err(Fault::NoLog),
        }
    }

    /// The strongest witness from outside the segments.
    fn claim(&self, newest: &SegmentHeader) -> Option<Claim> {
        let meta = self.meta.filter(|meta| meta.log == newest.log && meta.epoch >= newest.epoch);
        let meta = meta.map(|meta| Claim { durable: meta.durable, witness: Witness::Meta { durable: meta.durable } });
        let checkpoints = self.checkpoints.iter().filter(|head| head.log == newest.log && head.epoch >= newest.epoch);
        let checkpoints = checkpoints
            .map(|head| Claim { durable: head.lsn, witness: Witness::Checkpoint { id: head.id, lsn: head.lsn } });
        let caller = self.options.expect_durable;
        let caller = caller.map(|durable| Claim { durable, witness: Witness::Caller { durable } });
        checkpoints.chain(meta).chain(caller).max_by_key(|claim| claim.durable)
    }

    /// The LSN below which a checkpoint holds what damage takes. Whoever inspects wants to know of it all the same, and
    /// salvage gives it up for good.
    fn covered_below(&self, log: Uuid) -> Lsn {
        if self.options.policy.skips_damage() {
            return Lsn::ZERO;
        }
        let ours = self.checkpoints.iter().filter(|head| head.log == log);
        ours.map(|head| head.floor).max().unwrap_or_default()
    }

    fn scanned(&mut self, mut tail: Tail) -> State {
        let header = tail.header;
        if let Some(meta) = self.meta.filter(|meta| meta.log == header.log && meta.epoch >= header.epoch) {
            // The mark itself may be what is damaged: what was truncated by it is not missing.
            tail.low_water = tail.low_water.max(meta.low_water.min(tail.last.next_or_max()));
        }
        self.checkpoints.retain(|head| head.log == header.log);
        let lost = self.meta.filter(|meta| meta.log == header.log && meta.epoch > tail.epoch);
        if let Some(meta) = lost {
            let id = SegmentId::new(meta.segment);
            let witness = Some(Witness::Meta { durable: meta.durable });
            self.finding = Some(Finding { seen: Seen::MissingSegment, witness, ..headless(id) });
        } else if self.bad_meta {
            self.bad_meta = false;
            // A crash while it was being replaced looks the same.
            self.finding = Some(Finding {
                verdict: Verdict::Unsynced,
                seen: Seen::BadMeta,
                object: Object::Meta,
                harmless: true,
                len: META_LEN as u64,
                ..headless(header.id)
            });
        }
        self.chain = Chain { at: header.id, oldest: header, needed: None, dead: Dead::default() };
        self.tail = Some(tail);
        self.next_link()
    }

    /// Whether the chain goes on behind its oldest segment so far.
    fn next_link(&mut self) -> State {
        let low_water = self.low_water();
        let oldest = &self.chain.oldest;
        if oldest.first <= low_water && self.chain.needed.is_none() {
            // A transaction that crosses the low-water mark keeps the segments it began in.
            self.chain.needed = Some(low_water.min(oldest.transaction_floor));
        }
        if self.chain.needed.is_some_and(|needed| oldest.first <= needed) || oldest.predecessor.id == SegmentId::NONE {
            State::Finish
        } else {
            State::Chain { asked: false }
        }
    }

    fn low_water(&self) -> Lsn {
        self.tail.as_ref().map_or(Lsn::FIRST, |tail| tail.low_water)
    }

    /// Takes the next segment below: the predecessor, a dead one, or the first behind a gap.
    fn link(&mut self, object: Option<Object>) -> Result<State, Fault> {
        let wanted = self.chain.oldest.predecessor.id;
        let found = match object {
            Some(Object::Segment(id)) => Some(id),
            _ => None,
        };
        match found {
            Some(id) if id > wanted => {
                self.chain.at = id;
                self.chain.dead.found(Cut { above: wanted, below: self.chain.oldest.id })?;
                Ok(State::Chain { asked: false })
            }
            Some(id) if id == wanted => {
                self.chain.at = id;
                Ok(State::ChainHeader(id, HeaderReader::new(self.options.checksum, id)))
            }
            _ => Ok(self.missing(Seen::MissingSegment, Verdict::Rot)),
        }
    }

    fn linked(&mut self, id: SegmentId, read: &HeaderRead) -> State {
        let successor = self.chain.oldest;
        match read.header {
            None if read.unreadable => self.missing(Seen::BadSegmentHeader, Verdict::Unreadable),
            None => self.missing(Seen::BadSegmentHeader, Verdict::Rot),
            Some(header) if header.log != successor.log => self.missing(Seen::MissingSegment, Verdict::Foreign),
            Some(header) if header.nonce != successor.predecessor.nonce || header.first > successor.first => {
                self.missing(Seen::MissingSegment, Verdict::Rot)
            }
            Some(header) => {
                self.finding = read.bad_copy.map(|offset| bad_copy(id, offset));
                let last = successor.predecessor.last;
                if successor.first > last.next_or_max() {
                    let gap = (last.next_or_max(), successor.first.previous());
                    self.gap(id, gap, Seen::MissingSegment, Verdict::Rot, successor.predecessor.size);
                }
                self.chain.oldest = header;
                self.next_link()
            }
        }
    }

    /// The predecessor that the oldest segment names is not there: its entries are gone, unless truncation took them.
    fn missing(&mut self, seen: Seen, verdict: Verdict) -> State {
        let oldest = self.chain.oldest;
        // Where the chain stops short, all from the low-water mark up to its first LSN is gone.
        let gap = (self.low_water(), oldest.first.previous());
        self.gap(oldest.predecessor.id, gap, seen, verdict, 0);
        State::Finish
    }

    fn gap(&mut self, id: SegmentId, (first, last): (Lsn, Lsn), seen: Seen, verdict: Verdict, offset: u32) {
        let first = first.max(self.low_water());
        if first > last {
            return;
        }
        let accepted = self.tail.as_ref().map_or(Lsn::ZERO, |tail| tail.header.accepted_loss);
        self.finding = Some(Finding {
            verdict,
            seen,
            object: Object::Segment(id),
            offset: offset.into(),
            len: 0,
            lsns: Some((first, last)),
            witness: Some(Witness::Successor(self.chain.oldest.id)),
            in_transaction: None,
            harmless: last <= accepted || last < self.covered_below(self.chain.oldest.log),
        });
    }

    fn count(&mut self, finding: &Finding) {
        if finding.harmless {
            self.harmless += 1;
        } else {
            self.damage += 1;
            self.first_damage.get_or_insert(*finding);
        }
    }

    fn finish(&mut self) -> Result<Recovered, Fault> {
        let Some(tail) = self.tail.clone() else { return Err(Fault::NoLog) };
        let header = tail.header;
        let durable = tail.durable.map_or(header.first.previous(), |claim| claim.durable.max(header.first.previous()));
        let report = Report {
            log: header.log,
            epoch: tail.epoch,
            policy: self.options.policy,
            low_water: tail.low_water,
            last: tail.last,
            verified: (header.first <= tail.last).then_some((header.first, tail.last)),
            durable,
            closed: tail.sealed && !tail.damaged && tail.marked >= Some(tail.last),
            torn_tail: tail.torn,
            damage: self.damage,
            first_damage: self.first_damage,
            harmless: self.harmless,
            accepted_loss: header.accepted_loss,
            unfinished: self.unfinished,
            repersisted: 0,
            checkpoint: self.checkpoints.first().map(|head| (head.id, head.lsn)),
        };
        let view = View {
            update: self.options.checksum,
            log: header.log,
            oldest: self.chain.oldest.id,
            newest: header.id,
            dead: self.chain.dead.clone(),
            last: tail.last,
            end: tail.behind,
            low_water: tail.low_water,
            low_water_covered: tail.low_water_covered,
            accepted_loss: header.accepted_loss,
        };
        Ok(Recovered {
            report,
            view,
            checkpoints: self.checkpoints.clone(),
            bad_checkpoints: self.bad_checkpoints.clone(),
            highest_checkpoint: self.highest_checkpoint,
            tail,
            highest: self.highest,
        })
    }
}

impl Machine for Recovery {
    type Output = Recovered;

    fn step(&mut self, buf: &mut [u8], mut answer: Answer) -> Result<Recovered, Stop> {
        let stop = match self.advance(buf, &mut answer) {
            Err(Stop::Need(Step::Finding(finding))) => {
                self.count(&finding);
                Stop::Need(Step::Finding(finding))
            }
            Err(stop) => stop,
            Ok(recovered) => {
                return match refusal(&recovered.report) {
                    Some(fault) => Err(fault.into()),
                    None => Ok(recovered),
                };
            }
        };
        Err(stop)
    }
}

/// Why a policy refuses the log altogether: only the strict one does; damage makes a log read-only for the default.
fn refusal(report: &Report) -> Option<Fault> {
    if report.policy != Policy::Strict {
        return None;
    }
    if let Some(finding) = report.first_damage {
        return Some(Fault::Damaged(finding));
    }
    report.torn_tail.map(|torn| {
        Fault::Damaged(Finding {
            verdict: torn.verdict,
            seen: Seen::BadHeader,
            object: Object::Segment(torn.segment),
            offset: torn.offset.into(),
            len: torn.len.into(),
            lsns: None,
            witness: None,
            in_transaction: None,
            harmless: false,
        })
    })
}

/// A segment that has lost its header.
fn headless(id: SegmentId) -> Finding {
    Finding::rot(Seen::BadSegmentHeader, Object::Segment(id), 0u64)
}

fn bad_copy(id: SegmentId, offset: u32) -> Finding {
    Finding {
        seen: Seen::BadHeaderCopy,
        offset: offset.into(),
        len: SEGMENT_HEADER_LEN as u64,
        harmless: true,
        ..headless(id)
    }
}

/// Whether bytes stand where only frames do, behind the copies of a header: then the header was once complete.
fn was_live(bytes: &[u8]) -> bool {
    let blank = |byte: &u8| *byte == 0 || *byte == 0xFF;
    let copy = |at: usize| {
        let copies = COPY_OFFSETS.iter().map(|&offset| offset as usize).chain([0]);
        copies.into_iter().any(|offset| (offset..offset + SEGMENT_HEADER_LEN).contains(&at))
    };
    bytes.iter().enumerate().any(|(at, byte)| !blank(byte) && !copy(at))
}
