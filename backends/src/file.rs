//! A log in a directory, one file an object, with one writer.
//!
//! ```text
//! LOCK                              held by the writer, gone with its process; the file stays
//! segment_0000000000000001.wal      mode 0600, the room of a whole segment at once
//! checkpoint_0000000000000007.ckpt
//! wal.meta                          the only file that is ever replaced
//! spare_0000000000000003.wal        room for a segment to come, made ahead of need or left over from one removed
//! ```
//!
//! Names become durable by a sync of the directory, bytes by a sync of their file; [`FileDevice::sync`] does both for
//! all that was touched since the last. A file system whose directories cannot be synced is refused at the first
//! sync, except on Windows, which has no such call.

use core::{error, fmt, ops::Bound};
use std::{
    collections::{BTreeSet, VecDeque},
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process,
    sync::Arc,
};

use duralog_core::{Device, DeviceError, ErrorKind, Geometry, Object, Room};

use crate::{
    ahead::{Ahead, Failed, PIECE},
    fs::{Files, Identity, OneFile, StdFs},
    spare::{Preparer, Spares, Taken, is_spare},
};

/// The name of the file that a writer locks.
const LOCK: &str = "LOCK";
/// How many files that wait for no sync stay open.
const OPEN_MAX: usize = 16;
/// Whether segments that are removed keep their room for those to come. A reader tells by what a file is that its name went
/// to another: where no system says so, nothing is kept.
const RECYCLES: bool = cfg!(unix);
/// How often `LOCK` may vanish while it is being locked before that is taken for another writer's doing.
const LOCK_TRIES: usize = 100;

/// What a directory is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading and writing, under the lock.
    Write,
    /// Reading alone: takes no lock, writes nothing, and works beside a live writer.
    Read,
}

/// How a directory is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// Bytes of each new segment.
    pub segment_size: u32,
    /// Whether a new segment takes its whole room at once: later writes then need none. On file systems that write
    /// every block to a new place (btrfs, ZFS) it promises nothing. The room of the next segment is then prepared while
    /// one fills, and up to two segments that are removed keep their room for those to come.
    pub preallocate: bool,
    /// What it is opened for.
    pub access: Access,
    /// Whether a directory that is missing is made; a reader never makes one.
    pub create: bool,
}

impl Default for FileOptions {
    /// For writing, made if missing, segments of 64 MiB that take their room at once.
    fn default() -> Self {
        Self { segment_size: 64 << 20, preallocate: true, access: Access::Write, create: true }
    }
}

impl FileOptions {
    /// What files are like as a medium.
    pub(crate) fn geometry(&self) -> Geometry {
        Geometry {
            segment_size: self.segment_size,
            granule: 1,
            copy_offset: 4096,
            blank: 0,
            settled: false,
            slots: None,
        }
    }
}

/// What a [`FileDevice`] was doing when the file system failed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// Making a directory or a file, with its room.
    Create,
    /// Opening a directory or a file, or looking at it.
    Open,
    /// Locking.
    Lock,
    /// Listing the directory.
    List,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Cutting off.
    Trim,
    /// Removing.
    Remove,
    /// Syncing a file or the directory.
    Sync,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Lock => "lock",
            Self::List => "list",
            Self::Read => "read",
            Self::Write => "write to",
            Self::Trim => "shorten",
            Self::Remove => "remove",
            Self::Sync => "sync",
        })
    }
}

/// What goes wrong with files.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileError {
    /// Another writer has it open, in this process or another.
    Locked {
        /// The directory, or the segment.
        path: PathBuf,
        /// The process that holds the lock, if it is known.
        owner: Option<u32>,
    },
    /// There are things in the directory, and none of them is a log's.
    NotALog {
        /// The directory.
        path: PathBuf,
    },
    /// There is no such directory.
    NotFound {
        /// The directory.
        path: PathBuf,
    },
    /// It is a file.
    NotADirectory {
        /// The path that was to be a directory.
        path: PathBuf,
    },
    /// A file that was to be made is there already: another writer was here.
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It was opened for reading.
    ReadOnly {
        /// The directory.
        path: PathBuf,
    },
    /// The directory was renamed or deleted since it was opened: what is at its path now is another.
    Replaced {
        /// That path.
        path: PathBuf,
    },
    /// The file system failed.
    Io {
        /// What it was asked for.
        operation: Operation,
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl FileError {
    fn io(operation: Operation, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, path: path.to_path_buf(), source }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { path, owner: Some(owner) } => {
                write!(f, "{} is locked by process {owner}: close it, or open read-only", path.display())
            }
            Self::Locked { path, owner: None } => {
                write!(f, "{} is locked by another writer: close it, or open read-only", path.display())
            }
            Self::NotALog { path } => {
                write!(f, "{} holds other things and no log: name a directory of its own", path.display())
            }
            Self::NotFound { path } => {
                write!(f, "there is no directory {}: check the path, or open it with `create`", path.display())
            }
            Self::NotADirectory { path } => {
                write!(f, "{} is not a directory: name the directory of the log", path.display())
            }
            Self::Exists { path } => {
                write!(f, "{} is there already, made by another writer: open the log again", path.display())
            }
            Self::ReadOnly { path } => write!(f, "{} was opened for reading: open it for writing", path.display()),
            Self::Replaced { path } => write!(
                f,
                "{} is not the directory any more that was opened: it was renamed or deleted, and nothing is written to what \
                 is there now; open the log where it is",
                path.display()
            ),
            Self::Io { operation, path, source } => {
                write!(f, "cannot {operation} {}: ", path.display())?;
                match self.kind() {
                    ErrorKind::NoSpace if source.kind() == io::ErrorKind::FileTooLarge => {
                        f.write_str("a limit on the size of files does not allow it")
                    }
                    ErrorKind::NoSpace if is_short_of_handles(source) => source.fmt(f),
                    ErrorKind::NoSpace => f.write_str("no room is left"),
                    ErrorKind::Gone => f.write_str("it is not there any more"),
                    ErrorKind::ReadOnly => {
                        f.write_str("the file system takes no writes: what only reads a log works there")
                    }
                    _ => source.fmt(f),
                }
            }
        }
    }
}

/// Whether the process or the system has as many files open as it may.
fn is_short_of_handles(error: &io::Error) -> bool {
    // ENFILE and EMFILE; ERROR_TOO_MANY_OPEN_FILES.
    let codes: &[i32] = if cfg!(windows) { &[4] } else { &[23, 24] };
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

impl error::Error for FileError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl DeviceError for FileError {
    /// No space is said of creating and writing alone: of a sync that fails for lack of space nothing is known. It is said too
    /// where the process or the system has too many files open for one more.
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Locked { .. } | Self::Exists { .. } | Self::Replaced { .. } => ErrorKind::Fenced,
            Self::NotFound { .. } => ErrorKind::Gone,
            Self::ReadOnly { .. } => ErrorKind::ReadOnly,
            Self::NotALog { .. } | Self::NotADirectory { .. } => ErrorKind::Other,
            Self::Io { operation, source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
                    if matches!(operation, Operation::Create | Operation::Write) =>
                {
                    ErrorKind::NoSpace
                }
                // As on a full medium, nothing was made, and it may be tried again.
                _ if *operation == Operation::Create && is_short_of_handles(source) => ErrorKind::NoSpace,
                io::ErrorKind::ReadOnlyFilesystem => ErrorKind::ReadOnly,
                io::ErrorKind::NotFound => ErrorKind::Gone,
                _ if *operation == Operation::Open => ErrorKind::Unavailable,
                _ => ErrorKind::Other,
            },
        }
    }
}

/// A file that was touched since the last sync. It stays open until then, so that its errors are not forgotten.
#[derive(Debug)]
struct Touched<T> {
    object: Object,
    file: Arc<T>,
    /// Whether more than bytes changed.
    all: bool,
    /// Bytes written since it was last to be synced ahead.
    written: usize,
}

/// A file that is open.
#[derive(Debug)]
struct Open<T> {
    object: Object,
    file: Arc<T>,
    /// Its path and what it is, for a reader, who has to see when its name went to another.
    named: Option<(PathBuf, Identity)>,
}

/// A log's directory.
///
/// For writing it holds the directory's lock until it is dropped or its process ends, however that comes about.
#[derive(Debug)]
pub struct FileDevice<F: Files = StdFs> {
    files: F,
    dir: PathBuf,
    options: FileOptions,
    names: BTreeSet<Object>,
    /// The files used last, the latest in front.
    open: VecDeque<Open<F::File>>,
    touched: Vec<Touched<F::File>>,
    names_changed: bool,
    /// The newest segment, locked as well: a writer that got past a deleted `LOCK` meets this one.
    newest: Option<(Object, Arc<F::File>)>,
    /// Files that are to become segments; none without preallocation.
    spares: Option<Arc<Spares<F::File>>>,
    /// Files that are to be synced ahead; none for reading.
    ahead: Option<Arc<Ahead<F::File>>>,
    /// What a sync failed with, and where. An operating system tells of a lost write once: whoever syncs next, of the threads
    /// that share the device, would be told that all is well.
    unsynced: Option<(PathBuf, Arc<io::Error>)>,
    /// Of `LOCK`.
    lock: Option<F::File>,
    /// What the directory is, whatever is at its path later.
    identity: Option<Identity>,
}

impl FileDevice {
    /// Opens a directory.
    ///
    /// For writing, the directory is made if it is missing and the options say so, and locked. A directory that is
    /// empty is a log that nothing was written to yet; its own name is durable when this returns. For reading, nothing
    /// is written or locked.
    ///
    /// # Errors
    /// [`FileError::Locked`]: it has a writer. [`FileError::NotALog`]: it holds other things and nothing of a log.
    /// [`FileError::NotFound`], [`FileError::NotADirectory`]: there is no such directory. [`FileError::Io`]: the file
    /// system failed.
    pub fn open(dir: impl AsRef<Path>, options: FileOptions) -> Result<Self, FileError> {
        Self::open_with(StdFs, dir, options)
    }
}

impl<F: Files> FileDevice<F> {
    /// [`FileDevice::open`] on another file system.
    ///
    /// # Errors
    /// Those of [`FileDevice::open`].
    #[doc(hidden)]
    pub fn open_with(files: F, dir: impl AsRef<Path>, options: FileOptions) -> Result<Self, FileError> {
        let dir = std::path::absolute(&dir).map_err(FileError::io(Operation::Open, dir.as_ref()))?;
        let writes = options.access == Access::Write;
        let found = match files.list(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && writes && options.create => Vec::new(),
            found => found.map_err(|error| not_listed(&dir, error))?,
        };
        let is_new = objects(&found).is_empty();
        if is_new && found.iter().any(|name| name != LOCK && !is_spare(name)) {
            return Err(FileError::NotALog { path: dir });
        }
        // Where there is no log and none is to be made, nothing is: not even the lock's file.
        let writes = writes && (!is_new || options.create);
        let options = if writes { options } else { FileOptions { access: Access::Read, ..options } };
        if writes && is_new {
            make_durably(&files, &dir)?;
        }
        let lock = if writes { Some(lock_dir(&files, &dir)?) } else { None };
        let identity = files.identity(&dir).map_err(FileError::io(Operation::Open, &dir))?;
        let spares = (writes && options.preallocate).then(|| Arc::new(Spares::new(options.segment_size)));
        let mut device = Self {
            files,
            dir,
            options,
            names: BTreeSet::new(),
            open: VecDeque::new(),
            touched: Vec::new(),
            names_changed: false,
            newest: None,
            spares,
            ahead: writes.then(|| Arc::new(Ahead::new())),
            unsynced: None,
            lock,
            identity,
        };
        // Only now: before the lock was held, another writer may have been at it.
        let found = if writes { device.lock_newest()? } else { device.list()? };
        if writes {
            device.remove_leftovers(&found);
            // What an earlier writer did with names may be in a cache only.
            device.names_changed = true;
        }
        Ok(device)
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Another handle on the same directory, for reading.
    ///
    /// # Errors
    /// Those of [`FileDevice::open`] for reading.
    pub fn reader(&self) -> Result<Self, FileError> {
        let options = FileOptions { access: Access::Read, create: false, ..self.options };
        Self::open_with(self.files.clone(), &self.dir, options)
    }

    /// The length of an object's file in bytes, the room of a segment included.
    ///
    /// # Errors
    /// There is no such object, or the file system failed.
    pub fn len(&mut self, object: Object) -> Result<u64, FileError> {
        self.file(object)?.length().map_err(self.failed(Operation::Open, object))
    }

    /// Does one piece of what a thread beside the log does otherwise, if there is one to do; tells whether there was. A
    /// test drives the preparation with it, so that every run makes the same calls.
    #[doc(hidden)]
    pub fn prepare(&self) -> bool {
        self.preparer().is_some_and(|mut preparer| preparer.try_step())
    }

    /// What prepares segments ahead of need, for a thread beside the log's.
    pub(crate) fn preparer(&self) -> Option<Preparer<F>> {
        let spares = self.spares.as_ref()?;
        Some(Preparer::new(self.files.clone(), self.dir.clone(), Arc::clone(spares)))
    }

    /// What syncs files ahead of the log's own sync, for a thread beside the log's.
    pub(crate) fn ahead(&self) -> Option<Arc<Ahead<F::File>>> {
        self.ahead.clone()
    }

    /// Begins a sync of this object, beside what is written next; see [`SharedDevice`](crate::SharedDevice::begin_sync).
    pub(crate) fn begin_sync(&mut self, object: Object) -> bool {
        let Some(ahead) = self.ahead() else { return false };
        // What more than bytes changed of is synced with its name, and by nobody else.
        let touched = self.touched.iter_mut().find(|touched| touched.object == object && !touched.all);
        touched.is_some_and(|touched| {
            touched.written = 0;
            ahead.begin(object, &touched.file)
        })
    }

    /// How the sync that was begun went.
    pub(crate) fn poll_sync(&mut self) -> Option<Result<(), FileError>> {
        let ended = self.ahead.as_ref()?.poll()?;
        Some(ended.map_err(|failed| self.failed_ahead(failed)))
    }

    /// Waits for the sync that was begun.
    pub(crate) fn finish_sync(&mut self) -> Option<Result<(), FileError>> {
        let ended = self.ahead.as_ref()?.finish()?;
        Some(ended.map_err(|failed| self.failed_ahead(failed)))
    }

    /// Removes what a killed writer had made ahead. Nothing hangs on it: what cannot be removed stays.
    fn remove_leftovers(&self, found: &[OsString]) {
        for name in found.iter().filter(|name| is_spare(name)) {
            if let Err(error) = self.files.remove(&self.dir.join(name)) {
                tracing::warn!(name = %name.display(), %error, "what a killed writer made ahead could not be removed");
            }
        }
    }

    fn path(&self, object: Object) -> PathBuf {
        self.dir.join(object.to_string())
    }

    fn failed(&self, operation: Operation, object: Object) -> impl FnOnce(io::Error) -> FileError + use<'_, F> {
        move |source| FileError::Io { operation, path: self.path(object), source }
    }

    /// Whether names in the directory's path are names in the directory that was locked.
    fn may_name(&self) -> Result<(), FileError> {
        self.may_write()?;
        match self.files.identity(&self.dir) {
            Ok(there) if there == self.identity => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::io(Operation::Open, &self.dir)(error))
            }
            _ => Err(FileError::Replaced { path: self.dir.clone() }),
        }
    }

    fn may_write(&self) -> Result<(), FileError> {
        match self.options.access {
            Access::Write => Ok(()),
            Access::Read => Err(FileError::ReadOnly { path: self.dir.clone() }),
        }
    }

    /// Reads the names anew, and forgets files that may have been replaced under their names.
    fn list(&mut self) -> Result<Vec<OsString>, FileError> {
        let found = self.files.list(&self.dir).map_err(|error| not_listed(&self.dir, error))?;
        self.names = objects(&found);
        self.open.clear();
        Ok(found)
    }

    /// A walk that begins beside a live writer begins with the names of now.
    fn begin_walk(&mut self) -> Result<(), FileError> {
        if self.options.access == Access::Read { self.list().map(|_| ()) } else { Ok(()) }
    }

    fn file(&mut self, object: Object) -> Result<Arc<F::File>, FileError> {
        self.front(object).map(|open| Arc::clone(&open.file))
    }

    /// The file of an object, the front one of those that are open from now on.
    fn front(&mut self, object: Object) -> Result<&Open<F::File>, FileError> {
        if self.open.front().is_none_or(|open| open.object != object) {
            let known = self.open.iter().position(|open| open.object == object).and_then(|at| self.open.remove(at));
            let touched = self.touched.iter().find(|touched| touched.object == object);
            let open = match (known, touched) {
                (Some(open), _) => open,
                (None, Some(touched)) => Open { object, file: Arc::clone(&touched.file), named: None },
                (None, None) => {
                    let path = self.path(object);
                    let file = self.files.open(&path, self.options.access);
                    let file = file.map_err(self.failed(Operation::Open, object))?;
                    // Of what is no segment, nothing is ever written under another name.
                    let is_watched = self.options.access == Access::Read && is_segment(&object);
                    let identity = if is_watched { file.identity() } else { Ok(None) };
                    let identity = identity.map_err(self.failed(Operation::Open, object))?;
                    Open { object, file: Arc::new(file), named: identity.map(|identity| (path, identity)) }
                }
            };
            self.open.push_front(open);
            self.open.truncate(OPEN_MAX);
        }
        Ok(&self.open[0])
    }

    /// Before anything is done to a file: also what fails may have had an effect.
    fn touch(&mut self, object: Object, file: &Arc<F::File>, all: bool) {
        match self.touched.iter_mut().find(|touched| touched.object == object) {
            Some(touched) => touched.all |= all,
            None => self.touched.push(Touched { object, file: Arc::clone(file), all, written: 0 }),
        }
    }

    /// So much was written to a file that was touched.
    fn wrote(&mut self, object: Object, len: usize) {
        let Some(ahead) = &self.ahead else { return };
        let Some(touched) = self.touched.iter_mut().find(|touched| touched.object == object) else { return };
        touched.written += len;
        if touched.written >= PIECE {
            touched.written = 0;
            ahead.want(object, &touched.file);
        }
    }

    /// What a sync that failed ahead of the device's own is to whoever writes or syncs.
    fn failed_ahead(&self, failed: Failed) -> FileError {
        again(&self.path(failed.object), &failed.error)
    }

    /// Gives up what was made ahead, where the medium is full; tells whether that was anything.
    fn give_up_spares(&mut self) -> bool {
        let given_up = self.spares.as_ref().is_some_and(|spares| spares.give_up(&self.files, &self.dir));
        self.names_changed |= given_up;
        given_up
    }

    /// Locks the newest segment, and returns the names of while it was locked. Of two writers that got past a deleted
    /// `LOCK`, the other may make the next one between the listing and the lock, and be gone again.
    fn lock_newest(&mut self) -> Result<Vec<OsString>, FileError> {
        for _ in 0..LOCK_TRIES {
            let found = self.list()?;
            let newest = self.names.iter().rfind(|object| is_segment(object)).copied();
            if newest == self.newest.as_ref().map(|(object, _)| *object) {
                return Ok(found);
            }
            self.newest = None;
            let Some(object) = newest else { continue };
            match self.file(object) {
                Err(error) if error.kind() == ErrorKind::Gone => {}
                file => {
                    let file = file?;
                    self.lock_segment(object, &file)?;
                    // What an earlier writer did with it may be in a cache only too.
                    self.touch(object, &file, true);
                }
            }
        }
        Err(FileError::Locked { path: self.dir.clone(), owner: None })
    }

    /// The second line behind `LOCK`. Not on Windows, where a locked file cannot be read by others.
    fn lock_segment(&mut self, object: Object, file: &Arc<F::File>) -> Result<(), FileError> {
        if self.newest.as_ref().is_some_and(|(newest, _)| *newest > object) {
            return Ok(());
        }
        if cfg!(unix) {
            let path = self.path(object);
            // Another writer may have found it blank before it was locked, and removed it: what is written to it then is
            // nowhere.
            let locked = file.try_lock().and_then(|locked| Ok(locked && is_at(&self.files, &path, &**file)?));
            if !locked.map_err(self.failed(Operation::Lock, object))? {
                return Err(FileError::Locked { path, owner: None });
            }
        }
        self.newest = Some((object, Arc::clone(file)));
        Ok(())
    }

    /// A writer that found no segment had none to lock: another one that a deleted `LOCK` let in may have begun a log here
    /// since, and have removed its first segments again. From now on it is kept out by the lock of this one.
    fn check_alone(&self) -> Result<(), FileError> {
        let found = self.files.list(&self.dir).map_err(|error| not_listed(&self.dir, error))?;
        let other = objects(&found).into_iter().find(|object| is_segment(object) && !self.names.contains(object));
        other.map_or(Ok(()), |other| Err(FileError::Locked { path: self.path(other), owner: None }))
    }

    /// Where the newest segment is to be removed, the one before it is locked first: no moment is without a lock. Returns
    /// the lock of the newest, to be held until it is gone.
    fn lock_before(&mut self, object: Object) -> Result<Option<Arc<F::File>>, FileError> {
        let Some((_, held)) = self.newest.take_if(|(newest, _)| *newest == object) else { return Ok(None) };
        let before = self.names.range(..object).rfind(|object| is_segment(object)).copied();
        let locked = before.map_or(Ok(()), |before| {
            let file = self.file(before)?;
            self.lock_segment(before, &file)
        });
        if let Err(error) = locked {
            self.newest = Some((object, held));
            return Err(error);
        }
        Ok(Some(held))
    }

    /// The metadata's file, the only one that is written again, keeps its bytes until they are written over: what is emptied
    /// first gives its room to others, and where the medium is full it is not had again.
    fn replace(&mut self, object: Object, size: u64) -> Result<(), FileError> {
        let mut file = self.file(object)?;
        if !matches!(file.names(), Ok(None | Some(1))) {
            // Someone keeps it under another name too, as a backup: what it says there is not changed.
            let path = self.path(object);
            self.files.remove(&path).map_err(self.failed(Operation::Remove, object))?;
            self.open.retain(|open| open.object != object);
            self.touched.retain(|touched| touched.object != object);
            file = Arc::new(self.files.create_new(&path).map_err(self.failed(Operation::Create, object))?);
            self.open.push_front(Open { object, file: Arc::clone(&file), named: None });
            self.names_changed = true;
        }
        self.touch(object, &file, true);
        file.set_len(size).map_err(self.failed(Operation::Create, object))?;
        self.names.insert(object);
        Ok(())
    }

    fn is_newest(&self, object: Object) -> bool {
        self.newest.as_ref().is_some_and(|(newest, _)| *newest == object)
    }

    /// Makes an object: a segment from what was made ahead, where there is something.
    fn make(&mut self, object: Object, size: u64) -> Result<Room, FileError> {
        let path = self.path(object);
        let is_segment = is_segment(&object);
        let spares = self.spares.clone().filter(|spares| is_segment && spares.size() == size);
        let (file, room) =
            match spares.as_ref().map_or(Taken::None, |spares| spares.take(&self.files, &self.dir, &path)) {
                Taken::Segment(file, room) => (file, room),
                Taken::Exists => return Err(FileError::Exists { path }),
                Taken::None => match self.files.create_new(&path) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        if object != Object::Meta {
                            return Err(FileError::Exists { path });
                        }
                        return self.replace(object, size).map(|()| Room::Blank);
                    }
                    made => {
                        let file = Arc::new(made.map_err(FileError::io(Operation::Create, &path))?);
                        self.names_changed = true;
                        if is_segment && self.options.preallocate && size > 0 {
                            file.allocate(size).map_err(|error| self.take_back(object, error))?;
                            spares.iter().for_each(|spares| spares.resume());
                        }
                        (file, Room::Blank)
                    }
                },
            };
        self.names_changed = true;
        self.names.insert(object);
        self.touch(object, &file, true);
        self.open.push_front(Open { object, file: Arc::clone(&file), named: None });
        self.open.truncate(OPEN_MAX);
        if is_segment {
            let is_first = self.newest.is_none();
            self.lock_segment(object, &file)?;
            if is_first {
                self.check_alone()?;
            }
        }
        if let (Some(spares), true) = (&self.spares, self.is_newest(object)) {
            spares.filled(0);
        }
        Ok(room)
    }

    /// Keeps the file of a segment that is removed for one to come, where that may be; `false`: it is to be removed.
    fn keep_for_later(&mut self, object: Object) -> bool {
        let Some(spares) = self.spares.clone() else { return false };
        if !RECYCLES || !is_segment(&object) {
            return false;
        }
        let Ok(file) = self.file(object) else { return false };
        spares.keep(&self.files, &self.dir, &self.path(object), file)
    }

    /// Takes back a file that got no room. If that fails, it is there, and nobody may say that nothing was made.
    fn take_back(&mut self, object: Object, error: io::Error) -> FileError {
        match self.files.remove(&self.path(object)) {
            Err(left) if left.kind() != io::ErrorKind::NotFound => {
                self.names.insert(object);
                self.not_removed(object, left)
            }
            _ => self.failed(Operation::Create, object)(error),
        }
    }

    fn not_removed(&self, object: Object, error: io::Error) -> FileError {
        tracing::warn!(%object, dir = %self.dir.display(), %error, "a file of the log could not be removed");
        self.failed(Operation::Remove, object)(error)
    }
}

impl<F: Files> FileDevice<F> {
    /// Syncs the files that were touched, and then the names.
    fn sync_touched(&mut self) -> Result<(), FileError> {
        for Touched { object, file, all, .. } in &self.touched {
            // Of metadata that someone has replaced, nothing is lost.
            let synced = if *object == Object::Meta { file.sync_all() } else { file.sync_named(*all) };
            synced.map_err(self.failed(Operation::Sync, *object))?;
        }
        if self.names_changed {
            self.files.sync_dir(&self.dir).map_err(FileError::io(Operation::Sync, &self.dir))?;
            if let Some(spares) = &self.spares {
                spares.settled();
            }
        }
        self.touched.clear();
        self.names_changed = false;
        Ok(())
    }
}

impl<F: Files> Drop for FileDevice<F> {
    fn drop(&mut self) {
        if let Some(ahead) = &self.ahead {
            ahead.close();
        }
        if let Some(spares) = &self.spares {
            if self.may_name().is_ok() {
                spares.give_up(&self.files, &self.dir);
            }
            spares.close();
        }
        // Not left to the files' end: the threads beside the log may hold them for a moment longer, and so may a child process
        // that was just started. What cannot be unlocked is so then.
        let newest = self.newest.take().map(|(_, file)| file.unlock());
        let lock = self.lock.take().map(|file| file.unlock());
        if let Some(Err(error)) = newest.into_iter().chain(lock).find(Result::is_err) {
            tracing::debug!(dir = %self.dir.display(), %error, "a lock goes with its file");
        }
    }
}

impl<F: Files> Device for FileDevice<F> {
    type Error = FileError;

    fn geometry(&self) -> Geometry {
        self.options.geometry()
    }

    fn next(&mut self, after: Option<Object>) -> Result<Option<Object>, FileError> {
        if after.is_none() {
            self.begin_walk()?;
        }
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(self.names.range((behind, Bound::Unbounded)).next().copied())
    }

    fn prev(&mut self, before: Option<Object>) -> Result<Option<Object>, FileError> {
        if before.is_none() {
            self.begin_walk()?;
        }
        let ahead = before.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(self.names.range((Bound::Unbounded, ahead)).next_back().copied())
    }

    fn create(&mut self, object: Object, size: u64) -> Result<Room, FileError> {
        self.may_name()?;
        loop {
            match self.make(object, size) {
                Err(error) if error.kind() == ErrorKind::NoSpace && self.give_up_spares() => {}
                made => return made,
            }
        }
    }

    fn read(&mut self, object: Object, at: u64, buf: &mut [u8]) -> Result<usize, FileError> {
        self.front(object)?;
        let Open { file, named, .. } = &self.open[0];
        let failed = self.failed(Operation::Read, object);
        let read = match uninterrupted(|| file.read_at(buf, at)) {
            Ok(read) => read,
            Err(error) => return Err(failed(error)),
        };
        // A reader's file may have been removed, and taken for another segment, while it was read: then what was read is
        // none of its bytes, perhaps. It loses its name before anything is written to it.
        if let Some((path, identity)) = named {
            match self.files.identity(path) {
                Ok(Some(there)) if there == *identity => {}
                Ok(_) => return Err(failed(io::ErrorKind::NotFound.into())),
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(read)
    }

    fn write(&mut self, object: Object, mut at: u64, mut bytes: &[u8]) -> Result<(), FileError> {
        self.may_write()?;
        self.ahead.as_ref().map_or(Ok(()), |ahead| ahead.check()).map_err(|failed| self.failed_ahead(failed))?;
        let file = self.file(object)?;
        self.touch(object, &file, false);
        while !bytes.is_empty() {
            // In pieces: the medium has the first of many bytes while the last are still copied.
            let piece = &bytes[..bytes.len().min(PIECE)];
            let written = match uninterrupted(|| file.write_at(piece, at)) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                written => written,
            };
            match written.map_err(self.failed(Operation::Write, object)) {
                Ok(written) => {
                    bytes = &bytes[written..];
                    at += written as u64;
                    self.wrote(object, written);
                }
                Err(error) if error.kind() == ErrorKind::NoSpace && self.give_up_spares() => {}
                Err(error) => return Err(error),
            }
        }
        if let (Some(spares), true) = (&self.spares, self.is_newest(object)) {
            spares.filled(at);
        }
        Ok(())
    }

    fn trim(&mut self, object: Object, at: u64) -> Result<(), FileError> {
        self.may_write()?;
        let file = self.file(object)?;
        if at < file.length().map_err(self.failed(Operation::Trim, object))? {
            self.touch(object, &file, true);
            file.set_len(at).map_err(self.failed(Operation::Trim, object))?;
        }
        Ok(())
    }

    fn remove(&mut self, object: Object) -> Result<(), FileError> {
        self.may_name()?;
        let newest = self.lock_before(object)?;
        // While it is open only its name goes, which takes a moment.
        let large = if is_segment(&object) { None } else { self.file(object).ok() };
        if newest.is_some() || !self.keep_for_later(object) {
            match self.files.remove(&self.path(object)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.not_removed(object, error)),
                _ => {}
            }
        }
        self.names_changed = true;
        self.names.remove(&object);
        self.touched.retain(|touched| touched.object != object);
        self.open.retain(|open| open.object != object);
        self.newest.take_if(|(newest, _)| *newest == object);
        if let (Some(ahead), Some(large)) = (&self.ahead, large) {
            ahead.let_go(large);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), FileError> {
        if let Some((path, error)) = &self.unsynced {
            return Err(again(path, error));
        }
        self.ahead.as_ref().map_or(Ok(()), |ahead| ahead.settle()).map_err(|failed| self.failed_ahead(failed))?;
        let synced = self.sync_touched();
        if let Some(ahead) = &self.ahead {
            ahead.settled(synced.is_ok());
        }
        match synced {
            Err(FileError::Io { path, source, .. }) => {
                let (path, error) = self.unsynced.insert((path, Arc::new(source)));
                Err(again(path, error))
            }
            synced => synced,
        }
    }
}

/// The failure of a sync, told once more.
fn again(path: &Path, error: &Arc<io::Error>) -> FileError {
    let source = io::Error::new(error.kind(), Arc::clone(error));
    FileError::Io { operation: Operation::Sync, path: path.to_path_buf(), source }
}

fn is_segment(object: &Object) -> bool {
    matches!(object, Object::Segment(_))
}

fn objects(names: &[OsString]) -> BTreeSet<Object> {
    names.iter().filter_map(|name| Object::from_name(name.to_str()?)).collect()
}

fn not_listed(dir: &Path, error: io::Error) -> FileError {
    let path = dir.to_path_buf();
    match error.kind() {
        io::ErrorKind::NotFound => FileError::NotFound { path },
        io::ErrorKind::NotADirectory => FileError::NotADirectory { path },
        _ => FileError::io(Operation::List, dir)(error),
    }
}

fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Makes a directory if it is missing, with those above it, and its name durable.
///
/// The name of one that is there is synced as well: whoever made it may have been killed before the sync. Each level
/// is durable before the next is made, so only the lowest can be in that state.
fn make_durably<F: Files>(files: &F, dir: &Path) -> Result<(), FileError> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    if let Err(error) = files.identity(dir) {
        if error.kind() != io::ErrorKind::NotFound {
            return Err(FileError::io(Operation::Open, dir)(error));
        }
        make_durably(files, parent)?;
        match files.make_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(FileError::io(Operation::Create, dir)(error));
            }
            _ => {}
        }
    }
    match files.sync_dir(parent) {
        // A directory that this process may not read is not one that it has made another in.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced.map_err(FileError::io(Operation::Sync, parent)),
    }
}

/// Takes the lock of a directory.
fn lock_dir<F: Files>(files: &F, dir: &Path) -> Result<F::File, FileError> {
    let path = dir.join(LOCK);
    let failed = FileError::io(Operation::Lock, &path);
    for _ in 0..LOCK_TRIES {
        match try_lock(files, &path) {
            Ok(Tried::Locked(file)) => return Ok(file),
            Ok(Tried::HeldBy(owner)) => return Err(FileError::Locked { path: dir.to_path_buf(), owner }),
            Ok(Tried::Vanished) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(FileError::Locked { path: dir.to_path_buf(), owner: None })
}

/// Whether a file still has the path that it was opened by. It is the open file that a lock is of: one that has lost its
/// name excludes nobody.
fn is_at<F: Files>(files: &F, path: &Path, file: &F::File) -> io::Result<bool> {
    match files.identity(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        there => Ok(there? == file.identity()?),
    }
}

enum Tried<T> {
    Locked(T),
    HeldBy(Option<u32>),
    Vanished,
}

fn try_lock<F: Files>(files: &F, path: &Path) -> io::Result<Tried<F::File>> {
    let file = match files.open(path, Access::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match files.create_new(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Tried::Vanished),
            made => made?,
        },
        opened => opened?,
    };
    if !file.try_lock()? {
        return Ok(Tried::HeldBy(owner(&file)));
    }
    if !is_at(files, path, &file)? {
        return Ok(Tried::Vanished);
    }
    // It only informs: without room for it the log must open all the same. Always as long, so that it takes none.
    let _ = file.write_at(format!("{:<10}\n", process::id()).as_bytes(), 0);
    Ok(Tried::Locked(file))
}

fn owner(lock: &impl OneFile) -> Option<u32> {
    let mut bytes = [0; 11];
    let len = lock.read_at(&mut bytes, 0).ok()?;
    str::from_utf8(&bytes[..len]).ok()?.trim().parse().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use core::{
        cell::{Cell, RefCell},
        error::Error as _,
    };
    use std::{fs::File, rc::Rc};

    use duralog_core::{CheckpointId, SegmentId};
    use tempfile::TempDir;

    use super::*;
    use crate::{fs::Identity, memory::tests as contract};

    const SEGMENT: Object = Object::Segment(SegmentId::new(1));
    const CHECKPOINT: Object = Object::Checkpoint(CheckpointId::new(1));

    pub(crate) fn writer() -> FileOptions {
        FileOptions { segment_size: 65536, ..FileOptions::default() }
    }

    fn folder() -> (TempDir, FileDevice) {
        let dir = tempfile::tempdir().unwrap();
        let device = FileDevice::open(dir.path().join("log"), writer()).unwrap();
        (dir, device)
    }

    fn kind_of<T>(result: Result<T, FileError>) -> Option<ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn it_keeps_the_promises_of_a_device() {
        let (_dir, mut device) = folder();
        let mut reader = device.reader().unwrap();
        contract::keeps_its_promises(&mut device, &mut reader);
        let growing = FileOptions { preallocate: false, ..writer() };
        let dir = tempfile::tempdir().unwrap();
        let mut device = FileDevice::open(dir.path(), growing).unwrap();
        device.create(SEGMENT, 65536).unwrap();
        assert_eq!(device.len(SEGMENT).unwrap(), 0);
        assert_eq!(device.read(SEGMENT, 0, &mut [1; 8]).unwrap(), 0);
        device.write(SEGMENT, 4, b"here").unwrap();
        assert_eq!(device.len(SEGMENT).unwrap(), 8);
    }

    #[test]
    fn a_second_writer_is_refused_and_told_who_holds_the_lock() {
        let (_dir, device) = folder();
        let error = FileDevice::open(device.dir(), writer()).unwrap_err();
        assert!(matches!(error, FileError::Locked { owner, .. } if owner == Some(process::id())), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Fenced);
        let says = format!("log is locked by process {}: close it, or open read-only", process::id());
        assert!(error.to_string().ends_with(&says), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_writer_whose_directory_was_renamed_or_deleted_touches_nothing_in_what_is_there_now() {
        for rename in [true, false] {
            let dir = TempDir::new().unwrap();
            let path = dir.path().join("log");
            let mut old = FileDevice::open(&path, writer()).unwrap();
            old.create(SEGMENT, 4096).unwrap();
            if rename {
                std::fs::rename(&path, dir.path().join("moved")).unwrap();
            } else {
                std::fs::remove_dir_all(&path).unwrap();
            }
            let refused = old.remove(SEGMENT);
            assert!(matches!(refused, Err(FileError::Replaced { .. })), "nothing is there: {refused:?}");
            let mut new = FileDevice::open(&path, writer()).unwrap();
            new.create(SEGMENT, 4096).unwrap();
            for refused in
                [old.create(NEXT, 4096).map(drop), old.create(Object::Meta, 72).map(drop), old.remove(SEGMENT)]
            {
                let kind = refused.as_ref().map_err(FileError::kind);
                assert_eq!(kind, Err(ErrorKind::Fenced), "{refused:?}");
            }
            drop(old);
            assert_eq!(new.next(None).unwrap(), Some(SEGMENT));
            assert_eq!(
                FileDevice::open(&path, FileOptions { access: Access::Read, ..writer() })
                    .unwrap()
                    .next(Some(SEGMENT))
                    .unwrap(),
                None
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_is_written_to_a_file_that_someone_has_deleted_is_never_called_durable() {
        for beside in [false, true] {
            let (_dir, mut device) = folder();
            device.create(SEGMENT, 65536).unwrap();
            device.sync().unwrap();
            device.write(SEGMENT, 0, b"a").unwrap();
            std::fs::remove_file(device.path(SEGMENT)).unwrap();
            if beside {
                assert!(device.begin_sync(SEGMENT));
                assert_eq!(device.finish_sync().and_then(kind_of), Some(ErrorKind::Gone));
            }
            let error = device.sync().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Gone);
            assert!(error.to_string().ends_with("it is not there any more"), "{error}");
        }
        // One that the log itself removes is none of them, also where a thread beside it is about to sync it.
        let (_dir, mut device) = folder();
        device.create(SEGMENT, 4 << 20).unwrap();
        device.write(SEGMENT, 0, &vec![7; PIECE]).unwrap();
        device.create(NEXT, 4096).unwrap();
        device.remove(SEGMENT).unwrap();
        assert!(device.ahead().unwrap().step());
        device.sync().unwrap();
    }

    #[test]
    fn the_metadata_are_replaced_in_the_room_that_they_have() {
        let (_dir, mut device) = folder();
        device.create(Object::Meta, 4).unwrap();
        device.write(Object::Meta, 0, b"old!").unwrap();
        device.create(Object::Meta, 4).unwrap();
        assert_eq!(
            std::fs::read(device.path(Object::Meta)).unwrap(),
            b"old!",
            "its block is anybody's until it is written"
        );
        device.write(Object::Meta, 0, b"new!").unwrap();
        assert_eq!(std::fs::read(device.path(Object::Meta)).unwrap(), b"new!");
    }

    #[cfg(unix)]
    #[test]
    fn metadata_that_someone_keeps_under_another_name_stay_as_they_are_there() {
        let (dir, mut device) = folder();
        device.create(Object::Meta, 4).unwrap();
        device.write(Object::Meta, 0, b"old!").unwrap();
        let kept = dir.path().join("backup");
        std::fs::hard_link(device.path(Object::Meta), &kept).unwrap();
        device.create(Object::Meta, 4).unwrap();
        device.write(Object::Meta, 0, b"new!").unwrap();
        device.sync().unwrap();
        assert_eq!(std::fs::read(kept).unwrap(), b"old!");
        assert_eq!(std::fs::read(device.path(Object::Meta)).unwrap(), b"new!");
    }

    /// Another writer, which a deleted `LOCK` lets in.
    fn beside(dir: &Path) -> Result<FileDevice, FileError> {
        std::fs::remove_file(dir.join(LOCK)).unwrap();
        FileDevice::open(dir, writer())
    }

    const NEXT: Object = Object::Segment(SegmentId::new(2));

    #[cfg(unix)]
    #[test]
    fn a_segment_that_another_writer_removed_before_it_was_locked_is_not_written_to() {
        for again in [false, true] {
            let (dir, files, mut device) = failing();
            let path = dir.path().to_owned();
            files.before_lock(move || {
                let mut other = beside(&path).unwrap();
                other.remove(SEGMENT).unwrap();
                if again {
                    other.create(SEGMENT, 65536).unwrap();
                }
            });
            let made = device.create(SEGMENT, 65536);
            assert_eq!(kind_of(made), Some(ErrorKind::Fenced), "its name is gone, or another's: {again}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_segment_that_another_writer_made_before_the_newest_was_locked_is_the_newest() {
        let (dir, files, mut device) = failing();
        device.create(SEGMENT, 65536).unwrap();
        drop(device);
        let path = dir.path().to_owned();
        files.before_lock(|| ()); // That of `LOCK`.
        files.before_lock(move || {
            beside(&path).unwrap().create(NEXT, 65536).unwrap();
        });
        let mut device = FileDevice::open_with(files, dir.path(), writer()).unwrap();
        assert_eq!(device.prev(None).unwrap(), Some(NEXT));
        assert_eq!(kind_of(beside(dir.path())), Some(ErrorKind::Fenced), "it is the one that is locked");
    }

    #[cfg(unix)]
    #[test]
    fn a_writer_that_opened_an_empty_folder_begins_no_log_beside_another() {
        let (_dir, mut device) = folder();
        let mut other = beside(device.dir()).unwrap();
        other.create(SEGMENT, 65536).unwrap();
        other.create(NEXT, 65536).unwrap();
        other.remove(SEGMENT).unwrap();
        assert_eq!(kind_of(device.create(SEGMENT, 65536)), Some(ErrorKind::Fenced));
    }

    #[cfg(unix)]
    #[test]
    fn where_the_newest_segment_is_removed_the_one_before_it_keeps_others_out() {
        let (_dir, mut device) = folder();
        device.create(SEGMENT, 65536).unwrap();
        device.create(NEXT, 65536).unwrap();
        let dir = device.dir().to_owned();
        drop(device);
        let mut device = FileDevice::open(&dir, writer()).unwrap();
        device.remove(NEXT).unwrap();
        assert_eq!(kind_of(beside(&dir)), Some(ErrorKind::Fenced));
        device.create(NEXT, 65536).unwrap();
        drop(device);
        let mut device = FileDevice::open(&dir, writer()).unwrap();
        let _other = File::open(dir.join(SEGMENT.to_string())).map(|file| file.lock().map(|()| file)).unwrap();
        assert_eq!(kind_of(device.remove(NEXT)), Some(ErrorKind::Fenced), "another writer has that one");
        assert!(dir.join(NEXT.to_string()).exists());
    }

    #[test]
    fn the_locks_go_with_the_device_although_a_child_process_still_has_its_files_open() {
        let (_dir, mut device) = folder();
        device.create(SEGMENT, 65536).unwrap();
        let newest = device.newest.as_ref().map(|(_, file)| file.try_clone().unwrap());
        // What a child has between its start and its program.
        let of_child = [device.lock.as_ref().map(|file| file.try_clone().unwrap()), newest];
        assert!(of_child.iter().all(Option::is_some));
        let dir = device.dir().to_owned();
        drop(device);
        let again = FileDevice::open(dir, writer());
        assert!(again.is_ok(), "{again:?}");
        drop(of_child);
    }

    #[test]
    fn the_lock_goes_with_its_owner_and_its_file_stays() {
        let (_dir, device) = folder();
        let path = device.dir().to_path_buf();
        drop(device);
        assert!(path.join(LOCK).exists());
        FileDevice::open(path, writer()).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_writer_that_gets_past_a_deleted_lock_is_stopped_by_the_newest_segment() {
        let (_dir, mut device) = folder();
        device.create(SEGMENT, 65536).unwrap();
        std::fs::remove_file(device.dir().join(LOCK)).unwrap();
        let error = FileDevice::open(device.dir(), writer()).unwrap_err();
        assert!(
            matches!(&error, FileError::Locked { path, owner: None } if path.ends_with("segment_0000000000000001.wal"))
        );
        device.remove(SEGMENT).unwrap();
        FileDevice::open(device.dir(), writer()).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_look_at_a_log() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, mut device) = folder();
        device.create(SEGMENT, 65536).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(device.dir()), 0o700);
        assert_eq!(mode(&device.path(SEGMENT)), 0o600);
        assert_eq!(mode(&device.dir().join(LOCK)), 0o600);
    }

    #[test]
    fn a_reader_works_beside_the_writer_and_leaves_no_trace() {
        let (_dir, mut device) = folder();
        let mut reader = device.reader().unwrap();
        assert_eq!(reader.next(None).unwrap(), None);
        device.create(SEGMENT, 65536).unwrap();
        assert_eq!(reader.next(None).unwrap(), Some(SEGMENT));
        assert_eq!(kind_of(reader.create(CHECKPOINT, 0)), Some(ErrorKind::ReadOnly));
        assert_eq!(kind_of(reader.write(SEGMENT, 0, b"x")), Some(ErrorKind::ReadOnly));
        assert_eq!(kind_of(reader.trim(SEGMENT, 0)), Some(ErrorKind::ReadOnly));
        assert_eq!(kind_of(reader.remove(SEGMENT)), Some(ErrorKind::ReadOnly));
        device.remove(SEGMENT).unwrap();
        assert_eq!(reader.prev(None).unwrap(), None);
        assert_eq!(kind_of(reader.read(SEGMENT, 0, &mut [0; 4])), Some(ErrorKind::Gone));
        drop(device);

        let empty = tempfile::tempdir().unwrap();
        let reading = FileOptions { access: Access::Read, ..writer() };
        FileDevice::open(empty.path(), reading).unwrap();
        assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
        let missing = FileDevice::open(empty.path().join("none"), reading);
        assert!(matches!(missing, Err(FileError::NotFound { .. })));
    }

    #[test]
    fn a_reader_does_not_go_on_reading_a_file_that_was_made_anew() {
        let (_dir, mut device) = folder();
        let mut reader = device.reader().unwrap();
        let mut buf = [0; 3];
        for life in [b"one", b"two"] {
            device.remove(SEGMENT).unwrap();
            device.create(SEGMENT, 65536).unwrap();
            device.write(SEGMENT, 0, life).unwrap();
            assert_eq!(reader.next(None).unwrap(), Some(SEGMENT));
            assert_eq!(reader.read(SEGMENT, 0, &mut buf).unwrap(), 3);
            assert_eq!(&buf, life);
        }
    }

    #[test]
    fn a_folder_of_other_things_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("thesis.txt");
        File::create(&other).unwrap();
        for access in [Access::Write, Access::Read] {
            let refused = FileDevice::open(dir.path(), FileOptions { access, ..writer() });
            assert!(matches!(refused, Err(FileError::NotALog { .. })));
            let refused = FileDevice::open(&other, FileOptions { access, ..writer() });
            assert!(matches!(refused, Err(FileError::NotADirectory { .. })));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        File::create(dir.path().join("wal.meta")).unwrap();
        FileDevice::open(dir.path(), writer()).unwrap();
    }

    #[test]
    fn a_directory_is_made_only_if_that_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        let refused = FileDevice::open(&deep, FileOptions { create: false, ..writer() });
        assert!(matches!(refused, Err(FileError::NotFound { .. })));
        assert!(!dir.path().join("a").exists());
        FileDevice::open(&deep, writer()).unwrap();
        FileDevice::open(&deep, FileOptions { create: false, ..writer() }).unwrap();
    }

    #[test]
    fn a_created_segment_reads_as_zeros_and_has_its_whole_length() {
        let (_dir, mut device) = folder();
        assert_eq!(device.create(SEGMENT, 65536).unwrap(), Room::Blank);
        assert_eq!(device.len(SEGMENT).unwrap(), 65536);
        let mut buf = [1; 512];
        assert_eq!(device.read(SEGMENT, 65536 - 512, &mut buf).unwrap(), 512);
        assert_eq!(buf, [0; 512]);
        assert_eq!(device.read(SEGMENT, 65536, &mut buf).unwrap(), 0);
    }

    #[test]
    fn more_files_are_used_than_stay_open() {
        let (_dir, mut device) = folder();
        let segments: Vec<_> = (1..=3 * OPEN_MAX as u64).map(|id| Object::Segment(SegmentId::new(id))).collect();
        for (object, byte) in segments.iter().zip(0..) {
            device.create(*object, 4096).unwrap();
            device.write(*object, 0, &[byte]).unwrap();
        }
        device.sync().unwrap();
        assert!(device.touched.is_empty() && device.open.len() <= OPEN_MAX);
        for (object, byte) in segments.iter().zip(0..) {
            let mut buf = [u8::MAX];
            device.read(*object, 0, &mut buf).unwrap();
            assert_eq!(buf, [byte]);
        }
    }

    /// The standard file system, in which the next call of one name can be made to fail, or that after some others, and
    /// syncs are counted.
    #[derive(Clone, Debug)]
    pub(crate) struct Failing {
        fails: Rc<Cell<Option<(&'static str, io::ErrorKind)>>>,
        fails_after: Rc<Cell<Option<(u32, io::ErrorKind)>>>,
        free: Rc<Cell<Option<u64>>>,
        synced: Rc<Cell<u32>>,
        dirs_synced: Rc<Cell<u32>>,
        dirs: Rc<RefCell<Vec<PathBuf>>>,
        others: Rc<RefCell<VecDeque<Other>>>,
    }

    /// What somebody else does between two calls.
    struct Other(Box<dyn FnOnce()>);

    impl fmt::Debug for Other {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Other")
        }
    }

    #[derive(Debug)]
    pub(crate) struct FailingFile(File, Failing);

    impl Failing {
        fn new() -> Self {
            Self {
                fails: Rc::default(),
                fails_after: Rc::default(),
                free: Rc::default(),
                synced: Rc::default(),
                dirs_synced: Rc::default(),
                dirs: Rc::default(),
                others: Rc::default(),
            }
        }

        /// Before one of the next locks, the first that nothing is planned for, somebody else does something.
        fn before_lock(&self, other: impl FnOnce() + 'static) {
            self.others.borrow_mut().push_back(Other(Box::new(other)));
        }

        pub(crate) fn fail(&self, call: &'static str, kind: io::ErrorKind) {
            self.fails.set(Some((call, kind)));
        }

        /// Lets the call fail that comes after so many others.
        pub(crate) fn fail_after(&self, calls: u32, kind: io::ErrorKind) {
            self.fails_after.set(Some((calls, kind)));
        }

        /// Says that no more than this many bytes are free.
        pub(crate) fn leave_free(&self, bytes: u64) {
            self.free.set(Some(bytes));
        }

        /// Whether what was to fail has not come yet; it never will.
        pub(crate) fn spare_us(&self) -> bool {
            self.fails_after.take().is_some()
        }

        fn reach(&self, call: &str) -> io::Result<()> {
            match self.fails_after.get() {
                Some((0, kind)) => {
                    self.fails_after.set(None);
                    return Err(kind.into());
                }
                Some((calls, kind)) => self.fails_after.set(Some((calls - 1, kind))),
                None => {}
            }
            match self.fails.get() {
                Some((failing, kind)) if failing == call => {
                    self.fails.set(None);
                    Err(kind.into())
                }
                _ => Ok(()),
            }
        }
    }

    impl Files for Failing {
        type File = FailingFile;

        fn make_dir(&self, dir: &Path) -> io::Result<()> {
            StdFs.make_dir(dir)
        }
        fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
            self.reach("list")?;
            StdFs.list(dir)
        }
        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            self.reach("sync_dir")?;
            self.dirs_synced.set(self.dirs_synced.get() + 1);
            self.dirs.borrow_mut().push(dir.to_owned());
            StdFs.sync_dir(dir)
        }
        fn open(&self, path: &Path, access: Access) -> io::Result<FailingFile> {
            StdFs.open(path, access).map(|file| FailingFile(file, self.clone()))
        }
        fn create_new(&self, path: &Path) -> io::Result<FailingFile> {
            self.reach("create")?;
            StdFs.create_new(path).map(|file| FailingFile(file, self.clone()))
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            self.reach("remove")?;
            StdFs.remove(path)
        }
        fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.reach("rename")?;
            StdFs.rename_new(from, to)
        }
        fn free(&self, dir: &Path) -> io::Result<Option<u64>> {
            self.reach("free")?;
            self.free.get().map_or_else(|| StdFs.free(dir), |bytes| Ok(Some(bytes)))
        }
        fn identity(&self, path: &Path) -> io::Result<Option<Identity>> {
            // No call fails by it, so it is not counted as one.
            if matches!(self.fails.get(), Some(("replaced", _))) {
                self.fails.set(None);
                std::fs::remove_file(path)?;
                File::create(path)?;
            }
            StdFs.identity(path)
        }
    }

    impl OneFile for FailingFile {
        fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
            self.1.reach("read")?;
            OneFile::read_at(&self.0, buf, at)
        }
        fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
            self.1.reach("write")?;
            OneFile::write_at(&self.0, &bytes[..bytes.len().div_ceil(2)], at)
        }
        fn sync_data(&self) -> io::Result<()> {
            self.1.reach("sync")?;
            self.1.synced.set(self.1.synced.get() + 1);
            self.0.sync_data()
        }
        fn sync_all(&self) -> io::Result<()> {
            self.sync_data()
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }
        fn allocate(&self, len: u64) -> io::Result<()> {
            self.1.reach("allocate")?;
            OneFile::allocate(&self.0, len)
        }
        fn length(&self) -> io::Result<u64> {
            OneFile::length(&self.0)
        }
        fn try_lock(&self) -> io::Result<bool> {
            let other = self.1.others.borrow_mut().pop_front();
            if let Some(Other(other)) = other {
                other();
            }
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

    pub(crate) fn failing() -> (TempDir, Failing, FileDevice<Failing>) {
        let (dir, files) = (tempfile::tempdir().unwrap(), Failing::new());
        let device = FileDevice::open_with(files.clone(), dir.path(), writer()).unwrap();
        (dir, files, device)
    }

    #[test]
    fn a_folder_that_is_made_is_durable_in_its_parent_and_so_is_each_made_above_it() {
        let (above, files) = (tempfile::tempdir().unwrap(), Failing::new());
        let above = above.path();
        drop(FileDevice::open_with(files.clone(), above.join("a/b/log"), writer()).unwrap());
        let synced = files.dirs.take();
        for (made_in, made) in [(above.to_owned(), "a"), (above.join("a"), "b"), (above.join("a/b"), "log")] {
            assert!(synced.contains(&made_in), "`{made}` may be gone after a power cut: {synced:?}");
        }
        // One that was left behind by a process that ended too soon is made durable too, before it is relied on.
        drop(FileDevice::open_with(files.clone(), above.join("a/b/log"), writer()).unwrap());
        assert!(files.dirs.take().contains(&above.join("a/b")));
        // Where the sync fails, nothing is there to be relied on.
        files.fail("sync_dir", io::ErrorKind::Other);
        FileDevice::open_with(files, above.join("c"), writer()).unwrap_err();
    }

    #[test]
    fn a_segment_without_room_leaves_no_file() {
        let (_dir, files, mut device) = failing();
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge] {
            files.fail("allocate", kind);
            assert_eq!(kind_of(device.create(SEGMENT, 65536)), Some(ErrorKind::NoSpace));
            assert!(!device.path(SEGMENT).exists());
            assert_eq!(device.next(None).unwrap(), None);
        }
        device.create(SEGMENT, 65536).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_cannot_be_made_for_want_of_handles_stops_the_log_no_more_than_a_full_medium_does() {
        let failed = |operation, code| {
            let error = FileError::Io { operation, path: "log".into(), source: io::Error::from_raw_os_error(code) };
            (error.kind(), error.to_string())
        };
        for code in [23, 24] {
            let (kind, message) = failed(Operation::Create, code);
            assert!(kind == ErrorKind::NoSpace && message.contains("oo many open files"), "{kind:?}: {message}");
            // Of what was there before, nothing is known.
            assert_ne!(failed(Operation::Sync, code).0, ErrorKind::NoSpace);
        }
        assert_eq!(failed(Operation::Create, 5).0, ErrorKind::Other);
    }

    #[test]
    fn a_failed_removal_is_reported_and_the_object_not_forgotten() {
        let (_dir, files, mut device) = failing();
        device.create(SEGMENT, 65536).unwrap();
        files.fail("remove", io::ErrorKind::PermissionDenied);
        let error = device.remove(SEGMENT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other);
        assert!(error.to_string().starts_with("cannot remove ") && error.source().is_some());
        assert_eq!(device.next(None).unwrap(), Some(SEGMENT));
        device.remove(SEGMENT).unwrap();
        device.remove(SEGMENT).unwrap();
        assert_eq!(device.next(None).unwrap(), None);
    }

    #[test]
    fn a_sync_beside_the_writing_is_told_once_and_spares_the_device_none_of_its_own() {
        let (_dir, files, mut device) = failing();
        device.create(SEGMENT, 65536).unwrap();
        assert!(!device.begin_sync(SEGMENT), "its name is not durable yet, and a file's sync makes no name so");
        device.sync().unwrap();
        device.write(SEGMENT, 0, b"a").unwrap();
        let before = files.synced.get();
        assert!(device.begin_sync(SEGMENT) && !device.begin_sync(SEGMENT) && device.poll_sync().is_none());
        // Where no thread has begun with it, whoever waits for it does it.
        assert!(matches!(device.finish_sync(), Some(Ok(()))) && device.finish_sync().is_none());
        assert_eq!(files.synced.get(), before + 1);
        device.sync().unwrap();
        assert_eq!(files.synced.get(), before + 2, "what was written meanwhile is nobody else's");
        device.write(SEGMENT, 1, b"b").unwrap();
        assert!(device.begin_sync(SEGMENT));
        device.sync().unwrap();
        assert_eq!(files.synced.get(), before + 3);
        assert!(matches!(device.poll_sync(), Some(Ok(()))), "it went with the device's own");
    }

    #[test]
    fn a_failed_sync_beside_the_writing_fails_all_writes_and_syncs_from_then_on() {
        let (_dir, files, mut device) = failing();
        device.create(SEGMENT, 65536).unwrap();
        device.sync().unwrap();
        device.write(SEGMENT, 0, b"a").unwrap();
        files.fail("sync", io::ErrorKind::StorageFull);
        assert!(device.begin_sync(SEGMENT));
        assert_eq!(device.finish_sync().and_then(kind_of), Some(ErrorKind::Other));
        for _ in 0..2 {
            // No room is said of creating and writing alone: nothing is known of what this sync was to cover.
            let write = device.write(SEGMENT, 1, b"b").unwrap_err();
            assert_eq!(write.kind(), ErrorKind::Other);
            assert!(write.to_string().starts_with("cannot sync ") && write.source().is_some());
            assert_eq!(kind_of(device.sync()), Some(ErrorKind::Other));
            assert_eq!(device.poll_sync().and_then(kind_of), Some(ErrorKind::Other));
        }
    }

    #[test]
    fn after_a_failed_sync_of_the_device_none_beside_it_proves_anything() {
        let (_dir, files, mut device) = failing();
        device.create(SEGMENT, 65536).unwrap();
        device.sync().unwrap();
        device.write(SEGMENT, 0, b"a").unwrap();
        assert!(device.begin_sync(SEGMENT));
        files.fail("sync", io::ErrorKind::Other);
        device.sync().unwrap_err();
        assert!(device.finish_sync().is_none() && !device.begin_sync(SEGMENT));
    }

    #[test]
    fn a_file_of_which_much_was_written_is_synced_ahead_of_need() {
        let (_dir, _, mut device) = failing();
        let object = Object::Segment(SegmentId::new(2));
        device.create(object, 4 << 20).unwrap();
        let ahead = device.ahead().unwrap();
        device.write(object, 0, &vec![1; PIECE - 1]).unwrap();
        assert!(!ahead.is_wanted());
        device.write(object, 0, b"x").unwrap();
        assert!(ahead.is_wanted());
        device.sync().unwrap();
        assert!(!ahead.is_wanted(), "all is synced");
    }

    #[test]
    fn who_writes_or_removes_much_waits_for_it_without_the_device_and_leaves_nothing_to_its_next_sync() {
        let (_dir, files, mut device) = failing();
        let (object, ahead) = (Object::Checkpoint(CheckpointId::new(1)), device.ahead().unwrap());
        device.create(object, 0).unwrap();
        device.write(object, 0, &vec![1; PIECE]).unwrap();
        assert!(ahead.is_wanted());
        let before = files.synced.get();
        ahead.catch_up();
        assert!(!ahead.is_wanted() && files.synced.get() == before + 1, "nobody else had begun to");
        device.remove(object).unwrap();
        assert_eq!(device.next(None).unwrap(), None);
        assert!(ahead.is_wanted(), "as long as it is open its bytes stay");
        ahead.catch_up();
        assert!(!ahead.is_wanted());
        // Where nobody does, whoever syncs the removal gives back its room.
        device.create(object, 0).unwrap();
        device.remove(object).unwrap();
        assert!(ahead.is_wanted());
        device.sync().unwrap();
        assert!(!ahead.is_wanted());
        // What failed is told by the device, and waited for by nobody.
        device.create(object, 0).unwrap();
        device.write(object, 0, &vec![1; PIECE]).unwrap();
        files.fail("sync", io::ErrorKind::Other);
        ahead.catch_up();
        assert_eq!(kind_of(device.sync()), Some(ErrorKind::Other));
    }

    #[test]
    fn after_a_failed_sync_none_succeeds_any_more() {
        for call in ["sync", "sync_dir"] {
            let (_dir, files, mut device) = failing();
            device.create(SEGMENT, 65536).unwrap();
            files.fail(call, io::ErrorKind::StorageFull);
            let first = device.sync().unwrap_err();
            assert_eq!(first.kind(), ErrorKind::Other, "{call}");
            // The operating system has told of it, and would call the next sync a success.
            let before = (files.synced.get(), files.dirs_synced.get());
            for _ in 0..2 {
                assert_eq!(device.sync().map_err(|error| error.to_string()), Err(first.to_string()));
            }
            assert_eq!((files.synced.get(), files.dirs_synced.get()), before);
        }
    }

    #[test]
    fn the_directory_is_synced_after_each_change_of_its_names_and_else_not() {
        let (_dir, files, mut device) = failing();
        let synced = |device: &mut FileDevice<Failing>| {
            let before = (files.synced.get(), files.dirs_synced.get());
            device.sync().unwrap();
            (files.synced.get() - before.0, files.dirs_synced.get() - before.1)
        };
        assert_eq!(synced(&mut device), (0, 1), "what a killed writer did with names");
        assert_eq!(synced(&mut device), (0, 0));
        device.create(SEGMENT, 65536).unwrap();
        assert_eq!(synced(&mut device), (1, 1));
        device.write(SEGMENT, 0, b"frames").unwrap();
        assert_eq!(synced(&mut device), (1, 0));
        device.trim(SEGMENT, 6).unwrap();
        assert_eq!(synced(&mut device), (1, 0));
        device.write(SEGMENT, 0, b"frames").unwrap();
        device.remove(SEGMENT).unwrap();
        assert_eq!(synced(&mut device), (0, 1));
    }

    #[test]
    fn short_and_interrupted_calls_go_on() {
        let (_dir, files, mut device) = failing();
        device.create(SEGMENT, 65536).unwrap();
        files.fail("write", io::ErrorKind::Interrupted);
        device.write(SEGMENT, 3, b"whole frames").unwrap();
        files.fail("read", io::ErrorKind::Interrupted);
        let mut buf = [0; 12];
        assert_eq!(device.read(SEGMENT, 3, &mut buf).unwrap(), 12);
        assert_eq!(&buf, b"whole frames");
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_that_was_replaced_while_it_was_taken_is_let_go() {
        let (dir, files) = (tempfile::tempdir().unwrap(), Failing::new());
        let log = dir.path().join("log");
        drop(FileDevice::open_with(files.clone(), &log, writer()).unwrap());
        File::create(log.join("wal.meta")).unwrap();
        files.fail("replaced", io::ErrorKind::Other);
        let device = FileDevice::open_with(files.clone(), &log, writer()).unwrap();
        assert_eq!(files.fails.get(), None);
        let there = StdFs.identity(&log.join(LOCK)).unwrap();
        assert_eq!(device.lock.as_ref().unwrap().identity().unwrap(), there);
        assert!(matches!(FileDevice::open(&log, writer()), Err(FileError::Locked { .. })));
    }
}
