// The parsers under mutated messages: nothing throws, what is refused is refused for its reason, and what is accepted can be written
// again to the same value.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Batch, checkBatch, encodeBatch } from '#shared/contract/batch';
import { parseBatch } from '#shared/contract/batch-reader';
import { checkEvictionBody, EVICTION_HEADERS, evictionHeaders, isFromStore, parseEvictionHead } from '#shared/contract/eviction';
import { METRIC_NAMES } from '#shared/contract/metrics';
import { formatRow, parseRow, rowPrefix, sampleOfRow } from '#shared/contract/row';
import { decodeToken } from '#shared/contract/series';
import { strayProblem } from '../../services/spillover/core/stray-event.ts';
import { badBatch, goodBatch } from '../fuzz/bad-batches.ts';
import { badEvent } from '../fuzz/bad-events.ts';
import { batch } from '../support/batches.ts';

const LOG = 1_763_678_400_000;

/** A few places of a text replaced by other text: digits, brackets, quotes, words that JSON or a row might have there. */
const edits = fc.array(
  fc.record({
    at: fc.nat(),
    length: fc.nat({ max: 12 }),
    by: fc.constantFrom(
      '',
      '0',
      '-1',
      '1.5',
      '9007199254740993',
      '1e999',
      'null',
      '"',
      '\\',
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"v":2,',
      '\n',
      'é',
      'true',
    ),
  }),
  { minLength: 1, maxLength: 4 },
);
const edited = (text: string, changes: readonly { at: number; length: number; by: string }[]): string =>
  changes.reduce((result, { at, length, by }) => {
    const start = at % (result.length + 1);
    return result.slice(0, start) + by + result.slice(start + length);
  }, text);

/** The headers of a block, as the client library reads them. */
function headersOf(block: string): (name: string) => string {
  const lines = block.split('\r\n').slice(1);
  return (name) => {
    const line = lines.find((one) => one.startsWith(`${name}:`));
    return line === undefined ? '' : line.slice(name.length + 1).trim();
  };
}

describe('batches', () => {
  test('a bad one is refused for its reason', () => {
    fc.assert(
      fc.property(badBatch, ({ token, payload, reason }) => {
        expect(parseBatch(payload, decodeToken(token))).toMatchObject({ ok: false, reason });
      }),
      { numRuns: 2_000 },
    );
  });

  test('one that was edited is refused, or is written again to an equal one', () => {
    let accepted = 0;
    fc.assert(
      fc.property(goodBatch, edits, (batch, changes) => {
        const parsed = parseBatch(Buffer.from(edited(JSON.stringify(batch), changes)), batch.host);
        if (!parsed.ok) return;
        accepted++;
        const again = parseBatch((encodeBatch(parsed.value)[0] as { payload: Uint8Array }).payload, batch.host);
        // JSON knows no negative zero: it comes back as zero.
        expect(again).toEqual({ ok: true, value: JSON.parse(JSON.stringify(parsed.value)) as Batch });
      }),
      { numRuns: 2_000 },
    );
    expect(accepted).toBeGreaterThan(20);
  });

  test('what is read without the schema is what the schema reads, whatever units are known', () => {
    let accepted = 0;
    let recognized = 0;
    const absent = fc.oneof(
      { arbitrary: fc.constant(''), weight: 6 },
      { arbitrary: fc.constantFrom(...Object.keys(batch({ tick: 1, metrics: { cpu_percent: 1 } }))), weight: 1 },
    );
    // What might end a name too soon, or be one character here and another there.
    const name = fc.oneof(
      { arbitrary: fc.constantFrom('a', 'b', 'n'), weight: 2 },
      {
        arbitrary: fc.string({
          unit: fc.constantFrom('a', 'b', '"', ',', '\\', 'n', 'u0061', '\n', ']', 'é', '\u0080', '\u00ff'),
          minLength: 1,
          maxLength: 4,
        }),
        weight: 1,
      },
    );
    const names = fc.uniqueArray(name, { minLength: 2, maxLength: 6 });
    const usual = fc
      .tuple(
        goodBatch,
        fc.option(names),
        fc.constantFrom({}, {}, {}, { part: 0, parts: 2 }, { part: 1, parts: 2 }, { part: 2, parts: 2 }),
        absent,
      )
      .map(([good, others, part, key]) => {
        const { unit, state, pid, started, ...rest } = { ...good, [key]: undefined };
        const { v, host, boot, tick, ts, interval_ms, late, ...metrics } = rest;
        const units = unit?.map((one, i) => others?.[i] ?? one);
        return { v, host, boot, tick, ts, interval_ms, late, ...part, unit: units, state, pid, started, ...metrics };
      });
    const value = fc.constantFrom(
      ...['-0', '0', '0.5', '1', '-1', '8640000000000001', '9007199254740993', '1e999', '1e308', 'null', 'true', '""', '{}', '00', '1.'],
      ...[
        '0.000000000000001',
        '12345678901.2345',
        '123456789012.3456',
        '123456789012345',
        '1234567890123456',
        '4.35',
        '.5',
        'null.5',
        '1.50',
      ],
    );
    const edit = fc.record({ at: fc.nat(), value });
    const messages = usual.chain((fields) => {
      const text = JSON.stringify(fields);
      const bytes = fc.oneof(
        fc.constant(Buffer.from(text)),
        edits.map((changes) => Buffer.from(edited(text, changes))),
        // A whole value for another one, so that most of them are still JSON.
        fc.array(edit, { maxLength: 2 }).map((changes) => Buffer.from(changes.reduce(withValue, text))),
        fc.record({ at: fc.nat(), byte: fc.nat({ max: 255 }) }).map(({ at, byte }) => {
          const other = Buffer.from(text);
          other[at % other.length] = byte;
          return other;
        }),
      );
      const units = fields.unit ?? [];
      const known = fc.oneof(
        fc.constantFrom(
          units,
          units,
          [],
          [units.join('","')],
          units.map((one) => JSON.stringify(one).slice(1, -1)),
        ),
        names,
      );
      // A batch that was read has names, and each of them once.
      return fc.tuple(
        bytes,
        fc.option(
          known.map((list) => [...new Set(list)].filter((one) => one !== '')),
          { nil: undefined },
        ),
      );
    });
    const anything = fc.oneof(
      { arbitrary: messages, weight: 5 },
      { arbitrary: badBatch.map(({ payload }) => [payload, undefined] as const), weight: 1 },
    );
    fc.assert(
      fc.property(anything, ([data, known]) => {
        const parsed = parseBatch(data, 'host-0', () => known);
        expect(parsed).toEqual(checkBatch(data, 'host-0'));
        if (parsed.ok) accepted++;
        if (parsed.ok && parsed.value.unit === known) recognized++;
      }),
      { numRuns: 20_000 },
    );
    expect(accepted).toBeGreaterThan(2_000);
    expect(recognized).toBeGreaterThan(250);
  });
});

/** Puts another value in the place of the number, the null or the string that is the `at`-th of the text. */
function withValue(text: string, { at, value }: { at: number; value: string }): string {
  const places = [...text.matchAll(/(?<=[[:,])("[^"]*"|-?[\d.]+|null|true|false)(?=[\],}])/g)];
  const place = places[at % places.length];
  return place === undefined ? text : text.slice(0, place.index) + value + text.slice(place.index + place[0].length);
}

describe('eviction events', () => {
  test('a bad one is refused for its reason', () => {
    fc.assert(
      fc.property(badEvent(LOG), ({ headers, body, reason }) => {
        const head = parseEvictionHead(headersOf(headers));
        const event = head.ok ? checkEvictionBody(head.value, body) : head;
        if (!event.ok) expect(event.reason).toBe(reason);
        else {
          expect(reason).toBe('bad_event');
          expect(isFromStore(headersOf(headers), 1)).toBe(false);
          expect(strayProblem(event.value, { log: LOG, end: 100 })).toMatch(/no store has published it$/);
        }
      }),
      { numRuns: 2_000 },
    );
  });

  test('a head that was edited is refused, or is written again to an equal one', () => {
    const good = {
      log: LOG,
      from: 5,
      to: 9,
      rows: 2,
      rowsBelow: 40,
      crc32: 7,
      reason: 'memory' as const,
      duplicates: [{ first: 9, last: 12 }],
      dropped: 3,
    };
    fc.assert(
      fc.property(fc.constantFrom(...Object.values(EVICTION_HEADERS)), edits, (name, changes) => {
        const headers = new Map(evictionHeaders(good));
        headers.set(name, edited(headers.get(name) ?? '', changes));
        const parsed = parseEvictionHead((one) => headers.get(one) ?? '');
        if (!parsed.ok) return;
        const again = new Map(evictionHeaders(parsed.value));
        expect(parseEvictionHead((one) => again.get(one) ?? '')).toEqual(parsed);
      }),
      { numRuns: 2_000 },
    );
  });

  test('only a message that names a writer and asserts its own place is from a store', () => {
    const header = (values: Record<string, string>) => (name: string) => values[name] ?? '';
    const marks = { [EVICTION_HEADERS.writer]: '0123456789abcdef', 'Nats-Expected-Last-Sequence': '6' };
    expect(isFromStore(header(marks), 7)).toBe(true);
    expect(isFromStore(header(marks), 8)).toBe(false);
    expect(isFromStore(header({ ...marks, [EVICTION_HEADERS.writer]: 'me' }), 7)).toBe(false);
    expect(isFromStore(header({ [EVICTION_HEADERS.writer]: marks[EVICTION_HEADERS.writer] as string }), 7)).toBe(false);
  });

  test("a stranger's event is believed up to the end of the log, and not beyond", () => {
    const lines = [5, 6].map((seq) => rowAt(seq));
    const body = Buffer.from(lines.map((line) => `${line}\n`).join(''));
    const event = {
      log: LOG,
      from: 5,
      to: 7,
      rows: 2,
      rowsBelow: null,
      crc32: 0,
      reason: 'memory' as const,
      duplicates: [],
      dropped: 0,
      body,
    };
    expect(strayProblem(event, { log: LOG, end: 7 })).toBeNull();
    expect(strayProblem(event, { log: LOG, end: 6 })).toMatch(/log \d+ ends at 6/);
    expect(strayProblem(event, { log: LOG - 1, end: 7 })).toMatch(/of log/);
    expect(strayProblem(event, { log: LOG + 1, end: 2 })).toBeNull();
    expect(strayProblem(event, { log: LOG - 1, end: 1 }), 'of a log without messages nothing is known').toBeNull();
    const broken = Buffer.from(body.toString().replace('"running"', '"dead"'));
    expect(strayProblem({ ...event, body: broken }, { log: LOG, end: 7 })).toMatch(/^line 1 of 2 is not a row/);
  });
});

const rowAt = (seq: number): string =>
  formatRow(rowPrefix('h', 'a'), seq, 'running', 7, Number.NaN, '2026-01-01T00:00:00.000Z', [1.5, 2, Number.NaN, 4, 5, 6, 7]);

test('a row that was edited is refused, or is written again to an equal one', () => {
  let accepted = 0;
  fc.assert(
    fc.property(edits, (changes) => {
      const row = parseRow(edited(rowAt(5), changes));
      if (row === null) return;
      accepted++;
      const sample = sampleOfRow(row);
      const values = METRIC_NAMES.map((name) => sample[name] ?? Number.NaN);
      const timestamp = new Date(sample.ts).toISOString();
      const line = formatRow(
        rowPrefix(row.host, row.unit),
        row.seq,
        row.state,
        row.pid ?? Number.NaN,
        row.started ?? Number.NaN,
        timestamp,
        values,
      );
      const again = parseRow(line);
      expect(again).not.toBeNull();
      const { unit_hash: _, timestamp: __, ...rest } = JSON.parse(JSON.stringify(sample)) as typeof sample;
      expect(sampleOfRow(again as NonNullable<typeof again>)).toMatchObject(rest);
    }),
    { numRuns: 3_000 },
  );
  expect(accepted).toBeGreaterThan(20);
});
