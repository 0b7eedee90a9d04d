//! `cargo-mutants` over the core: every small change that it can think of, and what no test notices explained.
//!
//! ```text
//! cargo mutants --list ──► changes ──► all behind switches in one copy ──► unit tests of the core ──► suites, quick ones first
//!                             │                                            survivors go on from one to the next ──► survivors.txt
//!                             └── what has no switch ──► cargo mutants, one copy for each ──────────────────────────────┘
//! ```
//!
//! What no test notices has to stand in `survivors.txt` with a reason, and what stands there must be unnoticed.

mod switch;
mod trial;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    time::Instant,
};

use proc_macro2::LineColumn;
use serde_json::Value;

use self::trial::Outcome;
use crate::{
    compiler::cargo,
    mutants::Bench,
    report::seconds,
    tools::{output, program, root},
};

/// Suites that are quick and look closely; put into one program, for that takes a fraction of the time to build. The swarm
/// runs here with few seeds.
const QUICK: [&str; 19] = [
    "bad_input",
    "chain",
    "checkpoints",
    "core_log",
    "differential",
    "drivers",
    "every_log",
    "format",
    "full",
    "refused_cut",
    "reports",
    "rot",
    "slots",
    "small_buffers",
    "snapshots",
    "state",
    "streams",
    "swarm",
    "unreadable_header",
];
/// Suites that cut everywhere, and the swarm with all its seeds; asked about what the quick ones leave.
const THOROUGH: [&str; 8] =
    ["durability", "exhaustive", "flipped_bytes", "in_place", "ready", "recycling", "swarm", "truncation"];
/// The programs of those two in the copy.
const PROGRAMS: [(&str, &[&str]); 2] = [("all_quick", &QUICK), ("all_thorough", &THOROUGH)];

/// Seeds of each mode that the quick ones run.
const FEW_SEEDS: &str = "2000";

/// After so many seconds what `cargo-mutants` builds or runs is stopped: it hangs, and whoever runs it notices.
const TIME_LIMIT: &str = "300";

/// The stage that is thorough, and runs all seeds.
const LAST: usize = 2;
/// Who is asked, one after the other: about what those before left.
const STAGES: [&[&str]; LAST + 1] = [
    &["-p", "duralog-core", "--all-features", "--lib"],
    &["-p", "duralog-tests", "--test", "all_quick"],
    &["-p", "duralog-tests", "--test", "all_thorough"],
];
/// The same for `cargo mutants`, as what every call of cargo gets: else it would build each suite there is, and run one.
const STAGES_OF_CARGO_MUTANTS: [&[&str]; STAGES.len()] = [
    &["--all-features", "--cargo-arg=--lib"],
    &["--test-package", "duralog-tests", "--cargo-arg=--test=all_quick"],
    &["--test-package", "duralog-tests", "--cargo-arg=--test=all_thorough"],
];

/// A change without its place, which moves with every edit: the file, what is changed, and the how manieth of these.
type Key = (String, String);

/// A change that `cargo-mutants` thinks of.
#[derive(Debug)]
struct Change {
    /// As it names it, with its place.
    name: String,
    file: String,
    /// Of what is replaced: columns count from 0.
    start: LineColumn,
    /// What kind of change it is.
    genre: String,
    replacement: String,
}

impl Change {
    fn parse(change: &Value) -> Option<Self> {
        let text = |key: &str| change[key].as_str().map(str::to_owned);
        let place = |key: &str| change["span"]["start"][key].as_u64().and_then(|number| usize::try_from(number).ok());
        Some(Self {
            name: text("name")?,
            file: text("file")?,
            start: LineColumn { line: place("line")?, column: place("column")?.checked_sub(1)? },
            genre: text("genre")?,
            replacement: text("replacement")?,
        })
    }
}

/// Runs over the files named, or over those of the list. Returns whether the survivors are those of the list.
pub(crate) fn run(arguments: &[String]) -> Result<bool, String> {
    if program("cargo-mutants").is_none() {
        return Err("cargo-mutants is missing: cargo install cargo-mutants --locked".into());
    }
    let path = root().join("xtask").join("survivors.txt");
    let text = fs::read_to_string(&path).map_err(|why| format!("cannot read {}: {why}", path.display()))?;
    let list = List::parse(&text)?;
    if arguments == ["--list"] {
        return tell_counts(&list);
    }
    // Who looks for what is missing wants to see soon what the first of them leave.
    let (stages, arguments) = match arguments {
        [option, count, files @ ..] if option == "--stages" => {
            let count = count.parse().ok().filter(|count| (1..=STAGES.len()).contains(count));
            (count.ok_or_else(|| format!("--stages takes a number from 1 to {}", STAGES.len()))?, files)
        }
        all => (STAGES.len(), all),
    };
    if let Some(option) = arguments.iter().find(|argument| argument.starts_with('-')) {
        return Err(format!("no option `{option}` of survivors"));
    }
    let files: Vec<&str> = match arguments {
        [] => list.files.iter().map(String::as_str).collect(),
        named => named.iter().map(String::as_str).collect(),
    };
    let start = Instant::now();
    let changes = changes(&root(), &files)?;
    let bench = bench()?;
    let outcomes = trial::run(&bench, &changes, &STAGES[..stages])?;
    let no_switch = changes.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Outcome::NoSwitch);
    let no_switch: Vec<&str> = no_switch.map(|(change, _)| &change.name[..]).collect();
    let mut left = BTreeSet::new();
    if !no_switch.is_empty() {
        println!("{} have no switch: cargo-mutants itself makes them, one after the other", no_switch.len());
        left = unnoticed(&self::bench()?, no_switch, &STAGES_OF_CARGO_MUTANTS[..stages])?;
    }
    let survives =
        |(change, outcome): &(&Change, &Outcome)| **outcome == Outcome::Survives || left.contains(&change.name);
    let mut strange = 0;
    for file in files {
        let of_file: Vec<_> = changes.iter().zip(&outcomes).filter(|(change, _)| change.file == file).collect();
        let names: Vec<&str> = of_file.iter().map(|(change, _)| &change.name[..]).collect();
        let keys = keys(&names);
        let survivors: BTreeMap<&Key, &str> = of_file
            .iter()
            .zip(&keys)
            .filter(|(tried, _)| survives(tried))
            .map(|((change, _), key)| (key, &change.name[..]))
            .collect();
        println!("{file}: {} changes, {} survive", of_file.len(), survivors.len());
        let listed = list.of(file);
        for (_, name) in survivors.iter().filter(|(key, _)| !listed.contains(*key)) {
            println!("no test notices, and no line says why: {name}");
            strange += 1;
        }
        for (_, change) in listed.iter().filter(|key| !survivors.contains_key(key)) {
            println!("listed, and there no more or noticed now: {file}: {change}");
            strange += 1;
        }
    }
    println!("\n{strange} that the list has otherwise, in {}", seconds(start.elapsed()));
    Ok(strange == 0)
}

/// A copy of the tree, with the suites put together.
fn bench() -> Result<Bench, String> {
    let bench = Bench::new("survivors")?;
    for (name, suites) in PROGRAMS {
        let program = bench.tree.join("tests").join("tests").join(format!("{name}.rs"));
        fs::write(&program, together(suites)).map_err(|why| format!("cannot write {}: {why}", program.display()))?;
    }
    Ok(bench)
}

/// A program of several suites.
fn together(suites: &[&str]) -> String {
    let modules = suites.iter().map(|suite| format!("#[path = \"{suite}.rs\"]\nmod {suite};\n"));
    format!("//! Suites in one program.\n#![allow(missing_docs)]\n\n{}", modules.collect::<String>())
}

fn in_copy<'a>(bench: &Bench, command: &'a mut Command) -> &'a mut Command {
    command.current_dir(&bench.tree).env("CARGO_TARGET_DIR", &bench.target);
    // A figure that comes out otherwise notices any change, and says nothing of the promises.
    command.env("DURALOG_FIGURES", bench.target.join("figures"));
    // Built often and never debugged.
    command.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_PROFILE_TEST_DEBUG", "0");
    command.env_remove("CARGO_INCREMENTAL").env_remove("RUST_BACKTRACE")
}

/// What a stage is told of how many seeds its swarm runs.
fn seeds(stage: usize) -> Option<(&'static str, &'static str)> {
    (stage < LAST).then_some(("DURALOG_SEEDS", FEW_SEEDS))
}

fn cargo_mutants(folder: &Path) -> Command {
    let mut command = cargo();
    command.current_dir(folder).args(["mutants", "--no-config", "--colors", "never", "-p", "duralog-core"]);
    command
}

/// The changes to files.
fn changes(folder: &Path, files: &[&str]) -> Result<Vec<Change>, String> {
    let mut changes = Vec::new();
    for file in files {
        let listed = output(cargo_mutants(folder).args(["--list", "--json", "-f", file])).unwrap_or_default();
        let listed: Value = serde_json::from_str(&listed).unwrap_or_default();
        let listed = listed.as_array().filter(|listed| !listed.is_empty());
        for change in listed.ok_or_else(|| format!("`cargo mutants` finds nothing to change in {file}"))? {
            let parsed =
                Change::parse(change).ok_or_else(|| format!("`cargo mutants` lists something else: {change}"))?;
            changes.push(parsed);
        }
    }
    Ok(changes)
}

/// What no stage notices of changes, each of which is compiled for itself.
fn unnoticed(bench: &Bench, names: Vec<&str>, stages: &[&[&str]]) -> Result<BTreeSet<String>, String> {
    let mut left: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let told = bench.target.join("told");
    for (number, stage) in stages.iter().enumerate() {
        if left.is_empty() {
            break;
        }
        let _ = fs::remove_dir_all(&told);
        let mut command = cargo_mutants(&bench.tree);
        command.args(["--in-place", "--baseline", "skip", "--cap-lints", "true", "--timeout", TIME_LIMIT]);
        // A loop that is computed while it is compiled may have no end.
        command.args(["--build-timeout", TIME_LIMIT, "--output"]).arg(&told);
        for change in &left {
            let file = change.split(':').next().unwrap_or_default();
            command.args(["-f", file, "--re"]).arg(format!("^{}$", escaped(change)));
        }
        in_copy(bench, &mut command).envs(seeds(number)).args(*stage);
        // It ends otherwise than well where anything survives.
        command.status().map_err(|why| format!("cannot run cargo mutants: {why}"))?;
        let outcomes = |name: &str| -> Result<Vec<String>, String> {
            let path = told.join("mutants.out").join(format!("{name}.txt"));
            let text = fs::read_to_string(&path).map_err(|why| format!("cannot read {}: {why}", path.display()))?;
            // It makes those that leave out a field, whatever it is asked for.
            Ok(text.lines().filter(|name| left.iter().any(|asked| asked == name)).map(str::to_owned).collect())
        };
        let missed = outcomes("missed")?;
        let judged = missed.len() + outcomes("caught")?.len() + outcomes("timeout")?.len();
        if judged + outcomes("unviable")?.len() != left.len() {
            return Err(format!("of {} changes some were not judged", left.len()));
        }
        println!("{} of {} left by {}", missed.len(), left.len(), stage.join(" "));
        left = missed;
    }
    Ok(left.into_iter().collect())
}

/// A name as an expression that finds it alone.
fn escaped(name: &str) -> String {
    let special = |c: char| r"\.+*?()|[]{}^$#&-~".contains(c);
    name.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

/// The keys of a file's changes, in their order.
fn keys(names: &[&str]) -> Vec<Key> {
    let mut seen = BTreeMap::<Key, u32>::new();
    let key = |name: &&str| {
        let mut parts = name.splitn(4, ':');
        let (file, what) = (parts.next().unwrap_or_default(), parts.nth(2).unwrap_or_default().trim());
        let times = seen.entry((file.to_owned(), what.to_owned())).or_default();
        *times += 1;
        let nth = if *times > 1 { format!(" #{times}") } else { String::new() };
        (file.to_owned(), format!("{what}{nth}"))
    };
    names.iter().map(key).collect()
}

/// The changes to each file of the core, and whether it has been run over to its end.
fn tell_counts(list: &List) -> Result<bool, String> {
    let listed = output(cargo_mutants(&root()).arg("--list")).ok_or("cargo mutants lists nothing")?;
    let mut counts = BTreeMap::<&str, usize>::new();
    for file in listed.lines().filter_map(|line| line.split(':').next()) {
        *counts.entry(file).or_default() += 1;
    }
    for (file, count) in &counts {
        let survivors = list.of(file).len();
        let told = if list.files.contains(*file) { format!("{survivors} survive") } else { "not run yet".into() };
        println!("{file}: {count} changes, {told}");
    }
    Ok(true)
}

/// `survivors.txt`: under the name of each file that was run to its end its survivors, under the reason of each.
#[derive(Debug, Default)]
struct List {
    files: BTreeSet<String>,
    survivors: BTreeSet<Key>,
}

impl List {
    fn parse(text: &str) -> Result<Self, String> {
        let mut list = Self::default();
        let (mut file, mut reason) = (None, false);
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = |what: &str| format!("survivors.txt, line {number}: {what}: {line}");
            if let Some(name) = line.strip_prefix("== ") {
                if !list.files.insert(name.to_owned()) {
                    return Err(wrong("the file is there twice"));
                }
                (file, reason) = (Some(name), false);
            } else if line.starts_with("-- ") {
                reason = true;
            } else if line.trim().is_empty() {
                reason = false;
            } else if let Some(file) = file {
                if !reason {
                    return Err(wrong("no reason stands above it"));
                }
                if !list.survivors.insert((file.to_owned(), line.to_owned())) {
                    return Err(wrong("it is there twice"));
                }
            } else if !line.starts_with('#') {
                return Err(wrong("no file stands above it"));
            }
        }
        Ok(list)
    }

    fn of(&self, file: &str) -> BTreeSet<Key> {
        self.survivors.iter().filter(|(of, _)| of == file).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_one_name_are_told_apart_by_their_number() {
        let names = ["a.rs:1:2: replace + with - in f", "a.rs:7:2: replace + with - in f", "a.rs:9:1: delete ! in f"];
        let keys = keys(&names);
        let of = |what: &str| ("a.rs".to_owned(), what.to_owned());
        assert_eq!(keys, [of("replace + with - in f"), of("replace + with - in f #2"), of("delete ! in f")]);
        assert_eq!(escaped("a.rs:1: replace f -> (x) with []"), r"a\.rs:1: replace f \-> \(x\) with \[\]");
    }

    #[test]
    fn a_survivor_has_a_file_and_a_reason() {
        let list = List::parse("# said\n== a.rs\n-- the same\ndelete ! in f\n\n== b.rs\n").unwrap();
        assert_eq!(list.files.len(), 2);
        assert_eq!(list.of("a.rs"), [("a.rs".to_owned(), "delete ! in f".to_owned())].into());
        for wrong in ["x", "== a.rs\nx", "== a.rs\n-- why\n\nx", "== a.rs\n-- why\nx\nx", "== a.rs\n== a.rs"] {
            assert!(List::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_list_names_files_of_the_core_and_the_page_of_the_suites_the_same() {
        let list = List::parse(&fs::read_to_string(root().join("xtask").join("survivors.txt")).unwrap()).unwrap();
        assert!(!list.files.is_empty());
        let page = fs::read_to_string(root().join("tests").join("README.md")).unwrap();
        let told = page.lines().find_map(|line| line.strip_prefix("Run to their end: ")).unwrap();
        let told: BTreeSet<String> =
            told.split('`').skip(1).step_by(2).map(|file| format!("core/src/{file}")).collect();
        assert_eq!(list.files, told);
        for file in list.files {
            assert!(root().join(&file).is_file(), "{file} is no more");
        }
    }

    #[test]
    fn the_suites_that_are_put_together_are_there() {
        for suite in PROGRAMS.iter().flat_map(|(_, suites)| *suites) {
            assert!(root().join("tests").join("tests").join(format!("{suite}.rs")).is_file(), "{suite}");
        }
    }
}
