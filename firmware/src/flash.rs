//! The flash: on a real board a driver of the controller's own, which implements the same traits. Here a file that the
//! emulator opens on the host, with a copy in memory to read from; the power goes where the host says.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};
use firmware::{FLASH, SECTOR, WORD, noise};
use semihosting::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    println, process,
};

/// The exit status of a power cut.
pub const POWER_CUT: i32 = 2;

/// A file as flash.
pub struct FileFlash {
    file: File,
    bytes: &'static mut [u8; FLASH],
    /// Words written and sectors erased.
    pub steps: u32,
    /// Sectors erased.
    erases: u32,
    /// Where the power goes.
    cut: Option<Cut>,
    seed: u32,
}

/// Where the power goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// After so many words written and sectors erased.
    Step(u32),
    /// After so many sectors erased, in the next erase.
    Erase(u32),
}

impl FileFlash {
    /// The flash in `flash.bin`.
    pub fn open(bytes: &'static mut [u8; FLASH], cut: Option<Cut>, seed: u32) -> Self {
        let mut file = OpenOptions::new().read(true).write(true).open(c"flash.bin").expect("the host made the file");
        let mut read = 0;
        while read < FLASH {
            match file.read(&mut bytes[read..]).expect("the file can be read") {
                0 => panic!("the file is too short"),
                more => read += more,
            }
        }
        Self { file, bytes, steps: 0, erases: 0, cut, seed }
    }

    /// Puts what is in memory into the file.
    fn put(&mut self, at: usize, len: usize) {
        self.file.seek(SeekFrom::Start(at as u64)).expect("the file can be sought in");
        let mut bytes = &self.bytes[at..at + len];
        while !bytes.is_empty() {
            let written = self.file.write(bytes).expect("the file can be written");
            bytes = &bytes[written..];
        }
    }

    /// Whether this step is the one at which the power goes.
    fn is_cut(&mut self) -> bool {
        let cut = self.cut == Some(Cut::Step(self.steps));
        self.steps += 1;
        cut
    }

    fn write_word(&mut self, at: usize, word: &[u8]) {
        let cut = self.is_cut();
        let old = &mut self.bytes[at..at + WORD];
        assert!(old.iter().all(|byte| *byte == 0xFF), "the word at {at} is written twice");
        for (number, (old, new)) in old.iter_mut().zip(word).enumerate() {
            let mask = if cut { noise(self.seed, number) } else { 0xFF };
            *old = *old & !mask | *new & mask;
        }
        self.put(at, WORD);
        if cut {
            power_cut("a word");
        }
    }

    fn erase_sector(&mut self, at: usize) {
        let cut = self.is_cut() | (self.cut == Some(Cut::Erase(self.erases)));
        self.erases += 1;
        for (number, byte) in self.bytes[at..at + SECTOR].iter_mut().enumerate() {
            *byte |= if cut { noise(self.seed, number) } else { 0xFF };
        }
        self.put(at, SECTOR);
        if cut {
            power_cut("an erase");
        }
    }
}

fn power_cut(what: &str) -> ! {
    println!("power cut in {what}");
    process::exit(POWER_CUT)
}

impl ErrorType for FileFlash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for FileFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        bytes.copy_from_slice(&self.bytes[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        FLASH
    }
}

impl NorFlash for FileFlash {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = SECTOR;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        (from as usize..to as usize).step_by(SECTOR).for_each(|at| self.erase_sector(at));
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        for (number, word) in bytes.chunks_exact(WORD).enumerate() {
            self.write_word(offset as usize + number * WORD, word);
        }
        Ok(())
    }
}
