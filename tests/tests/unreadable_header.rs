//! A segment header that the device cannot read is no damage: the error is the device's.
#![allow(missing_docs)]

use duralog::{Error, Lsn, Object, core::Action, core::SegmentId, faulty::Plan};
use duralog_tests::{Moment, Op, Setup};

#[test]
fn a_truncation_that_cannot_read_a_header_says_so() {
    let mut run = Moment::new(Setup::BYTES).run(Plan::default());
    run.play(&[Op::Open, Op::Fill(200), Op::Append(9)]).unwrap();
    let medium = &run.moment().medium;
    let newest = Object::Segment(SegmentId::new(2));
    medium.make_unreadable(newest, 0..256);
    let error = run.log().discard_before(Lsn::new(2)).unwrap_err();
    assert!(
        matches!(error, Error::Device { action: Action::Read, object: Some(object), .. } if object == newest),
        "{error}"
    );
}
