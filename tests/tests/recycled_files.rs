//! Segments that had another life: what a kill leaves of a log that goes round in its files.
#![cfg(any(target_os = "linux", target_os = "android"))]
#![allow(missing_docs)]

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use duralog::{
    Config, Log, Lsn, SyncMode,
    core::{checksum::portable, segment::SegmentHeader},
};

const SEGMENT: u32 = 16 << 10;
/// Entries that truncation leaves.
const KEPT: u64 = 30;

fn config(dir: &Path) -> Config {
    Config::new(dir).with_segment_size(SEGMENT).with_sync_mode(SyncMode::Immediate)
}

fn payload(n: u64) -> Vec<u8> {
    format!("entry {n}: ").into_bytes().into_iter().chain((0..n * 37 % 500).map(|i| (i % 251) as u8)).collect()
}

/// The directory as it would be found if the process were killed now. What is made ahead may come and go meanwhile.
fn left_by_a_kill(log: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(log).unwrap() {
        let entry = entry.unwrap();
        match fs::copy(entry.path(), to.join(entry.file_name())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            copied => assert!(copied.is_ok(), "{copied:?}"),
        }
    }
}

fn segments(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment_")))
}

/// Whether the segment's header says that its room had another life.
fn is_recycled(file: &Path) -> bool {
    // It may just have been removed.
    let Ok(bytes) = fs::read(file) else { return false };
    SegmentHeader::decode(portable, &bytes, 0).is_ok_and(|header| header.recycled)
}

fn check(log: &Log, last: u64) {
    let low_water = log.recovery().low_water;
    let mut expected = low_water.value();
    for entry in log.read_from(low_water).unwrap() {
        let entry = entry.unwrap();
        assert_eq!((entry.lsn.value(), entry.opaque()), (expected, Some(&payload(expected)[..])));
        expected += 1;
    }
    assert_eq!(expected, last + 1);
}

#[test]
fn a_kill_of_a_log_that_recycles_its_segments_loses_nothing_and_brings_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = Log::open(config(&path)).unwrap();
    let mut recycled = 0;
    for n in 1..=400 {
        log.append(&payload(n)[..]).unwrap();
        if n % 20 == 0 {
            log.discard_before(Lsn::new(n.saturating_sub(KEPT))).unwrap();
        }
        if n % 23 == 0 {
            recycled += u32::from(segments(&path).any(|file| is_recycled(&file)));
            let copy = dir.path().join(format!("killed-{n}"));
            left_by_a_kill(&path, &copy);
            let killed = Log::open(config(&copy)).unwrap();
            assert!(
                killed.recovery().success && killed.recovery().damage().next().is_none(),
                "{:?}",
                killed.recovery()
            );
            assert_eq!(killed.recovery().torn_tail, None, "old bytes are no torn tail");
            check(&killed, n);
            // Life goes on, and nothing of an earlier life comes back behind it.
            for more in n + 1..n + 30 {
                killed.append(&payload(more)[..]).unwrap();
            }
            drop(killed);
            let again = Log::open(config(&copy)).unwrap();
            check(&again, n + 29);
            again.close().unwrap();
            let spares = fs::read_dir(&copy)
                .unwrap()
                .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("spare_"));
            assert_eq!(spares.count(), 0, "a close leaves nothing that was made ahead");
        }
    }
    assert!(recycled > 0, "no segment had another life: this test saw nothing");
    log.close().unwrap();
}
