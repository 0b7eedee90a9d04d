//! A simulated card: sectors, behind a cache or not, which a block device or a stream shows.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use duralog::{
    faulty::Random,
    slots::{BlockDevice, SECTOR},
};

/// Sectors of one size. A write is durable when it returns, or with a cache when a flush does; where the power goes, a
/// sector that was not durable is what it was, or what was written, or torn, each for itself.
#[derive(Clone, Debug)]
pub struct Card {
    bytes: Vec<u8>,
    sector: usize,
    has_cache: bool,
    /// Writes of sectors that no flush has made durable, oldest first.
    unflushed: Vec<(usize, Vec<u8>)>,
    worn: BTreeSet<usize>,
    cut_at: Option<u64>,
    torn: Torn,
    is_off: bool,
    /// Sectors written and flushes.
    steps: u64,
    random: Random,
    /// Where the stream stands.
    at: usize,
}

/// What a torn sector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Torn {
    /// A mix of old bits and new ones.
    Mixed,
    /// Noise, or the front of what was written; only the one sector that is being written when the power goes.
    Noise,
}

/// What went wrong on a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CardError {
    /// The power is gone.
    PowerIsOff,
    /// The sector takes no writing any more.
    WornOut,
}

impl fmt::Display for CardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PowerIsOff => "the power is off",
            Self::WornOut => "the sector is worn out",
        })
    }
}

impl core::error::Error for CardError {}

impl Card {
    /// A card of so many sectors of so many bytes, all zeros.
    #[must_use]
    pub fn new(sectors: usize, sector: usize, has_cache: bool) -> Self {
        Self {
            bytes: vec![0; sectors * sector],
            sector,
            has_cache,
            unflushed: Vec::new(),
            worn: BTreeSet::new(),
            cut_at: None,
            torn: Torn::Mixed,
            is_off: false,
            steps: 0,
            random: Random::new(0),
            at: 0,
        }
    }

    /// The card with power again. It goes after so many sectors written and flushes, where there is a number; `seed` says
    /// what is left then.
    pub fn power_up(&mut self, cut: Option<u64>, torn: Torn, seed: u64) {
        self.is_off = false;
        self.torn = torn;
        self.cut_at = cut.map(|after| self.steps + after);
        self.random = Random::new(seed);
    }

    /// Nobody uses the card any more, and its cache comes to an end with power on.
    pub fn settle(&mut self) {
        for (number, bytes) in core::mem::take(&mut self.unflushed) {
            self.set(number, &bytes);
        }
    }

    /// Whether the power is gone.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.is_off
    }

    /// The sector with the byte at `at` takes no writing any more.
    pub fn wear(&mut self, at: usize) {
        self.worn.insert(at / self.sector);
    }

    fn set(&mut self, number: usize, bytes: &[u8]) {
        self.bytes[number * self.sector..][..self.sector].copy_from_slice(bytes);
    }

    /// A sector as a read shows it.
    fn shown(&self, number: usize) -> &[u8] {
        let unflushed = self.unflushed.iter().rev().find(|(written, _)| *written == number);
        unflushed.map_or(&self.bytes[number * self.sector..][..self.sector], |(_, bytes)| bytes)
    }

    /// Counts a step; whether the power goes within it.
    fn step(&mut self) -> Result<bool, CardError> {
        if self.is_off {
            return Err(CardError::PowerIsOff);
        }
        self.steps += 1;
        Ok(self.cut_at.is_some_and(|at| self.steps > at))
    }

    fn put(&mut self, number: usize, bytes: Vec<u8>) -> Result<(), CardError> {
        let is_cut = self.step()?;
        if self.worn.contains(&number) {
            return if is_cut { self.lose() } else { Err(CardError::WornOut) };
        }
        self.unflushed.push((number, bytes));
        if is_cut {
            return self.lose();
        }
        if !self.has_cache {
            self.settle();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CardError> {
        if self.step()? {
            return self.lose();
        }
        self.settle();
        Ok(())
    }

    /// The power goes.
    fn lose(&mut self) -> Result<(), CardError> {
        self.is_off = true;
        let mut versions = BTreeMap::<usize, Vec<Vec<u8>>>::new();
        for (number, bytes) in core::mem::take(&mut self.unflushed) {
            versions.entry(number).or_default().push(bytes);
        }
        let mut torn = 0;
        for (number, versions) in versions {
            let left = match self.random.below(8) {
                0..=2 => continue,
                3 | 4 if self.torn == Torn::Mixed || torn == 0 => {
                    torn += 1;
                    self.torn(number, &versions[versions.len() - 1])
                }
                _ => versions[self.random.index(versions.len())].clone(),
            };
            self.set(number, &left);
        }
        Err(CardError::PowerIsOff)
    }

    /// A sector that was to become `new`.
    fn torn(&mut self, number: usize, new: &[u8]) -> Vec<u8> {
        let old = &self.bytes[number * self.sector..][..self.sector];
        let front = self.random.index(self.sector);
        let is_noise = self.torn == Torn::Noise && self.random.once_in(2);
        let mut byte = |at: usize| {
            let mask = self.random.next().to_le_bytes()[0];
            match self.torn {
                Torn::Mixed => old[at] & !mask | new[at] & mask,
                Torn::Noise if is_noise => mask,
                Torn::Noise if at < front => new[at],
                Torn::Noise => old[at],
            }
        };
        (0..self.sector).map(&mut byte).collect()
    }
}

impl BlockDevice for &mut Card {
    type Error = CardError;

    fn sectors(&self) -> u32 {
        u32::try_from(self.bytes.len() / SECTOR).expect("a card in memory is small")
    }

    fn read(&mut self, sector: u32, buf: &mut [u8; SECTOR]) -> Result<(), CardError> {
        if self.is_off {
            return Err(CardError::PowerIsOff);
        }
        buf.copy_from_slice(self.shown(sector as usize));
        Ok(())
    }

    fn write(&mut self, sector: u32, bytes: &[u8; SECTOR]) -> Result<(), CardError> {
        self.put(sector as usize, bytes.to_vec())
    }

    fn flush(&mut self) -> Result<(), CardError> {
        Card::flush(self)
    }
}

impl embedded_io::Error for CardError {
    fn kind(&self) -> embedded_io::ErrorKind {
        embedded_io::ErrorKind::Other
    }
}

impl embedded_io::ErrorType for Card {
    type Error = CardError;
}

impl embedded_io::Seek for Card {
    fn seek(&mut self, to: embedded_io::SeekFrom) -> Result<u64, CardError> {
        let embedded_io::SeekFrom::Start(at) = to else { unreachable!("sought from the start") };
        self.at = usize::try_from(at).expect("a card in memory is small");
        Ok(at)
    }
}

/// A call moves what is left of one sector at most.
impl embedded_io::Read for Card {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, CardError> {
        if self.is_off {
            return Err(CardError::PowerIsOff);
        }
        let shown = &self.shown(self.at / self.sector)[self.at % self.sector..];
        let len = shown.len().min(buf.len());
        buf[..len].copy_from_slice(&shown[..len]);
        self.at += len;
        Ok(len)
    }
}

impl embedded_io::Write for Card {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, CardError> {
        let (number, within) = (self.at / self.sector, self.at % self.sector);
        let mut sector = self.shown(number).to_vec();
        let len = (sector.len() - within).min(bytes.len());
        sector[within..][..len].copy_from_slice(&bytes[..len]);
        self.put(number, sector)?;
        self.at += len;
        Ok(len)
    }

    fn flush(&mut self) -> Result<(), CardError> {
        Self::flush(self)
    }
}
