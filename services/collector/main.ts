// The collector: reads the units of this host at every tick and hands each batch to JetStream. It starts to read at once and
// keeps what it has until NATS is there; being stopped, it ends the ticks, tries to hand over what is left, and leaves the
// rest in the spool for its successor.

import { randomBytes } from 'node:crypto';
import { platform } from 'node:os';
import { from } from 'rxjs';
import { COLLECTOR_SERVICE, requests } from '#shared/contract/queries';
import { shardOf } from '#shared/contract/series';
import { connectNats, type NatsLink } from '#shared/nats/connection';
import { isPermissionViolation } from '#shared/nats/errors';
import { endpoint, startQueryService } from '#shared/nats/query-service';
import { retryUnanswered } from '#shared/nats/retry';
import { ensureStream, samplesStream } from '#shared/nats/topology';
import type { Config } from '#shared/runtime/config';
import type { Logger } from '#shared/runtime/logging';
import type { RunningService } from '#shared/runtime/service';
import type { Disk } from '#shared/segments/disk';
import { extraMetrics } from './core/extra-metrics.ts';
import { Outbox } from './core/outbox.ts';
import { Publication } from './core/publication.ts';
import { TickSchedule } from './core/tick-schedule.ts';
import { collectorTargets } from './core/unit-target.ts';
import { UnitWatch } from './core/unit-watch.ts';
import { collect, IN_FLIGHT_MAX } from './pipeline.ts';
import { isInContainer, OWN_PROCFS } from './procfs/pid-namespace.ts';
import { createSampler } from './sampler.ts';
import { Spool } from './spool.ts';
import { collectorInfo, emptyTally } from './tally.ts';
import { limitsOf, UnitReload } from './unit-reload.ts';

/** Within the deadline of the process, with time left to close the connection. */
const FLUSH_MS_MAX = 4_000;

export interface CollectorOptions {
  readonly config: Config;
  readonly logger: Logger;
  /** Aborts when the process is told to stop before the start has finished. */
  readonly stopping: AbortSignal;
  /** Reads the configuration again: the units that it then has are taken on SIGHUP, and when its file has changed. */
  readonly reload?: () => Config;
  /** For tests: a disk that fails on demand. */
  readonly disk?: Disk;
  /** For tests: how long a stop waits for NATS to take what is left, ms. */
  readonly flushMsMax?: number;
}

/**
 * Starts the ticks at once, and resolves when NATS is connected and the collector answers queries.
 * @throws {SetupError} if the units cannot be read on this system
 */
export async function startCollector({
  config,
  logger,
  stopping,
  reload: readConfig,
  disk,
  flushMsMax = FLUSH_MS_MAX,
}: CollectorOptions): Promise<RunningService> {
  const targets = collectorTargets(config);
  const extras = extraMetrics(config);
  const sampler = createSampler(config.sampler, targets, { procfs: config.procfs, dockerRoot: config.docker_root, extras });
  const outbox = new Outbox({ bytesMax: config.outbox_max_bytes, inFlightMax: IN_FLIGHT_MAX });
  const tally = emptyTally();
  tally.units = targets.length;
  const reload = readConfig === undefined ? null : new UnitReload(config, readConfig, logger);
  const parts = {
    config,
    boot: randomBytes(8).toString('hex'),
    extras,
    sampler,
    schedule: new TickSchedule(Math.round(config.metrics.sample_interval_secs * 1000)),
    watch: new UnitWatch(extras),
    publication: new Publication(limitsOf(config, targets)),
    reload,
    outbox,
    spool: createSpool(config, outbox, logger, disk),
    tally,
    logger,
  };
  if (Object.keys(config.units).length === 0) logger.warn('no units are configured');
  if (platform() === 'linux' && config.procfs === OWN_PROCFS && isInContainer()) {
    logger.info('this process is in a container: it sees the processes of its own pid namespace, not those of the host; see procfs');
  }
  const info = () =>
    collectorInfo({
      ...parts,
      host: config.host,
      hasTargets: Object.keys((reload?.config ?? config).units).length > 0,
      configProblem: reload?.problem ?? null,
    });

  const ending = new AbortController();
  const connecting = connectWithStream(config, logger, AbortSignal.any([stopping, ending.signal]));
  const finished = new Promise<void>((complete, error) => {
    collect({ ...parts, links: from(connecting), stopping: ending.signal, flushMsMax }).subscribe({ complete, error });
  });
  finished.catch(() => undefined); // whoever waits for it is told; until somebody does, it is not an unhandled rejection
  let link: NatsLink | null = null;
  const stop = async (): Promise<void> => {
    ending.abort();
    await finished.catch(() => undefined);
    outbox.disconnected(); // nothing is handed out any more; what is under way has no outcome
    await parts.spool?.finish();
    const left = { lost_rows: outbox.exposedRows, spooled_rows: outbox.rows - outbox.exposedRows + outbox.spool.waitingRows };
    if (left.lost_rows > 0) logger.warn(left, 'stopped with rows that NATS has not acknowledged and no disk has');
    else if (left.spooled_rows > 0) logger.info(left, 'stopped with rows in the spool that NATS has not acknowledged');
    await link?.close();
    sampler.close();
  };

  try {
    link = await connecting;
    await startQueryService(link, {
      name: COLLECTOR_SERVICE,
      description: 'Samples of the units of one host',
      metadata: { host: config.host },
      group: link.subjects.collector(config.host),
      endpoints: { info: endpoint(requests.info, info) },
      statistics: info,
      logger,
    });
    const closed = link.closed.then(() => {
      if (!ending.signal.aborted) throw new Error('the NATS connection was closed');
    });
    return { done: Promise.race([finished, closed]), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function createSpool(config: Config, outbox: Outbox, logger: Logger, disk: Disk | undefined): Spool | null {
  const { spool_path: path, spool_max_bytes: bytesMax, outbox_max_bytes: outboxBytesMax, host } = config;
  return path === null ? null : new Spool({ path, host, bytesMax, outboxBytesMax, outbox, logger, disk });
}

/** Connects, and makes the stream that the batches go to where it is not there yet: a collector may be the first to start. */
async function connectWithStream(config: Config, logger: Logger, signal: AbortSignal): Promise<NatsLink> {
  const link = await connectNats(config.nats, { name: `spillway-collector ${config.host}`, logger, signal });
  const wanted = samplesStream(link.subjects, config.nats, shardOf(config.host, config.shards));
  try {
    await retryUnanswered(() => ensureStream(link.jsm, wanted), logger, signal);
  } catch (error) {
    if (!isPermissionViolation(error)) {
      await link.close();
      throw error;
    }
    // A collector that may only publish is a sensible thing: the store of the shard makes the stream.
    logger.info({ stream: wanted.name }, 'not allowed to look after the stream; its store has to make it');
  }
  return link;
}
