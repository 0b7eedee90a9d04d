// A log in a worker, as the window sees it: the calls of an engine, each a message.

import { DuralogError } from './errors.js';
import { WORKER } from './serve.js';

const CALLS = [
  'append', 'begin', 'end_', 'wait', 'checkpoint', 'loadCheckpoint', 'truncate', 'read', 'next', 'rebuild', 'get',
  'feed', 'end', 'count_', 'documentsAfter', 'verify', 'stats', 'objects', 'bytesOf', 'lsns', 'close',
];
/** What these are given is taken as it is when they are called. */
const TAKEN = ['append', 'checkpoint', 'feed'];
/** Nobody waits for what comes of these. */
const UNHEARD = ['idle', 'endRead'];

/** Those whose worker is to answer: a browser may collect a worker that only its own answers lead to, and Firefox does. */
const alive = new Set();

class Remote {
  #worker;
  #own;
  #waiting = new Map();
  #count = 0;
  #calls = [];
  #ended;

  constructor(worker, own) {
    this.#worker = worker;
    this.#own = own;
    alive.add(this);
    worker.onmessage = ({ data }) => this.#answer(data);
    worker.onerror = (event) => this.#end(new DuralogError('panic', `the worker has failed: ${event.message ?? 'it could not be loaded'}`));
    worker.onmessageerror = () => this.#end(new DuralogError('panic', 'a message of the worker could not be read'));
    for (const call of CALLS) this[call] = (...args) => this.call(call, args);
    for (const call of UNHEARD) this[call] = (...args) => void this.call(call, args).catch(() => {});
  }

  call(call, args) {
    if (this.#ended) return Promise.reject(this.#ended);
    try {
      if (TAKEN.includes(call)) args = structuredClone(args);
    } catch (cause) {
      return Promise.reject(new DuralogError('invalid', cause.message, { cause }));
    }
    return new Promise((resolve, reject) => {
      const id = ++this.#count;
      this.#waiting.set(id, { resolve, reject });
      // What is asked in one turn goes in one message, and shares a sync there.
      if (!this.#calls.length) queueMicrotask(() => this.#send());
      this.#calls.push({ id, call, args });
    });
  }

  #send() {
    const calls = this.#calls;
    this.#calls = [];
    try {
      this.#worker.postMessage(calls);
    } catch (cause) {
      if (calls.length === 1) return this.#answer([{ id: calls[0].id, error: { code: 'invalid', message: cause.message, cause } }]);
      // Only what cannot be sent is refused.
      for (const call of calls) (this.#calls = [call]), this.#send();
    }
  }

  #answer(answers) {
    for (const { id, value, error } of answers) {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) waiting?.reject(new DuralogError(error.code, error.message, error));
      else waiting?.resolve(value);
    }
  }

  #end(error) {
    this.#ended ??= error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
    alive.delete(this);
  }

  release() {
    this.#end(new DuralogError('closed', 'the log is closed'));
    if (this.#own) this.#worker.terminate();
  }
}

/** Begins an import in a worker. */
export const importInWorker = async (name, options, given) => {
  const { remote } = await inWorker(name, options, given, 'import');
  return { feed: (chunk) => remote.feed(chunk), end: () => remote.end(), release: () => remote.call('release', []).finally(() => remote.release()) };
};

/** Opens the engine of a log in a worker: the one that is given, or one of the package's own. */
export async function inWorker(name, options, given, open = 'open') {
  const start = () => new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'duralog:worker' });
  let remote = new Remote(given ?? start(), !given);
  try {
    await remote.call('hello', []);
  } catch (error) {
    if (given || error.code !== 'panic') throw error;
    // A development server that moved this file does not find the worker beside it: this very file serves there too.
    remote.release();
    const source = new Blob([`import ${JSON.stringify(import.meta.url)};`], { type: 'text/javascript' });
    const url = URL.createObjectURL(source);
    remote = new Remote(new Worker(url, { type: 'module', name: WORKER }), true);
    await remote.call('hello', []).finally(() => URL.revokeObjectURL(url));
  }
  try {
    remote.report = await remote.call(open, [name, options]);
  } catch (error) {
    remote.release();
    throw error;
  }
  return open === 'open' ? remote : { remote };
}
