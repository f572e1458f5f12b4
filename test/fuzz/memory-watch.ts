// The resident memory of a process over a run, and whether it stays where it was.

import { residentBytes } from '../support/resident-memory.ts';

const INTERVAL_MS = 250;
/** Until here a process is still warming up: caches fill, code is compiled. */
const WARM_SHARE = 0.2;
const EARLY_SHARE = 0.5;
/** Garbage is collected when it pays, so a maximum is only known within this. */
const GROWTH_SHARE_MAX = 0.25;
const GROWTH_BYTES_MAX = 32 * 1024 * 1024;

export interface MemoryReport {
  readonly samples: number;
  /** Largest resident memory after warming up, in the first and in the second half, bytes. */
  readonly earlyMax: number;
  readonly lateMax: number;
  /** Least squares over what follows the warming up, bytes a minute. */
  readonly slopePerMinute: number;
  readonly isFlat: boolean;
}

export class MemoryWatch {
  private readonly bytes: number[] = [];
  private readonly timer: NodeJS.Timeout;

  constructor(pid: number) {
    this.timer = setInterval(() => {
      const rss = bytesOf(pid);
      if (rss !== null) this.bytes.push(rss);
    }, INTERVAL_MS);
  }

  stop(): MemoryReport {
    clearInterval(this.timer);
    const { bytes } = this;
    const early = bytes.slice(Math.floor(bytes.length * WARM_SHARE), Math.floor(bytes.length * EARLY_SHARE));
    const late = bytes.slice(Math.floor(bytes.length * EARLY_SHARE));
    const earlyMax = Math.max(0, ...early);
    const lateMax = Math.max(0, ...late);
    return {
      samples: bytes.length,
      earlyMax,
      lateMax,
      slopePerMinute: slopeOf([...early, ...late]) * (60_000 / INTERVAL_MS),
      isFlat: lateMax <= earlyMax * (1 + GROWTH_SHARE_MAX) + GROWTH_BYTES_MAX,
    };
  }
}

/** Null when it has ended. */
function bytesOf(pid: number): number | null {
  try {
    return residentBytes(pid);
  } catch {
    return null;
  }
}

function slopeOf(values: readonly number[]): number {
  const middle = (values.length - 1) / 2;
  const mean = values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
  let above = 0;
  let below = 0;
  values.forEach((value, i) => {
    above += (i - middle) * (value - mean);
    below += (i - middle) ** 2;
  });
  return below === 0 ? 0 : above / below;
}
