// The budget, at every moment: also while blocks are sealed and read in steps, with values that suddenly are of another kind, floors that
// move by a part of a block, and as much pulled as may be.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Batch } from '#shared/contract/batch';
import { ALL_METRICS, METRICS } from '#shared/contract/metrics';
import { evictionEvents } from '../../services/store/core/eviction-events.ts';
import { Window } from '../../services/store/core/window.ts';
import { batch } from '../support/batches.ts';

const UNITS = Array.from({ length: 40 }, (_, i) => `unit-${i}`);
/** By row: small counts, anything below 2^53, whole pages, slow counters. */
const KINDS: readonly ((row: number) => number)[] = [
  (row) => row % 10,
  (row) => (row * 2_654_435_761 * 104_729) % Number.MAX_SAFE_INTEGER,
  (row) => ((row * 7919) % 1_000_000) * 4096,
  (row) => row * 1000 + ((row * 7919) % 100),
];
const stretch = fc.record({
  kind: fc.nat(KINDS.length - 1),
  batches: fc.integer({ min: 1, max: 400 }),
  width: fc.constantFrom(METRICS.length, METRICS.length, ALL_METRICS.length),
  /** Where events end, of those that there are. */
  events: fc.integer({ min: 1, max: 9 }),
});

function batchOf(tick: number, kind: number, width: number): Batch {
  const kindOf = KINDS[kind] as (row: number) => number;
  const columns = ALL_METRICS.slice(0, width).map(({ name }, metric) => [name, UNITS.map((_, i) => kindOf((tick * 41 + i) * 19 + metric))]);
  return { ...batch({ tick, units: UNITS }), ...Object.fromEntries(columns) };
}

test('is kept whatever comes, with a full pull buffer beside it', () => {
  let cut = 0;
  fc.assert(
    fc.property(fc.array(stretch, { minLength: 2, maxLength: 8 }), fc.constantFrom(400 << 10, 1 << 20), (stretches, budgetBytes) => {
      const window = new Window({ budgetBytes, floor: 1 });
      window.pullBytesMax = budgetBytes / 32;
      const check = (): void => {
        expect(window.bytes.total - window.pullBytes + window.pullBytesMax).toBeLessThanOrEqual(budgetBytes);
      };
      const evict = (to: number, eventsMax: number): void => {
        for (const _ of window.readOldest(to)) check();
        check();
        let end = window.floor;
        let events = 0;
        for (const event of evictionEvents(
          window,
          { log: 1, to, reason: 'memory', carriesRows: true, carriedRows: 0 },
          32 * 1024,
          16 * 1024,
        )) {
          end = event.to;
          if (++events >= eventsMax && end > window.floor) break;
        }
        if (end < to) cut++;
        window.evictTo(end);
        check();
      };
      let tick = 0;
      for (const { kind, batches, width, events } of stretches) {
        for (let i = 0; i < batches; i++) {
          const one = batchOf(++tick, kind, width);
          const makeRoom = (): void => {
            while (window.needsRoom(window.growthOf(one)) && window.oldestBlockEnd() > window.floor) evict(window.oldestBlockEnd(), events);
          };
          makeRoom();
          if (window.isFullFor(one)) {
            for (const _ of window.sealInSteps()) check();
            check();
            makeRoom();
          }
          window.append(one, tick, one.ts, one.ts);
          check();
        }
      }
    }),
    { numRuns: 60, endOnFailure: true },
  );
  expect(cut, 'floors that moved by a part of what was wanted').toBeGreaterThan(100);
}, 120_000);
