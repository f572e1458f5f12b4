// The store service against a real nats-server: what goes into the log comes out of window and EVICTED, each row once.

import { cp, rm } from 'node:fs/promises';
import { headers } from 'nats';
import { describe, expect, test } from 'vitest';
import { type Batch, encodeBatch } from '#shared/contract/batch';
import { checkEvictionBody, EVICTION_HEADERS, evictionHeaders, parseEvictionHead } from '#shared/contract/eviction';
import type { StoreInfo, Summary, UnitsReply } from '#shared/contract/queries';
import { parseRow, type Row, type Sample } from '#shared/contract/row';
import type { NatsLink } from '#shared/nats/connection';
import { isNoSuchMessage } from '#shared/nats/errors';
import { purgeBelow } from '#shared/nats/purge';
import { ensureShard } from '#shared/nats/topology';
import type { Config } from '#shared/runtime/config';
import type { RunningService } from '#shared/runtime/service';
import { EvictedLog } from '../../services/store/evicted-log.ts';
import { startStore } from '../../services/store/main.ts';
import { batch, EPOCH_MS, unpackable } from '../support/batches.ts';
import { eventually } from '../support/eventually.ts';
import { connectTest, silent, testConfig } from '../support/link.ts';
import { startNatsServer } from '../support/nats-server.ts';
import { sharedServer } from '../support/shared-server.ts';

const server = sharedServer();
const { cleanups } = server;

interface Stage {
  readonly config: Config;
  readonly link: NatsLink;
  start(): Promise<RunningService>;
  publish(one: Batch): Promise<number>;
  query<T>(name: string, request?: unknown): Promise<T>;
  info(): Promise<StoreInfo>;
  /** All rows of EVICTED, with the chain of its events checked. */
  evictedRows(): Promise<Row[]>;
}

async function stage(env: Record<string, string> = {}, url = server.url): Promise<Stage> {
  const config = testConfig({ SPILLWAY_NATS_SERVERS: url, SPILLWAY_SPILLOVER_PATH: '/tmp/never-written-by-a-store', ...env });
  const link = await connectTest(config);
  cleanups.push(() => link.close());
  const { subjects } = link;
  const query = async <T>(name: string, request: unknown = {}): Promise<T> => {
    const reply = await link.nc.request(`${subjects.query(0)}.${name}`, JSON.stringify(request), { timeout: 5_000 });
    const error = reply.headers?.get('Nats-Service-Error');
    if (error) throw new Error(`${reply.headers?.get('Nats-Service-Error-Code')} ${error}`);
    return reply.json<T>();
  };
  return {
    config,
    link,
    query,
    start: async () => {
      const service = await startStore({ config, logger: silent, stopping: new AbortController().signal });
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
    info: () => query<StoreInfo>('info'),
    evictedRows: async () => {
      const stream = subjects.evictedStream(0);
      const { state } = await link.jsm.streams.info(stream);
      const rows: Row[] = [];
      let previousTo: number | null = null;
      for (let seq = state.first_seq; seq <= state.last_seq; seq++) {
        const message = await link.jsm.streams.getMessage(stream, { seq }).catch((error: unknown) => {
          if (isNoSuchMessage(error)) return null;
          throw error;
        });
        if (message === null) continue;
        const head = parseEvictionHead((name) => message.header.get(name));
        if (!head.ok) throw new Error(head.detail);
        const event = checkEvictionBody(head.value, message.data);
        if (!event.ok) throw new Error(event.detail);
        if (previousTo !== null) expect(head.value.from).toBe(previousTo);
        previousTo = head.value.to;
        for (const line of Buffer.from(message.data).toString().split('\n').slice(0, -1)) rows.push(parseRow(line) as Row);
      }
      return rows;
    },
  };
}

const key = (row: { host: string; unit: string; seq?: number }): string => `${row.seq} ${row.host} ${row.unit}`;

async function windowRows(s: Stage): Promise<Sample[]> {
  const samples: Sample[] = [];
  let cursor: string | null = null;
  do {
    const reply: { samples: Sample[]; next: string | null } = await s.query('range', { from_ms: 0, to_ms: 8e15, cursor });
    samples.push(...reply.samples);
    cursor = reply.next;
  } while (cursor !== null);
  return samples;
}

/** Every row of EVICTED and of the window, read while none moved from one to the other. */
async function allRows(s: Stage): Promise<(Row | Sample)[]> {
  const { evictedStream, evicted } = s.link.subjects;
  return await eventually(async () => {
    const { floor } = await s.info();
    const rows = [...(await s.evictedRows()), ...(await windowRows(s))];
    const last = await s.link.jsm.streams.getMessage(evictedStream(0), { last_by_subj: evicted(0) });
    expect([(await s.info()).floor, Number(last.header.get('Spillway-To'))]).toEqual([floor, floor]);
    return rows;
  });
}

/** Every row taken is counted where it is; what the events carry is counted by themselves. */
function expectCustody({ custody, rows }: StoreInfo, acceptedRows: number, evictedRows: number): void {
  const { accepted_rows, carried_rows, window_rows } = custody;
  expect({ accepted_rows, carried_rows, window_rows }).toEqual({
    accepted_rows: acceptedRows,
    carried_rows: evictedRows,
    window_rows: rows,
  });
  expect(evictedRows + rows).toBe(acceptedRows);
}

const names = Array.from({ length: 40 }, (_, i) => `unit-${i}`);
const busy = (tick: number, host = 'h1'): Batch =>
  batch({
    tick,
    host,
    units: names,
    metrics: {
      cpu_percent: names.map((_, i) => ((tick * 31 + i * 17) % 10_000) / 100),
      rss_bytes: names.map((_, i) => tick * 4096 * (i + 1)),
      io_read_bytes: names.map((_, i) => tick * 1000 + i),
      net_rx_bytes: names.map((_, i) => unpackable(tick, i)),
    },
  });

describe('store', () => {
  test('answers every query of the contract from its window', async () => {
    const s = await stage();
    await s.start();
    for (const [i, cpu] of [10, 20, 90].entries()) await s.publish(batch({ tick: i, metrics: { cpu_percent: cpu, rss_bytes: 1000 } }));
    await eventually(async () => expect((await s.info()).rows).toBe(3));
    expect(await s.query<Summary>('summary', { host: 'h1', unit: 'api' })).toMatchObject({
      latest_cpu_percent: 90,
      average_cpu_percent: 40,
      max_cpu_percent: 90,
      samples: 3,
    });
    expect(await s.query('summary', { host: 'h1', unit: 'nope' })).toBeNull();
    expect(await s.query('latest', { host: 'h1', unit: 'api', limit: 2 })).toMatchObject({ samples: [{ seq: 2 }, { seq: 3 }], next: null });
    expect(await s.query('latest', { host: 'h1', unit: 'nope', limit: 2 })).toEqual({ samples: [], next: null });
    expect(await s.query('latest', { host: 'h1', unit: 'api', limit: 0 })).toEqual({ samples: [], next: null });
    await expect(s.query('snapshot', { host: 'h1', unit: 'nope' })).rejects.toThrow(/^404 unknown_unit: /);
    await expect(s.query('latest', { host: 'h1' })).rejects.toThrow(/^400 bad_request: unit/);
    expect(await s.query<UnitsReply>('units')).toMatchObject({ units: [{ host: 'h1', unit: 'api', rows: 3 }], next: null });
    expect(await s.query('range', { from_ms: 0, to_ms: EPOCH_MS + 1000 })).toMatchObject({
      samples: [{ seq: 1 }, { seq: 2 }],
      coverage: [{ source: 'window' }],
    });
    const info = await s.info();
    expect(info).toMatchObject({ shard: 0, role: 'writer', floor: 1, head: 4, rows: 3, health: { ready: true, problems: [] } });
    expect(info.bytes.total).toBeGreaterThan(0);
  });

  test('refuses what is not a batch with a reason, publishes it, and takes the next good one', async () => {
    const s = await stage();
    await s.start();
    const refused: { reason: string; subject: string; data: string }[] = [];
    s.link.nc.subscribe(s.link.subjects.rejected, {
      callback: (_, message) =>
        refused.push({
          reason: message.headers?.get('Spillway-Reason') ?? '',
          subject: message.headers?.get('Spillway-Subject') ?? '',
          data: message.string().slice(0, 40),
        }),
    });
    await s.link.nc.flush();
    const good = batch({ tick: 1, metrics: { cpu_percent: 1, rss_bytes: 5 } });
    const json = JSON.stringify(good);
    const bad: [string, string][] = [
      ['not_json', 'hello'],
      ['not_json', '[]'],
      ['not_json', json.replace('"cpu_percent":[1]', '"cpu_percent":[NaN]')],
      ['wrong_version', JSON.stringify({ ...good, v: 2 })],
      ['column_length', JSON.stringify({ ...good, rss_bytes: [1, 2] })],
      ['too_many_units', JSON.stringify({ ...good, unit: Array.from({ length: 50_000 }, (_, i) => `${i}`) })],
      ['too_large', JSON.stringify({ ...good, unit: Array.from({ length: 100_000 }, (_, i) => `${i}`) })],
      ['bad_value', JSON.stringify({ ...good, rss_bytes: [-1] })],
      ['bad_value', JSON.stringify({ ...good, rss_bytes: [1.5] })],
      ['bad_value', json.replace('"rss_bytes":[5]', '"rss_bytes":[1e999]')],
      ['bad_value', JSON.stringify({ ...good, state: ['sleeping'] })],
      ['forbidden_key', json.replace('{', '{"__proto__":{"polluted":1},')],
      ['forbidden_key', json.replace('{', '{"extra":{"__proto__":1},')],
      ['host_mismatch', JSON.stringify({ ...good, host: 'other' })],
      ['duplicate_unit', JSON.stringify(batch({ tick: 1, units: ['a', 'a'] }))],
      ['bad_name', JSON.stringify(batch({ tick: 1, units: [''] }))],
    ];
    for (const [, payload] of bad) await s.link.js.publish(s.link.subjects.samples(0, 'h1'), payload);
    await s.publish(good);
    await eventually(async () => expect((await s.info()).rows).toBe(1));
    const { counters, head } = await s.info();
    expect(head).toBe(bad.length + 2);
    expect(counters['rejected_messages']).toBe(bad.length);
    await eventually(() => expect(refused.map(({ reason }) => reason)).toEqual(bad.map(([reason]) => reason)));
    for (const reason of new Set(bad.map(([one]) => one)))
      expect(counters[`rejected_${reason}`], reason).toBe(bad.filter(([one]) => one === reason).length);
    expect(refused[0]).toMatchObject({ subject: s.link.subjects.samples(0, 'h1'), data: 'hello' });
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  test('a full budget evicts in log order; window and EVICTED hold every row once, and the log is purged below the floor', async () => {
    const s = await stage({ SPILLWAY_MAX_MEMORY_BYTES: '131072' });
    await s.start();
    for (let tick = 0; tick < 600; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).head).toBe(601));
    const rows = await allRows(s);
    const info = await s.info();
    expect(info.bytes.total).toBeLessThanOrEqual(131_072);
    expect(info.floor).toBeGreaterThan(1);
    expect(info.counters['evicted_rows_memory']).toBe((info.floor - 1) * names.length);
    const wanted = Array.from({ length: 600 }, (_, tick) => busy(tick)).flatMap((one, i) =>
      names.map((unit, j) => ({ key: `${i + 1} h1 ${unit}`, cpu: one.cpu_percent?.[j], rss: one.rss_bytes?.[j] })),
    );
    const value = (row: Row | Sample) => ('sample' in row ? row.sample : row);
    const got = rows.map((row) => ({ key: key(row), cpu: value(row as Row).cpu_percent, rss: value(row as Row).rss_bytes }));
    expect(got.sort((a, b) => (a.key < b.key ? -1 : 1))).toEqual(wanted.sort((a, b) => (a.key < b.key ? -1 : 1)));
    // What EVICTED carries stays in the log until it is in a segment; a spillover keeps the last event.
    const firstSeq = async () => (await s.link.jsm.streams.info(s.link.subjects.samplesStream(0))).state.first_seq;
    expect(await firstSeq()).toBe(1);
    const evicted = s.link.subjects.evictedStream(0);
    const { state } = await s.link.jsm.streams.info(evicted);
    await s.link.jsm.streams.purge(evicted, { seq: state.last_seq });
    const last = await s.link.jsm.streams.getMessage(evicted, { seq: state.last_seq });
    await eventually(async () => expect(await firstSeq()).toBe(Number(last.header.get('Spillway-From'))), { withinMs: 15_000 });
  });

  test('what is in transit is known also while EVICTED is being purged', async () => {
    const { link, config } = await stage();
    await ensureShard(link.jsm, link.subjects, config.nats, 0);
    const head = { log: 1, rows: 0, rowsBelow: null, crc32: 0, reason: 'memory', duplicates: [], dropped: 0 } as const;
    const events = Array.from({ length: 300 }, (_, i) => ({ ...head, from: i + 1, to: i + 2, body: new Uint8Array() }));
    const evicted = new EvictedLog(link, 0, 1 << 20, () => undefined);
    await evicted.publish(events, 1);
    const found: (number | null)[] = [];
    let isPurging = true;
    const purging = (async () => {
      for (let seq = 2; seq <= events.length; seq++) await purgeBelow(link.jsm, link.subjects.evictedStream(0), seq);
      isPurging = false;
    })();
    while (isPurging) found.push(await evicted.oldestFrom(1));
    await purging;
    expect(found).not.toContain(null);
    expect(await evicted.oldestFrom(1)).toBe(events.length);
  });

  test('a restarted store has the same window, without a row lost or doubled', async () => {
    const s = await stage({ SPILLWAY_MAX_MEMORY_BYTES: '131072' });
    const first = await s.start();
    for (let tick = 0; tick < 300; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).head).toBe(301));
    await first.stop();
    for (let tick = 300; tick < 400; tick++) await s.publish(busy(tick));
    await s.start();
    await eventually(async () => expect(await s.info()).toMatchObject({ head: 401, health: { ready: true } }));
    const keys = (await allRows(s)).map(key);
    expect(new Set(keys).size).toBe(keys.length);
    expect(keys).toHaveLength(400 * names.length);
  });

  test('a batch sent twice counts once, also when the first has been evicted and the store restarted', async () => {
    const s = await stage({ SPILLWAY_MAX_MEMORY_BYTES: '131072' });
    const first = await s.start();
    await s.publish(busy(0));
    // Without an id the server does not notice.
    await s.link.js.publish(s.link.subjects.samples(0, 'h1'), JSON.stringify(busy(0)));
    await eventually(async () => expect(await s.info()).toMatchObject({ rows: names.length, counters: { duplicate_batches: 1 } }));
    for (let tick = 1; tick < 300; tick++) await s.publish(busy(tick));
    await s.link.js.publish(s.link.subjects.samples(0, 'h1'), JSON.stringify(busy(299)));
    for (let tick = 300; tick < 330; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).head).toBe(333));
    await first.stop();
    await s.start();
    for (let tick = 330; tick < 700; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).head).toBe(703));
    const keys = (await allRows(s)).map((row) => `${'ts' in row ? row.ts : Date.parse(row.sample.timestamp)} ${row.unit}`);
    expect(keys).toHaveLength(700 * names.length);
    expect(new Set(keys).size).toBe(keys.length);
  });

  test('a full EVICTED stream stops eviction and reading, and memory stays within its budget; with room it goes on', async () => {
    const s = await stage({ SPILLWAY_MAX_MEMORY_BYTES: '131072', SPILLWAY_EVICTED_MAX_BYTES: '400000' });
    await s.start();
    for (let tick = 0; tick < 700; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).health.problems.join()).toMatch(/EVICTED_0 is full/));
    const blocked = await s.info();
    expect(blocked.bytes.total).toBeLessThanOrEqual(131_072 + 20_000);
    expect(blocked.head).toBeLessThan(701);
    const before = await s.evictedRows();
    const { state } = await s.link.jsm.streams.info(s.link.subjects.evictedStream(0));
    await s.link.jsm.streams.purge(s.link.subjects.evictedStream(0), { seq: state.last_seq });
    const last = await s.evictedRows();
    const drained = eventually(async () => {
      const info = await s.link.jsm.streams.info(s.link.subjects.evictedStream(0));
      if (info.state.last_seq > state.last_seq) return;
      throw new Error('nothing was evicted yet');
    });
    await drained;
    expect(before.length).toBeGreaterThan(0);
    expect(last.length).toBeGreaterThan(0);
  });

  test('on_spill_blocked: drop loses the oldest rows on purpose, counts each, and goes on reading', async () => {
    const s = await stage({ SPILLWAY_MAX_MEMORY_BYTES: '131072', SPILLWAY_EVICTED_MAX_BYTES: '400000', SPILLWAY_ON_SPILL_BLOCKED: 'drop' });
    const first = await s.start();
    for (let tick = 0; tick < 700; tick++) await s.publish(busy(tick));
    await eventually(async () => expect(await s.info()).toMatchObject({ head: 701, lag: 0 }));
    const info = await s.info();
    expect(info.bytes.total).toBeLessThanOrEqual(131_072);
    const dropped = info.counters['dropped_rows_spill_blocked'] ?? 0;
    expect(dropped).toBeGreaterThan(0);
    const evicted = await s.evictedRows();
    expect(evicted.length + dropped + info.rows, 'every row is somewhere or counted').toBe(700 * names.length);
    await first.stop();
    await s.start();
    await eventually(async () => expect((await s.info()).head).toBe(701));
    expect((await s.info()).floor, 'what was dropped is not read again').toBeGreaterThanOrEqual(info.floor);
  });

  test('a second store on the shard is refused by the server, follows, and takes over when the first is gone', async () => {
    const s = await stage({ SPILLWAY_MAX_MEMORY_BYTES: '131072' });
    const first = await s.start();
    await s.start();
    for (let tick = 0; tick < 500; tick++) await s.publish(busy(tick));
    const infos = async (): Promise<StoreInfo[]> => {
      const found: StoreInfo[] = [];
      for await (const stats of await s.link.nc.services.client().stats('spillway-store')) {
        const info = stats.endpoints?.find((one) => one.name === 'info')?.data as StoreInfo | undefined;
        const prefix = stats.endpoints?.[0]?.subject.split('.')[0];
        if (info !== undefined && prefix === s.link.subjects.prefix) found.push(info);
      }
      return found;
    };
    await eventually(async () => expect((await infos()).map(({ head }) => head)).toEqual([501, 501]), { withinMs: 20_000 });
    await eventually(async () => {
      const carried = (await s.evictedRows()).length;
      expect((await infos()).map(({ custody }) => custody.carried_rows)).toEqual([carried, carried]);
    });
    expect((await infos()).map(({ role }) => role).sort()).toEqual(['follower', 'writer']);
    await first.stop();
    for (let tick = 500; tick < 900; tick++) await s.publish(busy(tick));
    await eventually(
      async () => expect((await infos()).map(({ head, role }) => ({ head, role }))).toEqual([{ head: 901, role: 'writer' }]),
      { withinMs: 20_000 },
    );
    const keys = (await allRows(s)).map(key);
    expect(new Set(keys).size).toBe(keys.length);
    expect(keys).toHaveLength(900 * names.length);
    expectCustody(await s.info(), 900 * names.length, (await s.evictedRows()).length);
  });

  test('survives the killing of nats-server: nothing acknowledged is lost or doubled', async () => {
    const own = await startNatsServer();
    cleanups.push(() => own.stop());
    const s = await stage({ SPILLWAY_MAX_MEMORY_BYTES: '131072' }, own.url);
    await s.start();
    const publish = (tick: number) => eventually(() => s.publish(busy(tick)), { withinMs: 20_000 });
    for (let tick = 0; tick < 300; tick++) {
      if (tick === 150 || tick === 250) {
        await own.kill();
        await own.start();
      }
      await publish(tick);
    }
    await eventually(async () => expect((await s.info()).head).toBe(301), { withinMs: 20_000 });
    const keys = (await allRows(s)).map(key);
    expect(new Set(keys).size).toBe(keys.length);
    expect(keys).toHaveLength(300 * names.length);
    expectCustody(await s.info(), 300 * names.length, (await s.evictedRows()).length);
  }, 60_000);

  test('a small log is eased before it blocks the collectors', async () => {
    const s = await stage({ SPILLWAY_SAMPLES_MAX_BYTES: '300000' });
    await s.start();
    for (let tick = 0; tick < 400; tick++) await eventually(() => s.publish(busy(tick)));
    await eventually(async () => expect((await s.info()).head).toBe(401));
    expect((await s.info()).counters['evicted_rows_log']).toBeGreaterThan(0);
    const keys = (await allRows(s)).map(key);
    expect(new Set(keys).size).toBe(keys.length);
    expect(keys).toHaveLength(400 * names.length);
  }, 60_000);

  test('a log that was deleted and made anew: the rows of the old one go to the spill, the new one is followed', async () => {
    const s = await stage();
    await s.start();
    for (let tick = 0; tick < 20; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).head).toBe(21));
    const before = await s.info();
    await s.link.jsm.streams.delete(s.link.subjects.samplesStream(0));
    await eventually(async () => expect((await s.info()).log).not.toBe(before.log), { withinMs: 15_000 });
    await eventually(() => s.publish(busy(20)));
    await eventually(async () => {
      const now = await s.info();
      expect(now, JSON.stringify(now)).toMatchObject({ head: 2, rows: names.length });
    });
    const evicted = await s.evictedRows();
    expect(evicted.map(key)).toHaveLength(20 * names.length);
    expectCustody(await s.info(), names.length, 0);
  });

  test('without a spill, evicted rows are dropped and counted, and the floor still survives a restart', async () => {
    const s = await stage({ SPILLWAY_MAX_MEMORY_BYTES: '131072', SPILLWAY_SPILLOVER_PATH: '' });
    const first = await s.start();
    for (let tick = 0; tick < 500; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).head).toBe(501));
    const info = await s.info();
    expect(info.counters['dropped_rows']).toBe((info.floor - 1) * names.length);
    await first.stop();
    await s.start();
    await eventually(async () => expect(await s.info()).toMatchObject({ floor: info.floor, head: 501, rows: info.rows }));
  });

  test('messages that are no eviction events do not stop it, nor its start', async () => {
    const s = await stage({ SPILLWAY_MAX_MEMORY_BYTES: '131072' });
    const first = await s.start();
    for (let tick = 0; tick < 200; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).head).toBe(201));
    await s.link.js.publish(s.link.subjects.evicted(0), 'hello');
    for (let tick = 200; tick < 400; tick++) await s.publish(busy(tick));
    await eventually(async () => expect(await s.info()).toMatchObject({ head: 401, role: 'writer' }), { withinMs: 20_000 });
    await s.link.js.publish(s.link.subjects.evicted(0), 'hello again');
    const { floor } = await s.info();
    await first.stop();
    await s.start();
    await eventually(async () => expect(await s.info()).toMatchObject({ head: 401, floor }));
  });

  test("a stranger's event that lies far back takes nothing back, while the store runs and when it starts", async () => {
    const s = await stage({ SPILLWAY_MAX_MEMORY_BYTES: '131072' });
    const first = await s.start();
    for (let tick = 0; tick < 400; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).floor).toBeGreaterThan(50));
    const { log } = await s.info();
    const head = headers();
    const event = { log, from: 1, to: 2, rows: 0, rowsBelow: null, crc32: 0, reason: 'memory' as const, duplicates: [], dropped: 0 };
    for (const [name, value] of evictionHeaders(event)) head.set(name, value);
    await s.link.js.publish(s.link.subjects.evicted(0), '', { headers: head });
    const purgedTo = async () => (await s.link.jsm.streams.info(s.link.subjects.samplesStream(0))).state.first_seq;
    await s.link.jsm.streams.purge(s.link.subjects.evictedStream(0), { keep: 2 }); // what a spillover does
    await eventually(async () => expect(await purgedTo()).toBeGreaterThan(50), { withinMs: 20_000 });
    const { floor } = await s.info();
    await first.stop();
    await s.start();
    await eventually(async () => expect(await s.info()).toMatchObject({ head: 401, floor, counters: { missing_positions: 0 } }));
  });

  test('an event that names a floor beyond the log is not followed; as the last one at a start it is named, with what to do', async () => {
    const s = await stage({ SPILLWAY_MAX_MEMORY_BYTES: '131072' });
    const first = await s.start();
    for (let tick = 0; tick < 200; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).head).toBe(201));
    const stream = s.link.subjects.evictedStream(0);
    const { log } = await s.info();
    /** As a store would publish it, or without its marks. */
    const forge = (to: number, isMarked: boolean): Promise<number> => {
      const head = headers();
      const event = { log, from: 1, to, rows: 0, rowsBelow: null, crc32: 0, reason: 'memory' as const, duplicates: [], dropped: 0 };
      for (const [name, value] of evictionHeaders(event)) head.set(name, value);
      if (isMarked) head.set(EVICTION_HEADERS.writer, '0123456789abcdef');
      return eventually(async () => {
        const { state } = await s.link.jsm.streams.info(stream);
        const options = isMarked ? { headers: head, expect: { lastSequence: state.last_seq } } : { headers: head };
        return (await s.link.js.publish(s.link.subjects.evicted(0), '', options)).seq;
      });
    };
    await forge(1e9, true);
    await forge(1e9, false);
    for (let tick = 200; tick < 400; tick++) await s.publish(busy(tick));
    await eventually(async () => expect(await s.info()).toMatchObject({ head: 401, role: 'writer' }), { withinMs: 20_000 });
    const { floor } = await s.info();
    // At a start, one that no store has published is stepped over.
    await forge(1e9, false);
    await first.stop();
    const second = await s.start();
    await eventually(async () => expect(await s.info()).toMatchObject({ head: 401, floor }));
    await second.stop();
    const sequence = await forge(1e9, true);
    await expect(s.start()).rejects.toThrow(
      new RegExp(`has gone back: it ends at 400, but message ${sequence} of ${stream} says.*nats stream rmm ${stream} ${sequence}`),
    );
    await s.link.jsm.streams.deleteMessage(stream, sequence);
    await s.start();
    await eventually(async () => expect(await s.info()).toMatchObject({ head: 401, floor }));
  });

  test('the log is not purged when what was acknowledged is not in EVICTED: the store ends, and a new one evicts it again', async () => {
    const s = await stage({ SPILLWAY_MAX_MEMORY_BYTES: '131072' });
    const first = await s.start();
    for (let tick = 0; tick < 300; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).head).toBe(301));
    const before = await s.evictedRows();
    const stream = s.link.subjects.evictedStream(0);
    const { state } = await s.link.jsm.streams.info(stream);
    expect(state.messages).toBeGreaterThan(2);
    const { header } = await s.link.jsm.streams.getMessage(stream, { seq: state.last_seq - 1 });
    const kept = Number(header.get('Spillway-To'));
    await s.link.jsm.streams.deleteMessage(stream, state.last_seq);
    await purgeBelow(s.link.jsm, stream, state.last_seq - 1); // as the spillover does, so that the store purges
    await expect(first.done).rejects.toThrow(/ends at position \d+, but evictions up to \d+ were acknowledged/);
    await first.stop();
    await s.start();
    await eventually(async () => expect((await s.info()).head).toBe(301));
    const spilled = before.filter(({ seq }) => seq < kept).map(key);
    const after = [...(await s.evictedRows()), ...(await windowRows(s))].map(key);
    expect(new Set([...spilled, ...after]).size).toBe(300 * names.length);
  });

  test('a log that goes back ends the process instead of being read wrongly, and starting again reads what there is', async () => {
    const own = await startNatsServer();
    cleanups.push(() => own.stop());
    const s = await stage({}, own.url);
    const service = await s.start();
    for (let tick = 0; tick < 10; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).head).toBe(11));
    const backup = `${own.directory}-backup`;
    cleanups.push(() => rm(backup, { recursive: true, force: true }));
    await own.kill();
    await cp(own.directory, backup, { recursive: true });
    await own.start();
    for (let tick = 10; tick < 20; tick++) await eventually(() => s.publish(busy(tick)), { withinMs: 20_000 });
    await eventually(async () => expect((await s.info()).head).toBe(21), { withinMs: 20_000 });
    await own.kill();
    await rm(own.directory, { recursive: true });
    await cp(backup, own.directory, { recursive: true });
    await own.start();
    await expect(service.done).rejects.toThrow(/has gone back: it ends at 10/);
    await service.stop();
    await eventually(() => s.publish(busy(30)), { withinMs: 20_000 });
    await s.start();
    await eventually(async () => expect(await s.info()).toMatchObject({ head: 12, rows: 11 * names.length }), { withinMs: 20_000 });
  }, 60_000);

  test('small streams do not block: events and eviction fit them', async () => {
    const s = await stage({ SPILLWAY_SAMPLES_MAX_BYTES: '60000', SPILLWAY_EVICTED_MAX_BYTES: '100000' });
    await s.start();
    const stream = s.link.subjects.evictedStream(0);
    // As a spillover does: everything but the last message goes.
    const purging = setInterval(async () => {
      const { state } = await s.link.jsm.streams.info(stream);
      if (state.messages > 1) await s.link.jsm.streams.purge(stream, { seq: state.last_seq });
    }, 50);
    cleanups.push(async () => clearInterval(purging));
    for (let tick = 0; tick < 60; tick++) await eventually(() => s.publish(busy(tick)), { withinMs: 20_000, everyMs: 100 });
    clearInterval(purging);
    await eventually(async () => expect((await s.info()).head).toBe(61));
  }, 60_000);

  test('until the log has been read again, queries are refused and it is not ready', async () => {
    const s = await stage();
    const first = await s.start();
    for (let tick = 0; tick < 300; tick++) await s.publish(busy(tick));
    await eventually(async () => expect((await s.info()).head).toBe(301));
    await first.stop();
    await s.start();
    const refused = await s.query('snapshot', { host: 'h1', unit: 'unit-1' }).then(
      () => null,
      (error: unknown) => `${error}`,
    );
    if (refused !== null) expect(refused).toMatch(/503 unavailable: shard 0 is reading its log/);
    await eventually(async () => {
      const { samples } = await s.query<{ samples: Sample[] }>('snapshot', { host: 'h1', unit: 'unit-1' });
      expect(samples).toHaveLength(300);
      expect((await s.info()).health.ready).toBe(true);
    });
  });
});
