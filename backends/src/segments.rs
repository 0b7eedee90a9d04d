//! The segments of a log, one by one: what each is to the log, which LSNs it holds and how full it is.

use duralog_core::{
    DeviceError as _, ErrorKind, Lsn, Object, SegmentId, View,
    checksum::portable,
    segment::{COPY_OFFSETS, SEGMENT_HEADER_LEN, SegmentHeader},
};

use crate::{device::SharedDevice, error::Result, log::Log, verify::LogReader};

/// What a segment is to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SegmentState {
    /// The newest one: the next entry goes there, or into one behind it.
    Active,
    /// Part of the log, and closed by a successor.
    Sealed,
    /// No part of the log any more: it is below the low-water mark, or another took its place and it is kept as evidence.
    Dead,
    /// Above the newest one, without a sound header: a crash kept it from being one.
    Unfinished,
    /// It has no sound header any more.
    Headless,
}

impl SegmentState {
    /// One word for reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Sealed => "sealed",
            Self::Dead => "dead",
            Self::Unfinished => "unfinished",
            Self::Headless => "headless",
        }
    }
}

/// One segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Its id.
    pub id: SegmentId,
    /// What it is to the log.
    pub state: SegmentState,
    /// The epoch in which it was begun, where its header tells.
    pub epoch: Option<u64>,
    /// The LSNs of its first and last entry, if it is part of the log and holds any.
    pub lsns: Option<(Lsn, Lsn)>,
    /// Bytes that it takes on the medium.
    pub bytes: u64,
    /// Bytes up to the end of its last entry, if it is part of the log.
    pub used: Option<u64>,
    /// The most bytes that it may hold, where its header tells.
    pub capacity: Option<u64>,
}

impl<D: SharedDevice> LogReader<D> {
    /// What lies on the medium, in order, and the bytes that each object takes.
    ///
    /// # Errors
    /// The device cannot be read.
    pub fn objects(&self) -> Result<Vec<(Object, u64)>> {
        objects(&mut self.device.reader().map_err(D::opened)?)
    }

    /// The segments, ids ascending. Reads their headers and no entries.
    ///
    /// # Errors
    /// The device cannot be read.
    pub fn segments(&self) -> Result<Vec<SegmentInfo>> {
        segments(&mut self.device.reader().map_err(D::opened)?, &self.recovered.view)
    }
}

impl<D: SharedDevice> Log<D> {
    /// The segments, ids ascending. Reads their headers and no entries.
    ///
    /// # Errors
    /// The device cannot be read.
    pub fn segments(&self) -> Result<Vec<SegmentInfo>> {
        let seen = self.shared.written_view()?;
        segments(&mut self.shared.reader()?, &seen.view).map_err(|error| self.shared.met(&seen, error))
    }
}

/// The objects on a device and their lengths, in order.
pub(crate) fn objects<D: SharedDevice>(device: &mut D) -> Result<Vec<(Object, u64)>> {
    let mut objects = Vec::new();
    let mut after = None;
    while let Some(object) = device.next(after).map_err(D::opened)? {
        after = Some(object);
        // It may go while it is looked at: a writer beside truncates.
        if let Some(bytes) = unless_gone::<D, _>(SharedDevice::len(device, object))? {
            objects.push((object, bytes));
        }
    }
    Ok(objects)
}

fn unless_gone<D: SharedDevice, T>(result: core::result::Result<T, D::Error>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::Gone => Ok(None),
        Err(error) => Err(D::opened(error)),
    }
}

fn segments<D: SharedDevice>(device: &mut D, view: &View) -> Result<Vec<SegmentInfo>> {
    let mut segments: Vec<SegmentInfo> = Vec::new();
    // The last one that counts, whose end its successor names.
    let mut open: Option<(usize, SegmentHeader)> = None;
    for (object, bytes) in objects(device)? {
        let Object::Segment(id) = object else { continue };
        let own = header(device, id);
        // What was made out of it, or stands before it, recovery has found out.
        let header = view.mended(id).or(own);
        let counts = header.filter(|_| view.counts(id));
        if let Some(header) = counts {
            if let Some((index, before)) = open.filter(|(_, before)| before.id == header.predecessor.id) {
                let end = header.predecessor;
                segments[index].used = Some(end.size.into());
                segments[index].lsns = (before.first <= end.last).then_some((before.first, end.last));
            }
            open = Some((segments.len(), header));
        }
        let (newest, end) = view.end();
        let active = counts.filter(|_| id == newest);
        segments.push(SegmentInfo {
            id,
            state: match own {
                None if id > newest => SegmentState::Unfinished,
                None => SegmentState::Headless,
                Some(_) if id == newest => SegmentState::Active,
                Some(_) if counts.is_some() => SegmentState::Sealed,
                Some(_) => SegmentState::Dead,
            },
            epoch: header.map(|header| header.epoch),
            lsns: active.filter(|header| header.first <= view.last()).map(|header| (header.first, view.last())),
            bytes,
            used: active.map(|_| end.into()),
            capacity: header.map(|header| header.segment_size.into()),
        });
    }
    Ok(segments)
}

/// The header of a segment, from whichever copy is sound.
fn header<D: SharedDevice>(device: &mut D, id: SegmentId) -> Option<SegmentHeader> {
    for offset in [0].into_iter().chain(COPY_OFFSETS) {
        let mut copy = [0; SEGMENT_HEADER_LEN];
        let mut read = 0;
        while read < copy.len() {
            let at = u64::from(offset) + read as u64;
            match device.read(Object::Segment(id), at, &mut copy[read..]) {
                Ok(0) => break,
                Ok(more) => read += more,
                // What cannot be read is no sound copy.
                Err(_) => break,
            }
        }
        let header = SegmentHeader::decode(portable, &copy[..read], offset).ok();
        if let Some(header) = header.filter(|header| header.id == id) {
            return Some(header);
        }
    }
    None
}
