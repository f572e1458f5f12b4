// Rows written as bytes against the contract's own `formatRow`.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ALL_METRIC_NAMES, METRIC_NAMES, STATES } from '#shared/contract/metrics';
import { formatRow, rowPrefix } from '#shared/contract/row';
import { unitHash } from '#shared/contract/series';
import { MetricColumn } from '../../services/store/core/columns.ts';
import { hostPart, pieceOf, RowWriter } from '../../services/store/core/row-writer.ts';

const value = fc.oneof(
  fc.constant(Number.NaN),
  fc.constantFrom(
    0,
    -0,
    0.01,
    0.1,
    1.5,
    99.99,
    1e9 - 1,
    1e9,
    1e9 + 1,
    1e7 - 0.01,
    1e7,
    1e7 + 0.01,
    2 ** 53 - 1,
    2 ** 53,
    2 ** 53 + 2,
    1e21,
    5e-324,
  ),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.maxSafeNat(),
  fc.nat().map((n) => n / 100),
  fc.nat({ max: 20 }).map((digits) => 10 ** digits),
);
const count = fc.oneof(fc.constant(Number.NaN), fc.maxSafeNat());
const name = fc.oneof(
  fc.string({ unit: 'binary', minLength: 1, maxLength: 20 }),
  fc.constantFrom('"\\\n\u0001', 'a"', 'a\\', 'a\u001f', ' ~', 'a\u007f', 'ü', 'x'.repeat(255)),
);
const row = fc.record({
  host: name,
  unit: name,
  seq: fc.maxSafeNat(),
  state: fc.nat({ max: STATES.length - 1 }),
  pid: count,
  started: count,
  ts: fc.nat({ max: 8_000_000_000_000 }),
  values: fc.array(value, { minLength: METRIC_NAMES.length, maxLength: ALL_METRIC_NAMES.length }),
});

function columnOf(metric: number, values: readonly (number | null)[]): MetricColumn {
  const column = new MetricColumn(metric);
  column.reform(column.formFor(values, 0), 0, values.length);
  if (!column.put(values, 0, values.length)) throw new Error(`${values} do not fit form ${column.form}`);
  return column;
}

test('a row written as bytes is the row of the contract, and one that does not fit leaves no trace', () => {
  fc.assert(
    fc.property(fc.array(row, { maxLength: 8 }), fc.nat({ max: 3_000 }), (rows, bytesMax) => {
      const writer = new RowWriter(bytesMax);
      const fitting: string[] = [];
      for (const { host, unit, seq, state, pid, started, ts, values } of rows) {
        const prefix = rowPrefix(host, unit);
        const timestamp = new Date(ts).toISOString();
        const line = `${formatRow(prefix, seq, STATES[state] as (typeof STATES)[number], pid, started, timestamp, values)}\n`;
        const fits = Buffer.byteLength(fitting.join('') + line) <= bytesMax;
        if (fits) fitting.push(line);
        const columns = values.map((one, metric) => columnOf(metric, [null, Number.isNaN(one) ? null : one]));
        const hash = unitHash(host, unit);
        const series = [Number.parseInt(hash.slice(0, 8), 16), Number.parseInt(hash.slice(8), 16), hostPart(host), unit] as const;
        expect(writer.row(...series, seq, state, pid, started, pieceOf(timestamp), columns, 1)).toBe(fits);
      }
      const first = Buffer.byteLength(fitting[0] ?? '');
      expect(Buffer.from(writer.take(first)).toString()).toBe(fitting[0] ?? '');
      expect(Buffer.from(writer.take(writer.length)).toString(), 'what is behind stays').toBe(fitting.slice(1).join(''));
    }),
    { numRuns: 5_000 },
  );
});
