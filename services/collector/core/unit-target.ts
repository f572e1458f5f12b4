// What a unit is on this host: one rule that leads to processes, out of the configuration, which has checked it.

import type { Config, TargetConfig } from '#shared/runtime/config';

export type Rule =
  | { readonly kind: 'pid'; readonly pid: number }
  | { readonly kind: 'pidfile'; readonly path: string }
  /** `user`: name or number; null is any. */
  | { readonly kind: 'match'; readonly expression: RegExp; readonly user: string | null }
  /** `pattern`: name of a systemd unit, or a glob. */
  | { readonly kind: 'systemd'; readonly pattern: string }
  /** `pattern`: path of a control group, or a glob. */
  | { readonly kind: 'cgroup'; readonly pattern: string }
  /** `container`: its name or id. */
  | { readonly kind: 'container'; readonly container: string }
  /** `directory`: state directory of systemg; null is where systemg keeps it by itself. */
  | { readonly kind: 'systemg'; readonly directory: string | null }
  /** `parent`: the target whose processes' children are meant. */
  | { readonly kind: 'parent'; readonly parent: string }
  /** Every process. The first `top` by `by` are published, the others as one. */
  | { readonly kind: 'all'; readonly top: number; readonly by: 'cpu' | 'memory' }
  | { readonly kind: 'self' };

export interface UnitTarget {
  /** Its key in the configuration, which is also the name of its unit unless it has a template for many. */
  readonly unit: string;
  readonly rule: Rule;
  /** Whether the descendants belong to it. */
  readonly tree: boolean;
  /** Template of the names of its units; absent: it is one unit, or with `systemg` each service by its own name. */
  readonly name?: string;
}

/** The unit that a collector is without being asked. */
export const OWN_UNIT = 'spillway-collector';

/** What a collector watches: its configured units, then itself, unless it is one of them, its name is another's, or nobody wants it. */
export function collectorTargets({ units, own_unit: isWanted }: Pick<Config, 'units' | 'own_unit'>): UnitTarget[] {
  const targets = unitTargets(units);
  const isThere = targets.some(({ unit, rule }) => unit === OWN_UNIT || rule.kind === 'self');
  return isWanted && !isThere ? [...targets, { unit: OWN_UNIT, rule: { kind: 'self' }, tree: false }] : targets;
}

export function unitTargets(units: Readonly<Record<string, TargetConfig>>): UnitTarget[] {
  return Object.entries(units).map(([unit, config]) => {
    const rule = ruleOf(config);
    const name = config.name ?? defaultNames[rule.kind];
    // Of all processes each is a unit's own: with its descendants most would be counted in several.
    const target = { unit, rule, tree: config.tree && rule.kind !== 'all' };
    return name === undefined ? target : { ...target, name };
  });
}

/** Rules that lead to many units whether or not a name is given. */
const defaultNames: Partial<Record<Rule['kind'], string>> = { parent: '{parent}/{comm}', all: '{comm}' };

function ruleOf(config: TargetConfig): Rule {
  if (config.pid !== undefined) return { kind: 'pid', pid: config.pid };
  if (config.pidfile !== undefined) return { kind: 'pidfile', path: config.pidfile };
  if (config.match !== undefined) {
    return { kind: 'match', expression: new RegExp(config.match), user: config.user === undefined ? null : String(config.user) };
  }
  if (config.systemd !== undefined) return { kind: 'systemd', pattern: config.systemd };
  if (config.cgroup !== undefined) return { kind: 'cgroup', pattern: config.cgroup };
  if (config.container !== undefined) return { kind: 'container', container: config.container };
  if (config.systemg !== undefined) return { kind: 'systemg', directory: config.systemg === true ? null : config.systemg };
  if (config.parent !== undefined) return { kind: 'parent', parent: config.parent };
  if (config.all !== undefined) return { kind: 'all', top: config.top ?? TOP_DEFAULT, by: config.by ?? 'cpu' };
  return { kind: 'self' };
}

const TOP_DEFAULT = 20;

/** The rule in words, as `spillway targets` prints it. */
export function describeRule(rule: Rule): string {
  switch (rule.kind) {
    case 'pid':
      return `pid ${rule.pid}`;
    case 'pidfile':
      return `pidfile ${rule.path}`;
    case 'match':
      return `match ${String(rule.expression)}${rule.user === null ? '' : ` of user ${rule.user}`}`;
    case 'systemd':
      return `systemd ${rule.pattern}`;
    case 'cgroup':
      return `cgroup ${rule.pattern}`;
    case 'container':
      return `container ${rule.container}`;
    case 'systemg':
      return rule.directory === null ? 'systemg' : `systemg ${rule.directory}`;
    case 'parent':
      return `children of ${rule.parent}`;
    case 'all':
      return `all, top ${rule.top} by ${rule.by}`;
    case 'self':
      return 'self';
  }
}

/** Whether its units come and go with their processes, instead of there being one that can be missing. */
export function hasManyUnits({ rule, name }: UnitTarget): boolean {
  return name !== undefined || rule.kind === 'systemg';
}

/** Whether the rule looks at every process there is, instead of being told ids. */
export function isSearch(rule: Rule): rule is Rule & { kind: 'match' | 'systemd' | 'cgroup' | 'container' | 'all' } {
  return ['match', 'systemd', 'cgroup', 'container', 'all'].includes(rule.kind);
}

/** Whether its processes come out of the table of processes, which knows when each was started. */
export function isFromTable(rule: Rule): boolean {
  return !['pid', 'pidfile', 'self'].includes(rule.kind);
}
