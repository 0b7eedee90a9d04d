//! Every step that was taken on a medium, for whoever has to understand a failure.

use core::fmt;

use duralog_core::Object;

/// One line of the trace.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// The number of a mutating call.
    pub(super) call: Option<u64>,
    pub(super) step: &'static str,
    pub(super) object: Option<Object>,
    pub(super) span: (u64, u64),
    pub(super) outcome: &'static str,
}

impl Line {
    /// A step without a number, a place and an outcome.
    pub(super) const fn event(step: &'static str, object: Option<Object>) -> Self {
        Self { call: None, step, object, span: (0, 0), outcome: "" }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.call {
            Some(call) => write!(f, "{:>6} {}", format_args!("#{call}").to_string(), self.step)?,
            None => write!(f, "       {}", self.step)?,
        }
        if let Some(object) = self.object {
            write!(f, " {object}")?;
        }
        if self.span != (0, 0) {
            write!(f, " {}+{}", self.span.0, self.span.1)?;
        }
        if self.outcome.is_empty() { Ok(()) } else { write!(f, ": {}", self.outcome) }
    }
}

/// The lines, if they are wanted.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    lines: Vec<Line>,
    /// The last mutating call, kept in any case.
    last: &'static str,
    pub(super) is_kept: bool,
}

impl Trace {
    pub(super) const fn new() -> Self {
        Self { lines: Vec::new(), last: "", is_kept: true }
    }

    pub(super) fn note(&mut self, line: Line) {
        if line.call.is_some() {
            self.last = line.step;
        }
        if self.is_kept {
            self.lines.push(line);
        }
    }

    pub(super) const fn last(&self) -> &'static str {
        self.last
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
