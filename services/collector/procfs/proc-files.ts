// Small files of /proc, read through descriptors into one buffer that is reused: no allocation, no shell, one system call
// for a file that is open already. A descriptor of a process's file belongs to that process for ever: after its death every
// read fails with ESRCH, even if the pid is in use again. So an open descriptor also proves that a process is the same one.

import { closeSync, constants, openSync, readdirSync, readlinkSync, readSync, statSync } from 'node:fs';

/** Nothing under a procfs that is read here is larger, but for the interfaces of a host with very many of them. */
const BUFFER_BYTES = 64 * 1024;

/** The process is not there (any more). */
export const GONE = -1;
/** It is there, but not for us: another user's, or hidden by a security module. */
export const DENIED = -2;

export class ProcFiles {
  /** Path of the procfs, `/proc` or where a container has the host's. */
  readonly root: string;
  /** What the last read has left, valid up to the length it returned and until the next read. */
  readonly buffer = Buffer.allocUnsafe(BUFFER_BYTES);

  constructor(root = '/proc') {
    this.root = root;
  }

  /** @returns a descriptor, {@link GONE} or {@link DENIED}. @throws on anything else, such as too many open files. */
  open(path: string): number {
    try {
      // O_NONBLOCK: nothing that is put in our way may block the event loop.
      return openSync(`${this.root}/${path}`, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      return outcomeOf(error);
    }
  }

  close(descriptor: number): void {
    closeSync(descriptor);
  }

  /** Reads an open file from its beginning into the buffer. @returns its length, {@link GONE} or {@link DENIED}. */
  readOpen(descriptor: number): number {
    try {
      return readSync(descriptor, this.buffer, 0, BUFFER_BYTES, 0);
    } catch (error) {
      return outcomeOf(error);
    }
  }

  /** Opens, reads and closes. @returns its length, {@link GONE} or {@link DENIED}. */
  read(path: string): number {
    const descriptor = this.open(path);
    if (descriptor < 0) return descriptor;
    try {
      return this.readOpen(descriptor);
    } finally {
      closeSync(descriptor);
    }
  }

  /** The same as text, at most `bytesMax` of it; null when it is gone or denied. */
  readText(path: string, bytesMax: number = BUFFER_BYTES): string | null {
    const length = this.read(path);
    return length < 0 ? null : this.buffer.toString('utf8', 0, Math.min(length, bytesMax));
  }

  /** Null when it is gone or denied. */
  readLink(path: string): string | null {
    try {
      return readlinkSync(`${this.root}/${path}`);
    } catch (error) {
      outcomeOf(error);
      return null;
    }
  }

  /** All process ids there are, in no order. */
  pids(): number[] {
    return idsIn(this.root);
  }

  /** Ids of a process's threads; none when it is gone or denied. */
  threads(pid: number): number[] {
    try {
      return idsIn(`${this.root}/${pid}/task`);
    } catch (error) {
      outcomeOf(error);
      return [];
    }
  }

  /** @returns how many files a process has open, {@link GONE} or {@link DENIED} */
  openFiles(pid: number): number {
    const path = `${this.root}/${pid}/fd`;
    try {
      // Linux 6.2 and newer give the number as the size of the directory, to everybody; older ones give 0 and have to be asked for the list.
      const { size } = statSync(path);
      return size > 0 ? size : readdirSync(path).length;
    } catch (error) {
      return outcomeOf(error);
    }
  }
}

/** Names in a directory that are ids. */
function idsIn(path: string): number[] {
  const ids: number[] = [];
  for (const name of readdirSync(path)) {
    const first = name.charCodeAt(0);
    if (first >= 0x31 && first <= 0x39) ids.push(Number(name));
  }
  return ids;
}

function outcomeOf(error: unknown): number {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ESRCH':
    case 'ENOENT':
    case 'ENOTDIR':
    case 'EINVAL': // a link of a kernel thread or of a zombie
      return GONE;
    case 'EACCES':
    case 'EPERM':
      return DENIED;
    default:
      throw error;
  }
}
