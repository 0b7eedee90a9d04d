// The default entry: the WebAssembly module is inlined, so that no bundler and no server has to know of it.

import { bytes, length } from './inline.js';
import { Engine, initSync } from './glue.js';
import { Log, MemoryStore, openEngine, openImporter, wasm } from './log.js';
import { isWorker, serve } from './remote.js';
import { unpack } from './unpack.js';

/** The module is in base64, packed. */
wasm.load = async () => {
  const packed = Uint8Array.fromBase64?.(bytes) ?? Uint8Array.from(atob(bytes), (char) => char.charCodeAt(0));
  initSync({ module: await WebAssembly.compile(unpack(packed, length)) });
  return { Engine };
};

if (isWorker()) serve(openEngine, openImporter);

export { Log, MemoryStore };
export { DuralogError } from './errors.js';
