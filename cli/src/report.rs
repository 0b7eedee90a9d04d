//! Reports of recovery, as JSON and as text.

use core::fmt::Write as _;
use std::path::Path;

use duralog::{Finding, Lsn, Object as Stored, Policy, RecoveryReport, Seen, Verdict, Witness};
use serde_json::{Value, json};

use crate::{
    exit::Failure,
    outcome::{Object, count, object},
    paint::Paint,
};

/// How a policy is called on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PolicyArg {
    /// Anything dropped or damaged is refused
    Strict,
    /// A torn tail is cut off, damage is refused
    #[default]
    Default,
    /// The log ends before the first damage
    PointInTime,
    /// Damage is skipped, and what is missing is listed
    Salvage,
}

impl From<PolicyArg> for Policy {
    fn from(policy: PolicyArg) -> Self {
        match policy {
            PolicyArg::Strict => Self::Strict,
            PolicyArg::Default => Self::Default,
            PolicyArg::PointInTime => Self::PointInTime,
            PolicyArg::Salvage => Self::Salvage,
        }
    }
}

const fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::Strict => "strict",
        Policy::Default => "default",
        Policy::PointInTime => "point-in-time",
        Policy::Salvage => "salvage",
        Policy::Inspect => "inspect",
    }
}

/// The LSNs whose entries were read and verified, where every entry was read: all there are but those that are gone.
fn verified(report: &RecoveryReport) -> Vec<(Lsn, Lsn)> {
    let mut gone: Vec<_> = report.findings.iter().filter_map(|finding| finding.lsns).collect();
    gone.sort_unstable();
    let mut verified = Vec::new();
    let mut from = report.low_water.max(Lsn::FIRST);
    for (first, last) in gone.into_iter().chain([(report.last_valid_lsn.next_or_max(), Lsn::MAX)]) {
        let first = first.min(report.last_valid_lsn.next_or_max());
        if from < first {
            verified.push((from, first.previous()));
        }
        from = from.max(last.next_or_max());
    }
    verified
}

/// The fields that `verify` and `recover` tell.
pub(crate) fn fields(report: &RecoveryReport) -> Object {
    let verified = verified(report);
    object(json!({
        "success": report.success,
        "clean": report.clean,
        "writable": report.writable,
        "entries_recovered": report.entries_recovered,
        "entries_skipped": report.entries_skipped,
        "entries_replayed": report.entries_replayed,
        "last_valid_lsn": report.last_valid_lsn.value(),
        "durable_lsn": report.durable_lsn.value(),
        "low_water_lsn": report.low_water.value(),
        "checkpoint_used": report.checkpoint_used.map(|(id, lsn)| json!({"id": id.value(), "lsn": lsn.value()})),
        "duration_ms": report.duration_us / 1000,
        "errors": report.damage().map(error).collect::<Vec<_>>(),
        "verified": verified.first().map(span),
        "verified_ranges": verified.iter().map(span).collect::<Vec<_>>(),
        "torn_tail": report.torn_tail.map(|torn| json!({
            "segment": torn.segment.value(),
            "file": Stored::Segment(torn.segment).to_string(),
            "offset": torn.offset,
            "len": torn.len,
            "verdict": torn.verdict.name(),
            "entries": torn.frames,
        })),
        "damage": report.findings.iter().filter(|finding| !report.is_gap(finding)).map(damage).collect::<Vec<_>>(),
        "gaps": report.gaps().map(|(first, last)| json!({"first_lsn": first.value(), "last_lsn": last.value()}))
            .collect::<Vec<_>>(),
        "closed": report.closed,
        "repersisted": report.repersisted,
        "policy": policy_name(report.policy),
        "log_id": report.log_id.to_string(),
        "epoch": report.epoch,
    }))
}

fn span((from, to): &(Lsn, Lsn)) -> Value {
    json!({"from": from.value(), "to": to.value()})
}

fn error(finding: &Finding) -> Value {
    json!({
        "lsn": finding.lsns.map(|(first, _)| first.value()),
        "segment": segment(finding),
        "message": finding.to_string(),
        "fatal": true,
    })
}

fn damage(finding: &Finding) -> Value {
    json!({
        "verdict": finding.verdict.name(),
        "segment": segment(finding),
        "file": finding.object.to_string(),
        "offset": finding.offset,
        "len": finding.len,
        "first_lsn": finding.lsns.map(|(first, _)| first.value()),
        "last_lsn": finding.lsns.map(|(_, last)| last.value()),
        "witness": finding.witness.map(|witness| witness.to_string()),
        "message": finding.to_string(),
        "harmless": finding.harmless,
    })
}

fn segment(finding: &Finding) -> Option<u64> {
    match finding.object {
        Stored::Segment(id) => Some(id.value()),
        Stored::Checkpoint(_) | Stored::Meta => None,
    }
}

/// What a report fails with, if it does.
pub(crate) fn failure(dir: &Path, report: &RecoveryReport) -> Option<Failure> {
    if let Some(finding) = report.damage().next() {
        let count = report.damage().count() as u64;
        return Some(Failure::Damage { dir: dir.to_owned(), finding: Box::new(*finding), count });
    }
    if let (Policy::Strict, Some(torn)) = (report.policy, report.torn_tail) {
        let message = format!(
            "{}: the policy `strict` refuses a torn tail: {} in {} at offset {}",
            dir.display(),
            count(torn.len.into(), "byte", "bytes"),
            Stored::Segment(torn.segment),
            torn.offset
        );
        return Some(Failure::Refused { dir: dir.to_owned(), message });
    }
    None
}

/// Of an image that ends too early, which `cut_off` tells, nothing is known for sound.
pub(crate) fn weigh(report: &mut RecoveryReport, cut_off: Option<&Failure>) {
    if cut_off.is_some() {
        (report.success, report.clean, report.writable) = (false, false, false);
    }
}

/// Damaged entries by which nothing is lost, for a checkpoint holds what they did; not what was given up before.
pub(crate) fn covered_damage(dir: &Path, report: &RecoveryReport) -> Option<Failure> {
    let is_covered = |finding: &&Finding| {
        finding.harmless && finding.lsns.is_some() && !finding.verdict.is_torn_tail() && !report.is_gap(finding)
    };
    let finding = *report.findings.iter().find(is_covered)?;
    let count = report.findings.iter().filter(is_covered).count() as u64;
    Some(Failure::Damage { dir: dir.to_owned(), finding: Box::new(finding), count })
}

fn range((first, last): (Lsn, Lsn)) -> String {
    if first == last { format!("LSN {}", first.value()) } else { format!("LSN {} to {}", first.value(), last.value()) }
}

/// What log it is, in two lines.
pub(crate) fn heading(dir: &Path, report: &RecoveryReport) -> String {
    let held = if report.last_valid_lsn < report.low_water {
        "no entries".to_owned()
    } else {
        let durable = match report.durable_lsn {
            Lsn::ZERO => "none known to be durable".to_owned(),
            durable if durable >= report.last_valid_lsn => "all durable".to_owned(),
            durable => format!("durable for certain to {}", durable.value()),
        };
        format!("{}, {durable}", range((report.low_water, report.last_valid_lsn)))
    };
    let ends_early = |finding: &Finding| matches!(finding.witness, Some(Witness::Caller { .. }));
    let closed = match report.closed {
        true => "closed cleanly",
        false if report.findings.iter().any(ends_early) => "it ends before what was expected",
        false => "not closed: in use, or stopped by a crash",
    };
    format!("{}  log {}, epoch {}\n{held}; {closed}\n", dir.display(), report.log_id, report.epoch)
}

/// How many entries there are.
fn held(report: &RecoveryReport) -> String {
    let whole = format!("{} whole", report.entries_recovered);
    match report.entries_skipped {
        0 => whole,
        gone => format!("{whole}, {gone} not"),
    }
}

/// What damage has taken.
enum Takes {
    Nothing,
    Entries,
    Unknown,
}

fn damage_takes(report: &RecoveryReport) -> Takes {
    // A segment that has lost its header, and is read by that of its successor.
    let is_read = |finding: &Finding| {
        finding.seen == Seen::BadSegmentHeader && matches!(finding.witness, Some(Witness::Successor(_)))
    };
    if report.damage().any(|finding| finding.lsns.is_some()) {
        Takes::Entries
    } else if report.damage().all(is_read) {
        Takes::Nothing
    } else {
        Takes::Unknown
    }
}

/// The findings in words, one a line, and the verdict at the end; `cut_off` is what an image lacks that ends too early.
pub(crate) fn words(report: &RecoveryReport, cut_off: Option<&Failure>, paint: Paint) -> String {
    let mut text = String::new();
    let mut line = |name: &str, what: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<11}{what}");
    };
    let verified: Vec<String> = verified(report).into_iter().map(range).collect();
    line("verified", if verified.is_empty() { "no entries".to_owned() } else { verified.join(", ") });
    line("entries", held(report));
    if let Some((id, lsn)) = report.checkpoint_used {
        // Where no state was built up, nobody counted.
        let behind = match report.entries_replayed {
            0 => String::new(),
            replayed => format!(", {} behind it", count(replayed, "entry", "entries")),
        };
        line("checkpoint", format!("{} at LSN {}{behind}", id.value(), lsn.value()));
    }
    if let Some(torn) = report.torn_tail {
        let why = match torn.verdict {
            Verdict::Unsynced => "a crash left it, nothing of it was acknowledged",
            _ => "nothing proves that it was durable",
        };
        let frames = match torn.frames {
            0 => String::new(),
            frames => format!(" with {}", count(frames.into(), "whole entry", "whole entries")),
        };
        line(
            "torn tail",
            paint.yellow(&format!(
                "{}{frames} in {} from offset {}: {why}",
                count(torn.len.into(), "byte", "bytes"),
                Stored::Segment(torn.segment),
                torn.offset
            )),
        );
    }
    if let Some(id) = report.unfinished {
        line("unfinished", format!("{id}.wal was being made when the writer stopped"));
    }
    if report.repersisted > 0 {
        line(
            "copied",
            count(
                report.repersisted,
                "entry to a new place, for only a cache may have held it",
                "entries to a new place, for only a cache may have held them",
            ),
        );
    }
    for gap in report.gaps() {
        line("gap", paint.yellow(&format!("{} given up before", range(gap))));
    }
    for finding in report.findings.iter().filter(|finding| !report.is_gap(finding)) {
        if finding.harmless {
            line("harmless", paint.yellow(&finding.to_string()));
        } else {
            line("damage", paint.red(&finding.to_string()));
        }
    }
    if let Some(cut_off) = cut_off {
        line("cut off", paint.red(&cut_off.to_string()));
    }
    let verdict = if cut_off.is_some() {
        paint.red("not all of the log is in the image: nothing is known of what is missing")
    } else if !report.success {
        paint.red(match damage_takes(report) {
            Takes::Nothing => "damaged, but no entry is missing so far: `export` gives them all",
            Takes::Entries => "damaged: entries that were durable are gone",
            Takes::Unknown => "damaged: entries that were durable may be gone",
        })
    } else if report.torn_tail.is_some_and(|torn| torn.verdict == Verdict::Unproven) {
        paint.yellow(
            "sound as far as anything proves: a crash or damage left the torn tail, and what it held may have been \
             acknowledged (--expect-durable LSN tells)",
        )
    } else if report.torn_tail.is_some() {
        paint.green("sound: a crash left a torn tail, which is normal; nothing acknowledged is lost")
    } else if report.findings.iter().any(|finding| finding.harmless && !report.is_gap(finding)) {
        paint
            .yellow("sound but for what is listed, by which nothing is lost: a checkpoint holds it, or it stands twice")
    } else {
        paint.green("sound")
    };
    let _ = writeln!(text, "{verdict}");
    text
}
