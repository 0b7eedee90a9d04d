//! What the fuzz targets do with bytes from anywhere: the crate in `fuzz/` hands them what the fuzzer makes up, the suite
//! `corpus` the seeds that are kept there. Each target panics where a promise is broken, and does nothing else.

use core::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};
use std::{collections::BTreeMap, sync::Arc};

use duralog::{
    Config, Geometry, Log, LogReader, Lsn, MemoryDevice, MemoryStore, Object, Policy, SegmentId, SharedDevice, SyncMode,
};
use duralog_core::{
    CheckpointId, Device, DeviceError, Entry, ErrorKind, Finding, Flow, Host, ReadCheckpoint, Reader, Reading,
    Recovery, RecoveryOptions, ReverseReader, Room, Scratch,
    checkpoint::{
        Checkpoint, CheckpointHeader, HEADER_LEN, TRAILER_LEN, decode_metadata, encode_metadata, encode_trailer,
    },
    checksum::{Crc, compute_checksum, portable},
    drive,
    frame::{FRAME_HEADER_LEN, FRAME_MAGIC, FRAME_OVERHEAD, FrameType, Mark, Salts},
    meta::{META_LEN, META_MAGIC, Meta},
    operation::Operation,
    segment::{COPY_OFFSETS, SEGMENT_HEADER_LEN, SEGMENT_MAGIC, SegmentHeader},
};
use uuid::Uuid;

use crate::{
    environment::Counter,
    golden::{Golden, golden},
};

/// A fuzz target: its name, and what it does with bytes.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// All of them.
pub const FUZZ_TARGETS: [FuzzTarget; 9] = [
    ("frame", frame),
    ("segment_header", segment_header),
    ("mark", mark),
    ("operation", operation),
    ("checkpoint", checkpoint),
    ("meta", meta),
    ("recovery", recovery),
    ("repaired", repaired),
    ("writing", writing),
];

/// Runs the target of that name.
///
/// # Panics
/// If a promise is broken, or there is no such target.
pub fn fuzz(name: &str, bytes: &[u8]) {
    let (_, target) = FUZZ_TARGETS.iter().find(|(target, _)| *target == name).expect("the name of a target");
    target(bytes);
}

/// Bytes that begin the corpus of each target: what a writer writes, so that the fuzzer need not guess it.
///
/// # Panics
/// If the golden logs cannot be made.
#[must_use]
pub fn fuzz_seeds(name: &str) -> Vec<Vec<u8>> {
    let golden = golden().expect("the golden logs are made in memory");
    let objects = || golden.iter().flat_map(|log| &log.objects);
    let segments = || objects().filter(|(object, _)| matches!(object, Object::Segment(_))).map(|(_, bytes)| bytes);
    let of = |wanted: fn(&Object) -> bool| objects().filter(move |(object, _)| wanted(object)).map(|(_, b)| b.clone());
    match name {
        "segment_header" => segments().map(|bytes| bytes[..SEGMENT_HEADER_LEN].to_vec()).collect(),
        "meta" => of(|object| *object == Object::Meta).collect(),
        "checkpoint" => of(|object| matches!(object, Object::Checkpoint(_))).collect(),
        "frame" => segments().filter_map(|bytes| frames(bytes).into_iter().next()).collect(),
        "mark" => payloads(segments(), true),
        "operation" => payloads(segments(), false),
        _ => golden.iter().map(image).collect(),
    }
}

/// The frames of a segment, cut out by their magic.
fn frames(segment: &[u8]) -> Vec<Vec<u8>> {
    let places = (0..segment.len()).filter(|at| segment[*at..].starts_with(&FRAME_MAGIC));
    places
        .filter_map(|at| Some(segment.get(at..at + usize::try_from(u32_at(segment, at + 4)?).ok()?)?.to_vec()))
        .collect()
}

/// One payload of each type, led by the type.
fn payloads<'a>(segments: impl Iterator<Item = &'a Vec<u8>>, marks: bool) -> Vec<Vec<u8>> {
    let mut by_code = BTreeMap::new();
    for frame in segments.flat_map(|bytes| frames(bytes)).filter(|frame| frame.len() >= FRAME_OVERHEAD as usize) {
        let kind = FrameType::from_byte(frame[28]);
        if kind.is_mark() == marks {
            by_code.insert(frame[28], [&frame[28..29], &frame[FRAME_HEADER_LEN..frame.len() - 4]].concat());
        }
    }
    by_code.into_values().collect()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A frame, at a place and in a segment that the first bytes say.
fn frame(bytes: &[u8]) {
    let salts = Salts::new(portable, Uuid::from_u128(7), SegmentId::new(1), 1, 0);
    let offset = 4224;
    if let Ok(header) = salts.header(bytes, offset) {
        assert!(header.size >= FRAME_OVERHEAD);
        if let Some(whole) = usize::try_from(header.size).ok().and_then(|size| bytes.get(..size)) {
            let mut copy = whole.to_vec();
            let _ = salts.entry_fits(&mut copy, offset);
            assert_eq!(copy, whole, "a look changes nothing");
        }
    }
    // The same bytes as a frame with its checksums put right: read back, it is what was framed.
    if bytes.len() < FRAME_OVERHEAD as usize {
        return;
    }
    let mut framed = bytes.to_vec();
    let (lsn, timestamp, kind) =
        (u64_at(bytes, 12).unwrap(), u64_at(bytes, 20).unwrap(), FrameType::from_byte(bytes[28]));
    salts.complete(&mut framed, offset, Lsn::new(lsn), timestamp, kind);
    let header = salts.header(&framed, offset).expect("a frame that was completed");
    assert_eq!((header.size as usize, header.lsn.value(), header.timestamp), (framed.len(), lsn, timestamp));
    assert_eq!(header.kind.byte(), kind.byte());
    assert!(salts.entry_fits(&mut framed, offset) && salts.header(&framed, offset + 1).is_err());
    framed[28] ^= 1;
    assert!(salts.header(&framed, offset).is_err() && !salts.entry_fits(&mut framed, offset));
}

fn segment_header(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    for _ in 0..2 {
        for offset in [0, 128, 512, 4096] {
            if let Ok(header) = SegmentHeader::decode(portable, &bytes, offset) {
                assert_eq!(header.encode(portable), bytes[..SEGMENT_HEADER_LEN], "two headers that say the same");
                assert!(header.frames_at() < header.segment_size);
            }
        }
        repair_header(&mut bytes);
    }
}

fn mark(bytes: &[u8]) {
    let Some((code, payload)) = bytes.split_first() else { return };
    let code = FrameType::from_byte(*code).code();
    if let Ok((durable, mark)) = Mark::decode(code, payload) {
        assert_eq!((mark.code(), mark.payload_len()), (code, payload.len()));
        let mut again = vec![0; payload.len()];
        mark.encode(durable, &mut again);
        assert_eq!(again, payload, "two payloads of a mark that say the same");
    }
}

fn operation(bytes: &[u8]) {
    let Some((kind, payload)) = bytes.split_first() else { return };
    let kind = FrameType::from_byte(*kind);
    let transaction = kind.is_in_transaction().then_some(7);
    if let Ok(operation) = Operation::decode(kind.code(), transaction, payload) {
        assert_eq!(operation.code().value(), kind.code());
        let again = operation.to_payload();
        assert!(again.len() == operation.encoded_len() && again.len() <= payload.len());
        let read = Operation::decode(kind.code(), transaction, &again).expect("what was encoded");
        assert_eq!(read.to_payload(), again);
    }
}

fn meta(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    for _ in 0..2 {
        if let Ok(meta) = Meta::decode(&bytes) {
            assert_eq!(meta.encode(), bytes[..META_LEN]);
        }
        repair_meta(&mut bytes);
    }
}

fn checkpoint(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    for _ in 0..2 {
        if let Ok(header) = CheckpointHeader::decode(&bytes) {
            assert_eq!(header.encode(), bytes[..HEADER_LEN]);
        }
        let validated = Checkpoint::validate(&bytes);
        if let Ok(checkpoint) = Checkpoint::from_bytes(&bytes) {
            assert!(validated.is_ok());
            let again = checkpoint.to_bytes().expect("what was read");
            assert_eq!(Checkpoint::from_bytes(&again).expect("what was written").to_bytes(), Ok(again));
        }
        // The machine that reads it in pieces takes what is valid to who has it in one.
        let log = CheckpointHeader::decode(&bytes).map_or(Uuid::nil(), |header| header.log);
        let id = CheckpointHeader::decode(&bytes).map_or(CheckpointId::new(1), |header| header.id);
        let device = MemoryDevice::new(geometry(0));
        device.put(Object::Checkpoint(id), bytes.clone());
        let read = ReadCheckpoint::new(portable, log, id, Reading::Check);
        let read = drive(read, &mut device.reader(), &mut Limited::new(bytes.len()), &mut ());
        // It does not look into the metadata, which whoever loads the checkpoint does.
        assert!(read.expect("memory is readable").is_ok() || validated.is_err());
        if let Ok(metadata) = decode_metadata(&bytes) {
            let again = encode_metadata(&metadata).expect("what was read");
            assert_eq!(decode_metadata(&again), Ok(metadata));
        }
        repair_checkpoint(&mut bytes);
    }
}

/// Whole images: objects, each led by its kind, its id, its room and the length of what it holds; the rest is blank.
fn objects(bytes: &[u8]) -> (Geometry, BTreeMap<Object, Vec<u8>>) {
    let (first, mut rest) = bytes.split_first().unwrap_or((&0, &[]));
    let geometry = geometry(*first);
    let mut objects = BTreeMap::new();
    while let Some((head, behind)) = rest.split_first_chunk::<6>() {
        let [kind, id, room_low, room_high, len_low, len_high] = *head;
        let room = usize::from(u16::from_le_bytes([room_low, room_high]));
        let len = usize::from(u16::from_le_bytes([len_low, len_high]));
        let (held, behind) = behind.split_at(len.min(behind.len()));
        rest = behind;
        let object = match kind % 4 {
            0 | 1 => Object::Segment(SegmentId::new(id.into())),
            2 => Object::Checkpoint(CheckpointId::new(id.into())),
            _ => Object::Meta,
        };
        let mut held = held.to_vec();
        held.resize(held.len().max(room), geometry.blank);
        objects.insert(object, held);
    }
    (geometry, objects)
}

/// The image that [`objects`] reads a log from.
fn image(log: &Golden) -> Vec<u8> {
    let first =
        u8::from(log.geometry.blank == 0xFF) | (u8::try_from(log.geometry.granule.trailing_zeros()).unwrap_or(0) << 1);
    let mut image = vec![first];
    for (object, bytes) in &log.objects {
        let (kind, id) = match object {
            Object::Segment(id) => (0, id.value()),
            Object::Checkpoint(id) => (2, id.value()),
            Object::Meta => (3, 0),
        };
        let end = bytes.iter().rposition(|byte| *byte != log.geometry.blank).map_or(0, |last| last + 1);
        let number = |number: usize| u16::try_from(number).expect("golden logs are small").to_le_bytes();
        image.extend([kind, u8::try_from(id).expect("golden logs have few objects")]);
        image.extend(number(bytes.len()));
        image.extend(number(end));
        image.extend(&bytes[..end]);
    }
    image
}

/// A geometry for new segments: the blank byte, the granule, whether it is settled.
fn geometry(first: u8) -> Geometry {
    Geometry {
        segment_size: 4096,
        granule: 1 << ((first >> 1) % 7),
        copy_offset: 128,
        blank: if first & 1 == 0 { 0 } else { 0xFF },
        settled: first & 0x80 != 0,
        slots: None,
    }
}

fn recovery(bytes: &[u8]) {
    let (geometry, objects) = objects(bytes);
    read_all(geometry, &objects);
}

/// The same with every checksum put right that can be: what stands behind them is reached.
fn repaired(bytes: &[u8]) {
    let (geometry, mut objects) = objects(bytes);
    repair(&mut objects);
    read_all(geometry, &objects);
    write_on(geometry, &objects, |policy| policy == Policy::Default);
}

fn writing(bytes: &[u8]) {
    let (geometry, objects) = objects(bytes);
    write_on(geometry, &objects, |_| true);
}

const POLICIES: [Policy; 5] = [Policy::Strict, Policy::Default, Policy::PointInTime, Policy::Salvage, Policy::Inspect];

/// A scratch buffer that may not grow beyond what is on hand.
struct Limited {
    bytes: Vec<u8>,
    most: usize,
}

impl Limited {
    fn new(most: usize) -> Self {
        Self { bytes: vec![0; 4096 + 512], most: most + (64 << 10) }
    }
}

impl Scratch for Limited {
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn grow(&mut self, needed: usize) {
        assert!(needed <= self.most, "{needed} bytes are asked for, {} would do", self.most);
        self.bytes.resize(needed.max(self.bytes.len()), 0);
    }
}

/// What reading hands out.
#[derive(Debug, Default, PartialEq, Eq)]
struct Handed(Vec<(u64, u8, Vec<u8>)>, Vec<Finding>);

impl Host for Handed {
    fn entry(&mut self, entry: Entry<'_>) -> Flow {
        self.0.push((entry.lsn.value(), entry.kind.byte(), entry.payload.to_vec()));
        Flow::Continue
    }

    fn finding(&mut self, finding: &Finding) {
        self.1.push(*finding);
    }
}

impl Handed {
    /// The first LSN between two entries that was not handed out, and that no finding tells of.
    fn silent_gap(&self) -> Option<u64> {
        let told: Vec<_> = self.1.iter().filter_map(|finding| finding.lsns).collect();
        self.0.windows(2).find_map(|pair| {
            let (mut next, end) = (pair[0].0 + 1, pair[1].0);
            while let Some((_, last)) =
                told.iter().find(|(first, last)| (first.value()..=last.value()).contains(&next)).filter(|_| next < end)
            {
                next = last.value() + 1;
            }
            (next < end).then_some(next)
        })
    }
}

fn read_all(geometry: Geometry, objects: &BTreeMap<Object, Vec<u8>>) {
    let size: usize = objects.values().map(Vec::len).sum();
    for policy in POLICIES {
        let mut device = Bounded::new(geometry, objects);
        let options = RecoveryOptions { policy, ..RecoveryOptions::default() };
        let recovered = drive(Recovery::new(options), &mut device, &mut Limited::new(size), &mut ());
        let again = drive(Recovery::new(options), &mut device, &mut Limited::new(size), &mut ());
        let said = |outcome: &Result<duralog_core::Recovered, duralog_core::Error<Exhausted>>| match outcome {
            Ok(recovered) => format!("{:?}", recovered.report),
            Err(error) => format!("{error:?}"),
        };
        assert_eq!(said(&recovered), said(&again), "two recoveries of the same bytes");
        let Ok(recovered) = recovered else { continue };
        let (mut forth, mut back) = (Handed::default(), Handed::default());
        let reader = Reader::new(recovered.view.clone(), Lsn::ZERO, Lsn::MAX, policy);
        let read = drive(reader, &mut device, &mut Limited::new(size), &mut forth);
        assert!(forth.0.is_sorted_by(|before, after| before.0 < after.0), "LSNs that do not grow");
        assert_eq!(forth.silent_gap(), None, "{policy:?}: a gap that is passed over in silence: {:?}", forth.1);
        let reader = ReverseReader::new(recovered.view.clone(), Lsn::ZERO, Lsn::MAX);
        let reversed = drive(reader, &mut device, &mut Limited::new(size), &mut back);
        if let (Ok(_), Ok(_), false) = (&read, &reversed, policy.skips_damage()) {
            back.0.reverse();
            assert_eq!(forth.0, back.0, "{policy:?}: there and back again");
        }
        let mut bytes = BTreeMap::new();
        for object in device.memory.names() {
            bytes.insert(object, device.memory.object(object).unwrap());
        }
        assert_eq!(bytes, *objects, "reading has changed something");
    }
}

/// Whatever the bytes are: a log that opens for writing holds what it acknowledges from then on. What it showed before, it
/// holds by the policies for which that is asked: where headers lie and their checksums fit, what is given up is up to them.
fn write_on(geometry: Geometry, objects: &BTreeMap<Object, Vec<u8>>, keeps_what_it_showed: fn(Policy) -> bool) {
    for policy in [Policy::Default, Policy::Salvage, Policy::PointInTime] {
        let config = config(policy);
        let device = Bounded::new(geometry, objects);
        let mut reader = LogReader::open_device(device.reader_of(), config.clone());
        if let Ok(reader) = &mut reader {
            let _ = reader.verify();
        }
        let medium = device.reader_of();
        let Ok(log) = Log::open_device(device, config.clone()) else { continue };
        let before = held(&log, Lsn::ZERO);
        let appended = [b"one".as_slice(), b"two"].map(|payload| log.append(payload));
        let checkpointed = log.checkpoint(log.checkpoint_at(), &duralog::Snapshot::default());
        let _ = log.truncate_before(Lsn::MAX);
        let closed = log.close();
        drop(log);
        let Some(writer) = medium.writer() else { panic!("a log that was dropped holds its device") };
        let first = appended.iter().flatten().map(|receipt| receipt.last.value()).min();
        let log = match Log::open_device(writer, config) {
            Ok(log) => log,
            Err(error) => {
                panic!("{policy:?}: what was acknowledged cannot be opened: {error}\n{appended:?} {closed:?}")
            }
        };
        let after = held(&log, Lsn::ZERO);
        let low_water = log.recovery().low_water.value();
        for (receipt, payload) in appended.iter().zip([b"one", b"two"]) {
            let Ok(receipt) = receipt else { continue };
            // Read from there on: what is damaged before it is told, and ends reading by most policies.
            let lsn = receipt.last.value();
            let after = held(&log, receipt.last);
            assert!(
                lsn < low_water || after.get(&lsn).is_some_and(|held| held == payload),
                "{policy:?}: {lsn} is gone"
            );
        }
        for (lsn, payload) in before {
            let is_kept = !keeps_what_it_showed(policy)
                || lsn < low_water
                || first.is_none()
                || after.get(&lsn) == Some(&payload);
            assert!(is_kept, "{policy:?}: the entry {lsn} was shown before, and is not after: {checkpointed:?}");
        }
        let _ = MemoryStore::<duralog::Documents, Bounded>::with_log(log);
    }
}

fn config(policy: Policy) -> Config {
    let config = Config { idle_mark: None, write_behind: None, ..Config::default() };
    config.with_sync_mode(SyncMode::Immediate).with_policy(policy).with_environment(Counter::new())
}

/// The entries of a log from `from` on as far as reading goes.
fn held(log: &Log<Bounded>, from: Lsn) -> BTreeMap<u64, Vec<u8>> {
    let entries = log.read_from(from).into_iter().flatten();
    entries.map_while(Result::ok).map(|entry| (entry.lsn.value(), entry.payload)).collect()
}

/// A medium on which no walk goes on for ever: each call counts, and there are so many.
#[derive(Debug)]
struct Bounded {
    memory: MemoryDevice,
    calls: Arc<AtomicU64>,
    most: u64,
}

/// Memory fails where a log asks for what is not there.
#[derive(Debug)]
struct Exhausted(duralog::memory::MemoryError);

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core::error::Error for Exhausted {}

impl DeviceError for Exhausted {
    fn kind(&self) -> ErrorKind {
        self.0.kind()
    }
}

impl Bounded {
    fn new(geometry: Geometry, objects: &BTreeMap<Object, Vec<u8>>) -> Self {
        let memory = MemoryDevice::new(geometry);
        for (object, bytes) in objects {
            memory.put(*object, bytes.clone());
        }
        let size: usize = objects.values().map(Vec::len).sum();
        Self { memory, calls: Arc::default(), most: 20_000 + 20 * size as u64 }
    }

    fn reader_of(&self) -> Self {
        Self { memory: self.memory.reader(), calls: Arc::clone(&self.calls), most: self.most }
    }

    fn writer(self) -> Option<Self> {
        let memory = self.memory.writer().ok()?;
        Some(Self { memory, ..self })
    }

    fn call(&mut self) -> &mut MemoryDevice {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        assert!(calls < self.most, "{calls} calls for so few bytes");
        &mut self.memory
    }
}

impl Device for Bounded {
    type Error = Exhausted;

    fn geometry(&self) -> Geometry {
        self.memory.geometry()
    }

    fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, Exhausted> {
        self.call().next(after).map_err(Exhausted)
    }

    fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, Exhausted> {
        self.call().prev(before).map_err(Exhausted)
    }

    fn create(&mut self, object: Object, size: u64) -> Result<Room, Exhausted> {
        self.call().create(object, size).map_err(Exhausted)
    }

    fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, Exhausted> {
        self.call().read(object, at, buf).map_err(Exhausted)
    }

    fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), Exhausted> {
        self.call().write(object, at, bytes).map_err(Exhausted)
    }

    fn trim(&mut self, object: Object, at: u64) -> Result<(), Exhausted> {
        self.call().trim(object, at).map_err(Exhausted)
    }

    fn remove(&mut self, object: Object) -> Result<(), Exhausted> {
        self.call().remove(object).map_err(Exhausted)
    }

    fn sync(&mut self) -> Result<(), Exhausted> {
        self.call().sync().map_err(Exhausted)
    }
}

impl SharedDevice for Bounded {
    fn reader(&self) -> Result<Self, Exhausted> {
        Ok(self.reader_of())
    }

    fn len(&mut self, object: Object) -> Result<u64, Exhausted> {
        SharedDevice::len(&mut self.memory, object).map_err(Exhausted)
    }
}

/// Puts the checksums right, and the log's UUID and ids, so that objects belong together.
fn repair(objects: &mut BTreeMap<Object, Vec<u8>>) {
    for (object, bytes) in objects {
        match object {
            Object::Segment(_) => repair_segment(bytes),
            Object::Checkpoint(_) => repair_checkpoint(bytes),
            Object::Meta => repair_meta(bytes),
        }
    }
}

fn put(bytes: &mut [u8], at: usize, checksum: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
}

fn repair_header(bytes: &mut [u8]) {
    if bytes.len() >= SEGMENT_HEADER_LEN && bytes.starts_with(&SEGMENT_MAGIC) {
        let checksum = compute_checksum(&bytes[..SEGMENT_HEADER_LEN - 4]);
        put(bytes, SEGMENT_HEADER_LEN - 4, checksum);
    }
}

fn repair_segment(bytes: &mut [u8]) {
    for offset in [0].into_iter().chain(COPY_OFFSETS) {
        if let Some(copy) = bytes.get_mut(offset as usize..) {
            repair_header(copy);
        }
    }
    let Ok(header) = SegmentHeader::decode(portable, bytes, 0) else { return };
    let salts = Salts::new(portable, header.log, header.id, header.epoch, header.nonce);
    // From the last to the first: an outer frame's checksum covers what stands inside.
    for at in (0..bytes.len()).rev() {
        if !bytes[at..].starts_with(&FRAME_MAGIC) {
            continue;
        }
        let Some(size) = u32_at(bytes, at + 4).and_then(|size| usize::try_from(size).ok()) else { continue };
        if size < FRAME_OVERHEAD as usize || size > bytes.len() - at {
            continue;
        }
        let (lsn, timestamp) = (u64_at(bytes, at + 12).unwrap_or(0), u64_at(bytes, at + 20).unwrap_or(0));
        let kind = FrameType::from_byte(bytes[at + 28]);
        let Ok(offset) = u32::try_from(at) else { continue };
        salts.complete(&mut bytes[at..at + size], offset, Lsn::new(lsn), timestamp, kind);
    }
}

fn repair_meta(bytes: &mut [u8]) {
    if bytes.len() >= META_LEN && bytes.starts_with(&META_MAGIC) {
        let checksum = compute_checksum(&bytes[..META_LEN - 4]);
        put(bytes, META_LEN - 4, checksum);
    }
}

fn repair_checkpoint(bytes: &mut [u8]) {
    if bytes.len() < HEADER_LEN + TRAILER_LEN {
        return;
    }
    let checksum = compute_checksum(&bytes[..HEADER_LEN - 4]);
    put(bytes, HEADER_LEN - 4, checksum);
    let end = bytes.len() - TRAILER_LEN;
    let trailer = encode_trailer(end as u64, Crc::new(portable).with(&bytes[..end]));
    bytes[end..].copy_from_slice(&trailer);
}
