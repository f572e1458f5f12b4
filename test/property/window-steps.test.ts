// Sealing and reading the oldest block in steps, beside a window that does them at once: whenever the steps are taken, and whatever
// they are given up for, queries say the same, between two steps, too, and the same rows leave.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Batch } from '#shared/contract/batch';
import { syntheticTrace } from '../../bench/trace.ts';
import { evictionEvents } from '../../services/store/core/eviction-events.ts';
import { Window } from '../../services/store/core/window.ts';
import { latest, summary } from '../../services/store/core/window-queries.ts';

const SERIES = 40;
/** One that is never full, and one where the rows of a block go where those of the head have been. */
const BUDGETS_BYTES = [2 << 20, 192 << 10];
const RETENTION_MS = 1e12;

const operation = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('append' as const), rows: fc.integer({ min: SERIES, max: 9_000 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('seal in steps' as const), steps: fc.nat(12) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('read in steps' as const), steps: fc.nat(12) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('evict' as const), share: fc.double({ min: 0, max: 1, noNaN: true }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('go on' as const), steps: fc.nat(12) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('seal' as const) }) },
);

/** What left on the way to a position. */
function evicted(window: Window, to: number): string {
  const bodies: string[] = [];
  while (window.floor < to) {
    let end = window.floor;
    for (const event of evictionEvents(window, { log: 1, to, reason: 'memory', carriesRows: true, carriedRows: 0 })) {
      bodies.push(Buffer.from(event.body).toString());
      end = event.to;
    }
    window.evictTo(end);
  }
  return bodies.join('');
}

/** Numbers of a summary: averages depend on the order in which values were added up, by a little. */
function numbersOf(window: Window, host: string, unit: string): number[] {
  const numbers: number[] = [];
  JSON.stringify(summary(window, host, unit, undefined, RETENTION_MS), (_, value) => {
    if (typeof value === 'number') numbers.push(value);
    return value;
  });
  return numbers;
}

test('work in steps', () => {
  let interrupted = 0;
  fc.assert(
    fc.property(
      fc.array(operation, { minLength: 4, maxLength: 14 }),
      fc.nat(SERIES - 1),
      fc.constantFrom(...BUDGETS_BYTES),
      (operations, unit, budgetBytes) => {
        const [plain, stepping] = [0, 1].map(() => new Window({ budgetBytes, floor: 1 })) as [Window, Window];
        const trace = syntheticTrace({ series: SERIES });
        let seq = 1;
        const look = (): void => {
          const [host, name] = ['host-0', `service-${unit}`] as const;
          const [found, expected] = [numbersOf(stepping, host, name), numbersOf(plain, host, name)];
          expect(found.length).toBe(expected.length);
          for (const [i, number] of expected.entries()) expect(Math.abs((found[i] as number) - number)).toBeLessThanOrEqual(number * 1e-12);
          expect(latest(stepping, host, name, 5, RETENTION_MS, null)).toEqual(latest(plain, host, name, 5, RETENTION_MS, null));
        };
        const begun: Generator<void, void>[] = [];
        const takeSteps = (count: number): void => {
          for (let i = 0; i < count; i++) {
            const steps = begun[i % begun.length];
            if (steps === undefined || steps.next().done) continue;
            interrupted++;
            look();
          }
        };
        const evictBoth = (to: number): void => {
          expect(evicted(stepping, to)).toBe(evicted(plain, to));
        };
        const append = (one: Batch): void => {
          for (const window of [plain, stepping]) window.append(one, seq, one.ts, one.ts);
          seq++;
        };
        for (const one of operations) {
          switch (one.kind) {
            case 'append':
              for (const given of trace.take(one.rows)) {
                append(given);
                while (plain.needsRoom() || stepping.needsRoom()) evictBoth(plain.oldestBlockEnd());
              }
              break;
            case 'seal in steps':
              begun.push(stepping.sealInSteps());
              takeSteps(one.steps);
              break;
            case 'read in steps':
              begun.push(stepping.readOldest(stepping.oldestBlockEnd()));
              takeSteps(one.steps);
              break;
            case 'go on':
              takeSteps(one.steps);
              break;
            case 'evict':
              evictBoth(Math.floor(plain.floor + one.share * (plain.next - plain.floor)));
              break;
            default:
              stepping.seal();
          }
          look();
        }
        expect([stepping.rows, stepping.floor, stepping.next]).toEqual([plain.rows, plain.floor, plain.next]);
        evictBoth(plain.next);
      },
    ),
    { numRuns: 300, endOnFailure: true },
  );
  expect(interrupted, 'looked at between two steps').toBeGreaterThan(100);
}, 120_000);

/** A window that has to evict while its head has rows for several steps. */
function fullWithRowsInHead(): Window {
  const window = new Window({ budgetBytes: 1 << 20, floor: 1 });
  const trace = syntheticTrace({ series: SERIES });
  let seq = 1;
  while (!window.needsRoom() || window.head.rows < 1_500) for (const one of trace.take(SERIES)) window.append(one, seq++, one.ts, one.ts);
  return window;
}

test.each<[string, (window: Window) => void]>([
  ['the rows are read at once', (window) => window.oldestRows(window.oldestBlockEnd())],
  ['everything is evicted', (window) => window.evictTo(window.next)],
  ['a block is evicted', (window) => window.evictTo(window.oldestBlockEnd())],
])('reading that begins with sealing is given up when meanwhile %s', (_, change) => {
  const window = fullWithRowsInHead();
  const steps = window.readOldest(window.oldestBlockEnd());
  expect(steps.next().done, 'it takes several steps').toBe(false);
  change(window);
  for (const _ of steps);
  const inPieces = window.pieces().reduce((sum, piece) => sum + (piece ?? window.head).rows, 0);
  expect(inPieces).toBe(window.rows);
});
