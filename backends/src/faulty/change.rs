//! Operations on their way from the cache to the medium, and what a power cut leaves of them.

use core::{iter, ops::Range};
use std::collections::BTreeMap;

use duralog_core::Object;

use super::{plan::Kind, random::Random};
use crate::memory::Image;

/// What a disk writes whole or not at all.
pub(super) const SECTOR: u64 = 512;

/// What an operation does to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Makes it.
    Create {
        /// With room for so many bytes.
        size: u64,
    },
    /// Writes to it.
    Write {
        /// Where.
        at: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Gives room back.
    Trim {
        /// From here on.
        at: u64,
    },
    /// Removes it.
    Remove,
}

impl Change {
    /// What of it reaches the cache if it breaks off after so many bytes. What is no write is done whole, or not.
    pub(super) fn first(mut self, done: usize) -> Option<Self> {
        if let Self::Write { bytes, .. } = &mut self {
            bytes.truncate(done);
        }
        (done > 0).then_some(self)
    }

    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Create { .. } => Kind::Create,
            Self::Write { .. } => Kind::Write,
            Self::Trim { .. } => Kind::Trim,
            Self::Remove => Kind::Remove,
        }
    }

    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Write { .. } => "write",
            Self::Trim { .. } => "trim",
            Self::Remove => "remove",
        }
    }

    /// Where it begins, and over how many bytes it goes.
    pub(super) const fn span(&self) -> (u64, u64) {
        match self {
            Self::Create { size } => (0, *size),
            Self::Write { at, bytes } => (*at, bytes.len() as u64),
            Self::Trim { at } => (*at, 0),
            Self::Remove => (0, 0),
        }
    }
}

/// An operation that no sync has covered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsyncedOp {
    /// The number that its call had when it was made.
    pub call: u64,
    /// The object.
    pub object: Object,
    /// What it does.
    pub change: Change,
    /// The life of the object that it belongs to: a write to a removed one does not land in its namesake.
    pub(super) life: u64,
    /// What the room of a created object holds, where it had an earlier life.
    pub(super) recycled: Option<Image>,
}

/// What a power cut leaves of one unsynced operation, whatever it leaves of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All of it: the cache was written out in time.
    All,
    /// Nothing. A lost creation leaves no object, and loses every write to it; a lost removal leaves the object as it
    /// was; a lost trim its room.
    None,
    /// So many bytes: a write torn in the middle, or an object that is there with less room than it was made with.
    /// What has no bytes is kept.
    Prefix(usize),
    /// Those sectors of a write whose place in the list is `true`; the first is the one that the write begins in, and
    /// sectors begin at multiples of 512 of the object. What is no write is kept.
    Sectors(Vec<bool>),
}

impl Keep {
    /// One of them, for a write of a few hundred bytes.
    #[must_use]
    pub fn random(random: &mut Random) -> Self {
        match random.below(6) {
            0 | 1 => Self::All,
            2 | 3 => Self::None,
            4 => {
                let most = random.pick(&[64, 600]);
                Self::Prefix(1 + random.index(most))
            }
            _ => Self::Sectors((0..1 + random.below(5)).map(|_| random.once_in(2)).collect()),
        }
    }

    /// The kept parts of a write at `at`.
    fn parts(&self, at: u64, len: usize) -> Vec<Range<usize>> {
        match self {
            Self::All => iter::once(0..len).collect(),
            Self::None => vec![],
            Self::Prefix(kept) => iter::once(0..len.min(*kept)).collect(),
            Self::Sectors(kept) => {
                let place = |sector: u64| {
                    let offset = (at / SECTOR + sector) * SECTOR;
                    usize::try_from(offset.saturating_sub(at)).unwrap_or(len).min(len)
                };
                (0..).zip(kept).filter(|(_, kept)| **kept).map(|(n, _)| place(n)..place(n + 1)).collect()
            }
        }
    }

    pub(super) const fn outcome(&self) -> &'static str {
        match self {
            Self::All => "kept",
            Self::None => "lost",
            Self::Prefix(_) | Self::Sectors(_) => "torn",
        }
    }
}

/// One object in one of the images.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// Tells it from others that had its name, as an inode does.
    pub(super) life: u64,
    pub(super) image: Image,
    /// What it held when it was made.
    pub(super) first: Image,
}

pub(super) type Images = BTreeMap<Object, Stored>;

/// Does what is kept of an operation to an image. Without its object, of the same life, it is lost.
pub(super) fn apply(images: &mut Images, op: &UnsyncedOp, keep: &Keep, blank: u8) {
    if *keep == Keep::None {
        return;
    }
    let stored = images.get_mut(&op.object).filter(|stored| stored.life == op.life);
    match &op.change {
        Change::Create { size } => {
            let room = if let Keep::Prefix(kept) = keep { (*size).min(*kept as u64) } else { *size };
            let mut image = op.recycled.clone().unwrap_or_else(|| Image::new(op.object, room));
            image.trim(room);
            images.insert(op.object, Stored { life: op.life, first: image.clone(), image });
        }
        Change::Remove => {
            images.remove(&op.object);
        }
        Change::Trim { at } => {
            if let Some(stored) = stored {
                stored.image.trim(*at);
            }
        }
        Change::Write { at, bytes } => {
            if let Some(stored) = stored {
                for part in keep.parts(*at, bytes.len()) {
                    if !part.is_empty() {
                        stored.image.write(at + part.start as u64, &bytes[part], blank);
                    }
                }
            }
        }
    }
}
