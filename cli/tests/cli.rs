//! The program as its users know it: what `README.md` says of flags, lines, JSON and exit statuses.
#![allow(missing_docs)]

mod program;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use duralog::{Config, Log, Operation, SyncMode};
use program::{code, duralog, ok, run};
use serde_json::{Value, json};

const README: &str = include_str!("../README.md");
const COMMANDS: [&str; 11] =
    ["demo", "import", "export", "state", "verify", "stat", "recover", "checkpoint", "truncate", "pack", "unpack"];

#[track_caller]
fn object(output: &Output) -> Value {
    let text = str::from_utf8(&output.stdout).unwrap();
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

/// Starts an import that reads what is written to it.
fn start(arguments: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut child =
        duralog(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdout)
}

fn feed(arguments: &[&str], input: &str) -> Output {
    let (mut child, mut stdout) = start(arguments);
    // A program that refuses its input may be gone before it has read it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let mut printed = Vec::new();
    stdout.read_to_end(&mut printed).unwrap();
    Output { status: child.wait().unwrap(), stdout: printed, stderr: Vec::new() }
}

fn id(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012x}")
}

fn line(n: usize) -> String {
    format!("{}\n", json!({"id": id(n), "content": format!("document {n}."), "embedding": [n, 0.5]}))
}

fn lines(numbers: impl IntoIterator<Item = usize>) -> String {
    numbers.into_iter().map(line).collect()
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A folder with a log of so many documents.
    fn log(&self, documents: usize, batch: &str) -> String {
        let dir = self.path("log");
        let output = feed(&["import", &dir, "-", "--batch", batch], &lines(1..=documents));
        assert_eq!(code(&output), 0);
        dir
    }
}

fn segment(dir: &str) -> PathBuf {
    Path::new(dir).join("segment_0000000000000001.wal")
}

fn exported(dir: &str) -> Vec<Value> {
    ok(&["export", dir]).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn exported_ids(dir: &str) -> Vec<String> {
    exported(dir).iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect()
}

fn contents(dir: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        // Whoever tried to write leaves its number in the file that it locked.
        .filter(|(name, _)| name != "LOCK")
        .collect();
    files.sort();
    files
}

/// The words that begin with two dashes.
fn flags(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_lowercase() && c != '-')
        .filter(|word| word.starts_with("--") && word.len() > 2 && !word.starts_with("---"))
        .map(|word| word.trim_end_matches('-').to_owned())
        .collect()
}

#[test]
fn the_readme_names_every_command_and_every_flag_and_no_other() {
    let help = ok(&["--help"]);
    let listed: BTreeSet<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert_eq!(listed, BTreeSet::from(COMMANDS));
    let everywhere = BTreeSet::from(["--help".to_owned(), "--json".to_owned()]);
    let mut in_help = flags(&help);
    for command in COMMANDS {
        assert!(README.contains(&format!("| `{command}")), "{command}");
        let help = flags(&ok(&[command, "--help"]));
        assert!(everywhere.is_subset(&help), "{command}");
        // The row of a flag names the commands that take it.
        for flag in help.difference(&everywhere) {
            let row = README.lines().find(|row| row.starts_with("| `--") && row.contains(flag.as_str()));
            let of = row.and_then(|row| row.split(" | ").nth(1)).unwrap_or_default();
            assert!(of.contains(&format!("`{command}`")), "{flag} of {command}: {row:?}");
        }
        in_help.extend(help);
    }
    assert_eq!(flags(README), in_help);
}

#[test]
fn the_readme_names_every_field_of_the_objects() {
    let place = Place::new();
    let dir = place.log(3, "7");
    for arguments in [
        &["verify", &dir, "--json"][..],
        &["recover", &dir, "--json"],
        &["stat", &dir, "--json"],
        &["checkpoint", &dir, "--json"],
        &["truncate", &dir, "--before", "2", "--json"],
        &["import", &dir, "-", "--json"],
        &["pack", &dir, &place.path("log.tar"), "--json"],
        &["unpack", &place.path("log.tar"), &place.path("copy"), "--json"],
        &["demo", "--json"],
    ] {
        let object = object(&run(arguments));
        assert_eq!(object["error"], Value::Null, "{arguments:?}");
        let segments = object["segments"].as_array().into_iter().flatten();
        for object in segments.chain([&object]) {
            for field in object.as_object().unwrap().keys() {
                assert!(README.contains(&format!("`{field}`")), "{field} of {arguments:?}");
            }
        }
    }
}

#[test]
fn what_was_imported_is_in_state_and_export_bit_for_bit() {
    let place = Place::new();
    let dir = place.path("log");
    let special = r#"0.1,-0.0,1e-45,3.4028235e38,"NaN","Infinity","-Infinity","0x7fc00001","0xffc00000""#;
    let text = serde_json::to_string("grün \" \\ \u{0} \u{2028} 😀\n").unwrap();
    let input = format!(
        "{{\"id\":\"{}\",\"content\":{text},\"embedding\":[{special},16777217]}}\n\
         {{\"id\":\"{}\",\"kind\":\"chunk\",\"content\":\"\",\"embedding\":[]}}\n\
         {{\"op\":\"update\",\"id\":\"{}\",\"content\":\"new\",\"embedding\":[1]}}\n\
         {{\"op\":\"delete\",\"id\":\"{}\"}}\n\
         {{\"op\":\"opaque\",\"bytes\":\"AP8=\"}}",
        id(2),
        id(1),
        id(3),
        id(4)
    );
    assert_eq!(code(&feed(&["import", &dir, "-"], &input)), 0);
    let state = format!(
        "{{\"id\":\"{}\",\"kind\":\"chunk\",\"content\":\"\",\"embedding\":[]}}\n\
         {{\"id\":\"{}\",\"content\":{text},\"embedding\":[{special},16777216.0]}}\n\
         {{\"id\":\"{}\",\"content\":\"new\",\"embedding\":[1.0]}}\n",
        id(1),
        id(2),
        id(3)
    );
    assert_eq!(ok(&["state", &dir]), state);

    let entries = exported(&dir);
    let ops: Vec<_> = entries.iter().map(|entry| entry["op"].as_str().unwrap()).collect();
    assert_eq!(ops, ["insert", "insert", "update", "delete", "opaque"]);
    assert!(entries.iter().zip(1..).all(|(entry, lsn)| entry["lsn"] == lsn && entry["timestamp_us"].is_u64()));

    let copy = place.path("copy");
    assert_eq!(code(&feed(&["import", &copy, "-"], &ok(&["export", &dir]))), 0);
    assert_eq!(ok(&["state", &copy]), state);
    let without_time = |dir: &str| {
        let mut entries = exported(dir);
        entries.iter_mut().for_each(|entry| entry["timestamp_us"] = Value::Null);
        entries
    };
    assert_eq!(without_time(&copy), without_time(&dir));
    let again = place.path("again");
    assert_eq!(code(&feed(&["import", &again, "-"], &state)), 0);
    assert_eq!(ok(&["state", &again]), state);
}

#[test]
fn a_line_is_an_entry_whatever_the_batch() {
    let place = Place::new();
    let file = place.path("input");
    fs::write(&file, lines(1..=250)).unwrap();
    for batch in ["1", "7", "100", "2000"] {
        let dir = place.path(batch);
        let acks = ok(&["import", &dir, &file, "--batch", batch, "--ack"]);
        let size: usize = batch.parse().unwrap();
        let ends = (1..=250).filter(|n| n % size == 0 || *n == 250);
        assert_eq!(acks, ends.map(|n| format!("durable {n}\n")).collect::<String>(), "--batch {batch}");
        let entries = exported(&dir);
        assert_eq!(entries.len(), 250);
        for (entry, n) in entries.iter().zip(1..) {
            assert_eq!((&entry["lsn"], &entry["id"]), (&json!(n), &json!(id(n))));
        }
    }
}

#[test]
fn every_sync_mode_ends_with_all_of_it_durable() {
    let place = Place::new();
    for mode in ["immediate", "batched", "batched:1", "batched:60000", "async"] {
        let dir = place.path(&mode.replace(':', "_"));
        let output = feed(&["import", &dir, "-", "--sync", mode, "--ack"], &lines(1..=150));
        assert_eq!(code(&output), 0);
        let acks = str::from_utf8(&output.stdout).unwrap().lines();
        let acks: Vec<u64> = acks.map(|line| line.strip_prefix("durable ").unwrap().parse().unwrap()).collect();
        assert!(acks.is_sorted() && acks.last() == Some(&150), "{mode}: {acks:?}");
        let stat = object(&run(&["stat", &dir, "--json"]));
        assert_eq!((&stat["synced_lsn"], &stat["closed"]), (&json!(150), &json!(true)), "{mode}");
    }
}

#[test]
fn an_acknowledgement_comes_while_the_input_is_still_open() {
    let place = Place::new();
    for mode in ["immediate", "batched:1"] {
        let dir = place.path(&mode.replace(':', "_"));
        let (mut child, mut stdout) = start(&["import", &dir, "-", "--batch", "2", "--sync", mode, "--ack"]);
        let mut stdin = child.stdin.take().unwrap();
        for round in 1..=3 {
            stdin.write_all(lines(round * 2 - 1..=round * 2).as_bytes()).unwrap();
            let mut ack = String::new();
            stdout.read_line(&mut ack).unwrap();
            assert_eq!(ack, format!("durable {}\n", round * 2), "{mode}");
            assert_eq!(exported(&dir).len(), round * 2, "{mode}: what was acknowledged is there");
        }
        drop(stdin);
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_process_that_is_killed_loses_nothing_that_it_acknowledged() {
    let place = Place::new();
    let dir = place.path("log");
    let (mut child, mut stdout) = start(&["import", &dir, "-", "--batch", "3", "--ack"]);
    let mut stdin = child.stdin.take().unwrap();
    // Two batches and a part of the third.
    stdin.write_all(lines(1..=8).as_bytes()).unwrap();
    let mut acks = String::new();
    while !acks.ends_with("durable 6\n") {
        assert_ne!(stdout.read_line(&mut acks).unwrap(), 0, "{acks}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(exported_ids(&dir), (1..=6).map(id).collect::<Vec<_>>());
    let report = object(&run(&["recover", &dir, "--expect-durable", "6", "--json"]));
    assert_eq!((&report["success"], &report["last_valid_lsn"]), (&json!(true), &json!(6)));
    assert_eq!(code(&feed(&["import", &dir, "-"], &lines(7..=8))), 0);
    assert_eq!(exported_ids(&dir), (1..=8).map(id).collect::<Vec<_>>());
}

#[test]
fn a_bad_line_is_named_and_its_batch_not_written() {
    let place = Place::new();
    let file = place.path("input");
    let bad = format!("{{\"id\":\"{}\",\"content\":\"\",\"embedding\":[1,null]}}\n", id(5));
    let column = bad.find("null").unwrap() + 1;
    fs::write(&file, [lines(1..=4), bad, lines(6..=9)].concat()).unwrap();
    for (batch, kept) in [("1", 4), ("2", 4), ("3", 3), ("100", 0)] {
        let dir = place.path(batch);
        let output = run(&["import", &dir, &file, "--batch", batch, "--json"]);
        assert_eq!(code(&output), 2);
        let imported = object(&output);
        let error = &imported["error"];
        assert_eq!((&error["kind"], &error["path"]), (&json!("bad_line"), &json!(file)));
        assert_eq!((&error["line"], &error["column"]), (&json!(5), &json!(column)));
        assert_eq!(imported["entries"], kept);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(&format!("line 5, column {column}: null is no number")), "{told}");
        assert_eq!(exported_ids(&dir), (1..=kept).map(id).collect::<Vec<_>>(), "--batch {batch}");
        assert_eq!(object(&run(&["stat", &dir, "--json"]))["closed"], true);
    }
}

#[test]
fn a_folder_is_made_by_import_alone() {
    let place = Place::new();
    let missing = place.path("missing");
    for arguments in [
        &["export", &missing][..],
        &["state", &missing],
        &["verify", &missing],
        &["stat", &missing],
        &["recover", &missing],
        &["recover", &missing, "--dry-run"],
        &["checkpoint", &missing],
        &["truncate", &missing, "--before", "5"],
        &["import", &missing, &place.path("no such input")],
    ] {
        let output = run(&[arguments, &["--json"]].concat());
        assert_eq!(code(&output), 2, "{arguments:?}");
        let error = &object(&output)["error"];
        assert!(error["message"].is_string() && error["kind"].is_string() && error["path"].is_string(), "{error}");
        assert!(!Path::new(&missing).exists(), "{arguments:?}");
    }
    assert_eq!(code(&feed(&["import", &missing, "-"], "")), 0);
    assert_eq!(ok(&["export", &missing]), "");
}

#[test]
fn a_folder_with_other_things_is_not_touched() {
    let place = Place::new();
    let dir = place.path("photographs");
    fs::create_dir(&dir).unwrap();
    fs::write(Path::new(&dir).join("cat.jpg"), "a cat").unwrap();
    let file = place.path("input");
    fs::write(&file, lines(1..=3)).unwrap();
    for arguments in [
        &["export", &dir][..],
        &["state", &dir],
        &["verify", &dir],
        &["stat", &dir],
        &["recover", &dir],
        &["checkpoint", &dir],
        &["truncate", &dir, "--before", "5"],
        &["import", &dir, &file],
        &["demo", "--keep", &dir],
        &["verify", &file],
        &["import", &file, &file],
    ] {
        assert_eq!(code(&run(arguments)), 2, "{arguments:?}");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "{arguments:?}");
    }
    assert_eq!(contents(&dir), [("cat.jpg".to_owned(), b"a cat".to_vec())]);
    assert_eq!(fs::read_to_string(&file).unwrap(), lines(1..=3));
}

#[test]
fn usage_that_makes_no_sense_is_an_error_also_as_json() {
    for arguments in [
        &["import"][..],
        &["truncate", "log"],
        &["import", "log", "-", "--batch", "0"],
        &["import", "log", "-", "--sync", "now"],
        &["export", "log", "--from", "-1"],
        &["recover", "log", "--policy", "hope"],
        &["frobnicate"],
    ] {
        assert_eq!(code(&run(arguments)), 2, "{arguments:?}");
        let output = run(&[arguments, &["--json"]].concat());
        assert_eq!((code(&output), &object(&output)["error"]["kind"]), (2, &json!("usage")), "{arguments:?}");
    }
    let output = run(&["truncate", "log", "--json"]);
    let message = object(&output)["error"]["message"].to_string();
    assert!(message.contains("--before <LSN>"), "it names what is missing: {message}");
    let output = run(&["import", "--json"]);
    let message = object(&output)["error"]["message"].to_string();
    assert!(message.contains("<DIR>") && message.contains("<FILE>") && !message.contains("Usage"), "{message}");
}

#[test]
fn readers_change_no_byte() {
    let place = Place::new();
    let dir = place.log(20, "7");
    let before = contents(&dir);
    for command in ["export", "state", "verify", "stat"] {
        ok(&[command, &dir]);
    }
    ok(&["recover", &dir, "--dry-run"]);
    assert_eq!(contents(&dir), before);
}

#[test]
fn a_second_writer_is_refused_and_readers_are_not() {
    let place = Place::new();
    let dir = place.path("log");
    let (mut child, mut stdout) = start(&["import", &dir, "-", "--batch", "2", "--ack"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines(1..=2).as_bytes()).unwrap();
    stdout.read_line(&mut String::new()).unwrap();
    for arguments in
        [&["import", &dir, "-"][..], &["recover", &dir], &["checkpoint", &dir], &["truncate", &dir, "--before", "2"]]
    {
        let output = run(&[arguments, &["--json"]].concat());
        assert_eq!((code(&output), &object(&output)["error"]["kind"]), (1, &json!("locked")), "{arguments:?}");
    }
    for command in ["export", "state", "verify", "stat"] {
        ok(&[command, &dir]);
    }
    stdin.write_all(line(3).as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(exported(&dir).len(), 3);
}

#[test]
fn export_gives_the_lsns_that_were_asked_for() {
    let place = Place::new();
    let dir = place.log(20, "7");
    let lsns = |from: &str, to: &str| -> Vec<u64> {
        let lines = ok(&["export", &dir, "--from", from, "--to", to]);
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["lsn"].as_u64().unwrap()).collect()
    };
    assert_eq!(lsns("3", "5"), [3, 4, 5]);
    assert_eq!(lsns("0", "1"), [1]);
    assert_eq!(lsns("20", "99"), [20]);
    assert_eq!(lsns("21", "99"), [0; 0]);
    assert_eq!(lsns("5", "3"), [0; 0]);
}

#[test]
fn a_torn_tail_is_no_fault_but_for_the_strict() {
    let place = Place::new();
    let dir = place.log(20, "7");
    // As a crash leaves it: no seal, no metadata, and the last batch, 15 to 20, half written.
    let path = segment(&dir);
    let bytes = fs::read(&path).unwrap();
    let last = bytes.windows(12).rposition(|bytes| bytes == b"document 20.").unwrap();
    fs::write(&path, &bytes[..last + 5]).unwrap();
    fs::remove_file(Path::new(&dir).join("wal.meta")).unwrap();

    let report = object(&run(&["verify", &dir, "--json"]));
    assert_eq!((&report["success"], &report["clean"]), (&json!(true), &json!(false)));
    assert_eq!((&report["writable"], &report["error"]), (&json!(true), &Value::Null));
    assert_eq!((&report["last_valid_lsn"], &report["verified"]), (&json!(14), &json!({"from": 1, "to": 14})));
    let torn = &report["torn_tail"];
    assert_eq!(torn["segment"], 1);
    assert!(torn["offset"].is_u64() && torn["len"].as_u64() > Some(0) && torn["verdict"].is_string(), "{torn}");
    let text = ok(&["verify", &dir]);
    assert!(text.contains("torn tail") && text.contains('≈'), "{text}");
    assert_eq!(ok(&["export", &dir]).lines().count(), 14);

    let before = contents(&dir);
    for arguments in [
        &["recover", &dir, "--policy", "strict", "--json"][..],
        &["recover", &dir, "--policy", "strict", "--dry-run", "--json"],
        &["export", &dir, "--policy", "strict", "--json"],
        &["state", &dir, "--policy", "strict", "--json"],
        &["verify", &dir, "--expect-durable", "20", "--json"],
        &["recover", &dir, "--expect-durable", "20", "--json"],
    ] {
        let output = run(arguments);
        assert_eq!(code(&output), 1, "{arguments:?}");
        assert!(object(&output)["error"].is_object(), "{arguments:?}");
    }
    assert_eq!(code(&run(&["recover", &dir, "--dry-run"])), 0);
    assert_eq!(contents(&dir), before);

    let report = object(&run(&["recover", &dir, "--json"]));
    assert_eq!((&report["success"], &report["last_valid_lsn"]), (&json!(true), &json!(14)));
    assert!(report["torn_tail"].is_object());
    assert_eq!(code(&feed(&["import", &dir, "-"], &lines(15..=16))), 0);
    let report = object(&run(&["verify", &dir, "--json"]));
    assert_eq!((&report["clean"], &report["last_valid_lsn"]), (&json!(true), &json!(16)));
    for (expected, says) in [("16", "closed cleanly"), ("20", "it ends before what was expected")] {
        let output = run(&["verify", &dir, "--expect-durable", expected]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(says) && !text.contains("not closed"), "{expected}: {text}");
    }
}

/// Flips a bit in the entry of document `n`.
fn damage(dir: &str, n: usize) {
    let path = segment(dir);
    let mut bytes = fs::read(&path).unwrap();
    let text = format!("document {n}.");
    let at = bytes.windows(text.len()).position(|bytes| bytes == text.as_bytes()).unwrap();
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
}

#[test]
fn a_flipped_byte_is_found_and_named() {
    let place = Place::new();
    let dir = place.log(20, "1");
    damage(&dir, 12);
    let before = contents(&dir);
    let output = run(&["verify", &dir, "--json"]);
    assert_eq!(code(&output), 1);
    let report = object(&output);
    for field in ["success", "clean", "writable"] {
        assert_eq!(report[field], false, "{field}");
    }
    let damage = &report["damage"][0];
    assert_eq!((&damage["first_lsn"], &damage["last_lsn"]), (&json!(12), &json!(12)));
    assert_eq!((&damage["segment"], &damage["verdict"]), (&json!(1), &json!("rot")));
    assert!(damage["witness"].is_string() && damage["offset"].is_u64(), "{damage}");
    assert_eq!((&report["error"]["lsn"], &report["error"]["kind"]), (&json!(12), &json!("damaged")));
    assert_eq!(report["errors"][0]["lsn"], 12);
    let text = String::from_utf8(run(&["verify", &dir]).stdout).unwrap();
    assert!(text.contains("LSN(12)") && text.contains('×'), "{text}");
    assert!(!text.contains('\u{1b}'), "no colour into a pipe");

    // What stands before it is handed out, and the rest where the policy says so.
    for (policy, count) in [("default", 11), ("point-in-time", 11), ("salvage", 19)] {
        let export = run(&["export", &dir, "--policy", policy]);
        assert_eq!((code(&export), str::from_utf8(&export.stdout).unwrap().lines().count()), (1, count), "{policy}");
    }
    for arguments in [&["recover", &dir][..], &["import", &dir, "-"], &["checkpoint", &dir], &["state", &dir]] {
        assert_eq!(code(&run(arguments)), 1, "{arguments:?}");
    }
    assert_eq!(contents(&dir), before);
}

#[test]
fn damage_by_which_no_entry_is_missing_is_not_told_as_a_loss() {
    let place = Place::new();
    let dir = place.path("log");
    let import = ["import", &dir, "-", "--batch", "10", "--segment-size", "16K"];
    assert_eq!(code(&feed(&import, &lines(1..=500))), 0);
    // Both copies of an older segment's header.
    let mut bytes = fs::read(segment(&dir)).unwrap();
    for at in [0, 4096] {
        bytes[at..at + 128].fill(0);
    }
    fs::write(segment(&dir), bytes).unwrap();
    let before = contents(&dir);
    let output = run(&["verify", &dir, "--json"]);
    let report = object(&output);
    assert_eq!((code(&output), &report["success"], &report["writable"]), (1, &json!(false), &json!(false)));
    assert_eq!((&report["entries_recovered"], &report["entries_skipped"]), (&json!(500), &json!(0)));
    let export = run(&["export", &dir]);
    assert_eq!(str::from_utf8(&export.stdout).unwrap().lines().count(), 500, "all of them can be read");
    for arguments in [&["verify", &dir][..], &["recover", &dir], &["recover", &dir, "--dry-run"]] {
        let output = run(arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("damage") && text.contains("no entry is missing so far"), "{arguments:?}: {text}");
        assert!(!text.contains("gone"), "{arguments:?}: {text}");
    }
    assert_eq!(contents(&dir), before);

    // Where entries are missing besides, that is what counts.
    damage(&dir, 5);
    let text = String::from_utf8(run(&["verify", &dir]).stdout).unwrap();
    assert!(text.contains("entries that were durable are gone"), "{text}");
}

#[test]
fn the_whole_batch_that_damage_takes_is_named_by_every_command() {
    let place = Place::new();
    let dir = place.log(30, "10");
    // Neither its first nor its last.
    damage(&dir, 25);
    for arguments in [&["verify", &dir][..], &["recover", &dir, "--dry-run"], &["recover", &dir]] {
        let report = object(&run(&[arguments, &["--json"]].concat()));
        let damage = &report["damage"][0];
        assert_eq!((&damage["first_lsn"], &damage["last_lsn"]), (&json!(21), &json!(30)), "{arguments:?}");
        assert_eq!((&report["entries_recovered"], &report["entries_skipped"]), (&json!(20), &json!(10)));
    }
    for arguments in [&["export", &dir][..], &["import", &dir, "-"]] {
        let output = run(arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("LSN(21) to LSN(30)"), "{arguments:?}: {told}");
    }
}

#[test]
fn what_is_verified_leaves_out_what_is_gone_and_what_was_given_up() {
    let place = Place::new();
    let dir = place.log(20, "1");
    damage(&dir, 5);
    damage(&dir, 12);
    let report = object(&run(&["verify", &dir, "--json"]));
    let ranges = [(1, 4), (6, 11), (13, 20)].map(|(from, to)| json!({"from": from, "to": to}));
    assert_eq!(report["verified_ranges"], json!(ranges));
    assert_eq!((&report["verified"], &report["entries_recovered"]), (&ranges[0], &json!(18)));
    let text = String::from_utf8(run(&["verify", &dir]).stdout).unwrap();
    assert!(text.contains("LSN 1 to 4, LSN 6 to 11, LSN 13 to 20"), "{text}");

    // A batch is kept whole across the low-water mark: what is below that is no part of the log.
    let place = Place::new();
    let dir = place.log(20, "7");
    ok(&["checkpoint", &dir]);
    ok(&["truncate", &dir, "--before", "10"]);
    let report = object(&run(&["verify", &dir, "--json"]));
    assert_eq!((&report["low_water_lsn"], &report["verified"]), (&json!(10), &json!({"from": 10, "to": 21})));
    assert_eq!(report["verified_ranges"], json!([{"from": 10, "to": 21}]));
}

#[test]
fn what_a_checkpoint_leaves_to_be_applied_is_counted() {
    let place = Place::new();
    let dir = place.log(20, "7");
    let counts = |command: &[&str]| {
        let report = object(&run(&[command, &[&dir, "--json"]].concat()));
        (report["checkpoint_used"]["lsn"].as_u64(), report["entries_replayed"].as_u64().unwrap())
    };
    assert_eq!((counts(&["verify"]), counts(&["recover"])), ((None, 20), (None, 20)));
    ok(&["checkpoint", &dir]);
    assert_eq!(code(&feed(&["import", &dir, "-"], &lines(21..=25))), 0);
    // The checkpoint's own entry, which stands behind it, changes nothing and is not applied.
    for command in [&["verify"][..], &["recover", "--dry-run"], &["recover"]] {
        assert_eq!(counts(command), (Some(20), 5), "{command:?}");
    }
    let text = ok(&["verify", &dir]);
    assert!(text.contains("checkpoint 1 at LSN 20, 5 entries behind it"), "{text}");
}

fn checkpoints(dir: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "ckpt")).collect();
    paths.sort();
    paths
}

/// What is said of the newest checkpoint by the commands that read.
fn newest_checkpoint(dir: &str) -> [Option<u64>; 2] {
    let verify = object(&run(&["verify", dir, "--json"]));
    let stat = object(&run(&["stat", dir, "--json"]));
    [verify["checkpoint_used"]["lsn"].as_u64(), stat["last_checkpoint_lsn"].as_u64()]
}

#[test]
fn a_bad_checkpoint_is_passed_over_and_another_is_written() {
    type Spoil = fn(Vec<u8>) -> Vec<u8>;
    let torn: Spoil = |bytes| bytes[..bytes.len() / 2].to_vec();
    let flipped: Spoil = |mut bytes| {
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    let empty: Spoil = |_| Vec::new();
    for spoil in [torn, flipped, empty] {
        let place = Place::new();
        let dir = place.log(20, "7");
        ok(&["checkpoint", &dir]);
        assert_eq!(code(&feed(&["import", &dir, "-"], &lines(21..=25))), 0);
        ok(&["checkpoint", &dir]);
        let state = ok(&["state", &dir]);
        let newest = checkpoints(&dir).pop().unwrap();
        fs::write(&newest, spoil(fs::read(&newest).unwrap())).unwrap();
        assert_eq!(newest_checkpoint(&dir), [Some(20); 2], "what the log goes on from, not what was begun");
        let written = object(&run(&["checkpoint", &dir, "--json"]));
        assert_eq!(written["error"], Value::Null);
        assert_eq!((&written["checkpoint"]["id"], &written["documents"]), (&json!(3), &json!(25)));
        assert_eq!(newest_checkpoint(&dir), [written["checkpoint"]["lsn"].as_u64(); 2]);
        assert_eq!(ok(&["state", &dir]), state);
        let truncated = object(&run(&["truncate", &dir, "--before", "15", "--json"]));
        assert_eq!(truncated["low_water_lsn"], 15);
        assert_eq!(ok(&["state", &dir]), state);
    }
}

#[test]
fn a_checkpoint_of_another_program_is_named_and_none_written_beside_it() {
    let place = Place::new();
    let dir = place.log(5, "7");
    let log = Log::open(Config::new(&dir)).unwrap();
    let snapshot = duralog::Snapshot { bytes: b"\x09what I keep".to_vec(), ..duralog::Snapshot::default() };
    log.checkpoint(log.checkpoint_at(), &snapshot).unwrap();
    log.close().unwrap();
    drop(log);
    let before = checkpoints(&dir);
    let output = run(&["checkpoint", &dir, "--json"]);
    let error = &object(&output)["error"];
    assert_eq!((code(&output), &error["kind"]), (1, &json!("refused")));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("CKPT(1) is whole and holds no documents"), "{message}");
    assert_eq!(checkpoints(&dir), before);
}

#[test]
fn of_a_tail_that_nothing_proves_it_is_not_said_that_nothing_is_lost() {
    let place = Place::new();
    let dir = place.path("log");
    // Acknowledged, and neither closed nor idle for so long that a mark tells of it.
    let log = Log::open(Config::new(&dir).with_sync_mode(SyncMode::Immediate).with_idle_mark(None)).unwrap();
    for n in 1..=5_u8 {
        log.append(Operation::insert(uuid::Uuid::from_u128(n.into()), format!("document {n}."), [1.0])).unwrap();
    }
    drop(log);
    damage(&dir, 5);
    for command in [&["verify"][..], &["recover", "--dry-run"], &["recover"]] {
        let text = ok(&[command, &[&dir]].concat());
        assert!(!text.contains("nothing acknowledged is lost") && !text.contains("was acknowledged"), "{text}");
        assert!(text.contains("may have been acknowledged"), "{text}");
    }
}

#[test]
fn damage_that_a_checkpoint_holds_is_no_loss_under_any_policy() {
    for policy in ["default", "point-in-time", "salvage"] {
        let place = Place::new();
        let dir = place.log(20, "1");
        ok(&["checkpoint", &dir]);
        damage(&dir, 12);
        for more in [&["--dry-run"][..], &[], &[]] {
            let output = run(&[&["recover", &dir, "--policy", policy, "--json"], more].concat());
            let report = object(&output);
            assert_eq!((code(&output), &report["success"]), (0, &json!(true)), "{policy} {more:?}: {report}");
            assert_eq!((&report["writable"], &report["entries_skipped"]), (&json!(true), &json!(1)), "{policy}");
        }
        // It is there all the same, and `verify` names it, unless it was given up.
        let output = run(&["verify", &dir, "--json"]);
        let report = object(&output);
        let named = if policy == "salvage" { (0, Value::Null) } else { (1, json!(12)) };
        assert_eq!((code(&output), report["error"]["lsn"].clone()), named, "{policy}: {report}");
        assert_eq!(report["success"], json!(true));
        assert_eq!(code(&feed(&["import", &dir, "-"], &line(21))), 0, "{policy}");
    }
}

#[test]
fn in_an_older_segment_damage_is_stopped_before_as_in_the_newest() {
    let place = Place::new();
    let source: String = (1..=200).map(line).collect();
    for size in ["16K", "64M"] {
        let dir = place.path(size);
        assert_eq!(code(&feed(&["import", &dir, "-", "--batch", "1", "--segment-size", size], &source)), 0);
        damage(&dir, 12);
        for policy in ["default", "point-in-time"] {
            for command in ["export", "state"] {
                let output = run(&[command, &dir, "--policy", policy]);
                let text = String::from_utf8_lossy(&output.stderr);
                let lines = str::from_utf8(&output.stdout).unwrap().lines().count();
                assert_eq!((code(&output), lines), (1, 11), "{size} {policy} {command}: {text}");
                assert!(text.contains("LSN(12)") && !text.contains("passed over"), "{size} {policy} {command}: {text}");
            }
        }
    }
}

#[test]
fn entries_that_only_a_checkpoint_holds_are_missed_by_an_export_and_not_by_a_state() {
    let place = Place::new();
    let dir = place.path("log");
    let source: String = (1..=200).map(line).collect();
    assert_eq!(code(&feed(&["import", &dir, "-", "--batch", "5", "--segment-size", "16K"], &source)), 0);
    ok(&["checkpoint", &dir]);
    fs::remove_file(segment(&dir)).unwrap();
    for policy in ["strict", "default", "point-in-time", "salvage"] {
        let output = run(&["export", &dir, "--policy", policy]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(code(&output) == 1 && text.contains("LSN(1) to "), "{policy}: {text}");
        assert!(!output.stdout.is_empty(), "{policy}: what is there is written");
        assert_eq!(ok(&["state", &dir, "--policy", policy]).lines().count(), 200, "{policy}");
    }
    let last = ok(&["export", &dir, "--from", "195"]);
    assert_eq!(last.lines().count(), 7, "none of these is missing");
}

#[test]
fn after_salvage_the_loss_is_a_gap_and_the_log_goes_on() {
    let place = Place::new();
    let dir = place.log(20, "1");
    damage(&dir, 12);
    let output = run(&["recover", &dir, "--policy", "salvage", "--json"]);
    assert_eq!(code(&output), 1, "damage was found");
    let report = object(&output);
    assert_eq!((&report["success"], &report["writable"]), (&json!(false), &json!(true)));
    assert_eq!((&report["entries_recovered"], &report["entries_skipped"]), (&json!(19), &json!(1)));

    assert_eq!(code(&feed(&["import", &dir, "-"], &lines(21..=22))), 0);
    let report = object(&run(&["verify", &dir, "--json"]));
    assert_eq!(report["error"], Value::Null);
    assert_eq!(report["gaps"], json!([{"first_lsn": 12, "last_lsn": 12}]));
    assert_eq!(exported_ids(&dir), (1..=22).filter(|n| *n != 12).map(id).collect::<Vec<_>>());
    assert_eq!(ok(&["state", &dir]).lines().count(), 21);
}

#[test]
fn stat_tells_what_the_files_tell() {
    let place = Place::new();
    let dir = place.log(20, "7");
    let stat = object(&run(&["stat", &dir, "--json"]));
    let size = fs::metadata(segment(&dir)).unwrap().len();
    assert_eq!((&stat["current_lsn"], &stat["synced_lsn"]), (&json!(21), &json!(20)));
    assert_eq!((&stat["total_segments"], &stat["total_size_bytes"]), (&json!(1), &json!(size)));
    assert_eq!(stat["last_checkpoint_lsn"], Value::Null);
    let segment = &stat["segments"][0];
    assert_eq!((&segment["id"], &segment["first_lsn"], &segment["last_lsn"]), (&json!(1), &json!(1), &json!(20)));
    assert_eq!((&segment["bytes"], &segment["state"]), (&json!(size), &json!("active")));
    let text = ok(&["stat", &dir]);
    let log_id = stat["log_id"].as_str().unwrap();
    assert!(text.contains("1 to 20") && text.contains('█') && text.contains(log_id), "{text}");
}

#[test]
fn a_log_of_many_segments_is_drawn_on_one_page() {
    let place = Place::new();
    let dir = place.path("log");
    let config = Config::new(&dir).with_segment_size(8 << 10).with_sync_mode(SyncMode::Async);
    let log = Log::open(config).unwrap();
    for n in 1..=200 {
        log.append(Operation::opaque(vec![n; 1000])).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let stat = object(&run(&["stat", &dir, "--json"]));
    let segments = stat["segments"].as_array().unwrap();
    assert!(segments.len() > 20, "{}", segments.len());
    let mut next = 1;
    for (segment, n) in segments.iter().zip(1..) {
        let state = if n == segments.len() { "active" } else { "sealed" };
        assert_eq!((&segment["id"], &segment["state"]), (&json!(n), &json!(state)));
        assert_eq!(segment["first_lsn"], next, "each begins where the one before ended");
        next = segment["last_lsn"].as_u64().unwrap() + 1;
        let used = segment["used_bytes"].as_u64();
        assert!(used <= segment["bytes"].as_u64() && used > Some(1000), "{segment}");
    }
    assert_eq!(next, 201);
    let text = ok(&["stat", &dir]);
    assert!(text.lines().count() < 25, "{text}");
    assert!(text.contains("1 to ") && text.contains("with nothing to note") && text.contains(" to 200 "), "{text}");
}

#[test]
fn a_batch_that_is_too_large_is_refused_with_advice() {
    let place = Place::new();
    let dir = place.path("log");
    let file = place.path("input");
    let large = format!("{{\"id\":\"{}\",\"content\":\"{}\",\"embedding\":[]}}\n", id(1), "x".repeat(3 << 20));
    fs::write(&file, large.repeat(8)).unwrap();
    let output = run(&["import", &dir, &file, "--json"]);
    assert_eq!(code(&output), 2);
    assert!(object(&output)["error"]["message"].as_str().unwrap().contains("choose a smaller --batch"));
    assert_eq!(object(&run(&["stat", &dir, "--json"]))["current_lsn"], 1);
    ok(&["import", &dir, &file, "--batch", "4"]);
    assert_eq!(object(&run(&["stat", &dir, "--json"]))["current_lsn"], 9);
}

#[test]
fn state_begins_from_a_checkpoint_once_the_front_is_given_up() {
    let place = Place::new();
    let dir = place.log(20, "7");
    let state = ok(&["state", &dir]);
    assert_eq!(ok(&["truncate", &dir, "--before", "15"]), "nothing given up: the log begins at LSN 1\n");
    let checkpoint = object(&run(&["checkpoint", &dir, "--json"]));
    assert_eq!(checkpoint["checkpoint"], json!({"id": 1, "lsn": 20}));
    assert_eq!((&checkpoint["documents"], &checkpoint["chunks"]), (&json!(20), &json!(0)));
    let truncated = object(&run(&["truncate", &dir, "--before", "15", "--json"]));
    assert_eq!((&truncated["low_water_lsn"], &truncated["entries_given_up"]), (&json!(15), &json!(14)));
    assert_eq!(ok(&["state", &dir]), state);
    assert_eq!(exported(&dir)[0]["lsn"], 15);
    let asked = run(&["export", &dir, "--from", "14", "--json"]);
    assert_eq!((code(&asked), &object(&asked)["error"]["kind"]), (2, &json!("truncated")));

    let delete = format!("{{\"op\":\"delete\",\"id\":\"{}\"}}", id(1));
    assert_eq!(code(&feed(&["import", &dir, "-"], &delete)), 0);
    let without: String = state.lines().skip(1).map(|line| format!("{line}\n")).collect();
    assert_eq!(ok(&["state", &dir]), without);
    let stat = object(&run(&["stat", &dir, "--json"]));
    assert_eq!((&stat["last_checkpoint_lsn"], &stat["low_water_lsn"]), (&json!(20), &json!(15)));
    assert_eq!(stat["checkpoints"], json!([1]));
}

#[test]
fn a_checkpoint_of_what_is_not_understood_is_refused() {
    let place = Place::new();
    let dir = place.path("log");
    assert_eq!(code(&feed(&["import", &dir, "-"], r#"{"op":"opaque","bytes":"AA=="}"#)), 0);
    let output = run(&["checkpoint", &dir, "--json"]);
    assert_eq!((code(&output), &object(&output)["error"]["kind"]), (1, &json!("refused")));
    assert!(!contents(&dir).iter().any(|(name, _)| name.ends_with(".ckpt")));
}

#[test]
fn readers_end_quietly_when_nobody_listens_any_more() {
    let place = Place::new();
    // More than a pipe holds.
    let dir = place.log(3000, "100");
    for command in ["export", "state"] {
        let mut child = duralog(&[command, &dir]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(first.starts_with('{'));
        let output = child.wait_with_output().unwrap();
        assert_eq!((code(&output), output.stderr), (0, Vec::new()), "{command}");
    }
}

#[test]
fn an_import_whose_acknowledgements_nobody_reads_ends_its_batch_and_closes() {
    let place = Place::new();
    let dir = place.path("log");
    let (mut child, stdout) = start(&["import", &dir, "-", "--batch", "2", "--ack"]);
    drop(stdout);
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(lines(1..=20).as_bytes());
    assert_eq!(child.wait().unwrap().code(), Some(3));
    drop(stdin);
    let stat = object(&run(&["stat", &dir, "--json"]));
    assert_eq!((&stat["current_lsn"], &stat["closed"]), (&json!(3), &json!(true)), "one batch");
}

#[test]
fn the_demo_shows_that_nothing_is_lost_and_leaves_nothing_behind() {
    let place = Place::new();
    let output = duralog(&["demo"]).env("TMPDIR", place.folder.path()).output().unwrap();
    assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    let text = str::from_utf8(&output.stdout).unwrap();
    assert!(text.contains("acknowledged entries are there, bit for bit"), "{text}");
    assert!(text.contains("LSN 101, which is the checkpoint's own"), "the LSNs and the entries add up: {text}");
    assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 0);

    let kept = place.path("kept");
    let shown = object(&run(&["demo", "--keep", &kept, "--json"]));
    assert_eq!(shown["acknowledged_entries"], shown["acknowledged_entries_equal"]);
    assert!(shown["acknowledged_entries"].as_u64() >= Some(159));
    ok(&["verify", &kept]);
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_import_with_what_it_has() {
    let place = Place::new();
    for (signal, status) in [("INT", 130), ("TERM", 143)] {
        let dir = place.path(signal);
        let (mut child, mut stdout) = start(&["import", &dir, "-", "--batch", "2", "--ack"]);
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(lines(1..=2).as_bytes()).unwrap();
        let mut ack = String::new();
        stdout.read_line(&mut ack).unwrap();
        assert_eq!(ack, "durable 2\n");
        // The input stays open, and the program waits for more of it.
        let kill = format!("kill -{signal} {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(status));
        drop(stdin);
        let stat = object(&run(&["stat", &dir, "--json"]));
        assert_eq!((&stat["synced_lsn"], &stat["closed"]), (&json!(2), &json!(true)));
    }
}
