// The frame of a sealed segment: one gzip member whose header carries what the segment contains, so that its time range is
// known without decompressing it. The metadata is JSON in a subfield "SW" of the extra field. A comment would be simpler,
// but some readers (DuckDB) refuse members with one; the extra field is skipped by all of them.

import { constants, createDeflateRaw } from 'node:zlib';
import type { Totals } from './record-format.ts';

const SUBFIELD = [0x53, 0x57]; // "SW"
const FLAG_EXTRA = 0x04;
const FIXED_BYTES = 10;
export const GZIP_TRAILER_BYTES = 8;
/** More than enough for the header: the metadata is four numbers. */
export const GZIP_HEADER_BYTES_MAX = 512;

export function gzipHeader(totals: Totals): Buffer {
  const metadata = Buffer.from(
    JSON.stringify({ rows: totals.rows, from_ms: totals.fromMs, to_ms: totals.toMs, bytes: totals.contentBytes }),
  );
  const header = Buffer.alloc(FIXED_BYTES + 2 + 4);
  header.set([0x1f, 0x8b, 8, FLAG_EXTRA, 0, 0, 0, 0, 0, 3]);
  header.writeUInt16LE(4 + metadata.length, FIXED_BYTES);
  header.set(SUBFIELD, FIXED_BYTES + 2);
  header.writeUInt16LE(metadata.length, FIXED_BYTES + 4);
  return Buffer.concat([header, metadata]);
}

export function gzipTrailer(crc: number, contentBytes: number): Buffer {
  const trailer = Buffer.alloc(GZIP_TRAILER_BYTES);
  trailer.writeUInt32LE(crc >>> 0, 0);
  trailer.writeUInt32LE(contentBytes % 2 ** 32, 4);
  return trailer;
}

/** Length of the contents modulo 2^32, as the last four bytes say. */
export function trailerLength(trailer: Buffer): number {
  return trailer.readUInt32LE(GZIP_TRAILER_BYTES - 4);
}

/** Metadata of a member that {@link gzipHeader} began; null for one that somebody else made. */
export function readGzipMetadata(start: Buffer): Totals | null {
  if (start.length < FIXED_BYTES + 6 || start[0] !== 0x1f || start[1] !== 0x8b || ((start[3] ?? 0) & FLAG_EXTRA) === 0) return null;
  if (start[FIXED_BYTES + 2] !== SUBFIELD[0] || start[FIXED_BYTES + 3] !== SUBFIELD[1]) return null;
  const length = start.readUInt16LE(FIXED_BYTES + 4);
  try {
    const metadata: unknown = JSON.parse(start.toString('utf8', FIXED_BYTES + 6, FIXED_BYTES + 6 + length));
    const { rows, from_ms, to_ms, bytes } = metadata as Record<string, unknown>;
    if (!isCount(rows) || !isCount(bytes) || !isTime(from_ms) || !isTime(to_ms)) return null;
    return { rows, contentBytes: bytes, fromMs: from_ms, toMs: to_ms };
  } catch {
    return null;
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isTime(value: unknown): value is number | null {
  return value === null || (typeof value === 'number' && Number.isFinite(value));
}

/** Compressor for the part between header and trailer. */
export function createCompressor() {
  // Level 1: docs/formats/segment.md has what others would save and cost.
  return createDeflateRaw({ level: constants.Z_BEST_SPEED, memLevel: 9, chunkSize: 64 * 1024 });
}
