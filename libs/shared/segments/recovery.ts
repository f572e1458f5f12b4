// Opening a directory of segments after whatever happened to it: finishes or undoes what was interrupted, cuts what was
// never acknowledged, moves aside what cannot be read, and says what is there. It never wipes and deletes nothing but
// temporaries, empty files, and one of two copies of the same records.

import { Catalogue, compareSegments, type Segment } from './catalogue.ts';
import type { DiskFile } from './disk.ts';
import { GZIP_HEADER_BYTES_MAX, GZIP_TRAILER_BYTES, readGzipMetadata, trailerLength } from './gzip-member.ts';
import { readChunks, readGunzipped, wholeLines } from './line-blocks.ts';
import { type LineScan, scanLeniently, scanStrictly } from './line-scan.ts';
import type { Totals } from './record-format.ts';
import {
  fileNames,
  fileSize,
  makeDirectory,
  openFile,
  quarantineBytes,
  quarantineFile,
  removeFile,
  type SegmentDirectory,
  syncNames,
} from './segment-directory.ts';
import { isDamage, syncOrFail, textOf } from './segment-errors.ts';
import { isTemporaryName, parseSegmentName } from './segment-name.ts';

interface Found {
  readonly name: string;
  readonly log: number;
  readonly first: number;
  readonly last: number | null;
}

/**
 * What is in the directory, in order. All that it returns is durable.
 * @param logMax segments of a later log are moved aside: believed, they would make everything that comes one of an older log
 */
export async function recoverDirectory(directory: SegmentDirectory, logMax: number): Promise<Catalogue> {
  await makeDirectory(directory);
  const names = await fileNames(directory);
  for (const name of names) if (isTemporaryName(directory.prefix, name)) await removeFile(directory, name);
  const found = names.flatMap((name): Found[] => {
    const parsed = parseSegmentName(directory.prefix, name);
    return parsed === null ? [] : [{ name, ...parsed }];
  });
  const future = found.filter(({ log }) => log > logMax);
  for (const { name } of future) await setAside(directory, name, 'its log lies in the future');
  const dropped = await settleInterruptedSealings(directory, found);
  const catalogue = new Catalogue();
  const kept = found.filter((one) => !future.includes(one) && !dropped.has(one.name)).sort(compareSegments);
  for (const one of kept) {
    const segment =
      one.last === null ? await recoverRaw(directory, one, one === kept.at(-1)) : await recoverSealed(directory, one, one.last);
    if (segment !== null) catalogue.add(segment);
  }
  await setRepetitionsAside(directory, catalogue);
  await syncNames(directory);
  return catalogue;
}

/** Segments that lie within another's positions are copies, and their rows would be there twice; unless the other is not what its name says. */
async function setRepetitionsAside(directory: SegmentDirectory, catalogue: Catalogue): Promise<void> {
  const isWithin = (inner: Segment, outer: Segment): boolean =>
    inner !== outer && inner.log === outer.log && inner.first >= outer.first && inner.last <= outer.last && inner.first < outer.last;
  for (const inner of [...catalogue.oldestFirst]) {
    const outer = catalogue.oldestFirst.find((one) => isWithin(inner, one));
    if (outer === undefined) continue;
    const scan = outer.isSealed ? await scanWhole(directory, outer, outer.last) : null;
    const away = typeof scan === 'string' ? outer : inner;
    await setAside(directory, away.name, typeof scan === 'string' ? scan : `its positions are in ${outer.name}`);
    catalogue.remove(away);
  }
}

async function setAside(directory: SegmentDirectory, name: string, problem: string): Promise<void> {
  await quarantineFile(directory, name, (await fileSize(directory, name)) ?? 0, problem);
}

/** Reads a sealed segment; a sentence when that cannot be done, or it does not begin and end where its name says. */
async function scanWhole(
  directory: SegmentDirectory,
  { name, first }: Pick<Found, 'name' | 'first'>,
  last: number,
): Promise<LineScan | string> {
  const scan = await scanSealed(directory, name);
  if (typeof scan === 'string' || (scan.first === first && scan.last === last)) return scan;
  return `it has positions ${scan.first} to ${scan.last}, its name says ${first} to ${last}`;
}

/** Where a segment is there both raw and sealed, keeps the sealed one if it is complete. Returns the names removed. */
async function settleInterruptedSealings(directory: SegmentDirectory, found: readonly Found[]): Promise<Set<string>> {
  const removed = new Set<string>();
  for (const raw of found.filter(({ last }) => last === null)) {
    for (const sealed of found.filter((other) => other.last !== null && compareSegments(other, raw) === 0)) {
      await syncNames(directory); // the sealed name first, then the end of the raw one
      const rawBytes = await fileSize(directory, raw.name);
      const scan = await scanWhole(directory, sealed, sealed.last ?? 0);
      const isComplete = typeof scan !== 'string' && scan.contentBytes >= (rawBytes ?? 0);
      const name = isComplete ? raw.name : sealed.name;
      await removeFile(directory, name);
      removed.add(name);
    }
  }
  return removed;
}

/** @param isNewest only this one can have been written to when a crash came: the others were synced before the next was begun */
async function recoverRaw(directory: SegmentDirectory, found: Found, isNewest: boolean): Promise<Segment | null> {
  const file = await openFile(directory, found.name, 'r+');
  if (file === null) return null;
  let scan: LineScan | string;
  let size: number;
  try {
    size = (await file.stat()).size;
    scan = await readable(() =>
      scanStrictly(wholeLines(readChunks(file, 0, size)), directory.format, { first: found.first, isParsed: isNewest }),
    );
    // Without a good line there is nothing to leave, and it goes as it is, however large.
    if (typeof scan !== 'string' && scan.last === null && scan.problem !== null) scan = scan.problem;
    if (typeof scan !== 'string') await cutAfter(directory, found.name, file, scan, size);
  } finally {
    await file.close();
  }
  if (typeof scan === 'string') {
    await quarantineFile(directory, found.name, size, scan);
    return null;
  }
  if (scan.last === null) {
    await removeFile(directory, found.name);
    return null;
  }
  return {
    ...totalsOf(scan),
    log: found.log,
    first: found.first,
    last: scan.last,
    name: found.name,
    isSealed: false,
    diskBytes: scan.contentBytes,
    syncedBytes: scan.contentBytes,
  };
}

/** Leaves the good lines in the file: a torn end is cut, bad lines and what follows them are moved aside. */
async function cutAfter(directory: SegmentDirectory, name: string, file: DiskFile, scan: LineScan, size: number): Promise<void> {
  if (scan.contentBytes < size) {
    if (scan.problem === null) directory.onEvent({ event: 'tail_cut', name, bytes: size - scan.contentBytes });
    else await quarantineBytes(directory, name, readChunks(file, scan.contentBytes, size), scan.problem);
    await file.truncate(scan.contentBytes);
  }
  // What a killed process had written but not synced counts from here on, so it must be durable from here on.
  await syncOrFail(`sync ${name}`, () => file.datasync());
}

/** A sealed segment as found in the directory; one that cannot be read is moved aside, and null. */
export async function recoverSealed(directory: SegmentDirectory, found: Omit<Found, 'last'>, last: number): Promise<Segment | null> {
  const diskBytes = await fileSize(directory, found.name);
  if (diskBytes === null) return null;
  // What the header says is believed, under an end that agrees with it; anything else is read.
  const metadata = await readable(() => sealedMetadata(directory, found.name, diskBytes));
  const totals = metadata ?? (await scanWhole(directory, found, last));
  if (typeof totals === 'string') {
    await quarantineFile(directory, found.name, diskBytes, totals);
    return null;
  }
  return { ...totalsOf(totals), log: found.log, first: found.first, last, name: found.name, isSealed: true, diskBytes, syncedBytes: 0 };
}

/** What the header says, if it is ours and the end of the file agrees with it. */
async function sealedMetadata(directory: SegmentDirectory, name: string, diskBytes: number): Promise<Totals | null> {
  const file = await openFile(directory, name, 'r');
  if (file === null) return null;
  try {
    const start = Buffer.alloc(Math.min(GZIP_HEADER_BYTES_MAX, diskBytes));
    await file.read(start, 0, start.length, 0);
    const totals = readGzipMetadata(start);
    if (totals === null) return null;
    const trailer = Buffer.alloc(GZIP_TRAILER_BYTES);
    await file.read(trailer, 0, trailer.length, diskBytes - trailer.length);
    return trailerLength(trailer) === totals.contentBytes % 2 ** 32 ? totals : null;
  } finally {
    await file.close();
  }
}

/** Reads the whole segment; a sentence when that cannot be done. */
async function scanSealed(directory: SegmentDirectory, name: string): Promise<LineScan | string> {
  const file = await openFile(directory, name, 'r');
  if (file === null) return 'it is gone';
  try {
    return await readable(() => scanLeniently(wholeLines(readGunzipped(file)), directory.format));
  } finally {
    await file.close();
  }
}

/** The result, or a sentence where the contents cannot be read: damaged, or on a damaged part of the disk. Other errors pass. */
async function readable<T>(read: () => Promise<T>): Promise<T | string> {
  try {
    return await read();
  } catch (error) {
    if (isDamage(error)) return textOf(error);
    throw error;
  }
}

function totalsOf({ rows, contentBytes, fromMs, toMs }: Totals): Totals {
  return { rows, contentBytes, fromMs, toMs };
}
