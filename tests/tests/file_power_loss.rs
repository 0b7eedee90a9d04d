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
use duralog::{Config, Error, FileDevice, SharedDevice, SyncMode, faulty::Random, file::FileOptions};
use duralog_tests::{
    Call, CallLeft as Left, Counter, Directory, Disk, Op, Oracle, Recorded, Stopped, Unsynced, rebuild, script,
};

const SEGMENT: u32 = 8192;
/// Unsynced calls of which every subset is tried.
const SUBSETS_MAX: usize = 6;
/// Of more, so many subsets are tried besides those that a rule names.
const SAMPLE: usize = 12;

fn config(sync_mode: SyncMode, environment: &Arc<Counter>) -> Config {
    Config { idle_mark: None, write_behind: None, ..Config::default() }
        .with_segment_size(SEGMENT)
        .with_write_limit(1024)
        .with_sync_mode(sync_mode)
        .with_environment(environment.clone())
}

fn options(preallocate: bool) -> FileOptions {
    FileOptions { segment_size: SEGMENT, preallocate, ..FileOptions::default() }
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
    for (torn, call) in unsynced.iter().enumerate() {
        let Call::Write { bytes, .. } = call else { continue };
        for len in [1, bytes.len() / 2, bytes.len().saturating_sub(1)] {
            for others in [true, false] {
                let mut way = each(&|n| if n < torn { others } else { others && n > torn });
                way[torn] = Left::Bytes(len);
                ways.push(way);
            }
        }
    }
    ways
}

#[derive(Debug, Default)]
struct Counts {
    points: u64,
    directories: u64,
    distinct: u64,
}

/// Cuts the power before every call that changes something, and opens every directory that this may leave.
fn search(name: &str, sync_mode: SyncMode, preallocate: bool, ops: &[Op]) -> Counts {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let total = record(usize::MAX, sync_mode, preallocate, ops, &from).0.len();
    let mut counts = Counts::default();
    let mut seen = HashSet::new();
    for most in 0..=total {
        counts.points += 1;
        let (calls, oracle) = record(most, sync_mode, preallocate, ops, &from);
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
            if let Err(why) = recover(&directory, &oracle, sync_mode, preallocate, &to) {
                let names: Vec<_> = directory.iter().map(|(name, bytes)| (name, bytes.len())).collect();
                let last = calls.iter().rev().take(12).rev().map(short).collect::<Vec<_>>().join("\n    ");
                panic!("{name}: {why}\n  after {most} calls, the last ones\n    {last}\n  keeping {way:?}: {names:?}");
            }
        }
    }
    println!("{name}: {counts:?}");
    counts
}

fn short(call: &Call) -> String {
    match call {
        Call::Write { file, at, bytes } => format!("write file {file} {at}+{}", bytes.len()),
        other => format!("{other:?}"),
    }
}

/// Runs the workload for so many calls.
fn record(most: usize, sync_mode: SyncMode, preallocate: bool, ops: &[Op], folder: &Path) -> (Vec<Call>, Oracle) {
    let dir = rebuild(&Directory::new(), folder).unwrap();
    let recorded = Recorded::up_to(most);
    let mut oracle = Oracle::default();
    let open = || device(recorded.clone(), &dir, preallocate);
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

fn device<F: duralog::Files>(files: F, dir: &PathBuf, preallocate: bool) -> Result<FileDevice<F>, Error>
where
    FileDevice<F>: SharedDevice<Error = duralog::file::FileError>,
{
    FileDevice::open_with(files, dir, options(preallocate)).map_err(FileDevice::<F>::opened)
}

/// Opens the directory with the file device: all is there, it goes on, and it is all there again.
fn recover(
    directory: &Directory,
    oracle: &Oracle,
    sync_mode: SyncMode,
    preallocate: bool,
    folder: &Path,
) -> Result<(), String> {
    let dir = rebuild(directory, folder).map_err(|error| error.to_string())?;
    let mut oracle = oracle.clone();
    let config = config(sync_mode, &Counter::new());
    let told = |stopped: Stopped| match stopped {
        Stopped::Error(error) => format!("the log does not open: {error}"),
        Stopped::Violation(violation) => violation.to_string(),
    };
    let open = || device(Unsynced, &dir, preallocate);
    let life = [Open, Append(20), Batch(2, 12), Sync, Leave, Open, Append(9), Close, Open, Close];
    script::play(&life, &config, &mut oracle, open).map_err(told).map(drop)
}

#[test]
fn every_directory_that_a_power_cut_leaves_opens_with_all_that_was_acknowledged() {
    let ops = [Open, Append(24), Batch(2, 40), Append(300), Fill(400), Append(9), Close, Open, Append(9), Leave, Open];
    let mut all = 0;
    for preallocate in [true, false] {
        all += search("appends", SyncMode::Immediate, preallocate, &ops).distinct;
        let ops =
            [Open, Append(24), Batch(2, 40), Sync, Append(300), Append(400), Append(500), Fill(400), Sync, Append(9)];
        all += search("buffered appends", SyncMode::Async, preallocate, &ops).distinct;
    }
    assert!(all > 1000, "{all} directories");
}

#[test]
fn directories_between_the_steps_of_a_checkpoint_and_of_a_truncation_open_too() {
    let ops =
        [Open, Fill(500), Checkpoint, Append(9), Truncate(0), Fill(500), Discard(1), Append(9), Cut(1), Append(12)];
    for preallocate in [true, false] {
        let counts = search("checkpoint and truncation", SyncMode::Immediate, preallocate, &ops);
        assert!(counts.distinct > 300, "{counts:?}");
    }
}

/// The test itself must be able to fail: a file system that forgets what was synced loses what was acknowledged.
#[test]
fn a_directory_without_what_was_synced_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let ops = [Open, Append(24), Append(9), Append(30)];
    let (calls, oracle) = record(usize::MAX, SyncMode::Immediate, true, &ops, &from);
    let disk = Disk::after(&calls);
    recover(&disk.directory(&[]), &oracle, SyncMode::Immediate, true, &to).unwrap();
    let last = calls.iter().rposition(|call| matches!(call, Call::Write { .. })).unwrap();
    let lied: Vec<_> = calls.iter().enumerate().filter(|(n, _)| *n != last).map(|(_, call)| call.clone()).collect();
    let why = recover(&Disk::after(&lied).directory(&[]), &oracle, SyncMode::Immediate, true, &to).unwrap_err();
    assert!(why.contains("was acknowledged"), "{why}");
    let forgotten: Directory = disk
        .directory(&[])
        .into_iter()
        .filter(|(name, _)| name != &OsString::from("segment_0000000000000001.wal"))
        .collect();
    recover(&forgotten, &oracle, SyncMode::Immediate, true, &to).unwrap_err();
}
