//! The program and its system: signals, pipes that nobody reads, media that are full or take no writes.
#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod program;

use std::{
    fs,
    io::{Write, pipe},
    path::Path,
    process::{Command, Output, Stdio},
};

use program::{code, duralog, ok, run};
use serde_json::{Value, json};

fn line(n: usize) -> String {
    format!("{{\"id\":\"00000000-0000-4000-8000-{n:012x}\",\"content\":\"document {n}\",\"embedding\":[1,2,3]}}\n")
}

fn object(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)))
}

fn signal(name: &str, process: u32) {
    let kill = format!("kill -{name} {process}");
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

#[test]
fn a_signal_ends_an_import_whose_acknowledgements_nobody_takes() {
    let place = tempfile::tempdir().unwrap();
    for (name, status) in [("INT", 130), ("TERM", 143)] {
        let dir = place.path().join(name);
        let dir = dir.to_str().unwrap();
        // A pipe that is full already: the first acknowledgement finds no room.
        let (full, mut writer) = pipe().unwrap();
        writer.write_all(&vec![b'x'; 64 << 10]).unwrap();
        let mut child = duralog(&["import", dir, "-", "--ack", "--batch", "2", "--json"])
            .stdin(Stdio::piped())
            .stdout(writer)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all((1..=3).map(line).collect::<String>().as_bytes()).unwrap();
        while !Path::new(dir).join("segment_0000000000000001.wal").exists()
            || run(&["export", dir]).stdout.iter().filter(|byte| **byte == b'\n').count() < 2
        {
            assert!(child.try_wait().unwrap().is_none(), "it waits");
        }
        signal(name, child.id());
        assert_eq!(child.wait().unwrap().code(), Some(status));
        drop((stdin, full));
        let stat = object(&run(&["stat", dir, "--json"]).stdout);
        assert_eq!(stat["closed"], true, "{stat}");
        assert!(stat["current_lsn"].as_u64() >= Some(3), "what was written is there: {stat}");
    }
}

/// Runs a script as the root of a mount namespace of its own, in which `$DIR` is a small file system in memory. `None`
/// where this system allows no such thing.
fn on_a_small_disk(megabytes: u32, script: &str) -> Option<Output> {
    let place = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size={megabytes}m tmpfs \"$DIR\"");
    let unshared = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command.env("DIR", place.path()).env("DURALOG", env!("CARGO_BIN_EXE_duralog")).stdin(Stdio::null());
        command.output()
    };
    if !unshared(&mount).is_ok_and(|output| output.status.success()) {
        println!("left out: this system lets nobody mount a small file system");
        return None;
    }
    Some(unshared(&format!("{mount} && cd \"$DIR\" && {script}")).unwrap())
}

fn lines(output: &Output) -> Vec<&str> {
    str::from_utf8(&output.stdout).unwrap().lines().collect()
}

#[test]
fn a_disk_of_two_megabytes_holds_a_log_and_a_full_one_loses_nothing() {
    let place = tempfile::tempdir().unwrap();
    let input = place.path().join("input");
    fs::write(&input, (1..=40_000).map(line).collect::<String>()).unwrap();
    let import = format!("\"$DURALOG\" import log {} --batch 10 --json", input.display());
    let script = format!(
        "{import}; echo $?; {import} --segment-size 128K; echo $?; \
         \"$DURALOG\" verify log --json; echo $?; \"$DURALOG\" export log | tail -n 1; \
         \"$DURALOG\" state log | wc -l"
    );
    let Some(output) = on_a_small_disk(2, &script) else { return };
    let lines = lines(&output);
    let [refused, status, filled, full, verified, verify, last, documents] = lines[..] else { panic!("{output:?}") };
    // The usual segments do not fit: it says which flag helps.
    let error = &object(refused.as_bytes())["error"];
    assert_eq!((status, &error["kind"]), ("3", &json!("no_space")), "{error}");
    assert!(error["message"].as_str().unwrap().contains("--segment-size"), "{error}");
    let filled = object(filled.as_bytes());
    assert_eq!((full, &filled["error"]["kind"]), ("3", &json!("no_space")), "{filled}");
    let durable = filled["durable_lsn"].as_u64().unwrap();
    assert!(durable > 1000, "{filled}");
    let report = object(verified.as_bytes());
    assert_eq!((verify, &report["success"]), ("0", &json!(true)), "{report}");
    assert!(report["last_valid_lsn"].as_u64() >= Some(durable), "{report}");
    assert_eq!(object(last.as_bytes())["lsn"], report["last_valid_lsn"]);
    assert_eq!(documents.trim().parse(), Ok(report["last_valid_lsn"].as_u64().unwrap()));
}

#[test]
fn a_log_on_a_medium_that_takes_no_writes_can_be_read() {
    let place = tempfile::tempdir().unwrap();
    let input = place.path().join("input");
    fs::write(&input, (1..=20).map(line).collect::<String>()).unwrap();
    let script = format!(
        "\"$DURALOG\" import log {0} --segment-size 128K >&2 && mount -o remount,ro \"$DIR\" && \
         for command in verify stat 'recover --dry-run' import recover checkpoint 'truncate --before 5'; do \
         case \"$command\" in import) arguments={0};; *) arguments=;; esac; \
         \"$DURALOG\" $command log $arguments --json; echo $?; done; \"$DURALOG\" export log | wc -l",
        input.display()
    );
    let Some(output) = on_a_small_disk(4, &script) else { return };
    let lines = lines(&output);
    assert_eq!(lines.len(), 15, "{output:?}");
    for (answer, reads) in lines.chunks(2).zip([true, true, true, false, false, false, false]) {
        let error = &object(answer[0].as_bytes())["error"];
        if reads {
            assert_eq!((answer[1], error), ("0", &Value::Null));
        } else {
            assert_eq!((answer[1], &error["kind"]), ("3", &json!("device")), "{error}");
            assert!(error["path"].as_str().unwrap().starts_with("log"), "{error}");
        }
    }
    assert_eq!(lines[14].trim(), "20");
}

#[test]
fn a_full_standard_output_is_an_error_of_a_device() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("log");
    let dir = dir.to_str().unwrap();
    let input = place.path().join("input");
    fs::write(&input, line(1)).unwrap();
    ok(&["import", dir, input.to_str().unwrap()]);
    for arguments in [
        &["export", dir][..],
        &["state", dir],
        &["verify", dir],
        &["stat", dir, "--json"],
        &["recover", dir],
        &["checkpoint", dir],
        &["truncate", dir, "--before", "1"],
        &["import", dir, input.to_str().unwrap(), "--ack"],
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = duralog(arguments).stdout(full).output().unwrap();
        assert_eq!(code(&output), 3, "{arguments:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("cannot write to standard output"), "{told}");
    }
    let stat = object(&run(&["stat", dir, "--json"]).stdout);
    assert_eq!(stat["closed"], true, "each closed its log all the same");
}

#[test]
fn a_log_on_a_medium_that_takes_no_writes_can_be_packed_unless_it_has_a_writer() {
    let place = tempfile::tempdir().unwrap();
    let input = place.path().join("input");
    fs::write(&input, (1..=20).map(line).collect::<String>()).unwrap();
    let out = place.path().join("out");
    fs::create_dir(&out).unwrap();
    // The log, seen by a second mount that takes no writes; then with a writer that waits for more of its input.
    let script = format!(
        "mkdir real seen && \"$DURALOG\" import real/log {input} --segment-size 128K >&2 && mount --bind real seen && \
         mount -o remount,bind,ro seen && \"$DURALOG\" pack seen/log {out}/a.tar --json; echo $?; mkfifo gate; \
         {{ head -n 1 {input}; cat gate; }} | \"$DURALOG\" import real/log - --batch 1 --ack | \
         {{ read ack; \"$DURALOG\" pack seen/log {out}/b.tar --json; echo $?; echo >gate; }}",
        input = input.display(),
        out = out.display()
    );
    let Some(output) = on_a_small_disk(4, &script) else { return };
    let lines = lines(&output);
    let [packed, status, refused, locked] = lines[..] else { panic!("{output:?}") };
    assert_eq!((status, &object(packed.as_bytes())["error"]), ("0", &Value::Null));
    assert_eq!((locked, &object(refused.as_bytes())["error"]["kind"]), ("1", &Value::from("locked")));
    let names: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["a.tar"], "nothing unfinished is left");
    let copy = place.path().join("copy");
    ok(&["unpack", out.join("a.tar").to_str().unwrap(), copy.to_str().unwrap()]);
    assert_eq!(ok(&["export", copy.to_str().unwrap()]).lines().count(), 20);
}

#[test]
fn an_archive_that_finds_no_room_is_taken_away_again() {
    let place = tempfile::tempdir().unwrap();
    let input = place.path().join("input");
    fs::write(&input, (1..=20).map(line).collect::<String>()).unwrap();
    let log = place.path().join("log");
    ok(&["import", log.to_str().unwrap(), input.to_str().unwrap(), "--batch", "1"]);
    let large = place.path().join("large");
    fs::write(&large, (1..=20_000).map(line).collect::<String>()).unwrap();
    ok(&["import", log.to_str().unwrap(), large.to_str().unwrap()]);
    let script = format!("\"$DURALOG\" pack {} log.tar --json; echo $?; ls -A | wc -l", log.display());
    let Some(output) = on_a_small_disk(1, &script) else { return };
    let lines = lines(&output);
    let [refused, status, files] = lines[..] else { panic!("{output:?}") };
    let error = &object(refused.as_bytes())["error"];
    assert_eq!(
        (status, &error["kind"], &error["path"]),
        ("3", &Value::from("system"), &Value::from("log.tar")),
        "{error}"
    );
    assert_eq!(files.trim(), "0", "what was written of it fills the disk no longer");
}

#[test]
fn a_limit_on_the_size_of_files_is_told_as_a_full_disk_is_and_by_its_name() {
    let place = tempfile::tempdir().unwrap();
    let (dir, input) = (place.path().join("log"), place.path().join("lines"));
    fs::write(&input, line(1)).unwrap();
    // Of 512 or 1024 bytes, as the shell counts: less than a segment.
    let limited = r#"ulimit -f 100; exec "$0" "$@""#;
    let program = env!("CARGO_BIN_EXE_duralog");
    let output = Command::new("sh")
        .args(["-c", limited, program, "import", dir.to_str().unwrap(), input.to_str().unwrap(), "--json"])
        .output()
        .unwrap();
    assert_eq!(code(&output), 3, "{output:?}");
    let error = &object(&output.stdout)["error"];
    assert_eq!(error["kind"], "no_space", "{output:?}");
    assert!(error["message"].as_str().unwrap().contains("raise that limit"), "{error}");
}
