//! What a log must hold: nothing here looks at bytes on a medium, or knows how they are laid out.

use core::{error, fmt};

use crate::environment::mixed;

/// An entry that a recovery gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its LSN.
    pub lsn: u64,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Whether it says that its batch goes on behind it.
    pub continues: bool,
}

/// What a log holds, as a recovery or a reader tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The entries, in the order in which they came.
    pub entries: Vec<Found>,
    /// The first LSN that truncation keeps.
    pub low_water: u64,
    /// The last LSN.
    pub last: u64,
}

/// A payload that no other append has: bytes put in the wrong place are noticed.
#[must_use]
pub fn payload(number: u64, len: usize) -> Vec<u8> {
    (0..).flat_map(|word| mixed(number << 20 | word).to_le_bytes()).take(len).collect()
}

/// What a recovery did wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for Violation {}

macro_rules! violation {
    ($($arg:tt)*) => { $crate::oracle::Violation(format!($($arg)*)) };
}
pub(crate) use violation;

#[derive(Clone, Debug, Hash)]
struct Appended {
    /// `None`: an entry that the log makes for itself.
    payload: Option<Vec<u8>>,
    continues: bool,
    /// The log was cut behind it, be that inside its batch.
    ends: bool,
}

/// A call that gives up a part of the log, and has not returned.
#[derive(Clone, Copy, Debug, Hash)]
pub enum Giving {
    /// Entries below this LSN, or some of those.
    Before(u64),
    /// Entries after this LSN.
    After(u64),
    /// Everything: the next LSN is this one.
    All(u64),
}

/// What was appended, and how much of it must survive.
#[derive(Clone, Debug, Hash)]
pub struct Oracle {
    /// The LSN of the first of the entries.
    first: u64,
    /// By LSN; those above what is acknowledged may be lost, from the end.
    entries: Vec<Appended>,
    acknowledged: u64,
    /// Nothing below it is handed out, but the beginning of a batch.
    low_water: u64,
    giving: Option<Giving>,
    /// Payloads made so far.
    made: u64,
}

impl Default for Oracle {
    fn default() -> Self {
        Self { first: 1, entries: Vec::new(), acknowledged: 0, low_water: 1, giving: None, made: 0 }
    }
}

impl Oracle {
    /// The LSN that the next entry must get.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The highest LSN whose entry must survive.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The first LSN that truncation keeps.
    #[must_use]
    pub fn low_water(&self) -> u64 {
        self.low_water
    }

    /// Payloads for a batch that is about to be appended. From now on a recovery may give it.
    pub fn append(&mut self, count: usize, len: usize) -> Vec<Vec<u8>> {
        let batch: Vec<_> = (0..count as u64).map(|n| payload(self.made + n, len)).collect();
        self.made += count as u64;
        let appended = batch.iter().zip(1..);
        let appended = appended.map(|(payload, n)| Appended {
            payload: Some(payload.clone()),
            continues: n < count,
            ends: n == count,
        });
        self.entries.extend(appended);
        batch
    }

    /// The log is about to append an entry of its own.
    pub fn append_own(&mut self) {
        self.entries.push(Appended { payload: None, continues: false, ends: true });
    }

    /// The last append was refused: no recovery may give any of its `count` entries.
    pub fn refused(&mut self, count: usize) {
        self.entries.truncate(self.entries.len() - count);
    }

    /// Everything up to `lsn` was called durable.
    ///
    /// # Errors
    /// That was never appended.
    pub fn acknowledge(&mut self, lsn: u64) -> Result<(), Violation> {
        if lsn >= self.next() {
            return Err(violation!("LSN {lsn} was called durable, and the last one appended is {}", self.next() - 1));
        }
        self.acknowledged = self.acknowledged.max(lsn);
        Ok(())
    }

    /// A part of the log is about to be given up: a recovery may find that done, or not.
    pub fn give_up(&mut self, giving: Giving) {
        self.giving = Some(match (self.giving, giving) {
            (Some(Giving::Before(earlier)), Giving::Before(lsn)) => Giving::Before(lsn.max(earlier)),
            _ => giving,
        });
    }

    /// Nothing was given up.
    pub fn kept(&mut self) {
        self.giving = None;
    }

    /// It was given up for good.
    ///
    /// # Errors
    /// More was given up than was asked for.
    pub fn gave_up(&mut self, giving: Giving) -> Result<(), Violation> {
        if let (Some(Giving::Before(asked)), Giving::Before(done)) = (self.giving, giving)
            && done > asked.max(self.low_water)
        {
            return Err(violation!("the log was truncated before {done}, and {asked} was asked for"));
        }
        *self = self.without(giving);
        Ok(())
    }

    fn without(&self, giving: Giving) -> Self {
        let mut rest = Self { giving: None, ..self.clone() };
        match giving {
            Giving::Before(lsn) => rest.low_water = rest.low_water.max(lsn),
            Giving::After(lsn) => {
                rest.entries.truncate(usize::try_from(lsn + 1 - self.first).expect("a cut is within the log"));
                rest.entries.iter_mut().next_back().into_iter().for_each(|last| last.ends = true);
                rest.acknowledged = lsn;
            }
            Giving::All(next) => {
                rest = Self { first: next, entries: Vec::new(), acknowledged: next - 1, low_water: next, ..rest };
            }
        }
        rest
    }

    /// A recovery, or a reader, found this.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, held: &Held) -> Result<(), Violation> {
        self.as_found(held).map(drop)
    }

    /// The model as it has to be if this was found: with or without what was being given up.
    fn as_found(&self, held: &Held) -> Result<Self, Violation> {
        let kept = Self { giving: None, ..self.clone() };
        let wrong = match kept.matches(held) {
            Ok(()) => return Ok(kept),
            Err(violation) => violation,
        };
        let given = match self.giving {
            None => return Err(wrong),
            Some(Giving::Before(asked)) if held.low_water <= asked => self.without(Giving::Before(held.low_water)),
            Some(giving) => self.without(giving),
        };
        given.matches(held).map_err(|other| violation!("{wrong}; or, as a call was under way, {other}"))?;
        Ok(given)
    }

    fn matches(&self, held: &Held) -> Result<(), Violation> {
        let Held { entries, low_water, last } = held;
        let (last, first) = (*last, self.begin());
        if *low_water != self.low_water {
            return Err(violation!("the low-water mark is {low_water}, and must be {}", self.low_water));
        }
        if last + 1 < self.first || last >= self.next() {
            return Err(violation!("the log ends at {last}, and the last one appended is {}", self.next() - 1));
        }
        if last < self.acknowledged {
            return Err(violation!("the log ends at {last}, and {} was acknowledged", self.acknowledged));
        }
        for (entry, lsn) in entries.iter().zip(first..) {
            if entry.lsn != lsn {
                return Err(violation!("LSN {} was recovered where {lsn} had to come", entry.lsn));
            }
            let appended = lsn.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
            let Some(appended) = appended.and_then(|index| self.entries.get(index)) else {
                return Err(violation!("LSN {lsn} was recovered and never appended, or cut off before"));
            };
            if appended.payload.as_ref().is_some_and(|payload| *payload != entry.payload) {
                return Err(violation!("LSN {lsn} was recovered with other bytes"));
            }
            if appended.continues != entry.continues {
                return Err(violation!("LSN {lsn} was recovered at another place in its batch"));
            }
        }
        let count = entries.len() as u64;
        if first + count != (last + 1).max(first) {
            return Err(violation!("{count} entries were recovered from {first} to {last}"));
        }
        if self.in_batch(last) && !entries.is_empty() {
            return Err(violation!("half a batch was recovered, up to LSN {last}"));
        }
        Ok(())
    }

    /// Where reading begins: at the low-water mark, or where the batch begins that it cuts through.
    fn begin(&self) -> u64 {
        let mut begin = self.low_water;
        while self.in_batch(begin - 1) {
            begin -= 1;
        }
        begin
    }

    /// Whether the entry behind this one belongs to the same batch.
    fn in_batch(&self, lsn: u64) -> bool {
        let index = lsn.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.entries.get(index)).is_some_and(|entry| !entry.ends)
    }

    /// A recovery is complete: what it gave is durable from now on, and what it did not give must never come back.
    ///
    /// # Errors
    /// What is wrong with what it gave.
    pub fn recovered(&mut self, held: &Held) -> Result<(), Violation> {
        *self = self.as_found(held)?;
        self.entries.truncate(usize::try_from(held.last + 1 - self.first).expect("the log is in memory"));
        self.acknowledged = held.last;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(entries: &[Found], low_water: u64, last: u64) -> Held {
        Held { entries: entries.to_vec(), low_water, last }
    }

    #[test]
    fn the_model_notices_every_wrong_recovery() {
        let mut oracle = Oracle::default();
        oracle.append(1, 9);
        oracle.append(2, 9);
        oracle.append(1, 9);
        oracle.acknowledge(1).unwrap();
        oracle.acknowledge(5).unwrap_err();
        let entries = (1..).zip(&oracle.entries);
        let all: Vec<_> = entries
            .map(|(lsn, e)| Found { lsn, payload: e.payload.clone().unwrap(), continues: e.continues })
            .collect();
        for kept in [1, 3, 4] {
            oracle.check(&held(&all[..kept], 1, kept as u64)).unwrap();
        }
        oracle.check(&held(&[], 1, 0)).unwrap_err();
        oracle.check(&held(&all[..2], 1, 2)).unwrap_err();
        oracle.check(&held(&all[..3], 1, 4)).unwrap_err();
        oracle.check(&held(&all[1..], 2, 4)).unwrap_err();
        let mut wrong = all.clone();
        wrong[3].payload[8] ^= 1;
        oracle.check(&held(&wrong, 1, 4)).unwrap_err();
        let mut later = oracle.clone();
        later.recovered(&held(&all[..3], 1, 3)).unwrap();
        later.check(&held(&all, 1, 4)).unwrap_err();
        later.check(&held(&all[..1], 1, 1)).unwrap_err();
        later.append(1, 9);
        later.check(&held(&all, 1, 4)).unwrap_err();
        oracle.refused(1);
        oracle.check(&held(&all, 1, 4)).unwrap_err();
    }

    #[test]
    fn the_model_knows_what_was_given_up() {
        let mut oracle = Oracle::default();
        oracle.append(2, 9);
        oracle.append(1, 9);
        oracle.acknowledge(3).unwrap();
        let entries = (1..).zip(&oracle.entries);
        let all: Vec<_> = entries
            .map(|(lsn, e)| Found { lsn, payload: e.payload.clone().unwrap(), continues: e.continues })
            .collect();
        let mut front = oracle.clone();
        front.give_up(Giving::Before(2));
        front.check(&held(&all, 1, 3)).unwrap();
        front.check(&held(&all, 2, 3)).unwrap();
        front.check(&held(&all[1..], 2, 3)).unwrap_err();
        front.check(&held(&all[2..], 3, 3)).unwrap_err();
        front.gave_up(Giving::Before(2)).unwrap();
        front.check(&held(&all, 1, 3)).unwrap_err();
        oracle.clone().gave_up(Giving::After(2)).unwrap();
        oracle.give_up(Giving::After(2));
        oracle.check(&held(&all[..2], 1, 2)).unwrap();
        oracle.check(&held(&all, 1, 3)).unwrap();
        oracle.recovered(&held(&all[..2], 1, 2)).unwrap();
        oracle.check(&held(&all, 1, 3)).unwrap_err();
        oracle.gave_up(Giving::All(9)).unwrap();
        oracle.check(&held(&[], 9, 8)).unwrap();
        assert_eq!(oracle.next(), 9);
    }
}
