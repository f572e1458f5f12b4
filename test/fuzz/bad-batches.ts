// Messages that are no batches, made from good ones, each with the reason for which it must be refused. Every arm changes one thing
// that has only one reason; what might by chance still be a batch is not made.

import fc from 'fast-check';
import { BATCH_BYTES_MAX, BATCH_UNITS_MAX, type Batch, type RejectReason } from '#shared/contract/batch';
import { METRICS } from '#shared/contract/metrics';
import { knownBatch } from '../chaos/known-batch.ts';

export interface BadBatch {
  /** Last token of the subject. */
  readonly token: string;
  /** A whole header block; '' for none. */
  readonly headers: string;
  readonly payload: Uint8Array;
  readonly reason: RejectReason;
}

type Fields = Record<string, unknown>;

const HOST = 'host-0';
const START_MS = 1_763_000_000_000;
const PAYLOAD_BYTES_MAX = 1024 * 1024 - 64 * 1024;

export const goodBatch: fc.Arbitrary<Batch> = fc
  .record({ tick: fc.nat(), units: fc.integer({ min: 2, max: 6 }) })
  .map(({ tick, units }) => knownBatch(0, 999, tick, units, START_MS + tick, 1000, false));

/** Header blocks as anybody may send them: good, strange, and such that the client library throws on them. */
export const headerBlock: fc.Arbitrary<string> = fc.constantFrom(
  '',
  '',
  '',
  '',
  'NATS/1.0\r\nA: b\r\n\r\n',
  'NATS/1.0\r\n\r\n',
  'NATS/1.0 100 Idle Heartbeat\r\n\r\n',
  'NATS/1.0 503\r\n\r\n',
  'NATS/1.0 409 Message Size Exceeds MaxBytes\r\n\r\n',
  'NATS/1.0\r\nno colon\r\n\r\n',
  'NATS/1.0\r\nbad key: x\r\n\r\n',
  'NATS/1.0\r\nA: b\nc\r\n\r\n',
  'NATS/1.0\r\n: \r\n\r\n',
  'NATS/1.0\r\n__proto__: x\r\n\r\n',
  `NATS/1.0\r\nLong: ${'x'.repeat(20_000)}\r\n\r\n`,
  'nothing of the kind',
  '\u0000\u0001\ufffd',
);

const pick = <T>(values: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...values);
const encoder = new TextEncoder();

/** Replaced in the text, for numbers that JSON.stringify does not write. */
const RAW = /"@@([^"]*)@@"/g;
const textOf = (fields: Fields): string => JSON.stringify(fields).replace(RAW, '$1');

const INTEGER_COLUMNS = ['pid', 'started', ...METRICS.filter(({ type }) => type === 'integer').map(({ name }) => name)];
const FLOAT_COLUMNS = METRICS.filter(({ type }) => type === 'float').map(({ name }) => name as string);
const COLUMNS = [...INTEGER_COLUMNS, ...FLOAT_COLUMNS];

const BAD_FLOATS = [-1, -0.01, '@@1e999@@', '@@-1e999@@', '5', '', true, {}, [], [1], 'NaN'];
const BAD_INTEGERS = [...BAD_FLOATS, 1.5, 2 ** 53, 2 ** 53 + 2, '@@9007199254740993@@', 1e300];
/** A field, and a value that it never has. */
const BAD_FIELDS: readonly (readonly [string, unknown])[] = [
  ...['', 5, null, {}, 'x'.repeat(65), 'x'.repeat(400_000)].map((value) => ['boot', value] as const),
  ...[-1, 1.5, 2 ** 53, '1', null, '@@1e999@@', [1]].map((value) => ['tick', value] as const),
  ...[-1, 1.5, 8.64e15 + 2, '2026-01-01', null, '@@1e999@@'].map((value) => ['ts', value] as const),
  ...[0, -1, '1000', null, '@@1e999@@'].map((value) => ['interval_ms', value] as const),
  ...[0, 'false', null].map((value) => ['late', value] as const),
  ...[null, {}, 'api', 3, { length: 3 }].map((value) => ['unit', value] as const),
  ...[null, {}, 'running', undefined].map((value) => ['state', value] as const),
  ...[5, null, {}, []].map((value) => ['host', value] as const),
  ...[1, -1, '0', 1.5].map((value) => ['part', value] as const),
  ...[1, 0, '2'].map((value) => ['parts', value] as const),
];
const BAD_NAMES = ['', 'a\0b', '\ud800', 'a\udfffb', 'x'.repeat(256), '\n'.repeat(86), 'é'.repeat(43), 'x'.repeat(300_000)];
const BAD_TOKENS = ['=ZZ', '=', 'a=4', '=c3=a9', '=C3', '=41', '=00=', '=FF=FE', 'x'.repeat(256), '=ED=A0=80', '\u00e9'];

type Garble = (text: Buffer) => Uint8Array;

function changed(change: fc.Arbitrary<(fields: Fields, units: number) => Fields>, reason: RejectReason): fc.Arbitrary<BadBatch> {
  return fc.tuple(goodBatch, change, headerBlock).map(([batch, apply, headers]) => {
    const fields = apply({ ...batch }, batch.unit.length);
    return { token: HOST, headers, payload: encoder.encode(textOf(fields)), reason };
  });
}

function garbled(change: fc.Arbitrary<Garble>, reason: RejectReason): fc.Arbitrary<BadBatch> {
  return fc
    .tuple(goodBatch, change, headerBlock)
    .map(([batch, apply, headers]) => ({ token: HOST, headers, payload: apply(Buffer.from(JSON.stringify(batch))), reason }));
}

const elementOf = (columns: readonly string[], values: readonly unknown[]) =>
  fc.tuple(pick(columns), pick(values), fc.nat()).map(([column, value, at]) => (fields: Fields, units: number): Fields => {
    const column_ = (fields[column] as unknown[] | undefined) ?? new Array(units).fill(null);
    return { ...fields, [column]: column_.with(at % units, value) };
  });

/** Each field alone. */
const fieldsOf = (values: readonly (readonly [string, unknown])[]) =>
  pick(values).map(
    ([field, value]) =>
      (fields: Fields): Fields => ({ ...fields, [field]: value }),
  );

/** In front of everything that the batch has. */
const opening = (start: string): Garble => {
  return (text) => Buffer.from(start + text.toString().slice(1));
};
const nested = (open: string, inner: string, close: string, depth: number): Garble =>
  opening(`{"x":${open.repeat(depth)}${inner}${close.repeat(depth)},`);
const instead = (text: string): Garble => {
  return () => Buffer.from(text);
};
const tickOf = (number: string): Garble => {
  return (text) => Buffer.from(text.toString().replace('"tick":', `"tick":${number},"x":`));
};
const padded = (bytes: number): Garble => {
  return (text) => Buffer.concat([text, Buffer.alloc(bytes - text.length, ' ')]);
};
/** A byte that JSON does not allow wherever it stands: a control character, or one that is in no UTF-8 text. */
const inserted = (at: number, byte: number): Garble => {
  return (text) => {
    const place = 1 + (at % (text.length - 1));
    return Buffer.concat([text.subarray(0, place), Buffer.of(byte), text.subarray(place)]);
  };
};
const cut = (at: number): Garble => {
  return (text) => text.subarray(0, at % text.length);
};

const NO_JSON = ['null', '[]', '1', '"batch"', 'true', '{}}', "{'v':1}", '{"v":1,}', '   ', '\ufeff{}'];
const NO_JSON_NUMBER = ['NaN', 'Infinity', '-Infinity', '0x10', '01', '1.', '.5', '+1', 'undefined'];
const VERSIONS = [0, 2, -1, 1.5, '1', null, [1], {}, undefined, 'x'.repeat(1000)].map((v) => ['v', v] as const);
const NO_COLUMNS = COLUMNS.flatMap((column) => [{}, 'x', 5, true, { 0: 1, length: 1 }].map((value) => [column, value] as const));
const OTHER_HOSTS = ['host-1', 'HOST-0', 'host-0 ', 'host-0\n', '../host-0', '__proto__', '*', '>'].map((host) => ['host', host] as const);
const PROTO = ['{"__proto__":{"v":1},', '{"x":{"__proto__":null},', '{"x":[{"\\u005f_proto__":1}],'];

const otherLength = fc.tuple(pick([...COLUMNS, 'unit']), pick([-2, -1, 1, 2])).map(([column, by]) => (fields: Fields, units: number) => ({
  ...fields,
  [column]: new Array(units + by).fill(null),
}));
const twice = fc.nat().map((at) => (fields: Fields, units: number) => {
  const unit = fields['unit'] as string[];
  return { ...fields, unit: unit.with(at % units, unit[(at + 1) % units] as string) };
});
const onBadSubject = fc
  .tuple(goodBatch, pick(BAD_TOKENS), headerBlock)
  .map(([batch, token, headers]) => ({ token, headers, payload: encoder.encode(JSON.stringify(batch)), reason: 'bad_subject' as const }));

const arms: readonly fc.Arbitrary<BadBatch>[] = [
  garbled(fc.nat().map(cut), 'not_json'),
  garbled(
    fc.tuple(fc.nat(), pick([0x00, 0x01, 0x1f, 0xff, 0xfe, 0xc0])).map(([at, byte]) => inserted(at, byte)),
    'not_json',
  ),
  garbled(
    fc.uint8Array({ minLength: 1, maxLength: 200 }).map((bytes) => () => Buffer.concat([Buffer.of(0x80), bytes])),
    'not_json',
  ),
  garbled(
    fc.constant((text) => Buffer.concat([Buffer.from('\ufeff'), text])),
    'not_json',
  ),
  garbled(pick(NO_JSON).map(instead), 'not_json'),
  garbled(pick(NO_JSON_NUMBER).map(tickOf), 'not_json'),
  changed(fieldsOf(VERSIONS), 'wrong_version'),
  changed(otherLength, 'column_length'),
  changed(elementOf(INTEGER_COLUMNS, BAD_INTEGERS), 'bad_value'),
  changed(elementOf(FLOAT_COLUMNS, BAD_FLOATS), 'bad_value'),
  changed(elementOf(['state'], ['dead', '', 0, null, 'Running', {}]), 'bad_value'),
  changed(elementOf(['unit'], [5, null, {}, ['a'], true]), 'bad_value'),
  changed(fieldsOf(NO_COLUMNS), 'bad_value'),
  changed(fieldsOf(BAD_FIELDS), 'bad_value'),
  changed(elementOf(['unit'], BAD_NAMES), 'bad_name'),
  changed(fieldsOf(BAD_NAMES.map((name) => ['host', name] as const)), 'bad_name'),
  changed(fieldsOf(OTHER_HOSTS), 'host_mismatch'),
  changed(twice, 'duplicate_unit'),
  garbled(pick(PROTO).map(opening), 'forbidden_key'),
  garbled(
    pick([17, 500, 100_000]).map((depth) => nested('[', '', ']', depth)),
    'forbidden_key',
  ),
  garbled(
    pick([17, 500, 40_000]).map((depth) => nested('{"a":', '1', '}', depth)),
    'forbidden_key',
  ),
  onBadSubject,
];

/** Hundreds of kilobytes each: a few are enough. */
const largeArms: readonly fc.Arbitrary<BadBatch>[] = [
  changed(fieldsOf([['unit', Array.from({ length: BATCH_UNITS_MAX + 1 }, (_, i) => `u${i}`)]]), 'too_many_units'),
  garbled(fc.integer({ min: BATCH_BYTES_MAX + 1, max: PAYLOAD_BYTES_MAX }).map(padded), 'too_large'),
  garbled(
    pick([BATCH_BYTES_MAX + 1, PAYLOAD_BYTES_MAX]).map((bytes) => () => Buffer.alloc(bytes, '[')),
    'too_large',
  ),
];

/** One message in so many is large. */
const LARGE_IN = 500;

export const badBatch: fc.Arbitrary<BadBatch> = fc.oneof(
  { weight: LARGE_IN - 1, arbitrary: fc.oneof(...arms) },
  { weight: 1, arbitrary: fc.oneof(...largeArms) },
);
