// Requests that the query services must answer: refused where nothing else is right, answered in some way where it depends.

import fc from 'fast-check';
import { headerBlock } from './bad-batches.ts';

export interface StrangeQuery {
  readonly service: 'query' | 'spill';
  readonly name: string;
  /** A whole header block; '' for none. */
  readonly headers: string;
  readonly payload: Uint8Array;
  /** A 4xx error is the only right answer. */
  readonly isBad: boolean;
}

const STORE = ['units', 'latest', 'snapshot', 'summary', 'range', 'info'] as const;
const SPILLOVER = ['range', 'segments', 'info'] as const;
const ENDPOINTS = [...STORE.map((name) => ['query', name] as const), ...SPILLOVER.map((name) => ['spill', name] as const)];

const SERIES = { host: 'host-0', unit: 'unit-0' };
const GOOD: { readonly [name: string]: Record<string, unknown> } = {
  units: {},
  latest: { ...SERIES, limit: 3 },
  snapshot: SERIES,
  summary: SERIES,
  range: { from_ms: 0, to_ms: 2e12 },
  segments: {},
  info: {},
};

const pick = <T>(values: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...values);
const bytesOf = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value).replace(/"@@([^"]*)@@"/g, '$1'));
const cursorOf = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

const NO_NUMBER = ['5', null, {}, [], true, '@@1e999@@'];
const NO_TIME = [...NO_NUMBER, 8.64e15 + 2, -8.64e15 - 2, 1e300];
const NO_NAME = [5, null, {}, [], true, '', 'x'.repeat(256), 'x'.repeat(300_000)];
/** Field, values that it never has, endpoints that read it. */
const BAD: readonly (readonly [string, readonly unknown[], readonly string[]])[] = [
  ['host', NO_NAME, ['units', 'latest', 'snapshot', 'summary', 'range']],
  ['unit', NO_NAME, ['latest', 'snapshot', 'summary', 'range']],
  ['limit', [...NO_NUMBER, -1, 1.5, 2 ** 53], ['latest']],
  ['since_ms', NO_TIME, ['summary']],
  ['from_ms', NO_TIME, ['range']],
  ['to_ms', NO_TIME, ['range']],
  ['max_points', [...NO_NUMBER, 0, -1, 1.5, 100_001, 2 ** 53], ['range']],
  ['below', [5, null, {}, [], { log: -1, seq: 0 }, { log: 0, seq: 2 ** 53 }], ['range']],
  ['cursor', [5, {}, [], true, 'x'.repeat(2049)], ['units', 'latest', 'snapshot', 'range', 'segments']],
];
const WRONG_CURSORS = [
  '?',
  'AAAA',
  'x',
  cursorOf(null),
  cursorOf({}),
  cursorOf([]),
  cursorOf([1]),
  cursorOf([[], {}]),
  cursorOf(new Array(400).fill(1)),
];
const WILD = [0, -1, 1e308, -1e308, 5e-324, 2 ** 53, 'host-0', '', '\ud800', '\0', '__proto__'];

const endpoint = pick(ENDPOINTS);
const named = (fields: readonly string[]) => pick(ENDPOINTS.filter(([, name]) => fields.includes(name)));

const query = (
  parts: fc.Arbitrary<{ to: readonly ['query' | 'spill', string]; payload: Uint8Array; isBad: boolean }>,
): fc.Arbitrary<StrangeQuery> =>
  fc.tuple(parts, headerBlock).map(
    ([
      {
        to: [service, name],
        payload,
        isBad,
      },
      headers,
    ]) => ({ service, name, headers, payload, isBad }),
  );

export const strangeQuery: fc.Arbitrary<StrangeQuery> = fc.oneof(
  query(
    fc
      .tuple(endpoint, fc.uint8Array({ minLength: 1, maxLength: 100 }))
      .map(([to, bytes]) => ({ to, payload: Buffer.concat([Buffer.from('{'), bytes, Buffer.of(0)]), isBad: true })),
  ),
  query(
    fc
      .tuple(endpoint, pick(['null', '[]', '5', '"x"', 'true', '{', '[['.repeat(100_000)]))
      .map(([to, text]) => ({ to, payload: Buffer.from(text), isBad: true })),
  ),
  ...BAD.map(([field, values, endpoints]) =>
    query(
      fc
        .tuple(named(endpoints), pick(values))
        .map(([to, value]) => ({ to, payload: bytesOf({ ...GOOD[to[1]], [field]: value }), isBad: true })),
    ),
  ),
  // A required field that is not there.
  query(named(['latest', 'snapshot', 'summary', 'range']).map((to) => ({ to, payload: bytesOf({}), isBad: true }))),
  query(
    fc
      .tuple(named(['units', 'range', 'segments']), pick(WRONG_CURSORS))
      .map(([to, cursor]) => ({ to, payload: bytesOf({ ...GOOD[to[1]], cursor }), isBad: true })),
  ),
  // What may be right.
  query(
    fc
      .tuple(
        named(['units', 'latest', 'snapshot', 'range', 'segments']),
        fc.array(pick(WILD), { minLength: 1, maxLength: 5 }),
        fc.boolean(),
      )
      .map(([to, parts, hasPoints]) => ({
        to,
        payload: bytesOf({ ...GOOD[to[1]], ...(hasPoints ? { max_points: 10 } : {}), cursor: cursorOf(parts) }),
        isBad: false,
      })),
  ),
  query(
    fc
      .tuple(
        named(['range']),
        pick([-8.64e15, -1, 0, 0.5, 1.7e12, 8.64e15]),
        pick([-8.64e15, -0.5, 0, 1.7e12, 8.64e15]),
        pick([1, 7, 100_000]),
      )
      .map(([to, from_ms, to_ms, max_points]) => ({ to, payload: bytesOf({ from_ms, to_ms, max_points }), isBad: false })),
  ),
  query(
    pick(['\0', '\ud800', '\n', '*', '>', '__proto__', 'constructor']).chain((unit) =>
      named(['latest', 'snapshot', 'summary', 'range']).map((to) => ({
        to,
        payload: bytesOf({ ...GOOD[to[1]], host: unit, unit }),
        isBad: false,
      })),
    ),
  ),
  query(named(['latest']).map((to) => ({ to, payload: bytesOf({ ...SERIES, limit: Number.MAX_SAFE_INTEGER }), isBad: false }))),
);
