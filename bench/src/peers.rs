//! Other logs, in the same table: built only where they were asked for.

use std::path::Path;

use crate::{Result, ratio::Side};

/// What the others are to do.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "peers"), expect(dead_code))]
pub(crate) enum Task {
    /// Durable appends of so many payloads each, by so many threads.
    Durable {
        /// How many threads.
        threads: usize,
        /// How many payloads are one append.
        batch: usize,
    },
    /// So many bytes of payloads by one thread, and one sync.
    Stream {
        /// That many.
        len: u64,
    },
}

#[cfg(not(feature = "peers"))]
pub(crate) fn sides(_: &Path, _: usize, _: Task) -> Result<Vec<Box<dyn Side>>> {
    Err("the other logs are not built in: run this with `--peers` through cargo xtask bench".into())
}

#[cfg(feature = "peers")]
pub(crate) use built::sides;

#[cfg(feature = "peers")]
mod built {
    use core::time::Duration;
    use std::{thread, time::Instant};

    use tempfile::TempDir;

    use super::{Path, Result, Side, Task};
    use crate::ratio::Block;

    /// Another log.
    trait Peer: Send + Sync {
        /// Appends the payloads together, durably or not.
        fn append(&self, payloads: &[&[u8]], durable: bool) -> Result<()>;

        /// Makes durable what was appended.
        fn sync(&self) -> Result<()>;
    }

    /// A peer as a side.
    struct At {
        name: &'static str,
        peer: Box<dyn Peer>,
        task: Task,
        bytes: Vec<u8>,
        _dir: TempDir,
    }

    pub(crate) fn sides(dir: &Path, payload: usize, task: Task) -> Result<Vec<Box<dyn Side>>> {
        let mut sides: Vec<Box<dyn Side>> = Vec::new();
        let mut side = |name, open: fn(&Path) -> Result<Box<dyn Peer>>| -> Result<()> {
            let dir = tempfile::tempdir_in(dir)?;
            let peer = open(dir.path())?;
            sides.push(Box::new(At { name, peer, task, bytes: vec![3; payload], _dir: dir }));
            Ok(())
        };
        // It syncs with each commit: there is no stream of it.
        if let Task::Durable { .. } = task {
            side("okaywal", |dir| Ok(Box::new(okaywal::WriteAheadLog::recover(dir, Forgetful)?)))?;
        }
        side("raft-engine", |dir| {
            let config = raft_engine::Config { dir: dir.to_string_lossy().into_owned(), ..Default::default() };
            Ok(Box::new(raft_engine::Engine::open(config)?))
        })?;
        side("fjall", |dir| {
            let keyspace = fjall::Config::new(dir).open()?;
            let partition = keyspace.open_partition("log", fjall::PartitionCreateOptions::default())?;
            Ok(Box::new(Fjall { keyspace, partition, next: 0.into() }))
        })?;
        Ok(sides)
    }

    impl Side for At {
        fn name(&self) -> String {
            self.name.into()
        }

        fn block(&mut self, least: Duration) -> Result<Block> {
            match self.task {
                Task::Durable { threads, batch } => self.durable(least, threads, batch),
                Task::Stream { len } => self.stream(len),
            }
        }
    }

    impl At {
        fn durable(&self, least: Duration, threads: usize, batch: usize) -> Result<Block> {
            let start = Instant::now();
            let payloads = vec![&self.bytes[..]; batch];
            let one = || {
                let mut waits = Vec::new();
                while start.elapsed() < least {
                    let before = Instant::now();
                    self.peer.append(&payloads, true).map_err(|error| error.to_string())?;
                    waits.push(before.elapsed());
                }
                Ok::<_, String>(waits)
            };
            let mut waits = Vec::new();
            thread::scope(|scope| {
                let writers: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
                for writer in writers {
                    waits.extend(writer.join().map_err(|_| "a writer panicked")??);
                }
                Ok::<_, crate::Error>(())
            })?;
            let time = start.elapsed();
            Ok(Block { bytes: (waits.len() * batch * self.bytes.len()) as u64, time, waits })
        }

        /// Counts payload bytes, for what surrounds them is not known here.
        fn stream(&self, len: u64) -> Result<Block> {
            let appends = len / self.bytes.len() as u64;
            let start = Instant::now();
            for _ in 0..appends {
                self.peer.append(&[&self.bytes], false)?;
            }
            self.peer.sync()?;
            Ok(Block { bytes: appends * self.bytes.len() as u64, time: start.elapsed(), waits: Vec::new() })
        }
    }

    /// Keeps nothing of what okaywal recovers and gives up.
    #[derive(Debug)]
    struct Forgetful;

    impl okaywal::LogManager for Forgetful {
        fn recover(&mut self, _: &mut okaywal::Entry<'_>) -> std::io::Result<()> {
            Ok(())
        }

        fn checkpoint_to(
            &mut self,
            _: okaywal::EntryId,
            _: &mut okaywal::SegmentReader,
            _: &okaywal::WriteAheadLog,
        ) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Peer for okaywal::WriteAheadLog {
        fn append(&self, payloads: &[&[u8]], _: bool) -> Result<()> {
            let mut entry = self.begin_entry()?;
            for bytes in payloads {
                entry.write_chunk(bytes)?;
            }
            entry.commit()?;
            Ok(())
        }

        fn sync(&self) -> Result<()> {
            Ok(())
        }
    }

    impl Peer for raft_engine::Engine {
        fn append(&self, payloads: &[&[u8]], durable: bool) -> Result<()> {
            let mut batch = raft_engine::LogBatch::default();
            for bytes in payloads {
                batch.put(1, b"key".to_vec(), bytes.to_vec())?;
            }
            self.write(&mut batch, durable)?;
            Ok(())
        }

        fn sync(&self) -> Result<()> {
            Ok(Self::sync(self)?)
        }
    }

    struct Fjall {
        keyspace: fjall::Keyspace,
        partition: fjall::PartitionHandle,
        next: core::sync::atomic::AtomicU64,
    }

    impl Peer for Fjall {
        fn append(&self, payloads: &[&[u8]], durable: bool) -> Result<()> {
            let mut batch = self.keyspace.batch();
            for bytes in payloads {
                let key = self.next.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
                batch.insert(&self.partition, key.to_be_bytes(), *bytes);
            }
            batch.commit()?;
            if durable { Peer::sync(self) } else { Ok(()) }
        }

        fn sync(&self) -> Result<()> {
            Ok(self.keyspace.persist(fjall::PersistMode::SyncData)?)
        }
    }
}
