// A row: one sample of one series as a line of JSON, the form in which it leaves the window, travels as part of an
// eviction event and lies in a segment. `formatRow` says what it looks like, and a property test holds it equal to JSON.stringify;
// the store writes the same bytes faster (`row-writer.ts`).

import { ALL_METRIC_NAMES, EXTRA_METRIC_NAMES, METRIC_NAMES, type MetricValues, STATES, type State } from './metrics.ts';
import { unitHash } from './series.ts';

/** Ends every row where rows stand one after another. */
export const LINE_BREAK = 0x0a;

export interface Row {
  readonly unit_hash: string;
  readonly host: string;
  readonly unit: string;
  /** Position of its batch in the log. */
  readonly seq: number;
  readonly state: State;
  readonly pid: number | null;
  readonly started: number | null;
  readonly sample: { readonly timestamp: string } & MetricValues;
}

/** A sample as queries and live subjects show it. */
export type Sample = {
  readonly host: string;
  readonly unit: string;
  readonly unit_hash: string;
  readonly timestamp: string;
  /** Wall clock of the reading, ms. */
  readonly ts: number;
  /** Absent on a live subject: the log has not given it one yet. */
  readonly seq?: number;
  readonly state: State;
  readonly pid: number | null;
  readonly started: number | null;
} & MetricValues;

/** The part of a row that is the same for every row of a series: keep it, rows are many. @param hash of the unit, where it is known */
export function rowPrefix(host: string, unit: string, hash = unitHash(host, unit)): string {
  return `{"unit_hash":"${hash}","host":${JSON.stringify(host)},"unit":${JSON.stringify(unit)},"seq":`;
}

const METRIC_KEYS = METRIC_NAMES.map((name) => `,"${name}":`);
const EXTRA_KEYS = EXTRA_METRIC_NAMES.map((name) => `,"${name}":`);

/**
 * One row without its line break.
 * @param prefix from {@link rowPrefix}
 * @param timestamp ISO 8601 in UTC with milliseconds
 * @param values one number per metric in table order; NaN means not known. Extra metrics may be left off at the end; what is not known of them is not written.
 */
export function formatRow(
  prefix: string,
  seq: number,
  state: State,
  pid: number,
  started: number,
  timestamp: string,
  values: ArrayLike<number>,
): string {
  let row = `${prefix}${seq},"state":"${state}","pid":${text(pid)},"started":${text(started)},"sample":{"timestamp":"${timestamp}"`;
  for (let i = 0; i < METRIC_KEYS.length; i++) row += METRIC_KEYS[i] + text(values[i] as number);
  return `${row}${extras(values)}}}`;
}

/** The extra metrics that are known. */
function extras(values: ArrayLike<number>): string {
  let known = '';
  for (let i = METRIC_KEYS.length; i < values.length; i++) {
    const value = values[i] as number;
    if (!Number.isNaN(value)) known += `${EXTRA_KEYS[i - METRIC_KEYS.length]}${value}`;
  }
  return known;
}

function text(value: number): string {
  // biome-ignore lint/suspicious/noSelfCompare: the fastest test for NaN, on the path of every value
  return value === value ? `${value}` : 'null';
}

/** Reads a row back; null when the line is not one. Keys that are not known, and metrics that are not there, come from other versions. */
export function parseRow(line: string): Row | null {
  try {
    const row = JSON.parse(line) as Row | null;
    if (typeof row !== 'object' || row === null) return null;
    if (typeof row.host !== 'string' || typeof row.unit !== 'string' || typeof row.unit_hash !== 'string') return null;
    if (!Number.isSafeInteger(row.seq) || row.seq < 0 || !STATES.includes(row.state)) return null;
    if (!isCountOrNull(row.pid ?? null) || !isCountOrNull(row.started ?? null)) return null;
    const { sample } = row;
    if (typeof sample !== 'object' || sample === null) return null;
    if (typeof sample.timestamp !== 'string' || Number.isNaN(Date.parse(sample.timestamp))) return null;
    return ALL_METRIC_NAMES.every((name) => isMetricOrNull(sample[name] ?? null)) ? row : null;
  } catch {
    return null;
  }
}

function isCountOrNull(value: unknown): boolean {
  return value === null || (Number.isSafeInteger(value) && (value as number) >= 0);
}

function isMetricOrNull(value: unknown): boolean {
  return value === null || (typeof value === 'number' && value >= 0 && Number.isFinite(value));
}

/** The same sample in the shape of a reply. A metric that an older row does not have is null. */
export function sampleOfRow(row: Row): Sample {
  const metrics = {} as MetricValues;
  for (const name of METRIC_NAMES) metrics[name] = row.sample[name] ?? null;
  for (const name of EXTRA_METRIC_NAMES) if (typeof row.sample[name] === 'number') metrics[name] = row.sample[name];
  return {
    host: row.host,
    unit: row.unit,
    unit_hash: row.unit_hash,
    timestamp: row.sample.timestamp,
    ts: Date.parse(row.sample.timestamp),
    seq: row.seq,
    state: row.state,
    pid: row.pid,
    started: row.started,
    ...metrics,
  };
}

/** The part of a sample's JSON that is the same for every sample of a series. */
export function samplePrefix(host: string, unit: string): string {
  return `{"host":${JSON.stringify(host)},"unit":${JSON.stringify(unit)},"unit_hash":"${unitHash(host, unit)}","timestamp":"`;
}

/** One {@link Sample} as JSON text. Arguments as for {@link formatRow}; `prefix` from {@link samplePrefix}. */
export function formatSample(
  prefix: string,
  ts: number,
  seq: number,
  state: State,
  pid: number,
  started: number,
  values: ArrayLike<number>,
): string {
  let sample = `${prefix}${new Date(ts).toISOString()}","ts":${ts},"seq":${seq},"state":"${state}","pid":${text(pid)},"started":${text(started)}`;
  for (let i = 0; i < METRIC_KEYS.length; i++) sample += METRIC_KEYS[i] + text(values[i] as number);
  return `${sample}${extras(values)}}`;
}
