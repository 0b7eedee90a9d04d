//! The writer: entries are staged in a buffer, groups of them committed with one write and one sync.
//!
//! A writer decides; it touches no device. Whoever holds it stages entries ([`Writer::stage`]), takes what is staged
//! as a [`Group`] ([`Writer::take`]), has a [`Commit`] driven, and says how that went ([`Writer::landed`],
//! [`Writer::failed`]). While a group is under way, the next one can be staged in another buffer.
//!
//! ```text
//! one write:  | mark: what was durable before | entry | entry | ... | blank up to the granule |
//! ```

use heapless::Vec;
use uuid::Uuid;

use crate::{
    CheckpointId, Lsn,
    begin::{Begun, Copying, Plan},
    chain::{Cut, Dead, View},
    checksum::{Update, portable},
    decision::Policy,
    device::{ErrorKind, Object},
    drive::{Action, Answer, Machine, Scratch, Step, Stop},
    frame::{
        FRAME_HEADER_LEN, FRAME_OVERHEAD, FRAME_TRAILER_LEN, FrameType, Mark, SLOT_MAX, Salts, TRANSACTION_ID_LEN,
        frame_mark,
    },
    meta::Meta,
    operation::{Code, OperationRef},
    recovery::Recovered,
    segment::{Geometry, Predecessor, SegmentHeader, SegmentId, TRANSACTIONS_MAX, WRITE_LIMIT_MIN, align_up},
};

/// What a writer is told about the log it writes.
#[derive(Clone, Copy, Debug)]
pub struct WriterOptions {
    /// What the medium is like.
    pub geometry: Geometry,
    /// Never more bytes than this are written beyond the last sync, and no batch is longer; see
    /// [`Geometry::write_limit_max`].
    pub write_limit: u32,
    /// The most transactions open at once, 1 to 16.
    pub max_transactions: u8,
    /// Whether each append is acknowledged as durable: recovery calls a torn tail of such a log unproven.
    pub immediate: bool,
    /// The implementation of CRC-32C.
    pub checksum: Update,
}

impl WriterOptions {
    /// The usual options for this medium: a write limit of a quarter of a segment.
    #[must_use]
    pub fn new(geometry: Geometry) -> Self {
        let quarter = (geometry.segment_size / 4) & !(geometry.granule - 1);
        Self {
            geometry,
            write_limit: quarter.max(WRITE_LIMIT_MIN).min(geometry.write_limit_max()),
            max_transactions: 8,
            immediate: false,
            checksum: portable,
        }
    }

    /// Whether the values fit together.
    ///
    /// # Errors
    /// [`InvalidOptions`] names the first value that does not.
    pub fn validate(&self) -> Result<(), InvalidOptions> {
        let geometry = &self.geometry;
        if !geometry.granule.is_power_of_two() || geometry.granule > 4096 {
            return Err(InvalidOptions::Granule);
        }
        if ![128, 512, 4096].contains(&geometry.copy_offset) || geometry.copy_offset < geometry.granule {
            return Err(InvalidOptions::CopyOffset);
        }
        if geometry.segment_size > SegmentHeader::SIZE_MAX
            || geometry.write_limit_max() < WRITE_LIMIT_MIN
            || !geometry.segment_size.is_multiple_of(geometry.granule)
        {
            let least = geometry.overhead() + WRITE_LIMIT_MIN.max(geometry.granule);
            return Err(InvalidOptions::SegmentSize { least, most: SegmentHeader::SIZE_MAX });
        }
        if !(WRITE_LIMIT_MIN..=geometry.write_limit_max()).contains(&self.write_limit) {
            return Err(InvalidOptions::WriteLimit { least: WRITE_LIMIT_MIN, most: geometry.write_limit_max() });
        }
        if !(1..=TRANSACTIONS_MAX).contains(&usize::from(self.max_transactions)) {
            return Err(InvalidOptions::MaxTransactions);
        }
        Ok(())
    }
}

/// A value of the options that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidOptions {
    /// The granule is no power of two from 1 to 4096.
    Granule,
    /// The copy offset is none of 128, 512 and 4096, or less than the granule.
    CopyOffset,
    /// A segment has no room for a header, a batch and the marks, is too large, or is no multiple of the granule.
    SegmentSize {
        /// The least that would do, in bytes.
        least: u32,
        /// The most that would do, in bytes.
        most: u32,
    },
    /// The write limit does not fit the segment.
    WriteLimit {
        /// The least that would do, in bytes.
        least: u32,
        /// The most that would do, in bytes.
        most: u32,
    },
    /// The most open transactions are not 1 to 16.
    MaxTransactions,
}

impl core::fmt::Display for InvalidOptions {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Granule => f.write_str("the granule must be a power of two from 1 to 4096"),
            Self::CopyOffset => f.write_str("the copy offset must be 128, 512 or 4096 and not less than the granule"),
            Self::SegmentSize { least, most } => {
                write!(f, "the segment size must be {least} to {most} bytes and a multiple of the granule")
            }
            Self::WriteLimit { least, most } => write!(f, "the write limit must be {least} to {most} bytes"),
            Self::MaxTransactions => f.write_str("the most open transactions must be 1 to 16"),
        }
    }
}

impl core::error::Error for InvalidOptions {}

/// What is appended: an operation, or bytes that only the application knows.
pub trait Payload {
    /// The code of the entry's type.
    fn code(&self) -> u8;
    /// Bytes of the payload.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Writes the payload into `to`, which is [`len`](Self::len) bytes long.
    fn write(&self, to: &mut [u8]);
}

impl Payload for OperationRef<'_> {
    fn code(&self) -> u8 {
        Self::code(self).value()
    }

    fn len(&self) -> usize {
        self.encoded_len()
    }

    fn write(&self, to: &mut [u8]) {
        // As long as `len` said: there is room.
        let _ = self.encode(to);
    }
}

#[cfg(feature = "alloc")]
impl Payload for crate::operation::Operation {
    fn code(&self) -> u8 {
        self.borrowed().code().value()
    }

    fn len(&self) -> usize {
        self.borrowed().encoded_len()
    }

    fn write(&self, to: &mut [u8]) {
        let _ = self.borrowed().encode(to);
    }
}

/// Opaque bytes.
impl Payload for [u8] {
    fn code(&self) -> u8 {
        Code::Opaque.value()
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn write(&self, to: &mut [u8]) {
        to.copy_from_slice(self);
    }
}

impl<P: Payload + ?Sized> Payload for &P {
    fn code(&self) -> u8 {
        (**self).code()
    }

    fn len(&self) -> usize {
        (**self).len()
    }

    fn write(&self, to: &mut [u8]) {
        (**self).write(to);
    }
}

/// Why nothing was staged. The writer is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StageError {
    /// The entry or batch is larger than the write limit allows.
    TooLarge {
        /// Bytes of the frames that it would take.
        len: u64,
        /// The most that they may take.
        max: u32,
    },
    /// Commit what is staged, with a sync, and begin a segment ([`Writer::plan`]), then stage again.
    NeedsSegment,
    /// Commit what is staged, then stage again.
    NeedsCommit,
    /// The buffer is too small and did not grow.
    BufferTooSmall {
        /// Bytes that it would take.
        needed: usize,
    },
    /// The code is one that only the log itself writes, or none at all.
    Reserved {
        /// That code.
        code: u8,
    },
    /// The transaction is not open.
    NoTransaction,
    /// As many transactions are open as the log allows.
    TooManyTransactions {
        /// That many.
        max: u8,
    },
    /// An earlier write or sync failed, or was abandoned: reopen the log.
    Poisoned,
    /// No LSN is left.
    Exhausted,
}

/// A group of frames on its way to the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    segment: SegmentId,
    at: u32,
    /// Bytes in the buffer, from its beginning; 0 for a sync alone.
    len: u32,
    /// The last entry in it, or before it.
    last: Lsn,
    /// Right behind that entry.
    behind: u32,
    /// The durable LSN that its mark carries.
    claim: Option<Lsn>,
    sync: bool,
}

impl Group {
    /// The last LSN that the group holds.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.last
    }

    /// Bytes that will be written.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether it ends with a sync.
    #[must_use]
    pub fn syncs(&self) -> bool {
        self.sync
    }

    /// Whether it is a sync alone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The machine that commits one group: one write, and one sync if the group asks for it.
#[derive(Debug)]
pub struct Commit {
    group: Group,
    written: bool,
    synced: bool,
}

impl Commit {
    /// Commits `group`; the buffer is the one it was staged in.
    #[must_use]
    pub fn new(group: Group) -> Self {
        Self { group, written: group.len == 0, synced: !group.sync }
    }
}

impl Machine for Commit {
    type Output = ();

    fn step(&mut self, _: &mut [u8], _: Answer) -> Result<(), Stop> {
        if !core::mem::replace(&mut self.written, true) {
            let object = Object::Segment(self.group.segment);
            return Err(Step::Write { object, at: self.group.at.into(), from: 0..self.group.len as usize }.into());
        }
        if !core::mem::replace(&mut self.synced, true) {
            return Err(Step::Sync.into());
        }
        Ok(())
    }
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionEnd {
    /// Its entries count from here on.
    Commit,
    /// They never do.
    Rollback,
}

/// Frames staged and not yet taken.
#[derive(Clone, Copy, Debug, Default)]
struct Stage {
    /// Bytes, the lead included.
    len: u32,
    /// Bytes at the front for the marks that lead the write.
    lead: u32,
    /// Right behind the last entry, from the beginning of the group.
    behind: Option<u32>,
    /// The timestamp of the lead: that of the group's first frame.
    time: u64,
    /// The last entry before the group.
    before: Lsn,
    /// The durable LSN that a mark staged for itself carries.
    claim: Lsn,
    /// Whether the mark that leads it is an epoch mark.
    epoch: bool,
}

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
    slot: Vec<u8, SLOT_MAX>,
    low_water: Lsn,
    low_water_covered: bool,
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
    copy: Option<Copying>,
    /// Whether a new segment has something to say at once: that a loss was accepted, or what an unproven mark said.
    must_begin: bool,
    /// The transactions that are open or whose end is not written yet.
    transactions: Vec<Transaction, TRANSACTIONS_MAX>,
    /// The first LSN of the oldest transaction that may be open where copying begins.
    floor: Lsn,
    /// The next LSN once the segment that is planned has been begun, where it is not the one that it was.
    next_after: Option<Lsn>,
}

/// What is particular to a segment that is to be begun.
struct Beginning {
    epoch: u64,
    first: Lsn,
    predecessor: Predecessor,
    floor: Lsn,
    copy: Option<Copying>,
}

/// What marks say that holds once they are durable.
#[derive(Clone, Debug, Default)]
struct Said {
    low_water: Option<(Lsn, bool)>,
    slot: Option<Vec<u8, SLOT_MAX>>,
}

impl Said {
    /// Adds what was said later.
    fn add(&mut self, later: Self) {
        self.low_water = later.low_water.or(self.low_water);
        if later.slot.is_some() {
            self.slot = later.slot;
        }
    }
}

/// A transaction of this writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transaction {
    /// Its id: the LSN of its begin.
    id: u64,
    /// The LSN of its commit or rollback.
    end: Option<Lsn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// A segment has to be begun before anything is staged: it is full, or the log was not taken over yet.
    NeedsSegment,
    /// A plan was given out.
    Beginning,
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
        // The first segment is planned from the options: of what is before it, only the log and the room count.
        let header = SegmentHeader {
            log,
            granule: options.geometry.granule,
            copy_offset: options.geometry.copy_offset,
            segment_size: options.geometry.segment_size,
            ..SegmentHeader::NONE
        };
        let mut writer = Self::new(options, header, Lsn::ZERO);
        // What is there was never finished: a creation that was interrupted.
        writer.unfinished_above = Some(SegmentId::NONE);
        Ok(writer)
    }

    /// The writer that takes over a log from its recovery.
    ///
    /// Where [`needs_segment`](Self::needs_segment) is true at once, entries were found that only a cache may hold:
    /// begin a segment ([`plan`](Self::plan)) before anything that was recovered is called durable. Else the
    /// take-over waits for the first write.
    ///
    /// # Errors
    /// [`TakeOverError`]: the options, or the policy's refusal.
    pub fn take_over(options: WriterOptions, recovered: &Recovered, consent: Consent) -> Result<Self, TakeOverError> {
        options.validate().map_err(TakeOverError::Options)?;
        let Recovered { report, tail, view, .. } = recovered;
        let lost = report.durable.max(tail.last);
        let refused = match consent {
            Consent::None => !report.is_writable() || lost > tail.last && lost > tail.header.accepted_loss,
            Consent::AcceptLoss => report.policy == Policy::Inspect,
        };
        if refused {
            return Err(TakeOverError::Refused);
        }
        let mut writer = Self::new(options, tail.header, lost);
        writer.epoch = tail.epoch;
        writer.behind = tail.behind;
        writer.live = tail.last;
        writer.time = tail.last_time;
        writer.slot = tail.slot.clone();
        writer.low_water = tail.low_water;
        writer.low_water_covered = tail.low_water_covered;
        // What a mark says that may exist only in a cache is said again, by the header of a new segment.
        writer.must_begin = consent == Consent::AcceptLoss || tail.unproven_marks.is_some();
        writer.accepted_loss = match consent {
            Consent::None => tail.header.accepted_loss,
            Consent::AcceptLoss => tail.header.accepted_loss.max(lost),
        };
        writer.oldest = view.oldest;
        writer.highest = recovered.highest;
        writer.unfinished_above = (recovered.highest > tail.header.id).then_some(tail.header.id);
        writer.dead = view.dead.clone();
        writer.floor = tail.proven.floor;
        // Where a witness from elsewhere proves more than is there, it proves all that is there.
        if tail.marked < Some(tail.last) && lost == tail.last {
            writer.durable = tail.marked.unwrap_or(tail.header.first.previous());
            writer.copy = Some(Copying {
                from: tail.header,
                start: tail.proven,
                durable: writer.durable,
                end: tail.behind,
                passes_over: tail.marked.is_none(),
            });
        }
        Ok(writer)
    }

    fn new(options: WriterOptions, segment: SegmentHeader, last: Lsn) -> Self {
        Self {
            options,
            log: segment.log,
            epoch: segment.epoch,
            salts: Salts::new(options.checksum, segment.log, segment.id, segment.epoch, segment.nonce),
            at: segment.segment_size,
            behind: segment.frames_at(),
            live: last,
            next: last.next_or_max(),
            time: segment.created,
            durable: last,
            written: last,
            marked: None,
            unsynced: 0,
            stage: Stage::default(),
            flight: None,
            state: State::NeedsSegment,
            taken_over: false,
            epoch_due: false,
            slot: Vec::new(),
            low_water: segment.low_water,
            low_water_covered: segment.low_water_covered,
            low_water_wanted: None,
            staged_marks: Said::default(),
            flying_marks: Said::default(),
            written_marks: Said::default(),
            accepted_loss: segment.accepted_loss,
            oldest: segment.id,
            highest: segment.id,
            unfinished_above: None,
            dead: Dead::default(),
            copy: None,
            must_begin: false,
            transactions: Vec::new(),
            floor: Lsn::MAX,
            next_after: None,
            segment,
        }
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

    /// The first LSN that truncation keeps.
    #[must_use]
    pub fn low_water(&self) -> Lsn {
        self.low_water
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

    /// The most bytes that the frames of one entry or batch may take.
    #[must_use]
    pub fn batch_max(&self) -> u32 {
        self.options.write_limit - align_up(longest_lead(), self.options.geometry.granule)
    }

    /// Whether recovered entries have to be copied before they may be called durable.
    #[must_use]
    pub fn needs_segment(&self) -> bool {
        self.copy.is_some() || self.must_begin
    }

    /// Whether an earlier failure stops all writing until the log is reopened.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.state == State::Poisoned
    }

    /// Whether a mark written now would say something new: the durable LSN has moved since the last one.
    #[must_use]
    pub fn mark_due(&self) -> bool {
        self.state == State::Ready && self.marked < Some(self.durable)
    }

    /// Whether a close has something to seal: this writer has written, or begun a segment.
    #[must_use]
    pub fn seal_due(&self) -> bool {
        self.state == State::Ready
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
            low_water: self.low_water,
            position: self.at,
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
            last: self.written,
            end: self.behind,
            low_water: self.low_water,
            low_water_covered: self.low_water_covered,
            accepted_loss: self.accepted_loss,
        }
    }

    /// Stages entries: one, or a batch that a crash keeps whole or not at all. Each takes the next LSN.
    ///
    /// `now` is the time in microseconds since the Unix epoch; a clock that runs backwards is held. Returns the first
    /// and the last LSN. Nothing is durable, nor even written, before a [`Commit`] of the group is done.
    ///
    /// # Errors
    /// [`StageError`]; nothing was staged then.
    ///
    /// # Panics
    /// If there are no items.
    pub fn stage<P: Payload>(
        &mut self,
        buf: &mut (impl Scratch + ?Sized),
        now: u64,
        transaction: Option<u64>,
        items: &[P],
    ) -> Result<(Lsn, Lsn), StageError> {
        assert!(!items.is_empty(), "a batch of nothing is not staged");
        let id_len = if transaction.is_some() { TRANSACTION_ID_LEN } else { 0 };
        let len = items.iter().map(|item| u64::from(FRAME_OVERHEAD) + (id_len + item.len()) as u64).sum();
        let max = self.batch_max();
        let Some(len) = u32::try_from(len).ok().filter(|len| *len <= max) else {
            return Err(StageError::TooLarge { len, max });
        };
        let last = self.next.advanced(items.len() as u64 - 1).ok().filter(|last| *last < Lsn::MAX);
        let last = last.ok_or(StageError::Exhausted)?;
        if let Some(item) = items.iter().find(|item| !Code::from_u8(item.code()).is_some_and(Code::is_free)) {
            return Err(StageError::Reserved { code: item.code() });
        }
        if transaction.is_some_and(|id| !self.is_open(id)) {
            return Err(StageError::NoTransaction);
        }
        self.open_group(buf, now, len, Room::Entries)?;
        let first = self.next;
        self.frame_entries(buf, transaction, items);
        debug_assert_eq!(self.next.previous(), last);
        Ok((first, last))
    }

    /// Frames entries into room that was made for them.
    fn frame_entries<P: Payload>(&mut self, buf: &mut (impl Scratch + ?Sized), transaction: Option<u64>, items: &[P]) {
        let id_len = if transaction.is_some() { TRANSACTION_ID_LEN } else { 0 };
        for (index, item) in items.iter().enumerate() {
            let mut kind = FrameType::new(item.code());
            if transaction.is_some() {
                kind = kind.in_transaction();
            }
            if index + 1 < items.len() {
                kind = kind.batch_continues();
            }
            let at = self.stage.len as usize;
            let payload_at = at + FRAME_HEADER_LEN;
            let end = payload_at + id_len + item.len() + FRAME_TRAILER_LEN;
            let frame = &mut buf.bytes()[at..end];
            let payload = &mut frame[FRAME_HEADER_LEN..end - at - FRAME_TRAILER_LEN];
            if let Some(id) = transaction {
                payload[..TRANSACTION_ID_LEN].copy_from_slice(&id.to_le_bytes());
            }
            item.write(&mut payload[id_len..]);
            self.salts.complete(frame, self.at + self.stage.len, self.next, self.time, kind);
            self.stage.len = u32::try_from(end).unwrap_or(u32::MAX);
            self.next = self.next.next_or_max();
        }
        self.stage.behind = Some(self.stage.len);
    }

    /// Whether the transaction was begun by this writer and not ended.
    fn is_open(&self, id: u64) -> bool {
        self.transactions.iter().any(|transaction| transaction.id == id && transaction.end.is_none())
    }

    /// Stages the begin of a transaction and returns its id, which is the LSN of that entry.
    ///
    /// # Errors
    /// As [`stage`](Self::stage); [`StageError::TooManyTransactions`].
    pub fn stage_begin(&mut self, buf: &mut (impl Scratch + ?Sized), now: u64) -> Result<u64, StageError> {
        if self.transactions.len() >= usize::from(self.options.max_transactions) {
            return Err(StageError::TooManyTransactions { max: self.options.max_transactions });
        }
        let id = self.next.value();
        self.stage_control(buf, now, Some(id), OperationRef::TxnBegin { txn_id: id })?;
        // There is room: no more than the options' most are open, and these are no more than fit.
        let _ = self.transactions.push(Transaction { id, end: None });
        Ok(id)
    }

    /// Stages the end of a transaction: its commit, or its rollback. Returns the LSN of that entry.
    ///
    /// # Errors
    /// As [`stage`](Self::stage); [`StageError::NoTransaction`] if it is not open.
    pub fn stage_end(
        &mut self,
        buf: &mut (impl Scratch + ?Sized),
        now: u64,
        id: u64,
        end: TransactionEnd,
    ) -> Result<Lsn, StageError> {
        if !self.is_open(id) {
            return Err(StageError::NoTransaction);
        }
        let operation = match end {
            TransactionEnd::Commit => OperationRef::TxnCommit { txn_id: id },
            TransactionEnd::Rollback => OperationRef::TxnRollback { txn_id: id },
        };
        let lsn = self.stage_control(buf, now, Some(id), operation)?;
        for transaction in &mut self.transactions {
            if transaction.id == id {
                transaction.end = Some(lsn);
            }
        }
        Ok(lsn)
    }

    /// Stages the entry that says that a checkpoint is durable, and returns its LSN.
    ///
    /// # Errors
    /// As [`stage`](Self::stage).
    pub fn stage_checkpoint(
        &mut self,
        buf: &mut (impl Scratch + ?Sized),
        now: u64,
        lsn: Lsn,
        checkpoint_id: CheckpointId,
    ) -> Result<Lsn, StageError> {
        self.stage_control(buf, now, None, OperationRef::Checkpoint { lsn, checkpoint_id })
    }

    /// Stages an entry of the log's own.
    fn stage_control(
        &mut self,
        buf: &mut (impl Scratch + ?Sized),
        now: u64,
        transaction: Option<u64>,
        operation: OperationRef<'_>,
    ) -> Result<Lsn, StageError> {
        let id_len = if transaction.is_some() { TRANSACTION_ID_LEN } else { 0 };
        let len = FRAME_OVERHEAD + u32::try_from(id_len + operation.encoded_len()).unwrap_or(u32::MAX);
        let lsn = self.next;
        lsn.next().map_err(|_| StageError::Exhausted)?;
        self.open_group(buf, now, len, Room::Entries)?;
        self.frame_entries(buf, transaction, &[operation]);
        Ok(lsn)
    }

    /// The first LSN of the oldest open transaction, else the next LSN: where replay begins from a checkpoint taken now.
    #[must_use]
    pub fn replay_floor(&self) -> Lsn {
        self.transactions.iter().map(|transaction| Lsn::new(transaction.id)).min().unwrap_or(self.next)
    }

    /// Stages a low-water mark: everything below `lsn` is given up, and `covered` says whether a checkpoint holds it.
    /// A mark below the one that stands does nothing.
    ///
    /// Segments may be removed only when it is durable: `Retire` does. Where this writer has no room left for a mark
    /// ([`StageError::NeedsSegment`]), the header of the next segment says it.
    ///
    /// # Errors
    /// As [`stage`](Self::stage).
    pub fn stage_low_water(
        &mut self,
        buf: &mut (impl Scratch + ?Sized),
        now: u64,
        lsn: Lsn,
        covered: bool,
    ) -> Result<(), StageError> {
        let said = [&self.staged_marks, &self.flying_marks, &self.written_marks];
        let said = said.into_iter().filter_map(|said| said.low_water).map(|(lsn, _)| lsn).max();
        if lsn <= self.low_water.max(said.unwrap_or_default()) {
            return Ok(());
        }
        let staged = self.stage_mark(buf, now, Mark::LowWater { lsn, covered });
        match staged {
            Ok(()) => self.staged_marks.low_water = Some((lsn, covered)),
            Err(StageError::NeedsSegment) => self.low_water_wanted = Some((lsn, covered)),
            Err(_) => {}
        }
        staged
    }

    /// Stages the application slot: a few bytes that belong to the application and that every segment repeats. The
    /// newest win.
    ///
    /// # Errors
    /// As [`stage`](Self::stage); [`StageError::TooLarge`] beyond 64 bytes.
    pub fn stage_slot(&mut self, buf: &mut (impl Scratch + ?Sized), now: u64, bytes: &[u8]) -> Result<(), StageError> {
        let slot = Vec::from_slice(bytes);
        let slot = slot.map_err(|_| StageError::TooLarge { len: bytes.len() as u64, max: 64 })?;
        self.stage_mark(buf, now, Mark::Slot(bytes))?;
        self.staged_marks.slot = Some(slot);
        Ok(())
    }

    /// The application slot, as it is durable.
    #[must_use]
    pub fn slot(&self) -> &[u8] {
        &self.slot
    }

    /// Segments below `oldest` were removed.
    pub fn retired(&mut self, oldest: SegmentId) {
        self.oldest = self.oldest.max(oldest);
    }

    /// Stages a mark. It may use the room that entries leave free at the end of a segment.
    ///
    /// # Errors
    /// As [`stage`](Self::stage).
    fn stage_mark(&mut self, buf: &mut (impl Scratch + ?Sized), now: u64, mark: Mark<'_>) -> Result<(), StageError> {
        self.open_group(buf, now, mark.frame_len(), Room::Marks)?;
        let frame = &mut buf.bytes()[self.stage.len as usize..(self.stage.len + mark.frame_len()) as usize];
        let lsn = self.next.previous();
        let durable = self.durable.min(lsn);
        frame_mark(&self.salts, frame, self.at + self.stage.len, lsn, self.time, durable, mark);
        self.stage.len += mark.frame_len();
        self.stage.claim = durable;
        Ok(())
    }

    /// Stages a durable mark, so that recovery can prove how far the log was durable: for a log that falls idle.
    ///
    /// # Errors
    /// As [`stage`](Self::stage).
    pub fn stage_durable_mark(&mut self, buf: &mut (impl Scratch + ?Sized), now: u64) -> Result<(), StageError> {
        self.stage_mark(buf, now, Mark::Durable)
    }

    /// Stages the seal of a clean close. Everything must be durable.
    ///
    /// # Errors
    /// As [`stage`](Self::stage); [`StageError::NeedsCommit`] if something is not durable yet.
    pub fn stage_seal(&mut self, buf: &mut (impl Scratch + ?Sized), now: u64) -> Result<(), StageError> {
        if self.stage.len > 0 || self.unsynced > 0 || self.durable != self.next.previous() {
            return Err(StageError::NeedsCommit);
        }
        self.stage_mark(buf, now, Mark::Seal)
    }

    /// Makes sure that `len` more bytes can be staged, and begins a group if none is begun.
    fn open_group(
        &mut self,
        buf: &mut (impl Scratch + ?Sized),
        now: u64,
        len: u32,
        room: Room,
    ) -> Result<(), StageError> {
        match self.state {
            State::Ready => {}
            State::NeedsSegment | State::Beginning => return Err(StageError::NeedsSegment),
            State::Poisoned => return Err(StageError::Poisoned),
        }
        let granule = self.options.geometry.granule;
        let fresh = self.stage.len == 0;
        let mut stage = self.stage;
        if fresh {
            stage = self.lead(room);
            stage.time = self.time.max(now);
        }
        let end = align_up(stage.len + len, granule);
        if end > self.options.write_limit {
            return Err(StageError::NeedsCommit);
        }
        let kept = if room == Room::Entries { self.options.geometry.reserve() } else { 0 };
        if self.at.saturating_add(end) > self.segment.segment_size.saturating_sub(kept) {
            return Err(StageError::NeedsSegment);
        }
        let needed = end as usize;
        if buf.bytes().len() < needed {
            buf.grow(needed);
        }
        if buf.bytes().len() < needed {
            return Err(if fresh { StageError::BufferTooSmall { needed } } else { StageError::NeedsCommit });
        }
        self.time = self.time.max(now);
        self.stage = stage;
        Ok(())
    }

    /// The marks that will lead the group begun now: their place is kept, they are framed when the group is taken.
    fn lead(&self, room: Room) -> Stage {
        let mut stage = Stage { before: self.next.previous(), epoch: self.epoch_due, ..Stage::default() };
        // A mark by itself leads its own write, unless the epoch has to go before it.
        if self.epoch_due {
            stage.lead += Mark::Epoch(0).frame_len();
        } else if room == Room::Entries {
            stage.lead += Mark::Durable.frame_len();
        }
        stage.len = stage.lead;
        stage
    }

    /// Takes what is staged as a group to commit, with a sync where `sync` says so.
    ///
    /// `None`: there is nothing to do. Where the write limit asks for a sync first, the group is that sync alone, and
    /// what is staged stays so: take again afterwards. The group's bytes are the first of `buf`, which is not to be
    /// staged into before the group has landed.
    ///
    /// # Errors
    /// [`StageError::Poisoned`]: an earlier group did not land.
    pub fn take(&mut self, buf: &mut [u8], sync: Durability) -> Result<Option<Group>, StageError> {
        if self.flight.is_some() || matches!(self.state, State::Poisoned | State::Beginning) {
            self.state = State::Poisoned;
            return Err(StageError::Poisoned);
        }
        let len = align_up(self.stage.len, self.options.geometry.granule);
        let (segment, last, behind) = (self.segment.id, self.written, self.behind);
        let over = self.unsynced + len > self.options.write_limit;
        let group = if len == 0 || over {
            if self.unsynced == 0 || (len == 0 && sync == Durability::Os) {
                return Ok(None);
            }
            Group { segment, at: self.at, len: 0, last, behind, claim: None, sync: true }
        } else {
            self.frame_lead(buf);
            buf[self.stage.len as usize..len as usize].fill(self.segment.blank);
            let lead_claim = if self.stage.lead > 0 { self.durable.min(self.stage.before) } else { Lsn::ZERO };
            let group = Group {
                segment,
                at: self.at,
                len,
                last: self.next.previous(),
                behind: self.stage.behind.map_or(self.behind, |end| self.at + end),
                claim: Some(self.stage.claim.max(lead_claim)),
                sync: sync == Durability::Durable,
            };
            self.at += len;
            self.epoch_due &= !self.stage.epoch;
            self.stage = Stage::default();
            self.flying_marks = core::mem::take(&mut self.staged_marks);
            group
        };
        self.flight = Some(group);
        Ok(Some(group))
    }

    /// Frames the marks that lead the group: what is durable now, before anything of the group is written.
    fn frame_lead(&self, buf: &mut [u8]) {
        let Stage { lead, epoch, time, before, .. } = self.stage;
        if lead > 0 {
            let mark = if epoch { Mark::Epoch(self.epoch) } else { Mark::Durable };
            let frame = &mut buf[..lead as usize];
            frame_mark(&self.salts, frame, self.at, before, time, self.durable.min(before), mark);
        }
    }

    /// The group was committed.
    pub fn landed(&mut self, group: Group) {
        debug_assert_eq!(self.flight, Some(group));
        self.flight = None;
        self.written = group.last;
        if group.behind > self.behind {
            self.behind = group.behind;
            self.live = group.last;
        }
        self.unsynced += group.len;
        if let Some(claim) = group.claim {
            self.marked = self.marked.max(Some(claim));
        }
        let written = self.written;
        self.transactions.retain(|transaction| transaction.end.is_none_or(|end| end > written));
        let flying = core::mem::take(&mut self.flying_marks);
        self.written_marks.add(flying);
        if group.sync {
            self.durable = self.written;
            self.unsynced = 0;
            let said = core::mem::take(&mut self.written_marks);
            if let Some((lsn, covered)) = said.low_water {
                self.low_water = lsn;
                self.low_water_covered = covered;
            }
            if let Some(slot) = said.slot {
                self.slot = slot;
            }
        }
    }

    /// The group, or the segment that was being begun, failed: the device could not do `action`, with an error of this
    /// kind.
    ///
    /// Refused for lack of space, the writer goes on: what was staged or under way is dropped and its LSNs are given
    /// out again, in a new segment, for the refused bytes may stand in this one. Any other failure, and any failed
    /// sync, poisons it.
    pub fn failed(&mut self, action: Action, kind: ErrorKind) {
        self.flight = None;
        if kind != ErrorKind::NoSpace || action == Action::Sync || self.state == State::Poisoned {
            self.state = State::Poisoned;
            return;
        }
        if self.state == State::Beginning {
            // What was unfinished before has been erased by then; what could not be created is not there.
            self.unfinished_above = Some(self.segment.id);
            self.highest = SegmentId::new(self.highest.value().saturating_add(1));
        }
        let written = self.written;
        self.transactions.retain(|transaction| transaction.id <= written.value());
        for transaction in &mut self.transactions {
            transaction.end = transaction.end.filter(|end| *end <= written);
        }
        self.stage = Stage::default();
        self.staged_marks = Said::default();
        self.flying_marks = Said::default();
        self.low_water_wanted = None;
        self.next = self.written.next_or_max();
        self.state = State::NeedsSegment;
    }

    /// A machine could not go on with what the medium holds: nothing more is written.
    pub fn poison(&mut self) {
        self.state = State::Poisoned;
    }

    /// The plan of the segment to begin next: after a rotation, or to take the log over.
    ///
    /// `nonce` is random where there is a source, else 0. Drive a [`Begin`](crate::Begin) of it, then say how it went:
    /// [`begun`](Self::begun) or [`failed`](Self::failed).
    ///
    /// # Errors
    /// [`StageError::NeedsCommit`]: something is staged or not durable yet. [`StageError::Exhausted`]: no epoch or
    /// id is left. [`StageError::Poisoned`].
    pub fn plan(&mut self, now: u64, nonce: u64) -> Result<Plan, StageError> {
        let epoch = self.epoch.checked_add(u64::from(!self.taken_over)).ok_or(StageError::Exhausted)?;
        let old = &self.segment;
        let first = match &self.copy {
            Some(copy) if copy.passes_over => old.first,
            _ => self.next,
        };
        let predecessor = match &self.copy {
            Some(copy) if copy.passes_over => old.predecessor,
            _ => self.end_of_segment(),
        };
        let floor = match &self.copy {
            Some(copy) if copy.passes_over => old.transaction_floor,
            Some(_) => self.floor,
            None => self.replay_floor(),
        };
        let plan = self.plan_of(now, nonce, Beginning { epoch, first, predecessor, floor, copy: self.copy.clone() })?;
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
        let predecessor = Predecessor { id: cut.id, nonce: cut.nonce, last: cut.last, size: cut.size };
        let plan = self.plan_of(now, nonce, Beginning { epoch, first, predecessor, floor: cut.floor, copy: None })?;
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
        let mut plan = self.plan_of(now, nonce, Beginning { epoch, first, predecessor, floor: first, copy: None })?;
        plan.header.low_water = first;
        plan.header.low_water_covered = false;
        self.next_after = Some(first);
        Ok(plan)
    }

    /// Where the active segment is cut when another follows it.
    fn end_of_segment(&self) -> Predecessor {
        let old = &self.segment;
        if old.epoch == 0 {
            return Predecessor::default();
        }
        Predecessor { id: old.id, nonce: old.nonce, last: self.live, size: self.behind }
    }

    fn plan_of(&mut self, now: u64, nonce: u64, beginning: Beginning) -> Result<Plan, StageError> {
        let Beginning { epoch, first, predecessor, floor, copy } = beginning;
        if matches!(self.state, State::Poisoned | State::Beginning) || self.flight.is_some() {
            self.state = State::Poisoned;
            return Err(StageError::Poisoned);
        }
        if self.stage.len > 0 || self.unsynced > 0 {
            return Err(StageError::NeedsCommit);
        }
        let id = SegmentId::new(self.highest.value().checked_add(1).ok_or(StageError::Exhausted)?);
        let geometry = self.options.geometry;
        let room = copy.as_ref().map_or(0, |copy| {
            let len = copy.end.saturating_sub(copy.start.next);
            // Packed anew, the frames take at most a quarter more, where each write fills up its last granule.
            geometry.overhead() + len + len / 4 + 2 * geometry.granule
        });
        let (low_water, low_water_covered) = self.low_water_wanted.unwrap_or((self.low_water, self.low_water_covered));
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
            blank: geometry.blank,
            granule: geometry.granule,
            copy_offset: geometry.copy_offset,
            segment_size: geometry.segment_size.max(align_up(room, geometry.granule)),
            write_limit: self.options.write_limit,
            predecessor,
        };
        let mut dead = Dead::default();
        // One more than recovery found fits: it refuses a log that has more than it can remember.
        let _ = dead.found(Cut { above: predecessor.id, below: id });
        for cut in &self.dead.0 {
            let _ = dead.found(*cut);
        }
        self.state = State::Beginning;
        Ok(Plan {
            update: self.options.checksum,
            header,
            erase_above: self.unfinished_above,
            dead,
            copy,
            slot: self.slot.clone(),
        })
    }

    /// The segment was begun: writing goes on in it, and what was copied into it is durable.
    pub fn begun(&mut self, begun: &Begun) {
        debug_assert_eq!(self.state, State::Beginning);
        let old = self.segment.id;
        self.copy = None;
        self.must_begin = false;
        self.dead = Dead(begun.evidence.into_iter().collect());
        if self.oldest == SegmentId::NONE || self.oldest == old && begun.header.predecessor.id != old {
            self.oldest = begun.header.id;
        }
        self.unfinished_above = None;
        self.epoch_due |= begun.header.epoch > self.epoch;
        self.taken_over = true;
        self.epoch = begun.header.epoch;
        self.time = self.time.max(begun.header.created);
        self.segment = begun.header;
        self.highest = begun.header.id;
        self.salts =
            Salts::new(self.options.checksum, self.log, begun.header.id, begun.header.epoch, begun.header.nonce);
        self.at = begun.at;
        self.behind = begun.behind;
        if let Some(next) = self.next_after.take() {
            // A cut or reset: transactions open before it are rolled back by the new epoch.
            self.next = next;
            self.transactions.clear();
        }
        self.live = self.next.previous();
        self.low_water = begun.header.low_water;
        self.low_water_covered = begun.header.low_water_covered;
        self.low_water_wanted = None;
        self.durable = self.live;
        self.written = self.durable;
        self.marked = None;
        self.state = State::Ready;
    }
}

/// Which room a frame may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// All but what is kept for marks.
    Entries,
    /// All.
    Marks,
}

/// How durable a group is to be when it has landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// In the program's memory: lost when it ends.
    Buffered,
    /// Handed to the operating system: survives the end of the program, not that of the machine.
    Os,
    /// On stable storage.
    Durable,
}

/// Why a log cannot be taken over for writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TakeOverError {
    /// A value of the options cannot be.
    Options(InvalidOptions),
    /// The policy refuses to write after what recovery found: its report says why.
    Refused,
}

/// Whether what recovery found missing is given up for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Nothing is given up: damage refuses the take-over.
    None,
    /// Damage and gaps up to the highest LSN ever witnessed are accepted, and no longer refuse anything; the log goes
    /// on above that LSN.
    AcceptLoss,
}

/// A place where the log is cut at the end: what is behind it is dead from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutAt {
    pub(crate) id: SegmentId,
    pub(crate) nonce: u64,
    pub(crate) last: Lsn,
    pub(crate) size: u32,
    pub(crate) floor: Lsn,
}

/// The most bytes of the mark that leads a write.
const fn longest_lead() -> u32 {
    FRAME_OVERHEAD + 16
}
