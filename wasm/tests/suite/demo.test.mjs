// The demo page, as somebody uses it. DURALOG_SCREENSHOTS: the folder that gets pictures of it.

import test from 'node:test';
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { PATIENCE_MS, chromium, chromiumPath, remove, temporary } from './harness.mjs';

test('notes survive the end of their worker, an export and an import', { skip: !chromiumPath() && 'there is no Chromium' }, async () => {
  const { demo } = await import(join(process.env.DURALOG_DEMO, 'serve.mjs'));
  const profile = temporary();
  const server = await demo('node_modules/duralog');
  const browser = await chromium(profile);
  try {
    const page = await browser.page(server.url);
    page.setDefaultTimeout(PATIENCE_MS);
    const errors = [];
    page.on('pageerror', ({ message }) => errors.push(message));
    page.on('dialog', (dialog) => dialog.accept());
    const says = async (pattern) => {
      await page.waitForFunction((source) => new RegExp(source).test(document.getElementById('said').textContent), pattern.source);
      return page.textContent('#said');
    };
    const notes = async () => Number(await page.textContent('#figures dd'));
    const picture = async (name) => {
      if (process.env.DURALOG_SCREENSHOTS) await page.screenshot({ path: join(process.env.DURALOG_SCREENSHOTS, name) });
    };
    await page.setViewportSize({ width: 1024, height: 900 });
    await says(/A new log/);
    await page.fill('#text', 'Milk, bread, a birthday card');
    await page.click('#add button');
    await says(/LSN 1 is strict/);
    await page.click('#many');
    await says(/1,000 notes, each acknowledged/);
    await page.waitForFunction(() => document.querySelector('#figures dd').textContent === '1001');
    await page.click('#checkpoint');
    await says(/checkpoint 1/);
    await page.click('#verify');
    await says(/every entry was read and verified/);
    await picture('demo.png');

    await page.click('#kill');
    assert.match(await says(/was killed/), /nothing acknowledged is lost/);
    await page.waitForFunction(() => Number(document.querySelector('#figures dd').textContent) >= 1301);
    const kept = await notes();
    await picture('demo-killed.png');

    const download = page.waitForEvent('download');
    await page.click('#export');
    const file = await (await download).path();
    await says(/exported/);
    await page.fill('#text', 'gone with the import');
    await page.click('#add button');
    await says(/is strict/);
    await page.setInputFiles('#import', file);
    await says(/imported/);
    await page.waitForFunction((kept) => Number(document.querySelector('#figures dd').textContent) === kept, kept);
    assert.deepEqual(errors, []);
  } finally {
    await browser.close();
    await server.close();
    remove(profile);
  }
});
