//! Operations and their payloads (`FORMAT.md`, section 4).
//!
//! ```text
//! item:  id (16) | kind (1) | length | content, UTF-8 | length in bytes | embedding, 4 bytes a value
//! ```
//!
//! There is one codec, that of [`OperationRef`], which borrows everything: what is written from the caller's memory,
//! what is read from the payload. With the feature `alloc`, `Operation` owns what it holds and is written through
//! the borrowed form. A payload is what stands behind the transaction's id: bit 6 of the operation type and
//! the id belong to the frame.

use core::fmt;

use postcard::{Serializer, ser_flavors::Flavor};
use serde::{Deserialize, Serialize, Serializer as _};
use uuid::Uuid;

use crate::{CheckpointId, Lsn};

#[cfg(feature = "alloc")]
pub use owned::{BatchItem, Operation};

/// What an inserted item is to the application, so that a checkpoint can tell documents from chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[serde(into = "u8", try_from = "u8")]
pub enum Kind {
    /// A document of its own, written as 0.
    #[default]
    Document,
    /// A part of a document, written as 1.
    Chunk,
}

impl From<Kind> for u8 {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Document => 0,
            Kind::Chunk => 1,
        }
    }
}

impl TryFrom<u8> for Kind {
    type Error = DecodeError;

    fn try_from(kind: u8) -> Result<Self, DecodeError> {
        match kind {
            0 => Ok(Self::Document),
            1 => Ok(Self::Chunk),
            _ => Err(DecodeError::UnknownKind { kind }),
        }
    }
}

/// An embedding vector, borrowed from the caller's values or from the bytes of a payload.
///
/// Every value is kept bit for bit, the bits of a NaN included, and two embeddings are equal if their bits are: a NaN
/// equals the same NaN, and 0.0 differs from -0.0.
#[derive(Clone, Copy)]
pub struct Embedding<'a>(Values<'a>);

#[derive(Clone, Copy)]
enum Values<'a> {
    Native(&'a [f32]),
    Encoded(&'a [[u8; 4]]),
}

impl<'a> Embedding<'a> {
    /// The embedding of no values.
    pub const EMPTY: Self = Self(Values::Native(&[]));

    /// The embedding whose values stand in `bytes` as little-endian binary32, or `None` where the length is not a
    /// multiple of four.
    #[must_use]
    pub const fn from_le_bytes(bytes: &'a [u8]) -> Option<Self> {
        match bytes.as_chunks() {
            (values, []) => Some(Self(Values::Encoded(values))),
            _ => None,
        }
    }

    /// The number of values.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.0 {
            Values::Native(values) => values.len(),
            Values::Encoded(values) => values.len(),
        }
    }

    /// Whether there is no value.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values in order, bit for bit.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = f32> + Clone + use<'a> {
        let values = self.0;
        (0..self.len()).map(move |index| match values {
            Values::Native(values) => values[index],
            Values::Encoded(values) => f32::from_le_bytes(values[index]),
        })
    }

    /// The values, copied in one go.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn to_vec(&self) -> alloc::vec::Vec<f32> {
        match self.0 {
            Values::Native(values) => values.to_vec(),
            Values::Encoded(values) => values.iter().map(|value| f32::from_le_bytes(*value)).collect(),
        }
    }

    fn write(self, to: &mut Serializer<Counted<'_>>) -> postcard::Result<()> {
        match self.0 {
            Values::Encoded(values) => to.serialize_bytes(values.as_flattened()),
            // The same as `serialize_bytes`, for bytes that stand nowhere in one piece.
            Values::Native(values) => {
                size_of_val(values).serialize(&mut *to)?;
                let mut block = [[0; 4]; 64];
                for values in values.chunks(block.len()) {
                    for (bytes, value) in block.iter_mut().zip(values) {
                        *bytes = value.to_le_bytes();
                    }
                    to.output.try_extend(block[..values.len()].as_flattened())?;
                }
                Ok(())
            }
        }
    }
}

impl<'a> From<&'a [f32]> for Embedding<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self(Values::Native(values))
    }
}

impl PartialEq for Embedding<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().map(f32::to_bits).eq(other.iter().map(f32::to_bits))
    }
}

impl Eq for Embedding<'_> {}

impl fmt::Debug for Embedding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// What is inserted or updated, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The id that the application gave it.
    pub id: Uuid,
    /// Whether it is a document or a chunk.
    pub kind: Kind,
    /// Its text.
    pub content: &'a str,
    /// Its embedding vector, which may be empty.
    pub embedding: Embedding<'a>,
}

impl<'a> Item<'a> {
    /// The length of the shortest encoded item: without content, without embedding.
    const MIN_LEN: usize = 16 + 1 + 1 + 1;

    fn write(self, to: &mut Serializer<Counted<'_>>) -> postcard::Result<()> {
        let Self { id, kind, content, embedding } = self;
        to.output.try_extend(id.as_bytes())?;
        to.output.try_push(kind.into())?;
        content.serialize(&mut *to)?;
        embedding.write(to)
    }

    /// Takes an item off the front of `bytes`; also gives what follows it.
    fn take(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), DecodeError> {
        let (&id, rest) = bytes.split_first_chunk().ok_or(DecodeError::Truncated)?;
        let (&kind, rest) = rest.split_first().ok_or(DecodeError::Truncated)?;
        let (content, rest) = postcard::take_from_bytes(rest)?;
        let (embedding, rest) = postcard::take_from_bytes(rest)?;
        let kind = Kind::try_from(kind)?;
        let embedding = Embedding::from_le_bytes(embedding).ok_or(DecodeError::PartialValue)?;
        Ok((Self { id: Uuid::from_bytes(id), kind, content, embedding }, rest))
    }
}

/// The items of a batch, borrowed from the caller's list or from the bytes of a payload.
#[derive(Clone, Copy)]
pub struct Items<'a>(ItemList<'a>);

#[derive(Clone, Copy)]
enum ItemList<'a> {
    Native(&'a [Item<'a>]),
    #[cfg(feature = "alloc")]
    Owned(&'a [BatchItem]),
    // Each of the `count` items in `bytes` was decoded once before this was made.
    Encoded {
        count: usize,
        bytes: &'a [u8],
    },
}

impl<'a> Items<'a> {
    /// The number of items.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.0 {
            ItemList::Native(items) => items.len(),
            #[cfg(feature = "alloc")]
            ItemList::Owned(items) => items.len(),
            ItemList::Encoded { count, .. } => count,
        }
    }

    /// Whether there is no item.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The items in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Item<'a>> + Clone + use<'a> {
        ItemIter(*self)
    }

    fn split_first(self) -> Option<(Item<'a>, Self)> {
        match self.0 {
            ItemList::Native(items) => {
                let (first, rest) = items.split_first()?;
                Some((*first, Self(ItemList::Native(rest))))
            }
            #[cfg(feature = "alloc")]
            ItemList::Owned(items) => {
                let (first, rest) = items.split_first()?;
                Some((first.borrowed(), Self(ItemList::Owned(rest))))
            }
            ItemList::Encoded { count, bytes } => {
                let count = count.checked_sub(1)?;
                let (first, bytes) = Item::take(bytes).ok()?;
                Some((first, Self(ItemList::Encoded { count, bytes })))
            }
        }
    }

    fn write(self, to: &mut Serializer<Counted<'_>>) -> postcard::Result<()> {
        self.len().serialize(&mut *to)?;
        match self.0 {
            ItemList::Encoded { bytes, .. } => to.output.try_extend(bytes),
            _ => self.iter().try_for_each(|item| item.write(to)),
        }
    }

    fn take(payload: &'a [u8]) -> Result<(Self, &'a [u8]), DecodeError> {
        let (count, bytes) = take_count(payload, Item::MIN_LEN)?;
        let mut rest = bytes;
        for _ in 0..count {
            (_, rest) = Item::take(rest)?;
        }
        let bytes = &bytes[..bytes.len() - rest.len()];
        Ok((Self(ItemList::Encoded { count, bytes }), rest))
    }
}

impl<'a> From<&'a [Item<'a>]> for Items<'a> {
    fn from(items: &'a [Item<'a>]) -> Self {
        Self(ItemList::Native(items))
    }
}

#[cfg(feature = "alloc")]
impl<'a> From<&'a [BatchItem]> for Items<'a> {
    fn from(items: &'a [BatchItem]) -> Self {
        Self(ItemList::Owned(items))
    }
}

impl PartialEq for Items<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Items<'_> {}

impl fmt::Debug for Items<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[derive(Clone)]
struct ItemIter<'a>(Items<'a>);

impl<'a> Iterator for ItemIter<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.len(), Some(self.0.len()))
    }
}

impl ExactSizeIterator for ItemIter<'_> {}

/// The ids of a batch, borrowed from the caller's list or from the bytes of a payload.
#[derive(Clone, Copy)]
pub struct Ids<'a>(IdList<'a>);

#[derive(Clone, Copy)]
enum IdList<'a> {
    Native(&'a [Uuid]),
    Encoded(&'a [[u8; 16]]),
}

impl<'a> Ids<'a> {
    /// The number of ids.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.0 {
            IdList::Native(ids) => ids.len(),
            IdList::Encoded(ids) => ids.len(),
        }
    }

    /// Whether there is no id.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ids in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Uuid> + Clone + use<'a> {
        let ids = self.0;
        (0..self.len()).map(move |index| match ids {
            IdList::Native(ids) => ids[index],
            IdList::Encoded(ids) => Uuid::from_bytes(ids[index]),
        })
    }

    fn write(self, to: &mut Serializer<Counted<'_>>) -> postcard::Result<()> {
        self.len().serialize(&mut *to)?;
        self.iter().try_for_each(|id| to.output.try_extend(id.as_bytes()))
    }

    fn take(payload: &'a [u8]) -> Result<(Self, &'a [u8]), DecodeError> {
        let (count, bytes) = take_count(payload, size_of::<Uuid>())?;
        // No overflow: so many ids are on hand.
        let (ids, rest) = bytes.split_at(count * size_of::<Uuid>());
        Ok((Self(IdList::Encoded(ids.as_chunks().0)), rest))
    }
}

impl<'a> From<&'a [Uuid]> for Ids<'a> {
    fn from(ids: &'a [Uuid]) -> Self {
        Self(IdList::Native(ids))
    }
}

impl PartialEq for Ids<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Ids<'_> {}

impl fmt::Debug for Ids<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Takes a count off the front of a payload and refuses one for which the bytes behind it cannot suffice.
fn take_count(payload: &[u8], min_len: usize) -> Result<(usize, &[u8]), DecodeError> {
    let (count, rest) = postcard::take_from_bytes::<u64>(payload)?;
    match usize::try_from(count) {
        Ok(count) if count <= rest.len() / min_len => Ok((count, rest)),
        _ => Err(DecodeError::Truncated),
    }
}

/// The code of an entry: what kind of operation it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Code {
    /// An item was inserted.
    Insert = 1,
    /// An item was updated.
    Update = 2,
    /// An item was deleted.
    Delete = 3,
    /// Several items were inserted.
    BatchInsert = 4,
    /// Several items were deleted.
    BatchDelete = 5,
    /// A checkpoint was made durable.
    Checkpoint = 6,
    /// A transaction began.
    TxnBegin = 7,
    /// A transaction was committed.
    TxnCommit = 8,
    /// A transaction was given up.
    TxnRollback = 9,
    /// The application's own bytes.
    Opaque = 10,
}

impl Code {
    /// All codes, in ascending order.
    pub const ALL: [Self; 10] = [
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::BatchInsert,
        Self::BatchDelete,
        Self::Checkpoint,
        Self::TxnBegin,
        Self::TxnCommit,
        Self::TxnRollback,
        Self::Opaque,
    ];

    /// The code written as `value`, or `None` where version 1 has no such entry.
    #[must_use]
    pub fn from_u8(value: u8) -> Option<Self> {
        let index = usize::from(value).checked_sub(1)?;
        Self::ALL.get(index).copied()
    }

    /// How the code is written: bits 0 to 5 of an operation type.
    #[must_use]
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// Whether a program may append it as it is: the others are the log's own, with calls for what they say.
    #[must_use]
    pub const fn is_free(self) -> bool {
        !matches!(self, Self::Checkpoint | Self::TxnBegin | Self::TxnCommit | Self::TxnRollback)
    }

    /// The name of such an operation in upper case.
    #[must_use]
    pub const fn op_type(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::BatchInsert => "BATCH_INSERT",
            Self::BatchDelete => "BATCH_DELETE",
            Self::Checkpoint => "CHECKPOINT",
            Self::TxnBegin => "TXN_BEGIN",
            Self::TxnCommit => "TXN_COMMIT",
            Self::TxnRollback => "TXN_ROLLBACK",
            Self::Opaque => "OPAQUE",
        }
    }
}

/// An operation that borrows what it holds: what is appended without a copy, and what a payload is decoded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationRef<'a> {
    /// Inserts an item.
    Insert(Item<'a>),
    /// Replaces the item of the same id.
    Update(Item<'a>),
    /// Deletes an item.
    Delete {
        /// The item's id.
        id: Uuid,
    },
    /// Inserts several items.
    BatchInsert {
        /// The items in order.
        items: Items<'a>,
    },
    /// Deletes several items.
    BatchDelete {
        /// The items' ids in order.
        ids: Ids<'a>,
    },
    /// Says that a checkpoint is durable.
    Checkpoint {
        /// The LSN up to which the checkpoint contains every entry.
        lsn: Lsn,
        /// The checkpoint's id.
        checkpoint_id: CheckpointId,
    },
    /// Begins a transaction.
    TxnBegin {
        /// The transaction's id.
        txn_id: u64,
    },
    /// Commits a transaction.
    TxnCommit {
        /// The transaction's id.
        txn_id: u64,
    },
    /// Gives a transaction up.
    TxnRollback {
        /// The transaction's id.
        txn_id: u64,
    },
    /// Carries bytes that only the application understands.
    Opaque(&'a [u8]),
}

impl<'a> OperationRef<'a> {
    /// The code of the entry that holds this operation.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Insert(_) => Code::Insert,
            Self::Update(_) => Code::Update,
            Self::Delete { .. } => Code::Delete,
            Self::BatchInsert { .. } => Code::BatchInsert,
            Self::BatchDelete { .. } => Code::BatchDelete,
            Self::Checkpoint { .. } => Code::Checkpoint,
            Self::TxnBegin { .. } => Code::TxnBegin,
            Self::TxnCommit { .. } => Code::TxnCommit,
            Self::TxnRollback { .. } => Code::TxnRollback,
            Self::Opaque(_) => Code::Opaque,
        }
    }

    /// The name of the operation in upper case, such as `BATCH_INSERT`.
    #[must_use]
    pub const fn op_type(&self) -> &'static str {
        self.code().op_type()
    }

    /// The length of the payload in bytes, without a transaction's id; `usize::MAX` where it is beyond counting.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.written(&mut [])
    }

    /// Writes the payload to the front of `buf` and returns its length in bytes.
    ///
    /// # Errors
    /// [`EncodeError::BufferTooSmall`]: `buf` is shorter than [`encoded_len`](Self::encoded_len); what it holds then
    /// is not specified.
    pub fn encode(&self, buf: &mut [u8]) -> Result<usize, EncodeError> {
        match self.written(buf) {
            needed if needed > buf.len() => Err(EncodeError::BufferTooSmall { needed }),
            len => Ok(len),
        }
    }

    /// Writes what there is room for, and counts all.
    fn written(&self, buf: &mut [u8]) -> usize {
        let mut to = Serializer { output: Counted { buf, len: 0 } };
        match self.write(&mut to) {
            Ok(()) => to.output.len,
            Err(_) => usize::MAX,
        }
    }

    fn write(&self, to: &mut Serializer<Counted<'_>>) -> postcard::Result<()> {
        match *self {
            Self::Insert(item) | Self::Update(item) => item.write(to),
            Self::Delete { id } => to.output.try_extend(id.as_bytes()),
            Self::BatchInsert { items } => items.write(to),
            Self::BatchDelete { ids } => ids.write(to),
            Self::Checkpoint { lsn, checkpoint_id } => (lsn, checkpoint_id).serialize(to),
            Self::TxnBegin { .. } | Self::TxnCommit { .. } | Self::TxnRollback { .. } => Ok(()),
            Self::Opaque(bytes) => to.output.try_extend(bytes),
        }
    }

    /// The operation whose code is `code`, whose transaction is `txn_id` (where bit 6 is set) and whose payload,
    /// behind the transaction's id, is `payload`.
    ///
    /// The work is bounded by the length of `payload`, whatever its bytes are. All of it is checked here, so that
    /// going through the items of a batch later cannot fail.
    ///
    /// # Errors
    /// [`DecodeError`]: the code is none of version 1, or the payload is not one of it.
    pub fn decode(code: u8, txn_id: Option<u64>, payload: &'a [u8]) -> Result<Self, DecodeError> {
        let code = Code::from_u8(code).ok_or(DecodeError::UnknownCode { code })?;
        let (operation, rest) = match code {
            Code::Insert => Item::take(payload).map(|(item, rest)| (Self::Insert(item), rest))?,
            Code::Update => Item::take(payload).map(|(item, rest)| (Self::Update(item), rest))?,
            Code::Delete => {
                let (id, rest) = payload.split_first_chunk().ok_or(DecodeError::Truncated)?;
                (Self::Delete { id: Uuid::from_bytes(*id) }, rest)
            }
            Code::BatchInsert => Items::take(payload).map(|(items, rest)| (Self::BatchInsert { items }, rest))?,
            Code::BatchDelete => Ids::take(payload).map(|(ids, rest)| (Self::BatchDelete { ids }, rest))?,
            Code::Checkpoint => {
                let ((lsn, checkpoint_id), rest) = postcard::take_from_bytes(payload)?;
                (Self::Checkpoint { lsn, checkpoint_id }, rest)
            }
            Code::TxnBegin | Code::TxnCommit | Code::TxnRollback => {
                let txn_id = txn_id.ok_or(DecodeError::NoTransaction)?;
                let operation = match code {
                    Code::TxnBegin => Self::TxnBegin { txn_id },
                    Code::TxnCommit => Self::TxnCommit { txn_id },
                    _ => Self::TxnRollback { txn_id },
                };
                (operation, payload)
            }
            Code::Opaque => (Self::Opaque(payload), &[][..]),
        };
        match rest.len() {
            0 => Ok(operation),
            len => Err(DecodeError::TrailingBytes { len }),
        }
    }
}

/// Counts what is written to it, which cannot overflow, and keeps it as far as there is room.
struct Counted<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl Flavor for Counted<'_> {
    type Output = usize;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        let end = self.len.saturating_add(bytes.len());
        if let Some(room) = self.buf.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
        }
        self.len = end;
        Ok(())
    }

    fn finalize(self) -> postcard::Result<usize> {
        Ok(self.len)
    }
}

/// Why an operation was not encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum EncodeError {
    /// The buffer does not hold the payload.
    BufferTooSmall {
        /// The length of the payload in bytes.
        needed: usize,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferTooSmall { needed } => write!(f, "the buffer is too small: the payload takes {needed} bytes"),
        }
    }
}

impl core::error::Error for EncodeError {}

/// Why bytes are not the payload of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DecodeError {
    /// The code is not that of an entry of version 1.
    UnknownCode {
        /// The code.
        code: u8,
    },
    /// The kind of an item is neither document nor chunk.
    UnknownKind {
        /// The kind as it was written.
        kind: u8,
    },
    /// The payload ends too early, or a length or count in it names more than there is.
    Truncated,
    /// Something follows the operation.
    TrailingBytes {
        /// The number of bytes that follow.
        len: usize,
    },
    /// A number does not end, or is higher than its type allows.
    InvalidVarint,
    /// The content of an item is not UTF-8.
    InvalidUtf8,
    /// The length of an embedding is not a multiple of four bytes.
    PartialValue,
    /// The operation begins or ends a transaction, and the entry names none.
    NoTransaction,
}

impl From<postcard::Error> for DecodeError {
    fn from(error: postcard::Error) -> Self {
        match error {
            postcard::Error::DeserializeBadVarint => Self::InvalidVarint,
            postcard::Error::DeserializeBadUtf8 => Self::InvalidUtf8,
            _ => Self::Truncated,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCode { code } => write!(f, "version 1 has no entry of code {code}"),
            Self::UnknownKind { kind } => write!(f, "there is no kind {kind} of item"),
            Self::Truncated => f.write_str("the payload ends before the operation does"),
            Self::TrailingBytes { len } => write!(f, "{len} bytes follow the operation"),
            Self::InvalidVarint => f.write_str("a number in the payload is too long"),
            Self::InvalidUtf8 => f.write_str("the content is not UTF-8"),
            Self::PartialValue => f.write_str("the embedding's length is not a multiple of four bytes"),
            Self::NoTransaction => f.write_str("the operation is one of a transaction, but names none"),
        }
    }
}

impl core::error::Error for DecodeError {}

#[cfg(feature = "alloc")]
mod owned {
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;

    use uuid::Uuid;

    use super::{Code, DecodeError, Embedding, Item, Items, Kind, OperationRef};
    use crate::{CheckpointId, Lsn};

    /// An operation that owns what it holds.
    ///
    /// Two operations are equal if they would be written as the same bytes, so embeddings are compared bit for bit.
    #[derive(Clone, Debug)]
    pub enum Operation {
        /// Inserts an item.
        Insert {
            /// The id that the application gave it.
            id: Uuid,
            /// Whether it is a document or a chunk.
            kind: Kind,
            /// Its text.
            content: String,
            /// Its embedding vector, which may be empty.
            embedding: Vec<f32>,
        },
        /// Replaces the item of the same id.
        Update {
            /// The id that the application gave it.
            id: Uuid,
            /// Whether it is a document or a chunk.
            kind: Kind,
            /// Its text.
            content: String,
            /// Its embedding vector, which may be empty.
            embedding: Vec<f32>,
        },
        /// Deletes an item.
        Delete {
            /// The item's id.
            id: Uuid,
        },
        /// Inserts several items.
        BatchInsert {
            /// The items in order.
            items: Vec<BatchItem>,
        },
        /// Deletes several items.
        BatchDelete {
            /// The items' ids in order.
            ids: Vec<Uuid>,
        },
        /// Says that a checkpoint is durable.
        Checkpoint {
            /// The LSN up to which the checkpoint contains every entry.
            lsn: Lsn,
            /// The checkpoint's id.
            checkpoint_id: CheckpointId,
        },
        /// Begins a transaction.
        TxnBegin {
            /// The transaction's id.
            txn_id: u64,
        },
        /// Commits a transaction.
        TxnCommit {
            /// The transaction's id.
            txn_id: u64,
        },
        /// Gives a transaction up.
        TxnRollback {
            /// The transaction's id.
            txn_id: u64,
        },
        /// Carries bytes that only the application understands.
        Opaque {
            /// The bytes.
            bytes: Vec<u8>,
        },
    }

    impl Operation {
        /// Inserts a document; [`with_kind`](Self::with_kind) makes it a chunk.
        pub fn insert(id: Uuid, content: impl Into<String>, embedding: impl Into<Vec<f32>>) -> Self {
            Self::Insert { id, kind: Kind::Document, content: content.into(), embedding: embedding.into() }
        }

        /// Replaces a document; [`with_kind`](Self::with_kind) makes it a chunk.
        pub fn update(id: Uuid, content: impl Into<String>, embedding: impl Into<Vec<f32>>) -> Self {
            Self::Update { id, kind: Kind::Document, content: content.into(), embedding: embedding.into() }
        }

        /// Deletes an item.
        #[must_use]
        pub fn delete(id: Uuid) -> Self {
            Self::Delete { id }
        }

        /// Inserts several items.
        pub fn batch_insert(items: impl Into<Vec<BatchItem>>) -> Self {
            Self::BatchInsert { items: items.into() }
        }

        /// Deletes several items.
        pub fn batch_delete(ids: impl Into<Vec<Uuid>>) -> Self {
            Self::BatchDelete { ids: ids.into() }
        }

        /// Carries the application's own bytes.
        pub fn opaque(bytes: impl Into<Vec<u8>>) -> Self {
            Self::Opaque { bytes: bytes.into() }
        }

        /// The same operation with each item that it inserts or updates being of this kind.
        #[must_use]
        pub fn with_kind(mut self, new: Kind) -> Self {
            match &mut self {
                Self::Insert { kind, .. } | Self::Update { kind, .. } => *kind = new,
                Self::BatchInsert { items } => items.iter_mut().for_each(|item| item.kind = new),
                _ => {}
            }
            self
        }

        /// The operation whose parts are borrowed from this one.
        #[must_use]
        pub fn borrowed(&self) -> OperationRef<'_> {
            match self {
                &Self::Insert { id, kind, ref content, ref embedding } => {
                    OperationRef::Insert(item(id, kind, content, embedding))
                }
                &Self::Update { id, kind, ref content, ref embedding } => {
                    OperationRef::Update(item(id, kind, content, embedding))
                }
                &Self::Delete { id } => OperationRef::Delete { id },
                Self::BatchInsert { items } => OperationRef::BatchInsert { items: Items::from(&items[..]) },
                Self::BatchDelete { ids } => OperationRef::BatchDelete { ids: ids[..].into() },
                &Self::Checkpoint { lsn, checkpoint_id } => OperationRef::Checkpoint { lsn, checkpoint_id },
                &Self::TxnBegin { txn_id } => OperationRef::TxnBegin { txn_id },
                &Self::TxnCommit { txn_id } => OperationRef::TxnCommit { txn_id },
                &Self::TxnRollback { txn_id } => OperationRef::TxnRollback { txn_id },
                Self::Opaque { bytes } => OperationRef::Opaque(bytes),
            }
        }

        /// The code of the entry that holds this operation.
        #[must_use]
        pub fn code(&self) -> Code {
            self.borrowed().code()
        }

        /// The name of the operation in upper case, such as `BATCH_INSERT`.
        #[must_use]
        pub fn op_type(&self) -> &'static str {
            self.code().op_type()
        }

        /// The length of the payload in bytes, without a transaction's id.
        #[must_use]
        pub fn encoded_len(&self) -> usize {
            self.borrowed().encoded_len()
        }

        /// The payload, without a transaction's id.
        #[must_use]
        pub fn to_payload(&self) -> Vec<u8> {
            let operation = self.borrowed();
            let mut payload = vec![0; operation.encoded_len()];
            let written = operation.encode(&mut payload);
            assert_eq!(written, Ok(payload.len()), "an operation takes as many bytes as it says");
            payload
        }

        /// Decodes as [`OperationRef::decode`] does, and copies what was found.
        ///
        /// # Errors
        /// [`DecodeError`]: the code is none of version 1, or the payload is not one of it.
        pub fn decode(code: u8, txn_id: Option<u64>, payload: &[u8]) -> Result<Self, DecodeError> {
            OperationRef::decode(code, txn_id, payload).map(Self::from)
        }
    }

    // By hand: the values of a derived comparison would be numbers, and a NaN would differ from itself.
    impl PartialEq for Operation {
        fn eq(&self, other: &Self) -> bool {
            self.borrowed() == other.borrowed()
        }
    }

    impl Eq for Operation {}

    impl From<OperationRef<'_>> for Operation {
        fn from(operation: OperationRef<'_>) -> Self {
            match operation {
                OperationRef::Insert(item) => {
                    let BatchItem { id, kind, content, embedding } = item.into();
                    Self::Insert { id, kind, content, embedding }
                }
                OperationRef::Update(item) => {
                    let BatchItem { id, kind, content, embedding } = item.into();
                    Self::Update { id, kind, content, embedding }
                }
                OperationRef::Delete { id } => Self::Delete { id },
                OperationRef::BatchInsert { items } => {
                    Self::BatchInsert { items: items.iter().map(BatchItem::from).collect() }
                }
                OperationRef::BatchDelete { ids } => Self::BatchDelete { ids: ids.iter().collect() },
                OperationRef::Checkpoint { lsn, checkpoint_id } => Self::Checkpoint { lsn, checkpoint_id },
                OperationRef::TxnBegin { txn_id } => Self::TxnBegin { txn_id },
                OperationRef::TxnCommit { txn_id } => Self::TxnCommit { txn_id },
                OperationRef::TxnRollback { txn_id } => Self::TxnRollback { txn_id },
                OperationRef::Opaque(bytes) => Self::Opaque { bytes: bytes.into() },
            }
        }
    }

    /// An item of a batch, owned; equality is that of [`Operation`].
    #[derive(Clone, Debug)]
    pub struct BatchItem {
        /// The id that the application gave it.
        pub id: Uuid,
        /// Whether it is a document or a chunk.
        pub kind: Kind,
        /// Its text.
        pub content: String,
        /// Its embedding vector, which may be empty.
        pub embedding: Vec<f32>,
    }

    impl BatchItem {
        /// A document; [`with_kind`](Self::with_kind) makes it a chunk.
        pub fn new(id: Uuid, content: impl Into<String>, embedding: impl Into<Vec<f32>>) -> Self {
            Self { id, kind: Kind::Document, content: content.into(), embedding: embedding.into() }
        }

        /// The same item, of this kind.
        #[must_use]
        pub fn with_kind(self, kind: Kind) -> Self {
            Self { kind, ..self }
        }

        /// The item whose parts are borrowed from this one.
        #[must_use]
        pub fn borrowed(&self) -> Item<'_> {
            item(self.id, self.kind, &self.content, &self.embedding)
        }
    }

    // By hand, for the same reason as above.
    impl PartialEq for BatchItem {
        fn eq(&self, other: &Self) -> bool {
            self.borrowed() == other.borrowed()
        }
    }

    impl Eq for BatchItem {}

    impl From<Item<'_>> for BatchItem {
        fn from(item: Item<'_>) -> Self {
            Self::new(item.id, item.content, item.embedding.iter().collect::<Vec<_>>()).with_kind(item.kind)
        }
    }

    fn item<'a>(id: Uuid, kind: Kind, content: &'a str, embedding: &'a [f32]) -> Item<'a> {
        Item { id, kind, content, embedding: Embedding::from(embedding) }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;
    use std::vec;
    use std::vec::Vec;

    use super::*;

    const ID: Uuid = Uuid::from_bytes(*b"0123456789abcdef");
    const VALUES: [f32; 5] = [f32::from_bits(0x7FC0_0001), f32::INFINITY, f32::NEG_INFINITY, -0.0, 1.0];

    fn item() -> Item<'static> {
        Item { id: ID, kind: Kind::Chunk, content: "zö", embedding: Embedding::from(&VALUES[..]) }
    }

    fn empty_item() -> Item<'static> {
        Item { id: Uuid::max(), kind: Kind::Document, content: "", embedding: Embedding::EMPTY }
    }

    fn item_bytes() -> Vec<u8> {
        let mut bytes = b"0123456789abcdef".to_vec();
        bytes.extend([1, 3, b'z', 0xC3, 0xB6, 20]);
        bytes.extend([0x01, 0x00, 0xC0, 0x7F, 0x00, 0x00, 0x80, 0x7F, 0x00, 0x00, 0x80, 0xFF]);
        bytes.extend([0x00, 0x00, 0x00, 0x80, 0x00, 0x00, 0x80, 0x3F]);
        bytes
    }

    fn empty_item_bytes() -> Vec<u8> {
        let mut bytes = vec![0xFF; 16];
        bytes.extend([0, 0, 0]);
        bytes
    }

    /// Each of the ten operations, with its code, its transaction and its payload as `FORMAT.md` says it.
    fn golden<'a>(items: &'a [Item<'a>], ids: &'a [Uuid]) -> [(OperationRef<'a>, u8, Option<u64>, Vec<u8>); 10] {
        let batch = [&[2][..], &item_bytes(), &empty_item_bytes()].concat();
        let two_ids = [&[2][..], b"0123456789abcdef", &[0xFF; 16]].concat();
        let (lsn, checkpoint_id) = (Lsn::new(300), CheckpointId::new(127));
        [
            (OperationRef::Insert(item()), 1, None, item_bytes()),
            (OperationRef::Update(empty_item()), 2, Some(7), empty_item_bytes()),
            (OperationRef::Delete { id: ID }, 3, None, b"0123456789abcdef".to_vec()),
            (OperationRef::BatchInsert { items: items.into() }, 4, None, batch),
            (OperationRef::BatchDelete { ids: ids.into() }, 5, None, two_ids),
            (OperationRef::Checkpoint { lsn, checkpoint_id }, 6, None, vec![0xAC, 0x02, 0x7F]),
            (OperationRef::TxnBegin { txn_id: 9 }, 7, Some(9), vec![]),
            (OperationRef::TxnCommit { txn_id: 9 }, 8, Some(9), vec![]),
            (OperationRef::TxnRollback { txn_id: u64::MAX }, 9, Some(u64::MAX), vec![]),
            (OperationRef::Opaque(b"\x00opaque\xFF"), 10, None, b"\x00opaque\xFF".to_vec()),
        ]
    }

    const IDS: [Uuid; 2] = [ID, Uuid::max()];

    #[test]
    fn lists_and_embeddings_say_whether_they_hold_anything() {
        assert!(Embedding::EMPTY.is_empty());
        assert!(!item().embedding.is_empty());
        assert!(Items::from(&[] as &[Item<'_>]).is_empty());
        assert!(!Items::from(&[empty_item()][..]).is_empty());
    }

    #[test]
    fn no_item_is_shorter_than_one_without_content_and_without_an_embedding() {
        assert_eq!(Item::MIN_LEN, empty_item_bytes().len());
    }

    #[test]
    fn each_payload_is_the_one_that_the_format_says() {
        for (operation, code, txn_id, bytes) in golden(&[item(), empty_item()], &IDS) {
            let mut buf = [0xEE; 256];
            assert_eq!(operation.encode(&mut buf), Ok(bytes.len()), "{operation:?}");
            assert_eq!(&buf[..bytes.len()], bytes, "{operation:?}");
            assert!(buf[bytes.len()..].iter().all(|&byte| byte == 0xEE), "{operation:?}");
            assert_eq!(operation.encoded_len(), bytes.len());
            assert_eq!(operation.code().value(), code);
            assert_eq!(OperationRef::decode(code, txn_id, &bytes), Ok(operation));
        }
    }

    #[test]
    fn what_was_decoded_encodes_to_the_same_bytes() {
        for (_, code, txn_id, bytes) in golden(&[item(), empty_item()], &IDS) {
            let decoded = OperationRef::decode(code, txn_id, &bytes).unwrap();
            let mut buf = vec![0; decoded.encoded_len()];
            assert_eq!(decoded.encode(&mut buf), Ok(bytes.len()));
            assert_eq!(buf, bytes);
        }
    }

    #[test]
    fn a_buffer_too_small_names_what_is_needed() {
        for (operation, _, _, bytes) in golden(&[item(), empty_item()], &IDS) {
            for len in 0..bytes.len() {
                let mut buf = vec![0; len];
                let needed = bytes.len();
                assert_eq!(operation.encode(&mut buf), Err(EncodeError::BufferTooSmall { needed }));
            }
        }
    }

    #[test]
    fn codes_and_names_are_those_that_users_know() {
        let names = Code::ALL.map(Code::op_type);
        assert_eq!(names[..5], ["INSERT", "UPDATE", "DELETE", "BATCH_INSERT", "BATCH_DELETE"]);
        assert_eq!(names[5..], ["CHECKPOINT", "TXN_BEGIN", "TXN_COMMIT", "TXN_ROLLBACK", "OPAQUE"]);
        for value in 0..=u8::MAX {
            assert_eq!(Code::from_u8(value).map(Code::value), (1..=10).contains(&value).then_some(value));
        }
        assert_eq!(OperationRef::Opaque(b"").op_type(), "OPAQUE");
        let free = Code::ALL.map(Code::is_free);
        assert_eq!(free, [true, true, true, true, true, false, false, false, false, true]);
    }

    #[test]
    fn a_list_without_an_id_is_empty() {
        for (ids, is_empty) in [(&[][..], true), (&[ID][..], false)] {
            let ids = Ids::from(ids);
            assert_eq!((ids.is_empty(), ids.len()), (is_empty, usize::from(!is_empty)));
        }
    }

    #[test]
    fn embeddings_longer_than_a_block_keep_every_bit() {
        for len in [0, 1, 31, 32, 63, 64, 65, 128, 1536] {
            let values: Vec<f32> =
                (0..len).map(|bits: u32| f32::from_bits(bits.wrapping_mul(0x9E37_79B9) ^ 0x7FC0_0001)).collect();
            let item = Item { embedding: Embedding::from(&values[..]), ..empty_item() };
            let mut buf = vec![0; OperationRef::Insert(item).encoded_len()];
            OperationRef::Insert(item).encode(&mut buf).unwrap();
            let Ok(OperationRef::Insert(decoded)) = OperationRef::decode(1, None, &buf) else { panic!("length {len}") };
            assert_eq!(decoded, item);
            assert!(decoded.embedding.iter().map(f32::to_bits).eq(values.iter().map(|value| value.to_bits())));
        }
    }

    #[test]
    fn embeddings_are_equal_if_their_bits_are() {
        let bytes = item_bytes();
        let nan = Embedding::from(&VALUES[..1]);
        assert_eq!(nan, nan);
        assert_eq!(Embedding::from_le_bytes(&bytes[22..42]), Some(item().embedding));
        assert_ne!(nan, Embedding::from(&[f32::from_bits(0x7FC0_0002)][..]));
        assert_ne!(Embedding::from(&[0.0][..]), Embedding::from(&[-0.0][..]));
        assert_ne!(nan, Embedding::EMPTY);
        assert_eq!(Embedding::from_le_bytes(&[0; 7]), None);
        assert_eq!(Embedding::from_le_bytes(&[]), Some(Embedding::EMPTY));
        assert!(Embedding::EMPTY.is_empty());
    }

    #[test]
    fn lists_read_the_same_from_memory_and_from_bytes() {
        let list = [item(), empty_item()];
        let bytes = [&[2][..], &item_bytes(), &empty_item_bytes()].concat();
        let Ok(OperationRef::BatchInsert { items }) = OperationRef::decode(4, None, &bytes) else { panic!() };
        assert_eq!((items.len(), items.is_empty()), (2, false));
        assert_eq!(items.iter().len(), 2);
        assert_eq!(items.iter().collect::<Vec<_>>(), list);
        assert_eq!(std::format!("{items:?}"), std::format!("{:?}", Items::from(&list[..])));
        assert_ne!(items, Items::from(&list[..1]));

        let Ok(OperationRef::BatchDelete { ids }) = OperationRef::decode(5, None, &[0]) else { panic!() };
        assert!(ids.is_empty());
        assert_ne!(ids, Ids::from(&IDS[..]));
        assert_eq!(Ids::from(&IDS[..]).iter().len(), 2);
    }

    #[test]
    fn what_an_operation_holds_is_shown_value_by_value() {
        let (nothing, values) = (empty_item(), Embedding::from(&VALUES[3..]));
        let id = "ffffffff-ffff-ffff-ffff-ffffffffffff";
        let shown = |item: Item<'_>, embedding: &str| {
            let rest = std::format!("kind: Document, content: \"\", embedding: {embedding} }}");
            assert_eq!(std::format!("{item:?}"), std::format!("Item {{ id: {id}, {rest}"));
            std::format!("{item:?}")
        };
        let list = [nothing, Item { embedding: values, ..nothing }];
        let [first, second] = [shown(list[0], "[]"), shown(list[1], "[-0.0, 1.0]")];
        assert_eq!(std::format!("{:?}", Items::from(&list[..])), std::format!("[{first}, {second}]"));
        let ids = std::format!("[30313233-3435-3637-3839-616263646566, {id}]");
        assert_eq!(std::format!("{:?}", Ids::from(&IDS[..])), ids);
        assert_eq!(
            EncodeError::BufferTooSmall { needed: 19 }.to_string(),
            "the buffer is too small: the payload takes 19 bytes"
        );
    }

    #[test]
    fn the_items_of_a_decoded_batch_are_written_as_they_stand() {
        // The length of the content stands in two bytes, where one would do.
        let long = [&[1][..], &[0xFF; 16], &[0, 0x80, 0, 0]].concat();
        let batch = OperationRef::decode(4, None, &long).unwrap();
        assert_eq!(batch, OperationRef::BatchInsert { items: [empty_item()][..].into() });
        let mut buf = [0; 32];
        let len = batch.encode(&mut buf).unwrap();
        assert_eq!((batch.encoded_len(), &buf[..len]), (long.len(), &long[..]));
    }

    #[test]
    fn a_serializer_that_ends_tells_how_many_bytes_there_were_room_or_not() {
        for room in 0..4 {
            let mut buf = [0; 4];
            let to = Counted { buf: &mut buf[..room], len: 0 };
            assert_eq!(postcard::serialize_with_flavor(&(300_u64, 1_u64), to), Ok(3));
        }
    }

    #[test]
    fn payloads_that_break_a_rule_are_refused_by_name() {
        let truncated = Err(DecodeError::Truncated);
        let mut other = item_bytes();
        other[16] = 2;
        assert_eq!(OperationRef::decode(1, None, &other), Err(DecodeError::UnknownKind { kind: 2 }));
        other = item_bytes();
        other[19] = 0xFF;
        assert_eq!(OperationRef::decode(2, None, &other), Err(DecodeError::InvalidUtf8));
        other = item_bytes();
        other[21] = 19;
        assert_eq!(OperationRef::decode(1, None, &other), Err(DecodeError::PartialValue));
        other = item_bytes();
        other.push(0);
        assert_eq!(OperationRef::decode(1, None, &other), Err(DecodeError::TrailingBytes { len: 1 }));
        assert_eq!(OperationRef::decode(3, None, &[0; 15]), truncated);
        assert_eq!(OperationRef::decode(3, None, &[0; 18]), Err(DecodeError::TrailingBytes { len: 2 }));
        assert_eq!(OperationRef::decode(6, None, &[0xFF; 11]), Err(DecodeError::InvalidVarint));
        assert_eq!(OperationRef::decode(7, None, &[]), Err(DecodeError::NoTransaction));
        assert_eq!(OperationRef::decode(8, Some(1), &[1]), Err(DecodeError::TrailingBytes { len: 1 }));
        for code in [0, 11, 31, 32, 63, 255] {
            assert_eq!(OperationRef::decode(code, None, &[]), Err(DecodeError::UnknownCode { code }));
        }
        assert_eq!(DecodeError::UnknownKind { kind: 2 }.to_string(), "there is no kind 2 of item");
    }

    #[test]
    fn a_hostile_count_or_length_costs_no_work() {
        let highest = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
        for code in [4, 5] {
            assert_eq!(OperationRef::decode(code, None, &highest), Err(DecodeError::Truncated));
            let many = [&highest[..], &[0; 400]].concat();
            assert_eq!(OperationRef::decode(code, None, &many), Err(DecodeError::Truncated));
        }
        let long = [&[0; 17][..], &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F], &[0; 40]].concat();
        assert_eq!(OperationRef::decode(1, None, &long), Err(DecodeError::Truncated));
    }

    /// Decodes and, where that succeeds, walks everything.
    fn decode_and_walk(code: u8, payload: &[u8]) {
        for txn_id in [None, Some(1)] {
            let Ok(operation) = OperationRef::decode(code, txn_id, payload) else { continue };
            let mut again = vec![0; payload.len()];
            // Shorter only where a number was written in more bytes than it takes.
            let len = operation.encode(&mut again).expect("no longer than what it was read from");
            assert_eq!(OperationRef::decode(code, txn_id, &again[..len]), Ok(operation));
            if let OperationRef::BatchInsert { items } = operation {
                assert_eq!(items.iter().count(), items.len());
            }
        }
    }

    #[test]
    fn decoding_never_panics_on_one_or_two_bytes() {
        for code in 0..=11 {
            decode_and_walk(code, &[]);
            for a in 0..=u8::MAX {
                decode_and_walk(code, &[a]);
                for b in 0..=u8::MAX {
                    decode_and_walk(code, &[a, b]);
                }
            }
        }
    }

    #[test]
    fn decoding_never_panics_on_what_was_cut_or_changed() {
        for (_, code, txn_id, bytes) in golden(&[item(), empty_item()], &IDS) {
            for len in 0..bytes.len() {
                decode_and_walk(code, &bytes[..len]);
                if code != 10 {
                    assert!(OperationRef::decode(code, txn_id, &bytes[..len]).is_err(), "code {code}, {len} bytes");
                }
            }
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                for value in 0..=u8::MAX {
                    changed[at] = value;
                    (1..=10).for_each(|code| decode_and_walk(code, &changed));
                }
            }
        }
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn owned_operations_are_written_and_read_like_borrowed_ones() {
        for (operation, code, txn_id, bytes) in golden(&[item(), empty_item()], &IDS) {
            let owned = Operation::from(operation);
            assert_eq!(owned.borrowed(), operation);
            assert_eq!((owned.code(), owned.op_type()), (operation.code(), operation.op_type()));
            assert_eq!((owned.to_payload(), owned.encoded_len()), (bytes.clone(), bytes.len()));
            assert_eq!(Operation::decode(code, txn_id, &bytes), Ok(owned));
        }
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn owned_operations_hold_documents_unless_told_otherwise() {
        let insert = Operation::insert(ID, "text", [1.0, 2.0]);
        assert!(matches!(insert, Operation::Insert { kind: Kind::Document, .. }));
        let chunk = insert.clone().with_kind(Kind::Chunk);
        assert!(matches!(chunk, Operation::Insert { kind: Kind::Chunk, .. }));
        assert_ne!(insert, chunk);
        assert_ne!(insert, Operation::update(ID, "text", [1.0, 2.0]));

        let item = BatchItem::new(ID, "text", VALUES);
        assert_eq!(item, BatchItem::from(item.borrowed()), "a NaN is the same NaN");
        assert_ne!(item, BatchItem::new(ID, "texts", VALUES));
        let batch = Operation::batch_insert([item.clone()]).with_kind(Kind::Chunk);
        assert_eq!(batch, Operation::BatchInsert { items: vec![item.with_kind(Kind::Chunk)] });
        assert_eq!(Operation::delete(ID).with_kind(Kind::Chunk), Operation::Delete { id: ID });
        assert_eq!(Operation::batch_delete(IDS).op_type(), "BATCH_DELETE");
        assert_eq!(Operation::opaque(*b"x").to_payload(), b"x");
    }

    #[test]
    fn a_kind_is_one_byte() {
        assert_eq!(Kind::default(), Kind::Document);
        let mut buf = [0; 2];
        assert_eq!(postcard::to_slice(&Kind::Chunk, &mut buf).unwrap(), &[1]);
        assert_eq!(postcard::from_bytes::<Kind>(&[0]), Ok(Kind::Document));
        assert!(postcard::from_bytes::<Kind>(&[2]).is_err());
    }
}
