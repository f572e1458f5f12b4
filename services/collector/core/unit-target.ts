// What a unit is on this host: one rule that leads to processes, out of the configuration, which has checked it.

import type { TargetConfig } from '#shared/runtime/config';

export type Rule =
  | { readonly kind: 'pid'; readonly pid: number }
  | { readonly kind: 'pidfile'; readonly path: string }
  /** `user`: name or number; null is any. */
  | { readonly kind: 'match'; readonly expression: RegExp; readonly user: string | null }
  | { readonly kind: 'self' };

export interface UnitTarget {
  readonly unit: string;
  readonly rule: Rule;
  /** Whether the descendants belong to it. */
  readonly tree: boolean;
}

export function unitTargets(units: Readonly<Record<string, TargetConfig>>): UnitTarget[] {
  return Object.entries(units).map(([unit, config]) => ({ unit, rule: ruleOf(config), tree: config.tree }));
}

function ruleOf(config: TargetConfig): Rule {
  if (config.pid !== undefined) return { kind: 'pid', pid: config.pid };
  if (config.pidfile !== undefined) return { kind: 'pidfile', path: config.pidfile };
  if (config.match !== undefined) {
    return { kind: 'match', expression: new RegExp(config.match), user: config.user === undefined ? null : String(config.user) };
  }
  return { kind: 'self' };
}

/** The rule in words, as `spillway targets` prints it. */
export function describeRule(rule: Rule): string {
  switch (rule.kind) {
    case 'pid':
      return `pid ${rule.pid}`;
    case 'pidfile':
      return `pidfile ${rule.path}`;
    case 'match':
      return `match ${String(rule.expression)}${rule.user === null ? '' : ` of user ${rule.user}`}`;
    case 'self':
      return 'self';
  }
}
