//! What `README.md` of this crate says of the suites, held against them.
#![allow(missing_docs)]

use std::{collections::BTreeSet, fs, path::Path};

const README: &str = include_str!("../README.md");

/// The rows of a table of the page whose first cell begins like that, cell by cell.
fn rows(first: &str) -> Vec<Vec<&str>> {
    let rows = README.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.map(|row| row.split(" | ").collect()).filter(|row: &Vec<&str>| row[0].starts_with(first)).collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn suites() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let suites = files.filter(|file| file.extension().is_some_and(|end| end == "rs"));
    suites.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Whether there is a test of this name, which is a suite and a function in it.
fn is_there(test: &str) -> bool {
    let Some((suite, name)) = test.split_once("::") else { return false };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(format!("{suite}.rs"));
    let text = fs::read_to_string(file).unwrap_or_default();
    let head = format!("fn {name}()");
    text.split("#[test]").skip(1).chain(text.split("#[tokio::test").skip(1)).any(|after| {
        let first = after.lines().find(|line| line.contains("fn ")).unwrap_or_default();
        first.contains(&head)
    })
}

#[test]
fn every_fault_and_every_invariant_is_named_with_a_test_that_is_there() {
    for (letter, last) in [("F", 28), ("I", 12)] {
        for number in 1..=last {
            let name = format!("{letter}{number}");
            let rows = rows(&name).into_iter().filter(|row| row[0] == name).collect::<Vec<_>>();
            let [row] = &rows[..] else { panic!("{name} has {} rows", rows.len()) };
            let tests: Vec<&str> = quoted(row[2]).collect();
            assert!(!tests.is_empty(), "{name} is named by no test");
            for test in tests {
                assert!(is_there(test), "{name}: there is no test {test}");
            }
        }
    }
    assert!(!is_there("exhaustive::search") && !is_there("none::an_append"));
}

#[test]
fn every_suite_has_mutants_that_it_kills_or_a_reason() {
    let rows = rows("`");
    for suite in suites() {
        let named = rows.iter().filter(|row| quoted(row[0]).next() == Some(&suite)).count();
        assert_eq!(named, 1, "the suite {suite} has {named} rows in the table of suites");
    }
    for row in &rows {
        let suite = quoted(row[0]).next().unwrap();
        assert!(row.len() == 2 && !row[1].trim().is_empty(), "{suite} has neither mutants nor a reason");
    }
}
