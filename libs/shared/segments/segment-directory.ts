// The directory of a segment log: paths, names and the operations that are more than one call. It decides nothing.

import { dirname, join, resolve } from 'node:path';
import { type Disk, type DiskFile, isMissing, syncDirectory, writeWhole } from './disk.ts';
import type { RecordFormat } from './record-format.ts';
import type { OnSegmentEvent } from './segment-events.ts';

export interface SegmentDirectory {
  readonly path: string;
  readonly prefix: string;
  readonly disk: Disk;
  readonly format: RecordFormat;
  readonly onEvent: OnSegmentEvent;
}

const QUARANTINE = 'quarantine';

export function pathOf(directory: SegmentDirectory, name: string): string {
  return join(directory.path, name);
}

/** Makes the directory, and its own name durable, if it is not there. */
export async function makeDirectory({ disk, path }: Pick<SegmentDirectory, 'disk' | 'path'>): Promise<void> {
  const firstMade = await disk.mkdir(path, { recursive: true });
  if (firstMade === undefined) return;
  for (let made = resolve(path); ; made = dirname(made)) {
    await syncDirectory(disk, dirname(made));
    if (made === resolve(String(firstMade)) || made === dirname(made)) return;
  }
}

/** Names of the regular files in it. */
export async function fileNames(directory: SegmentDirectory): Promise<string[]> {
  const entries = await directory.disk.readdir(directory.path, { withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => entry.name);
}

export function syncNames(directory: SegmentDirectory): Promise<void> {
  return syncDirectory(directory.disk, directory.path);
}

/** Removes a file; one that is gone already is as good. */
export async function removeFile(directory: SegmentDirectory, name: string): Promise<void> {
  try {
    await directory.disk.unlink(pathOf(directory, name));
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

/** Null when the file is not there. */
export async function fileSize(directory: SegmentDirectory, name: string): Promise<number | null> {
  try {
    return (await directory.disk.stat(pathOf(directory, name))).size;
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

/** Null when the file is not there. */
export async function openFile(directory: SegmentDirectory, name: string, flags: 'r' | 'r+'): Promise<DiskFile | null> {
  try {
    return await directory.disk.open(pathOf(directory, name), flags);
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

/** Moves a whole file aside. */
export async function quarantineFile(directory: SegmentDirectory, name: string, bytes: number, problem: string): Promise<void> {
  const target = await quarantineTarget(directory, name);
  await directory.disk.rename(pathOf(directory, name), pathOf(directory, target));
  await syncNames(directory);
  directory.onEvent({ event: 'quarantined', name, movedTo: target, bytes, problem });
}

/** Copies what chunks give out into a file aside. The caller cuts it off where it came from afterwards, so a crash between copies it twice. */
export async function quarantineBytes(
  directory: SegmentDirectory,
  name: string,
  chunks: AsyncIterable<Buffer>,
  problem: string,
): Promise<void> {
  const target = await quarantineTarget(directory, name);
  const file = await directory.disk.open(pathOf(directory, target), 'wx');
  let bytes = 0;
  try {
    for await (const chunk of chunks) {
      await writeWhole(file, [chunk], bytes);
      bytes += chunk.length;
    }
    await file.datasync();
  } finally {
    await file.close();
  }
  await syncDirectory(directory.disk, join(directory.path, QUARANTINE));
  directory.onEvent({ event: 'quarantined', name, movedTo: target, bytes, problem });
}

/** A name that is free, relative to the directory: `quarantine/<name>.<n>`. */
async function quarantineTarget(directory: SegmentDirectory, name: string): Promise<string> {
  const path = join(directory.path, QUARANTINE);
  await directory.disk.mkdir(path, { recursive: true });
  const taken = new Set((await directory.disk.readdir(path, { withFileTypes: true })).map((entry) => entry.name));
  for (let n = 1; ; n++) if (!taken.has(`${name}.${n}`)) return join(QUARANTINE, `${name}.${n}`);
}
