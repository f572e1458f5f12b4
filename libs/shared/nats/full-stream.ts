// Publishing into a stream that may be full, without its oldest message paying for it.
//
// A server before 2.10.5 compares a stream's limit with the size of a new message without what it adds to it on disk. A message that
// only fits without that is accepted and acknowledged, and the server then deletes the oldest message of the stream to be within the
// limit again, `discard: new` or not (nats-server issues 4771 and 4775). Two ways to stay clear of it:
//   - a stream with many publishers: every message is padded to a whole number of {@link UNIT_BYTES} on disk, more than the server
//     adds. Then what is free is whole units too, and a message either fits with all that is added, or not without it either.
//     One unit more or less at random: should somebody else's message be in the stream, hitting the gap once is no reason to hit it again.
//   - a stream with one publisher: it knows how much is in it, and sends nothing that does not fit with all that is added.

import { headers, type MsgHdrs, type PubAck } from 'nats';
import type { NatsLink } from './connection.ts';

/** Added to a message with headers on disk: lengths, sequence, time and checksum, beside its subject. */
const RECORD_BYTES = 34;
const UNIT_BYTES = 256;
const PAD_HEADER = 'Spillway-Pad';
/** The longest padding with its header. */
export const PADDING_BYTES_MAX = `${PAD_HEADER}: \r\n`.length + 2 * UNIT_BYTES;
const ID_HEADER = 'Nats-Msg-Id';
const FIRST_EXACT_VERSION = [2, 10, 5];

export interface LogMessageOptions {
  /** What makes a second publish harmless. Without: every publish is another message. */
  readonly id?: string;
  /** Wait for the acknowledgement, ms. */
  readonly timeoutMs: number;
  readonly headers?: readonly (readonly [name: string, value: string])[];
}

/** Publishes to a stream that has many publishers. @throws what the client throws: see `errors.ts` */
export function publishToLog(link: NatsLink, subject: string, payload: Uint8Array | string, options: LogMessageOptions): Promise<PubAck> {
  const { id, timeoutMs } = options;
  const head = headers();
  for (const [name, value] of options.headers ?? []) head.set(name, value);
  if (id !== undefined) head.set(ID_HEADER, id);
  if (isInexact(link.nc.info?.version)) pad(subject, head, Buffer.byteLength(payload));
  return link.js.publish(subject, payload, { headers: head, timeout: timeoutMs });
}

/** What a message with headers takes of a stream's `max_bytes`. */
export function storedBytes(subject: string, head: MsgHdrs, payloadBytes: number): number {
  return RECORD_BYTES + Buffer.byteLength(subject) + Buffer.byteLength(`${head}`) + payloadBytes;
}

function pad(subject: string, head: MsgHdrs, payloadBytes: number): void {
  head.set(PAD_HEADER, '');
  const over = storedBytes(subject, head, payloadBytes) % UNIT_BYTES;
  const unitsMore = Math.random() < 0.5 ? 0 : 1;
  head.set(PAD_HEADER, '-'.repeat(((UNIT_BYTES - over) % UNIT_BYTES) + unitsMore * UNIT_BYTES));
}

function isInexact(version: string | undefined): boolean {
  const parts = (version ?? '').split('.').map((part) => Number.parseInt(part, 10));
  const different = FIRST_EXACT_VERSION.findIndex((part, i) => parts[i] !== part);
  return different >= 0 && !((parts[different] ?? 0) > (FIRST_EXACT_VERSION[different] as number));
}
