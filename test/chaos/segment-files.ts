// Reads the spill from its files alone, as any other tool would: names, gzip, lines of JSON. None of the product's own code.
// Streams, so that a run of any length fits into memory.

import { createReadStream, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { createGunzip } from 'node:zlib';
import type { SeenRow } from './checker.ts';

/** Files of the spill in `directory`, in log order; the raw form of a segment that was sealed meanwhile is left out. */
export function segmentFiles(directory: string): string[] {
  const names = readdirSync(directory).filter((name) => /^metrics-\d{13}-\d{16}(-\d{16}\.jsonl\.gz|\.jsonl)$/.test(name));
  const sealed = new Set(names.filter((name) => name.endsWith('.gz')).map(startOf));
  return names.filter((name) => name.endsWith('.gz') || !sealed.has(startOf(name))).sort();
}

/** "metrics-<log>-<first>" */
function startOf(name: string): string {
  return name.slice(0, 'metrics-'.length + 13 + 1 + 16);
}

export interface FilesRead {
  readonly files: number;
  readonly rows: number;
  /** Lines that are not rows, torn ends, positions that go back: what a good file never has. */
  readonly problems: readonly string[];
}

/** Calls `visit` for every row of every file. */
export async function readSegmentFiles(directory: string, visit: (row: SeenRow) => void): Promise<FilesRead> {
  const names = segmentFiles(directory);
  const problems: string[] = [];
  let rows = 0;
  let position = 0;
  for (const name of names) {
    try {
      const file = createReadStream(join(directory, name));
      const input = name.endsWith('.gz') ? file.pipe(createGunzip()) : file;
      file.on('error', (error) => input.destroy(error));
      for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
        const row = rowOf(line);
        if (row === null) {
          problems.push(`${name}: not a row: ${line.slice(0, 80)}`);
          continue;
        }
        if (row.seq < position) problems.push(`${name}: position ${row.seq} after ${position}`);
        position = row.seq;
        rows++;
        visit(row);
      }
    } catch (error) {
      problems.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return { files: names.length, rows, problems };
}

function rowOf(line: string): SeenRow | null {
  try {
    const { host, unit, seq, state, pid, started, sample } = JSON.parse(line);
    const { timestamp, ...metrics } = sample;
    const ts = Date.parse(timestamp);
    return typeof host === 'string' && typeof unit === 'string' && Number.isSafeInteger(seq) && Number.isFinite(ts)
      ? { host, unit, ts, seq, state, pid, started, metrics }
      : null;
  } catch {
    return null;
  }
}
