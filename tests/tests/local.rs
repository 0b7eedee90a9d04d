//! The log for one thread whose medium is awaited: the same bytes and the same promises as the blocking log.
#![allow(missing_docs)]

use core::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, Waker},
};
use std::rc::Rc;

use duralog::{
    Config, Documents, Durability, Error, Geometry, Lsn, MemoryDevice, Object, Operation, Result, SharedDevice,
    SyncMode,
    core::{AsyncDevice, Flow, OldWriter, Room, TransactionEnd},
    faulty::{Failure, Keep, Medium, Plan},
    local::{Access, Client, Direction, GiveUp, LocalDevice, Log, Outcome, Request},
};
use uuid::Uuid;

/// A blocking device whose every call is pending once before it is done.
struct Awaited<D>(D);

async fn once() {
    let mut polled = false;
    poll_fn(|_| if core::mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

impl<D: SharedDevice> AsyncDevice for Awaited<D> {
    type Error = D::Error;

    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn old_writer(&self) -> OldWriter {
        self.0.old_writer()
    }

    async fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, D::Error> {
        once().await;
        self.0.next(after)
    }

    async fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, D::Error> {
        once().await;
        self.0.prev(before)
    }

    async fn create(&mut self, object: Object, size: u64) -> Result<Room, D::Error> {
        once().await;
        self.0.create(object, size)
    }

    async fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, D::Error> {
        once().await;
        self.0.read(object, at, buf)
    }

    async fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), D::Error> {
        once().await;
        self.0.write(object, at, bytes)
    }

    async fn trim(&mut self, object: Object, at: u64) -> Result<(), D::Error> {
        self.0.trim(object, at)
    }

    async fn remove(&mut self, object: Object) -> Result<(), D::Error> {
        once().await;
        self.0.remove(object)
    }

    async fn sync(&mut self) -> Result<(), D::Error> {
        once().await;
        self.0.sync()
    }
}

impl<D: SharedDevice> LocalDevice for Awaited<D> {
    fn rolls_back(&self) -> bool {
        false
    }

    async fn len(&mut self, object: Object) -> Result<u64, D::Error> {
        SharedDevice::len(&mut self.0, object)
    }

    async fn tidy(&mut self, _: Object) -> Result<(), D::Error> {
        Ok(())
    }
}

#[derive(Default)]
struct Outcomes(RefCell<Vec<(u32, Result<Outcome>)>>);

impl Client for Outcomes {
    fn answer(&self, ticket: u32, outcome: Result<Outcome, &Error>) {
        self.0.borrow_mut().push((ticket, outcome.map_err(Error::clone)));
    }
}

/// A log with its task and what it has told.
struct Opened {
    log: Log,
    task: Pin<Box<dyn Future<Output = ()>>>,
    told: Rc<Outcomes>,
    tickets: u32,
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
    }
}

impl Opened {
    fn open<D: SharedDevice>(device: D, config: Config) -> Result<Self> {
        let told = Rc::new(Outcomes::default());
        let (log, task) = block_on(Log::open(Awaited(device), config, Access::Write, told.clone()))?;
        Ok(Self { log, task: Box::pin(task), told, tickets: 0 })
    }

    fn ask(&mut self, request: Request) -> u32 {
        self.tickets += 1;
        self.log.ask(self.tickets, request);
        self.tickets
    }

    /// Lets the task run so many steps.
    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            if self.task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                break;
            }
        }
    }

    fn outcome(&mut self, ticket: u32) -> Result<Outcome> {
        for _ in 0..100_000 {
            let at = self.told.0.borrow().iter().position(|(told, _)| *told == ticket);
            if let Some(at) = at {
                return self.told.0.borrow_mut().swap_remove(at).1;
            }
            self.run(1);
        }
        panic!("no outcome of request {ticket}");
    }

    fn done(&mut self, request: Request) -> Result<Outcome> {
        let ticket = self.ask(request);
        self.outcome(ticket)
    }

    fn read(&mut self, direction: Direction) -> Vec<Vec<u8>> {
        let entries = Rc::new(RefCell::new(Vec::new()));
        let mut cursor = self.done(Request::Read { from: Lsn::ZERO, to: Lsn::MAX, direction }).unwrap();
        while let Outcome::Cursor(Some(place)) = cursor {
            let taken = entries.clone();
            let sink = Box::new(move |entry: duralog::core::Entry<'_>| {
                taken.borrow_mut().push(entry.payload.to_vec());
                Flow::Pause
            });
            cursor = self.done(Request::Page { cursor: place, sink }).unwrap();
        }
        Rc::try_unwrap(entries).unwrap().into_inner()
    }
}

fn config() -> Config {
    Config::new("").with_sync_mode(SyncMode::Immediate)
}

fn append(n: u32) -> Request {
    let operations = vec![Operation::opaque(n.to_le_bytes())];
    Request::Append { operations, transaction: None, durability: Durability::Durable }
}

const GEOMETRY: Geometry =
    Geometry { segment_size: 4096, granule: 1, copy_offset: 128, blank: 0, settled: false, slots: None };

fn memory() -> MemoryDevice {
    MemoryDevice::new(GEOMETRY)
}

#[test]
fn appends_that_wait_share_a_sync_and_keep_their_order() {
    let mut log = Opened::open(memory(), config()).unwrap();
    let tickets: Vec<u32> = (0..20).map(|n| log.ask(append(n))).collect();
    for (ticket, lsn) in tickets.into_iter().zip(1..) {
        match log.outcome(ticket).unwrap() {
            Outcome::Receipt(receipt) => assert_eq!(receipt.last, Lsn::new(lsn)),
            other => panic!("{other:?}"),
        }
    }
    match log.done(Request::Stats).unwrap() {
        Outcome::Stats(stats) => assert_eq!((stats.appends, stats.groups, stats.syncs), (20, 1, 1)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_it_writes_the_blocking_log_reads_and_back() {
    let device = memory();
    let bytes = device.reader();
    let mut log = Opened::open(device, config()).unwrap();
    for n in 0..200 {
        log.done(append(n)).unwrap();
    }
    let Outcome::Number(id) = log.done(Request::Begin).unwrap() else { panic!() };
    let operations = vec![Operation::opaque(*b"kept")];
    log.done(Request::Append { operations, transaction: Some(id), durability: Durability::Buffered }).unwrap();
    log.done(Request::End { id, end: TransactionEnd::Commit, durability: Durability::Durable }).unwrap();
    log.done(Request::Close).unwrap();
    drop(log);

    let blocking = duralog::Log::open_device(bytes.writer().unwrap(), config()).unwrap();
    assert!(blocking.recovery().closed);
    assert_eq!(blocking.read_from(Lsn::ZERO).unwrap().count(), 203);
    blocking.append(&b"from the blocking log"[..]).unwrap();
    blocking.close().unwrap();
    drop(blocking);

    let mut log = Opened::open(bytes.writer().unwrap(), config()).unwrap();
    let read = log.read(Direction::Forward);
    assert_eq!(read.len(), 204);
    assert_eq!(read[203], b"from the blocking log");
    let mut back = log.read(Direction::Back);
    back.reverse();
    assert_eq!(back, read);
    assert_eq!(log.read(Direction::Counting).len(), 202);
}

#[test]
fn a_state_is_built_up_from_its_checkpoint_and_what_truncation_left() {
    let device = memory();
    let bytes = device.reader();
    let id = |n: u128| Uuid::from_u128(n);
    let insert = |n: u128| Request::Append {
        operations: vec![Operation::insert(id(n), "content", [0.5])],
        transaction: None,
        durability: Durability::Durable,
    };
    let mut log = Opened::open(device, config()).unwrap();
    log.done(Request::Rebuild { state: Rc::new(RefCell::new(Documents::default())) }).unwrap();
    for n in 0..100 {
        log.done(insert(n)).unwrap();
    }
    log.done(Request::Checkpoint { snapshot: None }).unwrap();
    log.done(insert(100)).unwrap();
    let truncated = log.done(Request::Truncate { lsn: Lsn::new(90), give_up: GiveUp::Covered }).unwrap();
    assert!(matches!(truncated, Outcome::Number(90)), "{truncated:?}");
    drop(log);

    let state = Rc::new(RefCell::new(Documents::default()));
    let mut log = Opened::open(bytes.writer().unwrap(), config()).unwrap();
    match log.done(Request::Rebuild { state: state.clone() }).unwrap() {
        Outcome::Rebuilt(rebuilt) => {
            assert_eq!(
                (rebuilt.checkpoint_used.map(|(_, lsn)| lsn), rebuilt.entries_replayed),
                (Some(Lsn::new(100)), 1)
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(state.borrow().len(), 101);
}

/// Media of which one forgets what was not synced, also what it shows, and one does not.
fn media() -> [Medium; 2] {
    [false, true].map(|settled| Medium::new(Geometry { settled, ..GEOMETRY }))
}

#[test]
fn whatever_step_power_is_cut_at_nothing_acknowledged_is_lost() {
    for steps in (0..900).step_by(7) {
        for medium in media() {
            let mut acknowledged = 0;
            if let Ok(mut log) = Opened::open(medium.device(), config()) {
                let tickets: Vec<u32> = (0..150).map(|n| log.ask(append(n))).collect();
                log.run(steps);
                let told = log.told.0.borrow();
                acknowledged = tickets.iter().filter(|ticket| told.iter().any(|(told, _)| told == *ticket)).count();
            }
            medium.power_cut(|_| Keep::None);
            // Twice: what the first opening has written, in place or in another segment, is cut off as well.
            drop(Opened::open(medium.device(), config()).unwrap());
            medium.power_cut(|_| Keep::None);
            let mut log = Opened::open(medium.device(), config()).unwrap();
            let read = log.read(Direction::Forward);
            assert!(read.len() >= acknowledged, "{} of {acknowledged} after {steps} steps", read.len());
            for (entry, n) in read.iter().zip(0u32..) {
                assert_eq!(*entry, n.to_le_bytes());
            }
        }
    }
}

#[test]
fn a_settled_medium_is_gone_on_with_in_the_newest_segment() {
    let segments = media().map(|medium| {
        for n in 0..10 {
            let mut log = Opened::open(medium.device(), config()).unwrap();
            log.done(append(n)).unwrap();
            assert_eq!(log.read(Direction::Forward).len(), n as usize + 1);
            drop(log);
            medium.kill();
        }
        medium.names().iter().filter(|object| matches!(object, Object::Segment(_))).count()
    });
    assert!(segments[0] > 1 && segments[1] == 1, "{segments:?} segments");
}

#[test]
fn whatever_call_is_refused_room_nothing_is_lost_and_the_log_goes_on() {
    let mut refusals = 0;
    for (call, done) in (0..320).flat_map(|call| [(call, 20), (call, 200)]) {
        for medium in media() {
            let mut log = Opened::open(medium.device(), config()).unwrap();
            medium.set_plan(Plan { fail: vec![(call, Failure::NoSpaceAfter(done))], ..Plan::default() });
            let mut kept = Vec::new();
            for n in 0..120u32 {
                match log.done(append(n)) {
                    Ok(_) => kept.push(n.to_le_bytes().to_vec()),
                    Err(Error::NoSpace(_)) => refusals += 1,
                    // A sync that is refused says nothing of what it has done.
                    Err(Error::Poisoned { .. }) => break,
                    Err(error) => panic!("call {call}: {error}"),
                }
            }
            drop(log);
            medium.kill();
            let mut log = Opened::open(medium.device(), config()).unwrap();
            let read = log.read(Direction::Forward);
            // The last one may be there though a sync behind it failed.
            assert!(
                (kept.len()..=kept.len() + 1).contains(&read.len()),
                "call {call}: {} of {}",
                read.len(),
                kept.len()
            );
            assert_eq!(read[..kept.len()], kept, "call {call}");
            log.done(append(7)).unwrap();
        }
    }
    assert!(refusals > 100, "{refusals} refusals");
}

#[test]
fn appends_beyond_the_write_limit_are_answered_when_they_are_durable_and_not_when_they_are_written() {
    let mut told_before_the_end = 0;
    for steps in 0..200 {
        let medium = Medium::new(GEOMETRY);
        let mut acknowledged = 0;
        {
            let mut log = Opened::open(medium.device(), config().with_write_limit(512)).unwrap();
            // Some twenty make a write.
            let tickets: Vec<u32> = (0..60).map(|n| log.ask(append(n))).collect();
            log.run(steps);
            let told = log.told.0.borrow();
            acknowledged += tickets.iter().filter(|ticket| told.iter().any(|(told, _)| told == *ticket)).count();
        }
        told_before_the_end += usize::from((1..60).contains(&acknowledged));
        medium.power_cut(|_| Keep::None);
        let mut log = Opened::open(medium.device(), config()).unwrap();
        let read = log.read(Direction::Forward);
        assert!(read.len() >= acknowledged, "{} of {acknowledged} after {steps} steps", read.len());
    }
    println!("{told_before_the_end} runs ended with some appends answered");
}
