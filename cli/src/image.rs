//! Images of a device's flash or card, in the place of a folder: their objects are taken out into a folder of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use duralog::{
    Object,
    core::Device as _,
    slots::{ImageDevice, ImageError, ImageGeometry, OpenSlotsError},
};
use tempfile::TempDir;

use crate::{exit::Failure, pack};

/// The folders that were made: removed when the program ends.
static TAKEN_OUT: Mutex<Vec<TempDir>> = Mutex::new(Vec::new());

/// Bytes taken out at once.
const PIECE: usize = 64 << 10;

/// How an image is divided, where its own bytes cannot tell.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct ImageArgs {
    /// Of an image: the bytes of a slot, which the log erases at once. Where the labels and headers in it do not tell, or
    /// to read by this in their place
    #[arg(long, value_name = "SIZE", value_parser = size)]
    erase_size: Option<u32>,
    /// Of an image: the bytes that are written at once, likewise
    #[arg(long, value_name = "SIZE", value_parser = size)]
    write_size: Option<u32>,
}

fn size(text: &str) -> Result<u32, String> {
    let (digits, factor) = match (text.strip_suffix('K'), text.strip_suffix('M')) {
        (Some(digits), _) => (digits, 1 << 10),
        (_, Some(digits)) => (digits, 1 << 20),
        (None, None) => (text, 1),
    };
    let size = digits.parse().ok().and_then(|number: u32| number.checked_mul(factor)).filter(|size| *size > 0);
    size.ok_or_else(|| "expected a number of bytes, as in 8, 512 or 4K".to_owned())
}

/// The folder to read: `dir` itself, or where the objects of the image `dir` were put.
pub(crate) fn folder(dir: &Path, args: ImageArgs) -> Result<PathBuf, Failure> {
    let ImageArgs { erase_size, write_size } = args;
    let usage = |message: String| Failure::Usage { path: Some(dir.to_owned()), message };
    if !dir.is_file() {
        return match (erase_size, write_size) {
            (None, None) => Ok(dir.to_owned()),
            _ => Err(usage("--erase-size and --write-size are for the image of a device, which is a file".to_owned())),
        };
    }
    let unreadable = |error| Failure::Input { input: dir.display().to_string(), error };
    let known = ImageGeometry { erase_size, write_size };
    let image = fs::read(dir).map_err(unreadable)?;
    if pack::is_archive(&image) {
        let message =
            "an archive as `duralog pack` writes it: `duralog unpack` makes a folder of it, which can be read";
        return Err(usage(message.to_owned()));
    }
    let opened = ImageDevice::of_image_with(image, known);
    let mut device = opened.map_err(|error| match error {
        OpenSlotsError::Medium(ImageError::NoSlots) => {
            Failure::log(dir)(duralog::Error::NotALog { path: dir.to_owned() })
        }
        error => usage(format!("the image cannot be read: {error}")),
    })?;
    let system = |error| Failure::System { action: "make a temporary folder", path: None, error };
    let folder = tempfile::tempdir().map_err(system)?;
    let mut after = None;
    while let Ok(Some(object)) = device.next(after) {
        let bytes = bytes(&mut device, object).map_err(|error| usage(error.to_string()))?;
        fs::write(folder.path().join(object.to_string()), bytes).map_err(system)?;
        after = Some(object);
    }
    let path = folder.path().to_owned();
    TAKEN_OUT.lock().unwrap_or_else(PoisonError::into_inner).push(folder);
    Ok(path)
}

fn bytes(device: &mut ImageDevice, object: Object) -> Result<Vec<u8>, <ImageDevice as duralog::core::Device>::Error> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = vec![0; PIECE];
        match device.read(object, bytes.len() as u64, &mut piece)? {
            0 => return Ok(bytes),
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
}

/// Removes what was taken out.
pub(crate) fn clean() {
    TAKEN_OUT.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
