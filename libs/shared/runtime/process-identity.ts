// A process that is still the same: its id and its start time, because ids are used again.

import { readFileSync } from 'node:fs';

export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/<pid>/stat, in clock ticks since boot; null where there is no /proc. */
  readonly start_ticks: number | null;
}

export function identityOf(pid: number): ProcessIdentity {
  return { pid, start_ticks: startTicks(pid) };
}

/** True while exactly this process runs. */
export function isAlive(identity: ProcessIdentity): boolean {
  try {
    process.kill(identity.pid, 0);
  } catch (error) {
    // EPERM: it is there and belongs to somebody else.
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  return identity.start_ticks === null || startTicks(identity.pid) === identity.start_ticks;
}

/** Arguments it was started with; none when they cannot be read. */
export function argumentsOf(pid: number): string[] {
  return readProc(pid, 'cmdline')?.split('\0') ?? [];
}

/** `NAME=value` for each variable it was started with; none when they cannot be read. */
export function variablesOfProcess(pid: number): string[] {
  return readProc(pid, 'environ')?.split('\0') ?? [];
}

function startTicks(pid: number): number | null {
  const stat = readProc(pid, 'stat');
  if (stat === null) return null;
  // The second field is the command in parentheses and may contain anything, parentheses included.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const isZombie = fields[0] === 'Z';
  return isZombie ? null : Number(fields[19]);
}

function readProc(pid: number, name: string): string | null {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8');
  } catch {
    return null;
  }
}
