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
    use super::*;

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
    fn every_patch_has_a_head() {
        assert!(all().unwrap().len() >= 12);
    }
}
