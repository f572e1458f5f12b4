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
      const text = Buffer.from(payload).toString();
      expect(text).toBe(JSON.stringify(sample));
      expect(Object.keys(JSON.parse(text)).filter((key) => METRIC_NAMES.some((name) => name === key))).toEqual(METRIC_NAMES);
    }
  });

  test('from tick to tick only what has changed changes, whichever units come and go', () => {
    const live = new LiveSamples(HOST, subjects);
    const read = (ts: number, units: string[], samples: UnitSample[]) =>
      live.encode(head(ts), units, samples).map(({ payload }) => JSON.parse(Buffer.from(payload).toString()) as Record<string, unknown>);
    const [first] = read(1_000, ['a', 'b'], [running, missing]);
    expect(read(2_000, ['c', 'a'], [missing, running])).toEqual([
      expect.objectContaining({ unit: 'c', ts: 2_000, state: 'missing', pid: null }),
      { ...first, ts: 2_000, timestamp: '1970-01-01T00:00:02.000Z' },
    ]);
    expect(read(3_000, ['b'], [running])).toMatchObject([{ unit: 'b', unit_hash: unitHash(HOST, 'b'), state: 'running', pid: 812 }]);
  });

  test('what is the same again is the same but for its time, and what is not is said: every metric, state, incarnation and length of time', () => {
    const live = new LiveSamples(HOST, subjects);
    const { open_fds: _, ...fewer } = running.metrics;
    const changes: UnitSample[] = [
      running,
      running,
      { ...running },
      ...METRIC_NAMES.map((name) => ({ ...running, metrics: { ...running.metrics, [name]: 5 } })),
      { ...running, pid: 813 },
      { ...running, started: 1_763_670_000_001 },
      { ...running, state: 'zombie' },
      { ...running, metrics: fewer },
      running,
      missing,
    ];
    const unit = 'ü "a"';
    let sent: Uint8Array | null = null;
    for (const [i, sample] of changes.entries()) {
      const ts = i < 4 ? 1_763_678_400_123 + i : i * 1_000;
      const before = sent && Buffer.from(sent);
      const [message] = live.encode(head(ts), [unit], [sample]);
      const { metrics, ...identity } = sample;
      const expected = {
        host: HOST,
        unit,
        unit_hash: unitHash(HOST, unit),
        timestamp: new Date(ts).toISOString(),
        ts,
        ...identity,
        ...metrics,
      };
      expect(Buffer.from(message?.payload ?? []).toString()).toBe(JSON.stringify(expected));
      // It may not have left yet when the next is made.
      expect(sent && Buffer.from(sent)).toEqual(before);
      sent = message?.payload ?? null;
    }
  });
});
