// Which records of an append go into which segment. Pure: decided before anything is written.
//
// A segment holds whole batches (all records of one position), so that no two segments begin at the same position. It is
// rotated before the batch that would make it exceed its limit; only a single batch larger than the limit exceeds it.

/** All records of one position, or a part of them. */
export interface Entry {
  readonly log: number;
  readonly seq: number;
  readonly rows: number;
  /** Whole lines. */
  readonly bytes: Uint8Array;
  /** Times of the earliest and latest record, ms; null when they have none. */
  readonly fromMs: number | null;
  readonly toMs: number | null;
}

export interface PlannedWrite {
  /** Go on in the active segment, or start a new one at the first entry's position. */
  readonly startsSegment: boolean;
  readonly entries: Entry[];
  bytes: number;
}

export interface AppendPlan {
  readonly writes: PlannedWrite[];
  /** Entries that could not fit if everything else were deleted. */
  readonly oversize: Entry[];
}

export interface ActiveEnd {
  readonly log: number;
  /** Position of the newest record in it. */
  readonly last: number;
  readonly bytes: number;
}

/** @param active the segment being appended to; null when there is none */
export function planAppend(entries: readonly Entry[], active: ActiveEnd | null, segmentBytesMax: number, bytesMax: number): AppendPlan {
  const writes: PlannedWrite[] = [];
  const oversize: Entry[] = [];
  let end = active;
  for (const batch of batches(entries)) {
    const { log, seq, bytes } = batch;
    const continues = end !== null && end.log === log && (end.last === seq || end.bytes + bytes <= segmentBytesMax);
    const base = continues && end !== null ? end.bytes : 0;
    if (base + bytes > bytesMax) {
      oversize.push(...batch.entries);
      continue;
    }
    const write = continues ? writes.at(-1) : undefined;
    if (write === undefined) writes.push({ startsSegment: !continues, entries: batch.entries, bytes });
    else {
      write.entries.push(...batch.entries);
      write.bytes += bytes;
    }
    end = { log, last: seq, bytes: base + bytes };
  }
  return { writes, oversize };
}

interface BatchOfEntries {
  readonly log: number;
  readonly seq: number;
  readonly entries: Entry[];
  bytes: number;
}

function batches(entries: readonly Entry[]): BatchOfEntries[] {
  const found: BatchOfEntries[] = [];
  for (const entry of entries) {
    const batch = found.at(-1);
    if (batch !== undefined && batch.log === entry.log && batch.seq === entry.seq) {
      batch.entries.push(entry);
      batch.bytes += entry.bytes.length;
    } else found.push({ log: entry.log, seq: entry.seq, entries: [entry], bytes: entry.bytes.length });
  }
  return found;
}

/** Neighbours in memory become one buffer: the entries of one event are slices of its body. */
export function joinNeighbours(entries: readonly Entry[]): Uint8Array[] {
  const buffers: Uint8Array[] = [];
  for (const { bytes } of entries) {
    const previous = buffers.at(-1);
    if (previous !== undefined && previous.buffer === bytes.buffer && previous.byteOffset + previous.length === bytes.byteOffset) {
      buffers[buffers.length - 1] = new Uint8Array(bytes.buffer, previous.byteOffset, previous.length + bytes.length);
    } else if (bytes.length > 0) buffers.push(bytes);
  }
  return buffers;
}
