//! What happens to bytes that were durable, behind the log's back.

use core::ops::Range;

use duralog_core::Object;

use super::random::Random;

/// Damage at one place. It is in the cache and durable at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rot {
    /// One bit is turned over; bit 0 is the lowest.
    Flipped {
        /// In which object.
        object: Object,
        /// At which byte.
        at: u64,
        /// Which bit of it.
        bit: u8,
    },
    /// A block reads as zeros: never written, or trimmed by mistake.
    Zeroed {
        /// In which object.
        object: Object,
        /// Which bytes.
        range: Range<u64>,
    },
    /// A block reads as bytes that nobody wrote, those of this seed.
    Garbage {
        /// In which object.
        object: Object,
        /// Which bytes.
        range: Range<u64>,
        /// Seed of the bytes.
        seed: u64,
    },
    /// A block is as it was when the object was made: what was written since is lost.
    Stale {
        /// In which object.
        object: Object,
        /// Which bytes.
        range: Range<u64>,
    },
    /// A block of one object lies over another place as well: a write or a read that went astray.
    Misplaced {
        /// Whose bytes they are.
        from: Object,
        /// Which of them.
        range: Range<u64>,
        /// The victim.
        object: Object,
        /// Where they lie there.
        at: u64,
    },
    /// A block cannot be read, ever.
    Unreadable {
        /// In which object.
        object: Object,
        /// Which bytes.
        range: Range<u64>,
    },
    /// The object ends here: it was cut short from outside.
    Shortened {
        /// Which object.
        object: Object,
        /// How many bytes are left.
        len: u64,
    },
    /// The object is gone: a lost directory entry, a file deleted by hand.
    Gone {
        /// Which object.
        object: Object,
    },
    /// An object that had been removed for good is back.
    Back {
        /// Which object.
        object: Object,
    },
}

impl Rot {
    /// The object that is harmed.
    #[must_use]
    pub const fn object(&self) -> Object {
        match self {
            Self::Flipped { object, .. }
            | Self::Zeroed { object, .. }
            | Self::Garbage { object, .. }
            | Self::Stale { object, .. }
            | Self::Misplaced { object, .. }
            | Self::Unreadable { object, .. }
            | Self::Shortened { object, .. }
            | Self::Gone { object }
            | Self::Back { object } => *object,
        }
    }

    /// The bytes that may not be what they were.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        match self {
            Self::Flipped { at, .. } => *at..*at + 1,
            Self::Zeroed { range, .. }
            | Self::Garbage { range, .. }
            | Self::Stale { range, .. }
            | Self::Unreadable { range, .. } => range.start..range.end,
            Self::Misplaced { range, at, .. } => *at..*at + (range.end - range.start),
            Self::Shortened { len, .. } => *len..u64::MAX,
            Self::Gone { .. } | Self::Back { .. } => 0..u64::MAX,
        }
    }

    /// Damage to one of these objects, of which so many bytes have ever been written to.
    ///
    /// # Panics
    /// If there is none, or nothing in one.
    #[must_use]
    pub fn random(random: &mut Random, objects: &[(Object, u64)]) -> Self {
        let (object, len) = random.pick(objects);
        let at = random.below(len);
        let range = |random: &mut Random| {
            let block = random.pick(&[1, 16, 64, 512, 4096]);
            let start = at / block * block;
            start..(start + block).min(len)
        };
        match random.below(16) {
            0..=5 => Self::Flipped { object, at, bit: random.pick(&[0, 1, 2, 3, 4, 5, 6, 7]) },
            6 | 7 => Self::Zeroed { object, range: range(random) },
            8 | 9 => Self::Garbage { object, range: range(random), seed: random.next() },
            10 => Self::Stale { object, range: range(random) },
            11 | 12 => {
                let (from, from_len) = random.pick(objects);
                let start = random.below(from_len);
                let range = start..(start + 1 + random.below(200)).min(from_len);
                Self::Misplaced { from, range, object, at }
            }
            13 => Self::Unreadable { object, range: range(random) },
            14 => Self::Shortened { object, len: at },
            _ => Self::Gone { object },
        }
    }
}
