// What can go wrong with a segment log, as the few things a caller can act on.

import { diskErrorCode } from './disk.ts';

/** The segment limit does not fit the budget. The configuration must change. */
export class SegmentLimitError extends Error {
  readonly code = 'segment_limit';
  readonly segmentBytesMax: number;
  readonly bytesMax: number;
  constructor(segmentBytesMax: number, bytesMax: number) {
    super(
      `segment limit ${segmentBytesMax} is more than half of the disk budget ${bytesMax}: a segment is the unit of deletion, so set it to ${Math.floor(bytesMax / 2)} or less`,
    );
    this.name = 'SegmentLimitError';
    this.segmentBytesMax = segmentBytesMax;
    this.bytesMax = bytesMax;
  }
}

/** The directory cannot be used. Somebody must act: the sentence says what, where and what to do. */
export class DirectoryRefusedError extends Error {
  readonly code = 'directory_refused';
  readonly directory: string;
  constructor(directory: string, cause: unknown) {
    super(`segments in ${directory}: ${textOf(cause)}; ${remedyOf(diskErrorCode(cause))}`, { cause });
    this.name = 'DirectoryRefusedError';
    this.directory = directory;
  }
}

/** There is no room, or another reason that may pass. Nothing of the append is in the log; the same append may be tried again. */
export class DiskFullError extends Error {
  readonly code = 'disk_full';
  /** Of the operating system: ENOSPC, EDQUOT, ... */
  readonly reason: string;
  constructor(what: string, cause: unknown) {
    super(`${what}: ${textOf(cause)}`, { cause });
    this.name = 'DiskFullError';
    this.reason = diskErrorCode(cause);
  }
}

/** The disk failed: what is on it is known only after starting again. The log refuses everything from here on. */
export class DiskFailedError extends Error {
  readonly code = 'disk_failed';
  readonly reason: string;
  constructor(what: string, cause: unknown) {
    super(`${what}: ${textOf(cause)}`, { cause });
    this.name = 'DiskFailedError';
    this.reason = diskErrorCode(cause);
  }
}

/** A segment whose bytes cannot be read as records. */
export class SegmentUnreadableError extends Error {
  readonly code = 'segment_unreadable';
  readonly segment: string;
  constructor(segment: string, cause: unknown) {
    super(`read ${segment}: ${textOf(cause)}`, { cause });
    this.name = 'SegmentUnreadableError';
    this.segment = segment;
  }
}

/** The operating system's codes, unlike Node's own (ERR_...) and zlib's (Z_...). */
const ERRNO = /^E[A-Z0-9]+$/;
const FAILURES = new Set(['EIO', 'EROFS', 'EBADF', 'ENXIO', 'ENODEV', 'ESTALE', 'EUCLEAN']);
const REFUSALS = new Set(['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST', 'ENAMETOOLONG', 'ELOOP']);

/** Whether trying again in this process cannot help. */
export function isDiskFailure(error: unknown): boolean {
  return error instanceof DiskFailedError || FAILURES.has(diskErrorCode(error));
}

/** The typed error for a failed operation outside a sync. Our own errors, and bugs, pass unchanged. */
export function typedDiskError(what: string, error: unknown): unknown {
  if (error instanceof DiskFailedError || error instanceof DiskFullError || !ERRNO.test(diskErrorCode(error))) return error;
  return isDiskFailure(error) ? new DiskFailedError(what, error) : new DiskFullError(what, error);
}

/** The same while opening, where a directory that we may not use is a matter of configuration. */
export function typedOpenError(directory: string, error: unknown): unknown {
  const code = diskErrorCode(error);
  // Node says ENOENT where a directory above cannot be made, as on a read-only file system.
  const isMissing = code === 'ENOENT' && (error as NodeJS.ErrnoException).syscall === 'mkdir';
  if (REFUSALS.has(code) || isMissing) return new DirectoryRefusedError(directory, error);
  return typedDiskError(`open segments in ${directory}`, error);
}

/** Whether reading failed because of what is (not) there: an error of zlib or of the medium, or no lines. */
export function isDamage(error: unknown): boolean {
  const code = diskErrorCode(error);
  return code === 'EIO' || code === 'line_too_long' || code.startsWith('Z_');
}

/** A sync, or a change that is half made: past this point only starting again tells what is on disk, whatever the error was. */
export async function syncOrFail(what: string, operation: () => Promise<void>): Promise<void> {
  try {
    await operation();
  } catch (error) {
    throw new DiskFailedError(what, error);
  }
}

function remedyOf(code: string): string {
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return 'give the user that runs this service read and write permission there';
    case 'EROFS':
      return 'the file system is mounted read-only: remount it, or choose another directory';
    default:
      return 'choose a path where a directory can be made';
  }
}

export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
