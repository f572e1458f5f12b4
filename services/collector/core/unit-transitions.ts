// Lifecycle events from two consecutive samples of a unit: what a subscriber should hear about. Pure.

import type { LifecycleEventName } from '#shared/contract/lifecycle';
import type { UnitSample } from './unit-tracker.ts';

export interface Transition {
  readonly event: LifecycleEventName;
  /** The new incarnation of a start, the ended one of a stop; null where there is none. */
  readonly pid: number | null;
  readonly started: number | null;
}

/**
 * What happened to a unit between two samples, in order.
 * - `started`: there is a process where there was none, or it is the first one this collector sees;
 * - `restarted`: another incarnation took the place of the last one between two ticks;
 * - `zombie`: the root process has exited and nobody waited for it;
 * - `stopped`: the process is gone;
 * - `missing`: there is none at the first look.
 * @param before null at the first look
 */
export function transitions(before: UnitSample | null, now: UnitSample): Transition[] {
  if (now.state === 'missing') {
    if (before === null) return [{ event: 'missing', pid: null, started: null }];
    return before.state === 'missing' ? [] : [{ event: 'stopped', pid: before.pid, started: before.started }];
  }
  const { pid, started } = now;
  const events: Transition[] = [];
  const isOther = before?.pid !== pid || before.started !== started;
  if (before === null || before.state === 'missing') events.push({ event: 'started', pid, started });
  else if (isOther) events.push({ event: 'restarted', pid, started });
  if (now.state === 'zombie' && (isOther || before?.state !== 'zombie')) events.push({ event: 'zombie', pid, started });
  return events;
}
