//! Many processes and threads that all want to write to one log: one is let in at a time, whoever is killed and whatever
//! becomes of the file `LOCK`.
#![cfg(unix)]
#![allow(missing_docs)]

mod process;

use core::sync::atomic::{AtomicU64, Ordering};
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    path::Path,
    process::{Child, Stdio},
    thread,
};

use duralog::{Error, Log, LogReader, Lsn, Operation};
use duralog_tests::{change, changed};
use process::{config, figure, folder, writer};

const PROCESSES: u64 = 6;
/// So that no two processes append the same change.
const NUMBERS: u64 = 1_000_000;

/// One that tries to get in, and says into a file shared by all when it is in, what it appended, and when it goes.
fn contender(dir: &Path, said: &Path, number: u64, times: u64) -> Child {
    let said = OpenOptions::new().append(true).create(true).open(said).unwrap();
    let mut command = writer(dir, "immediate", 1 + number * NUMBERS, &["contend", &times.to_string()]);
    command.stdout(said).stderr(Stdio::null()).spawn().unwrap()
}

/// Change and LSN of what was acknowledged, in the order in which it was said.
fn acknowledged(said: &str) -> BTreeMap<u64, u64> {
    let mut by_lsn = BTreeMap::new();
    for line in said.lines().filter_map(|line| line.strip_prefix("ack ")) {
        let mut words = line.split(' ').map(|word| word.parse::<u64>());
        let (Some(Ok(number)), Some(Ok(lsn))) = (words.next(), words.next()) else { panic!("{line}") };
        assert_eq!(by_lsn.insert(lsn, number), None, "two writers were given the LSN {lsn}");
    }
    by_lsn
}

/// Whatever was acknowledged stands where it was said to; nothing is missing or twice.
fn holds(dir: &Path, acknowledged: &BTreeMap<u64, u64>) {
    let reader = LogReader::open(config(dir)).unwrap();
    assert_eq!(reader.recovery().damage().count(), 0);
    let entries = reader.read(Lsn::ZERO, Lsn::MAX).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.lsn.value(), changed(entry.opaque().unwrap()).unwrap().0)
    });
    let entries: BTreeMap<u64, u64> = entries.collect();
    for (lsn, number) in acknowledged {
        assert_eq!(entries.get(lsn), Some(number), "what was acknowledged at {lsn}");
    }
    let mut numbers: Vec<_> = entries.values().collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), entries.len(), "an entry is there twice");
}

fn words<'a>(said: &'a str, word: &'a str) -> impl Iterator<Item = (usize, u32)> + 'a {
    let number = move |line: &str| line.strip_prefix(word)?.trim().parse().ok();
    said.lines().enumerate().filter_map(move |(at, line)| Some((at, number(line)?)))
}

#[test]
fn of_racing_processes_one_is_in_at_a_time_also_when_owners_are_killed() {
    let place = folder();
    let (dir, said) = (place.path().join("log"), place.path().join("said"));
    let mut killed = Vec::new();
    let mut children: Vec<Child> = (0..PROCESSES).map(|number| contender(&dir, &said, number, 150)).collect();
    // Whoever is in is killed, over and over; a newcomer takes its place among those who try.
    for number in PROCESSES..PROCESSES + 20 {
        let owner = loop {
            let lines = fs::read_to_string(&said).unwrap();
            let inside = words(&lines, "in ").last().map(|(_, id)| id);
            if let Some(at) = children.iter().position(|child| Some(child.id()) == inside) {
                break children.swap_remove(at);
            }
            if children.iter_mut().all(|child| child.try_wait().unwrap().is_some()) {
                break children.pop().unwrap();
            }
            thread::yield_now();
        };
        let mut owner = owner;
        owner.kill().unwrap();
        owner.wait().unwrap();
        killed.push(owner.id());
        children.push(contender(&dir, &said, number, 150));
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let said = fs::read_to_string(&said).unwrap();
    let mut inside: Option<u32> = None;
    for line in said.lines() {
        let id = |word: &str| line.strip_prefix(word).and_then(|id| id.parse::<u32>().ok());
        if let Some(id) = id("in ") {
            assert!(inside.is_none_or(|inside| killed.contains(&inside)), "{id} was let in beside {inside:?}");
            inside = Some(id);
        } else if let Some(id) = id("out ") {
            assert_eq!(inside, Some(id));
            inside = None;
        }
    }
    let refused = words(&said, "refused locked ").map(|(_, times)| u64::from(times)).sum::<u64>();
    assert!(!said.contains("refused no"), "{said}");
    let acknowledged = acknowledged(&said);
    holds(&dir, &acknowledged);
    let rounds = words(&said, "in ").count();
    figure(format_args!("{rounds} openings by racing processes, {refused} refused, {} owners killed", killed.len()));
}

#[test]
fn a_deleted_lock_file_lets_no_second_writer_acknowledge_anything() {
    let place = folder();
    let (dir, said) = (place.path().join("log"), place.path().join("said"));
    let mut children: Vec<Child> = (0..PROCESSES).map(|number| contender(&dir, &said, number, 60)).collect();
    let mut deleted = 0_u64;
    loop {
        match fs::remove_file(dir.join("LOCK")) {
            Ok(()) => deleted += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
        }
        if children.iter_mut().all(|child| child.try_wait().unwrap().is_some()) {
            break;
        }
        thread::yield_now();
    }
    let said = fs::read_to_string(&said).unwrap();
    let acknowledged = acknowledged(&said);
    assert!(!acknowledged.is_empty(), "{said}");
    holds(&dir, &acknowledged);
    let log = Log::open(config(&dir)).unwrap();
    log.append(Operation::opaque(change(1, 0, 30))).unwrap();
    figure(format_args!("LOCK deleted {deleted} times beside {} acknowledged entries", acknowledged.len()));
}

#[test]
fn of_racing_threads_one_is_in_at_a_time() {
    let place = folder();
    let dir = place.path().join("log");
    let (inside, opened, refused) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..8 {
            let (dir, inside, opened, refused) = (&dir, &inside, &opened, &refused);
            scope.spawn(move || {
                for time in 0.. {
                    if opened.load(Ordering::SeqCst) >= 160 {
                        break;
                    }
                    match Log::open(config(dir)) {
                        Ok(log) => {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two writers in one process");
                            log.append(Operation::opaque(change(number * NUMBERS + time, 0, 300))).unwrap();
                            inside.fetch_sub(1, Ordering::SeqCst);
                            drop(log);
                            opened.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(Error::Locked { .. }) => {
                            refused.fetch_add(1, Ordering::SeqCst);
                            thread::yield_now();
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    let reader = LogReader::open(config(&dir)).unwrap();
    let entries = reader.read(Lsn::ZERO, Lsn::MAX).unwrap().filter(|entry| entry.as_ref().is_ok());
    assert_eq!(entries.count() as u64, opened.load(Ordering::SeqCst));
    figure(format_args!("{opened:?} openings by racing threads, {refused:?} refused"));
}

#[test]
fn the_file_lock_may_be_made_anew_while_the_log_is_open() {
    let place = folder();
    let dir = place.path().join("log");
    let log = Log::open(config(&dir)).unwrap();
    log.append(Operation::opaque(change(1, 0, 30))).unwrap();
    for _ in 0..10 {
        fs::remove_file(dir.join("LOCK")).unwrap();
        File::create(dir.join("LOCK")).unwrap();
        assert!(matches!(Log::open(config(&dir)), Err(Error::Locked { .. })), "the newest segment is locked as well");
    }
    log.append(Operation::opaque(change(2, 0, 30))).unwrap();
    log.close().unwrap();
    drop(log);
    Log::open(config(&dir)).unwrap();
}
