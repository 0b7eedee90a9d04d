//! What a log must hold: nothing here looks at bytes on a medium, or knows how they are laid out.

use core::{error, fmt};
use std::collections::BTreeSet;

use crate::environment::mixed;

/// An entry that a recovery gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its LSN.
    pub lsn: u64,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Whether it says that its batch goes on behind it.
    pub continues: bool,
}

/// What a log holds, as a recovery or a reader tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The entries, in the order in which they came.
    pub entries: Vec<Found>,
    /// The LSNs and payloads that count, in the order in which they do, where that was asked: those of a transaction
    /// where its commit stands.
    pub counted: Option<Vec<(u64, Vec<u8>)>>,
    /// The first LSN that truncation keeps.
    pub low_water: u64,
    /// The last LSN.
    pub last: u64,
}

/// A payload that no other append has: bytes put in the wrong place are noticed.
#[must_use]
pub fn payload(number: u64, len: usize) -> Vec<u8> {
    (0..).flat_map(|word| mixed(number << 20 | word).to_le_bytes()).take(len).collect()
}

/// What a recovery did wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for Violation {}

macro_rules! violation {
    ($($arg:tt)*) => { $crate::oracle::Violation(format!($($arg)*)) };
}
pub(crate) use violation;

#[derive(Clone, Copy, Debug, Hash)]
struct Appended {
    /// The number and length of its payload. `None`: an entry that the log makes for itself.
    payload: Option<(u64, usize)>,
    continues: bool,
    /// The log was cut behind it, be that inside its batch.
    ends: bool,
    role: Role,
}

/// What an entry is to a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Role {
    /// It counts by itself.
    Alone,
    /// It says something of the log: a checkpoint was taken, a transaction begun.
    Says,
    /// It says that the transaction that was begun at this LSN was rolled back.
    RollsBack(u64),
    /// It counts with the transaction that was begun at this LSN.
    Of(u64),
    /// It commits that transaction.
    Commits(u64),
}

impl Appended {
    const fn own(role: Role) -> Self {
        Self { payload: None, continues: false, ends: true, role }
    }

    fn is(&self, bytes: &[u8]) -> bool {
        self.payload.is_none_or(|(number, len)| payload(number, len) == bytes)
    }
}

/// A call that gives up a part of the log, and has not returned.
#[derive(Clone, Copy, Debug, Hash)]
pub enum Giving {
    /// Entries below this LSN, or some of those.
    Before(u64),
    /// Entries after this LSN.
    After(u64),
    /// Everything: the next LSN is this one.
    All(u64),
}

/// What was appended, and how much of it must survive.
#[derive(Clone, Debug, Hash)]
pub struct Oracle {
    /// The LSN of the first of the entries.
    first: u64,
    /// By LSN; those above what is acknowledged may be lost, from the end.
    entries: Vec<Appended>,
    acknowledged: u64,
    /// Nothing below it is handed out, but the beginning of a batch.
    low_water: u64,
    /// A cut or reset that was begun.
    giving: Option<Giving>,
    /// A truncation of the front that was begun, up to this LSN; 0 if none was.
    fronts: u64,
    /// The highest LSN that any truncation of the front was asked for, whatever came of it.
    asked: u64,
    /// An opening may have given up what is below this LSN.
    room_before: u64,
    /// Payloads made so far.
    made: u64,
    /// What proves that entries were durable: before the entry of an LSN stands a mark that claims another.
    marks: Vec<Mark>,
    /// Payloads of entries that were cut off or lost, by the LSNs that they had.
    gone: Vec<(u64, Option<(u64, usize)>)>,
    /// Appends that were refused for lack of room, each behind so many entries: until another one is acknowledged a crash may
    /// still find one, where the medium ran out behind its last byte.
    refused: Vec<(usize, Vec<Appended>)>,
    /// Transactions, by the LSNs of their begins, that are rolled back before anything else is appended.
    owed: Vec<u64>,
    /// Whether a write that finds no room may have been done in part, or wholly.
    in_part: bool,
    /// An opening found no room to make durable what it found, up to an LSN: until a later entry is, the medium may go back
    /// to what was known before.
    before: Option<(u64, Box<Self>)>,
}

/// A mark that the log must have written: right before the entry `before`, behind every earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The entry that it leads.
    pub before: u64,
    /// What it says to be durable.
    pub claim: u64,
}

impl Default for Oracle {
    fn default() -> Self {
        Self {
            first: 1,
            entries: Vec::new(),
            acknowledged: 0,
            low_water: 1,
            giving: None,
            fronts: 0,
            asked: 0,
            room_before: 0,
            made: 0,
            marks: Vec::new(),
            gone: Vec::new(),
            refused: Vec::new(),
            owed: Vec::new(),
            in_part: false,
            before: None,
        }
    }
}

impl Oracle {
    /// The LSN that the next entry must get.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The highest LSN whose entry must survive.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The first LSN that truncation keeps.
    #[must_use]
    pub fn low_water(&self) -> u64 {
        self.low_water
    }

    /// Payloads for a batch that is about to be appended. From now on a recovery may give it.
    pub fn append(&mut self, count: usize, len: usize) -> Vec<Vec<u8>> {
        self.roll_back_owed();
        self.mark();
        let made = self.made;
        self.made += count as u64;
        let appended = (1..=count).zip(made..).map(|(n, number)| Appended {
            payload: Some((number, len)),
            continues: n < count,
            ends: n == count,
            role: Role::Alone,
        });
        self.entries.extend(appended);
        (made..self.made).map(|number| payload(number, len)).collect()
    }

    /// A payload for an entry of the transaction that was begun at this LSN, which is about to be appended.
    pub fn append_to(&mut self, begun: u64, len: usize) -> Vec<u8> {
        let payload = self.append(1, len).remove(0);
        if let Some(last) = self.entries.last_mut() {
            last.role = Role::Of(begun);
        }
        payload
    }

    /// The log is about to append an entry of its own that changes nothing.
    pub fn append_own(&mut self) {
        self.roll_back_owed();
        self.mark();
        self.entries.push(Appended::own(Role::Says));
    }

    /// The transaction that was begun at this LSN is about to be rolled back.
    pub fn append_rollback(&mut self, begun: u64) {
        self.owed.retain(|owed| *owed != begun);
        self.roll_back_owed();
        self.mark();
        self.entries.push(Appended::own(Role::RollsBack(begun)));
    }

    /// The log comes first to what it owes.
    fn roll_back_owed(&mut self) {
        for begun in core::mem::take(&mut self.owed) {
            self.append_rollback(begun);
        }
    }

    /// How many entries come before the next append: the rollbacks of transactions that were left while there was no room.
    #[must_use]
    pub fn owed(&self) -> u64 {
        self.owed.len() as u64
    }

    /// Nobody goes on with the transaction that was begun at this LSN, if that entry is there, and its end is not: a commit
    /// may be there that failed to be proved.
    pub fn abandon(&mut self, begun: u64) {
        let ends = |entry: &Appended| matches!(entry.role, Role::Commits(of) | Role::RollsBack(of) if of == begun);
        if begun < self.next() && !self.owed.contains(&begun) && !self.entries.iter().any(ends) {
            self.owed.push(begun);
            self.owed.sort_unstable();
        }
    }

    /// The transaction that was begun at this LSN is about to be committed.
    pub fn append_commit(&mut self, begun: u64) {
        self.roll_back_owed();
        self.mark();
        self.entries.push(Appended::own(Role::Commits(begun)));
    }

    /// What is written next is led by a mark, if anything was made durable since the last.
    fn mark(&mut self) {
        let mark = Mark { before: self.next(), claim: self.acknowledged };
        if mark.claim + 1 == mark.before && self.marks.last().is_none_or(|last| last.claim < mark.claim) {
            self.marks.push(mark);
        }
    }

    /// The marks that the log must hold.
    #[must_use]
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// The entries that must be there if all is: their LSNs, and the payloads of those that have one.
    pub fn expected(&self) -> impl Iterator<Item = (u64, Option<Vec<u8>>)> + '_ {
        let begin = self.begin().max(self.first);
        (begin..self.next()).filter_map(|lsn| {
            let entry = self.entry(lsn)?;
            Some((lsn, entry.payload.map(|(number, len)| payload(number, len))))
        })
    }

    /// Whether an entry of this LSN and payload was ever appended, and not given up.
    #[must_use]
    pub fn was_appended(&self, lsn: u64, payload: &[u8]) -> bool {
        self.entry(lsn).is_some_and(|entry| entry.is(payload))
    }

    /// Whether this entry below the low-water mark may be handed out, as one of a transaction that ends above it.
    #[must_use]
    pub fn crosses(&self, lsn: u64, payload: &[u8]) -> bool {
        let of_transaction = |entry: &Appended| entry.role != Role::Alone;
        lsn < self.begin() && self.entry(lsn).is_some_and(of_transaction) && self.was_appended(lsn, payload)
    }

    /// Whether an entry of this LSN and payload was appended, and then cut off or lost.
    #[must_use]
    pub fn is_gone(&self, lsn: u64, bytes: &[u8]) -> bool {
        let is = |made: Option<(u64, usize)>| made.is_none_or(|(number, len)| payload(number, len) == bytes);
        self.gone.iter().any(|(gone, made)| *gone == lsn && is(*made))
    }

    /// Whether a truncation that came to nothing was asked for this LSN, or one above.
    #[must_use]
    pub fn was_to_be_truncated(&self, before: u64) -> bool {
        (self.low_water + 1..=self.asked).contains(&before)
    }

    /// Notes the entries after `lsn` as gone.
    fn bury(&mut self, lsn: u64) {
        let entries = self.entries.iter().zip(self.first..).filter(|(_, at)| *at > lsn);
        self.gone.extend(entries.map(|(entry, at)| (at, entry.payload)));
    }

    /// Bytes in front of the payload of an entry that belong to its frame, by what the specification says of frames: 29,
    /// and 8 for the id of a transaction. Behind it there are 4.
    #[must_use]
    pub fn lead(&self, lsn: u64) -> u64 {
        if self.entry(lsn).is_some_and(|entry| matches!(entry.role, Role::Of(_))) { 37 } else { 29 }
    }

    /// The LSNs that are lost if that of one entry is: those of its batch.
    #[must_use]
    pub fn batch_of(&self, lsn: u64) -> core::ops::RangeInclusive<u64> {
        let (mut first, mut last) = (lsn, lsn);
        while first > 1 && self.in_batch(first - 1) {
            first -= 1;
        }
        while self.in_batch(last) {
            last += 1;
        }
        first..=last
    }

    /// Whether this is an entry of a transaction that was committed, and may have lost one of these LSNs: whose each is, damage
    /// does not always leave to be seen.
    #[must_use]
    pub fn is_torn(&self, lsn: u64, harmed: &BTreeSet<u64>) -> bool {
        let begun = match self.entry(lsn).map(|entry| entry.role) {
            Some(Role::Of(begun) | Role::Commits(begun)) => begun,
            _ => lsn,
        };
        let commits = |at: &u64| self.entry(*at).is_some_and(|entry| entry.role == Role::Commits(begun));
        let commit = (begun..self.next()).find(commits);
        commit.is_some_and(|commit| harmed.range(begun + 1..commit).next().is_some())
    }

    fn entry(&self, lsn: u64) -> Option<&Appended> {
        let index = lsn.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.entries.get(index))
    }

    /// What a replay hands out of a log that ends at `last`.
    fn counting(&self, last: u64) -> Vec<(u64, Vec<u8>)> {
        let bytes = |lsn: u64, entry: &Appended| entry.payload.map(|(number, len)| (lsn, payload(number, len)));
        let mut counting = Vec::new();
        for lsn in self.begin()..=last {
            match self.entry(lsn) {
                Some(entry) if entry.role == Role::Alone => counting.extend(bytes(lsn, entry)),
                Some(Appended { role: Role::Commits(begun), .. }) => {
                    let own = |lsn: &u64| self.entry(*lsn).filter(|entry| entry.role == Role::Of(*begun));
                    counting.extend((*begun..lsn).filter_map(|lsn| bytes(lsn, own(&lsn)?)));
                }
                _ => {}
            }
        }
        counting
    }

    /// The medium may write a part of what it then has no room for, or does nothing of it.
    pub fn may_write_in_part(&mut self, in_part: bool) {
        self.in_part = in_part;
    }

    /// The last append was refused: no recovery may give any of its `count` entries. Where the medium may have written them
    /// all the same, that holds once a later one is acknowledged.
    pub fn refused(&mut self, count: usize) {
        let at = self.entries.len() - count;
        let refused = self.entries.split_off(at);
        self.owed.retain(|begun| *begun < self.first + at as u64);
        for entry in &refused {
            if let Role::RollsBack(begun) = entry.role {
                self.abandon(begun);
            }
        }
        if self.in_part {
            self.refused.push((at, refused));
        }
    }

    /// Everything up to `lsn` was called durable.
    ///
    /// # Errors
    /// That was never appended.
    pub fn acknowledge(&mut self, lsn: u64) -> Result<(), Violation> {
        if lsn >= self.next() {
            return Err(violation!("LSN {lsn} was called durable, and the last one appended is {}", self.next() - 1));
        }
        self.acknowledged = self.acknowledged.max(lsn);
        self.before.take_if(|(found, _)| lsn > *found);
        Ok(())
    }

    /// The log was closed: a seal behind its last entry claims all of them.
    pub fn sealed(&mut self) {
        self.mark();
    }

    /// A part of the log is about to be given up: a recovery may find that done, or not.
    pub fn give_up(&mut self, giving: Giving) {
        match giving {
            Giving::Before(lsn) => {
                self.fronts = self.fronts.max(lsn);
                self.asked = self.asked.max(lsn);
            }
            giving => self.giving = Some(giving),
        }
    }

    /// A log is about to be opened on a medium that may have no room for a segment: it may give up, at its front, what a
    /// checkpoint holds.
    pub fn may_make_room(&mut self) {
        self.room_before = self.acknowledged + 1;
    }

    /// The cut or reset was refused: it is not done, and no crash does it.
    pub fn kept(&mut self) {
        self.giving = None;
    }

    /// It was given up for good.
    ///
    /// # Errors
    /// More was given up than was asked for.
    pub fn gave_up(&mut self, giving: Giving) -> Result<(), Violation> {
        if let Giving::Before(done) = giving
            && done > self.fronts.max(self.low_water)
        {
            return Err(violation!("the log was truncated before {done}, and {} was asked for", self.fronts));
        }
        *self = self.without(giving);
        Ok(())
    }

    fn without(&self, giving: Giving) -> Self {
        // Where nothing is given up, what was asked for before and refused may still be found done.
        match giving {
            Giving::After(lsn) if lsn + 1 == self.next() => {
                return Self { giving: None, acknowledged: lsn, ..self.clone() };
            }
            Giving::Before(lsn) if lsn <= self.low_water => return Self { giving: None, before: None, ..self.clone() },
            _ => {}
        }
        let mut rest = Self { giving: None, fronts: 0, before: None, ..self.clone() };
        if !matches!(giving, Giving::Before(_)) {
            rest.owed.clear();
        }
        match giving {
            Giving::Before(_) => {}
            Giving::After(lsn) => rest.bury(lsn),
            Giving::All(_) => rest.bury(0),
        }
        if let Giving::After(lsn) | Giving::All(lsn) = giving {
            rest.marks.retain(|mark| mark.before <= lsn && !matches!(giving, Giving::All(_)));
        }
        match giving {
            Giving::Before(lsn) => rest.low_water = rest.low_water.max(lsn),
            Giving::After(lsn) => {
                rest.entries.truncate(usize::try_from(lsn + 1 - self.first).expect("a cut is within the log"));
                rest.entries.iter_mut().next_back().into_iter().for_each(|last| last.ends = true);
                rest.acknowledged = lsn;
            }
            Giving::All(next) => {
                rest = Self { first: next, entries: Vec::new(), acknowledged: next - 1, low_water: next, ..rest };
            }
        }
        rest
    }

    /// A recovery, or a reader, found this.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, held: &Held) -> Result<(), Violation> {
        self.as_found(held).map(drop)
    }

    /// The model as it has to be if this was found: with or without what an opening gave up to make room.
    fn as_found(&self, held: &Held) -> Result<Self, Violation> {
        let found = self.as_given(held);
        if let (Err(_), Some((_, before))) = (&found, &self.before)
            && let Ok(before) = before.as_found(held)
        {
            return Ok(before);
        }
        if found.is_ok() || held.low_water <= self.low_water || held.low_water > self.room_before {
            return found;
        }
        Self { low_water: held.low_water, ..self.clone() }.as_given(held)
    }

    /// The model as it has to be if this was found: with or without what was being given up.
    fn as_given(&self, held: &Held) -> Result<Self, Violation> {
        let front = Some(held.low_water).filter(|lsn| (self.low_water..=self.fronts).contains(lsn));
        let low_water = front.unwrap_or(self.low_water);
        let kept = Self { giving: None, fronts: 0, low_water, ..self.clone() };
        let wrong = match kept.matches(held) {
            Ok(()) => return Ok(kept),
            Err(violation) => violation,
        };
        for (at, refused) in self.refused.iter().filter(|(at, _)| self.acknowledged < self.first + *at as u64) {
            let entries = [&self.entries[..(*at).min(self.entries.len())], refused].concat();
            let found = Self { entries, refused: Vec::new(), ..kept.clone() };
            if found.matches(held).is_ok() {
                return Ok(found);
            }
        }
        let Some(giving) = self.giving else { return Err(wrong) };
        let given = Self { low_water, ..self.clone() }.without(giving);
        given.matches(held).map_err(|other| violation!("{wrong}; or, as a call was under way, {other}"))?;
        Ok(given)
    }

    fn matches(&self, held: &Held) -> Result<(), Violation> {
        let Held { entries, counted, low_water, last } = held;
        let (last, first) = (*last, self.begin());
        if *low_water != self.low_water {
            return Err(violation!("the low-water mark is {low_water}, and must be {}", self.low_water));
        }
        if last + 1 < self.first || last >= self.next() {
            return Err(violation!("the log ends at {last}, and the last one appended is {}", self.next() - 1));
        }
        if last < self.acknowledged {
            return Err(violation!("the log ends at {last}, and {} was acknowledged", self.acknowledged));
        }
        // Those of transactions that end above the low-water mark; which do, the suite `truncation` asks.
        let crossing = entries.iter().take_while(|entry| entry.lsn < first).count();
        let (crossing, entries) = entries.split_at(crossing);
        if let Some(entry) = crossing.iter().find(|entry| !self.crosses(entry.lsn, &entry.payload)) {
            return Err(violation!("LSN {} was recovered below {first}", entry.lsn));
        }
        for (entry, lsn) in entries.iter().zip(first..) {
            if entry.lsn != lsn {
                return Err(violation!("LSN {} was recovered where {lsn} had to come", entry.lsn));
            }
            let Some(appended) = self.entry(lsn) else {
                return Err(violation!("LSN {lsn} was recovered and never appended, or cut off before"));
            };
            if !appended.is(&entry.payload) {
                return Err(violation!("LSN {lsn} was recovered with other bytes"));
            }
            if appended.continues != entry.continues {
                return Err(violation!("LSN {lsn} was recovered at another place in its batch"));
            }
        }
        let count = entries.len() as u64;
        if first + count != (last + 1).max(first) {
            return Err(violation!("{count} entries were recovered from {first} to {last}"));
        }
        if self.in_batch(last) && !entries.is_empty() {
            return Err(violation!("half a batch was recovered, up to LSN {last}"));
        }
        match counted {
            Some(counted) if *counted != self.counting(last) => {
                let lsns = |entries: &[(u64, Vec<u8>)]| entries.iter().map(|(lsn, _)| *lsn).collect::<Vec<_>>();
                let expected = self.counting(last);
                Err(violation!("a replay gave {:?}, and must give {:?}", lsns(counted), lsns(&expected)))
            }
            _ => Ok(()),
        }
    }

    /// Where reading begins: at the low-water mark, or where the batch begins that it cuts through.
    fn begin(&self) -> u64 {
        let mut begin = self.low_water;
        while self.in_batch(begin - 1) {
            begin -= 1;
        }
        begin
    }

    /// Whether the entry behind this one belongs to the same batch.
    fn in_batch(&self, lsn: u64) -> bool {
        self.entry(lsn).is_some_and(|entry| !entry.ends)
    }

    /// A recovery is complete: what it gave is durable from now on, and what it did not give must never come back.
    ///
    /// # Errors
    /// What is wrong with what it gave.
    pub fn recovered(&mut self, held: &Held) -> Result<(), Violation> {
        self.recovered_up_to(held, held.last)?;
        self.before = None;
        Ok(())
    }

    /// A recovery is complete on a medium that may be full, and called durable what it gave up to `durable`: where there
    /// was no room to make the rest so, a power cut may take it back.
    ///
    /// # Errors
    /// What is wrong with what it gave.
    pub fn recovered_up_to(&mut self, held: &Held, durable: u64) -> Result<(), Violation> {
        let before = self.clone();
        *self = self.as_found(held)?;
        if durable > held.last {
            return Err(violation!("{durable} is called durable, and the last one recovered is {}", held.last));
        }
        let undecided = durable < held.last || before.giving.is_some() || before.fronts > 0 || before.before.is_some();
        self.before = undecided.then(|| (held.last, Box::new(before)));
        self.bury(held.last);
        self.entries.truncate(usize::try_from(held.last + 1 - self.first).expect("the log is in memory"));
        self.marks.retain(|mark| mark.before <= held.last);
        self.refused.clear();
        self.owed.clear();
        self.room_before = 0;
        self.acknowledged = self.acknowledged.max(durable);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(entries: &[Found], low_water: u64, last: u64) -> Held {
        Held { entries: entries.to_vec(), counted: None, low_water, last }
    }

    #[test]
    fn the_model_notices_every_wrong_recovery() {
        let mut oracle = Oracle::default();
        oracle.append(1, 9);
        oracle.append(2, 9);
        oracle.append(1, 9);
        oracle.acknowledge(1).unwrap();
        oracle.acknowledge(5).unwrap_err();
        let entries = (1..).zip(&oracle.entries);
        let all: Vec<_> = entries
            .map(|(lsn, e)| Found {
                lsn,
                payload: e.payload.map(|(number, len)| payload(number, len)).unwrap(),
                continues: e.continues,
            })
            .collect();
        for kept in [1, 3, 4] {
            oracle.check(&held(&all[..kept], 1, kept as u64)).unwrap();
        }
        oracle.check(&held(&[], 1, 0)).unwrap_err();
        oracle.check(&held(&all[..2], 1, 2)).unwrap_err();
        oracle.check(&held(&all[..3], 1, 4)).unwrap_err();
        oracle.check(&held(&all[1..], 2, 4)).unwrap_err();
        let mut wrong = all.clone();
        wrong[3].payload[8] ^= 1;
        oracle.check(&held(&wrong, 1, 4)).unwrap_err();
        let mut later = oracle.clone();
        later.recovered(&held(&all[..3], 1, 3)).unwrap();
        later.check(&held(&all, 1, 4)).unwrap_err();
        later.check(&held(&all[..1], 1, 1)).unwrap_err();
        later.append(1, 9);
        later.check(&held(&all, 1, 4)).unwrap_err();
        let mut full = oracle.clone();
        full.refused(1);
        full.check(&held(&all, 1, 4)).unwrap_err();
        let mut full = oracle.clone();
        full.may_write_in_part(true);
        full.refused(1);
        full.check(&held(&all, 1, 4)).unwrap();
        full.append(1, 8);
        full.acknowledge(4).unwrap();
        full.check(&held(&all, 1, 4)).unwrap_err();
    }

    #[test]
    fn the_model_counts_a_transaction_where_its_commit_stands_or_not_at_all() {
        let mut oracle = Oracle::default();
        oracle.append_own();
        let first = oracle.append_to(1, 9);
        let alone = oracle.append(1, 8).remove(0);
        let second = oracle.append_to(1, 7);
        oracle.append_commit(1);
        assert_eq!(oracle.counting(4), [(3, alone.clone())]);
        assert_eq!(oracle.counting(5), [(3, alone), (2, first), (4, second)]);
    }

    #[test]
    fn the_model_knows_which_marks_must_stand_in_the_log() {
        let mut oracle = Oracle::default();
        oracle.append(1, 9);
        oracle.acknowledge(1).unwrap();
        oracle.append(2, 9);
        oracle.append(1, 9);
        oracle.acknowledge(4).unwrap();
        oracle.sealed();
        assert_eq!(
            oracle.marks(),
            [Mark { before: 1, claim: 0 }, Mark { before: 2, claim: 1 }, Mark { before: 5, claim: 4 }]
        );
        assert_eq!((oracle.batch_of(3), oracle.batch_of(4)), (2..=3, 4..=4));
    }

    #[test]
    fn the_model_knows_what_was_given_up() {
        let mut oracle = Oracle::default();
        oracle.append(2, 9);
        oracle.append(1, 9);
        oracle.acknowledge(3).unwrap();
        let entries = (1..).zip(&oracle.entries);
        let all: Vec<_> = entries
            .map(|(lsn, e)| Found {
                lsn,
                payload: e.payload.map(|(number, len)| payload(number, len)).unwrap(),
                continues: e.continues,
            })
            .collect();
        let mut front = oracle.clone();
        front.give_up(Giving::Before(2));
        front.check(&held(&all, 1, 3)).unwrap();
        front.check(&held(&all, 2, 3)).unwrap();
        front.check(&held(&all[1..], 2, 3)).unwrap_err();
        front.check(&held(&all[2..], 3, 3)).unwrap_err();
        front.gave_up(Giving::Before(2)).unwrap();
        front.check(&held(&all, 1, 3)).unwrap_err();
        oracle.clone().gave_up(Giving::After(2)).unwrap();
        oracle.give_up(Giving::After(2));
        oracle.check(&held(&all[..2], 1, 2)).unwrap();
        oracle.check(&held(&all, 1, 3)).unwrap();
        oracle.recovered(&held(&all[..2], 1, 2)).unwrap();
        oracle.check(&held(&all, 1, 3)).unwrap_err();
        oracle.gave_up(Giving::All(9)).unwrap();
        oracle.check(&held(&[], 9, 8)).unwrap();
        assert_eq!(oracle.next(), 9);
    }
}
