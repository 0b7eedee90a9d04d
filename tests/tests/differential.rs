//! One workload on files, in memory and on the simulated medium: the same bytes, the same entries, the same report; one of
//! a microcontroller on a flash chip, in memory and on the simulated medium; and a log that was copied from one device to
//! another opens there.
#![allow(missing_docs)]

use std::{collections::BTreeMap, path::Path};

use Op::{Append, Batch, Checkpoint, Close, Cut, Discard, Fill, Leave, Open, Sync, Truncate};
use duralog::{
    Config, Error, FileDevice, Geometry, Log, LogReader, Lsn, MemoryDevice, Object, RecoveryReport, SharedDevice,
    SyncMode,
    core::{self, Device, Each, Entry, Flow, LogOptions, Report},
    faulty::Medium,
    file::FileOptions,
    slots::{ImageDevice, Layout, Medium as _, Nor, Slot, Slots, chip::Chip},
};
use duralog_tests::{Counter, Op, Oracle, Unsynced, payload, script};
use uuid::Uuid;

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

/// What a microcontroller does with a log, and what it finds at last.
fn small_life<D: Device>(mut device: D) -> (Vec<(u64, Vec<u8>)>, Report) {
    const ID: Uuid = Uuid::from_u128(77);
    let options = || LogOptions { nonce: || 0x5555, ..LogOptions::default() };
    let mut buf = [0; 4096];
    let mut log = core::Log::format(&mut device, &mut buf, options(), ID, 5).map_err(drop).unwrap();
    for n in 0..60 {
        log.append(6, &payload(n, 50)[..]).unwrap();
    }
    log.discard_before(7, Lsn::new(30)).unwrap();
    log.append_batch(7, &[&payload(60, 9)[..], &payload(61, 200)[..]]).unwrap();
    log.close(8).unwrap();
    let mut log = core::Log::open(&mut device, &mut buf, options(), 9).map_err(drop).unwrap();
    for n in 62..80 {
        log.append(10, &payload(n, 70)[..]).unwrap();
    }
    // Nothing was closed.
    let mut log = core::Log::open(&mut device, &mut buf, options(), 11).map_err(drop).unwrap();
    let mut entries = vec![];
    let mut each = Each(|entry: Entry<'_>| {
        entries.push((entry.lsn.value(), entry.payload.to_vec()));
        Flow::Continue
    });
    log.read(Lsn::ZERO, Lsn::MAX, &mut each).map_err(drop).unwrap();
    let report = log.report().clone();
    (entries, report)
}

#[test]
fn a_flash_chip_holds_what_memory_holds_and_says_the_same_of_it() {
    let mut chip = Chip::<8, 1024>::new(24, 0xFF);
    fn nor(chip: &mut Chip<8, 1024>) -> Nor<&mut Chip<8, 1024>> {
        Nor::new(chip, 0, 24 * 1024)
    }
    let layout = Layout::new(nor(&mut chip).info(), 2048);
    let device = Slots::format(nor(&mut chip), layout, [Slot::default(); 12]).map_err(drop).unwrap();
    let geometry = device.geometry();
    let flash = small_life(device);
    let mut objects = Objects::new();
    for (name, (entries, report)) in [
        ("memory", small_life(MemoryDevice::new(geometry))),
        ("the simulated medium", {
            let medium = Medium::new(geometry);
            let outcome = small_life(medium.device());
            objects.extend(medium.names().into_iter().map(|name| (name, medium.object(name).unwrap())));
            outcome
        }),
    ] {
        assert_eq!(flash.0, entries, "entries in {name}");
        assert_eq!(format!("{:?}", flash.1), format!("{report:?}"), "the report of {name}");
    }
    // The image of the chip, read by the library of a computer, and the same log as that finds it elsewhere.
    let image = ImageDevice::of_image(chip.bytes()).unwrap();
    let medium = Medium::new(geometry);
    objects.into_iter().for_each(|(object, bytes)| medium.put(object, bytes));
    let config = || config(SyncMode::Immediate);
    let there = LogReader::open_device(image, config()).unwrap().recovery().clone();
    let here = LogReader::open_device(medium.reader(), config()).unwrap().recovery().clone();
    assert_eq!(there, here);
    assert_eq!(there.last_valid_lsn.value(), flash.0.last().unwrap().0);
}
