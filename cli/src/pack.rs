//! `pack` and `unpack`: a whole log as one file, as the npm package exports and imports it.
//!
//! The file is a tar archive (POSIX ustar) of what the log's folder holds: segments, checkpoints and metadata under
//! their names, ids ascending, every byte as it is.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use duralog::{
    FileDevice, Object, SharedDevice,
    core::Device,
    file::{Access, FileOptions},
};
use serde_json::json;

use crate::{
    exit::Failure,
    outcome::{Outcome, object},
};

/// Bytes that are read at once.
const BLOCK: usize = 256 << 10;

/// Packs a log into one file
///
/// The log is locked meanwhile. The file must not be there.
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
/// The folder must not be there: nothing is written over.
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
    let options = FileOptions { access: Access::Write, create: false, ..FileOptions::default() };
    let failed = |error| Failure::log(dir)(<FileDevice as SharedDevice>::opened(error));
    let mut device = FileDevice::open(dir, options).map_err(failed)?;
    let made = File::create_new(file).map_err(system("make", file))?;
    let mut archive = tar::Builder::new(BufWriter::with_capacity(BLOCK, made));
    let (mut objects, mut bytes, mut after) = (0, 0, None);
    while let Some(object) = device.next(after).map_err(failed)? {
        let len = SharedDevice::len(&mut device, object).map_err(failed)?;
        let mut header = tar::Header::new_ustar();
        header.set_size(len);
        header.set_mode(0o644);
        let content = Content { device: &mut device, object, at: 0 }.take(len);
        archive.append_data(&mut header, object.to_string(), content).map_err(system("write", file))?;
        objects += 1;
        bytes += len;
        after = Some(object);
    }
    let packed = archive.into_inner().and_then(|out| out.into_inner().map_err(io::IntoInnerError::into_error));
    packed.and_then(|file| file.sync_all()).map_err(system("write", file))?;
    Ok((objects, bytes))
}

/// The bytes of an object.
struct Content<'a> {
    device: &'a mut FileDevice,
    object: Object,
    at: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.device.read(self.object, self.at, buf).map_err(io::Error::other)?;
        self.at += read as u64;
        Ok(read)
    }
}

fn unpack_log(file: &Path, dir: &Path) -> Result<(u64, u64), Failure> {
    if dir.exists() {
        let message = format!("{} is there already: nothing is written over", dir.display());
        return Err(Failure::Usage { path: Some(dir.to_owned()), message });
    }
    let packed = File::open(file).map_err(system("open", file))?;
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // It gets its name when all of it is there: half a log is none.
    let unfinished = tempfile::Builder::new().prefix(".unpack-").tempdir_in(parent).map_err(system("make", parent))?;
    let counts = extract(packed, file, unfinished.path())?;
    let unfinished = unfinished.keep();
    fs::rename(&unfinished, dir).map_err(system("make", dir))?;
    sync_folder(parent)?;
    Ok(counts)
}

fn extract(packed: File, file: &Path, dir: &Path) -> Result<(u64, u64), Failure> {
    let mut archive = tar::Archive::new(BufReader::with_capacity(BLOCK, packed));
    let (mut objects, mut bytes) = (0, 0);
    for entry in archive.entries().map_err(system("read", file))? {
        let mut entry = entry.map_err(system("read", file))?;
        let name = entry.path().map_err(system("read", file))?.to_string_lossy().into_owned();
        if Object::from_name(&name).is_none() {
            let message = format!("{} holds {name}, which no log does", file.display());
            return Err(Failure::Usage { path: Some(file.to_owned()), message });
        }
        let path = dir.join(name);
        let mut made = File::create_new(&path).map_err(system("make", &path))?;
        let copied = io::copy(&mut entry, &mut made).map_err(system("unpack", file))?;
        if copied != entry.size() {
            return Err(system("unpack", file)(io::ErrorKind::UnexpectedEof.into()));
        }
        made.flush().and_then(|()| made.sync_all()).map_err(system("write", &path))?;
        objects += 1;
        bytes += copied;
    }
    if objects == 0 {
        let message = format!("{} holds no log", file.display());
        return Err(Failure::Usage { path: Some(file.to_owned()), message });
    }
    sync_folder(dir)?;
    Ok((objects, bytes))
}

/// Makes the names in a folder durable, where folders can be synced.
fn sync_folder(dir: &Path) -> Result<(), Failure> {
    if cfg!(unix) { File::open(dir).and_then(|dir| dir.sync_all()).map_err(system("sync", dir)) } else { Ok(()) }
}

fn system(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| {
        let error = io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        Failure::System { action, error }
    }
}
