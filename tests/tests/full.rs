//! A medium without a free byte: an unclosed log opens on it, reads, truncates and closes, and goes on once there is room.
#![allow(missing_docs)]

use Op::{Append, Checkpoint, Close, Fill, Open, Write};
use duralog::{
    Durability, Error, Log, Lsn, Object, Policy, Snapshot,
    core::{SegmentId, operation::Code},
    faulty::{Change, Failure, FaultyDevice, Keep, Medium, Plan, UnsyncedOp},
};
use duralog_core::{LogError, LogOptions};
use duralog_tests::{
    Moment, Op, Setup,
    handle::{Handle, both},
    misses_nothing,
};

/// A log that was not closed, whose last entries only the cache may hold.
fn unclosed(setup: Setup, ops: &[Op]) -> Moment {
    let mut run = Moment::new(setup).run(Plan::default());
    run.play(&[ops, &[Write(12), Write(12)]].concat()).unwrap();
    run.end().after_kill()
}

/// As many bytes as are taken.
fn full(moment: &Moment) -> Plan {
    let taken = moment.medium.names().iter().map(|name| moment.medium.object(*name).unwrap().len() as u64).sum();
    Plan { capacity: Some(taken), ..Plan::default() }
}

fn open(moment: &Moment, plan: Plan) -> Result<Log<FaultyDevice>, Error> {
    moment.medium.set_plan(plan);
    Log::open_device(moment.medium.device(), moment.config())
}

fn lsns(log: &Log<FaultyDevice>) -> Vec<u64> {
    log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn.value()).collect()
}

/// Those that copy what a cache may hold.
const COPYING: [Setup; 3] = [Setup::BYTES, Setup::WORDS, Setup::SECTORS];

#[test]
fn where_nothing_can_be_given_up_the_log_opens_reads_and_goes_on_once_there_is_room() {
    for setup in COPYING {
        let moment = unclosed(setup, &[Open, Fill(200), Append(24)]);
        let last = moment.oracle.next() - 1;
        let log = open(&moment, full(&moment)).unwrap();
        assert_eq!(lsns(&log), (1..=last).collect::<Vec<_>>());
        assert_eq!(log.recovery().last_valid_lsn, Lsn::new(last));
        assert!(log.synced_lsn() < Lsn::new(last), "what only the cache holds is not called durable");
        for _ in 0..3 {
            let refused = [
                log.append(&[7; 9][..]).map(drop),
                log.append_batch(&[&[7; 9][..]; 2]).map(drop),
                log.sync().map(drop),
                log.set_slot(b"x"),
                log.truncate_before(Lsn::MAX).map(drop),
            ];
            for (call, refused) in refused.into_iter().enumerate() {
                match (call, refused) {
                    // Without a checkpoint there is nothing to truncate.
                    (4, Ok(())) | (_, Err(Error::NoSpace(_))) => {}
                    (_, other) => panic!("{}, call {call}: {other:?}", setup.name),
                }
            }
            assert_eq!(log.current_lsn(), Lsn::new(last + 1));
        }
        moment.medium.set_plan(Plan::default());
        assert_eq!(log.append(&[7; 9][..]).unwrap().lsn(), Lsn::new(last + 1));
        assert_eq!(log.synced_lsn(), Lsn::new(last + 1));
        drop(log);
        let moment = moment.after_cut(&[]);
        assert_eq!(lsns(&open(&moment, Plan::default()).unwrap()), (1..=last + 1).collect::<Vec<_>>());
    }
}

#[test]
fn closing_a_log_that_could_not_be_taken_over_loses_nothing() {
    for setup in COPYING {
        let moment = unclosed(setup, &[Open, Fill(200), Append(24)]);
        let last = moment.oracle.next() - 1;
        let log = open(&moment, full(&moment)).unwrap();
        assert!(matches!(log.close(), Err(Error::NoSpace(_))));
        drop(log);
        let moment = moment.after_kill();
        assert_eq!(lsns(&open(&moment, Plan::default()).unwrap()), (1..=last).collect::<Vec<_>>());
    }
}

#[test]
fn a_log_opens_to_be_read_where_the_full_medium_refuses_removals_too() {
    for setup in COPYING {
        let moment = unclosed(setup, COVERED);
        let all: Vec<_> = (1..moment.oracle.next()).collect();
        let fail = (0..60).map(|call| (call, Failure::NoSpace)).collect();
        let log = open(&moment, Plan { fail, ..Plan::default() });
        assert!(log.is_ok(), "{}: {:?}", setup.name, log.err());
        let log = log.unwrap();
        let read = lsns(&log);
        assert!(all.ends_with(&read) && read.len() > 1, "{}: {read:?}", setup.name);
        moment.medium.set_plan(Plan::default());
        let appended = log.append(&[7; 9][..]).unwrap().lsn();
        drop(log);
        let log = open(&moment.after_cut(&[]), Plan::default()).unwrap();
        assert_eq!((log.recovery().last_valid_lsn, log.recovery().damage().next()), (appended, None), "{}", setup.name);
    }
}

const COVERED: &[Op] = &[Open, Fill(200), Fill(200), Checkpoint, Append(24)];

#[test]
fn what_a_checkpoint_holds_makes_room_for_the_take_over() {
    for setup in COPYING {
        let moment = unclosed(setup, COVERED);
        let last = moment.oracle.next() - 1;
        let log = open(&moment, full(&moment)).unwrap();
        assert_eq!(log.synced_lsn(), Lsn::new(last), "{}", setup.name);
        assert!(log.recovery().repersisted > 0);
        let first = lsns(&log)[0];
        assert!(first > 1, "segments below the checkpoint were given up");
        assert_eq!(log.append(&[7; 9][..]).unwrap().lsn(), Lsn::new(last + 1));
        drop(log);
        let moment = moment.after_cut(&[]);
        let log = open(&moment, Plan::default()).unwrap();
        assert!(log.recovery().success && log.recovery().damage().next().is_none());
        assert_eq!(lsns(&log), (first..=last + 1).collect::<Vec<_>>());
    }
}

#[test]
fn a_crash_while_room_is_made_loses_nothing_that_no_checkpoint_holds() {
    for setup in COPYING {
        let moment = unclosed(setup, COVERED);
        let (synced, plan) = (moment.oracle.acknowledged(), full(&moment));
        let calls = {
            let moment = moment.fork();
            drop(open(&moment, plan.clone()).unwrap());
            moment.medium.calls()
        };
        for call in 0..calls {
            // Of what was not synced, nothing, every second step, and all.
            for keep in
                [[Keep::None, Keep::None], [Keep::None, Keep::All], [Keep::All, Keep::None], [Keep::All, Keep::All]]
            {
                let moment = moment.fork();
                let _ = open(&moment, Plan { cut_at_call: Some(call), ..plan.clone() });
                moment.medium.power_cut(|op| keep[usize::from(op.call % 2 == 1)].clone());
                let log = open(&moment, Plan::default())
                    .unwrap_or_else(|error| panic!("{}, cut at call {call}, {keep:?}: {error}", setup.name));
                let (floor, last) =
                    (log.stats().unwrap().last_checkpoint_lsn.unwrap().value(), log.recovery().last_valid_lsn.value());
                assert!(last >= synced, "{}, cut at call {call}: {last} of {synced}", setup.name);
                // From the checkpoint on all is there; below it, what is there has no gap.
                let read: Vec<_> =
                    log.read_from(Lsn::new(floor + 1)).unwrap().map(|entry| entry.unwrap().lsn.value()).collect();
                assert_eq!(read, (floor + 1..=last).collect::<Vec<_>>(), "{}, cut at call {call}", setup.name);
                let all: Result<Vec<_>, _> = log.read_from(Lsn::ZERO).unwrap().collect();
                let all = all.map(|entries| entries.into_iter().map(|entry| entry.lsn.value()).collect::<Vec<_>>());
                let has_no_gap = |read: &Vec<u64>| read.windows(2).all(|two| two[0] + 1 == two[1]);
                assert!(all.as_ref().is_ok_and(has_no_gap), "{}, cut at call {call}, {keep:?}: {all:?}", setup.name);
                log.append(&[7; 9][..]).unwrap();
                log.close().unwrap();
            }
        }
    }
}

#[test]
fn a_log_without_room_for_its_seal_closes_and_keeps_everything() {
    for setup in Setup::ALL {
        let calls = {
            let mut run = Moment::new(setup).run(Plan::default());
            run.play(&[Open, Append(24), Append(9)]).unwrap();
            run.calls()
        };
        for failure in [Failure::NoSpace, Failure::NoSpaceAfter(1), Failure::NoSpaceAfter(20)] {
            let mut run = Moment::new(setup).run(Plan { fail: vec![(calls, failure.clone())], ..Plan::default() });
            run.play(&[Open, Append(24), Append(9)]).unwrap();
            run.log().close().unwrap_or_else(|error| panic!("{}, {failure:?}: {error}", setup.name));
            let moment = run.end().after_cut(&[]);
            assert_eq!(lsns(&open(&moment, Plan::default()).unwrap()), [1, 2], "{}, {failure:?}", setup.name);
        }
        // The segment itself is full, to the last byte that marks may take, and there is no room for another.
        let mut run = Moment::new(setup).run(Plan::default());
        run.play(&[Open, Append(24)]).unwrap();
        let plan = full(run.moment());
        run.moment().medium.set_plan(plan);
        while run.log().append(&[7; 60][..]).is_ok() {}
        while run.log().set_slot(&[1; 60]).is_ok() {}
        let last = run.log().synced_lsn().value();
        run.log().close().unwrap_or_else(|error| panic!("{}: {error}", setup.name));
        let moment = run.end().after_cut(&[]);
        assert_eq!(lsns(&open(&moment, Plan::default()).unwrap()), (1..=last).collect::<Vec<_>>());
    }
}

#[test]
fn an_entry_that_was_refused_when_all_of_it_was_written_does_not_come_back_after_a_close() {
    for setup in Setup::ALL {
        let calls = {
            let mut run = Moment::new(setup).run(Plan::default());
            run.play(&[Open, Append(24)]).unwrap();
            run.calls()
        };
        let refused = || {
            let plan = Plan { fail: vec![(calls, Failure::NoSpaceAfter(usize::MAX))], ..Plan::default() };
            let mut run = Moment::new(setup).run(plan);
            run.play(&[Open, Append(24)]).unwrap();
            assert!(matches!(run.log().append(&[7; 9][..]), Err(Error::NoSpace(_))));
            run
        };
        let mut run = refused();
        run.step(Close).unwrap();
        let moment = run.end().after_kill();
        let read = moment.read(Policy::Strict).map(|held| held.last);
        assert_eq!(read, Ok(1), "{}", setup.name);
        let run = refused();
        assert_eq!(run.log().append(&[8; 9][..]).unwrap().lsn(), Lsn::new(2));
        let moment = run.end().after_kill();
        let log = open(&moment, Plan::default()).unwrap();
        let last = log.read_from(Lsn::new(2)).unwrap().next().unwrap().unwrap();
        assert_eq!(last.payload, [8; 9], "{}", setup.name);
        // Nor when the segment that took its place is gone one day.
        let old = moment.medium.object(moment.medium.names()[0]).unwrap();
        assert!(!old.windows(9).any(|bytes| bytes == [7; 9]), "{}: its bytes are still there", setup.name);
    }
}

#[test]
fn after_a_cut_a_full_medium_refuses_an_append_as_before() {
    for setup in Setup::ALL {
        let mut run = Moment::new(setup).run(Plan::default());
        run.step(Open).unwrap();
        let log = run.log();
        for n in 0..20 {
            log.append_with(&[n; 9][..], Durability::Buffered).unwrap();
        }
        log.sync().unwrap();
        log.truncate_after(Lsn::new(5)).unwrap();
        assert_eq!(log.append_with(&[20; 9][..], Durability::Durable).unwrap().lsn(), Lsn::new(6));
        run.moment().medium.set_plan(Plan { fail: vec![(0, Failure::NoSpace)], ..Plan::default() });
        let refused = log.append_with(&[21; 9][..], Durability::Durable);
        assert!(matches!(refused, Err(Error::NoSpace(_))), "{}: {refused:?}", setup.name);
        let next = log.append_with(&[22; 9][..], Durability::Durable).map(|receipt| receipt.lsn());
        assert!(matches!(next, Ok(lsn) if lsn == Lsn::new(7)), "{}: {next:?}", setup.name);
    }
}

#[test]
fn truncation_makes_room_on_a_medium_without_a_free_byte() {
    for setup in COPYING {
        let moment = unclosed(setup, &[Open, Fill(200), Fill(200), Append(24)]);
        let log = open(&moment, full(&moment)).unwrap();
        let last = log.recovery().last_valid_lsn.value();
        let segments = || moment.medium.names().iter().filter(|name| matches!(name, Object::Segment(_))).count();
        let before = segments();
        // What no checkpoint holds is given up only if that can be said first.
        assert!(matches!(log.discard_before(Lsn::new(last)), Err(Error::NoSpace(_))));
        assert_eq!(segments(), before);
    }
}

/// A log that was discarded from, by a mark that the cache shows and the medium lost: its sync failed, and it was killed. With
/// a checkpoint, it is one that needs entries below, of a transaction that was open.
fn discarded_in_the_cache(setup: Setup, with_checkpoint: bool) -> Moment {
    let mut run = Moment::new(setup).run(Plan::default());
    run.play(&[Open, Fill(200), Fill(200), Append(24)]).unwrap();
    let log = run.log();
    let open = with_checkpoint.then(|| log.transaction().unwrap());
    if open.is_some() {
        log.append(&[7; 9][..]).unwrap();
        log.checkpoint(log.checkpoint_at(), &Snapshot::default()).unwrap();
    }
    run.moment().medium.set_plan(Plan { fail: vec![(1, Failure::SyncLoses(Vec::new()))], ..Plan::default() });
    let discarded = run.log().discard_before(run.log().current_lsn().previous());
    drop(open);
    assert!(matches!(discarded, Err(Error::Poisoned { .. } | Error::Device { .. })), "{}: {discarded:?}", setup.name);
    run.end().after_kill()
}

/// What a truncation comes to of such a log, opened without a free byte, whether it was refused, and what a power cut leaves.
fn what_is_left(
    moment: &Moment,
    truncate: impl FnOnce(FaultyDevice) -> (Result<Lsn, String>, bool),
) -> (Result<Lsn, String>, bool, Vec<u64>) {
    moment.medium.set_plan(full(moment));
    let (truncated, is_refused) = truncate(moment.medium.device());
    moment.medium.power_cut(|_| Keep::All);
    let log = open(moment, Plan::default());
    (truncated, is_refused, log.map(|log| lsns(&log)).unwrap_or_default())
}

#[test]
fn nothing_is_removed_by_a_mark_that_a_cache_alone_may_hold() {
    for setup in COPYING {
        let all = |moment: &Moment| (1..moment.oracle.next()).collect::<Vec<_>>();
        for lsn in [Lsn::FIRST, Lsn::MAX] {
            let moment = discarded_in_the_cache(setup, false);
            let (truncated, is_refused, left) = what_is_left(&moment, |device| {
                let log = Log::open_device(device, moment.config()).unwrap();
                let truncated = log.truncate_before(lsn);
                let is_refused = matches!(truncated, Err(Error::NoSpace(_)));
                (truncated.map_err(|error| error.to_string()), is_refused)
            });
            assert!(is_refused, "{}: {truncated:?}", setup.name);
            assert_eq!(left, all(&moment), "{}: {truncated:?}", setup.name);
            for kind in both() {
                let moment = discarded_in_the_cache(setup, false);
                let (truncated, is_refused, left) = what_is_left(&moment, |device| {
                    let mut buf = [0; 1 << 16];
                    let mut log = kind.open_in(device, &mut buf, LogOptions::default()).unwrap();
                    let truncated = log.truncate_before(lsn);
                    let is_refused = matches!(truncated, Err(LogError::Full));
                    (truncated.map_err(|error| format!("{error:?}")), is_refused)
                });
                assert!(is_refused, "{}: {truncated:?}", setup.name);
                assert_eq!(left, all(&moment), "{}: {truncated:?}", setup.name);
            }
        }
    }
}

#[test]
fn a_mark_that_a_cache_alone_may_hold_is_held_by_no_checkpoint_that_goes_less_far() {
    for setup in COPYING {
        let moment = discarded_in_the_cache(setup, true);
        let log = open(&moment, full(&moment)).unwrap();
        let low_water = log.low_water_lsn();
        let truncated = log.truncate_before(Lsn::MAX);
        assert!(matches!(truncated, Err(Error::NoSpace(_))), "{}: {truncated:?}", setup.name);
        moment.medium.set_plan(Plan::default());
        let truncated = log.truncate_before(Lsn::MAX);
        assert_eq!(truncated.unwrap(), low_water, "{}: there is room to say it", setup.name);
        log.append(&[7; 9][..]).unwrap();
        drop(log);
        moment.medium.power_cut(|_| Keep::None);
        let log = open(&moment, Plan::default());
        assert!(log.is_ok(), "{}: {log:?}", setup.name);
        let log = log.unwrap();
        assert_eq!((log.low_water_lsn(), log.recovery().clean), (low_water, true), "{}", setup.name);
    }
}

/// A log that was being reset when it was killed: the cache shows one copy of the new header, and the medium none.
fn reset_in_the_cache(setup: Setup) -> Moment {
    let mut run = Moment::new(setup).run(Plan::default());
    run.play(&[Open, Fill(200), Append(24)]).unwrap();
    // The segment is created, its first copy written, and not its second.
    run.moment().medium.set_plan(Plan { fail: vec![(2, Failure::Error)], ..Plan::default() });
    let reset = run.log().reset_to(Lsn::new(run.log().current_lsn().value() + 2));
    assert!(reset.is_err(), "{}: {reset:?}", setup.name);
    run.end().after_kill()
}

/// Lives on such a medium with the standard library's handle and with each of the core's, until the power goes: of what is unsynced
/// then, what was written to segments is lost, and nothing else. Nothing is missed. Gives whether each life was ever done.
fn nothing_is_missed(
    moment: &Moment,
    plan: &Plan,
    std: impl Fn(&Log<FaultyDevice>) -> bool,
    core: impl Fn(&mut Handle<'_, FaultyDevice>) -> bool,
) -> bool {
    let keep = |op: &UnsyncedOp| match (op.object, &op.change) {
        (Object::Segment(_), Change::Create { .. } | Change::Write { .. }) => Keep::None,
        _ => Keep::All,
    };
    let name = moment.setup.name;
    let mut all_done = misses_nothing(name, (&moment.medium, plan), &moment.config(), keep, |device| {
        Log::open_device(device, moment.config()).is_ok_and(|log| std(&log))
    });
    for kind in both() {
        all_done &= misses_nothing(name, (&moment.medium, plan), &moment.config(), keep, |device| {
            let mut buf = [0; 1 << 16];
            let log = kind.open_in(device, &mut buf, LogOptions::default());
            log.is_ok_and(|mut log| core(&mut log))
        });
    }
    all_done
}

/// Refuses the segment that an opening begins, and has room for the next.
fn one_refusal() -> Plan {
    Plan { fail: vec![(0, Failure::NoSpace)], ..Plan::default() }
}

#[test]
fn no_checkpoint_holds_what_a_cache_alone_may_hold() {
    for setup in COPYING {
        for moment in [unclosed(setup, &[Open, Fill(200), Append(24)]), reset_in_the_cache(setup)] {
            let std = |log: &Log<_>| log.checkpoint(log.checkpoint_at(), &Snapshot::default()).is_ok();
            let core = |log: &mut Handle<'_, _>| log.checkpoint(&[]).is_ok();
            assert!(nothing_is_missed(&moment, &one_refusal(), std, core), "{}: no checkpoint is made", setup.name);
        }
    }
}

#[test]
fn nothing_is_removed_by_a_header_that_a_cache_alone_may_hold() {
    for setup in COPYING {
        let moment = reset_in_the_cache(setup);
        let std = |log: &Log<_>| log.discard_before(Lsn::MAX).is_ok();
        let core = |log: &mut Handle<'_, _>| log.discard_before(Lsn::MAX).is_ok();
        assert!(nothing_is_missed(&moment, &one_refusal(), std, core), "{}: nothing is discarded", setup.name);
    }
}

/// A log of one segment whose checkpoint is durable, and the entry that names it is not; it was opened, and killed behind so
/// many calls: the cache may show the header of the segment that the entry was copied into, and the medium lacks it.
fn copied_in_the_cache(setup: Setup, calls: u64) -> Moment {
    let mut run = Moment::new(setup).run(Plan::default());
    run.play(&[Open, Append(24), Append(24)]).unwrap();
    // It is created, written and synced; its entry is written, and the sync loses it.
    run.moment().medium.set_plan(Plan { fail: vec![(4, Failure::SyncLoses(Vec::new()))], ..Plan::default() });
    let checkpoint = run.log().checkpoint(run.log().checkpoint_at(), &Snapshot::default());
    assert!(checkpoint.is_err(), "{}", setup.name);
    let moment = run.end().after_kill();
    let _ = open(&moment, Plan { cut_at_call: Some(calls), ..Plan::default() });
    moment.after_kill()
}

#[test]
fn no_room_is_made_of_the_segment_before_one_whose_header_a_cache_alone_may_hold() {
    for (setup, calls) in COPYING.into_iter().flat_map(|setup| (3..7).map(move |calls| (setup, calls))) {
        let moment = copied_in_the_cache(setup, calls);
        let std = |log: &Log<_>| log.truncate_before(Lsn::MAX).is_ok();
        let core = |log: &mut Handle<'_, _>| log.truncate_before(Lsn::MAX).is_ok();
        nothing_is_missed(&moment, &full(&moment), std, core);
    }
}

#[test]
fn room_made_below_a_mark_that_a_transaction_crosses_is_no_segment_under_another_number() {
    let mut run = Moment::new(Setup::BYTES).run(Plan::default());
    run.play(&[Open, Append(24)]).unwrap();
    let log = run.log();
    let newest = || log.segments().unwrap().last().unwrap().id.value();
    let fill_to = |id: u64| {
        while newest() < id {
            log.append(&[7; 60][..]).unwrap();
        }
    };
    let crossing = log.transaction().unwrap();
    crossing.append(&b"crosses"[..]).unwrap();
    log.sync().unwrap();
    fill_to(3);
    log.append(&[7; 60][..]).unwrap();
    let inside = log.current_lsn().previous();
    log.append(&[7; 60][..]).unwrap();
    crossing.commit().unwrap();
    assert_eq!(log.discard_before(inside).unwrap(), inside);
    fill_to(6);
    log.checkpoint(log.checkpoint_at(), &Snapshot::default()).unwrap();
    fill_to(7);
    log.append(&[7; 60][..]).unwrap();
    log.close().unwrap();
    let moment = run.end().after_kill();
    let segment = |id| Object::Segment(SegmentId::new(id));
    // Below the mark, what the transaction needs; then what is above it.
    for removed in 1..6 {
        let moment = moment.fork();
        let room = moment.medium.object(segment(removed)).unwrap();
        (1..=removed).for_each(|id| moment.medium.drop_object(segment(id)));
        moment.medium.put(segment(8), room);
        let log = open(&moment, Plan::default());
        assert!(log.is_ok(), "{removed}: {:?}", log.err());
        assert_eq!(log.unwrap().recovery().damage().next(), None, "{removed}");
    }
}

#[test]
fn what_was_removed_to_make_room_is_given_up_though_the_truncation_was_refused_all_the_same() {
    let mut refused = 0;
    for setup in Setup::ALL {
        for call in 1..24 {
            let mut run = Moment::new(setup).run(Plan::default());
            run.play(&[Open, Fill(200), Fill(200), Checkpoint, Append(24)]).unwrap();
            let plan = full(run.moment());
            run.moment().medium.set_plan(plan);
            // To the last byte that marks may take: the mark needs a segment, and does not get it twice.
            while run.log().append(&[7; 60][..]).is_ok() {}
            while run.log().set_slot(&[1; 60]).is_ok() {}
            let fail = vec![(0, Failure::NoSpace), (call, Failure::NoSpace)];
            run.moment().medium.set_plan(Plan { fail, ..Plan::default() });
            let truncated = run.log().truncate_before(Lsn::MAX);
            run.moment().medium.set_plan(Plan::default());
            let lowest = |log: &Log<FaultyDevice>| (log.low_water_lsn(), lsns(log)[0]);
            if matches!(truncated, Err(Error::NoSpace(_))) && lsns(run.log())[0] > 1 {
                refused += 1;
                run.log().append(&[7; 9][..]).unwrap();
                let (low_water, first) = lowest(run.log());
                // A batch that crosses the mark begins below it.
                assert!(first <= low_water.value(), "{}, call {call}: {first} is the first of {low_water}", setup.name);
                let moment = run.end().after_cut(&[]);
                // The segment says it, for the metadata may be gone.
                moment.medium.drop_object(Object::Meta);
                let log = open(&moment, Plan::default()).unwrap();
                assert_eq!(log.low_water_lsn(), low_water, "{}, call {call}", setup.name);
                assert_eq!(lowest(&log), (low_water, first), "{}, call {call}", setup.name);
                assert_eq!(log.recovery().damage().next(), None, "{}, call {call}", setup.name);
                // Asked again, it goes on from there, to the end of what the checkpoint holds.
                let held = log.last_checkpoint_lsn().unwrap().next().unwrap();
                assert_eq!(log.truncate_before(Lsn::MAX).unwrap(), held, "{}, call {call}", setup.name);
            }
        }
    }
    assert!(refused > 0, "no truncation was refused after it had made room");
}

#[test]
fn a_truncation_that_is_refused_gives_up_no_more_than_it_had_to_remove() {
    let (mut refused, mut removed) = (0, 0);
    for setup in Setup::ALL {
        for (lsn, call) in [2, u64::MAX].into_iter().flat_map(|lsn| (1..16).map(move |call| (lsn, call))) {
            let mut run = Moment::new(setup).run(Plan::default());
            run.play(&[Open, Fill(200), Fill(200), Checkpoint, Append(24), Close]).unwrap();
            let moment = run.end();
            let log = open(&moment, Plan::default()).unwrap();
            let all = lsns(&log);
            let fail = vec![(0, Failure::NoSpace), (call, Failure::NoSpace)];
            moment.medium.set_plan(Plan { fail, ..Plan::default() });
            if !matches!(log.truncate_before(Lsn::new(lsn)), Err(Error::NoSpace(_))) {
                continue;
            }
            refused += 1;
            let low_water = log.low_water_lsn();
            let left: Vec<_> = all.iter().copied().filter(|lsn| *lsn >= low_water.value()).collect();
            removed += u64::from(left.len() < all.len());
            assert!(lsn > 2 || left == all, "{}, call {call}: nothing had to go: {low_water}", setup.name);
            assert_eq!(lsns(&log), left, "{}, call {call}", setup.name);
            drop(log);
            let moment = moment.after_cut(&[]);
            let log = open(&moment, Plan::default()).unwrap();
            assert_eq!((log.low_water_lsn(), lsns(&log)), (low_water, left), "{}, call {call}", setup.name);
        }
    }
    assert!(refused > removed && removed > 0, "{refused} were refused, {removed} had removed something");
}

/// The next call has no room, or room for so much.
fn refuse_next(medium: &Medium, failure: &Failure) {
    medium.set_plan(Plan { fail: vec![(0, failure.clone())], ..Plan::default() });
}

#[test]
fn a_transaction_that_finds_no_room_is_rolled_back_and_the_log_goes_on() {
    for (setup, failure) in
        COPYING.into_iter().flat_map(|setup| [0, 1, 50].map(|done| (setup, Failure::NoSpaceAfter(done))))
    {
        let moment = Moment::new(setup);
        let log = open(&moment, Plan::default()).unwrap();
        log.append_with(b"first", Durability::Durable).unwrap();
        // All of it in the write that is refused.
        let transaction = log.transaction().unwrap();
        transaction.append(b"x").unwrap();
        refuse_next(&moment.medium, &failure);
        let committed = transaction.commit_with(Durability::Durable);
        assert!(matches!(committed, Err(Error::NoSpace(_))), "{}: {committed:?}", setup.name);
        // Begun and durable, when what it holds is refused with another's entry.
        let transaction = log.transaction().unwrap();
        log.append_with(b"second", Durability::Durable).unwrap();
        transaction.append(b"x").unwrap();
        refuse_next(&moment.medium, &failure);
        let appended = log.append_with(b"refused", Durability::Durable);
        assert!(matches!(appended, Err(Error::NoSpace(_))), "{}: {appended:?}", setup.name);
        log.append_with(b"third", Durability::Durable).unwrap();
        assert!(matches!(transaction.append(b"y"), Err(Error::NoTransaction)));
        assert!(matches!(transaction.commit(), Err(Error::NoTransaction)));
        // What it held before, and all of it, is there where the commit alone is refused: it can be rolled back.
        let transaction = log.transaction().unwrap();
        transaction.append(b"x").unwrap();
        log.append_with(b"fourth", Durability::Durable).unwrap();
        refuse_next(&moment.medium, &failure);
        let committed = transaction.commit_with(Durability::Durable);
        assert!(matches!(committed, Err(Error::NoSpace(_))), "{}: {committed:?}", setup.name);
        let transaction = log.transaction().unwrap();
        transaction.append(b"fifth").unwrap();
        transaction.commit_with(Durability::Durable).unwrap();
        drop(log);
        moment.medium.kill();
        let log = open(&moment, Plan::default()).unwrap();
        let counts: Vec<_> = log.replay_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().payload).collect();
        assert_eq!(counts, [&b"first"[..], b"second", b"third", b"fourth", b"fifth"], "{}", setup.name);
    }
}

#[test]
fn a_transaction_whose_begin_was_refused_is_not_the_one_that_gets_its_id() {
    let moment = Moment::new(Setup::BYTES);
    let log = open(&moment, Plan::default()).unwrap();
    log.append_with(b"first", Durability::Durable).unwrap();
    let refused = log.transaction().unwrap();
    refuse_next(&moment.medium, &Failure::NoSpace);
    assert!(matches!(log.append_with(b"refused", Durability::Durable), Err(Error::NoSpace(_))));
    let transaction = log.transaction().unwrap();
    assert_eq!(transaction.id(), refused.id());
    assert!(matches!(refused.append(b"of the other"), Err(Error::NoTransaction)));
    drop(refused);
    transaction.append(b"second").unwrap();
    transaction.commit_with(Durability::Durable).unwrap();
    let counts: Vec<_> = log.replay_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().payload).collect();
    assert_eq!(counts, [&b"first"[..], b"second"]);
}

#[test]
fn transactions_that_could_not_be_rolled_back_for_want_of_room_make_room_for_others() {
    let moment = Moment::new(Setup::BYTES);
    let log = open(&moment, Plan::default()).unwrap();
    for n in 0..100_u8 {
        let transaction = log.transaction().unwrap();
        log.append_with([n], Durability::Durable).unwrap();
        moment.medium.set_plan(Plan { fail: (0..9).map(|call| (call, Failure::NoSpace)).collect(), ..Plan::default() });
        assert!(matches!(transaction.commit_with(Durability::Durable), Err(Error::NoSpace(_))));
        moment.medium.set_plan(Plan::default());
    }
    assert_eq!(log.replay_from(Lsn::ZERO).unwrap().map(Result::unwrap).count(), 100);
}

/// How many transactions a log tells to have begun and not ended.
fn without_an_end(log: &Log<FaultyDevice>) -> usize {
    let codes = log.read_from(Lsn::ZERO).unwrap().map(|entry| Code::from_u8(entry.unwrap().code));
    codes.fold(0, |open, code| match code {
        Some(Code::TxnBegin) => open + 1,
        Some(Code::TxnCommit | Code::TxnRollback) => open - 1,
        _ => open,
    })
}

#[test]
fn a_rollback_that_found_no_room_is_written_once_there_is_some() {
    let moment = Moment::new(Setup::BYTES);
    let log = open(&moment, Plan::default()).unwrap();
    let mut held = None;
    for round in 0..30_u8 {
        // Asked for, and refused with what comes behind it; or refused when it was asked for.
        let transaction = log.transaction().unwrap();
        transaction.append([round]).unwrap();
        log.sync().unwrap();
        if round % 2 == 0 {
            transaction.rollback().unwrap();
            refuse_next(&moment.medium, &Failure::NoSpace);
            assert!(matches!(log.append_with([round], Durability::Durable), Err(Error::NoSpace(_))));
        } else {
            refuse_next(&moment.medium, &Failure::NoSpace);
            assert!(matches!(transaction.commit_with(Durability::Durable), Err(Error::NoSpace(_))));
        }
        moment.medium.set_plan(Plan::default());
        if round > 25 {
            let at = log.checkpoint_at();
            log.checkpoint(at, &Snapshot::default()).unwrap();
            let (behind, kept) = (at.lsn().next_or_max(), log.truncate_before(log.current_lsn()).unwrap());
            // By the older of two checkpoints.
            let older = held.replace(behind).unwrap_or(kept);
            assert_eq!(kept, older, "nothing is kept for what cannot count any more");
        }
        log.append_with([round], Durability::Durable).unwrap();
        assert!(round > 25 || without_an_end(&log) == 0, "round {round}");
    }
    let counts: Vec<_> = log.replay_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().payload).collect();
    assert_eq!(counts, [[28], [29]]);
}

#[test]
fn what_was_left_on_a_full_medium_hides_no_transaction_that_crosses_the_low_water_mark() {
    let moment = Moment::new(Setup::BYTES);
    let log = open(&moment, Plan::default()).unwrap();
    let long = log.transaction().unwrap();
    let begun = Lsn::new(long.id());
    for _ in 0..4 {
        let left: Vec<_> = (0..6).map(|_| log.transaction().unwrap()).collect();
        log.sync().unwrap();
        moment
            .medium
            .set_plan(Plan { fail: (0..99).map(|call| (call, Failure::NoSpace)).collect(), ..Plan::default() });
        assert!(matches!(log.append_with(b"refused", Durability::Durable), Err(Error::NoSpace(_))));
        drop(left);
        moment.medium.set_plan(Plan::default());
    }
    let crossing = log.transaction().unwrap();
    let first = crossing.append(b"first").unwrap().first;
    let low_water = log.append_with(b"behind", Durability::Durable).unwrap().first;
    assert_eq!(log.discard_before(low_water).unwrap(), low_water);
    long.commit_with(Durability::Durable).unwrap();
    crossing.commit_with(Durability::Durable).unwrap();
    let read: Vec<_> = log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn).collect();
    let both = [begun, first];
    assert!(both.iter().all(|lsn| read.contains(lsn)), "{both:?} are not both among {read:?}");
}

#[test]
fn a_log_that_filled_its_medium_gives_up_what_no_checkpoint_holds() {
    for setup in COPYING {
        let mut run = Moment::new(setup).run(Plan::default());
        run.play(&[Open, Fill(200), Fill(200), Append(24)]).unwrap();
        let plan = full(run.moment());
        run.moment().medium.set_plan(plan);
        let log = run.log();
        let mut appended = 0;
        let refused = loop {
            match log.append_with([7; 60], Durability::Durable) {
                Ok(_) => appended += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, Error::NoSpace(_)) && appended > 0, "{}: {refused}", setup.name);
        // The mark has its room in the segment that there is, and makes room for the next.
        let all = log.current_lsn();
        let discarded = log.discard_before(all);
        assert!(discarded.as_ref().is_ok_and(|kept| *kept == all), "{}: {discarded:?}", setup.name);
        log.append_with([8; 60], Durability::Durable).unwrap();
        log.close().unwrap();
        let log = open(run.moment(), Plan::default()).unwrap();
        assert_eq!((lsns(&log), log.low_water_lsn()), (vec![all.value()], all), "{}", setup.name);
        assert!(log.recovery().closed, "{}: it was sealed", setup.name);
    }
}

#[test]
fn what_could_not_be_created_takes_no_id() {
    let mut run = Moment::new(Setup::BYTES).run(Plan::default());
    run.play(&[Open, Fill(200)]).unwrap();
    let ids = |log: &Log<FaultyDevice>| {
        log.segments().unwrap().into_iter().map(|segment| segment.id.value()).collect::<Vec<_>>()
    };
    run.moment().medium.set_plan(full(run.moment()));
    let log = run.log();
    while log.append_with([7; 60], Durability::Durable).is_ok() {}
    for _ in 0..30 {
        assert!(matches!(log.append_with([7; 60], Durability::Durable), Err(Error::NoSpace(_))));
    }
    run.moment().medium.set_plan(Plan::default());
    run.log().append_with([8; 60], Durability::Durable).unwrap();
    let ids = ids(run.log());
    assert!(ids.iter().copied().eq(1..=ids.len() as u64), "{ids:?}");
}

#[test]
fn a_header_that_was_refused_in_part_is_erased_without_room() {
    let setup = Setup::BYTES;
    let closed = {
        let mut run = Moment::new(setup).run(Plan::default());
        run.play(&[Open, Append(24), Close]).unwrap();
        run.end()
    };
    let mut erased = 0;
    for call in 0..6 {
        let moment = closed.fork();
        let log = open(&moment, Plan { fail: vec![(call, Failure::NoSpace)], ..Plan::default() }).unwrap();
        let before = moment.medium.trace().len();
        let appended = log.append_with([3; 9], Durability::Durable);
        let trace = moment.medium.trace().split_off(before);
        if !matches!(appended, Err(Error::NoSpace(_))) || !trace.contains(" remove segment") {
            continue;
        }
        // The second copy of the header is refused: to write there again would take the room that is not there.
        let second = format!(" {}+", setup.geometry.copy_offset);
        let mut writes = trace.lines().filter(|line| line.contains(" write segment"));
        if writes.find(|line| line.contains(&second)).is_some_and(|line| line.contains("no space")) {
            assert!(!writes.any(|line| line.contains(&second)), "{trace}");
            erased += 1;
        }
        log.append_with([4; 9], Durability::Durable).unwrap();
    }
    assert_eq!(erased, 1);
}

#[test]
fn a_segment_that_took_the_last_room_is_missed_when_it_is_lost() {
    for setup in Setup::ALL {
        let mut run = Moment::new(setup).run(Plan::default());
        run.play(&[Open, Append(24)]).unwrap();
        let medium = &run.moment().medium;
        let newest = |medium: &Medium| medium.names().into_iter().rfind(|name| matches!(name, Object::Segment(_)));
        let first = newest(medium);
        let taken: u64 = medium.names().iter().map(|name| medium.object(*name).unwrap().len() as u64).sum();
        let size = u64::from(setup.geometry.segment_size);
        medium.set_plan(Plan { capacity: Some(taken + size), ..Plan::default() });
        while newest(medium) == first {
            run.log().append(&[7; 9][..]).unwrap();
        }
        let lost = newest(medium).unwrap();
        let moment = run.end().after_kill();
        moment.medium.drop_object(lost);
        let refused = open(&moment, Plan::default()).unwrap_err();
        assert!(matches!(&refused, Error::Refused(finding) if finding.object == lost), "{}: {refused}", setup.name);
    }
}
