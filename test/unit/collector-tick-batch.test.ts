import { describe, expect, test } from 'vitest';
import { checkBatch, type EncodedBatch, encodeBatch } from '#shared/contract/batch';
import { parseBatch } from '#shared/contract/batch-reader';
import { EXTRA_METRIC_NAMES, METRIC_NAMES } from '#shared/contract/metrics';
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

  test('is read without the schema, also when it is late, a part, or has extra metrics', () => {
    const units = ['api', 'db'];
    const metrics = { ...running.metrics, ...Object.fromEntries(EXTRA_METRIC_NAMES.map((name) => [name, 3])) };
    const one = batchOf(head, units, [{ ...running, metrics }, missing], EXTRA_METRIC_NAMES);
    const whole = (encodeBatch(one)[0] as EncodedBatch).payload;
    const parts = encodeBatch(one, whole.length - 1);
    expect(parts).toHaveLength(2);
    for (const [i, payload] of [whole, markLate(whole), ...parts.map((part) => part.payload)].entries()) {
      const known = [units, units, ['api'], ['db']][i] as string[];
      const parsed = parseBatch(payload, 'web-1', () => known);
      // The very list that is known: the schema would have made another.
      expect(parsed.ok && parsed.value.unit, `message ${i}`).toBe(known);
      expect(parsed).toEqual(checkBatch(payload, 'web-1'));
    }
  });

  test('that is larger than a message may be is refused, with units that are known and without', () => {
    const units = Array.from({ length: 8_000 }, (_, i) => `${i}-${'x'.repeat(60)}`);
    const payload = new TextEncoder().encode(
      JSON.stringify(
        batchOf(
          head,
          units,
          units.map(() => missing),
        ),
      ),
    );
    for (const known of [undefined, units])
      expect(parseBatch(payload, 'web-1', () => known)).toMatchObject({ ok: false, reason: 'too_large' });
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
