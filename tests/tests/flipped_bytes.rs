//! One byte is flipped in every byte of a log, one at a time: `verify` says where and what is gone, the default policy
//! refuses and changes nothing, salvage loses no more than the batch or transaction that was hit.
#![allow(missing_docs)]

use core::{
    iter,
    ops::{Range, RangeInclusive},
    panic::AssertUnwindSafe,
};
use std::{collections::BTreeMap, panic::catch_unwind};

use duralog::{
    Config, Durability, Error, Geometry, Log, LogReader, Lsn, MemoryDevice, Object, Policy, Snapshot, SyncMode,
};
use duralog_tests::{Counter, figure};

const GEOMETRY: Geometry =
    Geometry { segment_size: 2048, granule: 1, copy_offset: 128, blank: 0, settled: false, slots: None };
/// Bytes of a seal, or of any mark that says no more than what is durable.
const MARK: u64 = 41;

fn config(policy: Policy) -> Config {
    Config { environment: Counter::new(), idle_mark: None, write_behind: None, ..Config::new("memory") }
        .with_write_limit(512)
        .with_sync_mode(SyncMode::Immediate)
        .with_policy(policy)
}

struct Sample {
    objects: BTreeMap<Object, Vec<u8>>,
    payloads: BTreeMap<u64, Vec<u8>>,
    frames: BTreeMap<u64, (Object, Range<u64>)>,
    /// Batches and transactions: a damaged entry may take these with it.
    units: Vec<RangeInclusive<u64>>,
    /// The LSN up to which the checkpoint holds everything.
    covered: u64,
    newest: Object,
}

fn payload(n: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| n.wrapping_mul(31).wrapping_add(u8::try_from(at % 251).unwrap())).collect()
}

fn sample(closed: bool, with_checkpoint: bool) -> Sample {
    let medium = MemoryDevice::new(GEOMETRY);
    let reader = medium.reader();
    let log = Log::open_device(medium, config(Policy::Default)).unwrap();
    let append = |n: u8, len: usize| log.append(&*payload(n, len)).unwrap();
    let mut units = Vec::new();
    let batch = |n: u8, units: &mut Vec<_>| {
        let batch: Vec<_> = (n..n + 3).map(|n| payload(n, 30)).collect();
        let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
        let receipt = log.append_batch(&batch).unwrap().unwrap();
        units.push(receipt.first.value()..=receipt.last.value());
    };
    append(1, 60);
    append(2, 1);
    batch(3, &mut units);
    let mut covered = 0;
    if with_checkpoint {
        let at = log.checkpoint_at();
        covered = at.lsn().value();
        log.checkpoint(at, &Snapshot { bytes: payload(9, 40), ..Snapshot::default() }).unwrap();
    }
    append(10, 100);
    // One write, led by one mark: what stands in it is not damaged with what stands before it.
    for n in 25..28 {
        log.append_with(&*payload(n, 30), Durability::Buffered).unwrap();
    }
    log.sync().unwrap();
    let transaction = log.transaction().unwrap();
    let begin = log.current_lsn().value() - 1;
    transaction.append(&*payload(11, 20)).unwrap();
    append(12, 20);
    transaction.append(&*payload(13, 20)).unwrap();
    let commit = transaction.commit().unwrap();
    units.push(begin..=commit.last.value());
    for n in 14..20 {
        append(n, 150);
    }
    batch(20, &mut units);
    append(23, 0);
    append(24, 70);
    if closed {
        log.close().unwrap();
    }
    drop(log);
    let objects: BTreeMap<_, _> =
        reader.names().into_iter().map(|object| (object, reader.object(object).unwrap())).collect();
    let opened = LogReader::open_device(reader.reader(), config(Policy::Strict)).unwrap();
    let (mut payloads, mut frames) = (BTreeMap::new(), BTreeMap::new());
    for entry in opened.read(Lsn::ZERO, Lsn::MAX).unwrap() {
        let entry = entry.unwrap();
        let at = u64::from(entry.offset);
        let frame = at..at + entry.serialized_size() as u64;
        frames.insert(entry.lsn.value(), (Object::Segment(entry.segment), frame));
        payloads.insert(entry.lsn.value(), entry.payload);
    }
    let newest = *objects.keys().rfind(|object| matches!(object, Object::Segment(_))).unwrap();
    let segments = objects.keys().filter(|object| matches!(object, Object::Segment(_))).count();
    assert!(segments >= 2, "{segments}");
    Sample { objects, payloads, frames, units, covered, newest }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Entry(u64),
    /// A mark, a header, a checkpoint or the metadata.
    Helper,
    /// Nothing reads it, or nothing proves it.
    Nothing,
}

impl Sample {
    /// Behind the last entry of a segment and the marks that follow.
    fn end(&self, object: Object) -> u64 {
        let bytes = &self.objects[&object];
        bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
    }

    /// Where the last durable mark begins.
    fn last_mark(&self) -> u64 {
        let mut behind = 0;
        let mut last = 0;
        let frames = self.frames.values().filter(|(object, _)| *object == self.newest).map(|(_, range)| range.clone());
        for frame in frames.chain(iter::once(self.end(self.newest)..u64::MAX)) {
            if behind > 0 && frame.start > behind {
                last = frame.start - MARK;
            }
            behind = frame.end;
        }
        last
    }

    fn place(&self, object: Object, at: u64) -> Place {
        let Object::Segment(_) = object else { return Place::Helper };
        let hit = self.frames.iter().find(|(_, (segment, frame))| *segment == object && frame.contains(&at));
        let end = if object == self.newest { self.last_mark() } else { self.last_frame(object) };
        match hit {
            _ if at >= end => Place::Nothing,
            Some((lsn, _)) => Place::Entry(*lsn),
            None => Place::Helper,
        }
    }

    fn last_frame(&self, object: Object) -> u64 {
        let frames = self.frames.values().filter(|(segment, _)| *segment == object);
        frames.map(|(_, frame)| frame.end).max().unwrap()
    }

    fn flipped(&self, object: Object, at: u64) -> MemoryDevice {
        let device = MemoryDevice::new(GEOMETRY);
        for (name, bytes) in &self.objects {
            let mut bytes = bytes.clone();
            if *name == object {
                bytes[usize::try_from(at).unwrap()] ^= 1 << (at % 8);
            }
            device.put(*name, bytes);
        }
        device
    }

    /// Whether this entry may be gone with the damaged one.
    fn goes_with(&self, lsn: u64, damaged: u64) -> bool {
        lsn == damaged || self.units.iter().any(|unit| unit.contains(&lsn) && unit.contains(&damaged))
    }

    fn check_entries(&self, entries: impl Iterator<Item = duralog::Result<duralog::Entry>>, damaged: Option<u64>) {
        let mut found = BTreeMap::new();
        for entry in entries {
            let entry = entry.unwrap();
            assert!(found.insert(entry.lsn.value(), entry.payload).is_none(), "{} twice", entry.lsn);
        }
        for (lsn, payload) in &self.payloads {
            match found.remove(lsn) {
                Some(found) => assert_eq!(found, *payload, "{lsn} is another"),
                None => assert!(damaged.is_some_and(|damaged| self.goes_with(*lsn, damaged)), "{lsn} is gone"),
            }
        }
        assert!(found.is_empty(), "out of nowhere: {:?}", found.keys());
    }

    fn try_byte(&self, object: Object, at: u64) {
        let place = self.place(object, at);
        let damaged = if let Place::Entry(lsn) = place { Some(lsn) } else { None };
        self.verify(object, at, place);
        self.open(object, at, damaged);
        if place != Place::Nothing {
            self.salvage(object, at, damaged);
        }
    }

    fn verify(&self, object: Object, at: u64, place: Place) {
        let mut reader = LogReader::open_device(self.flipped(object, at).reader(), config(Policy::Inspect)).unwrap();
        let report = reader.verify().unwrap();
        let names = |object: Object, finding: &duralog::Finding| {
            finding.object == object && (finding.offset..finding.offset + finding.len.max(1)).contains(&at)
        };
        match place {
            Place::Nothing => {}
            Place::Entry(lsn) => {
                let lsns =
                    report.findings.iter().filter(|finding| names(object, finding)).filter_map(|finding| finding.lsns);
                let mut lsns = lsns.map(|(first, last)| first.value()..=last.value());
                assert!(lsns.any(|lsns| lsns.contains(&lsn)), "verify names no {lsn}: {report:?}");
                // What the checkpoint holds is no loss, and told all the same.
                assert_eq!((report.success, report.clean), (lsn <= self.covered, lsn <= self.covered));
            }
            Place::Helper => {
                assert!(report.success, "{report:?}");
                assert!(report.findings.iter().any(|finding| names(object, finding)), "not named: {report:?}");
                assert_eq!((report.entries_recovered, report.entries_skipped), (self.payloads.len() as u64, 0));
                self.check_entries(reader.read(Lsn::ZERO, Lsn::MAX).unwrap(), None);
            }
        }
    }

    fn open(&self, object: Object, at: u64, damaged: Option<u64>) {
        let device = self.flipped(object, at);
        let reader = device.reader();
        let before: Vec<_> = reader.names().into_iter().map(|object| (object, reader.object(object))).collect();
        let opened = Log::open_device(device, config(Policy::Default).with_full_check());
        match (opened, damaged) {
            (Err(Error::Refused(finding) | Error::Damaged(finding)), Some(lsn)) if lsn > self.covered => {
                let (first, last) = finding.lsns.expect("an entry is gone");
                assert!((first.value()..=last.value()).contains(&lsn), "{finding:?}");
                let after: Vec<_> = reader.names().into_iter().map(|object| (object, reader.object(object))).collect();
                assert!(before == after, "bytes were changed");
            }
            (Ok(_), Some(lsn)) => assert!(lsn <= self.covered, "{lsn} is gone, and nothing said so"),
            (Ok(log), None) => {
                if self.place(object, at) == Place::Helper {
                    self.check_entries(log.read_from(Lsn::ZERO).unwrap(), None);
                }
            }
            (Err(error), damaged) => panic!("{damaged:?}: {error:?}"),
        }
    }

    fn salvage(&self, object: Object, at: u64, damaged: Option<u64>) {
        let device = self.flipped(object, at);
        let medium = device.reader();
        let reader = LogReader::open_device(device.reader(), config(Policy::Salvage)).unwrap();
        self.check_entries(reader.read(Lsn::ZERO, Lsn::MAX).unwrap(), damaged);
        let log = Log::open_device(device, config(Policy::Salvage)).unwrap();
        let next = log.current_lsn();
        self.check_entries(log.read_from(Lsn::ZERO).unwrap(), damaged);
        assert_eq!(log.append(&b"after"[..]).unwrap().first, next);
        log.close().unwrap();
        drop(log);
        let log = Log::open_device(medium.writer().unwrap(), config(Policy::Default).with_full_check()).unwrap();
        let entries = log.read_from(Lsn::ZERO).unwrap();
        let is_old = |entry: &duralog::Result<duralog::Entry>| !entry.as_ref().is_ok_and(|entry| entry.lsn == next);
        self.check_entries(entries.filter(is_old), damaged);
        if damaged.is_some_and(|lsn| lsn > self.covered) {
            assert!(log.recovery().gaps().next().is_some(), "the gap is not listed");
        }
    }
}

fn flip_every_byte(name: &str, sample: &Sample) {
    let mut wrong = BTreeMap::new();
    let mut bytes = 0;
    for (object, content) in &sample.objects {
        for at in 0..content.len() as u64 {
            // Where nothing stands there is little to find out.
            if sample.place(*object, at) == Place::Nothing && !at.is_multiple_of(16) {
                continue;
            }
            bytes += 1;
            if let Err(why) = catch_unwind(AssertUnwindSafe(|| sample.try_byte(*object, at))) {
                let why = why.downcast_ref::<String>().cloned().unwrap_or_default();
                let why: String = why.chars().take(400).collect();
                wrong.insert((*object, at), (sample.place(*object, at), why));
            }
        }
    }
    let mut last = None;
    for ((object, at), (place, why)) in &wrong {
        if last.replace((*object, *place)) != Some((*object, *place)) {
            println!("{object} at {at}, {place:?}: {why}");
        }
    }
    assert!(wrong.is_empty(), "{} of {bytes} bytes", wrong.len());
    figure(&format!("flipped_bytes, {name}: {bytes} bytes"));
}

#[test]
fn no_flipped_byte_of_a_closed_log_costs_more_than_its_entry() {
    flip_every_byte("a closed log", &sample(true, false));
}

#[test]
fn no_flipped_byte_of_a_log_with_a_checkpoint_costs_more_than_its_entry() {
    flip_every_byte("a log with a checkpoint", &sample(true, true));
}

#[test]
fn no_flipped_byte_of_a_log_that_was_not_closed_costs_more_than_its_entry() {
    flip_every_byte("a log that was not closed", &sample(false, true));
}
