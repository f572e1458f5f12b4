// The built program in a pid namespace of its own, as in a container: what it sees of the host, and what it says when it does not.

import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Finished, PROGRAM } from '../support/program.ts';
import { endProcesses, startProcess } from '../support/test-processes.ts';

let directory: string;
let mounted: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'spillway-container-'));
  mounted = join(directory, 'proc');
  mkdirSync(mounted);
});
afterEach(async () => {
  await endProcesses();
  rmSync(directory, { recursive: true });
});

/** In new pid and mount namespaces, after `mounts`; null where there may be none. */
async function inContainer(mounts: string, args: string): Promise<Finished | null> {
  const script = `${mounts} || exit 77; exec "${process.execPath}" "${PROGRAM}" ${args}`;
  return new Promise((resolve) => {
    execFile(
      'unshare',
      ['--pid', '--fork', '--kill-child', '--mount', 'sh', '-c', script],
      { cwd: directory, env: { ...process.env, SPILLWAY_PROCFS: mounted } },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 77;
        resolve(code === 77 || /^unshare:/m.test(stderr) ? null : { code, stdout, stderr });
      },
    );
  });
}

test('a procfs that shows the container instead of the host is refused with what to do', async (context) => {
  writeFileSync(join(directory, 'spillway.yaml'), 'units: { me: { self: true } }\n');
  const mounts = `mount -t proc proc ${mounted} && mount -t proc proc /proc`;
  for (const args of ['collector', 'targets']) {
    const finished = await inContainer(mounts, args);
    if (finished === null) return context.skip('a pid namespace cannot be made here');
    expect(finished).toMatchObject({ code: 2 });
    expect(`${finished.stdout}${finished.stderr}`).toContain(
      `procfs: ${mounted} shows the pid namespace of this container, which hides the host's processes; mount the host's /proc there`,
    );
  }
});

test('the procfs of the host shows its processes from within a container', async (context) => {
  const outside = startProcess('sleep', ['1000']);
  writeFileSync(join(directory, 'spillway.yaml'), `units: { outside: { pid: ${outside.pid} } }\n`);
  const finished = await inContainer(`mount --bind /proc ${mounted} && mount -t proc proc /proc`, 'targets --json');
  if (finished === null) return context.skip('a pid namespace cannot be made here');
  expect(JSON.parse(finished.stdout)).toMatchObject([{ unit: 'outside', state: 'running', processes: [{ pid: outside.pid }] }]);
});
