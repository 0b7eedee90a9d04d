//! What a log tells a program's `tracing` subscriber, besides what it returns.
#![allow(missing_docs)]

use core::{fmt, time::Duration};
use std::sync::{Arc, Mutex};

use duralog::{
    Config, FileDevice, Geometry, Log, Lsn, Snapshot, SyncMode,
    faulty::{Failure, Medium, Plan},
    file::FileOptions,
};
use duralog_tests::Counter;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Collects the library's events: level and message.
#[derive(Clone, Debug, Default)]
struct Events(Arc<Mutex<Vec<(Level, String)>>>);

struct Message(String, String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.1.push_str(&format!(" {}={value}", field.name()));
    }
}

impl Subscriber for Events {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("duralog")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new(), String::new());
        event.record(&mut message);
        self.0.lock().unwrap().push((*event.metadata().level(), message.0 + &message.1));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl Events {
    /// How many events of this level have these words; forgets all.
    fn take(&self, level: Level, words: &str) -> usize {
        let events = core::mem::take(&mut *self.0.lock().unwrap());
        events.iter().filter(|(of, message)| *of == level && message.contains(words)).count()
    }

    fn has(&self, level: Level, words: &str) -> bool {
        self.0.lock().unwrap().iter().any(|(of, message)| *of == level && message.contains(words))
    }
}

// One test, for the subscriber is the process's: the background thread has to find it.
#[test]
fn appends_recoveries_checkpoints_removals_and_failures_are_told() {
    let events = Events::default();
    tracing::subscriber::set_global_default(events.clone()).unwrap();
    let config = || {
        Config { environment: Counter::new(), idle_mark: None, ..Config::default() }.with_sync_mode(SyncMode::Immediate)
    };
    let geometry = Geometry { segment_size: 4096, granule: 1, copy_offset: 128, blank: 0, settled: false, slots: None };
    let medium = Medium::new(geometry);

    let log = Log::open_device(medium.device(), config()).unwrap();
    assert_eq!(events.take(Level::INFO, "recovered"), 1);
    // How the log was left is told of each opening: closed, or not.
    let left = Medium::new(geometry);
    for (close, told) in [(false, "closed=false"), (true, "closed=false"), (true, "closed=true"), (true, "closed=true")]
    {
        let log = Log::open_device(left.device(), config()).unwrap();
        assert_eq!(events.take(Level::INFO, told), 1, "{told}");
        log.append(b"x").unwrap();
        if close {
            log.close().unwrap();
        }
    }
    events.take(Level::INFO, "");
    for n in 1..=60u8 {
        log.append(&[n; 100][..]).unwrap();
    }
    assert_eq!(events.take(Level::TRACE, "append"), 60);
    log.checkpoint(log.checkpoint_at(), &Snapshot::default()).unwrap();
    assert_eq!(events.take(Level::INFO, "checkpoint"), 1);
    log.truncate_before(Lsn::new(50)).unwrap();
    assert_eq!(events.take(Level::INFO, "removed"), 1);
    log.close().unwrap();
    drop(log);

    // A file that cannot be removed: its place is taken by a folder.
    let dir = tempfile::tempdir().unwrap();
    let options = FileOptions { segment_size: 16 << 10, ..FileOptions::default() };
    let mut device = FileDevice::open(dir.path(), options).unwrap();
    std::fs::create_dir(dir.path().join("wal.meta")).unwrap();
    duralog::core::Device::remove(&mut device, duralog::Object::Meta).unwrap_err();
    assert_eq!(events.take(Level::WARN, "could not be removed"), 1);

    // A sync in the background that fails is told at once, and the caller learns it with the next call.
    let log = Log::open_device(medium.device(), config().with_sync_mode(SyncMode::Batched(Duration::from_millis(1))))
        .unwrap();
    medium.set_plan(Plan { fail: (0..50).map(|call| (call, Failure::Error)).collect(), ..Plan::default() });
    log.append(&b"lost"[..]).ok();
    while !events.has(Level::ERROR, "poisoned") && !events.has(Level::ERROR, "in the background") {
        std::thread::yield_now();
    }
    assert!(log.append(&b"never"[..]).is_err());
}
