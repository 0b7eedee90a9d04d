//! Blocks that a medium lost: what reads as zeros, as bytes that nobody wrote, as it was before, or as bytes of another
//! place. Each is told with the entry that it cost, what stands behind it is read all the same, and nothing is taken for
//! the end of the log.
#![allow(missing_docs)]

use core::ops::Range;

use Op::{Append, Close, Fill, Open, Write};
use duralog::{
    Config, Error, Log, LogReader, Lsn, Object, Payload, Policy, Snapshot, StateMachine, Verdict,
    faulty::{Plan, Rot},
};
use duralog_tests::{Moment, Op, Setup};

/// A closed log of several segments, and where the frames of its entries stand.
fn sample(setup: Setup) -> (Moment, Vec<(Object, Range<u64>)>) {
    let mut run = Moment::new(setup).run(Plan::default());
    run.play(&[Open, Append(60), Append(60), Append(60), Fill(60), Append(60), Append(60), Close]).unwrap();
    let moment = run.end().after_cut(&[]);
    let reader = LogReader::open_device(moment.medium.reader(), moment.config()).unwrap();
    let frames = reader.read(Lsn::ZERO, Lsn::MAX).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let at = u64::from(entry.offset);
        (Object::Segment(entry.segment), at..at + entry.serialized_size() as u64)
    });
    let frames = frames.collect();
    (moment, frames)
}

/// The LSNs that can be read under a policy, each with the bytes that were appended under it.
fn read(moment: &Moment, policy: Policy) -> Vec<u64> {
    let reader = LogReader::open_device(moment.medium.reader(), moment.config().with_policy(policy)).unwrap();
    let entries = reader.read(Lsn::ZERO, Lsn::MAX).unwrap().map(|entry| {
        let entry = entry.unwrap();
        assert!(moment.oracle.was_appended(entry.lsn.value(), &entry.payload), "{} has other bytes", entry.lsn);
        entry.lsn.value()
    });
    entries.collect()
}

/// Damages the frame of each entry in turn, and looks what is said of it and read behind it.
fn each_entry(rot: impl Fn(usize, &[(Object, Range<u64>)]) -> Option<Rot>) -> u64 {
    let mut damaged = 0;
    for setup in Setup::ALL {
        let (sound, frames) = sample(setup);
        let all: Vec<u64> = (1..=frames.len() as u64).collect();
        for (index, (object, frame)) in frames.iter().enumerate() {
            let Some(rot) = rot(index, &frames) else { continue };
            damaged += 1;
            let lsn = index as u64 + 1;
            let moment = sound.fork();
            moment.medium.rot(&rot);
            let before = moment.bytes();
            let config = Config { full_check: true, ..moment.config() };
            let finding = match Log::open_device(moment.medium.device(), config) {
                Err(Error::Refused(finding) | Error::Damaged(finding)) => finding,
                other => panic!("{}, {rot:?}: {:?}", setup.name, other.map(|log| log.recovery().clone())),
            };
            assert_eq!(moment.bytes(), before, "{rot:?}");
            assert_eq!((finding.verdict, finding.object), (Verdict::Rot, *object), "{rot:?}: {finding:?}");
            // Where blank bytes may fill up a granule, it is the next frame that shows that one is missing.
            let granule = u64::from(setup.geometry.granule);
            let place = frame.start..=frame.end.next_multiple_of(granule);
            assert!(place.contains(&finding.offset) && finding.witness.is_some(), "{rot:?}: {finding:?}");
            assert_eq!(finding.lsns, Some((Lsn::new(lsn), Lsn::new(lsn))), "{rot:?}: {finding:?}");
            let left: Vec<u64> = all.iter().copied().filter(|other| *other != lsn).collect();
            assert_eq!(read(&moment, Policy::Salvage), left, "{}, {rot:?}", setup.name);
        }
    }
    damaged
}

#[test]
fn a_block_of_zeros_in_front_of_entries_is_not_the_end_of_the_log() {
    let zeroed = |index: usize, frames: &[(Object, Range<u64>)]| {
        let (object, range) = frames[index].clone();
        Some(Rot::Zeroed { object, range })
    };
    assert!(each_entry(zeroed) > 25);
}

#[test]
fn a_block_that_reads_as_before_it_was_written_is_damage_and_not_the_end_of_the_log() {
    let stale = |index: usize, frames: &[(Object, Range<u64>)]| {
        let (object, range) = frames[index].clone();
        Some(Rot::Stale { object, range })
    };
    assert!(each_entry(stale) > 25);
}

#[test]
fn bytes_that_nobody_wrote_are_no_entry() {
    let garbage = |index: usize, frames: &[(Object, Range<u64>)]| {
        let (object, range) = frames[index].clone();
        Some(Rot::Garbage { object, range, seed: index as u64 })
    };
    assert!(each_entry(garbage) > 25);
}

/// A write that went astray, or a read: a sound frame over another of the same length, in the same segment or another.
#[test]
fn a_frame_at_the_place_of_another_is_no_entry_there() {
    for distance in [1, 2, 4] {
        let misplaced = |index: usize, frames: &[(Object, Range<u64>)]| {
            let (object, range) = frames[index].clone();
            let (from, astray) = frames.get(index + distance)?.clone();
            (astray.end - astray.start == range.end - range.start).then_some(Rot::Misplaced {
                from,
                range: astray,
                object,
                at: range.start,
            })
        };
        assert!(each_entry(misplaced) > 10, "{distance} entries further on");
    }
}

/// What stands behind the end of a sealed segment, put there from outside, is no part of the log.
#[test]
fn bytes_added_behind_a_sealed_segment_are_no_entries() {
    for setup in Setup::ALL {
        let (moment, frames) = sample(setup);
        let (object, last) = frames.iter().rfind(|(object, _)| *object == frames[0].0).unwrap();
        let copy = moment.medium.object(*object).unwrap()[usize::try_from(last.start).unwrap()..].to_vec();
        let end = moment.medium.object(*object).unwrap().len() as u64;
        moment.medium.overwrite(*object, end, &copy);
        let log = Log::open_device(moment.medium.device(), Config { full_check: true, ..moment.config() }).unwrap();
        assert_eq!(log.recovery().damage().count(), 0, "{}: {:?}", setup.name, log.recovery());
        drop(log);
        assert_eq!(read(&moment, Policy::Default), (1..=frames.len() as u64).collect::<Vec<_>>());
    }
}

/// A payload that is none of its type.
struct Nonsense;

impl Payload for Nonsense {
    fn code(&self) -> u8 {
        1
    }

    fn len(&self) -> usize {
        5
    }

    fn write(&self, to: &mut [u8]) {
        to.fill(0xEE);
    }
}

/// Keeps the LSNs that it was given.
#[derive(Default)]
struct Applied(Vec<u64>);

impl StateMachine for Applied {
    type Error = core::fmt::Error;

    fn apply(&mut self, lsn: Lsn, _: &duralog::Operation) {
        self.0.push(lsn.value());
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }

    fn load(&mut self, _: &Snapshot) -> Result<(), Self::Error> {
        Ok(())
    }
}

#[test]
fn an_entry_that_is_sound_and_cannot_be_decoded_is_named_and_handed_out_raw() {
    let moment = Moment::new(Setup::BYTES);
    let log = Log::open_device(moment.medium.device(), moment.config()).unwrap();
    log.append(&b"first"[..]).unwrap();
    log.append(Nonsense).unwrap();
    log.append(&b"third"[..]).unwrap();
    let error = log.rebuild(&mut Applied::default()).unwrap_err();
    assert!(matches!(error, Error::Undecodable { lsn, .. } if lsn == Lsn::new(2)), "{error}");
    let entries: Vec<_> = log.read_from(Lsn::ZERO).unwrap().map(Result::unwrap).collect();
    assert_eq!(entries[1].payload, [0xEE; 5], "the boundary is sound: the bytes are there");
    assert!(matches!(entries[1].operation(), Err(Error::Undecodable { lsn, .. }) if lsn == Lsn::new(2)));
    assert_eq!(entries.len(), 3, "and so is what follows");
    drop(log);
    let log = Log::open_device(moment.medium.device(), moment.config().with_policy(Policy::Salvage)).unwrap();
    let mut state = Applied::default();
    assert_eq!(log.rebuild(&mut state).unwrap().undecodable, [Lsn::new(2)]);
    assert_eq!(state.0, [1, 3]);
}

#[test]
fn a_byte_that_cannot_be_read_costs_no_entry_or_keeps_the_log_as_it_is() {
    let (mut opened, mut refused) = (0, 0);
    for setup in Setup::ALL {
        // Nothing was synced: what only a cache may hold is copied by whoever goes on, past marks that are lost.
        let mut run = Moment::new(setup).run(Plan::default());
        run.play(&[Open, Write(30), Write(30), Write(30), Write(30)]).unwrap();
        let sound = run.end().after_kill();
        let newest = *sound.medium.names().iter().rev().find(|name| matches!(name, Object::Segment(_))).unwrap();
        for at in 0..sound.medium.written(newest) {
            let moment = sound.fork();
            moment.medium.make_unreadable(newest, at..at + 1);
            let (before, readable) = (moment.bytes(), read(&moment, Policy::Inspect));
            moment.medium.set_plan(Plan::default());
            match Log::open_device(moment.medium.device(), moment.config()) {
                Ok(log) => {
                    opened += 1;
                    let read = log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn.value());
                    assert_eq!(read.collect::<Vec<_>>(), readable, "{}, byte {at}", setup.name);
                    assert_eq!(readable, [1, 2, 3, 4], "{}, byte {at}", setup.name);
                }
                Err(error) => {
                    refused += 1;
                    assert!(moment.bytes() == before, "{}, byte {at}: {error}, and it was changed", setup.name);
                    assert_eq!(moment.medium.calls(), 0, "{}, byte {at}: {error}", setup.name);
                }
            }
        }
    }
    assert!(opened > 0 && refused > 0, "{opened} opened, {refused} refused");
}
