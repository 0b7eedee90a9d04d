//! What the steps need beyond Rust: how to see whether it is there, and how to install it on Debian.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compiler::{self, DEBIAN_PACKAGES};

/// Something a step runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Debian's Rust compiler with the sources of the standard library: it builds for targets that rustup's lacks.
    DebianRust,
    /// A program, and the Debian package that has it.
    Program { name: &'static str, package: &'static str },
    /// A component of rustup's compiler: the subcommand of cargo that shows that it is there.
    Component { name: &'static str, subcommand: &'static str },
}

pub(crate) const CLIPPY: Tool = Tool::Component { name: "clippy", subcommand: "clippy" };
pub(crate) const RUSTFMT: Tool = Tool::Component { name: "rustfmt", subcommand: "fmt" };
pub(crate) const PYTHON: Tool = Tool::Program { name: "python3", package: "python3" };
pub(crate) const STRACE: Tool = Tool::Program { name: "strace", package: "strace" };
pub(crate) const NODE: Tool = Tool::Program { name: "node", package: "nodejs" };
pub(crate) const NPM: Tool = Tool::Program { name: "npm", package: "npm" };
pub(crate) const XZ: Tool = Tool::Program { name: "xz", package: "xz-utils" };
pub(crate) const CHROMIUM: Tool = Tool::Program { name: "chromium", package: "chromium" };
pub(crate) const FIREFOX: Tool = Tool::Program { name: "firefox-esr", package: "firefox-esr" };
pub(crate) const VALGRIND: Tool = Tool::Program { name: "valgrind", package: "valgrind" };
pub(crate) const WASM_LD: Tool = Tool::Program { name: "wasm-ld", package: "lld" };
pub(crate) const LLD: Tool = Tool::Program { name: "ld.lld", package: "lld" };
pub(crate) const QEMU_ARM: Tool = Tool::Program { name: "qemu-system-arm", package: "qemu-system-arm" };
pub(crate) const QEMU_RISCV: Tool = Tool::Program { name: "qemu-system-riscv32", package: "qemu-system-misc" };
pub(crate) const LLVM_OBJDUMP: Tool = Tool::Program { name: "llvm-objdump", package: "llvm" };
pub(crate) const LLVM_SYMBOLIZER: Tool = Tool::Program { name: "llvm-symbolizer", package: "llvm" };
pub(crate) const LLVM_SIZE: Tool = Tool::Program { name: "llvm-size", package: "llvm" };
pub(crate) const DLLTOOL: Tool =
    Tool::Program { name: "x86_64-w64-mingw32-dlltool", package: "binutils-mingw-w64-x86-64" };

impl Tool {
    /// The Debian packages to install; none for what Debian does not bring.
    fn packages(self) -> Vec<&'static str> {
        match self {
            Self::DebianRust => DEBIAN_PACKAGES.to_vec(),
            Self::Program { package, .. } => vec![package],
            Self::Component { .. } => Vec::new(),
        }
    }

    /// Why it cannot be used; `None` if it can.
    pub(crate) fn fault(self) -> Option<String> {
        match self {
            Self::DebianRust => compiler::debian_fault(),
            Self::Program { name, package } => {
                program(name).is_none().then(|| format!("{name} is missing (Debian: {package})"))
            }
            Self::Component { name, subcommand } => {
                let there = output(compiler::cargo().args([subcommand, "--version"])).is_some();
                (!there).then(|| format!("{name} is missing (rustup component add {name})"))
            }
        }
    }
}

/// Whether the variable `CI` is set: then what is missing is installed, and what is left out has failed.
pub(crate) fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// Installs what is missing where that is allowed; else prints the line that would.
pub(crate) fn provide(tools: &[Tool]) {
    let mut packages: Vec<_> =
        tools.iter().filter(|tool| tool.fault().is_some()).flat_map(|tool| tool.packages()).collect();
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return;
    }
    let list = packages.join(" ");
    if program("apt-get").is_none() {
        println!("No apt-get here, so these Debian packages are not installed: {list}\n");
        return;
    }
    let is_root = output(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0");
    let sudo = if is_root { "" } else { "sudo " };
    let line = format!("{sudo}apt-get update && {sudo}apt-get install -y --no-install-recommends {list}");
    if !is_root && !is_ci() {
        println!("To install what is missing:\n    {line}\n");
        return;
    }
    println!("Installing Debian packages: {list}");
    let status = Command::new("sh").args(["-c", &line]).env("DEBIAN_FRONTEND", "noninteractive").status();
    if !status.is_ok_and(|status| status.success()) {
        println!("Failed: {line}\n");
    }
}

/// The place of a program in `PATH`.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|place| place.is_file())
}

/// What a command prints, if it succeeds.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// The repository's folder.
pub(crate) fn root() -> PathBuf {
    let crate_folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&crate_folder).parent().map_or_else(PathBuf::new, Path::to_owned)
}
