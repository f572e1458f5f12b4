// The batch: all samples one collector took in one tick, the event that is published.
// JSON with one array per column. Written once as a schema; what passes it is trusted inside.

import { z } from 'zod';
import { ALL_METRICS, type AnyMetricName, STATES, type State } from './metrics.ts';
import { encodeToken, nameProblem } from './series.ts';

export const BATCH_VERSION = 1;
/** A larger payload is split by the collector and rejected by the store. */
export const BATCH_BYTES_MAX = 512 * 1024;
/** The most units one batch may carry. */
export const BATCH_UNITS_MAX = 10_000;
export const BOOT_CHARS_MAX = 64;
/** Latest time a JavaScript date can show, in ms. */
export const TIMESTAMP_MAX = 8.64e15;

/** A column: one value per unit, null where it is not known. */
export type Column = readonly (number | null)[];

export type Batch = {
  readonly v: 1;
  readonly host: string;
  /** Random per start of the collector: ticks count from there. */
  readonly boot: string;
  readonly tick: number;
  /** Wall clock of the reading, ms. */
  readonly ts: number;
  readonly interval_ms: number;
  /** Sent from the backlog after a time without NATS. */
  readonly late: boolean;
  /** Set when a tick was too large for one message: this is part `part` of `parts`. */
  readonly part?: number;
  readonly parts?: number;
  readonly unit: readonly string[];
  readonly state: readonly State[];
  readonly pid: Column;
  /** Start time of the incarnation's process, ms. */
  readonly started: Column;
} & { readonly [name in AnyMetricName]?: Column };

/** Why a message was refused: header `Spillway-Reason`, and the key under which it is counted. */
export const REJECT_REASONS = [
  'bad_subject',
  'too_large',
  'not_json',
  'forbidden_key',
  'wrong_version',
  'too_many_units',
  'column_length',
  'bad_name',
  'duplicate_unit',
  'bad_value',
  'host_mismatch',
  'bad_event',
  'bad_checksum',
] as const;
export type RejectReason = (typeof REJECT_REASONS)[number];

export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly reason: RejectReason; readonly detail: string };

const safeInteger = z.int().min(0);
// Columns are checked by plain loops: there are ten of them with a value for every unit, and a schema for each element
// took half of the time of reading a batch (764 against 382 ns a row, 100 rows).
const columnOf = (isValid: (value: number) => boolean, what: string) =>
  z.custom<(number | null)[]>(
    (column) => isListOf(column, (value) => value === null || (typeof value === 'number' && isValid(value))),
    `must be a list of ${what} or null`,
  );
const countColumn = columnOf((value) => Number.isSafeInteger(value) && value >= 0, 'whole numbers from 0 to 2^53 - 1');
const floatColumn = columnOf((value) => Number.isFinite(value) && value >= 0, 'finite numbers that are not negative');
const timeColumn = columnOf((value) => Number.isSafeInteger(value) && value >= 0 && value <= TIMESTAMP_MAX, 'times in whole milliseconds');
const metricColumns = Object.fromEntries(
  ALL_METRICS.map((metric) => [metric.name, (metric.type === 'integer' ? countColumn : floatColumn).optional()]),
) as { [name in AnyMetricName]: z.ZodOptional<typeof countColumn> };

function isListOf(list: unknown, isElement: (value: unknown) => boolean): boolean {
  return Array.isArray(list) && list.every(isElement);
}

const batchSchema = z.object({
  v: z.literal(BATCH_VERSION),
  host: z.string(),
  boot: z.string().min(1).max(BOOT_CHARS_MAX),
  tick: safeInteger,
  ts: z.int().min(0).max(TIMESTAMP_MAX),
  interval_ms: z.number().positive(),
  late: z.boolean().default(false),
  part: safeInteger.max(BATCH_UNITS_MAX).optional(),
  parts: safeInteger.min(1).max(BATCH_UNITS_MAX).optional(),
  unit: z.custom<string[]>((list) => isListOf(list, (name) => typeof name === 'string'), 'must be a list of names'),
  state: z.custom<State[]>((list) => isListOf(list, (state) => STATES.includes(state as State)), `must be a list of ${STATES.join(', ')}`),
  pid: countColumn.optional(),
  started: timeColumn.optional(),
  ...metricColumns,
});

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * What every message of the SAMPLES stream has in common: a subject that names a host, a JSON object of our version. Never throws.
 * @param hostOfSubject null if the subject names none
 */
export function readMessage(data: Uint8Array, hostOfSubject: string | null): Parsed<Record<string, unknown>> {
  if (hostOfSubject === null) return rejected('bad_subject', 'the subject does not name a host');
  if (data.length > BATCH_BYTES_MAX) return rejected('too_large', `${data.length} bytes, more than ${BATCH_BYTES_MAX}`);
  let raw: unknown;
  try {
    raw = JSON.parse(decoder.decode(data));
  } catch (error) {
    return rejected('not_json', error instanceof Error ? error.message : 'not JSON');
  }
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return rejected('not_json', 'not a JSON object');
  const fields = raw as Record<string, unknown>;
  if (hasForbiddenKey(fields, 0)) return rejected('forbidden_key', 'contains a key __proto__, or is nested too deep');
  if (fields['v'] === BATCH_VERSION) return { ok: true, value: fields };
  return rejected('wrong_version', `v is ${JSON.stringify(fields['v'])?.slice(0, 40)}, this program reads ${BATCH_VERSION}`);
}

/**
 * Any batch, by the schema. Never throws: what is not a batch comes back with a stable reason and a sentence. What reads messages of the
 * bus calls `parseBatch` of `batch-reader.ts`, which says the same sooner.
 * @param hostOfSubject host named by the subject it came on; the payload must agree. Null if the subject names none.
 */
export function checkBatch(data: Uint8Array, hostOfSubject: string | null): Parsed<Batch> {
  const message = readMessage(data, hostOfSubject);
  if (!message.ok) return message;
  const checked = checkFields(message.value);
  if (!checked.ok) return checked;
  const batch = checked.value;
  const hostProblem = nameProblem(batch.host);
  if (hostProblem !== null) return rejected('bad_name', `host ${hostProblem}`);
  if (batch.host !== hostOfSubject)
    return rejected('host_mismatch', `the payload says host ${JSON.stringify(batch.host)}, its subject ${JSON.stringify(hostOfSubject)}`);
  if ((batch.part === undefined) !== (batch.parts === undefined) || (batch.part ?? 0) >= (batch.parts ?? 1)) {
    return rejected('bad_value', `part ${batch.part} of ${batch.parts}`);
  }
  const seen = new Set<string>();
  for (const name of batch.unit) {
    const problem = nameProblem(name);
    if (problem !== null) return rejected('bad_name', `unit ${JSON.stringify(name.slice(0, 64))} ${problem}`);
    if (seen.has(name)) return rejected('duplicate_unit', `unit ${JSON.stringify(name)} occurs twice`);
    seen.add(name);
  }
  const unknown = (): null[] => new Array<null>(batch.unit.length).fill(null);
  return { ok: true, value: { ...batch, pid: batch.pid ?? unknown(), started: batch.started ?? unknown() } as Batch };
}

const COLUMN_NAMES = ['state', 'pid', 'started', ...ALL_METRICS.map((metric) => metric.name)];

/** The fields, each by itself. */
function checkFields(fields: Record<string, unknown>): Parsed<z.infer<typeof batchSchema>> {
  // Sizes come before the schema: a message must not be able to buy a walk over a million elements.
  const unit = fields['unit'];
  if (!Array.isArray(unit)) return rejected('bad_value', 'unit is not an array');
  if (unit.length > BATCH_UNITS_MAX) return rejected('too_many_units', `${unit.length} units, more than ${BATCH_UNITS_MAX}`);
  for (const column of COLUMN_NAMES) {
    const values = fields[column];
    if (Array.isArray(values) && values.length !== unit.length) {
      return rejected('column_length', `${column} has ${values.length} values for ${unit.length} units`);
    }
  }
  const parsed = batchSchema.safeParse(fields);
  if (parsed.success) return { ok: true, value: parsed.data };
  const issue = parsed.error.issues[0];
  return rejected('bad_value', `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'invalid'}`);
}

const DEPTH_MAX = 16;

function hasForbiddenKey(value: object, depth: number): boolean {
  if (depth > DEPTH_MAX) return true;
  if (Array.isArray(value)) {
    for (const element of value) if (typeof element === 'object' && element !== null && hasForbiddenKey(element, depth + 1)) return true;
    return false;
  }
  for (const key of Object.keys(value)) {
    if (key === '__proto__') return true;
    const member = (value as Record<string, unknown>)[key];
    if (typeof member === 'object' && member !== null && hasForbiddenKey(member, depth + 1)) return true;
  }
  return false;
}

type Rejected = Extract<Parsed<never>, { readonly ok: false }>;

export function rejected(reason: RejectReason, detail: string): Rejected {
  return { ok: false, reason, detail };
}

export interface EncodedBatch {
  /** `Nats-Msg-Id`: `<host>:<boot>:<tick>`, with `:<part>` where the tick was split. */
  readonly id: string;
  readonly payload: Uint8Array;
  readonly rows: number;
}

/** Encodes a tick for the bus; one whose JSON would exceed `bytesMax` is split into parts of whole units. */
export function encodeBatch(batch: Batch, bytesMax: number = BATCH_BYTES_MAX): EncodedBatch[] {
  const encoder = new TextEncoder();
  const whole = encoder.encode(JSON.stringify(batch));
  const units = batch.unit.length;
  if ((whole.length <= bytesMax && units <= BATCH_UNITS_MAX) || units <= 1) return [{ id: batchId(batch), payload: whole, rows: units }];
  // Parts of equal numbers of units: names differ in length, so a part may still be too large; then there are more parts.
  for (let parts = Math.max(2, Math.ceil(whole.length / bytesMax), Math.ceil(units / BATCH_UNITS_MAX)); ; parts++) {
    const perPart = Math.ceil(units / parts);
    const count = Math.ceil(units / perPart);
    const encoded: EncodedBatch[] = [];
    for (let part = 0; part < count; part++) {
      const slice = sliceBatch(batch, part * perPart, Math.min(units, (part + 1) * perPart), part, count);
      encoded.push({ id: batchId(slice), payload: encoder.encode(JSON.stringify(slice)), rows: slice.unit.length });
    }
    if (encoded.every((one) => one.payload.length <= bytesMax) || perPart === 1) return encoded;
  }
}

export function batchId(batch: Pick<Batch, 'host' | 'boot' | 'tick' | 'part'>): string {
  const id = `${encodeToken(batch.host)}:${batch.boot}:${batch.tick}`;
  return batch.part === undefined ? id : `${id}:${batch.part}`;
}

function sliceBatch(batch: Batch, from: number, to: number, part: number, parts: number): Batch {
  const slice: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(batch)) {
    if (key === 'unit') Object.assign(slice, { part, parts });
    slice[key] = Array.isArray(value) ? value.slice(from, to) : value;
  }
  return slice as unknown as Batch;
}
