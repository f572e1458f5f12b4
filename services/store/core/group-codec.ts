// The codec of a block's columns. Values stand series by series, in groups of up to 256, whatever series they belong to, and
// every group can be read by itself. It gives back exactly the numbers that came in.
//
//   column   := kind, [null bitmap], body          kind: low 3 bits what the body is, bit 3 that some values are null
//   body     := nothing                            every value is null
//             | value                              every known value is the same
//             | [shift] integers, [integers]       whole numbers (divided by 2^shift) or hundredths: the first of each series,
//                                                  then the differences of the others from the one before
//             | float64*                           anything else
//   integers := base (zigzag), width, packed       offsets from the base, `width` bits each
//                                                  width has bit 7 set when most are zero: then a bitmap says which are not,
//                                                  and only those are packed
//
// Null is NaN in memory. Packing across series makes short series cheap: what a column costs is set by how its values spread,
// not by how many series there are.

import type { Aggregate } from './aggregate.ts';

const KIND_NULL = 0;
const KIND_SAME = 1;
const KIND_INTEGER = 2;
const KIND_HUNDREDTHS = 3;
const KIND_FLOAT = 4;
const KIND_MASK = 7;
const SOME_NULL = 8;

/** Values of a column that are encoded together, at most. */
export const GROUP = 256;
const SPARSE = 0x80;
/** Bits of an integer that four bytes have for certain, wherever in the first it begins. */
const NARROW = 25;
const WORD = 2 ** 32;
/** Widest spread and largest base of packed integers: all arithmetic on them is exact. */
const SPREAD_MAX = 2 ** 52;
const BASE_MAX = 2 ** 51;

/** Bits that are set in a byte. */
const BITS = Uint8Array.from({ length: 256 }, (_, byte) => {
  let count = 0;
  for (let rest = byte; rest > 0; rest >>>= 1) count += rest & 1;
  return count;
});

/** Bytes that grow. What is written is only valid until the next {@link ByteWriter.clear}. */
export class ByteWriter {
  bytes: Uint8Array;
  length = 0;
  private view: DataView;

  constructor(capacity = 4096) {
    this.bytes = new Uint8Array(capacity);
    this.view = new DataView(this.bytes.buffer);
  }

  clear(): void {
    this.length = 0;
  }

  /** A copy of what was written. */
  packed(): Packed {
    const bytes = new Uint8Array(new ArrayBuffer(this.length + READ_AHEAD_BYTES), 0, this.length);
    bytes.set(this.bytes.subarray(0, this.length));
    return packedOf(bytes);
  }

  /** Makes sure that `count` more bytes fit. */
  reserve(count: number): void {
    if (this.length + count <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(this.bytes.length * 2, this.length + count));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
    this.view = new DataView(grown.buffer);
  }

  byte(value: number): void {
    this.reserve(1);
    this.bytes[this.length++] = value;
  }

  /** An integer from 0 to 2^53, 7 bits a byte. */
  varint(value: number): void {
    this.reserve(8);
    let rest = value;
    while (rest >= 0x80) {
      this.bytes[this.length++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.bytes[this.length++] = rest;
  }

  /** An integer of either sign below 2^52 in size. */
  zigzag(value: number): void {
    this.varint(value < 0 ? -value * 2 - 1 : value * 2);
  }

  float(value: number): void {
    this.reserve(8);
    this.view.setFloat64(this.length, value, true);
    this.length += 8;
  }

  /** A value by the shortest of: integer, hundredths, float. */
  value(value: number): void {
    if (isCount(value)) {
      this.byte(KIND_INTEGER);
      this.varint(value);
    } else if (isHundredths(value)) {
      this.byte(KIND_HUNDREDTHS);
      this.varint(Math.round(value * 100));
    } else {
      this.byte(KIND_FLOAT);
      this.float(value);
    }
  }
}

/** Four bytes are read at once, so there are some more behind the last. */
export const READ_AHEAD_BYTES = 3;

/** What {@link ByteWriter} wrote, ready to be read. */
export interface Packed {
  readonly bytes: Uint8Array;
  /** Of the same bytes, and {@link READ_AHEAD_BYTES} behind them. */
  readonly view: DataView;
}

/** @param bytes which lie in a buffer that goes on for {@link READ_AHEAD_BYTES} */
export function packedOf(bytes: Uint8Array): Packed {
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length + READ_AHEAD_BYTES) };
}

/** Reads what {@link ByteWriter} wrote. */
export class ByteReader {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  offset: number;

  constructor({ bytes, view }: Packed, offset = 0) {
    this.bytes = bytes;
    this.view = view;
    this.offset = offset;
  }

  byte(): number {
    return this.bytes[this.offset++] as number;
  }

  varint(): number {
    const first = this.bytes[this.offset++] as number;
    if (first < 0x80) return first;
    let value = first & 0x7f;
    let scale = 0x80;
    for (;;) {
      const byte = this.bytes[this.offset++] as number;
      if (byte < 0x80) return value + byte * scale;
      value += (byte & 0x7f) * scale;
      scale *= 0x80;
    }
  }

  zigzag(): number {
    const value = this.varint();
    if (value < 0x80) return (value & 1) === 0 ? value >>> 1 : -((value + 1) >>> 1);
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  float(): number {
    const value = this.view.getFloat64(this.offset, true);
    this.offset += 8;
    return value;
  }

  value(): number {
    switch (this.byte()) {
      case KIND_INTEGER:
        return this.varint();
      case KIND_HUNDREDTHS:
        return this.varint() / 100;
      default:
        return this.float();
    }
  }

  /** The integer of up to 32 bits that begins at a bit. */
  bitsFrom(bit: number, width: number): number {
    const { view } = this;
    if (width <= NARROW) return (view.getUint32(bit >>> 3, true) >>> (bit & 7)) & ((1 << width) - 1);
    const low = (view.getUint32(bit >>> 3, true) >>> (bit & 7)) & 0xffff;
    const rest = bit + 16;
    return low + ((view.getUint32(rest >>> 3, true) >>> (rest & 7)) & ((1 << (width - 16)) - 1)) * 0x1_0000;
  }

  /** Steps over a bitmap. @returns where it starts, for {@link ByteReader.bit} */
  skipBitmap(count: number): number {
    const start = this.offset;
    this.offset += (count + 7) >>> 3;
    return start;
  }

  bit(bitmap: number, index: number): number {
    return ((this.bytes[bitmap + (index >>> 3)] as number) >>> (index & 7)) & 1;
  }

  /** Bits that are set from one index on, and before another. */
  bitsBetween(bitmap: number, from: number, to: number): number {
    const { bytes } = this;
    const first = bitmap + (from >>> 3);
    const last = bitmap + (to >>> 3);
    const ending = (to & 7) === 0 ? 0 : (bytes[last] as number) & ((1 << (to & 7)) - 1);
    // What lies before `from` in its byte is shifted out of it.
    if (first === last) return BITS[ending >>> (from & 7)] as number;
    let count = (BITS[(bytes[first] as number) >>> (from & 7)] as number) + (BITS[ending] as number);
    for (let at = first + 1; at < last; at++) count += BITS[bytes[at] as number] as number;
    return count;
  }
}

/** In the place of where a kind is. */
const COMPLETE = -1;
const firsts = new Float64Array(GROUP);
const rests = new Float64Array(GROUP);
const offsets = new Float64Array(GROUP);
const partValues = new Float64Array(GROUP);

/** Writes a column of which every value is null. */
export function encodeNulls(writer: ByteWriter): void {
  writer.byte(KIND_NULL);
}

/**
 * Writes the first `count` of `values`, at most {@link GROUP}; NaN is null. They are overwritten.
 * @param starts 1 where a series begins; the first is always taken as one
 */
export function encodeColumn(writer: ByteWriter, values: Float64Array, starts: Uint8Array, count: number): void {
  const kindAt = startColumn(writer, values, starts, count, 1);
  if (kindAt === COMPLETE) return;
  if (areCounts(values, count)) writeWhole(writer, kindAt, values, starts, count, 1);
  else if (areHundredths(values, count)) {
    for (let i = 0; i < count; i++) values[i] = Math.round((values[i] as number) * 100);
    writeWhole(writer, kindAt, values, starts, count, 100);
  } else writeFloats(writer, kindAt, values, count);
}

/**
 * Writes the column that {@link encodeColumn} would.
 * @param values whole numbers, which are overwritten
 * @param divisor of each: 100 when they count hundredths, otherwise a power of 2 up to 1 by which they stay whole, and below 2^53
 */
export function encodeWhole(writer: ByteWriter, values: Float64Array, starts: Uint8Array, count: number, divisor: number): void {
  const kindAt = startColumn(writer, values, starts, count, divisor);
  if (kindAt !== COMPLETE) writeWhole(writer, kindAt, values, starts, count, divisor);
}

/**
 * Writes a kind and which values are null, and all of the column when there is no more to it. Nulls are overwritten by what packs well.
 * @returns where the kind is, to be completed; or {@link COMPLETE}
 */
function startColumn(writer: ByteWriter, values: Float64Array, starts: Uint8Array, count: number, divisor: number): number {
  let known = 0;
  let same = 0;
  let isSame = true;
  for (let i = 0; i < count; i++) {
    const value = values[i] as number;
    // biome-ignore lint/suspicious/noSelfCompare: the fastest test for NaN
    if (value !== value) continue;
    if (known++ === 0) same = value;
    else if (value !== same) isSame = false;
  }
  if (known === 0) {
    encodeNulls(writer);
    return COMPLETE;
  }
  const kindAt = writer.length;
  writer.byte(known < count ? SOME_NULL : 0);
  if (known < count) writeKnown(writer, values, count);
  if (isSame) {
    completeKind(writer, kindAt, KIND_SAME);
    writer.value(same / divisor);
    return COMPLETE;
  }
  if (known < count) fillNulls(values, starts, count);
  return kindAt;
}

function completeKind(writer: ByteWriter, kindAt: number, kind: number): void {
  writer.bytes[kindAt] = (writer.bytes[kindAt] as number) | kind;
}

function writeWhole(writer: ByteWriter, kindAt: number, values: Float64Array, starts: Uint8Array, count: number, divisor: number): void {
  const bodyAt = writer.length;
  if (divisor === 100 && !areMultiples(values, count, 100)) {
    if (encodeSeries(writer, values, starts, count)) {
      completeKind(writer, kindAt, KIND_HUNDREDTHS);
      return;
    }
    for (let i = 0; i < count; i++) values[i] = (values[i] as number) / 100;
  } else {
    // What shares low bits that are zero is written without them.
    const known = divisor === 100 ? 0 : -Math.log2(divisor);
    if (divisor === 100) for (let i = 0; i < count; i++) values[i] = (values[i] as number) / 100;
    let lowBits = 0;
    for (let i = 0; i < count; i++) lowBits |= values[i] as number;
    const shift = trailingZeros(lowBits);
    if (shift > 0) scale(values, count, 2 ** -shift);
    writer.byte(shift + known);
    if (encodeSeries(writer, values, starts, count)) {
      completeKind(writer, kindAt, KIND_INTEGER);
      return;
    }
    scale(values, count, 2 ** (shift + known));
  }
  writer.length = bodyAt;
  writeFloats(writer, kindAt, values, count);
}

function scale(values: Float64Array, count: number, factor: number): void {
  for (let i = 0; i < count; i++) values[i] = (values[i] as number) * factor;
}

function writeFloats(writer: ByteWriter, kindAt: number, values: Float64Array, count: number): void {
  completeKind(writer, kindAt, KIND_FLOAT);
  for (let i = 0; i < count; i++) writer.float(values[i] as number);
}

/** Steps over what {@link encodeNulls} wrote. */
export function stepOverNulls(reader: ByteReader): void {
  reader.offset++;
}

/** Reads a column of `count` values into the start of `out`. @param starts as given to {@link encodeColumn} */
export function decodeColumn(reader: ByteReader, out: Float64Array, starts: Uint8Array, count: number): void {
  const kind = reader.byte();
  const nulls = (kind & SOME_NULL) === 0 ? -1 : reader.skipBitmap(count);
  switch (kind & KIND_MASK) {
    case KIND_NULL:
      out.fill(Number.NaN, 0, count);
      return;
    case KIND_SAME:
      out.fill(reader.value(), 0, count);
      break;
    case KIND_INTEGER: {
      const factor = 2 ** reader.byte();
      decodeSeries(reader, out, starts, count);
      if (factor !== 1) for (let i = 0; i < count; i++) out[i] = (out[i] as number) * factor;
      break;
    }
    case KIND_HUNDREDTHS:
      decodeSeries(reader, out, starts, count);
      for (let i = 0; i < count; i++) out[i] = (out[i] as number) / 100;
      break;
    default:
      for (let i = 0; i < count; i++) out[i] = reader.float();
  }
  if (nulls !== -1) for (let i = 0; i < count; i++) if (reader.bit(nulls, i) === 0) out[i] = Number.NaN;
}

/**
 * Writes integers of either sign, series by series.
 * @returns false when they spread too far to be packed; what was written is then worthless
 */
export function encodeSeries(writer: ByteWriter, values: Float64Array, starts: Uint8Array, count: number): boolean {
  let series = 0;
  let others = 0;
  let previous = 0;
  for (let i = 0; i < count; i++) {
    const value = values[i] as number;
    if (i === 0 || starts[i] === 1) firsts[series++] = value;
    else rests[others++] = value - previous;
    previous = value;
  }
  return encodeIntegers(writer, firsts, series) && (others === 0 || encodeIntegers(writer, rests, others));
}

/** Reads what {@link encodeSeries} wrote into the start of `out`. */
export function decodeSeries(reader: ByteReader, out: Float64Array, starts: Uint8Array, count: number): void {
  let series = 0;
  for (let i = 0; i < count; i++) if (i === 0 || starts[i] === 1) series++;
  if (series === count) {
    decodeIntegers(reader, out, count);
    return;
  }
  decodeIntegers(reader, firsts, series);
  decodeIntegers(reader, rests, count - series);
  let first = 0;
  let rest = 0;
  let value = 0;
  for (let i = 0; i < count; i++) {
    value = i === 0 || starts[i] === 1 ? (firsts[first++] as number) : value + (rests[rest++] as number);
    out[i] = value;
  }
}

function encodeIntegers(writer: ByteWriter, values: Float64Array, count: number): boolean {
  let least = Number.POSITIVE_INFINITY;
  let most = Number.NEGATIVE_INFINITY;
  let leastOther = Number.POSITIVE_INFINITY;
  let mostOther = Number.NEGATIVE_INFINITY;
  let others = 0;
  for (let i = 0; i < count; i++) {
    const value = values[i] as number;
    if (value < least) least = value;
    if (value > most) most = value;
    if (value === 0) continue;
    others++;
    if (value < leastOther) leastOther = value;
    if (value > mostOther) mostOther = value;
  }
  if (most - least > SPREAD_MAX || Math.abs(least) >= BASE_MAX) return false;
  const width = bitWidth(most - least);
  const otherWidth = others === 0 ? 0 : bitWidth(mostOther - leastOther);
  if (count + others * otherWidth >= count * width) {
    writer.zigzag(least);
    writer.byte(width);
    for (let i = 0; i < count; i++) offsets[i] = (values[i] as number) - least;
    pack(writer, offsets, count, width);
    return true;
  }
  writer.zigzag(leastOther);
  writer.byte(otherWidth | SPARSE);
  const bitmap = startBitmap(writer, count);
  let next = 0;
  for (let i = 0; i < count; i++) {
    const value = values[i] as number;
    if (value === 0) continue;
    setBit(writer, bitmap, i);
    offsets[next++] = value - leastOther;
  }
  pack(writer, offsets, others, otherWidth);
  return true;
}

/** Part of a group: neighbours that belong to one series, from where it begins in the group. */
export interface GroupPart {
  /** Values of the group, and series that begin in it. */
  readonly count: number;
  readonly series: number;
  /** The part's first value, how many it has, and how many series begin before it. */
  readonly first: number;
  readonly length: number;
  readonly seriesBefore: number;
}

/** Reads a part of a column into `out` from `at` on, and steps over the rest. */
export function decodeColumnPart(reader: ByteReader, part: GroupPart, out: Float64Array, at: number): void {
  const { count, first, length } = part;
  const kind = reader.byte();
  const nulls = (kind & SOME_NULL) === 0 ? -1 : reader.skipBitmap(count);
  switch (kind & KIND_MASK) {
    case KIND_NULL:
      out.fill(Number.NaN, at, at + length);
      return;
    case KIND_SAME:
      out.fill(reader.value(), at, at + length);
      break;
    case KIND_INTEGER: {
      const factor = 2 ** reader.byte();
      decodeSeriesPart(reader, part, out, at);
      if (factor !== 1) for (let i = at; i < at + length; i++) out[i] = (out[i] as number) * factor;
      break;
    }
    case KIND_HUNDREDTHS:
      decodeSeriesPart(reader, part, out, at);
      for (let i = at; i < at + length; i++) out[i] = (out[i] as number) / 100;
      break;
    default:
      floatsPart(reader, part, out, at);
  }
  if (nulls !== -1) for (let i = 0; i < length; i++) if (reader.bit(nulls, first + i) === 0) out[at + i] = Number.NaN;
}

function floatsPart(reader: ByteReader, { count, first, length }: GroupPart, out: Float64Array, at: number): void {
  const end = reader.offset + count * 8;
  reader.offset += first * 8;
  for (let i = at; i < at + length; i++) out[i] = reader.float();
  reader.offset = end;
}

/**
 * Adds a part of a column to an aggregate, and steps over the rest.
 * @returns how many of its values are known
 */
export function addColumnPart(reader: ByteReader, part: GroupPart, into: Aggregate): number {
  const { count, first, length } = part;
  const kind = reader.byte();
  const nulls = (kind & SOME_NULL) === 0 ? -1 : reader.skipBitmap(count);
  let divisor = 1;
  switch (kind & KIND_MASK) {
    case KIND_NULL:
      return 0;
    case KIND_SAME: {
      const value = reader.value();
      const known = nulls === -1 ? length : reader.bitsBetween(nulls, first, first + length);
      if (known > 0) into.addTotals(known, value * known, value, value);
      return known;
    }
    case KIND_INTEGER:
      divisor = 2 ** -reader.byte();
      decodeSeriesPart(reader, part, partValues, 0);
      break;
    case KIND_HUNDREDTHS:
      divisor = 100;
      decodeSeriesPart(reader, part, partValues, 0);
      break;
    default:
      floatsPart(reader, part, partValues, 0);
  }
  if (nulls !== -1) for (let i = 0; i < length; i++) if (reader.bit(nulls, first + i) === 0) partValues[i] = Number.NaN;
  return into.addValues(partValues, length, divisor);
}

/** Reads a part of what {@link encodeSeries} wrote into `out` from `at` on, and steps over the rest. */
export function decodeSeriesPart(reader: ByteReader, part: GroupPart, out: Float64Array, at: number): void {
  const { count, series, first, length, seriesBefore } = part;
  out[at] = integerAt(reader, series, seriesBefore);
  if (series === count) return;
  decodeIntegersPart(reader, count - series, first - seriesBefore, length - 1, out, at + 1);
  for (let i = at + 1; i < at + length; i++) out[i] = (out[i] as number) + (out[i - 1] as number);
}

/** Steps over what {@link encodeSeries} wrote. */
export function stepOverSeries(reader: ByteReader, { count, series }: Pick<GroupPart, 'count' | 'series'>): void {
  stepOverIntegers(reader, series);
  if (series < count) stepOverIntegers(reader, count - series);
}

function stepOverIntegers(reader: ByteReader, count: number): void {
  reader.zigzag();
  const width = reader.byte();
  if ((width & SPARSE) === 0) stepOverPacked(reader, count, width);
  else stepOverPacked(reader, reader.bitsBetween(reader.skipBitmap(count), 0, count), width & ~SPARSE);
}

/** Reads one of `count` integers, and steps over all of them. */
function integerAt(reader: ByteReader, count: number, index: number): number {
  const base = reader.zigzag();
  const width = reader.byte();
  if ((width & SPARSE) === 0) return base + packedAt(reader, count, width, index);
  const bitmap = reader.skipBitmap(count);
  const before = reader.bitsBetween(bitmap, 0, index);
  const others = before + reader.bitsBetween(bitmap, index, count);
  const isZero = reader.bit(bitmap, index) === 0;
  const offset = packedAt(reader, others, width & ~SPARSE, isZero ? 0 : before);
  return isZero ? 0 : base + offset;
}

/** Unpacks one of `count` integers, 0 when there are none, and steps over all of them. */
function packedAt(reader: ByteReader, count: number, width: number, index: number): number {
  if (width === 0 || count === 0) return 0;
  const low = Math.min(width, 32);
  const value = reader.bitsFrom(reader.offset * 8 + index * low, low);
  const highAt = reader.offset + ((count * low + 7) >>> 3);
  stepOverPacked(reader, count, width);
  return width <= 32 ? value : value + reader.bitsFrom(highAt * 8 + index * (width - 32), width - 32) * WORD;
}

function stepOverPacked(reader: ByteReader, count: number, width: number): void {
  reader.offset += (count * Math.min(width, 32) + 7) >>> 3;
  if (width > 32) reader.offset += (count * (width - 32) + 7) >>> 3;
}

function decodeIntegersPart(reader: ByteReader, count: number, first: number, length: number, out: Float64Array, at: number): void {
  const base = reader.zigzag();
  const width = reader.byte();
  if ((width & SPARSE) === 0) {
    unpackPart(reader, count, width, first, length, base, out, at);
    return;
  }
  const bitmap = reader.skipBitmap(count);
  const before = reader.bitsBetween(bitmap, 0, first);
  const within = reader.bitsBetween(bitmap, first, first + length);
  const others = before + within + reader.bitsBetween(bitmap, first + length, count);
  unpackPart(reader, others, width & ~SPARSE, before, within, base, offsets, 0);
  for (let i = 0, next = 0; i < length; i++) out[at + i] = reader.bit(bitmap, first + i) === 1 ? (offsets[next++] as number) : 0;
}

/** Unpacks some of `count` integers, and steps over all of them. */
function unpackPart(
  reader: ByteReader,
  count: number,
  width: number,
  first: number,
  length: number,
  base: number,
  out: Float64Array,
  at: number,
): void {
  const low = Math.min(width, 32);
  unpackWords(reader, out, at, length, low, base, 1, reader.offset * 8 + first * low);
  if (width > 32) {
    const high = width - 32;
    unpackWords(reader, out, at, length, high, 0, WORD, (reader.offset + ((count * low + 7) >>> 3)) * 8 + first * high);
  }
  stepOverPacked(reader, count, width);
}

function decodeIntegers(reader: ByteReader, out: Float64Array, count: number): void {
  const base = reader.zigzag();
  const width = reader.byte();
  if ((width & SPARSE) === 0) {
    unpackPart(reader, count, width, 0, count, base, out, 0);
    return;
  }
  const bitmap = reader.skipBitmap(count);
  const others = reader.bitsBetween(bitmap, 0, count);
  unpackPart(reader, others, width & ~SPARSE, 0, others, base, offsets, 0);
  for (let i = 0, next = 0; i < count; i++) out[i] = reader.bit(bitmap, i) === 1 ? (offsets[next++] as number) : 0;
}

/** Packs integers of `width` bits, the first in the lowest bits; of wide ones, the low 32 bits of all, then the rest. */
function pack(writer: ByteWriter, values: Float64Array, count: number, width: number): void {
  if (width <= 32) {
    packWords(writer, values, count, width, 1);
    return;
  }
  packWords(writer, values, count, 32, 1);
  packWords(writer, values, count, width - 32, WORD);
}

function packWords(writer: ByteWriter, values: Float64Array, count: number, width: number, divisor: number): void {
  if (width === 0) return;
  writer.reserve((count * width + 7) >>> 3);
  const { bytes } = writer;
  let offset = writer.length;
  let bits = 0;
  let held = 0;
  // Two steps for wide values: shifts work on 32 bits, and up to 7 bits are held over.
  const low = width > 24 ? 16 : width;
  const high = width - low;
  for (let i = 0; i < count; i++) {
    const value = (divisor === 1 ? (values[i] as number) : Math.floor((values[i] as number) / divisor)) >>> 0;
    held |= (high === 0 ? value : value & 0xffff) << bits;
    bits += low;
    while (bits >= 8) {
      bytes[offset++] = held;
      held >>>= 8;
      bits -= 8;
    }
    if (high === 0) continue;
    held |= (value >>> 16) << bits;
    bits += high;
    while (bits >= 8) {
      bytes[offset++] = held;
      held >>>= 8;
      bits -= 8;
    }
  }
  if (bits > 0) bytes[offset++] = held;
  writer.length = offset;
}

/**
 * Unpacks `count` integers of `width` bits from a bit on into `out`.
 * @param factor 1: each plus `base` is put into `out`; above: each times it is added to what is there
 */
function unpackWords(
  reader: ByteReader,
  out: Float64Array,
  at: number,
  count: number,
  width: number,
  base: number,
  factor: number,
  fromBit: number,
): void {
  if (width === 0) {
    out.fill(base, at, at + count);
    return;
  }
  const { view } = reader;
  let bit = fromBit;
  if (width <= NARROW && factor === 1) {
    const mask = (1 << width) - 1;
    for (let i = at; i < at + count; i++, bit += width) out[i] = base + ((view.getUint32(bit >>> 3, true) >>> (bit & 7)) & mask);
    return;
  }
  for (let i = at; i < at + count; i++, bit += width) {
    const value = reader.bitsFrom(bit, width);
    out[i] = factor === 1 ? base + value : (out[i] as number) + value * factor;
  }
}

function startBitmap(writer: ByteWriter, count: number): number {
  const size = (count + 7) >>> 3;
  writer.reserve(size);
  const start = writer.length;
  writer.bytes.fill(0, start, start + size);
  writer.length += size;
  return start;
}

function setBit(writer: ByteWriter, bitmap: number, index: number): void {
  const at = bitmap + (index >>> 3);
  writer.bytes[at] = (writer.bytes[at] as number) | (1 << (index & 7));
}

function writeKnown(writer: ByteWriter, values: Float64Array, count: number): void {
  writer.reserve((count + 7) >>> 3);
  const { bytes } = writer;
  let held = 0;
  for (let i = 0; i < count; i++) {
    const value = values[i] as number;
    // biome-ignore lint/suspicious/noSelfCompare: the fastest test for NaN
    if (value === value) held |= 1 << (i & 7);
    if ((i & 7) !== 7) continue;
    bytes[writer.length++] = held;
    held = 0;
  }
  if ((count & 7) !== 0) bytes[writer.length++] = held;
}

/** Puts a neighbour of the same series in the place of each null, which costs nothing; 0 where the series has none. */
function fillNulls(values: Float64Array, starts: Uint8Array, count: number): void {
  let near = Number.NaN;
  for (let i = 0; i < count; i++) {
    const value = values[i] as number;
    // biome-ignore lint/suspicious/noSelfCompare: the fastest test for NaN
    if (value === value || starts[i] === 1) near = value;
    else values[i] = near;
  }
  near = 0;
  for (let i = count - 1; i >= 0; i--) {
    const value = values[i] as number;
    // biome-ignore lint/suspicious/noSelfCompare: the fastest test for NaN
    if (value === value) near = value;
    else values[i] = near;
    if (starts[i] === 1) near = 0;
  }
}

/** A whole number from 0 to 2^53 - 1. */
function isCount(value: number): boolean {
  return value >= 0 && value <= Number.MAX_SAFE_INTEGER && Math.floor(value) === value;
}

function isHundredths(value: number): boolean {
  const hundredths = Math.round(value * 100);
  return isCount(hundredths) && hundredths / 100 === value;
}

function areCounts(values: Float64Array, count: number): boolean {
  for (let i = 0; i < count; i++) if (!isCount(values[i] as number)) return false;
  return true;
}

function areMultiples(values: Float64Array, count: number, divisor: number): boolean {
  for (let i = 0; i < count; i++) if ((values[i] as number) % divisor !== 0) return false;
  return true;
}

function areHundredths(values: Float64Array, count: number): boolean {
  for (let i = 0; i < count; i++) if (!isHundredths(values[i] as number)) return false;
  return true;
}

/** Of the low 32 bits; 31 when all of them are zero. */
function trailingZeros(lowBits: number): number {
  return lowBits === 0 ? 31 : 31 - Math.clz32(lowBits & -lowBits);
}

/** Bits for an integer from 0 to 2^53 - 1. */
function bitWidth(value: number): number {
  return value >= WORD ? 32 + bitWidth(Math.floor(value / WORD)) : 32 - Math.clz32(value);
}
