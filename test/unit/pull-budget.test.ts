import { expect, test } from 'vitest';
import { PullBudget } from '../../services/store/core/pull-budget.ts';

const MIB = 1024 * 1024;
const messages = (...bytes: number[]): { data: Uint8Array }[] => bytes.map((length) => ({ data: new Uint8Array(length) }));

test('a thirty-second of the budget is pulled, within limits', () => {
  expect(new PullBudget(10 * MIB).usualBytes).toBe((10 * MIB) / 32);
  expect(new PullBudget(64 * 1024).usualBytes).toBe(8 * 1024);
  expect(new PullBudget(1024 * MIB).usualBytes).toBe(512 * 1024);
});

test('with room more is asked for: half of it, and four times as much at most', () => {
  const budget = new PullBudget(32 * 100_000);
  expect([0, 100_000, 200_000, 300_000, 800_000, 1e9].map((room) => budget.nextBytes(room))).toEqual([
    100_000, 100_000, 100_000, 150_000, 400_000, 400_000,
  ]);
});

test('what is held and on its way is kept free, and no less than the next pull takes', () => {
  const budget = new PullBudget(32 * 100_000);
  expect([0, 100_000, 400_000].map((bytes) => budget.reserved(bytes))).toEqual([100_000, 100_000, 400_000]);
});

test('a message larger than a pull should be is reckoned with for a while', () => {
  const budget = new PullBudget(32 * 100_000);
  budget.note(messages(90_000, 90_000, 90_000));
  expect(budget.reserved(0), 'many small ones are none').toBe(100_000);
  budget.note(messages(10, 300_000));
  expect(budget.reserved(0)).toBe(300_000);
  budget.note(messages(200_000));
  expect(budget.reserved(0)).toBe(300_000);
  let pulls = 0;
  for (; budget.reserved(0) > 100_000; pulls++) budget.note(messages(10));
  expect(pulls).toBeGreaterThan(50);
  expect(pulls).toBeLessThan(200);
});
