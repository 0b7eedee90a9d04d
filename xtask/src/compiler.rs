//! The two compilers: rustup's, which runs this program, and Debian's for targets that rustup's has not installed.
//!
//! Debian packages the sources of the standard library, from which cargo's `-Zbuild-std` builds it for any target. So
//! nothing is fetched through rustup, and a machine that can install Debian packages can check every target.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{Tool, WASM_LD, is_ci, output, program, root};

/// The packages of Debian's compiler; they go together only in one version.
pub(crate) const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// The oldest Rust that builds this workspace.
const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// Rustup's cargo, in the repository's folder.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    if is_ci() {
        // Each thing is built once there: nothing is gained by what would make the next build quicker.
        command.env("CARGO_INCREMENTAL", "0");
    }
    command
}

/// Cargo for a target, and what it needs: rustup's if it has the target, else Debian's, which builds `std_crates` first.
pub(crate) fn cargo_for(verb: &str, target: &str, std_crates: &str) -> (Command, Vec<Tool>) {
    if rustup_has(target) {
        let mut command = cargo();
        command.args([verb, "--target", target]);
        return (command, Vec::new());
    }
    let mut command = debian_cargo();
    command.args([verb, "--target", target, &format!("-Zbuild-std={std_crates}")]);
    (command, vec![Tool::DebianRust])
}

/// The version of the compiler that a cargo of [`cargo_for`] uses.
pub(crate) fn version(cargo: &Command) -> String {
    let named = cargo.get_envs().find(|(name, _)| *name == "RUSTC").and_then(|(_, value)| value);
    let version = output(Command::new(named.unwrap_or("rustc".as_ref())).arg("--version")).unwrap_or_default();
    version.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn rustup_has(target: &str) -> bool {
    output(Command::new("rustc").args(["--print", "target-libdir", "--target", target]))
        .is_some_and(|folder| Path::new(folder.trim()).is_dir())
}

fn debian_cargo() -> Command {
    let mut command = Command::new(debian_program("cargo-web", "cargo"));
    // What rustup's cargo set for this program would lead Debian's astray.
    for name in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "LD_LIBRARY_PATH"] {
        command.env_remove(name);
    }
    command
        .current_dir(root())
        .env("RUSTC", debian_program("rustc-web", "rustc"))
        .env("RUSTDOC", debian_program("rustc-web", "rustdoc"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", target_folder().join("debian"))
        // The profiles of the workspace optimise dependencies, here the standard library, which is only to be compiled.
        .args(["--config", "profile.dev.package.\"*\".opt-level=0"]);
    if let Tool::Program { name, .. } = WASM_LD
        && let Some(linker) = program(name)
    {
        command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
    }
    command
}

/// The caller's target folder. The two compilers never share one: each would discard what the other built.
pub(crate) fn target_folder() -> PathBuf {
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    std::path::absolute(&folder).unwrap_or(folder)
}

/// A program by the place its package gave it, as rustup's of the same name stands first in `PATH`.
fn debian_program(package: &str, name: &str) -> String {
    let files = output(Command::new("dpkg").args(["-L", package])).unwrap_or_default();
    let place = files.lines().find(|line| line.ends_with(&format!("/bin/{name}")));
    place.map_or_else(|| format!("/usr/bin/{name}"), str::to_owned)
}

/// Why Debian's compiler cannot be used; `None` if it can.
pub(crate) fn debian_fault() -> Option<String> {
    let versions = DEBIAN_PACKAGES.map(installed_version);
    let missing: Vec<_> =
        DEBIAN_PACKAGES.iter().zip(&versions).filter(|(_, v)| v.is_none()).map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        return Some(format!("Debian packages are missing: {}", missing.join(", ")));
    }
    version_fault(&versions.map(Option::unwrap_or_default))
}

fn installed_version(package: &str) -> Option<String> {
    let answer = output(Command::new("dpkg-query").args(["-W", "-f", "${Status}\t${Version}", package]))?;
    let (status, version) = answer.split_once('\t')?;
    (status == "install ok installed").then(|| version.to_owned())
}

fn version_fault(versions: &[String; 3]) -> Option<String> {
    let [first, ..] = versions;
    if versions.iter().any(|version| version != first) {
        return Some(format!(
            "{} are of different versions ({}): apt-get update, then install the three together",
            DEBIAN_PACKAGES.join(", "),
            versions.join(", ")
        ));
    }
    (release(first) < release(OLDEST)).then(|| {
        format!(
            "rustc-web is {first}, older than {OLDEST}: the security suite of Debian 12 has a newer one, add it to \
             apt's sources"
        )
    })
}

/// The first two numbers of a version.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map_while(|digits| digits.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_one_version_that_is_new_enough_will_do() {
        let fault = |versions: [&str; 3]| version_fault(&versions.map(str::to_owned));
        assert_eq!(fault(["1.96.0+dfsg1-1~deb12u2"; 3]), None);
        assert_eq!(fault(["1.100.0+dfsg1-1"; 3]), None);
        assert!(fault(["1.85.0+dfsg3-1"; 3]).is_some_and(|why| why.contains("older")));
        assert!(fault(["1.96.0", "1.96.0", "1.85.0"]).is_some_and(|why| why.contains("different")));
    }
}
