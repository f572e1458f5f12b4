// One shard's range over window and spill. What to ask, in which order, is all there is here; the answers come through
// `RangeSources`, so that the property test can drive it with a model whose rows move while they are read.
//
// Order: every page of the window, then the spill below the floor that the last page reported. A row that was evicted
// meanwhile is below that floor, so it is in the spill, or on its way there: then the spill is asked again for a while.

import { type CoverageSpan, type LogPosition, type Point, QueryError, type RangeReply, type RangeRequest } from '#shared/contract/queries';
import type { Sample } from '#shared/contract/row';
import { seriesKey } from '#shared/contract/series';
import { mergeCoverage, mergePoints, mergeSamples, PointSums } from './range-merge.ts';

export interface RangeSources {
  /** One page of the store. */
  window(request: RangeRequest): Promise<RangeReply>;
  /** One page of the spillover; null when there is none for this shard. */
  spill(request: RangeRequest): Promise<RangeReply | null>;
  /** Waits; a parameter so that a test can let rows move instead. */
  pause(ms: number): Promise<void>;
  /** Called after every page with what it brought. */
  readonly onPage?: ((reply: RangeReply) => void) | undefined;
}

export interface SamplesInRange {
  samples: Sample[];
  coverage: CoverageSpan[];
}
export interface PointsInRange {
  points: Point[];
  coverage: CoverageSpan[];
}

// Rows are on their way for milliseconds; after this time something is wrong and the answer says `transit` instead.
const TRANSIT_WAIT_MS = 2_000;
const TRANSIT_PAUSE_MS = 50;
// A window evicts every few seconds, and reading the pages of its points takes milliseconds.
const WHOLE_ATTEMPTS_MAX = 3;
const SERIES_ATTEMPTS_MAX = 10;

/** All samples of the request, window and spill, each once, sorted. */
export async function samplesOfShard(sources: RangeSources, request: RangeRequest): Promise<SamplesInRange> {
  const window = await readPages(sources, sources.window, request);
  const spill = await readSpill(sources, request, window);
  return {
    samples: mergeSamples(window.samples, spill.samples, window.hasNewLog ? null : window.floor),
    coverage: coverageOf(request, window.coverage, spill),
  };
}

/**
 * The request in buckets. Rows inside a bucket cannot be told apart, so the window must not move between its pages. When it
 * does so every time, each series is read by itself: that is a single page, unless thousands of points are asked for.
 * @throws {QueryError} `unavailable` when the window moved even then
 */
export async function pointsOfShard(sources: RangeSources, request: RangeRequest): Promise<PointsInRange> {
  const whole = await readSteadyPoints(sources, request, WHOLE_ATTEMPTS_MAX);
  if (whole !== null) return whole;
  const moved = await readPages(sources, sources.window, request);
  const spill = await readSpill(sources, request, moved);
  const series = new Map([...moved.points, ...spill.points].map(({ host, unit }) => [seriesKey(host, unit), { host, unit }]));
  const points: Point[] = [];
  for (const one of series.values()) {
    const steady = await readSteadyPoints(sources, { ...request, ...one }, SERIES_ATTEMPTS_MAX);
    if (steady === null)
      throw new QueryError('unavailable', 'rows left the window each time it was read; ask for fewer points or a shorter time');
    points.push(...steady.points);
  }
  return { points: mergePoints([], points), coverage: coverageOf(request, moved.coverage, spill) };
}

/** Null when the window moved every time. The spill, which may take long to read, is read once. */
async function readSteadyPoints(sources: RangeSources, request: RangeRequest, attempts: number): Promise<PointsInRange | null> {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const window = await readPages(sources, sources.window, request);
    if (window.hasMoved) continue;
    const spill = await readSpill(sources, request, window);
    return { points: mergePoints(spill.points, window.points), coverage: coverageOf(request, window.coverage, spill) };
  }
  return null;
}

interface Pages {
  samples: Sample[];
  points: Point[];
  /** Of the last page; the floor is the highest that was told: pages may come from replicas, and one may lag behind. */
  coverage: CoverageSpan[];
  floor: LogPosition | null;
  /** True when the floor was not the same for all pages. */
  hasMoved: boolean;
  /** The log became another one between two pages: positions of both cannot be compared. */
  hasNewLog: boolean;
  /** Whether rows of the window have gone to a spill; undefined when it did not say. */
  spilled: boolean | undefined;
}

interface Spill extends Pages {
  /** False when rows below the window's floor had not arrived yet. */
  isCaughtUp: boolean;
}

async function readPages(
  sources: RangeSources,
  ask: (request: RangeRequest) => Promise<RangeReply>,
  request: RangeRequest,
  first?: RangeReply,
): Promise<Pages> {
  const pages: Pages = { samples: [], points: [], coverage: [], floor: null, hasMoved: false, hasNewLog: false, spilled: undefined };
  const points = new PointSums();
  let reply = first ?? (await ask(request));
  for (let isFirst = true; ; isFirst = false) {
    sources.onPage?.(reply);
    for (const sample of reply.samples ?? []) pages.samples.push(sample);
    points.add(reply.points ?? []);
    if (!isFirst && (reply.position?.seq !== pages.floor?.seq || reply.position?.log !== pages.floor?.log)) pages.hasMoved = true;
    if (!isFirst && reply.position?.log !== pages.floor?.log) pages.hasNewLog = true;
    pages.floor = higher(pages.floor, reply.position);
    pages.spilled = reply.spilled ?? pages.spilled;
    pages.coverage = reply.coverage;
    if (reply.next === null) return { ...pages, points: points.sorted() };
    reply = await ask({ ...request, cursor: reply.next });
  }
}

async function readSpill(sources: RangeSources, request: RangeRequest, { floor, spilled }: Pages): Promise<Spill> {
  const below = floor === null ? request : { ...request, below: floor };
  let reply = await sources.spill(below);
  for (
    let waitedMs = 0;
    reply !== null && isBehind(reply.position, floor, spilled) && waitedMs < TRANSIT_WAIT_MS;
    waitedMs += TRANSIT_PAUSE_MS
  ) {
    await sources.pause(TRANSIT_PAUSE_MS);
    reply = await sources.spill(below);
  }
  // Nobody answers for the spill: whole only where there is none.
  if (reply === null)
    return { samples: [], points: [], coverage: [], floor: null, hasMoved: false, hasNewLog: false, spilled, isCaughtUp: spilled !== true };
  const isCaughtUp = !isBehind(reply.position, floor, spilled);
  const pages = await readPages(sources, (page) => presentSpill(sources, page), below, reply);
  return { ...pages, isCaughtUp };
}

/** Of the same log the further one; of two logs the newer. */
function higher(a: LogPosition | null, b: LogPosition | null): LogPosition | null {
  if (a === null || b === null) return b ?? a;
  return b.log > a.log || (b.log === a.log && b.seq > a.seq) ? b : a;
}

async function presentSpill(sources: RangeSources, request: RangeRequest): Promise<RangeReply> {
  const reply = await sources.spill(request);
  if (reply === null) throw new QueryError('unavailable', 'the spillover went away while its pages were read; ask again');
  return reply;
}

/** Whether rows below the window's floor may not have reached the spill. A log whose floor is 1 has evicted nothing. */
function isBehind(spill: LogPosition | null, floor: LogPosition | null, spilled: boolean | undefined): boolean {
  if (floor === null || floor.seq <= 1 || spilled === false) return false;
  return spill === null || spill.log < floor.log || (spill.log === floor.log && spill.seq < floor.seq);
}

function coverageOf(request: RangeRequest, window: readonly CoverageSpan[], spill: Spill): CoverageSpan[] {
  const spans = [...spill.coverage, ...window];
  const transit = transitSpan(request, window, spill.coverage);
  if (!spill.isCaughtUp && transit.to_ms > transit.from_ms) spans.push(transit);
  return mergeCoverage(spans, request.from_ms, request.to_ms);
}

/** What is on its way lies between the end of the spill and the start of the window, as far as these are known. */
function transitSpan(request: RangeRequest, window: readonly CoverageSpan[], spill: readonly CoverageSpan[]): CoverageSpan {
  const from = Math.max(request.from_ms, ...spill.map((span) => span.to_ms));
  const to = Math.min(request.to_ms, ...window.map((span) => span.from_ms));
  return { from_ms: from, to_ms: Math.max(from, to), source: 'transit' };
}
