import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { pause } from '#shared/runtime/wait';
import type { UnitTarget } from '../../services/collector/core/unit-target.ts';
import type { UnitSample } from '../../services/collector/core/unit-tracker.ts';
import { UnitWatch } from '../../services/collector/core/unit-watch.ts';
import { ProcfsSampler } from '../../services/collector/procfs/sampler.ts';
import { createCpuCgroup } from '../support/cpu-cgroup.ts';
import { eventually } from '../support/eventually.ts';
import { endProcess, endProcesses, firstLine, startProcess } from '../support/test-processes.ts';

const directory = mkdtempSync(join(tmpdir(), 'spillway-incarnations-'));
const samplers: ProcfsSampler[] = [];
afterEach(async () => {
  for (const sampler of samplers.splice(0)) sampler.close();
  await endProcesses();
});
afterAll(() => rmSync(directory, { recursive: true }));

function watch(rule: UnitTarget['rule']) {
  const sampler = new ProcfsSampler([{ unit: 'u', rule, tree: true }], { extras: ['cpu_user_percent', 'cpu_system_percent'] });
  samplers.push(sampler);
  const watching = new UnitWatch(['cpu_user_percent', 'cpu_system_percent']);
  return () => {
    const readings = sampler.sample();
    const { samples, events } = watching.observe(['u'], readings);
    const reading = readings[0];
    return { sample: samples[0] as UnitSample, events, atMs: reading?.state === 'missing' ? 0 : (reading?.monotonicMs ?? 0) };
  };
}

// Waits until it is told to begin. Then children of all kinds, each of some milliseconds: alone, with children of their own, and a few
// that live for longer than the time between two readings. All are waited for. At the end it says what the kernel charged it with.
const STORM = `
import os, resource, signal, sys, time
def burn(ms):
    end = time.process_time() + ms / 1000
    while time.process_time() < end: pass
def child(ms, then=None):
    pid = os.fork()
    if pid == 0:
        if then: then()
        burn(ms)
        os._exit(0)
    return pid
def wait(pids):
    for pid in pids: os.waitpid(pid, 0)
begun = []
signal.signal(signal.SIGUSR1, lambda *a: begun.append(1))
print('up', flush=True)
while not begun: time.sleep(0.01)
for i in range(40):
    pids = [child(3 + i % 20), child(1, lambda: wait([child(4), child(0)]))]
    if i % 10 == 0: pids.append(child(300, lambda: wait([child(20)])))
    wait(pids)
used = sum(resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(used * 1000, flush=True)
signal.pause()
`;

describe('trees', () => {
  test('a storm of short-lived children is counted as its cgroup counts it, within 2 %', async (context) => {
    const cgroup = createCpuCgroup();
    const join = cgroup === null ? ':' : `echo $$ > ${cgroup.procs}`;
    const storm = startProcess('sh', ['-c', `${join}; exec python3 -c "$STORM"`], { env: { ...process.env, STORM } });
    try {
      await firstLine(storm).catch(() => context.skip('needs python3'));
      const look = watch({ kind: 'pid', pid: storm.pid });
      let atMs = look().atMs;
      const cgroupMsBefore = cgroup?.usedMs() ?? 0;
      let cpuMs = 0;
      let userMs = 0;
      let systemMs = 0;
      const read = (): void => {
        const { sample, atMs: nowMs } = look();
        const of = (percent: number | null | undefined): number => ((percent ?? 0) / 100) * (nowMs - atMs);
        cpuMs += of(sample.metrics.cpu_percent);
        userMs += of(sample.metrics.cpu_user_percent);
        systemMs += of(sample.metrics.cpu_system_percent);
        atMs = nowMs;
      };
      let reported = '';
      storm.stdout?.on('data', (chunk: Buffer) => (reported += chunk.toString()));
      storm.kill('SIGUSR1');
      while (!reported.includes('\n')) {
        await pause(100);
        read();
      }
      read();
      read(); // what was inherited during the last reading
      const usedMs = cgroup === null ? Number(reported) : cgroup.usedMs() - cgroupMsBefore;
      expect(usedMs, 'the storm').toBeGreaterThan(1_000);
      expect(Math.abs(cpuMs - usedMs) / usedMs).toBeLessThan(0.02);
      expect(Math.abs(userMs + systemMs - cpuMs) / cpuMs, 'its parts').toBeLessThan(0.001);
      expect(systemMs).toBeGreaterThan(0);
    } finally {
      await endProcess(storm);
      if (cgroup !== null) await eventually(() => cgroup.remove());
    }
  });
});

describe('a unit that is restarted 100 times', () => {
  test('is 100 incarnations of one series: each announced once, none with a CPU of the one before, no counter that goes on', async () => {
    const path = join(directory, 'unit.pid');
    const look = watch({ kind: 'pidfile', path });
    expect(look().sample.state).toBe('missing');
    const incarnations = new Set<string>();
    const events: string[] = [];
    for (let life = 0; life < 100; life++) {
      const write = `dd if=/dev/zero of=${directory}/written bs=4k count=${(life % 3) + 1} conv=fsync 2>/dev/null`;
      const unit = startProcess('sh', ['-c', `${write}; echo up; exec sleep 1000`]);
      await firstLine(unit);
      writeFileSync(path, `${unit.pid}\n`);
      const first = look();
      expect(first.sample).toMatchObject({ state: 'running', pid: unit.pid, metrics: { cpu_percent: null } });
      expect(first.sample.metrics.io_write_bytes ?? 0).toBeLessThanOrEqual(3 * 4096 + 64 * 1024);
      const second = look();
      expect(second.sample.metrics.cpu_percent, 'of its own life').toBeGreaterThanOrEqual(0);
      expect(second.events).toEqual([]);
      incarnations.add(`${first.sample.pid} ${first.sample.started}`);
      events.push(...first.events.map(({ event }) => event));
      // The next one takes its place before anybody has seen that it is gone.
      await endProcess(unit);
    }
    expect(incarnations.size).toBe(100);
    expect(events).toEqual(['started', ...Array<string>(99).fill('restarted')]);
  });
});
