// What the segment log knows of a record: a line of bytes, from which a position and a time can be read. Both are scanned
// for in the bytes; parsing the line would cost more than everything else together.

export interface RecordFormat {
  /** Position of the record in its log; null when it cannot be read. The line is `bytes[start, end)`, without its line break. */
  seqOf(bytes: Buffer, start: number, end: number): number | null;
  /** Time of the record, ms since 1970; null when it has none. */
  timeOf(bytes: Buffer, start: number, end: number): number | null;
}

export const LINE_BREAK = 0x0a;

/** Calls `visit` with each line of a block of whole lines, until it returns false. */
export function forEachLine(block: Buffer, visit: (start: number, end: number) => boolean): void {
  let start = 0;
  for (let end = block.indexOf(LINE_BREAK); end !== -1; end = block.indexOf(LINE_BREAK, start)) {
    if (!visit(start, end)) return;
    start = end + 1;
  }
}

/** The same for lines that have some bytes in them, none of which is a line break: the others are not looked at. */
export function forEachLineWith(block: Buffer, bytes: Buffer, visit: (start: number, end: number) => boolean): void {
  for (let at = block.indexOf(bytes); at !== -1; ) {
    const end = block.indexOf(LINE_BREAK, at);
    if (end === -1 || !visit(block.lastIndexOf(LINE_BREAK, at) + 1, end)) return;
    at = block.indexOf(bytes, end + 1);
  }
}

/** What the records of a segment have in common. */
export interface Totals {
  rows: number;
  /** Of the uncompressed records, with their line breaks. */
  contentBytes: number;
  /** Times of the earliest and latest record, ms; null when none has a time. */
  fromMs: number | null;
  toMs: number | null;
}

export function emptyTotals(): Totals {
  return { rows: 0, contentBytes: 0, fromMs: null, toMs: null };
}

export function addTimes(totals: Totals, fromMs: number | null, toMs: number | null): void {
  if (fromMs !== null && (totals.fromMs === null || fromMs < totals.fromMs)) totals.fromMs = fromMs;
  if (toMs !== null && (totals.toMs === null || toMs > totals.toMs)) totals.toMs = toMs;
}
