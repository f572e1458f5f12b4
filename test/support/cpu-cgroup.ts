// A cgroup of its own for a test, as a second opinion on CPU time: the kernel charges every process in it, whoever waits for whom.

import { existsSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';

export interface CpuCgroup {
  /** File that takes the id of a process that is to belong to it. */
  readonly procs: string;
  /** CPU of all that was ever in it, ms. */
  usedMs(): number;
  /** When no process is in it any more. */
  remove(): void;
}

/** Null where none can be made: no cgroup2, or not for us. */
export function createCpuCgroup(): CpuCgroup | null {
  const root = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].find((path) => existsSync(join(path, 'cgroup.controllers')));
  if (root === undefined) return null;
  const path = join(root, `spillway-test-${process.pid}`);
  try {
    mkdirSync(path);
  } catch {
    return null;
  }
  return {
    procs: join(path, 'cgroup.procs'),
    usedMs: () => Number(/^usage_usec (\d+)$/m.exec(readFileSync(join(path, 'cpu.stat'), 'latin1'))?.[1]) / 1000,
    remove: () => rmdirSync(path),
  };
}
