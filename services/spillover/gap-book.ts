// Remembers gaps across restarts, in `gaps.jsonl` beside the segments: a hole is seen once, when the event behind it comes, and
// cannot be seen in the rows afterwards, because an empty position leaves no row either. Losing this file loses no row.

import { join } from 'node:path';
import { z } from 'zod';
import type { Disk } from '#shared/segments/disk';
import type { Gap } from './core/coverage.ts';
import { readSmallFile, replaceFile } from './small-file.ts';

/** The oldest are forgotten beyond this: every answer lists those in its time. */
const GAPS_MAX = 200;

const gapSchema = z.object({
  log: z.int(),
  from: z.int(),
  to: z.int(),
  from_ms: z.number().nullable(),
  to_ms: z.number().nullable(),
  reason: z.enum(['hole', 'lost']),
});

export class GapBook {
  private readonly disk: Disk;
  private readonly path: string;
  private gaps: Gap[];

  private constructor(disk: Disk, path: string, gaps: Gap[]) {
    this.disk = disk;
    this.path = path;
    this.gaps = gaps;
  }

  /** A file that is not there, or lines that cannot be read, are no gaps. */
  static async open(disk: Disk, directory: string): Promise<GapBook> {
    const path = join(directory, 'gaps.jsonl');
    const text = await readSmallFile(path).catch(() => '');
    return new GapBook(disk, path, text.split('\n').flatMap(parseGap));
  }

  get all(): readonly Gap[] {
    return this.gaps;
  }

  /** Known from now on; resolves when it is also on disk. @throws what writing throws: the gap is known until the end of the process then */
  async add(gap: Gap): Promise<void> {
    this.gaps = [...this.gaps, gap].slice(-GAPS_MAX);
    await replaceFile(this.disk, this.path, this.gaps.map((one) => `${JSON.stringify(one)}\n`).join(''));
  }
}

function parseGap(line: string): Gap[] {
  try {
    const parsed = gapSchema.safeParse(JSON.parse(line));
    return parsed.success ? [parsed.data] : [];
  } catch {
    return [];
  }
}
