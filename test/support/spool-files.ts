// What a collector has on disk, read without any of its code: the batches in the files of its spool.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

export interface SpooledBatch {
  readonly boot: string;
  readonly tick: number;
}

/** Oldest first. Files that go while they are read are not there; a line that is being written is none yet. */
export function spooledBatches(directory: string): SpooledBatch[] {
  return namesIn(directory)
    .toSorted()
    .flatMap((name) => [...textOf(join(directory, name)).matchAll(/^\{"seq":\d+,"id":"[^":]+:([^":]+):(\d+)/gm)])
    .map(([, boot, tick]) => ({ boot: boot ?? '', tick: Number(tick) }));
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).filter((name) => /\.jsonl(\.gz)?$/.test(name));
  } catch {
    return []; // not made yet
  }
}

function textOf(path: string): string {
  try {
    const bytes = readFileSync(path);
    return (path.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString();
  } catch {
    return '';
  }
}
