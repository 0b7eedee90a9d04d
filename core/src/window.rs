//! The part of an object that is in the scratch buffer: reading in large steps, looking at small pieces.

use core::ops::Range;

use crate::{
    device::Object,
    drive::{Answer, Step, Stop},
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
    /// Nothing is read from here on.
    limit: u64,
    /// Where the object was seen to end.
    end: Option<u64>,
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
    Grow,
}

impl Window {
    /// A window on the first `limit` bytes of `object`.
    pub(crate) fn new(object: Object, limit: u64) -> Self {
        Self { object, start: 0, len: 0, limit, end: None, asked: Asked::Nothing, narrow: false, failed: false }
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
        index(at - self.start)..self.len
    }

    /// The `len` bytes at `at`, read if need be.
    pub(crate) fn get(&mut self, buf: &mut [u8], answer: &mut Answer, at: u64, len: usize) -> Result<Bytes, Stop> {
        match core::mem::replace(&mut self.asked, Asked::Nothing) {
            Asked::Read => match answer.take() {
                Answer::Moved(moved) => {
                    self.narrow = false;
                    self.len += moved;
                    if moved == 0 {
                        self.end = Some(self.start + self.len as u64);
                    }
                }
                // Whoever asked may first get what is in the buffer: the failure is told where a read is needed again.
                Answer::Unreadable if self.narrow => self.failed = true,
                Answer::Unreadable => self.narrow = true,
                _ => unreachable!("the driver answered something else to a read"),
            },
            Asked::Grow if buf.len() < len => return Err(Fault::BufferTooSmall { needed: len }.into()),
            Asked::Grow | Asked::Nothing => {}
        }
        let end = self.end.unwrap_or(u64::MAX).min(self.limit);
        let wanted = at.saturating_add(len as u64).min(end);
        let here = self.start..=self.start + self.len as u64;
        if wanted <= at || (here.contains(&at) && here.contains(&wanted)) {
            let found = if wanted <= at { 0..0 } else { index(at - self.start)..index(wanted - self.start) };
            return Ok(if found.len() == len { Bytes::Whole(found) } else { Bytes::Short(found) });
        }
        if core::mem::take(&mut self.failed) {
            self.narrow = false;
            return Ok(Bytes::Unreadable);
        }
        if !here.contains(&at) {
            self.start = at;
            self.len = 0;
        }
        if wanted - self.start > buf.len() as u64 {
            let from = index(at - self.start);
            buf.copy_within(from..self.len, 0);
            self.start = at;
            self.len -= from;
        }
        if wanted - self.start > buf.len() as u64 {
            self.asked = Asked::Grow;
            return Err(Step::Grow { needed: len }.into());
        }
        let read_at = self.start + self.len as u64;
        let room = if self.narrow { wanted - read_at } else { end - read_at };
        let into = self.len..buf.len().min(self.len.saturating_add(usize::try_from(room).unwrap_or(usize::MAX)));
        self.asked = Asked::Read;
        Err(Step::Read { object: self.object, at: read_at, into }.into())
    }
}

/// A distance within the buffer, which is in memory.
fn index(distance: u64) -> usize {
    usize::try_from(distance).expect("what lies in the buffer is counted by a usize")
}
