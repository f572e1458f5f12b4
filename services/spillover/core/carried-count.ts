// The running count of rows that the eviction events of a log say they have carried, followed up to the newest event taken.
// Pure. What the files have must be as many: that is how rows that are missing or doubled on disk are noticed.
//
// The count of an event names the rows below its end, not the events before it: a batch in parts that is evicted anew counts once.

import type { EvictionHead } from '#shared/contract/eviction';
import type { LogPosition } from '#shared/contract/queries';

export class CarriedCount {
  /** Null before the first row. */
  log: number | null;
  rows: number;
  /** Rows on disk, deleted or dropped, that the count does not include: they came before it began. */
  uncountedRows: number;
  /** Whether the newest event had a count: without one, the rows on disk are all there is to go by. */
  isCounted = true;

  /**
   * @param heldRows rows of the log on disk, deleted or dropped: the best guess until the last event is read again, which stays in EVICTED
   * @param uncountedRows as they were when the count began
   */
  constructor(log: number | null, heldRows: number, uncountedRows: number) {
    this.log = log;
    this.rows = heldRows - uncountedRows;
    this.uncountedRows = uncountedRows;
  }

  /**
   * Follows an event that was accepted.
   * @param position where the intake was before it
   * @param freshRows rows of it that were new
   * @param heldRows rows of its log that are on disk, on their way there, deleted or dropped, those of this event not included
   */
  take(event: EvictionHead, position: LogPosition | null, freshRows: number, heldRows: () => number): void {
    const { log, from, to, rowsBelow } = event;
    if (log !== this.log) {
      this.log = log;
      this.rows = 0;
      this.uncountedRows = 0;
    }
    const isNews = position === null || position.log !== log || to > position.seq;
    if (rowsBelow === null) {
      // Ends the count: for the store that reads this as its last event it begins again at 0, so here as well.
      if (!isNews && freshRows === 0) return;
      this.isCounted = false;
      this.rows = 0;
      this.uncountedRows = heldRows() + freshRows;
      return;
    }
    if (to === from) this.rows = Math.max(this.rows, rowsBelow) + freshRows;
    else if (isNews) {
      // New rows under a lower count: a store has begun to count anew, because EVICTED was made anew.
      if (freshRows > 0) this.uncountedRows += Math.max(0, this.rows + freshRows - rowsBelow);
      this.rows = rowsBelow;
    }
    this.isCounted = true;
  }
}
