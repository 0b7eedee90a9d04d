//! What the steps came to: a line for each as it ends, and the whole at the end.

use core::time::Duration;

use crate::step::Outcome;

/// Results so far.
#[derive(Default)]
pub(crate) struct Report {
    passed: u64,
    failed: u64,
    lines: Vec<String>,
    failures: Vec<String>,
    left_out: Vec<String>,
}

impl Report {
    pub(crate) fn step(&mut self, name: &str, outcome: &Outcome) {
        self.passed += outcome.passed;
        self.failed += outcome.failed;
        let verdict = if outcome.failed == 0 { "ok" } else { "FAILED" };
        if outcome.failed > 0 {
            self.failures.push(name.to_owned());
        }
        self.line(format!("{:>8}  {name}: {verdict}", seconds(outcome.time)));
    }

    pub(crate) fn part(&mut self, name: &str, time: Duration) {
        self.line(format!("{:>8}  {name} in all", seconds(time)));
    }

    /// A step, or what it does, could not be done for want of tools.
    pub(crate) fn left_out(&mut self, what: String, is_failure: bool) {
        println!("left out: {what}");
        self.failed += u64::from(is_failure);
        self.left_out.push(what);
    }

    fn line(&mut self, line: String) {
        println!("{line}\n");
        self.lines.push(line);
    }

    /// Prints the whole; the last line holds the counts. Returns whether nothing failed.
    pub(crate) fn finish(self) -> bool {
        println!("{}", self.lines.join("\n"));
        for name in &self.failures {
            println!("failed: {name}");
        }
        for what in &self.left_out {
            println!("left out: {what}");
        }
        println!("{} passed, {} failed", self.passed, self.failed);
        self.failed == 0
    }
}

pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
