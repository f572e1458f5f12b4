// A connection for tests, with a prefix of its own so that files run side by side on one server.

import { randomBytes } from 'node:crypto';
import { pino } from 'pino';
import { connectNats, type NatsLink } from '#shared/nats/connection';
import { type Config, loadConfig } from '#shared/runtime/config';

export const silent = pino({ level: 'silent' });

/** The collector is no unit by itself, so that tests have the units that they name. */
export function testConfig(env: Record<string, string>): Config {
  return loadConfig({
    env: { SPILLWAY_NATS_PREFIX: `t${randomBytes(4).toString('hex')}`, SPILLWAY_HOST: 'h1', SPILLWAY_OWN_UNIT: 'no', ...env },
    cwd: '/nonexistent',
  });
}

export function connectTest(config: Config): Promise<NatsLink> {
  return connectNats(config.nats, { name: 'test', logger: silent, signal: new AbortController().signal, giveUpAfterMs: 5_000 });
}
