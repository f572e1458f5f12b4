import { describe, expect, test } from 'vitest';
import { encodeBatch, parseBatch } from '#shared/contract/batch';
import { METRIC_NAMES } from '#shared/contract/metrics';
import { batchOf, markLate } from '../../services/collector/core/tick-batch.ts';
import { type UnitSample, unknownMetrics } from '../../services/collector/core/unit-tracker.ts';

const head = { host: 'web-1', boot: '9f1c000000000000', tick: 42, ts: 1_763_678_400_123, intervalMs: 1000 };
const running: UnitSample = {
  state: 'running',
  pid: 812,
  started: 1_763_670_000_000,
  metrics: { ...unknownMetrics(), cpu_percent: 1.52, rss_bytes: 104_857_600 },
};
const missing: UnitSample = { state: 'missing', pid: null, started: null, metrics: unknownMetrics() };

describe('the batch of a tick', () => {
  test('is what the contract reads', () => {
    const [encoded] = encodeBatch(batchOf(head, ['api', 'db'], [running, missing]));
    expect(encoded).toMatchObject({ id: 'web-1:9f1c000000000000:42', rows: 2 });
    const parsed = parseBatch(encoded?.payload ?? new Uint8Array(), 'web-1');
    expect(parsed).toMatchObject({
      ok: true,
      value: {
        tick: 42,
        interval_ms: 1000,
        late: false,
        unit: ['api', 'db'],
        state: ['running', 'missing'],
        pid: [812, null],
        cpu_percent: [1.52, null],
      },
    });
    if (parsed.ok) for (const name of METRIC_NAMES) expect(parsed.value[name]?.[1], name).toBeNull();
  });

  test('marked late it differs in that alone, whatever the names contain', () => {
    const host = '"late":false';
    const units = ['"late":false', 'late', '\\"late\\":false,'];
    const [encoded] = encodeBatch(batchOf({ ...head, host }, units, [running, missing, running]));
    const payload = encoded?.payload ?? new Uint8Array();
    const late = markLate(payload);
    expect(late.length).toBe(payload.length);
    const read = (bytes: Uint8Array): unknown => JSON.parse(Buffer.from(bytes).toString());
    expect(read(late)).toEqual({ ...(read(payload) as object), late: true });
    expect(parseBatch(late, host)).toMatchObject({ ok: true, value: { late: true } });
    expect(read(payload), 'the original is untouched').toMatchObject({ late: false });
    expect(markLate(late)).toEqual(late);
  });
});
