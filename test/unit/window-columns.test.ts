// The forms in which the head holds values, and the memory of its arrays. That the values themselves are right is for
// test/property/window-forms.test.ts.

import { describe, expect, test } from 'vitest';
import type { Batch } from '#shared/contract/batch';
import { ALL_METRIC_NAMES, type AnyMetricName } from '#shared/contract/metrics';
import { syntheticTrace } from '../../bench/trace.ts';
import { Columns, FLOATS, type Form, NOTHING, PAGES, WORDS } from '../../services/store/core/columns.ts';
import { Window } from '../../services/store/core/window.ts';
import { type BatchParts, batch, EPOCH_MS } from '../support/batches.ts';

const GIB = 2 ** 30;
const RSS = ALL_METRIC_NAMES.indexOf('rss_bytes');
const CPU = ALL_METRIC_NAMES.indexOf('cpu_percent');

function feeder(window: Window): (parts: Omit<BatchParts, 'tick'>) => void {
  return (parts) => {
    const seq = window.next;
    window.append(batch({ tick: seq, ...parts }), seq, EPOCH_MS + seq, EPOCH_MS + seq);
  };
}

/** Forms of a metric in some heads, each of two batches. */
function formsOf(metric: AnyMetricName, heads: readonly (readonly [number | null, number | null])[]): Form[] {
  const window = new Window({ budgetBytes: 1 << 20, floor: 1 });
  const append = feeder(window);
  return heads.map((values) => {
    for (const value of values) append({ metrics: { [metric]: value } });
    const form = window.head.forms[ALL_METRIC_NAMES.indexOf(metric)] ?? NOTHING;
    window.seal();
    return form;
  });
}

describe('a column', () => {
  test('takes nothing for nulls, words for whole numbers, pages where words do not do, floats for the rest', () => {
    expect(formsOf('rss_bytes', [[null, null]])).toEqual([NOTHING]);
    expect(formsOf('rss_bytes', [[null, 2 ** 32 - 2]])).toEqual([WORDS]);
    expect(formsOf('rss_bytes', [[8 * GIB, 4096]])).toEqual([PAGES]);
    expect(formsOf('rss_bytes', [[4096, 8 * GIB]])).toEqual([PAGES]);
    expect(formsOf('rss_bytes', [[4097, 8 * GIB]])).toEqual([FLOATS]);
    expect(formsOf('rss_bytes', [[8 * GIB, 4097]])).toEqual([FLOATS]);
    expect(formsOf('rss_bytes', [[8 * GIB + 1, null]])).toEqual([FLOATS]);
    expect(formsOf('rss_bytes', [[2 ** 32 - 1, null]])).toEqual([FLOATS]);
    expect(formsOf('cpu_percent', [[12.34, 0]])).toEqual([WORDS]);
    expect(formsOf('cpu_percent', [[12.345, 0]])).toEqual([FLOATS]);
    expect(formsOf('cpu_percent', [[2 ** 40, 0]])).toEqual([FLOATS]);
  });

  test('takes less again when a whole head has done with less', () => {
    const fraction = [12.345, 1] as const;
    const hundredth = [12.34, 1] as const;
    const nulls = [null, null] as const;
    expect(formsOf('cpu_percent', [fraction, fraction, hundredth, hundredth, nulls, nulls])).toEqual([
      FLOATS,
      FLOATS,
      FLOATS,
      WORDS,
      WORDS,
      NOTHING,
    ]);
    const odd = [8 * GIB + 1, 1] as const;
    const large = [8 * GIB, 4096] as const;
    const small = [4097, 1] as const;
    expect(formsOf('rss_bytes', [odd, large, large, small, small, small])).toEqual([FLOATS, FLOATS, PAGES, FLOATS, WORDS, WORDS]);
  });

  test('of small and large hosts side by side holds pages, even after it had to hold floats', () => {
    const window = new Window({ budgetBytes: 1 << 20, floor: 1 });
    const append = feeder(window);
    const forms: (Form | undefined)[] = [];
    for (const odd of [0, 1, 0, 0, 0]) {
      for (let i = 0; i < 10; i++) {
        append({ host: 'small', metrics: { rss_bytes: [4096 * (1 + i)], cpu_percent: 1 } });
        append({ host: 'large', metrics: { rss_bytes: [8 * GIB + odd], cpu_percent: 1 } });
      }
      forms.push(window.head.forms[RSS]);
      window.seal();
    }
    expect(forms).toEqual([PAGES, FLOATS, FLOATS, PAGES, PAGES]);
  });
});

describe('arrays', () => {
  const narrow = Array.from({ length: 7 }, (_, metric): Form => (metric === CPU ? WORDS : NOTHING));
  const wide = narrow.map((): Form => FLOATS);

  test('that have room for many narrow rows are given back before they become wide', () => {
    const columns = new Columns();
    columns.reserveMore(10, 60_000, narrow, 600_000);
    columns.batches = 1;
    columns.clear(600_000);
    expect(columns.bytes, 'they are kept').toBeGreaterThanOrEqual(480_000);
    columns.reserveMore(10, 1_000, wide, 600_000);
    expect(columns.bytes).toBeLessThanOrEqual(600_000);
  });

  test('with rows in them are cut to these', () => {
    const columns = new Columns();
    columns.reserveMore(10, 60_000, narrow, 600_000);
    columns.batches = 1;
    columns.rows = 100;
    columns.reserveMore(10, 1_000, wide, 600_000);
    expect(columns.bytes).toBeLessThanOrEqual(600_000);
  });
});

test('the head becomes as large as the series and metrics that come to need it, in a full window, too', () => {
  const window = new Window({ budgetBytes: 2 << 20, floor: 1 });
  const append = feeder(window);
  const units = Array.from({ length: 10 }, (_, i) => `unit-${i}`);
  const full = (metrics: readonly AnyMetricName[], batches: number): number => {
    for (let i = 0; i < batches; i++) {
      const spread = units.map((_, unit) => (i * 7_919 + unit * 104_729) % 100_003);
      append({ units, metrics: Object.fromEntries(metrics.map((name) => [name, spread])) });
      while (window.needsRoom()) window.evictTo(window.oldestBlockEnd());
    }
    return window.blocks.at(-1)?.rows ?? 0;
  };
  const before = full(['threads'], 100_000);
  expect(window.floor, 'the window is full').toBeGreaterThan(1);
  expect(before).toBeGreaterThan(7_000);
  const after = full(ALL_METRIC_NAMES.slice(0, 7), 60_000);
  // A twelfth of the budget, at 32 bytes a row and 44 a batch of ten.
  expect(after).toBeGreaterThan(0.9 * ((2 << 20) / 12 / (32 + 4.4)));
});

test.each([
  { series: 10, budgetBytes: 1 << 20 },
  { series: 1_000, budgetBytes: 10 << 20 },
  { series: 5_000, budgetBytes: 4 << 20 },
])(
  'a window that starts again has room for the rows of the one before, but for a block at most: $series series',
  ({ series, budgetBytes }) => {
    const before = new Window({ budgetBytes, floor: 1 });
    const log: Batch[] = [];
    const trace = syntheticTrace({ series });
    /** @returns true when something was evicted for it */
    const take = (window: Window, seq: number): boolean => {
      const one = log[seq - 1] as Batch;
      const isFull = window.needsRoom(window.growthOf(one));
      while (window.needsRoom(window.growthOf(one))) window.evictTo(window.oldestBlockEnd());
      window.append(one, seq, one.ts, one.ts);
      return isFull;
    };
    for (let evictions = 0; evictions < 20; ) {
      for (const one of trace.take(series)) {
        log.push(one);
        if (take(before, log.length)) evictions++;
      }
    }
    const after = new Window({ budgetBytes, floor: before.floor });
    for (let seq = before.floor; seq < before.next; seq++) take(after, seq);
    // Chapters begin at other blocks now, and take a little more or less.
    expect(after.rows).toBeGreaterThanOrEqual(before.rows - Math.max(...before.blocks.map(({ rows }) => rows)));
  },
  60_000,
);
