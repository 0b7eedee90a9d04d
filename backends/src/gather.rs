//! Who a leader waits for before it takes the group.
//!
//! Whoever shared the last sync appends in a loop perhaps, is awake, and on the way. A leader that lets them come first makes
//! one group of what would be two half ones, each with a sync of its own. It waits for a part of the time that a sync takes,
//! and who was alone waits for nobody.

use core::time::Duration;
#[cfg(not(loom))]
use std::time::Instant;

/// The longest that a leader waits.
#[cfg_attr(loom, allow(dead_code))]
const MOST: Duration = Duration::from_micros(500);

/// Who has come, and who may be on the way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gathering {
    /// Threads that wait for the group that is staged now.
    joined: usize,
    /// Threads that waited for the group before it.
    expected: usize,
    /// How long that one took.
    last: Duration,
    /// Someone cannot go on before the group is committed.
    hurry: bool,
}

impl Gathering {
    /// One more waits for the group that is staged.
    pub(crate) fn join(&mut self) {
        self.joined += 1;
    }

    /// Nobody is to be waited for any more.
    pub(crate) fn hurry(&mut self) {
        self.hurry = true;
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.hurry || self.joined >= self.expected
    }

    /// The group was taken: how many wait for it.
    pub(crate) fn taken(&mut self) -> usize {
        self.hurry = false;
        core::mem::take(&mut self.joined)
    }

    /// A group that so many waited for is durable, after so long.
    pub(crate) fn landed(&mut self, joined: usize, after: Duration) {
        (self.expected, self.last) = (joined, after);
    }

    /// How long a leader may wait now: a quarter of the time that a sync takes.
    pub(crate) fn patience(&self) -> Patience {
        Patience {
            #[cfg(not(loom))]
            until: Instant::now() + (self.last / 4).min(MOST),
            #[cfg(loom)]
            turns: 1,
        }
    }
}

/// What is left of a leader's patience. Under the model checker, where no time passes, it is one turn of the others.
pub(crate) struct Patience {
    #[cfg(not(loom))]
    until: Instant,
    #[cfg(loom)]
    turns: usize,
}

impl Patience {
    /// Whether the others may have another turn.
    #[cfg(not(loom))]
    pub(crate) fn is_left(&mut self) -> bool {
        Instant::now() < self.until
    }

    /// Whether the others may have another turn.
    #[cfg(loom)]
    pub(crate) fn is_left(&mut self) -> bool {
        self.turns.checked_sub(1).inspect(|left| self.turns = *left).is_some()
    }
}
