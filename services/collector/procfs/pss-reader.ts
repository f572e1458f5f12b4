// Proportional set size, within a budget: the kernel walks every page of a process to answer, and holds its memory map meanwhile. So a
// unit is read once a minute at most, not at all when it is large, and a tick spends no more than a moment on all of them.

import { DENIED, type ProcFiles } from './proc-files.ts';
import { valueAfter } from './stat-line.ts';

export const PSS_INTERVAL_MS = 60_000;
/** A walk over a GiB takes about ten milliseconds. */
export const PSS_RSS_BYTES_MAX = 1024 ** 3;
/** Units beyond it have their turn at a later tick. */
const TICK_MS_MAX = 20;

const PSS = Buffer.from('\nPss:');

export class PssReader {
  readonly #files: ProcFiles;
  readonly #now: () => number;
  /** When each unit was read, monotonic ms; of the last minute. */
  readonly #readMs = new Map<string, number>();
  #spentMs = 0;
  #tooLarge = 0;
  /** Units of which a process could not be read for want of permission when it was their turn. */
  readonly #denied = new Set<string>();

  /** @param now monotonic clock, ms */
  constructor(files: ProcFiles, now: () => number) {
    this.#files = files;
    this.#now = now;
  }

  /** Units of this round that are too large to be read. */
  get tooLarge(): number {
    return this.#tooLarge;
  }
  /** Units that may not be read. */
  get denied(): number {
    return this.#denied.size;
  }

  beginRound(): void {
    this.#spentMs = 0;
    this.#tooLarge = 0;
    const nowMs = this.#now();
    for (const [unit, readMs] of this.#readMs) {
      if (nowMs - readMs < PSS_INTERVAL_MS) continue;
      this.#readMs.delete(unit);
      this.#denied.delete(unit);
    }
  }

  /** Bytes of all given processes; null when it is not the unit's turn, when it is too large, and when one of them may not be read. */
  read(unit: string, processes: readonly { readonly pid: number; readonly rssBytes: number }[]): number | null {
    const rssBytes = processes.reduce((sum, process) => sum + process.rssBytes, 0);
    if (rssBytes > PSS_RSS_BYTES_MAX) {
      this.#tooLarge++;
      return null;
    }
    if (this.#readMs.has(unit) || this.#spentMs >= TICK_MS_MAX) return null;
    const startMs = this.#now();
    this.#readMs.set(unit, startMs);
    let kilobytes = 0;
    for (const { pid } of processes) {
      const length = this.#files.read(`${pid}/smaps_rollup`);
      if (length === DENIED) this.#denied.add(unit);
      // A process that has gone, a zombie and a kernel thread have no memory.
      else if (length > 0) kilobytes += valueAfter(this.#files.buffer, length, PSS) ?? 0;
    }
    this.#spentMs += this.#now() - startMs;
    return this.#denied.has(unit) ? null : kilobytes * 1024;
  }
}
