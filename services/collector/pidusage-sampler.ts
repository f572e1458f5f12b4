// The portable sampler: CPU and resident memory from the pidusage package, everything else unknown. Slower than procfs, and
// on systems other than Linux it runs `ps`; where processes cannot be listed (not Linux) a unit is its root process alone.
//
// pidusage keeps a history by pid, from which it derives a percentage that a reused pid would falsify. Only its cumulative
// `ctime` is used here, and the tracker makes the percentage, as it does for procfs: null in the first sample, no history.
// What remains of that history is harmless but for one thing: on Linux it holds a descriptor of a dead process for as long
// as it is asked for it. So a process that is gone is not asked for again until pidusage has forgotten it.

import pidusage from 'pidusage';
import { SetupError } from '#shared/runtime/service';
import type { ProcessReading, UnitReading } from './core/unit-reading.ts';
import { isFromTable, type UnitTarget } from './core/unit-target.ts';
import { GONE, ProcFiles } from './procfs/proc-files.ts';
import { absenceReason, type ResolvedUnit, readPidfile, UnitResolver, type UnitResolverOptions } from './procfs/unit-resolver.ts';
import type { NamedUnit, Sampler } from './sampler.ts';

/** pidusage forgets a process that it was not asked for in this time; it looks twice in it. */
const HISTORY_MS = 2_000;
const FORGOTTEN_MS = 2 * HISTORY_MS;
/** `elapsed` has the resolution of a second where it comes from `ps`: a start that moves by less is the same process. */
const START_TOLERANCE_MS = 2_500;

/** What pidusage does not tell. */
const UNKNOWN = {
  userOwnMs: null,
  userReapedMs: null,
  ioReadBytes: null,
  ioWriteBytes: null,
  threads: null,
  majorFaultsOwn: null,
  majorFaultsReaped: null,
} as const;

interface Known {
  /** Wall clock: the only clock that goes on while the machine sleeps, as a process's age does. */
  readonly startMs: number;
  round: number;
}

export class PidusageSampler implements Sampler {
  readonly problems: readonly string[] = [];
  readonly #listsProcesses: boolean;
  readonly #resolverOptions: UnitResolverOptions;
  #targets: readonly UnitTarget[] = [];
  #resolver: UnitResolver | null = null;
  #units: readonly ResolvedUnit[] = [];
  readonly #known = new Map<number, Known>();
  /** When each process was found gone, monotonic ms. */
  readonly #gone = new Map<number, number>();
  #round = 0;
  #processes = 0;

  /**
   * @param listsProcesses whether there is a procfs to find matches and descendants with
   * @throws {SetupError} if there is none and the targets need one
   */
  constructor(targets: readonly UnitTarget[], listsProcesses: boolean, options: Pick<UnitResolverOptions, 'dockerRoot'> = {}) {
    this.#listsProcesses = listsProcesses;
    this.#resolverOptions = { systemg: new Map(), ...options };
    this.retarget(targets);
  }

  get units(): readonly NamedUnit[] {
    return this.#units;
  }

  retarget(targets: readonly UnitTarget[]): void {
    const searching = targets.filter(({ rule }) => isFromTable(rule)).map(({ unit }) => unit);
    if (!this.#listsProcesses && searching.length > 0) {
      throw new SetupError(
        `units ${searching.join(', ')}: their rules need a list of all processes, which only Linux gives without running programs; use pid or pidfile here`,
      );
    }
    this.#targets = targets;
    this.#resolver = this.#listsProcesses ? new UnitResolver(new ProcFiles(), targets, this.#resolverOptions) : null;
  }

  get processes(): number {
    return this.#processes;
  }

  async sample(): Promise<UnitReading[]> {
    this.#round++;
    const units = this.#resolver?.resolve(performance.now()) ?? this.#targets.map(resolvePortably);
    const usages = await this.#usagesOf(new Set(units.flatMap((unit) => unit.members)));
    const monotonicMs = performance.now();
    for (const [pid, known] of this.#known) if (known.round !== this.#round) this.#known.delete(pid);
    this.#units = units;
    return units.map((unit) => readingOf(unit, usages, monotonicMs));
  }

  close(): void {
    pidusage.clear();
  }

  async #usagesOf(pids: ReadonlySet<number>): Promise<Map<number, ProcessReading>> {
    const usages = new Map<number, ProcessReading>();
    const nowMs = performance.now();
    for (const [pid, goneMs] of this.#gone) if (nowMs - goneMs >= FORGOTTEN_MS) this.#gone.delete(pid);
    await Promise.all(
      [...pids].map(async (pid) => {
        if (this.#gone.has(pid)) return;
        try {
          const { ctime, memory, elapsed, ppid } = await pidusage(pid, { maxage: HISTORY_MS });
          const startMs = this.#startOf(pid, elapsed);
          usages.set(pid, { pid, ppid, startMs, cpuOwnMs: ctime, cpuReapedMs: 0, rssBytes: memory, ...UNKNOWN });
        } catch {
          // Whatever pidusage says of it (its errors differ by system), there is no reading of this process now.
          this.#gone.set(pid, performance.now());
          this.#resolver?.table.noteVanished();
        }
      }),
    );
    this.#processes = usages.size;
    return usages;
  }

  /** A start time that does not move from reading to reading, from an age that does: it is what tells a reused pid. */
  #startOf(pid: number, elapsedMs: number): number {
    const startMs = Math.round(Date.now() - elapsedMs);
    const known = this.#known.get(pid);
    if (known !== undefined && Math.abs(known.startMs - startMs) < START_TOLERANCE_MS) {
      known.round = this.#round;
      return known.startMs;
    }
    this.#known.set(pid, { startMs, round: this.#round });
    return startMs;
  }
}

function resolvePortably(target: UnitTarget): ResolvedUnit {
  const { unit, rule } = target;
  const read = rule.kind === 'pidfile' ? readPidfile(rule.path) : { pid: rule.kind === 'pid' ? rule.pid : process.pid };
  if ('reason' in read) return { unit, target, roots: [], members: [], reason: read.reason };
  return { unit, target, roots: [read.pid], members: [read.pid], reason: null };
}

function readingOf(unit: ResolvedUnit, usages: ReadonlyMap<number, ProcessReading>, monotonicMs: number): UnitReading {
  if (unit.reason !== null) return { state: 'missing', reason: unit.reason };
  const root = unit.roots.map((pid) => usages.get(pid)).find((usage) => usage !== undefined);
  if (root === undefined) return { state: 'missing', reason: absenceReason(unit.target.rule, unit.roots[0] as number, GONE) };
  return {
    state: 'running', // pidusage does not tell a zombie
    pid: root.pid,
    startMs: root.startMs,
    startedMs: root.startMs,
    atMs: Date.now(),
    monotonicMs,
    processes: unit.members.flatMap((member) => usages.get(member) ?? []),
    netRxBytes: null,
    netTxBytes: null,
  };
}
