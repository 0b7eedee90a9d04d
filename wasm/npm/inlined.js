// The WebAssembly module, inlined; and in a worker of the package, what serves a window.

import { bytes, length } from './inline.js';
import { Engine, initSync } from './glue.js';
import { openEngine, openImporter, wasm } from './opening.js';
import { isWorker, serve } from './serve.js';
import { unpack } from './unpack.js';

/** The module is in base64, packed. */
wasm.load = async () => {
  const packed = Uint8Array.fromBase64?.(bytes) ?? Uint8Array.from(atob(bytes), (char) => char.charCodeAt(0));
  initSync({ module: await WebAssembly.compile(unpack(packed, length)) });
  return { Engine };
};

if (isWorker()) serve(openEngine, openImporter);
