//! One command of a part: runs it with its output on the terminal, and counts what passed.

use core::time::Duration;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::tools::Tool;

/// A command to run, and what it needs.
pub(crate) struct Step {
    /// Its name, unique in its part.
    pub(crate) name: String,
    /// Without these it is left out.
    pub(crate) needs: Vec<Tool>,
    /// Without these it does less.
    pub(crate) wants: Vec<Tool>,
    command: Command,
    counts_tests: bool,
}

/// What a step came to.
pub(crate) struct Outcome {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) time: Duration,
}

impl Step {
    pub(crate) fn new(name: impl Into<String>, command: Command) -> Self {
        Self { name: name.into(), needs: Vec::new(), wants: Vec::new(), command, counts_tests: false }
    }

    pub(crate) fn needing(mut self, tools: impl IntoIterator<Item = Tool>) -> Self {
        self.needs.extend(tools);
        self
    }

    pub(crate) fn wanting(mut self, tools: impl IntoIterator<Item = Tool>) -> Self {
        self.wants.extend(tools);
        self
    }

    /// The command's own tests count, in place of the command.
    pub(crate) fn counting_tests(mut self) -> Self {
        self.counts_tests = true;
        self
    }

    /// Runs the command. Its standard output passes through, line by line.
    pub(crate) fn run(mut self) -> Outcome {
        let start = Instant::now();
        let (mut passed, mut failed) = (0, 0);
        let succeeded = self.stream(|line| {
            if let Some(counts) = test_counts(line) {
                passed += counts.0;
                failed += counts.1;
            }
        });
        let succeeded = succeeded.unwrap_or_else(|why| {
            println!("cannot run {:?}: {why}", self.command.get_program());
            false
        });
        if !self.counts_tests {
            (passed, failed) = (u64::from(succeeded), u64::from(!succeeded));
        } else if !succeeded {
            failed = failed.max(1);
        }
        Outcome { passed, failed, time: start.elapsed() }
    }

    fn stream(&mut self, mut see: impl FnMut(&str)) -> io::Result<bool> {
        let mut child = self.command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        if let Some(output) = child.stdout.take() {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line)? > 0 {
                io::stdout().write_all(&line)?;
                see(&String::from_utf8_lossy(&line));
                line.clear();
            }
        }
        Ok(child.wait()?.success())
    }
}

/// Passed and failed of a line such as `test result: ok. 12 passed; 0 failed; 1 ignored; ...`.
fn test_counts(line: &str) -> Option<(u64, u64)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |word| counts.split("; ").find_map(|part| part.strip_suffix(word)?.trim().parse().ok());
    Some((count(" passed")?, count(" failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_result_lines_only() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n";
        assert_eq!(test_counts(line), Some((12, 3)));
        assert_eq!(test_counts("test result: ok\n"), None);
        assert_eq!(test_counts("test lsn::tests::order ... ok\n"), None);
    }

    #[test]
    fn a_command_that_cannot_run_has_failed_once() {
        let outcome = Step::new("none", Command::new("./no such program")).counting_tests().run();
        assert_eq!((outcome.passed, outcome.failed), (0, 1));
    }
}
