// The window hands out the units of a collector's newest batch, so that the next one need not be read whole, and recognizes the list.

import { describe, expect, test } from 'vitest';
import { Window } from '../../services/store/core/window.ts';
import { latest } from '../../services/store/core/window-queries.ts';
import { asRead, type BatchParts, batch, EPOCH_MS } from '../support/batches.ts';

const UNITS = Array.from({ length: 100 }, (_, i) => `unit-${i}`);

function feeder(): { window: Window; put: (parts: Omit<BatchParts, 'tick'>) => readonly string[]; growth: () => number } {
  const window = new Window({ budgetBytes: 1 << 20, floor: 1 });
  let grown = 0;
  const put = (parts: Omit<BatchParts, 'tick'>): readonly string[] => {
    const seq = window.next;
    const read = asRead(batch({ ...parts, tick: seq }), window.knownUnits);
    const before = window.bytes.series;
    grown = window.growthOf(read);
    window.append(read, seq, EPOCH_MS + seq, EPOCH_MS + seq);
    expect(window.bytes.series - before, 'what was foretold').toBeLessThanOrEqual(grown);
    return read.unit;
  };
  return { window, put, growth: () => grown };
}

describe('known units', () => {
  test('the second batch of a collector has the list that the window knows, of each of its parts', () => {
    const { window, put } = feeder();
    expect(window.knownUnits('h1', 'boot1', undefined)).toBeUndefined();
    for (const [part, units] of [
      [undefined, ['a', 'b']],
      [0, ['c', 'd']],
      [1, ['e']],
    ] as const) {
      put({ units, part });
      const known = window.knownUnits('h1', 'boot1', part);
      expect(known).toEqual(units);
      expect(put({ units, part })).toBe(known);
      expect(put({ units: [...units, 'more'], part })).not.toBe(known);
      expect(window.knownUnits('h1', 'boot1', part)).toEqual([...units, 'more']);
    }
    expect(window.knownUnits('h1', 'boot2', undefined)).toBeUndefined();
    expect(window.knownUnits('h2', 'boot1', undefined)).toBeUndefined();
  });

  test('a removed series is in none of them, and comes again as another', () => {
    const { window, put } = feeder();
    const rowsOf = (unit: string): number => latest(window, 'h1', unit, 10, 1e12, null).samples.length;
    put({ units: ['u1', 'u2'] });
    put({ units: ['u1'], part: 0 });
    put({ units: ['u1', 'u3'], part: 1 });
    expect(window.remove({ host: 'h1', unit: 'u1' })).toBe(3);
    for (const part of [undefined, 0, 1]) expect(window.knownUnits('h1', 'boot1', part), `part ${part}`).toBeUndefined();
    put({ units: ['u1'], part: 0 });
    expect(window.knownUnits('h1', 'boot1', 0)).toEqual(['u1']);
    put({ units: ['u1', 'u2'] });
    put({ units: ['u1', 'u3'], part: 1 });
    expect([rowsOf('u1'), rowsOf('u2'), rowsOf('u3')]).toEqual([3, 2, 2]);
  });

  test('a later start of the collector takes the place of the one before', () => {
    const { window, put } = feeder();
    for (let start = 0; start < 50; start++) put({ units: UNITS, boot: `boot${start}` });
    const before = window.bytes.series;
    put({ units: UNITS, boot: 'last' });
    expect(window.bytes.series - before, 'a source, and no list of names').toBeLessThan(800);
    expect(window.knownUnits('h1', 'boot48', undefined)).toBeUndefined();
    const without = window.bytes.series;
    expect(put({ units: UNITS, boot: 'boot48' }), 'what it sends late is taken').toEqual(UNITS);
    expect(window.knownUnits('h1', 'boot48', undefined), 'and known again').toEqual(UNITS);
    expect(window.bytes.series - without, 'at the price of the list').toBeGreaterThanOrEqual(8 * UNITS.length);
  });

  test('what was evicted is not known any more', () => {
    const { window, put } = feeder();
    put({ units: UNITS });
    const empty = new Window({ budgetBytes: 1 << 20, floor: 1 }).bytes.series;
    window.evictTo(window.next);
    expect(window.knownUnits('h1', 'boot1', undefined)).toBeUndefined();
    expect(window.bytes.series).toBe(empty);
  });

  test('units that change all the time cost what holds them in their blocks, and no names', () => {
    const { window, put } = feeder();
    put({ units: UNITS });
    const before = window.bytes.series;
    const changes = 200;
    for (let i = 0; i < changes; i++) put({ units: UNITS.with(i % UNITS.length, `${i % 2}-unit`) });
    // A shape has an object and four bytes for each unit.
    expect((window.bytes.series - before) / changes).toBeLessThan(250 + 4 * UNITS.length + 100);
  });

  test('the same units in another order are foretold', () => {
    const { put, growth } = feeder();
    put({ units: UNITS });
    put({ units: UNITS.toReversed() });
    expect(growth()).toBeGreaterThan(4 * UNITS.length);
  });
});
