// `npm run test:compose`: the stack of docker-compose.yml in a real Docker engine. Arguments go to vitest.
// Uses the engine there is, else starts one of its own in a temporary directory; uses the public base images where they can be pulled,
// else makes local ones. Where that is not possible the tests are skipped, and say why.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { baseImages } from './base-images.mjs';
import { dockerEngine } from './docker-engine.mjs';
import { ROOT, setUp } from './setup.mjs';

setUp();
const directory = mkdtempSync(join(tmpdir(), 'spillway-compose-'));
const ends = [() => rmSync(directory, { recursive: true, force: true, maxRetries: 10 })];
try {
  process.exitCode = await runTests(await prepare());
} finally {
  for (const end of ends.reverse()) await end();
}

/** What the tests need, as variables. */
async function prepare() {
  try {
    const engine = await dockerEngine(directory);
    ends.push(engine.stop);
    const images = await baseImages(engine, directory);
    ends.push(images.remove);
    return { ...engine.env, ...images.env };
  } catch (error) {
    return { SPILLWAY_TEST_SKIP: error.message };
  }
}

function runTests(variables) {
  if (variables.SPILLWAY_TEST_SKIP !== undefined) console.error(`Skipped: ${variables.SPILLWAY_TEST_SKIP}`);
  const vitest = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs');
  const args = [vitest, 'run', '--root', ROOT, '--config', join(ROOT, 'test', 'compose', 'vitest-config.ts'), ...process.argv.slice(2)];
  const child = spawn(process.execPath, args, { cwd: ROOT, env: { ...process.env, ...variables }, stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
  return new Promise((resolve) => child.on('exit', (code) => resolve(code ?? 1)));
}
