//! The table: one row a side and workload.

use core::time::Duration;
use std::fmt;

use crate::{
    machine::Machine,
    ratio::{Outcome, Quartiles},
};

/// One row.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Row {
    /// What was done, as the speed page names it.
    pub(crate) workload: String,
    /// Bytes of a payload, where the workload has one.
    pub(crate) payload: Option<usize>,
    /// Who did it.
    pub(crate) side: String,
    /// Millions of bytes a second.
    pub(crate) megabytes: Option<f64>,
    /// Appends a second.
    pub(crate) appends: Option<f64>,
    /// The worst hundredth of the appends took at least this many microseconds.
    pub(crate) worst_us: Option<f64>,
    /// The rate divided by the baseline's.
    pub(crate) ratio: Option<Quartiles>,
    /// A time in milliseconds, where that is what is measured.
    pub(crate) milliseconds: Option<f64>,
    /// The ratio, or the time in milliseconds, that is aimed at.
    pub(crate) target: Option<f64>,
    /// The noise of the comparison: half the distance of the quartiles of the baseline against itself.
    pub(crate) noise: Option<f64>,
}

impl Row {
    /// A row for a time.
    pub(crate) fn time(workload: &str, side: &str, time: Duration, target: Option<Duration>) -> Self {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        Self {
            workload: workload.into(),
            payload: None,
            side: side.into(),
            megabytes: None,
            appends: None,
            worst_us: None,
            ratio: None,
            milliseconds: Some(milliseconds(time)),
            target: target.map(milliseconds),
            noise: None,
        }
    }

    /// The rows of one comparison.
    pub(crate) fn of(workload: &str, payload: usize, target: Option<f64>, outcomes: &[Outcome]) -> Vec<Self> {
        let noise = outcomes.get(2).map(|outcome| outcome.ratio.noise());
        let row = |(index, outcome): (usize, &Outcome)| Self {
            workload: workload.into(),
            payload: Some(payload),
            side: if index == 2 { format!("{} (noise)", outcome.name) } else { outcome.name.clone() },
            megabytes: Some(outcome.rate / 1e6),
            appends: (outcome.appends > 0.0).then_some(outcome.appends),
            worst_us: outcome.worst.map(|time| time.as_secs_f64() * 1e6),
            ratio: Some(outcome.ratio),
            milliseconds: None,
            target: target.filter(|_| index == 0),
            noise: noise.filter(|_| index == 0),
        };
        outcomes.iter().enumerate().map(row).collect()
    }

    /// Whether the target is met, less the noise.
    pub(crate) fn meets(&self) -> Option<bool> {
        let target = self.target?;
        match (self.ratio, self.milliseconds) {
            (Some(ratio), _) => Some(ratio.median >= target - self.noise.unwrap_or_default()),
            (_, Some(time)) => Some(time <= target),
            _ => None,
        }
    }
}

/// All rows, with the machine.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Table {
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
}

impl Table {
    /// What stands above the rows.
    pub(crate) fn head(&self) -> String {
        format!(
            "{}\n\n| workload | payload | side | MB/s | appends/s | worst 1 % | ratio (quartiles) | target | met |\n\
             |---|--:|---|--:|--:|--:|---|---|---|",
            self.machine
        )
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |figure: Option<f64>, digits: usize| figure.map_or_else(String::new, |n| format!("{n:.digits$}"));
        let measured = match (self.ratio, self.milliseconds) {
            (Some(Quartiles { low, median, high }), _) => format!("{median:.2} ({low:.2} to {high:.2})"),
            (_, Some(time)) => format!("{time:.2} ms"),
            _ => String::new(),
        };
        let met = match (self.meets(), self.noise) {
            (Some(_), Some(noise)) if noise > 0.1 => format!("noise {noise:.2}"),
            (Some(true), _) => "yes".into(),
            (Some(false), _) => "no".into(),
            (None, _) => String::new(),
        };
        write!(
            f,
            "| {} | {} | {} | {} | {} | {} | {measured} | {} | {met} |",
            self.workload,
            self.payload.map_or_else(String::new, |payload| payload.to_string()),
            self.side,
            number(self.megabytes, 1),
            number(self.appends, 0),
            self.worst_us.map_or_else(String::new, |us| format!("{us:.0} us")),
            number(self.target, 2),
        )
    }
}
