// Summaries of a window that is filled, evicted from and removed from at random, against an array of its rows and a filter. A small
// budget and few series, so that chapters are closed, and cut by the floor, within a run.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Batch } from '#shared/contract/batch';
import { ALL_METRIC_NAMES, type AnyMetricName, METRIC_NAMES } from '#shared/contract/metrics';
import type { MetricSummary, Summary } from '#shared/contract/queries';
import { syntheticTrace } from '../../bench/trace.ts';
import { Window } from '../../services/store/core/window.ts';
import { summary } from '../../services/store/core/window-queries.ts';
import { Random } from '../chaos/random.ts';
import { batch, EPOCH_MS } from '../support/batches.ts';

const HOSTS = ['a', 'b'];
const UNITS = ['u1', 'u2', 'u3'];
const BUDGET_BYTES = 512 * 1024;
const FOR_EVER_MS = 1e12;

interface Row {
  readonly host: string;
  readonly unit: string;
  readonly seq: number;
  readonly ts: number;
  readonly values: { readonly [name in AnyMetricName]?: number | null };
}

interface Burst {
  readonly kind: 'burst';
  readonly batches: number;
  readonly disorderMs: number;
  /** Always null. */
  readonly gapOf: AnyMetricName;
  readonly isWide: boolean;
  /** With values that are not hundredths. */
  readonly isRough: boolean;
}

type Command =
  | Burst
  | { readonly kind: 'evict'; readonly share: number }
  | { readonly kind: 'remove'; readonly host: string; readonly unit: string }
  | { readonly kind: 'seal' }
  | { readonly kind: 'ask'; readonly sinceShare: number | undefined; readonly retentionShare: number };

const share = fc.double({ min: 0, max: 1, noNaN: true });
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('burst' as const),
      batches: fc.oneof(fc.nat({ max: 20 }), fc.integer({ min: 500, max: 4_000 })),
      disorderMs: fc.constantFrom(0, 0, 5, 10_000, 1_000_000),
      gapOf: fc.constantFrom(...METRIC_NAMES, ...METRIC_NAMES, 'major_faults' as const),
      isWide: fc.boolean(),
      isRough: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('evict' as const),
      share: fc.oneof(
        share,
        share.map((one) => one ** 3),
      ),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('remove' as const), host: fc.constantFrom(...HOSTS), unit: fc.constantFrom(...UNITS) }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'seal' as const }) },
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('ask' as const), sinceShare: fc.option(share, { nil: undefined }), retentionShare: share }),
  },
);

function valuesOf(random: Random, seq: number, { gapOf, isWide, isRough }: Burst): Row['values'] {
  return {
    cpu_percent: isRough && random.isTrueIn(0.01) ? random.between(0, 1e9) / 7e6 : random.between(0, 10_000) / 100,
    rss_bytes: random.between(1, 1_000) * 4_096,
    io_read_bytes: seq * 1_000,
    io_write_bytes: random.isTrueIn(0.001) ? Number.MAX_SAFE_INTEGER : 0,
    net_rx_bytes: random.isTrueIn(0.5) ? null : random.between(0, 9),
    net_tx_bytes: null,
    threads: 12,
    ...(isWide ? { cpu_percent_max: random.between(0, 10_000) / 100, rss_bytes_max: random.between(0, 9) } : {}),
    [gapOf]: null,
  };
}

/** What a filter over rows says; null when none is left. */
function summaryOf(rows: readonly Row[], fromMs: number): { [name in AnyMetricName]?: MetricSummary } | null {
  const counted = rows.filter(({ ts }) => ts >= fromMs);
  if (counted.length === 0) return null;
  return Object.fromEntries(
    ALL_METRIC_NAMES.map((name) => {
      const known = counted.filter(({ values }) => typeof values[name] === 'number');
      if (known.length === 0) return [name, { min: null, max: null, avg: null, last: null, count: 0 }];
      const values = known.map((row) => row.values[name] as number);
      const last = known.reduce((a, b) => (b.ts > a.ts || (b.ts === a.ts && b.seq > a.seq) ? b : a));
      return [
        name,
        {
          min: values.reduce((a, b) => Math.min(a, b)),
          max: values.reduce((a, b) => Math.max(a, b)),
          avg: values.reduce((a, b) => a + b) / values.length,
          last: last.values[name] as number,
          count: values.length,
        },
      ];
    }),
  );
}

/** Averages may differ by what adding up in another order makes. */
function expectSummary(found: Summary | null, wanted: ReturnType<typeof summaryOf>): void {
  if (found === null || wanted === null) {
    expect(found).toBe(wanted);
    return;
  }
  for (const name of ALL_METRIC_NAMES) {
    const one = wanted[name] as MetricSummary;
    const { avg, ...others } = found.metrics[name] ?? { min: null, max: null, avg: null, last: null, count: 0 };
    expect(others, name).toEqual({ min: one.min, max: one.max, last: one.last, count: one.count });
    expect(Math.abs((avg ?? 0) - (one.avg ?? 0)), name).toBeLessThanOrEqual(1e-12 * one.count * (one.avg ?? 0));
  }
}

test('a summary is what a filter over the rows says, whatever was closed, evicted or removed', () => {
  let chapters = 0;
  fc.assert(
    fc.property(fc.array(command, { minLength: 10, maxLength: 30 }), fc.nat(), (commands, seed) => {
      const random = new Random(seed);
      const window = new Window({ budgetBytes: BUDGET_BYTES, floor: 1 });
      let rows: Row[] = [];
      let seq = 1;
      const evictTo = (to: number): void => {
        window.evictTo(to);
        rows = rows.filter((row) => row.seq >= to);
      };
      const append = (one: Batch): void => {
        window.append(one, seq, EPOCH_MS + seq, EPOCH_MS + seq);
        one.unit.forEach((unit, i) => {
          const values = Object.fromEntries(ALL_METRIC_NAMES.map((name) => [name, one[name]?.[i] ?? null]));
          rows.push({ host: one.host, unit, seq, ts: one.ts, values });
        });
        seq++;
      };
      for (const one of commands) {
        if (one.kind === 'burst') {
          for (let i = 0; i < one.batches; i++) {
            const host = HOSTS[random.between(0, HOSTS.length - 1)] as string;
            const units = random.isTrueIn(0.9) ? UNITS : UNITS.slice(1);
            const readings = units.map(() => valuesOf(random, seq, one));
            const names = ALL_METRIC_NAMES.filter((name) => readings.some((reading) => reading[name] !== undefined));
            const metrics = Object.fromEntries(names.map((name) => [name, readings.map((reading) => reading[name] ?? null)]));
            const ts = EPOCH_MS + seq * 1_000 - random.between(0, one.disorderMs);
            append(batch({ host, tick: seq, ts, units, metrics }));
            while (window.needsRoom()) evictTo(window.oldestBlockEnd());
          }
        } else if (one.kind === 'evict') evictTo(window.floor + Math.floor((window.next - window.floor) * one.share));
        else if (one.kind === 'remove') {
          window.remove(one);
          rows = rows.filter(({ host, unit }) => host !== one.host || unit !== one.unit);
        } else if (one.kind === 'seal') window.seal();
        else {
          chapters += window.chapters.length;
          const spanMs = (window.next - window.floor) * 1_000;
          const sinceMs = one.sinceShare === undefined ? undefined : EPOCH_MS + window.floor * 1_000 + Math.floor(spanMs * one.sinceShare);
          const retentionMs = one.retentionShare < 0.3 ? FOR_EVER_MS : Math.floor(spanMs * one.retentionShare);
          for (const host of HOSTS) {
            for (const unit of UNITS) {
              const all = rows.filter((row) => row.host === host && row.unit === unit);
              const newest = all.reduce((most, { ts }) => Math.max(most, ts), Number.NEGATIVE_INFINITY);
              const wanted = summaryOf(all, Math.max(newest - retentionMs, sinceMs ?? Number.NEGATIVE_INFINITY));
              expectSummary(summary(window, host, unit, sinceMs, retentionMs), wanted);
            }
          }
        }
      }
    }),
    { numRuns: 8 },
  );
  expect(chapters, 'chapters were read').toBeGreaterThan(0);
}, 120_000);

describe('a window with chapters above others', () => {
  const trace = syntheticTrace({ series: 8 });
  const window = new Window({ budgetBytes: 2 << 20, floor: 1 });
  for (let seq = 1; window.floor === 1 || window.chapters[1]?.level !== 1; ) {
    for (const one of trace.take(10_000)) {
      window.append(one, seq, one.ts, one.ts);
      while (window.needsRoom()) window.evictTo(window.oldestBlockEnd());
      seq++;
    }
  }

  /** Summaries of all series from many moments on, against their rows. */
  function expectAll(): void {
    const { newestTs } = window.catalog;
    for (let series = 0; series < 8; series++) {
      const rows = rowsOf(series);
      for (const share of [0, 0.1, 0.35, 0.6, 0.8, 0.95, 1]) {
        const from = (rows[0]?.ts ?? 0) + share * ((newestTs[series] as number) - (rows[0]?.ts ?? 0));
        expectSummary(summary(window, 'host-0', `service-${series}`, from, FOR_EVER_MS), summaryOf(rows, from));
      }
    }
  }

  function rowsOf(series: number): Row[] {
    const reading = window.reading(series);
    return window.pieces().flatMap((piece) => {
      const slice = window.sliceOf(piece, reading);
      if (slice === null) return [];
      const { ts, seq, metrics } = slice.columns;
      return Array.from({ length: slice.count }, (_, row) => {
        const values = Object.fromEntries(
          metrics.map((column, metric) => [ALL_METRIC_NAMES[metric], Number.isNaN(column[row]) ? null : column[row]]),
        );
        return { host: 'host-0', unit: `service-${series}`, seq: seq[row] as number, ts: ts[row] as number, values };
      });
    });
  }

  test.each([
    { name: 'between two of its chapters', floor: () => window.chapters.find(({ level }) => level === 1)?.from },
    { name: 'in its first block', floor: () => (window.chapters.find(({ level }) => level === 1)?.from as number) + 1 },
    { name: 'behind the first chapter below it', floor: () => window.chapters[0]?.to },
    { name: 'in the open chapter', floor: () => (window.openChapter?.from as number) + 1 },
  ])(
    'says what its rows say when the floor lies $name',
    ({ floor }) => {
      window.evictTo(floor() as number);
      expectAll();
    },
    120_000,
  );
});
