// From readings to samples of one unit: CPU percent from two readings, counters since the start of the incarnation.
// Invariant: within an incarnation no counter goes backwards and CPU is never negative, whichever processes come and go.
//
// Time and I/O of a process tree cannot simply be summed over the living: when a child is waited for, the kernel adds what
// it used to its parent's counters, and when nobody waits for it (SIGCHLD ignored, reparented) it vanishes. So the tracker
// sums what each process added since the previous reading, and takes off what a parent merely inherited from a child that
// was counted before. Parents are read before their children: a child that is found gone may have been waited for after
// its parent was read, in which case the inheritance shows up one reading later; `owed` keeps it exactly that long.

import type { ExtraMetricName, MetricValues, State } from '#shared/contract/metrics';
import type { PresentReading, ProcessDetails, ProcessReading, UnitReading } from './unit-reading.ts';

export interface UnitSample {
  readonly state: State;
  readonly pid: number | null;
  /** Wall clock, ms. */
  readonly started: number | null;
  readonly metrics: MetricValues;
}

interface TrackedProcess {
  last: ProcessReading;
  /** What is expected to appear in this process's counters because a child of it has gone. */
  owed: Usage;
}

/** What the kernel moves from a child to its parent. */
interface Usage {
  cpuMs: number;
  /** The part of `cpuMs` in user mode. */
  userMs: number;
  majorFaults: number;
  ioReadBytes: number;
  ioWriteBytes: number;
}

const noUsage = (): Usage => ({ cpuMs: 0, userMs: 0, majorFaults: 0, ioReadBytes: 0, ioWriteBytes: 0 });

const COUNTERS = ['ioReadBytes', 'ioWriteBytes'] as const;
/** Context switches stay with their process: a parent does not inherit them. */
const SWITCHES = ['voluntarySwitches', 'involuntarySwitches'] as const;

export class UnitTracker {
  readonly #extras: readonly ExtraMetricName[];
  #incarnation: { pid: number; startMs: number; startedMs: number } | null = null;
  #previous: PresentReading | null = null;
  #processes = new Map<number, TrackedProcess>();
  #total = noUsage();
  #switches = { voluntarySwitches: 0, involuntarySwitches: 0 };
  #network = { rxBytes: 0, txBytes: 0 };

  /** @param extras what its samples have beside the metrics of every sample, where it is known */
  constructor(extras: readonly ExtraMetricName[] = []) {
    this.#extras = extras;
  }

  /** Takes the next reading. A unit that was missing and comes back as the same incarnation goes on where it was. */
  read(reading: UnitReading): UnitSample {
    if (reading.state === 'missing') return { state: 'missing', pid: null, started: null, metrics: unknownMetrics() };
    if (this.#incarnation?.pid !== reading.pid || this.#incarnation.startMs !== reading.startMs) this.#begin(reading);
    const { cpuMs: cpuMsBefore, userMs: userMsBefore } = this.#total;
    this.#count(reading);
    const network = this.#countNetwork(reading);
    const cpuMs = this.#total.cpuMs - cpuMsBefore;
    const cpuPercent = this.#previous === null ? null : percentOfCore(cpuMs, this.#previous, reading);
    const metrics: MetricValues = {
      cpu_percent: cpuPercent,
      rss_bytes: sum(reading.processes, (process) => process.rssBytes),
      io_read_bytes: this.#counter(reading, 'ioReadBytes'),
      io_write_bytes: this.#counter(reading, 'ioWriteBytes'),
      net_rx_bytes: network?.rxBytes ?? null,
      net_tx_bytes: network?.txBytes ?? null,
      threads: sum(reading.processes, (process) => process.threads),
    };
    if (this.#extras.length > 0) this.#addExtras(metrics, reading, cpuMs, this.#total.userMs - userMsBefore);
    this.#previous = reading;
    return { state: reading.state, pid: reading.pid, started: this.#incarnation?.startedMs ?? reading.startedMs, metrics };
  }

  #begin(reading: PresentReading): void {
    this.#incarnation = { pid: reading.pid, startMs: reading.startMs, startedMs: reading.startedMs };
    this.#previous = null;
    this.#processes = new Map();
    this.#total = noUsage();
    this.#switches = { voluntarySwitches: 0, involuntarySwitches: 0 };
    this.#network = { rxBytes: 0, txBytes: 0 };
  }

  /** Adds to the totals what the unit's processes used since the previous reading. */
  #count(reading: PresentReading): void {
    const before = this.#processes;
    if (isUnchanged(reading, before)) return;
    const now = new Map<number, TrackedProcess>();
    for (const process of reading.processes) now.set(process.pid, { last: process, owed: noUsage() });
    for (const gone of before.values()) if (!isSame(now.get(gone.last.pid), gone.last)) oweToAncestor(gone.last, before, now);
    for (const tracked of now.values()) {
      const known = before.get(tracked.last.pid);
      if (known !== undefined && isSame(known, tracked.last)) this.#addGrowth(tracked, known);
      else if (this.#previous === null || tracked.last.startMs >= this.#previous.atMs) this.#addWhole(tracked.last);
      // Otherwise it joined the unit late (a process that now matches): what it used before is not this interval's.
    }
    this.#processes = now;
  }

  #addWhole(process: ProcessReading): void {
    this.#total.cpuMs += process.cpuOwnMs + process.cpuReapedMs;
    this.#total.userMs += (process.userOwnMs ?? 0) + (process.userReapedMs ?? 0);
    this.#total.majorFaults += (process.majorFaultsOwn ?? 0) + (process.majorFaultsReaped ?? 0);
    for (const counter of COUNTERS) this.#total[counter] += process[counter] ?? 0;
    for (const counter of SWITCHES) this.#switches[counter] += process.details?.[counter] ?? 0;
  }

  #addGrowth(tracked: TrackedProcess, known: TrackedProcess): void {
    const { last, owed } = tracked;
    this.#total.cpuMs += Math.max(0, last.cpuOwnMs - known.last.cpuOwnMs);
    const reaped = settle(last.cpuReapedMs - known.last.cpuReapedMs, owed.cpuMs, known.owed.cpuMs);
    this.#total.cpuMs += reaped.counted;
    owed.cpuMs = reaped.owed;
    if (this.#extras.length > 0) this.#addExtraGrowth(tracked, known);
    for (const counter of COUNTERS) {
      const value = last[counter];
      // Unreadable now: what was read last stays the mark, so that nothing is counted twice when it becomes readable again.
      if (value === null) tracked.last = { ...tracked.last, [counter]: known.last[counter] };
      const growth = settle(value === null ? 0 : value - (known.last[counter] ?? 0), owed[counter], known.owed[counter]);
      this.#total[counter] += growth.counted;
      owed[counter] = growth.owed;
    }
  }

  #addExtraGrowth({ last, owed }: TrackedProcess, known: TrackedProcess): void {
    const before = known.last;
    this.#total.userMs += Math.max(0, grown(last.userOwnMs, before.userOwnMs));
    const user = settle(grown(last.userReapedMs, before.userReapedMs), owed.userMs, known.owed.userMs);
    this.#total.userMs += user.counted;
    owed.userMs = user.owed;
    this.#total.majorFaults += Math.max(0, grown(last.majorFaultsOwn, before.majorFaultsOwn));
    const faults = settle(grown(last.majorFaultsReaped, before.majorFaultsReaped), owed.majorFaults, known.owed.majorFaults);
    this.#total.majorFaults += faults.counted;
    owed.majorFaults = faults.owed;
    for (const counter of SWITCHES) {
      this.#switches[counter] += Math.max(0, grown(last.details?.[counter] ?? null, before.details?.[counter] ?? null));
    }
  }

  /** The unit's counter, or null if any of its processes' cannot be read: a sum of a part would be a wrong number. */
  #counter(reading: PresentReading, counter: (typeof COUNTERS)[number]): number | null {
    return reading.processes.some((process) => process[counter] === null) ? null : this.#total[counter];
  }

  /** Adds those of the wanted metrics that are known. @param cpuMs used since the previous reading @param userMs of it in user mode */
  #addExtras(metrics: MetricValues, reading: PresentReading, cpuMs: number, userMs: number): void {
    for (const name of this.#extras) {
      const value = this.#extra(name, reading, cpuMs, userMs);
      if (value !== null) metrics[name] = value;
    }
  }

  #extra(name: ExtraMetricName, reading: PresentReading, cpuMs: number, userMs: number): number | null {
    const { processes } = reading;
    const detail = (value: (details: ProcessDetails) => number | null) =>
      sum(processes, ({ details }) => (details === undefined ? null : value(details)));
    switch (name) {
      case 'cpu_user_percent':
      case 'cpu_system_percent': {
        if (this.#previous === null || processes.some((process) => process.userOwnMs === null)) return null;
        const user = Math.min(userMs, cpuMs);
        return percentOfCore(name === 'cpu_user_percent' ? user : cpuMs - user, this.#previous, reading);
      }
      case 'open_fds':
        return detail((details) => details.openFiles);
      case 'fd_limit':
        return reading.openFilesMax ?? null;
      case 'swap_bytes':
        return detail((details) => details.swapBytes);
      case 'pss_bytes':
        return reading.pssBytes ?? null;
      case 'voluntary_ctx_switches':
        return detail((details) => details.voluntarySwitches) === null ? null : this.#switches.voluntarySwitches;
      case 'involuntary_ctx_switches':
        return detail((details) => details.involuntarySwitches) === null ? null : this.#switches.involuntarySwitches;
      case 'major_faults':
        return processes.some((process) => process.majorFaultsOwn === null) ? null : this.#total.majorFaults;
      case 'cpu_percent_max':
      case 'rss_bytes_max':
        return null; // found between samples, not in one: see UnitPeak
    }
  }

  /** Interfaces of a namespace come and go, taking their counters with them; the unit's only grow. Null when they are not known. */
  #countNetwork({ netRxBytes, netTxBytes }: PresentReading): { readonly rxBytes: number; readonly txBytes: number } | null {
    if (netRxBytes === null || netTxBytes === null) return null;
    this.#network.rxBytes += Math.max(0, netRxBytes - (this.#previous?.netRxBytes ?? this.#network.rxBytes));
    this.#network.txBytes += Math.max(0, netTxBytes - (this.#previous?.netTxBytes ?? this.#network.txBytes));
    return this.#network;
  }
}

/** A sampler gives the same object again for a process that has not run since: then there is nothing to count. */
function isUnchanged({ processes }: PresentReading, before: ReadonlyMap<number, TrackedProcess>): boolean {
  if (processes.length !== before.size) return false;
  for (const process of processes) {
    const known = before.get(process.pid);
    if (known === undefined || known.last !== process || !owesNothing(known.owed)) return false;
  }
  return true;
}

function owesNothing({ cpuMs, userMs, majorFaults, ioReadBytes, ioWriteBytes }: Usage): boolean {
  return cpuMs === 0 && userMs === 0 && majorFaults === 0 && ioReadBytes === 0 && ioWriteBytes === 0;
}

export function unknownMetrics(): MetricValues {
  return {
    cpu_percent: null,
    rss_bytes: null,
    io_read_bytes: null,
    io_write_bytes: null,
    net_rx_bytes: null,
    net_tx_bytes: null,
    threads: null,
  };
}

function isSame(tracked: TrackedProcess | undefined, process: ProcessReading): boolean {
  return tracked?.last.startMs === process.startMs;
}

/** Notes that the nearest ancestor that is still there may inherit what `gone` had used. */
function oweToAncestor(gone: ProcessReading, before: Map<number, TrackedProcess>, now: Map<number, TrackedProcess>): void {
  let ancestor = before.get(gone.ppid);
  // A chain of parents cannot be longer than there are processes; a table torn by a race could still make a ring.
  for (let steps = before.size; ancestor !== undefined && steps > 0; steps--) {
    const living = now.get(ancestor.last.pid);
    if (living !== undefined && isSame(living, ancestor.last)) {
      living.owed.cpuMs += gone.cpuOwnMs + gone.cpuReapedMs;
      living.owed.userMs += (gone.userOwnMs ?? 0) + (gone.userReapedMs ?? 0);
      living.owed.majorFaults += (gone.majorFaultsOwn ?? 0) + (gone.majorFaultsReaped ?? 0);
      for (const counter of COUNTERS) living.owed[counter] += gone[counter] ?? 0;
      return;
    }
    ancestor = before.get(ancestor.last.ppid);
  }
}

/**
 * Parts the growth of a counter into what was inherited (and counted before) and what is new.
 * @param owed inheritance of children found gone at this reading
 * @param overdue inheritance that the previous reading waited for; it has come now or never comes
 */
function settle(growth: number, owed: number, overdue: number): { counted: number; owed: number } {
  const expected = owed + overdue;
  if (growth >= expected) return { counted: growth - expected, owed: 0 };
  return { counted: 0, owed: Math.min(owed, expected - Math.max(0, growth)) };
}

/** Nothing where one of both is not known. */
function grown(now: number | null, before: number | null): number {
  return now === null || before === null ? 0 : now - before;
}

/** Percent of one core, two decimals; null when no time has passed. */
function percentOfCore(cpuMs: number, previous: PresentReading, reading: PresentReading): number | null {
  const elapsedMs = reading.monotonicMs - previous.monotonicMs;
  return elapsedMs > 0 ? Math.round((cpuMs / elapsedMs) * 10_000) / 100 : null;
}

/** Null when any value is: a sum of a part would be a wrong number. */
function sum(processes: readonly ProcessReading[], value: (process: ProcessReading) => number | null): number | null {
  let total = 0;
  for (const process of processes) {
    const one = value(process);
    if (one === null) return null;
    total += one;
  }
  return total;
}
