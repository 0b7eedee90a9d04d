//! A file system that is really full: a small one in memory, mounted where nobody else sees it. Each test runs again in a
//! process of its own in there.
#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod process;

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use duralog::{Config, Error, Log, LogReader, Lsn, Snapshot, SyncMode};
use process::left_out;

/// Where the small file system is, for the process in there.
const DISK: &str = "DURALOG_SMALL_DISK";
const MOUNT: &str = "mount -t tmpfs -o size=640k small \"$0\" && exec \"$@\"";
/// As a user of one's own namespace, else as root in a namespace for the mount alone.
const UNSHARE: [&str; 2] = ["-Urm", "-m"];

fn in_namespace(flags: &str, dir: &Path, command: &[&str]) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args([flags, "sh", "-c", MOUNT]).arg(dir).args(command).stdin(Stdio::null());
    unshare
}

/// Runs `body` on a small file system: in another process, which is this test again.
fn on_a_small_disk(test: &str, body: fn(&Disk)) {
    if let Some(dir) = env::var_os(DISK) {
        return body(&Disk(dir.into()));
    }
    let place = tempfile::tempdir().unwrap();
    let probe = |flags: &&&str| {
        let output = in_namespace(flags, place.path(), &["true"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let Some(flags) = UNSHARE.iter().find(probe) else {
        let is_missing = Command::new("unshare").arg("--version").output().is_err();
        let why = if is_missing { "unshare is missing" } else { "this system forbids namespaces" };
        return left_out(&format!("a full disk: {why}"), is_missing);
    };
    let program = env::current_exe().unwrap();
    let again = [program.to_str().unwrap(), "--exact", test, "--nocapture", "--test-threads=1"];
    let output = in_namespace(flags, place.path(), &again).env(DISK, place.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let cried = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{cried}");
}

struct Disk(PathBuf);

impl Disk {
    fn config(&self, preallocate_segments: bool) -> Config {
        let config = Config { idle_mark: None, preallocate_segments, ..Config::new(self.0.join("log")) };
        config.with_segment_size(64 << 10).with_write_limit(8 << 10).with_sync_mode(SyncMode::Immediate)
    }

    /// Takes the last byte that is free.
    fn fill(&self) -> Filler {
        let paths = (0..).map(|number| self.0.join(format!("filler{number}")));
        let path = paths.into_iter().find(|path| !path.exists()).unwrap();
        let mut file = File::create_new(&path).unwrap();
        let mut len = 64 << 10;
        while len > 0 {
            if file.write_all(&vec![1; len]).is_err() {
                len /= 2;
            }
        }
        Filler(path)
    }
}

/// Whatever else is on the disk, until it is removed.
struct Filler(PathBuf);

impl Filler {
    fn remove(self) {
        fs::remove_file(self.0).unwrap();
    }
}

fn payload(n: u64) -> Vec<u8> {
    n.to_le_bytes().repeat(100)
}

/// What was acknowledged.
#[derive(Default)]
struct Told(BTreeMap<u64, u64>);

impl Told {
    fn append(&mut self, log: &Log, n: u64) -> Result<(), Error> {
        let receipt = log.append(payload(n).as_slice())?;
        assert_eq!(self.0.insert(receipt.last.value(), n), None, "an LSN was given out twice");
        Ok(())
    }

    /// Appends until there is no space; the number of the change that was refused.
    fn append_until_full(&mut self, log: &Log, from: u64) -> u64 {
        for n in from..10_000 {
            match self.append(log, n) {
                Ok(()) => {}
                Err(Error::NoSpace(_)) => return n,
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the disk is never full");
    }

    /// What a reader finds is what was told, from the first that is kept on, and nothing that was refused.
    fn is_all_there(&self, config: &Config) {
        let reader = LogReader::open(config.clone()).unwrap();
        assert_eq!(reader.recovery().damage().count(), 0);
        let low_water = reader.recovery().low_water.value();
        let entries = reader.read(Lsn::ZERO, Lsn::MAX).unwrap().map(Result::unwrap);
        let found: BTreeMap<u64, Vec<u8>> = entries
            .filter_map(|entry| Some((entry.lsn.value(), entry.opaque()?.to_vec())))
            .filter(|(lsn, _)| *lsn >= low_water)
            .collect();
        let told: BTreeMap<u64, Vec<u8>> =
            self.0.iter().filter(|(lsn, _)| **lsn >= low_water).map(|(lsn, n)| (*lsn, payload(*n))).collect();
        assert!(found == told, "{:?} in place of {:?}", found.keys(), told.keys());
    }
}

fn checkpoint(log: &Log) -> Result<(), Error> {
    log.checkpoint(log.checkpoint_at(), &Snapshot::default()).map(drop)
}

/// Until no byte is free, and then truncation gives room, and the same handle goes on; over and over.
fn fills_and_goes_on(disk: &Disk, preallocate: bool) {
    let config = disk.config(preallocate).with_checkpoint_retention(1);
    let log = Log::open(config.clone()).unwrap();
    let mut told = Told::default();
    let mut next = 1;
    for _ in 0..200 {
        told.append(&log, next).unwrap();
        next += 1;
    }
    let mut kept = 1;
    for _ in 0..4 {
        checkpoint(&log).unwrap();
        next = told.append_until_full(&log, next) + 1;
        let filler = disk.fill();
        next = told.append_until_full(&log, next) + 1;
        assert!(matches!(told.append(&log, next), Err(Error::NoSpace(_))));
        next += 1;
        told.is_all_there(&config);
        assert_eq!(log.synced_lsn().value(), *told.0.last_key_value().unwrap().0);
        let before = kept;
        kept = log.truncate_before(Lsn::MAX).unwrap().value();
        assert!(kept > before + 100, "{before} to {kept}");
        told.append(&log, next).unwrap();
        next += 1;
        told.is_all_there(&config);
        filler.remove();
    }
    log.close().unwrap();
    drop(log);
    told.is_all_there(&config);
    let log = Log::open(config.clone()).unwrap();
    told.append(&log, next).unwrap();
    told.is_all_there(&config);
}

#[test]
fn a_full_disk_refuses_appends_and_truncation_without_a_free_byte_makes_room() {
    on_a_small_disk("a_full_disk_refuses_appends_and_truncation_without_a_free_byte_makes_room", |disk| {
        fills_and_goes_on(disk, true);
    });
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_a_write_keeps_what_was_acknowledged() {
    on_a_small_disk("a_disk_that_is_full_in_the_middle_of_a_write_keeps_what_was_acknowledged", |disk| {
        fills_and_goes_on(disk, false);
    });
}

#[test]
fn a_checkpoint_without_room_leaves_nothing_and_the_log_goes_on() {
    on_a_small_disk("a_checkpoint_without_room_leaves_nothing_and_the_log_goes_on", |disk| {
        let config = disk.config(true);
        let log = Log::open(config.clone()).unwrap();
        let mut told = Told::default();
        for n in 1..20 {
            told.append(&log, n).unwrap();
        }
        let checkpoints = || {
            let names = fs::read_dir(disk.0.join("log")).unwrap().map(|entry| entry.unwrap().file_name());
            names.filter(|name| name.to_string_lossy().contains(".ckpt")).count()
        };
        let mut fillers = vec![disk.fill()];
        // A segment that was made ahead, which may be at any time, gives up its room to a checkpoint: then the disk is not
        // full yet.
        let (before, refused) = loop {
            let before = checkpoints();
            match checkpoint(&log) {
                Ok(()) => fillers.push(disk.fill()),
                refused => break (before, refused),
            }
        };
        assert!(matches!(refused, Err(Error::NoSpace(_))), "{refused:?}");
        assert_eq!(checkpoints(), before, "half a checkpoint takes room");
        told.append(&log, 20).expect("the segment has its room");
        told.is_all_there(&config);
        fillers.into_iter().for_each(Filler::remove);
        checkpoint(&log).unwrap();
        assert!(checkpoints() > 0);
        told.append(&log, 21).unwrap();
        told.is_all_there(&config);
    });
}

#[test]
fn a_rotation_without_room_is_made_up_for_once_there_is_some() {
    on_a_small_disk("a_rotation_without_room_is_made_up_for_once_there_is_some", |disk| {
        let config = disk.config(true);
        let log = Log::open(config.clone()).unwrap();
        let mut told = Told::default();
        told.append(&log, 1).unwrap();
        let filler = disk.fill();
        let refused = told.append_until_full(&log, 2);
        assert!(refused > 50, "the first segment has its room: {refused}");
        for again in 0..3 {
            assert!(matches!(told.append(&log, refused + again), Err(Error::NoSpace(_))));
        }
        told.is_all_there(&config);
        filler.remove();
        told.append(&log, refused + 10).unwrap();
        told.is_all_there(&config);
        log.close().unwrap();
        drop(log);
        told.is_all_there(&config);
    });
}

#[test]
fn a_closed_log_opens_on_a_full_disk_and_truncation_makes_room() {
    on_a_small_disk("a_closed_log_opens_on_a_full_disk_and_truncation_makes_room", |disk| {
        let config = disk.config(true);
        let log = Log::open(config.clone()).unwrap();
        let mut told = Told::default();
        for n in 1..=200 {
            told.append(&log, n).unwrap();
        }
        checkpoint(&log).unwrap();
        log.close().unwrap();
        drop(log);
        let filler = disk.fill();
        let log = Log::open(config.clone()).unwrap();
        assert_eq!(log.current_lsn().value(), 202);
        assert!(matches!(told.append(&log, 201), Err(Error::NoSpace(_))));
        told.is_all_there(&config);
        log.truncate_before(Lsn::MAX).unwrap();
        told.append(&log, 202).unwrap();
        told.is_all_there(&config);
        filler.remove();
    });
}

#[test]
fn an_opening_without_room_destroys_nothing() {
    on_a_small_disk("an_opening_without_room_destroys_nothing", |disk| {
        let config = disk.config(true);
        let log = Log::open(config.clone()).unwrap();
        let mut told = Told::default();
        for n in 1..=100 {
            told.append(&log, n).unwrap();
        }
        drop(log);
        let filler = disk.fill();
        for n in 101..104 {
            // What is not proved is to be copied, for which there is no room: nothing can be written, all can be read.
            match Log::open(config.clone()) {
                Err(Error::NoSpace(_)) => {}
                Ok(log) => assert!(matches!(told.append(&log, n), Err(Error::NoSpace(_)))),
                Err(error) => panic!("{error}"),
            }
            told.is_all_there(&config);
        }
        filler.remove();
        let log = Log::open(config.clone()).unwrap();
        told.append(&log, 104).unwrap();
        told.is_all_there(&config);
    });
}
