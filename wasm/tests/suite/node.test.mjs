// The packed package in Node: the memory device, and what is said where there is no browser.

import test from 'node:test';
import assert from 'node:assert/strict';
import * as duralog from 'duralog';
import { contract } from './contract.js';

for (const [name, run] of Object.entries(contract(duralog, 'memory'))) test(`memory: ${name}`, run);

test('IndexedDB and OPFS are refused by name where there is no browser', async () => {
  for (const device of ['indexeddb', 'opfs']) {
    await assert.rejects(duralog.Log.open('x', { device }), { code: 'unsupported' });
  }
});
