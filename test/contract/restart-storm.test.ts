// A unit that is restarted a hundred times, through collector, NATS and store: every life is in its history, which is unbroken.

import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SpillwayClient } from '#client/client';
import type { Sample } from '#shared/contract/row';
import { startCollector } from '../../services/collector/main.ts';
import { startStore } from '../../services/store/main.ts';
import { collectorInfoOf } from '../support/collected.ts';
import { eventually } from '../support/eventually.ts';
import { connectTest, silent, testConfig } from '../support/link.ts';
import { sharedServer } from '../support/shared-server.ts';
import { endProcess, endProcesses, startProcess } from '../support/test-processes.ts';

const LIVES = 100;

const server = sharedServer();
const { cleanups } = server;

test('a unit restarted a hundred times: a hundred incarnations, no gap, no counter that goes back, CPU null first', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'spillway-storm-'));
  cleanups.push(() => rmSync(directory, { recursive: true }));
  const pidfile = join(directory, 'unit.pid');
  const config = {
    ...testConfig({ SPILLWAY_NATS_SERVERS: server.url, SPILLWAY_SAMPLE_INTERVAL_SECS: '0.1' }),
    units: { u: { pidfile, tree: true } },
  };
  const link = await connectTest(config);
  cleanups.push(() => link.close());
  let seen: Sample[] = [];
  link.nc.subscribe(link.subjects.live('h1', 'u'), { callback: (_error, message) => seen.push(message.json<Sample>()) });
  await link.nc.flush();
  for (const start of [startStore, startCollector]) {
    const service = await start({ config, logger: silent, stopping: new AbortController().signal });
    cleanups.push(() => service.stop());
  }
  cleanups.push(endProcesses);

  const lives: number[] = [];
  for (let life = 0; life < LIVES; life++) {
    const child = startProcess('sleep', ['1000']);
    writeFileSync(`${pidfile}.new`, `${child.pid}\n`);
    renameSync(`${pidfile}.new`, pidfile);
    lives.push(child.pid);
    seen = [];
    // Some live for a moment longer, so that there is something their counters could go back from.
    const ticks = life % 10 === 0 ? 3 : 1;
    await eventually(() => expect(seen.filter(({ pid }) => pid === child.pid).length).toBeGreaterThanOrEqual(ticks));
    await endProcess(child);
  }

  const client = new SpillwayClient(link);
  const samples = await eventually(async () => {
    const now = await client.snapshot({ host: 'h1', unit: 'u' });
    expect(now.at(-1)).toMatchObject({ state: 'missing' });
    const { counters } = await collectorInfoOf(link, 'h1');
    expect(now.length).toBeGreaterThanOrEqual((counters['ticks'] ?? Number.POSITIVE_INFINITY) - 2);
    return now;
  });
  const seqs = samples.map(({ seq }) => seq ?? Number.NaN).sort((a, b) => a - b);
  expect(seqs, 'a sample for each tick').toEqual(seqs.map((_seq, i) => i + 1));
  const incarnations = new Map<string, Sample[]>();
  for (const sample of samples) {
    if (sample.pid === null) continue;
    const identity = `${sample.pid} ${sample.started}`;
    incarnations.set(identity, [...(incarnations.get(identity) ?? []), sample]);
  }
  expect([...incarnations.values()].map((life) => life[0]?.pid)).toEqual(lives);
  for (const life of incarnations.values()) {
    for (const [i, sample] of life.entries()) {
      if (i === 0) expect(sample.cpu_percent).toBeNull();
      else expect(sample.cpu_percent).toBeGreaterThanOrEqual(0);
      for (const counter of ['io_read_bytes', 'io_write_bytes'] as const) {
        expect(sample[counter]).toBeGreaterThanOrEqual(life[i - 1]?.[counter] ?? 0);
      }
    }
  }
}, 120_000);
