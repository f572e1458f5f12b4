// Readings for tests of the collector's core, with everything given that the test does not care about.

import type { PresentReading, ProcessReading } from '../../services/collector/core/unit-reading.ts';

export function processReading(fields: Partial<ProcessReading> & { pid: number }): ProcessReading {
  return {
    ppid: 1,
    startMs: 1000,
    cpuOwnMs: 0,
    cpuReapedMs: 0,
    userOwnMs: 0,
    userReapedMs: 0,
    ioReadBytes: 0,
    ioWriteBytes: 0,
    rssBytes: 4096,
    threads: 1,
    majorFaultsOwn: 0,
    majorFaultsReaped: 0,
    ...fields,
  };
}

/** The first process is the root. */
export function presentReading(atMs: number, processes: readonly ProcessReading[], fields: Partial<PresentReading> = {}): PresentReading {
  const root = processes[0] as ProcessReading;
  return {
    state: 'running',
    pid: root.pid,
    startMs: root.startMs,
    startedMs: 1_763_670_000_000 + root.startMs,
    atMs,
    monotonicMs: atMs,
    processes,
    netRxBytes: null,
    netTxBytes: null,
    ...fields,
  };
}
