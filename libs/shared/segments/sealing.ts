// Sealing: a raw segment that is no longer appended to becomes a gzip file under its final name, in the background, one
// segment at a time, while appends go on.
//
// Order: compress into `<final name>.tmp`, each chunk only after the budget has room for it; sync it; rename; sync the
// directory; remove the raw file; sync the directory. Interrupted anywhere, opening finishes or undoes it. The budget may
// delete the segment meanwhile: then its temporary file goes with it and the sealing ends there.

import type { Writable } from 'node:stream';
import { crc32 } from 'node:zlib';
import type { Segment } from './catalogue.ts';
import { type DiskFile, isMissing, writeWhole } from './disk.ts';
import type { Exclusive } from './exclusive.ts';
import { createCompressor, gzipHeader, gzipTrailer } from './gzip-member.ts';
import { fileSize, pathOf, removeFile, type SegmentDirectory, syncNames } from './segment-directory.ts';
import { DiskFailedError, isDiskFailure, syncOrFail, textOf } from './segment-errors.ts';
import { sealedName, TEMPORARY_SUFFIX } from './segment-name.ts';

/** What sealing needs of the log it works for. */
export interface SealingHost {
  readonly directory: SegmentDirectory;
  readonly exclusive: Exclusive;
  /** Whether the segment is still there and the log still open. */
  isWanted(segment: Segment): boolean;
  /** Deletes segments older than this one until there is room; false if that is not enough. Call within `exclusive`. */
  makeRoom(bytes: number, olderThan: Segment): Promise<boolean>;
  /** The sealed file is durable under its name, so readers take that one; the raw file is still there. Call within `exclusive`. */
  renamed(segment: Segment, name: string): void;
  /** Only the sealed file is there. Call within `exclusive`. */
  replaced(segment: Segment, diskBytes: number): void;
}

const CHUNK_BYTES = 256 * 1024;

export type SealingOutcome = 'sealed' | 'not_wanted' | 'put_off';

/** There is no room for the compressed form, and nothing older to delete. */
class NoRoomError extends Error {}
class NotWantedError extends Error {}

export class Sealer {
  private readonly host: SealingHost;
  private temporary: { segment: Segment; name: string; bytes: number } | null = null;

  constructor(host: SealingHost) {
    this.host = host;
  }

  /** Size of the temporary file, in bytes. */
  get temporaryBytes(): number {
    return this.temporary?.bytes ?? 0;
  }

  /** Removes the temporary file of a segment that is being deleted. Call within `exclusive`. */
  async abandon(segment: Segment): Promise<void> {
    if (this.temporary?.segment === segment) await this.removeTemporary();
  }

  /** @throws {DiskFailedError} if the disk failed */
  async seal(segment: Segment): Promise<SealingOutcome> {
    const { directory } = this.host;
    try {
      await this.compress(segment);
      return 'sealed';
    } catch (error) {
      await this.host.exclusive.run(() => this.removeTemporary()).catch(() => undefined);
      if (isDiskFailure(error)) throw error instanceof DiskFailedError ? error : new DiskFailedError(`seal ${segment.name}`, error);
      if (error instanceof NotWantedError || isMissing(error)) return 'not_wanted';
      directory.onEvent({
        event: 'sealing_put_off',
        name: segment.name,
        problem: error instanceof NoRoomError ? 'no room in the budget' : textOf(error),
      });
      return 'put_off';
    }
  }

  private async compress(segment: Segment): Promise<void> {
    const { directory } = this.host;
    const { disk } = directory;
    await this.host.exclusive.run(() => this.removeTemporary());
    const name = sealedName(directory.prefix, segment.log, segment.first, segment.last);
    const raw = await disk.open(pathOf(directory, segment.name), 'r');
    try {
      const temporary = `${name}${TEMPORARY_SUFFIX}`;
      // Not over what is there: opening somebody's FIFO would wait for ever.
      const file = await disk.open(pathOf(directory, temporary), 'wx');
      this.temporary = { segment, name: temporary, bytes: 0 };
      try {
        for await (const chunk of gzipped(raw, segment)) await this.write(segment, file, chunk);
        await syncOrFail(`sync ${name}`, () => file.datasync());
      } finally {
        await file.close();
      }
    } finally {
      await raw.close();
    }
    await this.host.exclusive.run(() => this.replace(segment, name));
  }

  private write(segment: Segment, file: DiskFile, chunk: Buffer): Promise<void> {
    return this.host.exclusive.run(async () => {
      if (!this.host.isWanted(segment) || this.temporary === null) throw new NotWantedError();
      if (!(await this.host.makeRoom(chunk.length, segment))) throw new NoRoomError();
      const at = this.temporary.bytes;
      this.temporary.bytes += chunk.length;
      await writeWhole(file, [chunk], at);
    });
  }

  private async replace(segment: Segment, name: string): Promise<void> {
    const { directory } = this.host;
    const { temporary } = this;
    if (!this.host.isWanted(segment) || temporary === null) throw new NotWantedError();
    if ((await fileSize(directory, name)) !== null) throw new Error(`${name} is there already, and not ours`);
    await directory.disk.rename(pathOf(directory, temporary.name), pathOf(directory, name));
    await syncOrFail(`sync the directory of ${name}`, () => syncNames(directory));
    const rawName = segment.name;
    // Before the raw file goes: a reader must find the segment under one name or the other at every moment.
    this.host.renamed(segment, name);
    await syncOrFail(`remove ${rawName}`, () => removeFile(directory, rawName));
    this.temporary = null;
    this.host.replaced(segment, temporary.bytes);
    await syncOrFail(`sync the directory of ${name}`, () => syncNames(directory));
  }

  private async removeTemporary(): Promise<void> {
    const { temporary } = this;
    if (temporary === null) return;
    await removeFile(this.host.directory, temporary.name);
    this.temporary = null;
  }
}

/** The whole gzip file of a raw segment, in chunks. */
async function* gzipped(raw: DiskFile, segment: Segment): AsyncGenerator<Buffer> {
  yield gzipHeader(segment);
  const compressor = createCompressor();
  const fed = feed(compressor, raw, segment);
  // Reading the compressor throws it then.
  fed.catch((error: Error) => compressor.destroy(error));
  for await (const chunk of compressor) yield chunk as Buffer;
  yield gzipTrailer(await fed, segment.contentBytes);
}

/** Through one buffer, over and over: one for every chunk would be as much garbage as the segment is large. @returns crc32 of the contents */
async function feed(compressor: Writable, raw: DiskFile, { name, contentBytes }: Segment): Promise<number> {
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  let crc = 0;
  let at = 0;
  while (at < contentBytes) {
    const { bytesRead } = await raw.read(buffer, 0, Math.min(buffer.length, contentBytes - at), at);
    if (bytesRead === 0) throw new Error(`${name} has ${at} bytes, ${contentBytes} were written`);
    at += bytesRead;
    const chunk = buffer.subarray(0, bytesRead);
    crc = crc32(chunk, crc);
    await new Promise<void>((resolve, reject) => compressor.write(chunk, (error) => (error ? reject(error) : resolve())));
  }
  compressor.end();
  return crc;
}
