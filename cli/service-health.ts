// One question to one service of a configuration: are you ready?

import type { SpillwayClient } from '#client/client';
import type { Health } from '#shared/contract/queries';
import type { Config } from '#shared/runtime/config';
import type { ServiceName } from './serve.ts';

/** @throws {QueryError} `unavailable` when it does not answer */
export async function healthOf(client: SpillwayClient, config: Pick<Config, 'host' | 'shard'>, name: ServiceName): Promise<Health> {
  switch (name) {
    case 'collector':
      return (await client.collectorInfo(config.host)).health;
    case 'store':
      return (await client.storeInfo(config.shard)).health;
    case 'spillover':
      return (await client.spilloverInfo(config.shard)).health;
  }
}
