// Writes rows as bytes: once for every sample that leaves memory, so without a string or an object in between.
// What it writes is the row of the contract; a property test holds it equal to what JSON.stringify writes.

import { ALL_METRIC_NAMES, METRIC_NAMES, STATES } from '#shared/contract/metrics';
import { type MetricColumn, NULL_WORD } from './columns.ts';

const ZERO = 0x30;
const HEX_DIGITS = Buffer.from('0123456789abcdef', 'latin1');
const SPACE = 0x20;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const TILDE = 0x7e;
/** Digits that fit arithmetic on 32 bits. */
const BILLION = 1_000_000_000;

/** ASCII text, eight bytes to a number, zeros at its end: writing such numbers is five times as fast as writing bytes. */
export interface Piece {
  readonly words: Float64Array;
  /** Of the text, without the zeros. */
  readonly length: number;
}

/** @param text ASCII: eight of its characters are never NaN, so as a number they stay as they are */
export function pieceOf(text: string): Piece {
  const bytes = Buffer.alloc(Math.ceil(text.length / 8) * 8);
  bytes.write(text, 'latin1');
  return { words: Float64Array.from({ length: bytes.length / 8 }, (_, i) => bytes.readDoubleLE(8 * i)), length: text.length };
}

const HASH_KEY = pieceOf('{"unit_hash":"');
const SEQ_KEY = pieceOf(',"seq":');
const STATE_KEYS = STATES.map((state) => pieceOf(`,"state":"${state}","pid":`));
const STARTED_KEY = pieceOf(',"started":');
const TIMESTAMP_KEY = pieceOf(',"sample":{"timestamp":"');
const METRIC_KEYS = ALL_METRIC_NAMES.map((name, i) => pieceOf(`${i === 0 ? '"' : ''},"${name}":`));
const NULL = pieceOf('null');
const END = pieceOf('}}\n');
/** Above the longest row: two names of at most 255 bytes as subject tokens, and numbers of at most 24 characters. */
const ROW_BYTES_MAX = 4_096;

/** What stands between the hash and the unit in every row of a host. */
export function hostPart(host: string): Uint8Array {
  return Buffer.from(`","host":${JSON.stringify(host)},"unit":`);
}

export class RowWriter {
  length = 0;
  private readonly bytes: Buffer;
  private readonly view: DataView;
  private readonly bytesMax: number;

  /** @param bytesMax of all rows that are held at a time */
  constructor(bytesMax: number) {
    this.bytes = Buffer.allocUnsafe(bytesMax + ROW_BYTES_MAX);
    this.view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length);
    this.bytesMax = bytesMax;
  }

  /**
   * Writes a row with its line break.
   * @param hashHigh the first eight hex digits as a number
   * @param hashLow the last eight
   * @param host from `hostPart`
   * @param state code: index into `STATES`
   * @param timestamp ISO 8601 in UTC with milliseconds
   * @param metrics columns in table order; the row's values are at `row`
   * @returns false, with nothing written, when it does not fit
   */
  row(
    hashHigh: number,
    hashLow: number,
    host: Uint8Array,
    unit: string,
    seq: number,
    state: number,
    pid: number,
    started: number,
    timestamp: Piece,
    metrics: readonly MetricColumn[],
    row: number,
  ): boolean {
    const start = this.length;
    this.put(HASH_KEY);
    this.hex(hashHigh);
    this.hex(hashLow);
    this.copy(host);
    this.name(unit);
    this.put(SEQ_KEY);
    this.number(seq);
    this.put(STATE_KEYS[state] as Piece);
    this.number(pid);
    this.put(STARTED_KEY);
    this.number(started);
    this.put(TIMESTAMP_KEY);
    this.put(timestamp);
    for (let metric = 0; metric < metrics.length; metric++) {
      const column = metrics[metric] as MetricColumn;
      const word = column.hasWords ? column.wordAt(row) : NULL_WORD;
      const value = column.hasWords ? Number.NaN : column.at(row);
      const isNull = word === NULL_WORD && Number.isNaN(value);
      // Extra metrics are written where they are known.
      if (isNull && metric >= METRIC_NAMES.length) continue;
      this.put(METRIC_KEYS[metric] as Piece);
      if (isNull) this.put(NULL);
      else if (!column.hasWords) this.number(value);
      else if (column.divisor === 100) this.hundredths(word);
      else this.integer(column.divisor === 1 ? word : word / column.divisor);
    }
    this.put(END);
    if (this.length <= this.bytesMax) return true;
    this.length = start;
    return false;
  }

  /** Takes the first `count` bytes away; what is behind them stays. */
  take(count: number): Uint8Array {
    const taken = Uint8Array.prototype.slice.call(this.bytes, 0, count);
    this.bytes.copyWithin(0, count, this.length);
    this.length -= count;
    return taken;
  }

  /** The zeros at the end of a piece are written too; what comes next is written over them. */
  private put({ words, length }: Piece): void {
    for (let i = 0, at = this.length; i < words.length; i++, at += 8) this.view.setFloat64(at, words[i] as number, true);
    this.length += length;
  }

  /** Some bytes: copying them one by one is faster than a call that copies. */
  private copy(some: Uint8Array): void {
    const { bytes } = this;
    let at = this.length;
    for (let i = 0; i < some.length; i++) bytes[at++] = some[i] as number;
    this.length = at;
  }

  /** As a JSON string. */
  private name(name: string): void {
    const start = this.length;
    this.bytes[this.length++] = QUOTE;
    if (this.ascii(name)) this.bytes[this.length++] = QUOTE;
    else this.length = start + this.bytes.write(JSON.stringify(name), start);
  }

  /** @returns false when there is a character that JSON escapes, or one of several bytes; what was written then is no name */
  private ascii(text: string): boolean {
    const { bytes } = this;
    let at = this.length;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code < SPACE || code > TILDE || code === QUOTE || code === BACKSLASH) return false;
      bytes[at++] = code;
    }
    this.length = at;
    return true;
  }

  /** @param word 32 bits */
  private hex(word: number): void {
    for (let shift = 28; shift >= 0; shift -= 4) this.bytes[this.length++] = HEX_DIGITS[(word >>> shift) & 0xf] as number;
  }

  private number(value: number): void {
    if (value >= 0 && value <= Number.MAX_SAFE_INTEGER && Math.floor(value) === value) {
      this.integer(value);
      return;
    }
    const hundredths = Math.round(value * 100);
    if (Number.isNaN(value)) this.put(NULL);
    else if (value >= 0 && hundredths < BILLION && hundredths / 100 === value) this.hundredths(hundredths);
    else this.length += this.bytes.write(`${value}`, this.length, 'latin1');
  }

  private integer(value: number): void {
    if (value < BILLION) {
      this.digits(value, digitsOf(value));
      return;
    }
    const high = Math.floor(value / BILLION);
    this.digits(high, digitsOf(high));
    this.digits(value - high * BILLION, 9);
  }

  /** The shortest form, as JavaScript writes it: `1.5`, not `1.50`. */
  private hundredths(value: number): void {
    const whole = Math.floor(value / 100);
    const rest = value - whole * 100;
    this.digits(whole, digitsOf(whole));
    if (rest === 0) return;
    this.bytes[this.length++] = 0x2e;
    if (rest % 10 === 0) this.digits(rest / 10, 1);
    else this.digits(rest, 2);
  }

  private digits(value: number, count: number): void {
    const { bytes } = this;
    let rest = value | 0;
    for (let at = this.length + count - 1; at >= this.length; at--) {
      const next = (rest / 10) | 0;
      bytes[at] = ZERO + rest - next * 10;
      rest = next;
    }
    this.length += count;
  }
}

/** @param value a whole number below 10^9 */
function digitsOf(value: number): number {
  if (value < 10) return 1;
  if (value < 100) return 2;
  if (value < 1_000) return 3;
  if (value < 10_000) return 4;
  if (value < 100_000) return 5;
  if (value < 1_000_000) return 6;
  if (value < 10_000_000) return 7;
  return value < 100_000_000 ? 8 : 9;
}
