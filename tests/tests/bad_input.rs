//! What cannot be done is refused with a typed error that says what, where and what to do; nothing is harmed by it.
#![allow(missing_docs)]

use core::panic::AssertUnwindSafe;
use std::{fs, panic::catch_unwind};

use duralog::{
    Config, Error, FileDevice, Geometry, Log, LogReader, Lsn, MemoryDevice, Object, Operation, Policy, SegmentId,
    Snapshot, SyncMode,
    file::{Access, FileOptions},
};
use duralog_core::{LogError, LogOptions, Payload};
use duralog_tests::Counter;

const GEOMETRY: Geometry =
    Geometry { segment_size: 4096, granule: 1, copy_offset: 128, blank: 0, settled: false, slots: None };

fn config() -> Config {
    Config { environment: Counter::new(), idle_mark: None, write_behind: None, ..Config::new("memory") }
        .with_write_limit(1024)
        .with_sync_mode(SyncMode::Immediate)
}

fn segment(id: u64) -> Object {
    Object::Segment(SegmentId::new(id))
}

/// A log with so many entries, closed.
fn log(entries: u8) -> MemoryDevice {
    let medium = MemoryDevice::new(GEOMETRY);
    let reader = medium.reader();
    let log = Log::open_device(medium, config()).unwrap();
    for n in 1..=entries {
        log.append(&[n; 100][..]).unwrap();
    }
    log.close().unwrap();
    reader
}

#[test]
fn a_folder_that_holds_other_things_is_not_touched() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("letter.txt"), "dear").unwrap();
    let error = Log::open(Config::new(place.path())).unwrap_err();
    assert!(matches!(&error, Error::NotALog { path } if path == place.path()), "{error:?}");
    assert!(error.to_string().contains("an empty one for a new log"), "{error}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn a_segment_whose_file_cannot_be_opened_is_no_damage_under_any_policy() {
    let place = tempfile::tempdir().unwrap();
    let config = Config::new(place.path()).with_segment_size(16384);
    let log = Log::open(config.clone()).unwrap();
    for n in 0..60_u8 {
        log.append(&[n; 1000][..]).unwrap();
    }
    log.close().unwrap();
    drop(log);
    // What no permission and no limit of this process allows to open either.
    let (file, aside) = (place.path().join(segment(2).to_string()), place.path().join("aside"));
    fs::rename(&file, &aside).unwrap();
    fs::create_dir(&file).unwrap();
    let before = fs::read_dir(place.path()).unwrap().count();
    for policy in [Policy::Strict, Policy::Default, Policy::PointInTime, Policy::Salvage] {
        let refused = Log::open(config.clone().with_policy(policy)).map_err(|error| error.kind());
        assert_eq!(refused.err(), Some("device"), "{policy:?}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), before, "{policy:?}: nothing is made or removed");
    }
    fs::remove_dir(&file).unwrap();
    fs::rename(&aside, &file).unwrap();
    let log = Log::open(config.with_full_check()).unwrap();
    assert_eq!(log.recovery().entries_recovered, 60);
}

#[test]
fn a_segment_of_another_log_is_named() {
    let ours = log(60);
    let other = {
        let medium = MemoryDevice::new(GEOMETRY);
        let reader = medium.reader();
        // Its own numbers: another log.
        let environment = Counter::new();
        for _ in 0..100 {
            duralog::Environment::random(&*environment);
        }
        let log = Log::open_device(medium, Config { environment, ..config() }).unwrap();
        for _ in 0..60 {
            log.append(&[7; 100][..]).unwrap();
        }
        log.close().unwrap();
        reader
    };
    assert!(ours.names().contains(&segment(2)));
    ours.put(segment(1), other.object(segment(1)).unwrap());
    let error = Log::open_device(ours.writer().unwrap(), config()).unwrap_err();
    assert_eq!(error.place().map(|(object, _)| object), Some(segment(1)), "{error:?}");
    assert_eq!(error.finding().map(|finding| finding.verdict), Some(duralog::Verdict::Foreign), "{error:?}");
    let expected = uuid::Uuid::from_u128(1);
    let error = Log::open_device(other.writer().unwrap(), Config { expect_log_id: Some(expected), ..config() });
    assert!(matches!(error, Err(Error::Foreign { expected: named, .. }) if named == expected));
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    refused_by(|header| header[4] = 2, 2);
}

#[test]
fn a_flag_that_is_not_known_is_refused_by_the_flags_and_not_by_the_version() {
    let flags = log(5).object(segment(1)).unwrap()[5] | 0x80;
    refused_by(|header| header[5] |= 0x80, flags);
}

/// That a log whose header was changed so is refused for this number, and left as it is.
fn refused_by(change: impl Fn(&mut [u8]), named: u8) {
    let medium = log(5);
    let mut bytes = medium.object(segment(1)).unwrap();
    for copy in [0, 128] {
        change(&mut bytes[copy..copy + 128]);
        let sum = duralog::core::checksum::portable(!0, &bytes[copy..copy + 124]) ^ !0;
        bytes[copy + 124..copy + 128].copy_from_slice(&sum.to_le_bytes());
    }
    medium.put(segment(1), bytes.clone());
    let error = Log::open_device(medium.writer().unwrap(), config()).unwrap_err();
    let place = matches!(error, Error::Unsupported { object, number, .. } if (object, number) == (segment(1), named));
    assert!(place, "{error:?}");
    assert!(error.to_string().contains("use a newer one"), "{error}");
    assert_eq!(medium.object(segment(1)), Some(bytes));
}

#[test]
fn a_second_writer_is_refused_and_a_reader_is_not() {
    let place = tempfile::tempdir().unwrap();
    let log = Log::open(Config::new(place.path())).unwrap();
    log.append(&b"one"[..]).unwrap();
    log.sync().unwrap();
    let error = Log::open(Config::new(place.path())).unwrap_err();
    assert!(matches!(&error, Error::Locked { path, .. } if path.starts_with(place.path())), "{error:?}");
    let reader = LogReader::open(Config::new(place.path())).unwrap();
    assert_eq!(reader.recovery().last_valid_lsn, Lsn::FIRST);
    log.append(&b"two"[..]).unwrap();
}

#[test]
fn an_entry_that_is_too_large_and_an_empty_batch_leave_no_trace() {
    let medium = log(0);
    let log = Log::open_device(medium.writer().unwrap(), config()).unwrap();
    let Err(Error::TooLarge { max, .. }) = log.append(&[1; 5000][..]) else { panic!("it does not fit") };
    assert!(log.append(&vec![1; usize::try_from(max).unwrap() + 1][..]).is_err());
    assert_eq!(log.append_batch::<&[u8]>(&[]).unwrap(), None);
    assert_eq!(log.current_lsn(), Lsn::FIRST);
    assert_eq!(log.append(&b"goes on"[..]).unwrap().first, Lsn::FIRST);
}

#[test]
fn a_medium_that_takes_no_writes_is_an_error_of_the_device() {
    let medium = log(3);
    let log = Log::open_device(medium.reader(), config());
    let error = log.and_then(|log| log.append(&b"four"[..])).unwrap_err();
    assert!(is_of_the_device(&error), "{error:?}");
    assert!(error.to_string().contains("for reading"), "{error}");
    let place = tempfile::tempdir().unwrap();
    Log::open(Config::new(place.path())).unwrap().close().unwrap();
    let options = FileOptions { segment_size: 1 << 20, preallocate: true, access: Access::Read, create: false };
    let device = FileDevice::open(place.path(), options).unwrap();
    let error = Log::open_device(device, Config::new(place.path())).and_then(|log| log.append(&b"x"[..])).unwrap_err();
    assert!(is_of_the_device(&error), "{error:?}");
}

/// Whether the device failed, be it in this call or in one that stopped the log.
fn is_of_the_device(error: &Error) -> bool {
    match error {
        Error::Poisoned { cause } => is_of_the_device(cause),
        error => error.kind() == "device",
    }
}

#[test]
fn a_full_medium_loses_nothing_and_says_so() {
    let medium = MemoryDevice::new(GEOMETRY).with_capacity_limit(3 * 4096);
    let reader = medium.reader();
    let log = Log::open_device(medium, config()).unwrap();
    let error = (1..).find_map(|n: u32| log.append(&n.to_le_bytes().repeat(50)[..]).err()).unwrap();
    assert!(matches!(error, Error::NoSpace(_)) && error.to_string().contains("nothing durable is lost"), "{error:?}");
    let last = log.synced_lsn();
    assert_eq!(log.read_from(Lsn::FIRST).unwrap().map(Result::unwrap).count() as u64, last.value());
    drop(log);
    let opened = LogReader::open_device(reader.reader(), config()).unwrap();
    let entries = opened.read(Lsn::ZERO, Lsn::MAX).unwrap().map(|entry| entry.unwrap().payload);
    let expected = (1..=u32::try_from(last.value()).unwrap()).map(|n| n.to_le_bytes().repeat(50));
    let durable = usize::try_from(last.value()).unwrap();
    assert!(entries.take(durable).eq(expected), "what was durable is there");
    // What no mark proves has to be copied before anything is written: that takes room.
    assert!(matches!(Log::open_device(reader.writer().unwrap(), config()), Err(Error::NoSpace(_)) | Ok(_)));
}

#[test]
fn a_hostile_length_is_damage_and_is_not_believed() {
    let medium = log(5);
    let opened = LogReader::open_device(medium.reader(), config()).unwrap();
    let at = opened.read(Lsn::new(3), Lsn::new(3)).unwrap().next().unwrap().unwrap().offset as usize;
    let bytes = medium.object(segment(1)).unwrap();
    for hostile in [0, 1, 32, 0xFFFF, 0x7FFF_FFFF, u32::MAX] {
        for field in 4..26 {
            let mut bytes = bytes.clone();
            bytes[at + field..at + field + 4].copy_from_slice(&u32::to_le_bytes(hostile));
            if bytes == medium.object(segment(1)).unwrap() {
                continue;
            }
            let copy = MemoryDevice::new(GEOMETRY);
            medium.names().into_iter().for_each(|name| copy.put(name, medium.object(name).unwrap()));
            copy.put(segment(1), bytes);
            let error = Log::open_device(copy, config().with_policy(Policy::Default)).unwrap_err();
            assert_eq!((error.lsn(), error.place()), (Some(Lsn::new(3)), Some((segment(1), at as u64))), "{error:?}");
        }
    }
}

#[test]
fn every_float_keeps_its_bits() {
    let bits = [0x7FC0_0000, 0x7FC0_0001, 0xFFC1_2345, 0x7F80_0001, 0x7F80_0000, 0xFF80_0000, 0x8000_0000, 1];
    let medium = log(0);
    let log = Log::open_device(medium.writer().unwrap(), config()).unwrap();
    let id = uuid::Uuid::from_u128(5);
    log.append(Operation::update(id, "floats".to_owned(), bits.map(f32::from_bits).to_vec())).unwrap();
    let entry = log.read_from(Lsn::FIRST).unwrap().next().unwrap().unwrap();
    let Operation::Update { embedding, .. } = entry.operation().unwrap() else { panic!("it was an update") };
    assert_eq!(embedding.iter().map(|float| float.to_bits()).collect::<Vec<_>>(), bits);
}

/// Bytes whose writing panics, if they are bad.
struct Picky(&'static [u8], bool);

impl Payload for Picky {
    fn code(&self) -> u8 {
        self.0.code()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn write(&self, to: &mut [u8]) {
        assert!(!self.1, "a payload that panics");
        to.copy_from_slice(self.0);
    }
}

const BATCH: [Picky; 3] = [Picky(b"first", false), Picky(b"second", true), Picky(b"third", false)];

#[test]
fn of_a_batch_with_a_payload_that_panics_nothing_is_left_in_the_log() {
    type GoOn = fn(&Log<MemoryDevice>) -> Result<(), Error>;
    let go_on: [GoOn; 5] = [
        |log| log.sync().map(drop),
        |log| log.set_slot(b"slot"),
        |log| log.checkpoint(log.checkpoint_at(), &Snapshot::default()).map(drop),
        |log| log.discard_before(Lsn::FIRST).map(drop),
        |_| Ok(()),
    ];
    for (way, go_on) in go_on.into_iter().enumerate() {
        let medium = log(1);
        let log = Log::open_device(medium.writer().unwrap(), config()).unwrap();
        let panicked = catch_unwind(AssertUnwindSafe(|| drop(log.append_batch(&BATCH))));
        assert!(panicked.is_err() && log.current_lsn() == Lsn::new(2));
        go_on(&log).unwrap();
        log.append_batch(&BATCH[..1]).unwrap();
        log.close().unwrap();
        drop(log);
        let log = Log::open_device(medium.writer().unwrap(), config().with_full_check());
        assert!(log.as_ref().is_ok_and(|log| log.recovery().clean), "{way}: {log:?}");
        let log = log.unwrap();
        let last = log.read_back_to(Lsn::ZERO).unwrap().next().unwrap().unwrap();
        assert_eq!((last.payload.as_ref(), log.recovery().torn_tail), (&b"first"[..], None), "{way}");
    }
}

#[test]
fn of_a_batch_with_a_payload_that_panics_nothing_is_left_in_a_log_of_the_core() {
    let medium = log(1);
    let mut buf = [0; 8192];
    let mut log = duralog_core::Log::open(medium.writer().unwrap(), &mut buf, LogOptions::default(), 0).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| drop(log.append_batch(0, &BATCH))));
    assert!(panicked.is_err());
    log.append_batch(0, &BATCH[..1]).unwrap();
    log.close(0).unwrap();
    let log = Log::open_device(medium.writer().unwrap(), config().with_full_check()).unwrap();
    let lsns: Vec<_> = log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn.value()).collect();
    assert_eq!((lsns, log.recovery().clean), (vec![1, 2], true));
}

#[test]
fn a_checkpoint_for_whose_entry_no_lsn_is_left_is_taken_back() {
    let medium = log(3);
    let is_there = || medium.names().iter().any(|object| matches!(object, Object::Checkpoint(_)));
    let log = Log::open_device(medium.writer().unwrap(), config()).unwrap();
    log.reset_to(Lsn::new(u64::MAX - 1)).unwrap();
    log.append(&b"the last"[..]).unwrap();
    let refused = log.checkpoint(log.checkpoint_at(), &Snapshot::default());
    assert!(matches!(refused, Err(Error::Exhausted)) && !is_there(), "{refused:?}");
    log.close().unwrap();
    assert!(matches!(log.truncate_before(Lsn::FIRST), Err(Error::Closed)), "whether there is a checkpoint or not");
    drop(log);
    let mut buf = [0; 8192];
    let mut log = duralog_core::Log::open(medium.writer().unwrap(), &mut buf, LogOptions::default(), 0).unwrap();
    let refused = log.checkpoint(0, |_| 0);
    assert!(matches!(refused, Err(LogError::Exhausted)) && !is_there(), "{refused:?}");
}

#[test]
fn lsns_end_and_do_not_begin_again() {
    let medium = log(3);
    let log = Log::open_device(medium.writer().unwrap(), config()).unwrap();
    let refused = log.reset_to(Lsn::new(2)).unwrap_err();
    assert!(matches!(refused, Error::NotAhead { next, .. } if next == log.current_lsn()), "{refused}");
    assert!(!refused.is_fatal() && refused.to_string().contains("LSN(4)"), "{refused}");
    log.reset_to(Lsn::new(u64::MAX - 3)).unwrap();
    let mut given = Vec::new();
    let error = loop {
        match log.append(&b"one of the last"[..]) {
            Ok(receipt) => given.push(receipt.first.value()),
            Err(error) => break error,
        }
        assert!(given.len() < 9, "{given:?}");
    };
    assert!(matches!(error, Error::Exhausted), "{error:?}");
    assert!(given.windows(2).all(|pair| pair[0] + 1 == pair[1]) && given[0] == u64::MAX - 3, "{given:?}");
    assert!(log.append(&b"again"[..]).is_err());
    let last = *given.last().unwrap();
    drop(log);
    let log = Log::open_device(medium.writer().unwrap(), config().with_full_check()).unwrap();
    assert_eq!(log.recovery().last_valid_lsn.value(), last);
    let entries = log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn.value());
    assert_eq!(entries.collect::<Vec<_>>(), given);
}
