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
  /** The part of each that was spent in user mode, ms; null: not known. */
  readonly userOwnMs: number | null;
  readonly userReapedMs: number | null;
  /** Null: not known. The kernel adds a waited-for child's to its parent's. */
  readonly ioReadBytes: number | null;
  readonly ioWriteBytes: number | null;
  readonly rssBytes: number;
  /** Null: not known. */
  readonly threads: number | null;
  /** Page faults that read from storage: its own, and of its children that were waited for. Null: not known. */
  readonly majorFaultsOwn: number | null;
  readonly majorFaultsReaped: number | null;
  /** What costs files of its own to read; absent unless an extra metric needs it. */
  readonly details?: ProcessDetails;
}

/** Null: not known. */
export interface ProcessDetails {
  readonly openFiles: number | null;
  readonly swapBytes: number | null;
  /** Of all its threads, those that have ended since it was first read included. */
  readonly voluntarySwitches: number | null;
  readonly involuntarySwitches: number | null;
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
  /** Files the root process may have open; null without a limit and where it is not known. Absent unless asked for. */
  readonly openFilesMax?: number | null;
  /** Proportional set size of all processes; null where it was not read this time. Absent unless asked for. */
  readonly pssBytes?: number | null;
}

export interface MissingReading {
  readonly state: 'missing';
  /** Why there is no process, for people. */
  readonly reason: string;
}

export type UnitReading = PresentReading | MissingReading;
