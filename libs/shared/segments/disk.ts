// The file operations the segment log uses, as one small port, so that a test can make the n-th of them fail, write only
// some of the bytes, or stop the world there. The default is node:fs/promises itself.

import { lstat, mkdir, open, readdir, rename, unlink } from 'node:fs/promises';

export interface DiskFile {
  /** Bytes read; 0 at the end of the file. */
  read(buffer: Uint8Array, offset: number, length: number, position: number): Promise<{ bytesRead: number }>;
  /** May write less than asked. */
  writev(buffers: readonly Uint8Array[], position: number): Promise<{ bytesWritten: number }>;
  truncate(length: number): Promise<void>;
  datasync(): Promise<void>;
  sync(): Promise<void>;
  stat(): Promise<{ size: number; nlink: number }>;
  close(): Promise<void>;
}

export interface DirectoryEntry {
  readonly name: string;
  isFile(): boolean;
}

export interface Disk {
  mkdir(path: string, options: { recursive: true }): Promise<unknown>;
  readdir(path: string, options: { withFileTypes: true }): Promise<DirectoryEntry[]>;
  open(path: string, flags: string): Promise<DiskFile>;
  /** Of a symbolic link itself, not of what it points to. */
  stat(path: string): Promise<{ size: number }>;
  rename(from: string, to: string): Promise<void>;
  unlink(path: string): Promise<void>;
}

export const realDisk: Disk = {
  mkdir,
  readdir: (path, options) => readdir(path, options),
  open: (path, flags) => open(path, flags),
  stat: lstat,
  rename,
  unlink,
};

/** Makes names that were created, renamed or removed in the directory durable. */
export async function syncDirectory(disk: Disk, path: string): Promise<void> {
  const directory = await disk.open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Writes all of it, however many calls that takes. */
export async function writeWhole(file: DiskFile, buffers: readonly Uint8Array[], position: number): Promise<void> {
  let left = [...buffers];
  let at = position;
  while (left.length > 0) {
    const { bytesWritten } = await file.writev(left, at);
    at += bytesWritten;
    left = withoutFirst(left, bytesWritten);
    // A write of nothing that is not an error is how some file systems say that they are full.
    if (bytesWritten === 0 && left.length > 0) throw Object.assign(new Error('ENOSPC: nothing was written'), { code: 'ENOSPC' });
  }
}

function withoutFirst(buffers: readonly Uint8Array[], bytes: number): Uint8Array[] {
  const left: Uint8Array[] = [];
  let skip = bytes;
  for (const buffer of buffers) {
    if (skip >= buffer.length) skip -= buffer.length;
    else {
      left.push(skip === 0 ? buffer : buffer.subarray(skip));
      skip = 0;
    }
  }
  return left;
}

/** Code of a file system error, such as `ENOSPC`; '' for anything else. */
export function diskErrorCode(error: unknown): string {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === 'string' ? code : '';
}

export function isMissing(error: unknown): boolean {
  return diskErrorCode(error) === 'ENOENT';
}
