//! Both drivers do the same: what a blocking device and an awaited one hold is equal, byte for byte.
#![allow(missing_docs)]

use duralog::{Geometry, Lsn, MemoryDevice};
use duralog_core::{
    Begin, Commit, Consent, Durability, Entry, Flow, Host, Machine, Policy, Reader, Recovered, Recovery,
    RecoveryOptions, StageError, Writer, WriterOptions, drive, drive_async,
};
use duralog_tests::{Awaited, poll_times};
use uuid::Uuid;

const GEOMETRY: Geometry =
    Geometry { segment_size: 2048, granule: 16, copy_offset: 128, blank: 0xFF, settled: false, slots: None };

/// One of the two ways to drive a machine.
trait Driver {
    fn run<M: Machine>(&mut self, machine: M, buf: &mut Vec<u8>, host: &mut impl Host) -> M::Output;
}

impl Driver for MemoryDevice {
    fn run<M: Machine>(&mut self, machine: M, buf: &mut Vec<u8>, host: &mut impl Host) -> M::Output {
        drive(machine, self, buf, host).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Driver for Awaited<MemoryDevice> {
    fn run<M: Machine>(&mut self, machine: M, buf: &mut Vec<u8>, host: &mut impl Host) -> M::Output {
        let done = poll_times(drive_async(machine, self, buf, host), 1_000_000);
        done.expect("it is not pending for ever").unwrap_or_else(|error| panic!("{error}"))
    }
}

#[derive(Default)]
struct Collected(Vec<(u64, Vec<u8>)>);

impl Host for Collected {
    fn entry(&mut self, entry: Entry<'_>) -> Flow {
        self.0.push((entry.lsn.value(), entry.payload.to_vec()));
        Flow::Continue
    }
}

/// Appends 40 entries over several segments, then recovers and reads them all.
fn workload(device: &mut impl Driver) -> (Recovered, Collected) {
    let mut buf = vec![0; 1024];
    let mut writer = Writer::create(WriterOptions::new(GEOMETRY), Uuid::from_u128(7)).unwrap();
    for n in 0..40u8 {
        let payload = vec![n; usize::from(n)];
        loop {
            match writer.stage(&mut buf, 1000, None, &[&payload[..]]) {
                Ok(_) => break,
                Err(StageError::NeedsSegment) => {
                    let plan = writer.plan(1000, u64::from(n)).unwrap();
                    let begun = device.run(Begin::new(plan), &mut vec![0; 1024], &mut ());
                    writer.begun(&begun);
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        let group = writer.take(&mut buf, Durability::Durable).unwrap().unwrap();
        device.run(Commit::new(group), &mut buf, &mut ());
        writer.landed(group);
    }
    let recovered = device.run(Recovery::new(RecoveryOptions::default()), &mut buf, &mut ());
    let mut collected = Collected::default();
    let reader = Reader::new(recovered.view.clone(), Lsn::FIRST, Lsn::MAX, Policy::Default);
    device.run(reader, &mut buf, &mut collected);
    (recovered, collected)
}

#[test]
fn a_machine_does_the_same_on_a_blocking_device_and_on_an_awaited_one() {
    let (mut blocking, mut awaited) = (MemoryDevice::new(GEOMETRY), Awaited(MemoryDevice::new(GEOMETRY)));
    let (here, there) = (workload(&mut blocking), workload(&mut awaited));
    assert_eq!(here.0.report, there.0.report);
    assert_eq!(here.1.0, there.1.0);
    assert_eq!(here.1.0.len(), 40);
    let objects = blocking.names();
    assert!(objects.len() > 2);
    assert_eq!(objects, awaited.0.names());
    for object in objects {
        assert_eq!(blocking.object(object), awaited.0.object(object), "{object}");
    }
}

#[test]
fn a_commit_whose_future_was_dropped_poisons_the_writer() {
    let mut device = Awaited(MemoryDevice::new(GEOMETRY));
    let (recovered, _) = workload(&mut device);
    for polls in 0..3 {
        let mut buf = vec![0; 1024];
        let mut writer = Writer::take_over(WriterOptions::new(GEOMETRY), &recovered, Consent::None)
            .unwrap_or_else(|e| panic!("{e:?}"));
        let plan = writer.plan(1000, 99).unwrap();
        if poll_times(drive_async(Begin::new(plan), &mut device, &mut buf, &mut ()), polls).is_none() {
            let again = writer.plan(1000, 100);
            assert!(matches!(again, Err(StageError::Poisoned)), "dropped after {polls} polls");
            assert!(writer.is_poisoned());
        }
    }
}

#[test]
fn a_writer_that_was_poisoned_while_a_segment_was_begun_stays_poisoned() {
    // By a thread that writes a checkpoint, and whose sync failed.
    let mut device = MemoryDevice::new(GEOMETRY);
    let mut buf = vec![0; 1024];
    let mut writer = Writer::create(WriterOptions::new(GEOMETRY), Uuid::from_u128(7)).unwrap();
    let plan = writer.plan(1000, 1).unwrap();
    let begun = device.run(Begin::new(plan), &mut buf, &mut ());
    writer.poison();
    writer.begun(&begun);
    assert!(writer.is_poisoned() && !writer.is_ready());
    assert_eq!(writer.stage(&mut buf, 1000, None, &[&b"one"[..]]), Err(StageError::Poisoned));
}
