//! The fuzz targets, built with the compiler that is there: libFuzzer needs the passes that count branches, which the
//! stable compiler has too and lets be used under `RUSTC_BOOTSTRAP`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::compiler::{cargo, target_folder};
use crate::tools::root;

const USAGE: &str = "cargo xtask fuzz [--seconds N] [TARGET ...]";
/// How long each target runs unless said otherwise.
const SECONDS: u64 = 10;
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
/// Bytes of an input at most: an image of a few segments.
const LONGEST: u32 = 16 << 10;
/// A call that takes longer hangs, and one that takes more memory allocates what it should not.
const LIMITS: [&str; 3] = ["-timeout=20", "-rss_limit_mb=2048", "-malloc_limit_mb=512"];

/// Runs the targets named, all if none is, one after the other. Returns whether none found anything.
pub(crate) fn run(arguments: &[String]) -> Result<bool, String> {
    let (mut seconds, mut names) = (SECONDS, Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--seconds" => {
                let number = rest.next().and_then(|number| number.parse().ok());
                seconds = number.ok_or("`--seconds` takes a number")?;
            }
            option if option.starts_with('-') => return Err(format!("no option `{option}`; {USAGE}")),
            name => names.push(name.to_owned()),
        }
    }
    let targets = targets()?;
    if let Some(name) = names.iter().find(|name| !targets.contains(name)) {
        return Err(format!("no target `{name}`; there are {}", targets.join(", ")));
    }
    let programs = build()?;
    let mut found = Vec::new();
    for target in targets.iter().filter(|target| names.is_empty() || names.contains(target)) {
        if !fuzz(&programs, target, seconds)? {
            found.push(target.as_str());
        }
    }
    for target in &found {
        println!("failed: {target}; the input is in fuzz/artifacts/{target}");
    }
    println!("{} targets found something", found.len());
    Ok(found.is_empty())
}

/// The names of the targets: those that have a corpus.
fn targets() -> Result<Vec<String>, String> {
    let place = root().join("fuzz").join("fuzz_targets");
    let entries = fs::read_dir(&place).map_err(|why| format!("{}: {why}", place.display()))?;
    let mut names: Vec<_> =
        entries.filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned())).collect();
    names.sort_unstable();
    Ok(names)
}

/// Builds all targets into a folder of their own, and gives the folder with the programs.
fn build() -> Result<PathBuf, String> {
    let host = crate::tools::output(Command::new("rustc").arg("-vV"))
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("host: ").map(str::to_owned)))
        .ok_or("rustc does not say which system this is")?;
    let target = target_folder().join("fuzz");
    let built = cargo()
        .current_dir(root().join("fuzz"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", &target)
        // With a target named, the flags are not for build scripts and macros.
        .args(["build", "--release", "--target", &host])
        .status();
    match built {
        Ok(status) if status.success() => Ok(target.join(host).join("release")),
        Ok(_) => Err("the fuzz targets do not build".into()),
        Err(why) => Err(format!("cargo: {why}")),
    }
}

/// Runs one target from its seeds; what it learns is kept in the target folder for the next time.
fn fuzz(programs: &Path, target: &str, seconds: u64) -> Result<bool, String> {
    let failed = |why: std::io::Error| format!("{target}: {why}");
    let learnt = target_folder().join("fuzz").join("corpus").join(target);
    let artifacts = root().join("fuzz").join("artifacts").join(target);
    for folder in [&learnt, &artifacts] {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    println!("== {target}, {seconds} s");
    let output = Command::new(programs.join(target))
        .args([&learnt, &root().join("fuzz").join("corpus").join(target)])
        .args(LIMITS)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg("-print_final_stats=1")
        .output()
        .map_err(failed)?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        println!("{said}");
        return Ok(false);
    }
    let figures = ["stat::number_of_executed_units:", "stat::average_exec_per_sec:", "stat::peak_rss_mb:"];
    let figure = |name| said.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
    let [runs, rate, memory] = figures.map(|name| figure(name).unwrap_or("?"));
    println!("{target}: {runs} runs, {rate} a second, {memory} MB");
    Ok(true)
}
