// Queries on the spill: what the segments have of a time range, page by page, in bounded memory.
//
// Segments are in log order, which is nearly but not quite the order of time (a backlog comes late). They are visited by their
// earliest time; of what they have, the first samples after the cursor are kept, as many as fit a reply; and once those are
// known to be earlier than all that is left, the rest is not read. One query at a time: each may hold a page and a block.
//
// A reply must not take longer than an asker waits, however large the spill is: once it has read enough it carries what it has, which
// may be nothing, and a cursor to go on from. Points are then sums over a run of segments, and those of the next run are to be
// added to them.

import {
  type CoverageSpan,
  type LogPosition,
  QueryError,
  type RangeRequest,
  REPLY_BYTES_MAX,
  type SegmentInfo,
  type SegmentsReply,
} from '#shared/contract/queries';
import { parseRow, type Sample, sampleOfRow } from '#shared/contract/row';
import { JsonText } from '#shared/nats/query-service';
import { Exclusive } from '#shared/segments/exclusive';
import { SegmentUnreadableError } from '#shared/segments/segment-errors';
import type { SegmentLog, SegmentSummary } from '#shared/segments/segment-log';
import { Buckets, compareText, type PointKey } from './core/buckets.ts';
import { coverageOf, type Gap } from './core/coverage.ts';
import type { RowFilter } from './core/sample-filter.ts';
import { Smallest } from './core/smallest.ts';
import { createRowScan } from './row-scan.ts';

/** Room for coverage, cursor and position beside the samples. */
const PAGE_BYTES_MAX = REPLY_BYTES_MAX - 64 * 1024;
/** No point is shorter than this, so a page never has more of them. */
const POINT_BYTES_MIN = 400;
const SEGMENTS_PER_PAGE = 1000;
/** A segment of the default size: less than a second of reading, even when every row is wanted. */
const SCAN_BYTES_MAX = 16 * 1024 * 1024;

export interface SpillReaderOptions {
  readonly log: SegmentLog;
  /** First position not yet synced. */
  readonly position: () => LogPosition | null;
  readonly gaps: () => readonly Gap[];
  /** A segment turned out to be damaged; it has been set aside. */
  readonly onUnreadable: (error: SegmentUnreadableError) => void;
  /** After this many bytes of rows a reply reads no further segment; 16 MiB by default. */
  readonly scanBytesMax?: number;
}

interface SampleKey {
  readonly ts: number;
  readonly seq: number;
  readonly host: string;
  readonly unit: string;
  readonly log: number;
}

interface FoundSample extends SampleKey {
  readonly text: string;
  readonly bytes: number;
}

/** Comes before every sample of its time. */
const BEFORE_ANY = { seq: -1, host: '', unit: '', log: 0 };

/** Of a segment: it keeps it when it is sealed. */
interface SegmentPlace {
  readonly log: number;
  readonly first: number;
}

/** Where the points of a reply are from: segments in the order of the log, and those of their points that come after one. */
interface PointsPlace {
  readonly start: SegmentPlace;
  /** First segment that is not read; null: to be found by reading. */
  readonly end: SegmentPlace | null;
  readonly after: PointKey | null;
}

const FIRST_SEGMENT: SegmentPlace = { log: 0, first: 0 };
const BEHIND_ALL: SegmentPlace = { log: Number.MAX_SAFE_INTEGER, first: 0 };

export class SpillReader {
  private readonly options: SpillReaderOptions;
  private readonly turn = new Exclusive();
  private readonly scanBytesMax: number;

  constructor(options: SpillReaderOptions) {
    this.options = options;
    this.scanBytesMax = options.scanBytesMax ?? SCAN_BYTES_MAX;
  }

  /** @throws {QueryError} `bad_cursor` */
  range(request: RangeRequest): Promise<JsonText> {
    return this.turn.run(() => (request.max_points === undefined ? this.samples(request) : this.points(request, request.max_points)));
  }

  /** @throws {QueryError} `bad_cursor` */
  segments(cursor: string | null): SegmentsReply {
    const after = cursor === null ? null : readCursor(cursor, ['number', 'number']);
    const all = this.options.log.segments();
    const rest = after === null ? all : all.filter(({ log, first }) => log > after[0] || (log === after[0] && first > after[1]));
    const page = rest.slice(0, SEGMENTS_PER_PAGE);
    const last = page.at(-1);
    return {
      segments: page.map(infoOf),
      next: last === undefined || page.length === rest.length ? null : writeCursor([last.log, last.first]),
    };
  }

  private async samples(request: RangeRequest): Promise<JsonText> {
    const after = request.cursor ? sampleCursor(request.cursor) : null;
    const position = this.options.position();
    const found = new Smallest<FoundSample>(PAGE_BYTES_MAX, compareKeys);
    const filter = { ...filterOf(request), ...(after === null ? {} : { fromMs: Math.max(request.from_ms, after.ts) }) };
    /** What is earlier has been read. */
    let readToMs = Number.POSITIVE_INFINITY;
    let scannedBytes = 0;
    for (const segment of this.inTime(filter)) {
      const { leftOut } = found;
      const earliestMs = segment.fromMs as number;
      if (leftOut !== null && earliestMs > leftOut.ts) break;
      if (scannedBytes >= this.scanBytesMax && earliestMs > filter.fromMs) {
        readToMs = earliestMs;
        break;
      }
      scannedBytes += await this.forEachRow(segment, filter, (sample, timeMs) => {
        const cut = found.leftOut;
        if (cut !== null && timeMs > cut.ts) return;
        const read = sample();
        if (read === null) return;
        const key = { ts: read.ts, seq: read.seq as number, host: read.host, unit: read.unit, log: segment.log };
        if (after !== null && compareKeys(key, after) <= 0) return;
        const text = JSON.stringify(read);
        found.add({ ...key, text, bytes: Buffer.byteLength(text) + 1 });
      });
    }
    const { items, hasMore } = found.take();
    const known = items.filter(({ ts }) => ts < readToMs);
    const isCut = known.length < items.length || (!hasMore && readToMs !== Number.POSITIVE_INFINITY);
    const last = isCut ? { ...BEFORE_ANY, ts: readToMs } : hasMore ? known.at(-1) : undefined;
    const next = last === undefined ? null : writeCursor([last.ts, last.seq, last.host, last.unit, last.log]);
    const rest = JSON.stringify({ next, coverage: this.coverage(request), position });
    return new JsonText(`{"samples":[${known.map(({ text }) => text).join(',')}],${rest.slice(1)}`);
  }

  private async points(request: RangeRequest, points: number): Promise<JsonText> {
    const place = request.cursor ? pointCursor(request.cursor) : { start: FIRST_SEGMENT, end: null, after: null };
    const position = this.options.position();
    const filter = filterOf(request);
    const pointsMax = Math.ceil(PAGE_BYTES_MAX / POINT_BYTES_MIN);
    const buckets = new Buckets({ fromMs: request.from_ms, toMs: request.to_ms, points, after: place.after, pointsMax });
    let end = BEHIND_ALL;
    let scannedBytes = 0;
    for (const segment of this.inTime(filter).sort(compareSegments)) {
      if (compareSegments(segment, place.start) < 0) continue;
      if (place.end === null ? scannedBytes >= this.scanBytesMax : compareSegments(segment, place.end) >= 0) {
        end = { log: segment.log, first: segment.first };
        break;
      }
      scannedBytes += await this.forEachRow(segment, filter, (sample) => {
        const read = sample();
        if (read !== null) buckets.add(read);
      });
    }
    const page = buckets.take();
    const fitting = fittingTexts(page.points.map((point) => JSON.stringify(point)));
    const after = page.points[fitting.length - 1];
    const hasMore = page.hasMore || fitting.length < page.points.length;
    let next: PointsPlace | null = end === BEHIND_ALL ? null : { start: end, end: null, after: null };
    if (hasMore && after !== undefined) next = { start: place.start, end, after };
    const rest = JSON.stringify({
      next: next === null ? null : writePointCursor(next),
      coverage: this.coverage(request),
      position,
    });
    return new JsonText(`{"points":[${fitting.join(',')}],${rest.slice(1)}`);
  }

  /** Segments with rows between the times, earliest first. */
  private inTime({ fromMs, toMs }: RowFilter): SegmentSummary[] {
    return this.options.log
      .segments()
      .filter((segment) => segment.fromMs !== null && segment.toMs !== null && segment.toMs >= fromMs && segment.fromMs <= toMs)
      .sort((a, b) => (a.fromMs as number) - (b.fromMs as number));
  }

  /**
   * Reading awaits the disk or the decompressor for every block, so that whatever else is to be done gets its turn.
   * @returns bytes read
   */
  private async forEachRow(
    segment: SegmentSummary,
    filter: RowFilter,
    visit: (sample: () => Sample | null, timeMs: number) => void,
  ): Promise<number> {
    const scan = createRowScan(filter, segment.log);
    let bytes = 0;
    try {
      for await (const block of this.options.log.read(segment)) {
        bytes += block.length;
        scan(block, (start, end, timeMs) => visit(() => wantedSample(block.toString('utf8', start, end), filter), timeMs));
      }
    } catch (error) {
      if (!(error instanceof SegmentUnreadableError)) throw error;
      await this.options.log.setAside(error.segment, error.message);
      this.options.onUnreadable(error);
    }
    return bytes;
  }

  private coverage({ from_ms, to_ms }: RangeRequest): CoverageSpan[] {
    return coverageOf(this.options.log.segments(), this.options.gaps(), from_ms, to_ms);
  }
}

/** The sample of a row; null when it is not one, or another series' whose name contains the text that was looked for. */
function wantedSample(line: string, { host, unit }: RowFilter): Sample | null {
  const row = parseRow(line);
  if (row === null || (host !== undefined && row.host !== host) || (unit !== undefined && row.unit !== unit)) return null;
  return sampleOfRow(row);
}

function fittingTexts(texts: string[]): string[] {
  let bytes = 0;
  const end = texts.findIndex((text, i) => {
    bytes += Buffer.byteLength(text) + 1;
    return bytes > PAGE_BYTES_MAX && i > 0;
  });
  return end === -1 ? texts : texts.slice(0, end);
}

function filterOf({ host, unit, from_ms, to_ms, below }: RangeRequest): RowFilter {
  return { host, unit, fromMs: from_ms, toMs: to_ms, below };
}

function infoOf(segment: SegmentSummary): SegmentInfo {
  return {
    name: segment.name,
    log: segment.log,
    first_seq: segment.first,
    last_seq: segment.last,
    from_ms: segment.fromMs ?? 0,
    to_ms: segment.toMs ?? 0,
    rows: segment.rows,
    bytes: segment.diskBytes,
    sealed: segment.isSealed,
  };
}

function compareKeys(a: SampleKey, b: SampleKey): number {
  return a.ts - b.ts || a.seq - b.seq || compareText(a.host, b.host) || compareText(a.unit, b.unit) || a.log - b.log;
}

function compareSegments(a: SegmentPlace, b: SegmentPlace): number {
  return a.log - b.log || a.first - b.first;
}

function sampleCursor(cursor: string): SampleKey {
  const [ts, seq, host, unit, log] = readCursor(cursor, ['number', 'number', 'string', 'string', 'number']);
  return { ts, seq, host, unit, log };
}

function pointCursor(cursor: string): PointsPlace {
  const types = ['number', 'number', 'number', 'number', 'string', 'string', 'number'] as const;
  const [log, first, endLog, endFirst, host, unit, from_ms] = readCursor(cursor, types);
  const isRunKnown = host !== '';
  return {
    start: { log, first },
    end: isRunKnown ? { log: endLog, first: endFirst } : null,
    after: isRunKnown ? { host, unit, from_ms } : null,
  };
}

/** A host has a name, so none means that a run begins. */
function writePointCursor({ start, end, after }: PointsPlace): string {
  const { log, first } = end ?? start;
  const { host, unit, from_ms } = after ?? { host: '', unit: '', from_ms: 0 };
  return writeCursor([start.log, start.first, log, first, host, unit, from_ms]);
}

interface CursorTypes {
  number: number;
  string: string;
}
type CursorParts<T extends readonly (keyof CursorTypes)[]> = { -readonly [K in keyof T]: CursorTypes[T[K]] };

function writeCursor(parts: readonly (string | number)[]): string {
  return Buffer.from(JSON.stringify(parts)).toString('base64url');
}

/** Cursors come back from anyone on the bus. */
function readCursor<const T extends readonly (keyof CursorTypes)[]>(cursor: string, types: T): CursorParts<T> {
  let parts: unknown;
  try {
    parts = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
  } catch {
    parts = null;
  }
  if (!Array.isArray(parts) || parts.length !== types.length || types.some((type, i) => typeof parts[i] !== type))
    throw new QueryError('bad_cursor', 'the cursor is not one that this query has given');
  return parts as CursorParts<T>;
}
