//! The log for one thread whose medium is awaited: the same bytes and the same promises as the blocking log.
#![allow(missing_docs)]

use core::{
    cell::RefCell,
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, Waker},
};
use std::{collections::BTreeSet, rc::Rc};

use duralog::{
    Config, Documents, Durability, Error, Geometry, Lsn, MemoryDevice, Object, Operation, Policy, Result, SharedDevice,
    Snapshot, StateMachine, SyncMode,
    core::{AsyncDevice, Entry, Finding, Flow, Host, OldWriter, Room, TransactionEnd},
    faulty::{Failure, Keep, Medium, Plan, Random},
    local::{Access, Client, Direction, GiveUp, LocalDevice, Log, Outcome, Request, Sink},
};
use duralog_tests::misses_nothing;
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

struct Each<F>(F);

impl<F: FnMut(Entry<'_>) -> Flow> Host for Each<F> {
    fn entry(&mut self, entry: Entry<'_>) -> Flow {
        (self.0)(entry)
    }
}

/// A sink that does this with each entry.
fn each(take: impl FnMut(Entry<'_>) -> Flow + 'static) -> Sink {
    Box::new(Each(take))
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
        Self::open_for(device, config, Access::Write)
    }

    fn open_for<D: SharedDevice>(device: D, config: Config, access: Access) -> Result<Self> {
        let told = Rc::new(Outcomes::default());
        let (log, task) = block_on(Log::open(Awaited(device), config, access, told.clone()))?;
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
            let sink = each(move |entry| {
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
fn who_waits_on_a_log_that_found_no_room_when_it_was_opened_is_told_so_until_there_is_some() {
    let [medium, _] = media();
    let mut log = Opened::open(medium.device(), config()).unwrap();
    (0..3).for_each(|n| drop(log.done(append(n)).unwrap()));
    drop(log);
    medium.kill();
    let full = Plan { fail: (0..500).map(|call| (call, Failure::NoSpace)).collect(), ..Plan::default() };
    medium.set_plan(full);
    let mut log = Opened::open(medium.device(), config()).unwrap();
    for _ in 0..2 {
        let waited = log.done(Request::Wait { lsn: Lsn::MAX });
        assert!(matches!(waited, Err(Error::NoSpace(_))), "{waited:?}");
    }
    medium.set_plan(Plan::default());
    let waited = log.done(Request::Wait { lsn: Lsn::MAX });
    assert!(matches!(&waited, Ok(Outcome::Receipt(receipt)) if receipt.last == Lsn::new(3)), "{waited:?}");
    log.done(append(3)).unwrap();
    assert_eq!(log.read(Direction::Forward).len(), 4);
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

#[test]
fn a_truncation_whose_sync_fails_takes_no_entry_with_it() {
    for call in 0..4 {
        for medium in media() {
            let mut log = Opened::open(medium.device(), config()).unwrap();
            log.done(numbered(&[1], None, Durability::Buffered)).unwrap();
            medium.set_plan(Plan { fail: vec![(call, Failure::SyncLoses(Vec::new()))], ..Plan::default() });
            let truncated = log.done(Request::Truncate { lsn: Lsn::FIRST, give_up: GiveUp::Anyway });
            let acknowledged = log.done(Request::Wait { lsn: Lsn::MAX }).is_ok();
            drop(log);
            medium.power_cut(|_| Keep::None);
            let read = Opened::open(medium.device(), config()).unwrap().read(Direction::Forward);
            assert!(!acknowledged || read.len() == 1, "call {call}: {truncated:?}, then {} entries", read.len());
        }
    }
}

/// Every entry that was applied, in order: its LSN and its number.
#[derive(Default)]
struct Applied(Vec<(u64, u32)>);

impl StateMachine for Applied {
    type Error = Infallible;

    fn apply(&mut self, lsn: Lsn, operation: &Operation) {
        let Operation::Opaque { bytes } = operation else { panic!("{operation:?} was applied") };
        self.0.push((lsn.value(), u32::from_le_bytes(bytes[..4].try_into().unwrap())));
    }

    fn snapshot(&self) -> Snapshot {
        let entries = self.0.iter().flat_map(|(lsn, n)| [&lsn.to_le_bytes()[..], &n.to_le_bytes()].concat());
        Snapshot { bytes: entries.collect(), ..Snapshot::default() }
    }

    fn load(&mut self, snapshot: &Snapshot) -> Result<(), Infallible> {
        let entries = snapshot.bytes.chunks_exact(12).map(|entry| {
            let (lsn, n) = entry.split_at(8);
            (u64::from_le_bytes(lsn.try_into().unwrap()), u32::from_le_bytes(n.try_into().unwrap()))
        });
        self.0 = entries.collect();
        Ok(())
    }
}

/// As the log keeps it and the program sees it.
type Kept = Rc<RefCell<Applied>>;

fn numbered(numbers: &[u32], transaction: Option<u64>, durability: Durability) -> Request {
    let operations = numbers.iter().map(|n| Operation::opaque(n.to_le_bytes().repeat(1 + *n as usize % 20)));
    Request::Append { operations: operations.collect(), transaction, durability }
}

/// A log that keeps a state, and that state.
fn keeping(device: impl SharedDevice + 'static, config: Config) -> (Opened, Kept) {
    let (mut log, state) = (Opened::open(device, config).unwrap(), Kept::default());
    log.done(Request::Rebuild { state: state.clone() }).unwrap();
    (log, state)
}

/// What is applied when the log's last checkpoint is loaded by another handle, and what follows.
fn rebuilt(bytes: &MemoryDevice) -> Vec<(u64, u32)> {
    let (_log, state) = keeping(bytes.writer().unwrap(), config());
    state.take().0
}

#[test]
fn what_is_buffered_behind_what_is_to_be_durable_is_applied_after_it() {
    let device = memory();
    let bytes = device.reader();
    let (mut log, state) = keeping(device, config());
    let mixed = [Durability::Durable, Durability::Buffered, Durability::Os, Durability::Buffered];
    let tickets: Vec<u32> = (1..).zip(mixed).map(|(n, durability)| log.ask(numbered(&[n], None, durability))).collect();
    for ticket in tickets {
        log.outcome(ticket).unwrap();
    }
    let in_order = [(1, 1), (2, 2), (3, 3), (4, 4)];
    assert_eq!(state.borrow().0, in_order);
    log.done(Request::Checkpoint { snapshot: None }).unwrap();
    drop(log);
    assert_eq!(rebuilt(&bytes), in_order);
}

#[test]
fn what_a_transaction_holds_is_applied_at_its_commit_and_is_in_the_checkpoints_behind_that() {
    let device = memory();
    let bytes = device.reader();
    let mut log = Opened::open(device, config()).unwrap();
    let begin = |log: &mut Opened| match log.done(Request::Begin).unwrap() {
        Outcome::Number(id) => id,
        other => panic!("{other:?}"),
    };
    // 1 and 3, before there is a state; 2 is rolled back, and 4 left open.
    let [kept, given_up, open] = [(); 3].map(|()| begin(&mut log));
    let buffered = |n, id| numbered(&[n], Some(id), Durability::Buffered);
    log.done(buffered(1, kept)).unwrap();
    log.done(buffered(2, given_up)).unwrap();
    let state = Kept::default();
    log.done(Request::Rebuild { state: state.clone() }).unwrap();
    log.done(buffered(3, kept)).unwrap();
    log.done(buffered(4, open)).unwrap();
    log.done(numbered(&[5], None, Durability::Buffered)).unwrap();
    assert_eq!(state.borrow().0, [(8, 5)]);
    log.done(Request::Checkpoint { snapshot: None }).unwrap();
    let end = |id, end| Request::End { id, end, durability: Durability::Durable };
    log.done(end(given_up, TransactionEnd::Rollback)).unwrap();
    log.done(end(kept, TransactionEnd::Commit)).unwrap();
    let counted = [(8, 5), (4, 1), (6, 3)];
    assert_eq!(state.borrow().0, counted);
    let again = Kept::default();
    log.done(Request::Rebuild { state: again.clone() }).unwrap();
    assert_eq!(again.borrow().0, counted, "from the checkpoint before the commit");
    log.done(Request::Checkpoint { snapshot: None }).unwrap();
    log.done(end(open, TransactionEnd::Commit)).unwrap();
    drop(log);
    assert_eq!(rebuilt(&bytes), [&counted[..], &[(7, 4)]].concat());
}

/// So many lives are tried.
const SEEDS: u64 = 300;

/// What a random life of a log asked for, and what came of it.
struct Life {
    random: Random,
    medium: Medium,
    config: Config,
    log: Opened,
    /// The state that the log keeps.
    state: Option<Kept>,
    /// What counted when the log was opened.
    before: Vec<(u64, u32)>,
    /// What counts since: where it does, its LSN and its number.
    since: BTreeSet<(u64, u64, u32)>,
    open: Vec<Open>,
    /// The last LSNs known to survive the end of the program, and that of the machine.
    written: u64,
    durable: u64,
    numbers: u32,
    truncates: bool,
    told: Told,
    /// How many refusals there were before the requests that are under way.
    refusals: u32,
}

/// A transaction that is open, with its entries.
struct Open {
    id: u64,
    entries: Vec<(u64, u32)>,
    ending: bool,
    /// How many refusals there were before the requests of which one began it.
    refusals: u32,
}

/// How often what is worth to be tested came.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    refused: u32,
    poisoned: u32,
    broken: u32,
    commits: u32,
    checkpoints: u32,
    rebuilt: u32,
    crashes: u32,
}

enum Asked {
    Append { numbers: Vec<u32>, transaction: Option<u64> },
    Begin,
    End { id: u64, end: TransactionEnd },
    Rebuild(Kept),
    Checkpoint,
    Other,
}

impl Life {
    fn begin(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let [first, second] = media();
        let medium = if random.once_in(2) { first } else { second };
        let mode = if random.once_in(2) { SyncMode::Immediate } else { SyncMode::default() };
        let mut config = Config::new("").with_sync_mode(mode);
        if random.once_in(2) {
            config = config.with_write_limit(1024);
        }
        let log = Opened::open(medium.device(), config.clone()).unwrap();
        let truncates = random.once_in(3);
        Self {
            random,
            medium,
            config,
            log,
            state: None,
            before: Vec::new(),
            since: BTreeSet::new(),
            open: Vec::new(),
            written: 0,
            durable: 0,
            numbers: 0,
            truncates,
            told: Told::default(),
            refusals: 0,
        }
    }

    fn request(&mut self) -> (Request, Asked) {
        let durability = self.random.pick(&[Durability::Buffered, Durability::Os, Durability::Durable]);
        let open = (0..self.open.len()).find(|_| self.random.once_in(2)).filter(|at| !self.open[*at].ending);
        match (self.random.below(16), open) {
            (0..=6, transaction) => {
                let transaction = transaction.map(|at| self.open[at].id);
                let numbers: Vec<u32> = (0..=self.random.below(3)).map(|_| self.number()).collect();
                (numbered(&numbers, transaction, durability), Asked::Append { numbers, transaction })
            }
            (7..=8, _) => (Request::Begin, Asked::Begin),
            (9..=10, Some(at)) => {
                let end = self.random.pick(&[TransactionEnd::Commit, TransactionEnd::Commit, TransactionEnd::Rollback]);
                let id = self.open[at].id;
                self.open[at].ending = true;
                (Request::End { id, end, durability }, Asked::End { id, end })
            }
            (11..=12, _) if self.state.is_some() => (Request::Checkpoint { snapshot: None }, Asked::Checkpoint),
            (13, _) if self.state.is_none() || self.random.once_in(4) => {
                let state = Kept::default();
                (Request::Rebuild { state: state.clone() }, Asked::Rebuild(state))
            }
            (14, _) if self.truncates => (Request::Truncate { lsn: Lsn::MAX, give_up: GiveUp::Covered }, Asked::Other),
            (14, _) => (Request::Stats, Asked::Other),
            _ => (Request::Wait { lsn: Lsn::MAX }, Asked::Other),
        }
    }

    fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    /// Asks for several things at once, and lets so many steps pass, or as many as it takes; tells whether the log goes on.
    fn turn(&mut self, steps: Option<usize>) -> bool {
        self.refusals = self.told.refused;
        let requests = 1 + self.random.below(6);
        let asked: Vec<(u32, Asked)> = (0..requests)
            .map(|_| {
                let (request, asked) = self.request();
                (self.log.ask(request), asked)
            })
            .collect();
        if let Some(steps) = steps {
            self.log.run(steps);
        }
        let mut goes_on = true;
        for (ticket, asked) in asked {
            if steps.is_some() && !self.log.told.0.borrow().iter().any(|(told, _)| *told == ticket) {
                continue;
            }
            let outcome = self.log.outcome(ticket);
            goes_on &= self.took(asked, outcome);
        }
        goes_on
    }

    fn took(&mut self, asked: Asked, outcome: Result<Outcome>) -> bool {
        let receipt = match &outcome {
            Ok(Outcome::Receipt(receipt)) => {
                let last = receipt.last.value();
                if receipt.durability >= Durability::Os {
                    self.written = self.written.max(last);
                }
                if receipt.durability == Durability::Durable {
                    self.durable = self.durable.max(last);
                }
                Some((receipt.first.value(), last))
            }
            Err(Error::Poisoned { .. }) => {
                self.told.poisoned += 1;
                return false;
            }
            _ => None,
        };
        match (asked, &outcome) {
            // Something of it was refused, with whatever else was to be written: it never counts.
            (Asked::Append { transaction: Some(id), .. } | Asked::End { id, .. }, Err(Error::NoTransaction)) => {
                let refused = self.told.refused;
                self.open.retain(|open| {
                    assert!(
                        open.id != id || refused > open.refusals,
                        "transaction {id} is open, and nothing was refused"
                    );
                    open.id != id
                });
                self.told.broken += 1;
            }
            (Asked::Append { numbers, transaction }, Ok(_)) => {
                let entries = (receipt.unwrap().0..).zip(numbers);
                match self.open.iter_mut().find(|open| Some(open.id) == transaction) {
                    Some(open) => open.entries.extend(entries),
                    None => self.since.extend(entries.map(|(lsn, n)| (lsn, lsn, n))),
                }
            }
            (Asked::Begin, Ok(Outcome::Number(id))) => {
                self.open.push(Open { id: *id, entries: Vec::new(), ending: false, refusals: self.refusals });
            }
            (Asked::End { id, end }, _) => {
                if outcome.is_err() {
                    self.told.refused += 1;
                }
                let Some(at) = self.open.iter().position(|open| open.id == id) else {
                    assert!(
                        receipt.is_none() || end == TransactionEnd::Rollback,
                        "{id} lost entries, and is committed"
                    );
                    return true;
                };
                self.open[at].ending = false;
                if let Some((place, _)) = receipt {
                    let ended = self.open.swap_remove(at).entries;
                    if end == TransactionEnd::Commit {
                        self.told.commits += 1;
                        self.since.extend(ended.into_iter().map(|(lsn, n)| (place, lsn, n)));
                    }
                }
            }
            (Asked::Rebuild(state), Ok(_)) => {
                self.told.rebuilt += 1;
                self.state = Some(state);
            }
            (Asked::Checkpoint, Ok(_)) => self.told.checkpoints += 1,
            (_, Err(Error::NoSpace(_))) => self.told.refused += 1,
            // What is removed may come back, and no more.
            (Asked::Other, Err(Error::Open(_) | Error::Device { .. })) => self.told.refused += 1,
            (_, Ok(_) | Err(Error::TooManyTransactions { .. })) => {}
            (_, Err(error)) => panic!("{error:?}"),
        }
        true
    }

    /// What counts of all that was answered.
    fn counted(&self, last: u64) -> Vec<(u64, u32)> {
        let since = self.since.iter().filter(|(place, ..)| *place <= last).map(|(_, lsn, n)| (*lsn, *n));
        self.before.iter().copied().chain(since).collect()
    }

    /// What counts by the log alone, if that was never truncated.
    fn read(&mut self) -> Option<Vec<u32>> {
        let number = |payload: Vec<u8>| u32::from_le_bytes(payload[..4].try_into().unwrap());
        (!self.truncates).then(|| self.log.read(Direction::Counting).into_iter().map(number).collect())
    }

    /// Another program opens the log after this one was killed, or the power was cut: what was acknowledged is there.
    fn reopen(&mut self) {
        self.told.crashes += 1;
        let survives = if self.random.once_in(2) {
            self.medium.kill();
            self.written
        } else {
            self.medium.power_cut_at_random(&mut self.random);
            self.durable
        };
        self.log = Opened::open(self.medium.device(), self.config.clone()).unwrap();
        let state = Kept::default();
        self.log.done(Request::Rebuild { state: state.clone() }).unwrap();
        let found = state.borrow().0.clone();
        let mut rest = found.iter();
        for entry in self.counted(survives) {
            assert!(rest.any(|found| *found == entry), "{entry:?} of {:?} is lost: {found:?}", self.counted(survives));
        }
        (self.before, self.since, self.open) = (found, BTreeSet::new(), Vec::new());
        (self.written, self.durable) = (0, 0);
        self.state = Some(state);
        self.compare();
        if self.random.once_in(2) {
            self.medium.kill();
            self.log = Opened::open(self.medium.device(), self.config.clone()).unwrap();
            self.state = None;
        }
    }

    /// The state is what was answered, and what the log gives without the checkpoints' help.
    fn compare(&mut self) {
        let counted = self.counted(u64::MAX);
        if let Some(state) = &self.state {
            assert_eq!(state.borrow().0, counted);
        }
        if self.random.once_in(2)
            && let Some(read) = self.read()
        {
            assert_eq!(read, counted.iter().map(|(_, n)| *n).collect::<Vec<_>>());
        }
    }
}

#[test]
fn whatever_is_asked_for_and_refused_the_state_is_that_of_the_log() {
    let mut told = Told::default();
    for seed in 0..SEEDS {
        let mut life = Life { told, ..Life::begin(seed) };
        for _ in 0..25 {
            if life.random.once_in(3) {
                let (call, done) = (life.random.below(12), life.random.pick(&[0, 20, 200]));
                let refused = Failure::NoSpaceAfter(done);
                let failure = if life.random.once_in(4) { Failure::SyncLoses(Vec::new()) } else { refused };
                life.medium.set_plan(Plan { fail: vec![(call, failure)], ..Plan::default() });
            }
            let steps = life.random.once_in(10).then(|| life.random.index(40));
            let goes_on = life.turn(steps);
            life.medium.set_plan(Plan::default());
            if steps.is_some() || !goes_on {
                life.reopen();
            } else {
                life.compare();
            }
        }
        told = life.told;
    }
    println!("{told:?}");
    let Told { refused, poisoned, broken, commits, checkpoints, rebuilt, crashes } = told;
    assert!(
        [refused, poisoned, broken, commits, checkpoints, rebuilt, crashes].into_iter().all(|times| times > 100),
        "{told:?}"
    );
}

/// Bytes of a blocking log: 100 entries, a checkpoint, and 50 more.
fn checkpointed() -> MemoryDevice {
    let device = memory();
    let bytes = device.reader();
    let log = duralog::Log::open_device(device, config()).unwrap();
    let append = |n: u32| log.append(n.to_le_bytes()).map(drop).unwrap();
    (0..100).for_each(append);
    log.checkpoint(log.checkpoint_at(), &Snapshot::default()).unwrap();
    (0..50).for_each(append);
    log.close().unwrap();
    bytes
}

/// The same bytes on a medium of their own, but for what `change` makes of an object; what it makes nothing of is not there.
fn changed(bytes: &MemoryDevice, change: impl Fn(Object, Vec<u8>) -> Option<Vec<u8>>) -> MemoryDevice {
    let device = memory();
    for object in bytes.names() {
        if let Some(bytes) = change(object, bytes.object(object).unwrap()) {
            device.put(object, bytes);
        }
    }
    device.reader()
}

/// The same bytes, but for checkpoints: their heads are whole, and what they hold is not.
fn rotten(bytes: &MemoryDevice) -> MemoryDevice {
    changed(bytes, |object, mut bytes| {
        let last = bytes.len() - 1;
        bytes[last] ^= u8::from(matches!(object, Object::Checkpoint(_)));
        Some(bytes)
    })
}

/// Goes on with a reader to its end, or to its error.
fn to_the_end(log: &mut Opened, mut place: Outcome) -> Result<usize> {
    let mut pages = 0;
    while let Outcome::Cursor(Some(cursor)) = place {
        place = log.done(Request::Page { cursor, sink: each(|_| Flow::Pause) })?;
        pages += 1;
    }
    Ok(pages)
}

fn documents() -> Rc<RefCell<Documents>> {
    Rc::default()
}

#[test]
fn a_reader_that_a_truncation_overtakes_is_told_so_and_the_log_goes_on() {
    for direction in [Direction::Forward, Direction::Back, Direction::Counting] {
        let mut log = Opened::open(memory(), config()).unwrap();
        (0..400).for_each(|n| drop(log.done(append(n)).unwrap()));
        let place = log.done(Request::Read { from: Lsn::ZERO, to: Lsn::MAX, direction }).unwrap();
        let Outcome::Cursor(Some(cursor)) = place else { panic!("{place:?}") };
        let place = log.done(Request::Page { cursor, sink: each(|_| Flow::Pause) }).unwrap();
        log.done(Request::Truncate { lsn: Lsn::new(300), give_up: GiveUp::Anyway }).unwrap();
        let read = to_the_end(&mut log, place);
        let low_water = Lsn::new(300);
        assert!(
            matches!(read, Err(Error::Truncated { low_water: told }) if told == low_water),
            "{direction:?}: {read:?}"
        );
        log.done(append(401)).unwrap();
    }
}

#[test]
fn damage_stops_writing_unless_a_checkpoint_holds_what_is_gone() {
    let first = Object::Segment(duralog::SegmentId::new(1));
    for (object_holds, goes_on) in [(true, true), (false, false)] {
        let bytes = changed(&checkpointed(), |object, mut bytes| {
            if object == first {
                bytes[700] ^= 1;
            }
            Some(bytes).filter(|_| object_holds || !matches!(object, Object::Checkpoint(_)))
        });
        let mut log = Opened::open(bytes.writer().unwrap(), config()).unwrap();
        let read = Request::Read { from: Lsn::ZERO, to: Lsn::MAX, direction: Direction::Forward };
        let place = log.done(read).unwrap();
        let read = to_the_end(&mut log, place);
        assert!(matches!(read, Err(Error::Damaged(_))), "{read:?}");
        let appended = log.done(append(7));
        assert_eq!(appended.is_ok(), goes_on, "{appended:?}");
        assert!(goes_on || matches!(appended, Err(Error::Poisoned { .. })));
    }
}

/// What a reader is told: the LSNs of entries, and of what was skipped.
#[derive(Clone, Default)]
struct Shown(Rc<RefCell<Vec<(u64, &'static str)>>>);

impl Host for Shown {
    fn entry(&mut self, entry: Entry<'_>) -> Flow {
        self.0.borrow_mut().push((entry.lsn.value(), "entry"));
        Flow::Continue
    }

    fn finding(&mut self, finding: &Finding) {
        let (first, last) = finding.lsns.unwrap();
        assert_eq!(first, last);
        self.0.borrow_mut().push((first.value(), "skipped"));
    }
}

#[test]
fn a_reader_by_a_policy_that_skips_damage_is_told_of_it_in_its_place() {
    let bytes = changed(&checkpointed(), |object, mut bytes| {
        bytes.iter_mut().skip(700).take(1).for_each(|byte| {
            *byte ^= u8::from(object == Object::Segment(duralog::SegmentId::new(1)));
        });
        Some(bytes)
    });
    let config = Config { policy: Policy::Inspect, ..config() };
    let reference = duralog::LogReader::open_device(bytes.reader(), config.clone()).unwrap();
    for direction in [Direction::Forward, Direction::Counting] {
        let mut entries = match direction {
            Direction::Counting => reference.replay_from(Lsn::ZERO).unwrap(),
            _ => reference.read(Lsn::ZERO, Lsn::MAX).unwrap(),
        };
        let mut expected: Vec<_> = entries.by_ref().map(|entry| (entry.unwrap().lsn.value(), "entry")).collect();
        let [skipped] = entries.findings() else { panic!("{:?}", entries.findings()) };
        expected.push((skipped.lsns.unwrap().0.value(), "skipped"));
        expected.sort_unstable();
        let mut log = Opened::open_for(bytes.writer().unwrap(), config.clone(), Access::Read).unwrap();
        let place = log.done(Request::Read { from: Lsn::ZERO, to: Lsn::MAX, direction }).unwrap();
        let Outcome::Cursor(Some(cursor)) = place else { panic!("{place:?}") };
        let told = Shown::default();
        log.done(Request::Page { cursor, sink: Box::new(told.clone()) }).unwrap();
        assert_eq!(*told.0.borrow(), expected, "{direction:?}");
    }
}

#[test]
fn a_checkpoint_is_loaded_without_what_follows_it_and_no_state_is_kept() {
    let mut log = Opened::open(memory(), config()).unwrap();
    let load = |log: &mut Opened| {
        let state = documents();
        match log.done(Request::Load { state: state.clone() }) {
            Ok(Outcome::Rebuilt(rebuilt)) => {
                assert_eq!(rebuilt.entries_replayed, 0);
                Ok((rebuilt.checkpoint_used.map(|(_, lsn)| lsn.value()), state.borrow().len()))
            }
            Err(error) => Err(error),
            other => panic!("{other:?}"),
        }
    };
    let insert = |n| Request::Append {
        operations: vec![Operation::insert(Uuid::from_u128(n), "content", [0.5])],
        transaction: None,
        durability: Durability::Durable,
    };
    assert_eq!(load(&mut log).unwrap(), (None, 0));
    log.done(insert(1)).unwrap();
    let state = documents();
    state.borrow_mut().apply(Lsn::FIRST, &Operation::insert(Uuid::from_u128(1), "content", [0.5]));
    let snapshot = StateMachine::snapshot(&*state.borrow());
    log.done(Request::Checkpoint { snapshot: Some(snapshot.clone()) }).unwrap();
    log.done(insert(2)).unwrap();
    assert_eq!(load(&mut log).unwrap(), (Some(1), 1));
    // None is kept yet: a snapshot is taken.
    log.done(Request::Checkpoint { snapshot: Some(snapshot.clone()) }).unwrap();
    log.done(Request::Rebuild { state: documents() }).unwrap();
    let refused = log.done(Request::Checkpoint { snapshot: Some(snapshot) });
    assert!(matches!(refused, Err(Error::InStore)), "{refused:?}");
    assert_eq!(load(&mut log).unwrap(), (Some(3), 1));
    log.done(Request::Checkpoint { snapshot: None }).unwrap();
    assert_eq!(load(&mut log).unwrap().0, Some(4));
}

#[test]
fn truncation_makes_room_on_a_full_medium_also_for_a_log_that_was_closed_on_it() {
    for (room, entries) in [3, 4, 6].into_iter().flat_map(|segments| [(segments << 12, 60), (segments << 12, 80)]) {
        for is_closed in [false, true] {
            let device = memory().with_capacity_limit(room);
            let medium = device.reader();
            let mut log = Opened::open(device, config()).unwrap();
            (0..entries).for_each(|n| drop(log.done(append(n)).unwrap()));
            log.done(Request::Checkpoint { snapshot: Some(Snapshot::default()) }).unwrap();
            while log.done(append(entries)).is_ok() {}
            if is_closed {
                log.done(Request::Close).unwrap();
                drop(log);
                log = Opened::open(medium.writer().unwrap(), config()).unwrap();
            }
            let truncated = log.done(Request::Truncate { lsn: Lsn::MAX, give_up: GiveUp::Covered });
            let low_water = u64::from(entries) + 1;
            assert!(
                matches!(truncated, Ok(Outcome::Number(lsn)) if lsn == low_water),
                "room {room}, {entries} entries, closed {is_closed}: {truncated:?}"
            );
            log.done(append(0)).unwrap();
        }
    }
}

#[test]
fn what_was_refused_for_want_of_room_is_not_in_the_log_once_it_was_closed() {
    for done in [1, 40, 60, 80, 100, 140, 200] {
        let medium = Medium::new(GEOMETRY);
        let mut log = Opened::open(medium.device(), config()).unwrap();
        (0..5).for_each(|n| drop(log.done(append(n)).unwrap()));
        medium.set_plan(Plan { fail: vec![(0, Failure::NoSpaceAfter(done))], ..Plan::default() });
        let tickets = [log.ask(append(100)), log.ask(append(101))];
        for ticket in tickets {
            assert!(matches!(log.outcome(ticket), Err(Error::NoSpace(_))));
        }
        medium.set_plan(Plan::default());
        log.done(Request::Close).unwrap();
        let reader = duralog::LogReader::open_device(medium.reader(), config()).unwrap();
        let found = reader.recovery();
        assert_eq!((found.last_valid_lsn, found.closed), (Lsn::new(5), true), "after {done} bytes: {found:?}");
        assert_eq!(found.torn_tail, None, "after {done} bytes");
    }
}

#[test]
fn nothing_is_removed_by_a_mark_that_a_cache_alone_may_hold() {
    let medium = Medium::new(GEOMETRY);
    let log = duralog::Log::open_device(medium.device(), config()).unwrap();
    for _ in 0..100 {
        log.append(&[7; 100][..]).unwrap();
    }
    // The cache shows the mark, and the medium has lost it.
    medium.set_plan(Plan { fail: vec![(1, Failure::SyncLoses(Vec::new()))], ..Plan::default() });
    log.discard_before(log.current_lsn()).unwrap_err();
    drop(log);
    medium.kill();
    let taken = medium.names().iter().map(|name| medium.object(*name).unwrap().len() as u64).sum();
    medium.set_plan(Plan { capacity: Some(taken), ..Plan::default() });
    let mut log = Opened::open(medium.device(), config()).unwrap();
    let truncated = log.done(Request::Truncate { lsn: Lsn::FIRST, give_up: GiveUp::Covered });
    assert!(matches!(truncated, Err(Error::NoSpace(_))), "{truncated:?}");
    drop(log);
    medium.power_cut(|_| Keep::All);
    let log = duralog::Log::open_device(medium.device(), config().with_full_check()).unwrap();
    assert_eq!((log.low_water_lsn(), log.recovery().clean), (Lsn::FIRST, true), "{}", medium.trace());
}

#[test]
fn no_checkpoint_holds_what_a_cache_alone_may_hold() {
    let medium = Medium::new(GEOMETRY);
    let log = duralog::Log::open_device(medium.device(), config()).unwrap();
    log.append(&[7; 100][..]).unwrap();
    // The cache shows the second, and the medium has lost it.
    medium.set_plan(Plan { fail: vec![(1, Failure::SyncLoses(Vec::new()))], ..Plan::default() });
    log.append(&[7; 100][..]).unwrap_err();
    drop(log);
    medium.kill();
    // There is no room for the segment that the opening begins.
    let plan = Plan { fail: vec![(0, Failure::NoSpace)], ..Plan::default() };
    let done = misses_nothing(
        "local",
        (&medium, &plan),
        &config(),
        |_| Keep::All,
        |device| {
            let snapshot = Some(StateMachine::snapshot(&Documents::default()));
            Opened::open(device, config()).is_ok_and(|mut log| log.done(Request::Checkpoint { snapshot }).is_ok())
        },
    );
    assert!(done, "no checkpoint is made");
}

#[test]
fn of_a_checkpoint_whose_entry_is_refused_no_crash_brings_the_entry_back() {
    // Or, of a device that gives no room back, the entry and the checkpoint.
    for gives_back in [true, false] {
        let medium = Medium::new(GEOMETRY);
        let mut log = Opened::open(medium.device(), config()).unwrap();
        (0..5).for_each(|n| drop(log.done(append(n)).unwrap()));
        log.done(Request::Truncate { lsn: Lsn::new(4), give_up: GiveUp::Anyway }).unwrap();
        // It is created, written and synced; then all of its entry's bytes reach the medium, and there is no room.
        let refused = (3, Failure::NoSpaceAfter(usize::MAX));
        let fail = if gives_back { vec![refused] } else { vec![refused, (4, Failure::Error)] };
        medium.set_plan(Plan { fail, ..Plan::default() });
        let snapshot = Some(StateMachine::snapshot(&Documents::default()));
        let refused = log.done(Request::Checkpoint { snapshot });
        assert!(matches!(refused, Err(Error::NoSpace(_))), "{refused:?}\n{}", medium.trace());
        drop(log);
        medium.power_cut(|_| Keep::All);
        let is_there = medium.names().iter().any(|name| matches!(name, Object::Checkpoint(_)));
        assert_ne!(is_there, gives_back, "{}", medium.trace());
        let mut log = Opened::open(medium.device(), config()).unwrap();
        let rebuilt = log.done(Request::Rebuild { state: documents() });
        assert!(rebuilt.is_ok(), "{rebuilt:?}\n{}", medium.trace());
    }
}

#[test]
fn a_checkpoint_for_whose_entry_no_lsn_is_left_is_taken_back() {
    let medium = memory();
    let bytes = medium.reader();
    let log = duralog::Log::open_device(medium, config()).unwrap();
    log.reset_to(Lsn::new(u64::MAX - 1)).unwrap();
    log.append(&b"the last"[..]).unwrap();
    drop(log);
    let mut log = Opened::open(bytes.writer().unwrap(), config()).unwrap();
    let refused = log.done(Request::Checkpoint { snapshot: Some(Snapshot::default()) });
    let is_there = bytes.names().iter().any(|object| matches!(object, Object::Checkpoint(_)));
    assert!(matches!(refused, Err(Error::Exhausted)) && !is_there, "{refused:?}");
}

#[test]
fn what_was_given_up_without_a_checkpoint_is_missed_once_one_held_it_and_is_gone() {
    // Given up before the checkpoint, which holds it; or behind it, while a transaction is open that it needs entries of.
    for before in [true, false] {
        let medium = memory();
        let bytes = medium.reader();
        let mut log = Opened::open(medium, config()).unwrap();
        (0..5).for_each(|n| drop(log.done(append(n)).unwrap()));
        let discard = |log: &mut Opened, lsn| {
            let truncated = log.done(Request::Truncate { lsn: Lsn::new(lsn), give_up: GiveUp::Anyway });
            assert!(matches!(truncated, Ok(Outcome::Number(number)) if number == lsn), "{truncated:?}");
        };
        if before {
            discard(&mut log, 4);
        } else {
            log.done(Request::Begin).unwrap();
            log.done(append(5)).unwrap();
        }
        let rebuilt = log.done(Request::Rebuild { state: documents() });
        assert!(rebuilt.is_ok(), "{rebuilt:?}");
        log.done(Request::Checkpoint { snapshot: None }).unwrap();
        if !before {
            discard(&mut log, 7);
        }
        log.done(append(7)).unwrap();
        log.done(Request::Close).unwrap();
        drop(log);
        let rotten = rotten(&bytes);
        let mut log = Opened::open(rotten.writer().unwrap(), config()).unwrap();
        let rebuilt = log.done(Request::Rebuild { state: documents() });
        assert!(matches!(rebuilt, Err(Error::StateLost { .. })), "before: {before}: {rebuilt:?}");
        // Where the log does not say that a checkpoint holds what it gave up, a state may be given to it.
        assert_eq!(log.done(append(8)).is_ok(), !before);
    }
}

#[test]
fn a_log_cut_behind_its_last_checkpoint_misses_none_once_entries_are_given_up() {
    let medium = memory();
    let bytes = medium.reader();
    let log = duralog::Log::open_device(medium, config().with_checkpoint_retention(1)).unwrap();
    let entries = |most: u64| (1..=most).for_each(|_| drop(log.append(&b"entry"[..])));
    entries(10);
    log.checkpoint(log.checkpoint_at(), &Snapshot::default()).unwrap();
    entries(9);
    let at = log.checkpoint_at();
    entries(10);
    log.checkpoint(at, &Snapshot::default()).unwrap();
    // The entry of the second one goes, and then it does, which had taken the place of the first.
    [25, 15].into_iter().for_each(|lsn| log.truncate_after(Lsn::new(lsn)).unwrap());
    log.discard_before(Lsn::new(5)).unwrap();
    drop(log);
    let opened = Opened::open(bytes.writer().unwrap(), config().with_full_check());
    assert!(opened.is_ok(), "{:?}", opened.err());
    let rebuilt = opened.unwrap().done(Request::Rebuild { state: documents() });
    assert!(rebuilt.is_ok(), "{rebuilt:?}");
}

#[test]
fn a_lost_state_stops_the_log_until_its_loss_was_accepted() {
    let whole = checkpointed();
    let log = duralog::Log::open_device(whole.writer().unwrap(), config()).unwrap();
    log.truncate_before(Lsn::MAX).unwrap();
    log.close().unwrap();
    drop(log);
    let bytes = rotten(&whole);
    let mut log = Opened::open(bytes.writer().unwrap(), config()).unwrap();
    let rebuilt = log.done(Request::Rebuild { state: documents() });
    assert!(matches!(rebuilt, Err(Error::StateLost { .. })), "{rebuilt:?}");
    let written = log.done(Request::Checkpoint { snapshot: Some(Snapshot::default()) });
    assert!(matches!(written, Err(Error::Poisoned { .. })), "{written:?}");
    drop(log);
    let blocking = duralog::Log::open_device(bytes.writer().unwrap(), config()).unwrap();
    assert!(matches!(blocking.rebuild(&mut Documents::default()), Err(Error::StateLost { .. })));
    let written = blocking.checkpoint(blocking.checkpoint_at(), &Snapshot::default());
    assert!(matches!(written, Err(Error::Poisoned { .. })), "{written:?}");
    drop(blocking);

    let gone = changed(&whole, |object, bytes| Some(bytes).filter(|_| !matches!(object, Object::Checkpoint(_))));
    let salvage = config().with_policy(Policy::Salvage);
    duralog::Log::open_device(gone.writer().unwrap(), salvage).unwrap().close().unwrap();
    let mut log = Opened::open(gone.writer().unwrap(), config()).unwrap();
    let rebuilt = log.done(Request::Rebuild { state: documents() });
    assert!(matches!(&rebuilt, Ok(Outcome::Rebuilt(rebuilt)) if rebuilt.entries_replayed == 50), "{rebuilt:?}");
    log.done(append(1)).unwrap();
}

#[test]
fn checkpoints_that_crashes_left_half_written_hide_none_that_is_whole() {
    let medium = Medium::new(GEOMETRY);
    let snapshot = || Some(Snapshot { bytes: vec![7; 40 << 10], ..Snapshot::default() });
    let mut log = Opened::open(medium.device(), config()).unwrap();
    (0..100).for_each(|n| drop(log.done(append(n)).unwrap()));
    log.done(Request::Checkpoint { snapshot: snapshot() }).unwrap();
    log.done(Request::Truncate { lsn: Lsn::MAX, give_up: GiveUp::Covered }).unwrap();
    log.done(Request::Close).unwrap();
    drop(log);
    for crash in 0..20 {
        let mut log = Opened::open(medium.device(), config()).unwrap();
        log.done(append(crash)).unwrap();
        let loaded = Rc::new(RefCell::new(Held::default()));
        let rebuilt = log.done(Request::Load { state: loaded.clone() });
        let used = matches!(&rebuilt, Ok(Outcome::Rebuilt(rebuilt)) if rebuilt.checkpoint_used.is_some());
        assert!(used && loaded.borrow().0 == 40 << 10, "after {crash} crashes: {rebuilt:?}");
        // The process ends as soon as the checkpoint's head is on the medium.
        let ticket = log.ask(Request::Checkpoint { snapshot: snapshot() });
        let checkpoints = |medium: &Medium| medium.names().into_iter().filter(is_checkpoint).collect::<Vec<_>>();
        let before = checkpoints(&medium);
        while checkpoints(&medium) == before || checkpoints(&medium).len() < 2 {
            log.run(1);
        }
        log.run(2);
        assert!(log.told.0.borrow().iter().all(|(told, _)| *told != ticket), "it was written before the crash");
        drop(log);
        medium.kill();
    }
}

fn is_checkpoint(object: &Object) -> bool {
    matches!(object, Object::Checkpoint(_))
}

/// How many bytes it was loaded from.
#[derive(Debug, Default)]
struct Held(usize);

impl StateMachine for Held {
    type Error = Infallible;

    fn apply(&mut self, _: Lsn, _: &Operation) {}

    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }

    fn load(&mut self, snapshot: &Snapshot) -> Result<(), Infallible> {
        self.0 = snapshot.bytes.len();
        Ok(())
    }
}

#[test]
fn a_transaction_that_finds_no_room_is_rolled_back_and_its_number_is_no_others() {
    let medium = Medium::new(GEOMETRY);
    let state = Kept::default();
    let mut log = Opened::open(medium.device(), config()).unwrap();
    log.done(Request::Rebuild { state: state.clone() }).unwrap();
    let begin = |log: &mut Opened| match log.done(Request::Begin).unwrap() {
        Outcome::Number(number) => number,
        other => panic!("{other:?}"),
    };
    let commit = |id| Request::End { id, end: TransactionEnd::Commit, durability: Durability::Durable };
    log.done(numbered(&[1], None, Durability::Durable)).unwrap();
    let refused = begin(&mut log);
    log.done(numbered(&[9], Some(refused), Durability::Buffered)).unwrap();
    medium.set_plan(Plan { fail: vec![(0, Failure::NoSpaceAfter(50))], ..Plan::default() });
    let committed = log.done(commit(refused));
    assert!(matches!(committed, Err(Error::NoSpace(_))), "{committed:?}");
    medium.set_plan(Plan::default());
    let other = begin(&mut log);
    assert_ne!(other, refused);
    let appended = log.done(numbered(&[8], Some(refused), Durability::Buffered));
    assert!(matches!(appended, Err(Error::NoTransaction)), "{appended:?}");
    assert!(matches!(log.done(commit(refused)), Err(Error::NoTransaction)));
    log.done(numbered(&[2], Some(other), Durability::Buffered)).unwrap();
    log.done(commit(other)).unwrap();
    log.done(numbered(&[3], None, Durability::Durable)).unwrap();
    let numbers = |state: &Kept| state.borrow().0.iter().map(|(_, number)| *number).collect::<Vec<_>>();
    assert_eq!(numbers(&state), [1, 2, 3]);
    drop(log);
    medium.kill();
    let again = Kept::default();
    let mut log = Opened::open(medium.device(), config()).unwrap();
    log.done(Request::Rebuild { state: again.clone() }).unwrap();
    assert_eq!(numbers(&again), [1, 2, 3]);
}

#[test]
fn whatever_is_asked_when_the_task_has_ended_is_answered_at_once() {
    let mut log = Opened::open(memory(), config()).unwrap();
    let (appended, closed, behind) = (log.ask(append(1)), log.ask(Request::Close), log.ask(append(2)));
    while log.task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {}
    let asked = [log.ask(append(3)), log.ask(Request::Verify), log.ask(Request::Mark)];
    let again = log.ask(Request::Close);
    let mut told = log.told.0.take();
    told.sort_by_key(|(ticket, _)| *ticket);
    let (tickets, outcomes): (Vec<_>, Vec<_>) = told.into_iter().unzip();
    assert_eq!(tickets, [&[appended, closed, behind][..], &asked, &[again]].concat(), "each once");
    let outcome = |ticket: u32| &outcomes[tickets.iter().position(|told| *told == ticket).unwrap()];
    assert!(matches!(outcome(appended), Ok(Outcome::Receipt(_))), "{outcomes:?}");
    assert!([closed, again].iter().all(|ticket| matches!(outcome(*ticket), Ok(Outcome::Done))), "{outcomes:?}");
    let refused = asked.iter().chain([&behind]).all(|ticket| matches!(outcome(*ticket), Err(Error::Closed)));
    assert!(refused, "{outcomes:?}");
}

#[test]
fn verifying_a_log_that_is_in_use_tells_of_what_is_there_and_not_of_what_was() {
    let verified = |log: &mut Opened| match log.done(Request::Verify).unwrap() {
        Outcome::Report(report) => report,
        other => panic!("{other:?}"),
    };
    // A torn tail is cut off when the log is opened.
    let medium = Medium::new(GEOMETRY);
    {
        let log = duralog::Log::open_device(medium.device(), config()).unwrap();
        log.append([1; 20]).unwrap();
        medium.set_plan(Plan { cut_at_call: Some(0), cut_in_write: Some(30), ..Plan::default() });
        log.append([2; 20]).unwrap_err();
    }
    medium.power_cut(|_| Keep::All);
    medium.set_plan(Plan::default());
    let mut log = Opened::open(medium.device(), config()).unwrap();
    assert!(log.log.recovery().torn_tail.is_some() && !log.log.recovery().clean);
    log.done(append(3)).unwrap();
    let report = verified(&mut log);
    assert!(report.torn_tail.is_none() && report.clean && report.last_valid_lsn == Lsn::new(2), "{report:?}");
    // Damage goes with its segment.
    let first = Object::Segment(duralog::SegmentId::new(1));
    let damaged = changed(&checkpointed(), |object, mut bytes| {
        bytes.iter_mut().skip(700).take(1).for_each(|byte| *byte ^= u8::from(object == first));
        Some(bytes)
    });
    let mut log = Opened::open(damaged.writer().unwrap(), Config { full_check: true, ..config() }).unwrap();
    assert!(log.log.recovery().findings.iter().any(|finding| finding.object == first));
    let report = verified(&mut log);
    assert!(report.findings.iter().any(|finding| finding.object == first) && report.success, "{report:?}");
    log.done(Request::Truncate { lsn: Lsn::MAX, give_up: GiveUp::Covered }).unwrap();
    let report = verified(&mut log);
    assert!(report.findings.is_empty() && report.policy == log.log.recovery().policy, "{report:?}");
}
