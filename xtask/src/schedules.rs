//! The handle's modules under a model checker: the suite `schedules`, and wake-ups that are taken away to see it fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::compiler::{cargo, target_folder};
use crate::mutants::turn_of_the_commit;
use crate::tools::root;

/// A defect put into a copy of the tree, and the test that has to find it.
struct Planted {
    what: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    test: &'static str,
    /// What the test then says; a deadlock is the model checker's own word.
    says: &'static str,
}

const PLANTED: [Planted; 11] = [
    Planted {
        what: "who has led wakes nobody",
        file: "backends/src/waiters.rs",
        from: "answers.drain(..).for_each(|(place, told)| place.tell(told));",
        to: "answers.clear();",
        test: "who_appends_at_the_same_time_shares_syncs_and_each_is_durable_when_told_so",
        says: "deadlock",
    },
    Planted {
        what: "who has led has nobody lead next",
        file: "backends/src/commit.rs",
        from: "if !state.leading {\n            state.waiters.have_next_look();\n        }",
        to: "let _ = state;",
        test: "who_appends_at_the_same_time_shares_syncs_and_each_is_durable_when_told_so",
        says: "deadlock",
    },
    Planted {
        what: "the lock is let go between the look and the wait",
        file: "backends/src/commit.rs",
        from: "guard = if guard.leading {\n                let place = guard.waiters.join(",
        to: "guard = if guard.leading {\n                drop(guard);\n                guard = self.lock();\n                let place = guard.waiters.join(",
        test: "who_appends_at_the_same_time_shares_syncs_and_each_is_durable_when_told_so",
        says: "deadlock",
    },
    Planted {
        what: "a close does not wake the background thread",
        file: "backends/src/log.rs",
        from: "let closed = self.shared.close();\n        self.shared.woken.notify_all();",
        to: "let closed = self.shared.close();",
        test: "the_background_thread_ends_with_the_log_whenever_that_is_closed",
        says: "deadlock",
    },
    Planted {
        what: "a checkpoint that ends does not wake the next",
        file: "backends/src/checkpoint.rs",
        from: "self.0.lock().checkpointing = false;\n        self.0.changed.notify_all();",
        to: "self.0.lock().checkpointing = false;",
        test: "checkpoints_are_written_one_after_the_other_beside_appends",
        says: "deadlock",
    },
    Planted {
        what: "who waits takes what was written for durable",
        file: "backends/src/commit.rs",
        from: "Durability::Durable => self.acknowledged(proof) >= lsn,",
        to: "Durability::Durable => self.writer.written() >= lsn,",
        test: "a_sync_makes_durable_what_others_appended_and_wakes_who_waits_for_it",
        says: "appender.is_durable",
    },
    Planted {
        what: "a cut and a truncation do not wait for each other",
        file: "backends/src/checkpoint.rs",
        from: "self.removing.lock().unwrap_or_else(PoisonError::into_inner)",
        to: "Box::leak(Box::new(Mutex::new(()))).lock().unwrap_or_else(PoisonError::into_inner)",
        test: "a_cut_and_a_truncation_at_the_same_time_leave_a_log_that_begins_before_it_ends",
        says: "it begins at",
    },
    Planted {
        what: "a cut tells nobody that waits for what it takes",
        file: "backends/src/commit.rs",
        from: "guard.dropped(kept, None);",
        to: "let _ = kept;",
        test: "an_append_beside_a_cut_is_durable_or_told_that_it_was_cut_off",
        says: "maximum number of branches",
    },
    Planted {
        what: "whoever builds a state up does not wait for a checkpoint that is being made",
        file: "backends/src/checkpoint.rs",
        from: "while guard.checkpointing {\n                guard = shared.wait_for_leader(guard);\n            }",
        to: "if guard.closed {\n                guard = shared.wait_for_leader(guard);\n            }",
        test: "a_state_is_built_up_beside_the_first_checkpoint_of_what_was_given_up",
        says: "StateLost",
    },
    Planted {
        what: "a state is built up of two histories",
        file: "backends/src/checkpoint.rs",
        from: "guard.history == history && ",
        to: "",
        test: "a_state_is_built_up_of_one_history_beside_a_cut_and_a_checkpoint",
        says: "Applied(",
    },
    Planted {
        what: "a refused write is given back while another thread begins a segment",
        file: "backends/src/commit.rs",
        from: "let mut guard = self.alone();\n        if !guard.writer.holds_refused() {",
        to: "let mut guard = self.lock();\n        if !guard.writer.holds_refused() {",
        test: "of_a_checkpoint_whose_entry_is_refused_no_crash_brings_the_entry_back_beside_appends",
        says: "StateLost",
    },
];

/// What a build of the suite reads.
const TREE: [&str; 9] = ["Cargo.toml", "Cargo.lock", "README.md", "core", "backends", "cli", "tests", "wasm", "xtask"];

/// Runs the suite, then plants each defect, or one that the commit chooses. Returns whether the suite passed and found all
/// that were planted.
pub(crate) fn run(arguments: &[String]) -> Result<bool, String> {
    let planted = match arguments {
        [] => &PLANTED[..],
        [few] if few == "--few" => core::slice::from_ref(&PLANTED[turn_of_the_commit() % PLANTED.len()]),
        _ => return Err("cargo xtask schedules [--few]; LOOM_MAX_PREEMPTIONS says how far it looks".into()),
    };
    let start = Instant::now();
    // All of it is built in the copy: two trees in one target folder are taken for one another.
    let place = target_folder().join("schedules").join("tree");
    copy(&place)?;
    let passed = suite(&place, "").status().map_err(|why| format!("cargo: {why}"))?.success();
    println!("the suite: {} in {:.1} s", if passed { "ok" } else { "FAILED" }, start.elapsed().as_secs_f64());
    let mut missed = 0;
    for planted in planted {
        let found = find(planted, &place)?;
        println!("planted: {}: {}", planted.what, if found { "found" } else { "NOT FOUND" });
        missed += usize::from(!found);
    }
    let (all, found) = (planted.len(), planted.len() - missed);
    println!("{found} of {all} planted defects found; {:.1} s in all", start.elapsed().as_secs_f64());
    Ok(passed && missed == 0)
}

/// The suite in the tree at `place`, or one test of it. It has a target folder of its own: the flag is everyone's.
fn suite(place: &Path, test: &str) -> Command {
    let mut command = cargo();
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    command
        .current_dir(place)
        .env("RUSTFLAGS", format!("{flags} --cfg loom"))
        .env("RUST_BACKTRACE", "0")
        .env("CARGO_TARGET_DIR", target_folder().join("schedules"))
        // The workspace optimises what it builds on, most of which only the model checker's own log needs.
        .args(["--config", "profile.dev.package.\"*\".opt-level=0", "--config", "profile.dev.package.loom.opt-level=2"])
        .args(["--config", "profile.dev.debug=0", "--config", "profile.test.debug=0"])
        .args([
            "test",
            "--quiet",
            "-p",
            "duralog-tests",
            "--test",
            "schedules",
            "--",
            "--nocapture",
            "--test-threads=1",
        ])
        .args([test].iter().filter(|test| !test.is_empty()));
    command
}

fn find(planted: &Planted, place: &Path) -> Result<bool, String> {
    copy(place)?;
    let file = place.join(planted.file);
    let text = fs::read_to_string(&file).map_err(|why| format!("{}: {why}", file.display()))?;
    if text.matches(planted.from).count() != 1 {
        return Err(format!("{} does not hold exactly once what `{}` takes away", planted.file, planted.what));
    }
    fs::write(&file, text.replace(planted.from, planted.to)).map_err(|why| format!("{}: {why}", file.display()))?;
    let outcome = suite(place, planted.test).output().map_err(|why| format!("cargo: {why}"))?;
    let said = [outcome.stdout, outcome.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if said.contains("could not compile") || !said.contains("running 1 test") {
        return Err(format!("with `{}` planted the suite was not run:\n{said}", planted.what));
    }
    let found = !outcome.status.success() && said.contains(planted.says);
    if !found {
        println!("{said}");
    }
    Ok(found)
}

/// Copies what the suite is built from, and removes what is there no more. Files that are the same stay as they are, so
/// that they are not built again.
fn copy(place: &Path) -> Result<(), String> {
    let mut left: Vec<PathBuf> = TREE.iter().map(PathBuf::from).collect();
    while let Some(path) = left.pop() {
        let (from, to) = (root().join(&path), place.join(&path));
        let failed = |why: std::io::Error| format!("{}: {why}", from.display());
        if !from.is_dir() {
            let bytes = fs::read(&from).map_err(failed)?;
            if fs::read(&to).ok().as_ref() != Some(&bytes) {
                fs::write(&to, bytes).map_err(failed)?;
            }
            continue;
        }
        fs::create_dir_all(&to).map_err(failed)?;
        for name in names(&to).map_err(failed)? {
            let gone = to.join(&name);
            if !from.join(&name).exists() {
                if gone.is_dir() { fs::remove_dir_all(gone) } else { fs::remove_file(gone) }.map_err(failed)?;
            }
        }
        left.extend(names(&from).map_err(failed)?.into_iter().map(|name| path.join(name)));
    }
    Ok(())
}

fn names(folder: &Path) -> std::io::Result<Vec<std::ffi::OsString>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
}
