//! Images of a device's flash or card, in the place of a folder: their objects are taken out into a folder of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use duralog::{
    Object,
    core::Device as _,
    slots::{ImageDevice, ImageError, OpenSlotsError},
};
use tempfile::TempDir;

use crate::exit::Failure;

/// The folders that were made: removed when the program ends.
static TAKEN_OUT: Mutex<Vec<TempDir>> = Mutex::new(Vec::new());

/// Bytes taken out at once.
const PIECE: usize = 64 << 10;

/// The folder to read: `dir` itself, or where the objects of the image `dir` were put.
pub(crate) fn folder(dir: &Path) -> Result<PathBuf, Failure> {
    if !dir.is_file() {
        return Ok(dir.to_owned());
    }
    let unreadable = |error| Failure::Input { input: dir.display().to_string(), error };
    let mut device = ImageDevice::of_image(fs::read(dir).map_err(unreadable)?).map_err(|error| match error {
        OpenSlotsError::Medium(ImageError::NoSlots) => {
            Failure::log(dir)(duralog::Error::NotALog { path: dir.to_owned() })
        }
        error => Failure::Usage { path: Some(dir.to_owned()), message: format!("the image cannot be read: {error}") },
    })?;
    let system = |error| Failure::System { action: "make a temporary folder", path: None, error };
    let folder = tempfile::tempdir().map_err(system)?;
    let mut after = None;
    while let Ok(Some(object)) = device.next(after) {
        let bytes = bytes(&mut device, object)
            .map_err(|error| Failure::Usage { path: Some(dir.to_owned()), message: error.to_string() })?;
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
