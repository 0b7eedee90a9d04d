//! The drawing of a log: a row for each segment, with what it holds and how full it is.
//!
//! ```text
//!  segment              LSN  fill
//!       1         1 to 1021  ████████████████████████████████   99 %  sealed
//!       2      1022 to 2000  ██████████████████×███≈·········   65 %  active
//! ```

use core::fmt::Write as _;

use duralog::{Object as Stored, RecoveryReport, SegmentId, SegmentInfo, SegmentState};

use crate::{
    outcome::{bytes, count},
    paint::Paint,
    segments::Inventory,
};

/// Cells of a bar.
const WIDTH: u8 = 32;
/// Rows at each end of a long log; between them stand only those that something is wrong with.
const ENDS: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Used,
    Free,
    Damage,
    TornTail,
}

/// Draws the log.
pub(crate) fn draw(inventory: &Inventory, report: &RecoveryReport, paint: Paint) -> String {
    let mut text = format!("{:>10}  {:>24}  fill\n", "segment", "LSN");
    let mut left_out: Vec<&SegmentInfo> = Vec::new();
    let segments = &inventory.segments;
    for (index, segment) in segments.iter().enumerate() {
        let at_an_end = index < ENDS || index + ENDS >= segments.len();
        if at_an_end
            || is_marked(segment.id, report)
            || !matches!(segment.state, SegmentState::Active | SegmentState::Sealed)
        {
            summarise(&mut text, &mut left_out, paint);
            row(&mut text, segment, report, paint);
        } else {
            left_out.push(segment);
        }
    }
    summarise(&mut text, &mut left_out, paint);
    if let Some((id, lsn)) = report.checkpoint_used {
        let _ = writeln!(text, "{:>10}  {:>24}", format!("ckpt {}", id.value()), format!("up to {}", lsn.value()));
    }
    let _ = writeln!(
        text,
        "{}, {}, {}",
        count(segments.len() as u64, "segment", "segments"),
        count(inventory.checkpoints.len() as u64, "checkpoint", "checkpoints"),
        bytes(inventory.total_bytes)
    );
    text
}

fn is_marked(id: SegmentId, report: &RecoveryReport) -> bool {
    report.findings.iter().any(|finding| finding.object == Stored::Segment(id))
        || report.torn_tail.is_some_and(|torn| torn.segment == id)
}

/// One line for the segments that were left out.
fn summarise(text: &mut String, left_out: &mut Vec<&SegmentInfo>, paint: Paint) {
    let (Some(first), Some(last)) = (left_out.first(), left_out.last()) else { return };
    let lsns =
        first.lsns.zip(last.lsns).map_or(String::new(), |((first, _), (_, last))| lsns(first.value(), last.value()));
    let line = format!(
        "{:>10}  {lsns:>24}  {} with nothing to note",
        format!("{}..{}", first.id.value(), last.id.value()),
        count(left_out.len() as u64, "segment", "segments")
    );
    let _ = writeln!(text, "{}", paint.dim(&line));
    left_out.clear();
}

fn lsns(first: u64, last: u64) -> String {
    if first == last { first.to_string() } else { format!("{first} to {last}") }
}

fn row(text: &mut String, segment: &SegmentInfo, report: &RecoveryReport, paint: Paint) {
    let held = match segment.lsns {
        Some((first, last)) => lsns(first.value(), last.value()),
        None => "no entries".to_owned(),
    };
    let capacity = segment.capacity.unwrap_or(segment.bytes).max(1);
    let percent = segment.used.map_or("     ".to_owned(), |used| format!("{:>3} %", used * 100 / capacity));
    let _ = writeln!(
        text,
        "{:>10}  {held:>24}  {}  {percent}  {}",
        segment.id.value(),
        bar(&cells(segment, capacity, report), paint),
        segment.state.name()
    );
}

fn cells(segment: &SegmentInfo, capacity: u64, report: &RecoveryReport) -> Vec<Cell> {
    let cell = |offset: u64| usize::try_from((offset.min(capacity - 1)) * u64::from(WIDTH) / capacity).unwrap_or(0);
    let mut cells = vec![Cell::Free; usize::from(WIDTH)];
    if let Some(used) = segment.used.filter(|used| *used > 0) {
        cells[..=cell(used - 1)].fill(Cell::Used);
    }
    let mut mark = |offset: u64, len: u64, as_what: Cell| {
        cells[cell(offset)..=cell(offset.saturating_add(len.max(1)) - 1)].fill(as_what);
    };
    if let Some(torn) = report.torn_tail.filter(|torn| torn.segment == segment.id) {
        mark(torn.offset.into(), torn.len.into(), Cell::TornTail);
    }
    for finding in report.findings.iter().filter(|finding| finding.object == Stored::Segment(segment.id)) {
        mark(finding.offset, finding.len, Cell::Damage);
    }
    cells
}

fn bar(cells: &[Cell], paint: Paint) -> String {
    let mut bar = String::new();
    for run in cells.chunk_by(|a, b| a == b) {
        match run[0] {
            Cell::Used => bar.push_str(&"█".repeat(run.len())),
            Cell::Free => bar.push_str(&paint.dim(&"·".repeat(run.len()))),
            Cell::Damage => bar.push_str(&paint.red(&"×".repeat(run.len()))),
            Cell::TornTail => bar.push_str(&paint.yellow(&"≈".repeat(run.len()))),
        }
    }
    bar
}
