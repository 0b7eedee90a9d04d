//! Snapshots from and to streams of `embedded-io`.
#![allow(missing_docs)]

use duralog::{Geometry, MemoryDevice};
use duralog_core::{
    CheckpointId, Error, Fault, Lsn, Object, PutCheckpoint, ReadCheckpoint, Reading, SnapshotSink, SnapshotSource,
    checkpoint::CheckpointHeader, checksum::portable, drive,
};
use embedded_io::{ErrorKind, ErrorType, Read};

const GEOMETRY: Geometry =
    Geometry { segment_size: 8192, granule: 16, copy_offset: 128, blank: 0xFF, settled: true, slots: None };
const ID: CheckpointId = CheckpointId::new(1);

fn header() -> CheckpointHeader {
    CheckpointHeader {
        log: uuid::Uuid::from_u128(9),
        epoch: 1,
        id: ID,
        lsn: Lsn::new(4),
        floor: Lsn::new(5),
        created_at: 0,
        documents: 1,
        chunks: 0,
        metadata_len: 1,
    }
}

fn snapshot() -> Vec<u8> {
    (0..5000u32).flat_map(u32::to_le_bytes).collect()
}

/// A stream that gives a few bytes at a time, is interrupted in between, and may fail.
struct Line<'a> {
    bytes: &'a [u8],
    /// With how many bytes left it fails.
    fails_at: Option<usize>,
    calls: usize,
}

impl ErrorType for Line<'_> {
    type Error = ErrorKind;
}

impl Read for Line<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, ErrorKind> {
        self.calls += 1;
        if self.calls.is_multiple_of(3) {
            return Err(ErrorKind::Interrupted);
        }
        if self.fails_at.is_some_and(|at| self.bytes.len() <= at) {
            return Err(ErrorKind::ConnectionReset);
        }
        let len = buf.len().min(37).min(self.bytes.len());
        buf[..len].copy_from_slice(&self.bytes[..len]);
        self.bytes = &self.bytes[len..];
        Ok(len)
    }
}

#[test]
fn a_snapshot_streams_into_a_checkpoint_and_out_of_it() {
    let (mut device, mut buf) = (MemoryDevice::new(GEOMETRY), [0; 512]);
    let front = [&[7; 16][..], &[0]].concat();
    let snapshot = snapshot();
    let mut source = SnapshotSource::new(&front, Line { bytes: &snapshot, fails_at: None, calls: 0 });
    drive(PutCheckpoint::new(portable, header(), GEOMETRY), &mut device, &mut buf[..], &mut source).unwrap();
    let mut to = vec![0; snapshot.len()];
    let mut sink = SnapshotSink::new(&mut to[..]);
    let read = ReadCheckpoint::new(portable, header().log, ID, Reading::HandOut);
    let found = drive(read, &mut device, &mut buf[..], &mut sink).unwrap().unwrap();
    assert_eq!((found, sink.finish().unwrap()), (header(), snapshot.len() as u64));
    assert_eq!(to, snapshot);
}

#[test]
fn a_snapshot_that_breaks_off_makes_no_checkpoint() {
    let snapshot = snapshot();
    let front = [&[7; 16][..], &[0]].concat();
    for fails_at in [0, 1, 999, snapshot.len() - 1, snapshot.len()] {
        let (mut device, mut buf) = (MemoryDevice::new(GEOMETRY), [0; 512]);
        let mut source = SnapshotSource::new(&front, Line { bytes: &snapshot, fails_at: Some(fails_at), calls: 0 });
        let put = drive(PutCheckpoint::new(portable, header(), GEOMETRY), &mut device, &mut buf[..], &mut source);
        assert!(matches!(put, Err(Error::Fault(Fault::SnapshotBrokenOff))), "{put:?}");
        assert_eq!(source.error(), Some(&ErrorKind::ConnectionReset));
        assert!(device.object(Object::Checkpoint(ID)).is_some(), "it was begun");
        let read = ReadCheckpoint::new(portable, header().log, ID, Reading::Check);
        drive(read, &mut device, &mut buf[..], &mut ()).unwrap().unwrap_err();
    }
}

#[test]
fn a_sink_that_is_full_says_so() {
    let (mut device, mut buf) = (MemoryDevice::new(GEOMETRY), [0; 512]);
    let front = [&[7; 16][..], &[0]].concat();
    let snapshot = snapshot();
    let mut source = SnapshotSource::new(&front, Line { bytes: &snapshot, fails_at: None, calls: 0 });
    drive(PutCheckpoint::new(portable, header(), GEOMETRY), &mut device, &mut buf[..], &mut source).unwrap();
    let mut small = [0; 1000];
    let mut sink = SnapshotSink::new(&mut small[..]);
    let read = ReadCheckpoint::new(portable, header().log, ID, Reading::HandOut);
    drive(read, &mut device, &mut buf[..], &mut sink).unwrap().unwrap();
    sink.finish().unwrap_err();
    assert_eq!(small[..960], snapshot[..960]);
}
