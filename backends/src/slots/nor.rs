//! NOR flash, by the traits that drivers of flash implement.

#[cfg(feature = "nor")]
use embedded_storage::nor_flash as blocking;
#[cfg(feature = "nor-async")]
use embedded_storage_async::nor_flash as awaited;

use super::medium::Info;

/// A run of a flash chip, or of a controller's own flash, as a medium.
///
/// Flash with an error-correcting code (most with words of 8 bytes and more) answers with an error where a word is read that a
/// power cut has torn. The driver has to return zeros for it: what cannot be read counts as damage, and a log is refused that ends
/// in it.
///
/// A driver that reads more than 32 bytes at once (its `READ_SIZE`) is refused when the program is compiled: it needs a
/// [`Medium`](super::Medium) of its own, with room for so many.
///
/// ```compile_fail
/// # #[cfg(not(feature = "nor"))] compile_error!("there is nothing to be refused");
/// use duralog::slots::{Medium, Nor};
/// use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};
///
/// struct Large;
///
/// impl ErrorType for Large {
///     type Error = NorFlashErrorKind;
/// }
///
/// impl ReadNorFlash for Large {
///     const READ_SIZE: usize = 64; // With 32 this compiles.
///
///     fn read(&mut self, _: u32, _: &mut [u8]) -> Result<(), NorFlashErrorKind> {
///         Ok(())
///     }
///
///     fn capacity(&self) -> usize {
///         65536
///     }
/// }
///
/// impl NorFlash for Large {
///     const WRITE_SIZE: usize = 8;
///     const ERASE_SIZE: usize = 4096;
///
///     fn erase(&mut self, _: u32, _: u32) -> Result<(), NorFlashErrorKind> {
///         Ok(())
///     }
///
///     fn write(&mut self, _: u32, _: &[u8]) -> Result<(), NorFlashErrorKind> {
///         Ok(())
///     }
/// }
///
/// Nor::new(Large, 0, 65536).read(0, &mut [0; 4]).unwrap();
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Nor<F> {
    flash: F,
    from: u32,
    len: u32,
}

/// The most bytes that a driver may read at once: on the stack.
const WORD_MAX: usize = 32;

/// Drivers that read more at once cannot be compiled.
const fn is_read_size(read_size: usize) {
    assert!(read_size <= WORD_MAX, "`Nor` takes drivers with a `READ_SIZE` of at most 32 bytes");
}

impl<F> Nor<F> {
    /// The `len` bytes from `from` on, both multiples of the erase size.
    #[must_use]
    pub fn new(flash: F, from: u32, len: u32) -> Self {
        Self { flash, from, len }
    }

    /// The flash.
    #[must_use]
    pub fn flash(&self) -> &F {
        &self.flash
    }

    fn info_of(&self, capacity: usize, write_size: usize, erase_size: usize) -> Info {
        let number = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        Info {
            capacity: self.len.min(number(capacity).saturating_sub(self.from)),
            write_size: number(write_size),
            erase_size: number(erase_size),
            is_flash: true,
            is_settled: true,
        }
    }
}

/// A read of whole words: from where, how many bytes, and which of them are wanted.
fn words(at: u32, wanted: usize, read_size: usize) -> (u32, usize, core::ops::Range<usize>) {
    let before = at as usize % read_size;
    let len = (before + wanted).next_multiple_of(read_size).min(WORD_MAX / read_size * read_size);
    (at - u32::try_from(before).unwrap_or(0), len, before..len.min(before + wanted))
}

#[cfg(feature = "nor")]
impl<F: blocking::NorFlash> super::medium::Medium for Nor<F> {
    type Error = F::Error;

    fn info(&self) -> Info {
        self.info_of(self.flash.capacity(), F::WRITE_SIZE, F::ERASE_SIZE)
    }

    fn read(&mut self, at: u32, buf: &mut [u8]) -> Result<(), F::Error> {
        const { is_read_size(F::READ_SIZE) };
        if F::READ_SIZE <= 1 {
            return self.flash.read(self.from + at, buf);
        }
        let mut at = self.from + at;
        let mut rest = buf;
        while !rest.is_empty() {
            let mut word = [0; WORD_MAX];
            let (from, len, part) = words(at, rest.len(), F::READ_SIZE);
            self.flash.read(from, &mut word[..len])?;
            let (now, later) = rest.split_at_mut(part.len());
            at += u32::try_from(part.len()).unwrap_or(0);
            now.copy_from_slice(&word[part]);
            rest = later;
        }
        Ok(())
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), F::Error> {
        self.flash.write(self.from + at, bytes)
    }

    fn erase(&mut self, from: u32, to: u32, _: u8) -> Result<(), F::Error> {
        self.flash.erase(self.from + from, self.from + to)
    }

    /// What flash has programmed, it keeps.
    fn flush(&mut self) -> Result<(), F::Error> {
        Ok(())
    }
}

#[cfg(feature = "nor-async")]
impl<F: awaited::NorFlash> super::medium::AsyncMedium for Nor<F> {
    type Error = F::Error;

    fn info(&self) -> Info {
        self.info_of(self.flash.capacity(), F::WRITE_SIZE, F::ERASE_SIZE)
    }

    async fn read(&mut self, at: u32, buf: &mut [u8]) -> Result<(), F::Error> {
        const { is_read_size(F::READ_SIZE) };
        if F::READ_SIZE <= 1 {
            return self.flash.read(self.from + at, buf).await;
        }
        let mut at = self.from + at;
        let mut rest = buf;
        while !rest.is_empty() {
            let mut word = [0; WORD_MAX];
            let (from, len, part) = words(at, rest.len(), F::READ_SIZE);
            self.flash.read(from, &mut word[..len]).await?;
            let (now, later) = rest.split_at_mut(part.len());
            at += u32::try_from(part.len()).unwrap_or(0);
            now.copy_from_slice(&word[part]);
            rest = later;
        }
        Ok(())
    }

    async fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), F::Error> {
        self.flash.write(self.from + at, bytes).await
    }

    async fn erase(&mut self, from: u32, to: u32, _: u8) -> Result<(), F::Error> {
        self.flash.erase(self.from + from, self.from + to).await
    }

    /// What flash has programmed, it keeps.
    async fn flush(&mut self) -> Result<(), F::Error> {
        Ok(())
    }
}
