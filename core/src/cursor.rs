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

    /// From now on it is at `at` of the segment with this header: the same as a new one, in the place of this one.
    pub(crate) fn restart(&mut self, update: Update, header: &SegmentHeader, at: u32, limit: u32) {
        self.limit = limit.min(header.segment_size);
        self.window = Window::new(Object::Segment(header.id), u64::from(self.limit));
        self.salt(update, header);
        (self.blank, self.granule, self.at) = (header.blank, header.granule, at);
        self.frame = Frame::default();
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

    /// Whoever looks at the frames from here on may come back for them all at once.
    pub(crate) fn keep(&mut self, from: Option<u32>) {
        self.window.keep(from.map(u64::from));
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
    /// [`next`](Self::next) passes over, for no frame begins with a blank byte.
    pub(crate) fn ready(&self, buf: &[u8]) -> Option<(Range<usize>, FrameHeader)> {
        let head = self.window.there(u64::from(self.at), FRAME_HEADER_LEN)?;
        let header = self.salts.header(buf.get(head)?, self.at).ok()?;
        // What is in the buffer does not reach beyond the limit.
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
            let whole_headers = seen.windows(FRAME_HEADER_LEN).len();
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

#[cfg(test)]
mod tests {
    extern crate std;
    use std::{vec, vec::Vec};

    use super::*;
    use crate::{
        checksum::portable,
        drive::{Answer, Step, Stop},
        frame::Mark,
    };

    const ENTRY: FrameType = FrameType::new(10);
    const MARK: FrameType = FrameType::new(Mark::Durable.code());
    const GRANULE: u32 = 16;
    /// Where frames begin here.
    const START: u32 = 256;
    /// Bytes of a segment here.
    const SIZE: u32 = START + 1024;

    /// A segment on a medium, and the buffer that it is looked at through.
    #[derive(Clone)]
    struct Segment {
        header: SegmentHeader,
        bytes: Vec<u8>,
        unreadable: Range<usize>,
        buf: Vec<u8>,
        reads: usize,
    }

    impl Segment {
        /// One whose room for frames is blank, and a buffer that holds all of it.
        fn blank(blank: u8) -> Self {
            let geometry = SegmentHeader { granule: GRANULE, blank, segment_size: SIZE, ..SegmentHeader::NONE };
            let header = SegmentHeader { id: SegmentId::new(3), nonce: 7, copy_offset: 128, ..geometry };
            assert_eq!(header.frames_at(), START);
            let mut bytes = vec![0xA5; START as usize];
            bytes.resize(SIZE as usize, blank);
            Self { header, bytes, unreadable: 0..0, buf: vec![0; SIZE as usize], reads: 0 }
        }

        /// With a frame at `at`; where that ends.
        fn put(&mut self, at: u32, lsn: u64, kind: FrameType, payload: &[u8]) -> u32 {
            let mut frame = vec![0; FRAME_OVERHEAD as usize + payload.len()];
            frame[FRAME_HEADER_LEN..][..payload.len()].copy_from_slice(payload);
            Salts::of(portable, &self.header).complete(&mut frame, at, Lsn::new(lsn), 1, kind);
            self.bytes[at as usize..][..frame.len()].copy_from_slice(&frame);
            at + u32::try_from(frame.len()).unwrap()
        }

        /// With one byte changed.
        fn damaged(mut self, at: u32) -> Self {
            self.bytes[at as usize] ^= 0x41;
            self
        }

        fn cursor(&self, at: u32) -> Cursor {
            Cursor::new(portable, &self.header, at, SIZE)
        }

        /// Goes on until it is done, which takes nothing but reads.
        fn read<T>(&mut self, mut look: impl FnMut(&mut Turn<'_>) -> Result<T, Stopped>) -> T {
            let mut answer = Answer::Nothing;
            loop {
                match Turn::run(&mut self.buf, answer, &mut look) {
                    Ok(found) => return found,
                    Err(Stop::Need(Step::Read { object: Object::Segment(id), at, into })) => {
                        assert_eq!(id, self.header.id);
                        self.reads += 1;
                        let at = usize::try_from(at).unwrap();
                        let end = self.bytes.len().min(at + into.len());
                        let is_read = end <= self.unreadable.start || at >= self.unreadable.end;
                        answer = if is_read { Answer::Moved(end - at) } else { Answer::Unreadable };
                        if is_read {
                            self.buf[into][..end - at].copy_from_slice(&self.bytes[at..end]);
                        }
                    }
                    Err(stop) => panic!("{stop:?}"),
                }
            }
        }

        /// What stands at the cursor.
        fn next(&mut self, cursor: &mut Cursor) -> Seen {
            self.read(|turn| cursor.next(turn))
        }

        /// The places of the sound frames that begin in the `distance` bytes from `at` on, and the search for them.
        fn search(&mut self, at: u32, distance: u32) -> (Vec<u32>, Search) {
            let (mut cursor, mut found) = (self.cursor(at), Vec::new());
            let mut search = cursor.search(distance);
            while self.read(|turn| search.next(&mut cursor, turn)) {
                assert_eq!((cursor.at(), search.debris_end()), (cursor.frame().end, cursor.frame().end));
                found.push(cursor.frame().at);
            }
            (found, search)
        }
    }

    #[test]
    fn what_is_no_frame_is_the_end_only_where_the_whole_header_is_blank() {
        for blank in [0, 0xFF] {
            let seen = |at: u32| {
                let mut segment = Segment::blank(blank).damaged(at);
                let mut cursor = segment.cursor(START);
                (segment.next(&mut cursor), cursor.at())
            };
            let header = START..START + u32::try_from(FRAME_HEADER_LEN).unwrap();
            for at in header.clone() {
                assert_eq!(seen(at), (Seen::BadHeader, START), "byte {at}");
            }
            assert_eq!([seen(header.start - 1), seen(header.end)], [(Seen::End, START); 2]);
        }
    }

    #[test]
    fn a_frame_ends_at_the_limit_or_before() {
        let mut segment = Segment::blank(0xFF);
        let end = segment.put(START, 5, ENTRY, b"a payload");
        for (limit, seen, at) in [
            (end + 1, Seen::Good, end),
            (end, Seen::Good, end),
            (end - 1, Seen::BadHeader, START),
            (START + 1, Seen::BadHeader, START),
            (START, Seen::End, START),
        ] {
            let mut cursor = Cursor::new(portable, &segment.header, START, limit);
            assert_eq!((segment.next(&mut cursor), cursor.at()), (seen, at), "limit {limit}");
        }
        // The room ends before the segment's header says so.
        segment.bytes.truncate(end as usize - 1);
        let mut cursor = segment.cursor(START);
        assert_eq!((segment.next(&mut cursor), cursor.at()), (Seen::BadEntry, START));
    }

    #[test]
    fn what_is_forgotten_is_read_again() {
        let mut segment = Segment::blank(0xFF);
        let first = segment.put(START, 5, ENTRY, b"one");
        let at = align_up(first, GRANULE);
        let second = segment.put(at, 6, ENTRY, b"two");
        let mut cursor = segment.cursor(START);
        assert_eq!((segment.next(&mut cursor), cursor.at(), segment.reads), (Seen::Good, first, 1));
        let mut forgetful = cursor.clone();
        assert_eq!((segment.next(&mut cursor), cursor.at(), segment.reads), (Seen::Good, second, 1));
        // Somebody else puts something into the buffer.
        segment.buf.fill(0x11);
        forgetful.forget();
        assert_eq!((segment.next(&mut forgetful), forgetful.at(), segment.reads), (Seen::Good, second, 2));
        assert_eq!(segment.buf[forgetful.frame().payload.clone()], *b"two");
    }

    #[test]
    fn ready_is_each_frame_that_stands_whole_in_the_buffer_as_it_is_found_step_by_step() {
        let mut whole = Segment::blank(0);
        let (mut at, mut frames) = (START, 0);
        for (lsn, kind, payload) in [(5, ENTRY, &b"one"[..]), (6, ENTRY, b""), (6, MARK, &[0; 8]), (7, ENTRY, b"three")]
        {
            // Two frames of one write follow each other at once, what is written later begins at a granule.
            at = whole.put(at, lsn, kind, payload);
            at = if lsn == 5 { at } else { align_up(at, GRANULE) };
            frames += 1;
        }
        // Of a frame that is damaged the header may stand there all the same.
        whole.put(at, 8, ENTRY, b"a longer payload");
        let whole = whole.damaged(at + 33);
        for (size, limit) in [(SIZE, SIZE), (SIZE, at), (SIZE, at - 20), (100, SIZE), (64, at)] {
            let mut segment = whole.clone();
            segment.buf.truncate(size as usize);
            let (mut ready, mut found) = (0, 0);
            for begun in [START, START + 36] {
                let mut cursor = Cursor::new(portable, &segment.header, begun, limit);
                segment.next(&mut cursor);
                for place in 0..SIZE + 40 {
                    cursor.go(place);
                    let told = cursor.ready(&segment.buf);
                    let mut taken = cursor.clone();
                    let is_sound = told.is_some_and(|(frame, header)| {
                        let fits = cursor.fits(&mut segment.buf, &frame);
                        taken.take(&frame, header);
                        fits
                    });
                    let mut stepping = cursor.clone();
                    let mut looked = segment.clone();
                    let is_found = looked.next(&mut stepping) == Seen::Good && stepping.frame().at == place;
                    // Of what is not in the buffer nothing is ready, for it takes a read.
                    let is_there = looked.reads == segment.reads;
                    assert_eq!(is_sound, is_found && is_there, "{place} of {limit}, {size} bytes");
                    if is_sound {
                        assert_eq!((taken.frame(), taken.at()), (stepping.frame(), stepping.at()));
                    }
                    ready += usize::from(is_sound);
                    found += usize::from(is_found);
                }
            }
            assert!(ready > 0 && ready <= found && found <= 2 * frames, "{ready} of {found}");
        }
    }

    #[test]
    fn of_a_damaged_frame_it_is_told_whose_it_was_where_it_was_a_transactions_and_fits_into_the_buffer() {
        let lsn = 300;
        for (kind, transaction) in [(ENTRY, None), (ENTRY.in_transaction(), NonZeroU64::new(200)), (MARK, None)] {
            let mut segment = Segment::blank(0xFF);
            let end = segment.put(START, lsn, kind, &[&200u64.to_le_bytes()[..], b"and the payload"].concat());
            // A byte of the size, of the checksum, and of the timestamp.
            for at in [START + 4, START + 9, START + 21] {
                let (damaged, len) = (segment.clone().damaged(at), (end - START) as usize);
                let mended = |room: usize, behind: u32| {
                    let mut segment = damaged.clone();
                    segment.buf.truncate(room);
                    let mut cursor = segment.cursor(START);
                    segment.read(|turn| cursor.mend(turn, START, behind, Lsn::new(lsn)))
                };
                for room in [len, len + 1] {
                    let told = mended(room, end);
                    assert_eq!(told, Some(Was { kind, transaction }), "byte {at}, a buffer of {room} bytes");
                }
                // Its header checksum is mended by the whole frame alone.
                if at != START + 9 {
                    let told = Some(Was { kind, transaction: None });
                    assert_eq!(mended(len - 1, SIZE), told, "byte {at}: nobody asks for a larger buffer");
                }
            }
        }
    }

    #[test]
    fn bytes_are_blank_where_each_of_them_is() {
        for blank in [0, 0xFF] {
            for len in 0..5 {
                let mut bytes = vec![blank; len];
                assert!(is_blank(&bytes, blank), "{len} bytes");
                assert_eq!(is_blank(&bytes, 0x55), len == 0, "{len} bytes, and all alike");
                for at in 0..len {
                    bytes[at] = 0x55;
                    assert!(!is_blank(&bytes, blank), "byte {at} of {len}");
                    bytes[at] = blank;
                }
            }
        }
    }

    #[test]
    fn a_search_finds_the_frames_that_begin_within_its_distance() {
        for (room, distance) in [(SIZE, 700), (64, 700), (SIZE, u32::MAX)] {
            let mut segment = Segment::blank(0xFF);
            segment.buf.truncate(room as usize);
            let until = SIZE.min(START.saturating_add(distance));
            // Bad bytes, among them what looks like the beginning of a frame, between frames and before them.
            segment.bytes[START as usize..][..40].fill(0x57);
            segment.bytes[START as usize + 100..][..4].copy_from_slice(&FRAME_MAGIC);
            let mut places = Vec::new();
            for at in [START + 41, START + 150, START + 400, until - 50] {
                segment.put(at, 9, ENTRY, b"");
                places.push(at);
            }
            let (found, search) = segment.search(START, distance);
            assert_eq!((found, search.debris_end()), (places, until - 50 + 33), "{room} bytes, {distance} far");
            assert!(!search.is_blank(START));
        }
        for (at, is_within) in [(299, true), (300, false), (301, false)] {
            let mut segment = Segment::blank(0);
            segment.put(START + at, 9, ENTRY, b"");
            let found = segment.search(START, 300).0;
            assert_eq!(found.len(), usize::from(is_within), "{at} bytes from where the search begins");
        }
    }

    #[test]
    fn a_search_tells_to_the_byte_how_far_something_stands() {
        let from = SIZE - 150;
        for (blank, room) in [(0, SIZE), (0xFF, SIZE), (0xFF, 40)] {
            for (distance, searched) in [(u32::MAX, 150), (150, 150), (149, 149), (60, 60), (1, 1), (0, 0)] {
                for at in 0..150 {
                    let mut segment = Segment::blank(blank).damaged(from - 1).damaged(from + at);
                    segment.buf.truncate(room as usize);
                    let (found, search) = segment.search(from, distance);
                    // What stands before or behind what is searched does not count.
                    let behind = if at < searched { at + 1 } else { 0 };
                    assert_eq!((found, search.debris_end()), (vec![], from + behind), "byte {at} of {searched}");
                    assert_eq!(search.is_blank(from), at >= searched, "byte {at} of {searched}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_blank_and_the_search_goes_on_a_sector_behind_it() {
        for room in [SIZE, 64] {
            let mut segment = Segment::blank(0xFF);
            segment.buf.truncate(room as usize);
            segment.unreadable = 600..601;
            let (found, search) = segment.search(START, u32::MAX);
            assert_eq!((found, search.debris_end(), search.is_blank(START)), (vec![], START, false));
            let (_, search) = segment.search(1024, u32::MAX);
            assert!(search.is_blank(1024), "it can be read from there on");
            let last = segment.put(1024, 9, ENTRY, b"");
            let (found, search) = segment.search(START, u32::MAX);
            assert_eq!((found, search.debris_end(), search.is_blank(START)), (vec![1024], last, false));
        }
    }
}
