// The collector with a spool through outages of a real nats-server: nothing is lost, fresh data is fresh at once, a
// successor goes on, and limits are kept and counted.

import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { NatsLink } from '#shared/nats/connection';
import { ensureShard } from '#shared/nats/topology';
import type { Config } from '#shared/runtime/config';
import type { RunningService } from '#shared/runtime/service';
import { startCollector } from '../../services/collector/main.ts';
import { collectorInfoOf, custodyOf, type StoredBatch, storedBatches } from '../support/collected.ts';
import { eventually } from '../support/eventually.ts';
import { connectTest, silent, testConfig } from '../support/link.ts';
import { startNatsServer, type TestServer } from '../support/nats-server.ts';
import { type SpooledBatch, spooledBatches } from '../support/spool-files.ts';

/** Of 200 units and ten ticks a second: eight ticks from its half to its limit, so that a busy machine drops nothing. */
const OUTBOX_BYTES = 262_144;
/** Longer than any test: a stop that waits for NATS does not end. */
const FLUSH_MS_MAX = 600_000;

let server: TestServer;
let link: NatsLink;
let config: Config;
let path: string;
let collector: RunningService | null = null;
let starting: Promise<void> | null = null;
const halt: AbortController[] = [];

beforeEach(async () => {
  path = mkdtempSync(join(tmpdir(), 'spillway-spool-'));
  server = await startNatsServer();
  config = configWith(50, {});
  link = await connectTest(config);
  await ensureShard(link.jsm, link.subjects, config.nats, 0);
});
afterEach(async () => {
  for (const one of halt.splice(0)) one.abort();
  await starting?.catch(() => undefined);
  await collector?.stop();
  collector = null;
  starting = null;
  await link.close();
  await server.stop();
  rmSync(path, { recursive: true, force: true });
});

function configWith(units: number, env: Record<string, string>): Config {
  const base = testConfig({
    SPILLWAY_NATS_SERVERS: server.url,
    SPILLWAY_SAMPLE_INTERVAL_SECS: '0.1',
    SPILLWAY_OUTBOX_MAX_BYTES: `${OUTBOX_BYTES}`,
    SPILLWAY_LIVE_SUBJECTS: 'false',
    SPILLWAY_SPOOL_PATH: join(path, 'spool'),
    ...(config === undefined || link === undefined ? {} : { SPILLWAY_NATS_PREFIX: config.nats.prefix }),
    ...env,
  });
  return {
    ...base,
    units: Object.fromEntries(Array.from({ length: units }, (_, i) => [`unit-${i}`, { self: true as const, tree: false }])),
  };
}

/** Does not wait for NATS. */
function begin(flushMsMax?: number): void {
  const stopping = new AbortController();
  halt.push(stopping);
  starting = startCollector({
    config,
    logger: silent,
    stopping: stopping.signal,
    ...(flushMsMax === undefined ? {} : { flushMsMax }),
  }).then((started) => {
    collector = started;
  });
  starting.catch(() => undefined);
}
async function start(flushMsMax?: number): Promise<void> {
  begin(flushMsMax);
  await starting;
}
async function stop(): Promise<void> {
  await collector?.stop();
  collector = null;
}
const info = () => collectorInfoOf(link, config.host);
const stored = () => storedBatches(link, config.host);
const hasAccepted = (rows: number) => eventually(async () => expect((await info()).counters['accepted_rows']).toBeGreaterThan(rows));

/** Waits until only what is fresh is held, and says how the rows are accounted for. */
async function drained(): Promise<Record<string, number>> {
  return await eventually(
    async () => {
      const now = await info();
      expect(now.health).toEqual({ ready: true, problems: [] });
      expect(now.counters['spool_rows']).toBe(0);
      expect(now.counters['spool_bytes']).toBe(0);
      expect(now.counters['outbox_rows']).toBeLessThanOrEqual(2 * Object.keys(config.units).length);
      const { taken, accountedFor } = custodyOf(now);
      expect(accountedFor).toBe(taken);
      return now.counters;
    },
    { withinMs: 20_000, everyMs: 50 },
  );
}

function ticksByBoot(batches: readonly StoredBatch[]): number[][] {
  const boots = new Map<string, number[]>();
  for (const { batch } of batches) boots.set(batch.boot, [...(boots.get(batch.boot) ?? []), batch.tick]);
  return [...boots.values()].map((ticks) => ticks.toSorted((a, b) => a - b));
}
const everyTickOnce = (ticks: readonly number[]): void => expect(ticks).toEqual(ticks.map((_, i) => i + 1));

const spooled = () => spooledBatches(join(path, 'spool', 'h1'));

/** Sizes of the spool's files; those that go meanwhile are gone. */
function bytesOnDisk(): number {
  const directory = join(path, 'spool', 'h1');
  return readdirSync(directory).reduce((sum, name) => sum + (statSync(join(directory, name), { throwIfNoEntry: false })?.size ?? 0), 0);
}

/** Lasts until enough has piled up on disk. Watches that the limits are kept. */
async function outage(isEnough: (batches: SpooledBatch[]) => boolean, bytesMax = Number.POSITIVE_INFINITY): Promise<void> {
  await server.kill();
  while (!isEnough(spooled())) {
    expect(bytesOnDisk()).toBeLessThanOrEqual(bytesMax);
    await delay(50);
  }
}

describe('collector with a spool', () => {
  test('an outage that is many times too long for the memory loses nothing, and every tick is there once', async () => {
    config = configWith(200, {});
    await start();
    await hasAccepted(800);
    await outage((batches) => batches.length > 40);
    await server.start();
    const restoredMs = Date.now();
    const counters = await drained();
    await stop();
    const batches = await stored();
    for (const ticks of ticksByBoot(batches)) everyTickOnce(ticks);
    expect(Object.entries(counters).filter(([name, count]) => /^dropped_/.test(name) && count > 0)).toEqual([]);
    const late = batches.filter(({ batch }) => batch.late);
    expect(late.length, 'many times the memory').toBeGreaterThan(40);
    const lateTicks = late.map(({ batch }) => batch.tick);
    // What was in the spool follows in its order; the last of the memory goes before it.
    const descents = lateTicks.filter((tick, i) => i > 0 && tick < (lateTicks[i - 1] as number)).length;
    expect(descents).toBeLessThanOrEqual(4);
    expect(batches.at(-1)?.batch.late, 'what is read after the outage is fresh').toBe(false);
    if (process.env['SPOOL_NUMBERS'] !== undefined) {
      const firstMs = Math.min(...batches.filter(({ storedMs }) => storedMs >= restoredMs).map(({ storedMs }) => storedMs));
      const lastLateMs = Math.max(...late.map(({ storedMs }) => storedMs));
      console.log({ late: late.length, reconnectMs: firstMs - restoredMs, drainMs: lastLateMs - firstMs });
    }
  });

  test('stopped in an outage and started again in it, it goes on where it was', async () => {
    await start(FLUSH_MS_MAX);
    await hasAccepted(200);
    await outage((batches) => batches.length > 10);
    await stop(); // nothing to wait for: all is on disk
    begin();
    await eventually(() => expect(new Set(spooled().map(({ boot }) => boot)).size).toBe(2), { withinMs: 20_000 });
    await server.start();
    await starting;
    const counters = await drained();
    await stop();
    expect(counters['spool_found_rows']).toBeGreaterThan(500);
    const boots = ticksByBoot(await stored());
    expect(boots.length).toBe(2);
    for (const ticks of boots) everyTickOnce(ticks);
  });

  test('told to stop before it ever reached NATS, it leaves what it has read to its successor', async () => {
    await server.kill();
    begin();
    await eventually(() => expect(spooled().length).toBeGreaterThan(0), { withinMs: 20_000 });
    halt[0]?.abort();
    await expect(starting).rejects.toMatchObject({ name: 'AbortError' });
    await server.start();
    await start();
    await drained();
    await stop();
    const boots = ticksByBoot(await stored());
    expect(boots.length).toBe(2);
    for (const ticks of boots) everyTickOnce(ticks);
  });

  test('a full spool drops its oldest, counted to the row, and never exceeds its limit', async () => {
    const spoolBytes = 65_536;
    config = configWith(500, { SPILLWAY_SPOOL_MAX_BYTES: `${spoolBytes}` });
    await start();
    await hasAccepted(2_000);
    let first: number | undefined;
    await outage((batches) => {
      const oldest = batches[0]?.tick;
      first ??= oldest;
      return first !== undefined && oldest !== undefined && oldest > first;
    }, spoolBytes);
    await server.start();
    const counters = await drained();
    expect(counters['dropped_spool_full_rows']).toBeGreaterThan(0);
    expect(counters['dropped_spool_lost_rows']).toBe(0);
    // What was still held then arrives as well: of the ticks up to that moment, only those are missing that were counted.
    await eventually(async () => {
      const ticks = ticksByBoot(await stored()).flat();
      expect(new Set(ticks).size).toBe(ticks.length);
      const upTo = counters['ticks'] ?? 0;
      const missing = upTo - ticks.filter((tick) => tick <= upTo).length;
      expect(missing * 500).toBe((counters['dropped_spool_full_rows'] ?? 0) + (counters['dropped_outbox_full_rows'] ?? 0));
    });
  });

  test('a stream that is full sends what does not fit the memory to disk, and it comes back', async () => {
    config = configWith(200, { SPILLWAY_SAMPLES_MAX_BYTES: '100000' });
    await link.jsm.streams.delete(link.subjects.samplesStream(0));
    await start();
    const full = await eventually(async () => {
      const now = await info();
      expect(now.health.problems.join()).toMatch(/is full/);
      expect(now.counters['spool_rows']).toBeGreaterThan(5_000);
      return now;
    });
    expect(full.counters['outbox_bytes']).toBeLessThanOrEqual(OUTBOX_BYTES);
    const first = await stored();
    const { config: streamConfig } = await link.jsm.streams.info(link.subjects.samplesStream(0));
    await link.jsm.streams.update(streamConfig.name, { ...streamConfig, max_bytes: 100_000_000 });
    const counters = await drained();
    expect(counters['dropped_outbox_full_rows']).toBe(0);
    await stop();
    const batches = await stored();
    expect(batches.slice(0, first.length)).toEqual(first);
    for (const ticks of ticksByBoot(batches)) everyTickOnce(ticks);
  });

  test('a directory that cannot be used is said, and the outbox does what it can', async () => {
    writeFileSync(join(path, 'spool'), 'not a directory');
    await start();
    await hasAccepted(200);
    const { health } = await info();
    expect(health.ready).toBe(true);
    expect(health.problems.join()).toMatch(/^the spool cannot be used, batches are kept in memory alone: segments in .*ENOTDIR/);
    await server.kill();
    await delay(1_000);
    await server.start();
    await eventually(async () => {
      const now = await info();
      expect(now.counters['outbox_rows']).toBeLessThanOrEqual(100);
      expect(custodyOf(now).accountedFor).toBe(custodyOf(now).taken);
    });
    await stop();
    for (const ticks of ticksByBoot(await stored())) everyTickOnce(ticks);
  });
});
