//! What may be in the input of an import, and what is said of what may not: line, column, what, and what to do.
#![allow(missing_docs)]

mod program;

use std::{fs, path::Path};

use program::{code, ok, run};
use serde_json::{Value, json};

const ID: &str = "00000000-0000-4000-8000-000000000001";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Imports this input into `log` and gives the status, and the object that was printed.
    fn import(&self, input: &[u8], more: &[&str]) -> (i32, Value) {
        let (dir, file) = (self.path("log"), self.path("input"));
        fs::write(&file, input).unwrap();
        let output = run(&[&["import", &dir, &file, "--json"], more].concat());
        let object = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (code(&output), object)
    }

    fn entries(&self) -> usize {
        ok(&["export", &self.path("log")]).lines().count()
    }
}

fn line(content: &str) -> String {
    format!("{{\"id\":\"{ID}\",\"content\":\"{content}\",\"embedding\":[1]}}\n")
}

/// That the input is refused for this line, at this column, with these words; gives the message.
#[track_caller]
fn refused((status, object): &(i32, Value), line: u64, column: usize, words: &str) -> String {
    let error = &object["error"];
    assert_eq!((*status, &error["kind"]), (2, &json!("bad_line")), "{error}");
    assert_eq!((&error["line"], &error["column"]), (&json!(line), &json!(column)), "{error}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(words), "{message}");
    message.to_owned()
}

#[test]
fn a_field_that_is_null_is_named_and_not_called_missing() {
    let place = Place::new();
    let null = format!("{{\"id\":\"{ID}\",\"content\":null,\"embedding\":[1]}}\n");
    let column = null.find("null").unwrap() + 1;
    let input = [line("a"), line("b"), null, line("c")].concat();
    refused(&place.import(input.as_bytes(), &["--batch", "2"]), 3, column, "null is not a string");
    assert_eq!(place.entries(), 2, "what came before its batch stays, nothing of its batch is there");
}

#[test]
fn an_entry_that_is_too_large_is_named_by_its_own_line() {
    let place = Place::new();
    let input = [line("a"), line("b"), line(&"x".repeat(200_000)), line("c")].concat();
    let size = ["--segment-size", "256K"];
    let message = refused(&place.import(input.as_bytes(), &size), 3, 1, "an entry of ");
    assert!(message.contains("--segment-size") && !message.contains("--batch"), "{message}");
    assert_eq!(place.entries(), 0);
    let (status, object) = place.import(input.as_bytes(), &["--segment-size", "2M"]);
    assert_eq!((status, &object["entries"]), (0, &json!(4)), "what it advises helps: {object}");
}

#[test]
fn a_batch_that_is_too_large_is_told_how_many_lines_fit() {
    let place = Place::new();
    let input = line(&"x".repeat(10_000)).repeat(40);
    let message =
        refused(&place.import(input.as_bytes(), &["--segment-size", "256K"]), 7, 1, "choose a smaller --batch");
    let fits = message.rsplit_once("of ").unwrap().1.split(' ').next().unwrap();
    let (status, object) = place.import(input.as_bytes(), &["--batch", fits]);
    assert_eq!((status, &object["entries"]), (0, &json!(40)), "what it advises helps: {object}");
}

#[test]
fn a_line_without_end_is_refused_before_memory_runs_out() {
    let place = Place::new();
    let long = fs::File::create(place.path("input")).unwrap();
    // A file of nothing but zeros takes no room.
    long.set_len(3 << 30).unwrap();
    let output = run(&["import", &place.path("log"), &place.path("input"), "--json"]);
    let object = serde_json::from_slice(&output.stdout).unwrap();
    refused(&(code(&output), object), 1, (128 << 20) + 1, "divide what it holds");
}

#[test]
fn lines_may_end_as_they_do_on_windows_and_the_last_without_an_end() {
    let place = Place::new();
    let input = [line("a").replace('\n', "\r\n"), line("b").trim_end().to_owned()].concat();
    assert_eq!(place.import(input.as_bytes(), &[]).0, 0);
    assert_eq!(place.entries(), 2);
    let (status, object) = place.import(b"", &[]);
    assert_eq!((status, &object["entries"], &object["last_lsn"]), (0, &json!(0), &Value::Null));
    let marked = [b"\xEF\xBB\xBF", line("c").as_bytes()].concat();
    refused(&place.import(&marked, &[]), 1, 1, "byte order mark");
    refused(&place.import(b"\n", &[]), 1, 1, "an empty line");
    refused(&place.import(b"{\"id\":\"\xFF", &[]), 1, 8, "not UTF-8");
}

#[test]
fn hostile_json_is_refused_by_line_and_column() {
    let place = Place::new();
    let embedding = |text: &str| format!("{{\"id\":\"{ID}\",\"content\":\"\",\"embedding\":{text}}}\n");
    let at = embedding("").find(":}").unwrap() + 2;
    for (text, column, words) in [
        ("[1,]", at + 3, "not JSON"),
        ("[01]", at + 2, "not JSON"),
        ("[1e]", at + 3, "not JSON"),
        ("[Infinity]", at + 1, "not JSON"),
        ("[\"0x7fc0\"]", at + 1, "the eight digits of its bits"),
        ("[[1]]", at + 1, "[1] is no number"),
        ("{}", at, "{} is not a list"),
    ] {
        refused(&place.import(embedding(text).as_bytes(), &[]), 1, column, words);
    }
    let deep = format!("{{\"id\":\"{ID}\",\"content\":{}", "[".repeat(1_000_000));
    let (status, object) = place.import(deep.as_bytes(), &[]);
    assert_eq!((status, &object["error"]["kind"], &object["error"]["line"]), (2, &json!("bad_line"), &json!(1)));
    let twice = format!("{{\"id\":\"{ID}\",\"content\":\"\",\"content\":\"\",\"embedding\":[]}}");
    let (status, object) = place.import(twice.as_bytes(), &[]);
    assert!(
        status == 2 && object["error"]["message"].as_str().unwrap().contains("duplicate field `content`"),
        "{object}"
    );
    let numbers = embedding(r#"[1e400,-1e400,-0,1e-400,"0xffffffff"]"#);
    assert_eq!(place.import(numbers.as_bytes(), &[]).0, 0);
    let state = ok(&["state", &place.path("log")]);
    assert!(state.contains(r#"["Infinity","-Infinity",-0.0,0.0,"0xffffffff"]"#), "{state}");
}

#[test]
fn segments_have_the_size_that_was_asked_for_and_keep_it() {
    let place = Place::new();
    let dir = place.path("log");
    let input = line(&"x".repeat(1000)).repeat(100);
    let sizes = || -> Vec<u64> {
        let output = run(&["stat", &dir, "--json"]);
        let stat: Value = serde_json::from_slice(&output.stdout).unwrap();
        stat["segments"].as_array().unwrap().iter().map(|segment| segment["segment_size"].as_u64().unwrap()).collect()
    };
    assert_eq!(place.import(input.as_bytes(), &["--segment-size", "64K", "--batch", "5"]).0, 0);
    assert_eq!(sizes(), [64 << 10; 2]);
    assert_eq!(place.import(input.as_bytes(), &["--batch", "5"]).0, 0);
    ok(&["checkpoint", &dir]);
    assert!(sizes().iter().all(|size| *size == 64 << 10) && sizes().len() > 3, "{:?}", sizes());
    assert_eq!(place.import(input.as_bytes(), &["--segment-size", "1M"]).0, 0);
    assert_eq!(sizes().last(), Some(&(1 << 20)));
    for size in ["1K", "3G", "many", "0"] {
        let new = place.path("new");
        let output = run(&["import", &new, &place.path("input"), "--segment-size", size]);
        assert_eq!(code(&output), 2, "{size}");
        assert!(!Path::new(&new).exists(), "{size}");
    }
    for size in ["16K", "2G"] {
        // Of two gigabytes no room is taken where the file system has none: that is another refusal.
        let new = place.path(size);
        let output = run(&["import", &new, "/dev/null", "--segment-size", size]);
        assert!([0, 3].contains(&code(&output)), "{output:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_named_pipe_is_read_like_a_file() {
    use std::io::Write;

    let place = Place::new();
    let pipe = place.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut child = program::duralog(&["import", &place.path("log"), &pipe]).spawn().unwrap();
    let mut writer = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    writer.write_all(line("a").repeat(3).as_bytes()).unwrap();
    drop(writer);
    assert!(child.wait().unwrap().success());
    assert_eq!(place.entries(), 3);
}
