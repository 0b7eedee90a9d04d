// The bytes of a WebAssembly module, told apart by what they are: the first bytes of instructions, and what follows those of
// each kind. Bytes of one kind are like each other: packed kind by kind, a module takes a tenth less than as it stands.

/** So many kinds there are: what follows an instruction, by its first byte, and those of `OFFSET` and on. */
export const KINDS = 0x104;
const [OFFSET, INSTRUCTION, FRAME, OTHER] = [0x100, 0x101, 0x102, 0x103];

const isMemory = (code) => code >= 0x28 && code < 0x3f;
const [BRANCHES, INDIRECT, SINGLE, DOUBLE, LONG] = [14, 17, 0x43, 0x44, 0xfc];

/** Whether a number follows the instruction. */
const isFollowed = (code) =>
  (code > 1 && code < 5) || (code > 11 && code < 18 && code !== 15) || (code > 31 && code < SINGLE) || code === 0xd0 || code === 0xd2;

/**
 * Walks through a module of so many bytes: `take` is told of which kind the next byte is, and gives it. An instruction that
 * is not known here is taken for one that nothing follows, in packing and unpacking alike.
 */
export function walk(length, take) {
  let at = 0;
  const next = (kind) => (at++, take(kind));
  const some = (kind, count) => {
    while (count-- > 0) next(kind);
  };
  const number = (kind) => {
    let [value, factor, byte] = [0, 1, 0];
    do {
      byte = next(kind);
      value += (byte & 127) * factor;
      factor *= 128;
    } while (byte > 127);
    return value;
  };
  const instruction = () => {
    const code = next(INSTRUCTION);
    if (code === LONG) {
      const which = number(INSTRUCTION);
      some(code, which < 8 ? 0 : 2 - (which % 2));
    } else if (code === SINGLE || code === DOUBLE) {
      some(code, code === SINGLE ? 4 : 8);
    } else if (isFollowed(code)) {
      let more = number(code) + 1;
      if (isMemory(code)) number(OFFSET);
      if (code === INDIRECT) number(code);
      if (code === BRANCHES) while (more-- > 0) number(code);
    }
  };

  some(OTHER, 8);
  while (at < length) {
    const section = next(OTHER);
    const size = number(OTHER);
    if (section !== 10) {
      some(OTHER, size);
      continue;
    }
    for (let functions = number(OTHER); functions > 0; functions--) {
      const end = number(FRAME) + at;
      for (let groups = number(FRAME); groups > 0; groups--) {
        number(FRAME);
        next(FRAME);
      }
      while (at < end) instruction();
    }
  }
}
