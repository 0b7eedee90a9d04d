//! What duralog is compared with: the least that a program could do for the same bytes.

use core::time::Duration;
use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Instant,
};

use crate::{
    Result,
    ratio::{Block, Side},
};

/// Bytes of the file that the loops go round in.
pub(crate) const ROOM: u64 = 512 << 20;
const MIB: usize = 1 << 20;

/// A file of [`ROOM`] bytes, allocated, written with zeros and synced; made once.
pub(crate) fn zeroed(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("zeroed");
    if !path.exists() {
        write_zeros(&path, ROOM)?;
    }
    Ok(path)
}

fn write_zeros(path: &Path, len: u64) -> Result<()> {
    let mut file = File::create(path)?;
    let zeros = vec![0; MIB];
    for _ in 0..len / MIB as u64 {
        file.write_all(&zeros)?;
    }
    Ok(file.sync_all()?)
}

/// One thread, one write and one fdatasync an append, payload bytes only, going round in a file.
pub(crate) struct RawLoop {
    name: &'static str,
    file: File,
    bytes: Vec<u8>,
    at: u64,
    /// Whether the file is made anew for each block, with room for its bytes but nothing written.
    allocated: Option<PathBuf>,
}

impl RawLoop {
    /// Into the zeroed file, `len` bytes at a time.
    pub(crate) fn zeroed(dir: &Path, len: usize) -> Result<Self> {
        let file = OpenOptions::new().write(true).open(zeroed(dir)?)?;
        Ok(Self { name: "pwrite + fdatasync, zeroed file", file, bytes: vec![7; len], at: 0, allocated: None })
    }

    /// Into a file that has its room and was never written.
    pub(crate) fn allocated(dir: &Path, len: usize) -> Result<Self> {
        let path = dir.join("allocated");
        let file = allocate(&path)?;
        let name = "pwrite + fdatasync, allocated file";
        Ok(Self { name, file, bytes: vec![7; len], at: 0, allocated: Some(path) })
    }
}

fn allocate(path: &Path) -> Result<File> {
    let file = File::create(path)?;
    let succeeded = std::process::Command::new("fallocate").arg("-l").arg(ROOM.to_string()).arg(path).status()?;
    if !succeeded.success() {
        return Err("fallocate failed".into());
    }
    file.sync_all()?;
    Ok(file)
}

impl Side for RawLoop {
    fn name(&self) -> String {
        self.name.into()
    }

    fn block(&mut self, least: Duration) -> Result<Block> {
        if let Some(path) = &self.allocated {
            self.file = allocate(path)?;
            self.at = 0;
        }
        let len = self.bytes.len() as u64;
        let mut block = Block::default();
        let start = Instant::now();
        while start.elapsed() < least {
            let before = Instant::now();
            if self.at + len > ROOM {
                self.at = 0;
            }
            self.file.write_all_at(&self.bytes, self.at)?;
            self.file.sync_data()?;
            self.at += len;
            block.bytes += len;
            block.waits.push(before.elapsed());
        }
        block.time = start.elapsed();
        Ok(block)
    }
}

/// Writes of 1 MiB one behind the other into the zeroed file, and one sync.
pub(crate) struct RawStream {
    file: File,
    len: u64,
}

impl RawStream {
    pub(crate) fn new(dir: &Path, len: u64) -> Result<Self> {
        Ok(Self { file: OpenOptions::new().write(true).open(zeroed(dir)?)?, len })
    }
}

impl Side for RawStream {
    fn name(&self) -> String {
        "1 MiB writes, one sync".into()
    }

    fn block(&mut self, _: Duration) -> Result<Block> {
        let bytes = vec![7; MIB];
        let start = Instant::now();
        for at in (0..self.len).step_by(MIB) {
            self.file.write_all_at(&bytes, at)?;
        }
        self.file.sync_data()?;
        Ok(Block { bytes: self.len, time: start.elapsed(), waits: Vec::new() })
    }
}

/// Reads of 1 MiB through a file from its beginning, and one checksum over all.
pub(crate) struct RawRead {
    path: PathBuf,
}

impl RawRead {
    /// Through a file of `len` bytes, made for it.
    pub(crate) fn new(dir: &Path, len: u64) -> Result<Self> {
        let path = dir.join("read");
        write_zeros(&path, len)?;
        Ok(Self { path })
    }

    /// Through a file that is there.
    pub(crate) fn of(path: PathBuf) -> Self {
        Self { path }
    }
}

impl Side for RawRead {
    fn name(&self) -> String {
        "1 MiB reads, one CRC-32C".into()
    }

    fn block(&mut self, _: Duration) -> Result<Block> {
        let start = Instant::now();
        let bytes = read_through(&self.path)?;
        Ok(Block { bytes, time: start.elapsed(), waits: Vec::new() })
    }
}

/// Reads a file with one checksum over all; returns how long it is.
pub(crate) fn read_through(path: &Path) -> Result<u64> {
    let mut file = File::open(path)?;
    let mut buf = vec![0; MIB];
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    let mut len = 0;
    loop {
        let read = file.read(&mut buf)?;
        if read == 0 {
            break;
        }
        digest.update(&buf[..read]);
        len += read as u64;
    }
    core::hint::black_box(digest.finalize());
    Ok(len)
}
