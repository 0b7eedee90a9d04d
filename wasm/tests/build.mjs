// Puts the npm package together: node build.mjs BINDGEN MODULE.wasm FOLDER
//
// BINDGEN is the program of `wasm/bindgen`, MODULE what cargo made of `wasm/`; FOLDER gets the package as it is published.
// Its size is checked: it may not grow unnoticed, beyond what `size.json` says and a kilobyte more.

import { execFileSync } from 'node:child_process';
import { cpSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import esbuild from 'esbuild';
import { KINDS, walk } from '../npm/kinds.js';
import { unpack } from '../npm/unpack.js';

const here = dirname(fileURLToPath(import.meta.url));
const [bindgen, module, folder] = process.argv.slice(2);
const GROWTH = 1024;

/** The JavaScript with the short names for imports and exports that the module has been given. */
function renamed(text, { imports, exports }) {
  const names = new Map([...imports.flatMap(([from, name, short]) => [[from, 'a'], [name, short]]), ...exports]);
  return text.replace(/(?<=wasm\.)\w+|(?<=^ *"?)[\w./]+(?="?: )/gm, (name) => names.get(name) ?? name);
}

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
cpSync(join(here, '../npm'), folder, { recursive: true });
for (const name of ['LICENSE-MIT', 'LICENSE-APACHE']) copyFileSync(join(here, '../..', name), join(folder, name));

const bound = mkdtempSync(join(tmpdir(), 'duralog-bindgen-'));
const wasm = join(folder, 'duralog.wasm');
try {
  execFileSync(bindgen, [module, bound], { stdio: 'inherit' });
  const whole = join(bound, 'duralog_wasm_bg.wasm');
  const glue = join(bound, 'duralog_wasm.js');
  // No feature is switched on here that the compiler did not use: browsers refuse modules with newer ones.
  // The lowest kilobyte of memory is the far end of the stack: offsets may be folded into what loads and stores.
  // How memory is aligned is a hint that no engine takes, and costs a byte for each load and store.
  const passes = [
    '--low-memory-unused', '--flatten', '--rereloop', '--one-caller-inline-max-function-size=100', '-Oz', '-Oz',
    '--dealign', '--strip-producers', '--strip-target-features', '--minify-imports-and-exports-and-modules',
  ];
  const named = execFileSync(join(here, 'node_modules/.bin/wasm-opt'), [...passes, whole, '-o', wasm], { encoding: 'utf8' });
  writeFileSync(join(folder, 'glue.js'), renamed(readFileSync(glue, 'utf8'), JSON.parse(named)));
} finally {
  rmSync(bound, { recursive: true, force: true });
}
// As `unpack.js` takes it.
const bytes = readFileSync(wasm);
const kinds = Array.from({ length: KINDS }, () => []);
let at = 0;
walk(bytes.length, (kind) => (kinds[kind].push(bytes[at]), bytes[at++]));
const counts = Buffer.alloc(4 * KINDS);
kinds.forEach((those, kind) => counts.writeUInt32LE(those.length, 4 * kind));
const told = Buffer.concat([counts, ...kinds.map((those) => Buffer.from(those))]);
const packed = execFileSync('xz', ['--format=raw', '--lzma1=lc=1,lp=0,pb=0,dict=1MiB,nice=273,mf=bt4,depth=1000', '--stdout'], { input: told });
if (!bytes.equals(unpack(packed, bytes.length))) throw new Error('the module is not unpacked as it was packed');
writeFileSync(join(folder, 'inline.js'), `export const length = ${bytes.length};\nexport const bytes = '${packed.toString('base64')}';\n`);

// What a page loads: the default entry in one file, minified.
const bundle = await esbuild.build({
  entryPoints: [join(folder, 'index.js')],
  bundle: true,
  minify: true,
  format: 'esm',
  write: false,
  loader: { '.wasm': 'binary' },
});
const size = {
  'default entry, minified, gzip -9': gzipSync(bundle.outputFiles[0].contents, { level: 9 }).length,
  'the module in it, packed': packed.length,
  'the module': bytes.length,
};
for (const [what, many] of Object.entries(size)) console.log(`${what}: ${many} bytes`);

const committed = JSON.parse(readFileSync(join(here, 'size.json'), 'utf8'));
for (const [what, many] of Object.entries(committed)) {
  const grown = size[what] - many;
  if (grown < -GROWTH) console.log(`${what}: ${-grown} bytes less than size.json says: put the new figure there`);
  if (grown <= GROWTH) continue;
  console.error(`${what}: ${size[what]} bytes, and size.json says ${many}: find out why, and put the new figure there`);
  process.exitCode = 1;
}
