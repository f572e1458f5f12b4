// Queries over the window: what the store answers, as plain functions of the window. No bus, no clock.
// Replies are written as JSON text once: a page is many samples, and its size must be known.

import { ALL_METRICS, STATES, type State } from '#shared/contract/metrics';
import {
  type CoverageSpan,
  emptyMetricSummaries,
  type MetricSummaries,
  type Point,
  QueryError,
  REPLY_BYTES_MAX,
  type Summary,
  type UnitInfo,
} from '#shared/contract/queries';
import { formatSample, samplePrefix } from '#shared/contract/row';
import { type Aggregate, emptyAggregates } from './aggregate.ts';
import { addSeriesRows, type Block } from './block.ts';
import type { Run } from './chapter.ts';
import { panelsOf, type SeriesReading, type Slice, type Window } from './window.ts';

/** Room for the rest of a reply beside its items. */
const PAGE_BYTES_MAX = REPLY_BYTES_MAX - 16 * 1024;

/** Place of a sample in the order of replies: time, then position in the log, then name. */
interface Key {
  readonly ts: number;
  readonly seq: number;
  readonly unit: string;
}

interface Candidate extends Key {
  readonly series: number;
  readonly piece: Block | null;
}

export interface SamplesPage {
  /** Each a sample as JSON text. */
  readonly samples: string[];
  readonly next: string | null;
}

/** Every series with rows, by host and unit. @param cursor from a reply before */
export function units(window: Window, host: string | undefined, cursor: string | null): { units: UnitInfo[]; next: string | null } {
  const after = cursor === null ? null : readCursor(cursor, isTextPair);
  const { catalog } = window;
  const named = catalog
    .matching(host, undefined)
    .map((id) => ({ id, host: catalog.hostOf(id).name, unit: catalog.unitOf(id) }))
    .filter((one) => after === null || compareNames(one.host, one.unit, after[0], after[1]) > 0)
    .sort((a, b) => compareNames(a.host, a.unit, b.host, b.unit));
  const page: UnitInfo[] = [];
  let bytes = 0;
  for (const { id, host: hostName, unit } of named) {
    const info = unitInfo(window, id, hostName, unit);
    const size = Buffer.byteLength(JSON.stringify(info)) + 1;
    if (bytes + size > PAGE_BYTES_MAX) {
      const last = page.at(-1) as UnitInfo;
      return { units: page, next: writeCursor([last.host, last.unit]) };
    }
    bytes += size;
    page.push(info);
  }
  return { units: page, next: null };
}

function unitInfo(window: Window, id: number, host: string, unit: string): UnitInfo {
  const { catalog } = window;
  const last = window.newestTs(id);
  const incarnation = catalog.newestIncarnation[id] as number;
  const { incarnations } = catalog;
  return {
    host,
    unit,
    unit_hash: catalog.hashOf(id),
    state: STATES[incarnations.state[incarnation] as number] as State,
    pid: orNull(incarnations.pid[incarnation] as number),
    started: orNull(incarnations.started[incarnation] as number),
    first_ts: firstTs(window, id),
    last_ts: last,
    rows: catalog.rows[id] as number,
  };
}

/** Least `ts` of the series: the first piece that has it decides, unless a later one reaches further back. */
function firstTs(window: Window, id: number): number {
  const reading = window.reading(id);
  let least = Number.POSITIVE_INFINITY;
  for (const piece of window.pieces()) {
    const times = window.timesOf(piece, reading.sources);
    if (times === null || times.minTs >= least) continue;
    const slice = window.sliceOf(piece, reading);
    if (slice !== null) for (let i = 0; i < slice.count; i++) least = Math.min(least, slice.columns.ts[i] as number);
  }
  return least;
}

/** The newest `limit` samples within the retention of the series' newest, oldest first; none for an unknown series. */
export function latest(window: Window, host: string, unit: string, limit: number, retentionMs: number, cursor: string | null): SamplesPage {
  const id = window.catalog.series(host, unit);
  if (id === undefined || limit === 0) return { samples: [], next: null };
  if (cursor !== null) return continued(window, id, cursor);
  const keys = newestKeys(window, id, window.newestTs(id) - retentionMs, limit);
  const first = keys[0];
  const last = keys.at(-1);
  if (first === undefined || last === undefined) return { samples: [], next: null };
  return seriesPage(window, id, { ...first, seq: first.seq - 0.5 }, last);
}

/** All samples within the retention of the series' newest, oldest first. @throws {QueryError} `unknown_unit` */
export function snapshot(window: Window, host: string, unit: string, retentionMs: number, cursor: string | null): SamplesPage {
  const id = knownSeries(window, host, unit);
  if (cursor !== null) return continued(window, id, cursor);
  const newest = window.newestTs(id);
  const after = { ts: newest - retentionMs, seq: Number.NEGATIVE_INFINITY, unit: '' };
  const last = newestKeys(window, id, newest, 1).at(-1) ?? { ts: newest, seq: Number.POSITIVE_INFINITY, unit: '' };
  return seriesPage(window, id, after, last);
}

/** @throws {QueryError} `unknown_unit` when the window holds nothing of it */
export function knownSeries(window: Window, host: string, unit: string): number {
  const id = window.catalog.series(host, unit);
  if (id !== undefined) return id;
  throw new QueryError('unknown_unit', `nothing of unit ${JSON.stringify(unit)} on host ${JSON.stringify(host)} is in the window`);
}

function continued(window: Window, id: number, cursor: string): SamplesPage {
  const [afterTs, afterSeq, lastTs, lastSeq] = readCursor(cursor, isNumberQuad);
  return seriesPage(window, id, { ts: afterTs, seq: afterSeq, unit: '' }, { ts: lastTs, seq: lastSeq, unit: '' });
}

/** A page of one series after a key, up to and including another: rows that arrive between two pages do not shift it. */
function seriesPage(window: Window, id: number, after: Key, last: Key): SamplesPage {
  const unit = window.catalog.unitOf(id);
  const { samples, nextKey } = page(window, [id], { ...after, unit }, { ...last, unit });
  return { samples, next: nextKey === null ? null : writeCursor([nextKey.ts, nextKey.seq, last.ts, last.seq]) };
}

/** Samples of the matching series with `from_ms` <= ts <= `to_ms`, by time. */
export function range(
  window: Window,
  host: string | undefined,
  unit: string | undefined,
  fromMs: number,
  toMs: number,
  cursor: string | null,
): SamplesPage {
  const given = cursor === null ? null : readCursor(cursor, isKeyTriple);
  const after: Key =
    given === null ? { ts: fromMs, seq: Number.NEGATIVE_INFINITY, unit: '' } : { ts: given[0], seq: given[1], unit: given[2] };
  const last: Key = { ts: toMs, seq: Number.POSITIVE_INFINITY, unit: '' };
  const { samples, nextKey } = page(window, window.catalog.matching(host, unit), after, last);
  return { samples, next: nextKey === null ? null : writeCursor([nextKey.ts, nextKey.seq, nextKey.unit]) };
}

/** Each matching series in `points` equal buckets of [from_ms, to_ms]; empty buckets are left out. Ordered by host, unit, time. */
export function rangePoints(
  window: Window,
  host: string | undefined,
  unit: string | undefined,
  fromMs: number,
  toMs: number,
  points: number,
  cursor: string | null,
): { points: Point[]; next: string | null } {
  const after = cursor === null ? null : readCursor(cursor, isPointCursor);
  const width = Math.max(1, Math.ceil((toMs - fromMs + 1) / points));
  const { catalog } = window;
  const ids = catalog
    .matching(host, unit)
    .filter((id) => after === null || compareNames(catalog.hostOf(id).name, catalog.unitOf(id), after[0], after[1]) >= 0)
    .sort((a, b) => compareNames(catalog.hostOf(a).name, catalog.unitOf(a), catalog.hostOf(b).name, catalog.unitOf(b)));
  const result: Point[] = [];
  let bytes = 0;
  for (const id of ids) {
    for (const point of seriesPoints(window, id, fromMs, toMs, width)) {
      if (after !== null && compareNames(point.host, point.unit, after[0], after[1]) === 0 && point.from_ms <= after[2]) continue;
      const size = Buffer.byteLength(JSON.stringify(point)) + 1;
      if (bytes + size > PAGE_BYTES_MAX) {
        const last = result.at(-1) as Point;
        return { points: result, next: writeCursor([last.host, last.unit, last.from_ms]) };
      }
      bytes += size;
      result.push(point);
    }
  }
  return { points: result, next: null };
}

function seriesPoints(window: Window, id: number, fromMs: number, toMs: number, width: number): Point[] {
  const buckets = new Map<number, Accumulator>();
  forEachSlice(window, id, fromMs, toMs, (slice) => {
    for (let i = 0; i < slice.count; i++) {
      const ts = slice.columns.ts[i] as number;
      if (ts < fromMs || ts > toMs) continue;
      const bucket = Math.floor((ts - fromMs) / width);
      let accumulator = buckets.get(bucket);
      if (accumulator === undefined) {
        accumulator = new Accumulator();
        buckets.set(bucket, accumulator);
      }
      accumulator.add(slice, i);
    }
  });
  const host = window.catalog.hostOf(id).name;
  const unit = window.catalog.unitOf(id);
  return [...buckets.entries()]
    .sort(([a], [b]) => a - b)
    .map(([bucket, accumulator]) => ({
      host,
      unit,
      from_ms: fromMs + bucket * width,
      to_ms: Math.min(toMs, fromMs + (bucket + 1) * width - 1),
      metrics: accumulator.summaries(),
    }));
}

/** Null when there is no sample. Chapters that are covered whole stand for their blocks. */
export function summary(window: Window, host: string, unit: string, sinceMs: number | undefined, retentionMs: number): Summary | null {
  const id = window.catalog.series(host, unit);
  if (id === undefined) return null;
  const newest = window.newestTs(id);
  const fromMs = Math.max(newest - retentionMs, sinceMs ?? Number.NEGATIVE_INFINITY);
  if (newest < fromMs) return null;
  const sum = new SeriesSum(window, id, fromMs);
  sum.addAll();
  const metrics = sum.accumulator.summaries();
  return {
    latest_cpu_percent: metrics.cpu_percent.last,
    average_cpu_percent: metrics.cpu_percent.avg,
    max_cpu_percent: metrics.cpu_percent.max,
    latest_rss_bytes: metrics.rss_bytes.last,
    samples: metrics.cpu_percent.count,
    metrics,
  };
}

/** Adds up a series from `fromMs` on. Newest first: the last values are found early, and older blocks need not be read for them. */
class SeriesSum {
  readonly accumulator = new Accumulator();
  private readonly window: Window;
  private readonly reading: SeriesReading;
  private readonly fromMs: number;

  constructor(window: Window, id: number, fromMs: number) {
    this.window = window;
    this.reading = window.reading(id);
    this.fromMs = fromMs;
  }

  addAll(): void {
    const { chapters, openChapter } = this.window;
    this.addRows(null);
    this.addBetween(openChapter?.isWhole ? [...chapters, openChapter] : chapters, 0, Number.POSITIVE_INFINITY);
  }

  /** Adds the blocks from one position to another. @param runs those in between, oldest first */
  private addBetween(runs: readonly Run[], from: number, to: number): void {
    let end = to;
    for (let i = runs.length - 1; i >= 0; i--) {
      const run = runs[i] as Run;
      this.addBlocks(run.to, end);
      this.addRun(run);
      end = run.from;
    }
    this.addBlocks(from, end);
  }

  private addRun(run: Run): void {
    if (run.maxTs < this.fromMs) return;
    if (run.minTs < this.fromMs) {
      this.addBetween(run.parts, run.from, run.to);
      return;
    }
    const known = run.addTo(this.accumulator.aggregates, this.reading.series);
    if (!this.accumulator.needsLast(known, run.maxTs)) return;
    for (const block of this.window.blocksBetween(run.from, run.to).reverse()) this.keepLast(block, known, block.maxTs);
  }

  private addBlocks(from: number, to: number): void {
    for (const block of this.window.blocksBetween(from, to).reverse()) this.addBlock(block);
  }

  private addBlock(block: Block): void {
    const { panels } = block;
    const wanted: number[] = [];
    let maxTs = Number.NEGATIVE_INFINITY;
    let isWhole = block.from >= this.window.floor;
    for (const panel of panelsOf(block, this.reading.sources)) {
      if ((panels.maxTs[panel] as number) < this.fromMs || this.reading.placeIn(panels.shape[panel] as number) === -1) continue;
      wanted.push(panel);
      maxTs = Math.max(maxTs, panels.maxTs[panel] as number);
      if ((panels.minTs[panel] as number) < this.fromMs) isWhole = false;
    }
    if (wanted.length === 0) return;
    if (!isWhole) {
      this.addRows(block, wanted);
      return;
    }
    let known = 0;
    for (const panel of wanted)
      known |= addSeriesRows(block, panel, this.reading.placeIn(panels.shape[panel] as number), this.accumulator.aggregates);
    this.keepLast(block, known, maxTs);
  }

  private addRows(piece: Block | null, panels?: readonly number[]): void {
    const slice = this.window.sliceOf(piece, this.reading, panels);
    if (slice !== null) this.accumulator.addSlice(slice, this.fromMs);
  }

  /**
   * Finds last values in a block, unless the ones known are newer than what it has.
   * @param known a bit for each metric of which it, or a run that it is in, has values
   */
  private keepLast(block: Block, known: number, maxTs: number): void {
    if (!this.accumulator.needsLast(known, maxTs)) return;
    const slice = this.window.sliceOf(block, this.reading);
    if (slice !== null) this.accumulator.keepLasts(slice, this.fromMs);
  }
}

/** Times the window holds of the matching series: one span from its oldest to its newest sample, within the request. */
export function coverage(window: Window, host: string | undefined, unit: string | undefined, fromMs: number, toMs: number): CoverageSpan[] {
  let least = Number.POSITIVE_INFINITY;
  let most = Number.NEGATIVE_INFINITY;
  const hosts = new Set(window.catalog.matching(host, unit).map((id) => window.catalog.hostOf(id)));
  for (const piece of window.pieces()) {
    for (const one of hosts) {
      const times = window.timesOf(piece, one.sources.values());
      if (times === null) continue;
      least = Math.min(least, times.minTs);
      most = Math.max(most, times.maxTs);
    }
  }
  const from = Math.max(least, fromMs);
  const to = Math.min(most, toMs);
  return from <= to ? [{ from_ms: from, to_ms: to, source: 'window' }] : [];
}

/** Sums, extremes and last values of every metric. */
class Accumulator {
  readonly aggregates: readonly Aggregate[] = emptyAggregates(ALL_METRICS.length);
  private readonly last: number[] = ALL_METRICS.map(() => Number.NaN);
  private readonly lastTs: number[] = ALL_METRICS.map(() => Number.NEGATIVE_INFINITY);
  private readonly lastSeq: number[] = ALL_METRICS.map(() => Number.NEGATIVE_INFINITY);

  add(slice: Slice, row: number): void {
    const ts = slice.columns.ts[row] as number;
    for (let metric = 0; metric < slice.columns.metrics.length; metric++) {
      const value = slice.columns.metrics[metric]?.[row] as number;
      if (Number.isNaN(value)) continue;
      (this.aggregates[metric] as Aggregate).addValue(value);
      if (ts >= (this.lastTs[metric] as number)) this.keepLast(metric, value, ts, slice.columns.seq[row] as number);
    }
  }

  /** Adds the rows of a slice that are not older than `fromMs`. */
  addSlice(slice: Slice, fromMs: number): void {
    const { ts, metrics } = slice.columns;
    let isWhole = true;
    for (let row = 0; row < slice.count; row++) if ((ts[row] as number) < fromMs) isWhole = false;
    for (let metric = 0; metric < metrics.length; metric++) {
      const values = metrics[metric] as Float64Array;
      const aggregate = this.aggregates[metric] as Aggregate;
      if (isWhole) aggregate.addValues(values, slice.count);
      else for (let row = 0; row < slice.count; row++) if ((ts[row] as number) >= fromMs) aggregate.addValue(values[row] as number);
    }
    this.keepLasts(slice, fromMs);
  }

  /** Looks for last values among the rows of a slice that are not older than `fromMs`. */
  keepLasts({ count, columns }: Slice, fromMs: number): void {
    const { ts, seq } = columns;
    let isAscending = true;
    for (let row = 1; row < count; row++) if ((ts[row] as number) < (ts[row - 1] as number)) isAscending = false;
    for (let metric = 0; metric < columns.metrics.length; metric++) {
      const values = columns.metrics[metric] as Float64Array;
      let newest = -1;
      let newestTs = Math.max(fromMs, this.lastTs[metric] as number);
      for (let row = count - 1; row >= 0; row--) {
        // Of rows of the same time the last one.
        const isNewer = newest === -1 ? (ts[row] as number) >= newestTs : (ts[row] as number) > newestTs;
        if (!isNewer && isAscending) break;
        if (!isNewer || Number.isNaN(values[row] as number)) continue;
        newest = row;
        newestTs = ts[row] as number;
      }
      if (newest !== -1) this.keepLast(metric, values[newest] as number, newestTs, seq[newest] as number);
    }
  }

  private keepLast(metric: number, value: number, ts: number, seq: number): void {
    if (ts === this.lastTs[metric] && seq < (this.lastSeq[metric] as number)) return;
    this.last[metric] = value;
    this.lastTs[metric] = ts;
    this.lastSeq[metric] = seq;
  }

  /** True when the last value of a metric may lie among rows. @param known a bit for each metric of which they have values */
  needsLast(known: number, maxTs: number): boolean {
    for (let metric = 0; known >>> metric > 0; metric++) {
      if (((known >>> metric) & 1) === 1 && maxTs >= (this.lastTs[metric] as number)) return true;
    }
    return false;
  }

  summaries(): MetricSummaries {
    const summaries = emptyMetricSummaries();
    for (const [i, { name }] of ALL_METRICS.entries()) {
      const { count, sum, min, max } = this.aggregates[i] as Aggregate;
      if (count > 0) summaries[name] = { min, max, avg: sum / count, last: orNull(this.last[i] as number), count };
    }
    return summaries;
  }
}

/** Times and positions of the newest `limit` samples of a series from `fromTs` on, in the order of replies. */
function newestKeys(window: Window, id: number, fromTs: number, limit: number): Key[] {
  const sources = [...window.catalog.hostOf(id).sources.values()];
  const pieces = piecesBetween(window, sources, fromTs, Number.POSITIVE_INFINITY).sort((a, b) => b.times.maxTs - a.times.maxTs);
  let keys: Key[] = [];
  for (const { piece, times } of pieces) {
    if (keys.length >= limit) {
      keys = keys.sort(comparePlaces).slice(-limit);
      if (times.maxTs < (keys[0] as Key).ts) break;
    }
    const batches = window.batchesOf(piece, sources);
    const has = new Map<number, boolean>();
    for (let i = 0; i < batches.seq.length; i++) {
      const shape = batches.shape[i] as number;
      if (!has.has(shape)) has.set(shape, window.catalog.shape(shape).includes(id));
      if (has.get(shape) === true && (batches.ts[i] as number) >= fromTs)
        keys.push({ ts: batches.ts[i] as number, seq: batches.seq[i] as number, unit: '' });
    }
  }
  return keys.sort(comparePlaces).slice(-limit);
}

interface TimedPiece {
  readonly piece: Block | null;
  readonly times: { readonly minTs: number; readonly maxTs: number };
}

/** Pieces in which some of the sources have batches between two times, both included. */
function piecesBetween(window: Window, sources: readonly number[], fromTs: number, toTs: number): TimedPiece[] {
  const pieces: TimedPiece[] = [];
  for (const piece of window.pieces()) {
    const times = window.timesOf(piece, sources);
    if (times !== null && times.maxTs >= fromTs && times.minTs <= toTs) pieces.push({ piece, times });
  }
  return pieces;
}

function forEachSlice(window: Window, id: number, fromMs: number, toMs: number, visit: (slice: Slice) => void): void {
  const reading = window.reading(id);
  for (const { piece } of piecesBetween(window, reading.sources, fromMs, toMs)) {
    const slice = window.sliceOf(piece, reading);
    if (slice !== null) visit(slice);
  }
}

/**
 * The first samples after a key, up to and including another, as many as fit a reply.
 * Pieces are visited by their least time, and not at all once enough has been found before it.
 */
function page(window: Window, ids: readonly number[], after: Key, last: Key): { samples: string[]; nextKey: Key | null } {
  const wanted = new Set(ids);
  const sources = [...new Set(ids.map((id) => window.catalog.hostOf(id)))].flatMap((host) => [...host.sources.values()]);
  const pieces = piecesBetween(window, sources, after.ts, last.ts).sort((a, b) => a.times.minTs - b.times.minTs);
  // No sample is shorter than this, so a page never has more of them.
  const most = Math.ceil(PAGE_BYTES_MAX / 250) + 1;
  let found: Candidate[] = [];
  for (const { piece, times } of pieces) {
    if (found.length >= most) {
      found = found.sort(compareKeys).slice(0, most);
      if (times.minTs > (found.at(-1) as Candidate).ts) break;
    }
    collect(window, piece, sources, wanted, after, last, found, most);
  }
  found = found.sort(compareKeys).slice(0, most);
  return fitting(texts(window, found), found);
}

function collect(
  window: Window,
  piece: Block | null,
  sources: readonly number[],
  wanted: ReadonlySet<number>,
  after: Key,
  last: Key,
  found: Candidate[],
  most: number,
): void {
  const batches = window.batchesOf(piece, sources);
  const order = Array.from(batches.seq.keys())
    .filter((i) => (batches.ts[i] as number) >= after.ts && (batches.ts[i] as number) <= last.ts)
    .sort((a, b) => (batches.ts[a] as number) - (batches.ts[b] as number) || (batches.seq[a] as number) - (batches.seq[b] as number));
  let added = 0;
  for (const i of order) {
    if (added >= most) return;
    const ts = batches.ts[i] as number;
    const seq = batches.seq[i] as number;
    for (const series of window.catalog.shape(batches.shape[i] as number)) {
      if (!wanted.has(series)) continue;
      const candidate: Candidate = { ts, seq, unit: window.catalog.unitOf(series), series, piece };
      if (compareKeys(candidate, after) <= 0 || comparePlaces(candidate, last) > 0) continue;
      found.push(candidate);
      added++;
    }
  }
}

/** The candidates as JSON text, in their order; each series of a piece is read once. */
function texts(window: Window, candidates: readonly Candidate[]): string[] {
  const groups = new Map<Block | null, Map<number, number[]>>();
  candidates.forEach(({ piece, series }, i) => {
    let ofPiece = groups.get(piece);
    if (ofPiece === undefined) {
      ofPiece = new Map();
      groups.set(piece, ofPiece);
    }
    const ofSeries = ofPiece.get(series);
    if (ofSeries === undefined) ofPiece.set(series, [i]);
    else ofSeries.push(i);
  });
  const result = new Array<string>(candidates.length);
  const known = new Map<number, { prefix: string; reading: SeriesReading }>();
  for (const [piece, ofPiece] of groups) {
    for (const [series, indexes] of ofPiece) {
      let one = known.get(series);
      if (one === undefined) {
        const prefix = samplePrefix(window.catalog.hostOf(series).name, window.catalog.unitOf(series));
        one = { prefix, reading: window.reading(series) };
        known.set(series, one);
      }
      const { prefix, reading } = one;
      const slice = window.sliceOf(piece, reading);
      if (slice === null) continue;
      for (const i of indexes) result[i] = sampleText(window, prefix, slice, rowAt(slice, (candidates[i] as Candidate).seq));
    }
  }
  return result;
}

/** Row with this position; slices are in log order. */
function rowAt(slice: Slice, seq: number): number {
  let low = 0;
  let high = slice.count - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((slice.columns.seq[middle] as number) < seq) low = middle + 1;
    else high = middle;
  }
  return low;
}

function sampleText(window: Window, prefix: string, slice: Slice, row: number): string {
  const { incarnations } = window.catalog;
  const incarnation = slice.columns.incarnation[row] as number;
  return formatSample(
    prefix,
    slice.columns.ts[row] as number,
    slice.columns.seq[row] as number,
    STATES[incarnations.state[incarnation] as number] as State,
    incarnations.pid[incarnation] as number,
    incarnations.started[incarnation] as number,
    slice.columns.metrics.map((column) => column[row] as number),
  );
}

function fitting(samples: string[], keys: readonly Key[]): { samples: string[]; nextKey: Key | null } {
  let bytes = 0;
  for (let i = 0; i < samples.length; i++) {
    bytes += Buffer.byteLength(samples[i] as string) + 1;
    if (bytes > PAGE_BYTES_MAX) return { samples: samples.slice(0, i), nextKey: keys[i - 1] as Key };
  }
  return { samples, nextKey: null };
}

function compareKeys(a: Key, b: Key): number {
  return a.ts - b.ts || a.seq - b.seq || (a.unit < b.unit ? -1 : a.unit > b.unit ? 1 : 0);
}

function comparePlaces(a: Key, b: Key): number {
  return a.ts - b.ts || a.seq - b.seq;
}

function compareNames(hostA: string, unitA: string, hostB: string, unitB: string): number {
  if (hostA !== hostB) return hostA < hostB ? -1 : 1;
  return unitA < unitB ? -1 : unitA > unitB ? 1 : 0;
}

function orNull(value: number): number | null {
  return Number.isNaN(value) ? null : value;
}

type Cursor = readonly (number | string)[];

function writeCursor(parts: Cursor): string {
  return Buffer.from(JSON.stringify(parts)).toString('base64url');
}

function readCursor<T extends Cursor>(cursor: string, isExpected: (parts: unknown) => parts is T): T {
  let parts: unknown;
  try {
    parts = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
  } catch {
    parts = null;
  }
  if (!isExpected(parts)) throw new QueryError('bad_cursor', 'the cursor is not one that this query has given');
  return parts;
}

function matches(parts: unknown, types: readonly ('number' | 'string')[]): boolean {
  return Array.isArray(parts) && parts.length === types.length && types.every((type, i) => typeof parts[i] === type);
}
const isTextPair = (parts: unknown): parts is [string, string] => matches(parts, ['string', 'string']);
const isNumberQuad = (parts: unknown): parts is [number, number, number, number] =>
  matches(parts, ['number', 'number', 'number', 'number']);
const isKeyTriple = (parts: unknown): parts is [number, number, string] => matches(parts, ['number', 'number', 'string']);
const isPointCursor = (parts: unknown): parts is [string, string, number] => matches(parts, ['string', 'string', 'number']);
