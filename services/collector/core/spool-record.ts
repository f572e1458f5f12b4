// One batch as a line of the spool: {"seq":n,"id":"<host>:<boot>:<tick>","rows":n,"batch":{...}}. The batch is byte for byte
// what was to be published, so that it is neither parsed nor encoded again on its way through the disk.

import type { EncodedBatch } from '#shared/contract/batch';
import type { RecordFormat } from '#shared/segments/record-format';

export interface SpoolRecord extends EncodedBatch {
  /** Position in the spool: the rows before it. */
  readonly seq: number;
}

/** What a line is longer than its payload, at most: two numbers, and an id of two names. */
export const RECORD_OVERHEAD_BYTES = 1024;

const HEAD = /^\{"seq":(\d{1,16}),"id":"([A-Za-z0-9_=-]+:[^"\\:]+:\d+(?::\d+)?)","rows":(\d{1,9}),"batch":(?=\{)/;
const TS = Buffer.from('"ts":');

/** With its line break. */
export function encodeRecord({ seq, id, rows, payload }: SpoolRecord): Buffer {
  return Buffer.concat([Buffer.from(`{"seq":${seq},"id":"${id}","rows":${rows},"batch":`), payload, Buffer.from('}\n')]);
}

/** Reads the line `bytes[start, end)`; null when it is not a record. The payload is a copy. */
export function decodeRecord(bytes: Buffer, start: number, end: number): SpoolRecord | null {
  const match = HEAD.exec(bytes.toString('latin1', start, Math.min(end, start + RECORD_OVERHEAD_BYTES)));
  if (match === null || bytes.toString('latin1', end - 2, end) !== '}}') return null;
  const [head, seq, id, rows] = match;
  return { seq: Number(seq), id: id as string, rows: Number(rows), payload: Buffer.from(bytes.subarray(start + head.length, end - 1)) };
}

export const spoolFormat: RecordFormat = {
  seqOf: (bytes, start, end) => {
    const match = /^\{"seq":(\d{1,16}),/.exec(bytes.toString('latin1', start, Math.min(end, start + 32)));
    const seq = match === null ? Number.NaN : Number(match[1]);
    return Number.isSafeInteger(seq) ? seq : null;
  },
  timeOf: (bytes, start, end) => {
    // Inside a JSON string every quote is escaped, so these bytes can only be the key.
    const at = bytes.indexOf(TS, start);
    if (at === -1 || at >= end) return null;
    const time = Number.parseInt(bytes.toString('latin1', at + TS.length, Math.min(end, at + TS.length + 17)), 10);
    return Number.isFinite(time) ? time : null;
  },
};
