// What the bus has of a collector: the batches in its stream, and the answers of its service.

import type { Batch } from '#shared/contract/batch';
import { parseBatch } from '#shared/contract/batch-reader';
import type { CollectorInfo } from '#shared/contract/queries';
import type { NatsLink } from '#shared/nats/connection';

export interface StoredBatch {
  readonly seq: number;
  readonly id: string;
  /** When JetStream stored it, wall clock, ms. */
  readonly storedMs: number;
  readonly batch: Batch;
}

/** All batches of shard 0, in the order JetStream has them. Fails on what is not one. */
export async function storedBatches(link: NatsLink, host: string): Promise<StoredBatch[]> {
  const stream = link.subjects.samplesStream(0);
  const { state } = await link.jsm.streams.info(stream);
  const stored: StoredBatch[] = [];
  for (let seq = Math.max(1, state.first_seq); seq <= state.last_seq; seq++) {
    const message = await link.jsm.streams.getMessage(stream, { seq });
    const parsed = parseBatch(message.data, link.subjects.hostOfSamples(message.subject));
    if (!parsed.ok) throw new Error(`message ${seq}: ${parsed.reason}: ${parsed.detail}`);
    if (parsed.value.host === host)
      stored.push({ seq, id: message.header.get('Nats-Msg-Id'), storedMs: message.time.getTime(), batch: parsed.value });
  }
  return stored;
}

/** Every row read or found is acknowledged, held, or counted as dropped. */
export function custodyOf({ counters }: CollectorInfo): { taken: number; accountedFor: number } {
  const sum = (pattern: RegExp): number =>
    Object.entries(counters).reduce((total, [name, count]) => (pattern.test(name) ? total + count : total), 0);
  return { taken: sum(/^(sampled|spool_found)_rows$/), accountedFor: sum(/^(accepted|outbox|spool|dropped_.*)_rows$/) };
}

export async function collectorInfoOf(link: NatsLink, host: string): Promise<CollectorInfo> {
  const reply = await link.nc.request(`${link.subjects.collector(host)}.info`, undefined, { timeout: 2_000 });
  return reply.json<CollectorInfo>();
}
