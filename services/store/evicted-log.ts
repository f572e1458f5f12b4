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
  isFromStore,
  parseEvictionHead,
} from '#shared/contract/eviction';
import { headers, type MsgHdrs, type PubAck } from '#shared/nats/client';
import type { NatsLink } from '#shared/nats/connection';
import { isNoSuchMessage, isStreamFull, isStreamNotFound, isUnanswered, isWrongLastSequence } from '#shared/nats/errors';
import { storedBytes } from '#shared/nats/full-stream';
import { readHeaders } from '#shared/nats/message-headers';
import { purgeBelow } from '#shared/nats/purge';
import { Turns } from '#shared/runtime/turns';

/** What the last message of the stream says; null when the stream has none. */
export interface EvictedTail {
  readonly head: EvictionHead;
  /** Of the message in the stream. */
  readonly sequence: number;
  /** A store published it, as far as can be seen. */
  readonly isFromStore: boolean;
  /** It was published by this process. */
  readonly isOwn: boolean;
}

/** Why publishing stopped: the stream is full, another writer was there, or nobody answered. */
export type EvictionFailure = 'full' | 'refused' | 'unanswered';

export interface EvictionOutcome {
  /** The floor that is now durable. */
  readonly to: number;
  /** Rows carried of positions below it; null when no event was acknowledged. */
  readonly rowsBelow: number | null;
  readonly failure: EvictionFailure | null;
  readonly events: number;
  readonly rows: number;
  readonly dropped: number;
}

/** Messages asked for at a time; each may be as large as the server allows. */
const STEPS_AT_ONCE = 16;

/** The id and the expected sequence, which the client library adds. */
const CLIENT_HEADER_BYTES_MAX = 256;

interface EventMessage {
  readonly event: EvictionEvent;
  /** Stream sequence of the message before it. */
  readonly expected: number;
  readonly head: MsgHdrs;
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
  /** And of the oldest event, when it was last looked for. */
  private oldestSequence = 0;
  /** What the stream takes, at most, and its limit; null when something may have happened to it. */
  private fill: { bytes: number; readonly bytesMax: number } | null = null;

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
    // A server that was killed may have more in it again than it had.
    link.connection.subscribe(() => {
      this.fill = null;
    });
  }

  get sequence(): number {
    return this.lastSequence;
  }

  /**
   * Reads the tail of the stream: what is there is what has been evicted. Messages that are no events are stepped over.
   * @param isBelieved those of which it is false are stepped over as well
   */
  readTail(isBelieved: (tail: EvictedTail) => boolean = () => true): Promise<EvictedTail | null> {
    return this.newestAbove(0, isBelieved);
  }

  /** The tail, if it was published since the stream was last looked at or published to; null if nothing was. */
  readNews(): Promise<EvictedTail | null> {
    return this.newestAbove(this.lastSequence, () => true);
  }

  /** @param known sequence of a message up to which nothing is asked for; a stream that ends below it is another one, and read whole */
  private async newestAbove(known: number, isBelieved: (tail: EvictedTail) => boolean): Promise<EvictedTail | null> {
    const { state } = await this.link.jsm.streams.info(this.stream);
    const first = Math.max(1, state.first_seq, known <= state.last_seq ? known + 1 : 0);
    const tail = first > state.last_seq ? null : await this.firstEvent(state.last_seq, first, isBelieved);
    this.lastSequence = state.last_seq;
    this.fill = null; // whatever made us look
    return tail;
  }

  /** The first event on the way from one sequence to another, both included, downwards or upwards. */
  private async firstEvent(from: number, to: number, isBelieved: (tail: EvictedTail) => boolean): Promise<EvictedTail | null> {
    const step = from <= to ? 1 : -1;
    // The first is nearly always one. Where a stranger has left thousands of others, they are not asked for one by one.
    for (let at = from, width = 1; (to - at) * step >= 0; at += width * step, width = STEPS_AT_ONCE) {
      const sequences = Array.from({ length: Math.min(width, Math.abs(to - at) + 1) }, (_, i) => at + i * step);
      const tails = await Promise.all(sequences.map((sequence) => this.eventAt(sequence)));
      for (const tail of tails) {
        if (tail === null) continue;
        if (isBelieved(tail)) return tail;
        this.onStrange(tail.sequence, `it speaks of positions ${tail.head.from} to ${tail.head.to} of log ${tail.head.log}`);
      }
    }
    return null;
  }

  private async eventAt(sequence: number): Promise<EvictedTail | null> {
    try {
      const message = await this.link.jsm.streams.getMessage(this.stream, { seq: sequence });
      const headers = readHeaders(() => message.header);
      const header = (name: string): string => headers?.get(name) ?? '';
      const head = parseEvictionHead(header);
      if (head.ok) {
        const isOwn = header(EVICTION_HEADERS.writer) === this.writer;
        return { head: head.value, sequence, isFromStore: isFromStore(header, sequence), isOwn };
      }
      this.onStrange(sequence, head.detail);
      return null;
    } catch (error) {
      if (isNoSuchMessage(error)) return null; // purged between the two calls
      throw error;
    }
  }

  /** Publishes the events in order, until all are acknowledged or one fails. @param floor where the window is now */
  async publish(events: Iterable<EvictionEvent>, floor: number): Promise<EvictionOutcome> {
    const flights: Flight[] = [];
    const outcome = {
      to: floor,
      rowsBelow: null as number | null,
      failure: null as EvictionFailure | null,
      events: 0,
      rows: 0,
      dropped: 0,
    };
    let bytes = 0;
    const land = async (): Promise<void> => {
      const { event, done } = flights.shift() as Flight;
      bytes -= event.body.length;
      const failure = await done;
      outcome.failure ??= failure;
      if (outcome.failure !== null) return;
      this.lastSequence++;
      outcome.to = event.to;
      outcome.rowsBelow = event.rowsBelow;
      outcome.events++;
      outcome.rows += event.rows;
      outcome.dropped += event.dropped;
    };
    const turns = new Turns();
    for (const event of events) {
      if (turns.isOver) await turns.next();
      while (flights.length > 0 && bytes + event.body.length > this.bytesInFlightMax) await land();
      let message = this.messageOf(event, this.lastSequence + flights.length);
      if (!this.fits(message)) {
        while (flights.length > 0) await land();
        if (outcome.failure !== null) break;
        message = this.messageOf(event, this.lastSequence);
        outcome.failure = await this.lookForRoom(message);
      }
      if (outcome.failure !== null) break;
      bytes += event.body.length;
      flights.push({ event, done: this.send(message) });
    }
    while (flights.length > 0) await land();
    if (outcome.failure !== null) this.fill = null;
    return outcome;
  }

  private messageOf(event: EvictionEvent, expected: number): EventMessage {
    const head = headers();
    for (const [name, value] of evictionHeaders(event)) head.set(name, value);
    head.set(EVICTION_HEADERS.writer, this.writer);
    return { event, expected, head };
  }

  /**
   * A server before 2.10.5 may take a message that does not fit, and delete the oldest for it: see `full-stream.ts`. Nobody else
   * publishes here, so what does not fit is not sent.
   */
  private fits(message: EventMessage): boolean {
    return this.fill !== null && this.fill.bytes + this.storedBytes(message) <= this.fill.bytesMax;
  }

  /** With nothing under way. */
  private async lookForRoom(message: EventMessage): Promise<EvictionFailure | null> {
    try {
      const { state, config } = await this.link.jsm.streams.info(this.stream);
      this.fill = { bytes: state.bytes, bytesMax: config.max_bytes };
      return this.fits(message) ? null : 'full';
    } catch (error) {
      if (isUnanswered(error) || isStreamNotFound(error) || !this.link.isConnected()) return 'unanswered';
      throw error;
    }
  }

  private storedBytes({ event, head }: EventMessage): number {
    return storedBytes(this.link.subjects.evicted(this.shard), head, event.body.length) + CLIENT_HEADER_BYTES_MAX;
  }

  private async send(message: EventMessage): Promise<EvictionFailure | null> {
    const { event, expected } = message;
    const id = evictionId(this.shard, event, expected);
    if (this.fill !== null) this.fill.bytes += this.storedBytes(message);
    try {
      const ack = await this.publishOne(message, id);
      if (!ack.duplicate) return null;
      // Another store was first with the same event, or an attempt of ours that was not answered: the stream says which.
      if (ack.seq === expected + 1) return 'refused';
      // The server remembers ids for a while. One of another life of the log (same positions, other rows) is not ours.
      await this.publishOne(message, `${id}:${event.log}:${expected}`);
      return null;
    } catch (error) {
      if (isStreamFull(error)) return 'full';
      if (isWrongLastSequence(error)) return 'refused';
      if (isUnanswered(error) || !this.link.isConnected()) return 'unanswered';
      throw error;
    }
  }

  private publishOne({ event, expected, head }: EventMessage, id: string): Promise<PubAck> {
    return this.link.js.publish(this.link.subjects.evicted(this.shard), event.body, {
      msgID: id,
      headers: head,
      expect: { lastSequence: expected },
    });
  }

  /**
   * First position of a log that is still in transit: what its oldest event in the stream carries. Null when there is none.
   */
  async oldestFrom(log: number): Promise<number | null> {
    const { state } = await this.link.jsm.streams.info(this.stream);
    // What lies below the oldest event of the last time is no event, however much of it there is.
    const from = this.oldestSequence <= state.last_seq ? Math.max(state.first_seq, this.oldestSequence) : state.first_seq;
    const oldest = state.messages === 0 ? null : await this.firstEvent(from, state.last_seq, ({ head }) => head.log === log);
    this.oldestSequence = oldest?.sequence ?? 0;
    return oldest?.head.from ?? null;
  }

  /** The floor of a log as the stream has it now: below `floor` only what a store has published counts. Null when there is none. */
  async durableFloor(log: number, floor: number): Promise<number | null> {
    const { state } = await this.link.jsm.streams.info(this.stream);
    if (state.messages === 0) return null;
    const isBelieved = ({ head, isFromStore }: EvictedTail): boolean => head.log === log && (isFromStore || head.to >= floor);
    const tail = await this.firstEvent(state.last_seq, Math.max(1, state.first_seq), isBelieved);
    return tail?.head.to ?? null;
  }

  /** Removes everything but the last message. */
  async purgeAllButLast(): Promise<void> {
    await purgeBelow(this.link.jsm, this.stream, this.lastSequence);
  }
}
