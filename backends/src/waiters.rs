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
        !self.any() && self.looking == 0
    }

    /// Whether anybody waits.
    pub(crate) fn any(&self) -> bool {
        !self.waiters.is_empty()
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
        if self.any() {
            self.looking += 1;
            self.waiters.remove(0).place.tell(Told::Look);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use super::*;

    fn reached(up_to: u64) -> impl Fn(&Waiter) -> Option<Told> {
        move |waiter| (waiter.lsn <= Lsn::new(up_to)).then_some(Told::Reached(Lsn::new(up_to)))
    }

    /// A thread that waits for the entry at `lsn`.
    fn waiting(waiters: &mut Waiters, lsn: u64) -> thread::JoinHandle<Told> {
        // The place is that of the thread that waits: it comes back through a channel.
        let mut joined = core::mem::take(waiters);
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let place = joined.join(Lsn::new(lsn), Durability::Durable, 0);
            sender.send(joined).unwrap();
            place.wait()
        });
        *waiters = receiver.recv().unwrap();
        thread
    }

    #[test]
    fn who_waits_is_told_what_it_waits_for_and_the_others_wait_on() {
        let mut waiters = Waiters::default();
        let threads: Vec<_> = [3, 8, 5].map(|lsn| waiting(&mut waiters, lsn)).into();
        let mut answers = waiters.answered(reached(5));
        assert_eq!(answers.len(), 2);
        tell(&mut answers);
        waiters.told(answers);
        let mut threads = threads.into_iter();
        assert_eq!(threads.next().unwrap().join().unwrap(), Told::Reached(Lsn::new(5)));
        let other = threads.next().unwrap();
        assert_eq!(threads.next().unwrap().join().unwrap(), Told::Reached(Lsn::new(5)));
        assert!(waiters.any() && !waiters.is_empty());
        tell(&mut waiters.answered(reached(9)));
        assert_eq!(other.join().unwrap(), Told::Reached(Lsn::new(9)));
        assert!(!waiters.any() && waiters.is_empty(), "who was told the outcome does not look any more");
    }

    #[test]
    fn who_is_told_to_look_comes_first_in_the_order_of_coming_and_counts_until_it_does() {
        let mut waiters = Waiters::default();
        let first = waiting(&mut waiters, 7);
        let second = waiting(&mut waiters, 4);
        waiters.have_next_look();
        assert_eq!(first.join().unwrap(), Told::Look);
        waiters.have_next_look();
        assert_eq!(second.join().unwrap(), Told::Look);
        waiters.have_next_look();
        assert!(!waiters.any());
        for _ in 0..2 {
            assert!(!waiters.is_empty(), "what it is to see must not be forgotten before");
            waiters.looks();
        }
        assert!(waiters.is_empty());
    }

    #[test]
    fn one_thread_waits_again_and_again_at_one_place() {
        let mut waiters = Waiters::default();
        for lsn in 1..=3 {
            let place = waiters.join(Lsn::new(lsn), Durability::Os, 0);
            let mut answers = waiters.answered(reached(lsn));
            tell(&mut answers);
            waiters.told(answers);
            assert_eq!(place.wait(), Told::Reached(Lsn::new(lsn)));
            assert!(Arc::ptr_eq(&place, &OWN.with(Arc::clone)));
        }
    }
}
