// Remembers gaps across restarts, in `gaps.jsonl` beside the segments: a hole is seen once, when the event behind it comes, and
// cannot be seen in the rows afterwards, because an empty position leaves no row either. Losing this file loses no row.

import { constants, open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { Gap } from './core/coverage.ts';

const { O_CREAT, O_NONBLOCK, O_RDONLY, O_TRUNC, O_WRONLY } = constants;

/** The oldest are forgotten beyond this: every answer lists those in its time. */
const GAPS_MAX = 200;
/** Far more than those need. */
const FILE_BYTES_MAX = 1024 * 1024;

const gapSchema = z.object({
  log: z.int(),
  from: z.int(),
  to: z.int(),
  from_ms: z.number().nullable(),
  to_ms: z.number().nullable(),
  reason: z.enum(['hole', 'lost']),
});

export class GapBook {
  private readonly path: string;
  private gaps: Gap[];

  private constructor(path: string, gaps: Gap[]) {
    this.path = path;
    this.gaps = gaps;
  }

  /** A file that is not there, or lines that cannot be read, are no gaps. */
  static async open(directory: string): Promise<GapBook> {
    const path = join(directory, 'gaps.jsonl');
    const text = await readSmall(path).catch(() => '');
    return new GapBook(path, text.split('\n').flatMap(parseGap));
  }

  get all(): readonly Gap[] {
    return this.gaps;
  }

  /** Known from now on; resolves when it is also on disk. @throws what writing throws: the gap is known until the end of the process then */
  async add(gap: Gap): Promise<void> {
    this.gaps = [...this.gaps, gap].slice(-GAPS_MAX);
    const temporary = `${this.path}.tmp`;
    const file = await open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK);
    try {
      await file.writeFile(this.gaps.map((one) => `${JSON.stringify(one)}\n`).join(''));
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(temporary, this.path);
  }
}

/** What is there under the name may be anybody's: a FIFO, which would be waited for without `O_NONBLOCK`, or something huge. */
async function readSmall(path: string): Promise<string> {
  const file = await open(path, O_RDONLY | O_NONBLOCK);
  try {
    const stat = await file.stat();
    return stat.isFile() && stat.size <= FILE_BYTES_MAX ? await file.readFile('utf8') : '';
  } finally {
    await file.close();
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
