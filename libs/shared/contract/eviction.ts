// The eviction event: rows that left the window, in log order, on their way to a segment. Its headers carry the
// positions; the body is the rows as newline-delimited JSON, byte for byte what goes into a segment.

import { crc32 } from 'node:zlib';
import type { Parsed } from './batch.ts';
import { LINE_BREAK } from './row.ts';

export const EVICTION_REASONS = ['retention', 'memory', 'log'] as const;
export type EvictionReason = (typeof EVICTION_REASONS)[number];

/** Largest body; a batch whose rows need more is spread over several events, all but the last with `to` equal to its seq. */
export const EVICTION_BYTES_MAX = 512 * 1024;

export const EVICTION_HEADERS = {
  log: 'Spillway-Log',
  from: 'Spillway-From',
  to: 'Spillway-To',
  rows: 'Spillway-Rows',
  /** Running count of rows carried, by which whoever reads notices that some are missing. */
  rowsBelow: 'Spillway-Rows-Below',
  crc32: 'Spillway-Crc32',
  reason: 'Spillway-Reason',
  /** Positions at or above `to` that are empty because the same batch stood earlier in the log: `7,9-12`. Absent: none. */
  duplicates: 'Spillway-Duplicates',
  /** Random name of the store process that published it: by it a store knows its own events from another's. */
  writer: 'Spillway-Writer',
  /** Rows dropped instead of carried, because no spill is configured. Absent: none. */
  dropped: 'Spillway-Dropped',
} as const;

export interface EvictionHead {
  /** Identity of the log: creation time of its stream, ms. */
  readonly log: number;
  /** First position carried. */
  readonly from: number;
  /** First position not carried whole. Equal to `from` when the event carries only a part of that batch. */
  readonly to: number;
  /** Rows in the body. */
  readonly rows: number;
  /** Rows of positions below `to` that events of this log have carried, this one included; null in an event that does not say. */
  readonly rowsBelow: number | null;
  readonly crc32: number;
  readonly reason: EvictionReason;
  readonly duplicates: readonly SeqRange[];
  readonly dropped: number;
}

/** Both ends included. */
export interface SeqRange {
  readonly first: number;
  readonly last: number;
}

export interface EvictionEvent extends EvictionHead {
  readonly body: Uint8Array;
}

/** The last time that fits the 13 digits of a segment's name. */
const LOG_MAX = 9_999_999_999_999;

/** Headers to set, as name and value. */
export function evictionHeaders(head: EvictionHead): [string, string][] {
  const headers: [string, string][] = [
    [EVICTION_HEADERS.log, `${head.log}`],
    [EVICTION_HEADERS.from, `${head.from}`],
    [EVICTION_HEADERS.to, `${head.to}`],
    [EVICTION_HEADERS.rows, `${head.rows}`],
    [EVICTION_HEADERS.crc32, head.crc32.toString(16).padStart(8, '0')],
    [EVICTION_HEADERS.reason, head.reason],
  ];
  if (head.rowsBelow !== null) headers.push([EVICTION_HEADERS.rowsBelow, `${head.rowsBelow}`]);
  if (head.duplicates.length > 0) headers.push([EVICTION_HEADERS.duplicates, formatRanges(head.duplicates)]);
  if (head.dropped > 0) headers.push([EVICTION_HEADERS.dropped, `${head.dropped}`]);
  return headers;
}

/** Reads the head of an event. Never throws. @param header value of a header, '' where it is absent. */
export function parseEvictionHead(header: (name: string) => string): Parsed<EvictionHead> {
  const bad = (detail: string) => ({ ok: false, reason: 'bad_event', detail }) as const;
  const integer = (name: string): number => {
    const text = header(name);
    return /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  };
  const log = integer(EVICTION_HEADERS.log);
  const from = integer(EVICTION_HEADERS.from);
  const to = integer(EVICTION_HEADERS.to);
  const rows = integer(EVICTION_HEADERS.rows);
  if (![log, from, to, rows].every(Number.isSafeInteger)) return bad('headers Spillway-Log, -From, -To and -Rows must be integers');
  if (log > LOG_MAX) return bad(`log ${log} is no time of 13 digits`);
  if (from < 1 || to < from) return bad(`from ${from} to ${to}`);
  const crc = header(EVICTION_HEADERS.crc32);
  if (!/^[0-9a-f]{8}$/.test(crc)) return bad('header Spillway-Crc32 must be 8 hex digits');
  const reason = header(EVICTION_HEADERS.reason);
  if (!isEvictionReason(reason)) return bad(`reason ${JSON.stringify(reason.slice(0, 40))}`);
  const duplicates = parseRanges(header(EVICTION_HEADERS.duplicates));
  if (duplicates === null) return bad('header Spillway-Duplicates must be a list of positions');
  const rowsBelow = header(EVICTION_HEADERS.rowsBelow) === '' ? null : integer(EVICTION_HEADERS.rowsBelow);
  if (rowsBelow !== null && !Number.isSafeInteger(rowsBelow)) return bad('header Spillway-Rows-Below must be an integer');
  const dropped = header(EVICTION_HEADERS.dropped) === '' ? 0 : integer(EVICTION_HEADERS.dropped);
  if (!Number.isSafeInteger(dropped)) return bad('header Spillway-Dropped must be an integer');
  return { ok: true, value: { log, from, to, rows, rowsBelow, crc32: Number.parseInt(crc, 16), reason, duplicates, dropped } };
}

/**
 * Whether a store published the message: it names itself and asserts the stream's sequence, which the server has checked. This
 * tells an event from a message that strayed into the stream, not from a forgery: only permissions keep others from publishing.
 * @param header value of a header, '' where it is absent
 * @param sequence of the message in its stream
 */
export function isFromStore(header: (name: string) => string, sequence: number): boolean {
  return /^[0-9a-f]{16}$/.test(header(EVICTION_HEADERS.writer)) && header('Nats-Expected-Last-Sequence') === `${sequence - 1}`;
}

/** Checks that a body is what its head says: size, checksum, framing in whole lines, and their number. */
export function checkEvictionBody(head: EvictionHead, body: Uint8Array): Parsed<EvictionEvent> {
  if (body.length > EVICTION_BYTES_MAX)
    return { ok: false, reason: 'too_large', detail: `${body.length} bytes, more than ${EVICTION_BYTES_MAX}` };
  if (crc32(body) !== head.crc32)
    return { ok: false, reason: 'bad_checksum', detail: `Spillway-Crc32 of ${head.from} to ${head.to} does not match the body` };
  if (body.length > 0 && body[body.length - 1] !== LINE_BREAK)
    return { ok: false, reason: 'bad_event', detail: 'the body does not end with a line break' };
  let lines = 0;
  for (let at = body.indexOf(LINE_BREAK); at !== -1; at = body.indexOf(LINE_BREAK, at + 1)) lines++;
  if (lines !== head.rows) return { ok: false, reason: 'bad_event', detail: `${lines} lines, Spillway-Rows says ${head.rows}` };
  return { ok: true, value: { ...head, body } };
}

/**
 * `Nats-Msg-Id` of an event. Whole events are named by their positions; an event with only part of a batch is named by its
 * place in the stream as well, because several of them have the same positions.
 * @param expectedSequence the stream sequence after which it is published
 */
export function evictionId(shard: number, head: EvictionHead, expectedSequence: number): string {
  const id = `${shard}:${head.from}-${head.to}`;
  return head.from === head.to ? `${id}:${expectedSequence}` : id;
}

function isEvictionReason(text: string): text is EvictionReason {
  return (EVICTION_REASONS as readonly string[]).includes(text);
}

export function formatRanges(ranges: readonly SeqRange[]): string {
  return ranges.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)).join(',');
}

/** Null when the text is not a list of ascending ranges. */
export function parseRanges(text: string): SeqRange[] | null {
  if (text === '') return [];
  const ranges: SeqRange[] = [];
  let previous = -1;
  for (const part of text.split(',')) {
    const match = /^(\d{1,16})(?:-(\d{1,16}))?$/.exec(part);
    if (match === null) return null;
    const first = Number(match[1]);
    const last = match[2] === undefined ? first : Number(match[2]);
    if (first <= previous || last < first || !Number.isSafeInteger(last)) return null;
    ranges.push({ first, last });
    previous = last;
  }
  return ranges;
}
