// Reads a segment as blocks of whole lines, in bounded memory: one chunk, and the line that its end cuts.

import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import type { DiskFile } from './disk.ts';
import { LINE_BREAK } from './record-format.ts';

const CHUNK_BYTES = 256 * 1024;

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

/** Cuts chunks at line breaks. What follows the last line break is not a line and is not given out. */
export async function* wholeLines(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let rest: Buffer | null = null;
  for await (const chunk of chunks) {
    const end = chunk.lastIndexOf(LINE_BREAK) + 1;
    if (end === 0) {
      rest = rest === null ? chunk : Buffer.concat([rest, chunk]);
      continue;
    }
    const lines = chunk.subarray(0, end);
    yield rest === null ? lines : Buffer.concat([rest, lines]);
    rest = end === chunk.length ? null : chunk.subarray(end);
  }
}
