// Decides what of an eviction event goes into the files, so that every row is in them once, in log order, whatever is
// delivered how often. Pure: events in, entries out.
//
// The position comes from the files, the chain from the events. Rows below the position are there already. Of the position
// itself some rows may be there and some not: a batch too large for one event travels in parts, a crash may leave a part
// in the files, and a store that starts again evicts the batch from its first row anew, under new stream sequences and cut
// elsewhere. Counting rows would therefore go wrong; but a series has at most one row in a batch, so the rows of the last
// position that are there are remembered by series, and the others are new.
//
// The chain: each event begins where the last ended. One that begins later follows a hole. The reader may have missed
// something, so a hole is reported once as `chain_broken` and believed when it is still there on reading again.

import type { EvictionEvent } from '#shared/contract/eviction';
import type { LogPosition } from '#shared/contract/queries';
import { LINE_BREAK } from '#shared/contract/row';
import type { Entry } from '#shared/segments/append-plan';
import { createTimeReader, seqAt, seqKeyAt } from './row-fields.ts';

/** What the files have when the intake starts. */
export interface FilesEnd {
  readonly log: number;
  /** Position of the newest row. */
  readonly seq: number;
  /** The rows of that position, as whole lines. */
  readonly lines: readonly Buffer[];
  /** Time of the newest row, ms. */
  readonly toMs: number | null;
}

/** Positions `[from, to)` that never came. */
export interface Hole {
  readonly log: number;
  readonly from: number;
  readonly to: number;
  /** Time of the newest row before it and of the oldest after it, ms; null where there is none. */
  readonly fromMs: number | null;
  readonly toMs: number | null;
}

export type Intaken =
  | {
      readonly kind: 'accepted';
      readonly entries: Entry[];
      readonly rows: number;
      readonly duplicateRows: number;
      readonly hole: Hole | null;
    }
  /** From a log that is older than the files' newest. */
  | { readonly kind: 'older_log'; readonly rows: number }
  | { readonly kind: 'chain_broken'; readonly expected: number; readonly from: number }
  | { readonly kind: 'rejected'; readonly detail: string };

/** The end of EVICTED lies before the end of the files: it has gone back. */
export interface Behind {
  readonly newest: LogPosition;
  readonly files: LogPosition;
}

/** Rows of one position in a body. */
interface Group {
  readonly seq: number;
  readonly start: number;
  end: number;
  rows: number;
  readonly timeMs: number | null;
}

export class Intake {
  private log: number | null;
  /** Position of the newest row taken. */
  private last: number | null;
  /** Rows of `last` that were taken, as whole lines; their series when somebody asked. */
  private lastLines: Buffer[];
  private lastSeries: Set<string> | null = null;
  private lastMs: number | null;
  /** Where the last event ended; null before the first one of this log. */
  private chainEnd: number | null = null;
  private newest: { log: number; from: number; to: number } | null = null;
  /** Begin of the event that followed a hole, until it comes again. */
  private suspect: number | null = null;
  private readonly readTime = createTimeReader();

  constructor(files: FilesEnd | null) {
    this.log = files?.log ?? null;
    this.last = files?.seq ?? null;
    this.lastLines = [...(files?.lines ?? [])];
    this.lastMs = files?.toMs ?? null;
  }

  /** First position that has not been taken whole, as far as is known; null before the first row. */
  get position(): LogPosition | null {
    if (this.log === null) return null;
    return { log: this.log, seq: Math.max(this.chainEnd ?? 0, this.last ?? 0) };
  }

  /** To be asked when the newest event of the stream has been taken; null when all is well. */
  get behind(): Behind | null {
    const { newest, log, last } = this;
    if (newest === null || log === null || last === null) return null;
    const carriesLast = newest.from === newest.to ? newest.to >= last : newest.to > last;
    if (newest.log === log ? carriesLast : newest.log > log) return null;
    return { newest: { log: newest.log, seq: newest.to }, files: { log, seq: last } };
  }

  /** What of the event is new. State changes only when it is accepted. */
  take(event: EvictionEvent): Intaken {
    const { log, from, to } = event;
    const groups = this.split(event);
    if (typeof groups === 'string') return { kind: 'rejected', detail: groups };
    if (this.log !== null && log < this.log) {
      this.newest = { log, from, to };
      return { kind: 'older_log', rows: event.rows };
    }
    const isNewLog = this.log !== null && log > this.log;
    const expected = isNewLog ? null : this.expected;
    const isBroken = expected !== null && from > expected;
    if (isBroken && this.suspect !== from) {
      this.suspect = from;
      return { kind: 'chain_broken', expected, from };
    }
    // On reading again, events that are known come first; they do not clear the suspicion.
    if (isBroken || this.chainEnd === null || to > this.chainEnd) this.suspect = null;
    this.newest = { log, from, to };
    if (isNewLog || this.log === null) this.startLog(log);
    const hole = isBroken ? { log, from: expected, to: from, fromMs: this.lastMs, toMs: leastTime(groups) } : null;
    const { entries, rows } = this.newRows(groups, log, asBuffer(event.body));
    this.chainEnd = Math.max(this.chainEnd ?? 0, to);
    return { kind: 'accepted', entries, rows, duplicateRows: event.rows - rows, hole };
  }

  /** Furthest position at which the next event may begin; null when any will do. */
  private get expected(): number | null {
    const { chainEnd, last } = this;
    if (chainEnd === null) return last === null ? null : last + 1;
    return Math.max(chainEnd, last ?? 0);
  }

  private startLog(log: number): void {
    this.log = log;
    this.last = null;
    this.lastLines = [];
    this.lastSeries = null;
    this.chainEnd = null;
  }

  /** Rows by position; a sentence when the body is not what the head says. */
  private split({ from, to, body }: EvictionEvent): Group[] | string {
    const bytes = asBuffer(body);
    const lastAllowed = from === to ? to : to - 1;
    const groups: Group[] = [];
    let group: Group | undefined;
    for (let start = 0; start < bytes.length; ) {
      const end = bytes.indexOf(LINE_BREAK, start);
      const key = seqKeyAt(bytes, start, end);
      const seq = key === -1 ? null : seqAt(bytes, key, end);
      if (seq === null) return 'a row has no position';
      if (seq < from || seq > lastAllowed) return `a row has position ${seq}, outside of ${from} to ${to}`;
      if (group !== undefined && seq < group.seq) return `position ${seq} follows ${group.seq}`;
      if (group === undefined || seq > group.seq) {
        // One time is enough: all rows of a position are of one batch, taken in one tick.
        group = { seq, start, end: start, rows: 0, timeMs: this.readTime(bytes, key, end) };
        groups.push(group);
      }
      group.rows++;
      group.end = end + 1;
      start = end + 1;
    }
    return groups;
  }

  private newRows(groups: readonly Group[], log: number, body: Buffer): { entries: Entry[]; rows: number } {
    const entries: Entry[] = [];
    let rows = 0;
    for (const group of groups) {
      if (this.last !== null && group.seq < this.last) continue;
      const bytes = body.subarray(group.start, group.end);
      const fresh = group.seq === this.last ? this.withoutKnown(bytes) : { bytes, rows: group.rows };
      if (fresh.rows === 0) continue;
      this.remember(group.seq, fresh.bytes);
      if (group.timeMs !== null && (this.lastMs === null || group.timeMs > this.lastMs)) this.lastMs = group.timeMs;
      rows += fresh.rows;
      entries.push({ log, seq: group.seq, rows: fresh.rows, bytes: fresh.bytes, fromMs: group.timeMs, toMs: group.timeMs });
    }
    return { entries, rows };
  }

  private remember(seq: number, lines: Buffer): void {
    if (seq !== this.last) {
      this.last = seq;
      this.lastLines = [];
      this.lastSeries = null;
    }
    this.lastLines.push(lines);
    if (this.lastSeries !== null) addSeries(this.lastSeries, lines);
  }

  /** Lines of the last position whose series has none yet. */
  private withoutKnown(lines: Buffer): { bytes: Buffer; rows: number } {
    if (this.lastSeries === null) {
      this.lastSeries = new Set();
      for (const known of this.lastLines) addSeries(this.lastSeries, known);
    }
    const known = this.lastSeries;
    const fresh: Buffer[] = [];
    forEachSeries(lines, (series, start, end) => {
      if (!known.has(series)) fresh.push(lines.subarray(start, end));
    });
    return { bytes: Buffer.concat(fresh), rows: fresh.length };
  }
}

function addSeries(known: Set<string>, lines: Buffer): void {
  forEachSeries(lines, (series) => known.add(series));
}

/** What stands before the position names the series: hash, host and unit. */
function forEachSeries(lines: Buffer, visit: (series: string, start: number, end: number) => void): void {
  for (let start = 0; start < lines.length; ) {
    const end = lines.indexOf(LINE_BREAK, start);
    visit(lines.toString('latin1', start, seqKeyAt(lines, start, end)), start, end + 1);
    start = end + 1;
  }
}

function leastTime(groups: readonly Group[]): number | null {
  return groups.reduce<number | null>(
    (least, { timeMs }) => (timeMs !== null && (least === null || timeMs < least) ? timeMs : least),
    null,
  );
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
