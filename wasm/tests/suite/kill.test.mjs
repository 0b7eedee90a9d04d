// The browser is killed in the middle of writing: what it acknowledged is there, whole, in order, byte for byte.
//
// A kill at the wrong moment makes Chromium delete a LevelDB store two openings later (leveldb.mjs says how). That is told,
// and taken for nothing else: the file that the store was written to must show it.
//
// DURALOG_KILLS: how often, for each medium (unless set, 20 times, and 5 in Firefox, which takes long to start). The acknowledgements are kept outside the browser.

import test from 'node:test';
import assert from 'node:assert/strict';
import { logs, writtenOnBehindTorn } from './leveldb.mjs';
import { BACKENDS, chromium, chromiumPath, firefox, firefoxPath, remove, serve, temporary } from './harness.mjs';

const LEAST = 100; // A log that acknowledges nothing proves nothing.

/** Writes until so many groups are acknowledged; gives the last one. The page counts, we poll: a binding would lag. */
async function acknowledged(page, least) {
  for (;;) {
    const seen = await page.evaluate(() => globalThis.acknowledged);
    assert.equal(typeof seen.last, 'number', String(seen.last));
    if (seen.count >= least) return seen;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const begin = ([device, name]) =>
  new Promise((resolve, reject) => {
    const seen = (globalThis.acknowledged = { count: 0, last: -1 });
    const acknowledge = (group) => {
      seen.count++;
      seen.last = group;
    };
    if (device === 'opfs') {
      const worker = (globalThis.worker = new Worker('/kill.js', { type: 'module' })); // A worker that nothing refers to may be collected.
      worker.onmessage = ({ data }) => ('begun' in data ? resolve(data.begun) : (acknowledge(data.group), typeof data.group === 'string' && reject(new Error(data.group))));
      worker.postMessage({ device, name });
    } else {
      import('/kill.js').then(({ write }) => write(device, name, acknowledge)).then(resolve, reject);
    }
  });
const look = ([device, name]) => import('/kill.js').then(({ look }) => look(device, name));

const suite = (title, device, launch, usual = 20) => {
  const kills = Number(process.env.DURALOG_KILLS ?? usual);
  test(`${title}, ${device}: ${kills} kills`, async (context) => {
    const profile = temporary();
    const server = await serve(process.cwd());
    let last = -1;
    /** Whether the log may be made anew: the first time, and where the browser was about to delete its store. */
    let isNew = true;
    const before = () => {
      if (logs(profile).some((log) => writtenOnBehindTorn(log) >= 0)) {
        context.diagnostic(`after the acknowledgement of group ${last}: LevelDB wrote on behind a torn record, and Chromium deletes the store`);
        isNew = true;
        last = -1;
      }
    };
    try {
      for (let kill = 0; kill < kills; kill++) {
        before();
        const browser = await launch(profile);
        try {
          const page = await browser.page(server.url);
          const begun = await page.evaluate(begin, [device, 'kill']);
          assert.equal(begun.created, isNew);
          isNew = false;
          assert.ok(begun.groups > last, `${begun.groups} groups are there, ${last + 1} were acknowledged`);
          // Different from kill to kill, and not the same in every run of the suite.
          ({ last } = await acknowledged(page, LEAST + ((kill * 37) % 50)));
        } finally {
          await browser.kill();
        }
      }
      before();
      const browser = await launch(profile);
      try {
        const found = await (await browser.page(server.url)).evaluate(look, [device, 'kill']);
        assert.ok(found.groups > last, `${found.groups} groups are there, ${last + 1} were acknowledged`);
        assert.equal(found.success, true);
        assert.equal(found.findings, 0);
      } finally {
        await browser.close();
      }
    } finally {
      await server.close();
      remove(profile);
    }
  });
};

if (chromiumPath()) {
  for (const backend of Object.keys(BACKENDS)) suite(`Chromium, ${backend}`, 'indexeddb', (profile) => chromium(profile, backend));
  suite('Chromium', 'opfs', chromium);
}
if (firefoxPath()) {
  suite('Firefox', 'indexeddb', firefox, 5);
  suite('Firefox', 'opfs', firefox, 5);
}
