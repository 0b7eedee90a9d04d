//! One open log, as JavaScript drives it.

use core::{
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Waker},
    time::Duration,
};
use std::{rc::Rc, sync::Arc};

use duralog::{
    BatchItem, Config, Document, Documents, Durability, Environment, Error, Finding, Kind, Lsn, Object, Operation,
    Policy, Receipt, Result, Snapshot, SyncMode,
    core::{Entry, Flow, Host as Sink, TransactionEnd, operation::OperationRef},
    local::{Access, Client, Cursor, Direction, GiveUp, Log, Outcome, Request, State},
};
use uuid::Uuid;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::{
    error::tell,
    host::{Host, Storage},
    medium::{Answer, Medium},
    report,
};

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The host, with what it does not keep itself: the places from which reading goes on.
struct Teller {
    host: Host,
    cursors: RefCell<Vec<(u32, Cursor)>>,
}

impl Client for Teller {
    fn answer(&self, ticket: u32, outcome: Result<Outcome, &Error>) {
        let host = &self.host;
        match outcome {
            Ok(Outcome::Receipt(Receipt { first, last, durability, .. })) => {
                host.appended(ticket, first.value(), last.value(), durability == Durability::Durable);
                return;
            }
            Ok(Outcome::Number(number)) => return host.number(ticket, number),
            Ok(Outcome::Cursor(cursor)) => {
                let more = cursor.is_some();
                self.cursors.borrow_mut().extend(cursor.map(|cursor| (ticket, cursor)));
                return host.number(ticket, more.into());
            }
            Ok(Outcome::Bytes(bytes)) => return host.chunk(ticket, &bytes),
            Ok(Outcome::Rebuilt(rebuilt)) => report::rebuilt(host, &rebuilt),
            Ok(Outcome::Report(found)) => report::report(host, &found),
            Ok(Outcome::Objects(objects)) => report::objects(host, &objects),
            Ok(Outcome::Stats(stats)) => report::stats(host, &stats),
            Ok(_) => {}
            Err(error) => return tell(host, ticket, error),
        }
        host.done(ticket);
    }
}

/// Time and random numbers of JavaScript.
#[derive(Debug)]
struct Browser;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = Date, js_name = now)]
    fn date_now() -> f64;
    #[wasm_bindgen(js_namespace = crypto, js_name = getRandomValues)]
    fn get_random_values(bytes: &mut [u8]);
}

impl Environment for Browser {
    fn now_us(&self) -> u64 {
        // A fraction is cut off, and what is below 0 is 0.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let now = (date_now() * 1000.0) as u64;
        now
    }

    fn random(&self) -> u128 {
        let mut bytes = [0; 16];
        get_random_values(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().as_u128()
    }
}

/// One log, from before it is open until after it is closed.
#[wasm_bindgen]
pub struct Engine {
    teller: Rc<Teller>,
    answer: Answer,
    task: RefCell<Option<Task>>,
    log: Rc<RefCell<Option<Log>>>,
    /// The entries of the request that JavaScript is putting together.
    batch: RefCell<Vec<Operation>>,
    state: Rc<RefCell<Documents>>,
    snapshot: RefCell<Snapshot>,
    config: RefCell<Config>,
    access: Cell<Access>,
    segment_size: Cell<u32>,
}

#[wasm_bindgen]
impl Engine {
    /// An engine whose outcomes `host` is told.
    #[wasm_bindgen(constructor)]
    pub fn new(host: Host) -> Self {
        Self {
            teller: Rc::new(Teller { host, cursors: RefCell::default() }),
            answer: Answer::default(),
            task: RefCell::default(),
            log: Rc::default(),
            batch: RefCell::default(),
            state: Rc::default(),
            snapshot: RefCell::default(),
            config: RefCell::new(Config { environment: Arc::new(Browser), ..Config::new("") }),
            access: Cell::new(Access::Write),
            segment_size: Cell::new(4 << 20),
        }
    }

    /// How the log will be opened: an option by its name. Tells whether there is such a one with such a value.
    pub fn option(&self, name: &str, value: u64) -> bool {
        let small = u32::try_from(value).unwrap_or(u32::MAX);
        let mut config = self.config.borrow_mut();
        match name {
            "segmentSize" => self.segment_size.set(small),
            "writeLimit" => config.write_limit = Some(small),
            "batched" => config.sync_mode = SyncMode::Batched(Duration::from_millis(value)),
            "async" => config.sync_mode = SyncMode::Async,
            "immediate" => config.sync_mode = SyncMode::Immediate,
            "checkpointRetention" => config.checkpoint_retention = usize::try_from(value).unwrap_or(usize::MAX),
            "maxTransactions" => config.max_transactions = u8::try_from(value).unwrap_or(u8::MAX),
            "expectDurable" => config.expect_durable = Some(Lsn::new(value)),
            "create" => config.create = value != 0,
            "fullCheck" => config.full_check = value != 0,
            "readOnly" if value != 0 => self.access.set(Access::Read),
            "readOnly" => {}
            "policy" => {
                let Some(policy) = report::POLICIES.get(small as usize) else { return false };
                config.policy = *policy;
                if *policy == Policy::Inspect {
                    self.access.set(Access::Read);
                }
            }
            _ => return false,
        }
        true
    }

    /// Opens the log in this storage; the outcome is the report of its recovery.
    pub fn open(&self, ticket: u32, storage: Storage) {
        let (teller, slot, answer) = (self.teller.clone(), self.log.clone(), self.answer.clone());
        let (mut config, access, segment_size) = (self.config.take(), self.access.get(), self.segment_size.get());
        // What is appended at once goes out in few transactions: each costs about as much as a megabyte.
        config.write_limit = config.write_limit.or(Some(segment_size / 2));
        let task = async move {
            let opened = match Medium::open(storage, answer, segment_size).await {
                Ok(medium) => Log::open(medium, config, access, teller.clone()).await,
                Err(error) => Err(duralog::local::device_error(error)),
            };
            match opened {
                Ok((log, task)) => {
                    report::report(&teller.host, log.recovery());
                    slot.replace(Some(log));
                    teller.host.done(ticket);
                    task.await;
                    slot.replace(None);
                }
                Err(error) => tell(&teller.host, ticket, &error),
            }
        };
        self.task.replace(Some(Box::pin(task)));
        self.poll();
    }

    /// Serves requests until there is none or the medium has to answer.
    pub fn poll(&self) {
        let Some(mut task) = self.task.take() else { return };
        if task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.task.replace(Some(task));
        }
    }

    /// The medium has answered.
    pub fn resume(&self, value: f64) {
        self.answer.give(value);
        self.poll();
    }

    /// Puts a request into the log's queue; its outcome is that the log is closed, if it is.
    fn ask(&self, ticket: u32, request: Request) {
        match &*self.log.borrow() {
            Some(log) => log.ask(ticket, request),
            None => tell(&self.teller.host, ticket, &Error::Closed),
        }
    }

    /// Adds an opaque entry to the request that is put together.
    pub fn opaque(&self, bytes: Vec<u8>) {
        self.batch.borrow_mut().push(Operation::Opaque { bytes });
    }

    /// Adds an insert or an update, or an item to an insert of several: 1, 2 or 4.
    pub fn put(&self, code: u8, id: &[u8], chunk: bool, content: String, embedding: Vec<f32>) {
        let id = uuid_of(id);
        let kind = if chunk { Kind::Chunk } else { Kind::Document };
        let mut batch = self.batch.borrow_mut();
        match (code, batch.last_mut()) {
            (1, _) => batch.push(Operation::Insert { id, kind, content, embedding }),
            (2, _) => batch.push(Operation::Update { id, kind, content, embedding }),
            (_, Some(Operation::BatchInsert { items })) => items.push(BatchItem { id, kind, content, embedding }),
            _ => {}
        }
    }

    /// Adds a delete, or an id to a delete of several: 3 or 5.
    pub fn delete(&self, code: u8, id: &[u8]) {
        let id = uuid_of(id);
        let mut batch = self.batch.borrow_mut();
        match (code, batch.last_mut()) {
            (3, _) => batch.push(Operation::Delete { id }),
            (_, Some(Operation::BatchDelete { ids })) => ids.push(id),
            _ => {}
        }
    }

    /// Adds an insert of several items, or a delete of several ids, which follow: 4 or 5.
    pub fn several(&self, code: u8) {
        self.batch.borrow_mut().push(if code == 5 {
            Operation::BatchDelete { ids: Vec::new() }
        } else {
            Operation::BatchInsert { items: Vec::new() }
        });
    }

    /// Forgets what was put together.
    pub fn discard(&self) {
        self.batch.take();
    }

    /// Appends what was put together, in the transaction if it is not 0.
    pub fn append(&self, ticket: u32, transaction: u64, durable: bool) {
        let operations = self.batch.take();
        let transaction = (transaction != 0).then_some(transaction);
        self.ask(ticket, Request::Append { operations, transaction, durability: durability(durable) });
    }

    /// Makes a request that numbers say all of; its code is one of `engine.js`.
    pub fn request(&self, ticket: u32, code: u8, one: u64, other: u64, mode: u8) {
        let (lsn, chosen) = (Lsn::new(one), mode != 0);
        let request = match code {
            // Its outcome is an id.
            0 => Request::Begin,
            1 => {
                let end = if chosen { TransactionEnd::Commit } else { TransactionEnd::Rollback };
                Request::End { id: one, end, durability: durability(other != 0) }
            }
            2 => Request::Wait { lsn },
            // It has no outcome.
            3 => Request::Mark,
            // Its outcome is the first one kept.
            4 => Request::Truncate { lsn, give_up: if chosen { GiveUp::Anyway } else { GiveUp::Covered } },
            // The ticket names the place. 0 stands for either end.
            5 => {
                let direction = match mode {
                    0 => Direction::Forward,
                    1 => Direction::Back,
                    _ => Direction::Counting,
                };
                Request::Read { from: lsn, to: if other == 0 { Lsn::MAX } else { Lsn::new(other) }, direction }
            }
            // From then on the state is kept.
            6 => Request::Rebuild { state: self.state.clone() },
            7 => Request::Verify,
            8 => Request::Stats,
            9 => Request::Objects,
            10 => Request::Load { state: Rc::new(RefCell::new(Loaded(self.teller.clone()))) },
            _ => Request::Close,
        };
        self.ask(ticket, request);
    }

    /// Adds an id to the snapshot that is put together.
    #[wasm_bindgen(js_name = snapshotId)]
    pub fn snapshot_id(&self, id: &[u8], chunk: bool) {
        let mut snapshot = self.snapshot.borrow_mut();
        let ids = if chunk { &mut snapshot.chunk_ids } else { &mut snapshot.document_ids };
        ids.push(uuid_of(id));
    }

    /// Adds metadata to it.
    #[wasm_bindgen(js_name = snapshotMetadata)]
    pub fn snapshot_metadata(&self, key: String, value: String) {
        self.snapshot.borrow_mut().metadata.insert(key, value);
    }

    /// Writes a checkpoint: of the state that is kept, or of the snapshot that was put together and these bytes.
    pub fn checkpoint(&self, ticket: u32, of_state: bool, bytes: Vec<u8>) {
        let given = Snapshot { bytes, ..self.snapshot.take() };
        self.ask(ticket, Request::Checkpoint { snapshot: (!of_state).then_some(given) });
    }

    /// Reads on from the place that an earlier ticket names, for about so many bytes. The outcome is 1 if there may be
    /// more, and the place has the name of this ticket; else 0.
    pub fn page(&self, ticket: u32, place: u32, bytes: u32) {
        let Some(cursor) = self.end_read(place) else { return self.teller.host.number(ticket, 0) };
        let sink = Box::new(Page { teller: self.teller.clone(), left: bytes as usize });
        self.ask(ticket, Request::Page { cursor, sink });
    }

    /// Forgets a place.
    #[wasm_bindgen(js_name = endRead)]
    pub fn forget(&self, place: u32) {
        let _ = self.end_read(place);
    }

    fn end_read(&self, place: u32) -> Option<Cursor> {
        let mut cursors = self.teller.cursors.borrow_mut();
        let index = cursors.iter().position(|(ticket, _)| *ticket == place)?;
        Some(cursors.swap_remove(index).1)
    }

    /// How many documents and chunks there are; the LSN that the next entry will have; the last one that is durable: 0, 1, 2.
    pub fn figure(&self, which: u8) -> u64 {
        match (which, &*self.log.borrow()) {
            (0, _) => self.state.borrow().len() as u64,
            (1, Some(log)) => log.current_lsn().value(),
            (_, Some(log)) => log.synced_lsn().value(),
            (_, None) => 0,
        }
    }

    /// Shows a document or chunk to the host, if it is there.
    #[wasm_bindgen(js_name = stateGet)]
    pub fn state_get(&self, id: &[u8]) {
        let id = uuid_of(id);
        if let Some(document) = self.state.borrow().get(id) {
            show_document(&self.teller.host, id, document);
        }
    }

    /// Shows the documents and chunks behind the id, or from the first on where it is empty, to the host: so many.
    #[wasm_bindgen(js_name = statePage)]
    pub fn state_page(&self, after: &[u8], count: u32) {
        let state = self.state.borrow();
        for (id, document) in state.iter_after(Uuid::from_slice(after).ok()).take(count as usize) {
            show_document(&self.teller.host, id, document);
        }
    }

    /// Bytes of an object.
    pub fn bytes(&self, ticket: u32, object: &str, at: f64, len: u32) {
        let Some(object) = Object::from_name(object) else { return self.teller.host.chunk(ticket, &[]) };
        // Offsets in objects are whole and not negative.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let at = at as u64;
        self.ask(ticket, Request::Bytes { object, at, len: len as usize });
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Engine")
    }
}

/// An id that JavaScript has made 16 bytes of.
fn uuid_of(id: &[u8]) -> Uuid {
    Uuid::from_slice(id).unwrap_or_default()
}

fn durability(durable: bool) -> Durability {
    if durable { Durability::Durable } else { Durability::Buffered }
}

/// Shows the host the checkpoint that is loaded: how that went is told right behind.
struct Loaded(Rc<Teller>);

impl State for Loaded {
    fn load(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        report::snapshot(&self.0.host, snapshot);
        Ok(())
    }

    fn apply(&mut self, _: Lsn, _: &Operation) {}

    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }
}

/// Shows the host what is read, for about so many bytes more.
struct Page {
    teller: Rc<Teller>,
    left: usize,
}

impl Sink for Page {
    fn entry(&mut self, entry: Entry<'_>) -> Flow {
        show(&self.teller.host, &entry);
        self.left = self.left.saturating_sub(entry.payload.len() + 64);
        if self.left == 0 { Flow::Pause } else { Flow::Continue }
    }

    fn finding(&mut self, finding: &Finding) {
        self.teller.host.skipped();
        report::finding(&self.teller.host, finding);
    }
}

/// Shows an entry to the host.
fn show(host: &Host, entry: &Entry<'_>) {
    // Microseconds since 1970 stay below 2^53 for two more centuries.
    #[allow(clippy::cast_precision_loss)]
    let timestamp = entry.timestamp as f64;
    let code = entry.kind.code();
    let operation = OperationRef::decode(code, entry.transaction, entry.payload);
    // A code that is none says that the entry is sound and not what its type says.
    let shown = if operation.is_ok() { code } else { 0 };
    let transaction = entry.transaction.unwrap_or_default();
    host.entry(entry.lsn.value(), timestamp, shown, transaction, entry.kind.continues_batch());
    match operation {
        Ok(OperationRef::Insert(item) | OperationRef::Update(item)) => show_item(host, &item),
        Ok(OperationRef::Delete { id }) => host.id(id.as_bytes()),
        Ok(OperationRef::BatchInsert { items }) => items.iter().for_each(|item| show_item(host, &item)),
        Ok(OperationRef::BatchDelete { ids }) => ids.iter().for_each(|id| host.id(id.as_bytes())),
        Ok(OperationRef::Checkpoint { lsn, checkpoint_id }) => {
            host.lsn("lsn", lsn.value());
            host.lsn("checkpointId", checkpoint_id.value());
        }
        Ok(OperationRef::Opaque(bytes)) => host.bytes(bytes),
        Ok(_) => {}
        Err(_) => host.bytes(entry.payload),
    }
}

fn show_item(host: &Host, item: &duralog::core::operation::Item<'_>) {
    let embedding: Vec<f32> = item.embedding.iter().collect();
    host.item(item.id.as_bytes(), item.kind == Kind::Chunk, item.content, &embedding);
}

fn show_document(host: &Host, id: Uuid, document: &Document) {
    host.item(id.as_bytes(), document.kind == Kind::Chunk, &document.content, &document.embedding);
}
