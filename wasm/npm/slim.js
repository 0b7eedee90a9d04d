// The slim entry: whoever imports it says where the WebAssembly module is.

import * as glue from './glue.js';
import { wasm } from './opening.js';

let source;

wasm.load = async () => {
  const given = await (source ?? new URL('./duralog.wasm', import.meta.url));
  if (given instanceof WebAssembly.Module || ArrayBuffer.isView(given) || given instanceof ArrayBuffer) {
    glue.initSync({ module: given instanceof WebAssembly.Module ? given : await WebAssembly.compile(given) });
  } else {
    await glue.default({ module_or_path: given });
  }
  return glue;
};

/** Says where the module is: a URL, a response, bytes or a compiled module. To be called before a log is opened. */
export function useWasm(given) {
  source = given;
}

export { Log, MemoryStore } from './log.js';
export { DuralogError } from './errors.js';
