import { describe, expect, test } from 'vitest';
import type { EvictionHead } from '#shared/contract/eviction';
import { CarriedCount } from '../../services/spillover/core/carried-count.ts';

const LOG = 1_763_678_400_000;
const head = (from: number, to: number, rows: number, rowsBelow: number | null, log = LOG): EvictionHead => ({
  log,
  from,
  to,
  rows,
  rowsBelow,
  crc32: 0,
  reason: 'memory',
  duplicates: [],
  dropped: 0,
});
const at = (seq: number, log = LOG) => ({ log, seq });
const unasked = (): number => {
  throw new Error('not to be asked');
};

describe('the count of rows carried', () => {
  test('is the one of the newest event; what never came shows as the difference', () => {
    const count = new CarriedCount(null, 0, 0);
    count.take(head(1, 4, 3, 3), null, 3, unasked);
    expect(count).toMatchObject({ log: LOG, rows: 3, uncountedRows: 0 });
    count.take(head(8, 9, 1, 11), at(4), 1, unasked);
    expect(count.rows).toBe(11);
  });

  test('a batch in parts counts by the rows that are new, whole or evicted again from its first row', () => {
    const count = new CarriedCount(LOG, 10, 0);
    count.take(head(5, 5, 3, 10), at(5), 3, unasked);
    expect(count.rows).toBe(13);
    count.take(head(5, 5, 4, 10), at(5), 1, unasked);
    expect(count.rows).toBe(14);
    count.take(head(5, 6, 2, 16), at(5), 2, unasked);
    expect(count.rows).toBe(16);
  });

  test('parts after a hole begin at what lies below them', () => {
    const count = new CarriedCount(LOG, 10, 0);
    count.take(head(9, 9, 3, 40), at(5), 3, unasked);
    expect(count.rows).toBe(43);
  });

  test('at a start, the last event says what the files should have: fewer are lost, more are doubled', () => {
    const lost = new CarriedCount(LOG, 99, 0);
    lost.take(head(90, 101, 11, 100), at(100), 0, unasked);
    expect(lost).toMatchObject({ rows: 100, uncountedRows: 0 });
    const doubled = new CarriedCount(LOG, 101, 0);
    doubled.take(head(90, 101, 11, 100), at(100), 0, unasked);
    expect(doubled).toMatchObject({ rows: 100, uncountedRows: 0 });
  });

  test('an earlier event, read again, says nothing', () => {
    const count = new CarriedCount(LOG, 10, 0);
    count.take(head(3, 5, 2, 4), at(9), 0, unasked);
    count.take(head(3, 9, 2, 8), at(9), 0, unasked);
    expect(count.rows).toBe(10);
  });

  test('a new log begins at 0', () => {
    const count = new CarriedCount(LOG, 10, 4);
    count.take(head(1, 3, 2, 2, LOG + 1), at(9), 2, unasked);
    expect(count).toMatchObject({ log: LOG + 1, rows: 2, uncountedRows: 0 });
  });

  test('a count that begins anew leaves out what came before', () => {
    const count = new CarriedCount(LOG, 10, 0);
    count.take(head(7, 12, 5, 5), at(9), 3, unasked);
    expect(count).toMatchObject({ rows: 5, uncountedRows: 8, isCounted: true });
    const again = new CarriedCount(LOG, 13, 8);
    again.take(head(7, 12, 5, 5), at(11), 0, unasked);
    expect(again).toMatchObject({ rows: 5, uncountedRows: 8 });
  });

  test('an event without a count ends it; the next one with a count begins at 0', () => {
    const count = new CarriedCount(LOG, 10, 0);
    count.take(head(9, 12, 3, null), at(9), 3, () => 10);
    expect(count).toMatchObject({ rows: 0, uncountedRows: 13, isCounted: false });
    count.take(head(9, 12, 3, null), at(12), 0, unasked);
    count.take(head(12, 14, 2, 2), at(12), 2, unasked);
    expect(count).toMatchObject({ rows: 2, uncountedRows: 13, isCounted: true });
  });
});
