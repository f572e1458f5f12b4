import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ProcFiles } from '../../services/collector/procfs/proc-files.ts';
import { DetailReader } from '../../services/collector/procfs/process-details.ts';
import { FakeProcfs } from '../support/fake-procfs.ts';

let proc: FakeProcfs;
beforeEach(() => {
  proc = new FakeProcfs();
  proc.put(50, {});
});
afterEach(() => proc.remove());

function thread(id: number, voluntary: number): void {
  const directory = join(proc.root, '50/task', `${id}`);
  mkdirSync(directory, { recursive: true });
  writeFileSync(
    join(directory, 'status'),
    `Name:\tx\nvoluntary_ctxt_switches:\t${voluntary}\nnonvoluntary_ctxt_switches:\t${voluntary * 2}\n`,
  );
}

test('switches are exact while threads end and their ids are given out again; a new process under the pid begins anew', () => {
  const reader = new DetailReader(new ProcFiles(proc.root), ['voluntary_ctx_switches']);
  const read = (startTicks = 10) => {
    const { voluntarySwitches, involuntarySwitches } = reader.read(50, startTicks);
    return [voluntarySwitches, involuntarySwitches];
  };
  expect(read(), 'no threads to be seen').toEqual([null, null]);
  thread(50, 10);
  thread(51, 100);
  expect(read()).toEqual([110, 220]);
  rmSync(join(proc.root, '50/task/51'), { recursive: true });
  thread(50, 40);
  expect(read()).toEqual([140, 280]);
  thread(51, 5);
  expect(read()).toEqual([145, 290]);
  thread(51, 8);
  expect(read()).toEqual([148, 296]);
  expect(read(900)).toEqual([48, 96]);
});
