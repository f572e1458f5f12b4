// Writes rows as bytes: once for every sample that leaves memory, so without a string or an object in between.
// What it writes is the row of the contract; a property test holds it equal to what JSON.stringify writes.

import { ALL_METRIC_NAMES, METRIC_NAMES, STATES } from '#shared/contract/metrics';
import { LINE_BREAK } from '#shared/contract/row';

const ZERO = 0x30;
/** Digits that fit arithmetic on 32 bits. */
const BILLION = 1_000_000_000;

const bytesOf = (text: string): Uint8Array => Buffer.from(text, 'latin1');
const STATE_KEYS = STATES.map((state) => bytesOf(`,"state":"${state}","pid":`));
const STARTED_KEY = bytesOf(',"started":');
const TIMESTAMP_KEY = bytesOf(',"sample":{"timestamp":"');
const METRIC_KEYS = ALL_METRIC_NAMES.map((name, i) => bytesOf(`${i === 0 ? '"' : ''},"${name}":`));
const NULL = bytesOf('null');
const END = Uint8Array.of(0x7d, 0x7d, LINE_BREAK);
/** Above the longest row: two names of at most 255 bytes as subject tokens, and numbers of at most 24 characters. */
const ROW_BYTES_MAX = 4_096;

export class RowWriter {
  length = 0;
  private readonly bytes: Buffer;
  private readonly bytesMax: number;

  /** @param bytesMax of all rows that are held at a time */
  constructor(bytesMax: number) {
    this.bytes = Buffer.allocUnsafe(bytesMax + ROW_BYTES_MAX);
    this.bytesMax = bytesMax;
  }

  /**
   * Writes a row with its line break.
   * @param prefix from `rowPrefix`, as bytes
   * @param state code: index into `STATES`
   * @param timestamp ISO 8601 in UTC with milliseconds, as bytes
   * @param metrics columns in table order; the row's values are at `row`, NaN means not known
   * @returns false, with nothing written, when it does not fit
   */
  row(
    prefix: Uint8Array,
    seq: number,
    state: number,
    pid: number,
    started: number,
    timestamp: Uint8Array,
    metrics: readonly Float64Array[],
    row: number,
  ): boolean {
    const start = this.length;
    this.put(prefix);
    this.number(seq);
    this.put(STATE_KEYS[state] as Uint8Array);
    this.number(pid);
    this.put(STARTED_KEY);
    this.number(started);
    this.put(TIMESTAMP_KEY);
    this.put(timestamp);
    for (let metric = 0; metric < metrics.length; metric++) {
      const value = (metrics[metric] as Float64Array)[row] as number;
      // Extra metrics are written where they are known.
      if (metric >= METRIC_NAMES.length && Number.isNaN(value)) continue;
      this.put(METRIC_KEYS[metric] as Uint8Array);
      this.number(value);
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

  /** Short pieces: copying them byte by byte is faster than a call that copies. */
  private put(piece: Uint8Array): void {
    const { bytes } = this;
    let at = this.length;
    for (let i = 0; i < piece.length; i++) bytes[at++] = piece[i] as number;
    this.length = at;
  }

  private number(value: number): void {
    const hundredths = Math.round(value * 100);
    if (Number.isNaN(value)) this.put(NULL);
    else if (value >= 0 && value <= Number.MAX_SAFE_INTEGER && Math.floor(value) === value) this.integer(value);
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
