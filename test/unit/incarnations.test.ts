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

  test('what is not in use is freed, used again, and not found in the place of what was there', () => {
    const held = new Incarnations();
    const first = held.add(NO_INCARNATION, 0, 1, 1);
    const second = held.add(first, 0, 2, 2);
    for (let pid = 3; pid < 1_000; pid++) held.add(second, 0, pid, pid);
    const before = held.bytes;
    held.sweep(new Set([second]));
    expect(held.size).toBe(1);
    expect(held.bytes).toBeLessThan(before / 10);
    expect(held.find(second, 0, 1, 1)).toBe(NO_INCARNATION);
    const next = held.add(second, 1, 7, 7);
    expect(next).toBe(first);
    expect(held.find(next, 0, 2, 2)).toBe(second);
    expect([held.state[second], held.pid[second], held.started[second]]).toEqual([0, 2, 2]);
    held.sweep(new Set());
    expect([held.size, held.bytes]).toEqual([0, 0]);
  });
});
