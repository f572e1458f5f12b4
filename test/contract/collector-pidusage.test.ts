import { readFileSync } from 'node:fs';
import pidusage from 'pidusage';
import { afterEach, describe, expect, test } from 'vitest';
import type { UnitReading } from '../../services/collector/core/unit-reading.ts';
import type { Rule } from '../../services/collector/core/unit-target.ts';
import { UnitTracker } from '../../services/collector/core/unit-tracker.ts';
import { PidusageSampler } from '../../services/collector/pidusage-sampler.ts';
import { ProcfsSampler } from '../../services/collector/procfs/sampler.ts';
import { createSampler, type Sampler } from '../../services/collector/sampler.ts';
import { eventually } from '../support/eventually.ts';
import { BUSY, cpuMsOf, endProcess, endProcesses, firstLine, startProcess, startProcessAs } from '../support/test-processes.ts';

const samplers: Sampler[] = [];
afterEach(async () => {
  for (const sampler of samplers.splice(0)) sampler.close();
  await endProcesses();
});

const target = (rule: Rule, tree = true) => ({ unit: 'u', rule, tree });
function open(rule: Rule, listsProcesses = true): () => Promise<UnitReading> {
  const sampler = new PidusageSampler([target(rule)], listsProcesses);
  samplers.push(sampler);
  return async () => (await sampler.sample())[0] ?? { state: 'missing', reason: 'none' };
}

describe('PidusageSampler', () => {
  test('the procfs sampler agrees with pidusage on resident memory and CPU time', async () => {
    const child = startProcess(process.execPath, ['-e', `globalThis.held = Buffer.alloc(60 << 20, 1); console.log('ready'); ${BUSY}`]);
    await firstLine(child);
    const procfs = new ProcfsSampler([target({ kind: 'pid', pid: child.pid })]);
    samplers.push(procfs);
    await eventually(async () => {
      const before = await pidusage(child.pid);
      const reading = procfs.sample()[0];
      const after = await pidusage(child.pid);
      expect(reading?.state).toBe('running');
      const own = reading?.state === 'running' ? reading.processes[0] : undefined;
      expect(own?.cpuOwnMs).toBeGreaterThan(0);
      expect(own?.cpuOwnMs).toBeGreaterThanOrEqual(before.ctime);
      expect(own?.cpuOwnMs).toBeLessThanOrEqual(after.ctime);
      expect(Math.abs((own?.rssBytes ?? 0) - after.memory) / after.memory).toBeLessThan(0.1);
    });
  });

  test('over the same interval both say the same CPU within 2 %, and of a stopped process the same memory', async () => {
    const child = startProcess(process.execPath, ['-e', `globalThis.held = Buffer.alloc(60 << 20, 1); console.log('ready'); ${BUSY}`]);
    await firstLine(child);
    const procfs = new ProcfsSampler([target({ kind: 'pid', pid: child.pid })]);
    samplers.push(procfs);
    const readPidusage = open({ kind: 'pid', pid: child.pid });
    const trackers = [new UnitTracker(), new UnitTracker()];
    // The process is stopped at both ends, so however long the readings take, the interval is the same for both.
    const sampleStopped = async (monotonicMs: number) => {
      child.kill('SIGSTOP');
      await eventually(() => expect(readFileSync(`/proc/${child.pid}/stat`, 'latin1')).toContain(') T '));
      const readings = [procfs.sample()[0], await readPidusage()];
      return readings.map((reading, i) => {
        if (reading === undefined || reading.state === 'missing') throw new Error('the process is gone');
        return (trackers[i] as UnitTracker).read({ ...reading, monotonicMs }).metrics;
      });
    };
    const before = await sampleStopped(0);
    child.kill('SIGCONT');
    await eventually(() => expect(cpuMsOf(child.pid)).toBeGreaterThan(1_000));
    const [own, reference] = await sampleStopped(1_000);
    expect(before[0]?.rss_bytes).toBe(before[1]?.rss_bytes);
    expect(own?.rss_bytes).toBe(reference?.rss_bytes);
    expect(own?.cpu_percent).toBeGreaterThan(0);
    expect(Math.abs((own?.cpu_percent ?? Number.NaN) / (reference?.cpu_percent ?? Number.NaN) - 1)).toBeLessThan(0.02);
  });

  test('samples through it: CPU null at first, then known; memory known; everything else unknown', async () => {
    const child = startProcess(process.execPath, ['-e', `console.log('ready'); ${BUSY}`]);
    await firstLine(child); // before that, it may not have any memory of its own yet
    const read = open({ kind: 'pid', pid: child.pid });
    const tracker = new UnitTracker();
    const first = tracker.read(await read());
    expect(first).toMatchObject({
      state: 'running',
      pid: child.pid,
      metrics: { cpu_percent: null, io_read_bytes: null, threads: null, net_rx_bytes: null },
    });
    expect(first.metrics.rss_bytes).toBeGreaterThan(1 << 20);
    await eventually(async () => {
      const later = tracker.read(await read());
      expect(later.metrics.cpu_percent).toBeGreaterThan(0);
    });
    for (let i = 0; i < 20; i++) expect(tracker.read(await read()).started, 'the start does not wander').toBe(first.started);
    expect(Math.abs((first.started ?? 0) - Date.now())).toBeLessThan(60_000);
    await endProcess(child);
    expect(await read()).toEqual({ state: 'missing', reason: `process ${child.pid} does not exist` });
  });

  test('a reused pid is seen, as another process, once pidusage has forgotten the old one', async (context) => {
    const first = startProcess('sleep', ['1000']);
    const read = open({ kind: 'pid', pid: first.pid });
    await eventually(async () => {
      const reading = await read();
      expect(reading.state === 'running' && Date.now() - reading.startMs).toBeGreaterThan(2_600); // beyond its resolution
    });
    await endProcess(first);
    expect(await read()).toMatchObject({ state: 'missing' });
    if ((await startProcessAs(first.pid)) === null) context.skip('the next pid cannot be chosen');
    await eventually(async () => expect(await read()).toMatchObject({ state: 'running', pid: first.pid }), { everyMs: 200 });
  });

  test('on Linux it finds trees and matches, elsewhere the root alone', async () => {
    const token = `spillway-pidusage-${process.pid}`;
    const parent = startProcess('sh', ['-c', `: ${token}; sleep 1000 & wait`]);
    const tree = open({ kind: 'match', expression: new RegExp(`: ${token}; sleep`), user: null });
    const alone = open({ kind: 'pid', pid: parent.pid }, false);
    await eventually(async () => expect(await tree()).toMatchObject({ pid: parent.pid, processes: { length: 2 } }));
    expect(await alone()).toMatchObject({ pid: parent.pid, processes: { length: 1 } });
  });

  test('the sampler is chosen for this system', () => {
    const kinds = (['auto', 'procfs', 'pidusage'] as const).map((kind) => {
      const sampler = createSampler(kind, [target({ kind: 'self' })]);
      samplers.push(sampler);
      return sampler.constructor;
    });
    expect(kinds).toEqual([ProcfsSampler, ProcfsSampler, PidusageSampler]);
  });
});
