//! The application slot through power cuts: once it was set, no crash brings an older one back.
#![allow(missing_docs)]

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use duralog::{
    Config, Environment, Geometry, Log, MemoryDevice, Object, Proof, SegmentId, SyncMode,
    faulty::{Keep, Medium, Plan},
};
use duralog_tests::{Counter, Setup};

const GEOMETRY: Geometry =
    Geometry { segment_size: 2048, granule: 16, copy_offset: 128, blank: 0xFF, settled: false, slots: None };

fn open(medium: &Medium) -> duralog::Result<Log<duralog::FaultyDevice>> {
    let config = Config { idle_mark: None, write_behind: None, ..Config::default() };
    let config = config.with_sync_mode(SyncMode::Immediate).with_environment(Counter::new());
    Log::open_device(medium.device(), config)
}

/// Sets the slot and fills segments; tells whether the slot was set.
fn workload(medium: &Medium) -> bool {
    let Ok(log) = open(medium) else { return false };
    let mut set = false;
    for n in 0..12u8 {
        if n == 1 {
            set = log.set_slot(b"vote 7").is_ok();
        }
        if log.append(&[n; 300][..]).is_err() {
            break;
        }
    }
    set
}

#[test]
fn a_slot_that_was_set_survives_a_cut_at_every_call_and_at_every_call_of_the_opening_after() {
    let medium = Medium::new(GEOMETRY);
    assert!(workload(&medium));
    let total = medium.calls();
    assert!(medium.names().len() > 2, "segments were begun after it was set");
    let mut checked = 0;
    for call in 0..=total {
        let medium = Medium::new(GEOMETRY);
        medium.set_plan(Plan { cut_at_call: Some(call), ..Plan::default() });
        let set = workload(&medium);
        for keep in [Keep::None, Keep::All] {
            for second in 0..12 {
                let medium = medium.snapshot();
                medium.power_cut(|_| keep.clone());
                medium.set_plan(Plan { cut_at_call: Some(second), ..Plan::default() });
                drop(open(&medium));
                medium.power_cut(|_| keep.clone());
                let log = open(&medium).unwrap();
                if set {
                    assert_eq!(log.slot(), b"vote 7", "cut at call {call}, keeping {keep:?}, then at call {second}");
                    checked += 1;
                }
            }
        }
    }
    println!("{checked} openings after a slot was set");
    assert!(checked > 100);
}

/// A clock that may not be read for ever: whoever tries again and again reads it each time.
#[derive(Debug)]
struct Wound(AtomicU64);

impl Environment for Wound {
    fn now_us(&self) -> u64 {
        let read = self.0.fetch_add(1, Ordering::Relaxed);
        assert!(read < 1000, "a call that goes round and round");
        read
    }

    fn random(&self) -> u128 {
        self.0.fetch_add(1, Ordering::Relaxed).into()
    }
}

#[test]
fn the_longest_slot_is_the_first_thing_that_a_log_writes_behind_an_epoch_where_the_write_limit_is_the_least() {
    for geometry in Setup::ALL.map(|setup| setup.geometry) {
        let medium = Medium::new(geometry);
        let limit = geometry.write_limit_min();
        let config = || {
            let config = Config { idle_mark: None, write_behind: None, ..Config::default() };
            config
                .with_write_limit(limit)
                .with_sync_mode(SyncMode::Immediate)
                .with_environment(Arc::new(Wound(0.into())))
        };
        let open = || Log::open_device(medium.device(), config()).unwrap();
        let refused =
            Log::open_device(medium.device(), config().with_write_limit(limit - geometry.granule)).unwrap_err();
        assert_eq!(refused.kind(), "config", "{refused}");
        for round in 0..3 {
            open().append(b"one").unwrap();
            let log = open();
            log.set_slot(&[round; 64]).unwrap();
            // Segments that were truncated are recycled: a write there ends with a stop.
            while log.segments().unwrap().len() < 3 {
                log.append([7; 60]).unwrap();
            }
            log.discard_before(log.current_lsn()).unwrap();
            log.close().unwrap();
            assert_eq!(open().slot(), [round; 64]);
        }
    }
}

#[test]
fn no_flipped_byte_brings_an_older_slot_back_be_it_the_last_thing_that_was_written() {
    for (closes, proof) in
        [(true, Proof::WithNextWrite), (false, Proof::WithNextWrite), (true, Proof::BeforeAcknowledging)]
    {
        let medium = MemoryDevice::new(GEOMETRY);
        let bytes = medium.reader();
        let config = Config { environment: Counter::new(), idle_mark: None, ..Config::default() };
        let config = config.with_sync_mode(SyncMode::Immediate).with_write_limit(512).with_proof(proof);
        let log = Log::open_device(medium, config.clone()).unwrap();
        log.append(b"one").unwrap();
        log.set_slot(b"old").unwrap();
        log.append(b"two").unwrap();
        let object = Object::Segment(SegmentId::new(1));
        let before = bytes.object(object).unwrap();
        log.set_slot(b"new").unwrap();
        if closes {
            log.close().unwrap();
        }
        let after = bytes.object(object).unwrap();
        let written: Vec<_> = (0..after.len()).filter(|at| before.get(*at) != Some(&after[*at])).collect();
        assert!(written.len() > 80, "{written:?}");
        for at in written {
            let mut flipped = after.clone();
            flipped[at] ^= 4;
            let damaged = MemoryDevice::new(GEOMETRY);
            bytes.names().into_iter().for_each(|name| damaged.put(name, bytes.object(name).unwrap()));
            damaged.put(object, flipped);
            let log = Log::open_device(damaged, config.clone()).unwrap();
            assert_eq!(log.slot(), b"new", "closed: {closes}, {proof:?}, byte {at}");
        }
    }
}

#[test]
fn a_later_slot_behind_a_later_entry_hides_no_copy_of_the_one_before() {
    let medium = MemoryDevice::new(GEOMETRY);
    let bytes = medium.reader();
    let config = Config { environment: Counter::new(), idle_mark: None, write_behind: None, ..Config::default() };
    let config = config.with_sync_mode(SyncMode::Immediate).with_write_limit(512);
    let log = Log::open_device(medium, config.clone()).unwrap();
    log.append(b"one").unwrap();
    log.set_slot(b"old").unwrap();
    log.append(b"two").unwrap();
    let object = Object::Segment(SegmentId::new(1));
    let before = bytes.object(object).unwrap();
    log.set_slot(b"new").unwrap();
    let after = bytes.object(object).unwrap();
    log.append_with(b"three", duralog::Durability::Buffered).unwrap();
    log.set_slot(b"newest").unwrap();
    let written: Vec<_> = (0..after.len()).filter(|at| before.get(*at) != Some(&after[*at])).collect();
    for at in written {
        let mut flipped = bytes.object(object).unwrap();
        flipped[at] ^= 4;
        let damaged = MemoryDevice::new(GEOMETRY);
        bytes.names().into_iter().for_each(|name| damaged.put(name, bytes.object(name).unwrap()));
        damaged.put(object, flipped);
        let log = Log::open_device(damaged, config.clone()).unwrap();
        assert!([&b"new"[..], b"newest"].contains(&&log.slot()[..]), "byte {at}: {:?}", log.slot());
    }
}
