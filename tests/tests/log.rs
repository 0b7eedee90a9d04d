//! The log as a program uses it: what was appended is there again.
#![allow(missing_docs)]

use duralog::{Config, Durability, Error, Log, LogReader, Lsn, MemoryDevice, Policy, SyncMode};

fn config(dir: &std::path::Path) -> Config {
    Config::new(dir).with_segment_size(16 << 10).with_sync_mode(SyncMode::Immediate)
}

fn payload(n: u64) -> Vec<u8> {
    format!("entry {n}: ").into_bytes().into_iter().chain((0..n % 300).map(|i| (i % 251) as u8)).collect()
}

fn check(log: &Log, from: u64, to: u64) {
    let mut expected = from;
    for entry in log.read_from(Lsn::new(from)).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.lsn, Lsn::new(expected));
        assert_eq!(entry.opaque(), Some(&payload(expected)[..]), "{}", entry.lsn);
        expected += 1;
    }
    assert_eq!(expected, to + 1);
}

#[test]
fn what_was_appended_is_there_after_a_clean_close_across_many_segments() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 1..=5u64 {
        let log = Log::open(config(dir.path())).unwrap();
        assert_eq!(log.recovery().last_valid_lsn, Lsn::new(last), "round {round}");
        assert!(log.recovery().clean);
        assert_eq!(log.recovery().closed, round > 1, "round {round}");
        for _ in 0..200 {
            last += 1;
            let receipt = log.append(&payload(last)[..]).unwrap();
            assert_eq!((receipt.lsn(), receipt.durability), (Lsn::new(last), Durability::Durable));
        }
        assert_eq!(log.synced_lsn(), Lsn::new(last));
        check(&log, 1, last);
        check(&log, last / 2, last);
        log.close().unwrap();
    }
    let mut reader = LogReader::open(config(dir.path())).unwrap();
    let report = reader.verify().unwrap();
    assert_eq!(report.verified, Some((Lsn::new(1), Lsn::new(last))));
    assert!(report.clean);
    assert_eq!(report.findings, []);
}

#[test]
fn batches_keep_their_order_and_memory_behaves_as_files_do() {
    let device = MemoryDevice::default();
    let config = Config::default().with_sync_mode(SyncMode::Async);
    let medium = device.reader();
    let log = Log::open_device(device, config.clone()).unwrap();
    let batch: Vec<Vec<u8>> = (1..=7).map(payload).collect();
    let batch: Vec<&[u8]> = batch.iter().map(|p| &p[..]).collect();
    let receipt = log.append_batch(&batch).unwrap().unwrap();
    assert_eq!((receipt.first, receipt.last, receipt.durability), (Lsn::new(1), Lsn::new(7), Durability::Buffered));
    assert_eq!(log.append_batch::<&[u8]>(&[]).unwrap(), None);
    assert_eq!(log.current_lsn(), Lsn::new(8));
    assert_eq!(log.sync().unwrap(), Lsn::new(7));
    drop(log);
    let log = Log::open_device(medium.writer().unwrap(), config.with_policy(Policy::Strict)).unwrap();
    let found: Vec<_> = log.read_from(Lsn::ZERO).unwrap().map(|e| e.unwrap().payload).collect();
    assert_eq!(found, (1..=7).map(payload).collect::<Vec<_>>());
}

#[test]
fn reading_backwards_gives_the_same_entries_the_other_way_round() {
    // One segment of many entries and several of few.
    for (segment_size, entries) in [(1 << 20, 9000u64), (16 << 10, 700)] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path()).with_segment_size(segment_size).with_sync_mode(SyncMode::Async);
        let log = Log::open(config).unwrap();
        for n in 1..=entries {
            if n % 7 == 0 {
                log.sync().unwrap();
            }
            log.append(&payload(n % 40)[..]).unwrap();
        }
        let there: Vec<_> = log.read_from(Lsn::FIRST).unwrap().map(|entry| entry.unwrap()).collect();
        let mut back: Vec<_> = log.read_back_to(Lsn::ZERO).unwrap().map(|entry| entry.unwrap()).collect();
        assert_eq!(back.first().map(|entry| entry.lsn), Some(Lsn::new(entries)));
        back.reverse();
        assert!(there == back, "{} and {} entries", there.len(), back.len());
        let some: Vec<_> = log.read_back_to(Lsn::new(entries - 99)).unwrap().map(|entry| entry.unwrap().lsn).collect();
        assert_eq!(some.len(), 100);
    }
}

#[test]
fn a_batch_that_crosses_the_low_water_mark_is_whole_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(config(dir.path())).unwrap();
    log.append(&payload(0)[..]).unwrap();
    let batch: Vec<_> = (1..=5).map(payload).collect();
    log.append_batch(&batch.iter().map(|payload| &payload[..]).collect::<Vec<_>>()).unwrap();
    for n in 6..=8 {
        log.append(&payload(n)[..]).unwrap();
    }
    let both = |low_water: u64| {
        let lsns = |entries: duralog::Entries<_>| entries.map(|entry| entry.unwrap().lsn.value()).collect::<Vec<_>>();
        let there = lsns(log.read_from(Lsn::ZERO).unwrap());
        let mut back = lsns(log.read_back_to(Lsn::ZERO).unwrap());
        back.reverse();
        assert_eq!(there, back, "from {low_water} on");
        there
    };
    for (low_water, first) in [(2, 2), (3, 2), (6, 2), (7, 7)] {
        log.discard_before(Lsn::new(low_water)).unwrap();
        assert_eq!(both(low_water), (first..=9).collect::<Vec<_>>());
        // Who asks for less, gets less.
        let some: Vec<_> = log.read_back_to(Lsn::new(8)).unwrap().map(|entry| entry.unwrap().lsn.value()).collect();
        assert_eq!(some, [9, 8]);
    }
}

#[test]
fn a_reader_beside_a_live_writer_sees_a_prefix_and_no_damage() {
    use core::sync::atomic::{AtomicBool, Ordering};

    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(config(dir.path()).with_sync_mode(SyncMode::Async)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=3000u64 {
                log.append_with(&payload(n)[..], if n % 9 == 0 { Durability::Durable } else { Durability::Os })
                    .unwrap();
            }
            done.store(true, Ordering::Release);
        });
        let mut seen = 0;
        let mut reads = 0;
        loop {
            let last_round = done.load(Ordering::Acquire);
            match LogReader::open(config(dir.path())) {
                Ok(mut reader) => {
                    let report = reader.verify().unwrap();
                    assert_eq!(report.damage().collect::<Vec<_>>(), Vec::<&duralog::Finding>::new());
                    let last = report.last_valid_lsn;
                    assert!(last.value() >= seen, "{last} after LSN {seen}");
                    seen = last.value();
                    let mut expected = 1;
                    for entry in reader.read(Lsn::ZERO, Lsn::MAX).unwrap() {
                        let entry = entry.unwrap();
                        assert_eq!((entry.lsn.value(), entry.payload), (expected, payload(expected)));
                        expected += 1;
                    }
                    assert_eq!(expected, seen + 1);
                    reads += 1;
                }
                // Before the first segment is there.
                Err(error) => assert!(matches!(error, Error::NotFound { .. }), "{error}"),
            }
            if last_round {
                break;
            }
        }
        assert!(reads > 0);
        assert_eq!(seen, 3000);
    });
}

#[test]
fn in_the_mode_async_a_thread_hands_over_what_was_appended() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(config(dir.path()).with_sync_mode(SyncMode::Async)).unwrap();
    let receipt = log.append(&payload(1)[..]).unwrap();
    assert_eq!(receipt.durability, Durability::Buffered);
    // It is there for whoever else reads the files, though nobody asked for it; nothing calls it durable.
    while LogReader::open(config(dir.path())).unwrap().recovery().last_valid_lsn < receipt.lsn() {
        std::thread::yield_now();
    }
    assert_eq!(log.synced_lsn(), Lsn::ZERO);
}

#[cfg(unix)]
#[test]
fn a_log_whose_newest_segment_is_deleted_acknowledges_nothing_more() {
    for whole_folder in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Log::open(config(&path)).unwrap();
        log.append(b"kept as long as its file is").unwrap();
        if whole_folder {
            std::fs::remove_dir_all(&path).unwrap();
        } else {
            std::fs::remove_file(path.join("segment_0000000000000001.wal")).unwrap();
        }
        let appended = log.append(b"nobody can ever read this");
        let says_why = |error: &Error| error.to_string().contains("not there any more");
        let is_refused = matches!(&appended, Err(error @ Error::Poisoned { .. }) if says_why(error));
        assert!(is_refused, "{appended:?}");
        let closed = log.close();
        assert!(matches!(closed, Err(Error::Poisoned { .. })), "{closed:?}");
    }
}
