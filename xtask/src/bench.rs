//! The benchmark: a program in a workspace of its own, built here and run.

use std::process::Command;

use crate::compiler::cargo;
use crate::tools::root;

/// Cargo in the benchmark's workspace. What it builds goes where the other workspace's does.
pub(crate) fn bench_cargo() -> Command {
    let mut command = cargo();
    command.current_dir(root().join("bench"));
    if std::env::var_os("CARGO_TARGET_DIR").is_none() {
        command.env("CARGO_TARGET_DIR", root().join("target"));
    }
    command
}

/// Builds and runs it; other logs are built in where they are asked for.
pub(crate) fn run(arguments: &[String]) -> Result<bool, String> {
    let mut command = bench_cargo();
    command.args(["run", "--release", "--quiet"]);
    if arguments.iter().any(|argument| argument == "--peers") {
        command.args(["--features", "peers"]);
    }
    let status = command.arg("--").args(arguments).status();
    status.map(|status| status.success()).map_err(|why| format!("cannot run cargo: {why}"))
}
