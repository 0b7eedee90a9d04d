//! Frame after frame through one segment, and the search for sound frames behind bad bytes.

use core::{num::NonZeroU64, ops::Range};

use crate::{
    Lsn,
    checksum::Update,
    device::Object,
    drive::{Place, Stopped, Turn},
    frame::{
        FRAME_HEADER_LEN, FRAME_MAGIC, FRAME_OVERHEAD, FRAME_TRAILER_LEN, FrameHeader, FrameType, Salts, claimed_size,
    },
    report::Seen,
    segment::{SegmentHeader, SegmentId, align_up},
    window::{Bytes, Window},
};

/// A sound frame: both checksums fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

    /// Where it stands, for whoever it is handed to.
    pub(crate) fn place(&self, segment: SegmentId) -> Place {
        let FrameHeader { lsn, timestamp, kind, .. } = self.header;
        Place { lsn, timestamp, kind, segment, offset: self.at, payload: self.payload.clone() }
    }
}

/// What a frame was that does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Was {
    pub(crate) kind: FrameType,
    /// The transaction that it was of, if that is known.
    pub(crate) transaction: Option<NonZeroU64>,
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
    frame: Frame,
}

impl Cursor {
    /// A cursor at `at` of the segment with this header; frames end at or before `limit`.
    pub(crate) fn new(update: Update, header: &SegmentHeader, at: u32, limit: u32) -> Self {
        let limit = limit.min(header.segment_size);
        Self {
            window: Window::new(Object::Segment(header.id), u64::from(limit)),
            salts: Salts::of(update, header),
            blank: header.blank,
            granule: header.granule,
            limit,
            at,
            frame: Frame::default(),
        }
    }

    /// The segment.
    pub(crate) fn object(&self) -> Object {
        self.window.object()
    }

    /// The sound frame that was found last.
    pub(crate) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Takes the frames for those of a segment of this epoch and nonce.
    pub(crate) fn salt(&mut self, update: Update, header: &SegmentHeader) {
        self.salts = Salts::of(update, header);
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

    /// What stands here. Of a good frame the cursor is behind it, and [`frame`](Self::frame) tells what it is; before
    /// anything else the cursor stays.
    pub(crate) fn next(&mut self, turn: &mut Turn<'_>) -> Result<Seen, Stopped> {
        while self.at < self.limit {
            let head = match self.window.get(turn, u64::from(self.at), FRAME_HEADER_LEN)? {
                Bytes::Whole(head) | Bytes::Short(head) => turn.bytes(&head),
                Bytes::Unreadable => return Ok(Seen::Unreadable),
            };
            let aligned = align_up(self.at, self.granule);
            if self.at != aligned && head.first().is_none_or(|&byte| byte == self.blank) {
                // The rest of a write's last granule.
                self.at = aligned.min(self.limit);
                continue;
            }
            return match self.salts.header(head, self.at) {
                Ok(header) => self.whole(turn, header),
                Err(_) if head.iter().all(|&byte| byte == self.blank) => Ok(Seen::End),
                Err(_) => Ok(Seen::BadHeader),
            };
        }
        Ok(Seen::End)
    }

    /// The frame that this sound header begins.
    fn whole(&mut self, turn: &mut Turn<'_>, header: FrameHeader) -> Result<Seen, Stopped> {
        if header.size > self.limit - self.at {
            return Ok(Seen::BadHeader);
        }
        let frame = match self.window.get(turn, u64::from(self.at), header.size as usize)? {
            Bytes::Whole(frame) => frame,
            Bytes::Short(_) => return Ok(Seen::BadEntry),
            Bytes::Unreadable => return Ok(Seen::Unreadable),
        };
        if !self.fits(turn.buf, &frame) {
            return Ok(Seen::BadEntry);
        }
        self.take(&frame, header);
        Ok(Seen::Good)
    }

    /// Whether the entry checksum of the frame that stands here fits.
    pub(crate) fn fits(&self, buf: &mut [u8], frame: &Range<usize>) -> bool {
        self.salts.fits_in(buf, frame, self.at)
    }

    /// Goes behind the sound frame that stands here.
    pub(crate) fn take(&mut self, frame: &Range<usize>, header: FrameHeader) {
        let payload = frame.start + FRAME_HEADER_LEN..frame.end - FRAME_TRAILER_LEN;
        self.frame = Frame { at: self.at, end: self.at + header.size, header, payload };
        self.at = self.frame.end;
    }

    /// The header of the frame that stands here, where it is sound and the whole frame in the buffer. It is none of what
    /// [`next`](Self::next) passes over.
    pub(crate) fn ready(&self, buf: &[u8]) -> Option<(Range<usize>, FrameHeader)> {
        let head = self.window.there(u64::from(self.at), FRAME_HEADER_LEN)?;
        let head = buf.get(head)?;
        if head[0] == self.blank {
            return None;
        }
        let header = self.salts.header(head, self.at).ok()?;
        if header.size > self.limit.checked_sub(self.at)? {
            return None;
        }
        Some((self.window.there(u64::from(self.at), header.size as usize)?, header))
    }

    /// What the frame was that stood from `at` up to `end` at the most, with this LSN, and does not verify, if no more than one
    /// byte of its header is wrong. Whose it was is told where no more than one of all its bytes is, and it fits into the buffer.
    pub(crate) fn mend(&mut self, turn: &mut Turn<'_>, at: u32, end: u32, lsn: Lsn) -> Result<Option<Was>, Stopped> {
        let room = end.saturating_sub(at);
        let Bytes::Whole(head) = self.window.get(turn, u64::from(at), FRAME_HEADER_LEN)? else { return Ok(None) };
        let head = turn.bytes(&head);
        let header = self.salts.mend_header(head, at, lsn);
        let was = header.map(|(kind, _)| Was { kind, transaction: None });
        let size = header.map_or(claimed_size(head), |(_, size)| size);
        let size = if (FRAME_OVERHEAD..=room).contains(&size) { size } else { room };
        if was.is_some_and(|was| !was.kind.is_in_transaction() || size as usize > turn.buf.len()) {
            return Ok(was);
        }
        let Bytes::Whole(frame) = self.window.get(turn, u64::from(at), size as usize)? else { return Ok(was) };
        let Some(frame) = turn.buf.get_mut(frame) else { return Ok(was) };
        Ok(match was {
            Some(was) => {
                Some(Was { transaction: self.salts.mend_transaction(frame, at, lsn).and_then(NonZeroU64::new), ..was })
            }
            // Its header's checksum itself may be what is wrong: then the entry's tells.
            None => self
                .salts
                .mend_checksum(frame, at)
                .map(|(kind, id)| Was { kind, transaction: id.and_then(NonZeroU64::new) }),
        })
    }

    /// A search for frames that begin in the `distance` bytes from here on.
    pub(crate) fn search(&self, distance: u32) -> Search {
        let until = self.at.saturating_add(distance).min(self.limit);
        Search { until, debris_end: self.at, unreadable: false }
    }
}

/// Whether all bytes are blank: the first is, and each of the others is like the one before it. Most of a segment may be, and
/// a comparison of that much memory is as fast as it gets.
fn is_blank(bytes: &[u8], blank: u8) -> bool {
    bytes.split_first().is_none_or(|(first, rest)| *first == blank && bytes.starts_with(rest))
}

/// How far a search goes on at once where the device cannot read: a sector, the least that a medium loses.
const UNREADABLE_STEP: u32 = 512;

/// A search for sound frames behind bad bytes, byte by byte. It moves the cursor along.
#[derive(Clone, Debug)]
pub(crate) struct Search {
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

    /// Whether there is another sound frame; not when none begins within the distance. It is the cursor's then.
    pub(crate) fn next(&mut self, cursor: &mut Cursor, turn: &mut Turn<'_>) -> Result<bool, Stopped> {
        while cursor.at < self.until {
            let at = cursor.at;
            match cursor.window.get(turn, u64::from(at), FRAME_HEADER_LEN)? {
                Bytes::Unreadable => {
                    self.unreadable = true;
                    cursor.at = align_up(at + 1, UNREADABLE_STEP);
                    continue;
                }
                Bytes::Short(rest) => {
                    let len = rest.len();
                    self.pass(cursor, turn.bytes(&rest), len);
                    return Ok(false);
                }
                Bytes::Whole(_) => {}
            }
            let seen = turn.bytes(&cursor.window.buffered(u64::from(at)));
            let whole_headers = seen.len() - (FRAME_HEADER_LEN - 1);
            if is_blank(&seen[..whole_headers], cursor.blank) {
                self.pass(cursor, &[], whole_headers);
                continue;
            }
            let magic = seen.windows(FRAME_MAGIC.len()).take(whole_headers).position(|w| w == FRAME_MAGIC);
            let clear = magic.unwrap_or(whole_headers);
            if clear > 0 {
                self.pass(cursor, seen, clear);
                continue;
            }
            if let Ok(header) = cursor.salts.header(seen, at)
                && cursor.whole(turn, header)? == Seen::Good
            {
                self.debris_end = cursor.at;
                return Ok(true);
            }
            // No frame begins at this byte of the magic.
            self.pass(cursor, &FRAME_MAGIC, 1);
        }
        Ok(false)
    }

    /// Goes over the first `len` of the bytes at the cursor.
    fn pass(&mut self, cursor: &mut Cursor, bytes: &[u8], len: usize) {
        let within = len.min(self.until.saturating_sub(cursor.at) as usize);
        if let Some(last) = bytes.iter().take(within).rposition(|&byte| byte != cursor.blank) {
            let behind = u32::try_from(last + 1).unwrap_or(u32::MAX);
            self.debris_end = self.debris_end.max(cursor.at.saturating_add(behind));
        }
        cursor.at = cursor.at.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
    }
}
