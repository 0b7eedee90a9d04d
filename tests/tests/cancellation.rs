//! Futures of the asynchronous handle, polled by hand so often and then dropped, for every method: the log is as if the
//! call had not begun or as if it had completed, and nobody else waits for it.
#![cfg(not(loom))]
#![allow(missing_docs)]

use core::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};
use std::sync::{Arc, Condvar, Mutex};

use duralog::{
    Config, Documents, Durability, Error, Geometry, Lsn, MemoryDevice, Object, Receipt, SharedDevice, Snapshot,
    SyncMode,
    memory::MemoryError,
    tokio::{Entries, Log, Transaction},
};
use duralog_core::{Device, Room};
use tokio::runtime::{Builder, Runtime};

/// Requests that may wait for the worker.
const QUEUE: usize = 4096;

/// A device in memory whose syncs wait while the gate is shut.
#[derive(Debug)]
struct Gated {
    memory: MemoryDevice,
    gate: Gate,
}

#[derive(Clone, Debug, Default)]
struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    shut: bool,
    waiting: usize,
}

impl Gate {
    fn shut(&self) {
        self.0.0.lock().unwrap().shut = true;
    }

    fn open(&self) {
        self.0.0.lock().unwrap().shut = false;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut state = self.0.0.lock().unwrap();
        state.waiting += 1;
        self.0.1.notify_all();
        state = self.0.1.wait_while(state, |state| state.shut).unwrap();
        state.waiting -= 1;
    }

    /// Returns once the worker stands before the gate.
    fn is_reached(&self) {
        drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |state| state.waiting == 0).unwrap());
    }
}

impl Device for Gated {
    type Error = MemoryError;

    fn geometry(&self) -> Geometry {
        self.memory.geometry()
    }

    fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, MemoryError> {
        self.memory.next(after)
    }

    fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, MemoryError> {
        self.memory.prev(before)
    }

    fn create(&mut self, object: Object, size: u64) -> Result<Room, MemoryError> {
        self.memory.create(object, size)
    }

    fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, MemoryError> {
        self.memory.read(object, at, buf)
    }

    fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        self.memory.write(object, at, bytes)
    }

    fn trim(&mut self, object: Object, at: u64) -> Result<(), MemoryError> {
        self.memory.trim(object, at)
    }

    fn remove(&mut self, object: Object) -> Result<(), MemoryError> {
        self.memory.remove(object)
    }

    fn sync(&mut self) -> Result<(), MemoryError> {
        self.gate.pass();
        self.memory.sync()
    }
}

impl SharedDevice for Gated {
    fn reader(&self) -> Result<Self, MemoryError> {
        Ok(Self { memory: self.memory.reader(), gate: self.gate.clone() })
    }

    fn len(&mut self, object: Object) -> Result<u64, MemoryError> {
        SharedDevice::len(&mut self.memory, object)
    }
}

fn config() -> Config {
    Config { idle_mark: None, write_behind: None, ..Config::default().with_sync_mode(SyncMode::Immediate) }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).build().unwrap()
}

/// Polls a future `polls` times and drops it; what it gave, if it was done.
fn polled<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..polls {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(done);
        }
    }
    None
}

/// Opens the gate when it is dropped: a test that fails while it is shut is to end.
struct Opens(Gate);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// A log with two entries on a device with a gate.
struct Bench {
    opens: Opens,
    runtime: Runtime,
    log: Log<Gated>,
    medium: MemoryDevice,
    gate: Gate,
}

impl Bench {
    fn new() -> Self {
        let geometry =
            Geometry { segment_size: 1 << 20, granule: 1, copy_offset: 128, blank: 0, settled: false, slots: None };
        let memory = MemoryDevice::new(geometry);
        let (medium, gate) = (memory.reader(), Gate::default());
        let runtime = runtime();
        let device = Gated { memory, gate: gate.clone() };
        let log = runtime.block_on(Log::open_device(device, config())).unwrap();
        for payload in [b"first".as_slice(), b"second"] {
            runtime.block_on(log.append(payload)).unwrap();
        }
        Self { opens: Opens(gate.clone()), runtime, log, medium, gate }
    }

    fn append(&self, payload: &[u8]) -> Result<Receipt, Error> {
        self.runtime.block_on(self.log.append(payload))
    }

    fn device(&self) -> Gated {
        Gated { memory: self.medium.writer().unwrap(), gate: self.gate.clone() }
    }

    /// What the log holds once everything is let go of and it is opened again.
    fn reopened(self) -> Reopened {
        let Self { opens: _opens, runtime, log, medium, gate } = self;
        drop(log);
        // Who is in the middle of something on a thread that may block is waited for.
        drop(runtime);
        let runtime = self::runtime();
        let device = Gated { memory: released(&medium), gate };
        let log = runtime.block_on(Log::open_device(device, config())).unwrap();
        let report = log.recovery();
        assert!(report.torn_tail.is_none() && report.damage().count() == 0, "{report:?}");
        let (closed, low_water) = (report.closed, report.low_water);
        let checkpoint = report.checkpoint_used.map(|(_, lsn)| lsn);
        let slot = log.slot();
        let payloads = runtime.block_on(async { opaque(log.read_from(Lsn::ZERO).await.unwrap()).await });
        let counting = runtime.block_on(async { opaque(log.replay_from(Lsn::ZERO).await.unwrap()).await });
        Reopened { payloads, counting, closed, low_water, checkpoint, slot }
    }
}

async fn opaque(mut entries: Entries) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while let Some(entry) = entries.next().await {
        payloads.extend(entry.unwrap().opaque().map(<[u8]>::to_vec));
    }
    payloads
}

/// The medium for writing, once the thread that had it has let go: a runtime that is shut down waits for nobody.
fn released(medium: &MemoryDevice) -> MemoryDevice {
    for _ in 0..100_000_000u64 {
        if let Ok(writer) = medium.writer() {
            return writer;
        }
        std::thread::yield_now();
    }
    panic!("nobody lets go of the log");
}

/// Whether that comes to be before long.
fn comes(is_so: impl Fn() -> bool) -> bool {
    (0..5_000_000u64).any(|_| {
        is_so() || {
            std::thread::yield_now();
            false
        }
    })
}

#[derive(Debug)]
struct Reopened {
    payloads: Vec<Vec<u8>>,
    /// Those that count: of a transaction, if it was committed.
    counting: Vec<Vec<u8>>,
    closed: bool,
    low_water: Lsn,
    checkpoint: Option<Lsn>,
    slot: Vec<u8>,
}

/// Drops a call after each number of polls, and goes on: an append behind it is durable. What the call adds is there if it
/// was polled, for it was in the queue then.
fn adds<T>(call: impl AsyncFn(&Log<Gated>) -> T, added: &[&[u8]]) {
    for polls in 0..4 {
        let bench = Bench::new();
        let done = {
            let _inside = bench.runtime.enter();
            polled(call(&bench.log), polls)
        };
        assert!(polls > 0 || done.is_none());
        let receipt = bench.append(b"after").unwrap();
        assert_eq!(receipt.durability, Durability::Durable);
        assert_eq!(bench.log.synced_lsn(), receipt.last);
        let added = if polls == 0 { &[] } else { added };
        let expected = [&[b"first".as_slice(), b"second"], added, &[b"after"]].concat();
        assert_eq!(bench.reopened().payloads, expected, "after {polls} polls");
    }
}

#[test]
fn a_dropped_append_is_whole_or_not_there() {
    adds(async |log| log.append(b"dropped".as_slice()).await, &[b"dropped"]);
    for durability in [Durability::Buffered, Durability::Os, Durability::Durable] {
        adds(async |log| log.append_with(b"dropped".as_slice(), durability).await, &[b"dropped"]);
    }
}

#[test]
fn a_dropped_batch_is_whole_or_not_there() {
    let batch = [b"one".as_slice(), b"two", b"three"];
    adds(async |log| log.append_batch(&batch).await, &batch);
    for durability in [Durability::Buffered, Durability::Os, Durability::Durable] {
        adds(async |log| log.append_batch_with(&batch, durability).await, &batch);
    }
}

#[test]
fn what_changes_no_entry_is_dropped_without_a_trace() {
    adds(async |log| log.sync().await, &[]);
    adds(async |log| log.wait_durable(Lsn::new(2)).await, &[]);
    adds(async |log| log.checkpoint_at().await, &[]);
    adds(async |log| log.read_from(Lsn::ZERO).await, &[]);
    adds(async |log| log.read_back_to(Lsn::ZERO).await, &[]);
    adds(async |log| log.replay_from(Lsn::ZERO).await, &[]);
    adds(async |log| log.rebuild(Documents::default()).await, &[]);
    adds(async |log| log.segments().await, &[]);
    adds(async |log| log.stats().await, &[]);
}

#[test]
fn a_dropped_wait_for_a_sync_keeps_nobody_else_from_theirs() {
    let bench = Bench::new();
    bench.gate.shut();
    let _inside = bench.runtime.enter();
    assert!(polled(bench.log.append(b"dropped".as_slice()), 1).is_none());
    bench.gate.is_reached();
    let mut kept = pin!(bench.log.append(b"kept".as_slice()));
    assert!(kept.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    for _ in 0..3 {
        assert!(polled(bench.log.sync(), 2).is_none(), "nothing can be synced");
    }
    bench.gate.open();
    assert_eq!(bench.runtime.block_on(kept).unwrap().last, Lsn::new(4));
}

#[test]
fn a_dropped_checkpoint_is_complete_or_not_there() {
    for polls in 0..4 {
        let bench = Bench::new();
        let at = bench.runtime.block_on(bench.log.checkpoint_at()).unwrap();
        {
            let _inside = bench.runtime.enter();
            drop(polled(bench.log.checkpoint(at, Snapshot::default()), polls));
        }
        bench.append(b"after").unwrap();
        let reopened = bench.reopened();
        assert_eq!(reopened.payloads, [b"first".as_slice(), b"second", b"after"]);
        assert!(reopened.checkpoint.is_none_or(|lsn| polls > 0 && lsn == Lsn::new(2)), "{reopened:?}");
    }
}

#[test]
fn a_dropped_truncation_is_done_or_not_begun() {
    for polls in 0..4 {
        let bench = Bench::new();
        let at = bench.runtime.block_on(bench.log.checkpoint_at()).unwrap();
        bench.runtime.block_on(bench.log.checkpoint(at, Snapshot::default())).unwrap();
        {
            let _inside = bench.runtime.enter();
            drop(polled(bench.log.truncate_before(Lsn::new(3)), polls));
        }
        bench.append(b"after").unwrap();
        let reopened = bench.reopened();
        assert_eq!(reopened.low_water, if polls == 0 { Lsn::FIRST } else { Lsn::new(3) });
        assert_eq!(reopened.payloads.last().map(Vec::as_slice), Some(b"after".as_slice()));
    }
}

#[test]
fn a_dropped_discarding_is_done_or_not_begun() {
    for polls in 0..4 {
        let bench = Bench::new();
        drop(polled(bench.log.discard_before(Lsn::new(2)), polls));
        bench.append(b"after").unwrap();
        let low_water = if polls == 0 { Lsn::FIRST } else { Lsn::new(2) };
        assert_eq!(bench.log.low_water_lsn(), low_water);
        assert_eq!(bench.reopened().low_water, low_water);
    }
}

#[test]
fn a_dropped_cut_or_reset_is_done_or_not_begun() {
    for polls in 0..4 {
        let bench = Bench::new();
        drop(polled(bench.log.truncate_after(Lsn::FIRST), polls));
        let after = bench.append(b"after").unwrap().last;
        assert_eq!(after, if polls == 0 { Lsn::new(3) } else { Lsn::new(2) });
        let kept: &[&[u8]] = if polls == 0 { &[b"first", b"second", b"after"] } else { &[b"first", b"after"] };
        assert_eq!(bench.reopened().payloads, kept);

        let bench = Bench::new();
        drop(polled(bench.log.reset_to(Lsn::new(100)), polls));
        let after = bench.append(b"after").unwrap().last;
        assert_eq!(after, if polls == 0 { Lsn::new(3) } else { Lsn::new(100) });
        let kept: &[&[u8]] = if polls == 0 { &[b"first", b"second", b"after"] } else { &[b"after"] };
        assert_eq!(bench.reopened().payloads, kept);
    }
}

#[test]
fn a_dropped_slot_replaces_the_one_before_or_does_not() {
    for polls in 0..4 {
        let bench = Bench::new();
        bench.runtime.block_on(bench.log.set_slot(b"before")).unwrap();
        drop(polled(bench.log.set_slot(b"dropped"), polls));
        bench.append(b"after").unwrap();
        let slot: &[u8] = if polls == 0 { b"before" } else { b"dropped" };
        assert_eq!(bench.log.slot(), slot);
        assert_eq!(bench.reopened().slot, slot);
    }
}

/// Transactions that may be open at once.
const MOST: usize = 8;

impl Bench {
    fn transaction(&self) -> Transaction<'_, Gated> {
        let begun = self.runtime.block_on(self.log.transaction());
        begun.unwrap_or_else(|error| panic!("a place among the open transactions is held by nobody: {error}"))
    }

    /// No transaction is open.
    fn all_places_are_free(&self) {
        let open: Vec<_> = (0..MOST).map(|_| self.transaction()).collect();
        let more = self.runtime.block_on(self.log.transaction());
        assert!(matches!(more, Err(Error::TooManyTransactions { .. })), "{more:?}");
        for open in open {
            self.runtime.block_on(open.rollback()).unwrap();
        }
    }
}

#[test]
fn a_transaction_whose_beginning_was_dropped_is_not_open() {
    for polls in 0..4 {
        let bench = Bench::new();
        for _ in 0..2 * MOST {
            drop(polled(bench.log.transaction(), polls));
            // The answer is there when it is dropped, and nobody has heard it.
            let mut unheard = Box::pin(bench.log.transaction());
            let begun = unheard.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            bench.runtime.block_on(bench.log.stats()).unwrap();
            drop((begun, unheard));
        }
        bench.append(b"after").unwrap();
        bench.all_places_are_free();
        assert_eq!(bench.reopened().counting, [b"first".as_slice(), b"second", b"after"]);
    }
}

#[test]
fn a_dropped_append_of_a_transaction_is_whole_or_not_there() {
    let batch = [b"one".as_slice(), b"two"];
    for polls in 0..4 {
        let bench = Bench::new();
        let transaction = bench.transaction();
        drop(polled(transaction.append(b"inside".as_slice()), polls));
        drop(polled(transaction.append_batch(&batch), polls));
        bench.runtime.block_on(transaction.commit()).unwrap();
        let inside: &[&[u8]] = if polls == 0 { &[] } else { &[b"inside", b"one", b"two"] };
        assert_eq!(bench.reopened().counting, [&[b"first".as_slice(), b"second"], inside].concat());
    }
}

#[test]
fn a_dropped_commit_is_carried_out_or_the_transaction_is_rolled_back() {
    for (polls, is_held) in [(0, false), (1, false), (1, true), (2, true), (3, false)] {
        for durability in [None, Some(Durability::Buffered), Some(Durability::Os), Some(Durability::Durable)] {
            let bench = Bench::new();
            let transaction = bench.transaction();
            bench.runtime.block_on(transaction.append(b"inside".as_slice())).unwrap();
            let mut first = Box::pin(bench.log.append(b"at the gate".as_slice()));
            if is_held {
                // The worker waits: the commit is still in the queue when its future is dropped.
                bench.gate.shut();
                assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                bench.gate.is_reached();
            }
            match durability {
                None => drop(polled(transaction.commit(), polls)),
                Some(durability) => drop(polled(transaction.commit_with(durability), polls)),
            }
            bench.gate.open();
            bench.runtime.block_on(first).unwrap();
            bench.append(b"after").unwrap();
            bench.all_places_are_free();
            let counting = bench.reopened().counting;
            let is_there = counting.contains(&b"inside".to_vec());
            assert_eq!(is_there, polls > 0, "{polls} polls, {durability:?}: {counting:?}");
        }
    }
}

#[test]
fn a_transaction_whose_rollback_was_dropped_is_rolled_back() {
    for polls in 0..4 {
        let bench = Bench::new();
        let transaction = bench.transaction();
        bench.runtime.block_on(transaction.append(b"inside".as_slice())).unwrap();
        drop(polled(transaction.rollback(), polls));
        bench.append(b"after").unwrap();
        bench.all_places_are_free();
        assert_eq!(bench.reopened().counting, [b"first".as_slice(), b"second", b"after"]);
    }
}

#[test]
fn a_dropped_transaction_is_rolled_back_before_what_is_requested_next() {
    let bench = Bench::new();
    for dropped in 0..3 * MOST {
        let begun = bench.runtime.block_on(bench.log.transaction());
        assert!(begun.is_ok(), "{dropped} transactions were dropped, and some are open: {begun:?}");
        let transaction = begun.unwrap();
        bench.runtime.block_on(transaction.append(b"inside".as_slice())).unwrap();
        drop(transaction);
    }
    let next = bench.runtime.block_on(bench.log.stats()).unwrap().current_lsn.value();
    assert_eq!(next, 3 + 3 * 3 * MOST as u64, "each has a beginning, an entry and an end");
    bench.all_places_are_free();
    assert_eq!(bench.reopened().counting, [b"first".as_slice(), b"second"]);
}

#[test]
fn on_an_idle_log_a_dropped_transaction_is_rolled_back_all_the_same() {
    let bench = Bench::new();
    let transaction = bench.transaction();
    let next = bench.log.current_lsn();
    drop(transaction);
    assert!(comes(|| bench.log.current_lsn() > next), "nobody tells the worker of it");
}

#[test]
fn a_transaction_is_dropped_without_waiting_where_the_queue_is_full() {
    let bench = Bench::new();
    let transaction = bench.transaction();
    bench.gate.shut();
    let _inside = bench.runtime.enter();
    let mut first = pin!(bench.log.append(b"at the gate".as_slice()));
    assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    bench.gate.is_reached();
    let mut queued: Vec<_> = (0..QUEUE).map(|_| Box::pin(bench.log.append(b"queued".as_slice()))).collect();
    for append in &mut queued {
        assert!(append.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    drop(transaction);
    bench.gate.open();
    for append in queued {
        bench.runtime.block_on(append).unwrap();
    }
    bench.all_places_are_free();
}

#[test]
fn a_transaction_from_before_a_cut_leaves_the_one_alone_that_got_its_id() {
    let bench = Bench::new();
    let before = bench.transaction();
    bench.runtime.block_on(bench.log.truncate_after(Lsn::new(2))).unwrap();
    let behind = bench.transaction();
    assert_eq!(before.id(), behind.id());
    let refused = bench.runtime.block_on(before.append(b"of another history".as_slice()));
    assert!(matches!(refused, Err(Error::NoTransaction)), "{refused:?}");
    drop(before);
    bench.runtime.block_on(behind.append(b"inside".as_slice())).unwrap();
    bench.runtime.block_on(behind.commit()).unwrap();
    assert_eq!(bench.reopened().counting, [b"first".as_slice(), b"second", b"inside"]);
}

#[test]
fn transactions_share_the_syncs_of_their_commits() {
    let bench = Bench::new();
    let open: Vec<_> = (0..MOST).map(|_| bench.transaction()).collect();
    let before = bench.runtime.block_on(bench.log.stats()).unwrap().syncs;
    bench.gate.shut();
    let mut first = pin!(bench.log.append(b"at the gate".as_slice()));
    assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    bench.gate.is_reached();
    let mut commits: Vec<_> = open.into_iter().map(|open| Box::pin(open.commit())).collect();
    for commit in &mut commits {
        assert!(commit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    bench.gate.open();
    for commit in commits {
        assert_eq!(bench.runtime.block_on(commit).unwrap().durability, Durability::Durable);
    }
    let syncs = bench.runtime.block_on(bench.log.stats()).unwrap().syncs - before;
    assert_eq!(syncs, 2, "one for the append at the gate, one for all commits");
}

#[test]
fn a_dropped_close_closes_or_has_not_begun() {
    for polls in 0..4 {
        let bench = Bench::new();
        {
            let _inside = bench.runtime.enter();
            drop(polled(bench.log.close(), polls));
        }
        let after = bench.append(b"after");
        assert_eq!(matches!(after, Err(Error::Closed)), polls > 0, "{after:?}");
        let reopened = bench.reopened();
        assert_eq!(reopened.closed, polls > 0);
        assert_eq!(reopened.payloads.len(), if polls == 0 { 3 } else { 2 });
    }
}

#[test]
fn a_dropped_opening_lets_go_of_the_log() {
    for polls in 0..4 {
        let bench = Bench::new();
        bench.runtime.block_on(bench.log.close()).unwrap();
        let device = bench.device();
        let opening = runtime();
        {
            let _inside = opening.enter();
            drop(polled(Log::open_device(device, config()), polls));
        }
        drop(opening);
        assert_eq!(bench.reopened().payloads.len(), 2);
    }
}

#[test]
fn a_reader_whose_futures_are_dropped_misses_no_entry() {
    let bench = Bench::new();
    for n in 0..300_u32 {
        let payload = n.to_le_bytes();
        bench.runtime.block_on(bench.log.append_with(payload.as_slice(), Durability::Buffered)).unwrap();
    }
    let mut entries = bench.runtime.block_on(bench.log.read_from(Lsn::ZERO)).unwrap();
    let mut lsns = Vec::new();
    for polls in (0..3).cycle() {
        let entry = match polled(entries.next(), polls) {
            Some(entry) => entry,
            None => bench.runtime.block_on(entries.next()),
        };
        let Some(entry) = entry else { break };
        lsns.push(entry.unwrap().lsn.value());
    }
    assert_eq!(lsns, (1..=302).collect::<Vec<_>>());
    // Nor does one that is dropped itself hold anything up.
    let entries = bench.runtime.block_on(bench.log.read_from(Lsn::ZERO)).unwrap();
    drop(entries);
    assert_eq!(bench.reopened().payloads.len(), 302);
}

/// A bench with so many entries more that they make several batches of a reader.
fn long() -> Bench {
    let bench = Bench::new();
    for n in 0..2_000_u32 {
        let payload = n.to_le_bytes();
        bench.runtime.block_on(bench.log.append_with(payload.as_slice(), Durability::Buffered)).unwrap();
    }
    bench
}

#[test]
fn a_half_read_reader_holds_no_thread_that_others_need() {
    let bench = long();
    let one = Builder::new_multi_thread().worker_threads(1).max_blocking_threads(1).build().unwrap();
    let log = bench.log.clone();
    let task = one.spawn(async move {
        let mut half = log.read_from(Lsn::ZERO).await.unwrap();
        half.next().await.unwrap().unwrap();
        let mut other = log.read_from(Lsn::ZERO).await.unwrap();
        other.next().await.unwrap().unwrap();
        let at = log.checkpoint_at().await.unwrap();
        log.checkpoint(at, Snapshot::default()).await.unwrap();
        let mut read = 2;
        for mut entries in [half, other] {
            while let Some(entry) = entries.next().await {
                entry.unwrap();
                read += 1;
            }
        }
        read
    });
    let ended = comes(|| task.is_finished());
    let read = ended.then(|| one.block_on(task).unwrap());
    one.shutdown_background();
    assert_eq!(read, Some(2 * 2_002), "a reader that nobody goes on with holds others up");
}

#[test]
fn a_checkpoint_waits_for_no_thread_of_the_pool() {
    let bench = Bench::new();
    let one = Builder::new_multi_thread().worker_threads(1).max_blocking_threads(1).build().unwrap();
    let (free, held) = std::sync::mpsc::channel::<()>();
    one.spawn_blocking(move || held.recv());
    let log = bench.log.clone();
    let task = one.spawn(async move {
        let at = log.checkpoint_at().await?;
        log.checkpoint(at, Snapshot::default()).await
    });
    let ended = comes(|| task.is_finished());
    drop(free);
    assert!(ended, "a checkpoint waits for a thread of the pool");
    one.block_on(task).unwrap().unwrap();
}

#[test]
fn a_runtime_is_dropped_while_a_reader_is_half_read_and_the_reader_is_told() {
    let bench = long();
    let reading = runtime();
    let mut entries = reading.block_on(bench.log.read_from(Lsn::ZERO)).unwrap();
    reading.block_on(entries.next()).unwrap().unwrap();
    let dropped = std::thread::spawn(move || drop(reading));
    assert!(comes(|| dropped.is_finished()), "the runtime waits for a reader");
    let mut read = 1_u64;
    let error = loop {
        match bench.runtime.block_on(entries.next()) {
            Some(Ok(entry)) => {
                read += 1;
                assert_eq!(entry.lsn, Lsn::new(read));
            }
            Some(Err(error)) => break error,
            None => panic!("the end of the log, after {read} entries"),
        }
    };
    assert!(matches!(error, Error::Closed), "{error:?}");
    assert!(read < 2_002, "all was read");
    assert!(bench.runtime.block_on(entries.next()).is_none(), "nothing comes after an error");
    // A reader is dropped in the middle of a batch, begun or not.
    for polls in 0..3 {
        let mut entries = bench.runtime.block_on(bench.log.read_from(Lsn::ZERO)).unwrap();
        drop(polled(entries.next(), polls));
    }
    assert_eq!(bench.reopened().payloads.len(), 2_002);
}

#[test]
fn who_drops_the_last_handle_waits_for_a_checkpoint_whose_future_was_dropped() {
    let Bench { opens: _opens, runtime, log, medium, gate } = Bench::new();
    let at = runtime.block_on(log.checkpoint_at()).unwrap();
    runtime.block_on(log.append_with(b"more".as_slice(), Durability::Buffered)).unwrap();
    gate.shut();
    {
        let _inside = runtime.enter();
        assert!(polled(log.checkpoint(at, Snapshot::default()), 1).is_none());
        gate.is_reached();
        assert!(polled(log.checkpoint(at, Snapshot::default()), 1).is_none(), "one comes after the other");
    }
    let reader = medium.reader();
    let dropped = std::thread::spawn(move || {
        drop(log);
        reader.writer().is_ok()
    });
    // Who did not wait would be done by then.
    for _ in 0..1_000 {
        std::thread::yield_now();
    }
    gate.open();
    assert!(dropped.join().unwrap(), "the lock is held after the last handle was dropped");
    let checkpoints = medium.names().into_iter().filter(|name| matches!(name, Object::Checkpoint(_))).count();
    assert_eq!(checkpoints, 1, "what had begun is completed, and what had not is not");
}

#[test]
fn who_is_dropped_before_there_is_room_in_the_queue_has_done_nothing_and_the_next_gets_the_room() {
    let bench = Bench::new();
    bench.gate.shut();
    let _inside = bench.runtime.enter();
    let mut first = pin!(bench.log.append(b"at the gate".as_slice()));
    assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    bench.gate.is_reached();
    // The worker waits: whoever comes stays in the queue, and then before it.
    let mut queued: Vec<_> = (0..QUEUE).map(|_| Box::pin(bench.log.append(b"queued".as_slice()))).collect();
    for append in &mut queued {
        assert!(append.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let mut dropped = Box::pin(bench.log.append(b"dropped".as_slice()));
    let mut behind = pin!(bench.log.append(b"behind".as_slice()));
    for _ in 0..3 {
        assert!(dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(behind.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    drop(dropped);
    bench.gate.open();
    let last = bench.runtime.block_on(behind).unwrap().last;
    assert_eq!(last.value(), 2 + 1 + QUEUE as u64 + 1, "an append that never was in the queue is in the log");
    for append in queued {
        assert!(bench.runtime.block_on(append).unwrap().last < last);
    }
    assert!(bench.runtime.block_on(first).is_ok());
}

#[test]
fn a_runtime_shut_down_in_the_middle_takes_nothing_that_was_acknowledged() {
    for shut in [false, true] {
        let bench = Bench::new();
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let tasks = runtime();
        if shut {
            bench.gate.shut();
        }
        for task in 0..8_u32 {
            let (log, acknowledged) = (bench.log.clone(), Arc::clone(&acknowledged));
            tasks.spawn(async move {
                for n in 0..1_000_u32 {
                    let payload = (task * 1_000 + n).to_le_bytes();
                    if log.append(payload.as_slice()).await.is_ok() {
                        acknowledged.lock().unwrap().push(payload.to_vec());
                    }
                }
            });
        }
        if shut {
            bench.gate.is_reached();
        } else {
            while acknowledged.lock().unwrap().len() < 20 {
                std::thread::yield_now();
            }
        }
        tasks.shutdown_background();
        bench.gate.open();
        bench.append(b"on another runtime").unwrap();
        let payloads = bench.reopened().payloads;
        let acknowledged = acknowledged.lock().unwrap();
        assert!(acknowledged.iter().all(|payload| payloads.contains(payload)));
        let numbers =
            payloads.iter().filter_map(|payload| Some(u32::from_le_bytes(payload.as_slice().try_into().ok()?)));
        let mut numbers: Vec<_> = numbers.collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count, "an append was carried out twice");
        assert_eq!(payloads.len(), count + 3, "something else is in the log");
    }
}
