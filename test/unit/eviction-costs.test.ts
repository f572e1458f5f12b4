// What rows on their way out of memory cost, by counting what is made for them: a buffer or a JSON text for each of them was most of
// the cost once. Never by the clock.

import { afterEach, expect, test, vi } from 'vitest';
import { syntheticTrace } from '../../bench/trace.ts';
import { BODY_BYTES_ENOUGH, evictionEvents } from '../../services/store/core/eviction-events.ts';
import { Window } from '../../services/store/core/window.ts';

const SERIES = 10_000;
/** 30 were counted: the time of a batch is one, the fixed part of a host's rows two, made for every hundred rows here. */
const MADE_PER_THOUSAND_ROWS = 40;

afterEach(() => {
  vi.restoreAllMocks();
});

test('buffers and JSON texts made per thousand rows', () => {
  const window = new Window({ budgetBytes: 16 * 1024 * 1024, floor: 1 });
  for (const [i, batch] of syntheticTrace({ series: SERIES }).take(SERIES).entries()) window.append(batch, i + 1, 0, 0);
  const made = [vi.spyOn(Buffer, 'from'), vi.spyOn(Buffer, 'alloc'), vi.spyOn(JSON, 'stringify')];
  let rows = 0;
  for (const event of evictionEvents(window, { log: 1, to: window.next, reason: 'memory', carriesRows: true, carriedRows: 0 }))
    rows += event.rows;
  const calls = made.reduce((sum, { mock }) => sum + mock.calls.length, 0);
  expect(rows).toBeGreaterThanOrEqual(SERIES / 2);
  expect(calls, 'they are seen at all').toBeGreaterThan(0);
  expect((calls / rows) * 1_000).toBeLessThanOrEqual(MADE_PER_THOUSAND_ROWS);
});

test('an event ends with the first batch with which it is large enough, whole batches in it', () => {
  const window = new Window({ budgetBytes: 16 * 1024 * 1024, floor: 1 });
  for (const [i, batch] of syntheticTrace({ series: SERIES }).take(SERIES).entries()) window.append(batch, i + 1, 0, 0);
  const plan = { log: 1, to: window.next, reason: 'memory', carriesRows: true, carriedRows: 0 } as const;
  const events = [...evictionEvents(window, plan)];
  expect(events.length).toBeGreaterThan(2);
  for (const { from, to, rows, body } of events.slice(0, -1)) {
    expect(body.length).toBeGreaterThanOrEqual(BODY_BYTES_ENOUGH);
    expect(rows, 'whole batches').toBe((to - from) * 100);
    expect(body.length * (1 - 1 / (to - from)), 'and not one more than needed').toBeLessThan(1.05 * BODY_BYTES_ENOUGH);
  }
});
