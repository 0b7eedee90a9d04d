// Installs the tools that the lock file names, from npm into this folder, unless they are there: node tools.mjs

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const wanted = readFileSync(join(here, 'package-lock.json'), 'utf8');
const stamp = join(here, 'node_modules/.duralog');

if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== wanted) {
  execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--ignore-scripts'], { cwd: here, stdio: 'inherit' });
  // The one program among the packages that is put in its place by a script.
  execFileSync(process.execPath, ['node_modules/esbuild/install.js'], { cwd: here, stdio: 'inherit' });
  // Last: an installation that was interrupted is done again.
  writeFileSync(stamp, wanted);
}
