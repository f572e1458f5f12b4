// The queries: requests as schemas, replies as types, errors as stable words.
// Requests come from anyone on the bus, so they are checked; replies come from our own services.

import { z } from 'zod';
import { type ExtraMetricName, METRICS, type MetricName, type State } from './metrics.ts';
import type { Sample } from './row.ts';

/** A reply stays under this; where there is more, it carries a cursor in `next`. */
export const REPLY_BYTES_MAX = 512 * 1024;

export const STORE_SERVICE = 'spillway-store';
export const SPILLOVER_SERVICE = 'spillway-spillover';
export const COLLECTOR_SERVICE = 'spillway-collector';

const name = z.string().min(1).max(255);
const cursor = z.string().max(2048).nullish();
const timeMs = z.number().min(-8.64e15).max(8.64e15);

export const requests = {
  units: z.object({ host: name.optional(), cursor }),
  latest: z.object({ host: name, unit: name, limit: z.int().min(0), cursor }),
  snapshot: z.object({ host: name, unit: name, cursor }),
  /** `since_ms`: only samples at or after this time, ms since 1970. */
  summary: z.object({ host: name, unit: name, since_ms: timeMs.optional() }),
  range: z.object({
    host: name.optional(),
    unit: name.optional(),
    from_ms: timeMs,
    to_ms: timeMs,
    max_points: z.int().min(1).max(100_000).optional(),
    /** Spillover only: leave out rows of log `log` at or above this position, because the asker has them from a window. */
    below: z.object({ log: z.int().min(0), seq: z.int().min(0) }).optional(),
    cursor,
  }),
  remove: z.object({ host: name, unit: name }),
  segments: z.object({ cursor }),
  info: z.object({}),
} as const;

export type UnitsRequest = z.infer<typeof requests.units>;
export type LatestRequest = z.infer<typeof requests.latest>;
export type SnapshotRequest = z.infer<typeof requests.snapshot>;
export type SummaryRequest = z.infer<typeof requests.summary>;
export type RangeRequest = z.infer<typeof requests.range>;

export interface UnitInfo {
  host: string;
  unit: string;
  unit_hash: string;
  state: State;
  pid: number | null;
  started: number | null;
  first_ts: number;
  last_ts: number;
  /** Rows in the window. */
  rows: number;
}
export interface UnitsReply {
  units: UnitInfo[];
  next: string | null;
}
export interface SamplesReply {
  samples: Sample[];
  next: string | null;
}

/** Over the samples in which the metric is known; `count` of them. All null when there is none. */
export interface MetricSummary {
  min: number | null;
  max: number | null;
  avg: number | null;
  last: number | null;
  count: number;
}
/** An extra metric stands there only where a sample knows it. */
export type MetricSummaries = { [name in MetricName]: MetricSummary } & { [name in ExtraMetricName]?: MetricSummary };

export interface Summary {
  latest_cpu_percent: number | null;
  average_cpu_percent: number | null;
  max_cpu_percent: number | null;
  latest_rss_bytes: number | null;
  /** Samples with a known CPU. */
  samples: number;
  metrics: MetricSummaries;
}
/** Null when there is no sample. */
export type SummaryReply = Summary | null;

export interface CoverageSpan {
  from_ms: number;
  to_ms: number;
  source: 'window' | 'spill' | 'transit' | 'gap';
}
export interface Point {
  host: string;
  unit: string;
  from_ms: number;
  to_ms: number;
  metrics: MetricSummaries;
}

/** Where the answering service stood in its log when it answered. */
export interface LogPosition {
  log: number;
  /** Store: the floor; everything below has been evicted. Spillover: the first position not yet synced. */
  seq: number;
}
export interface RangeReply {
  samples?: Sample[];
  points?: Point[];
  next: string | null;
  coverage: CoverageSpan[];
  position: LogPosition | null;
  /** Store only: rows have gone to the spill, so an answer without it is not the whole. */
  spilled?: boolean;
}

export interface RemoveReply {
  /** Rows that the window has forgotten. */
  rows: number;
  /** Position of the removal in the log: rows above it belong to a new series of that name. */
  seq: number;
}

export interface SegmentInfo {
  name: string;
  log: number;
  first_seq: number;
  last_seq: number;
  from_ms: number;
  to_ms: number;
  rows: number;
  /** On disk. */
  bytes: number;
  sealed: boolean;
}
export interface SegmentsReply {
  segments: SegmentInfo[];
  next: string | null;
}

export interface Health {
  /** True when the service does its work. */
  ready: boolean;
  /** Sentences: what is wrong, where, what to do. Empty when all is well; a service may be ready with problems. */
  problems: string[];
}

/**
 * The store's terms of the law of custody, for its log: accepted = carried + window + dropped + removed. What earlier lives of the
 * store dropped or removed is in none of them.
 */
export interface StoreCustody {
  accepted_rows: number;
  /** Handed to the spill: rows of positions below the floor, as the eviction events count them. */
  carried_rows: number;
  window_rows: number;
  /** Dropped because no spill is configured. */
  dropped_no_spill_rows: number;
  /** Dropped because the spill was blocked (`on_spill_blocked: drop`). */
  dropped_spill_blocked_rows: number;
  /** Forgotten because somebody asked for it. */
  removed_rows: number;
}
/** The spillover's terms, for the newest log it knows: carried + uncounted = segments + deleted + dropped. */
export interface SpilloverCustody {
  /** Null before the first row. */
  log: number | null;
  /** As the events that are synced count them. */
  carried_rows: number;
  /** Rows from before the count of the events began; 0 unless an event came that did not count. */
  uncounted_rows: number;
  /** In the segments, as counted in the files. */
  segment_rows: number;
  /** Deleted with the oldest segments, to keep the budget. */
  deleted_rows: number;
  /** Dropped because no segment could take them. */
  dropped_rows: number;
  /** In the segments of older logs; in no other term. */
  older_log_rows: number;
}

export interface StoreInfo {
  shard: number;
  role: 'writer' | 'follower';
  log: number;
  floor: number;
  /** First position not yet read. */
  head: number;
  rows: number;
  series: number;
  blocks: number;
  bytes: { total: number; head: number; blocks: number; series: number; pull: number };
  budget_bytes: number;
  /** Messages in the log that are not read yet. */
  lag: number;
  retention_ms: number;
  custody: StoreCustody;
  counters: Record<string, number>;
  health: Health;
}
export interface SpilloverInfo {
  shard: number;
  /** Null before the first row. */
  position: LogPosition | null;
  segments: number;
  bytes: number;
  budget_bytes: number;
  lag: number;
  custody: SpilloverCustody;
  counters: Record<string, number>;
  health: Health;
}
export interface CollectorInfo {
  host: string;
  boot: string;
  units: number;
  counters: Record<string, number>;
  health: Health;
}

/** Errors a query answers with: the code goes into `Nats-Service-Error-Code`, the word leads `Nats-Service-Error`. */
export const QUERY_ERRORS = {
  bad_request: 400,
  unknown_unit: 404,
  bad_cursor: 400,
  unavailable: 503,
  internal: 500,
} as const;
export type QueryErrorCode = keyof typeof QUERY_ERRORS;

export class QueryError extends Error {
  readonly code: QueryErrorCode;
  constructor(code: QueryErrorCode, sentence: string) {
    super(sentence);
    this.name = 'QueryError';
    this.code = code;
  }
}

export function emptyMetricSummary(): MetricSummary {
  return { min: null, max: null, avg: null, last: null, count: 0 };
}

export function emptyMetricSummaries(): MetricSummaries {
  const summaries = {} as MetricSummaries;
  for (const metric of METRICS) summaries[metric.name] = emptyMetricSummary();
  return summaries;
}
