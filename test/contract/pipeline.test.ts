// Store and spillover together on a real nats-server and disk: what went in is in window and segments, each row once.

import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { SpillwayClient } from '#client/client';
import { type Batch, encodeBatch } from '#shared/contract/batch';
import { METRIC_NAMES } from '#shared/contract/metrics';
import type { SpilloverInfo, StoreInfo } from '#shared/contract/queries';
import { parseRow, type Row, type Sample, sampleOfRow } from '#shared/contract/row';
import type { NatsLink } from '#shared/nats/connection';
import type { Config } from '#shared/runtime/config';
import { startSpillover } from '../../services/spillover/main.ts';
import { startStore } from '../../services/store/main.ts';
import { batch, EPOCH_MS } from '../support/batches.ts';
import { eventually } from '../support/eventually.ts';
import { connectTest, silent, testConfig } from '../support/link.ts';
import { sharedServer } from '../support/shared-server.ts';

/** A busy machine answers late. */
const PATIENCE_MS = 20_000;

const server = sharedServer();
const { cleanups } = server;
let directory: string;

interface Pipeline {
  readonly config: Config;
  readonly link: NatsLink;
  readonly client: SpillwayClient;
  publish(batches: Iterable<Batch>): Promise<void>;
  /** Resolves when everything published is in the window or synced. */
  settled(positions: number): Promise<StoreInfo>;
  segmentRows(): Generator<Row>;
  stopSpillover(): Promise<void>;
}

async function start(env: Record<string, string>): Promise<Pipeline> {
  directory = mkdtempSync(join(tmpdir(), 'spillway-pipeline-'));
  cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
  const config = testConfig({ SPILLWAY_NATS_SERVERS: server.url, SPILLWAY_SPILLOVER_PATH: directory, ...env });
  const link = await connectTest(config);
  cleanups.push(() => link.close());
  const services = await Promise.all(
    [startStore, startSpillover].map((open) => open({ config, logger: silent, stopping: new AbortController().signal })),
  );
  for (const service of services) cleanups.push(() => service.stop());
  const client = new SpillwayClient(link, { timeoutMs: PATIENCE_MS });
  // Until the store has looked for the end of its log, it answers that it is reading.
  await eventually(async () => expect((await client.storeInfo(0)).health.ready).toBe(true), { withinMs: PATIENCE_MS });
  return {
    config,
    link,
    client,
    stopSpillover: async () => services[1]?.stop(),
    publish: async (batches) => {
      let underWay: Promise<unknown>[] = [];
      for (const one of batches) {
        for (const { id, payload } of encodeBatch(one))
          underWay.push(link.js.publish(link.subjects.samples(0, one.host), payload, { msgID: id, timeout: PATIENCE_MS }));
        if (underWay.length < 100) continue;
        await Promise.all(underWay);
        underWay = [];
      }
      await Promise.all(underWay);
    },
    settled: (positions) =>
      eventually(
        async () => {
          const store = await client.storeInfo(0);
          const spill: SpilloverInfo = await client.spilloverInfo(0);
          expect(store).toMatchObject({ head: positions + 1, lag: 0 });
          if (store.floor > 1) expect(spill.position?.seq).toBe(store.floor);
          return store;
        },
        { withinMs: 90_000, everyMs: 100 },
      ),
    *segmentRows() {
      const shard = join(directory, '0');
      // While a segment is sealed, both of its files are there for a moment.
      const names = readdirSync(shard).filter((name) => /^metrics-\d+-\d+(-\d+)?\.jsonl(\.gz)?$/.test(name));
      const files = names
        .filter((name) => name.endsWith('.gz') || !names.some((other) => other.endsWith('.gz') && other.startsWith(name.slice(0, -6))))
        .sort();
      for (const name of files) {
        const bytes = readFileSync(join(shard, name));
        for (const line of (name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8').split('\n'))
          if (line !== '') yield parseRow(line) as Row;
      }
    },
  };
}

const diskBytes = (): number =>
  readdirSync(join(directory, '0')).reduce(
    (sum, name) => sum + (statSync(join(directory, '0', name), { throwIfNoEntry: false })?.size ?? 0),
    0,
  );

/** Deterministic and cheap: a value for each (batch, unit, metric), with nulls and floats among them. */
function valueAt(tick: number, unit: number, metric: number): number | null {
  const mixed = (Math.imul(tick + 1, 2_654_435_761) ^ Math.imul(unit + 1, 40_503) ^ Math.imul(metric + 1, 97)) >>> 0;
  if (mixed % 11 === 0) return null;
  if (metric === 0) return mixed % 3 === 0 ? mixed / 7 : (mixed % 10_000) / 100;
  return mixed * (metric + 1);
}

function* batches(count: number, units: readonly string[]): Generator<Batch> {
  for (let tick = 0; tick < count; tick++) {
    const metrics = Object.fromEntries(METRIC_NAMES.map((name, metric) => [name, units.map((_, unit) => valueAt(tick, unit, metric))]));
    yield batch({ tick, units, metrics });
  }
}

test('1 000 000 samples through a window of 1 MiB: window and segments have every row once, value for value', async () => {
  const perBatch = 50;
  const count = 1_000_000 / perBatch;
  const names = Array.from({ length: perBatch }, (_, i) => `unit-${i}`);
  const pipeline = await start({ SPILLWAY_MAX_MEMORY_BYTES: '1048576' });
  let mostBytes = 0;
  const watch = setInterval(
    () =>
      void pipeline.client.storeInfo(0).then(
        ({ bytes }) => (mostBytes = Math.max(mostBytes, bytes.total)),
        () => undefined,
      ),
    50,
  );
  cleanups.push(() => clearInterval(watch));
  await pipeline.publish(batches(count, names));
  const store = await pipeline.settled(count);
  clearInterval(watch);
  expect(mostBytes).toBeLessThanOrEqual(1_048_576);
  expect(mostBytes).toBeGreaterThan(900_000);

  const unitOf = new Map(names.map((name, i) => [name, i]));
  const seen = new Uint8Array(1_000_000);
  const check = (sample: Sample): void => {
    const tick = (sample.seq as number) - 1;
    const unit = unitOf.get(sample.unit) as number;
    const wrong = METRIC_NAMES.filter((name, metric) => sample[name] !== valueAt(tick, unit, metric));
    if (wrong.length > 0 || sample.ts !== EPOCH_MS + tick * 1000) throw new Error(`wrong ${wrong.join()}: ${JSON.stringify(sample)}`);
    seen[tick * perBatch + unit] = (seen[tick * perBatch + unit] as number) + 1;
  };
  let spilled = 0;
  for (const row of pipeline.segmentRows()) {
    check(sampleOfRow(row));
    spilled++;
  }
  expect(spilled).toBe(1_000_000 - store.rows);
  expect(spilled).toBe((store.floor - 1) * perBatch);
  const window = await pipeline.client.range({ fromMs: EPOCH_MS + (store.floor - 1) * 1000, toMs: EPOCH_MS + count * 1000 });
  expect(window.samples).toHaveLength(store.rows);
  for (const sample of window.samples) check(sample);
  expect(seen.every((times) => times === 1)).toBe(true);

  // Across the boundary, as one.
  const from = store.floor - 1 - 40;
  const across = await pipeline.client.range({
    host: 'h1',
    unit: 'unit-7',
    fromMs: EPOCH_MS + from * 1000,
    toMs: EPOCH_MS + (from + 79) * 1000,
  });
  expect(across.samples.map(({ seq }) => seq)).toEqual(Array.from({ length: 80 }, (_, i) => from + 1 + i));
  expect(across.coverage.map(({ source }) => source)).toEqual(['spill', 'window']);
}, 180_000);

test('while rows move from window to spill, a range over both is complete and without doubles at every moment', async () => {
  const names = Array.from({ length: 20 }, (_, i) => `unit-${i}`);
  const pipeline = await start({ SPILLWAY_MAX_MEMORY_BYTES: '131072', SPILLWAY_SPILLOVER_SEGMENT_BYTES: '262144' });
  let published = 0;
  const load = (async () => {
    for (const one of batches(1500, names)) {
      await pipeline.publish([one]);
      published++;
    }
  })();
  let answers = 0;
  let seen = 0;
  while (published < 1500) {
    const { samples } = await pipeline.client.range({ host: 'h1', unit: 'unit-3', fromMs: 0, toMs: 8e15 });
    const seqs = samples.map(({ seq }) => seq as number);
    // What was accepted a moment ago may still be on its way into the window; what was seen once stays to be seen.
    expect(seqs).toEqual(Array.from({ length: seqs.length }, (_, i) => i + 1));
    expect(seqs.length).toBeLessThanOrEqual(published + 1);
    expect(seqs.length).toBeGreaterThanOrEqual(seen);
    seen = seqs.length;
    answers++;
  }
  await load;
  const store = await pipeline.settled(1500);
  expect(answers).toBeGreaterThan(3);
  expect(store.floor).toBeGreaterThan(1);
  const { samples } = await pipeline.client.range({ fromMs: 0, toMs: 8e15 });
  expect(samples).toHaveLength(1500 * names.length);
}, 120_000);

test('small segments and a small disk budget: many files, the newest rows stay, the budget holds at every look', async () => {
  const names = Array.from({ length: 10 }, (_, i) => `unit-${i}`);
  const pipeline = await start({
    SPILLWAY_MAX_MEMORY_BYTES: '131072',
    SPILLWAY_SPILLOVER_SEGMENT_BYTES: '4096',
    SPILLWAY_SPILLOVER_MAX_BYTES: '65536',
  });
  let most = 0;
  const watch = setInterval(() => (most = Math.max(most, diskBytes())), 3);
  cleanups.push(() => clearInterval(watch));
  await pipeline.publish(batches(3000, names));
  const store = await pipeline.settled(3000);
  clearInterval(watch);
  expect(most).toBeLessThanOrEqual(65_536);
  const rows = [...pipeline.segmentRows()];
  expect(rows.at(-1)?.seq, 'the newest evicted row is there').toBe(store.floor - 1);
  const first = rows[0]?.seq as number;
  expect(rows).toHaveLength((store.floor - first) * names.length);
  const spill = await pipeline.client.spilloverInfo(0);
  expect(spill.segments).toBeGreaterThan(10);
  expect((spill.counters['dropped_budget_rows'] ?? 0) + rows.length, 'every row is there or counted').toBe(
    (store.floor - 1) * names.length,
  );
}, 60_000);

test('when the spillover does not answer, a range says what it cannot show', async () => {
  const names = Array.from({ length: 20 }, (_, i) => `unit-${i}`);
  const pipeline = await start({ SPILLWAY_MAX_MEMORY_BYTES: '131072' });
  await pipeline.publish(batches(800, names));
  const store = await pipeline.settled(800);
  expect(store.floor).toBeGreaterThan(1);
  const everything = { fromMs: EPOCH_MS, toMs: EPOCH_MS + 800_000 };
  expect((await pipeline.client.range(everything)).coverage.map(({ source }) => source)).toEqual(['spill', 'window']);
  await pipeline.stopSpillover();
  const { samples, coverage } = await pipeline.client.range(everything);
  expect(samples).toHaveLength(store.rows);
  expect(coverage.map(({ source }) => source)).toEqual(['transit', 'window']);
  const recent = await pipeline.client.range({ fromMs: EPOCH_MS + (store.floor - 1) * 1000, toMs: everything.toMs });
  expect(recent.coverage.map(({ source }) => source)).toEqual(['window']);
}, 60_000);
