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
    Config, Documents, Durability, Entry, Error, Finding, Geometry, Log as Blocking, Lsn, MemoryDevice, Object,
    Operation, Policy, Result, Snapshot, StateMachine, SyncMode,
    faulty::{Failure, Medium, Plan},
    tokio::{Entries, Log},
};
use duralog_core::Device;
use duralog_tests::{Counter, Watched};
use uuid::Uuid;

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
    log.checkpoint(at, Documents::default().snapshot()).await.unwrap();
    log.truncate_before(Lsn::new(40)).await.unwrap();
    log.set_slot(b"slot").await.unwrap();
    let transaction = log.transaction().await.unwrap();
    transaction.append(&b"inside"[..]).await.unwrap();
    drop(transaction);
    log.transaction().await.unwrap().commit().await.unwrap();
    for mut entries in [
        log.read_from(Lsn::ZERO).await.unwrap(),
        log.read_back_to(Lsn::ZERO).await.unwrap(),
        log.replay_from(Lsn::ZERO).await.unwrap(),
    ] {
        while let Some(entry) = entries.next().await {
            entry.unwrap();
        }
    }
    log.rebuild(Documents::default()).await.unwrap();
    log.segments().await.unwrap();
    log.discard_before(Lsn::new(50)).await.unwrap();
    log.truncate_after(Lsn::new(64)).await.unwrap();
    log.reset_to(Lsn::new(100)).await.unwrap();
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

/// One step of a workload that both handles can do.
#[derive(Clone, Copy, Debug)]
enum Op {
    Append(usize),
    AppendWith(usize, Durability),
    Batch(usize, Durability),
    /// A batch as the log's mode says, empty or not.
    Plain(usize),
    Insert(u8),
    Commit(usize),
    CommitWith(Durability),
    RollBack,
    /// A transaction is dropped.
    Leave,
    Checkpoint,
    Truncate(u64),
    Discard(u64),
    Cut(u64),
    Reset(u64),
    Slot(&'static [u8]),
    Sync,
    Wait(u64),
    /// Everything that can be seen of the log.
    Look,
    Close,
}

/// Every method, with rotations and refusals in between.
const OPS: &[Op] = {
    use Op::*;
    &[
        Append(24),
        AppendWith(700, Durability::Buffered),
        AppendWith(9, Durability::Os),
        Plain(0),
        Plain(3),
        Insert(1),
        Insert(2),
        Commit(3),
        Leave,
        Look,
        Batch(4, Durability::Durable),
        Batch(2, Durability::Buffered),
        RollBack,
        CommitWith(Durability::Os),
        Append(5000),
        Append(3900),
        Checkpoint,
        Append(3900),
        Append(3900),
        Slot(b"a slot"),
        Slot(&[7; 65]),
        Look,
        Truncate(9),
        Append(3900),
        Append(3900),
        Leave,
        Commit(2),
        Look,
        Cut(3),
        Cut(41),
        Wait(41),
        Look,
        Insert(3),
        Commit(1),
        Discard(25),
        Sync,
        Checkpoint,
        Look,
        Reset(3),
        Reset(1000),
        Append(30),
        Leave,
        Look,
        Close,
        Append(1),
        Leave,
        Look,
    ]
};

fn payload(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

fn insert(n: u8) -> Operation {
    Operation::insert(Uuid::from_bytes([n; 16]), format!("document {n}"), [f32::from(n)])
}

/// What came of a step, in words: both handles say the same.
fn told(result: Result<impl core::fmt::Debug>) -> String {
    format!("{result:?}")
}

type Seen = (Vec<Entry>, Vec<Finding>, Option<String>);

fn seen(entries: Result<duralog::Entries<MemoryDevice>>) -> Seen {
    let (mut read, mut failed) = (Vec::new(), None);
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => return (read, Vec::new(), Some(error.to_string())),
    };
    for entry in &mut entries {
        match entry {
            Ok(entry) => read.push(entry),
            Err(error) => failed = Some(error.to_string()),
        }
    }
    (read, entries.findings().to_vec(), failed)
}

async fn seen_awaited(entries: Result<Entries>) -> Seen {
    let (mut read, mut failed) = (Vec::new(), None);
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => return (read, Vec::new(), Some(error.to_string())),
    };
    while let Some(entry) = entries.next().await {
        match entry {
            Ok(entry) => read.push(entry),
            Err(error) => failed = Some(error.to_string()),
        }
    }
    (read, entries.findings().to_vec(), failed)
}

fn blocking(log: &Blocking<MemoryDevice>, op: Op) -> String {
    match op {
        Op::Append(len) => told(log.append(&payload(len)[..])),
        Op::AppendWith(len, durability) => told(log.append_with(&payload(len)[..], durability)),
        Op::Batch(count, durability) => told(log.append_batch_with(&vec![&b"of a batch"[..]; count], durability)),
        Op::Plain(count) => told(log.append_batch(&vec![&b"of a batch"[..]; count])),
        Op::Insert(n) => told(log.append(insert(n))),
        Op::Commit(count) => told(log.transaction().and_then(|transaction| {
            transaction.append(&payload(count)[..])?;
            transaction.append_batch(&vec![insert(9); count])?;
            transaction.commit()
        })),
        Op::CommitWith(durability) => told(log.transaction().and_then(|open| open.commit_with(durability))),
        Op::RollBack => told(log.transaction().and_then(|transaction| {
            transaction.append(&b"rolled back"[..])?;
            transaction.rollback()
        })),
        Op::Leave => told(log.transaction().and_then(|transaction| {
            transaction.append(&b"left"[..])?;
            Ok(transaction.id())
        })),
        Op::Checkpoint => {
            let at = log.checkpoint_at();
            told(log.checkpoint(at, &Documents::default().snapshot()))
        }
        Op::Truncate(lsn) => told(log.truncate_before(Lsn::new(lsn))),
        Op::Discard(lsn) => told(log.discard_before(Lsn::new(lsn))),
        Op::Cut(lsn) => told(log.truncate_after(Lsn::new(lsn))),
        Op::Reset(lsn) => told(log.reset_to(Lsn::new(lsn))),
        Op::Slot(bytes) => told(log.set_slot(bytes)),
        Op::Sync => told(log.sync()),
        Op::Wait(lsn) => told(log.wait_durable(Lsn::new(lsn))),
        Op::Close => told(log.close()),
        Op::Look => {
            let read =
                [seen(log.read_from(Lsn::ZERO)), seen(log.read_from(Lsn::new(12))), seen(log.read_back_to(Lsn::ZERO))];
            let mut documents = Documents::default();
            let rebuilt = log.rebuild(&mut documents).map(|rebuilt| (documents, rebuilt));
            let replayed = seen(log.replay_from(Lsn::ZERO));
            let figures = (log.stats(), log.segments(), log.slot(), log.log_id(), log.current_lsn(), log.synced_lsn());
            let more = (log.sync_reaches(), log.last_checkpoint_lsn(), log.low_water_lsn(), log.recovery());
            format!("{read:?} {rebuilt:?} {replayed:?} {figures:?} {more:?}")
        }
    }
}

async fn awaited(log: &Log<MemoryDevice>, op: Op) -> String {
    match op {
        Op::Append(len) => told(log.append(&payload(len)[..]).await),
        Op::AppendWith(len, durability) => told(log.append_with(&payload(len)[..], durability).await),
        Op::Batch(count, durability) => told(log.append_batch_with(&vec![&b"of a batch"[..]; count], durability).await),
        Op::Plain(count) => told(log.append_batch(&vec![&b"of a batch"[..]; count]).await),
        Op::Insert(n) => told(log.append(insert(n)).await),
        Op::Commit(count) => told(
            async {
                let transaction = log.transaction().await?;
                transaction.append(&payload(count)[..]).await?;
                transaction.append_batch(&vec![insert(9); count]).await?;
                transaction.commit().await
            }
            .await,
        ),
        Op::CommitWith(durability) => told(async { log.transaction().await?.commit_with(durability).await }.await),
        Op::RollBack => told(
            async {
                let transaction = log.transaction().await?;
                transaction.append(&b"rolled back"[..]).await?;
                transaction.rollback().await
            }
            .await,
        ),
        Op::Leave => told(
            async {
                let transaction = log.transaction().await?;
                transaction.append(&b"left"[..]).await?;
                Ok(transaction.id())
            }
            .await,
        ),
        Op::Checkpoint => {
            let at = log.checkpoint_at().await.unwrap();
            told(log.checkpoint(at, Documents::default().snapshot()).await)
        }
        Op::Truncate(lsn) => told(log.truncate_before(Lsn::new(lsn)).await),
        Op::Discard(lsn) => told(log.discard_before(Lsn::new(lsn)).await),
        Op::Cut(lsn) => told(log.truncate_after(Lsn::new(lsn)).await),
        Op::Reset(lsn) => told(log.reset_to(Lsn::new(lsn)).await),
        Op::Slot(bytes) => told(log.set_slot(bytes).await),
        Op::Sync => told(log.sync().await),
        Op::Wait(lsn) => told(log.wait_durable(Lsn::new(lsn)).await),
        Op::Close => told(log.close().await),
        Op::Look => {
            let read = [
                seen_awaited(log.read_from(Lsn::ZERO).await).await,
                seen_awaited(log.read_from(Lsn::new(12)).await).await,
                seen_awaited(log.read_back_to(Lsn::ZERO).await).await,
            ];
            let rebuilt = log.rebuild(Documents::default()).await;
            let replayed = seen_awaited(log.replay_from(Lsn::ZERO).await).await;
            let (stats, segments) = (log.stats().await, log.segments().await);
            let figures = (stats, segments, log.slot(), log.log_id(), log.current_lsn(), log.synced_lsn());
            let more = (log.sync_reaches(), log.last_checkpoint_lsn(), log.low_water_lsn(), log.recovery());
            format!("{read:?} {rebuilt:?} {replayed:?} {figures:?} {more:?}")
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn both_handles_give_the_same_answers_and_the_same_bytes() {
    for mode in [SyncMode::Immediate, SyncMode::Async] {
        let config = || config().with_sync_mode(mode).with_write_limit(4096).with_environment(Counter::new());
        let (device, other) = (device(), device());
        let (medium, other_medium) = (device.reader(), other.reader());
        let log = Blocking::open_device(device, config()).unwrap();
        let awaited_log = Log::open_device(other, config()).await.unwrap();
        for (step, op) in OPS.iter().enumerate() {
            let (one, two) = (blocking(&log, *op), awaited(&awaited_log, *op).await);
            assert_eq!(one, two, "step {step}, {op:?}, {mode:?}");
        }
        assert!(medium.names().len() > 1, "{:?}", medium.names());
        assert_eq!(medium.names(), other_medium.names());
        for name in medium.names() {
            assert!(medium.object(name) == other_medium.object(name), "{name} is of other bytes, {mode:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn transactions_that_have_ended_hold_no_place_whether_their_ends_are_written_or_not() {
    let config = || config().with_sync_mode(SyncMode::Async);
    let log = Blocking::open_device(device(), config()).unwrap();
    for ended in 0..50 {
        let begun = log.transaction();
        assert!(begun.is_ok(), "{ended} have ended: {begun:?}");
        if ended % 2 == 0 {
            begun.unwrap().commit().unwrap();
        }
    }
    let open: Vec<_> = (0..8).map(|_| log.transaction().unwrap()).collect();
    assert!(matches!(log.transaction(), Err(Error::TooManyTransactions { max: 8 })));
    drop(open);
    let log = Log::open_device(device(), config()).await.unwrap();
    for ended in 0..50 {
        let begun = log.transaction().await;
        assert!(begun.is_ok(), "{ended} have ended: {begun:?}");
        if ended % 2 == 0 {
            begun.unwrap().commit().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_transaction_whose_commit_is_refused_holds_no_place() {
    for durability in [Durability::Os, Durability::Durable] {
        let medium = Medium::new(device().geometry());
        let log = Log::open_device(medium.device(), config()).await.unwrap();
        let refused = log.transaction().await.unwrap();
        refused.append(&b"inside"[..]).await.unwrap();
        log.sync().await.unwrap();
        medium.set_plan(Plan { fail: vec![(0, Failure::NoSpace)], ..Plan::default() });
        let error = refused.commit_with(durability).await.unwrap_err();
        assert!(matches!(error, Error::NoSpace(_)), "{error}");
        let mut open = Vec::new();
        for begun in 0..8 {
            let transaction = log.transaction().await;
            assert!(transaction.is_ok(), "{begun} are open, and one more: {transaction:?}");
            open.push(transaction);
        }
        drop(open);
        let counting = seen_awaited(log.replay_from(Lsn::ZERO).await).await;
        assert!(!counting.0.iter().any(|entry| entry.payload == b"inside"), "{counting:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_reader_skipped_is_told_as_by_the_blocking_handle() {
    let device = device();
    let medium = device.reader();
    let log = Blocking::open_device(device, config()).unwrap();
    for n in 0..1000u32 {
        log.append_with(&n.to_le_bytes().repeat(20)[..], Durability::Buffered).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let name = medium.names().into_iter().find(|name| matches!(name, Object::Segment(_))).unwrap();
    let mut bytes = medium.object(name).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    medium.writer().unwrap().put(name, bytes);
    let salvage = || Config { policy: Policy::Salvage, ..config() };
    let log = Blocking::open_device(medium.writer().unwrap(), salvage()).unwrap();
    let expected = seen(log.read_from(Lsn::ZERO));
    drop(log);
    assert!(expected.0.len() > 900 && !expected.1.is_empty(), "{:?}", expected.1);
    let log = Log::open_device(medium.writer().unwrap(), salvage()).await.unwrap();
    assert_eq!(seen_awaited(log.read_from(Lsn::ZERO).await).await, expected);
}
