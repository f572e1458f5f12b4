// A block: an immutable, compressed, contiguous piece of the window [from, to), all series in it; the unit of eviction.
//
// Its batches are sorted into panels: all those of one source with one shape. The rows of a panel stand series by series, in the
// order of the shape, and those of a series in log order, so where a row is follows from the panel alone:
//
//   row of batch j of series i of a panel = first row of the panel + i * batches of the panel + j
//
// The columns of batches and of rows are encoded in groups of up to 256, one after another whatever panel they belong to, each of
// which can be read by itself.

import { METRICS } from '#shared/contract/metrics';
import type { Aggregate } from './aggregate.ts';
import type { Catalog } from './catalog.ts';
import { Columns, type Form, type MetricColumn, NOTHING } from './columns.ts';
import {
  addColumnPart,
  ByteReader,
  ByteWriter,
  decodeColumn,
  decodeColumnPart,
  decodeSeries,
  decodeSeriesPart,
  encodeColumn,
  encodeNulls,
  encodeSeries,
  encodeWhole,
  GROUP,
  type GroupPart,
  type Packed,
  packedOf,
  READ_AHEAD_BYTES,
  stepOverNulls,
  stepOverSeries,
} from './group-codec.ts';

export interface Block extends Arrays {
  /** First position; equal to `to` of the block before. */
  readonly from: number;
  /** First position behind it. Positions in between that carry no batch are empty places of the log. */
  readonly to: number;
  readonly batches: number;
  readonly rows: number;
  /** Metrics that its rows have, from the beginning of the table. */
  readonly width: number;
  /** What they have as columns, by metric, and what arrays for them take. */
  readonly forms: readonly Form[];
  readonly decodedBytes: number;
  readonly firstArrivalMs: number;
  readonly lastArrivalMs: number;
  readonly minTs: number;
  readonly maxTs: number;
  /** Memory held, the object and its views included. */
  readonly bytes: number;
}

/** Views of one buffer. */
interface Arrays {
  /** By panel; sources ascending. */
  readonly panels: Panels;
  /** Offset of each group of batches and of rows. */
  readonly batchGroups: Uint32Array;
  readonly rowGroups: Uint32Array;
  readonly data: Packed;
}

export interface Panels {
  readonly source: Uint32Array;
  readonly shape: Uint32Array;
  /** Its first batch and row, in the order of panels; one more at the end. */
  readonly batch: Uint32Array;
  readonly row: Uint32Array;
  readonly minTs: Float64Array;
  readonly maxTs: Float64Array;
}

/** Batches of some panels, in log order. */
export interface BatchList {
  readonly seq: Float64Array;
  readonly ts: Float64Array;
  readonly arrival: Float64Array;
  readonly tick: Float64Array;
  readonly source: Uint32Array;
  readonly shape: Uint32Array;
}

/** Measured: the objects, ten views and their buffer. */
const BLOCK_OVERHEAD_BYTES = 1_500;
const PANEL_BYTES = 4 * 4 + 2 * 8;

/** Rows that are encoded or decoded in a step: a tenth of a millisecond. */
const STEP_ROWS = 1024;

/** Kept for the next block. */
let spareWriter: ByteWriter | null = null;
const group = new Float64Array(GROUP);
const starts = new Uint8Array(GROUP);
/** Rows of the head in the order of a group, and their series. */
const groupRows = new Uint32Array(GROUP);
const groupSeries = new Uint32Array(GROUP);
/** Places in a group of those of its rows that are wanted. */
const groupPlaces = new Uint32Array(GROUP);
const UNWANTED = 0xffff_ffff;

/** Adds up values by series. */
export interface Totals {
  /**
   * Adds the first `count` of `values`, NaN left out, which stand series by series.
   * @param series of each value
   * @param starts 1 where a series begins
   * @param divisor of each value
   */
  add(metric: number, values: Float64Array, series: Uint32Array, starts: Uint8Array, count: number, divisor: number): void;
}

/**
 * Compresses rows in log order.
 * @param from position at which the block starts
 * @param to the one at which the next starts
 */
export function encodeBlock(columns: Columns, catalog: Catalog, from: number, to: number): Block {
  return atOnce(encodeBlockInSteps(columns, catalog, from, to, null));
}

/** As {@link encodeBlock}, in small steps. The columns must not change meanwhile. @param totals given the values on the way */
export function* encodeBlockInSteps(
  columns: Columns,
  catalog: Catalog,
  from: number,
  to: number,
  totals: Totals | null,
): Generator<void, Block> {
  const writer = spareWriter ?? new ByteWriter();
  spareWriter = null;
  writer.clear();
  const { order, panels } = panelsOf(columns, catalog);
  const batchGroups = encodeBatches(writer, columns, order, panels);
  const rowGroups = yield* encodeRows(writer, columns, catalog, order, panels, totals);
  spareWriter = writer;
  const arrays = inOneBuffer(panels, batchGroups, rowGroups, writer.bytes.subarray(0, writer.length));
  return {
    from,
    to,
    batches: columns.batches,
    rows: columns.rows,
    width: columns.metrics.length,
    forms: columns.forms,
    decodedBytes: columns.bytesUsed,
    firstArrivalMs: columns.arrival[0] as number,
    lastArrivalMs: columns.arrival[columns.batches - 1] as number,
    minTs: panels.minTs.reduce((least, ts) => Math.min(least, ts), Number.POSITIVE_INFINITY),
    maxTs: panels.maxTs.reduce((most, ts) => Math.max(most, ts), Number.NEGATIVE_INFINITY),
    ...arrays,
    bytes: arrays.data.view.buffer.byteLength + BLOCK_OVERHEAD_BYTES,
  };
}

/** Copies as views of one buffer: a buffer of its own costs more than most of these arrays hold. */
function inOneBuffer(panels: Panels, batchGroups: Uint32Array, rowGroups: Uint32Array, data: Uint8Array): Arrays {
  const directoryBytes = panels.source.length * PANEL_BYTES + 2 * 4 + batchGroups.byteLength + rowGroups.byteLength;
  const buffer = new ArrayBuffer(directoryBytes + data.length + READ_AHEAD_BYTES);
  let offset = 0;
  const floats = (from: Float64Array): Float64Array => {
    const view = new Float64Array(buffer, offset, from.length);
    view.set(from);
    offset += from.byteLength;
    return view;
  };
  const integers = (from: Uint32Array): Uint32Array => {
    const view = new Uint32Array(buffer, offset, from.length);
    view.set(from);
    offset += from.byteLength;
    return view;
  };
  // Floats first: they have to be aligned.
  const minTs = floats(panels.minTs);
  const maxTs = floats(panels.maxTs);
  const arrays = {
    panels: {
      source: integers(panels.source),
      shape: integers(panels.shape),
      batch: integers(panels.batch),
      row: integers(panels.row),
      minTs,
      maxTs,
    },
    batchGroups: integers(batchGroups),
    rowGroups: integers(rowGroups),
    data: packedOf(new Uint8Array(buffer, offset, data.length)),
  };
  arrays.data.bytes.set(data);
  return arrays;
}

/** Sorts the batches into panels, in log order within each. */
function panelsOf(columns: Columns, catalog: Catalog): { order: Uint32Array; panels: Panels } {
  const { order, bounds } = groupBy(columns.source, columns.batches);
  const firsts: number[] = [];
  for (let i = 0; i + 1 < bounds.length; i++) {
    const batches = order.subarray(bounds[i], bounds[i + 1]);
    const shape = columns.shape[batches[0] as number];
    if (batches.some((batch) => columns.shape[batch] !== shape))
      batches.sort((a, b) => (columns.shape[a] as number) - (columns.shape[b] as number) || a - b);
    for (let j = 0; j < batches.length; j++) {
      if (j === 0 || columns.shape[batches[j] as number] !== columns.shape[batches[j - 1] as number])
        firsts.push((bounds[i] as number) + j);
    }
  }
  const count = firsts.length;
  const panels: Panels = {
    source: Uint32Array.from(firsts, (first) => columns.source[order[first] as number] as number),
    shape: Uint32Array.from(firsts, (first) => columns.shape[order[first] as number] as number),
    batch: Uint32Array.from([...firsts, columns.batches]),
    row: new Uint32Array(count + 1),
    minTs: new Float64Array(count).fill(Number.POSITIVE_INFINITY),
    maxTs: new Float64Array(count).fill(Number.NEGATIVE_INFINITY),
  };
  for (let panel = 0; panel < count; panel++) {
    const first = panels.batch[panel] as number;
    const end = panels.batch[panel + 1] as number;
    panels.row[panel + 1] = (panels.row[panel] as number) + (end - first) * catalog.shape(panels.shape[panel] as number).length;
    for (let j = first; j < end; j++) {
      const ts = columns.ts[order[j] as number] as number;
      if (ts < (panels.minTs[panel] as number)) panels.minTs[panel] = ts;
      if (ts > (panels.maxTs[panel] as number)) panels.maxTs[panel] = ts;
    }
  }
  return { order, panels };
}

function encodeBatches(writer: ByteWriter, columns: Columns, order: Uint32Array, panels: Panels): Uint32Array {
  const groups = new Uint32Array(Math.ceil(columns.batches / GROUP));
  for (let i = 0; i < groups.length; i++) {
    groups[i] = writer.length;
    const first = i * GROUP;
    const count = Math.min(GROUP, columns.batches - first);
    markPanels(panels, first, count);
    for (const column of [columns.seq, columns.ts, columns.arrival, columns.tick]) {
      for (let j = 0; j < count; j++) group[j] = column[order[first + j] as number] as number;
      encodeColumn(writer, group, starts, count);
    }
  }
  return groups;
}

function* encodeRows(
  writer: ByteWriter,
  columns: Columns,
  catalog: Catalog,
  order: Uint32Array,
  panels: Panels,
  totals: Totals | null,
): Generator<void, Uint32Array> {
  const groups = new Uint32Array(Math.ceil(columns.rows / GROUP));
  for (let i = 0; i < groups.length; i++) {
    if (i > 0 && (i * GROUP) % STEP_ROWS === 0) yield;
    groups[i] = writer.length;
    const first = i * GROUP;
    const count = Math.min(GROUP, columns.rows - first);
    walkRows(panels, first, count, (at, panel, series, batch) => {
      groupRows[at] = (columns.rowStart[order[batch] as number] as number) + series;
      groupSeries[at] = catalog.shape(panels.shape[panel] as number)[series] as number;
    });
    // Ids of incarnations follow those of the series they were made for.
    for (let j = 0; j < count; j++) group[j] = (columns.incarnation[groupRows[j] as number] as number) - (groupSeries[j] as number);
    encodeSeries(writer, group, starts, count);
    for (let metric = 0; metric < columns.metrics.length; metric++) {
      const column = columns.metrics[metric] as MetricColumn;
      if (column.form === NOTHING) {
        encodeNulls(writer);
        continue;
      }
      column.gather(groupRows, count, group);
      totals?.add(metric, group, groupSeries, starts, count, column.divisor);
      if (column.hasWords) encodeWhole(writer, group, starts, count, column.divisor);
      else encodeColumn(writer, group, starts, count);
    }
  }
  return groups;
}

/** Visits rows in the order of panels, and marks in `starts` where a series begins. */
function walkRows(
  panels: Panels,
  first: number,
  count: number,
  visit?: (at: number, panel: number, series: number, batch: number) => void,
): void {
  let panel = panelOfRow(panels, first);
  let batches = batchesOf(panels, panel);
  let series = Math.floor((first - (panels.row[panel] as number)) / batches);
  let j = (first - (panels.row[panel] as number)) % batches;
  for (let at = 0; at < count; at++) {
    if (first + at === panels.row[panel + 1]) {
      do panel++;
      while (panels.row[panel + 1] === panels.row[panel]);
      batches = batchesOf(panels, panel);
      series = 0;
      j = 0;
    } else if (j === batches) {
      series++;
      j = 0;
    }
    starts[at] = at === 0 || j === 0 ? 1 : 0;
    visit?.(at, panel, series, (panels.batch[panel] as number) + j);
    j++;
  }
}

function batchesOf(panels: Panels, panel: number): number {
  return (panels.batch[panel + 1] as number) - (panels.batch[panel] as number);
}

/** The panel that has a row. */
function panelOfRow(panels: Panels, row: number): number {
  let low = 0;
  let high = panels.source.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((panels.row[middle + 1] as number) <= row) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Marks in `starts` where a panel begins among batches. */
function markPanels(panels: Panels, first: number, count: number): void {
  starts.fill(0, 0, count);
  starts[0] = 1;
  for (let panel = search(panels.batch, first); panel < panels.source.length; panel++) {
    const at = (panels.batch[panel] as number) - first;
    if (at >= count) return;
    starts[at] = 1;
  }
}

/** The panels of a source: from the first to before the second. */
export function panelsOfSource(block: Block, source: number): [number, number] {
  const { source: sources } = block.panels;
  const first = search(sources, source);
  let end = first;
  while (end < sources.length && sources[end] === source) end++;
  return [first, end];
}

/** Rows of one series; contents are valid until the next reading into them. */
export class SeriesColumns {
  seq = new Float64Array(0);
  /** Wall clock of the reading, ms. */
  ts = new Float64Array(0);
  /** Ids of the catalog. */
  incarnation = new Uint32Array(0);
  metrics: Float64Array[] = METRICS.map(() => new Float64Array(0));

  /** Makes room for `count` rows of the first `width` metrics; what is there is lost. */
  reserve(count: number, width: number): void {
    if (this.seq.length < count) {
      this.seq = new Float64Array(count);
      this.ts = new Float64Array(count);
      this.incarnation = new Uint32Array(count);
      this.metrics = [];
    }
    this.metrics.length = Math.min(this.metrics.length, width);
    while (this.metrics.length < width) this.metrics.push(new Float64Array(this.seq.length));
  }

  /** Brings the first `count` rows into log order. */
  sort(count: number): void {
    const order = orderOf(this.seq.subarray(0, count));
    this.incarnation.set(Uint32Array.from(order, (i) => this.incarnation[i] as number));
    for (const column of [this.seq, this.ts, ...this.metrics]) column.set(Float64Array.from(order, (i) => column[i] as number));
  }

  /** Forgets the first rows of `count`. */
  shift(rows: number, count: number): void {
    this.incarnation.copyWithin(0, rows, count);
    for (const column of [this.seq, this.ts, ...this.metrics]) column.copyWithin(0, rows, count);
  }
}

/**
 * Reads the rows of a series in a panel.
 * @param at place of the series in the panel's shape
 * @param into filled from `offset` on; there must be room, for the block's metrics and no others
 * @returns the number of rows
 */
export function decodeSeriesRows(block: Block, panel: number, at: number, series: number, into: SeriesColumns, offset: number): number {
  eachRowPart(block, panel, at, (reader, part, row) => {
    const target = offset + row;
    decodeSeriesPart(reader, part, group, 0);
    for (let j = 0; j < part.length; j++) into.incarnation[target + j] = (group[j] as number) + series;
    for (const column of into.metrics) decodeColumnPart(reader, part, column, target);
  });
  decodePanelBatches(block, panel, [into.seq, into.ts], offset);
  return batchesOf(block.panels, panel);
}

/**
 * Adds the rows of a series in a panel to aggregates by metric.
 * @param at place of the series in the panel's shape
 * @returns a bit for each metric of which values were added
 */
export function addSeriesRows(block: Block, panel: number, at: number, into: readonly Aggregate[]): number {
  let known = 0;
  eachRowPart(block, panel, at, (reader, part) => {
    stepOverSeries(reader, part); // the incarnations
    for (let metric = 0; metric < block.width; metric++) {
      if (addColumnPart(reader, part, into[metric] as Aggregate) > 0) known |= 1 << metric;
    }
  });
  return known;
}

/**
 * Visits the groups that have rows of a series in a panel.
 * @param visit gets a reader at the beginning of the group, the series' part of it, and the number of its rows before
 */
function eachRowPart(block: Block, panel: number, at: number, visit: (reader: ByteReader, part: GroupPart, row: number) => void): void {
  const { panels } = block;
  const count = batchesOf(panels, panel);
  const first = (panels.row[panel] as number) + at * count;
  for (let i = Math.floor(first / GROUP); i * GROUP < first + count; i++) {
    const groupFirst = i * GROUP;
    const groupEnd = Math.min(groupFirst + GROUP, block.rows);
    const from = Math.max(first, groupFirst);
    const part = {
      count: groupEnd - groupFirst,
      series: seriesBetween(panels, groupFirst, groupEnd),
      first: from - groupFirst,
      length: Math.min(first + count, groupEnd) - from,
      seriesBefore: seriesBetween(panels, groupFirst, from),
    };
    visit(new ByteReader(block.data, block.rowGroups[i] as number), part, from - first);
  }
}

/** Series that begin, or go on, at `first`, and those that begin behind it and before `end`. */
function seriesBetween(panels: Panels, first: number, end: number): number {
  let count = 0;
  for (let panel = panelOfRow(panels, first); panel < panels.source.length && (panels.row[panel] as number) < end; panel++) {
    const row = panels.row[panel] as number;
    const batches = batchesOf(panels, panel);
    const from = Math.max(first, row) - row;
    const to = Math.min(end, panels.row[panel + 1] as number) - row;
    if (to > from) count += Math.ceil(to / batches) - Math.floor(from / batches);
  }
  return count;
}

/** The batches of some of its panels, in log order. */
export function decodeBatches(block: Block, panels: readonly number[]): BatchList {
  const sizes = panels.map((panel) => batchesOf(block.panels, panel));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const list = emptyBatches(total);
  let at = 0;
  panels.forEach((panel, i) => {
    const size = sizes[i] as number;
    decodePanelBatches(block, panel, [list.seq, list.ts, list.arrival, list.tick], at);
    list.source.fill(block.panels.source[panel] as number, at, at + size);
    list.shape.fill(block.panels.shape[panel] as number, at, at + size);
    at += size;
  });
  return panels.length <= 1 ? list : sortedBySeq(list);
}

/** Reads the batches of a panel: position, time, arrival and tick, or the first few of these columns, from `offset` on. */
function decodePanelBatches(block: Block, panel: number, into: readonly Float64Array[], offset: number): void {
  const { panels } = block;
  const first = panels.batch[panel] as number;
  const end = panels.batch[panel + 1] as number;
  for (let i = Math.floor(first / GROUP); i * GROUP < end; i++) {
    const groupFirst = i * GROUP;
    const groupEnd = Math.min(groupFirst + GROUP, block.batches);
    const from = Math.max(first, groupFirst);
    const part = {
      count: groupEnd - groupFirst,
      series: panelsBetween(panels, groupFirst, groupEnd),
      first: from - groupFirst,
      length: Math.min(end, groupEnd) - from,
      seriesBefore: panelsBetween(panels, groupFirst, from),
    };
    const reader = new ByteReader(block.data, block.batchGroups[i] as number);
    for (const column of into) decodeColumnPart(reader, part, column, offset + from - first);
  }
}

/** Panels with a batch from `first` on and before `end`. */
function panelsBetween(panels: Panels, first: number, end: number): number {
  return end === first ? 0 : search(panels.batch, end) - search(panels.batch, first + 1) + 1;
}

export function emptyBatches(count: number): BatchList {
  return {
    seq: new Float64Array(count),
    ts: new Float64Array(count),
    arrival: new Float64Array(count),
    tick: new Float64Array(count),
    source: new Uint32Array(count),
    shape: new Uint32Array(count),
  };
}

/** Copies a batch from a place in one list, which columns are, too, to a place in another. */
export function copyBatch(from: BatchList, at: number, into: BatchList, to: number): void {
  into.seq[to] = from.seq[at] as number;
  into.ts[to] = from.ts[at] as number;
  into.arrival[to] = from.arrival[at] as number;
  into.tick[to] = from.tick[at] as number;
  into.source[to] = from.source[at] as number;
  into.shape[to] = from.shape[at] as number;
}

function sortedBySeq(list: BatchList): BatchList {
  const ranks = orderOf(list.seq);
  const floats = (column: Float64Array): Float64Array => Float64Array.from(ranks, (i) => column[i] as number);
  const integers = (column: Uint32Array): Uint32Array => Uint32Array.from(ranks, (i) => column[i] as number);
  return {
    seq: floats(list.seq),
    ts: floats(list.ts),
    arrival: floats(list.arrival),
    tick: floats(list.tick),
    source: integers(list.source),
    shape: integers(list.shape),
  };
}

/** Indexes by ascending value; the values are distinct integers within 2^53 / count of each other. */
function orderOf(values: Float64Array): Float64Array {
  const count = values.length;
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < count; i++) if ((values[i] as number) < least) least = values[i] as number;
  // Sorting numbers is an order of magnitude faster than sorting indexes by a comparison.
  const keys = Float64Array.from(values, (value, i) => (value - least) * count + i).sort();
  for (let i = 0; i < count; i++) keys[i] = (keys[i] as number) % count;
  return keys;
}

/**
 * Appends all of its rows to `columns`, in log order: the inverse of {@link encodeBlock}.
 * @param bytesMax for the arrays, unless the rows need more
 */
export function decodeBlock(block: Block, catalog: Catalog, columns: Columns, bytesMax: number): void {
  atOnce(decodeBlockInSteps(block, catalog, columns, Math.max(bytesMax, block.decodedBytes)));
}

/** Takes all steps, and gives back what the last one does. */
export function atOnce<Result>(steps: Generator<void, Result>): Result {
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/**
 * As {@link decodeBlock}, in small steps. The columns must not be used meanwhile.
 * @param bytesMax for the arrays; when not all batches fit, those that do, and at least one
 * @param from where these begin
 * @returns the position behind them
 */
export function* decodeBlockInSteps(
  block: Block,
  catalog: Catalog,
  columns: Columns,
  bytesMax: number,
  from = block.from,
): Generator<void, number> {
  const { panels } = block;
  const { rows: firstRow } = columns;
  const list = batchesInPanels(block);
  const order = orderOf(list.seq);
  const { first, end, rows } = batchesWithin(block, catalog, list, order, bytesMax, from);
  if (first === end) return block.to; // it ends with empty places
  const isWhole = end - first === block.batches;
  columns.reserveMore(end - first, rows, block.forms, bytesMax);
  for (const [metric, column] of columns.metrics.entries())
    if ((block.forms[metric] ?? NOTHING) === NOTHING) column.fillNull(firstRow, rows);
  const rowStart = new Uint32Array(block.batches).fill(UNWANTED);
  for (let i = first; i < end; i++) {
    const at = order[i] as number;
    const batch = columns.batches++;
    copyBatch(list, at, columns, batch);
    columns.rowStart[batch] = columns.rows;
    rowStart[at] = columns.rows;
    columns.rows += catalog.shape(list.shape[at] as number).length;
  }
  for (let i = 0; i < block.rowGroups.length; i++) {
    if (i > 0 && (i * GROUP) % STEP_ROWS === 0) yield;
    const count = Math.min(GROUP, block.rows - i * GROUP);
    walkRows(panels, i * GROUP, count, (at, panel, series, batch) => {
      const start = rowStart[batch] as number;
      groupRows[at] = start === UNWANTED ? UNWANTED : start + series;
      groupSeries[at] = catalog.shape(panels.shape[panel] as number)[series] as number;
    });
    const reader = new ByteReader(block.data, block.rowGroups[i] as number);
    decodeSeries(reader, group, starts, count);
    for (let j = 0; j < count; j++) group[j] = (group[j] as number) + (groupSeries[j] as number);
    const wanted = isWhole ? count : keepWanted(count);
    for (let j = 0; j < wanted; j++)
      columns.incarnation[groupRows[j] as number] = group[isWhole ? j : (groupPlaces[j] as number)] as number;
    for (let metric = 0; metric < block.width; metric++) {
      if (block.forms[metric] === NOTHING) {
        stepOverNulls(reader);
        continue;
      }
      decodeColumn(reader, group, starts, count);
      if (!isWhole) for (let j = 0; j < wanted; j++) group[j] = group[groupPlaces[j] as number] as number;
      (columns.metrics[metric] as MetricColumn).scatter(group, groupRows, wanted);
    }
  }
  return end < block.batches ? (list.seq[order[end] as number] as number) : block.to;
}

/** Moves the rows of a group that are wanted to its beginning, and notes their places. @returns how many they are */
function keepWanted(count: number): number {
  let wanted = 0;
  for (let at = 0; at < count; at++) {
    if (groupRows[at] === UNWANTED) continue;
    groupPlaces[wanted] = at;
    groupRows[wanted++] = groupRows[at] as number;
  }
  return wanted;
}

/** All batches, in the order of panels. */
export function batchesInPanels(block: Block): BatchList {
  const { panels } = block;
  const list = emptyBatches(block.batches);
  for (let i = 0; i < block.batchGroups.length; i++) {
    const count = Math.min(GROUP, block.batches - i * GROUP);
    markPanels(panels, i * GROUP, count);
    const reader = new ByteReader(block.data, block.batchGroups[i] as number);
    for (const column of [list.seq, list.ts, list.arrival, list.tick]) {
      decodeColumn(reader, group, starts, count);
      column.set(group.subarray(0, count), i * GROUP);
    }
  }
  for (let panel = 0; panel < panels.source.length; panel++) {
    list.source.fill(panels.source[panel] as number, panels.batch[panel], panels.batch[panel + 1]);
    list.shape.fill(panels.shape[panel] as number, panels.batch[panel], panels.batch[panel + 1]);
  }
  return list;
}

/** All batches of a block, or, when they do not fit, the first from a position on that do: places in `order`, and their rows. */
function batchesWithin(
  block: Block,
  catalog: Catalog,
  list: BatchList,
  order: Float64Array,
  bytesMax: number,
  from: number,
): { first: number; end: number; rows: number } {
  if (block.decodedBytes <= bytesMax) return { first: 0, end: block.batches, rows: block.rows };
  let first = 0;
  while ((list.seq[order[first] as number] as number) < from) first++;
  let rows = 0;
  for (let end = first; end < block.batches; end++) {
    const more = rows + catalog.shape(list.shape[order[end] as number] as number).length;
    if (end > first && Columns.bytesFor(end + 1 - first, more, block.forms) > bytesMax) return { first, end, rows };
    rows = more;
  }
  return { first, end: block.batches, rows };
}

interface Grouping {
  /** Where each group starts in `order`; one more at the end. */
  readonly bounds: Uint32Array;
  /** Indexes, group by group, by ascending id, ascending within each. */
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
  const bounds = new Uint32Array(groups + 1);
  let next = 0;
  let start = 0;
  for (let id = 0; id <= largest; id++) {
    const size = place[id] as number;
    if (size === 0) continue;
    bounds[next++] = start;
    place[id] = start;
    start += size;
  }
  bounds[next] = start;
  const order = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    const id = idOf[i] as number;
    order[place[id] as number] = i;
    place[id] = (place[id] as number) + 1;
  }
  return { bounds, order };
}

/** First index whose value is at least `value`, in ascending order; the length when there is none. */
function search(values: Uint32Array, value: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((values[middle] as number) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
