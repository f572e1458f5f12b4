import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { EXTRA_METRIC_NAMES, METRIC_NAMES } from '#shared/contract/metrics';
import type { Sample } from '#shared/contract/row';
import { unitHash } from '#shared/contract/series';
import type { NatsLink } from '#shared/nats/connection';
import { ensureShard } from '#shared/nats/topology';
import type { Config } from '#shared/runtime/config';
import type { RunningService } from '#shared/runtime/service';
import { startCollector } from '../../services/collector/main.ts';
import { collectorInfoOf, storedBatches } from '../support/collected.ts';
import { eventually } from '../support/eventually.ts';
import { connectTest, silent, testConfig } from '../support/link.ts';
import { startNatsServer, type TestServer } from '../support/nats-server.ts';
import { endProcess, endProcesses, startProcess } from '../support/test-processes.ts';

let server: TestServer;
const running: RunningService[] = [];
const links: NatsLink[] = [];
beforeAll(async () => {
  server = await startNatsServer();
});
afterEach(async () => {
  for (const service of running.splice(0)) await service.stop();
  for (const link of links.splice(0)) await link.close();
  await endProcesses();
});
afterAll(() => server.stop());

async function start(units: Config['units'], env: Record<string, string> = {}, options: { stream?: boolean } = {}) {
  const config = { ...testConfig({ SPILLWAY_NATS_SERVERS: server.url, SPILLWAY_SAMPLE_INTERVAL_SECS: '0.1', ...env }), units };
  const link = await connectTest(config);
  links.push(link);
  if (options.stream !== false) await ensureShard(link.jsm, link.subjects, config.nats, 0);
  const messages: { subject: string; data: unknown }[] = [];
  for (const filter of [link.subjects.liveFilter(), link.subjects.lifecycleFilter()]) {
    link.nc.subscribe(filter, { callback: (_error, message) => messages.push({ subject: message.subject, data: message.json() }) });
  }
  await link.nc.flush();
  const collector = await startCollector({ config, logger: silent, stopping: new AbortController().signal });
  running.push(collector);
  const { host } = config;
  return { config, link, collector, messages, info: () => collectorInfoOf(link, host), stored: () => storedBatches(link, host) };
}

describe('collector', () => {
  test('each tick is one batch in the stream, under its id, at a multiple of the interval', async () => {
    const child = startProcess('sleep', ['1000']);
    const { stored } = await start({
      me: { self: true, tree: false },
      child: { pid: child.pid, tree: true },
      'no one': { pid: 4_194_303, tree: true },
    });
    const batches = await eventually(async () => {
      const now = await stored();
      expect(now.length).toBeGreaterThanOrEqual(5);
      expect(now.at(-1)?.batch.late, 'only what was read before there was a connection').toBe(false);
      return now.toSorted((a, b) => a.batch.tick - b.batch.tick);
    });
    const boot = batches[0]?.batch.boot;
    expect(boot).toMatch(/^[0-9a-f]{16}$/);
    for (const [i, { id, batch }] of batches.entries()) {
      expect(id).toBe(`h1:${boot}:${i + 1}`);
      expect(batch).toMatchObject({
        boot,
        tick: i + 1,
        interval_ms: 100,
        unit: ['me', 'child', 'no one'],
        state: ['running', 'running', 'missing'],
      });
      expect(batch.pid).toEqual([process.pid, child.pid, null]);
      expect(batch.cpu_percent?.map((value) => value === null)).toEqual([i === 0, i === 0, true]);
      for (const name of METRIC_NAMES) expect(batch[name]?.[2], name).toBeNull();
    }
  });

  test('what it costs itself is a unit without being asked', async () => {
    const child = startProcess('sleep', ['1000']);
    const { stored, info } = await start({ child: { pid: child.pid, tree: true } }, { SPILLWAY_OWN_UNIT: 'yes' });
    await eventually(async () => {
      const newest = (await stored()).at(-1)?.batch;
      expect(newest).toMatchObject({ unit: ['child', 'spillway-collector'], pid: [child.pid, process.pid] });
      expect(newest?.cpu_percent?.[1]).toBeGreaterThan(0);
      expect(newest?.rss_bytes?.[1]).toBeGreaterThan(1 << 20);
    });
    expect((await info()).units).toBe(2);
  });

  test('live samples and lifecycle events follow a unit that stops and starts', async () => {
    const first = startProcess('sleep', ['1000']);
    const token = `spillway-live-${process.pid}`;
    const { messages, link } = await start({ 'a.b': { pid: first.pid, tree: true }, m: { match: `^sh -c : ${token}`, tree: true } });
    const live = link.subjects.live('h1', 'a.b');
    const sample = await eventually(() => {
      const found = messages.find((message) => message.subject === live);
      expect(found).toBeDefined();
      return found?.data as Sample;
    });
    expect(Object.keys(sample)).toEqual(['host', 'unit', 'unit_hash', 'timestamp', 'ts', 'state', 'pid', 'started', ...METRIC_NAMES]);
    expect(sample).toMatchObject({ host: 'h1', unit: 'a.b', unit_hash: unitHash('h1', 'a.b'), state: 'running', pid: first.pid });
    expect(new Date(sample.ts).toISOString()).toBe(sample.timestamp);
    await endProcess(first);
    const second = startProcess('sh', ['-c', `: ${token}; sleep 1000; :`]);
    const eventsOf = (unit: string) =>
      messages
        .filter((message) => message.subject === link.subjects.lifecycle('h1', unit))
        .map(({ data }) => data as { event: string; pid: number });
    await eventually(() => {
      expect(eventsOf('a.b').map(({ event, pid }) => [event, pid])).toEqual([
        ['started', first.pid],
        ['stopped', first.pid],
      ]);
      expect(eventsOf('m').map(({ event, pid }) => [event, pid])).toEqual([
        ['missing', null],
        ['started', second.pid],
      ]);
    });
  });

  test('live_subjects: false sends no live samples, lifecycle events all the same', async () => {
    const { messages, stored } = await start({ me: { self: true, tree: true } }, { SPILLWAY_LIVE_SUBJECTS: 'false' });
    await eventually(async () => expect((await stored()).length).toBeGreaterThan(2));
    expect(messages.map((message) => (message.data as { event?: string }).event)).toEqual(['started']);
  });

  test('info accounts for every row and says what is wrong', async () => {
    const { info, config } = await start({ me: { self: true, tree: true }, gone: { pid: 4_194_303, tree: true } });
    const now = await eventually(async () => {
      const one = await info();
      expect(one.counters['ticks']).toBeGreaterThan(3);
      return one;
    });
    const { counters } = now;
    expect(now).toMatchObject({ host: config.host, units: 2, health: { ready: true } });
    expect(now.health.problems, 'a unit without a process is no problem of the collector').toEqual([]);
    expect(counters['units_missing']).toBe(1);
    expect(counters['sampled_rows']).toBe(
      (counters['accepted_rows'] ?? 0) +
        (counters['outbox_rows'] ?? 0) +
        (counters['dropped_outbox_full_rows'] ?? 0) +
        (counters['dropped_refused_rows'] ?? 0),
    );
    expect(counters['tick_cpu_us_last']).toBeGreaterThan(0);
    expect(counters['processes']).toBeGreaterThanOrEqual(1);
  });

  test('a host with a hostile name is still one host', async () => {
    const { info, stored } = await start({ me: { self: true, tree: true } }, { SPILLWAY_HOST: 'web 1.*>' });
    await eventually(async () =>
      expect((await stored())[0]).toMatchObject({ id: expect.stringMatching(/^web=201=2E=2A=3E:/), batch: { host: 'web 1.*>' } }),
    );
    expect((await info()).host).toBe('web 1.*>');
  });

  test('without units it publishes nothing and says so', async () => {
    const { info, stored } = await start({});
    const now = await eventually(async () => {
      const one = await info();
      expect(one.counters['ticks']).toBeGreaterThan(2);
      return one;
    });
    expect(now.health).toEqual({ ready: true, problems: ['no units are configured: add some under units in spillway.yaml'] });
    expect(await stored()).toEqual([]);
  });

  test('the first to start makes the stream it needs', async () => {
    const { stored } = await start({ me: { self: true, tree: true } }, {}, { stream: false });
    await eventually(async () => expect((await stored()).length).toBeGreaterThan(1));
    const ticks = (await stored()).map(({ batch }) => batch.tick).toSorted((a, b) => a - b);
    expect(ticks, 'what was read meanwhile is there').toEqual(ticks.map((_, i) => i + 1));
  });

  test('a stream that goes away: batches wait in the outbox and arrive when it is back', async () => {
    const { info, stored, link, config } = await start({ me: { self: true, tree: true } });
    await eventually(async () => expect((await stored()).length).toBeGreaterThan(1));
    const before = (await stored()).length;
    await link.jsm.streams.delete(link.subjects.samplesStream(0));
    await eventually(async () => {
      const { health, counters } = await info();
      expect(health.ready).toBe(false);
      expect(health.problems.join()).toMatch(/there is no stream/);
      expect(counters['outbox_rows']).toBeGreaterThan(8);
      expect(counters['publish_failures'], 'not a storm').toBeLessThan(40);
    });
    await ensureShard(link.jsm, link.subjects, config.nats, 0);
    await eventually(async () => {
      expect((await info()).health).toEqual({ ready: true, problems: [] });
      expect((await info()).counters['outbox_rows']).toBeLessThanOrEqual(1);
    });
    const ticks = (await stored()).map(({ batch }) => batch.tick).toSorted((a, b) => a - b);
    const first = ticks[0] as number;
    expect(first, 'nothing of the new stream was in the old one').toBeGreaterThan(before);
    expect(ticks).toEqual(ticks.map((_, i) => first + i));
  });

  test('a full stream keeps batches in the outbox, and when that is full the oldest are dropped and counted', async () => {
    const { info, stored, link } = await start(
      Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`unit-with-a-long-name-${i}`, { self: true as const, tree: false }])),
      { SPILLWAY_SAMPLES_MAX_BYTES: '100000', SPILLWAY_OUTBOX_MAX_BYTES: '65536' },
    );
    const full = await eventually(async () => {
      const now = await info();
      expect(now.health.problems.join()).toMatch(/is full/);
      expect(now.counters['dropped_outbox_full_rows']).toBeGreaterThan(0);
      return now;
    });
    expect(full.health.ready).toBe(false);
    expect(full.counters['outbox_bytes']).toBeLessThanOrEqual(65_536);
    await link.jsm.streams.purge(link.subjects.samplesStream(0));
    const { counters } = await eventually(async () => {
      const now = await info();
      expect(now.health.ready).toBe(true);
      return now;
    });
    const { sampled_rows, accepted_rows, outbox_rows, dropped_outbox_full_rows } = counters as Record<string, number>;
    expect(sampled_rows).toBe((accepted_rows ?? 0) + (outbox_rows ?? 0) + (dropped_outbox_full_rows ?? 0));
    expect((await stored()).length).toBeGreaterThan(0);
  });

  test('a tick too large for one message is split, and every unit is in exactly one part', async () => {
    const units = Object.fromEntries(Array.from({ length: 9000 }, (_, i) => [`unit-${i}`, { self: true as const, tree: false }]));
    const { stored } = await start(units, { SPILLWAY_SAMPLE_INTERVAL_SECS: '1', SPILLWAY_LIVE_SUBJECTS: 'false' });
    const parts = await eventually(async () => {
      const first = (await stored()).filter(({ batch }) => batch.tick === 1);
      expect(first.length).toBe(first[0]?.batch.parts);
      return first;
    });
    expect(parts.length).toBeGreaterThan(1);
    expect(parts.map(({ id, batch }) => id === `h1:${batch.boot}:1:${batch.part}`)).toEqual(parts.map(() => true));
    expect(parts.toSorted((a, b) => (a.batch.part ?? 0) - (b.batch.part ?? 0)).flatMap(({ batch }) => batch.unit)).toEqual(
      Object.keys(units),
    );
  });

  test('extra metrics are in its batches and live samples where they are asked for', async () => {
    const child = startProcess('sleep', ['1000']);
    const units = { child: { pid: child.pid, tree: true }, 'no one': { pid: 4_194_303, tree: true } };
    const { stored, messages, link } = await start(units, { SPILLWAY_METRICS_EXTRA: 'open_fds,cpu_user_percent' });
    const batches = await eventually(async () => {
      const now = await stored();
      expect(now.length).toBeGreaterThanOrEqual(3);
      return now.map(({ batch }) => batch);
    });
    for (const batch of batches) {
      expect(EXTRA_METRIC_NAMES.filter((name) => name in batch)).toEqual(['cpu_user_percent', 'open_fds']);
      expect(batch.open_fds).toEqual([expect.any(Number), null]);
      expect(batch.cpu_user_percent).toEqual(batch.tick === 1 ? [null, null] : [expect.any(Number), null]);
    }
    const live = messages.findLast(({ subject }) => subject === link.subjects.live('h1', 'child'))?.data as Sample;
    expect(live.open_fds).toBe(batches[0]?.open_fds?.[0]);
    const missing = messages.findLast(({ subject }) => subject === link.subjects.live('h1', 'no one'))?.data as Sample;
    expect(missing).not.toHaveProperty('open_fds');
  });

  test('peaks are found between two ticks: a burst is more than the average of its interval', async () => {
    const burst =
      'for (;;) { const end = Date.now() + 150; while (Date.now() < end); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 850); }';
    const child = startProcess(process.execPath, ['-e', burst]);
    const { stored } = await start({ child: { pid: child.pid, tree: true } }, { SPILLWAY_PEAK: 'yes', SPILLWAY_SAMPLE_INTERVAL_SECS: '1' });
    await eventually(
      async () => {
        const batches = (await stored()).map(({ batch }) => batch).filter(({ cpu_percent }) => cpu_percent?.[0] !== null);
        for (const { cpu_percent, cpu_percent_max, rss_bytes, rss_bytes_max } of batches) {
          expect(cpu_percent_max?.[0]).toBeGreaterThanOrEqual(cpu_percent?.[0] ?? Number.NaN);
          expect(rss_bytes_max?.[0]).toBeGreaterThanOrEqual(rss_bytes?.[0] ?? Number.NaN);
        }
        const bursts = batches.filter(
          (one) => (one.cpu_percent?.[0] ?? 0) > 5 && (one.cpu_percent_max?.[0] ?? 0) > 2 * (one.cpu_percent?.[0] ?? 0),
        );
        expect(bursts.length).toBeGreaterThan(0);
      },
      { withinMs: 20_000 },
    );
  });

  test('being stopped, it hands over what it has and leaves nobody behind', async () => {
    const { info, stored, collector } = await start({ me: { self: true, tree: true } });
    await eventually(async () => expect((await info()).counters['accepted_rows']).toBeGreaterThan(2));
    running.splice(running.indexOf(collector), 1);
    await collector.stop();
    await collector.done;
    const batches = await stored();
    await expect(info()).rejects.toThrow(/503/);
    expect(batches.map(({ batch }) => batch.tick)).toEqual(batches.map((_, i) => i + 1));
  });
});
