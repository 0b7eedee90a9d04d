//! The asynchronous handle: many tasks, dropped futures, and the same log as ever.
#![allow(missing_docs)]

use core::future::Future;
use core::task::{Context, Poll, Waker};

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    thread::{self, ThreadId},
};

use duralog::{
    Config, Durability, Error, Geometry, Lsn, MemoryDevice, Object, Snapshot, SyncMode,
    faulty::{Failure, Medium, Plan},
    tokio::Log,
};
use duralog_core::Device;
use duralog_tests::Watched;

fn device() -> MemoryDevice {
    MemoryDevice::new(Geometry {
        segment_size: 16 << 10,
        granule: 1,
        copy_offset: 128,
        blank: 0,
        settled: false,
        slots: None,
    })
}

fn config() -> Config {
    Config { idle_mark: None, write_behind: None, ..Config::default().with_sync_mode(SyncMode::Immediate) }
}

async fn lsns(log: &Log<MemoryDevice>) -> Vec<u64> {
    let mut entries = log.read_from(Lsn::ZERO).await.unwrap();
    let mut lsns = Vec::new();
    while let Some(entry) = entries.next().await {
        lsns.push(entry.unwrap().lsn.value());
    }
    lsns
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks_share_their_syncs_and_all_are_durable() {
    let device = device();
    let medium = device.reader();
    let log = Log::open_device(device, config()).await.unwrap();
    let tasks: Vec<_> = (0..1000u32)
        .map(|n| {
            let log = log.clone();
            tokio::spawn(async move {
                let receipt = log.append(&n.to_le_bytes()[..]).await.unwrap();
                assert!(log.synced_lsn() >= receipt.lsn(), "a sync has covered it");
                receipt
            })
        })
        .collect();
    let mut seen = Vec::new();
    for task in tasks {
        let receipt = task.await.unwrap();
        assert_eq!(receipt.durability, Durability::Buffered, "memory keeps nothing beyond the process");
        seen.push(receipt.lsn().value());
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=1000).collect::<Vec<_>>());
    let stats = log.stats().await.unwrap();
    assert!(stats.syncs < 1000, "{} syncs", stats.syncs);
    log.close().await.unwrap();
    assert!(matches!(log.append(&b"late"[..]).await, Err(Error::Closed)));
    drop(log);
    let log = Log::open_device(medium.writer().unwrap(), config()).await.unwrap();
    assert!(log.recovery().closed);
    assert_eq!(lsns(&log).await, (1..=1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_dropped_future_leaves_its_append_whole_or_undone() {
    let log = Log::open_device(device(), config()).await.unwrap();
    for polls in 0..3 {
        // Tokio lets a task do no more than so much between two pauses: beyond that nothing is ready, a place in the
        // queue neither.
        tokio::task::yield_now().await;
        for _ in 0..50 {
            let payload = [7; 300];
            let mut append = Box::pin(log.append(&payload[..]));
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..polls {
                if let Poll::Ready(receipt) = append.as_mut().poll(&mut context) {
                    receipt.unwrap();
                    break;
                }
            }
            drop(append);
        }
        let appended = log.append(&b"after"[..]).await;
        let receipt = appended.unwrap_or_else(|error| panic!("an append behind dropped ones failed: {error}"));
        assert_eq!(log.synced_lsn(), receipt.lsn(), "an append after dropped ones is durable like any other");
    }
    let found = lsns(&log).await;
    assert_eq!(found, (1..=found.len() as u64).collect::<Vec<_>>());
    assert_eq!(found.len(), 103, "an append that was polled once is in the queue, and carried out");
    log.close().await.unwrap();
}

#[tokio::test]
async fn what_was_requested_before_the_last_handle_went_is_found_again() {
    let device = device();
    let medium = device.reader();
    let log = Log::open_device(device, config().with_sync_mode(SyncMode::Async)).await.unwrap();
    for n in 0..100u32 {
        log.append(&n.to_le_bytes()[..]).await.unwrap();
    }
    drop(log);
    let log = Log::open_device(medium.writer().unwrap(), config()).await.unwrap();
    assert_eq!(lsns(&log).await.len(), 100);
}

#[tokio::test]
async fn no_thread_of_the_runtime_waits_for_the_medium() {
    let callers: Arc<Mutex<Vec<ThreadId>>> = Arc::default();
    let seen = Arc::clone(&callers);
    let device = Watched::new(device(), move |_| seen.lock().unwrap().push(thread::current().id()));
    let log = Log::open_device(device, config()).await.unwrap();
    for n in 0..60u32 {
        log.append(&n.to_le_bytes().repeat(100)[..]).await.unwrap();
    }
    log.append_batch(&[b"one".to_vec(), b"two".to_vec()].each_ref().map(|bytes| &bytes[..])).await.unwrap();
    log.sync().await.unwrap();
    let at = log.checkpoint_at().await.unwrap();
    log.checkpoint(at, Snapshot::default()).await.unwrap();
    log.truncate_before(Lsn::new(40)).await.unwrap();
    let mut entries = log.read_from(Lsn::ZERO).await.unwrap();
    while let Some(entry) = entries.next().await {
        entry.unwrap();
    }
    log.close().await.unwrap();
    let callers = callers.lock().unwrap();
    assert!(callers.len() > 100 && !callers.contains(&thread::current().id()), "{} calls", callers.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_panic_while_a_checkpoint_is_written_is_told_to_who_asked_for_it() {
    let device = Watched::new(device(), |call| {
        assert!(!matches!(call.object, Some(Object::Checkpoint(_))), "no device for checkpoints");
    });
    let log = Log::open_device(device, config()).await.unwrap();
    log.append(&b"before"[..]).await.unwrap();
    for _ in 0..2 {
        let at = log.checkpoint_at().await.unwrap();
        let writer = log.clone();
        let written = tokio::spawn(async move { writer.checkpoint(at, Snapshot::default()).await }).await;
        assert!(written.unwrap_err().is_panic());
    }
    let receipt = log.append(&b"behind"[..]).await.unwrap();
    assert_eq!(log.synced_lsn(), receipt.lsn(), "others go on");
    log.close().await.unwrap();
}

/// What each append of 200 tasks was told, on a medium whose call of this number finds no space, and what is in the log
/// afterwards.
async fn appended_beside_a_refusal(call: u64) -> (Vec<(u32, Result<u64, Error>)>, BTreeMap<u64, Vec<u8>>) {
    let geometry = device().geometry();
    let medium = Medium::new(geometry);
    medium.set_plan(Plan { fail: vec![(call, Failure::NoSpace)], ..Plan::default() });
    // Some rounds of the worker hold more than may be written at once.
    let Ok(log) = Log::open_device(medium.device(), config().with_write_limit(2048)).await else {
        return Default::default();
    };
    let tasks: Vec<_> = (0..200u32)
        .map(|n| {
            let log = log.clone();
            tokio::spawn(async move {
                (n, log.append(&n.to_le_bytes().repeat(40)[..]).await.map(|done| done.lsn().value()))
            })
        })
        .collect();
    let mut told = Vec::new();
    for task in tasks {
        told.push(task.await.unwrap());
    }
    let mut entries = log.read_from(Lsn::ZERO).await.unwrap();
    let mut held = BTreeMap::new();
    while let Some(entry) = entries.next().await {
        let entry = entry.unwrap();
        held.insert(entry.lsn.value(), entry.payload);
    }
    (told, held)
}

#[tokio::test]
async fn who_was_refused_in_a_round_of_many_is_told_though_others_of_it_came_through() {
    let mut refused = 0;
    for call in 0..120 {
        let (told, held) = appended_beside_a_refusal(call).await;
        for (n, answer) in told {
            match answer {
                Ok(lsn) => assert_eq!(held.get(&lsn), Some(&n.to_le_bytes().repeat(40)), "call {call}, {n} at {lsn}"),
                Err(Error::NoSpace(_)) => refused += 1,
                // Of a sync: then nobody is told of a success any more.
                Err(error) => assert!(matches!(error, Error::Poisoned { .. }), "call {call}: {error}"),
            }
        }
    }
    assert!(refused > 0);
}
