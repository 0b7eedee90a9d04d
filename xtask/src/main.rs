//! Tasks of the repository; `cargo xtask help` lists them.

mod browser;
mod ci;
mod compiler;
mod report;
mod step;
mod tools;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask ci [PART ...]   run the checks; parts, all by default:
    native     format, lints, docs, tests, the reader in Python, packages
    embedded   the core without std and alloc for three microcontroller targets
    wasm       the core for wasm32-unknown-unknown
    cross      type checks for Windows, macOS and a 32-bit system
    browser    the npm package: built, packed, and tried in Node, Chromium and Firefox
cargo xtask help            this page

Run as root, or with the variable CI set, `ci` installs the Debian packages it misses. Otherwise it prints the line that
would, and lists at the end what it left out. With CI set nothing may be left out.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = arguments.split_first().map_or(("help", &[][..]), |(task, rest)| (task.as_str(), rest));
    let outcome = match task {
        "ci" => ci::run(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(true)
        }
        _ => Err(format!("no task `{task}`; `cargo xtask help` lists them")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::from(2)
        }
    }
}
