// The collector's wiring: ticks -> samples -> batch -> outbox -> JetStream, and the live subjects beside it.
// The outbox decides what is published when; here it only happens. A lane publishes one batch after the other until the
// outbox gives no more; a tick opens one lane, a new connection as many as may be under way at once. What fails goes back
// into the outbox, and the lane waits before it takes the next, so nothing but the outbox and its spool ever holds a batch.
// The spool has a rhythm of its own, so that no tick waits for a disk.

import {
  defer,
  EMPTY,
  exhaustMap,
  expand,
  filter,
  from,
  fromEvent,
  ignoreElements,
  interval,
  merge,
  type Observable,
  of,
  race,
  range,
  repeat,
  switchMap,
  takeUntil,
  tap,
  timer,
} from 'rxjs';
import { BATCH_BYTES_MAX, type EncodedBatch, encodeBatch } from '#shared/contract/batch';
import type { LifecycleEvent } from '#shared/contract/lifecycle';
import type { ExtraMetricName } from '#shared/contract/metrics';
import { decodeToken, shardOf } from '#shared/contract/series';
import type { NatsLink } from '#shared/nats/connection';
import { isPermissionViolation, isStreamFull, isUnanswered, messageOf } from '#shared/nats/errors';
import { PADDING_BYTES_MAX, publishToLog } from '#shared/nats/full-stream';
import type { Config } from '#shared/runtime/config';
import { createThrottledLog, type Logger } from '#shared/runtime/logging';
import { SetupError } from '#shared/runtime/service';
import { pause } from '#shared/runtime/wait';
import { Backoff } from './core/backoff.ts';
import { LiveSamples } from './core/live-samples.ts';
import type { Outbox, SpoolOccasion } from './core/outbox.ts';
import type { Publication, Published } from './core/publication.ts';
import { batchOf, type TickHead } from './core/tick-batch.ts';
import type { TickSchedule } from './core/tick-schedule.ts';
import type { UnitReading } from './core/unit-reading.ts';
import { collectorTargets } from './core/unit-target.ts';
import type { UnitSample } from './core/unit-tracker.ts';
import type { UnitWatch } from './core/unit-watch.ts';
import type { Sampler } from './sampler.ts';
import type { Spool } from './spool.ts';
import type { Tally } from './tally.ts';
import { limitsOf, type UnitReload } from './unit-reload.ts';

export interface PipelineParts {
  readonly config: Pick<Config, 'host' | 'shards' | 'live_subjects'>;
  readonly boot: string;
  /** Metrics of the batches beside those of every batch. */
  readonly extras: readonly ExtraMetricName[];
  readonly sampler: Sampler;
  readonly schedule: TickSchedule;
  readonly watch: UnitWatch;
  readonly publication: Publication;
  /** Null: the configuration is not read again. */
  readonly reload: UnitReload | null;
  readonly outbox: Outbox;
  /** Null: batches are kept in memory alone. */
  readonly spool: Spool | null;
  readonly tally: Tally;
  /** Emits the connection once it is there; ticks do not wait for it. */
  readonly links: Observable<NatsLink>;
  readonly logger: Logger;
  /** Aborts to end the ticks; what is in the outbox is still published, for `flushMsMax` at most. */
  readonly stopping: AbortSignal;
  readonly flushMsMax: number;
}

/** Publishes under way at the same time: hides the round trip when a backlog is sent, and bounds what is in doubt. */
export const IN_FLIGHT_MAX = 4;
const PUBLISH_TIMEOUT_MS = 5_000;
const BACKOFF_FIRST_MS = 250;
const BACKOFF_MOST_MS = 5_000;
/** Room for subject and headers in what the server calls payload. */
const HEADER_BYTES = 1024 + PADDING_BYTES_MAX;
const LOG_INTERVAL_MS = 60_000;
const FLUSH_INTERVAL_MS = 20;
/** How often CPU and memory are read for peaks. */
const PEAK_INTERVAL_MS = 100;
/** How often the spool looks for something to do: with the age at which batches go to disk, what a kill in an outage may take. */
const SPOOL_INTERVAL_MS = 250;
/** A changed file is read when it has stayed the same from one look to the next: an editor may be writing it. */
const RELOAD_INTERVAL_MS = 1_000;

/** Everything the collector does. Completes after a stop; fails only on our own mistakes. Subscribe once. */
export function collect(parts: PipelineParts): Observable<unknown> {
  return defer(() => new Collecting(parts).run());
}

class Collecting {
  readonly #parts: PipelineParts;
  readonly #backoff = new Backoff(BACKOFF_FIRST_MS, BACKOFF_MOST_MS);
  readonly #throttled: ReturnType<typeof createThrottledLog>;
  /** Problems of the sampler that the log has: each kind is said once. */
  readonly #saidProblems = new Set<string>();
  #link: NatsLink | null = null;
  /** Null before the first connection, and where they are turned off. */
  #live: LiveSamples | null = null;
  #hasTicksLeft = true;

  constructor(parts: PipelineParts) {
    this.#parts = parts;
    this.#throttled = createThrottledLog(LOG_INTERVAL_MS, () => performance.now());
  }

  run(): Observable<unknown> {
    return merge(this.#ticks(), this.#connections(), this.#flushAttempts(), this.#spoolRounds(), this.#reloads()).pipe(
      expand(() => this.#publishNext()),
      takeUntil(this.#flushed()),
    );
  }

  /** Emits after each tick taken. The next one is armed when this one's work is done, so work never piles up. */
  #ticks(): Observable<unknown> {
    const { stopping } = this.#parts;
    return defer(() => this.#waitAndTake()).pipe(repeat({ delay: () => (stopping.aborted ? this.#endTicks() : of(null)) }));
  }

  #endTicks(): Observable<never> {
    this.#hasTicksLeft = false;
    return EMPTY;
  }

  /** Emits for each lane that a new connection opens. */
  #connections(): Observable<unknown> {
    const { links, config, outbox } = this.#parts;
    return links.pipe(
      switchMap((link) => {
        this.#link = link;
        if (config.live_subjects) this.#live = new LiveSamples(config.host, link.subjects);
        return link.connection;
      }),
      switchMap((isConnected) => {
        if (isConnected) {
          outbox.connected();
          this.#backoff.succeeded();
          return range(0, IN_FLIGHT_MAX);
        }
        outbox.disconnected();
        return EMPTY;
      }),
    );
  }

  /** Emits after each round of the spool: there may be something to read from it now. */
  #spoolRounds(): Observable<unknown> {
    const { spool } = this.#parts;
    return spool === null ? EMPTY : timer(0, SPOOL_INTERVAL_MS).pipe(exhaustMap(() => spool.round(this.#spoolOccasion())));
  }

  /** Emits nothing: what is read is in force from the next tick on. */
  #reloads(): Observable<never> {
    const { reload } = this.#parts;
    if (reload === null) return EMPTY;
    const looks = interval(RELOAD_INTERVAL_MS).pipe(tap(() => reload.look()));
    const signals = fromEvent(process, 'SIGHUP').pipe(tap(() => reload.load()));
    return merge(looks, signals).pipe(ignoreElements());
  }

  #spoolOccasion(): SpoolOccasion {
    const { outbox, tally, stopping } = this.#parts;
    if (outbox.isConnected) return tally.publishProblem === null ? 'memory' : 'waiting';
    return stopping.aborted ? 'ending' : 'waiting';
  }

  /** After a stop no tick opens a lane any more, so time does. */
  #flushAttempts(): Observable<unknown> {
    return aborted(this.#parts.stopping).pipe(switchMap(() => interval(FLUSH_INTERVAL_MS)));
  }

  /** After a stop: when all is published, on disk with nobody to publish it to, or no longer worth waiting for. */
  #flushed(): Observable<unknown> {
    const { stopping, outbox, spool, flushMsMax } = this.#parts;
    const isSafe = (): boolean => outbox.batches === 0 || (spool !== null && !outbox.isConnected && outbox.exposedRows === 0);
    const isFlushed = interval(FLUSH_INTERVAL_MS).pipe(filter(() => !this.#hasTicksLeft && isSafe()));
    return aborted(stopping).pipe(switchMap(() => race(isFlushed, timer(flushMsMax))));
  }

  async #waitAndTake(): Promise<void> {
    const { schedule, stopping, tally } = this.#parts;
    this.#armTick();
    try {
      for (let leftMs = schedule.remainingMs(performance.now()); leftMs > 0; leftMs = schedule.remainingMs(performance.now())) {
        await pause(Math.ceil(this.#hasPeaks ? untilPeakMs(leftMs) : leftMs), stopping);
        if (stopping.aborted) return;
        if (this.#hasPeaks && schedule.remainingMs(performance.now()) > PEAK_INTERVAL_MS / 2) this.#takePeaks();
      }
      await this.#takeTick();
      tally.tickProblem = null;
    } catch (error) {
      // A tick that cannot be read is a hole in the data, not the end of the collector: the next one may work.
      tally.tickFailures++;
      tally.tickProblem = `the last tick could not be read: ${messageOf(error)}`;
      this.#throttled('tick', (times) => this.#parts.logger.error({ err: error, times }, 'a tick could not be read'));
    }
  }

  #armTick(): void {
    const { schedule, tally, logger } = this.#parts;
    const skippedBefore = schedule.skipped;
    schedule.arm(Date.now(), performance.now());
    if (schedule.skipped === skippedBefore) return;
    this.#throttled('skipped', () =>
      logger.warn(
        { ticks_skipped_total: schedule.skipped, tick_ms_last: tally.tickMsLast, interval_ms: schedule.intervalMs },
        'ticks are skipped: reading the units took longer than the interval; raise sample_interval_secs or watch fewer units',
      ),
    );
  }

  /** Never throws: a peak is worth less than the tick that follows it. */
  #takePeaks(): void {
    const { sampler, watch, logger } = this.#parts;
    try {
      const readings = sampler.samplePeak?.() ?? [];
      watch.observePeaks(
        sampler.units.map(({ unit }) => unit),
        readings,
      );
    } catch (error) {
      this.#throttled('peak', (times) => logger.error({ err: error, times }, 'a reading between two ticks failed, peaks may be too low'));
    }
  }

  get #hasPeaks(): boolean {
    return this.#parts.extras.includes('cpu_percent_max');
  }

  async #takeTick(): Promise<void> {
    const { config, boot, extras, sampler, schedule, outbox, tally } = this.#parts;
    const startedMs = performance.now();
    const startedCpu = process.cpuUsage();
    const head: TickHead = { host: config.host, boot, tick: schedule.take(), ts: Date.now(), intervalMs: schedule.intervalMs };
    this.#retarget();
    const published = this.#choose(await sampler.sample());
    const { units, samples } = published;
    const bytesMax = Math.min(BATCH_BYTES_MAX, (this.#link?.nc.info?.max_payload ?? Number.POSITIVE_INFINITY) - HEADER_BYTES);
    const batches = units.length === 0 ? [] : encodeBatch(batchOf(head, units, samples, extras), bytesMax);
    const cpu = process.cpuUsage(startedCpu);
    tally.tickCpuUsLast = cpu.user + cpu.system;
    tally.tickCpuUsTotal += tally.tickCpuUsLast;
    tally.tickMsLast = Math.round((performance.now() - startedMs) * 1000) / 1000;
    const droppedBefore = outbox.droppedRows.outbox_full;
    for (const batch of batches) {
      tally.sampledRows += batch.rows;
      outbox.add(batch, performance.now());
    }
    this.#reportDropped(outbox.droppedRows.outbox_full - droppedBefore);
    this.#sayProblems(sampler.problems);
    this.#announce(head, published);
  }

  /** Between two ticks, so that no reading is of both configurations. */
  #retarget(): void {
    const { reload, sampler, publication } = this.#parts;
    const config = reload?.take() ?? null;
    if (reload === null || config === null) return;
    const targets = collectorTargets(config);
    try {
      sampler.retarget(targets);
      publication.limits = limitsOf(config, targets);
      reload.took(config);
    } catch (error) {
      if (!(error instanceof SetupError)) throw error;
      reload.refuse(error);
    }
  }

  #choose(readings: readonly UnitReading[]): Published {
    const { sampler, watch, publication, tally, logger } = this.#parts;
    const names = sampler.units.map(({ unit }) => unit);
    const { samples, events } = watch.observe(names, readings);
    const named = sampler.units.map(({ unit, target }, index) => ({
      unit,
      sample: samples[index] as UnitSample,
      isRanked: target.rule.kind === 'all',
    }));
    const published = publication.choose(named, events);
    tally.units = published.units.length;
    tally.unitsLeftOut = published.leftOut;
    if (published.leftOut > 0) {
      this.#throttled('left out', () =>
        logger.warn(
          { units_left_out: published.leftOut, units_max: publication.limits.unitsMax },
          'there are more units than units_max, the newest are not published',
        ),
      );
    }
    return published;
  }

  /** Once for each kind, whatever numbers are in it: health has them as they are now. */
  #sayProblems(problems: readonly string[]): void {
    for (const problem of problems) {
      const kind = problem.replace(/\d+/g, '#');
      if (this.#saidProblems.has(kind)) continue;
      this.#saidProblems.add(kind);
      this.#parts.logger.warn({ problem }, 'not everything can be read');
    }
  }

  #reportDropped(rows: number): void {
    if (rows === 0) return;
    const { logger, outbox } = this.#parts;
    this.#throttled('dropped', () =>
      logger.warn(
        { dropped_rows_total: outbox.droppedRows.outbox_full, outbox_bytes: outbox.bytes },
        'the outbox is full, its oldest batches are dropped',
      ),
    );
  }

  /** Live samples and lifecycle events: at most once, so without a connection they are simply not sent. */
  #announce(head: TickHead, { units, samples, events }: Published): void {
    const link = this.#link;
    if (link === null || !link.isConnected()) return;
    for (const { unit, event, pid, started } of events) {
      const payload: LifecycleEvent = { event, host: head.host, unit, ts: head.ts, pid, started };
      link.nc.publish(link.subjects.lifecycle(head.host, unit), JSON.stringify(payload));
    }
    for (const { subject, payload } of this.#live?.encode(head, units, samples) ?? []) link.nc.publish(subject, payload);
  }

  /** One batch of a lane. Emits when the lane may take the next; completes without, which ends the lane, when there is none. */
  #publishNext(): Observable<unknown> {
    return defer(() => {
      const link = this.#link;
      if (link === null || !link.isConnected() || this.#backoff.remainingMs(performance.now()) > 0) return EMPTY;
      const batch = this.#parts.outbox.takeNext(performance.now());
      return batch === null ? this.#loadNext() : from(this.#publish(link, batch));
    });
  }

  /** Emits for each lane that a part of the spool opens. Not after a stop: what is on disk is safe there. */
  #loadNext(): Observable<unknown> {
    const { outbox, spool, stopping } = this.#parts;
    if (spool === null || stopping.aborted || outbox.loadBytes === 0) return EMPTY;
    return from(spool.load()).pipe(switchMap((hasMore) => (hasMore ? range(0, IN_FLIGHT_MAX) : EMPTY)));
  }

  async #publish(link: NatsLink, batch: EncodedBatch): Promise<void> {
    const { config, outbox, tally } = this.#parts;
    // The host of the batch: what is in the spool is of the time before this one, and the host may have been renamed.
    const host = decodeToken(batch.id.slice(0, batch.id.indexOf(':'))) ?? config.host;
    const subject = link.subjects.samples(shardOf(host, config.shards), host);
    try {
      const ack = await publishToLog(link, subject, batch.payload, { id: batch.id, timeoutMs: PUBLISH_TIMEOUT_MS });
      if (outbox.acknowledged(batch.id)) tally.acceptedRows += batch.rows;
      if (ack.duplicate) tally.duplicateBatches++;
      this.#backoff.succeeded();
      tally.publishProblem = null;
    } catch (error) {
      tally.publishFailures++;
      if ((error as { code?: string }).code === 'MAX_PAYLOAD_EXCEEDED') this.#refuse(link, batch);
      else await this.#retryLater(error, link, batch);
    }
  }

  /** The server takes no message of this size: it was encoded before the server's limit was known, or the limit was lowered. */
  #refuse(link: NatsLink, batch: EncodedBatch): void {
    const { outbox, logger } = this.#parts;
    outbox.refused(batch.id);
    this.#throttled('refused', (times) =>
      logger.error(
        { times, dropped_rows: batch.rows, batch_bytes: batch.payload.length, max_payload_bytes: link.nc.info?.max_payload },
        "a batch is larger than the server's max_payload, it is dropped",
      ),
    );
  }

  async #retryLater(error: unknown, link: NatsLink, batch: EncodedBatch): Promise<void> {
    const { outbox, logger, tally, config } = this.#parts;
    outbox.failed(batch.id);
    // A connection that is lost is reported as such; what was under way with it failed for no reason of its own.
    if (!link.isConnected()) return;
    const stream = link.subjects.samplesStream(shardOf(config.host, config.shards));
    const problem = publishProblem(error, stream);
    tally.publishProblem = problem;
    this.#throttled(problem, (times) => logger.warn({ times, stream, outbox_bytes: outbox.bytes, reason: messageOf(error) }, problem));
    this.#backoff.failed(performance.now());
    // A millisecond more, because a timer may fire one early, and then nobody would wake this outbox until the next tick.
    await pause(
      Math.ceil(this.#backoff.remainingMs(performance.now())) + 1,
      this.#parts.stopping.aborted ? undefined : this.#parts.stopping,
    );
  }
}

function publishProblem(error: unknown, stream: string): string {
  if (isStreamFull(error)) return `stream ${stream} is full: batches are kept in the outbox until its store evicts`;
  if (isPermissionViolation(error)) return `this collector may not publish to stream ${stream}: check its NATS permissions`;
  if ((error as { code?: string }).code === '503') return `there is no stream ${stream}: a store for this shard makes it when it starts`;
  if (isUnanswered(error)) return `stream ${stream} did not acknowledge in time: batches are published again`;
  return `stream ${stream} refuses batches: ${messageOf(error)}`;
}

/** To the next tenth of a second before the tick; one that is nearly there is passed over. */
function untilPeakMs(leftMs: number): number {
  const nextMs = leftMs % PEAK_INTERVAL_MS;
  return Math.min(leftMs, nextMs < PEAK_INTERVAL_MS / 2 ? nextMs + PEAK_INTERVAL_MS : nextMs);
}

function aborted(signal: AbortSignal): Observable<unknown> {
  return defer(() =>
    signal.aborted ? of(null) : from(new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))),
  );
}
