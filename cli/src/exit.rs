//! How the program ends: its exit status, and the error as text and as JSON.

use core::iter;
use std::{
    error, fmt,
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use duralog::{Error, Finding, core::Fault, file::FileError, slots::CutOff};
use serde_json::{Value, json};

/// The exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// All is well; a torn tail is no fault.
    Fine,
    /// Damage was found, or something was refused.
    Damage,
    /// Wrong usage, or wrong input.
    Usage,
    /// A device failed.
    Device,
    /// A signal asked the program to end.
    Signal(u8),
}

impl Status {
    const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Damage => 1,
            Self::Usage => 2,
            Self::Device => 3,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.code())
    }
}

/// Why a command could not do all that it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The log at `dir`.
    Log { dir: PathBuf, error: Box<Error> },
    /// Another failure, and what may help.
    Advised { failure: Box<Self>, advice: &'static str },
    /// A line of the input.
    Line { input: String, line: u64, column: usize, message: String },
    /// The input cannot be read, or is not what it should be.
    Input { input: String, error: io::Error },
    /// What was asked for cannot be.
    Usage { path: Option<PathBuf>, message: String },
    /// There is damage; this is the first of it.
    Damage { dir: PathBuf, finding: Box<Finding>, count: u64 },
    /// The image ends within a slot; what is there was read.
    CutOff { image: PathBuf, cut_off: CutOff },
    /// A policy does not allow what was found.
    Refused { dir: PathBuf, message: String },
    /// Something else of this machine, at `path` if it is about one.
    System { action: &'static str, path: Option<PathBuf>, error: io::Error },
    /// Standard output took no more.
    Output(io::Error),
    /// A signal.
    Signal { signal: u8 },
}

impl Failure {
    pub(crate) fn log(dir: &Path) -> impl Fn(Error) -> Self + use<> {
        let dir = dir.to_owned();
        move |error| Self::Log { dir: dir.clone(), error: Box::new(error) }
    }

    /// [`log`](Self::log), for a command that frees room and may need some for that.
    pub(crate) fn freeing(dir: &Path) -> impl Fn(Error) -> Self + use<> {
        let dir = dir.to_owned();
        move |error| Self::advised(&dir, error, ": remove other things from its medium")
    }

    /// A failure of the log at `dir`, with advice where there was no room.
    pub(crate) fn advised(dir: &Path, error: Error, advice: &'static str) -> Self {
        let full = matches!(error, Error::NoSpace(_));
        let advice = if is_limited(&error) { ": raise that limit, or let segments be smaller" } else { advice };
        let failure = Self::Log { dir: dir.to_owned(), error: Box::new(error) };
        if full { Self::Advised { failure: Box::new(failure), advice } } else { failure }
    }

    /// A failure of this machine at `path`.
    pub(crate) fn system(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| Self::System { action, path: Some(path.clone()), error }
    }

    /// Whether standard output was closed by whoever read it.
    pub(crate) fn is_closed_output(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == ErrorKind::BrokenPipe)
    }

    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Log { error, .. } => status(error),
            Self::Advised { failure, .. } => failure.status(),
            Self::Line { .. } | Self::Input { .. } | Self::Usage { .. } => Status::Usage,
            Self::Damage { .. } | Self::CutOff { .. } | Self::Refused { .. } => Status::Damage,
            Self::System { .. } | Self::Output(_) => Status::Device,
            Self::Signal { signal } => Status::Signal(*signal),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Log { error, .. } if is_not_a_folder(error) => "not_a_folder",
            Self::Log { error, .. } => error.kind(),
            Self::Advised { failure, .. } => failure.kind(),
            Self::Line { .. } => "bad_line",
            Self::Input { .. } => "input",
            Self::Usage { .. } => "usage",
            Self::Damage { .. } => "damaged",
            Self::CutOff { .. } => "cut_off",
            Self::Refused { .. } => "refused",
            Self::System { .. } => "system",
            Self::Output(_) => "output",
            Self::Signal { .. } => "signal",
        }
    }

    /// The value of the field `error` of every JSON object.
    pub(crate) fn json(&self) -> Value {
        let (mut path, mut offset, mut lsn, mut line, mut column) = (None, None, None, None, None);
        match self {
            Self::Advised { failure, .. } => {
                let mut json = failure.json();
                json["message"] = self.to_string().into();
                return json;
            }
            Self::Log { dir, error } => {
                let place = error.place();
                path = Some(match place {
                    Some((object, _)) => dir.join(object.to_string()).display().to_string(),
                    None => dir.display().to_string(),
                });
                offset = place.map(|(_, offset)| offset);
                lsn = error.lsn().map(duralog::Lsn::value);
            }
            Self::Line { input, line: number, column: at, .. } => {
                path = Some(input.clone());
                line = Some(*number);
                column = Some(*at);
            }
            Self::Input { input, .. } => path = Some(input.clone()),
            Self::Usage { path: at, .. } => path = at.as_ref().map(|path| path.display().to_string()),
            Self::Damage { dir, finding, .. } => {
                path = Some(dir.join(finding.object.to_string()).display().to_string());
                offset = Some(finding.offset);
                lsn = finding.lsns.map(|(first, _)| first.value());
            }
            Self::CutOff { image, cut_off } => {
                path = Some(image.display().to_string());
                offset = Some(cut_off.len);
            }
            Self::Refused { dir, .. } => path = Some(dir.display().to_string()),
            Self::System { path: at, .. } => path = at.as_ref().map(|path| path.display().to_string()),
            Self::Output(_) | Self::Signal { .. } => {}
        }
        json!({
            "kind": self.kind(),
            "message": self.to_string(),
            "path": path,
            "offset": offset,
            "lsn": lsn,
            "line": line,
            "column": column,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log { dir, error } if is_not_a_folder(error) => {
                write!(f, "{} is not a folder: nothing was touched", dir.display())
            }
            Self::Log { dir, error } if error.place().is_some() => write!(f, "{}: {error}", dir.display()),
            Self::Log { error, .. } => error.fmt(f),
            Self::Advised { failure, advice } => write!(f, "{failure}{advice}"),
            Self::Line { input, line, column, message } => {
                write!(f, "{input}, line {line}, column {column}: {message}")
            }
            Self::Input { input, error } => write!(f, "cannot read {input}: {error}"),
            Self::Usage { message, .. } | Self::Refused { message, .. } => f.write_str(message),
            Self::Damage { dir, finding, count: 1 } => write!(f, "{}: damage: {finding}", dir.display()),
            Self::Damage { dir, finding, count } => {
                write!(f, "{}: damage at {count} places, the first: {finding}", dir.display())
            }
            Self::CutOff { image, cut_off: CutOff { len, missing, object, slots } } => {
                write!(f, "{} ends at byte {len}, ", image.display())?;
                match (object, missing) {
                    (_, 0) => write!(f, "and {slots} slots are missing behind it")?,
                    (Some((object, from)), _) => write!(
                        f,
                        "within a slot: {missing} bytes are missing, of {object} from byte {from} on, and {slots} slots behind"
                    )?,
                    (None, _) => write!(
                        f,
                        "within a slot: {missing} bytes of that are missing, what it holds with them, and {slots} slots behind"
                    )?,
                }
                f.write_str(": read the medium out again, whole")
            }
            Self::System { action, path: Some(path), error } => {
                write!(f, "cannot {action} {}: {error}", path.display())
            }
            Self::System { action, path: None, error } => write!(f, "cannot {action}: {error}"),
            Self::Output(error) => write!(f, "cannot write to standard output: {error}"),
            Self::Signal { signal } => write!(f, "ended by signal {signal}"),
        }
    }
}

impl error::Error for Failure {}

/// The status of a log's error.
fn status(error: &Error) -> Status {
    match error {
        Error::NotFound { .. }
        | Error::NotALog { .. }
        | Error::Config(_)
        | Error::TooLarge { .. }
        | Error::Truncated { .. } => Status::Usage,
        Error::Open(_) if is_not_a_folder(error) => Status::Usage,
        Error::NoSpace(_)
        | Error::Unproven { .. }
        | Error::Device { .. }
        | Error::Open(_)
        | Error::Fault(Fault::Unreadable { .. }) => Status::Device,
        Error::Poisoned { cause } => status(cause),
        // Locked, damaged, refused, lost, foreign, unsupported, and what later versions add.
        _ => Status::Damage,
    }
}

/// Whether it is not the medium that has no room, but a limit on the size of files that forbids to take it.
fn is_limited(error: &Error) -> bool {
    let causes = iter::successors(Some(error as &dyn error::Error), |error| error.source());
    let mut causes = causes.filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == ErrorKind::FileTooLarge)
}

/// Whether the path that should be a folder is a file.
fn is_not_a_folder(error: &Error) -> bool {
    let Error::Open(failure) = error else { return false };
    matches!(failure.as_error().downcast_ref(), Some(FileError::NotADirectory { .. }))
}

/// Writes a line to standard error. There is nowhere to say that it failed.
pub(crate) fn tell(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
