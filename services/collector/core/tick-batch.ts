// One tick on the wire: the batch of all units, and the mark of a batch that is sent late.

import type { Batch } from '#shared/contract/batch';
import { type AnyMetricName, type ExtraMetricName, METRIC_NAMES } from '#shared/contract/metrics';
import type { UnitSample } from './unit-tracker.ts';

export interface TickHead {
  readonly host: string;
  readonly boot: string;
  readonly tick: number;
  /** Wall clock of the reading, ms. */
  readonly ts: number;
  readonly intervalMs: number;
}

/** @param samples of `units`, in the same order @param extras metrics it has beside those of every batch */
export function batchOf(
  head: TickHead,
  units: readonly string[],
  samples: readonly UnitSample[],
  extras: readonly ExtraMetricName[] = [],
): Batch {
  const names: readonly AnyMetricName[] = [...METRIC_NAMES, ...extras];
  const metrics = Object.fromEntries(names.map((name) => [name, samples.map((sample) => sample.metrics[name] ?? null)]));
  return {
    v: 1,
    host: head.host,
    boot: head.boot,
    tick: head.tick,
    ts: head.ts,
    interval_ms: head.intervalMs,
    late: false,
    unit: units,
    state: samples.map((sample) => sample.state),
    pid: samples.map((sample) => sample.pid),
    started: samples.map((sample) => sample.started),
    ...metrics,
  };
}

const NOT_LATE = Buffer.from('"late":false');
const LATE = Buffer.from('"late":true ');

/**
 * A copy of an encoded batch that says it is late. Same length, so the outbox's bytes stay what they are, and nothing is
 * parsed. Safe for any name: inside a JSON string every quote is escaped, so these bytes can only be the key.
 */
export function markLate(payload: Uint8Array): Uint8Array {
  const copy = Buffer.from(payload);
  const at = copy.indexOf(NOT_LATE);
  if (at !== -1) LATE.copy(copy, at);
  return copy;
}
