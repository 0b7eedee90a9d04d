//! Instruction counts of the hot paths: the same on a busy machine as on an idle one.
//!
//! Valgrind counts them, on the code path that it can run: of the processor's extensions it knows AVX2 and no AVX-512.
//! The figures are kept in `bench/instructions.txt` with what they hold for: the compiler, the C library, and whether the
//! processor has AVX2.

use std::process::Command;

use crate::bench::bench_cargo;
use crate::tools::{self, VALGRIND, output, root};

/// How far a count may be above its figure: a twentieth.
const LIMIT: u64 = 20;

/// Counts, and compares with the figures; with `--write` they are replaced. Returns whether none is too far above.
pub(crate) fn run(arguments: &[String]) -> Result<bool, String> {
    let write = match arguments {
        [] => false,
        [only] if only == "--write" => true,
        _ => return Err("`cargo xtask instructions` takes `--write` or nothing".into()),
    };
    tools::provide(&[VALGRIND]);
    if let Some(why) = VALGRIND.fault() {
        return Err(why);
    }
    let compiler = platform()?;
    let file = root().join("bench/instructions.txt");
    let text = std::fs::read_to_string(&file).map_err(|why| format!("{}: {why}", file.display()))?;
    let (kept_for, figures) = figures(&text)?;
    if compiler != kept_for && !write {
        println!("The figures hold for {kept_for}; this is {compiler}: they are printed and not compared.");
    }
    let program = build()?;
    let (mut lines, mut all_fit) = (Vec::new(), true);
    for (path, figure) in figures {
        let count = count(&program, path)?;
        let change = 100.0 * (count as f64 / figure as f64 - 1.0);
        let fits = count <= figure + figure / LIMIT || compiler != kept_for || write;
        println!("{path:>20} {count:>10} instructions, {change:+.1} % {}", if fits { "" } else { "TOO MANY" });
        all_fit &= fits;
        lines.push(format!("{path} {count}\n"));
    }
    if write {
        let text =
            format!("# Instructions of 1,000 entries; `cargo xtask instructions --write` replaces them.\n{compiler}\n");
        std::fs::write(&file, text + &lines.concat()).map_err(|why| format!("{}: {why}", file.display()))?;
    }
    Ok(all_fit)
}

/// A path and its count.
type Figure<'a> = (&'a str, u64);

/// What the counts depend on besides the code.
fn platform() -> Result<String, String> {
    let compiler = output(Command::new("rustc").arg("--version")).ok_or("rustc does not run")?;
    let library = output(Command::new("getconf").arg("GNU_LIBC_VERSION")).unwrap_or_default();
    let has_avx2 = std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains(" avx2 "));
    let avx2 = if has_avx2 { "AVX2" } else { "no AVX2" };
    Ok(format!("{}, {}, {avx2}", compiler.trim(), library.trim()))
}

/// What the figures hold for, and the figures.
fn figures(text: &str) -> Result<(&str, Vec<Figure<'_>>), String> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let compiler = lines.next().ok_or("bench/instructions.txt names no compiler")?;
    let figure = |line| {
        let (path, count) = str::split_once(line, ' ')?;
        Some((path, count.parse().ok()?))
    };
    let figures = lines.map(|line| figure(line).ok_or_else(|| format!("bench/instructions.txt: what is `{line}`?")));
    Ok((compiler, figures.collect::<Result<_, _>>()?))
}

/// Builds the program that is counted; returns where it is.
fn build() -> Result<String, String> {
    let mut command = bench_cargo();
    command.args(["build", "--release", "--quiet", "--bin", "instructions", "--message-format", "json"]);
    let messages = output(&mut command).ok_or("the program that is counted could not be built")?;
    let built = messages.lines().filter_map(|line| line.split_once("\"executable\":\"")?.1.split_once('"'));
    built.map(|(path, _)| path.to_owned()).next_back().ok_or_else(|| "cargo named no program".to_owned())
}

fn count(program: &str, path: &str) -> Result<u64, String> {
    let valgrind = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=instructions::counted*"])
        .args(["--callgrind-out-file=/dev/null", program, path])
        .output()
        .map_err(|why| format!("cannot run valgrind: {why}"))?;
    let said = String::from_utf8_lossy(&valgrind.stderr);
    let count = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    count.filter(|count| *count > 0).ok_or_else(|| format!("valgrind counted nothing of {path}:\n{said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_with_their_compiler() {
        let text = "# a note\nrustc 1.95.0 (5 2026)\nappend 12\ndecode 7\n";
        assert_eq!(figures(text), Ok(("rustc 1.95.0 (5 2026)", vec![("append", 12), ("decode", 7)])));
        assert!(figures("rustc 1\nappend twelve\n").is_err_and(|why| why.contains("append twelve")));
    }
}
