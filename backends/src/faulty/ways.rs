//! The ways in which a power cut can deal with unsynced operations.

use super::{
    change::{Change, Keep, SECTOR, UnsyncedOp},
    random::Random,
};

/// The subsets of what is unsynced that a power cut can keep: whole operations, and of a write each sector for itself.
///
/// All of them, if they are at most `most`; else those that keep all, nothing, one alone, all but one, and the first few,
/// and a sample of the others, `most` in all. None stands twice in the list.
#[must_use]
pub fn ways(unsynced: &[UnsyncedOp], most: usize, random: &mut Random) -> Vec<Vec<Keep>> {
    let sectors: Vec<usize> = unsynced.iter().map(sectors).collect();
    let total: usize = sectors.iter().sum();
    let way = |kept: &dyn Fn(usize) -> bool| {
        let mut first = 0;
        let keep = |count: &usize| {
            let these: Vec<bool> = (first..first + count).map(kept).collect();
            first += count;
            match (these.iter().all(|kept| *kept), these.iter().any(|kept| *kept)) {
                (true, _) => Keep::All,
                (_, false) => Keep::None,
                _ => Keep::Sectors(these),
            }
        };
        sectors.iter().map(keep).collect::<Vec<_>>()
    };
    let all = u32::try_from(total).ok().and_then(|total| 1usize.checked_shl(total)).filter(|all| *all <= most.max(1));
    if let Some(all) = all {
        return (0..all).rev().map(|set| way(&|n| set >> n & 1 == 1)).collect();
    }
    let mut ways = vec![way(&|_| true), way(&|_| false)];
    let mut add = |way: Vec<Keep>| {
        if ways.len() < most && !ways.contains(&way) {
            ways.push(way);
        }
    };
    for n in 0..total {
        add(way(&|other| other < n));
        add(way(&|other| other != n));
        add(way(&|other| other == n));
    }
    // Some come twice: it ends in any case.
    for _ in 0..most.saturating_mul(2) {
        let kept: Vec<bool> = (0..total).map(|_| random.once_in(2)).collect();
        add(way(&|n| kept[n]));
    }
    ways
}

/// How many such subsets there are; [`u64::MAX`] if they are more than that.
#[must_use]
pub fn subsets(unsynced: &[UnsyncedOp]) -> u64 {
    let total: usize = unsynced.iter().map(sectors).sum();
    u32::try_from(total).ok().and_then(|total| 1u64.checked_shl(total)).unwrap_or(u64::MAX)
}

/// How many sectors a write touches; what is no write is kept or lost as a whole.
fn sectors(op: &UnsyncedOp) -> usize {
    match &op.change {
        Change::Write { at, bytes } if !bytes.is_empty() => {
            let end = at + bytes.len() as u64;
            usize::try_from(end.div_ceil(SECTOR) - at / SECTOR).unwrap_or(usize::MAX)
        }
        _ => 1,
    }
}
