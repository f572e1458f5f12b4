// The store service: the window of one shard, kept current from its log, answering queries.

import { concatMap, defer, EMPTY, type Observable, of, repeat } from 'rxjs';
import { STORE_SERVICE } from '#shared/contract/queries';
import { connectNats } from '#shared/nats/connection';
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

export async function startStore({ config, logger, stopping }: StoreOptions): Promise<RunningService> {
  const halt = new AbortController();
  const stop = AbortSignal.any([stopping, halt.signal]);
  const link = await connectNats(config.nats, { name: `spillway-store-${config.shard}`, logger, signal: stopping });
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
  const done = run(shard, stop);
  return {
    done,
    stop: async () => {
      halt.abort();
      await done.catch(() => undefined);
      await shard.close();
      await link.close();
    },
  };
}

/** Steps until told to stop: the next messages are pulled only when the last ones are done. */
function steps(shard: StoreShard, stop: AbortSignal): Observable<void> {
  return defer(() => of(shard)).pipe(
    concatMap((one) => one.step()),
    repeat({ delay: () => (stop.aborted ? EMPTY : of(0)) }),
  );
}

function run(shard: StoreShard, stop: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    steps(shard, stop).subscribe({ complete: resolve, error: reject });
  });
}
