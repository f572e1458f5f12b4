// The spillover as a service: a real nats-server, real files. Rows go into the EVICTED stream; what comes out is counted.

import { appendFileSync, readdirSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { headers } from 'nats';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { EVICTION_HEADERS, type EvictionHead, evictionHeaders } from '#shared/contract/eviction';
import type { RangeReply, RangeRequest, SegmentsReply, SpilloverInfo } from '#shared/contract/queries';
import { formatRow, rowPrefix, type Sample } from '#shared/contract/row';
import type { NatsLink } from '#shared/nats/connection';
import { ensureShard, logIdentity } from '#shared/nats/topology';
import type { Config } from '#shared/runtime/config';
import { type RunningService, SetupError } from '#shared/runtime/service';
import { type Disk, type DiskFile, realDisk } from '#shared/segments/disk';
import { DiskFailedError } from '#shared/segments/segment-errors';
import { startSpillover } from '../../services/spillover/main.ts';
import { SpillShard } from '../../services/spillover/spill-shard.ts';
import { RawClient } from '../fuzz/raw-client.ts';
import { eventually } from '../support/eventually.ts';
import { connectTest, silent, testConfig } from '../support/link.ts';
import { startNatsServer, type TestServer } from '../support/nats-server.ts';
import { linesOnDisk, removeDirectory, temporaryDirectory } from '../support/segment-disk.ts';

const START_MS = Date.parse('2026-11-20T22:40:00.000Z');

let server: TestServer;
let directory: string;
let config: Config;
let link: NatsLink;
let log: number;
let service: RunningService | null = null;

beforeAll(async () => {
  server = await startNatsServer();
});
afterAll(() => server.stop());

beforeEach(async () => {
  directory = temporaryDirectory();
  config = testConfig({
    SPILLWAY_NATS_SERVERS: server.url,
    SPILLWAY_SPILLOVER_PATH: directory,
    SPILLWAY_SPILLOVER_MAX_BYTES: '4000000',
    SPILLWAY_SPILLOVER_SEGMENT_BYTES: '20000',
    SPILLWAY_SAMPLES_MAX_BYTES: '10000000',
    SPILLWAY_EVICTED_MAX_BYTES: '10000000',
  });
  link = await connectTest(config);
  log = logIdentity((await ensureShard(link.jsm, link.subjects, config.nats, 0)).samples);
});
afterEach(async () => {
  await service?.stop();
  service = null;
  await link.close();
  removeDirectory(directory);
});

async function start(disk?: Disk): Promise<void> {
  service = await startSpillover({
    config,
    logger: silent,
    stopping: new AbortController().signal,
    ...(disk === undefined ? {} : { disk }),
  });
}
async function stop(): Promise<void> {
  await service?.stop();
  service = null;
}

const timeOf = (seq: number) => START_MS + seq * 1000;
const rowOf = (seq: number, unit = 'api', host = 'h1') =>
  formatRow(rowPrefix(host, unit), seq, 'running', 812, 5, new Date(timeOf(seq)).toISOString(), [seq, 2, 3, 4, Number.NaN, Number.NaN, 7]);

interface Published {
  readonly from: number;
  readonly to: number;
  readonly lines: readonly string[];
  readonly head?: Partial<EvictionHead>;
  /** Published by somebody who is no store. */
  readonly isStray?: boolean;
}

async function publish({ from, to, lines, head, isStray }: Published): Promise<void> {
  const body = Buffer.from(lines.map((line) => `${line}\n`).join(''));
  const complete = {
    log,
    from,
    to,
    rows: lines.length,
    rowsBelow: null,
    crc32: crc32(body),
    reason: 'memory' as const,
    duplicates: [],
    dropped: 0,
    ...head,
  };
  const messageHeaders = headers();
  for (const [name, value] of evictionHeaders(complete)) messageHeaders.set(name, value);
  if (isStray) {
    await link.js.publish(link.subjects.evicted(0), body, { headers: messageHeaders });
    return;
  }
  messageHeaders.set(EVICTION_HEADERS.writer, '0123456789abcdef');
  const { state } = await link.jsm.streams.info(link.subjects.evictedStream(0));
  await link.js.publish(link.subjects.evicted(0), body, { headers: messageHeaders, expect: { lastSequence: state.last_seq } });
}

/** One event of one row for each position in `[from, to)`. */
async function publishRows(from: number, to: number): Promise<void> {
  for (let seq = from; seq < to; seq++) await publish({ from: seq, to: seq + 1, lines: [rowOf(seq)] });
}

async function ask<T>(name: string, request: object = {}): Promise<T> {
  const message = await link.nc.request(`${link.subjects.spill(0)}.${name}`, JSON.stringify(request), { timeout: 5000 });
  const error = message.headers?.get('Nats-Service-Error');
  if (error) throw new Error(error);
  expect(message.data.length).toBeLessThanOrEqual(512 * 1024);
  return message.json<T>();
}
const info = () => ask<SpilloverInfo>('info');

async function range(request: Omit<RangeRequest, 'cursor'>): Promise<{ samples: Sample[]; pages: number; last: RangeReply }> {
  const samples: Sample[] = [];
  let cursor: string | null = null;
  for (let pages = 1; ; pages++) {
    const reply: RangeReply = await ask<RangeReply>('range', { ...request, cursor });
    samples.push(...(reply.samples ?? []));
    cursor = reply.next;
    if (cursor === null) return { samples, pages, last: reply };
  }
}

const spilled = () => linesOnDisk(join(directory, '0'));
const rowsUpTo = (to: number, from = 1) => Array.from({ length: to - from }, (_, i) => rowOf(from + i));

describe('rows on their way to disk', () => {
  test('are in segments once, in order, and the stream is purged but for the last', async () => {
    await start();
    await publishRows(1, 200);
    await eventually(() => expect(spilled()).toEqual(rowsUpTo(200)));
    await eventually(async () => expect((await info()).position).toEqual({ log, seq: 200 }));
    await eventually(async () =>
      expect((await link.jsm.streams.info(link.subjects.evictedStream(0))).state).toMatchObject({ messages: 1, last_seq: 199 }),
    );
    expect((await info()).counters).toMatchObject({ rows: 199, events: 199, duplicate_rows: 0, holes: 0 });
    expect((await info()).health).toEqual({ ready: true, problems: [] });
  });

  test('make room in the stream as soon as a good part of it has been read', async () => {
    const publishLarge = (seq: number) =>
      publish({ from: seq, to: seq + 1, lines: Array.from({ length: 1_400 }, (_, unit) => rowOf(seq, `unit-${unit}`)) });
    const large = { ...config, metrics: { ...config.metrics, spillover_segment_bytes: 2_000_000 } };
    const stopping = new AbortController().signal;
    const shard = await SpillShard.open({ config: large, link, logger: silent, stopping, disk: realDisk });
    const handledTo = async (seq: number): Promise<void> => {
      while (shard.info().position?.seq !== seq) await shard.take(await shard.pull());
    };
    await publishLarge(1);
    await handledTo(2); // the first upkeep, and for seconds no other by the clock
    for (let seq = 2; seq < 14; seq++) await publishLarge(seq);
    await handledTo(14);
    expect((await link.jsm.streams.info(link.subjects.evictedStream(0))).state.first_seq).toBeGreaterThan(2);
    await shard.close();
  });

  test('are there once after restarts at any moment, also of a store that evicts a batch again', async () => {
    const parts = ['a', 'b', 'c', 'd'].map((unit) => rowOf(4, unit));
    await publishRows(1, 4);
    await publish({ from: 4, to: 4, lines: parts.slice(0, 2) });
    await start();
    await eventually(() => expect(spilled()).toHaveLength(5));
    await stop();
    await publish({ from: 4, to: 4, lines: parts.slice(0, 3) });
    await start();
    await eventually(() => expect(spilled()).toHaveLength(6));
    await stop();
    await publish({ from: 4, to: 5, lines: parts.slice(3) });
    await publish({ from: 5, to: 9, lines: [] });
    await publishRows(9, 12);
    await start();
    await eventually(async () => expect((await info()).position?.seq).toBe(12));
    expect(spilled()).toEqual([...rowsUpTo(4), ...parts, ...rowsUpTo(12, 9)]);
    await stop();
    await start();
    await eventually(async () => expect((await info()).position?.seq).toBe(12));
    expect(spilled()).toHaveLength(10);
    expect((await info()).counters).toMatchObject({ rows: 0, holes: 0 });
  });

  test('survive a killed nats-server', async () => {
    await start();
    await publishRows(1, 50);
    await eventually(() => expect(spilled()).toHaveLength(49));
    await server.kill();
    await server.start();
    await eventually(() => publishRows(50, 51));
    await publishRows(51, 80);
    await eventually(() => expect([...new Set(spilled())]).toEqual(rowsUpTo(80)));
    await eventually(() => expect(spilled()).toEqual(rowsUpTo(80))); // while a segment is sealed, both of its files are there
  });

  test('a new log goes beside the old one', async () => {
    await start();
    await publishRows(1, 4);
    await publish({ from: 1, to: 2, lines: [rowOf(1)], head: { log: log + 7 } });
    await eventually(async () => expect((await info()).position).toEqual({ log: log + 7, seq: 2 }));
    const { segments } = await ask<SegmentsReply>('segments');
    expect(segments.map((segment) => [segment.log, segment.first_seq, segment.last_seq, segment.rows])).toEqual([
      [log, 1, 3, 3],
      [log + 7, 1, 1, 1],
    ]);
    await publish({ from: 4, to: 5, lines: [rowOf(4)] });
    await eventually(async () => expect((await info()).counters['older_log_rows']).toBe(1));
    expect((await info()).health).toMatchObject({ ready: false, problems: [expect.stringMatching(/gone back/)] });
  });

  test('an EVICTED stream that has gone back is read from its beginning, and what the files have is skipped', async () => {
    await start();
    await publishRows(1, 6);
    await eventually(() => expect(spilled()).toHaveLength(5));
    await link.jsm.streams.delete(link.subjects.evictedStream(0));
    // It makes the stream anew, when the deletion is over.
    await eventually(() => publishRows(3, 4));
    await publishRows(4, 8);
    await eventually(() => expect(spilled()).toEqual(rowsUpTo(8)), { withinMs: 20_000 });
    expect((await info()).health.problems).toEqual([]);
  });
});

describe('what goes wrong', () => {
  test('a hole is reported once, with its bounds, and remembered', async () => {
    await start();
    await publishRows(1, 4);
    await publishRows(8, 10);
    await eventually(() => expect(spilled()).toHaveLength(5));
    const request = { from_ms: 0, to_ms: timeOf(100) };
    const expected = [
      { from_ms: timeOf(1), to_ms: timeOf(9), source: 'spill' },
      { from_ms: timeOf(3), to_ms: timeOf(8), source: 'gap' },
    ];
    await eventually(async () => expect((await range(request)).last.coverage).toEqual(expected));
    expect((await info()).counters['holes']).toBe(1);
    expect((await info()).health.problems).toEqual([expect.stringMatching(/positions 4 to 7 never came/)]);
    await stop();
    await start();
    expect((await range(request)).last.coverage).toEqual(expected);
    expect((await info()).counters['holes']).toBe(0);
  });

  test('bad events are counted by reason, published, and skipped', async () => {
    const rejected: string[] = [];
    const subscription = link.nc.subscribe(link.subjects.rejected, {
      callback: (_, message) =>
        void rejected.push(`${message.headers?.get('Spillway-Reason')} ${message.headers?.get('Spillway-Subject')}`),
    });
    await link.nc.flush();
    await start();
    await publishRows(1, 3);
    await publish({ from: 3, to: 4, lines: [rowOf(3)], head: { crc32: 1 } });
    await publish({ from: 3, to: 4, lines: [rowOf(5)] });
    await publish({ from: 3, to: 4, lines: [rowOf(3)], head: { rows: 2 } });
    await link.js.publish(link.subjects.evicted(0), 'nonsense');
    await publishRows(3, 5);
    await eventually(() => expect(spilled()).toEqual(rowsUpTo(5)));
    expect((await info()).counters).toMatchObject({ rejected_messages: 4, rejected_bad_checksum: 1, rejected_bad_event: 3, holes: 0 });
    const subject = link.subjects.evicted(0);
    await eventually(() =>
      expect(rejected).toEqual(['bad_checksum', 'bad_event', 'bad_event', 'bad_event'].map((reason) => `${reason} ${subject}`)),
    );
    subscription.unsubscribe();
  });

  test('what no store has published is believed only where it contradicts nothing', async () => {
    await start();
    await publishRows(1, 3);
    const isStray = true;
    await publish({ from: 3, to: 4, lines: [rowOf(3)], isStray }); // of a log without messages nothing is known
    // With one or two messages in the log it would be beyond its end, until it is read again.
    await eventually(async () => expect((await info()).position).toEqual({ log, seq: 4 }));
    for (let seq = 1; seq < 6; seq++) await link.js.publish(link.subjects.samples(0, 'h1'), 'anything');
    await publish({ from: 4, to: 9, lines: [rowOf(8)], isStray });
    await publish({ from: 4, to: 5, lines: [rowOf(4)], head: { log: log + 1 }, isStray });
    await publish({ from: 4, to: 5, lines: [rowOf(4).replace('"running"', '"dead"')], isStray });
    await publishRows(4, 6);
    await eventually(async () => expect((await info()).position).toEqual({ log, seq: 6 }));
    expect((await info()).counters).toMatchObject({ rejected_bad_event: 3, rejected_messages: 3, rows: 5, holes: 0 });
    expect(linesOnDisk(join(directory, '0'))).toEqual([1, 2, 3, 4, 5].map((seq) => rowOf(seq)));
  });

  test('headers that the client library throws on do not stop it', async () => {
    await start();
    await publishRows(1, 3);
    const raw = await RawClient.open(server.port);
    for (const block of ['NATS/1.0\r\nbad key: x\r\n\r\n', 'NATS/1.0\r\nA: b\nc\r\n\r\n', 'NATS/1.0 503\r\n\r\n'])
      await raw.request(link.subjects.evicted(0), block, Buffer.alloc(0), 5_000);
    raw.close();
    await publishRows(3, 5);
    await eventually(async () => expect((await info()).position).toEqual({ log, seq: 5 }));
    expect((await info()).counters).toMatchObject({ rejected_bad_event: 3, rows: 4 });
  });

  test('a second one waits for the directory, and goes on where the first has ended', async () => {
    await start();
    await publishRows(1, 4);
    await eventually(async () => expect((await info()).position).toEqual({ log, seq: 4 }));
    const first = service as RunningService;
    const waiting: string[] = [];
    const logger = pino({ level: 'error' }, { write: (text: string) => void waiting.push(text) });
    const second = startSpillover({ config, logger, stopping: new AbortController().signal });
    await eventually(() => expect(waiting.join()).toMatch(/is in use by this very process: two would damage what is in it.*Waiting/));
    await publishRows(4, 6);
    await eventually(async () => expect((await info()).position).toEqual({ log, seq: 6 }));
    await first.stop();
    service = await second;
    await publishRows(6, 8);
    await eventually(async () => expect((await info()).position).toEqual({ log, seq: 8 }));
    expect(linesOnDisk(join(directory, '0'))).toEqual([1, 2, 3, 4, 5, 6, 7].map((seq) => rowOf(seq)));
  });

  test('a full disk stops the reading, says so, and goes on by itself', async () => {
    let isFull = false;
    const disk = diskWith((file) => ({
      writev: (buffers, position) => (isFull ? Promise.reject(codeError('ENOSPC')) : file.writev(buffers, position)),
    }));
    await start(disk);
    await publishRows(1, 5);
    await eventually(() => expect(spilled()).toHaveLength(4));
    isFull = true;
    await publishRows(5, 9);
    await eventually(async () =>
      expect((await info()).health).toMatchObject({ ready: false, problems: [expect.stringMatching(/cannot be written \(ENOSPC\)/)] }),
    );
    expect((await info()).position?.seq).toBe(5);
    expect((await range({ from_ms: 0, to_ms: timeOf(100) })).samples).toHaveLength(4);
    isFull = false;
    await eventually(() => expect(spilled()).toEqual(rowsUpTo(9)));
    await eventually(async () => expect((await info()).health).toEqual({ ready: true, problems: [] }));
  });

  test('a failing disk ends the service; started again it has everything', async () => {
    let isFailing = false;
    const disk = diskWith((file) => ({ datasync: () => (isFailing ? Promise.reject(codeError('EIO')) : file.datasync()) }));
    await start(disk);
    await publishRows(1, 5);
    await eventually(() => expect(spilled()).toHaveLength(4));
    isFailing = true;
    await publishRows(5, 6);
    await expect((service as RunningService).done).rejects.toThrow(DiskFailedError);
    await stop();
    await publishRows(6, 9);
    await start();
    await eventually(() => expect(spilled()).toEqual(rowsUpTo(9)));
  });

  test('a segment that somebody deleted is noticed and shown as a gap', async () => {
    await start();
    await publishRows(1, 200);
    await eventually(() => expect(spilled()).toHaveLength(199));
    const { segments } = await eventually(async () => {
      const reply = await ask<SegmentsReply>('segments');
      expect(reply.segments.filter((segment) => segment.sealed).length).toBeGreaterThan(1);
      return reply;
    });
    const [, second] = segments;
    if (second === undefined) throw new Error('one segment only');
    unlinkSync(join(directory, '0', second.name));
    await eventually(async () => expect((await info()).counters).toMatchObject({ lost_segments: 1, lost_rows: second.rows }));
    const { coverage } = (await range({ from_ms: 0, to_ms: timeOf(1000) })).last;
    expect(coverage).toContainEqual({ from_ms: second.from_ms, to_ms: second.to_ms, source: 'gap' });
    expect(coverage.filter((span) => span.source === 'spill')).toHaveLength(2);
  });

  test('damage in a sealed segment costs that segment only', async () => {
    await start();
    await publishRows(1, 200);
    const { segments } = await eventually(async () => {
      const reply = await ask<SegmentsReply>('segments');
      expect(reply.segments.filter((segment) => segment.sealed).length).toBeGreaterThan(1);
      return reply;
    });
    const first = segments[0];
    if (first === undefined) throw new Error('no segment');
    await eventually(() => expect(spilled()).toHaveLength(199));
    await stop();
    const path = join(directory, '0', first.name);
    const size = (await realDisk.stat(path)).size;
    const file = await realDisk.open(path, 'r+');
    await file.writev([Buffer.from([0xff])], size - 8);
    await file.close();
    await start();
    await range({ from_ms: 0, to_ms: timeOf(1000) });
    expect((await range({ from_ms: 0, to_ms: timeOf(1000) })).samples.map((sample) => sample.seq)).toEqual(
      rowsUpTo(200)
        .slice(first.rows)
        .map((_, i) => first.last_seq + 1 + i),
    );
    expect((await info()).health.problems).toEqual([expect.stringMatching(/1 files could not be read/)]);
    expect(readdirSync(join(directory, '0', 'quarantine'))).toEqual([`${first.name}.1`]);
  });

  test('without a path, or with one that cannot be used, it does not start and says why', async () => {
    config = testConfig({ SPILLWAY_NATS_SERVERS: server.url });
    await expect(start()).rejects.toThrow(SetupError);
    writeFileSync(join(directory, 'file'), '');
    config = testConfig({
      SPILLWAY_NATS_SERVERS: server.url,
      SPILLWAY_SPILLOVER_PATH: join(directory, 'file'),
      SPILLWAY_SAMPLES_MAX_BYTES: '1000000',
      SPILLWAY_EVICTED_MAX_BYTES: '1000000',
    });
    await expect(start()).rejects.toThrow(/choose a path where a directory can be made/);
  });

  test('foreign files in its directory stay', async () => {
    await start();
    appendFileSync(join(directory, '0', 'notes.txt'), 'mine');
    await publishRows(1, 100);
    await eventually(() => expect(spilled()).toHaveLength(99));
    await stop();
    expect(readdirSync(join(directory, '0'))).toContain('notes.txt');
    rmSync(join(directory, '0', 'notes.txt'));
  });
});

describe('range', () => {
  /** 40 batches of 60 series on 2 hosts, every fourth one late: its time is that of 20 positions before. */
  async function publishMany(): Promise<Sample[]> {
    const samples: Sample[] = [];
    for (let seq = 1; seq <= 40; seq++) {
      const ts = timeOf(seq % 4 === 0 ? seq - 20 : seq);
      const host = seq % 2 === 0 ? 'h1' : 'h2';
      const lines: string[] = [];
      for (let unit = 0; unit < 60; unit++) {
        const name = `unit-${unit}`;
        lines.push(
          formatRow(rowPrefix(host, name), seq, 'running', 812, 5, new Date(ts).toISOString(), [seq, 2, 3, 4, Number.NaN, Number.NaN, 7]),
        );
        samples.push({ host, unit: name, ts, seq } as Sample);
      }
      await publish({ from: seq, to: seq + 1, lines });
    }
    await eventually(async () => expect((await info()).position?.seq).toBe(41));
    return samples;
  }
  const order = (a: Sample, b: Sample) =>
    a.ts - b.ts ||
    (a.seq ?? 0) - (b.seq ?? 0) ||
    (a.host < b.host ? -1 : a.host > b.host ? 1 : a.unit < b.unit ? -1 : a.unit > b.unit ? 1 : 0);
  const keys = (samples: readonly Sample[]) => samples.map(({ host, unit, ts, seq }) => `${ts} ${seq} ${host} ${unit}`);

  test('pages, filters, order, limits of time and position are those of a naive filter', async () => {
    await start();
    const all = (await publishMany()).sort(order);
    const cases: [Omit<RangeRequest, 'cursor'>, (sample: Sample) => boolean][] = [
      [{ from_ms: 0, to_ms: timeOf(1000) }, () => true],
      [{ from_ms: timeOf(5), to_ms: timeOf(10) }, ({ ts }) => ts >= timeOf(5) && ts <= timeOf(10)],
      [{ from_ms: 0, to_ms: timeOf(1000), host: 'h1' }, ({ host }) => host === 'h1'],
      [{ from_ms: 0, to_ms: timeOf(1000), unit: 'unit-7' }, ({ unit }) => unit === 'unit-7'],
      [{ from_ms: 0, to_ms: timeOf(1000), host: 'h2', unit: 'unit-1' }, ({ host, unit }) => host === 'h2' && unit === 'unit-1'],
      [{ from_ms: 0, to_ms: timeOf(1000), below: { log, seq: 17 } }, ({ seq }) => (seq ?? 0) < 17],
      [{ from_ms: 0, to_ms: timeOf(1000), host: 'nobody' }, () => false],
      [{ from_ms: timeOf(1000), to_ms: timeOf(0) }, () => false],
    ];
    for (const [request, isWanted] of cases) {
      const { samples, pages, last } = await range(request);
      expect(keys(samples), JSON.stringify(request)).toEqual(keys(all.filter(isWanted)));
      expect(pages, JSON.stringify(request)).toBe(samples.length > 1500 ? 2 : 1);
      expect(last.position).toEqual({ log, seq: 41 });
    }
    const { samples } = await range({ from_ms: timeOf(1), to_ms: timeOf(1), unit: 'unit-0' });
    expect(samples).toEqual([
      {
        host: 'h2',
        unit: 'unit-0',
        unit_hash: expect.stringMatching(/^[0-9a-f]{16}$/),
        timestamp: '2026-11-20T22:40:01.000Z',
        ts: timeOf(1),
        seq: 1,
        state: 'running',
        pid: 812,
        started: 5,
        cpu_percent: 1,
        rss_bytes: 2,
        io_read_bytes: 3,
        io_write_bytes: 4,
        net_rx_bytes: null,
        net_tx_bytes: null,
        threads: 7,
      },
    ]);
  });

  test('points come in pages, aggregate every sample, and leave out unknown values', async () => {
    await start();
    const all = await publishMany();
    const points = [];
    let pages = 0;
    for (let cursor: string | null = null; ; ) {
      const reply: RangeReply = await ask<RangeReply>('range', { from_ms: timeOf(-50), to_ms: timeOf(50), max_points: 1000, cursor });
      points.push(...(reply.points ?? []));
      pages++;
      cursor = reply.next;
      if (cursor === null) break;
    }
    expect(pages).toBeGreaterThan(1);
    expect(points.reduce((sum, point) => sum + point.metrics.cpu_percent.count, 0)).toBe(all.length);
    expect(points.every((point) => point.metrics.net_rx_bytes.count === 0 && point.metrics.net_rx_bytes.max === null)).toBe(true);
    const [one] =
      (await ask<RangeReply>('range', { host: 'h2', unit: 'unit-3', from_ms: timeOf(1), to_ms: timeOf(5), max_points: 1 })).points ?? [];
    expect(one).toMatchObject({
      from_ms: timeOf(1),
      to_ms: timeOf(5),
      metrics: { cpu_percent: { min: 1, max: 5, avg: 3, last: 5, count: 3 } },
    });
  });

  test('a cursor that is not ours is refused', async () => {
    await start();
    await publishRows(1, 3);
    for (const cursor of [
      'x',
      Buffer.from('[1]').toString('base64url'),
      Buffer.from('["a",1,"b","c",1]').toString('base64url'),
      ''.padEnd(3000, 'a'),
    ])
      await expect(ask('range', { from_ms: 0, to_ms: 1, cursor })).rejects.toThrow(/bad_(cursor|request)/);
    await expect(ask('segments', { cursor: 'x' })).rejects.toThrow(/bad_cursor/);
    await expect(ask('range', { from_ms: 0, to_ms: 1, max_points: 2, cursor: 'x' })).rejects.toThrow(/bad_cursor/);
  });
});

function diskWith(overrides: (file: DiskFile) => Partial<DiskFile>): Disk {
  return {
    ...realDisk,
    open: async (path, flags) => {
      const file = await realDisk.open(path, flags);
      return {
        read: (...args) => file.read(...args),
        writev: (...args) => file.writev(...args),
        truncate: (length) => file.truncate(length),
        datasync: () => file.datasync(),
        sync: () => file.sync(),
        stat: () => file.stat(),
        close: () => file.close(),
        ...overrides(file),
      };
    },
  };
}

function codeError(code: string): Error {
  return Object.assign(new Error(`${code}: made for the test`), { code });
}
