import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Batch } from '#shared/contract/batch';
import { checkEvictionBody } from '#shared/contract/eviction';
import { STATES } from '#shared/contract/metrics';
import { formatRow, parseRow, type Row, rowPrefix } from '#shared/contract/row';
import { evictionEvents } from '../../services/store/core/eviction-events.ts';
import { Window } from '../../services/store/core/window.ts';
import { asRead, rowsOfBatch } from '../support/batches.ts';

// The model: the log as an array of messages, each with the lines it stands for, and a floor.

interface Message {
  seq: number;
  arrivalMs: number;
  lines: string[];
}

class Model {
  readonly messages: Message[] = [];
  private readonly ticks = new Map<string, number>();

  append(batch: Batch, seq: number, arrivalMs: number, floor: number): boolean {
    const key = `${batch.host}\0${batch.boot}\0${batch.part ?? ''}\0${batch.tick}`;
    const before = this.ticks.get(key);
    const isDuplicate = before !== undefined && before >= floor;
    if (!isDuplicate) this.ticks.set(key, seq);
    this.messages.push({ seq, arrivalMs, lines: isDuplicate ? [] : rowsOfBatch(batch, seq) });
    return !isDuplicate;
  }

  lines(from: number, to: number): string[] {
    return this.messages.filter(({ seq }) => seq >= from && seq < to).flatMap(({ lines }) => lines);
  }
}

const text = (body: Uint8Array): string[] => new TextDecoder().decode(body).split('\n').slice(0, -1);

const CARRIED_BEFORE = 1_000;

/** Evicts up to `to` as the store does, checks the chain of events, and returns the lines. */
function evict(window: Window, to: number, bytesMax?: number, bytesEnough?: number): string[] {
  const lines: string[] = [];
  while (window.floor < to) {
    const carriedRows = CARRIED_BEFORE + lines.length;
    const events = [...evictionEvents(window, { log: 1, to, reason: 'memory', carriesRows: true, carriedRows }, bytesMax, bytesEnough)];
    let at = window.floor;
    for (const event of events) {
      expect(event.from, 'events follow one another').toBe(at);
      expect(checkEvictionBody(event, event.body).ok).toBe(true);
      expect(event.body.length).toBeLessThanOrEqual(bytesMax ?? 512 * 1024);
      at = event.to;
      lines.push(...text(event.body));
      const below = lines.filter((line) => (parseRow(line) as Row).seq < event.to);
      expect(event.rowsBelow, 'the count of rows below the end of an event').toBe(CARRIED_BEFORE + below.length);
    }
    expect(at).toBeGreaterThan(window.floor);
    window.evictTo(at);
  }
  return lines;
}

const metric = fc.oneof(fc.constant(null), fc.nat({ max: 5000 }), fc.maxSafeNat(), fc.constant(4096 * 1000));
const cpu = fc.oneof(
  fc.constant(null),
  fc.nat({ max: 40_000 }).map((n) => n / 100),
  fc.double({ min: 0, max: 1e6, noNaN: true }),
);

const rarely = <T>(value: fc.Arbitrary<T>) => fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: value });

const batchArbitrary: fc.Arbitrary<Batch> = fc
  .record({
    host: fc.constantFrom('a', 'b ü', 'c'),
    boot: fc.constantFrom('x', 'y'),
    tick: fc.nat({ max: 200 }),
    ts: fc.nat({ max: 100_000 }),
    part: fc.constantFrom(undefined, undefined, 0, 1),
    units: fc.uniqueArray(fc.constantFrom('u1', 'u2', 'u3', 'ü "4"', 'u5'), { maxLength: 5 }),
  })
  .chain(({ host, boot, tick, ts, part, units }) => {
    const column = <T>(value: fc.Arbitrary<T>) => fc.array(value, { minLength: units.length, maxLength: units.length });
    return fc
      .record({
        state: column(fc.constantFrom(...STATES)),
        pid: column(fc.oneof(fc.constant(null), fc.nat({ max: 100_000 }))),
        started: column(fc.oneof(fc.constant(null), fc.nat({ max: 2_000_000_000_000 }))),
        cpu_percent: fc.option(column(cpu), { nil: undefined }),
        rss_bytes: column(metric),
        io_read_bytes: fc.option(column(metric), { nil: undefined }),
        threads: column(metric),
        // Extra metrics: most batches have none.
        cpu_percent_max: rarely(column(cpu)),
        pss_bytes: rarely(column(metric)),
        major_faults: rarely(column(metric)),
      })
      .map((columns) => {
        const batch = {
          v: 1,
          host,
          boot,
          tick,
          ts,
          interval_ms: 1000,
          late: false,
          ...(part === undefined ? {} : { part, parts: 2 }),
          unit: units,
          ...columns,
        };
        return Object.fromEntries(Object.entries(batch).filter(([, value]) => value !== undefined)) as unknown as Batch;
      });
  });

type Command =
  | { kind: 'append'; batch: Batch }
  | { kind: 'reject' }
  | { kind: 'seal' }
  | { kind: 'age' }
  | { kind: 'evict-block' }
  | { kind: 'evict-rows'; share: number }
  | { kind: 'retain'; share: number };
const commands = fc.array(
  fc.oneof(
    { weight: 12, arbitrary: batchArbitrary.map((batch): Command => ({ kind: 'append', batch })) },
    { weight: 1, arbitrary: fc.constant<Command>({ kind: 'reject' }) },
    { weight: 1, arbitrary: fc.constant<Command>({ kind: 'seal' }) },
    { weight: 1, arbitrary: fc.constant<Command>({ kind: 'age' }) },
    { weight: 1, arbitrary: fc.constant<Command>({ kind: 'evict-block' }) },
    { weight: 1, arbitrary: fc.double({ min: 0, max: 1, noNaN: true }).map((share): Command => ({ kind: 'evict-rows', share })) },
    { weight: 1, arbitrary: fc.double({ min: 0, max: 1, noNaN: true }).map((share): Command => ({ kind: 'retain', share })) },
  ),
  { minLength: 1, maxLength: 120 },
);

function run(list: Command[], bytesMax?: number, bytesEnough?: number): void {
  const first = 7;
  const window = new Window({ budgetBytes: 64 * 1024, floor: first });
  const model = new Model();
  let seq = first;
  let nowMs = 1_000_000;
  const evicted: string[] = [];
  for (const command of list) {
    nowMs += 100;
    switch (command.kind) {
      case 'append': {
        const read = asRead(command.batch, window.knownUnits);
        window.growthOf(read);
        expect(window.append(read, seq, nowMs, nowMs) === 'appended').toBe(model.append(command.batch, seq, nowMs, window.floor));
        seq++;
        break;
      }
      case 'reject':
        window.skip(seq);
        model.messages.push({ seq: seq++, arrivalMs: nowMs, lines: [] });
        break;
      case 'seal':
        window.seal();
        break;
      case 'age':
        if (window.isHeadOld(nowMs + 60_000)) window.seal();
        break;
      case 'evict-block':
        evicted.push(...evict(window, window.oldestBlockEnd(), bytesMax, bytesEnough));
        break;
      case 'evict-rows':
        evicted.push(...evict(window, window.floor + Math.floor((window.next - window.floor) * command.share), bytesMax, bytesEnough));
        break;
      case 'retain': {
        const cutoffMs = 1_000_000 + Math.floor((nowMs - 1_000_000) * command.share);
        const to = window.firstSince(cutoffMs);
        const expected = model.messages.filter(
          (message) => message.seq >= window.floor && message.arrivalMs < cutoffMs && message.lines.length > 0,
        );
        evicted.push(...evict(window, to, bytesMax, bytesEnough));
        for (const message of expected) expect(window.floor, 'what is older than the cutoff is gone').toBeGreaterThan(message.seq);
        const kept = model.messages.filter((message) => message.arrivalMs >= cutoffMs && message.lines.length > 0);
        for (const message of kept) if (message.seq >= window.floor) expect(message.seq).toBeGreaterThanOrEqual(window.floor);
        break;
      }
    }
    expect(window.next).toBe(seq);
    expect(window.rows).toBe(model.lines(window.floor, seq).length);
    expect(evicted.length + window.rows, 'window and evicted are everything').toBe(model.lines(first, seq).length);
  }
  expect(evicted, 'evicted rows are those below the floor, in log order').toEqual(model.lines(first, window.floor));
  checkSlices(window, model);
  const rest = evict(window, window.next, bytesMax, bytesEnough);
  expect([...evicted, ...rest], 'nothing was changed by being held').toEqual(model.lines(first, seq));
  expect(window.rows).toBe(0);
  expect(window.catalog.size).toBe(0);
  expect(window.catalog.matching(undefined, undefined)).toEqual([]);
  expect(window.bytes.blocks).toBe(0);
  expect(window.bytes.series, 'names and indexes are given back').toBeLessThan(4_000);
}

/** Every series, read piece by piece, is its lines of the model in log order. */
function checkSlices(window: Window, model: Model): void {
  const lines = model.lines(window.floor, window.next);
  const { incarnations } = window.catalog;
  for (const id of window.catalog.matching(undefined, undefined)) {
    const prefix = rowPrefix(window.catalog.hostOf(id).name, window.catalog.unitOf(id));
    const read: string[] = [];
    let newest = Number.NEGATIVE_INFINITY;
    for (const piece of window.pieces()) {
      const slice = window.sliceOf(piece, window.reading(id));
      if (slice === null) continue;
      for (let i = 0; i < slice.count; i++) {
        const incarnation = slice.columns.incarnation[i] as number;
        newest = Math.max(newest, slice.columns.ts[i] as number);
        read.push(
          formatRow(
            prefix,
            slice.columns.seq[i] as number,
            STATES[incarnations.state[incarnation] as number] as (typeof STATES)[number],
            incarnations.pid[incarnation] as number,
            incarnations.started[incarnation] as number,
            new Date(slice.columns.ts[i] as number).toISOString(),
            slice.columns.metrics.map((column) => column[i] as number),
          ),
        );
      }
    }
    expect(read).toEqual(lines.filter((line) => line.startsWith(prefix)));
    expect(window.newestTs(id)).toBe(newest);
  }
}

describe('window', () => {
  test('holds exactly the log from the floor to the head, whatever comes', () => {
    fc.assert(
      fc.property(commands, (list) => run(list)),
      { numRuns: 1_000 },
    );
  });

  test('the same when events are so small that batches are spread over several', () => {
    fc.assert(
      fc.property(commands, (list) => run(list, 1_200)),
      { numRuns: 1_000 },
    );
  });

  test('the same when one ends with the first batch with which it is large enough', () => {
    fc.assert(
      fc.property(commands, fc.integer({ min: 1, max: 3_000 }), (list, bytesEnough) => run(list, 3_000, bytesEnough)),
      { numRuns: 1_000 },
    );
  });
});
