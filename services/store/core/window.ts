// The window: what the store holds in memory, exactly the log from the floor to the head.
//
// New rows go to the head, plain typed arrays. When the head is full or 60 s old it is sealed into a block. Evicting takes
// the oldest block: one number moves, the floor. Nothing here knows the time, the bus or the disk: the caller passes the
// time in, asks what is due, publishes it, and moves the floor when that has been acknowledged.
//
// Invariants: blocks are contiguous, from the floor (which may lie inside the first) to the head; `bytes` is all that is held;
// a position without rows (a refused or repeated message) is an empty place and costs nothing.

import type { Batch } from '#shared/contract/batch';
import type { KnownUnits } from '#shared/contract/batch-reader';
import type { SeqRange } from '#shared/contract/eviction';
import { ALL_METRIC_NAMES, type AnyMetricName, METRICS, STATES, type State } from '#shared/contract/metrics';
import type { SeriesKey } from '#shared/contract/series';
import {
  atOnce,
  type BatchList,
  type Block,
  batchesInPanels,
  copyBatch,
  decodeBatches,
  decodeBlock,
  decodeBlockInSteps,
  decodeSeriesRows,
  emptyBatches,
  encodeBlock,
  encodeBlockInSteps,
  panelsOfSource,
  SeriesColumns,
} from './block.ts';
import { Catalog } from './catalog.ts';
import { type Chapter, FAN_OUT, OpenChapter } from './chapter.ts';
import { Columns, type Form, joinedForms, type MetricColumn, WORDS } from './columns.ts';
import { IntervalSet } from './interval-set.ts';

export interface WindowOptions {
  /** Hard limit of what is held, bytes. */
  readonly budgetBytes: number;
  /** First position of the window. */
  readonly floor: number;
  /** Positions from the floor on that are known to repeat batches already evicted. */
  readonly duplicates?: readonly SeqRange[];
}

export interface WindowBytes {
  total: number;
  head: number;
  /** Chapters included. */
  blocks: number;
  series: number;
  pull: number;
}

/** Rows of one series in one block or in the head, in log order. Columns are valid until the next one is read. */
export interface Slice {
  readonly count: number;
  readonly columns: SeriesColumns;
}

/** What is needed to read a series from one piece after the other. Valid until the window is changed. */
export interface SeriesReading {
  readonly series: number;
  /** Of its host. */
  readonly sources: readonly number[];
  /** Its place in a shape; -1 when it is not there. */
  readonly placeIn: (shape: number) => number;
}

export const HEAD_AGE_MS_MAX = 60_000;
/** The head takes at most a twelfth of the budget; of a large budget no more than makes good blocks. */
const HEAD_SHARE = 12;
const HEAD_BYTES_MIN = 8 * 1024;
const HEAD_BYTES_MAX = 1024 * 1024;
/** With more rows than these, or than so many of each series, blocks get hardly better, and take longer to make and to read. */
const HEAD_ROWS_ENOUGH = 8_000;
const HEAD_ROWS_OF_SERIES_ENOUGH = 16;
/** Blocks of like traffic are of like size; one may be somewhat larger than the one before. */
const SEAL_MARGIN = 1.25;
/** Repeated messages beyond this many ranges are a flood: the window moves on instead of remembering them. */
const DUPLICATE_RANGES_MAX = 4_096;
/** Of the budget, at most this share is for the open chapter: with more series there are none. */
const OPEN_CHAPTER_SHARE = 48;
/** Beside one for each series; looking for those that are not in use is not worth it for fewer. */
const INCARNATIONS_SPARE = 64;

export class Window {
  readonly catalog = new Catalog();
  readonly budgetBytes: number;
  /** First position in the window. */
  floor: number;
  /** First position not yet read. */
  next: number;
  /** Rows that queries see: those of removed series are not among them. */
  rows = 0;
  /** Payload bytes pulled from the log and not yet in the window, and the most that may be; told by the owner. */
  pullBytes = 0;
  pullBytesMax = 0;
  readonly blocks: Block[] = [];
  /** Newest rows. Without arrays while those are lent: see {@link Window.readOldest}. */
  head = new Columns();
  /** Oldest first, contiguous but for blocks that never got into one; those below others are among their parts. */
  readonly chapters: Chapter[] = [];
  /** Of the newest blocks; null when there are too many series, and until the next block after the floor has cut it. */
  openChapter: OpenChapter | null = null;
  /** For the rows of blocks that are rewritten or evicted: its arrays are those of the empty head, or, if there is room, its own. */
  private scratch = new Columns();
  /** What the metrics of the head had the form of when its arrays were lent; null while they are not. */
  private lentForms: readonly Form[] | null = null;
  /** The block whose rows are in `scratch`, and the position behind them: its end, unless they did not all fit. */
  private decoded: { readonly block: Block; readonly to: number } | null = null;
  /** How often head, blocks or scratch arrays were changed: work in steps is given up when they were meanwhile. */
  private changes = 0;
  private readonly duplicates = new IntervalSet();
  /** Limit of the head, and what it should be by the rows that were in it last: raised to that when there is room. */
  private headBytesMax: number;
  private headBytesWanted: number;
  /** Of a block in `blocks`, decoded. */
  private decodedBytesMax = 0;
  private headFrom: number;
  private headSinceMs = 0;
  private blockBytes = 0;
  private chapterBytes = 0;
  /** What the next block is expected to take, judged by the last one sealed. */
  private sealBytes: number;
  private readonly slice = new SeriesColumns();
  private dropsToSweep = 1;

  constructor(options: WindowOptions) {
    this.budgetBytes = options.budgetBytes;
    this.headBytesMax = this.headBytesFor(Columns.bytesFor(0, HEAD_ROWS_ENOUGH, this.head.forms.fill(WORDS)));
    this.headBytesWanted = this.headBytesMax;
    this.sealBytes = this.headBytesMax / 2;
    this.floor = options.floor;
    this.next = options.floor;
    this.headFrom = options.floor;
    for (const range of options.duplicates ?? []) this.duplicates.append(range);
  }

  get bytes(): WindowBytes {
    const head = this.head.bytes + this.scratch.bytes;
    const series = this.catalog.bytes + this.duplicates.bytes;
    const blocks = this.blockBytes + this.chapterBytes + (this.openChapter?.bytes ?? 0);
    return { total: head + blocks + series + this.pullBytes, head, blocks, series, pull: this.pullBytes };
  }

  /**
   * True when something has to be evicted before `growthBytes` more are taken. Eviction takes time, so what may come in the
   * meantime is counted as if it were there: a full head, the next block, a full pull buffer. So `bytes` itself is never above
   * the budget, unless single batches are larger than the head.
   */
  needsRoom(growthBytes = 0): boolean {
    return !this.hasRoomFor(this.sealBytes + growthBytes) || this.duplicates.rangeCount > DUPLICATE_RANGES_MAX;
  }

  /** Beside what is held, with the head and what is pulled as large as they may be. */
  private hasRoomFor(bytes: number): boolean {
    return this.bytesAtMost() + this.pullBytesAtMost + bytes <= this.budgetBytes;
  }

  /** Bytes that are left for what is pulled, with everything else as large as it may be. */
  get roomForPull(): number {
    return Math.max(0, this.budgetBytes - this.bytesAtMost() - this.sealBytes);
  }

  private get pullBytesAtMost(): number {
    return Math.max(this.pullBytesMax, this.pullBytes);
  }

  private bytesAtMost(): number {
    const headBytes = Math.max(this.headBytesMax, this.headBytesWanted, this.decodedBytesMax);
    // Of the head and the scratch arrays, one has those of the head.
    const arrays =
      this.lentForms !== null ? Math.max(headBytes, this.scratch.bytes) : Math.max(headBytes, this.head.bytes) + this.scratch.bytes;
    const openChapter = Math.max(this.openChapterBytes() ?? 0, this.openChapter?.bytes ?? 0);
    return arrays + this.blockBytes + this.chapterBytes + openChapter + this.catalog.bytes + this.duplicates.bytes;
  }

  /** Units of the newest batch of a collector, in their order, as far as the window knows it. */
  readonly knownUnits: KnownUnits = (host, boot, part) => this.catalog.knownUnits(host, boot, part);

  /** Bytes of names, indexes and identities that a batch may add. */
  growthOf(batch: Batch): number {
    return this.catalog.growthOf(batch);
  }

  /** Positions from the floor on that repeat an earlier batch. */
  get duplicateRanges(): SeqRange[] {
    return this.duplicates.ranges;
  }

  /** Takes a batch that the log has at `seq`. A batch whose tick is in the window already is an empty place. */
  append(batch: Batch, seq: number, arrivalMs: number, nowMs: number): 'appended' | 'duplicate' {
    this.changes++;
    if (this.lentForms !== null) this.clearScratch();
    this.skip(seq);
    if (this.duplicates.has(seq)) return 'duplicate';
    const sourceId = this.catalog.sourceFor(batch.host, batch.boot, batch.part);
    const source = this.catalog.source(sourceId);
    if (source.ticks.has(batch.tick)) {
      this.duplicates.add(seq);
      return 'duplicate';
    }
    const count = batch.unit.length;
    this.makeRoom(seq, count, widthOf(batch));
    this.putMetrics(batch, seq);
    if (this.head.batches === 0) this.headSinceMs = nowMs;
    const shape = this.catalog.shapeFor(source, batch.unit);
    this.catalog.addBatch(source, shape, batch.tick);
    const { head } = this;
    const at = head.batches++;
    head.seq[at] = seq;
    head.ts[at] = batch.ts;
    head.arrival[at] = arrivalMs;
    head.tick[at] = batch.tick;
    head.source[at] = sourceId;
    head.shape[at] = shape;
    head.rowStart[at] = head.rows;
    this.putIncarnations(batch, this.catalog.shape(shape), seq);
    head.rows += count;
    this.rows += count;
    return 'appended';
  }

  /** Moves the head behind an empty place. */
  skip(seq: number): void {
    if (seq < this.next) throw new RangeError(`position ${seq} is below ${this.next}, the head of the window`);
    this.next = seq + 1;
  }

  /**
   * Forgets the rows that the window holds of a series: no query and no eviction sees them any more. The memory they take is
   * still counted, and freed with their blocks. Ticks are kept, so that a repeated batch stays a repetition.
   * @returns rows forgotten; 0 for a series of which nothing is held
   */
  remove({ host, unit }: SeriesKey): number {
    const series = this.catalog.series(host, unit);
    if (series === undefined) return 0;
    const rows = this.catalog.rows[series] as number;
    this.catalog.remove(series);
    this.rows -= rows;
    return rows;
  }

  /** True when the head has rows and is {@link HEAD_AGE_MS_MAX} old: then it should be sealed. */
  isHeadOld(nowMs: number): boolean {
    return this.head.batches > 0 && nowMs - this.headSinceMs >= HEAD_AGE_MS_MAX;
  }

  /** Turns the head into a block. Does nothing when it is empty. */
  seal(): void {
    this.sealUpTo(this.next);
  }

  /** True when the head has to be sealed before it can take a batch. */
  isFullFor(batch: Batch): boolean {
    return this.isFull(batch.unit.length);
  }

  /**
   * As {@link Window.seal}, in small steps: between them the window answers queries as before. Given up when the window changes
   * meanwhile. Merging the new block with the one before, when both are small, is one step.
   */
  *sealInSteps(): Generator<void, void> {
    yield* this.sealingUpTo(this.next);
  }

  /** End of what should be evicted next to free memory: the oldest block. Equal to the floor when nothing is held. */
  oldestBlockEnd(): number {
    if (this.blocks.length === 0) this.seal();
    return this.blocks[0]?.to ?? this.next;
  }

  /** First position that arrived at or after `cutoffMs`; the floor when nothing is older. */
  firstSince(cutoffMs: number): number {
    for (let i = 0; i < this.blocks.length; i++) {
      const block = this.blocks[i] as Block;
      if (block.lastArrivalMs < cutoffMs) continue;
      if (i === 0 || block.firstArrivalMs < cutoffMs) return this.firstInBlockSince(block, cutoffMs);
      return block.from;
    }
    const { head } = this;
    for (let i = 0; i < head.batches; i++) {
      if ((head.arrival[i] as number) >= cutoffMs) return i === 0 ? this.headFrom : (head.seq[i] as number);
    }
    return head.batches > 0 || this.blocks.length > 0 ? this.next : this.floor;
  }

  /** End of the first block, at least `rows` rows from the floor; the head when there are not that many. */
  endOfRows(rows: number): number {
    if (this.head.batches > 0 && this.blocks.length === 0) this.seal();
    let seen = 0;
    for (const block of this.blocks) {
      seen += block.rows;
      if (seen >= rows) return block.to;
    }
    return this.next;
  }

  /**
   * Rows from the floor on, in log order, at most up to `to`: those of the first block, or, without memory for all of them, the first
   * of these. Valid until the window is changed.
   * Null when there are none: then the floor may be moved without telling anyone about rows.
   */
  oldestRows(to: number): { columns: Columns; firstBatch: number; lastBatch: number; end: number } | null {
    atOnce(this.readOldest(to));
    if (this.decoded === null) return null;
    const end = Math.min(to, this.decoded.to);
    let firstBatch = 0;
    while (firstBatch < this.scratch.batches && (this.scratch.seq[firstBatch] as number) < this.floor) firstBatch++;
    let lastBatch = firstBatch;
    while (lastBatch < this.scratch.batches && (this.scratch.seq[lastBatch] as number) < end) lastBatch++;
    return { columns: this.scratch, firstBatch, lastBatch, end };
  }

  /**
   * Makes {@link Window.oldestRows} ready, in small steps. Given up when the window changes meanwhile. The rows go where those of the
   * head have been: a head that has some is sealed first, unless there is room for both.
   */
  *readOldest(to: number): Generator<void, void> {
    const isInHead = this.blocks.length === 0 || to > (this.blocks.at(-1) as Block).to;
    if (isInHead && !(yield* this.sealingUpTo(this.next))) return;
    const oldest = this.blocks[0];
    if (oldest !== undefined && oldest === this.decoded?.block) return;
    this.clearScratch();
    if (oldest === undefined) return;
    if (!this.hasRoomFor(this.sealBytes + oldest.decodedBytes) && !(yield* this.sealingUpTo(this.next))) return;
    if (this.head.batches === 0) this.lendHead();
    const block = this.blocks[0] as Block;
    const wanted = this.lentForms === null ? block.decodedBytes : Math.max(this.headBytesMax, block.decodedBytes);
    // After blocks that were larger than expected there may not be that much.
    const bytesMax = Math.min(wanted, this.scratchBytesMax);
    const end = yield* this.unlessChanged(decodeBlockInSteps(block, this.catalog, this.scratch, bytesMax, this.floor));
    if (end !== null) this.decoded = { block, to: end };
  }

  /** Takes steps, and gives back what the last one does; null when the window changes meanwhile. */
  private *unlessChanged<Result>(steps: Generator<void, Result>): Generator<void, Result | null> {
    const { changes } = this;
    for (;;) {
      const step = steps.next();
      if (step.done) return step.value;
      yield;
      if (this.changes !== changes) return null;
    }
  }

  /** Moves the floor up to `to`: everything below has left the window. */
  evictTo(to: number): void {
    if (to > this.next) throw new RangeError(`cannot evict to ${to}: the window ends at ${this.next}`);
    if (to > this.headFrom) this.seal();
    while (this.floor < to) {
      const block = this.blocks[0];
      if (block === undefined) {
        this.floor = to;
        this.headFrom = Math.max(this.headFrom, to);
        break;
      }
      const end = Math.min(to, block.to);
      this.removeBatches(block, end);
      this.floor = end;
      if (end === block.to) this.dropOldest(block);
    }
    this.dropCutChapters();
    this.duplicates.deleteBelow(this.floor);
    this.clearScratch();
  }

  /** Forgets everything and starts again at `floor`, with the positions from there on that are known to repeat earlier batches. */
  reset(floor: number, duplicates: readonly SeqRange[] = []): void {
    while (this.blocks.length > 0 || this.head.batches > 0) this.evictTo(this.next);
    this.floor = floor;
    this.next = floor;
    this.headFrom = floor;
    this.duplicates.deleteBelow(Number.POSITIVE_INFINITY);
    for (const range of duplicates) this.duplicates.append(range);
  }

  /** Largest `ts` of the series in the window. */
  newestTs(series: number): number {
    if (this.catalog.isStale[series] === 1) this.refreshNewest(series);
    return this.catalog.newestTs[series] as number;
  }

  /** Pieces of the window, oldest first: the blocks, then the head (null). */
  pieces(): (Block | null)[] {
    return this.head.batches > 0 ? [...this.blocks, null] : [...this.blocks];
  }

  /** Blocks that begin at `from` or behind it, and before `to`; oldest first. */
  blocksBetween(from: number, to: number): Block[] {
    return this.blocks.slice(this.firstBlockAt(from), this.firstBlockAt(to));
  }

  /** Least and largest `ts` of a host's batches in a piece; null when it has none. */
  timesOf(piece: Block | null, sources: Iterable<number>): { minTs: number; maxTs: number } | null {
    let minTs = Number.POSITIVE_INFINITY;
    let maxTs = Number.NEGATIVE_INFINITY;
    if (piece === null) {
      const wanted = new Set(sources);
      for (let i = 0; i < this.head.batches; i++) {
        if (!wanted.has(this.head.source[i] as number)) continue;
        minTs = Math.min(minTs, this.head.ts[i] as number);
        maxTs = Math.max(maxTs, this.head.ts[i] as number);
      }
    } else {
      for (const panel of panelsOf(piece, sources)) {
        minTs = Math.min(minTs, piece.panels.minTs[panel] as number);
        maxTs = Math.max(maxTs, piece.panels.maxTs[panel] as number);
      }
    }
    return minTs === Number.POSITIVE_INFINITY ? null : { minTs, maxTs };
  }

  /** Batches of some sources in a piece, in log order, from the floor on. */
  batchesOf(piece: Block | null, sources: Iterable<number>): BatchList {
    const list = piece === null ? this.headBatches(new Set(sources)) : decodeBatches(piece, panelsOf(piece, sources));
    let from = 0;
    while (from < list.seq.length && (list.seq[from] as number) < this.floor) from++;
    return from === 0
      ? list
      : (Object.fromEntries(Object.entries(list).map(([key, column]) => [key, column.subarray(from)])) as unknown as BatchList);
  }

  /** A series, ready to be read from many pieces. */
  reading(series: number): SeriesReading {
    const places = new Map<number, number>();
    return {
      series,
      sources: [...this.catalog.hostOf(series).sources.values()],
      placeIn: (shape) => {
        let place = places.get(shape);
        if (place === undefined) {
          place = this.catalog.shape(shape).indexOf(series);
          places.set(shape, place);
        }
        return place;
      },
    };
  }

  /** Rows of a series in a piece, from the floor on; null when it has none. @param panels those of a block to read, all by default */
  sliceOf(piece: Block | null, reading: SeriesReading, panels?: readonly number[]): Slice | null {
    if (piece === null) return this.headSlice(reading);
    const wanted = (panels ?? panelsOf(piece, reading.sources)).filter(
      (panel) => reading.placeIn(piece.panels.shape[panel] as number) !== -1,
    );
    let count = 0;
    for (const panel of wanted) count += (piece.panels.batch[panel + 1] as number) - (piece.panels.batch[panel] as number);
    if (count === 0) return null;
    this.slice.reserve(count, piece.width);
    let offset = 0;
    for (const panel of wanted) {
      const place = reading.placeIn(piece.panels.shape[panel] as number);
      offset += decodeSeriesRows(piece, panel, place, reading.series, this.slice, offset);
    }
    if (wanted.length > 1) this.slice.sort(count);
    return this.cutBelowFloor(count);
  }

  /** Puts the metrics of a batch behind the rows of the head, whose columns take the form they need. */
  private putMetrics(batch: Batch, seq: number): void {
    const { head } = this;
    const count = batch.unit.length;
    for (let metric = 0; metric < head.metrics.length; metric++) {
      const column = head.metrics[metric] as MetricColumn;
      const values = batch[ALL_METRIC_NAMES[metric] as AnyMetricName] ?? null;
      if (column.put(values, head.rows, count)) continue;
      const form = column.formFor(values, head.rows);
      const isFitting = head.bytesAfter(head.batches + 1, head.rows + count, metric, form) <= this.headBytesMax;
      if (!isFitting) this.startHead(seq);
      head.raise(metric, form);
      if (!isFitting) this.makeRoom(seq, count, widthOf(batch));
      // What was put before may be gone with the head, or lie elsewhere in it.
      metric = isFitting ? metric - 1 : -1;
    }
  }

  private putIncarnations(batch: Batch, series: Uint32Array, seq: number): void {
    const { head, catalog } = this;
    const { rows, newestTs, isStale, newestIncarnation, incarnations } = catalog;
    const { incarnation: column, rows: start } = head;
    const { ts, state, pid, started } = batch;
    for (let i = 0; i < series.length; i++) {
      const id = series[i] as number;
      const code = codeOf(state[i] as State);
      const incarnation = catalog.incarnationFor(id, code, pid[i] ?? Number.NaN, started[i] ?? Number.NaN);
      incarnations.use(incarnation, seq);
      column[start + i] = incarnation;
      rows[id] = (rows[id] as number) + 1;
      if (ts >= (newestTs[id] as number)) {
        newestTs[id] = ts;
        newestIncarnation[id] = incarnation;
        isStale[id] = 0;
      }
    }
  }

  /** Room in the head for one more batch: within its limit, unless a single batch is larger than that. */
  private makeRoom(seq: number, rows: number, width: number): void {
    const { head } = this;
    if (this.isFull(rows)) this.sealUpTo(seq);
    head.widen(width);
    head.reserve(head.batches + 1, head.rows + rows, this.headBytesMax);
  }

  private isFull(rows: number): boolean {
    if (!this.isAtLimit(rows)) return false;
    this.adaptHead();
    return this.isAtLimit(rows);
  }

  private isAtLimit(rows: number): boolean {
    const { head } = this;
    return head.batches > 0 && head.bytesAfter(head.batches + 1, head.rows + rows) > this.headBytesMax;
  }

  /** Seals the head and gives its arrays back. */
  private startHead(seq: number): void {
    if (this.head.batches > 0) this.sealUpTo(seq);
    this.head.clear(0);
  }

  private sealUpTo(to: number): void {
    atOnce(this.sealingUpTo(to));
  }

  /** @returns false when it was given up */
  private *sealingUpTo(to: number): Generator<void, boolean> {
    const { head } = this;
    this.changes++;
    // Left by a sealing that was given up.
    if (this.openChapter?.isWhole === false) this.openChapter = null;
    if (head.batches === 0) {
      // Empty places at the end of a block belong to it, so that blocks stay contiguous.
      const last = this.blocks.at(-1);
      if (last === undefined) return true;
      const longer = { ...last, to };
      if (this.decoded?.block === last) this.decoded = { block: longer, to: this.decoded.to === last.to ? to : this.decoded.to };
      this.blocks[this.blocks.length - 1] = longer;
      this.headFrom = to;
      return true;
    }
    const chapter = this.chapterOfHead();
    chapter?.begin(this.catalog.seriesEnd);
    const block = yield* this.unlessChanged(encodeBlockInSteps(head, this.catalog, this.headFrom, to, chapter));
    if (block === null) return false;
    chapter?.addBlock(block);
    this.headFrom = to;
    this.keepBlock(block);
    this.clearHead();
    // A block larger than the head comes from a single large batch, and is no measure for the next.
    this.sealBytes = Math.min(this.headBytesMax, Math.ceil(block.bytes * SEAL_MARGIN));
    this.mergeNewest();
    if (this.openChapter?.isWorthClosing) this.closeChapter(this.openChapter, to);
    // More than was kept free for the block and its chapter: the arrays make up for that until something is evicted.
    if (!this.hasRoomFor(0)) head.clear(0);
    return true;
  }

  /** The head is empty: its arrays are used for other rows, until {@link Window.clearScratch}. */
  private lendHead(): void {
    this.lentForms = this.head.forms;
    [this.head, this.scratch] = [this.scratch, this.head];
  }

  /** With what is pulled as large as it may be. */
  private get scratchBytesMax(): number {
    const others = this.bytes.total - this.pullBytes - this.scratch.bytes;
    return this.budgetBytes - others - this.pullBytesAtMost;
  }

  private clearScratch(): void {
    this.changes++;
    this.decoded = null;
    if (this.lentForms === null) {
      this.scratch.clear(0);
      return;
    }
    this.scratch.clear(Math.min(this.headBytesMax, this.scratchBytesMax), this.lentForms);
    [this.head, this.scratch] = [this.scratch, this.head];
    this.lentForms = null;
  }

  private keepBlock(block: Block): void {
    this.blocks.push(block);
    this.blockBytes += block.bytes;
    this.decodedBytesMax = Math.max(this.decodedBytesMax, block.decodedBytes);
  }

  /** Clears the head, which has been sealed. */
  private clearHead(): void {
    const { head } = this;
    this.adaptHead();
    // Arrays of which more than half was not used, or for a proportion of rows to batches that no longer fits, are given back.
    head.clear(head.bytesUsed < head.bytes / 2 ? 0 : this.headBytesMax);
  }

  /** Sizes the head for the series there are, by the rows that are in it. */
  private adaptHead(): void {
    const { head } = this;
    const rows = Math.max(HEAD_ROWS_ENOUGH, this.catalog.seriesHeld * HEAD_ROWS_OF_SERIES_ENOUGH);
    this.headBytesWanted = this.headBytesFor((head.bytesUsed / head.rows) * rows);
    // What is wanted is kept free already; but other things may have taken what was kept for them, and more.
    if (this.headBytesWanted < this.headBytesMax || this.hasRoomFor(0)) this.headBytesMax = this.headBytesWanted;
  }

  /** @param bytes that would be enough */
  private headBytesFor(bytes: number): number {
    const most = Math.min(HEAD_BYTES_MAX, this.budgetBytes / HEAD_SHARE);
    return Math.floor(Math.max(HEAD_BYTES_MIN, Math.min(bytes, most)));
  }

  /** The chapter for the rows of the head, which is being sealed; null when it would be too large. */
  private chapterOfHead(): OpenChapter | null {
    if (this.openChapterBytes() === null) this.openChapter = null;
    else this.openChapter ??= new OpenChapter(this.headFrom);
    return this.openChapter;
  }

  private closeChapter(open: OpenChapter, to: number): void {
    const { chapters } = this;
    this.openChapter = null;
    this.keepChapter(open.closed(to));
    for (;;) {
      const parts = chapters.slice(-FAN_OUT);
      const { level } = parts.at(-1) as Chapter;
      const isContiguous = parts.every((part, i) => part.level === level && (i === 0 || part.from === parts[i - 1]?.to));
      if (parts.length < FAN_OUT || !isContiguous) return;
      chapters.length -= FAN_OUT;
      this.keepChapter(OpenChapter.above(parts));
    }
  }

  private keepChapter(chapter: Chapter): void {
    this.chapters.push(chapter);
    this.chapterBytes += chapter.bytes;
  }

  /** A chapter that has rows below the floor is of no use: its parts take its place. */
  private dropCutChapters(): void {
    for (;;) {
      const first = this.chapters[0];
      if (first === undefined || first.from >= this.floor) break;
      this.chapters.splice(0, 1, ...first.parts);
      this.chapterBytes -= first.bytes;
    }
    if (this.openChapter !== null && this.openChapter.from < this.floor) this.openChapter = null;
  }

  /** What the open chapter takes after the next seal; null when that is too much to have one. */
  private openChapterBytes(): number | null {
    const bytes = OpenChapter.bytesFor(this.catalog.seriesEnd, this.head.known | (this.openChapter?.known ?? 0));
    return bytes > this.budgetBytes / OPEN_CHAPTER_SHARE ? null : bytes;
  }

  /** Index of the first block that begins at a position or behind it. */
  private firstBlockAt(position: number): number {
    let low = 0;
    let high = this.blocks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.blocks[middle] as Block).from < position) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /**
   * Blocks sealed by age may be small, and every block has a price. The newest two become one while they are of like size and
   * fit the arrays of the head: each row is rewritten a logarithmic number of times. Only blocks of one chapter are merged.
   */
  private mergeNewest(): void {
    const from = Math.max(this.floor, this.openChapter?.from ?? this.chapters.at(-1)?.to ?? 0);
    for (;;) {
      const newer = this.blocks.at(-1);
      const older = this.blocks.at(-2);
      if (newer === undefined || older === undefined || older.from < from || older.rows > 2 * newer.rows) return;
      const forms = joinedForms(older.forms, newer.forms);
      if (Columns.bytesFor(older.batches + newer.batches, older.rows + newer.rows, forms) > this.headBytesMax) return;
      this.clearScratch();
      this.lendHead();
      decodeBlock(older, this.catalog, this.scratch, this.headBytesMax);
      decodeBlock(newer, this.catalog, this.scratch, this.headBytesMax);
      const merged = encodeBlock(this.scratch, this.catalog, older.from, newer.to);
      this.clearScratch();
      this.blocks.length -= 2;
      this.blockBytes -= older.bytes + newer.bytes;
      this.keepBlock(merged);
    }
  }

  private firstInBlockSince(block: Block, cutoffMs: number): number {
    if (block.firstArrivalMs >= cutoffMs) return Math.max(this.floor, block.from);
    const { seq, arrival } = batchesInPanels(block);
    let first = block.to;
    for (let i = 0; i < seq.length; i++) if ((arrival[i] as number) >= cutoffMs) first = Math.min(first, seq[i] as number);
    return Math.max(this.floor, first);
  }

  private removeBatches(block: Block, end: number): void {
    const { catalog } = this;
    const list = batchesInPanels(block);
    for (let i = 0; i < list.seq.length; i++) {
      const seq = list.seq[i] as number;
      if (seq < this.floor || seq >= end) continue;
      const series = catalog.shape(list.shape[i] as number);
      const ts = list.ts[i] as number;
      for (const id of series) {
        catalog.rows[id] = (catalog.rows[id] as number) - 1;
        if (catalog.isRemoved(id)) continue;
        this.rows--;
        if (ts >= (catalog.newestTs[id] as number)) catalog.isStale[id] = 1;
      }
      catalog.removeBatch(catalog.source(list.source[i] as number), list.shape[i] as number, list.tick[i] as number);
    }
  }

  private dropOldest(block: Block): void {
    this.blocks.shift();
    this.blockBytes -= block.bytes;
    this.decodedBytesMax = this.blocks.reduce((most, one) => Math.max(most, one.decodedBytes), 0);
    this.catalog.release(new Set(block.panels.source), new Set(block.panels.shape));
    this.sweepWhenTurnedOver();
  }

  /** Frees incarnations once for every time that the window has been replaced as a whole, so that a row costs a look at most. */
  private sweepWhenTurnedOver(): void {
    if (--this.dropsToSweep > 0) return;
    this.dropsToSweep = this.blocks.length + 1;
    const { catalog } = this;
    if (catalog.incarnations.size > catalog.seriesHeld + INCARNATIONS_SPARE) catalog.sweepIncarnations(this.blocks[0]?.from ?? this.floor);
  }

  private refreshNewest(series: number): void {
    const { catalog } = this;
    catalog.newestTs[series] = Number.NEGATIVE_INFINITY;
    const reading = this.reading(series);
    for (const piece of this.pieces()) {
      const slice = this.sliceOf(piece, reading);
      if (slice === null) continue;
      const { ts, incarnation } = slice.columns;
      for (let i = 0; i < slice.count; i++) {
        if ((ts[i] as number) < (catalog.newestTs[series] as number)) continue;
        catalog.newestTs[series] = ts[i] as number;
        catalog.newestIncarnation[series] = incarnation[i] as number;
      }
    }
    catalog.isStale[series] = 0;
  }

  private headBatches(sources: ReadonlySet<number>): BatchList {
    const { head } = this;
    const wanted: number[] = [];
    for (let i = 0; i < head.batches; i++) if (sources.has(head.source[i] as number)) wanted.push(i);
    const list = emptyBatches(wanted.length);
    for (const [i, batch] of wanted.entries()) copyBatch(head, batch, list, i);
    return list;
  }

  private headSlice({ sources, placeIn }: SeriesReading): Slice | null {
    const { head, slice } = this;
    const rows = new Uint32Array(head.batches);
    const batches = new Uint32Array(head.batches);
    let count = 0;
    for (let i = 0; i < head.batches; i++) {
      if (!sources.includes(head.source[i] as number)) continue;
      const place = placeIn(head.shape[i] as number);
      if (place === -1) continue;
      batches[count] = i;
      rows[count++] = (head.rowStart[i] as number) + place;
    }
    slice.reserve(count, head.metrics.length);
    for (let i = 0; i < count; i++) {
      slice.seq[i] = head.seq[batches[i] as number] as number;
      slice.ts[i] = head.ts[batches[i] as number] as number;
      slice.incarnation[i] = head.incarnation[rows[i] as number] as number;
    }
    for (const [metric, target] of slice.metrics.entries()) (head.metrics[metric] as MetricColumn).read(rows, count, target);
    return this.cutBelowFloor(count);
  }

  /** @param count rows that are in `slice` */
  private cutBelowFloor(count: number): Slice | null {
    const { slice } = this;
    let from = 0;
    while (from < count && (slice.seq[from] as number) < this.floor) from++;
    if (from === count) return null;
    if (from > 0) slice.shift(from, count);
    return { count: count - from, columns: slice };
  }
}

/** Without a search where it is the first, as nearly always: for every row that would be a hundredth of its cost. */
function codeOf(state: State): number {
  return state === STATES[0] ? 0 : STATES.indexOf(state);
}

/** Metrics that a batch brings, from the beginning of the table up to its last extra one. */
function widthOf(batch: Batch): number {
  for (let width = ALL_METRIC_NAMES.length; width > METRICS.length; width--) {
    if (batch[ALL_METRIC_NAMES[width - 1] as AnyMetricName] !== undefined) return width;
  }
  return METRICS.length;
}

/** The panels of a block that have batches of some sources. */
export function panelsOf(block: Block, sources: Iterable<number>): number[] {
  const panels: number[] = [];
  for (const source of sources) {
    const [first, end] = panelsOfSource(block, source);
    for (let panel = first; panel < end; panel++) panels.push(panel);
  }
  return panels;
}
