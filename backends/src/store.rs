//! The state that an application keeps from its log: what it must be able to do, and the ready one for documents.
//!
//! ```text
//! log:   1 insert a   2 insert b   3 checkpoint   4 update a   5 delete b
//! state:                           { a, b }  ──────────────►   { a' }
//! ```
//!
//! A state is a function of the entries alone: whoever applies the same ones in the same order has the same state,
//! bit for bit. So it can be thrown away and made again, from the first entry or from a snapshot and what follows it.

use core::{fmt, ops::Bound};
use std::{collections::BTreeMap, error};

use duralog_core::{
    Lsn,
    operation::{BatchItem, Code, DecodeError, Item, Items, Kind, Operation, OperationRef},
};
use uuid::Uuid;

/// What a log's entries build up.
pub trait StateMachine {
    /// Why a snapshot cannot be loaded.
    type Error: error::Error + Send + Sync + 'static;

    /// Applies the entry at `lsn`. Entries come once, in the order of their LSNs, those of a transaction at the LSN of its
    /// commit. By a [`MemoryStore`](crate::MemoryStore) it is applied when its append has returned: in the mode
    /// [`Immediate`](crate::SyncMode::Immediate) it is durable then, in the others a crash may take it and what was made of it.
    ///
    /// It cannot fail: what is in the log has happened. An operation that makes no sense here does nothing. A panic here
    /// ends the store: its state is not the log's any more.
    fn apply(&mut self, lsn: Lsn, operation: &Operation);

    /// The whole state.
    fn snapshot(&self) -> Snapshot;

    /// Replaces the state by that of a snapshot.
    ///
    /// # Errors
    /// The snapshot is not one of this kind of state, which is then as it was before.
    fn load(&mut self, snapshot: &Snapshot) -> Result<(), Self::Error>;
}

/// A state that was written out, as a checkpoint keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The ids of the documents that it holds.
    pub document_ids: Vec<Uuid>,
    /// The ids of the chunks that it holds.
    pub chunk_ids: Vec<Uuid>,
    /// What the application says about it.
    pub metadata: BTreeMap<String, String>,
    /// The state, as its own kind writes it.
    pub bytes: Vec<u8>,
}

/// A document, or a part of one.
///
/// Two are equal if all their bits are: a NaN equals the same NaN, and 0.0 differs from -0.0.
#[derive(Clone, Debug)]
pub struct Document {
    /// Whether it is a document or a chunk.
    pub kind: Kind,
    /// Its text.
    pub content: String,
    /// Its embedding vector.
    pub embedding: Vec<f32>,
}

impl Document {
    fn item(&self, id: Uuid) -> Item<'_> {
        Item { id, kind: self.kind, content: &self.content, embedding: self.embedding[..].into() }
    }
}

impl From<Item<'_>> for Document {
    fn from(item: Item<'_>) -> Self {
        Self { kind: item.kind, content: item.content.to_owned(), embedding: item.embedding.to_vec() }
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.item(Uuid::nil()) == other.item(Uuid::nil())
    }
}

impl Eq for Document {}

/// Documents and chunks by their ids: the ready [`StateMachine`].
///
/// Inserting and updating both set. Deleting what is not there does nothing. A checkpoint, the limits of a
/// transaction and opaque bytes change nothing here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documents {
    by_id: BTreeMap<Uuid, Document>,
}

/// The first byte of a snapshot of [`Documents`]. What follows is the payload of a batch of inserts, ids ascending.
const VERSION: u8 = 1;

impl Documents {
    /// The document or chunk of this id.
    #[must_use]
    pub fn get(&self, id: Uuid) -> Option<&Document> {
        self.by_id.get(&id)
    }

    /// Whether there is one of this id.
    #[must_use]
    pub fn contains(&self, id: Uuid) -> bool {
        self.by_id.contains_key(&id)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All of them, ids ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Uuid, &Document)> + DoubleEndedIterator {
        self.by_id.iter().map(|(id, document)| (*id, document))
    }

    /// Those behind the id, or all of them, ids ascending.
    pub fn iter_after(&self, id: Option<Uuid>) -> impl DoubleEndedIterator<Item = (Uuid, &Document)> {
        let behind = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id.range((behind, Bound::Unbounded)).map(|(id, document)| (*id, document))
    }

    fn set(&mut self, id: Uuid, kind: Kind, content: &str, embedding: &[f32]) {
        self.by_id.insert(id, Document { kind, content: content.to_owned(), embedding: embedding.to_owned() });
    }

    fn ids(&self, wanted: Kind) -> Vec<Uuid> {
        self.iter().filter(|(_, document)| document.kind == wanted).map(|(id, _)| id).collect()
    }

    fn to_bytes(&self) -> Vec<u8> {
        let items: Vec<Item<'_>> = self.iter().map(|(id, document)| document.item(id)).collect();
        let operation = OperationRef::BatchInsert { items: Items::from(&items[..]) };
        let mut bytes = vec![0; 1 + operation.encoded_len()];
        bytes[0] = VERSION;
        let written = operation.encode(&mut bytes[1..]);
        assert_eq!(written, Ok(bytes.len() - 1), "a buffer of the length that was asked for");
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, LoadError> {
        let (&version, payload) = bytes.split_first().ok_or(LoadError::Empty)?;
        if version != VERSION {
            return Err(LoadError::UnsupportedVersion { version });
        }
        let operation = OperationRef::decode(Code::BatchInsert.value(), None, payload).map_err(LoadError::Decode)?;
        let OperationRef::BatchInsert { items } = operation else { return Ok(Self::default()) };
        let mut last = None;
        let in_order = items.iter().map(|item| match item.id {
            id if last.replace(id) >= Some(id) => Err(LoadError::OutOfOrder { id }),
            id => Ok((id, item.into())),
        });
        // From what is in order a map is built at once, with nothing looked for.
        Ok(Self { by_id: in_order.collect::<Result<_, _>>()? })
    }
}

impl StateMachine for Documents {
    type Error = LoadError;

    fn apply(&mut self, _: Lsn, operation: &Operation) {
        match operation {
            Operation::Insert { id, kind, content, embedding } | Operation::Update { id, kind, content, embedding } => {
                self.set(*id, *kind, content, embedding);
            }
            Operation::Delete { id } => drop(self.by_id.remove(id)),
            Operation::BatchInsert { items } => {
                for BatchItem { id, kind, content, embedding } in items {
                    self.set(*id, *kind, content, embedding);
                }
            }
            Operation::BatchDelete { ids } => {
                for id in ids {
                    self.by_id.remove(id);
                }
            }
            Operation::Checkpoint { .. }
            | Operation::TxnBegin { .. }
            | Operation::TxnCommit { .. }
            | Operation::TxnRollback { .. }
            | Operation::Opaque { .. } => {}
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            document_ids: self.ids(Kind::Document),
            chunk_ids: self.ids(Kind::Chunk),
            metadata: BTreeMap::new(),
            bytes: self.to_bytes(),
        }
    }

    fn load(&mut self, snapshot: &Snapshot) -> Result<(), LoadError> {
        *self = Self::from_bytes(&snapshot.bytes)?;
        Ok(())
    }
}

/// Why bytes are not a snapshot of [`Documents`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// There are none.
    Empty,
    /// The first byte names a version that this program does not know.
    UnsupportedVersion {
        /// The version.
        version: u8,
    },
    /// What follows is not what the version says.
    Decode(DecodeError),
    /// An id stands twice, or behind a higher one.
    OutOfOrder {
        /// The id.
        id: Uuid,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the snapshot is empty"),
            Self::UnsupportedVersion { version } => write!(f, "the snapshot is of version {version}, not {VERSION}"),
            Self::Decode(error) => write!(f, "the snapshot cannot be decoded: {error}"),
            Self::OutOfOrder { id } => write!(f, "the snapshot holds {id} twice or out of order"),
        }
    }
}

impl error::Error for LoadError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Decode(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [f32; 6] =
        [f32::from_bits(0x7FC0_0001), f32::from_bits(0xFF80_0001), f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e-45];

    fn id(n: u8) -> Uuid {
        Uuid::from_bytes([n; 16])
    }

    fn applied(operations: impl IntoIterator<Item = Operation>) -> Documents {
        let mut documents = Documents::default();
        for (operation, lsn) in operations.into_iter().zip(1..) {
            documents.apply(Lsn::new(lsn), &operation);
        }
        documents
    }

    fn sample() -> Documents {
        applied([
            Operation::insert(id(7), "a document", VALUES),
            Operation::insert(id(2), "", []).with_kind(Kind::Chunk),
            Operation::insert(id(9), "zweites Dokument: ö", [0.5]),
        ])
    }

    #[test]
    fn inserting_and_updating_both_set() {
        let documents = applied([
            Operation::update(id(1), "never inserted", [1.0]),
            Operation::insert(id(2), "first", [1.0]),
            Operation::insert(id(2), "second", [2.0]).with_kind(Kind::Chunk),
        ]);
        assert_eq!(documents.get(id(1)).map(|document| &*document.content), Some("never inserted"));
        let second = Document { kind: Kind::Chunk, content: "second".into(), embedding: vec![2.0] };
        assert_eq!(documents.get(id(2)), Some(&second));
        assert_eq!(documents.len(), 2);
    }

    #[test]
    fn deleting_an_unknown_id_does_nothing() {
        let mut documents = sample();
        documents.apply(Lsn::new(4), &Operation::delete(id(1)));
        assert_eq!(documents, sample());
        documents.apply(Lsn::new(5), &Operation::batch_delete([id(1), id(7), id(7)]));
        assert!(!documents.contains(id(7)));
        assert_eq!(documents.len(), 2);
        documents.apply(Lsn::new(6), &Operation::delete(id(2)));
        documents.apply(Lsn::new(7), &Operation::delete(id(9)));
        assert!(documents.is_empty());
    }

    #[test]
    fn a_batch_counts_as_its_items_in_their_order() {
        let items =
            [BatchItem::new(id(1), "first", [1.0]), BatchItem::new(id(1), "last", VALUES).with_kind(Kind::Chunk)];
        let documents = applied([Operation::batch_insert(items)]);
        let last = Document { kind: Kind::Chunk, content: "last".into(), embedding: VALUES.to_vec() };
        assert_eq!(documents.iter().collect::<Vec<_>>(), [(id(1), &last)]);
    }

    #[test]
    fn what_is_no_document_changes_nothing() {
        let mut documents = sample();
        let (lsn, checkpoint_id) = (Lsn::new(3), 1.into());
        for operation in [
            Operation::Checkpoint { lsn, checkpoint_id },
            Operation::TxnBegin { txn_id: 1 },
            Operation::TxnCommit { txn_id: 1 },
            Operation::TxnRollback { txn_id: 1 },
            Operation::opaque(*b"bytes"),
        ] {
            documents.apply(Lsn::new(4), &operation);
        }
        assert_eq!(documents, sample());
    }

    /// Many documents, put and deleted in an order of no pattern.
    #[test]
    fn many_documents_are_what_a_map_of_the_standard_library_holds() {
        let (mut documents, mut expected) = (Documents::default(), BTreeMap::new());
        assert_eq!(documents.get(Uuid::nil()), None, "there is none in an empty store");
        let mut state = 1_u64;
        for step in 0..20_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // First they ascend, then others descend below them, then they come anywhere; in the end most go.
            let id = match step {
                0..1_000 => u128::from(2_000 + step),
                1_000..2_000 => u128::from(2_999 - step),
                _ => u128::from(state >> 33) % 3_000,
            };
            let delete = step > 4_000 && (step > 12_000 || state >> 62 == 0);
            let (lsn, uuid) = (Lsn::new(step + 1), Uuid::from_u128(id));
            if delete {
                documents.apply(lsn, &Operation::delete(uuid));
                expected.remove(&uuid);
            } else {
                documents.apply(lsn, &Operation::insert(uuid, step.to_string(), []));
                expected.insert(uuid, step.to_string());
            }
            assert_eq!(documents.len(), expected.len());
            assert_eq!(documents.get(uuid).map(|document| &document.content), expected.get(&uuid));
            if step % 97 == 0 {
                let of = |(id, document): (Uuid, &Document)| (id, document.content.clone());
                let all: Vec<_> = expected.clone().into_iter().collect();
                assert_eq!(documents.iter().map(of).collect::<Vec<_>>(), all);
                assert!(documents.iter().rev().map(of).eq(all.iter().rev().cloned()));
                assert_eq!(documents.iter().len(), all.len());
                let behind: Vec<_> = all.iter().filter(|(other, _)| *other > uuid).cloned().collect();
                assert_eq!(documents.iter_after(Some(uuid)).map(of).collect::<Vec<_>>(), behind);
                let mut loaded = Documents::default();
                loaded.load(&documents.snapshot()).unwrap();
                assert_eq!(loaded, documents);
            }
        }
        assert!(documents.len() < 1_000, "most were deleted");
    }

    #[test]
    fn documents_come_in_the_order_of_their_ids() {
        assert_eq!(sample().iter().map(|(id, _)| id).collect::<Vec<_>>(), [id(2), id(7), id(9)]);
    }

    #[test]
    fn a_snapshot_loads_to_the_same_state_bit_for_bit() {
        for documents in [sample(), Documents::default()] {
            let snapshot = documents.snapshot();
            let mut loaded = applied([Operation::insert(id(3), "gone with the load", [])]);
            loaded.load(&snapshot).unwrap();
            assert_eq!(loaded, documents);
            assert_eq!(loaded.snapshot(), snapshot);
        }
        let mut loaded = Documents::default();
        loaded.load(&sample().snapshot()).unwrap();
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&loaded.get(id(7)).unwrap().embedding), bits(&VALUES));
    }

    #[test]
    fn a_snapshot_tells_documents_from_chunks() {
        let snapshot = sample().snapshot();
        assert_eq!((snapshot.document_ids, snapshot.chunk_ids), (vec![id(7), id(9)], vec![id(2)]));
    }

    #[test]
    fn the_bytes_of_a_snapshot_are_those_of_a_batch_behind_the_version() {
        let documents = applied([Operation::insert(id(1), "ab", [1.0]).with_kind(Kind::Chunk)]);
        let expected = [&[1, 1][..], &[1; 16], &[1, 2], b"ab", &[4, 0, 0, 0x80, 0x3F]].concat();
        assert_eq!(documents.snapshot().bytes, expected);
    }

    #[test]
    fn bytes_that_are_no_snapshot_are_refused_by_name_and_change_nothing() {
        let load = |bytes: Vec<u8>| {
            let mut documents = sample();
            let error = documents.load(&Snapshot { bytes, ..Snapshot::default() }).unwrap_err();
            assert_eq!(documents, sample());
            error
        };
        let sound = sample().snapshot().bytes;
        assert_eq!(load(vec![]), LoadError::Empty);
        assert_eq!(load(vec![2, 0]), LoadError::UnsupportedVersion { version: 2 });
        for len in 1..sound.len() {
            assert_eq!(load(sound[..len].to_vec()), LoadError::Decode(DecodeError::Truncated), "{len} bytes");
        }
        let behind = LoadError::Decode(DecodeError::TrailingBytes { len: 1 });
        assert_eq!(load([&sound[..], &[0]].concat()), behind);
        let item = [&[5; 16][..], &[0, 0, 0]].concat();
        assert_eq!(load([&[1, 2][..], &item, &item].concat()), LoadError::OutOfOrder { id: id(5) });
        let hostile = [&[1][..], &[0xFF; 9], &[1]].concat();
        assert_eq!(load(hostile), LoadError::Decode(DecodeError::Truncated));
    }
}
