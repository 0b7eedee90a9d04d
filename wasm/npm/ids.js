// Ids are UUIDs: text to the application, 16 bytes to the log.

import { DuralogError } from './errors.js';

const FORM = /^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i;
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

export function toBytes(id) {
  if (typeof id !== 'string' || !FORM.test(id)) throw new DuralogError('invalid', `an id must be a UUID, not ${String(id)}`);
  const hex = id.replaceAll('-', '');
  return Uint8Array.from({ length: 16 }, (_, at) => parseInt(hex.substr(2 * at, 2), 16));
}

const LAST = (1n << 64n) - 1n;

/** The LSN that an application gave, which would else wrap round. */
export function toLsn(value) {
  const lsn = typeof value === 'bigint' ? value : Number.isSafeInteger(value) ? BigInt(value) : -1n;
  if (lsn < 0n || lsn > LAST) throw new DuralogError('invalid', `an LSN is a bigint from 0 to 2 ** 64 - 1, not ${String(value)}`);
  return lsn;
}

export function toText(bytes) {
  let text = '';
  for (let at = 0; at < 16; at++) text += HEX[bytes[at]] + (at === 3 || at === 5 || at === 7 || at === 9 ? '-' : '');
  return text;
}
