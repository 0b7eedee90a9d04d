//! One log, many threads: LSNs in the order of the log, one sync for many, a failure for all.
#![allow(missing_docs)]

use core::time::Duration;
use std::{
    collections::BTreeMap,
    sync::{Barrier, mpsc},
    thread,
};

use duralog::{
    Config, Durability, Error, Geometry, Log, LogReader, Lsn, MemoryDevice, Operation, SyncMode,
    faulty::{Failure, Keep, Medium, Plan},
};
use duralog_tests::{Counter, Watched};

const GEOMETRY: Geometry =
    Geometry { segment_size: 4096, granule: 1, copy_offset: 128, blank: 0, settled: false, slots: None };

fn config() -> Config {
    Config { environment: Counter::new(), idle_mark: None, write_behind: None, ..Config::default() }
        .with_sync_mode(SyncMode::Immediate)
}

#[test]
fn a_mebibyte_that_nobody_waits_for_is_handed_to_the_system_before_its_time() {
    let medium = MemoryDevice::new(Geometry { segment_size: 16 << 20, ..GEOMETRY });
    let (tell, is_written) = mpsc::channel();
    // Of the calls, only those that write entries are long.
    let device = Watched::new(medium, move |call| {
        if call.name == "write" && call.len > 64 << 10 {
            let _ = tell.send(());
        }
    });
    let config = config().with_sync_mode(SyncMode::Async).with_write_limit(4 << 20).with_write_behind(HOUR);
    let log = Log::open_device(device, config).unwrap();
    let quarter = vec![7; 256 << 10];
    for _ in 0..3 {
        log.append(&quarter[..]).unwrap();
    }
    assert!(is_written.try_recv().is_err(), "so much may gather");
    log.append(&quarter[..]).unwrap();
    // Sooner by far than in an hour.
    assert!(is_written.recv_timeout(Duration::from_secs(60)).is_ok(), "nobody writes what has gathered");
}

/// Longer than any test takes.
const HOUR: Duration = Duration::from_secs(3600);

const THREADS: usize = 8;
const EACH: usize = 200;

#[test]
fn every_entry_stands_at_the_lsn_of_its_receipt_and_syncs_are_shared() {
    let medium = Medium::new(GEOMETRY);
    let log = Log::open_device(medium.device(), config()).unwrap();
    let start = Barrier::new(THREADS);
    let receipts: Vec<(u64, Vec<u8>)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (log, start) = (&log, &start);
                scope.spawn(move || {
                    start.wait();
                    let mut receipts = Vec::new();
                    for n in 0..EACH {
                        let payload = format!("{thread}/{n}").into_bytes();
                        if n % 5 == 4 {
                            let batch = [&payload[..], &payload[..]];
                            let receipt = log.append_batch(&batch).unwrap().unwrap();
                            assert_eq!(receipt.last.value(), receipt.first.value() + 1);
                            receipts.push((receipt.first.value(), payload.clone()));
                            receipts.push((receipt.last.value(), payload));
                        } else {
                            let receipt = log.append(&payload[..]).unwrap();
                            assert_eq!(receipt.durability, Durability::Durable);
                            assert!(log.synced_lsn() >= receipt.lsn());
                            receipts.push((receipt.lsn().value(), payload));
                        }
                    }
                    assert!(receipts.is_sorted_by_key(|(lsn, _)| *lsn), "a thread's entries are in its order");
                    receipts
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let count = receipts.len() as u64;
    let by_lsn: BTreeMap<u64, Vec<u8>> = receipts.into_iter().collect();
    assert!(by_lsn.keys().copied().eq(1..=count), "every LSN was given out once");
    let stats = log.stats().unwrap();
    assert!(stats.groups <= count && stats.appends == count, "{stats:?}");
    drop(log);
    medium.power_cut(|_| Keep::None);
    let reader = LogReader::open_device(medium.reader(), config()).unwrap();
    let found: BTreeMap<u64, Vec<u8>> =
        reader.read(Lsn::ZERO, Lsn::MAX).unwrap().map(Result::unwrap).map(|e| (e.lsn.value(), e.payload)).collect();
    assert!(found == by_lsn, "each entry is at its LSN");
}

#[test]
fn a_transaction_is_rolled_back_also_where_another_thread_has_written_its_end_meanwhile() {
    let log = Log::open_device(MemoryDevice::new(GEOMETRY), config()).unwrap();
    let rolled_back = thread::scope(|scope| {
        let work = || {
            (0..EACH).try_for_each(|_| {
                let transaction = log.transaction()?;
                transaction.append(&[7; 900][..])?;
                transaction.rollback()
            })
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap())
    });
    assert!(rolled_back.is_ok(), "{rolled_back:?}");
    assert_eq!(log.replay_from(Lsn::ZERO).unwrap().count(), 0);
    log.close().unwrap();
}

#[test]
fn a_group_shares_one_sync() {
    let medium = Medium::new(GEOMETRY);
    let log = Log::open_device(medium.device(), config()).unwrap();
    let before = log.stats().unwrap();
    for n in 0..10u8 {
        log.append_with(&[n; 20][..], Durability::Buffered).unwrap();
    }
    thread::scope(|scope| {
        for lsn in 1..=10 {
            let log = &log;
            scope.spawn(move || assert_eq!(log.wait_durable(Lsn::new(lsn)).unwrap(), Lsn::new(10)));
        }
    });
    let after = log.stats().unwrap();
    assert_eq!((after.groups - before.groups, after.syncs - before.syncs), (1, 1));
}

#[test]
fn whoever_looks_at_the_log_while_segments_are_begun_neither_waits_for_ever_nor_sees_a_gap() {
    let log = Log::open_device(MemoryDevice::new(GEOMETRY), config()).unwrap();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for n in 0..150u32 {
                    // Three fill a segment.
                    log.append(&n.to_le_bytes().repeat(225)[..]).unwrap();
                    if n % 50 == 49 {
                        log.discard_before(Lsn::new(log.current_lsn().value().saturating_sub(60))).unwrap();
                    }
                }
            });
            scope.spawn(|| {
                // As often as the others append: both have an end, whoever is faster.
                for _ in 0..150 {
                    // A segment that is listed may be gone when it is looked at.
                    if let Ok(stats) = log.stats() {
                        assert!(stats.synced_lsn < stats.current_lsn && stats.current_lsn <= log.current_lsn());
                    }
                    assert_eq!(log.recovery().last_valid_lsn, Lsn::ZERO);
                    // What is truncated meanwhile cannot be read to its end; what is read has no gap.
                    let mut before = None;
                    for entry in log.read_from(Lsn::ZERO).unwrap() {
                        let entry = match entry {
                            Err(error) => {
                                assert!(matches!(error, Error::Truncated { .. }), "{error:?}");
                                break;
                            }
                            Ok(entry) => entry,
                        };
                        assert!(before.is_none_or(|before: Lsn| before.next() == Ok(entry.lsn)));
                        before = Some(entry.lsn);
                    }
                }
            });
        }
    });
    assert_eq!(log.current_lsn(), Lsn::new(301));
}

#[test]
fn a_failed_sync_fails_everyone_who_waits_and_nothing_is_acknowledged_afterwards() {
    for fails_at in 0..12 {
        let medium = Medium::new(GEOMETRY);
        let log = Log::open_device(medium.device(), config()).unwrap();
        medium.set_plan(Plan { fail: vec![(fails_at, Failure::SyncLoses(Vec::new()))], ..Plan::default() });
        let start = Barrier::new(THREADS);
        let acknowledged: Vec<u64> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        let mut acknowledged = Vec::new();
                        for n in 0..30u8 {
                            match log.append(&[n; 40][..]) {
                                Ok(receipt) => acknowledged.push(receipt.lsn().value()),
                                Err(error) => {
                                    assert!(matches!(error, Error::Poisoned { .. }), "{error:?}");
                                    assert!(matches!(log.append(&b"more"[..]), Err(Error::Poisoned { .. })));
                                    return acknowledged;
                                }
                            }
                        }
                        panic!("call {fails_at} fails, and nobody heard of it");
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert!(matches!(log.sync(), Err(Error::Poisoned { .. })));
        assert!(matches!(log.wait_durable(Lsn::FIRST), Err(Error::Poisoned { .. })));
        let synced = log.synced_lsn();
        assert!(acknowledged.iter().all(|lsn| *lsn <= synced.value()));
        drop(log);
        medium.power_cut(|_| Keep::None);
        let log = Log::open_device(medium.device(), config()).unwrap();
        assert!(log.recovery().last_valid_lsn >= synced, "call {fails_at}: {:?} of {synced}", log.recovery());
        log.append(Operation::opaque(*b"goes on")).unwrap();
    }
}
