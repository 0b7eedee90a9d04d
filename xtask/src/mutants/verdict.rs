//! What a test made of a mutant, by what the test's program printed.

/// What a test made of a mutant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It failed by an assertion of its own, which says this.
    Killed(String),
    /// It failed, but not by an assertion: by this.
    Otherwise(String),
    /// It passed.
    Survived,
    /// It is not there, or did not come to an end.
    Missing,
}

impl Verdict {
    pub(super) fn told(&self, test: &str) -> String {
        match self {
            Self::Killed(message) => format!("killed by {test}: {message}"),
            Self::Otherwise(message) => format!("FAILED: {test} failed, but not by an assertion of its own: {message}"),
            Self::Survived => format!("FAILED: {test} passes"),
            Self::Missing => format!("FAILED: {test} did not run to its end"),
        }
    }
}

/// Whether the test passed.
pub(super) fn passed(output: &str, test: &str) -> bool {
    result(output, test) == Some("ok")
}

/// The word behind a line such as `test a_name ... ok`.
fn result<'a>(output: &'a str, test: &str) -> Option<&'a str> {
    output.lines().find_map(|line| line.strip_prefix("test ")?.strip_prefix(test)?.strip_prefix(" ... "))
}

/// What the test made of it. `source` gives the text of a file at and above a line, from 1: the place of a panic.
pub(super) fn of(output: &str, test: &str, source: &mut dyn FnMut(&str, usize) -> Option<String>) -> Verdict {
    match result(output, test) {
        Some("ok") => return Verdict::Survived,
        Some("FAILED") => {}
        _ => return Verdict::Missing,
    }
    let section = output.split(&format!("---- {test} stdout ----\n")).nth(1).unwrap_or_default();
    let section = section.split("\n---- ").next().unwrap_or_default();
    let mut lines = section.lines();
    // The last word is the test's: what it caught before, and what other threads said, is not.
    let mut last = None;
    while let Some(line) = lines.next() {
        let thread = line.strip_prefix(&format!("thread '{test}' "));
        if let Some((_, place)) = thread.and_then(|line| line.split_once("panicked at ")) {
            last = Some((place.trim_end_matches(':'), lines.next().unwrap_or_default()));
        }
    }
    let Some((place, message)) = last else { return Verdict::Otherwise("it did not panic".into()) };
    let shown = format!("{} ({place})", short(message));
    let mut parts = place.rsplitn(3, ':');
    let (column, line, file) = (parts.next(), parts.next(), parts.next());
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<usize>().ok());
    let (Some(column), Some(line), Some(file)) = (number(column), number(line), file) else {
        return Verdict::Otherwise(shown);
    };
    let Some(text) = source(file, line) else { return Verdict::Otherwise(shown) };
    let is_test = file.split(['/', '\\']).any(|part| part == "tests") || text.contains("#[cfg(test)]");
    let at = text.lines().last().and_then(|text| text.get(column.saturating_sub(1)..)).unwrap_or_default();
    let asserts = message.starts_with("assertion ") || at.starts_with("assert") || at.starts_with("panic!");
    if is_test && asserts { Verdict::Killed(shown) } else { Verdict::Otherwise(shown) }
}

fn short(message: &str) -> String {
    const MOST: usize = 120;
    match message.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &message[..end]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\nrunning 4 tests\ntest good ... ok\ntest bad ... FAILED\ntest broken ... FAILED\n\
        test deep ... FAILED\n\nfailures:\n\n---- bad stdout ----\nsome words\n\n\
        thread 'bad' (17) panicked at tests/tests/a.rs:3:5:\nit lost 7\nnote: run with\n\n\
        ---- broken stdout ----\n\nthread 'broken' panicked at tests/tests/a.rs:2:5:\ncalled `Result::unwrap()` on an `Err` \
        value\n\n---- deep stdout ----\n\nthread 'deep' panicked at core/src/b.rs:1:1:\nassertion failed: a\n\n\nfailures:\n";

    fn verdict(test: &str) -> Verdict {
        let source = ["fn bad() {", "    x.unwrap();", "    assert!(a, \"it lost {b}\");"];
        of(OUTPUT, test, &mut |_, line| Some(source[..line].join("\n")))
    }

    #[test]
    fn a_kill_is_a_failure_by_an_assertion_of_the_test() {
        assert_eq!(verdict("bad"), Verdict::Killed("it lost 7 (tests/tests/a.rs:3:5)".into()));
        assert!(matches!(verdict("broken"), Verdict::Otherwise(_)), "an error that nobody expected is no assertion");
        assert!(matches!(verdict("deep"), Verdict::Otherwise(_)), "an assertion of the code is none of the test");
        assert_eq!(verdict("good"), Verdict::Survived);
        assert_eq!(verdict("ba"), Verdict::Missing);
        assert!(passed(OUTPUT, "good") && !passed(OUTPUT, "bad") && !passed(OUTPUT, "none"));
    }
}
