//! A cut at the back that was refused for lack of room has not happened, whatever a crash leaves of the attempt.
#![allow(missing_docs)]

use duralog::{
    Error,
    faulty::{Failure, Keep, Plan},
};
use duralog_tests::{Moment, Nonces, Op, Setup, Stopped};

#[test]
fn a_cut_that_was_refused_for_lack_of_room_is_not_done_by_a_crash() {
    let before = [Op::Open, Op::Append(24), Op::Append(9), Op::Append(12)];
    for setup in Setup::ALL {
        for more in [&[][..], &[Op::Append(30), Op::Sync]] {
            let mut run = Moment::new(setup).run(Plan::default());
            run.play(&before).unwrap();
            let calls = run.calls();
            for (call, done) in (calls..calls + 4).flat_map(|call| [(call, 0), (call, 1), (call, 60)]) {
                let fail = vec![(call, if done == 0 { Failure::NoSpace } else { Failure::NoSpaceAfter(done) })];
                let mut run = Moment::new(setup).run(Plan { fail, ..Plan::default() });
                run.play(&before).unwrap();
                match run.step(Op::Cut(1)) {
                    Err(Stopped::Error(Error::NoSpace(_))) => {}
                    _ => continue,
                }
                if run.play(more).is_err() {
                    continue;
                }
                let mut after = run.end().after_kill().run(Plan::default());
                let what = format!("{}, no room at call {call} after {done} bytes, then {more:?}", setup.name);
                match after.open(true) {
                    Ok(held) => assert!(held.last >= 3, "{what}: the log ends at {}, and 3 was kept", held.last),
                    Err(stopped) => panic!("{what}: {stopped:?}"),
                }
            }
        }
    }
}

#[test]
fn a_cut_whose_removals_are_refused_for_lack_of_room_is_done_or_not_and_never_half() {
    // A copy-on-write file system needs room to remove a file.
    let before = [Op::Open, Op::Append(24), Op::Fill(60), Op::Fill(60), Op::Fill(60), Op::Append(9)];
    let mut removals = 0;
    for setup in Setup::ALL {
        let run_to = |fail| {
            let mut run = Moment::new(setup).run(fail);
            run.play(&before).unwrap();
            run
        };
        let run = run_to(Plan::default());
        let (calls, off) = (run.calls(), run.end().oracle.next() - 3);
        for call in calls..calls + 16 {
            let mut run = run_to(Plan { fail: vec![(call, Failure::NoSpace)], ..Plan::default() });
            let cut = run.step(Op::Cut(off));
            removals += u32::from(matches!(cut, Err(Stopped::Error(Error::Poisoned { .. }))));
            let mut after = run.end().after_kill().run(Plan::default());
            if let Err(stopped) = after.open(true) {
                panic!("{}, no room at call {call}, cut {cut:?}: {stopped:?}", setup.name);
            }
        }
    }
    assert!(removals > 0, "a removal was refused");
}

#[test]
fn a_refused_reset_does_not_come_back_with_the_room_that_it_took() {
    // Its segment is removed, and the next one gets its number and its room, with all that was written there.
    let before = [Op::Open, Op::Append(24), Op::Append(9), Op::Append(12)];
    let mut headers = 0;
    for setup in Setup::ALL.map(|setup| setup.recycled(Nonces::Random)) {
        let mut run = Moment::new(setup).run(Plan::default());
        run.play(&before).unwrap();
        let calls = run.calls();
        for call in calls..calls + 5 {
            let fail = vec![(call, Failure::NoSpaceAfter(setup.geometry.granule.max(128) as usize))];
            let mut run = Moment::new(setup).run(Plan { fail, ..Plan::default() });
            run.play(&before).unwrap();
            if !matches!(run.step(Op::Reset(3)), Err(Stopped::Error(Error::NoSpace(_)))) {
                continue;
            }
            headers += 1;
            let refused = run.end().after_kill();
            for cut in 0..12 {
                let mut next = refused.fork().run(Plan { cut_at_call: Some(cut), ..Plan::default() });
                let _ = next.play(&[Op::Open, Op::Fill(100)]);
                let keeps = [const { Keep::All }; 16];
                let mut after = next.end().after_cut(&keeps).run(Plan::default());
                if let Err(stopped) = after.open(true) {
                    panic!("{}, no room at call {call}, then power cut at call {cut}: {stopped:?}", setup.name);
                }
            }
        }
    }
    assert!(headers > 0);
}
