//! The firmware: built for its boards, run in an emulator whose power is cut, and measured.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compiler::{cargo, cargo_for, target_folder};
use crate::step::Step;
use crate::tools::{self, LLD, LLVM_NM, LLVM_SIZE, QEMU_ARM, QEMU_RISCV, output};

/// The boards that the firmware runs on: their targets.
const TARGETS: [&str; 3] = ["thumbv7m-none-eabi", "thumbv7em-none-eabihf", "riscv32imc-unknown-none-elf"];
/// Lives on each board; nine of ten end by a power cut.
const LIVES: u32 = 130;
const MANIFEST: &str = "firmware/Cargo.toml";
/// The board whose code is measured.
const MEASURED: &str = "thumbv7em-none-eabihf";
/// What the firmware is built with to be measured, the yardstick first.
const BUILDS: [(&str, &str); 3] = [
    ("without a log", "--no-default-features"),
    ("append and recover", "--no-default-features --features recover"),
    ("all", "--no-default-features --features all"),
];

/// Builds the firmware for each board, and runs it through its power cuts.
pub(crate) fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = TARGETS
        .iter()
        .map(|target| {
            let (command, needs) = build(target, "lives", "");
            Step::new(format!("firmware for {target}"), command).needing(needs).needing([LLD])
        })
        .collect();
    let mut host = cargo();
    host.args(["run", "--manifest-path", MANIFEST, "-p", "firmware-host", "--", &LIVES.to_string()]);
    for target in TARGETS {
        host.arg(format!("{target}={}", program(target, "lives").display()));
    }
    steps.push(Step::new("firmware through power cuts", host).needing([QEMU_ARM, QEMU_RISCV]));
    steps
}

/// Cargo for one build of the firmware. Each set of features has a folder of its own, so that no build replaces another.
fn build(target: &str, folder: &str, features: &str) -> (Command, Vec<tools::Tool>) {
    let (mut command, needs) = cargo_for("build", target, "core");
    command.args(["--release", "--manifest-path", MANIFEST, "-p", "firmware"]);
    command.args(features.split(' ').filter(|word| !word.is_empty()));
    command.env("CARGO_TARGET_DIR", target_folder().join("firmware").join(folder));
    if let Some(linker) = tools::program("ld.lld") {
        command.env(format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_")), linker);
    }
    (command, needs)
}

fn program(target: &str, folder: &str) -> PathBuf {
    target_folder().join("firmware").join(folder).join(target).join("release/firmware")
}

/// Prints what the log takes of a microcontroller's memory, as the difference to the same firmware without it.
pub(crate) fn sizes() -> Result<bool, String> {
    let mut without = None;
    for (index, (name, features)) in BUILDS.iter().enumerate() {
        let folder = format!("size-{index}");
        let (mut command, needs) = build(MEASURED, &folder, features);
        for tool in needs.into_iter().chain([LLD, LLVM_SIZE, LLVM_NM]) {
            if let Some(fault) = tool.fault() {
                return Err(fault);
            }
        }
        if !command.status().is_ok_and(|status| status.success()) {
            return Ok(false);
        }
        let program = program(MEASURED, &folder);
        let sections = sections(&program)?;
        let base = *without.get_or_insert(sections);
        let [text, rodata, data, bss] = [0, 1, 2, 3].map(|section| sections[section] - base[section]);
        println!("{name:>20}: .text {text:>6}  .rodata {rodata:>6}  .data {data:>4}  .bss {bss:>6}");
        let symbols = output(Command::new("llvm-nm").args(["--demangle"]).arg(&program)).unwrap_or_default();
        let panics =
            symbols.lines().filter(|line| line.contains("panicking") || line.contains("unwrap_failed")).count();
        println!("{:>20}  symbols that panic: {panics}", "");
    }
    println!("on {MEASURED}, opt-level s, LTO; differences to the firmware without a log");
    Ok(true)
}

/// Bytes of `.text`, `.rodata`, `.data` and `.bss`.
fn sections(program: &Path) -> Result<[i64; 4], String> {
    let table = output(Command::new("llvm-size").arg("-A").arg(program)).ok_or("llvm-size failed")?;
    let size = |name: &str| {
        let line = table.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
    };
    Ok([".text", ".rodata", ".data", ".bss"].map(size))
}
