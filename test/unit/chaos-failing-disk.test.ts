// The disk that fails on order does so at the call it was told, leaves behind what it should, and works again afterwards.

import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type DiskFailure, DiskOrder } from '../chaos/disk-order.ts';

const directory = mkdtempSync(join(tmpdir(), 'spillway-failing-'));
const order = new DiskOrder(join(directory, 'order.json'));
let path: string;
let file: FileHandle;
let files = 0;

beforeAll(async () => {
  process.env['FAILING_DISK_ORDER'] = order.path;
  await import('../chaos/failing-disk.ts');
});
afterAll(() => rmSync(directory, { recursive: true }));

beforeEach(async () => {
  path = join(directory, `${files++}`);
  file = await open(path, 'wx+');
});
afterEach(() => file.close());

const write = (text: string, position: number) => file.writev([Buffer.from(text.slice(0, 1)), Buffer.from(text.slice(1))], position);
const contents = () => readFileSync(path, 'utf8');

/** Gives the order, does the work, and waits until the order is gone. */
async function during(failure: DiskFailure, work: () => Promise<void>): Promise<void> {
  const isDone = order.give(failure, 10_000);
  await work();
  expect(await isDone).toBe(true);
}

test.each(['EIO', 'ENOSPC'] as const)('a write fails with %s at the call that was named, half done, and the next works', async (code) => {
  await during({ operation: 'writev', code, nth: 2, times: 1 }, async () => {
    expect((await write('0123', 0)).bytesWritten).toBe(4);
    await expect(write('456789', 4)).rejects.toMatchObject({ code });
    expect(contents()).toBe('0123456');
    expect((await write('456789', 4)).bytesWritten).toBe(6);
  });
  expect(contents()).toBe('0123456789');
});

test('what was ordered is what is thrown, also where the write could not have been done', async () => {
  await file.close();
  file = await open(path, 'r');
  await expect(write('01', 0)).rejects.toMatchObject({ code: 'EBADF' });
  await during({ operation: 'writev', code: 'EIO', nth: 1, times: 1 }, async () => {
    await expect(write('01', 0)).rejects.toMatchObject({ code: 'EIO' });
  });
});

test('a new order counts its calls from the start', async () => {
  for (const nth of [3, 2]) {
    await during({ operation: 'writev', code: 'EIO', nth, times: 1 }, async () => {
      for (let call = 1; call < nth; call++) await write('01', 0);
      await expect(write('01', 0)).rejects.toMatchObject({ code: 'EIO' });
    });
  }
});

test('short writes say how much they wrote, as often as was ordered', async () => {
  await during({ operation: 'writev', code: null, nth: 1, times: 2 }, async () => {
    expect((await write('0123', 0)).bytesWritten).toBe(2);
    expect((await write('2345', 2)).bytesWritten).toBe(2);
    expect((await write('4567', 4)).bytesWritten).toBe(4);
  });
  expect(contents()).toBe('01234567');
});

test('a sync that fails loses half of what it was to sync, and nothing of what was synced before', async () => {
  await write('0123', 0);
  await file.datasync();
  await write('456789', 4);
  await during({ operation: 'datasync', code: 'EIO', nth: 1, times: 1 }, async () => {
    await expect(file.datasync()).rejects.toMatchObject({ code: 'EIO' });
  });
  expect(contents()).toBe('0123456');
});

test('what was in a file when it was opened is not lost', async () => {
  await write('0123', 0);
  await file.close();
  file = await open(path, 'r+');
  await write('4567', 4);
  await during({ operation: 'datasync', code: 'ENOSPC', nth: 1, times: 1 }, async () => {
    await expect(file.datasync()).rejects.toMatchObject({ code: 'ENOSPC' });
  });
  expect(contents()).toBe('012345');
});

test('an order is for one operation; one that does not come is withdrawn', async () => {
  const isDone = order.give({ operation: 'sync', code: 'EIO', nth: 1, times: 1 }, 50);
  await write('0123', 0);
  await file.datasync();
  expect(await isDone).toBe(false);
  expect(existsSync(order.path)).toBe(false);
  await file.sync();
  expect(statSync(path).size).toBe(4);
});
