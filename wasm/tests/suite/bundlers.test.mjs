// The package without configuration: a plain module script, Vite in three versions, webpack, esbuild; and its manifest.

import test, { after, before, describe } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { PATIENCE_MS, chromium, chromiumPath, remove, serve, temporary } from './harness.mjs';

const TOOLS = process.env.DURALOG_TOOLS;
const run = promisify(execFile);
const tool = (name) => join(TOOLS, '.bin', name);

// What a newcomer writes: each device is tried in a window, so that the worker has to be found too.
const MAIN = `
import { Log, MemoryStore } from 'duralog';
const told = [];
for (const device of ['indexeddb', 'opfs']) {
  // A development server may load the page twice.
  const log = await Log.open('bundled ' + crypto.randomUUID(), { device });
  await log.append(new Uint8Array([1, 2, 3]));
  for await (const { bytes } of log.read()) told.push(device + ' ' + bytes.join());
  await log.close();
}
globalThis.told = told.join('; ');
`;
const HTML = (script) => `<!doctype html><meta charset=utf-8><link rel=icon href=data:,><script type=module src=${script}></script>`;

describe('consumers', { skip: !chromiumPath() && 'there is no Chromium' }, () => {
  let profile, browser;
  before(async () => {
    profile = temporary();
    browser = await chromium(profile);
  });
  after(async () => {
    await browser?.close();
    remove(profile);
  });

  /** A project of its own, with the package installed. */
  const project = (name, main = MAIN) => {
    const folder = join(process.cwd(), 'projects', name);
    mkdirSync(join(folder, 'node_modules'), { recursive: true });
    cpSync(join(process.cwd(), 'node_modules/duralog'), join(folder, 'node_modules/duralog'), { recursive: true });
    writeFileSync(join(folder, 'package.json'), '{"type":"module","dependencies":{"duralog":"*"}}');
    writeFileSync(join(folder, 'main.js'), main);
    writeFileSync(join(folder, 'index.html'), HTML('/main.js'));
    return folder;
  };

  const works = async (url) => {
    const page = await browser.page(url);
    const errors = [];
    page.on('pageerror', (error) => errors.push(error.message));
    try {
      await page.waitForFunction(() => globalThis.told, undefined, { timeout: PATIENCE_MS }).catch(() => {});
      assert.match(String(await page.evaluate(() => globalThis.told)), /^indexeddb 1,2,3; opfs 1,2,3$/, errors.join('\n'));
    } finally {
      await page.close();
    }
  };

  const served = async (folder) => {
    const server = await serve(folder);
    try {
      await works(`${server.url}index.html`);
    } finally {
      await server.close();
    }
  };

  test('a plain module script', async () => {
    await served(project('plain', MAIN.replace("'duralog'", "'./node_modules/duralog/index.js'")));
  });

  test("the README's page, as it stands", async () => {
    const folder = project('readme');
    const readme = readFileSync(join(folder, 'node_modules/duralog/README.md'), 'utf8');
    const [, page] = /```html\n([\s\S]*?)```/.exec(readme);
    writeFileSync(join(folder, 'index.html'), page);
    const server = await serve(folder);
    try {
      const page = await browser.page(`${server.url}index.html`);
      await page.waitForFunction(() => document.querySelector('#out').textContent.includes('a note'), undefined, { timeout: PATIENCE_MS });
      assert.match(await page.textContent('#out'), /^entry 1 is strict, the store holds 1\n/);
      await page.close();
    } finally {
      await server.close();
    }
  });

  for (const vite of ['vite', 'vite7', 'vite5']) {
    test(`${vite}, dev`, async () => {
      const folder = project(`${vite}-dev`);
      symlinkSync(join(TOOLS, vite), join(folder, 'node_modules', 'vite'));
      const { createServer } = await import(join(TOOLS, vite, 'dist/node/index.js'));
      const server = await createServer({ root: folder, logLevel: 'error', cacheDir: join(folder, '.vite'), server: { port: 0, host: 'localhost' } });
      await server.listen();
      try {
        await works(server.resolvedUrls.local[0]);
      } finally {
        await server.close();
      }
    });
  }

  test('vite, build', async () => {
    const folder = project('vite-build');
    const { build } = await import(join(TOOLS, 'vite/dist/node/index.js'));
    await build({ root: folder, logLevel: 'error', build: { target: 'esnext' } });
    await served(join(folder, 'dist'));
  });

  test('webpack, build', async () => {
    const folder = project('webpack');
    writeFileSync(join(folder, 'index.html'), HTML('/dist/main.js'));
    await run(process.execPath, [tool('webpack'), '--mode', 'production', '--entry', './main.js', '--context', folder, '-o', join(folder, 'dist')], { cwd: folder });
    await served(folder);
  });

  test('esbuild, one file', async () => {
    const folder = project('esbuild');
    await run(tool('esbuild'), ['main.js', '--bundle', '--minify', '--format=esm', '--outfile=out.js'], { cwd: folder });
    writeFileSync(join(folder, 'index.html'), HTML('/out.js'));
    await served(folder);
  });
});

// Turbopack follows a worker into what it imports, and where that makes the worker it goes round for ever.
test('what the worker imports makes no worker', () => {
  const seen = new Set();
  const visit = (name) => {
    if (seen.has(name)) return;
    seen.add(name);
    const source = readFileSync(join('node_modules/duralog', name), 'utf8');
    assert.ok(!source.includes('new Worker('), name);
    for (const [, other] of source.matchAll(/^(?:import|export) [^;]*?'\.\/([\w.]+)';/gm)) visit(other);
  };
  visit('worker.js');
  assert.ok(seen.has('engine.js') && seen.has('glue.js'), [...seen].join());
});

test('the types hold under tsc --strict', async () => {
  const options = ['--strict', '--noEmit', '--target', 'esnext', '--module', 'nodenext', '--moduleResolution', 'nodenext', '--lib', 'esnext,dom,dom.asynciterable', '--types', ''];
  await run(tool('tsc'), [...options, 'types.ts']).catch(({ stdout }) => assert.fail(stdout));
});

test('publint and attw are content with the package', async () => {
  const { stdout } = await run(tool('publint'), ['--strict', 'node_modules/duralog']).catch((error) => error);
  assert.match(stdout, /All good/, stdout);
  // The package is for modules alone, and `duralog/wasm` is no module of JavaScript.
  const options = ['--profile', 'esm-only', '--exclude-entrypoints', './wasm', '--no-color'];
  await run(tool('attw'), [process.env.DURALOG_PACKAGE, ...options]).catch(({ stdout }) => assert.fail(stdout));
});
