// One open log in this thread: requests go to the WebAssembly module by ticket, outcomes come back by ticket.

import { DuralogError } from './errors.js';
import { toBytes, toText } from './ids.js';

const TYPES = [
  'undecodable',
  'insert',
  'update',
  'delete',
  'batchInsert',
  'batchDelete',
  'checkpoint',
  'begin',
  'commit',
  'rollback',
  'opaque',
];
const POLICIES = ['strict', 'default', 'point-in-time', 'salvage', 'inspect'];
// Requests that numbers say all of, and figures that are at hand: `request` and `figure` of the module.
const [BEGIN, END, WAIT, MARK, TRUNCATE, READ, REBUILD, VERIFY, STATS, OBJECTS, LOAD, CLOSE] = Array(12).keys();
const [SIZE, CURRENT, SYNCED] = Array(3).keys();
const PAGE_BYTES = 512 << 10;
const DOCUMENTS = 256;

const invalid = (what) => new DuralogError('invalid', what);

/** As they are, bit for bit, where they are such values: converting one by one would make every NaN the same. */
const floats = (values) => {
  if (values instanceof Float32Array) return values;
  if (Array.isArray(values) ? values.every((value) => typeof value === 'number') : values instanceof Float64Array) {
    return Float32Array.from(values);
  }
  throw invalid('an embedding is a Float32Array, or a list of numbers');
};

/** The bytes of a buffer, or of a view on one. */
const bytesOf = (given) => {
  if (ArrayBuffer.isView(given)) return new Uint8Array(given.buffer, given.byteOffset, given.byteLength);
  if (given instanceof ArrayBuffer) return new Uint8Array(given);
  throw invalid('bytes are a Uint8Array, another view or an ArrayBuffer');
};

/** What an option is set to: the module takes whole numbers, and what is true or false. */
const setting = (name, value) => {
  if (typeof value === 'boolean' || Number.isSafeInteger(value) || typeof value === 'bigint') {
    const number = BigInt(value);
    if (number >= 0n && number < 1n << 64n) return number;
  }
  throw new DuralogError('config', `the option ${name} is none, or cannot be ${String(value)}`);
};

/** Why the module stopped for good, if it did: nothing of it can be used any more. */
let panic;

/** A report as the application gets it. */
const reported = (report) => ({ findings: [], ...report, policy: POLICIES[report.policy] });

export class Engine {
  waiting = new Map();
  tickets = 0;
  built = {};
  parts = [];
  page = [];
  /** Entries that were read, by the ticket of who reads. */
  pages = new Map();
  /** What ended reading, by the place that stands for it. */
  ends = new Map();

  constructor(module, storage) {
    this.storage = storage;
    this.core = this.guarded(() => new module.Engine(this));
    storage.resume = (value) => this.run(() => this.core.resume(value));
  }

  /** Calls the module. What it throws is its end: it stands in an unknown state. So whatever comes from the application is looked
   * at before. */
  guarded(call) {
    if (this.released) throw new DuralogError('closed', 'the log is closed');
    if (!panic) {
      try {
        return call();
      } catch (error) {
        if (error instanceof DuralogError) throw error;
        panic = error;
      }
    }
    const error = new DuralogError('panic', 'duralog has stopped by a fault of its own: reload the page', { cause: panic });
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
    throw error;
  }

  run(call) {
    try {
      this.guarded(call);
    } catch {
      // Whoever waits was told.
    }
  }

  /** Makes a request. Those that are made in one turn of the event loop are served together. */
  ask(request) {
    return new Promise((resolve, reject) => {
      const ticket = ++this.tickets;
      this.waiting.set(ticket, { resolve, reject });
      try {
        this.guarded(() => request(this.core, ticket));
      } catch (error) {
        this.waiting.delete(ticket);
        return reject(error);
      }
      if (!this.polls) {
        this.polls = true;
        queueMicrotask(() => {
          this.polls = false;
          this.run(() => this.core.poll());
        });
      }
    });
  }

  request(code, one = 0n, other = 0n, mode = 0) {
    return this.ask((core, ticket) => core.request(ticket, code, one, other, mode));
  }

  take(ticket) {
    const waiting = this.waiting.get(ticket);
    this.waiting.delete(ticket);
    return waiting;
  }

  // What the module tells.

  appended(ticket, first, lsn, durable) {
    const { durability } = this.storage;
    this.take(ticket)?.resolve({ lsn, first, durability: durable ? (durability ?? 'strict') : 'buffered' });
  }

  /** Requests are served one at a time: the entries that came are of the one who reads. */
  turn(ticket) {
    if (!this.pages.has(ticket)) return;
    this.pages.set(ticket, this.page);
    this.page = [];
  }

  number(ticket, value) {
    this.turn(ticket);
    this.built = {};
    this.take(ticket)?.resolve(value);
  }

  chunk(ticket, bytes) {
    this.take(ticket)?.resolve(bytes.slice());
  }

  done(ticket) {
    const built = this.built;
    this.built = {};
    this.take(ticket)?.resolve(built);
  }

  failed(ticket, code, message, lsn, place) {
    this.turn(ticket);
    this.built = {};
    const cause = /^(quota|fenced|gone|poisoned|device)$/.test(code) ? this.storage.failure : undefined;
    this.take(ticket)?.reject(new DuralogError(code, message, { cause, lsn, place }));
  }

  entry(lsn, timestamp, code, transaction, batch) {
    const entry = { lsn, timestamp, type: TYPES[code] };
    if (transaction) entry.transaction = transaction;
    if (batch) entry.batchContinues = true;
    this.page.push(entry);
    this.built = entry;
  }

  skipped() {
    this.page.push((this.built = {}));
  }

  bytes(bytes) {
    this.built.bytes = bytes.slice();
  }

  item(id, chunk, content, embedding) {
    const item = { id: toText(id), kind: chunk ? 'chunk' : 'document', content, embedding: embedding.slice() };
    if (!this.built.type) this.page.push(item);
    else if (this.built.type === 'batchInsert') (this.built.items ??= []).push(item);
    else Object.assign(this.built, item);
  }

  id(id) {
    if (this.built.type === 'batchDelete') (this.built.ids ??= []).push(toText(id));
    else this.built[this.built.type ? 'id' : 'logId'] = toText(id);
  }

  part(list) {
    const part = {};
    if (/s$/.test(list) && list !== 'lsns') (this.built[list] ??= []).push(part);
    else this.built[list] = part;
    this.parts.push(this.built);
    this.built = part;
  }

  end() {
    this.built = this.parts.pop();
  }

  lsn(field, value) {
    this.built[field] = value;
  }

  count(field, value) {
    this.built[field] = value;
  }

  flag(field, value) {
    this.built[field] = value;
  }

  text(field, value) {
    this.built[field] = value;
  }

  // Requests.

  figure(which) {
    return this.guarded(() => this.core.figure(which));
  }

  /** Opens the log; gives the report of its recovery. */
  async open({ policy = 'default', ...options }) {
    if (!POLICIES.includes(policy)) throw new DuralogError('config', `there is no policy ${policy}`);
    const given = Object.entries({ ...options, policy: POLICIES.indexOf(policy) }).filter(([, value]) => value != null);
    for (const [name, value] of given.map(([name, value]) => [name, setting(name, value)])) {
      if (!this.guarded(() => this.core.option(name, value))) throw new DuralogError('config', `there is no option ${name}`);
    }
    return reported(await this.ask((core, ticket) => core.open(ticket, this.storage)));
  }

  append(operations, transaction, durable) {
    return this.ask((core, ticket) => {
      try {
        for (const operation of operations) this.put(core, operation);
      } catch (error) {
        // A fault of the module itself is its end.
        if (error instanceof WebAssembly.RuntimeError) throw error;
        core.discard();
        throw error instanceof DuralogError ? error : new DuralogError('invalid', String(error?.message), { cause: error });
      }
      core.append(ticket, transaction, durable);
    });
  }

  put(core, operation) {
    if (ArrayBuffer.isView(operation) || operation instanceof ArrayBuffer) return core.opaque(bytesOf(operation));
    const item = (code, { id, kind = 'document', content = '', embedding = [] }) => {
      if (kind !== 'document' && kind !== 'chunk') throw invalid(`a kind is 'document' or 'chunk', not ${String(kind)}`);
      if (typeof content !== 'string') throw invalid('a content is a string');
      core.put(code, toBytes(id), kind === 'chunk', content, floats(embedding));
    };
    const code = TYPES.indexOf(operation?.type);
    if (code === 1 || code === 2) return item(code, operation);
    if (code === 3) return core.delete(3, toBytes(operation.id));
    if (code === 4) {
      core.several(4);
      return operation.items.forEach((one) => item(4, one));
    }
    if (code === 5) {
      core.several(5);
      return operation.ids.forEach((id) => core.delete(5, toBytes(id)));
    }
    if (code === 10) return core.opaque(bytesOf(operation.bytes));
    throw invalid('an operation is bytes, or has one of the types that the documentation lists');
  }

  begin() {
    return this.request(BEGIN);
  }

  end_(id, commit, durable) {
    return this.request(END, id, BigInt(durable), Number(commit));
  }

  wait(lsn) {
    return this.request(WAIT, lsn);
  }

  idle() {
    this.request(MARK).catch(() => {});
    this.waiting.delete(this.tickets);
  }

  async checkpoint(snapshot) {
    const { documentIds = [], chunkIds = [], metadata = {}, bytes = new Uint8Array() } = snapshot ?? {};
    const [documents, chunks] = [documentIds, chunkIds].map((ids) => {
      if (!Array.isArray(ids)) throw invalid('the ids of a snapshot are a list');
      return ids.map(toBytes);
    });
    if (typeof metadata !== 'object' || !metadata) throw invalid('the metadata of a snapshot are an object');
    const fields = Object.entries(metadata).map(([key, value]) => [key, String(value)]);
    const given = bytesOf(bytes);
    return this.ask((core, ticket) => {
      documents.forEach((id) => core.snapshotId(id, false));
      chunks.forEach((id) => core.snapshotId(id, true));
      for (const [key, value] of fields) core.snapshotMetadata(key, value);
      core.checkpoint(ticket, !snapshot, given);
    });
  }

  async loadCheckpoint() {
    const { checkpointUsed, bytes, metadata, documentIds = [], chunkIds = [], checkpointsRejected, findings } = await this.request(LOAD);
    // A policy that skips damage tells of a state that is lost; there is nothing beside which that could stand here.
    if (!checkpointUsed && findings) throw new DuralogError('state_lost', findings[0].message);
    if (!checkpointUsed) return null;
    const ids = (list) => list.map(({ logId }) => logId);
    return { ...checkpointUsed, bytes, metadata, documentIds: ids(documentIds), chunkIds: ids(chunkIds), checkpointsRejected, findings };
  }

  truncate(lsn, anyway) {
    return this.request(TRUNCATE, lsn, 0n, Number(anyway));
  }

  /** Begins to read; gives the name of the place. */
  async read(from, to, direction) {
    const asked = this.request(READ, from, to, direction);
    const place = this.tickets;
    await asked;
    return place;
  }

  /** Reads on; gives entries, and the name of the place behind them if there may be more. An error there is told when it is read
   * on from. */
  async next(place) {
    const end = this.ends.get(place);
    this.ends.delete(place);
    if (end) throw end;
    let ticket;
    let error;
    const asked = this.ask((core, next) => {
      this.pages.set((ticket = next), []);
      core.page(next, place, PAGE_BYTES);
    });
    const more = await asked.catch((caught) => (error = caught));
    const entries = this.pages.get(ticket) ?? [];
    this.pages.delete(ticket);
    // What stands before the error comes first.
    if (error && !entries.length) throw error;
    if (error) this.ends.set(ticket, error);
    return { entries, place: more ? ticket : 0 };
  }

  endRead(place) {
    this.ends.delete(place);
    this.guarded(() => this.core.endRead(place));
  }

  rebuild() {
    return this.request(REBUILD);
  }

  /** Documents are shown at once, also while the log is being read. */
  documents(call) {
    const { page, built } = this;
    this.page = [];
    this.built = {};
    this.guarded(() => call(this.core));
    const shown = this.page;
    Object.assign(this, { page, built });
    return shown;
  }

  get(id) {
    const bytes = toBytes(id);
    return this.documents((core) => core.stateGet(bytes))[0];
  }

  count_() {
    return Number(this.figure(SIZE));
  }

  documentsAfter(id) {
    return this.documents((core) => core.statePage(id ? toBytes(id) : new Uint8Array(), DOCUMENTS));
  }

  async verify() {
    return reported(await this.request(VERIFY));
  }

  stats() {
    return this.request(STATS);
  }

  async objects() {
    return (await this.request(OBJECTS)).objects ?? [];
  }

  bytesOf(object, at, length) {
    return this.ask((core, ticket) => core.bytes(ticket, object, at, length));
  }

  lsns() {
    return [this.figure(CURRENT), this.figure(SYNCED)];
  }

  close() {
    return this.request(CLOSE);
  }

  /** Lets go of everything; what still waits is told that the log is closed. */
  release() {
    this.storage.close();
    const error = new DuralogError('closed', 'the log is closed');
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
    if (!this.released) this.core?.free();
    this.released = true;
  }
}
