// Reads through the lines of a segment and says what they are: totals, positions, and how far they are good.

import { LineTooLongError } from './line-blocks.ts';
import { addTimes, emptyTotals, forEachLine, type RecordFormat, type Totals } from './record-format.ts';

export interface LineScan extends Totals {
  /** Position of the first record; null when there is none. */
  first: number | null;
  last: number | null;
  /** Records with position `last`. */
  rowsOfLast: number;
  /** Why the line at `contentBytes` is not a record that belongs there; null when all whole lines are good. */
  problem: string | null;
}

export interface Expectation {
  /** Position that the first record must have. */
  readonly first: number;
  /** Whether each line must be JSON, which costs ten times as much as finding its position. */
  readonly isParsed: boolean;
}

/**
 * Reads whole lines up to the first that is bad: not JSON, without a position, or with one below that of the line before.
 * The totals are those of the good lines.
 */
export async function scanStrictly(blocks: AsyncIterable<Buffer>, format: RecordFormat, expected: Expectation): Promise<LineScan> {
  const scan = emptyScan();
  for await (const block of untilOverlong(blocks, scan)) {
    forEachLine(block, (start, end) => {
      const seq = format.seqOf(block, start, end);
      scan.problem = orderProblem(seq, scan.last, expected.first) ?? (expected.isParsed ? parseProblem(block, start, end) : null);
      if (scan.problem === null) count(scan, seq as number, format.timeOf(block, start, end), end + 1 - start);
      return scan.problem === null;
    });
    if (scan.problem !== null) break;
  }
  return scan;
}

/** What comes before a line that is too long: it is as good as it would be without it. */
async function* untilOverlong(blocks: AsyncIterable<Buffer>, scan: LineScan): AsyncGenerator<Buffer> {
  try {
    yield* blocks;
  } catch (error) {
    if (!(error instanceof LineTooLongError)) throw error;
    scan.problem = error.message;
  }
}

/** Reads all lines; those without a position count as bytes only. */
export async function scanLeniently(blocks: AsyncIterable<Buffer>, format: RecordFormat): Promise<LineScan> {
  const scan = emptyScan();
  for await (const block of blocks) {
    forEachLine(block, (start, end) => {
      const seq = format.seqOf(block, start, end);
      if (seq === null) scan.contentBytes += end + 1 - start;
      else count(scan, seq, format.timeOf(block, start, end), end + 1 - start);
      return true;
    });
  }
  return scan;
}

function emptyScan(): LineScan {
  return { ...emptyTotals(), first: null, last: null, rowsOfLast: 0, problem: null };
}

function count(scan: LineScan, seq: number, timeMs: number | null, bytes: number): void {
  scan.rows++;
  scan.contentBytes += bytes;
  scan.first ??= seq;
  scan.rowsOfLast = seq === scan.last ? scan.rowsOfLast + 1 : 1;
  scan.last = seq;
  addTimes(scan, timeMs, timeMs);
}

function orderProblem(seq: number | null, previous: number | null, first: number): string | null {
  if (seq === null) return 'a line has no position';
  if (previous === null) return seq === first ? null : `the first line has position ${seq}, the name says ${first}`;
  return seq < previous ? `position ${seq} follows ${previous}` : null;
}

function parseProblem(block: Buffer, start: number, end: number): string | null {
  try {
    const record: unknown = JSON.parse(block.toString('utf8', start, end));
    return typeof record === 'object' && record !== null ? null : 'a line is not a JSON object';
  } catch {
    return 'a line is not JSON';
  }
}
