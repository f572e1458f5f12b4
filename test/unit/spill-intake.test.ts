import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import type { EvictionEvent } from '#shared/contract/eviction';
import { formatRow, rowPrefix } from '#shared/contract/row';
import { type FilesEnd, Intake, type Intaken } from '../../services/spillover/core/intake.ts';

const LOG = 1_763_678_400_000;
const rowOf = (seq: number, unit = 'a', host = 'h') =>
  `${formatRow(rowPrefix(host, unit), seq, 'running', 1, 2, new Date(LOG + seq * 1000).toISOString(), [1, 2, 3, 4, 5, 6, 7])}\n`;

function event(from: number, to: number, lines: string[], log = LOG): EvictionEvent {
  const body = Buffer.from(lines.join(''));
  return { log, from, to, rows: lines.length, rowsBelow: null, crc32: crc32(body), reason: 'memory', duplicates: [], dropped: 0, body };
}
const filesAt = (seq: number, units: string[], log = LOG): FilesEnd => ({
  log,
  seq,
  lines: [Buffer.from(units.map((unit) => rowOf(seq, unit)).join(''))],
  toMs: LOG + seq * 1000,
});
const linesOf = (taken: Intaken) => (taken.kind === 'accepted' ? Buffer.concat(taken.entries.map(({ bytes }) => bytes)).toString() : taken);

describe('the chain', () => {
  test('the first event of an empty spill may begin anywhere', () => {
    const intake = new Intake(null);
    expect(intake.position).toBeNull();
    expect(intake.take(event(100, 102, [rowOf(100)]))).toMatchObject({ kind: 'accepted', hole: null, rows: 1 });
    expect(intake.position).toEqual({ log: LOG, seq: 102 });
  });

  test('behind the files, an event may begin at the position after the last row, and no later', () => {
    expect(new Intake(filesAt(7, ['a'])).take(event(8, 9, [rowOf(8)]))).toMatchObject({ kind: 'accepted', hole: null });
    expect(new Intake(filesAt(7, ['a'])).take(event(9, 10, [rowOf(9)]))).toEqual({ kind: 'chain_broken', expected: 8, from: 9 });
  });

  test('within one life, the rest of a batch may not be missing', () => {
    const intake = new Intake(null);
    intake.take(event(7, 7, [rowOf(7, 'a')]));
    expect(intake.position?.seq).toBe(7);
    expect(intake.take(event(8, 9, [rowOf(8)]))).toEqual({ kind: 'chain_broken', expected: 7, from: 8 });
  });

  test('a hole is believed when it is still there on reading again, with the times around it', () => {
    const intake = new Intake(null);
    intake.take(event(1, 3, [rowOf(1), rowOf(2)]));
    const next = event(6, 8, [rowOf(6), rowOf(7)]);
    expect(intake.take(next).kind).toBe('chain_broken');
    expect(intake.position?.seq).toBe(3);
    expect(intake.take(next)).toMatchObject({
      kind: 'accepted',
      rows: 2,
      hole: { log: LOG, from: 3, to: 6, fromMs: LOG + 2000, toMs: LOG + 6000 },
    });
    expect(intake.take(event(8, 9, [rowOf(8)]))).toMatchObject({ kind: 'accepted', hole: null });
  });

  test('a hole that was only a message read too early is none', () => {
    const intake = new Intake(null);
    intake.take(event(1, 3, [rowOf(1)]));
    expect(intake.take(event(6, 8, [rowOf(6)])).kind).toBe('chain_broken');
    expect(intake.take(event(3, 6, [rowOf(4)]))).toMatchObject({ kind: 'accepted', hole: null });
    expect(intake.take(event(6, 8, [rowOf(6)]))).toMatchObject({ kind: 'accepted', hole: null, rows: 1 });
  });

  test('another hole is doubted anew', () => {
    const intake = new Intake(null);
    intake.take(event(1, 3, [rowOf(1)]));
    expect(intake.take(event(6, 8, [rowOf(6)])).kind).toBe('chain_broken');
    expect(intake.take(event(7, 8, [rowOf(7)])).kind).toBe('chain_broken');
  });

  test('an event without rows moves the chain on', () => {
    const intake = new Intake(null);
    intake.take(event(1, 2, [rowOf(1)]));
    expect(intake.take(event(2, 9, []))).toMatchObject({ kind: 'accepted', entries: [], rows: 0 });
    expect(intake.position?.seq).toBe(9);
    expect(intake.take(event(9, 10, [rowOf(9)]))).toMatchObject({ kind: 'accepted', hole: null });
  });
});

test('reading an earlier event again does not move the position back', () => {
  const intake = new Intake(null);
  intake.take(event(1, 3, [rowOf(1), rowOf(2)]));
  intake.take(event(3, 9, []));
  intake.take(event(1, 3, [rowOf(1), rowOf(2)]));
  expect(intake.position).toEqual({ log: LOG, seq: 9 });
});

describe('rows that are there already', () => {
  test('below the position they are skipped, at it only those that are there', () => {
    const intake = new Intake(filesAt(7, ['a', 'c']));
    const taken = intake.take(event(6, 9, [rowOf(6), rowOf(7, 'a'), rowOf(7, 'b'), rowOf(7, 'c'), rowOf(7, 'd'), rowOf(8)]));
    expect(linesOf(taken)).toBe(rowOf(7, 'b') + rowOf(7, 'd') + rowOf(8));
    expect(taken).toMatchObject({ rows: 3, duplicateRows: 3 });
  });

  test('a batch that is evicted again from its first row, cut elsewhere, goes on where it was', () => {
    const intake = new Intake(null);
    const all = ['a', 'b', 'c', 'd', 'e'].map((unit) => rowOf(7, unit));
    expect(linesOf(intake.take(event(7, 7, all.slice(0, 3))))).toBe(all.slice(0, 3).join(''));
    expect(linesOf(intake.take(event(7, 7, all.slice(0, 2))))).toBe('');
    expect(linesOf(intake.take(event(7, 7, all.slice(2, 4))))).toBe(all[3]);
    expect(linesOf(intake.take(event(7, 8, all.slice(4))))).toBe(all[4]);
    expect(linesOf(intake.take(event(7, 8, all)))).toBe('');
  });

  test('a batch that is evicted again without a series that was removed since loses no other', () => {
    const intake = new Intake(filesAt(7, ['a', 'b', 'c']));
    const without = ['a', 'c', 'd', 'e'].map((unit) => rowOf(7, unit));
    expect(linesOf(intake.take(event(7, 8, without)))).toBe(rowOf(7, 'd') + rowOf(7, 'e'));
  });

  test('names that look like a position do not confuse it', () => {
    const names = [',"seq":9', '"timestamp":"', '\\', 'a","seq":1'];
    const lines = names.map((name) => rowOf(3, name, name));
    expect(linesOf(new Intake(null).take(event(3, 4, lines)))).toBe(lines.join(''));
    expect(linesOf(new Intake({ ...filesAt(3, []), lines: [Buffer.from(lines[0] ?? '')] }).take(event(3, 4, lines)))).toBe(
      lines.slice(1).join(''),
    );
  });
});

describe('logs', () => {
  test('a newer log begins anew, whatever its positions', () => {
    const intake = new Intake(filesAt(500, ['a']));
    expect(intake.take(event(3, 4, [rowOf(3)], LOG + 1))).toMatchObject({ kind: 'accepted', rows: 1, hole: null });
    expect(intake.position).toEqual({ log: LOG + 1, seq: 4 });
    expect(intake.take(event(6, 7, [rowOf(6)], LOG + 1)).kind).toBe('chain_broken');
  });

  test('an older log is skipped and counted, and is a problem when it is the end of the stream', () => {
    const intake = new Intake(filesAt(5, ['a']));
    expect(intake.take(event(9, 10, [rowOf(9)], LOG - 1))).toEqual({ kind: 'older_log', rows: 1 });
    expect(intake.behind).toEqual({ newest: { log: LOG - 1, seq: 10 }, files: { log: LOG, seq: 5 } });
    intake.take(event(5, 6, [rowOf(5)]));
    expect(intake.behind).toBeNull();
  });

  test('a stream that ends before the files has gone back', () => {
    const behind = (from: number, to: number, lines: string[]) => {
      const intake = new Intake(filesAt(7, ['a']));
      intake.take(event(from, to, lines));
      return intake.behind;
    };
    expect(new Intake(filesAt(7, ['a'])).behind).toBeNull();
    expect(behind(5, 7, [rowOf(5)])).toEqual({ newest: { log: LOG, seq: 7 }, files: { log: LOG, seq: 7 } });
    expect(behind(5, 8, [rowOf(5)])).toBeNull();
    expect(behind(6, 6, [rowOf(6)])).not.toBeNull();
    expect(behind(7, 7, [rowOf(7)])).toBeNull();
  });
});

describe('bodies that are not what the head says', () => {
  test.each([
    ['a row below', event(5, 7, [rowOf(4)])],
    ['a row at the end', event(5, 7, [rowOf(7)])],
    ['a row above a part', event(5, 5, [rowOf(6)])],
    ['rows out of order', event(5, 7, [rowOf(6), rowOf(5)])],
    ['no position', event(5, 7, ['{"x":1}\n'])],
    ['a position without digits', event(5, 7, ['{"x":1,"seq":"5","sample":{}}\n'])],
    ['a position that is too long', event(5, 7, ['{"x":1,"seq":00000000000000005,"sample":{}}\n'])],
    ['a position in the next line only', event(5, 7, ['{"x":1}\n', rowOf(5)])],
  ])('%s: rejected, and the state is as before', (_, bad) => {
    const intake = new Intake(filesAt(4, ['a']));
    expect(intake.take(bad).kind).toBe('rejected');
    expect(intake.position).toEqual({ log: LOG, seq: 4 });
    expect(intake.take(event(5, 6, [rowOf(5)]))).toMatchObject({ kind: 'accepted', rows: 1 });
  });
});
