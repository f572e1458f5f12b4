// Remembers across restarts what the segments cannot say: how many rows the budget has deleted, in `custody.json` beside
// them. It is written before a segment is deleted, and names the newest one: what lies at or below it counts as deleted, whether its
// file is still there (a crash in between, or a backup) or not. So every row is deleted once, whenever the process dies.
// Losing this file loses no row; the rows it knew of are then missed and reported as lost.

import { join } from 'node:path';
import { z } from 'zod';
import { type Disk, isMissing } from '#shared/segments/disk';
import { Exclusive } from '#shared/segments/exclusive';
import { DiskFullError, typedDiskError, typedOpenError } from '#shared/segments/segment-errors';
import type { SegmentRange } from '#shared/segments/segment-events';
import { readSmallFile, replaceFile } from './small-file.ts';

/** On disk, with its successor while that is written: nine numbers and their names, twice. */
export const BOOK_BYTES_MAX = 1024;

const entriesSchema = z.object({
  /** Rows deleted of a log, up to and including the segment that begins at `first`. Older logs are deleted by then. */
  deleted: z.object({ log: z.int(), first: z.int(), rows: z.int() }).nullable(),
  /** Rows of a log that no segment could take, up to and including position `seq`. */
  dropped: z.object({ log: z.int(), seq: z.int(), rows: z.int() }).nullable(),
  /** Rows of a log that the count of its events does not include. */
  uncounted: z.object({ log: z.int(), rows: z.int() }).nullable(),
});
type Entries = z.infer<typeof entriesSchema>;

export class CustodyBook {
  private readonly disk: Disk;
  private readonly path: string;
  private readonly exclusive = new Exclusive();
  private entries: Entries;
  /** What is dropped again up to here, after a start, has been counted. */
  private readonly droppedBefore: Entries['dropped'];
  private isChanged = false;

  private constructor(disk: Disk, path: string, entries: Entries) {
    this.disk = disk;
    this.path = path;
    this.entries = entries;
    this.droppedBefore = entries.dropped;
  }

  /** A file that is not there, or says something else, counts nothing. @throws what opening the segments there throws */
  static async open(disk: Disk, directory: string): Promise<CustodyBook> {
    const path = join(directory, 'custody.json');
    const text = await readSmallFile(path).catch((error: unknown) => {
      if (isMissing(error)) return '';
      throw typedOpenError(directory, error);
    });
    return new CustodyBook(disk, path, parseEntries(text));
  }

  deletedRows(log: number): number {
    return rowsOf(this.entries.deleted, log);
  }
  droppedRows(log: number): number {
    return rowsOf(this.entries.dropped, log);
  }
  uncountedRows(log: number): number {
    return rowsOf(this.entries.uncounted, log);
  }

  /** Whether the rows of a segment count as deleted, although its file may be there. */
  isDeleted({ log, first }: { readonly log: number; readonly first: number }): boolean {
    const { deleted } = this.entries;
    return deleted !== null && (log < deleted.log || (log === deleted.log && first <= deleted.first));
  }

  /**
   * To be waited for before the file goes. A full disk does not hold up the deletion, which makes room: it is written down next time.
   * @throws {DiskFailedError}
   */
  async noteDeleted({ log, first, rows }: SegmentRange): Promise<void> {
    if (this.isDeleted({ log, first })) return;
    this.entries.deleted = { log, first, rows: this.deletedRows(log) + rows };
    this.isChanged = true;
    await this.save();
  }

  /** Counts from now on; written down by the next {@link save}. */
  noteDropped(log: number, seq: number, rows: number): void {
    const before = this.droppedBefore;
    if (before !== null && before.log === log && seq <= before.seq) return;
    this.entries.dropped = { log, seq, rows: this.droppedRows(log) + rows };
    this.isChanged = true;
  }

  /** Counts from now on; written down by the next {@link save}. */
  noteUncounted(log: number, rows: number): void {
    if (this.uncountedRows(log) === rows) return;
    this.entries.uncounted = { log, rows };
    this.isChanged = true;
  }

  /** Resolves when everything noted is durable, or there is no room to write it. @throws {DiskFailedError} */
  save(): Promise<void> {
    return this.exclusive.run(async () => {
      if (!this.isChanged) return;
      this.isChanged = false;
      try {
        await replaceFile(this.disk, this.path, `${JSON.stringify(this.entries)}\n`);
      } catch (error) {
        this.isChanged = true;
        const typed = typedDiskError(`write ${this.path}`, error);
        if (!(typed instanceof DiskFullError)) throw typed;
      }
    });
  }
}

function rowsOf(entry: { readonly log: number; readonly rows: number } | null, log: number): number {
  return entry?.log === log ? entry.rows : 0;
}

function parseEntries(text: string): Entries {
  try {
    return entriesSchema.parse(JSON.parse(text));
  } catch {
    return { deleted: null, dropped: null, uncounted: null };
  }
}
