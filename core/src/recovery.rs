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
    chain::{Cut, Dead, HeaderRead, HeaderReader, MakeOut, Mended, View},
    checkpoint::{CheckpointHeader, HEADER_LEN},
    checksum::{Update, portable},
    decision::Policy,
    device::Object,
    drive::{Answer, Machine, Step, Stop},
    fault::Fault,
    meta::{META_LEN, Meta},
    report::{Finding, Report, Seen, Verdict, Witness},
    segment::{COPY_OFFSETS, Predecessor, SEGMENT_HEADER_LEN, SegmentHeader, SegmentId},
    tail::{Claim, Tail, TailScan},
    window::{Bytes, Window},
};

/// How many checkpoints are remembered, newest first; a log retains fewer.
pub const CHECKPOINTS_MAX: usize = 8;

/// How far the LSN that a caller knows of may lie beyond all that the bytes prove, and still be given up for good: the
/// log goes on above it, so a slip of the pen would use up the LSNs that there are. So many of the smallest entries take
/// 70 gigabytes, and behind them there is room for as many losses again.
pub const CALLER_MAX: u64 = 1 << 31;

/// How recovery is to go about it.
#[derive(Clone, Copy, Debug)]
pub struct RecoveryOptions {
    /// What to do about what is found.
    pub policy: Policy,
    /// The log that has to be there.
    pub expect_log: Option<Uuid>,
    /// An LSN that the caller knows to have been durable. Where a policy is consent to lose what is missing up to it, it
    /// must not lie more than [`CALLER_MAX`] beyond all that the bytes prove.
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
    /// Whether both copies of the newest segment's header are sound.
    pub(crate) whole_header: bool,
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
    stray: Option<Stray>,
    tail: Option<Tail>,
    /// Whether both copies of the newest segment's header are sound.
    whole_header: bool,
    chain: Chain,
    /// Findings to hand over before going on.
    findings: Vec<Finding, FINDINGS_MAX>,
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
    Body(SegmentId, Window, usize),
    Tail(TailScan),
    Chain {
        asked: bool,
    },
    ChainHeader(SegmentId, HeaderReader),
    /// Looking for what stands behind a segment that is missing or has lost its header.
    Behind {
        asked: bool,
    },
    BehindHeader(SegmentId, HeaderReader),
    MakeOut(MakeOut),
    /// Looking for the end of the segment behind.
    End(TailScan),
    Finish,
}

/// A segment above the newest that has a sound header of another number.
#[derive(Clone, Copy, Debug)]
struct Stray {
    segment: SegmentId,
    found: SegmentId,
    log: Uuid,
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
    mended: Mended,
    gone: Option<Gone>,
}

/// The predecessor that the oldest segment names, and that is missing or has lost its header.
#[derive(Debug)]
struct Gone {
    seen: Seen,
    verdict: Verdict,
    /// Whether something stands in its place that may be it.
    stands: bool,
    /// The first LSN of its span.
    first: Lsn,
    /// The header that it had, once that was made out.
    made_out: Option<SegmentHeader>,
    /// The segment behind it that is there.
    behind: Option<SegmentHeader>,
    /// Whether that is its own predecessor for certain, and no other one is missing between.
    certain: bool,
    /// Whether dead segments were met on the way.
    passed: bool,
}

/// What one segment that is missing, and what stands behind it, may tell at once.
const FINDINGS_MAX: usize = 6;

/// Behind the copies of a header wherever they may stand, and room for a frame there.
const HEAD_AREA: usize = 4096 + SEGMENT_HEADER_LEN + 64;
/// It is looked at in pieces that any buffer has room for.
const HEAD_PIECE: usize = 64;

impl Chain {
    fn new(newest: SegmentHeader) -> Self {
        Self {
            at: newest.id,
            oldest: newest,
            needed: None,
            dead: Dead::default(),
            mended: Mended::default(),
            gone: None,
        }
    }
}

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
            stray: None,
            tail: None,
            whole_header: false,
            chain: Chain::new(SegmentHeader::NONE),
            findings: Vec::new(),
            damage: 0,
            first_damage: None,
            harmless: 0,
        }
    }

    fn advance(&mut self, buf: &mut [u8], answer: &mut Answer) -> Result<Recovered, Stop> {
        loop {
            if !self.findings.is_empty() {
                return Err(Step::Finding(self.findings.remove(0)).into());
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
                State::Body(id, window, at) => {
                    let len = HEAD_PIECE.min(HEAD_AREA - *at);
                    let bytes = window.get(buf, answer, *at as u64, len)?;
                    let live = match &bytes {
                        Bytes::Whole(bytes) | Bytes::Short(bytes) => was_live(&buf[bytes.clone()], *at),
                        Bytes::Unreadable => true,
                    };
                    *at += len;
                    if !live && *at < HEAD_AREA && matches!(bytes, Bytes::Whole(_)) {
                        continue;
                    }
                    return Err(if live { Fault::Damaged(headless(*id)) } else { Fault::NoLog }.into());
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
                    self.linked(id, &read)?
                }
                State::Behind { asked: asked @ false } => {
                    *asked = true;
                    return Err(Step::Prev { before: Some(Object::Segment(self.chain.at)) }.into());
                }
                State::Behind { .. } => {
                    let object = answer.object();
                    self.behind(object)?
                }
                State::BehindHeader(id, reader) => {
                    let id = *id;
                    let read = reader.next(buf, answer)?;
                    self.behind_read(id, &read)?
                }
                State::MakeOut(make_out) => {
                    let header = make_out.next(buf, answer)?;
                    self.made_out(header)?
                }
                State::End(scan) => match scan.next(buf, answer) {
                    // Whoever reads the segment tells of damage in it.
                    Err(Stop::Need(Step::Finding(_))) => continue,
                    Err(stop) => return Err(stop),
                    Ok(end) => self.joined(Some(&end))?,
                },
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
            self.tell(read.bad_copy.map(|offset| bad_copy(id, offset)));
            self.whole_header = read.bad_copy.is_none();
            let claim = self.claim(&header, self.options.expect_durable);
            let below = self.covered_below(header.log);
            return Ok(State::Tail(TailScan::new(self.options.checksum, header, self.options.policy, claim, below)));
        }
        if read.unreadable {
            return Err(Fault::Unreadable { object: Object::Segment(id), offset: 0 });
        }
        self.unfinished = Some(id);
        if let Some((log, found)) = read.stray {
            self.stray.get_or_insert(Stray { segment: id, found, log });
        }
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
            Some(id) => Ok(State::Body(id, Window::new(Object::Segment(id), HEAD_AREA as u64), 0)),
            None if witnessed => {
                let id = self.meta.map_or(SegmentId::new(1), |meta| SegmentId::new(meta.segment));
                Err(Fault::Damaged(Finding { seen: Seen::MissingSegment, ..headless(id) }))
            }
            None => Err(Fault::NoLog),
        }
    }

    /// The strongest witness from outside the segments.
    fn claim(&self, newest: &SegmentHeader, caller: Option<Lsn>) -> Option<Claim> {
        let meta = self.meta.filter(|meta| meta.log == newest.log && meta.epoch >= newest.epoch);
        let meta = meta.map(|meta| Claim { durable: meta.durable, witness: Witness::Meta { durable: meta.durable } });
        let checkpoints = self.checkpoints.iter().filter(|head| head.log == newest.log && head.epoch >= newest.epoch);
        let checkpoints = checkpoints
            .map(|head| Claim { durable: head.lsn, witness: Witness::Checkpoint { id: head.id, lsn: head.lsn } });
        let caller = caller.map(|durable| Claim { durable, witness: Witness::Caller { durable } });
        checkpoints.chain(meta).chain(caller).max_by_key(|claim| claim.durable)
    }

    /// The LSN below which a checkpoint holds what damage takes; salvage gives that up for good all the same.
    fn covered_below(&self, log: Uuid) -> Lsn {
        if self.options.policy == Policy::Salvage {
            return Lsn::ZERO;
        }
        let ours = self.checkpoints.iter().filter(|head| head.log == log);
        ours.map(|head| head.floor).max().unwrap_or_default()
    }

    fn scanned(&mut self, mut tail: Tail) -> State {
        let header = tail.header;
        self.checkpoints.retain(|head| head.log == header.log);
        self.tell(self.state_lost(&tail));
        if let Some(meta) = self.meta.filter(|meta| meta.log == header.log && meta.epoch >= header.epoch) {
            // The mark itself may be what is damaged: what was truncated by it is not missing.
            tail.low_water = tail.low_water.max(meta.low_water.min(tail.last.next_or_max()));
        }
        let later = self.meta.filter(|meta| meta.log == header.log && meta.epoch > tail.epoch);
        // Of this very segment: an epoch mark in it was lost, and what it said is known from here.
        let (known, lost) = match later {
            Some(meta) if (meta.segment, meta.nonce) == (header.id.value(), header.nonce) => (later, None),
            later => (None, later),
        };
        tail.epoch = known.map_or(tail.epoch, |meta| meta.epoch);
        if let Some(meta) = lost {
            let id = SegmentId::new(meta.segment);
            let witness = Some(Witness::Meta { durable: meta.durable });
            self.tell(Some(Finding { seen: Seen::MissingSegment, witness, ..headless(id) }));
        } else if self.bad_meta {
            self.bad_meta = false;
            // A crash while it was being replaced looks the same.
            self.tell(Some(Finding {
                verdict: Verdict::Unsynced,
                seen: Seen::BadMeta,
                object: Object::Meta,
                harmless: true,
                len: META_LEN as u64,
                ..headless(header.id)
            }));
        }
        self.chain = Chain::new(header);
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
        if self.chain.needed.is_some_and(|needed| oldest.first <= needed) {
            State::Finish
        } else if oldest.predecessor.id == SegmentId::NONE {
            // The log begins here, and what truncation kept began before.
            let (id, gap, at) = (oldest.id, (low_water, oldest.first.previous()), oldest.frames_at());
            self.gap(id, gap, Seen::Hole, Verdict::Rot, at);
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
            _ => self.gone(Seen::MissingSegment, Verdict::Rot, false),
        }
    }

    fn linked(&mut self, id: SegmentId, read: &HeaderRead) -> Result<State, Fault> {
        let successor = self.chain.oldest;
        let named = successor.predecessor;
        let is_named = |header: &SegmentHeader| {
            header.nonce == named.nonce
                && header.first <= named.last.next_or_max()
                && named.first().is_none_or(|first| first <= header.first)
        };
        match read.header {
            None if read.unreadable => self.gone(Seen::BadSegmentHeader, Verdict::Unreadable, true),
            None => self.gone(Seen::BadSegmentHeader, Verdict::Rot, true),
            Some(header) if header.log != successor.log => self.gone(Seen::MissingSegment, Verdict::Foreign, false),
            Some(header) if !is_named(&header) => self.gone(Seen::MissingSegment, Verdict::Rot, false),
            Some(header) => {
                self.tell(read.bad_copy.map(|offset| bad_copy(id, offset)));
                self.given_up_before(&successor);
                self.chain.oldest = header;
                Ok(self.next_link())
            }
        }
    }

    /// Tells of LSNs between the end of the predecessor and the first of this segment: they were given up before.
    fn given_up_before(&mut self, header: &SegmentHeader) {
        let Predecessor { id, last, size, .. } = header.predecessor;
        self.gap(id, (last.next_or_max(), header.first.previous()), Seen::MissingSegment, Verdict::Rot, size);
    }

    /// The predecessor that the oldest segment names is not there, or without its header: looks for what stands behind.
    fn gone(&mut self, seen: Seen, verdict: Verdict, stands: bool) -> Result<State, Fault> {
        let oldest = self.chain.oldest;
        let lost = oldest.predecessor;
        let Some(first) = lost.first().filter(|_| !self.chain.mended.0.is_full()) else {
            // Nothing tells where it began, or it is one too many: all from the low-water mark on is given up.
            self.gap(lost.id, (self.low_water(), oldest.first.previous()), seen, verdict, 0);
            return Ok(State::Finish);
        };
        // What met the eye where it should be, and is not it, is no part of the log.
        let passed = !stands && self.chain.at == lost.id;
        let gone = Gone { seen, verdict, stands, first, made_out: None, behind: None, certain: false, passed };
        self.chain.gone = Some(gone);
        self.chain.at = lost.id;
        if (first <= self.low_water() && !stands) || lost.before() == Some(SegmentId::NONE) {
            self.found_behind()
        } else {
            Ok(State::Behind { asked: false })
        }
    }

    /// Takes the next segment below one that is gone: a dead one, its predecessor, or one that may stand behind that.
    fn behind(&mut self, object: Option<Object>) -> Result<State, Fault> {
        let oldest = self.chain.oldest;
        let named = oldest.predecessor.before();
        let (Some(Object::Segment(id)), Some(gone)) = (object, &mut self.chain.gone) else {
            return self.found_behind();
        };
        if named.is_some_and(|named| id > named) {
            gone.passed = true;
            self.chain.at = id;
            return Ok(State::Behind { asked: false });
        }
        if named != Some(id) && oldest.leftovers {
            // Its predecessor is missing too, and nothing tells which entries of the others were cut off.
            return self.found_behind();
        }
        Ok(State::BehindHeader(id, HeaderReader::new(self.options.checksum, id)))
    }

    fn behind_read(&mut self, id: SegmentId, read: &HeaderRead) -> Result<State, Fault> {
        let oldest = self.chain.oldest;
        let certain = oldest.predecessor.before() == Some(id);
        let Some(gone) = &mut self.chain.gone else { return Ok(State::Finish) };
        let ours = read.header.filter(|header| header.log == oldest.log && header.epoch <= oldest.epoch);
        let first = gone.first;
        let fits = ours.filter(|header| header.first < first || (certain && header.first == first));
        if fits.is_none() {
            gone.passed = true;
            self.chain.at = id;
            return Ok(State::Behind { asked: false });
        }
        gone.behind = fits;
        gone.certain = certain;
        self.tell(read.bad_copy.map(|offset| bad_copy(id, offset)));
        self.found_behind()
    }

    /// What stands behind the segment that is gone is known: is that one itself to be read?
    fn found_behind(&mut self) -> Result<State, Fault> {
        match &self.chain.gone {
            Some(gone) if gone.stands => {
                let (update, oldest) = (self.options.checksum, self.chain.oldest);
                Ok(State::MakeOut(MakeOut::new(update, oldest, gone.behind, gone.first)))
            }
            _ => self.made_out(None),
        }
    }

    /// The segment that has lost its header can be read under this one; or nothing that it holds can be read.
    fn made_out(&mut self, header: Option<SegmentHeader>) -> Result<State, Fault> {
        let oldest = self.chain.oldest;
        let lost = oldest.predecessor;
        let Some(gone) = &mut self.chain.gone else { return Ok(State::Finish) };
        gone.made_out = header;
        let Gone { seen, verdict, first, behind, certain, .. } = *gone;
        self.given_up_before(&oldest);
        if header.is_some() {
            let witness = Some(Witness::Successor(oldest.id));
            let harmless = self.is_harmless(lost.last);
            self.tell(Some(Finding { seen, verdict, witness, harmless, ..headless(lost.id) }));
        } else {
            // What was given up right before it is no loss of its own.
            let given_up = oldest.accepted_loss;
            let own = if given_up < lost.last { first.max(given_up.next_or_max()) } else { first };
            self.gap(lost.id, (own, lost.last), seen, verdict, 0);
            self.gap(lost.id, (first, own.previous()), Seen::MissingSegment, Verdict::Rot, 0);
        }
        let Some(behind) = behind else { return self.joined(None) };
        let until = first.previous();
        // Its successor's header is gone, but that there was one proves it, if it is for certain its successor.
        let claim = certain.then_some(Claim { durable: until, witness: Witness::Successor(oldest.id) });
        let scan = TailScan::new(self.options.checksum, behind, Policy::Inspect, claim, Lsn::ZERO);
        Ok(State::End(scan.until(until)))
    }

    /// Joins the chain behind a gap: `end` is the segment there, as far as it goes.
    fn joined(&mut self, end: Option<&Tail>) -> Result<State, Fault> {
        let oldest = self.chain.oldest;
        let lost = oldest.predecessor;
        let Some(gone) = self.chain.gone.take() else { return Ok(State::Finish) };
        let until = gone.first.previous();
        let predecessor = end.map(|end| match gone.certain {
            // What is not there below the end that is known is damage, and whoever reads it tells.
            true if end.last < until => end.header.cut(until, end.header.segment_size),
            _ => end.header.cut(end.last, end.behind),
        });
        if !gone.certain {
            let from = predecessor.map_or(self.low_water(), |end| end.last.next_or_max());
            let id = lost.before().filter(|id| *id != SegmentId::NONE).unwrap_or(lost.id);
            self.gap(id, (from, until), Seen::MissingSegment, Verdict::Rot, 0);
        }
        let mended = SegmentHeader { predecessor: predecessor.unwrap_or_default(), ..gone.made_out.unwrap_or(oldest) };
        if gone.made_out.is_some() {
            if mended.first <= self.low_water() {
                self.chain.needed.get_or_insert(mended.transaction_floor);
            }
            self.chain.oldest = mended;
        }
        if gone.made_out.is_some() || end.is_some() {
            // There is room: it was looked at before.
            let _ = self.chain.mended.0.push(mended);
        }
        let Some(end) = end else { return Ok(State::Finish) };
        if gone.passed || (gone.stands && gone.made_out.is_none()) {
            self.chain.dead.found(Cut { above: end.header.id, below: mended.id })?;
        }
        self.chain.at = end.header.id;
        self.chain.oldest = end.header;
        Ok(self.next_link())
    }

    /// Whether a loss up to here was accepted, or a checkpoint holds what is lost.
    fn is_harmless(&self, last: Lsn) -> bool {
        let accepted = self.tail.as_ref().map_or(Lsn::ZERO, |tail| tail.header.accepted_loss);
        last <= accepted || last < self.covered_below(self.chain.oldest.log)
    }

    /// Truncation relied on a checkpoint, and there is none: the state that it held is lost.
    fn state_lost(&self, tail: &Tail) -> Option<Finding> {
        let low_water = tail.low_water;
        let held = |head: &CheckpointHeader| head.lsn.next_or_max() >= low_water;
        if !tail.low_water_covered || low_water <= Lsn::FIRST || self.checkpoints.iter().any(held) {
            return None;
        }
        let accepted = tail.header.accepted_loss;
        Some(Finding::state_lost(tail.header.id, low_water, self.bad_checkpoints.first().copied(), accepted))
    }

    /// A finding is handed over before anything else is done.
    fn tell(&mut self, finding: Option<Finding>) {
        if let Some(finding) = finding {
            // No step finds more than there is room for.
            let told = self.findings.push(finding);
            debug_assert!(told.is_ok());
        }
    }

    fn gap(&mut self, id: SegmentId, (first, last): (Lsn, Lsn), seen: Seen, verdict: Verdict, offset: u32) {
        let first = first.max(self.low_water());
        if first > last {
            return;
        }
        self.tell(Some(Finding {
            verdict,
            lsns: Some((first, last)),
            witness: Some(Witness::Successor(self.chain.oldest.id)),
            harmless: self.is_harmless(last),
            ..Finding::rot(seen, Object::Segment(id), offset)
        }));
    }

    /// What a caller knows of is not made final by consent where nothing on the medium comes near it.
    fn check_caller(&self, tail: &Tail) -> Result<(), Fault> {
        let consents = matches!(self.options.policy, Policy::PointInTime | Policy::Salvage);
        let Some(expected) = self.options.expect_durable.filter(|_| consents) else { return Ok(()) };
        let proven = self.claim(&tail.header, None).map_or(Lsn::ZERO, |claim| claim.durable);
        let proven = proven.max(tail.last).max(tail.marked.unwrap_or_default());
        if expected.value().saturating_sub(proven.value()) > CALLER_MAX {
            return Err(Fault::Lost { expected });
        }
        Ok(())
    }

    /// Whoever renames or copies a segment is told, before anything is taken for unfinished and erased. What truncation gave
    /// up may come back under a new number: its room was taken again, and the new header was not written.
    fn check_stray(&self, newest: &SegmentHeader) -> Result<(), Fault> {
        match self.stray {
            Some(Stray { segment, found, log }) if log != newest.log || found >= self.chain.oldest.id => {
                Err(Fault::Misplaced { segment, found, log })
            }
            _ => Ok(()),
        }
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
        self.check_caller(&tail)?;
        self.check_stray(&header)?;
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
            mended: self.chain.mended.clone(),
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
            whole_header: self.whole_header,
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

/// Whether bytes, from this offset on, stand where only frames do, behind the copies of a header: then the header was once complete.
fn was_live(bytes: &[u8], from: usize) -> bool {
    let blank = |byte: &u8| *byte == 0 || *byte == 0xFF;
    let copy = |at: usize| {
        let copies = COPY_OFFSETS.iter().map(|&offset| offset as usize).chain([0]);
        copies.into_iter().any(|offset| (offset..offset + SEGMENT_HEADER_LEN).contains(&at))
    };
    bytes.iter().zip(from..).any(|(byte, at)| !blank(byte) && !copy(at))
}
