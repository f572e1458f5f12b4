// From rules to processes, once per tick: which processes each unit consists of, and why not where there is none.
// A match is decided when a command line is read, not at every tick: between two readings nothing it depends on changes.

import { closeSync, constants, openSync, readSync } from 'node:fs';
import type { Rule, UnitTarget } from '../core/unit-target.ts';
import { readUsers, type Users } from './passwd.ts';
import { DENIED, GONE, type ProcFiles } from './proc-files.ts';
import { type ProcessEntry, ProcessTable } from './process-table.ts';

export interface ResolvedUnit {
  /** Processes the rule names, oldest first; the first is the unit's root. */
  readonly roots: readonly number[];
  /** Roots and, for a tree, their descendants; parents before children. */
  readonly members: readonly number[];
  /** Why there are no roots, for people; null where there are. */
  readonly reason: string | null;
}

export interface UnitResolverOptions {
  /** Never part of a match: the program that only asks. */
  readonly excludedPid?: number;
  readonly passwdPath?: string;
  /** False reads the whole process table at every tick. */
  readonly usesCursor?: boolean;
}

interface MatchState {
  readonly matching: Map<number, ProcessEntry>;
  /** Matching, but another user's. */
  readonly foreign: Set<ProcessEntry>;
}

export class UnitResolver {
  readonly table: ProcessTable;
  readonly #files: ProcFiles;
  readonly #targets: readonly UnitTarget[];
  readonly #matches: readonly (MatchState | null)[];
  readonly #needsTable: boolean;
  readonly #selfPid: number;
  readonly #excludedPid: number | null;
  readonly #passwdPath: string | undefined;
  readonly #cache: { version: number; unit: ResolvedUnit }[] = [];
  #users: Users | null = null;

  constructor(files: ProcFiles, targets: readonly UnitTarget[], options: UnitResolverOptions = {}) {
    const readsCommands = targets.some((target) => target.rule.kind === 'match');
    this.#files = files;
    this.#targets = targets;
    this.#needsTable = readsCommands || targets.some((target) => target.tree);
    this.table = new ProcessTable(files, {
      readsCommands,
      ...(options.usesCursor === undefined ? {} : { usesCursor: options.usesCursor }),
    });
    this.#matches = targets.map((target) => (target.rule.kind === 'match' ? { matching: new Map(), foreign: new Set() } : null));
    this.#selfPid = Number(files.readLink('self') ?? process.pid);
    this.#excludedPid = options.excludedPid ?? null;
    this.#passwdPath = options.passwdPath;
  }

  /** One entry per target, in their order. @param nowMs monotonic */
  resolve(nowMs: number): ResolvedUnit[] {
    if (this.#needsTable) this.table.refresh(nowMs);
    for (const [index, target] of this.#targets.entries()) this.#updateMatch(this.#matches[index] ?? null, target.rule);
    this.#users = null;
    return this.#targets.map((target, index) => this.#resolveOne(target, index));
  }

  /** User a process runs as (effective), from its status; null when that cannot be read. */
  uidOf(pid: number): number | null {
    const uid = /^Uid:\s+\d+\s+(\d+)/m.exec(this.#files.readText(`${pid}/status`) ?? '')?.[1];
    return uid === undefined ? null : Number(uid);
  }

  #resolveOne(target: UnitTarget, index: number): ResolvedUnit {
    const { roots, reason } = this.#rootsOf(target.rule, this.#matches[index] ?? null);
    const cached = this.#cache[index];
    const isSame = cached?.version === this.table.version && reason === cached.unit.reason && areEqual(roots, cached.unit.roots);
    if (isSame) return cached.unit;
    const unit = { roots, members: target.tree ? this.table.withDescendants(roots) : roots, reason };
    this.#cache[index] = { version: this.table.version, unit };
    return unit;
  }

  #rootsOf(rule: Rule, match: MatchState | null): { roots: number[]; reason: string | null } {
    switch (rule.kind) {
      case 'pid':
        return { roots: [rule.pid], reason: null };
      case 'self':
        return { roots: [this.#selfPid], reason: null };
      case 'pidfile': {
        const read = readPidfile(rule.path);
        return 'pid' in read ? { roots: [read.pid], reason: null } : { roots: [], reason: read.reason };
      }
      case 'match': {
        const matching = [...(match?.matching.values() ?? [])].sort((a, b) => a.startTicks - b.startTicks || a.pid - b.pid);
        const roots = matching.map((entry) => entry.pid);
        return { roots, reason: roots.length > 0 ? null : this.#noMatchReason(rule, match?.foreign.size ?? 0) };
      }
    }
  }

  #noMatchReason(rule: Rule & { kind: 'match' }, foreign: number): string {
    if (rule.user !== null && this.#uid(rule.user) === null) return `there is no user ${JSON.stringify(rule.user)} on this host`;
    if (foreign === 0) return absenceReason(rule, 0, GONE);
    return `${foreign} ${foreign === 1 ? 'process matches' : 'processes match'} ${String(rule.expression)}, none of them of user ${rule.user}`;
  }

  #updateMatch(match: MatchState | null, rule: Rule): void {
    if (match === null || rule.kind !== 'match') return;
    for (const entry of this.table.removed) {
      if (match.matching.get(entry.pid) === entry) match.matching.delete(entry.pid);
      match.foreign.delete(entry);
    }
    for (const entry of this.table.examined) {
      if (this.table.get(entry.pid) !== entry || entry.pid === this.#excludedPid) continue;
      const isMatching = rule.expression.test(entry.commandLine);
      const isOwn = isMatching && this.#isOf(entry.pid, rule.user);
      if (isOwn) match.matching.set(entry.pid, entry);
      else match.matching.delete(entry.pid);
      if (isMatching && !isOwn) match.foreign.add(entry);
      else match.foreign.delete(entry);
    }
  }

  #isOf(pid: number, user: string | null): boolean {
    return user === null || (this.#uid(user) !== null && this.#uid(user) === this.uidOf(pid));
  }

  /** The file of users is read at most once per tick, and only when something depends on it. */
  #uid(user: string): number | null {
    this.#users ??= readUsers(this.#passwdPath);
    return this.#users.uidOf(user);
  }
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
  if (rule.kind === 'match') return `no process has a command line that matches ${String(rule.expression)}`;
  if (outcome === DENIED) return `process ${pid} may not be read by this user`;
  return rule.kind === 'pidfile' ? `${rule.path} names process ${pid}, which does not exist` : `process ${pid} does not exist`;
}

function areEqual(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}
