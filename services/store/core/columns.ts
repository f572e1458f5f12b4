// Rows in log order as plain typed arrays: the head of the window, and the form a block takes while it is rewritten or evicted.
// A batch is one entry of the batch arrays and a contiguous run of entries of the row arrays; which series a row belongs
// to is told by the batch's shape (the list of its series), not stored with the row.

import { METRICS } from '#shared/contract/metrics';

const BATCH_BYTES = 4 * 8 + 3 * 4;
const rowBytes = (width: number): number => 4 + width * 8;

export class Columns {
  batches = 0;
  rows = 0;
  seq = new Float64Array(0);
  /** Wall clock of the reading, ms. */
  ts = new Float64Array(0);
  /** When JetStream stored the batch, ms. */
  arrival = new Float64Array(0);
  tick = new Float64Array(0);
  /** Ids of the catalog. */
  source = new Uint32Array(0);
  shape = new Uint32Array(0);
  /** First row of the batch; its rows end where the next batch's start. */
  rowStart = new Uint32Array(0);
  /** Ids of the catalog: state, pid and start time. */
  incarnation = new Uint32Array(0);
  /** By metric, in table order. Null is NaN. Extra metrics have columns from the first batch that brings one: see {@link Columns.widen}. */
  metrics: Float64Array[] = METRICS.map(() => new Float64Array(0));
  /** Metrics that the rows need; there may be more columns, left from the rows before them. */
  private widthNeeded: number = METRICS.length;

  get bytes(): number {
    return this.seq.length * BATCH_BYTES + this.incarnation.length * rowBytes(this.metrics.length);
  }

  /** Bytes that `bytes` would be after {@link Columns.reserve} and {@link Columns.widen}. */
  bytesAfter(batches: number, rows: number, width: number): number {
    const rowCapacity = capacityFor(this.incarnation.length, rows);
    return capacityFor(this.seq.length, batches) * BATCH_BYTES + rowCapacity * rowBytes(Math.max(width, this.metrics.length));
  }

  static bytesFor(batches: number, rows: number, width: number): number {
    return batches * BATCH_BYTES + rows * rowBytes(width);
  }

  /** Makes columns for the first `width` metrics of the table. A metric that is new is null in the rows that are there. */
  widen(width: number): void {
    this.widthNeeded = Math.max(this.widthNeeded, width);
    while (this.metrics.length < width) this.metrics.push(new Float64Array(this.incarnation.length).fill(Number.NaN, 0, this.rows));
  }

  /** Makes room for so many in all. */
  reserve(batches: number, rows: number): void {
    const batchCapacity = capacityFor(this.seq.length, batches);
    if (batchCapacity !== this.seq.length) {
      this.seq = grown(this.seq, batchCapacity);
      this.ts = grown(this.ts, batchCapacity);
      this.arrival = grown(this.arrival, batchCapacity);
      this.tick = grown(this.tick, batchCapacity);
      this.source = grown(this.source, batchCapacity);
      this.shape = grown(this.shape, batchCapacity);
      this.rowStart = grown(this.rowStart, batchCapacity);
    }
    const rowCapacity = capacityFor(this.incarnation.length, rows);
    if (rowCapacity !== this.incarnation.length) {
      this.incarnation = grown(this.incarnation, rowCapacity);
      this.metrics = this.metrics.map((column) => grown(column, rowCapacity));
    }
  }

  /** Forgets the rows and keeps the arrays that they needed, unless they have grown beyond `bytesMax`. */
  clear(bytesMax: number): void {
    if (this.batches > 0) {
      this.metrics.length = this.widthNeeded;
      this.widthNeeded = METRICS.length;
    }
    this.batches = 0;
    this.rows = 0;
    if (this.bytes <= bytesMax) return;
    Object.assign(this, new Columns());
  }

  rowEnd(batch: number): number {
    return batch + 1 < this.batches ? (this.rowStart[batch + 1] as number) : this.rows;
  }
}

/** Grows by half: doubling would leave half of a small budget unused. */
function capacityFor(present: number, wanted: number): number {
  return wanted <= present ? present : Math.max(wanted, 32, Math.ceil(present * 1.5));
}

/** A copy with room for `capacity` elements; those beyond it are cut off. */
export function grown<T extends Float64Array | Uint32Array | Uint8Array>(array: T, capacity: number): T {
  const larger = new (array.constructor as new (length: number) => T)(capacity);
  larger.set(capacity < array.length ? array.subarray(0, capacity) : array);
  return larger;
}
