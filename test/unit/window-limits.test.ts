import { describe, expect, test } from 'vitest';
import type { Batch } from '#shared/contract/batch';
import { METRIC_NAMES } from '#shared/contract/metrics';
import { parseRow, type Row } from '#shared/contract/row';
import { evictionEvents } from '../../services/store/core/eviction-events.ts';
import { Window } from '../../services/store/core/window.ts';
import { units } from '../../services/store/core/window-queries.ts';
import { batch, EPOCH_MS } from '../support/batches.ts';

const RETENTION_MS = 60_000;

function rowsOf(window: Window, to: number): Row[] {
  const rows: Row[] = [];
  while (window.floor < to) {
    let end = window.floor;
    for (const event of evictionEvents(window, { log: 1, to, reason: 'memory', carriesRows: true, carriedRows: 0 })) {
      end = event.to;
      for (const line of Buffer.from(event.body).toString().split('\n').slice(0, -1)) rows.push(parseRow(line) as Row);
    }
    window.evictTo(end);
  }
  return rows;
}

/** Small deterministic generator, so that a failure is repeatable. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

describe('retention', () => {
  test('a sample exactly as old as the retention is kept, one a millisecond older is evicted, once', () => {
    const window = new Window({ budgetBytes: 1 << 20, floor: 1 });
    window.append(batch({ tick: 1 }), 1, EPOCH_MS - 1, EPOCH_MS);
    window.append(batch({ tick: 2 }), 2, EPOCH_MS, EPOCH_MS);
    window.append(batch({ tick: 3 }), 3, EPOCH_MS + 1, EPOCH_MS);
    const nowMs = EPOCH_MS + RETENTION_MS;
    expect(rowsOf(window, window.firstSince(nowMs - RETENTION_MS)).map(({ seq }) => seq)).toEqual([1]);
    expect(window.rows).toBe(2);
    expect(rowsOf(window, window.firstSince(nowMs - RETENTION_MS))).toEqual([]);
    expect(rowsOf(window, window.firstSince(nowMs + 1 - RETENTION_MS)).map(({ seq }) => seq)).toEqual([2]);
  });

  test('a unit that stops reporting ages out by itself and is then unknown', () => {
    const window = new Window({ budgetBytes: 1 << 20, floor: 1 });
    window.append(batch({ tick: 1, units: ['silent', 'alive'] }), 1, EPOCH_MS, EPOCH_MS);
    for (let tick = 2; tick <= 90; tick++)
      window.append(batch({ tick, units: ['alive'] }), tick, EPOCH_MS + tick * 1000, EPOCH_MS + tick * 1000);
    const evicted = rowsOf(window, window.firstSince(EPOCH_MS + 90_000 - RETENTION_MS));
    expect(evicted.filter(({ unit }) => unit === 'silent')).toHaveLength(1);
    expect(units(window, undefined, null).units.map(({ unit }) => unit)).toEqual(['alive']);
  });

  test('a clock a day ahead on one host evicts nothing of another', () => {
    const window = new Window({ budgetBytes: 1 << 20, floor: 1 });
    window.append(batch({ tick: 1, host: 'right', ts: EPOCH_MS }), 1, EPOCH_MS, EPOCH_MS);
    window.append(batch({ tick: 1, host: 'ahead', ts: EPOCH_MS + 86_400_000 }), 2, EPOCH_MS + 10, EPOCH_MS + 10);
    expect(window.firstSince(EPOCH_MS + 20 - RETENTION_MS)).toBe(window.floor);
    expect(units(window, undefined, null).units.map(({ host }) => host)).toEqual(['ahead', 'right']);
  });
});

describe('memory', () => {
  test('five equal units at a full budget keep the same span, and none is ever empty', () => {
    const window = new Window({ budgetBytes: 131_072, floor: 1 });
    const next = random(1);
    const names = ['a', 'b', 'c', 'd', 'e'];
    for (let seq = 1; seq <= 20_000; seq++) {
      const cpu = names.map(() => Math.floor(next() * 10_000) / 100);
      window.append(batch({ tick: seq, units: names, metrics: { cpu_percent: cpu } }), seq, EPOCH_MS + seq, EPOCH_MS + seq);
      while (window.needsRoom()) window.evictTo(window.oldestBlockEnd());
      const rows = names.map((name) => window.catalog.rows[window.catalog.series('h1', name) as number]);
      expect(new Set(rows).size, `rows by unit at ${seq}: ${rows}`).toBe(1);
      expect(rows[0]).toBeGreaterThan(0);
    }
    const spans = units(window, undefined, null).units.map(({ first_ts, last_ts }) => last_ts - first_ts);
    expect(new Set(spans).size).toBe(1);
    expect(window.floor).toBeGreaterThan(1);
  });

  test('1 000 000 samples through 1 MiB: never above the budget, and window and evicted rows are every row once, value for value', () => {
    const budgetBytes = 1 << 20;
    const window = new Window({ budgetBytes, floor: 1 });
    const perBatch = 50;
    const names = Array.from({ length: perBatch }, (_, i) => `unit-${i}`);
    const make = (seq: number): Batch => {
      const next = random(seq);
      const value = (scale: number) => names.map(() => (next() < 0.1 ? null : Math.floor(next() * scale)));
      return batch({
        tick: seq,
        units: names,
        metrics: {
          cpu_percent: names.map(() => (next() < 0.1 ? null : next() < 0.5 ? Math.floor(next() * 10_000) / 100 : next() * 100)),
          rss_bytes: value(2 ** 40),
          io_read_bytes: value(2 ** 52),
          net_rx_bytes: null,
          threads: value(100),
        },
      });
    };
    let expectedSeq = 1;
    const check = (rows: readonly Row[]): void => {
      expect(rows.length % perBatch).toBe(0);
      for (let at = 0; at < rows.length; at += perBatch, expectedSeq++) {
        const reference = make(expectedSeq);
        for (let i = 0; i < perBatch; i++) {
          const row = rows[at + i] as Row;
          const { timestamp, ...metrics } = row.sample;
          const wanted = Object.fromEntries(METRIC_NAMES.map((name) => [name, reference[name]?.[i] ?? null]));
          if (
            row.seq === expectedSeq &&
            row.unit === names[i] &&
            Date.parse(timestamp) === reference.ts &&
            METRIC_NAMES.every((name) => metrics[name] === wanted[name])
          )
            continue;
          expect(row).toEqual({ seq: expectedSeq, unit: names[i], ...wanted });
        }
      }
    };
    let most = 0;
    for (let seq = 1; seq <= 1_000_000 / perBatch; seq++) {
      window.append(make(seq), seq, EPOCH_MS + seq, EPOCH_MS + seq);
      while (window.needsRoom()) check(rowsOf(window, window.oldestBlockEnd()));
      most = Math.max(most, window.bytes.total);
    }
    expect(most).toBeLessThanOrEqual(budgetBytes);
    expect(most, 'the budget is used').toBeGreaterThan(budgetBytes * 0.9);
    expect(window.rows).toBeGreaterThan(20_000);
    check(rowsOf(window, window.next));
    expect(expectedSeq - 1).toBe(1_000_000 / perBatch);
  }, 120_000);

  test('units that start again all the time keep every pid and start time, and those that are gone are forgotten', () => {
    const window = new Window({ budgetBytes: 131_072, floor: 1 });
    const names = Array.from({ length: 20 }, (_, i) => `unit-${i}`);
    const lives = (seq: number) => names.map((_, i) => (i === 0 ? 7 : Math.floor((seq + i) / (1 + (i % 5)))));
    const stateOf = (seq: number, i: number) => (i % 3 === 1 && seq % 2 === 0 ? 'missing' : 'running');
    const make = (seq: number): Batch => {
      const known = (value: (life: number, i: number) => number) =>
        lives(seq).map((life, i) => (stateOf(seq, i) === 'missing' ? null : value(life, i)));
      return {
        ...batch({ tick: seq, units: names }),
        state: names.map((_, i) => stateOf(seq, i)),
        pid: known((life, i) => i * 100_000 + (life % 5000)),
        started: known((life) => EPOCH_MS + life),
      };
    };
    let next = 1;
    let most = 0;
    const check = (rows: readonly Row[]): void => {
      for (let at = 0; at < rows.length; at += names.length, next++) {
        const expected = make(next);
        for (const [i, unit] of names.entries()) {
          expect(rows[at + i]).toMatchObject({
            seq: next,
            unit,
            state: expected.state[i],
            pid: expected.pid[i],
            started: expected.started[i],
          });
        }
      }
    };
    for (let seq = 1; seq <= 4_000; seq++) {
      window.append(make(seq), seq, EPOCH_MS + seq, EPOCH_MS + seq);
      while (window.needsRoom()) check(rowsOf(window, window.oldestBlockEnd()));
      if (seq % 37 === 0) check(rowsOf(window, window.oldestBlockEnd()));
      most = Math.max(most, window.bytes.total);
      if (seq % 500 !== 0) continue;
      const newest = units(window, undefined, null).units.map(({ unit, state, pid }) => ({ unit, state, pid }));
      const expected = make(seq);
      expect(newest.toSorted((a, b) => names.indexOf(a.unit) - names.indexOf(b.unit))).toEqual(
        names.map((unit, i) => ({ unit, state: expected.state[i], pid: expected.pid[i] })),
      );
    }
    expect(most).toBeLessThanOrEqual(131_072);
    expect(window.catalog.incarnations.size, 'of about 30 000 that there were').toBeLessThan(3 * window.rows);
    check(rowsOf(window, window.next));
    expect(next).toBe(4_001);
  });

  test('what one large batch has made grow is given back, and small ones stay', () => {
    const window = new Window({ budgetBytes: 131_072, floor: 1 });
    window.append(batch({ tick: 1, units: Array.from({ length: 10_000 }, (_, i) => `unit-${i}`) }), 1, EPOCH_MS, EPOCH_MS);
    expect(window.needsRoom()).toBe(true);
    while (window.needsRoom() && window.floor < window.next) window.evictTo(window.oldestBlockEnd());
    expect(window.needsRoom()).toBe(false);
    for (let seq = 2; seq < 50; seq++) window.append(batch({ tick: seq }), seq, EPOCH_MS + seq, EPOCH_MS + seq);
    expect(window.needsRoom()).toBe(false);
    expect(window.rows).toBe(48);
  });

  test('a range of repeated positions costs nothing by its length, and holds after a reset', () => {
    const window = new Window({ budgetBytes: 131_072, floor: 5, duplicates: [{ first: 6, last: 1e12 }] });
    expect(window.append(batch({ tick: 1 }), 5, 1, 1)).toBe('appended');
    expect(window.append(batch({ tick: 2 }), 6, 1, 1)).toBe('duplicate');
    window.reset(100, [{ first: 101, last: 101 }]);
    expect(window.rows).toBe(0);
    expect([100, 101, 102].map((seq) => window.append(batch({ tick: seq }), seq, 1, 1))).toEqual(['appended', 'duplicate', 'appended']);
  });
});
