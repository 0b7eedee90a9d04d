//! Frame after frame through one segment, and the search for sound frames behind bad bytes.

use core::ops::Range;

use crate::{
    Lsn,
    checksum::Update,
    device::Object,
    drive::{Answer, Stop},
    frame::{FRAME_HEADER_LEN, FRAME_MAGIC, FRAME_OVERHEAD, FrameHeader, FrameType, Salts},
    report::Seen,
    segment::{SegmentHeader, align_up},
    window::{Bytes, Window},
};

/// A sound frame: both checksums fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Where it begins in its segment.
    pub(crate) at: u32,
    /// Where it ends.
    pub(crate) end: u32,
    pub(crate) header: FrameHeader,
    /// Its payload in the buffer.
    pub(crate) payload: Range<usize>,
}

impl Frame {
    /// All its bytes in the buffer.
    pub(crate) fn bytes(&self) -> Range<usize> {
        self.payload.start - FRAME_HEADER_LEN..self.payload.end + 4
    }
}

/// What stands at a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A sound frame; the cursor is behind it.
    Frame(Frame),
    /// Something else; the cursor stays before it.
    Other(Seen),
}

/// A place in a segment, between frames.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    window: Window,
    salts: Salts,
    blank: u8,
    granule: u32,
    limit: u32,
    at: u32,
}

impl Cursor {
    /// A cursor at `at` of the segment with this header; frames end at or before `limit`.
    pub(crate) fn new(update: Update, header: &SegmentHeader, at: u32, limit: u32) -> Self {
        let limit = limit.min(header.segment_size);
        Self {
            window: Window::new(Object::Segment(header.id), u64::from(limit)),
            salts: Salts::new(update, header.log, header.id, header.epoch, header.nonce),
            blank: header.blank,
            granule: header.granule,
            limit,
            at,
        }
    }

    /// The segment.
    pub(crate) fn object(&self) -> Object {
        self.window.object()
    }

    /// Takes the frames for those of a segment of this epoch and nonce.
    pub(crate) fn salt(&mut self, update: Update, header: &SegmentHeader) {
        self.salts = Salts::new(update, header.log, header.id, header.epoch, header.nonce);
    }

    /// Where it is.
    pub(crate) fn at(&self) -> u32 {
        self.at
    }

    /// Goes to another place.
    pub(crate) fn go(&mut self, at: u32) {
        self.at = at;
    }

    /// Forgets what is in the buffer: something else was put there.
    pub(crate) fn forget(&mut self) {
        self.window.forget();
    }

    /// What stands here.
    pub(crate) fn next(&mut self, buf: &mut [u8], answer: &mut Answer) -> Result<Found, Stop> {
        while self.at < self.limit {
            let head = match self.window.get(buf, answer, u64::from(self.at), FRAME_HEADER_LEN)? {
                Bytes::Whole(head) | Bytes::Short(head) => head,
                Bytes::Unreadable => return Ok(Found::Other(Seen::Unreadable)),
            };
            let aligned = align_up(self.at, self.granule);
            if self.at != aligned && buf[head.clone()].first().is_none_or(|&byte| byte == self.blank) {
                // The rest of a write's last granule.
                self.at = aligned.min(self.limit);
                continue;
            }
            return match self.salts.header(&buf[head.clone()], self.at) {
                Ok(header) => self.whole(buf, answer, header),
                Err(_) if buf[head].iter().all(|&byte| byte == self.blank) => Ok(Found::Other(Seen::End)),
                Err(_) => Ok(Found::Other(Seen::BadHeader)),
            };
        }
        Ok(Found::Other(Seen::End))
    }

    /// The frame that this sound header begins.
    fn whole(&mut self, buf: &mut [u8], answer: &mut Answer, header: FrameHeader) -> Result<Found, Stop> {
        if header.size > self.limit - self.at {
            return Ok(Found::Other(Seen::BadHeader));
        }
        let frame = match self.window.get(buf, answer, u64::from(self.at), header.size as usize)? {
            Bytes::Whole(frame) => frame,
            Bytes::Short(_) => return Ok(Found::Other(Seen::BadEntry)),
            Bytes::Unreadable => return Ok(Found::Other(Seen::Unreadable)),
        };
        if !self.salts.entry_fits(&mut buf[frame.clone()], self.at) {
            return Ok(Found::Other(Seen::BadEntry));
        }
        let at = self.at;
        self.at += header.size;
        let payload = frame.start + FRAME_HEADER_LEN..frame.end - 4;
        Ok(Found::Frame(Frame { at, end: self.at, header, payload }))
    }

    /// What the frame was that stood from `at` up to `end` at the most, with this LSN, and does not verify: its type, if
    /// no more than one byte of its header is wrong.
    pub(crate) fn mend(
        &mut self,
        buf: &mut [u8],
        answer: &mut Answer,
        at: u32,
        end: u32,
        lsn: Lsn,
    ) -> Result<Option<FrameType>, Stop> {
        let room = end.saturating_sub(at);
        let head = match self.window.get(buf, answer, u64::from(at), FRAME_HEADER_LEN)? {
            Bytes::Whole(head) => head,
            Bytes::Short(_) | Bytes::Unreadable => return Ok(None),
        };
        if let Some(kind) = self.salts.mend_header(&buf[head.clone()], at, lsn) {
            return Ok(Some(kind));
        }
        // Its header's checksum itself may be what is wrong: then the entry's tells.
        let size = match self.salts.header_size(&buf[head]) {
            size if size >= FRAME_OVERHEAD && size <= room => size,
            _ => room,
        };
        match self.window.get(buf, answer, u64::from(at), size as usize)? {
            Bytes::Whole(frame) => Ok(self.salts.mend_checksum(&mut buf[frame], at)),
            Bytes::Short(_) | Bytes::Unreadable => Ok(None),
        }
    }

    /// A search for frames that begin in the `distance` bytes from here on.
    pub(crate) fn search(&self, distance: u32) -> Search {
        let until = self.at.saturating_add(distance).min(self.limit);
        Search { cursor: self.clone(), until, debris_end: self.at, unreadable: false }
    }
}

/// Whether all bytes are blank: many at once, for most of a segment may be.
fn is_blank(bytes: &[u8], blank: u8) -> bool {
    let (pieces, rest) = bytes.as_chunks::<64>();
    rest.iter().all(|&byte| byte == blank)
        && pieces.iter().all(|piece| piece.iter().fold(0, |other, &byte| other | (byte ^ blank)) == 0)
}

/// How far a search goes on at once where the device cannot read: a sector, the least that a medium loses.
const UNREADABLE_STEP: u32 = 512;

/// A search for sound frames behind bad bytes, byte by byte.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    cursor: Cursor,
    /// No frame that begins here or later is looked for.
    until: u32,
    /// Behind the last byte that is not blank.
    debris_end: u32,
    /// Whether the device could not read some of it.
    unreadable: bool,
}

impl Search {
    /// Behind the last byte seen that is not blank; where the search began, if all are.
    pub(crate) fn debris_end(&self) -> u32 {
        self.debris_end
    }

    /// Whether all that was searched could be read and is blank.
    pub(crate) fn is_blank(&self, from: u32) -> bool {
        !self.unreadable && self.debris_end <= from
    }

    /// The next sound frame, or `None` when none begins within the distance.
    pub(crate) fn next(&mut self, buf: &mut [u8], answer: &mut Answer) -> Result<Option<Frame>, Stop> {
        while self.cursor.at < self.until {
            let at = self.cursor.at;
            match self.cursor.window.get(buf, answer, u64::from(at), FRAME_HEADER_LEN)? {
                Bytes::Unreadable => {
                    let behind = align_up(at + 1, UNREADABLE_STEP);
                    self.unreadable = true;
                    self.pass(buf, 0..0, (behind - at) as usize);
                    continue;
                }
                Bytes::Short(rest) => {
                    let len = rest.len();
                    self.pass(buf, rest, len);
                    return Ok(None);
                }
                Bytes::Whole(_) => {}
            }
            let seen = self.cursor.window.buffered(u64::from(at));
            let whole_headers = seen.len() - (FRAME_HEADER_LEN - 1);
            if is_blank(&buf[seen.start..seen.start + whole_headers], self.cursor.blank) {
                self.pass(buf, 0..0, whole_headers);
                continue;
            }
            let magic = buf[seen.clone()].windows(FRAME_MAGIC.len()).take(whole_headers).position(|w| w == FRAME_MAGIC);
            let clear = magic.unwrap_or(whole_headers);
            if clear > 0 {
                self.pass(buf, seen.start..seen.start + clear, clear);
                continue;
            }
            let header = self.cursor.salts.header(&buf[seen.clone()], at);
            if let Ok(header) = header
                && let Found::Frame(frame) = self.cursor.whole(buf, answer, header)?
            {
                self.debris_end = frame.end;
                return Ok(Some(frame));
            }
            self.pass(buf, seen.start..seen.start + 1, 1);
        }
        Ok(None)
    }

    /// Goes `len` bytes on; `bytes` of them are in the buffer.
    fn pass(&mut self, buf: &[u8], bytes: Range<usize>, len: usize) {
        let within = bytes.len().min(self.until.saturating_sub(self.cursor.at) as usize);
        let bytes = &buf[bytes.start..bytes.start + within];
        if let Some(last) = bytes.iter().rposition(|&byte| byte != self.cursor.blank) {
            let behind = u32::try_from(last + 1).unwrap_or(u32::MAX);
            self.debris_end = self.debris_end.max(self.cursor.at.saturating_add(behind));
        }
        self.cursor.at = self.cursor.at.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
    }
}
