// The default entry: the WebAssembly module is inlined, so that no bundler and no server has to know of it.

import { bytes } from './inline.js';
import * as glue from './glue.js';
import { Log, MemoryStore, openEngine, openImporter, wasm } from './log.js';
import { isWorker, serve } from './remote.js';

/** The module is in base64, deflated. */
wasm.load = async () => {
  const packed = Uint8Array.from(atob(bytes), (char) => char.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  const module = await WebAssembly.compile(await new Response(stream).arrayBuffer());
  glue.initSync({ module });
  return glue;
};

if (isWorker()) serve(openEngine, openImporter);

export { Log, MemoryStore };
export { DuralogError } from './errors.js';
