// Chapters: count, sum, least and greatest of every metric of every series over a run of blocks, so that a summary reads a few of
// them in place of all rows. The newest blocks have an open one, plain typed arrays to which each seal adds its rows. With enough
// rows to be small beside them it is closed, which packs it; four closed ones of a size get a larger one above them.
//
// A chapter that the floor cuts is given up: the ones below it take its place, and below the smallest the rows of the blocks.
//
//   data   := group*                        128 series each, by id
//   group  := (counts, extremes, sums)*     for each metric of the table; columns of the group codec
//           | nulls                         for one of which no value is known
//
// Extremes are the least and the greatest of a series, one after the other, as if they were a series of two. Of a sum there is what
// it is above that of as many of the least value.

import { type Aggregate, emptyAggregates } from './aggregate.ts';
import type { Block, Totals } from './block.ts';
import { grown } from './columns.ts';
import { ByteReader, ByteWriter, decodeColumnPart, encodeColumn, encodeNulls, GROUP, type Packed } from './group-codec.ts';

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
  /** Adds what it has of a series to aggregates by metric. @returns a bit for each metric of which values were added */
  addTo(into: readonly Aggregate[], series: number): number;
}

/** Chapters of one size that get a larger one. */
export const FAN_OUT = 4;
/** Rows for which a chapter is worth its bytes, two to four hundredths of theirs: for the chapter itself, and for each series. */
const ROWS_MIN = 5_600;
const ROWS_MIN_OF_SERIES = 256;
const GROUP_SERIES = GROUP / 2;
/** Measured: the object, three views and their buffers. */
const CHAPTER_BYTES = 700;
const TOTAL_BYTES = 4 + 3 * 8;

const writer = new ByteWriter();
const values = new Float64Array(GROUP);
const pair = new Float64Array(2);
const allFirst = new Uint8Array(GROUP).fill(1);
const everyOtherFirst = Uint8Array.from({ length: GROUP }, (_, i) => (i + 1) % 2);

/** Of one metric, by series; least and greatest are Infinity and -Infinity where the count is 0. */
interface MetricTotals {
  count: Uint32Array;
  sum: Float64Array;
  min: Float64Array;
  max: Float64Array;
}

/** The chapter of the newest blocks. */
export class OpenChapter implements Run, Totals {
  readonly from: number;
  readonly to = Number.POSITIVE_INFINITY;
  readonly parts: readonly Chapter[] = [];
  minTs = Number.POSITIVE_INFINITY;
  maxTs = Number.NEGATIVE_INFINITY;
  width = 0;
  /** False while values of a block are being added: until then it has some of them, and is of no use. */
  isWhole = true;
  private rows = 0;
  private seriesEnd = 0;
  /** By metric; none for one of which no value is known. */
  private readonly totals: (MetricTotals | undefined)[] = [];
  /** A bit for each metric of which values are known. */
  known = 0;

  constructor(from: number) {
    this.from = from;
  }

  /** @param known a bit for each metric of which values are known */
  static bytesFor(seriesEnd: number, known: number): number {
    let metrics = 0;
    for (let bits = known; bits !== 0; bits &= bits - 1) metrics++;
    return seriesEnd * metrics * TOTAL_BYTES;
  }

  get bytes(): number {
    return OpenChapter.bytesFor(this.seriesEnd, this.known);
  }

  get isWorthClosing(): boolean {
    return this.rows >= ROWS_MIN + this.seriesEnd * ROWS_MIN_OF_SERIES;
  }

  /** Begins to add a block, whose values come next, and {@link OpenChapter.addBlock} last. */
  begin(seriesEnd: number): void {
    this.isWhole = false;
    this.reserve(seriesEnd);
  }

  private reserve(seriesEnd: number): void {
    if (seriesEnd <= this.seriesEnd) return;
    for (const totals of this.totals) {
      if (totals === undefined) continue;
      totals.count = grown(totals.count, seriesEnd);
      totals.sum = grown(totals.sum, seriesEnd);
      totals.min = grown(totals.min, seriesEnd).fill(Number.POSITIVE_INFINITY, this.seriesEnd);
      totals.max = grown(totals.max, seriesEnd).fill(Number.NEGATIVE_INFINITY, this.seriesEnd);
    }
    this.seriesEnd = seriesEnd;
  }

  add(metric: number, values: Float64Array, series: Uint32Array, starts: Uint8Array, count: number, divisor: number): void {
    const totals = this.totalsOf(metric);
    for (let i = 0; i < count; ) {
      const id = series[i] as number;
      let known = 0;
      let sum = 0;
      let min = Number.POSITIVE_INFINITY;
      let max = Number.NEGATIVE_INFINITY;
      do {
        const value = values[i++] as number;
        // biome-ignore lint/suspicious/noSelfCompare: the fastest test for NaN
        if (value !== value) continue;
        known++;
        sum += value;
        if (value < min) min = value;
        if (value > max) max = value;
      } while (i < count && starts[i] === 0);
      if (known > 0) addTotals(totals, id, known, sum / divisor, min / divisor, max / divisor);
    }
  }

  /** Adds what a block says of all its rows; their values were added before. */
  addBlock(block: Block): void {
    this.minTs = Math.min(this.minTs, block.minTs);
    this.maxTs = Math.max(this.maxTs, block.maxTs);
    this.width = Math.max(this.width, block.width);
    this.rows += block.rows;
    this.isWhole = true;
  }

  addTo(into: readonly Aggregate[], series: number): number {
    let known = 0;
    if (series >= this.seriesEnd) return known;
    for (let metric = 0; metric < this.totals.length; metric++) {
      const totals = this.totals[metric];
      const count = totals?.count[series] as number;
      if (totals === undefined || count === 0) continue;
      (into[metric] as Aggregate).addTotals(
        count,
        totals.sum[series] as number,
        totals.min[series] as number,
        totals.max[series] as number,
      );
      known |= 1 << metric;
    }
    return known;
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
    const { minTs, maxTs, width } = sum;
    return new Chapter({ from: first.from, minTs, maxTs, width, parts }, last.to, sum.seriesEnd, sum.totals);
  }

  private addChapter(chapter: Chapter): void {
    this.reserve(chapter.seriesEnd);
    this.minTs = Math.min(this.minTs, chapter.minTs);
    this.maxTs = Math.max(this.maxTs, chapter.maxTs);
    this.width = Math.max(this.width, chapter.width);
    for (let series = 0; series < chapter.seriesEnd; series++) {
      const added = emptyAggregates(chapter.width);
      chapter.addTo(added, series);
      added.forEach(({ count, sum, min, max }, metric) => {
        if (count > 0) addTotals(this.totalsOf(metric), series, count, sum, min, max);
      });
    }
  }

  private totalsOf(metric: number): MetricTotals {
    const known = this.totals[metric];
    if (known !== undefined) return known;
    while (this.totals.length < metric) this.totals.push(undefined);
    this.known |= 1 << metric;
    const totals = {
      count: new Uint32Array(this.seriesEnd),
      sum: new Float64Array(this.seriesEnd),
      min: new Float64Array(this.seriesEnd).fill(Number.POSITIVE_INFINITY),
      max: new Float64Array(this.seriesEnd).fill(Number.NEGATIVE_INFINITY),
    };
    this.totals[metric] = totals;
    return totals;
  }
}

function addTotals(totals: MetricTotals, series: number, count: number, sum: number, min: number, max: number): void {
  totals.count[series] = (totals.count[series] as number) + count;
  totals.sum[series] = (totals.sum[series] as number) + sum;
  if (min < (totals.min[series] as number)) totals.min[series] = min;
  if (max > (totals.max[series] as number)) totals.max[series] = max;
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
  private readonly data: Packed;

  /** @param totals by metric, none for one of which no value is known */
  constructor(
    run: Pick<Run, 'from' | 'minTs' | 'maxTs' | 'width' | 'parts'>,
    to: number,
    seriesEnd: number,
    totals: readonly (MetricTotals | undefined)[],
  ) {
    this.from = run.from;
    this.to = to;
    this.minTs = run.minTs;
    this.maxTs = run.maxTs;
    this.parts = run.parts;
    this.level = run.parts.length === 0 ? 0 : (run.parts[0] as Chapter).level + 1;
    this.seriesEnd = seriesEnd;
    this.width = run.width;
    this.groups = new Uint32Array(Math.ceil(seriesEnd / GROUP_SERIES));
    writer.clear();
    for (let i = 0; i < this.groups.length; i++) {
      this.groups[i] = writer.length;
      const length = Math.min(GROUP_SERIES, seriesEnd - i * GROUP_SERIES);
      for (let metric = 0; metric < this.width; metric++) encodeTotals(totals[metric], i * GROUP_SERIES, length);
    }
    this.data = writer.packed();
    this.bytes = CHAPTER_BYTES + this.data.view.byteLength + this.groups.byteLength;
  }

  addTo(into: readonly Aggregate[], series: number): number {
    let known = 0;
    if (series >= this.seriesEnd) return known;
    const group = Math.floor(series / GROUP_SERIES);
    const at = series - group * GROUP_SERIES;
    const count = Math.min(GROUP_SERIES, this.seriesEnd - group * GROUP_SERIES);
    const one = { count, series: count, first: at, length: 1, seriesBefore: at };
    const two = { count: 2 * count, series: count, first: 2 * at, length: 2, seriesBefore: at };
    const reader = new ByteReader(this.data, this.groups[group]);
    for (let metric = 0; metric < this.width; metric++) {
      decodeColumnPart(reader, one, values, 0);
      // Not known: nothing follows.
      if (Number.isNaN(values[0])) continue;
      const rows = values[0] as number;
      decodeColumnPart(reader, two, pair, 0);
      decodeColumnPart(reader, one, values, 0);
      if (rows === 0) continue;
      const min = pair[0] as number;
      (into[metric] as Aggregate).addTotals(rows, rows * min + (values[0] as number), min, pair[1] as number);
      known |= 1 << metric;
    }
    return known;
  }
}

function encodeTotals(totals: MetricTotals | undefined, first: number, length: number): void {
  if (totals === undefined) {
    encodeNulls(writer);
    return;
  }
  const { count, sum, min, max } = totals;
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
    values[i] = known > 0 ? aboveLeast(sum[first + i] as number, known, min[first + i] as number) : Number.NaN;
  }
  encodeColumn(writer, values, allFirst, length);
}

/**
 * What a sum is above that of as many of the least value: a smaller number. One no farther from a whole number of hundredths than
 * adding it up may have moved it is taken for that number, which packs.
 */
function aboveLeast(sum: number, count: number, least: number): number {
  const above = sum - count * least;
  const hundredths = Math.round(above * 100) / 100;
  return !Number.isInteger(above) && Math.abs(above - hundredths) <= sum * count * Number.EPSILON ? hundredths : above;
}
