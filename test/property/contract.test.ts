import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Batch, batchId, encodeBatch } from '#shared/contract/batch';
import { parseBatch } from '#shared/contract/batch-reader';
import {
  EVICTION_HEADERS,
  EVICTION_REASONS,
  type EvictionHead,
  evictionHeaders,
  formatRanges,
  parseEvictionHead,
  parseRanges,
} from '#shared/contract/eviction';
import { ALL_METRIC_NAMES, METRIC_NAMES, STATES } from '#shared/contract/metrics';
import { formatRow, formatSample, parseRow, rowPrefix, sampleOfRow, samplePrefix } from '#shared/contract/row';
import { decodeToken, encodeToken, nameProblem, unitHash } from '#shared/contract/series';
import { batch } from '../support/batches.ts';

const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }).filter((text) => nameProblem(text) === null);
const value = fc.oneof(
  fc.constant(null),
  fc.maxSafeNat(),
  fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }).filter((n) => !Object.is(n, -0)),
);
const nan = (one: number | null): number => one ?? Number.NaN;

describe('names', () => {
  test('every name comes back from its token, and a token is safe on the bus', () => {
    fc.assert(
      fc.property(name, (text) => {
        expect(encodeToken(text)).toMatch(/^[A-Za-z0-9_=-]+$/);
        expect(decodeToken(encodeToken(text))).toBe(text);
      }),
    );
  });

  test('decoding anything else never throws, and what it accepts is what encoding writes', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.string({ unit: fc.constantFrom('=', 'C', '3', 'A', 'a', '.') })), (token) => {
        const decoded = decodeToken(token);
        if (decoded !== null) expect(encodeToken(decoded)).toBe(token);
      }),
    );
  });
});

describe('rows', () => {
  const row = fc.record({
    host: name,
    unit: name,
    seq: fc.maxSafeNat(),
    state: fc.constantFrom(...STATES),
    pid: fc.option(fc.nat()),
    started: fc.option(fc.maxSafeNat()),
    ts: fc.nat({ max: 8.64e15 }),
    values: fc.array(value, { minLength: METRIC_NAMES.length, maxLength: ALL_METRIC_NAMES.length }),
  });

  test('written by hand as JSON.stringify would, and read back as they were', () => {
    fc.assert(
      fc.property(row, ({ host, unit, seq, state, pid, started, ts, values }) => {
        const timestamp = new Date(ts).toISOString();
        const known = values.flatMap((one, i) => (i < METRIC_NAMES.length || one !== null ? [[ALL_METRIC_NAMES[i], one] as const] : []));
        const metrics = Object.fromEntries(known);
        const wanted = { unit_hash: unitHash(host, unit), host, unit, seq, state, pid, started, sample: { timestamp, ...metrics } };
        const line = formatRow(
          rowPrefix(host, unit),
          seq,
          state,
          nan(pid),
          nan(started),
          timestamp,
          values.map((one) => nan(one ?? null)),
        );
        expect(line).toBe(JSON.stringify(wanted));
        const read = parseRow(line);
        expect(read).toEqual(wanted);
        const sample = { host, unit, unit_hash: wanted.unit_hash, timestamp, ts, seq, state, pid, started, ...metrics };
        expect(sampleOfRow(read as NonNullable<typeof read>)).toEqual(sample);
        expect(
          formatSample(
            samplePrefix(host, unit),
            ts,
            seq,
            state,
            nan(pid),
            nan(started),
            values.map((one) => nan(one ?? null)),
          ),
        ).toBe(JSON.stringify(sample));
      }),
    );
  });

  test('a line that is not a row is null', () => {
    for (const line of [
      '',
      '{',
      'null',
      '[]',
      '1',
      '{"host":"a"}',
      '{"host":"a","unit":"b","seq":1.5,"sample":{"timestamp":"2026-01-01T00:00:00Z"}}',
      '{"host":"a","unit":"b","seq":1,"sample":{"timestamp":"no"}}',
    ]) {
      expect(parseRow(line), line).toBeNull();
    }
  });
});

describe('batches', () => {
  const units = fc.uniqueArray(name, { maxLength: 60 });
  const batches = units.chain((list) =>
    fc
      .record({
        host: name,
        tick: fc.nat(),
        cpu: fc.array(fc.option(fc.double({ min: 0, max: 1e9, noNaN: true })), { minLength: list.length, maxLength: list.length }),
      })
      .map(({ host, tick, cpu }) => batch({ host, tick, units: list, metrics: { cpu_percent: cpu } })),
  );

  test('come back as they were', () => {
    fc.assert(
      fc.property(batches, (one) => {
        const [encoded] = encodeBatch(one);
        expect(parseBatch(encoded?.payload ?? new Uint8Array(), one.host)).toEqual({ ok: true, value: JSON.parse(JSON.stringify(one)) });
      }),
    );
  });

  test('a tick that is too large is split into parts that together are the tick, each with an id of its own', () => {
    fc.assert(
      fc.property(batches, fc.integer({ min: 900, max: 3000 }), (one, bytesMax) => {
        const parts = encodeBatch(one, bytesMax);
        const read = parts
          .map(({ payload }) => parseBatch(payload, one.host))
          .map((parsed) => (parsed.ok ? parsed.value : expect.unreachable(parsed.detail))) as Batch[];
        expect(read.flatMap(({ unit }) => unit)).toEqual(one.unit);
        expect(read.flatMap(({ cpu_percent }) => cpu_percent)).toEqual(JSON.parse(JSON.stringify(one.cpu_percent)));
        expect(new Set(parts.map(({ id }) => id)).size).toBe(parts.length);
        expect(parts.map(({ id }) => id)).toEqual(read.map(batchId));
        if (parts.length > 1) for (const [i, part] of read.entries()) expect([part.part, part.parts]).toEqual([i, parts.length]);
        for (const [i, { payload }] of parts.entries()) if (payload.length > bytesMax) expect(read[i]?.unit).toHaveLength(1);
      }),
    );
  });

  test('reading never throws, whatever a valid batch is turned into', () => {
    const text = JSON.stringify(batch({ tick: 1, units: ['a', 'b'], metrics: { cpu_percent: 1, rss_bytes: [1, null] } }));
    fc.assert(
      fc.property(
        fc.nat({ max: text.length }),
        fc.nat({ max: 20 }),
        fc.oneof(fc.string(), fc.constantFrom('null', '-1', '[', '{}', '"__proto__":', '1e999', '\ud800')),
        (at, cut, insert) => {
          const mutated = text.slice(0, at) + insert + text.slice(at + cut);
          const parsed = parseBatch(new TextEncoder().encode(mutated), 'h1');
          if (!parsed.ok) expect(parsed.detail.length).toBeGreaterThan(0);
        },
      ),
      { numRuns: 5_000 },
    );
    fc.assert(
      fc.property(fc.json(), fc.uint8Array(), (json, bytes) => {
        parseBatch(new TextEncoder().encode(json), 'h1');
        parseBatch(bytes, 'h1');
      }),
    );
  });
});

describe('eviction events', () => {
  const ranges = fc
    .uniqueArray(fc.nat({ max: 1000 }), { maxLength: 20 })
    .map((list) => list.sort((a, b) => a - b).map((n) => ({ first: n * 10, last: n * 10 + (n % 7) })));

  test('heads come back from their headers', () => {
    const heads: fc.Arbitrary<EvictionHead> = fc
      .record({
        log: fc.nat(),
        from: fc.integer({ min: 1, max: 1e12 }),
        span: fc.nat(),
        rows: fc.nat(),
        rowsBelow: fc.option(fc.nat()),
        crc32: fc.nat({ max: 0xffff_ffff }),
        reason: fc.constantFrom(...EVICTION_REASONS),
        duplicates: ranges,
        dropped: fc.nat(),
      })
      .map(({ span, ...head }) => ({ ...head, to: head.from + span }));
    fc.assert(
      fc.property(heads, (head) => {
        const headers = new Map(evictionHeaders(head));
        expect(parseEvictionHead((one) => headers.get(one) ?? '')).toEqual({ ok: true, value: head });
      }),
    );
  });

  test('a head with anything missing or wrong is refused', () => {
    const good = new Map(
      evictionHeaders({ log: 1, from: 5, to: 9, rows: 2, rowsBelow: 3, crc32: 7, reason: 'memory', duplicates: [], dropped: 0 }),
    );
    const wrong: [string, string][] = [
      [EVICTION_HEADERS.log, ''],
      [EVICTION_HEADERS.from, '0'],
      [EVICTION_HEADERS.from, '-1'],
      [EVICTION_HEADERS.to, '4'],
      [EVICTION_HEADERS.to, '1e3'],
      [EVICTION_HEADERS.rows, 'x'],
      [EVICTION_HEADERS.rowsBelow, '-1'],
      [EVICTION_HEADERS.crc32, '7'],
      [EVICTION_HEADERS.reason, 'because'],
      [EVICTION_HEADERS.duplicates, '9-3'],
      [EVICTION_HEADERS.dropped, 'many'],
    ];
    for (const [header, text] of wrong) {
      const parsed = parseEvictionHead((one) => (one === header ? text : (good.get(one) ?? '')));
      expect(parsed, `${header}: ${text}`).toMatchObject({ ok: false, reason: 'bad_event' });
    }
  });

  test('lists of ranges come back, and what is not one is null', () => {
    fc.assert(
      fc.property(ranges, (list) => {
        expect(parseRanges(formatRanges(list))).toEqual(list);
      }),
    );
    for (const text of [',', '1,', '1-', '-1', '2,1', '1-5,5', 'a']) expect(parseRanges(text), text).toBeNull();
  });
});
