//! The JSON line of one entry, both ways (`README.md`, "Lines").
//!
//! Numbers are read from their text straight to the nearest f32, never by way of an f64, and written as the shortest
//! text that comes back as the same bits.

use std::{
    borrow::Cow,
    fmt,
    io::{self, Write},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use duralog::{BatchItem, Document, Entry, Kind, Operation};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::value::RawValue;
use uuid::Uuid;

/// Why a line is no entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadLine {
    /// The byte of the line at which it is seen, from 1.
    pub(crate) column: usize,
    pub(crate) message: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.message)
    }
}

/// What a line stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// An entry to append.
    Operation(Operation),
    /// A checkpoint of the log that was exported: the log that the line goes to has none, so it takes no entry.
    Checkpoint,
}

/// A field: what stands there, `null` too, or `None` where it is missing.
type Raw<'a> = Option<&'a RawValue>;

fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Raw<'a>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// A field that may be left out: `null` says so too.
fn optional(raw: Raw<'_>) -> Raw<'_> {
    raw.filter(|raw| raw.get() != "null")
}

/// The fields that a line may have. Which it must have depends on `op`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    op: Raw<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Raw<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    kind: Raw<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    content: Raw<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    embedding: Raw<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    items: Raw<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    ids: Raw<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    bytes: Raw<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    checkpoint: Raw<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    txn_id: Raw<'a>,
    /// The log that the entry goes to gives it another.
    #[serde(borrow, default, deserialize_with = "present")]
    lsn: Raw<'a>,
    /// Likewise.
    #[serde(borrow, default, deserialize_with = "present")]
    timestamp_us: Raw<'a>,
}

/// The fields of a checkpoint.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointFields<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Raw<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    lsn: Raw<'a>,
}

/// The fields of one item of a batch.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ItemFields<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Raw<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    kind: Raw<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    content: Raw<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    embedding: Raw<'a>,
}

/// A text that knows where it stands in its line.
#[derive(Clone, Copy)]
struct Text<'a> {
    text: &'a str,
    /// What stands before it, in bytes.
    at: usize,
}

impl<'a> Text<'a> {
    fn new(line: &str, text: &'a str) -> Self {
        Self { text, at: text.as_ptr() as usize - line.as_ptr() as usize }
    }

    fn parse<T: Deserialize<'a>>(self) -> Result<T, BadLine> {
        serde_json::from_str(self.text).map_err(|error| {
            let message = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            let message = message.strip_suffix(&place).unwrap_or(&message);
            let message = if error.is_data() { brief(message).into() } else { format!("not JSON: {message}") };
            BadLine { column: self.at + error.column().max(1), message }
        })
    }

    /// Parses an object. (A list of its values, in their order, would be taken for it.)
    fn object<T: Deserialize<'a>>(self) -> Result<T, BadLine> {
        if self.text.starts_with('{') { self.parse() } else { Err(self.not("an object")) }
    }

    /// Parses a list, each value of which knows its place.
    fn list(self) -> Result<Vec<&'a RawValue>, BadLine> {
        if self.text.starts_with('[') { self.parse() } else { Err(self.not("a list")) }
    }

    fn string(self) -> Result<String, BadLine> {
        if self.text.starts_with('"') { self.parse() } else { Err(self.not("a string")) }
    }

    /// Parses what cannot borrow, and says in plain words what was expected.
    fn expect<T: DeserializeOwned>(self, what: &str) -> Result<T, BadLine> {
        serde_json::from_str(self.text).map_err(|_| self.not(what))
    }

    fn not(self, what: &str) -> BadLine {
        self.bad(format!("{} is not {what}", shown(self.text)))
    }

    fn bad(self, message: impl Into<String>) -> BadLine {
        BadLine { column: self.at + 1, message: message.into() }
    }
}

/// The beginning of a text, for a message.
fn shown(text: &str) -> Cow<'_, str> {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]).into(),
        None => text.into(),
    }
}

/// A message that repeats the name of a field, with the beginning of a long one.
fn brief(message: &str) -> Cow<'_, str> {
    const BEFORE: &str = "unknown field `";
    let parts = message.strip_prefix(BEFORE).and_then(|rest| rest.rsplit_once("`, expected"));
    parts.map_or(message.into(), |(name, expected)| format!("{BEFORE}{}`, expected{expected}", shown(name)).into())
}

/// Reads a line, without the end of the line.
pub(crate) fn parse(line: &[u8]) -> Result<Line, BadLine> {
    let line = str::from_utf8(line)
        .map_err(|error| BadLine { column: error.valid_up_to() + 1, message: "not UTF-8".to_owned() })?;
    if line.starts_with('\u{FEFF}') {
        return Err(BadLine { column: 1, message: "a byte order mark: save the file as UTF-8 without one".to_owned() });
    }
    if line.trim_ascii().is_empty() {
        return Err(BadLine { column: 1, message: "an empty line".to_owned() });
    }
    let whole = Text::new(line, line.trim_ascii());
    Parser { line }.line(&whole.object()?)
}

struct Parser<'a> {
    line: &'a str,
}

impl<'a> Parser<'a> {
    fn line(&self, fields: &Fields<'a>) -> Result<Line, BadLine> {
        let op = match optional(fields.op) {
            Some(op) => self.text(op).expect::<String>("the name of an operation")?,
            None => "insert".to_owned(),
        };
        let takes: &[&str] = match &*op {
            "insert" | "update" => &["id", "kind", "content", "embedding"],
            // Whoever writes all lines alike need not leave these out.
            "delete" => &["id", "kind", "content", "embedding"],
            "batch_insert" => &["items"],
            "batch_delete" => &["ids"],
            "opaque" => &["bytes"],
            "checkpoint" => &["checkpoint"],
            "txn_begin" | "txn_commit" | "txn_rollback" => &["txn_id"],
            _ => {
                let at = fields.op.map_or(self.whole(), |op| self.text(op));
                return Err(at.bad(format!("there is no operation `{}`", shown(&op))));
            }
        };
        if let Some(txn_id) = optional(fields.txn_id) {
            return Err(self.text(txn_id).bad("an entry of a transaction, which import does not take"));
        }
        self.check(fields, &op, takes)?;
        for raw in [fields.lsn, fields.timestamp_us] {
            self.number(raw)?;
        }
        let operation = match &*op {
            "insert" | "update" => {
                let item = self.item(fields.id, fields.kind, fields.content, fields.embedding, self.whole())?;
                let BatchItem { id, kind, content, embedding } = item;
                match &*op {
                    "insert" => Operation::Insert { id, kind, content, embedding },
                    _ => Operation::Update { id, kind, content, embedding },
                }
            }
            "delete" => Operation::Delete { id: self.id(self.need(fields.id, "id", self.whole())?)? },
            "batch_insert" => self.batch_insert(self.need(fields.items, "items", self.whole())?)?,
            "batch_delete" => {
                let ids = self.need(fields.ids, "ids", self.whole())?.list()?;
                let ids = ids.into_iter().map(|id| self.id(self.text(id)));
                Operation::BatchDelete { ids: ids.collect::<Result<_, _>>()? }
            }
            "opaque" => {
                let bytes = self.need(fields.bytes, "bytes", self.whole())?;
                let encoded = bytes.string()?;
                let decoded = BASE64.decode(encoded).map_err(|error| bytes.bad(format!("not base64: {error}")))?;
                Operation::Opaque { bytes: decoded }
            }
            "checkpoint" => {
                let checkpoint = self.need(fields.checkpoint, "checkpoint", self.whole())?;
                let CheckpointFields { id, lsn } = checkpoint.object()?;
                for (name, raw) in [("id", id), ("lsn", lsn)] {
                    self.need(raw, name, checkpoint)?;
                    self.number(raw)?;
                }
                return Ok(Line::Checkpoint);
            }
            _ => return Err(self.whole().bad(format!("`{op}` belongs to a transaction, which import does not take"))),
        };
        Ok(Line::Operation(operation))
    }

    /// A field that the operation does not take would be lost in silence.
    fn check(&self, fields: &Fields<'a>, op: &str, takes: &[&str]) -> Result<(), BadLine> {
        let present = [
            ("id", fields.id),
            ("kind", fields.kind),
            ("content", fields.content),
            ("embedding", fields.embedding),
            ("items", fields.items),
            ("ids", fields.ids),
            ("bytes", fields.bytes),
            ("checkpoint", fields.checkpoint),
        ];
        for (name, raw) in present {
            if let (Some(raw), false) = (optional(raw), takes.contains(&name)) {
                return Err(self.text(raw).bad(format!("`{op}` takes no `{name}`")));
            }
        }
        Ok(())
    }

    fn text(&self, raw: &'a RawValue) -> Text<'a> {
        Text::new(self.line, raw.get())
    }

    fn whole(&self) -> Text<'a> {
        Text { text: self.line, at: 0 }
    }

    fn need(&self, raw: Raw<'a>, name: &str, within: Text<'a>) -> Result<Text<'a>, BadLine> {
        raw.map(|raw| self.text(raw)).ok_or_else(|| within.bad(format!("the field `{name}` is missing")))
    }

    /// What a log says of an entry in whole numbers is one.
    fn number(&self, raw: Raw<'a>) -> Result<(), BadLine> {
        optional(raw).map_or(Ok(()), |raw| self.text(raw).expect::<u64>("a whole number of 64 bits").map(|_| ()))
    }

    fn id(&self, text: Text<'a>) -> Result<Uuid, BadLine> {
        text.expect("an id: a UUID as a string")
    }

    fn item(
        &self,
        id: Raw<'a>,
        kind: Raw<'a>,
        content: Raw<'a>,
        embedding: Raw<'a>,
        within: Text<'a>,
    ) -> Result<BatchItem, BadLine> {
        let id = self.id(self.need(id, "id", within)?)?;
        let kind = match optional(kind).map(|kind| self.text(kind)) {
            None => Kind::Document,
            Some(kind) => match kind.string().as_deref() {
                Ok("document") => Kind::Document,
                Ok("chunk") => Kind::Chunk,
                _ => return Err(kind.bad(format!("there is no kind {}", shown(kind.text)))),
            },
        };
        let content = self.need(content, "content", within)?.string()?;
        let values = self.need(embedding, "embedding", within)?.list()?;
        let mut embedding = Vec::with_capacity(values.len());
        for value in values {
            embedding.push(float(self.text(value))?);
        }
        Ok(BatchItem { id, kind, content, embedding })
    }

    fn batch_insert(&self, items: Text<'a>) -> Result<Operation, BadLine> {
        let mut parsed = Vec::new();
        for item in items.list()? {
            let within = self.text(item);
            let ItemFields { id, kind, content, embedding } = within.object()?;
            parsed.push(self.item(id, kind, content, embedding, within)?);
        }
        Ok(Operation::BatchInsert { items: parsed })
    }
}

/// The f32 nearest to a JSON number, or the one that a string names.
fn float(text: Text<'_>) -> Result<f32, BadLine> {
    if !text.text.starts_with('"') {
        // What stands here is JSON: a number of it is one that Rust reads too, and rounds once.
        let number = text.text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        let value = if number { text.text.parse().ok() } else { None };
        return value.ok_or_else(|| text.bad(format!("{} is no number", shown(text.text))));
    }
    let name: String = text.parse()?;
    match &*name {
        "NaN" => Ok(f32::from_bits(CANONICAL_NAN)),
        "Infinity" => Ok(f32::INFINITY),
        "-Infinity" => Ok(f32::NEG_INFINITY),
        _ => {
            let digits = name.strip_prefix("0x").filter(|digits| digits.len() == 8);
            let bits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
            let bits = bits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
            bits.map(f32::from_bits).ok_or_else(|| {
                text.bad(format!(
                    "{} is no number: a string may be NaN, Infinity, -Infinity or the eight digits of its bits, as in \
                     0x7fc00001",
                    shown(text.text)
                ))
            })
        }
    }
}

const CANONICAL_NAN: u32 = 0x7FC0_0000;

fn write_float(out: &mut impl Write, value: f32) -> io::Result<()> {
    if value.is_finite() {
        // The shortest digits that come back; those of `Debug` are JSON too, with an exponent where they get long.
        write!(out, "{value:?}")
    } else if value.to_bits() == CANONICAL_NAN {
        out.write_all(br#""NaN""#)
    } else if value == f32::INFINITY {
        out.write_all(br#""Infinity""#)
    } else if value == f32::NEG_INFINITY {
        out.write_all(br#""-Infinity""#)
    } else {
        write!(out, r#""0x{:08x}""#, value.to_bits())
    }
}

/// Writes `items` with commas between them.
fn write_list<T>(
    out: &mut impl Write,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut dyn Write, T) -> io::Result<()>,
) -> io::Result<()> {
    out.write_all(b"[")?;
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        write(out, item)?;
    }
    out.write_all(b"]")
}

fn write_fields(out: &mut impl Write, id: Uuid, kind: Kind, content: &str, embedding: &[f32]) -> io::Result<()> {
    write!(out, r#""id":"{id}""#)?;
    if kind == Kind::Chunk {
        out.write_all(br#","kind":"chunk""#)?;
    }
    out.write_all(br#","content":"#)?;
    serde_json::to_writer(&mut *out, content)?;
    out.write_all(br#","embedding":"#)?;
    write_list(out, embedding, |mut out, value| write_float(&mut out, *value))
}

/// Writes the line of a document, as [`parse`] takes it.
pub(crate) fn write_document(out: &mut impl Write, id: Uuid, document: &Document) -> io::Result<()> {
    out.write_all(b"{")?;
    write_fields(out, id, document.kind, &document.content, &document.embedding)?;
    out.write_all(b"}\n")
}

/// Writes the line of an entry, as [`parse`] takes it.
pub(crate) fn write_entry(out: &mut impl Write, entry: &Entry, operation: &Operation) -> io::Result<()> {
    let op = operation.op_type().to_ascii_lowercase();
    write!(out, r#"{{"lsn":{},"timestamp_us":{},"op":"{op}""#, entry.lsn.value(), entry.timestamp)?;
    if let Some(txn_id) = entry.transaction {
        write!(out, r#","txn_id":{txn_id}"#)?;
    }
    match operation {
        Operation::Insert { id, kind, content, embedding } | Operation::Update { id, kind, content, embedding } => {
            out.write_all(b",")?;
            write_fields(out, *id, *kind, content, embedding)?;
        }
        Operation::Delete { id } => write!(out, r#","id":"{id}""#)?,
        Operation::BatchInsert { items } => {
            out.write_all(br#","items":"#)?;
            write_list(out, items, |mut out, item| {
                out.write_all(b"{")?;
                write_fields(&mut out, item.id, item.kind, &item.content, &item.embedding)?;
                out.write_all(b"}")
            })?;
        }
        Operation::BatchDelete { ids } => {
            out.write_all(br#","ids":"#)?;
            write_list(out, ids, |out, id| write!(out, r#""{id}""#))?;
        }
        Operation::Checkpoint { lsn, checkpoint_id } => {
            write!(out, r#","checkpoint":{{"id":{},"lsn":{}}}"#, checkpoint_id.value(), lsn.value())?;
        }
        // The id of the transaction is the entry's, and stands there already.
        Operation::TxnBegin { .. } | Operation::TxnCommit { .. } | Operation::TxnRollback { .. } => {}
        Operation::Opaque { bytes } => write!(out, r#","bytes":"{}""#, BASE64.encode(bytes))?,
    }
    out.write_all(b"}\n")
}

#[cfg(test)]
mod tests {
    use duralog::{Lsn, SegmentId};

    use super::*;

    const ID: &str = "e38ca490-50de-514a-834c-eb73b7531bf6";

    fn id() -> Uuid {
        Uuid::parse_str(ID).unwrap()
    }

    fn bits(text: &str) -> u32 {
        float(Text { text, at: 0 }).unwrap().to_bits()
    }

    fn written(value: f32) -> String {
        let mut out = Vec::new();
        write_float(&mut out, value).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn entry() -> Entry {
        Entry {
            lsn: Lsn::new(7),
            timestamp: 1_700_000_000_000_000,
            code: 1,
            transaction: None,
            batch_continues: false,
            segment: SegmentId::new(1),
            offset: 256,
            payload: Vec::new(),
        }
    }

    fn line_of(operation: &Operation) -> String {
        let mut out = Vec::new();
        write_entry(&mut out, &entry(), operation).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_number_is_rounded_once() {
        // Just above the middle of 1 and the next f32, by less than an f64 can tell: by way of an f64 it would round
        // to the middle, and from there to 1.
        assert_eq!(bits("1.00000005960464477539062500000001"), 0x3F80_0001);
        assert_eq!("1.00000005960464477539062500000001".parse(), Ok(1.0 + 2.0_f64.powi(-24)));
        assert_eq!(bits("1.000000059604644775390625"), 0x3F80_0000);
        assert_eq!(bits("-0"), 0x8000_0000);
        assert_eq!(bits("-0.0"), 0x8000_0000);
        assert_eq!(bits("1e-45"), 1);
        assert_eq!(bits("1e-400"), 0);
        assert_eq!(bits("3.4028235e38"), f32::MAX.to_bits());
        assert_eq!(bits("1e39"), f32::INFINITY.to_bits());
        assert_eq!(bits("16777217"), 16_777_216_f32.to_bits());
    }

    #[test]
    fn what_json_has_no_number_for_is_a_string() {
        assert_eq!(bits(r#""NaN""#), 0x7FC0_0000);
        assert_eq!(bits(r#""Infinity""#), 0x7F80_0000);
        assert_eq!(bits(r#""-Infinity""#), 0xFF80_0000);
        assert_eq!(bits(r#""0x7fc00001""#), 0x7FC0_0001);
        assert_eq!(bits(r#""0xFF800001""#), 0xFF80_0001);
        for text in [r#""nan""#, r#""0x7fc""#, r#""0x+fc00001""#, r#""1.0""#, r#""""#, "null", "true", "[1]", "{}"] {
            assert!(float(Text { text, at: 0 }).is_err(), "{text}");
        }
    }

    #[test]
    fn every_f32_comes_back_from_what_is_written() {
        let special = [0, 1, 0x007F_FFFF, 0x0080_0000, 0x3F80_0000, 0x7F7F_FFFF, 0x7F80_0000, 0x7F80_0001, 0x7FC0_0000];
        let some = (0..100_000_u32).map(|n| n.wrapping_mul(0x9E37_79B9));
        for half in special.into_iter().chain(some) {
            for pattern in [half, half ^ 0x8000_0000] {
                let text = written(f32::from_bits(pattern));
                assert_eq!(bits(&text), pattern, "{text}");
                assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
            }
        }
        assert_eq!(written(0.1), "0.1");
        assert_eq!(written(f32::from_bits(0x7FC0_0000)), r#""NaN""#);
        assert_eq!(written(f32::from_bits(0x7FC0_0001)), r#""0x7fc00001""#);
        assert_eq!(written(f32::from_bits(0xFFC0_0000)), r#""0xffc00000""#);
    }

    #[test]
    fn what_import_passes_over_is_what_an_export_writes_there_or_the_line_is_bad() {
        for (fields, column) in [
            (r#""op":"checkpoint""#, 1),
            (r#""op":"checkpoint","checkpoint":7"#, 33),
            (r#""op":"checkpoint","checkpoint":{"id":7}"#, 33),
            (r#""op":"checkpoint","checkpoint":{"id":7,"lsn":"a"}"#, 47),
            (r#""op":"opaque","bytes":"","lsn":"a""#, 33),
            (r#""op":"opaque","bytes":"","lsn":-1"#, 33),
            (r#""op":"opaque","bytes":"","timestamp_us":1.5"#, 42),
        ] {
            let refused = parse(format!("{{{fields}}}").as_bytes());
            assert_eq!(refused.as_ref().err().map(|bad| bad.column), Some(column), "{fields}: {refused:?}");
        }
        let line = parse(br#"{"op":"checkpoint","checkpoint":{"id":7,"lsn":9},"lsn":null,"timestamp_us":5}"#);
        assert_eq!(line, Ok(Line::Checkpoint));
    }

    #[test]
    fn a_line_without_op_and_kind_inserts_a_document() {
        let line = format!(r#" {{"id": "{ID}", "content": "gr\u00fcn \ud83d\ude00", "embedding": [1, -0.5]}} "#);
        let expected = Operation::insert(id(), "grün 😀", [1.0, -0.5]);
        assert_eq!(parse(line.as_bytes()), Ok(Line::Operation(expected)));
    }

    #[test]
    fn each_operation_comes_back_from_its_line() {
        let values = [f32::from_bits(0x7FC0_0001), f32::NEG_INFINITY, -0.0, 0.1];
        let item = BatchItem::new(id(), "quote \" line \n zero \0", values).with_kind(Kind::Chunk);
        for operation in [
            Operation::insert(id(), "text", values),
            Operation::insert(id(), "", []).with_kind(Kind::Chunk),
            Operation::update(id(), "text", values).with_kind(Kind::Chunk),
            Operation::delete(id()),
            Operation::batch_insert([item.clone(), BatchItem::new(Uuid::nil(), "", [])]),
            Operation::batch_insert([]),
            Operation::batch_delete([id(), Uuid::max()]),
            Operation::opaque(*b"\0\xFFbytes"),
            Operation::opaque([]),
        ] {
            let line = line_of(&operation);
            assert!(line.starts_with(r#"{"lsn":7,"timestamp_us":1700000000000000,"op":""#), "{line}");
            let text = line.strip_suffix('\n').unwrap();
            assert!(!text.contains('\n'), "{line}");
            assert_eq!(parse(text.as_bytes()), Ok(Line::Operation(operation)), "{line}");
        }
    }

    #[test]
    fn a_checkpoint_takes_no_entry_and_a_transaction_is_refused() {
        let checkpoint = Operation::Checkpoint { lsn: Lsn::new(6), checkpoint_id: 3.into() };
        let line = line_of(&checkpoint);
        assert!(line.ends_with("\"op\":\"checkpoint\",\"checkpoint\":{\"id\":3,\"lsn\":6}}\n"), "{line}");
        assert_eq!(parse(line.as_bytes()), Ok(Line::Checkpoint));
        for operation in [Operation::TxnBegin { txn_id: 5 }, Operation::delete(id())] {
            let mut out = Vec::new();
            write_entry(&mut out, &Entry { transaction: Some(5), ..entry() }, &operation).unwrap();
            let error = parse(&out).unwrap_err();
            assert!(error.message.contains("transaction"), "{error}");
        }
        assert!(parse(br#"{"op":"txn_commit"}"#).unwrap_err().message.contains("transaction"));
    }

    #[test]
    fn a_delete_needs_the_id_alone() {
        let alone = format!(r#"{{"op":"delete","id":"{ID}"}}"#);
        assert_eq!(parse(alone.as_bytes()), Ok(Line::Operation(Operation::delete(id()))));
        let more = format!(r#"{{"op":"delete","id":"{ID}","content":"","embedding":[]}}"#);
        assert_eq!(parse(more.as_bytes()), Ok(Line::Operation(Operation::delete(id()))));
    }

    #[test]
    fn a_bad_line_is_named_by_its_column() {
        // The bar stands before the byte that is named, and is no part of the line.
        for (line, message) in [
            ("|", "an empty line"),
            ("|  ", "an empty line"),
            (" |[]", "[] is not an object"),
            ("|\u{FEFF}{}", "byte order mark"),
            (r#"{"id":"@","content":|null,"embedding":[]}"#, "null is not a string"),
            (r#"{"id":"@","content":"","embedding":|null}"#, "null is not a list"),
            (r#"{"id":|null,"content":"","embedding":[]}"#, "null is not an id"),
            (r#"{"op":"opaque","bytes":|null}"#, "null is not a string"),
            (r#"{"id":"@","content":"","embedding":[0|1]}"#, "not JSON: invalid number"),
            (r#"{"id":"@","content":"","embedding":[|NaN]}"#, "not JSON: expected value"),
            (r#"{"id"|:"#, "EOF"),
            (r#"{"id":|"x","content":"","embedding":[]}"#, "not an id"),
            (r#"{"id":|7,"content":"","embedding":[]}"#, "not an id"),
            (r#"|{"content":"","embedding":[]}"#, "`id` is missing"),
            (r#"|{"id":"@","embedding":[]}"#, "`content` is missing"),
            (r#"|{"id":"@","content":""}"#, "`embedding` is missing"),
            (r#"{"id":"@","content":"","embedding":[0, |"x"]}"#, "\"x\" is no number"),
            (r#"{"id":"@","content":"","embedding":[0, |null]}"#, "null is no number"),
            (r#"{"id":"@","content":"","embedding":|7}"#, "not a list"),
            (r#"{"id":"@","content":|8,"embedding":[]}"#, "not a string"),
            (r#"{"op":|"put","id":"@"}"#, "no operation `put`"),
            (r#"{"kind":|"page","id":"@","content":"","embedding":[]}"#, "no kind \"page\""),
            (r#"{"op":"opaque","bytes":|"*"}"#, "not base64"),
            (r#"{"op":"opaque","bytes":"","id":|"@"}"#, "takes no `id`"),
            (r#"{"op":"batch_delete","ids":["@",|"x"]}"#, "not an id"),
            (r#"{"op":"batch_insert","items":[{"id":"@","content":"","embedding":[|"x"]}]}"#, "\"x\" is no number"),
            (r#"{"op":"batch_insert","items":[|["@",null,"",[]]]}"#, "not an object"),
        ] {
            let line = line.replace('@', ID);
            let column = line.find('|').unwrap() + 1;
            let error = parse(line.replace('|', "").as_bytes()).unwrap_err();
            assert!(error.message.contains(message), "{line}: {error}");
            assert_eq!(error.column, column, "{line}: {error}");
        }
        assert_eq!(parse(b"{\"id\":\"\xFF\"}").unwrap_err(), BadLine { column: 8, message: "not UTF-8".into() });
    }

    #[test]
    fn a_field_that_may_be_left_out_may_be_null() {
        let line =
            format!(r#"{{"op":null,"id":"{ID}","kind":null,"content":"a","embedding":[],"items":null,"lsn":null}}"#);
        assert_eq!(parse(line.as_bytes()), Ok(Line::Operation(Operation::insert(id(), "a", []))));
    }

    #[test]
    fn a_kind_and_an_operation_may_be_written_with_escapes_as_any_string() {
        let line = format!(r#"{{"op":"up\u0064ate","id":"{ID}","kind":"\u0063hunk","content":"a","embedding":[]}}"#);
        let update = Operation::update(id(), "a", []).with_kind(Kind::Chunk);
        assert_eq!(parse(line.as_bytes()), Ok(Line::Operation(update)));
    }

    #[test]
    fn nothing_that_is_not_understood_is_passed_over() {
        let unknown = format!(r#"{{"id":"{ID}","content":"","embedding":[],"title":"lost"}}"#);
        assert!(parse(unknown.as_bytes()).unwrap_err().message.contains("unknown field `title`"));
        let long = parse(format!(r#"{{"{}`, expected":1}}"#, "k".repeat(100_000)).as_bytes()).unwrap_err().message;
        assert!(long.len() < 300 && long.contains("`kkkk") && long.contains("expected one of `op`"), "{long}");
        let twice = format!(r#"{{"id":"{ID}","id":"{ID}","content":"","embedding":[]}}"#);
        assert!(parse(twice.as_bytes()).unwrap_err().message.contains("duplicate field `id`"));
        let behind = format!(r#"{{"id":"{ID}","content":"","embedding":[]}} {{}}"#);
        assert!(parse(behind.as_bytes()).unwrap_err().message.contains("trailing"));
        let surrogate = format!(r#"{{"id":"{ID}","content":"\ud800","embedding":[]}}"#);
        assert!(parse(surrogate.as_bytes()).is_err());
    }
}
