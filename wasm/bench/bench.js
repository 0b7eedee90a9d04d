// Workloads, and what is measured with them: duralog, raw storage, Dexie, sqlite-wasm. Runs in a window and in a worker.
//
// Each contender has a fresh database, is given the same payloads, and is done when every promise is settled. Only the
// time until then counts; afterwards every record is read back and compared.

import { Log } from '/node_modules/duralog/index.js';

const COUNT = 1000;
const SINGLE = 200;
const LOAD = 20_000;
const PAGE = 1000;

/** The payload of a record: like text, different for each. */
export function payload(n, size) {
  const bytes = new Uint8Array(size);
  let state = n * 2654435761 + 1;
  for (let at = 0; at < size; at++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    bytes[at] = 32 + ((state >>> 16) % 95);
  }
  return bytes;
}

const payloads = (count, size) => Array.from({ length: count }, (_, n) => payload(n, size));

function compare(found, expected) {
  if (found.length !== expected.length) throw new Error(`${found.length} records were read back of ${expected.length}`);
  found.forEach((bytes, n) => {
    const wanted = expected[n];
    if (bytes.length !== wanted.length || bytes.some((byte, at) => byte !== wanted[at])) throw new Error(`record ${n} is not what was written`);
  });
}

const timed = async (run) => {
  const begun = performance.now();
  await run();
  return performance.now() - begun;
};

const settled = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

let names = 0;
const fresh = () => `bench ${Date.now()} ${++names}`;

/** Awaits one after the other, or all at once. */
const feed = async (records, at, put) => {
  if (at === 'once') return Promise.all(records.map(put));
  for (const [n, record] of records.entries()) await put(record, n);
};

// The contenders: `open` makes a fresh database; it gives `put`, `all` and `end`.

const rawDatabase = async (name) => {
  const request = indexedDB.open(name, 1);
  request.onupgradeneeded = () => request.result.createObjectStore('records');
  return settled(request);
};

const rawPages = async (db) => {
  const found = [];
  for (let from = 0; ; from += PAGE) {
    const page = await settled(db.transaction('records').objectStore('records').getAll(IDBKeyRange.bound(from, from + PAGE, false, true)));
    found.push(...page);
    if (page.length < PAGE) return found;
  }
};

async function raw({ durability }) {
  const name = fresh();
  const db = await rawDatabase(name);
  return {
    put: (bytes, n) =>
      new Promise((resolve, reject) => {
        const transaction = db.transaction('records', 'readwrite', { durability });
        transaction.objectStore('records').put(bytes, n);
        transaction.oncomplete = resolve;
        transaction.onabort = () => reject(transaction.error);
        transaction.commit();
      }),
    all: () => rawPages(db),
    end: async () => {
      db.close();
      await settled(indexedDB.deleteDatabase(name));
    },
  };
}

/** What no store of single records can pass: all of them as one value, put in one transaction. */
async function packed({ durability }) {
  const one = await raw({ durability });
  let lengths;
  return {
    ...one,
    bulk: (records) => {
      lengths = records.map(({ length }) => length);
      const whole = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0));
      let end = 0;
      for (const record of records) {
        whole.set(record, end);
        end += record.length;
      }
      return one.put(whole, 0);
    },
    all: async () => {
      const [whole] = await one.all();
      let end = 0;
      return lengths.map((length) => whole.subarray(end, (end += length)));
    },
  };
}

async function duralog({ durability, device = 'indexeddb', ...options }) {
  const name = fresh();
  const log = await Log.open(name, { device, durability, ...options });
  return {
    put: (bytes) => log.append(bytes),
    all: () => entries(log),
    end: async () => {
      await log.close();
      await Log.delete(name, { device });
    },
  };
}

const entries = async (log) => {
  const found = [];
  for await (const { bytes } of log.read()) found.push(bytes);
  return found;
};

async function dexie({ durability }) {
  const { Dexie } = await import('/node_modules/dexie/dist/modern/dexie.mjs');
  const db = new Dexie(fresh(), { chromeTransactionDurability: durability });
  db.version(1).stores({ records: '' });
  await db.open();
  return {
    put: (bytes, n) => db.records.put(bytes, n),
    bulk: (records) => db.records.bulkAdd(records, records.map((_, n) => n)),
    all: () => db.records.toArray(),
    end: () => db.delete(),
  };
}

/** A file by itself: each record behind its length, and a flush; `once` writes all and flushes once. */
async function file() {
  const name = fresh();
  const root = await navigator.storage.getDirectory();
  const handle = await (await root.getFileHandle(name, { create: true })).createSyncAccessHandle();
  let end = 0;
  const write = (bytes) => {
    handle.write(new Uint8Array(new Uint32Array([bytes.length]).buffer), { at: end });
    handle.write(bytes, { at: end + 4 });
    end += 4 + bytes.length;
  };
  return {
    put: async (bytes) => {
      write(bytes);
      handle.flush();
    },
    bulk: async (records) => {
      records.forEach(write);
      handle.flush();
    },
    all: async () => {
      const whole = new Uint8Array(end);
      handle.read(whole, { at: 0 });
      const found = [];
      for (let at = 0; at < end; ) {
        const [length] = new Uint32Array(whole.slice(at, at + 4).buffer);
        found.push(whole.slice(at + 4, (at += 4 + length)));
      }
      return found;
    },
    end: async () => {
      handle.close();
      await root.removeEntry(name);
    },
  };
}

let pool;

/** As its documentation advises for speed: the pool of access handles, one connection, the write-ahead log, each insert durable. */
async function sqlite() {
  pool ??= (async () => {
    const { default: start } = await import('/node_modules/@sqlite.org/sqlite-wasm/dist/index.mjs');
    return (await start()).installOpfsSAHPoolVfs({});
  })();
  const util = await pool;
  const name = `/${fresh()}`;
  const db = new util.OpfsSAHPoolDb(name);
  db.exec('PRAGMA locking_mode=exclusive; PRAGMA journal_mode=wal; PRAGMA synchronous=full; CREATE TABLE records(id INTEGER PRIMARY KEY, bytes BLOB)');
  const insert = db.prepare('INSERT INTO records VALUES (?, ?)');
  return {
    put: async (bytes, n) => {
      insert.bind([n, bytes]).stepReset();
    },
    all: async () => db.selectValues('SELECT bytes FROM records ORDER BY id'),
    end: async () => {
      insert.finalize();
      db.close();
      await util.wipeFiles();
    },
  };
}

const CONTENDERS = { raw, packed, duralog, dexie, file, sqlite };

/** One measurement: the time of a workload with a contender, in milliseconds for each record. */
export async function measure({ contender, at, size, count, round, ...options }) {
  const records = payloads(count, size);
  const used = await CONTENDERS[contender](options);
  try {
    const time = await timed(() => (at === 'bulk' ? used.bulk(records) : feed(records, at, used.put)));
    compare(await used.all(), records);
    return time / count;
  } finally {
    await used.end();
  }
}

const SIZE = 1600;
const row = (title, target, baseline, contenders) => ({ title, target, baseline, contenders });
const single = (contender, durability, options) => ({ contender, at: 'one', size: SIZE, count: SINGLE, durability, ...options });
const once = (contender, size, durability, options) => ({ contender, at: 'once', size, count: COUNT, durability, ...options });

/** The table: each contender's rate is divided by the baseline's. */
export const ROWS = [
  ...['relaxed', 'strict'].map((durability) =>
    row(`one awaited append, IndexedDB, ${durability}`, 0.9, single('raw', durability), {
      duralog: single('duralog', durability),
      Dexie: single('dexie', durability),
    }),
  ),
  ...[[128, 25], [SIZE, 12]].map(([size, target]) =>
    row(`1,000 appends at once of ${size} B, against relaxed raw puts`, target, once('raw', size, 'relaxed'), {
      'duralog, relaxed': once('duralog', size, 'relaxed'),
      'duralog, strict': once('duralog', size, 'strict'),
      'one value in one transaction': { ...once('packed', size, 'relaxed'), at: 'bulk' },
      Dexie: once('dexie', size, 'relaxed'),
      'Dexie, bulkAdd': { ...once('dexie', size, 'relaxed'), at: 'bulk' },
    }),
  ),
  row('OPFS in a worker, one append with flush, against write and flush', 0.95, single('file', 'strict', { worker: true }), {
    duralog: single('duralog', 'strict', { device: 'opfs', worker: true }),
    'sqlite-wasm': single('sqlite', 'strict', { worker: true }),
  }),
  ...[[128, 60], [SIZE, undefined]].map(([size, target]) =>
    row(`OPFS, 1,000 at once of ${size} B, against relaxed raw puts`, target, once('raw', size, 'relaxed', { worker: true }), {
      'duralog, caller in the worker': once('duralog', size, 'strict', { device: 'opfs', worker: true }),
      'duralog, caller in a window': once('duralog', size, 'strict', { device: 'opfs' }),
      'one file, one flush': { ...once('file', size, 'strict', { worker: true }), at: 'bulk' },
      'sqlite-wasm': once('sqlite', size, 'strict', { worker: true }),
    }),
  ),
];

// Loading after a reload: what is loaded is prepared by one page and read by the next.

const loaded = (kind, round) => `load ${kind} ${round}`;

/** Prepares what a later page loads: raw values, a log of batches that was closed, and for each round one of single appends
 * that was not. */
export async function prepare(rounds) {
  const records = payloads(LOAD, SIZE);
  const db = await rawDatabase(loaded('raw', 0));
  for (let from = 0; from < LOAD; from += PAGE) {
    const transaction = db.transaction('records', 'readwrite');
    for (let n = from; n < from + PAGE; n++) transaction.objectStore('records').put(records[n], n);
    await new Promise((resolve) => (transaction.oncomplete = resolve));
  }
  db.close();
  const { Dexie } = await import('/node_modules/dexie/dist/modern/dexie.mjs');
  const dexie = new Dexie(loaded('dexie', 0));
  dexie.version(1).stores({ records: '' });
  for (let from = 0; from < LOAD; from += PAGE) {
    const keys = Array.from({ length: PAGE }, (_, n) => from + n);
    await dexie.records.bulkAdd(keys.map((n) => records[n]), keys);
  }
  dexie.close();
  const batched = await Log.open(loaded('batches', 0), { durability: 'relaxed' });
  for (let from = 0; from < LOAD; from += 100) await batched.appendBatch(records.slice(from, from + 100));
  await batched.close();
  for (let round = 0; round < rounds; round++) {
    const log = await Log.open(loaded('singles', round), { durability: 'relaxed' });
    for (const record of records) await log.append(record);
  }
}

const LOADERS = {
  raw: async () => {
    const db = await rawDatabase(loaded('raw', 0));
    try {
      return await rawPages(db);
    } finally {
      db.close();
    }
  },
  Dexie: async () => {
    const { Dexie } = await import('/node_modules/dexie/dist/modern/dexie.mjs');
    const db = new Dexie(loaded('dexie', 0));
    db.version(1).stores({ records: '' });
    const found = [];
    for (let from = 0; from < LOAD; from += PAGE) {
      found.push(...(await db.records.where(':id').between(from, from + PAGE).toArray()));
    }
    db.close();
    return found;
  },
  'duralog, closed': () => load(loaded('batches', 0)),
  'duralog, single appends, never closed': (round) => load(loaded('singles', round)),
};

async function load(name) {
  const log = await Log.open(name);
  const found = await entries(log);
  // Closing is no part of loading, and waits until the clock has stopped.
  setTimeout(() => log.close());
  return found;
}

/** One loading of everything, in milliseconds. */
export async function measureLoad({ loader, round }) {
  let found;
  const time = await timed(async () => (found = await LOADERS[loader](round)));
  compare(found, payloads(LOAD, SIZE));
  return time;
}

export const LOAD_ROW = {
  title: '20,000 records of 1,600 B after a reload, against raw getAll by pages',
  target: 2,
  baseline: { loader: 'raw' },
  contenders: Object.fromEntries(Object.keys(LOADERS).filter((loader) => loader !== 'raw').map((loader) => [loader, { loader }])),
};

// Rounds.

const shuffled = (list) => {
  const order = [...list];
  for (let last = order.length - 1; last > 0; last--) {
    const other = Math.floor(Math.random() * (last + 1));
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
};

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
};

/** Measures a row: in each round everything once, the baseline twice, in another order; gives medians of ratios. */
export async function rounds({ title, target, baseline, contenders }, count, run) {
  const all = { ' baseline': baseline, 'the baseline against itself': baseline, ...contenders };
  const ratios = Object.fromEntries(Object.keys(all).map((name) => [name, []]));
  const rates = Object.fromEntries(Object.keys(all).map((name) => [name, []]));
  // Once without counting: what is compiled and made at first use is none of it.
  if (!baseline.loader) for (const options of Object.values(all)) await run({ ...options, round: 0 });
  for (let round = 0; round < count; round++) {
    const times = {};
    for (const name of shuffled(Object.keys(all))) times[name] = await run({ ...all[name], round });
    for (const name of Object.keys(all)) {
      ratios[name].push(times[' baseline'] / times[name]);
      rates[name].push(times[name]);
    }
  }
  const lines = Object.keys(all).filter((name) => name !== ' baseline').map((name) => ({
    name,
    ratio: median(ratios[name]),
    least: Math.min(...ratios[name]),
    most: Math.max(...ratios[name]),
    time: median(rates[name]),
  }));
  return { title, target, time: median(rates[' baseline']), lines };
}
