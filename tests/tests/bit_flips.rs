//! Every single bit of a log is turned over: it is noticed, nothing wrong is handed out, nothing is destroyed.
#![allow(missing_docs)]

use core::{convert::Infallible, ops::Range, panic::AssertUnwindSafe};
use std::panic::catch_unwind;

use Op::{Append, Batch, Checkpoint, Close, Fill, Open};
use duralog::{
    Config, Error, Finding, Geometry, Log, LogReader, Lsn, Object, Operation, Policy, Snapshot, StateMachine,
    faulty::Plan,
};
use duralog_tests::{Found, Moment, Op, Setup, figure};

const HEADER: u64 = 128;

/// Small segments, so that few bits make three.
const SMALL: [Setup; 2] = [
    Setup { geometry: Geometry { segment_size: 1664, ..Setup::BYTES.geometry }, write_limit: 288, ..Setup::BYTES },
    Setup { geometry: Geometry { segment_size: 2304, ..Setup::WORDS.geometry }, write_limit: 304, ..Setup::WORDS },
];

struct Sample {
    moment: Moment,
    entries: Vec<Found>,
    /// Where the entries' frames are, by LSN.
    frames: Vec<(Object, Range<u64>)>,
    /// Entries that nothing on the medium proves to have been durable.
    window: usize,
}

fn sample(setup: Setup, ops: &[Op], window: usize) -> Sample {
    let mut run = Moment::new(setup).run(Plan::default());
    run.play(ops).unwrap();
    let moment = run.end().after_cut(&[]);
    let reader = LogReader::open_device(moment.medium.reader(), moment.config()).unwrap();
    let entries = reader.read(Lsn::ZERO, Lsn::MAX).unwrap().map(Result::unwrap);
    let frames = entries.map(|entry| {
        let at = u64::from(entry.offset);
        (Object::Segment(entry.segment), at..at + entry.serialized_size() as u64)
    });
    let frames = frames.collect();
    let entries = moment.read(Policy::Strict).unwrap().entries;
    assert_eq!(entries.len() as u64, moment.oracle.acknowledged());
    Sample { moment, entries, frames, window }
}

impl Sample {
    /// Whether something must be said if a bit is turned over here: headers, and all from the first frame of a segment
    /// to its last entry, but for what fills up the last granule of a write.
    fn is_live(&self, object: Object, at: u64) -> bool {
        let copy = u64::from(self.moment.setup.geometry.copy_offset);
        let frames = u64::from(self.moment.setup.geometry.frames_at());
        let granule = u64::from(self.moment.setup.geometry.granule);
        let ends = || self.frames.iter().filter(|(segment, _)| *segment == object).map(|(_, range)| range.end);
        let end = ends().max().unwrap_or(0);
        let in_frame = || self.frames.iter().any(|(segment, range)| *segment == object && range.contains(&at));
        if !in_frame() && ends().any(|end| (end..end.next_multiple_of(granule)).contains(&at)) {
            return false;
        }
        object != Object::Meta && (at < HEADER || (copy..copy + HEADER).contains(&at) || (frames..end).contains(&at))
    }

    fn flip(&self, object: Object, places: &[u64], bit: u8, heard: &mut Heard) {
        let moment = self.moment.fork();
        places.iter().for_each(|at| moment.medium.flip_bit(object, *at, bit));
        let at = places[0];
        self.inspect(&moment, object, at, heard);
        self.salvage(&moment);
        // Opening under each of the other policies takes long: of each byte, one bit.
        if u64::from(bit) == at % 8 {
            self.open_under(Policy::Strict, &moment.fork(), heard);
            self.open_under(Policy::PointInTime, &moment.fork(), heard);
        }
        self.open(&moment, heard);
    }

    /// A policy that refuses changes nothing; one that opens the log hands out no more than what stands before the damage,
    /// and the state that is built up then and after the next opening is that of these entries.
    fn open_under(&self, policy: Policy, moment: &Moment, heard: &mut Heard) {
        let before = moment.bytes();
        let (found, torn) = match open(moment, policy) {
            Ok(opened) => opened,
            Err(error) => {
                assert!(error.place().is_some(), "{policy:?}: {error}");
                assert_eq!(moment.bytes(), before, "{policy:?}: {error}");
                heard.strict += u64::from(policy == Policy::Strict);
                return;
            }
        };
        assert_eq!(found, self.entries[..found.len()], "{policy:?}");
        if policy == Policy::Strict {
            assert!(found.len() == self.entries.len() && !torn, "something was dropped");
            return;
        }
        heard.point_in_time += 1;
        let (again, _) = open(moment, Policy::Default).expect("what was given up refuses nothing any more");
        assert_eq!(again, found, "what was given up comes back, or more is gone");
    }

    /// A sealed segment that lost both copies of its header is read by that of its successor.
    fn both_copies(&self, object: Object, at: u64, bit: u8) {
        let moment = self.moment.fork();
        let copy = u64::from(moment.setup.geometry.copy_offset);
        [at, copy + at].iter().for_each(|at| moment.medium.flip_bit(object, *at, bit));
        let config = moment.config().with_policy(Policy::Salvage);
        let reader = LogReader::open_device(moment.medium.reader(), config).unwrap();
        let count = reader.read(Lsn::ZERO, Lsn::MAX).unwrap().map(Result::unwrap).count();
        assert_eq!(count, self.entries.len(), "an entry of {object} is lost, bit {bit} of byte {at}");
    }

    fn inspect(&self, moment: &Moment, object: Object, at: u64, heard: &mut Heard) {
        let config = moment.config().with_policy(Policy::Inspect);
        let mut reader = match LogReader::open_device(moment.medium.reader(), config) {
            Ok(reader) => reader,
            Err(error) => {
                let place = error.place().map(|(object, _)| object);
                assert_eq!(place, Some(object), "inspecting: {error}");
                heard.errors += 1;
                return;
            }
        };
        self.check_read(&reader);
        let report = match reader.verify() {
            Ok(report) => report,
            Err(error) => {
                let place = error.place().map(|(object, _)| object);
                assert_eq!(place, Some(object), "verifying: {error}");
                heard.errors += 1;
                return;
            }
        };
        let torn = report.torn_tail.is_some_and(|torn| Object::Segment(torn.segment) == object);
        let named = report.findings.iter().any(|finding| finding.object == object);
        heard.findings += u64::from(named);
        heard.torn += u64::from(torn && !named);
        if self.is_live(object, at) {
            assert!(torn || named, "nothing was said: {report:?}");
        }
        assert!(!torn || named || self.in_window(object, at), "damage was taken for a torn tail: {report:?}");
    }

    /// Whether the place lies behind everything that is proved.
    fn in_window(&self, object: Object, at: u64) -> bool {
        let proved = self.frames.len() - self.window;
        let behind = self.frames[..proved].iter().filter(|(segment, _)| *segment == object);
        behind.map(|(_, range)| range.end).max().is_none_or(|end| at >= end)
    }

    fn salvage(&self, moment: &Moment) {
        let config = moment.config().with_policy(Policy::Salvage);
        if let Ok(reader) = LogReader::open_device(moment.medium.reader(), config) {
            self.check_read(&reader);
        }
    }

    /// What is read is right, and what is not there is listed.
    fn check_read(&self, reader: &LogReader<duralog::FaultyDevice>) {
        let mut entries = reader.read(Lsn::ZERO, Lsn::MAX).unwrap();
        let mut missing: Vec<_> = (1..=self.entries.len() as u64).collect();
        let mut error = None;
        for entry in &mut entries {
            match entry {
                Ok(entry) => {
                    let lsn = entry.lsn.value();
                    let original = &self.entries[usize::try_from(lsn).unwrap() - 1];
                    assert_eq!((lsn, &entry.payload), (original.lsn, &original.payload), "other bytes are read");
                    let before = missing.len();
                    missing.retain(|missing| *missing != lsn);
                    assert_eq!(missing.len() + 1, before, "{lsn} is read twice");
                }
                Err(other) => error = Some(other),
            }
        }
        let report = reader.recovery();
        let listed = |lsn: u64, finding: &Finding| {
            finding.lsns.is_some_and(|(first, last)| (first.value()..=last.value()).contains(&lsn))
        };
        for lsn in missing {
            let findings = report.findings.iter().chain(entries.findings());
            let told = findings.clone().any(|finding| listed(lsn, finding));
            let torn = report.torn_tail.is_some() && lsn > report.last_valid_lsn.value();
            assert!(told || torn || error.is_some(), "LSN {lsn} is missing, and nothing says so: {report:?}");
        }
    }

    fn open(&self, moment: &Moment, heard: &mut Heard) {
        let before = moment.bytes();
        let proved = self.entries.len() - self.window;
        match open(moment, Policy::Default) {
            Ok((found, torn)) => {
                assert!(found.len() == self.entries.len() || torn && found.len() >= proved, "entries are gone");
                assert_eq!(found, self.entries[..found.len()]);
                heard.opened += 1;
            }
            Err(error) => {
                assert!(error.place().is_some(), "{error}");
                assert_eq!(moment.bytes(), before, "{error}");
                heard.refused += 1;
            }
        }
    }
}

/// The LSNs of the operations that were applied, from the checkpoint on that was loaded.
#[derive(Debug, Default)]
struct Applied(Vec<u64>);

impl StateMachine for Applied {
    type Error = Infallible;

    fn apply(&mut self, lsn: Lsn, _: &Operation) {
        self.0.push(lsn.value());
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }

    fn load(&mut self, _: &Snapshot) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Opens the log under a policy, builds a state up, and gives the entries and whether a tail was cut off.
fn open(moment: &Moment, policy: Policy) -> Result<(Vec<Found>, bool), Error> {
    let config = Config { full_check: true, policy, ..moment.config() };
    let log = Log::open_device(moment.medium.device(), config)?;
    let entries = log.read_from(Lsn::ZERO)?;
    // A checkpoint's own entry changes no state.
    let mut own = Vec::new();
    let found = entries.map(|entry| {
        let entry = entry?;
        if let Ok(Operation::Checkpoint { .. }) = entry.operation() {
            own.push(entry.lsn.value());
        }
        Ok(Found { lsn: entry.lsn.value(), continues: entry.batch_continues, payload: entry.payload })
    });
    let found = found.collect::<Result<Vec<Found>, Error>>().expect("every entry was verified");
    let torn = log.recovery().torn_tail.is_some();
    let mut applied = Applied::default();
    let rebuilt = log.rebuild(&mut applied).expect("every entry was verified");
    let from = rebuilt.checkpoint_used.map_or(0, |(_, lsn)| lsn.value());
    let behind: Vec<u64> =
        found.iter().map(|entry| entry.lsn).filter(|lsn| *lsn > from && !own.contains(lsn)).collect();
    assert_eq!(applied.0, behind, "what is applied is what is read");
    log.close()?;
    Ok((found, torn))
}

/// What was heard of the flipped bits.
#[derive(Debug, Default)]
struct Heard {
    bits: u64,
    findings: u64,
    torn: u64,
    errors: u64,
    opened: u64,
    refused: u64,
    strict: u64,
    point_in_time: u64,
}

fn flip_every_bit(name: &str, sample: &Sample) {
    let mut heard = Heard::default();
    let mut wrong = Vec::new();
    for (object, bytes, _) in sample.moment.bytes() {
        for at in 0..bytes.map_or(0, |bytes| bytes.len() as u64) {
            for bit in 0..8 {
                heard.bits += 1;
                let flipped = catch_unwind(AssertUnwindSafe(|| sample.flip(object, &[at], bit, &mut heard)));
                if flipped.is_err() {
                    wrong.push((object, at, bit));
                }
            }
        }
    }
    println!("{name} on {}: {heard:?}", sample.moment.setup.name);
    figure(&format!("bit_flips, {name} on {}: {} bits", sample.moment.setup.name, heard.bits));
    assert!(heard.strict > 0 && heard.point_in_time > 0, "{heard:?}");
    assert!(wrong.is_empty(), "{} bits, such as {:?}", wrong.len(), &wrong[..wrong.len().min(9)]);
}

#[test]
fn every_flipped_bit_of_a_closed_log_is_noticed() {
    for setup in SMALL {
        let ops = [Open, Append(24), Fill(50), Batch(2, 14), Fill(50), Append(9), Close];
        flip_every_bit("a closed log", &sample(setup, &ops, 0));
    }
}

#[test]
fn every_flipped_bit_of_a_log_that_was_not_closed_is_noticed() {
    for setup in SMALL {
        let ops = [Open, Append(24), Fill(50), Batch(2, 14), Fill(50), Append(30), Batch(2, 9), Append(9)];
        flip_every_bit("a log that was not closed", &sample(setup, &ops, 1));
    }
}

#[test]
fn every_flipped_bit_of_every_header_of_a_log_with_a_checkpoint_costs_no_entry() {
    for setup in SMALL {
        let ops = [Open, Append(24), Fill(50), Checkpoint, Batch(2, 14), Fill(50), Append(9), Close];
        let sample = sample(setup, &ops, 0);
        let copy = u64::from(setup.geometry.copy_offset);
        let objects = sample.moment.medium.names();
        let segments: Vec<_> = objects.iter().filter(|object| matches!(object, Object::Segment(_))).collect();
        assert!(segments.len() >= 3 && objects.iter().any(|object| matches!(object, Object::Checkpoint(_))));
        let mut heard = Heard::default();
        for (place, object) in segments.iter().enumerate() {
            for at in 0..HEADER {
                for bit in 0..8 {
                    sample.flip(**object, &[at], bit, &mut heard);
                    sample.flip(**object, &[copy + at], bit, &mut heard);
                    heard.bits += 2;
                    // Both copies at once, of some bits.
                    if place + 1 < segments.len() && (at * 8 + u64::from(bit)) % 5 == 0 {
                        sample.flip(**object, &[at, copy + at], bit, &mut heard);
                        sample.both_copies(**object, at, bit);
                        heard.bits += 1;
                    }
                }
            }
        }
        println!("headers on {}: {heard:?}", setup.name);
        figure(&format!("bit_flips, headers on {}: {} bits", setup.name, heard.bits));
    }
}
