// The shipped IndexedDB device over quota, in Node on an IndexedDB in memory: what puts something is refused, what only removes
// goes through, as in a browser.

import test, { beforeEach } from 'node:test';
import assert from 'node:assert/strict';
import 'fake-indexeddb/auto';
import { Log, MemoryStore } from 'duralog';
import { IndexedDb } from './node_modules/duralog/indexeddb.js';
import { PENDING } from './node_modules/duralog/storage.js';

const SEGMENT = 1 << 16;
const { put, delete: remove } = IDBObjectStore.prototype;

let isFull;
/** Whether there is room once an object was removed. */
let makesRoom;
beforeEach(() => (isFull = makesRoom = false));

IDBObjectStore.prototype.put = function (...what) {
  const request = put.apply(this, what);
  if (isFull) request.addEventListener('success', () => this.transaction._abort('QuotaExceededError'));
  return request;
};
IDBObjectStore.prototype.delete = function (...what) {
  if (makesRoom && this.name === 'objects') this.transaction.addEventListener('complete', () => (isFull = false));
  return remove.apply(this, what);
};

/** A log of some segments, a checkpoint of all but its last entries, and a browser that gives no more room. */
async function full(name) {
  const log = await Log.open(name, { segmentSize: SEGMENT });
  const append = (count) => log.appendBatch(Array.from({ length: count }, () => new Uint8Array(1000)));
  for (let n = 0; n < 10; n++) await append(20);
  await log.checkpoint({ bytes: new Uint8Array([7]) });
  for (let n = 0; n < 5; n++) await append(20);
  isFull = true;
  return log;
}

const count = async (log) => {
  let count = 0;
  for await (const { type } of log.read()) count += type === 'opaque';
  return count;
};

test('over quota a log is truncated, and goes on', async () => {
  const log = await full('truncated');
  await assert.rejects(log.append(new Uint8Array(10)), { code: 'quota' });
  assert.equal(await count(log), 300);
  makesRoom = true;
  assert.equal(await log.truncateBefore(201n), 201n);
  await log.append(new Uint8Array(10));
  await log.close();
  const again = await Log.open('truncated', { fullCheck: true });
  assert.ok(again.recoveryReport().clean);
  assert.equal(await count(again), 101);
  await again.close();
});

test('over quota a log is opened, again and again, and read, and what a checkpoint holds is given up for room', async () => {
  const log = await full('opened');
  await log.close().catch(({ code }) => assert.equal(code, 'quota'));
  for (const makes of [false, false, true]) {
    makesRoom = makes;
    const again = await Log.open('opened', { segmentSize: SEGMENT });
    assert.equal(await count(again), 300);
    assert.deepEqual([...(await again.loadCheckpoint()).bytes], [7]);
    if (makes) {
      assert.equal(await again.truncateBefore(200n), 200n);
      assert.equal((await again.append(new Uint8Array(10))).lsn, 302n);
    } else {
      await assert.rejects(again.append(new Uint8Array(10)), { code: 'quota' });
    }
    await again.close().catch(({ code }) => assert.equal(code, 'quota'));
  }
});

test('over quota a log is not taken from the writer that has it', async () => {
  const log = await full('taken');
  await assert.rejects(Log.open('taken', { steal: true }), { code: 'quota' });
  isFull = false;
  await log.append(new Uint8Array(10));
  await log.close();
});

/** A writer of the storage alone: each call gives what came of it. */
const writer = async (name) => {
  const storage = new IndexedDb(name, { durability: 'strict', write: true, create: true });
  const done = (call) =>
    new Promise((resolve) => {
      storage.resume = resolve;
      const begun = call(storage);
      if (begun !== PENDING) resolve(begun);
    });
  assert.equal(await done((storage) => storage.open()), 0);
  return {
    names: () => storage.names().split('\n').filter(Boolean),
    write: async (object, at) => {
      if (!at) assert.equal(await done((storage) => storage.create(object)), 0);
      assert.equal(await done((storage) => storage.write(object, at, new Uint8Array(100))), 0);
      return done((storage) => storage.sync());
    },
    remove: async (object) => {
      await done((storage) => storage.remove(object));
      return done((storage) => storage.sync());
    },
  };
};
const FENCED = -2;
const NO_SPACE = -1;

test('a writer that was replaced removes nothing', async () => {
  const one = await writer('replaced');
  assert.equal(await one.write('a', 0), 0);
  assert.equal(await one.remove('b'), 0);
  const two = await writer('replaced');
  assert.equal(await one.remove('a'), FENCED);
  assert.equal(await one.remove('a'), FENCED);
  assert.deepEqual((await writer('replaced')).names(), ['a']);
  assert.equal(await two.remove('a'), FENCED);
});

test('of writers that were given no room for their number, and the one before, whoever writes first fences the others', async () => {
  const begin = async (name) => {
    isFull = false;
    const early = await writer(name);
    for (const object of ['a', 'b', 'c']) assert.equal(await early.write(object, 0), 0);
    const before = await writer(name);
    isFull = true;
    return { early, before, one: await writer(name), two: await writer(name) };
  };
  {
    const { early } = await begin('early');
    isFull = false;
    assert.equal(await early.write('a', 100), FENCED, 'it was replaced before, and wakes up late');
    assert.equal(await early.remove('a'), FENCED);
  }
  {
    const { one } = await begin('later');
    isFull = false;
    await writer('later');
    assert.equal(await one.remove('a'), FENCED, 'a later one has a number, and wrote nothing yet');
  }
  {
    const { before, one, two } = await begin('before');
    isFull = false;
    assert.equal(await before.write('a', 100), 0);
    for (const late of [one, two]) assert.equal(await late.remove('a'), FENCED);
    for (const late of [one, two]) assert.equal(await late.write('b', 100), FENCED);
  }
  {
    const { before, one, two } = await begin('room');
    assert.equal(await two.write('a', 100), NO_SPACE);
    isFull = false;
    assert.equal(await two.write('a', 100), 0);
    for (const late of [before, one]) assert.equal(await late.write('b', 100), FENCED);
    for (const late of [before, one]) assert.equal(await late.remove('b'), FENCED);
    assert.equal(await two.write('a', 200), 0);
    // Another one that has no room: the first has seen another number than this one.
    isFull = true;
    const three = await writer('room');
    assert.equal(await one.remove('b'), FENCED);
    assert.equal(await three.remove('b'), 0);
    assert.equal(await three.remove('c'), 0);
  }
  {
    const { one, two } = await begin('removal');
    assert.equal(await one.remove('a'), 0);
    assert.equal(await one.remove('b'), 0);
    assert.equal(await two.remove('c'), FENCED);
    isFull = false;
    assert.equal(await two.write('b', 100), FENCED);
    assert.equal(await one.write('c', 100), 0);
  }
});

test('a store is opened over quota', async () => {
  const store = await MemoryStore.open('store');
  const id = crypto.randomUUID();
  await store.insert({ id, content: 'kept' });
  isFull = true;
  await store.close().catch(({ code }) => assert.equal(code, 'quota'));
  const again = await MemoryStore.open('store');
  assert.equal((await again.get(id)).content, 'kept');
  await assert.rejects(again.insert({ id, content: 'more' }), { code: 'quota' });
  isFull = false;
  await again.insert({ id, content: 'more' });
  await again.close();
});
