import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ALL_METRIC_NAMES, EXTRA_METRIC_NAMES } from '#shared/contract/metrics';
import { QueryError, REPLY_BYTES_MAX } from '#shared/contract/queries';
import type { Sample } from '#shared/contract/row';
import { Window } from '../../services/store/core/window.ts';
import {
  coverage,
  latest,
  range,
  rangePoints,
  type SamplesPage,
  snapshot,
  summary,
  units,
} from '../../services/store/core/window-queries.ts';
import { batch, EPOCH_MS } from '../support/batches.ts';

const RETENTION_MS = 720 * 60_000;

function windowOf(batches: ReturnType<typeof batch>[], options: { sealEvery?: number; budgetBytes?: number } = {}): Window {
  const window = new Window({ budgetBytes: options.budgetBytes ?? 10_485_760, floor: 1 });
  batches.forEach((one, i) => {
    window.append(one, i + 1, EPOCH_MS + i, EPOCH_MS + i);
    if (options.sealEvery !== undefined && (i + 1) % options.sealEvery === 0) window.seal();
  });
  return window;
}

const parsed = (page: SamplesPage): Sample[] => page.samples.map((text) => JSON.parse(text) as Sample);

/** Follows the cursors of a query. */
function all(query: (cursor: string | null) => SamplesPage): { samples: Sample[]; pages: number } {
  const samples: Sample[] = [];
  let cursor: string | null = null;
  let pages = 0;
  do {
    const page = query(cursor);
    expect(Buffer.byteLength(page.samples.join())).toBeLessThan(REPLY_BYTES_MAX);
    samples.push(...parsed(page));
    cursor = page.next;
    pages++;
  } while (cursor !== null);
  return { samples, pages };
}

describe('summary', () => {
  test('of CPU 10, 20, 90: latest 90, average 40, max 90, samples 3', () => {
    const window = windowOf([10, 20, 90].map((cpu, tick) => batch({ tick, metrics: { cpu_percent: cpu, rss_bytes: 1000 + tick } })));
    expect(summary(window, 'h1', 'api', undefined, RETENTION_MS)).toMatchObject({
      latest_cpu_percent: 90,
      average_cpu_percent: 40,
      max_cpu_percent: 90,
      latest_rss_bytes: 1002,
      samples: 3,
      metrics: {
        cpu_percent: { min: 10, max: 90, avg: 40, last: 90, count: 3 },
        net_rx_bytes: { min: null, max: null, avg: null, last: null, count: 0 },
      },
    });
  });

  test('nulls do not count, and the newest by time decides the latest, not the one that came last', () => {
    const window = windowOf([
      batch({ tick: 2, metrics: { cpu_percent: 30 } }),
      batch({ tick: 1, metrics: { cpu_percent: 10 }, late: true }),
      batch({ tick: 3, metrics: { cpu_percent: null } }),
    ]);
    expect(summary(window, 'h1', 'api', undefined, RETENTION_MS)).toMatchObject({
      latest_cpu_percent: 30,
      average_cpu_percent: 20,
      samples: 2,
    });
  });

  test('of samples of the same time the one that came last is the latest, also before a late one', () => {
    const values = [30, 20, 10];
    const times = [2, 2, 1];
    const window = windowOf(
      values.map((value, i) => batch({ tick: i, ts: EPOCH_MS + (times[i] as number), metrics: { cpu_percent: value } })),
    );
    expect(summary(window, 'h1', 'api', undefined, RETENTION_MS)?.latest_cpu_percent).toBe(20);
  });

  test('of many blocks with many units is what the rows say, wherever the floor and the request cut a block', () => {
    const names = ['a', 'b', 'c'];
    const cpuOf = (tick: number, unit: number) => (tick % 7 === unit ? null : ((tick * 7919 + unit * 104_729) % 10_000) / 100);
    // Every 50th comes 30 ticks late, so the newest of a block is not its last.
    const ticks = Array.from({ length: 1000 }, (_, i) => (i % 50 === 49 ? i - 30.5 : i));
    const window = windowOf(
      ticks.map((tick, i) =>
        batch({
          tick: i,
          ts: EPOCH_MS + tick * 1000,
          units: names,
          metrics: { cpu_percent: names.map((_, unit) => cpuOf(i, unit)), threads: i < 700 ? i : null },
        }),
      ),
      { sealEvery: 300, budgetBytes: 1 << 20 },
    );
    for (const floor of [1, 150, 450]) {
      window.evictTo(floor);
      for (const since of [undefined, EPOCH_MS + 400_500, EPOCH_MS + 969_000]) {
        names.forEach((name, unit) => {
          const rows = ticks.flatMap((tick, i) =>
            i + 1 >= floor && EPOCH_MS + tick * 1000 >= (since ?? 0) ? [{ tick, cpu: cpuOf(i, unit), i }] : [],
          );
          const known = rows.flatMap(({ tick, cpu }) => (cpu === null ? [] : [{ tick, cpu }]));
          const newest = known.reduce((a, b) => (b.tick > a.tick ? b : a));
          const threads = rows.filter(({ i }) => i < 700);
          const sum = known.reduce((total, { cpu }) => total + cpu, 0);
          const found = summary(window, 'h1', name, since, RETENTION_MS);
          expect(found).toMatchObject({
            samples: known.length,
            latest_cpu_percent: newest.cpu,
            max_cpu_percent: Math.max(...known.map(({ cpu }) => cpu)),
            metrics: {
              cpu_percent: { min: Math.min(...known.map(({ cpu }) => cpu)), count: known.length },
              threads:
                threads.length === 0
                  ? { last: null, count: 0 }
                  : { last: threads.reduce((a, b) => (b.tick > a.tick ? b : a)).i, count: threads.length },
              net_rx_bytes: { count: 0, last: null },
            },
          });
          expect(found?.average_cpu_percent).toBeCloseTo(sum / known.length, 9);
        });
      }
    }
  });

  test('is null without samples, and when none is recent enough', () => {
    const window = windowOf([batch({ tick: 1 })]);
    expect(summary(window, 'h1', 'other', undefined, RETENTION_MS)).toBeNull();
    expect(summary(window, 'other', 'api', undefined, RETENTION_MS)).toBeNull();
    expect(summary(window, 'h1', 'api', EPOCH_MS + 1001, RETENTION_MS)).toBeNull();
    expect(summary(window, 'h1', 'api', EPOCH_MS + 1000, RETENTION_MS)).not.toBeNull();
  });
});

describe('latest and snapshot', () => {
  const window = windowOf(
    [3, 1, 2, 5, 4].map((tick) => batch({ tick, metrics: { cpu_percent: tick } })),
    { sealEvery: 2 },
  );
  const cpus = (page: SamplesPage) => parsed(page).map((sample) => sample.cpu_percent);

  test('oldest first, the newest by time; a limit above the count gives all, limit 0 none, an unknown unit none', () => {
    expect(cpus(latest(window, 'h1', 'api', 2, RETENTION_MS, null))).toEqual([4, 5]);
    expect(cpus(latest(window, 'h1', 'api', 99, RETENTION_MS, null))).toEqual([1, 2, 3, 4, 5]);
    expect(cpus(latest(window, 'h1', 'api', 0, RETENTION_MS, null))).toEqual([]);
    expect(cpus(latest(window, 'h1', 'nope', 5, RETENTION_MS, null))).toEqual([]);
  });

  test('snapshot gives all of a unit and the error unknown_unit for one that is not there', () => {
    expect(cpus(snapshot(window, 'h1', 'api', RETENTION_MS, null))).toEqual([1, 2, 3, 4, 5]);
    expect(() => snapshot(window, 'h1', 'nope', RETENTION_MS, null)).toThrow(
      expect.objectContaining({ code: 'unknown_unit' }) as QueryError,
    );
  });

  test('a sample exactly as old as the retention is shown, one older by a millisecond is not; range shows both', () => {
    const newest = EPOCH_MS + RETENTION_MS;
    const old = windowOf([batch({ tick: 1, ts: EPOCH_MS - 1 }), batch({ tick: 2, ts: EPOCH_MS }), batch({ tick: 3, ts: newest })]);
    const shown = [EPOCH_MS, newest];
    expect(parsed(snapshot(old, 'h1', 'api', RETENTION_MS, null)).map(({ ts }) => ts)).toEqual(shown);
    expect(parsed(latest(old, 'h1', 'api', 9, RETENTION_MS, null)).map(({ ts }) => ts)).toEqual(shown);
    expect(parsed(range(old, undefined, undefined, 0, newest, null)).map(({ ts }) => ts)).toEqual([EPOCH_MS - 1, ...shown]);
  });

  test('a sample has every field of the contract, null where it is not known', () => {
    expect(parsed(latest(window, 'h1', 'api', 1, RETENTION_MS, null))[0]).toEqual({
      host: 'h1',
      unit: 'api',
      unit_hash: window.catalog.hashOf(window.catalog.series('h1', 'api') as number),
      timestamp: new Date(EPOCH_MS + 5000).toISOString(),
      ts: EPOCH_MS + 5000,
      seq: 4,
      state: 'running',
      pid: 100,
      started: EPOCH_MS - 10_000,
      cpu_percent: 5,
      rss_bytes: null,
      io_read_bytes: null,
      io_write_bytes: null,
      net_rx_bytes: null,
      net_tx_bytes: null,
      threads: null,
    });
  });

  test('pages join to the whole, and rows that arrive between two pages do not shift them', () => {
    const many = windowOf(Array.from({ length: 4000 }, (_, tick) => batch({ tick, metrics: { cpu_percent: tick } })));
    let tick = 4000;
    const { samples, pages } = all((cursor) => {
      many.append(batch({ tick }), tick + 1, EPOCH_MS, EPOCH_MS);
      tick++;
      return latest(many, 'h1', 'api', 3500, RETENTION_MS, cursor);
    });
    expect(pages).toBeGreaterThan(2);
    expect(samples.map((sample) => sample.ts)).toEqual(Array.from({ length: 3500 }, (_, i) => EPOCH_MS + (501 + i) * 1000));
  });

  test('a cursor of something else is refused', () => {
    expect(() => range(window, undefined, undefined, 0, 1, 'bm9uc2Vuc2U')).toThrow(QueryError);
    expect(() => units(window, undefined, 'W10')).toThrow(QueryError);
  });
});

describe('units', () => {
  test('lists every series with its newest state, by host and unit, in pages', () => {
    const names = Array.from({ length: 5000 }, (_, i) => `unit-${i}`);
    const window = windowOf([
      batch({ tick: 1, host: 'b', units: names }),
      batch({ tick: 1, host: 'a', units: ['z'] }),
      batch({ tick: 2, host: 'a', units: ['z'], state: 'missing' }),
    ]);
    const listed: { host: string; unit: string }[] = [];
    let cursor: string | null = null;
    let pages = 0;
    do {
      const page = units(window, undefined, cursor);
      listed.push(...page.units);
      cursor = page.next;
      pages++;
    } while (cursor !== null);
    expect(pages).toBeGreaterThan(1);
    expect(listed).toHaveLength(5001);
    expect(listed[0]).toEqual(
      expect.objectContaining({ host: 'a', unit: 'z', state: 'missing', rows: 2, first_ts: EPOCH_MS + 1000, last_ts: EPOCH_MS + 2000 }),
    );
    expect(listed.slice(1).map(({ unit }) => unit)).toEqual([...names].sort());
    expect(units(window, 'a', null).units).toHaveLength(1);
  });

  test('the newest is found again after it has been evicted', () => {
    const window = windowOf([
      batch({ tick: 9, ts: EPOCH_MS + 86_400_000 }),
      batch({ tick: 1, ts: EPOCH_MS }),
      batch({ tick: 2, ts: EPOCH_MS + 1000 }),
    ]);
    window.evictTo(2);
    expect(units(window, undefined, null).units[0]).toMatchObject({ first_ts: EPOCH_MS, last_ts: EPOCH_MS + 1000, rows: 2 });
  });
});

describe('against a naive model', () => {
  const message = fc.record({
    host: fc.constantFrom('a', 'b'),
    tick: fc.nat({ max: 5000 }),
    ts: fc.nat({ max: 500 }),
    units: fc.uniqueArray(fc.constantFrom('u1', 'u2', 'u3'), { minLength: 1 }),
    cpu: fc.option(fc.nat({ max: 10_000 }).map((n) => n / 100)),
  });

  test('range, points, summary, units and coverage equal a filter over an array', () => {
    fc.assert(
      fc.property(
        fc.array(message, { minLength: 1, maxLength: 150 }),
        fc.integer({ min: 1, max: 40 }),
        fc.nat({ max: 500 }),
        fc.nat({ max: 500 }),
        fc.nat({ max: 40 }),
        fc.integer({ min: 1, max: 20 }),
        (messages, sealEvery, a, b, evictUpTo, points) => {
          const [from, to] = [Math.min(a, b), Math.max(a, b)];
          const unique = messages.filter(
            (one, i) => messages.findIndex((other) => other.host === one.host && other.tick === one.tick) === i,
          );
          const window = windowOf(
            unique.map((one) => batch({ ...one, metrics: { cpu_percent: one.cpu } })),
            { sealEvery },
          );
          window.evictTo(Math.min(1 + evictUpTo, window.next));
          const rows = unique
            .map((one, i) => ({ ...one, seq: i + 1 }))
            .filter(({ seq }) => seq >= window.floor)
            .flatMap((one) => one.units.map((unit) => ({ ...one, unit })))
            .sort((x, y) => x.ts - y.ts || x.seq - y.seq || (x.unit < y.unit ? -1 : 1));
          const inRange = rows.filter(({ ts }) => ts >= from && ts <= to);
          const key = (row: { ts: number; seq?: number; unit: string; host: string }) => `${row.ts} ${row.seq} ${row.host} ${row.unit}`;
          expect(all((cursor) => range(window, undefined, undefined, from, to, cursor)).samples.map(key)).toEqual(inRange.map(key));
          expect(all((cursor) => range(window, 'a', 'u1', from, to, cursor)).samples.map(key)).toEqual(
            inRange.filter(({ host, unit }) => host === 'a' && unit === 'u1').map(key),
          );

          const own = rows.filter(({ host, unit }) => host === 'a' && unit === 'u2');
          const known = own.filter(({ cpu }) => cpu !== null).map(({ cpu }) => cpu as number);
          const summed = summary(window, 'a', 'u2', undefined, RETENTION_MS);
          if (own.length === 0) expect(summed).toBeNull();
          else {
            expect(summed?.samples).toBe(known.length);
            expect(summed?.latest_cpu_percent).toBe(known.at(-1) ?? null);
            expect(summed?.max_cpu_percent).toBe(known.length === 0 ? null : Math.max(...known));
            if (known.length > 0)
              expect(summed?.average_cpu_percent).toBeCloseTo(known.reduce((sum, one) => sum + one, 0) / known.length, 8);
          }

          const counted = rangePoints(window, undefined, undefined, from, to, points, null).points;
          expect(counted.reduce((sum, point) => sum + point.metrics.cpu_percent.count, 0)).toBe(
            inRange.filter(({ cpu }) => cpu !== null).length,
          );
          for (const point of counted) {
            const inside = inRange.filter(
              (row) => row.host === point.host && row.unit === point.unit && row.ts >= point.from_ms && row.ts <= point.to_ms,
            );
            expect(inside.length).toBeGreaterThan(0);
            expect(point.metrics.cpu_percent.last).toBe(inside.filter(({ cpu }) => cpu !== null).at(-1)?.cpu ?? null);
          }

          const listed = units(window, undefined, null).units;
          expect(listed.map(({ host, unit, rows: count }) => `${host} ${unit} ${count}`)).toEqual(
            [...new Set(rows.map(({ host, unit }) => `${host} ${unit}`))]
              .sort()
              .map((name) => `${name} ${rows.filter(({ host, unit }) => `${host} ${unit}` === name).length}`),
          );
          for (const one of listed) {
            const times = rows.filter(({ host, unit }) => host === one.host && unit === one.unit).map(({ ts }) => ts);
            expect([one.first_ts, one.last_ts]).toEqual([Math.min(...times), Math.max(...times)]);
          }
          for (const row of inRange)
            expect(coverage(window, undefined, undefined, from, to).some((span) => row.ts >= span.from_ms && row.ts <= span.to_ms)).toBe(
              true,
            );
        },
      ),
      { numRuns: 300 },
    );
  });

  test('a series of every metric keeps its values through many blocks', () => {
    const values = Array.from({ length: 3000 }, (_, i) =>
      Object.fromEntries(ALL_METRIC_NAMES.map((name, m) => [name, (i + m) % 7 === 0 ? null : (i * (m + 3)) % 1000])),
    );
    const window = windowOf(
      values.map((metrics, tick) => batch({ tick, metrics })),
      { sealEvery: 170 },
    );
    const { samples } = all((cursor) => snapshot(window, 'h1', 'api', RETENTION_MS, cursor));
    expect(samples.map((sample) => Object.fromEntries(ALL_METRIC_NAMES.map((name) => [name, sample[name] ?? null])))).toEqual(values);
    const summed = summary(window, 'h1', 'api', undefined, RETENTION_MS);
    for (const name of ALL_METRIC_NAMES) {
      const known = values.map((one) => one[name]).filter((one): one is number => one !== null);
      expect(summed?.metrics[name]).toEqual({
        min: Math.min(...known),
        max: Math.max(...known),
        avg: known.reduce((sum, one) => sum + one, 0) / known.length,
        last: known.at(-1),
        count: known.length,
      });
    }
  });

  test('aggregates of a series with every metric are found behind those of others', () => {
    const units = ['a', 'b', 'c'];
    const of = (unit: number, name: number, tick: number): number => (unit + 1) * 1e12 + name * 1e9 + tick * 1_234_567;
    const window = windowOf(
      Array.from({ length: 100 }, (_, tick) =>
        batch({ tick, units, metrics: Object.fromEntries(ALL_METRIC_NAMES.map((name, m) => [name, units.map((_, u) => of(u, m, tick))])) }),
      ),
      { sealEvery: 100 },
    );
    window.append(batch({ tick: 100, units, metrics: Object.fromEntries(ALL_METRIC_NAMES.map((name) => [name, 0])) }), window.next, 0, 0);
    for (const [u, unit] of units.entries()) {
      const metrics = summary(window, 'h1', unit, undefined, RETENTION_MS)?.metrics;
      for (const [m, name] of ALL_METRIC_NAMES.entries())
        expect(metrics?.[name], `${unit} ${name}`).toMatchObject({ min: 0, max: of(u, m, 99), last: 0, count: 101 });
    }
  });

  test('an extra metric is in the samples that know it and in no other, before it comes and after it has gone', () => {
    const extra = (tick: number): boolean => tick % 400 >= 100 && tick % 400 < 150;
    const window = windowOf(
      Array.from({ length: 800 }, (_, tick) =>
        batch({ tick, metrics: { threads: tick, ...(extra(tick) ? { open_fds: tick, major_faults: null } : {}) } }),
      ),
      { sealEvery: 130 },
    );
    const { samples } = all((cursor) => snapshot(window, 'h1', 'api', RETENTION_MS, cursor));
    expect(samples.map(({ open_fds }) => open_fds)).toEqual(Array.from({ length: 800 }, (_, tick) => (extra(tick) ? tick : undefined)));
    expect(samples.map(({ threads }) => threads)).toEqual(Array.from({ length: 800 }, (_, tick) => tick));
    const metrics = summary(window, 'h1', 'api', undefined, RETENTION_MS)?.metrics;
    expect(metrics?.open_fds).toMatchObject({ min: 100, max: 549, last: 549, count: 100 });
    expect(
      EXTRA_METRIC_NAMES.filter((name) => metrics?.[name] !== undefined),
      'known at least once',
    ).toEqual(['open_fds']);
  });

  test('columns of extra metrics are given back when no batch brings them any more', () => {
    const window = windowOf([batch({ tick: 0, metrics: { threads: 1 } })]);
    const narrow = window.head.bytes;
    window.append(batch({ tick: 1, metrics: { major_faults: 5 } }), window.next, 0, 0);
    expect(window.head.bytes).toBeGreaterThan(narrow);
    for (const tick of [2, 3]) {
      window.seal();
      window.append(batch({ tick, metrics: { threads: 1 } }), window.next, 0, 0);
    }
    expect(window.head.bytes).toBe(narrow);
  });
});
