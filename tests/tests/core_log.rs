//! The core's own handles, blocking and awaited, write what the native log writes: the same bytes for the same calls.
#![allow(missing_docs)]

use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use duralog::{
    Config, Durability, Environment, Geometry, Log, Lsn, MemoryDevice, Object, Snapshot, SyncMode, Transaction,
    faulty::{Failure, Keep, Medium, Plan},
};
use duralog_core::{
    AsyncLog, Cause, Each, Error, Fault, Finding, Flow, LogError, LogOptions, OpenError, Policy, Seen, TransactionEnd,
};
use duralog_tests::{Awaited, now, payload, poll_times};
use uuid::Uuid;

const GEOMETRY: Geometry =
    Geometry { segment_size: 2048, granule: 16, copy_offset: 128, blank: 0xFF, settled: false, slots: None };
const NOW: u64 = 1_700_000_000_000_000;
const ID: Uuid = Uuid::from_u128(0x1234_5678_9abc_def0_1122_3344_5566_7788);
/// As much as the native log reads and stages at once.
const BUF: usize = 256 << 10;

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

/// Something that calls are made on.
trait Driven {
    fn call(&mut self, call: Call, number: u64);
    fn medium(&self) -> &MemoryDevice;
    fn entries(&mut self) -> Vec<(u64, Vec<u8>)>;
}

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
}

impl Driven for Native {
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

    fn medium(&self) -> &MemoryDevice {
        &self.medium
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

/// The two handles of the core differ in nothing but that one is awaited.
macro_rules! core_handle {
    ($name:ident, $log:ty, $device:expr, $on:ident) => {
        struct $name {
            log: Option<$log>,
            medium: MemoryDevice,
            mode: SyncMode,
        }

        impl $name {
            fn new(mode: SyncMode) -> Self {
                let device = MemoryDevice::new(GEOMETRY);
                let medium = device.reader();
                let log = $on(<$log>::format($device(device), buf(), options(mode), ID, NOW));
                Self { log: Some(log.unwrap()), medium, mode }
            }
        }

        impl Driven for $name {
            fn call(&mut self, call: Call, number: u64) {
                let log = self.log.as_mut().unwrap();
                match call {
                    Append(len) => {
                        let appended = $on(log.append(NOW, &payload(number, len)[..])).unwrap();
                        assert_eq!(appended.durability, Durability::Buffered, "memory keeps no more");
                    }
                    Batch(count, len) => {
                        let payloads: Vec<_> = (0..count as u64).map(|n| payload(number + n, len)).collect();
                        let payloads: Vec<_> = payloads.iter().map(|payload| &payload[..]).collect();
                        $on(log.append_batch(NOW, &payloads)).unwrap();
                    }
                    Call::Transaction(end) => {
                        let id = $on(log.begin_transaction(NOW)).unwrap();
                        $on(log.append_to(NOW, id, &[&payload(number, 9)[..]])).unwrap();
                        $on(log.append(NOW, &payload(number, 3)[..])).unwrap();
                        $on(log.append_to(NOW, id, &[&payload(number, 20)[..]])).unwrap();
                        $on(log.end_transaction(NOW, id, end)).unwrap();
                    }
                    Sync => drop($on(log.sync()).unwrap()),
                    Slot(bytes) => $on(log.set_slot(NOW, bytes)).unwrap(),
                    Checkpoint(len) => {
                        let snapshot = payload(number, len);
                        let mut rest = &snapshot[..];
                        let id = $on(log.checkpoint(NOW, |buf| {
                            let len = rest.len().min(buf.len());
                            let (next, later) = rest.split_at(len);
                            buf[..len].copy_from_slice(next);
                            rest = later;
                            len
                        }));
                        assert_eq!(log.stats().checkpoint.unwrap().0, id.unwrap());
                    }
                    Truncate(lsn) => drop($on(log.truncate_before(NOW, Lsn::new(lsn))).unwrap()),
                    Discard(lsn) => drop($on(log.discard_before(NOW, Lsn::new(lsn))).unwrap()),
                    Reopen | Abandon => {
                        let mut log = self.log.take().unwrap();
                        if let Reopen = call {
                            drop($on(log.close(NOW)).unwrap());
                        } else {
                            // The native log syncs when it is dropped.
                            $on(log.sync()).unwrap();
                            drop(log);
                        }
                        let device = $device(self.medium.writer().unwrap());
                        self.log = Some($on(<$log>::open(device, buf(), options(self.mode), NOW)).unwrap());
                    }
                }
            }

            fn medium(&self) -> &MemoryDevice {
                &self.medium
            }

            fn entries(&mut self) -> Vec<(u64, Vec<u8>)> {
                let mut entries = vec![];
                let mut each = Each(|entry: duralog_core::Entry<'_>| {
                    entries.push((entry.lsn.value(), entry.payload.to_vec()));
                    Flow::Continue
                });
                let log = self.log.as_mut().unwrap();
                $on(log.read(Lsn::ZERO, Lsn::MAX, &mut each)).unwrap().unwrap();
                entries
            }
        }
    };
}

fn at_once<T>(done: T) -> T {
    done
}

fn buf() -> &'static mut [u8] {
    vec![0; BUF].leak()
}

core_handle!(Blocking, duralog_core::Log<'static, MemoryDevice>, core::convert::identity, at_once);
core_handle!(Async, AsyncLog<'static, Awaited<MemoryDevice>>, Awaited, now);

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
    for mode in [SyncMode::Immediate, SyncMode::Async] {
        let mut native = Native::new(mode);
        let mut others: [Box<dyn Driven>; 2] = [Box::new(Blocking::new(mode)), Box::new(Async::new(mode))];
        for (number, call) in (0..).step_by(10).zip(CALLS) {
            native.call(*call, number);
            for other in &mut others {
                other.call(*call, number);
                let names = native.medium().names();
                assert_eq!(names, other.medium().names(), "{mode:?}, after {call:?} {number}");
                for object in names {
                    let (here, there) = (native.medium().object(object), other.medium().object(object));
                    assert!(here == there, "{object} differs in {mode:?}, after {call:?} {number}");
                }
            }
        }
        let entries = native.entries();
        assert!(entries.len() > 4);
        for mut other in others {
            assert_eq!(other.entries(), entries);
            assert_eq!(other.medium().names(), native.medium().names());
        }
        assert!(native.medium().names().iter().any(|object| matches!(object, Object::Checkpoint(_))));
    }
}

#[test]
fn a_log_is_made_by_one_call_and_opened_by_another() {
    let mut device = MemoryDevice::new(GEOMETRY);
    let mut buf = [0; 8192];
    let open = duralog_core::Log::open(&mut device, &mut buf, LogOptions::default(), NOW);
    assert!(matches!(open, Err(OpenError::Drive(Error::Fault(Fault::NoLog)))));
    duralog_core::Log::format(&mut device, &mut buf, LogOptions::default(), ID, NOW).map(drop).unwrap();
    let again = duralog_core::Log::format(&mut device, &mut buf, LogOptions::default(), ID, NOW);
    assert!(matches!(again, Err(OpenError::Exists)));
    let salvage = LogOptions { policy: Policy::Salvage, ..LogOptions::default() };
    let refused = duralog_core::Log::open(&mut device, &mut buf, salvage, NOW);
    assert!(matches!(refused, Err(OpenError::Policy(Policy::Salvage))));
    let mut log = duralog_core::Log::open(&mut device, &mut buf, LogOptions::default(), NOW).unwrap();
    assert_eq!(log.report().last, Lsn::ZERO);
    assert_eq!(log.append(NOW, &b"first"[..]).unwrap().first, Lsn::FIRST);
}

#[test]
fn an_entry_needs_the_buffer_that_the_log_asks_for_and_no_more() {
    let mut device = MemoryDevice::new(GEOMETRY);
    duralog_core::Log::format(&mut device, &mut [0; 8192], LogOptions::default(), ID, NOW).map(drop).unwrap();
    for len in [0, 40, 100] {
        let mut large = [0; 512];
        let log = duralog_core::Log::open(&mut device, &mut large, LogOptions::default(), NOW).unwrap();
        let needed = log.buffer_min(len + 33);
        drop(log);
        let payload = payload(1, len as usize);
        let mut buf = vec![0; needed];
        let mut log = duralog_core::Log::open(&mut device, &mut buf, LogOptions::default(), NOW).unwrap();
        log.append(NOW, &payload[..]).unwrap();
        let larger = vec![0; needed];
        assert!(matches!(log.append(NOW, &larger[..]), Err(LogError::BufferTooSmall { .. })));
        log.append(NOW, &payload[..]).unwrap();
        log.close(NOW).unwrap();
    }
}

#[test]
fn what_poisons_a_handle_is_told_by_every_later_call() {
    let mut device = Awaited(MemoryDevice::new(GEOMETRY));
    let mut buf = [0; 8192];
    let mut log = now(AsyncLog::format(&mut device, &mut buf, LogOptions::default(), ID, NOW)).unwrap();
    assert!(poll_times(log.append(NOW, &b"never finished"[..]), 1).is_none());
    for _ in 0..2 {
        let refused = now(log.append(NOW, &b"later"[..]));
        assert!(matches!(refused, Err(LogError::Poisoned { cause: Cause::Abandoned })));
    }
    let mut entries = 0;
    let mut each = Each(|_: duralog_core::Entry<'_>| {
        entries += 1;
        Flow::Continue
    });
    now(log.read(Lsn::ZERO, Lsn::MAX, &mut each)).unwrap();
    assert_eq!(entries, 0);
}

#[test]
fn a_log_that_found_no_room_for_a_segment_is_sealed_in_the_one_it_has_and_loses_nothing() {
    let device = MemoryDevice::new(GEOMETRY).with_capacity_limit(u64::from(GEOMETRY.segment_size));
    let medium = device.reader();
    let mut log = duralog_core::Log::format(device, buf(), LogOptions::default(), ID, NOW).unwrap();
    let mut appended = 0;
    let full = loop {
        match log.append(NOW, &payload(appended, 60)[..]) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, LogError::Full), "{full}");
    drop(log.close(NOW).unwrap());
    let device = medium.writer().unwrap().with_capacity_limit(u64::MAX);
    let mut log = duralog_core::Log::open(device, buf(), LogOptions::default(), NOW).unwrap();
    assert!(log.report().closed);
    assert_eq!(log.report().last.value(), appended);
    log.append(NOW, &b"there is room again"[..]).unwrap();
}

#[test]
fn a_state_that_truncation_relied_on_a_checkpoint_for_is_not_lost_in_silence() {
    let device = MemoryDevice::new(GEOMETRY);
    let medium = device.reader();
    let (mut buf, mut other) = ([0; 8192], [0; 8192]);
    let mut log = duralog_core::Log::format(device, &mut buf, LogOptions::default(), ID, NOW).unwrap();
    for _ in 0..40 {
        log.append(NOW, &b"in the checkpoint"[..]).unwrap();
    }
    let mut once = Some(b"state");
    let fill = |buf: &mut [u8]| {
        let Some(state) = once.take() else { return 0 };
        buf[..state.len()].copy_from_slice(state);
        state.len()
    };
    let id = log.checkpoint(NOW, fill).unwrap();
    log.append(NOW, &b"behind it"[..]).unwrap();
    assert_eq!(log.truncate_before(NOW, Lsn::MAX).unwrap(), Lsn::new(41));
    log.close(NOW).unwrap();

    let mut log = duralog_core::Log::open(medium.writer().unwrap(), &mut buf, LogOptions::default(), NOW).unwrap();
    assert_eq!(log.load_checkpoint(&mut ()).unwrap(), Some(Lsn::new(40)));
    log.close(NOW).unwrap();
    // The head is whole, and what it holds is not.
    let mut bytes = medium.object(Object::Checkpoint(id)).unwrap();
    let at = bytes.windows(5).position(|bytes| bytes == b"state").unwrap();
    bytes[at] ^= 1;
    medium.put(Object::Checkpoint(id), bytes);

    let lost = |finding: &Finding| finding.seen == Seen::StateLost && finding.lsns == Some((Lsn::FIRST, Lsn::new(40)));
    let mut log = duralog_core::Log::open(medium.writer().unwrap(), &mut buf, LogOptions::default(), NOW).unwrap();
    let loaded = log.load_checkpoint(&mut ());
    assert!(
        matches!(&loaded, Err(LogError::Drive(Error::Fault(Fault::Damaged(finding)))) if lost(finding)),
        "{loaded:?}"
    );
    let written = log.checkpoint(NOW, |_| 0);
    assert!(
        matches!(written, Err(LogError::Poisoned { cause: Cause::Fault })),
        "a loss is not made final: {written:?}"
    );
    drop(log);
    let device = Awaited(medium.writer().unwrap());
    let mut log = now(AsyncLog::open(device, &mut other, LogOptions::default(), NOW)).unwrap();
    let loaded = now(log.load_checkpoint(&mut ()));
    assert!(
        matches!(&loaded, Err(LogError::Drive(Error::Fault(Fault::Damaged(finding)))) if lost(finding)),
        "{loaded:?}"
    );
}

#[test]
fn what_was_discarded_is_missed_once_a_checkpoint_held_it_and_is_not_valid() {
    let filled = |once: &mut Option<&[u8; 5]>, buf: &mut [u8]| {
        once.take().map_or(0, |state| {
            buf[..5].copy_from_slice(state);
            5
        })
    };
    let rotten = |medium: &MemoryDevice, id| {
        let mut bytes = medium.object(Object::Checkpoint(id)).unwrap();
        let at = bytes.windows(5).position(|bytes| bytes == b"state").unwrap();
        bytes[at] ^= 1;
        medium.put(Object::Checkpoint(id), bytes);
    };
    // Given up before the checkpoint, which holds it; or behind it, while a transaction is open that it needs entries of.
    for before in [true, false] {
        let device = MemoryDevice::new(GEOMETRY);
        let medium = device.reader();
        let (mut buf, mut other) = ([0; 8192], [0; 8192]);
        let mut log = duralog_core::Log::format(device, &mut buf, LogOptions::default(), ID, NOW).unwrap();
        log.append(NOW, &b"given up"[..]).unwrap();
        log.append(NOW, &b"left"[..]).unwrap();
        if before {
            assert_eq!(log.discard_before(NOW, Lsn::new(2)).unwrap(), Lsn::new(2));
        } else {
            log.begin_transaction(NOW).unwrap();
        }
        assert_eq!(log.load_checkpoint(&mut ()).unwrap(), None);
        let mut once = Some(b"state");
        let id = log.checkpoint(NOW, |buf| filled(&mut once, buf)).unwrap();
        if !before {
            assert_eq!(log.discard_before(NOW, Lsn::new(4)).unwrap(), Lsn::new(4));
        }
        log.close(NOW).unwrap();
        rotten(&medium, id);
        let is_lost = |loaded: &Result<Option<Lsn>, LogError<_>>| match loaded {
            Err(LogError::Drive(Error::Fault(Fault::Damaged(finding)))) => before && finding.seen == Seen::StateLost,
            Err(LogError::Drive(Error::Fault(Fault::Truncated { .. }))) => !before,
            _ => false,
        };
        let mut log = duralog_core::Log::open(medium.writer().unwrap(), &mut buf, LogOptions::default(), NOW).unwrap();
        let loaded = log.load_checkpoint(&mut ());
        assert!(is_lost(&loaded), "before: {before}: {loaded:?}");
        drop(log);

        let device = MemoryDevice::new(GEOMETRY);
        let medium = device.reader();
        let log = AsyncLog::format(Awaited(device), &mut other, LogOptions::default(), ID, NOW);
        let mut log = now(log).unwrap();
        now(log.append(NOW, &b"given up"[..])).unwrap();
        now(log.append(NOW, &b"left"[..])).unwrap();
        now(log.discard_before(NOW, Lsn::new(2))).unwrap();
        let mut once = Some(b"state");
        let id = now(log.checkpoint(NOW, |buf| filled(&mut once, buf))).unwrap();
        now(log.close(NOW)).unwrap();
        rotten(&medium, id);
        let device = Awaited(medium.writer().unwrap());
        let mut log = now(AsyncLog::open(device, &mut other, LogOptions::default(), NOW)).unwrap();
        let loaded = now(log.load_checkpoint(&mut ()));
        assert!(
            matches!(&loaded, Err(LogError::Drive(Error::Fault(Fault::Damaged(it)))) if it.seen == Seen::StateLost),
            "{loaded:?}"
        );
    }
}

#[test]
fn of_a_checkpoint_whose_entry_is_refused_no_crash_brings_the_entry_back() {
    let (mut buf, mut other) = ([0; 8192], [0; 8192]);
    // It is created, written and synced; then all of its entry's bytes reach the medium, and there is no room.
    let plan = || Plan { fail: vec![(3, Failure::NoSpaceAfter(usize::MAX))], ..Plan::default() };
    let is_there = |medium: &Medium| medium.names().iter().any(|name| matches!(name, Object::Checkpoint(_)));
    let medium = Medium::new(GEOMETRY);
    let mut log = duralog_core::Log::format(medium.device(), &mut buf, LogOptions::default(), ID, NOW).unwrap();
    log.append(NOW, &b"given up"[..]).unwrap();
    log.append(NOW, &b"left"[..]).unwrap();
    log.discard_before(NOW, Lsn::new(2)).unwrap();
    medium.set_plan(plan());
    let refused = log.checkpoint(NOW, |_| 0);
    assert!(matches!(refused, Err(LogError::Full)), "{refused:?}\n{}", medium.trace());
    drop(log);
    medium.power_cut(|_| Keep::All);
    assert!(!is_there(&medium));
    let mut log = duralog_core::Log::open(medium.device(), &mut buf, LogOptions::default(), NOW).unwrap();
    let loaded = log.load_checkpoint(&mut ());
    assert!(matches!(loaded, Ok(None)), "{loaded:?}\n{}", medium.trace());
    drop(log);

    let medium = Medium::new(GEOMETRY);
    let log = AsyncLog::format(Awaited(medium.device()), &mut other, LogOptions::default(), ID, NOW);
    let mut log = now(log).unwrap();
    now(log.append(NOW, &b"given up"[..])).unwrap();
    now(log.append(NOW, &b"left"[..])).unwrap();
    now(log.discard_before(NOW, Lsn::new(2))).unwrap();
    medium.set_plan(plan());
    let refused = now(log.checkpoint(NOW, |_| 0));
    assert!(matches!(refused, Err(LogError::Full)), "{refused:?}\n{}", medium.trace());
    drop(log);
    medium.power_cut(|_| Keep::All);
    assert!(!is_there(&medium));
    let log = AsyncLog::open(Awaited(medium.device()), &mut other, LogOptions::default(), NOW);
    let loaded = now(now(log).unwrap().load_checkpoint(&mut ()));
    assert!(matches!(loaded, Ok(None)), "{loaded:?}\n{}", medium.trace());
}

#[test]
fn what_is_staged_when_a_segment_ends_is_in_it_and_is_not_given_back_with_its_room() {
    let options = LogOptions { durability: Durability::Buffered, ..LogOptions::default() };
    let (mut buf, mut other) = ([0; 8192], [0; 8192]);
    let expected: Vec<_> = (0..200u32).map(|n| format!("entry {n} of a log of some segments").into_bytes()).collect();
    let device = MemoryDevice::new(GEOMETRY);
    let medium = device.reader();
    let mut log = duralog_core::Log::format(device, &mut buf, options, ID, NOW).unwrap();
    for entry in &expected {
        log.append(NOW, &entry[..]).unwrap();
    }
    log.sync().unwrap();
    assert_eq!(read(&medium), expected);
    drop(log);

    // Of a transaction no entry is written before the next call that is.
    let device = MemoryDevice::new(GEOMETRY);
    let medium = device.reader();
    let mut log = duralog_core::Log::format(device, &mut buf, LogOptions::default(), ID, NOW).unwrap();
    let id = log.begin_transaction(NOW).unwrap();
    for entry in &expected {
        log.append_to(NOW, id, &[&entry[..]]).unwrap();
    }
    log.end_transaction(NOW, id, TransactionEnd::Commit).unwrap();
    assert_eq!(read(&medium), expected);
    drop(log);

    let device = MemoryDevice::new(GEOMETRY);
    let medium = device.reader();
    let mut log = now(AsyncLog::format(Awaited(device), &mut other, options, ID, NOW)).unwrap();
    for entry in &expected {
        now(log.append(NOW, &entry[..])).unwrap();
    }
    now(log.sync()).unwrap();
    assert_eq!(read(&medium), expected);
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
    let medium = Medium::new(GEOMETRY);
    let mut buf = [0; 8192];
    let mut log = duralog_core::Log::format(medium.device(), &mut buf, LogOptions::default(), ID, NOW).unwrap();
    let id = log.begin_transaction(NOW).unwrap();
    log.append_to(NOW, id, &[&b"x"[..]]).unwrap();
    medium.set_plan(Plan { fail: vec![(0, Failure::NoSpaceAfter(50))], ..Plan::default() });
    let committed = log.end_transaction(NOW, id, TransactionEnd::Commit);
    assert!(matches!(committed, Err(LogError::Full)), "{committed:?}");
    medium.set_plan(Plan::default());
    log.append(NOW, &b"goes on"[..]).unwrap();
    assert!(matches!(log.end_transaction(NOW, id, TransactionEnd::Commit), Err(LogError::NoTransaction)));
    let mut counts = Vec::new();
    let mut each = Each(|entry: duralog_core::Entry<'_>| {
        counts.push(entry.payload.to_vec());
        Flow::Continue
    });
    log.replay(Lsn::ZERO, &mut each).unwrap();
    assert_eq!(counts, [b"goes on"]);
}

#[test]
fn on_a_full_medium_a_log_opens_and_truncation_makes_room() {
    for (segments, settled, is_reopened) in
        [6, 7, 10].into_iter().flat_map(|n| [(n, true, false), (n, true, true), (n, false, false), (n, false, true)])
    {
        let geometry = Geometry { settled, ..GEOMETRY };
        let room = u64::from(geometry.segment_size) * segments;
        let device = MemoryDevice::new(geometry).with_capacity_limit(room);
        let medium = device.reader();
        let (mut buf, mut other) = ([0; 8192], [0; 8192]);
        let mut log = duralog_core::Log::format(device, &mut buf, LogOptions::default(), ID, NOW).unwrap();
        for _ in 0..30 {
            log.append(NOW, &b"held by a checkpoint"[..]).unwrap();
        }
        log.checkpoint(NOW, |_| 0).unwrap();
        while log.append(NOW, &b"until there is no room"[..]).is_ok() {}
        if is_reopened {
            drop(log);
            let device = medium.writer().unwrap();
            log = duralog_core::Log::open(device, &mut other, LogOptions::default(), NOW).unwrap();
        }
        let truncated = log.truncate_before(NOW, Lsn::MAX);
        assert!(matches!(truncated, Ok(lsn) if lsn == Lsn::new(31)), "{segments}, {is_reopened}: {truncated:?}");
        log.append(NOW, &b"there is room again"[..]).unwrap();
        let last = log.close(NOW).map(drop);
        assert!(last.is_ok(), "{last:?}");
        let log = duralog_core::Log::open(medium.writer().unwrap(), &mut buf, LogOptions::default(), NOW).unwrap();
        assert_eq!(log.report().low_water, Lsn::new(31));
    }
}

#[test]
fn appends_that_were_answered_and_found_no_room_are_told_to_be_lost_by_the_call_that_met_it() {
    let medium = Medium::new(GEOMETRY);
    let mut log = duralog_core::Log::format(medium.device(), buf(), options(SyncMode::Async), ID, NOW).unwrap();
    log.append(NOW, &b"answered before it is written"[..]).unwrap();
    medium.set_plan(Plan { fail: vec![(0, Failure::NoSpace)], ..Plan::default() });
    let refused = log.sync();
    assert!(matches!(refused, Err(LogError::Poisoned { cause: Cause::Dropped })), "{refused:?}");
}
