// What the shipped IndexedDB device fetches for what is read, in Node on an IndexedDB in memory.

import test, { beforeEach } from 'node:test';
import assert from 'node:assert/strict';
import 'fake-indexeddb/auto';
import { Log } from 'duralog';

const SIZE = 1600;
const SEGMENT = 4 << 20;
const { getAll } = IDBObjectStore.prototype;

/** Values that were fetched, and their bytes. */
let fetched;
beforeEach(() => (fetched = { values: 0, bytes: 0 }));

IDBObjectStore.prototype.getAll = function (...range) {
  const request = getAll.apply(this, range);
  request.addEventListener('success', () => {
    for (const { length = 0 } of this.name === 'pieces' ? request.result : []) {
      fetched.values++;
      fetched.bytes += length;
    }
  });
  return request;
};

function payload(n) {
  const bytes = new Uint8Array(SIZE).fill(n % 251);
  new DataView(bytes.buffer).setUint32(0, n);
  return bytes;
}

const same = (bytes, n) => assert.deepEqual(bytes, payload(n));
const batch = (from, count) => Array.from({ length: count }, (_, n) => payload(from + n));

/** A closed log of three segments, the last of them half full; gives how many bytes it has. */
async function closed(name, step) {
  const log = await Log.open(name, { segmentSize: SEGMENT });
  let count = 0;
  while (count * SIZE < 2.5 * SEGMENT) {
    await log.appendBatch(batch(count, step));
    count += step;
  }
  const { totalSizeBytes } = await log.stats();
  await log.close();
  return { count, size: Number(totalSizeBytes) };
}

for (const step of [1, 100]) {
  test(`a closed log of batches of ${step} is opened and read with each segment fetched once, and the newest, which opening reads, twice`, async () => {
    const { count, size } = await closed(`once ${step}`, step);
    fetched = { values: 0, bytes: 0 };
    const log = await Log.open(`once ${step}`, { segmentSize: SEGMENT });
    let n = 0;
    for await (const { bytes } of log.read()) same(bytes, n++);
    assert.equal(n, count);
    // Headers keep values of their own, and are looked at again and again.
    assert.ok(fetched.values < 60, `${fetched.values} values`);
    assert.ok(fetched.bytes < 1.25 * size, `${fetched.bytes} bytes of ${size}`);
    await log.close();
  });
}

test('who looks at headers alone fetches headers alone', async () => {
  const { size } = await closed('headers', 100);
  fetched = { values: 0, bytes: 0 };
  const log = await Log.open('headers', { segmentSize: SEGMENT });
  assert.ok(fetched.bytes < 0.25 * size, `${fetched.bytes} bytes of ${size}: opening reads the newest segment, and of others what they begin with`);
  await log.close();
});

test('who reads on while values are put together, removed and written behind what was fetched ahead misses nothing', async () => {
  const name = 'meanwhile';
  const log = await Log.open(name, { segmentSize: 64 << 10 });
  let count = 0;
  const append = async (groups) => {
    for (const until = count + 10 * groups; count < until; count += 10) await log.appendBatch(batch(count, 10));
  };
  await append(30);
  let n = 0;
  for await (const { bytes } of log.read()) {
    same(bytes, n++);
    // Segments are sealed, so that what was many values is one, and the oldest go.
    if (n % 40 === 0 && n < 300) await append(3);
    if (n === 200) await log.discardBefore(100n);
  }
  assert.equal(n, 300, 'what there was when reading began');
  n = 300;
  for await (const { bytes } of log.read({ from: 301n })) same(bytes, n++);
  assert.equal(n, count);
  await log.close();
});

test('a value that is not what its key says is told, whatever it is, and nobody waits for ever', async () => {
  for (const [name, change] of Object.entries({
    shorter: (bytes) => bytes.slice(1),
    longer: (bytes) => new Uint8Array(bytes.length + 1),
    text: () => 'no bytes',
  })) {
    const log = await Log.open(`other ${name}`, { segmentSize: SEGMENT });
    await log.appendBatch(batch(0, 100));
    await log.close();
    const request = indexedDB.open(`duralog:other ${name}`);
    const database = await new Promise((resolve) => (request.onsuccess = () => resolve(request.result)));
    const transaction = database.transaction('pieces', 'readwrite');
    transaction.objectStore('pieces').openCursor(IDBKeyRange.upperBound(['segment_z']), 'prev').onsuccess = ({ target: { result: last } }) => last.update(change(last.value));
    await new Promise((resolve) => (transaction.oncomplete = resolve));
    database.close();
    const opened = await Log.open(`other ${name}`, { segmentSize: SEGMENT }).then(() => 'opened', ({ code }) => code);
    assert.equal(opened, 'refused', name);
    await Log.delete(`other ${name}`);
  }
});
