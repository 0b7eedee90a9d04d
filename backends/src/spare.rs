//! Files that are to become segments: made ahead of need, or left over where the log was truncated.
//!
//! ```text
//! made:      create ──► room ──► zeros, piece by piece, while the active segment fills ──┐
//!                                                                                        ├──► renamed: a segment
//! recycled:  removed segment ──► renamed ──► the directory synced ──► its tail filled up ─┘
//! ```
//!
//! A spare counts for nothing: it has no name of the log's, a reader passes it by, and a power cut may take it or bring
//! it back. What a killed process left is removed when the directory is opened for writing.
//!
//! Spares take nothing that is needed: nothing is made ahead or kept where the file system has no room for many segments
//! more, and where it is full all the same, they go first. So a truncation frees what it removes when that counts.
//!
//! A file that was made here reads as zeros throughout, written or not: it is blank after any crash. One that was a
//! segment holds old bytes, and whoever takes it is told so. It may still be under its old name after a power cut, until
//! the directory has been synced: only then is it handed out.

mod prepare;

use core::sync::atomic::{AtomicU64, Ordering};
use std::{
    ffi::OsStr,
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use duralog_core::Room;

use crate::fs::{Files, OneFile};
pub(crate) use prepare::Preparer;

/// How many spares there may be.
const SPARES_MAX: usize = 2;
/// How many segments more the file system must have room for.
const ROOM: u64 = 8;
/// A spare is zeroed in this many pieces.
const PIECES: u64 = 64;
/// The least that is zeroed at once.
const PIECE_MIN: u64 = 64 << 10;

/// A file that is to become a segment.
#[derive(Debug)]
struct Spare<T> {
    number: u64,
    file: Arc<T>,
    room: Room,
    /// Whether it has the length of a segment.
    whole: bool,
    /// Written and synced up to here.
    ready: u64,
    /// Its name of before may come back until the directory is synced.
    leaving: bool,
}

#[derive(Debug)]
struct State<T> {
    spares: Vec<Spare<T>>,
    next: u64,
    /// Something failed, for lack of room perhaps: nothing is made ahead or kept until a segment could be made.
    stopped: bool,
    closed: bool,
}

/// The spares of one directory.
#[derive(Debug)]
pub(crate) struct Spares<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    /// Bytes of the active segment that are written: how far ahead it is to be prepared.
    filled: AtomicU64,
    /// Bytes of a segment.
    size: u64,
}

/// What a spare comes to when it is asked for.
pub(crate) enum Taken<T> {
    /// It has the segment's name.
    Segment(Arc<T>, Room),
    /// There is none that would do.
    None,
    /// There is a file of that name.
    Exists,
}

/// The name of a spare.
fn name(number: u64) -> String {
    format!("spare_{number:016x}.wal")
}

/// Whether a file of this name is a spare.
pub(crate) fn is_spare(name: &OsStr) -> bool {
    name.to_str().and_then(|name| name.strip_prefix("spare_")?.strip_suffix(".wal")).is_some_and(|digits| {
        digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

impl<T: OneFile> Spares<T> {
    pub(crate) fn new(size: u32) -> Self {
        let state = State { spares: Vec::new(), next: 0, stopped: false, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), filled: AtomicU64::new(0), size: size.into() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of a segment: spares are of this size.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The active segment is written up to here.
    pub(crate) fn filled(&self, to: u64) {
        let piece = self.piece();
        if self.filled.swap(to, Ordering::Relaxed) / piece != to / piece {
            // A wake-up that is missed comes with the next piece: nothing waits for it.
            self.changed.notify_all();
        }
    }

    /// Bytes that are zeroed at once.
    fn piece(&self) -> u64 {
        (self.size / PIECES).max(PIECE_MIN)
    }

    /// How much of a spare should be ready by now: all of it when the active segment is filled but for a sixteenth.
    fn wanted(&self) -> u64 {
        let (filled, start) = (self.filled.load(Ordering::Relaxed), self.size / 16);
        (filled.saturating_sub(start).saturating_mul(8) / 7).min(self.size)
    }

    /// Gives a spare the name `path`; the best prepared one.
    pub(crate) fn take<F: Files<File = T>>(&self, files: &F, dir: &Path, path: &Path) -> Taken<T> {
        let mut state = self.lock();
        while let Some(at) = state.best() {
            let spare = state.spares.remove(at);
            // A recycled file that is still short has to get its room now.
            if !spare.whole && spare.file.allocate(self.size).is_err() {
                discard(files, dir, &spare);
                continue;
            }
            match files.rename_new(&dir.join(name(spare.number)), path) {
                Ok(()) => {
                    // What filled the segment before asks for no spare any more.
                    self.filled.store(0, Ordering::Relaxed);
                    return Taken::Segment(spare.file, spare.room);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    state.spares.push(spare);
                    return Taken::Exists;
                }
                Err(error) => {
                    tracing::warn!(%error, "a file made ahead could not be used");
                    state.stopped = true;
                    discard(files, dir, &spare);
                }
            }
        }
        Taken::None
    }

    /// Keeps the file of a segment that is removed, under a name of its own; `false`: it is not to be kept.
    pub(crate) fn keep<F: Files<File = T>>(&self, files: &F, dir: &Path, path: &Path, file: Arc<T>) -> bool {
        let mut state = self.lock();
        let Ok(len) = file.length() else { return false };
        // Under another name too: a backup that must not be written over.
        if !matches!(file.names(), Ok(None | Some(1))) {
            return false;
        }
        if state.stopped || state.spares.len() >= SPARES_MAX || len > self.size || !self.has_room(files, dir) {
            return false;
        }
        let Ok(number) = state.rename_to_free(files, dir, path) else { return false };
        let whole = len == self.size;
        state.spares.push(Spare { number, file, room: Room::Recycled, whole, ready: len, leaving: true });
        true
    }

    /// Whether the file system has room for many more; where it does not say, a file is made ahead, and none kept.
    fn has_room(&self, files: &impl Files<File = T>, dir: &Path) -> bool {
        matches!(files.free(dir), Ok(Some(free)) if free / ROOM >= self.size)
    }

    /// The directory was synced.
    pub(crate) fn settled(&self) {
        for spare in &mut self.lock().spares {
            spare.leaving = false;
        }
    }

    /// A segment could be made without a spare: there is room again.
    pub(crate) fn resume(&self) {
        self.lock().stopped = false;
    }

    /// Removes all spares and keeps none until [`resume`](Self::resume); tells whether there was one.
    pub(crate) fn give_up<F: Files<File = T>>(&self, files: &F, dir: &Path) -> bool {
        let mut state = self.lock();
        state.stopped = true;
        let spares = core::mem::take(&mut state.spares);
        spares.iter().for_each(|spare| discard(files, dir, spare));
        !spares.is_empty()
    }

    /// The preparation ends.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

impl<T: OneFile> State<T> {
    /// The spare to be handed out next.
    fn best(&self) -> Option<usize> {
        let free = self.spares.iter().enumerate().filter(|(_, spare)| !spare.leaving);
        free.max_by_key(|(_, spare)| spare.ready).map(|(at, _)| at)
    }

    /// Renames `path` to a spare that is not there yet.
    fn rename_to_free<F: Files<File = T>>(&mut self, files: &F, dir: &Path, path: &Path) -> io::Result<u64> {
        loop {
            self.next += 1;
            match files.rename_new(path, &dir.join(name(self.next))) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                renamed => return renamed.map(|()| self.next),
            }
        }
    }
}

/// Removes a spare's file. One that stays is removed when the directory is opened again.
fn discard<F: Files>(files: &F, dir: &Path, spare: &Spare<F::File>) {
    if let Err(error) = files.remove(&dir.join(name(spare.number))) {
        tracing::warn!(%error, "a file made ahead could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use duralog_core::{Device, DeviceError, ErrorKind, Object, SegmentId};

    use crate::{
        file::{
            Access, FileDevice, FileError, FileOptions,
            tests::{failing, writer},
        },
        fs::StdFs,
    };

    use super::*;

    const SIZE: u64 = 65536;
    const LEN: usize = 65536;

    fn segment(id: u64) -> Object {
        Object::Segment(SegmentId::new(id))
    }

    fn spares<F: Files>(device: &FileDevice<F>) -> Vec<PathBuf> {
        let found = std::fs::read_dir(device.dir()).unwrap().map(|entry| entry.unwrap());
        found.filter(|entry| is_spare(&entry.file_name())).map(|entry| entry.path()).collect()
    }

    fn prepare<F: Files>(device: &FileDevice<F>) {
        let mut preparer = device.preparer().unwrap();
        while preparer.try_step() {}
    }

    /// A log of one segment that is full.
    fn full() -> (tempfile::TempDir, FileDevice) {
        let dir = tempfile::tempdir().unwrap();
        let mut device = FileDevice::open(dir.path(), writer()).unwrap();
        device.create(segment(1), SIZE).unwrap();
        device.write(segment(1), 0, &[1; LEN]).unwrap();
        device.sync().unwrap();
        (dir, device)
    }

    fn bytes<F: Files>(device: &FileDevice<F>, object: Object) -> Vec<u8> {
        std::fs::read(device.dir().join(object.to_string())).unwrap()
    }

    #[test]
    fn a_segment_made_ahead_becomes_the_next_one_and_is_blank() {
        let (_dir, mut device) = full();
        prepare(&device);
        assert_eq!(spares(&device).len(), 1);
        assert_eq!(device.create(segment(2), SIZE).unwrap(), Room::Blank);
        assert!(spares(&device).is_empty());
        assert_eq!(bytes(&device, segment(2)), vec![0; LEN]);
        device.write(segment(2), 0, b"frames").unwrap();
        device.sync().unwrap();
        assert_eq!(&bytes(&device, segment(2))[..6], b"frames");
        assert_eq!(device.prev(None).unwrap(), Some(segment(2)));
    }

    #[test]
    fn nothing_is_made_ahead_of_a_small_log_and_the_more_of_it_the_fuller_the_segment() {
        let (_dir, mut device) = full();
        device.create(segment(2), SIZE).unwrap();
        let mut before = 0;
        for filled in [SIZE / 16, SIZE / 4, SIZE / 2, SIZE - SIZE / 16] {
            device.write(segment(2), filled - 1, b"x").unwrap();
            prepare(&device);
            let ready = device.preparer().unwrap().spares.lock().spares.first().map_or(0, |spare| spare.ready);
            assert!(ready >= before && (ready == 0) == (filled == SIZE / 16), "{ready} at {filled}");
            before = ready;
        }
        assert_eq!(before, SIZE);
    }

    #[test]
    fn a_spare_that_was_just_taken_is_not_made_again_for_the_segment_that_it_ends() {
        let (_dir, device) = full();
        prepare(&device);
        let mut preparer = device.preparer().unwrap();
        let path = device.dir().join(segment(2).to_string());
        assert!(matches!(preparer.spares.take(&StdFs, device.dir(), &path), Taken::Segment(..)));
        assert!(!preparer.try_step(), "nothing is in the new segment yet");
    }

    #[test]
    fn a_segment_taken_before_its_spare_is_ready_is_blank_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let mut device = FileDevice::open(dir.path(), writer()).unwrap();
        device.create(segment(1), SIZE).unwrap();
        device.write(segment(1), SIZE / 4, b"x").unwrap();
        assert!(device.preparer().unwrap().try_step(), "a file is made");
        assert_eq!(device.create(segment(2), SIZE).unwrap(), Room::Blank);
        assert_eq!(bytes(&device, segment(2)), vec![0; LEN]);
        assert!(!device.preparer().unwrap().try_step(), "what became a segment is not written to any more");
    }

    #[cfg(unix)]
    #[test]
    fn a_removed_segment_comes_again_once_the_directory_was_synced_and_is_said_to_be_recycled() {
        let (_dir, mut device) = full();
        device.create(segment(2), SIZE).unwrap();
        device.trim(segment(1), SIZE - 100).unwrap();
        device.remove(segment(1)).unwrap();
        assert!(!device.dir().join(segment(1).to_string()).exists());
        assert_eq!(spares(&device).len(), 1);
        assert_eq!(device.create(segment(3), SIZE).unwrap(), Room::Blank, "its old name might come back");
        device.sync().unwrap();
        assert_eq!(device.create(segment(4), SIZE).unwrap(), Room::Recycled);
        let bytes = bytes(&device, segment(4));
        assert_eq!((bytes.len() as u64, bytes[0], bytes[LEN - 1]), (SIZE, 1, 0));
    }

    #[cfg(unix)]
    #[test]
    fn no_more_than_two_removed_segments_are_kept() {
        let (_dir, mut device) = full();
        for id in 2..7 {
            device.create(segment(id), SIZE).unwrap();
        }
        (1..6).for_each(|id| device.remove(segment(id)).unwrap());
        assert_eq!(spares(&device).len(), SPARES_MAX);
    }

    #[test]
    fn what_a_killed_writer_made_ahead_is_removed_and_is_no_other_thing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(name(7)), [1; 100]).unwrap();
        FileDevice::open(dir.path(), FileOptions { access: Access::Read, ..writer() }).unwrap();
        assert!(dir.path().join(name(7)).exists(), "a reader leaves it");
        let device = FileDevice::open(dir.path(), writer()).unwrap();
        assert!(spares(&device).is_empty());
        assert!(!is_spare("spare_1.wal".as_ref()) && !is_spare("spare_000000000000000G.wal".as_ref()));
    }

    #[test]
    fn a_device_that_is_closed_takes_its_spares_along() {
        let (dir, device) = full();
        let mut preparer = device.preparer().unwrap();
        while preparer.try_step() {}
        assert_eq!(spares(&device).len(), 1);
        drop(device);
        assert!(!std::fs::read_dir(dir.path()).unwrap().any(|entry| is_spare(&entry.unwrap().file_name())));
        assert!(!preparer.step(), "its thread ends");
    }

    #[test]
    fn a_full_disk_takes_what_was_made_ahead_first() {
        let (_dir, files, mut device) = failing();
        device.create(segment(1), SIZE).unwrap();
        device.write(segment(1), 0, &[1; LEN]).unwrap();
        for call in ["write", "create", "allocate"] {
            prepare(&device);
            assert_eq!(spares(&device).len(), 1, "{call}");
            files.fail(call, io::ErrorKind::StorageFull);
            match call {
                "write" => device.write(segment(1), 0, b"x").unwrap(),
                // Of another size than the spare.
                "create" => drop(device.create(segment(2), SIZE / 2).unwrap()),
                _ => drop(device.create(segment(3), SIZE / 2).unwrap()),
            }
            assert!(spares(&device).is_empty(), "{call}");
            prepare(&device);
            assert!(call != "write" || spares(&device).is_empty(), "nothing is made ahead on a full disk");
            device.write(segment(1), SIZE - 1, b"x").unwrap();
            device.preparer().unwrap().spares.resume();
            device.preparer().unwrap().spares.filled(SIZE);
        }
        device.create(segment(4), SIZE).unwrap();
        device.remove(segment(1)).unwrap();
        device.sync().unwrap();
        files.fail("write", io::ErrorKind::StorageFull);
        device.write(segment(4), 0, b"x").unwrap();
        assert!(spares(&device).is_empty(), "what was kept of a removed segment is given up as well");
        device.remove(segment(2)).unwrap();
        assert!(spares(&device).is_empty(), "and a removal frees its room");
    }

    #[test]
    fn nothing_is_made_ahead_or_kept_where_little_room_is_left() {
        let (_dir, files, mut device) = failing();
        device.create(segment(1), SIZE).unwrap();
        device.write(segment(1), 0, &[1; LEN]).unwrap();
        files.leave_free(ROOM * SIZE - 1);
        prepare(&device);
        assert!(spares(&device).is_empty());
        device.create(segment(2), SIZE).unwrap();
        device.remove(segment(1)).unwrap();
        assert!(spares(&device).is_empty(), "what is removed is free");
    }

    #[test]
    fn a_name_that_another_writer_took_is_left_to_it() {
        let (_dir, mut device) = full();
        prepare(&device);
        let path = device.dir().join(segment(2).to_string());
        std::fs::write(&path, b"another's").unwrap();
        let error = device.create(segment(2), SIZE).unwrap_err();
        assert!(matches!(error, FileError::Exists { .. }) && error.kind() == ErrorKind::Fenced);
        assert_eq!(std::fs::read(path).unwrap(), b"another's");
        assert_eq!(device.create(segment(3), SIZE).unwrap(), Room::Blank);
        assert!(spares(&device).is_empty(), "the spare was not lost by it");
    }

    #[cfg(unix)]
    #[test]
    fn a_reader_is_told_that_a_segment_is_gone_rather_than_shown_another_s_bytes() {
        let (_dir, mut device) = full();
        let mut reader = device.reader().unwrap();
        let mut buf = [0; 4];
        assert_eq!(reader.read(segment(1), 0, &mut buf).unwrap(), 4);
        device.create(segment(2), SIZE).unwrap();
        device.remove(segment(1)).unwrap();
        device.sync().unwrap();
        assert_eq!(device.create(segment(3), SIZE).unwrap(), Room::Recycled);
        device.write(segment(3), 0, &[9; 4]).unwrap();
        assert_eq!(reader.read(segment(1), 0, &mut buf).map_err(|error| error.kind()), Err(ErrorKind::Gone));
        assert_eq!(reader.read(segment(3), 0, &mut buf).unwrap(), 4);
        assert_eq!(buf, [9; 4]);
    }

    /// Whatever fails while spares are made, kept and taken: a segment is made all the same or refused with an error, and
    /// what it reads as is what was said of it.
    #[test]
    fn no_failure_of_a_spare_reaches_the_log() {
        for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull, io::ErrorKind::PermissionDenied] {
            for calls in 0.. {
                let (_dir, files, mut device) = failing();
                device.create(segment(1), SIZE).unwrap();
                device.write(segment(1), 0, &[1; LEN]).unwrap();
                device.sync().unwrap();
                files.fail_after(calls, kind);
                prepare(&device);
                let second = device.create(segment(2), SIZE);
                let removed = second.is_ok().then(|| device.remove(segment(1)).and_then(|()| device.sync()));
                let third = second.is_ok().then(|| device.create(segment(3), SIZE));
                for (object, room) in [(segment(2), Some(second)), (segment(3), third)] {
                    let Some(room) = room else { continue };
                    match room {
                        Ok(Room::Blank) => assert_eq!(bytes(&device, object), vec![0; LEN], "{calls}"),
                        Ok(Room::Recycled) => {
                            assert!(matches!(removed, Some(Ok(()))), "{calls}");
                            assert_eq!(bytes(&device, object), vec![1; LEN]);
                        }
                        Err(_) => assert!(!device.dir().join(object.to_string()).exists(), "{calls}"),
                    }
                }
                if files.spare_us() {
                    assert!(calls > 10, "the whole way was gone");
                    break;
                }
            }
        }
    }
}
