// Rows in log order as plain typed arrays: the head of the window, and the form a block takes while it is rewritten or evicted.
// A batch is one entry of the batch arrays and a contiguous run of entries of the row arrays; which series a row belongs
// to is told by the batch's shape (the list of its series), not stored with the row.

import { ALL_METRICS, METRICS } from '#shared/contract/metrics';

const BATCH_BYTES = 4 * 8 + 3 * 4;
const INCARNATION_BYTES = 4;
/** Doubling would leave half of a small budget unused. */
const GROWTH = 1.5;
const CAPACITY_MIN = 8;
/** Of an array to which elements are added one by one. */
const GROWN_CAPACITY_MIN = 16;

/**
 * What the values of a metric are held as: nothing while all of them are null; words of 32 bits while they are whole numbers (or
 * hundredths, where the metric has decimals) or, larger ones, whole pages; floats otherwise.
 */
export const NOTHING = 0;
export const WORDS = 1;
export const PAGES = 2;
export const FLOATS = 3;
export type Form = typeof NOTHING | typeof WORDS | typeof PAGES | typeof FLOATS;
/** A value. */
const FORM_BYTES = [0, 4, 4, 8] as const;
/** Resident memory, and most of what is read from and written to files, are multiples of it. */
const PAGE_BYTES = 4096;
const WORDS_OF_A_BYTE = 1 / PAGE_BYTES;

/** Null among words; among floats it is NaN. */
export const NULL_WORD = 0xffff_ffff;
const NO_WORDS = new Uint32Array(0);
const NO_FLOATS = new Float64Array(0);

/** Of one metric of a batch. */
type Values = readonly (number | null)[];

/** The values of one metric, row by row. */
export class MetricColumn {
  form: Form = NOTHING;
  /** Words of a value of 1: a power of 2, or 100. 1 unless there are words. */
  divisor = 1;
  private readonly hasDecimals: boolean;
  private words = NO_WORDS;
  private floats = NO_FLOATS;
  /** Of the values put in since the last {@link MetricColumn.settle}: some are known, and as far as was looked they fit these. */
  private hasValues = false;
  private couldBeWords = true;
  private couldBePages = true;

  /** @param metric its place in the table */
  constructor(metric: number) {
    this.hasDecimals = ALL_METRICS[metric]?.type === 'float';
  }

  get hasWords(): boolean {
    return this.form === WORDS || this.form === PAGES;
  }

  /** NaN where it is null. */
  at(row: number): number {
    if (this.hasWords) {
      const word = this.wordAt(row);
      return word === NULL_WORD ? Number.NaN : word / this.divisor;
    }
    return this.form === FLOATS ? (this.floats[row] as number) : Number.NaN;
  }

  /** {@link NULL_WORD} where it is null. Only where there are words. */
  wordAt(row: number): number {
    return this.words[row] as number;
  }

  /**
   * Puts values, or null for all of them, into the rows from `start` on.
   * @returns false when they need another form, {@link MetricColumn.formFor}; the rows then have anything
   */
  put(values: Values | null, start: number, count: number): boolean {
    if (values === null) {
      this.fillNull(start, count);
      return true;
    }
    switch (this.form) {
      case NOTHING:
        for (let i = 0; i < count; i++) if (values[i] !== null) return false;
        return true;
      case WORDS:
      case PAGES:
        return this.putWords(values, start, count);
      default:
        for (let i = 0; i < count; i++) this.floats[start + i] = values[i] ?? Number.NaN;
        this.noteForms(values);
        return true;
    }
  }

  private putWords(values: Values, start: number, count: number): boolean {
    const { words, divisor } = this;
    let nulls = 0;
    for (let i = 0; i < count; i++) {
      const value = values[i] as number | null;
      if (value === null) {
        words[start + i] = NULL_WORD;
        nulls++;
        continue;
      }
      const word = wordOf(value, divisor);
      if (word === NULL_WORD) return false;
      words[start + i] = word;
    }
    if (nulls < count) this.need(this.form);
    return true;
  }

  /** Notes which forms values would fit that are put in as floats. */
  private noteForms(values: Values): void {
    if (this.hasValues && !this.couldBeWords && !this.couldBePages) return;
    const { isKnown, areWords, arePages } = fitOf(values, this.hasDecimals);
    this.hasValues ||= isKnown;
    this.couldBeWords &&= areWords;
    this.couldBePages &&= arePages;
  }

  /** The form that has room for its first `rows` values and for these. */
  formFor(values: Values | null, rows: number): Form {
    if (values === null) return this.form;
    const { isKnown, areWords, arePages } = fitOf(values, this.hasDecimals);
    if (!isKnown) return this.form;
    if (areWords && (this.form === NOTHING || this.form === WORDS)) return WORDS;
    return arePages && this.arePages(rows) ? PAGES : FLOATS;
  }

  /** True when its first values are whole pages. */
  private arePages(rows: number): boolean {
    if (this.form !== WORDS) return this.form !== FLOATS;
    if (this.hasDecimals) return false;
    for (let row = 0; row < rows; row++) if (this.words[row] !== NULL_WORD && (this.words[row] as number) % PAGE_BYTES !== 0) return false;
    return true;
  }

  /** Puts the first `count` of `values`, NaN for null, which must fit the form, each into the row of its place in `rows`. */
  scatter(values: Float64Array, rows: Uint32Array, count: number): void {
    const { words, floats, divisor } = this;
    if (this.form === FLOATS) for (let i = 0; i < count; i++) floats[rows[i] as number] = values[i] as number;
    if (!this.hasWords) return;
    for (let i = 0; i < count; i++) {
      const value = values[i] as number;
      // biome-ignore lint/suspicious/noSelfCompare: the fastest test for NaN
      words[rows[i] as number] = value !== value ? NULL_WORD : nearestWord(value, divisor);
    }
  }

  /** Copies the values of some rows to the start of `into`, NaN for null: their words where there are words. */
  gather(rows: Uint32Array, count: number, into: Float64Array): void {
    const { words, floats } = this;
    if (this.form === FLOATS) for (let i = 0; i < count; i++) into[i] = floats[rows[i] as number] as number;
    if (!this.hasWords) return;
    for (let i = 0; i < count; i++) {
      const word = words[rows[i] as number] as number;
      into[i] = word === NULL_WORD ? Number.NaN : word;
    }
  }

  /** Copies the values of some rows to the start of `into`, NaN for null. */
  read(rows: Uint32Array, count: number, into: Float64Array): void {
    if (this.form === NOTHING) into.fill(Number.NaN, 0, count);
    this.gather(rows, count, into);
    if (this.divisor !== 1) for (let i = 0; i < count; i++) into[i] = (into[i] as number) / this.divisor;
  }

  fillNull(start: number, count: number): void {
    if (this.hasWords) this.words.fill(NULL_WORD, start, start + count);
    else if (this.form === FLOATS) this.floats.fill(Number.NaN, start, start + count);
  }

  /** Takes another form, which has room for its first `rows` values; they stay. @param capacity of the arrays, in rows */
  reform(form: Form, rows: number, capacity: number): void {
    if (form === this.form) return;
    const divisor = form === PAGES ? WORDS_OF_A_BYTE : form === WORDS && this.hasDecimals ? 100 : 1;
    const words = form === WORDS || form === PAGES ? new Uint32Array(capacity) : NO_WORDS;
    const floats = form === FLOATS ? new Float64Array(capacity) : NO_FLOATS;
    for (let row = 0; row < rows; row++) {
      const value = this.at(row);
      if (form === FLOATS) floats[row] = value;
      else words[row] = Number.isNaN(value) ? NULL_WORD : nearestWord(value, divisor);
    }
    Object.assign(this, { form, divisor, words, floats });
  }

  resize(capacity: number): void {
    if (this.hasWords) this.words = grown(this.words, capacity);
    else if (this.form === FLOATS) this.floats = grown(this.floats, capacity);
  }

  /** There are values of this form, and it is not known whether they would fit another. */
  need(form: Form): void {
    if (form === NOTHING) return;
    this.hasValues = true;
    this.couldBeWords &&= form === WORDS;
    // Words that have become pages were looked at.
    this.couldBePages = form === PAGES;
  }

  /** The least form that has room for the values since the last {@link MetricColumn.settle}. */
  get needed(): Form {
    if (!this.hasValues) return NOTHING;
    if (this.couldBeWords) return WORDS;
    return this.couldBePages ? PAGES : FLOATS;
  }

  /** Takes a form, by default the one that is needed. The values are lost. */
  settle(capacity: number, form: Form = this.needed): void {
    this.reform(form, 0, capacity);
    this.hasValues = false;
    this.couldBeWords = true;
    this.couldBePages = true;
  }
}

/** What forms these values fit. */
function fitOf(values: Values, hasDecimals: boolean): { isKnown: boolean; areWords: boolean; arePages: boolean } {
  let isKnown = false;
  let areWords = true;
  let arePages = !hasDecimals;
  for (const value of values) {
    if (value === null) continue;
    isKnown = true;
    if (wordOf(value, hasDecimals ? 100 : 1) === NULL_WORD) areWords = false;
    if (wordOf(value, WORDS_OF_A_BYTE) === NULL_WORD) arePages = false;
  }
  return { isKnown, areWords, arePages };
}

/** A form that has room for the values of both. */
function joined(a: Form, b: Form): Form {
  if (a === b || b === NOTHING) return a;
  return a === NOTHING ? b : FLOATS;
}

/** The forms that have room for the values of both, by metric. */
export function joinedForms(a: readonly Form[], b: readonly Form[]): Form[] {
  return Array.from({ length: Math.max(a.length, b.length) }, (_, metric) => joined(a[metric] ?? NOTHING, b[metric] ?? NOTHING));
}

/** A value as words, `divisor` of them for 1; {@link NULL_WORD} when it is no whole number of them, or too large. */
function wordOf(value: number, divisor: number): number {
  const word = nearestWord(value, divisor);
  return word / divisor === value ? word : NULL_WORD;
}

/** @param value known to be a word; of another, any word */
function nearestWord(value: number, divisor: number): number {
  return (value * divisor + 0.5) >>> 0;
}

export class Columns {
  batches = 0;
  rows = 0;
  seq = new Float64Array(0);
  /** Wall clock of the reading, ms. */
  ts = new Float64Array(0);
  /** When JetStream stored the batch, ms. */
  arrival = new Float64Array(0);
  tick = new Float64Array(0);
  /** Ids of the catalog. */
  source = new Uint32Array(0);
  shape = new Uint32Array(0);
  /** First row of the batch; its rows end where the next batch's start. */
  rowStart = new Uint32Array(0);
  /** Ids of the catalog: state, pid and start time. */
  incarnation = new Uint32Array(0);
  /** By metric, in table order. Extra metrics have columns from the first batch that brings one: see {@link Columns.widen}. */
  metrics: MetricColumn[] = METRICS.map((_, metric) => new MetricColumn(metric));
  /** Metrics that the rows need; there may be more columns, left from the rows before them. */
  private widthNeeded: number = METRICS.length;
  private bytesOfRow = INCARNATION_BYTES;
  /** A bit for each metric that has a form for values. */
  known = 0;

  get bytes(): number {
    return this.seq.length * BATCH_BYTES + this.incarnation.length * this.bytesOfRow;
  }

  /** Bytes of what is in them, without the room beside it. */
  get bytesUsed(): number {
    return this.batches * BATCH_BYTES + this.rows * this.bytesOfRow;
  }

  get forms(): Form[] {
    return this.metrics.map(({ form }) => form);
  }

  /** Bytes that so many batches and rows take at least. */
  static bytesFor(batches: number, rows: number, forms: readonly Form[]): number {
    return batches * BATCH_BYTES + rows * bytesOfRow(forms);
  }

  /** The least that `bytes` can be with so many in all, or with another form of a metric. */
  bytesAfter(batches: number, rows: number, metric = 0, form: Form = this.metrics[metric]?.form ?? NOTHING): number {
    const row = this.bytesOfRow + FORM_BYTES[form] - FORM_BYTES[this.metrics[metric]?.form ?? NOTHING];
    return Math.max(this.seq.length, batches) * BATCH_BYTES + Math.max(this.incarnation.length, rows) * row;
  }

  /** Makes columns for the first `width` metrics of the table. A metric that is new is null in the rows that are there. */
  widen(width: number): void {
    this.widthNeeded = Math.max(this.widthNeeded, width);
    while (this.metrics.length < width) this.metrics.push(new MetricColumn(this.metrics.length));
  }

  /** Gives a metric another form, which has room for the values there are. */
  raise(metric: number, form: Form): void {
    (this.metrics[metric] as MetricColumn).reform(form, this.rows, this.incarnation.length);
    this.noteForms();
  }

  private noteForms(): void {
    this.bytesOfRow = bytesOfRow(this.forms);
    this.known = this.metrics.reduce((bits, { form }, metric) => (form === NOTHING ? bits : bits | (1 << metric)), 0);
  }

  /** Makes room for so many in all, and some more while that takes no more than `bytesMax`; room that is not needed may go for it. */
  reserve(batches: number, rows: number, bytesMax: number): void {
    if (batches <= this.seq.length && rows <= this.incarnation.length) return;
    const full = bytesMax / (batches * BATCH_BYTES + rows * this.bytesOfRow);
    for (const growth of [GROWTH, Math.min(GROWTH, full), 1]) {
      const batchCapacity = capacityFor(this.seq.length, batches, growth);
      const rowCapacity = capacityFor(this.incarnation.length, rows, growth);
      if (batchCapacity * BATCH_BYTES + rowCapacity * this.bytesOfRow > bytesMax) continue;
      this.resize(batchCapacity, rowCapacity);
      return;
    }
    this.resize(batches, rows);
  }

  private resize(batchCapacity: number, rowCapacity: number): void {
    if (batchCapacity !== this.seq.length) {
      this.seq = grown(this.seq, batchCapacity);
      this.ts = grown(this.ts, batchCapacity);
      this.arrival = grown(this.arrival, batchCapacity);
      this.tick = grown(this.tick, batchCapacity);
      this.source = grown(this.source, batchCapacity);
      this.shape = grown(this.shape, batchCapacity);
      this.rowStart = grown(this.rowStart, batchCapacity);
    }
    if (rowCapacity !== this.incarnation.length) {
      this.incarnation = grown(this.incarnation, rowCapacity);
      for (const column of this.metrics) column.resize(rowCapacity);
    }
  }

  /** Makes room for more batches and rows, whose metrics have these forms. */
  reserveMore(batches: number, rows: number, forms: readonly Form[], bytesMax: number): void {
    this.widen(forms.length);
    const after = this.batches === 0 ? forms : joinedForms(this.forms, forms);
    if (this.bytesIn(after) > bytesMax) this.resize(this.batches, this.rows);
    for (const [metric, column] of this.metrics.entries()) {
      column.reform(after[metric] ?? NOTHING, this.rows, this.incarnation.length);
      column.need(after[metric] ?? NOTHING);
    }
    this.noteForms();
    this.reserve(this.batches + batches, this.rows + rows, bytesMax);
  }

  /**
   * Forgets the rows and keeps the arrays that they needed, unless they have grown beyond `bytesMax`.
   * @param forms of the metrics in place of those that they needed
   */
  clear(bytesMax: number, forms?: readonly Form[]): void {
    const hadRows = this.batches > 0;
    this.batches = 0;
    this.rows = 0;
    if (hadRows) {
      this.metrics.length = forms?.length ?? this.widthNeeded;
      this.widthNeeded = METRICS.length;
      const after = forms ?? this.metrics.map(({ needed }) => needed);
      if (this.bytesIn(after) > bytesMax) this.resize(0, 0);
      for (const [metric, column] of this.metrics.entries()) column.settle(this.incarnation.length, after[metric]);
      this.noteForms();
    }
    if (this.bytes > bytesMax) this.resize(0, 0);
  }

  /** What the arrays would take with other forms. */
  private bytesIn(forms: readonly Form[]): number {
    return Columns.bytesFor(this.seq.length, this.incarnation.length, forms);
  }

  rowEnd(batch: number): number {
    return batch + 1 < this.batches ? (this.rowStart[batch + 1] as number) : this.rows;
  }
}

function bytesOfRow(forms: readonly Form[]): number {
  let bytes = INCARNATION_BYTES;
  for (const form of forms) bytes += FORM_BYTES[form];
  return bytes;
}

function capacityFor(present: number, wanted: number, growth: number): number {
  return wanted <= present ? present : Math.max(wanted, CAPACITY_MIN, Math.floor(wanted * growth));
}

/** Capacity of an array that grows by a factor whenever it is full, when it has so many elements. */
export function capacityWith(capacity: number, elements: number, growth: number): number {
  let grownTo = capacity;
  while (grownTo < elements) grownTo = Math.max(GROWN_CAPACITY_MIN, Math.ceil(grownTo * growth));
  return grownTo;
}

/** A copy with room for `capacity` elements; those beyond it are cut off. */
export function grown<T extends Float64Array | Uint32Array | Uint8Array>(array: T, capacity: number): T {
  const larger = new (array.constructor as new (length: number) => T)(capacity);
  larger.set(capacity < array.length ? array.subarray(0, capacity) : array);
  return larger;
}
