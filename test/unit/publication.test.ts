import { describe, expect, test } from 'vitest';
import { OTHER_UNIT } from '#shared/contract/name-template';
import { type NamedSample, Publication } from '../../services/collector/core/publication.ts';
import { unknownMetrics } from '../../services/collector/core/unit-tracker.ts';

interface Given {
  readonly cpu?: number | null;
  readonly rss?: number;
  readonly io?: number | null;
  readonly pid?: number;
  readonly isRanked?: boolean;
  readonly isMissing?: boolean;
}

function sampled(unit: string, { cpu = 0, rss = 0, io = 0, pid = 1, isRanked = true, isMissing = false }: Given = {}): NamedSample {
  const metrics = { ...unknownMetrics(), cpu_percent: cpu, rss_bytes: rss, io_read_bytes: io, threads: 1 };
  return isMissing
    ? { unit, isRanked, sample: { state: 'missing', pid: null, started: null, metrics: unknownMetrics() } }
    : { unit, isRanked, sample: { state: 'running', pid, started: pid, metrics } };
}

function opened(unitsMax: number, count: number | null, by: 'cpu' | 'memory' = 'cpu') {
  const publication = new Publication({ unitsMax, top: count === null ? null : { count, by } });
  return (...all: NamedSample[]) => {
    const { units, samples, events, leftOut } = publication.choose(
      all,
      all.map(({ unit, sample }) => ({ unit, event: 'started' as const, pid: sample.pid, started: sample.started })),
    );
    const of = (unit: string) => samples[units.indexOf(unit)];
    return { units, of, leftOut, samples, events: events.map(({ unit, event }) => `${unit} ${event}`) };
  };
}

describe('the first of all processes', () => {
  test('are those with the most CPU or memory; the others are one unit, and the totals add up', () => {
    const all = [
      sampled('own', { cpu: 99, rss: 1, isRanked: false }),
      sampled('a', { cpu: 0.1, rss: 500, io: 3 }),
      sampled('b', { cpu: 7.25, rss: 20 }),
      sampled('new', { cpu: null, rss: 7 }),
      sampled('c', { cpu: 0.2, rss: 30 }),
    ];
    const byCpu = opened(100, 2)(...all);
    expect(byCpu.units).toEqual([OTHER_UNIT, 'own', 'b', 'c']);
    expect(byCpu.of(OTHER_UNIT)).toMatchObject({
      state: 'running',
      pid: null,
      started: null,
      metrics: { cpu_percent: 0.1, rss_bytes: 507, threads: 2 },
    });
    const byMemory = opened(100, 2, 'memory')(...all);
    expect(byMemory.units).toEqual([OTHER_UNIT, 'own', 'a', 'c']);
    for (const { samples } of [byCpu, byMemory]) {
      const total = (name: 'cpu_percent' | 'rss_bytes') => samples.reduce((sum, one) => sum + (one.metrics[name] ?? 0), 0);
      expect(total('cpu_percent')).toBeCloseTo(7.55 + 99, 5);
      expect(total('rss_bytes')).toBe(557 + 1);
    }
  });

  test('what is left is missing when nothing is, and unknown where something is unknown', () => {
    expect(opened(100, 2)(sampled('a'), sampled('b')).of(OTHER_UNIT)).toMatchObject({
      state: 'missing',
      metrics: { cpu_percent: null, rss_bytes: null },
    });
    const { of } = opened(100, 1)(sampled('a', { cpu: 9 }), sampled('b', { io: null }), sampled('c', { io: 5 }));
    expect(of(OTHER_UNIT)?.metrics).toMatchObject({ io_read_bytes: null, net_rx_bytes: null, rss_bytes: 0 });
    expect(opened(100, 1)(sampled('a', { cpu: 9 }), sampled('b', { cpu: null })).of(OTHER_UNIT)?.metrics.cpu_percent).toBeNull();
  });

  test('counters of the others never go back, whoever comes and goes among them', () => {
    const choose = opened(100, 1);
    const ioOf = (...all: NamedSample[]) => choose(...all).of(OTHER_UNIT)?.metrics.io_read_bytes;
    expect(ioOf(sampled('a', { cpu: 9, io: 1000 }), sampled('b', { io: 100 }))).toBe(0);
    expect(ioOf(sampled('a', { cpu: 9, io: 1000 }), sampled('b', { io: 130 }))).toBe(30);
    expect(ioOf(sampled('a', { cpu: 0, io: 1010 }), sampled('b', { cpu: 9, io: 200 })), 'a takes the place of b').toBe(40);
    expect(ioOf(sampled('b', { cpu: 9, io: 200 })), 'nobody').toBe(40);
    expect(ioOf(sampled('b', { cpu: 9 }), sampled('a', { io: 5000, pid: 2 })), 'another life of a').toBe(40);
    expect(ioOf(sampled('b', { cpu: 9 }), sampled('a', { io: 5001, pid: 2 }))).toBe(41);
    expect(ioOf(sampled('b', { cpu: 9 }), sampled('a', { io: 9000, pid: 3 })), 'and another, at once').toBe(41);
  });

  test('one that has ended is shown missing if it was shown, and what happens to the others is not told', () => {
    const choose = opened(100, 1);
    expect(choose(sampled('a', { cpu: 9 }), sampled('b')).events).toEqual(['a started']);
    const after = choose(sampled('a', { isMissing: true }), sampled('b', { isMissing: true }), sampled('c'));
    expect(after.units).toEqual([OTHER_UNIT, 'a', 'c']);
    expect(after.events).toEqual(['a started', 'c started']);
    expect(choose(sampled('c')).units).toEqual([OTHER_UNIT, 'c']);
  });
});

describe('units_max', () => {
  const named = (...units: string[]) => units.map((unit) => sampled(unit, { isRanked: false }));

  test('at the limit all are published, one more is left out and told once', () => {
    const choose = opened(2, null);
    expect(choose(...named('a', 'b'))).toMatchObject({ units: ['a', 'b'], leftOut: 0, events: ['a started', 'b started'] });
    expect(choose(...named('a', 'b', 'c'))).toMatchObject({
      units: ['a', 'b'],
      leftOut: 1,
      events: ['a started', 'b started', 'c left_out'],
    });
    expect(choose(...named('a', 'b', 'c', 'd'))).toMatchObject({ leftOut: 2, events: ['a started', 'b started'] });
    choose(...named('a', 'b'));
    expect(choose(...named('a', 'b', 'c')).events, 'again when it is hit again').toContain('c left_out');
  });

  test('who is published stays, in favour of those that come', () => {
    const choose = opened(2, null);
    choose(...named('m', 'z'));
    expect(choose(...named('a', 'm', 'z')).units).toEqual(['m', 'z']);
    expect(choose(...named('a', 'b', 'z')).units).toEqual(['a', 'z']);
  });

  test('the sum of what is left of all processes is not left out', () => {
    expect(opened(1, 5)(sampled('a'), sampled('b'))).toMatchObject({ units: [OTHER_UNIT], leftOut: 2 });
  });

  test('a limit that is lowered holds at once', () => {
    const publication = new Publication({ unitsMax: 3, top: null });
    publication.choose(named('a', 'b', 'c'), []);
    publication.limits = { unitsMax: 1, top: null };
    expect(publication.choose(named('a', 'b', 'c'), [])).toMatchObject({ units: ['a'], leftOut: 2 });
  });
});
