// Units that change while the collector runs: the configuration that is read again, and what the rules find.

import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Batch } from '#shared/contract/batch';
import type { LifecycleEvent } from '#shared/contract/lifecycle';
import type { NatsLink } from '#shared/nats/connection';
import { ensureShard } from '#shared/nats/topology';
import { loadConfig } from '#shared/runtime/config';
import type { RunningService } from '#shared/runtime/service';
import { startCollector } from '../../services/collector/main.ts';
import { collectorInfoOf, storedBatches } from '../support/collected.ts';
import { eventually } from '../support/eventually.ts';
import { connectTest, silent, testConfig } from '../support/link.ts';
import { startNatsServer, type TestServer } from '../support/nats-server.ts';
import { endProcesses, startProcess } from '../support/test-processes.ts';

let server: TestServer;
let directory: string;
let running: RunningService | null = null;
let link: NatsLink | null = null;
beforeAll(async () => {
  server = await startNatsServer();
});
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'spillway-reload-'));
});
afterEach(async () => {
  await running?.stop();
  await link?.close();
  await endProcesses();
  rmSync(directory, { recursive: true });
});
afterAll(() => server.stop());

async function start(yaml: string) {
  const file = join(directory, 'spillway.yaml');
  const write = (text: string): void => {
    writeFileSync(`${file}.new`, text);
    renameSync(`${file}.new`, file);
  };
  write(yaml);
  const { prefix } = testConfig({}).nats;
  const env = {
    SPILLWAY_NATS_PREFIX: prefix,
    SPILLWAY_HOST: 'h1',
    SPILLWAY_OWN_UNIT: 'no',
    SPILLWAY_NATS_SERVERS: server.url,
    SPILLWAY_SAMPLE_INTERVAL_SECS: '0.1',
  };
  const read = () => loadConfig({ env, cwd: directory });
  const config = read();
  const connected = await connectTest(config);
  link = connected;
  await ensureShard(connected.jsm, connected.subjects, config.nats, 0);
  const events: LifecycleEvent[] = [];
  connected.nc.subscribe(connected.subjects.lifecycleFilter(), { callback: (_error, message) => events.push(message.json()) });
  await connected.nc.flush();
  running = await startCollector({ config, logger: silent, stopping: new AbortController().signal, reload: read });
  const batches = async (): Promise<Batch[]> =>
    (await storedBatches(connected, 'h1')).map(({ batch }) => batch).sort((a, b) => a.tick - b.tick);
  const health = async () => (await collectorInfoOf(connected, 'h1')).health;
  return { write, batches, events, health, info: () => collectorInfoOf(connected, 'h1') };
}

/** Waits until the newest batch has these units. */
const untilUnits = (batches: () => Promise<Batch[]>, ...units: string[]) =>
  eventually(async () => expect((await batches()).at(-1)?.unit).toEqual(units));

describe('a configuration that is read again', () => {
  test('on change: units that stay lose no tick and go on as they were, others come and go', async () => {
    const [stays, goes, comes] = [1, 2, 3].map(() => startProcess('sleep', ['1000']).pid);
    const { write, batches, events } = await start(`units: { stays: { pid: ${stays} }, goes: { pid: ${goes} } }`);
    await untilUnits(batches, 'stays', 'goes');
    write(`units: { comes: { pid: ${comes} }, stays: { pid: ${stays}, tree: false } }`);
    await untilUnits(batches, 'comes', 'stays');
    const all = await eventually(async () => {
      const now = await batches();
      expect(now.filter(({ unit }) => unit[0] === 'comes').length).toBeGreaterThan(3);
      return now;
    });
    expect(
      all.map(({ tick }) => tick),
      'no tick is lost',
    ).toEqual(all.map((_batch, i) => (all[0]?.tick ?? 0) + i));
    const cpu = (unit: string) =>
      all.flatMap((batch) => (batch.unit.includes(unit) ? [batch.cpu_percent?.[batch.unit.indexOf(unit)] ?? null] : []));
    expect(
      cpu('stays').map((value) => value === null),
      'one beginning',
    ).toEqual(all.map((_batch, i) => i === 0));
    expect(cpu('comes').slice(0, 2)).toEqual([null, expect.any(Number)]);
    expect(
      events.filter(({ unit, event }) => unit === 'goes' && event !== 'started'),
      'it has not ended',
    ).toEqual([]);
    expect(events.filter(({ unit }) => unit === 'stays').length).toBeLessThanOrEqual(1);
  });

  test('on SIGHUP, and one that is wrong keeps the old one and says so until a right one is there', async () => {
    const { pid } = startProcess('sleep', ['1000']);
    const { write, batches, health } = await start(`units: { a: { pid: ${pid} } }`);
    await untilUnits(batches, 'a');
    write(`units: { b: { pid: ${pid} }, c: { pdi: 1 } }`);
    process.emit('SIGHUP');
    await eventually(async () => {
      const { ready, problems } = await health();
      expect(ready, 'it does its work').toBe(true);
      expect(problems).toEqual([expect.stringMatching(/^the changed configuration is not used.*units\.c\.pdi: there is no such key/s)]);
    });
    const { length } = await batches();
    await eventually(async () => expect((await batches()).length).toBeGreaterThan(length + 3));
    await untilUnits(batches, 'a');
    write(`units: { b: { pid: ${pid} } }`);
    process.emit('SIGHUP');
    await untilUnits(batches, 'b');
    expect((await health()).problems).toEqual([]);
  });

  test('one that has gone is no change', async () => {
    const { pid } = startProcess('sleep', ['1000']);
    const { batches } = await start(`units: { a: { pid: ${pid} } }`);
    rmSync(join(directory, 'spillway.yaml'));
    const { length } = await batches();
    await eventually(async () => expect((await batches()).length).toBeGreaterThan(length + 25));
    await untilUnits(batches, 'a');
  });
});

describe('units that come and go', () => {
  test('a restart storm keeps one series: an incarnation for each life', async () => {
    const token = `spillway-storm-${process.pid}`;
    const { batches, events } = await start(`units: { s: { match: '^${token}-(.)', name: 's{match.1}', tree: false } }`);
    const lives: number[] = [];
    for (let life = 0; life < 5; life++) {
      const child = startProcess('sleep', ['1000'], { argv0: `${token}-x` });
      lives.push(child.pid);
      await eventually(async () => expect((await batches()).at(-1)?.pid[0]).toBe(child.pid));
      child.kill('SIGKILL');
    }
    await eventually(() => expect(events.at(-1)?.event).toBe('stopped'));
    const all = await batches();
    expect([...new Set(all.flatMap(({ unit }) => unit))]).toEqual(['sx']);
    expect([...new Set(all.flatMap(({ pid }) => pid.filter((one) => one !== null)))]).toEqual(lives);
    expect(new Set(events.filter(({ event }) => event === 'started' || event === 'restarted').map(({ pid }) => pid))).toEqual(
      new Set(lives),
    );
    for (const { cpu_percent: cpu } of all) for (const value of cpu ?? []) expect(value ?? 0).toBeGreaterThanOrEqual(0);
  });

  test('more units than units_max: a lifecycle event, health, and never more in a batch', async () => {
    const units = [1, 2, 3].map((n) => `u${n}: { pid: ${startProcess('sleep', ['1000']).pid} }`);
    const { batches, events, info, write } = await start(`{ units_max: 3, units: { ${units.join(', ')} } }`);
    await untilUnits(batches, 'u1', 'u2', 'u3');
    write(`{ units_max: 2, units: { ${units.join(', ')} } }`);
    await eventually(() => expect(events.filter(({ event }) => event === 'left_out').map(({ unit }) => unit)).toEqual(['u3']));
    await untilUnits(batches, 'u1', 'u2');
    const { counters, health } = await info();
    expect(counters['units_left_out']).toBe(1);
    expect(health.problems).toEqual(['there are more units than units_max (2), 1 not published: raise it, or match fewer']);
    write(`{ units_max: 3, units: { ${units.join(', ')} } }`);
    await untilUnits(batches, 'u1', 'u2', 'u3');
    expect((await info()).health.problems).toEqual([]);
  });

  test('of all processes the first are published, the rest is one unit', async () => {
    const { batches } = await start('units: { all: { all: true, top: 2, by: memory } }');
    await eventually(async () => {
      const newest = (await batches()).at(-1);
      expect(newest?.unit).toHaveLength(3);
      expect(newest?.unit[0]).toBe('__other__');
      expect(newest?.pid[0]).toBeNull();
      expect(newest?.pid.slice(1).every((pid) => pid !== null)).toBe(true);
      expect(newest?.threads?.[0]).toBeGreaterThan(0);
    });
  });
});
