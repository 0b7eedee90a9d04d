//! Machines in buffers that hold a fraction of a segment: the size of the buffer changes how much is read at once, and
//! nothing else.
#![allow(missing_docs)]

use duralog::{Config, Geometry, Log, Lsn, MemoryDevice};
use duralog_core::{
    Begin, Commit, Durability, Entry, Error, Fault, Finding, Flow, Host, Object, Policy, Reader, Recovered, Recovery,
    RecoveryOptions, Replay, SegmentId, StageError, Writer, WriterOptions, drive,
};
use duralog_tests::Counter;
use uuid::Uuid;

const GEOMETRY: Geometry =
    Geometry { segment_size: 32 * 1024, granule: 8, copy_offset: 128, blank: 0xFF, settled: false, slots: None };
/// Bytes of each payload.
const PAYLOAD: usize = 60;

#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    entries: Vec<(u64, Vec<u8>)>,
    findings: Vec<Finding>,
}

impl Host for Told {
    fn entry(&mut self, entry: Entry<'_>) -> Flow {
        self.entries.push((entry.lsn.value(), entry.payload.to_vec()));
        Flow::Continue
    }

    fn finding(&mut self, finding: &Finding) {
        self.findings.push(*finding);
    }
}

/// A log of so many entries, each of them durable, batches of three among them.
fn log(entries: u8) -> MemoryDevice {
    let mut device = MemoryDevice::new(GEOMETRY);
    let mut buf = vec![0; 4096];
    let mut writer = Writer::create(WriterOptions::new(GEOMETRY), Uuid::from_u128(7)).unwrap();
    let mut number = 0;
    while number < entries {
        let payloads: Vec<Vec<u8>> =
            (0..if number % 4 == 1 { 3 } else { 1 }).map(|n| vec![number + n; PAYLOAD]).collect();
        let borrowed: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        match writer.stage(&mut buf, 1000, None, &borrowed) {
            Ok(_) => number += u8::try_from(payloads.len()).unwrap(),
            Err(StageError::NeedsSegment) => {
                let plan = writer.plan(1000, 5).unwrap();
                let begun = drive(Begin::new(plan), &mut device, &mut vec![0; 4096], &mut ()).unwrap();
                writer.begun(&begun);
            }
            Err(error) => panic!("{error}"),
        }
        if let Some(group) = writer.take(&mut buf, Durability::Durable).unwrap() {
            drive(Commit::new(group), &mut device, &mut buf, &mut ()).unwrap();
            writer.landed(group);
        }
    }
    device
}

/// What is recovered and read under salvage in a buffer of this size.
fn salvaged(device: &mut MemoryDevice, size: usize) -> (Recovered, Told) {
    let mut told = Told::default();
    let mut buf = vec![0; size].into_boxed_slice();
    let options = RecoveryOptions { policy: Policy::Salvage, ..RecoveryOptions::default() };
    let recovered = drive(Recovery::new(options), device, &mut *buf, &mut told).unwrap();
    let reader = Reader::new(recovered.view.clone(), Lsn::FIRST, Lsn::MAX, Policy::Salvage);
    drive(reader, device, &mut *buf, &mut told).unwrap();
    (recovered, told)
}

/// Where in its only segment the payload of the entry stands that is full of this byte.
fn place_of(device: &MemoryDevice, byte: u8) -> usize {
    let bytes = device.object(Object::Segment(SegmentId::new(1))).unwrap();
    bytes.windows(PAYLOAD).position(|window| window.iter().all(|&b| b == byte)).unwrap()
}

fn damage(device: &MemoryDevice, at: usize, with: u8) {
    let object = Object::Segment(SegmentId::new(1));
    let mut bytes = device.object(object).unwrap();
    bytes[at] ^= with;
    device.put(object, bytes);
}

#[test]
fn what_is_skipped_and_what_is_read_behind_it_is_the_same_in_every_buffer() {
    for (entry, before) in [(9u8, 0), (9, 9), (30, 0), (30, 12), (31, 20), (50, 0)] {
        let mut device = log(120);
        let at = place_of(&device, entry) - before;
        damage(&device, at, 0x55);
        let (wide, expected) = salvaged(&mut device, 64 * 1024);
        assert!(expected.entries.len() > 115 && !expected.findings.is_empty());
        for size in [128, 160, 256, 500, 1024, 4096] {
            let (recovered, told) = salvaged(&mut device, size);
            assert_eq!(recovered.report, wide.report, "entry {entry}, {before} before it, {size} bytes");
            assert_eq!(told, expected, "entry {entry}, {before} before it, {size} bytes");
        }
    }
}

#[test]
fn what_is_committed_and_what_stands_behind_it_is_handed_out_alike_in_every_buffer() {
    let device = MemoryDevice::new(GEOMETRY);
    let mut medium = device.reader();
    let config = Config { environment: Counter::new(), idle_mark: None, write_behind: None, ..Config::new("memory") };
    let log = Log::open_device(device, config).unwrap();
    let mut expected = Vec::new();
    for n in 0..20 {
        let payload = |what: u8| vec![what + n; PAYLOAD];
        let alone = |what: u8| (log.append(&payload(what)[..]).unwrap().lsn().value(), payload(what));
        let transaction = log.transaction().unwrap();
        let first = transaction.append(&payload(0)[..]).unwrap().lsn().value();
        let between = alone(50);
        // A transaction is read again where its commit stands: as far as this batch, and the commit is read no second time.
        let last = transaction.append_batch(&[payload(100), payload(150)]).unwrap().unwrap().last.value();
        transaction.commit().unwrap();
        expected.extend([between, (first, payload(0)), (last - 1, payload(100)), (last, payload(150)), alone(200)]);
    }
    log.close().unwrap();
    drop(log);
    for size in [128, 160, 256, 500, 1024, 4096, 64 * 1024] {
        let (mut told, mut buf) = (Told::default(), vec![0; size].into_boxed_slice());
        let recovered = drive(Recovery::new(RecoveryOptions::default()), &mut medium, &mut *buf, &mut ()).unwrap();
        let replay = Replay::new(recovered.view, Lsn::FIRST, Policy::Default);
        drive(replay, &mut medium, &mut *buf, &mut told).unwrap();
        assert_eq!(told, Told { entries: expected.clone(), findings: vec![] }, "{size} bytes");
    }
}

#[test]
fn a_buffer_that_does_not_hold_an_entry_and_cannot_grow_is_told_how_much_it_takes() {
    let mut device = log(8);
    let mut buf = [0; PAYLOAD];
    let failed = drive(Recovery::new(RecoveryOptions::default()), &mut device, &mut buf, &mut ());
    assert!(matches!(failed, Err(Error::Fault(Fault::BufferTooSmall { needed: 128 }))), "{failed:?}");
    let geometry = Geometry { segment_size: 32 * 1024, ..GEOMETRY };
    let mut writer = Writer::create(WriterOptions::new(geometry), Uuid::from_u128(7)).unwrap();
    let mut device = MemoryDevice::new(geometry);
    let mut wide = vec![0; 4096];
    let begun = drive(Begin::new(writer.plan(1, 5).unwrap()), &mut device, &mut wide, &mut ()).unwrap();
    writer.begun(&begun);
    writer.stage(&mut wide, 1, None, &[&[7; 500][..]]).unwrap();
    let group = writer.take(&mut wide, Durability::Durable).unwrap().unwrap();
    drive(Commit::new(group), &mut device, &mut wide, &mut ()).unwrap();
    let failed = drive(Recovery::new(RecoveryOptions::default()), &mut device, &mut [0; 400], &mut ());
    assert!(matches!(failed, Err(Error::Fault(Fault::BufferTooSmall { needed: 533 }))), "{failed:?}");
}
