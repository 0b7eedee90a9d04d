// Runs the contract in a window or a worker; gives the names of its tests, or what came of one.

import * as duralog from '/node_modules/duralog/index.js';
import { contract } from './contract.js';

export const names = (device) => Object.keys(contract(duralog, device));

export const run = (device, name) =>
  contract(duralog, device)[name]().then(
    () => '',
    (error) => `${error.code ?? error.name}: ${error.message}\n${error.cause ?? ''}\n${error.stack}`,
  );

if (typeof WorkerGlobalScope !== 'undefined') {
  onmessage = async ({ data: { device, name } }) => postMessage(await run(device, name));
}
