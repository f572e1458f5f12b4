import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { NatsLink } from '#shared/nats/connection';
import { ensureShard } from '#shared/nats/topology';
import type { Config } from '#shared/runtime/config';
import type { RunningService } from '#shared/runtime/service';
import { startCollector } from '../../services/collector/main.ts';
import { collectorInfoOf, type StoredBatch, storedBatches } from '../support/collected.ts';
import { eventually } from '../support/eventually.ts';
import { connectTest, silent, testConfig } from '../support/link.ts';
import { startNatsServer, type TestServer } from '../support/nats-server.ts';

let server: TestServer;
let link: NatsLink;
let config: Config;
let collector: RunningService | null = null;

beforeEach(async () => {
  server = await startNatsServer();
  config = {
    ...testConfig({ SPILLWAY_NATS_SERVERS: server.url, SPILLWAY_SAMPLE_INTERVAL_SECS: '0.1', SPILLWAY_OUTBOX_MAX_BYTES: '65536' }),
    units: { me: { self: true, tree: true }, other: { self: true, tree: false } },
  };
  link = await connectTest(config);
  await ensureShard(link.jsm, link.subjects, config.nats, 0);
});
afterEach(async () => {
  await collector?.stop();
  collector = null;
  await link.close();
  await server.stop();
});

/** Longer than any test: a stop hands over what is left, however long that takes. */
const FLUSH_MS_MAX = 600_000;

const start = async (flushMsMax = FLUSH_MS_MAX): Promise<void> => {
  collector = await startCollector({ config, logger: silent, stopping: new AbortController().signal, flushMsMax });
};
const info = () => collectorInfoOf(link, config.host);
const stored = () => storedBatches(link, config.host);
const ticksOf = (batches: readonly StoredBatch[]): number[] => batches.map(({ batch }) => batch.tick).toSorted((a, b) => a - b);

describe('collector through an outage', () => {
  test('nothing that fits the outbox is lost, every tick is there once, and the backlog says that it is late', async () => {
    await start();
    await eventually(async () => expect((await info()).counters['accepted_rows']).toBeGreaterThan(4));
    const before = await stored();
    const lastBefore = Math.max(...ticksOf(before));
    await server.kill();
    // The outage has to last: what is under test is what piles up in it.
    await delay(2_000);
    await server.start();
    const after = await eventually(async () => {
      const { counters } = await info();
      expect(counters['outbox_rows']).toBeLessThanOrEqual(2);
      expect((await stored()).some(({ batch }) => !batch.late && batch.tick > lastBefore)).toBe(true);
      return counters;
    });
    expect(after['dropped_outbox_full_rows']).toBe(0);
    const batches = await stored();
    const ticks = ticksOf(batches);
    expect(ticks, 'every tick once').toEqual(ticks.map((_, i) => i + 1));
    expect(batches.slice(0, before.length), 'what was stored before is as it was').toEqual(before);
    expect(batches.filter(({ batch }) => batch.late && batch.tick > lastBefore).length).toBeGreaterThan(0);
    // Ids are those of the ticks, so that a second publish of the same tick is known for what it is.
    for (const { id, batch } of batches) expect(id).toBe(`h1:${batch.boot}:${batch.tick}`);
  });

  test('a server that hangs: what is published again is stored once', async () => {
    await start();
    await eventually(async () => expect((await info()).counters['accepted_rows']).toBeGreaterThan(4));
    server.pause();
    await delay(6_500); // longer than a publish waits for its acknowledgement, shorter than a dead connection takes to notice
    server.resume();
    await eventually(
      async () => {
        const { counters, health } = await info();
        expect(health).toEqual({ ready: true, problems: [] });
        expect(counters['outbox_rows']).toBeLessThanOrEqual(2);
      },
      { withinMs: 20_000 },
    );
    const ticks = ticksOf(await stored());
    expect(ticks).toEqual(ticks.map((_, i) => i + 1));
    expect((await info()).counters['publish_failures']).toBeGreaterThan(0);
  });

  test('what is read before NATS can be reached for the first time is not lost', async () => {
    await server.kill();
    const starting = start();
    await delay(1_000);
    await server.start();
    await starting;
    await eventually(async () => {
      const ticks = ticksOf(await stored());
      expect(ticks.length).toBeGreaterThan(8);
      expect(ticks).toEqual(ticks.map((_, i) => i + 1));
    });
    expect((await stored()).filter(({ batch }) => batch.late).length).toBeGreaterThan(0);
  });

  test('an outage longer than the outbox loses the oldest, counted to the row', async () => {
    const units = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`unit-${i}`, { self: true as const, tree: false }]));
    config = { ...config, units };
    await start();
    await eventually(async () => expect((await info()).counters['accepted_rows']).toBeGreaterThan(400));
    await server.kill();
    await delay(3_000);
    await server.start();
    const counters = await eventually(async () => {
      const now = (await info()).counters;
      expect(now['outbox_rows']).toBeLessThanOrEqual(200);
      expect(now['dropped_outbox_full_rows']).toBeGreaterThan(0);
      return now;
    });
    await collector?.stop();
    collector = null;
    const batches = await stored();
    const rows = batches.reduce((sum, { batch }) => sum + batch.unit.length, 0);
    const ticks = ticksOf(batches);
    expect(new Set(ticks).size).toBe(ticks.length);
    const missing = Math.max(...ticks) - ticks.length;
    expect(missing * 200).toBe(counters['dropped_outbox_full_rows']);
    expect(rows).toBe(ticks.length * 200);
  });

  test('being told to stop while NATS is away, it hands over what it has when NATS comes back in time', async () => {
    await start();
    await eventually(async () => expect((await info()).counters['accepted_rows']).toBeGreaterThan(2));
    await server.kill();
    await delay(1_500);
    const stopped = collector?.stop();
    collector = null;
    await server.start();
    await stopped;
    const batches = await eventually(stored); // the test's own connection comes back in its own time
    const ticks = ticksOf(batches);
    expect(ticks).toEqual(ticks.map((_, i) => i + 1));
    expect(batches.filter(({ batch }) => batch.late).length).toBeGreaterThan(0);
  });

  test('being told to stop while the stream is missing, it hands over what it has when the stream comes in time', async () => {
    await start();
    await link.jsm.streams.delete(link.subjects.samplesStream(0));
    await eventually(async () => expect((await info()).counters['outbox_rows']).toBeGreaterThan(4));
    const stopped = collector?.stop();
    collector = null;
    await ensureShard(link.jsm, link.subjects, config.nats, 0);
    await stopped;
    const ticks = ticksOf(await stored());
    expect(ticks.length).toBeGreaterThan(2);
    expect(ticks).toEqual(ticks.map((_, i) => (ticks[0] as number) + i));
  });

  test("batches are no larger than the server's max_payload; one made before it was known is dropped and counted", async () => {
    await server.stop();
    const file = join(mkdtempSync(join(tmpdir(), 'spillway-nats-config-')), 'nats.conf');
    writeFileSync(file, 'max_payload: 8192\n');
    server = await startNatsServer({ args: ['-c', file] });
    await link.close();
    const units = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`unit-${i}`, { self: true as const, tree: false }]));
    config = { ...config, units, nats: { ...config.nats, servers: [server.url] } };
    link = await connectTest(config);
    await ensureShard(link.jsm, link.subjects, config.nats, 0);
    await server.kill();
    const starting = start();
    await delay(500);
    await server.start();
    await starting;
    const refused = await eventually(async () => {
      const { counters, health } = await info();
      expect(health.ready).toBe(true);
      expect(counters['dropped_refused_rows']).toBeGreaterThan(0);
      expect(counters['accepted_rows']).toBeGreaterThan(400);
      return counters['dropped_refused_rows'] ?? 0;
    });
    expect(refused % 200, 'whole ticks').toBe(0);
    const batches = await stored();
    for (const { batch } of batches) expect(batch.parts).toBeGreaterThan(1);
    const firstWhole = Math.min(...ticksOf(batches));
    const units1 = batches.filter(({ batch }) => batch.tick === firstWhole).flatMap(({ batch }) => batch.unit);
    expect(units1.toSorted()).toEqual(Object.keys(units).toSorted());
  });

  test('being told to stop while NATS is away, it waits only for so long', async () => {
    await start(500);
    await eventually(async () => expect((await info()).counters['accepted_rows']).toBeGreaterThan(2));
    await server.kill();
    await delay(300);
    await collector?.stop();
    await collector?.done;
    collector = null;
  });

  test('being told to stop before NATS was ever reached, it gives up at once', async () => {
    await server.kill();
    const stopping = new AbortController();
    const starting = startCollector({ config, logger: silent, stopping: stopping.signal });
    await delay(200);
    stopping.abort();
    await expect(starting).rejects.toMatchObject({ name: 'AbortError' });
  });
});
