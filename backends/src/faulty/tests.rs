//! What the simulated medium promises to tests.

use duralog_core::{CheckpointId, Device, DeviceError, ErrorKind, Geometry, Object, Room, SegmentId};

use super::*;
use crate::memory::tests as contract;

const SEGMENT: Object = Object::Segment(SegmentId::new(1));
const OTHER: Object = Object::Segment(SegmentId::new(2));
const CHECKPOINT: Object = Object::Checkpoint(CheckpointId::new(1));
const GEOMETRY: Geometry =
    Geometry { segment_size: 4096, granule: 1, copy_offset: 128, blank: 0xFF, settled: false, slots: None };

/// A medium with a durable segment that begins with `old`.
fn medium() -> (Medium, FaultyDevice) {
    let medium = Medium::new(GEOMETRY);
    let mut device = medium.device();
    device.create(SEGMENT, 4096).unwrap();
    device.write(SEGMENT, 0, b"old").unwrap();
    device.sync().unwrap();
    (medium, device)
}

fn head(medium: &Medium) -> [u8; 3] {
    *medium.object(SEGMENT).unwrap().first_chunk().unwrap()
}

#[test]
fn it_keeps_the_promises_of_a_device_while_nothing_is_planned() {
    for short_reads in [false, true] {
        let medium = Medium::new(GEOMETRY);
        medium.set_plan(Plan { short_reads, ..Plan::default() });
        contract::keeps_its_promises(&mut medium.device(), &mut medium.reader());
    }
}

#[test]
fn unsynced_writes_survive_a_kill_and_not_a_power_cut() {
    let (medium, mut device) = medium();
    device.write(SEGMENT, 0, b"new").unwrap();
    medium.kill();
    assert_eq!(device.read(SEGMENT, 0, &mut [0]), Err(FaultyError::Gone));
    assert_eq!((head(&medium), medium.unsynced().len()), (*b"new", 1));
    let cut = medium.snapshot();
    cut.power_cut(|_| Keep::None);
    assert_eq!(head(&cut), *b"old");
    medium.device().sync().unwrap();
    medium.power_cut(|_| Keep::None);
    assert_eq!(head(&medium), *b"new");
}

#[test]
fn a_lost_create_leaves_no_object() {
    let (medium, mut device) = medium();
    device.create(OTHER, 4096).unwrap();
    device.write(OTHER, 0, b"x").unwrap();
    medium.power_cut(|op| if matches!(op.change, Change::Create { .. }) { Keep::None } else { Keep::All });
    assert_eq!(medium.names(), [SEGMENT]);
}

#[test]
fn a_kept_create_with_a_lost_write_is_blank_room() {
    let (medium, mut device) = medium();
    device.create(OTHER, 8).unwrap();
    device.write(OTHER, 0, b"x").unwrap();
    let short = medium.snapshot();
    medium.power_cut(|op| if op.call == 3 { Keep::All } else { Keep::None });
    assert_eq!(medium.object(OTHER).unwrap(), [0xFF; 8]);
    short.power_cut(|op| if op.call == 3 { Keep::Prefix(3) } else { Keep::None });
    assert_eq!(short.object(OTHER).unwrap(), [0xFF; 3]);
}

#[test]
fn a_lost_removal_brings_the_old_bytes_back() {
    let (medium, mut device) = medium();
    device.write(SEGMENT, 0, b"new").unwrap();
    device.remove(SEGMENT).unwrap();
    assert_eq!(medium.names(), []);
    medium.power_cut(|_| Keep::None);
    assert_eq!(head(&medium), *b"old");
}

#[test]
fn a_write_does_not_land_in_a_namesake_of_its_object() {
    let (medium, mut device) = medium();
    device.remove(SEGMENT).unwrap();
    device.create(SEGMENT, 4096).unwrap();
    device.write(SEGMENT, 0, b"new").unwrap();
    for lost in [3, 4] {
        let medium = medium.snapshot();
        medium.power_cut(|op| if op.call == lost || lost == 4 && op.call == 3 { Keep::None } else { Keep::All });
        assert_eq!(head(&medium), if lost == 3 { *b"new" } else { *b"old" });
    }
    medium.power_cut(|op| if op.call == 4 { Keep::None } else { Keep::All });
    assert_eq!(medium.names(), []);
}

#[test]
fn metadata_that_was_not_emptied_mixes_with_what_is_written_next() {
    let (medium, mut device) = medium();
    device.create(Object::Meta, 0).unwrap();
    device.write(Object::Meta, 0, b"long ago").unwrap();
    device.sync().unwrap();
    device.create(Object::Meta, 0).unwrap();
    device.write(Object::Meta, 0, b"now").unwrap();
    assert_eq!(medium.object(Object::Meta).unwrap(), b"now");
    medium.power_cut(|op| if matches!(op.change, Change::Create { .. }) { Keep::None } else { Keep::All });
    assert_eq!(medium.object(Object::Meta).unwrap(), b"nowg ago");
}

#[test]
fn a_torn_write_leaves_its_beginning_or_some_of_its_sectors() {
    let (medium, mut device) = medium();
    device.write(SEGMENT, 500, &[7; 600]).unwrap();
    let kept = |keep: Keep| {
        let medium = medium.snapshot();
        medium.power_cut(|_| keep.clone());
        let bytes = medium.object(SEGMENT).unwrap();
        let places: Vec<_> = (0..).zip(bytes).filter(|(_, byte)| *byte == 7).map(|(at, _)| at).collect();
        places
    };
    assert_eq!(kept(Keep::Prefix(5)), Vec::from_iter(500..505));
    assert_eq!(kept(Keep::Sectors(vec![true])), Vec::from_iter(500..512));
    assert_eq!(kept(Keep::Sectors(vec![false, true, false])), Vec::from_iter(512..1024));
    assert_eq!(kept(Keep::Sectors(vec![true, false, true, true])), Vec::from_iter((500..512).chain(1024..1100)));
    assert_eq!(kept(Keep::Sectors(vec![true; 9])), kept(Keep::All));
}

#[test]
fn the_power_goes_at_the_planned_call_and_stays_off() {
    let (medium, mut device) = medium();
    medium.set_plan(Plan { cut_at_call: Some(1), cut_in_write: Some(2), ..Plan::default() });
    device.create(OTHER, 8).unwrap();
    assert_eq!(device.write(SEGMENT, 0, b"new"), Err(FaultyError::Gone));
    assert_eq!(device.sync().unwrap_err().kind(), ErrorKind::Gone);
    assert_eq!(device.next(None), Err(FaultyError::Gone));
    assert_eq!(medium.reader().read(SEGMENT, 0, &mut [0]), Err(FaultyError::Gone));
    assert_eq!((medium.calls(), medium.unsynced().len()), (2, 2));
    medium.power_cut(|_| Keep::All);
    assert_eq!((head(&medium), medium.calls()), (*b"ned", 0));
    assert_eq!(device.next(None), Err(FaultyError::Gone), "a handle of an earlier life");
    assert_eq!(medium.device().next(None), Ok(Some(SEGMENT)));
}

#[test]
fn a_sync_that_is_cut_makes_nothing_durable_by_itself() {
    let (medium, mut device) = medium();
    medium.set_plan(Plan { cut_at_call: Some(1), ..Plan::default() });
    device.write(SEGMENT, 0, b"new").unwrap();
    device.sync().unwrap_err();
    medium.power_cut(|_| Keep::None);
    assert_eq!(head(&medium), *b"old");
}

#[test]
fn what_a_failed_sync_lost_shows_until_the_cache_is_gone_and_no_sync_brings_it_back() {
    let (medium, mut device) = medium();
    let keeps = vec![Keep::None, Keep::All];
    medium.set_plan(Plan { fail: vec![(2, Failure::SyncLoses(keeps))], ..Plan::default() });
    device.write(SEGMENT, 0, b"n").unwrap();
    device.write(SEGMENT, 2, b"w").unwrap();
    assert_eq!(device.sync(), Err(FaultyError::Failed { call: 2 }));
    device.sync().unwrap();
    medium.kill();
    medium.device().sync().unwrap();
    assert_eq!((head(&medium), medium.unsynced()), (*b"nlw", vec![]));
    let cut = medium.snapshot();
    cut.power_cut(|_| Keep::All);
    medium.evict();
    assert_eq!([head(&medium), head(&cut)], [*b"olw"; 2]);
}

#[test]
fn a_settled_medium_forgets_nothing_after_a_failed_sync() {
    let medium = Medium::new(Geometry { settled: true, ..GEOMETRY });
    let mut device = medium.device();
    medium.set_plan(Plan { fail: vec![(1, Failure::SyncLoses(vec![]))], ..Plan::default() });
    device.create(SEGMENT, 8).unwrap();
    device.sync().unwrap_err();
    device.sync().unwrap();
    medium.power_cut(|_| Keep::None);
    assert_eq!(medium.names(), [SEGMENT]);
}

#[test]
fn a_failing_call_does_as_much_as_was_planned() {
    let (medium, mut device) = medium();
    let fail = vec![
        (0, Failure::Error),
        (1, Failure::NoSpace),
        (2, Failure::ErrorAfter(1)),
        (3, Failure::NoSpaceAfter(2)),
        (4, Failure::ErrorAfter(1)),
    ];
    medium.set_plan(Plan { fail, ..Plan::default() });
    let mut write = || (device.write(SEGMENT, 0, b"new").unwrap_err().kind(), head(&medium));
    assert_eq!(write(), (ErrorKind::Other, *b"old"));
    assert_eq!(write(), (ErrorKind::NoSpace, *b"old"));
    assert_eq!(write(), (ErrorKind::Other, *b"nld"));
    assert_eq!(write(), (ErrorKind::NoSpace, *b"ned"));
    device.create(OTHER, 8).unwrap_err();
    assert_eq!(medium.names(), [SEGMENT, OTHER]);
}

#[test]
fn a_read_fails_once_or_for_good() {
    let (medium, mut device) = medium();
    let fail_reads = vec![(0, ReadFailure::Once), (2, ReadFailure::Permanent)];
    medium.set_plan(Plan { fail_reads, ..Plan::default() });
    let mut read = |at: u64| device.read(SEGMENT, at, &mut [0; 8]);
    assert_eq!(read(16), Err(FaultyError::Unreadable { object: SEGMENT, at: 16 }));
    assert_eq!(read(16), Ok(8));
    read(16).unwrap_err();
    assert_eq!(read(23).unwrap_err().kind(), ErrorKind::Other);
    assert_eq!((read(8), read(24)), (Ok(8), Ok(8)));
    medium.make_unreadable(SEGMENT, 8..9);
    read(8).unwrap_err();
    assert_eq!(medium.reads(), 7);
}

#[test]
fn room_that_was_given_back_is_free_after_the_next_sync() {
    let (medium, mut device) = medium();
    medium.set_plan(Plan { capacity: Some(4096 + 100), ..Plan::default() });
    assert_eq!(device.create(OTHER, 4096), Err(FaultyError::NoSpace));
    device.create(CHECKPOINT, 100).unwrap();
    device.write(CHECKPOINT, 0, &[0; 100]).unwrap();
    assert_eq!(device.write(CHECKPOINT, 100, &[0]), Err(FaultyError::NoSpace));
    device.write(SEGMENT, 0, b"room of its own").unwrap();
    device.remove(SEGMENT).unwrap();
    assert_eq!(device.create(OTHER, 4096), Err(FaultyError::NoSpace));
    device.sync().unwrap();
    device.create(OTHER, 4096).unwrap();
}

#[test]
fn damage_from_outside_is_durable_at_once() {
    let (medium, device) = medium();
    medium.flip_bit(SEGMENT, 0, 0);
    medium.overwrite(SEGMENT, 2, b"!");
    assert_eq!(medium.durable(SEGMENT).unwrap()[..4], *b"nl!\xFF");
    medium.put(CHECKPOINT, b"stale".to_vec());
    medium.drop_object(SEGMENT);
    medium.power_cut(|_| Keep::None);
    assert_eq!((medium.names(), medium.object(CHECKPOINT).unwrap()), (vec![CHECKPOINT], b"stale".to_vec()));
    drop(device);
}

#[test]
fn one_handle_writes_at_a_time() {
    let (medium, device) = medium();
    assert_eq!(medium.try_device().unwrap_err().kind(), ErrorKind::Fenced);
    let copy = medium.snapshot();
    let second = copy.device();
    copy.kill();
    let third = copy.device();
    drop(second);
    copy.try_device().unwrap_err();
    drop((device, third));
    drop((medium.device(), copy.device()));
}

#[test]
fn a_snapshot_goes_its_own_way() {
    let (medium, mut device) = medium();
    device.write(SEGMENT, 0, b"new").unwrap();
    let copy = medium.snapshot();
    copy.device().write(SEGMENT, 0, b"NEW").unwrap();
    assert_eq!((head(&medium), head(&copy)), (*b"new", *b"NEW"));
    assert_eq!((medium.calls(), copy.calls()), (4, 5));
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "inside a granule")]
fn a_write_inside_a_granule_is_a_mistake() {
    let medium = Medium::new(Geometry { granule: 16, ..GEOMETRY });
    let mut device = medium.device();
    device.create(SEGMENT, 4096).unwrap();
    let _ = device.write(SEGMENT, 8, &[0; 16]);
}

#[test]
fn the_trace_tells_every_step() {
    let (medium, mut device) = medium();
    device.write(SEGMENT, 3, b"er").unwrap();
    device.read(SEGMENT, 0, &mut [0; 8]).unwrap();
    medium.power_cut(|_| Keep::Prefix(1));
    let expected = "    #0 create segment_0000000000000001.wal 0+4096
    #1 write segment_0000000000000001.wal 0+3
    #2 sync 0+2
    #3 write segment_0000000000000001.wal 3+2
       read segment_0000000000000001.wal 0+8
       power cut
    #3 write segment_0000000000000001.wal 3+2: torn
       power on
";
    assert_eq!(medium.trace(), expected);
}

#[test]
fn a_sync_that_lies_is_believed_until_the_power_goes_and_the_medium_says_that_no_log_survives_it() {
    for settled in [false, true] {
        let medium = Medium::new(Geometry { settled, ..GEOMETRY });
        let mut device = medium.device();
        device.create(SEGMENT, 8).unwrap();
        device.write(SEGMENT, 0, b"old").unwrap();
        device.sync().unwrap();
        medium.set_plan(Plan { fail: vec![(1, Failure::SyncLies(vec![Keep::Prefix(1)]))], ..Plan::default() });
        device.write(SEGMENT, 0, b"new").unwrap();
        assert!(medium.is_survivable());
        device.sync().unwrap();
        device.sync().unwrap();
        assert_eq!((head(&medium), medium.is_survivable()), (*b"new", false));
        medium.power_cut(|_| Keep::All);
        assert_eq!(head(&medium), *b"nld");
        assert!(medium.trace().contains("#1 sync 0+1: lied"), "{}", medium.trace());
    }
}

#[test]
fn a_write_is_dropped_or_misdirected_and_answered_as_done() {
    for (failure, expected) in [(Failure::Dropped, *b"old"), (Failure::Misdirected(1), *b"one")] {
        let (medium, mut device) = medium();
        assert!(!failure.is_survivable());
        medium.set_plan(Plan { fail: vec![(0, failure.clone()), (1, failure)], ..Plan::default() });
        device.write(SEGMENT, 0, b"new").unwrap();
        // What is no write just works.
        device.sync().unwrap();
        medium.power_cut(|_| Keep::None);
        assert_eq!((head(&medium), medium.is_survivable()), (expected, false));
    }
}

#[test]
fn what_is_broken_fails_from_then_on_and_nothing_else_does() {
    for kind in [Kind::Create, Kind::Write, Kind::Trim, Kind::Remove, Kind::Sync, Kind::Read] {
        let (medium, mut device) = medium();
        let first = if kind == Kind::Read { 1 } else { 5 };
        medium.set_plan(Plan { broken: vec![(first, kind)], ..Plan::default() });
        let round = |device: &mut FaultyDevice| {
            let failed = [
                (Kind::Create, device.create(OTHER, 8).is_err()),
                (Kind::Write, device.write(SEGMENT, 0, b"old").is_err()),
                (Kind::Trim, device.trim(SEGMENT, 100).is_err()),
                (Kind::Read, device.read(SEGMENT, 0, &mut [0]).is_err()),
                (Kind::Remove, device.remove(OTHER).is_err()),
                (Kind::Sync, device.sync().is_err()),
            ];
            failed.into_iter().filter(|(_, failed)| *failed).map(|(kind, _)| kind).collect::<Vec<_>>()
        };
        assert_eq!(round(&mut device), [], "{kind:?}");
        for _ in 0..3 {
            assert!(round(&mut device).contains(&kind), "{kind:?}");
        }
    }
}

#[test]
fn rot_harms_what_it_says_and_nothing_else() {
    let (medium, mut device) = medium();
    device.write(SEGMENT, 3, b"er things").unwrap();
    device.create(OTHER, 16).unwrap();
    device.sync().unwrap();
    let rotten = |rot: Rot| {
        let medium = medium.snapshot();
        medium.rot(&rot);
        assert_eq!(medium.object(rot.object()), medium.durable(rot.object()));
        medium.object(SEGMENT).map(|bytes| bytes[..9].to_vec()).unwrap_or_default()
    };
    let object = SEGMENT;
    assert_eq!(rotten(Rot::Flipped { object, at: 1, bit: 0 }), b"omder thi");
    assert_eq!(rotten(Rot::Zeroed { object, range: 1..3 }), b"o\0\0er thi");
    assert_eq!(rotten(Rot::Stale { object, range: 5..8 }), b"older\xFF\xFF\xFFi");
    assert_eq!(rotten(Rot::Misplaced { from: object, range: 0..3, object, at: 6 }), b"older old");
    assert_eq!(rotten(Rot::Gone { object }), b"");
    let garbage = rotten(Rot::Garbage { object, range: 0..8, seed: 3 });
    assert_eq!((&garbage[8..], garbage == rotten(Rot::Garbage { object, range: 0..8, seed: 3 })), (&b"i"[..], true));
    let short = medium.snapshot();
    short.rot(&Rot::Shortened { object, len: 4 });
    assert_eq!((short.object(object).unwrap(), short.written(object)), (b"olde".to_vec(), 4));
    let unreadable = medium.snapshot();
    unreadable.rot(&Rot::Unreadable { object, range: 4..5 });
    unreadable.reader().read(object, 0, &mut [0; 8]).unwrap_err();
    unreadable.reader().read(object, 5, &mut [0; 8]).unwrap();
}

#[test]
fn an_object_that_was_removed_for_good_can_come_back() {
    let (medium, mut device) = medium();
    device.remove(SEGMENT).unwrap();
    assert_eq!(medium.removed(), []);
    device.sync().unwrap();
    assert_eq!((medium.names(), medium.removed()), (vec![], vec![SEGMENT]));
    medium.rot(&Rot::Back { object: SEGMENT });
    assert_eq!((medium.names(), head(&medium)), (vec![SEGMENT], *b"old"));
}

#[test]
fn recycled_room_is_full_of_what_stood_there_before() {
    let (medium, mut device) = medium();
    medium.recycle();
    assert_eq!(device.create(OTHER, 4096), Ok(Room::Blank));
    device.remove(SEGMENT).unwrap();
    device.remove(OTHER).unwrap();
    assert_eq!(device.create(SEGMENT, 4096), Ok(Room::Blank), "the removal is not durable");
    device.remove(SEGMENT).unwrap();
    device.sync().unwrap();
    let names = [5, 6, 7].map(|id| Object::Segment(SegmentId::new(id)));
    let rooms = names.map(|name| device.create(name, 2048).unwrap());
    assert_eq!(rooms[0], Room::Recycled);
    let old = names.iter().filter(|name| medium.object(**name).unwrap().starts_with(b"old")).count();
    assert_eq!(old, 1);
    assert_eq!(medium.object(names[0]).unwrap().len(), 2048);
    device.sync().unwrap();
    medium.power_cut(|_| Keep::None);
    assert_eq!(names.iter().filter(|name| medium.object(**name).unwrap().starts_with(b"old")).count(), 1);
}

#[test]
fn one_seed_gives_the_same_plan_and_another_seed_another_one() {
    let plans = |seed| {
        let mut random = Random::new(seed);
        (0..20).map(|_| (Plan::random(&mut random, 30), Keep::random(&mut random))).collect::<Vec<_>>()
    };
    assert_eq!(plans(7), plans(7));
    assert_ne!(plans(7), plans(8));
    assert!(plans(9).iter().all(|(plan, _)| plan.fail.iter().all(|(_, failure)| failure.is_survivable())));
}

#[test]
fn steps_are_not_kept_where_nobody_wants_them() {
    let (medium, mut device) = medium();
    let before = medium.trace();
    medium.keep_trace(false);
    device.write(SEGMENT, 0, b"new").unwrap();
    assert_eq!((medium.trace(), medium.last_call()), (before, "write"));
}
