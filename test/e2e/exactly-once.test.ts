// Every batch that JetStream has accepted is read exactly once, with its values, whoever is killed meanwhile: a load of known
// batches over the real NATS server, the built store and spillover as processes, kill -9 of each in turn, and then one range.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { SpillwayClient } from '#client/client';
import { type Batch, encodeBatch } from '#shared/contract/batch';
import type { CoverageSpan } from '#shared/contract/queries';
import type { Sample } from '#shared/contract/row';
import type { NatsLink } from '#shared/nats/connection';
import { ensureShard } from '#shared/nats/topology';
import { type Custody, custodyOf } from '../../cli/custody.ts';
import type { Status } from '../../cli/status.ts';
import { eventually } from '../support/eventually.ts';
import { connectTest, testConfig } from '../support/link.ts';
import { startNatsServer, type TestServer } from '../support/nats-server.ts';
import { type Running, reply, spillway, start } from '../support/program.ts';

const UNITS = Array.from({ length: 100 }, (_, i) => `u${i}`);
const FIRST_TS = Date.now() - 60_000;
const TICK_MS = 10;

let directory: string;
let server: TestServer;
let env: Record<string, string>;
let link: NatsLink;
const services = new Map<string, Running>();

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'spillway-once-'));
  server = await startNatsServer();
  const config = testConfig({ SPILLWAY_NATS_SERVERS: server.url });
  env = {
    SPILLWAY_NATS_SERVERS: server.url,
    SPILLWAY_NATS_PREFIX: config.nats.prefix,
    SPILLWAY_HOST: 'h1',
    SPILLWAY_MAX_MEMORY_BYTES: '131072',
    SPILLWAY_SPILLOVER_PATH: join(directory, 'spill'),
    SPILLWAY_SPILLOVER_SEGMENT_BYTES: '1000000',
  };
  link = await connectTest(config);
  await ensureShard(link.jsm, link.subjects, config.nats, 0);
});
afterEach(async () => {
  for (const service of services.values()) {
    service.signal('SIGKILL');
    await service.finished;
  }
  services.clear();
  await link.close();
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
});

function startService(name: string): void {
  services.set(name, start([name], { cwd: directory, env }));
}

async function killService(name: string): Promise<void> {
  const service = services.get(name) as Running;
  service.signal('SIGKILL');
  await service.finished;
}

/** The value that tells which sample it is. */
const rssOf = (tick: number, unit: number): number => tick * 1_000 + unit;

function batchOf(tick: number): Batch {
  const each = <T>(value: (unit: number) => T): T[] => UNITS.map((_, unit) => value(unit));
  return {
    v: 1,
    host: 'h1',
    boot: 'b',
    tick,
    ts: FIRST_TS + tick * TICK_MS,
    interval_ms: TICK_MS,
    late: false,
    unit: UNITS,
    state: each(() => 'running' as const),
    pid: each(() => 1),
    started: each(() => 1),
    rss_bytes: each((unit) => rssOf(tick, unit)),
  };
}

/** Publishes until JetStream has it, as a collector does: again with the same id as long as nobody says yes. */
async function publish(tick: number): Promise<void> {
  for (const { id, payload } of encodeBatch(batchOf(tick))) {
    await eventually(() => link.js.publish(link.subjects.samples(0, 'h1'), payload, { msgID: id, timeout: 1_000 }), { withinMs: 30_000 });
  }
}

interface Load {
  /** Batches that JetStream has. */
  published(): number;
  stop(): Promise<number>;
}

/** Batches one after the other until it is stopped. @returns how many there were */
function startLoad(): Load {
  let isStopped = false;
  let tick = 0;
  const ticks = (async () => {
    while (!isStopped) {
      await publish(tick);
      tick++;
      await delay(2);
    }
    return tick;
  })();
  return {
    published: () => tick,
    stop: () => {
      isStopped = true;
      return ticks;
    },
  };
}

interface Watch {
  /** Resolves when there is one more answer. */
  answered(): Promise<void>;
  /** @returns the answers that did not hold */
  stop(): Promise<Custody[]>;
}

/** Asks again and again in whose custody the rows are. */
function watchCustody(): Watch {
  const client = new SpillwayClient(link);
  let isStopped = false;
  let answers = 0;
  const watch = async () => {
    const broken: Custody[] = [];
    while (!isStopped) {
      await delay(5);
      const infos = await (async () => [await client.spilloverInfo(0), await client.storeInfo(0)] as const)().catch(() => null);
      if (infos === null) continue; // a service that was killed does not answer
      const [spillover, store] = infos;
      const described = { id: '', version: '' };
      broken.push(...custodyOf([{ ...described, info: store }], [{ ...described, info: spillover }]).filter(({ holds }) => !holds));
      answers++;
    }
    return broken;
  };
  const seen = watch();
  return {
    answered: () => {
      const before = answers;
      return eventually(() => expect(answers).toBeGreaterThan(before), { withinMs: 20_000 });
    },
    stop: () => {
      isStopped = true;
      return seen;
    },
  };
}

test('every accepted batch is read exactly once and accounted for at every moment, whoever is killed', async () => {
  startService('store');
  startService('spillover');
  const load = startLoad();
  const watch = watchCustody();
  for (let round = 0; round < 3; round++) {
    for (const name of ['store', 'spillover']) {
      await delay(400);
      await watch.answered();
      await killService(name);
      await delay(200);
      startService(name);
    }
    await delay(400);
    await server.kill();
    await delay(200);
    await server.start();
  }
  await eventually(() => expect(load.published()).toBeGreaterThan(300), { withinMs: 30_000 });
  const ticks = await load.stop();
  await watch.answered();
  expect(await watch.stop()).toEqual([]);
  expect(ticks).toBeGreaterThan(300);

  const options = { cwd: directory, env };
  await eventually(
    async () => {
      for (const name of ['store', 'spillover']) expect((await spillway(['health', name], options)).code, name).toBe(0);
      const { services: found } = await statusOf();
      expect(found.map((service) => service.lag)).toEqual([0, 0]);
      const { samples } = await reply<{ samples: Sample[] }>(['latest', 'u0', '-n', '1'], options);
      expect(samples[0]?.ts).toBe(FIRST_TS + (ticks - 1) * TICK_MS);
    },
    { withinMs: 30_000, everyMs: 200 },
  );

  const range = ['range', '--from', `${FIRST_TS}`, '--to', `${FIRST_TS + ticks * TICK_MS}`];
  const { samples, coverage } = await reply<{ samples: Sample[]; coverage: CoverageSpan[] }>(range, options);
  const timesRead = new Map<string, number>();
  for (const sample of samples) {
    const key = `${sample.unit} ${sample.ts} ${sample.rss_bytes}`;
    timesRead.set(key, (timesRead.get(key) ?? 0) + 1);
  }
  const expected = Array.from({ length: ticks }, (_, tick) =>
    UNITS.map((unit, i) => `${unit} ${FIRST_TS + tick * TICK_MS} ${rssOf(tick, i)}`),
  ).flat();
  expect(expected.filter((key) => !timesRead.has(key)).slice(0, 10), 'missing').toEqual([]);
  expect([...timesRead].filter(([, times]) => times > 1).slice(0, 10), 'doubled').toEqual([]);
  expect(samples.length, 'rows').toBe(expected.length);
  expect(new Set(coverage.map((span) => span.source))).toEqual(new Set(['spill', 'window']));

  const { custody } = await statusOf();
  expect(custody).toEqual([
    expect.objectContaining({ shard: 0, accepted_rows: expected.length, transit_rows: 0, dropped_rows: 0, lost_rows: 0, holds: true }),
  ]);
  expect((custody[0]?.window_rows ?? 0) + (custody[0]?.segment_rows ?? 0)).toBe(expected.length);
  expect((await spillway(['segments', 'verify'], options)).code).toBe(0);
}, 300_000);

/** `status` ends with 1 here: there is no collector. */
async function statusOf(): Promise<Status> {
  const { stdout } = await spillway(['status', '--json'], { cwd: directory, env });
  return JSON.parse(stdout) as Status;
}
