// The log and the store as applications use them.

import { DuralogError, stopped } from './errors.js';
import { toLsn } from './ids.js';
import { DEVICES, openEngine, openImporter } from './opening.js';
import { importInWorker, inWorker } from './remote.js';
import { exportTo } from './transfer.js';

const MODES = { immediate: true, batched: true, async: true };
const LOCK = 'duralog:';
const IDLE_MS = 1000;
/** What a window is told before it may be gone; what its document is told passes it on the way down. */
const LEAVING = ['pagehide', 'visibilitychange', 'freeze'];

/** Logs that are open for writing in this page. */
const open = new Map();

const device = (name) => {
  if (!Object.hasOwn(DEVICES, name)) throw new DuralogError('config', `there is no device ${name}`);
  return DEVICES[name];
};

const named = (name) => {
  if (typeof name !== 'string' || !name) throw new DuralogError('config', 'a log has a name');
};

const available = (name) => {
  const there = name === 'memory' || (name === 'opfs' ? globalThis.navigator?.storage?.getDirectory : globalThis.indexedDB);
  if (!there) throw new DuralogError('unsupported', `there is no ${name} here: take the device 'memory', or a browser`);
};

/** Takes the lock of a log for this writer; gives the call that lets go of it. */
async function lock(key, { wait, signal, steal }, lost) {
  const locked = (message) => new DuralogError('locked', message);
  if (open.has(key) && !steal) {
    if (!wait) throw locked('the log is open in this page: close it there, wait, or open it read-only');
    while (open.has(key)) {
      await Promise.race([open.get(key), aborted(signal)]);
      stopped(signal);
    }
  }
  let free;
  const held = new Promise((resolve) => (free = resolve));
  const here = { held };
  open.set(key, held);
  const release = () => {
    if (open.get(key) === here.held) open.delete(key);
    free();
  };
  const { locks } = globalThis.navigator ?? {};
  if (!locks || key.startsWith('memory')) return release;
  let ended;
  try {
    await new Promise((resolve, reject) => {
      const options = steal ? { steal } : wait ? { signal } : { ifAvailable: true };
      ended = locks
        .request(LOCK + key, options, (lock) => {
          if (!lock) throw locked('the log is open in another tab or worker: close it there, wait, or open it read-only');
          resolve();
          return held;
        })
        .catch((error) => (reject(error), lost?.(error)));
    });
  } catch (error) {
    release();
    throw error;
  }
  return () => (release(), ended);
}

const aborted = (signal) =>
  new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason), { once: true }));

const inWindow = (kind) => kind === 'opfs' && typeof globalThis.FileSystemSyncAccessHandle === 'undefined';

export class Log {
  #engine;
  #release;
  #options;
  #report;
  #closing;
  #timer;
  #idle;
  #isQuiet;
  #lsns = [1n, 0n];

  constructor(engine, release, options) {
    this.#engine = engine;
    this.#release = release;
    this.#options = options;
    this.#report = engine.report;
  }

  static async open(name, options = {}) {
    const {
      device: kind = 'indexeddb',
      syncMode = 'immediate',
      interval = 100,
      durability = syncMode === 'async' ? 'relaxed' : 'strict',
      wait,
      signal,
      steal,
      worker,
      onProgress,
      onLost,
      ...rest
    } = options;
    named(name);
    device(kind);
    if (!Object.hasOwn(MODES, syncMode)) throw new DuralogError('config', `there is no sync mode ${syncMode}`);
    if (durability !== 'strict' && durability !== 'relaxed') throw new DuralogError('config', `there is no durability ${durability}`);
    // A timer takes no longer ones.
    if (!(interval >= 0 && interval < 2 ** 31)) throw new DuralogError('config', `an interval is in milliseconds, not ${String(interval)}`);
    if (steal && kind === 'memory') throw new DuralogError('unsupported', 'a log in memory cannot be taken from its writer');
    available(kind);
    stopped(signal);
    const reads = rest.readOnly || rest.policy === 'inspect';
    let log;
    const lost = () => log?.lost(onLost);
    const release = reads ? () => {} : await lock(`${kind}:${name}`, { wait, signal, steal }, lost);
    try {
      onProgress?.({ phase: 'recovery' });
      const given = { ...rest, device: kind, durability, steal, [syncMode]: Math.round(interval) };
      const engine = await (inWindow(kind) ? inWorker(name, given, worker) : openEngine(name, given));
      log = new this(engine, release, { name, device: kind, syncMode, interval, durability });
      await log.opened();
      if (signal?.aborted) {
        await log.close();
        stopped(signal);
      }
      onProgress?.({ phase: 'open', report: log.recoveryReport() });
      return log;
    } catch (error) {
      if (log) await log.close().catch(() => {});
      else release();
      throw error;
    }
  }

  async opened() {
    this.#lsns = await this.#engine.lsns();
    // A page that is left may never run again.
    for (const event of LEAVING) globalThis.addEventListener?.(event, this.#leave, true);
  }

  /** The page is about to be hidden, frozen or left: what was only buffered is handed to the storage now. */
  #leave = () => {
    if (!this.#closing && this.#timer !== undefined) this.sync().catch(() => {});
  };

  /** Another writer was given the lock. The fence in the storage keeps this one from writing anything. */
  lost(onLost) {
    if (!this.#closing) onLost?.();
  }

  get name() {
    return this.#options.name;
  }

  #open() {
    if (this.#closing) throw new DuralogError('closed', 'the log is closed');
    return this.#engine;
  }

  #note({ lsn, durability }) {
    if (lsn >= this.#lsns[0]) this.#lsns[0] = lsn + 1n;
    if (durability !== 'buffered' && lsn > this.#lsns[1]) this.#lsns[1] = lsn;
  }

  /** Appends: as durable as the mode says, or as the caller asks. */
  async #append(operations, transaction, { durable = this.#options.syncMode === 'immediate' && !transaction } = {}) {
    const engine = this.#open();
    this.#quiet();
    const receipt = await engine.append(operations, transaction, durable);
    this.#note(receipt);
    if (receipt.durability === 'buffered' && !transaction) this.#later();
    return receipt;
  }

  append(operation, options) {
    return this.#append([operation], 0n, options);
  }

  async appendBatch(operations, options) {
    const list = [...operations];
    return list.length ? this.#append(list, 0n, options) : null;
  }

  /** In the modes that do not wait for each append, a timer syncs. */
  #later() {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      // Whoever appends next is told of a failure.
      if (!this.#closing) this.sync().catch(() => {});
    }, this.#options.interval);
    this.#timer.unref?.();
  }

  /** A log that falls idle writes a mark, so that recovery can prove how far it was durable. */
  #quiet() {
    // One timer for however many appends: to set one anew takes longer than the rest of an append.
    this.#isQuiet = false;
    this.#idle ??= this.#soon();
  }

  #soon() {
    const timer = setTimeout(() => {
      const isQuiet = this.#isQuiet;
      this.#isQuiet = true;
      this.#idle = isQuiet || this.#closing ? undefined : this.#soon();
      if (isQuiet && !this.#closing) this.#engine.idle();
    }, IDLE_MS);
    timer.unref?.();
    return timer;
  }

  async transaction(run) {
    const engine = this.#open();
    this.#quiet();
    const durable = this.#options.syncMode === 'immediate';
    const id = await engine.begin();
    let ended = false;
    const use = () => {
      if (ended) throw new DuralogError('no_transaction', 'the transaction has ended');
    };
    const handle = {
      id,
      append: async (operation) => (use(), this.#append([operation], id)),
      appendBatch: async (operations) => (use(), this.#append([...operations], id)),
    };
    try {
      const result = await run(handle);
      ended = true;
      this.#note(await engine.end_(id, true, durable));
      if (!durable) this.#later();
      return result;
    } catch (error) {
      if (!ended) {
        ended = true;
        // It does not count in any case: a commit alone makes it.
        await engine.end_(id, false, false).catch(() => {});
      }
      throw error;
    }
  }

  async sync() {
    return this.waitDurable((1n << 64n) - 1n);
  }

  async waitDurable(lsn) {
    const receipt = await this.#open().wait(toLsn(lsn));
    this.#note(receipt);
    return receipt.lsn;
  }

  async checkpoint(snapshot) {
    const isOne = typeof snapshot === 'object' && snapshot && !ArrayBuffer.isView(snapshot) && !(snapshot instanceof ArrayBuffer);
    if (!isOne) throw new DuralogError('invalid', 'a checkpoint needs a snapshot, an object; MemoryStore makes its own');
    return this.#open().checkpoint(snapshot);
  }

  async loadCheckpoint() {
    return this.#open().loadCheckpoint();
  }

  async truncateBefore(lsn) {
    return this.#open().truncate(toLsn(lsn), false);
  }

  async discardBefore(lsn) {
    return this.#open().truncate(toLsn(lsn), true);
  }

  read(options) {
    const findings = [];
    return Object.assign(this.#read(findings, options), { findings });
  }

  async *#read(findings, { from = 0n, to = (1n << 64n) - 1n, reverse = false, counting = false, signal } = {}) {
    stopped(signal);
    if (reverse && counting) throw new DuralogError('invalid', 'what counts is read forwards alone: leave out reverse or counting');
    const [first, last] = [toLsn(from), toLsn(to)];
    // There is no entry 0.
    if (last === 0n) return;
    let place = await this.#open().read(first, last, reverse ? 1 : counting ? 2 : 0);
    try {
      while (place) {
        stopped(signal);
        const page = await this.#open().next(place);
        place = page.place;
        for (const entry of page.entries) {
          stopped(signal);
          // In its place, so that who reads knows it there.
          if (entry.findings) findings.push(...entry.findings);
          else yield entry;
        }
      }
    } finally {
      if (place && !this.#closing) this.#engine.endRead(place);
    }
  }

  [Symbol.asyncIterator]() {
    return this.read();
  }

  get currentLsn() {
    return this.#lsns[0];
  }

  get syncedLsn() {
    return this.#lsns[1];
  }

  recoveryReport() {
    return this.#report;
  }

  async verify() {
    return this.#open().verify();
  }

  async stats() {
    const stats = await this.#open().stats();
    const storage = globalThis.navigator?.storage;
    const estimate = await storage?.estimate?.().catch(() => undefined);
    const persisted = await storage?.persisted?.().catch(() => undefined);
    const { device, durability, syncMode } = this.#options;
    return { ...stats, device, durability, syncMode, quota: estimate?.quota, usage: estimate?.usage, persisted };
  }

  /** Writes the whole log to a stream of bytes, as `duralog unpack` takes it. */
  exportTo(writable, options) {
    return exportTo(this.#open(), writable, options);
  }

  /** Makes a log of a stream of bytes, as `duralog pack` makes it; never over one that is there. */
  static async importFrom(name, readable, { device: kind = 'indexeddb', durability = 'strict', verify = true, wait, signal, worker, onProgress } = {}) {
    named(name);
    device(kind);
    available(kind);
    const release = await lock(`${kind}:${name}`, { wait, signal });
    let importer;
    try {
      const given = { device: kind, durability, verify };
      importer = await (inWindow(kind) ? importInWorker(name, given, worker) : openImporter(name, given));
      let bytes = 0;
      const reader = readable.getReader();
      try {
        for (;;) {
          stopped(signal);
          const { done, value } = await reader.read();
          if (done) break;
          await importer.feed(value);
          onProgress?.({ bytes: (bytes += value.length) });
        }
      } catch (error) {
        await reader.cancel(error).catch(() => {});
        throw error;
      }
      return await importer.end();
    } catch (error) {
      await importer?.release();
      // Half a log is none.
      if (importer) await DEVICES[kind].delete(name);
      importer = undefined;
      throw error;
    } finally {
      await importer?.release();
      await release();
    }
  }

  /** Asks the browser to keep what this site stores; tells whether it will. */
  static async persist() {
    return (await globalThis.navigator?.storage?.persist?.()) ?? false;
  }

  close() {
    return (this.#closing ??= this.#close());
  }

  async #close() {
    clearTimeout(this.#timer);
    clearTimeout(this.#idle);
    for (const event of LEAVING) globalThis.removeEventListener?.(event, this.#leave, true);
    try {
      await this.#engine.close();
    } finally {
      this.#engine.release();
      // The next one may open it at once.
      await this.#release();
    }
  }

  [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]() {
    return this.close();
  }

  static async list({ device: kind } = {}) {
    const kinds = kind ? [(device(kind), kind)] : Object.keys(DEVICES);
    const lists = kinds.map(async (each) => {
      if (each !== 'memory' && !(each === 'opfs' ? globalThis.navigator?.storage?.getDirectory : globalThis.indexedDB)) return [];
      return (await DEVICES[each].list()).map((name) => ({ name, device: each }));
    });
    return (await Promise.all(lists)).flat();
  }

  static async delete(name, { device: kind = 'indexeddb', wait, signal } = {}) {
    named(name);
    device(kind);
    available(kind);
    stopped(signal);
    const release = await lock(`${kind}:${name}`, { wait, signal });
    try {
      await DEVICES[kind].delete(name);
    } catch (error) {
      if (error.name !== 'NotFoundError') throw new DuralogError('device', `the log could not be deleted: ${error.message}`, { cause: error });
    } finally {
      await release();
    }
  }

  // What a store needs of its log.
  static engineOf(log) {
    return log.#open();
  }

}

const engineOf = Log.engineOf;
delete Log.engineOf;

/** Documents and chunks by their ids, kept in memory and in a log: a change is logged before it is made. */
export class MemoryStore {
  #log;
  #rebuilt;

  constructor(log, rebuilt) {
    this.#log = log;
    this.#rebuilt = rebuilt;
  }

  static async open(name, options) {
    const log = await Log.open(name, options);
    try {
      return new this(log, await engineOf(log).rebuild());
    } catch (error) {
      await log.close().catch(() => {});
      throw error;
    }
  }

  get log() {
    return this.#log;
  }

  get rebuilt() {
    return this.#rebuilt;
  }

  insert(item, options) {
    return this.#log.append({ ...item, type: 'insert' }, options);
  }

  update(item, options) {
    return this.#log.append({ ...item, type: 'update' }, options);
  }

  delete(id, options) {
    return this.#log.append({ type: 'delete', id }, options);
  }

  apply(operation, options) {
    return this.#log.append(operation, options);
  }

  applyBatch(operations, options) {
    return this.#log.appendBatch(operations, options);
  }

  async get(id) {
    return engineOf(this.#log).get(id);
  }

  async has(id) {
    return (await this.get(id)) !== undefined;
  }

  async size() {
    return engineOf(this.#log).count_();
  }

  async *[Symbol.asyncIterator]() {
    let last = '';
    for (;;) {
      const page = await engineOf(this.#log).documentsAfter(last);
      if (!page.length) return;
      yield* page;
      last = page[page.length - 1].id;
    }
  }

  async checkpoint() {
    return engineOf(this.#log).checkpoint();
  }

  sync() {
    return this.#log.sync();
  }

  close() {
    return this.#log.close();
  }

  [Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')]() {
    return this.close();
  }
}
