//! What the folder of a log holds.

use std::path::Path;

use duralog::{Config, LogReader, Object as Stored, Policy, Result, SegmentInfo};
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
