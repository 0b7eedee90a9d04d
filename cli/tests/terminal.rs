//! What is shown on a terminal alone: progress, and colours.
#![cfg(target_os = "linux")]
#![allow(missing_docs)]

mod program;

use std::{
    fs::{File, OpenOptions},
    io::Read,
    process::Stdio,
    thread,
};

use program::{duralog, ok, run};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

/// What the command shows where its standard error is a terminal, and with `all` its standard output, too.
fn shown(arguments: &[&str], all: bool) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    tcsetwinsize(&terminal, Winsize { ws_row: 25, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let open = || OpenOptions::new().read(true).write(true).open(&name).unwrap();
    let mut command = duralog(arguments);
    command.env("TERM", "xterm").env_remove("NO_COLOR").stderr(open());
    command.stdout(if all { Stdio::from(open()) } else { Stdio::null() });
    let mut child = command.spawn().unwrap();
    // The terminal is this process's too until the command is gone.
    drop(command);
    let mut terminal = File::from(terminal);
    let reader = thread::spawn(move || {
        let (mut shown, mut piece) = (Vec::new(), [0; 4096]);
        // It fails once nobody holds the other side any more.
        while let Ok(read @ 1..) = terminal.read(&mut piece) {
            shown.extend_from_slice(&piece[..read]);
        }
        String::from_utf8_lossy(&shown).into_owned()
    });
    let ended = child.wait().unwrap();
    let shown = reader.join().unwrap();
    assert!(ended.success(), "{arguments:?}: {shown}");
    shown
}

#[test]
fn progress_is_shown_on_a_terminal_and_taken_away_again() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (dir, input) = (path("log"), path("input"));
    let line = |n| format!("{{\"id\":\"00000000-0000-4000-8000-{n:012x}\",\"content\":\"a\",\"embedding\":[1]}}\n");
    let lines: String = (1..=500).map(line).collect();
    std::fs::write(&input, &lines).unwrap();
    for (arguments, words) in [
        (&["import", &dir, &input][..], " of "),
        (&["export", &dir], " of 500 entries"),
        (&["state", &dir], "building the documents up"),
        (&["verify", &dir], "reading every entry"),
        (&["recover", &dir], "reading every entry"),
        (&["checkpoint", &dir], "building the documents up"),
        (&["truncate", &dir, "--before", "2"], "reading every entry"),
        (&["pack", &dir, &path("log.tar")], "packing"),
        (&["unpack", &path("log.tar"), &path("copy")], "unpacking"),
    ] {
        let shown = shown(arguments, false);
        assert!(shown.contains(words), "{arguments:?}: {shown:?}");
        // The last thing done to the line of the bar is that it is cleared; what is told comes after.
        let (_, behind) = shown.rsplit_once("\u{1b}[2K").unwrap_or_else(|| panic!("{arguments:?}: {shown:?}"));
        assert!(!behind.contains(words), "{arguments:?}: {behind:?}");
    }
}

#[test]
fn colours_and_progress_are_for_terminals_alone() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (dir, input) = (path("log"), path("input"));
    std::fs::write(&input, "{\"op\":\"opaque\",\"bytes\":\"AA==\"}\n").unwrap();
    let imported = run(&["import", &dir, &input]);
    assert!(!String::from_utf8(imported.stderr).unwrap().contains(['\u{1b}', '\r']));
    assert!(shown(&["verify", &dir], true).contains("\u{1b}[32msound"));
    assert!(!ok(&["verify", &dir]).contains('\u{1b}'));
    let verified = run(&["verify", &dir]);
    assert!(verified.stderr.is_empty(), "{:?}", String::from_utf8(verified.stderr));
}
