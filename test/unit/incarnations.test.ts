import { describe, expect, test } from 'vitest';
import { Incarnations, NO_INCARNATION } from '../../services/store/core/incarnations.ts';

describe('incarnations', () => {
  test('those of a series are found again, newest first, with what is not known', () => {
    const held = new Incarnations();
    const first = held.add(NO_INCARNATION, 0, 100, 1_000);
    const second = held.add(first, 2, Number.NaN, Number.NaN);
    const other = held.add(NO_INCARNATION, 0, 200, 2_000);
    expect(held.find(second, 2, Number.NaN, Number.NaN)).toBe(second);
    expect(held.find(second, 0, 100, 1_000)).toBe(first);
    expect(held.find(second, 0, 200, 2_000), 'of another series').toBe(NO_INCARNATION);
    expect(held.find(other, 0, 200, 2_001)).toBe(NO_INCARNATION);
    expect(held.find(NO_INCARNATION, 0, 100, 1_000)).toBe(NO_INCARNATION);
  });

  test('what no row has is freed, used again, and not found in the place of what was there', () => {
    const held = new Incarnations();
    const first = held.add(NO_INCARNATION, 0, 1, 1);
    const second = held.add(first, 0, 2, 2);
    held.use(first, 1);
    held.use(second, 2_000);
    for (let pid = 3; pid < 1_000; pid++) held.use(held.add(second, 0, pid, pid), pid);
    const before = held.bytes;
    held.sweep(2, new Set());
    expect(held.size).toBe(998);
    held.sweep(1_000, new Set());
    expect(held.size).toBe(1);
    expect(held.bytes).toBeLessThan(before / 10);
    expect(held.find(second, 0, 1, 1)).toBe(NO_INCARNATION);
    held.sweep(1_000, new Set());
    expect(held.size, 'what is free stays free').toBe(1);
    const next = held.add(second, 1, 7, 7);
    expect(next).toBe(first);
    expect(held.find(next, 0, 2, 2)).toBe(second);
    expect([held.state[second], held.pid[second], held.started[second]]).toEqual([0, 2, 2]);
    held.sweep(3_000, new Set([next]));
    expect([held.size, held.state[next], held.find(next, 0, 2, 2)]).toEqual([1, 1, NO_INCARNATION]);
    held.clear();
    expect([held.size, held.bytes]).toEqual([0, 0]);
  });

  test.each([0, 2 ** 32 - 3, 2 ** 40 + 5])('positions may pass 2^32: from %i on', (from) => {
    const held = new Incarnations();
    const ids = [0, 1, 2, 3, 4, 5].map((i) => held.add(NO_INCARNATION, 0, i, i));
    for (const [i, id] of ids.entries()) held.use(id, from + i);
    for (let floor = 0; floor < 6; floor++) {
      held.sweep(from + floor, new Set());
      expect(held.size).toBe(6 - floor);
      expect(held.find(ids[5] as number, 0, 5, 5)).toBe(ids[5]);
    }
  });
});
