//! What the folder of a log holds.

use std::path::Path;

use duralog::{
    CheckpointId, Config, FileDevice, LogReader, Lsn, Object as Stored, Policy, RecoveryReport, Result, SegmentInfo,
    SharedDevice,
    core::{ReadCheckpoint, Reading, checksum::portable, drive},
    file::{Access, FileOptions},
};
use serde_json::{Value, json};

/// The segments and checkpoints of a log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inventory {
    /// Ids ascending.
    pub(crate) segments: Vec<SegmentInfo>,
    /// The checkpoints' ids, ascending.
    pub(crate) checkpoints: Vec<u64>,
    /// Bytes of all segments and checkpoints.
    pub(crate) total_bytes: u64,
}

impl Inventory {
    /// Looks at a log that was opened.
    pub(crate) fn take(reader: &LogReader) -> Result<Self> {
        let mut inventory = Self { segments: reader.segments()?, ..Self::default() };
        for (object, bytes) in reader.objects()? {
            match object {
                Stored::Segment(_) => {}
                Stored::Checkpoint(id) => inventory.checkpoints.push(id.value()),
                Stored::Meta => continue,
            }
            inventory.total_bytes += bytes;
        }
        inventory.checkpoints.sort_unstable();
        Ok(inventory)
    }
}

/// Bytes of a checkpoint that are read at once.
const PIECE: usize = 256 << 10;

/// The checkpoint that the log goes on from: the newest one that is whole, which no opening looks at before it is needed.
pub(crate) fn checkpoint_used(folder: &Path, report: &RecoveryReport) -> Result<Option<(CheckpointId, Lsn)>> {
    let Some((newest, _)) = report.checkpoint_used else { return Ok(None) };
    let options = FileOptions { access: Access::Read, create: false, ..FileOptions::default() };
    let opened = <FileDevice as SharedDevice>::opened;
    let mut device = FileDevice::open(folder, options).map_err(opened)?;
    let mut buf = vec![0; PIECE];
    let mut before = None;
    while let Some(object) = duralog::core::Device::prev(&mut device, before).map_err(opened)? {
        before = Some(object);
        let Stored::Checkpoint(id) = object else { continue };
        if id > newest {
            continue;
        }
        let read = ReadCheckpoint::new(portable, report.log_id, id, Reading::Check);
        // One that cannot be read, or is there no more, is none to go on from.
        if let Ok(Ok(head)) = drive(read, &mut device, &mut buf, &mut ()) {
            return Ok(Some((id, head.lsn)));
        }
    }
    Ok(None)
}

/// How many entries an opening applies to a state behind that checkpoint; none where the log cannot be opened so.
pub(crate) fn replayed(folder: &Path, report: &RecoveryReport) -> Result<u64> {
    if !report.writable {
        return Ok(0);
    }
    let reader = LogReader::open(Config::new(folder).existing().with_policy(Policy::Inspect))?;
    let from = report.checkpoint_used.map_or(Lsn::FIRST, |(_, lsn)| lsn.next_or_max());
    let mut count = 0;
    for entry in reader.replay_from(from)? {
        count += u64::from(entry?.lsn <= report.last_valid_lsn);
    }
    Ok(count)
}

/// How a log is opened for writing: a new segment is as large as the newest one, for that is what its medium has room for.
pub(crate) fn config(dir: &Path) -> Config {
    let config = Config::new(dir);
    let reader = LogReader::open(config.clone().existing().with_policy(Policy::Inspect));
    let segments = reader.and_then(|reader| reader.segments()).unwrap_or_default();
    let sizes = segments.iter().rev().find_map(|segment| segment.capacity).and_then(|size| u32::try_from(size).ok());
    match sizes {
        Some(size) => config.with_segment_size(size),
        // There is none, or it cannot be read: opening it for writing says which.
        None => config,
    }
}

pub(crate) fn json(segment: &SegmentInfo) -> Value {
    json!({
        "id": segment.id.value(),
        "file": Stored::Segment(segment.id).to_string(),
        "state": segment.state.name(),
        "epoch": segment.epoch,
        "first_lsn": segment.lsns.map(|(first, _)| first.value()),
        "last_lsn": segment.lsns.map(|(_, last)| last.value()),
        "bytes": segment.bytes,
        "used_bytes": segment.used,
        "segment_size": segment.capacity,
    })
}
