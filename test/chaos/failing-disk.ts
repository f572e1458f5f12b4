// Loaded before the spillover (`node --import`), so that its disk can fail on demand while the program stays as it is. It stands in
// front of the file operations of the segment log (writev, fdatasync, and fsync, which is for the directory) and looks for an order
// in the file that FAILING_DISK_ORDER names. When the order is carried out, the file is removed.
//
// A failed write leaves half of its bytes behind. A failed fdatasync loses half of what was not synced, as a kernel does
// that drops pages it could not write.

import { readFileSync, unlinkSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { DiskFailure, NumberedFailure } from './disk-order.ts';

const orderFile = process.env['FAILING_DISK_ORDER'];
if (orderFile === undefined) throw new Error('FAILING_DISK_ORDER must name the file in which orders are looked for');

/** The class of file handles has no other way to it. */
const handle = await open(process.execPath, 'r');
const operations = Object.getPrototypeOf(handle) as FileHandle;
await handle.close();
const { writev, datasync, sync } = operations;

/** Bytes of a file that have been synced; what was there when it was opened counts as such. */
const syncedBytes = new WeakMap<FileHandle, number>();
/** Of the operation of the order that was seen last. */
let calls = 0;
let orderSeen = 0;

operations.writev = async function (this: FileHandle, buffers, position) {
  if (!syncedBytes.has(this)) syncedBytes.set(this, (await this.stat()).size);
  const failure = failureOf('writev');
  if (failure === null) return writev.call(this, buffers, position);
  const writing = writev.call(this, [firstHalf(buffers)], position);
  if (failure.code === null) return { ...(await writing), buffers };
  await writing.catch(() => undefined); // the disk may be full as well; the order is carried out all the same
  throw failed(failure);
} as typeof writev;

operations.datasync = async function (this: FileHandle) {
  const failure = failureOf('datasync');
  const { size } = await this.stat();
  if (failure === null) {
    await datasync.call(this);
    syncedBytes.set(this, size);
    return;
  }
  const kept = Math.min(size, syncedBytes.get(this) ?? size);
  await this.truncate(kept + Math.floor((size - kept) / 2));
  throw failed(failure);
};

operations.sync = async function (this: FileHandle) {
  const failure = failureOf('sync');
  if (failure !== null) throw failed(failure);
  await sync.call(this);
};

/** What the order says about this call; null when it is to succeed. */
function failureOf(operation: DiskFailure['operation']): DiskFailure | null {
  const order = readOrder();
  if (order === null || order.operation !== operation) return null;
  if (order.order !== orderSeen) calls = 0;
  orderSeen = order.order;
  calls++;
  if (calls < order.nth) return null;
  if (calls === order.nth + order.times - 1) unlinkSync(orderFile as string);
  return order;
}

function readOrder(): NumberedFailure | null {
  try {
    return JSON.parse(readFileSync(orderFile as string, 'utf8')) as NumberedFailure;
  } catch {
    return null; // none, or one that is just being written
  }
}

function firstHalf(buffers: readonly NodeJS.ArrayBufferView[]): Buffer {
  const all = Buffer.concat(buffers.map(({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength)));
  return all.subarray(0, Math.ceil(all.length / 2));
}

function failed({ code, operation }: DiskFailure): Error {
  return Object.assign(new Error(`${code}: on demand, ${operation}`), { code, syscall: operation });
}
