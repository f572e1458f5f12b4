// Reads a stream from a position of our own, in order, a bounded amount at a time.
//
// Positions live in the data of whoever reads, never in acknowledgements: those do not survive the killing of a server, and
// a durable consumer hands a restarted reader newer messages before older ones. So the consumer here is ephemeral, without
// acknowledgements, made at our position, and made anew at our position whenever anything is in doubt: a missed heartbeat, a
// deleted consumer, a restarted server, a message that is not the next one delivered, positions that are left out: only what is
// left out again is believed to be gone.
//
// At most one pull request is out at a time and the next goes out when its messages have been taken, so what is held in
// memory is at most one request's worth: `messagesMax` messages and, but for a single larger message, the bytes it asked for.

import { AckPolicy, createInbox, DeliverPolicy, type Msg, type MsgHdrs, nanos, type Subscription } from 'nats';
import type { Logger } from '#shared/runtime/logging';
import type { NatsLink } from './connection.ts';
import { isStreamNotFound, messageOf } from './errors.ts';
import { readHeaders } from './message-headers.ts';

export interface LogMessage {
  readonly seq: number;
  /** When JetStream stored it, ms. */
  readonly timeMs: number;
  readonly subject: string;
  /** Undefined when there are none, or none that can be read. */
  readonly headers: MsgHdrs | undefined;
  readonly data: Uint8Array;
  /** Messages in the stream behind this one, when it was delivered. */
  readonly pending: number;
}

export interface LogReaderOptions {
  readonly link: NatsLink;
  readonly stream: string;
  /** First stream sequence wanted. */
  readonly from: number;
  readonly messagesMax: number;
  readonly bytesMax: number;
  readonly logger: Logger;
}

/** The stream is not there (any more). */
export class StreamLostError extends Error {
  constructor(stream: string) {
    super(`stream ${stream} does not exist any more`);
    this.name = 'StreamLostError';
  }
}

interface Consumer {
  readonly name: string;
  readonly inbox: string;
  readonly subscription: Subscription;
  /** Delivery sequence the next message must have. */
  nextDelivery: number;
}

interface Request {
  readonly reply: string;
  readonly messages: number;
  received: number;
  /** Payload bytes that it may still bring; of one for a message larger than that, nothing is known. */
  bytesDue: number;
}

const EXPIRES_MS = 5_000;
const HEARTBEAT_MS = 1_000;
const SILENCE_MS_MAX = 3_000;
const INACTIVE_MS = 30_000;
const RETRY_MS = 250;

export class LogReader {
  readonly stream: string;
  /** First stream sequence not yet handed out by {@link pull} or waiting to be. */
  private position: number;
  private readonly options: LogReaderOptions;
  private consumer: Consumer | null = null;
  private request: Request | null = null;
  private requests = 0;
  private received: LogMessage[] = [];
  private receivedBytes = 0;
  private heardMs = 0;
  /** Sequence of a message before which positions were left out, until it comes again. */
  private suspect: number | null = null;
  /** Set when the next message alone is larger than `bytesMax`: it is asked for by itself. */
  private isNextOversize = false;
  private wake: (() => void) | null = null;
  private wakeScheduled = false;
  private isClosed = false;
  private readonly connectionWatch: { unsubscribe(): void };

  constructor(options: LogReaderOptions) {
    this.options = options;
    this.stream = options.stream;
    this.position = options.from;
    this.connectionWatch = options.link.connection.subscribe(() => {
      // Whatever was under way before a reconnection is in doubt: a delivery may have been lost with the old socket.
      this.dropConsumer();
      this.wake?.();
    });
  }

  /** Payload bytes received and not yet taken. */
  get bufferedBytes(): number {
    return this.receivedBytes;
  }

  /** Payload bytes that may be on their way. */
  get bytesDue(): number {
    return Math.max(0, this.request?.bytesDue ?? 0);
  }

  /**
   * The next messages, in order; empty when there are none within `timeoutMs` or the reader was closed.
   * @param bytesMax of a request, if one has to be sent
   * @throws {StreamLostError} when the stream does not exist
   */
  async pull(timeoutMs: number, bytesMax = this.options.bytesMax): Promise<LogMessage[]> {
    const deadlineMs = Date.now() + timeoutMs;
    while (!this.isClosed) {
      if (this.received.length > 0) return this.take();
      const leftMs = deadlineMs - Date.now();
      if (leftMs <= 0) return [];
      if (!this.options.link.isConnected() || !(await this.ensureConsumer())) {
        await this.waitForNews(Math.min(leftMs, RETRY_MS));
        continue;
      }
      if (this.request === null) this.sendRequest(bytesMax);
      const silenceLeftMs = this.heardMs + SILENCE_MS_MAX - Date.now();
      if (silenceLeftMs <= 0) {
        this.options.logger.warn({ stream: this.stream, position: this.position }, 'no heartbeat from the consumer, making it anew');
        this.dropConsumer();
        continue;
      }
      if (this.received.length === 0) await this.waitForNews(Math.min(leftMs, silenceLeftMs));
    }
    return [];
  }

  /** Reads on from another position; what was received and not taken is thrown away. */
  seek(position: number): void {
    this.dropConsumer();
    this.received = [];
    this.receivedBytes = 0;
    this.position = position;
  }

  async close(): Promise<void> {
    this.isClosed = true;
    this.connectionWatch.unsubscribe();
    const name = this.consumer?.name;
    this.dropConsumer();
    this.wake?.();
    // Best effort: the server forgets an idle ephemeral consumer by itself.
    if (name !== undefined && this.options.link.isConnected())
      await this.options.link.jsm.consumers.delete(this.stream, name).catch(() => false);
  }

  private take(): LogMessage[] {
    const messages = this.received;
    this.received = [];
    this.receivedBytes = 0;
    return messages;
  }

  private async ensureConsumer(): Promise<boolean> {
    if (this.consumer !== null) return true;
    const { link, logger } = this.options;
    const position = this.position;
    try {
      const info = await link.jsm.consumers.add(this.stream, {
        ack_policy: AckPolicy.None,
        deliver_policy: DeliverPolicy.StartSequence,
        opt_start_seq: Math.max(1, position),
        inactive_threshold: nanos(INACTIVE_MS),
        mem_storage: true,
        num_replicas: 1,
      });
      if (this.isClosed || position !== this.position) return false;
      const inbox = createInbox();
      const subscription = link.nc.subscribe(`${inbox}.*`, {
        callback: (error, message) => error === null && this.onMessage(inbox, message),
      });
      this.consumer = { name: info.name, inbox, subscription, nextDelivery: 1 };
      this.heardMs = Date.now();
      return true;
    } catch (error) {
      if (isStreamNotFound(error)) throw new StreamLostError(this.stream);
      logger.debug({ stream: this.stream, reason: messageOf(error) }, 'consumer could not be made, trying again');
      return false;
    }
  }

  private dropConsumer(): void {
    this.consumer?.subscription.unsubscribe();
    this.consumer = null;
    this.request = null;
  }

  private sendRequest(bytesMax: number): void {
    const consumer = this.consumer;
    if (consumer === null) return;
    const messages = this.isNextOversize ? 1 : this.options.messagesMax;
    const bytesDue = this.isNextOversize ? 0 : bytesMax;
    const request: Request = { reply: `${consumer.inbox}.${++this.requests}`, messages, received: 0, bytesDue };
    const body = {
      batch: messages,
      ...(this.isNextOversize ? {} : { max_bytes: bytesMax }),
      expires: nanos(EXPIRES_MS),
      idle_heartbeat: nanos(HEARTBEAT_MS),
    };
    this.isNextOversize = false;
    this.request = request;
    this.options.link.nc.publish(`$JS.API.CONSUMER.MSG.NEXT.${this.stream}.${consumer.name}`, JSON.stringify(body), {
      reply: request.reply,
    });
  }

  private onMessage(inbox: string, message: Msg): void {
    const consumer = this.consumer;
    if (consumer === null || consumer.inbox !== inbox) return;
    this.heardMs = Date.now();
    const head = readHeaders(() => message.headers);
    const status = head?.code ?? 0;
    if (status !== 0 && message.data.length === 0 && !message.reply) this.onStatus(message.subject, status, head?.description ?? '');
    else this.onDelivery(consumer, message, head);
  }

  private onDelivery(consumer: Consumer, message: Msg, head: MsgHdrs | undefined): void {
    const place = parsePlace(message.reply ?? '');
    if (place === null) return;
    if (place.delivery !== consumer.nextDelivery) {
      // A delivery was lost on the way. Nothing behind it may be taken before it.
      this.options.logger.warn({ stream: this.stream, position: this.position }, 'a delivery is missing, making the consumer anew');
      this.dropConsumer();
      this.scheduleWake();
      return;
    }
    if (place.seq > this.position && place.seq !== this.suspect) {
      this.suspect = place.seq;
      this.options.logger.warn(
        { stream: this.stream, position: this.position, seq: place.seq },
        'positions were left out, making the consumer anew',
      );
      this.dropConsumer();
      this.scheduleWake();
      return;
    }
    this.suspect = null;
    consumer.nextDelivery++;
    this.position = place.seq + 1;
    this.received.push({
      seq: place.seq,
      timeMs: place.timeMs,
      subject: message.subject,
      headers: head,
      data: message.data,
      pending: place.pending,
    });
    this.receivedBytes += message.data.length;
    if (this.request !== null) {
      this.request.bytesDue -= message.data.length;
      if (++this.request.received >= this.request.messages) this.request = null;
    }
    this.scheduleWake();
  }

  private onStatus(subject: string, status: number, description: string): void {
    if (status === 100 || subject !== this.request?.reply) return;
    const request = this.request;
    this.request = null;
    if (status === 409 && /max ?bytes/i.test(description)) {
      if (request.received === 0) this.isNextOversize = true;
    } else if (status !== 404 && status !== 408) {
      this.options.logger.debug({ stream: this.stream, status, description }, 'the consumer is gone, making it anew');
      this.dropConsumer();
    }
    this.scheduleWake();
  }

  /** Once for everything that arrived together: the socket is read in chunks of many messages. */
  private scheduleWake(): void {
    if (this.wakeScheduled) return;
    this.wakeScheduled = true;
    setImmediate(() => {
      this.wakeScheduled = false;
      this.wake?.();
    });
  }

  private waitForNews(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.wake = null;
        resolve();
      };
      const timer = setTimeout(done, timeoutMs);
      this.wake = done;
    });
  }
}

interface Place {
  readonly seq: number;
  readonly delivery: number;
  readonly timeMs: number;
  readonly pending: number;
}

/**
 * Reads the place of a delivery from its reply subject: `$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<delivery seq>.<ns>.<pending>`,
 * or the newer form with domain and account before the stream and a random token at the end. Null if it is neither.
 */
export function parsePlace(reply: string): Place | null {
  const tokens = reply.split('.');
  if (tokens[0] !== '$JS' || tokens[1] !== 'ACK' || (tokens.length !== 9 && tokens.length < 11)) return null;
  const at = tokens.length === 9 ? 5 : 7;
  const [seq, delivery, timeNs, pending] = tokens.slice(at, at + 4).map(Number) as [number, number, number, number];
  return { seq, delivery, timeMs: Math.floor(timeNs / 1e6), pending };
}
