//! The file system under a file device, with every call recorded: which directories could a power cut have left?
//!
//! What is known of a file system that keeps its promises: a file's bytes and length are durable with a sync of the file,
//! its name with a sync of the directory. Until then each call may have reached the disk or not, whatever became of
//! the others; a write may be torn. A renamed file may be found under either name, under both, or under none.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use duralog::{Files, Identity, OneFile, StdFs, file::Access};

/// The standard file system, whose syncs are left out: a process that does not die loses nothing by that, and a test
/// that opens thousands of directories does not wait for the disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unsynced {
    /// The bytes that it says are free, however full the disk of the test is. Where it does not say, no segment that is
    /// removed keeps its room for one to come.
    pub free: Option<u64>,
}

impl Unsynced {
    /// One with room for everything.
    pub const ROOMY: Self = Self { free: Some(u64::MAX) };
}

/// A file of [`Unsynced`].
#[derive(Debug)]
pub struct UnsyncedFile(std::fs::File);

impl Files for Unsynced {
    type File = UnsyncedFile;

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        StdFs.make_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        StdFs.list(dir)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<UnsyncedFile> {
        StdFs.open(path, access).map(UnsyncedFile)
    }

    fn create_new(&self, path: &Path) -> io::Result<UnsyncedFile> {
        StdFs.create_new(path).map(UnsyncedFile)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        StdFs.remove(path)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        StdFs.rename_new(from, to)
    }

    fn free(&self, _: &Path) -> io::Result<Option<u64>> {
        Ok(self.free)
    }

    fn identity(&self, path: &Path) -> io::Result<Option<Identity>> {
        StdFs.identity(path)
    }
}

impl OneFile for UnsyncedFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        OneFile::read_at(&self.0, buf, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        OneFile::write_at(&self.0, bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        OneFile::set_len(&self.0, len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        OneFile::allocate(&self.0, len)
    }

    fn length(&self) -> io::Result<u64> {
        OneFile::length(&self.0)
    }

    fn try_lock(&self) -> io::Result<bool> {
        OneFile::try_lock(&self.0)
    }

    fn unlock(&self) -> io::Result<()> {
        OneFile::unlock(&self.0)
    }

    fn identity(&self) -> io::Result<Option<Identity>> {
        OneFile::identity(&self.0)
    }

    fn names(&self) -> io::Result<Option<u64>> {
        OneFile::names(&self.0)
    }
}

/// A call that changed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A name was given to a new, empty file.
    Link {
        /// The name.
        name: OsString,
        /// The file.
        file: usize,
    },
    /// A name was taken away.
    Unlink {
        /// The name.
        name: OsString,
    },
    /// A file was given another name.
    Rename {
        /// The name of before.
        from: OsString,
        /// The name from then on.
        to: OsString,
        /// The file.
        file: usize,
    },
    /// Bytes were written.
    Write {
        /// The file.
        file: usize,
        /// Where.
        at: usize,
        /// What.
        bytes: Vec<u8>,
    },
    /// The length was set.
    Length {
        /// The file.
        file: usize,
        /// Its new length.
        len: usize,
    },
    /// The file was synced: what was done to it before is durable. Of its data alone, but for a length that shrank.
    Sync {
        /// The file.
        file: usize,
        /// Whether only its data was.
        data_only: bool,
    },
    /// The directory was synced.
    SyncDir,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<Call>,
    /// The files by their names, and how many there ever were.
    files: BTreeMap<OsString, usize>,
    made: usize,
    /// How many calls are recorded; later ones fail, as if the power were off.
    most: Option<usize>,
}

/// A recording file system for one directory.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    state: Arc<Mutex<State>>,
}

/// A file of it.
#[derive(Debug)]
pub struct RecordedFile {
    file: std::fs::File,
    number: usize,
    state: Arc<Mutex<State>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn record(&mut self, call: Call) -> io::Result<()> {
        if self.most.is_some_and(|most| self.calls.len() >= most) {
            return Err(io::Error::other("the power is off"));
        }
        self.calls.push(call);
        Ok(())
    }
}

fn name(path: &Path) -> OsString {
    path.file_name().unwrap_or_default().to_owned()
}

impl Recorded {
    /// One that records so many calls, and lets every later one fail.
    #[must_use]
    pub fn up_to(most: usize) -> Self {
        let recorded = Self::default();
        lock(&recorded.state).most = Some(most);
        recorded
    }

    /// The calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.state).calls.clone()
    }

    fn file(&self, path: &Path, file: std::fs::File) -> RecordedFile {
        let number = lock(&self.state).files.get(&name(path)).copied().unwrap_or(usize::MAX);
        RecordedFile { file, number, state: Arc::clone(&self.state) }
    }
}

impl Files for Recorded {
    type File = RecordedFile;

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        StdFs.make_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        StdFs.list(dir)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        lock(&self.state).record(Call::SyncDir)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<RecordedFile> {
        StdFs.open(path, access).map(|file| self.file(path, file))
    }

    fn create_new(&self, path: &Path) -> io::Result<RecordedFile> {
        let mut state = lock(&self.state);
        let file = state.made;
        state.record(Call::Link { name: name(path), file })?;
        state.made += 1;
        state.files.insert(name(path), file);
        drop(state);
        StdFs.create_new(path).map(|file| self.file(path, file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if !path.exists() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut state = lock(&self.state);
        state.record(Call::Unlink { name: name(path) })?;
        state.files.remove(&name(path));
        drop(state);
        StdFs.remove(path)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        if state.files.contains_key(&name(to)) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.files.get(&name(from)).copied().ok_or(io::ErrorKind::NotFound)?;
        state.record(Call::Rename { from: name(from), to: name(to), file })?;
        state.files.remove(&name(from));
        state.files.insert(name(to), file);
        drop(state);
        StdFs.rename_new(from, to)
    }

    /// As much as there can be, however full the disk of the test is.
    fn free(&self, _: &Path) -> io::Result<Option<u64>> {
        Ok(Some(u64::MAX))
    }

    fn identity(&self, path: &Path) -> io::Result<Option<Identity>> {
        StdFs.identity(path)
    }
}

impl RecordedFile {
    fn record(&self, call: Call) -> io::Result<()> {
        lock(&self.state).record(call)
    }
}

fn small(number: u64) -> usize {
    usize::try_from(number).expect("a file of a test is small")
}

impl OneFile for RecordedFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        OneFile::read_at(&self.file, buf, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.record(Call::Write { file: self.number, at: small(at), bytes: bytes.to_vec() })?;
        OneFile::write_at(&self.file, bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.record(Call::Sync { file: self.number, data_only: true })
    }

    fn sync_all(&self) -> io::Result<()> {
        self.record(Call::Sync { file: self.number, data_only: false })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.record(Call::Length { file: self.number, len: small(len) })?;
        OneFile::set_len(&self.file, len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.record(Call::Length { file: self.number, len: small(len) })?;
        OneFile::allocate(&self.file, len)
    }

    fn length(&self) -> io::Result<u64> {
        OneFile::length(&self.file)
    }

    fn try_lock(&self) -> io::Result<bool> {
        OneFile::try_lock(&self.file)
    }

    fn unlock(&self) -> io::Result<()> {
        OneFile::unlock(&self.file)
    }

    fn identity(&self) -> io::Result<Option<Identity>> {
        OneFile::identity(&self.file)
    }

    fn names(&self) -> io::Result<Option<u64>> {
        OneFile::names(&self.file)
    }
}

/// A directory as a power cut may have left it: the files by their names. A file may have two.
pub type Directory = BTreeMap<OsString, Image>;

/// A file as a power cut may have left it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Image {
    /// Which one.
    pub file: usize,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// What is on the disk after a number of calls, and which of them may be missing.
#[derive(Debug)]
pub struct Disk<'a> {
    calls: &'a [Call],
    /// Those whose effect no sync covers, by their places in the list.
    unsynced: Vec<usize>,
}

/// What a power cut leaves of one unsynced call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Left {
    /// All.
    All,
    /// Nothing.
    Nothing,
    /// So many bytes of a write.
    Bytes(usize),
    /// Both names of a renamed file.
    BothNames,
    /// Neither name of a renamed file.
    NoName,
}

impl<'a> Disk<'a> {
    /// After these calls.
    #[must_use]
    pub fn after(calls: &'a [Call]) -> Self {
        let mut unsynced: Vec<usize> = Vec::new();
        for (n, call) in calls.iter().enumerate() {
            match call {
                Call::SyncDir => {
                    unsynced.retain(|at| {
                        !matches!(calls[*at], Call::Link { .. } | Call::Unlink { .. } | Call::Rename { .. })
                    });
                }
                Call::Sync { file: synced, data_only } => unsynced.retain(|at| match &calls[*at] {
                    Call::Write { file, .. } => file != synced,
                    Call::Length { file, len } => file != synced || *data_only && shrinks(&calls[..*at], *file, *len),
                    _ => true,
                }),
                _ => unsynced.push(n),
            }
        }
        Self { calls, unsynced }
    }

    /// The calls that may be missing.
    pub fn unsynced(&self) -> impl ExactSizeIterator<Item = &Call> {
        self.unsynced.iter().map(|at| &self.calls[*at])
    }

    /// The directory, if this is left of the unsynced calls, oldest first.
    #[must_use]
    pub fn directory(&self, left: &[Left]) -> Directory {
        let mut files: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let mut names: BTreeMap<OsString, usize> = BTreeMap::new();
        let mut left = left.iter();
        for (n, call) in self.calls.iter().enumerate() {
            let is_unsynced = self.unsynced.binary_search(&n).is_ok();
            let kept = if is_unsynced { left.next().copied().unwrap_or(Left::Nothing) } else { Left::All };
            match call {
                _ if kept == Left::Nothing => {}
                Call::Link { name, file } => drop(names.insert(name.clone(), *file)),
                Call::Unlink { name } => drop(names.remove(name)),
                Call::Rename { from, to, file } => {
                    // What else has that name by now, after calls that were lost, keeps it.
                    if kept != Left::BothNames && names.get(from) == Some(file) {
                        names.remove(from);
                    }
                    if kept != Left::NoName {
                        names.insert(to.clone(), *file);
                    }
                }
                Call::Write { file, at, bytes } => {
                    let len = if let Left::Bytes(len) = kept { len.min(bytes.len()) } else { bytes.len() };
                    let image = files.entry(*file).or_default();
                    image.resize(image.len().max(at + len), 0);
                    image[*at..at + len].copy_from_slice(&bytes[..len]);
                }
                Call::Length { file, len } => files.entry(*file).or_default().resize(*len, 0),
                Call::Sync { .. } | Call::SyncDir => {}
            }
        }
        let image = |file| Image { file, bytes: files.get(&file).cloned().unwrap_or_default() };
        names.into_iter().map(|(name, file)| (name, image(file))).collect()
    }
}

/// Whether a file is shorter than it was once its length has been set.
fn shrinks(before: &[Call], file: usize, len: usize) -> bool {
    let length = before.iter().fold(0, |length, call| match call {
        Call::Write { file: other, at, bytes } if *other == file => length.max(at + bytes.len()),
        Call::Length { file: other, len } if *other == file => *len,
        _ => length,
    });
    len < length
}

/// Puts the files of a directory into an empty folder, and gives its path.
///
/// # Errors
/// The folder cannot be written to.
pub fn rebuild(directory: &Directory, folder: &Path) -> io::Result<PathBuf> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::create_dir(folder)?;
    let mut made = BTreeMap::new();
    for (name, image) in directory {
        let path = folder.join(name);
        match made.entry(image.file) {
            Entry::Occupied(other) => std::fs::hard_link(other.get(), path)?,
            Entry::Vacant(place) => {
                std::fs::write(&path, &image.bytes)?;
                place.insert(path);
            }
        }
    }
    Ok(folder.to_owned())
}
