// `npm run fuzz`: sets up, compiles the harness beside the program (dist/test/fuzz), then runs it in this very process.
// Plain JavaScript, because it runs before there is anything compiled. Arguments go to the harness.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { findNatsServer, ROOT, setUp } from '../../scripts/setup.mjs';

setUp();
const compiled = spawnSync(join(ROOT, 'node_modules', '.bin', 'tsc'), ['-p', join(ROOT, 'test', 'fuzz', 'tsconfig.json')], {
  stdio: ['ignore', 2, 2],
});
if (compiled.status !== 0) {
  process.stderr.write('The harness could not be compiled; what tsc said is above.\n');
  process.exit(1);
}
process.env.NATS_SERVER = await findNatsServer();
await import(pathToFileURL(join(ROOT, 'dist', 'test', 'fuzz', 'main.js')).href);
