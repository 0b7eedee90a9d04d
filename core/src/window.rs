//! The part of an object that is in the scratch buffer: reading in large steps, looking at small pieces.

use core::ops::Range;

use crate::{
    device::Object,
    drive::{Answer, Step, Stopped, Turn},
    fault::Fault,
};

/// What stands at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// All that was asked for, in the buffer.
    Whole(Range<usize>),
    /// Fewer: the object ends there.
    Short(Range<usize>),
    /// The device cannot read it.
    Unreadable,
}

/// A window on one object.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    object: Object,
    /// Where in the object the buffer's first byte stands.
    start: u64,
    /// Bytes that the buffer holds from there.
    len: usize,
    /// Nothing is read from here on: the limit that was given, or where the object was seen to end.
    end: u64,
    /// What stands from here on may be looked at again.
    keep: Option<u64>,
    asked: Asked,
    /// A large read failed: read no more than is wanted, to find out where it fails.
    narrow: bool,
    /// The narrow read failed too: what was wanted then cannot be read.
    failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    Read,
    Grow { needed: usize },
}

impl Window {
    /// A window on the first `limit` bytes of `object`.
    pub(crate) fn new(object: Object, limit: u64) -> Self {
        Self { object, start: 0, len: 0, end: limit, keep: None, asked: Asked::Nothing, narrow: false, failed: false }
    }

    /// The object.
    pub(crate) fn object(&self) -> Object {
        self.object
    }

    /// Forgets what is in the buffer: something else was put there.
    pub(crate) fn forget(&mut self) {
        self.len = 0;
        self.asked = Asked::Nothing;
        self.narrow = false;
        self.failed = false;
    }

    /// From now on what stands from here on stays in the buffer, as long as it fits in with what is wanted.
    pub(crate) fn keep(&mut self, from: Option<u64>) {
        self.keep = from;
    }

    /// The bytes from `at` on that are in the buffer now; `at` was got before.
    pub(crate) fn buffered(&self, at: u64) -> Range<usize> {
        distance(self.start, at)..self.len
    }

    /// The `len` bytes at `at`, if they are in the buffer and nothing has been asked for.
    pub(crate) fn there(&self, at: u64, len: usize) -> Option<Range<usize>> {
        let from = usize::try_from(at.checked_sub(self.start)?).ok()?;
        let end = from.checked_add(len)?;
        (end <= self.len && self.asked == Asked::Nothing).then_some(from..end)
    }

    /// The `len` bytes at `at`, read if need be.
    pub(crate) fn get(&mut self, turn: &mut Turn<'_>, at: u64, len: usize) -> Result<Bytes, Stopped> {
        match core::mem::replace(&mut self.asked, Asked::Nothing) {
            Asked::Read => self.take(turn.answer()),
            Asked::Grow { needed } if turn.buf.len() < needed => {
                return Err(turn.fault(Fault::BufferTooSmall { needed }));
            }
            Asked::Grow { .. } | Asked::Nothing => {}
        }
        // What is there of the bytes wanted, and where in the buffer they begin and end, or would.
        let there = usize::try_from(self.end.saturating_sub(at)).map_or(len, |there| there.min(len));
        let mut from = distance(self.start, at);
        if there == 0 || (at >= self.start && from <= self.len && there <= self.len - from) {
            let found = if there == 0 { 0..0 } else { from..from + there };
            return Ok(if there == len { Bytes::Whole(found) } else { Bytes::Short(found) });
        }
        if core::mem::take(&mut self.failed) {
            self.narrow = false;
            return Ok(Bytes::Unreadable);
        }
        if at < self.start || from > self.len {
            (self.start, self.len, from) = (at, 0, 0);
        }
        let room = turn.buf.len();
        if room.saturating_sub(from) < there {
            let fits =
                |keep: &u64| (self.start..at).contains(keep) && distance(*keep, at).saturating_add(there) <= room;
            let first = self.keep.filter(fits).unwrap_or(at);
            let gone = distance(self.start, first);
            turn.buf.copy_within(gone..self.len, 0);
            self.start = first;
            self.len -= gone;
            from -= gone;
        }
        if room < there {
            self.asked = Asked::Grow { needed: there };
            return Err(turn.need(Step::Grow { needed: there }));
        }
        let read_at = self.start + self.len as u64;
        let most = if self.narrow { from + there } else { distance(self.start, self.end).min(room) };
        self.asked = Asked::Read;
        Err(turn.need(Step::Read { object: self.object, at: read_at, into: self.len..most }))
    }

    /// Takes in what a read brought.
    fn take(&mut self, answer: Answer) {
        match answer {
            Answer::Moved(moved) => {
                self.narrow = false;
                self.len += moved;
                if moved == 0 {
                    self.end = self.start + self.len as u64;
                }
            }
            // Whoever asked may first get what is in the buffer: the failure is told where a read is needed again.
            Answer::Unreadable if self.narrow => self.failed = true,
            Answer::Unreadable => self.narrow = true,
            _ => debug_assert!(false, "the driver answered something else to a read"),
        }
    }
}

/// How far `to` lies behind `from`, as far as a buffer may reach.
fn distance(from: u64, to: u64) -> usize {
    usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;
    use std::{vec, vec::Vec};

    use super::*;
    use crate::{SegmentId, drive::Stop};

    /// The object that is on it.
    pub(crate) const OBJECT: Object = Object::Segment(SegmentId::new(3));

    /// An object on a medium, and the buffer that it is looked at through.
    #[derive(Clone)]
    pub(crate) struct Medium {
        pub(crate) bytes: Vec<u8>,
        pub(crate) unreadable: Range<usize>,
        pub(crate) buf: Vec<u8>,
        /// No read brings more.
        at_once: usize,
        /// How long the buffer can be made.
        room: usize,
        /// What was read: where in the object, and where to.
        reads: Vec<(u64, Range<usize>)>,
    }

    impl Medium {
        pub(crate) fn new(bytes: Vec<u8>, buf: usize) -> Self {
            Self { bytes, unreadable: 0..0, buf: vec![0; buf], at_once: usize::MAX, room: buf, reads: Vec::new() }
        }

        /// Goes on until it is done, which takes nothing but reads and a longer buffer.
        pub(crate) fn run<T>(&mut self, mut look: impl FnMut(&mut Turn<'_>) -> Result<T, Stopped>) -> Result<T, Fault> {
            let mut answer = Answer::Nothing;
            loop {
                answer = match Turn::run(&mut self.buf, answer, &mut look) {
                    Ok(found) => return Ok(found),
                    Err(Stop::Fault(fault)) => return Err(fault),
                    Err(Stop::Need(Step::Grow { .. })) => {
                        self.buf.resize(self.room, 0);
                        Answer::Nothing
                    }
                    Err(Stop::Need(Step::Read { object: OBJECT, at, into })) => self.read(at, into),
                    Err(Stop::Need(step)) => panic!("{step:?}"),
                }
            }
        }

        fn read(&mut self, at: u64, into: Range<usize>) -> Answer {
            self.reads.push((at, into.clone()));
            let at = usize::try_from(at).unwrap();
            let rest = self.bytes.get(at..).unwrap_or_default();
            let moved = into.len().min(rest.len()).min(self.at_once);
            if at < self.unreadable.end && at + moved > self.unreadable.start {
                return Answer::Unreadable;
            }
            self.buf[into][..moved].copy_from_slice(&rest[..moved]);
            Answer::Moved(moved)
        }

        /// Looks at bytes that are all there, and tells what was read for it.
        fn reads_for(&mut self, window: &mut Window, at: usize, len: usize) -> Vec<(u64, Range<usize>)> {
            let Ok(Bytes::Whole(found)) = self.run(|turn| window.get(turn, at as u64, len)) else {
                panic!("{len} bytes at {at}");
            };
            assert_eq!(self.buf[found], self.bytes[at..at + len]);
            core::mem::take(&mut self.reads)
        }
    }

    /// An object each of whose bytes is another, and a buffer of so many bytes.
    fn medium(buf: usize) -> (Medium, Window) {
        (Medium::new((0..64).collect(), buf), Window::new(OBJECT, 64))
    }

    #[test]
    fn what_is_in_the_buffer_is_there_to_the_byte_and_nothing_before_or_behind_it() {
        let (mut medium, mut window) = medium(8);
        assert_eq!(window.there(0, 1), None, "nothing was read");
        medium.reads_for(&mut window, 2, 4);
        for (at, len, there) in [
            (2, 8, Some(0..8)),
            (2, 4, Some(0..4)),
            (9, 1, Some(7..8)),
            (1, 1, None),
            (2, 9, None),
            (9, 2, None),
            (10, 1, None),
            (2, usize::MAX, None),
            (u64::MAX, 1, None),
        ] {
            assert_eq!(window.there(at, len), there, "{len} bytes at {at}");
        }
    }

    #[test]
    fn nothing_is_there_while_something_that_was_asked_for_has_not_come() {
        for wanted in [4, 9] {
            let (mut medium, mut window) = medium(8);
            medium.reads_for(&mut window, 2, 8);
            let stopped = Turn::run(&mut medium.buf, Answer::Nothing, |turn| window.get(turn, 8, wanted));
            assert!(matches!(stopped, Err(Stop::Need(_))), "{stopped:?}");
            assert_eq!(window.there(8, 1), None, "{wanted} bytes were asked for");
        }
    }

    #[test]
    fn what_follows_is_read_behind_what_is_there_as_long_as_it_fits_and_both_stay() {
        let (mut medium, mut window) = medium(16);
        medium.at_once = 8;
        assert_eq!(medium.reads_for(&mut window, 0, 8), [(0, 0..16)]);
        assert_eq!(medium.reads_for(&mut window, 8, 8), [(8, 8..16)]);
        assert_eq!(medium.reads_for(&mut window, 0, 16), []);
        // The buffer is full: of what is there, what is wanted moves to the front.
        assert_eq!(medium.reads_for(&mut window, 12, 8), [(16, 4..16)]);
        assert_eq!(medium.reads_for(&mut window, 16, 8), [], "it came along");
        // What lies further on, or before, leaves nothing of it.
        assert_eq!(medium.reads_for(&mut window, 40, 8), [(40, 0..16)]);
        assert_eq!(medium.reads_for(&mut window, 39, 1), [(39, 0..16)]);
    }

    #[test]
    fn what_is_kept_stays_where_what_is_wanted_fits_in_with_it_and_nothing_else_does() {
        for (keep, first, read) in [
            (None, 13, (16, 3..16)),
            (Some(13), 13, (16, 3..16)),
            (Some(40), 13, (16, 3..16)),
            (Some(12), 12, (16, 4..16)),
            (Some(2), 2, (16, 14..16)),
            (Some(1), 1, (16, 15..16)),
            // Together they are longer than the buffer.
            (Some(0), 13, (16, 3..16)),
        ] {
            let (mut medium, mut window) = medium(16);
            medium.reads_for(&mut window, 0, 16);
            window.keep(keep);
            assert_eq!(medium.reads_for(&mut window, 13, 4), [read], "from {keep:?} on");
            assert_eq!(window.there(first, 4), Some(0..4), "from {keep:?} on");
            assert_eq!(window.there(first - 1, 1), None, "from {keep:?} on");
        }
    }

    #[test]
    fn a_buffer_that_grew_as_was_asked_is_read_into_and_any_that_did_not_is_too_small() {
        for (room, fits) in [(16, false), (19, false), (20, true), (21, true), (64, true)] {
            let (mut medium, mut window) = medium(16);
            medium.room = room;
            let got = medium.run(|turn| window.get(turn, 5, 20));
            let expected = if fits { Ok(Bytes::Whole(0..20)) } else { Err(Fault::BufferTooSmall { needed: 20 }) };
            assert_eq!(got, expected, "made {room} bytes long");
        }
    }

    #[test]
    fn what_is_forgotten_is_read_again_and_so_is_what_was_on_its_way() {
        let (mut medium, mut window) = medium(16);
        medium.reads_for(&mut window, 4, 8);
        // Somebody else puts something into the buffer.
        medium.buf.fill(0xA5);
        window.forget();
        assert_eq!(window.there(4, 1), None);
        assert_eq!(medium.reads_for(&mut window, 6, 8), [(6, 0..16)]);
        let stopped = Turn::run(&mut medium.buf, Answer::Nothing, |turn| window.get(turn, 30, 8));
        assert!(matches!(stopped, Err(Stop::Need(_))), "{stopped:?}");
        window.forget();
        assert_eq!(medium.reads_for(&mut window, 30, 8), [(30, 0..16)]);
    }
}
