//! Other logs, in the same table: built only where they were asked for.

use std::path::Path;

use crate::{Result, ratio::Side};

#[cfg(not(feature = "peers"))]
pub(crate) fn durable(_: &Path, _: usize, _: usize) -> Result<Vec<Box<dyn Side>>> {
    Err("the other logs are not built in: run this with `--peers` through cargo xtask bench".into())
}

#[cfg(feature = "peers")]
pub(crate) use built::durable;

#[cfg(feature = "peers")]
mod built {
    use core::time::Duration;
    use std::{thread, time::Instant};

    use tempfile::TempDir;

    use super::{Path, Result, Side};
    use crate::ratio::Block;

    /// Durable appends of one payload.
    trait Peer: Send + Sync {
        fn append(&self, bytes: &[u8]) -> Result<()>;
    }

    /// A peer as a side.
    struct Durable {
        name: &'static str,
        peer: Box<dyn Peer>,
        threads: usize,
        bytes: Vec<u8>,
        _dir: TempDir,
    }

    pub(crate) fn durable(dir: &Path, payload: usize, threads: usize) -> Result<Vec<Box<dyn Side>>> {
        let mut sides: Vec<Box<dyn Side>> = Vec::new();
        let mut side = |name, open: fn(&Path) -> Result<Box<dyn Peer>>| -> Result<()> {
            let dir = tempfile::tempdir_in(dir)?;
            let peer = open(dir.path())?;
            sides.push(Box::new(Durable { name, peer, threads, bytes: vec![3; payload], _dir: dir }));
            Ok(())
        };
        side("okaywal", |dir| Ok(Box::new(okaywal::WriteAheadLog::recover(dir, okaywal::VoidLogManager)?)))?;
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

    impl Side for Durable {
        fn name(&self) -> String {
            self.name.into()
        }

        fn block(&mut self, least: Duration) -> Result<Block> {
            let start = Instant::now();
            let one = || {
                let mut waits = Vec::new();
                while start.elapsed() < least {
                    let before = Instant::now();
                    self.peer.append(&self.bytes).map_err(|error| error.to_string())?;
                    waits.push(before.elapsed());
                }
                Ok::<_, String>(waits)
            };
            let mut waits = Vec::new();
            thread::scope(|scope| {
                let writers: Vec<_> = (0..self.threads).map(|_| scope.spawn(one)).collect();
                for writer in writers {
                    waits.extend(writer.join().map_err(|_| "a writer panicked")??);
                }
                Ok::<_, crate::Error>(())
            })?;
            let time = start.elapsed();
            Ok(Block { bytes: (waits.len() * self.bytes.len()) as u64, time, waits })
        }
    }

    impl Peer for okaywal::WriteAheadLog {
        fn append(&self, bytes: &[u8]) -> Result<()> {
            let mut entry = self.begin_entry()?;
            entry.write_chunk(bytes)?;
            entry.commit()?;
            Ok(())
        }
    }

    impl Peer for raft_engine::Engine {
        fn append(&self, bytes: &[u8]) -> Result<()> {
            let mut batch = raft_engine::LogBatch::default();
            batch.put(1, b"key".to_vec(), bytes.to_vec())?;
            self.write(&mut batch, true)?;
            Ok(())
        }
    }

    struct Fjall {
        keyspace: fjall::Keyspace,
        partition: fjall::PartitionHandle,
        next: core::sync::atomic::AtomicU64,
    }

    impl Peer for Fjall {
        fn append(&self, bytes: &[u8]) -> Result<()> {
            let key = self.next.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
            self.partition.insert(key.to_be_bytes(), bytes)?;
            self.keyspace.persist(fjall::PersistMode::SyncData)?;
            Ok(())
        }
    }
}
