// Whether a process has a network namespace of its own, and what went over its interfaces then. Where it shares the host's,
// the numbers of its /proc/<pid>/net/dev are everybody's, and nobody's in particular.

import type { ProcFiles } from './proc-files.ts';
import { parseNetDev } from './stat-line.ts';

interface Checked {
  readonly startTicks: number;
  readonly isOwn: boolean;
  readonly atMs: number;
}

/** A process may enter another namespace after its start, so the answer is asked for again. */
const CHECK_INTERVAL_MS = 10_000;

export class NetNamespaces {
  readonly #files: ProcFiles;
  /** Of init and of the collector. Where neither can be read, no process's can be judged. */
  readonly #shared: ReadonlySet<string>;
  readonly #checked = new Map<number, Checked>();

  constructor(files: ProcFiles) {
    this.#files = files;
    this.#shared = new Set(['1/ns/net', 'self/ns/net'].map((path) => files.readLink(path)).filter((link) => link !== null));
  }

  /** Bytes over all interfaces but the loopback, or null where the namespace is not its own or cannot be read. @param nowMs monotonic */
  read(pid: number, startTicks: number, nowMs: number): { rxBytes: number; txBytes: number } | null {
    let checked = this.#checked.get(pid);
    if (checked?.startTicks !== startTicks || nowMs - checked.atMs >= CHECK_INTERVAL_MS) {
      checked = { startTicks, isOwn: this.#isOwn(pid), atMs: nowMs };
      this.#checked.set(pid, checked);
    }
    const text = checked.isOwn ? this.#files.readText(`${pid}/net/dev`) : null;
    return text === null ? null : parseNetDev(text);
  }

  /** Forgets all but the given processes. */
  retain(pids: ReadonlyMap<number, unknown>): void {
    for (const pid of this.#checked.keys()) if (!pids.has(pid)) this.#checked.delete(pid);
  }

  #isOwn(pid: number): boolean {
    const link = this.#files.readLink(`${pid}/ns/net`);
    return link !== null && this.#shared.size > 0 && !this.#shared.has(link);
  }
}
