//! Checkpoints on a device: writing one from what the host streams in, and reading one.

use core::ops::Range;

use uuid::Uuid;

use crate::{
    CheckpointId,
    checkpoint::{Checker, CheckpointError, CheckpointHeader, HEADER_LEN, Section, TRAILER_LEN, encode_trailer},
    checksum::{Crc, Update},
    device::Object,
    drive::{Answer, Machine, Step, Stop, Stopped, Turn},
    fault::Fault,
    segment::Geometry,
};

/// The machine that writes a checkpoint under its own name and syncs it.
///
/// The host's [`fill`](crate::Host::fill) gives, in this order: the document ids and the chunk ids, 16 bytes each, and
/// the metadata, as many bytes as the header says; then the application's snapshot, until it gives none. The log must be
/// durable up to the checkpoint's LSN before; the entry that names the checkpoint is appended after.
#[derive(Debug)]
pub struct PutCheckpoint {
    header: CheckpointHeader,
    geometry: Geometry,
    crc: Crc,
    state: Put,
    /// Bytes of ids and metadata still to come.
    fixed: u64,
    /// Where the buffer's first byte goes.
    at: u64,
    /// Bytes in the buffer.
    pending: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    Create,
    Header,
    Fixed { asked: bool },
    Block { asked: bool },
    End,
    Rest,
    Sync,
    Done,
}

const BLOCK_LEN: usize = 4;

impl PutCheckpoint {
    /// Writes the checkpoint with this header.
    #[must_use]
    pub fn new(update: Update, header: CheckpointHeader, geometry: Geometry) -> Self {
        let fixed = header.snapshot_offset() - HEADER_LEN as u64;
        Self { header, geometry, crc: Crc::new(update), state: Put::Create, fixed, at: 0, pending: 0 }
    }

    fn object(&self) -> Object {
        Object::Checkpoint(self.header.id)
    }

    /// Puts bytes into the buffer behind what is there.
    fn put(&mut self, buf: &mut [u8], bytes: &[u8]) {
        buf[self.pending..self.pending + bytes.len()].copy_from_slice(bytes);
        self.crc = self.crc.with(bytes);
        self.pending += bytes.len();
    }

    /// Writes the whole granules in the buffer, if less than `room` bytes are free behind them.
    fn make_room(&mut self, turn: &mut Turn<'_>, room: usize) -> Result<(), Stopped> {
        let buf = &mut *turn.buf;
        if buf.len() - self.pending >= room {
            return Ok(());
        }
        let granule = self.geometry.granule as usize;
        let whole = self.pending & !(granule - 1);
        if whole == 0 {
            return Err(turn.fault(Fault::BufferTooSmall { needed: room + granule }));
        }
        // Written from behind what stays, which is moved to the front first: the step reads the buffer afterwards.
        buf[..self.pending].rotate_left(whole);
        let rest = self.pending - whole;
        let write = Step::Write { object: self.object(), at: self.at, from: rest..self.pending };
        self.at += whole as u64;
        self.pending = rest;
        Err(turn.need(write))
    }

    fn advance(&mut self, turn: &mut Turn<'_>) -> Result<u64, Stopped> {
        loop {
            match self.state {
                Put::Create => {
                    // Before it takes room.
                    let least = 2 * HEADER_LEN + self.geometry.granule as usize;
                    if turn.buf.len() < least {
                        return Err(turn.fault(Fault::BufferTooSmall { needed: least }));
                    }
                    self.state = Put::Header;
                    let size = self.header.snapshot_offset() + TRAILER_LEN as u64;
                    return Err(turn.need(Step::Create { object: self.object(), size }));
                }
                Put::Header => {
                    self.put(turn.buf, &self.header.encode());
                    self.state = Put::Fixed { asked: false };
                }
                Put::Fixed { .. } if self.fixed == 0 => self.state = Put::Block { asked: false },
                Put::Fixed { asked: false } => {
                    self.make_room(turn, 1)?;
                    self.state = Put::Fixed { asked: true };
                    let most = usize::try_from(self.fixed).unwrap_or(usize::MAX);
                    let end = turn.buf.len().min(self.pending.saturating_add(most));
                    return Err(turn.need(Step::Fill { into: self.pending..end }));
                }
                Put::Fixed { asked: true } => {
                    let moved = moved(turn)?;
                    if moved == 0 {
                        return Err(turn.fault(Fault::SnapshotTooShort { missing: self.fixed }));
                    }
                    self.crc = self.crc.with(&turn.buf[self.pending..self.pending + moved]);
                    self.pending += moved;
                    self.fixed = self.fixed.saturating_sub(moved as u64);
                    self.state = Put::Fixed { asked: false };
                }
                Put::Block { asked: false } => {
                    self.make_room(turn, BLOCK_LEN + 1)?;
                    self.state = Put::Block { asked: true };
                    return Err(turn.need(Step::Fill { into: self.pending + BLOCK_LEN..turn.buf.len() }));
                }
                Put::Block { asked: true } => {
                    let moved = moved(turn)?;
                    self.state = if moved == 0 { Put::End } else { Put::Block { asked: false } };
                    if moved > 0 {
                        let Ok(len) = u32::try_from(moved) else {
                            return Err(turn.fault(Fault::BufferTooSmall { needed: moved }));
                        };
                        self.put(turn.buf, &len.to_le_bytes());
                        self.crc = self.crc.with(&turn.buf[self.pending..self.pending + moved]);
                        self.pending += moved;
                    }
                }
                Put::End => {
                    self.make_room(turn, BLOCK_LEN + TRAILER_LEN)?;
                    self.put(turn.buf, &[0; BLOCK_LEN]);
                    let trailer = encode_trailer(self.at + self.pending as u64, self.crc);
                    self.put(turn.buf, &trailer);
                    self.state = Put::Rest;
                }
                Put::Rest => {
                    let granule = self.geometry.granule as usize;
                    let end = self.pending.next_multiple_of(granule);
                    if end > turn.buf.len() {
                        self.make_room(turn, end - self.pending)?;
                    }
                    turn.buf[self.pending..end].fill(self.geometry.blank);
                    self.state = Put::Sync;
                    return Err(turn.need(Step::Write { object: self.object(), at: self.at, from: 0..end }));
                }
                Put::Sync => {
                    self.state = Put::Done;
                    return Err(turn.need(Step::Sync));
                }
                Put::Done => return Ok(self.at + self.pending as u64),
            }
        }
    }
}

impl Machine for PutCheckpoint {
    type Output = u64;

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<u64, Stop> {
        Turn::run(buf, answer, |turn| self.advance(turn))
    }
}

fn moved(turn: &mut Turn<'_>) -> Result<usize, Stopped> {
    match turn.answer() {
        Answer::Moved(moved) => Ok(moved),
        _ => Err(turn.fault(Fault::SnapshotBrokenOff)),
    }
}

/// What a reader of a checkpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// To see whether it is complete and valid.
    Check,
    /// To hand its parts to the host, which must not believe them before the end.
    HandOut,
}

/// The machine that reads a checkpoint. Gives its header, or why it is not valid.
#[derive(Debug)]
pub struct ReadCheckpoint {
    id: CheckpointId,
    log: Uuid,
    reading: Reading,
    checker: Checker,
    at: u64,
    /// What is in the buffer and was not taken.
    have: Range<usize>,
    asked: bool,
    ended: bool,
}

impl ReadCheckpoint {
    /// Reads the checkpoint `id` of the log `log`.
    #[must_use]
    pub fn new(update: Update, log: Uuid, id: CheckpointId, reading: Reading) -> Self {
        let checker = Checker::new(update);
        Self { id, log, reading, checker, at: 0, have: 0..0, asked: false, ended: false }
    }

    pub(crate) fn advance(
        &mut self,
        turn: &mut Turn<'_>,
    ) -> Result<Result<CheckpointHeader, CheckpointError>, Stopped> {
        let object = Object::Checkpoint(self.id);
        loop {
            if core::mem::replace(&mut self.asked, false) {
                match turn.answer() {
                    Answer::Moved(0) => self.ended = true,
                    Answer::Moved(moved) => {
                        self.have = 0..moved;
                        self.at += moved as u64;
                    }
                    _ => return Err(turn.fault(Fault::Unreadable { object, offset: self.at })),
                }
            }
            if self.checker.is_complete() {
                let Some(&header) = self.checker.header() else { return Err(turn.fault(Fault::NoLog)) };
                let ours = header.id == self.id && header.log == self.log;
                return Ok(if ours { Ok(header) } else { Err(CheckpointError::WrongMagic) });
            }
            if self.have.is_empty() {
                if self.ended {
                    return Ok(Err(CheckpointError::Short));
                }
                self.asked = true;
                return Err(turn.need(Step::Read { object, at: self.at, into: 0..turn.buf.len() }));
            }
            let piece = match self.checker.take(&turn.buf[self.have.clone()]) {
                Ok(piece) => piece,
                Err(error) => return Ok(Err(error)),
            };
            let bytes = self.have.start..self.have.start + piece.len;
            self.have.start = bytes.end;
            let part =
                matches!(piece.section, Section::DocumentIds | Section::ChunkIds | Section::Metadata | Section::Block);
            if part && self.reading == Reading::HandOut {
                return Err(turn.need(Step::Piece { section: piece.section, bytes }));
            }
        }
    }
}

impl Machine for ReadCheckpoint {
    type Output = Result<CheckpointHeader, CheckpointError>;

    fn step(&mut self, buf: &mut [u8], answer: Answer) -> Result<Self::Output, Stop> {
        Turn::run(buf, answer, |turn| self.advance(turn))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{vec, vec::Vec};

    use super::*;
    use crate::checksum::portable;

    const GRANULE: usize = 16;
    /// The shortest buffer that takes a checkpoint.
    const LEAST: usize = 2 * HEADER_LEN + GRANULE;
    /// One document, two chunks, and a pair of metadata.
    const FIXED: &[u8] = b"ddddddddddddddddccccccccccccccccCCCCCCCCCCCCCCCC\x01\x01k\x01v";

    fn header() -> CheckpointHeader {
        CheckpointHeader {
            log: Uuid::from_u128(7),
            epoch: 1,
            id: CheckpointId::new(3),
            documents: 1,
            chunks: 2,
            metadata_len: 5,
            ..CheckpointHeader::default()
        }
    }

    /// What is written for this snapshot, and in how many writes, through a buffer of so many bytes.
    fn written(snapshot: &[u8], buf: usize) -> Result<(Vec<u8>, usize), Fault> {
        let geometry = Geometry {
            segment_size: 8192,
            granule: u32::try_from(GRANULE).unwrap(),
            copy_offset: 128,
            blank: 0xEE,
            settled: false,
            slots: None,
        };
        let mut put = PutCheckpoint::new(portable, header(), geometry);
        let object = Object::Checkpoint(header().id);
        let (mut buf, mut answer, mut bytes) = (vec![0; buf], Answer::Nothing, Vec::new());
        let (mut fixed, mut snapshot, mut writes, mut is_synced) = (FIXED, snapshot, 0, false);
        loop {
            let step = match put.step(&mut buf, answer) {
                Ok(len) => {
                    assert!(is_synced);
                    assert!(bytes.split_off(usize::try_from(len).unwrap()).iter().all(|byte| *byte == 0xEE));
                    return Ok((bytes, writes));
                }
                Err(Stop::Need(step)) => step,
                Err(Stop::Fault(fault)) => return Err(fault),
            };
            answer = Answer::Nothing;
            match step {
                Step::Create { object: created, size } => assert_eq!((created, size), (object, 80 + 53 + 12)),
                Step::Write { object: to, at, from } => {
                    assert_eq!((to, at), (object, bytes.len() as u64), "one write follows the other");
                    assert!(!from.is_empty() && from.len().is_multiple_of(GRANULE), "{from:?}");
                    bytes.extend(&buf[from]);
                    writes += 1;
                }
                Step::Fill { into } => {
                    assert!(!into.is_empty(), "there is room for a byte at least");
                    let source = if fixed.is_empty() { &mut snapshot } else { &mut fixed };
                    let (now, later) = source.split_at(into.len().min(source.len()));
                    buf[into][..now.len()].copy_from_slice(now);
                    *source = later;
                    answer = Answer::Moved(now.len());
                }
                Step::Sync => is_synced = true,
                step => panic!("{step:?}"),
            }
        }
    }

    type Parts = Vec<(Section, Vec<u8>)>;

    /// What a reader for this log and checkpoint makes of these bytes, and the parts that it hands out.
    fn read(bytes: &[u8], log: u128, id: u64, reading: Reading) -> (Result<CheckpointHeader, CheckpointError>, Parts) {
        let mut read = ReadCheckpoint::new(portable, Uuid::from_u128(log), CheckpointId::new(id), reading);
        let (mut buf, mut answer, mut parts) = ([0; 100], Answer::Nothing, Vec::<(_, Vec<u8>)>::new());
        loop {
            answer = match read.step(&mut buf, answer) {
                Ok(header) => return (header, parts),
                Err(Stop::Need(Step::Read { at, into, .. })) => {
                    let rest = &bytes[usize::try_from(at).unwrap()..];
                    let moved = into.len().min(rest.len());
                    buf[into][..moved].copy_from_slice(&rest[..moved]);
                    Answer::Moved(moved)
                }
                Err(Stop::Need(Step::Piece { section, bytes })) => {
                    match parts.last_mut().filter(|(last, _)| *last == section) {
                        Some((_, part)) => part.extend(&buf[bytes]),
                        None => parts.push((section, buf[bytes].to_vec())),
                    }
                    Answer::Nothing
                }
                Err(stop) => panic!("{stop:?}"),
            };
        }
    }

    #[test]
    fn whatever_the_buffer_what_was_filled_in_is_written_whole_and_in_whole_granules() {
        let snapshot: Vec<u8> = (0..=150).collect();
        for buf in LEAST..LEAST + 3 * GRANULE {
            for len in 0..snapshot.len() {
                let (bytes, _) = written(&snapshot[..len], buf).unwrap();
                let (header_read, parts) = read(&bytes, 7, 3, Reading::HandOut);
                assert_eq!(header_read, Ok(header()), "{len} bytes through {buf}");
                let expected = [
                    (Section::DocumentIds, &FIXED[..16]),
                    (Section::ChunkIds, &FIXED[16..48]),
                    (Section::Metadata, &FIXED[48..]),
                    (Section::Block, &snapshot[..len]),
                ];
                let is_some = |(_, bytes): &&(Section, &[u8])| !bytes.is_empty();
                assert!(
                    parts
                        .iter()
                        .map(|(section, bytes)| (*section, &bytes[..]))
                        .eq(expected.iter().filter(is_some).copied()),
                    "{len} bytes through {buf}: {parts:?}"
                );
            }
        }
    }

    #[test]
    fn a_buffer_is_too_short_where_it_does_not_hold_two_headers_and_a_granule() {
        for buf in [0, 97, 98, LEAST - 1] {
            assert_eq!(written(b"", buf), Err(Fault::BufferTooSmall { needed: LEAST }));
        }
        assert!(written(b"", LEAST).is_ok());
    }

    #[test]
    fn a_buffer_that_is_too_small_is_refused_before_the_checkpoint_takes_room() {
        let geometry =
            Geometry { segment_size: 8192, granule: 16, copy_offset: 128, blank: 0, settled: false, slots: None };
        let mut put = PutCheckpoint::new(portable, header(), geometry);
        let refused = put.step(&mut [0; LEAST - 1], Answer::Nothing);
        assert!(matches!(refused, Err(Stop::Fault(Fault::BufferTooSmall { needed: LEAST }))), "{refused:?}");
    }

    #[test]
    fn what_fits_the_buffer_to_the_last_byte_is_written_at_once() {
        // The header, the ids and the metadata, one block, and the end.
        let whole = |snapshot: usize| HEADER_LEN + FIXED.len() + BLOCK_LEN + snapshot + BLOCK_LEN + TRAILER_LEN;
        let snapshot = vec![1; 256 - whole(0)];
        let (bytes, writes) = written(&snapshot, 256).unwrap();
        assert_eq!((bytes.len(), writes), (256, 1));
        let (bytes, writes) = written(&snapshot, 255).unwrap();
        assert_eq!((bytes.len(), writes), (256, 2));
    }

    #[test]
    fn a_checkpoint_is_the_one_of_this_log_and_number_and_only_then_any() {
        let (bytes, _) = written(b"abc", 1024).unwrap();
        for (log, id, is_ours) in [(7, 3, true), (8, 3, false), (7, 4, false), (8, 4, false)] {
            let expected = if is_ours { Ok(header()) } else { Err(CheckpointError::WrongMagic) };
            assert_eq!(read(&bytes, log, id, Reading::Check), (expected, Vec::new()), "and nothing is handed out");
        }
    }
}
