//! Log sequence numbers and checkpoint ids: numbers that are never mixed with others.

use core::fmt;

use serde::{Deserialize, Serialize};

/// A log sequence number: the place of an entry in the log.
///
/// The first entry is 1 and every entry takes the next number; 0 stands for "before the first entry".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(transparent)]
pub struct Lsn(u64);

impl Lsn {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);
    /// The LSN of the first entry of a log.
    pub const FIRST: Self = Self(1);
    /// The highest LSN, above that of any entry: a bound.
    pub const MAX: Self = Self(u64::MAX);

    /// The LSN with this number.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The LSN after this one.
    ///
    /// # Errors
    /// [`Exhausted`] behind [`Lsn::MAX`]: numbers never wrap.
    pub const fn next(self) -> Result<Self, Exhausted> {
        self.advanced(1)
    }

    /// The LSN `by` numbers further on.
    ///
    /// # Errors
    /// [`Exhausted`] beyond [`Lsn::MAX`].
    pub const fn advanced(self, by: u64) -> Result<Self, Exhausted> {
        match self.0.checked_add(by) {
            Some(value) => Ok(Self(value)),
            None => Err(Exhausted),
        }
    }

    /// The LSN before this one, or [`Lsn::ZERO`] where there is none.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The LSN after this one, or [`Lsn::MAX`] where there is none: for bounds, never for a number to give out.
    #[must_use]
    pub const fn next_or_max(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl From<u64> for Lsn {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LSN({})", self.0)
    }
}

/// No number is left: the LSN, epoch or id would pass the highest value of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Exhausted;

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no number is left behind the highest one of 64 bits")
    }
}

impl core::error::Error for Exhausted {}

/// The id of a checkpoint; a later checkpoint has a higher id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(transparent)]
pub struct CheckpointId(u64);

impl CheckpointId {
    /// The id with this number.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }
}

impl From<u64> for CheckpointId {
    fn from(value: u64) -> Self {
        Self(value)
    }
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CKPT({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn an_lsn_shows_as_users_know_it_and_never_wraps() {
        assert_eq!(Lsn::new(7).to_string(), "LSN(7)");
        assert_eq!(CheckpointId::new(5).to_string(), "CKPT(5)");
        assert_eq!(Lsn::from(6).next(), Ok(Lsn::new(7)));
        assert_eq!(Lsn::MAX.next(), Err(Exhausted));
        assert!(Exhausted.to_string().contains("no number is left"));
        assert_eq!(Lsn::default(), Lsn::ZERO);
        assert_eq!(Lsn::ZERO.previous(), Lsn::ZERO);
        assert!(Lsn::new(2) < Lsn::new(10));
        assert!(CheckpointId::new(2) < CheckpointId::new(10));
        assert_eq!(CheckpointId::from(5).value(), 5);
    }

    #[test]
    fn lsns_and_checkpoint_ids_are_written_as_their_numbers_and_read_again() {
        for number in [0, 1, 127, 128, u64::MAX] {
            let (mut plain, mut lsn, mut id) = ([0; 10], [0; 10], [0; 10]);
            let plain = postcard::to_slice(&number, &mut plain).unwrap();
            let lsn = postcard::to_slice(&Lsn::new(number), &mut lsn).unwrap();
            let id = postcard::to_slice(&CheckpointId::new(number), &mut id).unwrap();
            assert_eq!((&lsn, &id), (&plain, &plain), "{number}");
            assert_eq!(postcard::from_bytes(lsn), Ok(Lsn::new(number)));
            assert_eq!(postcard::from_bytes(id), Ok(CheckpointId::new(number)));
        }
    }

    #[test]
    fn lsns_and_checkpoint_ids_are_keys_of_maps() {
        use std::collections::HashMap;

        let lsns: HashMap<Lsn, u64> = (0..100).chain(0..100).map(|n| (Lsn::new(n), n)).collect();
        assert_eq!((lsns.len(), lsns[&Lsn::new(42)]), (100, 42));
        let ids: HashMap<CheckpointId, u64> = (0..100).chain(0..100).map(|n| (CheckpointId::new(n), n)).collect();
        assert_eq!((ids.len(), ids[&CheckpointId::new(42)]), (100, 42));
    }
}
