//! The firmware: built for its boards, and run in an emulator whose power is cut.

use std::path::PathBuf;
use std::process::Command;

use crate::compiler::{cargo, cargo_for, target_folder};
use crate::step::Step;
use crate::tools::{self, LLD, QEMU_ARM, QEMU_RISCV};

/// The boards that the firmware runs on: their targets.
const TARGETS: [&str; 3] = ["thumbv7m-none-eabi", "thumbv7em-none-eabihf", "riscv32imc-unknown-none-elf"];
/// The one on which it also runs with every part left out.
const LEAST: &str = TARGETS[0];
/// Lives on each board; nine of ten end by a power cut.
const LIVES: u32 = 130;
const MANIFEST: &str = "firmware/Cargo.toml";

/// The folder of its builds with all that the library offers, which the measured ones share: the language's own library is
/// built once for a board.
pub(crate) const FOLDER: &str = "boards";
/// The folder of those that leave out what may be.
const LEAST_FOLDER: &str = "least";

/// Builds the firmware for each board, and runs it through its power cuts; and the least of them too.
pub(crate) fn steps() -> Vec<Step> {
    let mut steps = builds();
    let (command, needs) = build(LEAST, LEAST_FOLDER, "--no-default-features --features all,table");
    steps.push(Step::new("firmware without what may be left out", command).needing(needs).needing([LLD]));
    steps.push(lives(&[(LEAST, LEAST_FOLDER)]));
    steps
}

/// What the checks of each commit do of that: the boards.
pub(crate) fn on_each_board() -> Vec<Step> {
    let mut steps = builds();
    steps.push(lives(&[]));
    steps
}

fn builds() -> Vec<Step> {
    let step = |target: &&str| {
        let (command, needs) = build(target, FOLDER, "");
        Step::new(format!("firmware for {target}"), command).needing(needs).needing([LLD])
    };
    TARGETS.iter().map(step).collect()
}

/// The lives of each board, and of these besides.
fn lives(besides: &[(&str, &str)]) -> Step {
    let mut host = cargo();
    host.args(["run", "--quiet", "--manifest-path", MANIFEST, "-p", "firmware-host", "--", &LIVES.to_string()]);
    let boards = TARGETS.iter().map(|target| (*target, FOLDER)).chain(besides.iter().copied());
    host.args(boards.map(|(target, folder)| format!("{target}={}", program(target, folder).display())));
    Step::new("firmware through power cuts", host).needing([QEMU_ARM, QEMU_RISCV])
}

/// Cargo for one build of the firmware. Builds whose folders differ do not replace each other.
pub(crate) fn build(target: &str, folder: &str, features: &str) -> (Command, Vec<tools::Tool>) {
    let (mut command, needs) = cargo_for("build", target, "core");
    command.args(["--release", "--manifest-path", MANIFEST, "-p", "firmware"]);
    command.args(features.split(' ').filter(|word| !word.is_empty()));
    command.env("CARGO_TARGET_DIR", target_folder().join("firmware").join(folder));
    if let Some(linker) = tools::program("ld.lld") {
        command.env(format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_")), linker);
    }
    (command, needs)
}

pub(crate) fn program(target: &str, folder: &str) -> PathBuf {
    target_folder().join("firmware").join(folder).join(target).join("release/firmware")
}
