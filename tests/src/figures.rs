//! Figures that `tests/README.md` tells, held against it by the runs that count them.

use std::{env, fs::OpenOptions, io::Write};

const README: &str = include_str!("../README.md");

/// Prints a figure, a line such as `NAME: 12 crash points`, which `tests/README.md` has to hold as it stands.
///
/// With the variable `DURALOG_FIGURES` set it is not compared, but appended to the file that the variable names:
/// `cargo xtask figures` writes the page anew by that.
///
/// # Panics
/// If the page says something else.
pub fn figure(line: &str) {
    println!("{line}");
    if let Some(path) = env::var_os("DURALOG_FIGURES") {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let written = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        return written.expect("the file that DURALOG_FIGURES names can be written");
    }
    let (name, _) = line.split_once(": ").expect("a figure has a name");
    let told = README.lines().find(|told| told.strip_prefix(name).is_some_and(|rest| rest.starts_with(": ")));
    assert_eq!(told, Some(line), "tests/README.md is stale: `cargo xtask figures` counts anew and writes it");
}
