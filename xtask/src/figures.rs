//! The figures of `tests/README.md`: counted anew by the suites, and put into the page.

use std::fs;

use crate::{
    compiler::{cargo, target_folder},
    tools::root,
};

/// Runs the suites and replaces each figure that came out otherwise. Returns whether every one has its line in the page.
pub(crate) fn run(arguments: &[String]) -> Result<bool, String> {
    if !arguments.is_empty() {
        return Err("`figures` takes no arguments".into());
    }
    let counted = target_folder().join("figures");
    let _ = fs::remove_file(&counted);
    let mut suites = cargo();
    suites.args(["test", "-p", "duralog-tests", "--tests", "--no-fail-fast"]).env("DURALOG_FIGURES", &counted);
    let passed = suites.status().map_err(|why| format!("cannot run cargo: {why}"))?.success();
    if !passed {
        println!("a suite failed: what it counted may be missing");
    }
    let counted = fs::read_to_string(&counted).map_err(|why| format!("no suite counted anything: {why}"))?;
    let page = root().join("tests").join("README.md");
    let text = fs::read_to_string(&page).map_err(|why| format!("cannot read {}: {why}", page.display()))?;
    let (text, missing) = replaced(&text, counted.lines());
    for line in &missing {
        println!("not in {}: {line}", page.display());
    }
    fs::write(&page, text).map_err(|why| format!("cannot write {}: {why}", page.display()))?;
    Ok(passed && missing.is_empty())
}

/// The page with these figures in it, and those that it has no line for.
fn replaced<'a>(page: &str, figures: impl Iterator<Item = &'a str>) -> (String, Vec<&'a str>) {
    let mut lines: Vec<&str> = page.lines().collect();
    let mut missing = Vec::new();
    for figure in figures {
        let name = figure.split_once(": ").map_or(figure, |(name, _)| name);
        let is_named = |line: &&mut &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(": "));
        match lines.iter_mut().find(is_named) {
            Some(line) => *line = figure,
            None => missing.push(figure),
        }
    }
    (lines.join("\n") + "\n", missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_replaces_the_line_of_its_name_and_no_other() {
        let page = "text\na cut: 3 points\na cut, twice: 5 points\n";
        let (text, missing) = replaced(page, ["a cut: 4 points", "a kill: 1 point"].into_iter());
        assert_eq!(text, "text\na cut: 4 points\na cut, twice: 5 points\n");
        assert_eq!(missing, ["a kill: 1 point"]);
    }
}
