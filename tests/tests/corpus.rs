//! What the fuzz targets have met: the seeds and the findings kept in `fuzz/corpus`, without a fuzzer.
#![allow(missing_docs)]

use std::{fs, path::Path};

use duralog_tests::{FUZZ_TARGETS, fuzz, fuzz_seeds};

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
}

#[test]
fn everything_in_the_corpus_keeps_the_promises() {
    for (name, _) in FUZZ_TARGETS {
        let corpus = corpus(name);
        assert!(
            corpus.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < 100 << 10,
            "the corpus of {name} is large"
        );
        for (path, bytes) in corpus {
            println!("{path}");
            fuzz(name, &bytes);
        }
    }
}

#[test]
fn the_seeds_of_now_and_each_of_them_with_a_byte_changed_keep_the_promises() {
    for (name, _) in FUZZ_TARGETS {
        let seeds = fuzz_seeds(name);
        assert!(!seeds.is_empty(), "{name}");
        for (n, seed) in seeds.iter().enumerate() {
            fuzz(name, seed);
            // A prime, so that no field is met each time.
            for at in (0..seed.len()).step_by(if seed.len() > 500 { 97 } else { 7 }) {
                let mut changed = seed.clone();
                changed[at] = changed[at].wrapping_add(1);
                println!("{name}: seed {n}, byte {at}");
                fuzz(name, &changed);
            }
        }
    }
}
