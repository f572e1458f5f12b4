import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compareSamples, compareText } from '#client/range-merge';
import { pointsOfShard, type RangeSources, samplesOfShard } from '#client/range-query';
import { type CoverageSpan, emptyMetricSummaries, type Point, type RangeReply, type RangeRequest } from '#shared/contract/queries';
import type { Sample } from '#shared/contract/row';
import { sampleAt } from '../support/samples.ts';

const LOG = 1_763_670_000_000;
const BUCKET_MS = 10;

/**
 * A shard as an array and three positions: rows below `floor` have left the window, rows below `synced` are in the spill.
 * Every request first lets the positions move by the next of `moves`, as eviction and spilling do.
 */
class ShardModel {
  readonly rows: Sample[];
  floor = 1;
  synced = 1;
  windowRequests = 0;
  private readonly pageRows: number;
  private readonly moves: { evict: number; sync: number }[];

  constructor(rows: Sample[], pageRows: number, moves: { evict: number; sync: number }[]) {
    this.rows = [...rows].sort(compareSamples);
    this.pageRows = pageRows;
    this.moves = [...moves];
  }

  sources(hasSpill = true): RangeSources {
    return {
      window: async (request) => {
        this.move();
        this.windowRequests++;
        const { floor } = this;
        return this.page(request, (row) => (row.seq ?? 0) >= floor, 'window', floor);
      },
      spill: async (request) => {
        this.move();
        const { synced } = this;
        const below = request.below?.seq ?? Number.POSITIVE_INFINITY;
        if (!hasSpill) return null;
        return this.page(request, (row) => (row.seq ?? 0) < Math.min(synced, below), 'spill', synced);
      },
      pause: async () => this.move(),
    };
  }

  private move(): void {
    const { evict, sync } = this.moves.shift() ?? { evict: 0, sync: Number.POSITIVE_INFINITY };
    const head = 1 + Math.max(0, ...this.rows.map((row) => row.seq ?? 0));
    this.floor = Math.min(head, this.floor + evict);
    this.synced = Math.min(this.floor, this.synced + sync);
  }

  private page(request: RangeRequest, isHeld: (row: Sample) => boolean, source: CoverageSpan['source'], seq: number): RangeReply {
    const after = request.cursor === undefined || request.cursor === null ? null : (JSON.parse(request.cursor) as Sample);
    const rest = this.rows
      .filter((row) => isHeld(row) && (request.unit === undefined || row.unit === request.unit))
      .filter((row) => row.ts >= request.from_ms && row.ts <= request.to_ms)
      .filter((row) => after === null || compareSamples(row, after) > 0);
    const samples = rest.slice(0, this.pageRows);
    const times = rest.map((row) => row.ts);
    const coverage = rest.length === 0 ? [] : [{ from_ms: Math.min(...times), to_ms: Math.max(...times), source }];
    const next = rest.length > samples.length ? JSON.stringify(samples.at(-1)) : null;
    const part = request.max_points === undefined ? { samples } : { points: pointsOf(samples) };
    return { ...part, next, coverage, position: { log: LOG, seq } };
  }
}

function pointsOf(samples: readonly Sample[]): Point[] {
  const points = new Map<string, Point>();
  for (const sample of samples) {
    const from_ms = Math.floor(sample.ts / BUCKET_MS) * BUCKET_MS;
    const key = `${from_ms} ${sample.unit}`;
    const count = (points.get(key)?.metrics.cpu_percent.count ?? 0) + 1;
    const cpu_percent = { min: 1, max: 1, avg: 1, last: 1, count };
    points.set(key, {
      host: sample.host,
      unit: sample.unit,
      from_ms,
      to_ms: from_ms + 9,
      metrics: { ...emptyMetricSummaries(), cpu_percent },
    });
  }
  return [...points.values()];
}

const rows = fc
  .array(fc.record({ units: fc.integer({ min: 1, max: 3 }), jitterMs: fc.integer({ min: -3, max: 3 }) }), { maxLength: 25 })
  .map((batches) =>
    batches.flatMap(({ units, jitterMs }, i) =>
      Array.from({ length: units }, (_, unit) => sampleAt({ seq: i + 1, ts: 100 + i + jitterMs, unit: `u${unit}` })),
    ),
  );
const moves = fc.array(fc.record({ evict: fc.integer({ min: 0, max: 6 }), sync: fc.integer({ min: 0, max: 6 }) }), { maxLength: 30 });
const request = fc
  .record({ from_ms: fc.integer({ min: 95, max: 130 }), length: fc.integer({ min: 0, max: 40 }) })
  .map(({ from_ms, length }) => ({ from_ms, to_ms: from_ms + length }));

describe('range over window and spill', () => {
  test('every row exactly once, in order, while rows move and pages are small', async () => {
    await fc.assert(
      fc.asyncProperty(rows, moves, request, fc.integer({ min: 1, max: 5 }), async (held, steps, asked, pageRows) => {
        const model = new ShardModel(held, pageRows, steps);
        const { samples } = await samplesOfShard(model.sources(), asked);
        expect(samples).toEqual(model.rows.filter((row) => row.ts >= asked.from_ms && row.ts <= asked.to_ms));
      }),
      { numRuns: 500 },
    );
  });

  test('points count every row exactly once, while rows move', async () => {
    await fc.assert(
      fc.asyncProperty(rows, moves, request, async (held, steps, asked) => {
        // A series alone fits a page, all of them do not.
        const model = new ShardModel(held, 26, steps);
        const { points } = await pointsOfShard(model.sources(), { ...asked, max_points: 10 });
        const expected = pointsOf(model.rows.filter((row) => row.ts >= asked.from_ms && row.ts <= asked.to_ms));
        expect(points).toEqual(expected.sort((a, b) => compareText(a.unit, b.unit) || a.from_ms - b.from_ms));
      }),
      { numRuns: 300 },
    );
  });

  const tenRows = Array.from({ length: 10 }, (_, i) => sampleAt({ seq: i + 1, ts: 101 + i }));
  const all = { from_ms: 0, to_ms: 1_000 };

  test('without a spillover: what the window holds, and nothing is said of the time before', async () => {
    const model = new ShardModel(tenRows, 100, [{ evict: 4, sync: 0 }]);
    const { samples, coverage } = await samplesOfShard(model.sources(false), all);
    expect(samples.map((sample) => sample.seq)).toEqual([5, 6, 7, 8, 9, 10]);
    expect(coverage).toEqual([{ from_ms: 105, to_ms: 110, source: 'window' }]);
  });

  test('rows that stay on their way are named as transit', async () => {
    const stuck = Array.from({ length: 100 }, () => ({ evict: 0, sync: 0 }));
    const model = new ShardModel(tenRows, 100, [{ evict: 6, sync: 3 }, ...stuck]);
    const { samples, coverage } = await samplesOfShard(model.sources(), all);
    expect(samples.map((sample) => sample.seq)).toEqual([1, 2, 3, 7, 8, 9, 10]);
    expect(coverage).toEqual([
      { from_ms: 101, to_ms: 103, source: 'spill' },
      { from_ms: 103, to_ms: 107, source: 'transit' },
      { from_ms: 107, to_ms: 110, source: 'window' },
    ]);
  });

  test('nothing is waited for where nothing was ever evicted', async () => {
    const model = new ShardModel(tenRows, 100, []);
    const sources = model.sources();
    const pause = () => Promise.reject(new Error('waited'));
    const spill = async (asked: RangeRequest) => ({
      ...(await sources.spill(asked)),
      samples: [],
      next: null,
      coverage: [],
      position: null,
    });
    expect((await samplesOfShard({ ...sources, pause, spill }, all)).samples).toHaveLength(10);
  });

  const countOf = (points: Point[]): number => points.reduce((sum, point) => sum + point.metrics.cpu_percent.count, 0);

  const still = { evict: 0, sync: 0 };
  const oneRow = { evict: 1, sync: 1 };

  test('when the window moved between pages of points, it is read again', async () => {
    const held = tenRows.flatMap((row) => [row, { ...row, unit: 'db' }]);
    const model = new ShardModel(held, 12, [still, oneRow]);
    const { points } = await pointsOfShard(model.sources(), { ...all, max_points: 10 });
    expect(countOf(points)).toBe(20);
    expect(model.windowRequests).toBe(2 + 2);
  });

  test('when it moves each time, each series is read by itself', async () => {
    const held = tenRows.flatMap((row) => [row, { ...row, unit: 'db' }]);
    const model = new ShardModel(held, 12, [still, oneRow, still, oneRow, still, oneRow]);
    const { points } = await pointsOfShard(model.sources(), { ...all, max_points: 10 });
    expect(countOf(points)).toBe(20);
    expect(model.windowRequests, 'three times whole, once for the names, once for each series').toBe(3 * 2 + 2 + 2);
  });

  test('points of a window that never holds still are refused, not guessed', async () => {
    const held = Array.from({ length: 1_000 }, (_, i) => sampleAt({ seq: i + 1, ts: 101 + i }));
    const steps = Array.from({ length: 500 }, () => ({ evict: 1, sync: 1 }));
    const model = new ShardModel(held, 90, steps);
    await expect(pointsOfShard(model.sources(), { from_ms: 0, to_ms: 10_000, max_points: 10 })).rejects.toMatchObject({
      code: 'unavailable',
    });
  });
});
