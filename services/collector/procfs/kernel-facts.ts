// What has to be known of the kernel once to read its numbers: clock ticks per second, page size, time of boot.
// From the auxiliary vector the kernel gives every process (getauxval(3)), so no `getconf` is run.

import { readFileSync } from 'node:fs';
import { endianness } from 'node:os';

export interface KernelFacts {
  readonly clockTicksPerSecond: number;
  readonly pageBytes: number;
  /** Wall clock of the boot, ms, read once: a start time must not move when the clock is set. */
  readonly bootMs: number;
}

const AT_PAGESZ = 6;
const AT_CLKTCK = 17;

export function readKernelFacts(procRoot: string): KernelFacts {
  const vector = parseAuxv(readFileSync('/proc/self/auxv'), process.arch === 'arm' || process.arch === 'ia32' ? 4 : 8, endianness());
  const btime = /^btime (\d+)$/m.exec(readFileSync(`${procRoot}/stat`, 'latin1'))?.[1];
  if (btime === undefined) throw new Error(`${procRoot}/stat has no btime: it is not a Linux procfs`);
  return {
    clockTicksPerSecond: vector.get(AT_CLKTCK) ?? 100,
    pageBytes: vector.get(AT_PAGESZ) ?? 4096,
    bootMs: Number(btime) * 1000,
  };
}

/** Type and value of each entry; both are machine words. Values beyond 2^53 are addresses, which nobody here wants exactly. */
export function parseAuxv(bytes: Buffer, wordBytes: 4 | 8, order: 'LE' | 'BE'): Map<number, number> {
  const word = (at: number): number => {
    if (wordBytes === 4) return order === 'LE' ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at);
    return Number(order === 'LE' ? bytes.readBigUInt64LE(at) : bytes.readBigUInt64BE(at));
  };
  const vector = new Map<number, number>();
  for (let at = 0; at + 2 * wordBytes <= bytes.length; at += 2 * wordBytes) vector.set(word(at), word(at + wordBytes));
  return vector;
}

/** How many files this process may have open. */
export function openFilesLimit(): number {
  const soft = /^Max open files\s+(\d+|unlimited)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1];
  return soft === undefined || soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft);
}
