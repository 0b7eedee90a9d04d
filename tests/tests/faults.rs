//! A medium that is full, that fails, that cannot be read: nothing that was acknowledged is lost, nothing is destroyed,
//! and every error says what it is.
#![allow(missing_docs)]

use Op::{Append, Batch, Close, Fill, Kill, Leave, Open, PowerCut, Sync};
use duralog::{
    Config, Error, Log, Lsn, Object, Policy, Verdict,
    core::{Action, SegmentId},
    faulty::{Failure, Keep, Medium, Plan, ReadFailure},
};
use duralog_tests::{
    Counter,
    Detail::{Coarse, Whole},
    Explorer, Left, Moment, Op, Setup, Stopped,
};

/// A moment after `ops`, without a fault.
fn after(setup: Setup, ops: &[Op]) -> Moment {
    let mut run = Moment::new(setup).run(Plan::default());
    run.play(ops).unwrap();
    run.end().after_kill()
}

/// Opening a log that must be refused; not one byte changes.
fn refused(moment: &Moment, config: Config) -> Error {
    let before = moment.bytes();
    let Err(error) = Log::open_device(moment.medium.device(), config) else { panic!("the log is not refused") };
    assert_eq!(moment.bytes(), before, "{error}");
    assert_eq!(moment.medium.calls(), 0, "{error}");
    error
}

#[test]
fn a_full_medium_refuses_and_the_same_handle_goes_on_once_there_is_room() {
    let mut explorer = Explorer::new();
    let ops = [Open, Append(24), Batch(2, 16), Fill(220), Append(9)];
    for setup in Setup::ALL {
        explorer.search_full("a full medium", &Moment::new(setup), &ops, Whole);
    }
    explorer.finish("a full medium");
}

/// What a medium writes of a batch that it refuses may be all of it. The entry that takes the first LSN of it is as long as
/// the one that had it: behind it, the rest of the batch would stand whole.
#[test]
fn what_was_written_of_a_refused_batch_does_not_count_once_the_log_goes_on() {
    for setup in [Setup::BYTES, Setup::SECTORS] {
        for keep in [Keep::All, Keep::None] {
            let medium = Medium::new(setup.geometry);
            let log = Log::open_device(medium.device(), setup.config(Counter::new())).unwrap();
            log.append([1; 16]).unwrap();
            medium.set_plan(Plan { fail: vec![(0, Failure::NoSpaceAfter(usize::MAX))], ..Plan::default() });
            let refused = log.append_batch(&[[2; 16]; 4]);
            assert!(matches!(refused, Err(Error::NoSpace(_))), "{refused:?}");
            assert_eq!(log.append([3; 16]).unwrap().lsn(), Lsn::new(2));
            drop(log);
            medium.power_cut(|_| keep.clone());
            let log = Log::open_device(medium.device(), setup.config(Counter::new())).unwrap();
            let entries = log.read_from(Lsn::ZERO).unwrap().map(Result::unwrap);
            let found: Vec<_> = entries.map(|entry| (entry.lsn.value(), entry.payload[0])).collect();
            assert_eq!(found, [(1, 1), (2, 3)], "{keep:?}");
        }
    }
}

#[test]
fn a_medium_that_is_full_while_a_log_is_taken_over_or_closed_loses_nothing() {
    let mut explorer = Explorer::new();
    let ops = [Open, Append(24), Kill, Open, Append(9), Close, Open, Append(9), Leave, Open, Batch(2, 9)];
    for setup in [Setup::BYTES, Setup::SECTORS] {
        explorer.search_full("full at a take-over", &Moment::new(setup), &ops, Whole);
        explorer.search_full("full at a take-over, buffered", &Moment::new(setup.buffered()), &ops, Whole);
    }
    explorer.finish("full at a take-over");
}

#[test]
fn appends_answered_before_they_were_written_are_not_dropped_in_silence() {
    let mut explorer = Explorer::new();
    let ops = [Open, Append(24), Batch(2, 40), Append(150), Append(180), Sync, Fill(150), Sync];
    for setup in Setup::ALL {
        explorer.search_full("full, buffered", &Moment::new(setup.buffered()), &ops, Whole);
    }
    explorer.finish("full, buffered");
}

#[test]
fn a_failed_call_poisons_the_handle_and_reopening_finds_everything() {
    let mut explorer = Explorer::new();
    let ops = [Open, Append(24), Batch(2, 16), Fill(220), Append(9), Close, Open, Append(9), Leave, Open, Append(9)];
    for setup in Setup::ALL {
        explorer.search_errors("errors", &Moment::new(setup), &ops);
        explorer.search_errors("errors, buffered", &Moment::new(setup.buffered()), &ops);
    }
    explorer.finish("errors");
}

#[test]
fn a_log_goes_on_in_the_room_that_there_is() {
    // Room for two segments: filling a third one fails until the first is dropped, which is not tested here.
    for setup in Setup::ALL {
        let capacity = u64::from(setup.geometry.segment_size) + 200;
        let mut run = Moment::new(setup).run(Plan { capacity: Some(capacity), ..Plan::default() });
        run.play(&[Open, Append(24)]).unwrap();
        let stopped = run.step(Fill(200)).unwrap_err();
        assert!(matches!(stopped, Stopped::Error(Error::NoSpace(_))), "{stopped:?}");
        let last = run.log().current_lsn();
        for _ in 0..3 {
            run.step(Append(200)).unwrap_err();
            assert_eq!(run.log().current_lsn(), last);
        }
        run.moment().medium.set_plan(Plan::default());
        run.play(&[Append(200), Append(9), Close]).unwrap();
        let moment = run.end().after_cut(&[]);
        assert_eq!(moment.read(Policy::Strict).unwrap().last, moment.oracle.acknowledged());
    }
}

#[test]
fn reads_that_fail_once_are_survived() {
    for setup in Setup::ALL {
        let moment = after(setup, &[Open, Fill(200), Append(9)]);
        let mut run = moment.fork().run(Plan::default());
        let entries = run.open(true).unwrap();
        let reads = run.moment().medium.reads();
        for read in 0..reads {
            let plan = Plan { fail_reads: vec![(read, ReadFailure::Once)], ..Plan::default() };
            let mut run = moment.fork().run(plan);
            assert_eq!(run.open(true).unwrap(), entries, "read {read}");
        }
        let mut run = moment.fork().run(Plan { short_reads: true, ..Plan::default() });
        assert_eq!(run.open(true).unwrap(), entries);
        run.play(&[Append(9), Close]).unwrap();
        run.end().after_cut(&[]).read(Policy::Strict).unwrap();
    }
}

#[test]
fn what_cannot_be_read_is_told_and_not_destroyed() {
    let mut counts = [0; 2];
    for setup in Setup::ALL {
        for ops in [&[Open, Fill(200), Append(9), Close][..], &[Open, Fill(200), Append(9)]] {
            let moment = after(setup, ops);
            for (object, bytes, _) in moment.bytes() {
                let len = bytes.map_or(0, |bytes| bytes.len() as u64);
                for at in (0..len).step_by(24) {
                    let bad = moment.fork();
                    bad.medium.make_unreadable(object, at..(at + 24).min(len));
                    let before = bad.bytes();
                    let mut run = bad.run(Plan::default());
                    match run.open(true) {
                        Ok(found) => {
                            // It was not needed.
                            let behind = object == Object::Meta || found.last == moment.oracle.acknowledged();
                            assert!(behind, "{object} at {at}");
                            counts[0] += 1;
                        }
                        Err(Stopped::Violation(violation)) => panic!("{object} at {at}: {violation}"),
                        Err(Stopped::Error(error)) => {
                            let told = match &error {
                                Error::Device { action: Action::Read, object, .. } => *object,
                                Error::Refused(finding) if finding.verdict == Verdict::Unreadable => {
                                    Some(finding.object)
                                }
                                _ => None,
                            };
                            assert_eq!(told, Some(object), "at {at}: {error}");
                            assert_eq!(run.moment().bytes(), before, "{object} at {at}: {error}");
                            counts[1] += 1;
                        }
                    }
                }
            }
        }
    }
    println!("unreadable places: {} were not needed, {} were refused", counts[0], counts[1]);
}

#[test]
fn a_second_writer_is_refused_and_a_reader_cannot_become_one() {
    let moment = after(Setup::BYTES, &[Open, Append(24)]);
    let device = moment.medium.device();
    moment.medium.try_device().unwrap_err();
    drop(device);
    let before = moment.bytes();
    let error = Log::open_device(moment.medium.reader(), moment.config()).unwrap_err();
    assert_eq!(error.kind(), "device", "{error}");
    assert_eq!(moment.bytes(), before);
}

#[test]
fn the_strict_policy_refuses_a_torn_tail_and_leaves_it_alone() {
    for setup in Setup::ALL.map(Setup::buffered) {
        let half = Append(setup.half());
        let ops = [Open, Append(24), Sync, half, half, half, PowerCut(Left::HalfTheLast)];
        let moment = after(setup, &ops);
        let error = refused(&moment, moment.config().with_policy(Policy::Strict));
        assert!(matches!(error, Error::Damaged(_)), "{error}");
        assert!(error.finding().is_some_and(|finding| finding.verdict.is_torn_tail()), "{error}");
        let mut run = moment.run(Plan::default());
        run.open(false).unwrap();
        assert!(run.log().recovery().torn_tail.is_some());
    }
}

#[test]
fn what_the_caller_knows_to_have_been_durable_is_missed() {
    for setup in Setup::ALL {
        for ops in [&[Open, Append(24), Append(9), Close][..], &[Open, Append(24), Append(9)], &[Open]] {
            let moment = after(setup, ops);
            let last = moment.oracle.acknowledged();
            for above in 1..4 {
                let config = moment.config().with_expect_durable(Lsn::new(last + above));
                let error = refused(&moment, config);
                assert!(matches!(error, Error::Refused(_) | Error::Lost { .. }), "{error}");
            }
            let log = Log::open_device(moment.medium.device(), moment.config().with_expect_durable(Lsn::new(last)));
            log.unwrap().close().unwrap();
        }
    }
    let empty = Moment::new(Setup::BYTES);
    let error = refused(&empty, empty.config().with_expect_durable(Lsn::FIRST));
    assert!(matches!(error, Error::Lost { expected: Lsn::FIRST }), "{error}");
}

#[test]
fn another_log_than_expected_is_refused() {
    let moment = after(Setup::BYTES, &[Open, Append(24)]);
    let config = Config { expect_log_id: Some(uuid::Uuid::from_u128(7)), ..moment.config() };
    let error = refused(&moment, config);
    assert!(matches!(error, Error::Foreign { segment, .. } if segment == SegmentId::new(1)), "{error}");
    let empty = Moment::new(Setup::BYTES);
    assert!(matches!(refused(&empty, empty.config().existing()), Error::NotFound { .. }));
}

#[test]
fn a_failed_sync_is_not_made_good_by_a_later_one() {
    let mut explorer = Explorer::new();
    for setup in Setup::ALL {
        let stages: [(&[Op], _); 3] = [(&[Open, Append(12)], Whole), (&[Open], Whole), (&[Open, Append(9)], Coarse)];
        explorer.search("failed syncs in a row", &Moment::new(setup), &stages);
    }
    explorer.finish("failed syncs in a row");
}
