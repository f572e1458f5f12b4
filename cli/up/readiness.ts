// Waiting until everything that was started does its work.

import { SpillwayClient } from '#client/client';
import { connectNats, type NatsLink } from '#shared/nats/connection';
import type { Config } from '#shared/runtime/config';
import { createLogger } from '#shared/runtime/logging';
import { pause } from '#shared/runtime/wait';
import { say } from '../output.ts';
import type { ServiceName } from '../serve.ts';
import { healthOf } from '../service-health.ts';

const NATS_DEADLINE_MS = 30_000;
const REQUEST_TIMEOUT_MS = 1_000;
const POLL_MS = 100;
const REPORT_INTERVAL_MS = 10_000;

/** @throws {NatsUnreachableError} when no server answers in time */
export function connectTo(config: Config, signal: AbortSignal): Promise<NatsLink> {
  return connectNats(config.nats, {
    name: 'spillway up',
    logger: createLogger('up', 'silent'),
    signal,
    giveUpAfterMs: NATS_DEADLINE_MS,
  });
}

/** Says every 10 s what is being waited for; there is no deadline, because a large window takes its time to come back. */
export async function untilReady(link: NatsLink, config: Config, names: readonly ServiceName[], signal: AbortSignal): Promise<void> {
  const client = new SpillwayClient(link, { timeoutMs: REQUEST_TIMEOUT_MS });
  let reportedMs = Date.now();
  for (;;) {
    const missing = (await Promise.all(names.map((name) => notReady(client, config, name)))).filter((reason) => reason !== null);
    signal.throwIfAborted();
    if (missing.length === 0) return;
    if (Date.now() - reportedMs >= REPORT_INTERVAL_MS) {
      reportedMs = Date.now();
      say(`Waiting for ${missing.join('; ')}`);
    }
    await pause(POLL_MS, signal);
  }
}

async function notReady(client: SpillwayClient, config: Config, name: ServiceName): Promise<string | null> {
  try {
    const health = await healthOf(client, config, name);
    return health.ready ? null : `${name}: ${health.problems.join(' ') || 'not ready yet'}`;
  } catch {
    return `${name}: does not answer yet`;
  }
}
