// The window of one case, in a process of its own, so that what it holds can be read off the process: started by the window
// benchmark with a request as its argument, prints one JSON object. Needs --expose-gc.
//
// Order: a small window first, so that code is compiled; then a window is filled until it evicts, fed a fixed number of rows, looked
// at, at several moments, because the oldest block and the newest are cut at other places, and let go of. Batches go through JSON a few at a
// time right before they are taken, as in the store, and outside of the time.

import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Batch } from '#shared/contract/batch';
import type { UnitInfo } from '#shared/contract/queries';
import { evictionEvents } from '../services/store/core/eviction-events.ts';
import { Window } from '../services/store/core/window.ts';
import { latest, summary, units } from '../services/store/core/window-queries.ts';
import { asRead } from '../test/support/batches.ts';
import { type Trace, type TraceName, traceOf } from './trace.ts';

export interface WindowRequest {
  readonly trace: TraceName;
  readonly recording: string;
  readonly series: number;
  readonly budgetBytes: number;
  /** Rows of the steady state. */
  readonly rows: number;
}

export interface WindowReport {
  /** Per row appended, evicting included; encoding the evicted rows apart, per row evicted. */
  readonly ingestNs: number;
  readonly encodeNs: number;
  readonly summaryUs: number;
  readonly latestUs: number;
  readonly rows: number;
  /** What the process holds less without the window, heap and array buffers; and what the window says. */
  readonly heldBytes: number;
  readonly reportedBytes: number;
  /** Time between oldest and newest sample, of the series with the least and the most; series that have starved to nothing count as 0. */
  readonly spanMsMin: number;
  readonly spanMsMax: number;
}

const WARM_UP = { series: 100, rows: 100_000, budgetBytes: 512 * 1024 };
const CHUNK_ROWS = 1_000;
/** Until the code of a question is compiled for good, and those that are timed. */
const QUERIES_WARM_UP = 4_000;
const QUERIES = 500;
/** Looks at a window that goes on. */
const MOMENTS = 8;
const MOMENT_ROWS = 37_000;
const LATEST_ROWS = 10;
const RETENTION_MS = 720 * 60_000;

async function measure(request: WindowRequest): Promise<WindowReport> {
  const warmUp = { ...request, ...WARM_UP };
  feed(new Feed(warmUp), warmUp.rows);
  const trace = traceOf(request.trace, request, request.recording);
  const given = new Feed(request, trace);
  while (given.window.floor === 1) feed(given, CHUNK_ROWS);
  given.clear();
  feed(given, request.rows);
  const report = reportOf(given, request);
  const full = await heldBytes();
  given.release();
  return { ...report, heldBytes: full - (await heldBytes()) };
}

/** What is seen of a window, without what the process holds for it. */
function reportOf(given: Feed, request: WindowRequest): Omit<WindowReport, 'heldBytes'> {
  const { window } = given;
  const known = unitsOf(window);
  const { ingestNs, encodeNs, appendedRows, evictedRows } = given;
  const spans = spansOf(known, request.series);
  // Only series that are held: those that have starved would be answered in no time.
  const series = (query: number): [string, string] => {
    const { host, unit } = known[Math.floor((query * known.length) / QUERIES)] as UnitInfo;
    return [host, unit];
  };
  return {
    ingestNs: ingestNs / appendedRows,
    encodeNs: encodeNs / Math.max(1, evictedRows),
    summaryUs: timeOf(given, (query) => summary(window, ...series(query), undefined, RETENTION_MS)),
    latestUs: timeOf(given, (query) => latest(window, ...series(query), LATEST_ROWS, RETENTION_MS, null)),
    rows: window.rows,
    reportedBytes: window.bytes.total,
    spanMsMin: spans.min,
    spanMsMax: spans.max,
  };
}

class Feed {
  readonly trace: Trace;
  window: Window;
  ingestNs = 0;
  encodeNs = 0;
  appendedRows = 0;
  evictedRows = 0;
  private seq = 1;

  constructor(request: WindowRequest, trace = traceOf(request.trace, request, request.recording)) {
    this.window = new Window({ budgetBytes: request.budgetBytes, floor: 1 });
    this.trace = trace;
  }

  /** Lets go of the window, and of nothing else. */
  release(): void {
    this.window = new Window({ budgetBytes: 1, floor: 1 });
  }

  clear(): void {
    this.ingestNs = 0;
    this.encodeNs = 0;
    this.appendedRows = 0;
    this.evictedRows = 0;
  }

  append(batches: readonly Batch[]): void {
    const encodeNs = this.encodeNs;
    const start = process.hrtime.bigint();
    for (const batch of batches) {
      // In the order of the store.
      this.makeRoom(this.window.growthOf(batch));
      if (this.window.isFullFor(batch)) {
        this.window.seal();
        this.makeRoom(this.window.growthOf(batch));
      }
      this.window.append(batch, this.seq++, batch.ts, batch.ts);
      this.appendedRows += batch.unit.length;
    }
    this.makeRoom(0);
    this.ingestNs += Number(process.hrtime.bigint() - start) - (this.encodeNs - encodeNs);
  }

  private makeRoom(growthBytes: number): void {
    const { window } = this;
    while (window.needsRoom(growthBytes)) {
      let to = window.oldestBlockEnd();
      if (to <= window.floor) return; // nothing is held: names alone are over the budget
      const start = process.hrtime.bigint();
      for (const event of evictionEvents(window, { log: 1, to, reason: 'memory', carriesRows: true, carriedRows: 0 })) {
        this.evictedRows += event.rows;
        to = event.to;
      }
      this.encodeNs += Number(process.hrtime.bigint() - start);
      window.evictTo(to);
    }
  }
}

function feed(given: Feed, rows: number): void {
  for (let left = rows; left > 0; left -= Math.max(CHUNK_ROWS, given.trace.series)) {
    given.append(given.trace.take(Math.min(left, CHUNK_ROWS)).map((batch) => asRead(batch, given.window.knownUnits)));
  }
}

/** Microseconds, the mean of all moments. */
function timeOf(given: Feed, query: (number: number) => unknown): number {
  for (let i = 0; i < QUERIES_WARM_UP; i++) query(i % QUERIES);
  let ns = 0;
  for (let moment = 0; moment < MOMENTS; moment++) {
    feed(given, MOMENT_ROWS);
    const start = process.hrtime.bigint();
    for (let i = 0; i < QUERIES; i++) query(i);
    ns += Number(process.hrtime.bigint() - start);
  }
  return ns / 1_000 / QUERIES / MOMENTS;
}

function unitsOf(window: Window): UnitInfo[] {
  const all: UnitInfo[] = [];
  for (let cursor: string | null = null; ; ) {
    const page: ReturnType<typeof units> = units(window, undefined, cursor);
    all.push(...page.units);
    if (page.next === null) return all;
    cursor = page.next;
  }
}

function spansOf(known: readonly UnitInfo[], series: number): { min: number; max: number } {
  const spans = known.map((unit) => unit.last_ts - unit.first_ts).sort((a, b) => a - b);
  return { min: known.length < series ? 0 : (spans[0] ?? 0), max: spans.at(-1) ?? 0 };
}

async function heldBytes(): Promise<number> {
  if (globalThis.gc === undefined) throw new Error('run with --expose-gc');
  for (let i = 0; i < 4; i++) {
    globalThis.gc();
    await nextTurn();
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

// At the end: classes are not there before their place in the file.
process.stdout.write(JSON.stringify(await measure(JSON.parse(process.argv[2] ?? '{}') as WindowRequest)));
