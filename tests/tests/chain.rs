//! Segments that are missing, or have lost their header: what stands on both sides of them is read, what is gone is told
//! to the LSN, and nothing that was cut off comes back. And what else of the log may be gone, row by row of the decision
//! table: each report names segment, offset, LSNs and witness.
#![allow(missing_docs)]

use core::{ops::RangeInclusive, slice::from_ref};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use duralog::{
    Config, Entry, Error, Finding, Geometry, Log, LogReader, Lsn, MemoryDevice, Object, Policy, RecoveryReport, Result,
    Seen, SharedDevice, Snapshot, SyncMode, Verdict, Witness,
    core::{
        CALLER_MAX, CheckpointId, SegmentId,
        checksum::{compute_checksum, portable},
        meta::Meta,
        segment::{Predecessor, SEGMENT_HEADER_LEN, SegmentHeader},
    },
    faulty::Random,
};
use duralog_tests::Counter;

const GEOMETRY: Geometry =
    Geometry { segment_size: 3072, granule: 16, copy_offset: 512, blank: 0xFF, settled: false, slots: None };

fn config(policy: Policy) -> Config {
    Config { environment: Counter::new(), idle_mark: None, write_behind: None, ..Config::new("memory") }
        .with_write_limit(768)
        .with_sync_mode(SyncMode::Immediate)
        .with_policy(policy)
}

fn payload(n: u64) -> Vec<u8> {
    (0..100 + n % 7).map(|at| u8::try_from((n * 31 + at) % 251).unwrap()).collect()
}

fn segment(id: u64) -> Object {
    Object::Segment(SegmentId::new(id))
}

/// What lies on a medium, and changes to it.
#[derive(Clone, Debug)]
struct Bytes(BTreeMap<Object, Vec<u8>>);

impl Bytes {
    fn of(medium: &MemoryDevice) -> Self {
        Self(medium.names().into_iter().map(|object| (object, medium.object(object).unwrap())).collect())
    }

    fn device(&self) -> MemoryDevice {
        let device = MemoryDevice::new(GEOMETRY);
        self.0.iter().for_each(|(object, bytes)| device.put(*object, bytes.clone()));
        device
    }

    fn without(&self, ids: &[u64]) -> Self {
        let mut rest = self.clone();
        ids.iter().for_each(|id| assert!(rest.0.remove(&segment(*id)).is_some(), "segment {id} is not there"));
        rest
    }

    /// One bit of each copy of the header is turned over.
    fn headless(&self, ids: &[u64]) -> Self {
        let mut rest = self.clone();
        for id in ids {
            let bytes = rest.0.get_mut(&segment(*id)).unwrap();
            bytes[40] ^= 4;
            bytes[GEOMETRY.copy_offset as usize + 40] ^= 4;
        }
        rest
    }

    fn header(&self, id: u64) -> SegmentHeader {
        SegmentHeader::decode(portable, &self.0[&segment(id)], 0).unwrap()
    }

    /// Both copies of a header are written anew.
    fn with_header(&self, header: SegmentHeader) -> Self {
        let mut rest = self.clone();
        let bytes = rest.0.get_mut(&Object::Segment(header.id)).unwrap();
        for at in [0, header.copy_offset as usize] {
            bytes[at..at + SEGMENT_HEADER_LEN].copy_from_slice(&header.encode(portable));
        }
        rest
    }

    fn ids(&self) -> Vec<u64> {
        let id = |object: &Object| if let Object::Segment(id) = object { Some(id.value()) } else { None };
        self.0.keys().filter_map(id).collect()
    }

    /// The first and last LSN of each segment of a sound log.
    fn spans(&self) -> BTreeMap<u64, RangeInclusive<u64>> {
        let reader = LogReader::open_device(self.device().reader(), config(Policy::Strict)).unwrap();
        let span = |(first, last): (Lsn, Lsn)| first.value()..=last.value();
        let segments = reader.segments().unwrap();
        segments.into_iter().filter_map(|info| Some((info.id.value(), span(info.lsns?)))).collect()
    }

    fn reader(&self, policy: Policy) -> Result<LogReader<MemoryDevice>> {
        LogReader::open_device(self.device().reader(), config(policy))
    }

    fn verified(&self, policy: Policy) -> RecoveryReport {
        self.reader(policy).unwrap().verify().unwrap().clone()
    }

    /// Opening is refused and changes no byte; the finding that it is refused for.
    fn refused(&self, config: Config) -> Finding {
        let device = self.device();
        let medium = device.reader();
        let opened = Log::open_device(device, config);
        assert!(opened.is_err(), "damage is refused");
        let error = opened.unwrap_err();
        assert_eq!(Self::of(&medium).0, self.0, "{error}");
        *error.finding().unwrap_or_else(|| panic!("{error:?}"))
    }

    /// Opens the log by a policy that gives up what is gone, appends, closes; and what is there then.
    fn given_up(&self, policy: Policy) -> (Self, RecoveryReport, u64) {
        let device = self.device();
        let medium = device.reader();
        let log = Log::open_device(device, config(policy)).unwrap();
        let report = log.recovery().clone();
        let next = log.current_lsn().value();
        assert_eq!(log.append(&payload(next)[..]).unwrap().first.value(), next);
        log.close().unwrap();
        drop(log);
        (Self::of(&medium), report, next)
    }

    /// What the default policy reads, once nothing is refused any more; it is the same when the log is opened again.
    fn opened(&self) -> (Vec<u64>, RecoveryReport) {
        let device = self.device();
        let medium = device.reader();
        let log = Log::open_device(device, config(Policy::Default).with_full_check()).unwrap();
        let lsns = lsns(log.read_from(Lsn::ZERO).unwrap().map(Result::unwrap));
        let back: Vec<_> = log.read_back_to(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn.value()).collect();
        assert!(lsns.iter().rev().eq(&back), "read backwards: {back:?}, and forwards {lsns:?}");
        let report = log.recovery().clone();
        let next = log.current_lsn().value();
        log.append(&payload(next)[..]).unwrap();
        log.close().unwrap();
        drop(log);
        let again = Log::open_device(medium.writer().unwrap(), config(Policy::Default).with_full_check()).unwrap();
        let more = self::lsns(again.read_from(Lsn::ZERO).unwrap().map(Result::unwrap));
        assert_eq!((&more[..lsns.len()], &more[lsns.len()..]), (&lsns[..], &[next][..]));
        (lsns, report)
    }
}

/// The LSNs of entries, each of which must hold what was appended under it.
fn lsns(entries: impl Iterator<Item = Entry>) -> Vec<u64> {
    let mut last = 0;
    entries
        .map(|entry| {
            let lsn = entry.lsn.value();
            assert!(lsn > last, "LSN {lsn} behind {last}");
            last = lsn;
            assert_eq!(entry.payload, payload(lsn), "LSN {lsn} holds other bytes");
            lsn
        })
        .collect()
}

fn read(reader: &LogReader<MemoryDevice>) -> Vec<u64> {
    lsns(reader.read(Lsn::ZERO, Lsn::MAX).unwrap().map(Result::unwrap))
}

fn append<D: SharedDevice>(log: &Log<D>, count: u64) {
    for _ in 0..count {
        let next = log.current_lsn().value();
        log.append(&payload(next)[..]).unwrap();
    }
}

/// Appends until so many segments more were begun.
fn fill(log: &Log<MemoryDevice>, segments: usize) {
    let newest = || log.segments().unwrap().last().unwrap().id.value();
    let until = newest() + segments as u64;
    while newest() < until {
        append(log, 1);
    }
}

/// A log of so many segments, closed.
fn sample(segments: usize) -> Bytes {
    sample_by(|log| fill(log, segments - 1))
}

fn sample_by(work: impl FnOnce(&Log<MemoryDevice>)) -> Bytes {
    made_by(|log| {
        append(log, 1);
        work(log);
        append(log, 2);
    })
}

/// A new log that this was done to, closed.
fn made_by(work: impl FnOnce(&Log<MemoryDevice>)) -> Bytes {
    again(&Bytes(BTreeMap::new()), work)
}

/// Opens a log once more, does something, and closes it.
fn again(bytes: &Bytes, work: impl FnOnce(&Log<MemoryDevice>)) -> Bytes {
    let device = bytes.device();
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::Default)).unwrap();
    work(&log);
    log.close().unwrap();
    drop(log);
    Bytes::of(&medium)
}

fn range(range: &RangeInclusive<u64>) -> Option<(Lsn, Lsn)> {
    Some((Lsn::new(*range.start()), Lsn::new(*range.end())))
}

fn findings(report: &RecoveryReport, seen: Seen) -> Vec<Finding> {
    report.findings.iter().filter(|finding| finding.seen == seen).copied().collect()
}

fn all_but(bytes: &Bytes, gone: &[RangeInclusive<u64>]) -> Vec<u64> {
    let last = *bytes.spans().values().last().unwrap().end();
    (1..=last).filter(|lsn| !gone.iter().any(|gone| gone.contains(lsn))).collect()
}

#[test]
fn of_a_missing_segment_both_ends_are_told() {
    let whole = sample(6);
    let spans = whole.spans();
    let last = *spans.values().last().unwrap().end();
    for id in 1..=5 {
        let bytes = whole.without(&[id]);
        let gone = &spans[&id];
        let kept = all_but(&whole, from_ref(gone));
        let is_right = |finding: &Finding| {
            assert_eq!((finding.verdict, finding.seen), (Verdict::Rot, Seen::MissingSegment));
            assert_eq!((finding.object, finding.offset, finding.lsns), (segment(id), 0, range(gone)));
            assert_eq!(finding.witness, Some(Witness::Successor(SegmentId::new(id + 1))));
        };
        is_right(&bytes.refused(config(Policy::Default)));
        is_right(&bytes.refused(config(Policy::Default).with_full_check()));
        is_right(&bytes.refused(config(Policy::Strict)));
        for policy in [Policy::Default, Policy::Inspect] {
            let report = bytes.verified(policy);
            assert_eq!(report.findings.len(), 1, "{report:?}");
            is_right(&report.findings[0]);
            assert!(!report.findings[0].harmless && !report.success && !report.clean);
            assert_eq!(
                (report.entries_recovered, report.entries_skipped),
                (kept.len() as u64, last - kept.len() as u64)
            );
        }

        // The default policy reads what stands on both sides, and stops between.
        let reader = bytes.reader(Policy::Default).unwrap();
        let mut entries = reader.read(Lsn::ZERO, Lsn::MAX).unwrap();
        let before = lsns(entries.by_ref().map_while(Result::ok));
        assert_eq!(before, (1..*gone.start()).collect::<Vec<_>>());
        let mut entries = reader.read(Lsn::ZERO, Lsn::MAX).unwrap().skip(before.len());
        is_right(entries.next().unwrap().unwrap_err().finding().unwrap());
        let behind = reader.read(Lsn::new(gone.end() + 1), Lsn::MAX).unwrap().map(Result::unwrap);
        assert_eq!(lsns(behind), (gone.end() + 1..=last).collect::<Vec<_>>());
        let inside = reader.read(Lsn::new(*gone.end()), Lsn::MAX).unwrap().next().unwrap().unwrap_err();
        assert!(inside.finding().is_some(), "{inside}");

        // Salvage keeps both sides for good.
        assert_eq!(read(&bytes.reader(Policy::Salvage).unwrap()), kept);
        let (salvaged, report, next) = bytes.given_up(Policy::Salvage);
        assert_eq!((report.findings.len(), next), (1, last + 1), "{report:?}");
        assert!(salvaged.header(*salvaged.ids().last().unwrap()).leftovers, "what was given up is remembered");
        let (found, report) = salvaged.opened();
        assert_eq!(found, [&kept[..], &[next]].concat());
        assert_eq!(report.gaps().collect::<Vec<_>>(), [range(gone).unwrap()]);
        assert!(report.success && report.clean && report.findings.iter().all(|finding| finding.harmless));
        let report = salvaged.verified(Policy::Inspect);
        assert_eq!(report.gaps().collect::<Vec<_>>(), [range(gone).unwrap()]);

        // Point-in-time keeps what is older, and issues no LSN twice.
        let (ended, report, next) = bytes.given_up(Policy::PointInTime);
        assert!(!report.success && next == last + 1);
        let (found, report) = ended.opened();
        assert_eq!(found, [(1..*gone.start()).collect::<Vec<_>>(), vec![next]].concat());
        assert!(report.success, "{report:?}");
    }
}

#[test]
fn a_segment_without_a_header_is_read_all_the_same() {
    let whole = sample(6);
    let spans = whole.spans();
    let all = all_but(&whole, &[]);
    for id in 1..=5 {
        let bytes = whole.headless(&[id]);
        let is_right = |finding: &Finding| {
            assert_eq!((finding.verdict, finding.seen), (Verdict::Rot, Seen::BadSegmentHeader));
            assert_eq!((finding.object, finding.offset, finding.lsns), (segment(id), 0, None));
            assert_eq!(finding.witness, Some(Witness::Successor(SegmentId::new(id + 1))));
        };
        is_right(&bytes.refused(config(Policy::Default)));
        is_right(&bytes.refused(config(Policy::Strict)));
        for policy in [Policy::Default, Policy::Salvage, Policy::Inspect] {
            let reader = bytes.reader(policy).unwrap();
            assert_eq!(read(&reader), all, "segment {id}");
            let of_it = reader.segments().unwrap().into_iter().find(|info| info.id.value() == id).unwrap();
            assert_eq!((of_it.state.name(), of_it.lsns), ("headless", range(&spans[&id])));
            let report = bytes.verified(policy);
            assert_eq!(report.findings.len(), 1, "{report:?}");
            is_right(&report.findings[0]);
            assert_eq!((report.entries_recovered, report.entries_skipped), (all.len() as u64, 0));
        }
        for policy in [Policy::Salvage, Policy::PointInTime] {
            let (salvaged, _, next) = bytes.given_up(policy);
            let (found, report) = salvaged.opened();
            assert_eq!(found, [&all[..], &[next]].concat());
            assert!(report.gaps().next().is_none() && report.success, "{report:?}");
            assert_eq!(findings(&report, Seen::BadSegmentHeader).len(), 1);
        }
    }
}

#[test]
fn a_segment_without_a_header_is_read_whatever_its_epoch_and_though_its_first_frames_are_bad() {
    let mut whole = sample(2);
    for n in 0..6u64 {
        // Some openings write nothing but a segment, so that epochs and segments do not go together.
        whole = again(&whole, |log| if n % 3 == 0 { append(log, 1) } else { fill(log, 1) });
    }
    let spans = whole.spans();
    let epochs: Vec<_> = whole.ids().into_iter().map(|id| whole.header(id).epoch).collect();
    assert!(epochs.last().unwrap() > &5, "{epochs:?}");
    let all = all_but(&whole, &[]);
    let sealed: Vec<_> = spans.keys().copied().take(spans.len() - 1).collect();
    for id in &sealed {
        let bytes = whole.headless(&[*id]);
        assert_eq!(read(&bytes.reader(Policy::Default).unwrap()), all, "segment {id} of {epochs:?}");
        // The mark and the entry at its head are gone too.
        let mut bytes = bytes;
        let frames_at = GEOMETRY.frames_at() as usize;
        bytes.0.get_mut(&segment(*id)).unwrap()[frames_at..frames_at + 50].fill(0x11);
        let found = read(&bytes.reader(Policy::Salvage).unwrap());
        let kept: Vec<_> = all.iter().copied().filter(|lsn| lsn != spans[id].start()).collect();
        let whole_is_gone = spans[id].start() == spans[id].end();
        assert!(found == kept, "segment {id}, {whole_is_gone}: {found:?}");
        let report = bytes.verified(Policy::Inspect);
        assert_eq!(report.entries_skipped, 1, "{report:?}");
    }
}

#[test]
fn a_short_segment_without_a_header_is_read_though_its_successor_is_laid_out_otherwise() {
    let old = Geometry { granule: 1, copy_offset: 128, ..GEOMETRY };
    let device = MemoryDevice::new(old);
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::Default)).unwrap();
    fill(&log, 1);
    log.close().unwrap();
    drop(log);
    let whole = again(&Bytes::of(&medium), |log| fill(log, 1));
    let size = whole.header(3).predecessor.size;
    assert!((old.frames_at()..GEOMETRY.frames_at()).contains(&size), "it ends where the next has no frames yet");
    let mut bytes = whole.clone();
    for at in [0, old.copy_offset as usize] {
        bytes.0.get_mut(&segment(2)).unwrap()[at + 40] ^= 4;
    }
    let all = all_but(&whole, &[]);
    assert_eq!(read(&bytes.reader(Policy::Default).unwrap()), all);
    let report = bytes.verified(Policy::Inspect);
    assert_eq!((report.entries_skipped, report.findings.len()), (0, 1), "{report:?}");
    assert_eq!(report.findings[0].seen, Seen::BadSegmentHeader);
    let (found, _) = bytes.given_up(Policy::Salvage).0.opened();
    assert!(found.starts_with(&all), "{found:?}");
}

/// Every way in which five sealed segments may be there, be gone, or have lost their header.
#[test]
fn whatever_is_missing_salvage_reads_all_that_can_be_and_tells_the_rest() {
    let whole = sample(6);
    let spans = whole.spans();
    let mut ways = 0;
    for way in 0..3u32.pow(5) {
        let state = |id: u64| way / 3u32.pow(u32::try_from(id - 1).unwrap()) % 3;
        let of = |wanted: u32| (1..=5).filter(|id| state(*id) == wanted).collect::<Vec<_>>();
        let (missing, headless) = (of(1), of(2));
        let bytes = whole.headless(&headless).without(&missing);
        // Where the successor's header is gone too, nothing tells the nonce.
        let is_lost = |id: u64| state(id) == 1 || (state(id) == 2 && id < 5 && state(id + 1) != 0);
        let gone: Vec<_> = (1..=5).filter(|id| is_lost(*id)).map(|id| spans[&id].clone()).collect();
        let kept = all_but(&whole, &gone);
        let reader = bytes.reader(Policy::Salvage).unwrap();
        assert_eq!(read(&reader), kept, "missing {missing:?}, headless {headless:?}");
        let report = bytes.verified(Policy::Inspect);
        let told: u64 =
            report.findings.iter().filter_map(|finding| finding.lsns).map(|(a, b)| b.value() + 1 - a.value()).sum();
        let lost: u64 = gone.iter().map(|gone| gone.end() + 1 - gone.start()).sum();
        assert_eq!(told, lost, "missing {missing:?}, headless {headless:?}: {report:?}");
        assert_eq!(report.entries_skipped, lost);
        for finding in &report.findings {
            let Some((first, last)) = finding.lsns else { continue };
            let is_gone = |lsn: u64| gone.iter().any(|gone| gone.contains(&lsn));
            assert!((first.value()..=last.value()).all(is_gone), "{finding}");
        }
        if way.is_multiple_of(5) || way < 30 {
            let (salvaged, _, next) = bytes.given_up(Policy::Salvage);
            let (found, _) = salvaged.opened();
            assert_eq!(found, [&kept[..], &[next]].concat(), "missing {missing:?}, headless {headless:?}");
        }
        ways += 1;
    }
    assert_eq!(ways, 243);
}

/// The log is opened for writing when its newest segment has a header and nothing else: it is passed over, and kept.
fn passed_over() -> (Bytes, u64) {
    let whole = sample(3);
    let newest = *whole.ids().last().unwrap();
    let mut crashed = whole;
    crashed.0.remove(&Object::Meta);
    let frames_at = GEOMETRY.frames_at() as usize;
    crashed.0.get_mut(&segment(newest)).unwrap()[frames_at..].fill(GEOMETRY.blank);
    let bytes = again(&crashed, |log| {
        append(log, 1);
        fill(log, 2);
        append(log, 1);
    });
    assert!(bytes.ids().contains(&newest), "the dead segment is kept as evidence");
    assert_eq!(bytes.header(newest + 1).predecessor.id.value(), newest - 1, "it was passed over");
    (bytes, newest)
}

#[test]
fn behind_a_missing_segment_nothing_comes_back_that_was_passed_over() {
    let (whole, dead) = passed_over();
    let spans = whole.spans();
    for gone in [&[dead + 1][..], &[dead + 1, dead - 1], &[dead + 2], &[dead + 2, dead + 1]] {
        let lost: Vec<_> = gone.iter().map(|id| spans[id].clone()).collect();
        let kept = all_but(&whole, &lost);
        let bytes = whole.without(gone);
        assert_eq!(read(&bytes.reader(Policy::Salvage).unwrap()), kept, "{gone:?}");
        let (found, _) = bytes.given_up(Policy::Salvage).0.opened();
        assert_eq!(found[..kept.len()], kept, "{gone:?}");
    }
}

/// A log of five segments without the fourth and the metadata; in the fifth, nothing stands behind the header.
fn empty_behind_a_gap(whole: &Bytes) -> Bytes {
    let mut bytes = whole.without(&[4]);
    bytes.0.remove(&Object::Meta);
    bytes.0.get_mut(&segment(5)).unwrap()[GEOMETRY.frames_at() as usize..].fill(GEOMETRY.blank);
    bytes
}

#[test]
fn a_newest_segment_that_is_passed_over_takes_the_gap_before_it_along() {
    let whole = sample(5);
    let spans = whole.spans();
    let device = empty_behind_a_gap(&whole).device();
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::Salvage)).unwrap();
    append(&log, 1);
    let next = spans[&4].end() + 1;
    let kept: Vec<_> = (1..*spans[&4].start()).chain([next]).collect();
    assert_eq!(lsns(log.read_from(Lsn::ZERO).unwrap().map(Result::unwrap)), kept);
    fill(&log, 1);
    assert!(lsns(log.read_from(Lsn::ZERO).unwrap().map(Result::unwrap)).starts_with(&kept));
    log.close().unwrap();
    drop(log);
    let (found, report) = Bytes::of(&medium).opened();
    assert!(found.starts_with(&kept), "{found:?}");
    assert_eq!(report.gaps().collect::<Vec<_>>(), [range(&spans[&4]).unwrap()]);
}

#[test]
fn a_newest_segment_that_is_passed_over_takes_a_gap_along_that_a_checkpoint_holds() {
    let whole = sample_by(|log| {
        let mut place = log.checkpoint_at();
        while log.segments().unwrap().len() < 5 {
            place = log.checkpoint_at();
            append(log, 1);
        }
        log.checkpoint(place, &Snapshot::default()).unwrap();
    });
    let spans = whole.spans();
    let device = empty_behind_a_gap(&whole).device();
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::Default)).unwrap();
    append(&log, 1);
    // No loss was accepted, so the gap is told wherever it is read over; what is older is read up to there.
    let is_right = |log: &Log<MemoryDevice>| {
        let mut found = Vec::new();
        let told = log.read_from(Lsn::ZERO).unwrap().find_map(|entry| match entry {
            Ok(entry) => {
                found.push(entry.lsn.value());
                None
            }
            Err(error) => error.finding().copied(),
        });
        assert!((1..*spans[&4].start()).eq(found));
        assert_eq!(told.map(|told| (told.object, told.lsns)), Some((segment(4), range(&spans[&4]))));
        let next = spans[&4].end() + 1;
        assert_eq!(lsns(log.read_from(Lsn::new(next)).unwrap().map(Result::unwrap)), [next]);
    };
    is_right(&log);
    log.close().unwrap();
    drop(log);
    let header = Bytes::of(&medium).header(6);
    assert_eq!((header.predecessor.id.value(), header.first.value()), (4, spans[&4].end() + 1), "it was passed over");
    is_right(&Log::open_device(medium.writer().unwrap(), config(Policy::Default)).unwrap());
}

/// A log that was cut in its second segment when it had more, and went on.
fn cut(dead: usize) -> (Bytes, u64, u64) {
    let whole = sample(2 + dead);
    let spans = whole.spans();
    let at = spans[&2].start() + 2;
    assert!(at + 2 < *spans[&2].end());
    let mut cutter = 0;
    let bytes = again(&whole, |log| {
        log.truncate_after(Lsn::new(at)).unwrap();
        cutter = log.segments().unwrap().last().unwrap().id.value();
        // Other bytes under the same LSNs would not be told from the dead ones: they are as long, and differ.
        for _ in 0..40 {
            let next = log.current_lsn().value();
            log.append(&later(next)[..]).unwrap();
        }
    });
    assert_eq!(bytes.header(cutter).predecessor.id.value(), 2);
    assert!(bytes.header(cutter).leftovers);
    (bytes, at, cutter)
}

/// What is appended behind a cut.
fn later(n: u64) -> Vec<u8> {
    payload(n).into_iter().map(|byte| byte ^ 0xA5).collect()
}

/// What is read, of which nothing may be what was cut off.
fn read_behind_cut(reader: &LogReader<MemoryDevice>, at: u64) -> Vec<u64> {
    let entries = reader.read(Lsn::ZERO, Lsn::MAX).unwrap().map(Result::unwrap);
    let right = |entry: Entry| {
        let lsn = entry.lsn.value();
        assert_eq!(entry.payload, if lsn > at { later(lsn) } else { payload(lsn) }, "LSN {lsn} came back");
        lsn
    };
    entries.map(right).collect()
}

#[test]
fn behind_a_missing_segment_nothing_comes_back_that_was_cut_off() {
    for dead in 1..4 {
        let (whole, at, cutter) = cut(dead);
        let spans = whole.spans();
        let last = *spans.values().last().unwrap().end();
        let gone = spans[&cutter].clone();
        let kept: Vec<_> = (1..=last).filter(|lsn| !gone.contains(lsn)).collect();
        let bytes = whole.without(&[cutter]);
        assert_eq!(read_behind_cut(&bytes.reader(Policy::Salvage).unwrap(), at), kept);
        let report = bytes.verified(Policy::Inspect);
        assert_eq!(report.findings.len(), 1, "{report:?}");
        assert_eq!((report.findings[0].object, report.findings[0].lsns), (segment(cutter), range(&gone)));

        // Its own header gone, the same.
        let bytes = whole.headless(&[cutter]);
        let all: Vec<_> = (1..=last).collect();
        assert_eq!(read_behind_cut(&bytes.reader(Policy::Salvage).unwrap(), at), all);

        // Two in a row gone: nothing tells any more where the cut was, so what is older is given up, and told.
        for gone in [[cutter, cutter + 1], [2, cutter]] {
            let bytes = whole.without(&gone);
            let found = read_behind_cut(&bytes.reader(Policy::Salvage).unwrap(), at);
            let report = bytes.verified(Policy::Inspect);
            assert_eq!(report.entries_skipped + found.len() as u64, last, "{report:?}");
            let behind = spans[&gone[1]].end() + 1;
            assert!(found.ends_with(&(behind..=last).collect::<Vec<_>>()), "{found:?}");
        }
    }
}

#[test]
fn a_cut_over_a_segment_boundary_stays_where_the_segment_that_made_it_is_gone() {
    let whole = sample(3);
    let at = whole.spans()[&2].start() + 2;
    let mut cutter = 0;
    let cut = again(&whole, |log| {
        log.truncate_after(Lsn::new(at)).unwrap();
        cutter = log.segments().unwrap().last().unwrap().id.value();
        log.append(&later(at + 1)[..]).unwrap();
    });
    // The third segment was cut off as a whole, and is the newest now.
    let lost = cut.without(&[cutter]);
    assert_eq!(lost.ids(), [1, 2, 3]);
    for policy in [Policy::Inspect, Policy::PointInTime, Policy::Salvage] {
        let found = read_behind_cut(&lost.reader(policy).unwrap(), at);
        assert!((1..=at).eq(found.iter().copied()), "{policy:?}: {found:?}");
    }
    assert_eq!(lost.refused(config(Policy::Default)).seen, Seen::MissingSegment);
    let (given_up, _, next) = lost.given_up(Policy::Salvage);
    assert!(next > at + 1, "what is gone had an LSN");
    let found = read(&given_up.reader(Policy::Default).unwrap());
    assert!((1..=at).chain([next]).eq(found.iter().copied()), "{found:?}");
}

#[test]
fn a_damaged_entry_before_a_cut_is_told_and_nothing_behind_the_cut_is_taken_for_it() {
    let (whole, at, cutter) = cut(1);
    let spans = whole.spans();
    let last = *spans.values().last().unwrap().end();
    let reader = whole.reader(Policy::Strict).unwrap();
    let entry = reader.read(Lsn::new(at), Lsn::new(at)).unwrap().next().unwrap().unwrap();
    let bytes = flip(&whole, segment(2), entry.offset as usize + 40).without(&[cutter]);
    let gone = &spans[&cutter];
    let kept: Vec<_> = (1..=last).filter(|lsn| *lsn != at && !gone.contains(lsn)).collect();
    assert_eq!(read_behind_cut(&bytes.reader(Policy::Salvage).unwrap(), at), kept);
    let report = bytes.verified(Policy::Inspect);
    let told: Vec<_> = report.damage().map(|finding| (finding.object, finding.lsns)).collect();
    assert_eq!(told, [(segment(cutter), range(gone)), (segment(2), range(&(at..=at)))]);
}

#[test]
fn a_transaction_that_crosses_the_low_water_mark_is_whole_though_its_segment_lost_its_header() {
    let device = MemoryDevice::new(GEOMETRY);
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::Default)).unwrap();
    append(&log, 1);
    let transaction = log.transaction().unwrap();
    transaction.append(&payload(3)[..]).unwrap();
    fill(&log, 2);
    let low_water = log.current_lsn();
    transaction.append(&payload(low_water.value())[..]).unwrap();
    assert_eq!(transaction.commit().unwrap().last, low_water.next_or_max());
    log.discard_before(low_water).unwrap();
    fill(&log, 1);
    log.close().unwrap();
    drop(log);
    let bytes = Bytes::of(&medium);
    assert!(bytes.spans()[&3].contains(&low_water.value()) && bytes.ids()[0] == 1);
    let counted = |bytes: &Bytes| {
        let log = Log::open_device(bytes.device(), config(Policy::Salvage)).unwrap();
        let counted = log.replay_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn.value());
        counted.take(2).collect::<Vec<_>>()
    };
    assert_eq!(counted(&bytes), [3, low_water.value()]);
    assert_eq!(counted(&bytes.headless(&[3])), [3, low_water.value()]);
}

#[test]
fn a_transaction_that_crosses_the_low_water_mark_is_read_though_a_segment_that_it_spans_is_missing() {
    let device = MemoryDevice::new(GEOMETRY);
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::Default)).unwrap();
    let transaction = log.transaction().unwrap();
    transaction.append(&payload(2)[..]).unwrap();
    fill(&log, 2);
    let low_water = log.current_lsn();
    fill(&log, 1);
    let last = log.current_lsn();
    transaction.append(&payload(last.value())[..]).unwrap();
    transaction.commit().unwrap();
    log.discard_before(low_water).unwrap();
    fill(&log, 1);
    log.close().unwrap();
    drop(log);
    let bytes = Bytes::of(&medium);
    assert!(bytes.spans()[&3].contains(&low_water.value()) && bytes.spans()[&4].contains(&last.value()));
    let found = |bytes: &Bytes| {
        let log = Log::open_device(bytes.device(), config(Policy::Salvage)).unwrap();
        let found: Vec<_> = log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn.value()).collect();
        found.into_iter().filter(|lsn| *lsn <= 2 || *lsn == last.value()).collect::<Vec<_>>()
    };
    for gone in [2, 3] {
        for damaged in [bytes.without(&[gone]), bytes.headless(&[gone])] {
            assert_eq!(found(&damaged), [1, 2, last.value()], "without segment {gone}");
            let (given_up, ..) = damaged.given_up(Policy::Salvage);
            assert_eq!(found(&given_up), [1, 2, last.value()], "segment {gone} was given up");
        }
    }
}

#[test]
fn entries_that_take_the_lsns_of_accepted_losses_are_missed_when_they_are_lost() {
    let damaged = |bytes: &Bytes, lsn: u64| {
        let reader = bytes.reader(Policy::Strict).unwrap();
        let entry = reader.read(Lsn::new(lsn), Lsn::MAX).unwrap().next().unwrap().unwrap();
        flip(bytes, Object::Segment(entry.segment), entry.offset as usize + 40)
    };
    let whole = sample_by(|log| append(log, 57));
    let (given_up, ..) = damaged(&whole, 10).given_up(Policy::Salvage);
    let cut = again(&given_up, |log| {
        log.truncate_after(Lsn::new(20)).unwrap();
        append(log, 70);
    });
    let (found, report) = cut.opened();
    assert_eq!(found, (1..=90).filter(|lsn| *lsn != 10).collect::<Vec<_>>());
    assert_eq!(report.gaps().collect::<Vec<_>>(), [(Lsn::new(10), Lsn::new(10))]);
    let bytes = damaged(&cut, 30);
    let told: Vec<_> = bytes.verified(Policy::Default).damage().map(|finding| finding.lsns).collect();
    assert_eq!(told, [range(&(30..=30))]);
    assert_eq!(bytes.refused(config(Policy::Default).with_full_check()).lsns, told[0]);
}

/// Entries and batches, over three segments.
fn mixed() -> Bytes {
    sample_by(|log| {
        while log.stats().unwrap().total_segments < 3 {
            append(log, 1);
            let next = log.current_lsn().value();
            let batch: Vec<_> = (next..next + 3).map(payload).collect();
            log.append_batch(&batch.iter().map(|payload| &payload[..]).collect::<Vec<_>>()).unwrap();
        }
    })
}

#[test]
fn reading_back_hands_out_what_stands_behind_damage_tells_of_it_and_passes_what_was_given_up() {
    let whole = mixed();
    let newest = *whole.ids().last().unwrap();
    let last = *whole.spans()[&newest].end();
    let mut met = 0;
    for id in whole.ids() {
        let frames = GEOMETRY.frames_at() as usize;
        for at in (frames..whole.0[&segment(id)].len()).step_by(13) {
            let damaged = flip(&whole, segment(id), at);
            let open = |policy| Log::open_device(damaged.device(), config(policy));
            let kept: Vec<_> = {
                let log = open(Policy::Salvage).unwrap();
                let forth = lsns(log.read_from(Lsn::ZERO).unwrap().map(Result::unwrap));
                let back = log.read_back_to(Lsn::ZERO).unwrap().map(|entry| entry.map(|entry| entry.lsn.value()));
                let back: Result<Vec<_>> = back.collect();
                let is_same = back.as_ref().is_ok_and(|back| forth.iter().rev().eq(back));
                assert!(is_same, "segment {id}, {at}: {forth:?}, and back {back:?}");
                log.append(b"and it is written to").unwrap();
                forth
            };
            let Ok(log) = open(Policy::Default) else { continue };
            let mut back = Vec::new();
            let mut error = None;
            for entry in log.read_back_to(Lsn::ZERO).unwrap() {
                match entry {
                    Ok(entry) => back.push(entry.lsn.value()),
                    Err(met) => error = Some(met),
                }
            }
            let gone: Vec<_> = (1..=last).filter(|lsn| !kept.contains(lsn)).collect();
            let behind = gone.last().map_or(1, |gone| gone + 1);
            assert!(back.iter().copied().eq((behind..=last).rev()), "segment {id}, {at}: {back:?}, without {gone:?}");
            let told = error.and_then(|error| error.finding()?.lsns);
            assert_eq!(told, range_of(&gone), "segment {id}, {at}");
            // Behind damage, and above it, nobody meets it.
            for to in gone.first().into_iter().flat_map(|first| [first + gone.len() as u64, *first]) {
                let log = open(Policy::Default).unwrap();
                let read: Result<Vec<_>> = log.read_back_to(Lsn::new(to)).unwrap().collect();
                assert_eq!(read.is_ok(), to > *gone.last().unwrap(), "segment {id}, {at}, back to {to}");
            }
            met += usize::from(!gone.is_empty());
        }
    }
    assert!(met > 100, "{met} of them take an entry");
}

/// So many entries stand in a segment that only some of their places are remembered at once.
#[test]
fn reading_back_leaves_nothing_out_in_long_segments_either() {
    let geometry = Geometry { segment_size: 32 << 10, ..GEOMETRY };
    let config = |policy| config(policy).with_write_limit(24 << 10);
    let mut random = Random::new(12);
    for (before, batch) in [(0, 1), (0, 70), (0, 99), (0, 200), (2, 70), (10, 300), (64, 100), (65, 150)] {
        let device = MemoryDevice::new(geometry);
        let medium = device.reader();
        let log = Log::open_device(device, config(Policy::Default)).unwrap();
        for _ in 0..before {
            log.append([6; 3]).unwrap();
        }
        log.append_batch(&vec![[7; 3]; batch]).unwrap();
        let batch = before + batch as u64;
        let mut last = 0;
        while last < batch + 150 {
            last = log.append([8; 3]).unwrap().lsn().value();
        }
        log.close().unwrap();
        // It stands in another segment, which proves this one.
        let log = Log::open_device(medium.writer().unwrap(), config(Policy::Default)).unwrap();
        last = log.append([9; 3]).unwrap().lsn().value();
        log.close().unwrap();
        let reader = LogReader::open_device(medium.reader(), config(Policy::Default)).unwrap();
        let places: Vec<_> = reader.read(Lsn::FIRST, Lsn::MAX).unwrap().map(|entry| entry.unwrap().offset).collect();
        let damaged = |lsns: &[u64]| {
            let damaged = MemoryDevice::new(geometry);
            medium.names().into_iter().for_each(|name| damaged.put(name, medium.object(name).unwrap()));
            let mut bytes = medium.object(segment(1)).unwrap();
            lsns.iter().for_each(|lsn| bytes[places[usize::try_from(*lsn).unwrap() - 1] as usize + 30] ^= 1);
            damaged.put(segment(1), bytes);
            damaged
        };
        let what = format!("{before} entries, then a batch up to {batch}");
        let both_ways = |lsns: &[u64]| {
            let log = Log::open_device(damaged(lsns), config(Policy::Salvage)).unwrap();
            let forth: Vec<_> = log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn).collect();
            let back: Vec<_> = log.read_back_to(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn).collect();
            assert!(forth.iter().rev().eq(&back), "{what}, without {lsns:?}, which was given up: {back:?}");
        };
        for lsn in [batch.saturating_sub(2).max(1), batch + 1, batch + 70, batch + 149] {
            let first_behind = if lsn <= batch { batch + 1 } else { lsn + 1 };
            let log = Log::open_device(damaged(&[lsn]), config(Policy::Default)).unwrap();
            let back = log.read_back_to(Lsn::ZERO).unwrap().map_while(Result::ok).map(|entry| entry.lsn.value());
            assert!(back.eq((first_behind..=last).rev()), "{what}, without {lsn}");
            both_ways(&[lsn]);
        }
        for from in [2, 3, batch + 1] {
            both_ways(&(from..last).step_by(2).collect::<Vec<_>>());
        }
        for _ in 0..40 {
            let mut lsns: Vec<u64> = (0..1 + random.below(6)).map(|_| 1 + random.below(last - 1)).collect();
            lsns.sort_unstable();
            lsns.dedup();
            both_ways(&lsns);
        }
    }
}

fn range_of(lsns: &[u64]) -> Option<(Lsn, Lsn)> {
    Some((Lsn::new(*lsns.first()?), Lsn::new(*lsns.last()?)))
}

/// A log whose transaction begins at 4 in the first segment, and holds an entry at the low-water mark in the second, with its
/// commit behind it; and that entry's LSN. Whether the transaction holds the entry at 5 too is up to the caller.
fn crossed(holds_more: bool) -> (Bytes, u64) {
    let device = MemoryDevice::new(GEOMETRY);
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::Default)).unwrap();
    append(&log, 3);
    let transaction = log.transaction().unwrap();
    if holds_more {
        transaction.append(&payload(5)[..]).unwrap();
    }
    fill(&log, 1);
    let low_water = log.current_lsn();
    transaction.append(&payload(low_water.value())[..]).unwrap();
    transaction.commit().unwrap();
    append(&log, 2);
    log.discard_before(low_water).unwrap();
    log.close().unwrap();
    (Bytes::of(&medium), low_water.value())
}

/// What counts under this policy, and what was passed over.
fn counted(bytes: &Bytes, policy: Policy) -> (Vec<u64>, Vec<Finding>) {
    let mut entries = bytes.reader(policy).unwrap().replay_from(Lsn::ZERO).unwrap();
    (entries.by_ref().map_while(Result::ok).map(|entry| entry.lsn.value()).collect(), entries.findings().to_vec())
}

/// The place of a frame of an application's entry or a begin in the first segment, by its LSN: it may lie below the mark.
fn place_of(bytes: &Bytes, lsn: u64) -> usize {
    let bytes = &bytes.0[&segment(1)];
    let found = (GEOMETRY.frames_at() as usize..bytes.len() - 20)
        .find(|at| bytes[*at..].starts_with(b"WAL1") && bytes[at + 12..at + 20] == lsn.to_le_bytes());
    found.unwrap_or_else(|| panic!("no frame of LSN {lsn}"))
}

#[test]
fn where_the_begin_of_a_transaction_is_lost_nothing_of_it_is() {
    for holds_more in [false, true] {
        let (sound, mark) = crossed(holds_more);
        let begun = flip(&sound, segment(1), place_of(&sound, 4) + 30);
        for policy in [Policy::Strict, Policy::Default, Policy::PointInTime, Policy::Salvage] {
            let (expected, _) = counted(&sound, policy);
            assert!(expected.contains(&mark) && expected.contains(&5) == holds_more, "{expected:?}");
            assert_eq!(counted(&begun, policy), (expected, vec![]), "{policy:?}");
            assert!(begun.verified(policy).clean, "{policy:?}");
        }
        // One that stands between what is lost is not lost: it crosses the mark, and is handed out.
        let around = flip(&sound, segment(1), place_of(&sound, 2) + 50);
        let around = flip(&around, segment(1), place_of(&sound, 6) + 50);
        for bytes in [&sound, &around] {
            let mut entries = bytes.reader(Policy::Default).unwrap().read(Lsn::ZERO, Lsn::MAX).unwrap();
            assert_eq!(entries.next().unwrap().unwrap().lsn, Lsn::new(4));
        }
    }
}

#[test]
fn what_may_have_been_of_a_transaction_that_commits_above_the_low_water_mark_is_missed_by_whoever_verifies() {
    let (sound, mark) = crossed(false);
    let begun = flip(&sound, segment(1), place_of(&sound, 4) + 30);
    // The entry at 5 is another's. Where its frame is known to be that of one, nothing is missed: it was given up.
    let others = flip(&begun, segment(1), place_of(&sound, 5) + 40);
    assert!(others.verified(Policy::Strict).clean);
    let expected = counted(&sound, Policy::Default);
    assert_eq!((&counted(&others, Policy::Default), &counted(&others, Policy::Salvage)), (&expected, &expected));
    // Nothing says so any more; nor of those in a segment that is gone.
    let mut unknown = begun.clone();
    unknown.0.get_mut(&segment(1)).unwrap()[place_of(&sound, 5)..place_of(&sound, 6)].fill(0);
    for damaged in [unknown, sound.without(&[1])] {
        let report = damaged.verified(Policy::Inspect);
        let told: Vec<_> = report.damage().map(|finding| finding.lsns).collect();
        assert!(!told.is_empty(), "the transaction commits above the mark");
        let gone = (Lsn::new(5), Lsn::new(told[0].unwrap().1.value()));
        assert_eq!(told, [Some(gone), range(&(mark..=mark + 1))], "and so is what is left of the transaction");
        assert_eq!(damaged.refused(config(Policy::Default).with_full_check()).lsns, Some(gone));
        let (found, passed_over) = counted(&damaged, Policy::Salvage);
        assert_eq!(found, [mark + 2, mark + 3]);
        assert_eq!(passed_over.iter().map(|finding| finding.lsns).collect::<Vec<_>>(), [Some(gone)]);
    }
}

/// A log of three segments, in the second of which a transaction ends that began in the first, before a checkpoint; and the
/// LSNs that belong to the transaction.
fn held(work: impl Fn(&Log<MemoryDevice>)) -> (Bytes, Vec<u64>) {
    let mut own = vec![2];
    let bytes = made_by(|log| {
        append(log, 1);
        let transaction = log.transaction().unwrap();
        own.extend([3, 4].map(|lsn| transaction.append(&payload(lsn)[..]).unwrap().lsn().value()));
        fill(log, 1);
        own.push(log.current_lsn().value());
        transaction.append(&payload(own[3])[..]).unwrap();
        own.push(transaction.commit().unwrap().lsn().value());
        append(log, 1);
        log.checkpoint(log.checkpoint_at(), &Snapshot::default()).unwrap();
        work(log);
        fill(log, 1);
    });
    (bytes, own)
}

/// The LSNs of entries, in their order, or the first error.
fn all<D: SharedDevice>(entries: duralog::Entries<D>) -> Result<Vec<u64>> {
    entries.map(|entry| entry.map(|entry| entry.lsn.value())).collect()
}

#[test]
fn where_a_checkpoint_holds_a_transaction_that_lost_its_front_all_that_is_left_is_read_and_nothing_is_missed() {
    let (sound, own) = held(|_| {});
    let without = sound.without(&[1]);
    // Opened for writing, it says itself that it begins there.
    let reopened = again(&without, |log| append(log, 1));
    let low_water = *sound.spans()[&2].start();
    for bytes in [&without, &reopened] {
        let last = bytes.verified(Policy::Default).last_valid_lsn.value();
        for policy in [Policy::Strict, Policy::Default, Policy::PointInTime, Policy::Salvage] {
            let report = bytes.verified(policy);
            assert!(report.success && report.damage().next().is_none(), "{report:?}");
            let forwards = all(bytes.reader(policy).unwrap().read(Lsn::ZERO, Lsn::MAX).unwrap());
            let forwards = forwards.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(forwards, (low_water..=last).collect::<Vec<_>>(), "{policy:?}");
            // What was part of the transaction does not count without the rest of it: a checkpoint holds it.
            let (counts, told) = counted(bytes, policy);
            assert_eq!(counts.iter().filter(|lsn| own.contains(lsn)).count(), 0, "{policy:?}: {counts:?}");
            assert!(
                counts.len() > 5 && (told.is_empty() || policy == Policy::Salvage),
                "{policy:?}: {counts:?}, {told:?}"
            );
        }
        let log = Log::open_device(bytes.device(), config(Policy::Default)).unwrap();
        let back = all(log.read_back_to(Lsn::ZERO).unwrap());
        assert!(back.as_ref().is_ok_and(|back| back.len() as u64 == last - low_water + 1), "{back:?}");
    }
}

#[test]
fn where_the_checkpoint_that_held_the_front_of_a_transaction_is_bad_too_the_state_is_lost_and_not_short_of_it() {
    let mut taken = vec![];
    let sound = made_by(|log| {
        let transaction = log.transaction().unwrap();
        transaction.append(&payload(2)[..]).unwrap();
        fill(log, 1);
        let snapshot = duralog::StateMachine::snapshot(&duralog::Documents::default());
        taken.push(log.checkpoint(log.checkpoint_at(), &snapshot).unwrap());
        transaction.commit().unwrap();
        taken.push(log.checkpoint(log.checkpoint_at(), &snapshot).unwrap());
        append(log, 1);
    });
    let [open, held] = taken[..] else { panic!("{taken:?}") };
    let rebuilt = |bytes: &Bytes| {
        let log = Log::open_device(bytes.device(), config(Policy::Default)).unwrap();
        log.rebuild(&mut duralog::Documents::default()).map(|rebuilt| rebuilt.checkpoint_used.map(|(id, _)| id))
    };
    let (without, place) = (sound.without(&[1]), Object::Checkpoint(held));
    // Behind its header, which alone an opening reads.
    let bad = 85;
    assert_eq!(rebuilt(&without).unwrap(), Some(held));
    assert_eq!(rebuilt(&flip(&sound, place, bad)).unwrap(), Some(open), "what it needs is there");
    let lost = rebuilt(&flip(&without, place, bad));
    assert!(matches!(lost, Err(Error::StateLost { .. })), "{lost:?}");
}

#[test]
fn damage_below_a_mark_that_a_checkpoint_holds_harms_no_transaction_that_goes_over_it() {
    let (sound, own) = held(|log| assert_eq!(log.truncate_before(Lsn::new(5)).unwrap(), Lsn::new(5)));
    let (whole, _) = counted(&sound, Policy::Default);
    assert!([3, 4].iter().all(|lsn| whole.contains(lsn)), "{whole:?}");
    let damaged = flip(&sound, segment(1), place_of(&sound, 3) + 50);
    for policy in [Policy::Strict, Policy::Default, Policy::PointInTime, Policy::Salvage] {
        let (counts, told) = counted(&damaged, policy);
        let others: Vec<_> = whole.iter().copied().filter(|lsn| !own.contains(lsn)).collect();
        assert_eq!((&counts, told.len()), (&others, usize::from(policy == Policy::Salvage)), "{policy:?}: {told:?}");
    }
    let log = Log::open_device(damaged.device(), config(Policy::Default)).unwrap();
    let back = all(log.read_back_to(Lsn::ZERO).unwrap());
    assert!(back.is_ok(), "{back:?}");
}

#[test]
fn a_committed_transaction_that_loses_an_entry_is_gone_with_all_its_lsns_and_nothing_else_is() {
    let sound = made_by(|log| {
        append(log, 1);
        let transaction = log.transaction().unwrap();
        let in_transaction = |lsn: u64| assert_eq!(transaction.append(&payload(lsn)[..]).unwrap().first.value(), lsn);
        in_transaction(3);
        append(log, 1);
        (5..=6).for_each(in_transaction);
        transaction.commit().unwrap();
        fill(log, 1);
    });
    let last = *sound.spans()[&2].end();
    let damaged = flip(&sound, segment(1), place_of(&sound, 5) + 50);
    let lost = [5..=5, 2..=3, 6..=7].map(|lsns| range(&lsns));
    let lsns = |findings: &mut dyn Iterator<Item = &Finding>| findings.map(|finding| finding.lsns).collect::<Vec<_>>();
    for policy in [Policy::Strict, Policy::Default, Policy::Salvage, Policy::Inspect] {
        let report = damaged.verified(policy);
        assert_eq!(lsns(&mut report.damage()), lost, "{policy:?}");
        assert_eq!((report.entries_recovered, report.entries_skipped), (last - 5, 5), "{policy:?}");
    }
    let expected: Vec<_> = [1, 4].into_iter().chain(8..=last).collect();
    assert_eq!(counted(&damaged, Policy::Salvage).0, expected);
    let (kept, report, _) = damaged.given_up(Policy::Salvage);
    assert_eq!((lsns(&mut report.damage()), report.entries_recovered), (lost.to_vec(), last - 5));
    let report = kept.verified(Policy::Default);
    assert!(report.success, "{report:?}");
    assert_eq!(lsns(&mut report.findings.iter().filter(|finding| report.is_gap(finding))), lost);
}

#[test]
fn of_transactions_side_by_side_one_wrong_byte_takes_the_one_that_it_is_of_and_no_other() {
    let sound = made_by(|log| {
        append(log, 1);
        // Their ids differ by one bit.
        let (one, other) = (log.transaction().unwrap(), log.transaction().unwrap());
        for lsn in 4..=7 {
            let transaction = if lsn % 2 == 0 { &one } else { &other };
            assert_eq!(transaction.append(&payload(lsn)[..]).unwrap().first.value(), lsn);
        }
        one.commit().unwrap();
        other.commit().unwrap();
        fill(log, 1);
    });
    let last = *sound.spans()[&2].end();
    let kept: Vec<_> = [1, 5, 7].into_iter().chain(10..=last).collect();
    // One that loses its begin loses nothing else.
    let begun = flip(&sound, segment(1), place_of(&sound, 2) + 30);
    let all: Vec<_> = [1, 4, 6, 5, 7].into_iter().chain(10..=last).collect();
    assert_eq!(counted(&begun, Policy::Salvage).0, all);
    let lost: Vec<_> = begun.verified(Policy::Default).damage().map(|finding| finding.lsns).collect();
    assert_eq!(lost, [range(&(2..=2))]);
    for lsn in [4, 6, 8] {
        let at = place_of(&sound, lsn);
        let len = u32::from_le_bytes(sound.0[&segment(1)][at + 4..at + 8].try_into().unwrap()) as usize;
        for byte in 0..len {
            for change in [1, 0x80, 0xFF] {
                let mut damaged = sound.clone();
                damaged.0.get_mut(&segment(1)).unwrap()[at + byte] ^= change;
                let what = format!("byte {byte} of LSN {lsn}, changed by {change:#x}");
                assert_eq!(counted(&damaged, Policy::Salvage).0, kept, "{what}");
                let report = damaged.verified(Policy::Default);
                let lost = report
                    .damage()
                    .flat_map(|finding| finding.lsns.unwrap().0.value()..=finding.lsns.unwrap().1.value());
                assert_eq!(lost.collect::<BTreeSet<_>>(), BTreeSet::from([2, 4, 6, 8]), "{what}");
            }
        }
    }
}

#[test]
fn a_log_that_ends_before_damage_ends_before_the_commit_of_what_lost_an_entry_below_the_low_water_mark() {
    let (sound, mark) = crossed(true);
    let damaged = flip(&sound, segment(1), place_of(&sound, 5) + 50);
    assert_eq!(counted(&damaged, Policy::PointInTime).0, [0; 0]);
    let log = Log::open_device(damaged.device(), config(Policy::PointInTime)).unwrap();
    assert_eq!(log.recovery().last_valid_lsn.value(), mark);
    let counted: Vec<_> = log.replay_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn.value()).collect();
    assert_eq!(counted, [0; 0], "as a reader says that was told to end there");
    assert_eq!(log.append(b"goes on").unwrap().lsn().value(), mark + 4);
}

#[test]
fn what_a_checkpoint_holds_of_a_torn_transaction_is_no_loss_whatever_else_was_open_there() {
    let sound = made_by(|log| {
        let torn = log.transaction().unwrap();
        torn.append(&payload(2)[..]).unwrap();
        append(log, 1);
        let open = log.transaction().unwrap();
        torn.commit().unwrap();
        log.checkpoint(log.checkpoint_at(), &Snapshot::default()).unwrap();
        open.append(&payload(7)[..]).unwrap();
        open.commit().unwrap();
        fill(log, 1);
    });
    let damaged = flip(&sound, segment(1), place_of(&sound, 2) + 50);
    let report = damaged.verified(Policy::Default);
    let told: Vec<_> = report.findings.iter().filter_map(|finding| Some((finding.lsns?, finding.harmless))).collect();
    let lost = [2..=2, 1..=1, 5..=5].map(|lsns| (range(&lsns).unwrap(), true));
    assert_eq!((told, report.success), (lost.to_vec(), true), "the commit is above the floor of what is open");
    let log = Log::open_device(damaged.device(), config(Policy::Default).with_full_check()).unwrap();
    log.append(b"goes on").unwrap();
}

#[test]
fn a_log_that_ends_before_damage_does_so_right_behind_what_was_given_up_before_too() {
    let (given_up, _, next) =
        flip(&sample(3), segment(2), GEOMETRY.frames_at() as usize + 300).given_up(Policy::PointInTime);
    let bytes = again(&given_up, |log| fill(log, 2));
    let entry = bytes.reader(Policy::Default).unwrap().read(Lsn::new(next), Lsn::MAX).unwrap().next().unwrap().unwrap();
    let damaged = flip(&bytes, Object::Segment(entry.segment), entry.offset as usize + 50);
    let first = damaged.refused(config(Policy::Default).with_full_check()).lsns;
    assert_eq!(first, range(&(next..=next)));
    let last = bytes.spans().values().map(|span| *span.end()).max().unwrap();
    let opened = Log::open_device(damaged.device(), config(Policy::PointInTime)).map(|log| log.current_lsn().value());
    assert!(matches!(opened, Ok(next) if next == last + 1), "{opened:?}");
    let (kept, _, goes_on_at) = damaged.given_up(Policy::PointInTime);
    let kept = read(&kept.reader(Policy::Default).unwrap());
    assert!(kept[0] == 1 && kept.ends_with(&[goes_on_at]) && kept[kept.len() - 2] < next, "{kept:?}");
}

/// The last entry of a log that was killed, which nothing says to have been durable.
#[test]
fn what_stands_behind_the_damage_that_a_log_ends_before_is_given_up_by_its_lsns() {
    let (whole, last) = killed(1);
    let damaged = flip(&whole, segment(1), place_of(&whole, last - 1) + 50);
    let (_, report, next) = damaged.given_up(Policy::PointInTime);
    let told: Vec<_> = report.damage().map(|finding| finding.lsns).collect();
    assert_eq!((told, next), (vec![range(&(last - 1..=last))], last + 1));
}

#[test]
fn damage_below_the_low_water_mark_to_what_was_another_transactions_concerns_nobody_where_one_crosses_the_mark() {
    for is_committed in [true, false] {
        let sound = made_by(|log| {
            let crosses = log.transaction().unwrap();
            let other = log.transaction().unwrap();
            other.append(&payload(3)[..]).unwrap();
            crosses.append(&payload(4)[..]).unwrap();
            other.append(&payload(5)[..]).unwrap();
            append(log, 1);
            if is_committed {
                other.commit().unwrap();
            } else {
                other.rollback().unwrap();
            }
            append(log, 2);
            log.discard_before(Lsn::new(9)).unwrap();
            append(log, 1);
            crosses.commit().unwrap();
            append(log, 1);
        });
        let (counts, last) = (counted(&sound, Policy::Strict), 12);
        assert_eq!(counts.0, [9, 10, 4, 12]);
        for lost in [2, 3, 5, 6, 7, 8] {
            let damaged = flip(&sound, segment(1), place_of(&sound, lost) + 35);
            for policy in [Policy::Strict, Policy::Default, Policy::PointInTime, Policy::Salvage] {
                assert_eq!(counted(&damaged, policy), counts, "{policy:?}, without LSN {lost}");
                let report = damaged.verified(policy);
                assert!(report.clean && report.damage().count() == 0, "{policy:?}, without LSN {lost}: {report:?}");
            }
            let log = Log::open_device(damaged.device(), config(Policy::Strict).with_full_check()).unwrap();
            let forth: Result<Vec<_>> = log.read_from(Lsn::ZERO).unwrap().map(|entry| Ok(entry?.lsn.value())).collect();
            let back: Result<Vec<_>> =
                log.read_back_to(Lsn::ZERO).unwrap().map(|entry| Ok(entry?.lsn.value())).collect();
            let expected: Vec<_> = [1, 4].into_iter().chain(9..=last).collect();
            assert!(forth.as_ref().is_ok_and(|forth| *forth == expected), "without LSN {lost}: {forth:?}");
            assert!(back.as_ref().is_ok_and(|back| back.iter().eq(expected.iter().rev())), "{lost}: {back:?}");
        }
        // That of the one that crosses does.
        let damaged = flip(&sound, segment(1), place_of(&sound, 4) + 35);
        assert_eq!(damaged.refused(config(Policy::Default).with_full_check()).lsns, range(&(4..=4)));
        let log = Log::open_device(damaged.device(), config(Policy::Default)).unwrap();
        assert!(log.read_back_to(Lsn::ZERO).unwrap().any(|entry| entry.is_err()));
    }
}

#[test]
fn what_is_left_of_a_transaction_that_lost_its_commit_is_told_below_the_low_water_mark_too_whatever_else_is_damaged_there()
 {
    let sound = made_by(|log| {
        append(log, 2);
        let transaction = log.transaction().unwrap();
        transaction.append(&payload(4)[..]).unwrap();
        append(log, 1);
        log.discard_before(Lsn::new(6)).unwrap();
        transaction.append(&payload(6)[..]).unwrap();
        transaction.commit().unwrap();
        append(log, 1);
    });
    let one = flip(&sound, segment(1), place_of(&sound, 7) + 30);
    let both = flip(&one, segment(1), place_of(&sound, 2) + 40);
    for damaged in [one, both] {
        let report = damaged.verified(Policy::Salvage);
        let told: Vec<_> = report.damage().map(|finding| finding.lsns).collect();
        assert_eq!(told, [7..=7, 3..=4, 6..=6].map(|lsns| range(&lsns)));
        assert_eq!(report.entries_skipped, 2);
    }
}

#[test]
fn a_damaged_entry_that_is_the_last_of_its_segment_takes_nothing_of_the_transactions_around_it() {
    for is_below in [false, true] {
        let sound = made_by(|log| {
            let transaction = log.transaction().unwrap();
            transaction.append(&payload(2)[..]).unwrap();
            fill(log, 1);
            if is_below {
                log.discard_before(log.current_lsn()).unwrap();
            }
            transaction.commit().unwrap();
            fill(log, 1);
        });
        let last = sound.header(2).first.previous().value();
        let damaged = flip(&sound, segment(1), place_of(&sound, last) + 40);
        let (counts, found) = (counted(&sound, Policy::Strict).0, counted(&damaged, Policy::Salvage).0);
        assert!(found.contains(&2), "{found:?}");
        assert!(found.iter().eq(counts.iter().filter(|lsn| **lsn != last)), "{found:?}, of {counts:?}");
        let report = damaged.verified(Policy::Default);
        let told: Vec<_> = report.damage().map(|finding| finding.lsns).collect();
        assert_eq!(told, if is_below { vec![] } else { vec![range(&(last..=last))] });
        let log = Log::open_device(damaged.device(), config(Policy::Default)).unwrap();
        let back = log.read_back_to(Lsn::ZERO).unwrap();
        let back: Vec<_> =
            back.map(|entry| entry.map_err(|error| error.finding().and_then(|gone| gone.lsns))).collect();
        let refused = (!is_below).then_some(range(&(last..=last)));
        assert_eq!(back.last().unwrap().as_ref().err(), refused.as_ref(), "{back:?}");
    }
}

#[test]
fn a_transaction_whose_commit_was_given_up_with_an_entry_of_it_is_not_there_at_a_later_opening_either() {
    let sound = made_by(|log| {
        let crosses = log.transaction().unwrap();
        crosses.append(&payload(2)[..]).unwrap();
        log.checkpoint(log.checkpoint_at(), &Snapshot::default()).unwrap();
        crosses.append(&payload(4)[..]).unwrap();
        crosses.commit().unwrap();
        append(log, 3);
        log.discard_before(Lsn::new(4)).unwrap();
    });
    // The mark before the entry too: nothing tells whose that was.
    let mut damaged = sound.clone();
    let at = place_of(&sound, 3);
    damaged.0.get_mut(&segment(1)).unwrap()[at - 35..at + 20].fill(0x77);
    let device = damaged.device();
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::PointInTime)).unwrap();
    append(&log, 1);
    let read = |log: &Log<MemoryDevice>| -> Vec<u64> {
        log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn.value()).collect()
    };
    let first = read(&log);
    drop(log);
    // What the first opening wrote, the next copies into a segment where no transaction is open.
    let log = Log::open_device(medium.writer().unwrap(), config(Policy::PointInTime)).unwrap();
    assert_eq!((first, read(&log)), (vec![4, 9], vec![4, 9]));
}

#[test]
fn no_lsn_of_a_batch_is_given_out_again_that_lost_an_entry_where_a_loss_up_to_its_end_was_accepted() {
    let device = MemoryDevice::new(GEOMETRY);
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::Default)).unwrap();
    append(&log, 3);
    let batch: Vec<_> = (4..=6).map(payload).collect();
    log.append_batch(&batch.iter().map(|payload| &payload[..]).collect::<Vec<_>>()).unwrap();
    // It was killed: no mark behind it says how far it went.
    let sound = Bytes::of(&medium);
    drop(log);
    let accepted = sound.with_header(SegmentHeader { accepted_loss: Lsn::new(6), ..sound.header(1) });
    let damaged = flip(&accepted, segment(1), place_of(&sound, 5) + 40);
    let log = Log::open_device(damaged.device(), config(Policy::Default)).unwrap();
    assert_eq!(log.append(&payload(7)[..]).unwrap().lsn(), Lsn::new(7));
    assert_eq!(lsns(log.read_from(Lsn::ZERO).unwrap().map(Result::unwrap)), [1, 2, 3, 7]);
}

/// A transaction that a later epoch rolled back is none that ends above the low-water mark.
#[test]
fn damage_to_a_transaction_that_came_to_nothing_keeps_no_reader_from_what_is_above_the_low_water_mark() {
    let device = MemoryDevice::new(GEOMETRY);
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::Default)).unwrap();
    append(&log, 1);
    let transaction = log.transaction().unwrap();
    transaction.append(&payload(3)[..]).unwrap();
    append(&log, 2);
    let bytes = again(&Bytes::of(&medium), |log| {
        append(log, 3);
        log.discard_before(Lsn::new(5)).unwrap();
        fill(log, 1);
    });
    let last = bytes.spans().values().map(|span| *span.end()).max().unwrap();
    let damaged = flip(&bytes, segment(1), place_of(&bytes, 3) + 50);
    let entries = damaged.reader(Policy::Default).unwrap().read(Lsn::ZERO, Lsn::MAX).unwrap();
    let read: Result<Vec<_>> = entries.map(|entry| entry.map(|entry| entry.lsn.value())).collect();
    assert!(read.as_ref().is_ok_and(|read| read.iter().copied().eq(5..=last)), "{read:?}");
}

#[test]
fn what_salvage_found_behind_two_lost_segments_is_there_at_the_next_opening_too() {
    let mut whole = sample(7);
    let spans = whole.spans();
    // The power went right behind a rotation: the newest segment is begun, and holds nothing.
    let begun = whole.0.get_mut(&segment(7)).unwrap();
    begun[GEOMETRY.frames_at() as usize..].fill(GEOMETRY.blank);
    assert!(whole.0.remove(&Object::Meta).is_some());
    for lost in [whole.without(&[5, 6]), whole.without(&[6]).headless(&[5])] {
        let found = read(&lost.reader(Policy::Salvage).unwrap());
        assert!((1..=*spans[&4].end()).all(|lsn| found.contains(&lsn)), "{found:?}");
        let (given_up, _, added) = lost.given_up(Policy::Salvage);
        let later = read(&given_up.reader(Policy::Default).unwrap());
        assert!(later.iter().copied().eq(found.into_iter().chain([added])), "{later:?}");
    }
}

#[test]
fn behind_a_missing_segment_nothing_comes_back_that_point_in_time_gave_up() {
    let whole = sample(5);
    let spans = whole.spans();
    // The log ends within the second segment; the newest stays as evidence, with entries that are dead.
    let mut damaged = whole.clone();
    let bad = spans[&2].start() + 2;
    let reader = whole.reader(Policy::Strict).unwrap();
    let entry = reader.read(Lsn::new(bad), Lsn::new(bad)).unwrap().next().unwrap().unwrap();
    damaged.0.get_mut(&segment(2)).unwrap()[entry.offset as usize + 40] ^= 1;
    let (ended, _, next) = damaged.given_up(Policy::PointInTime);
    let went_on = again(&ended, |log| fill(log, 2));
    let cutter = went_on.ids().into_iter().find(|id| *id > 5).unwrap();
    assert!(went_on.ids().contains(&5), "the evidence is there");
    assert_eq!(went_on.header(cutter).first.value(), next);
    let successor = went_on.header(cutter + 1);
    assert_eq!(successor.predecessor.first(), Some(Lsn::new(bad)), "what was given up belongs to its span");
    let bytes = went_on.without(&[cutter]);
    let found = read(&bytes.reader(Policy::Salvage).unwrap());
    assert_eq!(found[..2 * usize::from(bad > 0)], [1, 2]);
    assert!(found.iter().all(|lsn| *lsn < bad || *lsn > successor.predecessor.last.value()), "{found:?}");
    assert!((1..bad).eq(found.iter().copied().take_while(|lsn| *lsn < bad)), "{found:?}");
    let report = bytes.verified(Policy::Inspect);
    let damage: Vec<_> = report.damage().map(|finding| (finding.object, finding.lsns)).collect();
    assert_eq!(damage, [(segment(cutter), range(&(next..=successor.predecessor.last.value())))]);
    assert_eq!(report.gaps().collect::<Vec<_>>(), [range(&(bad..=next - 1)).unwrap()]);
}

#[test]
fn what_is_missing_below_the_low_water_mark_is_no_loss() {
    let whole = sample(6);
    let spans = whole.spans();
    let low_water = spans[&3].start() + 1;
    let truncated = again(&whole, |log| {
        assert_eq!(log.discard_before(Lsn::new(low_water)).unwrap().value(), low_water);
    });
    assert_eq!(truncated.ids()[0], 3);
    let report = truncated.verified(Policy::Inspect);
    assert!(report.success && report.findings.is_empty(), "{report:?}");
    // Of the segment that holds it, what is at or above it is gone.
    let report = truncated.without(&[3]).verified(Policy::Inspect);
    let lsns: Vec<_> = report.damage().map(|finding| (finding.object, finding.lsns)).collect();
    assert_eq!(lsns, [(segment(3), range(&(low_water..=*spans[&3].end())))]);
    let report = truncated.without(&[4]).verified(Policy::Inspect);
    let lsns: Vec<_> = report.damage().map(|finding| (finding.object, finding.lsns)).collect();
    assert_eq!(lsns, [(segment(4), range(&spans[&4]))]);
    let headless = truncated.headless(&[3]);
    let found = read(&headless.reader(Policy::Salvage).unwrap());
    assert_eq!(found[0], low_water);
    // It holds the mark and has no header: nothing that a transaction may need is removed.
    let kept = headless.given_up(Policy::Salvage).0;
    assert!(kept.ids().contains(&3));
}

#[test]
fn a_transaction_that_lost_a_segment_does_not_count_and_the_others_do() {
    let device = MemoryDevice::new(GEOMETRY);
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::Default)).unwrap();
    append(&log, 1);
    let transaction = log.transaction().unwrap();
    transaction.append(&payload(3)[..]).unwrap();
    fill(&log, 2);
    transaction.append(&payload(log.current_lsn().value())[..]).unwrap();
    let commit = transaction.commit().unwrap().last.value();
    append(&log, 2);
    log.close().unwrap();
    drop(log);
    let bytes = Bytes::of(&medium).without(&[2]);
    let salvaged = bytes.given_up(Policy::Salvage).0;
    let log = Log::open_device(salvaged.device(), config(Policy::Default)).unwrap();
    let counted: Vec<_> = log.replay_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn.value()).collect();
    assert!(counted.contains(&1) && counted.contains(&(commit + 1)), "{counted:?}");
    assert!(!counted.contains(&3) && !counted.contains(&(commit - 1)), "a part of the transaction counts: {counted:?}");
}

#[test]
fn a_crash_while_a_gap_is_given_up_leaves_a_log_that_gives_it_up_again() {
    use duralog::faulty::{Keep, Medium, Plan};
    let whole = sample(5).without(&[3]).headless(&[1]);
    let medium = Medium::new(GEOMETRY);
    for (object, bytes) in &whole.0 {
        let mut device = medium.device();
        duralog::core::Device::create(&mut device, *object, bytes.len() as u64).unwrap();
        duralog::core::Device::write(&mut device, *object, 0, bytes).unwrap();
        duralog::core::Device::sync(&mut device).unwrap();
    }
    let salvage = |medium: &Medium| Log::open_device(medium.device(), config(Policy::Salvage));
    let kept = read(&whole.reader(Policy::Salvage).unwrap());
    let calls = {
        let medium = medium.snapshot();
        medium.set_plan(Plan::default());
        salvage(&medium).unwrap().close().unwrap();
        medium.calls()
    };
    assert!(calls > 3);
    for call in 0..calls {
        for keep in [Keep::None, Keep::All] {
            let medium = medium.snapshot();
            medium.set_plan(Plan { cut_at_call: Some(call), ..Plan::default() });
            drop(salvage(&medium));
            medium.power_cut(|_| keep.clone());
            let log = salvage(&medium).unwrap();
            let entries = lsns(log.read_from(Lsn::ZERO).unwrap().map(Result::unwrap));
            assert_eq!(entries, kept, "cut at call {call}, keeping {keep:?}");
            drop(log);
            let log = Log::open_device(medium.device(), config(Policy::Default)).unwrap();
            assert_eq!(lsns(log.read_from(Lsn::ZERO).unwrap().map(Result::unwrap)), kept);
        }
    }
}

#[test]
fn a_refused_write_is_remembered_by_the_headers_that_follow() {
    let whole = sample(2);
    assert!(whole.ids().iter().all(|id| !whole.header(*id).leftovers));
    use duralog::faulty::{Failure, Medium, Plan};
    let medium = Medium::new(GEOMETRY);
    let log = Log::open_device(medium.device(), config(Policy::Default)).unwrap();
    append(&log, 1);
    let next = medium.calls();
    drop(log);
    let medium = Medium::new(GEOMETRY);
    medium.set_plan(Plan { fail: vec![(next, Failure::NoSpaceAfter(20))], ..Plan::default() });
    let log = Log::open_device(medium.device(), config(Policy::Default)).unwrap();
    append(&log, 1);
    let refused = log.append(&payload(2)[..]).unwrap_err();
    assert!(matches!(refused, Error::NoSpace(_)), "{refused}");
    append(&log, 1);
    let newest = log.segments().unwrap().last().unwrap().id;
    let bytes = medium.object(Object::Segment(newest)).unwrap();
    assert!(SegmentHeader::decode(portable, &bytes, 0).unwrap().leftovers);
}

// ---- rows of the decision table

#[test]
fn row_c_a_lost_tail_is_named_with_its_witness() {
    let whole = sample(3);
    let spans = whole.spans();
    let (newest, span) = spans.iter().next_back().unwrap();
    let reader = whole.reader(Policy::Strict).unwrap();
    let last = reader.read(Lsn::new(*span.end()), Lsn::MAX).unwrap().next().unwrap().unwrap();
    let mut bytes = whole.clone();
    bytes.0.get_mut(&segment(*newest)).unwrap()[last.offset as usize..].fill(GEOMETRY.blank);
    let behind = u64::from(last.offset);
    let is_right = |finding: Finding, witness: Witness, last: u64| {
        assert_eq!((finding.verdict, finding.seen, finding.witness), (Verdict::Rot, Seen::End, Some(witness)));
        assert_eq!((finding.object, finding.lsns), (segment(*newest), range(&(*span.end()..=last))));
        assert_eq!(finding.offset, behind.next_multiple_of(GEOMETRY.granule.into()));
    };
    // Closed, it left `wal.meta`.
    let durable = Lsn::new(*span.end());
    is_right(bytes.refused(config(Policy::Default)), Witness::Meta { durable }, *span.end());
    bytes.0.remove(&Object::Meta);
    let expected = config(Policy::Default).with_expect_durable(durable);
    is_right(bytes.refused(expected), Witness::Caller { durable }, *span.end());
    assert!(bytes.verified(Policy::Inspect).success, "without a witness it is the end");
}

#[test]
fn row_m2_a_gap_that_nothing_covers_is_damage() {
    let whole = sample(4);
    let spans = whole.spans();
    let reader = whole.reader(Policy::Strict).unwrap();
    let last = reader.read(Lsn::new(*spans[&2].end()), Lsn::MAX).unwrap().next().unwrap().unwrap();
    let header = whole.header(3);
    let before = Predecessor {
        last: header.predecessor.last.previous(),
        size: last.offset,
        span: header.predecessor.span - 1,
        ..header.predecessor
    };
    let bytes = whole.with_header(SegmentHeader { predecessor: before, ..header });
    let lost = *spans[&2].end()..=*spans[&2].end();
    let finding = bytes.refused(config(Policy::Default));
    assert_eq!((finding.verdict, finding.seen), (Verdict::Rot, Seen::MissingSegment));
    assert_eq!((finding.object, finding.offset), (segment(2), u64::from(last.offset)));
    assert_eq!((finding.lsns, finding.witness), (range(&lost), Some(Witness::Successor(SegmentId::new(3)))));
    let error = bytes.reader(Policy::Default).unwrap().read(Lsn::ZERO, Lsn::MAX).unwrap().find_map(Result::err);
    assert_eq!(error.unwrap().finding(), Some(&finding));
    assert_eq!(bytes.given_up(Policy::Salvage).0.opened().1.gaps().collect::<Vec<_>>(), [range(&lost).unwrap()]);
}

#[test]
fn row_n_a_segment_of_another_log_is_foreign_and_not_read() {
    let whole = sample(4);
    let device = MemoryDevice::new(GEOMETRY);
    let medium = device.reader();
    let environment = Counter::new();
    duralog::Environment::random(&*environment);
    let other = Config { environment: environment as Arc<_>, ..config(Policy::Default) };
    let log = Log::open_device(device, other).unwrap();
    fill(&log, 5);
    log.close().unwrap();
    let other = Bytes::of(&medium);
    let spans = whole.spans();
    let mut bytes = whole.clone();
    bytes.0.insert(segment(2), other.0[&segment(2)].clone());
    let finding = bytes.refused(config(Policy::Default));
    assert_eq!((finding.verdict, finding.seen), (Verdict::Foreign, Seen::MissingSegment));
    assert_eq!((finding.object, finding.lsns), (segment(2), range(&spans[&2])));
    assert_eq!(finding.witness, Some(Witness::Successor(SegmentId::new(3))));
    assert_eq!(read(&bytes.reader(Policy::Salvage).unwrap()), all_but(&whole, from_ref(&spans[&2])));

    let mut bytes = whole.clone();
    bytes.0.insert(segment(5), other.0[&segment(5)].clone());
    let log_id = whole.header(1).log;
    let expecting = Config { expect_log_id: Some(log_id), ..config(Policy::Salvage) };
    let error = Log::open_device(bytes.device(), expecting).unwrap_err();
    let found = other.header(5).log;
    assert!(
        matches!(error, Error::Foreign { segment, found: f, expected } if segment.value() == 5 && f == found && expected == log_id)
    );
    assert!(Log::open_device(bytes.device(), config(Policy::Default)).is_err());
}

#[test]
fn row_p_a_segment_that_was_never_finished_is_erased_and_told() {
    let whole = sample(3);
    let mut bytes = whole.clone();
    bytes.0.insert(segment(4), vec![GEOMETRY.blank; 3072]);
    let device = bytes.device();
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::Default)).unwrap();
    assert_eq!(log.recovery().unfinished, Some(SegmentId::new(4)));
    assert!(log.recovery().clean && log.recovery().findings.is_empty());
    assert_eq!(lsns(log.read_from(Lsn::ZERO).unwrap().map(Result::unwrap)), all_but(&whole, &[]));
    append(&log, 1);
    log.close().unwrap();
    assert_eq!(Bytes::of(&medium).ids(), [1, 2, 3, 5]);
}

/// A log with one checkpoint after the other, and the LSNs up to which they hold everything.
fn with_checkpoints(truncate: bool) -> (Bytes, Vec<u64>) {
    let mut at = Vec::new();
    let bytes = sample_by(|log| {
        for n in 1..=2u8 {
            fill(log, 2);
            let place = log.checkpoint_at();
            at.push(place.lsn().value());
            log.checkpoint(place, &Snapshot { bytes: vec![n; 40], ..Snapshot::default() }).unwrap();
        }
        if truncate {
            log.truncate_before(Lsn::MAX).unwrap();
        }
        fill(log, 1);
    });
    (bytes, at)
}

fn checkpoint(id: u64) -> Object {
    Object::Checkpoint(CheckpointId::new(id))
}

fn flip(bytes: &Bytes, object: Object, at: usize) -> Bytes {
    let mut flipped = bytes.clone();
    let bytes = flipped.0.get_mut(&object).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 1;
    flipped
}

#[test]
fn row_t_an_older_checkpoint_serves_for_a_bad_one() {
    let (whole, at) = with_checkpoints(false);
    for place in [20, 100] {
        let bytes = flip(&whole, checkpoint(2), place);
        let report = bytes.verified(Policy::Inspect);
        let bad = findings(&report, Seen::BadCheckpoint);
        assert_eq!((bad.len(), bad[0].object, bad[0].verdict, bad[0].harmless), (1, checkpoint(2), Verdict::Rot, true));
        assert!(report.success, "{report:?}");
        let log = Log::open_device(bytes.device(), config(Policy::Default).with_full_check()).unwrap();
        let used = log.recovery().checkpoint_used.unwrap();
        assert_eq!(used.1.value(), if place == 20 { at[0] } else { at[1] }, "by its head");
        drop(log);
    }
}

#[test]
fn row_u_what_is_missing_behind_a_checkpoint_is_damage_and_before_it_is_not() {
    let (whole, at) = with_checkpoints(false);
    let spans = whole.spans();
    for (id, span) in spans.iter().take(spans.len() - 1) {
        let bytes = whole.without(&[*id]);
        let covered = *span.end() <= at[1];
        let verified = bytes.verified(Policy::Inspect);
        let opened = Log::open_device(bytes.device(), config(Policy::Default).with_full_check());
        let missing = findings(&verified, Seen::MissingSegment);
        assert_eq!((missing.len(), missing[0].object, missing[0].lsns), (1, segment(*id), range(span)));
        assert_eq!(missing[0].harmless, covered, "{verified:?}");
        match opened {
            Ok(log) => {
                // Whoever inspects and whoever recovers say the same.
                let recovered = log.recovery();
                assert!(covered);
                assert_eq!((verified.success, verified.clean), (recovered.success, recovered.clean));
                assert_eq!(findings(recovered, Seen::MissingSegment), missing);
                assert!(recovered.success && recovered.clean);
            }
            Err(error) => {
                assert!(!covered, "{error}");
                assert_eq!(error.finding().unwrap().lsns, range(span));
                assert!(!verified.success && !verified.clean);
            }
        }
    }
    assert!(spans.values().any(|span| *span.end() <= at[1]) && spans.values().any(|span| *span.end() > at[1]));
}

#[test]
fn damage_below_a_checkpoint_is_told_and_harmless_for_whoever_looks() {
    let (whole, at) = with_checkpoints(false);
    let lsn = at[0] - 3;
    let reader = whole.reader(Policy::Strict).unwrap();
    let entry = reader.read(Lsn::new(lsn), Lsn::new(lsn)).unwrap().next().unwrap().unwrap();
    let bytes = flip(&whole, Object::Segment(entry.segment), entry.offset as usize + 40);
    let verified = bytes.verified(Policy::Inspect);
    let log = Log::open_device(bytes.device(), config(Policy::Default).with_full_check()).unwrap();
    let recovered = log.recovery().clone();
    for report in [&verified, &recovered] {
        assert!(report.success && report.clean, "{report:?}");
        assert_eq!(report.findings.len(), 1);
        assert_eq!((report.findings[0].lsns, report.findings[0].harmless), (range(&(lsn..=lsn)), true));
    }
    // Without a valid checkpoint it is what it is, though both heads are sound.
    let bytes = flip(&flip(&bytes, checkpoint(1), 100), checkpoint(2), 100);
    assert!(!bytes.verified(Policy::Inspect).success);
    assert_eq!(bytes.refused(config(Policy::Default).with_full_check()).lsns, range(&(lsn..=lsn)));
}

#[test]
fn a_checkpoint_of_which_only_the_head_is_sound_hides_no_loss() {
    let (whole, at) = with_checkpoints(false);
    let lost = whole.spans()[&2].clone();
    assert!(*lost.end() < at[1]);
    let bytes = flip(&flip(&whole, checkpoint(1), 100), checkpoint(2), 100).without(&[2]);
    // A full check finds out, and refuses.
    assert_eq!(bytes.refused(config(Policy::Default).with_full_check()).lsns, range(&lost));
    assert!(!bytes.verified(Policy::Inspect).success);
    // A quick opening has read the heads alone: it lists the gap, and goes on.
    let device = bytes.device();
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::Default)).unwrap();
    let told = findings(log.recovery(), Seen::MissingSegment);
    assert_eq!((told.len(), told[0].lsns, told[0].harmless), (1, range(&lost), true));
    append(&log, 1);
    // Nothing is given up on the strength of such a checkpoint,
    assert_eq!(log.truncate_before(Lsn::MAX).unwrap(), Lsn::FIRST);
    // and who needs what it should hold is told that it is gone.
    let mut state = duralog::Documents::default();
    let error = log.rebuild(&mut state).unwrap_err();
    assert_eq!(error.finding().and_then(|finding| finding.lsns), range(&lost), "{error}");
    drop(log);
    assert!(Bytes::of(&medium).ids().starts_with(&[1, 3]), "nothing was removed");
}

#[test]
fn row_v_a_truncated_part_that_no_checkpoint_holds_is_damage_at_opening() {
    let (whole, _) = with_checkpoints(true);
    let report = whole.verified(Policy::Inspect);
    assert!(report.success && report.low_water > Lsn::FIRST);
    let low_water = report.low_water;
    let newest = SegmentId::new(*whole.ids().last().unwrap());
    let lost = Some((Lsn::FIRST, low_water.previous()));
    let mut without = whole.clone();
    without.0.retain(|object, _| !matches!(object, Object::Checkpoint(_)));
    let headless = flip(&flip(&whole, checkpoint(1), 20), checkpoint(2), 20);
    for (bytes, object) in [(without, Object::Segment(newest)), (headless, checkpoint(2))] {
        let finding = bytes.refused(config(Policy::Default));
        assert_eq!((finding.verdict, finding.seen, finding.object), (Verdict::Rot, Seen::StateLost, object));
        assert_eq!(finding.lsns, lost);
        assert_eq!(finding.witness, Some(Witness::LowWater { segment: newest, low_water }));
        assert!(!bytes.verified(Policy::Inspect).success);
        // What is there is kept by whoever consents, and nothing is refused any more.
        for policy in [Policy::Salvage, Policy::PointInTime] {
            let (kept, report, next) = bytes.given_up(policy);
            assert!(!report.success);
            let log = Log::open_device(kept.device(), config(Policy::Default).with_full_check()).unwrap();
            let first = log.read_from(Lsn::ZERO).unwrap().next().unwrap().unwrap().lsn;
            assert_eq!((first, log.recovery().last_valid_lsn.value()), (low_water, next));
            assert_eq!(findings(log.recovery(), Seen::StateLost).len(), 1);
            assert!(log.recovery().success);
        }
    }
    // Where the heads alone are sound, a full check finds out.
    let bytes = flip(&flip(&whole, checkpoint(1), 100), checkpoint(2), 100);
    let finding = bytes.refused(config(Policy::Default).with_full_check());
    assert_eq!((finding.seen, finding.object, finding.lsns), (Seen::StateLost, checkpoint(2), lost));
}

#[test]
fn what_only_the_metadata_say_of_truncation_is_said_as_it_was() {
    // The last low-water mark is lost with the newest segment's end; `wal.meta` still tells, and what was given up
    // without a checkpoint is not said to be held by one.
    let checkpoint = |log: &Log<MemoryDevice>| {
        log.checkpoint(log.checkpoint_at(), &Snapshot { bytes: vec![7; 40], ..Snapshot::default() }).unwrap();
    };
    let with_end = |discard: bool| {
        sample_by(|log| {
            fill(log, 1);
            checkpoint(log);
            log.truncate_before(Lsn::MAX).unwrap();
            fill(log, 1);
            if discard {
                log.discard_before(Lsn::MAX).unwrap();
            } else {
                // Truncation keeps what the older of two needs.
                checkpoint(log);
                checkpoint(log);
                log.truncate_before(Lsn::MAX).unwrap();
            }
        })
    };
    for discard in [true, false] {
        let whole = with_end(discard);
        let low_water = whole.verified(Policy::Inspect).low_water;
        let newest = segment(*whole.ids().last().unwrap());
        let (mut went_on, mut state_lost) = (0, 0);
        for len in (usize::try_from(GEOMETRY.frames_at()).unwrap()..whole.0[&newest].len()).rev() {
            let mut bytes = whole.clone();
            bytes.0.get_mut(&newest).unwrap().truncate(len);
            let mut bare = bytes.clone();
            bare.0.retain(|object, _| !matches!(object, Object::Checkpoint(_)));
            let says_meta = Some(Witness::MetaLowWater { low_water });
            let is_lost = |finding: &Finding| finding.seen == Seen::StateLost && finding.witness == says_meta;
            state_lost += u32::from(bare.verified(Policy::Inspect).findings.iter().any(is_lost));
            let device = bytes.device();
            let medium = device.reader();
            let Ok(log) = Log::open_device(device, config(Policy::Default)) else { continue };
            let at = log.recovery().low_water;
            append(&log, 1);
            log.close().unwrap();
            drop(log);
            let again = Log::open_device(medium.writer().unwrap(), config(Policy::Default).with_full_check());
            let again = again.unwrap_or_else(|error| panic!("{len} bytes, discard {discard}: {error}"));
            assert_eq!(again.recovery().low_water, at, "{len} bytes");
            went_on += 1;
        }
        assert!(went_on > 0);
        assert_eq!(state_lost > 0, !discard);
    }
}

#[test]
fn row_v_a_log_that_begins_above_its_low_water_mark_is_damage_at_opening() {
    let whole = sample(3);
    let header = whole.header(2);
    let bytes = whole.without(&[1]).with_header(SegmentHeader { predecessor: Predecessor::default(), ..header });
    let lost = 1..=header.first.value() - 1;
    let finding = bytes.refused(config(Policy::Default));
    assert_eq!((finding.verdict, finding.seen, finding.object), (Verdict::Rot, Seen::Hole, segment(2)));
    assert_eq!((finding.offset, finding.lsns), (GEOMETRY.frames_at().into(), range(&lost)));
    assert_eq!(finding.witness, Some(Witness::Successor(SegmentId::new(2))));
    assert_eq!(bytes.verified(Policy::Inspect).findings, [finding]);
    let error = bytes.reader(Policy::Default).unwrap().read(Lsn::ZERO, Lsn::MAX).unwrap().next().unwrap().unwrap_err();
    assert_eq!(error.finding(), Some(&finding));
    let (kept, _, _) = bytes.given_up(Policy::Salvage);
    assert_eq!(kept.opened().1.gaps().collect::<Vec<_>>(), [range(&lost).unwrap()]);
}

#[test]
fn row_w_dead_segments_are_no_finding_and_the_newest_is_kept_until_a_checkpoint() {
    let (bytes, at, cutter) = cut(3);
    let dead: Vec<_> = bytes.ids().into_iter().filter(|id| (3..cutter).contains(id)).collect();
    assert_eq!(dead.len(), 1, "of those that were cut off, the newest is kept");
    let reader = bytes.reader(Policy::Strict).unwrap();
    read_behind_cut(&reader, at);
    assert!(reader.recovery().clean && reader.recovery().findings.is_empty());
    let states: Vec<_> = reader.segments().unwrap().iter().map(|info| (info.id.value(), info.state.name())).collect();
    assert!(states.contains(&(dead[0], "dead")), "{states:?}");
    let checkpointed = again(&bytes, |log| {
        log.checkpoint(log.checkpoint_at(), &Snapshot::default()).unwrap();
    });
    assert!(!checkpointed.ids().contains(&dead[0]));
}

#[test]
fn the_newest_two_missing_are_missed_by_whoever_knows_of_them() {
    let whole = sample(5);
    let spans = whole.spans();
    let (kept, last) = (*spans[&3].end(), *spans[&5].end());
    // Without a witness nothing tells of them; `wal.meta`, of the same epoch, does, and names the newest.
    let mut bytes = whole.without(&[4, 5]);
    let finding = bytes.refused(config(Policy::Default));
    assert_eq!((finding.seen, finding.object), (Seen::MissingSegment, segment(5)));
    assert_eq!(finding.lsns, range(&(kept + 1..=last)));
    assert_eq!(finding.witness, Some(Witness::Meta { durable: Lsn::new(last) }));
    bytes.0.remove(&Object::Meta);
    let caller = config(Policy::Default).with_expect_durable(Lsn::new(last));
    let finding = bytes.refused(caller);
    assert_eq!((finding.object, finding.lsns), (segment(3), range(&(kept + 1..=last))));
    assert_eq!(finding.witness, Some(Witness::Caller { durable: Lsn::new(last) }));
    // Given up, they are a gap, and their LSNs are not given out again.
    let device = bytes.device();
    let medium = device.reader();
    let salvage = config(Policy::Salvage).with_expect_durable(Lsn::new(last));
    let log = Log::open_device(device, salvage).unwrap();
    assert_eq!(log.current_lsn().value(), last + 1);
    append(&log, 1);
    log.close().unwrap();
    drop(log);
    let (found, report) = Bytes::of(&medium).opened();
    assert_eq!(found, [(1..=kept).collect::<Vec<_>>(), vec![last + 1]].concat());
    assert_eq!(report.gaps().collect::<Vec<_>>(), [range(&(kept + 1..=last)).unwrap()]);
}

/// A log of so many segments whose process was killed: what lies on the medium, and the last LSN.
fn killed(segments: usize) -> (Bytes, u64) {
    let device = MemoryDevice::new(GEOMETRY);
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::Default)).unwrap();
    append(&log, 1);
    fill(&log, segments - 1);
    append(&log, 2);
    (Bytes::of(&medium), log.current_lsn().value() - 1)
}

#[test]
fn a_newest_segment_that_the_metadata_name_is_missed_also_within_an_epoch() {
    let (whole, last) = killed(4);
    let first = whole.header(4).first.value();
    assert!(first < last, "what the metadata say was durable ends where the segment began");
    let of_it = |finding: &Finding, seen: Seen| {
        assert_eq!((finding.verdict, finding.seen, finding.object), (Verdict::Rot, seen, segment(4)));
        assert_eq!((finding.offset, finding.lsns, finding.harmless), (0, None, false));
        assert_eq!(finding.witness, Some(Witness::Meta { durable: Lsn::new(first - 1) }));
    };
    for (bytes, seen) in [(whole.without(&[4]), Seen::MissingSegment), (whole.headless(&[4]), Seen::BadSegmentHeader)] {
        of_it(&bytes.refused(config(Policy::Default)), seen);
        of_it(&bytes.refused(config(Policy::Default).with_full_check()), seen);
        of_it(&bytes.refused(config(Policy::Strict)), seen);
        let report = bytes.verified(Policy::Inspect);
        assert_eq!(report.findings.len(), 1, "{report:?}");
        of_it(&report.findings[0], seen);
        assert!(!report.success && !report.clean && !report.closed && report.unfinished.is_none(), "{report:?}");
        assert_eq!(read(&bytes.reader(Policy::Default).unwrap()), (1..first).collect::<Vec<_>>());
        for policy in [Policy::Salvage, Policy::PointInTime] {
            // Once given up it refuses nothing any more: neither after a close nor after a kill.
            let (kept, report, next) = bytes.given_up(policy);
            assert!(!report.success && next == first, "{report:?}");
            let (found, report) = kept.opened();
            assert_eq!(found, (1..=first).collect::<Vec<_>>());
            assert!(report.success && report.findings.is_empty(), "{report:?}");
            let device = bytes.device();
            let medium = device.reader();
            let log = Log::open_device(device, config(policy)).unwrap();
            append(&log, 1);
            let (found, report) = Bytes::of(&medium).opened();
            assert_eq!(found, (1..=first).collect::<Vec<_>>());
            assert!(report.success, "{report:?}");
        }
    }
    // Of another log, or gone, the metadata say nothing.
    let mut bytes = whole.without(&[4]);
    let mut foreign = Meta::decode(&bytes.0[&Object::Meta]).unwrap();
    foreign.log = uuid::Uuid::from_u128(7);
    let foreign = foreign.encode().to_vec();
    bytes.0.insert(Object::Meta, foreign);
    assert_eq!(bytes.opened().0, (1..first).collect::<Vec<_>>());
    bytes.0.remove(&Object::Meta);
    assert_eq!(bytes.opened().0, (1..first).collect::<Vec<_>>());
}

/// The first segment of a log, and the one that an opening after a kill begins: neither has a successor that could tell.
#[test]
fn a_segment_begun_at_an_opening_is_missed_from_its_first_entry_on() {
    let opened_and_killed = |device: MemoryDevice| {
        let medium = device.reader();
        let log = Log::open_device(device, config(Policy::Default)).unwrap();
        append(&log, 1);
        let bytes = Bytes::of(&medium);
        log.close().unwrap();
        bytes
    };
    let first = opened_and_killed(MemoryDevice::new(GEOMETRY));
    let second = opened_and_killed(first.device());
    for (bytes, newest) in [(first, 1), (second, 2)] {
        assert_eq!(bytes.ids(), (1..=newest).collect::<Vec<_>>());
        let finding = bytes.without(&[newest]).refused(config(Policy::Default));
        assert_eq!((finding.seen, finding.object), (Seen::MissingSegment, segment(newest)));
        // Under a higher number it is no segment that a crash left unfinished.
        let mut renamed = bytes.without(&[newest]);
        renamed.0.insert(segment(newest + 4), bytes.0[&segment(newest)].clone());
        let device = renamed.device();
        let medium = device.reader();
        let error = Log::open_device(device, config(Policy::Default)).unwrap_err();
        assert!(matches!(&error, Error::Misplaced { found, .. } if found.value() == newest), "{error}");
        assert_eq!(Bytes::of(&medium).0, renamed.0, "nothing was changed");
    }
}

/// Of a log of four epochs, the newest segments are gone: what is given up once stays given up, though the process that
/// did it is killed before it replaces the metadata.
#[test]
fn an_epoch_that_only_the_metadata_or_a_checkpoint_tell_of_is_not_issued_again() {
    let checkpointed = |log: &Log<MemoryDevice>| {
        fill(log, 1);
        log.checkpoint(log.checkpoint_at(), &Snapshot::default()).unwrap();
    };
    let mut whole = sample(1);
    (0..3).for_each(|_| whole = again(&whole, checkpointed));
    let newest = *whole.ids().last().unwrap();
    let epoch = whole.header(newest).epoch;
    assert_eq!(epoch, 4);
    let last = whole.verified(Policy::Inspect).last_valid_lsn.value();
    for has_meta in [true, false] {
        let first = whole.ids().into_iter().find(|id| whole.header(*id).epoch == 3).unwrap();
        let mut bytes = whole.without(&(first..=newest).collect::<Vec<_>>());
        if !has_meta {
            bytes.0.remove(&Object::Meta);
        }
        bytes.refused(config(Policy::Default));
        for policy in [Policy::Salvage, Policy::PointInTime] {
            let device = bytes.device();
            let medium = device.reader();
            let log = Log::open_device(device, config(policy)).unwrap();
            append(&log, 5);
            let next = log.current_lsn().value();
            // Killed, and killed again before anything but the new segment was written.
            let killed = Bytes::of(&medium);
            let begun = killed.header(*killed.ids().last().unwrap());
            assert_eq!((begun.epoch, begun.accepted_loss >= Lsn::new(begun.predecessor.last.value())), (5, true));
            let mut old_meta = killed.clone();
            if let Some(meta) = bytes.0.get(&Object::Meta) {
                old_meta.0.insert(Object::Meta, meta.clone());
            }
            for found in [killed, old_meta] {
                let log = Log::open_device(found.device(), config(Policy::Default).with_full_check())
                    .unwrap_or_else(|error| panic!("{policy:?}, metadata {has_meta}: {error}"));
                assert_eq!(log.current_lsn().value(), next);
                assert!(log.recovery().success && (!has_meta || next > last), "{:?}", log.recovery());
            }
        }
    }
}

#[test]
fn what_the_missing_newest_segment_had_cut_off_does_not_come_back() {
    // Killed right after the cut, which goes through a batch; closed some entries later; and reset: nothing of what was
    // before counts.
    for (more, is_reset) in [(0, false), (3, false), (3, true)] {
        let device = MemoryDevice::new(GEOMETRY);
        let medium = device.reader();
        let log = Log::open_device(device, config(Policy::Default)).unwrap();
        append(&log, 2);
        let batch: Vec<_> = (3..=5).map(payload).collect();
        log.append_batch(&batch).unwrap();
        let before = Bytes::of(&medium);
        // A reset gives up what was before; it is there, and does not count.
        let (kept, end) = if is_reset { (0, 5) } else { (4, 4) };
        if is_reset {
            log.reset_to(Lsn::new(20)).unwrap();
        } else {
            log.truncate_after(Lsn::new(kept)).unwrap();
        }
        append(&log, more);
        let last = log.current_lsn().value() - 1;
        if more > 0 {
            log.close().unwrap();
        }
        let whole = Bytes::of(&medium);
        assert_eq!(whole.ids(), if is_reset { vec![2] } else { vec![1, 2] });
        // A reset removes what was before, and a crash may undo that.
        for gone in [whole.without(&[2]), whole.headless(&[2])] {
            let mut gone = gone;
            if is_reset {
                gone.0.insert(segment(1), before.0[&segment(1)].clone());
            }
            let reader = gone.reader(Policy::Default).unwrap();
            assert_eq!(read(&reader), (1..=kept).collect::<Vec<_>>());
            let finding = gone.refused(config(Policy::Default));
            assert_eq!((finding.object, finding.lsns), (segment(2), range(&(end + 1..=last)).filter(|_| last > end)));
            for policy in [Policy::Salvage, Policy::PointInTime] {
                let (ended, report, next) = gone.given_up(policy);
                assert_eq!((report.last_valid_lsn.value(), next), (end, last.max(end) + 1), "{report:?}");
                assert_eq!(ended.opened().0, [(1..=kept).collect(), vec![next]].concat());
            }
        }
    }
}

#[test]
fn a_checkpoint_does_not_hold_what_a_missing_newest_segment_held() {
    let device = MemoryDevice::new(GEOMETRY);
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::Default)).unwrap();
    fill(&log, 3);
    append(&log, 1);
    log.checkpoint(log.checkpoint_at(), &Snapshot::default()).unwrap();
    append(&log, 2);
    let whole = Bytes::of(&medium);
    let last = whole.header(4).first.value() - 1;
    let bytes = whole.without(&[4]);
    for config in [config(Policy::Default), config(Policy::Default).with_full_check()] {
        let finding = bytes.refused(config);
        assert_eq!((finding.seen, finding.object), (Seen::MissingSegment, segment(4)));
        let (from, to) = finding.lsns.unwrap();
        assert!(from.value() == last + 1 && to >= from, "up to the checkpoint: {finding}");
    }
}

#[test]
fn a_gap_below_a_loss_that_was_accepted_is_damage_of_its_own_only_above_it() {
    // The third segment is given up, then the second is gone too, and then one above the accepted loss.
    let whole = sample(4);
    let spans = whole.spans();
    let (salvaged, _, next) = whole.without(&[3]).given_up(Policy::Salvage);
    let went_on = again(&salvaged, |log| fill(log, 2));
    let newer = went_on.without(&[2]);
    let (found, report) = newer.opened();
    assert!(report.success);
    assert_eq!(found[0], 1);
    let both: Vec<_> = report.gaps().collect();
    assert_eq!(both, [range(&spans[&3]).unwrap(), range(&spans[&2]).unwrap()], "the newest first");
    let ids = went_on.ids();
    let above = ids[ids.len() - 2];
    let span = went_on.spans()[&above].clone();
    assert!(*span.start() >= next || ids.len() > 5);
    let finding = went_on.without(&[above]).refused(config(Policy::Default));
    assert_eq!(finding.object, segment(above));
    assert!(!finding.harmless);
}

#[test]
fn what_a_caller_knows_is_not_made_final_where_nothing_comes_near_it() {
    let whole = sample(3);
    let last = *whole.spans().values().last().unwrap().end();
    for absurd in [u64::MAX, u64::MAX - 1, last + CALLER_MAX + 1] {
        for policy in [Policy::Salvage, Policy::PointInTime] {
            let device = whole.device();
            let medium = device.reader();
            let error = Log::open_device(device, config(policy).with_expect_durable(Lsn::new(absurd))).unwrap_err();
            assert!(matches!(error, Error::Lost { expected } if expected.value() == absurd), "{error}");
            assert_eq!(Bytes::of(&medium).0, whole.0, "not a byte changes");
        }
        let finding = whole.refused(config(Policy::Default).with_expect_durable(Lsn::new(absurd)));
        assert_eq!(finding.lsns, range(&(last + 1..=absurd)));
    }
    // What is possible is believed: no LSN of it is given out again.
    let near = last + CALLER_MAX;
    let device = whole.device();
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::Salvage).with_expect_durable(Lsn::new(near))).unwrap();
    assert_eq!(log.current_lsn().value(), near + 1);
    fill(&log, 2);
    log.close().unwrap();
    drop(log);
    // And the span of a segment behind such a gap still tells where it began.
    let bytes = Bytes::of(&medium);
    let newest = bytes.header(*bytes.ids().last().unwrap());
    assert!(newest.predecessor.first().is_some());
    bytes.opened();
}

#[test]
fn the_first_entry_read_may_stand_below_the_low_water_mark_where_its_batch_ends_above() {
    let device = MemoryDevice::new(GEOMETRY);
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::Default)).unwrap();
    append(&log, 1);
    let batch: Vec<_> = (2..=4).map(payload).collect();
    let batch: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
    log.append_batch(&batch).unwrap();
    append(&log, 1);
    log.discard_before(Lsn::new(3)).unwrap();
    log.close().unwrap();
    drop(log);
    let reader = Bytes::of(&medium).reader(Policy::Strict).unwrap();
    assert_eq!(read(&reader), [2, 3, 4, 5]);
    let report = reader.recovery();
    assert_eq!((report.low_water.value(), report.entries_recovered), (3, 3));
}

#[test]
fn a_segment_of_the_last_number_that_was_never_finished_does_not_stop_the_log() {
    let sound = sample(3);
    let last = segment(u64::MAX);
    for bytes in [vec![], vec![0; 700]] {
        let mut log = sound.clone();
        log.0.insert(last, bytes);
        let device = log.device();
        let medium = device.reader();
        let log = Log::open_device(device, config(Policy::Default)).unwrap();
        let next = log.current_lsn();
        append(&log, 40);
        log.close().unwrap();
        drop(log);
        let after = Bytes::of(&medium);
        assert!(!after.0.contains_key(&last) && after.ids().len() > sound.ids().len());
        let (lsns, report) = after.opened();
        assert_eq!(lsns.last(), Some(&(next.value() + 39)));
        assert!(report.findings.is_empty(), "{:?}", report.findings);
    }
}

#[test]
fn a_segment_under_another_number_is_named_and_never_taken_for_unfinished() {
    let sound = sample(5);
    let newest = *sound.ids().last().unwrap();
    let behind = newest + 2;
    let mut header = sound.header(newest);
    header.log = uuid::Uuid::from_u128(7);
    let cases = [
        ("the newest was renamed", sound.0[&segment(newest)].clone(), Some(newest)),
        ("a middle one was renamed", sound.0[&segment(2)].clone(), Some(2)),
        ("an old one was copied", sound.0[&segment(2)].clone(), None),
        ("one of another log was copied", sound.with_header(header).0[&segment(newest)].clone(), None),
    ];
    for (what, bytes, gone) in cases {
        for has_meta in [true, false] {
            if gone == Some(newest) && !has_meta {
                // Nothing tells of the newest segment then: it looks like one that was never finished.
                continue;
            }
            let mut log = sound.without(gone.as_slice());
            log.0.insert(segment(behind), bytes.clone());
            if !has_meta {
                log.0.remove(&Object::Meta);
            }
            for policy in [Policy::Default, Policy::Salvage, Policy::PointInTime] {
                let device = log.device();
                let medium = device.reader();
                let error = Log::open_device(device, config(policy)).expect_err(what);
                let Error::Misplaced { segment, found, .. } = error else { panic!("{what}, {policy:?}: {error}") };
                assert_eq!((segment.value(), found.value()), (behind, gone.unwrap_or(found.value())));
                assert_eq!(Bytes::of(&medium).0, log.0, "{what}: nothing is touched");
                assert!(matches!(log.reader(policy), Err(Error::Misplaced { .. })), "{what}, {policy:?}");
            }
        }
    }
}

#[test]
fn of_segments_whose_names_were_exchanged_one_is_named_and_nothing_is_touched() {
    let closed = sample(4);
    let (killed, _) = killed(4);
    let mut without_meta = killed.clone();
    without_meta.0.remove(&Object::Meta);
    for whole in [closed, killed, without_meta] {
        assert_eq!(whole.ids(), [1, 2, 3, 4]);
        for (a, b) in [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)] {
            let mut bytes = whole.clone();
            bytes.0.insert(segment(a), whole.0[&segment(b)].clone());
            bytes.0.insert(segment(b), whole.0[&segment(a)].clone());
            is_misplaced(&bytes, &[(a, b), (b, a)]);
        }
        // All of them under the number of the one before, or behind; and one under a number below all that count.
        let moved = |by: fn(u64) -> u64| {
            let mut bytes = whole.without(&[1, 2, 3, 4]);
            (1..=4).for_each(|id| assert!(bytes.0.insert(segment(by(id)), whole.0[&segment(id)].clone()).is_none()));
            bytes
        };
        is_misplaced(&moved(|id| id % 4 + 1), &[(1, 4), (2, 1), (3, 2), (4, 3)]);
        is_misplaced(&moved(|id| id + 5), &[(6, 1), (7, 2), (8, 3), (9, 4)]);
    }
}

#[test]
fn room_made_of_what_a_checkpoint_holds_is_no_segment_under_another_number() {
    let (whole, at) = with_checkpoints(false);
    let (spans, newest) = (whole.spans(), *whole.ids().last().unwrap());
    let (mut held, mut lost) = (0, 0);
    for (&id, span) in spans.range(..newest) {
        // Where there is no room to say so first, the front is removed, and its room taken again: a crash then leaves the
        // header of the last that was removed under the new number.
        let below: Vec<_> = (1..id).collect();
        let mut copied = whole.without(&below);
        copied.0.insert(segment(newest + 1), whole.0[&segment(id)].clone());
        let removed = copied.without(&[id]);
        let is_held = *span.end() < at[1];
        for policy in [Policy::Default, Policy::Strict, Policy::PointInTime] {
            if !is_held {
                is_misplaced_by(&removed, policy, &[(newest + 1, id)]);
                continue;
            }
            let opened = Log::open_device(removed.device(), config(policy));
            assert!(opened.is_ok(), "{policy:?}, {id}: {:?}", opened.err());
            let log = opened.unwrap();
            let report = log.recovery();
            assert_eq!(log.low_water_lsn().value(), span.end() + 1, "{policy:?}, {id}: {report:?}");
            assert_eq!(report.damage().count(), 0, "{report:?}");
            let read = log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn.value());
            assert_eq!(
                read.collect::<Vec<_>>(),
                (span.end() + 1..=*spans[&newest].end()).collect::<Vec<_>>(),
                "{policy:?}, {id}"
            );
        }
        // What counts on no checkpoint gives up no entry that its own name would bring back.
        is_misplaced_by(&removed, Policy::Salvage, &[(newest + 1, id)]);
        // No crash leaves a segment twice, nor takes one out of the middle.
        is_misplaced(&copied, &[(newest + 1, id)]);
        if id > 1 {
            let mut middle = whole.without(&[id]);
            middle.0.insert(segment(newest + 1), whole.0[&segment(id)].clone());
            is_misplaced(&middle, &[(newest + 1, id)]);
        }
        *if is_held { &mut held } else { &mut lost } += 1;
    }
    assert!(held > 1 && lost > 0, "{spans:?}, {at:?}");
}

#[test]
fn row_o_a_checkpoint_of_a_newer_version_is_named_kept_and_nothing_is_written_beside_it() {
    let (whole, _) = with_checkpoints(false);
    let read = |reader: &LogReader<MemoryDevice>| -> Vec<Lsn> {
        reader.read(Lsn::ZERO, Lsn::MAX).unwrap().map(|entry| entry.unwrap().lsn).collect()
    };
    let all = read(&whole.reader(Policy::Default).unwrap());
    let (newest, oldest) = (checkpoint(2), checkpoint(1));
    for object in [newest, oldest] {
        let mut bytes = whole.clone();
        let head = bytes.0.get_mut(&object).unwrap();
        head[4] = 2;
        let sum = compute_checksum(&head[..76]).to_le_bytes();
        head[76..80].copy_from_slice(&sum);
        for policy in [Policy::Default, Policy::Strict, Policy::Salvage, Policy::PointInTime] {
            for config in [config(policy), config(policy).with_full_check()] {
                let device = bytes.device();
                let medium = device.reader();
                let error = Log::open_device(device, config).expect_err("a newer version");
                let is_named =
                    matches!(&error, Error::Unsupported { object: named, number: 2, .. } if *named == object);
                assert!(is_named, "{policy:?}: {error:?}");
                assert_eq!(Bytes::of(&medium).0, bytes.0, "{policy:?}");
            }
        }
        let mut reader = bytes.reader(Policy::Default).unwrap();
        assert_eq!(read(&reader), all, "the log is read all the same");
        let is_told = |report: &RecoveryReport| {
            let told = findings(report, Seen::BadCheckpoint);
            assert_eq!(told.len(), 1, "{report:?}");
            assert_eq!((told[0].verdict, told[0].object, told[0].harmless), (Verdict::Unsupported, object, true));
            assert!(told[0].to_string().starts_with("a checkpoint of a newer version in"), "{}", told[0]);
            assert!(!report.writable && report.success, "{report:?}");
        };
        is_told(reader.recovery());
        is_told(reader.verify().unwrap());
        // Where the checksum does not fit, it is no other version but damage, and written beside.
        bytes.0.get_mut(&object).unwrap()[5] ^= 1;
        assert!(Log::open_device(bytes.device(), config(Policy::Default)).unwrap().recovery().writable);
    }
}

/// Every policy refuses the log for one of these segments, each under the number of the other, and no byte changes.
fn is_misplaced(bytes: &Bytes, which: &[(u64, u64)]) {
    for policy in [Policy::Default, Policy::Strict, Policy::Salvage, Policy::PointInTime] {
        is_misplaced_by(bytes, policy, which);
    }
}

fn is_misplaced_by(bytes: &Bytes, policy: Policy, which: &[(u64, u64)]) {
    let device = bytes.device();
    let medium = device.reader();
    let opened = Log::open_device(device, config(policy));
    assert!(opened.is_err(), "{which:?}, {policy:?}: no segment has its own number");
    let error = opened.unwrap_err();
    let Error::Misplaced { segment, found, .. } = error else { panic!("{which:?}, {policy:?}: {error}") };
    assert!(which.contains(&(segment.value(), found.value())), "{which:?}: {segment} is {found}");
    assert_eq!(Bytes::of(&medium).0, bytes.0, "{which:?}, {policy:?}");
    assert!(matches!(bytes.reader(policy), Err(Error::Misplaced { .. })), "{which:?}, {policy:?}");
}

#[test]
fn point_in_time_tells_of_all_that_it_gives_up_before_and_when_it_does() {
    let whole = sample(4);
    let (spans, last) = (whole.spans(), *whole.spans()[&4].end());
    // In a sealed segment, in the newest, and in both.
    for places in [vec![2], vec![4], vec![2, 3, 4]] {
        let mut bytes = whole.clone();
        let mut damaged = Vec::new();
        for &id in &places {
            let lsn = spans[&id].start() + 2;
            let needle = payload(lsn);
            let segment = bytes.0.get_mut(&segment(id)).unwrap();
            let at = segment.windows(needle.len()).position(|bytes| bytes == needle).unwrap();
            segment[at] ^= 1;
            damaged.push(lsn);
        }
        let kept = damaged[0] - 1;
        let mut reader = bytes.reader(Policy::PointInTime).unwrap();
        let told = reader.verify().unwrap().clone();
        let (ended, report, next) = bytes.given_up(Policy::PointInTime);
        for report in [&told, &report] {
            assert_eq!((report.entries_recovered, report.entries_skipped), (kept, last - kept), "{report:?}");
            assert_eq!((report.last_valid_lsn, report.verified), (Lsn::new(kept), Some((Lsn::FIRST, Lsn::new(kept)))));
            assert!(report.damage().any(|finding| finding.lsns == range(&(kept + 1..=last))), "{report:?}");
        }
        assert_eq!(next, last + 1);
        let (found, report) = ended.opened();
        assert_eq!(found, [(1..=kept).collect(), vec![next]].concat());
        assert_eq!(report.gaps().collect::<Vec<_>>(), [range(&(kept + 1..=last)).unwrap()]);
    }
}

#[test]
fn damage_to_what_truncation_gave_up_is_no_damage_also_in_the_newest_segment() {
    let roomy = Geometry { segment_size: 1 << 14, ..GEOMETRY };
    for is_closed in [true, false] {
        let device = MemoryDevice::new(roomy);
        let medium = device.reader();
        let log = Log::open_device(device, config(Policy::Default)).unwrap();
        append(&log, 20);
        let batch: Vec<_> = (21..=24).map(payload).collect();
        log.append_batch(&batch).unwrap();
        append(&log, 6);
        // Inside the batch, which stays whole.
        log.discard_before(Lsn::new(23)).unwrap();
        append(&log, 5);
        if is_closed {
            log.close().unwrap();
        }
        let whole = Bytes::of(&medium);
        for damaged in (1..=24).chain([30]) {
            let mut bytes = whole.clone();
            let needle = payload(damaged);
            let first = bytes.0.get_mut(&segment(1)).unwrap();
            let at = first.windows(needle.len()).position(|bytes| bytes == needle).unwrap();
            first[at] ^= 1;
            let device = MemoryDevice::new(roomy);
            bytes.0.iter().for_each(|(object, bytes)| device.put(*object, bytes.clone()));
            let medium = device.reader();
            if damaged > 20 {
                for policy in [Policy::Default, Policy::PointInTime, Policy::Salvage, Policy::Inspect] {
                    let mut reader = LogReader::open_device(medium.reader(), config(policy)).unwrap();
                    assert!(!reader.verify().unwrap().success, "LSN {damaged}, {policy:?}");
                }
                let opened = Log::open_device(device, config(Policy::Default));
                assert!(opened.is_err(), "LSN {damaged} is gone, and the log is opened");
                let error = opened.unwrap_err();
                let finding = error.finding().unwrap_or_else(|| panic!("LSN {damaged}: {error}"));
                let (first, last) = finding.lsns.unwrap();
                assert!((first.value()..=last.value()).contains(&damaged), "LSN {damaged}: {finding}");
                continue;
            }
            for policy in [Policy::Strict, Policy::Default, Policy::PointInTime, Policy::Salvage] {
                let opened = LogReader::open_device(medium.reader(), config(policy));
                let is_sound = opened.as_ref().is_ok_and(|reader| reader.recovery().success);
                assert!(is_sound, "LSN {damaged}, {policy:?}: {opened:?}");
                let mut reader = opened.unwrap();
                assert_eq!(read(&reader), (21..=35).collect::<Vec<_>>(), "LSN {damaged}, {policy:?}");
                let report = reader.verify().unwrap();
                assert!(report.success && report.findings.is_empty(), "LSN {damaged}, {policy:?}: {report:?}");
                assert_eq!((report.entries_recovered, report.entries_skipped), (13, 0), "{report:?}");
            }
            let log = Log::open_device(device, config(Policy::Default).with_full_check()).unwrap();
            append(&log, 1);
            log.close().unwrap();
            drop(log);
            let reader = LogReader::open_device(medium.reader(), config(Policy::Strict)).unwrap();
            assert_eq!(read(&reader), (21..=36).collect::<Vec<_>>(), "LSN {damaged}");
        }
    }
}

#[test]
fn what_a_refused_segment_left_in_room_that_was_taken_again_is_no_copy_of_the_newest() {
    let (whole, last) = killed(2);
    let mut header = whole.header(2);
    for (nonce, is_copy) in [(header.nonce, true), (header.nonce ^ 1, false)] {
        header.nonce = nonce;
        let mut left = vec![0xFF; 3072];
        left[..SEGMENT_HEADER_LEN].copy_from_slice(&header.encode(portable));
        let mut bytes = whole.clone();
        bytes.0.insert(segment(3), left);
        let opened = Log::open_device(bytes.device(), config(Policy::Default));
        match opened {
            Err(Error::Misplaced { found, .. }) => assert!(is_copy && found.value() == 2),
            opened => assert!(!is_copy && opened.unwrap().recovery().last_valid_lsn.value() == last),
        }
    }
}

#[test]
fn a_log_that_gave_everything_up_opens_whatever_byte_of_that_is_damaged() {
    for is_closed in [true, false] {
        let device = MemoryDevice::new(GEOMETRY);
        let medium = device.reader();
        let log = Log::open_device(device, config(Policy::Default)).unwrap();
        append(&log, 5);
        let begin = log.read_from(Lsn::FIRST).unwrap().next().unwrap().unwrap().offset as usize;
        let last = log.read_from(Lsn::new(5)).unwrap().next().unwrap().unwrap();
        log.discard_before(Lsn::new(6)).unwrap();
        if is_closed {
            log.close().unwrap();
        }
        drop(log);
        let whole = Bytes::of(&medium);
        for at in begin..last.offset as usize + last.serialized_size() {
            let damaged = flip(&whole, segment(1), at);
            for policy in [Policy::Strict, Policy::Default, Policy::PointInTime, Policy::Salvage] {
                let report = damaged.verified(policy);
                assert!(report.success && report.writable && report.damage().next().is_none(), "byte {at}: {report:?}");
                let opened = Log::open_device(damaged.device(), config(policy)).map(drop);
                assert!(opened.is_ok(), "byte {at}, {policy:?}: {opened:?}");
                let (went_on, report, next) = damaged.given_up(policy);
                assert_eq!((next, report.low_water.value()), (6, 6), "byte {at}, {policy:?}: {report:?}");
                assert_eq!(read(&went_on.reader(Policy::Strict).unwrap()), [6], "byte {at}, {policy:?}");
            }
        }
    }
}

#[test]
fn what_marks_alone_say_stays_where_a_bit_of_one_is_flipped() {
    for is_closed in [true, false] {
        let device = MemoryDevice::new(GEOMETRY);
        let medium = device.reader();
        let log = Log::open_device(device, config(Policy::Default)).unwrap();
        fill(&log, 2);
        append(&log, 2);
        log.set_slot(b"before").unwrap();
        log.set_slot(b"the newest").unwrap();
        let low_water = log.current_lsn();
        append(&log, 2);
        log.discard_before(low_water).unwrap();
        append(&log, 1);
        let last = log.current_lsn().previous();
        if is_closed {
            log.close().unwrap();
        }
        drop(log);
        let mut whole = Bytes::of(&medium);
        assert_eq!(whole.ids().len(), 1, "the segments below the mark are gone");
        let newest = segment(whole.ids()[0]);
        // They say it by themselves, on media that keep no metadata.
        assert!(whole.0.remove(&Object::Meta).is_some());
        for at in GEOMETRY.frames_at() as usize..whole.0[&newest].len() {
            let damaged = flip(&whole, newest, at);
            let Ok(log) = Log::open_device(damaged.device(), config(Policy::Default)) else {
                // An entry that was durable: it is told, and what was given up stays so.
                let log = Log::open_device(damaged.device(), config(Policy::Salvage)).unwrap();
                assert_eq!((log.low_water_lsn(), &log.slot()[..]), (low_water, &b"the newest"[..]), "byte {at}");
                continue;
            };
            assert_eq!((log.low_water_lsn(), &log.slot()[..]), (low_water, &b"the newest"[..]), "byte {at}");
            let found = log.read_from(Lsn::ZERO).unwrap().map(|entry| entry.unwrap().lsn).collect::<Vec<_>>();
            let kept = (low_water.value()..=last.value()).map(Lsn::new);
            assert!(kept.take(found.len()).eq(found.iter().copied()) && found.len() >= 2, "byte {at}: {found:?}");
        }
    }
}

#[test]
fn a_checkpoint_does_not_make_up_for_the_end_of_the_log() {
    let device = MemoryDevice::new(GEOMETRY);
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::Default)).unwrap();
    append(&log, 4);
    log.checkpoint(log.checkpoint_at(), &Snapshot::default()).unwrap();
    let third = log.read_from(Lsn::new(3)).unwrap().next().unwrap().unwrap().offset as usize;
    drop(log);
    // Behind what the checkpoint holds stood its own entry at least, and nothing tells what else.
    let mut short = Bytes::of(&medium);
    short.0.get_mut(&segment(1)).unwrap()[third + 10..].fill(GEOMETRY.blank);
    let finding = short.refused(config(Policy::Default));
    assert_eq!(finding.lsns, Some((Lsn::new(3), Lsn::new(4))));
    let report = short.verified(Policy::Default);
    assert!(!report.success && !report.clean && !report.writable, "{report:?}");
    assert_eq!(report.damage().copied().collect::<Vec<_>>(), [finding]);
}

#[test]
fn a_low_water_mark_that_only_the_metadata_tell_of_is_said_by_the_next_truncation() {
    let mut bytes = sample(3);
    let low_water = Lsn::new(bytes.spans()[&3].start() + 1);
    let meta = Meta::decode(&bytes.0[&Object::Meta]).unwrap();
    bytes.0.insert(Object::Meta, Meta { low_water, ..meta }.encode().to_vec());
    let device = bytes.device();
    let medium = device.reader();
    let log = Log::open_device(device, config(Policy::Default)).unwrap();
    assert_eq!(log.low_water_lsn(), low_water);
    assert_eq!(log.discard_before(low_water).unwrap(), low_water);
    drop(log);
    let mut forgotten = Bytes::of(&medium);
    assert!(forgotten.0.remove(&Object::Meta).is_some());
    let low_waters = Log::open_device(forgotten.device(), config(Policy::Default)).map(|log| log.low_water_lsn());
    assert!(low_waters.as_ref().is_ok_and(|lsn| *lsn == low_water), "it was durable when it returned: {low_waters:?}");
}
