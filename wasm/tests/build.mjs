// Puts the npm package together: node build.mjs GLUE.js MODULE.wasm FOLDER
// GLUE and MODULE are what `duralog-bindgen` made; FOLDER gets the package as it is published.

import { execFileSync } from 'node:child_process';
import { cpSync, copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { deflateRawSync, gzipSync } from 'node:zlib';
import esbuild from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const [glue, module, folder] = process.argv.slice(2);

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
cpSync(join(here, '../npm'), folder, { recursive: true });
for (const name of ['LICENSE-MIT', 'LICENSE-APACHE']) copyFileSync(join(here, '../..', name), join(folder, name));

const wasm = join(folder, 'duralog.wasm');
execFileSync(join(here, 'node_modules/.bin/wasm-opt'), ['-Oz', '--converge', module, '-o', wasm], { stdio: 'inherit' });
copyFileSync(glue, join(folder, 'glue.js'));
const packed = deflateRawSync(readFileSync(wasm), { level: 9, memLevel: 9 });
writeFileSync(join(folder, 'inline.js'), `export const bytes = '${packed.toString('base64')}';\n`);

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
  'the module in it, deflated': packed.length,
  'the module': statSync(wasm).size,
};
writeFileSync(join(folder, '../size.json'), JSON.stringify(size, null, 2) + '\n');
for (const [what, bytes] of Object.entries(size)) console.log(`${what}: ${bytes} bytes`);
