// The sampler for Linux: one reading of every unit from /proc. Reads the tree of a unit from the root downwards, so that a
// parent is always read before its children, which is what the tracker's accounting of exited children relies on.

import type { PresentReading, UnitReading } from '../core/unit-reading.ts';
import { isFromTable, type UnitTarget } from '../core/unit-target.ts';
import type { NamedUnit, Sampler } from '../sampler.ts';
import { type KernelFacts, openFilesLimit, readKernelFacts } from './kernel-facts.ts';
import { NetNamespaces } from './net-namespace.ts';
import { GONE, ProcFiles } from './proc-files.ts';
import { type ObservedProcess, ProcessReader } from './process-reader.ts';
import { absenceReason, type ResolvedUnit, UnitResolver, type UnitResolverOptions } from './unit-resolver.ts';

export interface ProcfsSamplerOptions extends UnitResolverOptions {
  /** Where the procfs is. */
  readonly root?: string;
  readonly descriptorsMax?: number;
  /** Monotonic clock, ms. */
  readonly now?: () => number;
}

/** Two for each process: enough for 2 000 of them. Never more than half of what the process may have: NATS needs some, too. */
const DESCRIPTORS_MAX = 4096;

export class ProcfsSampler implements Sampler {
  readonly #options: ProcfsSamplerOptions;
  readonly #files: ProcFiles;
  readonly #facts: KernelFacts;
  #resolver: UnitResolver;
  readonly #reader: ProcessReader;
  readonly #namespaces: NetNamespaces;
  readonly #now: () => number;
  readonly #seen = new Map<number, ObservedProcess | number>();
  #units: readonly ResolvedUnit[] = [];

  constructor(targets: readonly UnitTarget[], options: ProcfsSamplerOptions = {}) {
    // Other targets go on with what was last read: a file that is being written when they come keeps its last good reading.
    this.#options = { systemg: new Map(), ...options };
    this.#files = new ProcFiles(options.root);
    this.#facts = readKernelFacts(this.#files.root);
    this.#resolver = new UnitResolver(this.#files, targets, this.#options);
    this.#reader = new ProcessReader(
      this.#files,
      this.#facts,
      options.descriptorsMax ?? Math.min(DESCRIPTORS_MAX, Math.floor(openFilesLimit() / 2)),
    );
    this.#namespaces = new NetNamespaces(this.#files);
    this.#now = options.now ?? (() => performance.now());
  }

  get problems(): readonly string[] {
    const denied = this.#reader.ioDenied;
    if (denied === 0) return [];
    return [
      `io of ${denied} processes may not be read, so io_* of their units is unknown: run the collector as root or with CAP_SYS_PTRACE`,
    ];
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
    this.#seen.clear();
    this.#reader.beginRound();
    this.#units = this.#resolver.resolve(this.#now());
    const readings = this.#units.map((unit) => this.#readUnit(unit.target, unit, atMs));
    this.#reader.endRound();
    this.#namespaces.retain(new Set(this.#seen.keys()));
    return readings;
  }

  close(): void {
    this.#reader.close();
  }

  #readUnit(target: UnitTarget, unit: ResolvedUnit, atMs: number): UnitReading {
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
    const network = this.#namespaces.read(root.pid, root.startTicks, monotonicMs);
    return {
      state: roots.every((one) => one.isZombie) ? 'zombie' : 'running',
      pid: root.pid,
      startMs: root.startMs,
      startedMs: Math.round(this.#facts.bootMs + root.startMs),
      atMs,
      monotonicMs,
      processes: target.tree ? this.#observeTree(unit, roots) : roots.map((one) => ({ ...one, cpuReapedMs: 0 })),
      netRxBytes: network?.rxBytes ?? null,
      netTxBytes: network?.txBytes ?? null,
    };
  }

  #observeTree(unit: ResolvedUnit, roots: readonly ObservedProcess[]): PresentReading['processes'] {
    if (unit.members.length === unit.roots.length) return roots;
    const processes: ObservedProcess[] = [];
    for (const pid of unit.members) {
      const process = this.#observe(pid);
      if (typeof process === 'number') continue;
      if (this.#isAsListed(process) || roots.includes(process)) processes.push(process);
    }
    return processes;
  }

  /** The id may have been given to a stranger since the table was read. */
  #isAsListed(process: ObservedProcess): boolean {
    return this.#resolver.table.get(process.pid)?.startTicks === process.startTicks;
  }

  /** Once per tick for each process, however many units it belongs to. */
  #observe(pid: number): ObservedProcess | number {
    const seen = this.#seen.get(pid);
    if (seen !== undefined) return seen;
    const process = this.#reader.read(pid);
    this.#seen.set(pid, process);
    if (process === GONE && this.#resolver.table.get(pid) !== undefined) this.#resolver.table.noteVanished();
    return process;
  }

  /** Since boot, ms, on the clock that start times are given in. */
  #uptimeMs(): number {
    return Number.parseFloat(this.#files.readText('uptime') ?? '0') * 1000;
  }
}
