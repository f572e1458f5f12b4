// The collector's custody of its batches: from the moment they are taken, or found in the spool, until JetStream acknowledges
// them. A pure state machine; the pipeline publishes, the spool writes and reads, and both tell it the outcome. Invariants:
//   - bytes held in memory never exceed the limit; what has to go for it is the oldest, whole, and counted as dropped;
//   - every batch ends exactly once: acknowledged, or dropped with a reason; until then it is either held here or on disk;
//   - while disconnected nothing is handed out: the client library would lose it in silence;
//   - fresh batches go first. What has waited is the backlog: memory, then disk, oldest first, marked late.
// A batch whose publish or write is under way is never dropped: its outcome is not known, it would count twice.

import type { EncodedBatch } from '#shared/contract/batch';
import { type DiscardReason, SpoolPositions } from './spool-positions.ts';
import type { SpoolRecord } from './spool-record.ts';
import { markLate } from './tick-batch.ts';

/** Why rows were dropped by a collector. */
export type OutboxDropReason = 'outbox_full' | 'refused' | DiscardReason;

export interface OutboxLimits {
  readonly bytesMax: number;
  /** Publishes under way at the same time. */
  readonly inFlightMax: number;
}

/** Why batches go to disk: memory is filling up; they wait, and a kill would take them; the process ends. */
export type SpoolOccasion = 'memory' | 'waiting' | 'ending';

/** A batch that has waited this long is no longer fresh; while nothing can be published, it goes to disk. */
export const FRESH_MS = 1_000;
/** Memory above this part of the limit goes to disk, so that there is room while that is written. */
const MEMORY_PART = 0.5;
/** What is read from disk at a time, as a part of the limit. */
const LOAD_PART = 0.25;
/** One commit: more would only hold up the next. */
const COMMIT_BYTES_MAX = 1024 * 1024;
/** Backlog under way, but for a single larger batch: what a fresh batch has to wait for on a slow line. */
const LATE_BYTES_MAX = 256 * 1024;

interface Held extends EncodedBatch {
  /** Place in the order of arrival: what makes a batch older than another. */
  readonly order: number;
  readonly addedMs: number;
  /** Its position in the spool; null when it is not on disk. */
  readonly seq: number | null;
  readonly isLate: boolean;
}

export class Outbox {
  readonly spool = new SpoolPositions();
  readonly #limits: OutboxLimits;
  #fresh = new Map<string, Held>();
  #backlog = new Map<string, Held>();
  /** Read from disk. */
  #loaded = new Map<string, Held>();
  #inFlight = new Map<string, Held>();
  /** Being written to disk. */
  #spooling = new Map<string, Held>();
  #isConnected = false;
  #added = 0;
  #bytes = 0;
  #rows = 0;
  readonly #droppedRows = { outbox_full: 0, refused: 0 };

  constructor(limits: OutboxLimits) {
    this.#limits = limits;
  }

  /** Payload bytes held in memory, those under way included. */
  get bytes(): number {
    return this.#bytes;
  }
  /** Rows held in memory, those under way included. */
  get rows(): number {
    return this.#rows;
  }
  /** Batches held in memory, those under way included. */
  get batches(): number {
    return this.#fresh.size + this.#backlog.size + this.#loaded.size + this.#inFlight.size + this.#spooling.size;
  }
  /** Rows that a kill would take: held in memory and not on disk. */
  get exposedRows(): number {
    let rows = 0;
    for (const place of [this.#fresh, this.#backlog, this.#inFlight, this.#spooling])
      for (const held of place.values()) if (held.seq === null) rows += held.rows;
    return rows;
  }
  get isConnected(): boolean {
    return this.#isConnected;
  }
  /** Rows dropped so far. */
  get droppedRows(): Readonly<Record<OutboxDropReason, number>> {
    return { ...this.#droppedRows, ...this.spool.discardedRows };
  }

  /** Takes a batch into custody. Older ones give way to it, or it is dropped itself if even that makes no room. */
  add(batch: EncodedBatch, nowMs: number): void {
    while (this.#bytes + batch.payload.length > this.#limits.bytesMax) {
      // What was read from disk is given up last: it was safe there.
      const oldest = first(this.#backlog) ?? first(this.#fresh) ?? first(this.#loaded);
      if (oldest === undefined) {
        this.#droppedRows.outbox_full += batch.rows;
        return;
      }
      this.#release(oldest);
      this.#droppedRows.outbox_full += oldest.rows;
    }
    this.#hold(batch, nowMs, null, this.#isConnected ? this.#fresh : this.#backlog);
  }

  /** The next batch to publish, now under way; null when there is none, enough are under way, or there is no connection. */
  takeNext(nowMs: number): EncodedBatch | null {
    if (!this.#isConnected || this.#inFlight.size >= this.#limits.inFlightMax) return null;
    this.#age(nowMs);
    const fresh = first(this.#fresh);
    if (fresh !== undefined) return this.#handOut(fresh);
    const late = first(this.#backlog) ?? first(this.#loaded);
    if (late === undefined || !this.#hasPlaceFor(late)) return null;
    return this.#handOut(late.isLate ? late : { ...late, payload: markLate(late.payload), isLate: true });
  }

  /** JetStream has it. False if it is not held: told twice, or after a disconnection it was dropped or went to disk. */
  acknowledged(id: string): boolean {
    const held = this.#inFlight.get(id) ?? this.#backlog.get(id) ?? this.#loaded.get(id);
    if (held === undefined) return false;
    this.#release(held);
    return true;
  }

  /** The publish failed or its outcome is unknown: it will be handed out again under the same id, as backlog. */
  failed(id: string): void {
    const held = this.#inFlight.get(id);
    if (held === undefined) return;
    this.#inFlight.delete(id);
    this.#putBack([held]);
  }

  /** No retry can help this batch: it is dropped and counted. */
  refused(id: string): void {
    const held = this.#inFlight.get(id);
    if (held === undefined) return;
    this.#release(held);
    this.#droppedRows.refused += held.rows;
  }

  connected(): void {
    this.#isConnected = true;
  }

  /** All that is held becomes backlog; the outcome of what was under way is unknown, its id makes a second publish harmless. */
  disconnected(): void {
    this.#isConnected = false;
    const held = [...this.#inFlight.values(), ...this.#fresh.values()];
    this.#inFlight.clear();
    this.#fresh.clear();
    this.#putBack(held);
  }

  /**
   * The batches to write to disk now, oldest first, in one commit; none while another is being written. Followed by
   * {@link spooled} or {@link notSpooled}.
   */
  takeForSpool(nowMs: number, occasion: SpoolOccasion): SpoolRecord[] {
    const records: SpoolRecord[] = [];
    if (this.#spooling.size > 0) return records;
    this.#age(nowMs);
    const memoryMax = this.#limits.bytesMax * MEMORY_PART;
    let bytes = 0;
    let seq = this.spool.end;
    for (const place of [this.#backlog, this.#fresh]) {
      for (const held of place.values()) {
        const isDue =
          occasion === 'ending' || this.#bytes - bytes > memoryMax || (occasion === 'waiting' && nowMs - held.addedMs >= FRESH_MS);
        if (!isDue || (bytes > 0 && bytes + held.payload.length > COMMIT_BYTES_MAX)) break;
        place.delete(held.id);
        this.#spooling.set(held.id, held);
        records.push({ seq, id: held.id, rows: held.rows, payload: held.payload });
        bytes += held.payload.length;
        seq += held.rows;
      }
    }
    return records;
  }

  /** What was taken for the spool is durable there, and no longer held here. */
  spooled(): void {
    for (const held of [...this.#spooling.values()]) {
      this.#release(held);
      this.spool.appended(held.rows);
    }
  }

  /** It could not be written. */
  notSpooled(): void {
    const held = [...this.#spooling.values()];
    this.#spooling.clear();
    this.#putBack(held);
  }

  /** Bytes to read from disk now; 0 while there is something in memory to be sent first. */
  get loadBytes(): number {
    if (!this.#isConnected || this.spool.waitingRows === 0 || this.#backlog.size + this.#loaded.size > 0) return 0;
    return Math.max(0, Math.min(this.#limits.bytesMax * LOAD_PART, this.#limits.bytesMax - this.#bytes));
  }

  /**
   * Takes what was read from disk, in order, as far as it fits; the rest is to be read again later.
   * @returns whether all of it was taken
   */
  loaded(records: readonly SpoolRecord[], nowMs: number): boolean {
    for (const record of records) {
      const { seq, rows, payload } = record;
      const isTooLarge = payload.length > this.#limits.bytesMax;
      if (!isTooLarge && this.#bytes + payload.length > this.#limits.bytesMax) return false;
      if (!this.spool.take(seq, rows)) continue;
      if (isTooLarge) {
        this.spool.done(seq);
        this.#droppedRows.outbox_full += rows;
      } else this.#hold(record, nowMs, seq, this.#loaded);
    }
    return true;
  }

  #hold({ id, payload, rows }: EncodedBatch, addedMs: number, seq: number | null, place: Map<string, Held>): void {
    this.#bytes += payload.length;
    this.#rows += rows;
    place.set(id, { id, payload, rows, order: this.#added++, addedMs, seq, isLate: false });
  }

  /** What has waited too long, because publishing fails or is slow, makes room for what is really fresh. */
  #age(nowMs: number): void {
    const aged: Held[] = [];
    for (const held of this.#fresh.values()) {
      if (nowMs - held.addedMs < FRESH_MS) break;
      aged.push(held);
    }
    for (const held of aged) this.#fresh.delete(held.id);
    this.#putBack(aged);
  }

  /** One place of several is always free for fresh batches, and the backlog under way is small. */
  #hasPlaceFor(late: Held): boolean {
    let bytes = 0;
    let batches = 0;
    for (const held of this.#inFlight.values()) {
      if (!held.isLate) continue;
      bytes += held.payload.length;
      batches++;
    }
    return batches === 0 || (batches < this.#limits.inFlightMax - 1 && bytes + late.payload.length <= LATE_BYTES_MAX);
  }

  #handOut(held: Held): EncodedBatch {
    for (const place of [this.#fresh, this.#backlog, this.#loaded]) place.delete(held.id);
    this.#inFlight.set(held.id, held);
    return { id: held.id, payload: held.payload, rows: held.rows };
  }

  /** Failures come back out of order: sorting keeps "oldest first" true, and they are rare. */
  #putBack(held: readonly Held[]): void {
    const inMemory = held.filter((one) => one.seq === null);
    const onDisk = held.filter((one) => one.seq !== null);
    if (inMemory.length > 0) this.#backlog = sorted(this.#backlog, inMemory);
    if (onDisk.length > 0) this.#loaded = sorted(this.#loaded, onDisk);
  }

  #release(held: Held): void {
    for (const place of [this.#fresh, this.#backlog, this.#loaded, this.#inFlight, this.#spooling]) place.delete(held.id);
    this.#bytes -= held.payload.length;
    this.#rows -= held.rows;
    if (held.seq !== null) this.spool.done(held.seq);
  }
}

function sorted(place: ReadonlyMap<string, Held>, added: readonly Held[]): Map<string, Held> {
  return new Map([...place.values(), ...added].sort((a, b) => a.order - b.order).map((one) => [one.id, one]));
}

function first(held: ReadonlyMap<string, Held>): Held | undefined {
  for (const one of held.values()) return one;
  return undefined;
}
