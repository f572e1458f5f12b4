// Removals in the window against a naive model: rows as an array, a removal as a filter. Every query is asked of both, and a
// second window that reads the log again from the floor must answer as the first.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Batch } from '#shared/contract/batch';
import type { SeriesKey } from '#shared/contract/series';
import { evictionEvents } from '../../services/store/core/eviction-events.ts';
import { Window } from '../../services/store/core/window.ts';
import { latest, range, rangePoints, snapshot, summary, units } from '../../services/store/core/window-queries.ts';
import { asRead, batch, EPOCH_MS } from '../support/batches.ts';

const HOSTS = ['a', 'b ü'];
const UNITS = ['u1', 'u2', 'u3'];
const SERIES: readonly SeriesKey[] = HOSTS.flatMap((host) => UNITS.map((unit) => ({ host, unit })));
const FIRST = 5;
const BUDGET_BYTES = 1 << 20;
const RETENTION_MS = 1e12;

interface ModelRow extends SeriesKey {
  readonly seq: number;
  readonly ts: number;
  readonly cpu_percent: number | null;
  readonly rss_bytes: number;
}

/** What stands at one position of the log. */
type Entry = { readonly seq: number } & (
  | { readonly kind: 'batch'; readonly batch: Batch }
  | { readonly kind: 'removal'; readonly series: SeriesKey }
  | { readonly kind: 'refused' }
);

type Command =
  /** Some have many batches, so that a series has a long run of rows in a block. */
  | { readonly kind: 'burst'; readonly host: string; readonly units: readonly string[]; readonly batches: number; readonly ts: number }
  | { readonly kind: 'repeat'; readonly share: number }
  | { readonly kind: 'remove'; readonly series: SeriesKey }
  | { readonly kind: 'refuse' | 'seal' | 'evict-block' | 'query' }
  | { readonly kind: 'evict-rows'; readonly share: number };

const share = fc.double({ min: 0, max: 1, noNaN: true });
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('burst' as const),
      host: fc.constantFrom(...HOSTS),
      units: fc.subarray(UNITS, { minLength: 1 }),
      batches: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 30, max: 50 })),
      ts: fc.nat({ max: 1_000 }),
    }),
  },
  { weight: 1, arbitrary: share.map((one): Command => ({ kind: 'repeat', share: one })) },
  { weight: 5, arbitrary: fc.constantFrom(...SERIES).map((series): Command => ({ kind: 'remove', series })) },
  { weight: 1, arbitrary: share.map((one): Command => ({ kind: 'evict-rows', share: one })) },
  {
    weight: 4,
    arbitrary: fc.constantFrom('refuse', 'seal', 'evict-block', 'query').map((kind) => ({ kind }) as Command),
  },
);

function apply(window: Window, entry: Entry): number {
  if (entry.kind === 'batch') {
    const { seq } = entry;
    const read = asRead(entry.batch, window.knownUnits);
    return window.append(read, seq, EPOCH_MS + seq, EPOCH_MS + seq) === 'appended' ? read.unit.length : 0;
  }
  window.skip(entry.seq);
  return entry.kind === 'removal' ? window.remove(entry.series) : 0;
}

class Model {
  rows: ModelRow[] = [];
  private readonly ticks = new Map<string, number>();

  /** @returns rows added or removed */
  apply(entry: Entry, floor: number): number {
    if (entry.kind === 'refused') return 0;
    if (entry.kind === 'removal') {
      const { host, unit } = entry.series;
      const before = this.rows.length;
      this.rows = this.rows.filter((row) => row.host !== host || row.unit !== unit || row.seq < floor);
      return before - this.rows.length;
    }
    const key = `${entry.batch.host} ${entry.batch.tick}`;
    if ((this.ticks.get(key) ?? Number.NEGATIVE_INFINITY) >= floor) return 0;
    this.ticks.set(key, entry.seq);
    const rows = rowsOf(entry.batch, entry.seq);
    this.rows.push(...rows);
    return rows.length;
  }
}

function rowsOf(one: Batch, seq: number): ModelRow[] {
  return one.unit.map((unit, i) => ({
    host: one.host,
    unit,
    seq,
    ts: one.ts,
    cpu_percent: one.cpu_percent?.[i] ?? null,
    rss_bytes: one.rss_bytes?.[i] as number,
  }));
}

/** Evicts as the store does. @returns the rows of the events */
function evict(window: Window, to: number): ModelRow[] {
  const rows: ModelRow[] = [];
  while (window.floor < to) {
    let at = window.floor;
    const before = rows.length;
    const [dropping] = evictionEvents(window, { log: 1, to, reason: 'memory', carriesRows: false, carriedRows: 0 });
    for (const event of evictionEvents(window, { log: 1, to, reason: 'memory', carriesRows: true, carriedRows: 0 }, 700)) {
      expect(event.from).toBe(at);
      at = event.to;
      const lines = new TextDecoder().decode(event.body).split('\n').slice(0, -1);
      expect(event.rows).toBe(lines.length);
      for (const line of lines) {
        const { host, unit, seq, sample } = JSON.parse(line);
        rows.push({ host, unit, seq, ts: Date.parse(sample.timestamp), cpu_percent: sample.cpu_percent, rss_bytes: sample.rss_bytes });
      }
    }
    expect(dropping).toMatchObject({ to: at, dropped: rows.length - before });
    window.evictTo(at);
  }
  return rows;
}

const byTime = (a: ModelRow, b: ModelRow): number => a.ts - b.ts || a.seq - b.seq || (a.unit < b.unit ? -1 : 1);
const read = (samples: readonly string[]): ModelRow[] =>
  samples.map((text) => {
    const { host, unit, seq, ts, cpu_percent, rss_bytes } = JSON.parse(text) as ModelRow;
    return { host, unit, seq, ts, cpu_percent, rss_bytes };
  });

/** Every query, asked of the window, and answered from the rows that it should hold. */
function checkQueries(window: Window, held: readonly ModelRow[]): void {
  expect(window.rows).toBe(held.length);
  expect(read(range(window, undefined, undefined, 0, 8e15, null).samples)).toEqual([...held].sort(byTime));
  const infos = units(window, undefined, null).units;
  expect(window.catalog.size).toBe(infos.length);
  for (const { host, unit } of SERIES) {
    const own = held.filter((row) => row.host === host && row.unit === unit).sort(byTime);
    const info = infos.find((one) => one.host === host && one.unit === unit);
    expect(read(latest(window, host, unit, 3, RETENTION_MS, null).samples)).toEqual(own.slice(-3));
    const points = rangePoints(window, host, unit, 0, 8e15, 1, null).points;
    if (own.length === 0) {
      expect(info).toBeUndefined();
      expect(points).toEqual([]);
      expect(summary(window, host, unit, undefined, RETENTION_MS)).toBeNull();
      expect(() => snapshot(window, host, unit, RETENTION_MS, null)).toThrow(/nothing of unit/);
      continue;
    }
    expect(info).toMatchObject({ rows: own.length, first_ts: own[0]?.ts, last_ts: own.at(-1)?.ts });
    expect(read(snapshot(window, host, unit, RETENTION_MS, null).samples)).toEqual(own);
    const cpu = own.map((row) => row.cpu_percent).filter((value) => value !== null);
    const rss = own.map((row) => row.rss_bytes);
    const metrics = {
      cpu_percent: { count: cpu.length, ...(cpu.length === 0 ? {} : { min: Math.min(...cpu), max: Math.max(...cpu), last: cpu.at(-1) }) },
      rss_bytes: { count: rss.length, min: Math.min(...rss), max: Math.max(...rss), last: rss.at(-1), avg: mean(rss) },
    };
    expect(summary(window, host, unit, undefined, RETENTION_MS)).toMatchObject({ metrics });
    expect(points).toMatchObject([{ metrics }]);
  }
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

function run(commands: readonly Command[]): void {
  const window = new Window({ budgetBytes: BUDGET_BYTES, floor: FIRST });
  const model = new Model();
  const log: Entry[] = [];
  const evicted: ModelRow[] = [];
  let added = 0;
  let removed = 0;
  const append = (entry: Omit<Extract<Entry, { kind: 'batch' }>, 'seq'> | { kind: 'refused' } | { kind: 'removal'; series: SeriesKey }) => {
    const placed = { ...entry, seq: FIRST + log.length } as Entry;
    log.push(placed);
    const changed = apply(window, placed);
    expect(changed, `${placed.kind} at ${placed.seq}`).toBe(model.apply(placed, window.floor));
    if (placed.kind === 'removal') removed += changed;
    else added += changed;
  };
  const held = (): ModelRow[] => model.rows.filter((row) => row.seq >= window.floor);
  for (const one of commands) {
    switch (one.kind) {
      case 'burst':
        for (let i = 0; i < one.batches; i++) {
          const tick = log.length;
          const spread = (scale: number) => one.units.map((_, unit) => ((tick * 31 + unit * 17) % 97) * scale);
          const cpu = spread(1).map((value) => (value % 5 === 0 ? null : value));
          const metrics = { cpu_percent: cpu, rss_bytes: spread(4096) };
          append({ kind: 'batch', batch: batch({ host: one.host, tick, ts: EPOCH_MS + one.ts + i, units: one.units, metrics }) });
        }
        break;
      case 'repeat': {
        const batches = log.filter((entry) => entry.kind === 'batch');
        const again = batches[Math.floor(one.share * (batches.length - 1))];
        if (again !== undefined) append({ kind: 'batch', batch: again.batch });
        break;
      }
      case 'remove':
        append({ kind: 'removal', series: one.series });
        break;
      case 'refuse':
        append({ kind: 'refused' });
        break;
      case 'seal':
        window.seal();
        break;
      case 'evict-block':
        evicted.push(...evict(window, window.oldestBlockEnd()));
        break;
      case 'evict-rows':
        evicted.push(...evict(window, window.floor + Math.floor((window.next - window.floor) * one.share)));
        break;
      case 'query':
        checkQueries(window, held());
        break;
    }
    expect(added, 'accepted is held, evicted or removed').toBe(window.rows + evicted.length + removed);
  }
  checkQueries(window, held());

  const again = new Window({ budgetBytes: BUDGET_BYTES, floor: window.floor, duplicates: window.duplicateRanges });
  for (const entry of log) if (entry.seq >= window.floor) apply(again, entry);
  checkQueries(again, held());

  const wanted = held();
  expect(evict(again, again.next), 'a replay evicts what the first would have').toEqual(wanted);
  expect(evict(window, window.next), 'in log order, without what was removed').toEqual(wanted);
  expect(evicted).toEqual(model.rows.slice(0, evicted.length));
  for (const empty of [window, again]) {
    expect(empty.rows).toBe(0);
    expect(empty.bytes.blocks).toBe(0);
    expect(empty.bytes.series, 'names and indexes of removed series are given back').toBe(0);
  }
}

test('the window with removals is the log without the rows they mean, for every query, eviction and replay', () => {
  fc.assert(
    fc.property(fc.array(command, { minLength: 1, maxLength: 40 }), (commands) => run(commands)),
    { numRuns: 300 },
  );
});
