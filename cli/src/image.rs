//! Images of a device's flash or card, in the place of a folder: their objects are taken out into a folder of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use duralog::{
    Object,
    core::Device as _,
    slots::{CutOff, ImageDevice, ImageError, ImageGeometry, OpenSlotsError, OtherSlots, SlotError},
};
use tempfile::TempDir;

use crate::{
    exit::{Failure, Status, tell},
    pack,
};

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

/// A log to read, which was given as a folder or as an image.
#[derive(Debug)]
pub(crate) struct Given {
    /// Its folder: the one that was given, or where the objects of the image were put.
    pub(crate) folder: PathBuf,
    cut_off: Option<CutOff>,
}

impl Given {
    /// What is to be told of an image that ends within a slot, and is read as far as it goes; `dir` is the image.
    pub(crate) fn cut_off(&self, dir: &Path) -> Option<Failure> {
        self.cut_off.map(|cut_off| Failure::CutOff { image: dir.to_owned(), cut_off })
    }

    /// A failure of reading it: where that is damage, an image that ends too early is why.
    pub(crate) fn explained(&self, dir: &Path, failure: Failure) -> Failure {
        match self.cut_off(dir) {
            Some(cut_off) if failure.status() == Status::Damage => {
                tell(format_args!("duralog: {failure}"));
                cut_off
            }
            _ => failure,
        }
    }
}

/// The log to read: the folder `dir`, or what is taken out of the image `dir`.
pub(crate) fn given(dir: &Path, args: ImageArgs) -> Result<Given, Failure> {
    let ImageArgs { erase_size, write_size } = args;
    let usage = |message: String| Failure::Usage { path: Some(dir.to_owned()), message };
    if !dir.is_file() {
        return match (erase_size, write_size) {
            (None, None) => Ok(Given { folder: dir.to_owned(), cut_off: None }),
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
    let mut device = ImageDevice::of_image_with(image, known).map_err(|error| usage(refusal(dir, error)))?;
    for OtherSlots { from, slots, slot_size } in device.others() {
        tell(format_args!(
            "duralog: {} holds another log too, in {slots} slots of {slot_size} bytes from byte {from} on: cut that part out to \
             read it",
            dir.display()
        ));
    }
    let system = |error| Failure::System { action: "make a temporary folder", path: None, error };
    let folder = tempfile::tempdir().map_err(system)?;
    let mut after = None;
    while let Ok(Some(object)) = device.next(after) {
        fs::write(folder.path().join(object.to_string()), bytes(&mut device, object)).map_err(system)?;
        after = Some(object);
    }
    if after.is_none() && device.cut_off().is_none() {
        return Err(usage(format!(
            "{} is the image of a device that was formatted, and no log was begun on it: there is nothing to read",
            dir.display()
        )));
    }
    let path = folder.path().to_owned();
    TAKEN_OUT.lock().unwrap_or_else(PoisonError::into_inner).push(folder);
    Ok(Given { folder: path, cut_off: device.cut_off() })
}

/// Why an image cannot be read, and what to do.
fn refusal(image: &Path, error: OpenSlotsError<ImageError>) -> String {
    let path = image.display();
    match error {
        OpenSlotsError::Medium(ImageError::Blank) => format!(
            "{path} is a file, and so taken for the image of a device, and it is blank throughout: the medium was \
             never written to, or another part of it was read out"
        ),
        OpenSlotsError::Medium(ImageError::Short) => format!(
            "{path} is a file, and so taken for the image of a device, and it is shorter than the least slot: read the \
             medium out again, whole"
        ),
        OpenSlotsError::Medium(_) | OpenSlotsError::Blank | OpenSlotsError::Foreign => format!(
            "{path} is a file, and so taken for the image of a device, and there is no slot of a log in it: read out \
             the part of the medium where the log is, whole; if labels and headers of all its slots are ruined, \
             --erase-size and --write-size tell how it was divided"
        ),
        OpenSlotsError::HalfErased => format!(
            "{path}: an erase or a formatting of the medium was interrupted, and what is left of slots holds no log; \
             if it was divided otherwise, --erase-size and --write-size tell how"
        ),
        OpenSlotsError::OtherLayout { slot_size, granule, .. } => format!(
            "{path} was divided into slots of {slot_size} bytes, a granule of {granule}: leave --erase-size \
             and --write-size out, or give those of another log in it"
        ),
        OpenSlotsError::Layout(invalid) => {
            format!("{path} cannot be divided by --erase-size and --write-size: {invalid}")
        }
        error => format!("{path}: {error}"),
    }
}

/// The bytes of an object, as far as they are there.
fn bytes(device: &mut ImageDevice, object: Object) -> Vec<u8> {
    let (mut bytes, mut piece) = (Vec::new(), vec![0; PIECE]);
    loop {
        match device.read(object, bytes.len() as u64, &mut piece) {
            Ok(read) if read > 0 => bytes.extend_from_slice(&piece[..read]),
            // The image ends within these.
            Err(SlotError::Medium(ImageError::Beyond)) if piece.len() > 1 => piece.truncate(piece.len() / 2),
            Ok(_) | Err(_) => return bytes,
        }
    }
}

/// Removes what was taken out.
pub(crate) fn clean() {
    TAKEN_OUT.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
