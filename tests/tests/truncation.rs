//! The power goes, or the process dies, while a part of the log is given up: it is given up, or it is all there.
#![allow(missing_docs)]

use Op::{Append, Batch, Checkpoint, Close, Cut, Discard, Fill, Kill, Leave, Open, Reset, Sync, Truncate};
use duralog::{
    Durability, Entries, EntryRef, Flow, Log, LogReader, Lsn, Object, Policy, SegmentId,
    faulty::{FaultyDevice, Kind, Plan},
};
use duralog_tests::{
    Detail::{self, Coarse, Fine, Whole},
    Explorer, Moment, Op, Setup, figure,
};

/// Ends a search, and holds what it counted against the page.
fn finish(explorer: Explorer, name: &str) {
    figure(&format!("truncation, {name}: {}", explorer.finish(name)));
}

/// What a program does after a crash.
const LIFE: &[Op] = &[Open, Append(20), Batch(2, 16), Close];

fn search(name: &str, setups: &[Setup], ops: &[Op], detail: Detail) {
    let mut explorer = Explorer::new();
    for setup in setups {
        explorer.search(name, &Moment::new(*setup), &[(ops, detail)]);
    }
    finish(explorer, name);
}

#[test]
fn truncation_at_the_front_survives() {
    let ops = [Open, Fill(200), Append(9), Discard(2), Append(9), Fill(150), Batch(2, 9), Discard(1), Append(12)];
    search("discard", &Setup::ALL, &ops, Coarse);
}

#[test]
fn a_low_water_mark_inside_a_batch_keeps_it_whole() {
    let ops = [Open, Fill(200), Batch(3, 12), Discard(2), Append(9), Fill(150), Discard(3), Append(12), Close];
    search("inside a batch", &Setup::ALL, &ops, Coarse);
}

#[test]
fn checkpoints_and_what_is_truncated_behind_them_survive() {
    let ops = [Open, Fill(200), Checkpoint, Append(9), Truncate(1), Fill(200), Checkpoint, Checkpoint, Truncate(0)];
    search("checkpoints", &Setup::ALL, &ops, Coarse);
}

#[test]
fn a_cut_at_the_back_survives() {
    let ops = [Open, Append(24), Batch(2, 9), Append(9), Cut(1), Append(30), Cut(2), Append(9), Close];
    search("cut", &Setup::ALL, &ops, Fine);
}

#[test]
fn a_cut_back_into_an_older_segment_survives() {
    let ops = [Open, Append(24), Fill(200), Append(9), Cut(3), Append(30), Leave, Open, Cut(1), Append(9), Close];
    search("cut far back", &Setup::ALL, &ops, Coarse);
}

#[test]
fn a_cut_of_what_was_not_synced_survives() {
    let ops = [Open, Append(24), Batch(2, 9), Append(9), Cut(1), Append(30), Append(9), Cut(1), Sync, Append(9)];
    search("cut, buffered", &Setup::ALL.map(Setup::buffered), &ops, Fine);
}

#[test]
fn a_reset_survives() {
    let ops = [Open, Append(24), Append(9), Reset(0), Append(30), Append(9), Reset(5), Batch(2, 9), Close];
    search("reset", &Setup::ALL, &ops, Fine);
}

#[test]
fn a_reset_of_several_segments_survives() {
    let ops = [Open, Fill(200), Append(9), Reset(3), Append(30), Kill, Open, Fill(200), Reset(0), Append(9)];
    search("reset of many", &Setup::ALL, &ops, Coarse);
}

#[test]
fn a_second_cut_of_the_power_after_a_truncation_survives() {
    let mut explorer = Explorer::new();
    for setup in [Setup::BYTES, Setup::SECTORS] {
        let start = || Moment::new(setup);
        let all: [&[Op]; 3] = [
            &[Open, Append(24), Append(9), Cut(1), Append(9)],
            &[Open, Append(24), Reset(2), Append(9)],
            &[Open, Fill(250), Discard(1), Append(9)],
        ];
        for ops in all {
            explorer.search("truncation, twice", &start(), &[(ops, Whole), (LIFE, Whole)]);
        }
    }
    finish(explorer, "twice");
}

#[test]
fn a_truncation_that_failed_can_be_repeated() {
    let mut explorer = Explorer::new();
    let first = [Open, Fill(250), Discard(1)];
    let again = [Open, Discard(2), Append(9)];
    for setup in Setup::ALL {
        explorer.search("truncation, repeated", &Moment::new(setup), &[(&first, Whole), (&again, Whole)]);
    }
    finish(explorer, "repeated");
}

#[test]
fn a_full_medium_truncates_all_the_same() {
    let mut explorer = Explorer::new();
    let ops = [Open, Fill(200), Append(9), Discard(1), Append(9), Cut(1), Append(9), Reset(2), Append(9)];
    for setup in [Setup::BYTES, Setup::SECTORS] {
        explorer.search_full("truncation of a full medium", &Moment::new(setup), &ops, Whole);
        explorer.search_errors("truncation and errors", &Moment::new(setup), &ops);
    }
    finish(explorer, "a full medium and errors");
}

/// LSNs below the low-water mark that are handed out: those of a log in which transactions begin below it.
#[test]
fn a_transaction_that_ends_above_the_low_water_mark_is_handed_out_whole_in_both_directions() {
    for setup in Setup::ALL {
        let moment = Moment::new(setup);
        let open = || Log::open_device(moment.medium.device(), moment.config()).unwrap();
        let log = open();
        log.append(&b"1"[..]).unwrap();
        let ended = log.transaction().unwrap();
        ended.append(&b"3"[..]).unwrap();
        let crossing = log.transaction().unwrap();
        crossing.append(&b"5"[..]).unwrap();
        ended.commit().unwrap();
        log.append(&b"7"[..]).unwrap();
        crossing.append_batch(&[&b"8"[..], &b"9"[..]]).unwrap();
        log.sync().unwrap();
        // The mark goes through a batch of the transaction, which is handed out once all the same.
        assert_eq!(log.discard_before(Lsn::new(9)).unwrap(), Lsn::new(9));
        log.append(&b"10"[..]).unwrap();
        crossing.commit().unwrap();
        let kept = [4, 5, 8, 9, 10, 11];
        let lsns =
            |entries: Entries<FaultyDevice>| -> Vec<u64> { entries.map(|entry| entry.unwrap().lsn.value()).collect() };
        let mut visited = Vec::new();
        let see = |entry: EntryRef<'_>| {
            visited.push(entry.lsn.value());
            Flow::Continue
        };
        log.read_from(Lsn::ZERO).unwrap().visit(see).unwrap();
        assert_eq!(visited, kept, "{}", setup.name);
        assert_eq!(lsns(log.read_from(Lsn::new(9)).unwrap()), kept, "{}", setup.name);
        assert_eq!(lsns(log.read_from(Lsn::new(10)).unwrap()), [10, 11], "{}", setup.name);
        let back: Vec<u64> = kept.into_iter().rev().collect();
        assert_eq!(lsns(log.read_back_to(Lsn::ZERO).unwrap()), back, "{}", setup.name);
        let reader = LogReader::open_device(moment.medium.reader(), moment.config()).unwrap();
        assert_eq!(lsns(reader.read(Lsn::ZERO, Lsn::MAX).unwrap()), kept, "{}", setup.name);
        let open_still = log.transaction().unwrap();
        open_still.append(&b"13"[..]).unwrap();
        log.append(&b"14"[..]).unwrap();
        log.sync().unwrap();
        log.discard_before(Lsn::new(14)).unwrap();
        assert_eq!(lsns(log.read_from(Lsn::ZERO).unwrap()), [12, 13, 14], "{}: it may still be committed", setup.name);
        core::mem::forget(open_still);
        log.sync().unwrap();
        log.close().unwrap();
        drop(log);
        let log = open();
        log.append(&b"15"[..]).unwrap();
        log.sync().unwrap();
        assert_eq!(log.discard_before(Lsn::new(15)).unwrap(), Lsn::new(15));
        assert_eq!(lsns(log.read_from(Lsn::ZERO).unwrap()), [15], "{}: the new epoch rolled it back", setup.name);
    }
}

#[test]
fn what_an_epoch_ends_right_at_the_low_water_mark_is_not_handed_out_below_it() {
    for setup in Setup::ALL {
        let moment = Moment::new(setup);
        let open = |policy| Log::open_device(moment.medium.device(), moment.config().with_policy(policy));
        let log = open(Policy::Default).unwrap();
        while moment.medium.names().iter().filter(|name| matches!(name, Object::Segment(_))).count() < 2 {
            log.append(&[1; 60][..]).unwrap();
        }
        let ended = log.transaction().unwrap();
        ended.append_batch(&[&b"one"[..], &b"two"[..]]).unwrap();
        log.sync().unwrap();
        core::mem::forget(ended);
        drop(log);
        moment.medium.kill();
        // All that is left is given up, where the first segment is gone: the log goes on behind it.
        moment.medium.drop_object(moment.medium.names()[0]);
        let log = open(Policy::PointInTime).unwrap();
        let lsns = || log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn.value()).collect::<Vec<_>>();
        assert_eq!(lsns(), [0; 0], "{}", setup.name);
        let next = log.append(&b"three"[..]).unwrap().lsn().value();
        assert_eq!(lsns(), [next], "{}", setup.name);
    }
}

#[test]
fn a_transaction_whose_commit_a_take_over_copied_is_handed_out_whole() {
    for setup in Setup::ALL {
        let moment = Moment::new(setup);
        let open = || Log::open_device(moment.medium.device(), moment.config()).unwrap();
        let log = open();
        log.append(&b"1"[..]).unwrap();
        let crossing = log.transaction().unwrap();
        crossing.append(&b"3"[..]).unwrap();
        log.sync().unwrap();
        // One group with the commit: nothing on the medium proves that it was durable.
        log.append_with(&b"4"[..], Durability::Buffered).unwrap();
        crossing.commit().unwrap();
        log.sync().unwrap();
        drop(log);
        moment.medium.kill();
        let log = open();
        log.append(&b"6"[..]).unwrap();
        log.sync().unwrap();
        assert_eq!(log.discard_before(Lsn::new(4)).unwrap(), Lsn::new(4));
        let lsns = |entries: Entries<FaultyDevice>| entries.map(|entry| entry.unwrap().lsn.value()).collect::<Vec<_>>();
        assert_eq!(lsns(log.read_from(Lsn::ZERO).unwrap()), [2, 3, 4, 5, 6], "{}", setup.name);
        assert_eq!(lsns(log.read_back_to(Lsn::ZERO).unwrap()), [6, 5, 4, 3, 2], "{}", setup.name);
    }
}

#[test]
fn a_segment_that_cannot_be_removed_is_no_damage_to_whoever_reads() {
    let moment = Moment::new(Setup::ALL[0]);
    let log = Log::open_device(moment.medium.device(), moment.config()).unwrap();
    while moment.medium.names().iter().filter(|name| matches!(name, Object::Segment(_))).count() < 6 {
        log.append(&[1; 60][..]).unwrap();
    }
    log.sync().unwrap();
    let last = log.append(&b"last"[..]).unwrap().lsn();
    log.sync().unwrap();
    // The mark, its sync, the metadata, the first removal; the second is refused.
    moment.medium.set_plan(Plan { broken: vec![(5, Kind::Remove)], ..Plan::default() });
    let refused = log.discard_before(last).map_err(|error| error.kind());
    assert_eq!(refused, Err("device"));
    let left = moment.medium.names();
    assert!(left.contains(&Object::Segment(SegmentId::new(2))) && !left.contains(&Object::Segment(SegmentId::new(1))));
    log.append(&b"goes on"[..]).unwrap();
    let read: Result<Vec<_>, _> = log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.map(|entry| entry.lsn)).collect();
    assert!(read.as_ref().is_ok_and(|read| read.first() == Some(&last)), "{read:?}");
    let next = log.append(&b"and on"[..]);
    assert!(next.is_ok(), "{next:?}");
}

/// On a medium that settles the log goes on in the segment that it found, whose header is of the epoch before.
#[test]
fn what_an_opening_ended_is_not_handed_out_below_a_low_water_mark_that_the_log_ends_at() {
    for setup in Setup::ALL {
        let moment = Moment::new(setup);
        let open = || Log::open_device(moment.medium.device(), moment.config()).unwrap();
        let log = open();
        log.append(&b"1"[..]).unwrap();
        let ended = log.transaction().unwrap();
        ended.append(&b"3"[..]).unwrap();
        core::mem::forget(ended);
        log.close().unwrap();
        drop(log);
        let log = open();
        // The new epoch is on the medium before the mark is.
        log.set_slot(b"of the new epoch").unwrap();
        let end = log.current_lsn();
        assert_eq!(log.discard_before(end).unwrap(), end, "{}", setup.name);
        let lsns =
            |entries: Entries<FaultyDevice>| -> Vec<u64> { entries.map(|entry| entry.unwrap().lsn.value()).collect() };
        assert_eq!(lsns(log.read_from(Lsn::ZERO).unwrap()), [0; 0], "{}", setup.name);
        assert_eq!(lsns(log.read_back_to(Lsn::ZERO).unwrap()), [0; 0], "{}", setup.name);
        let reader = LogReader::open_device(moment.medium.reader(), moment.config()).unwrap();
        assert_eq!(lsns(reader.read(Lsn::ZERO, Lsn::MAX).unwrap()), [0; 0], "{}", setup.name);
    }
}
