// The connection to NATS: settings that survive outages, and one place that knows whether we are connected.
// The client does not buffer for us (what is published while disconnected is lost without a word), so whoever publishes
// data asks `isConnected` first and keeps it until JetStream has acknowledged it.

import { readFileSync } from 'node:fs';
import {
  type ConnectionOptions,
  connect,
  credsAuthenticator,
  type JetStreamClient,
  type JetStreamManager,
  type NatsConnection,
  NatsError,
} from 'nats';
import { BehaviorSubject, type Observable } from 'rxjs';
import { createSubjects, type Subjects } from '#shared/contract/subjects';
import type { NatsConfig } from '#shared/runtime/config';
import type { Logger } from '#shared/runtime/logging';
import { SetupError } from '#shared/runtime/service';
import { pause } from '#shared/runtime/wait';

export interface NatsLink {
  readonly nc: NatsConnection;
  readonly js: JetStreamClient;
  readonly jsm: JetStreamManager;
  readonly subjects: Subjects;
  isConnected(): boolean;
  /** Starts with the present state; emits on every change. */
  readonly connection: Observable<boolean>;
  /** Settles when the connection is closed for good. */
  readonly closed: Promise<void>;
  /** Lets what is under way finish, then closes. */
  close(): Promise<void>;
}

export interface ConnectOptions {
  /** Shown by the server's monitoring. */
  readonly name: string;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** Give up after this time with a {@link NatsUnreachableError}; absent: try for ever. */
  readonly giveUpAfterMs?: number;
}

/** No server answered, or none let us in. */
export class NatsUnreachableError extends Error {
  constructor(servers: readonly string[], reason: string) {
    super(`NATS at ${servers.join(', ')}: ${reason}`);
    this.name = 'NatsUnreachableError';
  }
}

const RETRY_MS = 500;
const REPORT_INTERVAL_MS = 10_000;
const CLOSE_DEADLINE_MS = 2_000;

/** Connects, for as long as it takes, and says every 10 s what is being tried. */
export async function connectNats(config: NatsConfig, options: ConnectOptions): Promise<NatsLink> {
  const startedMs = Date.now();
  let reportedMs = Number.NEGATIVE_INFINITY;
  for (;;) {
    options.signal.throwIfAborted();
    try {
      return await link(await connect(connectionOptions(config, options.name)), config, options.logger);
    } catch (error) {
      if (error instanceof SetupError) throw error;
      const reason = reasonOf(error);
      const waitedMs = Date.now() - startedMs;
      if (options.giveUpAfterMs !== undefined && waitedMs >= options.giveUpAfterMs) throw new NatsUnreachableError(config.servers, reason);
      if (Date.now() - reportedMs >= REPORT_INTERVAL_MS) {
        reportedMs = Date.now();
        options.logger.warn({ servers: config.servers, reason, waited_ms: waitedMs }, 'NATS is not reachable, trying again');
      }
      await pause(RETRY_MS, options.signal);
    }
  }
}

/** Bodies and replies are up to 512 KiB; headers and subjects need some more. */
const PAYLOAD_BYTES_MIN = 640 * 1024;

/** @throws {SetupError} if the server would refuse our larger messages */
export function requirePayload(link: NatsLink): void {
  const limit = link.nc.info?.max_payload ?? Number.POSITIVE_INFINITY;
  if (limit >= PAYLOAD_BYTES_MIN) return;
  throw new SetupError(
    `NATS at ${link.nc.getServer()} takes messages of ${limit} bytes at most; Spillway needs ${PAYLOAD_BYTES_MIN}: raise max_payload in its configuration (the server's default is 1 MiB)`,
  );
}

function connectionOptions(config: NatsConfig, name: string): ConnectionOptions {
  return {
    servers: [...config.servers],
    name,
    maxReconnectAttempts: -1, // the default gives up after about 20 s
    reconnectTimeWait: 250,
    reconnectJitter: 250,
    pingInterval: 5_000, // the default notices a silent partition after 6 minutes
    maxPingOut: 2,
    timeout: 5_000,
    ignoreAuthErrorAbort: true, // a server that reloads its users must not end us
    noAsyncTraces: true,
    ...(config.user !== null && config.password !== null ? { user: config.user, pass: config.password } : {}),
    ...(config.creds !== null ? { authenticator: credsAuthenticator(readCredentials(config.creds)) } : {}),
    ...(config.tls !== null
      ? {
          tls: {
            ...(config.tls.ca_file === undefined ? {} : { caFile: config.tls.ca_file }),
            ...(config.tls.cert_file === undefined ? {} : { certFile: config.tls.cert_file }),
            ...(config.tls.key_file === undefined ? {} : { keyFile: config.tls.key_file }),
          },
        }
      : {}),
  };
}

function readCredentials(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new SetupError(`nats.creds: ${error instanceof Error ? error.message : path}`);
  }
}

async function link(nc: NatsConnection, config: NatsConfig, logger: Logger): Promise<NatsLink> {
  const connection = new BehaviorSubject(true);
  void watch(nc, connection, logger);
  const closed = nc.closed().then((error) => {
    connection.complete();
    if (error) logger.error({ err: error }, 'the NATS connection was closed');
  });
  return {
    nc,
    js: nc.jetstream({ timeout: 5_000 }),
    // Without the check, a role needs no permission to ask for account information.
    jsm: await nc.jetstreamManager({ checkAPI: false, timeout: 5_000 }),
    subjects: createSubjects(config.prefix),
    isConnected: () => connection.value && !nc.isClosed(),
    connection,
    closed,
    close: async () => {
      if (nc.isClosed()) return;
      // Draining needs a server that answers; without one there is nothing to wait for.
      await Promise.race([connection.value ? nc.drain() : nc.close(), pause(CLOSE_DEADLINE_MS)]).catch(() => undefined);
      if (!nc.isClosed()) await nc.close().catch(() => undefined);
    },
  };
}

async function watch(nc: NatsConnection, connection: BehaviorSubject<boolean>, logger: Logger): Promise<void> {
  for await (const status of nc.status()) {
    switch (status.type) {
      case 'disconnect':
        if (connection.value) logger.warn({ server: String(status.data) }, 'NATS connection lost');
        connection.next(false);
        break;
      case 'reconnect':
        logger.info({ server: String(status.data) }, 'NATS connection restored');
        connection.next(true);
        break;
      case 'error':
        logger.warn({ reason: String(status.data), permission: status.permissionContext }, 'NATS reports an error');
        break;
      default:
        break;
    }
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof Error && 'code' in error && error.code === 'ENOTFOUND') return 'there is no host of this name; check nats.servers';
  if (!(error instanceof NatsError)) return error instanceof Error ? error.message : String(error);
  switch (error.code) {
    case 'CONNECTION_REFUSED':
      return 'connection refused; is the server running?';
    case 'AUTHORIZATION_VIOLATION':
    case 'AUTHENTICATION_EXPIRED':
    case 'BAD_AUTHENTICATION':
      return 'the credentials were refused; check nats.user, nats.password or nats.creds';
    case 'TIMEOUT':
    case 'CONNECTION_TIMEOUT':
      return 'no answer';
    default:
      return error.message;
  }
}
