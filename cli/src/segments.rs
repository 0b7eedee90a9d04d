//! What the segments' headers say: which count, which LSNs they hold and how full they are.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use duralog::{
    LogReader, Lsn, Object as Stored, SegmentId,
    core::{
        checksum::portable,
        segment::{COPY_OFFSETS, SEGMENT_HEADER_LEN, SegmentHeader},
    },
};
use serde_json::{Value, json};

/// What a segment is to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The newest one: the next entry goes there, or into one behind it.
    Active,
    /// Part of the log, and full.
    Sealed,
    /// No part of the log any more: another took its place.
    Dead,
    /// It has no sound header: it was never finished, or is damaged.
    Headless,
}

impl State {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Sealed => "sealed",
            Self::Dead => "dead",
            Self::Headless => "headless",
        }
    }
}

/// One segment.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    pub(crate) state: State,
    /// Bytes of the file.
    pub(crate) bytes: u64,
    /// The most that it may hold.
    pub(crate) capacity: Option<u64>,
    /// Bytes up to the end of its last entry.
    pub(crate) used: Option<u64>,
    /// The LSNs of its entries.
    pub(crate) lsns: Option<(Lsn, Lsn)>,
    pub(crate) epoch: Option<u64>,
}

impl Segment {
    pub(crate) fn json(&self) -> Value {
        json!({
            "id": self.id.value(),
            "file": Stored::Segment(self.id).to_string(),
            "state": self.state.name(),
            "epoch": self.epoch,
            "first_lsn": self.lsns.map(|(first, _)| first.value()),
            "last_lsn": self.lsns.map(|(_, last)| last.value()),
            "bytes": self.bytes,
            "used_bytes": self.used,
            "segment_size": self.capacity,
        })
    }
}

/// What the folder holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inventory {
    /// Ids ascending.
    pub(crate) segments: Vec<Segment>,
    /// The checkpoints' ids, ascending.
    pub(crate) checkpoints: Vec<u64>,
    /// Bytes of all segments and checkpoints.
    pub(crate) total_bytes: u64,
}

/// Looks at the folder of a log that was opened.
pub(crate) fn inventory(dir: &Path, reader: &LogReader) -> io::Result<Inventory> {
    let mut inventory = Inventory::default();
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Some(object) = entry.file_name().to_str().and_then(Stored::from_name) else { continue };
        // A file may go while it is looked at: a writer beside truncates.
        let Ok(metadata) = entry.metadata() else { continue };
        match object {
            Stored::Segment(id) => found.push((id, metadata.len(), header(&entry.path(), id)?)),
            Stored::Checkpoint(id) => inventory.checkpoints.push(id.value()),
            Stored::Meta => continue,
        }
        inventory.total_bytes += metadata.len();
    }
    found.sort_by_key(|(id, ..)| *id);
    inventory.checkpoints.sort_unstable();
    inventory.segments = chain(&found, end(reader));
    Ok(inventory)
}

type Found = (SegmentId, u64, Option<SegmentHeader>);

/// The last entry: its segment, its LSN and where it ends.
type End = Option<(SegmentId, Lsn, u64)>;

fn end(reader: &LogReader) -> End {
    let last = reader.recovery().last_valid_lsn;
    let entry = reader.read(last, last).ok()?.next()?.ok()?;
    Some((entry.segment, entry.lsn, u64::from(entry.offset) + entry.serialized_size() as u64))
}

/// Goes back from the newest header: each says of the one before where it ends.
fn chain(found: &[Found], end: End) -> Vec<Segment> {
    let mut segments: Vec<Segment> = found
        .iter()
        .map(|(id, bytes, header)| Segment {
            id: *id,
            state: if header.is_some() { State::Dead } else { State::Headless },
            bytes: *bytes,
            capacity: header.map(|header| header.segment_size.into()),
            used: None,
            lsns: None,
            epoch: header.map(|header| header.epoch),
        })
        .collect();
    let mut next = None;
    for (segment, (id, _, header)) in segments.iter_mut().zip(found).rev() {
        let Some(header) = header else { continue };
        let lsns = |last| (header.first <= last).then_some((header.first, last));
        match next {
            None => {
                segment.state = State::Active;
                let here = end.filter(|(in_segment, ..)| in_segment == id);
                segment.lsns = here.and_then(|(_, last, _)| lsns(last));
                segment.used = Some(here.map_or(header.frames_at().into(), |(.., used)| used));
            }
            Some(predecessor) if header.id == predecessor => {
                segment.state = State::Sealed;
            }
            Some(_) => continue,
        }
        next = Some(header.predecessor.id);
    }
    // What a header says of its predecessor.
    for (_, _, header) in found {
        let Some(header) = header else { continue };
        let successor_counts = segments
            .iter()
            .any(|segment| segment.id == header.id && matches!(segment.state, State::Active | State::Sealed));
        let before = header.predecessor;
        let sealed = segments.iter_mut().find(|segment| segment.id == before.id && segment.state == State::Sealed);
        if let (true, Some(segment)) = (successor_counts, sealed) {
            let first = found.iter().find(|(id, ..)| *id == before.id).and_then(|(.., header)| *header);
            segment.used = Some(before.size.into());
            segment.lsns =
                first.map(|header| header.first).filter(|first| *first <= before.last).zip(Some(before.last));
        }
    }
    segments
}

/// The header of a segment, from whichever copy is sound.
fn header(path: &Path, id: SegmentId) -> io::Result<Option<SegmentHeader>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let most = COPY_OFFSETS.iter().max().map_or(0, |offset| *offset as usize) + SEGMENT_HEADER_LEN;
    let mut bytes = Vec::with_capacity(most);
    file.by_ref().take(most as u64).read_to_end(&mut bytes)?;
    let copies = [0].into_iter().chain(COPY_OFFSETS);
    let mut headers = copies.filter_map(|offset| {
        let copy = bytes.get(offset as usize..)?;
        SegmentHeader::decode(portable, copy, offset).ok().filter(|header| header.id == id)
    });
    Ok(headers.next())
}
