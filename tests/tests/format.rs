//! The format: what `core/FORMAT.md` says, what the constants say, and what stands in the golden logs of `tests/golden`.
#![allow(missing_docs)]

use std::{collections::BTreeMap, fs, path::Path};

use duralog::{
    Config, Entry, LogReader, Lsn, MemoryDevice, Object, Operation, RecoveryReport,
    core::{
        checkpoint::{CHECKPOINT_MAGIC, CHECKPOINT_VERSION, Checkpoint, CheckpointHeader, HEADER_LEN},
        checksum::{compute_checksum, portable},
        frame::{FRAME_HEADER_LEN, FRAME_MAGIC, FRAME_OVERHEAD, Mark, SLOT_MAX},
        meta::{META_LEN, META_MAGIC, META_VERSION, Meta},
        operation::Code,
        segment::{FORMAT_VERSION, SEGMENT_HEADER_LEN, SEGMENT_MAGIC, SegmentHeader},
    },
};
use duralog_tests::{Golden, file_name, golden};
use uuid::Uuid;

const FORMAT: &str = include_str!("../../core/FORMAT.md");

fn logs() -> [Golden; 3] {
    golden().unwrap()
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn reader(log: &Golden) -> LogReader<MemoryDevice> {
    let config = Config { idle_mark: None, write_behind: None, ..Config::default() };
    LogReader::open_device(log.medium().reader(), config).unwrap()
}

#[test]
fn the_golden_logs_are_written_again_byte_for_byte() {
    let mut folders = 0;
    for log in logs() {
        let written: BTreeMap<_, _> = log.objects.iter().map(|(object, bytes)| (file_name(*object), bytes)).collect();
        let kept = fs::read_dir(folder().join(log.name)).unwrap().map(|file| file.unwrap());
        let kept: BTreeMap<_, _> =
            kept.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect();
        assert_eq!(kept.keys().collect::<Vec<_>>(), written.keys().collect::<Vec<_>>(), "files of {}", log.name);
        for (name, bytes) in &kept {
            assert!(bytes == written[name], "{}/{name} is written otherwise than it is kept", log.name);
        }
        folders += 1;
    }
    let kept = fs::read_dir(folder()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(kept, folders, "every log that is kept is written again");
}

#[test]
fn the_golden_logs_are_read_as_the_second_reader_reads_them() {
    for log in logs() {
        let expected = fs::read_to_string(folder().join(format!("{}.jsonl", log.name))).unwrap();
        let mut expected = expected.lines();
        let mut reader = reader(&log);
        for entry in reader.read(Lsn::ZERO, Lsn::MAX).unwrap() {
            assert_eq!(Some(json(&entry.unwrap()).as_str()), expected.next(), "in {}", log.name);
        }
        let end = expected.next().unwrap();
        assert_eq!(expected.next(), None, "{}: an entry was not read", log.name);
        let report = reader.verify().unwrap();
        assert!(end.starts_with(&end_json(&log, report)), "{}: {end}\n{}", log.name, end_json(&log, report));
        assert!(report.success, "{}", log.name);
        assert_eq!(report.torn_tail.is_some(), log.name == "torn");
    }
}

/// An entry as `tests/format/reader.py` prints it.
fn json(entry: &Entry) -> String {
    let operation = entry.operation().unwrap();
    let mut fields = format!(
        r#"{{"lsn": {}, "timestamp_us": {}, "op": "{}""#,
        entry.lsn.value(),
        entry.timestamp,
        operation.op_type()
    );
    if entry.batch_continues {
        fields += r#", "batch": true"#;
    }
    if let Some(id) = entry.transaction {
        fields += &format!(r#", "txn_id": {id}"#);
    }
    let item = |id: &Uuid, kind: &duralog::Kind, content: &str, embedding: &[f32]| {
        let bits: Vec<_> = embedding.iter().map(|value| value.to_bits().to_string()).collect();
        let kind = format!("{kind:?}").to_lowercase();
        format!(r#""id": "{id}", "kind": "{kind}", "content": {}, "embedding": [{}]"#, string(content), bits.join(", "))
    };
    fields += &match &operation {
        Operation::Insert { id, kind, content, embedding } | Operation::Update { id, kind, content, embedding } => {
            format!(", {}", item(id, kind, content, embedding))
        }
        Operation::Delete { id } => format!(r#", "id": "{id}""#),
        Operation::BatchInsert { items } => {
            let items = items.iter().map(|of| format!("{{{}}}", item(&of.id, &of.kind, &of.content, &of.embedding)));
            format!(r#", "items": [{}]"#, items.collect::<Vec<_>>().join(", "))
        }
        Operation::BatchDelete { ids } => {
            let ids = ids.iter().map(|id| format!(r#""{id}""#));
            format!(r#", "ids": [{}]"#, ids.collect::<Vec<_>>().join(", "))
        }
        Operation::Checkpoint { lsn, checkpoint_id } => {
            format!(r#", "checkpoint_lsn": {}, "checkpoint_id": {}"#, lsn.value(), checkpoint_id.value())
        }
        Operation::Opaque { bytes } => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!(r#", "opaque": "{hex}""#)
        }
        _ => String::new(),
    };
    fields + "}"
}

/// A string with everything but plain ASCII as `\u` escapes.
fn string(text: &str) -> String {
    let escaped = text.encode_utf16().map(|unit| match u8::try_from(unit) {
        Ok(byte) if byte.is_ascii_graphic() || byte == b' ' => char::from(byte).to_string(),
        _ => format!("\\u{unit:04x}"),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// What the second reader's last line begins with.
fn end_json(log: &Golden, report: &RecoveryReport) -> String {
    format!(
        concat!(
            r#"{{"end": {{"uuid": "{}", "epoch": {}, "newest_segment": {}, "last_lsn": {}, "durable_lsn": {}, "#,
            r#""low_water": {}, "sealed": {}, "checkpoints": ["#
        ),
        report.log_id,
        report.epoch,
        segments(log).map(|(_, header)| header.id.value()).max().unwrap(),
        report.last_valid_lsn.value(),
        report.durable_lsn.value(),
        report.low_water.value(),
        report.closed,
    )
}

fn segments(log: &Golden) -> impl Iterator<Item = (&[u8], SegmentHeader)> {
    log.objects.iter().filter(|(object, _)| matches!(object, Object::Segment(_))).map(|(_, bytes)| {
        let header = SegmentHeader::decode(portable, &bytes[..SEGMENT_HEADER_LEN], 0).unwrap();
        (bytes.as_slice(), header)
    })
}

/// The rows of the table of `FORMAT.md` whose last column is headed so: the cells of each.
fn table(heading: &str) -> Vec<Vec<String>> {
    let mut lines = FORMAT.lines().skip_while(|line| !line.starts_with('|') || !line.contains(heading));
    let head = lines.next().unwrap_or_else(|| panic!("there is no table with `{heading}` in FORMAT.md"));
    assert!(head.starts_with('|'));
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The fields of a table of offsets, and the bytes of each at the head of `bytes`; only those at fixed places.
fn fields<'a>(heading: &str, bytes: &'a [u8]) -> Vec<(String, &'a [u8])> {
    let mut next = 0;
    let mut found = Vec::new();
    for row in table(heading) {
        let (Ok(offset), Ok(size)) = (row[0].parse::<usize>(), row[1].parse::<usize>()) else { break };
        assert_eq!(offset, next, "{heading}: `{}` does not follow the field before it", row[2]);
        next = offset + size;
        found.push((row[2].clone(), &bytes[offset..next]));
    }
    found
}

/// Compares the fields of a table, in order, with what the code says that they are; the log's UUID is no number.
fn agree(heading: &str, bytes: &[u8], log: Uuid, values: &[(&str, u64)]) {
    let mut fields = fields(heading, bytes).into_iter();
    for (name, value) in values {
        let (field, bytes) = fields.next().unwrap_or_else(|| panic!("{heading}: no field `{name}`"));
        assert!(field.starts_with(name), "{heading}: `{field}` stands where `{name}` should");
        if *name == "log UUID" {
            assert_eq!(bytes, log.as_bytes(), "{heading}: {field}");
        } else {
            assert_eq!(number(bytes), *value, "{heading}: {field}");
        }
    }
    let more = fields.next().map(|(name, _)| name);
    assert_eq!(more, None, "{heading}: a field is not compared");
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[test]
fn segment_headers_stand_as_the_table_says() {
    for log in logs() {
        for (bytes, header) in segments(&log) {
            let before = header.predecessor;
            let flags = u64::from(header.blank == 0xFF)
                | (u64::from(header.recycled) << 1)
                | ([128, 512, 4096].iter().position(|at| *at == header.copy_offset).unwrap() as u64 * 4)
                | (u64::from(header.low_water_covered) << 4)
                | (u64::from(header.immediate) << 5)
                | (u64::from(header.leftovers) << 6);
            let granule = u64::from(header.granule.trailing_zeros()) | u64::from(before.between) << 4;
            let floor = header.first.value() - header.transaction_floor.value();
            let sum = compute_checksum(&bytes[..124]);
            agree(
                "field of a segment header",
                bytes,
                header.log,
                &[
                    ("magic `WALS`", number(&SEGMENT_MAGIC)),
                    ("version: 1", FORMAT_VERSION.into()),
                    ("flags", flags),
                    ("granule", granule),
                    ("the most transactions", header.max_transactions.into()),
                    ("log UUID", 0),
                    ("segment id", header.id.value()),
                    ("epoch", header.epoch),
                    ("nonce", header.nonce),
                    ("first LSN", header.first.value()),
                    ("creation time", header.created),
                    ("low-water mark", header.low_water.value()),
                    ("accepted-loss LSN", header.accepted_loss.value()),
                    ("transaction floor", floor),
                    ("predecessor: span", before.span.into()),
                    ("predecessor: segment id", before.id.value()),
                    ("predecessor: nonce", before.nonce),
                    ("predecessor: last LSN", before.last.value()),
                    ("predecessor: size", before.size.into()),
                    ("segment size", header.segment_size.into()),
                    ("write limit W", header.write_limit.into()),
                    ("checksum over bytes 0..124", sum.into()),
                ],
            );
            let copy = header.copy_offset as usize;
            assert_eq!(bytes[..SEGMENT_HEADER_LEN], bytes[copy..copy + SEGMENT_HEADER_LEN], "the copy is equal");
            assert_eq!(header.encode(portable), bytes[..SEGMENT_HEADER_LEN]);
        }
    }
}

#[test]
fn frames_stand_as_the_table_says() {
    let rows = table("field of a frame");
    assert_eq!(rows[6][..2], [FRAME_HEADER_LEN.to_string(), "n".into()], "the payload is behind the header");
    assert_eq!(rows[7][..2], ["29+n", "4"]);
    assert_eq!(FRAME_OVERHEAD as usize, FRAME_HEADER_LEN + 4);
    for log in logs() {
        for entry in reader(&log).read(Lsn::ZERO, Lsn::MAX).unwrap() {
            let entry = entry.unwrap();
            let bytes = &log.objects[&Object::Segment(entry.segment)][entry.offset as usize..];
            let kind = entry.code | u8::from(entry.transaction.is_some()) << 6 | u8::from(entry.batch_continues) << 7;
            agree(
                "field of a frame",
                bytes,
                Uuid::nil(),
                &[
                    ("magic `WAL1`", number(&FRAME_MAGIC)),
                    ("entry size", entry.serialized_size() as u64),
                    ("header checksum", number(&bytes[8..12])),
                    ("LSN", entry.lsn.value()),
                    ("timestamp", entry.timestamp),
                    ("operation type", kind.into()),
                ],
            );
            let payload = &bytes[FRAME_HEADER_LEN..entry.serialized_size() - 4];
            let id = entry.transaction.map_or(Vec::new(), |id| id.to_le_bytes().to_vec());
            assert_eq!(payload, [id, entry.payload].concat());
        }
    }
}

#[test]
fn checkpoints_stand_as_the_table_says() {
    let mut checkpoints = 0;
    for log in logs() {
        for (object, bytes) in &log.objects {
            let Object::Checkpoint(id) = object else { continue };
            let header = CheckpointHeader::decode(bytes).unwrap();
            assert_eq!(header.id, *id);
            let owned = Checkpoint::from_bytes(bytes).unwrap();
            assert_eq!(owned.to_bytes().unwrap(), *bytes);
            agree(
                "field of a checkpoint",
                bytes,
                header.log,
                &[
                    ("magic `CKPT`", number(&CHECKPOINT_MAGIC)),
                    ("version: 1", CHECKPOINT_VERSION.into()),
                    ("zero", 0),
                    ("log UUID", 0),
                    ("epoch", header.epoch),
                    ("checkpoint id", header.id.value()),
                    ("LSN c", header.lsn.value()),
                    ("replay floor", header.floor.value()),
                    ("creation time, seconds", header.created_at),
                    ("number of document ids", owned.document_ids.len() as u64),
                    ("number of chunk ids", owned.chunk_ids.len() as u64),
                    ("length of the metadata", header.metadata_len.into()),
                    ("checksum over bytes 0..76", compute_checksum(&bytes[..76]).into()),
                ],
            );
            let (documents, rest) = bytes[HEADER_LEN..].split_at(16 * owned.document_ids.len());
            assert_eq!(documents, owned.document_ids.iter().flat_map(|id| *id.as_bytes()).collect::<Vec<_>>());
            let chunks: Vec<_> = owned.chunk_ids.iter().flat_map(|id| *id.as_bytes()).collect();
            assert!(rest.starts_with(&chunks));
            let end = bytes.len() - 4;
            assert_eq!(number(&bytes[end..]), compute_checksum(&bytes[..end]).into());
            assert_eq!(number(&bytes[end - 8..end]), bytes.len() as u64);
            checkpoints += 1;
        }
    }
    assert!(checkpoints > 0);
}

#[test]
fn the_metadata_stands_as_the_table_says() {
    let mut read = 0;
    for bytes in logs().iter().filter_map(|log| log.objects.get(&Object::Meta)) {
        let meta = Meta::decode(bytes).unwrap();
        assert_eq!(meta.encode(), bytes[..META_LEN]);
        agree(
            "field of the metadata",
            bytes,
            meta.log,
            &[
                ("magic `WALM`", number(&META_MAGIC)),
                ("version: 1", META_VERSION.into()),
                (
                    "flags: bit 0 closed cleanly, bit 1 a checkpoint holds what is below the low-water mark",
                    u64::from(meta.clean) | u64::from(meta.low_water_covered) << 1,
                ),
                ("zero", 0),
                ("log UUID", 0),
                ("epoch", meta.epoch),
                ("durable LSN", meta.durable.value()),
                ("id of the newest segment", meta.segment),
                ("its nonce", meta.nonce),
                ("low-water mark", meta.low_water.value()),
                ("position", meta.position.into()),
                ("the last LSN that counts in the segments before it", meta.before.value()),
                ("checksum over bytes 0..76", compute_checksum(&bytes[..76]).into()),
            ],
        );
        read += 1;
    }
    assert_eq!(read, 3);
}

#[test]
fn the_tables_of_codes_are_those_of_the_code() {
    let entries: Vec<_> = table("| entry |").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let known: Vec<_> = Code::ALL.iter().map(|code| (code.value().to_string(), format!("{code:?}"))).collect();
    assert_eq!(entries, known);

    let slot = [0; SLOT_MAX];
    let marks = [
        ("durable mark", Mark::Durable),
        ("epoch mark", Mark::Epoch(1)),
        ("low-water mark", Mark::LowWater { lsn: Lsn::FIRST, covered: false }),
        ("application slot", Mark::Slot(&slot)),
        ("seal", Mark::Seal),
    ];
    let rows = table("| mark |");
    assert_eq!(rows.len(), marks.len());
    for (row, (name, mark)) in rows.iter().zip(marks) {
        assert_eq!(row[..2], [mark.code().to_string(), name.to_owned()]);
        assert!(row[2].starts_with("durable LSN (8)"));
        let longest = match mark {
            Mark::Durable | Mark::Seal => 8,
            Mark::Epoch(_) => 8 + 8,
            Mark::LowWater { .. } => 8 + 8 + 1,
            Mark::Slot(_) => 8 + 64,
        };
        assert_eq!(mark.payload_len(), longest, "{name}");
    }
}

#[test]
fn the_check_value_of_the_checksum_is_the_one_that_format_md_names() {
    assert_eq!(compute_checksum(b"123456789"), 0xE306_9283);
    assert!(FORMAT.contains("0xE3069283"));
}

#[test]
fn the_golden_logs_hold_every_code_and_every_mark() {
    let logs = logs();
    let mut codes: Vec<u8> = Vec::new();
    for log in &logs {
        for (bytes, header) in segments(log) {
            let salts = duralog::core::frame::Salts::new(portable, header.log, header.id, header.epoch, header.nonce);
            let mut at = header.frames_at() as usize;
            while at < bytes.len() {
                match salts.header(&bytes[at..], u32::try_from(at).unwrap()) {
                    Ok(frame) => {
                        codes.push(frame.kind.code());
                        at += frame.size as usize;
                    }
                    Err(_) => at += 1,
                }
            }
        }
    }
    codes.sort_unstable();
    codes.dedup();
    let marks = 32..=36;
    assert_eq!(codes, Code::ALL.iter().map(|code| code.value()).chain(marks).collect::<Vec<_>>());
}
