//! A cut at the back that was refused for lack of room has not happened, whatever a crash leaves of the attempt.
#![allow(missing_docs)]

use duralog::{
    Error,
    faulty::{Failure, Plan},
};
use duralog_tests::{Moment, Op, Setup, Stopped};

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
