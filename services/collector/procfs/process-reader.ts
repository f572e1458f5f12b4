// Reads one process: its stat and io files, through descriptors that stay open from one reading to the next.
// Bounded: beyond its limit of descriptors it opens and closes at each read, which is slower and not wrong.
//
// Most processes of a host do nothing for most of the time. One with a single thread that has not run since it was last read has
// the same stat and io as before, but for its parent and its resident memory, which others can take away. Whether it has run
// shows in schedstat (time on a CPU, time waited for one, times it got one), whether its memory is the same in statm: both
// together cost half of stat and io. So a process whose CPU time has not changed is watched there, and read as a whole only when
// something differs; one that turns out to run all the time is left alone for longer and longer. Both are always read before
// stat: what happens in between shows at the next reading. With more threads the first one says nothing of the others. The
// numbers themselves are never taken from statm: since Linux 6.16 its resident pages are exact, and those of stat are not.

import type { ProcessReading } from '../core/unit-reading.ts';
import type { KernelFacts } from './kernel-facts.ts';
import { DENIED, GONE, type ProcFiles } from './proc-files.ts';
import type { DetailReader } from './process-details.ts';
import { emptyStatLine, parseIo, parseStat, STATE_DEAD, STATE_ZOMBIE } from './stat-line.ts';

export interface ObservedProcess extends ProcessReading {
  readonly startTicks: number;
  /** Exited, and not waited for. A process whose first thread has ended while others go on is not. */
  readonly isZombie: boolean;
}

/** `usage`: CPU and memory alone, for readings between samples. */
export type Depth = 'all' | 'usage';

interface OpenProcess {
  /** Descriptor, {@link GONE} while not kept. */
  stat: number;
  /** Descriptor, {@link GONE} while not kept, {@link DENIED} once refused. */
  io: number;
  round: number;
  /** Of the process last read; NaN before. */
  startTicks: number;
  cpuOwnMs: number;
  /** Null while nobody looks whether it runs. */
  rest: Rest | null;
  /** Round from which on it may be watched again, and how many there were until then. */
  watchFrom: number;
  watchAfter: number;
}

/** A process that is watched for whether it runs. */
interface Rest {
  readonly schedstat: number;
  readonly statm: number;
  /** What they said when they were last read. */
  ran: string;
  memory: string;
  /** The process as it is for as long as both stay the same; null until it has been read since. */
  process: ObservedProcess | null;
  /** Rounds in a row in which it rested, and in which it ran. */
  rested: number;
  missed: number;
}

/**
 * Rounds in a row that end a watch, a rest after which stat and io are closed, and how long one that runs is left alone. A round
 * is a tick, or a reading for peaks between two.
 */
const MISSED_MAX = 2;
const RESTED_LONG = 10;
const WATCH_AFTER_MIN = 16;
const WATCH_AFTER_MAX = 256;

export class ProcessReader {
  readonly #files: ProcFiles;
  readonly #facts: KernelFacts;
  readonly #descriptorsMax: number;
  readonly #details: DetailReader | null;
  readonly #open = new Map<number, OpenProcess>();
  readonly #stat = emptyStatLine();
  readonly #io = { readBytes: 0, writeBytes: 0 };
  /** A kernel may be built without it. */
  readonly #hasIo: boolean;
  /** A kernel may be built or started without it; then it is absent or all zero. */
  readonly #hasSchedstat: boolean;
  #descriptors = 0;
  #round = 0;
  #depth: Depth = 'all';
  #ioDenied = 0;

  /** @param details null where no metric needs any */
  constructor(files: ProcFiles, facts: KernelFacts, descriptorsMax: number, details: DetailReader | null = null) {
    this.#files = files;
    this.#facts = facts;
    this.#descriptorsMax = descriptorsMax;
    this.#details = details;
    this.#hasIo = files.read('self/io') !== GONE;
    this.#hasSchedstat = /^[1-9]/.test(files.readText('self/schedstat') ?? '');
  }

  /** Descriptors kept open. */
  get descriptors(): number {
    return this.#descriptors;
  }

  /** Processes of the last round that read them whose io could not be read for want of permission. */
  get ioDenied(): number {
    return this.#ioDenied;
  }

  beginRound(depth: Depth = 'all'): void {
    this.#round++;
    this.#depth = depth;
    if (depth === 'all') this.#ioDenied = 0;
  }

  /** Closes what this round did not ask for. */
  endRound(): void {
    for (const [pid, open] of this.#open) if (open.round !== this.#round) this.#forget(pid, open);
  }

  /**
   * @param hasSameParent whether a process still has the parent it had, as far as anybody knows who has not read it again
   * @returns the process, {@link GONE} or {@link DENIED}
   */
  read(pid: number, hasSameParent: (process: ObservedProcess) => boolean = () => false): ObservedProcess | number {
    const open = this.#open.get(pid);
    const resting = open?.rest == null ? null : this.#readResting(pid, open, open.rest, hasSameParent);
    return resting ?? this.#readWhole(pid);
  }

  close(): void {
    for (const [pid, open] of this.#open) this.#forget(pid, open);
  }

  /** Null when it has to be read as a whole. */
  #readResting(pid: number, open: OpenProcess, rest: Rest, hasSameParent: (process: ObservedProcess) => boolean): ObservedProcess | null {
    const ran = this.#textOf(rest.schedstat);
    const memory = ran === null ? null : this.#textOf(rest.statm);
    if (ran === null || memory === null) {
      // Dead. Its id may be another process's by now.
      this.#forget(pid, open);
      return null;
    }
    if (ran !== rest.ran || memory !== rest.memory) {
      if (rest.ran !== '' && ran !== rest.ran) rest.missed++;
      rest.ran = ran;
      rest.memory = memory;
      rest.process = null;
      rest.rested = 0;
      return null;
    }
    if (rest.process === null || !hasSameParent(rest.process)) return null;
    open.round = this.#round;
    rest.missed = 0;
    open.watchAfter = WATCH_AFTER_MIN;
    if (++rest.rested >= RESTED_LONG) this.#releaseWhole(open);
    if (this.#depth === 'usage') return rest.process;
    if (open.io === DENIED) this.#ioDenied++;
    return this.#details === null ? rest.process : { ...rest.process, details: this.#details.read(pid, open.startTicks) };
  }

  /** Null when it is gone. */
  #textOf(descriptor: number): string | null {
    const length = this.#files.readOpen(descriptor);
    return length < 0 ? null : this.#files.buffer.toString('latin1', 0, length);
  }

  #readWhole(pid: number): ObservedProcess | number {
    let open = this.#open.get(pid) ?? notOpen();
    let length = open.stat < 0 ? GONE : this.#files.readOpen(open.stat);
    if (open.stat >= 0 && length < 0) {
      // Dead, and its id may be another process's by now.
      this.#forget(pid, open);
      open = notOpen();
    }
    if (length < 0) length = this.#readKeeping(open, 'stat', `${pid}/stat`);
    if (length < 0) {
      this.#forget(pid, open);
      return length;
    }
    open.round = this.#round;
    this.#open.set(pid, open);
    if (!parseStat(this.#files.buffer, length, this.#stat)) return GONE;
    if (!Number.isNaN(open.startTicks) && open.startTicks !== this.#stat.startTicks) {
      // Another process under the same id: nothing that is known of the one before is true of it.
      this.#forget(pid, open);
      return this.#readWhole(pid);
    }
    const process = this.#observe(pid, open);
    if (typeof process !== 'number' && this.#depth === 'all') this.#watch(pid, open, process);
    return process;
  }

  /** Whether this process is worth watching for whether it runs. */
  #watch(pid: number, open: OpenProcess, process: ObservedProcess): void {
    const { rest } = open;
    const hasUsedNothing = open.cpuOwnMs === process.cpuOwnMs;
    open.cpuOwnMs = process.cpuOwnMs;
    if (process.threads !== 1 || process.isZombie || (rest !== null && rest.missed >= MISSED_MAX)) {
      this.#endWatch(open);
    } else if (rest !== null) {
      rest.process = process;
    } else if (hasUsedNothing && this.#hasSchedstat && this.#round >= open.watchFrom) {
      this.#beginWatch(pid, open);
    }
  }

  #beginWatch(pid: number, open: OpenProcess): void {
    const room = this.#descriptorsMax - this.#descriptors;
    const kept = Number(open.stat >= 0) + Number(open.io >= 0);
    if (room + kept < 2) return;
    // Two are enough for one that rests. One that does not has to open its files at each reading then.
    if (room < 2) this.#releaseWhole(open);
    const descriptors: number[] = [];
    try {
      for (const file of ['schedstat', 'statm']) {
        const descriptor = this.#files.open(`${pid}/${file}`);
        if (descriptor >= 0) descriptors.push(descriptor);
      }
    } catch {
      // Too many open files, here or on the whole host: it is read as a whole, as before.
    }
    const [schedstat, statm] = descriptors;
    if (schedstat === undefined || statm === undefined) {
      for (const descriptor of descriptors) this.#files.close(descriptor);
      return;
    }
    this.#descriptors += 2;
    open.rest = { schedstat, statm, ran: '', memory: '', process: null, rested: 0, missed: 0 };
  }

  #endWatch(open: OpenProcess): void {
    if (open.rest === null) return;
    this.#release(open.rest.schedstat);
    this.#release(open.rest.statm);
    open.rest = null;
    open.watchFrom = this.#round + open.watchAfter;
    open.watchAfter = Math.min(2 * open.watchAfter, WATCH_AFTER_MAX);
  }

  #observe(pid: number, open: OpenProcess): ObservedProcess | number {
    const isWhole = this.#depth === 'all';
    const io = isWhole ? this.#readIo(pid, open) : DENIED;
    // Gone between its two files: as a whole reading it would lack its io, so it counts as gone before.
    if (io === GONE) return GONE;
    const { ppid, startTicks, threads, rssPages, state, userTicks, systemTicks, reapedUserTicks, reapedSystemTicks } = this.#stat;
    open.startTicks = startTicks;
    const msPerTick = 1000 / this.#facts.clockTicksPerSecond;
    const process: ObservedProcess = {
      pid,
      ppid,
      startTicks,
      startMs: startTicks * msPerTick,
      cpuOwnMs: (userTicks + systemTicks) * msPerTick,
      cpuReapedMs: (reapedUserTicks + reapedSystemTicks) * msPerTick,
      userOwnMs: userTicks * msPerTick,
      userReapedMs: reapedUserTicks * msPerTick,
      ioReadBytes: io === DENIED ? null : this.#io.readBytes,
      ioWriteBytes: io === DENIED ? null : this.#io.writeBytes,
      rssBytes: rssPages * this.#facts.pageBytes,
      threads,
      majorFaultsOwn: this.#stat.majorFaults,
      majorFaultsReaped: this.#stat.reapedMajorFaults,
      isZombie: (state === STATE_ZOMBIE || state === STATE_DEAD) && threads <= 1,
    };
    return isWhole && this.#details !== null ? { ...process, details: this.#details.read(pid, startTicks) } : process;
  }

  #readIo(pid: number, open: OpenProcess): number {
    if (!this.#hasIo) return DENIED;
    let length = DENIED;
    if (open.io >= 0) length = this.#files.readOpen(open.io);
    else if (open.io !== DENIED) length = this.#readKeeping(open, 'io', `${pid}/io`);
    // Asking again at every tick would only cost: what may be read of a process seldom changes in its life.
    if (length === DENIED || (length >= 0 && !parseIo(this.#files.buffer, length, this.#io))) {
      if (open.io >= 0) this.#release(open.io);
      open.io = DENIED;
      this.#ioDenied++;
      return DENIED;
    }
    return length;
  }

  #readKeeping(open: OpenProcess, file: 'stat' | 'io', path: string): number {
    if (this.#descriptors >= this.#descriptorsMax) return this.#files.read(path);
    const descriptor = this.#files.open(path);
    if (descriptor < 0) return descriptor;
    const length = this.#files.readOpen(descriptor);
    if (length < 0) {
      this.#files.close(descriptor);
      return length;
    }
    open[file] = descriptor;
    this.#descriptors++;
    return length;
  }

  #forget(pid: number, open: OpenProcess): void {
    this.#releaseWhole(open);
    this.#endWatch(open);
    this.#open.delete(pid);
  }

  #releaseWhole(open: OpenProcess): void {
    if (open.stat >= 0) this.#release(open.stat);
    open.stat = GONE;
    if (open.io < 0) return;
    this.#release(open.io);
    open.io = GONE;
  }

  #release(descriptor: number): void {
    this.#files.close(descriptor);
    this.#descriptors--;
  }
}

function notOpen(): OpenProcess {
  return {
    stat: GONE,
    io: GONE,
    round: 0,
    startTicks: Number.NaN,
    cpuOwnMs: Number.NaN,
    rest: null,
    watchFrom: 0,
    watchAfter: WATCH_AFTER_MIN,
  };
}
