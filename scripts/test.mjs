// `npm test`: sets up, then runs the tests. Arguments go to vitest.

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { findNatsServer, ROOT, setUp } from './setup.mjs';

setUp();
const env = { ...process.env, NATS_SERVER: await findNatsServer() };
const vitest = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs');
const child = spawn(process.execPath, [vitest, 'run', ...process.argv.slice(2)], { cwd: ROOT, env, stdio: 'inherit' });
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => process.exit(signal === null ? code : 1));
