//! A real process under `strace`: killed before each system call that changes anything, and each system call that can
//! fail made to fail. What it was told is held against the log that it leaves.
#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod process;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use process::{Witness, figure, folder, left_out, writer};

/// The calls that change what is on the disk, or what others are told. A kill before a call that only reads leaves what a
/// kill before the next of these does.
const CHANGING: [&str; 14] = [
    "openat",
    "mkdir",
    "mkdirat",
    "flock",
    "pwrite64",
    "write",
    "fsync",
    "fdatasync",
    "fallocate",
    "ftruncate",
    "unlink",
    "unlinkat",
    "rename",
    "renameat2",
];

/// What is asked of `strace`: these calls and `openat`, as far as this processor has them.
fn traced(names: &[&str]) -> String {
    let names = names.iter().chain(&["openat"]).map(|name| format!("?{name}"));
    format!("trace={}", names.collect::<Vec<_>>().join(","))
}

/// The name of a file that is to become a segment: that one cannot be made ahead is no loss.
const SPARE: &str = "spare_";

/// One run of the writer.
struct Run {
    said: String,
    trace: String,
}

impl Run {
    fn new(log: &Path, options: &[&str]) -> Self {
        Self::of(writer(log, "immediate", 1, &["script"]), log, options)
    }

    fn of(child: Command, log: &Path, options: &[&str]) -> Self {
        let trace = log.with_extension("trace");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-y", "-s", "0", "-o"]).arg(&trace).args(options);
        strace.arg(child.get_program()).args(child.get_args());
        let output = strace.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Self { said, trace: fs::read_to_string(&trace).unwrap() }
    }

    /// The names of the calls, from the first that has to do with the log.
    /// Each with its number among those of its name, by which `strace` counts too. Paths are seen in `openat`.
    fn calls(&self, log: &Path) -> Vec<(usize, &str)> {
        let path = log.to_str().unwrap();
        let lines: Vec<&str> = self.trace.lines().filter(|line| line.contains('(')).collect();
        let begin = lines.iter().position(|line| line.contains(path)).unwrap();
        let mut counts = BTreeMap::new();
        let mut calls = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let (call, _) = line.split_once('(').unwrap_or((line, ""));
            let name = call.rsplit(' ').next().unwrap_or(call);
            let count = counts.entry(name).or_insert(0);
            *count += 1;
            if at >= begin {
                calls.push((*count, name));
            }
        }
        calls
    }
}

/// Whether this machine can do it; says so where not.
fn can_trace() -> bool {
    match Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output() {
        Err(_) => left_out("system calls that kill and fail: strace is missing", true),
        Ok(output) if !output.status.success() => {
            left_out("system calls that kill and fail: this system forbids ptrace", false);
        }
        Ok(_) => return true,
    }
    false
}

#[test]
fn a_kill_before_each_system_call_loses_nothing_that_was_acknowledged() {
    if !can_trace() {
        return;
    }
    let place = folder();
    let log = place.path().join("reference");
    let traced = traced(&CHANGING);
    let reference = Run::new(&log, &["-e", &traced]);
    assert!(reference.said.ends_with("done\n"), "{}", reference.said);
    let calls = reference.calls(&log);
    for call in ["openat", "mkdir", "pwrite64", "fsync", "fdatasync", "fallocate", "ftruncate", "unlink", "rename"] {
        assert!(calls.iter().any(|(_, name)| name.starts_with(call)), "the script makes no {call}");
    }
    for (count, name) in &calls {
        let log = place.path().join("killed");
        let inject = format!("inject={name}:signal=SIGKILL:when={count}");
        let run = Run::new(&log, &["-e", &traced, "-e", &inject]);
        let who = format!("killed before {name} {count}");
        assert!(run.trace.contains("killed by SIGKILL") && !run.said.ends_with("done\n"), "{who}: {}", run.trace);
        let mut witness = Witness::default();
        witness.hear_all(&run.said);
        witness.check(&log, &who);
        fs::remove_dir_all(log).unwrap();
    }
    figure(format_args!("killed before each of {} system calls", calls.len()));
}

/// The names of files are durable by a sync of the directory alone, whatever else is synced.
#[test]
fn a_directory_is_synced_after_files_were_made_in_it_and_before_anything_is_acknowledged() {
    if !can_trace() {
        return;
    }
    let place = folder();
    let log = place.path().join("reference");
    let reference = Run::new(&log, &["-e", "trace=?openat,?fsync,?write"]);
    let directory = format!("<{}>", log.display());
    let mut made = 0;
    for line in reference.trace.lines().filter(|line| line.contains('(')) {
        let is_log = line.contains(log.to_str().unwrap());
        if is_log && line.contains("O_CREAT") && line.contains(".wal") {
            made += 1;
        }
        if line.contains("fsync(") && line.contains(&directory) {
            made = 0;
        }
        // What the writer says goes to its standard output.
        assert!(!line.contains("write(1<") || made == 0, "{made} names are not durable: {line}\n{}", reference.trace);
    }
    assert!(reference.trace.contains("O_CREAT"), "{}", reference.trace);
}

/// Lets each call of these fail once. Nobody has to be told where the call has to do with something harmless.
fn each_fails_once(names: &[&str], errors: &[&str], harmless: &[&str]) {
    if !can_trace() {
        return;
    }
    let place = folder();
    let log = place.path().join("reference");
    let traced = traced(&[names, &["unlink", "unlinkat"]].concat());
    let reference = Run::new(&log, &["-e", &traced]);
    let mut calls = reference.calls(&log);
    calls.retain(|(_, name)| names.contains(name));
    for (count, name) in &calls {
        for error in errors {
            let log = place.path().join("failed");
            let inject = format!("inject={name}:error={error}:when={count}");
            let run = Run::new(&log, &["-e", &traced, "-e", &inject]);
            let who = format!("{error} from {name} {count}");
            let mut lines = run.trace.lines().skip_while(|line| !line.contains("(INJECTED)"));
            let failed = lines.next().unwrap();
            // On a full disk what was made ahead goes first, and the call is made again.
            let made_room = lines.next().is_some_and(|next| next.contains("unlink") && next.contains(SPARE));
            let told = run.said != reference.said || made_room || harmless.iter().any(|what| failed.contains(what));
            assert!(told, "{who}: nobody was told: {failed}");
            assert!(run.said.ends_with("done\n"), "{who}: the log did not go on: {}", run.said);
            let mut witness = Witness::default();
            witness.hear_all(&run.said);
            witness.check(&log, &who);
            fs::remove_dir_all(log).unwrap();
        }
    }
    figure(format_args!("{} system calls ({}) failed with {}", calls.len(), names.join(", "), errors.join(" and ")));
}

#[test]
fn a_sync_that_fails_once_loses_nothing_that_was_acknowledged() {
    each_fails_once(&["fsync", "fdatasync"], &["EIO", "ENOSPC"], &[SPARE]);
}

#[test]
fn a_write_that_fails_once_loses_nothing_that_was_acknowledged() {
    each_fails_once(&["pwrite64"], &["EIO"], &["wal.meta", "LOCK", SPARE]);
    // Without room for its seal, of 41 bytes, a log is closed all the same.
    each_fails_once(&["pwrite64"], &["ENOSPC"], &["wal.meta", "LOCK", SPARE, "\"\"..., 41,"]);
}

#[test]
fn a_read_that_fails_once_is_tried_again() {
    each_fails_once(&["pread64"], &["EIO"], &[""]);
}

#[test]
fn a_name_or_its_room_that_cannot_be_had_loses_nothing_that_was_acknowledged() {
    each_fails_once(
        &["openat", "mkdir", "mkdirat", "fallocate", "ftruncate", "unlink", "unlinkat", "rename", "renameat2"],
        &["EIO", "ENOSPC"],
        &[""],
    );
}

/// How many syncs of segments `strace` counts while so many threads append so often, and what the log says of itself.
fn syncs(threads: &str, times: &str) -> (u64, u64, u64) {
    let place = folder();
    let log = place.path().join("counted");
    let traced = traced(&["fsync", "fdatasync"]);
    let run = Run::of(writer(&log, "immediate", 1, &["together", threads, times]), &log, &["-e", &traced]);
    let said: Vec<u64> = run.said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [appends, groups] = said[..] else { panic!("{}", run.said) };
    let is_sync = |line: &&str| line.contains("sync(") && line.contains("segment_") && !line.contains("resumed");
    let syncs = run.trace.lines().filter(is_sync).count() as u64;
    figure(format_args!("{threads} threads: {appends} appends, {groups} groups, {syncs} syncs of segments"));
    (appends, groups, syncs)
}

#[test]
fn a_thread_alone_syncs_each_append_and_many_sync_each_group() {
    if !can_trace() {
        return;
    }
    let (appends, groups, counted) = syncs("1", "200");
    assert_eq!((appends, groups), (200, 200));
    assert!(counted >= appends, "{counted}");
    let (appends, groups, counted) = syncs("8", "100");
    assert_eq!(appends, 800);
    assert!(counted >= groups && groups > 0, "{counted}");
}

/// Linux makes the next write to a file whose times were asked for take a time of its own, which the file system has to note:
/// the sync behind it takes half as long again.
#[test]
fn no_look_at_a_segment_asks_for_its_times() {
    if !can_trace() {
        return;
    }
    let place = folder();
    let log = place.path().join("reference");
    let trace = Run::new(&log, &["-e", "trace=?statx,?fstat,?newfstatat,?stat,?lstat"]).trace;
    let looks: Vec<&str> = trace.lines().filter(|line| line.contains(".wal")).collect();
    assert!(!looks.is_empty(), "{trace}");
    for look in looks {
        let asks = ["STATX_ALL", "STATX_BASIC_STATS", "STATX_MTIME", "STATX_CTIME"];
        let (asked, _) = look.split_once(", {").unwrap_or((look, ""));
        assert!(asked.contains("statx(") && !asks.iter().any(|times| asked.contains(times)), "{look}");
    }
}

/// From one call on, all of them fail: what was acknowledged before is there once the disk is well again.
#[test]
fn a_disk_that_fails_for_good_takes_nothing_that_was_acknowledged() {
    if !can_trace() {
        return;
    }
    let place = folder();
    let mut runs = 0;
    for (names, error) in [("fsync,fdatasync", "EIO"), ("pwrite64", "EIO"), ("pwrite64,fallocate", "ENOSPC")] {
        let log = place.path().join("reference");
        let traced = traced(&names.split(',').collect::<Vec<_>>());
        let reference = Run::new(&log, &["-e", &traced]);
        let calls = reference.calls(&log);
        let most = calls.iter().filter(|(_, name)| names.contains(name)).map(|(count, _)| *count).max().unwrap();
        fs::remove_dir_all(&log).unwrap();
        for at in 1..=most {
            // Each of the names has its own count.
            let inject = format!("inject={names}:error={error}:when={at}+");
            let run = Run::new(&log, &["-e", &traced, "-e", &inject]);
            let who = format!("{error} from {names} from call {at} of each on");
            let mut witness = Witness::default();
            witness.hear_all(&run.said);
            witness.check(&log, &who);
            fs::remove_dir_all(&log).unwrap();
            runs += 1;
        }
    }
    figure(format_args!("{runs} disks that failed for good"));
}
