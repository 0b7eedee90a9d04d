//! What the figures were measured on: they mean nothing without it.

use std::{fmt, fs, path::Path, process::Command, thread};

/// A machine, as far as its speed depends on it.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Machine {
    processor: String,
    threads: usize,
    system: String,
    file_system: String,
    compiler: String,
    /// Programs that wanted to run, on average, in the minute before.
    load: String,
}

impl Machine {
    /// This machine; `dir` is where the files are.
    pub(crate) fn here(dir: &Path) -> Self {
        let unknown = || "unknown".to_owned();
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo").lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == "model name").then(|| value.trim().to_owned())
        });
        let say = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
        };
        let dir = dir.to_string_lossy();
        Self {
            processor: processor.unwrap_or_else(unknown),
            threads: thread::available_parallelism().map_or(1, usize::from),
            system: say("uname", &["-sr"]).unwrap_or_else(unknown),
            file_system: say("findmnt", &["-nro", "FSTYPE,SOURCE", "-T", &dir]).unwrap_or_else(unknown),
            compiler: say("rustc", &["--version"]).unwrap_or_else(unknown),
            load: read("/proc/loadavg").split(' ').next().map_or_else(unknown, str::to_owned),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, threads, system, file_system, compiler, load } = self;
        write!(f, "{processor}, {threads} threads; {system}; {file_system}; {compiler}; load before {load}")
    }
}
