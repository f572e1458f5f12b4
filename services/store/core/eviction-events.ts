// Turns the oldest rows of the window into eviction events: bodies of at most 512 KiB, whole batches where they fit.
// A batch that is larger than a body is spread over several events; all but the last of them end at the batch's own
// position, so that the floor does not move past it before all of it is out.

import { crc32 } from 'node:zlib';
import { EVICTION_BYTES_MAX, type EvictionEvent, type EvictionReason } from '#shared/contract/eviction';
import { STATES, type State } from '#shared/contract/metrics';
import { formatRow, rowPrefix } from '#shared/contract/row';
import type { Catalog } from './catalog.ts';
import type { Columns } from './columns.ts';
import type { Window } from './window.ts';

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
 * The events that move the floor from where it is to the end of the window's first block, at most to `plan.to`.
 * Lazy: a body is made when it is asked for. The window must not change in between.
 */
export function* evictionEvents(window: Window, plan: EvictionPlan, bytesMax: number = EVICTION_BYTES_MAX): Generator<EvictionEvent> {
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
  const lines = new RowLines(window.catalog, rows.columns);
  const body = new BodyBuffer(bytesMax);
  let from = window.floor;
  for (let batch = rows.firstBatch; batch < rows.lastBatch; batch++) {
    const seq = rows.columns.seq[batch] as number;
    body.startBatch();
    for (const line of lines.of(batch)) {
      if (body.add(line)) continue;
      // Either the batches before this one go out, or, when there are none, a part of this one.
      if (from < seq) {
        const whole = body.takeWhole();
        yield event(from, seq, whole.rows, whole.bytes);
        from = seq;
        if (body.add(line)) continue;
      }
      const part = body.takeAll();
      yield event(seq, seq, part.rows, part.bytes);
      body.startBatch();
      if (!body.add(line)) throw new RangeError(`a row of ${line.length} characters does not fit an event of ${bytesMax} bytes`);
    }
  }
  const rest = body.takeAll();
  if (rest.rows > 0 || from < end) yield event(from, end, rest.rows, rest.bytes);
}

/** Rows as lines, with what is the same for all rows of a series made once. */
class RowLines {
  private readonly prefixes = new Map<number, string>();
  private readonly values: number[] = [];
  private readonly catalog: Catalog;
  private readonly columns: Columns;

  constructor(catalog: Catalog, columns: Columns) {
    this.catalog = catalog;
    this.columns = columns;
  }

  /** Lines of a batch, in its order, each with its line break; those of removed series are left out. */
  *of(batch: number): Generator<string> {
    const { columns } = this;
    const { incarnations } = this.catalog;
    const seq = columns.seq[batch] as number;
    const timestamp = new Date(columns.ts[batch] as number).toISOString();
    const series = this.catalog.shape(columns.shape[batch] as number);
    const start = columns.rowStart[batch] as number;
    for (let i = 0; i < series.length; i++) {
      if (this.catalog.isRemoved(series[i] as number)) continue;
      const row = start + i;
      for (let metric = 0; metric < columns.metrics.length; metric++) this.values[metric] = columns.metrics[metric]?.[row] as number;
      const incarnation = columns.incarnation[row] as number;
      const state = STATES[incarnations.state[incarnation] as number] as State;
      const pid = incarnations.pid[incarnation] as number;
      const started = incarnations.started[incarnation] as number;
      yield `${formatRow(this.prefixOf(series[i] as number), seq, state, pid, started, timestamp, this.values)}\n`;
    }
  }

  private prefixOf(series: number): string {
    let prefix = this.prefixes.get(series);
    if (prefix === undefined) {
      prefix = rowPrefix(this.catalog.hostOf(series).name, this.catalog.unitOf(series));
      this.prefixes.set(series, prefix);
    }
    return prefix;
  }
}

/** Lines on their way into a body, with the place where the last batch began. */
class BodyBuffer {
  private readonly buffer: Buffer;
  private length = 0;
  private rows = 0;
  private batchAt = 0;
  private batchRows = 0;

  constructor(bytesMax: number) {
    this.buffer = Buffer.allocUnsafe(bytesMax);
  }

  startBatch(): void {
    this.batchAt = this.length;
    this.batchRows = 0;
  }

  /** @returns false when it does not fit */
  add(line: string): boolean {
    // A character is at most three bytes; measuring is only worth it near the end.
    if (this.length + line.length * 3 > this.buffer.length && this.length + Buffer.byteLength(line) > this.buffer.length) return false;
    this.length += this.buffer.write(line, this.length);
    this.rows++;
    this.batchRows++;
    return true;
  }

  /** Takes the batches before the one begun last, which stays. */
  takeWhole(): { bytes: Uint8Array; rows: number } {
    const taken = { bytes: Uint8Array.prototype.slice.call(this.buffer, 0, this.batchAt), rows: this.rows - this.batchRows };
    this.buffer.copyWithin(0, this.batchAt, this.length);
    this.length -= this.batchAt;
    this.rows = this.batchRows;
    this.batchAt = 0;
    return taken;
  }

  takeAll(): { bytes: Uint8Array; rows: number } {
    const taken = { bytes: Uint8Array.prototype.slice.call(this.buffer, 0, this.length), rows: this.rows };
    this.length = 0;
    this.rows = 0;
    this.batchAt = 0;
    this.batchRows = 0;
    return taken;
  }
}
