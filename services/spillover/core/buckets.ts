// Aggregation of samples into equal buckets of time, per series. The buckets are those of the store, so that a client can
// join both answers: bucket i covers `width` ms from `from_ms + i * width`; buckets without a sample are left out.

import { ALL_METRIC_NAMES, type AnyMetricName } from '#shared/contract/metrics';
import { emptyMetricSummaries, emptyMetricSummary, type Point } from '#shared/contract/queries';
import type { Sample } from '#shared/contract/row';

export interface PointKey {
  readonly host: string;
  readonly unit: string;
  readonly from_ms: number;
}

export function bucketWidth(fromMs: number, toMs: number, points: number): number {
  return Math.max(1, Math.ceil((toMs - fromMs + 1) / points));
}

export function comparePointKeys(a: PointKey, b: PointKey): number {
  return compareText(a.host, b.host) || compareText(a.unit, b.unit) || a.from_ms - b.from_ms;
}

/** By code units: the same on every machine, whatever its language. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

interface Bucket {
  readonly point: Point;
  /** Per metric: place of the sample that `last` is from. */
  readonly lastTs: number[];
  readonly lastSeq: number[];
  readonly sums: number[];
}

export interface BucketOptions {
  readonly fromMs: number;
  readonly toMs: number;
  readonly points: number;
  /** Only points after this one; null for all. */
  readonly after: PointKey | null;
  /** The first this many points are kept. */
  readonly pointsMax: number;
}

/**
 * The first points after a key, in bounded memory. Once there are too many, the greatest goes, and with it every later sample
 * at or above it: a point that is kept has therefore seen all of its samples.
 */
export class Buckets {
  private readonly options: BucketOptions;
  private readonly width: number;
  private readonly buckets = new Map<string, Bucket>();
  private cut: PointKey | null = null;

  constructor(options: BucketOptions) {
    this.options = options;
    this.width = bucketWidth(options.fromMs, options.toMs, options.points);
  }

  /** @param sample its time is within the request */
  add(sample: Sample): void {
    const { fromMs, after, pointsMax } = this.options;
    const from_ms = fromMs + Math.floor((sample.ts - fromMs) / this.width) * this.width;
    const key: PointKey = { host: sample.host, unit: sample.unit, from_ms };
    if (after !== null && comparePointKeys(key, after) <= 0) return;
    if (this.cut !== null && comparePointKeys(key, this.cut) >= 0) return;
    const name = `${from_ms}\0${sample.host}\0${sample.unit}`;
    let bucket = this.buckets.get(name);
    if (bucket === undefined) {
      bucket = this.emptyBucket(key);
      this.buckets.set(name, bucket);
      if (this.buckets.size > 2 * pointsMax) this.shrink();
    }
    addSample(bucket, sample);
  }

  /** In order of host, unit and time. */
  take(): { points: Point[]; hasMore: boolean } {
    this.shrink();
    const points = [...this.buckets.values()].sort((a, b) => comparePointKeys(a.point, b.point)).map(finished);
    return { points, hasMore: this.cut !== null };
  }

  private emptyBucket({ host, unit, from_ms }: PointKey): Bucket {
    const to_ms = Math.min(this.options.toMs, from_ms + this.width - 1);
    const of = (value: number) => ALL_METRIC_NAMES.map(() => value);
    const lowest = Number.NEGATIVE_INFINITY;
    return { point: { host, unit, from_ms, to_ms, metrics: emptyMetricSummaries() }, lastTs: of(lowest), lastSeq: of(lowest), sums: of(0) };
  }

  private shrink(): void {
    const { pointsMax } = this.options;
    if (this.buckets.size <= pointsMax) return;
    const sorted = [...this.buckets.entries()].sort(([, a], [, b]) => comparePointKeys(a.point, b.point));
    this.cut = (sorted[pointsMax] as [string, Bucket])[1].point;
    for (const [name] of sorted.slice(pointsMax)) this.buckets.delete(name);
  }
}

function addSample({ point, lastTs, lastSeq, sums }: Bucket, sample: Sample): void {
  const seq = sample.seq ?? 0;
  for (let i = 0; i < ALL_METRIC_NAMES.length; i++) {
    const name = ALL_METRIC_NAMES[i] as AnyMetricName;
    const value = sample[name];
    if (value === null || value === undefined) continue;
    point.metrics[name] ??= emptyMetricSummary();
    const summary = point.metrics[name];
    summary.count++;
    sums[i] = (sums[i] as number) + value;
    if (summary.min === null || value < summary.min) summary.min = value;
    if (summary.max === null || value > summary.max) summary.max = value;
    if (sample.ts < (lastTs[i] as number) || (sample.ts === lastTs[i] && seq < (lastSeq[i] as number))) continue;
    summary.last = value;
    lastTs[i] = sample.ts;
    lastSeq[i] = seq;
  }
}

function finished({ point, sums }: Bucket): Point {
  ALL_METRIC_NAMES.forEach((name, i) => {
    const summary = point.metrics[name];
    if (summary !== undefined) summary.avg = summary.count === 0 ? null : (sums[i] as number) / summary.count;
  });
  return point;
}
