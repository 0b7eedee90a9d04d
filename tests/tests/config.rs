//! How a log is opened: what it is unless told otherwise, what cannot be, and what is expected to be there.
#![allow(missing_docs)]

use core::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use std::{fs, panic, path::PathBuf, sync::Arc, thread};

use duralog::{
    Config, Durability, Error, Geometry, Log, LogReader, Lsn, MemoryDevice, Policy, Proof, SyncMode,
    core::InvalidOptions,
};
use duralog_tests::Counter;
use uuid::Uuid;

const CONFIG: &str = include_str!("../../backends/src/config.rs");
const README: &str = include_str!("../../README.md");
const MEMORY: Geometry =
    Geometry { segment_size: 8192, granule: 1, copy_offset: 128, blank: 0, settled: false, slots: None };

fn number(bytes: u32) -> String {
    let digits = bytes.to_string();
    let (thousands, rest) = digits.split_at(digits.len() - 3);
    format!("{thousands},{rest}")
}

#[test]
fn a_log_is_opened_as_its_users_know_it_unless_they_say_otherwise() {
    assert_eq!(SyncMode::default(), SyncMode::Batched(Duration::from_millis(100)));
    let Config {
        dir,
        segment_size,
        write_limit,
        sync_mode,
        proof,
        checkpoint_retention,
        preallocate_segments,
        create,
        policy,
        full_check,
        expect_durable,
        expect_log_id,
        idle_mark,
        write_behind,
        max_transactions,
        environment: _,
    } = Config::default();
    assert_eq!(dir, PathBuf::from("./wal"));
    assert_eq!((segment_size, write_limit), (64 << 20, None));
    assert_eq!((sync_mode, proof), (SyncMode::default(), Proof::WithNextWrite));
    assert_eq!((checkpoint_retention, max_transactions), (2, 8));
    assert!(preallocate_segments && create && !full_check);
    assert_eq!((policy, expect_durable, expect_log_id), (Policy::Default, None, None));
    assert_eq!((idle_mark, write_behind), (Some(Duration::from_secs(1)), Some(Duration::from_millis(100))));
    assert_eq!(Config::new("elsewhere").dir, PathBuf::from("elsewhere"));
}

#[test]
fn each_value_can_be_set_by_its_call() {
    let id = Uuid::from_u128(7);
    let config = Config::new("d")
        .with_segment_size(1)
        .with_write_limit(2)
        .with_sync_mode(SyncMode::Async)
        .with_proof(Proof::BeforeAcknowledging)
        .with_checkpoint_retention(3)
        .without_preallocation()
        .existing()
        .with_policy(Policy::Strict)
        .with_full_check()
        .with_expect_durable(Lsn::new(4))
        .with_expect_log_id(id)
        .with_idle_mark(None)
        .with_write_behind(Duration::from_millis(5))
        .with_max_transactions(6);
    assert_eq!((config.segment_size, config.write_limit, config.sync_mode), (1, Some(2), SyncMode::Async));
    assert_eq!((config.proof, config.checkpoint_retention), (Proof::BeforeAcknowledging, 3));
    assert_eq!((config.preallocate_segments, config.create), (false, false));
    assert_eq!((config.policy, config.full_check), (Policy::Strict, true));
    assert_eq!((config.expect_durable, config.expect_log_id), (Some(Lsn::new(4)), Some(id)));
    assert_eq!((config.idle_mark, config.write_behind), (None, Some(Duration::from_millis(5))));
    assert_eq!(config.max_transactions, 6);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join("log");
    let usual = || Config::new(&dir);
    for (config, what) in [
        (usual().with_segment_size(0), "segment_size"),
        (usual().with_segment_size(100), "segment_size"),
        (usual().with_segment_size(u32::MAX), "segment_size"),
        (usual().with_write_limit(0), "write_limit"),
        (usual().with_write_limit(287), "write_limit"),
        (usual().with_write_limit(64 << 20), "write_limit"),
        (usual().with_write_limit(u32::MAX), "write_limit"),
        (usual().with_checkpoint_retention(0), "retention"),
        (usual().with_checkpoint_retention(9), "retention"),
        (usual().with_checkpoint_retention(usize::MAX), "retention"),
        (usual().with_max_transactions(0), "max_transactions"),
        (usual().with_max_transactions(17), "max_transactions"),
        (usual().with_max_transactions(u8::MAX), "max_transactions"),
    ] {
        let error = Log::open(config).unwrap_err();
        let named = match &error {
            Error::Config(InvalidOptions::SegmentSize { .. }) => "segment_size",
            Error::Config(InvalidOptions::WriteLimit { .. }) => "write_limit",
            Error::Config(InvalidOptions::MaxTransactions) => "max_transactions",
            Error::Retention { most: 8 } => "retention",
            other => panic!("{other}"),
        };
        assert_eq!((named, error.kind()), (what, "config"), "{error}");
        assert!(!dir.exists(), "{what}: {error}");
    }
}

#[test]
fn the_least_values_work_and_are_the_ones_that_the_documentation_names() {
    let above = tempfile::tempdir().unwrap();
    let refused = Log::open(Config::new(above.path().join("log")).with_segment_size(1));
    let Err(Error::Config(InvalidOptions::SegmentSize { least, most })) = refused else { panic!("{refused:?}") };
    assert_eq!(most, 2 << 30);
    let row = README.lines().find(|line| line.starts_with("| a segment |")).unwrap();
    assert!(row.contains(&number(least)), "the least segment of files is {least}: {row}");
    let config = |size: u32| Config::new(above.path().join(size.to_string())).with_segment_size(size);
    Log::open(config(least - 1)).unwrap_err();
    let refused = Log::open(config(least).with_write_limit(1));
    let Err(Error::Config(InvalidOptions::WriteLimit { least: limit, most })) = refused else { panic!("{refused:?}") };
    assert_eq!((limit, most), (288, 288));
    let row = README.lines().find(|line| line.starts_with("| the write limit")).unwrap();
    assert!(row.contains(&format!("at least {limit} bytes")) && row.contains(&number(least - most)), "{row}");
    let documented =
        [format!("at least {}, at most 2 GiB", number(least)), format!("at least {limit}, at most a segment less")];
    for text in &documented {
        assert!(CONFIG.contains(text), "`Config` says: on files {text}");
    }
    assert!(CONFIG.contains(&format!("a segment less {};", number(least - most))));
    let log = Log::open(config(least).with_sync_mode(SyncMode::Immediate)).unwrap();
    let mut state = 0;
    while log.segments().unwrap().len() < 3 {
        log.append([state; 40]).unwrap();
        state += 1;
    }
    assert_eq!(log.read_from(Lsn::FIRST).unwrap().map(Result::unwrap).count(), state.into());
    log.close().unwrap();
}

#[test]
fn times_without_end_are_taken_as_they_are() {
    let mut configs = Vec::new();
    for mode in [SyncMode::Immediate, SyncMode::Batched(Duration::MAX), SyncMode::Async] {
        for idle in [Some(Duration::MAX), Some(Duration::ZERO), None] {
            for behind in [Some(Duration::MAX), Some(Duration::ZERO), None] {
                configs.push(Config::default().with_sync_mode(mode).with_idle_mark(idle).with_write_behind(behind));
            }
        }
        configs.push(Config::default().with_sync_mode(SyncMode::Batched(Duration::ZERO)));
    }
    // Nobody hears of a panic of a log's own thread but by a hook.
    let panics = Arc::new(AtomicUsize::new(0));
    let (seen, usual) = (Arc::clone(&panics), panic::take_hook());
    panic::set_hook(Box::new(move |panic| {
        seen.fetch_add(usize::from(thread::current().name() == Some("duralog")), Ordering::Relaxed);
        usual(panic);
    }));
    for config in configs {
        let log = Log::open_device(MemoryDevice::new(MEMORY), config.clone()).unwrap();
        log.append(b"one").unwrap();
        // The log's thread has been woken by that, and closing waits for it.
        assert_eq!(log.sync().unwrap(), Lsn::FIRST, "{config:?}");
        log.append(b"two").unwrap();
        log.close().unwrap();
        assert_eq!((log.synced_lsn(), panics.load(Ordering::Relaxed)), (Lsn::new(2), 0), "{config:?}");
    }
}

#[test]
fn a_log_that_was_expected_is_never_made_anew() {
    let above = tempfile::tempdir().unwrap();
    let id = Uuid::from_u128(0xDECADE);
    let (missing, empty) = (above.path().join("missing"), above.path().join("empty"));
    fs::create_dir(&empty).unwrap();
    for dir in [&missing, &empty] {
        for config in [Config::new(dir), Config::new(dir).existing()] {
            let config = config.with_expect_log_id(id);
            let gone = |error: Option<Error>| {
                assert!(error.is_some(), "a log was made anew");
                let error = error.unwrap();
                assert!(matches!(&error, Error::Missing { expected, .. } if *expected == id), "{error}");
                assert_eq!(error.kind(), "lost");
                assert!(error.to_string().contains(&id.to_string()), "{error}");
            };
            gone(Log::open(config.clone()).err());
            gone(LogReader::open(config).err());
        }
    }
    assert!(!missing.exists());
    assert!(fs::read_dir(&empty).unwrap().all(|entry| entry.unwrap().file_name() == "LOCK"));
    let nowhere = MemoryDevice::new(MEMORY);
    let error = Log::open_device(nowhere, Config::default().with_expect_log_id(id)).unwrap_err();
    assert!(matches!(error, Error::Missing { expected, .. } if expected == id));

    // Where it is, it is opened; where another is, that is named.
    let log = Log::open(Config::new(&empty)).unwrap();
    let there = log.log_id();
    log.close().unwrap();
    drop(log);
    drop(Log::open(Config::new(&empty).with_expect_log_id(there)).unwrap());
    let error = Log::open(Config::new(&empty).with_expect_log_id(id)).unwrap_err();
    assert!(matches!(error, Error::Foreign { found, expected, .. } if (found, expected) == (there, id)), "{error}");
    let words = error.to_string();
    assert!(words.contains("another log") && words.contains("take this segment away"), "both cases: {words}");
}

#[test]
fn bytes_of_any_kind_are_appended_as_they_are() {
    let log = Log::open_device(MemoryDevice::new(MEMORY), Config::default()).unwrap();
    log.append(b"an array by reference").unwrap();
    log.append([1, 2, 3]).unwrap();
    log.append(&b"a slice"[..]).unwrap();
    log.append_batch(&[b"equal", b"sizes"]).unwrap();
    log.append_batch(&[&b"different"[..], b"sizes of slices"]).unwrap();
    log.append_with(b"now", Durability::Durable).unwrap();
    let entries: Vec<Vec<u8>> =
        log.read_from(Lsn::FIRST).unwrap().map(|entry| entry.map(|entry| entry.payload).unwrap()).collect();
    let expected: [&[u8]; 8] = [
        b"an array by reference",
        &[1, 2, 3],
        b"a slice",
        b"equal",
        b"sizes",
        b"different",
        b"sizes of slices",
        b"now",
    ];
    assert_eq!(entries, expected);
}

#[test]
fn a_slot_that_is_too_large_is_told_what_it_takes() {
    let log = Log::open_device(MemoryDevice::new(MEMORY), Config::default()).unwrap();
    log.set_slot(&[1; 64]).unwrap();
    let error = log.set_slot(&[2; 65]).unwrap_err();
    assert!(matches!(error, Error::SlotTooLarge { len: 65, max: 64 }), "{error}");
    assert_eq!((error.kind(), error.is_fatal()), ("too_large", false));
    assert!(error.to_string().contains("application slot") && !error.to_string().contains("batch"), "{error}");
    assert_eq!(log.slot(), [1; 64]);
}

#[test]
fn a_batch_in_a_transaction_counts_with_its_commit() {
    let medium = MemoryDevice::new(MEMORY);
    let reader = medium.reader();
    let log = Log::open_device(medium, Config { environment: Counter::new(), ..Config::default() }).unwrap();
    let payloads = |log: &Log<MemoryDevice>| -> Vec<Vec<u8>> {
        let entries = log.replay_from(Lsn::FIRST).unwrap().map(Result::unwrap);
        entries
            .filter(|entry| entry.operation().is_ok_and(|of| matches!(of, duralog::Operation::Opaque { .. })))
            .map(|entry| entry.payload)
            .collect()
    };
    let transaction = log.transaction().unwrap();
    assert_eq!(transaction.append_batch::<&[u8]>(&[]).unwrap(), None);
    let receipt = transaction.append_batch(&[b"a", b"b", b"c"]).unwrap().unwrap();
    assert_eq!((receipt.first, receipt.last), (Lsn::new(2), Lsn::new(4)));
    assert_eq!(payloads(&log), [[0_u8; 0]; 0]);
    transaction.commit().unwrap();
    assert_eq!(payloads(&log), [b"a", b"b", b"c"]);
    let rolled_back = log.transaction().unwrap();
    rolled_back.append_batch(&[b"x", b"y"]).unwrap();
    rolled_back.rollback().unwrap();
    log.close().unwrap();
    drop(log);
    let log = Log::open_device(reader.writer().unwrap(), Config::default()).unwrap();
    assert_eq!(payloads(&log), [b"a", b"b", b"c"]);
}

#[test]
fn the_newest_checkpoint_is_known_without_a_look_at_the_medium() {
    let medium = MemoryDevice::new(MEMORY);
    let reader = medium.reader();
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let count = move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
    };
    let log =
        Log::open_device(duralog_tests::Watched::new(medium, count), Config::default().with_idle_mark(None)).unwrap();
    assert_eq!(log.last_checkpoint_lsn(), None);
    log.append(b"x").unwrap();
    log.checkpoint(log.checkpoint_at(), &duralog::Snapshot::default()).unwrap();
    let before = calls.load(Ordering::Relaxed);
    assert_eq!(log.last_checkpoint_lsn(), Some(Lsn::FIRST));
    assert_eq!(calls.load(Ordering::Relaxed), before);
    log.close().unwrap();
    drop(log);
    let log = Log::open_device(reader.writer().unwrap(), Config::default()).unwrap();
    assert_eq!(log.last_checkpoint_lsn(), Some(Lsn::FIRST));
}
