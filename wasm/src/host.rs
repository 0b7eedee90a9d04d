//! What JavaScript offers: the host that is told of outcomes, and the storage.

use wasm_bindgen::prelude::wasm_bindgen;

#[wasm_bindgen]
extern "C" {
    /// Who is told what came of requests: `Engine` in `npm/engine.js`.
    pub type Host;

    /// Entries were appended.
    #[wasm_bindgen(method)]
    pub(crate) fn appended(this: &Host, ticket: u32, first: u64, last: u64, durable: bool);
    /// A request came to a number.
    #[wasm_bindgen(method)]
    pub(crate) fn number(this: &Host, ticket: u32, value: u64);
    /// A request came to bytes.
    #[wasm_bindgen(method)]
    pub(crate) fn chunk(this: &Host, ticket: u32, bytes: &[u8]);
    /// A request came to what was built with the calls below, or to nothing.
    #[wasm_bindgen(method)]
    pub(crate) fn done(this: &Host, ticket: u32);
    /// A request failed.
    #[wasm_bindgen(method)]
    pub(crate) fn failed(this: &Host, ticket: u32, code: &str, message: &str, lsn: u64, place: &str);

    /// An entry of the page that is read.
    #[wasm_bindgen(method)]
    pub(crate) fn entry(this: &Host, lsn: u64, timestamp: f64, code: u8, transaction: u64, batch: bool);
    /// Something of the page that is read was skipped: what was found there follows.
    #[wasm_bindgen(method)]
    pub(crate) fn skipped(this: &Host);
    /// The bytes of an opaque entry, of one that cannot be decoded, or of a checkpoint.
    #[wasm_bindgen(method)]
    pub(crate) fn bytes(this: &Host, bytes: &[u8]);
    /// A document or chunk of the entry.
    #[wasm_bindgen(method)]
    pub(crate) fn item(this: &Host, id: &[u8], chunk: bool, content: &str, embedding: &[f32]);
    /// An id of the entry, or of what is built.
    #[wasm_bindgen(method)]
    pub(crate) fn id(this: &Host, id: &[u8]);

    /// Opens a part of the object that is built: an element of the list of this name.
    #[wasm_bindgen(method)]
    pub(crate) fn part(this: &Host, list: &str);
    /// Closes it.
    #[wasm_bindgen(method)]
    pub(crate) fn end(this: &Host);
    /// A field that is an LSN, or a count of what LSNs count.
    #[wasm_bindgen(method)]
    pub(crate) fn lsn(this: &Host, field: &str, value: u64);
    /// A field that is a number.
    #[wasm_bindgen(method)]
    pub(crate) fn count(this: &Host, field: &str, value: f64);
    /// A field that is true or false.
    #[wasm_bindgen(method)]
    pub(crate) fn flag(this: &Host, field: &str, value: bool);
    /// A field that is text.
    #[wasm_bindgen(method)]
    pub(crate) fn text(this: &Host, field: &str, value: &str);
}

#[wasm_bindgen]
extern "C" {
    /// Where objects are kept: `IndexedDb` or `Files` in the package. What a call gives is a count, a failure (-1 no
    /// space, -2 fenced, -3 gone, -4 read-only, -5 any other), or -100: it goes on, and `resume` tells the same.
    pub type Storage;

    /// Where the second copy of a segment's header stands.
    #[wasm_bindgen(method, getter, js_name = copyOffset)]
    pub(crate) fn copy_offset(this: &Storage) -> u32;
    /// Whether a sync makes durable all that reads return, whatever failed before.
    #[wasm_bindgen(method, getter)]
    pub(crate) fn settled(this: &Storage) -> bool;
    /// Whether a sync that is refused for lack of space has undone everything since the one before.
    #[wasm_bindgen(method, getter, js_name = rollsBack)]
    pub(crate) fn rolls_back(this: &Storage) -> bool;

    /// Opens the storage.
    #[wasm_bindgen(method)]
    pub(crate) fn open(this: &Storage) -> f64;
    /// The names of the objects, each ended by a line feed.
    #[wasm_bindgen(method)]
    pub(crate) fn names(this: &Storage) -> String;
    /// Makes an object, or empties it.
    #[wasm_bindgen(method)]
    pub(crate) fn create(this: &Storage, object: &str) -> f64;
    /// Reads; comes to how many bytes. What was pending is asked again.
    #[wasm_bindgen(method)]
    pub(crate) fn read(this: &Storage, object: &str, at: f64, into: &mut [u8]) -> f64;
    /// Writes.
    #[wasm_bindgen(method)]
    pub(crate) fn write(this: &Storage, object: &str, at: f64, bytes: &[u8]) -> f64;
    /// Removes an object.
    #[wasm_bindgen(method)]
    pub(crate) fn remove(this: &Storage, object: &str) -> f64;
    /// Makes everything before durable.
    #[wasm_bindgen(method)]
    pub(crate) fn sync(this: &Storage) -> f64;
    /// Bytes of an object.
    #[wasm_bindgen(method)]
    pub(crate) fn size(this: &Storage, object: &str) -> f64;
    /// Puts an object together: it will not be written to for a while. Its frames begin at this offset.
    #[wasm_bindgen(method)]
    pub(crate) fn tidy(this: &Storage, object: &str, frames: u32) -> f64;
}
