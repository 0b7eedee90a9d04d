//! Anything that can be read, written and sought in, by the traits of `embedded-io`.

use super::medium::Info;

/// A run of a stream as a medium. It is taken for one that a cache lies before, and for one that harms no byte outside
/// the granules that a write touches.
#[derive(Clone, Copy, Debug)]
pub struct Stream<T> {
    io: T,
    from: u64,
    len: u32,
    granule: u32,
}

impl<T> Stream<T> {
    /// The `len` bytes from `from` on, which are there already; a torn write harms nothing outside `granule` bytes.
    #[must_use]
    pub fn new(io: T, from: u64, len: u32, granule: u32) -> Self {
        Self { io, from, len, granule }
    }

    fn info(&self) -> Info {
        Info {
            capacity: self.len,
            write_size: self.granule,
            erase_size: self.granule,
            is_flash: false,
            is_settled: false,
        }
    }
}

/// Why a stream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum StreamError<E> {
    /// It ended, or took nothing more, before its length.
    Ended,
    /// Its own error.
    Io(E),
}

/// Blank bytes written at once.
const BLANKS: usize = 64;

#[cfg(feature = "embedded-io")]
impl<T: embedded_io::Read + embedded_io::Write + embedded_io::Seek> Stream<T> {
    fn go(&mut self, at: u32) -> Result<(), StreamError<T::Error>> {
        let to = embedded_io::SeekFrom::Start(self.from + u64::from(at));
        self.io.seek(to).map(drop).map_err(StreamError::Io)
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), StreamError<T::Error>> {
        while !bytes.is_empty() {
            match self.io.write(bytes).map_err(StreamError::Io)? {
                0 => return Err(StreamError::Ended),
                written => bytes = &bytes[written..],
            }
        }
        Ok(())
    }
}

#[cfg(feature = "embedded-io")]
impl<T: embedded_io::Read + embedded_io::Write + embedded_io::Seek> super::medium::Medium for Stream<T> {
    type Error = StreamError<T::Error>;

    fn info(&self) -> Info {
        self.info()
    }

    fn read(&mut self, at: u32, mut buf: &mut [u8]) -> Result<(), Self::Error> {
        self.go(at)?;
        while !buf.is_empty() {
            match self.io.read(buf).map_err(StreamError::Io)? {
                0 => return Err(StreamError::Ended),
                read => buf = &mut buf[read..],
            }
        }
        Ok(())
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        self.go(at)?;
        self.put(bytes)
    }

    fn erase(&mut self, from: u32, to: u32, blank: u8) -> Result<(), Self::Error> {
        self.go(from)?;
        let mut left = (to - from) as usize;
        while left > 0 {
            let len = left.min(BLANKS);
            self.put(&[blank; BLANKS][..len])?;
            left -= len;
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        self.io.flush().map_err(StreamError::Io)
    }
}

#[cfg(feature = "embedded-io-async")]
impl<T: embedded_io_async::Read + embedded_io_async::Write + embedded_io_async::Seek> Stream<T> {
    async fn go_async(&mut self, at: u32) -> Result<(), StreamError<T::Error>> {
        let to = embedded_io_async::SeekFrom::Start(self.from + u64::from(at));
        self.io.seek(to).await.map(drop).map_err(StreamError::Io)
    }

    async fn put_async(&mut self, mut bytes: &[u8]) -> Result<(), StreamError<T::Error>> {
        while !bytes.is_empty() {
            match self.io.write(bytes).await.map_err(StreamError::Io)? {
                0 => return Err(StreamError::Ended),
                written => bytes = &bytes[written..],
            }
        }
        Ok(())
    }
}

#[cfg(feature = "embedded-io-async")]
impl<T: embedded_io_async::Read + embedded_io_async::Write + embedded_io_async::Seek> super::medium::AsyncMedium
    for Stream<T>
{
    type Error = StreamError<T::Error>;

    fn info(&self) -> Info {
        self.info()
    }

    async fn read(&mut self, at: u32, mut buf: &mut [u8]) -> Result<(), Self::Error> {
        self.go_async(at).await?;
        while !buf.is_empty() {
            match self.io.read(buf).await.map_err(StreamError::Io)? {
                0 => return Err(StreamError::Ended),
                read => buf = &mut buf[read..],
            }
        }
        Ok(())
    }

    async fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        self.go_async(at).await?;
        self.put_async(bytes).await
    }

    async fn erase(&mut self, from: u32, to: u32, blank: u8) -> Result<(), Self::Error> {
        self.go_async(from).await?;
        let mut left = (to - from) as usize;
        while left > 0 {
            let len = left.min(BLANKS);
            self.put_async(&[blank; BLANKS][..len]).await?;
            left -= len;
        }
        super::medium::AsyncMedium::flush(self).await
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        self.io.flush().await.map_err(StreamError::Io)
    }
}
