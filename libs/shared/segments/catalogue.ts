// The segments that exist, oldest first, and what they weigh. Pure bookkeeping: it touches no file.

import type { Totals } from './record-format.ts';
import type { SegmentName } from './segment-name.ts';

export interface Segment extends Totals {
  readonly log: number;
  readonly first: number;
  /** Position of the newest record in it. */
  last: number;
  /** File name; changes when the segment is sealed. */
  name: string;
  isSealed: boolean;
  /** Size of the file, what is being written to it included. Changed by {@link Catalogue.resize} alone. */
  diskBytes: number;
  /** Raw segments: contents up to here are durable and may be read. */
  syncedBytes: number;
}

export class Catalogue {
  private readonly segments: Segment[] = [];
  private total = 0;

  /** Sizes of all files, in bytes. */
  get diskBytes(): number {
    return this.total;
  }

  get oldestFirst(): readonly Segment[] {
    return this.segments;
  }

  get newest(): Segment | null {
    return this.segments.at(-1) ?? null;
  }

  has(segment: Segment): boolean {
    return this.segments.includes(segment);
  }

  find(log: number, first: number): Segment | null {
    return this.segments.find((segment) => segment.log === log && segment.first === first) ?? null;
  }

  add(segment: Segment): void {
    const before = this.segments.findLastIndex((other) => compareSegments(other, segment) <= 0);
    this.segments.splice(before + 1, 0, segment);
    this.total += segment.diskBytes;
  }

  resize(segment: Segment, diskBytes: number): void {
    if (this.has(segment)) this.total += diskBytes - segment.diskBytes;
    segment.diskBytes = diskBytes;
  }

  remove(segment: Segment): void {
    const at = this.segments.indexOf(segment);
    if (at === -1) return;
    this.segments.splice(at, 1);
    this.total -= segment.diskBytes;
  }
}

/** In log order: by log, then by first position. */
export function compareSegments(a: Pick<SegmentName, 'log' | 'first'>, b: Pick<SegmentName, 'log' | 'first'>): number {
  return a.log - b.log || a.first - b.first;
}
