//! Documents and chunks by their ids: the ready state.
//!
//! ```text
//! leaves:  [ from a ][ from k ][ from t ]        a copy has the same leaves; whoever changes one of them first takes a
//!              │         │         │             leaf of its own in its place
//!           a, c, f   k, m, r   t, u
//! ```

use core::fmt;
use std::{collections::BTreeMap, error, sync::Arc};

use duralog_core::{
    Lsn,
    operation::{BatchItem, Code, DecodeError, Item, Items, Kind, Operation, OperationRef},
};
use uuid::Uuid;

use crate::store::{Snapshot, StateMachine};

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
///
/// A clone takes a moment, however many documents there are, and shares with this one what neither has changed since: it is a
/// view that stands still, to be searched or written out while changes go on.
#[derive(Clone, Default)]
pub struct Documents {
    /// Each with an id that none in it is below and all before it are, but for the first, which holds all that are below the
    /// second. Ids ascend through all of them; none is empty or longer than [`LEAF`].
    leaves: Vec<(Uuid, Arc<Leaf>)>,
    len: usize,
}

type Leaf = Vec<(Uuid, Arc<Document>)>;

/// So many documents stand together at most: that many are moved at worst to make room for one, and copied (as references)
/// at worst where a clone has the leaf, too. A clone copies a reference to each leaf.
const LEAF: usize = 128;

/// So many items, which the iterator is known to have.
struct Counted<I> {
    items: I,
    left: usize,
}

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.left = self.left.saturating_sub(1);
        self.items.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<I: DoubleEndedIterator> DoubleEndedIterator for Counted<I> {
    fn next_back(&mut self) -> Option<I::Item> {
        self.left = self.left.saturating_sub(1);
        self.items.next_back()
    }
}

impl<I: Iterator> ExactSizeIterator for Counted<I> {}

/// The first byte of a snapshot of [`Documents`]. What follows is the payload of a batch of inserts, ids ascending.
const VERSION: u8 = 1;

impl Documents {
    /// The document or chunk of this id.
    #[must_use]
    pub fn get(&self, id: Uuid) -> Option<&Document> {
        let (leaf, index) = self.place(id);
        Some(&self.leaves.get(leaf)?.1[index.ok()?].1)
    }

    /// Whether there is one of this id.
    #[must_use]
    pub fn contains(&self, id: Uuid) -> bool {
        self.get(id).is_some()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, ids ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Uuid, &Document)> + DoubleEndedIterator {
        Counted { items: self.behind(0, 0), left: self.len }
    }

    /// Those behind the id, or all of them, ids ascending.
    pub fn iter_after(&self, id: Option<Uuid>) -> impl DoubleEndedIterator<Item = (Uuid, &Document)> {
        let (leaf, index) = id.map_or((0, Err(0)), |id| self.place(id));
        self.behind(leaf, index.map_or_else(|index| index, |index| index + 1))
    }

    /// Those from a place on.
    fn behind(&self, leaf: usize, index: usize) -> impl DoubleEndedIterator<Item = (Uuid, &Document)> {
        let (first, others) = self.leaves.get(leaf..).and_then(<[_]>::split_first).unzip();
        let first = first.into_iter().flat_map(move |(_, leaf)| &leaf[index..]);
        let others = others.into_iter().flatten().flat_map(|(_, leaf)| &leaf[..]);
        first.chain(others).map(|(id, document)| (*id, &**document))
    }

    /// The leaf that the id belongs to, and where it is there, or where it would be.
    fn place(&self, id: Uuid) -> (usize, Result<usize, usize>) {
        let leaf = self.leaves.partition_point(|(from, _)| *from <= id).saturating_sub(1);
        let among = |(_, leaf): &(_, Arc<Leaf>)| leaf.binary_search_by(|(other, _)| other.cmp(&id));
        (leaf, self.leaves.get(leaf).map_or(Err(0), among))
    }

    fn set(&mut self, id: Uuid, kind: Kind, content: &str, embedding: &[f32]) {
        self.put(id, Document { kind, content: content.to_owned(), embedding: embedding.to_owned() });
    }

    /// Puts it where it belongs. A leaf that is full goes on in a new one behind it: with nothing, where it is only added
    /// to, else with its upper half.
    fn put(&mut self, id: Uuid, document: Document) {
        let document = Arc::new(document);
        let (leaf, place) = self.place(id);
        let Some((_, documents)) = self.leaves.get_mut(leaf) else {
            self.len = 1;
            return self.leaves.push((id, Arc::new(vec![(id, document)])));
        };
        let documents = Arc::make_mut(documents);
        let index = match place {
            Ok(index) => return documents[index].1 = document,
            Err(index) => index,
        };
        self.len += 1;
        if documents.len() < LEAF {
            return documents.insert(index, (id, document));
        }
        let split = if index == LEAF { LEAF } else { LEAF / 2 };
        let mut upper = documents.split_off(split);
        match index.checked_sub(split) {
            Some(index) => upper.insert(index, (id, document)),
            None => documents.insert(index, (id, document)),
        }
        self.leaves.insert(leaf + 1, (upper[0].0, Arc::new(upper)));
    }

    fn remove(&mut self, id: Uuid) {
        if let (leaf, Ok(index)) = self.place(id) {
            self.len -= 1;
            let documents = Arc::make_mut(&mut self.leaves[leaf].1);
            documents.remove(index);
            if documents.is_empty() {
                self.leaves.remove(leaf);
            }
        }
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
        let (mut leaves, mut last, mut len) = (Vec::new(), None, 0);
        let mut items = items.iter().peekable();
        // From what is in order leaves are filled one after another, with nothing looked for.
        while let Some(first) = items.peek() {
            let from = first.id;
            let mut leaf = Vec::with_capacity(LEAF);
            for item in items.by_ref().take(LEAF) {
                let id = item.id;
                if last.replace(id) >= Some(id) {
                    return Err(LoadError::OutOfOrder { id });
                }
                leaf.push((id, Arc::new(item.into())));
            }
            len += leaf.len();
            leaves.push((from, Arc::new(leaf)));
        }
        Ok(Self { leaves, len })
    }
}

impl PartialEq for Documents {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Documents {}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl StateMachine for Documents {
    type Error = LoadError;

    fn apply(&mut self, _: Lsn, operation: &Operation) {
        match operation {
            Operation::Insert { id, kind, content, embedding } | Operation::Update { id, kind, content, embedding } => {
                self.set(*id, *kind, content, embedding);
            }
            Operation::Delete { id } => self.remove(*id),
            Operation::BatchInsert { items } => {
                for BatchItem { id, kind, content, embedding } in items {
                    self.set(*id, *kind, content, embedding);
                }
            }
            Operation::BatchDelete { ids } => ids.iter().for_each(|id| self.remove(*id)),
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

    fn freeze(&self) -> Box<dyn FnOnce() -> Snapshot + Send> {
        let documents = self.clone();
        Box::new(move || documents.snapshot())
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
        let mut kept = (documents.clone(), expected.clone());
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
                assert_eq!(loaded.iter().rev().map(of).collect::<Vec<_>>(), all.into_iter().rev().collect::<Vec<_>>());
                assert!(documents.leaves.iter().all(|(_, leaf)| (1..=LEAF).contains(&leaf.len())));
                // A copy stands still, whatever was put, changed and deleted since.
                assert!(kept.0.iter().map(of).eq(kept.1), "since step {}", step.saturating_sub(97));
                kept = (documents.clone(), expected.clone());
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
