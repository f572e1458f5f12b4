// The library for whoever asks: fans a query out to the shards, follows the pages, and merges what comes back.
// Replies come from Spillway's own services and are trusted; what is refused or not answered is a QueryError with its word.
// Only `remove` changes anything.

import {
  COLLECTOR_SERVICE,
  type CollectorInfo,
  type LatestRequest,
  QueryError,
  type RangeReply,
  type RangeRequest,
  type RemoveReply,
  type SamplesReply,
  type SegmentInfo,
  type SegmentsReply,
  SPILLOVER_SERVICE,
  type SpilloverInfo,
  STORE_SERVICE,
  type StoreInfo,
  type Summary,
  type SummaryReply,
  type UnitInfo,
  type UnitsReply,
} from '#shared/contract/queries';
import type { Sample } from '#shared/contract/row';
import type { SeriesKey } from '#shared/contract/series';
import type { NatsLink } from '#shared/nats/connection';
import { ask, findServices, NoAnswerError } from '#shared/nats/query-client';
import { pause } from '#shared/runtime/wait';
import { LiveTail } from './live-tail.ts';
import { compareSamples, compareText, mergeCoverage, mergePoints } from './range-merge.ts';
import { type PointsInRange, pointsOfShard, type RangeSources, type SamplesInRange, samplesOfShard } from './range-query.ts';
import { Shards } from './shards.ts';

export interface ClientOptions {
  /** How long one request may take; 5 s by default. */
  readonly timeoutMs?: number;
  /** Shards the asker knows of; 1 by default. More are found by themselves. */
  readonly shards?: number;
}

/** Both ends included; a missing host or unit is every one. */
export interface RangeQuery {
  readonly host?: string | undefined;
  readonly unit?: string | undefined;
  readonly fromMs: number;
  readonly toMs: number;
  /** Called after every page with the number of samples or points so far. */
  readonly onProgress?: (received: number) => void;
}

export interface TailOptions {
  readonly host?: string | undefined;
  readonly unit?: string | undefined;
  /** Samples kept for a slow reader before the oldest are dropped and counted; 10 000 by default. */
  readonly samplesMax?: number;
}

/** One running instance with what it says of itself. */
export interface Described<Info> {
  readonly id: string;
  readonly version: string;
  readonly info: Info;
}

const TIMEOUT_MS = 5_000;
const TAIL_SAMPLES_MAX = 10_000;

interface Page {
  next: string | null;
}

export class SpillwayClient {
  private readonly link: NatsLink;
  private readonly timeoutMs: number;
  private readonly shards: Shards;

  /** @param link stays the caller's: it is not closed here */
  constructor(link: NatsLink, options: ClientOptions = {}) {
    this.link = link;
    this.timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
    this.shards = new Shards(link, options.shards ?? 1, this.timeoutMs);
  }

  /** Every series that a window knows, by host and unit. */
  async units(host?: string): Promise<UnitInfo[]> {
    const shards = host === undefined ? await this.shards.all() : [await this.shards.of(host)];
    const request = host === undefined ? {} : { host };
    const units = await Promise.all(
      shards.map((shard) => this.pages<UnitsReply, UnitInfo>(this.queryOf(shard, 'units'), request, (reply) => reply.units)),
    );
    return units.flat().sort((a, b) => compareText(a.host, b.host) || compareText(a.unit, b.unit));
  }

  /** The newest `limit` samples, oldest first; none for a series that is not known. */
  latest({ host, unit }: SeriesKey, limit: number): Promise<Sample[]> {
    const request: LatestRequest = { host, unit, limit };
    return this.samplesOf(host, 'latest', request);
  }

  /** All samples in the window, oldest first. @throws {QueryError} `unknown_unit` */
  snapshot({ host, unit }: SeriesKey): Promise<Sample[]> {
    return this.samplesOf(host, 'snapshot', { host, unit });
  }

  /** Null when there is no sample. */
  async summary({ host, unit }: SeriesKey, sinceMs?: number): Promise<Summary | null> {
    const subject = this.queryOf(await this.shards.of(host), 'summary');
    return this.ask<SummaryReply>(subject, { host, unit, ...(sinceMs === undefined ? {} : { since_ms: sinceMs }) });
  }

  /**
   * Forgets the rows that the window holds of a series up to now; rows in the spill stay there. Without an answer it may have
   * happened or not, and may be asked for again.
   * @throws {QueryError} `unknown_unit` when the window holds nothing of it; `unavailable`
   */
  async remove({ host, unit }: SeriesKey): Promise<RemoveReply> {
    return this.ask<RemoveReply>(this.queryOf(await this.shards.of(host), 'remove'), { host, unit });
  }

  /** Window and spill in one answer: every sample in the time once, sorted by time. */
  async range(query: RangeQuery): Promise<SamplesInRange> {
    const answers = await this.overShards(query, undefined, samplesOfShard);
    const [only] = answers;
    if (answers.length === 1 && only !== undefined) return only;
    return { samples: answers.flatMap((answer) => answer.samples).sort(compareSamples), coverage: coverageOf(query, answers) };
  }

  /** As {@link range}, in at most `pointsMax` buckets of time per series. */
  async rangePoints(query: RangeQuery, pointsMax: number): Promise<PointsInRange> {
    const answers = await this.overShards(query, pointsMax, pointsOfShard);
    return {
      points: answers.reduce<PointsInRange['points']>((all, answer) => mergePoints(all, answer.points), []),
      coverage: coverageOf(query, answers),
    };
  }

  /** Segments on disk, of every shard that spills, oldest first. */
  async segments(): Promise<(SegmentInfo & { shard: number })[]> {
    const shards = (await this.spillovers()).map((one) => one.info.shard);
    const lists = await Promise.all(
      [...new Set(shards)].map(async (shard) => {
        const list = await this.pages<SegmentsReply, SegmentInfo>(this.spillOf(shard, 'segments'), {}, (reply) => reply.segments);
        return list.map((segment) => ({ shard, ...segment }));
      }),
    );
    return lists.flat().sort((a, b) => a.shard - b.shard || a.log - b.log || a.first_seq - b.first_seq);
  }

  /** Every running store, replicas included. */
  stores(): Promise<Described<StoreInfo>[]> {
    return this.describe<StoreInfo>(STORE_SERVICE);
  }

  spillovers(): Promise<Described<SpilloverInfo>[]> {
    return this.describe<SpilloverInfo>(SPILLOVER_SERVICE);
  }

  collectors(): Promise<Described<CollectorInfo>[]> {
    return this.describe<CollectorInfo>(COLLECTOR_SERVICE);
  }

  /** The store of a shard; of several replicas, one. @throws {QueryError} `unavailable` */
  storeInfo(shard: number): Promise<StoreInfo> {
    return this.ask(this.queryOf(shard, 'info'), {});
  }

  spilloverInfo(shard: number): Promise<SpilloverInfo> {
    return this.ask(this.spillOf(shard, 'info'), {});
  }

  collectorInfo(host: string): Promise<CollectorInfo> {
    return this.ask(`${this.link.subjects.collector(host)}.info`, {});
  }

  /** Samples as they are taken, at most once, until the iteration or the tail is stopped. */
  tail(options: TailOptions = {}): LiveTail {
    const tail = new LiveTail(options.samplesMax ?? TAIL_SAMPLES_MAX, () => subscription.unsubscribe());
    const subscription = this.link.nc.subscribe(this.link.subjects.liveFilter(options.host, options.unit), {
      callback: (error, message) => {
        if (error === null) tail.push(message.data);
      },
    });
    return tail;
  }

  private async overShards<Answer>(
    query: RangeQuery,
    pointsMax: number | undefined,
    read: (sources: RangeSources, request: RangeRequest) => Promise<Answer>,
  ): Promise<Answer[]> {
    const shards = query.host === undefined ? await this.shards.all() : [await this.shards.of(query.host)];
    const request: RangeRequest = {
      ...(query.host === undefined ? {} : { host: query.host }),
      ...(query.unit === undefined ? {} : { unit: query.unit }),
      ...(pointsMax === undefined ? {} : { max_points: pointsMax }),
      from_ms: query.fromMs,
      to_ms: query.toMs,
    };
    let received = 0;
    const onPage = (reply: RangeReply): void => {
      received += (reply.samples ?? reply.points ?? []).length;
      query.onProgress?.(received);
    };
    return Promise.all(shards.map((shard) => read(this.rangeSources(shard, onPage), request)));
  }

  private rangeSources(shard: number, onPage: (reply: RangeReply) => void): RangeSources {
    return {
      window: (request) => this.ask<RangeReply>(this.queryOf(shard, 'range'), request),
      spill: (request) => this.askIfThere<RangeReply>(this.spillOf(shard, 'range'), request),
      pause,
      onPage,
    };
  }

  private async samplesOf(host: string, name: 'latest' | 'snapshot', request: SeriesKey): Promise<Sample[]> {
    const subject = this.queryOf(await this.shards.of(host), name);
    return this.pages<SamplesReply, Sample>(subject, request, (reply) => reply.samples);
  }

  private async pages<Reply extends Page, Item>(subject: string, request: object, itemsOf: (reply: Reply) => Item[]): Promise<Item[]> {
    const items: Item[] = [];
    for (let cursor: string | null = null; ; ) {
      const reply: Reply = await this.ask<Reply>(subject, cursor === null ? request : { ...request, cursor });
      for (const item of itemsOf(reply)) items.push(item);
      if (reply.next === null) return items;
      cursor = reply.next;
    }
  }

  private async describe<Info>(name: string): Promise<Described<Info>[]> {
    const instances = await findServices(this.link, { name, verb: 'STATS', timeoutMs: this.timeoutMs });
    return instances
      .filter((instance) => typeof instance.statistics === 'object' && instance.statistics !== null)
      .map(({ id, version, statistics }) => ({ id, version, info: statistics as Info }));
  }

  private async ask<Reply>(subject: string, request: object): Promise<Reply> {
    try {
      return (await ask(this.link, subject, request, this.timeoutMs)) as Reply;
    } catch (error) {
      if (!(error instanceof NoAnswerError)) throw error;
      this.shards.forget();
      throw new QueryError('unavailable', error.message);
    }
  }

  /** Null when no such service runs: a shard without a spill has no spillover. */
  private async askIfThere<Reply>(subject: string, request: object): Promise<Reply | null> {
    try {
      return (await ask(this.link, subject, request, this.timeoutMs)) as Reply;
    } catch (error) {
      if (!(error instanceof NoAnswerError)) throw error;
      if (error.reason === 'nobody') return null;
      throw new QueryError('unavailable', error.message);
    }
  }

  private queryOf(shard: number, name: string): string {
    return `${this.link.subjects.query(shard)}.${name}`;
  }

  private spillOf(shard: number, name: string): string {
    return `${this.link.subjects.spill(shard)}.${name}`;
  }
}

function coverageOf(query: RangeQuery, answers: readonly { coverage: SamplesInRange['coverage'] }[]): SamplesInRange['coverage'] {
  return mergeCoverage(
    answers.flatMap((answer) => answer.coverage),
    query.fromMs,
    query.toMs,
  );
}
