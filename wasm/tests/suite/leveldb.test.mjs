// What the reader of LevelDB's log finds in logs that are put together here.

import test from 'node:test';
import assert from 'node:assert/strict';
import { masked, writtenOnBehindTorn } from './leveldb.mjs';

const BLOCK = 32768;
const HEADER = 7;
const [FULL, FIRST, MIDDLE, LAST] = [1, 2, 3, 4];

function record(type, length) {
  const bytes = Buffer.alloc(HEADER + length, 7);
  bytes[6] = type;
  bytes.writeUInt16LE(length, 4);
  bytes.writeUInt32LE(masked(bytes.subarray(6)), 0);
  return bytes;
}
/** A record that ends so many bytes before its block does. */
const filling = (left) => record(FULL, BLOCK - HEADER - left);
const found = (...parts) => writtenOnBehindTorn(Buffer.concat(parts));

test('records that are whole, in parts or not, are sound', () => {
  assert.equal(found(record(FULL, 100), record(FULL, 0), record(FULL, 3)), -1);
  assert.equal(found(filling(50), record(FIRST, 43), record(MIDDLE, BLOCK - HEADER), record(LAST, 20), record(FULL, 10)), -1);
  assert.equal(found(filling(7), record(FIRST, 0), record(FULL, 10)), -1, 'a part that holds nothing');
  assert.equal(found(filling(3), Buffer.alloc(3), record(FULL, 10)), -1, 'no room for a header');
});

test('what a kill leaves at the end is passed over by LevelDB', () => {
  assert.equal(found(record(FULL, 100), record(FULL, 50).subarray(0, HEADER)), -1);
  assert.equal(found(record(FULL, 100), record(FULL, 50).subarray(0, 30)), -1);
  assert.equal(found(filling(50), record(FIRST, 43)), -1);
  assert.equal(found(filling(50), record(FIRST, 43), record(LAST, 50).subarray(0, HEADER)), -1);
});

test('a header that was written on behind is found', () => {
  assert.equal(found(record(FULL, 100), record(FULL, 50).subarray(0, HEADER), record(FULL, 20)), 107);
});

test('a record in parts that was written on behind is found where it began', () => {
  const at = BLOCK - 50;
  for (const type of [FULL, FIRST]) {
    assert.equal(found(filling(50), record(FIRST, 43), record(type, 20)), at);
    assert.equal(found(filling(50), record(FIRST, 43), record(MIDDLE, BLOCK - HEADER), record(type, 20)), at);
  }
});
