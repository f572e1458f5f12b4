// When the window has chapters, and what it counts for them. That summaries are right is for test/property/window-summary.test.ts.

import { expect, test } from 'vitest';
import { METRICS } from '#shared/contract/metrics';
import { syntheticTrace } from '../../bench/trace.ts';
import { type Aggregate, emptyAggregates } from '../../services/store/core/aggregate.ts';
import type { Chapter } from '../../services/store/core/chapter.ts';
import { Window } from '../../services/store/core/window.ts';
import { summary } from '../../services/store/core/window-queries.ts';
import { batch, EPOCH_MS } from '../support/batches.ts';

function withAllBelow(chapters: readonly Chapter[]): Chapter[] {
  return chapters.flatMap((chapter) => [chapter, ...withAllBelow(chapter.parts)]);
}

function bytesOf(window: Window): number {
  const chapters = withAllBelow(window.chapters).reduce((sum, { bytes }) => sum + bytes, 0);
  return window.blocks.reduce((sum, { bytes }) => sum + bytes, 0) + chapters + (window.openChapter?.bytes ?? 0);
}

/** @returns chapters of each level that were seen */
function fill(window: Window, series: number, rows: number, look: () => void): Set<number> {
  const levels = new Set<number>();
  let seq = window.next;
  for (const one of syntheticTrace({ series }).take(rows)) {
    window.append(one, seq++, one.ts, one.ts);
    while (window.needsRoom()) {
      window.oldestRows(window.oldestBlockEnd()); // as the store does: they take memory too
      window.evictTo(window.oldestBlockEnd());
    }
    look();
    for (const { level } of window.chapters) levels.add(level);
  }
  return levels;
}

test.each([
  { series: 8, budgetBytes: 2 << 20, rows: 900_000, levels: [0, 1, 2] },
  { series: 600, budgetBytes: 6 << 20, rows: 1_300_000, levels: [0, 1] },
])(
  'chapters of $series series are counted: within the budget, and gone with their blocks',
  ({ series, budgetBytes, rows, levels }) => {
    const window = new Window({ budgetBytes, floor: 1 });
    let looks = 0;
    let most = 0;
    const seen = fill(window, series, rows, () => {
      if (looks++ % 50 === 0) expect(window.bytes.blocks).toBe(bytesOf(window));
      most = Math.max(most, window.bytes.total);
    });
    expect(most).toBeLessThanOrEqual(budgetBytes);
    expect([...seen].sort()).toEqual(levels);
    expect(window.floor, 'the window was full').toBeGreaterThan(1);
    while (window.blocks.length > 1) {
      window.evictTo(window.oldestBlockEnd());
      expect(window.bytes.blocks).toBe(bytesOf(window));
      for (const { from } of withAllBelow(window.chapters)) expect(from).toBeGreaterThanOrEqual(window.floor);
    }
    window.reset(1);
    expect(window.bytes.blocks).toBe(0);
    expect(window.openChapter).toBeNull();
  },
  60_000,
);

test('a closed chapter has of every series what the rows of its blocks say', () => {
  const series = 300;
  const window = new Window({ budgetBytes: 10 << 20, floor: 1 });
  fill(window, series, 200_000, () => {});
  const chapter = window.chapters[0] as Chapter;
  for (let id = 0; id < series; id++) {
    const found = emptyAggregates(METRICS.length);
    chapter.addTo(found, id);
    const slices = window.blocksBetween(chapter.from, chapter.to).map((block) => {
      const slice = window.sliceOf(block, window.reading(id));
      return slice === null ? [] : slice.columns.metrics.map((column) => [...column.subarray(0, slice.count)]);
    });
    METRICS.forEach(({ name }, metric) => {
      const values = slices.flatMap((columns) => columns[metric] ?? []).filter((value) => !Number.isNaN(value));
      const { count, sum, min, max } = found[metric] as Aggregate;
      expect(count, `${id} ${name}`).toBe(values.length);
      if (count === 0) return;
      expect([min, max], `${id} ${name}`).toEqual([Math.min(...values), Math.max(...values)]);
      expect(sum, `${id} ${name}`).toBeCloseTo(
        values.reduce((a, b) => a + b, 0),
        6,
      );
    });
  }
  const nothing = emptyAggregates(METRICS.length);
  chapter.addTo(nothing, series);
  expect(nothing, 'a series that came later').toEqual(emptyAggregates(METRICS.length));
}, 60_000);

test('a chapter goes when the floor passes its first row', () => {
  const window = new Window({ budgetBytes: 1 << 20, floor: 1 });
  fill(window, 100, 100_000, () => {});
  const [oldest] = window.chapters as [Chapter];
  window.evictTo(oldest.from);
  expect(window.chapters[0]).toBe(oldest);
  window.evictTo(oldest.from + 1);
  expect(window.chapters).not.toContain(oldest);
  expect(window.openChapter?.bytes, 'seven metrics of each series').toBe(100 * 7 * 28);
  window.evictTo((window.openChapter?.from as number) + 1);
  expect(window.openChapter).toBeNull();
});

test('with too many series for the budget there are no chapters, and those there were stay right', () => {
  const window = new Window({ budgetBytes: 1 << 20, floor: 1 });
  const levels = fill(window, 200, 60_000, () => expect(window.openChapter).toBeNull());
  expect(levels).toEqual(new Set());

  const grown = new Window({ budgetBytes: 1 << 20, floor: 1 });
  const append = (tick: number, units: readonly string[]): void => {
    grown.append(batch({ tick, units, metrics: { cpu_percent: tick } }), tick, EPOCH_MS, EPOCH_MS);
    grown.seal();
  };
  // One metric of theirs is known: 28 bytes of each.
  const many = Array.from({ length: Math.ceil((1 << 20) / 48 / 28) + 1 }, (_, i) => `unit-${i}`);
  append(1, ['unit-0']);
  expect(grown.openChapter).not.toBeNull();
  append(2, many);
  expect(grown.openChapter).toBeNull();
  append(3, ['unit-0']);
  expect(summary(grown, 'h1', 'unit-0', undefined, 1e12)?.metrics.cpu_percent).toEqual({ min: 1, max: 3, avg: 2, last: 3, count: 3 });
});

test('blocks are merged only within a chapter', () => {
  const window = new Window({ budgetBytes: 1 << 20, floor: 1 });
  for (let tick = 1; tick <= 20_000; tick++) {
    window.append(batch({ tick, metrics: { threads: tick } }), tick, EPOCH_MS, EPOCH_MS);
    if (tick % 50 === 0) window.seal();
  }
  const begins = window.blocks.map(({ from }) => from);
  expect(window.chapters.length).toBeGreaterThan(1);
  for (const { from } of window.chapters) expect(begins).toContain(from);
  expect(begins).toContain(window.openChapter?.from);
});

/** What a window keeps free for, and counts as held, when it decides whether something has to be evicted. */
function countedBytes(window: Window, budgetBytes: number): number {
  let [fits, tooMuch] = [-budgetBytes, budgetBytes + 1];
  while (tooMuch - fits > 1) {
    const middle = Math.floor((fits + tooMuch) / 2);
    if (window.needsRoom(middle)) tooMuch = middle;
    else fits = middle;
  }
  return budgetBytes - fits;
}

test('whether there is room is decided with all that is held: chapters, too, on top of a full head and the next block', () => {
  const budgetBytes = 6 << 20;
  const window = new Window({ budgetBytes, floor: 1 });
  let headBytes = 0;
  let closed = 0;
  fill(window, 600, 1_300_000, () => {
    // What it took once, it may take again.
    headBytes = Math.max(headBytes, window.bytes.head);
    if (window.chapters.length === closed) return;
    closed = window.chapters.length;
    const newest = window.blocks.at(-1)?.bytes ?? 0;
    const { blocks, series } = window.bytes;
    expect(countedBytes(window, budgetBytes)).toBeGreaterThanOrEqual(headBytes + newest + blocks + series);
  });
  expect(closed).toBeGreaterThan(0);
  expect(headBytes).toBeGreaterThan(250_000);
});
