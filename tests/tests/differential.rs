//! One workload on files, in memory and on the simulated medium: the same bytes, the same entries, the same report; and a
//! log that was copied from one device to another opens there.
#![allow(missing_docs)]

use std::{collections::BTreeMap, path::Path};

use Op::{Append, Batch, Checkpoint, Close, Cut, Discard, Fill, Leave, Open, Sync, Truncate};
use duralog::{
    Config, Error, FileDevice, Geometry, Log, Lsn, MemoryDevice, Object, RecoveryReport, SharedDevice, SyncMode,
    faulty::Medium, file::FileOptions,
};
use duralog_tests::{Counter, Op, Oracle, Unsynced, script};

/// That of a file device.
const GEOMETRY: Geometry =
    Geometry { segment_size: 16384, granule: 1, copy_offset: 4096, blank: 0, settled: false, slots: None };
const OPS: &[Op] = &[
    Open,
    Append(24),
    Batch(3, 40),
    Fill(900),
    Append(9),
    Close,
    Open,
    Checkpoint,
    Append(700),
    Leave,
    Open,
    Truncate(0),
    Fill(900),
    Batch(2, 9),
    Discard(20),
    Append(30),
    Cut(1),
    Sync,
    Append(9),
];

type Objects = BTreeMap<Object, Vec<u8>>;
/// What a log holds and says, and its bytes.
type Outcome = (Vec<(u64, Vec<u8>)>, RecoveryReport, Objects);

fn config(sync_mode: SyncMode) -> Config {
    Config { idle_mark: None, write_behind: None, ..Config::default() }
        .with_segment_size(GEOMETRY.segment_size)
        .with_write_limit(2048)
        .with_sync_mode(sync_mode)
        .with_environment(Counter::new())
}

fn opened<D: SharedDevice>(device: D, config: Config) -> (Vec<(u64, Vec<u8>)>, RecoveryReport) {
    let log = Log::open_device(device, config).unwrap();
    let entries = log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.map(|entry| (entry.lsn.value(), entry.payload)));
    (entries.collect::<Result<_, _>>().unwrap(), log.recovery().clone())
}

fn run<D: SharedDevice>(
    sync_mode: SyncMode,
    mut device: impl FnMut() -> Result<D, Error>,
    objects: impl Fn() -> Objects,
) -> Outcome {
    let config = config(sync_mode);
    drop(script::play(OPS, &config, &mut Oracle::default(), &mut device).unwrap());
    let bytes = objects();
    let (entries, report) = opened(device().unwrap(), config);
    (entries, report, bytes)
}

fn files(system: Unsynced, dir: &Path) -> Result<FileDevice<Unsynced>, Error> {
    let options = FileOptions { segment_size: GEOMETRY.segment_size, ..FileOptions::default() };
    FileDevice::open_with(system, dir, options).map_err(FileDevice::<Unsynced>::opened)
}

fn in_files(dir: &Path) -> Objects {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let object = |entry: std::fs::DirEntry| {
        Some((Object::from_name(entry.file_name().to_str()?)?, std::fs::read(entry.path()).unwrap()))
    };
    entries.filter_map(object).collect()
}

fn on_files(system: Unsynced, sync_mode: SyncMode) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    run(sync_mode, || files(system, dir.path()), || in_files(dir.path()))
}

fn in_memory(sync_mode: SyncMode) -> Outcome {
    let medium = MemoryDevice::new(GEOMETRY).reader();
    let objects = || medium.names().into_iter().map(|name| (name, medium.object(name).unwrap())).collect();
    run(sync_mode, || Ok(medium.writer().expect("the handle before is gone")), objects)
}

fn simulated(sync_mode: SyncMode) -> Outcome {
    let medium = Medium::new(GEOMETRY);
    let objects = || medium.names().into_iter().map(|name| (name, medium.object(name).unwrap())).collect();
    run(sync_mode, || Ok(medium.device()), objects)
}

#[test]
fn one_workload_comes_to_the_same_bytes_entries_and_report_on_every_device() {
    // A segment in the room of a removed one says so, and is of other bytes: the other devices give only blank room.
    let blank = Unsynced { free: None };
    for sync_mode in [SyncMode::Immediate, SyncMode::Async] {
        let (files, memory, simulated) = (on_files(blank, sync_mode), in_memory(sync_mode), simulated(sync_mode));
        assert!(files.0.len() > 10 && files.2.len() > 2, "{} entries: {:?}", files.0.len(), files.1);
        for (name, other) in [("memory", &memory), ("the simulated medium", &simulated)] {
            assert_eq!(files.0, other.0, "entries in {name}");
            assert_eq!(files.1, other.1, "the report of {name}");
            let names = |objects: &Objects| objects.keys().copied().collect::<Vec<_>>();
            assert_eq!(names(&files.2), names(&other.2), "objects in {name}");
            let differs = files.2.iter().find(|(object, bytes)| other.2.get(object) != Some(bytes));
            assert!(differs.is_none(), "{} in {name} is of other bytes", differs.unwrap().0);
        }
    }
}

#[test]
fn a_log_that_was_copied_to_another_device_opens_there() {
    let (entries, _, objects) = on_files(Unsynced::ROOMY, SyncMode::Immediate);
    let medium = Medium::new(Geometry { segment_size: 8192, granule: 16, copy_offset: 128, blank: 0xFF, ..GEOMETRY });
    let memory = MemoryDevice::new(Geometry { settled: true, ..GEOMETRY });
    for (object, bytes) in &objects {
        medium.put(*object, bytes.clone());
        memory.put(*object, bytes.clone());
    }
    assert_eq!(opened(medium.device(), config(SyncMode::Immediate)).0, entries);
    assert_eq!(opened(memory, config(SyncMode::Immediate)).0, entries);
    let (_, _, objects) = simulated(SyncMode::Immediate);
    let dir = tempfile::tempdir().unwrap();
    for (object, bytes) in objects {
        std::fs::write(dir.path().join(object.to_string()), bytes).unwrap();
    }
    assert_eq!(opened(files(Unsynced::ROOMY, dir.path()).unwrap(), config(SyncMode::Immediate)).0, entries);
}
