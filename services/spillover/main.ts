// The spillover service: writes what leaves the windows of one shard to segments on disk, and answers queries on them.

import { requests, SPILLOVER_SERVICE } from '#shared/contract/queries';
import { connectNats, requirePayload } from '#shared/nats/connection';
import { linkedService } from '#shared/nats/linked-service';
import { type Endpoint, endpoint, startQueryService } from '#shared/nats/query-service';
import { retryUnanswered } from '#shared/nats/retry';
import type { Config } from '#shared/runtime/config';
import type { Logger } from '#shared/runtime/logging';
import type { RunningService } from '#shared/runtime/service';
import { type Disk, realDisk } from '#shared/segments/disk';
import { spill } from './pipeline.ts';
import { SpillShard } from './spill-shard.ts';

export interface SpilloverOptions {
  readonly config: Config;
  readonly logger: Logger;
  /** Aborts when the process is told to stop. */
  readonly stopping: AbortSignal;
  /** For tests: a disk that fails on demand. */
  readonly disk?: Disk;
}

/**
 * Resolves when the segments are open and queries are answered. `done` rejects with a DiskFailedError when the disk fails:
 * exit then, starting again is the recovery.
 * @throws {SetupError} if there is no spillover_path, or it cannot be used
 */
export async function startSpillover({ config, logger, stopping, disk = realDisk }: SpilloverOptions): Promise<RunningService> {
  const halt = new AbortController();
  const stop = AbortSignal.any([stopping, halt.signal]);
  const link = await connectNats(config.nats, { name: `spillway-spillover-${config.shard}`, logger, signal: stopping });
  try {
    requirePayload(link);
    const shard = await retryUnanswered(() => SpillShard.open({ config, link, logger, stopping: stop, disk }), logger, stopping);
    logger.info({ shard: config.shard, ...shard.info().position }, 'reading on from the end of the newest segment');
    await startQueryService(link, {
      name: SPILLOVER_SERVICE,
      description: 'What has left the window, on disk',
      metadata: { shard: `${config.shard}`, shards: `${config.shards}` },
      group: link.subjects.spill(config.shard),
      endpoints: endpointsOf(shard),
      statistics: () => shard.info(),
      logger,
    });
    return linkedService({ work: spill(shard, stop), link, halt, close: () => shard.close() });
  } catch (error) {
    await link.close();
    throw error;
  }
}

function endpointsOf(shard: SpillShard): Record<string, Endpoint> {
  return {
    range: endpoint(requests.range, (request) => shard.queries.range(request)),
    segments: endpoint(requests.segments, ({ cursor }) => shard.queries.segments(cursor ?? null)),
    info: endpoint(requests.info, () => shard.info()),
  };
}
