// A run: the values of one column of one series in one block, in log order, as few bytes as they allow, and exactly
// the numbers that came in.
//
//   run   := kind, [null bitmap], body           kind: low 3 bits what the body is, bit 3 that some values are null
//   body  := nothing                             every value is null
//          | value                               every value is the same
//          | [shift] first, group*               integers (divided by 2^shift) or hundredths, as differences
//          | float64*                            anything else
//   group := smallest difference (zigzag), width, packed differences from it          up to 128 of them
//            width has bit 6 set when most differences are zero: then a bitmap says which are not, and only those are packed
//
// Null is NaN in memory. Differences are packed against the smallest of their group, so a steady counter costs nothing and
// one jump spoils 127 neighbours at most.

const KIND_NULL = 0;
const KIND_SAME = 1;
const KIND_INTEGER = 2;
const KIND_HUNDREDTHS = 3;
const KIND_FLOAT = 4;
const KIND_MASK = 7;
const SOME_NULL = 8;

const GROUP = 128;
const SPARSE = 0x40;
const PACKED_MAX = 0xffff_ffff;

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
      return;
    }
    const hundredths = Math.round(value * 100);
    if (isCount(hundredths) && hundredths / 100 === value) {
      this.byte(KIND_HUNDREDTHS);
      this.varint(hundredths);
    } else {
      this.byte(KIND_FLOAT);
      this.float(value);
    }
  }
}

/** Reads what {@link ByteWriter} wrote. */
export class ByteReader {
  private bytes: Uint8Array;
  private view: DataView;
  offset: number;

  constructor(bytes: Uint8Array, offset = 0) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.offset = offset;
  }

  byte(): number {
    return this.bytes[this.offset++] as number;
  }

  varint(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.bytes[this.offset++] as number;
      if (byte < 0x80) return value + byte * scale;
      value += (byte & 0x7f) * scale;
      scale *= 0x80;
    }
  }

  zigzag(): number {
    const value = this.varint();
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

  /** Steps over a bitmap. @returns where it starts, for {@link ByteReader.bit} */
  skipBitmap(count: number): number {
    const start = this.offset;
    this.offset += (count + 7) >>> 3;
    return start;
  }

  bit(bitmap: number, index: number): number {
    return ((this.bytes[bitmap + (index >>> 3)] as number) >>> (index & 7)) & 1;
  }

  /** Unpacks `count` integers of `width` bits into `out` from `at` on, adding `base` to each. */
  unpack(out: Float64Array, at: number, count: number, width: number, base: number): void {
    if (width === 0) {
      out.fill(base, at, at + count);
      return;
    }
    const { bytes } = this;
    let offset = this.offset;
    let bits = 0;
    let held = 0;
    // Two steps for wide values: shifts work on 32 bits, and up to 7 bits are held over.
    const low = width > 24 ? 16 : width;
    const high = width - low;
    const lowMask = (1 << low) - 1;
    const highMask = high === 0 ? 0 : (1 << high) - 1;
    for (let i = at; i < at + count; i++) {
      while (bits < low) {
        held |= (bytes[offset++] as number) << bits;
        bits += 8;
      }
      let value = held & lowMask;
      held >>>= low;
      bits -= low;
      if (high > 0) {
        while (bits < high) {
          held |= (bytes[offset++] as number) << bits;
          bits += 8;
        }
        value += (held & highMask) * 0x10000;
        held >>>= high;
        bits -= high;
      }
      out[i] = base + value;
    }
    this.offset = offset;
  }
}

/** Packs integers of `width` bits, the first in the lowest bits. */
function pack(writer: ByteWriter, values: Float64Array, count: number, width: number): void {
  if (width === 0) return;
  writer.reserve((count * width + 7) >>> 3);
  const { bytes } = writer;
  let offset = writer.length;
  let bits = 0;
  let held = 0;
  const low = width > 24 ? 16 : width;
  const high = width - low;
  for (let i = 0; i < count; i++) {
    const value = values[i] as number;
    held |= (high === 0 ? value : value & 0xffff) << bits;
    bits += low;
    while (bits >= 8) {
      bytes[offset++] = held & 0xff;
      held >>>= 8;
      bits -= 8;
    }
    if (high === 0) continue;
    held |= Math.floor(value / 0x10000) << bits;
    bits += high;
    while (bits >= 8) {
      bytes[offset++] = held & 0xff;
      held >>>= 8;
      bits -= 8;
    }
  }
  if (bits > 0) bytes[offset++] = held & 0xff;
  writer.length = offset;
}

const differences = new Float64Array(GROUP);
let compacted = new Float64Array(GROUP);
let scaled = new Float64Array(GROUP);

/** Writes a run of the first `count` of `values`; NaN is null. */
export function encodeRun(writer: ByteWriter, values: Float64Array, count: number): void {
  let nulls = 0;
  // biome-ignore lint/suspicious/noSelfCompare: the fastest test for NaN
  for (let i = 0; i < count; i++) if ((values[i] as number) !== (values[i] as number)) nulls++;
  if (nulls === count) {
    writer.byte(KIND_NULL);
    return;
  }
  if (nulls === 0) {
    encodeKnown(writer, values, count, 0);
    return;
  }
  const known = count - nulls;
  if (compacted.length < known) compacted = new Float64Array(known * 2);
  const kindAt = writer.length;
  writer.byte(0);
  writeBitmap(writer, count, (i) => !Number.isNaN(values[i] as number));
  let next = 0;
  for (let i = 0; i < count; i++) {
    const value = values[i] as number;
    if (!Number.isNaN(value)) compacted[next++] = value;
  }
  // The bitmap stands between the kind and its body, so the kind is written twice: once in front, with the mark.
  const bodyAt = writer.length;
  encodeKnown(writer, compacted, known, SOME_NULL);
  writer.bytes[kindAt] = writer.bytes[bodyAt] as number;
  writer.bytes.copyWithin(bodyAt, bodyAt + 1, writer.length);
  writer.length--;
}

function encodeKnown(writer: ByteWriter, values: Float64Array, count: number, mark: number): void {
  const first = values[0] as number;
  let isSame = true;
  let isInteger = true;
  let isHundredths = true;
  let lowBits = 0;
  for (let i = 0; i < count; i++) {
    const value = values[i] as number;
    if (value !== first) isSame = false;
    if (isInteger) {
      if (isCount(value)) lowBits |= value;
      else isInteger = false;
    }
    if (!isInteger && isHundredths) {
      const hundredths = Math.round(value * 100);
      if (!isCount(hundredths) || hundredths / 100 !== value) isHundredths = false;
    }
    if (!isInteger && !isHundredths) break;
  }
  // A loop that ended early has not seen every value.
  if (isSame && (isInteger || isHundredths || allSame(values, count))) {
    writer.byte(KIND_SAME | mark);
    writer.value(first);
    return;
  }
  const start = writer.length;
  if (isInteger || (isHundredths && allHundredths(values, count))) {
    if (scaled.length < count) scaled = new Float64Array(count * 2);
    const shift = isInteger ? trailingZeros(lowBits) : 0;
    const divisor = 2 ** shift;
    for (let i = 0; i < count; i++) scaled[i] = isInteger ? (values[i] as number) / divisor : Math.round((values[i] as number) * 100);
    writer.byte((isInteger ? KIND_INTEGER : KIND_HUNDREDTHS) | mark);
    if (isInteger) writer.byte(shift);
    if (encodeDifferences(writer, scaled, count)) return;
    writer.length = start;
  }
  writer.byte(KIND_FLOAT | mark);
  for (let i = 0; i < count; i++) writer.float(values[i] as number);
}

/** @returns false when a difference is too large to be packed; what was written is then worthless */
function encodeDifferences(writer: ByteWriter, values: Float64Array, count: number): boolean {
  writer.varint(values[0] as number);
  for (let from = 1; from < count; from += GROUP) {
    const size = Math.min(GROUP, count - from);
    let smallest = Number.POSITIVE_INFINITY;
    let largest = Number.NEGATIVE_INFINITY;
    let smallestChange = Number.POSITIVE_INFINITY;
    let largestChange = Number.NEGATIVE_INFINITY;
    let changes = 0;
    for (let i = 0; i < size; i++) {
      const difference = (values[from + i] as number) - (values[from + i - 1] as number);
      differences[i] = difference;
      if (difference < smallest) smallest = difference;
      if (difference > largest) largest = difference;
      if (difference === 0) continue;
      changes++;
      if (difference < smallestChange) smallestChange = difference;
      if (difference > largestChange) largestChange = difference;
    }
    if (largest - smallest > PACKED_MAX || Math.abs(smallest) >= 2 ** 51) return false;
    const width = bitWidth(largest - smallest);
    const changeWidth = changes === 0 ? 0 : bitWidth(largestChange - smallestChange);
    if (size + changes * changeWidth < size * width) {
      writer.zigzag(smallestChange);
      writer.byte(changeWidth | SPARSE);
      writeBitmap(writer, size, (i) => differences[i] !== 0);
      let next = 0;
      for (let i = 0; i < size; i++) {
        const difference = differences[i] as number;
        if (difference !== 0) differences[next++] = difference - smallestChange;
      }
      pack(writer, differences, changes, changeWidth);
    } else {
      writer.zigzag(smallest);
      writer.byte(width);
      for (let i = 0; i < size; i++) differences[i] = (differences[i] as number) - smallest;
      pack(writer, differences, size, width);
    }
  }
  return true;
}

/** Reads a run of `count` values into the start of `out`. */
export function decodeRun(reader: ByteReader, out: Float64Array, count: number): void {
  const kind = reader.byte();
  if ((kind & SOME_NULL) === 0) {
    decodeKnown(reader, kind & KIND_MASK, out, count);
    return;
  }
  const bitmap = reader.skipBitmap(count);
  let known = 0;
  for (let i = 0; i < count; i++) known += reader.bit(bitmap, i);
  decodeKnown(reader, kind & KIND_MASK, out, known);
  // Spread from the end, so that nothing is overwritten before it has moved.
  for (let i = count - 1, from = known - 1; i >= 0; i--) out[i] = reader.bit(bitmap, i) === 1 ? (out[from--] as number) : Number.NaN;
}

function decodeKnown(reader: ByteReader, kind: number, out: Float64Array, count: number): void {
  switch (kind) {
    case KIND_NULL:
      out.fill(Number.NaN, 0, count);
      return;
    case KIND_SAME:
      out.fill(reader.value(), 0, count);
      return;
    case KIND_INTEGER: {
      const factor = 2 ** reader.byte();
      decodeDifferences(reader, out, count);
      if (factor !== 1) for (let i = 0; i < count; i++) out[i] = (out[i] as number) * factor;
      return;
    }
    case KIND_HUNDREDTHS:
      decodeDifferences(reader, out, count);
      for (let i = 0; i < count; i++) out[i] = (out[i] as number) / 100;
      return;
    default:
      for (let i = 0; i < count; i++) out[i] = reader.float();
  }
}

function decodeDifferences(reader: ByteReader, out: Float64Array, count: number): void {
  let previous = reader.varint();
  out[0] = previous;
  for (let from = 1; from < count; from += GROUP) {
    const size = Math.min(GROUP, count - from);
    const smallest = reader.zigzag();
    const width = reader.byte();
    if ((width & SPARSE) === 0) {
      reader.unpack(out, from, size, width, smallest);
    } else {
      const bitmap = reader.skipBitmap(size);
      let changes = 0;
      for (let i = 0; i < size; i++) changes += reader.bit(bitmap, i);
      reader.unpack(differences, 0, changes, width & ~SPARSE, smallest);
      for (let i = 0, next = 0; i < size; i++) out[from + i] = reader.bit(bitmap, i) === 1 ? (differences[next++] as number) : 0;
    }
    for (let i = from; i < from + size; i++) {
      previous += out[i] as number;
      out[i] = previous;
    }
  }
}

function writeBitmap(writer: ByteWriter, count: number, isSet: (index: number) => boolean): void {
  const size = (count + 7) >>> 3;
  writer.reserve(size);
  const start = writer.length;
  writer.bytes.fill(0, start, start + size);
  for (let i = 0; i < count; i++) {
    if (isSet(i)) writer.bytes[start + (i >>> 3)] = (writer.bytes[start + (i >>> 3)] as number) | (1 << (i & 7));
  }
  writer.length += size;
}

/** A whole number from 0 to 2^53 - 1. */
function isCount(value: number): boolean {
  return value >= 0 && value <= Number.MAX_SAFE_INTEGER && Math.floor(value) === value;
}

function allSame(values: Float64Array, count: number): boolean {
  for (let i = 1; i < count; i++) if (values[i] !== values[0]) return false;
  return true;
}

function allHundredths(values: Float64Array, count: number): boolean {
  for (let i = 0; i < count; i++) {
    const value = values[i] as number;
    const hundredths = Math.round(value * 100);
    if (!isCount(hundredths) || hundredths / 100 !== value) return false;
  }
  return true;
}

/** Of the low 32 bits; 31 when all of them are zero. */
function trailingZeros(lowBits: number): number {
  return lowBits === 0 ? 31 : 31 - Math.clz32(lowBits & -lowBits);
}

/** Bits for an integer from 0 to 2^32 - 1. */
function bitWidth(value: number): number {
  return 32 - Math.clz32(value);
}
