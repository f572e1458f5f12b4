// What the window costs, by counting: bytes held per row, and bytes allocated per row appended. Never by the clock. Each limit is
// what was counted, plus a margin; when the engine gets better, count again and lower it.

import { describe, expect, test } from 'vitest';
import { syntheticTrace, type Trace } from '../../bench/trace.ts';
import { Window } from '../../services/store/core/window.ts';

const MIB = 1024 * 1024;
const CHUNK_ROWS = 20_000;

function makeRoom(window: Window): void {
  while (window.needsRoom()) window.evictTo(window.oldestBlockEnd());
}

/** A window that has begun to evict; `feed` gives it the next rows of its trace, in the order of the store. */
function fullWindow(series: number, budgetBytes: number): { window: Window; trace: Trace; feed(batches: ReturnType<Trace['take']>): void } {
  const trace = syntheticTrace({ series });
  const window = new Window({ budgetBytes, floor: 1 });
  let seq = 1;
  const feed = (batches: ReturnType<Trace['take']>): void => {
    for (const batch of batches) {
      makeRoom(window);
      if (window.isFullFor(batch)) {
        window.seal();
        makeRoom(window);
      }
      window.append(batch, seq++, batch.ts, batch.ts);
    }
  };
  while (window.floor === 1) feed(trace.take(CHUNK_ROWS));
  return { window, trace, feed };
}

describe('budget per row of a full window, all that it holds or keeps free included', () => {
  test.each([
    { series: 10, budgetBytes: MIB, counted: 5.45, limit: 5.7 },
    { series: 1_000, budgetBytes: 10 * MIB, counted: 5.05, limit: 5.3 },
    { series: 10_000, budgetBytes: 10 * MIB, counted: 7.3, limit: 7.7 },
  ])(
    '$series series in $budgetBytes bytes: at most $limit ($counted were counted)',
    ({ series, budgetBytes, limit }) => {
      const { window } = fullWindow(series, budgetBytes);
      expect(budgetBytes / window.rows).toBeLessThanOrEqual(limit);
    },
    120_000,
  );
});

describe('bytes allocated on the heap per row appended, sealing and evicting included', () => {
  test.each([
    { series: 10, counted: 66, limit: 110 },
    { series: 1_000, counted: 66, limit: 110 },
  ])(
    '$series series: at most $limit ($counted were counted)',
    ({ series, limit }) => {
      const { trace, feed } = fullWindow(series, MIB);
      expect(allocatedPerRow(trace, feed)).toBeLessThanOrEqual(limit);
    },
    120_000,
  );
});

/** The middle of many looks: in a few of them the collector ran, or code was compiled. */
function allocatedPerRow(trace: Trace, feed: (batches: ReturnType<Trace['take']>) => void): number {
  const looks = Array.from({ length: 41 }, () => {
    const batches = trace.take(2_000);
    const rows = batches.reduce((sum, batch) => sum + batch.unit.length, 0);
    globalThis.gc?.();
    const before = process.memoryUsage().heapUsed;
    feed(batches);
    return (process.memoryUsage().heapUsed - before) / rows;
  });
  return looks.sort((a, b) => a - b)[20] as number;
}
