// For programs of users: from the address of a NATS server to a client that is ready to ask.

import { connectNats } from '#shared/nats/connection';
import { loadConfig } from '#shared/runtime/config';
import { createLogger } from '#shared/runtime/logging';
import { SpillwayClient } from './client.ts';

export interface ConnectedClient {
  readonly client: SpillwayClient;
  close(): Promise<void>;
}

export interface ConnectOptions {
  /** Variables as the services take them, `SPILLWAY_NATS_SERVERS` first of all; the process's own by default. */
  readonly env?: NodeJS.ProcessEnv;
  /** Give up after this time without a server; 5 s by default. */
  readonly giveUpAfterMs?: number;
}

const GIVE_UP_MS = 5_000;

/**
 * Connects with the same configuration as the services: `spillway.yaml` in the working directory and `SPILLWAY_*` variables.
 * @throws {ConfigError} when it is wrong
 * @throws {NatsUnreachableError} when no server answers
 */
export async function connectSpillway(options: ConnectOptions = {}): Promise<ConnectedClient> {
  const config = loadConfig({ env: options.env ?? process.env, cwd: process.cwd() });
  const link = await connectNats(config.nats, {
    name: 'spillway client',
    logger: createLogger('client', 'silent'),
    signal: new AbortController().signal,
    giveUpAfterMs: options.giveUpAfterMs ?? GIVE_UP_MS,
  });
  return { client: new SpillwayClient(link, { shards: config.shards }), close: () => link.close() };
}
