// The asking side of the query services: one request with its error turned into a type, and discovery of who is there.
// Requests are at most once, which is right for queries: a lost one is asked again by whoever wanted to know.

import { createInbox, type Msg, type NatsConnection, NatsError } from 'nats';
import { QUERY_ERRORS, QueryError, type QueryErrorCode } from '#shared/contract/queries';
import type { NatsLink } from './connection.ts';
import { messageOf } from './errors.ts';

/** `nobody`: no service listens on the subject. `timeout`: one may, but it did not answer in time. `disconnected`: we are cut off. */
export type NoAnswerReason = 'nobody' | 'timeout' | 'disconnected';

export class NoAnswerError extends Error {
  readonly reason: NoAnswerReason;
  constructor(subject: string, reason: NoAnswerReason, sentence: string) {
    super(`${subject}: ${sentence}`);
    this.name = 'NoAnswerError';
    this.reason = reason;
  }
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/**
 * Asks one query and returns the reply as it came; replies come from our own services and are not checked again.
 * @throws {QueryError} with the word of the service that refused it
 * @throws {NoAnswerError} when nobody answered
 */
export async function ask(link: NatsLink, subject: string, request: unknown, timeoutMs: number): Promise<unknown> {
  let reply: Msg;
  try {
    reply = await link.nc.request(subject, encoder.encode(JSON.stringify(request)), { timeout: timeoutMs });
  } catch (error) {
    throw noAnswer(subject, error, timeoutMs);
  }
  const refusal = reply.headers?.get('Nats-Service-Error') ?? '';
  if (refusal !== '') throw refusedQuery(refusal);
  return JSON.parse(decoder.decode(reply.data)) as unknown;
}

function noAnswer(subject: string, error: unknown, timeoutMs: number): NoAnswerError {
  const code = error instanceof NatsError ? error.code : '';
  if (code === '503') return new NoAnswerError(subject, 'nobody', 'no service listens there');
  if (code === 'TIMEOUT') return new NoAnswerError(subject, 'timeout', `no answer within ${timeoutMs} ms`);
  return new NoAnswerError(subject, 'disconnected', messageOf(error));
}

/** `unknown_unit: no shard knows …` */
function refusedQuery(text: string): QueryError {
  const colon = text.indexOf(': ');
  const word = colon === -1 ? '' : text.slice(0, colon);
  return word in QUERY_ERRORS ? new QueryError(word as QueryErrorCode, text.slice(colon + 2)) : new QueryError('internal', text);
}

/** One running instance of a query service, as it describes itself. */
export interface ServiceInstance {
  readonly name: string;
  readonly id: string;
  readonly version: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** What the service publishes as its statistics; undefined when it was only asked for its identity. */
  readonly statistics: unknown;
}

export interface FindOptions {
  readonly name: string;
  /** `PING` is who is there; `STATS` also brings the statistics of every instance, replicas included. */
  readonly verb: 'PING' | 'STATS';
  readonly timeoutMs: number;
  /** True when nobody else is expected: ends the wait at once. */
  readonly isComplete?: (found: readonly ServiceInstance[]) => boolean;
}

// Instances answer within milliseconds of each other; one that is later than this is found by the next search.
const QUIET_MS = 300;

/** Instances of a service with our prefix. Empty when there is none. */
export async function findServices(link: NatsLink, options: FindOptions): Promise<ServiceInstance[]> {
  const found: ServiceInstance[] = [];
  await scatter(link.nc, `$SRV.${options.verb}.${options.name}`, options.timeoutMs, (message) => {
    const instance = readInstance(message);
    if (instance !== null && instance.metadata['prefix'] === link.subjects.prefix) found.push(instance);
    return options.isComplete?.(found) ?? false;
  });
  return found;
}

/** Sends one request and hands over what comes until `take` says enough, it is quiet, nobody is there, or time is up. */
function scatter(nc: NatsConnection, subject: string, timeoutMs: number, take: (message: Msg) => boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    const inbox = createInbox();
    const finish = (): void => {
      clearTimeout(timer);
      subscription.unsubscribe();
      resolve();
    };
    let timer = setTimeout(finish, timeoutMs);
    const subscription = nc.subscribe(inbox, {
      callback: (error, message) => {
        const isNobody = error === null && message.data.length === 0 && message.headers?.code === 503;
        if (error !== null || isNobody || take(message)) return finish();
        clearTimeout(timer);
        timer = setTimeout(finish, QUIET_MS);
      },
    });
    try {
      nc.publish(subject, undefined, { reply: inbox });
    } catch (error) {
      finish();
      reject(noAnswer(subject, error, timeoutMs));
    }
  });
}

interface InstanceReply {
  name: string;
  id: string;
  version: string;
  metadata?: Record<string, string>;
  endpoints?: { data?: unknown }[];
}

/** Anybody may answer a discovery: what is not a service's description is left out. */
function readInstance(message: Msg): ServiceInstance | null {
  try {
    const reply = JSON.parse(decoder.decode(message.data)) as InstanceReply;
    const { name, id, version, metadata } = reply;
    if (typeof name !== 'string' || typeof id !== 'string' || typeof version !== 'string') return null;
    return { name, id, version, metadata: metadata ?? {}, statistics: reply.endpoints?.[0]?.data };
  } catch {
    return null;
  }
}
