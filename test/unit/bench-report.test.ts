// What becomes of measured numbers: medians, ratios, tables, and the places in a page that are replaced.

import { describe, expect, test } from 'vitest';
import { rivalsAhead, verdictsOn, worseThan } from '../../bench/goals.ts';
import { type Measured, percentile, ratioToRival, resultsOf } from '../../bench/measurements.ts';
import { plotLogLog } from '../../bench/plot.ts';
import { withSection } from '../../bench/report.ts';
import { formatNumber, markdownTable, terminalTable } from '../../bench/table.ts';
import { syntheticTrace, type Trace, traceOf } from '../../bench/trace.ts';

const measured = (contender: string, ...values: number[]): Measured[] =>
  values.map((value) => ({ case: '10 series', contender, metric: 'time', unit: 'ns', value }));

describe('results', () => {
  test('have the median, the least and the greatest of the rounds, whatever their order', () => {
    expect(resultsOf('window', measured('spillway', 30, 10, 20, 100))).toEqual([
      { bench: 'window', case: '10 series', contender: 'spillway', metric: 'time', unit: 'ns', median: 25, min: 10, max: 100, rounds: 4 },
    ]);
  });

  test('a percentile lies between its neighbours, and there is none of nothing', () => {
    const values = Array.from({ length: 101 }, (_, i) => 100 - i);
    expect([0, 50, 99, 100].map((percent) => percentile(values, percent))).toEqual([0, 50, 99, 100]);
    expect(percentile([1, 2], 75)).toBe(1.75);
    expect(() => percentile([], 50)).toThrow(RangeError);
  });

  test('a ratio is what Spillway took for one of the rival; neither its own line nor a rival alone has one', () => {
    const results = resultsOf('window', [...measured('spillway', 10, 20, 30), ...measured('rival', 80)]);
    expect(results.map((result) => ratioToRival(result, results))).toEqual([null, 0.25]);
    const alone = resultsOf('window', measured('rival', 80));
    expect(alone.map((result) => ratioToRival(result, alone))).toEqual([null]);
  });

  test('are shown with their ratio', () => {
    const results = resultsOf('window', [...measured('spillway', 1_000, 2_000, 3_000), ...measured('rival', 8_000)]);
    expect(terminalTable(results).split('\n')[2]).toMatch(/^10 series {2}time \[ns\] {2}rival +8 000 +8 000 +8 000 +0\.25×$/);
    expect(markdownTable(results).split('\n')).toEqual([
      '| case | contender | time [ns] |',
      '| --- | --- | --- |',
      '| 10 series | spillway | 2 000 (1 000 to 3 000) |',
      '| 10 series | rival | 8 000, 0.25× |',
    ]);
  });

  test.each([
    [0, '0'],
    [0.2634, '0.263'],
    [1.005, '1'],
    [12.84, '12.8'],
    [999.4, '999'],
    [272_000.4, '272 000'],
  ])('%d is written %s', (value, text) => expect(formatNumber(value)).toBe(text));
});

describe('verdicts', () => {
  const pipeline = (metric: string, contender: string, ...values: number[]) =>
    resultsOf(
      'pipeline',
      values.map((value) => ({ case: '10000 series', contender, metric, unit: 'rows/s', value })),
    );

  test('a goal is reached at its limit, from the right side', () => {
    const reached = (results: Parameters<typeof verdictsOn>[0]): boolean[] => verdictsOn(results).map(({ isReached }) => isReached);
    expect(reached(pipeline('throughput', 'spillway', 499_999))).toEqual([false]);
    expect(reached(pipeline('throughput', 'spillway', 500_000))).toEqual([true]);
    const window = (value: number) =>
      resultsOf('window', [
        { case: '1000 series, synthetic', contender: 'spillway', metric: 'ingest_and_evict_per_sample', unit: 'ns', value },
      ]);
    expect(reached(window(250))).toEqual([true]);
    expect(reached(window(251))).toEqual([false]);
    expect(reached(pipeline('throughput', 'victoria-metrics', 600_000))).toEqual([]);
  });

  test('a rival is ahead with more rows a second, or with less of what costs', () => {
    const both = (metric: string, own: number, rival: number) =>
      rivalsAhead([...pipeline(metric, 'spillway', own), ...pipeline(metric, 'rival', rival)]).length;
    expect([both('throughput', 10, 20), both('throughput', 20, 10)]).toEqual([1, 0]);
    expect([both('cpu_per_million_rows', 10, 20), both('cpu_per_million_rows', 20, 10)]).toEqual([0, 1]);
  });

  test('worse is only what no round of before was like', () => {
    const count = (before: number[], now: number[], metric = 'throughput') =>
      worseThan(pipeline(metric, 'spillway', ...before), pipeline(metric, 'spillway', ...now)).length;
    expect(count([10, 12], [8, 9])).toBe(1);
    expect(count([10, 12], [8, 10])).toBe(0);
    expect(count([10, 12], [13, 14])).toBe(0);
    expect(count([10, 12], [13, 14], 'publish_to_latest_p99')).toBe(1);
    expect(count([10, 12], [13, 14], 'rows_in_outage')).toBe(0);
  });
});

describe('a page', () => {
  test('gets the section between its marks, again and again', () => {
    const page = 'before\n<!-- bench:window -->\nold\n<!-- /bench:window -->\nafter\n';
    const once = withSection(page, 'bench:window', 'new', 'page.md');
    expect(once).toBe('before\n<!-- bench:window -->\nnew\n<!-- /bench:window -->\nafter\n');
    expect(withSection(once, 'bench:window', 'new', 'page.md')).toBe(once);
  });

  test('without the marks is refused by its name', () => {
    expect(() => withSection('text', 'bench:window', 'new', 'page.md')).toThrow(/page\.md.*<!-- bench:window -->/);
  });
});

test('a plot has a point for each value, higher for greater ones, and a frame without any', () => {
  const lines = [
    {
      title: 'ingest',
      points: [
        { x: 10, y: 100 },
        { x: 1_000, y: 10_000 },
      ],
    },
  ];
  const svg = plotLogLog({ title: 'cost', x: 'series', y: 'ns', lines });
  const points = [...svg.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"/g)].map(([, left, top]) => [Number(left), Number(top)]);
  expect(points).toEqual([
    [80, 350],
    [530, 40],
  ]);
  expect(svg).toContain('>10 000<');
  expect(plotLogLog({ title: 'cost', x: 'series', y: 'ns', lines: [] })).toContain('</svg>');
});

describe('traces', () => {
  const recording = 'bench/traces/recorded.jsonl.gz';
  const traces: [string, () => Trace][] = [
    ['synthetic', () => syntheticTrace({ series: 150 })],
    ['recorded', () => traceOf('recorded', { series: 150 }, recording)],
  ];

  test.each(traces)('the %s one is the same in every run, whole ticks of every series', (_, open) => {
    const batches = open().take(400);
    expect(batches).toEqual(open().take(400));
    expect(batches.map(({ host, tick, unit }) => [host, tick, unit.length])).toEqual(
      [0, 1, 2].flatMap((tick) => [
        ['host-0', tick, 100],
        ['host-1', tick, 50],
      ]),
    );
  });

  test('the synthetic one changes as it is described', () => {
    const [first, ...rest] = syntheticTrace({ series: 100 }).take(100 * 200);
    const rss = [first, ...rest].map((batch) => batch?.rss_bytes ?? []);
    const changes = rss.slice(1).flatMap((column, tick) => column.filter((value, unit) => value !== rss[tick]?.[unit])).length;
    expect(changes / (199 * 100)).toBeGreaterThan(0.29);
    expect(changes / (199 * 100)).toBeLessThan(0.31);
    expect(rss.flat().every((value) => (value as number) % 4_096 === 0)).toBe(true);
    const last = rest.at(-1);
    const grown = (last?.io_write_bytes ?? []).filter((value) => (value as number) > 0);
    expect(grown).toHaveLength(25);
    expect((last?.net_rx_bytes ?? []).filter((value) => value === null)).toHaveLength(75);
    expect(last?.cpu_percent?.every((value) => Math.abs(Math.round((value as number) * 100) / 100 - (value as number)) < 1e-9)).toBe(true);
  });

  test('counters of the recorded one do not start again when the recording does', () => {
    const batches = traceOf('recorded', { series: 68 }, recording).take(68 * 450);
    const going = batches[0]?.unit.map((_, unit) => batches.map((batch) => batch.io_write_bytes?.[unit] ?? null)) ?? [];
    const always = going.filter((column) => column.every((value) => value !== null) && new Set(column).size > 100);
    expect(always.length).toBeGreaterThan(5);
    for (const column of always) expect(column).toEqual([...column].sort((a, b) => (a as number) - (b as number)));
  });
});
