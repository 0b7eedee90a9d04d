// What opens a log in this thread: in a window, or in the worker that serves one. It makes no worker itself: a bundler that
// follows workers would go round in a circle, and some do not end.

import { Engine } from './engine.js';
import { DuralogError } from './errors.js';
import { Files, Memory } from './files.js';
import { IndexedDb } from './indexeddb.js';
import { Importer } from './transfer.js';

export const DEVICES = { indexeddb: IndexedDb, opfs: Files, memory: Memory };

/** How the module is got: set by the entry that is imported. */
export const wasm = { load: undefined };
let loading;

/** Loads the module once; after a failure it is tried again. */
const load = () => (loading ??= wasm.load().catch((error) => ((loading = undefined), Promise.reject(unsupported(error)))));
const unsupported = (error) =>
  new DuralogError('unsupported', `the WebAssembly module could not be loaded: ${error?.message}`, { cause: error });

/** Opens the engine of a log in this thread, without locks. Used in a window and, for OPFS, in the worker. */
export async function openEngine(name, { device: kind, durability, steal, ...options }) {
  const write = !options.readOnly && options.policy !== 'inspect';
  const storage = new DEVICES[kind](name, { durability, write, create: options.create ?? true, steal });
  storage.durability = kind === 'memory' ? 'memory' : kind === 'opfs' ? 'strict' : durability;
  const engine = new Engine(await load(), storage);
  try {
    engine.report = await engine.open(options);
  } catch (error) {
    engine.release();
    throw error;
  }
  return engine;
}

/** Reads all of a log that is being imported, and refuses what cannot be relied on. */
async function verified(storage) {
  // It is open.
  storage.open = () => 0;
  const engine = new Engine(await load(), storage);
  const { success, findings } = await engine.open({ policy: 'inspect', fullCheck: true });
  engine.core.free();
  if (success) return;
  const { message, place, lsns } = findings.find(({ harmless }) => !harmless) ?? {};
  const what = `the packed log is damaged: ${message}; import it with verify: false to keep what can be read`;
  throw new DuralogError('damaged', what, { place, lsn: lsns?.first });
}

/** Begins an import in this thread, without locks. */
export async function openImporter(name, { device: kind, durability, verify }) {
  const storage = new DEVICES[kind](name, { durability, write: true, create: true });
  const importer = new Importer(storage, verify && verified);
  try {
    await importer.begin();
  } catch (error) {
    importer.release();
    throw error;
  }
  return importer;
}
