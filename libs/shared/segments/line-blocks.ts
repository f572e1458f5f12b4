// Reads a segment as blocks of whole lines, in bounded memory: one chunk, and the line that its end cuts.

import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import type { DiskFile } from './disk.ts';
import { LINE_BREAK } from './record-format.ts';

const CHUNK_BYTES = 256 * 1024;
/** Far above the longest line that is ever written: a file without line breaks must not be gathered in memory. */
const LINE_BYTES_MAX = 4 * 1024 * 1024;

/** What was read is no text of lines. */
export class LineTooLongError extends Error {
  readonly code = 'line_too_long';
  constructor() {
    super(`a line is longer than ${LINE_BYTES_MAX} bytes`);
    this.name = 'LineTooLongError';
  }
}

/** The bytes of `[from, to)`, chunk by chunk; fewer when the file ends before. */
export async function* readChunks(file: DiskFile, from: number, to: number): AsyncGenerator<Buffer> {
  for (let at = from; at < to; ) {
    // A new buffer for each chunk: the consumer may keep what it was given.
    const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, to - at));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** The contents of a gzip file. Throws what zlib throws when they are damaged. */
export async function* readGunzipped(file: DiskFile): AsyncGenerator<Buffer> {
  const source = Readable.from(readChunks(file, 0, Number.MAX_SAFE_INTEGER), { objectMode: false, highWaterMark: CHUNK_BYTES });
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  source.on('error', (error) => gunzip.destroy(error));
  source.pipe(gunzip);
  try {
    for await (const chunk of gunzip) yield chunk as Buffer;
  } finally {
    source.destroy();
    gunzip.destroy();
  }
}

/**
 * Cuts chunks at line breaks. What follows the last line break is not a line and is not given out.
 * @throws {LineTooLongError}
 */
export async function* wholeLines(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest: Buffer[] = [];
  let restBytes = 0;
  for await (const chunk of chunks) {
    const end = chunk.lastIndexOf(LINE_BREAK) + 1;
    if (end > 0) {
      const lines = chunk.subarray(0, end);
      yield rest.length === 0 ? lines : Buffer.concat([...rest, lines]);
      rest = [];
      restBytes = 0;
    }
    if (end < chunk.length) rest.push(chunk.subarray(end));
    restBytes += chunk.length - end;
    if (restBytes > LINE_BYTES_MAX) throw new LineTooLongError();
  }
}
