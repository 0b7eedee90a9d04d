//! Block media: SD cards, eMMC, disks, by sectors of 512 bytes.

use super::medium::{AsyncMedium, Info, Medium};

/// Bytes of a sector.
pub const SECTOR: usize = 512;
const SECTOR_SIZE: u32 = 512;

/// A block device, blocking: what any driver of an SD card or disk offers.
///
/// A power cut while a sector is written may leave it as anything, and harms no other. It can be read afterwards: where a card
/// answers with an error for a sector that was torn, return anything for it, zeros for example.
pub trait BlockDevice {
    /// What goes wrong here.
    type Error: core::fmt::Debug;

    /// How many sectors there are.
    fn sectors(&self) -> u32;

    /// Reads one sector.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&mut self, sector: u32, buf: &mut [u8; SECTOR]) -> Result<(), Self::Error>;

    /// Writes one sector.
    ///
    /// # Errors
    /// It may hold anything.
    fn write(&mut self, sector: u32, bytes: &[u8; SECTOR]) -> Result<(), Self::Error>;

    /// Makes durable what was written; nothing to do where a write is durable when it returns.
    ///
    /// # Errors
    /// What was written may be lost.
    fn flush(&mut self) -> Result<(), Self::Error>;
}

/// [`BlockDevice`], awaited.
#[allow(async_fn_in_trait)] // As for every medium.
pub trait AsyncBlockDevice {
    /// What goes wrong here.
    type Error: core::fmt::Debug;
    /// See [`BlockDevice::sectors`].
    fn sectors(&self) -> u32;
    /// See [`BlockDevice::read`].
    async fn read(&mut self, sector: u32, buf: &mut [u8; SECTOR]) -> Result<(), Self::Error>;
    /// See [`BlockDevice::write`].
    async fn write(&mut self, sector: u32, bytes: &[u8; SECTOR]) -> Result<(), Self::Error>;
    /// See [`BlockDevice::flush`].
    async fn flush(&mut self) -> Result<(), Self::Error>;
}

/// A run of sectors as a medium: a partition, or the whole device up to 4 GiB.
#[derive(Clone, Copy, Debug)]
pub struct Sectors<B> {
    device: B,
    first: u32,
    count: u32,
}

impl<B> Sectors<B> {
    /// The `count` sectors from `first` on. What is beyond 4 GiB, or beyond the device, is not used.
    #[must_use]
    pub fn new(device: B, first: u32, count: u32) -> Self {
        Self { device, first, count: count.min(u32::MAX / SECTOR_SIZE) }
    }

    fn info_of(&self, sectors: u32) -> Info {
        let count = self.count.min(sectors.saturating_sub(self.first));
        Info {
            capacity: count * SECTOR_SIZE,
            write_size: SECTOR_SIZE,
            erase_size: SECTOR_SIZE,
            is_flash: false,
            is_settled: true,
        }
    }
}

/// Which bytes of which sector come next for a piece of `len` bytes at `at`.
fn piece(at: u32, len: usize) -> (u32, core::ops::Range<usize>) {
    let from = (at % SECTOR_SIZE) as usize;
    (at / SECTOR_SIZE, from..SECTOR.min(from + len))
}

fn advanced(at: u32, by: usize) -> u32 {
    at.saturating_add(u32::try_from(by).unwrap_or(u32::MAX))
}

impl<B: BlockDevice> Medium for Sectors<B> {
    type Error = B::Error;

    fn info(&self) -> Info {
        self.info_of(self.device.sectors())
    }

    fn read(&mut self, mut at: u32, mut buf: &mut [u8]) -> Result<(), B::Error> {
        let mut sector = [0; SECTOR];
        while !buf.is_empty() {
            let (number, part) = piece(at, buf.len());
            self.device.read(self.first + number, &mut sector)?;
            let (now, later) = core::mem::take(&mut buf).split_at_mut(part.len());
            at = advanced(at, part.len());
            now.copy_from_slice(&sector[part]);
            buf = later;
        }
        Ok(())
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), B::Error> {
        for (number, bytes) in (self.first + at / SECTOR_SIZE..).zip(bytes.as_chunks::<SECTOR>().0) {
            self.device.write(number, bytes)?;
        }
        Ok(())
    }

    fn erase(&mut self, from: u32, to: u32, blank: u8) -> Result<(), B::Error> {
        for number in from / SECTOR_SIZE..to / SECTOR_SIZE {
            self.device.write(self.first + number, &[blank; SECTOR])?;
        }
        self.device.flush()
    }

    fn flush(&mut self) -> Result<(), B::Error> {
        self.device.flush()
    }

    fn is_filled(&mut self, mut at: u32, mut len: usize, byte: u8) -> Result<bool, B::Error> {
        let mut sector = [0; SECTOR];
        while len > 0 {
            let (number, part) = piece(at, len);
            self.device.read(self.first + number, &mut sector)?;
            (at, len) = (advanced(at, part.len()), len - part.len());
            if sector[part].iter().any(|other| *other != byte) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl<B: AsyncBlockDevice> AsyncMedium for Sectors<B> {
    type Error = B::Error;

    fn info(&self) -> Info {
        self.info_of(self.device.sectors())
    }

    async fn read(&mut self, mut at: u32, mut buf: &mut [u8]) -> Result<(), B::Error> {
        let mut sector = [0; SECTOR];
        while !buf.is_empty() {
            let (number, part) = piece(at, buf.len());
            self.device.read(self.first + number, &mut sector).await?;
            let (now, later) = core::mem::take(&mut buf).split_at_mut(part.len());
            at = advanced(at, part.len());
            now.copy_from_slice(&sector[part]);
            buf = later;
        }
        Ok(())
    }

    async fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), B::Error> {
        for (number, bytes) in (self.first + at / SECTOR_SIZE..).zip(bytes.as_chunks::<SECTOR>().0) {
            self.device.write(number, bytes).await?;
        }
        Ok(())
    }

    async fn erase(&mut self, from: u32, to: u32, blank: u8) -> Result<(), B::Error> {
        for number in from / SECTOR_SIZE..to / SECTOR_SIZE {
            self.device.write(self.first + number, &[blank; SECTOR]).await?;
        }
        self.device.flush().await
    }

    async fn flush(&mut self) -> Result<(), B::Error> {
        self.device.flush().await
    }

    async fn is_filled(&mut self, mut at: u32, mut len: usize, byte: u8) -> Result<bool, B::Error> {
        let mut sector = [0; SECTOR];
        while len > 0 {
            let (number, part) = piece(at, len);
            self.device.read(self.first + number, &mut sector).await?;
            (at, len) = (advanced(at, part.len()), len - part.len());
            if sector[part].iter().any(|other| *other != byte) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
