// `npm start`: sets up, then becomes `spillway up`, in this very process, so that signals reach it without a go-between.

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT, setUp } from './setup.mjs';

const PARENT_POLL_MS = 500;

setUp();
// A signal to npm reaches the shell between npm and us, which ends without passing it on: without that parent, stop as well.
if (process.env.npm_lifecycle_event !== undefined) stopWithParent(process.ppid);

const program = join(ROOT, 'dist', 'cli', 'main.js');
process.argv = [process.execPath, program, 'up', ...process.argv.slice(2)];
await import(pathToFileURL(program).href);

function stopWithParent(parent) {
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    process.kill(process.pid, 'SIGTERM');
  }, PARENT_POLL_MS);
  watch.unref();
}
