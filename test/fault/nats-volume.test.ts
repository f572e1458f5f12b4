// What becomes of the rows when the volume of nats-server is lost, or an older one is restored, under a store and a spillover that
// have gone on: rows that are in segments stay there once, what the store holds is handed on, and what cannot go well is said.

import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { SpillwayClient } from '#client/client';
import { encodeBatch } from '#shared/contract/batch';
import { parseRow, type Row, sampleOfRow } from '#shared/contract/row';
import type { NatsLink } from '#shared/nats/connection';
import { publishToLog } from '#shared/nats/full-stream';
import type { Config } from '#shared/runtime/config';
import type { RunningService } from '#shared/runtime/service';
import { startSpillover } from '../../services/spillover/main.ts';
import { startStore } from '../../services/store/main.ts';
import { batch, unpackable } from '../support/batches.ts';
import { eventually } from '../support/eventually.ts';
import { connectTest, silent, testConfig } from '../support/link.ts';
import { startNatsServer, type TestServer } from '../support/nats-server.ts';

const UNITS = Array.from({ length: 20 }, (_, i) => `unit-${i}`);
const PATIENTLY = { withinMs: 30_000, everyMs: 100 };

let server: TestServer;
let directory: string;
let config: Config;
let link: NatsLink;
let client: SpillwayClient;
let store: RunningService;
let spillover: RunningService;

beforeEach(async () => {
  server = await startNatsServer();
  directory = mkdtempSync(join(tmpdir(), 'spillway-volume-'));
  config = testConfig({
    SPILLWAY_NATS_SERVERS: server.url,
    SPILLWAY_SPILLOVER_PATH: join(directory, 'spill'),
    SPILLWAY_MAX_MEMORY_BYTES: '131072',
    SPILLWAY_SPILLOVER_SEGMENT_BYTES: '40000',
  });
  link = await connectTest(config);
  client = new SpillwayClient(link, { timeoutMs: 20_000 });
  spillover = await startSpillover({ config, logger: silent, stopping: new AbortController().signal });
  store = await begunStore();
});
afterEach(async () => {
  await store.stop();
  await spillover.stop();
  await link.close();
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
});

function begunStore(): Promise<RunningService> {
  return startStore({ config, logger: silent, stopping: new AbortController().signal });
}

async function publish(from: number, to: number): Promise<void> {
  for (let tick = from; tick < to; tick++) {
    const rss = UNITS.map((_, unit) => (tick * 977 + unit) * 4096);
    const [rx, tx] = [0, 1].map((i) => UNITS.map((_, unit) => unpackable(2 * tick + i, unit)));
    for (const { id, payload } of encodeBatch(
      batch({ tick, units: UNITS, metrics: { rss_bytes: rss, net_rx_bytes: rx ?? [], net_tx_bytes: tx ?? [] } }),
    ))
      await eventually(() => publishToLog(link, link.subjects.samples(0, 'h1'), payload, { id, timeoutMs: 1_000 }), PATIENTLY);
  }
}

/** Resolves when nothing is in transit. */
async function settled(head: number): Promise<void> {
  await eventually(async () => {
    const { floor, ...info } = await client.storeInfo(0);
    expect(info).toMatchObject({ head, lag: 0 });
    expect((await client.spilloverInfo(0)).position).toEqual({ log: info.log, seq: floor });
  }, PATIENTLY);
}

/** The tick and unit of every row in the segments, which says the value as well. */
function spilled(): string[] {
  const shard = join(directory, 'spill', '0');
  const names = readdirSync(shard).filter((name) => name.startsWith('metrics-') && !name.endsWith('.tmp'));
  const files = names.filter(
    (name) => name.endsWith('.gz') || !names.some((other) => other.endsWith('.gz') && other.startsWith(name.slice(0, -6))),
  );
  return files.flatMap((name) => {
    const bytes = readFileSync(join(shard, name));
    const lines = (name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8').trimEnd().split('\n');
    return lines.map((line) => keyOf(sampleOfRow(parseRow(line) as Row).rss_bytes));
  });
}
const keyOf = (rssBytes: number | null | undefined): string => `${(rssBytes ?? Number.NaN) / 4096}`;
const keysOf = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, i) => UNITS.map((_, unit) => `${(from + i) * 977 + unit}`)).flat();

async function ranged(): Promise<string[]> {
  const { samples } = await client.range({ host: 'h1', fromMs: 0, toMs: 8.64e15 });
  return samples.map(({ rss_bytes }) => keyOf(rss_bytes));
}

test('a volume that was lost: the rows of the window go to the spill, a new log begins, and a range has all of it', async () => {
  await publish(0, 400);
  await settled(401);
  expect(spilled().length).toBeGreaterThan(1_000);
  await server.kill();
  rmSync(join(server.directory, 'data'), { recursive: true });
  await server.start();
  await publish(400, 450);
  await eventually(async () => expect(await client.storeInfo(0)).toMatchObject({ head: 51, lag: 0 }), PATIENTLY);
  await eventually(async () => expect((await ranged()).sort()).toEqual(keysOf(0, 450).sort()), PATIENTLY);
});

test('an older volume restored: no row of the segments doubles or goes, it is said, and a new log mends it', async () => {
  await publish(0, 400);
  await settled(401);
  await server.kill();
  cpSync(join(server.directory, 'data'), join(directory, 'backup'), { recursive: true });
  await server.start();
  await publish(400, 800);
  await settled(801);
  const before = spilled().sort();
  await server.kill();
  rmSync(join(server.directory, 'data'), { recursive: true });
  cpSync(join(directory, 'backup'), join(server.directory, 'data'), { recursive: true });
  await server.start();

  await expect(store.done).rejects.toThrow(/has gone back/);
  await store.stop();
  store = await begunStore();
  await publish(1_000, 1_200);
  await eventually(async () => {
    const { health } = await client.spilloverInfo(0);
    expect(health.ready).toBe(false);
    expect(health.problems.join()).toMatch(/has gone back behind the segments.*delete the SAMPLES stream to begin a new log/);
  }, PATIENTLY);
  expect(spilled().sort()).toEqual(before);

  await link.jsm.streams.delete(link.subjects.samplesStream(0));
  await eventually(async () => expect((await client.storeInfo(0)).head).toBe(1), PATIENTLY);
  await publish(2_000, 2_400);
  await settled(401);
  expect((await client.spilloverInfo(0)).health).toEqual({ ready: true, problems: [] });
  const after = spilled();
  expect(new Set(after).size).toBe(after.length);
  expect(after).toEqual(expect.arrayContaining(before));
});
