//! The checks, in parts: which commands they are, and how they are run one after the other.

use std::process::Command;
use std::time::Instant;

use crate::bench::bench_cargo;
use crate::browser;
use crate::compiler::{cargo, cargo_for};
use crate::firmware;
use crate::report::Report;
use crate::sizes;
use crate::step::Step;
use crate::tools::{self, CLIPPY, DLLTOOL, PYTHON, RUSTFMT, STRACE, Tool, VALGRIND, WASM_LD};

/// A part: its name and its steps.
type Part = (&'static str, fn() -> Vec<Step>);

const PARTS: [Part; 8] = [
    ("native", native),
    ("speed", speed),
    ("embedded", embedded),
    ("wasm", wasm),
    ("cross", cross),
    ("mutants", mutants),
    ("schedules", schedules),
    ("browser", browser::steps),
];

const BARE_TARGETS: [&str; 2] = ["thumbv7m-none-eabi", "riscv32imc-unknown-none-elf"];
const LOGGING_TARGET: &str = "thumbv7em-none-eabihf";
const CROSS_TARGETS: [&str; 3] = ["x86_64-pc-windows-gnu", "aarch64-apple-darwin", "i686-unknown-linux-gnu"];

/// Runs one part by itself.
pub(crate) fn run_part(name: &'static str, steps: fn() -> Vec<Step>) -> Result<bool, String> {
    run_parts(&[(name, steps)])
}

/// Runs the parts named, or all; every step of them, whatever failed before. Returns whether all passed.
pub(crate) fn run(names: &[String]) -> Result<bool, String> {
    if let Some(name) = names.iter().find(|name| !PARTS.iter().any(|(part, _)| part == name)) {
        return Err(format!("no part `{name}`; there are {}", PARTS.map(|(part, _)| part).join(", ")));
    }
    let chosen = PARTS.iter().filter(|(part, _)| names.is_empty() || names.iter().any(|name| name == part));
    run_parts(&chosen.copied().collect::<Vec<Part>>())
}

fn run_parts(parts: &[Part]) -> Result<bool, String> {
    let mut needed: Vec<Tool> = Vec::new();
    for tool in parts.iter().flat_map(|(_, steps)| steps()).flat_map(|step| [step.needs, step.wants].concat()) {
        if !needed.contains(&tool) {
            needed.push(tool);
        }
    }
    tools::provide(&needed);
    let faults: Vec<(Tool, String)> = needed.into_iter().filter_map(|tool| Some((tool, tool.fault()?))).collect();

    let mut report = Report::default();
    for (part, steps) in parts {
        let start = Instant::now();
        let steps = steps();
        if steps.is_empty() {
            println!("== {part}: nothing yet");
        }
        for step in steps {
            run_step(part, step, &faults, &mut report);
        }
        report.part(part, start.elapsed());
    }
    Ok(report.finish())
}

fn run_step(part: &str, step: Step, faults: &[(Tool, String)], report: &mut Report) {
    let name = format!("{part}: {}", step.name);
    println!("== {name}");
    let faults_of = |tools: &[Tool]| -> Vec<&str> {
        faults.iter().filter(|(tool, _)| tools.contains(tool)).map(|(_, why)| why.as_str()).collect()
    };
    let (missing, wanted) = (faults_of(&step.needs), faults_of(&step.wants));
    if !missing.is_empty() {
        return report.left_out(format!("{name}: {}", missing.join("; ")), tools::is_ci());
    }
    if !wanted.is_empty() {
        report.left_out(format!("{name}, in part: {}", wanted.join("; ")), tools::is_ci());
    }
    let outcome = step.run();
    report.step(&name, &outcome);
}

fn with(mut command: Command, arguments: &str) -> Command {
    command.args(arguments.split(' '));
    command
}

/// This program, for a task of it that is a step.
fn itself() -> Command {
    std::env::current_exe().map_or_else(|_| with(cargo(), "xtask"), Command::new)
}

fn native() -> Vec<Step> {
    let mut doc = with(cargo(), "doc --workspace --no-deps --all-features");
    doc.env("RUSTDOCFLAGS", "-D warnings");
    let mut reader = Command::new("python3");
    reader.current_dir(tools::root()).args(["tests/format/reader.py", "--self-test"]);
    vec![
        Step::new("fmt", with(cargo(), "fmt --all --check")).needing([RUSTFMT]),
        Step::new("clippy", with(cargo(), "clippy --workspace --all-targets --all-features -- -D warnings"))
            .needing([CLIPPY]),
        Step::new(
            "clippy of the core alone",
            with(cargo(), "clippy -p duralog-core --no-default-features -- -D warnings"),
        )
        .needing([CLIPPY]),
        Step::new("doc", doc),
        Step::new("test", with(cargo(), "test --workspace --all-features --no-fail-fast"))
            .counting_tests()
            .wanting([STRACE, PYTHON]),
        Step::new("reader", reader).needing([PYTHON]),
        Step::new(
            "package",
            with(
                cargo(),
                "package --workspace --allow-dirty --no-verify --exclude duralog-tests --exclude duralog-wasm --exclude xtask",
            ),
        ),
    ]
}

/// The benchmark is kept as the rest is. No time is measured, which a busy machine would falsify: instructions are counted.
fn speed() -> Vec<Step> {
    vec![
        Step::new("fmt", with(bench_cargo(), "fmt --check")).needing([RUSTFMT]),
        Step::new("clippy", with(bench_cargo(), "clippy --all-targets -- -D warnings")).needing([CLIPPY]),
        Step::new("clippy with other logs", with(bench_cargo(), "clippy --features peers -- -D warnings"))
            .needing([CLIPPY]),
        Step::new("instructions", with(itself(), "instructions")).needing([VALGRIND]),
    ]
}

/// The core as firmware gets it: no std, no alloc; what it takes; and the firmware itself, on emulated boards whose power is cut.
fn embedded() -> Vec<Step> {
    let mut steps: Vec<Step> = BARE_TARGETS
        .iter()
        .map(|target| {
            let (command, needs) = cargo_for("build", target, "core");
            Step::new(*target, with(command, "-p duralog-core --no-default-features")).needing(needs)
        })
        .collect();
    // What the sizes are measured of is the bare core for this target; here it is built with what is optional.
    let (command, needs) = cargo_for("build", LOGGING_TARGET, "core");
    let features =
        "-p duralog-core -p duralog --no-default-features --features duralog/defmt,duralog/nor,duralog/embedded-io";
    steps.push(Step::new(format!("{LOGGING_TARGET} with defmt"), with(command, features)).needing(needs));
    // Each part that can be left out, left out; each alone, and none of them.
    for part in ["", " --features mending", " --features metadata", " --features checkpoints"] {
        let test = format!("test -p duralog-core --no-default-features --test left_out{part}");
        let name = format!("what a tiny device leaves out{}", part.replace(" --features ", ", but "));
        steps.push(Step::new(name, with(cargo(), &test)).counting_tests());
    }
    let (_, needs) = cargo_for("build", LOGGING_TARGET, "core");
    let sizes = with(cargo(), "run --quiet --package xtask -- sizes --check");
    steps.push(Step::new("sizes", sizes).needing(needs).needing(sizes::NEEDS));
    steps.extend(firmware::on_each_board());
    steps
}

fn wasm() -> Vec<Step> {
    let (command, needs) = cargo_for("build", "wasm32-unknown-unknown", "std,panic_abort");
    vec![Step::new("core", with(command, "-p duralog-core")).needing(needs).needing([WASM_LD])]
}

/// A few of the mutants, other ones with each commit; `cargo xtask mutants` tries them all.
fn mutants() -> Vec<Step> {
    vec![Step::new("a few", with(cargo(), "run --quiet --package xtask -- mutants --few 5")).needing([STRACE])]
}

/// The group commit under the model checker, and one of the defects planted there, another one with each commit.
fn schedules() -> Vec<Step> {
    vec![Step::new("with one defect planted", with(cargo(), "run --quiet --package xtask -- schedules --few"))]
}

/// Type checks of the published libraries for systems that no test runs on.
fn cross() -> Vec<Step> {
    CROSS_TARGETS
        .map(|target| {
            let (command, needs) = cargo_for("check", target, "std");
            let step = Step::new(target, with(command, "-p duralog-core -p duralog")).needing(needs);
            if target.contains("windows") { step.needing([DLLTOOL]) } else { step }
        })
        .into()
}
