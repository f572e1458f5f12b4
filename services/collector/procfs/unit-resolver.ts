// From rules to units and their processes, once per tick: which units there are, of which processes each consists, and why not
// where there is none. A search is decided when a process is examined, not at every tick: between two readings nothing it
// depends on changes, except its control group, which is looked at again every few seconds.

import { closeSync, constants, openSync, readSync } from 'node:fs';
import { type NameField, OTHER_UNIT, renderName, validName } from '#shared/contract/name-template';
import { type CgroupMatcher, cgroupMatcher, containerMatcher, ownCgroup, systemdMatcher } from '../core/cgroup-path.ts';
import { hasManyUnits, isSearch, type Rule, type UnitTarget } from '../core/unit-target.ts';
import { DockerNames } from '../docker-names.ts';
import { SYSTEMG_DIRECTORIES, SystemgDirectory } from '../systemg-directory.ts';
import { readUsers, type Users } from './passwd.ts';
import { DENIED, GONE, type ProcFiles } from './proc-files.ts';
import { ProcessFacts, readUid } from './process-facts.ts';
import { type ProcessEntry, ProcessTable } from './process-table.ts';

export interface ResolvedUnit {
  readonly unit: string;
  /** What it comes from: itself, or what gives many. */
  readonly target: UnitTarget;
  /** Processes the rule names, oldest first; the first is the unit's root. */
  readonly roots: readonly number[];
  /** Roots and, for a tree, their descendants; parents before children. */
  readonly members: readonly number[];
  /** Why there are no roots, for people; null where there are. */
  readonly reason: string | null;
}

export interface UnitResolverOptions {
  /** Never part of a search: the program that only asks. */
  readonly excludedPid?: number;
  readonly passwdPath?: string;
  readonly dockerRoot?: string;
  /** State directories of systemg that have been read before, by their paths; those that are read now are put into it. */
  readonly systemg?: Map<string, SystemgDirectory>;
  /** False reads the whole process table at every tick. */
  readonly usesCursor?: boolean;
}

type NamedRoots = Pick<ResolvedUnit, 'unit' | 'roots' | 'reason'>;

/** A process that was found, with the unit that it makes. */
interface Found {
  readonly entry: ProcessEntry;
  readonly unit: string;
}

interface Search {
  readonly found: Map<number, Found>;
  /** Matching, but another user's. */
  readonly foreign: Set<ProcessEntry>;
  /** Null: not known, so that nothing is in it. */
  matcher: CgroupMatcher | null;
  /** Of a container: the id by which it is looked for. */
  container: string | null;
  /** Derived from what was found; null when that has changed. */
  units: NamedRoots[] | null;
}

/** Seconds, not ticks: it costs a read for each process of the host. */
const CGROUPS_READ_MS = 5_000;

export class UnitResolver {
  readonly table: ProcessTable;
  readonly #files: ProcFiles;
  readonly #targets: readonly UnitTarget[];
  /** Of targets that always name the same process; null for others. */
  readonly #fixed: readonly (readonly NamedRoots[] | null)[];
  readonly #searches: readonly (Search | null)[];
  readonly #systemg: readonly (readonly SystemgDirectory[])[];
  readonly #facts: ProcessFacts;
  readonly #docker: DockerNames | null;
  readonly #needsTable: boolean;
  readonly #usesCgroups: boolean;
  readonly #selfPid: number;
  /** Then it is not among all processes: what is published adds up to the host. */
  readonly #hasSelf: boolean;
  readonly #excludedPid: number | null;
  readonly #passwdPath: string | undefined;
  #cache = new Map<string, { version: number; unit: ResolvedUnit }>();
  #users: Users | null = null;
  #cgroupsMs = Number.NEGATIVE_INFINITY;
  #absences: string[] = [];

  constructor(files: ProcFiles, targets: readonly UnitTarget[], options: UnitResolverOptions = {}) {
    const searches = targets.some(({ rule }) => isSearch(rule) || rule.kind === 'parent');
    this.#files = files;
    this.#targets = targets;
    this.#facts = new ProcessFacts(files);
    this.#needsTable = searches || targets.some((target) => target.tree || target.rule.kind === 'systemg');
    this.#usesCgroups = targets.some(
      ({ rule, name }) => ['systemd', 'cgroup', 'container'].includes(rule.kind) || name?.includes('{cgroup}'),
    );
    this.table = new ProcessTable(files, {
      readsCommands: searches,
      ...(options.usesCursor === undefined ? {} : { usesCursor: options.usesCursor }),
    });
    this.#searches = targets.map(({ rule }) => (isSearch(rule) ? emptySearch(rule) : null));
    this.#systemg = targets.map(({ rule }) =>
      rule.kind === 'systemg' ? systemgDirectories(rule.directory, options.systemg ?? new Map()) : [],
    );
    this.#docker = targets.some(({ rule }) => rule.kind === 'container') ? new DockerNames(options.dockerRoot) : null;
    this.#hasSelf = targets.some(({ rule }) => rule.kind === 'self');
    this.#selfPid = Number(files.readLink('self') ?? process.pid);
    this.#excludedPid = options.excludedPid ?? null;
    this.#passwdPath = options.passwdPath;
    this.#fixed = targets.map(({ unit, rule }) => {
      if (rule.kind !== 'pid' && rule.kind !== 'self') return null;
      return [{ unit, roots: [rule.kind === 'pid' ? rule.pid : this.#selfPid], reason: null }];
    });
  }

  /**
   * The units there are now, in the order of their targets, no name twice. One of many is there once more, missing, when its last
   * process has gone: at the end. @param nowMs monotonic
   */
  resolve(nowMs: number): ResolvedUnit[] {
    // Before the table: a process that is named here has started by the time the table is read.
    const services = this.#systemg.map((directories) => directories.map((directory) => directory.read()));
    if (this.#needsTable) this.table.refresh(nowMs);
    this.#docker?.refresh(nowMs);
    this.#examine(nowMs);
    const units = this.#targets.map((target, index) => {
      if (target.rule.kind === 'parent') return [];
      if (target.rule.kind === 'systemg') return this.#servicesOf(target, services[index] ?? []);
      const search = this.#searches[index];
      if (search != null) return this.#unitsOf(target, search);
      return target.rule.kind === 'pidfile' ? [ofPidfile(target.unit, target.rule.path)] : (this.#fixed[index] ?? []);
    });
    for (const [index, target] of this.#targets.entries()) {
      if (target.rule.kind === 'parent') units[index] = this.#childrenOf(target, target.rule.parent, units);
    }
    const resolved = this.#withoutClashes(units);
    this.#absences = this.#targets.map((target, index) =>
      units[index]?.length === 0 ? this.#absenceOf(target, index, services[index] ?? []) : '',
    );
    this.#users = null;
    return resolved;
  }

  /** Why a target that gives many units gives none at all; null where it gives some. In the order of the targets. */
  absences(): (string | null)[] {
    return this.#absences.map((reason) => (reason === '' ? null : reason));
  }

  /** Processes that match but for their user. */
  foreignTo(target: UnitTarget): number[] {
    return [...(this.#searches[this.#targets.indexOf(target)]?.foreign ?? [])].map((entry) => entry.pid);
  }

  /** User a process runs as (effective); null when that cannot be read. */
  uidOf(pid: number): number | null {
    return readUid(this.#files, pid);
  }

  /** First the names that the configuration gives, then the others, with their target's key where a name is taken. */
  #withoutClashes(units: readonly (readonly NamedRoots[])[]): ResolvedUnit[] {
    const taken = new Set([OTHER_UNIT, ...this.#targets.filter((target) => !hasManyUnits(target)).map((target) => target.unit)]);
    const cache = new Map<string, { version: number; unit: ResolvedUnit }>();
    const resolved: ResolvedUnit[] = [];
    for (const [index, target] of this.#targets.entries()) {
      for (const named of units[index] ?? []) {
        let { unit } = named;
        if (hasManyUnits(target)) {
          while (taken.has(unit)) unit = validName(`${unit}@${target.unit}`);
          taken.add(unit);
        }
        resolved.push(this.#withMembers(target, unit === named.unit ? named : { ...named, unit }, cache));
      }
    }
    for (const [unit, { unit: last }] of this.#cache) {
      if (cache.has(unit) || last.reason !== null || !hasManyUnits(last.target)) continue;
      resolved.push({ ...last, roots: [], members: [], reason: 'its last process has gone' });
    }
    this.#cache = cache;
    return resolved;
  }

  #withMembers(target: UnitTarget, named: NamedRoots, cache: Map<string, { version: number; unit: ResolvedUnit }>): ResolvedUnit {
    const { unit, roots, reason } = named;
    const { version } = this.table;
    const cached = this.#cache.get(unit);
    const isSame =
      cached?.version === version && target === cached.unit.target && reason === cached.unit.reason && areEqual(roots, cached.unit.roots);
    // A control group is what is in it: a descendant that has left is none of it.
    const followsTree = target.tree && !isCgroupRule(target.rule);
    const resolved = isSame
      ? cached.unit
      : { unit, target, roots, members: followsTree ? this.table.withDescendants(roots) : roots, reason };
    cache.set(unit, { version, unit: resolved });
    return resolved;
  }

  #unitsOf(target: UnitTarget, search: Search): readonly NamedRoots[] {
    search.units ??= groupByName([...search.found.values()]);
    if (hasManyUnits(target)) return search.units;
    const roots = search.units[0]?.roots ?? [];
    return [{ unit: target.unit, roots, reason: roots.length > 0 ? null : this.#noneReason(target.rule, search) }];
  }

  #servicesOf(target: UnitTarget, readings: readonly ReturnType<SystemgDirectory['read']>[]): NamedRoots[] {
    const units = new Map<string, NamedRoots>();
    for (const { service, project, pid, startTicks, isHearsay } of readings.flatMap((reading) =>
      'services' in reading ? reading.services : [],
    )) {
      const entry = this.table.get(pid);
      if (isHearsay && entry === undefined) continue;
      const fields = { service, project: project ?? 'none' };
      const unit = this.#render(target.name ?? (project === null ? '{service}' : '{project}/{service}'), entry, fields);
      if (unit === null) continue;
      const isStranger = entry !== undefined && startTicks !== null && startTicks !== entry.startTicks;
      const known = units.get(unit);
      if (entry !== undefined && !isStranger) {
        units.set(unit, { unit, roots: [...new Set([...(known?.roots ?? []), pid])], reason: null });
      } else if (known === undefined) {
        const reason = isStranger ? `process ${pid} is not the one that systemg started` : `process ${pid} does not exist`;
        units.set(unit, { unit, roots: [], reason: `systemg says that ${service} runs, but ${reason}` });
      }
    }
    return [...units.values()];
  }

  #childrenOf(target: UnitTarget, parent: string, units: readonly (readonly NamedRoots[])[]): NamedRoots[] {
    const found: Found[] = [];
    for (const { unit: name, roots } of units[this.#targets.findIndex((one) => one.unit === parent)] ?? []) {
      for (const pid of this.table.withDescendants(roots)) {
        const entry = this.table.get(pid);
        if (entry === undefined || roots.includes(pid) || !roots.includes(entry.ppid)) continue;
        const unit = this.#render(target.name ?? '', entry, { parent: name });
        if (unit !== null) found.push({ entry, unit });
      }
    }
    return groupByName(found);
  }

  #examine(nowMs: number): void {
    const isDue = this.#usesCgroups && nowMs - this.#cgroupsMs >= CGROUPS_READ_MS;
    if (isDue) this.#cgroupsMs = nowMs;
    const examined = isDue ? [...this.table.entries()] : this.table.examined.filter((entry) => this.table.get(entry.pid) === entry);
    for (const entry of examined) this.#facts.forget(entry);
    for (const [index, target] of this.#targets.entries()) {
      const search = this.#searches[index];
      if (search == null) continue;
      for (const entry of this.table.removed) {
        if (search.found.get(entry.pid)?.entry === entry) this.#drop(search, entry);
        search.foreign.delete(entry);
      }
      const entries = this.#isOtherContainer(target.rule, search) ? this.table.entries() : examined;
      for (const entry of entries) this.#judge(target, search, entry);
    }
  }

  #drop(search: Search, entry: ProcessEntry): void {
    if (search.found.delete(entry.pid)) search.units = null;
  }

  #judge(target: UnitTarget, search: Search, entry: ProcessEntry): void {
    const { rule } = target;
    const fields = entry.pid === this.#excludedPid ? null : this.#fieldsOf(rule, search, entry);
    const isForeign = fields !== null && rule.kind === 'match' && !this.#isOf(entry, rule.user);
    if (isForeign) search.foreign.add(entry);
    else search.foreign.delete(entry);
    const unit = fields === null || isForeign ? null : target.name === undefined ? target.unit : this.#render(target.name, entry, fields);
    const known = search.found.get(entry.pid);
    if (unit === null) {
      this.#drop(search, entry);
    } else if (known?.entry !== entry || known.unit !== unit) {
      search.found.set(entry.pid, { entry, unit });
      search.units = null;
    }
  }

  /** What the rule itself knows of a process; null when it does not mean it. */
  #fieldsOf(rule: Rule, search: Search, entry: ProcessEntry): Record<string, string> | null {
    if (rule.kind === 'all') return this.#hasSelf && entry.pid === this.#selfPid ? null : {};
    if (rule.kind !== 'match') {
      const cgroup = search.matcher?.(this.#facts.cgroups(entry)) ?? null;
      return cgroup === null ? null : { cgroup };
    }
    const found = rule.expression.exec(entry.commandLine);
    if (found === null) return null;
    const groups: [string, string | undefined][] = [...Object.entries([...found]), ...Object.entries(found.groups ?? {})];
    return Object.fromEntries(groups.flatMap(([key, value]) => (value === undefined ? [] : [[`match.${key}`, value]])));
  }

  #render(template: string, entry: ProcessEntry | undefined, fields: Readonly<Record<string, string>>): string | null {
    return renderName(template, (field) => fields[field] ?? (entry === undefined ? null : this.#factOf(entry, field)));
  }

  #factOf(entry: ProcessEntry, field: NameField): string | null {
    switch (field) {
      case 'comm':
        return this.#facts.comm(entry);
      case 'pid':
        return String(entry.pid);
      case 'cgroup':
        return ownCgroup(this.#facts.cgroups(entry));
      case 'user': {
        const uid = this.#facts.uid(entry);
        return uid === null ? null : this.#usersNow().nameOf(uid);
      }
      default:
        return null;
    }
  }

  /** A container that is made anew under its name has another id. */
  #isOtherContainer(rule: Rule, search: Search): boolean {
    if (rule.kind !== 'container') return false;
    const id = this.#docker?.idOf(rule.container) ?? rule.container;
    if (id === search.container) return false;
    search.container = id;
    search.matcher = containerMatcher(id);
    return true;
  }

  #isOf(entry: ProcessEntry, user: string | null): boolean {
    if (user === null) return true;
    const uid = this.#usersNow().uidOf(user);
    return uid !== null && uid === this.#facts.uid(entry);
  }

  /** The file of users is read at most once per tick, and only when something depends on it. */
  #usersNow(): Users {
    this.#users ??= readUsers(this.#passwdPath);
    return this.#users;
  }

  #noneReason(rule: Rule, search: Search): string {
    if (rule.kind === 'match' && rule.user !== null) {
      const foreign = search.foreign.size;
      if (this.#usersNow().uidOf(rule.user) === null) return `there is no user ${JSON.stringify(rule.user)} on this host`;
      if (foreign > 0) {
        return `${foreign} ${foreign === 1 ? 'process matches' : 'processes match'} ${String(rule.expression)}, none of them of user ${rule.user}`;
      }
    }
    const reason = absenceReason(rule, 0, GONE);
    return rule.kind === 'container' && this.#docker?.problem != null ? `${reason}; ${this.#docker.problem}` : reason;
  }

  #absenceOf(target: UnitTarget, index: number, readings: readonly ReturnType<SystemgDirectory['read']>[]): string {
    const search = this.#searches[index];
    if (search != null) return this.#noneReason(target.rule, search);
    if (target.rule.kind === 'parent') return `${target.rule.parent} has no child processes`;
    const reasons = readings.flatMap((reading) => ('reason' in reading ? [reading.reason] : []));
    return readings.length > reasons.length ? 'systemg runs no service' : reasons.join('; ');
  }
}

function emptySearch(rule: Rule): Search {
  const matcher = rule.kind === 'systemd' ? systemdMatcher(rule.pattern) : rule.kind === 'cgroup' ? cgroupMatcher(rule.pattern) : null;
  return { found: new Map(), foreign: new Set(), matcher, container: null, units: null };
}

function systemgDirectories(directory: string | null, known: Map<string, SystemgDirectory>): SystemgDirectory[] {
  return (directory === null ? SYSTEMG_DIRECTORIES : [directory]).map((path) => {
    const found = known.get(path) ?? new SystemgDirectory(path);
    known.set(path, found);
    return found;
  });
}

function isCgroupRule(rule: Rule): boolean {
  return rule.kind === 'systemd' || rule.kind === 'cgroup' || rule.kind === 'container';
}

/** Units by name, each with its processes, oldest first; the one with the oldest process first. */
function groupByName(found: Found[]): NamedRoots[] {
  const units = new Map<string, number[]>();
  for (const { entry, unit } of found.sort((a, b) => a.entry.startTicks - b.entry.startTicks || a.entry.pid - b.entry.pid)) {
    const roots = units.get(unit);
    if (roots === undefined) units.set(unit, [entry.pid]);
    else roots.push(entry.pid);
  }
  return [...units].map(([unit, roots]) => ({ unit, roots, reason: null }));
}

function ofPidfile(unit: string, path: string): NamedRoots {
  const read = readPidfile(path);
  return 'pid' in read ? { unit, roots: [read.pid], reason: null } : { unit, roots: [], reason: read.reason };
}

/** A pid file is one number in its first line; some programs write more lines below. */
const PIDFILE_BYTES_MAX = 64;
const PID_MAX = 2 ** 22;

export function readPidfile(path: string): { pid: number } | { reason: string } {
  let text: string;
  try {
    // O_NONBLOCK: a pipe in the place of the file must not stop the collector.
    const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const buffer = Buffer.alloc(PIDFILE_BYTES_MAX);
      text = buffer.toString('latin1', 0, readSync(descriptor, buffer, 0, PIDFILE_BYTES_MAX, 0));
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') return { reason: `${path} does not exist` };
    if (code === 'EACCES') return { reason: `${path} may not be read by this user` };
    return { reason: `${path} cannot be read: ${code}` };
  }
  const line = (text.split('\n')[0] ?? '').trim();
  if (line === '') return { reason: `${path} is empty` };
  const pid = /^\d{1,7}$/.test(line) ? Number(line) : 0;
  return pid >= 1 && pid <= PID_MAX ? { pid } : { reason: `${path} does not hold a process id` };
}

/** Why there is no root. @param pid the one that the rule names @param outcome of reading it */
export function absenceReason(rule: Rule, pid: number, outcome: number): string {
  switch (rule.kind) {
    case 'match':
      return `no process has a command line that matches ${String(rule.expression)}`;
    case 'systemd':
      return `no process is in the control group of systemd unit ${rule.pattern}`;
    case 'cgroup':
      return `no process is in control group ${rule.pattern}`;
    case 'container':
      return `no process is in a control group of container ${rule.container}`;
    default:
  }
  if (outcome === DENIED) return `process ${pid} may not be read by this user`;
  return rule.kind === 'pidfile' ? `${rule.path} names process ${pid}, which does not exist` : `process ${pid} does not exist`;
}

function areEqual(a: readonly number[], b: readonly number[]): boolean {
  return a === b || (a.length === b.length && a.every((value, i) => value === b[i]));
}
