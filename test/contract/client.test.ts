// The client against query services on a real server. What the services answer is a few samples; what is tried is the way
// there and back: discovery, shards, pages, errors, live samples.

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { SpillwayClient } from '#client/client';
import {
  COLLECTOR_SERVICE,
  QueryError,
  type RangeReply,
  type RangeRequest,
  requests,
  SPILLOVER_SERVICE,
  STORE_SERVICE,
} from '#shared/contract/queries';
import type { Sample } from '#shared/contract/row';
import { shardOf } from '#shared/contract/series';
import type { NatsLink } from '#shared/nats/connection';
import { endpoint, startQueryService } from '#shared/nats/query-service';
import type { Config } from '#shared/runtime/config';
import { eventually } from '../support/eventually.ts';
import { connectTest, silent, testConfig } from '../support/link.ts';
import { startNatsServer, type TestServer } from '../support/nats-server.ts';
import { sampleAt } from '../support/samples.ts';

let server: TestServer;
const links: NatsLink[] = [];
beforeAll(async () => {
  server = await startNatsServer();
});
afterEach(async () => {
  await Promise.all(links.splice(0).map((link) => link.close()));
});
afterAll(() => server.stop());

const newConfig = (): Config => testConfig({ SPILLWAY_NATS_SERVERS: server.url });

async function connect(config: Config): Promise<NatsLink> {
  const link = await connectTest(config);
  links.push(link);
  return link;
}

const hostOf = (shard: number, shards: number): string => {
  for (let i = 0; ; i++) if (shardOf(`h${i}`, shards) === shard) return `h${i}`;
};

/** A store of one shard that holds some samples; two to a page. */
async function startStore(config: Config, shard: number, samples: readonly Sample[], shards = 1): Promise<void> {
  const link = await connect(config);
  const page = (cursor: string | null | undefined): { samples: Sample[]; next: string | null } => {
    const at = Number(cursor ?? 0);
    return { samples: samples.slice(at, at + 2), next: at + 2 < samples.length ? `${at + 2}` : null };
  };
  await startQueryService(link, {
    name: STORE_SERVICE,
    description: 'test',
    metadata: { shard: `${shard}`, shards: `${shards}` },
    group: link.subjects.query(shard),
    endpoints: {
      units: endpoint(requests.units, () => ({ units: samples.slice(0, 1).map(({ host, unit }) => ({ host, unit })), next: null })),
      latest: endpoint(requests.latest, ({ cursor }) => page(cursor)),
      snapshot: endpoint(requests.snapshot, ({ unit }) => {
        throw new QueryError('unknown_unit', `nothing of ${unit}: \u00fc\r\nX`);
      }),
      summary: endpoint(requests.summary, () => null),
      range: endpoint(requests.range, ({ cursor }) => ({ ...page(cursor), coverage: [], position: { log: 5, seq: 1 } })),
      info: endpoint(requests.info, () => ({ shard })),
    },
    statistics: () => ({ shard, role: 'writer' }),
    logger: silent,
  });
}

async function startSpillover(config: Config, shard: number, answer: (request: RangeRequest) => RangeReply): Promise<void> {
  const link = await connect(config);
  await startQueryService(link, {
    name: SPILLOVER_SERVICE,
    description: 'test',
    metadata: { shard: `${shard}` },
    group: link.subjects.spill(shard),
    endpoints: { range: endpoint(requests.range, answer) },
    statistics: () => ({ shard }),
    logger: silent,
  });
}

const samplesOf = (host: string, count: number, firstTs = 100): Sample[] =>
  Array.from({ length: count }, (_, i) => sampleAt({ host, seq: i + 1, ts: firstTs + i * 10 }));

describe('SpillwayClient', () => {
  test('follows the pages of a reply to their end', async () => {
    const config = newConfig();
    await startStore(config, 0, samplesOf('h1', 5));
    const client = new SpillwayClient(await connect(config));
    expect(await client.latest({ host: 'h1', unit: 'api' }, 5)).toEqual(samplesOf('h1', 5));
  });

  test('asks every shard and merges, or only the one that has the host', async () => {
    const config = newConfig();
    const [a, b] = [hostOf(0, 2), hostOf(1, 2)];
    await startStore(config, 0, samplesOf(a, 3), 2);
    await startStore(config, 1, samplesOf(b, 3, 105), 2);
    const client = new SpillwayClient(await connect(config));
    expect((await client.units()).map((unit) => unit.host).sort()).toEqual([a, b].sort());
    expect((await client.units(b)).map((unit) => unit.host)).toEqual([b]);
    const { samples } = await client.range({ fromMs: 0, toMs: 1_000 });
    expect(samples.map((sample) => sample.ts)).toEqual([100, 105, 110, 115, 120, 125]);
    expect((await client.range({ host: a, fromMs: 0, toMs: 1_000 })).samples).toHaveLength(3);
  });

  test('half an answer is none: a shard without a store is named', async () => {
    const config = newConfig();
    await startStore(config, 1, samplesOf(hostOf(1, 2), 1), 2);
    const client = new SpillwayClient(await connect(config));
    await expect(client.units()).rejects.toThrow(/no store of shard 0 answers/);
    await expect(client.units(hostOf(0, 2))).rejects.toMatchObject({ code: 'unavailable' });
    expect(await client.units(hostOf(1, 2))).toHaveLength(1);
  });

  test('without any store: a clear error at once, and all is well when one comes', async () => {
    const config = newConfig();
    const client = new SpillwayClient(await connect(config), { timeoutMs: 600_000 }); // longer than any test
    await expect(client.units()).rejects.toThrow(/no store of shard 0 answers at 127\.0\.0\.1:\d+ with prefix .*; is it running\?/);
    await startStore(config, 0, samplesOf('h1', 1));
    expect(await client.units()).toHaveLength(1);
  });

  test('a store of another installation is not asked', async () => {
    await startStore(newConfig(), 0, samplesOf('h1', 1));
    const client = new SpillwayClient(await connect(newConfig()));
    await expect(client.units()).rejects.toMatchObject({ code: 'unavailable' });
  });

  test('a refusal comes with its word and its sentence, whatever is in it', async () => {
    const config = newConfig();
    await startStore(config, 0, []);
    const client = new SpillwayClient(await connect(config));
    const refused = client.snapshot({ host: 'h1', unit: 'api' });
    await expect(refused).rejects.toBeInstanceOf(QueryError);
    await expect(refused).rejects.toMatchObject({ code: 'unknown_unit', message: expect.stringContaining('nothing of api') });
    await expect(client.latest({ host: 'h1', unit: 'api' }, -1)).rejects.toMatchObject({ code: 'bad_request' });
  });

  test('no samples at all is null, not an error', async () => {
    const config = newConfig();
    await startStore(config, 0, []);
    expect(await new SpillwayClient(await connect(config)).summary({ host: 'h1', unit: 'api' })).toBeNull();
  });

  test('a store that does not answer in time is an error of its own', async () => {
    const config = newConfig();
    await startStore(config, 0, []);
    const link = await connect(config);
    const client = new SpillwayClient(link, { timeoutMs: 300 });
    await client.units();
    // Somebody listens on the subject of the spill and keeps silent.
    (await connect(config)).nc.subscribe(`${link.subjects.spill(0)}.range`, { callback: () => undefined });
    await eventually(() => expect(client.range({ fromMs: 0, toMs: 1 })).rejects.toThrow(/no answer within 300 ms/));
  });

  test('the spill is asked for what is below the window, and its rows come first', async () => {
    const config = newConfig();
    const asked: RangeRequest[] = [];
    const old = sampleAt({ seq: 9, ts: 50 });
    await startStore(config, 0, samplesOf('h1', 3));
    await startSpillover(config, 0, (request) => {
      asked.push(request);
      return { samples: [old], next: null, coverage: [{ from_ms: 50, to_ms: 50, source: 'spill' }], position: { log: 5, seq: 1 } };
    });
    const { samples, coverage } = await new SpillwayClient(await connect(config)).range({
      host: 'h1',
      unit: 'api',
      fromMs: 0,
      toMs: 1_000,
    });
    expect(samples).toEqual([old, ...samplesOf('h1', 3)]);
    expect(coverage).toEqual([{ from_ms: 50, to_ms: 50, source: 'spill' }]);
    expect(asked).toEqual([{ host: 'h1', unit: 'api', from_ms: 0, to_ms: 1_000, below: { log: 5, seq: 1 } }]);
  });

  test('every instance of a service is described, replicas included', async () => {
    const config = newConfig();
    await startStore(config, 0, []);
    await startStore(config, 0, []);
    const client = new SpillwayClient(await connect(config));
    expect((await client.stores()).map((store) => store.info.role)).toEqual(['writer', 'writer']);
    expect(await client.spillovers()).toEqual([]);
    expect(await client.storeInfo(0)).toEqual({ shard: 0 });
    await expect(client.collectorInfo('h1')).rejects.toThrow(/no service listens/);
  });

  test('a stranger under the name of a service does no harm', async () => {
    const config = newConfig();
    const link = await connect(config);
    for (const name of [COLLECTOR_SERVICE, STORE_SERVICE]) {
      link.nc.subscribe(`$SRV.*.${name}`, { callback: (_, message) => void message.respond('not a service') });
    }
    await link.nc.flush();
    const client = new SpillwayClient(await connect(config));
    expect(await client.collectors()).toEqual([]);
    await expect(client.units()).rejects.toMatchObject({ code: 'unavailable' });
  });

  test('live samples come as they are published, of what was asked for', async () => {
    const config = newConfig();
    const link = await connect(config);
    const tail = new SpillwayClient(link).tail({ host: 'h1', unit: 'a b' });
    await link.nc.flush();
    const publisher = await connect(config);
    const sample = sampleAt({ seq: 1, ts: 1, unit: 'a b' });
    publisher.nc.publish(publisher.subjects.live('h1', 'other'), JSON.stringify({ ...sample, unit: 'other' }));
    publisher.nc.publish(publisher.subjects.live('h1', 'a b'), JSON.stringify(sample));
    for await (const received of tail) {
      expect(received).toEqual(sample);
      break;
    }
    expect(tail.dropped).toBe(0);
  });
});
