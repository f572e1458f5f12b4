// `npm run bench`: sets up, compiles the benchmarks beside the program (dist/bench), then runs them in this very process.
// Plain JavaScript, because it runs before there is anything compiled. Arguments go to the benchmarks.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { findNatsServer, ROOT, setUp } from '../scripts/setup.mjs';

setUp();
const compiled = spawnSync(join(ROOT, 'node_modules', '.bin', 'tsc'), ['-p', join(ROOT, 'bench', 'tsconfig.json')], {
  stdio: ['ignore', 2, 2],
});
if (compiled.status !== 0) {
  process.stderr.write('The benchmarks could not be compiled; what tsc said is above.\n');
  process.exit(1);
}
process.env.NATS_SERVER = await findNatsServer();
// Data lies on the disk of the checkout: where /tmp is memory, a sync would cost nothing.
mkdirSync(join(ROOT, '.spillway', 'bench'), { recursive: true });
const directory = mkdtempSync(join(ROOT, '.spillway', 'bench', 'run-'));
process.env.TMPDIR = directory;
process.on('exit', () => rmSync(directory, { recursive: true, force: true, maxRetries: 3 }));
await import(pathToFileURL(join(ROOT, 'dist', 'bench', 'main.js')).href);
