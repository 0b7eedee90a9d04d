//! Recovery: which segments count, where the log ends, and what is damaged. It only reads.
//!
//! It reads the metadata and the heads of the checkpoints, for what they witness; the newest segment, whole; and of
//! every other segment the header. A sealed segment's frames are read by whoever wants its entries. What recovery
//! saw may exist only in a cache: nothing is called durable before the log was taken over for writing
//! ([`Writer::take_over`](crate::Writer::take_over)).

use heapless::{Deque, Vec};
use uuid::Uuid;

use crate::{
    CheckpointId, Lsn,
    chain::{Cut, Dead, HeaderRead, HeaderReader, MakeOut, Mended, StrayHeader, View},
    checkpoint::{CheckpointError, CheckpointHead, CheckpointHeader, HEADER_LEN},
    checksum::{Update, portable},
    decision::Policy,
    device::Object,
    drive::{Answer, Machine, Step, Stop, Stopped, Turn},
    fault::Fault,
    meta::{META_LEN, Meta},
    part::Part,
    report::{Finding, Report, Seen, Verdict, Witness},
    segment::{COPY_OFFSETS, Predecessor, SEGMENT_HEADER_LEN, SegmentHeader, SegmentId},
    tail::{Claim, Tail, TailScan},
    window::{Bytes, Window},
};

/// How many checkpoints are remembered, newest first; a log retains fewer. Where checkpoints are left out, there is none.
pub const CHECKPOINTS_MAX: usize = if Part::Checkpoints.is_built() { 8 } else { 1 };

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
    pub checkpoints: Vec<CheckpointHead, CHECKPOINTS_MAX>,
    /// Checkpoints whose head is bad, newest first.
    pub bad_checkpoints: Vec<CheckpointId, CHECKPOINTS_MAX>,
    /// The highest id of any checkpoint, good or bad.
    pub highest_checkpoint: CheckpointId,
    pub(crate) tail: Tail,
    /// Whether both copies of the newest segment's header are sound.
    pub(crate) whole_header: bool,
    /// The highest id of any segment: above the newest, those that were never finished.
    pub(crate) highest: SegmentId,
    /// The highest epoch that anything of this log tells of.
    pub(crate) epoch: u64,
}

/// The machine.
#[derive(Debug)]
pub struct Recovery {
    options: RecoveryOptions,
    state: State,
    meta: Option<Meta>,
    bad_meta: bool,
    /// The offset of the copy of the newest segment's header that is bad.
    bad_copy: Option<u32>,
    strays: Vec<Stray, STRAYS_MAX>,
    /// Whether the segment that the metadata name stands above the newest, without a header.
    headless: bool,
    /// The LSNs of which a witness proves that they stood behind the newest segment, in one that is missing.
    lost_behind: Option<(Lsn, Lsn)>,
    /// The lowest LSNs that are missing between segments and held by a checkpoint: from the first up to below the second.
    held: Option<(Lsn, Lsn)>,
    /// What it comes to, as far as that is known.
    found: Recovered,
    /// The scan of the newest segment, or of one behind a gap: beside the state, as moving it there would take stack.
    scan: TailScan,
    chain: Chain,
    /// Which log each of the checkpoints found is of, and of which epoch: those of another are forgotten once it is known.
    origins: Vec<Origin, CHECKPOINTS_MAX>,
    /// Findings to hand over before going on.
    findings: Deque<Finding, FINDINGS_MAX>,
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
    Header(HeaderReader),
    /// No segment has a header: whether the lowest ever had one.
    Body(Window, usize),
    /// Scanning the newest segment.
    Tail,
    Chain {
        asked: bool,
    },
    ChainHeader(HeaderReader),
    /// Looking for what stands behind a segment that is missing or has lost its header.
    Behind {
        asked: bool,
    },
    BehindHeader(HeaderReader),
    MakeOut(MakeOut),
    /// Looking for the end of the segment behind.
    End,
    /// Nothing stands behind.
    Joined,
    Finish,
}

/// What a checkpoint is of.
#[derive(Clone, Copy, Debug)]
struct Origin {
    log: Uuid,
    epoch: u64,
}

/// A segment that has a sound header of another number.
#[derive(Clone, Copy, Debug)]
struct Stray {
    segment: SegmentId,
    found: StrayHeader,
    /// Whether it is another's, for certain.
    counts: bool,
    /// Whether the chain looks for it.
    wanted: bool,
}

impl Stray {
    fn misplaced(&self) -> Fault {
        let Self { segment, found: StrayHeader { id: found, log, .. }, .. } = *self;
        Fault::Misplaced { segment, found, log }
    }

    /// Whether it is this segment. A segment that was refused room may have left a header of the same number, and another
    /// nonce, where its room was taken again.
    fn is(&self, id: SegmentId, nonce: u64) -> bool {
        (self.found.id, self.found.nonce) == (id, nonce)
    }
}

/// How many of them above the newest are remembered: a crash leaves one or two.
const STRAYS_MAX: usize = 4;

/// The way back through the chain.
#[derive(Debug)]
struct Chain {
    /// The last segment looked at.
    at: SegmentId,
    /// The oldest segment known to count.
    oldest: SegmentHeader,
    /// Down to which LSN segments are needed, once the one that holds the low-water mark is reached.
    needed: Option<Lsn>,
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
    /// Whether the header that it had was made out: it is the last of those that are mended.
    made_out: bool,
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
    fn new(newest: &SegmentHeader) -> Self {
        Self { at: newest.id, oldest: *newest, needed: None, gone: None }
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
            bad_copy: None,
            strays: Vec::new(),
            headless: false,
            lost_behind: None,
            held: None,
            found: Recovered::nothing(&options),
            scan: TailScan::new(options.checksum),
            chain: Chain::new(&SegmentHeader::NONE),
            origins: Vec::new(),
            findings: Deque::new(),
        }
    }

    /// What it has come to.
    pub(crate) fn found(&self) -> &Recovered {
        &self.found
    }

    fn advance(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        loop {
            if !self.findings.is_empty() {
                return Err(self.hand_over(turn));
            }
            match &mut self.state {
                // What was left out of this build; the states that it alone comes to are compiled away with it.
                State::Meta(_) if !Part::Metadata.is_built() => {
                    return Err(turn.fault(Fault::LeftOut { object: Object::Meta, part: Part::Metadata }));
                }
                State::Checkpoint(window) if !Part::Checkpoints.is_built() => {
                    let object = window.object();
                    return Err(turn.fault(Fault::LeftOut { object, part: Part::Checkpoints }));
                }
                State::BehindHeader(_) | State::MakeOut(_) | State::End if !Part::Mending.is_built() => {
                    let object = Object::Segment(self.chain.oldest.predecessor.id);
                    return Err(turn.fault(Fault::LeftOut { object, part: Part::Mending }));
                }
                State::List { before, asked: asked @ false } => {
                    *asked = true;
                    return Err(turn.need(Step::Prev { before: *before }));
                }
                State::List { .. } => match turn.object() {
                    Some(object) => self.listed(object),
                    None => self.no_header(turn)?,
                },
                State::Meta(window) => {
                    let bytes = window.get(turn, 0, META_LEN)?;
                    self.meta_read(turn, &bytes);
                }
                State::Checkpoint(window) => {
                    let bytes = window.get(turn, 0, HEADER_LEN)?;
                    let object = window.object();
                    self.checkpoint_read(turn, object, &bytes);
                }
                State::Header(reader) => {
                    reader.next(turn)?;
                    self.top(turn)?;
                }
                State::Body(window, at) => {
                    let len = HEAD_PIECE.min(HEAD_AREA - *at);
                    let bytes = window.get(turn, *at as u64, len)?;
                    let live = match &bytes {
                        Bytes::Whole(bytes) | Bytes::Short(bytes) => was_live(turn.bytes(bytes), *at),
                        Bytes::Unreadable => true,
                    };
                    *at += len;
                    if live && let Object::Segment(id) = window.object() {
                        return Err(turn.fault(self.all_headless(id)));
                    }
                    if *at >= HEAD_AREA || !matches!(bytes, Bytes::Whole(_)) {
                        return Err(turn.fault(Fault::NoLog));
                    }
                }
                State::Tail => {
                    if self.scan.next(turn) == Err(Stopped) {
                        self.found_in_tail(turn)?;
                        continue;
                    }
                    self.found.tail = self.scan.tail;
                    self.scanned();
                }
                State::Chain { asked: asked @ false } | State::Behind { asked: asked @ false } => {
                    *asked = true;
                    return Err(turn.need(Step::Prev { before: Some(Object::Segment(self.chain.at)) }));
                }
                State::Chain { .. } => self.link(turn)?,
                State::ChainHeader(reader) => {
                    reader.next(turn)?;
                    self.linked();
                }
                State::Behind { .. } => self.behind(turn)?,
                State::BehindHeader(reader) => {
                    reader.next(turn)?;
                    self.behind_read();
                }
                State::MakeOut(make_out) => {
                    let behind = self.chain.gone.as_ref().and_then(|gone| gone.behind.as_ref());
                    let is_made_out = make_out.next(turn, &self.chain.oldest, behind)?;
                    self.made_out(is_made_out);
                }
                State::End => match self.scan.next(turn) {
                    // Whoever reads the segment tells of damage in it.
                    Err(Stopped) if matches!(turn.stop(), Stop::Need(Step::Finding(_))) => {}
                    Err(stopped) => return Err(stopped),
                    Ok(()) => self.joined(turn)?,
                },
                State::Joined => self.joined(turn)?,
                State::Finish => return self.finish(turn),
            }
        }
    }

    /// Hands over a finding: there is one.
    #[inline(never)] // What it takes of the stack is not there while anything is read.
    fn hand_over(&mut self, turn: &mut Turn<'_>) -> Stopped {
        self.findings.pop_front().map_or(Stopped, |finding| turn.need(Step::Finding(finding)))
    }

    /// The scan of the newest segment stopped: a finding is told as all others are.
    #[inline(never)] // As above.
    fn found_in_tail(&mut self, turn: &Turn<'_>) -> Result<(), Stopped> {
        let &Stop::Need(Step::Finding(finding)) = turn.stop() else { return Err(Stopped) };
        // What ends too early, ends where a missing segment began: that is told once it is known.
        match self.names_missing(&self.scan.tail.header) {
            Some(_) if finding.seen == Seen::End => self.lost_behind = finding.lsns,
            _ => self.tell(&finding),
        }
        Ok(())
    }

    /// On to the object before this one.
    fn list(&mut self, before: Object) {
        self.state = State::List { before: Some(before), asked: false };
    }

    #[inline(never)] // A state is large, and is made before it takes the place of another.
    fn listed(&mut self, object: Object) {
        self.state = match object {
            Object::Meta => State::Meta(Window::new(object, META_LEN as u64)),
            Object::Checkpoint(_) => State::Checkpoint(Window::new(object, HEADER_LEN as u64)),
            Object::Segment(id) => State::Header(self.reader(id)),
        };
    }

    /// What the metadata say: nothing where they were left out.
    fn meta(&self) -> Option<Meta> {
        if Part::Metadata.is_built() { self.meta } else { None }
    }

    fn reader(&self, id: SegmentId) -> HeaderReader {
        HeaderReader::new(self.options.checksum, id)
    }

    #[inline(never)] // What it takes of the stack is not there while an object is read.
    fn meta_read(&mut self, turn: &Turn<'_>, bytes: &Bytes) {
        self.meta = match bytes {
            Bytes::Whole(bytes) => Meta::decode(turn.bytes(bytes)).ok(),
            Bytes::Short(_) | Bytes::Unreadable => None,
        };
        self.bad_meta = self.meta.is_none();
        self.list(Object::Meta);
    }

    #[inline(never)] // As above.
    fn checkpoint_read(&mut self, turn: &Turn<'_>, object: Object, bytes: &Bytes) {
        let head = match bytes {
            Bytes::Whole(bytes) => CheckpointHeader::decode(turn.bytes(bytes)),
            Bytes::Short(_) | Bytes::Unreadable => Err(CheckpointError::Short),
        };
        self.list(object);
        let Object::Checkpoint(id) = object else { return };
        if let Err(CheckpointError::UnsupportedVersion { version }) = head {
            self.found.report.unsupported.get_or_insert((id, version));
            let mut finding = Finding::rot(Seen::BadCheckpoint, object, 0);
            // What it holds, a newer program reads.
            (finding.verdict, finding.harmless) = (Verdict::Unsupported, true);
            self.tell(&finding);
        }
        self.found.highest_checkpoint = self.found.highest_checkpoint.max(id);
        match head {
            Ok(head) if head.id == id => self.remember(&head),
            // Beyond the newest few, older ones are not remembered: a log retains fewer.
            _ => drop(self.found.bad_checkpoints.push(id)),
        }
    }

    fn remember(&mut self, checkpoint: &CheckpointHeader) {
        // As above: each of them has its origin.
        let _ = self.found.checkpoints.push(checkpoint.head());
        let _ = self.origins.push(Origin { log: checkpoint.log, epoch: checkpoint.epoch });
    }

    /// Forgets the checkpoints of other logs.
    fn forget_foreign(found: &mut Recovered, origins: &mut Vec<Origin, CHECKPOINTS_MAX>, log: Uuid) {
        let mut ours = origins.iter().map(|origin| origin.log == log);
        found.checkpoints.retain(|_| ours.next() == Some(true));
        origins.retain(|origin| origin.log == log);
    }

    /// Takes the header of a segment from the top down: the first valid one is the newest.
    #[inline(never)] // What it takes of the stack is free again while the segment is scanned.
    fn top(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        let State::Header(reader) = &self.state else { return Ok(()) };
        let (id, read) = (reader.id(), &reader.read);
        self.found.highest = self.found.highest.max(id);
        if let Some(header) = &read.header {
            if let Some(expected) = self.options.expect_log
                && header.log != expected
            {
                return Err(turn.fault(Fault::Foreign { segment: id, found: header.log, expected }));
            }
            let missing = self.names_missing(header);
            if missing.is_some_and(|missing| header.first > missing.before.next_or_max()) {
                // The missing segment has cut it off as a whole.
                self.list(Object::Segment(id));
                return Ok(());
            }
            self.bad_copy = read.bad_copy;
            self.found.whole_header = read.bad_copy.is_none();
            Self::forget_foreign(&mut self.found, &mut self.origins, header.log);
            let claim = self.claim(header, self.options.expect_durable);
            let below = self.found.covered_below();
            self.scan.scan(self.options.checksum, header, self.options.policy, claim, below);
            if let Some(missing) = missing {
                // What stands behind, the missing segment has cut off, or copied.
                self.scan.until = missing.before;
            }
            if let Some(meta) = self.meta().filter(|meta| meta.log == header.log && meta.epoch >= header.epoch) {
                self.scan.given_up = self.scan.given_up.max(meta.low_water);
            }
            self.state = State::Tail;
            return Ok(());
        }
        if read.unreadable {
            return Err(turn.fault(Fault::Unreadable { object: Object::Segment(id), offset: 0 }));
        }
        self.found.report.unfinished = Some(id);
        self.headless |= self.meta().is_some_and(|meta| meta.segment == id.value());
        if let Some(found) = read.stray {
            // More than are remembered, no crash leaves.
            let counts = self.strays.is_full();
            if counts {
                self.strays.pop();
            }
            let _ = self.strays.push(Stray { segment: id, found, counts, wanted: false });
        }
        self.list(Object::Segment(id));
        Ok(())
    }

    /// No segment has a valid header.
    #[inline(never)] // As above.
    fn no_header(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        if let Some(expected) = self.options.expect_durable.filter(|lsn| *lsn > Lsn::ZERO) {
            return Err(turn.fault(Fault::Lost { expected }));
        }
        if let Some((id, number)) = self.found.report.unsupported {
            return Err(turn.fault(Fault::Unsupported { object: Object::Checkpoint(id), offset: 0, number }));
        }
        let witnessed = self.meta().is_some() || !self.found.checkpoints.is_empty();
        Err(turn.fault(match self.found.report.unfinished {
            Some(id) if witnessed => self.all_headless(id),
            Some(id) => {
                self.state = State::Body(Window::new(Object::Segment(id), HEAD_AREA as u64), 0);
                return Ok(());
            }
            None if witnessed => {
                let id = self.meta().map_or(SegmentId::new(1), |meta| SegmentId::new(meta.segment));
                Fault::Damaged(missing(id))
            }
            None => Fault::NoLog,
        }))
    }

    /// No segment has a header of its own, down to this one, and there was a log.
    fn all_headless(&self, id: SegmentId) -> Fault {
        self.strays.first().map_or(Fault::Damaged(headless(id)), Stray::misplaced)
    }

    /// The strongest witness from outside the segments.
    fn claim(&self, newest: &SegmentHeader, caller: Option<Lsn>) -> Option<Claim> {
        let mut strongest: Option<Claim> = None;
        let mut add = |durable: Lsn, witness| {
            if strongest.is_none_or(|claim| claim.durable <= durable) {
                strongest = Some(Claim { durable, witness });
            }
        };
        for (head, origin) in self.found.checkpoints.iter().zip(&self.origins) {
            if origin.log == newest.log && origin.epoch >= newest.epoch {
                add(head.lsn, Witness::Checkpoint { id: head.id, lsn: head.lsn });
            }
        }
        if let Some(meta) = self.meta().filter(|meta| meta.log == newest.log && meta.epoch >= newest.epoch) {
            add(meta.durable, Witness::Meta { durable: meta.durable });
        }
        if let Some(durable) = caller {
            add(durable, Witness::Caller { durable });
        }
        strongest
    }

    /// The metadata, if they prove that a newer segment than this one is missing: they are replaced only once the header
    /// of the segment that they name is durable. Of an earlier epoch, they say nothing of a log that has gone on since.
    fn names_missing(&self, newest: &SegmentHeader) -> Option<Meta> {
        let is_it = |meta: &Meta| (meta.segment, meta.nonce) == (newest.id.value(), newest.nonce);
        let is_newer = |meta: &Meta| meta.epoch > newest.epoch || meta.segment > newest.id.value();
        let meta = self.meta().filter(|meta| meta.log == newest.log && meta.epoch >= newest.epoch)?;
        (is_newer(&meta) && !is_it(&meta)).then_some(meta)
    }

    #[inline(never)] // As above.
    fn scanned(&mut self) {
        let header = self.found.tail.header;
        let meta = self.meta().filter(|meta| meta.log == header.log);
        let tail = &mut self.found.tail;
        let mut says = Object::Segment(header.id);
        if let Some(meta) = meta.filter(|meta| meta.epoch >= header.epoch) {
            // The mark itself may be what is damaged: what was truncated by it is not missing.
            let low_water = meta.low_water.min(tail.last.next_or_max());
            if low_water > tail.low_water {
                tail.truncated_to(low_water, meta.low_water_covered);
                says = Object::Meta;
            }
        }
        self.tell_of_lost_state(says);
        let tail = &mut self.found.tail;
        // A crash while the segment was begun looks the same, unless something was written once it had been.
        let names = |meta: Meta| (meta.segment, meta.nonce) == (header.id.value(), header.nonce);
        let is_begun = tail.marked.is_some() || meta.is_some_and(names);
        self.tell_of_copy(header.id, self.bad_copy, if is_begun { Verdict::Rot } else { Verdict::Unsynced });
        let tail = &mut self.found.tail;
        if let Some(meta) = meta.filter(|meta| names(*meta)) {
            // An epoch mark in it may be lost, and what it said is known from here.
            tail.epoch = tail.epoch.max(meta.epoch);
        }
        if let Some(meta) = self.names_missing(&header) {
            self.found.tail.damaged = true;
            // All that is before a segment is durable when it is begun; and it may have cut through a batch, of which what is
            // left is whole where it stands alone.
            self.found.tail.marked = self.found.tail.marked.max(Some(self.found.tail.last));
            let id = SegmentId::new(meta.segment);
            let mut finding = if self.headless { headless(id) } else { missing(id) };
            // It was finished.
            self.found.report.unfinished = self.found.report.unfinished.filter(|unfinished| *unfinished != id);
            let known = self.found.tail.durable.map_or(meta.durable, |claim| claim.durable.max(meta.durable));
            let behind = (self.found.tail.last.next_or_max(), known);
            finding.lsns = self.lost_behind.or(Some(behind).filter(|(first, last)| first <= last));
            finding.witness = Some(Witness::Meta { durable: meta.durable });
            self.tell(&finding);
        }
        if Part::Metadata.is_built() && core::mem::take(&mut self.bad_meta) {
            // A crash while it was being replaced looks the same.
            let mut finding = Finding::rot(Seen::BadMeta, Object::Meta, 0);
            finding.verdict = Verdict::Unsynced;
            finding.harmless = true;
            finding.len = META_LEN as u64;
            self.tell(&finding);
        }
        self.chain = Chain::new(&header);
        self.next_link();
    }

    /// Whether the chain goes on behind its oldest segment so far.
    fn next_link(&mut self) {
        let low_water = self.low_water();
        let oldest = &self.chain.oldest;
        if oldest.first <= low_water && self.chain.needed.is_none() {
            // A transaction that crosses the low-water mark keeps the segments it began in.
            self.chain.needed = Some(low_water.min(oldest.transaction_floor));
        }
        self.state = if self.chain.needed.is_some_and(|needed| oldest.first <= needed) {
            State::Finish
        } else if oldest.predecessor.id == SegmentId::NONE {
            // The log begins here, and what truncation kept began before.
            let (id, gap, at) = (oldest.id, (low_water, oldest.first.previous()), oldest.frames_at());
            self.gap(id, gap, Seen::Hole, Verdict::Rot, at);
            State::Finish
        } else {
            for stray in &mut self.strays {
                stray.wanted |= stray.is(oldest.predecessor.id, oldest.predecessor.nonce);
            }
            State::Chain { asked: false }
        };
    }

    fn low_water(&self) -> Lsn {
        self.found.tail.low_water
    }

    /// Takes the next segment below: the predecessor, a dead one, or the first behind a gap.
    #[inline(never)] // As above.
    fn link(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        let wanted = self.chain.oldest.predecessor.id;
        match turn.segment() {
            Some(id) if id > wanted => {
                self.chain.at = id;
                self.dead(turn, Cut { above: wanted, below: self.chain.oldest.id })?;
                self.state = State::Chain { asked: false };
            }
            Some(id) if id == wanted => {
                self.chain.at = id;
                self.state = State::ChainHeader(self.reader(id));
            }
            _ => self.gone(Seen::MissingSegment, Verdict::Rot, false),
        }
        Ok(())
    }

    /// Takes note that a segment between these two was found.
    fn dead(&mut self, turn: &mut Turn<'_>, cut: Cut) -> Result<(), Stopped> {
        self.found.view.dead.found(cut).map_err(|fault| turn.fault(fault))
    }

    #[inline(never)] // As above.
    fn linked(&mut self) {
        let State::ChainHeader(reader) = &self.state else { return };
        let (id, HeaderRead { header, bad_copy, unreadable, stray }) = (reader.id(), &reader.read);
        let (bad_copy, stray) = (*bad_copy, *stray);
        let named = self.chain.oldest.predecessor;
        let is_named = |header: &SegmentHeader| {
            header.nonce == named.nonce
                && header.first <= named.last.next_or_max()
                && named.first().is_none_or(|first| first <= header.first)
        };
        match header {
            None if *unreadable => self.gone(Seen::BadSegmentHeader, Verdict::Unreadable, true),
            None => {
                self.met_misplaced(id, stray);
                self.gone(Seen::BadSegmentHeader, Verdict::Rot, true);
            }
            Some(header) if header.log != self.chain.oldest.log => {
                self.gone(Seen::MissingSegment, Verdict::Foreign, false);
            }
            Some(header) if !is_named(header) => self.gone(Seen::MissingSegment, Verdict::Rot, false),
            Some(header) => {
                let header = *header;
                self.tell_of_copy(id, bad_copy, Verdict::Rot);
                self.given_up_before();
                self.chain.oldest = header;
                self.next_link();
            }
        }
    }

    /// Tells of LSNs between the end of the predecessor and the first of the oldest segment: they were given up before.
    fn given_up_before(&mut self) {
        let first = self.chain.oldest.first;
        let Predecessor { id, last, size, .. } = self.chain.oldest.predecessor;
        self.gap(id, (last.next_or_max(), first.previous()), Seen::MissingSegment, Verdict::Rot, size);
    }

    /// The predecessor that the oldest segment names is not there, or without its header: looks for what stands behind.
    fn gone(&mut self, seen: Seen, verdict: Verdict, stands: bool) {
        let lost = self.chain.oldest.predecessor;
        let Some(first) = lost.first().filter(|_| !self.found.view.mended.0.is_full()) else {
            // Nothing tells where it began, or it is one too many: all from the low-water mark on is given up.
            self.gap(lost.id, (self.low_water(), self.chain.oldest.first.previous()), seen, verdict, 0);
            self.state = State::Finish;
            return;
        };
        // What met the eye where it should be, and is not it, is no part of the log.
        let passed = !stands && self.chain.at == lost.id;
        let gone = Gone { seen, verdict, stands, first, made_out: false, behind: None, certain: false, passed };
        self.chain.gone = Some(gone);
        self.chain.at = lost.id;
        self.state = State::Behind { asked: false };
        let low_water = self.low_water();
        if first <= low_water && !stands {
            // What was open in it at the mark and counts is open where its successor begins.
            let floor = self.chain.oldest.transaction_floor;
            self.chain.needed.get_or_insert(low_water.min(floor));
        }
        let is_needed = stands || self.chain.needed.is_none_or(|needed| needed < first);
        if !is_needed || lost.before() == Some(SegmentId::NONE) {
            self.found_behind();
        }
    }

    /// Takes the next segment below one that is gone: a dead one, its predecessor, or one that may stand behind that.
    #[inline(never)] // As above.
    fn behind(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        let named = self.chain.oldest.predecessor.before();
        match turn.segment() {
            Some(_) if !Part::Mending.is_built() => self.state = State::End,
            Some(id) if named.is_some_and(|named| id > named) => self.pass(id),
            // Where its predecessor is missing too, nothing tells which entries of the others were cut off.
            Some(id) if named == Some(id) || !self.chain.oldest.leftovers => {
                self.state = State::BehindHeader(self.reader(id));
            }
            _ => self.found_behind(),
        }
        Ok(())
    }

    /// Passes over a segment on the way behind one that is gone.
    fn pass(&mut self, id: SegmentId) {
        if let Some(gone) = &mut self.chain.gone {
            gone.passed = true;
        }
        self.chain.at = id;
        self.state = State::Behind { asked: false };
    }

    #[inline(never)] // As above.
    fn behind_read(&mut self) {
        let State::BehindHeader(reader) = &self.state else { return };
        let (id, read) = (reader.id(), &reader.read);
        let (bad_copy, stray) = (read.bad_copy, read.stray);
        let oldest = &self.chain.oldest;
        let certain = oldest.predecessor.before() == Some(id);
        let Some(gone) = &mut self.chain.gone else { return };
        let fits = |header: &&SegmentHeader| {
            header.log == oldest.log
                && header.epoch <= oldest.epoch
                && (header.first < gone.first || (certain && header.first == gone.first))
        };
        let Some(header) = read.header.as_ref().filter(fits) else {
            let (lost, newest) = (oldest.predecessor.id, self.found.tail.header.id);
            if stray.is_some_and(|found| found.id == lost || found.id > newest) {
                self.met_misplaced(id, stray);
            }
            return self.pass(id);
        };
        gone.behind = Some(*header);
        gone.certain = certain;
        self.tell_of_copy(id, bad_copy, Verdict::Rot);
        self.found_behind();
    }

    /// What stands behind the segment that is gone is known: is that one itself to be read?
    fn found_behind(&mut self) {
        let Some(gone) = self.chain.gone.as_ref().filter(|gone| gone.stands) else { return self.made_out(false) };
        if !Part::Mending.is_built() {
            self.state = State::End;
            return;
        }
        let make_out = MakeOut::new(self.options.checksum, &self.chain.oldest, gone.behind.as_ref(), gone.first);
        self.state = State::MakeOut(make_out);
    }

    /// The segment that has lost its header can be read under this one; or nothing that it holds can be read.
    #[inline(never)] // As above.
    fn made_out(&mut self, is_made_out: bool) {
        let lost = self.chain.oldest.predecessor;
        let Some(gone) = &mut self.chain.gone else { return self.state = State::Finish };
        gone.made_out = is_made_out;
        if is_made_out && let State::MakeOut(make_out) = &self.state {
            // There is room: it was looked at before.
            let _ = self.found.view.mended.0.push(*make_out.header());
        }
        self.state = State::Finish;
        let Gone { seen, verdict, first, behind, certain, .. } = *gone;
        let successor = Witness::Successor(self.chain.oldest.id);
        self.given_up_before();
        if is_made_out {
            let mut finding = headless(lost.id);
            (finding.seen, finding.verdict, finding.witness) = (seen, verdict, Some(successor));
            finding.harmless = self.is_harmless(lost.last);
            self.tell(&finding);
        } else {
            // What was given up right before it is no loss of its own.
            let given_up = self.chain.oldest.accepted_loss;
            let own = if given_up < lost.last { first.max(given_up.next_or_max()) } else { first };
            self.gap(lost.id, (own, lost.last), seen, verdict, 0);
            self.gap(lost.id, (first, own.previous()), Seen::MissingSegment, Verdict::Rot, 0);
        }
        self.state = match behind {
            Some(behind) if Part::Mending.is_built() => {
                let until = first.previous();
                // Its successor's header is gone, but that there was one proves it, if it is for certain its successor.
                let claim = certain.then_some(Claim { durable: until, witness: successor });
                self.scan.scan(self.options.checksum, &behind, Policy::Inspect, claim, Lsn::ZERO);
                self.scan.until = until;
                State::End
            }
            _ => State::Joined,
        };
    }

    /// Joins the chain behind a gap: what stands there, if something does, was scanned as far as it goes.
    #[inline(never)] // As above.
    fn joined(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        let Tail { header, last, behind, .. } = self.scan.tail;
        let end = matches!(self.state, State::End).then_some(End { header, last, behind });
        self.state = State::Finish;
        let lost = self.chain.oldest.predecessor;
        let Some(gone) = self.chain.gone.take() else { return Ok(()) };
        let until = gone.first.previous();
        let predecessor = end.as_ref().map(|end| match gone.certain {
            // What is not there below the end that is known is damage, and whoever reads it tells.
            true if end.last < until => end.header.cut(until, end.header.segment_size),
            _ => end.header.cut(end.last, end.behind),
        });
        if !gone.certain {
            let from = predecessor.map_or(self.low_water(), |end| end.last.next_or_max());
            let id = lost.before().filter(|id| *id != SegmentId::NONE).unwrap_or(lost.id);
            self.gap(id, (from, until), Seen::MissingSegment, Verdict::Rot, 0);
        }
        let predecessor = predecessor.unwrap_or_default();
        let low_water = self.low_water();
        let mended = &mut self.found.view.mended.0;
        if let Some(made_out) = mended.last_mut().filter(|_| gone.made_out) {
            made_out.predecessor = predecessor;
            if made_out.first <= low_water {
                self.chain.needed.get_or_insert(made_out.transaction_floor);
            }
            self.chain.oldest = *made_out;
        } else if end.is_some() {
            // There is room: it was looked at before.
            let _ = mended.push(SegmentHeader { predecessor, ..self.chain.oldest });
        }
        let id = self.chain.oldest.id;
        let Some(end) = end else { return Ok(()) };
        if gone.passed || (gone.stands && !gone.made_out) {
            self.dead(turn, Cut { above: end.header.id, below: id })?;
        }
        self.chain.at = end.header.id;
        self.chain.oldest = end.header;
        self.next_link();
        Ok(())
    }

    /// Whether a loss up to here was accepted, or a checkpoint holds what is lost.
    fn is_harmless(&self, last: Lsn) -> bool {
        last <= self.found.tail.header.accepted_loss || last < self.found.covered_below()
    }

    /// Truncation relied on a checkpoint: where there is none, the state that it held is lost.
    fn tell_of_lost_state(&mut self, says: Object) {
        let Recovered { tail, checkpoints, bad_checkpoints, .. } = &self.found;
        let low_water = tail.low_water;
        let held = |head: &CheckpointHead| head.floor >= low_water;
        if tail.low_water_covered && low_water > Lsn::FIRST && !checkpoints.iter().any(held) {
            let (accepted, bad) = (tail.header.accepted_loss, bad_checkpoints.first().copied());
            self.tell(&Finding::state_lost(says, low_water, bad, accepted));
        }
    }

    fn tell_of_copy(&mut self, id: SegmentId, bad_copy: Option<u32>, verdict: Verdict) {
        if let Some(offset) = bad_copy {
            let mut finding = Finding::rot(Seen::BadHeaderCopy, Object::Segment(id), offset);
            finding.verdict = verdict;
            finding.len = SEGMENT_HEADER_LEN as u64;
            finding.harmless = true;
            self.tell(&finding);
        }
    }

    /// A finding is handed over before anything else is done.
    #[inline(never)] // As above.
    fn tell(&mut self, finding: &Finding) {
        let report = &mut self.found.report;
        if finding.harmless {
            report.harmless += 1;
        } else {
            report.damage += 1;
            report.first_damage.get_or_insert(*finding);
        }
        // No step finds more than there is room for.
        let told = self.findings.push_back(*finding);
        debug_assert!(told.is_ok());
    }

    fn gap(&mut self, id: SegmentId, (first, last): (Lsn, Lsn), seen: Seen, verdict: Verdict, offset: u32) {
        let first = first.max(self.low_water());
        if first > last {
            return;
        }
        let mut finding = Finding::rot(seen, Object::Segment(id), offset);
        finding.verdict = verdict;
        finding.lsns = Some((first, last));
        finding.witness = Some(Witness::Successor(self.chain.oldest.id));
        finding.harmless = self.is_harmless(last);
        self.tell(&finding);
        // The way goes down: the last of these is the lowest.
        if last < self.found.covered_below() {
            let above = self.held.filter(|(above, _)| *above == last.next_or_max());
            self.held = Some((first, above.map_or(last.next_or_max(), |(_, end)| end)));
        }
    }

    /// What a caller knows of is not made final by consent where nothing on the medium comes near it.
    fn is_far_from_all(&self, expected: Lsn) -> bool {
        let tail = &self.found.tail;
        let proven = self.claim(&tail.header, None).map_or(Lsn::ZERO, |claim| claim.durable);
        let proven = proven.max(tail.last).max(tail.marked.unwrap_or_default());
        matches!(self.options.policy, Policy::PointInTime | Policy::Salvage)
            && expected.value().saturating_sub(proven.value()) > CALLER_MAX
    }

    /// Whoever renames or copies a segment is told, before anything is taken for unfinished and erased. What no longer
    /// counts, or was never finished, may come back under a new number by a crash alone: its room was taken again, and the
    /// new header was not written. Its own number is below the newest then, or that of a segment that was refused room:
    /// and that was removed before, so no segment stands under that number. It may even be the one that the chain looks
    /// for, at the front, where a checkpoint holds it: on a full medium its room is needed before a mark says so.
    fn misplaced(&self) -> Option<Fault> {
        let newest = &self.found.tail.header;
        let is_lost = |stray: &Stray| {
            let is_it = |meta: Meta| meta.log == stray.found.log && stray.is(SegmentId::new(meta.segment), meta.nonce);
            self.meta().is_some_and(is_it) || self.strays.iter().any(|other| other.segment == stray.found.id)
        };
        let removed = self.removed_unsaid().unwrap_or(self.low_water());
        let removed = removed.min(self.found.covered_below());
        let front = self.chain.oldest.predecessor;
        let is_removed = |stray: &Stray| front.last < removed && stray.is(front.id, front.nonce);
        let is_misplaced = |stray: &&Stray| {
            let is_newer = stray.is(newest.id, newest.nonce) || (stray.found.id > newest.id && is_lost(stray));
            let is_missed = stray.wanted && !is_removed(stray);
            stray.counts || is_missed || is_newer || stray.found.log != newest.log
        };
        self.strays.iter().find(is_misplaced).map(Stray::misplaced)
    }

    /// Up to where entries are missing at the front, and held by a checkpoint: a truncation on a full medium, which has to
    /// remove before there is room to say so, leaves this behind where it is cut short.
    fn removed_unsaid(&self) -> Option<Lsn> {
        self.held.filter(|(first, _)| *first == self.low_water()).map(|(_, end)| end)
    }

    /// A header of another number in a segment of the chain, or behind one that is gone: the segment is another's. Where
    /// both copies of its own header stood, nothing can be left of what its room held in an earlier life.
    fn met_misplaced(&mut self, segment: SegmentId, stray: Option<StrayHeader>) {
        let copies = [0, self.chain.oldest.copy_offset];
        if let Some(found) = stray.filter(|found| copies.contains(&found.offset)) {
            self.strays.clear();
            let _ = self.strays.push(Stray { segment, found, counts: true, wanted: false });
        }
    }

    #[inline(never)] // As above.
    fn finish(&mut self, turn: &mut Turn<'_>) -> Result<(), Stopped> {
        if let Some(expected) = self.options.expect_durable.filter(|expected| self.is_far_from_all(*expected)) {
            return Err(turn.fault(Fault::Lost { expected }));
        }
        if let Some(fault) = self.misplaced() {
            return Err(turn.fault(fault));
        }
        self.conclude();
        match refusal(&self.found.report) {
            Some(fault) => Err(turn.fault(fault)),
            None => Ok(()),
        }
    }

    /// Says what it has come to.
    #[inline(never)] // As above.
    fn conclude(&mut self) {
        self.found.report.low_water = self.low_water();
        // It was told, and is done.
        if let Some(end) = self.removed_unsaid() {
            self.found.tail.truncated_to(end, true);
        }
        let meta = self.meta();
        let Recovered { report, view, tail, checkpoints, epoch, .. } = &mut self.found;
        let header = &tail.header;
        let meta = meta.iter().filter(|meta| meta.log == header.log).map(|meta| meta.epoch);
        *epoch = self.origins.iter().map(|origin| origin.epoch).chain(meta).fold(tail.epoch, u64::max);
        report.log = header.log;
        report.epoch = tail.epoch;
        report.last = tail.last;
        report.verified = (header.first <= tail.last).then_some((header.first, tail.last));
        report.durable = tail.durable.map_or(Lsn::ZERO, |claim| claim.durable).max(header.first.previous());
        report.closed = tail.sealed && !tail.damaged && tail.marked >= Some(tail.last);
        report.torn_tail = tail.torn;
        report.accepted_loss = header.accepted_loss;
        view.log = header.log;
        view.oldest = self.chain.oldest.id;
        view.newest = header.id;
        view.epoch = tail.epoch;
        view.last = tail.last;
        view.end = tail.behind;
        view.low_water = tail.low_water;
        view.low_water_covered = tail.low_water_covered;
        view.accepted_loss = header.accepted_loss;
        let newest = checkpoints.first();
        let used = newest.filter(|head| report.policy.skips_damage() || !view.lacks_state(head));
        report.checkpoint = used.map(|head| (head.id, head.lsn));
    }
}

impl Recovered {
    /// The highest LSN that anything tells of: whoever gives up what is gone gives up all above the end of the log up to
    /// here, and goes on behind it.
    #[must_use]
    pub fn highest_told(&self) -> Lsn {
        // The last LSN is nobody's: hostile bytes alone tell of it.
        self.report.durable.max(self.tail.last).max(self.tail.lost).min(Lsn::MAX.previous())
    }

    /// The LSN below which a checkpoint holds what damage takes; salvage gives that up for good all the same.
    fn covered_below(&self) -> Lsn {
        if self.report.policy == Policy::Salvage {
            return Lsn::ZERO;
        }
        self.checkpoints.iter().map(|head| head.floor).max().unwrap_or_default()
    }

    /// Whether entries are gone from the end of the log that nothing makes up for: no checkpoint holds them, truncation has
    /// not given them up, and their loss was not accepted.
    pub(crate) fn lacks_its_end(&self) -> bool {
        let Self { tail, .. } = self;
        let made_up = tail.low_water.max(self.covered_below()).previous();
        let lost = self.highest_told();
        lost > tail.last && lost > made_up.max(tail.header.accepted_loss)
    }

    /// What is known before anything was read.
    #[inline(never)] // It is large: written where it is wanted, not moved there.
    fn nothing(options: &RecoveryOptions) -> Self {
        let header = SegmentHeader::NONE;
        Self {
            report: Report::nothing(options.policy),
            view: View {
                update: options.checksum,
                log: header.log,
                oldest: header.id,
                newest: header.id,
                dead: Dead::default(),
                mended: Mended::default(),
                epoch: 0,
                last: Lsn::ZERO,
                end: 0,
                low_water: header.low_water,
                low_water_covered: false,
                accepted_loss: Lsn::ZERO,
            },
            checkpoints: Vec::new(),
            bad_checkpoints: Vec::new(),
            highest_checkpoint: CheckpointId::default(),
            tail: Tail::new(&header),
            whole_header: false,
            highest: SegmentId::NONE,
            epoch: 0,
        }
    }
}

impl Machine for Recovery {
    type Output = Recovered;

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<Recovered, Stop> {
        Turn::run(buf, answer, |turn| self.advance(turn))?;
        Ok(self.found.clone())
    }
}

// The same where the result stays in its place: `found` has it.
impl Machine for &mut Recovery {
    type Output = ();

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<(), Stop> {
        Turn::run(buf, answer, |turn| self.advance(turn))
    }
}

/// Why a policy refuses the log altogether: only the strict one does; damage makes a log read-only for the default.
fn refusal(report: &Report) -> Option<Fault> {
    if report.policy != Policy::Strict {
        return None;
    }
    let torn = report.torn_tail.map(|torn| {
        let mut finding = Finding::rot(Seen::BadHeader, Object::Segment(torn.segment), torn.offset);
        finding.verdict = torn.verdict;
        finding.len = torn.len.into();
        finding
    });
    report.first_damage.or(torn).map(Fault::Damaged)
}

/// Where the segment behind a gap ends.
struct End {
    header: SegmentHeader,
    last: Lsn,
    behind: u32,
}

/// A segment that has lost its header.
fn headless(id: SegmentId) -> Finding {
    Finding::rot(Seen::BadSegmentHeader, Object::Segment(id), 0)
}

/// A segment that is missing.
fn missing(id: SegmentId) -> Finding {
    Finding::rot(Seen::MissingSegment, Object::Segment(id), 0)
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

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;
    use std::{vec, vec::Vec};

    use super::*;
    use crate::{
        reader::tests::{Log, log, lsns, plain},
        report::TornTail,
    };

    /// What recovery tells of a log on its way, and what it comes to.
    pub(crate) fn recover(log: &Log, options: RecoveryOptions) -> (Vec<Finding>, Result<Recovered, Fault>) {
        let (mut recovery, mut findings, mut buf) = (Recovery::new(options), Vec::new(), [0; 512]);
        loop {
            match log.next(&mut recovery, &mut buf) {
                Ok(Err(Step::Finding(finding))) => findings.push(finding),
                Ok(Err(step)) => panic!("{step:?}"),
                Ok(Ok(recovered)) => return (findings, Ok(recovered)),
                Err(fault) => return (findings, Err(fault)),
            }
        }
    }

    pub(crate) fn by(policy: Policy) -> RecoveryOptions {
        RecoveryOptions { policy, ..RecoveryOptions::default() }
    }

    /// Three segments of four entries each.
    fn three() -> Log {
        log(&[&plain(1..=4), &plain(5..=8), &plain(9..=12)])
    }

    /// Four of them.
    fn four() -> Log {
        log(&[&plain(1..=4), &plain(5..=8), &plain(9..=12), &plain(13..=16)])
    }

    /// What was seen, where, and which entries are gone.
    type Told = (Seen, Object, Option<(Lsn, Lsn)>);

    fn told(findings: &[Finding]) -> Vec<Told> {
        findings.iter().map(|finding| (finding.seen, finding.object, finding.lsns)).collect()
    }

    fn segment(id: u64) -> Object {
        Object::Segment(SegmentId::new(id))
    }

    #[test]
    fn a_checkpoint_of_another_log_is_not_among_those_that_are_found() {
        let mut log = three();
        for (id, of) in [(5, log.view.log), (7, FOREIGN), (8, log.view.log)] {
            let head = CheckpointHeader { id: CheckpointId::new(id), log: of, epoch: 6, lsn: Lsn::new(10), ..head() };
            log.others.push((Object::Checkpoint(head.id), head.encode().to_vec()));
        }
        let (findings, recovered) = recover(&log, by(Policy::Default));
        let Recovered { checkpoints, highest_checkpoint, .. } = recovered.unwrap();
        assert_eq!(checkpoints.iter().map(|head| head.id.value()).collect::<Vec<_>>(), [8, 5]);
        assert_eq!((findings, highest_checkpoint), (vec![], CheckpointId::new(8)), "its id is not given out again");
    }

    #[test]
    fn a_checkpoint_that_names_another_one_is_a_bad_one() {
        let mut log = three();
        for (id, named) in [(5, 5), (7, 6)] {
            let named = CheckpointId::new(named);
            let head = CheckpointHeader { id: named, log: log.view.log, epoch: 6, lsn: Lsn::new(10), ..head() };
            log.others.push((Object::Checkpoint(CheckpointId::new(id)), head.encode().to_vec()));
        }
        let (findings, recovered) = recover(&log, by(Policy::Default));
        let Recovered { checkpoints, bad_checkpoints, highest_checkpoint, .. } = recovered.unwrap();
        assert_eq!((findings, highest_checkpoint), (vec![], CheckpointId::new(7)));
        assert_eq!(checkpoints.iter().map(|head| head.id).collect::<Vec<_>>(), [CheckpointId::new(5)]);
        assert_eq!(bad_checkpoints[..], [CheckpointId::new(7)]);
    }

    /// The head of a checkpoint that holds nothing.
    fn head() -> CheckpointHeader {
        CheckpointHeader {
            log: Uuid::nil(),
            epoch: 0,
            id: CheckpointId::default(),
            lsn: Lsn::ZERO,
            floor: Lsn::FIRST,
            created_at: 0,
            documents: 0,
            chunks: 0,
            metadata_len: 0,
        }
    }

    #[test]
    fn what_rotted_before_a_newest_segment_that_is_missing_is_told_as_that_segment_is() {
        let mut log = three().without(3).flipped_in(2, 1);
        let meta = Meta { epoch: 6, durable: Lsn::new(12), segment: 3, before: Lsn::new(8), ..Meta::default() };
        log.others.push((Object::Meta, meta.encode().to_vec()));
        let (findings, recovered) = recover(&log, by(Policy::Salvage));
        let missing = (Seen::MissingSegment, segment(3), lsns(9, 12));
        assert_eq!(told(&findings), [(Seen::BadEntry, segment(2), lsns(6, 6)), missing]);
        assert_eq!(recovered.unwrap().report.damage, 2);
    }

    #[test]
    fn what_rotted_behind_a_missing_segment_is_left_to_whoever_reads_it() {
        let log = three().without(2).flipped_in(1, 1);
        let (findings, recovered) = recover(&log, by(Policy::Salvage));
        assert_eq!(told(&findings), [(Seen::MissingSegment, segment(2), lsns(5, 8))]);
        let Recovered { view, report, .. } = recovered.unwrap();
        assert_eq!((view.oldest, report.damage), (SegmentId::new(1), 1));
    }

    /// The UUID of another log.
    const FOREIGN: Uuid = Uuid::from_u128(9);

    /// A cut between these two segments.
    fn between(above: u64, below: u64) -> Cut {
        Cut { above: SegmentId::new(above), below: SegmentId::new(below) }
    }

    #[test]
    fn what_stands_where_a_segment_of_the_chain_should_and_is_not_that_one_is_passed_over() {
        let changed = |change: fn(&mut SegmentHeader)| three().changed(2, change);
        let early = changed(|header| {
            header.first = Lsn::new(4);
            (header.predecessor.last, header.predecessor.span) = (Lsn::new(3), 3);
        });
        let mut unreadable = three();
        unreadable.lost = Some(segment(2));
        let missing = (Seen::MissingSegment, Verdict::Rot);
        let (all, dead) = (lsns(5, 8), Some(between(1, 3)));
        for (what, log, told, lost, dead) in [
            ("nothing", three().without(2), missing, all, None),
            ("another nonce", changed(|header| header.nonce = 9), missing, all, dead),
            ("it begins late", changed(|header| header.first = Lsn::new(10)), missing, all, dead),
            ("it begins early", early, missing, all, dead),
            ("another log", changed(|header| header.log = FOREIGN), (missing.0, Verdict::Foreign), all, dead),
            ("no header", three().headless(2), (Seen::BadSegmentHeader, Verdict::Rot), None, None),
            ("nobody knows", unreadable, (Seen::BadSegmentHeader, Verdict::Unreadable), all, dead),
        ] {
            let (findings, recovered) = recover(&log, by(Policy::Salvage));
            let [Finding { seen, verdict, lsns, object, witness, .. }] = findings[..] else {
                panic!("{what}: {findings:?}")
            };
            assert_eq!(((seen, verdict), lsns, object), (told, lost, segment(2)), "{what}");
            assert_eq!(witness, Some(Witness::Successor(SegmentId::new(3))), "{what}");
            let view = recovered.unwrap().view;
            assert_eq!((view.oldest, view.dead.0.first().copied()), (SegmentId::new(1), dead), "{what}");
            let mended = view.mended(SegmentId::new(if lost.is_some() { 3 } else { 2 })).unwrap();
            assert_eq!((mended.predecessor.id, mended.predecessor.last), (SegmentId::new(1), Lsn::new(4)), "{what}");
        }
    }

    #[test]
    fn behind_two_segments_that_are_gone_each_is_told_as_what_it_is() {
        let log = four().headless(2).without(3);
        let (findings, _) = recover(&log, by(Policy::Salvage));
        let third = (Seen::MissingSegment, segment(3), lsns(9, 12));
        assert_eq!(told(&findings), [third, (Seen::MissingSegment, segment(2), lsns(5, 8))]);
    }

    #[test]
    fn nothing_is_looked_for_behind_a_missing_segment_that_holds_the_low_water_mark() {
        for (low_water, oldest, missing) in
            [(1, 1, (5, 8)), (4, 1, (5, 8)), (5, 3, (5, 8)), (6, 3, (6, 8)), (8, 3, (8, 8))]
        {
            let log = three().without(2).changed(2, |header| header.low_water = Lsn::new(low_water));
            let (findings, recovered) = recover(&log, by(Policy::Salvage));
            assert_eq!(
                told(&findings),
                [(Seen::MissingSegment, segment(2), lsns(missing.0, missing.1))],
                "{low_water}"
            );
            assert_eq!(recovered.unwrap().view.oldest, SegmentId::new(oldest), "{low_water}");
        }
    }

    #[test]
    fn the_metadata_name_a_segment_that_is_missing_if_they_are_of_this_epoch_or_a_later_one_and_it_is_newer() {
        let newest = SegmentHeader { id: SegmentId::new(5), epoch: 7, nonce: 3, ..SegmentHeader::NONE };
        let mut recovery = Recovery::new(RecoveryOptions::default());
        for (epoch, segment, nonce, is_missing) in [
            (7, 5, 3, false),
            (7, 5, 4, false),
            (7, 6, 3, true),
            (7, 4, 3, false),
            (8, 5, 3, false),
            (8, 5, 4, true),
            (8, 4, 3, true),
            (6, 6, 3, false),
        ] {
            recovery.meta = Some(Meta { epoch, segment, nonce, ..Meta::default() });
            let named = recovery.names_missing(&newest).is_some();
            assert_eq!(named, is_missing, "epoch {epoch}, segment {segment}, nonce {nonce}");
        }
        recovery.meta = Some(Meta { log: Uuid::from_u128(1), epoch: 8, segment: 6, ..Meta::default() });
        assert_eq!(recovery.names_missing(&newest), None);
    }

    #[test]
    fn one_copy_of_the_newest_header_is_rot_where_something_tells_that_the_segment_was_begun() {
        for (epoch, segment, verdict, told_epoch) in
            [(6, 3, Verdict::Rot, 6), (6, 2, Verdict::Unsynced, 6), (8, 3, Verdict::Rot, 8)]
        {
            let mut log = three();
            log.damage_copy(3);
            let meta = Meta { epoch, segment, before: Lsn::new(8), ..Meta::default() };
            log.others.push((Object::Meta, meta.encode().to_vec()));
            let (findings, recovered) = recover(&log, by(Policy::Default));
            let [finding] = findings[..] else { panic!("{findings:?}") };
            assert_eq!((finding.seen, finding.verdict, finding.harmless), (Seen::BadHeaderCopy, verdict, true));
            let report = recovered.unwrap().report;
            assert_eq!((report.epoch, report.harmless, report.damage), (told_epoch, 1, 0));
        }
    }

    #[test]
    fn the_header_of_a_segment_whose_entries_a_missing_one_cut_off_counts_unless_it_was_cut_off_as_a_whole() {
        for (before, newest, lost, accepted) in [(7, 2, 8, 0), (8, 3, 9, 4), (9, 3, 10, 4), (12, 3, 13, 4)] {
            let mut log = three().changed(3, |header| header.accepted_loss = Lsn::new(4)).without(1);
            let meta =
                Meta { epoch: 6, durable: Lsn::new(14), segment: 4, before: Lsn::new(before), ..Meta::default() };
            log.others.push((Object::Meta, meta.encode().to_vec()));
            let (findings, recovered) = recover(&log, by(Policy::Default));
            let fourth = (Seen::MissingSegment, segment(4), lsns(lost, 14));
            assert_eq!(told(&findings), [fourth, (Seen::MissingSegment, segment(1), lsns(1, 4))], "{before}");
            let Recovered { view, report, .. } = recovered.unwrap();
            assert_eq!((view.newest, report.last), (SegmentId::new(newest), Lsn::new(before)), "{before}");
            // The loss that it says was accepted is harmless.
            let harmless = u32::from(accepted == 4);
            assert_eq!((report.accepted_loss, report.harmless), (Lsn::new(accepted), harmless), "{before}");
            assert_eq!(report.damage, 2 - harmless, "{before}");
        }
    }

    #[test]
    fn damage_to_what_the_metadata_say_was_truncated_is_none_in_the_newest_segment() {
        let ours = Uuid::nil();
        let of_an_entry = vec![(Seen::BadEntry, segment(3), lsns(10, 10))];
        for (what, log, epoch, low_water, expected, last) in [
            ("below the mark", ours, 6, 11, vec![], 12),
            ("of a later epoch", ours, 7, 11, vec![], 12),
            ("at the mark", ours, 6, 10, of_an_entry.clone(), 9),
            ("of an earlier epoch", ours, 5, 11, of_an_entry.clone(), 9),
            ("of another log", FOREIGN, 6, 11, of_an_entry.clone(), 9),
            ("of another log and an earlier epoch", FOREIGN, 5, 11, of_an_entry, 9),
        ] {
            let meta = Meta { log, epoch, segment: 3, low_water: Lsn::new(low_water), ..Meta::default() };
            let mut log = three().flipped_in(3, 1);
            log.others.push((Object::Meta, meta.encode().to_vec()));
            let options = RecoveryOptions { expect_durable: Some(Lsn::new(12)), ..by(Policy::Default) };
            let (findings, recovered) = recover(&log, options);
            assert_eq!(told(&findings), expected, "{what}");
            let report = recovered.unwrap().report;
            let damage = u32::from(last < 12);
            assert_eq!((report.last, report.damage), (Lsn::new(last), damage), "{what}");
        }
    }

    #[test]
    fn of_a_segment_that_is_gone_what_was_given_up_before_it_is_told_apart_but_not_where_that_is_all_of_it() {
        let missing = |first, last, harmless| (Seen::MissingSegment, Verdict::Rot, lsns(first, last), harmless);
        let gone = |first, last, harmless| (Seen::BadSegmentHeader, Verdict::Unreadable, lsns(first, last), harmless);
        for (accepted, expected) in [
            (0, vec![gone(5, 8, false)]),
            (4, vec![gone(5, 8, false)]),
            (5, vec![gone(6, 8, false), missing(5, 5, true)]),
            (7, vec![gone(8, 8, false), missing(5, 7, true)]),
            (8, vec![gone(5, 8, true)]),
        ] {
            let mut log = three().changed(3, |header| header.accepted_loss = Lsn::new(accepted));
            log.lost = Some(segment(2));
            let (findings, recovered) = recover(&log, by(Policy::Default));
            let told = findings.iter().map(|finding| (finding.seen, finding.verdict, finding.lsns, finding.harmless));
            assert_eq!(told.collect::<Vec<_>>(), expected, "{accepted}");
            assert!(findings.iter().all(|finding| finding.object == segment(2)), "{accepted}: {findings:?}");
            let report = recovered.unwrap().report;
            assert_eq!((report.damage, report.accepted_loss), (u32::from(accepted < 8), Lsn::new(accepted)));
        }
    }

    #[test]
    fn all_that_is_older_is_needed_where_a_segment_without_a_header_holds_the_low_water_mark_and_only_there() {
        let third = (Seen::BadSegmentHeader, segment(3), None);
        for (low_water, oldest, expected) in [
            (1, 1, vec![third]),
            (4, 1, vec![third]),
            // No transaction was open where the second segment begins.
            (5, 2, vec![third]),
            (8, 2, vec![third]),
            // Which ones were where the third begins, its header alone said.
            (9, 1, vec![third]),
            (12, 1, vec![third]),
            (13, 4, vec![]),
        ] {
            let log = four().headless(3).changed(4, |header| header.low_water = Lsn::new(low_water));
            let (findings, recovered) = recover(&log, by(Policy::Default));
            assert_eq!(told(&findings), expected, "{low_water}");
            assert_eq!(recovered.unwrap().view.oldest, SegmentId::new(oldest), "{low_water}");
        }
    }

    /// Four segments of which the third is missing.
    fn without_the_third() -> Log {
        four().without(3)
    }

    #[test]
    fn the_chain_goes_on_behind_a_missing_segment_with_one_that_may_have_stood_there() {
        let changed = |change: fn(&mut SegmentHeader)| without_the_third().changed(2, change);
        let missing = |id, first, last| (Seen::MissingSegment, segment(id), lsns(first, last));
        let (third, second) = (missing(3, 9, 12), missing(2, 5, 8));
        for (what, log, expected, end) in [
            ("it is there", without_the_third(), vec![third], (2, 8)),
            ("its end is bad", without_the_third().flipped_in(2, 3), vec![third], (2, 8)),
            ("it is empty", changed(|header| header.first = Lsn::new(9)), vec![third, missing(1, 5, 8)], (2, 8)),
            ("it begins behind", changed(|header| header.first = Lsn::new(10)), vec![third, second], (1, 4)),
            ("of a later epoch", changed(|header| header.epoch = 8), vec![third, second], (1, 4)),
            ("of the same epoch", changed(|header| header.epoch = 7), vec![third], (2, 8)),
            ("of another log", changed(|header| header.log = FOREIGN), vec![third, second], (1, 4)),
            ("it is missing", without_the_third().without(2), vec![third, second], (1, 4)),
            ("another ends", without_the_third().without(2).flipped_in(1, 3), vec![third, missing(2, 4, 8)], (1, 3)),
        ] {
            let (findings, recovered) = recover(&log, by(Policy::Salvage));
            assert_eq!(told(&findings), expected, "{what}");
            let view = recovered.unwrap().view;
            let before = view.mended(SegmentId::new(4)).unwrap().predecessor;
            assert_eq!((before.id.value(), before.last.value()), end, "{what}");
            assert_eq!(view.oldest, SegmentId::new(1), "{what}");
        }
    }

    #[test]
    fn what_begins_where_the_missing_segment_did_stood_before_it_only_if_its_number_says_so() {
        let log = without_the_third().without(2).changed(1, |header| header.first = Lsn::new(9));
        let (findings, recovered) = recover(&log, by(Policy::Salvage));
        let third = (Seen::MissingSegment, segment(3), lsns(9, 12));
        assert_eq!(told(&findings), [third, (Seen::MissingSegment, segment(2), lsns(1, 8))]);
        assert_eq!(recovered.unwrap().view.oldest, SegmentId::new(4));
    }

    #[test]
    fn the_missing_segment_or_a_newer_one_under_the_number_of_another_is_told_of() {
        for (found, is_misplaced) in [(3, true), (4, false), (5, true)] {
            let log = without_the_third().changed(2, |header| header.id = SegmentId::new(found));
            let (_, recovered) = recover(&log, by(Policy::Salvage));
            let fault = recovered.map(|recovered| recovered.view.oldest);
            let (segment, found, log) = (SegmentId::new(2), SegmentId::new(found), log.view.log);
            let misplaced = Fault::Misplaced { segment, found, log };
            assert_eq!(fault, if is_misplaced { Err(misplaced) } else { Ok(SegmentId::new(1)) }, "{found:?}");
        }
    }

    /// A recovery that has come to the end of a log whose newest segment is the fifth.
    fn at_the_end(policy: Policy) -> Recovery {
        let mut recovery = Recovery::new(by(policy));
        recovery.found.tail.header.id = SegmentId::new(5);
        (recovery.found.tail.last, recovery.found.tail.marked) = (Lsn::new(30), Some(Lsn::new(30)));
        recovery
    }

    /// The segment of the first number has the header of the second, of this nonce.
    fn stray(stands: u64, found: u64, nonce: u64) -> Stray {
        let found = StrayHeader { log: Uuid::nil(), id: SegmentId::new(found), nonce, offset: 0 };
        Stray { segment: SegmentId::new(stands), found, counts: false, wanted: false }
    }

    #[test]
    fn a_header_of_another_number_is_told_of_where_the_segment_of_that_number_is_missed() {
        let foreign = Stray { found: StrayHeader { log: FOREIGN, ..stray(6, 3, 0).found }, ..stray(6, 3, 0) };
        let named = |segment, nonce| Some(Meta { segment, nonce, ..Meta::default() });
        for (what, strays, meta, is_misplaced) in [
            ("the newest", vec![stray(6, 5, 0)], None, true),
            ("of the number of the newest", vec![stray(6, 5, 1)], None, false),
            ("that number in the metadata too", vec![stray(6, 5, 1)], named(5, 1), false),
            ("an older one", vec![stray(6, 4, 0)], None, false),
            ("an older one that is wanted", vec![Stray { wanted: true, ..stray(6, 4, 0) }], None, true),
            ("a newer one", vec![stray(6, 7, 0)], None, false),
            ("two newer ones, one for the other", vec![stray(6, 7, 0), stray(7, 8, 0)], None, true),
            ("the one that the metadata name", vec![stray(6, 7, 1)], named(7, 1), true),
            ("one of its number", vec![stray(6, 7, 0)], named(7, 1), false),
            ("another one", vec![stray(6, 7, 1)], named(8, 1), false),
            ("of another log", vec![foreign], None, true),
            ("for certain", vec![Stray { counts: true, ..stray(6, 4, 0) }], None, true),
        ] {
            let mut recovery = at_the_end(Policy::Default);
            recovery.meta = meta;
            recovery.strays.extend(strays);
            assert_eq!(recovery.misplaced().is_some(), is_misplaced, "{what}");
        }
    }

    #[test]
    fn a_segment_that_the_chain_looks_for_is_not_missed_once_all_of_it_was_truncated_and_a_checkpoint_holds_it() {
        for (low_water, held_below, last, is_misplaced) in
            [(21, 21, 20, false), (21, 21, 21, true), (21, 20, 20, true), (21, 30, 20, false), (20, 21, 20, true)]
        {
            let mut recovery = at_the_end(Policy::Default);
            recovery.found.tail.low_water = Lsn::new(low_water);
            let head = CheckpointHeader { floor: Lsn::new(held_below), ..head() };
            recovery.remember(&head);
            let front = &mut recovery.chain.oldest.predecessor;
            (front.id, front.last) = (SegmentId::new(4), Lsn::new(last));
            recovery.strays.push(Stray { wanted: true, ..stray(6, 4, 0) }).unwrap();
            assert_eq!(recovery.misplaced().is_some(), is_misplaced, "{low_water}, {held_below}, {last}");
        }
    }

    /// Brings it to its end.
    fn finished(mut recovery: Recovery) -> Recovered {
        Turn::run(&mut [], Answer::Nothing, |turn| recovery.finish(turn)).unwrap();
        recovery.found
    }

    #[test]
    fn a_log_was_closed_if_a_seal_stands_behind_its_last_entry_and_nothing_is_damaged() {
        for (sealed, damaged, marked, is_closed) in
            [(true, false, 30, true), (false, false, 30, false), (true, true, 30, false), (true, false, 29, false)]
        {
            let mut recovery = at_the_end(Policy::Default);
            let tail = &mut recovery.found.tail;
            (tail.sealed, tail.damaged, tail.marked) = (sealed, damaged, Some(Lsn::new(marked)));
            assert_eq!(finished(recovery).report.closed, is_closed, "{sealed}, {damaged}, {marked}");
        }
    }

    #[test]
    fn the_entries_of_the_newest_segment_are_verified_and_an_empty_one_has_none() {
        for (first, verified) in [(30, lsns(30, 30)), (31, None), (7, lsns(7, 30))] {
            let mut recovery = at_the_end(Policy::Default);
            recovery.found.tail.header.first = Lsn::new(first);
            assert_eq!(finished(recovery).report.verified, verified, "{first}");
        }
    }

    #[test]
    fn an_epoch_is_known_from_whatever_tells_of_this_log() {
        for (log, epoch) in [(Uuid::nil(), 9), (FOREIGN, 4)] {
            let mut recovery = at_the_end(Policy::Default);
            recovery.found.tail.epoch = 4;
            recovery.meta = Some(Meta { log, epoch: 9, ..Meta::default() });
            assert_eq!(finished(recovery).epoch, epoch, "{log}");
        }
        let mut recovery = at_the_end(Policy::Default);
        recovery.remember(&CheckpointHeader { epoch: 7, ..head() });
        assert_eq!(finished(recovery).epoch, 7);
    }

    #[test]
    fn what_is_missing_at_the_front_and_held_by_a_checkpoint_was_truncated() {
        for (floor, low_water, harmless) in [(3, 1, 0), (4, 1, 0), (5, 5, 1), (6, 5, 1)] {
            let mut log = three().without(1);
            let id = CheckpointId::new(1);
            let head = CheckpointHeader { id, epoch: 4, lsn: Lsn::new(floor - 1), floor: Lsn::new(floor), ..head() };
            log.others.push((Object::Checkpoint(id), head.encode().to_vec()));
            let (findings, recovered) = recover(&log, by(Policy::Default));
            assert_eq!(told(&findings), [(Seen::MissingSegment, segment(1), lsns(1, 4))], "{floor}");
            let Recovered { view, report, .. } = recovered.unwrap();
            assert_eq!((view.low_water.value(), report.harmless, report.damage), (low_water, harmless, 1 - harmless));
            assert_eq!((view.low_water_covered, report.low_water), (harmless == 1, Lsn::FIRST), "{floor}");
        }
    }

    #[test]
    fn a_state_is_lost_where_truncation_gave_something_up_and_no_checkpoint_holds_it() {
        for (low_water, covered, floor, is_lost) in
            [(1, true, 0, false), (2, true, 0, true), (2, false, 0, false), (2, true, 1, true), (2, true, 2, false)]
        {
            let mut recovery = at_the_end(Policy::Default);
            recovery.found.tail.truncated_to(Lsn::new(low_water), covered);
            recovery.remember(&CheckpointHeader { floor: Lsn::new(floor), ..head() });
            recovery.tell_of_lost_state(Object::Meta);
            assert_eq!(recovery.findings.len(), usize::from(is_lost), "{low_water}, {covered}, {floor}");
        }
    }

    #[test]
    fn a_log_lacks_its_end_where_nothing_makes_up_for_entries_that_something_tells_of_behind_it() {
        for (durable, low_water, floor, accepted, lacks) in [
            (30, 1, 1, 0, false),
            (29, 1, 1, 0, false),
            (31, 1, 1, 0, true),
            (40, 40, 1, 0, true),
            (40, 41, 1, 0, false),
            (40, 1, 40, 0, true),
            (40, 1, 41, 0, false),
            (40, 1, 1, 39, true),
            (40, 1, 1, 40, false),
        ] {
            let mut recovered = at_the_end(Policy::Default).found;
            recovered.report.durable = Lsn::new(durable);
            recovered.tail.low_water = Lsn::new(low_water);
            recovered.tail.header.accepted_loss = Lsn::new(accepted);
            recovered.checkpoints.push(CheckpointHeader { floor: Lsn::new(floor), ..head() }.head()).unwrap();
            assert_eq!(recovered.lacks_its_end(), lacks, "{durable}, {low_water}, {floor}, {accepted}");
        }
    }

    #[test]
    fn the_strict_policy_alone_refuses_a_log_for_its_first_damage_or_else_for_its_torn_tail() {
        let damage = Finding { lsns: lsns(3, 4), ..missing(SegmentId::new(2)) };
        let segment = SegmentId::new(5);
        let torn = TornTail { verdict: Verdict::Unproven, segment, offset: 300, len: 40, frames: 1 };
        let refused = Finding {
            verdict: Verdict::Unproven,
            len: 40,
            ..Finding::rot(Seen::BadHeader, Object::Segment(segment), 300)
        };
        for (first_damage, torn_tail, expected) in [
            (None, None, None),
            (Some(damage), None, Some(damage)),
            (None, Some(torn), Some(refused)),
            (Some(damage), Some(torn), Some(damage)),
        ] {
            for policy in [Policy::Strict, Policy::Default, Policy::PointInTime, Policy::Salvage, Policy::Inspect] {
                let report = Report { first_damage, torn_tail, ..Report::nothing(policy) };
                let expected = expected.filter(|_| policy == Policy::Strict);
                assert_eq!(refusal(&report), expected.map(Fault::Damaged), "{policy:?}");
            }
        }
    }

    #[test]
    fn a_segment_alone_that_lost_its_header_was_live_if_something_stands_where_only_frames_do() {
        let alone = |byte: Option<(usize, u8)>| {
            let mut log = log(&[&plain(1..=4)]).headless(1);
            let (_, bytes) = &mut log.segments[0];
            bytes.clear();
            bytes.resize(5000, 0);
            byte.into_iter().for_each(|(at, byte)| bytes[at] = byte);
            log
        };
        let headless = Fault::Damaged(headless(SegmentId::new(1)));
        for (at, byte, is_live) in [
            (0, 1, false),
            (127, 1, false),
            (128, 1, false),
            (255, 1, false),
            (256, 1, true),
            (256, 0xFF, false),
            (511, 1, true),
            (512, 1, false),
            (639, 1, false),
            (640, 0xFE, true),
            (4095, 1, true),
            (4096, 1, false),
            (4223, 1, false),
            (4224, 1, true),
            // A frame begins here, at the latest.
            (4287, 1, true),
            (4288, 1, false),
        ] {
            let (_, ended) = recover(&alone(Some((at, byte))), by(Policy::Default));
            let expected = if is_live { headless.clone() } else { Fault::NoLog };
            assert_eq!(ended.unwrap_err(), expected, "{byte} at {at}");
        }
        let mut unreadable = alone(None);
        unreadable.unreadable = 300..301;
        let (_, ended) = recover(&unreadable, by(Policy::Default));
        assert_eq!(ended.unwrap_err(), headless);
    }

    #[test]
    fn where_no_segment_has_a_header_what_tells_of_a_log_says_that_it_is_lost() {
        let head = CheckpointHeader { id: CheckpointId::new(1), ..head() };
        let checkpoint = || (Object::Checkpoint(head.id), head.encode().to_vec());
        let meta = || (Object::Meta, Meta { segment: 7, ..Meta::default() }.encode().to_vec());
        let blank = || {
            let mut log = log(&[&plain(1..=4)]);
            log.segments[0].1 = vec![0; 300];
            log
        };
        let nothing = || blank().without(1);
        let first = SegmentId::new(1);
        let lost = Fault::Lost { expected: Lsn::new(3) };
        for (what, mut log, others, expected, fault) in [
            ("nothing", nothing(), vec![], None, Fault::NoLog),
            ("nothing, which the caller knows", nothing(), vec![], Some(0), Fault::NoLog),
            ("nothing, and the caller knows better", nothing(), vec![], Some(3), lost.clone()),
            ("a checkpoint", nothing(), vec![checkpoint()], None, Fault::Damaged(missing(first))),
            ("metadata", nothing(), vec![meta()], None, Fault::Damaged(missing(SegmentId::new(7)))),
            ("blank room", blank(), vec![], None, Fault::NoLog),
            ("blank room, and the caller knows better", blank(), vec![], Some(3), lost),
            ("blank room, and a checkpoint", blank(), vec![checkpoint()], None, Fault::Damaged(headless(first))),
            ("blank room, and metadata", blank(), vec![meta()], None, Fault::Damaged(headless(first))),
        ] {
            log.others = others;
            let options = RecoveryOptions { expect_durable: expected.map(Lsn::new), ..RecoveryOptions::default() };
            let (_, ended) = recover(&log, options);
            assert_eq!(ended.unwrap_err(), fault, "{what}");
        }
    }

    #[test]
    fn what_a_caller_knows_of_is_given_up_by_consent_only_where_the_medium_comes_near_it() {
        for (policy, is_asked) in [
            (Policy::Strict, false),
            (Policy::Default, false),
            (Policy::Inspect, false),
            (Policy::PointInTime, true),
            (Policy::Salvage, true),
        ] {
            let recovery = at_the_end(policy);
            for (beyond, is_far) in [(0, false), (1 << 31, false), ((1 << 31) + 1, true)] {
                let is_told = recovery.is_far_from_all(Lsn::new(30 + beyond));
                assert_eq!(is_told, is_far && is_asked, "{policy:?}, {beyond} beyond the last entry");
            }
        }
        let mut recovery = at_the_end(Policy::Salvage);
        recovery.meta = Some(Meta { durable: Lsn::new(40), ..Meta::default() });
        assert!(!recovery.is_far_from_all(Lsn::new(40 + (1 << 31))));
    }

    #[test]
    fn the_strongest_witness_is_the_one_that_knows_of_the_last_lsn_in_this_epoch_of_this_log() {
        let newest = SegmentHeader { epoch: 7, ..SegmentHeader::NONE };
        let checkpoint = |log, epoch, lsn| CheckpointHeader { log, epoch, lsn: Lsn::new(lsn), ..head() };
        let meta = |log, epoch, durable| Meta { log, epoch, durable: Lsn::new(durable), ..Meta::default() };
        let ours = Uuid::nil();
        for (head, said, caller, strongest) in [
            (checkpoint(ours, 7, 5), meta(ours, 7, 4), 3, 5),
            (checkpoint(ours, 7, 4), meta(ours, 7, 5), 3, 5),
            (checkpoint(ours, 7, 4), meta(ours, 7, 3), 5, 5),
            (checkpoint(ours, 6, 5), meta(ours, 7, 4), 3, 4),
            (checkpoint(FOREIGN, 7, 5), meta(ours, 7, 4), 3, 4),
            (checkpoint(ours, 8, 4), meta(ours, 6, 5), 3, 4),
            (checkpoint(ours, 8, 4), meta(FOREIGN, 7, 5), 3, 4),
            (checkpoint(FOREIGN, 8, 5), meta(ours, 8, 4), 3, 4),
            (checkpoint(ours, 6, 5), meta(ours, 6, 4), 3, 3),
        ] {
            let mut recovery = at_the_end(Policy::Default);
            recovery.remember(&head);
            recovery.meta = Some(said);
            let claim = recovery.claim(&newest, Some(Lsn::new(caller)));
            assert_eq!(claim.unwrap().durable, Lsn::new(strongest), "{head:?}, {said:?}, {caller}");
        }
        assert!(at_the_end(Policy::Default).claim(&newest, None).is_none());
    }
}
