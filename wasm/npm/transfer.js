// A whole log as one stream: a tar archive (POSIX ustar) of the files that a native log's folder holds, as
// `duralog pack` and `duralog unpack` have it. The bytes are the log's own; nothing is made of them here.

import { DuralogError } from './errors.js';
import { MARK, PENDING } from './storage.js';

const BLOCK = 512;
const CHUNK = 256 << 10;
const NAME = /^(segment_[0-9a-f]{16}\.wal|checkpoint_[0-9a-f]{16}\.ckpt|wal\.meta)$/;

const bytesOf = (text) => new TextEncoder().encode(text);

function header(name, length) {
  const block = new Uint8Array(BLOCK);
  const put = (at, text) => block.set(bytesOf(text), at);
  put(0, name);
  put(100, '0000644\0' + '0000000\0' + '0000000\0' + length.toString(8).padStart(11, '0') + '\0' + '00000000000\0');
  put(148, '        0');
  put(257, 'ustar\0' + '00');
  const sum = block.reduce((sum, byte) => sum + byte, 0);
  put(148, sum.toString(8).padStart(6, '0') + '\0 ');
  return block;
}

/** Writes a log to a stream of bytes. */
export async function exportTo(engine, writable, { signal, onProgress } = {}) {
  const writer = writable.getWriter();
  try {
    const objects = (await engine.objects()).filter(({ name }) => NAME.test(name));
    const total = objects.reduce((sum, { length }) => sum + length, 0);
    let bytes = 0;
    for (const { name, length } of objects) {
      await writer.write(header(name, length));
      for (let at = 0; at < length; at += CHUNK) {
        if (signal?.aborted) throw signal.reason;
        const chunk = await engine.bytesOf(name, at, Math.min(CHUNK, length - at));
        if (chunk.length < Math.min(CHUNK, length - at)) throw new DuralogError('gone', `${name} was removed while the log was exported: begin again`);
        await writer.write(chunk);
        onProgress?.({ bytes: (bytes += chunk.length), total });
      }
      await writer.write(new Uint8Array((BLOCK - (length % BLOCK)) % BLOCK));
    }
    await writer.write(new Uint8Array(2 * BLOCK));
    await writer.close();
    return { objects: objects.length, bytes: total };
  } catch (error) {
    await writer.abort(error).catch(() => {});
    throw error;
  }
}

/** Takes the chunks of an archive and puts what they hold into an empty storage. */
export class Importer {
  #storage;
  #verify;
  #pending = [];
  #have = 0;
  #object;
  #left = 0;
  #padding = 0;
  #at = 0;
  #ended = false;
  objects = 0;
  bytes = 0;

  constructor(storage, verify) {
    this.#storage = storage;
    this.#verify = verify;
  }

  /** Does something with the storage, and waits for it. */
  #do(call) {
    return new Promise((resolve, reject) => {
      const { failure } = this.#storage;
      const ended = (value) => {
        if (value >= 0) return resolve(value);
        const cause = this.#storage.failure === failure ? undefined : this.#storage.failure;
        const code = { '-1': 'quota', '-2': 'fenced', '-3': 'gone' }[value] ?? 'device';
        reject(new DuralogError(code, `the import failed: ${cause?.message ?? 'the storage failed'}`, { cause }));
      };
      this.#storage.resume = ended;
      const begun = call(this.#storage);
      if (begun !== PENDING) ended(begun);
    });
  }

  async begin() {
    await this.#do((storage) => storage.open());
    if (this.#storage.names().trim()) throw new DuralogError('exists', 'there is a log of this name: nothing is written over');
    await this.#do((storage) => storage.create(MARK));
    await this.#do((storage) => storage.sync());
  }

  #take(length) {
    const bytes = new Uint8Array(length);
    let filled = 0;
    while (filled < length) {
      const first = this.#pending[0];
      const part = first.subarray(0, length - filled);
      bytes.set(part, filled);
      filled += part.length;
      if (part.length === first.length) this.#pending.shift();
      else this.#pending[0] = first.subarray(part.length);
    }
    this.#have -= length;
    return bytes;
  }

  async feed(chunk) {
    this.#pending.push(chunk);
    this.#have += chunk.length;
    while (!this.#ended) {
      if (this.#left) {
        if (!this.#have) return;
        const part = this.#take(Math.min(this.#left, this.#have, CHUNK));
        await this.#do((storage) => storage.write(this.#object, this.#at, part));
        this.#at += part.length;
        this.#left -= part.length;
        this.bytes += part.length;
      } else if (this.#padding) {
        if (this.#have < this.#padding) return;
        this.#take(this.#padding);
        this.#padding = 0;
      } else {
        if (this.#have < BLOCK) return;
        await this.#entry(this.#take(BLOCK));
      }
    }
  }

  async #entry(block) {
    if (block.every((byte) => byte === 0)) return void (this.#ended = true);
    const text = (from, to) => new TextDecoder().decode(block.subarray(from, to)).replace(/[\0 ].*$/s, '');
    const sum = block.reduce((sum, byte, at) => sum + (at >= 148 && at < 156 ? 32 : byte), 0);
    const [name, length] = [text(0, 100), parseInt(text(124, 136), 8)];
    if (sum !== parseInt(text(148, 156).trim(), 8) || !NAME.test(name) || !(length >= 0)) {
      throw new DuralogError('invalid', 'this is no packed log');
    }
    this.#object = name;
    this.#at = 0;
    this.#left = length;
    this.#padding = (BLOCK - (length % BLOCK)) % BLOCK;
    this.objects++;
    await this.#do((storage) => storage.create(name));
  }

  async end() {
    if (!this.#ended || !this.objects) throw new DuralogError('invalid', 'the packed log ends too early');
    await this.#do((storage) => storage.sync());
    if (this.#verify) await this.#verify(this.#storage);
    await this.#do((storage) => storage.remove(MARK));
    await this.#do((storage) => storage.sync());
    return { objects: this.objects, bytes: this.bytes };
  }

  release() {
    this.#storage.close();
  }
}
