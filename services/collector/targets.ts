// What `spillway targets` shows: for each unit the processes it consists of now, by which rule, and where there is none, why; and
// which processes only nearly belong to it. A single look, the same code the collector resolves units with.

import { platform } from 'node:os';
import type { State } from '#shared/contract/metrics';
import type { Config } from '#shared/runtime/config';
import { SetupError } from '#shared/runtime/service';
import { describeRule, type Rule, type UnitTarget, unitTargets } from './core/unit-target.ts';
import { type KernelFacts, readKernelFacts } from './procfs/kernel-facts.ts';
import { readUsers, type Users } from './procfs/passwd.ts';
import { checkProcfs } from './procfs/pid-namespace.ts';
import { DENIED, ProcFiles } from './procfs/proc-files.ts';
import { type ObservedProcess, ProcessReader } from './procfs/process-reader.ts';
import { absenceReason, type ResolvedUnit, UnitResolver } from './procfs/unit-resolver.ts';

export interface TargetProcess {
  readonly pid: number;
  readonly ppid: number;
  /** Start, wall clock ms. */
  readonly started: number;
  /** Effective user, by name where it has one. */
  readonly user: string;
  /** Printable characters only, cut: command lines are written by anyone. */
  readonly command: string;
  /** Why it belongs to the unit, or why not. */
  readonly why: string;
  /** Why not everything is known of it; null when it is. */
  readonly problem: string | null;
}

export interface TargetExplanation {
  readonly unit: string;
  /** The rule in words. */
  readonly rule: string;
  readonly state: State;
  /** Parents before children; the first is the root. Empty when it is missing. */
  readonly processes: readonly TargetProcess[];
  /** Processes that the rule would mean but for something; of many units of one rule, with the first. */
  readonly others: readonly TargetProcess[];
  /** Why it is missing, or null. */
  readonly reason: string | null;
}

const COMMAND_CHARACTERS_MAX = 200;

/**
 * In the order of the configuration; a rule that could give many units and gives none is there under its own name.
 * @throws {SetupError} elsewhere than on Linux, and where `procfs` does not show the host
 */
export function explainTargets(config: Pick<Config, 'units'> & Partial<Pick<Config, 'procfs' | 'docker_root'>>): TargetExplanation[] {
  if (platform() !== 'linux') throw new SetupError('targets: processes can only be explained on Linux');
  const targets = unitTargets(config.units);
  if (config.procfs !== undefined) checkProcfs(config.procfs);
  const files = new ProcFiles(config.procfs);
  const dockerRoot = config.docker_root;
  const look = {
    files,
    resolver: new UnitResolver(files, targets, { excludedPid: process.pid, ...(dockerRoot === undefined ? {} : { dockerRoot }) }),
    facts: readKernelFacts(files.root),
    users: readUsers(),
  };
  const resolved = look.resolver.resolve(performance.now());
  const absences = look.resolver.absences();
  return targets.flatMap((target, index) => {
    const own = resolved.filter((one) => one.target === target);
    const absence = absences[index] ?? null;
    const units = absence === null ? own.map((one) => explain(one, look)) : [missing(target.unit, target, absence)];
    // They nearly belong to the rule: which of its units they would be is not known.
    return units.map((unit, i) => (i === 0 ? { ...unit, others: othersOf(target, look) } : unit));
  });
}

interface Look {
  readonly files: ProcFiles;
  readonly resolver: UnitResolver;
  readonly facts: KernelFacts;
  readonly users: Users;
}

function explain(resolved: ResolvedUnit, look: Look): TargetExplanation {
  const { unit, target } = resolved;
  const { rule } = target;
  if (rule.kind === 'self') return missing(unit, target, "is the collector's own process, while it runs");
  if (resolved.reason !== null) return missing(unit, target, resolved.reason);
  const reader = new ProcessReader(look.files, look.facts, 0);
  const outcomes = resolved.members.map((pid) => reader.read(pid));
  const observed = outcomes.filter((one) => typeof one !== 'number');
  const roots = observed.filter((one) => resolved.roots.includes(one.pid));
  if (roots.length === 0) return missing(unit, target, absenceReason(rule, resolved.roots[0] as number, outcomes[0] as number));
  return {
    unit,
    rule: describeRule(rule),
    state: roots.every((one) => one.isZombie) ? 'zombie' : 'running',
    processes: observed.map((one) => describeProcess(one, roots.includes(one) ? whyRoot(rule) : `child of ${one.ppid}`, look)),
    others: [],
    reason: null,
  };
}

function missing(unit: string, target: UnitTarget, reason: string): TargetExplanation {
  return { unit, rule: describeRule(target.rule), state: 'missing', processes: [], others: [], reason };
}

function othersOf(target: UnitTarget, look: Look): TargetProcess[] {
  const { rule } = target;
  if (rule.kind !== 'match') return [];
  const reader = new ProcessReader(look.files, look.facts, 0);
  return look.resolver.foreignTo(target).flatMap((pid) => {
    const process = reader.read(pid);
    return typeof process === 'number' ? [] : [describeProcess(process, `matches, but is not of user ${rule.user}`, look)];
  });
}

function describeProcess(
  { pid, ppid, startMs, isZombie }: ObservedProcess,
  why: string,
  { files, resolver, facts, users }: Look,
): TargetProcess {
  const uid = resolver.uidOf(pid);
  return {
    pid,
    ppid,
    started: Math.round(facts.bootMs + startMs),
    user: uid === null ? '?' : users.nameOf(uid),
    command: printable(files.readText(`${pid}/cmdline`), files.readText(`${pid}/comm`)),
    why,
    problem: isZombie ? 'has exited, and its parent has not waited for it' : files.read(`${pid}/io`) === DENIED ? IO_DENIED : null,
  };
}

const IO_DENIED = 'its io may not be read by this user, so io_* is unknown; root or CAP_SYS_PTRACE could';

function whyRoot(rule: Rule): string {
  switch (rule.kind) {
    case 'pid':
      return 'named in the configuration';
    case 'pidfile':
      return `named in ${rule.path}`;
    case 'match':
      return 'its command line matches';
    case 'systemd':
    case 'cgroup':
    case 'container':
      return 'is in its control group';
    case 'systemg':
      return 'named by systemg';
    case 'parent':
      return `child of ${rule.parent}`;
    case 'all':
      return 'all processes';
    case 'self':
      return 'the collector';
  }
}

function printable(commandLine: string | null, comm: string | null): string {
  const text = commandLine === null || commandLine === '' ? `[${comm?.trimEnd() ?? ''}]` : commandLine.replaceAll('\0', ' ').trimEnd();
  // Control and formatting characters could drive the terminal of whoever reads this.
  return text.replace(/[\p{C}]/gu, '?').slice(0, COMMAND_CHARACTERS_MAX);
}
