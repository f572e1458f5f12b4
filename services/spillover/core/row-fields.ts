// Reads position, time and identity of a row out of its bytes. A row is never parsed on its way to disk: there are half a
// million of them a second. The keys looked for cannot occur inside a JSON string, because their quotes would be escaped.

import type { RecordFormat } from '#shared/segments/record-format';

const SEQ_KEY = Buffer.from(',"seq":');
const TIMESTAMP_KEY = Buffer.from('"timestamp":"');
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const DIGIT_0 = 0x30;
const DIGITS_MAX = 16;
const HOST_OFFSET = '{"unit_hash":"0123456789abcdef","host":"'.length;
/** From the quote that ends the host. */
const UNIT_OFFSET = '","unit":"'.length;
/** `2026-11-20T22:40:00.123Z` */
const TIMESTAMP_BYTES = 24;

/** Where the key of the position begins: what is before it names the series. -1 when there is none in the line. */
export function seqKeyAt(bytes: Buffer, start: number, end: number): number {
  const usual = usualSeqKeyAt(bytes, start, end);
  if (usual !== -1) return usual;
  const at = bytes.indexOf(SEQ_KEY, start);
  return at < end ? at : -1;
}

/**
 * Where rows as we write them have it: behind the hash, the host and the unit, which are stepped over. Four times as fast as
 * searching. -1 when it is not there; where it is, it is a key, because in a string its quotes would be escaped.
 */
function usualSeqKeyAt(bytes: Buffer, start: number, end: number): number {
  const hostEnd = stringEnd(bytes, start + HOST_OFFSET, end);
  const unitEnd = stringEnd(bytes, hostEnd + UNIT_OFFSET, end);
  const at = unitEnd + 1;
  if (at + SEQ_KEY.length > end) return -1;
  for (let i = 0; i < SEQ_KEY.length; i++) if (bytes[at + i] !== SEQ_KEY[i]) return -1;
  return at;
}

/** The quote that ends the string which is open at `at`; `end` when there is none. */
function stringEnd(bytes: Buffer, at: number, end: number): number {
  for (let i = at; i < end; i++) {
    const byte = bytes[i];
    if (byte === QUOTE) return i;
    if (byte === BACKSLASH) i++;
  }
  return end;
}

/** @param keyAt from {@link seqKeyAt} */
export function seqAt(bytes: Buffer, keyAt: number, end: number): number | null {
  const start = keyAt + SEQ_KEY.length;
  let at = start;
  let seq = 0;
  for (; at < end; at++) {
    const digit = (bytes[at] as number) - DIGIT_0;
    if (digit < 0 || digit > 9) break;
    seq = seq * 10 + digit;
  }
  return at === start || at - start > DIGITS_MAX || at === end || !Number.isSafeInteger(seq) ? null : seq;
}

/** Remembers the last time read: the rows of a batch share one. */
export function createTimeReader(): (bytes: Buffer, from: number, end: number) => number | null {
  const known = Buffer.alloc(TIMESTAMP_BYTES);
  let knownMs: number | null = null;
  return (bytes, from, end) => {
    const key = bytes.indexOf(TIMESTAMP_KEY, from);
    if (key === -1 || key >= end) return null;
    const start = key + TIMESTAMP_KEY.length;
    const stop = start + TIMESTAMP_BYTES;
    if (stop < end && bytes[stop] === QUOTE) {
      if (knownMs !== null && bytes.compare(known, 0, TIMESTAMP_BYTES, start, stop) === 0) return knownMs;
      bytes.copy(known, 0, start, stop);
      knownMs = parseTime(bytes.toString('latin1', start, stop));
      return knownMs;
    }
    const quote = bytes.indexOf(QUOTE, start);
    return quote === -1 || quote >= end ? null : parseTime(bytes.toString('latin1', start, quote));
  };
}

function parseTime(text: string): number | null {
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? null : ms;
}

/** Rows, as the segment log sees them. */
export function createRowFormat(): RecordFormat {
  const readTime = createTimeReader();
  const seqOf = (bytes: Buffer, start: number, end: number): number | null => {
    const key = seqKeyAt(bytes, start, end);
    return key === -1 ? null : seqAt(bytes, key, end);
  };
  return { seqOf, timeOf: readTime };
}
