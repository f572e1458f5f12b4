// Killed at every operation of the disk while the budget deletes: what is in segments and what counts as deleted are together
// every row once, after the kill and after what follows it.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Disk } from '#shared/segments/disk';
import { realDisk } from '#shared/segments/disk';
import { openSegmentLog, type SegmentLog } from '#shared/segments/segment-log';
import { CustodyBook } from '../../services/spillover/custody-book.ts';
import {
  entryOf,
  type Fault,
  FaultyDisk,
  LOG,
  ourFiles,
  removeDirectory,
  sealed,
  temporaryDirectory,
  testFormat,
} from '../support/segment-disk.ts';

const ROWS = 3;
const APPENDS = 8;

let directory: string;
beforeEach(() => {
  directory = temporaryDirectory();
});
afterEach(() => removeDirectory(directory));

interface Spill {
  readonly log: SegmentLog;
  readonly book: CustodyBook;
  readonly heldRows: () => number;
}

async function open(disk: Disk): Promise<Spill> {
  const book = await CustodyBook.open(disk, directory);
  const log = await openSegmentLog({
    directory,
    prefix: 'metrics',
    bytesMax: 1_000,
    segmentBytesMax: 300,
    format: testFormat,
    onEvent: () => undefined,
    beforeDeletion: (segment) => book.noteDeleted(segment),
    disk,
  });
  const heldRows = () => log.rowsIn((segment) => segment.log === LOG && !book.isDeleted(segment)) + book.deletedRows(LOG);
  return { log, book, heldRows };
}

/** Batches of {@link ROWS} rows at positions 1, 2, …, beginning behind what is there. */
async function fill({ log, heldRows }: Spill, to: number): Promise<void> {
  for (let seq = (log.position?.seq ?? 0) + 1; seq <= to; seq++) {
    await log.append([entryOf(seq, ROWS)]);
    expect(heldRows()).toBe(seq * ROWS);
  }
  await sealed(log);
}

async function operationsOf(): Promise<number> {
  const disk = new FaultyDisk();
  const spill = await open(disk);
  await fill(spill, APPENDS);
  await spill.log.close();
  expect(spill.book.deletedRows(LOG)).toBeGreaterThan(ROWS);
  removeDirectory(directory);
  directory = temporaryDirectory();
  return disk.operations;
}

describe('rows deleted by the budget count once', () => {
  test.each<Fault>(['crash', 'torn'])(
    'after a kill at every operation: %s',
    async (fault) => {
      const operations = await operationsOf();
      expect(operations).toBeGreaterThan(50);
      for (let at = 1; at <= operations; at++) {
        const disk = new FaultyDisk(at, fault);
        await open(disk)
          .then(async (spill) => {
            await fill(spill, APPENDS).catch((error: unknown) => {
              if (!disk.hasFailed) throw error;
            });
            await spill.log.close();
          })
          .catch((error: unknown) => {
            if (!disk.hasFailed) throw error;
          });
        const again = await open(realDisk);
        const end = again.log.position;
        // A batch that was torn by the kill is there in part; all others are there whole, or deleted.
        const rows = end === null ? 0 : (end.seq - 1) * ROWS + end.rowsOfSeq;
        expect(again.heldRows(), `killed at operation ${at}`).toBe(rows);
        if (end !== null && end.rowsOfSeq < ROWS) await again.log.append([entryOf(end.seq, ROWS - end.rowsOfSeq, { from: end.rowsOfSeq })]);
        await fill(again, APPENDS + 6);
        expect(again.heldRows(), `killed at operation ${at}, and filled`).toBe((APPENDS + 6) * ROWS);
        await again.log.close();
        removeDirectory(directory);
        directory = temporaryDirectory();
      }
    },
    240_000,
  );

  test('and not again when somebody puts the segment back', async () => {
    const spill = await open(realDisk);
    await fill(spill, 3);
    const name = ourFiles(directory)[0] as string;
    const bytes = readFileSync(join(directory, name));
    await fill(spill, APPENDS);
    expect(ourFiles(directory)).not.toContain(name);
    writeFileSync(join(directory, name), bytes);
    await spill.log.rescan();
    expect(spill.heldRows()).toBe(APPENDS * ROWS);
    await fill(spill, APPENDS + 6);
    writeFileSync(join(directory, name), bytes);
    await spill.log.close();
    const again = await open(realDisk);
    expect(again.heldRows()).toBe((APPENDS + 6) * ROWS);
    await again.log.close();
  });

  test('with a disk too full to write it down, the deletion goes on and is written down with the next', async () => {
    let isFull = true;
    const full: Disk = {
      ...realDisk,
      open: (path, flags) =>
        isFull && path.endsWith('custody.json.tmp')
          ? Promise.reject(Object.assign(new Error('ENOSPC: open'), { code: 'ENOSPC' }))
          : realDisk.open(path, flags),
    };
    const spill = await open(full);
    await fill(spill, APPENDS);
    const deleted = spill.book.deletedRows(LOG);
    expect(deleted).toBeGreaterThan(0);
    expect(existsSync(join(directory, 'custody.json'))).toBe(false);
    isFull = false;
    await spill.book.save();
    await spill.log.close();
    expect((await CustodyBook.open(realDisk, directory)).deletedRows(LOG)).toBe(deleted);
  });
});

test('rows that no segment could take count once, also when they come again after a start', async () => {
  const book = await CustodyBook.open(realDisk, directory);
  book.noteDropped(LOG, 7, 5);
  book.noteDropped(LOG, 7, 2);
  book.noteUncounted(LOG, 11);
  await book.save();
  const again = await CustodyBook.open(realDisk, directory);
  again.noteDropped(LOG, 7, 2);
  expect([again.droppedRows(LOG), again.uncountedRows(LOG)]).toEqual([7, 11]);
  again.noteDropped(LOG, 8, 1);
  expect([again.droppedRows(LOG), again.droppedRows(LOG + 1)]).toEqual([8, 0]);
  again.noteDropped(LOG + 1, 2, 4);
  expect([again.droppedRows(LOG), again.droppedRows(LOG + 1)]).toEqual([0, 4]);
});

test('a book that cannot be read counts nothing', async () => {
  writeFileSync(join(directory, 'custody.json'), '{"deleted":');
  const book = await CustodyBook.open(realDisk, directory);
  expect(book.deletedRows(LOG)).toBe(0);
  await book.noteDeleted({ name: '', log: LOG, first: 1, last: 2, rows: 4, fromMs: null, toMs: null });
  expect(JSON.parse(readFileSync(join(directory, 'custody.json'), 'utf8'))).toEqual({
    deleted: { log: LOG, first: 1, rows: 4 },
    dropped: null,
    uncounted: null,
  });
});
