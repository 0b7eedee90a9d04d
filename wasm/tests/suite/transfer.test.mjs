// A log goes from the browser to native files and back: exported, unpacked, verified, appended to, packed, imported.

import test, { after, before, describe } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { chromium, chromiumPath, remove, serve, temporary } from './harness.mjs';

const CLI = process.env.DURALOG_CLI;
const run = promisify(execFile);
const duralog = async (...args) => (await run(CLI, args, { maxBuffer: 64 << 20 })).stdout;


/** Makes a log, in the page; gives it as one base64 text. */
const make = async (device) => {
  const { Log, MemoryStore } = await import('/node_modules/duralog/index.js');
  const id = 'ffffffff-4455-6677-8899-aabbccddeeff';
  await Log.delete('transfer', { device });
  const store = await MemoryStore.open('transfer', { device, segmentSize: 1 << 18 });
  for (let n = 0; n < 400; n++) await store.insert({ id: crypto.randomUUID(), content: `note ${n}`.padEnd(1000, '.'), embedding: [n] });
  await store.insert({ id, content: 'from the browser', embedding: [0.5, -1] });
  await store.checkpoint();
  await store.delete((await store[Symbol.asyncIterator]().next()).value.id);
  await store.insert({ id: crypto.randomUUID(), content: 'last' });
  const stream = new TransformStream();
  const bytes = new Response(stream.readable).arrayBuffer();
  await store.log.exportTo(stream.writable);
  await store.close();
  let text = '';
  for (const byte of new Uint8Array(await bytes)) text += String.fromCharCode(byte);
  return btoa(text);
};

/** Imports a log, in the page, and exports it again. */
const back = async ([device, packed]) => {
  const { Log, MemoryStore } = await import('/node_modules/duralog/index.js');
  const bytes = Uint8Array.from(atob(packed), (char) => char.charCodeAt(0));
  const stream = (from, to) => new Blob([bytes.subarray(from, to)]).stream();
  const said = [];
  const told = async (promise) => said.push(await promise.then(() => 'ok', (error) => error.code));
  await told(Log.importFrom('transfer', stream(), { device }));
  await Log.delete('transfer', { device });
  await told(Log.importFrom('transfer', stream(0, bytes.length / 2), { device }));
  said.push((await Log.list({ device })).some(({ name }) => name === 'transfer'));
  await told(Log.importFrom('transfer', stream(), { device }));
  const reader = await Log.open('transfer', { device, readOnly: true });
  const copy = new TransformStream();
  const again = new Response(copy.readable).arrayBuffer();
  await reader.exportTo(copy.writable);
  await reader.close();
  let exported = '';
  for (const byte of new Uint8Array(await again)) exported += String.fromCharCode(byte);
  const store = await MemoryStore.open('transfer', { device, fullCheck: true });
  said.push(await store.size(), (await store.get('ffffffff-4455-6677-8899-aabbccddeeff')).content);
  await store.close();
  return { said, exported: btoa(exported) };
};

describe('transfer', { skip: !chromiumPath() || !CLI ? 'it takes Chromium and the program duralog' : false }, () => {
  let server, profile, browser, page;
  before(async () => {
    profile = temporary();
    server = await serve(process.cwd());
    browser = await chromium(profile);
    page = await browser.page(server.url);
  });
  after(async () => {
    await browser?.close();
    await server?.close();
    remove(profile);
  });

  for (const device of ['indexeddb', 'opfs']) {
    test(`${device}: from the browser to native files, and back`, async () => {
      const folder = temporary();
      try {
        const file = (name) => join(folder, name);
        await writeFile(file('out.tar'), Buffer.from(await page.evaluate(make, device), 'base64'));
        await duralog('unpack', file('out.tar'), file('log'));
        await assert.rejects(duralog('unpack', file('out.tar'), file('log')));
        const before = new Map();
        for (const name of await readdir(file('log'))) before.set(name, await readFile(join(file('log'), name)));
        await duralog('verify', file('log'));
        const state = await duralog('state', file('log'));
        assert.equal(state.split('\n').filter(Boolean).length, 401);
        assert.match(state, /from the browser/);
        // It goes on natively, and what was there before stays as it was.
        const id = crypto.randomUUID();
        await writeFile(file('more.jsonl'), `${JSON.stringify({ id, content: 'appended natively', embedding: [1] })}\n`);
        await duralog('import', file('log'), file('more.jsonl'));
        const sealed = [...before.keys()].filter((name) => name.endsWith('.wal')).sort();
        for (const name of sealed) {
          const now = await readFile(join(file('log'), name));
          assert.ok(now.subarray(0, before.get(name).length).equals(before.get(name)), `${name} is not what it was`);
        }
        await duralog('pack', file('log'), file('back.tar'));
        const packed = (await readFile(file('back.tar'))).toString('base64');
        const { said, exported } = await page.evaluate(back, [device, packed]);
        assert.deepEqual(said, ['exists', 'invalid', false, 'ok', 402, 'from the browser']);
        // What was imported is exported again byte for byte.
        await writeFile(file('again.tar'), Buffer.from(exported, 'base64'));
        await duralog('unpack', file('again.tar'), file('again'));
        const names = (await readdir(file('log'))).filter((name) => name !== 'LOCK');
        assert.deepEqual((await readdir(file('again'))).sort(), names.sort());
        for (const name of names) {
          const [there, here] = [await readFile(join(file('again'), name)), await readFile(join(file('log'), name))];
          assert.ok(there.equals(here), `${name} is not what it was`);
        }
      } finally {
        remove(folder);
      }
    });
  }
});
