// `npm run chaos`, `fuzz`, `outage`: sets up, compiles test/<name> beside the program (dist/<name>), then runs its main in this
// very process. Plain JavaScript, because it runs before there is anything compiled. The first argument is the name, the others go to it.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { findNatsServer, ROOT, setUp } from './setup.mjs';

const [name] = process.argv.splice(2, 1);
setUp();
const project = join(ROOT, 'test', name, 'tsconfig.json');
const compiled = spawnSync(join(ROOT, 'node_modules', '.bin', 'tsc'), ['-p', project], { stdio: ['ignore', 2, 2] });
if (compiled.status !== 0) {
  process.stderr.write(`test/${name} could not be compiled; what tsc said is above.\n`);
  process.exit(1);
}
process.env.NATS_SERVER = await findNatsServer();
await import(pathToFileURL(join(ROOT, 'dist', name, 'test', name, 'main.js')).href);
