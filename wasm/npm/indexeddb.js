// Storage in IndexedDB. See `Storage` in the Rust sources for what the calls promise.
//
//   store `objects`: name -> 0      store `pieces`: [name, offset, length] -> bytes
//   store `state`: the number of the writer, which is random -> { is: 'writer' }, and no two with the same `is`
//
// What is created, written and removed is gathered, shown to whoever reads, and goes out in one transaction at the next
// sync: whole or not at all. The transaction puts its writer's number first. Where a later writer has opened the log and
// put its own there, that breaks the rule of the store, and nothing is written: the fence costs no round trip, and a page
// that is left can hand over all of it at once. A transaction that only removes asks for the number and puts nothing, so
// that the browser lets it through over quota. A writer that is given no room for its number, and has the lock because nobody
// else had it, leaves the number of the one before it, which goes on fencing all that came earlier, and does something only
// while that number and the pieces are those that it found. One that took the lock from another is refused.
//
// A write is one value; when a segment is sealed, closed or recovered, small values are put together to larger ones, which
// changes no byte of it. A segment's header keeps values of its own, so that reading headers is cheap.

import { later, whole } from './storage.js';

const PIECE_MAX = 4 << 20; // Values are put together up to this, and longer writes are cut into such pieces.
const PIECE_GOOD = 1 << 20; // Values of at least this are left alone: each takes as long as so many bytes.
const READ_AHEAD = 1 << 20; // Read at once by who reads on where he was, if a value is not longer, and once more ahead of him.
const READS_ON = 4096; // Whoever asks for less looks at a header, and not at what follows.
const HOLD_MAX = 6 << 20; // What was read or written last is kept up to this, but for the very last.
const HOLD_EACH = 512; // What a value takes besides its bytes, about.
const GATHER_MAX = 4 << 20; // More than this is not gathered, as a large checkpoint would be.

const WRITER = { is: 'writer' };

export const PREFIX = 'duralog:';

/** The outcome of a request. */
const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

const all = (name) => IDBKeyRange.bound([name], [name, []]);
const between = (name, from, to) => IDBKeyRange.bound([name, from], [name, to], false, true);

export class IndexedDb {
  copyOffset = 128;
  settled = true;
  rollsBack = true;

  constructor(name, { durability, write, create, steal }) {
    // The number of each writer is another one.
    Object.assign(this, { name: PREFIX + name, durability, write_: write, create_: create, steal, writer: Math.random() });
    this.forget();
  }

  forget() {
    this.objects = new Map(); // Name -> its pieces by offset, or null if they were not listed yet.
    this.gathered = [];
    this.puts = false; // Whether any of it takes room.
    this.bytes = 0;
    this.fresh = []; // The pieces among it: their bytes are nowhere else.
    this.held = []; // What was read or written last, oldest first.
    this.heldBytes = 0;
    this.ahead = undefined; // What is being read before it is asked for.
  }

  open() {
    return later(this, async () => {
      if (typeof indexedDB === 'undefined') throw new DOMException('there is no IndexedDB here', 'NotSupportedError');
      const request = indexedDB.open(this.name, 1);
      request.onupgradeneeded = () => {
        if (!this.create_ || !this.write_) return request.transaction.abort();
        for (const store of ['objects', 'pieces']) request.result.createObjectStore(store);
        request.result.createObjectStore('state').createIndex('is', 'is', { unique: true });
      };
      try {
        this.db = await done(request);
      } catch (error) {
        if (error.name === 'AbortError' && !(this.create_ && this.write_)) return; // There is no log, and none is made.
        throw error;
      }
      // It is to be deleted, or was: whoever asks for anything from now on is told that it is gone.
      this.db.onversionchange = this.db.onclose = () => this.db.close();
      if (this.write_) {
        await this.take(true).catch((error) => {
          if (this.steal || error.name !== 'QuotaExceededError') throw error;
          return this.take(false);
        });
      }
      await this.load();
    });
  }

  /** Takes the log from whoever wrote last; where this one's number is not to be put, that one's stays. */
  async take(puts) {
    const transaction = this.db.transaction('state', puts ? 'readwrite' : 'readonly', { durability: this.durability });
    const state = transaction.objectStore('state');
    this.isNumbered = puts;
    if (puts) {
      state.clear();
      state.put(WRITER, this.writer);
      return this.ended(transaction);
    }
    // Before anything else is read: who comes in between is noticed.
    this.before = await done(state.getAllKeys());
    this.found = await done(this.db.transaction('pieces').objectStore('pieces').getAllKeys());
  }

  async load() {
    this.forget();
    const names = await done(this.db.transaction('objects').objectStore('objects').getAllKeys());
    whole(names);
    for (const name of names) this.objects.set(name, null);
  }

  names() {
    return [...this.objects.keys(), ''].join('\n');
  }

  create(name) {
    if (!this.write_) return -4;
    if (this.objects.has(name)) this.remove(name);
    this.objects.set(name, []);
    this.puts = true;
    this.gathered.push(({ objects }) => objects.put(0, name));
    return 0;
  }

  /** The index of the last piece that begins at `at` or before it. */
  find(pieces, at) {
    let low = 0;
    let high = pieces.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (pieces[middle].at <= at) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  async list(name) {
    const keys = await done(this.db.transaction('pieces').objectStore('pieces').getAllKeys(all(name)));
    this.objects.set(name, keys.map(([, at, length]) => ({ at, length })));
  }

  read(name, at, into) {
    const pieces = this.objects.get(name);
    if (pieces === undefined) return -3;
    if (pieces === null) return later(this, () => this.list(name));
    const readsOn = this.last === name && this.lastAt === at && into.length >= READS_ON;
    let index = this.find(pieces, at);
    let filled = 0;
    while (filled < into.length) {
      const piece = pieces[index];
      const skip = piece ? at - piece.at : 0;
      if (!piece || skip >= piece.length) {
        const next = pieces[++index];
        if (!next) break;
        // What was never written is blank, up to what was.
        const length = Math.min(next.at - at, into.length - filled);
        into.fill(0, filled, (filled += length));
        at += length;
        continue;
      }
      if (!piece.bytes) {
        // What came so far is enough for now.
        if (filled) break;
        return later(this, () => this.fetch(name, pieces, index, into.length + skip, readsOn));
      }
      const part = piece.bytes.subarray(skip, skip + into.length - filled);
      into.set(part, filled);
      filled += part.length;
      at += part.length;
    }
    this.last = name;
    this.lastAt = at;
    return filled;
  }

  /** Has so many bytes from the piece on at hand, or more where they are read on from, and then what follows on its way. */
  async fetch(name, pieces, index, length, readsOn) {
    const ahead = this.ahead?.wanted.includes(pieces[index]) && this.ahead;
    const { wanted, end, values } = ahead || this.get(name, pieces, index, readsOn ? Math.max(length, READ_AHEAD) : length);
    this.ahead = undefined;
    const found = await values;
    const isWhole = (piece, index) => found[index] instanceof Uint8Array && found[index].length === piece.length;
    if (found.length !== wanted.length || !wanted.every(isWhole)) {
      throw new DOMException('pieces of the log are missing, or not as they were written', 'NotFoundError');
    }
    wanted.forEach((piece, index) => (piece.bytes = found[index]));
    this.hold(wanted);
    if (ahead || readsOn) this.getAhead(name, pieces, end);
  }

  /** Keeps the bytes of these for a while: they may be asked for again, or put together. */
  hold(pieces) {
    this.held.push(...pieces);
    for (const { length } of pieces) this.heldBytes += length + HOLD_EACH;
    let gone = 0;
    for (; this.heldBytes > HOLD_MAX && this.held.length - gone > pieces.length; gone++) {
      this.held[gone].bytes = undefined;
      this.heldBytes -= this.held[gone].length + HOLD_EACH;
    }
    this.held.splice(0, gone);
  }

  /** Reads on from a piece, or in the next object: it will be asked for. */
  getAhead(name, pieces, index) {
    if (index >= pieces.length) {
      const names = [...this.objects.keys()].sort();
      name = names[names.indexOf(name) + 1];
      pieces = this.objects.get(name);
      index = 0;
    }
    if (!pieces?.[index] || pieces[index].bytes) return;
    this.ahead = this.get(name, pieces, index, READ_AHEAD);
    // Who asks for it is told.
    this.ahead.values.catch(() => {});
  }

  /** Begins to read so many bytes from the piece on. */
  get(name, pieces, index, length) {
    let end = index;
    for (let have = 0; end < pieces.length && have < length && !pieces[end].bytes; end++) have += pieces[end].length;
    const wanted = pieces.slice(index, end);
    const range = IDBKeyRange.bound([name, wanted[0].at], [name, wanted[wanted.length - 1].at, []]);
    return { wanted, end, values: done(this.db.transaction('pieces').objectStore('pieces').getAll(range)) };
  }

  write(name, at, bytes) {
    if (!this.write_) return -4;
    const pieces = this.objects.get(name);
    if (!pieces) return this.listThenWrite(name, at, bytes.slice());
    const last = pieces[pieces.length - 1];
    let index = pieces.length;
    if (last && last.at + last.length > at) {
      // A segment's header comes behind the frames that were copied into it. Nothing is written twice.
      index = this.find(pieces, at) + 1;
      const [before, next] = [pieces[index - 1], pieces[index]];
      if (before && before.at + before.length > at) return -5;
      if (next && next.at < at + bytes.length) return -5;
    }
    for (let from = 0; from < bytes.length; from += PIECE_MAX) {
      const part = bytes.slice(from, from + PIECE_MAX);
      const key = [name, at + from, part.length];
      const piece = { at: at + from, length: part.length, bytes: part };
      pieces.splice(index++, 0, piece);
      this.fresh.push(piece);
      this.gathered.push(({ pieces }) => pieces.put(part, key));
    }
    this.puts = true;
    this.bytes += bytes.length;
    return this.bytes > GATHER_MAX ? this.sync() : 0;
  }

  /** The segment that the log goes on in was not listed yet. */
  listThenWrite(name, at, bytes) {
    if (!this.objects.has(name)) return -3;
    return later(this, async () => {
      await this.list(name);
      return this.write(name, at, bytes);
    });
  }

  remove(name) {
    if (!this.write_) return -4;
    this.objects.delete(name);
    this.gathered.push(({ objects, pieces }) => {
      objects.delete(name);
      pieces.delete(all(name));
    });
    return 0;
  }

  size(name) {
    const pieces = this.objects.get(name);
    if (pieces === undefined) return -3;
    if (pieces === null) {
      return later(this, async () => {
        await this.list(name);
        return this.size(name);
      });
    }
    const last = pieces[pieces.length - 1];
    return last ? last.at + last.length : 0;
  }

  sync() {
    return this.gathered.length ? later(this, () => this.commit(true)) : 0;
  }

  /** Does all that was gathered, in one transaction. `whole`: no step of it waits for what another reads. */
  async commit(whole) {
    const { gathered, puts, isNumbered } = this;
    this.gathered = [];
    this.puts = false;
    this.bytes = 0;
    const fresh = this.fresh;
    this.fresh = [];
    const transaction = this.db.transaction(['objects', 'pieces', 'state'], 'readwrite', { durability: this.durability });
    const stores = {};
    for (const store of ['objects', 'pieces', 'state']) stores[store] = transaction.objectStore(store);
    const { pieces, state } = stores;
    const holds = (request, isRight) =>
      (request.onsuccess = () => {
        if (isRight(request.result)) return;
        this.fenced = true;
        transaction.abort();
      });
    if (!isNumbered) {
      holds(state.getAllKeys(), (keys) => keys.join() === this.before.join());
      holds(pieces.getAllKeys(), (keys) => keys.join() === this.found.join());
      if (puts) state.clear();
    } else if (!puts) {
      holds(state.getKey(this.writer), (key) => key !== undefined);
    }
    if (puts) state.put(WRITER, this.writer).onerror = ({ target }) => (this.fenced ||= target.error.name === 'ConstraintError');
    for (const step of gathered) step(stores);
    if (whole && puts && isNumbered) transaction.commit?.();
    try {
      await this.ended(transaction);
      this.isNumbered ||= puts;
      this.found = this.found?.filter(([name]) => this.objects.has(name));
    } catch (error) {
      // All of it was taken back: what is there is what was there before.
      if (error.name === 'QuotaExceededError') await this.load();
      throw error;
    }
    this.hold(fresh);
  }

  /** Over quota only `abort` is fired; a promise that waits for `error` would wait for ever. */
  ended(transaction) {
    return new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () =>
        reject(
          this.fenced
            ? new DOMException('a later writer has opened the log', 'FencedError')
            : (transaction.error ?? new DOMException('the transaction was aborted', 'AbortError')),
        );
    });
  }

  tidy(name, frames) {
    if (!this.write_) return 0;
    return later(this, async () => {
      if (this.objects.get(name) === null) await this.list(name);
      await this.merge(name, frames);
    });
  }

  async merge(name, frames) {
    const pieces = this.objects.get(name) ?? [];
    const groups = [];
    let group;
    for (const piece of pieces) {
      const joins = group && group.at + group.length === piece.at && group.length + piece.length <= PIECE_MAX;
      if (joins && piece.at > frames) {
        group.length += piece.length;
        group.least = Math.min(group.least, piece.length);
        group.parts.push(piece);
      } else {
        group = { at: piece.at, length: piece.length, least: piece.length, parts: [piece] };
        groups.push(group);
      }
    }
    const merged = groups.filter(({ parts, least }) => parts.length > 1 && least < PIECE_GOOD);
    const isAtHand = ({ parts }) => parts.every(({ bytes }) => bytes);
    for (const group of merged) {
      this.puts = true;
      this.gathered.push(({ pieces }) => {
        const { at, length, parts } = group;
        const range = between(name, at, at + length);
        const put = (values) => {
          // Who reads what is missing is told; nothing is made of it here.
          if (values.length !== parts.length) return;
          group.bytes = new Uint8Array(length);
          let end = 0;
          for (const value of values) {
            group.bytes.set(value, end);
            end += value.length;
          }
          pieces.delete(range);
          pieces.put(group.bytes, [name, at, length]);
        };
        if (isAtHand(group)) put(parts.map(({ bytes }) => bytes));
        else pieces.getAll(range).onsuccess = ({ target }) => put(target.result);
      });
    }
    if (!this.gathered.length) return;
    await this.commit(merged.every(isAtHand));
    for (const { at, length, bytes, parts } of merged.filter(({ bytes }) => bytes)) {
      const piece = { at, length, bytes };
      pieces.splice(pieces.indexOf(parts[0]), parts.length, piece);
      this.hold([piece]);
    }
  }

  close() {
    this.db?.close();
  }

  static async list() {
    const databases = await indexedDB.databases();
    return databases.filter(({ name }) => name.startsWith(PREFIX)).map(({ name }) => name.slice(PREFIX.length));
  }

  static delete(name) {
    return done(indexedDB.deleteDatabase(PREFIX + name));
  }
}
