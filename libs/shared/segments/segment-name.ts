// File names of segments. A name says what is inside, so that order and gaps show in `ls`:
//   <prefix>-<log, 13 digits>-<first seq, 16 digits>.jsonl               raw: being appended to, or waiting to be sealed
//   <prefix>-<log, 13 digits>-<first seq>-<last seq, 16 digits>.jsonl.gz sealed
// Whatever does not parse here is somebody else's: never counted, never deleted.

export interface SegmentName {
  /** Identity of the log the records belong to. */
  readonly log: number;
  readonly first: number;
  /** Null for a raw segment: its end is known only from its contents. */
  readonly last: number | null;
}

export const TEMPORARY_SUFFIX = '.tmp';
/** The largest number 13 digits hold. */
export const LOG_MAX = 9_999_999_999_999;

const PREFIX = /^[A-Za-z0-9_]+$/;

export function checkPrefix(prefix: string): void {
  if (!PREFIX.test(prefix)) throw new RangeError(`segment prefix ${JSON.stringify(prefix)}: only letters, digits and _`);
}

export function rawName(prefix: string, log: number, first: number): string {
  return `${prefix}-${digits(log, 13)}-${digits(first, 16)}.jsonl`;
}

export function sealedName(prefix: string, log: number, first: number, last: number): string {
  return `${prefix}-${digits(log, 13)}-${digits(first, 16)}-${digits(last, 16)}.jsonl.gz`;
}

/** Null when the name is not one that this prefix's segments have. */
export function parseSegmentName(prefix: string, name: string): SegmentName | null {
  if (!name.startsWith(`${prefix}-`)) return null;
  const match = /^(\d{13})-(\d{16})(?:\.jsonl|-(\d{16})\.jsonl\.gz)$/.exec(name.slice(prefix.length + 1));
  if (match === null) return null;
  const log = Number(match[1]);
  const first = Number(match[2]);
  const last = match[3] === undefined ? null : Number(match[3]);
  if (!Number.isSafeInteger(first) || (last !== null && (!Number.isSafeInteger(last) || last < first))) return null;
  return { log, first, last };
}

/** Whether the name is that of a segment whose sealing was interrupted. */
export function isTemporaryName(prefix: string, name: string): boolean {
  return name.endsWith(TEMPORARY_SUFFIX) && parseSegmentName(prefix, name.slice(0, -TEMPORARY_SUFFIX.length)) !== null;
}

function digits(value: number, width: number): string {
  return String(value).padStart(width, '0');
}
