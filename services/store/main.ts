// The store service: the window of one shard, kept current from its log, answering queries.

import { defer, EMPTY, type Observable, of, repeat } from 'rxjs';
import { STORE_SERVICE } from '#shared/contract/queries';
import { connectNats, requirePayload } from '#shared/nats/connection';
import { linkedService } from '#shared/nats/linked-service';
import { startQueryService } from '#shared/nats/query-service';
import { retryUnanswered } from '#shared/nats/retry';
import type { Config } from '#shared/runtime/config';
import type { Logger } from '#shared/runtime/logging';
import type { RunningService } from '#shared/runtime/service';
import { storeEndpoints } from './endpoints.ts';
import { StoreShard } from './store-shard.ts';

export interface StoreOptions {
  readonly config: Config;
  readonly logger: Logger;
  readonly stopping: AbortSignal;
}

/**
 * Resolves when the floor is known and queries are answered; the window is current when `info` says so.
 * @throws {SetupError} if the streams or the server do not fit the configuration
 */
export async function startStore({ config, logger, stopping }: StoreOptions): Promise<RunningService> {
  const halt = new AbortController();
  const stop = AbortSignal.any([stopping, halt.signal]);
  const link = await connectNats(config.nats, { name: `spillway-store-${config.shard}`, logger, signal: stopping });
  try {
    requirePayload(link);
    const shard = await retryUnanswered(() => StoreShard.open({ config, link, logger, stopping: stop }), logger, stopping);
    logger.info({ shard: config.shard, ...shard.position }, 'replaying the log from the floor');
    await startQueryService(link, {
      name: STORE_SERVICE,
      description: 'The window of the recent past',
      metadata: { shard: `${config.shard}`, shards: `${config.shards}` },
      group: link.subjects.query(config.shard),
      endpoints: storeEndpoints(shard),
      statistics: () => shard.info(),
      logger,
    });
    return linkedService({ work: steps(shard, stop), link, halt, close: () => shard.close() });
  } catch (error) {
    await link.close();
    throw error;
  }
}

/** Steps until told to stop: the next messages are pulled only when the last ones are done. */
function steps(shard: StoreShard, stop: AbortSignal): Observable<void> {
  return defer(() => shard.step()).pipe(repeat({ delay: () => (stop.aborted ? EMPTY : of(0)) }));
}
