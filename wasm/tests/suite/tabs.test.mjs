// Several tabs, quota, a database that is deleted, an evicted origin: in Chromium, which lets a test cause them.

import test, { after, before, describe } from 'node:test';
import assert from 'node:assert/strict';
import { BACKENDS, PATIENCE_MS, chromium, chromiumPath, remove, serve, temporary } from './harness.mjs';

// In each page: `act(step, argument)` does one thing with the log `globalThis.log` and gives its outcome as text.
const act = async ([step, argument]) => {
  const { Log } = await import('/node_modules/duralog/index.js');
  const outcome = async (promise) =>
    promise.then(
      (value) => (typeof value === 'object' ? 'ok' : String(value)),
      (error) => error.code ?? error.name,
    );
  const steps = {
    open: async (options) => outcome(Log.open('shared', options).then((log) => ((globalThis.log = log), 'open'))),
    append: async (bytes) => {
      // Bytes that a backend cannot compress.
      const random = new Uint8Array(bytes);
      for (let at = 0; at < bytes; at += 65536) crypto.getRandomValues(random.subarray(at, at + 65536));
      return outcome(globalThis.log.append(random).then(({ lsn }) => lsn));
    },
    count: async () => {
      let count = 0;
      for await (const entry of globalThis.log.read()) count += entry.type === 'opaque';
      return String(count);
    },
    truncate: async () => {
      await globalThis.log.discardBefore(globalThis.log.currentLsn);
      return String((await globalThis.log.stats()).totalSegments);
    },
    checkpoint: () => outcome(globalThis.log.checkpoint({})),
    segments: async () => (await globalThis.log.stats()).totalSegments,
    // What comes of the mark behind it depends on how soon the backend gives the room back.
    giveUp: () => globalThis.log.truncateBefore(globalThis.log.currentLsn).then(() => 'given up', ({ code }) => code === 'quota' ? 'given up' : code),
    close: () => outcome(globalThis.log.close().then(() => 'closed')),
    wait: () => {
      globalThis.waiting = Log.open('shared', { wait: true }).then((log) => ((globalThis.log = log), 'open'));
      return 'waits';
    },
    waited: () => outcome(globalThis.waiting),
    delete: () =>
      new Promise((resolve) => {
        const request = indexedDB.deleteDatabase('duralog:shared');
        request.onsuccess = () => resolve('deleted');
        request.onblocked = () => resolve('blocked');
      }),
  };
  return steps[step](argument);
};

for (const backend of chromiumPath() ? Object.keys(BACKENDS) : []) {
  describe(`Chromium, ${backend}`, () => {
    let server, profile, browser, one, two;
    before(async () => {
      profile = temporary();
      server = await serve(process.cwd());
      browser = await chromium(profile, backend);
    });
    after(async () => {
      await browser?.close();
      await server?.close();
      remove(profile);
    });
    const fresh = async () => {
      for (const page of [one, two]) await page?.close();
      one = await browser.page(server.url);
      two = await browser.page(server.url);
      await one.evaluate(() => new Promise((resolve) => (indexedDB.deleteDatabase('duralog:shared').onsuccess = resolve)));
    };
    const says = async (page, step, argument, expected) => assert.equal(await page.evaluate(act, [step, argument]), expected, step);

    test('a second tab is refused, reads, and takes over when the first is done', async () => {
      await fresh();
      await says(one, 'open', {}, 'open');
      await says(one, 'append', 10, '1');
      await says(two, 'open', {}, 'locked');
      await says(one, 'open', {}, 'locked');
      await says(two, 'open', { readOnly: true }, 'open');
      await says(two, 'count', 0, '1');
      await says(two, 'wait', 0, 'waits');
      await says(one, 'close', 0, 'closed');
      await says(two, 'waited', 0, 'open');
      await says(two, 'append', 10, '2');
    });

    test('a tab that dies leaves no lock', async () => {
      await fresh();
      await says(one, 'open', {}, 'open');
      await says(one, 'append', 10, '1');
      await one.close();
      one = undefined;
      await says(two, 'open', { wait: true }, 'open');
      await says(two, 'count', 0, '1');
    });

    test('a writer whose lock was stolen writes nothing any more', async () => {
      await fresh();
      await says(one, 'open', {}, 'open');
      await says(one, 'append', 10, '1');
      await says(two, 'open', { steal: true }, 'open');
      await says(one, 'append', 10, 'fenced');
      await says(one, 'append', 10, 'fenced');
      await says(two, 'append', 10, '2');
      await says(two, 'count', 0, '2');
      await says(two, 'close', 0, 'closed');
      await says(two, 'open', { fullCheck: true }, 'open');
      await says(two, 'count', 0, '2');
    });

    test('what was only buffered is kept when its page is left', async () => {
      await fresh();
      await says(one, 'open', { syncMode: 'batched', interval: 3_600_000 }, 'open');
      await says(one, 'append', 10, '1');
      await says(one, 'append', 10, '2');
      await one.goto('about:blank', { timeout: PATIENCE_MS });
      await says(two, 'open', { wait: true }, 'open');
      await says(two, 'count', 0, '2');
    });

    test('over quota an append is refused, nothing is lost, and the log goes on once there is room', async () => {
      // A site of its own: Chromium remembers for a while that another has much room.
      const site = await serve(process.cwd());
      const one = await browser.page(site.url);
      const session = await browser.context.newCDPSession(one);
      const { origin } = new URL(site.url);
      await session.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 3_000_000 });
      await says(one, 'open', { segmentSize: 1 << 20 }, 'open');
      await says(one, 'append', 1000, '1');
      let kept = 1;
      let said;
      for (; kept < 40; kept++) {
        said = await one.evaluate(act, ['append', 200_000]);
        if (said !== String(kept + 1)) break;
      }
      assert.equal(said, 'quota');
      // What a backend takes for its own use comes and goes: whether there is room a moment later is the browser's affair.
      if ((await one.evaluate(act, ['append', 200_000])) !== 'quota') kept++;
      await says(one, 'count', 0, String(kept));
      await session.send('Storage.overrideQuotaForOrigin', { origin });
      await says(one, 'append', 200_000, String(kept + 1));
      await says(one, 'truncate', 0, '1');
      await says(one, 'close', 0, 'closed');
      await says(one, 'open', { fullCheck: true }, 'open');
      await one.close();
      await site.close();
    });

    test('over quota a log is opened and read, and truncation removes what a checkpoint holds', async () => {
      const site = await serve(process.cwd());
      const one = await browser.page(site.url);
      const session = await browser.context.newCDPSession(one);
      const { origin } = new URL(site.url);
      await session.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 4_000_000 });
      await says(one, 'open', { segmentSize: 1 << 20 }, 'open');
      for (let n = 1; n < 13; n++) await says(one, 'append', 200_000, String(n));
      await says(one, 'checkpoint', 0, '1');
      // To the last byte, as far as the browser's account goes.
      let kept = 12;
      for (const size of [200_000, 20_000, 2000, 200, 20]) {
        for (let tries = 0; tries < 30; tries++) {
          const said = await one.evaluate(act, ['append', size]);
          if (said === 'quota') break;
          assert.equal(said, String(++kept + 1));
        }
      }
      await one.evaluate(act, ['close']);
      await says(one, 'open', { segmentSize: 1 << 20 }, 'open');
      await says(one, 'count', 0, String(kept));
      const before = await one.evaluate(act, ['segments']);
      await says(one, 'giveUp', 0, 'given up');
      assert.ok((await one.evaluate(act, ['segments'])) < before);
      await one.evaluate(act, ['close']);
      await session.send('Storage.overrideQuotaForOrigin', { origin });
      await says(one, 'open', { segmentSize: 1 << 20, fullCheck: true }, 'open');
      await says(one, 'append', 10, String(kept + 2));
      await says(one, 'close', 0, 'closed');
      await one.close();
      await site.close();
    });

    test('a database that is deleted under a log is told of, and an evicted one is lost', async () => {
      await fresh();
      await says(one, 'open', {}, 'open');
      await says(one, 'append', 10, '1');
      await says(two, 'delete', 0, 'deleted');
      await says(one, 'append', 10, 'gone');
      await says(one, 'close', 0, 'gone');
      await says(two, 'open', { expectDurable: 1n }, 'lost');
      await says(two, 'open', {}, 'open');
      const session = await browser.context.newCDPSession(two);
      await session.send('Storage.clearDataForOrigin', { origin: new URL(server.url).origin, storageTypes: 'indexeddb' });
      await says(two, 'append', 10, 'gone');
    });
  });
}
