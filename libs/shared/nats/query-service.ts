// Queries as a NATS service: requests are checked against their schema, replies are JSON, errors are the framework's headers
// with a stable word and a sentence. Discovery, ping and statistics come with the framework.

import type { Service, ServiceMsg } from 'nats';
import type { z } from 'zod';
import { QUERY_ERRORS, QueryError, REPLY_BYTES_MAX } from '#shared/contract/queries';
import type { Logger } from '#shared/runtime/logging';
import { VERSION } from '#shared/runtime/version';
import type { NatsLink } from './connection.ts';

export interface Endpoint<Schema extends z.ZodType = z.ZodType> {
  readonly request: Schema;
  /** Throws {@link QueryError} for what the caller did wrong. */
  readonly answer: (request: z.infer<Schema>) => unknown;
}

/** A reply that is JSON text already. */
export class JsonText {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/** Keeps request and answer of one endpoint in step. */
export function endpoint<Schema extends z.ZodType>(request: Schema, answer: (request: z.infer<Schema>) => unknown): Endpoint {
  return { request, answer } as Endpoint;
}

export interface QueryServiceOptions {
  readonly name: string;
  readonly description: string;
  /** Shown in discovery; clients find shards and hosts by it. */
  readonly metadata: Record<string, string>;
  /** Subject of the group; an endpoint's subject is `<group>.<name>`. */
  readonly group: string;
  readonly endpoints: Record<string, Endpoint>;
  /** Shown in the service statistics. */
  readonly statistics: () => unknown;
  readonly logger: Logger;
}

export async function startQueryService(link: NatsLink, options: QueryServiceOptions): Promise<Service> {
  const service = await link.nc.services.add({
    name: options.name,
    version: VERSION,
    description: options.description,
    metadata: { prefix: link.subjects.prefix, ...options.metadata },
    // Replicas of one shard share its queries; shards have subjects of their own.
    queue: 'spillway',
    statsHandler: async () => options.statistics(),
  });
  const group = service.addGroup(options.group);
  for (const [name, one] of Object.entries(options.endpoints)) {
    group.addEndpoint(name, (error, message) => {
      if (error === null) void respond(message, one, options.logger);
    });
  }
  // Who is told that we are ready may ask at once. A connection that is lost here is no failure: the client subscribes again.
  await link.nc.flush().catch(() => undefined);
  return service;
}

async function respond(message: ServiceMsg, one: Endpoint, logger: Logger): Promise<void> {
  try {
    const answer = await one.answer(readRequest(message.data, one.request));
    const reply = answer instanceof JsonText ? answer.text : JSON.stringify(answer);
    if (reply.length > REPLY_BYTES_MAX)
      logger.error({ subject: message.subject, reply_bytes: reply.length }, 'a reply is larger than its limit');
    message.respond(reply);
  } catch (error) {
    if (error instanceof QueryError) {
      message.respondError(QUERY_ERRORS[error.code], headerText(`${error.code}: ${error.message}`));
    } else {
      logger.error({ err: error, subject: message.subject }, 'a query failed');
      message.respondError(QUERY_ERRORS.internal, 'internal: the service failed on this query; its log says why');
    }
  }
}

function readRequest(data: Uint8Array, schema: z.ZodType): unknown {
  let raw: unknown = {};
  if (data.length > 0) {
    try {
      raw = JSON.parse(new TextDecoder().decode(data));
    } catch {
      throw new QueryError('bad_request', 'the request is not JSON');
    }
  }
  const parsed = schema.safeParse(raw);
  if (parsed.success) return parsed.data;
  throw new QueryError(
    'bad_request',
    parsed.error.issues.map((issue) => `${issue.path.join('.') || 'request'}: ${issue.message}`).join('; '),
  );
}

/** Names are hostile: a line break would end the header, and a header is not long. */
function headerText(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 1000);
}
