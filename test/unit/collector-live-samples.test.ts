import { describe, expect, test } from 'vitest';
import { METRIC_NAMES } from '#shared/contract/metrics';
import { unitHash } from '#shared/contract/series';
import { createSubjects } from '#shared/contract/subjects';
import { LiveSamples } from '../../services/collector/core/live-samples.ts';
import { type UnitSample, unknownMetrics } from '../../services/collector/core/unit-tracker.ts';

const HOST = 'web "1"';
const subjects = createSubjects('spillway');
const running: UnitSample = {
  state: 'running',
  pid: 812,
  started: 1_763_670_000_000,
  metrics: { ...unknownMetrics(), cpu_percent: 1.52, rss_bytes: Number.MAX_SAFE_INTEGER, open_fds: 7 },
};
const missing: UnitSample = { state: 'missing', pid: null, started: null, metrics: unknownMetrics() };
const head = (ts: number) => ({ host: HOST, boot: '9f1c000000000000', tick: 42, ts, intervalMs: 1000 });

describe('live samples', () => {
  test('each is a sample without seq, its keys in the order of the table, on the subject of its unit', () => {
    const units = ['api', 'a.b "c"\\', 'ü\u2028\n'];
    const messages = new LiveSamples(HOST, subjects).encode(head(1_763_678_400_123), units, [running, missing, running]);
    expect(messages.map(({ subject }) => subject)).toEqual(units.map((unit) => subjects.live(HOST, unit)));
    for (const [i, { payload }] of messages.entries()) {
      const unit = units[i] as string;
      const { metrics, ...identity } = [running, missing, running][i] as UnitSample;
      const sample = {
        host: HOST,
        unit,
        unit_hash: unitHash(HOST, unit),
        timestamp: '2025-11-20T22:40:00.123Z',
        ts: 1_763_678_400_123,
        ...identity,
        ...metrics,
      };
      expect(payload).toBe(JSON.stringify(sample));
      expect(Object.keys(JSON.parse(payload)).filter((key) => METRIC_NAMES.some((name) => name === key))).toEqual(METRIC_NAMES);
    }
  });

  test('from tick to tick only what has changed changes, whichever units come and go', () => {
    const live = new LiveSamples(HOST, subjects);
    const read = (ts: number, units: string[], samples: UnitSample[]) =>
      live.encode(head(ts), units, samples).map(({ payload }) => JSON.parse(payload) as Record<string, unknown>);
    const [first] = read(1_000, ['a', 'b'], [running, missing]);
    expect(read(2_000, ['c', 'a'], [missing, running])).toEqual([
      expect.objectContaining({ unit: 'c', ts: 2_000, state: 'missing', pid: null }),
      { ...first, ts: 2_000, timestamp: '1970-01-01T00:00:02.000Z' },
    ]);
    expect(read(3_000, ['b'], [running])).toMatchObject([{ unit: 'b', unit_hash: unitHash(HOST, 'b'), state: 'running', pid: 812 }]);
  });
});
