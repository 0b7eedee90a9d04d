//! Mutants: the code broken on purpose, one small patch at a time. Each has to be noticed by the tests that it names.
//!
//! ```text
//! mutants/NAME.patch ──► a copy of the tree, patched ──► its tests built and run ──► each fails by its assertion
//! ```
//!
//! A patch that no longer applies or does not compile proves nothing: then the check has failed. So it has if a test
//! passes, fails otherwise than by an assertion of its own, or has not ended after a while.

mod bench;
mod patch;
mod verdict;

use std::time::Instant;

pub(crate) use self::bench::Bench;
use self::{patch::Mutant, verdict::Verdict};
use crate::{
    report::seconds,
    tools::{output, root},
};

/// Runs the mutants that are asked for, all if none is. Returns whether each of them was killed.
pub(crate) fn run(arguments: &[String]) -> Result<bool, String> {
    let wanted = Wanted::parse(arguments)?;
    let all = patch::all()?;
    let count = all.len();
    let mutants = wanted.choose(all)?;
    if wanted.list {
        for mutant in &mutants {
            println!("{}: {}", mutant.name, mutant.what);
        }
        return Ok(true);
    }
    if mutants.len() < count {
        let names: Vec<&str> = mutants.iter().map(|mutant| &mutant.name[..]).collect();
        println!("{} of {count} mutants: {}", names.len(), names.join(", "));
    }
    let start = Instant::now();
    let bench = Bench::new("mutants")?;
    // Without the mutants every test passes, else its failure says nothing of them.
    let mut sound: Vec<(&[String], Vec<&str>)> = Vec::new();
    for mutant in &mutants {
        let tests = mutant.killed_by.iter().map(String::as_str);
        match sound.iter_mut().find(|(run, _)| *run == mutant.run) {
            Some((_, known)) => known.extend(tests),
            None => sound.push((&mutant.run, tests.collect())),
        }
    }
    for (run, tests) in &sound {
        let output = bench.test(run, tests)?;
        if let Some(test) = tests.iter().find(|test| !verdict::passed(&output, test)) {
            return Err(format!(
                "`{test}` does not pass without any mutant, or is not in `cargo test {}`",
                run.join(" ")
            ));
        }
    }
    println!("{:>8}  the tests that kill pass without any mutant\n", seconds(start.elapsed()));
    let mut alive = Vec::new();
    for mutant in &mutants {
        let start = Instant::now();
        let verdicts = try_out(&bench, mutant);
        println!("{:>8}  {}: {}", seconds(start.elapsed()), mutant.name, mutant.what);
        match verdicts {
            Ok(verdicts) => {
                for (test, verdict) in &verdicts {
                    println!("          {}", verdict.told(test));
                }
                if !verdicts.iter().all(|(_, verdict)| matches!(verdict, Verdict::Killed(_))) {
                    alive.push(&mutant.name);
                }
            }
            Err(why) => {
                println!("          FAILED: {why}");
                alive.push(&mutant.name);
            }
        }
    }
    let (all, killed) = (mutants.len(), mutants.len() - alive.len());
    println!("\n{killed} of {all} mutants killed, in {}", seconds(start.elapsed()));
    for name in &alive {
        println!("not killed: {name}");
    }
    Ok(alive.is_empty())
}

fn try_out<'a>(bench: &Bench, mutant: &'a Mutant) -> Result<Vec<(&'a str, Verdict)>, String> {
    let patched = bench.apply(mutant)?;
    let tests: Vec<&str> = mutant.killed_by.iter().map(String::as_str).collect();
    let output = bench.test(&mutant.run, &tests);
    // First of all: the next mutant begins from sound code.
    bench.restore(patched)?;
    let output = output?;
    Ok(tests
        .into_iter()
        .map(|test| (test, verdict::of(&output, test, &mut |file, line| bench.source(file, line))))
        .collect())
}

/// Which mutants are asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    names: Vec<String>,
    slice: Option<(usize, usize)>,
    few: Option<usize>,
    list: bool,
}

impl Wanted {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut wanted = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
            match argument.as_str() {
                "--list" => wanted.list = true,
                "--few" => {
                    let few = arguments.next().and_then(|few| number(few));
                    wanted.few = Some(few.ok_or("--few takes a number from 1 on")?);
                }
                "--slice" => {
                    let slice = arguments.next().and_then(|slice| slice.split_once('/'));
                    let slice = slice.and_then(|(which, of)| Some((number(which)?, number(of)?)));
                    wanted.slice =
                        Some(slice.filter(|(which, of)| which <= of).ok_or("--slice takes K/N, with K from 1 to N")?);
                }
                other if other.starts_with('-') => return Err(format!("no option `{other}` of mutants")),
                name => wanted.names.push(name.to_owned()),
            }
        }
        Ok(wanted)
    }

    fn choose(&self, mutants: Vec<Mutant>) -> Result<Vec<Mutant>, String> {
        if let Some(name) = self.names.iter().find(|name| !mutants.iter().any(|mutant| mutant.name == **name)) {
            return Err(format!("no mutant `{name}`; `cargo xtask mutants --list` lists them"));
        }
        let named = |mutant: &Mutant| self.names.is_empty() || self.names.contains(&mutant.name);
        let mutants: Vec<Mutant> = mutants.into_iter().filter(named).collect();
        let chosen = match (self.slice, self.few) {
            (Some((which, of)), _) => slice(mutants.len(), which - 1, of),
            (None, Some(few)) => {
                let of = mutants.len().div_ceil(few).max(1);
                slice(mutants.len(), turn_of_the_commit() % of, of)
            }
            (None, None) => 0..mutants.len(),
        };
        Ok(mutants.into_iter().skip(chosen.start).take(chosen.len()).collect())
    }
}

/// The part `which`, from 0, of `of` parts that differ in length by one at most.
fn slice(len: usize, which: usize, of: usize) -> core::ops::Range<usize> {
    len * which / of..len * (which + 1) / of
}

/// A number that the commit at hand chooses.
pub(crate) fn turn_of_the_commit() -> usize {
    turn(&head())
}

/// A number that another commit makes another one.
fn turn(commit: &str) -> usize {
    usize::from_str_radix(commit.get(..7).unwrap_or_default(), 16).unwrap_or(0)
}

/// The commit at hand; empty where there is none.
fn head() -> String {
    let mut git = std::process::Command::new("git");
    output(git.current_dir(root()).args(["rev-parse", "HEAD"])).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_hold_every_mutant_once() {
        for (len, of) in [(0, 1), (1, 3), (12, 5), (40, 8), (41, 9)] {
            let all: Vec<usize> = (0..of).flat_map(|which| slice(len, which, of)).collect();
            assert_eq!(all, (0..len).collect::<Vec<_>>(), "{len} in {of} parts");
        }
        assert_ne!(turn("316a6af0000"), turn("2d9d84d0000"));
        assert_eq!(turn(""), 0);
    }

    #[test]
    fn what_is_asked_for_is_understood_or_refused() {
        let parse = |text: &str| Wanted::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let wanted = parse("a --slice 2/5 b").unwrap();
        assert_eq!((wanted.names, wanted.slice), (vec!["a".to_owned(), "b".to_owned()], Some((2, 5))));
        assert_eq!(parse("--few 5").unwrap().few, Some(5));
        for text in ["--slice", "--slice 3", "--slice 0/2", "--slice 3/2", "--few 0", "--few x", "--all"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
