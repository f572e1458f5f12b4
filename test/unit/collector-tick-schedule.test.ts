import { describe, expect, test } from 'vitest';
import { TickSchedule } from '../../services/collector/core/tick-schedule.ts';

describe('TickSchedule', () => {
  test('the first tick is at the next multiple of the interval, also when now is one', () => {
    expect(new TickSchedule(1000).arm(1_763_678_400_123, 5)).toBe(877);
    expect(new TickSchedule(1000).arm(1_763_678_400_000, 5)).toBe(1000);
    expect(new TickSchedule(1000).arm(1_763_678_400_999, 5)).toBe(1);
    expect(new TickSchedule(100).arm(1_763_678_400_123, 5)).toBe(77);
  });

  test('a timer that fires early is told what is left, and not a second tick for the same multiple', () => {
    const schedule = new TickSchedule(1000);
    expect(schedule.arm(10_400, 0)).toBe(600);
    expect(schedule.remainingMs(599)).toBe(1);
    expect(schedule.remainingMs(600)).toBe(0);
    expect(schedule.remainingMs(700)).toBe(0);
    // The wall clock was slewed: it shows a hair less than the multiple that was just taken.
    expect(schedule.take()).toBe(1);
    expect(schedule.arm(10_999.5, 600)).toBe(1000.5);
  });

  test('does not drift: work inside the interval moves nothing', () => {
    const schedule = new TickSchedule(1000);
    let wallMs = 10_000.7;
    for (let i = 1; i <= 100; i++) {
      wallMs += schedule.arm(wallMs, wallMs);
      expect(wallMs % 1000).toBeCloseTo(0);
      expect(schedule.take()).toBe(i);
      wallMs += (i * 37) % 900;
    }
    expect(schedule.skipped).toBe(0);
  });

  test('an overrun skips the ticks it ran past, and counts them', () => {
    const schedule = new TickSchedule(1000);
    schedule.arm(9_500, 500); // due at 10 000
    schedule.take();
    expect(schedule.arm(10_999, 1_999)).toBe(1);
    expect(schedule.skipped).toBe(0);
    schedule.take(); // due at 11 000; works until 13 200
    expect(schedule.arm(13_200, 4_200)).toBe(800);
    expect(schedule.skipped).toBe(2);
    expect(schedule.take()).toBe(3);
  });

  test('a clock step is not an overrun, in either direction, and the tick number goes on', () => {
    const schedule = new TickSchedule(1000);
    schedule.arm(100_500, 500);
    expect(schedule.take()).toBe(1);
    expect(schedule.arm(3_700_250, 1_010), 'an hour forward').toBe(750);
    expect(schedule.take()).toBe(2);
    expect(schedule.arm(100_900, 1_770), 'an hour back').toBe(100);
    expect(schedule.take()).toBe(3);
    expect(schedule.skipped).toBe(0);
  });

  test('a small step back lengthens one interval instead of taking a tick twice', () => {
    const schedule = new TickSchedule(1000);
    schedule.arm(10_500, 500);
    schedule.take(); // at 11 000, then the clock is set back by 300 ms
    expect(schedule.arm(10_710, 1_010)).toBe(1_290);
  });

  test('a larger step back starts again from where the clock stands', () => {
    const schedule = new TickSchedule(1000);
    schedule.arm(10_500, 500);
    schedule.take(); // at 11 000, then the clock is set back by 700 ms
    expect(schedule.arm(10_310, 1_010)).toBe(690);
  });

  test('refuses an interval that is none', () => {
    expect(() => new TickSchedule(0)).toThrow(RangeError);
    expect(() => new TickSchedule(Number.NaN)).toThrow(RangeError);
  });
});
