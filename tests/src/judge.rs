//! What must be said of a log whose medium was damaged. Nothing here decodes a byte: where an entry stands is found by
//! looking for its payload, which nothing else on the medium contains.

use core::ops::Range;
use std::collections::{BTreeMap, BTreeSet};

use duralog::{
    Config, Entries, Error, FaultyDevice, Finding, Log, LogReader, Lsn, Object, Policy, RecoveryReport, Seen, TornTail,
    faulty::{Keep, Plan, Rot},
};
use memchr::memmem;

use crate::{
    oracle::{Violation, payload, violation},
    run::Moment,
    workload::SegmentRoom,
};

/// Bytes of a frame behind its payload.
const TRAILER: u64 = 4;

/// Bytes of a frame in front of its payload.
const FRAME_HEADER: u64 = 29;
/// Bytes of a copy of a segment's header.
const SEGMENT_HEADER: u64 = 128;
/// What a medium reads whole or not at all.
const SECTOR: u64 = 512;

/// A log that was made durable and then damaged, and what the model knows of it.
#[derive(Debug)]
pub struct Damaged {
    /// After the damage.
    pub moment: Moment,
    /// The damage.
    pub rot: Rot,
    /// The entries that there must be, with their payloads where they have some of their own.
    entries: BTreeMap<u64, Option<Vec<u8>>>,
    /// What cannot be expected any more: the entries whose own bytes are harmed, with their batches.
    harmed: BTreeSet<u64>,
    /// The highest LSN that an unharmed mark in front of an unharmed entry claims.
    claimed: u64,
    /// The highest LSN that anything proved before: damage adds no proof.
    provable: u64,
    /// Whether only bytes of frames are harmed whose places are known, and so all else must be within reach.
    only_frames: bool,
    /// Whether any byte is another one.
    is_harmed: bool,
    /// What a crash left behind the end, and no write has gone over since.
    torn: Option<TornTail>,
}

/// What was heard of damaged logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Damage in bytes that hold nothing.
    pub harmless: u64,
    /// Opened all the same, with every entry.
    pub whole: u64,
    /// Opened without a tail that nothing proves to have been durable.
    pub cut: u64,
    /// Refused, and nothing was changed.
    pub refused: u64,
}

impl Damaged {
    /// Damages the log; nothing of it may be unsynced.
    #[must_use]
    pub fn new(moment: Moment, rot: Rot) -> Self {
        let before = images(&moment);
        let config = moment.config().with_policy(Policy::Inspect);
        let report = LogReader::open_device(moment.medium.reader(), config).ok().map(|log| log.recovery().clone());
        let torn = report.as_ref().and_then(|report| report.torn_tail);
        let provable = report.map_or(u64::MAX, |report| report.durable_lsn.value());
        moment.medium.rot(&rot);
        let harm = harm(&before, &images(&moment), &rot);
        let oracle = &moment.oracle;
        let entries: BTreeMap<_, _> = oracle.expected().collect();
        // In old room what a take-over copied may be met again behind the end of another segment: then any of the places
        // may be the one that counts.
        let is_recycled = moment.setup.room == SegmentRoom::Recycled;
        let mut all_places: BTreeMap<u64, Vec<(Object, Range<u64>)>> = BTreeMap::new();
        for (lsn, payload) in &entries {
            let Some(payload) = payload else { continue };
            let found = find(&before, payload).into_iter().take(if is_recycled { usize::MAX } else { 1 });
            let frames =
                found.map(|(object, at)| (object, at - oracle.lead(*lsn)..at + payload.len() as u64 + TRAILER));
            all_places.insert(*lsn, frames.collect());
        }
        let certain = |(lsn, frames): (&u64, &Vec<(Object, Range<u64>)>)| match &frames[..] {
            [frame] => Some((*lsn, frame.clone())),
            _ => None,
        };
        let places: BTreeMap<u64, (Object, Range<u64>)> = all_places.iter().filter_map(certain).collect();
        let is_hit = |object: Object, range: &Range<u64>| {
            harm.iter().any(|(hit, harmed)| *hit == object && harmed.start < range.end && range.start < harmed.end)
        };
        let hit = all_places.iter().filter(|(_, frames)| frames.iter().any(|(object, frame)| is_hit(*object, frame)));
        let hit: Vec<_> = hit.map(|(lsn, _)| *lsn).collect();
        let mut harmed: BTreeSet<_> = hit.iter().flat_map(|lsn| oracle.batch_of(*lsn)).collect();
        // Without its header nothing tells whether a frame had a batch go on behind it: what follows it goes too, up to
        // the next mark.
        for lsn in hit {
            let mut headers =
                all_places[&lsn].iter().map(|(object, frame)| (*object, frame.start..frame.start + FRAME_HEADER));
            if headers.any(|(object, header)| is_hit(object, &header)) {
                let is_led = |lsn: u64| oracle.marks().iter().any(|mark| mark.before == lsn);
                harmed.extend((lsn + 1..oracle.next()).take_while(|lsn| !is_led(*lsn)));
            }
        }
        // Between the frame before and the one it leads: there a mark stands, or not at all.
        let stands = |before: u64| {
            let (object, frame) = places.get(&before)?;
            // Without a header nothing in a segment can be verified.
            let copy_offset = u64::from(moment.setup.geometry.copy_offset);
            if [0, copy_offset].iter().all(|copy| is_hit(*object, &(*copy..copy + SEGMENT_HEADER))) {
                return None;
            }
            let behind = places.range(..before).next_back().filter(|(_, (other, _))| other == object);
            let from = behind.map_or(0, |(_, (_, frame))| frame.end);
            Some(!is_hit(*object, &(from..frame.end)))
        };
        let claims = oracle.marks().iter().filter(|mark| stands(mark.before) == Some(true)).map(|mark| mark.claim);
        let claimed = claims.max().unwrap_or(0);
        let inside = |object: Object, harmed: &Range<u64>| {
            places
                .values()
                .any(|(other, frame)| *other == object && frame.start <= harmed.start && harmed.end <= frame.end)
        };
        let is_read = !matches!(rot, Rot::Unreadable { .. });
        let only_frames = is_read && !harm.is_empty() && harm.iter().all(|(object, harmed)| inside(*object, harmed));
        let is_harmed = !harm.is_empty();
        Self { moment, rot, entries, harmed, claimed, provable, only_frames, is_harmed, torn }
    }

    /// Reads, opens and salvages the log, and checks what is said and done.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn judge(&self, heard: &mut Heard) -> Result<(), Violation> {
        self.inspect()?;
        for full_check in [false, true] {
            self.open(full_check, heard)?;
        }
        self.give_up(Policy::Salvage)?;
        self.give_up(Policy::PointInTime)
    }

    /// Whether something proves that the first of the harmed entries was durable, wherever the log looks for it.
    fn is_proved(&self) -> bool {
        self.harmed.first().is_some_and(|first| *first <= self.claimed)
    }

    /// Whether nothing proves that any of the harmed entries was durable: then a crash may have left the log like that.
    fn is_unproven(&self) -> bool {
        self.only_frames && self.harmed.first().is_some_and(|first| *first > self.provable)
    }

    /// What nothing proves to have been durable is not called damaged.
    fn unproven_is_no_damage(&self, report: &RecoveryReport, what: &str) -> Result<(), Violation> {
        match report.damage().next().filter(|_| self.is_unproven()) {
            Some(finding) => Err(violation!(
                "{what}: no more than LSN {} was proved to be durable, {:?} are harmed, and that is called damage: {finding:?}",
                self.provable,
                self.harmed
            )),
            None => Ok(()),
        }
    }

    fn inspect(&self) -> Result<(), Violation> {
        let config = self.moment.config().with_policy(Policy::Inspect);
        let mut reader = match LogReader::open_device(self.moment.medium.reader(), config) {
            Ok(reader) => reader,
            Err(error) => return self.told(&error),
        };
        let entries = reader.read(Lsn::ZERO, Lsn::MAX).map_err(|error| violation!("inspecting: {error}"))?;
        let read = self.read(entries, None, "inspecting")?;
        match reader.verify() {
            Ok(report) => {
                self.all_told(&read, report, "inspecting")?;
                self.unproven_is_no_damage(report, "inspecting")?;
                self.no_more_told(&read, report, "inspecting")
            }
            Err(error) => self.told(&error),
        }
    }

    /// An error that names the place.
    fn told(&self, error: &Error) -> Result<(), Violation> {
        if self.is_harmed && !self.only_frames { Ok(()) } else { Err(violation!("the log cannot be read: {error}")) }
    }

    /// Everything that is read is right, and comes in order.
    fn read(
        &self,
        mut entries: Entries<FaultyDevice>,
        added: Option<(u64, &[u8])>,
        what: &str,
    ) -> Result<Read, Violation> {
        let mut read = Read { lsns: BTreeSet::new(), findings: Vec::new(), error: None };
        for entry in &mut entries {
            match entry {
                Ok(entry) => {
                    let lsn = entry.lsn.value();
                    match self.entries.get(&lsn) {
                        // What was cut off without a proof gives its LSN back.
                        _ if added == Some((lsn, &entry.payload)) => {}
                        // The low-water mark itself may lie behind what is given up.
                        None if self.is_harmed && self.moment.oracle.was_appended(lsn, &entry.payload) => {}
                        // A header that is gone took with it what it said of a cut before; and of what a crash left behind the
                        // end nothing says more than that its predecessor is not there.
                        _ if (!self.only_frames || self.torn.is_some())
                            && self.moment.oracle.is_gone(lsn, &entry.payload) => {}
                        None if self.moment.oracle.crosses(lsn, &entry.payload) => {}
                        None => return Err(violation!("{what}: LSN {lsn} was read, and is not in the log")),
                        Some(Some(payload)) if *payload != entry.payload => {
                            return Err(violation!("{what}: LSN {lsn} was read with other bytes"));
                        }
                        Some(_) => {}
                    }
                    if read.lsns.last().is_some_and(|last| *last >= lsn) {
                        return Err(violation!("{what}: LSN {lsn} was read out of order"));
                    }
                    read.lsns.insert(lsn);
                }
                Err(error) => read.error = Some(error),
            }
        }
        read.findings.extend_from_slice(entries.findings());
        Ok(read)
    }

    /// Every entry that is not there is told of, and no more is missing than was harmed.
    fn all_told(&self, read: &Read, report: &RecoveryReport, what: &str) -> Result<(), Violation> {
        // The report alone: what reading finds, it has told of.
        let findings = || report.findings.iter();
        let names = |finding: &Finding, lsn: u64| {
            finding.lsns.is_some_and(|(first, last)| (first.value()..=last.value()).contains(&lsn))
        };
        let last = report.last_valid_lsn.value();
        for lsn in self.entries.keys().filter(|lsn| !read.lsns.contains(lsn)) {
            // A batch that crosses the low-water mark is told of from there on.
            let named = self.moment.oracle.batch_of(*lsn).any(|lsn| findings().any(|finding| names(finding, lsn)));
            let is_cut = *lsn > last && *lsn > self.claimed;
            // A truncation that a power cut undid left its mark in the tail that was cut off then. The header that says so
            // may be what is gone: then the mark is heard again.
            let before = report.low_water.value();
            let is_truncated = *lsn < before && !self.only_frames && self.moment.oracle.was_to_be_truncated(before);
            if !named && !is_cut && !is_truncated && read.error.is_none() {
                return Err(violation!("{what}: LSN {lsn} is missing, and nothing says so: {report:?}"));
            }
            if self.only_frames && !self.harmed.contains(lsn) && (self.is_proved() || *lsn <= self.claimed) {
                return Err(violation!(
                    "{what}: LSN {lsn} is out of reach, and {:?} are harmed: {report:?}",
                    self.harmed
                ));
            }
        }
        let is_whole = self.entries.keys().all(|lsn| read.lsns.contains(lsn));
        let is_as_before = report.torn_tail == self.torn && report.damage().next().is_none();
        if !(self.is_harmed || is_whole && is_as_before) {
            return Err(violation!("{what}: nothing is harmed, and it says {report:?}"));
        }
        let low_water = report.low_water.value();
        let is_lost = |lsn: &&u64| !read.lsns.contains(lsn) && **lsn >= low_water;
        if let (true, Some(first)) = (self.is_proved(), self.harmed.first().filter(is_lost)) {
            let damage = |finding: &Finding| names(finding, *first) && !finding.verdict.is_torn_tail();
            if !findings().any(damage) && read.error.is_none() {
                return Err(violation!("{what}: LSN {first} is not called damaged: {report:?}"));
            }
        }
        Ok(())
    }

    /// No LSN is called damaged that was read, where it is only entries that are harmed.
    fn no_more_told(&self, read: &Read, report: &RecoveryReport, what: &str) -> Result<(), Violation> {
        for finding in report.findings.iter().filter(|_| self.only_frames) {
            let Some((first, last)) = finding.lsns else { continue };
            if finding.seen == Seen::TornTransaction {
                // It is read as it stands, and does not count.
                let is_torn = |lsn| self.moment.oracle.is_torn(lsn, &self.harmed);
                if let Some(lsn) = (first.value()..=last.value()).find(|lsn| !is_torn(*lsn)) {
                    return Err(violation!("{what}: the transaction of LSN {lsn} is said to be torn: {finding:?}"));
                }
                continue;
            }
            if let Some(lsn) = read.lsns.range(first.value()..=last.value()).next() {
                return Err(violation!("{what}: LSN {lsn} was read, and is called damaged: {finding:?}"));
            }
        }
        Ok(())
    }

    /// A log that opened takes an entry; two recoveries after that give the same, and the entry.
    fn goes_on(&self, log: Log<FaultyDevice>, moment: &Moment, full_check: bool, read: &Read) -> Result<(), Violation> {
        let what = "a log that opened";
        let added = payload(1 << 40, 33);
        let receipt = log.append(&added[..]).and_then(|receipt| log.sync().map(|_| receipt));
        let lsn = receipt.map_err(|error| violation!("{what} takes no entry: {error}"))?.lsn().value();
        if read.lsns.last().is_some_and(|last| lsn <= *last) {
            return Err(violation!("{what}: LSN {lsn} is given out again: {:?} were read", read.lsns));
        }
        drop(log);
        let expected: BTreeSet<u64> = read.lsns.iter().copied().chain([lsn]).collect();
        for _ in 0..2 {
            moment.medium.power_cut(|_| Keep::None);
            let config = Config { full_check, ..moment.config() };
            let again = Log::open_device(moment.medium.device(), config);
            let again = again.map_err(|error| violation!("{what}, and opened again: {error}"))?;
            let entries = again.read_from(Lsn::ZERO).map_err(|error| violation!("{what}, and again: {error}"))?;
            let later = self.read(entries, Some((lsn, &added)), what)?;
            // What an open transaction has below the mark is given up with it, by the epoch that the entry began.
            let low_water = again.low_water_lsn().value();
            if !later.lsns.is_subset(&expected) || !expected.range(low_water..).eq(later.lsns.range(low_water..)) {
                return Err(violation!("{what} with {expected:?}, and again with {:?}", later.lsns));
            }
        }
        Ok(())
    }

    fn open(&self, full_check: bool, heard: &mut Heard) -> Result<(), Violation> {
        let moment = self.moment.fork();
        moment.medium.set_plan(Plan::default());
        let before = moment.bytes();
        let config = Config { full_check, ..moment.config() };
        let log = match Log::open_device(moment.medium.device(), config) {
            Ok(log) => log,
            Err(error) => {
                if !self.is_harmed || self.is_unproven() {
                    return Err(violation!("no proved entry is harmed, and the log is refused: {error}"));
                }
                if moment.bytes() != before || moment.medium.calls() != 0 {
                    return Err(violation!("a log that was refused ({error}) was changed"));
                }
                heard.refused += 1;
                return Ok(());
            }
        };
        let report = log.recovery().clone();
        let entries = log.read_from(Lsn::ZERO).map_err(|error| violation!("a log that opened: {error}"))?;
        let read = self.read(entries, None, "opened")?;
        self.unproven_is_no_damage(&report, "opened")?;
        let missing = || self.entries.keys().filter(|lsn| !read.lsns.contains(lsn));
        match missing().next() {
            None => heard.whole += 1,
            // What is read beyond the newest segment tells of damage when it is read.
            Some(_) if read.error.is_some() && !full_check => heard.refused += 1,
            Some(lsn) if *lsn <= self.claimed && !report.findings.iter().any(|finding| finding.harmless) => {
                return Err(violation!(
                    "LSN {lsn} was proved to be durable, and the log opened without it: {report:?}"
                ));
            }
            Some(_) => heard.cut += 1,
        }
        heard.harmless += u64::from(!self.is_harmed);
        if read.error.is_some() {
            return Ok(());
        }
        self.goes_on(log, &moment, full_check, &read)
    }

    /// A policy that gives up what is damaged opens the log, keeps what it can, and makes that final.
    fn give_up(&self, policy: Policy) -> Result<(), Violation> {
        let moment = self.moment.fork();
        moment.medium.set_plan(Plan::default());
        let what = format!("{policy:?}");
        let log = match Log::open_device(moment.medium.device(), moment.config().with_policy(policy)) {
            Ok(log) => log,
            Err(error) => return self.told(&error),
        };
        let report = log.recovery().clone();
        let highest = report.durable_lsn.value().max(report.last_valid_lsn.value()).max(self.claimed);
        let added = payload(1 << 40, 33);
        // Before it is read: a reader that meets damage stops the log.
        let receipt = log.append(&added[..]).and_then(|receipt| log.sync().map(|_| receipt));
        let lsn =
            receipt.map_err(|error| violation!("{what}: a log that opened takes no entry: {error}"))?.lsn().value();
        if lsn <= highest {
            return Err(violation!("{what}: LSN {lsn} is given out again, {highest} was durable"));
        }
        let added = Some((lsn, &added[..]));
        let entries = log.read_from(Lsn::ZERO).map_err(|error| violation!("{what}: {error}"))?;
        let read = self.read(entries, added, &what)?;
        if policy == Policy::Salvage {
            self.all_told(&read, &report, &what)?;
        }
        drop(log);
        moment.medium.power_cut(|_| Keep::None);
        let again = Log::open_device(moment.medium.device(), moment.config().with_policy(policy));
        let again = again.map_err(|error| violation!("{what}, after what it made final: {error}"))?;
        let entries = again.read_from(Lsn::ZERO).map_err(|error| violation!("{what}: {error}"))?;
        let later = self.read(entries, added, &what)?;
        if later.lsns != read.lsns {
            let (before, now) = (&read.lsns, &later.lsns);
            return Err(violation!("{what}: a later opening reads {now:?}, and an earlier one {before:?}"));
        }
        if later.error.is_none() && !later.lsns.contains(&lsn) {
            return Err(violation!("{what}: what was appended behind the loss is gone"));
        }
        Ok(())
    }
}

/// What was read of a damaged log.
struct Read {
    lsns: BTreeSet<u64>,
    findings: Vec<Finding>,
    error: Option<Error>,
}

type Images = BTreeMap<Object, Vec<u8>>;

fn images(moment: &Moment) -> Images {
    let medium = &moment.medium;
    medium.names().into_iter().filter_map(|name| Some((name, medium.object(name)?))).collect()
}

/// The bytes that are not what they were, object by object, from the first to the last.
fn harm(before: &Images, after: &Images, rot: &Rot) -> Vec<(Object, Range<u64>)> {
    if let Rot::Unreadable { object, range } = rot {
        // What lies in the same sector cannot be told from it.
        return vec![(*object, range.start / SECTOR * SECTOR..range.end.next_multiple_of(SECTOR))];
    }
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter_map(|name| {
        let (Some(old), Some(new)) = (before.get(name), after.get(name)) else { return Some((*name, 0..u64::MAX)) };
        let differs = |at: &usize| old.get(*at) != new.get(*at);
        let len = old.len().max(new.len());
        let first = (0..len).find(differs)?;
        let last = (0..len).rfind(differs)?;
        Some((*name, first as u64..last as u64 + 1))
    });
    changed.collect()
}

/// Where a payload stands, from the end of the newest segment back: what a take-over copied is dead where it was.
fn find(images: &Images, payload: &[u8]) -> Vec<(Object, u64)> {
    let segments = images.iter().filter(|(object, _)| matches!(object, Object::Segment(_)));
    let finder = memmem::Finder::new(payload);
    let found = segments.flat_map(|(object, bytes)| finder.find_iter(bytes).map(|at| (*object, at as u64)));
    let mut found: Vec<_> = found.collect();
    found.reverse();
    found
}
