// Orders to the disk of the spillover: which operation is to fail, how and when. One at a time, as a file that is there until the order has
// been carried out.

import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

export interface DiskFailure {
  /** `datasync`: of a segment; `sync`: of the directory. */
  readonly operation: 'writev' | 'datasync' | 'sync';
  /** Of the operating system; null: `writev` writes half of the bytes and says so. */
  readonly code: 'EIO' | 'ENOSPC' | null;
  /** The call that is the first to fail, counted from 1. */
  readonly nth: number;
  /** How many calls fail, one after the other. */
  readonly times: number;
}

/** As it is in the file. */
export interface NumberedFailure extends DiskFailure {
  readonly order: number;
}

const POLL_MS = 20;

export class DiskOrder {
  readonly path: string;
  private given = 0;

  constructor(path: string) {
    this.path = path;
  }

  /** Gives an order and waits until it has been carried out. @returns false when it was withdrawn: there were not so many calls in that time */
  async give(failure: DiskFailure, withinMs: number): Promise<boolean> {
    const numbered: NumberedFailure = { ...failure, order: ++this.given };
    writeFileSync(`${this.path}.new`, JSON.stringify(numbered));
    renameSync(`${this.path}.new`, this.path);
    for (const deadlineMs = Date.now() + withinMs; Date.now() < deadlineMs; await delay(POLL_MS)) if (!existsSync(this.path)) return true;
    const isDone = !existsSync(this.path);
    rmSync(this.path, { force: true });
    return isDone;
  }
}
