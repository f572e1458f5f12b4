// The segment log against a naive model: an array of what was appended, and what the budget has taken from its beginning.
// Small limits, so that every edge is reached: segments of 200 bytes, a budget of 3 to 6 of them.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Entry } from '#shared/segments/append-plan';
import type { SegmentEvent } from '#shared/segments/segment-events';
import type { SegmentLog } from '#shared/segments/segment-log';
import {
  bytesOnDisk,
  entryOf,
  FaultyDisk,
  LOG,
  linesOf,
  linesOnDisk,
  openLog,
  readAll,
  removeDirectory,
  sealed,
  temporaryDirectory,
} from '../support/segment-disk.ts';

/** `batches` of one append: rows and padding of each, and whether it goes on with the position before. */
type Action =
  | { readonly do: 'append'; readonly batches: readonly { rows: number; padding: number; continues: boolean; gap: number }[] }
  | { readonly do: 'new_log' | 'reopen' | 'rescan' | 'settle' };

const actions: fc.Arbitrary<Action[]> = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('append' as const),
        batches: fc.array(
          fc.record({
            rows: fc.integer({ min: 1, max: 4 }),
            padding: fc.nat(60),
            continues: fc.boolean(),
            gap: fc.integer({ min: 1, max: 3 }),
          }),
          { minLength: 1, maxLength: 6 },
        ),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constantFrom('new_log' as const, 'reopen' as const, 'rescan' as const, 'settle' as const) }),
    },
  ),
  { minLength: 1, maxLength: 14 },
);

test('rows are there once and in order, but for those that were told as dropped; the sizes never exceed the budget', async () => {
  await fc.assert(
    fc.asyncProperty(actions, fc.integer({ min: 3, max: 6 }), async (script, segments) => {
      const directory = temporaryDirectory();
      try {
        await run(directory, script, segments * 200);
      } finally {
        removeDirectory(directory);
      }
    }),
    { numRuns: 150 },
  );
}, 120_000);

async function run(directory: string, script: readonly Action[], bytesMax: number): Promise<void> {
  const disk = new FaultyDisk();
  disk.check = (operation) => expect(bytesOnDisk(directory), operation).toBeLessThanOrEqual(bytesMax);
  const open = () => openLog(directory, { bytesMax, segmentBytesMax: 200, disk });
  const events: SegmentEvent[] = [];
  let opened = await open();
  let log: SegmentLog = opened.log;
  const cursor = { log: LOG, seq: 0, rows: 0 };
  const appended: Entry[] = [];
  const fitted: Entry[] = [];
  const close = async () => {
    await log.close();
    events.push(...opened.events);
  };
  for (const action of script) {
    if (action.do === 'append') {
      const entries = action.batches.map((batch) => nextEntry(cursor, batch));
      appended.push(...entries);
      const told = opened.events.length;
      await log.append(entries);
      const dropped = opened.events.slice(told).flatMap((one) => (one.event === 'rows_dropped' ? [one] : []));
      // A batch is dropped as a whole, as far as it is in this append.
      fitted.push(...entries.filter((entry) => !dropped.some((one) => one.log === entry.log && one.seq === entry.seq)));
      expect(log.position).toMatchObject({ log: cursor.log, seq: cursor.seq });
      // Rows that were dropped are counted until the log is opened again: then the position is what the data says.
      const isWhole = ![...events, ...opened.events].some((one) => one.event === 'rows_dropped' && one.seq === cursor.seq);
      if (isWhole) expect(log.position?.rowsOfSeq).toBe(cursor.rows);
      expect(log.segments().at(-1)?.isSealed ?? false).toBe(false);
    } else if (action.do === 'new_log') {
      Object.assign(cursor, { log: cursor.log + 1, seq: 0, rows: 0 });
    } else if (action.do === 'rescan') {
      await log.rescan();
    } else if (action.do === 'settle') {
      await sealed(log, opened.events);
      expect(log.diskBytes).toBe(bytesOnDisk(directory));
    } else {
      await close();
      opened = await open();
      log = opened.log;
    }
  }
  await sealed(log, opened.events);
  const lines = await readAll(log);
  await close();
  expect(linesOnDisk(directory)).toEqual(lines);
  expectAccounted(appended, fitted, lines, events);
}

function nextEntry(
  cursor: { log: number; seq: number; rows: number },
  batch: { rows: number; padding: number; continues: boolean; gap: number },
): Entry {
  if (!batch.continues || cursor.seq === 0) Object.assign(cursor, { seq: cursor.seq + batch.gap, rows: 0 });
  const entry = entryOf(cursor.seq, batch.rows, { from: cursor.rows, padding: batch.padding, log: cursor.log });
  cursor.rows += batch.rows;
  return entry;
}

/** Appended = on disk + dropped as too large + deleted with the oldest segments. */
function expectAccounted(
  appended: readonly Entry[],
  fitted: readonly Entry[],
  lines: readonly string[],
  events: readonly SegmentEvent[],
): void {
  const told = events.filter((one) => one.event !== 'segment_sealed' && one.event !== 'sealing_put_off');
  const oversize = told.flatMap((one) => (one.event === 'rows_dropped' ? [one] : []));
  const deletedRows = told.reduce((sum, one) => sum + (one.event === 'segment_deleted' ? one.segment.rows : 0), 0);
  expect(told.every((one) => one.event === 'rows_dropped' || one.event === 'segment_deleted')).toBe(true);
  const droppedRows = oversize.reduce((sum, one) => sum + one.rows, 0);
  const all = linesOf(appended).length;
  expect(lines.length + deletedRows + droppedRows).toBe(all);
  const expected = linesOf(fitted);
  expect(lines).toEqual(expected.slice(expected.length - lines.length));
}
