// Turns the oldest rows of the window into eviction events: bodies of at most 512 KiB, whole batches where they fit. One ends with the
// first batch with which it is large enough: larger ones cost every reader more, whose socket hands it 64 KiB at a time.
// A batch that is larger than a body is spread over several events; all but the last of them end at the batch's own
// position, so that the floor does not move past it before all of it is out.

import { crc32 } from 'node:zlib';
import { EVICTION_BYTES_MAX, type EvictionEvent, type EvictionReason } from '#shared/contract/eviction';
import type { Catalog, Host } from './catalog.ts';
import type { Columns } from './columns.ts';
import { hostPart, type Piece, pieceOf, RowWriter } from './row-writer.ts';
import type { Window } from './window.ts';

/** Measured with bodies of 48 to 512 KiB: a tenth more rows a second than with 256 KiB and above or 48 KiB. */
export const BODY_BYTES_ENOUGH = 128 * 1024;

export interface EvictionPlan {
  /** Identity of the log. */
  readonly log: number;
  /** Where the floor is to be. */
  readonly to: number;
  readonly reason: EvictionReason;
  /** False: rows are dropped and counted instead of carried, because there is no spill. */
  readonly carriesRows: boolean;
  /** Rows of positions below the floor that events of this log have carried. */
  readonly carriedRows: number;
}

/**
 * The events that move the floor from where it is towards `plan.to`: to the end of the window's first block, or of those of its rows
 * that there was memory for.
 * Lazy: a body is made when it is asked for. The window must not change in between.
 */
export function* evictionEvents(
  window: Window,
  plan: EvictionPlan,
  bytesMax: number = EVICTION_BYTES_MAX,
  bytesEnough: number = BODY_BYTES_ENOUGH,
): Generator<EvictionEvent> {
  const rows = window.oldestRows(plan.to);
  const end = rows?.end ?? plan.to;
  const duplicates = (to: number) =>
    window.duplicateRanges.filter((range) => range.last >= to).map((range) => ({ first: Math.max(range.first, to), last: range.last }));
  let rowsBelow = plan.carriedRows;
  let rowsOfPart = 0;
  const event = (from: number, to: number, count: number, body: Uint8Array): EvictionEvent => {
    rowsOfPart += plan.carriesRows ? count : 0;
    if (to > from) {
      // A batch in parts counts when all of it is out: a store that starts again begins it anew.
      rowsBelow += rowsOfPart;
      rowsOfPart = 0;
    }
    return {
      log: plan.log,
      from,
      to,
      rows: plan.carriesRows ? count : 0,
      rowsBelow,
      crc32: crc32(body),
      reason: plan.reason,
      duplicates: duplicates(to),
      dropped: plan.carriesRows ? 0 : count,
      body,
    };
  };
  if (rows === null) {
    yield event(window.floor, end, 0, new Uint8Array());
    return;
  }
  if (!plan.carriesRows) {
    const { columns, firstBatch, lastBatch } = rows;
    let count = 0;
    for (const shape of columns.shape.subarray(firstBatch, lastBatch))
      for (const series of window.catalog.shape(shape)) if (!window.catalog.isRemoved(series)) count++;
    yield event(window.floor, end, count, new Uint8Array());
    return;
  }
  const body = new Body(bytesMax, window.catalog, rows.columns);
  let from = window.floor;
  for (let batch = rows.firstBatch; batch < rows.lastBatch; batch++) {
    const seq = rows.columns.seq[batch] as number;
    const size = rows.columns.rowEnd(batch) - (rows.columns.rowStart[batch] as number);
    if (body.bytes >= bytesEnough) {
      const enough = body.takeAll();
      yield event(from, seq, enough.rows, enough.bytes);
      from = seq;
    }
    body.startBatch(batch);
    for (let i = 0; i < size; i++) {
      if (body.add(i)) continue;
      // Either the batches before this one go out, or, when there are none, a part of this one.
      if (from < seq) {
        const whole = body.takeWhole();
        yield event(from, seq, whole.rows, whole.bytes);
        from = seq;
        if (body.add(i)) continue;
      }
      const part = body.takeAll();
      yield event(seq, seq, part.rows, part.bytes);
      if (!body.add(i)) throw new RangeError(`a row of position ${seq} does not fit an event of ${bytesMax} bytes`);
    }
  }
  const rest = body.takeAll();
  if (rest.rows > 0 || from < end) yield event(from, end, rest.rows, rest.bytes);
}

/** Rows on their way into a body, with the place where the last batch began. */
class Body {
  private readonly writer: RowWriter;
  private readonly catalog: Catalog;
  private readonly columns: Columns;
  private rows = 0;
  private batchAt = 0;
  private batchRows = 0;
  private batch = 0;
  private shape: Uint32Array = new Uint32Array();
  private timestamp: Piece = pieceOf('');
  private host: Host | null = null;
  private hostPart: Uint8Array = new Uint8Array();

  constructor(bytesMax: number, catalog: Catalog, columns: Columns) {
    this.writer = new RowWriter(bytesMax);
    this.catalog = catalog;
    this.columns = columns;
  }

  get bytes(): number {
    return this.writer.length;
  }

  startBatch(batch: number): void {
    this.batchAt = this.writer.length;
    this.batchRows = 0;
    this.batch = batch;
    this.shape = this.catalog.shape(this.columns.shape[batch] as number);
    this.timestamp = pieceOf(new Date(this.columns.ts[batch] as number).toISOString());
  }

  /**
   * Adds a row of the batch begun last, by its place in it; one of a removed series is left out.
   * @returns false when it does not fit
   */
  add(place: number): boolean {
    const { catalog, columns, batch } = this;
    const series = this.shape[place] as number;
    if (catalog.isRemoved(series)) return true;
    const row = (columns.rowStart[batch] as number) + place;
    const incarnation = columns.incarnation[row] as number;
    const { state, pid, started } = catalog.incarnations;
    const host = catalog.hostOf(series);
    if (host !== this.host) {
      this.host = host;
      this.hostPart = hostPart(host.name);
    }
    const isAdded = this.writer.row(
      catalog.hashWord(series, 0),
      catalog.hashWord(series, 1),
      this.hostPart,
      catalog.unitOf(series),
      columns.seq[batch] as number,
      state[incarnation] as number,
      pid[incarnation] as number,
      started[incarnation] as number,
      this.timestamp,
      columns.metrics,
      row,
    );
    if (isAdded) {
      this.rows++;
      this.batchRows++;
    }
    return isAdded;
  }

  /** Takes the batches before the one begun last, which stays. */
  takeWhole(): { bytes: Uint8Array; rows: number } {
    const taken = { bytes: this.writer.take(this.batchAt), rows: this.rows - this.batchRows };
    this.rows = this.batchRows;
    this.batchAt = 0;
    return taken;
  }

  takeAll(): { bytes: Uint8Array; rows: number } {
    const taken = { bytes: this.writer.take(this.writer.length), rows: this.rows };
    this.rows = 0;
    this.batchAt = 0;
    this.batchRows = 0;
    return taken;
  }
}
