// The contract in real browsers: windows and workers, both backends of Chromium's IndexedDB, and Firefox.

import test, { after, before, describe } from 'node:test';
import assert from 'node:assert/strict';
import { contract } from './contract.js';
import { BACKENDS, chromium, chromiumPath, firefox, firefoxPath, remove, serve, temporary } from './harness.mjs';

/** A window whose log is in a worker. */
const IN_WORKER = ['window', 'opfs'];
const PLACES = [['window', 'indexeddb'], ['worker', 'indexeddb'], ['worker', 'opfs'], IN_WORKER];

const inWindow = ([device, name]) => import('/run.js').then(({ run }) => run(device, name));
const inWorker = ([device, name]) =>
  new Promise((resolve) => {
    const worker = (globalThis.worker = new Worker('/run.js', { type: 'module' })); // A worker that nothing refers to may be collected.
    worker.onmessage = ({ data }) => (worker.terminate(), resolve(data));
    worker.onerror = (event) => resolve(`the worker failed: ${event.message}`);
    worker.postMessage({ device, name });
  });

const suite = (browserName, places, launch) =>
  describe(browserName, () => {
    let server, profile, browser, page;
    before(async () => {
      profile = temporary();
      server = await serve(process.cwd());
      browser = await launch(profile);
      page = await browser.page(server.url);
    });
    after(async () => {
      await browser?.close();
      await server?.close();
      remove(profile);
    });
    for (const [place, device] of places) {
      for (const name of Object.keys(contract({}, device))) {
        test(`${place}, ${device}: ${name}`, async () => {
          assert.equal(await page.evaluate(place === 'window' ? inWindow : inWorker, [device, name]), '');
        });
      }
    }
    if (places.includes(IN_WORKER)) {
      test('a worker that fails tells whoever waits, and nothing rejects unheard', async () => {
        assert.equal(await page.evaluate(() => import('/run.js').then(({ fail }) => fail())), '');
      });
    }
  });

for (const backend of Object.keys(BACKENDS)) {
  const places = backend === 'leveldb' ? PLACES : PLACES.slice(0, 1);
  if (chromiumPath()) suite(`Chromium, ${backend}`, places, (profile) => chromium(profile, backend));
}
if (firefoxPath()) {
  suite('Firefox', PLACES, firefox);
  // What a page waits for may hang by nothing but the worker that is to answer, and a worker by nothing but what it answers.
  suite('Firefox, garbage collected all the time', [IN_WORKER], (profile) => firefox(profile, { collecting: true }));
}
