// Storage in the origin private file system, by sync access handles, which only a dedicated worker has; and in memory.
// The names are those that a folder of a native log has.

import { failed, later, whole } from './storage.js';

const FOLDER = 'duralog';
const TRIES = 100;
const PAUSE_MS = 50;

const folder = async (create) => (await navigator.storage.getDirectory()).getDirectoryHandle(FOLDER, { create });

export class Files {
  copyOffset = 4096;
  settled = false;
  rollsBack = false;

  constructor(name, { write, create }) {
    Object.assign(this, { name: encodeURIComponent(name), write_: write, create_: create && write });
    this.files = new Map(); // Name -> its handle, or null if it was not opened yet.
    this.dirty = new Set();
  }

  open() {
    return later(this, async () => {
      try {
        this.folder = await (await folder(this.create_)).getDirectoryHandle(this.name, { create: this.create_ });
      } catch (error) {
        if (error.name === 'NotFoundError' && !this.create_) return; // There is no log, and none is made.
        throw error;
      }
      for await (const name of this.folder.keys()) this.files.set(name, null);
      whole([...this.files.keys()]);
    });
  }

  names() {
    return [...this.files.keys(), ''].join('\n');
  }

  /** The handle of a file. A tab that has just died may hold it for a moment. */
  async handle(name, create) {
    const file = await this.folder.getFileHandle(name, { create });
    if (!this.write_) return this.copy(name, await file.getFile());
    for (let tries = 1; ; tries++) {
      try {
        const handle = await file.createSyncAccessHandle();
        this.files.set(name, handle);
        return handle;
      } catch (error) {
        if (error.name !== 'NoModificationAllowedError' || tries === TRIES) throw error;
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
  }

  /** Who only reads disturbs no writer: a segment as it is now, of which no more than one is kept. */
  async copy(name, file) {
    const bytes = new Uint8Array(await file.arrayBuffer());
    for (const other of this.files.keys()) this.files.set(other, null);
    const copy = {
      read: (into, { at }) => {
        const part = bytes.subarray(at, at + into.length);
        into.set(part);
        return part.length;
      },
      getSize: () => bytes.length,
      close: () => {},
    };
    this.files.set(name, copy);
    return copy;
  }

  /** Does something with a file, at once if it is open. */
  with(name, run) {
    const handle = this.files.get(name);
    if (handle === undefined) return -3;
    if (!handle) return later(this, async () => run(await this.handle(name, false)));
    try {
      return run(handle) || 0;
    } catch (error) {
      return failed(this, error);
    }
  }

  create(name) {
    if (!this.write_) return -4;
    return later(this, async () => {
      const handle = this.files.get(name) || (await this.handle(name, true));
      handle.truncate(0);
      this.dirty.add(handle);
    });
  }

  read(name, at, into) {
    // What waited is asked again.
    if (this.files.get(name) === null) return later(this, async () => void (await this.handle(name, false)));
    return this.with(name, (handle) => handle.read(into, { at }));
  }

  write(name, at, bytes) {
    if (!this.write_) return -4;
    const own = this.files.get(name) ? bytes : bytes.slice();
    return this.with(name, (handle) => {
      this.dirty.add(handle);
      if (handle.write(own, { at }) < own.length) throw new DOMException('the write was short', 'QuotaExceededError');
    });
  }

  remove(name) {
    if (!this.write_) return -4;
    return later(this, async () => {
      const handle = this.files.get(name);
      this.files.delete(name);
      this.dirty.delete(handle);
      handle?.close();
      await this.folder.removeEntry(name);
    });
  }

  size(name) {
    return this.with(name, (handle) => handle.getSize());
  }

  sync() {
    try {
      for (const handle of this.dirty) handle.flush();
      this.dirty.clear();
      return 0;
    } catch (error) {
      // Nothing is known about what was flushed: never say no more than that there is no room.
      this.failure = error;
      return -5;
    }
  }

  tidy() {
    return 0;
  }

  close() {
    for (const handle of this.files.values()) handle?.close();
    this.files.clear();
  }

  static async list() {
    const names = [];
    try {
      for await (const name of (await folder(false)).keys()) names.push(decodeURIComponent(name));
    } catch (error) {
      if (error.name !== 'NotFoundError') throw error;
    }
    return names;
  }

  static async delete(name) {
    await (await folder(true)).removeEntry(encodeURIComponent(name), { recursive: true });
  }
}

/** Logs in memory by their names: they live as long as the page, or until they are deleted. */
const logs = new Map();

export class Memory {
  copyOffset = 128;
  settled = true;
  rollsBack = false;

  constructor(name, { write, create }) {
    Object.assign(this, { name, write_: write });
    this.files = logs.get(name) ?? new Map();
    if (write && create) logs.set(name, this.files);
  }

  open() {
    return 0;
  }

  names() {
    return [...this.files.keys(), ''].join('\n');
  }

  create(name) {
    if (!this.write_) return -4;
    this.files.set(name, { bytes: new Uint8Array(1024), length: 0 });
    return 0;
  }

  read(name, at, into) {
    const file = this.files.get(name);
    if (!file) return -3;
    const part = file.bytes.subarray(at, Math.min(file.length, at + into.length));
    into.set(part);
    return part.length;
  }

  write(name, at, bytes) {
    const file = this.files.get(name);
    if (!this.write_ || !file) return this.write_ ? -3 : -4;
    const end = at + bytes.length;
    if (end > file.bytes.length) {
      const larger = new Uint8Array(Math.max(end, 2 * file.bytes.length));
      larger.set(file.bytes.subarray(0, file.length));
      file.bytes = larger;
    }
    file.bytes.set(bytes, at);
    file.length = Math.max(file.length, end);
    return 0;
  }

  remove(name) {
    if (!this.write_) return -4;
    this.files.delete(name);
    return 0;
  }

  size(name) {
    return this.files.get(name)?.length ?? -3;
  }

  sync() {
    return 0;
  }

  tidy() {
    return 0;
  }

  close() {}

  static list() {
    return [...logs.keys()];
  }

  static delete(name) {
    logs.delete(name);
  }
}
