// The processes of this host: who is whose child and, where command lines matter, how each was started.
//
// Kept from tick to tick instead of being read anew, because reading a thousand stat files takes milliseconds. What makes
// that exact is the kernel's cursor of process ids (/proc/sys/kernel/ns_last_pid): ids are given out in a circle, so a
// process that is new since the last look has an id between the old cursor and the new one, and where the cursor has not
// moved there is no new process at all. A parent changes only when the old one dies. Where the cursor cannot be read, or
// counts another pid namespace than this procfs shows, every look reads everything.

import { namespaceDepth } from './pid-namespace.ts';
import { GONE, type ProcFiles } from './proc-files.ts';
import { emptyStatLine, parseStat } from './stat-line.ts';

export interface ProcessEntry {
  readonly pid: number;
  /** Since boot, in clock ticks. With the pid it is the process's identity. */
  readonly startTicks: number;
  ppid: number;
  /** Arguments joined by spaces, or `[comm]` where there are none; '' while unread. At most 4 KiB. */
  commandLine: string;
  commandReadMs: number;
}

export interface ProcessTableOptions {
  /** Whether command lines are wanted: they cost a read for each process. */
  readonly readsCommands: boolean;
  /** False reads everything at every look. */
  readonly usesCursor?: boolean;
}

/** A look at everything, however the cursor stands: command lines may have been rewritten, and ids can be given out of turn. */
const FULL_SCAN_MS = 30_000;
/** While a process is young its command line is read at every look: a fork shows its parent's until it executes. */
const YOUNG_MS = 10_000;
/** Longer command lines are cut: enough to recognise a process by, and a bound for whoever matches it. */
const COMMAND_BYTES_MAX = 4096;

export class ProcessTable {
  readonly #files: ProcFiles;
  readonly #readsCommands: boolean;
  readonly #usesCursor: boolean;
  readonly #entries = new Map<number, ProcessEntry>();
  readonly #young = new Map<ProcessEntry, number>();
  readonly #stat = emptyStatLine();
  #children: Map<number, ProcessEntry[]> | null = null;
  #version = 0;
  #cursor: number | null = null;
  #scannedMs = Number.NEGATIVE_INFINITY;
  #hasVanished = true;
  #examined: ProcessEntry[] = [];
  #removed: ProcessEntry[] = [];

  constructor(files: ProcFiles, options: ProcessTableOptions) {
    this.#files = files;
    this.#readsCommands = options.readsCommands;
    // A procfs of another pid namespace (the host's, mounted into a container) has its own cursor, which we cannot read.
    const showsOwn = files.readLink('self') === String(process.pid) && (namespaceDepth(files) ?? 1) === 1;
    this.#usesCursor = (options.usesCursor ?? true) && showsOwn;
  }

  /** Changes whenever a process or a parent does: what was derived from the table is good until then. */
  get version(): number {
    return this.#version;
  }
  /** Processes whose command line the last look has read, new ones included. */
  get examined(): readonly ProcessEntry[] {
    return this.#examined;
  }
  /** Processes the last look found gone. */
  get removed(): readonly ProcessEntry[] {
    return this.#removed;
  }
  get size(): number {
    return this.#entries.size;
  }

  entries(): IterableIterator<ProcessEntry> {
    return this.#entries.values();
  }

  get(pid: number): ProcessEntry | undefined {
    return this.#entries.get(pid);
  }

  /** A process of the table turned out to be gone: its children have another parent now. The next look is a scan. */
  noteVanished(): void {
    this.#hasVanished = true;
  }

  /** Looks again. @param nowMs monotonic */
  refresh(nowMs: number): void {
    this.#examined = [];
    this.#removed = [];
    // Before the directory is listed: what is born in between lies beyond this cursor and is looked at next time.
    const cursor = this.#usesCursor ? this.#readCursor() : null;
    const isFull = cursor === null || this.#cursor === null || nowMs - this.#scannedMs >= FULL_SCAN_MS;
    if (isFull || cursor !== this.#cursor || this.#hasVanished) {
      const mayBeNew = isFull ? () => true : within(this.#cursor ?? 0, cursor ?? 0);
      this.#hasVanished = false;
      if (isFull) this.#scannedMs = nowMs;
      this.#scan(mayBeNew, nowMs);
    }
    this.#cursor = cursor;
    if (this.#readsCommands) this.#readDueCommands(nowMs);
  }

  /** The given processes and all their descendants, each once, parents before their children. Unknown ids are kept as they are. */
  withDescendants(roots: readonly number[]): number[] {
    const children = this.#childrenIndex();
    const found = new Set(roots);
    for (const pid of found) for (const child of children.get(pid) ?? []) found.add(child.pid);
    return [...found];
  }

  #readCursor(): number | null {
    const text = this.#files.readText('sys/kernel/ns_last_pid');
    const cursor = text === null ? Number.NaN : Number.parseInt(text, 10);
    return Number.isNaN(cursor) ? null : cursor;
  }

  #scan(mayBeNew: (pid: number) => boolean, nowMs: number): void {
    const pids = this.#files.pids();
    const present = new Set(pids);
    for (const entry of this.#entries.values()) if (!present.has(entry.pid)) this.#remove(entry);
    for (const pid of pids) if (!this.#entries.has(pid) || mayBeNew(pid)) this.#readEntry(pid, nowMs);
    for (const entry of this.#entries.values()) if (this.#hasLostParent(entry)) this.#readEntry(entry.pid, nowMs);
  }

  /** A parent that started after its child is another process under the parent's old id. */
  #hasLostParent(entry: ProcessEntry): boolean {
    if (entry.ppid === 0) return false;
    const parent = this.#entries.get(entry.ppid);
    return parent === undefined || parent.startTicks > entry.startTicks;
  }

  #readEntry(pid: number, nowMs: number): void {
    const known = this.#entries.get(pid);
    const length = this.#files.read(`${pid}/stat`);
    if (length < 0 || !parseStat(this.#files.buffer, length, this.#stat)) {
      if (known !== undefined && length === GONE) this.#remove(known);
      return;
    }
    const { ppid, startTicks } = this.#stat;
    if (known?.startTicks === startTicks) {
      if (known.ppid !== ppid) this.#changed();
      known.ppid = ppid;
      return;
    }
    if (known !== undefined) this.#remove(known);
    const entry: ProcessEntry = { pid, startTicks, ppid, commandLine: '', commandReadMs: Number.NEGATIVE_INFINITY };
    this.#entries.set(pid, entry);
    if (this.#readsCommands) this.#young.set(entry, nowMs);
    this.#changed();
  }

  #remove(entry: ProcessEntry): void {
    this.#entries.delete(entry.pid);
    this.#young.delete(entry);
    this.#removed.push(entry);
    this.#changed();
  }

  #changed(): void {
    this.#version++;
    this.#children = null;
  }

  #readDueCommands(nowMs: number): void {
    for (const [entry, seenMs] of this.#young) {
      this.#readCommand(entry, nowMs);
      if (nowMs - seenMs >= YOUNG_MS) this.#young.delete(entry);
    }
    if (this.#scannedMs !== nowMs) return;
    for (const entry of this.#entries.values()) if (nowMs - entry.commandReadMs >= FULL_SCAN_MS) this.#readCommand(entry, nowMs);
  }

  #readCommand(entry: ProcessEntry, nowMs: number): void {
    entry.commandReadMs = nowMs;
    this.#examined.push(entry);
    const text = this.#files.readText(`${entry.pid}/cmdline`, COMMAND_BYTES_MAX);
    // A process that has exited has no command line any more: the one it had still tells which it was.
    if (text === null || (text === '' && entry.commandLine !== '')) return;
    entry.commandLine = text === '' ? `[${this.#files.readText(`${entry.pid}/comm`)?.trimEnd() ?? ''}]` : joinArguments(text);
  }

  #childrenIndex(): Map<number, ProcessEntry[]> {
    if (this.#children !== null) return this.#children;
    const children = new Map<number, ProcessEntry[]>();
    for (const entry of this.#entries.values()) {
      const siblings = children.get(entry.ppid);
      if (siblings === undefined) children.set(entry.ppid, [entry]);
      else siblings.push(entry);
    }
    this.#children = children;
    return children;
  }
}

/** Whether an id lies behind `from` and not behind `to`, in the circle the kernel gives ids out in. */
function within(from: number, to: number): (pid: number) => boolean {
  return from <= to ? (pid) => pid > from && pid <= to : (pid) => pid > from || pid <= to;
}

/** Arguments end with NUL each; a process may have overwritten them with anything, trailing padding included. */
function joinArguments(text: string): string {
  return text.replace(/[\0\s]+$/, '').replaceAll('\0', ' ');
}
