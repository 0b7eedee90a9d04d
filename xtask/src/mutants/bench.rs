//! Where mutants are tried: a copy of the tree with a target folder of its own, which stays warm from one to the next.

use core::time::Duration;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Seek},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use super::patch::Mutant;
use crate::{
    compiler::{cargo, target_folder},
    tools::{output, root},
};

/// After this long tests are stopped, and that is a failure.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// The copy.
pub(crate) struct Bench {
    /// The copy of the tree.
    pub(crate) tree: PathBuf,
    /// What is built of it.
    pub(crate) target: PathBuf,
}

impl Bench {
    /// Brings the copy of this name up to date. What did not change stays as it is, so that it is not compiled again.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let place = target_folder().join(name);
        let bench = Self { tree: place.join("tree"), target: place.join("target") };
        let mut git = Command::new("git");
        git.current_dir(root()).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let files = output(&mut git).ok_or("the files of the repository cannot be listed: git is needed for that")?;
        let files: BTreeSet<&str> = files.split('\0').filter(|file| root().join(file).is_file()).collect();
        for file in &files {
            bench.restore_file(file)?;
        }
        bench.remove_others(Path::new(""), &files).map_err(|why| format!("cannot tidy the copy of the tree: {why}"))?;
        Ok(bench)
    }

    fn restore_file(&self, file: &str) -> Result<(), String> {
        let (from, to) = (root().join(file), self.tree.join(file));
        let copy = || -> io::Result<()> {
            if fs::read(&to).is_ok_and(|there| fs::read(&from).is_ok_and(|bytes| bytes == there)) {
                return Ok(());
            }
            to.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::copy(&from, &to).map(|_| ())
        };
        copy().map_err(|why| format!("cannot copy {file}: {why}"))
    }

    fn remove_others(&self, folder: &Path, files: &BTreeSet<&str>) -> io::Result<()> {
        for entry in fs::read_dir(self.tree.join(folder))? {
            let entry = entry?;
            let name = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.remove_others(&name, files)?;
            } else if !files.contains(name.to_string_lossy().replace('\\', "/").as_str()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Patches the copy; gives the files that are to be restored.
    pub(super) fn apply<'a>(&self, mutant: &'a Mutant) -> Result<&'a [String], String> {
        let mut git = Command::new("git");
        git.current_dir(&self.tree).args(["apply", "--recount"]).arg(&mutant.path);
        // The copy lies in a folder that git would otherwise take for a part of the repository, and ignore.
        git.env("GIT_CEILING_DIRECTORIES", self.tree.parent().unwrap_or(&self.tree));
        let applied = git.output().map_err(|why| format!("git is needed to apply a patch: {why}"))?;
        if applied.status.success() {
            return Ok(&mutant.files);
        }
        let why = String::from_utf8_lossy(&applied.stderr);
        Err(format!("the patch does not apply any more: {}", why.lines().next().unwrap_or_default()))
    }

    /// Takes a patch back.
    pub(super) fn restore(&self, files: &[String]) -> Result<(), String> {
        files.iter().try_for_each(|file| self.restore_file(file))
    }

    /// The text of a file of the copy up to a line.
    pub(super) fn source(&self, file: &str, line: usize) -> Option<String> {
        let text = fs::read_to_string(self.tree.join(file)).ok()?;
        Some(text.lines().take(line).collect::<Vec<_>>().join("\n"))
    }

    /// Builds a suite and runs tests of it; gives what it printed.
    pub(super) fn test(&self, suite: &[String], tests: &[&str]) -> Result<String, String> {
        let (program, folder) = self.build(suite, &[])?;
        let log = self.target.join("output");
        let told = |why: io::Error| format!("cannot run {}: {why}", program.display());
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&log).map_err(told)?;
        let both = file.try_clone().and_then(|out| Ok((out, file.try_clone()?)));
        let (out, err) = both.map_err(told)?;
        let mut command = Command::new(&program);
        command.args(tests).arg("--exact").current_dir(&folder).env("CARGO_MANIFEST_DIR", &folder);
        // A variable of whoever runs this would change what the tests do.
        command.env_remove("DURALOG_KILLS").env_remove("RUST_BACKTRACE");
        // A figure that comes out otherwise notices any change, and says nothing of the promises.
        command.env("DURALOG_FIGURES", self.target.join("figures"));
        let mut child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().map_err(told)?;
        let start = Instant::now();
        while child.try_wait().map_err(told)?.is_none() {
            if start.elapsed() > TIME_LIMIT {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{} was not done after {} s", tests.join(", "), TIME_LIMIT.as_secs()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        let (mut file, mut printed) = (file, Vec::new());
        file.rewind().and_then(|()| file.read_to_end(&mut printed)).map_err(told)?;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    /// Builds a suite, with these variables besides; gives its program and the folder it runs in.
    pub(crate) fn build(&self, suite: &[String], variables: &[(&str, &str)]) -> Result<(PathBuf, PathBuf), String> {
        let mut command = cargo();
        // One after the other changes a few lines: that is built by increments, under CI too.
        command.env_remove("CARGO_INCREMENTAL");
        command.current_dir(&self.tree).arg("test").args(suite);
        command.args(["--no-run", "--quiet", "--message-format=json-render-diagnostics"]);
        command.env("CARGO_TARGET_DIR", &self.target);
        // Built often and never debugged.
        command.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_PROFILE_TEST_DEBUG", "0");
        command.envs(variables.iter().copied());
        let built = command.output().map_err(|why| format!("cannot run cargo: {why}"))?;
        if !built.status.success() {
            let errors = String::from_utf8_lossy(&built.stderr);
            let error = errors.lines().find(|line| line.starts_with("error")).unwrap_or("cargo failed");
            return Err(format!("it does not compile: {error}"));
        }
        let messages = String::from_utf8_lossy(&built.stdout);
        let programs: Vec<_> = messages.lines().filter_map(test_program).collect();
        let [(program, manifest)] = &programs[..] else {
            return Err(format!("`cargo test {}` is {} suites, not one", suite.join(" "), programs.len()));
        };
        Ok((program.into(), Path::new(manifest).parent().unwrap_or(&self.tree).to_owned()))
    }
}

/// Of a message of cargo: the program with tests that it built, and its package's manifest.
fn test_program(message: &str) -> Option<(String, String)> {
    let text = |key: &str| {
        let (_, value) = message.split_once(&format!("\"{key}\":\""))?;
        Some(value.split('"').next()?.replace("\\\\", "\\"))
    };
    let (_, profile) = message.split_once("\"profile\":{")?;
    profile.split('}').next()?.contains("\"test\":true").then_some(())?;
    Some((text("executable")?, text("manifest_path")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_a_suite_is_told_from_others() {
        let message = r#"{"reason":"compiler-artifact","manifest_path":"/a/Cargo.toml","target":{"kind":["test"],"test":true},
            "profile":{"opt_level":"1","test":true},"executable":"/t/suite-1","fresh":true}"#;
        let found = Some(("/t/suite-1".to_owned(), "/a/Cargo.toml".to_owned()));
        assert_eq!(test_program(message), found);
        assert_eq!(test_program(&message.replace("\"1\",\"test\":true", "\"1\",\"test\":false")), None);
        assert_eq!(test_program(r#"{"reason":"build-finished","success":true}"#), None);
    }
}
