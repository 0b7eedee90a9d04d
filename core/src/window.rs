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
        Self { object, start: 0, len: 0, end: limit, asked: Asked::Nothing, narrow: false, failed: false }
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
            turn.buf.copy_within(from..self.len, 0);
            self.start = at;
            self.len -= from;
            from = 0;
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
