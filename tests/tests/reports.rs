//! What a recovery says of a log: each number is exact, and each error says whether anything can go on.
#![allow(missing_docs)]

use std::sync::Arc;

use duralog::{
    Config, Durability, Error, Geometry, Log, LogReader, Lsn, MemoryDevice, Object, Operation, Policy, RecoveryReport,
    SegmentId, Snapshot, SyncMode, Verdict,
    faulty::{Keep, Medium},
};
use duralog_core::{Device, Seen};
use duralog_tests::Counter;

const GEOMETRY: Geometry =
    Geometry { segment_size: 4096, granule: 1, copy_offset: 128, blank: 0, settled: false, slots: None };

fn config() -> Config {
    Config { environment: Counter::new(), idle_mark: None, write_behind: None, ..Config::default() }
        .with_write_limit(1024)
        .with_sync_mode(SyncMode::Immediate)
}

/// A closed log of entries of 100 bytes, in several segments, with a checkpoint of what is up to `checkpoint`.
fn log(entries: u8, checkpoint: Option<u8>) -> MemoryDevice {
    let medium = MemoryDevice::new(GEOMETRY);
    let reader = medium.reader();
    let log = Log::open_device(medium, config()).unwrap();
    for n in 1..=entries {
        // The checkpoint has an entry too.
        if log.current_lsn().value() <= entries.into() {
            log.append(&[n; 100][..]).unwrap();
        }
        if Some(n) == checkpoint {
            log.checkpoint(log.checkpoint_at(), &Snapshot::default()).unwrap();
        }
    }
    log.close().unwrap();
    reader
}

fn entries(medium: &MemoryDevice) -> Vec<duralog::Entry> {
    let reader = LogReader::open_device(medium.reader(), config()).unwrap();
    reader.read(Lsn::ZERO, Lsn::MAX).unwrap().map(Result::unwrap).collect()
}

/// A copy in which a byte of each of these entries is another.
fn damaged(medium: &MemoryDevice, lsns: &[u64]) -> MemoryDevice {
    let copy = MemoryDevice::new(GEOMETRY);
    medium.names().into_iter().for_each(|name| copy.put(name, medium.object(name).unwrap()));
    for entry in entries(medium).iter().filter(|entry| lsns.contains(&entry.lsn.value())) {
        let object = Object::Segment(entry.segment);
        let mut bytes = copy.object(object).unwrap();
        bytes[entry.offset as usize + 30] ^= 8;
        copy.put(object, bytes);
    }
    // Without the lock, which is the first handle's.
    copy.reader()
}

fn verified(medium: &MemoryDevice, policy: Policy) -> RecoveryReport {
    let mut reader = LogReader::open_device(medium.reader(), config().with_policy(policy)).unwrap();
    reader.verify().unwrap().clone()
}

#[test]
fn every_number_about_a_damaged_log_is_exact() {
    let sound = log(100, None);
    let report = verified(&sound, Policy::Salvage);
    assert_eq!((report.entries_recovered, report.entries_skipped, report.last_valid_lsn), (100, 0, Lsn::new(100)));
    assert_eq!((report.verified, report.clean, report.success), (Some((Lsn::FIRST, Lsn::new(100))), true, true));

    let medium = damaged(&sound, &[1, 40, 41, 99]);
    let report = verified(&medium, Policy::Salvage);
    assert_eq!((report.entries_recovered, report.entries_skipped, report.last_valid_lsn), (96, 4, Lsn::new(100)));
    assert_eq!((report.clean, report.success, report.torn_tail), (false, false, None));
    let places = entries(&sound);
    let mut found: Vec<_> = report.damage().map(|finding| (finding.lsns, finding.object, finding.verdict)).collect();
    found.sort_by_key(|(lsns, ..)| *lsns);
    let lost = |first: u64, last: u64| {
        let entry = places.iter().find(|entry| entry.lsn == Lsn::new(first)).unwrap();
        (Some((Lsn::new(first), Lsn::new(last))), Object::Segment(entry.segment), Verdict::Rot)
    };
    // Two beside each other are one place or two; every LSN is named once.
    let named: Vec<u64> =
        found.iter().flat_map(|(lsns, ..)| lsns.map(|(a, b)| a.value()..=b.value()).unwrap()).collect();
    assert_eq!(named, [1, 40, 41, 99]);
    assert_eq!((found[0], found[found.len() - 1]), (lost(1, 1), lost(99, 99)));
    assert!(report.damage().all(|finding| finding.witness.is_some()), "{found:?}");

    let opened = Log::open_device(medium.writer().unwrap(), config().with_full_check());
    let Err(Error::Refused(finding)) = &opened else { panic!("{opened:?}") };
    assert!(finding.lsns.is_some_and(|(first, _)| named.contains(&first.value())), "{finding}");
}

#[test]
fn the_whole_batch_that_damage_takes_is_named_whoever_asks() {
    let sound = MemoryDevice::new(GEOMETRY);
    let reader = sound.reader();
    let log = Log::open_device(sound, config()).unwrap();
    for n in 1..=10_u8 {
        log.append_batch(&[[n; 60]; 5].each_ref().map(|payload| &payload[..])).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let places = entries(&reader);
    let newest = places.last().unwrap().segment;
    assert!(places[0].segment < newest);
    for place in &places {
        let lsn = place.lsn.value();
        let medium = damaged(&reader, &[lsn]);
        let first = (lsn - 1) / 5 * 5 + 1;
        let batch = Some((Lsn::new(first), Lsn::new(first + 4)));
        for policy in [Policy::Strict, Policy::Default, Policy::PointInTime, Policy::Salvage, Policy::Inspect] {
            let is_told = |report: &RecoveryReport, last: u64| {
                let told: Vec<_> = report.damage().map(|finding| finding.lsns).collect();
                assert_eq!(told, [Some((Lsn::new(first), Lsn::new(last)))], "LSN {lsn}, {policy:?}");
                assert_eq!(report.entries_skipped, last - first + 1, "LSN {lsn}, {policy:?}");
            };
            let mut reader = match LogReader::open_device(medium.reader(), config().with_policy(policy)) {
                Ok(reader) => reader,
                Err(Error::Damaged(finding)) if place.segment == newest && policy == Policy::Strict => {
                    assert_eq!(finding.lsns, batch, "LSN {lsn}");
                    continue;
                }
                Err(error) => panic!("{error:?}"),
            };
            if place.segment == newest {
                is_told(reader.recovery(), first + 4);
            } else {
                match reader.read(Lsn::ZERO, Lsn::MAX).unwrap().find_map(Result::err) {
                    None => assert!(matches!(policy, Policy::Salvage | Policy::Inspect)),
                    Some(Error::Damaged(finding)) => assert_eq!(finding.lsns, batch, "LSN {lsn}, {policy:?}"),
                    Some(error) => panic!("{error:?}"),
                }
            }
            // Who ends the log before damage lists what it gives up: all that is behind.
            let last = if policy == Policy::PointInTime { 50 } else { first + 4 };
            is_told(reader.verify().unwrap(), last);
        }
        let refused = Log::open_device(medium.writer().unwrap(), config().with_full_check());
        assert!(matches!(&refused, Err(Error::Refused(finding)) if finding.lsns == batch), "LSN {lsn}: {refused:?}");
    }
}

#[test]
fn damage_below_a_checkpoint_is_told_and_loses_nothing() {
    let medium = damaged(&log(100, Some(60)), &[10]);
    let log = Log::open_device(medium.writer().unwrap(), config().with_full_check()).unwrap();
    let report = log.recovery();
    assert!(report.success && report.writable, "{report:?}");
    let told: Vec<_> = report.findings.iter().filter_map(|finding| finding.lsns).collect();
    assert_eq!(told, [(Lsn::new(10), Lsn::new(10))]);
    assert!(report.findings.iter().all(|finding| finding.harmless));
}

#[test]
fn damage_that_a_reader_meets_stops_writing() {
    // In a sealed segment, where opening does not look.
    let medium = damaged(&log(100, None), &[5]);
    let log = Log::open_device(medium.writer().unwrap(), config()).unwrap();
    log.append(&b"goes on"[..]).unwrap();
    let read: Vec<_> = log.read_from(Lsn::ZERO).unwrap().collect();
    assert_eq!(read.iter().filter(|entry| entry.is_ok()).count(), 4, "what stands before it is read");
    assert_eq!(read.last().unwrap().as_ref().unwrap_err().lsn(), Some(Lsn::new(5)));
    assert!(matches!(log.append(&b"never"[..]), Err(Error::Poisoned { .. })));
}

#[test]
fn damage_that_a_checkpoint_holds_is_told_and_stops_nobody() {
    let medium = damaged(&log(100, Some(60)), &[5]);
    let log = Log::open_device(medium.writer().unwrap(), config()).unwrap();
    let met = log.read_from(Lsn::ZERO).unwrap().find_map(Result::err);
    assert_eq!(met.as_ref().map(Error::kind), Some("damaged"), "{met:?}");
    let next = log.append(&b"goes on"[..]).map(|receipt| receipt.lsn());
    assert!(next.is_ok(), "{next:?}");
    // And truncation heals it.
    let kept = log.truncate_before(Lsn::MAX).unwrap();
    assert!(log.read_from(Lsn::ZERO).unwrap().all(|entry| entry.unwrap().lsn >= kept));
}

#[test]
fn where_the_entry_that_names_an_older_checkpoint_is_lost_a_newer_one_is_relied_on() {
    let medium = MemoryDevice::new(GEOMETRY);
    let reader = medium.reader();
    let log = Log::open_device(medium, config()).unwrap();
    let checkpoint = || log.checkpoint(log.checkpoint_at(), &Snapshot::default()).unwrap();
    (1..=40_u8).for_each(|n| append(&log, n, Durability::Durable));
    let named = log.current_lsn();
    checkpoint();
    (1..=40_u8).for_each(|n| append(&log, n, Durability::Durable));
    checkpoint();
    log.close().unwrap();
    drop(log);
    let medium = damaged(&reader, &[named.value()]);
    let log = Log::open_device(medium.writer().unwrap(), config()).unwrap();
    let met = log.read_from(Lsn::ZERO).unwrap().find_map(Result::err);
    assert_eq!(met.as_ref().map(Error::kind), Some("damaged"), "{met:?}");
    let next = log.append(&b"goes on"[..]);
    assert!(next.is_ok(), "{next:?}");
    let kept = log.truncate_before(Lsn::MAX);
    assert!(kept.as_ref().is_ok_and(|kept| *kept > named), "{kept:?}");
}

#[test]
fn a_first_segment_that_is_missing_and_held_by_a_checkpoint_is_told_and_read_past() {
    // As a truncation leaves it that had to remove before there was room to say so.
    let medium = log(100, Some(60));
    medium.writer().unwrap().remove(Object::Segment(SegmentId::new(1))).unwrap();
    let log = Log::open_device(medium.writer().unwrap(), config()).unwrap();
    let report = log.recovery();
    let told: Vec<_> = report.findings.iter().map(|finding| (finding.seen, finding.lsns, finding.harmless)).collect();
    let [(Seen::MissingSegment, Some((Lsn::FIRST, last)), true)] = told[..] else { panic!("{report:?}") };
    assert_eq!((report.low_water, report.entries_recovered), (Lsn::FIRST, 100 - last.value()));
    let next = last.next_or_max();
    assert_eq!(log.low_water_lsn(), next);
    log.append(&b"goes on"[..]).unwrap();
    drop(log);
    // The segment that it began says so.
    let log = Log::open_device(medium.writer().unwrap(), config().with_full_check()).unwrap();
    assert_eq!((log.recovery().low_water, log.recovery().findings.len()), (next, 0));
    let read: Result<Vec<_>, _> = log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.map(|entry| entry.lsn)).collect();
    let all: Vec<_> = (next.value()..=101).map(Lsn::new).collect();
    assert!(read.as_ref().is_ok_and(|read| *read == all), "{read:?}");
}

/// The log as a killed writer leaves it, with these entries damaged.
fn killed(entries: impl Fn(&Log<MemoryDevice>), lsns: &[u64]) -> MemoryDevice {
    let medium = MemoryDevice::new(GEOMETRY);
    let reader = medium.reader();
    let log = Log::open_device(medium, config()).unwrap();
    entries(&log);
    damaged(&reader, lsns)
}

fn append(log: &Log<MemoryDevice>, n: u8, durability: Durability) {
    log.append_with(&[n; 100][..], durability).unwrap();
}

#[test]
fn salvage_keeps_what_is_sound_behind_damage_in_the_last_group() {
    let entries = |log: &Log<MemoryDevice>| {
        (1..=7_u8).for_each(|n| append(log, n, Durability::Durable));
        (8..=10_u8).for_each(|n| append(log, n, Durability::Buffered));
        log.sync().unwrap();
    };
    let medium = killed(entries, &[9]);
    let config = config().with_expect_durable(Lsn::new(10));
    let refused = Log::open_device(medium.writer().unwrap(), config.clone());
    assert!(matches!(refused, Err(Error::Refused(_) | Error::Damaged(_))), "{refused:?}");
    let log = Log::open_device(medium.writer().unwrap(), config.with_policy(Policy::Salvage));
    let Ok(log) = log else { panic!("{log:?}") };
    assert_eq!(
        log.recovery().damage().filter_map(|finding| finding.lsns).collect::<Vec<_>>(),
        [(Lsn::new(9), Lsn::new(9))]
    );
    log.append(&b"goes on"[..]).unwrap();
    log.close().unwrap();
    drop(log);
    let log = Log::open_device(medium.writer().unwrap(), self::config().with_full_check()).unwrap();
    let read: Vec<_> = log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.map(|entry| entry.lsn.value())).collect();
    assert_eq!(read.into_iter().filter_map(Result::ok).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8, 10, 11]);
}

#[test]
fn what_salvage_lists_as_lost_in_an_unreadable_place_is_not_given_out_again() {
    let medium = Medium::new(GEOMETRY);
    let log = Log::open_device(medium.device(), config()).unwrap();
    for n in 1..=9_u8 {
        log.append(&[n; 100][..]).unwrap();
    }
    let place = log.read_from(Lsn::new(8)).unwrap().next().unwrap().unwrap();
    drop(log);
    medium.kill();
    medium.make_unreadable(Object::Segment(place.segment), place.offset.into()..u64::from(place.offset) + 100);
    let log = Log::open_device(medium.device(), config().with_policy(Policy::Salvage)).unwrap();
    let lost = log.recovery().findings.iter().filter_map(|finding| finding.lsns).map(|(_, last)| last).max();
    let next = log.append(&b"goes on"[..]).unwrap().lsn();
    assert!(lost.is_some_and(|lost| lost >= Lsn::new(8) && lost < next), "{lost:?} is lost, and {next} given out");
}

#[test]
fn damage_to_an_entry_of_a_transaction_that_goes_over_the_low_water_mark_is_found_and_given_up() {
    let entries = |log: &Log<MemoryDevice>| {
        log.append(&b"before"[..]).unwrap();
        let crossing = log.transaction().unwrap();
        crossing.append(&[3; 100][..]).unwrap();
        (4..=90_u8).for_each(|n| append(log, n, Durability::Durable));
        crossing.commit().unwrap();
        assert_eq!(log.discard_before(Lsn::new(80)).unwrap(), Lsn::new(80));
        log.sync().unwrap();
    };
    let medium = killed(entries, &[3]);
    let third = Some((Lsn::new(3), Lsn::new(3)));
    let report = verified(&medium, Policy::Inspect);
    // And with it what is left of its transaction.
    let lost = [3, 2, 91].map(|lsn| Some((Lsn::new(lsn), Lsn::new(lsn))));
    assert_eq!(report.damage().map(|finding| finding.lsns).collect::<Vec<_>>(), lost);
    let refused = Log::open_device(medium.writer().unwrap(), config().with_full_check());
    assert!(matches!(&refused, Err(Error::Refused(finding)) if finding.lsns == third), "{refused:?}");
    let log = Log::open_device(medium.writer().unwrap(), config()).unwrap();
    let met = log.read_from(Lsn::ZERO).unwrap().find_map(Result::err);
    assert_eq!(met.and_then(|error| error.lsn()), Some(Lsn::new(3)));
    drop(log);
    drop(Log::open_device(medium.writer().unwrap(), config().with_policy(Policy::Salvage)).unwrap());
    let log = Log::open_device(medium.writer().unwrap(), config().with_full_check()).unwrap();
    for entries in [log.read_from(Lsn::ZERO), log.replay_from(Lsn::ZERO)] {
        let met = entries.unwrap().find_map(Result::err);
        assert!(met.is_none(), "it was given up: {met:?}");
    }
}

#[test]
fn a_state_that_was_given_up_with_its_checkpoint_is_built_up_again_from_what_is_left() {
    let medium = MemoryDevice::new(GEOMETRY);
    let reader = medium.reader();
    let log = Log::open_device(medium, config()).unwrap();
    (1..=90_u8).for_each(|n| append(&log, n, Durability::Durable));
    log.checkpoint(log.checkpoint_at(), &Snapshot::default()).unwrap();
    log.append(&b"after it"[..]).unwrap();
    log.truncate_before(Lsn::MAX).unwrap();
    log.close().unwrap();
    drop(log);
    for name in reader.names().into_iter().filter(|name| matches!(name, Object::Checkpoint(_))) {
        reader.writer().unwrap().remove(name).unwrap();
    }
    let open = |policy| Log::open_device(reader.writer().unwrap(), config().with_policy(policy));
    let refused = open(Policy::Default);
    assert!(refused.is_err(), "{refused:?}");
    drop(open(Policy::Salvage).unwrap());
    let log = open(Policy::Default).unwrap();
    let rebuilt = log.rebuild(&mut duralog::Documents::default());
    assert!(rebuilt.is_ok(), "{rebuilt:?}");
}

#[test]
fn what_truncation_takes_from_under_a_reader_is_no_damage() {
    let medium = log(100, None);
    let log = Log::open_device(medium.writer().unwrap(), config()).unwrap();
    log.append(&b"goes on"[..]).unwrap();
    let mut forwards = log.read_from(Lsn::ZERO).unwrap();
    let mut backwards = log.read_back_to(Lsn::ZERO).unwrap();
    assert_eq!(forwards.next().unwrap().unwrap().lsn, Lsn::FIRST);
    assert_eq!(backwards.next().unwrap().unwrap().lsn, Lsn::new(101));
    let kept = log.discard_before(Lsn::new(90)).unwrap();
    for reader in [forwards, backwards] {
        let end = reader.last().unwrap();
        assert!(matches!(&end, Err(Error::Truncated { low_water }) if *low_water == kept), "{end:?}");
    }
    let written = log.append(&b"still"[..]);
    assert!(written.is_ok(), "{written:?}");
}

#[test]
fn how_the_log_was_left_is_told() {
    let append = |medium: &Medium| {
        let log = Log::open_device(medium.device(), config()).unwrap();
        log.append(&b"one"[..]).unwrap();
        log.append(&b"two"[..]).unwrap();
        log
    };
    let opened = |medium: &Medium| {
        let log = Log::open_device(medium.device(), config()).unwrap();
        let report = log.recovery();
        assert_eq!((report.last_valid_lsn, report.clean, report.success), (Lsn::new(2), true, true));
        (report.closed, report.repersisted)
    };
    let medium = Medium::new(GEOMETRY);
    append(&medium).close().unwrap();
    assert_eq!(opened(&medium), (true, 0), "a clean close");
    let medium = Medium::new(GEOMETRY);
    drop(append(&medium));
    assert_eq!(opened(&medium), (false, 1), "a drop: the last entry has no mark behind it");
    let medium = Medium::new(GEOMETRY);
    let log = append(&medium);
    medium.kill();
    assert_eq!(opened(&medium), (false, 1), "a kill");
    drop(log);
    let medium = Medium::new(GEOMETRY);
    let log = append(&medium);
    medium.power_cut(|_| Keep::None);
    assert_eq!(opened(&medium), (false, 1), "a power cut");
    drop(log);
}

#[test]
fn a_cut_tail_is_kept_aside() {
    let medium = Medium::new(GEOMETRY);
    let log = Log::open_device(medium.device(), config().with_sync_mode(SyncMode::Async)).unwrap();
    log.append(&b"one"[..]).unwrap();
    log.sync().unwrap();
    log.append_with(&[7; 300][..], Durability::Os).unwrap();
    medium.power_cut(|_| Keep::Prefix(200));
    drop(log);
    let first = Object::Segment(SegmentId::new(1));
    let torn = medium.object(first).unwrap();
    let log = Log::open_device(medium.device(), config()).unwrap();
    let tail = log.recovery().torn_tail.expect("a torn tail");
    assert_eq!((tail.segment, log.recovery().last_valid_lsn), (SegmentId::new(1), Lsn::FIRST));
    log.append(&b"two"[..]).unwrap();
    let there = medium.object(first).expect("the old segment stays");
    let range = tail.offset as usize..(tail.offset + tail.len) as usize;
    assert_eq!(there.get(range.clone()), Some(&torn[range]), "with the bytes that were cut off");
    log.close().unwrap();
    drop(log);
    let mut reader = LogReader::open_device(medium.reader(), config()).unwrap();
    let report = reader.verify().unwrap();
    assert!(report.success && report.damage().next().is_none(), "{report:?}");
    let found: Vec<_> = reader.read(Lsn::ZERO, Lsn::MAX).unwrap().map(|entry| entry.unwrap().payload).collect();
    assert_eq!(found, [b"one", b"two"]);
}

#[test]
fn copies_of_entries_inside_an_entry_are_never_taken_for_entries() {
    let medium = MemoryDevice::new(GEOMETRY);
    let reader = medium.reader();
    let log = Log::open_device(medium, config()).unwrap();
    for n in 1..=5u8 {
        log.append(&[n; 20][..]).unwrap();
    }
    let first = Object::Segment(SegmentId::new(1));
    let places: Vec<_> = entries(&reader).iter().map(|entry| entry.offset as usize).collect();
    // What the log itself holds, entries and their marks, as the payload of another entry.
    let copy = reader.object(first).unwrap()[places[0]..places[4]].to_vec();
    log.append(&copy[..]).unwrap();
    log.append(&b"behind"[..]).unwrap();
    log.close().unwrap();
    drop(log);
    let at = entries(&reader)[5].offset as usize;
    let sound = reader.object(first).unwrap();
    for broken in at..at + 33 + copy.len() {
        let mut bytes = sound.clone();
        bytes[broken] ^= 1;
        reader.put(first, bytes);
        let opened = LogReader::open_device(reader.reader(), config().with_policy(Policy::Salvage)).unwrap();
        let found: Vec<_> = opened.read(Lsn::ZERO, Lsn::MAX).unwrap().map(|entry| entry.unwrap()).collect();
        let lsns: Vec<_> = found.iter().map(|entry| entry.lsn.value()).collect();
        assert_eq!(lsns, [1, 2, 3, 4, 5, 7], "byte {broken}: without the damaged one, and nothing from inside it");
    }
}

#[test]
fn an_error_says_of_what_kind_it_is_and_whether_the_handle_is_of_use() {
    let medium = log(30, None);
    let log = Log::open_device(medium.writer().unwrap(), config()).unwrap();
    let check = |error: Error, kind: &str, fatal: bool| {
        assert_eq!((error.kind(), error.is_fatal()), (kind, fatal), "{error:?}");
        assert!(!error.to_string().is_empty() && !error.to_string().ends_with('.'), "{error}");
    };
    check(log.append(&[0; 2000][..]).unwrap_err(), "too_large", false);
    let reserved = Operation::Checkpoint { lsn: Lsn::FIRST, checkpoint_id: 1.into() };
    check(log.append(reserved).unwrap_err(), "reserved", false);
    log.discard_before(Lsn::new(20)).unwrap();
    check(log.read_from(Lsn::FIRST).map(|_| ()).unwrap_err(), "truncated", false);
    check(log.truncate_after(Lsn::FIRST).unwrap_err(), "truncated", false);
    log.close().unwrap();
    check(log.append(&b""[..]).unwrap_err(), "closed", true);
    drop(log);
    let lost = config().with_expect_durable(Lsn::new(31));
    check(Log::open_device(medium.writer().unwrap(), lost.clone()).unwrap_err(), "refused", true);
    check(Log::open_device(MemoryDevice::new(GEOMETRY), lost).unwrap_err(), "lost", true);
    let empty = MemoryDevice::new(GEOMETRY);
    check(Log::open_device(empty, config().existing()).unwrap_err(), "not_found", true);
    let bad = damaged(&medium, &[25]);
    let opened = Log::open_device(bad.writer().unwrap(), config().with_full_check());
    check(opened.unwrap_err(), "refused", true);
    let poisoned = Error::Poisoned { cause: Arc::new(Error::Lost { expected: Lsn::new(7) }) };
    assert_eq!(poisoned.lsn(), Some(Lsn::new(7)), "the cause counts");
    check(poisoned, "poisoned", true);
}

#[test]
fn a_header_copy_that_a_power_cut_may_have_torn_is_not_called_rot() {
    for (entries, verdict) in [(0, Verdict::Unsynced), (1, Verdict::Rot)] {
        for offset in [0, usize::try_from(GEOMETRY.copy_offset).unwrap()] {
            let medium = MemoryDevice::new(GEOMETRY);
            let reader = medium.reader();
            let log = Log::open_device(medium, config()).unwrap();
            for n in 0..entries {
                log.append(&[n; 100][..]).unwrap();
            }
            drop(log);
            let segment = Object::Segment(SegmentId::new(1));
            let mut bytes = reader.object(segment).unwrap();
            bytes[offset + 90] ^= 1;
            let damaged = MemoryDevice::new(GEOMETRY);
            damaged.put(segment, bytes);
            let report = LogReader::open_device(damaged.reader(), config()).unwrap().recovery().clone();
            let finding = report.findings[0];
            assert_eq!((finding.seen, finding.verdict), (Seen::BadHeaderCopy, verdict), "{entries} entries");
            assert!(finding.harmless && finding.offset == offset as u64);
        }
    }
}
