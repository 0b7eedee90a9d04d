//! The core's own two handles behind one, so that a test asks the same of both.
#![allow(missing_docs)] // Each call is that of the core's handles under its name.

use core::convert::identity;

use duralog::Lsn;
use duralog_core::{
    Appended, AsyncDevice, AsyncLog, CheckpointId, Device, Each, Entry, Flow, Host, LogError, LogOptions, LogStats,
    OpenError, Read, Report, TransactionEnd,
};
use uuid::Uuid;

use crate::{Awaited, now};

/// What the clock of these logs shows, always.
pub const NOW: u64 = 1_700_000_000_000_000;
/// Their id.
pub const ID: Uuid = Uuid::from_u128(0x1234_5678_9abc_def0_1122_3344_5566_7788);
/// As much as the native log reads and stages at once.
const BUF: usize = 256 << 10;

/// A handle of the core. The two differ in nothing but that one is awaited: of both is asked the same. The awaited one is on
/// the blocking device in another shape, unless `A` is a device of its own.
#[derive(Debug)]
pub enum Handle<'a, D: Device, A: AsyncDevice<Error = D::Error> = Awaited<D>> {
    Blocking(duralog_core::Log<'a, D>),
    Awaited(AsyncLog<'a, A>),
}

type Done<T, D> = Result<T, LogError<<D as Device>::Error>>;

/// Makes a call on either handle. What the awaited one returns goes through `$on`: [`now`] for a future, or [`identity`].
macro_rules! either {
    ($handle:expr, $on:ident, $call:ident($($argument:expr),*)) => {
        match $handle {
            Handle::Blocking(log) => log.$call($($argument),*),
            Handle::Awaited(log) => $on(log.$call($($argument),*)),
        }
    };
}

impl<D: Device, A: AsyncDevice<Error = D::Error>> Handle<'_, D, A> {
    pub fn append(&mut self, payload: &[u8]) -> Done<Appended, D> {
        either!(self, now, append(NOW, payload))
    }

    pub fn append_batch(&mut self, payloads: &[&[u8]]) -> Done<Appended, D> {
        either!(self, now, append_batch(NOW, payloads))
    }

    pub fn begin_transaction(&mut self) -> Done<u64, D> {
        either!(self, now, begin_transaction(NOW))
    }

    pub fn append_to(&mut self, id: u64, payload: &[u8]) -> Done<Appended, D> {
        either!(self, now, append_to(NOW, id, &[payload]))
    }

    pub fn end_transaction(&mut self, id: u64, end: TransactionEnd) -> Done<Appended, D> {
        either!(self, now, end_transaction(NOW, id, end))
    }

    pub fn sync(&mut self) -> Done<Lsn, D> {
        either!(self, now, sync())
    }

    pub fn mark_durable(&mut self) -> Done<(), D> {
        either!(self, now, mark_durable(NOW))
    }

    pub fn set_slot(&mut self, bytes: &[u8]) -> Done<(), D> {
        either!(self, now, set_slot(NOW, bytes))
    }

    pub fn read(&mut self, host: &mut impl Host) -> Done<Option<Read>, D> {
        either!(self, now, read(Lsn::ZERO, Lsn::MAX, host))
    }

    pub fn checkpoint(&mut self, mut snapshot: &[u8]) -> Done<CheckpointId, D> {
        let fill = |buf: &mut [u8]| {
            let (next, later) = snapshot.split_at(snapshot.len().min(buf.len()));
            buf[..next.len()].copy_from_slice(next);
            snapshot = later;
            next.len()
        };
        either!(self, now, checkpoint(NOW, fill))
    }

    pub fn load_checkpoint(&mut self) -> Done<Option<Lsn>, D> {
        self.load(&mut ())
    }

    pub fn load(&mut self, host: &mut impl Host) -> Done<Option<Lsn>, D> {
        either!(self, now, load_checkpoint(host))
    }

    pub fn entries(&mut self) -> Vec<(u64, Vec<u8>)> {
        let mut entries = vec![];
        let mut each = Each(|entry: Entry<'_>| {
            entries.push((entry.lsn.value(), entry.payload.to_vec()));
            Flow::Continue
        });
        self.read(&mut each).unwrap().unwrap();
        entries
    }

    pub fn replay(&mut self, host: &mut impl Host) -> Done<Option<Read>, D> {
        either!(self, now, replay(Lsn::ZERO, host))
    }

    pub fn truncate_before(&mut self, lsn: Lsn) -> Done<Lsn, D> {
        either!(self, now, truncate_before(NOW, lsn))
    }

    pub fn discard_before(&mut self, lsn: Lsn) -> Done<Lsn, D> {
        either!(self, now, discard_before(NOW, lsn))
    }

    pub fn close(self) -> Done<(), D> {
        match self {
            Self::Blocking(log) => log.close(NOW).map(drop),
            Self::Awaited(log) => now(log.close(NOW)).map(drop),
        }
    }

    pub fn report(&self) -> &Report {
        either!(self, identity, report())
    }

    pub fn stats(&self) -> LogStats {
        either!(self, identity, stats())
    }

    pub fn slot(&self) -> &[u8] {
        either!(self, identity, slot())
    }

    pub fn buffer_min(&self, len: u32) -> usize {
        either!(self, identity, buffer_min(len))
    }

    /// How many objects the medium has room for.
    pub fn free(&self) -> Option<u32> {
        match self {
            Self::Blocking(log) => log.device().free(),
            Self::Awaited(log) => log.device().free(),
        }
    }
}

impl<D: Device> Handle<'_, D> {
    pub fn device(&self) -> &D {
        match self {
            Self::Blocking(log) => log.device(),
            Self::Awaited(log) => &log.device().0,
        }
    }

    pub fn into_device(self) -> D {
        match self {
            Self::Blocking(log) => log.into_device(),
            Self::Awaited(log) => log.into_device().0,
        }
    }
}

/// Which of the two handles a log is to be made or opened with.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Blocking,
    Awaited,
}

/// The two, one after the other. Where a test fails, what it has printed tells at which.
pub fn both() -> impl Iterator<Item = Kind> {
    [Kind::Blocking, Kind::Awaited].into_iter().inspect(|kind| println!("the handle is {kind:?}"))
}

impl Kind {
    pub fn format<D: Device>(self, device: D, options: LogOptions) -> Result<Handle<'static, D>, OpenError<D::Error>> {
        let buf = buf();
        Ok(match self {
            Self::Blocking => Handle::Blocking(duralog_core::Log::format(device, buf, options, ID, NOW)?),
            Self::Awaited => Handle::Awaited(now(AsyncLog::format(Awaited(device), buf, options, ID, NOW))?),
        })
    }

    pub fn open<D: Device>(self, device: D, options: LogOptions) -> Result<Handle<'static, D>, OpenError<D::Error>> {
        self.open_in(device, buf(), options)
    }

    pub fn open_in<D: Device>(
        self,
        device: D,
        buf: &mut [u8],
        options: LogOptions,
    ) -> Result<Handle<'_, D>, OpenError<D::Error>> {
        Ok(match self {
            Self::Blocking => Handle::Blocking(duralog_core::Log::open(device, buf, options, NOW)?),
            Self::Awaited => Handle::Awaited(now(AsyncLog::open(Awaited(device), buf, options, NOW))?),
        })
    }
}

/// A buffer as large as the one of the native log.
pub fn buf() -> &'static mut [u8] {
    vec![0; BUF].leak()
}
