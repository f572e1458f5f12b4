// Pages of the spill where the order of segments and the order of time disagree.

import { afterEach, beforeEach, expect, test } from 'vitest';
import type { RangeReply } from '#shared/contract/queries';
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
  reader = new SpillReader({ log, position: () => null, gaps: () => [], onUnreadable: () => undefined });
});
afterEach(async () => {
  await log.close();
  removeDirectory(directory);
});

function batch(seq: number, host: string, ts: number, rows: number): Entry {
  const timestamp = new Date(ts).toISOString();
  const lines = Array.from(
    { length: rows },
    (_, unit) => `${formatRow(rowPrefix(host, `unit-${unit}`), seq, 'running', 812, 5, timestamp, [1, 2, 3, 4, 5, 6, 7])}\n`,
  );
  return { log: LOG, seq, rows, bytes: Buffer.from(lines.join('')), fromMs: ts, toMs: ts };
}

async function pages(request: { from_ms: number; to_ms: number }): Promise<RangeReply[]> {
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
