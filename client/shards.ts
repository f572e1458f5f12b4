// Which shards there are, found by asking who is there: every store says its shard, and how many there are in all.
// Kept for a few seconds, because a dashboard asks many things and stores come and go seldom.

import { QueryError, STORE_SERVICE } from '#shared/contract/queries';
import { shardOf } from '#shared/contract/series';
import type { NatsLink } from '#shared/nats/connection';
import { findServices, type ServiceInstance } from '#shared/nats/query-client';

const FRESH_MS = 10_000;

export class Shards {
  private readonly link: NatsLink;
  private readonly shardsConfigured: number;
  private readonly timeoutMs: number;
  private found: { present: ReadonlySet<number>; count: number; atMs: number } | null = null;

  /** @param shardsConfigured how many shards the asker knows of; stores may know of more */
  constructor(link: NatsLink, shardsConfigured: number, timeoutMs: number) {
    this.link = link;
    this.shardsConfigured = shardsConfigured;
    this.timeoutMs = timeoutMs;
  }

  /** Every shard, ascending. @throws {QueryError} `unavailable` when the store of one does not answer: half an answer is a wrong one. */
  async all(): Promise<number[]> {
    const { present, count } = await this.find();
    const missing = Array.from({ length: count }, (_, shard) => shard).filter((shard) => !present.has(shard));
    if (missing.length > 0) throw noStore(this.link, missing);
    return [...present].sort((a, b) => a - b);
  }

  /** The shard that keeps a host. @throws {QueryError} `unavailable` when its store does not answer. */
  async of(host: string): Promise<number> {
    const { present, count } = await this.find();
    const shard = shardOf(host, count);
    if (!present.has(shard)) throw noStore(this.link, [shard]);
    return shard;
  }

  /** Asks again next time: what was known has proved wrong. */
  forget(): void {
    this.found = null;
  }

  private async find(): Promise<{ present: ReadonlySet<number>; count: number }> {
    if (this.found !== null && Date.now() - this.found.atMs < FRESH_MS) return this.found;
    const stores = await findServices(this.link, {
      name: STORE_SERVICE,
      verb: 'PING',
      timeoutMs: this.timeoutMs,
      isComplete: (instances) => shardsPresent(instances).size >= this.countOf(instances),
    });
    const found = { present: shardsPresent(stores), count: this.countOf(stores), atMs: Date.now() };
    this.found = found.present.size < found.count ? null : found; // what is missing may come at any moment
    return found;
  }

  private countOf(stores: readonly ServiceInstance[]): number {
    const said = stores.map((store) => Number(store.metadata['shards'] ?? 1));
    return Math.max(this.shardsConfigured, 1 + Math.max(-1, ...shardsPresent(stores)), ...said.filter(Number.isSafeInteger));
  }
}

function shardsPresent(stores: readonly ServiceInstance[]): Set<number> {
  return new Set(stores.map((store) => Number(store.metadata['shard'])).filter((shard) => Number.isSafeInteger(shard) && shard >= 0));
}

function noStore(link: NatsLink, shards: readonly number[]): QueryError {
  const which = shards.length === 1 ? `shard ${shards[0]}` : `shards ${shards.join(', ')}`;
  const server = link.nc.getServer();
  return new QueryError(
    'unavailable',
    `no store of ${which} answers at ${server} with prefix ${link.subjects.prefix}; is it running? (spillway status)`,
  );
}
