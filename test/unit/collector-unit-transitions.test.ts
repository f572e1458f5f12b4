import { describe, expect, test } from 'vitest';
import { type UnitSample, unknownMetrics } from '../../services/collector/core/unit-tracker.ts';
import { transitions } from '../../services/collector/core/unit-transitions.ts';
import { UnitWatch } from '../../services/collector/core/unit-watch.ts';
import { presentReading, processReading } from '../support/collector-readings.ts';

const missing: UnitSample = { state: 'missing', pid: null, started: null, metrics: unknownMetrics() };
const running: UnitSample = { ...missing, state: 'running', pid: 7, started: 100 };
const zombie: UnitSample = { ...running, state: 'zombie' };
const other: UnitSample = { ...running, pid: 8, started: 200 };
const reused: UnitSample = { ...running, started: 300 };

describe('transitions', () => {
  test.each([
    ['first seen running', null, running, [['started', 7, 100]]],
    ['first seen missing', null, missing, [['missing', null, null]]],
    [
      'first seen as a zombie',
      null,
      zombie,
      [
        ['started', 7, 100],
        ['zombie', 7, 100],
      ],
    ],
    ['nothing happens', running, running, []],
    ['still missing', missing, missing, []],
    ['still a zombie', zombie, zombie, []],
    ['it starts', missing, running, [['started', 7, 100]]],
    ['it is gone: the ended incarnation', running, missing, [['stopped', 7, 100]]],
    ['a zombie that somebody waited for', zombie, missing, [['stopped', 7, 100]]],
    ['it exits and nobody waits', running, zombie, [['zombie', 7, 100]]],
    ['another process between two ticks: the new incarnation', running, other, [['restarted', 8, 200]]],
    ['a reused pid', running, reused, [['restarted', 7, 300]]],
    [
      'restarted and dead already',
      running,
      { ...other, state: 'zombie' as const },
      [
        ['restarted', 8, 200],
        ['zombie', 8, 200],
      ],
    ],
    [
      'a zombie replaced by another',
      zombie,
      { ...other, state: 'zombie' as const },
      [
        ['restarted', 8, 200],
        ['zombie', 8, 200],
      ],
    ],
  ] as const)('%s', (_name, before, now, expected) => {
    expect(transitions(before, now).map(({ event, pid, started }) => [event, pid, started])).toEqual(expected);
  });
});

describe('UnitWatch', () => {
  test('keeps units apart, in order, and says why one is missing', () => {
    const watch = new UnitWatch();
    const first = watch.observe(['a', 'b'], [presentReading(1_000, [processReading({ pid: 1 })]), { state: 'missing', reason: 'no file' }]);
    expect(first.samples.map((sample) => sample.state)).toEqual(['running', 'missing']);
    expect(first.events.map(({ unit, event }) => [unit, event])).toEqual([
      ['a', 'started'],
      ['b', 'missing'],
    ]);
    expect(watch.missing()).toEqual([{ unit: 'b', reason: 'no file' }]);
    const second = watch.observe(['a', 'b'], [{ state: 'missing', reason: 'gone' }, presentReading(2_000, [processReading({ pid: 2 })])]);
    expect(second.events.map(({ unit, event, pid }) => [unit, event, pid])).toEqual([
      ['a', 'stopped', 1],
      ['b', 'started', 2],
    ]);
    expect(() => watch.observe(['a', 'b'], [])).toThrow(RangeError);
  });
});
