// The log files of Chromium's LevelDB store, read for one thing: whether the store was written on behind a torn record.
//
// LevelDB writes a record of its log in two steps, first the 7 bytes of its header. A process that is killed between them
// leaves a header alone at the end of the file. The next opening passes over it, and goes on writing in the same file, right
// behind it; the opening after that finds a record whose checksum does not fit in the middle, takes the store for corrupt,
// and Chromium deletes it, with all that every sync of it had made durable. Nothing that a page does helps, or hurts. It is the
// same where a record goes on in the next block: a process that is killed between its parts leaves the first ones, each of them
// sound, and the opening after the next finds a record without an end in the middle.
//
// Format: https://github.com/google/leveldb/blob/main/doc/log_format.md

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const BLOCK = 32768;
const HEADER = 7;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC-32C, as LevelDB stores it: turned by 15 bits, and a constant added. */
export function masked(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  crc = ~crc >>> 0;
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** The length of the sound record at `at`, with its header; 0 if there is none. */
function record(log, at) {
  if (at + HEADER > log.length) return 0;
  const end = at + HEADER + log.readUInt16LE(at + 4);
  const fits = end <= log.length && end - at <= BLOCK - (at % BLOCK);
  return fits && masked(log.subarray(at + 6, end)) === log.readUInt32LE(at) ? end - at : 0;
}

const [FULL, FIRST, , LAST] = [1, 2, 3, 4];

/** Where a record is torn, and a sound one stands inside of what it announces, or behind its parts; -1 if nowhere. */
export function writtenOnBehindTorn(log) {
  /** Where the record began whose parts were read last, and how many bytes of it came. */
  let begun = -1;
  let bytes = 0;
  for (let at = 0; at + HEADER <= log.length; ) {
    const left = BLOCK - (at % BLOCK);
    if (left < HEADER) {
      at += left;
      continue;
    }
    const length = record(log, at);
    if (!length) {
      const end = Math.min(at + HEADER + log.readUInt16LE(at + 4), log.length);
      for (let inside = at + HEADER; inside < end; inside++) if (record(log, inside) > HEADER) return at;
      return -1;
    }
    const type = log[at + 6];
    if (type === FULL || type === FIRST) {
      // LevelDB lets a part pass that holds nothing.
      if (begun >= 0 && bytes) return begun;
      [begun, bytes] = [type === FIRST ? at : -1, 0];
    }
    if (type === LAST) begun = -1;
    bytes += length - HEADER;
    at += length;
  }
  return -1;
}

/** The log files of the profile's stores. */
export function logs(profile) {
  let folders;
  try {
    folders = readdirSync(join(profile, 'Default/IndexedDB'));
  } catch {
    return []; // Not there yet.
  }
  return folders
    .filter((folder) => folder.endsWith('.indexeddb.leveldb'))
    .flatMap((folder) => readdirSync(join(profile, 'Default/IndexedDB', folder)).map((name) => join(profile, 'Default/IndexedDB', folder, name)))
    .filter((path) => path.endsWith('.log'))
    .map((path) => readFileSync(path));
}
