// Batches for tests: only what a test is about needs to be said.

import type { Batch } from '#shared/contract/batch';
import { ALL_METRIC_NAMES, type AnyMetricName } from '#shared/contract/metrics';

export interface BatchParts {
  host?: string;
  boot?: string;
  tick: number;
  ts?: number;
  late?: boolean;
  units?: readonly string[];
  /** One number for every unit, or one for each. */
  metrics?: { [name in AnyMetricName]?: number | null | readonly (number | null)[] };
  state?: Batch['state'][number];
}

export const EPOCH_MS = 1_763_678_400_000;

export function batch(parts: BatchParts): Batch {
  const units = parts.units ?? ['api'];
  const column = (value: number | null | readonly (number | null)[]) =>
    Array.isArray(value) ? value : units.map(() => value as number | null);
  const columns = Object.fromEntries(
    ALL_METRIC_NAMES.filter((name) => parts.metrics?.[name] !== undefined).map((name) => [name, column(parts.metrics?.[name] ?? null)]),
  );
  return {
    v: 1,
    host: parts.host ?? 'h1',
    boot: parts.boot ?? 'boot1',
    tick: parts.tick,
    ts: parts.ts ?? EPOCH_MS + parts.tick * 1000,
    interval_ms: 1000,
    late: parts.late ?? false,
    unit: units,
    state: units.map(() => parts.state ?? 'running'),
    pid: units.map((_, i) => 100 + i),
    started: units.map(() => EPOCH_MS - 10_000),
    ...columns,
  };
}
