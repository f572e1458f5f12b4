import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ByteReader, ByteWriter, decodeRun, encodeRun } from '../../services/store/core/run-codec.ts';

function roundTrip(values: number[]): { out: number[]; bytes: number } {
  const writer = new ByteWriter(4);
  encodeRun(writer, Float64Array.from(values), values.length);
  const bytes = writer.length;
  writer.byte(0xa5);
  const reader = new ByteReader(writer.bytes.slice(0, writer.length));
  const out = new Float64Array(values.length + 1).fill(-1);
  decodeRun(reader, out, values.length);
  expect(reader.byte(), 'the reader stops where the run ends').toBe(0xa5);
  expect(out[values.length], 'nothing is written behind the run').toBe(-1);
  return { out: [...out.subarray(0, values.length)], bytes };
}

const sameNumbers = (a: number[], b: number[]): boolean =>
  a.length === b.length && a.every((value, i) => value === b[i] || (Number.isNaN(value) && Number.isNaN(b[i])));

const count = fc.oneof(
  fc.nat({ max: 300 }),
  fc.maxSafeNat(),
  fc.nat({ max: 1_000_000 }).map((n) => n * 4096),
  fc.constantFrom(0, 1, 2 ** 31, 2 ** 32, 2 ** 32 - 1, 2 ** 51, 2 ** 52, Number.MAX_SAFE_INTEGER),
);
const percent = fc.nat({ max: 1_000_000 }).map((n) => n / 100);
const anything = fc.double({ noNaN: true, noDefaultInfinity: true, min: 0 });
const withNulls = (value: fc.Arbitrary<number>) =>
  fc.oneof({ weight: 4, arbitrary: value }, { weight: 1, arbitrary: fc.constant(Number.NaN) });
const runs = fc.oneof(
  ...[count, percent, anything, fc.oneof(count, percent), fc.oneof(count, anything)].flatMap((value) => [
    fc.array(value, { minLength: 1, maxLength: 400 }),
    fc.array(withNulls(value), { minLength: 1, maxLength: 400 }),
  ]),
);

describe('run codec', () => {
  test('gives back exactly the numbers that came in', () => {
    fc.assert(
      fc.property(runs, (values) => sameNumbers(roundTrip(values).out, values)),
      { numRuns: 3_000 },
    );
  });

  test('counters with resets, walks and sparse changes of any length', () => {
    const step = fc.oneof(
      { weight: 5, arbitrary: fc.constant(0) },
      { weight: 2, arbitrary: fc.integer({ min: -300, max: 300 }) },
      { weight: 1, arbitrary: fc.integer({ min: -(2 ** 33), max: 2 ** 33 }) },
    );
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 600 }), (steps) => {
        let value = 10_000;
        const values = steps.map((one) => (value = Math.max(0, value + one)));
        return sameNumbers(roundTrip(values).out, values);
      }),
      { numRuns: 1_000 },
    );
  });

  test('costs what the field expects: nothing for null, a value for a constant, bits for a walk', () => {
    const of = (size: number, value: (i: number) => number) => roundTrip(Array.from({ length: size }, (_, i) => value(i))).bytes;
    expect(of(1000, () => Number.NaN)).toBe(1);
    expect(of(1000, () => 104_857_600)).toBeLessThanOrEqual(6);
    expect(of(1000, (i) => i * 1000)).toBeLessThanOrEqual(50);
    expect(of(1000, (i) => 100_000 + ((i * 7919) % 200)) / 1000, 'bytes a value of a walk of 200').toBeLessThan(1.2);
    expect(of(1000, (i) => 4096 * (25_000 + Math.floor(i / 10))) / 1000, 'bytes a value when one in ten changes').toBeLessThan(0.2);
  });
});
