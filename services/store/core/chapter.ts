// Chapters: count, sum, least and greatest of every metric of every series over a run of blocks, so that a summary reads a few of
// them in place of all rows. The newest blocks have an open one, plain typed arrays to which each seal adds its rows. With enough
// rows to be small beside them it is closed, which packs it; eight closed ones of a size get a larger one above them.
//
// A chapter that the floor cuts is given up: the ones below it take its place, and below the smallest the rows of the blocks.
//
//   data   := group*                        128 series each, by id
//   group  := (counts, extremes, sums)*     for each metric of the table; columns of the group codec
//
// Extremes are the least and the greatest of a series, one after the other, as if they were a series of two.

import { type Aggregate, addAggregate, emptyAggregate } from './block.ts';
import type { Catalog } from './catalog.ts';
import { type Columns, grown } from './columns.ts';
import { ByteReader, ByteWriter, decodeColumnPart, encodeColumn, GROUP } from './group-codec.ts';

/** What an open and a closed chapter have in common. */
export interface Run {
  /** Position of its first block, and the one behind its last; of an open chapter Infinity. */
  readonly from: number;
  readonly to: number;
  /** Of all its batches, whatever host they are from. */
  readonly minTs: number;
  readonly maxTs: number;
  /** Metrics it has, from the beginning of the table. */
  readonly width: number;
  /** Smaller ones for the same blocks, oldest first; none below the smallest. */
  readonly parts: readonly Chapter[];
  /** Adds what it has of a series to aggregates by metric. */
  addTo(into: readonly Aggregate[], series: number): void;
}

/** Chapters of one size that get a larger one. */
export const FAN_OUT = 8;
/** Rows for which a chapter is worth its bytes, one to two hundredths of theirs: for the chapter itself, and for each series. */
const ROWS_MIN = 6_400;
const ROWS_MIN_OF_SERIES = 576;
const GROUP_SERIES = GROUP / 2;
/** Measured: the object, two views and their buffers. */
const CHAPTER_BYTES = 600;
const TOTAL_BYTES = 4 + 3 * 8;

const writer = new ByteWriter();
const values = new Float64Array(GROUP);
const pair = new Float64Array(2);
const allFirst = new Uint8Array(GROUP).fill(1);
const everyOtherFirst = Uint8Array.from({ length: GROUP }, (_, i) => (i + 1) % 2);

/** Of one metric, by series; least and greatest are Infinity and -Infinity where the count is 0. */
interface Totals {
  count: Uint32Array;
  sum: Float64Array;
  min: Float64Array;
  max: Float64Array;
}

/** The chapter of the newest blocks. */
export class OpenChapter implements Run {
  readonly from: number;
  readonly to = Number.POSITIVE_INFINITY;
  readonly parts: readonly Chapter[] = [];
  minTs = Number.POSITIVE_INFINITY;
  maxTs = Number.NEGATIVE_INFINITY;
  private rows = 0;
  private seriesEnd = 0;
  private readonly totals: Totals[] = [];

  constructor(from: number) {
    this.from = from;
  }

  static bytesFor(seriesEnd: number, width: number): number {
    return seriesEnd * width * TOTAL_BYTES;
  }

  get width(): number {
    return this.totals.length;
  }

  get bytes(): number {
    return OpenChapter.bytesFor(this.seriesEnd, this.width);
  }

  get isWorthClosing(): boolean {
    return this.rows >= ROWS_MIN + this.seriesEnd * ROWS_MIN_OF_SERIES;
  }

  /** Adds the rows of a block that is being sealed. */
  addRows(columns: Columns, catalog: Catalog): void {
    this.reserve(catalog.seriesEnd, columns.metrics.length);
    for (let batch = 0; batch < columns.batches; batch++) {
      const ts = columns.ts[batch] as number;
      if (ts < this.minTs) this.minTs = ts;
      if (ts > this.maxTs) this.maxTs = ts;
    }
    columns.metrics.forEach((column, metric) => {
      const totals = this.totals[metric] as Totals;
      for (let batch = 0; batch < columns.batches; batch++) {
        const start = columns.rowStart[batch] as number;
        addBatch(totals, catalog.shape(columns.shape[batch] as number), column, start);
      }
    });
    this.rows += columns.rows;
  }

  addTo(into: readonly Aggregate[], series: number): void {
    if (series >= this.seriesEnd) return;
    this.totals.forEach(({ count, sum, min, max }, metric) => {
      const added = { count: count[series] as number, sum: sum[series] as number, min: min[series] as number, max: max[series] as number };
      addAggregate(into[metric] as Aggregate, added);
    });
  }

  /** @param to position behind its last block */
  closed(to: number): Chapter {
    return new Chapter(this, to, this.seriesEnd, this.totals);
  }

  /** One chapter above others that follow one another. */
  static above(parts: readonly Chapter[]): Chapter {
    const [first, last] = [parts[0] as Chapter, parts.at(-1) as Chapter];
    const sum = new OpenChapter(first.from);
    for (const part of parts) sum.addChapter(part);
    return new Chapter({ from: first.from, minTs: sum.minTs, maxTs: sum.maxTs, parts }, last.to, sum.seriesEnd, sum.totals);
  }

  private addChapter(chapter: Chapter): void {
    this.reserve(chapter.seriesEnd, chapter.width);
    this.minTs = Math.min(this.minTs, chapter.minTs);
    this.maxTs = Math.max(this.maxTs, chapter.maxTs);
    for (let series = 0; series < chapter.seriesEnd; series++) {
      const added = this.totals.map(emptyAggregate);
      chapter.addTo(added, series);
      added.forEach(({ count, sum, min, max }, metric) => {
        if (count === 0) return;
        const totals = this.totals[metric] as Totals;
        (totals.count[series] as number) += count;
        (totals.sum[series] as number) += sum;
        totals.min[series] = Math.min(totals.min[series] as number, min);
        totals.max[series] = Math.max(totals.max[series] as number, max);
      });
    }
  }

  private reserve(seriesEnd: number, width: number): void {
    while (this.totals.length < width) this.totals.push(emptyTotals(this.seriesEnd));
    if (seriesEnd <= this.seriesEnd) return;
    for (const totals of this.totals) {
      totals.count = grown(totals.count, seriesEnd);
      totals.sum = grown(totals.sum, seriesEnd);
      totals.min = grown(totals.min, seriesEnd).fill(Number.POSITIVE_INFINITY, this.seriesEnd);
      totals.max = grown(totals.max, seriesEnd).fill(Number.NEGATIVE_INFINITY, this.seriesEnd);
    }
    this.seriesEnd = seriesEnd;
  }
}

function emptyTotals(seriesEnd: number): Totals {
  return {
    count: new Uint32Array(seriesEnd),
    sum: new Float64Array(seriesEnd),
    min: new Float64Array(seriesEnd).fill(Number.POSITIVE_INFINITY),
    max: new Float64Array(seriesEnd).fill(Number.NEGATIVE_INFINITY),
  };
}

function addBatch({ count, sum, min, max }: Totals, shape: Uint32Array, column: Float64Array, start: number): void {
  for (let i = 0; i < shape.length; i++) {
    const value = column[start + i] as number;
    // biome-ignore lint/suspicious/noSelfCompare: the fastest test for NaN
    if (value !== value) continue;
    const series = shape[i] as number;
    (count[series] as number)++;
    (sum[series] as number) += value;
    if (value < (min[series] as number)) min[series] = value;
    if (value > (max[series] as number)) max[series] = value;
  }
}

/** One that does not change any more. */
export class Chapter implements Run {
  readonly from: number;
  readonly to: number;
  readonly minTs: number;
  readonly maxTs: number;
  readonly parts: readonly Chapter[];
  /** 0 without parts, else one more than theirs. */
  readonly level: number;
  /** Above every id of a series in it. */
  readonly seriesEnd: number;
  readonly width: number;
  /** Memory held, without that of its parts. */
  readonly bytes: number;
  private readonly groups: Uint32Array;
  private readonly data: Uint8Array;

  constructor(run: Pick<Run, 'from' | 'minTs' | 'maxTs' | 'parts'>, to: number, seriesEnd: number, totals: readonly Totals[]) {
    this.from = run.from;
    this.to = to;
    this.minTs = run.minTs;
    this.maxTs = run.maxTs;
    this.parts = run.parts;
    this.level = run.parts.length === 0 ? 0 : (run.parts[0] as Chapter).level + 1;
    this.seriesEnd = seriesEnd;
    this.width = totals.length;
    this.groups = new Uint32Array(Math.ceil(seriesEnd / GROUP_SERIES));
    writer.clear();
    for (let i = 0; i < this.groups.length; i++) {
      this.groups[i] = writer.length;
      for (const one of totals) encodeTotals(one, i * GROUP_SERIES, Math.min(GROUP_SERIES, seriesEnd - i * GROUP_SERIES));
    }
    this.data = writer.bytes.slice(0, writer.length);
    this.bytes = CHAPTER_BYTES + this.data.byteLength + this.groups.byteLength;
  }

  addTo(into: readonly Aggregate[], series: number): void {
    if (series >= this.seriesEnd) return;
    const group = Math.floor(series / GROUP_SERIES);
    const at = series - group * GROUP_SERIES;
    const count = Math.min(GROUP_SERIES, this.seriesEnd - group * GROUP_SERIES);
    const one = { count, series: count, first: at, length: 1, seriesBefore: at };
    const two = { count: 2 * count, series: count, first: 2 * at, length: 2, seriesBefore: at };
    const reader = new ByteReader(this.data, this.groups[group]);
    const aggregate = emptyAggregate();
    for (let metric = 0; metric < this.width; metric++) {
      decodeColumnPart(reader, one, values, 0);
      aggregate.count = values[0] as number;
      decodeColumnPart(reader, two, pair, 0);
      aggregate.min = pair[0] as number;
      aggregate.max = pair[1] as number;
      decodeColumnPart(reader, one, values, 0);
      aggregate.sum = values[0] as number;
      addAggregate(into[metric] as Aggregate, aggregate);
    }
  }
}

function encodeTotals({ count, sum, min, max }: Totals, first: number, length: number): void {
  for (let i = 0; i < length; i++) values[i] = count[first + i] as number;
  encodeColumn(writer, values, allFirst, length);
  for (let i = 0; i < length; i++) {
    const isKnown = (count[first + i] as number) > 0;
    values[2 * i] = isKnown ? (min[first + i] as number) : Number.NaN;
    values[2 * i + 1] = isKnown ? (max[first + i] as number) : Number.NaN;
  }
  encodeColumn(writer, values, everyOtherFirst, 2 * length);
  for (let i = 0; i < length; i++) {
    const known = count[first + i] as number;
    values[i] = known > 0 ? settled(sum[first + i] as number, known) : Number.NaN;
  }
  encodeColumn(writer, values, allFirst, length);
}

/** A sum no farther from a whole number of hundredths than adding it up may have moved it is taken for that number, which packs. */
function settled(sum: number, count: number): number {
  const hundredths = Math.round(sum * 100) / 100;
  return !Number.isInteger(sum) && Math.abs(sum - hundredths) <= sum * count * Number.EPSILON ? hundredths : sum;
}
