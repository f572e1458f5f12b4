// A block: an immutable, compressed, contiguous piece of the window [from, to), all series in it; the unit of eviction.
//
// It is a directory of typed arrays and one piece of bytes:
//
//   source entry := batches, runs of seq, ts, arrival, tick, shape           one for each source, ascending ids
//   series entry := rows, [aggregates], runs of state, pid, started, metrics  one for each series, ascending ids
//
// The rows of a series are in log order. Which batches they belong to is not stored: they are the batches of the host's
// sources whose shape has the series. Aggregates stand beside runs that are long enough to be worth it, so that a summary
// need not read the runs.

import { METRICS } from '#shared/contract/metrics';
import type { Catalog } from './catalog.ts';
import { COLUMN_COUNT, type Columns, FIRST_METRIC } from './columns.ts';
import { ByteReader, ByteWriter, decodeRun, encodeRun } from './run-codec.ts';

export interface Block {
  /** First position; equal to `to` of the block before. */
  readonly from: number;
  /** First position behind it. Positions in between that carry no batch are empty places of the log. */
  readonly to: number;
  readonly batches: number;
  readonly rows: number;
  readonly firstArrivalMs: number;
  readonly lastArrivalMs: number;
  readonly minTs: number;
  readonly maxTs: number;
  /** Ascending ids, each with the offset of its entry. */
  readonly sources: Uint32Array;
  readonly sourceOffsets: Uint32Array;
  readonly sourceMinTs: Float64Array;
  readonly sourceMaxTs: Float64Array;
  readonly series: Uint32Array;
  readonly seriesOffsets: Uint32Array;
  /** Distinct shapes of its batches. */
  readonly shapes: Uint32Array;
  readonly data: Uint8Array;
  /** Memory held, the object and its views included. */
  readonly bytes: number;
}

/** Aggregates of one metric of one series over some rows; `sum`, `min` and `max` are 0 when `count` is. */
export interface Aggregate {
  count: number;
  sum: number;
  min: number;
  max: number;
}

/** Rows below this are read from their runs: aggregates would cost more than they save. */
const AGGREGATED_ROWS_MIN = 32;
/** Measured: the object, eight views and their buffer. */
const BLOCK_OVERHEAD_BYTES = 1_100;

/** Batches of the sources of one host, in log order. */
export interface BatchList {
  readonly seq: Float64Array;
  readonly ts: Float64Array;
  readonly arrival: Float64Array;
  readonly tick: Float64Array;
  readonly source: Uint32Array;
  readonly shape: Uint32Array;
}

/** In place of the largest value, when it is the smallest: no kind of a value is written so. */
const SAME = 0xff;

const writer = new ByteWriter();
let run = new Float64Array(256);

function runOf(count: number): Float64Array {
  if (run.length < count) run = new Float64Array(Math.ceil(count * 1.5));
  return run;
}

/** Compresses rows in log order. @param from position at which the block starts; @param to the one at which the next starts */
export function encodeBlock(columns: Columns, catalog: Catalog, from: number, to: number): Block {
  writer.clear();
  const sources = groupBy(columns.source, columns.batches);
  const sourceOffsets = new Uint32Array(sources.ids.length);
  const sourceMinTs = new Float64Array(sources.ids.length);
  const sourceMaxTs = new Float64Array(sources.ids.length);
  for (let i = 0; i < sources.ids.length; i++) {
    sourceOffsets[i] = writer.length;
    const [minTs, maxTs] = encodeSource(columns, sources.order, sources.starts[i] as number, sources.starts[i + 1] as number);
    sourceMinTs[i] = minTs;
    sourceMaxTs[i] = maxTs;
  }
  const series = groupBy(seriesOfRows(columns, catalog), columns.rows);
  const seriesOffsets = new Uint32Array(series.ids.length);
  for (let i = 0; i < series.ids.length; i++) {
    seriesOffsets[i] = writer.length;
    encodeSeries(columns, series.order, series.starts[i] as number, series.starts[i + 1] as number);
  }
  const shapes = Uint32Array.from(new Set(columns.shape.subarray(0, columns.batches)));
  const data = writer.bytes.slice(0, writer.length);
  const batches = columns.batches;
  const directoryBytes = sources.ids.byteLength * 2 + sourceMinTs.byteLength * 2 + series.ids.byteLength * 2 + shapes.byteLength;
  return {
    from,
    to,
    batches,
    rows: columns.rows,
    firstArrivalMs: columns.arrival[0] as number,
    lastArrivalMs: columns.arrival[batches - 1] as number,
    minTs: sourceMinTs.reduce((least, ts) => Math.min(least, ts), Number.POSITIVE_INFINITY),
    maxTs: sourceMaxTs.reduce((most, ts) => Math.max(most, ts), Number.NEGATIVE_INFINITY),
    sources: sources.ids,
    sourceOffsets,
    sourceMinTs,
    sourceMaxTs,
    series: series.ids,
    seriesOffsets,
    shapes,
    data,
    bytes: data.byteLength + directoryBytes + BLOCK_OVERHEAD_BYTES,
  };
}

function encodeSource(columns: Columns, order: Uint32Array, start: number, end: number): [number, number] {
  const count = end - start;
  const values = runOf(count);
  writer.varint(count);
  let minTs = Number.POSITIVE_INFINITY;
  let maxTs = Number.NEGATIVE_INFINITY;
  for (const column of [columns.seq, columns.ts, columns.arrival, columns.tick, columns.shape]) {
    for (let i = 0; i < count; i++) values[i] = column[order[start + i] as number] as number;
    encodeRun(writer, values, count);
    if (column !== columns.ts) continue;
    for (let i = 0; i < count; i++) {
      minTs = Math.min(minTs, values[i] as number);
      maxTs = Math.max(maxTs, values[i] as number);
    }
  }
  return [minTs, maxTs];
}

function encodeSeries(columns: Columns, order: Uint32Array, start: number, end: number): void {
  const count = end - start;
  const values = runOf(count);
  writer.varint(count);
  if (count >= AGGREGATED_ROWS_MIN) {
    for (let column = FIRST_METRIC; column < COLUMN_COUNT; column++) {
      gather(columns.values[column] as Float64Array, order, start, count, values);
      encodeAggregate(aggregateOf(values, count));
    }
  }
  for (let i = 0; i < count; i++) values[i] = columns.state[order[start + i] as number] as number;
  encodeRun(writer, values, count);
  for (let column = 0; column < COLUMN_COUNT; column++) {
    gather(columns.values[column] as Float64Array, order, start, count, values);
    encodeRun(writer, values, count);
  }
}

function gather(column: Float64Array, order: Uint32Array, start: number, count: number, out: Float64Array): void {
  for (let i = 0; i < count; i++) out[i] = column[order[start + i] as number] as number;
}

function encodeAggregate(aggregate: Aggregate): void {
  writer.varint(aggregate.count);
  if (aggregate.count === 0) return;
  writer.value(aggregate.min);
  if (aggregate.min === aggregate.max) {
    writer.byte(SAME);
    return;
  }
  writer.value(aggregate.max);
  writer.value(aggregate.sum);
}

/** Over the first `count` values, nulls left out. */
export function aggregateOf(values: Float64Array, count: number, into: Aggregate = { count: 0, sum: 0, min: 0, max: 0 }): Aggregate {
  let { count: known, sum, min, max } = into;
  if (known === 0) {
    min = Number.POSITIVE_INFINITY;
    max = Number.NEGATIVE_INFINITY;
  }
  for (let i = 0; i < count; i++) {
    const value = values[i] as number;
    // biome-ignore lint/suspicious/noSelfCompare: the fastest test for NaN
    if (value !== value) continue;
    known++;
    sum += value;
    if (value < min) min = value;
    if (value > max) max = value;
  }
  return known === 0 ? { count: 0, sum: 0, min: 0, max: 0 } : { count: known, sum, min, max };
}

/** Aggregates of a series' metrics, in table order; null when the block keeps none for it. @param at from {@link seriesAt} */
export function aggregatesOf(block: Block, at: number): Aggregate[] | null {
  const reader = new ByteReader(block.data, block.seriesOffsets[at] as number);
  if (reader.varint() < AGGREGATED_ROWS_MIN) return null;
  return METRICS.map(() => decodeAggregate(reader));
}

function decodeAggregate(reader: ByteReader): Aggregate {
  const count = reader.varint();
  if (count === 0) return { count: 0, sum: 0, min: 0, max: 0 };
  const min = reader.value();
  const next = reader.byte();
  if (next === SAME) return { count, sum: min * count, min, max: min };
  reader.offset--;
  const max = reader.value();
  return { count, sum: reader.value(), min, max };
}

/** Place of a series in the directory; -1 when the block has none of it. */
export function seriesAt(block: Block, series: number): number {
  return search(block.series, series);
}

/** Place of a source in the directory; -1 when the block has none of it. */
export function sourceAt(block: Block, source: number): number {
  return search(block.sources, source);
}

/**
 * Reads the rows of a series: fills `state` (codes) and `values` (columns) from their start.
 * @param at from {@link seriesAt}
 * @returns the number of rows
 */
export function decodeSeries(block: Block, at: number, into: SeriesColumns): number {
  const reader = new ByteReader(block.data, block.seriesOffsets[at] as number);
  const count = reader.varint();
  into.reserve(count);
  if (count >= AGGREGATED_ROWS_MIN) for (let i = 0; i < METRICS.length; i++) decodeAggregate(reader);
  decodeRun(reader, into.state, count);
  for (const column of into.values) decodeRun(reader, column, count);
  return count;
}

/** Columns of one series; contents are valid until the next reading into them. */
export class SeriesColumns {
  state = new Float64Array(0);
  values: Float64Array[] = Array.from({ length: COLUMN_COUNT }, () => new Float64Array(0));

  reserve(count: number): void {
    if (this.state.length >= count) return;
    this.state = new Float64Array(count);
    this.values = this.values.map(() => new Float64Array(count));
  }
}

/** The batches of some of its sources, in log order. @param places from {@link sourceAt} */
export function decodeBatches(block: Block, places: readonly number[]): BatchList {
  const readers = places.map((place) => new ByteReader(block.data, block.sourceOffsets[place] as number));
  const counts = readers.map((reader) => reader.varint());
  const total = counts.reduce((sum, count) => sum + count, 0);
  const list = {
    seq: new Float64Array(total),
    ts: new Float64Array(total),
    arrival: new Float64Array(total),
    tick: new Float64Array(total),
    source: new Uint32Array(total),
    shape: new Uint32Array(total),
  };
  let at = 0;
  readers.forEach((reader, i) => {
    const count = counts[i] as number;
    for (const column of [list.seq, list.ts, list.arrival, list.tick]) decodeRun(reader, column.subarray(at, at + count), count);
    const shapes = runOf(count);
    decodeRun(reader, shapes, count);
    for (let j = 0; j < count; j++) list.shape[at + j] = shapes[j] as number;
    list.source.fill(block.sources[places[i] as number] as number, at, at + count);
    at += count;
  });
  return places.length <= 1 ? list : sortedBySeq(list);
}

function sortedBySeq(list: BatchList): BatchList {
  const order = Uint32Array.from(list.seq.keys()).sort((a, b) => (list.seq[a] as number) - (list.seq[b] as number));
  const floats = (column: Float64Array): Float64Array => Float64Array.from(order, (i) => column[i] as number);
  const integers = (column: Uint32Array): Uint32Array => Uint32Array.from(order, (i) => column[i] as number);
  return {
    seq: floats(list.seq),
    ts: floats(list.ts),
    arrival: floats(list.arrival),
    tick: floats(list.tick),
    source: integers(list.source),
    shape: integers(list.shape),
  };
}

/** Appends all of its rows to `columns`, in log order: the inverse of {@link encodeBlock}. */
export function decodeBlock(block: Block, catalog: Catalog, columns: Columns): void {
  const { batches: firstBatch, rows: firstRow } = columns;
  columns.reserve(firstBatch + block.batches, firstRow + block.rows);
  const list = decodeBatches(block, [...block.sources.keys()]);
  let row = firstRow;
  for (let i = 0; i < block.batches; i++) {
    const batch = firstBatch + i;
    columns.seq[batch] = list.seq[i] as number;
    columns.ts[batch] = list.ts[i] as number;
    columns.arrival[batch] = list.arrival[i] as number;
    columns.tick[batch] = list.tick[i] as number;
    columns.source[batch] = list.source[i] as number;
    columns.shape[batch] = list.shape[i] as number;
    columns.rowStart[batch] = row;
    row += catalog.shape(list.shape[i] as number).length;
  }
  columns.batches = firstBatch + block.batches;
  columns.rows = row;
  const rows = groupBy(seriesOfRows(columns, catalog, firstBatch), block.rows);
  const slice = new SeriesColumns();
  for (let i = 0; i < rows.ids.length; i++) {
    const start = rows.starts[i] as number;
    const count = decodeSeries(block, seriesAt(block, rows.ids[i] as number), slice);
    for (let j = 0; j < count; j++) columns.state[firstRow + (rows.order[start + j] as number)] = slice.state[j] as number;
    for (let column = 0; column < COLUMN_COUNT; column++) {
      const from = slice.values[column] as Float64Array;
      const target = columns.values[column] as Float64Array;
      for (let j = 0; j < count; j++) target[firstRow + (rows.order[start + j] as number)] = from[j] as number;
    }
  }
}

let rowSeries = new Uint32Array(256);

/** The series of each row from the first row of `firstBatch` on. Valid until the next call. */
function seriesOfRows(columns: Columns, catalog: Catalog, firstBatch = 0): Uint32Array {
  const base = firstBatch < columns.batches ? (columns.rowStart[firstBatch] as number) : columns.rows;
  if (rowSeries.length < columns.rows - base) rowSeries = new Uint32Array(Math.ceil((columns.rows - base) * 1.5));
  for (let batch = firstBatch; batch < columns.batches; batch++) {
    rowSeries.set(catalog.shape(columns.shape[batch] as number), (columns.rowStart[batch] as number) - base);
  }
  return rowSeries;
}

interface Grouping {
  /** Distinct ids, ascending. */
  readonly ids: Uint32Array;
  /** Where each group starts in `order`; one more at the end. */
  readonly starts: Uint32Array;
  /** Indexes, group by group, ascending within each. */
  readonly order: Uint32Array;
}

/** Groups the first `count` indexes by their id, without sorting the indexes. */
function groupBy(idOf: Uint32Array, count: number): Grouping {
  let largest = 0;
  for (let i = 0; i < count; i++) if ((idOf[i] as number) > largest) largest = idOf[i] as number;
  const place = new Uint32Array(largest + 2);
  for (let i = 0; i < count; i++) (place[idOf[i] as number] as number)++;
  let groups = 0;
  for (let id = 0; id <= largest; id++) if ((place[id] as number) > 0) groups++;
  const ids = new Uint32Array(groups);
  const starts = new Uint32Array(groups + 1);
  let group = 0;
  let start = 0;
  for (let id = 0; id <= largest; id++) {
    const size = place[id] as number;
    if (size === 0) continue;
    ids[group] = id;
    starts[group++] = start;
    place[id] = start;
    start += size;
  }
  starts[group] = start;
  const order = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    const id = idOf[i] as number;
    order[place[id] as number] = i;
    place[id] = (place[id] as number) + 1;
  }
  return { ids, starts, order };
}

function search(ids: Uint32Array, id: number): number {
  let low = 0;
  let high = ids.length - 1;
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const found = ids[middle] as number;
    if (found === id) return middle;
    if (found < id) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}
