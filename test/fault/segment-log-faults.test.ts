// Every operation of the segment log failing, once for each of them and each kind of failure. After opening again on a
// working disk: nothing lost of what was acknowledged, nothing doubled, the position that of the data.

import { appendFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Entry } from '#shared/segments/append-plan';
import { DiskFailedError, DiskFullError } from '#shared/segments/segment-errors';
import type { SegmentLog } from '#shared/segments/segment-log';
import {
  bytesOnDisk,
  entryOf,
  type Fault,
  FaultyDisk,
  LOG,
  linesOf,
  linesOnDisk,
  openLog,
  ourFiles,
  removeDirectory,
  sealed,
  temporaryDirectory,
} from '../support/segment-disk.ts';

let directory: string;
beforeEach(() => {
  directory = temporaryDirectory();
});
afterEach(() => removeDirectory(directory));

/** Appends with rotations within and between them, a batch in two parts, a batch larger than a segment, a log change. */
const APPENDS: Entry[][] = [
  [entryOf(1, 2)],
  [entryOf(2, 1), entryOf(3, 2), entryOf(5, 1)],
  [entryOf(5, 3, { from: 1 }), entryOf(6, 1)],
  [entryOf(7, 8)],
  [entryOf(8, 1), entryOf(9, 1), entryOf(10, 3), entryOf(11, 3)],
  [entryOf(2, 2, { log: LOG + 1 }), entryOf(3, 3, { log: LOG + 1 })],
];

interface Run {
  acknowledged: Entry[];
  /** The append under way when it ended: it may be in the files, whole or in part, or not. */
  doubtful: Entry[];
  problems: unknown[];
}

/** Appends everything, trying a full disk again, until it is done or the log has failed. */
async function run(disk: FaultyDisk, bytesMax: number): Promise<Run> {
  const result: Run = { acknowledged: [], doubtful: [], problems: [] };
  let log: SegmentLog | null = null;
  try {
    const opened = await openLog(directory, { disk, bytesMax, segmentBytesMax: 200 });
    log = opened.log;
    for (const append of APPENDS) {
      result.doubtful = append;
      await appendOrRetry(log, append, result.problems);
      result.acknowledged.push(...append);
      result.doubtful = [];
      await log.rescan();
    }
    await sealed(log, opened.events);
  } catch (error) {
    result.problems.push(error);
  }
  await log?.close().catch(() => undefined);
  return result;
}

async function appendOrRetry(log: SegmentLog, append: Entry[], problems: unknown[]): Promise<void> {
  const before = linesOnDisk(directory).length;
  try {
    await log.append(append);
  } catch (error) {
    problems.push(error);
    if (!(error instanceof DiskFullError)) throw error;
    expect(linesOnDisk(directory).length, 'a failed append leaves nothing').toBeLessThanOrEqual(before);
    await log.append(append);
  }
}

/** What must be there after opening again: all that was acknowledged, then perhaps a beginning of what was in doubt. */
async function expectNothingLost({ acknowledged, doubtful }: Run, note: string): Promise<void> {
  const { log, events } = await openLog(directory, { bytesMax: 1_000_000, segmentBytesMax: 200 });
  const found = linesOnDisk(directory);
  const expected = linesOf(acknowledged);
  expect(found.slice(0, expected.length), note).toEqual(expected);
  expect(linesOf(doubtful).slice(0, found.length - expected.length), note).toEqual(found.slice(expected.length));
  const last = found.at(-1);
  const sameSeq = found.length - 1 - found.findLastIndex((line) => seqOf(line) !== seqOf(last ?? ''));
  expect(log.position?.rowsOfSeq ?? 0, note).toBe(sameSeq);
  expect(log.position?.seq ?? null, note).toBe(last === undefined ? null : seqOf(last));
  expect(
    events.filter((one) => one.event !== 'tail_cut' && one.event !== 'segment_sealed'),
    note,
  ).toEqual([]);
  await sealed(log);
  expect(linesOnDisk(directory), note).toEqual(found);
  expect(
    ourFiles(directory).filter((name) => name.endsWith('.tmp')),
    note,
  ).toEqual([]);
  await log.close();
}

const seqOf = (line: string): number => Number(/,"seq":(\d+)/.exec(line)?.[1]);

/** Number of operations of a run without a fault. Sealing goes on beside, so the number varies a little: the end is when no fault fell. */
async function forEveryOperation(fault: Fault, bytesMax: number, check: (run: Run, note: string) => Promise<void>): Promise<number> {
  for (let at = 1; ; at++) {
    removeDirectory(directory);
    directory = temporaryDirectory();
    const disk = new FaultyDisk(at, fault);
    const result = await run(disk, bytesMax);
    await check(result, `${fault} at operation ${at}`);
    if (!disk.hasFailed) return at - 1;
  }
}

describe('with room for everything', () => {
  test.each(['crash', 'torn', 'EIO', 'ENOSPC', 'short', 'power cut'] as const)(
    '%s at every operation loses nothing and doubles nothing',
    async (fault) => {
      const operations = await forEveryOperation(fault, 1_000_000, expectNothingLost);
      expect(operations).toBeGreaterThan(100);
    },
    120_000,
  );

  test('a full disk never ends the log: everything is there in the end', async () => {
    let full = 0;
    await forEveryOperation('ENOSPC', 1_000_000, async ({ problems, acknowledged }, note) => {
      const failed = problems.filter((problem) => problem instanceof DiskFailedError || !(problem instanceof DiskFullError));
      // A failed sync is a failure of the disk, whatever its code: 19 syncs in this run.
      if (failed.length === 0 && problems.length > 0) {
        full++;
        if (acknowledged.length > 0) expect(linesOnDisk(directory), note).toEqual(linesOf(acknowledged));
      }
      for (const problem of failed) expect(problem, note).toBeInstanceOf(DiskFailedError);
    });
    expect(full).toBeGreaterThan(20);
  }, 120_000);

  test('a failed sync ends it: every later call is refused with the same error', async () => {
    const counting = new FaultyDisk();
    const operations: string[] = [];
    counting.check = (operation) => operations.push(operation);
    const appends = async (disk: FaultyDisk) => {
      const { log } = await openLog(directory, { disk, segmentBytesMax: 10_000 });
      await log.append([entryOf(1, 1)]);
      return { log, second: await log.append([entryOf(2, 1)]).catch((caught: unknown) => caught) };
    };
    await (await appends(counting)).log.close();
    removeDirectory(directory);
    directory = temporaryDirectory();
    const { log, second: error } = await appends(new FaultyDisk(operations.lastIndexOf('datasync') + 1, 'ENOSPC'));
    expect(error).toBeInstanceOf(DiskFailedError);
    await expect(log.append([entryOf(2, 1)])).rejects.toBe(error);
    await expect(log.rescan()).rejects.toBe(error);
    expect(log.failed).toBe(error);
    expect(log.position?.seq).toBe(1);
    await log.close();
  });
});

describe('with a small budget', () => {
  test.each(['crash', 'torn', 'EIO', 'ENOSPC', 'short'] as const)(
    '%s at every operation keeps a contiguous newest part',
    async (fault) => {
      const bytesMax = 700;
      await forEveryOperation(fault, bytesMax, async ({ acknowledged, doubtful }, note) => {
        expect(bytesOnDisk(directory), note).toBeLessThanOrEqual(bytesMax);
        const { log } = await openLog(directory, { bytesMax, segmentBytesMax: 200 });
        const found = linesOnDisk(directory);
        const all = [...linesOf(acknowledged), ...linesOf(doubtful)];
        const start = found.length === 0 ? 0 : all.indexOf(found[0] as string);
        expect(all.slice(start, start + found.length), note).toEqual(found);
        // The newest acknowledged row is never what the budget takes.
        if (acknowledged.length > 0) expect(start + found.length, note).toBeGreaterThanOrEqual(linesOf(acknowledged).length);
        await log.close();
      });
    },
    120_000,
  );

  test('is not exceeded after any operation, whatever fails', async () => {
    const bytesMax = 700;
    for (const fault of ['ENOSPC', 'short'] as const) {
      for (let at = 1; at < 200; at += 3) {
        removeDirectory(directory);
        directory = temporaryDirectory();
        const disk = new FaultyDisk(at, fault);
        disk.check = (operation) => expect(bytesOnDisk(directory), `after ${operation}, ${fault} at ${at}`).toBeLessThanOrEqual(bytesMax);
        await run(disk, bytesMax);
      }
    }
  }, 120_000);
});

/** Everything that opening repairs at once. Returns the rows that must survive. */
async function damagedDirectory(): Promise<string[]> {
  const entries = [1, 2, 3, 4].map((seq) => entryOf(seq, 3));
  const { log } = await openLog(directory, { segmentBytesMax: 200 });
  for (const entry of entries) await log.append([entry]);
  await sealed(log);
  await log.close();
  const [first, second, , active] = ourFiles(directory) as [string, string, string, string];
  const rawOf = (name: string) => join(directory, name.replace(/-\d{16}\.jsonl\.gz$/, '.jsonl'));
  writeFileSync(rawOf(first), gunzipSync(readFileSync(join(directory, first)))); // sealed, the raw file not yet removed
  writeFileSync(rawOf(second), gunzipSync(readFileSync(join(directory, second)))); // sealed only in part
  writeFileSync(join(directory, second), readFileSync(join(directory, second)).subarray(0, 50));
  writeFileSync(join(directory, `${first.replace(/1\.jsonl/, '9.jsonl')}.tmp`), 'part of a temporary');
  appendFileSync(join(directory, active), '{"n":"torn');
  return linesOf(entries);
}

function rowsMovedAside(): string[] {
  const path = join(directory, 'quarantine');
  if (!existsSync(path)) return [];
  return readdirSync(path).flatMap((name) => {
    const bytes = readFileSync(join(path, name));
    const text = (name.includes('.gz.') ? gunzipSync(bytes) : bytes).toString();
    return text.split('\n').slice(0, -1);
  });
}

describe('while opening', () => {
  test('a sync that fails is a failure of the disk, whatever its code: a second one may lie', async () => {
    const { log } = await openLog(directory);
    await log.append([entryOf(1, 1)]);
    await log.close();
    const operations: string[] = [];
    const counting = new FaultyDisk();
    counting.check = (operation) => operations.push(operation);
    await (await openLog(directory, { disk: counting })).log.close();
    const disk = new FaultyDisk(operations.indexOf('datasync') + 1, 'ENOSPC');
    await expect(openLog(directory, { disk })).rejects.toBeInstanceOf(DiskFailedError);
  });

  test.each(['crash', 'torn', 'EIO', 'ENOSPC', 'short'] as const)(
    '%s at every operation of repairing changes nothing that the next opening finds',
    async (fault) => {
      for (let at = 1; ; at++) {
        removeDirectory(directory);
        directory = temporaryDirectory();
        const rows = await damagedDirectory();
        const disk = new FaultyDisk(at, fault);
        const opened = await openLog(directory, { disk, segmentBytesMax: 200 }).catch((error: unknown) => error);
        if (opened instanceof Error)
          expect(opened, `${fault} at ${at}`).toSatisfy((error) => error instanceof DiskFailedError || error instanceof DiskFullError);
        else await (opened as { log: SegmentLog }).log.close();
        const { log, events } = await openLog(directory, { segmentBytesMax: 200 });
        const moved = fault === 'EIO' ? rowsMovedAside() : [];
        expect([...linesOnDisk(directory), ...moved].sort(), `${fault} at ${at}`).toEqual([...rows].sort());
        expect(events.filter((one) => one.event === 'segment_lost' || one.event === 'segment_deleted')).toEqual([]);
        await log.close();
        if (!disk.hasFailed) break;
      }
    },
    120_000,
  );
});
