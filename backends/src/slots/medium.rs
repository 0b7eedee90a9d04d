//! Media without names: bytes at addresses, which are erased before they are written again.

use super::table::{PIECE, offset, pieces};

/// What a medium is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Info {
    /// Bytes of it.
    pub capacity: u32,
    /// Bytes that are written at once; a power of two.
    pub write_size: u32,
    /// Bytes that are erased at once.
    pub erase_size: u32,
    /// Whether a word can be written only once after each erase.
    pub is_flash: bool,
    /// Whether what a read returns is on the medium for good, once a flush has succeeded, whatever failed before: there is
    /// no cache in between that forgets.
    pub is_settled: bool,
}

/// A medium, blocking.
///
/// A power cut while a call runs may leave the words that it touches as any mix of what they were and what they should
/// become, and harms no others. All of them can be read afterwards: an error of a read is a defect of the medium, which is told as
/// damage. Where a word that was torn cannot be read before it is erased, as on flash with an error-correcting code or on a card that
/// answers with a checksum error, the driver has to return something for it, zeros for example.
pub trait Medium {
    /// What goes wrong here.
    type Error: core::fmt::Debug;

    /// What it is like; always the same.
    fn info(&self) -> Info;

    /// Reads the bytes at `at`, all of them.
    ///
    /// # Errors
    /// They cannot be read.
    fn read(&mut self, at: u32, buf: &mut [u8]) -> Result<(), Self::Error>;

    /// Writes `bytes` at `at`, both multiples of the write size, to room that was erased.
    ///
    /// # Errors
    /// Any part of the bytes may have been written.
    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Makes the bytes from `from` up to, not including, `to`, both multiples of the erase size, read as `blank`, and
    /// that durable: what was there does not come back.
    ///
    /// # Errors
    /// The bytes may be anything.
    fn erase(&mut self, from: u32, to: u32, blank: u8) -> Result<(), Self::Error>;

    /// Makes durable all that was written.
    ///
    /// # Errors
    /// What was written may be lost.
    fn flush(&mut self) -> Result<(), Self::Error>;

    /// Whether all of the `len` bytes from `at` on are `byte`. A medium that reads much at once may do better than this, which
    /// reads 32 bytes at once.
    ///
    /// # Errors
    /// They cannot be read.
    fn is_filled(&mut self, at: u32, len: usize, byte: u8) -> Result<bool, Self::Error> {
        for piece in pieces(len) {
            let mut bytes = [0; PIECE];
            let bytes = &mut bytes[..piece.len()];
            self.read(offset(at, piece.start), bytes)?;
            if bytes.iter().any(|other| *other != byte) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// [`Medium`], awaited.
#[allow(async_fn_in_trait)] // Media of one thread have futures that are not `Send`.
pub trait AsyncMedium {
    /// What goes wrong here.
    type Error: core::fmt::Debug;
    /// See [`Medium::info`].
    fn info(&self) -> Info;
    /// See [`Medium::read`].
    async fn read(&mut self, at: u32, buf: &mut [u8]) -> Result<(), Self::Error>;
    /// See [`Medium::write`].
    async fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Self::Error>;
    /// See [`Medium::erase`].
    async fn erase(&mut self, from: u32, to: u32, blank: u8) -> Result<(), Self::Error>;
    /// See [`Medium::flush`].
    async fn flush(&mut self) -> Result<(), Self::Error>;
    /// See [`Medium::is_filled`].
    async fn is_filled(&mut self, at: u32, len: usize, byte: u8) -> Result<bool, Self::Error> {
        for piece in pieces(len) {
            let mut bytes = [0; PIECE];
            let bytes = &mut bytes[..piece.len()];
            self.read(offset(at, piece.start), bytes).await?;
            if bytes.iter().any(|other| *other != byte) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl<M: Medium + ?Sized> Medium for &mut M {
    type Error = M::Error;

    fn info(&self) -> Info {
        (**self).info()
    }

    fn read(&mut self, at: u32, buf: &mut [u8]) -> Result<(), M::Error> {
        (**self).read(at, buf)
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), M::Error> {
        (**self).write(at, bytes)
    }

    fn erase(&mut self, from: u32, to: u32, blank: u8) -> Result<(), M::Error> {
        (**self).erase(from, to, blank)
    }

    fn flush(&mut self) -> Result<(), M::Error> {
        (**self).flush()
    }

    fn is_filled(&mut self, at: u32, len: usize, byte: u8) -> Result<bool, M::Error> {
        (**self).is_filled(at, len, byte)
    }
}

impl<M: AsyncMedium + ?Sized> AsyncMedium for &mut M {
    type Error = M::Error;

    fn info(&self) -> Info {
        (**self).info()
    }

    async fn read(&mut self, at: u32, buf: &mut [u8]) -> Result<(), M::Error> {
        (**self).read(at, buf).await
    }

    async fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), M::Error> {
        (**self).write(at, bytes).await
    }

    async fn erase(&mut self, from: u32, to: u32, blank: u8) -> Result<(), M::Error> {
        (**self).erase(from, to, blank).await
    }

    async fn flush(&mut self) -> Result<(), M::Error> {
        (**self).flush().await
    }

    async fn is_filled(&mut self, at: u32, len: usize, byte: u8) -> Result<bool, M::Error> {
        (**self).is_filled(at, len, byte).await
    }
}
