// Which rows of a segment a query wants, decided on the bytes as far as possible: most rows of a segment are usually not
// wanted, and reading their JSON would be the whole cost of a query.

import type { LogPosition } from '#shared/contract/queries';
import { createTimeReader, seqAt, seqKeyAt } from './row-fields.ts';

export interface RowFilter {
  readonly host: string | undefined;
  readonly unit: string | undefined;
  /** Both ends included. */
  readonly fromMs: number;
  readonly toMs: number;
  /** Rows of this log at or above this position are left out. */
  readonly below: LogPosition | undefined;
}

/** What every wanted row has in it, and few others; null when any row may be wanted. */
export function nameIn({ host, unit }: RowFilter): Buffer | null {
  if (unit !== undefined) return keyed('unit', unit);
  return host === undefined ? null : keyed('host', host);
}

function keyed(key: 'host' | 'unit', name: string): Buffer {
  return Buffer.from(`"${key}":${JSON.stringify(name)},`);
}

/** @returns a test for the line `bytes[start, end)` of a segment of `log`: its time when the row may be wanted, else null */
export function createRowTest(filter: RowFilter, log: number): (bytes: Buffer, start: number, end: number) => number | null {
  const readTime = createTimeReader();
  const host = filter.host === undefined ? null : keyed('host', filter.host);
  const unit = filter.unit === undefined ? null : keyed('unit', filter.unit);
  const seqEnd = filter.below !== undefined && filter.below.log === log ? filter.below.seq : Number.POSITIVE_INFINITY;
  return (bytes, start, end) => {
    const key = seqKeyAt(bytes, start, end);
    if (key === -1) return null;
    const timeMs = readTime(bytes, key, end);
    if (timeMs === null || timeMs < filter.fromMs || timeMs > filter.toMs) return null;
    // The comma before the position closes the name before it.
    if (host !== null && !bytes.subarray(start, key + 1).includes(host)) return null;
    if (unit !== null && !bytes.subarray(start, key + 1).includes(unit)) return null;
    if (seqEnd === Number.POSITIVE_INFINITY) return timeMs;
    const seq = seqAt(bytes, key, end);
    return seq !== null && seq < seqEnd ? timeMs : null;
  };
}
