// The law of custody on a real nats-server and disk: asked at any moment, under load and after restarts, every row accepted is in
// exactly one place; and what is taken away or put in by hand is noticed, to the row.

import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Batch, encodeBatch } from '#shared/contract/batch';
import type { SpilloverInfo, StoreInfo } from '#shared/contract/queries';
import type { NatsLink } from '#shared/nats/connection';
import type { Config } from '#shared/runtime/config';
import type { RunningService } from '#shared/runtime/service';
import { type Disk, type DiskFile, realDisk } from '#shared/segments/disk';
import { parseSegmentName, type SegmentName } from '#shared/segments/segment-name';
import { type Custody, custodyOf } from '../../cli/custody.ts';
import { startSpillover } from '../../services/spillover/main.ts';
import { startStore } from '../../services/store/main.ts';
import { batch, unpackable } from '../support/batches.ts';
import { eventually } from '../support/eventually.ts';
import { connectTest, silent, testConfig } from '../support/link.ts';
import { startNatsServer, type TestServer } from '../support/nats-server.ts';

const UNITS = Array.from({ length: 20 }, (_, i) => `unit-${i}`);

let server: TestServer;
let directory: string;
let link: NatsLink;
let config: Config;
const services = new Map<'store' | 'spillover', RunningService>();

beforeEach(async () => {
  server = await startNatsServer();
  directory = mkdtempSync(join(tmpdir(), 'spillway-custody-'));
});
afterEach(async () => {
  for (const name of [...services.keys()]) await stop(name);
  await link.close();
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
});

async function begin(env: Record<string, string> = {}): Promise<void> {
  config = testConfig({
    SPILLWAY_NATS_SERVERS: server.url,
    SPILLWAY_SPILLOVER_PATH: directory,
    SPILLWAY_MAX_MEMORY_BYTES: '131072',
    SPILLWAY_SPILLOVER_SEGMENT_BYTES: '40000',
    SPILLWAY_SPILLOVER_MAX_BYTES: '100000000',
    ...env,
  });
  link = await connectTest(config);
}

async function start(name: 'store' | 'spillover', disk: Disk = realDisk): Promise<void> {
  const open = name === 'store' ? startStore : startSpillover;
  services.set(name, await open({ config, logger: silent, stopping: new AbortController().signal, disk }));
}

/** Every seventh write to a segment finds no room, and the next one does. */
function diskNowAndThenFull(): Disk {
  let writes = 0;
  return {
    ...realDisk,
    open: async (path, flags) => {
      const file = await realDisk.open(path, flags);
      const writev: DiskFile['writev'] = (...args) =>
        path.endsWith('.jsonl') && ++writes % 7 === 0
          ? Promise.reject(Object.assign(new Error('ENOSPC: write'), { code: 'ENOSPC' }))
          : file.writev(...args);
      return {
        read: (...args) => file.read(...args),
        writev,
        truncate: (length) => file.truncate(length),
        datasync: () => file.datasync(),
        sync: () => file.sync(),
        stat: () => file.stat(),
        close: () => file.close(),
      };
    },
  };
}

async function stop(name: 'store' | 'spillover'): Promise<void> {
  await services.get(name)?.stop();
  services.delete(name);
}

const batchAt = (tick: number): Batch =>
  batch({
    tick,
    units: UNITS,
    metrics: { rss_bytes: UNITS.map((_, i) => tick * 977 + i), io_read_bytes: UNITS.map((_, i) => unpackable(tick, i)) },
  });

async function publish(from: number, to: number): Promise<void> {
  for (let tick = from; tick < to; tick++) {
    for (const { id, payload } of encodeBatch(batchAt(tick)))
      await eventually(() => link.js.publish(link.subjects.samples(0, 'h1'), payload, { msgID: id, timeout: 1_000 }), { withinMs: 30_000 });
  }
}

async function ask<Info>(subject: string): Promise<Info> {
  return (await link.nc.request(`${subject}.info`, undefined, { timeout: 2_000 })).json<Info>();
}
const storeInfo = () => ask<StoreInfo>(link.subjects.query(0));
const spilloverInfo = () => ask<SpilloverInfo>(link.subjects.spill(0));

/** As `spillway status` does: the spillover first. */
async function custody(): Promise<Custody> {
  const described = { id: '', version: '' };
  const spillovers = config.metrics.spillover_path === null ? [] : [{ ...described, info: await spilloverInfo() }];
  const [found] = custodyOf([{ ...described, info: await storeInfo() }], spillovers);
  return found as Custody;
}

/** Asks again and again while the work is under way; every answer must hold. @returns how many there were */
async function holdsDuring(work: Promise<unknown>): Promise<{ answers: number; inTransit: number }> {
  let isDone = false;
  const done = work.finally(() => {
    isDone = true;
  });
  const seen = { answers: 0, inTransit: 0 };
  const broken: Custody[] = [];
  while (!isDone) {
    const found = await custody().catch(() => null); // a service that is being started again does not answer
    if (found === null) continue;
    seen.answers++;
    if (found.transit_rows > 0) seen.inTransit++;
    if (!found.holds || found.lost_rows !== 0 || found.doubled_rows !== 0) broken.push(found);
  }
  await done;
  expect(broken).toEqual([]);
  return seen;
}

/** When everything published is in the window or in a segment. */
function settled(ticks: number): Promise<Custody> {
  return eventually(
    async () => {
      const found = await custody();
      expect(found.accepted_rows).toBe(ticks * UNITS.length);
      expect(found.transit_rows).toBe(0);
      return found;
    },
    { withinMs: 60_000, everyMs: 50 },
  );
}

describe('the law holds at every moment', () => {
  test('while rows are evicted, segments rotate and the budget deletes them', async () => {
    await begin({ SPILLWAY_SPILLOVER_SEGMENT_BYTES: '8192', SPILLWAY_SPILLOVER_MAX_BYTES: '40000' });
    await Promise.all([start('store'), start('spillover')]);
    const { answers, inTransit } = await holdsDuring(publish(0, 1_500));
    expect(answers).toBeGreaterThan(20);
    expect(inTransit, 'rows were seen on their way').toBeGreaterThan(0);
    const { deleted_rows, segment_rows, holds } = await settled(1_500);
    expect(holds).toBe(true);
    expect(deleted_rows).toBeGreaterThan(0);
    expect(segment_rows).toBeGreaterThan(0);
    await stop('spillover');
    await start('spillover');
    const after = await settled(1_500);
    expect(after.holds, 'after a start').toBe(true);
    expect(after.deleted_rows + after.segment_rows).toBe(deleted_rows + segment_rows);
    // What was being sealed at the stop counts as a whole now, so the budget may take one more.
    expect(after.deleted_rows).toBeGreaterThanOrEqual(deleted_rows);
  }, 120_000);

  test('with a backlog larger than the budget, on a disk that is full now and then', async () => {
    await begin({ SPILLWAY_SPILLOVER_SEGMENT_BYTES: '40000', SPILLWAY_SPILLOVER_MAX_BYTES: '100000' });
    await start('store');
    await publish(0, 500);
    await eventually(async () => expect((await storeInfo()).custody.accepted_rows).toBe(500 * UNITS.length));
    await start('spillover', diskNowAndThenFull());
    const { deleted_rows } = await settled(500);
    expect(deleted_rows).toBeGreaterThan(0);
    expect(await custody()).toMatchObject({ deleted_rows, lost_rows: 0, doubled_rows: 0, holds: true });
  }, 60_000);

  test('across restarts of store, spillover and nats-server', async () => {
    await begin({ SPILLWAY_SPILLOVER_SEGMENT_BYTES: '8192', SPILLWAY_SPILLOVER_MAX_BYTES: '100000' });
    await Promise.all([start('store'), start('spillover')]);
    const restarts = async (): Promise<void> => {
      let tick = 0;
      for (const name of ['store', 'spillover', 'store', 'spillover'] as const) {
        await publish(tick, tick + 150);
        await stop(name);
        await publish(tick + 150, tick + 300);
        await start(name);
        tick += 300;
      }
      await server.kill();
      await server.start();
      await publish(tick, 1_500);
    };
    expect((await holdsDuring(restarts())).answers).toBeGreaterThan(20);
    expect(await settled(1_500)).toMatchObject({ holds: true, lost_rows: 0, doubled_rows: 0 });
  }, 180_000);

  test('with batches that need several events, and stores that start again between them', async () => {
    await begin({ SPILLWAY_MAX_MEMORY_BYTES: '1048576', SPILLWAY_SPILLOVER_SEGMENT_BYTES: '4000000' });
    await Promise.all([start('store'), start('spillover')]);
    const units = Array.from({ length: 4_000 }, (_, i) => `unit-${i}`);
    const ticks = 80;
    const publishLarge = async (from: number, to: number): Promise<void> => {
      for (let tick = from; tick < to; tick++) {
        const metrics = { rss_bytes: units.map((_, i) => tick * 4_099 * i), io_read_bytes: units.map((_, i) => tick * 7_919 * i) };
        for (const { id, payload } of encodeBatch(batch({ tick, units, metrics })))
          await link.js.publish(link.subjects.samples(0, 'h1'), payload, { msgID: id });
      }
    };
    const work = async (): Promise<void> => {
      for (let tick = 0; tick < ticks; tick += 20) {
        await publishLarge(tick, tick + 20);
        await stop('store');
        await start('store');
      }
    };
    expect((await holdsDuring(work())).answers).toBeGreaterThan(5);
    const expected = { accepted_rows: ticks * units.length, transit_rows: 0, holds: true };
    await eventually(async () => expect(await custody()).toMatchObject(expected), { withinMs: 60_000 });
    expect((await custody()).segment_rows).toBeGreaterThan(0);
  }, 120_000);

  test('when the spill is blocked and rows are dropped', async () => {
    await begin({ SPILLWAY_EVICTED_MAX_BYTES: '400000', SPILLWAY_ON_SPILL_BLOCKED: 'drop' });
    await Promise.all([start('store'), start('spillover')]);
    await stop('spillover');
    await publish(0, 900);
    await eventually(async () => expect((await storeInfo()).custody.dropped_spill_blocked_rows).toBeGreaterThan(0));
    await start('spillover');
    await holdsDuring(publish(900, 1_200));
    const { dropped_rows, dropped_spill_blocked_rows, holds, lost_rows } = await settled(1_200);
    expect({ dropped_rows, lost_rows, holds }).toEqual({ dropped_rows: dropped_spill_blocked_rows, lost_rows: 0, holds: true });
  }, 120_000);

  test('without a spill, where what is evicted is dropped', async () => {
    await begin({ SPILLWAY_SPILLOVER_MAX_BYTES: '0' });
    await start('store');
    await holdsDuring(publish(0, 600));
    const { window_rows, dropped_no_spill_rows, holds } = await settled(600);
    expect(dropped_no_spill_rows).toBeGreaterThan(0);
    expect(window_rows + dropped_no_spill_rows).toBe(600 * UNITS.length);
    expect(holds).toBe(true);
  }, 60_000);

  test('in a new log, which counts from 0 beside the rows of the old one', async () => {
    await begin();
    await Promise.all([start('store'), start('spillover')]);
    await publish(0, 500);
    await settled(500);
    await link.jsm.streams.delete(link.subjects.samplesStream(0));
    await eventually(async () => expect((await custody()).accepted_rows).toBe(0), { withinMs: 30_000 });
    await publish(1_000, 1_500);
    const found = await settled(500);
    expect(found).toMatchObject({ holds: true, older_log_rows: 500 * UNITS.length });
    expect(found.segment_rows).toBeGreaterThan(0);
  }, 90_000);

  test('when somebody purges EVICTED and the count with it: what is in the spill by then is uncounted', async () => {
    await begin();
    await Promise.all([start('store'), start('spillover')]);
    await publish(0, 500);
    await settled(500);
    const samples = link.subjects.samplesStream(0);
    await eventually(async () => expect((await link.jsm.streams.info(samples)).state.first_seq).toBeGreaterThan(1), { withinMs: 30_000 });
    await stop('store');
    await link.jsm.streams.purge(link.subjects.evictedStream(0));
    await start('store');
    await publish(500, 1_000);
    const { uncounted_rows } = await eventually(
      async () => {
        const found = await custody();
        expect(found).toMatchObject({ transit_rows: 0, holds: true });
        expect(found.uncounted_rows).toBeGreaterThan(0);
        expect(found.accepted_rows + found.uncounted_rows).toBe(1_000 * UNITS.length);
        expect(found.window_rows + found.segment_rows).toBe(1_000 * UNITS.length);
        return found;
      },
      { withinMs: 60_000 },
    );
    await stop('spillover');
    await start('spillover');
    await eventually(async () => expect(await custody()).toMatchObject({ uncounted_rows, transit_rows: 0, holds: true }));
  }, 120_000);
});

describe('rows that are missing or doubled are noticed', () => {
  const shardFiles = (end: string): string[] =>
    readdirSync(join(directory, '0'))
      .filter((name) => name.startsWith('metrics-') && name.endsWith(end))
      .sort()
      .map((name) => join(directory, '0', name));

  beforeEach(async () => {
    await begin();
    await Promise.all([start('store'), start('spillover')]);
    await publish(0, 500);
    expect(await settled(500)).toMatchObject({ holds: true });
    // Everything but the active segment is sealed.
    await eventually(() => expect(shardFiles('.jsonl')).toHaveLength(1));
  }, 60_000);

  const rowsOf = (path: string): string[] => {
    const bytes = readFileSync(path);
    return (path.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString().split('\n').slice(0, -1);
  };
  const rewrite = (path: string, lines: readonly string[]): void => {
    const text = lines.map((line) => `${line}\n`).join('');
    writeFileSync(path, path.endsWith('.gz') ? gzipSync(text) : text);
  };
  const found = (expected: object): Promise<void> =>
    eventually(async () => expect(await custody()).toMatchObject({ holds: false, transit_rows: 0, ...expected }), { withinMs: 20_000 });

  test('a segment removed while the spillover runs, and still after it has started again', async () => {
    const [oldest] = shardFiles('.gz') as [string];
    const lost_rows = rowsOf(oldest).length;
    unlinkSync(oldest);
    await found({ lost_rows, doubled_rows: 0 });
    await stop('spillover');
    await start('spillover');
    await found({ lost_rows, problem: expect.stringMatching(/rows are lost by the spill: compare/) });
    await publish(500, 700);
    await found({ lost_rows, accepted_rows: 700 * UNITS.length });
  }, 60_000);

  test('a segment removed while it is stopped, sealed or the newest', async () => {
    const [oldest] = shardFiles('.gz') as [string];
    const [active] = shardFiles('.jsonl') as [string];
    const rows = rowsOf(oldest).length + rowsOf(active).length;
    await stop('spillover');
    unlinkSync(oldest);
    unlinkSync(active);
    await start('spillover');
    // The last event is still in EVICTED: its rows come back.
    await eventually(async () => expect((await spilloverInfo()).counters['rows']).toBeGreaterThan(0));
    const restored = (await spilloverInfo()).counters['rows'] ?? 0;
    await found({ lost_rows: rows - restored });
  }, 60_000);

  test.each(['.gz', '.jsonl'])('a line cut out of a segment that ends with %s, and a line doubled', async (end) => {
    const path = shardFiles(end).at(-1) as string;
    const lines = rowsOf(path);
    await stop('spillover');
    rewrite(path, lines.toSpliced(1, 1));
    await start('spillover');
    await found({ lost_rows: 1, doubled_rows: 0, problem: expect.stringMatching(/^1 row is lost by the spill/) });
    await stop('spillover');
    rewrite(path, lines.toSpliced(1, 0, lines[1] as string));
    await start('spillover');
    await found({ lost_rows: 0, doubled_rows: 1, problem: expect.stringMatching(/^1 row is doubled by the spill/) });
    await stop('spillover');
    rewrite(path, lines);
    await start('spillover');
    await eventually(async () => expect(await custody()).toMatchObject({ holds: true, transit_rows: 0 }));
  });

  test('but a deletion that a kill has interrupted counts once, whether the file is still there or not', async () => {
    const [oldest] = shardFiles('.gz') as [string];
    const rows = rowsOf(oldest).length;
    const { segment_rows } = await custody();
    await stop('spillover');
    const { log, first } = parseSegmentName('metrics', basename(oldest)) as SegmentName;
    writeFileSync(join(directory, '0', 'custody.json'), JSON.stringify({ deleted: { log, first, rows }, dropped: null, uncounted: null }));
    const expected = { deleted_rows: rows, segment_rows: segment_rows - rows, transit_rows: 0, holds: true };
    await start('spillover');
    await eventually(async () => expect(await custody()).toMatchObject(expected));
    await stop('spillover');
    unlinkSync(oldest);
    await start('spillover');
    await eventually(async () => expect(await custody()).toMatchObject(expected));
  });

  test('bytes in the active segment that are no rows, and what follows them', async () => {
    const [active] = shardFiles('.jsonl') as [string];
    await stop('spillover');
    appendFileSync(active, 'not a row\n');
    await start('spillover');
    await eventually(async () => expect((await spilloverInfo()).counters['quarantined_files']).toBe(1));
    expect(await settled(500)).toMatchObject({ holds: true });
  });
});
