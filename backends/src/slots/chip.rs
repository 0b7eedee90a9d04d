//! A simulated flash chip, for tests: it loses power where it is told to, tears what it was doing, and forbids what a real
//! one does not bear.

use core::fmt;

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

/// What becomes of the word or the erase that the power cut interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tear {
    /// It was not begun.
    Before,
    /// It was done, and only the answer is missing.
    After,
    /// Any mix: of a word's old bits and new ones, of an erase's sectors noise; the number chooses.
    Mix(u64),
    /// The word reads as blank, and does not take another writing: it was written too weakly to be read.
    Weak,
}

/// Where the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// After so many words written and sectors erased.
    pub after: u64,
    /// How the next one goes.
    pub tear: Tear,
}

/// What went wrong on the chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChipError {
    /// The power is gone.
    PowerIsOff,
    /// A word was written that was written before, and not erased since: real flash does not bear it.
    WrittenTwice {
        /// Where.
        at: u32,
    },
    /// The word, or the sector, is worn out.
    WornOut {
        /// Where.
        at: u32,
    },
    /// The access is not aligned, or beyond the end.
    Access(NorFlashErrorKind),
}

impl fmt::Display for ChipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerIsOff => f.write_str("the power is off"),
            Self::WrittenTwice { at } => write!(f, "the word at {at} was written twice"),
            Self::WornOut { at } => write!(f, "the flash at {at} is worn out"),
            Self::Access(kind) => kind.fmt(f),
        }
    }
}

impl core::error::Error for ChipError {}

impl NorFlashError for ChipError {
    fn kind(&self) -> NorFlashErrorKind {
        if let Self::Access(kind) = self { *kind } else { NorFlashErrorKind::Other }
    }
}

/// What a word is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Word {
    Erased,
    Written,
    /// It reads as blank and takes no writing.
    Weak,
    /// It takes no writing, ever.
    Worn,
}

/// A chip with words of `WRITE` bytes and sectors of `ERASE` bytes.
///
/// # Panics
/// A word that is written a second time without an erase is an error, and [`violation`](Self::violation) tells of it
/// afterwards, whatever became of the error.
#[derive(Clone, Debug)]
pub struct Chip<const WRITE: usize, const ERASE: usize> {
    bytes: Vec<u8>,
    words: Vec<Word>,
    worn_sectors: Vec<usize>,
    blank: u8,
    cut: Option<Cut>,
    is_off: bool,
    /// Words written and sectors erased.
    steps: u64,
    erases: Vec<u32>,
    reads: u64,
    violation: Option<ChipError>,
}

impl<const WRITE: usize, const ERASE: usize> Chip<WRITE, ERASE> {
    /// A new chip: `sectors` sectors, erased, which read as `blank`.
    ///
    /// # Panics
    /// If words do not make up sectors.
    #[must_use]
    pub fn new(sectors: usize, blank: u8) -> Self {
        assert!(WRITE > 0 && ERASE.is_multiple_of(WRITE), "a sector is made of words");
        Self {
            bytes: vec![blank; sectors * ERASE],
            words: vec![Word::Erased; sectors * ERASE / WRITE],
            worn_sectors: Vec::new(),
            blank,
            cut: None,
            is_off: false,
            steps: 0,
            erases: vec![0; sectors],
            reads: 0,
            violation: None,
        }
    }

    /// The chip with power again, after a cut or without one. Counts go on.
    pub fn power_up(&mut self, cut: Option<Cut>) {
        self.is_off = false;
        self.cut = cut.map(|cut| Cut { after: self.steps + cut.after, ..cut });
    }

    /// Whether the power is gone.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.is_off
    }

    /// Words written and sectors erased so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// How often each sector was erased.
    #[must_use]
    pub fn erases(&self) -> &[u32] {
        &self.erases
    }

    /// Reads so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// What the driver did that real flash does not bear.
    #[must_use]
    pub fn violation(&self) -> Option<ChipError> {
        self.violation
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, to be changed behind the driver's back. What is not blank afterwards counts as written.
    pub fn change(&mut self, change: impl FnOnce(&mut [u8])) {
        change(&mut self.bytes);
        for (word, bytes) in self.words.iter_mut().zip(self.bytes.chunks(WRITE)) {
            if *word == Word::Erased && bytes.iter().any(|byte| *byte != self.blank) {
                *word = Word::Written;
            }
        }
    }

    /// The word at `at` takes no writing any more.
    pub fn wear_word(&mut self, at: usize) {
        self.words[at / WRITE] = Word::Worn;
    }

    /// The sector at `at` cannot be erased any more.
    pub fn wear_sector(&mut self, at: usize) {
        self.worn_sectors.push(at / ERASE);
    }

    /// Whether this step is the one that the power cut interrupts.
    fn step(&mut self) -> Result<Option<Tear>, ChipError> {
        if self.is_off {
            return Err(ChipError::PowerIsOff);
        }
        match self.cut {
            Some(cut) if self.steps >= cut.after => {
                self.is_off = true;
                Ok(Some(cut.tear))
            }
            _ => {
                self.steps += 1;
                Ok(None)
            }
        }
    }

    fn write_word(&mut self, index: usize, new: &[u8]) -> Result<(), ChipError> {
        if self.is_off {
            return Err(ChipError::PowerIsOff);
        }
        let at = u32::try_from(index * WRITE).unwrap_or(u32::MAX);
        match self.words[index] {
            Word::Erased => {}
            Word::Written => {
                let violation = ChipError::WrittenTwice { at };
                self.violation.get_or_insert(violation);
                return Err(violation);
            }
            Word::Weak | Word::Worn => {
                self.step()?;
                return Err(ChipError::WornOut { at });
            }
        }
        let tear = self.step()?;
        let old = &mut self.bytes[index * WRITE..][..WRITE];
        match tear {
            None | Some(Tear::After) => {
                old.copy_from_slice(new);
                self.words[index] = Word::Written;
            }
            Some(Tear::Before) => {}
            Some(Tear::Weak) => self.words[index] = Word::Weak,
            Some(Tear::Mix(seed)) => {
                for (number, (old, new)) in old.iter_mut().zip(new).enumerate() {
                    let mask = noise(seed, number);
                    *old = *old & !mask | *new & mask;
                }
                // What shows no bit of the writing is as erased as before.
                if old.iter().any(|byte| *byte != self.blank) {
                    self.words[index] = Word::Written;
                }
            }
        }
        if tear.is_some() { Err(ChipError::PowerIsOff) } else { Ok(()) }
    }

    fn erase_sector(&mut self, sector: usize) -> Result<(), ChipError> {
        let tear = self.step()?;
        let (bytes, words) =
            (sector * ERASE..(sector + 1) * ERASE, sector * ERASE / WRITE..(sector + 1) * ERASE / WRITE);
        if self.worn_sectors.contains(&sector) {
            return Err(ChipError::WornOut { at: u32::try_from(bytes.start).unwrap_or(u32::MAX) });
        }
        match tear {
            Some(Tear::Before) => {}
            None | Some(Tear::After) => {
                self.bytes[bytes].fill(self.blank);
                for word in self.words[words].iter_mut().filter(|word| **word != Word::Worn) {
                    *word = Word::Erased;
                }
                self.erases[sector] += 1;
            }
            Some(tear) => {
                let seed = if let Tear::Mix(seed) = tear { seed } else { 0 };
                for (number, byte) in self.bytes[bytes].iter_mut().enumerate() {
                    // Nearly erased all over, half-way, or hardly begun: by parts of the sector.
                    let mask = match noise(seed, number / 64) % 3 {
                        0 => 0xFF,
                        1 => noise(seed, number),
                        _ => noise(seed, number) & noise(seed + 1, number),
                    };
                    *byte = *byte & !mask | self.blank & mask;
                }
                // Nothing of it may be written before it has been erased.
                for word in self.words[words].iter_mut().filter(|word| **word != Word::Worn) {
                    *word = Word::Written;
                }
            }
        }
        if tear.is_some() { Err(ChipError::PowerIsOff) } else { Ok(()) }
    }
}

/// A byte that looks like no other.
fn noise(seed: u64, number: usize) -> u8 {
    let mixed = (seed ^ number as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 56).to_le_bytes()[0]
}

impl<const WRITE: usize, const ERASE: usize> ErrorType for Chip<WRITE, ERASE> {
    type Error = ChipError;
}

impl<const WRITE: usize, const ERASE: usize> ReadNorFlash for Chip<WRITE, ERASE> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), ChipError> {
        check_read(self, offset, bytes.len()).map_err(ChipError::Access)?;
        if self.is_off {
            return Err(ChipError::PowerIsOff);
        }
        self.reads += 1;
        bytes.copy_from_slice(&self.bytes[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl<const WRITE: usize, const ERASE: usize> NorFlash for Chip<WRITE, ERASE> {
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = ERASE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), ChipError> {
        check_erase(self, from, to).map_err(ChipError::Access)?;
        (from as usize / ERASE..to as usize / ERASE).try_for_each(|sector| self.erase_sector(sector))
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), ChipError> {
        check_write(self, offset, bytes.len()).map_err(ChipError::Access)?;
        let words = bytes.chunks(WRITE).enumerate();
        words.map(|(n, word)| (offset as usize / WRITE + n, word)).try_for_each(|(at, word)| self.write_word(at, word))
    }
}
