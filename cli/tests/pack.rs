//! `pack` and `unpack`: a whole log as one file and back, and what is refused on the way.
#![allow(missing_docs)]

mod program;

use std::{
    fs::{self, File},
    path::Path,
};

use program::{code, ok, run};
use serde_json::{Value, json};

const BLOCK: usize = 512;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A log of several segments with a checkpoint.
    fn log(&self) -> String {
        let (dir, input) = (self.path("log"), self.path("input"));
        let line = |n: usize| {
            let content = "x".repeat(1000);
            format!("{{\"id\":\"00000000-0000-4000-8000-{n:012x}\",\"content\":\"{content}\",\"embedding\":[1]}}\n")
        };
        fs::write(&input, (1..=60).map(line).collect::<String>()).unwrap();
        ok(&["import", &dir, &input, "--segment-size", "16K", "--batch", "3"]);
        ok(&["checkpoint", &dir]);
        fs::remove_file(&input).unwrap();
        dir
    }
}

fn contents(dir: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let read = entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
    let mut files: Vec<_> = read.filter(|(name, _)| name != "LOCK").collect();
    files.sort();
    files
}

/// That the command is refused with status 2 and names this path; gives the kind and the message.
#[track_caller]
fn refused(arguments: &[&str], path: &str) -> (String, String) {
    let output = run(&[arguments, &["--json"]].concat());
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    let error = &object["error"];
    assert_eq!((code(&output), &error["path"]), (2, &json!(path)), "{error}");
    (error["kind"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
}

#[test]
fn a_log_that_was_packed_and_unpacked_is_the_same_byte_for_byte() {
    let place = Place::new();
    let dir = place.log();
    let (file, copy) = (place.path("log.tar"), place.path("copy"));
    let packed: Value = serde_json::from_str(&ok(&["pack", &dir, &file, "--json"])).unwrap();
    let unpacked: Value = serde_json::from_str(&ok(&["unpack", &file, &copy, "--json"])).unwrap();
    let files = contents(&dir);
    let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(files.len() > 5, "segments, a checkpoint and wal.meta: {}", files.len());
    assert_eq!((&packed["objects"], &packed["bytes"]), (&json!(files.len()), &json!(bytes)));
    assert_eq!(packed, unpacked);
    assert_eq!(contents(&copy), files);
    assert_eq!(ok(&["export", &copy]), ok(&["export", &dir]));
    // As others read it: names ascending, two blocks of zeros at the end.
    let archive = fs::read(&file).unwrap();
    let names: Vec<String> = tar::Archive::new(&archive[..])
        .entries()
        .unwrap()
        .map(|member| String::from_utf8(member.unwrap().path_bytes().into_owned()).unwrap())
        .collect();
    assert_eq!(names.len(), files.len());
    assert_eq!((&names[0][..7], names.last().map(String::as_str)), ("segment", Some("wal.meta")));
    assert!(archive.len().is_multiple_of(BLOCK) && archive[archive.len() - 2 * BLOCK..].iter().all(|byte| *byte == 0));
    assert_eq!(place.names(), ["copy", "log", "log.tar"], "nothing unfinished is left");
    // It is no log itself, and whoever takes it for one is told what it is.
    for command in ["state", "verify", "export", "stat"] {
        let (kind, message) = refused(&[command, &file], &file);
        assert!(kind == "usage" && message.contains("unpack"), "{command}: {kind}, {message}");
    }
}

#[test]
fn an_archive_that_is_cut_off_anywhere_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let (dir, file, cut) = (place.log(), place.path("log.tar"), place.path("cut.tar"));
    ok(&["pack", &dir, &file]);
    let whole = fs::read(&file).unwrap();
    // Where each member begins, and where the last one ends.
    let ends: Vec<usize> = tar::Archive::new(&whole[..])
        .entries()
        .unwrap()
        .map(|member| usize::try_from(member.unwrap().raw_header_position()).unwrap())
        .chain([whole.len() - 2 * BLOCK])
        .collect();
    let within = ends.iter().flat_map(|at| [at + 1, at + BLOCK, at + BLOCK + 1]).filter(|len| *len < whole.len());
    let near_the_end = [whole.len() - 1, whole.len() - BLOCK, whole.len() - BLOCK - 1];
    for len in ends.iter().copied().chain(within).chain(near_the_end) {
        fs::write(&cut, &whole[..len]).unwrap();
        let (kind, message) = refused(&["unpack", &cut, &place.path("copy")], &cut);
        assert_eq!(kind, "input", "{len} of {} bytes: {message}", whole.len());
        assert_eq!(place.names(), ["cut.tar", "log", "log.tar"], "{len} bytes");
    }
    // Zeros behind the end are no more than padding; anything else is.
    fs::write(&cut, [&whole[..], &[0; 10 * BLOCK]].concat()).unwrap();
    ok(&["unpack", &cut, &place.path("padded")]);
    fs::write(&cut, [&whole[..], &whole].concat()).unwrap();
    let (_, message) = refused(&["unpack", &cut, &place.path("copy")], &cut);
    assert!(message.contains("behind its end"), "{message}");
}

/// A name, what kind of member it is, and its bytes.
type Member<'a> = (&'a str, tar::EntryType, &'a [u8]);

fn archive(members: &[Member<'_>]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, kind, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_path(name).unwrap();
        header.set_cksum();
        archive.append(&header, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn what_no_log_holds_is_refused_by_name() {
    use tar::EntryType as Kind;

    let place = Place::new();
    let file = place.path("strange.tar");
    let segment = "segment_0000000000000001.wal";
    let cases: [(&[Member<'_>], &str); 8] = [
        (&[(segment, Kind::Regular, b"x"), ("cat.jpg", Kind::Regular, b"a cat")], "\"cat.jpg\""),
        (&[(segment, Kind::Symlink, b"")], segment),
        (&[(segment, Kind::Regular, b"x"), ("checkpoint_0000000000000001.ckpt", Kind::Directory, b"")], "checkpoint_"),
        (&[(segment, Kind::Regular, b"x"), (segment, Kind::Regular, b"y")], "twice"),
        (&[("wal.meta", Kind::Regular, b"x")], "no segment"),
        (&[("LOCK", Kind::Regular, b"1")], "\"LOCK\""),
        (&[("sub/segment_0000000000000001.wal", Kind::Regular, b"1")], "\"sub/"),
        (&[], "no segment"),
    ];
    for (members, words) in cases {
        fs::write(&file, archive(members)).unwrap();
        let (kind, message) = refused(&["unpack", &file, &place.path("copy")], &file);
        assert!(kind == "input" && message.contains(words), "{kind}: {message}");
        assert_eq!(place.names(), ["strange.tar"], "{words}");
    }
    for no_archive in [&b""[..], b"no archive", &[7; 4096]] {
        fs::write(&file, no_archive).unwrap();
        assert_eq!(refused(&["unpack", &file, &place.path("copy")], &file).0, "input");
    }
}

#[test]
fn nothing_is_written_over_and_where_no_log_is_nothing_is_touched() {
    let place = Place::new();
    let (dir, file) = (place.log(), place.path("log.tar"));
    let (empty, missing) = (place.path("empty"), place.path("missing"));
    fs::create_dir(&empty).unwrap();
    assert_eq!(refused(&["pack", &empty, &file], &empty).0, "not_found");
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0, "not even LOCK");
    assert_eq!(refused(&["pack", &missing, &file], &missing).0, "not_found");
    assert!(!Path::new(&file).exists());

    fs::write(&file, "kept").unwrap();
    assert_eq!(refused(&["pack", &dir, &file], &file).0, "usage");
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    let inside = format!("{dir}/inside.tar");
    let (kind, message) = refused(&["pack", &dir, &inside], &inside);
    assert!(kind == "usage" && message.contains("folder of the log"), "{message}");
    let beside = place.path("missing/x.tar");
    assert_eq!(refused(&["pack", &dir, &beside], &missing).0, "usage");

    assert_eq!(refused(&["unpack", &missing, &place.path("copy")], &missing).0, "input");
    assert_eq!(refused(&["unpack", &empty, &place.path("copy")], &empty).0, "input");
    assert_eq!(refused(&["unpack", &file, &dir], &dir).0, "usage");
    assert_eq!(place.names(), ["empty", "log", "log.tar"]);
}

#[test]
fn a_log_with_a_writer_is_not_packed() {
    let place = Place::new();
    let (dir, file) = (place.log(), place.path("log.tar"));
    let log = duralog::Log::open(duralog::Config::new(&dir)).unwrap();
    let output = run(&["pack", &dir, &file, "--json"]);
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((code(&output), &object["error"]["kind"]), (1, &json!("locked")));
    log.close().unwrap();
    drop(log);
    ok(&["pack", &dir, &file]);
    assert!(File::open(&file).unwrap().metadata().unwrap().len() > 0);
}
