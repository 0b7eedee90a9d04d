// The default entry: the WebAssembly module is inlined, so that no bundler and no server has to know of it.

import './inlined.js';

export { Log, MemoryStore } from './log.js';
export { DuralogError } from './errors.js';
