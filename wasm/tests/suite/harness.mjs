// A server for pages, and browsers that are started on profiles of their own and killed.

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { extname, join, normalize } from 'node:path';

const TYPES = { '.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm', '.json': 'application/json' };
const CHROMIUM = ['/usr/lib/chromium/chromium', '/usr/bin/google-chrome', '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'];
const FIREFOX = ['/usr/bin/firefox-esr', '/usr/bin/firefox', '/Applications/Firefox.app/Contents/MacOS/firefox'];
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--remote-debugging-port=0',
];

/** How long a browser may take for a step: nothing depends on it, but that a test ends at all. */
export const PATIENCE_MS = 300_000;

export const BACKENDS = { leveldb: [], sqlite: ['--enable-features=IdbSqliteBackingStore,IdbSqliteOnDiskRollout'] };

const first = (paths, variable) => (process.env[variable] ? process.env[variable] : paths.find((path) => existsSync(path)));
export const chromiumPath = () => first(CHROMIUM, 'DURALOG_CHROMIUM');
export const firefoxPath = () => first(FIREFOX, 'DURALOG_FIREFOX');

/** Serves a folder at an address of its own. */
export async function serve(folder) {
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://x').pathname));
    if (path === '/') {
      response.setHeader('content-type', 'text/html');
      return response.end('<!doctype html><meta charset=utf-8><link rel=icon href=data:,><title>duralog</title>');
    }
    try {
      const body = await readFile(join(folder, path));
      response.setHeader('content-type', TYPES[extname(path)] ?? 'application/octet-stream');
      response.end(body);
    } catch {
      response.statusCode = 404;
      response.end();
    }
  });
  await new Promise((resolve) => server.listen(0, 'localhost', resolve));
  return { url: `http://localhost:${server.address().port}/`, close: () => new Promise((resolve) => { server.closeAllConnections(); server.close(resolve); }) };
}

export const temporary = () => mkdtempSync(join(tmpdir(), 'duralog-'));

/** Removes a profile; a helper of a browser that was just killed may still be about to write to it. */
export function remove(folder) {
  for (let tries = 1; ; tries++) {
    try {
      return rmSync(folder, { recursive: true, force: true });
    } catch (error) {
      if (tries === 100) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
    }
  }
}

/** Ends a browser with all its helpers: it leads a group of processes of its own. */
function killGroup(child) {
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    child.kill('SIGKILL');
  }
}
process.on('exit', () => running.forEach(killGroup));
const running = new Set();

/** Chromium on a profile; `kill` is a SIGKILL of its process, which is the browser's own and not a shell's. */
export async function chromium(profile, backend = 'leveldb') {
  const { chromium } = await import('playwright-core');
  const port = join(profile, 'DevToolsActivePort');
  rmSync(port, { force: true });
  const child = spawn(chromiumPath(), [...FLAGS, ...BACKENDS[backend], `--user-data-dir=${profile}`, 'about:blank'], {
    stdio: 'ignore',
    detached: true,
    // What it keeps for the moment would stay behind a kill: so it goes with the profile.
    env: { ...process.env, TMPDIR: profile },
  });
  running.add(child);
  const exited = new Promise((resolve) => child.once('exit', () => (running.delete(child), resolve())));
  const stop = async () => {
    killGroup(child);
    await exited;
  };
  try {
    for (let tries = 0; !existsSync(port) || !readFileSync(port, 'utf8').includes('\n'); tries++) {
      if (tries === PATIENCE_MS / 50 || child.exitCode !== null) throw new Error('Chromium did not start');
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const [number] = readFileSync(port, 'utf8').split('\n');
    const browser = await chromium.connectOverCDP(`http://127.0.0.1:${number}`, { timeout: PATIENCE_MS });
    const context = browser.contexts()[0];
    return {
      context,
      version: browser.version(),
      page: async (url) => {
        const page = await context.newPage();
        await page.goto(url, { timeout: PATIENCE_MS });
        return page;
      },
      kill: stop,
      close: async () => {
        await browser.close().catch(() => {});
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Has Firefox collect the garbage of a page and its workers again and again, until it is asked to stop. */
async function collecting({ connection }, page) {
  const { result } = await connection.send('browsingContext.getTree', { 'moz:scope': 'chrome' });
  const chrome = result.contexts[0].context;
  const evaluate = async (context, expression) => {
    const { result } = await connection.send('script.evaluate', { target: { context }, awaitPromise: false, expression });
    if (result.type !== 'success') throw new Error(`Firefox does not collect: ${JSON.stringify(result)}`);
  };
  let stopped = false;
  const end = (async () => {
    while (!stopped) {
      const begun = performance.now();
      await evaluate(chrome, ['gc', 'cc'].map((which) => `Services.obs.notifyObservers(null, 'child-${which}-request')`).join());
      // The page answers when it has collected. Then it gets as much time for its work, so that a slow machine gets on too.
      await evaluate(page.mainFrame()._id, '0');
      await new Promise((resolve) => setTimeout(resolve, performance.now() - begun));
    }
  })();
  end.catch(() => {}); // It is told when it is asked to stop.
  return () => ((stopped = true), end);
}

/** Firefox on a profile, over WebDriver BiDi: no driver is needed. It is started here, so that a kill is no race. */
export async function firefox(profile, { collecting: collects = false } = {}) {
  const { default: puppeteer } = await import('puppeteer-core');
  writeFileSync(
    join(profile, 'user.js'),
    'user_pref("remote.active-protocols", 1);\nuser_pref("browser.shell.checkDefaultBrowser", false);\n' +
      'user_pref("datareporting.policy.dataSubmissionEnabled", false);\nuser_pref("toolkit.startup.max_resumed_crashes", -1);\n' +
      'user_pref("app.update.enabled", false);\nuser_pref("browser.sessionstore.resume_from_crash", false);\n',
  );
  const flags = ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port=0'];
  if (collects) flags.push('--remote-allow-system-access');
  const child = spawn(firefoxPath(), [...flags, 'about:blank'], {
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
    env: { ...process.env, TMPDIR: profile },
  });
  running.add(child);
  const exited = new Promise((resolve) => child.once('exit', () => (running.delete(child), resolve())));
  const stop = async () => {
    killGroup(child);
    await exited;
  };
  try {
    const address = await new Promise((resolve, reject) => {
      let text = '';
      child.stderr.on('data', (data) => {
        text += data;
        const found = /WebDriver BiDi listening on (ws:\S+)/.exec(text);
        if (found) resolve(found[1]);
      });
      child.once('exit', () => reject(new Error(`Firefox did not start: ${text}`)));
    });
    const browser = await puppeteer.connect({ browserWSEndpoint: `${address}/session`, protocol: 'webDriverBiDi', protocolTimeout: PATIENCE_MS });
    let collected = () => {};
    return {
      page: async (url) => {
        const page = await browser.newPage();
        await page.goto(url, { timeout: PATIENCE_MS });
        if (collects) collected = await collecting(browser, page);
        return page;
      },
      kill: stop,
      close: async () => {
        await collected();
        await browser.disconnect();
        await stop();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
