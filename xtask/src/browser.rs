//! The npm package: how it is built, packed, and tried in browsers.

use std::{path::PathBuf, process::Command};

use crate::{
    compiler::{self, cargo},
    step::Step,
    tools::{CHROMIUM, FIREFOX, NODE, NPM, WASM_LD, XZ, root},
};

const TARGET: &str = "wasm32-unknown-unknown";

/// The steps of the part. Those behind the first two need what these have made.
pub(crate) fn steps() -> Vec<Step> {
    let mut bindgen = cargo();
    bindgen.args(["build", "--locked", "--manifest-path", "wasm/bindgen/Cargo.toml", "--target-dir"]);
    bindgen.arg(compiler::target_folder().join("bindgen"));
    let (module, made, needs) = module();
    let mut tools = Command::new("node");
    tools.current_dir(root()).arg("wasm/tests/tools.mjs");
    let package = root().join("wasm/pkg/duralog");
    let mut build = Command::new("node");
    build.current_dir(root()).arg("wasm/tests/build.mjs");
    build.arg(compiler::target_folder().join("bindgen/debug/duralog-bindgen")).arg(made).arg(&package);
    let mut suites = Command::new("node");
    suites.current_dir(root()).arg("wasm/tests/run.mjs").arg(&package);
    // A log goes to native files and back.
    let mut program = cargo();
    program.args(["build", "--package", "duralog-cli"]);
    let name = format!("debug/duralog{}", std::env::consts::EXE_SUFFIX);
    suites.env("DURALOG_CLI", compiler::target_folder().join(name));
    vec![
        Step::new("bindgen", bindgen),
        Step::new("module", module).needing(needs).needing([WASM_LD]),
        Step::new("tools", tools).needing([NPM, NODE]),
        Step::new("package and its size", build).needing([NODE, XZ]),
        Step::new("program", program),
        Step::new("suites", suites).counting_tests().needing([NPM, NODE]).wanting([CHROMIUM, FIREFOX]),
    ]
}

/// Compiles the module, as small as the compiler at hand makes it; says where it is put.
fn module() -> (Command, PathBuf, Vec<crate::tools::Tool>) {
    let (mut command, needs) = compiler::cargo_for("build", TARGET, "std");
    command.args(["--package", "duralog-wasm", "--profile", "wasm"]);
    let mut folder = compiler::target_folder();
    if !needs.is_empty() {
        // Debian's compiler builds the standard library too: without the texts of panics and of debugging, which nobody
        // would read.
        folder = folder.join("debian-wasm");
        command
            .arg("-Zbuild-std-features=optimize_for_size")
            .env("CARGO_TARGET_DIR", &folder)
            .env("RUSTFLAGS", "-Zunstable-options -Cpanic=immediate-abort -Zfmt-debug=none");
    }
    let made = folder.join(TARGET).join("wasm/duralog_wasm.wasm");
    (command, made, needs)
}
