//! A log on a medium that settles goes on in the segment that it finds, and nothing that was acknowledged is lost by it.
#![allow(missing_docs)]

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use Op::{Append, Batch, Close, Discard, Kill, Leave, Open, PowerCut, Sync};
use duralog::{
    Config, Log, Lsn, MemoryDevice, Object, SharedDevice, SyncMode,
    core::{Device, Geometry, OldWriter, Room, SegmentId},
    faulty::{Failure, Keep, Plan},
};
use duralog_tests::{
    Counter,
    Detail::{Coarse, Fine, Whole},
    Explorer, Left, Moment, Op, Setup,
};

fn config(sync_mode: SyncMode) -> Config {
    let config = Config { idle_mark: None, write_behind: None, ..Config::default() };
    config.with_sync_mode(sync_mode).with_environment(Counter::new())
}

const FIRST: Object = Object::Segment(SegmentId::new(1));

fn segments(names: &[Object]) -> usize {
    names.iter().filter(|name| matches!(name, Object::Segment(_))).count()
}

/// A settled medium after `ops`, and how many segments are on it.
fn played(setup: Setup, ops: &[Op]) -> (Moment, usize) {
    let mut run = Moment::new(setup).run(Plan::default());
    run.play(ops).unwrap();
    let moment = run.end().after_kill();
    let count = segments(&moment.medium.names());
    (moment, count)
}

#[test]
fn a_device_that_restarts_often_uses_no_segment_for_each_start() {
    let device = MemoryDevice::default();
    let medium = device.reader();
    drop(device);
    for n in 0..1000u64 {
        let log = Log::open_device(medium.writer().unwrap(), config(SyncMode::Immediate)).unwrap();
        assert_eq!(log.current_lsn(), Lsn::new(n + 1));
        log.append(&n.to_le_bytes()[..]).unwrap();
        // Every second time the process just ends.
        if n % 2 == 0 {
            log.close().unwrap();
        }
    }
    assert_eq!(segments(&medium.names()), 1);
    let log = Log::open_device(medium.writer().unwrap(), config(SyncMode::Immediate)).unwrap();
    let entries = log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().payload);
    assert!(entries.eq((0..1000u64).map(|n| n.to_le_bytes().to_vec())));
}

#[test]
fn each_start_has_an_epoch_of_its_own() {
    let (moment, count) = played(Setup::SETTLED, &[Open, Append(9), Kill, Open, Append(9), Close, Open, Append(9)]);
    assert_eq!(count, 1);
    let mut run = moment.run(Plan::default());
    run.open(true).unwrap();
    assert_eq!(run.log().recovery().epoch, 3);
}

#[test]
fn opening_without_a_write_leaves_no_trace() {
    for ops in [&[Open, Append(24), Close][..], &[Open, Append(24), Batch(2, 9)], &[Open]] {
        let (moment, _) = played(Setup::SETTLED, ops);
        let before = moment.bytes();
        let mut run = moment.run(Plan::default());
        for _ in 0..3 {
            run.play(&[Open, Close]).unwrap();
        }
        let after: Vec<_> = run.moment().bytes();
        // A sync may have made durable what reads returned; no byte of that changed.
        let read = |bytes: &[duralog_tests::ObjectBytes]| -> Vec<_> {
            bytes.iter().map(|(object, bytes, _)| (*object, bytes.clone())).collect()
        };
        assert_eq!(read(&before), read(&after));
    }
}

#[test]
fn restarts_survive_at_every_call() {
    let mut explorer = Explorer::new();
    let ops = [Open, Append(24), Kill, Open, Batch(2, 16), Close, Open, Append(9), Leave, Open, Kill, Open, Append(12)];
    for setup in [Setup::SETTLED, Setup::SETTLED.buffered(), bytes()] {
        explorer.search("restarts", &Moment::new(setup), &[(&ops, Fine)]);
    }
    explorer.finish("restarts");
}

#[test]
fn a_second_crash_after_a_restart_survives() {
    let mut explorer = Explorer::new();
    for setup in [Setup::SETTLED, Setup::SETTLED.buffered()] {
        let first = [Open, Append(24), Sync, Append(9), Kill, Open, Append(9), Sync];
        explorer.search(
            "restarts, twice",
            &Moment::new(setup),
            &[(&first, Coarse), (&[Open, Append(9), Close], Whole)],
        );
    }
    explorer.finish("restarts, twice");
}

#[test]
fn restarts_with_truncation_survive() {
    let mut explorer = Explorer::new();
    let ops = [Open, Append(24), Append(9), Kill, Open, Discard(1), Kill, Open, Append(9), Discard(1), Close];
    explorer.search("restarts and truncation", &Moment::new(Setup::SETTLED), &[(&ops, Coarse)]);
    explorer.finish("restarts and truncation");
}

/// A settled medium that writes at any byte.
fn bytes() -> Setup {
    Setup { geometry: Geometry { settled: true, ..Setup::BYTES.geometry }, ..Setup::BYTES }
}

/// Behind the last byte of the first segment that is not blank.
fn end_of(moment: &Moment) -> u64 {
    let bytes = moment.medium.object(FIRST).unwrap();
    let blank = moment.setup.geometry.blank;
    bytes.iter().rposition(|byte| *byte != blank).unwrap() as u64 + 1
}

#[test]
fn behind_anything_that_is_not_blank_a_segment_is_begun() {
    for setup in [Setup::SETTLED.buffered(), bytes().buffered()] {
        let half = Append(setup.half());
        let tear = [Open, Append(24), Sync, half, half, half, PowerCut(Left::HalfTheLast)];
        let (_, before) = played(setup, &tear);
        let (_, after) = played(setup, &[&tear[..], &[Open, Append(9), Sync]].concat());
        assert_eq!((before, after), (1, 2), "behind a torn tail");
        // One write reaches no further than the write limit, and the writes that follow reach the end of the segment.
        let (moment, _) = played(setup, &[Open, Append(24), Close]);
        let end = moment.medium.object(FIRST).unwrap().len() as u64;
        let last = setup.geometry.segment_size - u32::try_from(end).unwrap() - 1;
        for distance in [0, setup.write_limit - 1, setup.write_limit, last] {
            let moment = moment.fork();
            moment.medium.overwrite(FIRST, end + u64::from(distance), b"\x5A");
            let mut run = moment.run(Plan::default());
            run.play(&[Open, Append(9), Sync]).unwrap();
            assert_eq!(segments(&run.moment().medium.names()), 2, "{distance} bytes behind the end");
        }
        let (moment, _) = played(setup, &[Open, Append(24), Append(9)]);
        let end = end_of(&moment);
        for distance in [300, 2 * u64::from(setup.write_limit)] {
            let moment = moment.fork();
            moment.medium.make_unreadable(FIRST, end + distance..end + distance + 1);
            let mut run = moment.run(Plan::default());
            run.play(&[Open, Append(9), Sync]).unwrap();
            assert_eq!(segments(&run.moment().medium.names()), 2, "unreadable {distance} bytes behind the end");
        }
    }
}

#[test]
fn a_segment_that_would_be_begun_otherwise_now_is_not_continued() {
    let (moment, _) = played(Setup::SETTLED, &[Open, Append(24), Close]);
    let again = |config: Config| {
        let moment = moment.fork();
        let log = Log::open_device(moment.medium.device(), config).unwrap();
        log.append(&[1; 9][..]).unwrap();
        segments(&moment.medium.names())
    };
    assert_eq!(again(moment.config()), 1);
    assert_eq!(again(moment.config().with_write_limit(640)), 2, "another write limit");
    assert_eq!(again(moment.config().with_sync_mode(SyncMode::Async)), 2, "another sync mode");
    assert_eq!(again(Config { max_transactions: 3, ..moment.config() }), 2, "another limit");
    moment.medium.flip_bit(FIRST, 130, 3);
    assert_eq!(again(moment.config()), 2, "a header of which one copy is damaged");
}

#[test]
fn where_the_epoch_mark_fails_a_segment_is_begun_and_the_append_succeeds() {
    let (moment, _) = played(Setup::SETTLED, &[Open, Append(24), Kill]);
    let first = {
        let mut run = moment.fork().run(Plan::default());
        run.play(&[Open]).unwrap();
        run.calls()
    };
    let failures = [
        Failure::Error,
        Failure::ErrorAfter(1),
        Failure::ErrorAfter(40),
        Failure::ErrorAfter(usize::MAX),
        Failure::NoSpace,
        Failure::NoSpaceAfter(16),
        Failure::SyncLoses(vec![Keep::All]),
        Failure::SyncLoses(vec![Keep::Prefix(20)]),
        Failure::SyncLoses(vec![]),
    ];
    // The epoch mark's write, and its sync.
    for call in [first, first + 1] {
        for failure in &failures {
            let plan = Plan { fail: vec![(call, failure.clone())], ..Plan::default() };
            let mut run = moment.fork().run(plan);
            run.step(Open).unwrap();
            run.step(Append(9)).unwrap();
            assert_eq!(segments(&run.moment().medium.names()), 2, "{failure:?} at call {call}");
            run.step(Batch(2, 9)).unwrap();
            let end = run.end();
            for moment in [end.after_cut(&[]), end.after_kill()] {
                let mut run = moment.run(Plan::default());
                assert_eq!(run.open(true).unwrap().last, 4, "{failure:?} at call {call}");
                run.play(&[Append(9), Close]).unwrap();
            }
        }
    }
}

type Failed = <MemoryDevice as Device>::Error;

/// A device whose n-th write puts down other bits than it was given.
#[derive(Debug)]
struct Worn {
    device: MemoryDevice,
    bad: Arc<AtomicU64>,
}

impl SharedDevice for Worn {
    fn reader(&self) -> Result<Self, Failed> {
        Ok(Self { device: self.device.reader(), bad: self.bad.clone() })
    }

    fn len(&mut self, object: Object) -> Result<u64, Failed> {
        SharedDevice::len(&mut self.device, object)
    }
}

impl Device for Worn {
    type Error = Failed;

    fn geometry(&self) -> Geometry {
        self.device.geometry()
    }
    fn old_writer(&self) -> OldWriter {
        self.device.old_writer()
    }
    fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, Failed> {
        self.device.next(after)
    }
    fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, Failed> {
        self.device.prev(before)
    }
    fn create(&mut self, object: Object, size: u64) -> Result<Room, Failed> {
        self.device.create(object, size)
    }
    fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, Failed> {
        self.device.read(object, at, buf)
    }
    fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), Failed> {
        let mut bytes = bytes.to_vec();
        if self.bad.fetch_sub(1, Ordering::Relaxed) == 1 {
            bytes[13] ^= 4;
        }
        self.device.write(object, at, &bytes)
    }
    fn trim(&mut self, object: Object, at: u64) -> Result<(), Failed> {
        self.device.trim(object, at)
    }
    fn remove(&mut self, object: Object) -> Result<(), Failed> {
        self.device.remove(object)
    }
    fn sync(&mut self) -> Result<(), Failed> {
        self.device.sync()
    }
}

#[test]
fn an_epoch_mark_that_reads_back_otherwise_is_left_behind_for_a_new_segment() {
    let memory = MemoryDevice::default();
    let medium = memory.reader();
    let log = Log::open_device(memory, config(SyncMode::Immediate)).unwrap();
    log.append(&b"first"[..]).unwrap();
    log.close().unwrap();
    drop(log);
    let bad = Arc::new(AtomicU64::new(0));
    let worn = Worn { device: medium.writer().unwrap(), bad: bad.clone() };
    let log = Log::open_device(worn, config(SyncMode::Immediate)).unwrap();
    bad.store(1, Ordering::Relaxed);
    assert_eq!(log.append(&b"second"[..]).unwrap().lsn(), Lsn::new(2));
    drop(log);
    assert_eq!(segments(&medium.names()), 2);
    let log = Log::open_device(medium.writer().unwrap(), config(SyncMode::Immediate).with_full_check()).unwrap();
    assert_eq!(log.recovery().last_valid_lsn, Lsn::new(2));
    assert!(log.recovery().clean, "{:?}", log.recovery());
}

#[test]
fn a_lost_epoch_mark_costs_no_entry_and_is_no_lost_segment() {
    let (moment, _) = played(Setup::SETTLED, &[Open, Append(24), Close, Open, Append(9), Append(9), Append(9)]);
    let bytes = moment.medium.object(FIRST).unwrap();
    // The mark's type: the code 33 behind the magic.
    let mark = (0..bytes.len() - 29).filter(|&at| &bytes[at..at + 4] == b"WAL1" && bytes[at + 28] == 33).nth(1);
    moment.medium.flip_bit(FIRST, mark.unwrap() as u64 + 15, 0);
    let mut run = moment.run(Plan::default());
    let log = Log::open_device(run.moment().medium.device(), run.moment().config()).unwrap();
    let report = log.recovery();
    assert_eq!(report.last_valid_lsn, Lsn::new(4));
    assert!(report.findings.iter().all(|finding| finding.harmless && finding.lsns.is_none()), "{report:?}");
    assert_eq!(report.epoch, 2, "wal.meta tells it");
    drop(log);
    run.play(&[Open, Append(9), Close]).unwrap();
}
