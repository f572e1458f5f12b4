// Real control groups for tests, in the hierarchy of version 2 or, where a host has both, in one of version 1. Removed by their own
// paths when the test is over.

import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOTS = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified', '/sys/fs/cgroup/pids', '/sys/fs/cgroup/systemd'];
const made: string[] = [];

/** Hierarchies in which this user may make groups; none where it may not. */
export function writableHierarchies(): string[] {
  return ROOTS.filter((root) => {
    const probe = join(root, `spillway-probe-${process.pid}`);
    if (!existsSync(join(root, 'cgroup.procs'))) return false;
    try {
      mkdirSync(probe);
      rmdirSync(probe);
      return true;
    } catch {
      return false;
    }
  });
}

/** Makes a group, with those above it. @returns its path as it is mounted */
export function makeCgroup(hierarchy: string, path: string): string {
  let directory = hierarchy;
  for (const part of path.split('/')) {
    directory = join(directory, part);
    if (existsSync(directory)) continue;
    mkdirSync(directory);
    made.push(directory);
  }
  return directory;
}

export function moveInto(cgroup: string, pid: number): void {
  writeFileSync(join(cgroup, 'cgroup.procs'), String(pid));
}

/** For afterEach, when their processes have ended. Innermost first. @throws while one has a process; to be called again */
export function removeCgroups(): void {
  for (let innermost = made.at(-1); innermost !== undefined; innermost = made.at(-1)) {
    rmdirSync(innermost);
    made.pop();
  }
}
