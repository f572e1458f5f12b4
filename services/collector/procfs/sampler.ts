// The sampler for Linux: one reading of every unit from /proc. Reads the tree of a unit from the root downwards, so that a
// parent is always read before its children, which is what the tracker's accounting of exited children relies on.

import type { ExtraMetricName } from '#shared/contract/metrics';
import type { PresentReading, UnitReading } from '../core/unit-reading.ts';
import { isFromTable, type UnitTarget } from '../core/unit-target.ts';
import type { NamedUnit, Sampler } from '../sampler.ts';
import { type KernelFacts, openFilesLimit, readKernelFacts } from './kernel-facts.ts';
import { NetNamespaces } from './net-namespace.ts';
import { GONE, ProcFiles } from './proc-files.ts';
import { DetailReader } from './process-details.ts';
import { type ObservedProcess, ProcessReader } from './process-reader.ts';
import { PSS_RSS_BYTES_MAX, PssReader } from './pss-reader.ts';
import { valueAfter } from './stat-line.ts';
import { absenceReason, type ResolvedUnit, UnitResolver, type UnitResolverOptions } from './unit-resolver.ts';

export interface ProcfsSamplerOptions extends UnitResolverOptions {
  /** Where the procfs is. */
  readonly root?: string;
  /** Metrics to read beside those of every sample. */
  readonly extras?: readonly ExtraMetricName[];
  readonly descriptorsMax?: number;
  /** Monotonic clock, ms. */
  readonly now?: () => number;
}

/**
 * Two for each process, up to four for one that has only begun to rest: enough for 5 000 that have settled. A process that has
 * none costs twice as much to read; each takes 5 KB of the kernel's memory. Never more than half of what the collector may have:
 * NATS needs some, too.
 */
const DESCRIPTORS_MAX = 10_240;

interface Tree {
  readonly unit: ResolvedUnit;
  readonly processes: readonly ObservedProcess[];
}

const OPEN_FILES_MAX = Buffer.from('\nMax open files');

export class ProcfsSampler implements Sampler {
  readonly #options: ProcfsSamplerOptions;
  readonly #files: ProcFiles;
  readonly #facts: KernelFacts;
  #resolver: UnitResolver;
  readonly #reader: ProcessReader;
  readonly #namespaces: NetNamespaces;
  readonly #details: DetailReader | null;
  readonly #pss: PssReader | null;
  readonly #wantsOpenFilesMax: boolean;
  readonly #now: () => number;
  /** What this reading has seen, and the one before. */
  #seen = new Map<number, ObservedProcess | number>();
  #seenBefore = new Map<number, ObservedProcess | number>();
  #units: readonly ResolvedUnit[] = [];
  /** Of the units of the last sample, in their order. */
  #readings: readonly UnitReading[] = [];
  /** By unit, what the last sample found. */
  #trees = new Map<string, Tree>();

  constructor(targets: readonly UnitTarget[], options: ProcfsSamplerOptions = {}) {
    // Other targets go on with what was last read: a file that is being written when they come keeps its last good reading.
    this.#options = { systemg: new Map(), ...options };
    this.#files = new ProcFiles(options.root);
    this.#facts = readKernelFacts(this.#files.root);
    this.#resolver = new UnitResolver(this.#files, targets, this.#options);
    const extras = options.extras ?? [];
    this.#now = options.now ?? (() => performance.now());
    this.#details = DetailReader.isNeeded(extras) ? new DetailReader(this.#files, extras) : null;
    this.#pss = extras.includes('pss_bytes') ? new PssReader(this.#files, this.#now) : null;
    this.#wantsOpenFilesMax = extras.includes('fd_limit');
    this.#reader = new ProcessReader(
      this.#files,
      this.#facts,
      options.descriptorsMax ?? Math.min(DESCRIPTORS_MAX, Math.floor(openFilesLimit() / 2)),
      this.#details,
    );
    this.#namespaces = new NetNamespaces(this.#files);
  }

  get problems(): readonly string[] {
    const problems: string[] = [];
    const remedy = 'run the collector as root or with CAP_SYS_PTRACE';
    const { ioDenied } = this.#reader;
    if (ioDenied > 0) problems.push(`io of ${ioDenied} processes may not be read, so io_* of their units is unknown: ${remedy}`);
    const { denied = 0, tooLarge = 0 } = this.#pss ?? {};
    if (denied > 0) problems.push(`memory maps of ${denied} units may not be read, so their pss_bytes is unknown: ${remedy}`);
    if (tooLarge > 0) {
      const most = `${PSS_RSS_BYTES_MAX / 1024 ** 3} GiB`;
      problems.push(
        `${tooLarge} units have more than ${most} of resident memory, so their pss_bytes is not read: it would stop them for too long`,
      );
    }
    return problems;
  }

  get processes(): number {
    return this.#seen.size;
  }

  get units(): readonly NamedUnit[] {
    return this.#units;
  }

  retarget(targets: readonly UnitTarget[]): void {
    this.#resolver = new UnitResolver(this.#files, targets, this.#options);
  }

  sample(): UnitReading[] {
    // Before the processes are listed: one that starts after this moment is known to be new at the next reading.
    const atMs = this.#uptimeMs();
    this.#pss?.beginRound();
    this.#forgetSeen();
    this.#reader.beginRound();
    const units = this.#resolver.resolve(this.#now());
    const before = this.#trees;
    this.#trees = new Map();
    const readings = units.map((unit) => this.#readUnit(unit, before.get(unit.unit), atMs));
    this.#reader.endRound();
    this.#namespaces.retain(this.#seen);
    this.#details?.retain(this.#seen);
    this.#units = units;
    this.#readings = readings;
    return readings;
  }

  /** Nothing is resolved, so that it is cheap: processes that have come since the last sample count from the next one on. */
  samplePeak(): UnitReading[] {
    const atMs = this.#uptimeMs();
    this.#forgetSeen();
    this.#reader.beginRound('usage');
    const readings = this.#readings.map((reading, i) =>
      reading.state === 'missing' ? reading : this.#readAgain(reading, this.#units[i]?.target.tree !== false, atMs),
    );
    this.#reader.endRound();
    return readings;
  }

  close(): void {
    this.#reader.close();
  }

  #readUnit(unit: ResolvedUnit, before: Tree | undefined, atMs: number): UnitReading {
    const { target } = unit;
    if (unit.reason !== null) return { state: 'missing', reason: unit.reason };
    const monotonicMs = this.#now();
    const roots: ObservedProcess[] = [];
    let absence = GONE;
    for (const pid of unit.roots) {
      const root = this.#observe(pid);
      if (typeof root === 'number') absence = root;
      else if (!isFromTable(target.rule) || this.#isAsListed(root)) roots.push(root);
    }
    const root = roots[0];
    if (root === undefined) return { state: 'missing', reason: absenceReason(target.rule, unit.roots[0] as number, absence) };
    const processes = target.tree ? this.#observeTree(unit, before, roots) : roots.map((one) => withoutReaped(one));
    const network = this.#namespaces.read(root.pid, root.startTicks, monotonicMs);
    return {
      state: roots.every((one) => one.isZombie) ? 'zombie' : 'running',
      pid: root.pid,
      startMs: root.startMs,
      startedMs: Math.round(this.#facts.bootMs + root.startMs),
      atMs,
      monotonicMs,
      processes,
      netRxBytes: network?.rxBytes ?? null,
      netTxBytes: network?.txBytes ?? null,
      ...(this.#wantsOpenFilesMax ? { openFilesMax: this.#openFilesMax(root.pid) } : {}),
      ...(this.#pss !== null ? { pssBytes: this.#pss.read(unit.unit, processes) } : {}),
    };
  }

  /** Of the processes it had at the last sample. */
  #readAgain(last: PresentReading, isTree: boolean, atMs: number): UnitReading {
    const monotonicMs = this.#now();
    const processes: ObservedProcess[] = [];
    for (const { pid, startMs } of last.processes) {
      const process = this.#observe(pid);
      if (typeof process !== 'number' && process.startMs === startMs) processes.push(isTree ? process : withoutReaped(process));
    }
    if (processes[0]?.pid !== last.pid) return { state: 'missing', reason: `process ${last.pid} has gone` };
    return { ...last, atMs, monotonicMs, processes };
  }

  #observeTree(unit: ResolvedUnit, before: Tree | undefined, roots: readonly ObservedProcess[]): readonly ObservedProcess[] {
    let processes = roots;
    if (unit.members.length > unit.roots.length) {
      const observed = unit.members.map((pid) => this.#observe(pid)).filter((one) => typeof one !== 'number');
      processes = observed.filter((process) => this.#isAsListed(process) || roots.includes(process));
    }
    if (before !== undefined && before.unit !== unit) processes = [...processes, ...this.#departing(before, unit, roots[0])];
    this.#trees.set(unit.unit, { unit, processes });
    return processes;
  }

  /**
   * Processes that have left the unit because their parent ended: they live on as somebody else's children. Each is read once
   * more, with its new parent; else the tracker would think that it has ended, too, and wait for an ancestor to inherit its time.
   */
  #departing(before: Tree, unit: ResolvedUnit, root: ObservedProcess | undefined): ObservedProcess[] {
    if (before.processes[0]?.pid !== root?.pid || before.processes[0]?.startTicks !== root?.startTicks) return [];
    const former = new Set(before.processes.map((process) => process.pid));
    const members = new Set(unit.members);
    return before.processes.flatMap(({ pid, ppid, startTicks }) => {
      if (members.has(pid) || !former.has(ppid)) return [];
      const process = this.#observe(pid);
      return typeof process !== 'number' && process.startTicks === startTicks ? [process] : [];
    });
  }

  /** As far as the table knows, and who is known of its parent is read before it. */
  readonly #hasSameParent = ({ pid, ppid }: ObservedProcess): boolean => {
    if ((this.#resolver.table.get(pid)?.ppid ?? ppid) !== ppid) return false;
    return !this.#seenBefore.has(ppid) || typeof this.#observe(ppid) !== 'number';
  };

  #forgetSeen(): void {
    [this.#seen, this.#seenBefore] = [this.#seenBefore, this.#seen];
    this.#seen.clear();
  }

  #openFilesMax(pid: number): number | null {
    const length = this.#files.read(`${pid}/limits`);
    return length < 0 ? null : valueAfter(this.#files.buffer, length, OPEN_FILES_MAX);
  }

  /** The id may have been given to a stranger since the table was read. */
  #isAsListed(process: ObservedProcess): boolean {
    return this.#resolver.table.get(process.pid)?.startTicks === process.startTicks;
  }

  /** Once per tick for each process, however many units it belongs to. */
  #observe(pid: number): ObservedProcess | number {
    const seen = this.#seen.get(pid);
    if (seen !== undefined) return seen;
    const process = this.#reader.read(pid, this.#hasSameParent);
    this.#seen.set(pid, process);
    if (process === GONE && this.#resolver.table.get(pid) !== undefined) this.#resolver.table.noteVanished();
    return process;
  }

  /** Since boot, ms, on the clock that start times are given in. */
  #uptimeMs(): number {
    return Number.parseFloat(this.#files.readText('uptime') ?? '0') * 1000;
  }
}

/** A process alone has nothing of its children. */
function withoutReaped(process: ObservedProcess): ObservedProcess {
  if (process.cpuReapedMs === 0 && process.majorFaultsReaped === 0) return process;
  return { ...process, cpuReapedMs: 0, userReapedMs: 0, majorFaultsReaped: 0 };
}
