// What extra metrics need of one process beside its stat and io: open files, swap, context switches. Files that are read only when
// such a metric is configured, and only those that it needs; opened and closed at each reading.

import type { ExtraMetricName } from '#shared/contract/metrics';
import type { ProcessDetails } from '../core/unit-reading.ts';
import type { ProcFiles } from './proc-files.ts';
import { valueAfter } from './stat-line.ts';

interface Switches {
  voluntary: number;
  involuntary: number;
}

/** Switches of a process: the sum over its threads, with what threads had that are gone. */
interface Counted extends Switches {
  readonly startTicks: number;
  /** By thread, as last read. */
  threads: Map<number, Switches>;
}

const SWAP = Buffer.from('\nVmSwap:\t');
const RESIDENT = Buffer.from('\nVmRSS:\t');
const VOLUNTARY = Buffer.from('\nvoluntary_ctxt_switches:\t');
const INVOLUNTARY = Buffer.from('\nnonvoluntary_ctxt_switches:\t');

const METRICS_OF_DETAILS: readonly ExtraMetricName[] = ['open_fds', 'swap_bytes', 'voluntary_ctx_switches', 'involuntary_ctx_switches'];

export class DetailReader {
  readonly #files: ProcFiles;
  readonly #wantsFiles: boolean;
  readonly #wantsSwap: boolean;
  readonly #wantsSwitches: boolean;
  readonly #counted = new Map<number, Counted>();

  constructor(files: ProcFiles, extras: readonly ExtraMetricName[]) {
    this.#files = files;
    this.#wantsFiles = extras.includes('open_fds');
    this.#wantsSwap = extras.includes('swap_bytes');
    this.#wantsSwitches = extras.includes('voluntary_ctx_switches') || extras.includes('involuntary_ctx_switches');
  }

  /** Whether any of the metrics needs it. */
  static isNeeded(extras: readonly ExtraMetricName[]): boolean {
    return METRICS_OF_DETAILS.some((name) => extras.includes(name));
  }

  /** Null for what is gone, denied or not wanted. */
  read(pid: number, startTicks: number): ProcessDetails {
    const openFiles = this.#wantsFiles ? this.#files.openFiles(pid) : -1;
    const switches = this.#wantsSwitches ? this.#readSwitches(pid, startTicks) : null;
    return {
      openFiles: openFiles < 0 ? null : openFiles,
      swapBytes: this.#wantsSwap ? this.#readSwap(pid) : null,
      voluntarySwitches: switches?.voluntary ?? null,
      involuntarySwitches: switches?.involuntary ?? null,
    };
  }

  /** Forgets all but the given processes. */
  retain(pids: ReadonlyMap<number, unknown>): void {
    for (const pid of this.#counted.keys()) if (!pids.has(pid)) this.#counted.delete(pid);
  }

  #readSwap(pid: number): number | null {
    const length = this.#files.read(`${pid}/status`);
    if (length < 0) return null;
    const { buffer } = this.#files;
    const kilobytes = valueAfter(buffer, length, SWAP);
    if (kilobytes !== null) return kilobytes * 1024;
    // A kernel thread and a zombie have no memory, so nothing of it is swapped out.
    return valueAfter(buffer, length, RESIDENT) === null ? 0 : null;
  }

  /** The status of a process has the switches of its first thread only, so every thread's is read. */
  #readSwitches(pid: number, startTicks: number): Switches | null {
    let counted = this.#counted.get(pid);
    if (counted?.startTicks !== startTicks) {
      counted = { startTicks, voluntary: 0, involuntary: 0, threads: new Map() };
      this.#counted.set(pid, counted);
    }
    const threads = new Map<number, Switches>();
    for (const thread of this.#files.threads(pid)) {
      const now = this.#switchesOf(`${pid}/task/${thread}/status`);
      if (now === null) continue;
      threads.set(thread, now);
      const before = counted.threads.get(thread);
      // Fewer than before: another thread under the id of one that has ended.
      const isSame = before !== undefined && now.voluntary >= before.voluntary && now.involuntary >= before.involuntary;
      counted.voluntary += now.voluntary - (isSame ? before.voluntary : 0);
      counted.involuntary += now.involuntary - (isSame ? before.involuntary : 0);
    }
    counted.threads = threads;
    return threads.size === 0 ? null : counted;
  }

  #switchesOf(path: string): Switches | null {
    const length = this.#files.read(path);
    if (length < 0) return null;
    const voluntary = valueAfter(this.#files.buffer, length, VOLUNTARY);
    const involuntary = valueAfter(this.#files.buffer, length, INVOLUNTARY);
    return voluntary === null || involuntary === null ? null : { voluntary, involuntary };
  }
}
