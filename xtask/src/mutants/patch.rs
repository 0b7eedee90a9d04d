//! The patches, and what their heads say.

use std::{fs, path::PathBuf};

use crate::tools::root;

/// A mutant: a patch, and the tests that have to notice it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mutant {
    /// The patch's name.
    pub(super) name: String,
    /// What the patched code does wrong.
    pub(super) what: String,
    /// The arguments of `cargo test` for the suite.
    pub(super) run: Vec<String>,
    /// Tests of that suite, by their full names.
    pub(super) killed_by: Vec<String>,
    /// The files that it changes, by their places in the repository.
    pub(super) files: Vec<String>,
    pub(super) path: PathBuf,
}

/// All patches, in the order of their names.
pub(super) fn all() -> Result<Vec<Mutant>, String> {
    let folder = root().join("xtask").join("mutants");
    let list = fs::read_dir(&folder).map_err(|why| format!("cannot list {}: {why}", folder.display()))?;
    let paths = list.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == "patch")).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).map_err(|why| format!("cannot read {}: {why}", path.display()))?;
        let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        parse(name, path, &text)
    };
    paths.into_iter().map(read).collect()
}

fn parse(name: String, path: PathBuf, text: &str) -> Result<Mutant, String> {
    let head = || text.lines().take_while(|line| !line.starts_with("diff "));
    let field =
        |key: &'static str| head().filter_map(move |line| line.strip_prefix(key)).map(|value| value.trim().to_owned());
    let one = |key: &'static str| field(key).next().ok_or_else(|| format!("{name}: the line `{key}` is missing"));
    let what = one("Mutant:")?;
    let run: Vec<String> = one("Run: cargo test ")?.split_whitespace().map(str::to_owned).collect();
    let killed_by: Vec<String> = field("Killed-by:").collect();
    let files: Vec<String> = text.lines().filter_map(|line| line.strip_prefix("+++ b/")).map(str::to_owned).collect();
    if killed_by.is_empty() || files.is_empty() {
        return Err(format!("{name}: no line `Killed-by:`, or nothing to change"));
    }
    Ok(Mutant { name, what, run, killed_by, files, path })
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        process::Command,
    };

    use super::*;
    use crate::tools::is_ci;

    #[test]
    fn the_head_of_a_patch_says_what_it_breaks_and_who_notices() {
        let text = "Mutant: it does nothing\nRun: cargo test -p some-tests --test suite\nKilled-by: one\nKilled-by: two\n\n\
                    diff --git a/x.rs b/x.rs\n--- a/x.rs\n+++ b/x.rs\n@@ -1 +1 @@\n-a\n+Killed-by: three\n";
        let mutant = parse("name".into(), "name.patch".into(), text).unwrap();
        assert_eq!(mutant.what, "it does nothing");
        assert_eq!(mutant.run, ["-p", "some-tests", "--test", "suite"]);
        assert_eq!((mutant.killed_by, mutant.files), (vec!["one".into(), "two".into()], vec!["x.rs".to_owned()]));
        for missing in ["Mutant:", "Run:", "+++ b/"] {
            assert!(parse("name".into(), "name.patch".into(), &text.replace(missing, "")).is_err(), "{missing}");
        }
    }

    #[test]
    fn every_patch_applies_to_the_code_as_it_is() {
        let mutants = all().unwrap();
        assert!(mutants.len() >= 40, "{} mutants", mutants.len());
        for mutant in mutants {
            let mut git = Command::new("git");
            // Whether or not the tree is a repository of its own.
            git.current_dir(root()).args(["apply", "--check", "--recount"]).arg(&mutant.path);
            let Ok(applied) = git.output() else {
                assert!(!is_ci(), "without git nothing tells whether a patch applies");
                return eprintln!("left out: whether the mutants apply, for git is missing");
            };
            let why = String::from_utf8_lossy(&applied.stderr);
            assert!(applied.status.success(), "fit {} to the code again: {why}", mutant.path.display());
        }
    }

    /// The folder of the suite that is to kill, and in it the files that its tests may stand in.
    fn sources(mutant: &Mutant) -> Vec<PathBuf> {
        let behind = |option: &str| {
            let at = mutant.run.iter().position(|word| word == option)?;
            mutant.run.get(at + 1).map(String::as_str)
        };
        let folder = match behind("-p") {
            Some("duralog-core") => "core",
            Some("duralog") => "backends",
            Some("duralog-cli") => "cli",
            Some("duralog-tests") => "tests",
            other => panic!("{}: tests of {other:?}", mutant.name),
        };
        if let Some(suite) = behind("--test") {
            return vec![root().join(folder).join("tests").join(format!("{suite}.rs"))];
        }
        let (mut files, mut left) = (Vec::new(), vec![root().join(folder).join("src")]);
        while let Some(path) = left.pop() {
            if path.is_dir() {
                left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else {
                files.push(path);
            }
        }
        files
    }

    #[test]
    fn the_page_of_the_suites_names_beside_each_suite_the_mutants_that_it_kills_and_no_others() {
        let page = fs::read_to_string(root().join("tests").join("README.md")).unwrap();
        let mut rows = BTreeMap::<String, BTreeSet<String>>::new();
        for mutant in all().unwrap() {
            let row = match &mutant.run[..] {
                [_, package, _, suite] if package == "duralog-tests" => format!("| `{suite}` | "),
                run => format!("- `cargo test {}`: ", run.join(" ")),
            };
            rows.entry(row).or_default().insert(mutant.name);
        }
        for (row, mutants) in &rows {
            let told: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(row)).collect();
            let [told] = told[..] else { panic!("the page has {} lines `{row}`", told.len()) };
            let told: BTreeSet<String> = told.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            assert_eq!(&told, mutants, "behind {row}");
        }
        // A suite that is named with mutants, and in the head of none, kills nothing. Without any it has a reason.
        let table = page.lines().filter(|line| line.starts_with("| `") && line.matches(" | ").count() == 1);
        for line in table.filter(|line| !rows.keys().any(|row| line.starts_with(row))) {
            assert!(line.contains("` | none: ") || line.contains("` | none of its own: "), "no mutant names {line}");
        }
    }

    #[test]
    fn every_mutant_is_to_be_killed_by_a_test_that_is_there() {
        for mutant in all().unwrap() {
            let sources: Vec<_> = sources(&mutant).iter().map(|file| fs::read_to_string(file).unwrap()).collect();
            for test in &mutant.killed_by {
                let name = format!("fn {}()", test.rsplit("::").next().unwrap());
                assert!(sources.iter().any(|text| text.contains(&name)), "{}: there is no test {test}", mutant.name);
            }
        }
    }
}
