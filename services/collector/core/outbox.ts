// The collector's custody of its batches: from the moment they are taken until JetStream acknowledges them.
// A pure state machine; the pipeline does the publishing and tells it the outcome. Invariants:
//   - bytes held never exceed the limit; what has to go for it is the oldest, whole, and counted as dropped;
//   - every batch added ends exactly once: acknowledged, or dropped with a reason;
//   - while disconnected nothing is handed out: the client library would lose it in silence;
//   - fresh batches go first. What waited through an outage or failed is the backlog: second, oldest first, marked late.
// A batch whose publish is under way is never dropped: its outcome is not known, it would count twice.

import type { EncodedBatch } from '#shared/contract/batch';
import { markLate } from './tick-batch.ts';

/** Why rows were dropped by a collector. */
export type OutboxDropReason = 'outbox_full' | 'refused';

export interface OutboxLimits {
  readonly bytesMax: number;
  /** Publishes under way at the same time. */
  readonly inFlightMax: number;
}

interface Held extends EncodedBatch {
  /** Place in the order of arrival: what makes a batch older than another. */
  readonly order: number;
}

export class Outbox {
  readonly #limits: OutboxLimits;
  #fresh = new Map<string, Held>();
  #backlog = new Map<string, Held>();
  #inFlight = new Map<string, Held>();
  #isConnected = false;
  #added = 0;
  #bytes = 0;
  #rows = 0;
  readonly #droppedRows: Record<OutboxDropReason, number> = { outbox_full: 0, refused: 0 };

  constructor(limits: OutboxLimits) {
    this.#limits = limits;
  }

  /** Payload bytes held, those under way included. */
  get bytes(): number {
    return this.#bytes;
  }
  /** Rows held, those under way included. */
  get rows(): number {
    return this.#rows;
  }
  /** Batches held, those under way included. */
  get batches(): number {
    return this.#fresh.size + this.#backlog.size + this.#inFlight.size;
  }
  get isConnected(): boolean {
    return this.#isConnected;
  }
  /** Rows dropped so far. */
  get droppedRows(): Readonly<Record<OutboxDropReason, number>> {
    return this.#droppedRows;
  }

  /** Takes a batch into custody. Older ones give way to it, or it is dropped itself if even that makes no room. */
  add(batch: EncodedBatch): void {
    while (this.#bytes + batch.payload.length > this.#limits.bytesMax) {
      const oldest = first(this.#backlog) ?? first(this.#fresh);
      if (oldest === undefined) {
        this.#droppedRows.outbox_full += batch.rows;
        return;
      }
      this.#release(oldest);
      this.#droppedRows.outbox_full += oldest.rows;
    }
    const { id, payload, rows } = batch;
    const held = { id, payload, rows, order: this.#added++ };
    this.#bytes += payload.length;
    this.#rows += rows;
    if (this.#isConnected) this.#fresh.set(id, held);
    else this.#backlog.set(id, held);
  }

  /** The next batch to publish, now under way; null when there is none, enough are under way, or there is no connection. */
  takeNext(): EncodedBatch | null {
    if (!this.#isConnected || this.#inFlight.size >= this.#limits.inFlightMax) return null;
    const fresh = first(this.#fresh);
    const late = fresh === undefined ? first(this.#backlog) : undefined;
    const next = fresh ?? (late === undefined ? undefined : { ...late, payload: markLate(late.payload) });
    if (next === undefined) return null;
    this.#fresh.delete(next.id);
    this.#backlog.delete(next.id);
    this.#inFlight.set(next.id, next);
    return next;
  }

  /** JetStream has it. False if it was not under way: told twice, or after a disconnection made its outcome unknown and it was dropped. */
  acknowledged(id: string): boolean {
    const held = this.#inFlight.get(id) ?? this.#backlog.get(id);
    if (held === undefined) return false;
    this.#release(held);
    return true;
  }

  /** The publish failed or its outcome is unknown: it will be handed out again under the same id, as backlog. */
  failed(id: string): void {
    const held = this.#inFlight.get(id);
    if (held === undefined) return;
    this.#inFlight.delete(id);
    this.#toBacklog([held]);
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
    this.#toBacklog(held);
  }

  /** Failures come back out of order: sorting keeps "oldest first" true, and they are rare. */
  #toBacklog(held: readonly Held[]): void {
    if (held.length === 0) return;
    const sorted = [...this.#backlog.values(), ...held].sort((a, b) => a.order - b.order);
    this.#backlog = new Map(sorted.map((one) => [one.id, one]));
  }

  #release(held: Held): void {
    this.#fresh.delete(held.id);
    this.#backlog.delete(held.id);
    this.#inFlight.delete(held.id);
    this.#bytes -= held.payload.length;
    this.#rows -= held.rows;
  }
}

function first(held: ReadonlyMap<string, Held>): Held | undefined {
  for (const one of held.values()) return one;
  return undefined;
}
