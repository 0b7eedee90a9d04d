//! What the folder of a log holds.

use duralog::{LogReader, Object as Stored, Result, SegmentInfo};
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
