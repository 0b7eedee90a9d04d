// Runs the benchmark page in Chromium and prints its table: node run.mjs PACKAGE [ROUNDS]

import { mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { chromium, remove, serve, temporary } from '../tests/suite/harness.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const tools = join(here, '../tests/node_modules');
const [packed, rounds = '5'] = process.argv.slice(2);

const version = (folder) => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).version;
const number = (value) => value.toFixed(2).padStart(8);
const line = (name, { ratio, least, most, time }, unit) =>
  `  ${name.padEnd(42)} ${number(ratio)} ${number(least)} ${number(most)}   ${(time * (unit === 'us' ? 1000 : 1)).toFixed(0)} ${unit}`;

const profile = temporary();
const folder = temporary();
mkdirSync(join(folder, 'node_modules/@sqlite.org'), { recursive: true });
symlinkSync(here, join(folder, 'bench'));
symlinkSync(resolve(packed), join(folder, 'node_modules/duralog'));
symlinkSync(join(tools, 'dexie'), join(folder, 'node_modules/dexie'));
symlinkSync(join(tools, '@sqlite.org/sqlite-wasm'), join(folder, 'node_modules/@sqlite.org/sqlite-wasm'));
const server = await serve(folder);
const browser = await chromium(profile);
const failed = [];
try {
  console.log(`Chromium ${browser.version}, Dexie ${version(join(tools, 'dexie'))}, sqlite-wasm ${version(join(tools, '@sqlite.org/sqlite-wasm'))}; ${rounds} rounds`);
  console.log(`${''.padEnd(44)}   median    least     most   the median time of a record`);
  const show = ({ title, target, time, lines }, unit = 'us') => {
    console.log(`\n${title}: the baseline takes ${(time * (unit === 'us' ? 1000 : 1)).toFixed(0)} ${unit}${target ? `, target ${target}` : ''}`);
    for (const one of lines) {
      console.log(line(one.name, one, unit));
      if (target && one.name.startsWith('duralog') && one.most < target) failed.push(`${title}: ${one.name}`);
    }
  };
  const page = await browser.page(`${server.url}bench/index.html`);
  const count = await page.evaluate(() => globalThis.bench.count);
  for (let index = 0; index < count; index++) {
    show(await page.evaluate(([index, rounds]) => globalThis.bench.row(index, rounds), [index, Number(rounds)]));
  }
  await page.evaluate((rounds) => globalThis.bench.prepare(rounds), Number(rounds));
  await page.close();
  const next = await browser.page(`${server.url}bench/index.html`);
  show(await next.evaluate((rounds) => globalThis.bench.load(rounds), Number(rounds)), 'ms');
} finally {
  await browser.close();
  await server.close();
  remove(profile);
  remove(folder);
}

// What a page loads, minified and compressed, each entry by itself.
const { build } = await import(join(tools, 'esbuild/lib/main.js'));
const shipped = async (entry, extra = []) => {
  const { outputFiles } = await build({ entryPoints: [entry], bundle: true, minify: true, format: 'esm', write: false, logLevel: 'error' });
  return [outputFiles[0].contents, ...extra.map((file) => readFileSync(file))].reduce((sum, bytes) => sum + gzipSync(bytes, { level: 9 }).length, 0);
};
const sqlite = join(tools, '@sqlite.org/sqlite-wasm/dist');
console.log('\nshipped bytes, minified, gzip -9:');
for (const [name, entry, extra] of [
  ['duralog', join(packed, 'index.js')],
  ['Dexie', join(tools, 'dexie/dist/modern/dexie.mjs')],
  ['sqlite-wasm', join(sqlite, 'index.mjs'), [join(sqlite, 'sqlite3.wasm')]],
]) {
  console.log(`  ${name.padEnd(42)} ${String(await shipped(entry, extra)).padStart(8)}`);
}
for (const what of failed) console.log(`below its target in every round: ${what}`);
