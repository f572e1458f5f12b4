import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Aggregate } from '../../services/store/core/aggregate.ts';
import {
  addColumnPart,
  ByteReader,
  ByteWriter,
  decodeColumn,
  decodeColumnPart,
  encodeColumn,
  GROUP,
  type GroupPart,
} from '../../services/store/core/group-codec.ts';

/** @param starts where a series begins beside the first value */
function roundTrip(values: number[], starts: readonly number[] = []): { out: number[]; bytes: number } {
  const marks = new Uint8Array(values.length);
  for (const at of starts) if (at < values.length) marks[at] = 1;
  const writer = new ByteWriter(4);
  encodeColumn(writer, Float64Array.from(values), marks, values.length);
  const bytes = writer.length;
  writer.byte(0xa5);
  const reader = new ByteReader(writer.packed());
  const out = new Float64Array(values.length + 1).fill(-1);
  decodeColumn(reader, out, marks, values.length);
  expect(reader.byte(), 'the reader stops where the column ends').toBe(0xa5);
  expect(out[values.length], 'nothing is written behind the column').toBe(-1);
  return { out: [...out.subarray(0, values.length)], bytes };
}

/** Reads the column series by series, in the two ways there are. */
function readParts(values: number[], starts: readonly number[]): void {
  const begins = [...new Set([0, ...starts.filter((at) => at < values.length)])].sort((a, b) => a - b);
  const marks = Uint8Array.from(values, (_, i) => (begins.includes(i) ? 1 : 0));
  const writer = new ByteWriter();
  encodeColumn(writer, Float64Array.from(values), marks, values.length);
  const end = writer.length;
  const packed = writer.packed();
  for (const [i, first] of begins.entries()) {
    const expected = values.slice(first, begins[i + 1]);
    const part: GroupPart = { count: values.length, series: begins.length, first, length: expected.length, seriesBefore: i };
    const out = new Float64Array(expected.length + 2).fill(-1);
    const [reading, adding] = [new ByteReader(packed), new ByteReader(packed)];
    decodeColumnPart(reading, part, out, 1);
    expect([...out]).toEqual([-1, ...expected, -1]);
    const known = expected.filter((value) => !Number.isNaN(value));
    const aggregate = new Aggregate();
    expect(addColumnPart(adding, part, aggregate)).toBe(known.length);
    const { count, sum, min, max } = aggregate;
    expect([count, min, max]).toEqual([known.length, Math.min(...known), Math.max(...known)]);
    const exact = known.reduce((a, b) => a + b, 0);
    expect(sum === exact || Math.abs(sum - exact) <= exact * 1e-12, `${sum} for ${exact}`).toBe(true);
    expect([reading.offset, adding.offset], 'the readers stop where the column ends').toEqual([end, end]);
  }
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
const columns = fc.oneof(
  ...[count, percent, anything, fc.oneof(count, percent), fc.oneof(count, anything)].flatMap((value) => [
    fc.array(value, { minLength: 1, maxLength: GROUP }),
    fc.array(withNulls(value), { minLength: 1, maxLength: GROUP }),
  ]),
);
const starts = fc.oneof(fc.constant([]), fc.array(fc.nat({ max: GROUP - 1 })), fc.constant([...Array(GROUP).keys()]));

describe('group codec', () => {
  test('gives back exactly the numbers that came in, whatever series they belong to', () => {
    fc.assert(
      fc.property(columns, starts, (values, begins) => sameNumbers(roundTrip(values, begins).out, values)),
      { numRuns: 5_000 },
    );
  });

  test('a series by itself, its values or what they add up to', () => {
    const alike = fc.array(withNulls(fc.constant(7.5)), { minLength: 1, maxLength: GROUP });
    fc.assert(fc.property(fc.oneof({ weight: 10, arbitrary: columns }, { weight: 1, arbitrary: alike }), starts, readParts), {
      numRuns: 1_000,
    });
  });

  test('counters with resets, walks and sparse changes', () => {
    const step = fc.oneof(
      { weight: 5, arbitrary: fc.constant(0) },
      { weight: 2, arbitrary: fc.integer({ min: -300, max: 300 }) },
      { weight: 1, arbitrary: fc.integer({ min: -(2 ** 45), max: 2 ** 45 }) },
    );
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: GROUP }), starts, (steps, begins) => {
        let value = 10_000;
        const values = steps.map((one) => (value = Math.max(0, value + one)));
        return sameNumbers(roundTrip(values, begins).out, values);
      }),
      { numRuns: 2_000 },
    );
  });

  test('costs what the field expects: nothing for null, a value for a constant, bits for a walk', () => {
    const of = (value: (i: number) => number, begins: number[] = []) =>
      roundTrip(
        Array.from({ length: GROUP }, (_, i) => value(i)),
        begins,
      ).bytes;
    expect(of(() => Number.NaN)).toBe(1);
    expect(of(() => 104_857_600)).toBeLessThanOrEqual(6);
    expect(of((i) => i * 1000)).toBeLessThanOrEqual(12);
    expect(of((i) => 100_000 + ((i * 7919) % 200)) / GROUP, 'bytes a value of a walk of 200').toBeLessThan(1.2);
    expect(of((i) => 4096 * (25_000 + Math.floor(i / 10))) / GROUP, 'bytes a value when one in ten changes').toBeLessThan(0.35);
  });

  test('a value a series costs what tells the series apart, not a value each', () => {
    const everyOne = [...Array(GROUP).keys()];
    const { bytes } = roundTrip(
      everyOne.map((i) => ((i * 7919) % 10_000) / 100),
      everyOne,
    );
    expect(bytes / GROUP).toBeLessThan(14 / 8 + 0.1);
  });
});
