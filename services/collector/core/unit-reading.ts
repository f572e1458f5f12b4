// What a sampler hands to the core: one reading of one unit, raw counters per process. No deltas, no sums, no rates:
// those are the tracker's.

/** One process of a unit at one moment. Counters are since the start of the process. */
export interface ProcessReading {
  readonly pid: number;
  readonly ppid: number;
  /** When it started, in ms on the sampler's process clock (Linux: since boot). With the pid it is the process's identity. */
  readonly startMs: number;
  /** CPU it used itself, user and system, ms. */
  readonly cpuOwnMs: number;
  /** CPU of its children that exited and were waited for, and of theirs, ms. */
  readonly cpuReapedMs: number;
  /** Null: not known. The kernel adds a waited-for child's to its parent's. */
  readonly ioReadBytes: number | null;
  readonly ioWriteBytes: number | null;
  readonly rssBytes: number;
  /** Null: not known. */
  readonly threads: number | null;
}

export interface PresentReading {
  readonly state: 'running' | 'zombie';
  readonly pid: number;
  /** Start of the root process on the process clock, ms: identity of the incarnation. */
  readonly startMs: number;
  /** The same as wall clock, ms since 1970. */
  readonly startedMs: number;
  /** Moment of the reading on the process clock, ms. A process that started before it existed at this reading. */
  readonly atMs: number;
  /** Moment of the reading on the monotonic clock, ms. */
  readonly monotonicMs: number;
  /** At least one. A parent is read before its children (see the tracker for why). */
  readonly processes: readonly ProcessReading[];
  /** Counters of the unit's own network namespace; null when it has none or it cannot be read. */
  readonly netRxBytes: number | null;
  readonly netTxBytes: number | null;
}

export interface MissingReading {
  readonly state: 'missing';
  /** Why there is no process, for people. */
  readonly reason: string;
}

export type UnitReading = PresentReading | MissingReading;
