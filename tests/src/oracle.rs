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
    payload: Vec<u8>,
    continues: bool,
}

/// What was appended, and how much of it must survive.
#[derive(Clone, Debug, Default, Hash)]
pub struct Oracle {
    /// By LSN, from 1 on; those above what is acknowledged may be lost, from the end.
    entries: Vec<Appended>,
    acknowledged: u64,
    /// Payloads made so far.
    made: u64,
}

impl Oracle {
    /// The LSN that the next entry must get.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.entries.len() as u64 + 1
    }

    /// The highest LSN whose entry must survive.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Payloads for a batch that is about to be appended. From now on a recovery may give it.
    pub fn append(&mut self, count: usize, len: usize) -> Vec<Vec<u8>> {
        let batch: Vec<_> = (0..count as u64).map(|n| payload(self.made + n, len)).collect();
        self.made += count as u64;
        let appended =
            batch.iter().zip(1..).map(|(payload, n)| Appended { payload: payload.clone(), continues: n < count });
        self.entries.extend(appended);
        batch
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

    /// A recovery, or a reader, gave these entries.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self, found: &[Found]) -> Result<(), Violation> {
        for (index, entry) in found.iter().enumerate() {
            let lsn = index as u64 + 1;
            if entry.lsn != lsn {
                return Err(violation!("LSN {} was recovered where {lsn} had to come", entry.lsn));
            }
            let Some(appended) = self.entries.get(index) else {
                return Err(violation!("LSN {lsn} was recovered and never appended, or cut off before"));
            };
            if appended.payload != entry.payload {
                return Err(violation!("LSN {lsn} was recovered with other bytes"));
            }
            if appended.continues != entry.continues {
                return Err(violation!("LSN {lsn} was recovered at another place in its batch"));
            }
        }
        let count = found.len() as u64;
        if count < self.acknowledged {
            return Err(violation!("{count} entries were recovered, and {} were acknowledged", self.acknowledged));
        }
        if found.last().is_some_and(|last| last.continues) {
            return Err(violation!("half a batch was recovered, up to LSN {count}"));
        }
        Ok(())
    }

    /// A recovery is complete: what it gave is durable from now on, and what it did not give must never come back.
    ///
    /// # Errors
    /// What is wrong with what it gave.
    pub fn recovered(&mut self, found: &[Found]) -> Result<(), Violation> {
        self.check(found)?;
        self.entries.truncate(found.len());
        self.acknowledged = found.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(oracle: &Oracle) -> Vec<Found> {
        let entries = (1..).zip(&oracle.entries);
        entries.map(|(lsn, e)| Found { lsn, payload: e.payload.clone(), continues: e.continues }).collect()
    }

    #[test]
    fn the_model_notices_every_wrong_recovery() {
        let mut oracle = Oracle::default();
        oracle.append(1, 9);
        oracle.append(2, 9);
        oracle.append(1, 9);
        oracle.acknowledge(1).unwrap();
        oracle.acknowledge(5).unwrap_err();
        let all = found(&oracle);
        for kept in [1, 3, 4] {
            oracle.check(&all[..kept]).unwrap();
        }
        oracle.check(&[]).unwrap_err();
        oracle.check(&all[..2]).unwrap_err();
        oracle.check(&all[1..]).unwrap_err();
        let mut wrong = all.clone();
        wrong[3].payload[8] ^= 1;
        oracle.check(&wrong).unwrap_err();
        let mut later = oracle.clone();
        later.recovered(&all[..3]).unwrap();
        later.check(&all).unwrap_err();
        later.check(&all[..1]).unwrap_err();
        later.append(1, 9);
        later.check(&all).unwrap_err();
        oracle.refused(1);
        oracle.check(&all).unwrap_err();
    }
}
