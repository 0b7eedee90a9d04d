//! W3: one thread that does not wait for each append, and one sync at the end.

use core::time::Duration;
use std::time::Instant;

use duralog::{Lsn, SyncMode};
use duralog_core::{
    SegmentId,
    frame::{FRAME_HEADER_LEN, FRAME_OVERHEAD, FRAME_TRAILER_LEN, FrameType, Salts},
    operation::Code,
};
use uuid::Uuid;

use super::{Ground, PAYLOADS};
use crate::{
    Result,
    baseline::RawStream,
    peers::Task,
    ratio::{Block, Side, compare},
    subject::{FRAME, Subject},
    table::Row,
};

const TARGETS: [f64; 3] = [0.5, 0.7, 0.85];

/// W3.
pub(super) fn stream(ground: &Ground) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut own = Subject::steady(&ground.dir, SyncMode::Async, 64 << 20)?;
    let mut batched = Subject::steady(&ground.dir, SyncMode::default(), 64 << 20)?;
    for (payload, target) in PAYLOADS.into_iter().zip(TARGETS) {
        let len = ground.scale.stream;
        let raw = || RawStream::new(&ground.dir, len);
        let mut sides: Vec<Box<dyn Side + '_>> = vec![
            Box::new(Stream {
                name: "duralog, Async",
                subject: &mut own,
                len,
                bytes: vec![3; payload],
                until: Until::Synced,
            }),
            Box::new(raw()?),
            Box::new(raw()?),
            Box::new(Stream {
                name: "duralog, Batched",
                subject: &mut batched,
                len,
                bytes: vec![3; payload],
                until: Until::Synced,
            }),
        ];
        sides.extend(ground.peers(payload, Task::Stream { len })?.into_iter().map(|side| side as Box<dyn Side>));
        let outcomes = compare(&ground.scale, &mut sides)?;
        rows.extend(Row::of("W3 stream, steady", payload, Some(target), &outcomes));
    }
    rows.extend(before_the_sync(ground, &mut own)?);
    Ok(rows)
}

/// How fast the smallest entries are appended while nothing has to be durable, beside the building of as many frames alone.
fn before_the_sync(ground: &Ground, subject: &mut Subject) -> Result<Vec<Row>> {
    let (payload, len) = (PAYLOADS[0], ground.scale.stream);
    let frames = || -> Box<dyn Side> { Box::new(Frames { len, bytes: vec![3; payload], buf: vec![0; 1 << 20] }) };
    let mut sides: Vec<Box<dyn Side + '_>> = vec![
        Box::new(Stream { name: "duralog, Async", subject, len, bytes: vec![3; payload], until: Until::Appended }),
        frames(),
        frames(),
    ];
    let outcomes = compare(&ground.scale, &mut sides)?;
    Ok(Row::of("W3 before the sync, steady", payload, Some(0.25), &outcomes))
}

/// The same frames, built in a buffer that stays in the processor's cache.
struct Frames {
    len: u64,
    bytes: Vec<u8>,
    buf: Vec<u8>,
}

impl Side for Frames {
    fn name(&self) -> String {
        "frames built in memory".into()
    }

    fn block(&mut self, _: Duration) -> Result<Block> {
        let each = self.bytes.len() + FRAME_OVERHEAD as usize;
        let salts = Salts::new(update, Uuid::from_u128(7), SegmentId::new(1), 1, 1);
        let (frames, mut at) = (self.len / each as u64, 0);
        let start = Instant::now();
        for number in 0..frames {
            if at + each > self.buf.len() {
                at = 0;
            }
            let frame = &mut self.buf[at..at + each];
            frame[FRAME_HEADER_LEN..each - FRAME_TRAILER_LEN].copy_from_slice(&self.bytes);
            salts.complete(frame, u32::try_from(at)?, Lsn::new(number + 1), number, FrameType::new(Code::Opaque as u8));
            at += each;
        }
        let time = start.elapsed();
        core::hint::black_box(&self.buf);
        Ok(Block { bytes: frames * each as u64, time, waits: Vec::new() })
    }
}

/// CRC-32C by the processor's own instructions, as the log has it.
fn update(register: u32, bytes: &[u8]) -> u32 {
    if register == u32::MAX {
        return !crc_fast::crc32_iscsi(bytes);
    }
    let mut digest = crc_fast::Digest::new_with_init_state(crc_fast::CrcAlgorithm::Crc32Iscsi, register.into());
    digest.update(bytes);
    u32::try_from(digest.get_state()).unwrap_or(0)
}

/// Until when the clock runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// The last entry was appended.
    Appended,
    /// All is durable.
    Synced,
}

/// Entries of this length, one behind the other, and one sync.
struct Stream<'a> {
    name: &'static str,
    subject: &'a mut Subject,
    len: u64,
    bytes: Vec<u8>,
    until: Until,
}

impl Side for Stream<'_> {
    fn name(&self) -> String {
        self.name.into()
    }

    fn block(&mut self, _: Duration) -> Result<Block> {
        let each = self.bytes.len() as u64 + FRAME;
        let start = Instant::now();
        for _ in 0..self.len / each {
            self.subject.log.append(&self.bytes[..])?;
            self.subject.passed(each)?;
        }
        let appended = start.elapsed();
        self.subject.log.sync()?;
        let time = if self.until == Until::Synced { start.elapsed() } else { appended };
        self.subject.count()?;
        Ok(Block { bytes: self.len / each * each, time, waits: Vec::new() })
    }
}
