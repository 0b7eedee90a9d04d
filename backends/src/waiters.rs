//! Who waits for an entry, each at a place of its own.
//!
//! Threads that wait for one condition variable are woken all together, and then wait once more, for the lock that each needs
//! to see what there is: with 64 of them that took more of the processor than all else. So whoever waits here is told the
//! outcome itself, without a lock, and only whom it concerns is woken.

use std::sync::{Arc, PoisonError};

use duralog_core::{Durability, Lsn};

use crate::sync::{Condvar, Mutex, thread_local};

/// What one who waits is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The entry is as durable as was asked. So much may be called durable.
    Reached(Lsn),
    /// Something else happened, or nobody leads: take the lock and look.
    Look,
}

/// Where one thread waits.
#[derive(Debug)]
pub(crate) struct Place {
    told: Mutex<Option<Told>>,
    changed: Condvar,
}

impl Place {
    fn new() -> Arc<Self> {
        Arc::new(Self { told: Mutex::new(None), changed: Condvar::new() })
    }

    fn tell(&self, told: Told) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
        self.changed.notify_one();
    }

    /// Waits until it is told something, once for each time that it was put into a queue.
    pub(crate) fn wait(&self) -> Told {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match told.take() {
                Some(told) => return told,
                None => told = self.changed.wait(told).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

thread_local! {
    /// Of each thread one, for it waits for one thing at a time: waiting allocates nothing.
    static OWN: Arc<Place> = Place::new();
}

/// One who waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    /// For this entry and all before it.
    pub(crate) lsn: Lsn,
    /// To be as durable as this.
    pub(crate) durability: Durability,
    /// How many refusals there were when it was staged.
    pub(crate) before: u64,
    place: Arc<Place>,
}

/// Those who are to be told something, and what.
pub(crate) type Answers = Vec<(Arc<Place>, Told)>;

/// Tells each.
pub(crate) fn tell(answers: &mut Answers) {
    answers.drain(..).for_each(|(place, told)| place.tell(told));
}

/// Those who wait while someone leads, in the order in which they came.
///
/// Where nobody leads and anyone waits, one of them was told to look, and will lead: so whoever stops leading, or was told to
/// look and does not lead, has the next one look.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiters: Vec<Waiter>,
    /// How many were told to look and did not yet.
    looking: usize,
    /// Room for answers, to be used again.
    room: Answers,
}

impl Waiters {
    /// Whether nobody waits, nor is about to look.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.is_empty() && self.looking == 0
    }

    /// This thread waits too, at the place that is returned.
    pub(crate) fn join(&mut self, lsn: Lsn, durability: Durability, before: u64) -> Arc<Place> {
        // A thread that is ending may have none any more.
        let place = OWN.try_with(Arc::clone).unwrap_or_else(|_| Place::new());
        self.waiters.push(Waiter { lsn, durability, before, place: Arc::clone(&place) });
        place
    }

    /// One that was told to look does.
    pub(crate) fn looks(&mut self) {
        self.looking -= 1;
    }

    /// Those for whom there is an answer wait no more: they are to be told it.
    pub(crate) fn answered(&mut self, answer: impl Fn(&Waiter) -> Option<Told>) -> Answers {
        let mut answers = core::mem::take(&mut self.room);
        self.waiters.retain(|waiter| {
            let Some(told) = answer(waiter) else { return true };
            self.looking += usize::from(told == Told::Look);
            answers.push((Arc::clone(&waiter.place), told));
            false
        });
        answers
    }

    /// Takes back the room of answers that were told.
    pub(crate) fn told(&mut self, answers: Answers) {
        if answers.capacity() > self.room.capacity() {
            self.room = answers;
        }
    }

    /// The one that waits longest is to look.
    pub(crate) fn have_next_look(&mut self) {
        if !self.waiters.is_empty() {
            self.looking += 1;
            self.waiters.remove(0).place.tell(Told::Look);
        }
    }
}
