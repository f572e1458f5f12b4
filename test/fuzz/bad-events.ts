// Messages that are no eviction events, made from one that is well formed but was published by nobody's store: its positions lie beyond
// every log. Each arm changes one thing and says for what it must be refused.

import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import type { RejectReason } from '#shared/contract/batch';
import { EVICTION_BYTES_MAX, EVICTION_HEADERS } from '#shared/contract/eviction';
import { formatRow, rowPrefix } from '#shared/contract/row';
import { headerBlock } from './bad-batches.ts';

export interface BadEvent {
  /** A whole header block; '' for none. */
  readonly headers: string;
  readonly body: Uint8Array;
  readonly reason: RejectReason;
}

interface Event {
  readonly from: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: Buffer;
}

const { log: LOG, from: FROM, to: TO, rows: ROWS, crc32: CRC, reason: REASON, duplicates: DUPLICATES, dropped: DROPPED } = EVICTION_HEADERS;
const REQUIRED = [LOG, FROM, TO, ROWS, CRC, REASON];
const HOUR_MS = 3_600_000;
/** One message in so many is large. */
const LARGE_IN = 500;
const BODY_BYTES_MAX = 1024 * 1024 - 64 * 1024;

const pick = <T>(values: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...values);
const bodyOf = (lines: readonly string[]): Buffer => Buffer.from(lines.map((line) => `${line}\n`).join(''));
const rowAt = (seq: number, unit: string): string =>
  formatRow(rowPrefix('host-0', unit), seq, 'running', 7, 8, '2026-01-01T00:00:00.000Z', [1.5, 2, 3, 4, 5, 6, 7]);

const blockOf = (headers: ReadonlyMap<string, string>): string =>
  `NATS/1.0\r\n${[...headers].map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`;

const withHeader = (event: Event, name: string, value: string): Event => ({
  ...event,
  headers: new Map([...event.headers, [name, value]]),
});

/** With the checksum and the number of rows that the body has. */
function withBody(event: Event, body: Buffer): Event {
  const counted = withHeader({ ...event, body }, ROWS, `${body.filter((byte) => byte === 0x0a).length}`);
  return withHeader(counted, CRC, hex(crc32(body)));
}

const hex = (crc: number): string => (crc >>> 0).toString(16).padStart(8, '0');

function withoutHeader(event: Event, name: string): Event {
  const headers = new Map(event.headers);
  headers.delete(name);
  return { ...event, headers };
}

/** One bit of the body turned, under the old checksum. */
function withFlippedBit(event: Event, at: number): Event {
  const body = Buffer.from(event.body);
  body[at % body.length] = (body[at % body.length] as number) ^ 1;
  return { ...event, body };
}

const NO_NUMBER = [
  ...['', '-1', '1.5', '1e3', 'NaN', 'Infinity', '0x10', '1 2', '\u0000'],
  ...['99999999999999999', '9007199254740993', 'x'.repeat(5_000)],
];
/** Of a row that lies within the log, so that only this can be the reason. */
const BAD_ROW_FIELDS = [
  { unit_hash: null },
  { host: '' },
  { unit: 5 },
  { state: 'dead' },
  { pid: -1 },
  { started: 'now' },
  { sample: { timestamp: 'now' } },
  { sample: { timestamp: '2026-01-01T00:00:00.000Z', cpu_percent: 'much' } },
  { sample: null },
];
/** For an event from `from` to two positions later. */
const BAD_BODIES: readonly ((from: number) => Buffer)[] = [
  (from) => bodyOf([rowAt(from, 'a')]).subarray(0, -1),
  (from) => bodyOf([rowAt(from + 1, 'a'), rowAt(from, 'a')]),
  (from) => bodyOf([rowAt(from - 1, 'a')]),
  (from) => bodyOf([rowAt(from + 1000, 'a')]),
  () => bodyOf(['', '{', 'null', 'x,"seq":5,']),
  () => Buffer.from([0, 1, 2, 0xff, 0x0a]),
  () => Buffer.from('no line break'),
];

/** @param log identity of the log under test */
export function badEvent(log: number): fc.Arbitrary<BadEvent> {
  const good = fc.record({ from: fc.integer({ min: 1e12, max: 2e15 }), rows: fc.integer({ min: 2, max: 5 }) }).map(({ from, rows }) => {
    const headers = new Map(Object.entries({ [LOG]: `${log}`, [FROM]: `${from}`, [TO]: `${from + rows}`, [REASON]: 'memory' }));
    const lines = Array.from({ length: rows }, (_, i) => rowAt(from + i, 'a'));
    return withBody({ from, headers, body: Buffer.alloc(0) }, bodyOf(lines));
  });
  const changed = <T>(values: fc.Arbitrary<T>, change: (event: Event, value: T) => Event, reason: RejectReason = 'bad_event') =>
    fc.tuple(good, values).map(([event, value]): BadEvent => {
      const { headers, body } = change(event, value);
      return { headers: blockOf(headers), body, reason };
    });
  const header = (name: string, values: readonly string[]) => changed(pick(values), (event, value) => withHeader(event, name, value));

  const arms: readonly fc.Arbitrary<BadEvent>[] = [
    changed(fc.constant(null), (event) => event), // well formed, and a stranger's
    changed(pick(REQUIRED), withoutHeader),
    ...[LOG, FROM, TO, ROWS].map((name) => header(name, NO_NUMBER)),
    header(FROM, ['0']),
    changed(fc.constant(null), (event) => withHeader(event, TO, `${event.from - 1}`)),
    header(LOG, [`${log + 1}`, `${log + HOUR_MS}`, '9999999999999', '99999999999999']),
    header(CRC, ['', 'xyz', '1234567', '123456789', 'DEADBEEF']),
    changed(fc.integer({ min: 1, max: 2 ** 32 - 1 }), (event, by) => withHeader(event, CRC, hex(crc32(event.body) ^ by)), 'bad_checksum'),
    changed(fc.nat(), withFlippedBit, 'bad_checksum'),
    header(REASON, ['', 'MEMORY', 'because', '__proto__']),
    header(DUPLICATES, ['x', '5-', '9-5', '5,5', '-', '1,,2', '7-99999999999999999', '7-9007199254740993', ',']),
    header(DROPPED, ['-1', 'x', '99999999999999999']),
    changed(pick([-1, 1, 1000]), (event, by) => withHeader(event, ROWS, `${Number(event.headers.get(ROWS)) + by}`)),
    changed(pick(BAD_BODIES), (event, make) => withBody(event, make(event.from))),
    changed(pick(BAD_ROW_FIELDS), (event, fields) => {
      const row = { ...(JSON.parse(rowAt(1, 'a')) as object), ...fields };
      return withBody(withHeader(withHeader(event, FROM, '1'), TO, '1'), bodyOf([JSON.stringify(row)])); // a part: no floor moves
    }),
    fc.tuple(headerBlock, fc.uint8Array({ maxLength: 300 })).map(([headers, body]) => ({ headers, body, reason: 'bad_event' as const })),
  ];
  const large: readonly fc.Arbitrary<BadEvent>[] = [
    changed(pick([EVICTION_BYTES_MAX + 1, BODY_BYTES_MAX]), (event, bytes) => withBody(event, Buffer.alloc(bytes, '\n')), 'too_large'),
    header(DUPLICATES, [`${'1-2,'.repeat(10_000)}x`]),
  ];
  return fc.oneof({ weight: LARGE_IN - 1, arbitrary: fc.oneof(...arms) }, { weight: 1, arbitrary: fc.oneof(...large) });
}
