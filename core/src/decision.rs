//! The decision table: what recovery makes of what it sees at one place of the log.
//!
//! The rows are those of the failure model; the test at the end walks every combination and demands that exactly one
//! row fits.

use crate::report::{Seen, Verdict};

/// What recovery may do about what it finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Policy {
    /// Anything dropped or damaged is refused: for tests, and after a clean close.
    Strict,
    /// A torn tail is cut off and reported; damage is refused, and what stands before it can be read.
    #[default]
    Default,
    /// A torn tail is cut off; the log ends before the first damage, and what is given up is listed.
    PointInTime,
    /// A torn tail is cut off; damage is skipped, and what is missing is listed.
    Salvage,
    /// Everything is reported, nothing written.
    Inspect,
}

impl Policy {
    /// Whether damage is skipped, so that what stands behind it is read too.
    #[must_use]
    pub const fn skips_damage(self) -> bool {
        matches!(self, Self::Salvage | Self::Inspect)
    }
}

/// What is known at one place of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Situation {
    /// What stands there.
    pub(crate) seen: Seen,
    /// A sound frame was found behind it, within the search.
    pub(crate) later: bool,
    /// A witness proves that the LSN expected here was durable.
    pub(crate) witness: bool,
    /// A checkpoint's replay floor or an accepted loss covers that LSN.
    pub(crate) covered: bool,
    /// A batch is open here.
    pub(crate) in_batch: bool,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Take the frame.
    Take,
    /// The log ends here, as it should.
    End,
    /// A crash left this: the log ends here, or where the open batch began.
    Cut,
    /// Damage of this verdict.
    Damage(Verdict),
    /// Damage that costs nothing.
    Harmless,
}

/// One row: a field that is `None` fits both cases.
struct Row {
    #[cfg(test)]
    name: &'static str,
    seen: &'static [Seen],
    later: Option<bool>,
    witness: Option<bool>,
    covered: Option<bool>,
    in_batch: Option<bool>,
    decision: Decision,
}

macro_rules! row {
    ($name:literal, [$($seen:ident)|+], $later:expr, $witness:expr, $covered:expr, $in_batch:expr, $decision:expr) => {
        Row {
            #[cfg(test)]
            name: $name,
            seen: &[$(Seen::$seen),+],
            later: $later,
            witness: $witness,
            covered: $covered,
            in_batch: $in_batch,
            decision: $decision,
        }
    };
}

const ANY: Option<bool> = None;
const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

/// The table. Columns: row, seen, later frame, witness, covered, batch open, decision.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    row!("A",  [Good],                               ANY, ANY, ANY, ANY, Decision::Take),
    row!("B",  [End],                                NO,  NO,  NO,  NO,  Decision::End),
    row!("C",  [End],                                NO,  YES, NO,  NO,  Decision::Damage(Verdict::Rot)),
    row!("D",  [BadHeader | BadEntry],               NO,  NO,  NO,  ANY, Decision::Cut),
    row!("E",  [BadHeader | BadEntry | Hole],        YES, NO,  NO,  ANY, Decision::Cut),
    row!("E2", [End],                                YES, NO,  NO,  NO,  Decision::Cut),
    row!("F",  [BadHeader | BadEntry],               ANY, YES, NO,  NO,  Decision::Damage(Verdict::Rot)),
    row!("F2", [End],                                YES, YES, NO,  NO,  Decision::Damage(Verdict::Rot)),
    row!("G",  [End | BadHeader | BadEntry | Hole],  ANY, ANY, YES, ANY, Decision::Harmless),
    row!("J",  [Unreadable],                         ANY, ANY, NO,  ANY, Decision::Damage(Verdict::Unreadable)),
    row!("J2", [Unreadable],                         ANY, ANY, YES, ANY, Decision::Harmless),
    row!("L",  [Conflict],                           ANY, ANY, ANY, ANY, Decision::Damage(Verdict::Conflict)),
    row!("M2", [Hole],                               ANY, YES, NO,  NO,  Decision::Damage(Verdict::Rot)),
    row!("M",  [Hole],                               NO,  NO,  NO,  ANY, Decision::Cut),
    row!("O",  [Unsupported],                        ANY, ANY, ANY, ANY, Decision::Damage(Verdict::Unsupported)),
    row!("R",  [End],                                ANY, NO,  NO,  YES, Decision::Cut),
    row!("S",  [End | BadHeader | BadEntry | Hole],  ANY, YES, NO,  YES, Decision::Damage(Verdict::Rot)),
];

impl Row {
    fn fits(&self, situation: Situation) -> bool {
        let column = |wanted: Option<bool>, is: bool| wanted.is_none_or(|wanted| wanted == is);
        self.seen.contains(&situation.seen)
            && column(self.later, situation.later)
            && column(self.witness, situation.witness)
            && column(self.covered, situation.covered)
            && column(self.in_batch, situation.in_batch)
    }
}

/// What follows from `situation`, which is about one place between frames.
pub(crate) fn decide(situation: Situation) -> Decision {
    let row = ROWS.iter().find(|row| row.fits(situation));
    debug_assert!(row.is_some(), "the decision table has a row for every situation");
    // Were there none, refusing would be right.
    row.map_or(Decision::Damage(Verdict::Conflict), |row| row.decision)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    const SEEN: [Seen; 8] = [
        Seen::Good,
        Seen::End,
        Seen::BadHeader,
        Seen::BadEntry,
        Seen::Unreadable,
        Seen::Conflict,
        Seen::Hole,
        Seen::Unsupported,
    ];

    fn situations() -> impl Iterator<Item = Situation> {
        SEEN.into_iter().flat_map(|seen| {
            (0..16u8).map(move |bits| Situation {
                seen,
                later: bits & 1 != 0,
                witness: bits & 2 != 0,
                covered: bits & 4 != 0,
                in_batch: bits & 8 != 0,
            })
        })
    }

    #[test]
    fn every_situation_fits_exactly_one_row() {
        for situation in situations() {
            let rows: Vec<_> = ROWS.iter().filter(|row| row.fits(situation)).map(|row| row.name).collect();
            assert_eq!(rows.len(), 1, "{situation:?} fits {rows:?}");
        }
    }

    #[test]
    fn every_row_fits_some_situation() {
        for row in ROWS {
            assert!(situations().any(|situation| row.fits(situation)), "row {}", row.name);
        }
    }

    #[test]
    fn nothing_is_damage_without_a_witness_and_nothing_witnessed_is_cut() {
        for situation in situations() {
            match decide(situation) {
                Decision::Damage(Verdict::Rot) => assert!(situation.witness, "{situation:?}"),
                Decision::Cut | Decision::End => assert!(!situation.witness, "{situation:?}"),
                _ => {}
            }
        }
    }
}
