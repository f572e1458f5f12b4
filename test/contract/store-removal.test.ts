// Removing a series, against a real nats-server: an event in the log, so every store that reads it forgets the same rows.

import { describe, expect, test } from 'vitest';
import { SpillwayClient } from '#client/client';
import { type Batch, encodeBatch } from '#shared/contract/batch';
import { parseEvictionHead } from '#shared/contract/eviction';
import { QueryError, type StoreInfo } from '#shared/contract/queries';
import { EVENT_HEADER } from '#shared/contract/removal';
import { parseRow, type Row } from '#shared/contract/row';
import { headers } from '#shared/nats/client';
import type { NatsLink } from '#shared/nats/connection';
import type { Config } from '#shared/runtime/config';
import type { RunningService } from '#shared/runtime/service';
import { startStore } from '../../services/store/main.ts';
import { Removals } from '../../services/store/removals.ts';
import { batch, EPOCH_MS, unpackable } from '../support/batches.ts';
import { eventually } from '../support/eventually.ts';
import { connectTest, silent, testConfig } from '../support/link.ts';
import { startNatsServer } from '../support/nats-server.ts';
import { sharedServer } from '../support/shared-server.ts';

const server = sharedServer();
const { cleanups } = server;

interface Stage {
  readonly link: NatsLink;
  readonly client: SpillwayClient;
  start(changes?: Partial<Config['metrics']>): Promise<RunningService>;
  /** @returns the position in the log */
  publish(one: Batch): Promise<number>;
  /** A message beside the batches, on the subject of host h1. */
  publishEvent(event: string, payload: string): Promise<void>;
  /** The only store. */
  info(): Promise<StoreInfo>;
  /** All rows of EVICTED, with the chain of its events checked. */
  evictedRows(): Promise<Row[]>;
  /** Of the log. */
  lastSeq(): Promise<number>;
}

async function stage(env: Record<string, string> = {}): Promise<Stage> {
  const config = testConfig({ SPILLWAY_NATS_SERVERS: server.url, SPILLWAY_SPILLOVER_PATH: '/tmp/never-written-by-a-store', ...env });
  const link = await connectTest(config);
  cleanups.push(() => link.close());
  const { subjects } = link;
  const client = new SpillwayClient(link);
  return {
    link,
    client,
    start: async (changes = {}) => {
      const metrics = { ...config.metrics, ...changes };
      const service = await startStore({ config: { ...config, metrics }, logger: silent, stopping: new AbortController().signal });
      service.done.catch(() => undefined);
      cleanups.push(() => service.stop());
      return service;
    },
    publish: async (one) => {
      let seq = 0;
      for (const { id, payload } of encodeBatch(one))
        seq = (await link.js.publish(subjects.samples(0, one.host), payload, { msgID: id })).seq;
      return seq;
    },
    publishEvent: async (event, payload) => {
      const head = headers();
      head.set(EVENT_HEADER, event);
      await link.js.publish(subjects.samples(0, 'h1'), payload, { headers: head });
    },
    info: () => client.storeInfo(0),
    evictedRows: async () => {
      const stream = subjects.evictedStream(0);
      const { state } = await link.jsm.streams.info(stream);
      const rows: Row[] = [];
      let at: number | null = null;
      for (let seq = state.first_seq; seq <= state.last_seq; seq++) {
        const message = await link.jsm.streams.getMessage(stream, { seq });
        const head = parseEvictionHead((name) => message.header.get(name));
        if (!head.ok) throw new Error(head.detail);
        if (at !== null) expect(head.value.from).toBe(at);
        at = head.value.to;
        const lines = Buffer.from(message.data).toString().split('\n').slice(0, -1);
        expect(head.value.rows).toBe(lines.length);
        for (const line of lines) rows.push(parseRow(line) as Row);
      }
      return rows;
    },
    lastSeq: async () => (await link.jsm.streams.info(subjects.samplesStream(0))).state.last_seq,
  };
}

const API = { host: 'h1', unit: 'api' };
const names = Array.from({ length: 40 }, (_, i) => `unit-${i}`);
const GONE = { host: 'h1', unit: 'unit-7' };
const busy = (tick: number): Batch =>
  batch({
    tick,
    units: names,
    metrics: {
      cpu_percent: names.map((_, i) => ((tick * 31 + i * 17) % 10_000) / 100),
      rss_bytes: names.map((_, i) => tick * 4096 * (i + 1)),
      io_read_bytes: names.map((_, i) => tick * 1000 + i),
      net_rx_bytes: names.map((_, i) => unpackable(tick, i)),
    },
  });
const counted = ({ counters }: StoreInfo, name: string): number => counters[name] ?? Number.NaN;

/** Rows of one process that has read the log from its beginning: each is in one place. */
function expectCustody(info: StoreInfo): void {
  const elsewhere = counted(info, 'evicted_rows') + counted(info, 'dropped_rows') + counted(info, 'removed_rows');
  expect(counted(info, 'accepted_rows'), JSON.stringify(info)).toBe(info.rows + elsewhere);
}

describe('remove', () => {
  test('forgets the rows of one series in every query, and of no other', async () => {
    const s = await stage();
    await s.start();
    for (let tick = 0; tick < 3; tick++) {
      await s.publish(batch({ tick, units: ['api', 'db'], metrics: { cpu_percent: [10 * tick, 1] } }));
      await s.publish(batch({ tick, host: 'h2', units: ['api'] }));
    }
    await eventually(async () => expect((await s.info()).rows).toBe(9));
    expect(await s.client.remove(API)).toEqual({ rows: 3, seq: 7 });
    expect((await s.client.units()).map(({ host, unit, rows }) => `${host}/${unit} ${rows}`)).toEqual(['h1/db 3', 'h2/api 3']);
    expect(await s.client.latest(API, 10)).toEqual([]);
    await expect(s.client.snapshot(API)).rejects.toMatchObject({ code: 'unknown_unit' });
    expect(await s.client.summary(API)).toBeNull();
    const { samples } = await s.client.range({ fromMs: 0, toMs: 8e15 });
    expect(samples.filter(({ host, unit }) => host === API.host && unit === API.unit)).toEqual([]);
    expect(samples).toHaveLength(6);
    const info = await s.info();
    expect(info).toMatchObject({ rows: 6, series: 2, head: 8, counters: { removed_rows: 3, removed_series: 1 } });
    expectCustody(info);
  });

  test('of a series the window does not know: a clear error, and nothing in the log', async () => {
    const s = await stage();
    await s.start();
    await s.publish(batch({ tick: 0 }));
    await eventually(async () => expect((await s.info()).rows).toBe(1));
    await expect(s.client.remove({ host: 'h1', unit: 'nope' })).rejects.toMatchObject({ code: 'unknown_unit' });
    await expect(s.client.remove({ host: 'nope', unit: 'api' })).rejects.toMatchObject({ code: 'unknown_unit' });
    expect(await s.lastSeq()).toBe(1);
    await s.client.remove(API);
    await expect(s.client.remove(API), 'it is gone already').rejects.toMatchObject({ code: 'unknown_unit' });
    expect(await s.lastSeq()).toBe(2);
  });

  test('a series that comes back begins anew, and a batch repeated after the removal is still a repetition', async () => {
    const s = await stage();
    await s.start();
    for (let tick = 0; tick < 3; tick++) await s.publish(batch({ tick, units: ['api', 'db'] }));
    await eventually(async () => expect((await s.info()).rows).toBe(6));
    await s.client.remove(API);
    // Without an id the server does not notice.
    await s.link.js.publish(s.link.subjects.samples(0, 'h1'), JSON.stringify(batch({ tick: 2, units: ['api', 'db'] })));
    await s.publish(batch({ tick: 3, units: ['api', 'db'], metrics: { cpu_percent: 5 } }));
    await eventually(async () => expect((await s.info()).head).toBe(7));
    const unit = (await s.client.units()).find((one) => one.unit === 'api');
    expect(unit).toMatchObject({ rows: 1, first_ts: EPOCH_MS + 3000, last_ts: EPOCH_MS + 3000 });
    expect(await s.client.snapshot(API)).toMatchObject([{ seq: 6, cpu_percent: 5 }]);
    expect(await s.client.summary(API)).toMatchObject({ samples: 1, max_cpu_percent: 5 });
    expect(await s.info()).toMatchObject({ rows: 5, counters: { duplicate_batches: 1, duplicate_rows: 2 } });
  });

  test('a store that starts again forgets the same', async () => {
    const s = await stage();
    const first = await s.start();
    for (let tick = 0; tick < 50; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).head).toBe(51));
    await s.client.remove(GONE);
    for (let tick = 50; tick < 60; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).head).toBe(62));
    const all = { fromMs: 0, toMs: 8e15 };
    const before = await s.client.range(all);
    expect(before.samples).toHaveLength(60 * names.length - 50);
    await first.stop();
    await s.start();
    await eventually(async () => expect(await s.info()).toMatchObject({ head: 62, health: { ready: true } }));
    expect((await s.client.range(all)).samples).toEqual(before.samples);
    expectCustody(await s.info());
  });

  test('what is evicted later is without the removed rows, and the floor moves over them', async () => {
    const s = await stage({ SPILLWAY_MAX_MEMORY_BYTES: '131072' });
    await s.start();
    for (let tick = 0; tick < 600; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).head).toBe(601));
    const { floor } = await s.info();
    expect(floor).toBeGreaterThan(1);
    const reply = await s.client.remove(GONE);
    expect(reply).toEqual({ rows: 601 - floor, seq: 601 });
    for (let tick = 600; tick < 1200; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).head).toBe(1202));
    const info = await s.info();
    expect(info.floor, 'the removal itself has been evicted').toBeGreaterThan(reply.seq);
    expectCustody(info);
    const window = (await s.client.range({ fromMs: 0, toMs: 8e15 })).samples;
    const rows = [...(await s.evictedRows()), ...window];
    expect(rows).toHaveLength(1200 * names.length - reply.rows);
    const seqs = rows.filter(({ unit }) => unit === GONE.unit).map(({ seq }) => seq as number);
    expect(seqs.filter((seq) => seq >= floor && seq < reply.seq)).toEqual([]);
    expect(seqs, 'below the floor it was in the spill already, above the removal it is another').toHaveLength(1200 - reply.rows);
  });

  test('rows that a replay has not yet seen removed are not evicted for their age', async () => {
    const s = await stage();
    const first = await s.start();
    const ticks = 700; // more than one pull
    for (let tick = 0; tick < ticks; tick++) await s.publish(batch({ tick, units: ['api', 'db'] }));
    await eventually(async () => expect((await s.info()).head).toBe(ticks + 1));
    await s.client.remove(API);
    await first.stop();
    await s.start({ retention_minutes: 0 });
    await eventually(async () => expect(await s.info()).toMatchObject({ head: ticks + 2, rows: 0, floor: ticks + 2 }));
    const rows = await s.evictedRows();
    expect(rows).toHaveLength(ticks);
    expect(new Set(rows.map(({ unit }) => unit))).toEqual(new Set(['db']));
  });

  test('without a spill, removed rows are not counted as dropped', async () => {
    const s = await stage({ SPILLWAY_MAX_MEMORY_BYTES: '131072', SPILLWAY_SPILLOVER_PATH: '' });
    await s.start();
    for (let tick = 0; tick < 100; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).head).toBe(101));
    await s.client.remove(GONE);
    for (let tick = 100; tick < 500; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).head).toBe(502));
    const info = await s.info();
    expect(info.floor).toBeGreaterThan(101);
    expectCustody(info);
  });

  test('a follower forgets it as well', async () => {
    const s = await stage({ SPILLWAY_MAX_MEMORY_BYTES: '131072' });
    await s.start();
    let tick = 0;
    while (tick < 300) await s.publish(busy(tick++));
    await eventually(async () => expect((await s.info()).head).toBe(301));
    // It has other blocks than the first, so that one of them is refused when both evict.
    await s.start();
    const infos = async () => (await s.client.stores()).map(({ info }) => info);
    await eventually(async () => {
      for (let i = 0; i < 50; i++) await s.publish(busy(tick++));
      expect((await infos()).map(({ role }) => role).sort()).toEqual(['follower', 'writer']);
    });
    // A follower that waits for the other's floor has not read it yet; it is in the log all the same.
    await s.client.remove(GONE).catch((error: unknown) => expect(error).toMatchObject({ code: 'unavailable' }));
    const head = (await s.lastSeq()) + 1;
    await eventually(
      async () => {
        const found = await infos();
        expect(found.map((info) => `${info.head} ${info.series}`)).toEqual(Array(2).fill(`${head} ${names.length - 1}`));
        for (const { counters } of found) expect(counters).toMatchObject({ removed_series: 1 });
      },
      { withinMs: 20_000 },
    );
  }, 60_000);

  test('an event that is no removal is refused, published with its reason, and an empty place', async () => {
    const s = await stage();
    await s.start();
    await s.publish(batch({ tick: 0 }));
    const reasons: string[] = [];
    s.link.nc.subscribe(s.link.subjects.rejected, {
      callback: (_, message) => reasons.push(message.headers?.get('Spillway-Reason') ?? ''),
    });
    await s.link.nc.flush();
    const good = { v: 1, ...API };
    const bad: [reason: string, event: string, payload: string][] = [
      ['bad_event', 'forget', JSON.stringify(good)],
      ['not_json', 'remove', 'api'],
      ['not_json', 'remove', '["api"]'],
      ['wrong_version', 'remove', JSON.stringify({ ...good, v: 2 })],
      ['forbidden_key', 'remove', '{"v":1,"host":"h1","unit":"api","__proto__":{}}'],
      ['bad_value', 'remove', JSON.stringify({ v: 1, host: 'h1' })],
      ['bad_value', 'remove', JSON.stringify({ ...good, unit: ['api'] })],
      ['bad_name', 'remove', JSON.stringify({ ...good, unit: '' })],
      ['host_mismatch', 'remove', JSON.stringify({ ...good, host: 'h2' })],
      ['too_large', 'remove', JSON.stringify({ ...good, unit: 'a'.repeat(600_000) })],
    ];
    for (const [, event, payload] of bad) await s.publishEvent(event, payload);
    await s.publish(batch({ tick: 1 }));
    await eventually(async () => expect(await s.info()).toMatchObject({ head: bad.length + 3, rows: 2 }));
    await eventually(() => expect(reasons).toEqual(bad.map(([reason]) => reason)));
    expect((await s.info()).counters).toMatchObject({ rejected_messages: bad.length, removed_rows: 0, removed_series: 0 });
    await s.publishEvent('remove', JSON.stringify(good));
    await eventually(async () => expect(await s.info()).toMatchObject({ rows: 0, counters: { removed_rows: 2 } }));
    await s.publishEvent('remove', JSON.stringify(good));
    await eventually(async () => expect((await s.info()).head).toBe(bad.length + 5));
    expect((await s.info()).counters, 'there was nothing left').toMatchObject({ removed_rows: 2, removed_series: 1 });
  });

  test('a store that cannot read on says so, and forgets when it can', async () => {
    const s = await stage({ SPILLWAY_MAX_MEMORY_BYTES: '131072', SPILLWAY_EVICTED_MAX_BYTES: '400000' });
    await s.start();
    for (let tick = 0; tick < 700; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).health.problems.join()).toMatch(/EVICTED_0 is full/));
    await expect(s.client.remove(GONE)).rejects.toMatchObject({ code: 'unavailable', message: expect.stringMatching(/at position 701/) });
    expect((await s.info()).counters['removed_series']).toBe(0);
    const evicted = s.link.subjects.evictedStream(0);
    await eventually(
      async () => {
        // As a spillover does: everything but the last message goes.
        const { state } = await s.link.jsm.streams.info(evicted);
        await s.link.jsm.streams.purge(evicted, { seq: state.last_seq });
        expect(await s.info()).toMatchObject({ head: 702, series: names.length - 1, counters: { removed_series: 1 } });
      },
      { withinMs: 20_000, everyMs: 200 },
    );
  }, 60_000);

  test('a full log does not take it, and nothing is removed', async () => {
    const s = await stage();
    await s.start();
    await s.publish(batch({ tick: 0 }));
    await eventually(async () => expect((await s.info()).rows).toBe(1));
    await s.link.jsm.streams.update(s.link.subjects.samplesStream(0), { max_msgs: 1 });
    await expect(s.client.remove(API)).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(/is full: nothing was removed/),
    });
    expect(await s.info()).toMatchObject({ rows: 1, head: 2 });
  });

  test('one that is not answered is sent again under its id, and is in the log once', async () => {
    const own = await startNatsServer();
    cleanups.push(() => own.stop());
    const link = await connectTest(testConfig({ SPILLWAY_NATS_SERVERS: own.url }));
    cleanups.push(() => link.close());
    const stream = link.subjects.samplesStream(0);
    await link.jsm.streams.add({ name: stream, subjects: [link.subjects.samplesOfShard(0)] });
    const removals = new Removals({ link, shard: 0, logger: silent, stopping: new AbortController().signal });
    own.pause();
    const refused = removals.request(API).catch((error: unknown) => error);
    expect(await refused).toBeInstanceOf(QueryError);
    own.resume();
    await eventually(() => link.js.publish(link.subjects.samples(0, 'h1'), 'behind it', { msgID: 'x' }));
    const { state } = await link.jsm.streams.info(stream);
    expect(state.messages).toBe(2);
    expect((await link.jsm.streams.getMessage(stream, { seq: 1 })).json()).toEqual({ v: 1, ...API });
  });
});
