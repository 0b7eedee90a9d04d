//! The short cut to entries that stand ready in the buffer: it hands out what the machine does step by step, and in a log that
//! is damaged leaves to it whatever is not as it should be.
#![allow(missing_docs)]

use Op::{Append, Batch, Close, Fill, Open, Transaction, Write};
use duralog::faulty::{FaultyDevice, Plan};
use duralog_core::{
    Entry, Finding, Flow, Host, Lsn, Object, Policy, Reader, Recovery, RecoveryOptions, View, drive, drive_until_pause,
};
use duralog_tests::{Moment, Op, Setup};

/// All that is told, in its order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told(Vec<String>);

/// Hears one entry at a time, or all.
struct Hearing<'a>(&'a mut Told, Flow);

impl Host for Hearing<'_> {
    fn entry(&mut self, entry: Entry<'_>) -> Flow {
        self.0.0.push(format!("{entry:?}"));
        self.1
    }

    fn finding(&mut self, finding: &Finding) {
        self.0.0.push(format!("{finding:?}"));
    }
}

const SIZES: [usize; 3] = [256, 700, 16384];

/// What the machine tells alone.
fn by_steps(device: &mut FaultyDevice, view: &View, from: Lsn, policy: Policy, size: usize) -> (Told, String) {
    let mut told = Told::default();
    let reader = Reader::new(view.clone(), from, Lsn::MAX, policy);
    let read = drive(reader, device, &mut vec![0; size], &mut Hearing(&mut told, Flow::Continue));
    (told, format!("{read:?}"))
}

/// What it tells where each entry that stands ready is taken at once; and how many were.
fn by_short_cut(
    device: &mut FaultyDevice,
    view: &View,
    (from, policy): (Lsn, Policy),
    size: usize,
    flow: Flow,
) -> (Told, String, u64) {
    let (mut told, mut buf, mut ready) = (Told::default(), vec![0; size], 0);
    let mut reader = Reader::new(view.clone(), from, Lsn::MAX, policy);
    let read = loop {
        while reader.ready(&mut buf, |entry| {
            ready += 1;
            Hearing(&mut told, flow).entry(entry)
        }) == Flow::Pause
        {}
        match drive_until_pause(&mut reader, device, &mut buf, &mut Hearing(&mut told, Flow::Pause)) {
            Ok(None) => {}
            Ok(Some(read)) => break Ok(read),
            Err(error) => break Err(error),
        }
    };
    (told, format!("{read:?}"), ready)
}

/// Compares both ways through a log, and tells how many entries stood ready.
fn compare(moment: &Moment, what: &str) -> u64 {
    let mut ready = 0;
    for policy in [Policy::Default, Policy::Salvage] {
        let mut device = moment.medium.reader();
        let options = RecoveryOptions { policy, ..RecoveryOptions::default() };
        let mut buf = vec![0; 16384];
        let Ok(recovered) = drive(Recovery::new(options), &mut device, &mut buf, &mut ()) else { continue };
        for (size, from) in SIZES.into_iter().zip([Lsn::ZERO, Lsn::new(2), Lsn::new(5)]) {
            let (told, read) = by_steps(&mut device, &recovered.view, from, policy, size);
            for flow in [Flow::Continue, Flow::Pause] {
                let short = by_short_cut(&mut device, &recovered.view, (from, policy), size, flow);
                assert_eq!((&short.0, &short.1), (&told, &read), "{what}, {policy:?}, {size} bytes, from {from}");
                ready += short.2;
            }
        }
    }
    ready
}

/// Entries by themselves, a batch, a transaction, and marks between them, in more than one segment.
fn sample(setup: Setup) -> Moment {
    let mut run = Moment::new(setup).run(Plan::default());
    let ops =
        [Open, Append(20), Write(31), Append(0), Batch(3, 20), Append(25), Transaction(2, 12), Append(9), Fill(90)];
    run.play(&ops).unwrap();
    run.play(&[Append(40), Append(41), Batch(2, 10), Append(7), Close]).unwrap();
    run.end().after_cut(&[])
}

fn segments(moment: &Moment) -> Vec<(Object, u64)> {
    let objects = moment.medium.names().into_iter().filter(|object| matches!(object, Object::Segment(_)));
    objects.map(|object| (object, moment.medium.written(object))).collect()
}

#[test]
fn a_sound_log_is_read_alike_by_the_short_cut_and_step_by_step() {
    for setup in Setup::ALL {
        compare(&sample(setup), setup.name);
        // What is written together has no mark between its entries.
        let ready = compare(&sample(setup.buffered()), setup.name);
        assert!(ready > 30, "{}: {ready} entries stood ready", setup.name);
    }
}

#[test]
fn a_log_with_any_one_byte_damaged_is_read_alike_by_the_short_cut_and_step_by_step() {
    for setup in [Setup::BYTES.buffered(), Setup::WORDS] {
        let sound = sample(setup);
        for (object, written) in segments(&sound) {
            for at in 0..written {
                let moment = sound.fork();
                moment.medium.flip_bit(object, at, u8::try_from(at % 8).unwrap());
                compare(&moment, &format!("{}, {object} at {at}", setup.name));
            }
        }
    }
}

#[test]
fn bytes_of_another_place_are_read_alike_by_the_short_cut_and_step_by_step() {
    let sound = sample(Setup::BYTES.buffered());
    for (object, written) in segments(&sound) {
        let bytes = sound.medium.object(object).unwrap();
        for from in (256..usize::try_from(written).unwrap() - 120).step_by(41) {
            for to in (256..written - 120).step_by(53) {
                let moment = sound.fork();
                moment.medium.overwrite(object, to, &bytes[from..from + 120]);
                compare(&moment, &format!("{object}, bytes of {from} at {to}"));
            }
        }
    }
}
