// The intake against a naive model: whatever is delivered how often, cut how, in the order a log reader can produce, every
// row comes out once, in log order.

import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { EvictionEvent } from '#shared/contract/eviction';
import { formatRow, rowPrefix } from '#shared/contract/row';
import type { Entry } from '#shared/segments/append-plan';
import { type FilesEnd, Intake } from '../../services/spillover/core/intake.ts';

const LOG = 1_763_678_400_000;
const VALUES = [1.5, 100, 0, 0, Number.NaN, Number.NaN, 3];

function rowOf(seq: number, unit: number): string {
  const timestamp = new Date(LOG + seq * 1000).toISOString();
  return `${formatRow(rowPrefix('h', `u${unit}`), seq, 'running', 1, 2, timestamp, VALUES)}\n`;
}

function eventOf(from: number, to: number, lines: readonly string[], log = LOG): EvictionEvent {
  const body = Buffer.from(lines.join(''));
  return { log, from, to, rows: lines.length, rowsBelow: null, crc32: crc32(body), reason: 'memory', duplicates: [], dropped: 0, body };
}

/** Number of rows of each position, from 1; 0 is an empty position. */
type Log = readonly number[];
const logs: fc.Arbitrary<Log> = fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 12 });

function batch(log: Log, seq: number): string[] {
  return Array.from({ length: log[seq - 1] as number }, (_, unit) => rowOf(seq, unit));
}

function allRows(log: Log): string[] {
  return log.flatMap((_, i) => batch(log, i + 1));
}

/** Events of a store that evicts `[from, to)` of the log, cutting where `cuts` says; a batch with more than 2 rows is cut in parts. */
function evict(log: Log, from: number, to: number, cuts: ReadonlySet<number>, partRows: number): EvictionEvent[] {
  const events: EvictionEvent[] = [];
  let start = from;
  let lines: string[] = [];
  const flush = (end: number) => {
    if (start < end) events.push(eventOf(start, end, lines));
    start = end;
    lines = [];
  };
  for (let seq = from; seq < to; seq++) {
    const rows = batch(log, seq);
    if (rows.length > partRows) {
      flush(seq);
      while (rows.length > partRows) events.push(eventOf(seq, seq, rows.splice(0, partRows)));
    }
    lines.push(...rows);
    if (cuts.has(seq)) flush(seq + 1);
  }
  flush(to);
  return events;
}

/** A stream written by a store that was restarted: each life starts at the floor that the last event said. */
const streams = logs.chain((log) =>
  fc
    .array(
      fc.record({
        cuts: fc.array(fc.integer({ min: 1, max: log.length })),
        partRows: fc.integer({ min: 1, max: 4 }),
        published: fc.nat(12),
      }),
      { minLength: 1, maxLength: 4 },
    )
    .map((lives) => {
      const events: EvictionEvent[] = [];
      let floor = 1;
      lives.forEach(({ cuts, partRows, published }, i) => {
        const all = evict(log, floor, log.length + 1, new Set(cuts), partRows);
        const out = i === lives.length - 1 ? all : all.slice(0, published);
        events.push(...out);
        floor = out.at(-1)?.to ?? floor;
      });
      return { log, events };
    }),
);

class Files {
  entries: Entry[] = [];

  get lines(): string[] {
    return this.entries.flatMap(({ bytes }) =>
      Buffer.from(bytes)
        .toString()
        .split('\n')
        .slice(0, -1)
        .map((line) => `${line}\n`),
    );
  }

  /** What is read back after a crash in which only the first `rows` rows had been written. */
  end(rows: number): FilesEnd | null {
    const lines = this.lines.slice(0, rows);
    const last = lines.at(-1);
    this.entries = [{ log: LOG, seq: 0, rows, bytes: Buffer.from(lines.join('')), fromMs: null, toMs: null }];
    if (last === undefined) return null;
    const seqOf = (line: string) => (JSON.parse(line) as { seq: number }).seq;
    const seq = seqOf(last);
    return { log: LOG, seq, lines: [Buffer.from(lines.filter((line) => seqOf(line) === seq).join(''))], toMs: LOG + seq * 1000 };
  }
}

/** Takes events as the shard does: reads again once where the chain is broken. Returns the holes. */
function takeAll(intake: Intake, events: readonly EvictionEvent[], files: Files): unknown[] {
  const holes: unknown[] = [];
  for (const event of events) {
    let taken = intake.take(event);
    if (taken.kind === 'chain_broken') taken = intake.take(event);
    if (taken.kind !== 'accepted') throw new Error(JSON.stringify(taken));
    if (taken.hole !== null) holes.push(taken.hole);
    expect(taken.entries.reduce((sum, entry) => sum + entry.rows, 0)).toBe(taken.rows);
    expect(taken.rows + taken.duplicateRows).toBe(event.rows);
    files.entries.push(...taken.entries);
  }
  return holes;
}

describe('every row once, in order', () => {
  test('with store restarts in the middle of batches, and reading restarts anywhere', () => {
    fc.assert(
      fc.property(streams, fc.array(fc.nat(40), { maxLength: 5 }), ({ log, events }, restarts) => {
        const files = new Files();
        let intake = new Intake(null);
        let at = 0;
        for (const restart of restarts) {
          // Reads on, then goes back to any earlier place: the reader was made anew.
          const to = Math.max(at, Math.min(events.length, restart));
          expect(takeAll(intake, events.slice(at, to), files)).toEqual([]);
          at = Math.min(restart % 7, to);
        }
        expect(takeAll(intake, events.slice(at), files)).toEqual([]);
        expect(files.lines).toEqual(allRows(log));
        expect(intake.position?.seq ?? 0).toBe(log.length + 1);
        expect(intake.behind).toBeNull();
        // Once more from the beginning, by a new process.
        intake = new Intake(files.end(Number.POSITIVE_INFINITY));
        expect(takeAll(intake, events, files)).toEqual([]);
        expect(files.lines).toEqual(allRows(log));
      }),
      { numRuns: 500 },
    );
  });

  test('with a crash after any row was written, reading from any event that is not above the position', () => {
    fc.assert(
      fc.property(streams, fc.nat(60), fc.nat(20), ({ log, events }, rows, back) => {
        const files = new Files();
        takeAll(new Intake(null), events, files);
        const end = files.end(rows);
        // The stream is purged at most up to the last event that brought rows of what is in the files.
        const last =
          end === null
            ? 0
            : events.findIndex((event) => Buffer.from(event.body).includes(end.lines[0]?.toString().split('\n').at(-2) ?? ''));
        const start = Math.max(0, last - back);
        expect(takeAll(new Intake(end), events.slice(start), files)).toEqual([]);
        expect(files.lines).toEqual(allRows(log));
      }),
      { numRuns: 500 },
    );
  });

  test('a missing event is a hole of exactly its positions, unless it carried no row that was missing', () => {
    fc.assert(
      fc.property(logs, fc.array(fc.integer({ min: 1, max: 12 })), fc.nat(11), (log, cuts, pick) => {
        const events = evict(log, 1, log.length + 1, new Set(cuts), 100);
        fc.pre(events.length >= 3);
        const missing = 1 + (pick % (events.length - 2));
        const files = new Files();
        const intake = new Intake(null);
        const before = events[missing] as EvictionEvent;
        const holes = takeAll(
          intake,
          events.filter((_, i) => i !== missing),
          files,
        );
        expect(holes).toMatchObject([{ log: LOG, from: before.from, to: before.to }]);
        const lost = new Set(
          Buffer.from(before.body)
            .toString()
            .split('\n')
            .slice(0, -1)
            .map((line) => `${line}\n`),
        );
        expect(files.lines).toEqual(allRows(log).filter((line) => !lost.has(line)));
      }),
    );
  });
});
