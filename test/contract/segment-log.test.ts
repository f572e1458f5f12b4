// The segment log on a real disk: rotation, sealing, budget, recovery.

import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type DiskFile, realDisk } from '#shared/segments/disk';
import { readGzipMetadata } from '#shared/segments/gzip-member';
import { DirectoryRefusedError, DiskFailedError, SegmentLimitError, SegmentUnreadableError } from '#shared/segments/segment-errors';
import { eventually } from '../support/eventually.ts';
import {
  bytesOnDisk,
  entryOf,
  FaultyDisk,
  LOG,
  line,
  linesOf,
  linesOnDisk,
  openLog,
  ourFiles,
  readAll,
  removeDirectory,
  sealed,
  temporaryDirectory,
  zcat,
} from '../support/segment-disk.ts';

let directory: string;
beforeEach(() => {
  directory = temporaryDirectory();
});
afterEach(() => removeDirectory(directory));

const raw = (first: number, log = LOG) => `metrics-${log}-${String(first).padStart(16, '0')}.jsonl`;
const gz = (first: number, last: number) => `metrics-${LOG}-${String(first).padStart(16, '0')}-${String(last).padStart(16, '0')}.jsonl.gz`;

async function readText(blocks: AsyncIterable<Buffer>): Promise<string> {
  let text = '';
  for await (const block of blocks) text += block.toString();
  return text;
}

describe('appending', () => {
  test('what is appended is on disk, in order, under the first position of its segment', async () => {
    const { log } = await openLog(directory, { segmentBytesMax: 10_000 });
    expect(log.position).toBeNull();
    await log.append([entryOf(7, 2), entryOf(8, 1)]);
    await log.append([entryOf(8, 1, { from: 1 })]);
    expect(log.position).toEqual({ log: LOG, seq: 8, rowsOfSeq: 2 });
    expect(readdirSync(directory)).toEqual([raw(7)]);
    expect(readFileSync(join(directory, raw(7)), 'utf8')).toBe([line(7, 0), line(7, 1), line(8, 0), line(8, 1), ''].join('\n'));
    await log.close();
  });

  test('a segment is rotated before the batch that would exceed its limit, at its limit exactly it is not', async () => {
    const bytes = entryOf(1, 1).bytes.length;
    const { log } = await openLog(directory, { segmentBytesMax: 2 * bytes });
    await log.append([entryOf(1, 1), entryOf(2, 1), entryOf(3, 1)]);
    await sealed(log);
    expect(ourFiles(directory)).toEqual([gz(1, 2), raw(3)]);
    await log.close();
  });

  test('a batch in two appends goes on in its segment, whatever its size', async () => {
    const { log } = await openLog(directory, { segmentBytesMax: 200 });
    await log.append([entryOf(1, 4)]);
    await log.append([entryOf(1, 4, { from: 4 })]);
    expect(ourFiles(directory)).toEqual([raw(1)]);
    expect(statSync(join(directory, raw(1))).size).toBeGreaterThan(200);
    await log.append([entryOf(2, 1)]);
    await sealed(log);
    expect(ourFiles(directory)).toEqual([gz(1, 1), raw(2)]);
    await log.close();
  });

  test('a new log starts a new segment beside the old ones', async () => {
    const { log } = await openLog(directory, { segmentBytesMax: 10_000 });
    await log.append([entryOf(50, 1), entryOf(3, 1, { log: LOG + 5 })]);
    await sealed(log);
    expect(ourFiles(directory)).toEqual([gz(50, 50), raw(3, LOG + 5)]);
    expect(log.position).toEqual({ log: LOG + 5, seq: 3, rowsOfSeq: 1 });
    await log.close();
  });

  test('positions that go back are refused: they would make segments that overlap', async () => {
    const { log } = await openLog(directory);
    await log.append([entryOf(5, 1)]);
    await expect(log.append([entryOf(4, 1)])).rejects.toThrow(RangeError);
    await expect(log.append([entryOf(6, 1), entryOf(5, 1)])).rejects.toThrow(RangeError);
    await expect(log.append([entryOf(9, 1, { log: LOG - 1 })])).rejects.toThrow(RangeError);
    await log.append([entryOf(5, 1, { from: 1 })]);
    expect(linesOnDisk(directory)).toEqual([line(5, 0), line(5, 1)]);
    await log.close();
  });

  test('one write and one sync for many entries of one segment', async () => {
    const disk = new FaultyDisk();
    const operations: string[] = [];
    const { log } = await openLog(directory, { segmentBytesMax: 10_000, disk });
    disk.check = (operation) => operations.push(operation);
    await log.append([entryOf(1, 1)]);
    expect(operations.splice(0), 'a new file: its data, then its name').toEqual(['open', 'writev', 'datasync', 'open', 'sync']);
    await log.append(Array.from({ length: 50 }, (_, i) => entryOf(2 + i, 1)));
    expect(operations).toEqual(['fstat', 'writev', 'datasync']);
    await log.close();
  });

  test('a segment limit above half of the budget is refused, half is not', async () => {
    await expect(openLog(directory, { bytesMax: 1000, segmentBytesMax: 501 })).rejects.toThrow(SegmentLimitError);
    const { log } = await openLog(directory, { bytesMax: 1000, segmentBytesMax: 500 });
    await log.close();
  });
});

describe('deleting what is done with', () => {
  test('whole segments below a position go, one that holds it stays, and what is left is read on', async () => {
    const bytes = entryOf(1, 1).bytes.length;
    const { log, events } = await openLog(directory, { segmentBytesMax: 2 * bytes });
    for (let seq = 1; seq <= 5; seq++) await log.append([entryOf(seq, 1)]);
    await sealed(log);
    expect(ourFiles(directory)).toEqual([gz(1, 2), gz(3, 4), raw(5)]);
    expect(await log.deleteBelow(LOG, 2)).toBe(0);
    expect(await log.deleteBelow(LOG, 4)).toBe(1);
    expect(ourFiles(directory)).toEqual([gz(3, 4), raw(5)]);
    expect(log.diskBytes).toBe(bytesOnDisk(directory));
    expect(await log.deleteBelow(LOG, 5)).toBe(1);
    expect(await readAll(log)).toEqual([line(5, 0)]);
    expect(events.filter(({ event }) => event === 'segment_deleted' || event === 'segment_lost')).toEqual([]);
    await log.close();
  });

  test('the active segment goes too when all of it is below; the log goes on after its end, in a new segment', async () => {
    const { log } = await openLog(directory, { segmentBytesMax: 10_000 });
    await log.append([entryOf(1, 1), entryOf(2, 1)]);
    expect(await log.deleteBelow(LOG, 3)).toBe(1);
    expect([ourFiles(directory), log.diskBytes, log.segments()]).toEqual([[], 0, []]);
    expect(log.position).toEqual({ log: LOG, seq: 2, rowsOfSeq: 1 });
    await expect(log.append([entryOf(1, 1)])).rejects.toThrow(RangeError);
    await log.append([entryOf(3, 1)]);
    expect(ourFiles(directory)).toEqual([raw(3)]);
    await log.close();
    const again = await openLog(directory);
    expect(await readAll(again.log)).toEqual([line(3, 0)]);
    await again.log.close();
  });

  test('segments of other logs stay', async () => {
    const { log } = await openLog(directory, { segmentBytesMax: 10_000 });
    await log.append([entryOf(1, 1), entryOf(2, 1, { log: LOG + 5 })]);
    await sealed(log);
    expect(await log.deleteBelow(LOG + 5, 100)).toBe(1);
    expect(ourFiles(directory)).toEqual([gz(1, 1)]);
    await log.close();
  });

  test('a segment that is being sealed can go', async () => {
    const { log } = await openLog(directory, { segmentBytesMax: 100_000 });
    await log.append([entryOf(1, 3_000)]);
    await log.append([entryOf(2, 1)]); // rotates: the first is being sealed now
    expect(await log.deleteBelow(LOG, 2)).toBe(1);
    await eventually(() => expect(readdirSync(directory)).toEqual([raw(2)]));
    expect(log.diskBytes).toBe(bytesOnDisk(directory));
    await log.close();
  });

  test('a disk that fails at it refuses everything from there on, and opening again finds every record that is wanted', async () => {
    const { log } = await openLog(directory, { segmentBytesMax: 200 });
    for (let seq = 1; seq <= 9; seq++) await log.append([entryOf(seq, 1)]);
    await sealed(log);
    await log.close();
    const disk = new FaultyDisk();
    const again = await openLog(directory, { disk });
    disk.unlink = () => Promise.reject(Object.assign(new Error('EIO: unlink'), { code: 'EIO' }));
    await expect(again.log.deleteBelow(LOG, 9)).rejects.toThrow(DiskFailedError);
    await expect(again.log.append([entryOf(10, 1)])).rejects.toThrow(DiskFailedError);
    await again.log.close();
    const last = await openLog(directory);
    expect(await readAll(last.log)).toContain(line(9, 0));
    await last.log.close();
  });
});

describe('sealing', () => {
  test('a segment is read through one buffer, whatever its size', async () => {
    const buffers = new Map<string, Set<ArrayBufferLike>>();
    const open = async (path: string, flags: string): Promise<DiskFile> => {
      const file = await realDisk.open(path, flags);
      const read = file.read.bind(file);
      file.read = (buffer, ...rest) => {
        buffers.set(path, (buffers.get(path) ?? new Set()).add(buffer.buffer));
        return read(buffer, ...rest);
      };
      return file;
    };
    const { log } = await openLog(directory, { bytesMax: 10_000_000, segmentBytesMax: 1_000_000, disk: { ...realDisk, open } });
    const entries = Array.from({ length: 13 }, (_, i) => entryOf(i + 1, 10, { padding: 10_000 }));
    await log.append(entries);
    await sealed(log);
    expect(await readAll(log)).toEqual(linesOf(entries));
    await log.close();
    expect(buffers.get(join(directory, raw(1)))?.size).toBe(1);
  });

  test('gunzip, zcat and zlib read what was written, and the header tells what is inside', async () => {
    const { log, events } = await openLog(directory);
    const entries = Array.from({ length: 30 }, (_, i) => entryOf(i + 1, 3));
    for (const entry of entries) await log.append([entry]);
    await sealed(log);
    await log.close();
    const files = ourFiles(directory);
    const contents = files.map((name) =>
      name.endsWith('.gz') ? zcat(join(directory, name)) : readFileSync(join(directory, name), 'utf8'),
    );
    expect(contents.join('')).toBe(`${linesOf(entries).join('\n')}\n`);
    expect(linesOnDisk(directory)).toEqual(linesOf(entries));
    const first = files[0] as string;
    execFileSync('gunzip', ['-t', join(directory, first)]);
    const content = gunzipSync(readFileSync(join(directory, first)));
    expect(readGzipMetadata(readFileSync(join(directory, first)))).toEqual({
      rows: 3,
      contentBytes: content.length,
      fromMs: 1001,
      toMs: 1001,
    });
    expect(events.filter((one) => one.event === 'segment_sealed')).toHaveLength(29);
    expect(events.find((one) => one.event === 'segment_sealed')).toMatchObject({ contentBytes: content.length, segment: { name: first } });
  });

  test('the metadata of a sealed segment is known after opening without reading it', async () => {
    const { log } = await openLog(directory);
    for (let seq = 1; seq <= 10; seq++) await log.append([entryOf(seq, 2)]);
    await sealed(log);
    const before = log.segments();
    await log.close();
    const { log: again } = await openLog(directory);
    expect(again.segments().map(({ syncedBytes: _, ...segment }) => segment)).toEqual(
      before.map(({ syncedBytes: _, ...segment }) => segment),
    );
    expect(again.position).toEqual({ log: LOG, seq: 10, rowsOfSeq: 2 });
    await again.close();
  });

  test("a file made by somebody else's gzip is read like our own", async () => {
    const entries = [entryOf(1, 2), entryOf(4, 3)];
    writeFileSync(join(directory, gz(1, 4)), gzipSync(`${linesOf(entries).join('\n')}\n`));
    const { log } = await openLog(directory);
    expect(log.position).toEqual({ log: LOG, seq: 4, rowsOfSeq: 3 });
    expect(log.segments()).toMatchObject([{ first: 1, last: 4, rows: 5, fromMs: 1001, toMs: 1004, isSealed: true }]);
    expect(await readAll(log)).toEqual(linesOf(entries));
    await log.append([entryOf(5, 1)]);
    expect(ourFiles(directory)).toEqual([gz(1, 4), raw(5)]);
    await log.close();
  });

  test('more of a batch that is sealed alone is dropped and told: its name is taken', async () => {
    writeFileSync(join(directory, gz(4, 4)), gzipSync(`${line(4, 0)}\n`));
    const { log, events } = await openLog(directory);
    await log.append([entryOf(4, 2, { from: 1 }), entryOf(5, 1)]);
    expect(events.filter((one) => one.event === 'rows_dropped')).toMatchObject([{ reason: 'sealed', seq: 4, rows: 2 }]);
    expect(linesOnDisk(directory)).toEqual([line(4, 0), line(5, 0)]);
    await log.close();
  });

  test('a batch that goes on behind a sealed segment counts its rows across both', async () => {
    writeFileSync(join(directory, gz(1, 4)), gzipSync(`${line(1, 0)}\n${line(4, 0)}\n`));
    const { log } = await openLog(directory);
    await log.append([entryOf(4, 2, { from: 1 })]);
    expect(log.position?.rowsOfSeq).toBe(3);
    await log.close();
    const { log: again } = await openLog(directory);
    expect(again.position).toEqual({ log: LOG, seq: 4, rowsOfSeq: 3 });
    await again.close();
  });

  test('closing in the middle of sealing leaves a directory that opens to the same rows', async () => {
    const { log } = await openLog(directory);
    const entries = Array.from({ length: 40 }, (_, i) => entryOf(i + 1, 3));
    await log.append(entries);
    await log.close();
    expect(ourFiles(directory).filter((name) => name.endsWith('.tmp'))).toEqual([]);
    const { log: again } = await openLog(directory);
    await sealed(again);
    expect(linesOnDisk(directory)).toEqual(linesOf(entries));
    await again.close();
  });
});

describe('the budget', () => {
  test('many rotations: nothing is overwritten, the newest data stays, the sizes never exceed the budget', async () => {
    const disk = new FaultyDisk();
    const bytesMax = 24_000;
    let largest = 0;
    disk.check = () => {
      largest = Math.max(largest, bytesOnDisk(directory));
    };
    const { log, events } = await openLog(directory, { bytesMax, segmentBytesMax: 4096, disk });
    const entries = Array.from({ length: 600 }, (_, i) => entryOf(i + 1, 3, { padding: (i * 7) % 200 }));
    for (let at = 0; at < entries.length; at += 3) await log.append(entries.slice(at, at + 3));
    await sealed(log);
    await log.close();
    expect(largest).toBeLessThanOrEqual(bytesMax);
    expect(largest).toBeGreaterThan(bytesMax / 2);
    const deleted = events.flatMap((one) => (one.event === 'segment_deleted' ? [one.segment] : []));
    const rowsDeleted = deleted.reduce((sum, segment) => sum + segment.rows, 0);
    const kept = linesOnDisk(directory);
    expect(deleted.length).toBeGreaterThan(0);
    expect(kept).toEqual(linesOf(entries).slice(rowsDeleted));
    expect(kept.length + rowsDeleted).toBe(1800);
  });

  test('an append larger than the budget keeps its newest part', async () => {
    const { log, events } = await openLog(directory, { bytesMax: 600, segmentBytesMax: 200 });
    const entries = Array.from({ length: 60 }, (_, i) => entryOf(i + 1, 2));
    await log.append(entries);
    await log.close();
    const rowsDeleted = events.reduce((sum, one) => sum + (one.event === 'segment_deleted' ? one.segment.rows : 0), 0);
    expect(linesOnDisk(directory)).toEqual(linesOf(entries).slice(rowsDeleted));
    expect(bytesOnDisk(directory)).toBeLessThanOrEqual(600);
  });

  test('a batch that cannot fit is dropped and told, the others are kept', async () => {
    const { log, events } = await openLog(directory, { bytesMax: 500, segmentBytesMax: 200 });
    await log.append([entryOf(1, 1), entryOf(2, 40), entryOf(3, 1)]);
    expect(linesOnDisk(directory)).toEqual([line(1, 0), line(3, 0)]);
    expect(events).toEqual([
      { event: 'rows_dropped', reason: 'over_budget', log: LOG, seq: 2, rows: 40, bytes: entryOf(2, 40).bytes.length },
    ]);
    expect(log.position).toEqual({ log: LOG, seq: 3, rowsOfSeq: 1 });
    await log.append([entryOf(4, 40)]);
    expect(log.position).toEqual({ log: LOG, seq: 4, rowsOfSeq: 40 });
    await log.close();
  });

  test('a batch exactly as large as the budget fits, one byte more does not', async () => {
    const bytes = entryOf(2, 10).bytes.length;
    const { log, events } = await openLog(directory, { bytesMax: bytes, segmentBytesMax: 200 });
    await log.append([entryOf(1, 1)]);
    await log.append([entryOf(2, 10)]);
    expect(linesOnDisk(directory)).toEqual(linesOf([entryOf(2, 10)]));
    await log.append([entryOf(3, 10, { padding: 11 })]);
    expect(events.map((one) => one.event)).toContain('rows_dropped');
    expect(linesOnDisk(directory)).toEqual(linesOf([entryOf(2, 10)]));
    await log.close();
  });

  test('is enforced at opening', async () => {
    const { log } = await openLog(directory, { bytesMax: 100_000, segmentBytesMax: 200 });
    const entries = Array.from({ length: 100 }, (_, i) => entryOf(i + 1, 3));
    await log.append(entries);
    await sealed(log);
    await log.close();
    const { log: again, events } = await openLog(directory, { bytesMax: 1000, segmentBytesMax: 200 });
    expect(bytesOnDisk(directory)).toBeLessThanOrEqual(1000);
    expect(events[0]).toMatchObject({ event: 'segment_deleted', reason: 'budget', segment: { first: 1 } });
    expect(linesOnDisk(directory).at(-1)).toBe(line(100, 2));
    await again.close();
  });

  test('a segment that is deleted while it is being sealed takes its temporary file with it at once', async () => {
    const bytesMax = entryOf(9, 20).bytes.length;
    const disk = new FaultyDisk();
    const { log, events } = await openLog(directory, { bytesMax, segmentBytesMax: 200, disk });
    let largest: Promise<void> | null = null;
    disk.check = () => {
      const isBeingSealed = ourFiles(directory).some((name) => name.endsWith('.tmp') && statSync(join(directory, name)).size > 0);
      // The next to run after the write that has just ended: it needs the whole budget.
      if (isBeingSealed) largest ??= log.append([entryOf(9, 20)]);
    };
    await log.append([entryOf(1, 3), entryOf(2, 3)]);
    await eventually(() => expect(largest).not.toBeNull());
    await largest;
    expect(ourFiles(directory)).toEqual([raw(9)]);
    expect(log.diskBytes).toBe(bytesMax);
    await log.close();
    expect(events.map((one) => one.event)).toEqual(['segment_deleted', 'segment_deleted']);
    expect(ourFiles(directory)).toEqual([raw(9)]);
  });

  test('a raw segment with no room to be sealed stays raw, and is the first to go', async () => {
    const bytes = entryOf(1, 5).bytes.length;
    const { log, events } = await openLog(directory, { bytesMax: 2 * bytes, segmentBytesMax: bytes });
    await log.append([entryOf(1, 5), entryOf(2, 5)]);
    await eventually(() => expect(events).toMatchObject([{ event: 'sealing_put_off', problem: 'no room in the budget' }]));
    expect(log.diskBytes).toBe(bytesOnDisk(directory));
    await log.append([entryOf(3, 5)]);
    await log.close();
    expect(linesOnDisk(directory)).toEqual(linesOf([entryOf(2, 5), entryOf(3, 5)]));
  });
});

describe('opening', () => {
  test("other people's files survive", async () => {
    const foreign = ['Cargo.toml', 'notes.txt', 'metrics-foo.jsonl', 'metrics.jsonl', `${raw(1)}.bak`, `x${raw(1)}`, 'other.tmp'];
    for (const name of foreign) writeFileSync(join(directory, name), 'x'.repeat(5000));
    mkdirSync(join(directory, raw(99)));
    mkdirSync(join(directory, 'src'));
    const { log } = await openLog(directory, { bytesMax: 400, segmentBytesMax: 200 });
    for (let seq = 1; seq <= 20; seq++) await log.append([entryOf(seq, 3)]);
    await log.rescan();
    await log.close();
    for (const name of foreign) expect(readFileSync(join(directory, name), 'utf8'), name).toHaveLength(5000);
    expect(statSync(join(directory, raw(99))).isDirectory()).toBe(true);
    expect(existsSync(join(directory, 'src'))).toBe(true);
  });

  test('a write torn at any byte is cut to the whole lines before it, and appending goes on', async () => {
    const { log } = await openLog(directory, { segmentBytesMax: 10_000 });
    const first = entryOf(1, 2);
    const second = entryOf(2, 2);
    await log.append([first]);
    await log.append([second]);
    await log.close();
    const whole = readFileSync(join(directory, raw(1)));
    for (let bytes = first.bytes.length; bytes <= whole.length; bytes++) {
      writeFileSync(join(directory, raw(1)), whole.subarray(0, bytes));
      const lines = whole.subarray(0, bytes).toString().split('\n').slice(0, -1);
      const { log: again, events } = await openLog(directory, { segmentBytesMax: 10_000 });
      expect(linesOnDisk(directory), `cut at ${bytes}`).toEqual(lines);
      expect(again.position, `cut at ${bytes}`).toEqual({
        log: LOG,
        seq: lines.length > 2 ? 2 : 1,
        rowsOfSeq: lines.length > 2 ? lines.length - 2 : 2,
      });
      const torn = bytes - lines.reduce((sum, one) => sum + one.length + 1, 0);
      expect(events).toEqual(torn === 0 ? [] : [{ event: 'tail_cut', name: raw(1), bytes: torn }]);
      await again.append([entryOf(3, 1)]);
      expect(linesOnDisk(directory)).toEqual([...lines, line(3, 0)]);
      await again.close();
    }
  });

  test('what is found counts as durable, so it is synced first', async () => {
    const { log } = await openLog(directory);
    await log.append([entryOf(1, 2)]);
    await log.close();
    const disk = new FaultyDisk();
    const operations: string[] = [];
    disk.check = (operation) => operations.push(operation);
    const { log: again } = await openLog(directory, { disk });
    expect(operations).toContain('datasync');
    expect(operations).toContain('sync');
    await again.close();
  });

  test('an empty file, and one torn in its first line, are as if they had never been', async () => {
    for (const content of ['', '{"n":"0","se', '\0'.repeat(5000)]) {
      writeFileSync(join(directory, raw(9)), content);
      const { log } = await openLog(directory);
      expect(log.position).toBeNull();
      expect(ourFiles(directory)).toEqual([]);
      await log.append([entryOf(3, 1)]);
      expect(linesOnDisk(directory)).toEqual([line(3, 0)]);
      await log.close();
      rmSync(join(directory, raw(3)));
    }
  });

  const bad: [string, string][] = [
    ['not JSON', '{"n":"0","seq":6,"t":'],
    ['no position', '{"n":"0","t":1006}'],
    ['a position that goes back', line(4, 0)],
    ['not an object', '",\\"seq\\":6" ,"seq":6'],
    ['zeros', '\0'.repeat(100)],
  ];
  test.each(bad)('%s in the middle: good lines stay, the rest is moved aside', async (_, badLine) => {
    const good = `${line(5, 0)}\n${line(6, 0)}\n`;
    const rest = `${badLine}\n${line(7, 0)}\n`;
    writeFileSync(join(directory, raw(5)), good + rest);
    const { log, events } = await openLog(directory);
    expect(log.position).toEqual({ log: LOG, seq: 6, rowsOfSeq: 1 });
    expect(readFileSync(join(directory, raw(5)), 'utf8')).toBe(good);
    expect(readFileSync(join(directory, 'quarantine', `${raw(5)}.1`), 'utf8')).toBe(rest);
    expect(events).toMatchObject([{ event: 'quarantined', name: raw(5), movedTo: `quarantine/${raw(5)}.1`, bytes: rest.length }]);
    await log.append([entryOf(7, 1)]);
    await log.close();
    // The same again gets a name of its own.
    appendFileSync(join(directory, raw(5)), 'x\n');
    await (await openLog(directory)).log.close();
    expect(readdirSync(join(directory, 'quarantine')).sort()).toEqual([`${raw(5)}.1`, `${raw(5)}.2`]);
  });

  test('a file whose first line is not that of its name is moved aside as a whole', async () => {
    writeFileSync(join(directory, raw(5)), `${line(6, 0)}\n`);
    const { log } = await openLog(directory);
    expect(ourFiles(directory)).toEqual([]);
    expect(readdirSync(join(directory, 'quarantine'))).toEqual([`${raw(5)}.1`]);
    await log.close();
  });

  test('sealed files that cannot be read are moved aside, the others are kept', async () => {
    const { log } = await openLog(directory);
    for (let seq = 1; seq <= 8; seq++) await log.append([entryOf(seq, 3)]);
    await sealed(log);
    await log.close();
    truncateSync(join(directory, gz(1, 1)), statSync(join(directory, gz(1, 1))).size - 3);
    writeFileSync(join(directory, gz(2, 2)), 'not gzip');
    writeFileSync(join(directory, gz(3, 3)), '');
    const { log: again, events } = await openLog(directory);
    expect(events.map((one) => one.event)).toEqual(['quarantined', 'quarantined', 'quarantined']);
    expect(readdirSync(join(directory, 'quarantine')).sort()).toEqual([1, 2, 3].map((seq) => `${gz(seq, seq)}.1`));
    expect(again.segments().map((segment) => segment.first)).toEqual([4, 5, 6, 7, 8]);
    await again.close();
  });

  test('damage inside a sealed file is found by reading it, and it is set aside', async () => {
    const { log } = await openLog(directory);
    for (let seq = 1; seq <= 3; seq++) await log.append([entryOf(seq, 3)]);
    await sealed(log);
    await log.close();
    const bytes = readFileSync(join(directory, gz(1, 1)));
    bytes[bytes.length - 7] = (bytes[bytes.length - 7] as number) ^ 0xff; // in the checksum
    writeFileSync(join(directory, gz(1, 1)), bytes);
    const { log: again, events } = await openLog(directory);
    await expect(readAll(again)).rejects.toThrow(SegmentUnreadableError);
    await again.setAside(gz(1, 1), 'the checksum is wrong');
    expect(await readAll(again)).toEqual(linesOf([entryOf(2, 3), entryOf(3, 3)]));
    expect(events).toMatchObject([{ event: 'quarantined', name: gz(1, 1), problem: 'the checksum is wrong' }]);
    await again.close();
  });

  test('damage inside the newest file does not keep the log from opening', async () => {
    const good = entryOf(1, 2);
    writeFileSync(join(directory, gz(1, 1)), gzipSync(`${linesOf([good]).join('\n')}\n`));
    const { log } = await openLog(temporaryChild(), {});
    await log.append([entryOf(5, 3), entryOf(6, 3)]);
    await sealed(log);
    await log.close();
    const bytes = readFileSync(join(temporaryChild(), gz(5, 5)));
    bytes[bytes.length - 7] = (bytes[bytes.length - 7] as number) ^ 0xff;
    writeFileSync(join(directory, gz(5, 5)), bytes);
    const { log: again, events } = await openLog(directory);
    expect(again.position).toEqual({ log: LOG, seq: 1, rowsOfSeq: 2 });
    expect(events).toMatchObject([{ event: 'quarantined', name: gz(5, 5) }]);
    await again.close();
  });
  const temporaryChild = () => join(directory, 'other');

  test.each([
    [
      'before the rename: the temporary goes',
      (path: string, full: Buffer) => writeFileSync(join(path, `${gz(1, 1)}.tmp`), full.subarray(0, 20)),
    ],
    ['after it: the raw file goes', (path: string, full: Buffer) => writeFileSync(join(path, gz(1, 1)), full)],
    [
      'with a sealed file that is not whole: it goes',
      (path: string, full: Buffer) => writeFileSync(join(path, gz(1, 1)), full.subarray(0, 40)),
    ],
    ['with a sealed file that is empty: it goes', (path: string) => writeFileSync(join(path, gz(1, 1)), '')],
    ['with a sealed file that lacks lines: it goes', (path: string) => writeFileSync(join(path, gz(1, 1)), gzipSync(`${line(1, 0)}\n`))],
  ])('sealing interrupted %s', async (_, interrupt) => {
    const { log } = await openLog(join(directory, 'made'), {});
    await log.append([entryOf(1, 3), entryOf(2, 3)]);
    await sealed(log);
    await log.close();
    writeFileSync(join(directory, raw(1)), `${linesOf([entryOf(1, 3)]).join('\n')}\n`);
    writeFileSync(join(directory, raw(2)), `${linesOf([entryOf(2, 3)]).join('\n')}\n`);
    interrupt(directory, readFileSync(join(directory, 'made', gz(1, 1))));
    const { log: again, events } = await openLog(directory);
    await sealed(again);
    expect(ourFiles(directory)).toEqual([gz(1, 1), raw(2)]);
    expect(linesOnDisk(directory)).toEqual(linesOf([entryOf(1, 3), entryOf(2, 3)]));
    expect(events.filter((one) => one.event === 'quarantined')).toEqual([]);
    await again.close();
  });

  test('a path that is not a directory is refused with a sentence', async () => {
    writeFileSync(join(directory, 'file'), '');
    await expect(openLog(join(directory, 'file'))).rejects.toThrow(DirectoryRefusedError);
    await expect(openLog(join(directory, 'file', 'below'))).rejects.toThrow(/segments in .*below.*choose a path/);
  });
});

describe('what others do to the files', () => {
  test('a segment that was deleted is noticed, told, and not counted any more', async () => {
    const { log, events } = await openLog(directory);
    for (let seq = 1; seq <= 4; seq++) await log.append([entryOf(seq, 3)]);
    await sealed(log);
    unlinkSync(join(directory, gz(2, 2)));
    expect(await readAll(log)).toEqual(linesOf([entryOf(1, 3), entryOf(3, 3), entryOf(4, 3)]));
    await log.rescan();
    expect(events.filter((one) => one.event === 'segment_lost')).toMatchObject([{ segment: { name: gz(2, 2), rows: 3, fromMs: 1002 } }]);
    expect(log.diskBytes).toBe(bytesOnDisk(directory));
    await log.close();
  });

  test('when the active file was deleted a new one is started', async () => {
    const { log, events } = await openLog(directory, { segmentBytesMax: 10_000 });
    await log.append([entryOf(1, 3)]);
    unlinkSync(join(directory, raw(1)));
    await log.append([entryOf(1, 1, { from: 3 }), entryOf(2, 1)]);
    expect(events).toMatchObject([{ event: 'segment_lost', segment: { name: raw(1), rows: 3 } }]);
    expect(linesOnDisk(directory)).toEqual([line(1, 3), line(2, 0)]);
    expect(log.diskBytes).toBe(bytesOnDisk(directory));
    await log.close();
  });

  test('when the whole directory was deleted it is made again', async () => {
    const { log } = await openLog(directory, { segmentBytesMax: 10_000 });
    await log.append([entryOf(1, 3)]);
    removeDirectory(directory);
    await log.append([entryOf(2, 1)]);
    await log.rescan();
    expect(linesOnDisk(directory)).toEqual([line(2, 0)]);
    await log.close();
  });

  test('an active file that was cut by somebody else is moved aside, one that was added to is cut', async () => {
    const { log, events } = await openLog(directory, { segmentBytesMax: 10_000 });
    await log.append([entryOf(1, 3)]);
    appendFileSync(join(directory, raw(1)), 'garbage');
    await log.append([entryOf(2, 1)]);
    expect(linesOnDisk(directory)).toEqual(linesOf([entryOf(1, 3), entryOf(2, 1)]));
    truncateSync(join(directory, raw(1)), 10);
    await log.append([entryOf(3, 1)]);
    expect(linesOnDisk(directory)).toEqual([line(3, 0)]);
    expect(events.map((one) => one.event)).toEqual(['tail_cut', 'quarantined']);
    await log.close();
  });

  test('a file with the name of the next segment is not overwritten', async () => {
    const { log, events } = await openLog(directory, { segmentBytesMax: 10_000 });
    writeFileSync(join(directory, raw(1)), 'precious');
    await log.append([entryOf(1, 1)]);
    expect(linesOnDisk(directory)).toEqual([line(1, 0)]);
    expect(readFileSync(join(directory, 'quarantine', `${raw(1)}.1`), 'utf8')).toBe('precious');
    expect(events.map((one) => one.event)).toEqual(['quarantined']);
    await log.close();
  });

  test('an older sealed file that is put back counts again, a newer one waits for the next opening', async () => {
    const { log } = await openLog(directory);
    for (let seq = 1; seq <= 3; seq++) await log.append([entryOf(seq, 3)]);
    await sealed(log);
    const bytes = readFileSync(join(directory, gz(1, 1)));
    unlinkSync(join(directory, gz(1, 1)));
    await log.rescan();
    writeFileSync(join(directory, gz(1, 1)), bytes);
    writeFileSync(join(directory, gz(9, 9)), gzipSync(`${line(9, 0)}\n`));
    writeFileSync(join(directory, gz(2, 2).replace(`${LOG}`, `${LOG + 1}`)), gzipSync(`${line(2, 0)}\n`));
    await log.rescan();
    expect(log.segments().map((segment) => segment.first)).toEqual([1, 2, 3]);
    expect(log.position?.seq).toBe(3);
    await log.close();
  });
});

describe('reading', () => {
  test('a segment has its records at every moment of being sealed', async () => {
    const disk = new FaultyDisk();
    const reads: Promise<string>[] = [];
    const { log } = await openLog(directory, { disk });
    const entry = entryOf(1, 3);
    await log.append([entry]);
    const summary = log.segments()[0];
    if (summary === undefined) throw new Error('no segment');
    disk.check = (operation) => {
      if (operation !== 'read') reads.push(readText(log.read(summary)));
    };
    disk.unlink = async (path) => {
      await realDisk.unlink(path);
      // Between the end of the raw file and the moment we hear of it.
      const text = await readText(log.read(summary));
      reads.push(Promise.resolve(text));
    };
    await log.append([entryOf(2, 3)]);
    await sealed(log);
    disk.check = () => undefined;
    expect(reads.length).toBeGreaterThan(5);
    for (const text of await Promise.all(reads)) expect(text).toBe(Buffer.from(entry.bytes).toString());
    await log.close();
  });

  test('goes on through sealing and deletion', async () => {
    const { log } = await openLog(directory, { bytesMax: 3_000_000, segmentBytesMax: 1_000_000 });
    const big = entryOf(1, 9000, { padding: 90 });
    await log.append([big]);
    const summary = log.segments()[0];
    if (summary === undefined) throw new Error('no segment');
    const reading = log.read(summary);
    const blocks = [(await reading.next()).value as Buffer];
    await log.append([entryOf(2, 1)]);
    await sealed(log);
    expect(zcat(join(directory, gz(1, 1)))).toBe(Buffer.from(big.bytes).toString());
    unlinkSync(join(directory, gz(1, 1)));
    for await (const block of reading) blocks.push(block);
    expect(Buffer.concat(blocks).equals(Buffer.from(big.bytes))).toBe(true);
    expect(blocks.length).toBeGreaterThan(2);
    // By the summary of the time when it was raw, after it was sealed and deleted: no records, no error.
    const gone = log.read(summary);
    expect((await gone.next()).done).toBe(true);
    await log.close();
  });
});
