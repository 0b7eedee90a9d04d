//! Writes the logs of `tests/golden` again, in place of what is there. What is to be read of each is written beside it by
//! the second reader: `python3 tests/format/reader.py --write tests/golden/<name>`.

use core::error::Error;
use std::{fs, path::Path};

use duralog_tests::{file_name, golden};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    for log in golden()? {
        let dir = root.join(log.name);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        for (object, bytes) in &log.objects {
            fs::write(dir.join(file_name(*object)), bytes)?;
        }
    }
    Ok(())
}
