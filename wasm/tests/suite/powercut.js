// Power cuts under the shipped IndexedDB device: each of its transactions is recorded; a cut keeps some of them, whole,
// and drops the others; the log reopens on what is left.
//
// What a browser promises is taken at its word: a transaction that was completed under `strict` is kept, one that was not
// is kept or dropped. Under `relaxed` the last completed ones may be dropped too.

import { Log } from 'duralog';

const SIZE = 700;
const SEGMENT = 1 << 15;

/** Each group of entries is one append, a batch or a transaction; what it holds is worked out from its number. */
function payload(group, index, of) {
  const bytes = new Uint8Array(SIZE);
  new DataView(bytes.buffer).setUint32(0, group);
  bytes[4] = index;
  bytes[5] = of;
  for (let at = 6; at < SIZE; at++) bytes[at] = (group * 31 + index * 7 + at) & 255;
  return bytes;
}

/** Records what is done to the database of a log from now on: a list of transactions, each with its steps, in the order of
 * their ends. */
function record(name) {
  const { transaction } = IDBDatabase.prototype;
  const { put, delete: remove, clear } = IDBObjectStore.prototype;
  const done = [];
  const begun = new Map();
  const recorder = { done, overlaps: 0, stop };
  IDBDatabase.prototype.transaction = function (stores, mode, options) {
    const made = transaction.call(this, stores, mode, options);
    if (mode !== 'readwrite' || this.name !== `duralog:${name}`) return made;
    // With one at a time there is nothing that a medium could reorder.
    recorder.overlaps += begun.size;
    const steps = [];
    begun.set(made, steps);
    made.addEventListener('complete', () => begun.delete(made) && done.push({ steps, durability: options?.durability }));
    made.addEventListener('abort', () => begun.delete(made));
    return made;
  };
  IDBObjectStore.prototype.put = function (value, key) {
    begun.get(this.transaction)?.push({ store: this.name, key, value: value instanceof Uint8Array ? value.slice() : value });
    return put.call(this, value, key);
  };
  IDBObjectStore.prototype.delete = function (key) {
    begun.get(this.transaction)?.push({ store: this.name, removed: key });
    return remove.call(this, key);
  };
  IDBObjectStore.prototype.clear = function () {
    begun.get(this.transaction)?.push({ store: this.name, clear: true });
    return clear.call(this);
  };
  function stop() {
    IDBDatabase.prototype.transaction = transaction;
    Object.assign(IDBObjectStore.prototype, { put, delete: remove, clear });
  }
  return recorder;
}

const settled = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** Makes a database that holds what these transactions leave, as a log's. */
async function image(name, transactions) {
  const database = `duralog:${name}`;
  await settled(indexedDB.deleteDatabase(database));
  const request = indexedDB.open(database, 1);
  request.onupgradeneeded = () => {
    for (const store of ['objects', 'pieces']) request.result.createObjectStore(store);
    request.result.createObjectStore('state').createIndex('is', 'is', { unique: true });
  };
  const db = await settled(request);
  const transaction = db.transaction(['objects', 'pieces', 'state'], 'readwrite');
  for (const { steps } of transactions) {
    for (const { store, key, value, removed, clear } of steps) {
      if (clear) transaction.objectStore(store).clear();
      else if (removed === undefined) transaction.objectStore(store).put(value, key);
      else transaction.objectStore(store).delete(removed);
    }
  }
  await new Promise((resolve, reject) => Object.assign(transaction, { oncomplete: resolve, onabort: () => reject(transaction.error) }));
  db.close();
}

/** Everything that a log does, with what was acknowledged and how many transactions were done by then. */
async function workload(name, durability, recorder, { rounds = [0, 1], checkpoints = true, segmentSize = SEGMENT } = {}) {
  const acknowledged = [];
  let group = 0;
  let log;
  const append = async (alone = true) => {
    const mine = group++;
    if (mine % 10 === 3) await log.appendBatch([0, 1, 2].map((index) => payload(mine, index, 3)));
    else if (alone && mine % 7 === 2) {
      await log.transaction(async (tx) => {
        await tx.append(payload(mine, 0, 2));
        await tx.append(payload(mine, 1, 2));
      });
    } else await log.append(payload(mine, 0, 1));
    acknowledged.push({ group: mine, after: recorder.done.length });
  };
  for (const round of rounds) {
    log = await Log.open(name, { durability, segmentSize });
    for (let n = 0; n < 25; n++) await append();
    // Many at once share transactions.
    await Promise.all(Array.from({ length: 15 }, () => append(false)));
    if (checkpoints) await log.checkpoint({ bytes: payload(0, 0, 1) });
    if (checkpoints && round === 0) await log.truncateBefore(20n);
    await append();
    if (round === 0) await log.close();
  }
  return { log, acknowledged };
}

/** Opens the log that an image holds, checks all of it and appends one group; gives what it held. */
async function look(name) {
  const log = await Log.open(name, { segmentSize: SEGMENT, fullCheck: true });
  try {
    const report = log.recoveryReport();
    let [first, last, within] = [undefined, -1, 0];
    for await (const { bytes, type } of log.read({ counting: true })) {
      if (type !== 'opaque') continue;
      const group = new DataView(bytes.buffer).getUint32(0);
      if (within === 0 && last >= 0 && group !== last + 1) throw new Error(`group ${group} stands behind ${last}`);
      // Truncation may cut a group that is no batch in two: of a transaction the commit counts.
      if (within !== bytes[4] && first !== undefined) throw new Error(`group ${group} is there in part`);
      const expected = payload(group, bytes[4], bytes[5]);
      if (bytes.length !== SIZE || bytes.some((byte, at) => byte !== expected[at])) throw new Error(`group ${group} is not what was written`);
      first ??= group;
      within = bytes[4] + 1 === bytes[5] ? 0 : bytes[4] + 1;
      if (within === 0) last = group;
    }
    if (within) throw new Error(`group ${last + 1} is there in part`);
    // Whoever has opened a log goes on with it.
    await log.append(payload(last + 1, 0, 1));
    return { first, last, created: report.created, sound: report.success && report.findings.every(({ harmless }) => harmless) };
  } finally {
    await log.close();
  }
}

/** Cuts the power at each place of a run, and at each place of the recovery that follows. Gives how many cuts there were. */
export async function cutEverywhere(durability) {
  const name = `cut ${durability}`;
  const recorder = record(name);
  const { log, acknowledged } = await workload(name, durability, recorder).finally(recorder.stop);
  // What closing does is recorded no more.
  await log.close();
  if (recorder.overlaps) throw new Error(`${recorder.overlaps} transactions were begun while another was under way`);
  if (acknowledged.length < 80) throw new Error(`only ${acknowledged.length} groups were acknowledged`);
  if (recorder.done.some((one) => one.durability !== durability)) throw new Error('a transaction has another durability');
  let cuts = 0;
  for (let kept = 0; kept <= recorder.done.length; kept++) {
    const transactions = recorder.done.slice(0, kept);
    // Under `strict` all that was acknowledged by then is promised; under `relaxed` no more than a beginning.
    const due = durability === 'strict' ? Math.max(-1, ...acknowledged.filter(({ after }) => after <= kept).map(({ group }) => group)) : -1;
    const expect = async (what) => {
      cuts++;
      const found = await look('image').catch((error) => {
        throw new Error(`${what}: ${error.code}: ${error.message}`);
      });
      if (!found.sound) throw new Error(`${what}: damage is told of where there is none`);
      if (found.last < due) throw new Error(`${what}: group ${due} was acknowledged, and ${found.last} is the last`);
    };
    await image('image', transactions);
    const second = record('image');
    await expect(`cut behind transaction ${kept}`).finally(second.stop);
    // What opening it, appending and closing did is cut too, at one place of it for each of these.
    if (second.done.length > 1) {
      const again = 1 + (kept % (second.done.length - 1));
      await image('image', [...transactions, ...second.done.slice(0, again)]);
      await expect(`cut behind transaction ${kept}, and behind ${again} of the recovery`);
    }
  }
  for (const used of [name, 'image']) await Log.delete(used);
  return { cuts, transactions: recorder.done.length };
}

/** A medium that drops a transaction that it had acknowledged, and keeps those behind it, breaks its word: that is told of. No
 * checkpoint holds what is gone, and no value was put together with others later, which would bring it back. */
export async function lies() {
  const recorder = record('lies');
  const shape = { rounds: [1], checkpoints: false, segmentSize: 1 << 20 };
  const { log, acknowledged } = await workload('lies', 'strict', recorder, shape).finally(recorder.stop);
  await log.close();
  const told = { refused: 0, complete: 0 };
  const last = acknowledged.at(-1).group;
  // Without the header of the only segment there is nothing that tells of it: its transaction is the second, behind the
  // writer's number. What only the last one holds, no later one can bear witness to.
  for (let dropped = 2; dropped < recorder.done.length - 1; dropped++) {
    await image('image', recorder.done.filter((_, index) => index !== dropped));
    const found = await look('image').catch((error) => error);
    if (found instanceof Error ? !found.code : !found.sound) told.refused++;
    else if (found instanceof Error) told.refused++;
    else if (found.last === last) told.complete++;
    else throw new Error(`without transaction ${dropped} the log ends at group ${found.last}, and says nothing`);
  }
  for (const used of ['lies', 'image']) await Log.delete(used);
  return told;
}
