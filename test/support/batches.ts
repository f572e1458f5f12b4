// Batches for tests: only what a test is about needs to be said.

import type { Batch } from '#shared/contract/batch';
import { type KnownUnits, parseBatch } from '#shared/contract/batch-reader';
import { ALL_METRIC_NAMES, type AnyMetricName, type State } from '#shared/contract/metrics';
import { formatRow, rowPrefix } from '#shared/contract/row';

export interface BatchParts {
  host?: string;
  boot?: string;
  tick: number;
  ts?: number;
  late?: boolean;
  /** Of two. */
  part?: 0 | 1 | undefined;
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
    ...(parts.part === undefined ? {} : { part: parts.part, parts: 2 }),
    unit: units,
    state: units.map(() => parts.state ?? 'running'),
    pid: units.map((_, i) => 100 + i),
    started: units.map(() => EPOCH_MS - 10_000),
    ...columns,
  };
}

/** The batch as the store has it: read from the bus, by one who may know its units. */
export function asRead(batch: Batch, known?: KnownUnits): Batch {
  const parsed = parseBatch(new TextEncoder().encode(JSON.stringify(batch)), batch.host, known);
  if (!parsed.ok) throw new Error(`${parsed.reason}: ${parsed.detail}`);
  return parsed.value;
}

/** A whole number that packs with no other: windows of little memory are soon full of rows with it. */
export function unpackable(tick: number, unit: number): number {
  const high = Math.imul(tick * 8_191 + unit + 1, 0x9e37_79b1) >>> 0;
  return high * 2 ** 20 + (Math.imul(high ^ unit, 0x85eb_ca6b) >>> 12);
}

/** What leaves the window of a batch that the log has at `seq`: a line for each unit, without its end. */
export function rowsOfBatch(batch: Batch, seq: number): string[] {
  return batch.unit.map((unit, i) =>
    formatRow(
      rowPrefix(batch.host, unit),
      seq,
      batch.state[i] as State,
      batch.pid[i] ?? Number.NaN,
      batch.started[i] ?? Number.NaN,
      new Date(batch.ts).toISOString(),
      ALL_METRIC_NAMES.map((name) => batch[name]?.[i] ?? Number.NaN),
    ),
  );
}
