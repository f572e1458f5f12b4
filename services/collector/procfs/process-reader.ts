// Reads one process: its stat and io files, through descriptors that stay open for as long as the process is asked for.
// Bounded: beyond its limit of descriptors it opens and closes at each read, which is slower and not wrong.

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
}

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

  /** @returns the process, {@link GONE} or {@link DENIED} */
  read(pid: number): ObservedProcess | number {
    let open = this.#open.get(pid);
    let length = open === undefined || open.stat < 0 ? GONE : this.#files.readOpen(open.stat);
    if (length < 0) {
      // Not open yet, or dead: then the id may be another process's by now.
      if (open !== undefined) this.#forget(pid, open);
      open = { stat: GONE, io: GONE, round: this.#round };
      length = this.#readKeeping(open, 'stat', `${pid}/stat`);
      if (length < 0) return length;
      this.#open.set(pid, open);
    }
    const known = open as OpenProcess;
    known.round = this.#round;
    if (!parseStat(this.#files.buffer, length, this.#stat)) return GONE;
    return this.#observe(pid, known);
  }

  close(): void {
    for (const [pid, open] of this.#open) this.#forget(pid, open);
  }

  #observe(pid: number, open: OpenProcess): ObservedProcess | number {
    const isWhole = this.#depth === 'all';
    const io = isWhole ? this.#readIo(pid, open) : DENIED;
    // Gone between its two files: as a whole reading it would lack its io, so it counts as gone before.
    if (io === GONE) return GONE;
    const { ppid, startTicks, threads, rssPages, state, userTicks, systemTicks, reapedUserTicks, reapedSystemTicks } = this.#stat;
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
    if (open.stat >= 0) this.#release(open.stat);
    if (open.io >= 0) this.#release(open.io);
    this.#open.delete(pid);
  }

  #release(descriptor: number): void {
    this.#files.close(descriptor);
    this.#descriptors--;
  }
}
