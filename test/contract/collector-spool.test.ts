// The spool on a real disk, between an outbox and its files: what goes in comes out, what is done with goes, what is wrong is said.

import { appendFileSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { EncodedBatch } from '#shared/contract/batch';
import { type Disk, type DiskFile, realDisk } from '#shared/segments/disk';
import { Outbox } from '../../services/collector/core/outbox.ts';
import { Spool } from '../../services/collector/spool.ts';
import { eventually } from '../support/eventually.ts';
import { silent } from '../support/link.ts';
import { removeDirectory, temporaryDirectory } from '../support/segment-disk.ts';

const OUTBOX_BYTES = 65_536;
/** Before all batches are a second old. */
const LONG_AGO = -1e9;

let directory: string;
const open: Spool[] = [];
beforeEach(() => {
  directory = temporaryDirectory();
});
afterEach(async () => {
  for (const spool of open.splice(0)) await spool.finish();
  removeDirectory(directory);
});

interface Given {
  bytesMax?: number;
  disk?: Disk;
  path?: string;
  host?: string;
}

function spoolWith({ bytesMax = 10_000_000, disk, path = directory, host = 'h 1' }: Given = {}) {
  const outbox = new Outbox({ bytesMax: OUTBOX_BYTES, inFlightMax: 4 });
  const spool = new Spool({ path, host, bytesMax, outboxBytesMax: OUTBOX_BYTES, outbox, logger: silent, disk });
  open.push(spool);
  return { outbox, spool };
}

let made = 0;
function batch(rows = 3, bytes = 500): EncodedBatch {
  made++;
  // Random text: compressed it stays as large, so that limits on disk are reached with little.
  const text = Array.from({ length: bytes }, () => String.fromCharCode(97 + Math.floor(Math.random() * 26))).join('');
  return { id: `h=201:b00:${made}`, rows, payload: Buffer.from(`{"v":1,"ts":${1_000 + made},"late":false,"pad":"${text}"}`) };
}

/** Publishes as long as there is anything, and says what arrived. */
async function drain({ outbox, spool }: ReturnType<typeof spoolWith>): Promise<EncodedBatch[]> {
  outbox.connected();
  const arrived: EncodedBatch[] = [];
  for (;;) {
    const next = outbox.takeNext(performance.now());
    if (next !== null) {
      arrived.push(next);
      outbox.acknowledged(next.id);
    } else if (outbox.loadBytes === 0 || !(await spool.load())) {
      await spool.round('memory');
      if (outbox.batches === 0 && outbox.loadBytes === 0) return arrived;
    }
  }
}

const filesOf = (spool: Spool): string[] => readdirSync(spool.directory).toSorted();
/** A file may be sealed under another name between being listed and being looked at. */
const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
const bytesOf = (spool: Spool): number => filesOf(spool).reduce((sum, name) => sum + sizeOf(join(spool.directory, name)), 0);
const late = ({ id, payload, rows }: EncodedBatch) => ({
  id,
  rows,
  payload: Buffer.from(payload).toString().replace('"late":false', '"late":true '),
});
const text = ({ id, payload, rows }: EncodedBatch) => ({ id, rows, payload: Buffer.from(payload).toString() });

async function fill({ outbox, spool }: ReturnType<typeof spoolWith>, count: number, bytes = 500): Promise<EncodedBatch[]> {
  const batches: EncodedBatch[] = [];
  for (let i = 0; i < count; i++) {
    const one = batch(1 + (i % 5), bytes);
    batches.push(one);
    outbox.add(one, LONG_AGO);
    if (i % 10 === 9) await spool.round('waiting');
  }
  await spool.round('waiting');
  return batches;
}

const rowsIn = (batches: readonly EncodedBatch[]): number => batches.reduce((sum, { rows }) => sum + rows, 0);

describe('the spool', () => {
  test('does not pass for an empty one before it was opened', async () => {
    const { spool } = spoolWith();
    expect(spool.problem).toMatch(/still being opened/);
    await spool.round('memory');
    expect(spool.problem).toBeNull();
  });

  test('gives back what it was given, in order, byte for byte but for the mark, and leaves no file', async () => {
    const one = spoolWith();
    const batches = await fill(one, 300);
    expect([one.outbox.rows, one.outbox.spool.waitingRows, one.spool.waitingBatches]).toEqual([0, rowsIn(batches), 300]);
    expect(filesOf(one.spool).length).toBeGreaterThan(5);
    expect((await drain(one)).map(text)).toEqual(batches.map(late));
    expect([filesOf(one.spool), one.spool.diskBytes, one.spool.waitingBatches]).toEqual([[], 0, 0]);
    const more = await fill(one, 20);
    expect((await drain(one)).map(text)).toEqual(more.map(late));
  });

  test('files are lines of JSON with the batch as it is', async () => {
    const one = spoolWith();
    const [first] = await fill(one, 1);
    const [name = ''] = filesOf(one.spool);
    expect(name).toMatch(/^spool-\d{13}-0000000000000000\.jsonl$/);
    const line: unknown = JSON.parse(readFileSync(join(one.spool.directory, name), 'utf8'));
    expect(line).toEqual({ seq: 0, id: first?.id, rows: first?.rows, batch: JSON.parse(Buffer.from(first?.payload ?? '').toString()) });
  });

  test('a successor goes on where its predecessor was, and only unfinished segments come again', async () => {
    const one = spoolWith();
    const batches = await fill(one, 300);
    one.outbox.connected();
    await one.spool.load();
    expect(one.outbox.batches).toBeGreaterThan(0);
    expect(one.outbox.batches + one.spool.waitingBatches, 'each is in memory or waiting').toBe(300);
    const acknowledged: string[] = [];
    for (let next = one.outbox.takeNext(0); next !== null && acknowledged.length < 20; next = one.outbox.takeNext(0)) {
      acknowledged.push(next.id);
      one.outbox.acknowledged(next.id);
    }
    one.outbox.disconnected();
    one.outbox.add(batch(7), performance.now());
    await one.spool.finish();
    expect(one.outbox.exposedRows).toBe(0);

    const two = spoolWith();
    await two.spool.round('waiting');
    const found = two.outbox.spool.foundRows;
    const arrived = await drain(two);
    expect(rowsIn(arrived)).toBe(found);
    expect(new Set(arrived.map(({ id }) => id)).size).toBe(arrived.length);
    const again = arrived.filter(({ id }) => acknowledged.includes(id));
    expect(new Set([...acknowledged, ...arrived.map(({ id }) => id)]).size).toBe(301);
    expect(again.length).toBeLessThanOrEqual(32); // batches of a segment of 16 KiB
    expect(arrived.slice(again.length, -1).map(text)).toEqual(batches.slice(20).map(late));
    expect(filesOf(two.spool)).toEqual([]);
  });

  test('its limit holds on disk, the oldest go, and every row of them is counted', async () => {
    const one = spoolWith({ bytesMax: 65_536 });
    let most = 0;
    const batches: EncodedBatch[] = [];
    for (let i = 0; i < 60; i++) {
      batches.push(...(await fill(one, 1, 4_000)));
      most = Math.max(most, bytesOf(one.spool));
    }
    expect(most).toBeLessThanOrEqual(65_536);
    expect(most).toBeGreaterThan(40_000);
    const { waitingRows } = one.outbox.spool;
    expect(one.outbox.droppedRows.spool_full).toBe(rowsIn(batches) - waitingRows);
    const arrived = await drain(one);
    expect(arrived.map(text)).toEqual(batches.slice(-arrived.length).map(late));
    expect(rowsIn(arrived)).toBe(waitingRows);
  });

  test('what is deleted to make room while it is being read is counted as that', async () => {
    let oldest: string | undefined;
    let goOn = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const unlink: Disk['unlink'] = async (path) => {
      await realDisk.unlink(path);
      if (oldest !== undefined && path.endsWith(oldest)) await held;
    };
    const one = spoolWith({ bytesMax: 65_536, disk: { ...realDisk, unlink } });
    const batches = await fill(one, 30, 4_000);
    const isSealed = () => expect(filesOf(one.spool).slice(0, -1).join()).toMatch(/^(spool-[\d-]+\.jsonl\.gz,?)+$/);
    await eventually(isSealed);
    await one.spool.round('waiting');
    [oldest] = filesOf(one.spool);
    const filling = fill(one, 30, 4_000);
    await eventually(() => expect(filesOf(one.spool)).not.toContain(oldest));
    one.outbox.connected();
    const loading = one.spool.load();
    await Promise.race([loading, delay(100)]); // as far as it gets
    goOn();
    await loading;
    batches.push(...(await filling));
    const dropped = rowsIn(batches) - rowsIn(await drain(one));
    expect(one.outbox.droppedRows).toEqual({ outbox_full: 0, refused: 0, spool_full: dropped, spool_lost: 0 });
  });

  test('a torn end, junk and files of others do not hold it up; nothing that is good is lost', async () => {
    const one = spoolWith();
    const batches = await fill(one, 100);
    await one.spool.finish();
    const { directory: files } = one.spool;
    const [oldest = '', second = ''] = filesOf(one.spool);
    const newest = filesOf(one.spool).at(-1) as string;
    appendFileSync(join(files, newest), '{"seq":');
    writeFileSync(join(files, 'notes.txt'), 'mine');
    writeFileSync(join(files, second), 'junk\n');
    const two = spoolWith();
    const arrived = await drain(two);
    const ids = arrived.map(({ id }) => id);
    const missing = batches.filter(({ id }) => !ids.includes(id));
    expect(oldest).not.toBe(second);
    expect(missing.length).toBeGreaterThan(0);
    expect(two.outbox.droppedRows.spool_lost, 'the rows of the file that is junk').toBe(rowsIn(missing));
    expect(rowsIn(arrived) + rowsIn(missing)).toBe(two.outbox.spool.foundRows);
    expect([two.spool.problem, two.spool.quarantined]).toEqual([null, 1]);
    expect(filesOf(two.spool)).toEqual(['notes.txt', 'quarantine']);
    expect(readFileSync(join(files, 'quarantine', `${second}.1`), 'utf8')).toBe('junk\n');
  });

  test('files that somebody deletes are counted, and it goes on', async () => {
    const one = spoolWith();
    const batches = await fill(one, 100);
    rmSync(join(one.spool.directory, filesOf(one.spool)[2] as string));
    const arrived = await drain(one);
    expect(arrived.length).toBeLessThan(100);
    expect(one.outbox.droppedRows.spool_lost).toBe(rowsIn(batches) - rowsIn(arrived));
    rmSync(one.spool.directory, { recursive: true });
    const more = await fill(one, 20);
    expect((await drain(one)).map(text)).toEqual(more.map(late));
  });

  test('a second collector with the same directory keeps to its memory and says so, until the first has ended', async () => {
    const one = spoolWith();
    await fill(one, 5);
    const two = spoolWith();
    await fill(two, 5);
    expect(two.spool.problem).toMatch(
      /batches are kept in memory alone: .* is in use by this very process: two would damage what is in it/,
    );
    expect(two.outbox.batches).toBe(5);
    await one.spool.finish();
    await eventually(
      async () => {
        await two.spool.round('waiting');
        expect(two.spool.problem).toBeNull();
      },
      { withinMs: 15_000 },
    );
    expect(two.outbox.spool.foundRows).toBeGreaterThan(0);
    await two.spool.finish();
  });

  test('two hosts with the same path have a directory each', async () => {
    const one = spoolWith({ host: 'a/../b' });
    const two = spoolWith({ host: 'c' });
    await fill(one, 1);
    await fill(two, 1);
    const names = readdirSync(directory).filter((name) => !name.startsWith('.lock-'));
    expect(names.toSorted()).toEqual(['a=2F=2E=2E=2Fb', 'c']);
  });
});

describe('a spool that cannot be used', () => {
  test('a path that is a file: a sentence, batches stay in memory, and the file is as it was', async () => {
    const path = join(directory, 'file');
    writeFileSync(path, 'mine');
    const one = spoolWith({ path });
    await fill(one, 5);
    expect(one.spool.problem).toMatch(
      /^the spool cannot be used, batches are kept in memory alone: segments in .*file.*: ENOTDIR.*choose a path/,
    );
    expect([one.outbox.batches, one.outbox.spool.waitingRows]).toEqual([5, 0]);
    expect(readFileSync(path, 'utf8')).toBe('mine');
    expect(await drain(one)).toHaveLength(5);
  });

  test.each([
    ['EACCES', /give the user that runs this service read and write permission/],
    ['EROFS', /mounted read-only/],
  ])('%s at opening says what to do; when that is done, it works', async (code, sentence) => {
    const faulty = failingDisk();
    faulty.fail('mkdir', code);
    const one = spoolWith({ disk: faulty.disk });
    await fill(one, 5);
    expect(one.spool.problem).toMatch(sentence);
    expect(one.outbox.batches).toBe(5);
    faulty.mend();
    await one.spool.finish(); // does not wait for its next attempt
    expect([one.outbox.batches, one.spool.problem]).toEqual([0, null]);
  });

  test.each(['ENOSPC', 'EIO', 'EROFS'])(
    '%s at a write: nothing is lost, nothing is there twice, files that are good stay',
    async (code) => {
      const faulty = failingDisk();
      const one = spoolWith({ disk: faulty.disk });
      const before = await fill(one, 40);
      for (const operation of ['writev', 'datasync'] as const) {
        const now = { ...one };
        faulty.fail(operation, code);
        now.outbox.add(batch(2), LONG_AGO);
        await now.spool.finish();
        expect(now.spool.problem).toMatch(/^the spool cannot be used/);
        expect(now.outbox.rows).toBeGreaterThanOrEqual(2);
        faulty.mend();
      }
      await one.spool.finish();
      expect(one.outbox.batches).toBe(0);
      const two = spoolWith();
      const ids = new Set((await drain(two)).map(({ id }) => id));
      expect(ids.size).toBe(42);
      for (const { id } of before) expect(ids).toContain(id);
    },
  );

  test('memory holds what the disk does not take, to its limit, and the rest is counted', async () => {
    const faulty = failingDisk();
    faulty.fail('writev', 'ENOSPC');
    const one = spoolWith({ disk: faulty.disk });
    const batches = await fill(one, 300);
    expect(one.outbox.bytes).toBeLessThanOrEqual(OUTBOX_BYTES);
    expect(one.outbox.rows + one.outbox.droppedRows.outbox_full).toBe(rowsIn(batches));
  });
});

type Operation = 'mkdir' | 'writev' | 'datasync';

/** The real disk, but for one operation that fails as long as it is told to. */
function failingDisk() {
  let failing: { operation: Operation; code: string } | null = null;
  const check = (operation: Operation): void => {
    if (failing?.operation === operation) throw Object.assign(new Error(`${failing.code}: ${operation}`), { code: failing.code });
  };
  const wrap = (file: DiskFile): DiskFile => ({
    read: (buffer, offset, length, position) => file.read(buffer, offset, length, position),
    writev: async (buffers, position) => {
      check('writev');
      return await file.writev(buffers, position);
    },
    truncate: (length) => file.truncate(length),
    datasync: async () => {
      check('datasync');
      await file.datasync();
    },
    sync: () => file.sync(),
    stat: () => file.stat(),
    close: () => file.close(),
  });
  const disk: Disk = {
    ...realDisk,
    mkdir: async (path, options) => {
      check('mkdir');
      return await realDisk.mkdir(path, options);
    },
    open: async (path, flags) => wrap(await realDisk.open(path, flags)),
  };
  return {
    disk,
    fail: (operation: Operation, code: string) => {
      failing = { operation, code };
    },
    mend: () => {
      failing = null;
    },
  };
}
