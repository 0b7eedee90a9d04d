//! The logs that stand in `tests/golden`: the same bytes in every run, for what `FORMAT.md` says is held against them.

use std::{collections::BTreeMap, sync::Arc};

use duralog::{
    BatchItem, Config, Geometry, Kind, Log, Lsn, MemoryDevice, Object, Operation, Receipt, Result, Snapshot, SyncMode,
};
use uuid::Uuid;

use crate::environment::Counter;

/// A log that is kept in the repository.
#[derive(Debug)]
pub struct Golden {
    /// The name of its folder.
    pub name: &'static str,
    /// The device that wrote it is of this geometry.
    pub geometry: Geometry,
    /// Its objects.
    pub objects: BTreeMap<Object, Vec<u8>>,
}

impl Golden {
    fn of(name: &'static str, geometry: Geometry, medium: &MemoryDevice) -> Self {
        let objects = medium.names().into_iter().filter_map(|object| Some((object, medium.object(object)?)));
        Self { name, geometry, objects: objects.collect() }
    }

    /// Its objects in memory.
    #[must_use]
    pub fn medium(&self) -> MemoryDevice {
        let medium = MemoryDevice::new(self.geometry);
        for (object, bytes) in &self.objects {
            medium.put(*object, bytes.clone());
        }
        medium
    }
}

/// The name of an object's file, as `FORMAT.md` has it.
#[must_use]
pub fn file_name(object: Object) -> String {
    match object {
        Object::Segment(id) => format!("segment_{:016x}.wal", id.value()),
        Object::Checkpoint(id) => format!("checkpoint_{:016x}.ckpt", id.value()),
        Object::Meta => "wal.meta".into(),
    }
}

/// All of them.
///
/// # Errors
/// What the log says; no medium here fails.
pub fn golden() -> Result<[Golden; 3]> {
    Ok([bytes()?, granules()?, torn()?])
}

fn geometry(segment_size: u32, granule: u32, copy_offset: u32, blank: u8) -> Geometry {
    Geometry { segment_size, granule, copy_offset, blank, settled: false, slots: None }
}

/// No background thread: nothing happens but what is called for.
fn config(environment: &Arc<Counter>, sync_mode: SyncMode) -> Config {
    let config = Config { idle_mark: None, write_behind: None, max_transactions: 4, ..Config::default() };
    config.with_sync_mode(sync_mode).with_write_limit(512).with_environment(environment.clone())
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(0xa000_0000_0000_4000_8000_0000_0000_0000 | n)
}

fn opaque(log: &Log<MemoryDevice>, count: u8) -> Result<()> {
    (0..count).try_for_each(|n| log.append([n, 0xFF, b'W', b'A', b'L', b'1'].as_slice()).map(drop))
}

/// Every operation and every mark, on a medium that is written at any byte.
fn bytes() -> Result<Golden> {
    let geometry = geometry(2048, 1, 128, 0);
    let device = MemoryDevice::new(geometry);
    let medium = device.reader();
    let environment = Counter::new();

    let log = Log::open_device(device, config(&environment, SyncMode::Immediate))?;
    opaque(&log, 20)?;
    let embedding = [1.0, -0.0, f32::from_bits(0x7fc0_0001), f32::NEG_INFINITY, f32::MIN_POSITIVE];
    log.append(Operation::insert(id(1), "a document, gr\u{fc}n", embedding))?;
    log.append(Operation::insert(id(2), "a chunk", []).with_kind(Kind::Chunk))?;
    log.append(Operation::update(id(1), "the document", [0.5]))?;
    let items = [BatchItem::new(id(3), "three", [3.0]), BatchItem::new(id(4), "", []).with_kind(Kind::Chunk)];
    log.append(Operation::batch_insert(items))?;
    log.append(Operation::batch_delete([id(3), id(9)]))?;
    log.append(Operation::delete(id(4)))?;
    let at = log.checkpoint_at();
    let snapshot = Snapshot {
        document_ids: vec![id(1)],
        chunk_ids: vec![id(2)],
        metadata: BTreeMap::from([("made by".into(), "golden".into()), ("n".into(), "1".into())]),
        bytes: b"the state, as the application writes it".into(),
    };
    log.checkpoint(at, &snapshot)?;
    log.append_batch(&[Operation::opaque(*b"one"), Operation::opaque(*b"two"), Operation::opaque(*b"three")])?;
    log.truncate_before(Lsn::new(12))?;
    log.set_slot(b"application slot")?;
    log.close()?;
    drop(log);

    let writer = medium.writer().expect("the handle before it was dropped");
    let log = Log::open_device(writer, config(&environment, SyncMode::Immediate))?;
    let transaction = log.transaction()?;
    transaction.append(Operation::insert(id(5), "committed", [5.0]))?;
    log.append(Operation::opaque(*b"between"))?;
    transaction.append(Operation::delete(id(1)))?;
    transaction.commit()?;
    let transaction = log.transaction()?;
    transaction.append(Operation::insert(id(6), "rolled back", []))?;
    transaction.rollback()?;
    opaque(&log, 8)?;
    log.close()?;
    drop(log);
    Ok(Golden::of("bytes", geometry, &medium))
}

/// Writes of whole granules, on a medium whose blank room reads as 0xFF.
fn granules() -> Result<Golden> {
    let geometry = geometry(2560, 16, 512, 0xFF);
    let device = MemoryDevice::new(geometry);
    let medium = device.reader();
    let log = Log::open_device(device, config(&Counter::new(), SyncMode::Immediate))?;
    opaque(&log, 12)?;
    log.append(Operation::insert(id(1), "in granules", [1.0, 2.0]))?;
    log.append_batch(&[Operation::delete(id(1)), Operation::delete(id(2))])?;
    log.close()?;
    drop(log);
    Ok(Golden::of("granules", geometry, &medium))
}

/// A log whose writer was killed: its last entry is there in half.
fn torn() -> Result<Golden> {
    let geometry = geometry(2048, 1, 128, 0);
    let device = MemoryDevice::new(geometry);
    let medium = device.reader();
    let log = Log::open_device(device, config(&Counter::new(), SyncMode::Async))?;
    opaque(&log, 3)?;
    log.sync()?;
    opaque(&log, 2)?;
    let torn: Receipt = log.append(Operation::insert(id(1), "never acknowledged as durable", [1.0]))?;
    log.sync()?;
    let entry = log.read_from(torn.first)?.next().expect("it was just written")?;
    let mut golden = Golden::of("torn", geometry, &medium);
    if let Some(bytes) = golden.objects.get_mut(&Object::Segment(entry.segment)) {
        let half = entry.offset as usize + entry.serialized_size() / 2;
        bytes[half..].fill(geometry.blank);
    }
    Ok(golden)
}
