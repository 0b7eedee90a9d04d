//! The power goes under the real file device: every directory that may be left is rebuilt, and opened by it.
#![allow(missing_docs)]

use core::hash::{Hash, Hasher};
use std::{
    collections::HashSet,
    ffi::OsString,
    hash::DefaultHasher,
    path::{Path, PathBuf},
    sync::Arc,
};

use Op::{Append, Batch, Checkpoint, Close, Cut, Discard, Fill, Leave, Open, Sync, Truncate};
use Rooms::{Ahead, AsNeeded};
use duralog::{Config, Error, FileDevice, SharedDevice, SyncMode, faulty::Random, file::FileOptions};
use duralog_tests::{
    Call, CallLeft as Left, Counter, Directory, Disk, Op, Oracle, Pace, Prepared, Recorded, Stopped, Unsynced, figure,
    rebuild, script,
};

const SEGMENT: u32 = 8192;
/// Unsynced calls of which every subset is tried.
const SUBSETS_MAX: usize = 6;
/// Of more, so many subsets are tried besides those that a rule names.
const SAMPLE: usize = 12;

/// Where new segments get their room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rooms {
    /// Made ahead, or of removed segments.
    Ahead(Pace),
    /// As they are written.
    AsNeeded,
}

impl Rooms {
    fn told(self) -> &'static str {
        match self {
            Ahead(Pace::All) => "rooms made ahead",
            Ahead(Pace::Piece) => "rooms made ahead piece by piece",
            Ahead(Pace::Beside) => "rooms made ahead by a thread",
            AsNeeded => "rooms made as needed",
        }
    }
}

fn config(sync_mode: SyncMode, environment: &Arc<Counter>) -> Config {
    Config { idle_mark: None, write_behind: None, ..Config::default() }
        .with_segment_size(SEGMENT)
        .with_write_limit(1024)
        .with_sync_mode(sync_mode)
        .with_environment(environment.clone())
}

fn options(rooms: Rooms) -> FileOptions {
    FileOptions { segment_size: SEGMENT, preallocate: rooms != AsNeeded, ..FileOptions::default() }
}

/// The ways in which a power cut may deal with these unsynced calls.
fn ways(unsynced: &[&Call], random: &mut Random) -> Vec<Vec<Left>> {
    let count = unsynced.len();
    let each = |kept: &dyn Fn(usize) -> bool| -> Vec<Left> {
        (0..count).map(|n| if kept(n) { Left::All } else { Left::Nothing }).collect()
    };
    let mut ways = vec![each(&|_| true), each(&|_| false)];
    if count <= SUBSETS_MAX {
        ways.extend((0..1usize << count).map(|set| each(&|n| set >> n & 1 == 1)));
    } else {
        for one in 0..count {
            ways.extend([each(&|n| n < one), each(&|n| n != one), each(&|n| n == one)]);
        }
        for _ in 0..SAMPLE {
            let set = random.next();
            ways.push(each(&|n| set >> (n % 64) & 1 == 1));
        }
    }
    for (half, call) in unsynced.iter().enumerate() {
        let lefts = match call {
            Call::Write { bytes, .. } => [1, bytes.len() / 2, bytes.len().saturating_sub(1)].map(Left::Bytes).to_vec(),
            Call::Rename { .. } => vec![Left::BothNames, Left::NoName],
            _ => continue,
        };
        for left in lefts {
            for (before, behind) in [(true, true), (true, false), (false, false)] {
                let mut way = each(&|n| if n < half { before } else { behind });
                way[half] = left;
                ways.push(way);
            }
        }
    }
    ways
}

/// What was found on the way.
#[derive(Debug, Default)]
struct Counts {
    points: u64,
    directories: u64,
    distinct: u64,
    /// Segments in room that was made ahead, and in that of removed ones.
    ahead: u64,
    recycled: u64,
}

impl Counts {
    /// Counts the segments whose room was there before, in the calls of a whole run.
    fn count_renames(&mut self, calls: &[Call]) {
        let is_segment = |name: &OsString| name.to_str().is_some_and(|name| name.starts_with("segment_"));
        let mut removed = HashSet::new();
        for call in calls {
            let Call::Rename { from, to, file } = call else { continue };
            if is_segment(from) {
                removed.insert(file);
            } else if is_segment(to) && removed.contains(file) {
                self.recycled += 1;
            } else {
                self.ahead += 1;
            }
        }
    }
}

/// Cuts the power before every call that changes something, and opens every directory that this may leave.
fn search(name: &str, sync_mode: SyncMode, rooms: Rooms, ops: &[Op]) -> Counts {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let whole = record(usize::MAX, sync_mode, rooms, ops, &from).0;
    let total = whole.len();
    let mut counts = Counts::default();
    counts.count_renames(&whole);
    let mut seen = HashSet::new();
    for most in 0..=total {
        counts.points += 1;
        let (calls, oracle) = record(most, sync_mode, rooms, ops, &from);
        assert!(calls == whole[..most], "another run makes other calls");
        let disk = Disk::after(&calls);
        let unsynced: Vec<_> = disk.unsynced().collect();
        let mut random = Random::new(most as u64);
        for way in ways(&unsynced, &mut random) {
            counts.directories += 1;
            let directory = disk.directory(&way);
            let mut hasher = DefaultHasher::new();
            (&directory, &oracle).hash(&mut hasher);
            if !seen.insert(hasher.finish()) {
                continue;
            }
            counts.distinct += 1;
            if let Err(why) = recover(&directory, &oracle, sync_mode, rooms, &to) {
                let names: Vec<_> = directory.iter().map(|(name, image)| (name, image.bytes.len())).collect();
                let last = calls.iter().rev().take(12).rev().map(short).collect::<Vec<_>>().join("\n    ");
                panic!(
                    "{name}, {rooms:?}: {why}\n  after {most} calls, the last ones\n    {last}\n  keeping {way:?}: {names:?}"
                );
            }
        }
    }
    println!("{name}, {rooms:?}: {counts:?}");
    // Elsewhere a removed segment is not recycled, and other directories are left.
    if cfg!(unix) {
        let Counts { points, directories, distinct, .. } = counts;
        let (rooms, mode) = (rooms.told(), if sync_mode == SyncMode::Async { "buffered" } else { "synced" });
        figure(&format!(
            "file_power_loss, {name}, {mode}, {rooms}: {points} power cuts, {directories} directories, {distinct} of \
             them distinct"
        ));
    }
    counts
}

fn short(call: &Call) -> String {
    match call {
        Call::Write { file, at, bytes } => format!("write file {file} {at}+{}", bytes.len()),
        other => format!("{other:?}"),
    }
}

/// Runs the workload for so many calls.
fn record(most: usize, sync_mode: SyncMode, rooms: Rooms, ops: &[Op], folder: &Path) -> (Vec<Call>, Oracle) {
    let dir = rebuild(&Directory::new(), folder).unwrap();
    let recorded = Recorded::up_to(most);
    let mut oracle = Oracle::default();
    let open = || device(recorded.clone(), &dir, rooms);
    let config = config(sync_mode, &Counter::new());
    match script::play(ops, &config, &mut oracle, open) {
        Ok(log) => drop(log),
        Err(Stopped::Error(_)) if most < usize::MAX => {}
        Err(stopped) => panic!("after {most} calls: {stopped:?}"),
    }
    let mut calls = recorded.calls();
    calls.truncate(most);
    (calls, oracle)
}

fn device<F: duralog::Files>(files: F, dir: &PathBuf, rooms: Rooms) -> Result<Prepared<F>, Error>
where
    FileDevice<F>: SharedDevice<Error = duralog::file::FileError>,
{
    let pace = if let Ahead(pace) = rooms { pace } else { Pace::All };
    let device = FileDevice::open_with(files, dir, options(rooms)).map_err(FileDevice::<F>::opened)?;
    Ok(Prepared::new(device, pace))
}

/// Opens the directory with the file device: all is there, it goes on, and it is all there again.
fn recover(
    directory: &Directory,
    oracle: &Oracle,
    sync_mode: SyncMode,
    rooms: Rooms,
    folder: &Path,
) -> Result<(), String> {
    let dir = rebuild(directory, folder).map_err(|error| error.to_string())?;
    let mut oracle = oracle.clone();
    let config = config(sync_mode, &Counter::new());
    let told = |stopped: Stopped| match stopped {
        Stopped::Error(error) => format!("the log does not open: {error}"),
        Stopped::Violation(violation) => violation.to_string(),
    };
    let open = || device(Unsynced::ROOMY, &dir, rooms);
    // Where rooms are made ahead, the next life comes by a segment in each kind of them.
    let goes_round = [Open, Append(20), Batch(2, 12), Sync, Fill(900), Discard(1), Fill(900), Leave];
    let goes_on = [Open, Append(20), Batch(2, 12), Sync, Leave];
    let first = if rooms == AsNeeded { &goes_on[..] } else { &goes_round };
    let life = [first, &[Open, Append(9), Close, Open, Close]].concat();
    script::play(&life, &config, &mut oracle, open).map_err(told).map(drop)
}

#[test]
fn every_directory_that_a_power_cut_leaves_opens_with_all_that_was_acknowledged() {
    let ops = [Open, Append(24), Batch(2, 40), Append(300), Fill(400), Append(9), Close, Open, Append(9), Leave, Open];
    let mut all = 0;
    for rooms in [Ahead(Pace::Piece), AsNeeded] {
        all += search("appends", SyncMode::Immediate, rooms, &ops).distinct;
        let ops =
            [Open, Append(24), Batch(2, 40), Sync, Append(300), Append(400), Append(500), Fill(400), Sync, Append(9)];
        all += search("many appends", SyncMode::Async, rooms, &ops).distinct;
    }
    assert!(all > 1000, "{all} directories");
}

#[test]
fn directories_between_the_steps_of_a_checkpoint_and_of_a_truncation_open_too() {
    let ops =
        [Open, Fill(500), Checkpoint, Append(9), Truncate(0), Fill(500), Discard(1), Append(9), Cut(1), Append(12)];
    for rooms in [Ahead(Pace::All), AsNeeded] {
        let counts = search("checkpoint and truncation", SyncMode::Immediate, rooms, &ops);
        assert!(counts.distinct > 300, "{counts:?}");
    }
}

#[test]
fn directories_of_a_log_that_goes_round_in_its_files_open_too() {
    let round = [Fill(900), Append(24), Discard(1), Append(9), Fill(900), Batch(2, 40), Fill(900)];
    let ops = [&[Open, Fill(900)][..], &round, &[Leave, Open, Append(9)], &round, &[Close, Open, Append(9)]].concat();
    for (pace, sync_mode) in [(Pace::All, SyncMode::Immediate), (Pace::Piece, SyncMode::Async)] {
        let counts = search("going round", sync_mode, Ahead(pace), &ops);
        assert!(counts.distinct > 300 && counts.ahead > 1, "{counts:?}");
        assert!(counts.recycled > 1 || cfg!(not(unix)), "{counts:?}");
    }
}

/// The test itself must be able to fail: a file system that forgets what was synced loses what was acknowledged.
#[test]
fn a_directory_without_what_was_synced_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let ops = [Open, Append(24), Append(9), Append(30)];
    let (calls, oracle) = record(usize::MAX, SyncMode::Immediate, Ahead(Pace::All), &ops, &from);
    let disk = Disk::after(&calls);
    recover(&disk.directory(&[]), &oracle, SyncMode::Immediate, Ahead(Pace::All), &to).unwrap();
    let last = calls.iter().rposition(|call| matches!(call, Call::Write { .. })).unwrap();
    let lied: Vec<_> = calls.iter().enumerate().filter(|(n, _)| *n != last).map(|(_, call)| call.clone()).collect();
    let why =
        recover(&Disk::after(&lied).directory(&[]), &oracle, SyncMode::Immediate, Ahead(Pace::All), &to).unwrap_err();
    assert!(why.contains("was acknowledged"), "{why}");
    let forgotten: Directory = disk
        .directory(&[])
        .into_iter()
        .filter(|(name, _)| name != &OsString::from("segment_0000000000000001.wal"))
        .collect();
    recover(&forgotten, &oracle, SyncMode::Immediate, Ahead(Pace::All), &to).unwrap_err();
}
