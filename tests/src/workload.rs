//! What is done to a log, and on what medium.

use std::sync::Arc;

use duralog::{Config, Environment, Geometry, Proof, SyncMode};

/// One thing that a program does to its log, or that happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Opens it.
    Open,
    /// Appends an entry of so many bytes.
    Append(usize),
    /// Appends an entry of so many bytes and has it written, not synced.
    Write(usize),
    /// Appends a batch of so many entries of so many bytes each.
    Batch(usize, usize),
    /// Appends so many entries of so many bytes in a transaction, with one outside of it in between, and commits.
    Transaction(usize, usize),
    /// The same, and rolls the transaction back.
    Rollback(usize, usize),
    /// Takes a checkpoint in the middle of a transaction of two entries of so many bytes.
    Across(usize),
    /// Appends entries of so many bytes until a segment is begun.
    Fill(usize),
    /// Syncs.
    Sync,
    /// Writes a checkpoint of all that was appended.
    Checkpoint,
    /// Truncates it before the last so many entries, as far as a checkpoint allows.
    Truncate(u64),
    /// The same, whether a checkpoint allows it or not.
    Discard(u64),
    /// Cuts off the last so many entries.
    Cut(u64),
    /// Drops all and goes on so many LSNs later.
    Reset(u64),
    /// Closes it.
    Close,
    /// Drops the handle without closing.
    Leave,
    /// The process dies: what it wrote stays in the cache.
    Kill,
    /// The power goes.
    PowerCut(Left),
}

/// What a power cut in a workload leaves of the unsynced operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// All, and of the last one, which is a write, half.
    HalfTheLast,
}

/// A medium, and how a log is opened on it.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// For messages.
    pub name: &'static str,
    /// The medium.
    pub geometry: Geometry,
    /// The write limit.
    pub write_limit: u32,
    /// When appends are durable.
    pub sync_mode: SyncMode,
    /// When they are proved to be.
    pub proof: Proof,
    /// Whether the room of removed segments is handed out again, full of what stood there.
    pub room: SegmentRoom,
    /// Where the nonces of segments come from.
    pub nonces: Nonces,
}

/// What room for new segments is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentRoom {
    /// Blank.
    Blank,
    /// That of a removed segment, as it was left, where there is one.
    Recycled,
}

/// The nonces of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nonces {
    /// Each is new.
    Random,
    /// There is no source of random numbers: they are 0.
    Zero,
    /// All are the same, which no writer may do.
    Repeated,
}

/// An environment whose random numbers make such nonces.
#[derive(Debug)]
struct WithNonces {
    environment: Arc<dyn Environment>,
    nonces: Nonces,
}

impl Environment for WithNonces {
    fn now_us(&self) -> u64 {
        self.environment.now_us()
    }

    fn ticks_us(&self) -> u64 {
        self.environment.ticks_us()
    }

    fn random(&self) -> u128 {
        // A nonce is one half of the number on the other.
        match self.nonces {
            Nonces::Random => self.environment.random(),
            Nonces::Zero => (self.environment.random() & u128::from(u64::MAX)) * ((1 << 64) + 1),
            Nonces::Repeated => 0xD0_7A10_6000 << 64 | 7,
        }
    }
}

impl Setup {
    const fn new(name: &'static str, segment_size: u32, granule: u32, copy_offset: u32, blank: u8) -> Self {
        let geometry = Geometry { segment_size, granule, copy_offset, blank, settled: false, slots: None };
        let write_limit = if granule == 512 { 1536 } else { 512 };
        let (room, nonces) = (SegmentRoom::Blank, Nonces::Random);
        Self { name, geometry, write_limit, sync_mode: SyncMode::Immediate, proof: Proof::WithNextWrite, room, nonces }
    }

    /// As files are: writes of any length, blank is zero.
    pub const BYTES: Self = Self::new("bytes", 2048, 1, 128, 0);
    /// As flash is: words of 16 bytes, blank is 0xFF.
    pub const WORDS: Self = Self::new("words", 2560, 16, 512, 0xFF);
    /// As disks are that tear whole sectors.
    pub const SECTORS: Self = Self::new("sectors", 8192, 512, 512, 0);
    /// A medium whose syncs make durable all that it reads, whatever failed before.
    pub const SETTLED: Self = {
        let setup = Self::new("settled", 2048, 16, 128, 0xFF);
        Self { geometry: Geometry { settled: true, ..setup.geometry }, ..setup }
    };
    /// All of them.
    pub const ALL: [Self; 4] = [Self::BYTES, Self::WORDS, Self::SECTORS, Self::SETTLED];

    /// The same, answering appends before they are written.
    #[must_use]
    pub const fn buffered(self) -> Self {
        Self { sync_mode: SyncMode::Async, ..self }
    }

    /// The same, acknowledging what is proved to be durable.
    #[must_use]
    pub const fn proved(self) -> Self {
        Self { proof: Proof::BeforeAcknowledging, ..self }
    }

    /// The same, in room that is handed out again.
    #[must_use]
    pub const fn recycled(self, nonces: Nonces) -> Self {
        Self { room: SegmentRoom::Recycled, nonces, ..self }
    }

    /// Bytes of an entry that fills half of a write: when the third is appended, the first two are written.
    #[must_use]
    pub const fn half(&self) -> usize {
        self.write_limit as usize / 2 - 60
    }

    /// Bytes of an entry, two of which are nearly the largest batch: when a second one is appended, the first is written.
    #[must_use]
    pub const fn half_batch(&self) -> usize {
        let stop = 29usize.next_multiple_of(self.geometry.granule as usize);
        (self.write_limit as usize - stop - 49) / 2 - 37
    }

    /// The configuration that a log is opened with; there is no background thread.
    #[must_use]
    pub fn config(&self, environment: Arc<dyn Environment>) -> Config {
        let config = Config { idle_mark: None, write_behind: None, proof: self.proof, ..Config::default() };
        let environment = Arc::new(WithNonces { environment, nonces: self.nonces });
        config.with_write_limit(self.write_limit).with_sync_mode(self.sync_mode).with_environment(environment)
    }
}
