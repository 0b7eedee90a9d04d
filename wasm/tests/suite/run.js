// Runs the contract in a window or a worker; gives the names of its tests, or what came of one.

import * as duralog from '/node_modules/duralog/index.js';
import { contract } from './contract.js';

export const names = (device) => Object.keys(contract(duralog, device));

let unheard = () => {};
globalThis.addEventListener('unhandledrejection', ({ reason }) => unheard(reason));
const told = (error) => `${error.code ?? error.name}: ${error.message}\n${error.cause ?? ''}\n${error.stack}`;

/** What came of a test: nothing is to reject unheard meanwhile. */
const judged = async (test) => {
  const rejected = [];
  unheard = (reason) => rejected.push(reason);
  try {
    await test();
  } catch (error) {
    return told(error);
  }
  // Of what was rejected unheard one is told after the other, some time later: the last is this one.
  const last = new Error('the last');
  await new Promise((resolve) => {
    unheard = (reason) => (reason === last ? resolve() : rejected.push(reason));
    Promise.reject(last);
  });
  return rejected.map((error) => `unheard: ${told(error)}`).join('\n');
};

export const run = (device, name) => judged(contract(duralog, device)[name]);

/** In a window, with a worker of the page: it fails while a log is read, and the log would fall idle. */
export const fail = () =>
  judged(async () => {
    const timers = [];
    const { setTimeout } = globalThis;
    globalThis.setTimeout = (run) => timers.push(run);
    try {
      const worker = new Worker('/node_modules/duralog/worker.js', { type: 'module', name: 'duralog:worker' });
      const log = await duralog.Log.open('failing', { device: 'opfs', worker });
      // Two pages.
      for (let n = 0; n < 2; n++) await log.append(new Uint8Array(400 << 10));
      const reading = log.read();
      await reading.next();
      const waiting = log.append(new Uint8Array(1));
      worker.dispatchEvent(new ErrorEvent('error', { message: 'planted' }));
      timers.forEach((run) => run());
      const second = async () => (await reading.next(), reading.next());
      for (const call of [() => waiting, second, () => log.sync(), () => log.close()]) {
        const error = await call().then(() => undefined, (error) => error);
        if (error?.code !== 'panic' || !error.message.includes('planted')) throw new Error(`a call came to ${error}`);
      }
      worker.terminate();
    } finally {
      globalThis.setTimeout = setTimeout;
    }
  });

if (typeof WorkerGlobalScope !== 'undefined') {
  onmessage = async ({ data: { device, name } }) => postMessage(await run(device, name));
}
