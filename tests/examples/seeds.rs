//! Writes the seeds of `fuzz/corpus` again: what a writer writes, for each target. Others in there stay.

use core::error::Error;
use std::{fs, path::Path};

use duralog_tests::{FUZZ_TARGETS, fuzz_seeds};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (name, _) in FUZZ_TARGETS {
        let dir = root.join(name);
        fs::create_dir_all(&dir)?;
        for (n, seed) in fuzz_seeds(name).iter().enumerate() {
            fs::write(dir.join(format!("seed-{n:02}")), seed)?;
        }
    }
    Ok(())
}
