// What of the spool is still to be sent, in numbers alone: which positions are on disk, read into memory, and done with.
// A position counts rows: a record of n rows at position p is followed by the one at p + n. So rows are counted without
// reading anything, and a hole (a segment that was deleted, moved aside or cut) is just as many rows lost.
// Invariant: rows appended or found = rows waiting + rows read + rows discarded.

/** Why rows on disk were lost: at the limit of the spool, or because somebody or something else took them. */
export type DiscardReason = 'spool_full' | 'spool_lost';

export class SpoolPositions {
  /** Next position to read. */
  #read = 0;
  /** Position that follows the newest record. */
  #end = 0;
  #foundRows = 0;
  /** Records read and not yet done with, in order: position and rows. */
  readonly #pending = new Map<number, number>();
  readonly #discardedRows: Record<DiscardReason, number> = { spool_full: 0, spool_lost: 0 };

  get read(): number {
    return this.#read;
  }
  get end(): number {
    return this.#end;
  }
  /** Rows on disk that are not in memory. */
  get waitingRows(): number {
    return this.#end - this.#read;
  }
  /** Rows that an earlier process has left. */
  get foundRows(): number {
    return this.#foundRows;
  }
  get discardedRows(): Readonly<Record<DiscardReason, number>> {
    return this.#discardedRows;
  }
  /** Everything below this has been acknowledged or dropped, and may be deleted. */
  get doneBelow(): number {
    for (const seq of this.#pending.keys()) return seq;
    return this.#read;
  }

  /**
   * What was found on disk. Opened again by the same process, only what is beyond the known end is new: a write that failed
   * and is there all the same. What is missing before it shows as a hole when it is read.
   */
  opened(first: number, end: number): void {
    if (this.#end === 0) {
      this.#read = first;
      this.#end = first;
    }
    this.#foundRows += Math.max(0, end - this.#end);
    this.#end = Math.max(this.#end, end);
  }

  appended(rows: number): void {
    this.#end += rows;
  }

  /** A record has been read into memory. False if it is not to be: it was read before. */
  take(seq: number, rows: number): boolean {
    if (seq < this.#read || seq + rows > this.#end) return false;
    this.discardBelow(seq, 'spool_lost');
    this.#pending.set(seq, rows);
    this.#read = seq + rows;
    return true;
  }

  done(seq: number): void {
    this.#pending.delete(seq);
  }

  /** Nothing is left on disk below this position. @returns the rows that were lost */
  discardBelow(seq: number, reason: DiscardReason): number {
    const rows = Math.max(0, Math.min(seq, this.#end) - this.#read);
    this.#read += rows;
    this.#discardedRows[reason] += rows;
    return rows;
  }
}
