//! The one narrow layer through which a [`FileDevice`](crate::FileDevice) touches the file system: a test puts another
//! in its place, which records the calls or lets them fail.

use core::fmt;
use std::{
    ffi::OsString,
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    path::Path,
};

use crate::file::Access;

/// What tells two files apart that had the same path at different times: device and inode.
#[doc(hidden)]
pub type Identity = (u64, u64);

/// The file system: names and directories.
#[doc(hidden)]
pub trait Files: Clone + fmt::Debug {
    /// An open file.
    type File: OneFile;

    /// Makes one directory that only its owner may enter; the one above it must be there.
    ///
    /// # Errors
    /// It is there already, or cannot be made.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names in a directory, in any order.
    ///
    /// # Errors
    /// The directory cannot be read.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;

    /// Makes the names in a directory durable. Does nothing where a directory cannot be synced (Windows).
    ///
    /// # Errors
    /// The directory cannot be opened, or the sync failed: nothing is known about the names.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Opens a file that is there.
    ///
    /// # Errors
    /// It is not there, or cannot be opened.
    fn open(&self, path: &Path, access: Access) -> io::Result<Self::File>;

    /// Makes a file that only its owner may read, and opens it for reading and writing.
    ///
    /// # Errors
    /// It is there already, or cannot be made.
    fn create_new(&self, path: &Path) -> io::Result<Self::File>;

    /// Removes a file's name.
    ///
    /// # Errors
    /// It is not there, or cannot be removed.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name in the same directory, one that no file has. A power cut before the directory's next
    /// sync may leave it under either name, under both, or under none.
    ///
    /// # Errors
    /// There is a file of that name, the file is not there, or the file system cannot do it: nothing was renamed, or
    /// the file has both names.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Bytes that are free where the directory is, for this process; `None` where the system does not say.
    ///
    /// # Errors
    /// It cannot be looked at.
    fn free(&self, dir: &Path) -> io::Result<Option<u64>>;

    /// What is at the path now; `None` where the system has no such numbers.
    ///
    /// # Errors
    /// Nothing is there, or it cannot be looked at.
    fn identity(&self, path: &Path) -> io::Result<Option<Identity>>;
}

/// An open file.
#[doc(hidden)]
pub trait OneFile: fmt::Debug {
    /// Reads at an offset; fewer bytes than asked for are no sign of the end, 0 is.
    ///
    /// # Errors
    /// The bytes cannot be read.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes some of the bytes at an offset and returns how many.
    ///
    /// # Errors
    /// Nothing is known about what was written.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;

    /// Makes the bytes durable, and the length if it grew.
    ///
    /// # Errors
    /// Nothing is known about what was written since the last sync.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes the bytes and all that is known of the file durable.
    ///
    /// # Errors
    /// Nothing is known about what was written since the last sync.
    fn sync_all(&self) -> io::Result<()>;

    /// Cuts the file off or lets it grow; what is new reads as zeros.
    ///
    /// # Errors
    /// The length could not be set.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Lets a file grow to `len` bytes and, where the system can, takes the room for them; what is new reads as zeros.
    ///
    /// # Errors
    /// There is no room, or it cannot be taken.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Its length in bytes.
    ///
    /// # Errors
    /// It cannot be looked at.
    fn length(&self) -> io::Result<u64>;

    /// Locks it against every other opening of it, until it is closed; `false` if another holds the lock.
    ///
    /// # Errors
    /// The file system knows no locks, or failed.
    fn try_lock(&self) -> io::Result<bool>;

    /// Gives the lock up, also where a child process that was just started still has the file open.
    ///
    /// # Errors
    /// The file system failed.
    fn unlock(&self) -> io::Result<()>;

    /// What it is, whatever its name is now; `None` where the system has no such numbers.
    ///
    /// # Errors
    /// It cannot be looked at.
    fn identity(&self) -> io::Result<Option<Identity>>;

    /// Under how many names it stands; `None` where the system does not tell.
    ///
    /// # Errors
    /// It cannot be looked at.
    fn names(&self) -> io::Result<Option<u64>>;

    /// Makes the bytes durable, or `all` that is known of the file, where it can be found again: a file that someone has
    /// deleted goes with the last of its handles, however well it was synced.
    ///
    /// # Errors
    /// The sync failed, or the file has no name any more.
    fn sync_named(&self, all: bool) -> io::Result<()> {
        if all { self.sync_all() } else { self.sync_data() }?;
        if self.names()? == Some(0) { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }
}

/// The file system of the standard library.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct StdFs;

impl Files for StdFs {
    type File = File;

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        #[allow(unused_mut)] // Only unix has a mode to set.
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<File> {
        OpenOptions::new().read(true).write(access == Access::Write).open(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        use rustix::{
            fs::{CWD, RenameFlags, renameat_with},
            io::Errno,
        };
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Not every file system knows the flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_and_remove(from, to),
            renamed => Ok(renamed?),
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        link_and_remove(from, to)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn free(&self, dir: &Path) -> io::Result<Option<u64>> {
        let room = rustix::fs::statvfs(dir)?;
        Ok(Some(room.f_bavail.saturating_mul(room.f_frsize)))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn free(&self, _: &Path) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn identity(&self, path: &Path) -> io::Result<Option<Identity>> {
        looked_at(At::Path(path)).map(|seen| seen.identity)
    }
}

impl OneFile for File {
    #[cfg(unix)]
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, buf, at)
    }

    #[cfg(windows)]
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(self, buf, at)
    }

    #[cfg(not(any(unix, windows)))]
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut file = self;
        io::Seek::seek(&mut file, io::SeekFrom::Start(at))?;
        io::Read::read(&mut file, buf)
    }

    #[cfg(unix)]
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(self, bytes, at)
    }

    #[cfg(windows)]
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(self, bytes, at)
    }

    #[cfg(not(any(unix, windows)))]
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let mut file = self;
        io::Seek::seek(&mut file, io::SeekFrom::Start(at))?;
        io::Write::write(&mut file, bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        Self::sync_all(self)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn allocate(&self, len: u64) -> io::Result<()> {
        use rustix::{
            fs::{FallocateFlags, fallocate},
            io::{Errno, retry_on_intr},
        };
        // What a file system that cannot do it answers; 0 bytes are invalid everywhere.
        const CANNOT: [Errno; 3] = [Errno::OPNOTSUPP, Errno::INVAL, Errno::NOSYS];
        match retry_on_intr(|| fallocate(self, FallocateFlags::empty(), 0, len)) {
            Err(errno) if CANNOT.contains(&errno) => Self::set_len(self, len),
            taken => Ok(taken?),
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn allocate(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn length(&self) -> io::Result<u64> {
        looked_at(At::File(self)).map(|seen| seen.length)
    }

    fn try_lock(&self) -> io::Result<bool> {
        match Self::try_lock(self) {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        Self::unlock(self)
    }

    fn identity(&self) -> io::Result<Option<Identity>> {
        looked_at(At::File(self)).map(|seen| seen.identity)
    }

    fn names(&self) -> io::Result<Option<u64>> {
        looked_at(At::File(self)).map(|seen| seen.names)
    }
}

/// A rename that replaces nothing: a second name is refused where there is one.
fn link_and_remove(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)
}

/// A file by its path, or one that is open.
#[derive(Clone, Copy, Debug)]
enum At<'a> {
    Path(&'a Path),
    File(&'a File),
}

/// What a file system tells of a file, of what is asked here.
#[derive(Clone, Copy, Debug)]
struct Seen {
    identity: Option<Identity>,
    names: Option<u64>,
    length: u64,
}

/// Looks at a file, and not at its times.
///
/// Whoever asks Linux for the times of a file (from 6.13 on, on most file systems) makes its next write take a time of its own,
/// with a journal entry, where it would have shared one with its neighbours: on ext4 a sync that follows took 1.4 times as long,
/// and the log looks at its files with each. So nothing here asks for them.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn looked_at(at: At<'_>) -> io::Result<Seen> {
    use rustix::{
        fs::{AtFlags, CWD, StatxFlags, statx},
        io::Errno,
    };
    let mask = StatxFlags::INO | StatxFlags::NLINK | StatxFlags::SIZE;
    let told = match at {
        At::Path(path) => statx(CWD, path, AtFlags::empty(), mask),
        At::File(file) => statx(file, c"", AtFlags::EMPTY_PATH, mask),
    };
    match told {
        // Not every sandbox lets the call through.
        Err(Errno::NOSYS | Errno::PERM) => looked_at_whole(at),
        told => told.map_err(io::Error::from).map(|told| Seen {
            identity: Some((u64::from(told.stx_dev_major) << 32 | u64::from(told.stx_dev_minor), told.stx_ino)),
            names: Some(told.stx_nlink.into()),
            length: told.stx_size,
        }),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn looked_at(at: At<'_>) -> io::Result<Seen> {
    looked_at_whole(at)
}

/// Looks at a file as the standard library does.
fn looked_at_whole(at: At<'_>) -> io::Result<Seen> {
    let metadata = match at {
        At::Path(path) => std::fs::metadata(path),
        At::File(file) => file.metadata(),
    }?;
    Ok(Seen { identity: numbers(&metadata), names: links(&metadata), length: metadata.len() })
}

#[cfg(unix)]
fn links(metadata: &std::fs::Metadata) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    Some(metadata.nlink())
}

#[cfg(not(unix))]
fn links(_: &std::fs::Metadata) -> Option<u64> {
    None
}

#[cfg(unix)]
fn numbers(metadata: &std::fs::Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn numbers(_: &std::fs::Metadata) -> Option<Identity> {
    None
}
