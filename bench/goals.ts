// The numbers to reach, and what a comparison of two numbers says: whether less or more of a metric is better.

import { type Result, ratioToRival, SPILLWAY } from './measurements.ts';

export type Better = 'less' | 'more';

interface Goal {
  readonly what: string;
  readonly bench: string;
  readonly metric: string;
  /** Every case it is meant for. */
  readonly isFor: (name: string) => boolean;
  readonly limit: number;
}

export interface Verdict {
  readonly goal: Goal;
  readonly result: Result;
  readonly isReached: boolean;
}

const isAny = (): boolean => true;
const hasSeries =
  (...series: readonly number[]) =>
  (name: string): boolean =>
    series.some((one) => name.startsWith(`${one} series`));

const GOALS: readonly Goal[] = [
  {
    what: 'ingest and eviction, per sample',
    bench: 'window',
    metric: 'ingest_and_evict_per_sample',
    isFor: hasSeries(10, 1_000, 10_000),
    limit: 250,
  },
  { what: 'bytes per sample held', bench: 'window', metric: 'bytes_per_sample', isFor: hasSeries(10, 100, 1_000), limit: 5 },
  { what: 'bytes per sample held', bench: 'window', metric: 'bytes_per_sample', isFor: hasSeries(10_000), limit: 12 },
  { what: 'published and synced in a segment', bench: 'pipeline', metric: 'throughput', isFor: isAny, limit: 500_000 },
  { what: 'CPU of a tick, per process', bench: 'collector', metric: 'cpu_per_tick_and_process', isFor: isAny, limit: 10 },
  { what: 'restart to the first answer', bench: 'restart', metric: 'start_to_first_answer', isFor: isAny, limit: 2_000 },
  { what: 'summary in the engine', bench: 'window', metric: 'summary', isFor: hasSeries(10, 1_000, 10_000), limit: 20 },
  { what: 'summary over NATS under load, p99', bench: 'queries', metric: 'summary_p99', isFor: isAny, limit: 3 },
  { what: 'rows lost in an outage', bench: 'outage', metric: 'rows_lost', isFor: isAny, limit: 0 },
  { what: 'age of the newest row 2 s after it', bench: 'outage', metric: 'age_of_newest_2s_after', isFor: isAny, limit: 2 },
];

const MORE_IS_BETTER = ['throughput', 'accepted', 'samples_held', 'span_of_poorest', 'span_of_richest'];
const NEITHER_IS_BETTER = ['rows_replayed', 'rows_in_outage'];

/** Null where a metric only says how much work there was. */
export function betterOf(metric: string): Better | null {
  if (NEITHER_IS_BETTER.includes(metric)) return null;
  return MORE_IS_BETTER.includes(metric) ? 'more' : 'less';
}

/** By medians, of the goals for which there are results. */
export function verdictsOn(results: readonly Result[]): Verdict[] {
  return GOALS.flatMap((goal) =>
    results
      .filter(({ bench, metric, contender }) => bench === goal.bench && metric === goal.metric && contender === SPILLWAY)
      .filter((result) => goal.isFor(result.case))
      .map((result) => ({
        goal,
        result,
        isReached: betterOf(goal.metric) === 'more' ? result.median >= goal.limit : result.median <= goal.limit,
      })),
  );
}

/** Results of rivals that did better than Spillway did. */
export function rivalsAhead(results: readonly Result[]): Result[] {
  return results.filter((result) => {
    const ratio = ratioToRival(result, results);
    if (ratio === null) return false;
    return betterOf(result.metric) === 'more' ? ratio < 1 : ratio > 1;
  });
}

/** Spillway's results whose worst round before was better than their best one now. */
export function worseThan(before: readonly Result[], now: readonly Result[]): { readonly before: Result; readonly now: Result }[] {
  return now.flatMap((result) => {
    const earlier = before.find((one) => one.contender === SPILLWAY && isSame(one, result));
    const better = betterOf(result.metric);
    if (earlier === undefined || better === null) return [];
    const isWorse = better === 'more' ? result.max < earlier.min : result.min > earlier.max;
    return isWorse ? [{ before: earlier, now: result }] : [];
  });
}

function isSame(a: Result, b: Result): boolean {
  return a.bench === b.bench && a.case === b.case && a.contender === b.contender && a.metric === b.metric;
}
