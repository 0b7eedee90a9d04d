//! What a log takes of a microcontroller: code, memory, stack, instructions, and places that could panic. The figures
//! stand in `firmware/README.md`, in tables that are read and written here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::compiler::{self, target_folder};
use crate::firmware::{self, FOLDER};
use crate::tools::{self, LLD, LLVM_OBJDUMP, LLVM_SIZE, LLVM_SYMBOLIZER, QEMU_ARM, Tool, output};

/// The board whose code is measured.
const MEASURED: &str = "thumbv7em-none-eabihf";
/// What the firmware is built with to be measured: the yardstick, what is looked at for panics, the one that runs.
const BUILDS: [(&str, &str); 7] = [
    ("without a log", ""),
    (SMALL, "recover,table,mending,metadata,checkpoints"),
    ("append and recover, table of 64 bytes", "recover,mending,metadata,checkpoints"),
    ("append and recover, no table", "recover,no-table,mending,metadata,checkpoints"),
    ("append and recover, without mending, metadata and checkpoints", "recover,table"),
    (WHOLE, "all,table,mending,metadata,checkpoints"),
    (COUNT, "count,table,mending,metadata,checkpoints"),
];
const SMALL: &str = "append and recover";
const WHOLE: &str = "everything";
/// Its size is of no account.
const COUNT: &str = "instructions";
const STACK: &str = "stack of an opening";
/// What a figure may grow by, in percent, before it has to be looked at.
const GROWTH: u64 = 2;
/// Lives of the firmware in which its stack is measured; each but the first ends by a power cut.
const LIVES: u32 = 12;
/// The size of the emulated flash.
const FLASH: usize = 48 * 1024;

/// What the measurements need.
pub(crate) const NEEDS: [Tool; 5] = [LLD, LLVM_SIZE, LLVM_OBJDUMP, LLVM_SYMBOLIZER, QEMU_ARM];

/// Prints the figures; with `--check` it compares them with the page, with `--write` it puts them into it.
pub(crate) fn run(arguments: &[String]) -> Result<bool, String> {
    let (check, write) = match arguments {
        [] => (false, false),
        [one] if one == "--check" => (true, false),
        [one] if one == "--write" => (false, true),
        _ => return Err("sizes [--check | --write]".into()),
    };
    let found = measure()?;
    for (name, bytes) in &found.figures {
        println!("{name}: {bytes}");
    }
    for (file, sites) in &found.panics {
        println!("{file} could panic at {sites} places");
    }
    println!(
        "on {MEASURED} with {}, opt-level s, LTO; sizes are differences to the firmware without a log",
        found.compiler
    );
    let page = tools::root().join("firmware").join("README.md");
    let text = fs::read_to_string(&page).map_err(|why| format!("cannot read {}: {why}", page.display()))?;
    if write {
        fs::write(&page, found.written(&text)).map_err(|why| format!("cannot write {}: {why}", page.display()))?;
    }
    Ok(!check || found.is_as_said(&text))
}

/// What was measured.
struct Found {
    compiler: String,
    figures: Vec<(String, u64)>,
    /// Places that could panic, by file.
    panics: BTreeMap<String, u64>,
    /// Instructions that a part without compare-and-swap does not have.
    atomics: usize,
}

impl Found {
    /// Whether the page says so: no figure has grown, and no place that could panic is new.
    fn is_as_said(&self, page: &str) -> bool {
        let mut faults = Vec::new();
        if self.atomics > 0 {
            faults.push(format!("{} instructions are compare-and-swap", self.atomics));
        }
        for (file, sites) in &self.panics {
            let said = row(page, file).and_then(|row| row.parse().ok()).unwrap_or(0);
            if *sites > said {
                faults.push(format!("{file} could panic at {sites} places, and the page gives reasons for {said}"));
            }
        }
        if !page.contains(&self.compiler) {
            println!("The figures of firmware/README.md are another compiler's: they are not compared.");
        } else {
            for (name, bytes) in &self.figures {
                match row(page, name).and_then(|row| row.parse::<u64>().ok()) {
                    Some(said) if *bytes <= said + said * GROWTH / 100 => {}
                    Some(said) => faults.push(format!("{name}: {bytes}, which were {said}")),
                    None => faults.push(format!("{name}: not in the page")),
                }
            }
        }
        for fault in &faults {
            println!("{fault}");
        }
        if !faults.is_empty() {
            println!("Make it smaller, or say what it is worth: cargo xtask sizes --write");
        }
        faults.is_empty()
    }

    /// The page with these figures.
    fn written(&self, page: &str) -> String {
        let line = |line: &str| {
            if line.starts_with("Measured with ") {
                return format!("Measured with {}.", self.compiler);
            }
            let Some(name) = line.strip_prefix("| ").and_then(|rest| rest.split(" | ").next()) else {
                return line.into();
            };
            match self.figures.iter().find(|(figure, _)| figure == name) {
                Some((_, bytes)) => format!("| {name} | {bytes} |"),
                None => line.to_owned(),
            }
        };
        page.lines().map(|text| line(text) + "\n").collect()
    }
}

/// The second column of the row with this name.
fn row<'a>(page: &'a str, name: &str) -> Option<&'a str> {
    page.lines().find_map(|line| line.strip_prefix("| ")?.strip_prefix(name)?.strip_prefix(" | ")?.split(" |").next())
}

fn measure() -> Result<Found, String> {
    let mut found = Found { compiler: String::new(), figures: Vec::new(), panics: BTreeMap::new(), atomics: 0 };
    let mut without = None;
    for (name, features) in BUILDS {
        let flags = format!("--no-default-features --features {features}");
        let flags = if features.is_empty() { "--no-default-features" } else { &flags };
        let (mut command, needs) = firmware::build(MEASURED, FOLDER, flags);
        if let Some(fault) = needs.into_iter().chain(NEEDS).find_map(Tool::fault) {
            return Err(fault);
        }
        found.compiler = compiler::version(&command);
        if !command.status().is_ok_and(|status| status.success()) {
            return Err(format!("the firmware {name} was not built"));
        }
        let program = firmware::program(MEASURED, FOLDER);
        if name == COUNT {
            found.figures.extend(instructions(&program)?);
            continue;
        }
        let sections = sections(&program)?;
        let Some(base) = without else {
            without = Some(sections);
            continue;
        };
        let [text, rodata, data, bss] = [0, 1, 2, 3].map(|at| sections[at].saturating_sub(base[at]));
        found.figures.push((format!("{name}: `.text`"), text));
        found.figures.push((format!("{name}: `.rodata`"), rodata));
        if name == SMALL {
            found.figures.push((format!("{name}: static RAM"), data + bss));
            (found.panics, found.atomics) = panics(&program)?;
        }
        if name == WHOLE {
            found.figures.push((STACK.into(), stack(&program)?));
        }
    }
    Ok(found)
}

/// Bytes of `.text`, `.rodata`, `.data` and `.bss`.
fn sections(program: &Path) -> Result<[u64; 4], String> {
    let table = output(Command::new("llvm-size").arg("-A").arg(program)).ok_or("llvm-size failed")?;
    let size = |name: &str| {
        let line = table.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
    };
    Ok([".text", ".rodata", ".data", ".bss"].map(size))
}

/// The functions of the standard library that end in a panic.
const PANICKING: [&str; 6] =
    ["panicking", "slice_index_fail", "len_mismatch_fail", "slice_error_fail", "unwrap_failed", "expect_failed"];

/// How many calls of something that panics there are in each file of the library, and how many instructions are
/// compare-and-swap.
fn panics(program: &Path) -> Result<(BTreeMap<String, u64>, usize), String> {
    let code = output(Command::new("llvm-objdump").args(["-d", "--no-show-raw-insn"]).arg(program));
    let code = code.ok_or("llvm-objdump failed")?;
    let atomics = code.lines().filter(|line| line.contains("\tldrex") || line.contains("\tstrex")).count();
    let panics = |line: &&str| {
        let target = line.rsplit_once('<').map_or("", |(_, target)| target);
        line.contains("\tb") && !target.contains("+0x") && PANICKING.iter().any(|name| target.contains(name))
    };
    let calls = code.lines().filter(panics).filter_map(|line| line.trim_start().split(':').next());
    let mut files = BTreeMap::new();
    let mut symbolizer = Command::new("llvm-symbolizer");
    symbolizer.arg(format!("--obj={}", program.display())).arg("--inlines");
    symbolizer.args(calls.map(|address| format!("0x{address}")));
    let places = output(&mut symbolizer).ok_or("llvm-symbolizer failed")?;
    for place in places.split("\n\n") {
        let root = tools::root();
        let in_root =
            |line: &'_ str| Path::new(line.rsplitn(3, ':').nth(2)?).strip_prefix(&root).ok().map(Path::to_owned);
        // The innermost one is where it is written; what the firmware itself does is its own.
        match place.lines().find_map(in_root) {
            Some(file) if file.starts_with("core") || file.starts_with("backends") => {
                *files.entry(file.display().to_string()).or_insert(0) += 1;
            }
            _ => {}
        }
    }
    Ok((files, atomics))
}

/// The most stack that an opening takes, by the paint it leaves in the emulator, over some lives on one flash.
fn stack(program: &Path) -> Result<u64, String> {
    let folder: PathBuf = target_folder().join("firmware").join(FOLDER).join("flash");
    fs::create_dir_all(&folder).map_err(|why| format!("cannot make {}: {why}", folder.display()))?;
    fs::write(folder.join("flash.bin"), vec![0xFF; FLASH]).map_err(|why| format!("cannot write the flash: {why}"))?;
    let mut most = 0;
    for life in 0..LIVES {
        let cut = if life == 0 { String::new() } else { format!(",arg={}", 120 + life * 7) };
        let semihosting = format!("enable=on,target=native,arg=firmware,arg={life},arg=12,arg={life}{cut}");
        let mut emulator = Command::new("timeout");
        emulator.args(["60", "qemu-system-arm", "-cpu", "cortex-m4", "-machine", "mps2-an386"]);
        emulator.args(["-nographic", "-monitor", "none", "-semihosting-config", &semihosting, "-kernel"]).arg(program);
        let done = emulator.current_dir(&folder).stdin(Stdio::null()).output();
        let done = done.map_err(|why| format!("cannot run the emulator: {why}"))?;
        let text = String::from_utf8_lossy(&done.stdout);
        let told = text.lines().filter_map(|line| line.strip_prefix("stack ")?.trim().parse::<u64>().ok()).max();
        // 0: it came to its end; 2: the power went.
        match (told, done.status.code()) {
            (Some(bytes), Some(0 | 2)) => most = most.max(bytes),
            _ => return Err(format!("life {life} failed: {text}{}", String::from_utf8_lossy(&done.stderr))),
        }
    }
    Ok(most)
}

/// What the firmware counts, and what it is called in the page.
const COUNTED: [(&str, &str); 4] = [
    ("append", "an append of 64 bytes, durable: instructions"),
    ("beginning", "the same where it begins a segment: instructions"),
    ("opening", "opening a log of two entries: instructions"),
    ("recovery", "recovery, for each KiB in the newest segment: instructions"),
];

/// The instructions that the log takes, by an emulator that takes a nanosecond for each of them.
fn instructions(program: &Path) -> Result<Vec<(String, u64)>, String> {
    let mut emulator = Command::new("timeout");
    emulator.args(["60", "qemu-system-arm", "-cpu", "cortex-m4", "-machine", "mps2-an386", "-icount", "shift=0"]);
    emulator.args(["-nographic", "-monitor", "none", "-semihosting-config", "enable=on,target=native", "-kernel"]);
    let done = emulator.arg(program).stdin(Stdio::null()).output();
    let done = done.map_err(|why| format!("cannot run the emulator: {why}"))?;
    let text = String::from_utf8_lossy(&done.stdout);
    let told = |name: &str| {
        let told = text.lines().find_map(|line| line.strip_prefix("count ")?.strip_prefix(name)?.trim().parse().ok());
        told.filter(|_| done.status.success())
    };
    let figure = |(name, title): (&str, &str)| Some((title.to_owned(), told(name)?));
    COUNTED
        .into_iter()
        .map(figure)
        .collect::<Option<_>>()
        .ok_or_else(|| format!("the instructions were not counted: {text}{}", String::from_utf8_lossy(&done.stderr)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "Measured with rustc 1.\n| a: `.text` | 100 |\n| core/src/x.rs | 2 | a reason |\n";

    fn found(bytes: u64, sites: u64) -> Found {
        let figures = vec![("a: `.text`".to_owned(), bytes)];
        let panics = BTreeMap::from([("core/src/x.rs".to_owned(), sites)]);
        Found { compiler: "rustc 1".into(), figures, panics, atomics: 0 }
    }

    #[test]
    fn growth_beyond_two_percent_and_a_new_place_to_panic_are_told() {
        assert!(found(102, 2).is_as_said(PAGE));
        assert!(!found(103, 2).is_as_said(PAGE));
        assert!(!found(100, 3).is_as_said(PAGE));
        let other = Found { compiler: "rustc 2".into(), ..found(500, 2) };
        assert!(other.is_as_said(PAGE), "another compiler's figures say nothing");
        let unknown = Found { panics: BTreeMap::from([("core/src/y.rs".to_owned(), 1)]), ..found(100, 2) };
        assert!(!unknown.is_as_said(PAGE));
        assert!(!Found { atomics: 1, ..found(100, 2) }.is_as_said(PAGE));
    }

    #[test]
    fn figures_are_written_into_their_rows_and_nothing_else_changes() {
        let other = Found { compiler: "rustc 2".into(), ..found(90, 2) };
        assert_eq!(other.written(PAGE), PAGE.replace("100", "90").replace("rustc 1", "rustc 2"));
    }
}
