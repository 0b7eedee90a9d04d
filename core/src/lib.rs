//! The core of duralog: frames, recovery and commit logic over any medium, without std and without allocation.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod async_log;
mod begin;
mod chain;
pub mod checkpoint;
pub mod checksum;
mod crossing;
mod cursor;
mod decision;
mod device;
mod drive;
mod fault;
pub mod frame;
mod handle;
mod kept;
mod locate;
mod log;
mod lsn;
pub mod meta;
pub mod operation;
mod part;
mod reader;
mod recovery;
mod replay;
mod report;
mod retention;
mod reverse;
pub mod segment;
mod snapshot;
mod stream;
mod tail;
mod walk;
mod window;
mod writer;

pub use async_log::AsyncLog;
pub use begin::{Begin, Begun, Erase, Plan};
pub use chain::View;
pub use crossing::Crossing;
pub use decision::Policy;
pub use device::{AsyncDevice, Device, DeviceError, ErrorKind, Object, OldWriter, Room};
pub use drive::{
    Action, Answer, Entry, Error, Flow, Host, Machine, Place, Scratch, Step, Stop, drive, drive_async,
    drive_async_until_pause, drive_until_pause,
};
pub use fault::Fault;
pub use handle::{Appended, Cause, Each, LogError, LogOptions, LogStats, OpenError};
pub use kept::{Checkpoints, JudgeCheckpoints, JudgeLoss, Judged};
pub use locate::Locate;
pub use log::{Log, LogPlace};
pub use lsn::{CheckpointId, Exhausted, Lsn};
pub use part::Part;
pub use reader::{Read, Reader};
pub use recovery::{CALLER_MAX, CHECKPOINTS_MAX, Recovered, Recovery, RecoveryOptions};
pub use replay::Replay;
pub use report::{Finding, Report, Seen, TornTail, Verdict, Witness};
pub use retention::{Retention, Retire, Trim};
pub use reverse::ReverseReader;
pub use segment::{Geometry, SegmentId};
pub use snapshot::{PutCheckpoint, ReadCheckpoint, Reading};
pub use stream::{SnapshotSink, SnapshotSource};
pub use writer::{
    Commit, Consent, Consequence, CutAt, Durability, Group, InvalidOptions, Payload, StageError, Syncing,
    TakeOverError, TransactionEnd, Writer, WriterOptions,
};
