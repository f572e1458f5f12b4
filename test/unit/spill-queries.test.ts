// The pure parts of the queries on the spill: pages, buckets, coverage, reading fields out of the bytes of a row.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { METRIC_NAMES } from '#shared/contract/metrics';
import { formatRow, rowPrefix } from '#shared/contract/row';
import { forEachLine } from '#shared/segments/record-format';
import { Buckets, bucketWidth, comparePointKeys } from '../../services/spillover/core/buckets.ts';
import { coverageOf, type Gap } from '../../services/spillover/core/coverage.ts';
import { createRowFormat } from '../../services/spillover/core/row-fields.ts';
import { createRowTest } from '../../services/spillover/core/sample-filter.ts';
import { Smallest } from '../../services/spillover/core/smallest.ts';
import { createRowScan } from '../../services/spillover/row-scan.ts';
import { sampleAt } from '../support/samples.ts';

const row = (host: string, unit: string, seq: number, timestamp: string) =>
  formatRow(rowPrefix(host, unit), seq, 'running', 1, 2, timestamp, [1, 2, 3, 4, 5, 6, 7]);

test('an extra metric is in the points whose samples know it, and in no other', () => {
  const buckets = new Buckets({ fromMs: 0, toMs: 199, points: 2, after: null, pointsMax: 10 });
  buckets.add(sampleAt({ seq: 1, ts: 10 }));
  buckets.add({ ...sampleAt({ seq: 2, ts: 110 }), open_fds: 4 });
  buckets.add({ ...sampleAt({ seq: 3, ts: 120 }), open_fds: 8 });
  const [without, having] = buckets.take().points;
  expect(without?.metrics).not.toHaveProperty('open_fds');
  expect(having?.metrics.open_fds).toEqual({ min: 4, max: 8, avg: 6, last: 8, count: 2 });
  expect(having?.metrics).not.toHaveProperty('pss_bytes');
});

describe('the scan of a block', () => {
  test('finds the lines that a test of every line finds, whatever the names and wherever the block ends', () => {
    const name = fc.constantFrom('a', 'b', 'a b', '"', '\\', 'ü', '"unit":"a",', ',"seq":1', '\n');
    const maybe = fc.option(name, { nil: undefined });
    fc.assert(
      fc.property(fc.array(fc.tuple(name, name, fc.nat(9)), { maxLength: 12 }), maybe, maybe, fc.nat(40), (rows, host, unit, cut) => {
        const text = rows.map(([ofHost, ofUnit, seq]) => `${row(ofHost, ofUnit, seq, `2020-01-01T00:00:0${seq}.000Z`)}\n`).join('');
        const whole = Buffer.from(text);
        const block = whole.subarray(0, whole.length - cut);
        const fromMs = Date.parse('2020-01-01T00:00:02Z');
        const filter = { host, unit, fromMs, toMs: fromMs + 5_000, below: { log: 1, seq: 6 } };
        const test = createRowTest(filter, 1);
        const wanted: [number, number, number][] = [];
        forEachLine(block, (start, end) => {
          const timeMs = test(block, start, end);
          if (timeMs !== null) wanted.push([start, end, timeMs]);
          return true;
        });
        const found: [number, number, number][] = [];
        createRowScan(filter, 1)(block, (...line) => found.push(line));
        expect(found).toEqual(wanted);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('fields of a row', () => {
  test('position and time are those that parsing would give, whatever the names', () => {
    const format = createRowFormat();
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme', minLength: 1 }),
        fc.oneof(fc.string({ minLength: 1 }), fc.constantFrom(',"seq":1', '"timestamp":"', '{"seq":1}')),
        fc.nat(Number.MAX_SAFE_INTEGER),
        fc.date({ noInvalidDate: true }),
        (host, unit, seq, date) => {
          const line = Buffer.from(`x\n${row(host, unit, seq, date.toISOString())}\n${row('h', 'u', 1, '2020-01-01T00:00:00.000Z')}\n`);
          const end = line.indexOf(0x0a, 2);
          expect(format.seqOf(line, 2, end)).toBe(seq);
          expect(format.timeOf(line, 2, end)).toBe(date.getTime());
        },
      ),
    );
  });

  test('a line without them has none, even when the next one does', () => {
    const format = createRowFormat();
    const lines = Buffer.from(`{"a":1}\n${row('h', 'u', 1, '2020-01-01T00:00:00.000Z')}\n`);
    expect(format.seqOf(lines, 0, 7)).toBeNull();
    expect(format.timeOf(lines, 0, 7)).toBeNull();
    const other = Buffer.from(
      '{"seq":1,"host":"a long name of a host","unit":"u","x":1,"seq":7,"sample":{"timestamp":"2020-01-01T00:00:00Z"}}\n',
    );
    expect(format.seqOf(other, 0, other.length - 1), 'rows that others wrote may have another order').toBe(7);
    expect(format.timeOf(other, 0, other.length - 1)).toBe(Date.parse('2020-01-01'));
    const cut = Buffer.from('{"u":"x","seq":12');
    expect(format.seqOf(cut, 0, cut.length)).toBeNull();
  });

  test('the filter takes what the request asks for, both ends of the time included', () => {
    const at = (ms: number) => new Date(ms).toISOString();
    const takes = (line: string, filter: object, log = 5) => {
      const bytes = Buffer.from(`${line}\n`);
      const test = createRowTest({ host: undefined, unit: undefined, fromMs: 1000, toMs: 2000, below: undefined, ...filter }, log);
      return test(bytes, 0, bytes.length - 1) !== null;
    };
    for (const [ms, expected] of [
      [999, false],
      [1000, true],
      [2000, true],
      [2001, false],
    ] as const)
      expect(takes(row('h', 'u', 1, at(ms)), {}), `${ms}`).toBe(expected);
    expect(takes(row('h', 'u', 1, at(1500)), { host: 'h', unit: 'u' })).toBe(true);
    expect(takes(row('h', 'u', 1, at(1500)), { host: 'u' })).toBe(false);
    expect(takes(row('h', 'u', 1, at(1500)), { unit: 'h' })).toBe(false);
    expect(takes(row('h', 'ü"x', 1, at(1500)), { unit: 'ü"x' })).toBe(true);
    expect(takes(row('h', 'u', 6, at(1500)), { below: { log: 5, seq: 7 } })).toBe(true);
    expect(takes(row('h', 'u', 7, at(1500)), { below: { log: 5, seq: 7 } })).toBe(false);
    expect(takes(row('h', 'u', 7, at(1500)), { below: { log: 5, seq: 7 } }, 4)).toBe(true);
  });
});

test('the smallest items that fit, in order, and whether there are more', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ value: fc.nat(50), bytes: fc.integer({ min: 1, max: 20 }) })),
      fc.integer({ min: 1, max: 60 }),
      (items, bytesMax) => {
        const smallest = new Smallest<{ value: number; bytes: number }>(bytesMax, (a, b) => a.value - b.value || a.bytes - b.bytes);
        for (const item of items) smallest.add(item);
        const taken = smallest.take();
        const sorted = [...items].sort((a, b) => a.value - b.value || a.bytes - b.bytes);
        expect(taken.items).toEqual(sorted.slice(0, taken.items.length));
        const bytes = taken.items.reduce((sum, item) => sum + item.bytes, 0);
        expect(taken.items.length <= 1 || bytes <= bytesMax).toBe(true);
        expect(taken.hasMore).toBe(taken.items.length < items.length);
        expect(taken.items.length > 0 || items.length === 0).toBe(true);
      },
    ),
  );
});

describe('buckets', () => {
  const samples = fc.array(
    fc.record({
      unit: fc.constantFrom('a', 'b'),
      host: fc.constantFrom('h', 'g'),
      ts: fc.integer({ min: 100, max: 199 }),
      cpu: fc.option(fc.nat(100)),
    }),
    { maxLength: 60 },
  );

  test('pages of them, joined, are what a naive aggregation gives', () => {
    fc.assert(
      fc.property(samples, fc.integer({ min: 1, max: 30 }), fc.integer({ min: 1, max: 5 }), (given, points, pointsMax) => {
        const all = given.map(({ cpu, ...rest }, seq) => sampleAt({ ...rest, seq, cpu_percent: cpu }));
        const found = [];
        for (let after = null; ; ) {
          const buckets: Buckets = new Buckets({ fromMs: 100, toMs: 199, points, after, pointsMax });
          for (const sample of all) buckets.add(sample);
          const page = buckets.take();
          expect(page.points.length).toBeLessThanOrEqual(pointsMax);
          found.push(...page.points);
          if (!page.hasMore) break;
          after = page.points.at(-1) ?? null;
        }
        expect([...found].sort(comparePointKeys)).toEqual(found);
        const width = bucketWidth(100, 199, points);
        expect(found.length).toBe(new Set(all.map((one) => `${one.host} ${one.unit} ${Math.floor((one.ts - 100) / width)}`)).size);
        for (const point of found) {
          const inside = all
            .filter((one) => one.host === point.host && one.unit === point.unit && one.ts >= point.from_ms && one.ts <= point.to_ms)
            .sort((a, b) => a.ts - b.ts || (a.seq ?? 0) - (b.seq ?? 0));
          for (const name of METRIC_NAMES) {
            const values = inside.map((one) => one[name]).filter((value) => value !== null);
            const { min, max, avg, last, count } = point.metrics[name];
            expect({ min, max, last, count }).toEqual({
              min: values.length === 0 ? null : Math.min(...values),
              max: values.length === 0 ? null : Math.max(...values),
              last: values.at(-1) ?? null,
              count: values.length,
            });
            if (avg === null) expect(values).toEqual([]);
            else expect(avg).toBeCloseTo(values.reduce((sum, value) => sum + value, 0) / values.length, 6);
          }
        }
      }),
    );
  });

  test('bucket i covers a width from from_ms + i * width; the last one ends with the request', () => {
    expect(bucketWidth(0, 99, 10)).toBe(10);
    expect(bucketWidth(0, 100, 10)).toBe(11);
    expect(bucketWidth(5, 5, 10)).toBe(1);
    const buckets = new Buckets({ fromMs: 100, toMs: 200, points: 10, after: null, pointsMax: 100 });
    for (const ts of [100, 110, 111, 200]) buckets.add(sampleAt({ seq: 1, ts }));
    expect(buckets.take().points.map(({ from_ms, to_ms }) => [from_ms, to_ms])).toEqual([
      [100, 110],
      [111, 121],
      [199, 200],
    ]);
  });
});

describe('coverage', () => {
  const segment = (first: number, last: number, log = 1) => ({ log, first, last, fromMs: first * 10, toMs: last * 10 });
  const gap = (from: number, to: number, fromMs: number | null = from * 10): Gap => ({
    log: 1,
    from,
    to,
    from_ms: fromMs,
    to_ms: to * 10,
    reason: 'hole',
  });

  test('segments that follow each other are one span, cut to the request', () => {
    expect(coverageOf([segment(1, 5), segment(6, 9)], [], 0, 1000)).toEqual([{ from_ms: 10, to_ms: 90, source: 'spill' }]);
    expect(coverageOf([segment(1, 5), segment(6, 9)], [], 20, 70)).toEqual([{ from_ms: 20, to_ms: 70, source: 'spill' }]);
    expect(coverageOf([segment(1, 5)], [], 51, 1000)).toEqual([]);
    expect(coverageOf([], [], 0, 1000)).toEqual([]);
  });

  test('a gap ends a span and is shown when its times are known', () => {
    const spans = (gaps: Gap[]) => coverageOf([segment(1, 5), segment(8, 9)], gaps, 0, 1000);
    expect(spans([gap(6, 8)])).toEqual([
      { from_ms: 10, to_ms: 50, source: 'spill' },
      { from_ms: 80, to_ms: 90, source: 'spill' },
      { from_ms: 60, to_ms: 80, source: 'gap' },
    ]);
    expect(spans([gap(6, 8, null)]).map(({ source }) => source)).toEqual(['spill', 'spill']);
    expect(spans([gap(2, 5)]).filter(({ source }) => source === 'spill')).toHaveLength(1);
  });

  test('another log is another span', () => {
    expect(coverageOf([segment(1, 5), segment(6, 9, 2)], [], 0, 1000)).toHaveLength(2);
  });
});
