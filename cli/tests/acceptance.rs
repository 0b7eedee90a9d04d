//! What the program is for, tried as its users would: documents in and out bit for bit, kills in mid-write, damage.
#![allow(missing_docs)]

mod program;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
    process::{Child, Stdio},
    sync::mpsc,
    thread,
};

use program::{code, duralog, ok, run};
use serde_json::{Value, json};

const REAL: &str = include_str!("../data/debian-packages-200.jsonl");

fn spawn(arguments: &[&str]) -> Child {
    duralog(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn import(dir: &str, input: &str, batch: &str) {
    let mut child = spawn(&["import", dir, "-", "--batch", batch]);
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// The next number of a generator: `splitmix64`.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let n = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

/// Documents with the given number of floats, of all magnitudes, written with more digits than they need.
fn documents(count: u64, floats: usize) -> String {
    let mut state = 7;
    let mut text = String::new();
    for n in 1..=count {
        let embedding: Vec<f64> = (0..floats)
            .map(|_| {
                loop {
                    let bits = u32::try_from(random(&mut state) >> 32).unwrap();
                    if f32::from_bits(bits).is_finite() {
                        break f32::from_bits(bits).into();
                    }
                }
            })
            .collect();
        let id = format!("00000000-0000-4000-8000-{n:012x}");
        let line =
            json!({"id": id, "content": format!("document {n}: Zoë, \u{1F980}\n\"quoted\""), "embedding": embedding});
        text.push_str(&line.to_string());
        text.push('\n');
    }
    text
}

/// Documents by id: the text, and the bits of the embedding. Numbers are taken for the nearest f32 by the standard library.
fn read(text: &str) -> BTreeMap<String, (String, Vec<u32>)> {
    let document = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let bits = line["embedding"].as_array().unwrap().iter();
        let bits = bits.map(|number| number.to_string().parse::<f32>().unwrap().to_bits()).collect();
        (line["id"].as_str().unwrap().to_owned(), (line["content"].as_str().unwrap().to_owned(), bits))
    };
    text.lines().map(document).collect()
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn documents_come_back_bit_for_bit_whatever_the_batch() {
    let place = Place::new();
    let expected = read(REAL);
    assert_eq!(expected.len(), 200);
    for batch in ["1", "7", "100", "200"] {
        let dir = place.path(batch);
        import(&dir, REAL, batch);
        let state = read(&ok(&["state", &dir]));
        assert!(state == expected, "in batches of {batch}");
    }
}

#[test]
fn two_thousand_documents_in_one_batch_come_back_bit_for_bit() {
    let place = Place::new();
    let dir = place.path("log");
    let input = documents(2000, 384);
    import(&dir, &input, "2000");
    assert!(read(&ok(&["state", &dir])) == read(&input));
}

/// When an import is killed that has acknowledged what it should.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// After so many more bytes of input.
    Fed(usize),
    /// As soon as its next write shows in the segment.
    Writing,
}

/// Waits until bytes show behind what the first segment holds now, or another acknowledgement comes.
fn wait_for_write(segment: &fs::File, end: u64, heard: &mpsc::Receiver<()>) {
    let mut bytes = [0; 64];
    loop {
        let read = read_at(segment, &mut bytes, end);
        if read == 0 || bytes[..read].iter().any(|byte| *byte != 0) || heard.try_recv().is_ok() {
            return;
        }
    }
}

fn read_at(mut file: &fs::File, bytes: &mut [u8], at: u64) -> usize {
    file.seek(SeekFrom::Start(at)).and_then(|_| file.read(bytes)).unwrap_or(0)
}

/// The first segment, and where what it holds ends: behind that it is blank.
fn end_of_segment(dir: &str) -> Option<(fs::File, u64)> {
    let path = Path::new(dir).join("segment_0000000000000001.wal");
    let bytes = fs::read(&path).ok()?;
    let end = bytes.iter().rposition(|byte| *byte != 0)? as u64 + 1;
    Some((fs::File::open(path).ok()?, end))
}

/// Feeds an import, kills it after so many acknowledgements at that moment, and gives the last LSN that it acknowledged.
fn killed(dir: &str, input: &str, batch: u64, acknowledgements: u64, moment: Moment) -> u64 {
    let mut child = spawn(&["import", dir, "-", "--ack", "--batch", &batch.to_string(), "--segment-size", "4M"]);
    let mut stdin = child.stdin.take().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (heard, hear) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut last = 0;
        for line in stdout.lines() {
            // Of a line that was cut off nothing was told.
            let Some(lsn) = line.ok().and_then(|line| line.strip_prefix("durable ")?.parse().ok()) else { break };
            last = lsn;
            let _ = heard.send(());
        }
        last
    });
    let lines: Vec<&str> = input.split_inclusive('\n').collect();
    let batches = lines.chunks(usize::try_from(batch).unwrap());
    let mut fed = 0;
    for (n, batch) in (0..).zip(batches) {
        if n == acknowledgements {
            break;
        }
        for line in batch {
            fed += line.len();
            stdin.write_all(line.as_bytes()).unwrap();
        }
        hear.recv().expect("each batch is acknowledged while the input waits");
    }
    // From here on nobody waits: the process has input to go on with when the signal comes.
    let rest = input.as_bytes()[fed..].to_vec();
    let segment = if acknowledgements > 0 { end_of_segment(dir) } else { None };
    match (moment, segment) {
        (Moment::Writing, Some((segment, end))) => {
            let feeder = thread::spawn(move || drop(stdin.write_all(&rest)));
            wait_for_write(&segment, end, &hear);
            child.kill().unwrap();
            feeder.join().unwrap();
        }
        (moment, _) => {
            let more = if let Moment::Fed(more) = moment { more } else { rest.len() };
            let _ = stdin.write_all(&rest[..more.min(rest.len())]);
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    reader.join().unwrap()
}

#[test]
fn nothing_acknowledged_is_lost_to_a_kill() {
    let kills: u64 = env::var("DURALOG_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(20);
    let input = documents(400, 192);
    let lines: Vec<&str> = input.lines().collect();
    let expected = read(&input);
    let mut state = 42;
    let (mut inside, mut beyond) = (0, 0);
    for kill in 1..=kills {
        let place = Place::new();
        let dir = place.path("log");
        let batch = [1, 7, 20, 100][usize::try_from(kill % 4).unwrap()];
        let acknowledgements = random(&mut state) % (300 / batch);
        let fed = Moment::Fed(usize::try_from(random(&mut state) % 50_000).unwrap());
        let moment = if kill % 3 == 0 { fed } else { Moment::Writing };
        let acknowledged = killed(&dir, &input, batch, acknowledgements, moment);
        assert!(acknowledged >= acknowledgements * batch);
        if acknowledged == 0 && !Path::new(&dir).exists() {
            continue;
        }
        let recovered = run(&["recover", &dir, "--json"]);
        if acknowledged == 0 && code(&recovered) == 2 {
            // It died before there was a log.
            continue;
        }
        assert_eq!(code(&recovered), 0, "kill {kill}: {recovered:?}");
        let report: Value = serde_json::from_slice(&recovered.stdout).unwrap();
        let found: Vec<Value> = ok(&["export", &dir]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let count = found.len() as u64;
        assert!(count >= acknowledged, "kill {kill}: {count} of {acknowledged} acknowledged");
        assert!(count.is_multiple_of(batch), "kill {kill}: half a batch of {batch} in {count}");
        for ((entry, line), lsn) in found.iter().zip(&lines).zip(1..) {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!((&entry["lsn"], &entry["id"]), (&json!(lsn), &line["id"]), "kill {kill}");
        }
        let prefix: String = lines[..found.len()].iter().flat_map(|line| [*line, "\n"]).collect();
        let documents = read(&ok(&["state", &dir]));
        assert!(documents == read(&prefix), "kill {kill}: the state is no prefix of the input");
        assert!(documents.iter().all(|(id, document)| expected[id] == *document));
        inside += u64::from(!report["torn_tail"].is_null());
        beyond += u64::from(count > acknowledged);
    }
    println!("{kills} kills: {inside} left a torn tail, {beyond} left entries that were written and not acknowledged");
}

/// Byte for byte what the folder holds; whoever tried to write leaves its number in the file that it locked.
fn contents(dir: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let files = entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
    files.filter(|(name, _)| name != "LOCK").collect()
}

#[test]
fn a_flipped_byte_is_named_and_salvage_loses_no_more_than_its_batch() {
    let place = Place::new();
    let original = place.path("original");
    let input = documents(30, 4);
    import(&original, &input, "3");
    let name = "segment_0000000000000001.wal";
    let bytes = fs::read(Path::new(&original).join(name)).unwrap();
    // The text of a document is found where its entry is.
    for lost in [1_u64, 11, 20] {
        let text = format!("document {lost}:");
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
        let dir = place.path(&format!("flipped-{lost}"));
        fs::create_dir(&dir).unwrap();
        for (name, mut content) in contents(&original) {
            if name == "segment_0000000000000001.wal" {
                content[at] ^= 4;
            }
            fs::write(Path::new(&dir).join(name), content).unwrap();
        }
        let before = contents(&dir);
        let batch = (lost - 1) / 3 * 3 + 1..=(lost - 1) / 3 * 3 + 3;

        let verified = run(&["verify", &dir, "--json"]);
        assert_eq!(code(&verified), 1);
        let report: Value = serde_json::from_slice(&verified.stdout).unwrap();
        let damage = &report["damage"][0];
        let (first, last) = (damage["first_lsn"].as_u64().unwrap(), damage["last_lsn"].as_u64().unwrap());
        assert!((first..=last).contains(&lost) && batch.contains(&first) && batch.contains(&last), "{damage}");
        assert_eq!(damage["file"], name);

        assert_eq!(code(&run(&["recover", &dir])), 1);
        assert!(contents(&dir) == before, "a refused recovery changed bytes");

        assert_eq!(code(&run(&["recover", &dir, "--policy", "salvage"])), 1);
        let kept: String = input
            .split_inclusive('\n')
            .zip(1..)
            .filter(|(_, lsn)| !batch.contains(lsn))
            .map(|(line, _)| line)
            .collect();
        let state = read(&ok(&["state", &dir]));
        let kept = read(&kept);
        assert!(kept.iter().all(|(id, document)| state.get(id) == Some(document)), "more than the batch is gone");
        assert!(state.iter().all(|(id, document)| read(&input).get(id) == Some(document)));
        assert_eq!(code(&run(&["verify", &dir])), 0, "the loss is a gap that is known");
    }
}

#[test]
fn a_flipped_byte_of_a_header_or_checkpoint_is_named_and_costs_nothing() {
    let place = Place::new();
    let original = place.path("original");
    let input = documents(30, 4);
    import(&original, &input, "3");
    ok(&["checkpoint", &original]);
    let all = ok(&["state", &original]);
    let checkpoint = contents(&original).into_keys().find(|name| name.starts_with("checkpoint")).unwrap();
    let segment = "segment_0000000000000001.wal".to_owned();
    for (name, at) in [(&segment, 9), (&checkpoint, 3), (&checkpoint, 200)] {
        let dir = place.path(&format!("{name}-{at}"));
        fs::create_dir(&dir).unwrap();
        for (file, mut content) in contents(&original) {
            if file == *name {
                content[at] ^= 1;
            }
            fs::write(Path::new(&dir).join(file), content).unwrap();
        }
        let verified = run(&["verify", &dir, "--json"]);
        assert_eq!(code(&verified), 0, "{verified:?}");
        let report: Value = serde_json::from_slice(&verified.stdout).unwrap();
        let damage = &report["damage"][0];
        assert_eq!((&damage["file"], &damage["offset"], &damage["harmless"]), (&json!(name), &json!(0), &json!(true)));
        assert_eq!(ok(&["state", &dir]), all);
        let mut verify = duralog(&["verify", &dir]).stdout(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        verify.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(verify.wait().unwrap().success() && text.contains(name.as_str()), "{text}");
    }
}
