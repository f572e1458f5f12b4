// The spill on disk, read without the service: `<spillover_path>/<shard>/metrics-….jsonl[.gz]`. It only reads, so it may run
// beside a spillover that appends, seals and deletes: a file that is gone is looked for under its sealed name, and the bytes
// behind the last line break are a line that is not finished.

import type { FileHandle } from 'node:fs/promises';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseRow } from '#shared/contract/row';
import { readChunks, readGunzipped, wholeLines } from '#shared/segments/line-blocks';
import { forEachLine } from '#shared/segments/record-format';
import { parseSegmentName, type SegmentName } from '#shared/segments/segment-name';
import { CommandFailure } from './failure.ts';

const SEGMENT_PREFIX = 'metrics';

export interface SpillFile extends SegmentName {
  readonly shard: number;
  readonly directory: string;
  readonly name: string;
}

/** Every segment, by shard and place in the log. @throws {CommandFailure} when there is no such directory */
export async function spillFiles(spillPath: string): Promise<SpillFile[]> {
  const shards = (await namesIn(spillPath)).filter((name) => /^\d+$/.test(name)).map(Number);
  const files: SpillFile[] = [];
  for (const shard of shards.sort((a, b) => a - b)) {
    const directory = join(spillPath, `${shard}`);
    const segments = segmentsAmong(await namesIn(directory)).sort((a, b) => a.log - b.log || a.first - b.first);
    files.push(...segments.map((segment) => ({ shard, directory, ...segment })));
  }
  return files;
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    throw new CommandFailure(`spill directory ${directory}: ${(error as NodeJS.ErrnoException).code ?? 'cannot be read'}`);
  }
}

function segmentsAmong(names: readonly string[]): (SegmentName & { name: string })[] {
  return names.flatMap((name) => {
    const parsed = parseSegmentName(SEGMENT_PREFIX, name);
    return parsed === null ? [] : [{ name, ...parsed }];
  });
}

/** Blocks of whole lines; nothing when the segment was deleted. @throws what reading or unpacking throws */
export async function* readLines(segment: SpillFile): AsyncGenerator<Buffer> {
  const opened = await openSegment(segment);
  if (opened === null) return;
  const { file, isSealed } = opened;
  try {
    yield* wholeLines(isSealed ? readGunzipped(file) : readChunks(file, 0, (await file.stat()).size));
  } finally {
    await file.close();
  }
}

async function openSegment(segment: SpillFile): Promise<{ file: FileHandle; isSealed: boolean } | null> {
  const opened = await openIfThere(segment.directory, segment.name);
  if (opened !== null) return { file: opened, isSealed: segment.last !== null };
  // Sealed between the listing and now: the same rows under another name.
  const sealed = segmentsAmong(await namesIn(segment.directory)).find(
    ({ log, first, last }) => log === segment.log && first === segment.first && last !== null,
  );
  const file = sealed === undefined ? null : await openIfThere(segment.directory, sealed.name);
  return file === null ? null : { file, isSealed: true };
}

async function openIfThere(directory: string, name: string): Promise<FileHandle | null> {
  try {
    return await open(join(directory, name), 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

export interface SegmentVerdict {
  readonly shard: number;
  readonly name: string;
  readonly rows: number;
  readonly first_seq: number | null;
  readonly last_seq: number | null;
  /** The first thing that is wrong, or null. */
  readonly problem: string | null;
}

/** Reads a segment whole: every line must be a row, in log order, and the name must be true. */
export async function verifySegment(segment: SpillFile, onBytes: (bytes: number) => void): Promise<SegmentVerdict> {
  let rows = 0;
  let first: number | null = null;
  let last: number | null = null;
  let problem: string | null = null;
  const check = (line: string): string | null => {
    const row = parseRow(line);
    if (row === null) return `line ${rows + 1} is not a row`;
    if (last !== null && row.seq < last) return `line ${rows + 1}: position ${row.seq} follows ${last}`;
    rows++;
    first ??= row.seq;
    last = row.seq;
    return null;
  };
  try {
    for await (const block of readLines(segment)) {
      onBytes(block.length);
      forEachLine(block, (start, end) => {
        problem ??= check(block.toString('utf8', start, end));
        return problem === null;
      });
      if (problem !== null) break;
    }
  } catch (error) {
    problem = error instanceof Error ? error.message : String(error);
  }
  problem ??= nameProblem(segment, first, last);
  return { shard: segment.shard, name: segment.name, rows, first_seq: first, last_seq: last, problem };
}

function nameProblem(segment: SegmentName, first: number | null, last: number | null): string | null {
  if (first !== null && first !== segment.first) return `begins with position ${first}, its name says ${segment.first}`;
  if (segment.last !== null && last !== segment.last) return `ends with position ${last ?? 'none'}, its name says ${segment.last}`;
  return null;
}
