// Serves the demo with a package beside it, and prints its address: node serve.mjs PACKAGE

import { cpSync, mkdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { remove, serve, temporary } from '../tests/suite/harness.mjs';

const here = dirname(fileURLToPath(import.meta.url));

/** Serves it from a folder of its own; gives the address, and how to end. */
export async function demo(packed) {
  const folder = temporary();
  mkdirSync(join(folder, 'node_modules'));
  cpSync(resolve(packed), join(folder, 'node_modules/duralog'), { recursive: true });
  for (const name of ['index.html', 'demo.css', 'demo.js', 'notes.js']) cpSync(join(here, name), join(folder, name));
  const server = await serve(folder);
  return { url: `${server.url}index.html`, close: () => server.close().finally(() => remove(folder)) };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url, close } = await demo(process.argv[2]);
  console.log(`The demo is at ${url} until this program is stopped.`);
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => close().finally(() => process.exit()));
}
