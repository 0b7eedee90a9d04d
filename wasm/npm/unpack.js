// Unpacks the WebAssembly module: its bytes kind by kind, how many there are of each before them, in a raw stream of LZMA
// (lc 1, lp 0, pb 0), which is a quarter smaller than what the browser itself can inflate. Written from the format's
// specification by Igor Pavlov.

import { KINDS, walk } from './kinds.js';

const STATES = 12;
const [MATCH, REPEAT, REPEAT_0, REPEAT_0_LONG, REPEAT_1, REPEAT_2] = [0, 1, 2, 3, 4, 5].map((kind) => kind * STATES);
const LENGTH = 6 * STATES; // Two choices, 8 + 8 short and 256 long lengths, for matches and for repetitions.
const LENGTH_SIZE = 2 + 8 + 8 + 256;
const SLOT = LENGTH + 2 * LENGTH_SIZE; // By the length: 0, 1, 2, and all others.
const SPECIAL = SLOT + 4 * 64;
const ALIGN = SPECIAL + 128;
const LITERAL = ALIGN + 16; // By the upper bit of the byte before.

/** Gives the module, which has so many bytes. */
export function unpack(packed, length) {
  const counts = new Uint32Array(KINDS);
  const kinds = decode(packed, length + counts.byteLength);
  const from = new DataView(kinds.buffer);
  let start = counts.byteLength;
  counts.forEach((_, kind) => {
    counts[kind] = start;
    start += from.getUint32(4 * kind, true);
  });
  const module = new Uint8Array(length);
  let end = 0;
  walk(length, (kind) => (module[end++] = kinds[counts[kind]++]));
  return module;
}

function decode(packed, length) {
  const out = new Uint8Array(length);
  const chances = new Uint16Array(LITERAL + 2 * 0x300).fill(1024);
  let at = 1;
  let code = 0;
  let range = 0xffffffff;
  const take = () => (code = ((code << 8) | packed[at++]) >>> 0);
  for (let n = 0; n < 4; n++) take();

  const normalize = () => {
    if (range >= 1 << 24) return;
    range = (range << 8) >>> 0;
    take();
  };
  const bit = (index) => {
    const chance = chances[index];
    const bound = (range >>> 11) * chance;
    const set = code >= bound;
    if (set) {
      range -= bound;
      code -= bound;
      chances[index] -= chance >> 5;
    } else {
      range = bound;
      chances[index] += (2048 - chance) >> 5;
    }
    normalize();
    return Number(set);
  };
  const tree = (base, bits) => {
    let node = 1;
    for (let n = 0; n < bits; n++) node = 2 * node + bit(base + node);
    return node - (1 << bits);
  };
  const reversed = (base, bits) => {
    let [node, value] = [1, 0];
    for (let n = 0; n < bits; n++) {
      const one = bit(base + node);
      node = 2 * node + one;
      value |= one << n;
    }
    return value;
  };
  const lengthOf = (base) => {
    if (!bit(base)) return 2 + tree(base + 1, 3);
    if (!bit(base + 1)) return 10 + tree(base + 9, 3);
    return 18 + tree(base + 17, 8);
  };
  const distance = (length) => {
    const slot = tree(SLOT + 64 * Math.min(length - 2, 3), 6);
    if (slot < 4) return slot;
    const bits = (slot >> 1) - 1;
    const high = ((2 | (slot & 1)) << bits) >>> 0;
    if (slot < 14) return high + reversed(SPECIAL + high - slot, bits);
    let direct = 0;
    for (let n = 4; n < bits; n++) {
      range >>>= 1;
      const set = code >= range;
      if (set) code -= range;
      direct = 2 * direct + Number(set);
      normalize();
    }
    return high + 16 * direct + reversed(ALIGN, 4);
  };

  let state = 0;
  let end = 0;
  const back = [0, 0, 0, 0];
  while (end < length) {
    if (!bit(MATCH + state)) {
      const base = LITERAL + 0x300 * (end && out[end - 1] >> 7);
      let node = 1;
      // Behind a match the byte that the match would have gone on with says something of this one.
      for (let guess = state < 7 ? -1 : out[end - back[0] - 1] | 0x100; node < 0x100; ) {
        if (guess < 0) {
          node = 2 * node + bit(base + node);
          continue;
        }
        guess <<= 1;
        const expected = (guess >> 8) & 1;
        const one = bit(base + 0x100 * (1 + expected) + node);
        node = 2 * node + one;
        if (one !== expected) guess = -1;
      }
      out[end++] = node;
      state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
      continue;
    }
    let many;
    if (!bit(REPEAT + state)) {
      many = lengthOf(LENGTH);
      back.pop();
      back.unshift(distance(many));
      state = state < 7 ? 7 : 10;
    } else {
      let which = 0;
      if (bit(REPEAT_0 + state)) which = bit(REPEAT_1 + state) ? 2 + bit(REPEAT_2 + state) : 1;
      else if (!bit(REPEAT_0_LONG + state)) many = 1;
      if (which) back.unshift(...back.splice(which, 1));
      state = many ? (state < 7 ? 9 : 11) : state < 7 ? 8 : 11;
      many ??= lengthOf(LENGTH + LENGTH_SIZE);
    }
    for (; many && end < length; many--, end++) out[end] = out[end - back[0] - 1];
  }
  return out;
}
