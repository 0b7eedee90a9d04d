//! Images of a device's flash, read by the commands that read a folder.
#![allow(missing_docs)]

mod program;

use core::ops::Range;
use std::process::Output;

use duralog::{
    core::{Log, LogOptions, Lsn},
    slots::{Info, Layout, Medium, Slot, Slots},
};
use program::{code, ok, run};

/// Flash in memory.
struct Flash(Vec<u8>);

impl Medium for Flash {
    type Error = core::convert::Infallible;

    fn info(&self) -> Info {
        Info { capacity: 1 << 15, write_size: 8, erase_size: 1024, is_flash: true, is_settled: true }
    }

    fn read(&mut self, at: u32, buf: &mut [u8]) -> Result<(), Self::Error> {
        buf.copy_from_slice(&self.0[at as usize..][..buf.len()]);
        Ok(())
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0[at as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn erase(&mut self, from: u32, to: u32, blank: u8) -> Result<(), Self::Error> {
        self.0[from as usize..to as usize].fill(blank);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Bytes of a slot of [`image`].
const SLOT: usize = 4096;

/// The image of a log in slots of `SLOT` bytes, with this many entries.
fn image(entries: u8) -> Vec<u8> {
    image_of(&[(entries, 0)])
}

/// The image of a log to which entries were appended, so many each time, after which what is below an LSN was given up.
fn image_of(lives: &[(u8, u64)]) -> Vec<u8> {
    let mut flash = Flash(vec![0xFF; 1 << 15]);
    let layout = Layout::new(flash.info(), SLOT.try_into().unwrap());
    let device = Slots::format(&mut flash, layout, [Slot::default(); 8]).unwrap();
    let mut buf = [0; 4096];
    let mut log = Log::format(device, &mut buf, LogOptions::default(), uuid::Uuid::from_u128(5), 0).unwrap();
    for &(entries, given_up) in lives {
        for n in 0..entries {
            log.append(0, &[n; 60][..]).unwrap();
        }
        log.discard_before(0, Lsn::new(given_up)).unwrap();
    }
    log.close(0).unwrap();
    flash.0
}

/// Overwrites, in each slot for which `which` says so, the bytes of these ranges with what nothing is made of.
fn ruin(image: &mut [u8], which: impl Fn(usize) -> bool, ranges: &[Range<usize>]) {
    for (_, slot) in image.chunks_mut(SLOT).enumerate().filter(|(index, _)| which(*index)) {
        ranges.iter().for_each(|range| slot[range.clone()].fill(0x5A));
    }
}

/// Where the label stands in a slot, and the mark that it was given up.
const LABEL: Range<usize> = 0..40;
/// Where the copies of a segment's header stand in a slot.
const HEADERS: [Range<usize>; 2] = [64..192, 192..320];
const SIZES: [&str; 4] = ["--erase-size", "4K", "--write-size", "8"];

struct Folder(tempfile::TempDir);

impl Folder {
    fn put(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn lines(image: &str, flags: &[&str]) -> usize {
    ok(&[&["export", image], flags].concat()).lines().count()
}

fn refused(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(code(&output), 2, "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn an_image_whose_labels_are_ruined_is_read_by_the_headers_of_its_segments() {
    let folder = Folder(tempfile::tempdir().unwrap());
    for (name, of_headers) in [("none", &[][..]), ("first", &HEADERS[..1]), ("second", &HEADERS[1..])] {
        let mut bytes = image(100);
        ruin(&mut bytes, |_| true, &[&[LABEL], of_headers].concat());
        let at_once = folder.put(name, &bytes);
        assert_eq!(lines(&at_once, &[]), 100, "of the headers {name} are ruined");
        assert_eq!(lines(&at_once, &SIZES), 100, "of the headers {name} are ruined");
        let behind = folder.put(name, &[vec![0; 2048], bytes].concat());
        assert_eq!(lines(&behind, &[]), 100, "of the headers {name} are ruined");
    }
    // One label: the slot counts as free, which is a segment lost; whoever says how the image is divided gets it back.
    let mut bytes = image(100);
    ruin(&mut bytes, |index| index == 1, &[LABEL]);
    let one = folder.put("one", &bytes);
    assert_eq!(code(&run(&["verify", &one])), 1);
    assert_eq!(lines(&one, &["--erase-size", "4096"]), 100);
    assert!(ok(&["verify", &one, "--write-size", "8"]).contains("100"));
    assert!(ok(&["stat", &one, "--json", "--write-size", "8"]).contains("\"current_lsn\":101"));
}

#[test]
fn what_stood_in_a_slot_without_label_and_header_is_damage_and_all_else_is_read() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let mut bytes = image(100);
    ruin(&mut bytes, |index| index == 1, &[LABEL, HEADERS[0].clone(), HEADERS[1].clone()]);
    let one = folder.put("one", &bytes);
    for flags in [&[][..], &SIZES] {
        assert_eq!(code(&run(&[&["verify", &one], flags].concat())), 1);
        let output = run(&[&["export", &one, "--policy", "salvage"], flags].concat());
        let left = String::from_utf8(output.stdout).unwrap().lines().count();
        assert!((40..100).contains(&left), "{left} entries of other slots");
    }
    // Of all of them: there is nothing by which a frame could be told from anything else.
    let mut bytes = image(100);
    ruin(&mut bytes, |_| true, &[LABEL, HEADERS[0].clone(), HEADERS[1].clone()]);
    let all = folder.put("all", &bytes);
    for flags in [&[][..], &SIZES] {
        let message = refused(&[&["verify", &all], flags].concat());
        assert!(message.contains("there is no slot of a log in it"), "{message}");
    }
    // The labels alone: the segments are known by their numbers, and nothing in them can be verified.
    let mut bytes = image(100);
    ruin(&mut bytes, |_| true, &HEADERS);
    let headless = folder.put("headless", &bytes);
    let output = run(&["verify", &headless]);
    assert_eq!(code(&output), 1);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("a segment whose header is bad in both copies"), "{told}");
}

#[test]
fn sizes_that_are_told_go_before_what_the_image_says() {
    let folder = Folder(tempfile::tempdir().unwrap());
    // Two logs on one chip: the first in slots of 4096 bytes, the second in slots of 2048 with other words.
    let mut second = Flash(vec![0xFF; 1 << 15]);
    let layout = Layout { granule: 16, slots: 4, ..Layout::new(second.info(), 2048) };
    let device = Slots::format(&mut second, layout, [Slot::default(); 4]).unwrap();
    let mut buf = [0; 4096];
    let mut log = Log::format(device, &mut buf, LogOptions::default(), uuid::Uuid::from_u128(6), 0).unwrap();
    log.append(0, &[1; 60][..]).unwrap();
    log.close(0).unwrap();
    let both = folder.put("both", &[image(100), second.0].concat());
    assert_eq!(lines(&both, &[]), 100, "the one with most labels");
    let other = |flags: &[&str]| {
        let output = run(&[&["export", &both], flags].concat());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(other(&[]).contains("another log too, in 4 slots of 2048 bytes from byte 32768 on"), "{}", other(&[]));
    let first = "another log too, in 8 slots of 4096 bytes from byte 0 on";
    assert!(other(&["--write-size", "16"]).contains(first), "{}", other(&["--write-size", "16"]));
    assert_eq!(lines(&both, &SIZES), 100);
    assert_eq!(lines(&both, &["--erase-size", "2K"]), 1);
    assert_eq!(lines(&both, &["--write-size", "16"]), 1);

    let told = |flags: &[&str]| refused(&[&["verify", &both], flags].concat());
    assert!(told(&["--erase-size", "1K"]).contains("slots of 4096 bytes, a granule of 8"));
    assert!(told(&["--erase-size", "8", "--write-size", "8"]).contains("a slot must be a multiple"));
    assert!(told(&["--erase-size", "4M", "--write-size", "8"]).contains("slots of 4096 bytes, a granule of 8"));
    assert!(told(&["--write-size", "12"]).contains("the granule must be a power of two"));
    assert!(told(&["--write-size", "8K"]).contains("the granule must be a power of two"));
    for size in ["0", "x", "5G", "4294967296"] {
        refused(&["export", &both, "--erase-size", size]);
    }
    let dir = folder.0.path().to_str().unwrap();
    for command in ["verify", "stat", "export", "state"] {
        assert!(refused(&[command, dir, "--write-size", "8"]).contains("for the image of a device"));
    }
}

#[test]
fn an_image_is_read_like_a_folder_and_imported_into_one() {
    let folder = tempfile::tempdir().unwrap();
    // What a programmer reads out begins before the log's slots.
    let image = folder.path().join("flash.bin");
    std::fs::write(&image, [vec![0x42; 2048], self::image(100)].concat()).unwrap();
    let image = image.to_str().unwrap();

    assert!(ok(&["verify", image]).contains("100"));
    assert!(ok(&["stat", image, "--json"]).contains("\"last_lsn\": 100") || ok(&["stat", image]).contains("100"));
    let lines = ok(&["export", image]);
    assert_eq!(lines.lines().count(), 100);
    let (file, dir) = (folder.path().join("lines"), folder.path().join("log"));
    std::fs::write(&file, &lines).unwrap();
    ok(&["import", dir.to_str().unwrap(), file.to_str().unwrap()]);
    assert_eq!(ok(&["export", dir.to_str().unwrap()]).lines().count(), 100);

    let other = folder.path().join("other.bin");
    std::fs::write(&other, [7; 9000]).unwrap();
    assert_ne!(code(&run(&["verify", other.to_str().unwrap()])), 0);
}

/// What is written on standard error where an image was cut off here.
fn cut_off(output: &Output, at: usize) -> bool {
    let told = String::from_utf8_lossy(&output.stderr);
    let is_told = told.contains(&format!("ends at byte {at}, ")) && told.contains("read the medium out again");
    assert!(!is_told || code(output) == 1, "{told}");
    is_told
}

/// The lines of an export, and whether it was told that the image was cut off.
fn exported(image: &str, at: usize, policy: &str) -> (Vec<String>, bool) {
    let output = run(&["export", image, "--policy", policy]);
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    (lines.lines().map(str::to_owned).collect(), cut_off(&output, at))
}

/// Of each slot, whether the log uses it.
fn used(image: &[u8]) -> Vec<bool> {
    // Behind the label stands the mark of a slot that was given up.
    image.chunks(SLOT).map(|slot| slot[0] != 0xFF && slot[32..40] == [0xFF; 8]).collect()
}

#[test]
fn an_image_that_ends_before_its_slots_do_is_told_and_read_as_far_as_it_goes() {
    let folder = Folder(tempfile::tempdir().unwrap());
    for (what, lives, uses) in [
        ("the newest segment stands in the last slot but one", &[(110, 0)][..], [true, true, false]),
        ("it stands in one of the first ones, and those before it in the last", &[(130, 80), (50, 0)], [true; 3]),
        ("the last slots were given up", &[(130, 131), (60, 180)], [false; 3]),
    ] {
        let bytes = image_of(lives);
        let used = used(&bytes);
        assert_eq!(used[5..], uses, "{what}");
        let at_once = folder.put("whole", &bytes);
        let (whole, _) = exported(&at_once, bytes.len(), "strict");
        let mut before = 0;
        for at in (5 * SLOT..8 * SLOT).step_by(512) {
            let image = folder.put("cut", &bytes[..at]);
            // The labels say how many slots there are.
            let is_cut = at.div_ceil(SLOT) < 8 || at % SLOT != 0 && used[at / SLOT];
            let (default, is_told) = exported(&image, at, "default");
            assert_eq!(is_told, is_cut, "{what}, {at} bytes");
            assert!(whole.starts_with(&default), "{what}, {at} bytes");
            let (salvaged, is_told) = exported(&image, at, "salvage");
            assert_eq!(is_told, is_cut, "{what}, {at} bytes");
            assert!(salvaged.iter().all(|line| whole.contains(line)), "{what}, {at} bytes");
            assert!(salvaged.len() >= before, "{what}, {at} bytes: more is there, and no more is read");
            before = salvaged.len();
            assert!(!is_cut || exported(&image, at, "strict").0.is_empty(), "{what}, {at} bytes");
            for command in ["verify", "stat", "state"] {
                assert_eq!(cut_off(&run(&[command, &image]), at), is_cut, "{command}: {what}, {at} bytes");
            }
            let output = run(&["verify", &image, "--json"]);
            let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(json["error"]["kind"] == "cut_off", is_cut, "{what}, {at} bytes: {json}");
            if is_cut {
                assert_eq!((&json["error"]["offset"], &json["success"]), (&at.into(), &false.into()), "{json}");
            }
        }
        assert_eq!(before, whole.len(), "{what}: with the last slots there");
    }
}

#[test]
fn an_image_that_ends_within_a_label_is_told() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let bytes = image(130);
    let at = 6 * SLOT + 16;
    let image = folder.put("cut", &bytes[..at]);
    let output = run(&["verify", &image]);
    assert!(cut_off(&output, at), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("4080 bytes of that are missing, what it holds with them")
    );
    assert!(!exported(&image, at, "default").0.is_empty());
}

#[test]
fn what_stands_behind_the_slots_and_belongs_to_nothing_is_not_missed() {
    let folder = Folder(tempfile::tempdir().unwrap());
    for (what, rest) in [("blank", vec![0xFF; 700]), ("other things", vec![0x42; 5000]), ("a byte", vec![b'W'])] {
        let image = folder.put("longer", &[image(100), rest].concat());
        assert_eq!(lines(&image, &[]), 100, "{what}");
        assert!(ok(&["verify", &image]).ends_with("sound\n"), "{what}");
    }
}

#[test]
fn an_image_of_one_or_two_slots_is_read() {
    let folder = Folder(tempfile::tempdir().unwrap());
    // The first slot held what formatting says.
    for slots in [0..2 * SLOT, SLOT..2 * SLOT] {
        let image = folder.put("few", &image(5)[slots.clone()]);
        // The first slot has a label that says how many there are; without it an image begins anywhere.
        let (read, is_told) = exported(&image, slots.len(), "default");
        assert_eq!((read.len(), is_told), (5, slots.start == 0), "{slots:?}");
        let image = folder.put("cut", &self::image(5)[slots.start..slots.end - 1024]);
        let (read, is_told) = exported(&image, slots.len() - 1024, "default");
        assert_eq!((read.len(), is_told), (5, true), "{slots:?}");
    }
}

#[test]
fn a_file_that_is_no_image_of_a_log_is_told_for_what_it_is_and_what_to_do() {
    let folder = Folder(tempfile::tempdir().unwrap());
    for (what, bytes, words) in [
        ("erased", vec![0xFF; 9000], &["blank throughout", "never written"][..]),
        ("zeros", vec![0; 9000], &["blank throughout", "never written"]),
        ("text", b"It is a truth universally acknowledged, that".repeat(9), &["no slot of a log", "--erase-size"]),
        ("short", image(5)[SLOT..SLOT + 20].to_vec(), &["shorter than", "read the medium out again"]),
        ("nothing", vec![], &["shorter than", "read the medium out again"]),
    ] {
        let image = folder.put(what, &bytes);
        for flags in [&[][..], &SIZES] {
            let told = refused(&[&["verify", &image], flags].concat());
            assert!(
                told.contains("image of a device") && words.iter().all(|word| told.contains(word)),
                "{what}: {told}"
            );
        }
    }
}
