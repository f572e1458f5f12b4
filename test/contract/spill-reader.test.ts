// Pages of the spill where the order of segments and the order of time disagree.

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { PointSums } from '#client/range-merge';
import type { Point, RangeReply } from '#shared/contract/queries';
import { formatRow, rowPrefix } from '#shared/contract/row';
import type { Entry } from '#shared/segments/append-plan';
import { openSegmentLog, type SegmentLog } from '#shared/segments/segment-log';
import { createRowFormat } from '../../services/spillover/core/row-fields.ts';
import { SpillReader } from '../../services/spillover/reader.ts';
import { LOG, removeDirectory, temporaryDirectory } from '../support/segment-disk.ts';

const START_MS = Date.parse('2026-11-20T22:40:00.000Z');

let directory: string;
let log: SegmentLog;
let reader: SpillReader;
beforeEach(async () => {
  directory = temporaryDirectory();
  log = await openSegmentLog({
    directory,
    prefix: 'metrics',
    bytesMax: 100_000_000,
    segmentBytesMax: 400_000,
    format: createRowFormat(),
    onEvent: () => undefined,
  });
  reader = readerOf();
});
afterEach(async () => {
  await log.close();
  removeDirectory(directory);
});

function readerOf(scanBytesMax?: number): SpillReader {
  const limit = scanBytesMax === undefined ? {} : { scanBytesMax };
  return new SpillReader({ log, position: () => null, gaps: () => [], onUnreadable: () => undefined, ...limit });
}

function batch(seq: number, host: string, ts: number, rows: number): Entry {
  const timestamp = new Date(ts).toISOString();
  const lines = Array.from(
    { length: rows },
    (_, unit) => `${formatRow(rowPrefix(host, `unit-${unit}`), seq, 'running', 812, 5, timestamp, [seq % 13, 1, unit, 3, 4, 5, seq])}\n`,
  );
  return { log: LOG, seq, rows, bytes: Buffer.from(lines.join('')), fromMs: ts, toMs: ts };
}

/** Means of means differ in the last digits. */
function rounded(points: readonly Point[]): unknown[] {
  return points.map(({ metrics, ...key }) => {
    const sums = Object.entries(metrics).map(([name, { avg, ...rest }]) => ({ name, ...rest, avg: avg?.toFixed(6) }));
    return { ...key, sums };
  });
}

interface Question {
  readonly from_ms: number;
  readonly to_ms: number;
  readonly unit?: string;
  readonly max_points?: number;
}

async function pages(request: Question): Promise<RangeReply[]> {
  const replies: RangeReply[] = [];
  for (let cursor: string | null = null; ; ) {
    const { text } = await reader.range({ ...request, cursor });
    expect(Buffer.byteLength(text)).toBeLessThanOrEqual(512 * 1024);
    const reply = JSON.parse(text) as RangeReply;
    replies.push(reply);
    cursor = reply.next;
    if (cursor === null) return replies;
  }
}

test('rows of one time are in the order of their positions, though the later ones are read first', async () => {
  // The second segment begins earlier in time, and has more than a page of rows of the first one's time.
  await log.append([batch(1, 'a', START_MS + 10, 1200)]);
  await log.append([batch(2, 'b', START_MS, 1), batch(3, 'b', START_MS + 10, 3500)]);
  expect(log.segments().length).toBeGreaterThan(1);
  const replies = await pages({ from_ms: 0, to_ms: START_MS + 1000 });
  const seqs = replies.flatMap((reply) => (reply.samples ?? []).map((sample) => sample.seq));
  expect(seqs).toEqual([2, ...new Array(1200).fill(1), ...new Array(3500).fill(3)]);
  expect(replies.length).toBeGreaterThan(2);
});

test('queries that come at once are answered one after the other, each whole', async () => {
  await log.append([batch(1, 'a', START_MS, 100), batch(2, 'a', START_MS + 1, 2000)]);
  const replies = await Promise.all(Array.from({ length: 5 }, () => pages({ from_ms: 0, to_ms: START_MS + 1000 })));
  for (const reply of replies) expect(reply.reduce((sum, page) => sum + (page.samples ?? []).length, 0)).toBe(2100);
});

describe('a reply reads no more than its limit, and the next one goes on', () => {
  const SEGMENTS = 12;
  const BATCHES = 20;
  /** Every third segment has one batch of long ago, as after an outage. */
  async function fillSegments(rows: number): Promise<number> {
    let seq = 1;
    for (let segment = 0; segment < SEGMENTS; segment++) {
      for (let i = 0; i < BATCHES; i++, seq++) {
        const isLate = segment % 3 === 2 && i === 7;
        const ts = START_MS + (isLate ? Math.floor(seq / 2) : seq) * 100;
        await log.append([batch(seq, seq % 2 === 0 ? 'a' : 'b', ts, rows)]);
      }
    }
    return seq - 1;
  }
  const whole = { from_ms: START_MS, to_ms: START_MS + 999_999 };

  beforeEach(async () => {
    expect(await fillSegments(60)).toBe(SEGMENTS * BATCHES);
    expect(log.segments().length).toBeGreaterThanOrEqual(8);
  });

  test.each([1, 450_000, 900_000])('samples: the same, each once and in order, by %i bytes a reply', async (scanBytesMax) => {
    const wanted = (await pages(whole)).flatMap((reply) => reply.samples ?? []);
    expect(wanted).toHaveLength(SEGMENTS * BATCHES * 60);
    reader = readerOf(scanBytesMax);
    expect((await pages(whole)).flatMap((reply) => reply.samples ?? [])).toEqual(wanted);
    const ofUnit = await pages({ ...whole, unit: 'unit-7' });
    expect(ofUnit.flatMap((reply) => reply.samples ?? [])).toEqual(wanted.filter(({ unit }) => unit === 'unit-7'));
    expect(ofUnit.length).toBeGreaterThanOrEqual(scanBytesMax === 900_000 ? 3 : 5);
    expect(await pages({ ...whole, unit: 'nobody' })).not.toEqual([]);
  });

  test.each([1, 900_000])('points: the same sums, by %i bytes a reply', async (scanBytesMax) => {
    // What came late falls into a bucket of another segment, and a run has more points than fit a reply.
    const question = { ...whole, max_points: 5_000 };
    const wanted = (await pages(question)).flatMap((reply) => reply.points ?? []);
    expect(wanted.reduce((sum, { metrics }) => sum + metrics.cpu_percent.count, 0)).toBe(SEGMENTS * BATCHES * 60);
    reader = readerOf(scanBytesMax);
    const replies = await pages(question);
    expect(replies.length).toBeGreaterThan(8);
    const sums = new PointSums();
    for (const reply of replies) sums.add(reply.points ?? []);
    expect(rounded(sums.sorted())).toEqual(rounded(wanted));
  });

  test('segments that are done with are not read again', async () => {
    reader = readerOf(1);
    const read = vi.spyOn(log, 'read');
    const replies = await pages({ ...whole, unit: 'nobody', max_points: 10 });
    expect(replies).toHaveLength(log.segments().length);
    expect(read).toHaveBeenCalledTimes(log.segments().length);
  });

  test('a cursor of points goes on when the oldest segments have been deleted meanwhile', async () => {
    reader = readerOf(1);
    const question = { ...whole, max_points: 10 };
    const { next } = JSON.parse((await reader.range(question)).text) as RangeReply;
    const [, , third] = log.segments();
    vi.spyOn(log, 'segments').mockReturnValue(log.segments().slice(2));
    const { points = [] } = JSON.parse((await reader.range({ ...question, cursor: next })).text) as RangeReply;
    expect(points.reduce((sum, { metrics }) => sum + metrics.cpu_percent.count, 0)).toBe(third?.rows);
  });

  test('a run of segments stays the same for all pages of its points, though one of them is deleted meanwhile', async () => {
    reader = readerOf(900_000);
    const question = { ...whole, max_points: 5_000 };
    const replies = [JSON.parse((await reader.range(question)).text) as RangeReply];
    vi.spyOn(log, 'segments').mockReturnValue(log.segments().slice(1));
    for (let next = replies[0]?.next ?? null; next !== null; next = replies.at(-1)?.next ?? null)
      replies.push(JSON.parse((await reader.range({ ...question, cursor: next })).text) as RangeReply);
    const rowsOf = (host: string, unit: string): number =>
      replies
        .flatMap(({ points = [] }) => points.filter((point) => point.host === host && point.unit === unit))
        .reduce((sum, { metrics }) => sum + metrics.cpu_percent.count, 0);
    expect(rowsOf('a', 'unit-0')).toBe((SEGMENTS * BATCHES) / 2);
    expect(rowsOf('b', 'unit-59')).toBeLessThan((SEGMENTS * BATCHES) / 2);
  });
});
