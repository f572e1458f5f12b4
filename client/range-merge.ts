// Joins what a window and a spill say about the same time into one answer. Pure.
//
// A row is in exactly one of window and spill, but the two are asked one after the other, and rows move from the first to
// the second in between. So the window is read first and the spill is asked for what is below the window's last floor:
// nothing can be missed, and only rows that the window delivered before its floor passed them can come twice.

import { EXTRA_METRIC_NAMES, METRIC_NAMES } from '#shared/contract/metrics';
import {
  type CoverageSpan,
  emptyMetricSummary,
  type LogPosition,
  type MetricSummaries,
  type MetricSummary,
  type Point,
} from '#shared/contract/queries';
import type { Sample } from '#shared/contract/row';

/** Order of an answer: by time, then by place in the log, then by name. */
export function compareSamples(a: Sample, b: Sample): number {
  return a.ts - b.ts || (a.seq ?? 0) - (b.seq ?? 0) || compareText(a.host, b.host) || compareText(a.unit, b.unit);
}

/**
 * Both parts as one, sorted, each row once.
 * @param floor the window's floor at its last page; null when the window did not say
 */
export function mergeSamples(window: readonly Sample[], spill: readonly Sample[], floor: LogPosition | null): Sample[] {
  const moved = new Set<string>();
  for (const sample of window) if (floor === null || (sample.seq ?? 0) < floor.seq) moved.add(rowKey(sample));
  const own = moved.size === 0 ? spill : spill.filter((sample) => !moved.has(rowKey(sample)));
  return [...window, ...own].sort(compareSamples);
}

/** The time is part of it because another log, from before a volume was lost, may have had the same position. */
function rowKey(sample: Sample): string {
  return `${sample.seq}\0${sample.ts}\0${sample.host}\0${sample.unit}`;
}

const SOURCE_ORDER: readonly CoverageSpan['source'][] = ['spill', 'transit', 'window', 'gap'];

/** Spans of one source that touch become one; all are cut to the request, both ends included, and sorted by time. */
export function mergeCoverage(spans: readonly CoverageSpan[], fromMs: number, toMs: number): CoverageSpan[] {
  const merged: CoverageSpan[] = [];
  for (const source of SOURCE_ORDER) {
    let open: CoverageSpan | null = null;
    for (const span of spans.filter((one) => one.source === source).sort((a, b) => a.from_ms - b.from_ms)) {
      const clipped = { from_ms: Math.max(span.from_ms, fromMs), to_ms: Math.min(span.to_ms, toMs), source };
      if (clipped.from_ms > clipped.to_ms) continue;
      // Times are whole milliseconds: the next one after an end touches it.
      if (open !== null && clipped.from_ms <= open.to_ms + 1) {
        open.to_ms = Math.max(open.to_ms, clipped.to_ms);
      } else {
        merged.push(clipped);
        open = clipped;
      }
    }
  }
  return merged.sort(
    (a, b) => a.from_ms - b.from_ms || a.to_ms - b.to_ms || SOURCE_ORDER.indexOf(a.source) - SOURCE_ORDER.indexOf(b.source),
  );
}

/** Points of the same series and bucket become one; by host, unit and time. `older` and `newer`: `last` is taken from the newer one where it knows it. */
export function mergePoints(older: readonly Point[], newer: readonly Point[]): Point[] {
  const points = new PointSums();
  points.add(older);
  points.add(newer);
  return points.sorted();
}

/** Points of many pages, of which some may be of the same series and bucket. */
export class PointSums {
  private readonly points = new Map<string, Point>();

  /** @param newer than what was added before: their `last` is taken where they know it, which is not exact for what came late */
  add(newer: readonly Point[]): void {
    for (const point of newer) {
      const key = `${point.from_ms}\0${point.host}\0${point.unit}`;
      const earlier = this.points.get(key);
      this.points.set(key, earlier === undefined ? point : joinPoints(earlier, point));
    }
  }

  /** By host, unit and time. */
  sorted(): Point[] {
    return [...this.points.values()].sort((a, b) => compareText(a.host, b.host) || compareText(a.unit, b.unit) || a.from_ms - b.from_ms);
  }
}

function joinPoints(older: Point, newer: Point): Point {
  const metrics = {} as MetricSummaries;
  for (const name of METRIC_NAMES) metrics[name] = joinSummaries(older.metrics[name], newer.metrics[name]);
  for (const name of EXTRA_METRIC_NAMES) {
    const joined = joinSummaries(older.metrics[name] ?? emptyMetricSummary(), newer.metrics[name] ?? emptyMetricSummary());
    if (joined.count > 0) metrics[name] = joined;
  }
  return { ...older, to_ms: Math.max(older.to_ms, newer.to_ms), metrics };
}

function joinSummaries(older: MetricSummary, newer: MetricSummary): MetricSummary {
  if (older.count === 0) return newer;
  if (newer.count === 0) return older;
  const count = older.count + newer.count;
  return {
    min: Math.min(older.min ?? Number.POSITIVE_INFINITY, newer.min ?? Number.POSITIVE_INFINITY),
    max: Math.max(older.max ?? Number.NEGATIVE_INFINITY, newer.max ?? Number.NEGATIVE_INFINITY),
    avg: ((older.avg ?? 0) * older.count + (newer.avg ?? 0) * newer.count) / count,
    last: newer.last ?? older.last,
    count,
  };
}

/** By code units: the same on every machine, whatever its language. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
