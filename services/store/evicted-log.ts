// The EVICTED stream as its one writer sees it. Its last message says where the floor is; publishing asserts the stream
// sequence, so a second store on the same shard is refused by the server and cannot evict twice.
//
// Events go out in order, several at a time. When one fails, those behind it fail with it (their sequence is then wrong), and
// what really happened is read from the stream again: never from acknowledgements that may have been lost.

import { randomBytes } from 'node:crypto';
import {
  EVICTION_HEADERS,
  type EvictionEvent,
  type EvictionHead,
  evictionHeaders,
  evictionId,
  parseEvictionHead,
} from '#shared/contract/eviction';
import { headers, type MsgHdrs, type PubAck } from '#shared/nats/client';
import type { NatsLink } from '#shared/nats/connection';
import { isNoSuchMessage, isStreamFull, isUnanswered, isWrongLastSequence } from '#shared/nats/errors';
import { purgeBelow } from '#shared/nats/purge';

/** What the last message of the stream says; null when the stream has none. */
export interface EvictedTail {
  readonly head: EvictionHead;
  /** It was published by this process. */
  readonly isOwn: boolean;
}

/** Why publishing stopped: the stream is full, another writer was there, or nobody answered. */
export type EvictionFailure = 'full' | 'refused' | 'unanswered';

export interface EvictionOutcome {
  /** The floor that is now durable. */
  readonly to: number;
  readonly failure: EvictionFailure | null;
  readonly events: number;
  readonly rows: number;
  readonly dropped: number;
}

interface Flight {
  readonly event: EvictionEvent;
  readonly done: Promise<EvictionFailure | null>;
}

export class EvictedLog {
  private readonly link: NatsLink;
  private readonly shard: number;
  private readonly stream: string;
  private readonly bytesInFlightMax: number;
  private readonly onStrange: (sequence: number, detail: string) => void;
  private readonly writer = randomBytes(8).toString('hex');
  /** Stream sequence of the last message. */
  private lastSequence = 0;

  /**
   * @param bytesInFlightMax bodies waiting for their acknowledgement; one is always allowed
   * @param onStrange told of messages in the stream that are no eviction events
   */
  constructor(link: NatsLink, shard: number, bytesInFlightMax: number, onStrange: (sequence: number, detail: string) => void) {
    this.link = link;
    this.shard = shard;
    this.stream = link.subjects.evictedStream(shard);
    this.bytesInFlightMax = bytesInFlightMax;
    this.onStrange = onStrange;
  }

  get sequence(): number {
    return this.lastSequence;
  }

  /** Reads the tail of the stream: what is there is what has been evicted. Messages that are no events are stepped over. */
  async readTail(): Promise<EvictedTail | null> {
    const { state } = await this.link.jsm.streams.info(this.stream);
    this.lastSequence = state.last_seq;
    for (let seq = state.last_seq; seq >= Math.max(1, state.first_seq) && state.messages > 0; seq--) {
      const tail = await this.eventAt(seq);
      if (tail !== null) return tail;
    }
    return null;
  }

  private async eventAt(seq: number): Promise<EvictedTail | null> {
    try {
      const message = await this.link.jsm.streams.getMessage(this.stream, { seq });
      const head = parseEvictionHead((name) => message.header.get(name));
      if (head.ok) return { head: head.value, isOwn: message.header.get(EVICTION_HEADERS.writer) === this.writer };
      this.onStrange(seq, head.detail);
      return null;
    } catch (error) {
      if (isNoSuchMessage(error)) return null; // purged between the two calls
      throw error;
    }
  }

  /** Publishes the events in order, until all are acknowledged or one fails. @param floor where the window is now */
  async publish(events: Iterable<EvictionEvent>, floor: number): Promise<EvictionOutcome> {
    const flights: Flight[] = [];
    const outcome = { to: floor, failure: null as EvictionFailure | null, events: 0, rows: 0, dropped: 0 };
    let bytes = 0;
    const land = async (): Promise<void> => {
      const { event, done } = flights.shift() as Flight;
      bytes -= event.body.length;
      const failure = await done;
      outcome.failure ??= failure;
      if (outcome.failure !== null) return;
      this.lastSequence++;
      outcome.to = event.to;
      outcome.events++;
      outcome.rows += event.rows;
      outcome.dropped += event.dropped;
    };
    for (const event of events) {
      while (flights.length > 0 && bytes + event.body.length > this.bytesInFlightMax) await land();
      if (outcome.failure !== null) break;
      bytes += event.body.length;
      flights.push({ event, done: this.send(event, this.lastSequence + flights.length) });
    }
    while (flights.length > 0) await land();
    return outcome;
  }

  private async send(event: EvictionEvent, expected: number): Promise<EvictionFailure | null> {
    const id = evictionId(this.shard, event, expected);
    try {
      const ack = await this.publishOne(event, expected, id);
      // The server remembers ids for a while. One of another life of the log (same positions, other rows) is not ours.
      if (ack.duplicate && ack.seq !== expected + 1) await this.publishOne(event, expected, `${id}:${event.log}:${expected}`);
      return null;
    } catch (error) {
      if (isStreamFull(error)) return 'full';
      if (isWrongLastSequence(error)) return 'refused';
      if (isUnanswered(error) || !this.link.isConnected()) return 'unanswered';
      throw error;
    }
  }

  private publishOne(event: EvictionEvent, expected: number, id: string): Promise<PubAck> {
    const head: MsgHdrs = headers();
    for (const [name, value] of evictionHeaders(event)) head.set(name, value);
    head.set(EVICTION_HEADERS.writer, this.writer);
    return this.link.js.publish(this.link.subjects.evicted(this.shard), event.body, {
      msgID: id,
      headers: head,
      expect: { lastSequence: expected },
    });
  }

  /**
   * First position that is still in transit: what the oldest event in the stream carries. Null when the stream is empty or begins
   * with something else.
   */
  async oldestFrom(): Promise<number | null> {
    let looked = 0;
    for (;;) {
      const { state } = await this.link.jsm.streams.info(this.stream);
      if (state.messages === 0 || state.first_seq === looked) return null;
      const oldest = await this.eventAt(state.first_seq);
      if (oldest !== null) return oldest.head.from;
      looked = state.first_seq; // Purged between the two calls, or no event: only if it is still the first is it the latter.
    }
  }

  /** Removes everything but the last message. */
  async purgeAllButLast(): Promise<void> {
    await purgeBelow(this.link.jsm, this.stream, this.lastSequence);
  }
}
