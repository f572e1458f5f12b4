// kill -9 of the built collector in an outage: what it had read but for the last moments is on disk, and its successor sends it.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { NatsLink } from '#shared/nats/connection';
import { ensureShard } from '#shared/nats/topology';
import { collectorInfoOf, custodyOf, storedBatches } from '../support/collected.ts';
import { eventually } from '../support/eventually.ts';
import { connectTest, testConfig } from '../support/link.ts';
import { startNatsServer, type TestServer } from '../support/nats-server.ts';
import { type Running, start } from '../support/program.ts';
import { type SpooledBatch, spooledBatches } from '../support/spool-files.ts';

const KILLS = 3;

let directory: string;
let server: TestServer;
let link: NatsLink;
let env: Record<string, string>;
let collector: Running | null = null;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'spillway-spool-'));
  server = await startNatsServer();
  const config = testConfig({ SPILLWAY_NATS_SERVERS: server.url });
  env = {
    SPILLWAY_NATS_SERVERS: server.url,
    SPILLWAY_NATS_PREFIX: config.nats.prefix,
    SPILLWAY_HOST: 'h1',
    SPILLWAY_SAMPLE_INTERVAL_SECS: '0.1',
    SPILLWAY_SPOOL_PATH: join(directory, 'spool'),
  };
  writeFileSync(join(directory, 'spillway.yaml'), 'units: { me: { self: true } }\n');
  link = await connectTest(config);
  await ensureShard(link.jsm, link.subjects, config.nats, 0);
});
afterEach(async () => {
  collector?.signal('SIGKILL');
  await collector?.finished;
  collector = null;
  await link.close();
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
});

test('killed again and again in an outage, it sends what it had on disk, and nothing comes twice', async () => {
  collector = start(['collector'], { cwd: directory, env });
  await eventually(async () => expect((await collectorInfoOf(link, 'h1')).counters['accepted_rows']).toBeGreaterThan(5));
  await server.kill();
  const onDisk: SpooledBatch[] = [];
  for (let life = 1; life <= KILLS; life++) {
    // It goes on writing while the outage lasts, not only at its end.
    const written = await eventually(
      () => {
        const batches = spooledBatches(join(directory, 'spool', 'h1'));
        expect(new Set(batches.map(({ boot }) => boot)).size).toBe(life);
        expect(batches.filter(({ boot }) => boot === batches.at(-1)?.boot).length).toBeGreaterThan(10);
        return batches;
      },
      { withinMs: 30_000 },
    );
    collector.signal('SIGKILL');
    onDisk.push(...written);
    await collector.finished;
    collector = start(['collector'], { cwd: directory, env });
  }
  await server.start();
  await eventually(
    async () => {
      const now = await collectorInfoOf(link, 'h1');
      expect(now.counters['spool_rows']).toBe(0);
      expect(now.counters['outbox_rows']).toBeLessThanOrEqual(2);
      expect(now.counters['spool_found_rows']).toBeGreaterThan(20);
      expect(custodyOf(now).accountedFor).toBe(custodyOf(now).taken);
    },
    { withinMs: 20_000 },
  );
  const batches = await storedBatches(link, 'h1');
  expect(new Set(batches.map(({ id }) => id)).size).toBe(batches.length);
  const boots = [...new Set(batches.map(({ batch }) => batch.boot))].map((boot) => {
    const own = batches.filter(({ batch }) => batch.boot === boot).toSorted((a, b) => a.batch.tick - b.batch.tick);
    expect(own.map(({ batch }) => batch.tick)).toEqual(own.map((_, i) => i + 1));
    return boot;
  });
  expect(boots.length).toBe(KILLS + 1);
  const arrived = new Set(batches.map(({ batch }) => `${batch.boot} ${batch.tick}`));
  expect(onDisk.filter(({ boot, tick }) => !arrived.has(`${boot} ${tick}`))).toEqual([]);
}, 120_000);
