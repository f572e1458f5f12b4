// What a process has in memory, as the harnesses and benchmarks watch it.

import { readFileSync } from 'node:fs';

/** Resident memory of a process now, bytes. @throws when it has ended */
export function residentBytes(pid: number): number {
  const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
  if (kibibytes === undefined) throw new Error(`process ${pid} has no resident memory: it has ended`);
  return Number(kibibytes) * 1024;
}
