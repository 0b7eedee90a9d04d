// Power cuts under the shipped IndexedDB device, in Node on an IndexedDB in memory, and in Chromium on its own.

import test, { after, before, describe } from 'node:test';
import assert from 'node:assert/strict';
import 'fake-indexeddb/auto';
import { cutEverywhere, lies } from './powercut.js';
import { BACKENDS, chromium, chromiumPath, remove, serve, temporary } from './harness.mjs';

const enough = ({ cuts, transactions }) => {
  assert.ok(transactions > 60, `${transactions} transactions`);
  assert.ok(cuts > transactions, `${cuts} cuts`);
};

for (const durability of ['strict', 'relaxed']) {
  test(`Node, ${durability}: the log reopens wherever the power is cut`, async () => enough(await cutEverywhere(durability)));
}

test('Node: a transaction that was acknowledged and is gone is told of', async () => {
  const { refused, complete } = await lies();
  assert.ok(refused > 3 * complete, `${refused} of ${refused + complete} were told of`);
});

for (const backend of chromiumPath() ? Object.keys(BACKENDS) : []) {
  describe(`Chromium, ${backend}`, () => {
    let server, profile, browser, page;
    before(async () => {
      profile = temporary();
      server = await serve(process.cwd());
      browser = await chromium(profile, backend);
      page = await browser.page(`${server.url}powercut.html`);
    });
    after(async () => {
      await browser?.close();
      await server?.close();
      remove(profile);
    });
    test('strict: the log reopens wherever the power is cut', async () => {
      enough(await page.evaluate(() => import('/powercut.js').then(({ cutEverywhere }) => cutEverywhere('strict'))));
    });
  });
}
