//! `pack` and `unpack`: a whole log as one file, as the npm package exports and imports it.
//!
//! The file is a tar archive (POSIX ustar) of what the log's folder holds: segments, checkpoints and metadata under
//! their names, ids ascending, every byte as it is, and two blocks of zeros at the end. An archive that is cut off
//! anywhere, also between two members, lacks these, and is refused.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufReader, BufWriter, ErrorKind, Read, Write},
    path::{Path, PathBuf},
};

use duralog::{
    Error, FileDevice, Object, SharedDevice,
    core::{self, Device, DeviceError as _},
    file::{Access, FileOptions},
};
use serde_json::json;

use crate::{
    exit::Failure,
    outcome::{Outcome, object},
    progress::Spinner,
};

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// Bytes of a block of an archive.
const BLOCK: usize = 512;

/// Packs a log into one file
///
/// No writer may have the log open meanwhile. The file must not be there, and gets its name when it is whole.
#[derive(Debug, clap::Args)]
pub(crate) struct PackArgs {
    /// The folder of the log
    dir: PathBuf,
    /// The file to make
    file: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Unpacks a log from a file
///
/// The folder must not be there: nothing is written over. It gets its name when the log is whole.
#[derive(Debug, clap::Args)]
pub(crate) struct UnpackArgs {
    /// The file
    file: PathBuf,
    /// The folder to make
    dir: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Whether these bytes begin as an archive does.
pub(crate) fn is_archive(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar")
}

/// Runs `pack`.
pub(crate) fn pack(args: &PackArgs) -> Outcome {
    told("packed", pack_log(&args.dir, &args.file))
}

/// Runs `unpack`.
pub(crate) fn unpack(args: &UnpackArgs) -> Outcome {
    told("unpacked", unpack_log(&args.file, &args.dir))
}

fn told(what: &str, outcome: Result<(u64, u64), Failure>) -> Outcome {
    match outcome {
        Ok((objects, bytes)) => Outcome {
            object: object(json!({"objects": objects, "bytes": bytes})),
            text: Some(format!("{objects} files of {bytes} bytes {what}\n")),
            ..Outcome::default()
        },
        Err(failure) => failure.into(),
    }
}

fn pack_log(dir: &Path, file: &Path) -> Result<(u64, u64), Failure> {
    let mut source = Source::open(dir)?;
    let folder = folder_of(file);
    refuse_what_is_there(file)?;
    let inside = |(folder, dir): (PathBuf, PathBuf)| folder.starts_with(dir);
    if folder.canonicalize().and_then(|folder| Ok((folder, dir.canonicalize()?))).is_ok_and(inside) {
        let message =
            format!("{} is in the folder of the log, which holds nothing else: choose another", file.display());
        return Err(usage(file, message));
    }
    let _spinner = Spinner::new("packing");
    // It gets its name when all of it is there: half a log is none. Dropped before, it is removed.
    let unfinished = tempfile::Builder::new().prefix(".pack-").tempfile_in(folder);
    let mut unfinished = unfinished.map_err(not_made_in(folder))?;
    let counts = source.write_to(dir, unfinished.as_file_mut()).map_err(|failed| match failed {
        Packing::Log(failure) => *failure,
        Packing::File(error) => Failure::system("write", file)(error),
    })?;
    unfinished.persist_noclobber(file).map_err(|failed| match failed.error.kind() {
        ErrorKind::AlreadyExists => there_already(file),
        _ => Failure::system("make", file)(failed.error),
    })?;
    sync_folder(folder)?;
    Ok(counts)
}

/// A log that nobody writes to while it is packed.
struct Source {
    device: FileDevice,
    /// Held, never used.
    _locked: Vec<File>,
}

/// Why a log could not be packed: what is read failed, or what is written.
enum Packing {
    Log(Box<Failure>),
    File(io::Error),
}

impl Source {
    fn open(dir: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::log(dir)(<FileDevice as SharedDevice>::opened(error));
        let options = FileOptions { access: Access::Read, create: false, ..FileOptions::default() };
        // First by reading alone: where there is no log, nothing is touched.
        let mut device = FileDevice::open(dir, options).map_err(failed)?;
        if device.next(None).map_err(failed)?.is_none() {
            return Err(Failure::log(dir)(Error::NotFound { path: dir.to_owned() }));
        }
        match FileDevice::open(dir, FileOptions { access: Access::Write, ..options }) {
            Ok(device) => Ok(Self { device, _locked: Vec::new() }),
            // A medium that takes no writes may have a writer all the same, by another mount of it.
            Err(error) if error.kind() == core::ErrorKind::ReadOnly => {
                let locked = lock_to_read(dir, &mut device)?;
                Ok(Self { device, _locked: locked })
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn write_to(&mut self, dir: &Path, file: &mut File) -> Result<(u64, u64), Packing> {
        let failed = |error| Packing::Log(Failure::log(dir)(<FileDevice as SharedDevice>::opened(error)).into());
        let mut archive = tar::Builder::new(BufWriter::with_capacity(PIECE, &mut *file));
        let (mut objects, mut bytes, mut after) = (0, 0, None);
        while let Some(object) = self.device.next(after).map_err(failed)? {
            let len = SharedDevice::len(&mut self.device, object).map_err(failed)?;
            let mut header = tar::Header::new_ustar();
            header.set_size(len);
            header.set_mode(0o600);
            let mut content = Content { device: &mut self.device, object, at: 0, failed: None };
            let appended = archive.append_data(&mut header, object.to_string(), content.by_ref().take(len));
            let (read, error) = (content.at, content.failed);
            if let Some(error) = error {
                return Err(failed(error));
            }
            appended.map_err(Packing::File)?;
            if read != len {
                let error = io::Error::new(ErrorKind::UnexpectedEof, "it was shortened while it was packed");
                return Err(Packing::Log(Failure::system("read", &dir.join(object.to_string()))(error).into()));
            }
            objects += 1;
            bytes += len;
            after = Some(object);
        }
        let packed = archive.into_inner().and_then(|out| out.into_inner().map_err(io::IntoInnerError::into_error));
        packed.and_then(|file| file.sync_all()).map_err(Packing::File)?;
        Ok((objects, bytes))
    }
}

/// Keeps writers away from a log on a medium that takes no writes: the files that a writer locks are locked here too, for
/// reading.
fn lock_to_read(dir: &Path, device: &mut FileDevice) -> Result<Vec<File>, Failure> {
    let newest = device.prev(None).map_err(|error| Failure::log(dir)(<FileDevice as SharedDevice>::opened(error)))?;
    let newest = newest.filter(|object| cfg!(unix) && matches!(object, Object::Segment(_)));
    let names = ["LOCK".to_owned()].into_iter().chain(newest.map(|object| object.to_string()));
    let mut locked = Vec::new();
    for path in names.map(|name| dir.join(name)) {
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            file => file.map_err(Failure::system("open", &path))?,
        };
        match file.try_lock_shared() {
            Ok(()) => locked.push(file),
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::log(dir)(Error::Locked { path: dir.to_owned(), owner: None }));
            }
            Err(TryLockError::Error(error)) => return Err(Failure::system("lock", &path)(error)),
        }
    }
    Ok(locked)
}

/// The bytes of an object.
struct Content<'a> {
    device: &'a mut FileDevice,
    object: Object,
    at: u64,
    /// Why no more of them can be read.
    failed: Option<<FileDevice as Device>::Error>,
}

impl Read for Content<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.device.read(self.object, self.at, buf) {
            Ok(read) => {
                self.at += read as u64;
                Ok(read)
            }
            Err(error) => {
                self.failed = Some(error);
                Err(ErrorKind::Other.into())
            }
        }
    }
}

fn unpack_log(file: &Path, dir: &Path) -> Result<(u64, u64), Failure> {
    refuse_what_is_there(dir)?;
    let packed = File::open(file).map_err(unreadable(file))?;
    if packed.metadata().map_err(unreadable(file))?.is_dir() {
        return Err(unreadable(file)(ErrorKind::IsADirectory.into()));
    }
    let parent = folder_of(dir);
    let _spinner = Spinner::new("unpacking");
    // It gets its name when all of it is there: half a log is none. Dropped before, it is removed.
    let unfinished = tempfile::Builder::new().prefix(".unpack-").tempdir_in(parent);
    let unfinished = unfinished.map_err(not_made_in(parent))?;
    let counts = extract(packed, file, unfinished.path())?;
    fs::rename(unfinished.path(), dir).map_err(Failure::system("make", dir))?;
    // It has another name now.
    let _ = unfinished.keep();
    sync_folder(parent)?;
    Ok(counts)
}

fn extract(packed: File, file: &Path, dir: &Path) -> Result<(u64, u64), Failure> {
    let refused = |what: String| unreadable(file)(io::Error::new(ErrorKind::InvalidData, what));
    let no_member = |error: io::Error| match error.raw_os_error() {
        Some(_) => unreadable(file)(error),
        // The archive's own words quote its bytes.
        None => {
            refused("it is no tar archive, or a damaged one: name a file that `duralog pack` or an export wrote".into())
        }
    };
    let mut archive = tar::Archive::new(Counted { from: BufReader::with_capacity(PIECE, packed), read: 0 });
    let (mut objects, mut bytes, mut end, mut segments) = (0, 0, 0, false);
    // Raw: what the names and lengths of other archives are extended by, no log has.
    for member in archive.entries().map_err(no_member)?.raw(true) {
        let mut member = member.map_err(no_member)?;
        let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        let Some(object) = Object::from_name(&name).filter(|_| member.header().entry_type().is_file()) else {
            return Err(refused(format!("it holds {name:?}, which is no file of a log")));
        };
        let path = dir.join(&name);
        let mut made = made(&path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => refused(format!("it holds {name} twice")),
            _ => Failure::system("make", &path)(error),
        })?;
        let copied = copy(&mut member, &mut made, file, &path)?;
        if copied != member.size() {
            return Err(refused(format!("it ends within {name}: the rest of the archive is missing")));
        }
        made.sync_all().map_err(Failure::system("write", &path))?;
        segments |= matches!(object, Object::Segment(_));
        end = member.raw_file_position() + copied.next_multiple_of(BLOCK as u64);
        objects += 1;
        bytes += copied;
    }
    let mut rest = archive.into_inner();
    // The archive's reader has read the first of the two blocks of zeros, if it is there.
    let ended = rest.read > end;
    let mut zeros = 0;
    let mut piece = [0; BLOCK];
    loop {
        match rest.read(&mut piece).map_err(unreadable(file))? {
            0 => break,
            read if piece[..read].iter().all(|byte| *byte == 0) => zeros += read,
            _ => return Err(refused("it goes on behind its end".to_owned())),
        }
    }
    if objects == 0 && !ended {
        return Err(refused("it is empty".to_owned()));
    }
    if !ended || zeros < BLOCK {
        return Err(refused(
            "the two blocks of zeros at its end are missing, so the rest of the archive is, too".to_owned(),
        ));
    }
    if !segments {
        return Err(refused("it holds no segment, and so no log".to_owned()));
    }
    sync_folder(dir)?;
    Ok((objects, bytes))
}

/// Copies a member into its file.
fn copy(member: &mut impl Read, made: &mut File, file: &Path, path: &Path) -> Result<u64, Failure> {
    let mut piece = vec![0; PIECE];
    let mut copied = 0;
    loop {
        let read = match member.read(&mut piece) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.map_err(unreadable(file))?,
        };
        if read == 0 {
            return Ok(copied);
        }
        made.write_all(&piece[..read]).map_err(Failure::system("write", path))?;
        copied += read as u64;
    }
}

/// Counts what was read.
struct Counted<R> {
    from: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buf)?;
        self.read += read as u64;
        Ok(read)
    }
}

/// A new file that its owner alone may look at, as those of a log are.
fn made(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The folder that a file or folder is made in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn not_made_in(folder: &Path) -> impl Fn(io::Error) -> Failure + use<> {
    let folder = folder.to_owned();
    move |error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            usage(&folder, format!("there is no folder {}", folder.display()))
        }
        _ => Failure::system("make anything in", &folder)(error),
    }
}

fn refuse_what_is_there(path: &Path) -> Result<(), Failure> {
    // A link that leads nowhere is there, too.
    if path.symlink_metadata().is_ok() { Err(there_already(path)) } else { Ok(()) }
}

fn there_already(path: &Path) -> Failure {
    usage(path, format!("{} is there already: nothing is written over", path.display()))
}

fn usage(path: &Path, message: String) -> Failure {
    Failure::Usage { path: Some(path.to_owned()), message }
}

/// The archive is not there, or none. Where the system failed to read it, that is another matter.
fn unreadable(file: &Path) -> impl Fn(io::Error) -> Failure + use<> {
    let file = file.to_owned();
    move |error| match error.kind() {
        _ if error.raw_os_error().is_none() => Failure::Input { input: file.display().to_string(), error },
        ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::NotADirectory => {
            Failure::Input { input: file.display().to_string(), error }
        }
        _ => Failure::system("read", &file)(error),
    }
}

/// Makes the names in a folder durable, where folders can be synced.
fn sync_folder(dir: &Path) -> Result<(), Failure> {
    let sync = || File::open(dir).and_then(|dir| dir.sync_all());
    if cfg!(unix) { sync().map_err(Failure::system("sync", dir)) } else { Ok(()) }
}
