//! The core's own handles, blocking and awaited, write what the native log writes: the same bytes for the same calls. What else
//! they do, each test asks of both.
#![allow(missing_docs)]

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use duralog::{
    Config, Durability, Environment, Geometry, Log, Lsn, MemoryDevice, Object, Snapshot, SyncMode, Transaction,
    faulty::{Failure, Keep, Medium, Plan},
};
use duralog_core::{
    AsyncLog, Cause, Each, Entry, Error, Fault, Finding, Flow, LogError, LogOptions, LogPlace, OpenError, Policy, Read,
    Seen, TransactionEnd,
};
use duralog_tests::{
    Awaited,
    handle::{Handle, ID, Kind, NOW, both, buf},
    now, payload, poll_times,
};

const GEOMETRY: Geometry =
    Geometry { segment_size: 2048, granule: 16, copy_offset: 128, blank: 0xFF, settled: false, slots: None };

/// No clock, and a source of random numbers that knows two: first the log's id, then nonces.
#[derive(Debug)]
struct Still(AtomicBool);

impl Environment for Still {
    fn now_us(&self) -> u64 {
        NOW
    }

    fn random(&self) -> u128 {
        if self.0.swap(true, Ordering::Relaxed) { 0x5555 } else { ID.as_u128() }
    }
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Append(usize),
    Batch(usize, usize),
    /// Two entries in a transaction, one beside it, and the end.
    Transaction(TransactionEnd),
    Sync,
    Slot(&'static [u8]),
    Checkpoint(usize),
    Truncate(u64),
    Discard(u64),
    /// Closes it and opens it again.
    Reopen,
    /// The same, without closing it.
    Abandon,
}

use Call::{Abandon, Append, Batch, Checkpoint, Discard, Reopen, Slot, Sync, Truncate};

struct Native {
    log: Option<Log<MemoryDevice>>,
    medium: MemoryDevice,
    mode: SyncMode,
}

impl Native {
    fn new(mode: SyncMode) -> Self {
        let device = MemoryDevice::new(GEOMETRY);
        let medium = device.reader();
        let config = Config { expect_log_id: None, ..Self::config(mode) };
        let log = Log::open_device(device, config.with_environment(Arc::new(Still(AtomicBool::new(false)))));
        let log = Some(log.unwrap());
        Self { log, medium, mode }
    }

    fn config(mode: SyncMode) -> Config {
        let config = Config { idle_mark: None, write_behind: None, expect_log_id: Some(ID), ..Config::default() };
        config.with_sync_mode(mode).with_environment(Arc::new(Still(AtomicBool::new(true))))
    }

    fn call(&mut self, call: Call, number: u64) {
        let log = self.log.as_ref().unwrap();
        match call {
            Append(len) => drop(log.append(&payload(number, len)[..]).unwrap()),
            Batch(count, len) => {
                let payloads: Vec<_> = (0..count as u64).map(|n| payload(number + n, len)).collect();
                let payloads: Vec<_> = payloads.iter().map(|payload| &payload[..]).collect();
                log.append_batch(&payloads).unwrap();
            }
            Call::Transaction(end) => {
                let transaction: Transaction<'_, _> = log.transaction().unwrap();
                transaction.append(&payload(number, 9)[..]).unwrap();
                log.append(&payload(number, 3)[..]).unwrap();
                transaction.append(&payload(number, 20)[..]).unwrap();
                match end {
                    TransactionEnd::Commit => drop(transaction.commit().unwrap()),
                    TransactionEnd::Rollback => transaction.rollback().unwrap(),
                }
            }
            Sync => drop(log.sync().unwrap()),
            Slot(bytes) => log.set_slot(bytes).unwrap(),
            Checkpoint(len) => {
                let snapshot = Snapshot { bytes: payload(number, len), ..Snapshot::default() };
                log.checkpoint(log.checkpoint_at(), &snapshot).unwrap();
            }
            Truncate(lsn) => drop(log.truncate_before(Lsn::new(lsn)).unwrap()),
            Discard(lsn) => drop(log.discard_before(Lsn::new(lsn)).unwrap()),
            Reopen | Abandon => {
                if let Reopen = call {
                    log.close().unwrap();
                }
                self.log = None;
                let device = self.medium.writer().unwrap();
                self.log = Some(Log::open_device(device, Self::config(self.mode)).unwrap());
            }
        }
    }

    fn entries(&mut self) -> Vec<(u64, Vec<u8>)> {
        let entries = self.log.as_ref().unwrap().read_from(Lsn::ZERO).unwrap();
        entries.map(|entry| entry.map(|entry| (entry.lsn.value(), entry.payload)).unwrap()).collect()
    }
}

fn options(mode: SyncMode) -> LogOptions {
    let durability = if mode == SyncMode::Immediate { Durability::Durable } else { Durability::Buffered };
    LogOptions { durability, metadata: true, nonce: || 0x5555, expect_log: Some(ID), ..LogOptions::default() }
}

struct Core {
    log: Option<Handle<'static, MemoryDevice>>,
    medium: MemoryDevice,
    kind: Kind,
    mode: SyncMode,
}

impl Core {
    fn new(kind: Kind, mode: SyncMode) -> Self {
        let device = MemoryDevice::new(GEOMETRY);
        let medium = device.reader();
        let log = Some(kind.format(device, options(mode)).unwrap());
        Self { log, medium, kind, mode }
    }

    fn call(&mut self, call: Call, number: u64) {
        let log = self.log.as_mut().unwrap();
        match call {
            Append(len) => {
                let appended = log.append(&payload(number, len)).unwrap();
                assert_eq!(appended.durability, Durability::Buffered, "memory keeps no more");
            }
            Batch(count, len) => {
                let payloads: Vec<_> = (0..count as u64).map(|n| payload(number + n, len)).collect();
                let payloads: Vec<_> = payloads.iter().map(|payload| &payload[..]).collect();
                log.append_batch(&payloads).unwrap();
            }
            Call::Transaction(end) => {
                let id = log.begin_transaction().unwrap();
                log.append_to(id, &payload(number, 9)).unwrap();
                log.append(&payload(number, 3)).unwrap();
                log.append_to(id, &payload(number, 20)).unwrap();
                log.end_transaction(id, end).unwrap();
            }
            Sync => drop(log.sync().unwrap()),
            Slot(bytes) => log.set_slot(bytes).unwrap(),
            Checkpoint(len) => {
                let id = log.checkpoint(&payload(number, len)).unwrap();
                assert_eq!(log.stats().checkpoint.unwrap().0, id);
            }
            Truncate(lsn) => drop(log.truncate_before(Lsn::new(lsn)).unwrap()),
            Discard(lsn) => drop(log.discard_before(Lsn::new(lsn)).unwrap()),
            Reopen | Abandon => {
                let mut log = self.log.take().unwrap();
                if let Reopen = call {
                    log.close().unwrap();
                } else {
                    // The native log syncs when it is dropped.
                    log.sync().unwrap();
                    drop(log);
                }
                let device = self.medium.writer().unwrap();
                self.log = Some(self.kind.open(device, options(self.mode)).unwrap());
            }
        }
    }
}

const CALLS: &[Call] = &[
    Append(24),
    Append(0),
    Batch(3, 12),
    Slot(b"where I was"),
    Sync,
    Call::Transaction(TransactionEnd::Commit),
    Append(300),
    Append(200),
    Reopen,
    Reopen,
    Batch(2, 150),
    Call::Transaction(TransactionEnd::Rollback),
    // The native log takes the place of a checkpoint before it syncs, when the rollback is not written yet.
    Sync,
    Checkpoint(700),
    Append(290),
    Append(300),
    Abandon,
    Append(40),
    Checkpoint(10),
    Truncate(9),
    Append(250),
    Append(290),
    Checkpoint(0),
    Truncate(1000),
    Slot(b""),
    Append(290),
    Discard(28),
    Abandon,
    Abandon,
    Batch(4, 60),
    Sync,
    Reopen,
];

#[test]
fn the_handles_of_the_core_write_the_bytes_of_the_native_log() {
    for (kind, mode) in both().flat_map(|kind| [(kind, SyncMode::Immediate), (kind, SyncMode::Async)]) {
        let (mut native, mut other) = (Native::new(mode), Core::new(kind, mode));
        for (number, call) in (0..).step_by(10).zip(CALLS) {
            native.call(*call, number);
            other.call(*call, number);
            let names = native.medium.names();
            assert_eq!(names, other.medium.names(), "{mode:?}, after {call:?} {number}");
            for object in names {
                let (here, there) = (native.medium.object(object), other.medium.object(object));
                assert!(here == there, "{object} differs in {mode:?}, after {call:?} {number}");
            }
            let slots = (native.log.as_ref().unwrap().slot(), other.log.as_ref().unwrap().slot());
            assert_eq!(slots.0, slots.1, "{mode:?}, after {call:?} {number}");
        }
        let entries = native.entries();
        assert!(entries.len() > 4);
        assert_eq!(other.log.as_mut().unwrap().entries(), entries);
        assert_eq!(other.medium.names(), native.medium.names());
        assert!(native.medium.names().iter().any(|object| matches!(object, Object::Checkpoint(_))));
    }
}

#[test]
fn a_log_is_made_by_one_call_and_opened_by_another() {
    for kind in both() {
        let mut device = MemoryDevice::new(GEOMETRY);
        let open = kind.open(&mut device, LogOptions::default());
        assert!(matches!(open, Err(OpenError::Drive(Error::Fault(Fault::NoLog)))));
        kind.format(&mut device, LogOptions::default()).map(drop).unwrap();
        let again = kind.format(&mut device, LogOptions::default());
        assert!(matches!(again, Err(OpenError::Exists)));
        let salvage = LogOptions { policy: Policy::Salvage, ..LogOptions::default() };
        let refused = kind.open(&mut device, salvage);
        assert!(matches!(refused, Err(OpenError::Policy(Policy::Salvage))));
        let mut log = kind.open(&mut device, LogOptions::default()).unwrap();
        assert_eq!(log.report().last, Lsn::ZERO);
        assert_eq!(log.append(b"first").unwrap().first, Lsn::FIRST);
    }
}

#[test]
fn a_log_in_its_place_is_opened_there_made_there_and_opened_again() {
    let buf = buf();
    let mut place = LogPlace::new(MemoryDevice::new(GEOMETRY), buf, LogOptions::default());
    let none = place.open(NOW).unwrap_err();
    assert!(matches!(none, OpenError::Drive(Error::Fault(Fault::NoLog))), "{none:?}");
    let log = place.format(ID, NOW).unwrap();
    log.append(NOW, &b"an entry"[..]).unwrap();
    assert!(matches!(place.format(ID, NOW).unwrap_err(), OpenError::Exists));
    let report = place.open(NOW).unwrap().report().clone();
    assert_eq!((report.last.value(), report.closed), (1, false));
    // Nothing of an earlier opening is left, whatever was found then.
    assert_eq!(place.open(NOW).unwrap().append(NOW, &b"another"[..]).unwrap().first.value(), 2);
    assert_eq!(place.open(NOW).unwrap().stats().groups, 0);
    place.close(NOW).unwrap();
    assert_eq!(read(place.device()), [b"an entry".to_vec(), b"another".to_vec()]);
    let log = duralog_core::Log::open(place.into_device(), buf, LogOptions::default(), NOW).unwrap();
    assert!(log.report().closed);
}

#[test]
fn a_place_refuses_options_that_cannot_be_before_it_reads_anything() {
    let buf = buf();
    let options = LogOptions { policy: Policy::Salvage, ..LogOptions::default() };
    let mut place = LogPlace::new(MemoryDevice::new(GEOMETRY), buf, options);
    assert!(matches!(place.open(NOW).unwrap_err(), OpenError::Policy(Policy::Salvage)));
    assert!(matches!(place.format(ID, NOW).unwrap_err(), OpenError::Policy(Policy::Salvage)));
}

#[test]
fn whoever_closes_a_log_loses_nothing_and_whoever_takes_its_device_what_was_not_written() {
    for kind in both() {
        let mut log = kind.format(MemoryDevice::new(GEOMETRY), options(SyncMode::Async)).unwrap();
        log.append(b"not written").unwrap();
        let mut log = kind.open(log.into_device(), options(SyncMode::Async)).unwrap();
        assert_eq!(log.report().last, Lsn::ZERO);
        log.append(b"not written yet").unwrap();
        let medium = log.device().reader();
        log.close().unwrap();
        let log = kind.open(medium.writer().unwrap(), options(SyncMode::Async)).unwrap();
        assert_eq!((log.report().last, log.report().closed), (Lsn::FIRST, true));
    }
}

#[test]
fn where_nobody_else_can_write_a_handle_goes_on_in_the_segment_that_it_finds() {
    for kind in both() {
        let mut log = kind.format(MemoryDevice::default(), LogOptions::default()).unwrap();
        log.append(b"before").unwrap();
        let mut log = kind.open(log.into_device(), LogOptions::default()).unwrap();
        log.append(b"behind it").unwrap();
        assert_eq!((log.stats().segments, log.device().names().len()), (0, 1));
    }
}

#[test]
fn an_entry_needs_the_buffer_that_the_log_asks_for_and_no_more() {
    for (kind, len) in both().flat_map(|kind| [(kind, 0), (kind, 40), (kind, 100)]) {
        let mut device = MemoryDevice::new(GEOMETRY);
        kind.format(&mut device, LogOptions::default()).map(drop).unwrap();
        let mut large = [0; 512];
        let needed = kind.open_in(&mut device, &mut large, LogOptions::default()).unwrap().buffer_min(len + 33);
        assert!(needed > len as usize + 33, "{needed} bytes are too few for {len}");
        let (payload, mut buf) = (payload(1, len as usize), vec![0; needed]);
        let mut log = kind.open_in(&mut device, &mut buf, LogOptions::default()).unwrap();
        log.append(&payload).unwrap();
        let larger = vec![0; needed];
        assert!(matches!(log.append(&larger), Err(LogError::BufferTooSmall { .. })));
        log.append(&payload).unwrap();
        log.close().unwrap();
    }
}

#[test]
fn what_poisons_a_handle_is_told_by_every_later_call() {
    let device = Awaited(MemoryDevice::new(GEOMETRY));
    let mut log = now(AsyncLog::format(device, buf(), LogOptions::default(), ID, NOW)).unwrap();
    assert!(poll_times(log.append(NOW, &b"never finished"[..]), 1).is_none());
    let mut log: Handle<'_, MemoryDevice> = Handle::Awaited(log);
    for _ in 0..2 {
        let refused = log.append(b"later");
        assert!(matches!(refused, Err(LogError::Poisoned { cause: Cause::Abandoned })));
    }
    assert_eq!(log.entries().len(), 0);
}

#[test]
fn a_log_that_found_no_room_for_a_segment_is_sealed_in_the_one_it_has_and_loses_nothing() {
    for kind in both() {
        let device = MemoryDevice::new(GEOMETRY).with_capacity_limit(u64::from(GEOMETRY.segment_size));
        let medium = device.reader();
        let mut log = kind.format(device, LogOptions::default()).unwrap();
        let mut appended = 0;
        let full = loop {
            match log.append(&payload(appended, 60)) {
                Ok(_) => appended += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(full, LogError::Full), "{full}");
        log.close().unwrap();
        let device = medium.writer().unwrap().with_capacity_limit(u64::MAX);
        let mut log = kind.open(device, LogOptions::default()).unwrap();
        assert!(log.report().closed);
        assert_eq!(log.report().last.value(), appended);
        log.append(b"there is room again").unwrap();
    }
}

#[test]
fn a_durable_mark_has_what_it_covers_missed_and_what_none_covers_may_be_torn() {
    for (kind, is_marked) in both().flat_map(|kind| [(kind, true), (kind, false)]) {
        let mut log = kind.format(MemoryDevice::new(GEOMETRY), options(SyncMode::Async)).unwrap();
        let medium = log.device().reader();
        log.append(b"the last one").unwrap();
        if is_marked {
            log.mark_durable().unwrap();
            assert_eq!(log.stats().durable, Lsn::FIRST);
            let written = log.stats().groups;
            log.mark_durable().unwrap();
            assert_eq!(log.stats().groups, written, "another mark would say nothing new");
        } else {
            log.sync().unwrap();
        }
        drop(log);
        rot(&medium, medium.names()[0], b"the last one");
        match kind.open(medium.writer().unwrap(), options(SyncMode::Async)) {
            Ok(log) => assert!(!is_marked && log.report().last == Lsn::ZERO, "{:?}", log.report()),
            Err(OpenError::Refused(Some(finding))) => {
                assert!(is_marked && finding.lsns == Some((Lsn::FIRST, Lsn::FIRST)), "{finding:?}");
            }
            Err(error) => panic!("marked: {is_marked}: {error:?}"),
        }
    }
}

/// Turns over a bit of what an object holds.
fn rot(medium: &MemoryDevice, object: Object, what: &[u8]) {
    let mut bytes = medium.object(object).unwrap();
    let at = bytes.windows(what.len()).position(|bytes| bytes == what).unwrap();
    bytes[at] ^= 1;
    medium.put(object, bytes);
}

#[test]
fn a_state_that_truncation_relied_on_a_checkpoint_for_is_not_lost_in_silence() {
    for kind in both() {
        let mut log = kind.format(MemoryDevice::new(GEOMETRY), LogOptions::default()).unwrap();
        let medium = log.device().reader();
        let open = || kind.open(medium.writer().unwrap(), LogOptions::default()).unwrap();
        for _ in 0..40 {
            log.append(b"in the checkpoint").unwrap();
        }
        let id = log.checkpoint(b"state").unwrap();
        log.append(b"behind it").unwrap();
        assert_eq!(log.truncate_before(Lsn::MAX).unwrap(), Lsn::new(41));
        log.close().unwrap();

        let mut log = open();
        assert_eq!(log.load_checkpoint().unwrap(), Some(Lsn::new(40)));
        log.close().unwrap();
        // The head is whole, and what it holds is not.
        rot(&medium, Object::Checkpoint(id), b"state");

        let lost =
            |finding: &Finding| finding.seen == Seen::StateLost && finding.lsns == Some((Lsn::FIRST, Lsn::new(40)));
        let mut log = open();
        let loaded = log.load_checkpoint();
        assert!(
            matches!(&loaded, Err(LogError::Drive(Error::Fault(Fault::Damaged(finding)))) if lost(finding)),
            "{loaded:?}"
        );
        let written = log.checkpoint(b"");
        assert!(
            matches!(written, Err(LogError::Poisoned { cause: Cause::Fault })),
            "a loss is not made final: {written:?}"
        );
    }
}

#[test]
fn what_was_discarded_is_missed_once_a_checkpoint_held_it_and_is_not_valid() {
    // Given up before the checkpoint, which holds it; or behind it, while a transaction is open that it needs entries of.
    for (kind, before) in both().flat_map(|kind| [(kind, true), (kind, false)]) {
        let mut log = kind.format(MemoryDevice::new(GEOMETRY), LogOptions::default()).unwrap();
        let medium = log.device().reader();
        log.append(b"given up").unwrap();
        log.append(b"left").unwrap();
        if before {
            assert_eq!(log.discard_before(Lsn::new(2)).unwrap(), Lsn::new(2));
        } else {
            log.begin_transaction().unwrap();
        }
        assert_eq!(log.load_checkpoint().unwrap(), None);
        let id = log.checkpoint(b"state").unwrap();
        if !before {
            assert_eq!(log.discard_before(Lsn::new(4)).unwrap(), Lsn::new(4));
        }
        log.close().unwrap();
        rot(&medium, Object::Checkpoint(id), b"state");
        let mut log = kind.open(medium.writer().unwrap(), LogOptions::default()).unwrap();
        let loaded = log.load_checkpoint();
        let is_missed = match &loaded {
            Err(LogError::Drive(Error::Fault(Fault::Damaged(finding)))) => before && finding.seen == Seen::StateLost,
            Err(LogError::Drive(Error::Fault(Fault::Truncated { .. }))) => !before,
            _ => false,
        };
        assert!(is_missed, "before: {before}: {loaded:?}");
    }
}

#[test]
fn a_checkpoint_that_is_known_to_be_valid_is_loaded_without_reading_the_log() {
    for kind in both() {
        let medium = Medium::new(GEOMETRY);
        let mut log = kind.format(medium.device(), LogOptions::default()).unwrap();
        log.append(b"given up").unwrap();
        // The checkpoint needs its entries, and holds all before the end: what is discarded is not said to be held.
        log.begin_transaction().unwrap();
        log.checkpoint(b"state").unwrap();
        log.discard_before(Lsn::new(3)).unwrap();
        let before = medium.trace().len();
        assert_eq!(log.load_checkpoint().unwrap(), Some(Lsn::new(2)));
        let trace = medium.trace().split_off(before);
        assert!(trace.contains(".ckpt") && !trace.contains(".wal"), "{trace}");
    }
}

#[test]
fn of_a_checkpoint_whose_entry_is_refused_no_crash_brings_the_entry_back() {
    for kind in both() {
        let medium = Medium::new(GEOMETRY);
        let mut log = kind.format(medium.device(), LogOptions::default()).unwrap();
        log.append(b"given up").unwrap();
        log.append(b"left").unwrap();
        log.discard_before(Lsn::new(2)).unwrap();
        // It is created, written and synced; then all of its entry's bytes reach the medium, and there is no room.
        medium.set_plan(Plan { fail: vec![(3, Failure::NoSpaceAfter(usize::MAX))], ..Plan::default() });
        let refused = log.checkpoint(b"");
        assert!(matches!(refused, Err(LogError::Full)), "{refused:?}\n{}", medium.trace());
        drop(log);
        medium.power_cut(|_| Keep::All);
        assert!(!medium.names().iter().any(|name| matches!(name, Object::Checkpoint(_))));
        let mut log = kind.open(medium.device(), LogOptions::default()).unwrap();
        let loaded = log.load_checkpoint();
        assert!(matches!(loaded, Ok(None)), "{loaded:?}\n{}", medium.trace());
    }
}

/// There is no room for the next call.
fn refuse_next(medium: &Medium) {
    medium.set_plan(Plan { fail: vec![(0, Failure::NoSpace)], ..Plan::default() });
}

#[test]
fn a_checkpoint_that_finds_no_room_leaves_the_log_as_it_was_and_any_other_failure_is_told_as_itself() {
    for kind in both() {
        let medium = Medium::new(GEOMETRY);
        let mut log = kind.format(medium.device(), LogOptions::default()).unwrap();
        log.append(b"before").unwrap();
        // It is created, and then there is room for half of what is written of it.
        medium.set_plan(Plan { fail: vec![(1, Failure::NoSpaceAfter(16))], ..Plan::default() });
        let refused = log.checkpoint(b"state");
        assert!(matches!(refused, Err(LogError::Full)), "{refused:?}");
        assert!(!medium.names().iter().any(|name| matches!(name, Object::Checkpoint(_))));
        log.append(b"behind it").unwrap();
        medium.set_plan(Plan { fail: vec![(1, Failure::Error)], ..Plan::default() });
        let failed = log.checkpoint(b"state");
        assert!(matches!(failed, Err(LogError::Drive(Error::Device { .. }))), "{failed:?}");
        let later = log.append(b"later");
        assert!(matches!(later, Err(LogError::Poisoned { .. })), "{later:?}");
    }
}

#[test]
fn what_was_appended_and_not_written_is_read_too_and_stays_as_it_was() {
    for kind in both() {
        let mut log = kind.format(MemoryDevice::new(GEOMETRY), options(SyncMode::Async)).unwrap();
        let expected = [b"first".to_vec(), b"second".to_vec(), b"third".to_vec()];
        for (count, entry) in (1..).zip(&expected) {
            log.append(entry).unwrap();
            let read = log.entries().into_iter().map(|(_, payload)| payload);
            assert!(read.eq(expected[..count].iter().cloned()), "{count}");
        }
        log.sync().unwrap();
        assert_eq!(read(log.device()), expected);
    }
}

#[test]
fn a_checkpoint_begins_a_segment_where_an_opening_found_no_room_to_make_durable_what_it_holds_and_nowhere_else() {
    for kind in both() {
        let medium = Medium::new(GEOMETRY);
        let mut log = kind.format(medium.device(), LogOptions::default()).unwrap();
        log.append(b"in a cache, for all that is known").unwrap();
        drop(log);
        medium.kill();
        refuse_next(&medium);
        let mut log = kind.open(medium.device(), LogOptions::default()).unwrap();
        assert_eq!((log.stats().durable, log.report().last), (Lsn::ZERO, Lsn::FIRST), "{}", medium.trace());
        refuse_next(&medium);
        let refused = log.checkpoint(b"");
        assert!(matches!(refused, Err(LogError::Full)), "{refused:?}");
        let trace = medium.trace();
        assert!(!trace.contains(".ckpt"), "there is one of what is not durable:\n{trace}");
        for _ in 0..3 {
            log.checkpoint(b"").unwrap();
            assert_eq!(log.stats().segments, 1);
        }
    }
}

#[test]
fn what_is_staged_when_a_segment_ends_is_in_it_and_is_not_given_back_with_its_room() {
    let expected: Vec<_> = (0..200u32).map(|n| format!("entry {n} of a log of some segments").into_bytes()).collect();
    for kind in both() {
        let buffered = LogOptions { durability: Durability::Buffered, ..LogOptions::default() };
        let mut log = kind.format(MemoryDevice::new(GEOMETRY), buffered).unwrap();
        for entry in &expected {
            log.append(entry).unwrap();
        }
        log.sync().unwrap();
        assert_eq!(read(log.device()), expected);

        // Of a transaction no entry is written before the next call that is.
        let mut log = kind.format(MemoryDevice::new(GEOMETRY), LogOptions::default()).unwrap();
        let id = log.begin_transaction().unwrap();
        for entry in &expected {
            log.append_to(id, entry).unwrap();
        }
        log.end_transaction(id, TransactionEnd::Commit).unwrap();
        assert_eq!(read(log.device()), expected);
    }
}

/// The payloads of the entries that count, as a reader finds them.
fn read(medium: &MemoryDevice) -> Vec<Vec<u8>> {
    let config = Config { expect_log_id: Some(ID), ..Config::default() };
    let reader = duralog::LogReader::open_device(medium.reader(), config).unwrap();
    let entries = reader.replay_from(Lsn::FIRST).unwrap();
    entries.map_while(|entry| entry.ok().map(|entry| entry.payload)).collect()
}

#[test]
fn a_transaction_that_finds_no_room_is_rolled_back_and_the_handle_goes_on() {
    for kind in both() {
        let medium = Medium::new(GEOMETRY);
        let mut log = kind.format(medium.device(), LogOptions::default()).unwrap();
        let id = log.begin_transaction().unwrap();
        log.append_to(id, b"x").unwrap();
        medium.set_plan(Plan { fail: vec![(0, Failure::NoSpaceAfter(50))], ..Plan::default() });
        let committed = log.end_transaction(id, TransactionEnd::Commit);
        assert!(matches!(committed, Err(LogError::Full)), "{committed:?}");
        medium.set_plan(Plan::default());
        log.append(b"goes on").unwrap();
        assert!(matches!(log.end_transaction(id, TransactionEnd::Commit), Err(LogError::NoTransaction)));
        let mut counts = Vec::new();
        let mut each = Each(|entry: Entry<'_>| {
            counts.push(entry.payload.to_vec());
            Flow::Continue
        });
        let replayed = log.replay(&mut each).unwrap();
        assert_eq!(counts, [b"goes on"]);
        assert!(replayed.is_some_and(|read| read != Read::default()), "{replayed:?}");
    }
}

#[test]
fn on_a_full_medium_a_log_opens_and_truncation_makes_room() {
    for (kind, segments) in both().flat_map(|kind| [6, 7, 10].map(|segments| (kind, segments))) {
        for (settled, is_reopened) in [(true, false), (true, true), (false, false), (false, true)] {
            let geometry = Geometry { settled, ..GEOMETRY };
            let room = u64::from(geometry.segment_size) * segments;
            let device = MemoryDevice::new(geometry).with_capacity_limit(room);
            let medium = device.reader();
            let mut log = kind.format(device, LogOptions::default()).unwrap();
            for _ in 0..30 {
                log.append(b"held by a checkpoint").unwrap();
            }
            log.checkpoint(b"").unwrap();
            while log.append(b"until there is no room").is_ok() {}
            if is_reopened {
                drop(log);
                log = kind.open(medium.writer().unwrap(), LogOptions::default()).unwrap();
            }
            let truncated = log.truncate_before(Lsn::MAX);
            assert!(matches!(truncated, Ok(lsn) if lsn == Lsn::new(31)), "{segments}, {is_reopened}: {truncated:?}");
            log.append(b"there is room again").unwrap();
            let last = log.close();
            assert!(last.is_ok(), "{last:?}");
            let log = kind.open(medium.writer().unwrap(), LogOptions::default()).unwrap();
            assert_eq!(log.report().low_water, Lsn::new(31));
        }
    }
}

#[test]
fn a_truncation_that_gives_up_no_more_than_the_one_before_writes_nothing() {
    for kind in both() {
        let medium = Medium::new(GEOMETRY);
        let metadata = LogOptions { metadata: true, ..LogOptions::default() };
        let mut log = kind.format(medium.device(), metadata).unwrap();
        for _ in 0..4 {
            log.append(b"entry").unwrap();
        }
        let asked = |medium: &Medium| (medium.calls(), medium.reads());
        medium.set_plan(Plan::default());
        assert_eq!(log.truncate_before(Lsn::MAX).unwrap(), Lsn::FIRST);
        assert_eq!(asked(&medium), (0, 0), "no checkpoint holds any of it");
        log.checkpoint(b"state").unwrap();
        assert_eq!(log.truncate_before(Lsn::new(4)).unwrap(), Lsn::new(4));
        for lsn in [1, 4] {
            medium.set_plan(Plan::default());
            assert_eq!(log.truncate_before(Lsn::new(lsn)).unwrap(), Lsn::new(4));
            assert_eq!(log.discard_before(Lsn::new(lsn)).unwrap(), Lsn::new(4));
            assert_eq!(medium.calls(), 0, "{}", medium.trace());
        }
    }
}

#[test]
fn what_a_cache_alone_may_say_was_given_up_is_said_again_by_the_next_truncation() {
    for kind in both() {
        let medium = Medium::new(GEOMETRY);
        let mut log = kind.format(medium.device(), LogOptions::default()).unwrap();
        for _ in 0..4 {
            log.append(b"entry").unwrap();
        }
        // The mark is written, and its sync loses it; the opening finds it in the cache, and no room for a segment that says it.
        medium.set_plan(Plan { fail: vec![(1, Failure::SyncLoses(Vec::new()))], ..Plan::default() });
        let discarded = log.discard_before(Lsn::new(3));
        assert!(matches!(discarded, Err(LogError::Drive(_))), "{discarded:?}");
        drop(log);
        medium.kill();
        refuse_next(&medium);
        let mut log = kind.open(medium.device(), LogOptions::default()).unwrap();
        assert_eq!(log.stats().low_water, Lsn::new(3));
        refuse_next(&medium);
        let truncated = log.truncate_before(Lsn::MAX);
        assert!(matches!(truncated, Err(LogError::Full)), "{truncated:?}");
        assert_eq!(log.truncate_before(Lsn::MAX).unwrap(), Lsn::new(3));
        drop(log);
        medium.power_cut(|_| Keep::None);
        let log = kind.open(medium.device(), LogOptions::default()).unwrap();
        assert_eq!((log.report().low_water, log.report().last), (Lsn::new(3), Lsn::new(4)));
    }
}

#[test]
fn what_no_checkpoint_holds_is_given_up_only_where_that_can_be_said_first() {
    for kind in both() {
        let device = MemoryDevice::new(GEOMETRY).with_capacity_limit(5 * u64::from(GEOMETRY.segment_size));
        let medium = device.reader();
        let mut log = kind.format(device, LogOptions::default()).unwrap();
        while log.append(b"until there is no room").is_ok() {}
        drop(log);
        let mut log = kind.open(medium.writer().unwrap(), LogOptions::default()).unwrap();
        let before = (medium.names(), log.stats().low_water);
        let discarded = log.discard_before(Lsn::MAX);
        assert!(matches!(discarded, Err(LogError::Full)), "{discarded:?}");
        assert_eq!((medium.names(), log.stats().low_water), before);
    }
}

fn segment(object: Object) -> Option<u64> {
    match object {
        Object::Segment(id) => Some(id.value()),
        _ => None,
    }
}

#[test]
fn of_what_goes_before_anything_says_so_a_crash_leaves_no_gap_behind_a_segment_that_is_there() {
    for kind in both() {
        let capacity = Some(6 * u64::from(GEOMETRY.segment_size));
        for call in 0.. {
            let medium = Medium::new(GEOMETRY);
            let mut log = kind.format(medium.device(), LogOptions::default()).unwrap();
            for _ in 0..60 {
                log.append(b"held by a checkpoint").unwrap();
            }
            log.checkpoint(b"").unwrap();
            medium.set_plan(Plan { capacity, ..Plan::default() });
            while log.append(b"until there is no room").is_ok() {}
            let last = log.stats().durable;
            drop(log);
            // It finds no room for a segment of its own, in which it could say what goes.
            let mut log = kind.open(medium.device(), LogOptions::default()).unwrap();
            medium.set_plan(Plan { capacity, cut_at_call: Some(call), ..Plan::default() });
            let truncated = log.truncate_before(Lsn::MAX);
            drop(log);
            if !medium.is_off() {
                assert!(call > 6, "{call} calls, {truncated:?}");
                break;
            }
            for kept in 0..medium.unsynced().len() {
                let (left, mut number) = (medium.snapshot(), 0..);
                left.power_cut(|_| if number.next() == Some(kept) { Keep::All } else { Keep::None });
                let segments: Vec<_> = left.names().into_iter().filter_map(segment).collect();
                assert!(segments.windows(2).all(|two| two[0] + 1 == two[1]), "{call}, {kept}: {segments:?}");
                left.set_plan(Plan::default());
                let opened = kind.open(left.device(), LogOptions::default());
                let found = opened.map(|log| log.report().last);
                assert!(matches!(found, Ok(found) if found >= last), "{call}, {kept}: {found:?}\n{}", left.trace());
            }
        }
    }
}

/// A log on a medium of so many slots, if their number is fixed, whose newest segment kept its header alone: whoever opens it
/// passes over that segment. And its name.
fn passed_over(kind: Kind, slots: Option<u32>) -> (MemoryDevice, Object) {
    let device = MemoryDevice::new(Geometry { slots, ..GEOMETRY });
    let medium = device.reader();
    let mut log = kind.format(device, LogOptions::default()).unwrap();
    while medium.names().len() < 3 {
        log.append(b"until there are three segments").unwrap();
    }
    drop(log);
    let newest = medium.names()[2];
    let mut bytes = medium.object(newest).unwrap();
    bytes[GEOMETRY.frames_at() as usize..].fill(GEOMETRY.blank);
    medium.put(newest, bytes);
    (medium, newest)
}

#[test]
fn what_was_kept_as_evidence_goes_with_a_truncation_where_slots_are_few() {
    for (kind, slots) in both().flat_map(|kind| [(kind, None), (kind, Some(8))]) {
        let (medium, evidence) = passed_over(kind, slots);
        let mut log = kind.open(medium.writer().unwrap(), LogOptions::default()).unwrap();
        log.append(b"behind it").unwrap();
        assert!(medium.names().contains(&evidence));
        log.discard_before(Lsn::new(2)).unwrap();
        assert_eq!(medium.names().contains(&evidence), slots.is_none(), "{slots:?}");
    }
}

#[test]
fn the_room_of_what_a_truncation_removed_is_free_for_the_segment_that_was_refused() {
    for kind in both() {
        let medium = Medium::new(GEOMETRY);
        let mut log = kind.format(medium.device(), LogOptions::default()).unwrap();
        for _ in 0..30 {
            log.append(b"held by a checkpoint").unwrap();
        }
        log.checkpoint(b"").unwrap();
        // What is removed takes its room until a sync.
        let capacity = Some(6 * u64::from(GEOMETRY.segment_size));
        medium.set_plan(Plan { capacity, ..Plan::default() });
        while log.append(b"until there is no room").is_ok() {}
        assert_eq!(log.truncate_before(Lsn::MAX).unwrap(), Lsn::new(31));
        let appended = log.append(b"there is room again");
        assert!(appended.is_ok(), "{appended:?}\n{}", medium.trace());
    }
}

#[test]
fn appends_that_were_answered_and_found_no_room_are_told_to_be_lost_by_the_call_that_met_it() {
    for kind in both() {
        let medium = Medium::new(GEOMETRY);
        let mut log = kind.format(medium.device(), options(SyncMode::Async)).unwrap();
        log.append(b"answered before it is written").unwrap();
        refuse_next(&medium);
        let refused = log.sync();
        assert!(matches!(refused, Err(LogError::Poisoned { cause: Cause::Dropped })), "{refused:?}");
    }
}
