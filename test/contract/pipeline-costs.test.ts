// What a thousand rows cost the pipeline, by counting: pulls of the store and of the spillover, and syncs of the disk. Never by the clock:
// all rows are in the stream before a service starts, so pulls are as full as they can be and the numbers hardly differ from run to run.
// Each limit is what was counted, plus a margin; when it gets better, count again and lower it.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SpillwayClient } from '#client/client';
import { encodeBatch } from '#shared/contract/batch';
import type { NatsLink } from '#shared/nats/connection';
import { ensureShard } from '#shared/nats/topology';
import type { Config } from '#shared/runtime/config';
import { type Disk, type DiskFile, realDisk } from '#shared/segments/disk';
import { syntheticTrace } from '../../bench/trace.ts';
import { startSpillover } from '../../services/spillover/main.ts';
import { startStore } from '../../services/store/main.ts';
import { eventually } from '../support/eventually.ts';
import { connectTest, silent, testConfig } from '../support/link.ts';
import { sharedServer } from '../support/shared-server.ts';

const SERIES = 1_000;
const ROWS = 250_000;
/** 2.14 were counted: a pull of the store is a thirty-second of its budget, and four times that while the window is filled. */
const STORE_PULLS_PER_THOUSAND_ROWS = 2.7;
/** 0.064 were counted, with ten times the budget and no need to evict. */
const STORE_PULLS_WITH_ROOM = 0.1;
/** 0.043 were counted; one more every five seconds in which nothing comes. */
const SPILLOVER_PULLS_PER_THOUSAND_ROWS = 0.1;
/** 0.13 to 0.14 were counted, those of directories included; one for every event would be 0.5. */
const SYNCS_PER_THOUSAND_ROWS = 0.25;

const server = sharedServer();
const { cleanups } = server;

test('pulls and syncs per thousand rows', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'spillway-costs-'));
  cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
  const config = testConfig({
    SPILLWAY_NATS_SERVERS: server.url,
    SPILLWAY_SPILLOVER_PATH: directory,
    SPILLWAY_MAX_MEMORY_BYTES: '1048576',
  });
  const link = await connectTest(config);
  cleanups.push(() => link.close());
  await ensureShard(link.jsm, link.subjects, config.nats, 0);
  const client = new SpillwayClient(link);
  const positions = await publishAll(link);
  const storePulls = countPulls(link, link.subjects.samplesStream(0));
  const spilloverPulls = countPulls(link, link.subjects.evictedStream(0));
  const counted = countingDisk();

  await serve(startStore, config);
  const store = await eventually(
    async () => {
      const info = await client.storeInfo(0);
      expect(info).toMatchObject({ head: positions + 1, lag: 0 });
      return info;
    },
    { withinMs: 60_000 },
  );
  const pullsOfStore = storePulls();
  await serve((options) => startSpillover({ ...options, disk: counted.disk }), config);
  await eventually(async () => expect((await client.spilloverInfo(0)).position?.seq).toBe(store.floor), { withinMs: 60_000 });

  const evicted = ROWS - store.rows;
  expect(evicted).toBeGreaterThan(ROWS / 2);
  expect(pullsOfStore, 'they are seen at all').toBeGreaterThan(0);
  expect((pullsOfStore / ROWS) * 1_000).toBeLessThanOrEqual(STORE_PULLS_PER_THOUSAND_ROWS);
  expect((spilloverPulls() / evicted) * 1_000).toBeLessThanOrEqual(SPILLOVER_PULLS_PER_THOUSAND_ROWS);
  expect(counted.syncs()).toBeGreaterThan(0);
  expect((counted.syncs() / evicted) * 1_000).toBeLessThanOrEqual(SYNCS_PER_THOUSAND_ROWS);
}, 180_000);

test('pulls of a window with room', async () => {
  const config = testConfig({ SPILLWAY_NATS_SERVERS: server.url, SPILLWAY_MAX_MEMORY_BYTES: '10485760' });
  const link = await connectTest(config);
  cleanups.push(() => link.close());
  await ensureShard(link.jsm, link.subjects, config.nats, 0);
  const positions = await publishAll(link);
  const pulls = countPulls(link, link.subjects.samplesStream(0));
  await serve(startStore, config);
  const client = new SpillwayClient(link);
  await eventually(async () => expect(await client.storeInfo(0)).toMatchObject({ head: positions + 1, rows: ROWS }), { withinMs: 60_000 });
  expect(pulls(), 'they are seen at all').toBeGreaterThan(0);
  expect((pulls() / ROWS) * 1_000).toBeLessThanOrEqual(STORE_PULLS_WITH_ROOM);
}, 180_000);

async function serve(start: typeof startStore, config: Config): Promise<void> {
  const service = await start({ config, logger: silent, stopping: new AbortController().signal });
  cleanups.push(() => service.stop());
}

/** @returns how many positions the log has */
async function publishAll({ js, subjects }: NatsLink): Promise<number> {
  const batches = syntheticTrace({ series: SERIES }).take(ROWS);
  const publishes = batches.flatMap((batch) =>
    encodeBatch(batch).map(({ id, payload }) => js.publish(subjects.samples(0, batch.host), payload, { msgID: id })),
  );
  await Promise.all(publishes);
  return publishes.length;
}

/** Requests for messages, as the server's interface for it sees them. */
function countPulls({ nc }: NatsLink, stream: string): () => number {
  const requests = nc.subscribe(`$JS.API.CONSUMER.MSG.NEXT.${stream}.>`, { callback: () => undefined });
  return () => requests.getReceived();
}

function countingDisk(): { disk: Disk; syncs: () => number } {
  let syncs = 0;
  const counting = (file: DiskFile): DiskFile => ({
    read: (...args) => file.read(...args),
    writev: (...args) => file.writev(...args),
    truncate: (length) => file.truncate(length),
    datasync: () => {
      syncs++;
      return file.datasync();
    },
    sync: () => {
      syncs++;
      return file.sync();
    },
    stat: () => file.stat(),
    close: () => file.close(),
  });
  return { disk: { ...realDisk, open: async (path, flags) => counting(await realDisk.open(path, flags)) }, syncs: () => syncs };
}
