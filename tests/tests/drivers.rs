//! Both drivers do the same: what a blocking device and an awaited one hold is equal, byte for byte.
#![allow(missing_docs)]

use core::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use duralog::{Geometry, Lsn, MemoryDevice, Object, memory::MemoryError};
use duralog_core::{
    AsyncDevice, Begin, Commit, Consent, Device, Durability, Entry, Flow, Host, Machine, Policy, Reader, Recovered,
    Recovery, RecoveryOptions, Room, StageError, Writer, WriterOptions, drive, drive_async,
};
use uuid::Uuid;

const GEOMETRY: Geometry =
    Geometry { segment_size: 2048, granule: 16, copy_offset: 128, blank: 0xFF, settled: false, slots: None };

/// A device whose every call is pending once before it is done.
struct Awaited(MemoryDevice);

/// Pending the first time it is polled.
struct Once(bool);

impl Future for Once {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if core::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl AsyncDevice for Awaited {
    type Error = MemoryError;

    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    async fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, MemoryError> {
        Once(false).await;
        self.0.next(after)
    }

    async fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, MemoryError> {
        Once(false).await;
        self.0.prev(before)
    }

    async fn create(&mut self, object: Object, size: u64) -> Result<Room, MemoryError> {
        Once(false).await;
        self.0.create(object, size)
    }

    async fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, MemoryError> {
        Once(false).await;
        self.0.read(object, at, buf)
    }

    async fn write(&mut self, object: Object, at: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        Once(false).await;
        self.0.write(object, at, bytes)
    }

    async fn trim(&mut self, object: Object, at: u64) -> Result<(), MemoryError> {
        Once(false).await;
        self.0.trim(object, at)
    }

    async fn remove(&mut self, object: Object) -> Result<(), MemoryError> {
        Once(false).await;
        self.0.remove(object)
    }

    async fn sync(&mut self) -> Result<(), MemoryError> {
        Once(false).await;
        self.0.sync()
    }
}

/// Polls a future at most `polls` times; `None` if it is still pending then, and it is dropped.
fn poll_times<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    (0..polls).find_map(|_| match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}

/// One of the two ways to drive a machine.
trait Driver {
    fn run<M: Machine>(&mut self, machine: M, buf: &mut Vec<u8>, host: &mut impl Host) -> M::Output;
}

impl Driver for MemoryDevice {
    fn run<M: Machine>(&mut self, machine: M, buf: &mut Vec<u8>, host: &mut impl Host) -> M::Output {
        drive(machine, self, buf, host).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Driver for Awaited {
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
